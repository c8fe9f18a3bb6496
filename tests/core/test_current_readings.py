"""What is current, the quick way and interval by interval: the same for any rows a writer could have left."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from gridpost import leaf, testing
from gridpost.current import Filed, FiledRegister, FiledRun, Row, current_readings, of_rows
from gridpost.model import Position, Quality, Register
from gridpost.versions import CONFLICT, GAP, STORED, JudgedRegister, Run

CHANNEL = testing.channel()
START = 1772323200  # 2026-03-01T00:00:00Z
STEP = CHANNEL.interval_s
LACKING, ESTIMATED = (Quality("2.5.259"),), (Quality("2.8.0", "like days"),)


def row_of(filed: FiledRun, line: int) -> Row:
    run = filed.run
    return Row(
        run.channel_id, filed.recorded_at_utc_ms, *filed.position, line, run.first_interval_end_utc,
        run.last_interval_end_utc, run.interval_s, leaf.values_text(run.values), leaf.qualities_text(run.qualities),
        run.outcome,
    )  # fmt: skip


def run_of(first, values, outcome=STORED, qualities=None, step=STEP):
    return Run(CHANNEL.id, START + first * STEP, step, tuple(values), qualities or ((),) * len(values), outcome)


def filed_of(runs):
    """One entry a run, in two partitions that were written in turn."""
    return [FiledRun(1000 + index, Position(index % 2, index // 2), run) for index, run in enumerate(runs)]


def both(runs, period, registers=()):
    filed = filed_of(runs)
    slow = current_readings(CHANNEL, period, Filed(filed, registers))
    rows = [row_of(one, line) for line, one in enumerate(filed)]
    assert of_rows(CHANNEL, period, list(reversed(rows)), registers) == slow
    assert of_rows(CHANNEL, period, [tuple(row) for row in rows], registers) == slow
    return slow


def test_rows_side_by_side_are_laid_one_behind_the_other():
    found = both([run_of(1, ["1.0", "2"]), run_of(3, ["3"]), run_of(5, ["5", "6", "7"])], (START, START + 6 * STEP))
    assert found.block.values == ("1.0", "2", "3", "5", "6")
    assert [(end - START) // STEP for end in found.block.ends_utc] == [1, 2, 3, 5, 6]
    assert found.positions == (Position(0, 0), Position(0, 0), Position(1, 0), Position(0, 1), Position(0, 1))
    assert found.newest_recorded_at_utc_ms == 1002


def test_a_row_outside_the_period_gives_nothing_and_is_not_the_newest():
    found = both([run_of(1, ["1", "2"]), run_of(9, ["9"])], (START + STEP, START + 8 * STEP))
    assert (found.block.values, found.newest_recorded_at_utc_ms) == (("2",), 1000)
    assert both([], (START, START + STEP)).block.values == ()


def test_the_later_stored_one_a_conflict_and_a_gap_are_told_apart():
    runs = [run_of(1, ["1", "2"]), run_of(2, ["22"], CONFLICT), run_of(1, ["11"], STORED, (ESTIMATED,)),
            run_of(3, [None], GAP, (LACKING,))]  # fmt: skip
    found = both(runs, (START, START + 4 * STEP))
    assert (found.block.values, found.conflicts) == (("11", "2"), (START + 2 * STEP,))
    assert found.gaps == ((START + 3 * STEP, LACKING),)


def test_a_register_may_be_the_newest():
    stand = FiledRegister(9_000, Position(0, 9), JudgedRegister(Register(CHANNEL.id, "0.0", START, "7", ()), STORED))
    found = both([run_of(1, ["1"])], (START, START + STEP), [stand])
    assert (found.registers[0].value, found.newest_recorded_at_utc_ms) == ("7", 9_000)


VALUES = st.from_regex(r"-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,4})?", fullmatch=True)


@st.composite
def any_run(draw):
    outcome = draw(st.sampled_from([STORED] * 6 + [CONFLICT, GAP]))
    count = draw(st.integers(1, 6))
    values = [None] * count if outcome == GAP else draw(st.lists(VALUES, min_size=count, max_size=count))
    given_ = (LACKING,) if outcome == GAP else draw(st.sampled_from([((),), ((),), ((),), (ESTIMATED,)]))
    return run_of(draw(st.integers(0, 40)), values, outcome, given_ * count, draw(st.sampled_from([STEP, STEP, 450])))


@settings(max_examples=150, deadline=None)
@given(st.lists(any_run(), max_size=8), st.integers(-2, 45), st.integers(0, 45), st.integers(0, 899))
def test_both_ways_agree_on_any_rows(runs, first, length, odd):
    both(runs, (START + first * STEP + odd, START + (first + length) * STEP + odd))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 6), max_size=8), st.integers(-2, 45), st.integers(0, 45))
def test_both_ways_agree_on_rows_that_do_not_overlap(lengths, first, length):
    starts = [sum(lengths[:index]) + index % 3 for index in range(len(lengths))]
    disjoint = [run_of(start, ["1.25"] * count) for start, count in zip(starts, lengths, strict=True)]
    both(disjoint, (START + first * STEP, START + (first + length) * STEP))


def test_a_channel_of_another_length_keeps_its_own():
    assert of_rows(replace(CHANNEL, interval_s=1800), (0, 1), [], ()).block.interval_s == 1800
