"""The way out: cursors of the log's readers, rendered files that wait, dead letters, and the counts for `status`.

Statements only: those that write take a connection and run as the writer's jobs (`Writer.do`); those that read take
the reading connection. A reader's cursor and the files it rendered move in one transaction.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, and_, delete, exists, func, insert, select, update

from gridpost.errors import NotFound
from gridpost.model import DataVersion
from gridpost.ports import OutboxItem

from .on_file import entry_count
from .tables import cursor, dead_letter, entry, outbox, partition, refusal

_DEAD = exists().where(dead_letter.c.reader == outbox.c.reader, dead_letter.c.subject == outbox.c.name)
WATCHER = "quoted-receipts"  # the reader that compares (missing.py) and carries nothing out: no business of `status`
_WAITING = and_(outbox.c.delivered_at_utc_ms.is_(None), ~_DEAD)


class Rendered(NamedTuple):
    """A file that was queued once."""

    name: str
    sha256: bytes


class DeadLetter(NamedTuple):
    """What was given up and waits for a person.

    `subject`: a file's name, or meter and ``YYYYMMDD`` of a day. Without a `reason` it is to be tried again.
    """

    reader: str
    subject: str
    reason: str
    dead_at_utc_ms: int


@dataclass(frozen=True, slots=True)
class ReaderStatus:
    """How far a reader is; `lag` counts the entries behind its cursor."""

    reader: str
    version: DataVersion
    lag: int
    waiting: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class Status:
    """Counts over the whole store; `refusals` by error code."""

    entries: int
    interval_values: int
    register_readings: int
    events: int
    conflicts: int
    gaps: int
    newest_recorded_at_utc_ms: int
    refusals: Mapping[str, int]
    readers: tuple[ReaderStatus, ...]


class Tallies(NamedTuple):
    """What one partition of the log holds."""

    partition: int
    entries: int
    interval_values: int
    conflicts: int
    gaps: int
    register_readings: int
    events: int


def version_text(version: DataVersion) -> str:
    """Return a data version as JSON text, partitions ascending."""
    return json.dumps({str(number): version[number] for number in sorted(version)})


def parse_version(text: str) -> DataVersion:
    """Return what `version_text` was given."""
    return {int(number): seq for number, seq in json.loads(text).items()}


def read_cursor(connection: Connection, reader: str) -> tuple[DataVersion, Mapping[str, object]]:
    """See `ports.Store.cursor`."""
    row = connection.execute(select(cursor).where(cursor.c.reader == reader)).one_or_none()
    return ({}, {}) if row is None else (parse_version(row.version), json.loads(row.state))


def advance(
    connection: Connection, reader: str, place: tuple[str, str], items: Sequence[OutboxItem], now_utc_ms: int
) -> None:
    """Move a reader to `place` (version and state as JSON text) and queue its files; a known name stays."""
    columns = dict(zip(("version", "state"), place, strict=True))
    if not connection.execute(update(cursor).where(cursor.c.reader == reader).values(columns)).rowcount:
        connection.execute(insert(cursor), {"reader": reader} | columns)
    for item in items:
        known = select(outbox.c.id).where(outbox.c.reader == reader, outbox.c.name == item.name)
        if connection.execute(known).first() is None:
            connection.execute(insert(outbox), _outbox_row(reader, item, now_utc_ms))


def pending(connection: Connection, limit: int, reader: str | None = None) -> list[OutboxItem]:
    """Return the oldest files, of one reader or all, that wait for delivery and are not given up."""
    query = select(outbox).where(_WAITING).order_by(outbox.c.id).limit(limit)
    rows = connection.execute(query if reader is None else query.where(outbox.c.reader == reader))
    return [OutboxItem(row.reader, row.name, row.content, row.sha256, parse_version(row.version)) for row in rows]


def rendered(connection: Connection, reader: str, stem: str) -> list[Rendered]:
    """Return the revisions of a file, ``<stem><digits>.<suffix>``, oldest first, delivered or not."""
    query = select(outbox.c.name, outbox.c.sha256).where(outbox.c.reader == reader).order_by(outbox.c.id)
    named = query.where(outbox.c.name >= stem, outbox.c.name < stem + ":")  # ":" is the character after "9"
    revision = re.compile(re.escape(stem) + r"[0-9]+\.[^.]+\Z")
    return [Rendered(*row) for row in connection.execute(named) if revision.match(row.name)]


def delivered(connection: Connection, key: tuple[str, str], place: str, at_utc_ms: int) -> None:
    """Note that the file `key` (reader, name) is at `place`; the first delivery noted stays.

    Raises:
        NotFound: no such file was queued.
    """
    named = (outbox.c.reader == key[0], outbox.c.name == key[1])
    if connection.execute(select(outbox.c.id).where(*named)).first() is None:
        raise NotFound(f"{key[0]} queued no file {key[1]}")
    connection.execute(
        update(outbox)
        .where(*named, outbox.c.delivered_at_utc_ms.is_(None))
        .values(place=place, delivered_at_utc_ms=at_utc_ms)
    )


def give_up(connection: Connection, letter: DeadLetter) -> None:
    """File a dead letter; a file of that name is no longer pending. One already given up stays, unless tried again."""
    same = (dead_letter.c.reader == letter.reader, dead_letter.c.subject == letter.subject)
    connection.execute(delete(dead_letter).where(*same, dead_letter.c.reason == ""))
    if connection.execute(select(dead_letter.c.id).where(*same)).first() is None:
        connection.execute(insert(dead_letter), letter._asdict())


def try_again(connection: Connection) -> int:
    """Let all dead letters be tried again and return how many: files wait anew, days are marked for their reader."""
    queued = exists().where(outbox.c.reader == dead_letter.c.reader, outbox.c.name == dead_letter.c.subject)
    files = connection.execute(delete(dead_letter).where(queued)).rowcount
    return files + connection.execute(update(dead_letter).values(reason="")).rowcount


def forget(connection: Connection, reader: str, subjects: Sequence[str]) -> None:
    """Take those dead letters away: what they name is done."""
    for subject in subjects:
        connection.execute(delete(dead_letter).where(dead_letter.c.reader == reader, dead_letter.c.subject == subject))


def dead_letters(connection: Connection) -> list[DeadLetter]:
    """Return all dead letters, oldest first."""
    columns = (dead_letter.c.reader, dead_letter.c.subject, dead_letter.c.reason, dead_letter.c.dead_at_utc_ms)
    return [DeadLetter(*row) for row in connection.execute(select(*columns).order_by(dead_letter.c.id))]


def add_refusals(connection: Connection, counts: Mapping[str, int]) -> None:
    """Add to the refusals counted by code."""
    for code, count in sorted(counts.items()):
        known = update(refusal).where(refusal.c.code == code).values(count=refusal.c.count + count)
        if not connection.execute(known).rowcount:
            connection.execute(insert(refusal), {"code": code, "count": count})


def status(connection: Connection) -> Status:
    """Return the store's counts: kept sums and ends of the log, so that no entry or reading is walked over."""
    held = connection.execute(select(partition)).all()
    newest = [_newest(connection, row.partition) for row in held]
    counts = {row.partition: entry_count(connection, row.partition) for row in held}
    refusals = connection.execute(select(refusal.c.code, refusal.c.count).order_by(refusal.c.code))
    return Status(
        entries=sum(counts.values()),
        interval_values=sum(row.interval_values for row in held),
        register_readings=sum(row.register_readings for row in held),
        events=sum(row.events for row in held),
        conflicts=sum(row.conflicts for row in held),
        gaps=sum(row.gaps for row in held),
        newest_recorded_at_utc_ms=max(newest, default=0),
        refusals={row[0]: row[1] for row in refusals},
        readers=_readers(connection, counts),
    )


