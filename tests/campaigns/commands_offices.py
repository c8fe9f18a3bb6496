"""Partners that command and read their mailboxes over a line that cuts: for the campaign of commands.

Each request is sent until it is answered: the same bytes, or sealed anew. Mails are peeked and dequeued through the
listener, some of them more than once; every answer's signature is verified.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from commands_found import CommandsFound
from live_bus import Wire, now_utc_ms
from live_office import SOAP_TYPE, Office
from lxml import etree

from gridpost import control_messages, envelope, exchange, messages, office_messages, wssecurity
from gridpost.controls import (
    DETAIL_CONTROL,
    DETAIL_COUNTER,
    DETAIL_OUTCOME,
    OUTCOME_EVENT,
    Wanted,
)
from gridpost.model import Header

LONGEST_S = 300
PAUSE_S, LOOK_S = 0.05, 0.5
_numbers = count()


class Order(NamedTuple):
    """What a partner wants; its moments are counted from when it is asked for.

    Attributes:
        name: the partner's own mRID of it.
        action: shed or restore.
        targets: serials; those of the group, where one is named.
        group: name of a group; empty: the targets are named.
        priority: 0 to 9.
        begins_ms: not to be acted on earlier; 0: at once.
        lasts_ms: expires so long after it was asked for.
    """

    name: str
    action: str
    targets: tuple[str, ...]
    group: str = ""
    priority: int = 5
    begins_ms: int = 0
    lasts_ms: int = 3_600_000

    def wanted(self, now_utc_ms: int) -> Wanted:
        return Wanted(
            self.name, self.action, () if self.group else self.targets, self.group, "load",
            not_before_utc_ms=self.begins_ms and now_utc_ms + self.begins_ms,
            expires_utc_ms=now_utc_ms + self.lasts_ms, priority=self.priority,
        )  # fmt: skip


class Told(NamedTuple):
    """A mail of an outcome or a step, as its reader has it."""

    partner: str
    number: int
    kind: str
    control: str
    counter: str
    outcome: str
    tracking_id: str
    entry: str
    content: bytes


@dataclass
class Partner:
    """An office behind a line that cuts: it asks, and it reads its mailbox."""

    office: Office
    wire: Wire
    ca: bytes
    found: CommandsFound
    seed: int
    mails: dict[int, Told] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)  # the partner's own mRID -> for how many IEDs
    may_ask: Callable[[], bool] = lambda: True
    committed: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(f"{self.seed}-{self.id}")
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._trouble: list[BaseException] = []

    @property
    def id(self) -> str:
        return self.office.partner.id

    # --- asking ------------------------------------------------------------------------------------------------------

    def ask(self, order: Order) -> Wanted:
        """Ask until it is taken; return it as it was taken."""
        while True:
            now = now_utc_ms()
            wanted = order.wanted(now)
            header = Header("create", "EndDeviceControls", now, self.id, f"ask-{next(_numbers)}")
            payload = control_messages.encode_create_controls(header, (wanted,))
            status, first = self._until_answered(payload)
            if status == 200:
                break
            if b"controls-refused" not in first or wanted.expires_utc_ms > now_utc_ms():
                self.found.problem(f"{order.name}: refused with {status}: {first[-900:]!r}", "refused")
                return wanted
            self.found.remade += 1  # its end had come before an answer did; nothing of it was taken
        self.asked[order.name] = len(order.targets)
        self.found.requests += 1
        if self._chance.randrange(10) == 0:
            _, second = self._until_answered(payload)
            self.found.repeated_requests += 1
            if second != first:
                self.found.problem(f"{order.name}: asked once more, another answer", "answers_changed")
        return wanted

    def _until_answered(self, payload: bytes) -> tuple[int, bytes]:
        raw = exchange.seal(payload, self.office.signer, now_utc_ms())
        ends = time.monotonic() + LONGEST_S
        while time.monotonic() < ends:
            answer = self._post(raw)
            if answer is not None and answer[0] != 503:
                if answer[0] == 200:
                    self._verify(answer[1])
                return answer
            time.sleep(PAUSE_S)  # a client waits before it tries again
            if self._chance.randrange(2):
                raw = exchange.seal(payload, self.office.signer, now_utc_ms())
        raise AssertionError(f"{self.id}: no answer for {LONGEST_S} s")

    def _post(self, raw: bytes) -> tuple[int, bytes] | None:
        try:
            return self.wire.request("POST", "/utility", raw, SOAP_TYPE)[:2]
        except (OSError, http.client.HTTPException):
            self.found.unanswered += 1
            return None

    def _verify(self, raw: bytes) -> envelope.Envelope:
        """The answer is the bus's: its certificate by the CA, its signature over the whole Body."""
        shaped = envelope.shape(raw)
        exchange.check_bus(shaped.certificate, exchange.Trust(self.ca))
        wssecurity.verify(shaped, shaped.certificate)
        self.found.answers_verified += 1
        return shaped

    # --- reading -----------------------------------------------------------------------------------------------------

    def look(self) -> int:
        """Peek, keep what is told, dequeue some of it; return how many mails there were."""
        header = Header("get", "Mailbox", now_utc_ms(), self.id, f"peek-{next(_numbers)}")
        limit = self._chance.randint(1, 20)
        status, raw = self._until_answered(office_messages.encode_peek_mailbox(header, limit))
        assert status == 200, raw
        mails = list(self._verify(raw).payload.iter("{*}Mail"))
        numbers = [int(one.findtext("{*}number")) for one in mails]
        if numbers != list(range(self.committed + 1, self.committed + 1 + len(mails))):
            self.found.problem(f"{self.id}: peeked {numbers} behind {self.committed}", "mails_out_of_order")
        for number, one in zip(numbers, mails, strict=True):
            self._keep(number, one)
        if mails and self._chance.randrange(4):  # or they come once more
            self._dequeue(self._chance.choice((numbers[-1], self._chance.choice(numbers))))
        return len(mails)

    def _keep(self, number: int, mail: etree._Element) -> None:
        content = mail[-1]
        told = self._told(number, mail.findtext("{*}kind"), etree.tostring(content, method="c14n", exclusive=True))
        if number in self.mails:
            self.found.repeated_mails += 1
        if self.mails.setdefault(number, told) != told:
            self.found.problem(f"{self.id}: mail {number} is another one the next time", "mails_changed")

    def _told(self, number: int, kind: str, content: bytes) -> Told:
        events = messages.decode(etree.fromstring(content)).events
        assert [one.event_type for one in events] == [OUTCOME_EVENT] or kind == "commands"
        details = events[0].details
        names = (DETAIL_CONTROL, DETAIL_COUNTER, DETAIL_OUTCOME, "trackingID", "entry")
        return Told(self.id, number, kind, *(details.get(name, "") for name in names), content)

    def _dequeue(self, up_to: int) -> None:
        header = Header("delete", "Mailbox", now_utc_ms(), self.id, f"dequeue-{next(_numbers)}")
        status, raw = self._until_answered(office_messages.encode_dequeue_mailbox(header, up_to))
        assert status == 200, raw
        self.committed = max(self.committed, up_to)

    # --- threads -----------------------------------------------------------------------------------------------------

    def start(self, orders: list[Order]) -> None:
        """Ask for all that, and read what comes, until `stop`."""
        works = (lambda: self._ask_all(orders), self._read)
        self._threads = [threading.Thread(target=self._guarded, args=(work,), daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # raised in the campaign's own thread, see `has_asked`
            self._trouble.append(error)

    def _ask_all(self, orders: list[Order]) -> None:
        for order in orders:
            while not self.may_ask() and not self._over.is_set():
                time.sleep(PAUSE_S)  # so many are under way
            self.ask(order)

    def _read(self) -> None:
        while not self._over.is_set():
            if not self.look():
                self._over.wait(LOOK_S)

    @property
    def has_asked(self) -> bool:
        """Whether all is asked for; what stopped a thread is raised here."""
        if self._trouble:
            raise AssertionError(f"{self.id} stopped") from self._trouble[0]
        return not self._threads[0].is_alive()

    def stop(self) -> None:
        """End the threads, then read the mailbox to its end."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        while self.look():
            pass
