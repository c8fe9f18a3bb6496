"""The writer's own promises: groups, faults of the disk, fencing, and a log that an outsider can recompute.

Groups are made on purpose: the first entry's `make_receipt` waits while the others queue up behind it.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager
from hashlib import sha256

import pytest
import zstandard
from gridpost.server.store import open_store
from gridpost.server.store.writer import QUEUE

from gridpost import merkle
from gridpost.errors import Internal, MessageIdReused, NotFound, SignerUnavailable, StoreUnavailable
from gridpost.model import Block, Channel, ChannelKey, EndDeviceEvent, Entry, Position, Quality, Register, Rows

MIDNIGHT = 1772323200  # 2026-03-01T00:00:00Z
KWH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
CHANNEL = Channel(ChannelKey("UP1", "M1", "", KWH), "kWh", 900, "Etc/UTC")


def clock():
    return 1_800_000_000_000


@pytest.fixture
def path(tmp_path, empty_store):
    return shutil.copy(empty_store, tmp_path / "gridpost.db")


@pytest.fixture
def fatal():
    return []


@pytest.fixture
def store(path, fatal):
    store = open_store(path, clock, serve=True, on_fatal=fatal.append)
    store.add_ied("IED1", "meter", b"0123456789", [CHANNEL])
    yield store
    store.close()


def message(message_id, content=None, **changes):
    content = content or message_id.encode()
    columns = {"noun": "MeterReadings", "transport": "http", "created_utc_ms": 5, "sequence": 7, "last_receipt": ""}
    columns |= {"evidence": b"<Envelope>" + content + b"</Envelope>"} | changes
    return Entry("IED1", message_id, content_digest=sha256(content).digest(), **columns)


def reading(quarter, literal, qualities=()):
    return Rows((Block(1, 900, (MIDNIGHT + 900 * quarter,), (literal,), (qualities,)),))


def receipt(position, root_before, recorded_at_utc_ms, counts):
    return json.dumps([position, root_before.hex(), recorded_at_utc_ms, counts]).encode()


def no_key(*_):
    raise SignerUnavailable


@contextmanager
def held(store):
    """Keep the writer busy with one entry; what is recorded inside is its next group."""
    entered, release = threading.Event(), threading.Event()

    def waits(*stated):
        entered.set()
        assert release.wait(30)
        return receipt(*stated)

    first = store.record(message("held"), Rows(), waits)
    assert entered.wait(30)
    try:
        yield
    finally:
        release.set()
    first.result(10)


def commits(path):
    """Count the transactions in the write-ahead log: a frame that ends one states the database's size (offset 4)."""
    wal = path.with_name(path.name + "-wal").read_bytes()
    page = int.from_bytes(wal[8:12], "big")
    return sum(wal[at + 4 : at + 8] != bytes(4) for at in range(32, len(wal), 24 + page))


# --- groups ----------------------------------------------------------------------------------------------------------


def test_entries_are_numbered_in_the_order_they_came(store):
    with held(store):
        futures = [store.record(message(f"m{9 - i}"), reading(i, str(i)), receipt) for i in range(10)]
    stated = [json.loads(future.result(10)) for future in futures]
    assert [one[0][1] for one in stated] == list(range(1, 11))  # in the order they came, not that of their ids


def test_a_group_is_one_transaction(store, path):
    with held(store):
        before = commits(path)
        futures = [store.record(message(f"m{i}"), reading(i, str(i)), receipt) for i in range(100)]
    for future in futures:
        future.result(10)
    assert commits(path) == before + 2  # the one that held the writer, then all others


def test_a_repeat_within_one_group_waits_for_the_first(store):
    with held(store):
        one = store.record(message("m1"), reading(1, "1"), receipt)
        repeat = store.record(message("m1"), reading(1, "1"), receipt)
        other = store.record(message("m1", b"other"), reading(2, "2"), receipt)
        assert not one.done()
        assert not repeat.done()
    assert one.result(10) == repeat.result(10)
    with pytest.raises(MessageIdReused):
        other.result(10)
    assert store.version() == {0: 1}


