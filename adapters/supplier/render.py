"""Tariffs as OpenEI's Utility Rate Database JSON.

In: a tariff. Out: the bytes of one rate, and what URDB has no place for. What would change a bill is refused, what only
the reader must be told otherwise (zone, rounding, holidays) is listed. The same tariff gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from gridpost.errors import CannotRepresent, Item
from gridpost.ports import Rendered
from gridpost.tariff import TO_THE_CENT, Grid, Tariff, TariffProfile, Tier

from . import json_text
from .tables import EACH_ADDITIONAL, KINDS, METERING, PER, UNIT_OF

_PER_TEXT = {per: text for text, per in PER.items()}
_RULE_TEXT = {rule: text for text, rule in METERING.items()}
_SERVICE_TEXT = {"energy": "Energy", "distribution": "Delivery"}


def render(tariff: Tariff) -> Rendered:
    """Return a tariff as the JSON of one rate.

    Raises:
        CannotRepresent: it has terms URDB has no key for; each is listed.
    """
    wrong = [Item("cannot-represent", reason, place) for place, reason in _unspeakable(tariff)]
    if wrong:
        raise CannotRepresent(f"{tariff.id}: {wrong[0].path} {wrong[0].reason}", items=wrong)
    rate = {key: value for key, value in _rate(tariff) if value is not None}
    losses = tuple(Item("not-carried", reason, place) for place, reason in _losses(tariff))
    return Rendered((json_text.render(rate) + "\n").encode("utf-8"), losses)


def _unspeakable(tariff: Tariff) -> Iterator[tuple[str, str]]:
    """What a URDB rate cannot say and a bill would miss."""
    fixed = [one for one in tariff.fixed if one.name != EACH_ADDITIONAL]
    facts, reactive = dict(tariff.facts), tariff.reactive
    said: tuple[tuple[str, bool, str], ...] = (
        ("currency", tariff.currency != "USD", "is not USD"),
        ("interval-prices", tariff.interval_prices is not None, "have no key"),
        ("power-factor", tariff.power_factor is not None, "has no key"),
        ("adjustments", bool(tariff.adjustments), "have no key"),
        ("rolling", tariff.rolling, "has no key"),
        ("window", tariff.window_s % 60 != 0, "is no whole number of minutes"),
        (
            "fixed",
            len(fixed) > 1 or (len(fixed) < len(tariff.fixed) and "fixedchargeeaaddl" not in facts),
            "is one sum",
        ),
        (
            "reactive",
            reactive is not None and (reactive.unit != "kvar" or bool(reactive.free_share)),
            "is $/kvar alone",
        ),
        ("minimum", len({one.per == "year" for one in tariff.minimum}) < len(tariff.minimum), "is one, and one a year"),
        ("energy", _counts_days(tariff.energy), "has tiers that begin anew each day"),
        ("schedule", any(_own_holidays(one) for one in (tariff.energy, tariff.demand)), "of holidays has no key"),
        ("coincident", tariff.coincident is not None and _week_differs(tariff.coincident), "has one calendar"),
        ("servicetype", _kind(facts, tariff.kind) != tariff.kind, "says another kind"),
    )
    yield from ((place, reason) for place, is_so, reason in said if is_so)


def _losses(tariff: Tariff) -> Iterator[tuple[str, str]]:
    yield "zone", f"{tariff.zone} is not said: URDB's hours are local"
    if tariff.holidays:
        yield "holidays", "are not said"
    if tariff.energy is not None and len(tariff.energy.periods[0]) > 1:
        yield "scope", f"{tariff.scope} is not said"
    if tariff.rounding != TO_THE_CENT:
        yield "rounding", "is not said"


def _rate(tariff: Tariff) -> Iterator[tuple[str, Any]]:
    facts = dict(tariff.facts)
    yield from (("label", tariff.id), ("utility", tariff.supplier), ("name", tariff.name))
    yield from (("startdate", tariff.valid_from_utc or None), ("enddate", tariff.valid_to_utc))
    yield from ((key, json_text.parse(text.encode("utf-8"))) for key, text in sorted(facts.items()))
    if "servicetype" not in facts:
        yield "servicetype", _SERVICE_TEXT.get(tariff.kind)
    yield "dgrules", _RULE_TEXT.get(tariff.metering)
    if tariff.energy is not None:
        yield from _profile("energy", tariff.energy)
    if tariff.demand is not None:
        yield from _profile("demand", tariff.demand)
    if tariff.flat is not None:
        yield from (("flatdemandstructure", _structure(tariff.flat.periods)), ("flatdemandunit", "kW"))
        yield "flatdemandmonths", list(tariff.flat.months)
    if tariff.coincident is not None:
        yield "coincidentratestructure", _structure(tariff.coincident.periods)
        yield "coincidentrateschedule", _grid(tariff.coincident.schedule.weekday)
    yield from _terms(tariff)


def _terms(tariff: Tariff) -> Iterator[tuple[str, Any]]:
    yield "demandwindow", tariff.window_s // 60 or None
    if tariff.ratchet is not None:
        yield "demandratchetpercentage", list(tariff.ratchet.shares)
        yield "lookbackrange", tariff.ratchet.months_back
        yield "lookbackmonths", list(tariff.ratchet.of_months)
    if tariff.reactive is not None:
        yield "reactivepowercharge", tariff.reactive.price
    for fixed in tariff.fixed:
        if fixed.name != EACH_ADDITIONAL:
            yield from (("fixedchargefirstmeter", fixed.amount), ("fixedchargeunits", _PER_TEXT[fixed.per]))
    for minimum in tariff.minimum:
        if minimum.per == "year":
            yield "annualmincharge", minimum.amount
        else:
            yield from (("mincharge", minimum.amount), ("minchargeunits", _PER_TEXT[minimum.per]))


def _profile(name: str, profile: TariffProfile) -> Iterator[tuple[str, Any]]:
    yield f"{name}ratestructure", _structure(profile.periods)
    yield f"{name}weekdayschedule", _grid(profile.schedule.weekday)
    yield f"{name}weekendschedule", _grid(profile.schedule.weekend)


def _grid(grid: Grid) -> list[list[int]]:
    return [list(row) for row in grid]


def _structure(periods: tuple[tuple[Tier, ...], ...]) -> list[list[dict[str, Any]]]:
    return [[_tier(tier) for tier in tiers] for tiers in periods]


def _tier(tier: Tier) -> dict[str, Any]:
    cells: dict[str, Decimal | str | None] = {
        "rate": tier.price,
        "adj": tier.adjustment or None,
        "sell": tier.sell,
        "max": tier.limit,
        "unit": UNIT_OF.get((tier.unit, tier.per)) if tier.unit != "kW" else "kW",
    }
    return {key: value for key, value in cells.items() if value is not None}


def _counts_days(profile: TariffProfile | None) -> bool:
    return profile is not None and any(tier.per == "day" for tiers in profile.periods for tier in tiers)


def _own_holidays(profile: TariffProfile | None) -> bool:
    return profile is not None and profile.schedule.holiday not in (None, profile.schedule.weekend)


def _week_differs(profile: TariffProfile) -> bool:
    return profile.schedule.weekday != profile.schedule.weekend


def _kind(facts: dict[str, str], otherwise: str) -> str:
    text = facts.get("servicetype")
    return KINDS.get(str(json_text.parse(text.encode("utf-8"))).lower(), "") if text is not None else otherwise
