"""What the rest of the store knows of an engine: two SQLAlchemy engines and a handful of capabilities, never its name.

A place (a path, or a URL with a scheme) leads to a file of this room by the table ENGINES; that file fulfils `Dialect`.
A third engine is one file, one line here, and `tests/contract/test_store.py` passed as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import DBAPIError

from gridpost.errors import ConfigInvalid, StoreUnavailable

Place = Path | str  # an SQLite file, or a URL such as postgresql://bus@db.example.org/gridpost

# scheme -> the module whose `connect(place)` returns its Dialect; imported only when it is used.
ENGINES: Mapping[str, str] = {"": ".sqlite", "postgresql": ".postgres"}


class Verdict(Enum):
    """What an exception from a transaction means for the writer."""

    DATA = "the entry's own data"
    AGAIN = "another process was faster: the same transaction, begun anew, sees what that one committed"
    LATER = "cannot now"
    FATAL = "the store can no longer be trusted from this process"


class TooSlow(Exception):
    """A transaction took so long that its recorded time may no longer be committed (decision 4)."""


class Hold(Protocol):
    """A partition of the log, held by this process and no other until `release` or the process's end."""

    @property
    def partition(self) -> int:
        """Its number."""

    @property
    def holder(self) -> str:
        """This process, for people."""

    def transaction(self) -> AbstractContextManager[Connection]:
        """Run a block as one transaction that may write; commits at its end, rolls back on an exception."""

    def release(self) -> None:
        """Let another process take it."""


class Head(NamedTuple):
    """A partition as far as it goes: its number, how many entries, the RFC 9162 root over them."""

    partition: int
    size: int
    root: bytes


class Summary(NamedTuple):
    """What a backup holds, and where it was put; `replaced` is where the store before it is kept now."""

    file: Path
    octets: int
    schema: str
    heads: tuple[Head, ...]
    replaced: Path | None = None


Progress = Callable[[int, int], None]  # how much is done, of how much


class Dialect(Protocol):
    """An engine as the rest of the store sees it."""

    @property
    def place(self) -> str:
        """Where the store is, for people: no secrets in it."""

    @property
    def writing(self) -> Engine:
        """Its transactions begin with the right to write."""

    @property
    def reading(self) -> Engine:
        """Autocommit; each select sees the newest commit."""

    def prepare(self) -> None:
        """Make what must be there before the schema is made.

        Raises:
            StoreUnavailable: it cannot be made.
        """

    def require(self) -> None:
        """Look whether there can be a store at all.

        Raises:
            NotFound: there is no such file.
        """

    def change_mark(self, connection: Connection) -> int | None:
        """Return a number that moves whenever another connection commits; None when the engine has no such mark."""

    def verdict(self, problem: BaseException) -> Verdict:
        """Judge an exception raised inside a transaction, or by its begin or commit."""

    def insert(self, connection: Connection, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert rows given in the order of the table's columns; none is fine."""

    def lock_channels(self, connection: Connection, channels: Collection[int]) -> None:
        """Let no other writer compare or write versions of these channels before this transaction ends."""

    def hold(self) -> Hold:
        """Take a free partition of the log.

        Raises:
            StoreUnavailable: this engine has no further one; or the store would not keep what it commits.
        """

    def lead(self) -> bool:
        """Become the one process that runs the log's readers, or tell whether another one is; ask before each step."""

    def alone(self) -> AbstractContextManager[Connection]:
        """Run a block as one transaction while no other process serves the store; for what changes its tables.

        Raises:
            StoreUnavailable: another process does.
        """

    def copy_to(self, target: Path, progress: Progress) -> Summary:
        """See `upkeep.backup`."""

    def replace_by(self, source: Path, now_utc_ms: int, replace: bool) -> Summary:
        """See `upkeep.restore`."""

    def close(self) -> None:
        """Give all connections back, and the lead."""


def connect(place: Place) -> Dialect:
    """Return the dialect of the store at a place; nothing is opened or read yet.

    Raises:
        ConfigInvalid: the URL's scheme is none of ENGINES, or its driver is not installed.
        StoreUnavailable: the engine's library is too old.
    """
    scheme, separator, _ = place.partition("://") if isinstance(place, str) else ("", "", "")
    module = ENGINES.get(scheme if separator else "")
    if module is None:
        known = ", ".join(f"{name}://" for name in ENGINES if name)
        raise ConfigInvalid(f"a store is a file's path or a URL that begins with {known}, not {scheme}://")
    dialect: Dialect = import_module(module, __package__).connect(place)
    return dialect


def judge_ours(problem: BaseException) -> Verdict | None:
    """Judge what is the same for every engine; None: something else, for the engine to judge."""
    if isinstance(problem, TooSlow | MemoryError):
        return Verdict.LATER
    return Verdict.FATAL if isinstance(problem, StoreUnavailable | OSError) else None


def told(problem: DBAPIError) -> str:
    """Return the driver's own words, on one line."""
    return " ".join(str(problem.orig).split())
