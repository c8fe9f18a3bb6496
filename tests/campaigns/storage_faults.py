"""A disk that fails: no room, errors and failed syncs at every n-th call below the bus; nothing acknowledged is lost.

    tests/campaigns/storage_faults.py [--most 200] [--kinds enospc,eio,sync,full,checkpoint] [--seed N] [--json]
                                      [--sabotage ignore-sync-error|answer-before-sync|go-on|quiet-checkpoint]

For each kind and n a fresh store, and a bus above a shim (disk_shim.c) that lets every n-th call on its folder fail:

- enospc: writes and new files, "no space left"; afterwards there is room again, in the same process;
- eio: reads and writes, "input/output error";
- sync: fsync and fdatasync fail, and what they should have written may be dropped (power_loss.py);
- full, n to a twentieth of `--most`: n messages, then no write succeeds any more: listings must work; then room again;
- checkpoint, n to a fortieth: the n-th sync of the database file itself, while a reader holds a snapshot now and then.

Devices push until the process ends or all is answered. Then the power goes (or, at every other n, the bus is stopped
first), the bus is started without the shim on what the disk holds, and what has no receipt is sent again. Judged:

- lost, double, wrong, phantom, receipts_changed, roots_wrong: as in powercut.py, of every receipt that left the bus;
- not_stopped: the bus went on after a failed sync of its database; unclean: an exit code other than 0 and 1, a
  traceback, or no line that says why; not_restarted: it did not start again by itself;
- refused_wrongly: an answer other than 200 and 503 with Retry-After; not_resumed: none although there was room again;
- listings: a command that lists and did not, on a full disk.

Exit status: 0 everything holds, 1 something does not.
"""

from __future__ import annotations

import argparse
import http.client
import multiprocessing
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from disk_shim import CREATES, EIO, ENOSPC, MAIN_SYNCS, READS, SYNCS, WRITES, Record, compiler
from disk_world import DiskFound, World, program, say
from judging import judge_entries, judge_receipts
from power_loss import DROUGHT, SEASONS, Disk, load
from traffic import Sent, told

WORKERS = 2
AT_ONCE = 3  # messages on their way
PATIENCE_S = 120.0
WELL = 20  # times in a row
FEW = 12  # messages: their transactions are more than 200 writes
_STORE_FAILED = "error[store-unavailable]: the store failed"
SNAPSHOT, ROUND = (25, 75), 135  # a reader holds one between these two messages of so many


class Fault(NamedTuple):
    """Which calls fail, with what, and how many of `--most` n are tried."""

    calls: int
    error: int
    share: int = 1


KINDS = {
    "enospc": Fault(WRITES | CREATES, ENOSPC),
    "eio": Fault(WRITES | READS, EIO),
    "sync": Fault(SYNCS, EIO),
    "full": Fault(WRITES | CREATES, ENOSPC, 20),
    "checkpoint": Fault(MAIN_SYNCS, EIO, 40),
}
LISTINGS = (("status",), ("ied", "list"), ("dead-letters",), ("log", "heads"))

_GO_ON = """
from gridpost.server.store import sqlite
sqlite.SqliteDialect.verdict = lambda *_: sqlite.Verdict.LATER
"""
_QUIET = """
from sqlalchemy.exc import DBAPIError
from gridpost.server.store import sqlite
real = sqlite.SqliteDialect.checkpoint
def quiet(dialect):
    try:
        real(dialect)
    except DBAPIError:
        pass
sqlite.SqliteDialect.checkpoint = quiet
"""
# name -> (what the bus is started with, what the shim says of syncs, whether it reports success where it failed)
SABOTAGES = {
    "": ("", "", False),
    "ignore-sync-error": ("", "", True),
    "answer-before-sync": ("", "late-sync", False),
    "go-on": (_GO_ON, "", False),
    "quiet-checkpoint": (_QUIET, "", False),
}


class Plan(NamedTuple):
    """What the campaign is asked to do."""

    most: int = 200
    kinds: tuple[str, ...] = tuple(KINDS)
    seed: int = 1
    sabotage: str = ""


class Case(NamedTuple):
    """One life of a bus."""

    kind: str
    n: int


