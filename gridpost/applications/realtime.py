"""The real-time path (Fig 4): each interval, or pulse count, priced as it comes; what is wrong with it (F53 to F57).

Floor 4. In: the measures of a billing cycle so far, the tariffs in force, what somebody wants watched. Out: ticks, and
findings (anomaly, excess, shortage), each where it begins. No clock, no state: the same readings give the same
findings, so a reader may ask again. A tick's price is that of the tier which the energy before it has reached; only the
bill, at the cycle's end, shares tiers out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from typing import NamedTuple

from ..ports import CurrentReadings
from ..tariff import ZERO, Tariff, Tier, Tiers
from .calendar import Hour, Period, hours
from .determinants import ENERGY, PRECISION, REACTIVE, Measured
from .series import Series

EXCESS, SHORTAGE, ANOMALY = "excess", "shortage", "anomaly"
_PLACES = Decimal("0.001")  # kVA that are worked out: to a VA
_ENOUGH = 3  # like intervals; of fewer nothing is usual
Kind = tuple[int, bool]  # local hour, whether the day is a Saturday or Sunday


class Pulses(NamedTuple):
    """What a channel that counts pulses counts: so much of an energy unit each (425b: translated here)."""

    each: Decimal
    unit: str = "kWh"


class Tick(NamedTuple):
    """One interval, priced.

    Attributes:
        end_utc: UTC seconds; day: proleptic Gregorian ordinal of its local date; kind: hour and kind of day.
        kwh: taken in it, below 0 when more was sent out; kw: its mean power.
        kva: likewise, 0 where no reactive energy is metered.
        price: of a kWh, all tariffs in force together; amount: kwh x price, not rounded.
    """

    end_utc: int
    day: int
    kind: Kind
    kwh: Decimal
    kw: Decimal
    kva: Decimal
    price: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is watched; None: it is not.

    Attributes:
        most_kw, most_kva: beyond it power is in excess; least_kw: below it there is a shortage.
        most_a_day, most_a_cycle: money; beyond it a local day, or the billing cycle, is in excess.
        times_usual: above 1; an interval is an anomaly beyond so many times what is usual, or below the usual divided
            by it (`usual`).
    """

    most_kw: Decimal | None = None
    most_kva: Decimal | None = None
    least_kw: Decimal | None = None
    most_a_day: Decimal | None = None
    most_a_cycle: Decimal | None = None
    times_usual: Decimal | None = None


class Finding(NamedTuple):
    """What is wrong with an interval.

    Attributes:
        kind: ``excess``, ``shortage``, ``anomaly``; bound: the name of the one of `Bounds` that was crossed.
        end_utc: of the interval that crossed it; value, limit: in `unit`: kW, kVA, kWh, or empty for money.
    """

    end_utc: int
    kind: str
    bound: str
    value: Decimal
    limit: Decimal
    unit: str


def translated(counted: CurrentReadings, pulses: Pulses) -> CurrentReadings:
    """Return readings of a channel that counts pulses as energy; what is stored stays the count."""
    block = counted.block
    with localcontext(prec=PRECISION):
        values = tuple(None if text is None else format(Decimal(text) * pulses.each, "f") for text in block.values)
    channel = replace(counted.channel, unit=pulses.unit)
    return replace(counted, channel=channel, block=replace(block, values=values))


def ticks(found: Measured, tariffs: Sequence[Tariff], cycle: Period) -> tuple[Tick, ...]:
    """Return each interval that has a value, priced, in order.

    Args:
        found: the cycle so far, from its first moment.
        tariffs: in force together: one, or an energy and a distribution tariff (F65). One that has no price of a kWh at
            a moment adds nothing to it.
        cycle: the whole one: it has the days that tiers by the day count.
    """
    energy, reactive = found.by_measure[ENERGY], found.by_measure.get(REACTIVE)
    absent = frozenset(energy.missing)
    with localcontext(prec=PRECISION):
        meters = [_Meter(tariff, cycle) for tariff in tariffs]
        return tuple(
            _tick(meters, (energy, reactive), hour, index)
            for hour, index in _each(found.period, energy.interval_s)
            if index not in absent
        )


def judge(found: Sequence[Tick], bounds: Bounds, of_like: Mapping[Kind, Decimal], since_utc: int) -> list[Finding]:
    """Return what crossed a bound in intervals that end after `since_utc`; what goes on is told where it began.

    Args:
        found: of the cycle so far.
        bounds: what is watched.
        of_like: from `usual`.
        since_utc: what ended until then was judged before.
    """
    kws, kvas, kwhs = [one.kw for one in found], [one.kva for one in found], [one.kwh for one in found]
    of_day, of_cycle = _sums(found, lambda tick: tick.day), _sums(found, lambda _tick: 0)
    rules = (
        _Rule(EXCESS, "most_kw", "kW", kws, _over(bounds.most_kw)),
        _Rule(EXCESS, "most_kva", "kVA", kvas, _over(bounds.most_kva)),
        _Rule(SHORTAGE, "least_kw", "kW", kws, _under(bounds.least_kw)),
        _Rule(EXCESS, "most_a_day", "", of_day, _over(bounds.most_a_day)),
        _Rule(EXCESS, "most_a_cycle", "", of_cycle, _over(bounds.most_a_cycle)),
        _Rule(ANOMALY, "times_usual", "kWh", kwhs, _far(bounds.times_usual, of_like)),
    )
    with localcontext(prec=PRECISION):
        wrong = [one for rule in rules for one in _begun(rule, found)]
    return sorted(one for one in wrong if one.end_utc > since_utc)