def tallies(connection: Connection, number: int) -> Tallies:
    """Return one partition's counts."""
    kept = [partition.c[name] for name in Tallies._fields[2:]]
    row = connection.execute(select(*kept).where(partition.c.partition == number)).one()
    return Tallies(number, entry_count(connection, number), *row)


def _readers(connection: Connection, counts: Mapping[int, int]) -> tuple[ReaderStatus, ...]:
    waiting = connection.execute(select(outbox.c.reader, func.count()).where(_WAITING).group_by(outbox.c.reader))
    dead = connection.execute(select(dead_letter.c.reader, func.count()).group_by(dead_letter.c.reader))
    by_reader: dict[str, int] = {row[0]: row[1] for row in waiting}
    dead_by_reader: dict[str, int] = {row[0]: row[1] for row in dead}
    found = []
    for row in connection.execute(select(cursor).where(cursor.c.reader != WATCHER).order_by(cursor.c.reader)).all():
        version = parse_version(row.version)
        lag = sum(count - 1 - version.get(number, -1) for number, count in counts.items())
        waits, given_up = by_reader.get(row.reader, 0), dead_by_reader.get(row.reader, 0)
        found.append(ReaderStatus(row.reader, version, lag, waits, given_up))
    pushes = sorted(dead_by_reader.keys() - {one.reader for one in found})  # have a mailbox, not a cursor of the log
    return (*found, *(ReaderStatus(reader, {}, 0, 0, dead_by_reader[reader]) for reader in pushes))


def _newest(connection: Connection, number: int) -> int:
    query = select(entry.c.recorded_at_utc_ms).where(entry.c.partition == number).order_by(entry.c.seq.desc()).limit(1)
    return connection.execute(query).scalar_one_or_none() or 0


def _outbox_row(reader: str, item: OutboxItem, now_utc_ms: int) -> dict[str, object]:
    return {
        "reader": reader,
        "name": item.name,
        "sha256": item.sha256,
        "version": version_text(item.version),
        "queued_at_utc_ms": now_utc_ms,
        "content": item.content,
    }
