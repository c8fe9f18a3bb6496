"""Decisions 9 to 11 and docs/adr/0016 as a table, and how a block is cut into rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridpost.model import Block, Counts, Quality
from gridpost.versions import CONFLICT, GAP, KNOWN, STORED, Run, Version, judge, judge_block

MIDNIGHT = 1772323200  # 2026-03-01T00:00:00Z
PLAIN, VALID = (), (Quality("1.0.0"),)
FLAGGED, EDITED = (Quality("1.4.9"),), (Quality("2.7.1"),)
LACKING, LACKING_TOLD = (Quality("2.5.259"),), (Quality("2.5.259", "meter off"),)

FIRST = Version("12.5", PLAIN, STORED)
OTHER = Version("13", PLAIN, CONFLICT)
CORRECTED = Version("13.0", EDITED, STORED)
ESTIMATED, GUESSED_AGAIN = (Quality("2.8.1"),), (Quality("3.8.2", "like days"),)
BOTH = (Quality("2.7.1"), Quality("2.8.1"))
GUESS = Version("12.1", ESTIMATED, STORED)
REFUSED_GUESS = Version("12.1", ESTIMATED, CONFLICT)
NOTE = Version(None, LACKING, GAP)


@pytest.mark.parametrize(
    ("value", "qualities", "on_file", "outcome"),
    [
        ("12.5", PLAIN, [], STORED),
        ("12.5", EDITED, [], STORED),
        ("12.5", PLAIN, [FIRST], KNOWN),
        ("12.500", PLAIN, [FIRST], KNOWN),  # equal Decimal
        ("12.5", VALID, [FIRST], KNOWN),  # no quality means 1.0.0
        ("12.5", FLAGGED, [FIRST], STORED),  # a flag found later
        ("12.5", (Quality("1.0.0", "A"),), [FIRST], STORED),  # the detail is part of the quality
        ("13", PLAIN, [FIRST], CONFLICT),
        ("13", FLAGGED, [FIRST], CONFLICT),
        ("13", EDITED, [FIRST], STORED),
        ("13", PLAIN, [FIRST, OTHER], KNOWN),  # the conflict is on file already
        ("13", EDITED, [FIRST, OTHER], STORED),  # resolved by the sender
        ("12.5", PLAIN, [FIRST, CORRECTED], KNOWN),  # the old message again under a new id changes nothing
        ("12.5", EDITED, [FIRST, CORRECTED], STORED),  # edited back
        ("13", EDITED, [FIRST, CORRECTED], KNOWN),
        ("14", PLAIN, [FIRST, CORRECTED], CONFLICT),
        ("12.1", ESTIMATED, [], STORED),
        ("12.1", ESTIMATED, [NOTE], STORED),
        ("12.1", ESTIMATED, [GUESS], KNOWN),
        ("12.2", ESTIMATED, [GUESS], STORED),  # a better estimate
        ("12.1", GUESSED_AGAIN, [GUESS], STORED),
        ("12.1", ESTIMATED, [GUESS, Version("12.2", ESTIMATED, STORED)], KNOWN),  # the old message again
        ("12.5", PLAIN, [GUESS], STORED),  # measured, late
        ("12.1", PLAIN, [GUESS], STORED),  # measured, and just as estimated
        ("12.5", FLAGGED, [GUESS], STORED),
        ("12.5", EDITED, [GUESS], STORED),
        ("12.5", PLAIN, [GUESS, Version("12.5", PLAIN, CONFLICT)], STORED),  # in conflict before there was this rule
        ("12.1", ESTIMATED, [FIRST], CONFLICT),
        ("12.5", ESTIMATED, [FIRST], CONFLICT),  # the same value: it would still take the measured one's place
        ("12.1", ESTIMATED, [FIRST, REFUSED_GUESS], KNOWN),
        ("12.1", ESTIMATED, [GUESS, FIRST], KNOWN),
        ("12.1", ESTIMATED, [CORRECTED], CONFLICT),  # what a person put right is no estimate
        ("13", BOTH, [FIRST], CONFLICT),  # an edited estimate is an estimate
        ("13", BOTH, [GUESS], STORED),
        ("12.5", PLAIN, [Version("13", BOTH, STORED)], STORED),
        ("14", PLAIN, [GUESS, FIRST], CONFLICT),
        (None, LACKING, [GUESS], GAP),
        (None, LACKING, [], GAP),
        (None, LACKING, [NOTE], KNOWN),
        (None, LACKING_TOLD, [NOTE], GAP),
        (None, LACKING, [FIRST], GAP),
        ("12.5", PLAIN, [NOTE], STORED),  # a value that comes later is simply stored
        ("12.5", PLAIN, [NOTE, FIRST], KNOWN),
    ],
)
def test_judge(value, qualities, on_file, outcome):
    assert judge(value, qualities, on_file) == outcome


def test_the_order_of_qualities_does_not_matter():
    one, other = (Quality("1.4.9"), Quality("1.4.2")), (Quality("1.4.2"), Quality("1.4.9"))
    assert judge("1", other, [Version("1", one, STORED)]) == KNOWN


def current(arrived):
    """The version that is current after values came one behind the other: the last one stored."""
    on_file = []
    for value, qualities in arrived:
        outcome = judge(value, qualities, on_file)
        if outcome != KNOWN:
            on_file.append(Version(value, qualities, outcome))
    return next(version for version in reversed(on_file) if version.outcome == STORED)


QUALITIES = st.sampled_from([PLAIN, VALID, FLAGGED, EDITED, ESTIMATED, GUESSED_AGAIN, BOTH])
ARRIVALS = st.lists(st.tuples(st.sampled_from(["1", "1.0", "2", "3"]), QUALITIES), min_size=1, max_size=8)


@given(ARRIVALS)
def test_an_estimate_never_beats_a_measured_value(arrived):
    """Whatever comes in whatever order: with a value that is no estimate among it, no estimate is current."""
    measured = any(".8." not in str(qualities) for _, qualities in arrived)
    assert (".8." not in str(current(arrived).qualities)) is measured


@given(ARRIVALS)
def test_estimates_change_nothing_about_which_measured_value_is_current(arrived):
    without = [one for one in arrived if ".8." not in str(one[1])]
    if without:
        assert current(arrived) == current(without)


def block(ends, values, qualities=None):
    return Block(1, 900, tuple(ends), tuple(values), tuple(qualities or [()] * len(values)))


def cut(*args, on_file=()):
    runs, counts = judge_block(block(*args), list(on_file))
    return [((run.first_interval_end_utc - MIDNIGHT) // 900, run.values, run.outcome) for run in runs], counts


def at(*quarters):
    return [MIDNIGHT + 900 * quarter for quarter in quarters]


def test_a_day_is_one_row_and_its_last_interval_ends_at_midnight():
    runs, counts = cut(at(*range(1, 97)), ["7"] * 96)
    assert [(first, len(values), outcome) for first, values, outcome in runs] == [(1, 96, STORED)]
    assert counts == Counts(96, 0, 0)


def test_a_run_ends_with_its_utc_day():
    assert cut(at(-1, 0, 1, 2), "abcd")[0] == [(-1, ("a", "b"), STORED), (1, ("c", "d"), STORED)]


def test_a_hole_and_a_step_of_another_length_end_a_run():
    assert cut(at(1, 2, 4), "123")[0] == [(1, ("1", "2"), STORED), (4, ("3",), STORED)]
    ends = [MIDNIGHT + 900, MIDNIGHT + 1200]
    assert [values for _, values, _ in cut(ends, "12")[0]] == [("1",), ("2",)]


def test_unsorted_ends_are_sorted():
    assert cut(at(3, 1, 2), "312") == ([(1, ("1", "2", "3"), STORED)], Counts(3, 0, 0))


def test_a_gap_in_the_middle_is_a_note_of_its_own():
    runs, counts = cut(at(1, 2, 3), ["1", None, "3"], [(), LACKING, ()])
    assert runs == [(1, ("1",), STORED), (2, (None,), GAP), (3, ("3",), STORED)]
    assert counts == Counts(3, 0, 0)


def test_known_values_make_no_row():
    on_file = [Run(1, MIDNIGHT + 900, 900, ("1", "2", "3"), ((), (), ()), STORED)]
    runs, counts = cut(at(0, 1, 2, 3, 4), ["0", "1", "9", "3.0", "4"], on_file=on_file)
    assert runs == [(0, ("0",), STORED), (2, ("9",), CONFLICT), (4, ("4",), STORED)]
    assert counts == Counts(2, 2, 1)


def test_the_same_interval_twice_in_one_block_is_judged_in_order():
    runs, counts = cut(at(1, 1, 2, 1), ["1", "1", "2", "5"])
    assert runs == [(1, ("1",), STORED), (1, ("5",), CONFLICT), (2, ("2",), STORED)]
    assert counts == Counts(2, 1, 1)


def test_an_empty_block_is_nothing():
    assert cut([], []) == ([], Counts(0, 0, 0))
