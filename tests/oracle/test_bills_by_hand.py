"""Bills worked out by hand, each in its comment: what no other calculator here can be asked."""

from dataclasses import replace
from datetime import date
from decimal import Decimal as D
from zoneinfo import ZoneInfo

import pytest
from metered import by_hour, flat_grid, over, profile, readings, tariff

from gridpost.applications import calendar, charges, determinants
from gridpost.applications.charges import History, PastPeak
from gridpost.applications.determinants import Metered
from gridpost.errors import BillRefused
from gridpost.model import Quality
from gridpost.tariff import (
    Adjustment,
    Fixed,
    FlatDemand,
    IntervalPrices,
    Minimum,
    Ratchet,
    Reactive,
    Rounding,
    Schedule,
    TariffProfile,
    Tier,
)

PARIS, UTC = ZoneInfo("Europe/Paris"), ZoneInfo("Etc/UTC")
JANUARY = calendar.cycle(2026, 1, UTC)  # begins on a Thursday, 744 hours
NIGHT = by_hour(lambda hour: int(6 <= hour < 22))  # period 0 from 22:00 to 06:00


def billed(of, period, channels, history=charges.NO_HISTORY):
    """Lines by kind, each as (period, tier, quantity, amount)."""
    named = {name: one if isinstance(one, tuple) else (one, name) for name, one in channels.items()}
    metered = [Metered(name, measure) for name, (_, measure) in named.items()]
    found = determinants.of({name: one for name, (one, _) in named.items()}, metered, of, period)
    return charges.lines(of, found, history)


def amounts(lines):
    return [(line.kind, line.amount) for line in lines]


def one_kwh(period, interval_s=3600, value=1):
    return {"energy": over(period, lambda hour: value, interval_s)}


# 1 kWh in each hour. On 29 March 2026 Paris has no 02:00: night is 00 01 03 04 05 22 23, 7 hours x 0.10, and day 16
# hours x 0.20: 0.70 + 3.20. On 25 October 02:00 comes twice: 9 hours of night: 0.90 + 3.20. On 28 March: 8 hours,
# 0.80 + 3.20.
@pytest.mark.parametrize(
    ("day", "night", "total"),
    [(date(2026, 3, 28), 8, "4.00"), (date(2026, 3, 29), 7, "3.90"), (date(2026, 10, 25), 9, "4.10")],
)
def test_days_of_23_and_25_hours(day, night, total):
    two = tariff("Europe/Paris", energy=profile("0.10", "0.20", grid=NIGHT))
    period = calendar.day_period(day, PARIS)
    lines = billed(two, period, one_kwh(period))
    assert [line.quantity for line in lines] == [night, 16]
    assert charges.total(lines) == D(total)
    quarters = {"energy": over(period, lambda hour: "0.25", 900)}
    assert charges.total(billed(two, period, quarters)) == D(total)


# 25 December 2026 is a Friday. 24 kWh at the weekday's 0.20 are 4.80; billed as a weekend at 0.05, 1.20; with a holiday
# calendar of its own at 0.01, 0.24. The day after is a Saturday: 1.20 whatever the holidays.
@pytest.mark.parametrize(
    ("holidays", "holiday", "friday"),
    [((), None, "4.80"), ((date(2026, 12, 25),), None, "1.20"), ((date(2026, 12, 25),), flat_grid(2), "0.24")],
)
def test_holidays(holidays, holiday, friday):
    kinds = profile("0.20", "0.05", "0.01", grid=flat_grid(0), weekend=flat_grid(1), holiday=holiday)
    christmas = tariff(energy=kinds, holidays=frozenset(holidays))
    for day, total in ((date(2026, 12, 25), friday), (date(2026, 12, 26), "1.20")):
        period = calendar.day_period(day, UTC)
        assert charges.total(billed(christmas, period, one_kwh(period))) == D(total)


