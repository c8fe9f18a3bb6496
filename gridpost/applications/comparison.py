"""Which supplier is cheapest on a customer's own intervals, and whether the data is enough to say so (Fig 5, D5).

Floor 4. In: bids, readings, billing periods, the cost of switching. Out: each bid's cost as [low, high], an answer
(`switch`, `stay`, `not enough data`) and what decided it: a proposal, until a policy or a person releases it.

An interval that is missing or estimated counts with the least and with the greatest value that the same hour of like
days (weekdays, weekends) has in the period, and so does the whole bill. Where a tariff may get cheaper as more is used,
that gives no bounds: such a bid is marked, and decides nothing while data is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

from ..errors import TariffRefused
from ..ports import CurrentReadings
from ..tariff import ZERO, Tariff
from . import charges, determinants
from .calendar import Period, hours
from .charges import Line
from .determinants import EXPORT, Measured, Metered
from .series import Series

SWITCH, STAY, NOT_ENOUGH = "switch", "stay", "not enough data"


class Bid(NamedTuple):
    """An offer: one tariff, or an energy and a distribution tariff that are paid together (F65)."""

    name: str
    tariffs: tuple[Tariff, ...]


class Usage(NamedTuple):
    """What bids are compared on: readings by channel, what each channel stands for, and the billing periods."""

    readings: Mapping[str, CurrentReadings]
    channels: Sequence[Metered]
    periods: Sequence[Period]


@dataclass(frozen=True, slots=True)
class Cost:
    """A bid's cost: low and high are equal when nothing is uncertain; bounded: whether they bound it then."""

    bid: str
    low: Decimal
    high: Decimal
    bounded: bool
    lines: tuple[Line, ...]  # of the low case


