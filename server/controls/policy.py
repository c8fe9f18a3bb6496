"""What may be asked for and what a control's first state is: roles, persons, thresholds. Pure: no store, no clock.

In: what an issuer wants, the settings, how much was released lately. Out: findings, a first state, or the step that a
person's word makes. What must not be done here: recording anything; `intake.py` asks here and records, `release.py`
asks here for persons. A value is summed exactly (Decimal); a threshold is exceeded by the first command beyond it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from gridpost import units
from gridpost.controls import ACTIONS, Control, Role, State, Step, Wanted
from gridpost.errors import ControlMoved, Item
from gridpost.partners import MAY

from ..config import Commands

NOT_RELEASED = frozenset((State.PROPOSED, State.HELD))
# What the first of two persons leaves behind; who it was is the step's `by`.
FIRST_OF_TWO = "released by one person; another one must release it too"


class Sum(NamedTuple):
    """How many commands, and the sum of their values."""

    number: int = 0
    value: Decimal = Decimal()

    @classmethod
    def of(cls, number: int, value: str) -> Sum:
        """Return what the store tells as text, as a value."""
        return cls(number, Decimal(value or "0"))

    def plus(self, other: Sum) -> Sum:
        """Return both together."""
        return Sum(self.number + other.number, self.value + other.value)


class Load(NamedTuple):
    """What was released in the period of one action: of the issuer that asks, and of all issuers together."""

    own: Sum = Sum()
    all: Sum = Sum()

    def plus(self, other: Sum) -> Load:
        """Return the load with `other` of the same issuer added."""
        return Load(self.own.plus(other), self.all.plus(other))


class First(NamedTuple):
    """A control's first state, and why in words; the text is what issuer and operator read."""

    state: State
    detail: str = ""


def may(role: Role, commands: Commands) -> frozenset[str]:
    """Return the actions a role may ask for; the settings can only narrow what roles are for."""
    return MAY[role] & frozenset(commands.may.get(role.value, MAY[role]))


def check_wanted(wanted: Wanted, role: Role, commands: Commands, now_utc_ms: int) -> list[Item]:
    """Return what speaks against a control, whoever its target is; empty: nothing.

    Args:
        wanted: with `expires_utc_ms` filled in, see `lasting`.
        role: of who asks.
        commands: the settings.
        now_utc_ms: UTC milliseconds.
    """
    action = ACTIONS.get(wanted.action)
    if action is None:
        return [_item(wanted, "action-unknown", f"there is no action {wanted.action[:80]}")]
    rules = (
        (wanted.action in may(role, commands), "action-not-permitted", f"a {role} may not ask for {wanted.action}"),
        (bool(wanted.output) == action.output, "output-wrong",
         f"{wanted.action} {'names an output' if action.output else 'has no output'} of the device"),
        (_has_value(wanted), "value-wrong",
         f"{wanted.action} takes " + (f"a value in {action.unit}, not below 0" if action.unit else "no value")),
        (wanted.expires_utc_ms > now_utc_ms, "expired", "its end is past"),
        (wanted.expires_utc_ms > wanted.not_before_utc_ms, "times-wrong", "it ends before it may be acted on"),
        (0 <= wanted.priority <= 9, "priority-wrong", "priority is 0 (most urgent) to 9"),
    )  # fmt: skip
    return [_item(wanted, code, reason) for holds, code, reason in rules if not holds]


def lasting(wanted: Wanted, commands: Commands, now_utc_ms: int) -> Wanted:
    """Return a control with an end: its own, or the settings' life from when it may be acted on."""
    if wanted.expires_utc_ms:
        return wanted
    begins = max(now_utc_ms, wanted.not_before_utc_ms)
    return wanted._replace(expires_utc_ms=begins + commands.life_s * 1000)


def asked(wanted: Wanted, targets: int) -> Sum:
    """Return what a control for so many IEDs adds to a load."""
    return Sum(targets, _decimal(wanted.value) * targets)


