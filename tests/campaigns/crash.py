"""kill -9 of the bus and of a device under load, everything sent again after each: nothing lost, double or wrong.

    tests/campaigns/crash.py [--messages 500] [--bus-kills 10] [--agent-kills 5] [--seed N] [--keep DIR] [--json]

Four devices push a day of a meter in each message, over the wire, and after each restart of the bus send again all they
ever sent, sealed anew. Beside them `gridpost-ied run` measures `gridpost-ied simulate` and is killed too. In the end
the bus is started once more with its clock an hour ahead, and every message is sealed an hour later and sent again.

Judged from outside, on the database file by SQL and with the hashing of RFC 9162 written here a second time:

- lost: a message acknowledged, or sent again until it was, of which the store has no entry or not all values;
- double: more than one entry of a message, or more than one row of an interval; wrong: another value than was sent;
- receipts that differ between a first answer and a repeat, at once, after a restart, an hour later; also the agent's;
- roots: a receipt that does not carry the root over all entries before it;
- files: each day's MDEF file delivered once, revision 1, with the values sent;
- agent: the sum of its intervals is the difference of the meter's register, and nothing waits in its spool.

Exit status: 0 everything holds, 1 something does not.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import changed_bus
from gridpost.adapters.mv90 import Mv90Adapter
from gridpost.ied_soap_client import config as ied_settings
from judging import judge_entries, judge_receipts
from live_bus import BIN, LiveBus, channel_table, now_utc_ms, run
from traffic import Found, Sent, Traffic, free_port, told

from gridpost.ports import FormatOptions

DEVICES = 4
HOUR_MS = 3_600_000
AGENT, SIMULATED_METERS, SPEED = "AGENT-1", 2, 2000
SECOND_KWH = "0.0.0.4.{direction}.1.12.0.0.0.0.0.0.0.0.3.72.0"  # no period stated: the table's 1 s


class Plan(NamedTuple):
    """What the campaign is asked to do."""

    messages: int = 500
    bus_kills: int = 10
    agent_kills: int = 5
    seed: int = 1


@dataclass
class Outcome(Found):
    """Raw counts; `problems` names the first few of what does not hold."""

    bus_kills: int = 0
    agent_kills: int = 0
    resent_an_hour_later: int = 0
    files: int = 0
    files_wrong: int = 0
    agent_messages: int = 0
    agent_intervals: int = 0
    agent_receipts_changed: int = 0
    slowest_start_s: float = 0.0


class EverythingAgain(Traffic):
    """After each restart of the bus each device sends all it ever sent once more, and in the end too."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._resent: dict[int, int] = {}  # by device: the generation for which all was sent again

    def again(self, mine: list[Sent], _chance: random.Random) -> None:
        device = id(mine[0].device)
        while self._resent.get(device, 0) != self._generation:
            self._resent[device] = self._generation
            self.finish(mine)

    def finish(self, mine: list[Sent]) -> None:
        for one in mine:
            self.until_answered(one)


# --- the agent -------------------------------------------------------------------------------------------------------


def agent_table() -> str:
    rows = ["usage_point,meter,channel,reading_type,unit,interval_s,zone,valid_from"]
    for number in range(1, SIMULATED_METERS + 1):
        for stream, direction in (("E", 1), ("B", 19)):
            kind = SECOND_KWH.format(direction=direction)
            rows.append(f"UP-S{number},S{number},{stream}{number},{kind},kWh,1,Etc/UTC,2020-01-01T00:00:00Z")
    return "\n".join(rows) + "\n"


