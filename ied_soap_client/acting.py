"""From a command in the book to its outcome: judge, write the intent, act, write what became of it.

In: the control book, the outputs, a clock. Out: acts, each at most once, and outcome events in the spool. The order is
the law of the file: the intent is on the disk before the act begins; what has an intent and no outcome when the device
starts is `unknown`, whatever it was. A process may die at any line of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

from gridpost.controls import (
    DETAIL_CONTROL,
    DETAIL_COUNTER,
    DETAIL_OUTCOME,
    DETAIL_REASON,
    OUTCOME_EVENT,
    Control,
)
from gridpost.errors import MeterUnreachable, StoreUnavailable
from gridpost.model import EndDeviceEvent

from .control_book import Closing, ControlBook, Order
from .obeying import Act, Expire, Knowledge, Obeyed, Refuse, Snapshot, Wait, judge
from .outputs import Output, Told
from .spool import Batch, Row

SLICE_S = 1.0  # the clock is looked at so often while a command waits for its moment: it may be set
RETRY_S = 5.0  # after the disk or a meter failed

Say = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the device can do and whom it obeys.

    Attributes:
        serial: its own.
        obeys: the list.
        outputs: by name.
        deeds: what it does by itself: names of `obeying.OWN_ACTIONS`.
        registers: whether it reads any.
        photograph: reads them all, now.
    """

    serial: str
    obeys: frozenset[Obeyed]
    outputs: Mapping[str, Output]
    deeds: Mapping[str, Callable[[Control], Awaitable[Told]]]
    registers: bool
    photograph: Callable[[], Awaitable[list[Row]]]


@dataclass(frozen=True, slots=True)
class Around:
    """What is not a function of its arguments.

    Attributes:
        now_ms: UTC milliseconds by the bus's time, as well as this device knows it.
        new_id: a fresh mRID.
        sleep: returns after some seconds.
        told: called when there is something to push.
        say: the journal.
    """

    now_ms: Callable[[], int]
    new_id: Callable[[], str]
    sleep: Callable[[float], Awaitable[None]]
    told: Callable[[], None]
    say: Say


