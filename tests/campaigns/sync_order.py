"""Every answer leaves after the sync: a trace of the bus's system calls, and the entry of each answer in it.

    tests/campaigns/sync_order.py [--messages 2000] [--repeats 5] [--tracer strace|shim] [--seed N] [--sabotage NAME]
                                  [--json]

Eight devices push to a bus on SQLite that runs under `strace`, or where that is not to be had above `disk_shim.c`,
which needs a C compiler. In the trace stand, in their order, each write to the write-ahead log, the begin and the end
of each sync of it, and each byte handed to a socket. For every answer that names a message, as the device got it:

- the entry with that message's id was written to the log (its id stands in the pages written);
- so was the frame that commits the transaction with those pages (SQLite's WAL format: a database size in its header);
- after that a sync of the log began, and it had ended without an error
- before the first byte of the answer was handed to the socket.

Exit status: 0 everything holds, 1 something does not, 2 nothing to trace with.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import changed_bus
from live_bus import BIN, Device, LiveBus, channel_table
from traffic import DEVICES, LONGEST_S, MOST_MESSAGES, Found, Sent, SomeAgain, told

try:
    import disk_shim
except ModuleNotFoundError:  # the tracer that needs it is then not there
    disk_shim = None

SABOTAGES = ("synchronous-off", "answer-before-sync")
WROTE, SYNC, SYNCED, SENT = "wrote", "sync", "synced", "sent"
ANSWER = b"HTTP/1.1 "
ID = re.compile(rb"IED-\d-\d{6}")
WAL_HEADER, FRAME_HEADER = 32, 24  # bytes; https://sqlite.org/fileformat2.html section 4


class Plan(NamedTuple):
    """What the campaign is asked to do."""

    messages: int = 2_000
    repeats: int = 5  # percent
    seed: int = 1
    tracer: str = ""
    sabotage: str = ""
    devices: int = DEVICES


@dataclass
class Outcome(Found):
    """Raw counts; an answer is early when anything of what must come before it does not."""

    tracer: str = ""
    answers: int = 0
    early: int = 0
    untraced: int = 0
    transactions: int = 0
    syncs: int = 0
    events: int = 0
    seconds: float = 0.0


class Event(NamedTuple):
    """One call: a write to the log once it is done, a sync of it as it begins or has ended, bytes before they leave.

    Attributes:
        thread: which thread; a sync begins and ends in one.
        where: of SENT the connection.
        offset: of WROTE.
    """

    kind: str
    thread: int
    where: str = ""
    offset: int = 0
    data: bytes = b""


# --- judging ---------------------------------------------------------------------------------------------------------


@dataclass
class Log:
    """The write-ahead log as it grows: which ids wait for their commit, which for a sync, which are safe."""

    page: int = 4096
    written: set[bytes] = field(default_factory=set)
    committed: set[bytes] = field(default_factory=set)
    safe: dict[bytes, int] = field(default_factory=dict)  # since which event
    transactions: int = 0
    syncs: int = 0
    _is_commit: bool = False
    _syncing: dict[int, set[bytes]] = field(default_factory=dict)

    def wrote(self, offset: int, data: bytes) -> None:
        """Follow the frames; they come as header and page, in one write or in two."""
        if offset == 0 and len(data) >= WAL_HEADER:
            (self.page,) = struct.unpack_from(">I", data, 8)
            offset, data = WAL_HEADER, data[WAL_HEADER:]
        while data:
            place = (offset - WAL_HEADER) % (FRAME_HEADER + self.page)
            size = min(len(data), (FRAME_HEADER if place < FRAME_HEADER else FRAME_HEADER + self.page) - place)
            self._part(place, data[:size])
            offset, data = offset + size, data[size:]

    def _part(self, place: int, part: bytes) -> None:
        if place < FRAME_HEADER:
            if place or len(part) != FRAME_HEADER:
                raise ValueError("a frame's header came in pieces")
            self._is_commit = part[4:8] != bytes(4)
            return
        self.written.update(ID.findall(part))
        if self._is_commit and place + len(part) == FRAME_HEADER + self.page:
            self.transactions += 1
            self.committed |= self.written
            self.written = set()

    def sync(self, thread: int) -> None:
        self._syncing[thread] = set(self.committed)

    def synced(self, thread: int, number: int) -> None:
        self.syncs += 1
        covered = self._syncing.pop(thread)
        for name in covered:
            self.safe.setdefault(name, number)
        self.committed -= covered

    def lacks(self, name: bytes, before: int) -> str:
        """What is missing for an id to be answered from event `before` on; empty when nothing is."""
        if name in self.safe:
            return "" if self.safe[name] < before else "the sync ended only after the answer's first byte"
        if name in self.committed:
            return "its commit was written, and no sync of it has ended"
        return "its commit was not written" if name in self.written else "it was not written"


def judge(events: Iterable[Event], outcome: Outcome) -> dict[bytes, int]:
    """Walk the trace; return how many answers named each id. An answer is judged where its first byte left."""
    log, began, answers = Log(), {}, {}
    for number, event in enumerate(events, 1):
        outcome.events = number
        if event.kind == WROTE:
            log.wrote(event.offset, event.data)
        elif event.kind == SYNC:
            log.sync(event.thread)
        elif event.kind == SYNCED:
            log.synced(event.thread, number)
        elif event.data.startswith(ANSWER) or event.where in began:
            # What an answer is said to name, and where it began: its parts may be handed over one by one.
            if event.data.startswith(ANSWER):
                began[event.where] = (number, set())
            _judge_answer(event, log, began[event.where], answers, outcome)
    outcome.transactions, outcome.syncs = log.transactions, log.syncs
    return answers


def _judge_answer(
    event: Event, log: Log, began: tuple[int, set[bytes]], answers: dict[bytes, int], outcome: Outcome
) -> None:
    first, named = began
    for name in set(ID.findall(event.data)) - named:
        named.add(name)
        answers[name] = answers.get(name, 0) + 1
        outcome.answers += 1
        if lack := log.lacks(name, first):
            outcome.problem(f"{name.decode()} was answered: {lack}", "early")


def judge_completeness(sent: dict[str, int], answers: dict[bytes, int], outcome: Outcome) -> None:
    """Every answer a device got stands in the trace: `sent` counts them by message id."""
    for name, count in sent.items():
        if answers.get(name.encode(), 0) < count:
            text = f"{name}: {count} answers came, {answers.get(name.encode(), 0)} stand in the trace"
            outcome.problem(text, "untraced")


# --- tracing ---------------------------------------------------------------------------------------------------------

_CALL = re.compile(r"(\d+) +(\w+)\((\d+)<([^>]*)>(.*)")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>.*= (-?\d+)")
_DATA = re.compile(r', "((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_PLACE = re.compile(r'", \d+, (\d+)')
_SYNCS = {"fsync", "fdatasync"}
_WRITES = {"write", "pwrite64", "writev", "pwritev"}
_SENDS = {"sendto", "sendmsg"}
_LONGEST = 1 << 20  # of a string in strace's output


class Strace:
    """The kernel's word: every thread's calls in the order they were seen at their entry and their exit."""

    name = "strace"

    def __init__(self, folder: Path) -> None:
        self._file = folder / "trace"

    @staticmethod
    def is_there() -> bool:
        """Whether it is installed and may trace."""
        if shutil.which("strace") is None:
            return False
        return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0

    def start(self, bus: LiveBus) -> None:
        """-D: the bus stays the campaign's own child, and the tracer stands aside."""
        calls = ",".join(sorted(_SYNCS | _WRITES | _SENDS))
        bus.command = (
            "strace", "-D", "-f", "-y", "-xx", "-s", str(_LONGEST), "-e", f"trace={calls}", "-e", "signal=none",
            "-o", str(self._file), *bus.command,
        )  # fmt: skip
        bus.start()

    def events(self, pid: int) -> Iterator[Event]:
        self._wait(f"{pid} ")
        pending: dict[int, tuple[str, Event | None]] = {}
        with self._file.open(encoding="ascii") as lines:
            for line in lines:
                yield from _of_line(line, pending)

    def _wait(self, start: str) -> None:
        """The tracer ends after the bus: wait for its last line."""
        end = time.monotonic() + LONGEST_S
        while True:
            with self._file.open("rb") as file:
                file.seek(max(0, self._file.stat().st_size - 400))
                if any(line.startswith(start) and "+++" in line for line in file.read().decode().splitlines()):
                    return
            if time.monotonic() > end:
                raise AssertionError("strace did not come to an end")
            time.sleep(0.05)  # between two looks