class Agent:
    """`gridpost-ied run` on simulated meters, killed and started again."""

    def __init__(self, folder: Path, bus: LiveBus, seed: int) -> None:
        self._folder = folder
        command = [BIN / "gridpost-ied", "simulate", "--meters", SIMULATED_METERS, "--seed", seed, "--speed", SPEED]
        self._simulator = _spawn([*command, "--json"])
        placed = json.loads(self._simulator.stdout.readline())
        (folder / "channels.csv").write_text(agent_table())
        code = bus.add(AGENT, agent_table())
        made = run(
            "init", "--bus", bus.addresses[0], "--code", code, "--channels", folder / "channels.csv",
            folder / "ied", program="gridpost-ied",
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        meters = [
            {"id": f"S{number}", "host": placed["host"], "port": where["port"], "unit": where["unit"]}
            for number, where in enumerate(placed["meters"], 1)
        ]
        values = {
            "bus": {"url": bus.addresses[0], "timeout_s": 5},
            "identity": {"serial": AGENT},
            "push": {"every_s": 1, "spread_s": 0, "backoff_first_s": 1, "backoff_most_s": 1},
            "poll": {"timeout_s": 1, "tolerance_s": 1},
        }
        (folder / "ied" / "ied.toml").write_text(ied_settings.render(values, meters))
        self._process: subprocess.Popen | None = None
        self._measured = threading.Semaphore(0)

    @property
    def spool(self) -> Path:
        return self._folder / "ied" / "spool.db"

    def start(self) -> None:
        self._measured = threading.Semaphore(0)
        config = self._folder / "ied" / "ied.toml"
        self._process = _spawn([BIN / "gridpost-ied", "run", "--config", config, "--json"])
        threading.Thread(target=self._read, args=(self._process, self._measured), daemon=True).start()

    def _read(self, process: subprocess.Popen, measured: threading.Semaphore) -> None:
        for line in process.stdout:
            if json.loads(line)["event"] == "measured":
                measured.release()

    def wait_until_measured(self, times: int = 1) -> None:
        for _ in range(times):
            if not self._measured.acquire(timeout=60):
                raise AssertionError("the agent measured nothing for a minute")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def finish(self) -> None:
        """Measure twice more, stop, and empty the spool."""
        self.wait_until_measured(2)
        self._process.terminate()
        if self._process.wait(60) != 0:
            raise AssertionError("the agent did not end well")
        config = self._folder / "ied" / "ied.toml"
        done = run("retry", "--config", config, "--json", program="gridpost-ied")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["waiting"] == 0, done.stdout

    def receipts(self) -> dict[str, bytes]:
        out = self._folder / "receipts"
        done = run("receipts", "--config", self._folder / "ied" / "ied.toml", "--out", out, program="gridpost-ied")
        assert done.returncode == 0, done.stderr
        return {file.stem: file.read_bytes() for file in out.glob("*.xml")}

    def close(self) -> None:
        for process in (self._process, self._simulator):
            if process is not None:
                process.kill()
                process.wait()
                process.stdout.close()


def _spawn(command: list[Any]) -> subprocess.Popen:
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)


# --- judging ---------------------------------------------------------------------------------------------------------


def judge_files(folder: Path, sent: list[Sent], outcome: Outcome) -> None:
    """A file a day, revision 1 alone, with the values sent; MDEF holds them as float32."""
    files = {file.name: file for file in folder.iterdir() if not file.name.startswith(".")}
    outcome.files = len(files)
    for one in sent:
        date = time.strftime("%Y%m%d", time.gmtime(one.first_end_utc - 1))
        file = files.pop(f"M-{one.device.serial}_{date}_r01.mde", None)
        if file is None:
            outcome.problem(f"{one.message_id}: no file of that day", "files_wrong")
            continue
        (block,) = Mv90Adapter().parse(file.read_bytes(), FormatOptions(zone=UTC)).readings.blocks
        near = all(abs(Decimal(a) / Decimal(b) - 1) < Decimal("1e-6") if Decimal(b) else Decimal(a) == 0
                   for a, b in zip(block.values, one.values, strict=True))  # fmt: skip
        if not near:
            outcome.problem(f"{file.name}: other values than were sent", "files_wrong")
    for name in sorted(files):
        outcome.problem(f"{name}: a file too many", "files_wrong")


def judge_agent(database: sqlite3.Connection, agent: Agent, outcome: Outcome) -> None:
    """Sum of intervals = difference of the register, in every channel; receipts equal those on file."""
    entries = dict(database.execute("SELECT message_id, receipt FROM entry WHERE sender = ?", (AGENT,)))
    outcome.agent_messages = len(entries)
    for message_id, receipt in agent.receipts().items():
        if entries.get(message_id) != receipt:
            outcome.problem(f"agent's {message_id}: the receipt on file is another", "agent_receipts_changed")
    with sqlite3.connect(f"file:{agent.spool}?mode=ro", uri=True) as spool:
        stands = dict(spool.execute("SELECT stream, raw FROM stand JOIN channel ON channel.id = channel"))
    for stream, raw in stands.items():
        _judge_stream(database, stream, raw, outcome)
    if len(stands) != 2 * SIMULATED_METERS:
        outcome.problem(f"the agent knows {len(stands)} channels")


def _judge_stream(database: sqlite3.Connection, stream: str, raw: int, outcome: Outcome) -> None:
    stored: dict[int, Decimal] = {}
    query = (
        "SELECT interval_end_utc, value, outcome FROM interval_value WHERE stream = ? AND outcome != 'gap'"
        " AND meter LIKE 'S%' ORDER BY seq, line"
    )
    for end, value, kind in database.execute(query, (stream,)):
        number = Decimal(value.strip('"'))
        if kind != "stored":
            outcome.problem(f"agent's {stream} at {end}: {kind}", "double")
        elif stored.setdefault(end, number) != number:  # a mark that comes later repeats the value (decision 18)
            outcome.problem(f"agent's {stream} at {end}: two values", "wrong")
    outcome.agent_intervals += len(stored)
    baseline = database.execute(
        "SELECT r.value FROM register_reading r JOIN channel c ON c.id = r.channel_id"
        " WHERE c.stream = ? AND c.meter LIKE 'S%' ORDER BY r.time_utc LIMIT 1", (stream,),
    ).fetchone()  # fmt: skip
    if baseline is None or sum(stored.values()) != Decimal(raw) / 1000 - Decimal(baseline[0]):
        outcome.problem(f"agent's {stream}: {sum(stored.values())} kWh of intervals, register {baseline} to {raw} Wh",
                        "wrong")  # fmt: skip