@dataclass(slots=True)
class Acting:
    """The hands of the device; one task uses it.

    Attributes:
        book: what it was told.
        can: what it can do.
        around: clock, ids, journal.
        changed: set when there may be something new: a control taken, a receipt.
    """

    book: ControlBook
    can: Abilities
    around: Around
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _unwritten: dict[str, Closing] = field(default_factory=dict)  # outcomes the disk could not take yet

    async def run(self) -> None:
        """Settle what a dead process left, then do what the commands say, each in its time, until cancelled."""
        settled = False
        while True:
            self.changed.clear()
            try:
                settled = settled or self._settle()
                until_ms = await self._work()
            except StoreUnavailable as error:
                self.around.say("spool-unavailable", reason=error.reason)
                await self.around.sleep(RETRY_S)
                continue
            await self._rest(until_ms)

    async def _rest(self, until_ms: int) -> None:
        """Wait for something new, or for a moment by the bus's time; 0: only for something new."""
        while not self.changed.is_set():
            if not until_ms:
                await self.changed.wait()
            elif (left_ms := until_ms - self.around.now_ms()) > 0:
                await self.around.sleep(min(left_ms / 1000, SLICE_S))
            else:
                return

    def _settle(self) -> bool:
        for order in self.book.cut_short():
            reason = "this device stopped after it meant to act; whether it did is not known, and it will not again"
            self._close(order.control, Told("unknown", reason))
        return True

    async def _work(self) -> int:
        """Judge everything that is open; return the next moment (bus time) at which one of them is due, or 0."""
        self._write_outcomes()
        due = []
        for order in self.book.to_judge():
            if order.control.mrid not in self._unwritten:
                due.append(await self._follow(order))
        return min(filter(None, due), default=0)

    async def _follow(self, order: Order) -> int:
        control = order.control
        match judge(control, self._knowledge(order), self.around.now_ms()):
            case Refuse(reason):
                self._close(control, Told("refused", reason))
            case Expire(reason):
                self._close(control, Told("expired", reason))
            case Wait(until_utc_ms, reason):
                return await self._wait(order, until_utc_ms, reason)
            case Act(output):
                await self._act(order, self.can.outputs.get(output))
        return 0

    def _knowledge(self, order: Order) -> Knowledge:
        outputs = {name: frozenset(output.actions) for name, output in self.can.outputs.items()}
        return Knowledge(
            self.can.serial, order.known, self.can.obeys, outputs, self.can.registers, order.snapshot
        )  # fmt: skip

    async def _wait(self, order: Order, until_utc_ms: int, reason: str) -> int:
        control, now_ms = order.control, self.around.now_ms()
        if not order.accepted:
            self.book.accept(control.mrid, now_ms, Batch(events=[self._event(control, "accepted", reason)]))
            self.around.say("control-accepted", control=control.mrid, action=control.action, reason=reason)
            self.around.told()
        ends = [until_utc_ms, control.expires_utc_ms]
        if not until_utc_ms and order.snapshot is Snapshot.NONE:
            ends.append(await self._photograph(control))
        return min(filter(None, ends), default=0)

    async def _photograph(self, control: Control) -> int:
        """Read the registers a billing reset will reset; return when to try again, 0 when it is done."""
        try:
            rows = await self.can.photograph()
            if not rows:  # no channel is measured now: nothing stored is no snapshot
                raise MeterUnreachable("no register can be read now")
        except MeterUnreachable as error:
            self.around.say("snapshot-failed", control=control.mrid, reason=error.reason)
            return self.around.now_ms() + int(RETRY_S * 1000)
        self.book.photograph(control.mrid, rows)
        self.around.told()
        return 0

    async def _act(self, order: Order, output: Output | None) -> None:
        control = order.control
        try:
            wrong = await output.check(control) if output else ""
        except MeterUnreachable as error:
            self._close(control, Told("failed", error.reason))
            return
        if wrong:
            self._close(control, Told("refused", wrong))
            return
        # The look at the output took its time.
        now_ms = self.around.now_ms()
        if not isinstance(judge(control, self._knowledge(order), now_ms), Act):
            self.changed.set()
            return
        if not self.book.intend(control.mrid, now_ms):
            return
        deed = output.act if output else self.can.deeds[control.action]
        try:
            told = await deed(control)
        except StoreUnavailable as error:  # of what the device does by itself; an output needs no spool
            told = Told("failed", error.reason)
        except asyncio.CancelledError:
            self._close(control, Told("unknown", "this device was stopped while it acted"))
            raise
        self._close(control, told)

    def _close(self, control: Control, told: Told) -> None:
        batch = told.batch or Batch()
        batch.events.append(self._event(control, told.outcome, told.reason))
        self._unwritten[control.mrid] = Closing(told.outcome, told.reason, self.around.now_ms(), batch)
        self.around.say(
            "control", control=control.mrid, counter=control.counter, action=control.action, output=control.output,
            outcome=told.outcome, reason=told.reason,
        )  # fmt: skip
        self._write_outcomes()

    def _write_outcomes(self) -> None:
        for mrid, closing in list(self._unwritten.items()):
            self.book.close(mrid, closing)
            del self._unwritten[mrid]
            self.around.told()

    def _event(self, control: Control, outcome: str, reason: str) -> EndDeviceEvent:
        details = dict(_details(control, outcome, reason))
        said = (self.can.serial, f"control {outcome}", "")
        return EndDeviceEvent(self.around.new_id(), OUTCOME_EVENT, self.around.now_ms(), *said, details)


def _details(control: Control, outcome: str, reason: str) -> Iterator[tuple[str, str]]:
    yield DETAIL_CONTROL, control.mrid
    yield DETAIL_COUNTER, str(control.counter)
    yield DETAIL_OUTCOME, outcome
    yield DETAIL_REASON, "".join(one if one.isprintable() else "?" for one in reason[:250])
