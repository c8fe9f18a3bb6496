"""The lines of a bill: each a quantity of the determinants times a price of the tariff, rounded by the tariff's rule.

Floor 4. In: a tariff that `tariff_check` passed, determinants under it, what earlier cycles left behind. Out: lines;
the total is their sum and nothing else. A line can be worked out again from itself: quantity x price, rounded. No
reading is looked at here, no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import NamedTuple

from ..errors import TariffRefused
from ..tariff import ONE, ROUNDINGS, ZERO, Minimum, Rounding, Tariff, Tier, Tiers
from .determinants import PRECISION, Determinants, Peak

_SHARE_PLACES = Decimal("0.000001")  # shared-out kWh are given to a milliwatt hour
_FACTOR_PLACES = Decimal("0.0001")  # power factors, and what is worked out with them
_TWELFTHS, _MONTHS = Decimal("1e-12"), 12  # a twelfth has no end: its places, enough for any amount


class PastPeak(NamedTuple):
    """The highest demand of an earlier cycle: how many cycles ago (1: the last), the month it began in, kW."""

    cycles_ago: int
    month: int
    value: Decimal


@dataclass(frozen=True, slots=True)
class History:
    """What earlier cycles left behind, for ratchets and yearly minima.

    Attributes:
        peaks: highest demand by cycle.
        billed: total of the year's bills so far; closes_year: this cycle is the year's last.
    """

    peaks: tuple[PastPeak, ...] = ()
    billed: Decimal = ZERO
    closes_year: bool = False


NO_HISTORY = History()


class Line(NamedTuple):
    """One line of a bill.

    Attributes:
        kind: ``energy``, ``export``, ``real-time``, ``demand``, ``flat-demand``, ``coincident``, ``reactive``,
            ``fixed``, ``adjustment``, ``minimum``.
        name: of a fixed charge or adjustment; empty else.
        period, tier: of the tariff, from 0; None where there is none.
        quantity: in `unit`; price: of one; amount: their product, rounded (real-time: the rounded sum over intervals).
        spans: from_utc < interval end <= to_utc of what it rests on; empty: on no interval.
    """

    kind: str
    name: str
    period: int | None
    tier: int | None
    quantity: Decimal
    unit: str
    price: Decimal
    amount: Decimal
    spans: tuple[tuple[int, int], ...] = ()


class _Part(NamedTuple):
    """A line before its amount."""

    kind: str
    quantity: Decimal
    unit: str
    price: Decimal
    period: int | None = None
    tier: int | None = None
    name: str = ""
    spans: tuple[tuple[int, int], ...] = ()


def lines(tariff: Tariff, found: Determinants, history: History = NO_HISTORY) -> tuple[Line, ...]:
    """Return the lines of a bill, in the order they are worked out: percentages and minima come last."""
    with localcontext(prec=PRECISION):
        done = [_line(part, tariff.rounding) for part in _parts(tariff, found, history)]
        done += _real_time(tariff, found)
        done += _percentages(tariff, done)
        done += _minima(tariff, found, done, history)
        return tuple(done)


def total(of: Sequence[Line]) -> Decimal:
    """Return the sum of lines."""
    return sum((line.amount for line in of), ZERO)


def rounded(amount: Decimal, rule: Rounding) -> Decimal:
    """Return an amount by a tariff's rule of rounding."""
    return amount.quantize(ONE.scaleb(-rule.places), ROUNDINGS[rule.mode])


def _line(part: _Part, rule: Rounding) -> Line:
    amount = rounded(part.quantity * part.price, rule)
    return Line(part.kind, part.name, part.period, part.tier, part.quantity, part.unit, part.price, amount, part.spans)


def _parts(tariff: Tariff, found: Determinants, history: History) -> Iterator[_Part]:
    yield from _energy(tariff, found)
    yield from _export(tariff, found)
    factor = _power_factor(tariff, found)
    for kind, profile, peaks in (
        ("demand", tariff.demand, found.demand),
        ("coincident", tariff.coincident, found.coincident),
    ):
        if profile is not None:
            for index, (tiers, peak) in enumerate(zip(profile.periods, peaks, strict=True)):
                floor = _ratcheted(tariff, found, history) if kind == "demand" and tariff.flat is None else ZERO
                yield from _demand((kind, index, tiers), peak, factor, floor)
    if tariff.flat is not None:
        index = tariff.flat.months[found.period.month - 1]
        flat = ("flat-demand", index, tariff.flat.periods[index])
        yield from _demand(flat, found.flat, factor, _ratcheted(tariff, found, history))
    yield from _reactive(tariff, found)
    for fixed in tariff.fixed:
        quantity = _times(fixed.per, found)
        yield _Part("fixed", quantity, fixed.per, fixed.amount, name=fixed.name)
    for one in tariff.adjustments:
        if one.unit == "kWh":
            yield _Part("adjustment", found.total, "kWh", one.value, name=one.name)


