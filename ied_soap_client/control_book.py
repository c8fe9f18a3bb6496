"""The commands this device was given and what became of them: the memory that makes an act happen at most once.

In: controls whose seal was verified, intents, outcomes. Out: what is still to be judged. Each method is one transaction
on the spool's file, synced when it returns: an intent stands on the disk before the act, and one without an outcome is
never tried again. Outcome events go into the spool in the same transaction, and from there as every event does. See
spool.py for the rules of the room; what is right to do is obeying.py's.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from gridpost import units
from gridpost.controls import Control

from .obeying import Snapshot
from .spool import Batch, Row, Spool

KEEP_CONTROLS = 2000  # closed ones, for `gridpost-ied controls`; the highest counter is kept for ever
MOST_RESENT = 50_000  # values one request-data brings again

_COLUMNS = "mrid, counter, known, content, accepted_utc_ms IS NOT NULL, first_row, last_row"
_TO_JUDGE = f"SELECT {_COLUMNS} FROM control WHERE outcome IS NULL AND intent_utc_ms IS NULL ORDER BY counter, rowid"
_CUT_SHORT = f"SELECT {_COLUMNS} FROM control WHERE outcome IS NULL AND intent_utc_ms IS NOT NULL ORDER BY counter"
# What is kept, and what was receipted but waits for the clock to be proven right; the newest version of each.
_HELD = (
    "SELECT channel, interval_s, end_utc, value, qualities FROM kept WHERE end_utc > ? AND end_utc <= ? UNION ALL"
    " SELECT channel, interval_s, end_utc, value, qualities FROM reading r WHERE sent AND end_utc > ? AND end_utc <= ?"
    " AND id = (SELECT max(id) FROM reading s WHERE (s.channel, s.interval_s, s.end_utc)"
    " = (r.channel, r.interval_s, r.end_utc))"
)
_RESEND = (
    "INSERT INTO reading (channel, interval_s, end_utc, value, qualities, measured)"
    f" SELECT channel, interval_s, end_utc, value, qualities, 0 FROM ({_HELD}) ORDER BY end_utc LIMIT ?"
)
_WAITING = "SELECT count(*) FROM reading WHERE NOT sent AND end_utc > ? AND end_utc <= ?"


class Order(NamedTuple):
    """A control as the device holds it.

    Attributes:
        control: as verified.
        known: highest counter of this device's controls when it came.
        accepted: the bus was told that it waits.
        snapshot: how far the readings before a billing reset are.
    """

    control: Control
    known: int
    accepted: bool
    snapshot: Snapshot


class Closing(NamedTuple):
    """What became of a control.

    Attributes:
        outcome: a name of `controls.OUTCOMES` that is final.
        reason: in words, for the issuer.
        at_utc_ms: when.
        batch: what goes along: the outcome event, and readings the act brought.
    """

    outcome: str
    reason: str
    at_utc_ms: int
    batch: Batch


class ControlBook:
    """The controls of one spool."""

    def __init__(self, spool: Spool) -> None:
        """Work on `spool`'s file."""
        self._spool = spool

    def counter(self) -> int:
        """Return the highest counter of a control for this device: what a fetch names as known; 0 at first."""
        return self._spool.meta_now("control_counter")

    def take(self, control: Control, raw: bytes, serial: str, now_utc_ms: int) -> bool:
        """Keep a control before anything is made of it; False: it is known already, whatever became of it.

        Args:
            control: its seal verified.
            raw: the sealed answer.
            serial: this device's; a control for another is kept to be refused, and moves no counter.
            now_utc_ms: when.
        """
        with self._spool.transaction() as db:
            if db.execute("SELECT 1 FROM control WHERE mrid = ?", (control.mrid,)).fetchone():
                return False
            known = self._spool.meta(db, "control_counter")
            db.execute(
                "INSERT INTO control (mrid, counter, known, content, raw, taken_utc_ms) VALUES (?, ?, ?, ?, ?, ?)",
                (control.mrid, control.counter, known, json.dumps(control._asdict()), raw, now_utc_ms),
            )
            if control.target == serial and control.counter > known:
                self._spool.put_meta(db, "control_counter", control.counter)
            db.execute(
                "DELETE FROM control WHERE rowid IN (SELECT rowid FROM control WHERE outcome IS NOT NULL"
                " ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
                (KEEP_CONTROLS,),
            )
            return True

    def to_judge(self) -> list[Order]:
        """Return the controls nothing was done about yet, in the order of their counters."""
        return [self._order(*row) for row in self._spool.rows(_TO_JUDGE)]

    def cut_short(self) -> list[Order]:
        """Return those with an intent and no outcome: a process died in between, and nobody knows whether it acted."""
        return [self._order(*row) for row in self._spool.rows(_CUT_SHORT)]

    def _order(self, *row: object) -> Order:
        _mrid, _counter, known, content, accepted, first, last = row
        assert isinstance(known, int)
        assert isinstance(content, str)
        values = json.loads(content)
        control = Control(**values | {"data": tuple(map(tuple, values["data"]))})
        return Order(control, known, bool(accepted), self._snapshot(first, last))

    def _snapshot(self, first: object, last: object) -> Snapshot:
        if first is None:
            return Snapshot.NONE
        unsent = "SELECT count(*) FROM reading WHERE id BETWEEN ? AND ? AND NOT sent"
        ((waiting,),) = self._spool.rows(unsent, (first, last))
        return Snapshot.SENT if waiting else Snapshot.RECEIPTED

    def accept(self, mrid: str, now_utc_ms: int, batch: Batch) -> None:
        """Note that the bus is told: it will be acted on later. Once is enough."""
        with self._spool.transaction() as db:
            text = "UPDATE control SET accepted_utc_ms = ? WHERE mrid = ? AND accepted_utc_ms IS NULL"
            if db.execute(text, (now_utc_ms, mrid)).rowcount:
                self._spool.put(db, batch)

    def photograph(self, mrid: str, rows: Sequence[Row]) -> None:
        """Keep the readings taken before a billing reset, and which they are: it waits for their receipt (F22)."""
        with self._spool.transaction() as db:
            before = _last_row(db)
            self._spool.put(db, Batch(rows=list(rows)))
            places = (before + 1, _last_row(db), mrid)
            db.execute("UPDATE control SET first_row = ?, last_row = ? WHERE mrid = ?", places)

    def intend(self, mrid: str, now_utc_ms: int) -> bool:
        """Write the intent, synced; True: this caller, and nobody else ever, may act now."""
        with self._spool.transaction() as db:
            free = "mrid = ? AND intent_utc_ms IS NULL AND outcome IS NULL"
            return db.execute(f"UPDATE control SET intent_utc_ms = ? WHERE {free}", (now_utc_ms, mrid)).rowcount == 1

    def close(self, mrid: str, closing: Closing) -> bool:
        """Write what became of a control, with its event; False: that was written before."""
        with self._spool.transaction() as db:
            written = db.execute(
                "UPDATE control SET outcome = ?, reason = ?, outcome_utc_ms = ? WHERE mrid = ? AND outcome IS NULL",
                (closing.outcome, closing.reason, closing.at_utc_ms, mrid),
            ).rowcount
            if written:
                self._spool.put(db, closing.batch)
            return bool(written)

    def resend(self, from_utc: int, to_utc: int) -> tuple[int, int]:
        """Put the values of a period into the queue again; return (how many, how many wait there anyway).

        Args:
            from_utc: of interval ends and moments, exclusive.
            to_utc: inclusive.
        """
        period = (from_utc, to_utc)
        with self._spool.transaction() as db:
            (waiting,) = db.execute(_WAITING, period).fetchone()
            return db.execute(_RESEND, (*period, *period, MOST_RESENT)).rowcount, waiting

    def listed(self) -> list[dict[str, object]]:
        """Return what ``gridpost-ied controls`` shows, newest first."""
        columns = "content, taken_utc_ms, accepted_utc_ms, intent_utc_ms, outcome, outcome_utc_ms, reason"
        return [_shown(*row) for row in self._spool.rows(f"SELECT {columns} FROM control ORDER BY rowid DESC")]


def _last_row(db: sqlite3.Connection) -> int:
    found = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'reading'").fetchone()
    return found[0] if found else 0


def _shown(content: str, *rest: object) -> dict[str, object]:
    taken, accepted, intent, outcome, closed, reason = rest
    control = json.loads(content)
    names = ("mrid", "counter", "issuer", "role", "action", "output", "value", "unit", "target")
    moments = {"taken": taken, "accepted": accepted, "intent": intent, "closed": closed}
    times = {name: units.format_utc_ms(at) if isinstance(at, int) else None for name, at in moments.items()}
    return {**{name: control[name] for name in names}, "state": outcome or "open", "reason": reason, **times}