# 17 January to 17 February: 15 days of January x 24 kWh x 0.10 = 36.00, 16 of February x 24 x 0.30 = 115.20. Standing:
# 31 days x 0.50 = 15.50, one cycle x 10.00, a twelfth of 120.00 a year. Demand by the month it begins in: 1 kW x 4.00.
def test_a_cycle_from_the_17th():
    period = calendar.cycle(2026, 1, UTC, 17)
    months = tuple((0,) * 24 if month == 0 else (1,) * 24 for month in range(12))
    seasonal = tariff(
        energy=profile("0.10", "0.30", grid=months),
        flat=FlatDemand((0, *(1,) * 11), ((Tier(D(4), unit="kW"),), (Tier(D(9), unit="kW"),))),
        fixed=(Fixed("a", D("0.50"), "day"), Fixed("b", D(10), "month"), Fixed("c", D(120), "year")),
    )
    assert amounts(billed(seasonal, period, one_kwh(period))) == [
        ("energy", D("36.00")), ("energy", D("115.20")), ("flat-demand", D("4.00")),
        ("fixed", D("15.50")), ("fixed", D("10.00")), ("fixed", D("10.00")),
    ]  # fmt: skip


# January, 1 kWh an hour: night 8 h x 31 = 248 kWh, day 496. Tiers end at 300 kWh.
# Each period its own: night 248 x 0.10 = 24.80; day 300 x 0.20 + 196 x 0.40 = 60.00 + 78.40: 163.20.
# The month's 744 shared out: 300 in the first tier, a third of them (100) night, 200 day; 444 above: 148 and 296.
# 100 x 0.10 + 148 x 0.30 + 200 x 0.20 + 296 x 0.40 = 10.00 + 44.40 + 40.00 + 118.40: 212.80.
@pytest.mark.parametrize(
    ("scope", "expected", "total"),
    [
        ("period", [(0, 0, 248), (1, 0, 300), (1, 1, 196)], "163.20"),
        ("month", [(0, 0, 100), (0, 1, 148), (1, 0, 200), (1, 1, 296)], "212.80"),
    ],
)
def test_tiers_of_each_period_and_of_the_month(scope, expected, total):
    tiers = ((Tier(D("0.10"), D(300)), Tier(D("0.30"))), (Tier(D("0.20"), D(300)), Tier(D("0.40"))))
    of = tariff(energy=TariffProfile(Schedule(NIGHT, NIGHT), tiers), scope=scope)
    lines = billed(of, JANUARY, one_kwh(JANUARY))
    assert [(line.period, line.tier, line.quantity) for line in lines] == expected
    assert charges.total(lines) == D(total)


# Two days: 10 kWh on the first hour of the 1st, 2 kWh on the first of the 2nd. 5 kWh a day are cheap.
# Anew each day: 5 + 2 cheap, 5 dear: 7 x 0.10 + 5 x 0.50 = 3.20. Times the days (10 for both): 10 cheap, 2 dear: 2.00.
@pytest.mark.parametrize(("per", "total"), [("day", "3.20"), ("daily", "2.00"), ("cycle", "4.00")])
def test_tiers_by_day(per, total):
    # "cycle": 5 kWh for both days: 5 x 0.10 + 7 x 0.50 = 4.00.
    period = calendar.Period(JANUARY.from_utc, JANUARY.from_utc + 2 * 86_400, UTC)
    values = [10] + [0] * 23 + [2] + [0] * 23
    used = {"energy": readings(calendar.expected_ends(period, 3600), values)}
    tiers = ((Tier(D("0.10"), D(5), per=per), Tier(D("0.50"), per=per)),)
    of = tariff(energy=TariffProfile(Schedule(flat_grid(), flat_grid()), tiers))
    assert charges.total(billed(of, period, used)) == D(total)


# 28 days in 2026, 29 in 2028: 672 and 696 kWh x 0.10, and 1.00 a day.
@pytest.mark.parametrize(("year", "total"), [(2026, "95.20"), (2028, "98.60")])
def test_february_of_a_leap_year(year, total):
    period = calendar.cycle(year, 2, UTC)
    of = tariff(fixed=(Fixed("a", D(1), "day"),))
    assert charges.total(billed(of, period, one_kwh(period))) == D(total)


