"""OpenEI's Utility Rate Database JSON, detail "full": a file to tariffs (`render.py` writes them).

In: bytes, and what URDB does not say: the zone, holidays, how tiers count. Out: tariffs that `tariff_check` passed. A
key that is not understood is named and refused, never left out. The mapping table is in
README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

from gridpost.errors import FileInvalid, Item, TariffRefused
from gridpost.tariff import (
    TO_THE_CENT,
    ZERO,
    Fixed,
    FlatDemand,
    Grid,
    Minimum,
    Ratchet,
    Reactive,
    Rounding,
    Schedule,
    Tariff,
    TariffProfile,
    Tier,
    Tiers,
)
from gridpost.tariff_check import check

from . import json_text
from .render import render as render
from .tables import EACH_ADDITIONAL, FACTS, KINDS, METERING, PER, PRICED, STANDING, TIER_UNITS

_YEAR_BACK = 11  # cycles before this one, where a look-back names months and no range
_MOST_TARIFFS, _MOST_PERIODS, _MOST_TIERS = 10_000, 64, 32


@dataclass(frozen=True, slots=True)
class UrdbOptions:
    """What a URDB file does not say.

    Attributes:
        zone: IANA name of the zone its hours are in.
        holidays: local dates that are billed as weekends.
        scope: how energy tiers count, of `tariff.SCOPES`.
        meters: how many the customer has, for the charge of each additional one.
        rounding: of each line.
        origin: the file's name, for messages.
    """

    zone: str
    holidays: frozenset[date] = frozenset()
    scope: str = "month"
    meters: int = 1
    rounding: Rounding = TO_THE_CENT
    origin: str = "tariff"


class _Reader:
    """One rate's object, with the place of each thing read."""

    def __init__(self, rate: Mapping[str, Any], place: str) -> None:
        self.rate, self.place = rate, place

    def wrong(self, key: str, reason: str) -> FileInvalid:
        """The error that names a key."""
        where = f"{self.place}/{key}"
        return FileInvalid(f"{where}: {reason}", items=[Item("file-invalid", reason, where)])

    def number(self, key: str, value: Any) -> Decimal:
        """A JSON number as it stands."""
        if not isinstance(value, Decimal) or not value.is_finite():
            raise self.wrong(key, f"{str(value)[:40]} is no number")
        return value

    def whole(self, key: str, value: Any) -> int:
        """A JSON number without a fraction."""
        number = self.number(key, value)
        if number != number.to_integral_value():
            raise self.wrong(key, f"{number} is no whole number")
        return int(number)

    def text(self, key: str, default: str = "") -> str:
        """A JSON string."""
        value = self.rate.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "is no text")
        return value

    def list_of(self, key: str, value: Any, length: int | None = None, most: int = _MOST_PERIODS) -> list[Any]:
        """A JSON array, of a length where it is given."""
        if not isinstance(value, list) or len(value) > most:
            raise self.wrong(key, f"is no list of at most {most}")
        if length is not None and len(value) != length:
            raise self.wrong(key, f"has {len(value)} entries, not {length}")
        return value

    def one_of(self, key: str, text: str, table: Mapping[str, Any]) -> Any:
        """What a table has for a text."""
        if text not in table:
            raise self.wrong(key, f"{text!r} is none of {', '.join(table)}")
        return table[text]


def parse(raw: bytes, options: UrdbOptions) -> tuple[Tariff, ...]:
    """Return the tariffs of a file: one rate, a list of them, or the answer of the API with its `items`.

    Raises:
        FileInvalid: no JSON, a key that is not understood, a value that is none; the place is named.
        TariffRefused: it cannot be billed; each place is listed.
    """
    value = json_text.parse(raw, options.origin)
    if isinstance(value, str):  # some collections hold the JSON as a JSON string
        value = json_text.parse(value.encode("utf-8"), options.origin)
    if isinstance(value, dict) and isinstance(value.get("items"), list):
        value = value["items"]
    rates = value if isinstance(value, list) else [value]
    if not rates or len(rates) > _MOST_TARIFFS:
        raise FileInvalid(f"{options.origin}: {len(rates)} rates; a file has 1 to {_MOST_TARIFFS}")
    places = [options.origin] if len(rates) == 1 else [f"{options.origin}/rate {index}" for index in range(len(rates))]
    return tuple(_tariff(rate, place, options) for rate, place in zip(rates, places, strict=True))


def _tariff(rate: Any, place: str, options: UrdbOptions) -> Tariff:
    if not isinstance(rate, dict):
        raise FileInvalid(f"{place}: a rate is an object")
    unknown = sorted(set(rate) - FACTS - PRICED)
    if unknown:
        items = [Item("file-invalid", "this key is not understood", f"{place}/{key}") for key in unknown]
        raise FileInvalid(f"{place}: keys that are not understood: {', '.join(unknown)[:400]}", items=items)
    reader = _Reader(rate, place)
    tariff = _filled(_heads(reader, options), reader, options)
    found = check(tariff)
    if found:
        first = f"{place}/{found[0].path}: {found[0].reason}"
        raise TariffRefused(first, items=[replace(item, path=f"{place}/{item.path}") for item in found])
    return tariff


