"""The campaign of commands in short; a damaged device, which it has to find out; and what its seed decides."""

import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import commands
from live_bus import LiveBus

SHORT = commands.Plan(commands=10, ieds=2, processes=2, kills=2, seed=5)


@pytest.fixture
def bus(tmp_path, initialised):
    return LiveBus(shutil.copytree(initialised, tmp_path / "bus"))


def test_each_command_is_done_at_most_once_and_told_once(tmp_path, bus):
    found = commands.campaign(tmp_path, SHORT, bus)
    assert found.problems == []
    assert found.ok
    assert found.kills == {"bus": 1, "acting": 1}
    assert sum(found.states.values()) == 10
    assert set(found.states) <= {"done", "unknown", "expired"}
    assert found.states["done"] <= found.acts <= 10
    assert found.outcomes_signed >= found.states["done"]
    assert found.mails >= 10
    assert found.cuts


def test_a_device_that_acts_before_its_intent_is_found_out(tmp_path, bus):
    found = commands.campaign(tmp_path, SHORT._replace(commands=4, kills=1, sabotage="act-before-intent"), bus)
    assert not found.ok
    assert found.done_twice > 0


def test_the_seed_makes_orders_and_kills():
    plan = commands.Plan(seed=7)
    serials = [f"IED-{number}" for number in range(50)]
    one, two = (commands.orders(plan, serials, plan.regular) for _ in range(2))
    assert one == two
    assert sum(len(order.targets) for order in one) == plan.regular == 1000 - 10 - 2 * 10 * 5
    assert any(order.group for order in one)
    assert len({order.name for order in one}) == len(one)
    kills = list(commands.schedule(plan))
    assert kills == list(commands.schedule(plan))
    assert Counter(kind for _, kind in kills) == dict.fromkeys(commands.KINDS, 10)
    assert kills != list(commands.schedule(plan._replace(seed=8)))
