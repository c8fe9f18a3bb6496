"""Power cuts under load, on SQLite: what was not synced is lost, torn or reordered; nothing acknowledged is lost.

    tests/campaigns/powercut.py [--messages 10000] [--cuts 50] [--repeats 5] [--looks 4] [--seed N] [--keep DIR]
                                [--sabotage synchronous-off|answer-before-sync|no-file-sync] [--json]

Four devices push over the wire; 5 % of all messages are sent twice at once. Below the bus a shim (disk_shim.c) writes
down every write, truncation, name and sync of its folder, and every byte it sends. The bus is killed, a place in that
trace is chosen, and its folder is put back to what a disk may hold whose power went there (power_loss.py). Then the bus
starts on it, the devices send again what the last life promised and a hundred older ones, and go on. In the end all is
sent again.

Judged at each start and in the end, from outside:

- lost: a receipt was sent before the cut, and the store has no entry, or in the end not all values;
- double, wrong, phantom: a message or value twice, another value or content than was sent, one that nobody sent;
- receipts_changed, roots_wrong: a repeat or the store has another receipt; not the root over all entries before it;
- files_wrong: a billing file or a tree head that is half, another, or noted as delivered and not there;
- audit_wrong: a start whose line in the audit log hangs on a torn one; init: what it made is not synced when it ends.

`--looks`: further places in each trace, looked at without a bus: only the receipts, by SQLite itself.
Exit status: 0 everything holds, 1 something does not.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from disk_shim import Record, compiler
from disk_world import DELIVERED_TO, DiskFound, Pushing, World, answers, judge_seen, load, program, say
from judging import judge_entries, judge_receipts
from power_loss import SEASONS, Disk, Files, put
from traffic import Sent

OLDER = 100  # of the receipts before the last life, asked for again after each cut

# SQLite told not to sync, by whoever asked it to.
_UNSYNCED = """
import sqlite3, sqlite3.dbapi2
class Unsynced(sqlite3.Connection):
    def execute(self, text, *values):
        return super().execute(text.replace("synchronous=FULL", "synchronous=OFF"), *values)
