"""Slow peers by the thousand, a post without end, the dearest single messages: genuine messages do not notice.

    tests/campaigns/slow.py [--connections 1000] [--seconds 75] [--rate 20] [--post-mb 300] [--only REGEX] [--keep DIR]
                            [--seed 1] [--head-s 10] [--body-s 30] [--p99-ms 250] [--json]
                            [--sabotage no-deadlines|no-size-limit]

Against the real `gridpost serve` with its default settings, on HTTP and HTTPS:

1. slow connections of eleven kinds (tests/campaigns/slow_clients.py), kept up while genuine messages come in at a fixed
   rate, each on a new connection: p99 from the scheduled moment <= 250 ms, the bus's memory at most 64 MB more, and
   each kind is cut within its time limit;
2. a post of 300 MB, with a length, in chunks, over and over: the bus reads at most its limit and 64 kB of it;
3. each message of tests/campaigns/nasty_messages.py alone, to a fresh bus: <= 0.25 s of processor time, <= 32 MB. What
   is over is measured again on a fresh bus, three times at most; the least counts, for only it is the message's own.

`--head-s`, `--body-s` other than the defaults are set from outside (slow_bus.py), for a short run. Exit status: 0
everything holds, 1 something does not.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import random
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))
sys.path.insert(0, str(Path(__file__).parent))

import genuine_samples
import nasty_messages
import slow_bus
from forging import Setting
from live_bus import Device, LiveBus, Wire, channel_table, now_utc_ms
from process_usage import Usage

from gridpost.errors import AnswerUntrusted

HERE = Path(__file__).parent
# The bus's time limits as docs/operations.md and the threat catalogue have them, in seconds; and what a sweep may add.
HEAD_S, BODY_S, IDLE_S, WRITE_S = 10.0, 30.0, 60.0, 30.0
SWEEP_S = 5.0
LIMIT, BEYOND = 1 << 20, 64 << 10
MOST_MEMORY_MB, MOST_CPU_S, MOST_MESSAGE_MB, TRIES = 64, 0.25, 32, 3


class Plan(NamedTuple):
    """What the campaign is asked to do; times in seconds."""

    connections: int = 1000
    seconds: int = 75
    rate: int = 20
    post_mb: int = 300
    only: str = ""
    seed: int = 1
    head_s: float = HEAD_S
    body_s: float = BODY_S
    p99_ms: int = 250
    sabotage: str = ""


@dataclass
class Outcome:
    """Raw counts; `problems` names what does not hold."""

    slow_at_the_end: int = 0
    kinds: dict[str, dict[str, float]] = field(default_factory=dict)
    genuine: int = 0
    genuine_failed: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    p99_before_ms: float = 0.0
    memory_mb: float = 0.0
    memory_more_mb: float = 0.0
    post_read: dict[str, int] = field(default_factory=dict)
    messages: int = 0
    taken: int = 0
    dearest_cpu: list[tuple[str, float]] = field(default_factory=list)
    dearest_memory: list[tuple[str, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def expect(self, condition: bool, problem: str) -> None:
        if not condition:
            self.problems.append(problem)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- the bus ---------------------------------------------------------------------------------------------------------


class World(NamedTuple):
    """A bus that runs, a device enrolled with it, and a message of it that is stored."""

    bus: LiveBus
    device: Device
    stored: tuple[bytes, bytes]

    @property
    def wires(self) -> list[Wire]:
        """HTTP and HTTPS."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return [Wire(address, context) for address in self.bus.addresses]

    @property
    def usage(self) -> Usage:
        assert self.bus.process is not None
        return Usage(self.bus.process.pid)

    def start(self) -> None:
        """Start, and let both ways of reading a message be gone once: schemas are compiled then."""
        self.bus.start()
        for raw in self.stored:
            status, body = self.bus.wire.post(raw)
            if status != 200:
                raise AssertionError(f"a genuine message is refused: {status} {body[:300]!r}")
        self.usage.settle()


