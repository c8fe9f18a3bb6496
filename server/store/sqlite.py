"""Everything that only SQLite does: connections, the serve lock, what its error codes mean for the writer.

In: a path. Out: two SQLAlchemy engines and a `Dialect` of capabilities, so that no other file asks which engine it has.
WAL with synchronous=FULL: a commit is on disk before its receipt leaves. One `serve` a store; other processes may read
and administer. The log's pages are moved to the file ("checkpoint") by who serves, in the open: docs/adr/0013.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from gridpost.errors import NotFound, StoreUnavailable

from . import copying
from .driver import insert_rows, select_by
from .engine import Place, Progress, Summary, Verdict, judge_ours

BUSY_TIMEOUT_S = 5
# After so many transactions, or rows changed in them, what the log holds is moved to the file: about 1,000 pages.
CHECKPOINT_TRANSACTIONS, CHECKPOINT_ROWS = 64, 2000
# `->` keeps a number's text (the view interval_value): 3.38, of February 2022.
OLDEST_SQLITE = (3, 38)

_DATA_VERSION = "PRAGMA data_version"  # moves with every commit of another connection
_FULL = 13
# IOERR, CORRUPT, NOTADB: the disk or the file lies. After the first one nothing more may be promised (fsyncgate).
_FATAL = {10, 11, 26}
# BUSY, LOCKED, NOMEM, READONLY, CANTOPEN, FULL: nothing was kept, and later may be better.
_LATER = {5, 6, 7, 8, 14, _FULL}


class SqliteDialect:
    """`engine.Dialect` of a file; one process serves it, and holds partition 0."""

    def __init__(self, path: Path) -> None:
        """The file is there."""
        self.path, self.place = path, str(path)
        self.writing, self.reading = _engine(path), _engine(path)
        self._distrusted = False
        event.listen(self.writing, "begin", _begin_immediate)

    def prepare(self) -> None:
        """See `Dialect`; done before SQLite does it: evidence and secrets in the file are the owner's alone."""
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as problem:
            raise StoreUnavailable(f"cannot make {self.path}: {problem.strerror}") from problem

    def require(self) -> None:
        """See `Dialect`."""
        if not self.path.is_file():
            raise NotFound(f"there is no store at {self.path}; `gridpost init` makes one")

    def change_mark(self, connection: Connection) -> int | None:
        """See `Dialect`."""
        ((mark,),) = select_by(connection, _DATA_VERSION)
        return int(mark)

    def verdict(self, problem: BaseException) -> Verdict:
        """See `Dialect`; it serialises its writers, so none is ever beaten to a row."""
        if (ours := judge_ours(problem)) is not None:
            return ours
        original = problem.orig if isinstance(problem, DBAPIError) else problem
        code = getattr(original, "sqlite_errorcode", 0) & 0xFF
        if code in _FATAL:
            return Verdict.FATAL
        return Verdict.LATER if code in _LATER else Verdict.DATA

    def insert(self, connection: Connection, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
        """See `Dialect`."""
        insert_rows(connection, table, rows)

    def lock_channels(self, connection: Connection, channels: Collection[int]) -> None:
        """See `Dialect`; BEGIN IMMEDIATE has locked all there is."""

    def hold(self) -> ServeLock:
        """See `Dialect`."""
        return ServeLock(self)

    def lead(self) -> bool:
        """See `Dialect`; nobody else serves this store."""
        return True

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """See `Dialect`."""
        lock = ServeLock(self)
        try:
            with self.writing.begin() as connection:
                yield connection
        finally:
            lock.release()

    def copy_to(self, target: Path, progress: Progress) -> Summary:
        """See `Dialect`."""
        return copying.copy(self.path, target, progress)

    def replace_by(self, source: Path, now_utc_ms: int, replace: bool) -> Summary:
        """See `Dialect`."""
        lock = ServeLock(self)
        try:
            return copying.put_back(source, self.path, now_utc_ms, replace)
        finally:
            lock.release()

    def checkpoint(self) -> bool:
        """Move what the log holds to the file, as far as readers of older states allow.

        Without room all stays in the log, and False says so: the next call does it.

        Raises:
            DBAPIError: the disk failed; what was committed is in the log, and only a new process may go on from it.
        """
        try:
            _move(self.reading)
        except DBAPIError as problem:
            if self.verdict(problem) is Verdict.FATAL:
                raise
            return False
        return True

    def distrust(self) -> None:
        """Leave file and log as they are until the process ends: see `close`."""
        self._distrusted = True

    def close(self) -> None:
        """See `Dialect`; after a failure of the disk the process must end by itself, without closing its connections.

        The last one to be closed moves the rest of the log and deletes it, and a sync then says nothing of pages that
        an earlier one, which failed, has dropped. A process that begins anew moves the whole log (docs/adr/0013).
        """
        if not self._distrusted:
            self.writing.dispose()
            self.reading.dispose()


def connect(place: Place) -> SqliteDialect:
    """Return the dialect of a store file.

    Raises:
        StoreUnavailable: the SQLite library is too old.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreUnavailable(f"SQLite {'.'.join(map(str, OLDEST_SQLITE))} or later is needed")
    return SqliteDialect(Path(place))


class ServeLock:
    """Held by the one process that serves a store; the kernel drops it with the process, however that ends."""

    partition = 0

    def __init__(self, dialect: SqliteDialect) -> None:
        store, self._dialect = dialect.path, dialect
        self._transactions, self._rows = 0, 0  # since the last checkpoint
        self.holder = f"process {os.getpid()}"
        self.path = store.with_name(store.name + ".lock")
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 32).decode("ascii", "replace").strip()
            os.close(self._file)
            raise StoreUnavailable(
                f"process {holder or 'unknown'} already serves {store}; stop it first, one bus writes a store"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """See `Hold`."""
        try:
            with self._dialect.writing.begin() as connection:
                driver: Any = connection.connection.driver_connection
                before = driver.total_changes
                yield connection
                rows = driver.total_changes - before
            self._committed(rows)
        except Exception as problem:
            if self._dialect.verdict(problem) is Verdict.FATAL:
                self._dialect.distrust()
            raise

    def _committed(self, rows: int) -> None:
        """Count a transaction; when enough came together, have them moved to the file."""
        self._transactions, self._rows = self._transactions + 1, self._rows + rows
        is_due = self._transactions >= CHECKPOINT_TRANSACTIONS or self._rows >= CHECKPOINT_ROWS
        if is_due and self._dialect.checkpoint():
            self._transactions, self._rows = 0, 0

    def release(self) -> None:
        """Let another process serve; the file stays, because removing it would race with the next holder."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=QueuePool,
        # isolation_level None: the driver begins nothing by itself, SQLAlchemy's "begin" event does.
        connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None, "check_same_thread": False},
    )
    event.listen(engine, "connect", _configure)
    return engine


def _configure(connection: Any, _record: object) -> None:
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "wal_autocheckpoint=0",  # it keeps quiet about a sync that failed
        "foreign_keys=ON",
        "temp_store=MEMORY",
        f"journal_size_limit={64 << 20}",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _move(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").all()


def _begin_immediate(connection: Connection) -> None:
    # IMMEDIATE: a deferred transaction that turns into a writer fails at once instead of waiting busy_timeout.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
