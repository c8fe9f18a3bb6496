"""Whether a tariff can be billed: every hole, overlap, disorder and number that is none, each with its place.

Floor 2. In: a `Tariff` as decoded or parsed, its schema already valid. Out: findings, none when all is well. Nothing is
put right: a tariff that is refused leaves the old one in force.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import pairwise

from . import tariff as values
from . import units
from .errors import Item
from .tariff import FlatDemand, Schedule, Tariff, TariffProfile, Tier

LONGEST = 18  # digits of a price or limit
LONGEST_NAME = 256
_PER = ("day", "month", "year")
Found = Iterator[tuple[str, str]]  # place, reason


def check(tariff: Tariff) -> list[Item]:
    """Return what is wrong with a tariff; an empty list when it can be billed. `Item.path` is the place."""
    found = [*_heads(tariff), *_profiles(tariff), *_terms(tariff), *_interval_prices(tariff)]
    return [Item("bad-tariff", reason, place) for place, reason in found]


def overlaps(tariffs: Sequence[Tariff]) -> list[Item]:
    """Return where the tariffs of one supplier and id overlap in time, or leave a hole between them."""
    ordered = sorted(tariffs, key=lambda one: (one.supplier, one.id, one.valid_from_utc))
    found = []
    for old, new in pairwise(ordered):
        same = (old.supplier, old.id) == (new.supplier, new.id)
        if same and old.valid_to_utc != new.valid_from_utc:
            crossed = old.valid_to_utc is None or old.valid_to_utc > new.valid_from_utc
            reason = "overlaps the next one" if crossed else "leaves a hole before the next one"
            found.append(Item("bad-tariff", f"{old.name!r} {reason}, {new.name!r}", f"{old.supplier}/{old.id}/validTo"))
    return found


def _heads(tariff: Tariff) -> Found:
    for place, text in (("id", tariff.id), ("supplier", tariff.supplier), ("name", tariff.name), ("zone", tariff.zone)):
        yield from _name(place, text)
    if not (
        len(tariff.currency) == 3
        and tariff.currency.isascii()
        and tariff.currency.isalpha()
        and tariff.currency.isupper()
    ):
        yield "currency", f"{tariff.currency!r} is no currency of ISO 4217, such as EUR"
    for place, moment in (("validFrom", tariff.valid_from_utc), ("validTo", tariff.valid_to_utc or 0)):
        if moment not in units.SPEAKABLE_S:
            yield place, f"{moment} s is not from 1970 to 9998"
    if tariff.valid_to_utc is not None and tariff.valid_to_utc <= tariff.valid_from_utc:
        yield "validTo", "the tariff ends before it begins"
    one_of = (
        ("kind", tariff.kind, values.KINDS),
        ("scope", tariff.scope, values.SCOPES),
        ("metering", tariff.metering, values.METERING),
        ("rounding/mode", tariff.rounding.mode, tuple(values.ROUNDINGS)),
    )
    for place, text, known in one_of:
        if text not in known:
            yield place, f"{text!r} is none of {', '.join(known)}"
    if not 0 <= tariff.rounding.places <= 9:
        yield "rounding/places", f"{tariff.rounding.places} is not 0 to 9"
    if tariff.window_s < 0 or (tariff.window_s and 86_400 % tariff.window_s):
        yield "window", f"a demand window of {tariff.window_s} s does not divide a day"


def _profiles(tariff: Tariff) -> Found:
    if tariff.energy is not None:
        yield from _profile("energy", tariff.energy, tariff, values.TIER_UNITS)
        yield from _one_way_of_counting(tariff.energy, tariff.scope)
    if tariff.energy is not None and tariff.interval_prices is not None:
        yield "interval-prices", "energy has a price already"
    for name, profile in (("demand", tariff.demand), ("coincident", tariff.coincident)):
        if profile is not None:
            yield from _profile(name, profile, tariff, ("kW",))
    if tariff.flat is not None:
        yield from _flat(tariff.flat, tariff)


def _profile(name: str, profile: TariffProfile, tariff: Tariff, units: Sequence[str]) -> Found:
    yield from _schedule(name, profile.schedule, len(profile.periods))
    for index, tiers in enumerate(profile.periods):
        yield from _tiers(f"{name}/period {index}", tiers, tariff, units)


def _flat(flat: FlatDemand, tariff: Tariff) -> Found:
    if len(flat.months) != 12:
        yield "flat/months", f"{len(flat.months)} months, not 12"
    for month, index in enumerate(flat.months, 1):
        if not 0 <= index < len(flat.periods):
            yield f"flat/month {month}", f"names period {index}, which there is not"
    for index, tiers in enumerate(flat.periods):
        yield from _tiers(f"flat/period {index}", tiers, tariff, ("kW",))


def _schedule(name: str, schedule: Schedule, periods: int) -> Found:
    used: set[int] = set()
    for kind, grid in schedule.grids().items():
        if len(grid) != 12 or any(len(row) != 24 for row in grid):
            yield f"{name}/{kind}", "a hole in the schedule: not 12 months of 24 hours"
        used.update(*grid)
        cells = ((month, hour, index) for month, row in enumerate(grid, 1) for hour, index in enumerate(row))
        for month, hour, index in cells:
            if not 0 <= index < periods:
                yield f"{name}/{kind}/month {month}/hour {hour}", f"names period {index}, which there is not"
    for index in sorted(set(range(periods)) - used):
        yield f"{name}/period {index}", "is in force in no hour"


def _tiers(place: str, tiers: Sequence[Tier], tariff: Tariff, units: Sequence[str]) -> Found:
    if not tiers:
        yield place, "has no price"
    for index, tier in enumerate(tiers):
        here = f"{place}/tier {index}"
        yield from _money(f"{here}/price", tier.price, tier.currency, tariff)
        yield from _number(f"{here}/adjustment", tier.adjustment)
        yield from _number(f"{here}/sell", tier.sell)
        yield from _number(f"{here}/limit", tier.limit)
        if tier.unit not in units:
            yield f"{here}/unit", f"{tier.unit!r} is none of {', '.join(units)}"
        if tier.per not in values.TIER_SPANS:
            yield f"{here}/per", f"{tier.per!r} is none of {', '.join(values.TIER_SPANS)}"
        if tier.limit is None and index < len(tiers) - 1:
            yield f"{here}/limit", "is missing, and a tier follows"
        if tier.limit is not None and index == len(tiers) - 1:
            yield f"{here}/limit", "the last tier ends, and nothing says what more costs"
    yield from _rising(place, tiers)


def _rising(place: str, tiers: Sequence[Tier]) -> Found:
    before = Decimal(0)
    for index, tier in enumerate(tiers):
        if tier.limit is not None and tier.limit.is_finite():
            if tier.limit <= before:
                yield f"{place}/tier {index}/limit", f"{tier.limit} does not rise above {before}: tiers out of order"
            before = tier.limit


def _one_way_of_counting(profile: TariffProfile, scope: str) -> Found:
    """Limits of one period are of one unit; where the total is shared out, all periods have the same limits."""
    limits = [tuple((tier.limit, tier.unit, tier.per) for tier in tiers) for tiers in profile.periods]
    for index, own in enumerate(limits):
        if len({entry[1:] for entry in own}) > 1:
            yield f"energy/period {index}", "its tiers are limited in different units"
        if scope == "month" and own != limits[0]:
            yield f"energy/period {index}", "shares the month's total, but its tiers differ from those of period 0"


def _terms(tariff: Tariff) -> Found:
    dated = [(f"fixed {one.name}", one) for one in tariff.fixed] + [("minimum", one) for one in tariff.minimum]
    for place, term in dated:
        yield from _money(place, term.amount, term.currency, tariff)
        if term.per not in _PER:
            yield f"{place}/per", f"{term.per!r} is none of {', '.join(_PER)}"
    for adjustment in tariff.adjustments:
        yield from _number(f"adjustment {adjustment.name}", adjustment.value)
        if adjustment.unit not in ("kWh", "percent"):
            yield f"adjustment {adjustment.name}/unit", f"{adjustment.unit!r} is neither kWh nor percent"
    if tariff.reactive is not None:
        yield from _money("reactive/price", tariff.reactive.price, tariff.reactive.currency, tariff)
        yield from _share("reactive/free", tariff.reactive.free_share, 10)
        if tariff.reactive.unit not in ("kvarh", "kvar"):
            yield "reactive/unit", f"{tariff.reactive.unit!r} is neither kvarh nor kvar"
    if tariff.power_factor is not None:
        yield from _share("power-factor", tariff.power_factor, 1)
    named = [("fixed", one.name) for one in tariff.fixed] + [("adjustment", one.name) for one in tariff.adjustments]
    for place, text in [*named, *(("facts", name) for name, _ in tariff.facts)]:
        yield from _name(place, text)
    yield from _ratchet(tariff)


def _ratchet(tariff: Tariff) -> Found:
    ratchet = tariff.ratchet
    if ratchet is None:
        return
    if len(ratchet.shares) != 12 or len(ratchet.of_months) != 12:
        yield "ratchet", "not 12 months"
    if not 0 < ratchet.months_back <= 36:
        yield "ratchet/months", f"{ratchet.months_back} is not 1 to 36"
    for month, share in enumerate(ratchet.shares, 1):
        yield from _share(f"ratchet/month {month}", share, 1)


def _interval_prices(tariff: Tariff) -> Found:
    prices = tariff.interval_prices
    if prices is None:
        return
    if len(prices.ends_utc) != len(prices.prices):
        yield "interval-prices", f"{len(prices.ends_utc)} times and {len(prices.prices)} prices"
    if prices.interval_s <= 0 or 86_400 % prices.interval_s:
        yield "interval-prices/interval", f"{prices.interval_s} s does not divide a day"
    for before, end in pairwise(prices.ends_utc):
        if end - before != prices.interval_s:
            yield f"interval-prices/{end}", "overlaps" if end - before < prices.interval_s else "a hole before it"
    for end, price in zip(prices.ends_utc, prices.prices, strict=False):
        yield from _number(f"interval-prices/{end}", price)


def _money(place: str, amount: Decimal, currency: str, tariff: Tariff) -> Found:
    yield from _number(place, amount)
    if currency not in ("", tariff.currency):
        yield place, f"is in {currency}, the tariff in {tariff.currency}"


def _share(place: str, value: Decimal, most: int) -> Found:
    if not value.is_finite() or not 0 <= value <= most:
        yield place, f"{value} is not 0 to {most}"
    else:
        yield from _number(place, value)


def _name(place: str, text: str) -> Found:
    if not text:
        yield place, "is empty"
    elif len(text) > LONGEST_NAME:
        yield place, f"has more than {LONGEST_NAME} characters"


def _number(place: str, value: Decimal | None) -> Found:
    if value is None:
        return
    if not value.is_finite():
        yield place, f"{value} is no number"
    elif len(value.as_tuple().digits) > LONGEST or abs(value.adjusted()) > LONGEST:
        yield place, f"{value} has more than {LONGEST} digits"