def test_one_receipt_that_cannot_be_made_fails_alone(store):
    with held(store):
        before = store.record(message("m1"), reading(1, "1"), receipt)
        failing = store.record(message("m2"), reading(1, "2"), no_key)
        again = store.record(message("m2"), reading(2, "2"), receipt)  # the same id gets its own try
        behind = store.record(message("m3"), reading(1, "1.0"), receipt)
    with pytest.raises(SignerUnavailable):
        failing.result(10)
    stated = [json.loads(future.result(10)) for future in (before, again, behind)]
    assert [one[0] for one in stated] == [[0, 1], [0, 2], [0, 3]]
    assert stated[2][3] == [0, 1, 0]  # compared with what was stored, not with what failed
    assert store.status().conflicts == 0
    check_log(store, 4)


@pytest.mark.parametrize(
    "bad",
    [
        (message("bad", sequence=2**70), Rows()),  # no column holds it
        (message("bad"), Rows((Block(99, 900, (MIDNIGHT,), ("1",), ((),)),))),  # no such channel
        (message("bad\ud800", b"bad"), Rows()),  # no text
        (message("bad"), reading(1, "one")),  # no number, and not the first at that moment
    ],
    ids=["sequence", "channel", "text", "value"],
)
def test_bad_data_of_one_entry_fails_alone(store, bad):
    with held(store):
        before = store.record(message("m1"), reading(1, "1"), receipt)
        failing = store.record(*bad, receipt)
        behind = store.record(message("m2"), reading(2, "2"), receipt)
    with pytest.raises(Internal):
        failing.result(10)
    assert [json.loads(future.result(10))[0] for future in (before, behind)] == [[0, 1], [0, 2]]
    check_log(store, 3)


def test_versions_are_compared_within_a_group(store):
    with held(store):
        futures = [
            store.record(message(f"m{i}"), reading(1, literal, qualities), receipt)
            for i, (literal, qualities) in enumerate([("1", ()), ("1.0", ()), ("2", ()), ("3", (Quality("2.7.1"),))])
        ]
    assert [json.loads(future.result(10))[3] for future in futures] == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    found = store.readings(1, MIDNIGHT, MIDNIGHT + 86400)
    assert (found.block.values, found.conflicts) == (("3",), (MIDNIGHT + 900,))


def test_a_full_queue_refuses_and_loses_nothing(store):
    with held(store):
        futures = [store.record(message(f"m{i}"), Rows(), receipt) for i in range(QUEUE + 1)]
        with pytest.raises(StoreUnavailable):
            futures[-1].result(0)
    for future in futures[:-1]:
        future.result(30)
    assert store.status().entries == QUEUE + 1
    store.record(message(f"m{QUEUE}"), Rows(), receipt).result(10)


def test_large_evidence_fills_the_queue_by_bytes(store):
    with held(store):
        futures = [store.record(message(f"m{i}", evidence=bytes(16 << 20)), Rows(), receipt) for i in range(5)]
        with pytest.raises(StoreUnavailable):
            futures[4].result(0)
    for future in futures[:4]:
        future.result(30)


def test_close_writes_what_is_queued(path, store):
    with held(store):
        future = store.record(message("m1"), Rows(), receipt)
    store.close()
    assert future.done()
    with pytest.raises(StoreUnavailable):
        store.record(message("m2"), Rows(), receipt).result(0)


# --- the log, recomputed by an outsider ------------------------------------------------------------------------------