def _of_line(line: str, pending: dict[int, tuple[str, Event | None]]) -> Iterator[Event]:
    """Events of one line; `pending` holds by thread a call whose exit stands on another."""
    if resumed := _RESUMED.match(line):
        yield from _ended(*pending.pop(int(resumed[1]), ("", None)), resumed[3])
        return
    found = _CALL.match(line)
    event = _begun(found) if found else None
    if not found or not event:
        return
    thread, call, rest = int(found[1]), found[2], found[5]
    if event.kind in (SYNC, SENT):
        yield event
    if rest.endswith("<unfinished ...>"):
        pending[thread] = (call, event)
    else:
        yield from _ended(call, event, rest.rpartition("= ")[2].split()[0])


def _begun(found: re.Match[str]) -> Event | None:
    thread, call, path = int(found[1]), found[2], bytes.fromhex(found[4].replace("\\x", "")).decode()
    if call in _SENDS or (call in ("write", "writev") and path.startswith("socket")):
        return Event(SENT, thread, path, data=_data(found[5]))
    if not path.endswith("-wal"):
        return None
    if call in _SYNCS:
        return Event(SYNC, thread)
    if call != "pwrite64":
        raise ValueError(f"the log was written by {call}")
    return Event(WROTE, thread, offset=int(_PLACE.findall(found[5])[-1]), data=_data(found[5]))


