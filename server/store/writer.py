"""The writer: one thread, one queue, one transaction at a time; nothing else in the process writes the log.

In: `record` and `do` from any thread. Out: futures, resolved only after the commit is synced. What is queued while one
group syncs is the next group (group commit), so load makes groups larger and each message cheaper.

After the first error of the disk or the file, or once its partition was taken over, the writer is *poisoned*: it takes
nothing more and calls `on_fatal`, so that the process can stop and start again from what the log really holds. A full
disk, a busy store or a lost connection only fails the group. A group beaten by another process to a message id is begun
anew and then finds that id known.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic_ns
from typing import Any, TypeVar

from sqlalchemy import Connection, select, update

from gridpost.errors import GridpostError, Internal, StoreUnavailable
from gridpost.log import Head
from gridpost.model import Entry, Rows
from gridpost.ports import Clock, MakeReceipt

from ..figures import SIZES, TIMES_US, Distribution
from .engine import Dialect, Hold, TooSlow, Verdict
from .group import Answer, Request, Target, Tenure, channels_of, fenced, write_group
from .on_file import load_head
from .tables import partition

T = TypeVar("T")

OnFatal = Callable[[BaseException], None]

GROUP = 128  # entries in one transaction; more gains nothing (facts/store.md)
GROUP_BYTES = 8 << 20  # and of evidence, so that one transaction stays short
QUEUE = 1024  # entries that may wait; at 128 a sync that is some seconds of a busy bus
QUEUE_BYTES = 64 << 20
TRIES = 8  # of one transaction that other processes keep beating; each try finds at least one more id known
# Decision 4: a moment 60 s past is final, so nothing may be committed with a recorded time much older than this.
LONGEST_MS = 30_000


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Other work of the writer: a transaction of its own."""

    work: Callable[[Connection], Any]
    future: Future[Any]


class WorkQueue:
    """Bounded by entries and by bytes of evidence; handed out in groups."""

    def __init__(self) -> None:
        self._waiting: deque[Request | Job] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: Request | Job) -> bool:
        """Add `item`; False when the queue is full or closed."""
        size = _size(item)
        with self._changed:
            full = len(self._waiting) >= QUEUE or (self._waiting and self._bytes + size > QUEUE_BYTES)
            if self._closed or full:
                return False
            self._waiting.append(item)
            self._bytes += size
            self._changed.notify()
            return True

    def take(self) -> list[Request] | Job | None:
        """Wait for work: a job, or the requests up to the next job; None once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            if isinstance(self._waiting[0], Job):
                return self._pop(self._waiting[0])
            group: list[Request] = []
            room = GROUP_BYTES
            while self._waiting and len(group) < GROUP and room > 0:
                item = self._waiting[0]
                if isinstance(item, Job):
                    break
                room -= _size(item)
                group.append(self._pop(item))
            return group

    def waiting(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def close(self) -> None:
        """Take nothing more; what waits is still handed out."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _pop(self, item: T) -> T:
        self._bytes -= _size(self._waiting.popleft())
        return item


