"""Tariffs in XML: an example written by hand, every value there and back, and each refusal with its place."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal as D

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from gridpost import tariff_messages
from gridpost.errors import FileInvalid, MalformedXml, SchemaInvalid, TariffRefused
from gridpost.tariff import (
    METERING,
    SCOPES,
    TIER_SPANS,
    Adjustment,
    Fixed,
    FlatDemand,
    IntervalPrices,
    Minimum,
    Ratchet,
    Reactive,
    Rounding,
    Schedule,
    Tariff,
    TariffProfile,
    Tier,
)

SPACE = "urn:gridpost:tariff:1"


def hours(kind: str, months: tuple[int, int], of_day: tuple[int, int]) -> str:
    return (
        f"<Hours><dayKind>{kind}</dayKind><firstMonth>{months[0]}</firstMonth><lastMonth>{months[1]}</lastMonth>"
        f"<startHour>{of_day[0]}</startHour><endHour>{of_day[1]}</endHour></Hours>"
    )


def tier(start: str, price: str, unit: str = "kWh", more: str = "") -> str:
    return (
        f"<ConsumptionTariffInterval><startValue>{start}</startValue><unit>{unit}</unit>"
        f"<tariffCycle>cycle</tariffCycle><Charge><variablePortion>{price}</variablePortion>{more}</Charge>"
        "</ConsumptionTariffInterval>"
    )


PEAK_HOURS = hours("weekday", (6, 9), (12, 18))
BY_HAND = f"""<?xml version="1.0" encoding="UTF-8"?>
<Tariff xmlns="{SPACE}">
 <mRID>summer-peak</mRID><supplier>brightco</supplier><name>Summer peak</name><kind>energy</kind>
 <currency>EUR</currency><zone>Europe/Berlin</zone>
 <startDate>2026-01-01T00:00:00+01:00</startDate><endDate>2027-01-01T00:00:00+01:00</endDate>
 <EnergyProfile>
  <TimeTariffInterval><sequenceNumber>0</sequenceNumber>
   {hours("weekday", (1, 5), (0, 24))}{hours("weekday", (10, 12), (0, 24))}{hours("weekend", (1, 12), (0, 24))}
   {hours("weekday", (6, 9), (0, 12))}{hours("weekday", (6, 9), (18, 24))}
   {tier("0", "0.20")}{tier("500", "0.25")}
  </TimeTariffInterval>
  <TimeTariffInterval><sequenceNumber>1</sequenceNumber>{PEAK_HOURS}
   {tier("0", "0.40")}{tier("500", "0.45", more="<adjustment>0.01</adjustment><currency>EUR</currency>")}
  </TimeTariffInterval>
 </EnergyProfile>
 <FixedCharge><name>standing charge</name><fixedPortion>9.50</fixedPortion><per>month</per></FixedCharge>
 <holiday>2026-12-25</holiday>
