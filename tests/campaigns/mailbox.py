"""Mailboxes of three partners, one down for an hour, one answering errors: all in order, none twice, nothing lost.

    tests/campaigns/mailbox.py [--messages 10000] [--kills 12] [--seed N] [--sabotage NAME] [--json]

Messages (readings, and outcomes of commands) are posted into three mailboxes, a third each. One partner fetches with
signed PeekMailbox and DequeueMailbox over the office listener, and forgets to dequeue now and then. Two have a service
that the bus calls, sealed as IEC 61968-100: one is down for an hour of the bus's clock; the other errs in one answer of
eight: HTTP 500, HTML, a fault, nothing, a dropped connection, half an answer, one that comes too late. Both refuse
some messages for good, until they are mended.

The bus's parts (`mailbox_bus.py`: store, office listener, pushes) run in a process of their own that is killed and
ended by turns; what was posted when it was killed is posted again. In the end the clock goes on by 91 days and old mail
is forgotten, but for the dead letters, which `gridpost dead-letters` shows; they are sent again in vain, mended, and
sent again.

Judged by the partners (`mailbox_partners.py`) and by SQL: every message came with its posted content, signed, in the
mailbox's order; nothing again after a commit, or after an OK, but what was on its way at a kill; nothing lost.

Exit status: 0 everything holds, 1 something does not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from gridpost.server.cli import group
from gridpost.server.store import open_store
from live_bus import LiveBus, Wire, now_utc_ms
from mailbox_bus import AUTH, DAMAGES, Clock
from mailbox_partners import LONGEST_S, Fetching, MailFound, Posted, Service
from traffic import free_port, told

from gridpost import messages, testing
from gridpost.controls import DETAIL_CONTROL, DETAIL_OUTCOME, OUTCOME_EVENT, Role
from gridpost.model import EndDeviceEvent
from gridpost.partners import Partner
from gridpost.requests import Mail

FETCHES, DOWN, ERRS = "fetches", "down", "errs"
PARTNERS = (FETCHES, DOWN, ERRS)
HOUR_MS, DAY_MS, MAIL_DAYS = 3_600_000, 86_400_000, 90
TICK_S = 0.01
PIECE = 30  # mails posted at once
AHEAD = 300  # so many may wait for each partner before more are posted


class Plan(NamedTuple):
    """What the campaign is asked to do; `hour_s`: real seconds that an hour of the bus's clock takes at least."""

    messages: int = 10_000
    kills: int = 12
    seed: int = 1
    sabotage: str = ""
    refused: int = 5
    hour_s: float = 20


def contents(plan: Plan) -> list[Mail]:
    """What is posted, in order: readings and outcomes, for the partners by turns that the seed draws."""
    chance = random.Random(f"{plan.seed}-contents")
    whose = [PARTNERS[number % len(PARTNERS)] for number in range(plan.messages)]
    chance.shuffle(whose)
    return [_mail(partner, line, chance) for line, partner in enumerate(whose, 1)]


