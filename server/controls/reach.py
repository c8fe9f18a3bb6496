"""D6: how much of a load a command would reach, and when: from the rhythm in which each IED calls. Pure.

In: the calls of each target, its last power, who is connected, now. Out: shares of the targets and of their power
within some minutes; afterwards what was reached, from the steps. What must not be done here: promising: an IED that
has kept silent for three of its periods counts as not reachable, one of which nothing is known too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

from gridpost.controls import State, Step

from .clocks import Call

WITHIN_MIN = (5, 15)
MISSED = 3  # periods of silence after which an IED is not counted on
_TENTHS = 9  # of ten gaps between calls, nine are not longer than the period: one late call does not make a rhythm


class Target(NamedTuple):
    """An IED as a target.

    Attributes:
        serial: its serial.
        calls: when it called, in any order.
        power_kw: what it drew in its last interval; None where that is not known.
        connected: whether it keeps a fetch open now.
    """

    serial: str
    calls: tuple[Call, ...] = ()
    power_kw: Decimal | None = None
    connected: bool = False


class Share(NamedTuple):
    """How much is reached within `minutes`: targets, of how many; power of them, of all whose power is known, in kW."""

    minutes: int
    reached: int
    targets: int
    reached_kw: Decimal
    known_kw: Decimal

    @property
    def percent(self) -> int:
        """Whole percent of the targets, rounded down."""
        return self.reached * 100 // self.targets if self.targets else 0

    @property
    def percent_kw(self) -> int | None:
        """Whole percent of the known power, rounded down; None where no power is known."""
        return int(self.reached_kw * 100 / self.known_kw) if self.known_kw else None


def next_call_ms(target: Target, now_utc_ms: int) -> int | None:
    """Return in how many milliseconds the IED is expected to call, 0: it is connected; None: no telling."""
    if target.connected:
        return 0
    moments = sorted(call.recorded_at_utc_ms for call in target.calls)
    gaps = sorted(later - earlier for earlier, later in pairwise(moments) if later > earlier)
    if not gaps:
        return None
    period = gaps[(len(gaps) - 1) * _TENTHS // 10]
    since = max(0, now_utc_ms - moments[-1])
    due = (since // period + 1) * period
    return due - since if due <= MISSED * period else None


def forecast(targets: Sequence[Target], now_utc_ms: int) -> list[Share]:
    """Return what would be reached within each of WITHIN_MIN minutes from now."""
    expected = [(one, next_call_ms(one, now_utc_ms)) for one in targets]
    shares = []
    for minutes in WITHIN_MIN:
        reached = {one.serial for one, wait_ms in expected if wait_ms is not None and wait_ms <= minutes * 60_000}
        shares.append(share(minutes, targets, reached))
    return shares


def share(minutes: int, targets: Sequence[Target], reached: Collection[str]) -> Share:
    """Return the share that the IEDs in `reached` are of the targets."""
    in_reach = [one for one in targets if one.serial in reached]
    return Share(minutes, len(in_reach), len(targets), _power(in_reach), _power(targets))


def was_reached(lives: Iterable[tuple[str, Sequence[Step]]], within_ms: int) -> set[str]:
    """Return the targets that fetched their control within so many milliseconds of its release.

    Args:
        lives: target and steps of each control.
        within_ms: from the step waiting to the first step fetched behind it.
    """
    reached = set()
    for target, steps in lives:
        released = next((step.at_utc_ms for step in steps if step.state is State.WAITING), None)
        fetched = next((step.at_utc_ms for step in steps if step.state is State.FETCHED), None)
        if released is not None and fetched is not None and fetched - released <= within_ms:
            reached.add(target)
    return reached


def _power(targets: Iterable[Target]) -> Decimal:
    return sum((one.power_kw for one in targets if one.power_kw is not None), Decimal())