# This month's peak is 1 kW at 10.00. Of the earlier ones, 80 % of the highest within 3 cycles: 20 kW last but one ->
# 16 kW. The 90 kW of 4 cycles ago are too long ago; the 40 kW of a June do not count where only winter months do.
@pytest.mark.parametrize(
    ("peaks", "of_months", "kw"),
    [
        ([(2, 11, 20), (4, 9, 90)], (True,) * 12, "16.0"),
        ([(1, 6, 40), (2, 11, 20)], (True, *(False,) * 9, True, True), "16.0"),
        ([(1, 12, "1.2")], (True,) * 12, "1"),
        ([], (True,) * 12, "1"),
    ],
)
def test_ratchet(peaks, of_months, kw):
    ratchet = Ratchet((D("0.8"),) * 12, 3, of_months)
    of = tariff(energy=None, flat=FlatDemand((0,) * 12, ((Tier(D(10), unit="kW"),),)), ratchet=ratchet)
    history = History(tuple(PastPeak(ago, month, D(str(value))) for ago, month, value in peaks))
    (line,) = billed(of, JANUARY, one_kwh(JANUARY), history)
    assert (line.quantity, line.amount) == (D(kw), D(kw) * 10)


# 744 kWh x 0.10 = 74.40. A minimum of 100.00 a month adds 25.60; of 50.00 nothing; of 4.00 a day (31 days) 49.60. A
# year's minimum of 1,000.00 with 900.00 billed before: the last bill adds 25.60, any other nothing.
@pytest.mark.parametrize(
    ("minimum", "history", "added"),
    [
        (Minimum(D(100)), {}, "25.60"),
        (Minimum(D(50)), {}, None),
        (Minimum(D(4), "day"), {}, "49.60"),
        (Minimum(D(1000), "year"), {"billed": D(900), "closes_year": True}, "25.60"),
        (Minimum(D(1000), "year"), {"billed": D(900)}, None),
    ],
)
def test_minimum_bills(minimum, history, added):
    lines = billed(tariff(minimum=(minimum,)), JANUARY, one_kwh(JANUARY), History(**history))
    assert [str(line.amount) for line in lines if line.kind == "minimum"] == ([added] if added else [])


# kWh of eight quarters: 1 1 5 9 9 1 1 1. Quarter by quarter the peak is 9 kWh x 4 = 36 kW, set at 01:00. In half
# hours side by side: 2 14 10 2 -> 14 x 2 = 28 kW, set at 01:00. Rolling half hours: 9 + 9 = 18 x 2 = 36 kW, set at
# 01:15.
@pytest.mark.parametrize(
    ("window_s", "rolling", "kw", "at_s"), [(0, False, 36, 3600), (1800, False, 28, 3600), (1800, True, 36, 4500)]
)
def test_demand_windows(window_s, rolling, kw, at_s):
    period = calendar.Period(JANUARY.from_utc, JANUARY.from_utc + 7200, UTC)
    used = {"energy": readings(calendar.expected_ends(period, 900), [1, 1, 5, 9, 9, 1, 1, 1])}
    of = tariff(energy=None, demand=profile("1.00"), window_s=window_s, rolling=rolling)
    found = determinants.of(used, [Metered("energy")], of, period)
    assert found.flat == found.demand[0] == determinants.Peak(D(kw), period.from_utc + at_s)
    (line,) = charges.lines(of, found)
    assert (line.amount, line.spans) == (D(kw), ((period.from_utc + at_s - 1, period.from_utc + at_s),))


