"""Every message again and again, in three forms: always the first receipt, never a second entry.

    tests/campaigns/replay.py [--messages 10000] [--seed N] [--sabotage NAME] [--json]

Each message is taken once, then sent again in three forms:

- the same bytes;
- sealed anew: another Timestamp and signature, other wsu:Ids, another order of the Security header, by turns ours and
  one made without Gridpost's signing code;
- written anew: other bytes of the same canonical XML (`reserialise.py`);

and that at once, after a restart, and after the running bus's clock has stepped on by 399 days; the same bytes once
more to a bus started 401 days on, because receipts stay for ever. Beside them, each time, one in twenty is sent with
other content under its id: refused; and so, being stale, is what was sealed in the beginning and never sent.

Judged by the answers and, in the end, by SQL: one entry a message, each value once, nothing else.

Exit status: 0 everything holds, 1 something does not.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "core"))

import changed_bus
from forging import BODY, TIME, TOKEN, Draft, clock
from judging import judge_entries, judge_receipts
from live_bus import Device, LiveBus, channel_table, now_utc_ms
from reserialise import reserialised
from traffic import DAY_S, DEVICES, EARLY_DAY_S, LONGEST_S, MOST_MESSAGES, Found, Sent, code_of, free_port, told

STEP_DAYS, LATEST_DAYS = 399, 401
ONE_IN = 20
SABOTAGES = ("no-repeat-lookup", "any-content", "window-off")
TYPE = {"Content-Type": "text/xml; charset=utf-8"}
# Another order, other Ids, the token signed too.
SECURITY = '<wsse:Security soap:mustUnderstand="1">{timestamp}{signature}{token}</wsse:Security>'


class Plan(NamedTuple):
    """What the campaign is asked to do."""

    messages: int = 10_000
    seed: int = 1
    sabotage: str = ""
    devices: int = DEVICES


@dataclass
class Outcome(Found):
    """Raw counts: repeats by when and form; refusals by when and code."""

    repeats: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    not_refused: int = 0
    entries: int = 0
    seconds: float = 0.0


# --- the forms -------------------------------------------------------------------------------------------------------


def same_bytes(one: Sent, _at_utc_ms: int, _chance: random.Random) -> bytes:
    return one.raw


def sealed_anew(one: Sent, at_utc_ms: int, chance: random.Random) -> bytes:
    """By turns ours with another Timestamp, and another signer's with other Ids."""
    at_utc_ms -= chance.randrange(60_000)
    if chance.random() < 0.5:
        return one.device.seal(one.payload, at_utc_ms)
    names = {name: f"{name}-{chance.getrandbits(64):x}" for name in ("body", "time", "token")}
    draft = Draft(one.payload.decode(), one.device.signer, created=clock(at_utc_ms), security=SECURITY)
    refs = [ref._replace(uri=f"#{names[ref.target]}", target=names[ref.target]) for ref in (TOKEN, BODY, TIME)]

    def renamed(text: str) -> str:
        for name, other in names.items():
            text = text.replace(f'wsu:Id="{name}"', f'wsu:Id="{other}"')
        return text.replace('URI="#token"', f'URI="#{names["token"]}"')

    return Draft(**{**vars(draft), "refs": refs, "rewrite": renamed}).sealed()


def written_anew(one: Sent, _at_utc_ms: int, chance: random.Random) -> bytes:
    return reserialised(one.raw, chance)


FORMS: dict[str, Callable[[Sent, int, random.Random], bytes]] = {
    "same bytes": same_bytes,
    "sealed anew": sealed_anew,
    "written anew": written_anew,
}


# --- the devices -----------------------------------------------------------------------------------------------------


class Post:
    """One device's connection, kept open as long as the bus keeps it."""

    def __init__(self, bus: LiveBus) -> None:
        self._bus = bus
        self._connection: http.client.HTTPConnection | None = None

    def __call__(self, raw: bytes) -> tuple[int, bytes]:
        """Post; once more on a new connection where the bus had closed this one meanwhile."""
        patience = time.monotonic() + LONGEST_S
        while True:
            try:
                self._connection = self._connection or self._bus.wire.connection()
                self._connection.request("POST", "/metering", raw, TYPE)
                answer = self._connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException):
                if self._connection:
                    self._connection.close()
                self._connection = None
                if time.monotonic() > patience:
                    raise