class Writer:
    """Writes the partition it is given until `close`; letting go of it is the giver's."""

    def __init__(self, dialect: Dialect, hold: Hold, clock: Clock, on_fatal: OnFatal) -> None:
        self._dialect = dialect
        self._hold = hold
        self._clock = clock
        self._on_fatal = on_fatal
        self._queue = WorkQueue()
        self._poison: BaseException | None = None
        self._head: Head | None
        self.groups, self.commits_us = Distribution(SIZES), Distribution(TIMES_US)
        with hold.transaction() as connection:
            self._tenure = _take_over(connection, hold, clock())
            self._head = load_head(connection, hold.partition)
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def record(self, entry: Entry, rows: Rows, make_receipt: MakeReceipt) -> Future[bytes]:
        """See `ports.Store.record`."""
        future: Future[bytes] = Future()
        return self._queued(Request(entry, rows, make_receipt, future), future)

    def do(self, work: Callable[[Connection], T]) -> Future[T]:
        """Run `work` in a transaction of its own, behind what is queued.

        The future raises:
            StoreUnavailable: the queue is full or the store failed; nothing was kept.
        """
        future: Future[T] = Future()
        return self._queued(Job(work, future), future)

    def waiting(self) -> int:
        """Return how many entries and jobs are queued, those in the present transaction left out."""
        return self._queue.waiting()

    def is_healthy(self) -> bool:
        """Tell whether the writer takes work: the store has not failed."""
        return self._poison is None

    def close(self) -> None:
        """Write what is queued, then stop; returns when the thread has ended."""
        self._queue.close()
        self._thread.join()

    def _queued(self, item: Request | Job, future: Future[T]) -> Future[T]:
        if self._poison is not None or not self._queue.put(item):
            future.set_exception(StoreUnavailable(detail="queue full, closed, or writer stopped"))
        return future

    def _run(self) -> None:
        while (work := self._queue.take()) is not None:
            if isinstance(work, Job):
                if work.future.set_running_or_notify_cancel():
                    self._do(work)
            else:
                wanted = [request for request in work if request.future.set_running_or_notify_cancel()]
                if wanted:
                    self._record(wanted)

    def _record(self, requests: Sequence[Request], tries: int = TRIES) -> None:
        if self._poison is not None:
            return _refuse(requests, self._poison)
        try:
            head, answers = self._transaction(requests)
        except Exception as problem:
            return self._failed(requests, problem, tries - 1)
        self._head = head
        for request, answer in answers:
            _settle(request.future, answer)
        return None

    def _transaction(self, requests: Sequence[Request]) -> tuple[Head, list[tuple[Request, Answer]]]:
        with self._hold.transaction() as connection:
            # First of all: what is compared from here on, no other process changes before our commit (decision 3).
            self._dialect.lock_channels(connection, channels_of(requests))
            now = self._clock()
            head = self._head or load_head(connection, self._tenure.partition)
            written = write_group(Target(connection, self._dialect.insert, self._tenure), head, now, requests)
            if self._clock() - now > LONGEST_MS:
                raise TooSlow("the store took too long to write a group")
            began_ns = monotonic_ns()
        self.commits_us.note((monotonic_ns() - began_ns) // 1000)
        self.groups.note(len(requests))
        return written

    def _failed(self, requests: Sequence[Request], problem: Exception, tries: int) -> None:
        self._head = None  # whether an erring commit took is for the store to say, not for us to remember
        verdict = self._dialect.verdict(problem)
        if verdict is Verdict.AGAIN and tries:
            return self._record(requests, tries)
        if verdict is Verdict.DATA and len(requests) > 1:
            for request in requests:  # one entry's data broke the group: each by itself finds the one
                self._record([request])
            return None
        if verdict is Verdict.DATA:
            return _settle(requests[0].future, Internal(detail=_told(problem)))
        _refuse(requests, problem)
        if verdict is Verdict.FATAL:
            self._stop(problem)
        return None

    def _do(self, job: Job, tries: int = TRIES) -> None:
        if self._poison is not None:
            return _settle(job.future, StoreUnavailable(detail=_told(self._poison)))
        try:
            with self._hold.transaction() as connection:
                _require(connection, self._tenure)
                result = job.work(connection)
        except Exception as problem:
            return self._job_failed(job, problem, tries - 1)
        return _settle(job.future, result)

    def _job_failed(self, job: Job, problem: Exception, tries: int) -> None:
        verdict = self._dialect.verdict(problem)
        if verdict is Verdict.AGAIN and tries:
            return self._do(job, tries)
        if isinstance(problem, GridpostError):
            _settle(job.future, problem)
        else:
            error = Internal if verdict is Verdict.DATA else StoreUnavailable
            _settle(job.future, error(detail=_told(problem)))
        if verdict is Verdict.FATAL:
            self._stop(problem)
        return None

    def _stop(self, problem: BaseException) -> None:
        self._poison = problem
        self._on_fatal(problem)


def _take_over(connection: Connection, hold: Hold, now_utc_ms: int) -> Tenure:
    """Raise the partition's fencing token, so that whoever held it before cannot commit any more."""
    ours = partition.c.partition == hold.partition
    connection.execute(
        update(partition)
        .where(ours)
        .values(token=partition.c.token + 1, holder=hold.holder, taken_at_utc_ms=now_utc_ms)
    )
    return Tenure(hold.partition, connection.execute(select(partition.c.token).where(ours)).scalar_one())


def _require(connection: Connection, tenure: Tenure) -> None:
    query = select(partition.c.token).where(partition.c.partition == tenure.partition).with_for_update()
    if connection.execute(query).scalar_one() != tenure.token:
        raise fenced(tenure)


def _refuse(requests: Sequence[Request], problem: BaseException) -> None:
    for request in requests:
        _settle(request.future, StoreUnavailable(detail=_told(problem)))


def _settle(future: Future[Any], answer: object) -> None:
    if isinstance(answer, GridpostError):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _told(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}"


def _size(item: Request | Job) -> int:
    return len(item.entry.evidence) if isinstance(item, Request) else 0
