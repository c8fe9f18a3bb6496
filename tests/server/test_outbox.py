"""Cursors, files and counts on a real store."""

from __future__ import annotations

import shutil
import sqlite3
from hashlib import sha256

import pytest
from gridpost.server.store import DeadLetter, ReaderStatus, open_store

from gridpost.errors import Internal, NotFound
from gridpost.model import Block, Channel, ChannelKey, EndDeviceEvent, Entry, Quality, Register, Rows
from gridpost.ports import OutboxItem

KWH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
NOW = 1_800_000_000_000
LACKING = (Quality("2.5.259"),)


@pytest.fixture
def path(tmp_path, empty_store):
    return shutil.copy(empty_store, tmp_path / "gridpost.db")


@pytest.fixture
def store(path):
    store = open_store(path, lambda: NOW, serve=True)
    store.add_ied("IED1", "", b"0123456789", [Channel(ChannelKey("UP1", "M1", "", KWH), "kWh", 900, "Etc/UTC")])
    yield store
    store.close()


def item(name, content=b"content", reader="mv90"):
    return OutboxItem(reader, name, content, sha256(content).digest(), {0: 3})


def names(store, limit=100):
    return [one.name for one in store.pending(limit)]


def record(store, message_id, rows):
    entry = Entry("IED1", message_id, "MeterReadings", "http", bytes(32), 0, None, "", b"x")
    store.record(entry, rows, lambda *_: b"receipt").result(10)


def test_files_wait_in_the_order_they_were_queued(store):
    store.advance("mv90", {0: 3}, {}, [item("b"), item("a")]).result(10)
    store.advance("mv90", {0: 4}, {}, [item("c")]).result(10)
    assert names(store) == ["b", "a", "c"]
    assert names(store, 2) == ["b", "a"]
    assert store.pending(1) == [item("b")]


def test_a_known_name_stays_as_it_was(store):
    store.advance("mv90", {0: 3}, {}, [item("a", b"first")]).result(10)
    store.advance("mv90", {0: 4}, {}, [item("a", b"second"), item("b")]).result(10)
    assert [one.content for one in store.pending(9)] == [b"first", b"content"]
    store.advance("cis", {0: 4}, {}, [item("a", b"third", "cis")]).result(10)
    assert len(store.pending(9)) == 3


def test_cursor_and_files_move_together_or_not_at_all(store, path):
    store.advance("mv90", {0: 3}, {"pending": ["2026-03-01"]}, [item("a")]).result(10)
    with sqlite3.connect(path) as connection:  # a file the database refuses, behind one that it takes
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON outbox WHEN new.name = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    with pytest.raises(Internal):
        store.advance("mv90", {0: 9}, {}, [item("b"), item("bad")]).result(10)
    assert names(store) == ["a"]
    assert store.cursor("mv90") == ({0: 3}, {"pending": ["2026-03-01"]})


def test_a_delivered_file_waits_no_more(store, path):
    store.advance("mv90", {0: 3}, {}, [item("a"), item("b")]).result(10)
    store.delivered("mv90", "a", "/out/a", NOW).result(10)
    store.delivered("mv90", "a", "/elsewhere", NOW + 1).result(10)
    assert names(store) == ["b"]
    with sqlite3.connect(path) as connection:
        kept = connection.execute("SELECT place, delivered_at_utc_ms FROM outbox WHERE name = 'a'").fetchone()
    assert kept == ("/out/a", NOW)
    with pytest.raises(NotFound):
        store.delivered("mv90", "z", "/out/z", NOW).result(10)


def test_a_dead_letter_is_set_aside_for_a_person(store):
    store.advance("mv90", {0: 3}, {}, [item("a"), item("b")]).result(10)
    letter = DeadLetter("mv90", "a", "the folder refuses it", NOW)
    store.dead_letter(letter).result(10)
    assert names(store) == ["b"]
    assert store.dead_letters() == [letter]


def test_status_counts_everything_once(store):
    for number, rows in enumerate(
        [
            Rows((block(1, ["1", "2", None]),), (Register(1, KWH, 0, "7", ()),), (EndDeviceEvent("", "3.26.0.85", 1),)),
            Rows((block(1, ["1", "3"]),)),  # one known, one conflict
            Rows((block(3, ["4"]),)),  # the gap is filled
        ]
    ):
        record(store, f"m{number}", rows)
    store.add_refusals({"message-stale": 2, "schema-invalid": 1}).result(10)
    store.add_refusals({"message-stale": 3}).result(10)
    store.advance("mv90", {0: 0}, {}, [item("a"), item("b")]).result(10)
    store.advance("cis", {}, {}, []).result(10)
    store.dead_letter(DeadLetter("mv90", "b", "", NOW)).result(10)
    status = store.status()
    assert (status.entries, status.interval_values, status.conflicts, status.gaps) == (3, 3, 1, 1)
    assert (status.register_readings, status.events, status.newest_recorded_at_utc_ms) == (1, 1, NOW)
    assert status.refusals == {"message-stale": 5, "schema-invalid": 1}
    assert status.readers == (ReaderStatus("cis", {}, 3, 0, 0), ReaderStatus("mv90", {0: 0}, 2, 1, 1))


def block(first, literals):
    ends = tuple(900 * (first + i) for i in range(len(literals)))
    return Block(1, 900, ends, tuple(literals), tuple(LACKING if one is None else () for one in literals))


def test_people_with_sql_get_rows_with_every_digit(store, path):
    record(store, "m1", Rows((block(1, ["12.500", "123456789012345.678"]),)))
    record(store, "m2", Rows((block(3, [None]),)))
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT meter, unit, interval_end_utc, value, qualities, outcome FROM interval_value ORDER BY 3"
        ).fetchall()
    assert rows == [
        ("M1", "kWh", 900, "12.500", None, "stored"),
        ("M1", "kWh", 1800, "123456789012345.678", None, "stored"),
        ("M1", "kWh", 2700, None, '[["2.5.259",""]]', "gap"),
    ]