def _heads(reader: _Reader, options: UrdbOptions) -> Tariff:
    rate = reader.rate
    kind = reader.text("servicetype", "Bundled")
    return Tariff(
        id=reader.text("label"),
        supplier=reader.text("utility"),
        name=reader.text("name"),
        currency="USD",
        zone=options.zone,
        kind=reader.one_of("servicetype", kind.lower(), KINDS),
        valid_from_utc=reader.whole("startdate", rate["startdate"]) if "startdate" in rate else 0,
        valid_to_utc=reader.whole("enddate", rate["enddate"]) if rate.get("enddate") is not None else None,
        rounding=options.rounding,
        scope=options.scope,
        holidays=options.holidays,
        metering=_metering(reader),
        facts=tuple((key, json_text.render(rate[key])) for key in sorted(set(rate) & FACTS)),
    )


def _filled(tariff: Tariff, reader: _Reader, options: UrdbOptions) -> Tariff:
    rate = reader.rate
    window = reader.whole("demandwindow", rate["demandwindow"]) if "demandwindow" in rate else 0
    return replace(
        tariff,
        energy=_profile(reader, "energy", _energy_tier),
        demand=_profile(reader, "demand", _demand_tier),
        flat=_flat(reader),
        coincident=_coincident(reader),
        window_s=window * 60,
        ratchet=_ratchet(reader),
        reactive=_reactive(reader),
        fixed=_fixed(reader, options.meters),
        minimum=_minimum(reader),
    )


# --- calendars and tiers ---------------------------------------------------------------------------------------------


def _profile(reader: _Reader, name: str, tier: Callable[[_Reader, str, Any], Tier]) -> TariffProfile | None:
    structure, weekday, weekend = f"{name}ratestructure", f"{name}weekdayschedule", f"{name}weekendschedule"
    given = [key for key in (structure, weekday, weekend) if key in reader.rate]
    if not given:
        return None
    if len(given) < 3:
        raise reader.wrong(given[0], f"needs {structure}, {weekday} and {weekend}")
    _demand_unit(reader, "demandrateunit" if name == "demand" else "", "demandunits" if name == "demand" else "")
    return TariffProfile(Schedule(_grid(reader, weekday), _grid(reader, weekend)), _periods(reader, structure, tier))


def _grid(reader: _Reader, key: str) -> Grid:
    rows = reader.list_of(key, reader.rate[key], 12)
    cells = [reader.list_of(f"{key}/month {month}", row, 24) for month, row in enumerate(rows, 1)]
    return tuple(tuple(reader.whole(key, cell) for cell in row) for row in cells)


def _periods(reader: _Reader, key: str, tier: Callable[[_Reader, str, Any], Tier]) -> tuple[Tiers, ...]:
    found = []
    for index, tiers in enumerate(reader.list_of(key, reader.rate[key])):
        place = f"{key}/period {index}"
        rows = enumerate(reader.list_of(place, tiers, most=_MOST_TIERS))
        found.append(tuple(tier(reader, f"{place}/tier {number}", row) for number, row in rows))
    return tuple(found)


def _cells(reader: _Reader, place: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict) or set(row) - {"rate", "adj", "sell", "max", "unit"}:
        raise reader.wrong(place, "a tier has rate, adj, sell, max and unit, nothing else")
    if "rate" not in row and "adj" not in row:
        raise reader.wrong(place, "has no price")
    return {key: value if key == "unit" else reader.number(f"{place}/{key}", value) for key, value in row.items()}


def _energy_tier(reader: _Reader, place: str, row: Any) -> Tier:
    cells = _cells(reader, place, row)
    unit, per = reader.one_of(f"{place}/unit", str(cells.get("unit", "kWh")).lower(), TIER_UNITS)
    price, adjustment = cells.get("rate", ZERO), cells.get("adj", ZERO)
    return Tier(price, cells.get("max"), unit, per, adjustment, cells.get("sell"))


def _demand_tier(reader: _Reader, place: str, row: Any) -> Tier:
    cells = _cells(reader, place, row)
    if str(cells.get("unit", "kW")).lower() != "kw":
        raise reader.wrong(f"{place}/unit", f"{cells['unit']!r}: demand is billed in kW")
    if "sell" in cells:
        raise reader.wrong(f"{place}/sell", "demand is not sold")
    return Tier(cells.get("rate", ZERO), cells.get("max"), "kW", "cycle", cells.get("adj", ZERO))


def _demand_unit(reader: _Reader, *keys: str) -> None:
    for key in keys:
        if key in reader.rate and reader.text(key).lower() != "kw":
            raise reader.wrong(key, f"{reader.text(key)!r}: demand is billed in kW")


