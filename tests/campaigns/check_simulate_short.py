"""The simulation in short: some histories that hold, the same seed twice in two processes, and damage that is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import sim_judge
import simulate


@pytest.fixture(scope="module")
def histories():
    return [simulate.one(seed) for seed in range(1, 9)]


def test_nothing_is_violated_in_some_weeks(histories):
    assert [found.problems for found in histories] == [[]] * len(histories)


def test_what_should_befall_them_does(histories):
    happened = sum((found.counts for found in histories), start=type(histories[0].counts)())
    wanted = ("repeat", "killed", "disk-full", "die-after", "twice", "lose_answer", "late", "forged_answer", "replayed",
              "step-clock", "delivery-fails", "delivered", "ied-receipted", "answer-500", "answer-503")  # fmt: skip
    assert [name for name in wanted if not happened[name]] == []


def test_a_seed_gives_one_history_in_whichever_process(histories):
    """Hashing of texts is another in each process, so an order that came from a set would show."""
    command = [sys.executable, simulate.__file__, "--seed", "2", "--only", "--json"]
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["history_sha256"] == histories[1].digest


@pytest.mark.parametrize(
    ("sabotage", "kinds"),
    [
        ("answer-before-commit", {"acknowledged-not-stored", "receipts-differ"}),
        ("verify-off", {"forged", "values"}),
    ],
)
def test_damage_is_found(sabotage, kinds):
    found = {text.partition(":")[0] for seed in range(1, 9) for text in simulate.one(seed, sabotage).problems}
    assert found & kinds


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
