"""The replay campaign in short; and damaged buses, which it has to find out."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import replay

SHORT = replay.Plan(messages=42, seed=5, devices=2)


def test_every_repeat_gets_the_first_receipt(tmp_path):
    found = replay.campaign(tmp_path, SHORT)
    assert found.problems == []
    assert found.ok
    moments = ("at once", "restarted", "399 days on")
    expected = {f"{when}, {form}": 42 for when in moments for form in replay.FORMS}
    assert found.repeats == {**expected, "401 days on, same bytes": 42}
    reused = {f"{when}, message-id-reused": 4 for when in (*moments, "401 days on")}
    assert found.refusals == {**reused, "399 days on, message-stale": 4, "401 days on, message-stale": 4}
    assert found.entries == 42


@pytest.mark.parametrize(
    ("sabotage", "counters"),
    [
        ("no-repeat-lookup", ("double", "receipts_changed")),
        ("any-content", ("not_refused",)),
    ],
)
def test_a_damaged_bus_is_found_out(tmp_path, sabotage, counters):
    found = replay.campaign(tmp_path, SHORT._replace(messages=4, sabotage=sabotage))
    assert not found.ok
    for counter in counters:
        assert getattr(found, counter) > 0
