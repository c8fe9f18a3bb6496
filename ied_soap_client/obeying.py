"""Whether this device does what a command says: the list of whom it obeys, target, counter, times, output.

In: a control whose seal was verified, what the device knows, and a moment. Out: act, refuse with the reason the issuer
is told, expire, or wait. Pure: no clock, no spool, no output here; `acting.py` does what the verdict says. A command
that no line of the list allows is refused: a device obeys nobody until its owner says whom (DESIGN 4, F22, F23).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple

from gridpost import units
from gridpost.controls import ACTIONS, Control, Role

# What the device does by itself; every other action is done by an output that declares it.
OWN_ACTIONS = frozenset(("time-sync", "request-data"))
# F22: the origin of a billing reset is the customer or the utility, whatever the list says.
MAY_RESET = frozenset((Role.UTILITY.value, Role.CUSTOMER.value))


class Obeyed(NamedTuple):
    """A line of the list: this issuer, in this role, may ask for this action."""

    issuer: str
    role: str
    action: str


class Snapshot(Enum):
    """How far the readings are that a billing reset needs stored before it: F22."""

    NONE = "none"
    SENT = "sent"
    RECEIPTED = "receipted"


class Knowledge(NamedTuple):
    """What the device knows when it judges.

    Attributes:
        serial: its own.
        counter: highest counter of its controls before this one came.
        obeys: the list.
        outputs: name of an output -> the actions it does.
        registers: whether it has registers that could be read before a reset.
        snapshot: of this control.
    """

    serial: str
    counter: int
    obeys: frozenset[Obeyed]
    outputs: Mapping[str, frozenset[str]]
    registers: bool = False
    snapshot: Snapshot = Snapshot.NONE


class Act(NamedTuple):
    """Do it now; `output` is empty for what the device does by itself."""

    output: str


class Refuse(NamedTuple):
    """Never do it; the issuer is told why."""

    reason: str


class Expire(NamedTuple):
    """Too late; the issuer is told."""

    reason: str


class Wait(NamedTuple):
    """Not yet: not before a moment (UTC ms), or not before something happens when that is 0."""

    until_utc_ms: int
    reason: str


Verdict = Act | Refuse | Expire | Wait


def judge(control: Control, knowledge: Knowledge, now_utc_ms: int) -> Verdict:
    """Judge a control at a moment by the bus's time as the device knows it.

    Args:
        control: verified: what a bus that may be believed sealed.
        knowledge: see there.
        now_utc_ms: the moment.

    Returns:
        Act: every rule allows it now.
        Refuse: the first rule that forbids it, in the order of `_RULES`.
        Expire: `now_utc_ms` is `expires_utc_ms` or later.
        Wait: not before `not_before_utc_ms`; or, for a billing reset, until its snapshot is receipted.
    """
    for rule in _RULES:
        if reason := rule(control, knowledge):
            return Refuse(reason)
    if control.expires_utc_ms and now_utc_ms >= control.expires_utc_ms:
        return Expire(f"expired at {units.format_utc_ms(control.expires_utc_ms)}")
    if now_utc_ms < control.not_before_utc_ms:
        until = units.format_utc_ms(control.not_before_utc_ms)
        return Wait(control.not_before_utc_ms, f"not before {until}")
    if control.action == "billing-reset" and knowledge.snapshot is not Snapshot.RECEIPTED:
        return Wait(0, "until the readings taken before the reset are receipted")
    return Act(_output_of(control, knowledge))


def _target(control: Control, knowledge: Knowledge) -> str:
    return "" if control.target == knowledge.serial else f"it is for {control.target}, this is {knowledge.serial}"


def _counter(control: Control, knowledge: Knowledge) -> str:
    seen = control.counter <= knowledge.counter
    return f"its counter {control.counter} is not above {knowledge.counter}, the last one seen" if seen else ""


def _known_action(control: Control, _knowledge: Knowledge) -> str:
    return "" if control.action in ACTIONS else f"{control.action} is no action this device knows"


def _obeyed(control: Control, knowledge: Knowledge) -> str:
    asked = Obeyed(control.issuer, control.role, control.action)
    if asked in knowledge.obeys:
        return ""
    lines = knowledge.obeys
    if not any(line.issuer == asked.issuer for line in lines):
        return f"this device does not obey {asked.issuer}"
    if not any(line[:2] == asked[:2] for line in lines):
        return f"this device does not obey {asked.issuer} as {asked.role}"
    return f"this device does not obey {asked.issuer} as {asked.role} in {asked.action}"


def _origin(control: Control, _knowledge: Knowledge) -> str:
    wrong = control.action == "billing-reset" and control.role not in MAY_RESET
    return f"a billing reset comes from the customer or the utility, not from a {control.role}" if wrong else ""


def _value(control: Control, _knowledge: Knowledge) -> str:
    unit = ACTIONS[control.action].unit
    if not unit:
        return ""
    if control.unit != unit:
        return f"{control.action} needs a value in {unit}"
    try:
        units.decimal_text(control.value)
    except ValueError:
        return f"{control.value!r} is no decimal number"
    return ""


def _output(control: Control, knowledge: Knowledge) -> str:
    if control.action in OWN_ACTIONS:
        return ""
    doing = [name for name, actions in knowledge.outputs.items() if control.action in actions]
    if control.output and control.output not in knowledge.outputs:
        return f"this device has no output {control.output}"
    if control.output and control.output not in doing:
        return f"output {control.output} does not do {control.action}"
    if not control.output and ACTIONS[control.action].output:
        return f"{control.action} must name the output"
    if not doing:
        return f"no output of this device does {control.action}"
    return "" if control.output or len(doing) == 1 else f"{', '.join(doing)} do {control.action}: it must name one"


def _registers(control: Control, knowledge: Knowledge) -> str:
    missing = control.action == "billing-reset" and not knowledge.registers
    return "this device reads no register that could be stored before a reset" if missing else ""


Rule = Callable[[Control, Knowledge], str]  # why not; empty: nothing against it
_RULES: tuple[Rule, ...] = (_target, _counter, _known_action, _obeyed, _origin, _value, _output, _registers)


def _output_of(control: Control, knowledge: Knowledge) -> str:
    if control.action in OWN_ACTIONS:
        return ""
    doing = (name for name, actions in knowledge.outputs.items() if control.action in actions)
    return control.output or next(doing)
