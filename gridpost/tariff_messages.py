"""Tariffs in XML (`xsd/tariff.xsd`), read: a document, or the Tariff element of a message, to a value.

Floor 2. In: text from anywhere, or an element that is schema-valid. Out: a tariff that `tariff_check.check` passes, or
a refusal that names each place as `check` does. Hours that no period has, or two have, can be here alone: inside, a
calendar is a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from . import ns, schemas, units
from .envelope import DEVICE_LIMITS, Element, parse
from .errors import FileInvalid
from .tariff import (
    TO_THE_CENT,
    ZERO,
    Adjustment,
    Fixed,
    FlatDemand,
    Grid,
    IntervalPrices,
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
from .tariff_check import check
from .tariff_encoding import HOURS, MONTHS, encode, refuse

__all__ = ["ROOT", "decode", "decode_element", "encode"]

_T = f"{{{ns.TARIFF}}}"
ROOT = f"{_T}Tariff"
_DOCUMENT_BYTES = 16 << 20
_MOST_HOURS = 12 * 24 * 3  # one each hour of each kind of day; as many thousands would take a second
_ALWAYS = ("weekday", "weekend")  # kinds of day that every calendar must cover
Found = list[tuple[str, str]]  # place, reason


def decode(text: str | bytes) -> Tariff:
    """Read a document: what `encode` wrote, or what somebody else did by the schema; UTF-8.

    Raises:
        PeerFault: MessageTooLarge, MalformedXml, ForbiddenMarkup, LimitExceeded; SchemaInvalid with the places.
        FileInvalid: another root.
        TariffRefused: it cannot be billed; each place is listed.
    """
    raw = text.encode() if isinstance(text, str) else text
    root = parse(raw, DEVICE_LIMITS.raised(_DOCUMENT_BYTES))
    if root.tag != ROOT:
        raise FileInvalid(f"the document's root is {root.tag}, expected {ROOT}")
    schemas.validate(root)
    return decode_element(root)


def decode_element(element: Element) -> Tariff:
    """Decode a schema-valid Tariff element.

    Raises:
        TariffRefused: it cannot be billed; each place is listed.
    """
    reader = _Reader(element, [])
    tariff = Tariff(**_read_heads(reader), **_read_priced(reader), **_read_terms(reader))
    refuse(reader.found)
    refuse([(item.path, item.reason) for item in check(tariff)])
    return tariff


class _Reader(NamedTuple):
    """An element, and what is found wrong in it and all around it."""

    element: Element
    found: Found

    def all(self, name: str) -> Iterator[_Reader]:
        return (_Reader(child, self.found) for child in self.element.iterchildren(_T + name))

    def one(self, name: str) -> _Reader | None:
        return next(self.all(name), None)

    def text(self, name: str, default: str = "") -> str:
        """Text as sent, spaces and all."""
        found: str | None = self.element.findtext(_T + name)
        return default if found is None else found

    def number(self, name: str) -> Decimal | None:
        text = self.text(name).strip()
        return Decimal(text) if text else None

    def amount(self, name: str) -> Decimal:
        return self.number(name) or ZERO

    def whole(self, name: str, default: int = 0) -> int:
        return int(self.text(name).strip() or default)

    def flag(self, name: str) -> bool:
        return self.text(name).strip() in ("true", "1")

    def tried(self, place: str, read: Callable[[str], Any], text: str, default: Any = None) -> Any:
        """What `read` makes of a text; when it raises ValueError a finding, and the default."""
        try:
            return read(text.strip()) if text else default
        except ValueError as error:
            self.found.append((place, f"{text[:40]!r}: {error}"))
            return default


def _read_heads(reader: _Reader) -> dict[str, Any]:
    rounding = reader.one("Rounding")
    return {
        "id": reader.text("mRID"),
        "supplier": reader.text("supplier"),
        "name": reader.text("name"),
        "kind": reader.text("kind"),
        "currency": reader.text("currency"),
        "zone": reader.text("zone"),
        "valid_from_utc": reader.tried("validFrom", units.parse_utc, reader.text("startDate"), 0),
        "valid_to_utc": reader.tried("validTo", units.parse_utc, reader.text("endDate")),
        "rounding": TO_THE_CENT if rounding is None else Rounding(rounding.whole("places"), rounding.text("mode")),
    }


def _read_priced(reader: _Reader) -> dict[str, Any]:
    return {
        "energy": _read_profile(reader.one("EnergyProfile"), "energy"),
        "scope": reader.text("tierScope", "month"),
        "demand": _read_profile(reader.one("DemandProfile"), "demand"),
        "flat": _read_flat(reader.one("FlatDemand")),
        "coincident": _read_profile(reader.one("CoincidentProfile"), "coincident"),
        "window_s": reader.whole("demandWindow"),
        "rolling": reader.flag("rollingWindow"),
        "ratchet": _read_ratchet(reader.one("Ratchet")),
        "reactive": _read_reactive(reader.one("Reactive")),
        "power_factor": reader.number("powerFactor"),
    }


def _read_terms(reader: _Reader) -> dict[str, Any]:
    days = [reader.tried("holiday", date.fromisoformat, one.element.text or "") for one in reader.all("holiday")]
    return {
        "fixed": tuple(Fixed(one.text("name"), *_read_amount(one)) for one in reader.all("FixedCharge")),
        "minimum": tuple(Minimum(*_read_amount(one)) for one in reader.all("MinimumCharge")),
        "adjustments": tuple(
            Adjustment(one.text("name"), one.text("unit"), one.amount("value")) for one in reader.all("Adjustment")
        ),
        "metering": reader.text("metering", "none"),
        "interval_prices": _read_interval_prices(reader.one("IntervalPrices")),
        "holidays": frozenset(day for day in days if day),
        "facts": tuple((one.text("name"), one.text("value")) for one in reader.all("Fact")),
    }


def _read_amount(one: _Reader) -> tuple[Decimal, str, str]:
    return one.amount("fixedPortion"), one.text("per"), one.text("currency")


def _read_profile(profile: _Reader | None, place: str) -> TariffProfile | None:
    if profile is None:
        return None
    cells: dict[str, dict[tuple[int, int], int]] = {kind: {} for kind in _ALWAYS}
    periods, rectangles = [], 0
    for index, period in enumerate(profile.all("TimeTariffInterval")):
        here = f"{place}/period {index}"
        _numbered(period, index, here)
        periods.append(_read_tiers(period, here))
        own = list(period.all("Hours"))
        rectangles += len(own)
        for hours in own if rectangles <= _MOST_HOURS else ():
            _put(hours, index, cells.setdefault(hours.text("dayKind"), {}), place)
    if rectangles > _MOST_HOURS:
        profile.found.append((place, f"{rectangles} Hours: a calendar needs no more than {_MOST_HOURS}"))
    grids = {kind: _grid(own, f"{place}/{kind}", profile.found) for kind, own in cells.items()}
    return TariffProfile(Schedule(**grids), tuple(periods))


def _numbered(period: _Reader, index: int, place: str) -> None:
    stated = period.whole("sequenceNumber")
    if stated != index:
        period.found.append((place, f"has the sequenceNumber {stated}"))


def _put(hours: _Reader, index: int, cells: dict[tuple[int, int], int], place: str) -> None:
    months = range(hours.whole("firstMonth"), hours.whole("lastMonth") + 1)
    of_day = range(hours.whole("startHour"), hours.whole("endHour"))
    kind = hours.text("dayKind")
    if not months or not of_day:
        hours.found.append((f"{place}/period {index}", f"its hours of a {kind} end before they begin"))
    own = {(month, hour): index for month in months for hour in of_day}
    twice = sorted(own.keys() & cells.keys())
    if twice:
        (month, hour), other = twice[0], cells[twice[0]]
        reason = f"periods {other} and {index} overlap" if other != index else f"period {index} names it twice"
        hours.found.append((f"{place}/{kind}/month {month}/hour {hour}", reason))
    cells.update(own)


def _grid(cells: dict[tuple[int, int], int], place: str, found: Found) -> Grid:
    holes = [(month, hour) for month in MONTHS for hour in HOURS if (month, hour) not in cells]
    if holes:
        month, hour = holes[0]
        found.append((f"{place}/month {month}/hour {hour}", f"no period is in force: a hole of {len(holes)} hours"))
    return tuple(tuple(cells.get((month, hour), 0) for hour in HOURS) for month in MONTHS)


def _read_tiers(period: _Reader, place: str) -> Tiers:
    tiers = list(period.all("ConsumptionTariffInterval"))
    starts = [tier.amount("startValue") for tier in tiers]
    if starts[0]:
        period.found.append((f"{place}/tier 0/startValue", f"is {starts[0]}: the first tier begins at 0"))
    limits = [*(above for _, above in pairwise(starts)), None]
    return tuple(_read_tier(tier, limit) for tier, limit in zip(tiers, limits, strict=True))


def _read_tier(tier: _Reader, limit: Decimal | None) -> Tier:
    (charge,) = tier.all("Charge")
    return Tier(
        price=charge.amount("variablePortion"),
        limit=limit,
        unit=tier.text("unit"),
        per=tier.text("tariffCycle"),
        adjustment=charge.amount("adjustment"),
        sell=charge.number("sell"),
        currency=charge.text("currency"),
    )


def _read_flat(flat: _Reader | None) -> FlatDemand | None:
    if flat is None:
        return None
    months: dict[int, int] = {}
    periods = []
    for index, period in enumerate(flat.all("MonthTariffInterval")):
        here = f"flat/period {index}"
        _numbered(period, index, here)
        periods.append(_read_tiers(period, here))
        for month in (int(one.element.text) for one in period.all("month")):
            if month in months:
                flat.found.append((f"flat/month {month}", f"periods {months[month]} and {index} overlap"))
            months[month] = index
    holes = [month for month in MONTHS if month not in months]
    flat.found.extend((f"flat/month {month}", "no period is in force: a hole") for month in holes)
    return FlatDemand(tuple(months.get(month, 0) for month in MONTHS), tuple(periods))


def _read_ratchet(ratchet: _Reader | None) -> Ratchet | None:
    if ratchet is None:
        return None
    months = list(ratchet.all("RatchetMonth"))
    shares, counts = [one.amount("share") for one in months], [one.flag("counts") for one in months]
    return Ratchet(tuple(shares), ratchet.whole("lookbackMonths"), tuple(counts))


def _read_reactive(one: _Reader | None) -> Reactive | None:
    if one is None:
        return None
    return Reactive(one.amount("variablePortion"), one.text("unit"), one.amount("freeShare"), one.text("currency"))


def _read_interval_prices(prices: _Reader | None) -> IntervalPrices | None:
    if prices is None:
        return None
    rows = list(prices.all("IntervalPrice"))
    stamps = [prices.tried("interval-prices", units.parse_utc, row.text("timeStamp"), 0) for row in rows]
    return IntervalPrices(
        prices.whole("intervalSeconds"), tuple(stamps), tuple(row.amount("value") for row in rows)
    )  # fmt: skip
