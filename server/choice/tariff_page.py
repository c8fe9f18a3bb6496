"""A tariff as a page that a person can read: what each hour costs, what else is asked, since when.

In: a tariff. Out: HTML bytes that need no other file and no network. Every term that a bill can have of it is shown,
and every number to its last digit; nothing is worked out here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from gridpost.tariff import BOTH, FlatDemand, Grid, IntervalPrices, Tariff, TariffProfile, Tier
from gridpost.units import format_utc

from .markup import Node, element, page, table

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Told apart by the eye and, in grey, by the number that stands in each cell.
_COLOURS = ("#e8f1f8", "#f6c9a8", "#bfe0c2", "#e3c4e6", "#f4e3a1", "#c8c8c8", "#a9cfe8", "#f2a5a5")
_DAYS = {"weekday": "Monday to Friday", "weekend": "Saturday and Sunday", "holiday": "Holidays"}
_SCOPES = {
    "month": "Tiers count the whole month's energy, shared out over the periods.",
    "period": "Tiers count each period's own energy.",
}
_METERING = {
    "none": "Energy sent out is not paid for.",
    "net-metering": "Energy sent out is set off against energy taken, period by period.",
    "net-billing": "Energy sent out is credited as measured.",
    "net-billing-hourly": "Energy sent out is set off within each hour, and what is left is credited.",
    "buy-all-sell-all": "All energy taken is billed and all energy sent out is credited.",
}
_SPANS = {"cycle": "a billing cycle", "daily": "a billing cycle, times its days", "day": "a day"}
_PRICES_SHOWN = 200


def render(tariff: Tariff) -> bytes:
    """Return the page of a tariff."""
    body = [_heads(tariff), *_energy(tariff), *_demand(tariff), *_terms(tariff), *_more(tariff)]
    return page(tariff.name, *body)


def _heads(tariff: Tariff) -> Node:
    ends = "open" if tariff.valid_to_utc is None else format_utc(tariff.valid_to_utc)
    rounded = f"{tariff.rounding.mode} to {tariff.rounding.places} places"
    rows = [
        ("Supplier", tariff.supplier),
        ("Id", tariff.id),
        ("Pays for", {BOTH: "energy and its distribution"}.get(tariff.kind, tariff.kind)),
        ("In force", f"{format_utc(tariff.valid_from_utc) if tariff.valid_from_utc else 'always'} to {ends}"),
        ("Hours of", tariff.zone),
        ("Amounts in", f"{tariff.currency}, each line rounded {rounded}"),
    ]
    return table(("", ""), rows)


def _energy(tariff: Tariff) -> Iterator[Node]:
    if tariff.energy is not None:
        yield from _profile("Energy", tariff.energy, f"{tariff.currency} a kWh")
        if any(len(tiers) > 1 for tiers in tariff.energy.periods):
            yield element("p", _SCOPES[tariff.scope])
    if tariff.interval_prices is not None:
        yield from _intervals(tariff.interval_prices, tariff.currency)
    yield element("p", _METERING[tariff.metering])


def _demand(tariff: Tariff) -> Iterator[Node]:
    unit = f"{tariff.currency} a kW"
    if tariff.demand is not None:
        yield from _profile("Highest demand of each period", tariff.demand, unit)
    if tariff.flat is not None:
        yield element("h2", "Highest demand of the billing cycle")
        yield _flat(tariff.flat, unit)
    if tariff.coincident is not None:
        yield from _profile("Demand in the grid's peak hours", tariff.coincident, unit)
    window = f"over {tariff.window_s // 60} minutes" if tariff.window_s else "over one interval"
    if tariff.demand or tariff.flat or tariff.coincident:
        yield element("p", f"Demand is the mean {window}{', wherever it begins' if tariff.rolling else ''}.")
    if tariff.ratchet is not None:
        rows = zip(_MONTHS, map(_share, tariff.ratchet.shares), map(_yes, tariff.ratchet.of_months), strict=True)
        yield element("h2", f"Demand of the {tariff.ratchet.months_back} cycles before")
        yield table(("Month", "At least this share of it is billed", "Counts for later months"), rows)


def _terms(tariff: Tariff) -> Iterator[Node]:
    rows = [(one.name, f"{one.amount:f} a {one.per}") for one in tariff.fixed]
    rows += [(f"least for a {one.per}", f"{one.amount:f}") for one in tariff.minimum]
    if tariff.reactive is not None:
        free = f" beyond {_share(tariff.reactive.free_share)} of the active one" if tariff.reactive.free_share else ""
        rows.append(("reactive", f"{tariff.reactive.price:f} a {tariff.reactive.unit}{free}"))
    if tariff.power_factor is not None:
        rows.append(("power factor", f"demand is raised by {tariff.power_factor:f} over it where it is less"))
    for one in tariff.adjustments:
        rows.append((one.name, f"{one.value:f} {'%' if one.unit == 'percent' else 'a kWh'}"))
    if rows:
        yield element("h2", f"Standing and other charges ({tariff.currency})")
        yield table(("Charge", "Amount"), rows)


def _more(tariff: Tariff) -> Iterator[Node]:
    if tariff.holidays:
        yield element("h2", "Holidays")
        yield element("p", ", ".join(day.isoformat() for day in sorted(tariff.holidays)))
    if tariff.facts:
        yield element("h2", "As its source has it")
        yield table(("", ""), tariff.facts)


def _profile(title: str, profile: TariffProfile, unit: str) -> Iterator[Node]:
    yield element("h2", title)
    yield _tiers(profile.periods, unit)
    for kind, grid in profile.schedule.grids().items():
        yield element("h3", _DAYS[kind])
        yield _calendar(grid)


def _tiers(periods: Sequence[Sequence[Tier]], unit: str, heads: Sequence[str] = ()) -> Node:
    rows = [
        (heads[index] if heads else f"Period {index}", _limit(tier), f"{tier.charge:f}", _optional(tier.sell))
        for index, tiers in enumerate(periods)
        for tier in tiers
    ]
    return table(("", "Up to", unit, "Sent out"), rows)


def _limit(tier: Tier) -> str:
    return "any amount" if tier.limit is None else f"{tier.limit:f} {tier.unit} in {_SPANS[tier.per]}"


def _flat(flat: FlatDemand, unit: str) -> Node:
    months = [
        ", ".join(name for name, own in zip(_MONTHS, flat.months, strict=True) if own == index)
        for index in range(len(flat.periods))
    ]
    return _tiers(flat.periods, unit, months)


def _calendar(grid: Grid) -> Node:
    head = element("tr", element("th", "from"), *(element("th", f"{hour:02}") for hour in range(24)))
    rows = [
        element("tr", element("th", name), *map(_cell, row)) for name, row in zip(_MONTHS, grid, strict=True)
    ]  # fmt: skip
    return element("table", element("thead", head), element("tbody", *rows))


def _cell(index: int) -> Node:
    colour = _COLOURS[index % len(_COLOURS)]
    return element("td", str(index), style=f"background: {colour}; text-align: center; padding: .15em .4em")


def _intervals(prices: IntervalPrices, currency: str) -> Iterator[Node]:
    yield element("h2", f"Price of each {prices.interval_s // 60} minutes")
    pairs: Iterable[tuple[int, Decimal]] = zip(prices.ends_utc, prices.prices, strict=True)
    rows = [(format_utc(end), f"{price:f}") for end, price in pairs]
    yield table(("Interval end, UTC", f"{currency} a kWh"), rows[:_PRICES_SHOWN], numbers=1)
    if len(rows) > _PRICES_SHOWN:
        yield element("p", f"The first {_PRICES_SHOWN} of {len(rows)}, to {rows[-1][0]}.")


def _share(value: Decimal) -> str:
    return f"{(value * 100).normalize():f} %"


def _optional(value: Decimal | None) -> str:
    return "" if value is None else f"{value:f}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
