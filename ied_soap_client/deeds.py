"""What the device does by itself when it is told to: set its clock, send data again or read it now.

In: a control that is to be done. Out: what became of it, with the readings it brought. Called once for each control,
after its intent was written; see acting.py. A clock is set by nothing but a freshly sealed answer to our own fetch, and
an NTP server that agrees with it: never by a receipt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from gridpost import units
from gridpost.controls import Control
from gridpost.errors import BusUnreachable, MeterUnreachable, StoreUnavailable

from . import timekeeping
from .control_book import ControlBook
from .fetching import Fetcher, Got
from .outputs import Told
from .spool import Batch, Row
from .timekeeping import Offset

FETCHES = 20  # commands may wait in front of an answer that tells the time
PATIENCE = 3  # fetches without an answer
FROM, TO = "from", "to"  # of request-data: interval ends and moments, the first exclusive, xs:dateTime with a zone
EVER_UTC = 1 << 40


@dataclass(frozen=True, slots=True)
class Deeds:
    """What is needed for them.

    Attributes:
        book: holds what was sent before.
        fetcher: asks the bus.
        taken: called when a command came with the question for the time.
        ntp: server, or empty.
        set_clock: keeps bus time minus this device's clock, ms.
        read_now: reads every register.
    """

    book: ControlBook
    fetcher: Fetcher
    taken: Callable[[], None]
    ntp: str
    set_clock: Callable[[int], None]
    read_now: Callable[[], Awaitable[list[Row]]]

    def table(self) -> Mapping[str, Callable[[Control], Awaitable[Told]]]:
        """Return them by the names of `obeying.OWN_ACTIONS`."""
        return {"time-sync": self.sync_time, "request-data": self.send_data}

    async def sync_time(self, _control: Control) -> Told:
        """Find out how far this clock is off, and keep that."""
        sealed = await self._sealed_offset()
        if sealed is None:
            return Told("failed", "no freshly sealed answer told the time")
        offset = timekeeping.agreed(sealed, await self._ntp_offset())
        self.set_clock(offset.ms)
        if self.fetcher.spool.clock_offset_ms() != offset.ms:
            return Told("failed", "the disk did not take how far this clock is off")
        return Told("done", f"this clock is {-offset.ms} ms off, to within {offset.within_ms} ms; allowed for from now")

    async def _sealed_offset(self) -> Offset | None:
        unanswered = 0
        for _ in range(FETCHES):
            fetched = await self.fetcher.fetch(0)
            unanswered += fetched.got is Got.UNANSWERED
            if fetched.offset or unanswered == PATIENCE:
                return fetched.offset
            if fetched.got is Got.CONTROL:
                self.taken()
        return None

    async def _ntp_offset(self) -> Offset | None:
        if not self.ntp:
            return None
        try:
            return await timekeeping.ask(self.ntp, self.fetcher.impure.wall_ms)
        except BusUnreachable as error:
            self.fetcher.say("ntp-unanswered", reason=error.reason)
            return None

    async def send_data(self, control: Control) -> Told:
        """Send a period again as far as it is still here; without a period, read every register now."""
        stated = dict(control.data)
        if not (stated.get(FROM) or stated.get(TO)):
            return await self._read_and_send()
        try:
            from_utc = units.parse_utc_ms(stated[FROM]) // 1000 if stated.get(FROM) else 0
            to_utc = units.parse_utc_ms(stated[TO]) // 1000 if stated.get(TO) else EVER_UTC
            again, waiting = self.book.resend(from_utc, to_utc)
        except ValueError as error:
            return Told("failed", f"the period cannot be read: {error}")
        except StoreUnavailable as error:
            return Told("failed", error.reason)
        if not (again or waiting):
            return Told("failed", "this device holds nothing of that period any more")
        return Told("done", f"{again} values are sent again, {waiting} of that period waited anyway")

    async def _read_and_send(self) -> Told:
        try:
            rows = await self.read_now()
        except (MeterUnreachable, StoreUnavailable) as error:
            return Told("failed", error.reason)
        return Told("done", f"{len(rows)} registers read", Batch(rows=rows)) if rows else Told("failed", "no registers")
