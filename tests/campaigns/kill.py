"""`kill -9` of the bus under load: nothing lost, double, wrong or made up; SQLite, and PostgreSQL with two processes.

    tests/campaigns/kill.py [--store sqlite|postgres|both] [--messages 10000] [--kills 50] [--repeats 5] [--seed N]
                            [--recovery-s 2] [--sabotage NAME] [--json]

Eight devices push over the wire. After one message in twenty (5 %) a device sends one of its earlier ones once more:
the same bytes, sealed anew, or twice at the same moment on two connections; and whatever got no answer is sent again.
Meanwhile processes are killed at random moments, four times in five while they serve and once while they start:

- SQLite: the bus;
- PostgreSQL: one of the two children, the parent alone (its children then end by themselves, beside their successors),
  or all of them at once.

Judged from outside, by SQL and with the hashing of RFC 9162 written a second time, for each store:

- lost, double, wrong: of the messages and of each of their values, everything having been acknowledged in the end;
- phantom: an entry that nobody sent or whose content nobody sent, a value of an interval that nobody sent;
- surprise: a traceback in what the bus wrote to standard error;
- receipts: all answers to a message the same bytes, which are those on file, with their place and the root before it;
- recovery: from the kill, for a bus that was killed while it started from that second one, to the first answer to
  something sent after it; without the time in which this campaign's own clock-watching thread stood still.

Exit status: 0 everything holds, 1 something does not.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psutil

sys.path.insert(0, str(Path(__file__).parent))

import changed_bus
from judging import judge_entries, judge_receipts
from live_bus import BIN, LiveBus, channel_table
from traffic import DEVICES, MOST_MESSAGES, Found, Sent, SomeAgain, Traffic, free_port, told

SABOTAGES = ("no-repeat-lookup", "answer-before-commit", "forget-values", "change-values", "add-entries")
WITHIN_S = 0.05  # anywhere between two answers, not just behind one
START_S = 0.8  # a bus that starts is killed within this time


class Plan(NamedTuple):
    """What the campaign is asked to do."""

    messages: int = 10_000
    kills: int = 50
    repeats: int = 5  # percent
    seed: int = 1
    recovery_s: float = 2.0
    sabotage: str = ""
    devices: int = DEVICES


@dataclass
class Outcome(Found):
    """Raw counts for one store."""

    store: str = ""
    kills: dict[str, int] = field(default_factory=dict)
    entries: int = 0
    partitions: int = 0
    slowest_recovery_s: float = 0.0
    median_recovery_s: float = 0.0
    recoveries_too_slow: int = 0
    slowest_return_s: float = 0.0
    seconds: float = 0.0


# --- the stores ------------------------------------------------------------------------------------------------------


class Place(Protocol):
    """Where a store is, how a bus on it is killed, and how the store is read."""

    kinds: tuple[str, ...]
    arguments: tuple[str, ...]

    def make(self, folder: Path, **sections: Any) -> LiveBus: ...

    def connect(self, bus: LiveBus) -> Any: ...

    def close(self) -> None: ...


class Sqlite:
    """A file beside the bus's settings."""

    kinds = ("bus",)
    arguments: tuple[str, ...] = ()

    def make(self, folder: Path, **sections: Any) -> LiveBus:
        return LiveBus.make(folder, **sections)

    def connect(self, bus: LiveBus) -> Any:
        return contextlib.closing(sqlite3.connect(f"file:{bus.folder / 'gridpost.db'}?mode=ro", uri=True))

    def close(self) -> None:
        """Nothing runs."""


class Postgres:
    """A database of a server of its own, two bus processes."""

    kinds = ("child", "child", "parent", "all")
    arguments = ("--processes", "2")

    def __init__(self) -> None:
        from postgres_server import PostgresServer

        self._server = PostgresServer.start()
        self._url = self._server.url("", create="kill")

    def make(self, folder: Path, **sections: Any) -> LiveBus:
        return LiveBus.make(folder, bus={"database": self._url}, **sections)

    def connect(self, _bus: LiveBus) -> Any:
        return self._server.connect(self._url)

    def close(self) -> None:
        self._server.close()


