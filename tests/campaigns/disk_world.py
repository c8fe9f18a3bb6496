"""A bus above the shim, its devices, and what they were promised: shared by powercut.py and storage_faults.py.

In: a place. Out: a `World`, whose folder can be put back to what a power cut would leave of it. A promise is an answer
with a receipt that stands in the trace: sent before the cut, whether or not a device was there to read it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import re
import sqlite3
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from disk_shim import Record, Shim, packed
from live_bus import Device, LiveBus, channel_table, run
from power_loss import DROUGHT, SEASONS, Disk, Files, Weather, load, put
from traffic import Found, Sent

VALUES = 24  # a message: a quarter of a day, so that every fourth completes a billing file
FIRST_S = 1_609_459_200  # 2021-01-01T00:00:00Z
DELIVERED_TO = "days"  # not there at first: the bus makes it
MOST_EVIDENCE = 5
_MESSAGE_ID = re.compile(rb"<messageId>([^<]+)<")


@dataclass
class DiskFound(Found):
    """Raw counts of a campaign on the disk."""

    files_wrong: int = 0
    audit_wrong: int = 0
    slowest_start_s: float = 0.0
    evidence: list[str] = field(default_factory=list)


def answers(trace: Iterable[Record]) -> Iterator[tuple[str, bytes]]:
    """Yield the message id and the receipt of each answer in a trace; an answer counts from its first byte."""
    for record in trace:
        if record.op == "A" and record.data.startswith(b"HTTP/1.1 200 "):
            found = _MESSAGE_ID.search(record.data)
            if found:
                yield found[1].decode("ascii"), record.data.partition(b"\r\n\r\n")[2]


class Cut(NamedTuple):
    """The power went behind the first `kept` records of a trace that began with `before`; `files` is what is left."""

    before: Files
    trace: Sequence[Record]
    kept: int
    weather: Weather
    files: Files

    @classmethod
    def choose(cls, world: World, trace: Sequence[Record]) -> Cut:
        """A place anywhere, near the end or, where a receipt has nothing but its sync, right behind it; a weather."""
        chance = world.chance
        behind = [number for number, record in enumerate(trace, 1) if record.op == "A"] or [len(trace)]
        near, far = chance.randint(len(trace) * 9 // 10, len(trace)), chance.randint(0, len(trace))
        kept = chance.choice((far, near, *[chance.choice(behind)] * 2))
        weather = chance.choice((DROUGHT, *SEASONS))
        disk = Disk(str(world.folder), world.before, chance).follow(trace[:kept])
        return cls(world.before, trace, kept, weather, disk.cut(weather, chance))

    def keep(self, place: Path, why: str) -> Path:
        """Write all that shows what became of it: before/, image/, the trace as the shim wrote it, and why."""
        place.mkdir(parents=True)
        put(self.before, place / "before")
        put(self.files, place / "image")
        (place / "trace").write_bytes(b"".join(map(packed, self.trace)))
        (place / "why.txt").write_text(f"{why}\nrecords kept: {self.kept} of {len(self.trace)}\n{self.weather}\n")
        return place


@dataclass
class World:
    """`folder` is all the disk there is; the bus lies in it."""

    folder: Path
    shim: Shim
    found: DiskFound
    chance: random.Random
    bus: LiveBus
    command: tuple[str, ...] | None = None
    devices: list[Device] = field(default_factory=list)
    sent: dict[str, Sent] = field(default_factory=dict)
    before: Files = field(default_factory=dict)

    @classmethod
    def make(cls, place: Path, found: DiskFound, devices: int = 4, lie: str = "") -> World:
        """`gridpost init`, judged by a power cut right after it, then devices enrolled; what is there is on disk."""
        place = place.resolve()
        folder = place / "disk"
        folder.mkdir(parents=True)
        shim = Shim.build(place, folder)
        world = cls(folder, shim, found, random.Random(found.seed), LiveBus(folder / "bus"))
        done = run("init", world.bus.folder, "--http", "127.0.0.1:0", "--json", env=shim.environment())
        assert done.returncode == 0, done.stderr
        world._judge_init()
        world.bus.configure(mv90={"directory": DELIVERED_TO, "poll_s": 1})
        world.bus.start()
        for number in range(devices):
            world.devices.append(world.bus.enrol(f"IED-{number}", channel_table(f"M-IED-{number}")))
        world.bus.stop()
        shim.lie = lie
        return world

    def _judge_init(self) -> None:
        kept = Disk(str(self.folder), {}, self.chance).follow(self.shim.taken()).cut(DROUGHT, self.chance)
        for path, content in load(self.folder).items():
            if kept.get(path, 0) != content:
                self.found.problem(f"init: {path} is not on disk when it has ended", "lost")

    # --- lives ---

    def start(self) -> None:
        """Start the bus above the shim, on what the disk holds; from here it is traced."""
        self.before = load(self.folder)
        self.shim.trace.unlink(missing_ok=True)
        if self.command:
            self.bus.command = self.command
        self.bus.start(env=self.shim.environment())
        self.found.slowest_start_s = max(self.found.slowest_start_s, round(self.bus.started_s, 3))

    def settle(self, trace: Sequence[Record]) -> list[Sent]:
        """Take the receipts that were sent for promised, and return their messages."""
        promised: dict[str, Sent] = {}
        for message_id, receipt in answers(trace):
            one = self.sent[message_id]
            if one.receipt is None:
                one.device.receipt(receipt, one.payload)
                one.receipt = receipt
            elif one.receipt != receipt:
                self.found.problem(f"{message_id}: a repeat got another receipt", "receipts_changed")
            promised[message_id] = one
        return list(promised.values())

    def new_message(self, device: Device, number: int) -> Sent:
        chance = random.Random(f"{self.found.seed}-{device.serial}-{number}")
        values = [f"{chance.randrange(10**6)}.{chance.randrange(1000):03d}" for _ in range(VALUES)]
        first_end = FIRST_S + (number * VALUES + 1) * 900
        message_id = f"{device.serial}-{number}"
        payload = device.payload(message_id, values, first_end)
        one = self.sent[message_id] = Sent(device, message_id, payload, first_end, values)
        return one

    # --- judging a bus that runs ---

    def database(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.bus.folder / 'gridpost.db'}?mode=ro", uri=True, timeout=60)

    def judge_promises(self, where: str) -> None:
        """Every receipt ever given stands in the store, byte for byte, and no entry that nobody sent."""
        with self.database() as database:
            check = database.execute("PRAGMA quick_check").fetchall()
            rows = {
                row[0]: row[1:] for row in database.execute("SELECT message_id, content_sha256, receipt FROM entry")
            }
        database.close()
        if check != [("ok",)]:
            self.found.problem(f"{where}: the database is damaged: {check[:3]}", "wrong")
        for one in list(self.sent.values()):
            content, receipt = rows.pop(one.message_id, (None, None))
            if one.receipt is not None and receipt is None:
                self.found.problem(f"{where}: {one.message_id} has a receipt and no entry", "lost")
            elif one.receipt is not None and receipt != one.receipt:
                self.found.problem(f"{where}: {one.message_id}: the receipt on file is another", "receipts_changed")
            elif content is not None and content != hashlib.sha256(one.payload).digest():
                self.found.problem(f"{where}: {one.message_id}: a content nobody sent", "phantom")
        for message_id in rows:
            self.found.problem(f"{where}: {message_id}: nobody sent that", "phantom")

    def judge_files(self, where: str) -> None:
        """A file beside the database is whole or not there; one that was noted as delivered is there."""
        with self.database() as database:
            made = dict(database.execute("SELECT name, content FROM outbox").fetchall())
            noted = [name for (name,) in database.execute("SELECT name FROM outbox WHERE delivered_at_utc_ms > 0")]
            heads = {signed for (signed,) in database.execute("SELECT signed FROM tree_head")}
        database.close()
        there = load(self.bus.folder / DELIVERED_TO)
        for name in (name for name in there if not name.startswith(".")):
            if there[name] != made.get(name):
                self.found.problem(f"{where}: {name} is not the file that was made", "files_wrong")
        for name in set(noted) - set(there):
            self.found.problem(f"{where}: {name} was delivered and is not there", "files_wrong")
        for name, content in load(self.bus.folder / "heads").items():
            if not name.startswith(".") and content not in heads:
                self.found.problem(f"{where}: {name} is not the head that was signed", "files_wrong")

    def judge_audit(self, where: str) -> None:
        """Whatever the last line was when the power went: the start after it has a line of its own."""
        *_, line = [one for one in (self.bus.folder / "audit.jsonl").read_bytes().split(b"\n") if b'"started"' in one]
        try:
            json.loads(line)
        except ValueError:
            self.found.problem(f"{where}: the start is no line of its own: {line[-200:]!r}", "audit_wrong")

    def back_to(self, files: Files) -> None:
        """Let the disk hold this."""
        put(files, self.folder)

    def keep(self, cut: Cut, problems_before: int) -> None:
        """Keep a cut beside the folder when it has brought problems: of the first few."""
        problems = self.found.problems[problems_before:]
        if problems and len(self.found.evidence) < MOST_EVIDENCE:
            place = self.folder.with_name("evidence") / str(len(self.found.evidence) + 1)
            self.found.evidence.append(str(cut.keep(place, "\n".join(problems))))
            say(f"kept in {place}: {problems[0]}")


class Pushing:
    """A thread a device: what is to be sent again, then new messages; ends when all is sent or the bus goes down."""

    def __init__(self, world: World, again: Sequence[Sent], share: int, repeats: int) -> None:
        """`share` messages a device in all; `repeats` percent are sent twice at once."""
        self._world, self._share, self._repeats = world, share, repeats
        self._again = again
        self._news = threading.Condition()
        self.answered = 0  # for the first time
        self.repeated = 0
        self.is_over = False  # the bus is being killed: what fails now is no problem
        self.seen: dict[str, bytes] = {}
        seeds = [world.chance.random() for _ in world.devices]
        self._threads = [
            threading.Thread(target=self._run, args=(device, random.Random(seed)))
            for device, seed in zip(world.devices, seeds, strict=True)
        ]

    def start(self) -> Pushing:
        for thread in self._threads:
            thread.start()
        return self

    def wait_for(self, answered: int) -> None:
        """Wait until so many were answered for the first time, or there is no more to send."""
        with self._news:
            while self.answered < answered and any(thread.is_alive() for thread in self._threads):
                self._news.wait(0.5)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, device: Device, chance: random.Random) -> None:
        for one in self._todo(device):
            for _ in range(1 + (chance.randrange(100) < self._repeats)):
                if not self._push(one):
                    return

    def _todo(self, device: Device) -> Iterator[Sent]:
        yield from (one for one in self._again if one.device is device)
        for number in range(self._share):
            one = self._world.sent.get(f"{device.serial}-{number}") or self._world.new_message(device, number)
            if one.receipt is None:
                yield one

    def _push(self, one: Sent) -> bool:
        if one.receipt is None:
            one.raw = one.device.seal(one.payload)
        try:
            status, body = self._world.bus.wire.post(one.raw)
        except (OSError, http.client.HTTPException) as problem:
            if not self.is_over:
                self._world.found.problem(f"{one.message_id}: no answer though the bus should run: {problem!r}")
            return False
        if status != 200:
            self._world.found.problem(f"{one.message_id}: answered with {status}: {body[:300]!r}")
            return True
        first = one.receipt or self.seen.get(one.message_id)
        with self._news:
            self.seen[one.message_id] = body
            self.answered += first is None
            self.repeated += first is not None
            self._news.notify_all()
        if first not in (None, body):
            self._world.found.problem(f"{one.message_id}: a repeat got another receipt", "receipts_changed")
        return True


def judge_seen(seen: dict[str, bytes], trace: Sequence[Record], found: Found) -> None:
    """The trace must hold every answer a device saw: else the shim is blind and proves nothing."""
    traced = dict(answers(trace))
    for message_id, body in seen.items():
        if traced.get(message_id) != body:
            found.problem(f"{message_id}: an answer that is not in the trace")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def program(code: str) -> tuple[str, ...]:
    """Return the command of a bus with something changed from outside before it begins."""
    return (sys.executable, "-c", code + _SERVE)


_SERVE = """
import sys
sys.argv = ["gridpost", "serve", *sys.argv[1:]]
from gridpost.server.cli import main
main()
"""


def result_of(found: Found, counts: dict[str, Any]) -> dict[str, Any]:
    return {**counts, "ok": found.ok}
