"""The writer when it is beaten, too slow, broken, overtaken or called off; and its queue by itself.

The store is real; where a fault cannot be had by honest means, a dialect around the real one raises it.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from hashlib import sha256
from time import monotonic, monotonic_ns, sleep

import pytest
from gridpost.server.store import open_store
from gridpost.server.store.engine import Verdict
from gridpost.server.store.group import Request
from gridpost.server.store.writer import Job, WorkQueue
from sqlalchemy import func, select, text

from gridpost.errors import Internal, NotFound, StoreUnavailable
from gridpost.model import Block, Channel, ChannelKey, Entry, Register, Rows

NOW = 1_800_000_000_000
KWH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
CHANNELS = [Channel(ChannelKey(f"UP{n}", f"M{n}", "", KWH), "kWh", 900, "Etc/UTC") for n in (1, 2, 3)]
NOTHING = Rows()


class Beaten(Exception):
    """Another process was faster: what PostgreSQL says by 40001 or 23505."""


class Faulty:
    """A dialect that does what the real one does, but fails to insert entries of some message ids."""

    def __init__(self, real) -> None:
        self._real = real
        self.failing: dict[str, list[Exception]] = {}
        self.calls: list[object] = []

    def __getattr__(self, name):
        return getattr(self._real, name)

    def verdict(self, problem):
        return Verdict.AGAIN if isinstance(problem, Beaten) else self._real.verdict(problem)

    def insert(self, connection, table, rows):
        self.calls.append(table.name)
        for name, problems in self.failing.items():
            if problems and table.name == "entry" and any(name in row for row in rows):
                raise problems.pop()
        self._real.insert(connection, table, rows)

    def lock_channels(self, connection, channels):
        self.calls.append(set(channels))
        self._real.lock_channels(connection, channels)


class Clock:
    """Stands still unless a test moves it."""

    now = NOW

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def fatal():
    return []


@pytest.fixture
def path(tmp_path, empty_store):
    return shutil.copy(empty_store, tmp_path / "gridpost.db")


@pytest.fixture
def store(path, clock, fatal):
    store = open_store(path, clock, serve=True, on_fatal=fatal.append)
    store.add_ied("IED1", "meter", b"0123456789", CHANNELS)
    yield store
    store.close()


@pytest.fixture
def faulty(store):
    store.writer._dialect = Faulty(store.writer._dialect)
    return store.writer._dialect


def entry(message_id, evidence=b"<Envelope/>"):
    digest = sha256(message_id.encode()).digest()
    return Entry("IED1", message_id, "MeterReadings", "http", digest, 5, None, "", evidence)


def receipt(position, *_):
    return b"receipt %d" % position.seq


def record(store, message_id, rows=NOTHING, make_receipt=receipt):
    return store.record(entry(message_id), rows, make_receipt)


@contextmanager
def held(store):
    """Keep the writer busy with one entry; what is asked for inside waits behind it."""
    entered, release = threading.Event(), threading.Event()

    def waits(*stated):
        entered.set()
        assert release.wait(30)
        return receipt(*stated)

    first = record(store, "held", make_receipt=waits)
    assert entered.wait(30)
    try:
        yield
    finally:
        release.set()
    first.result(30)


def ids(path):
    with sqlite3.connect(path) as connection:
        return [one for (one,) in connection.execute("SELECT message_id FROM entry ORDER BY seq")]


def unavailable(future) -> str:
    """The inner cause of a future that failed because the store cannot now."""
    with pytest.raises(StoreUnavailable) as told:
        future.result(30)
    return told.value.detail


# --- beaten by another process ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("times", "kept"), [(1, True), (7, True), (8, False)])
def test_a_group_that_is_beaten_is_begun_anew_seven_times(store, faulty, path, fatal, times, kept):
    record(store, "m0").result(30)
    problems = [Beaten("by another") for _ in range(times)]
    faulty.failing = {"m1": problems}
    with held(store):
        futures = [record(store, "m1"), record(store, "m2")]
    if kept:
        assert [future.result(30) for future in futures] == [b"receipt 2", b"receipt 3"]
    else:
        assert [unavailable(future) for future in futures] == ["Beaten: by another"] * 2
    assert problems == []
    assert record(store, "m3").result(30) == (b"receipt 4" if kept else b"receipt 2")
    assert ids(path) == ["m0", "held", *(["m1", "m2"] * kept), "m3"]
    assert fatal == []


@pytest.mark.parametrize(("times", "kept"), [(1, True), (7, True), (8, False)])
def test_a_job_that_is_beaten_is_begun_anew_seven_times(store, faulty, fatal, times, kept):
    tried = []

    def work(_connection):
        tried.append("again")
        if len(tried) <= times:
            raise Beaten("by another")
        return "done"

    future = store.writer.do(work)
    if kept:
        assert future.result(30) == "done"
    else:
        assert unavailable(future) == "Beaten: by another"
    assert len(tried) == min(times + 1, 8)
    assert fatal == []


# --- too slow --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("took_ms", "kept"), [(30_000, True), (30_001, False)])
def test_what_took_longer_than_half_a_minute_is_not_committed(store, clock, path, fatal, took_ms, kept):
    """Its recorded time would be too old by then (decision 4)."""

    def slow(*stated):
        clock.now += took_ms
        return receipt(*stated)

    future = record(store, "m1", make_receipt=slow)
    if kept:
        assert future.result(30) == b"receipt 0"
    else:
        assert unavailable(future).startswith("TooSlow: ")
    assert ids(path) == ["m1"] * kept
    assert (fatal, store.is_healthy()) == ([], True)


# --- broken ----------------------------------------------------------------------------------------------------------


def test_after_a_fatal_error_all_that_waits_is_refused(store, faulty, path, fatal):
    """Entries, then jobs, then entries: with the first cause; the process is told once."""
    problem, worked = OSError("the disk"), []
    faulty.failing = {"m1": [problem]}
    assert store.is_healthy() is True
    with held(store):
        waiting = [record(store, "m1"), store.writer.do(lambda _connection: worked.append(1)), record(store, "m2")]
    assert [unavailable(future) for future in waiting] == ["OSError: the disk"] * 3
    assert unavailable(record(store, "m3")) == "queue full, closed, or writer stopped"
    assert (fatal, worked, ids(path)) == ([problem], [], ["held"])
    assert store.is_healthy() is False


@pytest.mark.parametrize(
    ("problem", "told", "detail", "is_fatal"),
    [
        (NotFound("no such file"), NotFound, "", False),
        (ValueError("a bad one"), Internal, "ValueError: a bad one", False),
        (MemoryError("all gone"), StoreUnavailable, "MemoryError: all gone", False),
        (OSError("the disk"), StoreUnavailable, "OSError: the disk", True),
        (StoreUnavailable(detail="a hole"), StoreUnavailable, "a hole", True),
    ],
    ids=["ours", "data", "later", "fatal", "ours and fatal"],
)
def test_a_job_that_fails_is_told_why_and_leaves_nothing(store, path, fatal, problem, told, detail, is_fatal):
    tried = []

    def work(connection):
        tried.append("once")
        connection.execute(text("UPDATE partition SET events = 77"))
        raise problem

    with pytest.raises(told) as seen:
        store.writer.do(work).result(30)
    store.close()  # the writer's thread has then told what is fatal
    assert (seen.value.detail, tried) == (detail, ["once"])
    assert (fatal, store.is_healthy()) == ([problem] * is_fatal, not is_fatal)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT events FROM partition").fetchall() == [(0,)]


@pytest.mark.parametrize("others", [[], ["m2"], ["m2", "m3"]])
def test_bad_data_of_one_entry_is_told_to_it_alone(store, faulty, path, fatal, others):
    """The group is tried once, then each of its entries by itself."""
    problems = [ValueError("does not fit") for _ in range(2 if others else 1)]
    faulty.failing = {"m1": problems}
    with held(store):
        bad, *good = [record(store, name) for name in ("m1", *others)]
    with pytest.raises(Internal) as told:
        bad.result(30)
    assert told.value.detail == "ValueError: does not fit"
    assert [future.result(30) for future in good] == [b"receipt 1", b"receipt 2"][: len(others)]
    assert ids(path) == ["held", *others]
    assert (problems, fatal) == ([], [])


# --- overtaken -------------------------------------------------------------------------------------------------------


def token(path):
    with sqlite3.connect(path) as connection:
        return connection.execute("SELECT token, taken_at_utc_ms FROM partition").fetchall()


def test_each_writer_raises_the_token_by_one(path, clock):
    before = token(path)[0][0]
    for number in (1, 2):
        clock.now += 1
        open_store(path, clock, serve=True).close()
        assert token(path) == [(before + number, NOW + number)]


@pytest.mark.parametrize("kind", ["entry", "job"])
def test_whoever_was_overtaken_keeps_nothing_and_stops(store, path, fatal, kind):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE partition SET token = token + 1")
    work = "UPDATE partition SET events = 77"
    asked = record(store, "m1") if kind == "entry" else store.writer.do(lambda one: one.execute(text(work)) and None)
    with pytest.raises(StoreUnavailable):
        asked.result(30)
    store.close()
    (problem,) = fatal
    assert (type(problem), problem.reason) == (StoreUnavailable, "another process took over this store")
    assert ids(path) == []
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT events FROM partition").fetchall() == [(0,)]


# --- called off, and in order ----------------------------------------------------------------------------------------


def test_what_was_called_off_in_time_is_not_done(store, path):
    worked = []
    with held(store):
        futures = [record(store, "m1"), store.writer.do(worked.append), record(store, "m2"), record(store, "m3")]
        assert [future.cancel() for future in futures[:3]] == [True] * 3
    assert futures[3].result(30) == b"receipt 1"
    for future in futures[:3]:
        with pytest.raises(CancelledError):
            future.result(0)
    assert (worked, ids(path)) == ([], ["held", "m3"])


def test_jobs_keep_their_place_among_entries(store):
    with held(store):
        record(store, "m1")
        job = store.writer.do(lambda connection: connection.execute(select(func.count()).select_from(text("entry"))))
        counted = store.writer.do(
            lambda connection: connection.execute(text("SELECT count(*) FROM entry")).scalar_one()
        )
        last = record(store, "m2")
        assert store.writer.waiting() == 4
    assert counted.result(30) == 2
    assert last.result(30) == b"receipt 2"
    assert job.done()
    assert store.writer.waiting() == 0


def test_its_channels_are_locked_before_a_group_is_compared(store, faulty):
    """Of blocks and of registers; decision 3."""
    blocks = [Block(number, 900, (900,), ("1",), ((),)) for number in (3, 1)]
    record(store, "m1", Rows(tuple(blocks), (Register(2, KWH, 900, "7", ()),))).result(30)
    assert faulty.calls[0] == {1, 2, 3}
    assert faulty.calls[1] == "entry"


def test_it_has_a_thread_of_its_own_that_no_process_waits_for(store):
    assert [one.daemon for one in threading.enumerate() if one.name == "store-writer"] == [True]


def test_it_says_how_large_its_groups_were_and_how_long_commits_took(store):
    with held(store):
        futures = [record(store, f"m{number}") for number in range(3)]
    for future in futures:
        future.result(30)
    assert (store.writer.groups.total, sum(store.writer.groups.counts)) == (4, 2)
    before, began_ns = store.writer.commits_us.total, monotonic_ns()
    record(store, "last").result(30)
    assert 0 < store.writer.commits_us.total - before <= (monotonic_ns() - began_ns) // 1000


# --- the queue by itself ---------------------------------------------------------------------------------------------


def request(size=0):
    return Request(entry("m", bytes(size)), NOTHING, receipt, Future())


def job():
    return Job(lambda _connection: None, Future())


def test_1024_may_wait():
    queue = WorkQueue()
    assert [queue.put(job() if number % 2 else request()) for number in range(1024)] == [True] * 1024
    assert queue.put(request()) is False
    assert queue.put(job()) is False
    assert queue.waiting() == 1024
    queue.take()
    assert queue.put(request()) is True


def test_64_mib_of_evidence_may_wait_and_one_of_any_size():
    queue = WorkQueue()
    assert queue.put(request(65 << 20)) is True
    assert queue.put(request()) is False
    assert queue.put(job()) is False
    queue.take()
    assert [queue.put(request(size)) for size in ((64 << 20) - 1, 1, 1)] == [True, True, False]
    assert queue.put(job()) is True, "a job has no evidence"
    assert [len(queue.take()) for _ in range(2)] == [1, 1]
    assert isinstance(queue.take(), Job)
    assert queue.put(request(64 << 20)) is True


def test_128_are_one_group():
    queue = WorkQueue()
    asked = [request() for _ in range(130)]
    for one in asked:
        queue.put(one)
    assert queue.take() == asked[:128]
    assert queue.take() == asked[128:]


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([8 << 20, 1], [1, 1]),
        ([(8 << 20) - 1, 5 << 20, 1], [2, 1]),
        ([9 << 20, 9 << 20], [1, 1]),
        ([1, 1, 1], [3]),
    ],
)
def test_no_more_is_taken_behind_8_mib_of_evidence(sizes, groups):
    queue = WorkQueue()
    for size in sizes:
        queue.put(request(size))
    assert [len(queue.take()) for _ in groups] == groups


def test_a_job_ends_the_group_before_it():
    queue = WorkQueue()
    before, between, behind = request(), job(), request()
    for one in (before, between, behind):
        queue.put(one)
    queue.close()
    assert [queue.take(), queue.take(), queue.take(), queue.take()] == [[before], between, [behind], None]


def test_what_is_closed_takes_nothing_more():
    queue = WorkQueue()
    queue.put(request())
    queue.close()
    assert queue.put(request()) is False
    assert len(queue.take()) == 1
    assert queue.take() is None


@pytest.mark.parametrize("wake", ["put", "close"])
def test_whoever_waits_for_work_is_woken(wake):
    queue, taken, asked = WorkQueue(), [], request()
    waiting = threading.Thread(target=lambda: taken.append(queue.take()), daemon=True)
    waiting.start()
    deadline = monotonic() + 30
    while not queue._changed._waiters and monotonic() < deadline:
        sleep(0.001)
    if wake == "put":
        queue.put(asked)
    else:
        queue.close()
    waiting.join(30)
    assert taken == [[asked] if wake == "put" else None]