@dataclass
class Outcome(DiskFound):
    """Raw counts; `by_kind`: cases, faults, answers and ends of each kind."""

    not_stopped: int = 0
    unclean: int = 0
    not_restarted: int = 0
    refused_wrongly: int = 0
    not_resumed: int = 0
    listings: int = 0
    by_kind: dict[str, Counter[str]] = field(default_factory=dict)
    sabotage: str = ""

    def problem(self, text: str, counter: str = "") -> None:
        """Take it down, and say it at once: the whole takes long."""
        say(text)
        super().problem(text, counter)

    def add(self, other: Outcome) -> None:
        """Take over what another worker found."""
        for name, value in vars(other).items():
            if isinstance(value, int | list) and name != "seed":
                setattr(self, name, getattr(self, name) + value)
        for kind, counts in other.by_kind.items():
            self.by_kind.setdefault(kind, Counter()).update(counts)
        self.slowest_start_s = max(self.slowest_start_s, other.slowest_start_s)

    def told(self) -> dict[str, Any]:
        """Return what is printed."""
        kinds = {kind: dict(sorted(counts.items())) for kind, counts in self.by_kind.items()}
        return {**vars(self), "by_kind": kinds, "ok": self.ok}


def cases(plan: Plan) -> list[Case]:
    """Return what is tried, the kinds mixed, so that each worker has some of each."""
    every = [Case(kind, n) for kind in plan.kinds for n in range(1, max(1, plan.most // KINDS[kind].share) + 1)]
    random.Random(plan.seed).shuffle(every)
    return every


def campaign(place: Path, plan: Plan, workers: int = WORKERS) -> Outcome:
    """Run it in folders of its own below `place`."""
    outcome = Outcome(seed=plan.seed, sabotage=plan.sabotage)
    every = cases(plan)
    shares = [every[number::workers] for number in range(workers)]
    if workers == 1:
        outcome.add(work(place, plan, every))
        return outcome
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        places = [place / f"worker-{number}" for number in range(workers)]
        for found in pool.map(work, places, [plan] * workers, shares):
            outcome.add(found)
    return outcome


def work(place: Path, plan: Plan, todo: Sequence[Case]) -> Outcome:
    """Make a store and try each case on a copy of it."""
    outcome = Outcome(seed=plan.seed, sabotage=plan.sabotage)
    code, lie, swallow = SABOTAGES[plan.sabotage]
    world = World.make(place, outcome, devices=AT_ONCE, lie=lie)
    prepared = load(world.folder)
    for number, case in enumerate(todo, 1):
        world.back_to(prepared)
        world.sent.clear()
        world.chance = random.Random(f"{plan.seed}-{case}")
        life = Life(world, case, outcome, swallow)
        life.command = program(code) if code else world.bus.command
        try:
            life.run()
        finally:
            if world.bus.process is not None:
                world.bus.kill()
            world.shim.control.disarm()
        if not number % 10:
            say(f"{number} of {len(todo)}: {sum(c['faults'] for c in outcome.by_kind.values())} faults, "
                f"{len(outcome.problems)} problems")  # fmt: skip
        if len(outcome.problems) > 20:
            break  # damaged beyond what is worth going on with
    world.shim.control.close()
    return outcome


class Life:
    """A bus above a disk that fails, its end, and the bus after it."""

    command: tuple[str, ...]

    def __init__(self, world: World, case: Case, found: Outcome, swallow: bool) -> None:
        self._world, self._case, self._found, self._swallow = world, case, found, swallow
        self._fault = KINDS[case.kind]
        self.counts = found.by_kind.setdefault(case.kind, Counter())
        self._is_down = False
        self._usual = world.bus.command

    def _problem(self, text: str, counter: str = "") -> None:
        self._found.problem(f"{self._case.kind} {self._case.n}, seed {self._found.seed}: {text}", counter)

    def run(self) -> None:
        self.counts["cases"] += 1
        bus, control = self._world.bus, self._world.shim.control
        if self._case.kind == "full":
            control.disarm()
        else:
            self._arm(self._case.n)
        if self._start():
            self._push_under_fault()
        self.counts["faults"] += control.fired
        fired = control.fired
        control.disarm()
        if bus.process is not None and fired and self._case.kind in ("enospc", "full"):
            self._resume()
        trace = self._end(fired)
        self._after(trace)

    def _arm(self, every: int) -> None:
        self._world.shim.control.arm(self._fault.calls, self._fault.error, every, self._swallow)

    # --- the failing life ---

    def _start(self) -> bool:
        """Start it, traced; a bus that cannot start must say why."""
        bus = self._world.bus
        bus.command = self.command
        try:
            self._world.start()
        except (AssertionError, KeyError):  # KeyError: it printed an error in the addresses' place
            assert bus.process is not None
            self.counts["not_started"] += 1
            self._judge_end(bus.process.wait(PATIENCE_S))
            return False
        finally:
            bus.command = self._usual
        return True

    def _push_under_fault(self) -> None:
        if self._case.kind == "full":
            self._push(self._messages(self._case.n))
            self._arm(1)
            self._push(self._messages(AT_ONCE))
            self._list()
        elif self._case.kind == "checkpoint":
            for _ in range(self._case.n + 1):
                held, released = SNAPSHOT
                self._push(self._messages(held))
                with self._snapshot():
                    self._push(self._messages(released - held))
                self._push(self._messages(ROUND - released))
        else:
            self._push(self._messages(FEW + self._case.n * (self._case.kind == "sync")))

    def _messages(self, count: int) -> list[Sent]:
        devices, first = self._world.devices, len(self._world.sent)
        return [
            self._world.new_message(devices[number % len(devices)], number // len(devices))
            for number in range(first, first + count)
        ]

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """A reader that is slow: what was written after it began cannot be moved to the database file."""
        with self._world.database() as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM entry").fetchall()
            yield
        reader.close()

    def _push(self, todo: Sequence[Sent], judge: Callable[[Sent, int], None] | None = None) -> None:
        at_once = 1 if self._fault.calls & (SYNCS | MAIN_SYNCS) else AT_ONCE  # one: a sync for each message
        with ThreadPoolExecutor(at_once) as pool:
            for one, status in zip(todo, pool.map(self._post, todo), strict=True):
                if judge is not None:
                    judge(one, status)

    def _post(self, one: Sent) -> int:
        """Send it; return the status, 0 when there is no bus any more."""
        if self._is_down:
            return 0
        raw = one.device.seal(one.payload)
        try:
            kind = {"Content-Type": "text/xml; charset=utf-8"}
            status, body, headers = self._world.bus.wire.request("POST", "/metering", raw, kind)
        except (OSError, http.client.HTTPException):
            self._is_down = True
            return 0
        self.counts[f"answers_{status}"] += 1
        if status == 503 and not headers.get("Retry-After", "").isdigit():
            self._problem(f"{one.message_id}: 503 without Retry-After", "refused_wrongly")
        elif status not in (200, 503):
            self._problem(f"{one.message_id}: {status} {body[:300]!r}", "refused_wrongly")
        return int(status)

    def _list(self) -> None:
        """The commands that list must do so beside a bus that cannot write, themselves unable to."""
        for command in LISTINGS:
            done = self._world.bus.run(*command, "--json", env=self._world.shim.environment(traced=False))
            self.counts["listings"] += 1
            if done.returncode != 0:
                self._problem(f"{' '.join(command)}: exit {done.returncode}: {done.stderr[-300:]}", "listings")

    def _resume(self) -> None:
        """There is room again: all that was told to come later is taken, by the same process."""
        self._push(list(self._world.sent.values()), lambda one, status: self._resumed(one, status))

    def _resumed(self, one: Sent, status: int) -> None:
        if status != 200:
            self._problem(f"{one.message_id}: {status} although there is room again", "not_resumed")

    def _end(self, fired: int) -> list[Record]:
        """See it end, or end it; return the trace."""
        bus = self._world.bus
        errors_at = len(bus.errors())
        must_stop = self._has_failed_sync()
        if bus.process is not None and (self._is_down or must_stop):
            self._wait_for_end(must_stop)
        is_stopping = bus.process is not None and self._case.n % 2
        if is_stopping:
            code = bus.stop()
            self.counts["stopped_by_us"] += 1
            said = bus.errors()[errors_at:]
            if code != 0 and not (code == 1 and _STORE_FAILED in said):  # the disk may fail while it stops, too
                self._problem(f"told to stop it ended with {code}: {said[-500:]}", "unclean")
        elif bus.process is not None:
            bus.kill()
            self.counts["killed_by_us"] += 1
        if "Traceback" in bus.errors():
            self._problem(f"a traceback: ...{bus.errors()[-1500:]}", "unclean")
        return self._world.shim.taken()

    def _has_failed_sync(self) -> bool:
        """Tell from the trace so far whether a sync of the database failed and the bus was told so."""
        return not self._swallow and failed_syncs(self._world.shim.so_far()) > 0

    def _wait_for_end(self, must_stop: bool) -> None:
        """Wait until it has ended; that it still is in good health shows that it does not mean to."""
        process = self._world.bus.process
        assert process is not None
        end, well = time.monotonic() + PATIENCE_S, 0
        while process.poll() is None and time.monotonic() < end and well < WELL:
            well = well + 1 if self._is_well() else 0
            time.sleep(0.1)
        if process.poll() is not None:
            self.counts["stopped_itself"] += 1
            return self._judge_end(process.returncode)
        if must_stop:
            return self._problem("a sync of the database failed, and it went on", "not_stopped")
        return self._problem("a connection failed though it runs", "unclean")

    def _is_well(self) -> bool:
        try:
            return bool(self._world.bus.wire.get("/health")[0] == 200)
        except (OSError, http.client.HTTPException):
            return False

    def _judge_end(self, code: int) -> None:
        bus = self._world.bus
        if code != 1 or "error[" not in bus.errors():
            self._problem(f"it ended by itself with {code}: ...{bus.errors()[-500:]}", "unclean")
        bus.wait()

    # --- after it ---

    def _after(self, trace: Sequence[Record]) -> None:
        """Let the power go, start without the shim, send again, judge the whole store."""
        world, found = self._world, self._found
        weather = world.chance.choice((DROUGHT, *SEASONS))
        world.back_to(Disk(str(world.folder), world.before, world.chance).follow(trace).cut(weather, world.chance))
        world.settle(trace)
        self.counts["promised"] += sum(one.receipt is not None for one in world.sent.values())
        try:
            world.bus.start()
        except (AssertionError, KeyError) as problem:
            return self._problem(f"not started again: {str(problem)[-500:]}", "not_restarted")
        found.slowest_start_s = max(found.slowest_start_s, round(world.bus.started_s, 3))
        self._is_down = False
        try:
            self._judge()
        except sqlite3.DatabaseError as problem:
            self._problem(f"the database is damaged: {problem}", "wrong")
        found.messages += len(world.sent)
        world.bus.kill()
        return None

    def _judge(self) -> None:
        world, found, where = self._world, self._found, f"{self._case.kind} {self._case.n}"
        world.judge_promises(where)
        self._send_again()
        with world.database() as database:
            judge_entries(database, list(world.sent.values()), found)
            judge_receipts(database, list(world.sent.values()), found)
        database.close()
        world.judge_files(where)

    def _send_again(self) -> None:
        """What has no receipt yet, and the last few that have."""
        world = self._world
        for one in [one for one in world.sent.values() if one.receipt is None] + list(world.sent.values())[-AT_ONCE:]:
            status, body = world.bus.wire.post(one.device.seal(one.payload))
            self._found.resent += 1
            if status != 200:
                self._problem(f"{one.message_id}: {status} after the restart: {body[:300]!r}", "lost")
            elif one.receipt not in (None, body):
                self._problem(f"{one.message_id}: a repeat got another receipt", "receipts_changed")
            else:
                one.receipt = body


def failed_syncs(trace: Sequence[Record]) -> int:
    """Count the failed syncs of a database and its log in a trace."""
    names: dict[tuple[int, int], str] = {}
    failed = 0
    for record in trace:
        if record.op == "O":
            names[record.where] = Path(record.path).name
        elif record.op == "Z" and record.number:
            failed += ".db" in names.get(record.where, "")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--most", type=int, default=Plan().most, help="n goes from 1 to this")
    parser.add_argument("--kinds", default=",".join(KINDS), help="which of them, comma-separated")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--sabotage", choices=sorted(SABOTAGES), default="")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    kinds = tuple(asked.kinds.split(","))
    if not set(kinds) <= set(KINDS) or asked.most < 1:
        parser.error(f"--kinds: some of {', '.join(KINDS)}; --most: 1 at least")
    if compiler() is None:
        parser.error("there is no C compiler (cc, gcc or clang), which the shim below the bus needs")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        outcome = campaign(Path(temporary), Plan(asked.most, kinds, asked.seed, asked.sabotage))
    say(f"{time.monotonic() - began:.0f} s")
    return told(outcome.told(), asked.json)


if __name__ == "__main__":
    sys.exit(main())