PLACES: dict[str, type[Place]] = {"sqlite": Sqlite, "postgres": Postgres}


# --- the kills -------------------------------------------------------------------------------------------------------


class Stalls:
    """Notices when the whole machine, or all that was started here, is held up by somebody else."""

    TICK_S, LONG_S = 0.05, 0.5

    def __init__(self) -> None:
        self._gaps: list[tuple[float, float]] = []
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._over.wait(self.TICK_S):
            now = time.monotonic()
            if now - last > self.LONG_S:
                self._gaps.append((last, now))
            last = now

    def since(self, moment_s: float) -> float:
        """Seconds that stood still after a monotonic moment."""
        return sum(end - max(begin, moment_s) for begin, end in self._gaps if end > moment_s)

    def close(self) -> None:
        self._over.set()


class Killer:
    """Kills processes of a bus and sees to it that there is a bus again."""

    def __init__(self, bus: LiveBus, traffic: Traffic, chance: random.Random) -> None:
        self._bus, self._traffic, self._chance = bus, traffic, chance
        self._ever: list[psutil.Process] = []
        self._stalls = Stalls()
        self.recoveries_s: list[float] = []

    def kill(self, kind: str) -> None:
        """Kill what is named; ``starting`` a whole bus, and its successor while that starts."""
        began = time.monotonic()
        if kind == "child":
            self._chance.choice(self._children()).kill()
        else:
            began = self._restart(kind)
        took_s = self._traffic.wait_for_answer_since(began)
        self.recoveries_s.append(round(took_s - self._stalls.since(began), 3))

    def sweep(self) -> None:
        """End whatever is still there of the bus."""
        self._stalls.close()
        if self._bus.process is not None:
            self._family()
            self._bus.kill()
        for process in self._ever:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _restart(self, kind: str) -> float:
        self._traffic.went_down()
        began = self._down(all_of_it=kind != "parent")
        if kind == "starting":
            self._spawn()
            time.sleep(self._chance.random() * START_S)  # the moment is the seed's
            began = self._down(all_of_it=True)
        self._bus.start()
        self._traffic.came_up()
        return began

    def _down(self, all_of_it: bool) -> float:
        parent, *children = self._family()
        began = time.monotonic()
        parent.kill()
        for child in children if all_of_it else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self._bus.wait()
        return began

    def _spawn(self) -> None:
        command = [*self._bus.command, "--config", str(self._bus.config), "--json"]
        with (self._bus.folder / "stderr.txt").open("ab") as errors:
            self._bus.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)

    def _family(self) -> list[psutil.Process]:
        parent = psutil.Process(self._bus.process.pid)
        family = [parent, *parent.children(recursive=True)]
        self._ever += family[1:]
        return family

    def _children(self) -> list[psutil.Process]:
        """Those there are; both may wait to be started again."""
        end = time.monotonic() + 60
        while not (children := self._family()[1:]):
            if time.monotonic() > end:
                raise AssertionError("no child was started for a minute")
            time.sleep(0.02)  # between two looks
        return children


