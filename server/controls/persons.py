"""What a person decides of commands beside the running bus: release, hold, delete; and what a release would reach.

In: an open store, whose controls, a name. Out: the steps appended, with their mails, in one transaction for each state
the controls were in. Every step compares the last state: of two that decide at once, one finds that it came too late.
What must not be done here: writing the log, or deciding without a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from gridpost.controls import FINAL, State, Step
from gridpost.errors import ConfigInvalid, ControlMoved, NotFound

from ..config import Config
from ..store import ControlOnFile, SqlStore
from ..store.call_ins import call_ins
from . import policy, reach, telling
from .clocks import Call
from .follower import is_partner, meter_of
from .reach import Share, Target

LONGEST_NAME = 64
# What a person may hold, or delete: an IED that has fetched it can no longer be kept from it.
_HOLDS = frozenset((State.PROPOSED, State.WAITING))
_DELETES = frozenset((State.PROPOSED, State.HELD, State.WAITING))

Decide = Callable[[ControlOnFile, "Person"], Step]


class Person(NamedTuple):
    """Who decides, when (UTC ms), by which settings, and why in words (may be empty)."""

    name: str
    now_utc_ms: int
    config: Config
    why: str = ""


class Decided(NamedTuple):
    """The steps that were appended, and the mRIDs of those controls that had gone on meanwhile."""

    steps: tuple[Step, ...]
    too_late: tuple[str, ...]


def check_person(name: str) -> None:
    """Hold a name against what stands in a step for ever.

    Raises:
        ConfigInvalid: empty, too long, or with characters that cannot be printed.
    """
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise ConfigInvalid(f"a person's name is 1 to {LONGEST_NAME} printable characters, not {name!r}")


def named(store: SqlStore, name: str) -> list[ControlOnFile]:
    """Return what a name stands for: the bus's mRID, or ``ISSUER/ID``, the issuer's own, of one or a whole group.

    Raises:
        NotFound: nothing.
    """
    issuer, separator, tracking_id = name.partition("/")
    one = store.control(name)
    found = store.tracked(issuer, tracking_id) if separator else [one] if one else []
    if not found:
        raise NotFound(f"there is no control {name}")
    return found


def release(one: ControlOnFile, person: Person) -> Step:
    """See `policy.released`."""
    return policy.released(one.control, one.steps, person.name, person.config.commands, person.now_utc_ms)


def hold(one: ControlOnFile, person: Person) -> Step:
    """Return the step that holds a control no IED has fetched.

    Raises:
        ControlMoved: it is held, fetched or over.
    """
    return _step(one, person, State.HELD, _HOLDS)


def delete(one: ControlOnFile, person: Person) -> Step:
    """Return the step that ends a control no IED has fetched.

    Raises:
        ControlMoved: it is fetched or over.
    """
    return _step(one, person, State.REFUSED, _DELETES)


def _step(one: ControlOnFile, person: Person, state: State, states: frozenset[State]) -> Step:
    if one.state not in states:
        raise ControlMoved(f"{one.control.mrid} is {one.state}")
    return Step(one.control.mrid, state, person.now_utc_ms, person.name, person.why or f"by {person.name}")


def decide(store: SqlStore, found: Sequence[ControlOnFile], decision: Decide, person: Person) -> Decided:
    """Append what a person decides of some controls, all or none where one cannot be decided so.

    Args:
        store: any open one.
        found: from `named`.
        decision: `release`, `hold` or `delete`.
        person: who.

    Raises:
        ConfigInvalid: a person without a name.
        ControlMoved: one of them is in a state in which this cannot be; nothing was appended.
    """
    check_person(person.name)
    steps = {one.control.mrid: decision(one, person) for one in found}
    partners = [partner for partner in store.partners() if is_partner(partner, person.now_utc_ms)]
    bus_id, done = person.config.bus.id, []
    for state, some in groupby(sorted(found, key=_state), key=_state):
        same = list(some)
        mails = [
            mail
            for one in same
            if (step := steps[one.control.mrid]).state is not one.state
            for mail in telling.step_mails(one.control, step, bus_id, partners, _meter(store, one, step))
        ]
        done += store.tell([steps[one.control.mrid] for one in same], {state}, mails)
    late = steps.keys() - {step.control for step in done}
    return Decided(tuple(done), tuple(sorted(late)))


def _meter(store: SqlStore, one: ControlOnFile, step: Step) -> str:
    return meter_of(store, one.control.target, step.at_utc_ms) if step.state in FINAL else ""


def _state(one: ControlOnFile) -> State:
    return one.state


# --- reach -----------------------------------------------------------------------------------------------------------


class Reach(NamedTuple):
    """Shares within some minutes: what is expected, or, of controls that were released, what was reached."""

    forecast: tuple[Share, ...]
    reached: tuple[Share, ...] = ()


def reach_of(store: SqlStore, serials: Sequence[str], now_utc_ms: int) -> Reach:
    """Return what a command for these IEDs is expected to reach, from their rhythm (D6)."""
    return Reach(tuple(reach.forecast(list(_targets(store, serials, now_utc_ms).values()), now_utc_ms)))


def reached_of(store: SqlStore, found: Sequence[ControlOnFile], now_utc_ms: int) -> Reach:
    """Return what controls are expected to reach from now on, and what was reached since their release."""
    targets = _targets(store, sorted({one.control.target for one in found}), now_utc_ms)
    everybody, shares = list(targets.values()), []
    for minutes in reach.WITHIN_MIN:
        fetched = reach.was_reached([(one.control.target, one.steps) for one in found], minutes * 60_000)
        shares.append(reach.share(minutes, everybody, fetched))
    return Reach(tuple(reach.forecast(everybody, now_utc_ms)), tuple(shares))


def _targets(store: SqlStore, serials: Sequence[str], now_utc_ms: int) -> Mapping[str, Target]:
    return {target.serial: target for target in _known(store, serials, now_utc_ms)}


def _known(store: SqlStore, serials: Sequence[str], now_utc_ms: int) -> Iterator[Target]:
    for serial in serials:
        habits = call_ins(store, serial, now_utc_ms // 1000)
        yield Target(serial, tuple(Call(*call) for call in habits.calls), habits.power_kw)
