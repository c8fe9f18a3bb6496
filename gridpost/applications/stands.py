"""The stands of a channel's register, and the energy between two of them, over a rollover too.

Floor 4. In: register readings, the interval ends they may belong to. Out: stands on the grid, ascending, and spans from
one to the next. Exact decimals in the channel's unit: a register's type has the unit of its channel's.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import groupby, pairwise
from typing import NamedTuple

from ..model import RegisterReading

# Where registers start at 0 again when nobody has said it: whole dials of digits, and 32 bits in Wh, in kWh and finer.
_DIALS = tuple(
    sorted((*(Decimal(10) ** digits for digits in range(4, 10)), *(Decimal(2**32).scaleb(-k) for k in range(4))))
)
_NEAR = Decimal("0.9")  # a stand from which a dial may pass its highest number, as a share of that
_PLAUSIBLE = Decimal("0.1")  # more of a dial than this is not used between two stands


class Stand(NamedTuple):
    """A register's stand at an interval's end (UTC seconds), in the channel's unit."""

    end_utc: int
    value: Decimal
    reading_type: str


class Span(NamedTuple):
    """What a register counted between two stands of it.

    Attributes:
        first, last: the stands.
        energy: None where it went back without passing its highest number.
        rolled: whether it passed that.
    """

    first: Stand
    last: Stand
    energy: Decimal | None
    rolled: bool = False

    @property
    def last_places(self) -> Decimal:
        """One in the last place of each of the two stands, together: as far as they may be cut."""
        return sum((Decimal(1).scaleb(_exponent(stand.value)) for stand in (self.first, self.last)), Decimal())


def spans(
    registers: Sequence[RegisterReading], ends_utc: Sequence[int], tolerance_s: int, dial: Decimal | None
) -> list[Span]:
    """Return the spans between the stands of each register, in order of their type and time.

    Args:
        registers: any of the channel's, ascending.
        ends_utc: interval ends, ascending, with the moment before the first interval; a reading further than
            `tolerance_s` from each of them is no stand.
        tolerance_s: seconds.
        dial: where the register starts at 0 again; None: told from the stand.
    """
    placed = sorted(_placed(registers, ends_utc, tolerance_s), key=_by_type)
    return [
        _span(first, last, dial)
        for _, same in groupby(placed, key=_by_type)
        for first, last in pairwise(same)
        if first.end_utc < last.end_utc
    ]


def between(ends_utc: Sequence[int], span: Span) -> Sequence[int]:
    """Return those of ascending interval ends that lie between the stands of a span."""
    return ends_utc[bisect_right(ends_utc, span.first.end_utc) : bisect_right(ends_utc, span.last.end_utc)]


def _placed(registers: Sequence[RegisterReading], ends_utc: Sequence[int], tolerance_s: int) -> Iterator[Stand]:
    for reading in registers:
        at = bisect_left(ends_utc, reading.time_utc)
        near = min(ends_utc[max(0, at - 1) : at + 1], key=lambda end: abs(end - reading.time_utc), default=None)
        if near is not None and abs(near - reading.time_utc) <= tolerance_s:
            yield Stand(near, Decimal(reading.value), reading.channel.reading_type)


def _by_type(stand: Stand) -> str:
    return stand.reading_type


def _span(first: Stand, last: Stand, dial: Decimal | None) -> Span:
    if last.value >= first.value:
        return Span(first, last, last.value - first.value)
    for size in (dial,) if dial is not None else _DIALS:
        energy = size - first.value + last.value
        near = dial is not None or first.value >= size * _NEAR
        if near and 0 <= energy <= size * _PLAUSIBLE:
            return Span(first, last, energy, rolled=True)
    return Span(first, last, None)


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int), "a decimal literal is a number"
    return min(exponent, 0)