@contextlib.contextmanager
def world(folder: Path, plan: Plan) -> Iterator[World]:
    listen = {"http": "127.0.0.1:0", "https": "127.0.0.1:0", "tls_certificate": "bus.pem", "tls_key": "bus.key"}
    bus = LiveBus.make(folder / "bus", listen=listen, mv90={"poll_s": 3600})
    if (plan.head_s, plan.body_s, plan.sabotage) != (HEAD_S, BODY_S, ""):
        changed = (plan.head_s, plan.body_s, plan.sabotage or "none")
        bus.command = (sys.executable, str(HERE / "slow_bus.py"), *map(str, changed), "serve")
    bus.start()
    try:
        device = bus.enrol("IED1", channel_table("M1"))
        small, large = device.payload("small", ["1.5"]), device.payload("large", ["1.5"] * 1500)
        made = World(bus, device, (device.seal(small), device.seal(large)))
        bus.stop()
        made.start()
        yield made
    finally:
        if bus.process is not None:
            bus.kill()


# --- genuine messages ------------------------------------------------------------------------------------------------


class Traffic:
    """Genuine messages at a fixed rate, open loop: each on a new connection, HTTP and HTTPS in turn."""

    def __init__(self, made: World, name: str) -> None:
        self._made, self._name, self._wires = made, name, made.wires
        self.latencies_ms: list[float] = []
        self.failed: list[str] = []
        self._count = 0

    def run(self, seconds: float, rate: int) -> None:
        began = time.monotonic()
        with ThreadPoolExecutor(32) as pool:
            for number in range(int(seconds * rate)):
                at = began + number / rate
                time.sleep(max(0.0, at - time.monotonic()))  # the schedule, not a wait for anything
                pool.submit(self._one, number, at)

    def _one(self, number: int, at: float) -> None:
        device = self._made.device
        payload = device.payload(f"{self._name}-{number}", [f"{number}.5"] * 4, 1_735_689_600 + 3600 * number + 900)
        try:
            _, body = self._wires[number % len(self._wires)].post(device.seal(payload))
            self.latencies_ms.append((time.monotonic() - at) * 1000)
            device.receipt(body, payload)
        except (OSError, AssertionError, AnswerUntrusted) as error:
            self.failed.append(f"{self._name}-{number}: {type(error).__name__} {error}"[:300])

    def percentile(self, part: float) -> float:
        ordered = sorted(self.latencies_ms) or [float("inf")]
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))], 1)


class Watch:
    """The bus's memory, looked at four times a second."""

    def __init__(self, usage: Usage) -> None:
        self.most_mb = 0.0
        self._usage, self._stopped = usage, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(0.25):
            self.most_mb = max(self.most_mb, self._usage.memory_mb())

    def stop(self) -> float:
        self._stopped.set()
        self._thread.join()
        return self.most_mb


# --- slow connections ------------------------------------------------------------------------------------------------


class Crowd:
    """The slow connections, in a process of their own."""

    def __init__(self, made: World, count: int) -> None:
        ports = [str(urllib.parse.urlsplit(address).port) for address in made.bus.addresses]
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "slow_clients.py"), str(count), *ports],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.last: dict[str, Any] = {"open": 0, "kinds": {}}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.last = json.loads(line)

    def wait_for(self, count: int) -> None:
        end = time.monotonic() + 120
        while self.last["open"] < count:
            if time.monotonic() > end or self._process.poll() is not None:
                raise AssertionError(f"{self.last['open']} of {count} slow connections came about")
            time.sleep(0.1)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._thread.join(10)


def longest_allowed_s(plan: Plan) -> Mapping[str, float]:
    """How long each kind may live; those not named keep within the listener's rules."""
    return {
        "silent": plan.head_s, "head-drip": plan.head_s, "tls-hello": plan.head_s, "tls-silent": plan.head_s,
        "body-none": plan.body_s, "body-drip": plan.body_s, "tls-body-drip": plan.body_s,
    }  # fmt: skip


