"""Commands to devices, as values: what an issuer asks for, what the bus seals for one IED, what became of it.

Floor 0: values only. Names after IEC 61968-9's EndDeviceControl; what that profile has no element for (counter, role,
priority, output, value) travels in ``urn:gridpost:control:1`` Instruction (xsd/control.xsd). Times are UTC
milliseconds, a value is a decimal literal as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

_MRID = re.compile(r"(0|[1-9][0-9]{0,8})-(0|[1-9][0-9]{0,17})-(0|[1-9][0-9]{0,8})", re.ASCII)


class Role(StrEnum):
    """What a partner is (DESIGN 4, FEATURES F3-F4)."""

    UTILITY = "utility"
    SUPPLIER = "supplier"
    CUSTOMER = "customer"
    THIRD_PARTY = "third-party"
    OPERATOR = "operator"


class Action(NamedTuple):
    """A kind of command (FEATURES section O).

    Attributes:
        code: EndDeviceControlType ref, ``deviceType.domain.subDomain.action``; kept as data, the standard's full table
            is not public.
        unit: symbol of the value it needs; empty: it takes none.
        output: whether it names an output of the device (a load, a generator, a relay).
    """

    code: str
    unit: str = ""
    output: bool = False


ACTIONS: Mapping[str, Action] = {
    "shed": Action("3.15.0.23", output=True),
    "restore": Action("3.15.0.18", output=True),
    "reduce": Action("3.15.0.139", unit="kW", output=True),  # consumption to a level (F63)
    "start-generator": Action("3.10.0.242", output=True),
    "disconnect-generator": Action("3.10.0.23", output=True),
    "trip": Action("3.31.0.23", output=True),
    "inhibit": Action("3.31.0.54", output=True),  # a relay must not act on what another already acted on (F67)
    "billing-reset": Action("3.8.0.214"),
    "tariff-update": Action("3.20.0.13"),
    "switch-supplier": Action("3.20.0.24"),
    "time-sync": Action("3.36.0.4"),
    "request-data": Action("3.21.0.120"),
}
ACTION_OF_CODE: Mapping[str, str] = {action.code: name for name, action in ACTIONS.items()}


class Wanted(NamedTuple):
    """A control as an issuer asks for it: one target device, or a group that becomes one control for each of its IEDs.

    Attributes:
        mrid: the issuer's own id of it, unique for that issuer; <= 64 printable ASCII characters.
        action: a name of ACTIONS.
        targets: serials of IEDs.
        group: name of a group of IEDs; empty: none.
        output: the output of the device it names; empty where the action has none.
        value: decimal literal, where the action has a unit.
        unit: its symbol.
        not_before_utc_ms: not acted on earlier; 0: at once.
        expires_utc_ms: not acted on from then on.
        need_by_utc_ms: when the issuer needs the effect; 0: not stated.
        priority: 0 (most urgent) to 9.
        reason: free text.
        data: (name, value) of what else the action needs, such as the period of request-data.
    """

    mrid: str
    action: str
    targets: tuple[str, ...]
    group: str = ""
    output: str = ""
    value: str = ""
    unit: str = ""
    not_before_utc_ms: int = 0
    expires_utc_ms: int = 0
    need_by_utc_ms: int = 0
    priority: int = 5
    reason: str = ""
    data: tuple[tuple[str, str], ...] = ()


class Control(NamedTuple):
    """One command for one IED, as sealed by the bus (DESIGN 4).

    Attributes:
        mrid: the bus's id of it: ``<partition>-<seq>-<line>`` of the row that holds it.
        issuer: the partner's id; `role`: what it was when it asked.
        tracking_id: the issuer's own mRID of it.
        target: the IED's serial.
        counter: per IED, rising, given at its first fetch; 0 before.
    The others as in `Wanted`.
    """

    mrid: str
    issuer: str
    role: str
    tracking_id: str
    action: str
    target: str
    output: str = ""
    value: str = ""
    unit: str = ""
    not_before_utc_ms: int = 0
    expires_utc_ms: int = 0
    need_by_utc_ms: int = 0
    priority: int = 5
    reason: str = ""
    data: tuple[tuple[str, str], ...] = ()
    counter: int = 0


class State(StrEnum):
    """Where a control is in its life; the last step on file says it."""

    PROPOSED = "proposed"  # waits for a person's release
    HELD = "held"  # quarantine: exceeds a threshold, a person deletes or releases it
    WAITING = "waiting"  # the IED may fetch it
    FETCHED = "fetched"  # sealed; the IED may have it
    ACCEPTED = "accepted"  # the IED says it will act
    REFUSED = "refused"  # by the IED, or deleted by a person
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"  # the IED cannot tell whether it acted, and will not act twice
    EXPIRED = "expired"
    CANCELED = "canceled"


FINAL = frozenset((State.REFUSED, State.DONE, State.FAILED, State.UNKNOWN, State.EXPIRED, State.CANCELED))
OPEN = frozenset((State.WAITING, State.FETCHED, State.ACCEPTED))  # what an IED may still be told


class Step(NamedTuple):
    """One step in a control's life, appended, never changed.

    Attributes:
        control: mRID.
        state: entered.
        at_utc_ms: when.
        by: partner id, IED serial, person's name or ``bus``.
        detail: why, in words.
    """

    control: str
    state: State
    at_utc_ms: int
    by: str
    detail: str = ""


class NewControl(NamedTuple):
    """A control to be recorded with the entry that asks for it: one of `model.Rows.controls`.

    Attributes:
        control: its `mrid` and `counter` do not count: the writer and the first fetch give them.
        state: its first step: proposed, held or waiting.
        by: of that step.
        detail: of that step.
        group: name of the group it was asked for; empty: none.
    """

    control: Control
    state: State
    by: str
    detail: str = ""
    group: str = ""


# Which state a step that an IED or the clock brings may follow; what a person decides names its states itself. What the
# bus gave up as unknown, since no word came, the IED's own late word still moves; its own `unknown` is its last word.
FOLLOWS: Mapping[State, frozenset[State]] = {
    State.FETCHED: frozenset((State.WAITING,)),
    State.ACCEPTED: frozenset((State.FETCHED,)),
    **dict.fromkeys(
        (State.REFUSED, State.DONE, State.FAILED, State.UNKNOWN),  # true even when the bus has given it up meanwhile
        frozenset((State.FETCHED, State.ACCEPTED, State.EXPIRED, State.CANCELED, State.UNKNOWN)),
    ),
    State.EXPIRED: frozenset((State.PROPOSED, State.HELD, State.WAITING, State.FETCHED, State.ACCEPTED, State.UNKNOWN)),
}


def mrid_of(partition: int, seq: int, line: int) -> str:
    """Return the mRID of the control that an entry's row is."""
    return f"{partition}-{seq}-{line}"