def _mail(partner: str, line: int, chance: random.Random) -> Mail:
    at, name = testing.NOW_UTC_MS, f"m-{line}"
    if chance.randrange(2):
        values = [str(chance.randrange(10**6)) for _ in range(chance.choice((1, 4, 24)))]
        content: Any = testing.readings_message("bus", name, [testing.block(testing.channel(), at // 1000, values)])
        return Mail(partner, "readings", "MeterReadings", messages.encode(content), line=line)
    details = {DETAIL_CONTROL: f"0-{line}-0", DETAIL_OUTCOME: chance.choice(("done", "failed", "refused"))}
    event = EndDeviceEvent(f"{name}-e", OUTCOME_EVENT, at, "M1", "", details=details)
    content = testing.events_message("bus", name, [event])
    return Mail(partner, "outcome", "EndDeviceEvents", messages.encode(content), f"0-{line}-0", line=line)


@dataclass
class Lives:
    """The bus's parts in one process after another."""

    folder: Path
    found: MailFound
    listener: Listener
    mother: subprocess.Popen[str]
    pid: int = 0
    orders: Connection | None = None

    @classmethod
    def make(cls, folder: Path, found: MailFound) -> Lives:
        listener = Listener(("127.0.0.1", 0), authkey=AUTH)
        program, address = Path(__file__).with_name("mailbox_bus.py"), "{}:{}".format(*listener.address)
        command = [sys.executable, str(program), str(folder), address, found.sabotage]
        pipe = subprocess.PIPE
        with (folder / "process.log").open("ab") as log:
            mother = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True)
        return cls(folder, found, listener, mother)

    def start(self) -> None:
        assert self.mother.stdin
        assert self.mother.stdout
        self.mother.stdin.write("live\n")
        self.mother.stdin.flush()
        self.pid = int(self.mother.stdout.readline())
        self.orders = self.listener.accept()
        self.answer()

    def tell(self, *order: Any) -> None:
        assert self.orders
        self.orders.send(order)

    def answer(self) -> None:
        assert self.orders
        if not self.orders.poll(LONGEST_S):
            raise AssertionError("the bus does not answer: " + self.errors())
        try:
            self.orders.recv()
        except EOFError:
            raise AssertionError("the bus is gone: " + self.errors()) from None

    def end(self, *, kill: bool) -> None:
        """Kill it, or let it end; return once it is gone."""
        if kill:
            os.kill(self.pid, signal.SIGKILL)
        else:
            self.tell("end", None)
        ends = time.monotonic() + LONGEST_S
        while _is_there(self.pid):
            if time.monotonic() > ends:
                raise AssertionError("the bus does not end: " + self.errors())
            time.sleep(0.005)
        self.found.add("kills" if kill else "ends")

    def errors(self) -> str:
        return (self.folder / "process.log").read_text()[-1500:]

    def close(self) -> None:
        if self.pid and _is_there(self.pid):
            os.kill(self.pid, signal.SIGKILL)
        self.mother.kill()
        self.mother.wait()
        self.listener.close()


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class World:
    """All that runs, and what was found."""

    def __init__(self, bus: LiveBus, plan: Plan, found: MailFound) -> None:
        self.plan, self.found, self.bus = plan, found, bus
        self.posted = {name: Posted(name) for name in PARTNERS}
        self._mails = contents(plan)
        for mail in self._mails:
            self.posted[mail.partner].add(mail.content)
        self._given = 0
        self.clock = Clock(bus.folder / "clock", now_utc_ms() + DAY_MS)
        port = free_port()
        bus.configure(office={"http": f"127.0.0.1:{port}"})
        self.database, ca = bus.folder / "gridpost.db", testing.ThrowawayCA()
        trusted = bus.folder / "ca.pem"
        self._looking = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=60)
        self.services = {
            name: Service(self.posted[name], found, _der(trusted), self.database, errs)
            for name, errs in ((DOWN, 0.0), (ERRS, 0.125))
        }
        chance = random.Random(f"{plan.seed}-refused")
        for name, service in self.services.items():
            numbers = range(1, len(self.posted[name].contents) + 1)
            service.set_aside = service.refuses = frozenset(chance.sample(numbers, min(plan.refused, len(numbers))))
        key = ca.issue_device(FETCHES)
        self.fetching = Fetching(self.posted[FETCHES], found, key, Wire(f"http://127.0.0.1:{port}"), self.clock)
        self.fetching.ca = _der(trusted)
        self._enter(key.certificate)
        self.lives = Lives.make(bus.folder, found)
        self._due = sorted(chance.sample(range(1, plan.messages), plan.kills), reverse=True)
        self._rate = HOUR_MS / plan.hour_s / 1000

    def _enter(self, certificate: bytes) -> None:
        store = open_store(self.database, self.clock)
        store.add_ied("IED-1", "", b"0123456789", [testing.channel()])
        store.add_partner(Partner(FETCHES, "", Role.UTILITY, "north"))
        store.add_partner_certificate(FETCHES, certificate, "signature")
        for name, service in self.services.items():
            address = f"http://127.0.0.1:{service.port}"
            wsdl = f"{address}/metering.wsdl"
            store.add_partner(Partner(name, "", Role.UTILITY, "north", endpoint=f"{address}/in", wsdl=wsdl))
        store.close()

    # --- going on ---

    def places(self) -> dict[str, tuple[int, int]]:
        """Each mailbox: the last number, and what is committed."""
        rows = self._looking.execute("SELECT partner, last, committed FROM mailbox_cursor")
        return dict.fromkeys(PARTNERS, (0, 0)) | {partner: (last, committed) for partner, last, committed in rows}

    def taken(self) -> int:
        return sum(committed for _, committed in self.places().values())

    def waiting(self, *names: str) -> int:
        places = self.places()
        return sum(places[name][0] - places[name][1] for name in names)

    def go_on(self, until: Callable[[], bool], most: int) -> None:
        """Let time pass, post up to `most` messages in all, kill and start, until something holds."""
        newest, ends, went_s = -1, time.monotonic() + LONGEST_S, time.monotonic()
        while self._given < most or not until():
            taken = self.taken()
            if taken != newest:
                newest, ends = taken, time.monotonic() + LONGEST_S
            if time.monotonic() > ends or not self.fetching.is_alive:
                raise AssertionError(f"nothing goes on: {self.places()} of {self._given}: {self.lives.errors()}")
            self._post(most)
            if self._due and taken >= self._due[-1]:
                self._due.pop()
                self._restart(most, kill=len(self._due) % 3 != 0)
            time.sleep(TICK_S)  # what the clock goes by, at least
            now_s = time.monotonic()
            self.clock.put(self.clock() + int((now_s - went_s) * 1000 * self._rate))
            went_s = now_s

    def _post(self, most: int) -> None:
        if self._given < most and self.waiting(FETCHES, ERRS) < AHEAD:
            piece = self._mails[self._given : min(most, self._given + PIECE)]
            self.lives.tell("post", piece)
            self.lives.answer()
            self._given += len(piece)

    def _restart(self, most: int, *, kill: bool) -> None:
        """While it posts something, when it is killed: that is posted once more by `_post`."""
        if kill and self._given < most:
            self.lives.tell("post", self._mails[self._given : min(most, self._given + PIECE)])
        self.lives.end(kill=kill)
        if kill:
            for service in self.services.values():
                service.was_killed()
        self.lives.start()

    def step_clock(self, by_ms: int) -> None:
        self.clock.put(self.clock() + by_ms)

    def forget(self) -> int:
        """Let old mail be forgotten; return how much is left."""
        left, before = self._left(), -1
        while left != before:  # some at once
            self.lives.tell("forget", MAIL_DAYS)
            self.lives.answer()
            left, before = self._left(), left
        return left

    def _left(self) -> int:
        (left,) = self._looking.execute("SELECT count(*) FROM mailbox").fetchone()
        return int(left)

    def letters(self, *more: str) -> dict[tuple[str, int], str]:
        """What `gridpost dead-letters` lists, of pushes: partner and number -> why."""
        arguments = ["dead-letters", *more, "--config", str(self.bus.config), "--json"]
        done = CliRunner().invoke(group, arguments, catch_exceptions=False)
        listed = json.loads(done.output)["dead_letters"]
        pushes = [one for one in listed if one["reader"].startswith("push ")]
        return {(one["reader"].removeprefix("push "), int(one["subject"])): one["reason"] for one in pushes}

    def refused(self) -> set[tuple[str, int]]:
        """What should be listed: all that is refused and not mended."""
        return {(name, number) for name, service in self.services.items() for number in service.refuses}

    def close(self) -> None:
        self.fetching.stop()
        self.lives.close()
        for service in self.services.values():
            service.close()
        self._looking.close()


def _der(file: Path) -> bytes:
    return x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(Encoding.DER)


# --- the campaign ----------------------------------------------------------------------------------------------------


def campaign(folder: Path, plan: Plan, initialised: LiveBus | None = None) -> MailFound:
    """Run it in a folder of its own; `initialised`: a bus that was made there already."""
    found, began = MailFound(messages=plan.messages, seed=plan.seed, sabotage=plan.sabotage), time.monotonic()
    world = World(initialised or LiveBus.make(folder / "bus"), plan, found)
    try:
        _run(world)
    except AssertionError as error:
        found.problem(f"stopped: {error}")
    finally:
        world.close()
    _judge(world)
    found.seconds = round(time.monotonic() - began, 1)
    return found


def _run(world: World) -> None:
    whole, found = world.plan.messages, world.found
    world.lives.start()
    world.fetching.start()
    world.go_on(lambda: world.taken() >= whole // 6, whole // 3)
    _progress("a third posted", world)
    _hour(world)
    world.go_on(lambda: not world.waiting(*PARTNERS), whole)
    _progress("all mailboxes empty", world)
    if found.problems:
        return  # what follows would not end on a bus that loses mail
    letters = world.letters()
    found.letters_listed = len(letters)
    if set(letters) != world.refused():
        found.problem(f"dead letters {sorted(letters)}, refused {sorted(world.refused())}")
    world.step_clock((MAIL_DAYS + 1) * DAY_MS)
    if (left := world.forget()) != len(letters):
        found.problem(f"{left} mails are left after {MAIL_DAYS} days, and there are {len(letters)} dead letters")
    _mend(world)
    found.mails_left = world.forget()
    if found.mails_left:
        found.problem(f"{found.mails_left} mails are left although all is done")
    world.lives.end(kill=False)


def _hour(world: World) -> None:
    """One partner is down for an hour, or until the others have all that was posted meanwhile, if that is later."""
    whole, found, service = world.plan.messages, world.found, world.services[DOWN]
    service.down()
    began, others = world.clock(), sum(committed for name, (_, committed) in world.places().items() if name != DOWN)

    def over() -> bool:
        return world.clock() >= began + HOUR_MS and not world.waiting(FETCHES, ERRS)

    world.go_on(over, 2 * whole // 3)
    places = world.places()
    found.down_s = (world.clock() - began) // 1000
    found.kept_while_down = places[DOWN][0] - places[DOWN][1]
    found.drained_meanwhile = sum(committed for name, (_, committed) in places.items() if name != DOWN) - others
    if places[DOWN][1] > service.answered:
        found.problem(f"{DOWN} went down behind {service.answered}, its mailbox went on to {places[DOWN][1]}", "lost")
    service.up()
    _progress(f"an hour later: {found.kept_while_down} kept, {found.drained_meanwhile} drained", world)


def _mend(world: World) -> None:
    """Send dead letters again in vain, mend what they are refused for, and send them again."""
    found, expected = world.found, world.refused()
    refused = found.refused
    world.letters("--retry")
    world.go_on(lambda: found.refused >= refused + len(expected) and _is_settled(world), world.plan.messages)
    found.letters_again = len(world.letters())
    if found.letters_again != len(expected):
        found.problem(f"{len(expected)} refused again, {found.letters_again} listed")
    for service in world.services.values():
        service.refuses = frozenset()
    world.letters("--retry")
    world.go_on(lambda: not _rows(world, "reader LIKE 'push %'"), world.plan.messages)
    found.sent_again = sum(len(one.set_aside & one.done) for one in world.services.values())


def _is_settled(world: World) -> bool:
    return not _rows(world, "reason = ''")


def _rows(world: World, where: str) -> int:
    (number,) = world._looking.execute(f"SELECT count(*) FROM dead_letter WHERE {where}").fetchone()
    return int(number)


def _judge(world: World) -> None:
    found = world.found
    for name, service in world.services.items():
        found.delivered[name] = len(service.done)
        found.errors_answered |= service.errors
        for number in range(1, len(world.posted[name].contents) + 1):
            if number not in service.done:
                found.problem(f"{name}-{number} was never taken with OK", "lost")
    found.delivered[FETCHES] = world.fetching.committed
    found.lost += (missing := len(world.posted[FETCHES].contents) - world.fetching.committed)
    if missing:
        found.problem(f"{FETCHES} committed {world.fetching.committed}, and {missing} more were posted")
    with contextlib.suppress(FileNotFoundError):
        lines = [json.loads(line) for line in (world.bus.folder / "audit.jsonl").read_text().splitlines()]
        found.audit = dict(
            Counter(one["event"] for one in lines if one["event"] in ("pushed", "push-kept", "dead-letter"))
        )


def _progress(text: str, world: World) -> None:
    problems = len(world.found.problems)
    print(f"{text}: {world.taken()} taken, {world.found.kills} kills, {problems} problems", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=Plan().messages)
    parser.add_argument(
        "--kills", type=int, default=Plan().kills, help="of the bus's parts, every third an orderly end"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--sabotage", choices=sorted(DAMAGES), default="")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.messages < 30 or not 0 <= asked.kills < asked.messages // 4:
        parser.error("30 messages at least, and kills for less than a quarter of them")
    plan = Plan(asked.messages, asked.kills, asked.seed, asked.sabotage)
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(Path(folder), plan)
    return told({**asdict(found), "ok": found.ok}, asked.json)


if __name__ == "__main__":
    sys.exit(main())
