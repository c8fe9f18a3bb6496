"""Events and register readings as readers and offices ask for them: of entries, or of meters over a period.

Selects only, on connections of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gridpost.model import DataVersion, EndDeviceEvent, Position, Register

from .enrolments import Enrolments


class StoredEvent(NamedTuple):
    """A row of an event: its place in the log, its line in the entry, who sent it."""

    position: Position
    line: int
    sender: str
    event: EndDeviceEvent


class StoredRegister(NamedTuple):
    """A row of a register reading; `outcome` as in StoredBlock."""

    position: Position
    register: Register
    outcome: str


class EntryRows(Enrolments):
    """What `SqlStore` tells of events and registers."""

    def events_of(self, positions: Sequence[Position]) -> list[StoredEvent]:
        """Return the events of those entries, in order of position and line."""
        raise NotImplementedError

    def registers_of(self, positions: Sequence[Position]) -> list[StoredRegister]:
        """Return the register readings of those entries, in order of position and line."""
        raise NotImplementedError

    def events(
        self, assets: Sequence[str], period: tuple[int, int], at: DataVersion, limit: int, after: str = ""
    ) -> list[StoredEvent]:
        """Return up to `limit` events of meters or IEDs, in order of time, partition, seq, line.

        Args:
            assets: mRIDs of meters, serials of IEDs.
            period: UTC milliseconds, first exclusive, last inclusive.
            at: as known at this data version.
            limit: how many.
            after: `page_of` the last event of the page before; empty: from the first.
        """
        raise NotImplementedError


def page_of(one: StoredEvent) -> str:
    """Return what names an event's place in the order of `EntryRows.events`."""
    return f"{one.event.created_utc_ms}:{one.position.partition}:{one.position.seq}:{one.line}"