def test_the_log_recomputes(store, path):
    entries = [
        (message("m1", sequence=None), reading(1, "12.500")),
        (
            message("m2"),
            Rows(
                (Block(1, 900, (MIDNIGHT, MIDNIGHT + 900), ("1", "13"), ((), (Quality("1.4.9", "é"),))),),
                (Register(1, KWH, MIDNIGHT, "77", ()),),
                (EndDeviceEvent("", "3.26.0.85", 9, "M1", "", "", {"b": "2", "a": "1"}),),
            ),
        ),
        (message("m3"), Rows()),
    ]
    for one, rows in entries:
        store.record(one, rows, receipt).result(10)
    check_log(store, 3)
    with sqlite3.connect(path) as connection:
        (digest,) = connection.execute("SELECT rows_sha256 FROM entry WHERE seq = 1").fetchone()
    lines = (  # the second block lies in another UTC day; the value differs from 12.500, so it is a conflict
        f'{{"kind":"block","channel":1,"time":{MIDNIGHT},"line":0,"interval_s":900,"values":[1],"qualities":null,'
        '"outcome":"stored"}\n'
        f'{{"kind":"block","channel":1,"time":{MIDNIGHT + 900},"line":1,"interval_s":900,"values":[13],'
        '"qualities":[[["1.4.9","é"]]],"outcome":"conflict"}\n'
        '{"kind":"entry","noun":"MeterReadings","transport":"http","created":5,"sequence":7,"last_receipt":""}\n'
        '{"kind":"event","time":9,"line":0,"mrid":"","event_type":"3.26.0.85","asset":"M1","reason":"","severity":"",'
        '"details":{"a":"1","b":"2"}}\n'
        f'{{"kind":"register","channel":1,"time":{MIDNIGHT},"line":0,"reading_type":"{KWH}","value":77,'
        '"qualities":null,"outcome":"stored"}\n'
    )
    assert digest == sha256(lines.encode()).digest()


def check_log(store, size):
    """Recompute every leaf and root from the columns, by the description in leaf.py and RFC 9162, with none of ours."""
    with sqlite3.connect(store._dialect.writing.url.database) as connection:
        rows = connection.execute(
            "SELECT partition, seq, recorded_at_utc_ms, sender, message_id, content_sha256, evidence_sha256,"
            " rows_sha256, leaf_hash, receipt, evidence FROM entry ORDER BY seq"
        ).fetchall()
    assert [row[1] for row in rows] == list(range(size))
    leaves = []
    for partition, seq, at, sender, message_id, *hashes, leaf_hash, kept, evidence in rows:
        texts = b"".join(len(text.encode()).to_bytes(2, "big") + text.encode() for text in (sender, message_id))
        leaves.append(struct.pack(">IQQ", partition, seq, at) + texts + b"".join(hashes))
        assert sha256(b"\x00" + leaves[-1]).digest() == leaf_hash
        assert sha256(zstandard.ZstdDecompressor().decompress(evidence)).digest() == hashes[1]
        assert json.loads(kept)[:2] == [[partition, seq], mth(leaves[:-1]).hex()]
    for first in range(1, size + 1):
        assert store.root(0, first) == mth(leaves[:first])
        proof = store.inclusion_proof(Position(0, first - 1), size)
        assert merkle.verify_inclusion(merkle.leaf_hash(leaves[first - 1]), first - 1, size, proof, mth(leaves))
        proof = store.consistency_proof(0, first, size)
        assert merkle.verify_consistency(first, size, proof, mth(leaves[:first]), mth(leaves))


def mth(leaves):
    if len(leaves) < 2:
        return sha256(b"".join(b"\x00" + leaf for leaf in leaves)).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def test_the_tree_goes_on_after_a_restart(path):
    for number in range(12):
        store = open_store(path, clock, serve=True)
        for i in range(3):
            store.record(message(f"m{number}-{i}"), Rows(), receipt).result(10)
        check_log(store, 3 * number + 3)
        store.close()


def test_evidence_and_receipt_by_place(store):
    kept = store.record(message("m1"), Rows(), receipt).result(10)
    assert store.evidence(Position(0, 0)) == b"<Envelope>m1</Envelope>"
    assert store.receipt(Position(0, 0)) == kept
    for ask in (store.evidence, store.receipt):
        with pytest.raises(NotFound):
            ask(Position(0, 1))
    with pytest.raises(NotFound):
        store.root(0, 2)


