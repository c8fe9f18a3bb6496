"""The spool: what was measured and not yet receipted, in one SQLite file that survives any kill and power cut.

In: measured rows with the register stands they came from, events, receipts. Out: messages to send, oldest first.
Every method is one transaction (WAL, synchronous FULL), so there is no moment at which a process may not die. Rows
wait unsealed until `outgoing.py` cuts messages from them (decisions 18 to 20). `run`, `push` and `seal` are processes
side by side on this file.

No network, no clock, no meters here. SQL is here, in outgoing.py, and in the schema beside them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gridpost import units
from gridpost.errors import ConfigInvalid, StoreUnavailable
from gridpost.model import ChannelKey, EndDeviceEvent, Qualities, Quality

from .register_map import CLOCK_CHANGED, Stand
from .spool_schema import SCHEMA, UPGRADES, VERSION

BUSY_MS = 5000


class Row(NamedTuple):
    """One value to send: an interval of `interval_s`, or a register reading when that is 0."""

    channel: ChannelKey
    interval_s: int
    end_utc: int
    value: str | None
    qualities: Qualities


@dataclass(slots=True)
class Batch:
    """What one boundary brought; recorded whole or not at all.

    Attributes:
        stands: the registers the rows came from, as they stand now.
        rows: intervals and register readings.
        events: what happened.
    """

    stands: dict[ChannelKey, Stand] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    events: list[EndDeviceEvent] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.stands or self.rows or self.events)

    def add(self, later: Batch) -> None:
        """Append what came after, for one transaction that makes up for several."""
        self.stands.update(later.stands)
        self.rows += later.rows
        self.events += later.events


class Spool:
    """One open spool file; one thread uses it."""

    def __init__(
        self, path: Path, connect: Callable[..., sqlite3.Connection] = sqlite3.connect, *, keep_days: int = 0
    ) -> None:
        """Open or make the file.

        Args:
            path: of the file.
            connect: as `sqlite3.connect`; what fails on disks is told by its errors.
            keep_days: how long receipted values are kept to be sent again on request; 0: not at all.

        Raises:
            StoreUnavailable: it cannot be opened.
            ConfigInvalid: a newer Gridpost wrote it.
        """
        self.keep_s = keep_days * 86400
        with _told():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # consumption is personal data
            self._db = connect(path, isolation_level=None)
            self._db.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
        self._make_schema(path)

    def _make_schema(self, path: Path) -> None:
        with self.transaction() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise ConfigInvalid(f"{path} was written by a newer Gridpost (spool version {version} > {VERSION})")
            missing = [step for number, steps in UPGRADES.items() if number > version for step in steps]
            for statement in missing if version else SCHEMA:
                db.execute(statement)
            db.execute(f"PRAGMA user_version={VERSION}")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # --- measuring ---------------------------------------------------------------------------------------------------

    def stands(self) -> dict[ChannelKey, Stand]:
        """Return each channel's register as it stood at its last boundary."""
        found = self.rows(
            "SELECT usage_point, meter, stream, reading_type, end_utc, raw, scale, flags, used"
            " FROM stand JOIN channel ON channel.id = stand.channel"
        )
        return {
            ChannelKey(*names): Stand(end_utc, raw, scale, qualities_of(flags), tuple(map(tuple, json.loads(used))))
            for *names, end_utc, raw, scale, flags, used in found
        }

    def record(self, batch: Batch, *, measured: bool = True) -> None:
        """Keep a batch: rows, events and the stands behind them in one transaction.

        Args:
            batch: what to keep.
            measured: by this device's clock, so that a wrong clock concerns it; not so for a file's readings.

        Raises:
            StoreUnavailable: disk full or unusable; nothing was kept, the caller keeps it and comes again.
        """
        with self.transaction() as db:
            self.put(db, batch, measured=measured)

    def put(self, db: sqlite3.Connection, batch: Batch, *, measured: bool = True) -> None:
        """Keep a batch inside a transaction, with what else belongs to it; as `record`."""
        self._insert_rows(db, batch.rows, measured)
        self._put_stands(db, batch.stands)
        for event in batch.events:
            db.execute("INSERT INTO event (content) VALUES (?)", (_event_text(event),))

    def flag_clock(self, detail: str, stands: Mapping[ChannelKey, Stand]) -> int:
        """Mark everything measured since the clock was last known right with quality 1.4.9; return how many values.

        What waits is marked in place. What is already in a message, or receipted, is put in again, same value with
        the mark, to go out as a new message; never re-stamped (decision 18).
        """
        flag = Quality(CLOCK_CHANGED, detail)
        with self.transaction() as db:
            unproven = db.execute(
                "SELECT id, channel, interval_s, end_utc, value, qualities, message IS NULL AND NOT sent FROM reading"
                " WHERE measured AND NOT flagged AND value IS NOT NULL AND id > ?",
                (self.meta(db, "proven_row"),),
            ).fetchall()
            for number, channel, interval_s, end_utc, value, text, waits in unproven:
                known = qualities_of(text)
                fresh = any(quality.code == CLOCK_CHANGED for quality in known)
                text = text if fresh else qualities_text((*known, flag))
                db.execute("UPDATE reading SET flagged = 1 WHERE id = ?", (number,))
                if waits:
                    db.execute("UPDATE reading SET qualities = ? WHERE id = ?", (text, number))
                elif not fresh:
                    db.execute(
                        "INSERT INTO reading (channel, interval_s, end_utc, value, qualities, measured, flagged)"
                        " VALUES (?, ?, ?, ?, ?, 1, 1)",
                        (channel, interval_s, end_utc, value, text),
                    )
            self._put_stands(db, stands)
        return len(unproven)

    def _insert_rows(self, db: sqlite3.Connection, rows: Iterable[Row], measured: bool) -> None:
        db.executemany(
            "INSERT INTO reading (channel, interval_s, end_utc, value, qualities, measured) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (self._channel(db, key), interval_s, end_utc, value, qualities_text(qualities), measured)
                for key, interval_s, end_utc, value, qualities in rows
            ],
        )

    def _put_stands(self, db: sqlite3.Connection, stands: Mapping[ChannelKey, Stand]) -> None:
        for key, stand in stands.items():
            values = (stand.end_utc, stand.raw, stand.scale, qualities_text(stand.flags), json.dumps(stand.used))
            db.execute("INSERT OR REPLACE INTO stand VALUES (?, ?, ?, ?, ?, ?)", (self._channel(db, key), *values))

    def _channel(self, db: sqlite3.Connection, key: ChannelKey) -> int:
        columns = "usage_point, meter, stream, reading_type"
        db.execute(f"INSERT OR IGNORE INTO channel ({columns}) VALUES (?, ?, ?, ?)", tuple(key))
        found = db.execute(f"SELECT id FROM channel WHERE ({columns}) = (?, ?, ?, ?)", tuple(key)).fetchone()
        number: int = found[0]
        return number

    # --- what all share ----------------------------------------------------------------------------------------------

    def pins(self) -> dict[bytes, bytes]:
        """Return every bus certificate ever trusted: SHA-256 -> DER."""
        return dict(self.rows("SELECT sha256, certificate FROM pin"))

    def pin(self, certificate: bytes, now_utc_ms: int) -> None:
        """Keep a bus certificate whose answer was verified; again changes nothing."""
        digest = hashlib.sha256(certificate).digest()
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO pin VALUES (?, ?, ?)", (digest, certificate, now_utc_ms))

    def clock_offset_ms(self) -> int:
        """Return bus time minus this device's clock, as a signed refusal last told it; 0 while none did."""
        return self.meta(self._db, "clock_offset_ms")

    def set_clock_offset_ms(self, offset_ms: int) -> None:
        """Keep it: every process seals by it."""
        with self.transaction() as db:
            self.put_meta(db, "clock_offset_ms", offset_ms)

    def booted(self, boot: int) -> bool:
        """Tell whether the machine was started since the last call, going by a number that each start changes."""
        with self.transaction() as db:
            known = self.meta(db, "boot")
            self.put_meta(db, "boot", boot)
        return boot != known

    def status(self) -> dict[str, object]:
        """Return what ``gridpost-ied status`` shows."""
        counts = "SELECT count(*) FILTER (WHERE NOT sent), count(*) FILTER (WHERE sent) FROM reading"
        ((waiting, kept),) = self.rows(counts)
        ((events,),) = self.rows("SELECT count(*) FROM event")
        ((receipts,),) = self.rows("SELECT count(*) FROM receipt")
        columns = "id, sequence, noun, state, attempts, code, reason, made_utc_ms, items"
        names = ("message_id", "sequence", "noun", "state", "attempts", "code", "reason")
        listed: list[dict[str, object]] = [
            dict(zip(names, row, strict=True))
            | {"made_utc": units.format_utc_ms(made_utc_ms), "items": [_item(*item) for item in json.loads(items)]}
            for *row, made_utc_ms, items in self.rows(f"SELECT {columns} FROM message ORDER BY sequence")
        ]
        newest = "SELECT message_id, partition, seq, recorded_at_utc_ms FROM receipt ORDER BY recorded_at_utc_ms DESC"
        last = self.rows(f"{newest} LIMIT 1")
        return {
            "readings_waiting": waiting,
            "readings_kept_until_clock_proven": kept,
            "events_waiting": events,
            "messages_pending": sum(item["state"] == "pending" for item in listed),
            "messages_refused": sum(item["state"] == "refused" for item in listed),
            "messages": listed,
            "receipts": receipts,
            "last_receipt": {
                "message_id": last[0][0], "partition": last[0][1], "seq": last[0][2],
                "recorded_at": units.format_utc_ms(last[0][3]),
            } if last else None,
            "sequence": self.meta(self._db, "sequence"),
            "clock_offset_ms": self.clock_offset_ms(),
        }  # fmt: skip

    def receipts(self) -> Iterator[tuple[str, bytes]]:
        """Yield (message id, signed receipt) of all receipts kept, oldest first."""
        yield from self.rows("SELECT message_id, raw FROM receipt ORDER BY recorded_at_utc_ms")

    def meta(self, db: sqlite3.Connection, key: str) -> int:
        """Return a counter of the spool; 0 while it was never set."""
        found = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return found[0] if found else 0

    def meta_now(self, key: str) -> int:
        """Return a counter of the spool outside a transaction."""
        with _told():
            return self.meta(self._db, key)

    def put_meta(self, db: sqlite3.Connection, key: str, value: int) -> None:
        """Set a counter inside a transaction."""
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """Return the rows of a query."""
        with _told():
            return self._db.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run a block as one transaction that holds the file's write lock from its start.

        Raises:
            StoreUnavailable: it could not be done; nothing of it was.
        """
        with _told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # SQLite rolls back by itself on a full disk; then there is nothing left to roll back.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(f"the spool cannot be written or read: {error}") from error


def qualities_of(text: str) -> Qualities:
    """Read qualities as the spool keeps them."""
    return tuple(Quality(code, detail) for code, detail in json.loads(text))


def qualities_text(qualities: Qualities) -> str:
    """Write qualities as the spool keeps them."""
    return json.dumps(qualities)


def _item(code: str, reason: str, path: str) -> dict[str, str]:
    return {"code": code, "reason": reason, "path": path}


def _event_text(event: EndDeviceEvent) -> str:
    return json.dumps(asdict(event) | {"details": dict(event.details)})
