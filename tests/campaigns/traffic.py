"""Devices that push to a bus until each has an answer for every message, whatever becomes of the bus meanwhile.

For campaigns: `Traffic` keeps what was sent and what was answered, for `judging.py`. A campaign says in `again` which
messages are sent once more, and when.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from live_bus import Device, LiveBus

DAY_S = 86_400
LONGEST_S = 300  # without an answer: then the campaign gives up; a machine may stop us for a minute or two
PAUSE_S = 0.02
MOST_PROBLEMS = 50
EARLY_DAY_S = 1_577_923_200  # 2020-01-02T00:00:00Z
DEVICES = 8
MOST_MESSAGES = DEVICES * 2000  # of `SomeAgain`: a day of a device's meter each, and none in the future


class Tally:
    """Counts by attribute, and the first few of what does not hold in `problems`."""

    problems: list[str]

    @property
    def ok(self) -> bool:
        return not self.problems

    def problem(self, text: str, counter: str = "") -> None:
        if counter:
            setattr(self, counter, getattr(self, counter) + 1)
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(text)


@dataclass
class Found(Tally):
    """Raw counts; `problems` names the first few of what does not hold."""

    messages: int = 0
    seed: int = 0
    unanswered: int = 0
    resent: int = 0
    twins: int = 0
    lost: int = 0
    double: int = 0
    wrong: int = 0
    phantom: int = 0
    receipts_changed: int = 0
    roots_wrong: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class Sent:
    """A message a device made: its content stays, its seal is new with each attempt unless `raw` is sent again."""

    device: Device
    message_id: str
    payload: bytes
    first_end_utc: int
    values: list[str]
    receipt: bytes | None = None
    raw: bytes = b""


class Traffic:
    """A thread a device. `first_day_s`: a meter has a day in each of its messages, one after the other from here."""

    first_day_s = 1_735_689_600  # 2025-01-01T00:00:00Z
    sizes: Sequence[int] = (96,)  # how many values a message may have
    takes_later = False  # whether "try again later" (503) is an answer a device may get

    def __init__(self, bus: LiveBus, devices: list[Device], found: Found) -> None:
        self._bus, self._found = bus, found
        self.sent: list[Sent] = []
        self._lock = threading.Lock()
        self._answers = 0
        self._newest_s = 0.0  # when the newest request that was answered began
        self._news = threading.Condition()
        self._generation = 0
        self._is_up = True
        count = len(devices)
        shares = [found.messages // count + (number < found.messages % count) for number in range(count)]
        self._threads = [
            threading.Thread(target=self._run, args=(device, share, random.Random(f"{found.seed}-{device.serial}")))
            for device, share in zip(devices, shares, strict=True)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    @property
    def is_over(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def wait_for_answers(self, count: int) -> None:
        """Wait until so many messages were answered for the first time."""
        self._wait_until(lambda: self._answers >= count)

    def wait_for_answer_since(self, moment_s: float) -> float:
        """Wait until something sent after a monotonic moment is answered; return the seconds since that moment."""
        self._wait_until(lambda: self._newest_s > moment_s)
        return time.monotonic() - moment_s

    def _wait_until(self, predicate: Callable[[], bool]) -> None:
        patience = time.monotonic() + LONGEST_S
        with self._news:
            while not self._news.wait_for(lambda: predicate() or self.is_over, 1):
                if self._bus.process.poll() is not None:
                    raise AssertionError(f"the bus ended by itself: {self._bus.process.poll()} {self._bus.errors()}")
                if time.monotonic() > patience:
                    raise AssertionError(f"no answer any more, after {self._answers}")

    def went_down(self) -> None:
        with self._news:
            self._is_up = False

    def came_up(self) -> None:
        with self._news:
            self._is_up = True
            self._generation += 1
            self._news.notify_all()

    def again(self, mine: list[Sent], chance: random.Random) -> None:
        """Called after each message with all of a device's so far: send those again that are to be."""

    def finish(self, mine: list[Sent]) -> None:
        """Called once a device has sent all its messages."""

    def _run(self, device: Device, share: int, chance: random.Random) -> None:
        try:
            self._push(device, share, chance)
        except Exception as error:
            self._found.problem(f"{device.serial} stopped: {error!r}")

    def _push(self, device: Device, share: int, chance: random.Random) -> None:
        mine: list[Sent] = []
        for number in range(share):
            one = self.make(device, number, chance)
            mine.append(one)
            with self._lock:
                self.sent.append(one)
            self.until_answered(one)
            self.again(mine, chance)
        self.finish(mine)

    def make(self, device: Device, number: int, chance: random.Random) -> Sent:
        """Make message `number` of a device."""
        values = [f"{chance.randrange(10**6)}.{chance.randrange(1000):03d}" for _ in range(chance.choice(self.sizes))]
        first_end = self.first_day_s + number * DAY_S + 900
        message_id = f"{device.serial}-{number:06d}"
        return Sent(device, message_id, device.payload(message_id, values, first_end), first_end, values)

    def until_answered(self, one: Sent, raw: bytes = b"") -> bytes:
        """Send until there is an answer, sealed anew each time unless `raw` is given; return it."""
        patience = time.monotonic() + LONGEST_S
        while True:
            began = time.monotonic()
            attempt = raw or one.device.seal(one.payload)
            answered = self._post(attempt)
            if answered is None or (answered[0] == 503 and self.takes_later):
                if time.monotonic() > patience:
                    raise AssertionError(f"{one.message_id}: no answer for {LONGEST_S} s")
                self._wait_until_up()
                continue
            status, body = answered
            if status == 200:
                one.raw = one.raw or attempt
                self._keep(one, body, began)
            else:
                self._found.problem(f"{one.message_id}: answered with {status}: {code_of(body)}")
            return body

    def _post(self, raw: bytes) -> tuple[int, bytes] | None:
        try:
            return self._bus.wire.post(raw)
        except (OSError, http.client.HTTPException):
            with self._lock:
                self._found.unanswered += 1
            return None

    def _keep(self, one: Sent, body: bytes, began_s: float) -> None:
        with self._lock:
            first = one.receipt is None
            one.receipt = one.receipt or body
            self._found.resent += not first
        if first:
            one.device.receipt(body, one.payload)
        elif body != one.receipt:
            self._found.problem(f"{one.message_id}: a repeat got another receipt", "receipts_changed")
        with self._news:
            self._answers += first
            self._newest_s = max(self._newest_s, began_s)
            self._news.notify_all()

    def _wait_until_up(self) -> None:
        with self._news:
            if not self._news.wait_for(lambda: self._is_up, LONGEST_S):
                raise AssertionError("the bus did not come back")
        time.sleep(PAUSE_S)  # before the next try; a device waits longer


