"""The agent: measure at each boundary, push when it is due, do what it is told, keep an eye on the clock; for years.

In: a configuration. Out: readings in the spool and at the bus, acts, a journal. Tasks that share only the spool: a
silent bus never stops measuring, a silent meter never stops pushing, a slow act stops neither. Plain asyncio,
straight-line loops; what a boundary brings is measuring.py's, what an answer means push.py's, which command comes
when fetching.py's, what becomes of it acting.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

from gridpost import units
from gridpost.errors import LATER, GridpostError, StoreUnavailable
from gridpost.model import Quality

from . import config as settings
from . import outputs, pulses, renewal
from . import register_map as rm
from .acting import Abilities, Acting, Around
from .clockwatch import ClockWatch, Machine
from .control_book import ControlBook
from .deeds import Deeds
from .fetching import Fetcher, Fetching
from .identity import parties
from .maps import MappedMeter
from .measuring import Measuring, meters
from .pulses import CountedLines
from .push import CLOCK_LIMIT_MS, Drained, Impure, Pusher, backoff_s
from .spool import Batch, Spool
from .timekeeping import Offset
from .transport import Transport

_THIS_MACHINE = Machine()
_SLICE_S = 1.0
_SETTLE_S = 0.5  # so that a push and a boundary of the same moment come in this order: boundary, push
Say = Callable[..., None]


def new_id(machine: Machine = _THIS_MACHINE) -> str:
    """Return a fresh UUIDv7."""
    return units.uuid7(machine.wall_ms(), machine.entropy(10))


class Agent:
    """One run of ``gridpost-ied run``."""

    def __init__(
        self, config: settings.Config, spool: Spool, transport: Transport, say: Say, machine: Machine | None = None
    ) -> None:
        """Put the parts together; nothing is read or sent yet.

        Raises:
            ConfigInvalid, NotFound: meters, channels or identity are not as they must be.
        """
        self._config, self._spool, self._say, self._transport = config, spool, say, transport
        self._machine = machine or _THIS_MACHINE
        self._watch = ClockWatch(self._machine)
        self._reading = asyncio.Lock()
        wall, ids = self._machine.wall_ms, partial(new_id, self._machine)
        read = [*meters(config), *pulses.inputs(config, spool)]
        self.measuring = Measuring(spool, read, config.poll.tolerance_s, wall, ids, say, spool.stands())
        impure = Impure(wall, ids, self._clock_told)
        self.pusher = Pusher(spool, transport, parties(config), impure, say)
        self._urgent = asyncio.Event()  # something is to be pushed before the next push is due
        self._outputs = outputs.make({one.name: one for one in config.output})
        fetcher = Fetcher(spool, transport, lambda: self.pusher.parties, impure, self._machine.steady_ms, say)
        self.acting = self._acting(fetcher, ids)
        self.fetching = Fetching(
            fetcher, config.control, config.push, bool(config.obey), self._machine,
            self.acting.changed.set, self._clock_seen, asyncio.Event(),
        )  # fmt: skip

    def _acting(self, fetcher: Fetcher, ids: Callable[[], str]) -> Acting:
        config, book, changed = self._config, ControlBook(self._spool), asyncio.Event()
        deeds = Deeds(book, fetcher, changed.set, config.control.ntp, self._clock_told, self.measuring.read_now)
        can = Abilities(
            config.identity.serial, config.obeys, self._outputs, deeds.table(), bool(self.measuring.meters),
            self.measuring.read_now,
        )  # fmt: skip
        around = Around(self._bus_now_ms, ids, self._machine.sleep, self._urgent.set, self._say)
        return Acting(book, can, around, changed)

    def _bus_now_ms(self) -> int:
        return self._machine.wall_ms() + self._spool.clock_offset_ms()

    async def run(self) -> None:
        """Measure and push until cancelled."""
        self._start()
        try:
            async with asyncio.TaskGroup() as tasks:
                if self.measuring.meters:
                    tasks.create_task(self._measure())
                tasks.create_task(self._push())
                tasks.create_task(self._renew())
                tasks.create_task(self.acting.run())
                tasks.create_task(self.fetching.run())
                if counted := [one.source for one in self.measuring.meters if isinstance(one.source, CountedLines)]:
                    tasks.create_task(pulses.drain(counted, self._machine.sleep, self._say))
        finally:
            for meter in self.measuring.meters:
                meter.close()
            for output in self._outputs.values():
                output.close()

    def _start(self) -> None:
        measuring, batch = self.measuring, Batch()
        self._judge_offset(self._spool.clock_offset_ms())
        if self._restarted():
            measuring.event("power-up", self._config.identity.serial, batch)
            for one in (one for meter in measuring.meters for one in meter.channels):
                stand = measuring.stands.get(one.channel.key)
                if stand and self._machine.wall_ms() // 1000 - stand.end_utc > one.dial.interval_s:
                    flag = Quality(rm.POWER_FAIL, "this device was restarted")
                    measuring.stands[one.channel.key] = batch.stands[one.channel.key] = rm.flagged(stand, flag)
        measuring.keep(batch)
        for meter in measuring.meters:
            if isinstance(meter.source, MappedMeter) and not meter.source.map.verified:
                self._say("map-unverified", meter=meter.settings.id, map=meter.settings.map)
        self._say("started", serial=self._config.identity.serial, meters=len(measuring.meters))

    def _restarted(self) -> bool:
        try:
            return self._spool.booted(self._machine.boot())
        except StoreUnavailable as error:
            self._say("spool-unavailable", reason=error.reason)
            return False

    # --- measuring ---------------------------------------------------------------------------------------------------

    async def _measure(self) -> None:
        while True:
            end_utc = self.measuring.next_end(self._machine.wall_ms() // 1000)
            if await self._until(end_utc):
                async with self._reading:
                    await self.measuring.boundary(end_utc)

    async def _until(self, end_utc: int) -> bool:
        """Wait for a boundary by the wall clock; False when the clock was set meanwhile and the next may be another."""
        while True:
            if step_ms := self._watch.step_ms():
                self._stepped(step_ms)
                return False
            left_s = end_utc - self._machine.wall_ms() / 1000
            if left_s <= 0:
                return True
            await self._machine.sleep(min(left_s, _SLICE_S))

    def _stepped(self, step_ms: int) -> None:
        detail = f"clock set by {step_ms / 1000:+.1f} s at {units.format_utc(self._machine.wall_ms() // 1000)}"
        batch = Batch()
        self.measuring.event("clock-stepped", self._config.identity.serial, batch, by_ms=str(step_ms))
        self.measuring.keep(batch)
        self._say("clock-stepped", by_ms=step_ms)
        offset_ms = self._spool.clock_offset_ms()
        if offset_ms:
            # What the bus told was true of the clock as it was.
            self._remember_offset(offset_ms - step_ms if abs(offset_ms - step_ms) > CLOCK_LIMIT_MS else 0)
        self.measuring.clock_changed(detail, all_since_proven=abs(step_ms) > CLOCK_LIMIT_MS)

    def _clock_told(self, offset_ms: int) -> None:
        """The bus, in a signed refusal of our own attempt or a fresh answer to our own fetch, told the time."""
        known_ms = self._spool.clock_offset_ms()
        self._say("clock-told", bus_minus_device_ms=offset_ms)
        self._remember_offset(offset_ms)
        if abs(offset_ms) > CLOCK_LIMIT_MS and abs(offset_ms - known_ms) > CLOCK_LIMIT_MS:
            self.measuring.clock_changed(self.measuring.clock_wrong, all_since_proven=True)

    def _clock_seen(self, offset: Offset) -> None:
        """A fresh answer says how far this clock is off; what is known already is not told again."""
        if abs(offset.ms - self._spool.clock_offset_ms()) > CLOCK_LIMIT_MS + offset.within_ms:
            self._clock_told(offset.ms)

    def _remember_offset(self, offset_ms: int) -> None:
        self._judge_offset(offset_ms)
        try:
            self._spool.set_clock_offset_ms(offset_ms)
        except StoreUnavailable as error:
            self._say("spool-unavailable", reason=error.reason)

    def _judge_offset(self, offset_ms: int) -> None:
        wrong = abs(offset_ms) > CLOCK_LIMIT_MS
        self.measuring.clock_wrong = f"device clock {-offset_ms / 1000:+.0f} s off by the bus" if wrong else ""

    # --- pushing -----------------------------------------------------------------------------------------------------

    async def _push(self) -> None:
        failures = 0
        push = self._config.push
        while True:
            self._urgent.clear()
            drained = await self._drain()
            if self.pusher.waiting:
                self.fetching.summons.set()
            if drained.receipted:
                self.acting.changed.set()  # a billing reset may have waited for it
            if drained.unanswered:
                failures += 1
                wait_s = backoff_s(failures, push.backoff_first_s, push.backoff_most_s, self._machine.random())
                await asyncio.sleep(max(wait_s, drained.retry_after_s))
                continue
            failures = 0
            into_s = self._machine.wall_ms() / 1000 % push.every_s
            due_s = push.every_s - into_s + _SETTLE_S + self._machine.random() * push.spread_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due_s):
                    await self._urgent.wait()
            async with self._reading:  # what the boundary brings goes along
                pass

    async def _renew(self) -> None:
        """Get the next key in time, unattended: looked at every hour, and after a success or a refusal every day."""
        while True:
            await self._machine.sleep(await self._renewed())

    async def _renewed(self) -> int:
        now_ms = self._machine.wall_ms() + self._spool.clock_offset_ms()
        if not renewal.is_due(self.pusher.certificate, now_ms, self._config.identity.renew_days):
            return renewal.LOOKED_S
        try:
            self.pusher.use(await renewal.renew(self._config, self._transport))
        except GridpostError as error:
            self._say("renewal-failed", code=error.code, reason=error.reason)
            return renewal.LOOKED_S if error.retry == LATER else renewal.RESTS_S
        ends = units.format_utc_ms(renewal.ends_utc_ms(self.pusher.certificate))
        self._say("renewed", ends_at=ends)
        return renewal.RESTS_S

    async def _drain(self) -> Drained:
        try:
            return await self.pusher.drain()
        except StoreUnavailable as error:
            self._say("spool-unavailable", reason=error.reason)
            return Drained(unanswered=error.reason)
