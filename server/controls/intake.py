"""Where commands come in: each control of a request becomes one for each IED, gets its first state, and is recorded.

In: a partner whose rights are looked at, what it wants, and a function that records the entry. Out: what that returns.
All requests of this process come one behind the other through here: what one has used of a threshold, the next one
sees. Of several bus processes each judges by what is committed, so at most what is under way in the others comes on
top. What must not be done here: judging who may speak for whom (`server/office/rights.py` does, before).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from twisted.internet.defer import DeferredLock

from gridpost.controls import ACTIONS, OPEN, Control, NewControl, State, Wanted
from gridpost.errors import ControlsRefused, Item
from gridpost.partners import Partner
from gridpost.ports import Clock

from ..config import Commands
from ..store import SqlStore
from ..store.call_ins import call_ins
from . import policy
from .clocks import Call, Timed, offset_ms, too_near
from .policy import First, Load, Sum

T = TypeVar("T")
Aside = Callable[[Callable[[], tuple[NewControl, ...]]], Awaitable[tuple[NewControl, ...]]]
MOST = 10_000  # controls of one request, groups counted by their IEDs: what one transaction may hold up others
_LOOKED_AT = 1000  # of an issuer's open controls, those that a new timed one is held against


class Asked(NamedTuple):
    """A request for controls.

    Attributes:
        issuer: who asks.
        wanted: at least one.
        counts: whether it counts as a command (signed, or the partner's entry relaxes that); else it is a proposal.
        replaces: whether each takes the place of those of its mRID; `record` cancels these first.
    """

    issuer: Partner
    wanted: Sequence[Wanted]
    counts: bool
    replaces: bool = False


class _One(NamedTuple):
    """A control that is wanted, with its IEDs and its first state."""

    wanted: Wanted
    targets: tuple[str, ...]
    first: First


class Intake:
    """`admit`, and the settings and store it asks."""

    def __init__(
        self,
        store: SqlStore,
        commands: Commands,
        clock: Clock,
        recorded: Callable[[], None] | None = None,
        aside: Aside | None = None,
    ) -> None:
        """All live as long as the bus.

        Args:
            store: the log; the process serves it.
            commands: the settings.
            clock: UTC milliseconds.
            recorded: hears when something may have begun to wait (`Desk.wake`).
            aside: runs what asks much of the store off the reactor; None: it is asked in place.
        """
        self._store, self._commands, self._clock = store, commands, clock
        self._recorded, self._aside = recorded, aside
        self._turn = DeferredLock()

    def targets(self, issuer: Partner, wanted: Wanted) -> tuple[str, ...]:
        """Return the serials a control is for: those it names and those of its group in the issuer's tenant, sorted."""
        members = self._store.group(issuer.tenant, wanted.group) if wanted.group else ()
        return tuple(sorted({*wanted.targets, *members}))

    async def admit(self, asked: Asked, record: Callable[[tuple[NewControl, ...]], Awaitable[T]]) -> T:
        """Judge a request, call `record` with its controls, one for each IED, and return what that gives.

        Raises:
            ControlsRefused: itemised; nothing was recorded.
            StoreUnavailable: the store failed.
        """
        await self._turn.acquire()
        try:
            answer = await record(await self._aside(lambda: self.judged(asked)) if self._aside else self.judged(asked))
            if self._recorded is not None:
                self._recorded()
            return answer
        finally:
            self._turn.release()

    def judged(self, asked: Asked) -> tuple[NewControl, ...]:
        """Return the controls of a request with their first states; `admit` without recording.

        Raises:
            ControlsRefused: itemised.
        """
        now = self._clock()
        wanted = [policy.lasting(one, self._commands, now) for one in asked.wanted]
        targets = [self.targets(asked.issuer, one) for one in wanted]
        items = [item for one in wanted for item in policy.check_wanted(one, asked.issuer.role, self._commands, now)]
        items += self._unknown(asked, wanted, targets)
        if items:
            raise ControlsRefused(items=items)
        firsts = self._firsts(asked, wanted, targets, now)
        ones = [_One(*one) for one in zip(wanted, targets, firsts, strict=True)]
        ones = self._ordered(asked.issuer, ones, now)
        return tuple(new for one in ones for new in _controls(asked.issuer, one))

    def _unknown(self, asked: Asked, wanted: Sequence[Wanted], targets: Sequence[tuple[str, ...]]) -> Iterator[Item]:
        """Yield what is wrong with names: no IED, a tracking id twice, more than one request may hold."""
        seen: set[str] = set()
        for one, serials in zip(wanted, targets, strict=True):
            if not serials:
                reason = f"there is no group {one.group}" if one.group else "it names no IED"
                yield _item("target-unknown", one.mrid, reason)
            if one.mrid in seen or (not asked.replaces and self._store.tracked(asked.issuer.id, one.mrid)):
                yield _item("tracking-id-reused", one.mrid, "there is a control of that mRID already")
            seen.add(one.mrid)
        if sum(map(len, targets)) > MOST:
            yield _item("too-many", "the request", f"it asks for more than {MOST} controls")

    def _firsts(
        self, asked: Asked, wanted: Sequence[Wanted], targets: Sequence[tuple[str, ...]], now: int
    ) -> Iterator[First]:
        loads: dict[str, Load] = {}
        for one, serials in zip(wanted, targets, strict=True):
            load = loads.get(one.action) or self._load(asked.issuer, one.action, now)
            more = policy.asked(one, len(serials))
            first = policy.first(one.action, more, load, self._commands, counts=asked.counts)
            loads[one.action] = load.plus(more) if first.state is State.WAITING else load
            yield first

    def _load(self, issuer: Partner, action: str, now: int) -> Load:
        since = now - self._commands.period_s * 1000
        own, together = (self._store.sums(action, since, whose) for whose in (issuer.id, None))
        return Load(Sum.of(*own), Sum.of(*together))

    # --- F105 ---

    def _ordered(self, issuer: Partner, ones: Sequence[_One], now: int) -> list[_One]:
        """Hold or refuse timed controls nearer to others of the issuer than their IEDs' clocks are apart."""
        timed = [
            (one.wanted.mrid, serial, one.wanted.not_before_utc_ms)
            for one in ones
            if one.wanted.not_before_utc_ms > now and ACTIONS[one.wanted.action].output
            for serial in one.targets
        ]
        if not timed:
            return list(ones)
        new = {one.wanted.mrid for one in ones}
        timed += [already for already in self._timed_already(issuer, now) if already[0] not in new]
        offsets = self._offsets({serial for _, serial, _ in timed}, now)
        found: dict[str, str] = {}
        for early, late in too_near([Timed(*one, offsets[one[1]]) for one in timed]):
            name = late.name if late.name in new else early.name
            if name in new:
                found.setdefault(name, _told(early, late))
        if found and self._commands.clock_gap == "refuse":
            raise ControlsRefused(items=[_item("clocks-apart", name, why) for name, why in found.items()])
        return [
            one._replace(first=First(State.HELD, found[one.wanted.mrid])) if one.wanted.mrid in found else one
            for one in ones
        ]

    def _timed_already(self, issuer: Partner, now: int) -> Iterator[tuple[str, str, int]]:
        states = (*OPEN, *policy.NOT_RELEASED)
        for one in self._store.controls(issuer=issuer.id, states=states, limit=_LOOKED_AT):
            control = one.control
            if control.not_before_utc_ms > now and ACTIONS[control.action].output:
                yield control.tracking_id, control.target, control.not_before_utc_ms

    def _offsets(self, serials: set[str], now: int) -> Mapping[str, int | None]:
        """How far the clock of each IED is from ours, as its newest messages tell."""
        found = {serial: call_ins(self._store, serial, now // 1000).calls for serial in serials}
        return {serial: offset_ms(Call(*call) for call in calls) for serial, calls in found.items()}


def _controls(issuer: Partner, one: _One) -> Iterator[NewControl]:
    wanted = one.wanted
    for serial in one.targets:
        control = Control(
            mrid="", issuer=issuer.id, role=issuer.role.value, tracking_id=wanted.mrid, action=wanted.action,
            target=serial, output=wanted.output, value=wanted.value, unit=wanted.unit,
            not_before_utc_ms=wanted.not_before_utc_ms, expires_utc_ms=wanted.expires_utc_ms,
            need_by_utc_ms=wanted.need_by_utc_ms, priority=wanted.priority, reason=wanted.reason, data=wanted.data,
        )  # fmt: skip
        yield NewControl(control, one.first.state, issuer.id, one.first.detail, wanted.group)


def _told(early: Timed, late: Timed) -> str:
    gap, apart = late.at_utc_ms - early.at_utc_ms, abs((early.offset_ms or 0) - (late.offset_ms or 0))
    return (
        f"{late.name} for {late.target} follows {early.name} for {early.target} by {gap} ms, and their clocks are "
        f"{apart} ms apart; set them (time-sync), or leave a larger gap"
    )


def _item(code: str, name: str, reason: str) -> Item:
    return Item(code, f"{name}: {reason}", "Payload/EndDeviceControls/EndDeviceControl")
