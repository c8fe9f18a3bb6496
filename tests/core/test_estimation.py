"""Estimates, each worked out by hand, and what they must keep whatever the readings are."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from current import EDITED, ESTIMATED, current
from hypothesis import given
from hypothesis import strategies as st

from gridpost import testing
from gridpost.applications import estimation
from gridpost.applications.calendar import Period, day_period, expected_ends
from gridpost.applications.rules import Rules
from gridpost.model import Position, Quality, is_edited, is_estimated

UTC_ZONE, PARIS = ZoneInfo("Etc/UTC"), ZoneInfo("Europe/Paris")
CHANNEL = testing.channel()
Q, DAY = 900, 86_400
# 2026-03-04 is a Wednesday; the days before it: Tue 3, Mon 2, Sun 1, Sat Feb 28, Fri 27, Thu 26.
WEDNESDAY = int(datetime(2026, 3, 4, tzinfo=UTC).timestamp())


def whole_day(number, value, zone=UTC_ZONE):
    """Each interval of a local day so many days from the Wednesday."""
    period = day_period(date.fromordinal(date(2026, 3, 4).toordinal() + number), zone)
    return dict.fromkeys(expected_ends(period, Q), value)


def estimated(values, holes, rules=None, **more):
    """Estimates of the Wednesday without some of its intervals: {quarter hour: value}, and all."""
    again = more.pop("again", False)
    kept = {end: value for end, value in values.items() if end not in holes}
    found = estimation.estimate(
        current(CHANNEL, kept, **more), Period(WEDNESDAY, WEDNESDAY + DAY, UTC_ZONE), rules or Rules(), again=again
    )
    return {(one.end_utc - WEDNESDAY) // Q: one.value for one in found.estimates}, found


def at(*numbers):
    return [WEDNESDAY + number * Q for number in numbers]


def test_a_straight_line_over_a_short_gap():
    """From 1 to 2 in four steps: 1.25, 1.5, 1.75; behind each the entries of the two neighbours."""
    values = whole_day(0, "1.000") | dict.fromkeys(at(*range(44, 97)), "2.000")
    shown, found = estimated(values, at(41, 42, 43))
    assert shown == {41: "1.250", 42: "1.500", 43: "1.750"}
    assert {one.method for one in found.estimates} == {"straight-line"}
    assert found.estimates[0].inputs == (Position(0, at(40)[0] // Q), Position(0, at(44)[0] // Q))
    assert found.left == ()


def test_a_third_has_no_end_and_is_rounded_to_the_places_of_the_channel():
    values = whole_day(0, "1.00") | dict.fromkeys(at(*range(43, 97)), "2.00")
    assert estimated(values, at(41, 42))[0] == {41: "1.33", 42: "1.67"}


@pytest.mark.parametrize(("quarters", "method"), [(8, "straight-line"), (9, "like-days")])
def test_up_to_two_hours_it_is_a_line(quarters, method):
    values = whole_day(-1, "1.000") | whole_day(0, "1.000")
    _, found = estimated(values, at(*range(30, 30 + quarters)))
    assert [one.method for one in found.estimates] == [method] * quarters


def test_beyond_it_is_the_mean_of_the_last_four_days_of_the_same_kind():
    """Tue 1, Mon 2, Fri 3, Thu 6 make 3; the weekend's 100 and the Wednesday before's 50 do not count."""
    values = {}
    for number, value in ((-1, "1"), (-2, "2"), (-3, "100"), (-4, "100"), (-5, "3"), (-6, "6"), (-7, "50"), (0, "9")):
        values |= whole_day(number, value)
    holes = at(*range(1, 97))
    shown, found = estimated(values, holes)
    assert set(shown.values()) == {"3"}
    assert len(found.estimates) == 96
    expected = [Position(0, (holes[0] - back * DAY) // Q) for back in (6, 5, 2, 1)]
    assert found.estimates[0].inputs == tuple(expected)
    # With the Monday a holiday it is Tue 1, Fri 3, Thu 6, Wed 50: 60 / 4.
    assert set(estimated(values, holes, Rules(holidays="2026-03-02"))[0].values()) == {"15"}
    # On a holiday itself it is the weekend's days, of which there are two.
    assert set(estimated(values, holes, Rules(holidays="2026-03-04"))[0].values()) == {"100"}
    assert set(estimated(values, holes, Rules(like_days=2))[0].values()) == {"2"}  # 1.5, half to even
    assert set(estimated(values, holes, Rules(look_back_days=1))[0].values()) == {"1"}


@pytest.mark.parametrize("beside", [40, 42])
def test_estimates_are_never_what_an_estimate_rests_on(beside):
    """Tuesday is estimated, so Monday alone counts; a neighbour that is an estimate makes no line."""
    values = whole_day(-2, "2") | whole_day(-1, "7") | whole_day(0, "9")
    marked = dict.fromkeys(whole_day(-1, ""), ESTIMATED) | dict.fromkeys(at(beside), ESTIMATED)
    shown, found = estimated(values, at(41), qualities=marked)
    assert (shown, found.estimates[0].method) == ({41: "2"}, "like-days")


def test_without_anything_to_go_by_the_hole_stays():
    shown, found = estimated(dict.fromkeys(at(*range(1, 80)), "1"), at(*range(1, 97)))
    assert shown == {}
    assert [end for end, _ in found.left] == at(*range(1, 97))


def test_the_register_says_what_the_estimates_add_up_to():
    """The register counted 100 over the day; 86 values of 1 leave 14 for the ten holes: 1.4 each."""
    values = whole_day(-1, "2") | whole_day(0, "1")
    shown, found = estimated(values, at(*range(1, 11)), stands={WEDNESDAY: "500.0", WEDNESDAY + DAY: "600.0"})
    assert set(shown.values()) == {"1.4"}
    assert {one.stands for one in found.estimates} == {(WEDNESDAY, WEDNESDAY + DAY)}


def test_what_does_not_divide_goes_to_the_next_interval():
    """100.0 less 86 values of 1 leaves 14.0 for nine holes and 1 for the tenth that is there: 13.0 / 9 = 1.4444...

    Running sums 1.44.. 2.88.. 4.33.. 5.77.. 7.22.. 8.66.. 10.11.. 11.55.. 13.0 are cut at the first place:
    1.4 2.9 4.3 5.8 7.2 8.7 10.1 11.6 13.0.
    """
    values = whole_day(-1, "2") | whole_day(0, "1")
    shown, _ = estimated(values, at(*range(1, 10)), stands={WEDNESDAY: "500.0", WEDNESDAY + DAY: "600.0"})
    assert list(shown.values()) == ["1.4", "1.5", "1.4", "1.5", "1.4", "1.5", "1.4", "1.5", "1.4"]


def test_like_days_without_consumption_share_what_the_register_counted():
    values = whole_day(-1, "0.0") | whole_day(0, "1.0")
    shown, _ = estimated(values, at(*range(1, 11)), stands={WEDNESDAY: "500.0", WEDNESDAY + DAY: "600.0"})
    assert set(shown.values()) == {"1.4"}


def test_over_a_rollover_too():
    values = whole_day(-1, "2") | whole_day(0, "1")
    stands = {WEDNESDAY: "99950.0", WEDNESDAY + DAY: "50.0"}
    assert set(estimated(values, at(*range(1, 11)), stands=stands)[0].values()) == {"1.4"}


@pytest.mark.parametrize(
    "stands",
    [
        {WEDNESDAY: "500.0", WEDNESDAY + DAY: "580.0"},  # 86 values of 1 are more than it counted
        {WEDNESDAY: "500.0", WEDNESDAY + DAY: "400.0"},  # it went back
        {WEDNESDAY: "500.0"},
        {WEDNESDAY + 5 * Q: "500.0", WEDNESDAY + DAY: "600.0"},  # holes before it: those behind are scaled
    ],
)
def test_not_scaled_where_the_register_cannot_say(stands):
    values = whole_day(-1, "2") | whole_day(0, "1")
    shown, found = estimated(values, at(*range(1, 11)), stands=stands)
    assert shown[1] == "2"
    assert found.estimates[0].stands is None


def test_a_hole_that_stays_keeps_the_others_from_being_scaled():
    """A Tuesday that began at its second quarter hour has no like value for the Wednesday's first."""
    tuesday = {end: "2" for end in whole_day(-1, "") if end != WEDNESDAY - DAY + Q}
    shown, found = estimated(
        tuesday | whole_day(0, "1"), at(*range(1, 11)), stands={WEDNESDAY: "500.0", WEDNESDAY + DAY: "600.0"}
    )
    assert [end for end, _ in found.left] == at(1)
    assert set(shown.values()) == {"2"}


