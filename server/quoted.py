"""Does the log still hold what it gave receipts for? Each device quotes the newest receipt it has; this asks the log.

In: entries behind a cursor. Out: what is missing, into the store and to the caller. A receipt names its entry and the
root over all entries before it, so an older copy of the store that was put back, or a past that was rewritten, shows as
soon as one device speaks that was receipted since. It is a reader of the log: off the hot path, re-runnable, its cursor
moving with what it found. What must not be done here: refusing anybody.
"""

from __future__ import annotations

import re
from base64 import b64encode

from gridpost.model import Position
from gridpost.ports import Clock

from .store import Missing, Quote, SqlStore

BATCH = 500
_QUOTE = re.compile(r"([0-9]{1,9}):([0-9]{1,18}):([0-9a-f]{64})")


class QuotedReceipts:
    """Follows the log and holds each quoted receipt against it."""

    def __init__(self, store: SqlStore, clock: Clock) -> None:
        """`store` is one that serves."""
        self._store, self._clock = store, clock

    def step(self) -> tuple[bool, list[Missing]]:
        """Take the next batch; return whether there is more, and what is newly known to be missing."""
        batch = self._store.quotes(BATCH)
        if not batch:
            return False, []
        return len(batch) >= BATCH, self._store.note_missing(batch, self._missing(batch)).result()

    def _missing(self, batch: list[Quote]) -> list[Missing]:
        parsed = [(one, *_parse(one.last_receipt)) for one in batch]
        quoted = [(one, place, root) for one, place, root in parsed if place is not None]
        standing = self._store.standing([place for _, place, _ in quoted])
        return [
            self._told(one, place, root)
            for one, place, root in quoted
            if not _stands(one, place, root, standing.get(place))
        ]

    def _told(self, one: Quote, place: Position, root: str) -> Missing:
        first = self._store.lost_from(place, bytes.fromhex(root))
        return Missing(one.sender, place.partition, first, place.seq, root, one.position, self._clock())


def _stands(one: Quote, place: Position, root: str, entry: tuple[str, bytes] | None) -> bool:
    """Tell whether the log has the very entry that a receipt was given for; it lies before the one that quotes it."""
    ahead = place.partition == one.position.partition and place.seq >= one.position.seq
    if entry is None or ahead:
        return False
    sender, receipt = entry
    return sender == one.sender and b64encode(bytes.fromhex(root)) in receipt


def _parse(text: str) -> tuple[Position | None, str]:
    """Read ``partition:seq:root``; what foreign senders write there instead says nothing."""
    match = _QUOTE.fullmatch(text)
    return (Position(int(match[1]), int(match[2])), match[3]) if match else (None, "")
