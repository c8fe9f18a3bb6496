"""The installed agent and simulator as processes, killed at will: nothing measured is lost, nothing counted twice."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal

import psutil
import pytest
from gridpost.ied_soap_client.simulator import load
from gridpost.ied_soap_client.spool import Spool

from gridpost.model import CreatedMeterReadings

SEED, SPEED, METERS = 5, 2000, 2
IDLE_LIMIT = 60 << 20


def start(*arguments) -> subprocess.Popen:
    command = [sys.executable, "-u", "-c", "from gridpost.ied_soap_client.cli import main; main()"]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.Popen(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@contextlib.contextmanager
def running(*arguments):
    child = start(*arguments)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def lines_until(child, condition, seconds=30) -> list[dict]:
    """Read journal lines until one meets `condition`; a watchdog ends the wait."""
    seen, deadline = [], time.monotonic() + seconds
    for line in child.stdout:
        seen.append(json.loads(line))
        if condition(seen[-1]):
            return seen
        assert time.monotonic() < deadline, seen[-5:]
    raise AssertionError(f"the process ended: {child.stderr.read()} {seen[-5:]}")


@pytest.fixture
def site(enrolled, bus):
    with running("simulate", "--meters", METERS, "--seed", SEED, "--speed", SPEED, "--json") as simulator:
        placed = json.loads(simulator.stdout.readline())
        bus.simulated_from_ms = int(time.time()) // 86400 * load.DAY_MS  # the simulator's anchor: last UTC midnight
        meters = tuple(
            {"id": f"M{number}", "host": placed["host"], "port": where["port"], "unit": where["unit"]}
            for number, where in enumerate(placed["meters"], 1)
        )
        push = {"every_s": 1, "spread_s": 0, "backoff_first_s": 1, "backoff_most_s": 1}
        yield enrolled(1, meters, push=push, poll={"tolerance_s": 1, "timeout_s": 1})


def test_an_idle_agent_is_small(site, bus):
    with running("run", "--config", site.file, "--json") as agent:
        for event in ("started", "measured", "measured", "measured", "receipted", "receipted"):
            lines_until(agent, lambda line, event=event: line["event"] == event)
        resident = psutil.Process(agent.pid).memory_info().rss
        assert resident <= IDLE_LIMIT, f"{resident >> 20} MB"


def test_a_second_agent_on_one_spool_is_refused_and_sigterm_ends_the_first(site):
    with running("run", "--config", site.file, "--json") as agent:
        lines_until(agent, lambda line: line["event"] == "measured")
        second = start("run", "--config", site.file)
        _, trouble = second.communicate(timeout=30)
        assert (second.returncode, trouble.split(":")[0]) == (1, "error[already-exists]")
        agent.send_signal(signal.SIGTERM)
        rest = lines_until(agent, lambda line: line["event"] == "stopped")
        assert agent.wait(10) == 0
        assert rest[-1]["event"] == "stopped"


def spoil_every_third(bus):
    """Receipts get lost on the way: stored, but the device hears nothing of it."""
    count = 0

    def behave(raw, receive):
        nonlocal count
        count += 1
        answer = receive()
        return (502, b"", {}) if count % 3 == 0 else answer

    return behave


def test_killed_over_and_over_the_agent_loses_nothing_and_counts_nothing_twice(site, bus):
    bus.behave = spoil_every_third(bus)
    for kill_after in (2, 3, 1, 4):
        with running("run", "--config", site.file, "--json") as agent:
            for _ in range(kill_after):
                lines_until(agent, lambda line: line["event"] == "measured")
            agent.send_signal(signal.SIGKILL)
            agent.wait(10)
    bus.behave = None
    with running("run", "--config", site.file, "--json") as agent:
        lines_until(agent, lambda line: line["event"] == "measured")
        lines_until(agent, lambda line: line["event"] == "measured")
        agent.send_signal(signal.SIGTERM)
        lines_until(agent, lambda line: line["event"] == "stopped")
    last = start("retry", "--config", site.file, "--json")  # what the stop left in the spool
    said, trouble = last.communicate(timeout=30)
    assert last.returncode == 0, trouble
    assert json.loads(said)["waiting"] == 0
    check_sums(site, bus)


def check_sums(site, bus):
    pushed = [message for message in bus.messages if isinstance(message, CreatedMeterReadings)]
    baselines: dict[str, Decimal] = {}
    for register in (one for message in pushed for one in message.readings.registers):
        baselines.setdefault(register.channel.stream, Decimal(register.value))
    sums = dict.fromkeys(baselines, Decimal(0))
    for (stream, _), versions in bus.readings().items():
        assert len(versions) == 1, "an interval was sent in two versions"
        sums[stream] += Decimal(versions[0][0] or 0)
    spool = Spool(site.folder / "spool.db")
    stands = {key.stream: stand for key, stand in spool.stands().items()}
    spool.close()
    assert set(stands) == set(sums) == {"E1", "B1", "E2", "B2"}
    for stream, stand in stands.items():
        assert sums[stream] * 1000 == stand.raw - baselines[stream] * 1000, "sum of intervals = register difference"
        assert stand.raw == pytest.approx(simulated(stream, stand.end_utc, bus.simulated_from_ms), abs=slack(stream))
    sequences = [message.header.sequence for message in bus.messages]
    assert len(set(sequences)) == len(sequences)


def simulated(stream: str, end_utc: int, anchor: int) -> int:
    """What the simulator's register showed at a boundary, from the load function alone."""
    moment = anchor + (end_utc * 1000 - anchor) * SPEED
    return load.energy_wms(SEED, int(stream[1:]), moment, stream[0] == "B") // load.MWH_PER_COUNT


def slack(stream: str) -> int:
    """Wh in the second the agent may take to read a register."""
    strongest = max(max(load.slots(SEED, int(stream[1:]), day, stream[0] == "B")) for day in range(18300, 18700))
    return strongest * SPEED // 3600 + 1