def test_what_is_there_is_not_estimated_but_old_estimates_are_when_asked():
    values = whole_day(-1, "2") | whole_day(0, "1")
    marked = dict.fromkeys(at(5), ESTIMATED) | dict.fromkeys(at(6), EDITED)
    assert estimated(values, [], qualities=marked)[0] == {}
    assert estimated(values, [], qualities=marked, again=True)[0] == {5: "1"}  # a line from 1 to 1
    before = dict.fromkeys([WEDNESDAY - Q], ESTIMATED)
    assert estimated(values, [], qualities=before, again=True)[0] == {}  # outside what was asked for


def test_like_days_go_by_the_local_clock():
    """Paris put its clocks forward on 2026-03-29. An interval of Monday the 30th that starts at 08:00 summer time is
    06:00 UTC; the Friday before had its 08:00 at 07:00 UTC."""
    friday, monday = date(2026, 3, 27), date(2026, 3, 30)
    values = dict.fromkeys(expected_ends(day_period(friday, PARIS), Q), "1")
    values[int(datetime(2026, 3, 27, 7, 15, tzinfo=UTC).timestamp())] = "42"
    paris = replace(CHANNEL, zone="Europe/Paris")
    found = estimation.estimate(current(paris, values), day_period(monday, PARIS), Rules())
    peak = [one for one in found.estimates if one.value == "42"]
    assert [one.end_utc for one in peak] == [int(datetime(2026, 3, 30, 6, 15, tzinfo=UTC).timestamp())]