# Two hours in quarters: taken 3 3 0 0 | 0 0 1 1, sent out 0 0 2 1 | 0 4 0 0: 8 taken, 7 sent. Bought at 0.20, sold at
# 0.05. Billing: 1.60 - 0.35. Set off over the period: 1 x 0.20. Hour by hour: +3 and -2: 0.60 - 0.10.
@pytest.mark.parametrize(
    ("metering", "total"),
    [("net-billing", "1.25"), ("buy-all-sell-all", "1.25"), ("net-metering", "0.20"), ("net-billing-hourly", "0.50")],
)
def test_energy_sent_out(metering, total):
    period = calendar.Period(JANUARY.from_utc, JANUARY.from_utc + 7200, UTC)
    ends = calendar.expected_ends(period, 900)
    used = {"energy": readings(ends, [3, 3, 0, 0, 0, 0, 1, 1]), "export": readings(ends, [0, 0, 2, 1, 0, 4, 0, 0])}
    tiers = ((Tier(D("0.20"), sell=D("0.05")),),)
    of = tariff(energy=TariffProfile(Schedule(flat_grid(), flat_grid()), tiers), metering=metering)
    assert charges.total(billed(of, period, used)) == D(total)


# 744 kWh and 744 kvarh (1 an hour): beyond half of the active energy 372 kvarh x 0.02 = 7.44. Power factor 1/sqrt(2) =
# 0.7071 of a wanted 0.9: the 1 kW counts as 0.9 / 0.7071 = 1.2728 kW, x 10.00. Reactive peak: 1 kvar - 0 x 3.00.
def test_reactive_energy_and_power_factor():
    used = one_kwh(JANUARY) | {"reactive": over(JANUARY, lambda hour: 1)}
    of = tariff(energy=None, reactive=Reactive(D("0.02"), "kvarh", D("0.5")))
    assert amounts(billed(of, JANUARY, used)) == [("reactive", D("7.44"))]
    of = tariff(energy=None, demand=profile("10.00"), power_factor=D("0.9"), rounding=Rounding(3))
    assert amounts(billed(of, JANUARY, used)) == [("demand", D("12.728"))]
    assert amounts(billed(of, JANUARY, one_kwh(JANUARY))) == [("demand", D("10.000"))]
    of = tariff(energy=None, reactive=Reactive(D(3), "kvar"))
    assert amounts(billed(of, JANUARY, used)) == [("reactive", D("3.00"))]


# Two hours at 0.10 and -0.04 an hour, 4 kWh in each quarter of the first and 1 in the second: 16 x 0.10 - 4 x 0.04 =
# 1.44.
def test_real_time_prices():
    period = calendar.Period(JANUARY.from_utc, JANUARY.from_utc + 7200, UTC)
    ends = calendar.expected_ends(period, 900)
    prices = IntervalPrices(3600, (ends[3], ends[7]), (D("0.10"), D("-0.04")))
    of = tariff(energy=None, interval_prices=prices)
    (line,) = billed(of, period, {"energy": readings(ends, [4] * 4 + [1] * 4)})
    assert (line.kind, line.quantity, line.amount) == ("real-time", 20, D("1.44"))
    late = replace(of, interval_prices=IntervalPrices(3600, (ends[3],), (D("0.10"),)))
    with pytest.raises(BillRefused) as caught:
        billed(late, period, {"energy": readings(ends, [1] * 8)})
    assert [item.path for item in caught.value.items] == ["2026-01-01T02:00:00Z"]


# 74.40 of energy, a rider of 0.01 a kWh: 7.44; 10 % of 81.84: 8.184, rounded half up to 8.18.
def test_riders_and_taxes():
    of = tariff(adjustments=(Adjustment("rider", "kWh", D("0.01")), Adjustment("tax", "percent", D(10))))
    lines = billed(of, JANUARY, one_kwh(JANUARY))
    assert [line.amount for line in lines] == [D("74.40"), D("7.44"), D("8.18")]


# 0.125: up to 0.13; to the even neighbour 0.12.
@pytest.mark.parametrize(("mode", "amount"), [("half-up", "0.13"), ("half-even", "0.12")])
def test_rounding(mode, amount):
    period = calendar.Period(JANUARY.from_utc, JANUARY.from_utc + 3600, UTC)
    used = {"energy": readings(calendar.expected_ends(period, 3600), ["1.25"], interval_s=3600)}
    assert charges.total(billed(tariff(rounding=Rounding(2, mode)), period, used)) == D(amount)


