"""Estimation: values for intervals that have none, by a declared method, exact, each with what it rests on.

Floor 5. In: current readings of a channel around the holes, its rules, its zone. Out: estimates, and the holes for
which there is nothing to go by. The method: a straight line between the neighbours over gaps up to `line_s`; else, for
each interval, the mean of the same local time on the last days of the same kind (working days; Saturdays, Sundays and
holidays); then, where the register was read before and behind, all estimates in between scaled so that the intervals
add up to the register's difference. They are rounded so that this sum is kept to its last place. No hole is filled from
another estimate. What must not be done here: storing, or estimating what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from functools import cached_property
from typing import NamedTuple

from .. import units
from ..codes import Qualities, Quality, is_estimated
from ..model import Channel, Position
from ..ports import CurrentReadings
from . import stands
from .calendar import Period, expected_ends, runs
from .rules import Rules
from .stands import Span, between

LINE, LIKE_DAYS = "straight-line", "like-days"
QUALITY = "3.8.0"  # estimated, by meter data management: system 3, category 8 of IEC 61968-9 annex D
_PRECISION = 60
_LEAST_PLACES = 3


class Estimate(NamedTuple):
    """A value for an interval that had none.

    Attributes:
        end_utc: the interval's end.
        value: decimal literal.
        method: ``straight-line`` or ``like-days``.
        inputs: entries behind the values it was made from, each once, in order.
        stands: moments of the two register readings it was scaled between, UTC seconds; None: it was not.
    """

    end_utc: int
    value: str
    method: str
    inputs: tuple[Position, ...]
    stands: tuple[int, int] | None = None

    def qualities(self, author: str) -> Qualities:
        """Return what stands beside the value for ever: rule, inputs and author (a person or ``rule``)."""
        inputs = " ".join(f"{one.partition}:{one.seq}" for one in self.inputs)
        scaled = ""
        if self.stands is not None:
            scaled = f"; scaled to the register of {' and '.join(map(units.format_utc, self.stands))}"
        return (Quality(QUALITY, f"{self.method}; from {inputs}{scaled}; by {author}"),)


class _Group(NamedTuple):
    """Estimates that are rounded together; with what they are to add up to, and the stands that say so."""

    ends: tuple[int, ...]
    total: Decimal | None = None
    stands: tuple[int, int] | None = None


class Estimated(NamedTuple):
    """The estimates, ascending; and interval ends that stay without a value, with why in words."""

    estimates: tuple[Estimate, ...]
    left: tuple[tuple[int, str], ...]


class _Raw(NamedTuple):
    """An estimate before rounding."""

    value: Decimal
    method: str
    inputs: tuple[Position, ...]


def estimate(around: CurrentReadings, period: Period, rules: Rules, *, again: bool = False) -> Estimated:
    """Return values for the holes of a period.

    Args:
        around: the channel's current readings from `look_back_days` before the period to some days behind it, so that
            like days, neighbours and stands are seen.
        period: whose holes are filled; its zone is the channel's.
        rules: of the channel.
        again: count estimates of the period as holes too.
    """
    with localcontext(prec=_PRECISION):
        return _Estimating(around, period, rules, again).done()


class _Kept(NamedTuple):
    value: Decimal
    position: Position
    estimated: bool


@dataclass
class _Estimating:
    """One channel under way."""

    around: CurrentReadings
    period: Period
    rules: Rules
    again: bool

    def done(self) -> Estimated:
        raw: dict[int, _Raw] = {}
        left = []
        for gap in self._gaps():
            made = self._line(gap) or self._like_days(gap)
            raw |= made
            left += [(end, "no like day, and no neighbours near enough") for end in gap if end not in made]
        found = []
        for group in self._groups(raw):
            for end, value in _rounded(group, raw, self._places):
                found.append(Estimate(end, format(value, "f"), raw[end].method, raw[end].inputs, group.stands))
        return Estimated(tuple(sorted(found)), tuple(left))

    @cached_property
    def _channel(self) -> Channel:
        return self.around.channel

    @cached_property
    def _kept(self) -> Mapping[int, _Kept]:
        """The values on file, without those that are to be estimated again."""
        block = self.around.block
        columns = zip(block.ends_utc, block.values, block.qualities, self.around.positions, strict=True)
        return {
            end: _Kept(Decimal(text), position, is_estimated(given))
            for end, text, given, position in columns
            if text is not None and not (self.again and is_estimated(given) and self._asked(end))
        }

    def _asked(self, end: int) -> bool:
        return self.period.from_utc < end <= self.period.to_utc

    @cached_property
    def _places(self) -> int:
        """Digits behind the point: as many as the channel's values have, at least a watt hour of a kWh."""
        texts = (text for text in self.around.block.values if text is not None)
        return max((len(text.partition(".")[2]) for text in texts), default=_LEAST_PLACES) or 0

    def _gaps(self) -> Iterator[Sequence[int]]:
        """The holes, those beside each other together."""
        interval_s, channel = self._channel.interval_s, self._channel
        expected = (end for end in expected_ends(self.period, interval_s) if channel.holds_at(end))
        for from_utc, to_utc in runs((end for end in expected if end not in self._kept), interval_s):
            yield range(from_utc + interval_s, to_utc + 1, interval_s)

    # --- the two methods ---

    def _line(self, gap: Sequence[int]) -> dict[int, _Raw]:
        """A straight line between the values before and behind; nothing where it is too long, or one is an estimate."""
        interval_s = self._channel.interval_s
        before, behind = self._kept.get(gap[0] - interval_s), self._kept.get(gap[-1] + interval_s)
        if len(gap) * interval_s > self.rules.line_s or before is None or behind is None:
            return {}
        if before.estimated or behind.estimated:
            return {}
        step = (behind.value - before.value) / (len(gap) + 1)
        inputs = tuple(sorted({before.position, behind.position}))
        return {end: _Raw(before.value + step * number, LINE, inputs) for number, end in enumerate(gap, 1)}

    def _like_days(self, gap: Sequence[int]) -> dict[int, _Raw]:
        return {end: raw for end in gap if (raw := self._like_days_of(end)) is not None}

    def _like_days_of(self, end: int) -> _Raw | None:
        day, clock = self._local(end)
        found: list[_Kept] = []
        for back in range(1, self.rules.look_back_days + 1):
            other = day - timedelta(days=back)
            kept = self._by_clock.get((other, clock)) if self._is_off(other) == self._is_off(day) else None
            if kept is not None:
                found.append(kept)
            if len(found) == self.rules.like_days:
                break
        if not found:
            return None
        mean = sum((kept.value for kept in found), Decimal()) / len(found)
        return _Raw(mean, LIKE_DAYS, tuple(sorted({kept.position for kept in found})))

    @cached_property
    def _by_clock(self) -> Mapping[tuple[date, int], _Kept]:
        """What was measured, by local day and second of the local clock; of an hour that comes twice the first."""
        found: dict[tuple[date, int], _Kept] = {}
        for end, kept in self._kept.items():
            if not kept.estimated:
                found.setdefault(self._local(end), kept)
        return found

    def _local(self, end: int) -> tuple[date, int]:
        """The local day and second of the local clock at which an interval starts."""
        local = datetime.fromtimestamp(end - self._channel.interval_s, self.period.zone)
        return local.date(), local.hour * 3600 + local.minute * 60 + local.second

    def _is_off(self, day: date) -> bool:
        return day.weekday() > 4 or day in self.rules.days_off

    # --- the register ---

    def _groups(self, raw: Mapping[int, _Raw]) -> Iterator[_Group]:
        """The estimates between two stands together, with what the stands leave for them; each other one by itself.

        Not where a hole stays, or less than nothing is left: then they stay as they are.
        """
        taken: set[int] = set()
        for span in self._spans() if raw else ():
            ends = between(self._grid, span)
            holes = tuple(end for end in ends if end in raw and end not in taken)
            known = [self._kept[end].value for end in ends if end in self._kept]
            if span.energy is None or not holes or len(holes) + len(known) < len(ends):
                continue
            left = span.energy - sum(known, Decimal())
            if left >= 0:
                taken.update(holes)
                yield _Group(holes, left, (span.first.end_utc, span.last.end_utc))
        yield from (_Group((end,)) for end in raw if end not in taken)

    def _spans(self) -> list[Span]:
        grid = (self._grid[0] - self._channel.interval_s, *self._grid) if self._grid else ()
        return stands.spans(self.around.registers, grid, self.rules.register_s, self.rules.decimal("dial"))

    @cached_property
    def _grid(self) -> Sequence[int]:
        """The expected ends from the first reading or hole to the last."""
        moments = [*self.around.block.ends_utc, self.period.from_utc, self.period.to_utc]
        moments += [reading.time_utc for reading in self.around.registers]
        whole = Period(min(moments) - self._channel.interval_s, max(moments), self.period.zone)
        return [end for end in expected_ends(whole, self._channel.interval_s) if self._channel.holds_at(end)]


def _rounded(group: _Group, raw: Mapping[int, _Raw], places: int) -> Iterator[tuple[int, Decimal]]:
    """Yield the values of a group, rounded so that they add up to what they are to, to its last place.

    What is cut from one goes to the next: the running sum is what is rounded.
    """
    guessed = sum((raw[end].value for end in group.ends), Decimal())
    whole = guessed if group.total is None else group.total
    exponent = 0 if group.total is None else group.total.as_tuple().exponent
    unit = Decimal(1).scaleb(-max(places, -exponent if isinstance(exponent, int) else 0))
    running = given = Decimal()
    for number, end in enumerate(group.ends, 1):
        running += raw[end].value
        share = running / guessed if guessed > 0 else Decimal(number) / len(group.ends)
        total = (whole * share).quantize(unit, ROUND_HALF_EVEN)
        yield end, total - given
        given = total
