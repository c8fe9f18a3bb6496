"""F105: generators at 12:00 and 12:01, each on its own IED, and clocks that would turn their order round."""

from __future__ import annotations

from itertools import combinations

from gridpost.server.controls.clocks import Call, Timed, offset_ms, too_near
from hypothesis import given
from hypothesis import strategies as st

NOON = 1_767_268_800_000
MINUTE = 60_000


def pairs(*timed: tuple[str, int, int | None]) -> list[tuple[str, str]]:
    """Targets of the pairs found among (target, moment behind noon in ms, offset)."""
    found = too_near([Timed(f"start {target}", target, NOON + at, offset) for target, at, offset in timed])
    return [(early.target, late.target) for early, late in found]


def test_generators_at_12_00_and_12_01():
    assert pairs(("G1", 0, 0), ("G2", MINUTE, 0)) == []
    assert pairs(("G1", 0, -40_000), ("G2", MINUTE, 19_999)) == [], "59.999 s apart: a gap of 60 s still holds"
    assert pairs(("G1", 0, -40_000), ("G2", MINUTE, 20_000)) == [("G1", "G2")]
    assert pairs(("G2", MINUTE, 90_000), ("G1", 0, 0)) == [("G1", "G2")], "in whatever order they are listed"


def test_clocks_that_are_wrong_by_the_same_keep_the_order():
    assert pairs(("G1", 0, 300_000), ("G2", MINUTE, 300_000)) == []


def test_one_moment_one_ied_or_an_unknown_clock_has_no_order_to_lose():
    assert pairs(("G1", 0, 0), ("G2", 0, 300_000)) == []
    assert pairs(("G1", 0, 0), ("G1", MINUTE, 300_000)) == []
    assert pairs(("G1", 0, None), ("G2", MINUTE, 300_000)) == []


@given(st.lists(st.tuples(st.sampled_from("ABCD"), st.integers(0, 9), st.integers(-9, 9)), max_size=8))
def test_a_command_is_found_exactly_when_some_earlier_one_is_too_near(drawn):
    timed = [Timed(str(number), target, NOON + at, offset) for number, (target, at, offset) in enumerate(drawn)]
    expected = {
        late.name
        for one, other in combinations(timed, 2)
        for early, late in [sorted((one, other), key=lambda item: item.at_utc_ms)]
        if early.at_utc_ms < late.at_utc_ms
        and early.target != late.target
        and abs(early.offset_ms - late.offset_ms) >= late.at_utc_ms - early.at_utc_ms
    }
    assert {late.name for _, late in too_near(timed)} == expected


def test_a_clock_is_known_by_the_newest_messages_and_the_one_that_took_least():
    assert offset_ms([]) is None
    assert offset_ms([Call(NOON, NOON - 5000)]) == -5000
    slow, quick = Call(NOON, NOON - 9000), Call(NOON + 1, NOON + 1 - 4200)
    assert offset_ms([slow, quick]) == -4200
    before = [Call(NOON - MINUTE * back, NOON - MINUTE * back + 300_000) for back in range(6, 12)]
    since = [Call(NOON + back, NOON + back - 100) for back in range(5)]
    assert offset_ms([*before, *since]) == -100, "set right since"