class SomeAgain(Traffic):
    """Sends earlier messages again: the same bytes, sealed anew, or twice at once."""

    first_day_s = EARLY_DAY_S
    sizes = (1, 4, 96)
    takes_later = True
    repeats = 5

    def again(self, mine: list[Sent], chance: random.Random) -> None:
        if chance.randrange(100) >= self.repeats:
            return
        one, kind = chance.choice(mine), chance.randrange(3)
        if kind == 0:
            self.until_answered(one)
        elif kind == 1:
            self.until_answered(one, one.raw)
        else:
            self._twice(one)

    def _twice(self, one: Sent) -> None:
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(self.until_answered, (one, one)))
        with self._lock:
            self._found.twins += 1
        if answers[0] != answers[1]:
            self._found.problem(f"{one.message_id}: two answers at once differ", "receipts_changed")


def code_of(body: bytes) -> str:
    """What a fault says, to print."""
    _, _, rest = body.partition(b"faultstring>")
    return rest[:120].decode(errors="replace") or repr(body[:120])


def free_port() -> int:
    """Return a port that is free now, for a bus that must have the same one over its restarts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def told(result: dict[str, Any], as_json: bool) -> int:
    """Print a campaign's result, and return its exit status."""
    print(json.dumps(result) if as_json else "\n".join(f"{name}: {value}" for name, value in result.items()))
    return 0 if result["ok"] else 1
