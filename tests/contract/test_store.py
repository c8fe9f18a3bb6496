"""What every store promises (`gridpost.ports.Store`), run once for each engine.

An engine joins by one class in ENGINES, and passes unchanged: `MemoryEngine` for tests of others, `SqliteEngine` the
default, `PostgresEngine` where that is outgrown. `durable` engines are also killed. Nothing here knows what is inside a
store.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from itertools import count

import pytest
from gridpost.server.store import open_store

from gridpost import merkle
from gridpost.controls import Control, NewControl, State
from gridpost.documents import Document
from gridpost.errors import Internal, MessageIdReused, NotFound, SignerUnavailable
from gridpost.model import (
    Block,
    Channel,
    ChannelKey,
    EndDeviceEvent,
    Entry,
    Position,
    Quality,
    Register,
    RegisterReading,
    Rows,
)
from gridpost.ports import EntryHeader, OutboxItem, Store, StoredBlock
from gridpost.testing_store import MemoryStore

MIDNIGHT = 1772323200  # 2026-03-01T00:00:00Z
KWH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
DIAL = "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
EDITED, FLAGGED, LACKING = (Quality("2.7.1"),), (Quality("1.4.9", "clock"),), (Quality("2.5.259"),)


class Ticking:
    """A clock that the test sets."""

    def __init__(self, now=1_800_000_000_000):
        self.now = now

    def __call__(self):
        return self.now


class MemoryEngine:
    durable = False

    def __init__(self, _request, clock):
        self.store = MemoryStore(clock)

    def enrol(self, serial, certificate, channels):
        return self.store.enrol(serial, certificate, channels)

    def revoke(self, serial, at_utc_ms):
        self.store.revoke(serial, at_utc_ms)

    def close(self):
        pass


class SqliteEngine:
    durable = True
    # What a child process runs to open the same store for writing; `place` is its command line.
    child = "from pathlib import Path; from gridpost.server.store import open_store as o\n"
    child += "store = o(Path(sys.argv[1]), clock, serve=True)"

    def __init__(self, request, clock):
        self.where, self.clock = self.make(request), clock
        self.store = open_store(self.where, clock, serve=True)

    def make(self, request):
        return shutil.copy(request.getfixturevalue("empty_store"), request.getfixturevalue("tmp_path") / "gridpost.db")

    @property
    def place(self):
        return [str(self.where)]

    def reopen(self):
        self.store.close()
        self.store = open_store(self.where, self.clock, serve=True)

    @contextmanager
    def handed_over(self):
        self.store.close()
        yield
        self.store = open_store(self.where, self.clock, serve=True)

    def enrol(self, serial, certificate, channels):
        channels = self.store.add_ied(serial, "meter", b"0123456789", channels)
        self.store.bind_certificate(serial, sha256(certificate).digest(), certificate)
        return channels

    def revoke(self, serial, at_utc_ms):
        self.store.revoke(serial, at_utc_ms)

    def close(self):
        self.store.close()


class PostgresEngine(SqliteEngine):
    child = "from gridpost.server.store import open_store as o; store = o(sys.argv[1], clock, serve=True)"

    def make(self, request):
        return request.getfixturevalue("postgres_store")


ENGINES = [MemoryEngine, SqliteEngine, PostgresEngine]


@pytest.fixture
def clock():
    return Ticking()


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.__name__)
def engine(request, clock):
    made = request.param(request, clock)
    yield made
    made.close()


@pytest.fixture
def store(engine):
    return engine.store


@pytest.fixture
def channels(engine):
    return engine.enrol("IED1", b"certificate of IED1", [channel("M1", "a"), channel("M1", "b")])


def channel(meter, stream):
    return Channel(ChannelKey("UP1", meter, stream, KWH), "kWh", 900, "Etc/UTC")


def message(message_id, content=None, sender="IED1"):
    content = content or message_id.encode()
    evidence = b"<Envelope>" + content + b"</Envelope>"
    digest = sha256(content).digest()
    return Entry(sender, message_id, "MeterReadings", "http", digest, 1_799_999_999_000, 7, "", evidence)


def values(one, first_quarter, literals, qualities=None):
    ends = tuple(MIDNIGHT + 900 * (first_quarter + i) for i in range(len(literals)))
    return Block(one.id, 900, ends, tuple(literals), tuple(qualities or [()] * len(literals)))


_made = count()


def receipt(position, root_before, recorded_at_utc_ms, counts):
    """No two calls give the same bytes, so a repeat that was made anew shows."""
    stated = {"position": position, "root": root_before.hex(), "at": recorded_at_utc_ms, "counts": counts}
    return json.dumps(stated | {"made": next(_made)}).encode()


def record(store, entry, *blocks, registers=(), events=(), make=receipt):
    return store.record(entry, Rows(blocks, tuple(registers), tuple(events)), make).result(10)


def counts_of(receipt_bytes):
    return tuple(json.loads(receipt_bytes)["counts"])


def current(store, one, at=None, span=(0, 96)):
    found = store.readings(one.id, MIDNIGHT + 900 * span[0], MIDNIGHT + 900 * span[1], at)
    quarters = [(end - MIDNIGHT) // 900 for end in found.block.ends_utc]
    return dict(zip(quarters, found.block.values, strict=True))


# --- recording -------------------------------------------------------------------------------------------------------


def test_it_fulfils_the_protocol(store):
    typed: Store = store
    assert typed.version() == {}


def test_an_entry_is_numbered_and_its_receipt_kept(store, channels, clock):
    first = record(store, message("m1"), values(channels[0], 1, ["1.50", "2"]))
    clock.now += 5
    second = record(store, message("m2"), values(channels[0], 3, ["3"]))
    stated = [json.loads(one) for one in (first, second)]
    assert [one["position"] for one in stated] == [[0, 0], [0, 1]]
    assert [one["at"] for one in stated] == [1_800_000_000_000, 1_800_000_000_005]
    assert stated[0]["root"] == merkle.EMPTY_ROOT.hex()
    assert [one["counts"] for one in stated] == [[2, 0, 0], [1, 0, 0]]
    assert store.find("IED1", "m1") == (sha256(b"m1").digest(), first)
    assert store.find("IED2", "m1") is None
    assert store.find("IED1", "m3") is None
    assert store.version() == {0: 1}


def test_a_repeat_gets_the_first_receipt_byte_for_byte(engine, channels):
    first = record(engine.store, message("m1"), values(channels[0], 1, ["1"]))
    assert record(engine.store, message("m1"), values(channels[0], 1, ["1"])) == first
    if engine.durable:
        engine.reopen()
        assert record(engine.store, message("m1"), values(channels[0], 1, ["1"])) == first
    assert engine.store.version() == {0: 0}


def test_the_first_evidence_stands(store, channels):
    first = record(store, message("m1"), values(channels[0], 1, ["1"]))
    resealed = Entry("IED1", "m1", "MeterReadings", "mail", sha256(b"m1").digest(), 1, 9, "", b"sealed again")
    assert record(store, resealed) == first


def test_other_content_under_a_known_id_is_refused(store, channels):
    first = record(store, message("m1"), values(channels[0], 1, ["1"]))
    with pytest.raises(MessageIdReused):
        record(store, message("m1", b"other"), values(channels[0], 2, ["2"]))
    assert store.find("IED1", "m1").receipt == first
    assert current(store, channels[0]) == {1: "1"}


def test_two_senders_may_use_one_id(engine, channels):
    (theirs,) = engine.enrol("IED2", b"certificate of IED2", [channel("M2", "a")])
    one = record(engine.store, message("m1"), values(channels[0], 1, ["1"]))
    other = record(engine.store, message("m1", sender="IED2"), values(theirs, 1, ["1"]))
    assert one != other
    assert record(engine.store, message("m1", sender="IED2"), values(theirs, 1, ["1"])) == other
    assert engine.store.version() == {0: 1}


def test_nothing_is_kept_without_a_receipt(store, channels):
    def no_key(*_):
        raise SignerUnavailable

    with pytest.raises(SignerUnavailable):
        record(store, message("m1"), values(channels[0], 1, ["1"]), make=no_key)
    assert store.find("IED1", "m1") is None
    assert store.version() == {}
    assert current(store, channels[0]) == {}
    again = record(store, message("m1"), values(channels[0], 1, ["1"]))
    assert json.loads(again)["position"] == [0, 0]
    assert json.loads(again)["root"] == merkle.EMPTY_ROOT.hex()


def test_a_defect_of_the_caller_fails_that_entry_only(store, channels):
    def broken(*_):
        raise ZeroDivisionError

    with pytest.raises(Internal):
        record(store, message("m1"), make=broken)
    with pytest.raises(Internal):
        record(store, message("m2"), Block(999, 900, (MIDNIGHT,), ("1",), ((),)))  # no such channel
    with pytest.raises(Internal):
        record(store, message("m\ud800", b"3"))  # no text
    assert json.loads(record(store, message("m4")))["position"] == [0, 0]


def test_recorded_time_never_falls(store, channels, clock):
    first = json.loads(record(store, message("m1")))["at"]
    clock.now -= 3_600_000
    assert json.loads(record(store, message("m2")))["at"] == first


def test_records_from_many_threads_are_numbered_without_holes(store, channels):
    def send(number):
        block = values(channels[number % 2], number, [str(number)])
        return record(store, message(f"m{number % 60:02}", b"%d" % (number % 60)), block)

    with ThreadPoolExecutor(16) as pool:
        receipts = list(pool.map(send, range(120)))
    assert receipts[:60] == receipts[60:]  # each id was sent twice
    assert sorted(json.loads(one)["position"][1] for one in receipts[:60]) == list(range(60))
    assert [header.position.seq for header in store.entries({}, 100)] == list(range(60))


def test_each_receipt_states_the_root_over_the_entries_before_it(store, channels):
    roots = [json.loads(record(store, message(f"m{i}")))["root"] for i in range(9)]
    assert roots[0] == merkle.EMPTY_ROOT.hex()
    assert len(set(roots)) == 9


# --- versions (decisions 9 to 11) ------------------------------------------------------------------------------------

VERSIONS = [
    # what arrives, one message each -> counts of the last (stored, known, conflicting), current value, conflict on file
    ([("1", ())], (1, 0, 0), "1", False),
    ([("1", ()), ("1", ())], (0, 1, 0), "1", False),
    ([("1", ()), ("1.000", (Quality("1.0.0"),))], (0, 1, 0), "1", False),
    ([("1", ()), ("2", ())], (0, 0, 1), "1", True),
    ([("1", ()), ("2", ()), ("2", ())], (0, 1, 0), "1", True),
    ([("1", ()), ("2", EDITED)], (1, 0, 0), "2", False),
    ([("1", ()), ("2", EDITED), ("1", ())], (0, 1, 0), "2", False),
    ([("1", ()), ("2", ()), ("2", EDITED)], (1, 0, 0), "2", True),
    ([("1", ()), ("2", EDITED), ("3", EDITED)], (1, 0, 0), "3", False),
    ([("1.0", ()), ("1.00", FLAGGED)], (1, 0, 0), "1.00", False),
    ([(None, LACKING)], (1, 0, 0), None, False),
    ([(None, LACKING), (None, LACKING)], (0, 1, 0), None, False),
    ([(None, LACKING), ("1", ())], (1, 0, 0), "1", False),
    ([("1", ()), (None, LACKING)], (1, 0, 0), "1", False),
]


@pytest.mark.parametrize(("sent", "counts", "value", "conflict"), VERSIONS)
def test_versions_of_an_interval(store, channels, sent, counts, value, conflict):
    for number, (literal, qualities) in enumerate(sent):
        last = record(store, message(f"m{number}"), values(channels[0], 5, [literal], [qualities]))
    found = store.readings(channels[0].id, MIDNIGHT, MIDNIGHT + 86400)
    assert counts_of(last) == counts
    assert found.block.values == (() if value is None else (value,))
    assert found.conflicts == ((MIDNIGHT + 4500,) if conflict else ())


@pytest.mark.parametrize(("sent", "counts", "value", "conflict"), VERSIONS)
def test_versions_within_one_message(store, channels, sent, counts, value, conflict):
    blocks = [values(channels[0], 5, [literal], [qualities]) for literal, qualities in sent]
    receipt_bytes = record(store, message("m"), *blocks)
    found = store.readings(channels[0].id, MIDNIGHT, MIDNIGHT + 86400)
    assert sum(counts_of(receipt_bytes)) == len(sent)
    assert found.block.values == (() if value is None else (value,))
    assert found.conflicts == ((MIDNIGHT + 4500,) if conflict else ())


@pytest.mark.parametrize(
    ("sent", "counts", "value"),
    [
        ([("100.5", ())], (1, 0, 0), "100.5"),
        ([("100.5", ()), ("100.50", ())], (0, 1, 0), "100.5"),
        ([("100.5", ()), ("101", ())], (0, 0, 1), "100.5"),
        ([("100.5", ()), ("101", EDITED)], (1, 0, 0), "101"),
    ],
)
def test_versions_of_a_register_reading(store, channels, sent, counts, value):
    for number, (literal, qualities) in enumerate(sent):
        register = Register(channels[0].id, DIAL, MIDNIGHT, literal, qualities)
        last = record(store, message(f"m{number}"), registers=[register])
    assert counts_of(last) == counts
    (found,) = store.readings(channels[0].id, MIDNIGHT, MIDNIGHT + 86400).registers
    assert (found.channel, found.time_utc, found.value) == (
        channels[0].key._replace(reading_type=DIAL),
        MIDNIGHT,
        value,
    )


def test_register_readings_at_both_edges_belong_to_the_period(store, channels):
    dials = [Register(channels[0].id, DIAL, MIDNIGHT + 43200 * i, str(i), ()) for i in (3, 1, 2, 0)]
    record(store, message("m"), registers=dials)
    found = store.readings(channels[0].id, MIDNIGHT, MIDNIGHT + 86400).registers
    assert [one.value for one in found] == ["0", "1", "2"]
    assert isinstance(found[0], RegisterReading)


def test_channels_do_not_mix(store, channels):
    record(store, message("m1"), values(channels[0], 1, ["1"]), values(channels[1], 1, ["2"]))
    assert [current(store, one) for one in channels] == [{1: "1"}, {1: "2"}]


def test_events_are_counted_as_stored(store, channels):
    event = EndDeviceEvent("", "3.26.0.85", 1_799_999_000_000, "M1", details={"phase": "A"})
    assert counts_of(record(store, message("m1"), events=[event, event])) == (2, 0, 0)


def test_controls_are_counted_as_stored(store, channels):
    asked = [NewControl(Control("", "U1", "utility", "t1", "shed", f"IED{n}"), State.WAITING, "U1") for n in range(3)]
    entry = message("m1", sender="U1")
    assert counts_of(store.record(entry, Rows(controls=tuple(asked)), receipt).result(10)) == (3, 0, 0)


def bill(name, content="{}", owner="bus", subject="C1", kind="bill"):
    return Document(kind, name, owner, subject, MIDNIGHT, MIDNIGHT + 86400, content)


def put(store, message_id, *documents):
    return store.record(message(message_id, sender="bus"), Rows(documents=documents), receipt).result(10)


def texts(found):
    return [one.document.content for one in found]


def test_documents_are_counted_as_stored_and_come_back_as_given(store, channels, clock):
    given = [
        Document("tariff", "T1", "S1", "", MIDNIGHT, None, '<Tariff a="1">\u00e9\r\n</Tariff>'),
        bill("B1", '{"total":"12.30"}'),
    ]
    assert counts_of(put(store, "d1", *given)) == (2, 0, 0)
    (tariff,) = store.documents("tariff")
    assert (tariff.position, tariff.recorded_at_utc_ms, tariff.document) == (Position(0, 0), clock.now, given[0])
    assert [one.document for one in store.documents("bill")] == given[1:]
    assert store.documents("contract") == []


def test_the_last_version_of_a_document_is_in_force(store, channels, clock):
    put(store, "d1", bill("B1", "first"), bill("B1", "theirs", owner="S1"), bill("B2", "other", subject="C2"))
    before = store.version()
    clock.now += 1000
    put(store, "d2", bill("B1", "middle"), bill("B1", "second"))
    assert texts(store.documents("bill")) == ["theirs", "other", "second"]
    assert texts(store.document_versions("bill", owner="bus", id="B1")) == ["first", "middle", "second"]
    assert texts(store.documents("bill", at=before)) == ["first", "theirs", "other"]
    assert texts(store.documents("bill", at={})) == []
    assert texts(store.documents("bill", subject="C2")) == ["other"]
    assert texts(store.documents("bill", owner="S1", id="B1")) == ["theirs"]
    assert texts(store.documents("bill", id="B3")) == []


# --- reading ---------------------------------------------------------------------------------------------------------


def test_readings_are_cut_at_the_period_and_keep_every_digit(store, channels):
    literals = [f"{i}.500" for i in range(-3, 100)]
    record(store, message("m1"), values(channels[0], -3, literals))
    found = store.readings(channels[0].id, MIDNIGHT, MIDNIGHT + 86400)
    assert found.block.ends_utc == tuple(range(MIDNIGHT + 900, MIDNIGHT + 86401, 900))
    assert found.block.values == tuple(f"{i}.500" for i in range(1, 97))
    assert found.block.interval_s == 900
    assert found.channel == channels[0]
    assert found.positions == (Position(0, 0),) * 96
    assert found.newest_recorded_at_utc_ms == 1_800_000_000_000
    assert current(store, channels[0], span=(-3, -1)) == {-2: "-2.500", -1: "-1.500"}


def test_readings_of_nothing(store, channels):
    found = store.readings(channels[0].id, MIDNIGHT, MIDNIGHT + 86400)
    assert (found.block.values, found.registers, found.newest_recorded_at_utc_ms) == ((), (), 0)
    with pytest.raises(NotFound):
        store.readings(999, MIDNIGHT, MIDNIGHT + 86400)


def test_every_question_can_be_asked_as_of_a_data_version(store, channels, clock):
    sent = [(["1", "2"], ()), (["9", "2"], ()), (["5", "6"], EDITED)]
    versions = [store.version()]
    for number, (literals, qualities) in enumerate(sent):
        record(store, message(f"m{number}"), values(channels[0], 1, literals, [qualities] * 2))
        versions.append(store.version())
        clock.now += 1000
    asked = [store.readings(channels[0].id, MIDNIGHT, MIDNIGHT + 86400, at) for at in [*versions, None]]
    assert [one.block.values for one in asked] == [(), ("1", "2"), ("1", "2"), ("5", "6"), ("5", "6")]
    assert [one.conflicts for one in asked] == [(), (), *[(MIDNIGHT + 900,)] * 3]
    at = 1_800_000_000_000  # the second message brought nothing that is used
    assert [one.newest_recorded_at_utc_ms for one in asked] == [0, at, at, at + 2000, at + 2000]
    assert asked[1].positions == (Position(0, 0), Position(0, 0))
    assert asked[3].positions == (Position(0, 2), Position(0, 2))


def test_readings_of_many_channels_are_those_of_each_in_their_order_at_one_version(store, channels):
    record(store, message("m1"), values(channels[0], 1, ["1", "2"]), values(channels[1], 1, ["3"]))
    before = store.version()
    record(store, message("m2"), values(channels[1], 2, ["4"]))
    wanted = [channels[1].id, channels[0].id]
    for at, expected in ((before, [("3",), ("1", "2")]), (None, [("3", "4"), ("1", "2")])):
        found = list(store.readings_of(wanted, MIDNIGHT, MIDNIGHT + 86400, at))
        assert [(one.channel.id, one.block.values) for one in found] == list(zip(wanted, expected, strict=True))
        assert found == [store.readings(one, MIDNIGHT, MIDNIGHT + 86400, at) for one in wanted]
    with pytest.raises(NotFound):
        list(store.readings_of([channels[0].id, 999], MIDNIGHT, MIDNIGHT + 86400))


def test_qualities_come_back_as_sent(store, channels):
    sent = [(), (Quality("1.0.0"),), FLAGGED, (Quality("1.4.9", "S14"), Quality("2.5.1", 'a "b" é'))]
    record(store, message("m1"), values(channels[0], 1, ["1", "2", "3", "4"], sent))
    assert store.readings(channels[0].id, MIDNIGHT, MIDNIGHT + 86400).block.qualities == tuple(sent)


def test_rows_are_cut_at_midnight_and_at_outcomes(store, channels):
    record(store, message("m1"), values(channels[0], 95, ["1", "2", "3"]))
    record(store, message("m2"), values(channels[0], 94, ["0", "1", "7", "3", "4"]))
    gap = values(channels[1], 1, [None], [LACKING])
    record(store, message("m3"), gap)
    at = {i: Position(0, i) for i in range(3)}
    one, other = channels[0].id, channels[1].id
    day = MIDNIGHT + 86400
    assert list(store.blocks([at[2], at[0], at[1], at[0]])) == [
        StoredBlock(at[0], one, day - 900, 900, ("1", "2"), ((), ()), "stored"),
        StoredBlock(at[0], one, day + 900, 900, ("3",), ((),), "stored"),
        StoredBlock(at[1], one, day - 1800, 900, ("0",), ((),), "stored"),
        StoredBlock(at[1], one, day, 900, ("7",), ((),), "conflict"),
        StoredBlock(at[1], one, day + 1800, 900, ("4",), ((),), "stored"),
        StoredBlock(at[2], other, MIDNIGHT + 900, 900, (None,), (LACKING,), "gap"),
    ]
    assert list(store.blocks([])) == []


def test_a_moment_that_is_a_minute_past_stands_for_one_version(store, clock):
    start = clock.now
    for number, at in enumerate((0, 0, 1000, 500, 61_000)):  # the fourth: the clock was set back
        clock.now = start + at
        record(store, message(f"m{number}"))
    moments = (start - 1, start, start + 999, start + 1000)
    assert [store.version_at(moment) for moment in moments] == [{}, {0: 1}, {0: 1}, {0: 3}]
    with pytest.raises(NotFound):
        store.version_at(start + 1001)
    clock.now += 10**6
    assert store.version_at(start + 60_999) == {0: 3}
    assert store.version_at(start + 61_000) == {0: 4} == store.version()


def test_entries_after_a_place(store, channels):
    for number in range(5):
        record(store, message(f"m{number}"))
    every = store.entries({}, 100)
    assert [header.message_id for header in every] == ["m0", "m1", "m2", "m3", "m4"]
    assert every[0] == EntryHeader(Position(0, 0), "IED1", "m0", "MeterReadings", 1_800_000_000_000)
    assert [header.position.seq for header in store.entries({0: 1}, 2)] == [2, 3]
    assert list(store.entries({0: 4}, 100)) == []


# --- who may write ---------------------------------------------------------------------------------------------------


def test_an_enrolment_names_sender_and_channels(engine, channels):
    found = engine.store.enrolment(sha256(b"certificate of IED1").digest())
    assert (found.sender, found.certificate, found.revoked_at_utc_ms) == ("IED1", b"certificate of IED1", None)
    assert found.channels == tuple(channels)
    assert all(one.id for one in channels)
    assert engine.store.enrolment(sha256(b"stranger").digest()) is None


def test_a_revocation_is_seen_at_once(engine, channels):
    digest = sha256(b"certificate of IED1").digest()
    assert engine.store.enrolment(digest).revoked_at_utc_ms is None
    engine.revoke("IED1", 1_800_000_000_777)
    assert engine.store.enrolment(digest).revoked_at_utc_ms == 1_800_000_000_777


def test_channels_by_sender_and_by_meter(engine, channels):
    (other,) = engine.enrol("IED2", b"certificate of IED2", [channel("M2", "a")])
    assert list(engine.store.channels()) == [*channels, other]
    assert list(engine.store.channels(sender="IED1")) == list(channels)
    assert list(engine.store.channels(meter="M2")) == [other]
    assert list(engine.store.channels(sender="IED1", meter="M2")) == []


# --- readers ---------------------------------------------------------------------------------------------------------


def item(name, content=b"content"):
    return OutboxItem("mv90", name, content, sha256(content).digest(), {0: 3})


def test_channels_by_usage_point(engine, channels):
    assert engine.store.channels(usage_point="UP1") == list(channels)
    assert engine.store.channels(usage_point="UP2") == []
    assert engine.store.channels(sender="IED2", usage_point="UP1") == []


def test_a_cursor_starts_at_nothing_and_moves(engine):
    assert engine.store.cursor("mv90") == ({}, {})
    engine.store.advance("mv90", {0: 3}, {"days": [1, "ü"]}, []).result(10)
    engine.store.advance("mv90", {0: 4}, {"days": []}, [item("a.mde")]).result(10)
    if engine.durable:
        engine.reopen()
    assert engine.store.cursor("mv90") == ({0: 4}, {"days": []})
    assert engine.store.cursor("cis") == ({}, {})


# --- killed ----------------------------------------------------------------------------------------------------------

CHILD = """
import json, os, sys, threading
from hashlib import sha256
from gridpost.model import Block, Entry, Rows
clock = lambda: 1_800_000_000_000
{opening}
def receipt(position, root, at, counts):
    return json.dumps([position, root.hex(), os.urandom(8).hex()]).encode()