# --- the campaign ----------------------------------------------------------------------------------------------------


def campaign(folder: Path, plan: Plan) -> Outcome:
    """Run it in a folder of its own."""
    outcome = Outcome(messages=plan.messages, seed=plan.seed)
    bus = LiveBus.make(folder / "bus", listen={"http": f"127.0.0.1:{free_port()}"})
    agent = None
    try:
        bus.start()
        devices = [bus.enrol(f"IED-{number}", channel_table(f"M-IED-{number}")) for number in range(DEVICES)]
        agent = Agent(folder, bus, plan.seed) if plan.agent_kills else None
        traffic = EverythingAgain(bus, devices, outcome)
        _run(bus, agent, traffic, plan, outcome)
        _an_hour_later(bus, traffic.sent, outcome)
        _wait_for_files(bus, outcome)
        with sqlite3.connect(f"file:{bus.folder / 'gridpost.db'}?mode=ro", uri=True) as database:
            judge_entries(database, traffic.sent, outcome, {AGENT})
            judge_receipts(database, traffic.sent, outcome)
            if agent:
                judge_agent(database, agent, outcome)
        judge_files(bus.folder / "mv90", traffic.sent, outcome)
    finally:
        if agent:
            agent.close()
        if bus.process is not None:
            bus.kill()
    return outcome


def _run(bus: LiveBus, agent: Agent | None, traffic: Traffic, plan: Plan, outcome: Outcome) -> None:
    """Traffic, and the kills in it at places the seed chooses."""
    chance = random.Random(plan.seed)
    if agent:
        agent.start()
        agent.wait_until_measured()
    traffic.start()
    for count, kind in _kills(plan, chance):
        traffic.wait_for_answers(count)
        time.sleep(chance.random() * 0.02)  # anywhere between two answers, not just behind one
        if kind == "bus":
            traffic.went_down()
            bus.kill()
            outcome.bus_kills += 1
            bus.start()
            outcome.slowest_start_s = max(outcome.slowest_start_s, round(bus.started_s, 3))
            traffic.came_up()
        else:
            agent.wait_until_measured()
            agent.kill()
            outcome.agent_kills += 1
            agent.start()
    traffic.join()
    if agent:
        agent.finish()


def _kills(plan: Plan, chance: random.Random) -> Iterator[tuple[int, str]]:
    """Yield (answers to wait for, what to kill), spread over the traffic."""
    kinds = ["bus"] * plan.bus_kills + ["agent"] * plan.agent_kills
    chance.shuffle(kinds)
    places = sorted(chance.sample(range(1, plan.messages), len(kinds)))
    yield from zip(places, kinds, strict=True)


def _an_hour_later(bus: LiveBus, sent: list[Sent], outcome: Outcome) -> None:
    bus.stop()
    usual, bus.command = bus.command, changed_bus.command(HOUR_MS // 1000)
    bus.start()
    for one in sent:
        status, body = bus.wire.post(one.device.seal(one.payload, now_utc_ms() + HOUR_MS))
        outcome.resent_an_hour_later += 1
        if (status, body) != (200, one.receipt):
            outcome.problem(f"{one.message_id}: an hour later {status} and another receipt", "receipts_changed")
    bus.stop()
    bus.command = usual


def _wait_for_files(bus: LiveBus, outcome: Outcome) -> None:
    """Start once more, and give the reader the time it needs to come to the end of the log."""
    bus.start()
    end = time.monotonic() + 120
    while time.monotonic() < end:
        readers = bus.json("status")["readers"]
        begun = any(reader["reader"] == "mv90" for reader in readers)
        if begun and not any(reader["lag"] or reader["waiting"] for reader in readers):
            break
    else:
        outcome.problem("the reader did not come to the end of the log")
    bus.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=Plan().messages)
    parser.add_argument("--bus-kills", type=int, default=Plan().bus_kills)
    parser.add_argument("--agent-kills", type=int, default=Plan().agent_kills)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--keep", type=Path, help="folder to leave everything in")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    plan = Plan(asked.messages, asked.bus_kills, asked.agent_kills, asked.seed)
    if plan.bus_kills + plan.agent_kills >= plan.messages:
        parser.error("more kills than messages")
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        outcome = campaign(folder, plan)
    return told({**asdict(outcome), "ok": outcome.ok}, asked.json)


if __name__ == "__main__":
    sys.exit(main())
