"""The commands about the quality of readings, beside a store that no bus serves: what they say and refuse."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from gridpost.server import cli
from gridpost.server import config as settings
from gridpost.server.store import open_store

from gridpost import testing
from gridpost.applications.rules import ORDER
from gridpost.errors import ConfigInvalid, FileInvalid, GridpostError, NotFound, ReadingsRefused
from gridpost.model import Block, Entry, Rows

MIDNIGHT, Q = 1_767_052_800, 900  # 2025-12-30T00:00:00Z
DAYS = ("--meter", "M1", "--from", "2025-12-30", "--to", "2025-12-30")


@pytest.fixture
def folder(make_bus):
    """A bus's folder with a meter that has all of the Tuesday but its last two quarter hours."""
    made = make_bus().folder
    config = settings.load(made / "gridpost.toml")
    store = open_store(config.database, lambda: testing.NOW_UTC_MS, serve=True)
    (channel,) = [testing.channel(1, "M1")]
    store.add_ied("IED-1", "revenue meter", bytes(10), [channel])
    ends = tuple(MIDNIGHT + number * Q for number in range(1, 95))
    entry = Entry("IED-1", "m-1", "MeterReadings", "http", bytes(32), testing.NOW_UTC_MS, None, "", b"raw")
    block = Block(1, Q, ends, ("1.0",) * 93 + ("-1.0",), ((),) * 94)
    store.record(entry, Rows((block,)), lambda *_: b"receipt").result(timeout=30)
    store.close()
    return made


@pytest.fixture
def run(folder):
    def call(*arguments, ask=True):
        more = ["--config", str(folder / "gridpost.toml")] if ask else []
        return CliRunner().invoke(cli.group, [*map(str, arguments), *more])

    return call


def test_findings_are_marked_when_asked_for(run):
    plain = run("check-readings", *DAYS)
    assert plain.exit_code == 1
    assert "error   gap             2025-12-30T23:30:00Z to 2025-12-31T00:00:00Z: 2 intervals" in plain.stdout
    assert "not judged register: fewer than two register readings" in plain.stdout
    marked = json.loads(run("check-readings", *DAYS, "--mark", "--person", "anna", "--json").stdout)
    assert (marked["ok"], marked["marked"]) == (False, 1)
    assert json.loads(run("check-readings", *DAYS, "--mark", "--json").stdout)["marked"] == 0


def test_what_is_there_and_what_is_asked_for(run):
    said = run("completeness", *DAYS)
    assert said.exit_code == 0
    assert said.stdout.splitlines() == [
        "M1: 94 of 96, 0 estimated, 0 corrected",
        "  E1: 94 of 96, 0 estimated, 0 corrected",
        "    missing 2025-12-30T23:30:00Z to 2025-12-31T00:00:00Z",
    ]
    asked = json.loads(run("completeness", *DAYS, "--request", "--json").stdout)
    assert (asked["complete"], asked["missing"], asked["gaps"]) == (False, 2, 1)
    assert asked["asked"][0]["control"] == f"bus/gap-1-{MIDNIGHT + 94 * Q}-{MIDNIGHT + 96 * Q}"
    assert run("completeness", *DAYS, "--certificate").exit_code == 2
    assert run("completeness", *DAYS[:4], "--to", "2025-12-29").exit_code == 2
    missing = run("completeness", "--meter", "M9", *DAYS[2:])
    assert isinstance(missing.exception, NotFound)


def test_edits_from_a_file(run, tmp_path):
    file = tmp_path / "edits.csv"
    file.write_text(
        "\ufeffinterval_end_utc,value\n2025-12-30T00:15:00Z,2.5\n2025-12-30T00:30:00Z,2\n", encoding="utf-8"
    )
    edit = ("edit", "--meter", "M1", "--reason", "read on site", "--person", "anna")
    assert "2 values are current now" in run(*edit, "--file", file).stdout
    assert "2 corrected" in run("completeness", *DAYS).stdout
    for given in (
        (),
        ("--at", "2025-12-30T00:15:00Z"),
        ("--at", "noon", "--value", "1"),
        ("--file", file, "--at", "x"),
    ):
        assert run(*edit, *given).exit_code == 2, given
    refused = run(*edit, "--at", "2025-12-30T00:15:00Z", "--value", "2,5")
    assert isinstance(refused.exception, ReadingsRefused)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "first line"),
        ("time,value\n", "first line"),
        ("interval_end_utc,value\n2025-12-30T00:15:00Z\n", "line 2: 1 columns"),
        ("interval_end_utc,value\n2025-12-30T00:15:00Z,1\n30.12.2025,1\n", "line 3"),
        ("interval_end_utc,value\n2025-12-30T00:15:00Z,1\n2025-12-30T01:15:00+01:00,1\n", "line 3: this interval was"),
    ],
)
def test_a_file_of_edits_that_cannot_be_names_the_line(run, tmp_path, text, named):
    file = tmp_path / "edits.csv"
    file.write_text(text)
    refused = run("edit", "--meter", "M1", "--reason", "r", "--file", file)
    assert isinstance(refused.exception, FileInvalid)
    assert named in refused.exception.reason


def test_the_rules_are_printed_and_checked(run, tmp_path):
    file = tmp_path / "rules.toml"
    file.write_text(run("rules", ask=False).stdout)
    assert json.loads(run("rules", file, "--json", ask=False).stdout)["ok"]
    assert json.loads(run("rules", "--json", ask=False).stdout)["order"] == list(ORDER)
    file.write_bytes(b"\xff")
    refused = run("rules", file, ask=False)
    assert isinstance(refused.exception, ConfigInvalid)
    assert isinstance(refused.exception, GridpostError)
