"""The local calendar: days of 23, 24 and 25 hours, cycles, hours, against what zones are published to do."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridpost.applications import calendar

PARIS, CHICAGO, BRISBANE = ZoneInfo("Europe/Paris"), ZoneInfo("America/Chicago"), ZoneInfo("Australia/Brisbane")


def _utc(*parts):
    return int(datetime(*parts, tzinfo=UTC).timestamp())


# The EU changes at 01:00 UTC on the last Sundays of March and October, the USA at 02:00 local on the second Sunday of
# March and the first of November, Queensland never; Lord Howe moves by half an hour; Beirut has no midnight in spring.
@pytest.mark.parametrize(
    ("zone", "day", "quarters", "halves", "hours"),
    [
        ("Europe/Paris", date(2026, 3, 28), 96, 48, 24),
        ("Europe/Paris", date(2026, 3, 29), 92, 46, 23),
        ("Europe/Paris", date(2026, 10, 25), 100, 50, 25),
        ("America/Chicago", date(2026, 3, 8), 92, 46, 23),
        ("America/Chicago", date(2026, 11, 1), 100, 50, 25),
        ("Australia/Brisbane", date(2026, 10, 4), 96, 48, 24),
        ("Australia/Lord_Howe", date(2026, 10, 4), 94, 47, 23),
        ("Asia/Beirut", date(2026, 3, 29), 92, 46, 23),
    ],
)
def test_a_local_day_has_its_intervals(zone, day, quarters, halves, hours):
    period = calendar.day_period(day, ZoneInfo(zone))
    found = [len(calendar.expected_ends(period, interval_s)) for interval_s in (900, 1800, 3600)]
    assert found == [quarters, halves, hours]


def test_days_touch_and_their_intervals_are_each_once():
    zone = PARIS
    days = [calendar.day_period(date(2026, 3, 1) + timedelta(days=n), zone) for n in range(31)]
    whole = calendar.cycle(2026, 3, zone)
    assert (days[0].from_utc, days[-1].to_utc) == (whole.from_utc, whole.to_utc)
    joined = [end for day in days for end in calendar.expected_ends(day, 900)]
    assert joined == list(calendar.expected_ends(whole, 900))
    assert len(joined) == 31 * 96 - 4
    assert whole.days == 31


def test_an_interval_belongs_to_the_hour_it_starts_in():
    # Paris in summer is UTC+2: 06:00 local is 04:00 UTC. The quarter that ends at 06:00 is still hour 5.
    ends = [_utc(2026, 7, 1, 4, 0), _utc(2026, 7, 1, 4, 15)]
    assert [calendar.hour_of(end, 900, PARIS).hour for end in ends] == [5, 6]
    # The last quarter of a day ends at midnight and belongs to that day: Tuesday 30 June.
    last = calendar.hour_of(_utc(2026, 6, 30, 22, 0), 900, PARIS)
    assert (last.hour, last.weekday, last.month, last.day) == (23, 1, 6, date(2026, 6, 30).toordinal())


def test_the_hour_that_comes_twice_and_the_one_that_does_not():
    autumn = calendar.hours(calendar.day_period(date(2026, 10, 25), PARIS), 900)
    assert [(hour.hour, hour.beyond - hour.first) for hour in autumn][1:4] == [(1, 4), (2, 8), (3, 4)]
    spring = calendar.hours(calendar.day_period(date(2026, 3, 29), PARIS), 900)
    assert [hour.hour for hour in spring][:4] == [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("month", "day", "begins", "ends", "days"),
    [
        (1, 17, date(2026, 1, 17), date(2026, 2, 17), 31),
        (12, 17, date(2026, 12, 17), date(2027, 1, 17), 31),
        (2, 1, date(2026, 2, 1), date(2026, 3, 1), 28),
        (1, 31, date(2026, 1, 31), date(2026, 2, 28), 28),
        (2, 31, date(2026, 2, 28), date(2026, 3, 31), 31),
    ],
)
def test_a_cycle_begins_on_its_day(month, day, begins, ends, days):
    period = calendar.cycle(2026, month, CHICAGO, day)
    assert (period.from_utc, period.to_utc) == (calendar.midnight(begins, CHICAGO), calendar.midnight(ends, CHICAGO))
    assert (period.days, period.month) == (days, month)


def test_february_of_a_leap_year_has_29_days():
    assert calendar.cycle(2028, 2, BRISBANE).days == 29
    assert len(calendar.expected_ends(calendar.cycle(2028, 2, BRISBANE), 1800)) == 29 * 48


def test_the_grid_follows_a_zone_that_changes_its_standard_time():
    # Caracas went from UTC-4 to UTC-4:30 at 03:00 on 9 December 2007: hours end at :30 UTC from then on.
    zone = ZoneInfo("America/Caracas")
    ends = calendar.expected_ends(calendar.day_period(date(2007, 12, 9), zone), 3600)
    assert {end % 3600 for end in ends} == {0, 1800}
    assert list(ends) == sorted(set(ends))


def test_an_interval_that_does_not_divide_a_day_is_refused():
    period = calendar.cycle(2026, 1, BRISBANE)
    for wrong in (0, -900, 700):
        with pytest.raises(ValueError, match="does not divide a day"):
            calendar.expected_ends(period, wrong)


@given(st.integers(0, 2_000_000), st.integers(1, 400_000), st.sampled_from([300, 900, 1800, 3600]))
def test_hours_hold_every_expected_interval_once(start, length, interval_s):
    period = calendar.Period(start * 60, start * 60 + length, timezone(timedelta(hours=5, minutes=45)))
    found = calendar.hours(period, interval_s)
    assert [index for hour in found for index in range(hour.first, hour.beyond)] == list(
        range(len(calendar.expected_ends(period, interval_s)))
    )


@pytest.mark.parametrize(
    ("end", "day", "begins"),
    [
        (_utc(2026, 3, 17, 5), 17, _utc(2026, 2, 17, 6)),  # ends with the cycle: midnight of the 17th, UTC-5 by then
        (_utc(2026, 3, 17, 5, 15), 17, _utc(2026, 3, 17, 5)),
        (_utc(2026, 1, 10), 17, _utc(2025, 12, 17, 6)),
        (_utc(2026, 3, 1, 6), 31, _utc(2026, 2, 28, 6)),  # February's last day is its 31st
        (_utc(2026, 1, 1, 6), 1, _utc(2025, 12, 1, 6)),
    ],
)
def test_an_interval_lies_in_one_billing_cycle(end, day, begins):
    found = calendar.cycle_at(end, CHICAGO, day)
    assert found.from_utc == begins
    assert found.from_utc < end <= found.to_utc


def test_a_stretch_is_cut_where_cycles_begin():
    parts = calendar.cycles(_utc(2026, 1, 10), _utc(2026, 3, 31), UTC, 17)
    assert [(part.from_utc, part.to_utc) for part in parts] == [
        (_utc(2026, 1, 10), _utc(2026, 1, 17)), (_utc(2026, 1, 17), _utc(2026, 2, 17)),
        (_utc(2026, 2, 17), _utc(2026, 3, 17)), (_utc(2026, 3, 17), _utc(2026, 3, 31)),
    ]  # fmt: skip
    # 7 of 31 days, whole, whole, 14 of 31
    assert [str(part.share)[:8] for part in parts] == ["0.225806", "1", "1", "0.451612"]