def place_of(mrid: str) -> tuple[int, int, int] | None:
    """Return partition, seq and line of a control's row; None: no control of this bus has such an mRID."""
    match = _MRID.fullmatch(mrid)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def name_part(transaction: str, action: str) -> str:
    """Return the mRID for the controls of one action, where one transaction of an issuer asks for several actions."""
    return f"{transaction}#{action}"


def transaction_of(tracking_id: str, action: str) -> str:
    """Return the issuer's own name of the transaction that a control's mRID is of; see `name_part`."""
    return tracking_id.removesuffix(f"#{action}")


# An IED tells what became of a control by an EndDeviceEvent with these EndDeviceEventDetails (names -> values).
OUTCOME_EVENT = "3.15.0.85"
DETAIL_CONTROL, DETAIL_COUNTER, DETAIL_OUTCOME, DETAIL_REASON = "control", "counter", "outcome", "outcomeReason"
# What the bus adds for offices: what was asked for, and, where it is over, the one meter that its IED speaks for.
DETAIL_ACTION, DETAIL_METER, DETAIL_TRACKING = "action", "meter", "trackingID"
OUTCOMES: Mapping[str, State] = {
    "accepted": State.ACCEPTED,
    "refused": State.REFUSED,
    "done": State.DONE,
    "failed": State.FAILED,
    "unknown": State.UNKNOWN,
    "expired": State.EXPIRED,
}