class Difference(NamedTuple):
    """What a kind of charge costs under the present contract and under the best bid."""

    kind: str
    present: Decimal
    best: Decimal


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answer and what it rests on.

    Attributes:
        answer: SWITCH, STAY or NOT_ENOUGH; best: the bid with the lowest high cost, the present one left out.
        saving: of switching to it, [low, high], after the cost of switching.
        costs: the present contract first.
        decided_by: charges of the low case, the greatest difference first.
        uncertain: (channel, interval end) of the intervals that leave it open.
    """

    answer: str
    best: str
    saving: tuple[Decimal, Decimal]
    costs: tuple[Cost, ...]
    decided_by: tuple[Difference, ...]
    uncertain: tuple[tuple[str, int], ...]


def compare(present: Bid, bids: Sequence[Bid], usage: Usage, switching_cost: Decimal = ZERO) -> Comparison:
    """Return what each bid would have cost, and whether to switch. Fixed charges are in the costs.

    Raises:
        BillRefused: readings that cannot be billed.
        TariffRefused: no bid, or bids in different currencies.
    """
    currencies = {tariff.currency for bid in (present, *bids) for tariff in bid.tariffs}
    if not bids or len(currencies) != 1:
        raise TariffRefused(f"bids are compared in one currency, not in {len(currencies)}; and there must be one")
    found = [determinants.measured(usage.readings, usage.channels, period) for period in usage.periods]
    cases = [(case(one, low=True), case(one, low=False)) for one in found]
    uncertain = tuple(dict.fromkeys(hole for one in found for hole in (*one.missing, *one.estimated)))
    unknown = any(_unknowable(one) for one in found)
    costs = tuple(_cost(bid, cases, bool(uncertain), unknown) for bid in (present, *bids))
    best = min(costs[1:], key=lambda cost: (cost.high, cost.low))
    saving = (costs[0].low - best.high - switching_cost, costs[0].high - best.low - switching_cost)
    return Comparison(_answer(costs, switching_cost), best.bid, saving, costs, _differences(costs[0], best), uncertain)


def _answer(costs: Sequence[Cost], switching_cost: Decimal) -> str:
    """Switch when one is cheaper whatever the unknown values are; stay when none can be."""
    present, others = costs[0], costs[1:]
    bounded = present.bounded and all(cost.bounded for cost in others)
    if present.bounded and any(cost.bounded and cost.high + switching_cost < present.low for cost in others):
        return SWITCH
    if bounded and all(cost.low + switching_cost >= present.high for cost in others):
        return STAY
    return NOT_ENOUGH


def _cost(bid: Bid, cases: Sequence[tuple[Measured, Measured]], uncertain: bool, unknown: bool) -> Cost:
    low = [line for case, _ in cases for line in _lines(bid, case)]
    high = [line for _, case in cases for line in _lines(bid, case)] if uncertain else low
    edges = sorted((charges.total(low), charges.total(high)))
    bounded = not uncertain or (not unknown and all(map(_rises, bid.tariffs)))
    return Cost(bid.name, edges[0], edges[1], bounded, tuple(low))


def _lines(bid: Bid, case: Measured) -> list[Line]:
    return [line for tariff in bid.tariffs for line in charges.lines(tariff, determinants.under(case, tariff))]


def _rises(tariff: Tariff) -> bool:
    """Whether a bill never falls as more is taken in, nor rises as more is sent out."""
    profiles = [
        profile.periods for profile in (tariff.energy, tariff.demand, tariff.flat, tariff.coincident) if profile
    ]
    tiers = [tier for periods in profiles for own in periods for tier in own]
    prices = tariff.interval_prices.prices if tariff.interval_prices is not None else ()
    return (
        all(tier.charge >= 0 and (tier.sell or ZERO) >= 0 and tier.unit != "kWh/kW" for tier in tiers)
        and all(price >= 0 for price in prices)
        and all(one.value >= 0 for one in tariff.adjustments)
        and tariff.power_factor is None
        and (tariff.reactive is None or not tariff.reactive.free_share)
        and tariff.metering in ("none", "net-billing", "buy-all-sell-all")
    )


def _differences(present: Cost, best: Cost) -> tuple[Difference, ...]:
    sums: dict[str, list[Decimal]] = {}
    for place, cost in enumerate((present, best)):
        for line in cost.lines:
            sums.setdefault(line.kind, [ZERO, ZERO])[place] += line.amount
    found = [Difference(kind, *pair) for kind, pair in sums.items()]
    return tuple(sorted(found, key=lambda one: (-abs(one.present - one.best), one.kind)))


# --- what is not known -----------------------------------------------------------------------------------------------


def _unsure(series: Series) -> tuple[int, ...]:
    return tuple(sorted({*series.missing, *series.estimated}))


def _unknowable(found: Measured) -> bool:
    """Whether a measure has no value at all to go by."""
    return any(len(_unsure(series)) == len(series.values) for series in found.by_measure.values())


def case(found: Measured, low: bool) -> Measured:
    """Return a period with each unsure interval at what makes a bill low (or high); as it is when all is sure."""
    filled = {
        measure: _filled(series, found.period, low != (measure == EXPORT))
        for measure, series in found.by_measure.items()
    }
    return replace(found, by_measure=filled)


def _filled(series: Series, period: Period, least: bool) -> Series:
    unsure = _unsure(series)
    if not unsure:
        return series
    kind_of = {
        index: (hour.hour, hour.weekday > 4)
        for hour in hours(period, series.interval_s)
        for index in range(hour.first, hour.beyond)
    }
    like: dict[tuple[int, bool], list[int]] = {}
    skipped = frozenset(unsure)
    for index, value in enumerate(series.values):
        if index not in skipped:
            like.setdefault(kind_of[index], []).append(value)
    of_all = [value for values in like.values() for value in values] or [0]
    column = list(series.values)
    for index in unsure:
        known = like.get(kind_of[index], of_all)
        column[index] = min(known) if least else max(known)
    return replace(series, values=tuple(column))
