"""What each hour cost: the lines of a bill laid back over the hours they rest on, for pictures and reports.

Floor 4. In: what was measured in a period, the lines worked out of it. Out: kWh and money of each local hour, and what
belongs to none (standing charges, minima, percentages). The money of all hours and of no hour together is the lines'
total exactly. Nothing is priced here anew.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import NamedTuple

from ..tariff import ZERO, IntervalPrices, Tariff
from .calendar import Hour, hours
from .charges import Line
from .determinants import ENERGY, EXPORT, PRECISION, REACTIVE, Measured
from .series import Series

_PLACES = Decimal("0.000001")  # an hour's share of a line: a millionth of the currency's unit
_MEASURES = {"export": EXPORT, "reactive": REACTIVE}


class HourCost(NamedTuple):
    """One local hour; where a clock is set back, the hour that comes twice is one of two hours.

    Attributes:
        end_utc: end of its last interval, UTC seconds.
        day: proleptic Gregorian ordinal of the local date; hour: 0 to 23.
        kwh: energy taken in it; amount: what it cost.
    """

    end_utc: int
    day: int
    hour: int
    kwh: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class CostByHour:
    """The hours of a period in order, and (kind of charge, money) of what belongs to no hour."""

    hours: tuple[HourCost, ...]
    at_no_hour: tuple[tuple[str, Decimal], ...]

    @property
    def total(self) -> Decimal:
        """All of it: the total of the lines."""
        return sum((one.amount for one in self.hours), ZERO) + sum((money for _, money in self.at_no_hour), ZERO)

    def by_clock(self) -> tuple[tuple[Decimal, Decimal], ...]:
        """Return kWh and money of each hour of the local clock, 24 of them, summed over the days."""
        sums = [[ZERO, ZERO] for _ in range(24)]
        for one in self.hours:
            sums[one.hour][0] += one.kwh
            sums[one.hour][1] += one.amount
        return tuple((kwh, amount) for kwh, amount in sums)


def of(cases: Sequence[Measured], tariffs: Sequence[Tariff], lines: Sequence[Line]) -> CostByHour:
    """Return the cost of each hour of some periods that follow each other.

    Args:
        cases: what was measured, by period.
        tariffs: that the lines were worked out under, for real-time prices; others do not matter.
        lines: of all the periods.
    """
    prices = [tariff.interval_prices for tariff in tariffs if tariff.interval_prices is not None]
    with localcontext(prec=PRECISION):
        grids = [_Grid(case, prices) for case in cases]
        elsewhere: dict[str, Decimal] = {}
        for line in lines:
            if not any(grid.lay(line) for grid in grids):
                elsewhere[line.kind] = elsewhere.get(line.kind, ZERO) + line.amount
        return CostByHour(tuple(one for grid in grids for one in grid.costs()), tuple(sorted(elsewhere.items())))


class _Grid:
    """The hours of one period while lines are laid over them."""

    def __init__(self, found: Measured, prices: Sequence[IntervalPrices]) -> None:
        self._found, self._prices = found, prices
        self._energy = found.by_measure[ENERGY]
        self._hours = hours(found.period, self._energy.interval_s)
        self._firsts = [self._energy.ends_utc[hour.first] for hour in self._hours]
        self._lasts = [self._energy.ends_utc[hour.beyond - 1] for hour in self._hours]
        self._amounts = [ZERO] * len(self._hours)

    def lay(self, line: Line) -> bool:
        """Share a line out over the hours it rests on; tell whether it rests on any of these."""
        within = [place for span in line.spans for place in self._within(span)]
        weights = [self._weight(self._hours[place], line.kind) for place in within]
        whole, left = sum(weights, ZERO), line.amount
        if not whole:
            return False
        for place, weight in zip(within[:-1], weights[:-1], strict=True):
            share = (line.amount * weight / whole).quantize(_PLACES)
            self._amounts[place] += share
            left -= share
        self._amounts[within[-1]] += left
        return True

    def costs(self) -> Iterator[HourCost]:
        """Yield the hours."""
        for hour, amount in zip(self._hours, self._amounts, strict=True):
            kwh = self._energy.scaled(_sum(self._energy, hour))
            yield HourCost(self._energy.ends_utc[hour.beyond - 1], hour.day, hour.hour, kwh, amount)

    def _within(self, span: tuple[int, int]) -> range:
        """The places of the hours that have an interval of a span."""
        return range(bisect_right(self._lasts, span[0]), bisect_right(self._firsts, span[1]))

    def _weight(self, hour: Hour, kind: str) -> Decimal:
        """By what part of a line an hour has: its energy, under real-time prices what that came to."""
        series = self._found.by_measure.get(_MEASURES.get(kind, ENERGY), self._energy)
        if kind != "real-time":
            return max(Decimal(_sum(series, hour)), ZERO)
        ends, values = series.ends_utc[hour.first : hour.beyond], series.values[hour.first : hour.beyond]
        return sum((_price(self._prices, end) * value for end, value in zip(ends, values, strict=True)), ZERO)


def _sum(series: Series, hour: Hour) -> int:
    return series.sums[hour.beyond] - series.sums[hour.first]


def _price(prices: Sequence[IntervalPrices], end_utc: int) -> Decimal:
    """The real-time price of the interval that one lies in; two tariffs with such prices are paid together."""
    total = ZERO
    for one in prices:
        place = -((one.ends_utc[0] - end_utc) // one.interval_s)
        total += one.prices[place] if 0 <= place < len(one.prices) else ZERO
    return total
