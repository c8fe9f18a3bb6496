"""What a device quotes held against the log, on both engines; every case of an old or another store put back."""

from __future__ import annotations

import shutil
from base64 import b64encode
from hashlib import sha256

import pytest
from gridpost.server.quoted import BATCH, QuotedReceipts
from gridpost.server.store import open_store

from gridpost.model import Entry, Position, Rows

NOW = 1_800_000_000_000


def _sqlite(request):
    return shutil.copy(request.getfixturevalue("empty_store"), request.getfixturevalue("tmp_path") / "gridpost.db")


@pytest.fixture(params=[_sqlite, lambda request: request.getfixturevalue("postgres_store")], ids=["sqlite", "postgres"])
def store(request):
    store = open_store(request.param(request), lambda: NOW, serve=True)
    yield store
    store.close()


@pytest.fixture
def quoted(store):
    return QuotedReceipts(store, lambda: NOW)


def record(store, message_id, sender="IED1", last_receipt=""):
    """Record an entry; return its place and root as its sender quotes them."""
    told = []

    def receipt(position, root_before, *_):
        told.append(f"{position.partition}:{position.seq}:{root_before.hex()}")
        return b"<r:logRootBefore>" + b64encode(root_before) + b"</r:logRootBefore>"

    digest = sha256(message_id.encode()).digest()
    entry = Entry(sender, message_id, "MeterReadings", "http", digest, 5, None, last_receipt, b"<Envelope/>")
    store.record(entry, Rows(), receipt).result(10)
    return told[0]


def step(quoted):
    """One step to its end: who lacks what."""
    more, found = quoted.step()
    assert not more
    return [(one.sender, one.partition, one.first_seq, one.last_seq) for one in found]


def test_what_the_log_has_raises_nothing(store, quoted):
    assert step(quoted) == []
    first = record(store, "m0")
    second = record(store, "m1", last_receipt=first)
    record(store, "n0", "IED2")
    record(store, "m2", last_receipt=second)
    record(store, "m3", last_receipt=first)  # cut before the newest receipt came
    assert step(quoted) == []
    assert store.missing_entries() == []


@pytest.mark.parametrize("text", ["", "none", "0:1", "0:1:xyz", "-1:0:" + "0" * 64, "0:0:" + "0" * 63, "é:1:2"])
def test_what_is_no_quote_says_nothing(store, quoted, text):
    record(store, "m0", last_receipt=text)
    assert step(quoted) == []


def test_a_receipt_newer_than_the_log_is_noticed(store, quoted):
    record(store, "m0")
    record(store, "m9", last_receipt=f"0:7:{'ab' * 32}")
    assert step(quoted) == [("IED1", 0, 2, 7)]  # two entries are here
    (kept,) = store.missing_entries()
    assert (kept.root, kept.quoted_in, kept.noticed_at_utc_ms) == ("ab" * 32, Position(0, 1), NOW)


def test_a_partition_that_is_not_here_is_missing_from_its_start(store, quoted):
    record(store, "m0", last_receipt=f"3:7:{'ab' * 32}")
    assert step(quoted) == [("IED1", 3, 0, 7)]


def test_another_root_at_that_place_is_noticed(store, quoted):
    for number in range(3):
        record(store, f"m{number}")
    record(store, "m9", last_receipt=f"0:2:{'ab' * 32}")
    assert step(quoted) == [("IED1", 0, 0, 2)]  # from where on is not known


def test_another_sender_at_that_place_is_noticed(store, quoted):
    """The same past up to there, so it is known from where on: the place itself."""
    record(store, "m0")
    record(store, "m1")
    quote = record(store, "n0", "IED2")
    record(store, "m2", last_receipt=quote)
    assert step(quoted) == [("IED1", 0, 2, 2)]


def test_a_receipt_for_a_place_not_before_the_message_itself_is_noticed(store, quoted):
    """The store was put back just before the sender's own entry, and its next message took the very place."""
    place = record(store, "m0")
    root = place.rpartition(":")[2]
    record(store, "m1", last_receipt=f"0:1:{store.root(0, 1).hex()}")
    assert root != store.root(0, 1).hex()
    assert step(quoted) == [("IED1", 0, 1, 1)]


def test_each_sender_is_told_once_and_its_range_grows(store, quoted):
    record(store, "m0")
    record(store, "m1", last_receipt=f"0:7:{'ab' * 32}")
    record(store, "n1", "IED2", last_receipt=f"0:9:{'ab' * 32}")
    assert step(quoted) == [("IED1", 0, 3, 7), ("IED2", 0, 3, 9)]
    record(store, "m2", last_receipt=f"0:6:{'ab' * 32}")
    record(store, "m3", last_receipt=f"0:7:{'ab' * 32}")
    assert step(quoted) == []
    record(store, "m4", last_receipt=f"0:8:{'cd' * 32}")
    assert step(quoted) == [("IED1", 0, 3, 8)]
    found = [(one.sender, one.first_seq, one.last_seq, one.root[:2]) for one in store.missing_entries()]
    assert found == [("IED1", 3, 8, "cd"), ("IED2", 3, 9, "ab")]


def test_every_entry_is_looked_at_once(store, quoted):
    for number in range(BATCH + 3):
        record(store, f"m{number}")
    record(store, "n0", "IED2", last_receipt=f"0:{BATCH * 3}:{'ab' * 32}")
    assert quoted.step() == (True, [])
    assert step(quoted) == [("IED2", 0, BATCH + 4, BATCH * 3)]
    assert quoted.step() == (False, [])
    assert store.status().readers == ()  # it carries nothing out
