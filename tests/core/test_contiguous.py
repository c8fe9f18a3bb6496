"""Contiguous blocks go by arithmetic instead of loops: the arithmetic, held against the plain meaning of a UTC day."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridpost import log
from gridpost.model import Block, Rows
from gridpost.units import is_contiguous
from gridpost.versions import STORED, judge_block

DAY_S = 86_400
INTERVALS = st.sampled_from([60, 300, 900, 1800, 3600, 7000, 43_200, DAY_S, 100_000, 200_000])
STARTS = st.integers(0, 3 * DAY_S)


def block_of(start, interval_s, count):
    ends = tuple(start + interval_s * step for step in range(1, count + 1))
    return Block(7, interval_s, ends, tuple(str(end) for end in ends), ((),) * count)


def day_of(end):
    """The UTC day an interval lies in; one that ends at midnight belongs to the day it closes."""
    return -(-end // DAY_S) - 1


@given(STARTS, INTERVALS, st.integers(1, 300))
def test_a_contiguous_block_becomes_one_run_a_utc_day(start, interval_s, count):
    block = block_of(start, interval_s, count)
    runs, counts = judge_block(block, [])
    assert [end for run in runs for end in run.ends_utc()] == list(block.ends_utc)
    assert [value for run in runs for value in run.values] == list(block.values)
    assert [len(run.qualities) for run in runs] == [len(run.values) for run in runs]
    assert {run.outcome for run in runs} == {STORED}
    assert counts == (count, 0, 0)
    if interval_s <= DAY_S:  # a longer interval leaves days out, and each run holds one
        days = [day_of(run.first_interval_end_utc) for run in runs]
        assert days == [day_of(run.last_interval_end_utc) for run in runs]
        assert days == sorted(set(days))


@given(STARTS, INTERVALS, st.integers(1, 300), st.booleans())
def test_the_file_is_asked_for_each_day_of_a_block_and_all_its_ends(start, interval_s, count, holed):
    block = block_of(start, interval_s, count)
    if holed:
        block = block._replace(ends_utc=block.ends_utc[::2])
    wanted = log.wanted_intervals(Rows((block,)))
    assert {day for _, day in wanted} == {day_of(end) for end in block.ends_utc}
    assert all(wanted[7, day_of(end)][0] <= end <= wanted[7, day_of(end)][1] for end in block.ends_utc)


@pytest.mark.parametrize(
    ("ends", "contiguous"),
    [
        ((), True),
        ((900,), True),
        ((900, 1800, 2700), True),
        ((900, 2700), False),
        ((900, 900), False),
        ((1800, 900), False),
        ((900, 1800, 2701), False),
    ],
)
def test_contiguous_is_without_hole_repeat_or_disorder(ends, contiguous):
    assert is_contiguous(ends, 900) == contiguous
    assert not is_contiguous((900,), 0)
