"""What one group of entries leaves in the store's tables and counts; on SQLite."""

from __future__ import annotations

import shutil
import sqlite3
from hashlib import sha256

import pytest
from gridpost.server.store import open_store

from gridpost.errors import Internal
from gridpost.model import Block, Channel, ChannelKey, EndDeviceEvent, Entry, Quality, Register, Rows

NOW = 1_800_000_000_000
KWH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
LACKING = (Quality("2.5.259"),)
CHANNELS = [Channel(ChannelKey(f"UP{n}", f"M{n}", "", KWH), "kWh", 900, "Etc/UTC") for n in (1, 2)]


@pytest.fixture
def path(tmp_path, empty_store):
    return shutil.copy(empty_store, tmp_path / "gridpost.db")


@pytest.fixture
def serve(path):
    """Open the store for writing, with a clock that stands at a moment."""
    opened = []

    def at(now_utc_ms=NOW):
        for one in opened:
            one.close()
        opened.append(open_store(path, lambda: now_utc_ms, serve=True))
        return opened[-1]

    yield at
    for one in opened:
        one.close()


def record(store, message_id, rows=None, make_receipt=lambda _position, _root, at, _counts: b"%d" % at):
    digest = sha256(message_id.encode()).digest()
    entry = Entry("IED1", message_id, "MeterReadings", "http", digest, 5, None, "", b"<Envelope/>")
    return store.record(entry, rows or Rows(), make_receipt)


def block(channel, *literals):
    """Quarter hours from the same moment on; None has no value."""
    ends = tuple(900 * (number + 1) for number in range(len(literals)))
    return Block(channel, 900, ends, literals, tuple(LACKING if one is None else () for one in literals))


def test_what_is_stored_is_counted_by_what_became_of_it(serve, path):
    store = serve()
    store.add_ied("IED1", "meter", b"0123456789", CHANNELS)
    events = tuple(EndDeviceEvent("", "3.26.0.85", number, "M1") for number in range(5))
    registers = (Register(1, KWH, 900, "77", ()), Register(2, KWH, 900, "7", ()))
    record(store, "m1", Rows((block(1, "1", "2", "3", None, None),), registers, events)).result(30)
    counted = store.status()
    assert (counted.entries, counted.interval_values, counted.gaps) == (1, 3, 2)
    assert (counted.register_readings, counted.events, counted.conflicts) == (2, 5, 0)
    others = (Register(1, KWH, 900, "78", ()),)
    record(store, "m2", Rows((block(1, "1.0", "9", "9"), block(2, "4")), others)).result(30)
    counted = store.status()
    assert (counted.entries, counted.interval_values, counted.gaps) == (2, 4, 2)
    assert (counted.register_readings, counted.events, counted.conflicts) == (2, 5, 3)
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT created_utc_ms, event_type, asset FROM event ORDER BY created_utc_ms")
        assert found.fetchall() == [(number, "3.26.0.85", "M1") for number in range(5)]


def test_what_is_compared_with_another_partitions_versions_is_recorded_behind_them(serve, path):
    """Their clock is ahead of ours by five seconds; of channels they did not write, nothing is."""
    theirs = serve(NOW + 5000)
    theirs.add_ied("IED1", "meter", b"0123456789", CHANNELS)
    assert record(theirs, "m1", Rows((block(1, "1"),))).result(30) == b"%d" % (NOW + 5000)
    theirs.close()
    with sqlite3.connect(path) as connection:
        columns = "token, holder, taken_at_utc_ms, interval_values, conflicts, gaps, register_readings, events"
        connection.execute(f"INSERT INTO partition (partition, {columns}) SELECT 1, {columns} FROM partition")
        for table in ("entry", "log_node", "interval_block"):
            connection.execute(f"UPDATE {table} SET partition = 1")
    ours = serve(NOW)
    assert record(ours, "m2", Rows((block(2, "1"),))).result(30) == b"%d" % NOW
    assert record(ours, "m3", Rows((block(1, "2"),))).result(30) == b"%d" % (NOW + 5001)


def test_a_defect_in_one_receipt_is_told_to_it_alone(serve):
    def defect(*_):
        raise ZeroDivisionError("of this one")

    store = serve()
    with pytest.raises(Internal) as told:
        record(store, "m1", make_receipt=defect).result(30)
    assert told.value.detail == "ZeroDivisionError: of this one"
    assert record(store, "m1").result(30) == b"%d" % NOW