def _flat(reader: _Reader) -> FlatDemand | None:
    given = [key for key in ("flatdemandstructure", "flatdemandmonths") if key in reader.rate]
    if not given:
        return None
    if len(given) < 2:
        raise reader.wrong(given[0], "needs flatdemandstructure and flatdemandmonths")
    _demand_unit(reader, "flatdemandunit")
    months = reader.list_of("flatdemandmonths", reader.rate["flatdemandmonths"], 12)
    whole = tuple(reader.whole("flatdemandmonths", index) for index in months)
    return FlatDemand(whole, _periods(reader, "flatdemandstructure", _demand_tier))


def _coincident(reader: _Reader) -> TariffProfile | None:
    given = [key for key in ("coincidentratestructure", "coincidentrateschedule") if key in reader.rate]
    if not given:
        return None
    if len(given) < 2:
        raise reader.wrong(given[0], "needs coincidentratestructure and coincidentrateschedule")
    _demand_unit(reader, "coincidentrateunit")
    grid = _grid(reader, "coincidentrateschedule")
    return TariffProfile(Schedule(grid, grid), _periods(reader, "coincidentratestructure", _demand_tier))


# --- the other terms -------------------------------------------------------------------------------------------------


def _metering(reader: _Reader) -> str:
    old = reader.rate.get("usenetmetering")
    if old not in (None, True, False):
        raise reader.wrong("usenetmetering", "is neither true nor false")
    if "dgrules" not in reader.rate:
        return "net-metering" if old else "none"
    rule = str(reader.one_of("dgrules", reader.text("dgrules"), METERING))
    if old is not None and old != (rule == "net-metering"):
        raise reader.wrong("usenetmetering", f"is {str(old).lower()}, and dgrules is {reader.text('dgrules')}")
    return rule


def _ratchet(reader: _Reader) -> Ratchet | None:
    rate = reader.rate
    monthly = rate.get("demandratchetpercentage")
    if monthly is None and "lookbackpercent" not in rate:
        alone = [key for key in ("lookbackmonths", "lookbackrange") if rate.get(key)]
        if alone:
            raise reader.wrong(alone[0], "needs lookbackpercent")
        return None
    if monthly is not None and "lookbackpercent" in rate:
        raise reader.wrong("lookbackpercent", "stands beside demandratchetpercentage")
    if monthly is not None:
        entries = reader.list_of("demandratchetpercentage", monthly, 12)
        shares = tuple(reader.number("demandratchetpercentage", share) for share in entries)
    else:
        shares = (reader.number("lookbackpercent", rate["lookbackpercent"]),) * 12
    months = reader.list_of("lookbackmonths", rate.get("lookbackmonths") or [True] * 12, 12)
    if any(flag not in (True, False, 0, 1) for flag in months):
        raise reader.wrong("lookbackmonths", "holds what is neither true nor false")
    back = reader.whole("lookbackrange", rate.get("lookbackrange", ZERO)) or _YEAR_BACK
    return Ratchet(shares, back, tuple(bool(flag) for flag in months))


def _reactive(reader: _Reader) -> Reactive | None:
    given = [key for key in ("reactivepowercharge", "demandreactivepowercharge") if key in reader.rate]
    if len(given) > 1:
        raise reader.wrong(given[1], f"stands beside {given[0]}")
    return Reactive(reader.number(given[0], reader.rate[given[0]]), "kvar") if given else None


def _fixed(reader: _Reader, meters: int) -> tuple[Fixed, ...]:
    rate, found = reader.rate, []
    per = reader.one_of("fixedchargeunits", reader.text("fixedchargeunits", "$/month"), PER)
    for key in ("fixedchargefirstmeter", "fixedmonthlycharge"):
        if key in rate:
            found.append(
                Fixed(STANDING, reader.number(key, rate[key]), per if key == "fixedchargefirstmeter" else "month")
            )
    if len(found) > 1:
        raise reader.wrong("fixedmonthlycharge", "stands beside fixedchargefirstmeter")
    if "fixedchargeeaaddl" in rate and meters > 1:
        each = reader.number("fixedchargeeaaddl", rate["fixedchargeeaaddl"])
        found.append(Fixed(EACH_ADDITIONAL, each * (meters - 1), per))
    return tuple(found)


def _minimum(reader: _Reader) -> tuple[Minimum, ...]:
    rate, found = reader.rate, []
    per = reader.one_of("minchargeunits", reader.text("minchargeunits", "$/month"), PER)
    for key, span in (("mincharge", per), ("minmonthlycharge", "month"), ("annualmincharge", "year")):
        if key in rate:
            found.append(Minimum(reader.number(key, rate[key]), span))
    if len({one.per for one in found}) < len(found):
        raise reader.wrong("mincharge", "is given twice for the same span")
    return tuple(found)
