"""Copies of an SQLite store: a backup beside a running bus, and a backup put back. Files in, files out.

A backup is one file without a write-ahead log, made under another name, checked, synced and renamed, so it is whole or
absent. Its snapshot is pinned by a read transaction: the bus goes on writing, and the copy does not begin again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL, create_engine, insert
from sqlalchemy.exc import DBAPIError

from gridpost import merkle
from gridpost.errors import AlreadyExists, FileInvalid, FileUnwritable, GridpostError, NotFound, StoreUnavailable

from . import schema
from .engine import Head, Progress, Summary
from .on_file import load_head
from .tables import partition, restoration

PAGES = 2048  # between two signs of progress; 8 MiB
_BESIDE = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a file and finds by its name


def copy(source: Path, target: Path, progress: Progress) -> Summary:
    """See `upkeep.backup`."""
    if target.exists():
        raise AlreadyExists(f"{target} exists; a backup never overwrites one")
    with _placed(target) as partial:
        try:
            _copy_pages(source, partial, progress)
        except sqlite3.Error as problem:
            raise StoreUnavailable(f"{source} cannot be copied: {problem}") from problem
        try:
            found, heads = _checked(partial)
        except FileInvalid as problem:
            raise StoreUnavailable(f"the store is damaged, or changed under the copy: {problem.reason}") from problem
    return Summary(target, target.stat().st_size, found, heads)


def put_back(source: Path, target: Path, now_utc_ms: int, replace: bool) -> Summary:
    """See `upkeep.restore`; the caller holds the store's serve lock."""
    if not source.is_file():
        raise NotFound(f"there is no backup {source}")
    if target.exists() and not replace:
        raise AlreadyExists(f"{target} is a store; --replace keeps it under another name and puts the backup there")
    stamp = datetime.fromtimestamp(now_utc_ms // 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = target.with_name(f"{target.name}.replaced-{stamp}")
    with _placed(target, aside=kept) as partial:
        try:
            _copy_pages(source, partial, lambda _done, _of: None)
        except sqlite3.Error as problem:
            raise FileInvalid(f"{source} is no backup of a store, or damaged: {problem}") from problem
        found, heads = _checked(partial)
        _note(partial, heads, now_utc_ms)
    return Summary(target, target.stat().st_size, found, heads, kept if kept.exists() else None)


@contextmanager
def _placed(target: Path, aside: Path | None = None) -> Iterator[Path]:
    """Lend a private file beside `target` that takes its name at the end, synced; on an exception it is gone.

    What has that name then goes `aside` with what SQLite keeps beside it: a log left behind would be replayed into the
    new file. Without `aside` nothing may have it.
    """
    partial = target.with_name(f".{target.name}.partial")
    try:
        _remove(partial)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        yield partial
        _sync(partial)
        if aside is None:
            os.link(partial, target)  # unlike a rename it never replaces
            partial.unlink()
        else:
            _change_places(partial, target, aside)
        _sync(target.parent)
    except FileExistsError:
        raise AlreadyExists(f"{target} exists") from None
    except OSError as problem:
        raise FileUnwritable(f"{target}: {problem.strerror}") from problem
    finally:
        with contextlib.suppress(OSError):
            _remove(partial)


def _change_places(partial: Path, target: Path, aside: Path) -> None:
    for end in ("", *_BESIDE):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{target}{end}", f"{aside}{end}")
    os.rename(partial, target)


def _copy_pages(source: Path, target: Path, progress: Progress) -> None:
    with closing(sqlite3.connect(source, isolation_level=None)) as old, closing(sqlite3.connect(target)) as new:
        old.execute("BEGIN")
        old.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the snapshot is as of now, until `old` is closed
        old.backup(new, pages=PAGES, progress=lambda _state, left, whole: progress(whole - left, whole))
        new.execute("PRAGMA journal_mode=DELETE").fetchone()  # one file, nothing beside it


def _checked(file: Path) -> tuple[str, tuple[Head, ...]]:
    """Read every page of a copy, hold it against its own indexes and references, and return its schema and heads.

    Raises:
        FileInvalid: something does not fit, or its schema is none that this program knows.
    """
    with closing(sqlite3.connect(file)) as copy_:
        try:
            found = [row[0] for row in copy_.execute("PRAGMA integrity_check(3)")]
            found += [f"{row[0]} row {row[1]}" for row in copy_.execute("PRAGMA foreign_key_check")]
        except sqlite3.Error as problem:
            raise FileInvalid(f"{file.name}: {problem}") from problem
    if found != ["ok"]:
        raise FileInvalid(f"{file.name} is damaged: {'; '.join(found[:3])}")
    engine = create_engine(URL.create("sqlite", database=str(file)))
    try:
        with engine.connect() as connection:
            revision = schema.current(connection)
            if not revision or revision > schema.SCHEMA:
                schema.require(connection)
            numbers = connection.execute(partition.select().order_by(partition.c.partition)).scalars().all()
            heads = [load_head(connection, number) for number in numbers]
    except (GridpostError, DBAPIError) as problem:
        raise FileInvalid(f"{file.name}: {problem}") from problem
    finally:
        engine.dispose()
    return revision, tuple(Head(one.partition, one.frontier.size, merkle.root(one.frontier)) for one in heads)


def _note(file: Path, heads: tuple[Head, ...], now_utc_ms: int) -> None:
    """Keep in the store from which number on its partitions may lack what devices hold receipts for."""
    engine = create_engine(URL.create("sqlite", database=str(file)))
    with engine.begin() as connection:
        if schema.current(connection) >= "0002":  # an older store takes the note when devices tell
            rows = [{"partition": one.partition, "restored_at_utc_ms": now_utc_ms, "size": one.size} for one in heads]
            connection.execute(insert(restoration), rows)
    engine.dispose()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(partial: Path) -> None:
    for end in ("", *_BESIDE):
        Path(f"{partial}{end}").unlink(missing_ok=True)