real = sqlite3.dbapi2.connect
sqlite3.dbapi2.connect = lambda *given, **named: real(*given, **{"factory": Unsynced, **named})
"""
# name -> (what the bus is started with, what the shim does)
SABOTAGES = {
    "": ("", ""),
    "synchronous-off": (_UNSYNCED, ""),
    "answer-before-sync": ("", "late-sync"),
    "no-file-sync": ("", "no-file-sync"),
}


class Plan(NamedTuple):
    """What the campaign is asked to do."""

    messages: int = 10_000
    cuts: int = 50
    repeats: int = 5
    looks: int = 4
    seed: int = 1
    sabotage: str = ""


@dataclass
class Outcome(DiskFound):
    """Raw counts besides those of any campaign on the disk."""

    cuts: int = 0
    looks: int = 0
    repeated: int = 0
    traced: int = 0
    promised_before_cuts: int = 0
    undone_by_cuts: int = 0
    files: int = 0
    sabotage: str = ""


def campaign(place: Path, plan: Plan) -> Outcome:
    """Run it in a folder of its own."""
    outcome = Outcome(messages=plan.messages, seed=plan.seed, sabotage=plan.sabotage)
    code, lie = SABOTAGES[plan.sabotage]
    world = World.make(place, outcome, lie=lie)
    world.command = program(code) if code else None
    again: list[Sent] = []
    try:
        for number in range(plan.cuts):
            again = _life(world, plan, number, again)
            say(f"cut {number + 1} of {plan.cuts}: {_promised(world)} promised, {len(outcome.problems)} problems")
            if len(outcome.problems) > 20:
                return outcome  # damaged beyond what is worth going on with
        _last_life(world, plan, again)
    finally:
        if world.bus.process is not None:
            world.bus.kill()
    return outcome


def _share(world: World, plan: Plan) -> int:
    return -(-plan.messages // len(world.devices))


def _promised(world: World) -> int:
    return sum(one.receipt is not None for one in world.sent.values())


def _start(world: World, where: str) -> None:
    world.start()
    world.judge_promises(where)
    world.judge_files(where)
    world.judge_audit(where)


def _life(world: World, plan: Plan, number: int, again: list[Sent]) -> list[Sent]:
    """Start, push, kill, cut; return what the next life is asked for again."""
    where, outcome = f"after cut {number}", world.found
    assert isinstance(outcome, Outcome)
    _start(world, where)
    older = [one for one in world.sent.values() if one.receipt is not None]
    again = again + world.chance.sample(older, min(OLDER, len(older)))
    pushing = Pushing(world, again, _share(world, plan), plan.repeats).start()
    pushing.wait_for((plan.messages - _promised(world)) // (plan.cuts - number + 1))
    time.sleep(world.chance.random() * 0.02)  # anywhere between two answers, not just behind one
    pushing.is_over = True
    world.bus.kill()
    pushing.join()
    trace = world.shim.taken()
    judge_seen(pushing.seen, trace, outcome)
    promised = sum(message_id not in {one.message_id for one in older} for message_id, _ in answers(trace))
    files, kept = _cut(world, trace)
    _look(world, trace, plan.looks)
    again = world.settle(trace[:kept])
    world.back_to(files)
    outcome.cuts += 1
    outcome.traced += len(trace)
    outcome.repeated += pushing.repeated
    outcome.promised_before_cuts += len(again)
    outcome.undone_by_cuts += promised - sum(one not in older for one in again)
    return again


def _cut(world: World, trace: Sequence[Record]) -> tuple[Files, int]:
    """Choose a place, every other time near the end, and a weather; return what is left, and the place."""
    chance = world.chance
    kept = chance.randint(chance.choice((0, len(trace) * 9 // 10)), len(trace))
    disk = Disk(str(world.folder), world.before, chance).follow(trace[:kept])
    return disk.cut(chance.choice(SEASONS), chance), kept


def _look(world: World, trace: Sequence[Record], looks: int) -> None:
    """Look at other places of the same trace: SQLite recovers, and every receipt sent by then is there."""
    outcome = world.found
    assert isinstance(outcome, Outcome)
    standing = {one.message_id: one.receipt for one in world.sent.values() if one.receipt is not None}
    place = world.folder.with_name("look")
    for _ in range(looks):
        files, kept = _cut(world, trace)
        put(
            {path: content for path, content in files.items() if path.startswith("bus/gridpost.db")} | {"bus": None},
            place,
        )
        outcome.looks += 1
        where = f"look {outcome.looks}, at record {kept} of {len(trace)}"
        try:
            with sqlite3.connect(place / "bus" / "gridpost.db") as database:
                stored = dict(database.execute("SELECT message_id, receipt FROM entry").fetchall())
            database.close()
        except sqlite3.DatabaseError as problem:
            outcome.problem(f"{where}: {problem}", "wrong")
            continue
        for message_id, receipt in (standing | dict(answers(trace[:kept]))).items():
            if stored.get(message_id) != receipt:
                outcome.problem(f"{where}: {message_id} has a receipt and is not in the store as promised", "lost")


def _last_life(world: World, plan: Plan, again: list[Sent]) -> None:
    """Push what is left, send everything again, let the reader come to the end, and judge the whole store."""
    outcome = world.found
    assert isinstance(outcome, Outcome)
    _start(world, f"after cut {outcome.cuts}")
    for todo in (again, None):
        every = [one for one in world.sent.values() if one.receipt is not None] if todo is None else todo
        pushing = Pushing(world, every, _share(world, plan), plan.repeats).start()
        pushing.join()
        outcome.repeated += pushing.repeated
        for message_id, body in pushing.seen.items():
            world.sent[message_id].receipt = world.sent[message_id].receipt or body
    outcome.messages = _promised(world)
    _wait_for_files(world)
    with world.database() as database:
        judge_entries(database, list(world.sent.values()), outcome)
        judge_receipts(database, list(world.sent.values()), outcome)
    database.close()
    world.judge_promises("in the end")
    world.judge_files("in the end")
    outcome.files = sum(not name.startswith(".") for name in load(world.bus.folder / DELIVERED_TO))
    days = sum(_share(world, plan) // 4 for _ in world.devices)
    if outcome.files < days:
        outcome.problem(f"{outcome.files} billing files of {days} days", "files_wrong")
    world.bus.stop()


def _wait_for_files(world: World) -> None:
    """Wait until the reader is at the end of the log and has delivered what it made."""
    end = time.monotonic() + 600
    while time.monotonic() < end:
        (reader,) = world.bus.json("status")["readers"] or [{"lag": 1, "waiting": 1}]
        if not reader["lag"] and not reader["waiting"]:
            return
        time.sleep(0.5)
    world.found.problem("the reader did not come to the end of the log")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("messages", "cuts", "repeats", "looks"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Plan(), name))
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--sabotage", choices=sorted(SABOTAGES), default="")
    parser.add_argument("--keep", type=Path, help="folder to leave everything in")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if compiler() is None:
        parser.error("there is no C compiler (cc, gcc or clang), which the shim below the bus needs")
    plan = Plan(asked.messages, asked.cuts, asked.repeats, asked.looks, asked.seed, asked.sabotage)
    with tempfile.TemporaryDirectory() as temporary:
        outcome = campaign(asked.keep or Path(temporary), plan)
    result = {**asdict(outcome), "ok": outcome.ok}
    print(json.dumps(result) if asked.json else "\n".join(f"{name}: {value}" for name, value in result.items()))
    return 0 if outcome.ok else 1


if __name__ == "__main__":
    sys.exit(main())
