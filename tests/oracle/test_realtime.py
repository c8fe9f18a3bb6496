"""Readings as they come: priced by the tier they have reached, and what is wrong with them, told where it begins."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal as D
from zoneinfo import ZoneInfo

import pytest
from metered import by_hour, flat_grid, profile, readings, tariff

from gridpost.applications import calendar, charges, determinants, realtime, series
from gridpost.applications.determinants import Metered
from gridpost.applications.realtime import Bounds, Pulses
from gridpost.model import Quality
from gridpost.tariff import IntervalPrices, Schedule, TariffProfile, Tier

UTC_ZONE, CHICAGO = ZoneInfo("Etc/UTC"), ZoneInfo("America/Chicago")
JANUARY = calendar.cycle(2026, 1, UTC_ZONE)
ENDS = calendar.expected_ends(JANUARY, 3600)


def so_far(values, reactive=None, interval_s=3600):
    """What was measured of January from its first interval on."""
    ends = calendar.expected_ends(JANUARY, interval_s)[: len(values)]
    period = replace(JANUARY, to_utc=ends[-1])
    of = {"a": readings(ends, values, interval_s=interval_s)}
    channels = [Metered("a")]
    if reactive is not None:
        of["q"] = readings(ends, reactive, interval_s=interval_s, unit="kvarh")
        channels.append(Metered("q", "reactive"))
    return determinants.measured(of, channels, period)


def ticks(values, *tariffs, **of):
    return realtime.ticks(so_far(values, **of), tariffs or (tariff(),), JANUARY)


def test_an_interval_is_priced_by_the_hour_it_starts_in():
    of = tariff(energy=profile("0.60", "0.80", grid=by_hour(lambda hour: int(6 <= hour < 18))))
    found = ticks([D(2)] * 24, of)
    assert [tick.price for tick in found[5:7]] == [D("0.60"), D("0.80")]  # 05:00 to 06:00, 06:00 to 07:00
    assert [tick.price for tick in found[17:19]] == [D("0.80"), D("0.60")]
    assert found[6].amount == D("1.60")  # 2 kWh at 0.80
    # Together they are what the bill's energy lines come to: 12 h x 2 x 0.80 + 12 h x 2 x 0.60 = 33.60.
    assert sum(tick.amount for tick in found) == D("33.60")
    lines = charges.lines(of, determinants.under(so_far([D(2)] * 24), of))
    assert charges.total(lines) == D("33.60")


# A tier that ends at 10 kWh: the interval that begins at 8 is still in it, the one that begins at 12 is not.
@pytest.mark.parametrize(
    ("scope", "per", "prices"),
    [
        ("month", "cycle", "1 1 1 2 2 2"),
        ("month", "daily", "1 1 1 1 1 1"),  # 10 kWh times the cycle's 31 days
        ("period", "cycle", "1 1 1 2 2 2"),
    ],
)
def test_the_tier_is_the_one_that_the_energy_before_has_reached(scope, per, prices):
    tiers = ((Tier(D(1), D(10), per=per), Tier(D(2), per=per)),)
    of = tariff(energy=TariffProfile(Schedule(flat_grid(), flat_grid()), tiers), scope=scope)
    assert [tick.price for tick in ticks([D(4)] * 6, of)] == list(map(D, prices.split()))


def test_tiers_of_a_day_begin_anew_at_local_midnight():
    tiers = ((Tier(D(1), D(20), per="day"), Tier(D(2), per="day")),)
    of = tariff(energy=TariffProfile(Schedule(flat_grid(), flat_grid()), tiers))
    found = ticks([D(1)] * 26, of)
    assert [tick.price for tick in found[19:26]] == [D(1), D(2), D(2), D(2), D(2), D(1), D(1)]


def test_tiers_of_a_cycle_go_on_past_midnight():
    tiers = ((Tier(D(1), D(25)), Tier(D(2))),)
    of = tariff(energy=TariffProfile(Schedule(flat_grid(), flat_grid()), tiers))
    assert [tick.price for tick in ticks([D(1)] * 27, of)][22:] == [D(1), D(1), D(1), D(2), D(2)]


# Two hours of use of the highest demand so far: 3 kW until 2 x 3 = 6 kWh are taken; then 5 kW raise it to 10 kWh.
def test_tiers_by_hours_of_use_end_at_the_peak_so_far():
    tiers = ((Tier(D(1), D(2), "kWh/kW"), Tier(D("0.5"), unit="kWh/kW")),)
    of = tariff(energy=TariffProfile(Schedule(flat_grid(), flat_grid()), tiers))
    prices = [tick.price for tick in ticks(list(map(D, (3, 3, 1, 5, 1))), of)]
    assert prices == [D(1), D(1), D("0.5"), D(1), D("0.5")]


def test_each_period_has_its_own_tiers_where_the_tariff_says_so():
    day = by_hour(lambda hour: int(hour >= 3))
    tiers = ((Tier(D(1), D(10)), Tier(D(2))), (Tier(D(5), D(10)), Tier(D(6))))
    of = tariff(energy=TariffProfile(Schedule(day, day), tiers), scope="period")
    assert [int(tick.price) for tick in ticks([D(6)] * 6, of)] == [1, 1, 2, 5, 5, 6]


def test_an_energy_and_a_distribution_tariff_are_paid_together():
    of = tariff(energy=profile("0.07")), tariff(energy=profile("0.05"), kind="distribution")
    assert [tick.price for tick in ticks([D(1)], *of)] == [D("0.12")]


def test_real_time_prices_hold_for_the_intervals_they_span():
    prices = IntervalPrices(3600, ENDS[:2], (D("0.1"), D("-0.2")))
    of = tariff(energy=None, interval_prices=prices)
    found = ticks([D(1)] * 9, of, interval_s=900)
    assert [tick.price for tick in found] == [D("0.1")] * 4 + [D("-0.2")] * 4 + [D(0)]


def test_a_tariff_counts_from_the_moment_it_is_in_force():
    of = tariff(energy=profile("0.30"), valid_from_utc=ENDS[1])
    assert [tick.price for tick in ticks([D(1)] * 4, of)] == [D(0), D(0), D("0.30"), D("0.30")]


def test_holidays_are_as_weekends():
    weekend = flat_grid(1)
    energy = TariffProfile(Schedule(flat_grid(), weekend), ((Tier(D(3)),), (Tier(D(1)),)))
    of = tariff(energy=energy, holidays=frozenset({date(2026, 1, 1)}))  # a Thursday
    assert [tick.price for tick in ticks([D(1)] * 25, of)][-2:] == [D(1), D(3)]


def test_pulses_become_energy_and_the_count_stays():
    counted = readings(ENDS[:2], ["1200", "37"], unit="count")
    found = realtime.translated(counted, Pulses(D("0.0125")))
    assert (found.block.values, found.channel.unit) == (("15.0000", "0.4625"), "kWh")  # 1200 and 37 of 12.5 Wh each
    assert counted.block.values == ("1200", "37")


# 3 kWh and 4 kvarh in an hour are 5 kVA (3, 4, 5); in a quarter of an hour 20 kVA.
def test_apparent_power_is_that_of_both_energies():
    assert ticks([D(3)], reactive=[D(4)])[0].kva == D("5.000")
    assert ticks([D(3)], reactive=[D(4)], interval_s=900)[0].kva == D("20.000")
    assert ticks([D(3)], interval_s=900)[0].kw == D(12)


def judged(values, bounds, since=0, of_like=None, **of):
    found = realtime.judge(ticks(values, **of), bounds, of_like or {}, ENDS[since] - 3600)
    return [(one.kind, one.bound, ENDS.index(one.end_utc), one.value) for one in found]


def test_an_excess_is_told_where_it_begins():
    column = list(map(D, (1, 5, 6, 4, 6)))
    assert judged(column, Bounds(most_kw=D(5))) == [("excess", "most_kw", 2, D(6)), ("excess", "most_kw", 4, D(6))]
    assert judged([D(1), D(6), D(6)], Bounds(most_kw=D(5))) == [("excess", "most_kw", 1, D(6))]
    assert judged([D(5)], Bounds(most_kw=D(5))) == []  # the bound itself is kept
    assert judged([D(1), D(6), D(6)], Bounds(most_kw=D(5)), since=2) == []  # began before what is asked about


def test_a_shortage_is_below_the_bound():
    assert judged(list(map(D, (2, 1, 0))), Bounds(least_kw=D(1))) == [("shortage", "least_kw", 2, D(0))]


def test_apparent_power_and_money_have_bounds():
    assert judged([D(3)], Bounds(most_kva=D("4.9")), reactive=[D(4)]) == [("excess", "most_kva", 0, D("5.000"))]
    # 0.10 a kWh: 24 kWh a day cost 2.40; beyond 2.00 at the 21st hour (2.10) of each day.
    found = judged([D(1)] * 48, Bounds(most_a_day=D("2.00")))
    assert found == [("excess", "most_a_day", 20, D("2.10")), ("excess", "most_a_day", 44, D("2.10"))]
    assert judged([D(1)] * 48, Bounds(most_a_cycle=D("2.00"))) == [("excess", "most_a_cycle", 20, D("2.10"))]


# Six days of 2 kWh at 03:00, twice 10: the median is 2. Three times as much is still usual, a third of it too.
def test_an_anomaly_is_far_from_what_is_usual():
    column = [D(1)] * 144
    for day, kwh in enumerate((2, 2, 10, 2, 10, 2)):
        column[24 * day + 3] = D(kwh)
    history = readings(ENDS[:144], column)
    period = replace(JANUARY, to_utc=ENDS[143])
    like = realtime.usual(series.of(history, period), period)
    assert like[3, False] == D(2)  # 1 to 6 January 2026: Thursday to Tuesday, two of them at the weekend
    assert (3, True) not in like  # two are too few
    usual = {(hour, False): D(2) for hour in range(24)}
    bounds = Bounds(times_usual=D(3))
    assert judged([D(6), D("6.1"), D(2), D("0.6")], bounds, of_like=usual) == [
        ("anomaly", "times_usual", 1, D("6.1")), ("anomaly", "times_usual", 3, D("0.6")),
    ]  # fmt: skip
    assert judged([D(100)], bounds) == []  # nothing is usual yet


def test_estimates_and_holes_are_not_usual_and_holes_are_no_ticks():
    column, qualities = [D(1)] * 96, [()] * 96
    column[3], qualities[27] = None, (Quality("2.8.0"),)
    history = readings(ENDS[:96], column, qualities=qualities)
    period = replace(JANUARY, to_utc=ENDS[95])
    assert (3, False) not in realtime.usual(series.of(history, period), period)
    assert len(ticks([D(1), None, D(1)])) == 2


def test_the_day_of_25_hours_has_its_own_midnight():
    november = calendar.cycle(2026, 11, CHICAGO)
    ends = calendar.expected_ends(november, 3600)[:26]
    of = {"a": readings(ends, [D(1)] * 26)}
    found = determinants.measured(of, [Metered("a")], replace(november, to_utc=ends[-1]))
    days = [tick.day for tick in realtime.ticks(found, (tariff("America/Chicago"),), november)]
    assert days == [date(2026, 11, 1).toordinal()] * 25 + [date(2026, 11, 2).toordinal()]
    assert ends[24] == int(datetime(2026, 11, 2, 6, tzinfo=UTC).timestamp())  # midnight, UTC-6 again


def test_a_finding_says_its_limit_and_its_unit():
    like = {(0, False): D(2), (1, False): D(0)}
    found = realtime.judge(
        ticks([D("0.5"), D(9)], reactive=[D(0), D(0)]),
        Bounds(most_kw=D(8), most_kva=D(8), least_kw=D(1), most_a_day=D("0.9"), times_usual=D(3)), like, 0,
    )  # fmt: skip
    assert [(one.bound, round(one.limit, 3), one.unit) for one in found] == [
        ("times_usual", D("0.667"), "kWh"), ("least_kw", D(1), "kW"),
        ("most_a_day", D("0.9"), ""), ("most_kva", D(8), "kVA"), ("most_kw", D(8), "kW"),
    ]  # fmt: skip  # 9 kWh where nothing is usually used is no anomaly: there is nothing to hold it against
    (high,) = realtime.judge(ticks([D(7)]), Bounds(times_usual=D(3)), like, 0)
    assert (high.limit, high.value) == (D(6), D(7))


def test_three_like_intervals_make_a_median_and_half_a_kwh_counts():
    column = [D("0.5")] * 24 + [D("0.7")] * 24 + [D("0.6")] * 24  # Thursday, Friday; Saturday is no like day
    column += column  # Sunday, Monday, Tuesday
    history = readings(ENDS[:144], column)
    period = replace(JANUARY, to_utc=ENDS[143])
    like = realtime.usual(series.of(history, period), period)
    assert like[5, False] == D("0.6")  # 0.5, 0.7, 0.7, 0.6: of four the lower one in the middle
    three = realtime.usual(series.of(readings(ENDS[:120], column[:120]), replace(JANUARY, to_utc=ENDS[119])),
                           replace(JANUARY, to_utc=ENDS[119]))  # fmt: skip
    assert three[5, False] == D("0.7")  # 0.5, 0.7, 0.7
    (low,) = realtime.judge(ticks([D("0.19")]), Bounds(times_usual=D(3)), {(0, False): D("0.6")}, 0)
    assert low.limit == D("0.2")
