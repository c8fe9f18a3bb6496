"""Everything that only PostgreSQL does: sessions, advisory locks, what its error codes mean for the writer.

In: a URL. Out: two SQLAlchemy engines and the capabilities of `engine.Dialect`. Several bus processes, on several
machines, serve one database, each the writer of a log partition of its own.

Who may do what is said by session locks, which end with the session, so with the process, however that ends:

    the store       shared by everybody who has it open; alone by who changes its tables
    a partition     by its writer: a process that starts takes the lowest one that is free
    the readers     by the one process that runs them

A lock alone cannot stop a process whose session was lost without its noticing; the partition's fencing token, compared
in each of its transactions, does. Sessions are direct ones: a pooler that shares them between clients breaks all this.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from gridpost.errors import ConfigInvalid, StoreUnavailable

from .driver import insert_rows
from .engine import Place, Progress, Summary, Verdict, judge_ours, told

OLDEST_SERVER = 140_000  # version 14; older ones are out of support
MOST_LOCKS = 1024  # of channels in one group; more lock all channels at once (a server has room for some thousands)
LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S, IDLE_TIMEOUT_S = 5, 20, 20

# Advisory locks are numbered in two halves: a kind of ours, and which one.
_STORE, _PARTITION, _READERS, _ALL_CHANNELS, _CHANNEL = range(0x47500001, 0x47500006)

# SQLSTATEs, whole or by class, first match wins (PostgreSQL's appendix A).
_VERDICTS = (
    ("23505", Verdict.AGAIN),  # unique_violation: another process inserted that id; it has committed
    ("40", Verdict.AGAIN),  # serialization failure, deadlock
    ("08", Verdict.LATER),  # connection
    ("25006", Verdict.LATER),  # read only: a standby that may become the server
    ("25P", Verdict.LATER),  # idle for too long
    ("53", Verdict.LATER),  # no disk, no memory, no connections
    ("55P03", Verdict.LATER),  # lock_timeout
    ("57", Verdict.LATER),  # statement_timeout, the server starts
    ("58", Verdict.FATAL),  # its input and output fail
    ("XX", Verdict.FATAL),  # its data or indexes are damaged
)

# A commit returns when it is on disk; a session that hangs is ended before its partition is missed; and every look-up
# of the writer is by key, whatever statistics a young table has.
_SESSION = {
    "synchronous_commit": "on",
    "lock_timeout": f"{LOCK_TIMEOUT_S}s",
    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "idle_in_transaction_session_timeout": f"{IDLE_TIMEOUT_S}s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_BY_KEY = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off"}


class PostgresDialect:
    """`engine.Dialect` of a PostgreSQL database."""

    def __init__(self, url: URL) -> None:
        """Nothing is connected yet."""
        self._url = url
        self.place = url.set(drivername="postgresql").render_as_string(hide_password=True)
        self.writing = _engine(url, _SESSION | _BY_KEY, "READ COMMITTED")
        self.reading = _engine(url, _SESSION | {"statement_timeout": "0"}, "AUTOCOMMIT")
        event.listen(self.writing, "connect", _share)
        event.listen(self.reading, "connect", _share)
        self._leader: Connection | None = None
        self._leads = False

    def prepare(self) -> None:
        """See `Dialect`; the database itself is made by whoever runs the server.

        Raises:
            StoreUnavailable: it does not hold every text.
        """
        with self.reading.connect() as connection:
            if connection.execute(text("SHOW server_encoding")).scalar_one() != "UTF8":
                raise StoreUnavailable("the database must be made with ENCODING 'UTF8'")

    def require(self) -> None:
        """See `Dialect`; connecting will tell."""

    def change_mark(self, connection: Connection) -> int | None:
        """See `Dialect`; it has none."""
        return None

    def verdict(self, problem: BaseException) -> Verdict:
        """See `Dialect`."""
        if (ours := judge_ours(problem)) is not None:
            return ours
        if not isinstance(problem, DBAPIError):
            return Verdict.DATA
        if problem.connection_invalidated:  # it was there, so there may be another; what is committed is found as known
            return Verdict.AGAIN
        state: str | None = getattr(problem.orig, "sqlstate", None)
        if state is None:  # the driver's own: there is no connection to be had, or it cannot send such data
            return Verdict.LATER if _is_operational(problem) else Verdict.DATA
        return next((verdict for prefix, verdict in _VERDICTS if state.startswith(prefix)), Verdict.DATA)

    def insert(self, connection: Connection, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
        """See `Dialect`."""
        insert_rows(connection, table, rows)

    def lock_channels(self, connection: Connection, channels: Collection[int]) -> None:
        """See `Dialect`; in ascending order, so that two writers wait for each other and never in a circle."""
        if len(channels) > MOST_LOCKS:
            connection.execute(_LOCK_ALL, {"kind": _ALL_CHANNELS})
        elif channels:
            numbers = sorted({channel & 0x7FFFFFFF for channel in channels})
            connection.execute(_LOCK_SOME, {"all": _ALL_CHANNELS, "kind": _CHANNEL, "numbers": numbers})

    def hold(self) -> PostgresHold:
        """See `Dialect`."""
        return PostgresHold(self.writing)

    def lead(self) -> bool:
        """See `Dialect`; the lock is held by a session of its own, whose loss is noticed here."""
        try:
            if self._leader is None:
                self._leader = self.reading.connect()
            if self._leads:
                self._leader.execute(_STILL_THERE)
            else:
                self._leads = _try(self._leader, _READERS, 0)
            return self._leads
        except DBAPIError as problem:
            self._resign()
            raise StoreUnavailable(detail=told(problem)) from problem

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """See `Dialect`."""
        self.close()  # the sessions of our own share the store too
        engine = _engine(self._url, _SESSION | {"statement_timeout": "0"}, "READ COMMITTED", poolclass=NullPool)
        with engine.begin() as connection:
            if not connection.execute(_TRY_ALONE, {"kind": _STORE}).scalar_one():
                others = connection.execute(_WHO, {"kind": _STORE}).scalars().all()
                raise StoreUnavailable(f"the store is in use by {', '.join(others) or 'others'}: stop them first")
            yield connection

    def copy_to(self, target: Path, progress: Progress) -> Summary:
        """See `Dialect`."""
        raise _own_tools()

    def replace_by(self, source: Path, now_utc_ms: int, replace: bool) -> Summary:
        """See `Dialect`."""
        raise _own_tools()

    def close(self) -> None:
        """See `Dialect`."""
        self._resign()
        self.writing.dispose()
        self.reading.dispose()

    def _resign(self) -> None:
        if self._leader is not None:
            _end(self._leader, _READERS, 0)
        self._leader, self._leads = None, False


class PostgresHold:
    """`engine.Hold`: a session that holds the partition's lock, and in which all of its writer's transactions run."""

    def __init__(self, engine: Engine) -> None:
        """Take the lowest free partition, or make one more.

        Raises:
            StoreUnavailable: the server is too old, or its settings let it forget what it committed.
        """
        self.holder = f"process {os.getpid()} on {platform.node()}"
        self.partition = -1
        self._connection = engine.connect()
        try:
            with self._connection.begin():
                _require_durable(self._connection)
                known = self._connection.execute(_PARTITIONS).scalars().all()
                self.partition = self._take(chain(known, count(max(known, default=-1) + 1)))
                self._connection.execute(_NEW_PARTITION, {"number": self.partition})
        except BaseException:
            self.release()
            raise

    def _take(self, numbers: Iterator[int]) -> int:
        number = next(number for number in numbers if _try(self._connection, _PARTITION, number))
        self._locked = self._connection.connection.driver_connection
        return number

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """See `Hold`."""
        with self._connection.begin():
            session = self._connection.connection.driver_connection
            # A session that was lost took the lock with it. Until it is ours again the token alone protects us.
            if session is not self._locked and _try(self._connection, _PARTITION, self.partition):
                self._locked = session
            yield self._connection

    def release(self) -> None:
        """See `Hold`."""
        _end(self._connection, _PARTITION, self.partition)


def connect(place: Place) -> PostgresDialect:
    """Return the dialect of a database.

    Raises:
        ConfigInvalid: no URL, or psycopg is not installed.
    """
    try:
        url = make_url(str(place)).set(drivername="postgresql+psycopg")
        return PostgresDialect(url)
    except (ArgumentError, ValueError):
        raise ConfigInvalid("bus.database is no URL of the form postgresql://user@host:port/database") from None
    except ImportError as missing:
        raise ConfigInvalid(f"PostgreSQL needs the extra: pip install 'gridpost[postgres]' ({missing})") from None


def _own_tools() -> ConfigInvalid:
    return ConfigInvalid("PostgreSQL has its own tools: pg_basebackup, pg_dump and pg_restore; see docs/operations.md")


_TRY = text("SELECT pg_try_advisory_lock(:kind, :number)")
_UNLOCK = text("SELECT pg_advisory_unlock(:kind, :number)")
_TRY_ALONE = text("SELECT pg_try_advisory_xact_lock(:kind, 0)")
_LOCK_ALL = text("SELECT pg_advisory_xact_lock(:kind, 0)")
_LOCK_SOME = text(
    "SELECT pg_advisory_xact_lock_shared(:all, 0) UNION ALL SELECT pg_advisory_xact_lock(:kind, number)"
    " FROM unnest(CAST(:numbers AS integer[])) AS number"
)
_STILL_THERE = text("SELECT 1")
_WHO = text(
    "SELECT DISTINCT a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
    " WHERE l.locktype = 'advisory' AND l.classid = :kind AND a.datname = current_database() ORDER BY 1"
)
_PARTITIONS = text("SELECT partition FROM partition ORDER BY partition")
_NEW_PARTITION = text(
    "INSERT INTO partition (partition, token, holder, taken_at_utc_ms, interval_values, conflicts, gaps,"
    " register_readings, events) VALUES (:number, 0, '', 0, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING"
)
_DURABLE = ("fsync", "full_page_writes")


def _engine(url: URL, settings: dict[str, str], isolation: Any, **more: Any) -> Engine:
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    arguments: dict[str, str | int] = {
        "application_name": f"gridpost {platform.node()} {os.getpid()}"[:63],
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,  # milliseconds
        "options": f"{url.query.get('options', '')} {options}".strip(),
    }
    return create_engine(url, isolation_level=isolation, connect_args=arguments, **more)


def _share(connection: Any, _record: object) -> None:
    """Share the store from a session's first moment, so that nobody changes its tables under us."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock_shared(%s, 0)", (_STORE,))
        (shared,) = cursor.fetchone()
    connection.commit()
    if not shared:
        raise StoreUnavailable("the store's schema is being changed; try again when that is done")