def send(start):
    for number in range(start, 10**9, 4):
        block = Block({channel}, 900, ({midnight} + 900 * number,), (str(number),), ((),))
        digest = sha256(b"%d" % number).digest()
        entry = Entry("IED1", f"k{{number}}", "MeterReadings", "http", digest, 0, None, "", b"x" * 3000)
        answer = store.record(entry, Rows((block,)), receipt).result()
        os.write(1, b"%d %s\\n" % (number, answer.hex().encode()))
for start in range(4):
    threading.Thread(target=send, args=(start,)).start()
"""


def test_what_was_acknowledged_survives_kill_9(engine, channels):
    if not engine.durable:
        pytest.skip("memory is not meant to")
    script = CHILD.format(opening=engine.child, channel=channels[0].id, midnight=MIDNIGHT)
    acknowledged = {}
    for _ in range(3):
        with engine.handed_over():
            acknowledged |= killed_after(40, [sys.executable, "-c", script, *engine.place])
        check_survivors(engine.store, channels[0], acknowledged)


def killed_after(lines, command):
    """Run `command`, kill it with SIGKILL in mid-flight after so many lines; return what it had acknowledged."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    guard = threading.Timer(60, child.kill)
    guard.start()
    first = [child.stdout.readline() for _ in range(lines)]
    os.kill(child.pid, signal.SIGKILL)
    rest = child.stdout.read()
    child.wait()
    child.stdout.close()
    guard.cancel()
    whole = (b"".join(first) + rest).split(b"\n")[:-1]
    assert len(whole) >= lines, "the child died by itself"
    return {int(number): bytes.fromhex(answer.decode()) for number, answer in (line.split() for line in whole)}


def check_survivors(store, one, acknowledged):
    headers = store.entries({}, 10**6)
    assert [header.position.seq for header in headers] == list(range(len(headers)))
    assert len({header.message_id for header in headers}) == len(headers)
    assert {int(header.message_id[1:]) for header in headers} >= acknowledged.keys()
    for number, answer in acknowledged.items():
        assert store.find("IED1", f"k{number}").receipt == answer
    read = store.readings(one.id, MIDNIGHT - 1, MIDNIGHT + 900 * 10**6)
    assert [(end - MIDNIGHT) // 900 for end in read.block.ends_utc] == sorted(int(h.message_id[1:]) for h in headers)
    # A child that starts again gets the same receipts, and the tree grows from where it was.
    number = min(acknowledged)
    again = record(store, message(f"k{number}", b"%d" % number))
    assert again == acknowledged[number]