def first(action: str, more: Sum, load: Load, commands: Commands, *, counts: bool) -> First:
    """Return the first state of a control: held where a threshold is exceeded, else waiting or proposed.

    One control for a group is judged as one: half a group is never switched.

    Args:
        action: name of ACTIONS.
        more: what it would add, see `asked`.
        load: what was released in the period before it.
        commands: the settings.
        counts: whether the request counts as a command; without a signature it is a proposal (issue 5).
    """
    if reason := _exceeded(action, load.plus(more), commands):
        return First(State.HELD, reason)
    if not counts:
        return First(State.PROPOSED, "asked for without a signature; a person must release it")
    if needed := commands.persons.get(action, 0):
        return First(State.PROPOSED, f"{action} must be released by {needed} person{'s' * (needed > 1)}")
    return First(State.WAITING)


def _exceeded(action: str, load: Load, commands: Commands) -> str:
    counts = ((commands.most, load.own, "of this issuer"), (commands.most_all, load.all, "of all issuers"))
    for most, together, whose in counts:
        if action in most and together.number > most[action]:
            return f"{together.number} {action} {whose} within {commands.period_s} s exceed {most[action]}"
    values = ((commands.value, load.own, "of this issuer"), (commands.value_all, load.all, "of all issuers"))
    for limits, together, whose in values:
        if action in limits and together.value > Decimal(limits[action]):
            sum_, unit = format(together.value, "f"), ACTIONS[action].unit
            return f"{sum_} {unit} of {action} {whose} within {commands.period_s} s exceed {limits[action]}"
    return ""


# --- persons ---------------------------------------------------------------------------------------------------------


def released(control: Control, steps: Sequence[Step], person: str, commands: Commands, now_utc_ms: int) -> Step:
    """Return the step that a person's release makes: waiting, or the first of two.

    Args:
        control: what is released.
        steps: its life so far.
        person: who releases it; two names that differ only in case or blanks are one.
        commands: the settings.
        now_utc_ms: UTC milliseconds.

    Raises:
        ControlMoved: it waits for nobody's release, has expired, or this person has released it before.
    """
    state = steps[-1].state
    if state not in NOT_RELEASED:
        raise ControlMoved(f"{control.mrid} is {state}; only what is proposed or held is released")
    if now_utc_ms >= control.expires_utc_ms:
        raise ControlMoved(f"{control.mrid} expired at {units.format_utc_ms(control.expires_utc_ms)}")
    before = {_name(step.by) for step in _since_held(steps) if step.detail == FIRST_OF_TWO}
    if len(before | {_name(person)}) >= commands.persons.get(control.action, 1):
        return Step(control.mrid, State.WAITING, now_utc_ms, person, "released")
    if _name(person) in before:
        raise ControlMoved(f"{control.mrid} was released by {person} already; another person must release it too")
    return Step(control.mrid, state, now_utc_ms, person, FIRST_OF_TWO)


def _since_held(steps: Sequence[Step]) -> Sequence[Step]:
    """The steps since it last began to wait for persons: a release before it was held again is none."""
    began = len(steps)
    while began and steps[began - 1].state is steps[-1].state:
        began -= 1
    return steps[began:]


def _name(person: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", person).casefold().split())


def _has_value(wanted: Wanted) -> bool:
    unit = ACTIONS[wanted.action].unit
    if not unit:
        return not (wanted.value or wanted.unit)
    return wanted.unit == unit and _is_decimal(wanted.value) and not wanted.value.startswith("-")


def _is_decimal(text: str) -> bool:
    try:
        return units.decimal_text(text) != ""
    except ValueError:
        return False


def _decimal(text: str) -> Decimal:
    return Decimal(text) if text and _is_decimal(text) else Decimal()


def _item(wanted: Wanted, code: str, reason: str) -> Item:
    return Item(code, f"{wanted.mrid}: {reason}", "Payload/EndDeviceControls/EndDeviceControl")