# --- energy ----------------------------------------------------------------------------------------------------------


def _energy(tariff: Tariff, found: Determinants) -> Iterator[_Part]:
    if tariff.energy is None:
        return
    taken = _taken(tariff, found.energy, found.exported)
    limits = [tuple(_limit(tier, found) for tier in tiers[:-1]) for tiers in tariff.energy.periods]
    if found.daily:
        by_day = [_allot([max(kwh, ZERO) for kwh in day], limits, tariff.scope) for day in found.daily]
        allotted = [[sum(column, ZERO) for column in zip(*tiers, strict=True)] for tiers in zip(*by_day, strict=True)]
    else:
        allotted = _allot(taken, limits, tariff.scope)
    for index, tiers in enumerate(tariff.energy.periods):
        for place, (tier, quantity) in enumerate(zip(tiers, allotted[index], strict=True)):
            if quantity:
                yield _Part("energy", quantity, "kWh", tier.charge, index, place, spans=found.spans[index])


def _taken(tariff: Tariff, energy: Sequence[Decimal], exported: Sequence[Decimal]) -> list[Decimal]:
    """Energy to pay for by period: under net metering what was sent out is taken off, down to nothing."""
    if tariff.metering != "net-metering" or not exported:
        return [max(kwh, ZERO) for kwh in energy]
    return [max(kwh - out, ZERO) for kwh, out in zip(energy, exported, strict=True)]


def _export(tariff: Tariff, found: Determinants) -> Iterator[_Part]:
    """Credit for energy sent out: all of it, or under net metering what exceeds the energy taken in its period."""
    if tariff.metering == "none" or tariff.energy is None or not found.exported:
        return
    for index, (tiers, out) in enumerate(zip(tariff.energy.periods, found.exported, strict=True)):
        credited = max(out - found.energy[index], ZERO) if tariff.metering == "net-metering" else out
        if credited and tiers[0].sell is not None:
            yield _Part("export", credited, "kWh", -tiers[0].sell, index, 0, spans=found.spans[index])


def _limit(tier: Tier, found: Determinants) -> Decimal:
    """Where a tier ends in kWh of this period: hours of use times the peak, daily ones times the days."""
    if tier.limit is None:  # `tariff_check` refuses it
        raise TariffRefused("a tier before the last has no limit")
    limit = tier.limit
    if tier.unit == "kWh/kW":
        limit *= found.flat.value if found.flat is not None else ZERO
    if tier.per == "daily":
        return limit * found.period.days
    return limit * found.period.share if tier.per == "cycle" else limit


def _allot(taken: Sequence[Decimal], limits: Sequence[tuple[Decimal, ...]], scope: str) -> list[list[Decimal]]:
    """Energy by period and tier: each period's own, or the sum's tiers shared out in proportion to the periods."""
    if scope == "period" or not limits[0]:
        return [_cut(kwh, own) for kwh, own in zip(taken, limits, strict=True)]
    everything = sum(taken, ZERO)
    shared = [_share_out(part, taken, everything) for part in _cut(everything, limits[0])]
    return [list(tiers) for tiers in zip(*shared, strict=True)]


def _cut(amount: Decimal, limits: Sequence[Decimal]) -> list[Decimal]:
    """An amount cut at rising limits."""
    edges = [ZERO, *limits]
    inner = [max(min(amount, beyond) - first, ZERO) for first, beyond in zip(edges, limits, strict=False)]
    return [*inner, max(amount - edges[-1], ZERO)]


def _share_out(part: Decimal, taken: Sequence[Decimal], everything: Decimal) -> list[Decimal]:
    """A tier's kWh by period, in proportion; each rounded so that together they are the tier's exactly."""
    if not part:
        return [ZERO] * len(taken)
    shares, before, given = [], ZERO, ZERO
    for place, kwh in enumerate(taken):
        before += kwh
        last = place == len(taken) - 1 or before == everything
        upto = part if last else (part * before / everything).quantize(_SHARE_PLACES, ROUND_HALF_EVEN)
        shares.append(upto - given)
        given = upto
    return shares