def _ended(call: str, event: Event | None, result: str) -> Iterator[Event]:
    if event and event.kind == WROTE:
        yield event._replace(data=event.data[: max(0, int(result))])
    elif call in _SYNCS and result == "0" and event:
        yield Event(SYNCED, event.thread)


def _data(rest: str) -> bytes:
    """The bytes of a call's buffers; all of them, or the trace is worth nothing."""
    parts = _DATA.findall(rest) or re.findall(r'iov_base="((?:\\x[0-9a-f]{2})*)"(\.\.\.)?', rest)
    if any(cut for _, cut in parts):
        raise ValueError("strace cut a string short")
    return b"".join(bytes.fromhex(text.replace("\\x", "")) for text, _ in parts)


class Shim:
    """Below the process: the C library's calls, in the order in which they were made and ended."""

    name = "shim"

    def __init__(self, folder: Path) -> None:
        self._shim = disk_shim.Shim.build(folder, folder / "bus")

    @staticmethod
    def is_there() -> bool:
        """Whether it can be compiled."""
        return disk_shim is not None and disk_shim.compiler() is not None

    def start(self, bus: LiveBus) -> None:
        bus.start(env=self._shim.environment())

    def events(self, _pid: int) -> Iterator[Event]:
        logs = set()
        for record in self._shim.taken():
            if record.op == "O":
                (logs.add if record.path.endswith("-wal") else logs.discard)(record.where)
            elif record.op == "A":
                yield Event(SENT, record.thread, str(record.where), data=record.data)
            elif record.where in logs:
                yield from _of_record(record)


def _of_record(record: Any) -> Iterator[Event]:
    if record.op == "W":
        yield Event(WROTE, record.thread, offset=record.number, data=record.data)
    elif record.op == "Y":
        yield Event(SYNC, record.thread)
    elif record.op == "Z" and record.number == 0:
        yield Event(SYNCED, record.thread)
    elif record.op == "U":
        raise ValueError(f"the log was written by {record.path}")


TRACERS = {tracer.name: tracer for tracer in (Strace, Shim)}


# --- the campaign ----------------------------------------------------------------------------------------------------


class Counting(SomeAgain):
    """Counts the answers a message got."""

    def __init__(self, bus: LiveBus, devices: list[Device], found: Found) -> None:
        super().__init__(bus, devices, found)
        self.answered: dict[str, int] = {}

    def _keep(self, one: Sent, body: bytes, began_s: float) -> None:
        with self._lock:
            self.answered[one.message_id] = self.answered.get(one.message_id, 0) + 1
        super()._keep(one, body, began_s)


def campaign(folder: Path, plan: Plan) -> Outcome:
    """Run it in a folder of its own, which must be a real path."""
    name = plan.tracer or default_tracer()
    outcome, began = Outcome(messages=plan.messages, seed=plan.seed, tracer=name), time.monotonic()
    bus = LiveBus.make(folder / "bus", mv90={"enabled": False})
    tracer = TRACERS[name](folder)
    bus.command = (str(BIN / "gridpost"), "serve")
    if plan.sabotage:
        bus.command = changed_bus.command(damage=plan.sabotage)
    try:
        tracer.start(bus)
        pid = bus.process.pid
        devices = [bus.enrol(f"IED-{number}", channel_table(f"M-IED-{number}")) for number in range(plan.devices)]
        traffic = Counting(bus, devices, outcome)
        traffic.repeats = plan.repeats
        traffic.start()
        traffic.join()
        if bus.stop() != 0:
            outcome.problem(f"the bus did not end well: {bus.errors()[-300:]}")
    finally:
        if bus.process is not None:
            bus.kill()
    answers = judge(tracer.events(pid), outcome)
    judge_completeness(traffic.answered, answers, outcome)
    if len(answers) != plan.messages:
        outcome.problem(f"{len(answers)} messages were answered of {plan.messages}")
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def default_tracer() -> str:
    """The first that is there; empty when none is."""
    return next((name for name, tracer in TRACERS.items() if tracer.is_there()), "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    usual = Plan()
    parser.add_argument("--messages", type=int, default=usual.messages)
    parser.add_argument("--repeats", type=int, default=usual.repeats, help="percent")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--tracer", choices=list(TRACERS), default=default_tracer())
    parser.add_argument("--sabotage", choices=SABOTAGES, default="")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if not 1 <= asked.messages <= MOST_MESSAGES:
        parser.error(f"1 to {MOST_MESSAGES} messages")
    if not asked.tracer or not TRACERS[asked.tracer].is_there():
        print("needs strace with the right to trace, or a C compiler (cc, gcc or clang)", file=sys.stderr)
        return 2
    plan = Plan(asked.messages, asked.repeats, asked.seed, asked.tracer, asked.sabotage)
    with tempfile.TemporaryDirectory() as folder:
        outcome = campaign(Path(folder).resolve(), plan)
    return told({**asdict(outcome), "ok": outcome.ok}, asked.json)


if __name__ == "__main__":
    sys.exit(main())
