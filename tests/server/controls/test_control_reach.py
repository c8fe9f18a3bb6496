"""D6: how much of a load is reachable within 5 and 15 minutes, from the rhythm in which each IED calls."""

from __future__ import annotations

from decimal import Decimal

import pytest
from gridpost.server.controls.clocks import Call
from gridpost.server.controls.reach import Share, Target, forecast, next_call_ms, was_reached

from gridpost.controls import State, Step

NOW = 1_767_225_600_000
MINUTE = 60_000


def target(serial: str, every_min: int, last_min_ago: int, kw: str | None = None, calls: int = 10) -> Target:
    moments = [NOW - (last_min_ago + every_min * back) * MINUTE for back in range(calls)]
    power = None if kw is None else Decimal(kw)
    return Target(serial, tuple(Call(moment, moment) for moment in moments), power)


@pytest.mark.parametrize(
    ("every", "ago", "minutes"),
    [(15, 0, 15), (15, 11, 4), (15, 15, 15), (15, 20, 10), (15, 44, 1), (15, 45, None), (1440, 10, 1430)],
)
def test_an_ied_is_expected_at_its_next_period_and_after_three_silent_ones_not_at_all(every, ago, minutes):
    assert next_call_ms(target("A", every, ago), NOW) == (None if minutes is None else minutes * MINUTE)


def test_one_late_call_among_ten_does_not_make_a_rhythm_and_two_do():
    regular = [NOW - 5 * MINUTE * back for back in range(11)]

    def waits(*late):
        moments = [*regular, *late]
        return next_call_ms(Target("A", tuple(Call(moment, moment) for moment in moments)), NOW)

    first = regular[-1]
    assert waits(first - 60 * MINUTE) == 5 * MINUTE
    assert waits(first - 60 * MINUTE, first - 120 * MINUTE) == 5 * MINUTE
    assert waits(first - 60 * MINUTE, first - 120 * MINUTE, first - 180 * MINUTE) == 60 * MINUTE


def test_an_ied_of_which_nothing_is_known_is_not_counted_on_and_a_connected_one_is():
    assert next_call_ms(Target("A"), NOW) is None
    assert next_call_ms(target("A", 15, 1, calls=1), NOW) is None, "one call is no rhythm"
    assert next_call_ms(Target("A", connected=True), NOW) == 0


def test_the_share_of_targets_and_of_power_within_5_and_15_minutes():
    targets = [
        target("A", 5, 1, "6000"),
        target("B", 15, 12, "6880"),
        target("C", 15, 2, "980"),
        target("D", 60, 20, "140"),
        target("E", 15, 1, None),
    ]
    five, fifteen = forecast(targets, NOW)
    assert five == Share(5, 2, 5, Decimal(12880), Decimal(14000))
    assert (five.percent, five.percent_kw) == (40, 92), "D6: 92 % of 14 MW within 5 min"
    assert fifteen == Share(15, 4, 5, Decimal(13860), Decimal(14000))
    assert (fifteen.percent, fifteen.percent_kw) == (80, 99), "and 99 % within 15"


def test_nothing_is_no_percent_of_anything():
    five, _ = forecast([], NOW)
    assert (five.percent, five.percent_kw) == (0, None)


def test_what_was_reached_counts_from_the_release():
    def life(serial, *steps):
        return serial, [Step("0-0-0", state, NOW + at, "x") for state, at in steps]

    lives = [
        life("A", (State.PROPOSED, -9 * MINUTE), (State.WAITING, 0), (State.FETCHED, 5 * MINUTE), (State.DONE, 0)),
        life("B", (State.WAITING, 0), (State.FETCHED, 5 * MINUTE + 1)),
        life("C", (State.WAITING, 0)),
        life("D", (State.HELD, 0)),
    ]
    assert was_reached(lives, 5 * MINUTE) == {"A"}
    assert was_reached(lives, 15 * MINUTE) == {"A", "B"}