class Fleet:
    """The devices, what each has sent, and what each never sent."""

    def __init__(self, bus: LiveBus, devices: list[Device], outcome: Outcome) -> None:
        self._bus, self._devices, self._outcome = bus, devices, outcome
        self._lock = threading.Lock()
        count = len(devices)
        shares = [outcome.messages // count + (number < outcome.messages % count) for number in range(count)]
        chance = random.Random(outcome.seed)
        self._messages = [
            [make(device, number, chance) for number in range(share)]
            for device, share in zip(devices, shares, strict=True)
        ]
        self._unseen = [make(device, 2000, chance) for device in devices]
        for one in self._unseen:
            one.raw = one.device.seal(one.payload)

    @property
    def sent(self) -> list[Sent]:
        return [one for mine in self._messages for one in mine]

    def first(self) -> None:
        """Send everything for the first time."""

        def push(mine: list[Sent], post: Post) -> None:
            for one in mine:
                one.raw = one.device.seal(one.payload)
                status, one.receipt = post(one.raw)
                if status != 200:
                    self._outcome.problem(f"{one.message_id}: {status} {code_of(one.receipt)}", "lost")
                    continue
                one.device.receipt(one.receipt, one.payload)

        self._each(push)

    def again(self, when: str, ahead_s: int, forms: list[str]) -> None:
        """Send everything again in these forms, and some with other content."""

        def push(mine: list[Sent], post: Post) -> None:
            chance = random.Random(f"{self._outcome.seed}-{when}-{mine[0].device.serial}")
            for number, one in enumerate(mine):
                at = now_utc_ms() + ahead_s * 1000
                for form in chance.sample(forms, len(forms)):
                    self._repeat(one, FORMS[form](one, at, chance), f"{when}, {form}", post)
                if number % ONE_IN == 0:
                    other = other_content(one, chance)
                    self._refused(one, one.device.seal(other, at), f"{when}, message-id-reused", post)

        self._each(push)

    def too_late(self, when: str) -> None:
        """Send what was never sent: by now it is stale."""
        for one in self._unseen:
            for raw in (one.raw, reserialised(one.raw, random.Random(when))):
                self._refused(one, raw, f"{when}, message-stale", Post(self._bus))

    def _each(self, push: Callable[[list[Sent], Post], None]) -> None:
        with ThreadPoolExecutor(len(self._messages)) as pool:
            for done in [pool.submit(push, mine, Post(self._bus)) for mine in self._messages if mine]:
                done.result()

    def _repeat(self, one: Sent, raw: bytes, what: str, post: Post) -> None:
        answer = post(raw)
        with self._lock:
            self._outcome.repeats[what] = self._outcome.repeats.get(what, 0) + 1
            self._outcome.resent += 1
            if answer[0] != 200:
                text = f"{one.message_id}, {what}: {answer[0]} {code_of(answer[1])}"
                self._outcome.problem(text, "receipts_changed")
            elif answer[1] != one.receipt:
                self._outcome.problem(f"{one.message_id}, {what}: another receipt", "receipts_changed")

    def _refused(self, one: Sent, raw: bytes, what: str, post: Post) -> None:
        status, body = post(raw)
        code = "" if status == 200 else one.device.refusal(body).code
        with self._lock:
            self._outcome.refusals[what] = self._outcome.refusals.get(what, 0) + 1
            if not what.endswith(f", {code}"):
                self._outcome.problem(f"{one.message_id}, {what}: {status} {code or 'accepted'}", "not_refused")


def make(device: Device, number: int, chance: random.Random) -> Sent:
    values = [f"{chance.randrange(10**6)}.{chance.randrange(1000):03d}" for _ in range(chance.choice((1, 4, 4, 24)))]
    first_end, message_id = EARLY_DAY_S + number * DAY_S + 900, f"{device.serial}-{number}"
    return Sent(device, message_id, device.payload(message_id, values, first_end), first_end, values)


def other_content(one: Sent, chance: random.Random) -> bytes:
    """One digit of the first value is another."""
    value = one.values[0]
    digit = str((int(value[-1]) + chance.randrange(1, 10)) % 10)
    return one.device.payload(one.message_id, [value[:-1] + digit, *one.values[1:]], one.first_end_utc)


# --- the campaign ----------------------------------------------------------------------------------------------------


def campaign(folder: Path, plan: Plan) -> Outcome:
    """Run it in a folder of its own."""
    outcome, began = Outcome(messages=plan.messages, seed=plan.seed), time.monotonic()
    bus = LiveBus.make(folder / "bus", listen={"http": f"127.0.0.1:{free_port()}"}, mv90={"enabled": False})
    try:
        _run(bus, plan, outcome)
    finally:
        if bus.process is not None:
            bus.kill()
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def _run(bus: LiveBus, plan: Plan, outcome: Outcome) -> None:
    step, latest = STEP_DAYS * DAY_S, LATEST_DAYS * DAY_S
    bus.command = changed_bus.command(0, step, damage=plan.sabotage)
    bus.start()
    devices = [bus.enrol(f"IED-{number}", channel_table(f"M-IED-{number}")) for number in range(plan.devices)]
    fleet = Fleet(bus, devices, outcome)
    fleet.first()
    _progress("every message taken", outcome)
    fleet.again("at once", 0, list(FORMS))
    _progress("again at once", outcome)
    _end(bus, outcome)
    bus.start()
    fleet.again("restarted", 0, list(FORMS))
    _progress("again after a restart", outcome)
    _step(bus, fleet.sent[0])
    fleet.again(f"{STEP_DAYS} days on", step, list(FORMS))
    fleet.too_late(f"{STEP_DAYS} days on")
    _progress("again 399 days on", outcome)
    _end(bus, outcome)
    bus.command = changed_bus.command(latest, damage=plan.sabotage)
    bus.start()
    fleet.again(f"{LATEST_DAYS} days on", latest, ["same bytes"])
    fleet.too_late(f"{LATEST_DAYS} days on")
    _end(bus, outcome)
    with contextlib.closing(sqlite3.connect(f"file:{bus.folder / 'gridpost.db'}?mode=ro", uri=True)) as database:
        (outcome.entries,) = database.execute("SELECT count(*) FROM entry").fetchone()
        judge_entries(database, fleet.sent, outcome)
        judge_receipts(database, fleet.sent, outcome)


def _step(bus: LiveBus, one: Sent) -> None:
    """Step the running bus's clock, and wait until it has said that it noticed."""
    bus.process.send_signal(signal.SIGUSR1)
    end = time.monotonic() + LONGEST_S
    while not bus.audit("clock-stepped"):
        if time.monotonic() > end:
            raise AssertionError("the clock did not step")
        bus.wire.post(one.raw)  # it looks at its clock with each message


def _end(bus: LiveBus, outcome: Outcome) -> None:
    code = bus.stop()
    if code != 0:
        outcome.problem(f"the bus ended with {code}: {bus.errors()[-300:]}")


def _progress(text: str, outcome: Outcome) -> None:
    print(f"{text}: {outcome.resent} repeats, {len(outcome.problems)} problems", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=Plan().messages)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--sabotage", choices=SABOTAGES, default="")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if not 1 <= asked.messages <= MOST_MESSAGES:
        parser.error(f"1 to {MOST_MESSAGES} messages")
    with tempfile.TemporaryDirectory() as folder:
        outcome = campaign(Path(folder), Plan(asked.messages, asked.seed, asked.sabotage))
    return told({**asdict(outcome), "ok": outcome.ok}, asked.json)


if __name__ == "__main__":
    sys.exit(main())