def usual(history: Series, period: Period) -> Mapping[Kind, Decimal]:
    """Return the median kWh of an interval by hour and kind of day, estimates left out; of too few there is none."""
    skipped, values = frozenset((*history.missing, *history.estimated)), history.values
    like: dict[Kind, list[int]] = {}
    for hour, index in _each(period, history.interval_s):
        if index not in skipped:
            like.setdefault(_kind(hour), []).append(values[index])
    medians = {kind: sorted(those)[(len(those) - 1) // 2] for kind, those in like.items() if len(those) >= _ENOUGH}
    return {kind: history.scaled(median) for kind, median in medians.items()}


def _each(period: Period, interval_s: int) -> Iterator[tuple[Hour, int]]:
    return ((hour, index) for hour in hours(period, interval_s) for index in range(hour.first, hour.beyond))


def _kind(hour: Hour) -> Kind:
    return hour.hour, hour.weekday > 4


# --- what is wrong ---------------------------------------------------------------------------------------------------


Crossed = Callable[[Tick, Decimal], Decimal | None]  # a tick, its figure -> the limit it is beyond


class _Rule(NamedTuple):
    """A bound: what crossing it is called, and the figure of each tick that is held against it."""

    kind: str
    bound: str
    unit: str
    figures: Sequence[Decimal]
    crossed: Crossed


def _over(most: Decimal | None) -> Crossed:
    return lambda _tick, figure: most if most is not None and figure > most else None


def _under(least: Decimal | None) -> Crossed:
    return lambda _tick, figure: least if least is not None and figure < least else None


def _far(times: Decimal | None, of_like: Mapping[Kind, Decimal]) -> Crossed:
    def crossed(tick: Tick, figure: Decimal) -> Decimal | None:
        median = of_like.get(tick.kind)
        if times is None or median is None or median <= 0:
            return None
        return median * times if figure > median * times else median / times if figure < median / times else None

    return crossed


def _begun(rule: _Rule, found: Sequence[Tick]) -> Iterator[Finding]:
    """Yield a finding for each tick that is beyond and follows one that is not."""
    before = None
    for tick, figure in zip(found, rule.figures, strict=True):
        limit = rule.crossed(tick, figure)
        if limit is not None and before is None:
            yield Finding(tick.end_utc, rule.kind, rule.bound, figure, limit, rule.unit)
        before = limit


def _sums(found: Sequence[Tick], group: Callable[[Tick], int]) -> list[Decimal]:
    """What was spent up to each tick in its group."""
    spent: dict[int, Decimal] = {}
    sums = []
    for tick in found:
        spent[group(tick)] = spent.get(group(tick), ZERO) + tick.amount
        sums.append(spent[group(tick)])
    return sums


# --- what a kWh costs ------------------------------------------------------------------------------------------------


def _tick(meters: Sequence[_Meter], of: tuple[Series, Series | None], hour: Hour, index: int) -> Tick:
    """Price an interval and count it."""
    energy, reactive = of
    end_utc, per_hour = energy.ends_utc[index], Decimal(3600) / energy.interval_s
    kwh = energy.scaled(energy.values[index])
    kvarh = reactive.scaled(reactive.values[index]) if reactive is not None else None
    kva = ((kwh**2 + kvarh**2).sqrt() * per_hour).quantize(_PLACES) if kvarh is not None else ZERO
    price = sum((meter.price(hour, end_utc, kwh * per_hour) for meter in meters), ZERO)
    for meter in meters:
        meter.count(hour, kwh)
    return Tick(end_utc, hour.day, _kind(hour), kwh, kwh * per_hour, kva, price, kwh * price)


class _Meter:
    """A tariff, and how much was counted under it so far: which tier the next kWh is in."""

    def __init__(self, tariff: Tariff, cycle: Period) -> None:
        self._tariff, self._days = tariff, cycle.days
        self._off = {day.toordinal() for day in tariff.holidays}
        self._taken: dict[int, Decimal] = {}  # by period of the calendar; of the day alone where tiers count so
        self._day, self._peak = 0, ZERO
        prices = tariff.interval_prices
        self._prices = dict(zip(prices.ends_utc, prices.prices, strict=True)) if prices else {}

    def price(self, hour: Hour, end_utc: int, kw: Decimal) -> Decimal:
        """What the interval's kWh cost each."""
        prices = self._tariff.interval_prices
        if prices is not None and prices.ends_utc:
            return self._prices.get(end_utc + (prices.ends_utc[0] - end_utc) % prices.interval_s, ZERO)
        if self._tariff.energy is None or not self._tariff.in_force(end_utc - 1):
            return ZERO
        self._peak = max(self._peak, kw)
        index = self._period(hour)
        return self._tier(self._tariff.energy.periods[index], hour, index).charge

    def count(self, hour: Hour, kwh: Decimal) -> None:
        """Count an interval that was priced."""
        if self._tariff.energy is not None:
            index = self._period(hour)
            self._taken[index] = self._taken.get(index, ZERO) + max(kwh, ZERO)

    def _period(self, hour: Hour) -> int:
        assert self._tariff.energy is not None
        return self._tariff.energy.schedule.at(hour.month, hour.weekday, hour.hour, hour.day in self._off)

    def _tier(self, tiers: Tiers, hour: Hour, index: int) -> Tier:
        if tiers[0].per == "day" and hour.day != self._day:
            self._taken, self._day = {}, hour.day
        own = self._taken.get(index, ZERO)
        taken = own if self._tariff.scope == "period" else sum(self._taken.values(), ZERO)
        return next((tier for tier in tiers if tier.limit is None or taken < self._end(tier)), tiers[-1])

    def _end(self, tier: Tier) -> Decimal:
        limit = tier.limit if tier.limit is not None else ZERO
        limit *= self._peak if tier.unit == "kWh/kW" else 1
        return limit * self._days if tier.per == "daily" else limit