def _try(connection: Connection, kind: int, number: int) -> bool:
    taken: bool = connection.execute(_TRY, {"kind": kind, "number": number}).scalar_one()
    return taken


def _end(connection: Connection, kind: int, number: int) -> None:
    """End a session and its lock: given back to the pool it would keep it."""
    with suppress(DBAPIError):  # the session may be gone already
        connection.rollback()
        connection.execute(_UNLOCK, {"kind": kind, "number": number})  # now, not when the server sees it end
        connection.rollback()
    connection.invalidate()
    connection.close()


def _require_durable(connection: Connection) -> None:
    """A receipt means stored: not on a server that may lose what it said it had committed."""
    version: Any = connection.execute(text("SHOW server_version_num")).scalar_one()
    if int(version) < OLDEST_SERVER:
        raise StoreUnavailable(f"PostgreSQL {OLDEST_SERVER // 10_000} or later is needed")
    off = [name for name in _DURABLE if connection.execute(text(f"SHOW {name}")).scalar_one() != "on"]
    if off:
        raise StoreUnavailable(f"the PostgreSQL server has {' and '.join(off)} off: it could lose what it committed")


def _is_operational(problem: DBAPIError) -> bool:
    return any(kind.__name__ in {"OperationalError", "InterfaceError"} for kind in type(problem.orig).__mro__)