def _real_time(tariff: Tariff, found: Determinants) -> list[Line]:
    """A line a local day; its price is what a kWh came to, for people: the amount is the sum over the intervals."""
    done = []
    for day in found.priced:
        mean = (day.amount / day.quantity).quantize(_SHARE_PLACES, ROUND_HALF_EVEN) if day.quantity else ZERO
        amount, span = rounded(day.amount, tariff.rounding), ((day.from_utc, day.to_utc),)
        done.append(Line("real-time", "", None, None, day.quantity, "kWh", mean, amount, span))
    return done


# --- demand and reactive ---------------------------------------------------------------------------------------------


def _demand(of: tuple[str, int, Tiers], peak: Peak | None, factor: Decimal, floor: Decimal) -> Iterator[_Part]:
    kind, index, tiers = of
    measured = peak.value * factor if peak is not None else ZERO
    billed = max(measured, floor, ZERO)
    limits = tuple(tier.limit for tier in tiers if tier.limit is not None)
    spans = ((peak.end_utc - 1, peak.end_utc),) if peak is not None and measured >= floor else ()
    for place, (tier, quantity) in enumerate(zip(tiers, _cut(billed, limits), strict=True)):
        if quantity:
            yield _Part(kind, quantity, "kW", tier.charge, index, place, spans=spans)


def _power_factor(tariff: Tariff, found: Determinants) -> Decimal:
    """What demand is multiplied by: the factor asked for over the mean one, when that is less."""
    if tariff.power_factor is None or not found.reactive or found.total <= 0:
        return ONE
    apparent = (found.total**2 + found.reactive**2).sqrt()
    mean = (found.total / apparent).quantize(_FACTOR_PLACES, ROUND_HALF_EVEN)
    return max((tariff.power_factor / mean).quantize(_FACTOR_PLACES, ROUND_HALF_EVEN), ONE) if mean else ONE


def _ratcheted(tariff: Tariff, found: Determinants, history: History) -> Decimal:
    ratchet = tariff.ratchet
    if ratchet is None:
        return ZERO
    past = [
        peak.value
        for peak in history.peaks
        if 1 <= peak.cycles_ago <= ratchet.months_back and ratchet.of_months[peak.month - 1]
    ]
    return ratchet.shares[found.period.month - 1] * max(past, default=ZERO)


def _reactive(tariff: Tariff, found: Determinants) -> Iterator[_Part]:
    term = tariff.reactive
    if term is None or found.reactive is None:
        return
    if term.unit == "kvarh":
        beyond, spans = (
            found.reactive - term.free_share * found.total,
            tuple(one for runs in found.spans for one in runs),
        )
    else:
        peak, active = found.reactive_peak, found.flat
        beyond = (peak.value if peak else ZERO) - term.free_share * (active.value if active else ZERO)
        spans = ((peak.end_utc - 1, peak.end_utc),) if peak else ()
    if beyond > 0:
        yield _Part("reactive", beyond, term.unit, term.price, spans=spans)


# --- what rests on the other lines -----------------------------------------------------------------------------------


def _times(per: str, found: Determinants) -> Decimal:
    """How often a charge falls due in the period; a cycle is a month, and a twelfth of a year."""
    if per == "day":
        return Decimal(found.period.days)
    if per == "month":
        return found.period.share
    return (found.period.share / _MONTHS).quantize(_TWELFTHS, ROUND_HALF_EVEN)


def _percentages(tariff: Tariff, done: Sequence[Line]) -> list[Line]:
    found: list[Line] = []
    for one in tariff.adjustments:
        if one.unit == "percent":
            base, price = total(done) + total(found), one.value.scaleb(-2)
            amount = rounded(base * price, tariff.rounding)
            found.append(Line("adjustment", one.name, None, None, base, tariff.currency, price, amount))
    return found


def _minima(tariff: Tariff, found: Determinants, done: Sequence[Line], history: History) -> list[Line]:
    """What is missing to the least a bill comes to; a yearly one is looked at when the year closes."""
    added: list[Line] = []
    for minimum in tariff.minimum:
        sofar = total(done) + total(added)
        least, have = _least(minimum, found, history), sofar + (history.billed if minimum.per == "year" else ZERO)
        if least is not None and have < least:
            amount = rounded(least - have, tariff.rounding)
            added.append(Line("minimum", minimum.per, None, None, ONE, minimum.per, amount, amount))
    return added


def _least(minimum: Minimum, found: Determinants, history: History) -> Decimal | None:
    if minimum.per == "year":
        return minimum.amount if history.closes_year else None
    return minimum.amount * _times(minimum.per, found)
