"""The simulation in short: some histories that hold, the same seed in two processes, and damage that is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import sim_judge
import simulate

SEEDS = range(1, 4)


@pytest.fixture(scope="module")
def histories():
    return [simulate.one(seed) for seed in SEEDS]


def test_nothing_is_violated_in_some_weeks(histories):
    assert [found.problems for found in histories] == [[]] * len(histories)


def test_what_should_befall_them_does(histories):
    happened = sum((found.counts for found in histories), start=Counter())
    wanted = ("repeat", "killed", "disk-full", "twice", "lose_answer", "late", "forged_answer", "foreign_answer",
              "step-clock", "delivered", "ied-receipted", "answer-200", "answer-500", "answer-503")  # fmt: skip
    assert [name for name in wanted if not happened[name]] == []


def test_a_seed_gives_one_history_in_whichever_process(histories):
    """Hashing of texts is another in each process, so an order that came from a set would show."""
    command = [sys.executable, simulate.__file__, "--seed", "2", "--only", "--json"]
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["history_sha256"] == histories[1].digest


@pytest.mark.parametrize(
    ("sabotage", "seed", "kinds"),
    [
        ("window-off", 1, {"outside-window"}),
        ("verify-off", 2, {"forged", "values"}),
    ],
)
def test_damage_is_found(sabotage, seed, kinds):
    found = {text.partition(":")[0] for text in simulate.one(seed, sabotage).problems}
    assert found & kinds


@pytest.mark.parametrize("raised", [StopIteration, ValueError])
def test_a_history_that_ends_in_an_error_is_a_violation_not_a_gap(monkeypatch, raised):
    """A `StopIteration` let through ended the loop over all seeds as if there were no more."""

    def broken(_seed, _setting):
        raise raised("here")

    monkeypatch.setattr(simulate, "history", broken)
    assert f"{raised.__name__}: here" in simulate.one(7).problems[0]


def test_the_judge_reads_a_message_by_itself():
    body = (
        b'<CreatedMeterReadings xmlns="http://iec.ch/TC57/2011/MeterReadingsMessage"><Payload><MeterReadings'
        b' xmlns="http://iec.ch/TC57/2011/MeterReadings#"><MeterReading><IntervalBlocks><IntervalReadings>'
        b"<timeStamp>2026-01-01T00:00:00Z</timeStamp><value>1.5</value></IntervalReadings></IntervalBlocks><Meter>"
        b"<mRID>M1</mRID><Names><name>E1</name></Names></Meter></MeterReading></MeterReadings></Payload>"
        b"</CreatedMeterReadings>"
    )
    values = sim_judge.defaultdict(set)
    sim_judge.add_values(values, body)
    assert {key: {str(one) for one in found} for key, found in values.items()} == {("M1", "E1", 1_767_225_600): {"1.5"}}