</Tariff>
"""


def refused(text: str) -> dict[str, str]:
    with pytest.raises(TariffRefused) as caught:
        tariff_messages.decode(text)
    return {item.path: item.reason for item in caught.value.items}


def changed(old: str, new: str) -> str:
    assert BY_HAND.count(old) >= 1
    return BY_HAND.replace(old, new, 1)


def test_what_a_person_wrote_is_what_it_says():
    found = tariff_messages.decode(BY_HAND)
    quiet, peak = (0,) * 24, (0,) * 12 + (1,) * 6 + (0,) * 6
    assert found == Tariff(
        id="summer-peak",
        supplier="brightco",
        name="Summer peak",
        currency="EUR",
        zone="Europe/Berlin",
        kind="energy",
        valid_from_utc=1_767_222_000,  # 2025-12-31T23:00:00Z: 20,453 days and 82,800 s; the year after has 365 days
        valid_to_utc=1_767_222_000 + 365 * 86_400,
        energy=TariffProfile(
            Schedule((quiet,) * 5 + (peak,) * 4 + (quiet,) * 3, (quiet,) * 12),
            (
                (Tier(D("0.20"), D(500)), Tier(D("0.25"))),
                (Tier(D("0.40"), D(500)), Tier(D("0.45"), adjustment=D("0.01"), currency="EUR")),
            ),
        ),
        fixed=(Fixed("standing charge", D("9.50")),),
        holidays=frozenset((date(2026, 12, 25),)),
    )


# --- there and back --------------------------------------------------------------------------------------------------

NUMBERS = st.builds(
    lambda digits, places: D(digits).scaleb(-places), st.integers(-(10**18) + 1, 10**18 - 1), st.integers(0, 18)
)
SHARES = st.integers(0, 10**6).map(lambda n: D(n).scaleb(-6))
NAMES = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"), min_size=1, max_size=9
)
MOMENTS = st.integers(0, 250_000_000_000)


def grids(periods: int) -> st.SearchStrategy:
    """Some days, put into the months at random: real calendars have few kinds of days."""
    days = st.lists(st.lists(st.integers(0, periods - 1), min_size=24, max_size=24).map(tuple), min_size=1, max_size=3)
    return days.flatmap(lambda kinds: st.tuples(*[st.sampled_from(kinds)] * 12))


@st.composite
def tiers_of(draw, unit: str):
    rising = sorted(draw(st.sets(st.integers(1, 10**9), max_size=3)))
    per = draw(st.sampled_from(TIER_SPANS if unit != "kW" else ("cycle",)))
    limits = [*map(D, rising), None]
    currency = st.sampled_from(("", "EUR"))
    return tuple(
        Tier(draw(NUMBERS), limit, unit, per, draw(NUMBERS), draw(st.none() | NUMBERS), draw(currency))
        for limit in limits
    )


@st.composite
def profiles(draw, unit: str, same: bool = False):
    count = draw(st.integers(1, 3))
    first = draw(tiers_of(unit))
    periods = [first] + [first if same else draw(tiers_of(unit)) for _ in range(count - 1)]
    weekday = draw(grids(count))
    weekday = (tuple(range(count)) + weekday[0][count:], *weekday[1:])  # each is in force in some hour
    return TariffProfile(Schedule(weekday, draw(grids(count)), draw(st.none() | grids(count))), tuple(periods))


@st.composite
def flats(draw):
    periods = tuple(draw(st.lists(tiers_of("kW"), min_size=1, max_size=3)))
    return FlatDemand(tuple(draw(st.integers(0, len(periods) - 1)) for _ in range(12)), periods)


@st.composite
def interval_prices(draw):
    seconds, first = draw(st.sampled_from((300, 900, 3600))), draw(st.integers(0, 10**9))
    prices = tuple(draw(st.lists(NUMBERS, max_size=5)))
    return IntervalPrices(seconds, tuple(first + seconds * n for n in range(len(prices))), prices)


def twelve(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.tuples(*[strategy] * 12)


@st.composite
def tariffs(draw):
    def maybe(strategy):
        return draw(st.none() | strategy)

    start, scope = draw(MOMENTS), draw(st.sampled_from(SCOPES))
    unit = draw(st.sampled_from(("kWh", "kWh/kW")))
    energy = maybe(profiles(unit, same=scope == "month"))
    spans = st.sampled_from(("day", "month", "year"))
    currency = st.sampled_from(("", "EUR"))
    return Tariff(
        id=draw(NAMES), supplier=draw(NAMES), name=draw(NAMES), currency="EUR", zone=draw(NAMES),
        kind=draw(st.sampled_from(("energy", "distribution", "both"))),
        valid_from_utc=start, valid_to_utc=maybe(st.integers(start + 1, start + 10**9)),
        rounding=Rounding(draw(st.integers(0, 9)), draw(st.sampled_from(("half-up", "half-even")))),
        energy=energy, scope=scope, demand=maybe(profiles("kW")), flat=maybe(flats()), coincident=maybe(profiles("kW")),
        window_s=draw(st.sampled_from((0, 900, 1800, 3600))), rolling=draw(st.booleans()),
        ratchet=maybe(st.builds(Ratchet, twelve(SHARES), st.integers(1, 36), twelve(st.booleans()))),
        reactive=maybe(st.builds(Reactive, NUMBERS, st.sampled_from(("kvarh", "kvar")), SHARES, currency)),
        power_factor=maybe(SHARES),
        fixed=tuple(draw(st.lists(st.builds(Fixed, NAMES, NUMBERS, spans, currency), max_size=2))),
        minimum=tuple(draw(st.lists(st.builds(Minimum, NUMBERS, spans, currency), max_size=2))),
        adjustments=tuple(draw(st.lists(st.builds(Adjustment, NAMES, st.sampled_from(("kWh", "percent")), NUMBERS),
                                        max_size=2))),
        metering=draw(st.sampled_from(METERING)),
        interval_prices=None if energy else maybe(interval_prices()),
        holidays=frozenset(draw(st.sets(st.dates(), max_size=3))),
        facts=tuple(draw(st.lists(st.tuples(NAMES, st.text("a \t\n\r<&>\"é", max_size=9)), max_size=2))),
    )  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(tariffs())
def test_every_tariff_comes_back_as_it_was(tariff):
    text = tariff_messages.encode(tariff)
    assert tariff_messages.decode(text) == tariff
    # Canonical by libxml2's own account, so a signature is over these very bytes.
    assert etree.tostring(etree.fromstring(text), method="c14n", exclusive=True).decode() == text


def test_digits_stand_as_they_were_given():
    text = tariff_messages.encode(tariff_messages.decode(BY_HAND))
    assert "<fixedPortion>9.50</fixedPortion>" in text
    assert "<variablePortion>0.40</variablePortion>" in text


def test_equal_days_make_one_rectangle():
    # July's rows are June's: four months of 12 to 18 and what is around them, not 12 x 24 cells.
    text = tariff_messages.encode(tariff_messages.decode(BY_HAND))
    assert text.count("<Hours>") == 6
    assert PEAK_HOURS in text


# --- refused, with the place -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "place", "reason"),
    [
        (PEAK_HOURS, hours("weekday", (6, 9), (13, 18)), "energy/weekday/month 6/hour 12", "a hole of 4 hours"),
        (PEAK_HOURS, hours("weekday", (6, 9), (11, 18)), "energy/weekday/month 6/hour 11", "0 and 1 overlap"),
        (PEAK_HOURS, PEAK_HOURS * 2, "energy/weekday/month 6/hour 12", "period 1 names it twice"),
        (PEAK_HOURS, hours("weekday", (9, 6), (12, 18)), "energy/period 1", "end before they begin"),
        (PEAK_HOURS, hours("weekday", (6, 9), (18, 12)), "energy/period 1", "end before they begin"),
        (PEAK_HOURS, PEAK_HOURS + hours("holiday", (1, 12), (0, 23)), "energy/holiday/month 1/hour 23", "12 hours"),
        ("<sequenceNumber>1</sequenceNumber>", "<sequenceNumber>2</sequenceNumber>", "energy/period 1", "Number 2"),
        (tier("500", "0.25"), tier("0", "0.25"), "energy/period 0/tier 0/limit", "out of order"),
        (tier("0", "0.20"), tier("10", "0.20"), "energy/period 0/tier 0/startValue", "begins at 0"),
        ("EUR</currency></Charge>", "USD</currency></Charge>", "energy/period 1/tier 1/price", "is in USD"),
        ("<endDate>2027", "<endDate>2025", "validTo", "before it begins"),
        ("00:00:00+01:00</endDate>", "00:00:00</endDate>", "validTo", "zone"),
        ("<holiday>2026-12-25", "<holiday>2026-12-25Z", "holiday", "2026-12-25Z"),
        ("9.50", "1234567890.123456789", "fixed standing charge", "more than 18 digits"),
    ],
)  # fmt: skip
def test_what_cannot_be_billed_is_refused_at_its_place(old, new, place, reason):
    found = refused(changed(old, new))
    assert place in found
    assert reason in found[place]


def test_a_calendar_of_thousands_of_rectangles_is_refused_at_once():
    found = refused(changed(PEAK_HOURS, PEAK_HOURS * 900))
    assert found["energy"] == "905 Hours: a calendar needs no more than 864"  # those of the other period are 5
    assert len(found) <= 50


def test_flat_demand_names_every_month_once():
    flat = (
        "<FlatDemand><MonthTariffInterval><sequenceNumber>0</sequenceNumber>{}"
        f"{tier('0', '1', 'kW')}</MonthTariffInterval></FlatDemand>"
    )
    months = "".join(f"<month>{month}</month>" for month in [*range(1, 12), 3])
    found = refused(changed("<FixedCharge>", flat.format(months) + "<FixedCharge>"))
    assert found == {"flat/month 3": "periods 0 and 0 overlap", "flat/month 12": "no period is in force: a hole"}


@pytest.mark.parametrize("price", ["NaN", "INF", "1e-7", "", "0,20", "1_0"])
def test_a_price_that_is_no_number_is_refused_at_its_place(price):
    with pytest.raises(SchemaInvalid) as caught:
        tariff_messages.decode(changed("9.50", price))
    assert caught.value.items[0].path == "/tf:Tariff[1]/tf:FixedCharge[1]/tf:fixedPortion[1]"


def test_what_is_refused_is_not_written_either():
    good = tariff_messages.decode(BY_HAND)
    with pytest.raises(TariffRefused, match="validTo"):
        tariff_messages.encode(replace(good, valid_to_utc=good.valid_from_utc))


def test_another_document_and_half_of_one_are_refused():
    with pytest.raises(FileInvalid, match="expected"):
        tariff_messages.decode("<Tariff xmlns='urn:other'/>")
    with pytest.raises(MalformedXml):
        tariff_messages.decode(BY_HAND[: len(BY_HAND) // 2])
