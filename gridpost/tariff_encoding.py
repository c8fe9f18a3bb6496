"""Tariffs as XML (`xsd/tariff.xsd`): a value to the Tariff element. `tariff_messages.py` reads what this page writes.

Floor 2. In: a tariff that `tariff_check.check` passes, or it is refused. Out: the element in exclusive canonical form.
A calendar is a grid inside and rectangles of hours here, each as wide and as high as equal days allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import groupby

from . import ns, units
from .encoding import octets, text_of
from .errors import Item, TariffRefused
from .tariff import (
    ZERO,
    Fixed,
    FlatDemand,
    Grid,
    IntervalPrices,
    Minimum,
    Ratchet,
    Reactive,
    Tariff,
    TariffProfile,
    Tiers,
)
from .tariff_check import check

MONTHS, HOURS = range(1, 13), range(24)
LONGEST = 50  # findings of one refusal


def encode(tariff: Tariff) -> str:
    """Return the Tariff element: a document by itself, and the payload of a message.

    Raises:
        TariffRefused: it cannot be billed; each place is listed.
        CannotRepresent: a text holds a character that XML cannot.
    """
    refuse([(item.path, item.reason) for item in check(tariff)])
    content = "".join((_heads(tariff), _priced(tariff), _terms(tariff)))
    return octets(f'<Tariff xmlns="{ns.TARIFF}">{content}</Tariff>').decode()


def _element(name: str, *content: str) -> str:
    return f"<{name}>{''.join(content)}</{name}>"


def _text(name: str, value: object) -> str:
    """An element of text, or nothing where there is no value."""
    if value is None or value == "":
        return ""
    shown = format(value, "f") if isinstance(value, Decimal) else str(value)
    return f"<{name}>{text_of(shown)}</{name}>"


def _flag(name: str, value: bool) -> str:
    return f"<{name}>{str(value).lower()}</{name}>"


def _heads(tariff: Tariff) -> str:
    named = (
        ("mRID", tariff.id),
        ("supplier", tariff.supplier),
        ("name", tariff.name),
        ("kind", tariff.kind),
        ("currency", tariff.currency),
        ("zone", tariff.zone),
        ("startDate", units.format_utc(tariff.valid_from_utc) if tariff.valid_from_utc else ""),
        ("endDate", "" if tariff.valid_to_utc is None else units.format_utc(tariff.valid_to_utc)),
    )
    rounding = _text("places", tariff.rounding.places) + _text("mode", tariff.rounding.mode)
    return "".join(_text(name, value) for name, value in named) + _element("Rounding", rounding)


def _priced(tariff: Tariff) -> str:
    return "".join(
        (
            _profile("EnergyProfile", tariff.energy),
            _text("tierScope", tariff.scope),
            _profile("DemandProfile", tariff.demand),
            _flat(tariff.flat),
            _profile("CoincidentProfile", tariff.coincident),
            _text("demandWindow", tariff.window_s or None),
            _flag("rollingWindow", tariff.rolling),
            _ratchet(tariff.ratchet),
            _reactive(tariff.reactive),
            _text("powerFactor", tariff.power_factor),
        )
    )


def _terms(tariff: Tariff) -> str:
    fixed = (_text("name", one.name) + _amount(one) for one in tariff.fixed)
    adjustments = (
        _text("name", one.name) + _text("unit", one.unit) + _text("value", one.value) for one in tariff.adjustments
    )
    facts = (_text("name", name) + _element("value", text_of(value)) for name, value in tariff.facts)
    return "".join(
        (
            *(_element("FixedCharge", one) for one in fixed),
            *(_element("MinimumCharge", _amount(one)) for one in tariff.minimum),
            *(_element("Adjustment", one) for one in adjustments),
            _text("metering", tariff.metering),
            _interval_prices(tariff.interval_prices),
            *(_text("holiday", day.isoformat()) for day in sorted(tariff.holidays)),
            *(_element("Fact", one) for one in facts),
        )
    )


def _amount(one: Fixed | Minimum) -> str:
    return _text("fixedPortion", one.amount) + _text("per", one.per) + _text("currency", one.currency)


def _profile(name: str, profile: TariffProfile | None) -> str:
    if profile is None:
        return ""
    hours: dict[int, list[str]] = {}
    for kind, grid in profile.schedule.grids().items():
        for index, rectangle in _rectangles(kind, grid):
            hours.setdefault(index, []).append(rectangle)
    periods = (
        _text("sequenceNumber", index) + "".join(hours.get(index, ())) + _tiers(tiers)
        for index, tiers in enumerate(profile.periods)
    )
    return _element(name, *(_element("TimeTariffInterval", period) for period in periods))


def _rectangles(kind: str, grid: Grid) -> Iterator[tuple[int, str]]:
    """Yield (period, Hours): months of equal days together, and in them the hours of one period."""
    for row, same in groupby(zip(MONTHS, grid, strict=True), key=lambda pair: pair[1]):
        months = [month for month, _ in same]
        for index, run in groupby(HOURS, key=row.__getitem__):
            hours = list(run)
            cells = {
                "dayKind": kind,
                "firstMonth": months[0],
                "lastMonth": months[-1],
                "startHour": hours[0],
                "endHour": hours[-1] + 1,
            }
            yield index, _element("Hours", *(_text(name, value) for name, value in cells.items()))


def _tiers(tiers: Tiers) -> str:
    starts = (ZERO, *(tier.limit for tier in tiers))
    return "".join(
        _element(
            "ConsumptionTariffInterval",
            _text("startValue", start),
            _text("unit", tier.unit),
            _text("tariffCycle", tier.per),
            _element(
                "Charge",
                _text("variablePortion", tier.price),
                _text("adjustment", tier.adjustment),
                _text("sell", tier.sell),
                _text("currency", tier.currency),
            ),
        )
        for start, tier in zip(starts, tiers, strict=False)
    )


def _flat(flat: FlatDemand | None) -> str:
    if flat is None:
        return ""
    periods = (
        _text("sequenceNumber", index)
        + "".join(_text("month", month) for month, own in zip(MONTHS, flat.months, strict=True) if own == index)
        + _tiers(tiers)
        for index, tiers in enumerate(flat.periods)
    )
    return _element("FlatDemand", *(_element("MonthTariffInterval", period) for period in periods))


def _ratchet(ratchet: Ratchet | None) -> str:
    if ratchet is None:
        return ""
    months = zip(ratchet.shares, ratchet.of_months, strict=True)
    rows = (_element("RatchetMonth", _text("share", share), _flag("counts", counts)) for share, counts in months)
    return _element("Ratchet", _text("lookbackMonths", ratchet.months_back), *rows)


def _reactive(reactive: Reactive | None) -> str:
    if reactive is None:
        return ""
    return _element(
        "Reactive",
        _text("variablePortion", reactive.price),
        _text("unit", reactive.unit),
        _text("freeShare", reactive.free_share),
        _text("currency", reactive.currency),
    )


def _interval_prices(prices: IntervalPrices | None) -> str:
    if prices is None:
        return ""
    rows = (
        _element("IntervalPrice", _text("timeStamp", units.format_utc(end)), _text("value", price))
        for end, price in zip(prices.ends_utc, prices.prices, strict=True)
    )
    return _element("IntervalPrices", _text("intervalSeconds", prices.interval_s), *rows)


def refuse(found: Sequence[tuple[str, str]]) -> None:
    """Raise what a tariff's findings come to.

    Args:
        found: (place, reason) of each, of which the first 50 are told; none: nothing happens.

    Raises:
        TariffRefused: there is one.
    """
    if found:
        items = [Item("bad-tariff", reason, place) for place, reason in found[:LONGEST]]
        raise TariffRefused(f"{items[0].path}: {items[0].reason}", items=items)
