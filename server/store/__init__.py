"""The store: the log of entries, the readings in it, who may write, and what goes out. The only room with SQL.

`create(path)` makes one, `open_store(path, clock)` opens it for reading and administration in any process, and
`open_store(path, clock, serve=True)` in the one process that writes the log. `SqlStore` fulfils `gridpost.ports.Store`.

    record, advance, delivered ... -> writer.py (one thread) -> group.py -> gridpost/log.py (pure) -> commit -> future
    find, readings, entries ...    -> reading.py, outbox.py   one connection in autocommit
    add_ied, revoke ...            -> enrolments.py           plain transactions, any process

An engine is a file like `sqlite.py`; another one passes `tests/contract/test_store.py` as it stands.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from gridpost.errors import StoreUnavailable
from gridpost.model import DataVersion, Entry, Rows
from gridpost.ports import Clock, MakeReceipt, OutboxItem

from . import outbox, schema
from .enrolments import CertificateStatus, Enrolments, IedStatus
from .outbox import DeadLetter, ReaderStatus, Status
from .reading import Reading
from .sqlite import Dialect, ServeLock, connect
from .writer import OnFatal, Writer

__all__ = [
    "CertificateStatus",
    "DeadLetter",
    "IedStatus",
    "ReaderStatus",
    "SqlStore",
    "Status",
    "create",
    "open_store",
]

T = TypeVar("T")


def create(path: Path) -> None:
    """Make the store at `path`, or bring an older one up to date; doing it again changes nothing.

    Raises:
        StoreUnavailable: the file cannot be made, is no database, or is of a newer Gridpost.
    """
    dialect = connect(path, create=True)
    try:
        with dialect.writing.begin() as connection:
            schema.upgrade(connection)
    except DBAPIError as problem:
        raise StoreUnavailable(f"cannot make a store at {path}: {problem.orig}") from problem
    finally:
        dialect.close()


def open_store(path: Path, clock: Clock, *, serve: bool = False, on_fatal: OnFatal | None = None) -> SqlStore:
    """Open the store at `path`; `close` it in the end.

    Args:
        path: made by `create`.
        clock: UTC milliseconds.
        serve: become the one process that writes the log.
        on_fatal: called once, from the writer's thread, when the disk or the file fails: stop the process.

    Raises:
        NotFound: there is no such file.
        StoreUnavailable: another process serves it, or its schema is not this program's.
    """
    with ExitStack() as undo:
        dialect = connect(path)
        undo.callback(dialect.close)
        try:
            with dialect.reading.connect() as connection:
                schema.require(connection)
            lock = ServeLock(path) if serve else None
            if lock:
                undo.callback(lock.release)
            store = SqlStore(dialect, clock, lock, on_fatal or _ignore)
        except DBAPIError as problem:
            raise StoreUnavailable(f"cannot open the store at {path}: {problem.orig}") from problem
        undo.pop_all()
        return store


class SqlStore(Reading, Enrolments):
    """`gridpost.ports.Store` on a database, with the enrolment and delivery verbs beside it.

    Without `serve` everything that goes through the writer fails with StoreUnavailable.
    """

    def __init__(self, dialect: Dialect, clock: Clock, lock: ServeLock | None, on_fatal: OnFatal) -> None:
        Reading.__init__(self, dialect)
        Enrolments.__init__(self, dialect, clock)
        self._lock_file = lock
        self._writer = Writer(dialect, clock, on_fatal) if lock else None

    def close(self) -> None:
        """Write what is queued, stop the writer, let go of the file; calling it again does nothing."""
        if self._writer:
            self._writer.close()
        Reading.close(self)
        self._dialect.close()
        if self._lock_file:
            self._lock_file.release()
        self._lock_file = None

    # --- through the writer ---

    def record(self, entry: Entry, rows: Rows, make_receipt: MakeReceipt) -> Future[bytes]:
        """See `ports.Store`."""
        return self._writer.record(entry, rows, make_receipt) if self._writer else _not_serving()

    def advance(
        self, reader: str, version: DataVersion, state: Mapping[str, object], items: Sequence[OutboxItem]
    ) -> Future[None]:
        """See `ports.Store`."""
        place = (outbox.version_text(version), json.dumps(state, allow_nan=False))
        now = self._clock()
        return self._do(lambda connection: outbox.advance(connection, reader, place, items, now))

    def delivered(self, reader: str, name: str, place: str, at_utc_ms: int) -> Future[None]:
        """Note that an outbox file is at `place`; the first delivery noted stays.

        The future raises:
            NotFound: no such file was queued.
            StoreUnavailable: not noted; deliver again later, which changes nothing.
        """
        return self._do(lambda connection: outbox.delivered(connection, (reader, name), place, at_utc_ms))

    def dead_letter(self, letter: DeadLetter) -> Future[None]:
        """Give a file or an entry up; a file named so is no longer pending.

        The future raises:
            StoreUnavailable: not noted.
        """
        return self._do(lambda connection: outbox.give_up(connection, letter))

    def add_refusals(self, counts: Mapping[str, int]) -> Future[None]:
        """Add refusals counted by error code.

        The future raises:
            StoreUnavailable: not counted.
        """
        counted = dict(counts)
        return self._do(lambda connection: outbox.add_refusals(connection, counted))

    def _do(self, work: Callable[[Connection], T]) -> Future[T]:
        return self._writer.do(work) if self._writer else _not_serving()

    # --- read ---

    def cursor(self, reader: str) -> tuple[DataVersion, Mapping[str, object]]:
        """See `ports.Store`."""
        with self.connection() as connection:
            return outbox.read_cursor(connection, reader)

    def pending(self, limit: int, reader: str | None = None) -> list[OutboxItem]:
        """Return up to `limit` files that wait for delivery, oldest first; dead letters are left out."""
        with self.connection() as connection:
            return outbox.pending(connection, limit, reader)

    def rendered(self, reader: str, stem: str) -> list[outbox.Rendered]:
        """Return the revisions ``<stem><digits>.<suffix>`` a reader ever queued, oldest first."""
        with self.connection() as connection:
            return outbox.rendered(connection, reader, stem)

    def is_healthy(self) -> bool:
        """Tell whether `record` would be taken now."""
        return self._writer is not None and self._writer.is_healthy()

    def dead_letters(self) -> list[DeadLetter]:
        """Return what was given up, oldest first."""
        with self.connection() as connection:
            return outbox.dead_letters(connection)

    def status(self) -> Status:
        """Return the store's counts and each reader's place."""
        with self.connection() as connection:
            return outbox.status(connection)


def _ignore(_problem: BaseException) -> None:
    """Stand in for `on_fatal`: the writer refuses everything from then on."""


def _not_serving() -> Future[T]:
    future: Future[T] = Future()
    future.set_exception(StoreUnavailable("only the process that serves the store writes its log"))
    return future