def slow_connections(made: World, plan: Plan, outcome: Outcome) -> None:
    """Part 1."""
    quiet = Traffic(made, "before")
    watch = Watch(made.usage)
    quiet.run(min(10, plan.seconds / 2), plan.rate)
    before_mb = watch.stop()
    outcome.p99_before_ms = quiet.percentile(0.99)
    crowd, watch, traffic = Crowd(made, plan.connections), Watch(made.usage), Traffic(made, "during")
    try:
        crowd.wait_for(plan.connections * 9 // 10)
        _say(f"{crowd.last['open']} slow connections, bus at {made.usage.memory_mb():.0f} MB ({before_mb:.0f} before)")
        traffic.run(plan.seconds, plan.rate)
    finally:
        outcome.memory_mb = round(watch.stop(), 1)
        outcome.slow_at_the_end, outcome.kinds = crowd.last["open"], crowd.last["kinds"]
        crowd.close()
    outcome.genuine, outcome.genuine_failed = len(traffic.latencies_ms), len(traffic.failed)
    outcome.p50_ms, outcome.p99_ms = traffic.percentile(0.5), traffic.percentile(0.99)
    outcome.memory_more_mb = round(outcome.memory_mb - before_mb, 1)
    _judge_slow(plan, outcome, traffic)


def _judge_slow(plan: Plan, outcome: Outcome, traffic: Traffic) -> None:
    outcome.problems += traffic.failed[:10]
    open_now = outcome.slow_at_the_end
    outcome.expect(open_now >= plan.connections * 9 // 10, f"only {open_now} slow connections at the end")
    outcome.expect(outcome.p99_ms <= plan.p99_ms, f"genuine messages took {outcome.p99_ms} ms (p99)")
    outcome.expect(outcome.memory_more_mb <= MOST_MEMORY_MB, f"the bus grew by {outcome.memory_more_mb} MB")
    for kind, allowed in longest_allowed_s(plan).items():
        found = outcome.kinds.get(kind, {"longest_s": float("inf")})["longest_s"]
        outcome.expect(found <= allowed + SWEEP_S, f"{kind}: held {found} s, allowed are {allowed}")


# --- a post without end ----------------------------------------------------------------------------------------------


def endless_posts(made: World, plan: Plan, outcome: Outcome) -> None:
    """Part 2: how much of it the bus read, by the kernel's counts at both ends."""
    head = "POST /metering HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\n"
    size = plan.post_mb << 20
    ways = {
        "length": f"{head}Content-Length: {size}\r\n\r\n",
        "chunked": f"{head}Transfer-Encoding: chunked\r\n\r\n",
        "unknown path": f"{head.replace('/metering', '/other')}Content-Length: {size}\r\n\r\n",
        "not http": "",
    }
    for name, start in ways.items():
        made.usage.forget_most()
        before_mb = made.usage.memory_mb()
        outcome.post_read[name] = read = _bytes_read(made, start.encode(), size)
        more_mb = made.usage.most_memory_mb() - before_mb
        _say(f"post of {plan.post_mb} MB, {name}: the bus read {read} bytes and grew by {more_mb:.1f} MB")
        outcome.expect(read <= LIMIT + BEYOND, f"post of {plan.post_mb} MB, {name}: the bus read {read} bytes of it")
        outcome.expect(
            more_mb <= MOST_MESSAGE_MB, f"post of {plan.post_mb} MB, {name}: the bus grew by {more_mb:.1f} MB"
        )


def _bytes_read(made: World, head: bytes, size: int) -> int:
    port = urllib.parse.urlsplit(made.bus.addresses[0]).port
    assert port is not None
    most = sent = 0
    block, end = bytes(65_536), time.monotonic() + 120
    with socket.create_connection(("127.0.0.1", port), timeout=30) as peer:
        peer.sendall(head)
        sent = len(head)
        peer.setblocking(False)
        try:
            while sent < size and time.monotonic() < end:
                try:
                    sent += peer.send(block)
                except BlockingIOError:
                    time.sleep(0.002)
                most = max(most, _read_by_other_end(peer, sent, port))
        except ConnectionError:
            return most  # cut
        return max(most, sent)


def _read_by_other_end(peer: socket.socket, sent: int, port: int) -> int:
    """What was acknowledged, less what still waits in the other end's kernel; 0 once the connection is gone there."""
    waiting_here = struct.unpack("i", fcntl.ioctl(peer, termios.TIOCOUTQ, b"\0" * 4))[0]
    mine = f"{peer.getsockname()[1]:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if local.endswith(f":{port:04X}") and remote.endswith(f":{mine}"):
            return sent - waiting_here - int(queues.partition(":")[2], 16)
    return 0


# --- single messages -------------------------------------------------------------------------------------------------


def single_messages(made: World, plan: Plan, outcome: Outcome) -> None:
    """Part 3."""
    device, people = made.device, genuine_samples.people()
    setting = Setting(
        signer=device.signer, source=device.serial, channel=device.channels[0], now_utc_ms=now_utc_ms(),
        neighbour=people.neighbour, neighbour_source="IED2", foreign=device.channels[0],
    )  # fmt: skip
    chosen = list(nasty_messages.nasty(setting, made.stored[0], plan.only))
    random.Random(plan.seed).shuffle(chosen)
    costs = []
    for number, one in enumerate(chosen):
        cpu_s, memory_mb, status = _cost(made, one.raw)
        costs.append((one.name, round(cpu_s, 3), round(memory_mb, 1)))
        outcome.taken += status == 200
        outcome.expect(cpu_s <= MOST_CPU_S, f"{one.name} ({len(one.raw)} bytes) costs {cpu_s:.3f} s of processor time")
        outcome.expect(memory_mb <= MOST_MESSAGE_MB, f"{one.name} ({len(one.raw)} bytes) costs {memory_mb:.1f} MB")
        if number % 20 == 19:
            _say(f"{number + 1} of {len(chosen)} single messages, {len(outcome.problems)} problems")
    outcome.messages = len(costs)
    outcome.dearest_cpu = [(name, cpu) for name, cpu, _ in sorted(costs, key=lambda one: -one[1])[:8]]
    outcome.dearest_memory = [(name, memory) for name, _, memory in sorted(costs, key=lambda one: -one[2])[:8]]


def _cost(made: World, raw: bytes) -> tuple[float, float, int]:
    """Processor time, memory and the answer's status, on a bus just started."""
    tries = []
    while not tries or (len(tries) < TRIES and (tries[-1][0] > MOST_CPU_S or tries[-1][1] > MOST_MESSAGE_MB)):
        made.bus.kill()
        made.start()
        usage = made.usage
        usage.forget_most()
        before_mb, before_s = usage.memory_mb(), usage.cpu_s()
        status, _ = made.bus.wire.post(raw)
        usage.settle()
        tries.append((usage.cpu_s() - before_s, usage.most_memory_mb() - before_mb, status))
    return min(one[0] for one in tries), min(one[1] for one in tries), tries[0][2]


# --- the campaign ----------------------------------------------------------------------------------------------------


def campaign(folder: Path, plan: Plan) -> Outcome:
    """Run it in a folder of its own; a part whose size is 0 is left out."""
    outcome = Outcome()
    with world(folder, plan) as made:
        if plan.connections:
            slow_connections(made, plan, outcome)
        if plan.post_mb:
            endless_posts(made, plan, outcome)
        if plan.only != "-":
            single_messages(made, plan, outcome)
        errors = made.bus.errors().strip()
    outcome.expect(not errors, f"the bus complained: {errors[-2000:]}")
    return outcome


def main() -> int:
    """Print what was seen; 0 when everything holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in Plan.__annotations__.items():
        choices = sorted(slow_bus.SABOTAGES) if name == "sabotage" else None
        default = getattr(Plan(), name)
        help_text = {"only": "single messages whose name matches; '-': none"}.get(name)
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(default), default=default, choices=choices, help=help_text
        )
        assert kind
    parser.add_argument("--keep", type=Path, help="a new folder that keeps the bus's files")
    parser.add_argument("--json", action="store_true", dest="as_json")
    asked = parser.parse_args()
    plan, began = Plan(**{name: getattr(asked, name) for name in Plan._fields}), time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        outcome = campaign(folder, plan)
    asked_for = {"connections": plan.connections, "post_mb": plan.post_mb, "seed": plan.seed, "sabotage": plan.sabotage}
    took_s = round(time.monotonic() - began)
    result = {"ok": not outcome.problems, **asked_for, **asdict(outcome), "took_s": took_s}
    print(json.dumps(result) if asked.as_json else "\n".join(f"{name}: {value}" for name, value in result.items()))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
