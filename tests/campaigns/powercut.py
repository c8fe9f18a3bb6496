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
import contextlib
import json
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from disk_shim import Record, compiler
from disk_world import DELIVERED_TO, Cut, DiskFound, Pushing, World, answers, judge_seen, load, program, say
from judging import judge_entries, judge_receipts
from power_loss import put
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
    looked_for: int = 0
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
    last: Cut | None = None
    try:
        while outcome.cuts < plan.cuts:
            again, last = _life(world, plan, last, again)
            say(f"cut {outcome.cuts} of {plan.cuts}: {_promised(world)} promised, {len(outcome.problems)} problems")
            if len(outcome.problems) > 20:
                return outcome  # damaged beyond what is worth going on with
        _last_life(world, plan, last, again)
    finally:
        if world.bus.process is not None:
            world.bus.kill()
    return outcome


def _share(world: World, plan: Plan) -> int:
    return -(-plan.messages // len(world.devices))


def _promised(world: World) -> int:
    return sum(one.receipt is not None for one in world.sent.values())


def _start(world: World, last: Cut | None) -> None:
    """Start on what the last cut left, and judge."""
    outcome = world.found
    assert isinstance(outcome, Outcome)
    where, problems_before = f"after cut {outcome.cuts}", len(outcome.problems)
    world.start()
    world.judge_promises(where)
    world.judge_files(where)
    world.judge_audit(where)
    if last is not None:
        world.keep(last, problems_before)


def _life(world: World, plan: Plan, last: Cut | None, again: list[Sent]) -> tuple[list[Sent], Cut]:
    """Start, push, kill, cut; return what the next life is asked for again, and the cut."""
    outcome = world.found
    assert isinstance(outcome, Outcome)
    _start(world, last)
    older = [one for one in world.sent.values() if one.receipt is not None]
    again = again + world.chance.sample(older, min(OLDER, len(older)))
    pushing = Pushing(world, again, _share(world, plan), plan.repeats).start()
    pushing.wait_for((plan.messages - _promised(world)) // (plan.cuts - outcome.cuts + 1))
    time.sleep(world.chance.random() * 0.02)  # anywhere between two answers, not just behind one
    pushing.is_over = True
    world.bus.kill()
    pushing.join()
    trace = world.shim.taken()
    judge_seen(pushing.seen, trace, outcome)
    promised = sum(message_id not in {one.message_id for one in older} for message_id, _ in answers(trace))
    _look(world, trace, plan.looks)
    cut = Cut.choose(world, trace)
    again = world.settle(trace[: cut.kept])
    world.back_to(cut.files)
    outcome.cuts += 1
    outcome.traced += len(trace)
    outcome.repeated += pushing.repeated
    outcome.promised_before_cuts += len(again)
    outcome.undone_by_cuts += promised - sum(one not in older for one in again)
    return again, cut


def _look(world: World, trace: Sequence[Record], looks: int) -> None:
    """Look at other places of the same trace: SQLite recovers, and every receipt sent by then is there."""
    outcome = world.found
    assert isinstance(outcome, Outcome)
    standing = {one.message_id: one.receipt for one in world.sent.values() if one.receipt is not None}
    for _ in range(looks):
        cut, problems_before = Cut.choose(world, trace), len(outcome.problems)
        outcome.looks += 1
        where = f"look {outcome.looks}, at record {cut.kept} of {len(trace)} ({cut.weather})"
        receipts = standing | dict(answers(trace[: cut.kept]))
        outcome.looked_for += len(receipts)
        _judge_look(world, cut, receipts, where)
        world.keep(cut, problems_before)


def _judge_look(world: World, cut: Cut, receipts: Mapping[str, bytes], where: str) -> None:
    place = world.folder.with_name("look")
    database = {path: content for path, content in cut.files.items() if path.startswith("bus/gridpost.db")}
    put(database | {"bus": None}, place)
    try:
        with contextlib.closing(sqlite3.connect(place / "bus" / "gridpost.db")) as opened:
            stored = dict(opened.execute("SELECT message_id, receipt FROM entry").fetchall())
    except sqlite3.DatabaseError as problem:
        world.found.problem(f"{where}: {problem}", "wrong")
        return
    for message_id, receipt in receipts.items():
        if stored.get(message_id) != receipt:
            world.found.problem(f"{where}: {message_id} has a receipt and is not in the store as promised", "lost")


def _last_life(world: World, plan: Plan, last: Cut | None, again: list[Sent]) -> None:
    """Push what is left, send everything again, let the reader come to the end, and judge the whole store."""
    outcome = world.found
    assert isinstance(outcome, Outcome)
    _start(world, last)
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
        readers = world.bus.json("status")["readers"]
        begun = any(reader["reader"] == "mv90" for reader in readers)
        if begun and not any(reader["lag"] or reader["waiting"] for reader in readers):
            return
        time.sleep(0.5)
    world.found.problem("the reader did not come to the end of the log")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("messages", "cuts", "repeats", "looks"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Plan(), name))
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--sabotage", choices=sorted(SABOTAGES), default="")
    parser.add_argument("--keep", type=Path, help="folder to leave everything in; damage is left in one anyway")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if compiler() is None:
        parser.error("there is no C compiler (cc, gcc or clang), which the shim below the bus needs")
    plan = Plan(asked.messages, asked.cuts, asked.repeats, asked.looks, asked.seed, asked.sabotage)
    place = asked.keep or Path(tempfile.mkdtemp(prefix="powercut-"))
    try:
        outcome = campaign(place, plan)
        is_left = asked.keep or (outcome.evidence and not plan.sabotage)
    except BaseException:
        say(f"left in {place}")
        raise
    if not is_left:
        shutil.rmtree(place)
    result = {**asdict(outcome), "ok": outcome.ok}
    print(json.dumps(result) if asked.json else "\n".join(f"{name}: {value}" for name, value in result.items()))
    return 0 if outcome.ok else 1


if __name__ == "__main__":
    sys.exit(main())
