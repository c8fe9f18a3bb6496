"""Messages out of the spool: cut from what waits, kept as made until their receipt, set aside when refused.

In: the spool, and ids and a moment from the caller. Out: messages to seal, oldest first. Each method is one
transaction on the spool's file; see spool.py for the rules of the room.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from gridpost import exchange, messages
from gridpost.model import (
    ChannelKey,
    CreatedEndDeviceEvents,
    EndDeviceEvent,
    Header,
    IntervalBlock,
    Readings,
    Receipt,
    Refusal,
    RegisterReading,
)

from .sealing import PLAIN, Form
from .spool import Row, Spool, qualities_of

MAX_BODY = 768 << 10  # octets of Body in one message
MAX_ROWS = 5000  # in one message; the bus caps an endpoint's markup at 100,000 '<', a flagged row has 12
MAX_EVENTS = 500
KEEP_RECEIPTS = 5000
KEEP_UNPROVEN = 200_000  # readings a device whose clock is never proven keeps for a later mark
MAX_POSTPONED_MS = 3600_000

_WAITING = (
    "SELECT reading.id, usage_point, meter, stream, reading_type, interval_s, end_utc, value, qualities"
    " FROM reading JOIN channel ON channel.id = channel WHERE message IS NULL AND NOT sent"
    " ORDER BY end_utc, reading.id LIMIT ?"
)
_NEWEST_RECEIPT = "SELECT partition, seq, root FROM receipt ORDER BY recorded_at_utc_ms DESC LIMIT 1"


class Pending(NamedTuple):
    """A message that waits for its receipt."""

    id: str
    sequence: int
    noun: str
    body: bytes
    attempts: int


class Draft(NamedTuple):
    """What a new message needs from outside: who sends it, when it is made, ids, and in which form readings go."""

    source: str
    now_utc_ms: int
    new_id: Callable[[], str]
    properties: tuple[tuple[str, str], ...] = ()
    form: Form = PLAIN


class Outgoing:
    """The messages of one spool."""

    def __init__(self, spool: Spool) -> None:
        """Work on `spool`'s file."""
        self._spool = spool

    def cut(self, draft: Draft) -> bool:
        """Make one message of the oldest that waits, readings before events; tell whether there was anything."""
        return self._cut_readings(draft) or self._cut_events(draft)

    def _cut_readings(self, draft: Draft) -> bool:
        with self._spool.transaction() as db:
            chosen = _one_version(db.execute(_WAITING, (MAX_ROWS,)).fetchall())
            if not chosen:
                return False
            header = self._header(db, draft, draft.form.noun)
            body = draft.form.encode(header, readings_of(map(_row, chosen)))
            while len(body) > MAX_BODY and len(chosen) > 1:
                chosen = chosen[: max(1, len(chosen) * MAX_BODY * 9 // (len(body) * 10))]
                body = draft.form.encode(header, readings_of(map(_row, chosen)))
            self._insert_message(db, header, body)
            marks = [(header.message_id, row[0]) for row in chosen]
            db.executemany("UPDATE reading SET message = ? WHERE id = ?", marks)
            return True

    def _cut_events(self, draft: Draft) -> bool:
        with self._spool.transaction() as db:
            oldest = "SELECT id, content FROM event WHERE message IS NULL ORDER BY id LIMIT ?"
            waiting = db.execute(oldest, (MAX_EVENTS,)).fetchall()
            if not waiting:
                return False
            header = self._header(db, draft, "EndDeviceEvents")
            events = tuple(EndDeviceEvent(**json.loads(content)) for _, content in waiting)
            self._insert_message(db, header, messages.encode(CreatedEndDeviceEvents(header, events)))
            marks = [(header.message_id, number) for number, _ in waiting]
            db.executemany("UPDATE event SET message = ? WHERE id = ?", marks)
            return True

    def header(self, draft: Draft, noun: str) -> Header:
        """Return the header of a message that is sealed into a file and not kept here."""
        with self._spool.transaction() as db:
            return self._header(db, draft, noun)

    def _header(self, db: sqlite3.Connection, draft: Draft, noun: str) -> Header:
        last = db.execute(_NEWEST_RECEIPT).fetchone()
        last_receipt = f"{last[0]}:{last[1]}:{last[2].hex()}" if last else ""
        number = self._next_sequence(db)
        named = ("created", noun, draft.now_utc_ms, draft.source, draft.new_id())
        return Header(*named, "", number, last_receipt, draft.properties)

    def _next_sequence(self, db: sqlite3.Connection) -> int:
        number = self._spool.meta(db, "sequence") + 1
        self._spool.put_meta(db, "sequence", number)
        return number

    def _insert_message(self, db: sqlite3.Connection, header: Header, body: bytes) -> None:
        db.execute(
            "INSERT INTO message (id, sequence, noun, body, digest, made_utc_ms) VALUES (?, ?, ?, ?, ?, ?)",
            (
                header.message_id, header.sequence, header.noun, body, exchange.content_digest(body),
                header.timestamp_utc_ms,
            ),
        )  # fmt: skip

    def next_pending(self, now_utc_ms: int) -> Pending | None:
        """Return the oldest message that may be sent now.

        A moment beyond the longest postponement was set by a clock that has stepped back since, and does not count.
        """
        found = self._spool.rows(
            "SELECT id, sequence, noun, body, attempts FROM message WHERE state = 'pending'"
            " AND NOT not_before_utc_ms BETWEEN ? AND ? ORDER BY sequence LIMIT 1",
            (now_utc_ms + 1, now_utc_ms + MAX_POSTPONED_MS),
        )
        return Pending(*found[0]) if found else None

    def readings_in(self, message_id: str) -> int:
        """Return how many readings a message that waits holds."""
        ((count,),) = self._spool.rows("SELECT count(*) FROM reading WHERE message = ?", (message_id,))
        return int(count)

    def attempted(self, message_id: str) -> None:
        """Count an attempt, before it is made."""
        with self._spool.transaction() as db:
            db.execute("UPDATE message SET attempts = attempts + 1 WHERE id = ?", (message_id,))

    def postpone(self, message_id: str, not_before_utc_ms: int) -> None:
        """Let the queue go on without a message until a moment."""
        with self._spool.transaction() as db:
            db.execute("UPDATE message SET not_before_utc_ms = ? WHERE id = ?", (not_before_utc_ms, message_id))

    def refuse(self, message_id: str, refusal: Refusal) -> None:
        """Set a message aside with every finding: the bus will not take it as it is (decision 20)."""
        with self._spool.transaction() as db:
            db.execute(
                "UPDATE message SET state = 'refused', code = ?, reason = ?, items = ? WHERE id = ?",
                (refusal.code, refusal.reason, json.dumps(refusal.items), message_id),
            )

    def retry(self) -> int:
        """Put all refused messages back into the queue, Body unchanged; return how many."""
        with self._spool.transaction() as db:
            return db.execute(
                "UPDATE message SET state = 'pending', not_before_utc_ms = 0, code = '', reason = '', items = '[]'"
                " WHERE state = 'refused'"
            ).rowcount

    def receipted(self, receipt: Receipt, raw: bytes, *, clock_proven: bool) -> None:
        """Forget a message, for its receipt was verified: the only place where measured values are let go.

        Args:
            receipt: verified, and found to be of this message.
            raw: its bytes, kept.
            clock_proven: the bus's time in it agrees with this device's clock, so what was measured so far needs no
                mark. Until then values stay here unsent, lest the clock be found wrong later.
        """
        with self._spool.transaction() as db:
            db.execute("DELETE FROM message WHERE id = ?", (receipt.message_id,))
            db.execute("DELETE FROM event WHERE message = ?", (receipt.message_id,))
            db.execute("UPDATE reading SET message = NULL, sent = 1 WHERE message = ?", (receipt.message_id,))
            (newest,) = db.execute("SELECT coalesce(max(id), 0) FROM reading").fetchone()
            if clock_proven:
                self._spool.put_meta(db, "proven_row", newest)
            settled = max(self._spool.meta(db, "proven_row"), newest - KEEP_UNPROVEN)
            settled_rows = "FROM reading WHERE sent AND (flagged OR NOT measured OR id <= ?)"
            if self._spool.keep_s:
                columns = "channel, interval_s, end_utc, value, qualities"
                db.execute(f"INSERT OR REPLACE INTO kept SELECT {columns} {settled_rows} ORDER BY id", (settled,))
                oldest_utc = receipt.recorded_at_utc_ms // 1000 - self._spool.keep_s
                db.execute("DELETE FROM kept WHERE end_utc <= ?", (oldest_utc,))
            db.execute(f"DELETE {settled_rows}", (settled,))
            db.execute(
                "INSERT OR REPLACE INTO receipt VALUES (?, ?, ?, ?, ?, ?)",
                (receipt.message_id, *receipt.position, receipt.root_before, receipt.recorded_at_utc_ms, raw),
            )
            db.execute(
                "DELETE FROM receipt WHERE message_id IN"
                " (SELECT message_id FROM receipt ORDER BY recorded_at_utc_ms DESC LIMIT -1 OFFSET ?)",
                (KEEP_RECEIPTS,),
            )


def readings_of(rows: Iterable[Row]) -> Readings:
    """Return rows as a message's readings: a block a channel, its ends ascending, register readings beside them."""
    blocks: dict[tuple[ChannelKey, int], list[Row]] = {}
    registers = []
    for row in rows:
        if row.interval_s:
            blocks.setdefault((row.channel, row.interval_s), []).append(row)
        else:
            registers.append(RegisterReading(row.channel, row.end_utc, row.value or "0", row.qualities))
    columns = [_block(key, interval_s, same) for (key, interval_s), same in blocks.items()]
    return Readings(tuple(columns), tuple(registers))


def _block(channel: ChannelKey, interval_s: int, rows: Sequence[Row]) -> IntervalBlock:
    _, _, ends, values, qualities = zip(*sorted(rows, key=lambda row: row.end_utc), strict=True)
    return IntervalBlock(channel, interval_s, ends, values, qualities)


def _one_version(waiting: Sequence[Any]) -> list[Any]:
    """Leave out later versions of an interval: two never share a message, the later one waits for the next."""
    first = {(*row[1:5], row[5] == 0, row[6]): row for row in reversed(waiting)}
    return sorted(first.values(), key=lambda row: (row[6], row[0]))


def _row(found: Sequence[Any]) -> Row:
    _, usage_point, meter, stream, reading_type, interval_s, end_utc, value, qualities = found
    key = ChannelKey(usage_point, meter, stream, reading_type)
    return Row(key, interval_s, end_utc, value, qualities_of(qualities))