def schedule(plan: Plan, kinds: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yield (answers to wait for, what to kill): one in five while it starts, the others all kinds in turn."""
    chance = random.Random(plan.seed)
    starting = plan.kills // 5
    chosen = ["starting"] * starting + [kinds[number % len(kinds)] for number in range(plan.kills - starting)]
    chance.shuffle(chosen)
    yield from zip(sorted(chance.sample(range(1, plan.messages), plan.kills)), chosen, strict=True)


# --- the campaign ----------------------------------------------------------------------------------------------------


def campaign(folder: Path, store: str, plan: Plan) -> Outcome:
    """Run it on one store in a folder of its own."""
    outcome = Outcome(messages=plan.messages, seed=plan.seed, store=store)
    place, began = PLACES[store](), time.monotonic()
    try:
        bus = place.make(folder / store, listen={"http": f"127.0.0.1:{free_port()}"}, mv90={"enabled": False})
        bus.command = (str(BIN / "gridpost"), "serve", *place.arguments)
        if plan.sabotage:
            bus.command = changed_bus.command(damage=plan.sabotage, arguments=place.arguments)
        bus.start()
        devices = [bus.enrol(f"IED-{number}", channel_table(f"M-IED-{number}")) for number in range(plan.devices)]
        traffic = SomeAgain(bus, devices, outcome)
        traffic.repeats = plan.repeats
        _run(bus, traffic, plan, outcome)
        with place.connect(bus) as database:
            _judge(database, traffic.sent, plan, outcome)
    finally:
        place.close()
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def _run(bus: LiveBus, traffic: SomeAgain, plan: Plan, outcome: Outcome) -> None:
    """Traffic, and the kills in it; then the bus is stopped as it should be."""
    chance = random.Random(f"{plan.seed}-moments")
    killer = Killer(bus, traffic, chance)
    try:
        traffic.start()
        for number, (count, kind) in enumerate(schedule(plan, PLACES[outcome.store].kinds), 1):
            traffic.wait_for_answers(count)
            time.sleep(chance.random() * WITHIN_S)
            killer.kill(kind)
            outcome.kills[kind] = outcome.kills.get(kind, 0) + 1
            print(f"{outcome.store}: kill {number}, {kind}, {killer.recoveries_s[-1]} s", file=sys.stderr)
        traffic.join()
        if bus.stop() != 0:
            outcome.problem(f"the bus did not end well: {bus.errors()[-300:]}")
    finally:
        killer.sweep()
    if "Traceback" in bus.errors():
        outcome.problem(f"the bus was surprised: {bus.errors()[-600:]}")
    _judge_recoveries(killer.recoveries_s, plan, outcome)
    outcome.slowest_return_s = slowest_return_s(bus)


def _judge_recoveries(recoveries_s: list[float], plan: Plan, outcome: Outcome) -> None:
    outcome.slowest_recovery_s = max(recoveries_s, default=0.0)
    outcome.median_recovery_s = round(statistics.median(recoveries_s), 3) if recoveries_s else 0.0
    for number, one in enumerate(recoveries_s, 1):
        if one > plan.recovery_s:
            outcome.problem(f"kill {number}: {one} s until the bus answered again", "recoveries_too_slow")


def slowest_return_s(bus: LiveBus) -> float:
    """The longest time from a child's end to the next start of one, by the audit log; 0 where there are no children."""
    ended, slowest = None, 0.0
    for line in bus.audit():
        if line["event"] == "process-ended":
            ended = ended or datetime.fromisoformat(line["time"])
        elif line["event"] == "started" and ended:
            slowest, ended = max(slowest, (datetime.fromisoformat(line["time"]) - ended).total_seconds()), None
    return slowest


def _judge(database: Any, sent: list[Sent], plan: Plan, outcome: Outcome) -> None:
    query = "SELECT count(*), count(DISTINCT partition) FROM entry"
    outcome.entries, outcome.partitions = database.execute(query).fetchone()
    if len(sent) != plan.messages:
        outcome.problem(f"only {len(sent)} messages were sent")
    judge_entries(database, sent, outcome)
    judge_receipts(database, sent, outcome)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    usual = Plan()
    parser.add_argument("--store", choices=[*PLACES, "both"], default="both")
    parser.add_argument("--messages", type=int, default=usual.messages)
    parser.add_argument("--kills", type=int, default=usual.kills)
    parser.add_argument("--repeats", type=int, default=usual.repeats, help="percent")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--recovery-s", type=float, default=usual.recovery_s, help="the longest that is accepted")
    parser.add_argument("--sabotage", choices=SABOTAGES, default="")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if not asked.kills < asked.messages <= MOST_MESSAGES:
        parser.error(f"more messages than kills, and at most {MOST_MESSAGES}")
    plan = Plan(asked.messages, asked.kills, asked.repeats, asked.seed, asked.recovery_s, asked.sabotage)
    stores = list(PLACES) if asked.store == "both" else [asked.store]
    outcomes = []
    for store in stores:
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(campaign(Path(folder), store, plan))
    result = {outcome.store: {**asdict(outcome), "ok": outcome.ok} for outcome in outcomes}
    return told({**result, "seed": plan.seed, "ok": all(one.ok for one in outcomes)}, asked.json)


if __name__ == "__main__":
    sys.exit(main())
