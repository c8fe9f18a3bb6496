"""Commands from the bus into the book: when to ask, and what an answer means.

In: the bus's announcements, its sealed answers. Out: controls kept before anything is made of them; how far this clock
is off by a freshly sealed answer to our own fetch. One command comes at a time, the same bytes until it is known here,
so an answer that gets lost costs nothing. A silent bus is asked ever more rarely; what is unsigned is not believed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from gridpost import control_messages, exchange
from gridpost.controls import Control
from gridpost.errors import AnswerUntrusted, BusUnreachable, GridpostError
from gridpost.model import Header

from . import config_control
from .clockwatch import Machine
from .config import Push
from .control_book import ControlBook
from .push import CLOCK_CODES, PATH, Impure, Parties, Say, backoff_s, signature_digest
from .spool import Spool
from .timekeeping import Offset
from .transport import HttpAnswer, Transport

ACTION = "http://iec.ch/TC57/2011/GetEndDeviceControls/GetEndDeviceControls"
CUT_MS = 10_000
LONGEST_TRIP_MS = 10_000  # a fetch that took longer says too little about the time


class Got(Enum):
    """What a fetch brought."""

    CONTROL = "control"  # a new command: ask again, there may be more
    NOTHING = "nothing"  # none waits
    UNANSWERED = "unanswered"  # nothing that helps: not signed for this fetch, or known


class Fetched(NamedTuple):
    """One fetch: what it brought, why not when nothing came, and how far this clock is off, where that can be told."""

    got: Got
    reason: str = ""
    offset: Offset | None = None
    retry_after_s: int = 0


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Asks the bus for the next command, once.

    Attributes:
        spool: for pins and the clock's offset.
        transport: to the bus.
        parties: who speaks to whom, now.
        impure: clock and ids.
        steady_ms: a clock nobody sets.
        say: the journal.
    """

    spool: Spool
    transport: Transport
    parties: Callable[[], Parties]
    impure: Impure
    steady_ms: Callable[[], int]
    say: Say

    async def fetch(self, wait_s: int) -> Fetched:
        """Ask, naming the highest counter known; keep what comes.

        Args:
            wait_s: how long the bus may hold the request until there is a command.

        Raises:
            StoreUnavailable: the command could not be kept; it comes again.
        """
        parties, book = self.parties(), ControlBook(self.spool)
        now_ms = self.impure.wall_ms() + self.spool.clock_offset_ms()
        header = Header("get", "EndDeviceControls", now_ms, parties.source, self.impure.new_id())
        after = book.counter()
        body = control_messages.encode_get_controls(header, after, wait_s)
        sealed = exchange.seal(body, parties.signer, now_ms)
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{ACTION}"'}
        began_ms, sent_ms = self.steady_ms(), self.impure.wall_ms()
        try:
            answer = await self.transport.post(PATH, sealed, headers, wait_s)
        except BusUnreachable as error:
            return Fetched(Got.UNANSWERED, error.reason)
        trip_ms = self.steady_ms() - began_ms
        try:
            opened = self._opened(answer, parties, signature_digest(sealed))
            if opened.control is None and opened.correlation_id != header.message_id:
                raise AnswerUntrusted("the answer is signed, but for another fetch")
        except AnswerUntrusted as error:
            reason = f"HTTP {answer.status}: {error.reason}"
            return Fetched(Got.UNANSWERED, reason, retry_after_s=answer.retry_after_s)
        self.spool.pin(opened.certificate, self.impure.wall_ms())
        if opened.control is not None:
            return self._taken(book, opened.control, answer.content, after)
        offset = Offset(opened.sealed_at_utc_ms - sent_ms - trip_ms // 2, trip_ms // 2 + 1)
        fresh = wait_s == 0 and trip_ms <= LONGEST_TRIP_MS
        return Fetched(Got.NOTHING, offset=offset if fresh else None)

    def _taken(self, book: ControlBook, control: Control, raw: bytes, after: int) -> Fetched:
        now_ms = self.impure.wall_ms() + self.spool.clock_offset_ms()
        if not book.take(control, raw, self.parties().source, now_ms):
            if book.counter() > after:  # another fetch was under way and brought it first
                return Fetched(Got.CONTROL)
            # Whoever gives us what we said we know, bus or not, would be asked without end.
            return Fetched(Got.UNANSWERED, f"control {control.mrid} came again, and is known")
        told = {name: getattr(control, name) for name in ("counter", "issuer", "action", "output")}
        self.say("control-taken", control=control.mrid, **told)
        return Fetched(Got.CONTROL)

    def _opened(self, answer: HttpAnswer, parties: Parties, attempt: bytes) -> exchange.ControlAnswer:
        """Open an answer to a fetch; a signed refusal of this very attempt may tell the time, and is no answer."""
        opened = exchange.open_control(answer.content, exchange.Trust(parties.ca, frozenset(self.spool.pins())))
        refusal = opened.refusal
        if refusal is None:
            return opened
        if refusal.signature_digest != attempt:
            raise AnswerUntrusted("the refusal is signed, but for another attempt")
        if refusal.code in CLOCK_CODES:
            self.impure.clock_told(refusal.time_utc_ms - self.impure.wall_ms())
        raise AnswerUntrusted(f"the bus refuses the fetch: {refusal.code}: {refusal.reason}")


@dataclass(slots=True)
class Fetching:
    """When to ask: at once when the bus announces something, else at this device's own times.

    Attributes:
        fetcher: asks.
        control, push: settings; the back-off is the push's.
        obeying: whether anybody is obeyed: otherwise only an announcement is worth a fetch, to refuse with a reason.
        machine: chance, a clock nobody sets.
        taken: called when a command came.
        clock_seen: called with what a fresh answer says of this clock.
        summons: set when the bus announced something.
    """

    fetcher: Fetcher
    control: config_control.Control
    push: Push
    obeying: bool
    machine: Machine
    taken: Callable[[], None]
    clock_seen: Callable[[Offset], None]
    summons: asyncio.Event
    _failures: int = 0
    _plain_ms: int | None = None  # when the bus was last asked without waiting, by the steady clock

    async def run(self) -> None:
        """Ask until cancelled."""
        if not self.obeying:
            await self.summons.wait()
        while True:
            self.summons.clear()
            fetched = await self._ask()
            if fetched.got is Got.CONTROL:
                self._failures = 0
                self.taken()
            elif fetched.got is Got.UNANSWERED:
                await self._back_off(fetched)
            else:
                self._failures = 0
                await self._rest()

    async def _ask(self) -> Fetched:
        """Ask once; the first time and every `poll_s` without waiting, which tells the time as well."""
        now_ms = self.machine.steady_ms()
        due = self._plain_ms is None or now_ms - self._plain_ms >= self.control.poll_s * 1000
        if due or not self._keeps_open:
            self._plain_ms = now_ms
            return await self._fetched(0)
        held = await self._held(self.control.long_poll_s)
        lasted_ms = self.machine.steady_ms() - now_ms
        if held.got is Got.NOTHING and not self.summons.is_set() and lasted_ms < 1000:
            return Fetched(Got.UNANSWERED, "the bus does not hold a fetch open")  # or it would be asked without end
        if lasted_ms >= CUT_MS:  # something between closes what is quiet for long: no reason to come ever more rarely
            self._failures = 0
        return held

    @property
    def _keeps_open(self) -> bool:
        return self.obeying and self.control.long_poll_s > 0

    async def _held(self, wait_s: int) -> Fetched:
        """Keep a fetch open; an announcement ends it, for its connection may have died without a word."""
        polling = asyncio.ensure_future(self._fetched(wait_s))
        summoned = asyncio.ensure_future(self.summons.wait())
        try:
            await asyncio.wait({polling, summoned}, return_when=asyncio.FIRST_COMPLETED)
            return polling.result() if polling.done() else Fetched(Got.NOTHING)
        finally:
            for task in (polling, summoned):
                task.cancel()
            await asyncio.gather(polling, summoned, return_exceptions=True)

    async def _fetched(self, wait_s: int) -> Fetched:
        try:
            fetched = await self.fetcher.fetch(wait_s)
        except GridpostError as error:
            return Fetched(Got.UNANSWERED, error.reason)
        if fetched.offset is not None:
            self.clock_seen(fetched.offset)
        return fetched

    async def _back_off(self, fetched: Fetched) -> None:
        self._failures += 1
        self.fetcher.say("fetch-unanswered", reason=fetched.reason)
        chance = self.machine.random()
        wait_s = backoff_s(self._failures, self.push.backoff_first_s, self.push.backoff_most_s, chance)
        await asyncio.sleep(max(wait_s, fetched.retry_after_s))
        if not self.obeying:
            await self.summons.wait()

    async def _rest(self) -> None:
        """Until the next fetch is due, or announced; with a fetch kept open that is now."""
        if self._keeps_open:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.control.poll_s if self.obeying else None):
                await self.summons.wait()