def test_the_hour_that_comes_twice_is_estimated_twice():
    """2026-10-25 has 100 quarter hours in Paris; the Saturday before gives 02:00 to 03:00 for both hours."""
    saturday, sunday = date(2026, 10, 24), date(2026, 10, 25)
    values = {end: str(number) for number, end in enumerate(expected_ends(day_period(saturday, PARIS), Q))}
    paris = replace(CHANNEL, zone="Europe/Paris")
    found = estimation.estimate(current(paris, values), day_period(sunday, PARIS), Rules())
    shown = [one.value for one in found.estimates]
    assert len(shown) == 100
    assert shown[8:12] == shown[12:16] == ["8", "9", "10", "11"]


def test_of_an_hour_that_came_twice_the_first_is_the_like_one():
    """Sunday the 25th, 100 quarter hours numbered from 0, is the last day of the kind before Saturday the 31st."""
    sunday, saturday = date(2026, 10, 25), date(2026, 10, 31)
    values = {end: str(number) for number, end in enumerate(expected_ends(day_period(sunday, PARIS), Q))}
    paris = replace(CHANNEL, zone="Europe/Paris")
    found = estimation.estimate(current(paris, values), day_period(saturday, PARIS), Rules())
    assert [one.value for one in found.estimates][7:13] == ["7", "8", "9", "10", "11", "16"]


def test_estimates_of_other_days_count_as_they_are():
    """The register counted 10 over eight quarter hours, four of them on the Tuesday and estimated as 1 each."""
    values = dict.fromkeys(at(*range(-3, 1)), "1") | dict.fromkeys(at(2, 3, 4), "1")
    stands = {WEDNESDAY - 4 * Q: "0", WEDNESDAY + 4 * Q: "10"}
    marked = dict.fromkeys(at(*range(-3, 1)), ESTIMATED)
    like = dict.fromkeys([WEDNESDAY - 86_400 + Q], "5")
    shown, _ = estimated(values | like, at(1), qualities=marked, stands=stands, again=True)
    assert shown == {1: "3"}


def test_beside_the_value_stand_rule_inputs_and_author():
    values = whole_day(-1, "2") | whole_day(0, "1")
    _, found = estimated(values, at(*range(1, 11)), stands={WEDNESDAY: "500.0", WEDNESDAY + DAY: "600.0"})
    (quality,) = found.estimates[0].qualities("anna")
    entry = (WEDNESDAY - DAY + Q) // Q
    scaled = "scaled to the register of 2026-03-04T00:00:00Z and 2026-03-05T00:00:00Z"
    assert quality == Quality("3.8.0", f"like-days; from 0:{entry}; {scaled}; by anna")
    assert is_estimated((quality,))
    assert not is_edited((quality,))


AMOUNTS = st.decimals(min_value=0, max_value=1000, places=3).map(str)


@given(
    st.lists(AMOUNTS, min_size=96, max_size=96),
    st.lists(AMOUNTS, min_size=96, max_size=96),
    st.sets(st.integers(1, 96), min_size=1, max_size=60),
    st.integers(0, 10**6),
)
def test_values_and_estimates_come_to_what_the_register_counted(before, today, holes, surplus):
    """Whatever is missing: nothing measured is touched, and where the register leaves anything, the sum is exact."""
    numbers = range(1, 97)
    values = {end - DAY: text for end, text in zip(at(*numbers), before, strict=True)}
    values |= dict(zip(at(*numbers), today, strict=True))
    known = sum((Decimal(values[end]) for end in at(*numbers) if end not in at(*holes)), Decimal())
    counted = known + Decimal(surplus).scaleb(-3)
    stands = {WEDNESDAY: "1000.000", WEDNESDAY + DAY: str(1000 + counted)}
    shown, _ = estimated(values, at(*holes), stands=stands)
    assert set(shown) == holes
    assert known + sum(map(Decimal, shown.values())) == counted
    assert all(Decimal(text) >= 0 for text in shown.values())
