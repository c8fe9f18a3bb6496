"""The store: the log of entries, the readings in it, who may write, and what goes out. The only room with SQL.

`create(place)` makes one, `open_store(place, clock)` opens it for reading and administration in any process, and
`open_store(place, clock, serve=True)` in one that writes the log: one process on SQLite, any number on PostgreSQL, each
with a partition of its own. `SqlStore` fulfils `gridpost.ports.Store`.

    record, advance, delivered ... -> writer.py (one thread) -> group.py -> gridpost/log.py (pure) -> commit -> future
    find, readings, entries ...    -> reading.py, outbox.py   one connection in autocommit
    add_ied, revoke, renew ...     -> enrolments.py, keys.py, revocations.py   plain transactions, any process

An engine is a file like `sqlite.py` or `postgres.py` and a line in `engine.py`. `upkeep.py` changes a store as a whole:
schema, backup, restore.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from gridpost.errors import StoreUnavailable
from gridpost.model import DataVersion, Entry, Position, Rows
from gridpost.ports import Clock, MakeReceipt, OutboxItem

from . import missing, outbox, schema
from .archive import Archive
from .configs import Configs
from .controls import ControlOnFile, Controls
from .documents import Documents
from .engine import Dialect, Hold, Place, connect, told
from .enrolments import CertificateStatus, Enrolments, IedStatus
from .entry_rows import EntryRows, StoredEvent, StoredRegister, page_of
from .keys import NewKey, Renewal
from .mailbox import Mailboxes, Posted
from .missing import Missing, Quote
from .outbox import DeadLetter, ReaderStatus, Status, Tallies
from .partners import PartnerKey, Partners
from .reading import Reading
from .readings import ChannelReadings
from .revocations import Alarms, Crl, Ending, Revocations, Revoked, add_alarms
from .tasks import Task, Tasks
from .writer import OnFatal, Writer

__all__ = [
    "Alarms",
    "CertificateStatus",
    "ControlOnFile",
    "Crl",
    "DeadLetter",
    "Ending",
    "IedStatus",
    "Missing",
    "NewKey",
    "PartnerKey",
    "Place",
    "Posted",
    "Quote",
    "ReaderStatus",
    "Renewal",
    "Revoked",
    "SqlStore",
    "Status",
    "StoredEvent",
    "StoredRegister",
    "Tallies",
    "Task",
    "create",
    "open_store",
    "page_of",
]

T = TypeVar("T")


def create(place: Place) -> bool:
    """Make the store at a place; tell whether there was none. Doing it again changes nothing.

    Raises:
        StoreUnavailable: it cannot be made there, or there is one whose schema is not this program's.
        ConfigInvalid: the place is a URL of an unknown kind, or its driver is not installed.
    """
    dialect = connect(place)
    try:
        dialect.prepare()
        with dialect.writing.begin() as connection:
            found = schema.current(connection)
            if found:
                schema.require(connection)
            else:
                schema.move(connection, schema.SCHEMA)
            return not found
    except DBAPIError as problem:
        raise StoreUnavailable(f"cannot make a store at {dialect.place}: {told(problem)}") from problem
    finally:
        dialect.close()


def open_store(place: Place, clock: Clock, *, serve: bool = False, on_fatal: OnFatal | None = None) -> SqlStore:
    """Open the store at a place; `close` it in the end.

    Args:
        place: made by `create`.
        clock: UTC milliseconds.
        serve: become one of the processes that write the log, each a partition of its own.
        on_fatal: called once, from the writer's thread, when the store can no longer be trusted: stop the process.

    Raises:
        NotFound: there is no such file.
        ConfigInvalid: the place is a URL of an unknown kind, or its driver is not installed.
        StoreUnavailable: no further process may serve it, its schema is not this program's, or it cannot be reached.
    """
    with ExitStack() as undo:
        dialect = connect(place)
        undo.callback(dialect.close)
        dialect.require()
        try:
            with dialect.reading.connect() as connection:
                schema.require(connection)
            hold = dialect.hold() if serve else None
            if hold:
                undo.callback(hold.release)
            store = SqlStore(dialect, clock, hold, on_fatal or _ignore)
        except DBAPIError as problem:
            raise StoreUnavailable(f"cannot open the store at {dialect.place}: {told(problem)}") from problem
        undo.pop_all()
        return store


class SqlStore(
    ChannelReadings, Revocations, Archive, Partners, Controls, Mailboxes, EntryRows, Configs, Documents, Tasks
):
    """`gridpost.ports.Store` on a database, with the enrolment and delivery verbs beside it.

    Without `serve` everything that goes through the writer fails with StoreUnavailable.
    """

    def __init__(self, dialect: Dialect, clock: Clock, hold: Hold | None, on_fatal: OnFatal) -> None:
        Reading.__init__(self, dialect, clock)
        Enrolments.__init__(self, dialect, clock)
        self._hold = hold
        self._writer = Writer(dialect, hold, clock, on_fatal) if hold else None

    def close(self) -> None:
        """Write what is queued, stop the writer, let go of the store; calling it again does nothing."""
        if self._writer:
            self._writer.close()
        if self._hold:
            self._hold.release()
        self._hold = None
        Reading.close(self)
        self._dialect.close()

    def leads(self) -> bool:
        """Tell whether this process is the one that runs the log's readers; ask before each of their steps."""
        return self._hold is not None and self._dialect.lead()

    def is_led(self) -> bool:
        """Tell whether another process runs the log's readers; for one that does not serve. Until `close` none will.

        An engine with one serving process cannot tell: there, opening the store to serve it says so.
        """
        return not self._dialect.lead()

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

    def start_behind(self, reader: str) -> None:
        """Let a reader that never ran start where the log is now: what is long past is nothing to act on.

        Raises:
            StoreUnavailable: try again.
        """
        newest = self.version()
        if newest and not self.cursor(reader)[0]:
            self.advance(reader, newest, {}, ()).result()

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

    def forget_dead_letters(self, reader: str, subjects: Sequence[str]) -> Future[None]:
        """Take dead letters away whose day was written after all.

        The future raises:
            StoreUnavailable: not taken away.
        """
        return self._do(lambda connection: outbox.forget(connection, reader, subjects))

    def retry_dead_letters(self) -> int:
        """Let all dead letters be tried again by the running bus; return how many. For commands beside it.

        Raises:
            StoreUnavailable: nothing was changed.
        """
        with self._change() as connection:
            return outbox.try_again(connection)

    def add_refusals(self, counts: Mapping[str, int]) -> Future[None]:
        """Add refusals counted by error code.

        The future raises:
            StoreUnavailable: not counted.
        """
        counted = dict(counts)
        return self._do(lambda connection: outbox.add_refusals(connection, counted))

    def add_alarms(self, counts: Mapping[str, int]) -> Future[None]:
        """Add alarms counted by code.

        The future raises:
            StoreUnavailable: not counted.
        """
        counted, now = dict(counts), self._clock()
        return self._do(lambda connection: add_alarms(connection, counted, now))

    def note_missing(self, quoted: Sequence[Quote], found: Sequence[Missing]) -> Future[list[Missing]]:
        """Keep what devices hold receipts for and the log lacks, and that these quotes were looked at; yield the news.

        The future raises:
            StoreUnavailable: not noted.
        """
        reached = {one.position.partition: one.position.seq for one in quoted}

        def work(connection: Connection) -> list[Missing]:
            version, _ = outbox.read_cursor(connection, outbox.WATCHER)
            place = (outbox.version_text({**version, **reached}), "{}")
            outbox.advance(connection, outbox.WATCHER, place, (), self._clock())
            return missing.note(connection, found)

        return self._do(work)

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

    def quotes(self, limit: int) -> list[Quote]:
        """Return up to `limit` entries of each partition not looked at yet, with the receipt each quotes."""
        partitions = self.version()
        with self.connection() as connection:
            after, _ = outbox.read_cursor(connection, outbox.WATCHER)
            return missing.quotes(connection, partitions, after, limit)

    def standing(self, positions: Sequence[Position]) -> Mapping[Position, tuple[str, bytes]]:
        """Return sender and receipt of those positions that have an entry."""
        with self.connection() as connection:
            return missing.standing(connection, positions)

    def lost_from(self, position: Position, root: bytes) -> int:
        """Return from which number on the log lacks what it once had, when it lacks the entry a receipt was given for.

        Args:
            position: of that entry.
            root: the root before it, as the receipt states it: where ours is the same, nothing before it is missing.
        """
        size = self.version().get(position.partition, -1) + 1
        if position.seq <= size and self.root(position.partition, position.seq) == root:
            return position.seq
        with self.connection() as connection:
            return missing.lost_from(connection, position, size)

    def missing_entries(self) -> list[Missing]:
        """Return what devices hold receipts for and the log lacks, by sender."""
        with self.connection() as connection:
            return missing.missing(connection)

    def is_healthy(self) -> bool:
        """Tell whether `record` would be taken now."""
        return self._writer is not None and self._writer.is_healthy()

    def dead_letters(self) -> list[DeadLetter]:
        """Return what was given up, oldest first."""
        with self.connection() as connection:
            return outbox.dead_letters(connection)

    def tallies(self) -> Tallies:
        """Return the counts of the partition this process writes; only for one that serves."""
        assert self._hold is not None
        with self._look() as connection:
            return outbox.tallies(connection, self._hold.partition)

    @property
    def writer(self) -> Writer | None:
        """What writes this process's partition: how much waits, how large its groups are, how long a commit takes."""
        return self._writer

    def status(self) -> Status:
        """Return the store's counts and each reader's place."""
        with self._look() as connection:  # not the one that messages wait for
            return outbox.status(connection)


def _ignore(_problem: BaseException) -> None:
    """Stand in for `on_fatal`: the writer refuses everything from then on."""


def _not_serving() -> Future[T]:
    future: Future[T] = Future()
    future.set_exception(StoreUnavailable("only the process that serves the store writes its log"))
    return future
