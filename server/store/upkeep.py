"""What is done to a store as a whole: another schema, a backup, a backup put back.

In: a place. Out: what was found and done, for `gridpost migrate`, `backup` and `restore`. Only a backup is made beside
a running bus. Killed at any line, the store is as it was or as it was to be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from gridpost.errors import NotFound, StoreUnavailable

from . import schema
from .engine import Dialect, Place, Progress, Summary, connect, told


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Which schema a store has and which ones this program knows.

    Attributes:
        found: the store's.
        needed: this program's.
        known: revision -> one line that says what it brought, oldest first.
    """

    found: str
    needed: str
    known: Mapping[str, str]


def schema_state(place: Place) -> SchemaState:
    """Return which schema the store has; changes nothing and may be asked beside a running bus.

    Raises:
        NotFound, ConfigInvalid, StoreUnavailable: there is no such store, or it cannot be reached.
    """
    with _dialect(place) as dialect, dialect.reading.connect() as connection:
        return SchemaState(schema.current(connection), schema.SCHEMA, dict(schema.revisions()))


def migrate(place: Place, target: str | None = None) -> tuple[str, str]:
    """Bring a store to the schema `target`, this program's when None; return the schema before and after.

    One transaction, with nobody else serving the store and nobody able to begin: killed half-way it is as it was.

    Raises:
        NotFound: no such store, or no such schema.
        StoreUnavailable: a bus runs, it is no store, or it is of a newer Gridpost; nothing was changed.
    """
    target = target or schema.SCHEMA
    with _dialect(place) as dialect:
        if target not in dict(schema.revisions()):
            raise NotFound(f"no schema {target!r}; `gridpost migrate status` lists them")
        with dialect.alone() as connection:
            before = schema.current(connection)
            if not before:
                schema.require(connection)
            if before != target:
                schema.move(connection, target)
        return before, target


def backup(place: Place, target: Path, progress: Progress) -> Summary:
    """Copy a store, consistent as of one moment, checked, to a file that is whole or absent; the bus may run.

    Raises:
        AlreadyExists: `target` is there.
        FileUnwritable: it cannot be written.
        StoreUnavailable: the store is damaged, or cannot be read now.
        ConfigInvalid: this engine has its own tools.
    """
    with _dialect(place) as dialect:
        return dialect.copy_to(target, progress)


def restore(place: Place, source: Path, now_utc_ms: int, *, replace: bool) -> Summary:
    """Put a backup in a store's place; with `replace` an existing store is kept under another name.

    Raises:
        NotFound: no such backup.
        FileInvalid: it is damaged, no store, or of a newer Gridpost.
        AlreadyExists: there is a store and `replace` is not given.
        StoreUnavailable: a bus serves it.
        ConfigInvalid: this engine has its own tools.
    """
    with _dialect(place, may_lack=True) as dialect:
        return dialect.replace_by(source, now_utc_ms, replace)


@contextmanager
def _dialect(place: Place, *, may_lack: bool = False) -> Iterator[Dialect]:
    dialect = connect(place)
    try:
        if not may_lack:
            dialect.require()
        yield dialect
    except DBAPIError as problem:
        raise StoreUnavailable(f"{dialect.place}: {told(problem)}") from problem
    finally:
        dialect.close()
