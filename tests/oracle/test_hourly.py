"""The lines of a bill by the hour: every hour its share, what belongs to no hour apart, and not a cent lost."""

from decimal import Decimal as D
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st
from metered import by_hour, flat_grid, over, profile, readings, tariff

from gridpost.applications import calendar, charges, determinants, hourly
from gridpost.applications.determinants import Metered
from gridpost.tariff import Adjustment, Fixed, IntervalPrices, Reactive, Schedule, TariffProfile, Tier

UTC, BERLIN = ZoneInfo("Etc/UTC"), ZoneInfo("Europe/Berlin")
PERIOD = calendar.cycle(2026, 1, UTC)


def by_the_hour(channel, *tariffs, period=PERIOD):
    found = determinants.measured({"a": channel}, [Metered("a")], period)
    lines = [line for one in tariffs for line in charges.lines(one, determinants.under(found, one))]
    return hourly.of([found], tariffs, lines), charges.total(lines)


def test_energy_lies_in_its_hours_and_a_standing_charge_in_none():
    of = tariff(energy=profile("0.60", "0.80", grid=by_hour(lambda hour: int(6 <= hour < 18))),
                fixed=(Fixed("standing", D("9.30")),), adjustments=(Adjustment("tax", "percent", D(10)),))  # fmt: skip
    found, total = by_the_hour(over(PERIOD, lambda _: D(2), 900), of)
    # Four quarter hours of 2 kWh at 0.80, at 0.60; 31 days of each; 10 % of 31 x 12 x (6.40 + 4.80) + 9.30 = 4175.70.
    assert [found.hours[place].amount for place in (5, 6, 17, 18)] == [D("4.80"), D("6.40"), D("6.40"), D("4.80")]
    assert found.by_clock()[12] == (D(248), D("198.40"))
    assert found.at_no_hour == (("adjustment", D("417.57")), ("fixed", D("9.30")))
    assert found.total == total == D("4593.27")


def test_demand_lies_in_the_hour_that_set_it():
    column = [D(1)] * 744
    column[24 * 9 + 17] = D(8)  # 10 January, 17:00 to 18:00
    of = tariff(energy=None, demand=profile("5.00"))
    found, total = by_the_hour(readings(calendar.expected_ends(PERIOD, 3600), column), of)
    assert total == D("40.00")
    assert [(place, hour.amount) for place, hour in enumerate(found.hours) if hour.amount] == [(233, D("40.00"))]


def test_real_time_prices_are_laid_by_what_each_hour_came_to():
    ends = tuple(calendar.expected_ends(PERIOD, 3600))
    prices = IntervalPrices(3600, ends, tuple(D(place % 24 + 1) for place in range(744)))
    of = tariff(energy=None, interval_prices=prices)
    found, total = by_the_hour(over(PERIOD, lambda hour: D(hour.hour) / 10), of)
    # h / 10 kWh at h + 1 each
    assert [hour.amount for hour in found.hours[:25]] == [*(D(h * (h + 1)) / 10 for h in range(24)), D(0)]
    assert found.total == total == 31 * sum(h * (h + 1) for h in range(24)) / D(10)


def test_what_was_sent_out_and_reactive_energy_lie_where_they_were():
    ends = tuple(calendar.expected_ends(PERIOD, 3600))
    sent, reactive = [D(0)] * 744, [D(0)] * 744
    sent[12], reactive[30] = D(4), D(10)
    of = tariff(energy=TariffProfile(Schedule(flat_grid(), flat_grid()), ((Tier(D("0.10"), sell=D("0.05")),),)),
                metering="net-billing", reactive=Reactive(D("0.02")))  # fmt: skip
    of_channel = {"a": readings(ends, [D(1)] * 744), "out": readings(ends, sent),
                  "q": readings(ends, reactive, unit="kvarh")}  # fmt: skip
    channels = [Metered("a"), Metered("out", "export"), Metered("q", "reactive")]
    case = determinants.measured(of_channel, channels, PERIOD)
    lines = charges.lines(of, determinants.under(case, of))
    found = hourly.of([case], (of,), lines)
    # 4 kWh at 0.05 credited at noon of the 1st, 10 kvarh at 0.02 at 06:00 of the 2nd; 0.10 in every hour.
    assert [(place, one.amount) for place, one in enumerate(found.hours) if one.amount != D("0.10")] == [
        (12, D("-0.10")), (30, D("0.30")),
    ]  # fmt: skip
    assert (found.at_no_hour, found.total) == ((), charges.total(lines))


def test_the_hour_that_comes_twice_is_one_of_two_hours():
    october = calendar.cycle(2026, 10, BERLIN)  # the clock is set back on the 25th
    found, total = by_the_hour(over(october, lambda _: D(1)), tariff("Europe/Berlin"), period=october)
    assert len(found.hours) == 744
    assert found.hours[24 * 24 + 2].kwh == D(2)
    assert found.by_clock()[2] == (D(32), D("3.20"))
    assert found.total == total == D("74.50")


def test_several_periods_keep_their_lines():
    months = [calendar.cycle(2026, month, UTC) for month in (1, 2)]
    of, channel = tariff(fixed=(Fixed("standing", D(1)),)), over(calendar.Period(months[0].from_utc, months[1].to_utc,
                                                                                 UTC), lambda _: D(1))  # fmt: skip
    cases = [determinants.measured({"a": channel}, [Metered("a")], month) for month in months]
    lines = [line for case in cases for line in charges.lines(of, determinants.under(case, of))]
    found = hourly.of(cases, (of,), lines)
    assert len(found.hours) == 59 * 24
    assert sum(hour.amount for hour in found.hours[:744]) == D("74.40")
    assert found.total == charges.total(lines) == D("143.60")  # 59 days x 24 x 0.10 + 2


@settings(max_examples=25)
@given(st.lists(st.integers(0, 9999), min_size=744, max_size=744), st.integers(1, 3000))
def test_nothing_is_lost_whatever_was_used(column, limit):
    night = by_hour(lambda hour: int(hour < 6))
    tiers = ((Tier(D("0.137"), D(limit)), Tier(D("0.291"))), (Tier(D("0.053"), D(limit)), Tier(D("0.119"))))
    of = tariff(energy=TariffProfile(Schedule(night, flat_grid()), tiers), demand=profile("3.3"))
    ends = calendar.expected_ends(PERIOD, 3600)
    found, total = by_the_hour(readings(ends, [D(one).scaleb(-3) for one in column]), of)
    assert found.total == total