# --- faults ----------------------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_the_group_and_later_takes_it(store, fatal):
    with store._dialect.writing.connect() as connection:  # the one pooled connection, which the writer uses as well
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 8}")
    large = message("m1", evidence=b"".join(sha256(b"%d" % i).digest() for i in range(4000)))  # does not compress
    with held(store):
        futures = [store.record(large, Rows(), receipt), store.record(message("m2"), Rows(), receipt)]
    for future in futures:
        with pytest.raises(StoreUnavailable) as told:
            future.result(10)
        assert "full" in told.value.detail
    with store._dialect.writing.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert json.loads(store.record(large, Rows(), receipt).result(10))[0] == [0, 1]
    assert fatal == []
    check_log(store, 2)


DISK_ERROR = """
import resource, sys
from hashlib import sha256
from pathlib import Path
from gridpost.errors import StoreUnavailable
from gridpost.model import Entry, Rows
from gridpost.server.store import open_store
fatal = []
path = Path(sys.argv[1])
store = open_store(path, lambda: 1, serve=True, on_fatal=fatal.append)
def send(name):
    evidence = b"".join(sha256(b"%d" % i).digest() for i in range(1000))
    entry = Entry("IED1", name, "N", "http", sha256(name.encode()).digest(), 0, None, "", evidence)
    try:
        store.record(entry, Rows(), lambda position, *_: b"%d" % position.seq).result(10)
        print(name, "stored")
    except StoreUnavailable as problem:
        print(name, "refused", len(fatal))
send("m1")
whole = resource.getrlimit(resource.RLIMIT_FSIZE)
wal = path.with_name(path.name + "-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (wal + 4096, whole[1]))  # a write beyond it is EFBIG: an I/O error
send("m2")
resource.setrlimit(resource.RLIMIT_FSIZE, whole)
send("m3")
"""


def test_after_a_disk_error_the_writer_takes_nothing_more(path):
    done = subprocess.run([sys.executable, "-c", DISK_ERROR, str(path)], capture_output=True, text=True, timeout=60)
    # on_fatal was called once by m3's turn; at m2's it may be a moment later than the refusal.
    assert done.stdout.splitlines()[0] == "m1 stored", done.stderr
    assert done.stdout.splitlines()[1].startswith("m2 refused")
    assert done.stdout.splitlines()[2] == "m3 refused 1"
    store = open_store(path, clock, serve=True)
    assert json.loads(store.record(message("m4"), Rows(), receipt).result(10))[0] == [0, 1]
    store.close()


def test_a_writer_whose_partition_was_taken_over_stops(path, store, fatal):
    store.record(message("m1"), Rows(), receipt).result(10)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE partition SET token = token + 1")
    for name in ("m2", "m3"):
        with pytest.raises(StoreUnavailable):
            store.record(message(name), Rows(), receipt).result(10)
    with pytest.raises(StoreUnavailable):
        store.advance("mv90", {0: 0}, {}, []).result(10)
    assert len(fatal) == 1
    assert store.version() == {0: 0}


def test_a_second_serve_is_refused_and_a_second_reader_is_not(path, store):
    with pytest.raises(StoreUnavailable, match="already serves"):
        open_store(path, clock, serve=True)
    beside = open_store(path, clock)
    assert beside.version() == {}
    store.record(message("m1"), Rows(), receipt).result(10)
    assert beside.version() == {0: 0}
    with pytest.raises(StoreUnavailable):
        beside.record(message("m2"), Rows(), receipt).result(0)
    beside.close()
    store.close()
    open_store(path, clock, serve=True).close()


def test_a_store_kept_busy_by_another_process_is_refused_not_fatal(path, store, fatal):
    with store._dialect.writing.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=10")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        store.record(message("m1"), Rows(), receipt).result(10)
    other.execute("ROLLBACK")
    other.close()
    store.record(message("m1"), Rows(), receipt).result(10)
    assert fatal == []


def test_a_commit_is_synced_before_it_is_one(store):
    """A power cut cannot be had here; the two settings that survive one can be asked for (SQLite, PRAGMA)."""
    with store._dialect.writing.connect() as connection:
        asked = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("journal_mode", "synchronous")]
    assert asked == ["wal", 2]  # 2 is FULL: the log is synced at each commit
