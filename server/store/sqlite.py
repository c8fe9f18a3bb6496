"""Everything that only SQLite does: connections, the serve lock, what its error codes mean for the writer.

In: a path. Out: two SQLAlchemy engines and a `Dialect` of capabilities, so that no other file asks which engine it has.
WAL with synchronous=FULL: a commit is on disk before its receipt leaves. One `serve` a store; other processes may read
and administer.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from gridpost.errors import NotFound, StoreUnavailable

BUSY_TIMEOUT_S = 5
# `->` keeps a number's text (the view interval_value): 3.38, of February 2022.
OLDEST_SQLITE = (3, 38)

_FULL = 13
# IOERR, CORRUPT, NOTADB: the disk or the file lies. After the first one nothing more may be promised (fsyncgate).
_FATAL = {10, 11, 26}
# BUSY, LOCKED, NOMEM, READONLY, CANTOPEN, FULL: nothing was kept, and later may be better.
_LATER = {5, 6, 7, 8, 14, _FULL}


class Verdict(Enum):
    """What an exception from a transaction means for the writer."""

    DATA = "the entry's own data"
    LATER = "cannot now"
    FATAL = "the store can no longer be trusted from this process"


@dataclass(frozen=True, slots=True)
class Dialect:
    """An engine as the rest of the store sees it.

    Attributes:
        writing: its transactions begin with the right to write.
        reading: autocommit; each select sees the newest commit.
    """

    writing: Engine
    reading: Engine

    def change_mark(self, connection: Connection) -> int | None:
        """Return a number that moves whenever another connection commits; None when the engine has no such mark."""
        driver: Any = connection.connection.driver_connection
        mark: int = driver.execute("PRAGMA data_version").fetchone()[0]
        return mark

    def verdict(self, problem: BaseException) -> Verdict:
        """Judge an exception raised inside a transaction."""
        if isinstance(problem, StoreUnavailable | MemoryError):
            return Verdict.FATAL if isinstance(problem, StoreUnavailable) else Verdict.LATER
        if isinstance(problem, OSError):
            return Verdict.FATAL
        original = problem.orig if isinstance(problem, DBAPIError) else problem
        code = getattr(original, "sqlite_errorcode", 0) & 0xFF
        if code in _FATAL:
            return Verdict.FATAL
        return Verdict.LATER if code in _LATER else Verdict.DATA

    def close(self) -> None:
        """Give all connections back."""
        self.writing.dispose()
        self.reading.dispose()


def connect(path: Path, *, create: bool = False) -> Dialect:
    """Return the engines of a store file.

    Raises:
        NotFound: there is no such file and `create` is not asked for.
        StoreUnavailable: the SQLite library is too old, or the file cannot be made.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreUnavailable(f"SQLite {'.'.join(map(str, OLDEST_SQLITE))} or later is needed")
    if create:
        _make_private(path)
    elif not path.is_file():
        raise NotFound(f"there is no store at {path}; `gridpost init` makes one")
    writing, reading = _engine(path), _engine(path)
    event.listen(writing, "begin", _begin_immediate)
    return Dialect(writing, reading)


class ServeLock:
    """Held by the one process that serves a store; the kernel drops it with the process, however that ends."""

    def __init__(self, store: Path) -> None:
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

    def release(self) -> None:
        """Let another process serve; the file stays, because removing it would race with the next holder."""
        os.close(self._file)


def _make_private(path: Path) -> None:
    """Create the file before SQLite does: evidence and secrets in it are the owner's alone."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as problem:
        raise StoreUnavailable(f"cannot make {path}: {problem.strerror}") from problem


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
        "foreign_keys=ON",
        "temp_store=MEMORY",
        f"journal_size_limit={64 << 20}",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_immediate(connection: Connection) -> None:
    # IMMEDIATE: a deferred transaction that turns into a writer fails at once instead of waiting busy_timeout.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