# Two channels of 1.5 and 2.25 kWh, a sub-meter of 500 Wh taken off: 3.25 kWh.
def test_channels_are_summed_and_taken_off_in_their_units():
    period = calendar.Period(JANUARY.from_utc, JANUARY.from_utc + 3600, UTC)
    ends = calendar.expected_ends(period, 3600)
    channels = {"a": readings(ends, ["1.5"], interval_s=3600), "b": readings(ends, ["2.25"], interval_s=3600),
                "c": readings(ends, ["500"], interval_s=3600, unit="Wh")}  # fmt: skip
    found = determinants.of(channels, [Metered("a"), Metered("b"), Metered("c", sign=-1)], tariff(), period)
    assert found.total == D("3.25")


def test_holes_and_estimates_are_listed_and_a_power_channel_is_refused():
    period = calendar.Period(JANUARY.from_utc, JANUARY.from_utc + 4 * 3600, UTC)
    ends = calendar.expected_ends(period, 3600)
    marked = [(), (), (Quality("2.8.0"),), ()]
    used = {"energy": readings(ends, [1, None, 3, "0.5"], qualities=marked)}
    found = determinants.of(used, [Metered("energy")], tariff(), period)
    assert (found.missing, found.estimated) == ((("energy", ends[1]),), (("energy", ends[2]),))
    assert found.total == D("4.5")
    with pytest.raises(BillRefused, match="no energy"):
        determinants.of({"energy": readings(ends, [1] * 4, unit="kW")}, [Metered("energy")], tariff(), period)
    with pytest.raises(BillRefused, match="are those of Europe/Paris"):
        determinants.of(used, [Metered("energy")], tariff("Europe/Paris"), period)


# Half a cycle (1 to 15 January, 360 kWh, share 0.5): of 300 kWh a cycle 150: 150 x 0.10 + 210 x 0.30 = 78.00; half
# of 10.00 a month. Of 5 kWh a day, 75: 7.50 + 285 x 0.30 = 93.00.
@pytest.mark.parametrize(("limit", "per", "total"), [(300, "cycle", "83.00"), (5, "daily", "98.00")])
def test_a_part_of_a_cycle(limit, per, total):
    period = calendar.Period(JANUARY.from_utc, JANUARY.from_utc + 15 * 86_400, UTC, D("0.5"))
    tiers = ((Tier(D("0.10"), D(limit), per=per), Tier(D("0.30"), per=per)),)
    of = tariff(energy=TariffProfile(Schedule(flat_grid(), flat_grid()), tiers), fixed=(Fixed("a", D(10)),))
    assert charges.total(billed(of, period, one_kwh(period))) == D(total)


# Where there is no flat demand the ratchet holds for each period's: 80 % of 20 kW, twice.
def test_a_ratchet_of_demand_by_time_of_use():
    of = tariff(energy=None, demand=profile("1.00", "2.00", grid=NIGHT), ratchet=Ratchet((D("0.8"),) * 12))
    lines = billed(of, JANUARY, one_kwh(JANUARY), History((PastPeak(1, 12, D(20)),)))
    assert [(line.period, line.amount) for line in lines] == [(0, D("16.00")), (1, D("32.00"))]


# Ten-millionths of a kWh on a Friday, shared out: a period not in force (the weekend's) gets none of the rest.
def test_nothing_is_shared_out_to_a_period_without_energy():
    period = calendar.day_period(date(2026, 1, 2), UTC)
    tiers = ((Tier(D("0.10"), D("1.0000003")), Tier(D("0.20"))),) * 3
    of = tariff(energy=TariffProfile(Schedule(NIGHT, flat_grid(2)), tiers))
    lines = billed(of, period, one_kwh(period, value="0.1234567"))
    assert {line.period for line in lines} == {0, 1}
    assert sum(line.quantity for line in lines) == 24 * D("0.1234567")
    assert sum(line.quantity for line in lines if line.tier == 0) == D("1.0000003")
