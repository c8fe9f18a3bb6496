"""The kill campaign in short, on either store; and damaged buses, which it has to find out."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import kill

SHORT = kill.Plan(messages=60, kills=5, repeats=30, seed=5, recovery_s=60, devices=3)


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_nothing_is_lost_double_wrong_or_made_up(tmp_path, store):
    found = kill.campaign(tmp_path, store, SHORT)
    assert found.problems == []
    assert found.ok
    assert sum(found.kills.values()) == 5
    assert found.kills["starting"] == 1
    assert found.entries == 60
    assert found.resent > 0
    assert found.twins > 0
    assert 0 < found.slowest_recovery_s < 60
    assert (
        set(found.kills) == {"sqlite": {"bus", "starting"}, "postgres": {"child", "parent", "all", "starting"}}[store]
    )


@pytest.mark.parametrize(
    ("sabotage", "counters"), [("no-repeat-lookup", ("double", "receipts_changed")), ("add-entries", ("phantom",))]
)
def test_a_damaged_bus_is_found_out(tmp_path, sabotage, counters):
    found = kill.campaign(tmp_path, "sqlite", SHORT._replace(messages=40, kills=1, sabotage=sabotage))
    assert not found.ok
    assert found.problems
    for counter in counters:
        assert getattr(found, counter) > 0


def test_a_slow_recovery_is_a_problem():
    found = kill.Outcome()
    kill._judge_recoveries([0.5, 2.5, 1.0], kill.Plan(), found)
    assert (found.slowest_recovery_s, found.median_recovery_s, found.recoveries_too_slow) == (2.5, 1.0, 1)
    assert not found.ok


def test_the_seed_makes_the_kills():
    plan = kill.Plan(seed=7)
    one, two = (list(kill.schedule(plan, kill.Postgres.kinds)) for _ in range(2))
    assert one == two
    assert [kind for _, kind in one].count("starting") == 10
    assert len({count for count, _ in one}) == len(one) == 50
    assert one != list(kill.schedule(plan._replace(seed=8), kill.Postgres.kinds))
