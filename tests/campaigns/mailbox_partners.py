"""The partners of the mailbox campaign: services that take pushes, as well as they do, and an office that fetches.

Each checks what comes against what was posted, as it comes: the bus's signature, the content, the order; that nothing
comes again that was committed, or that was answered with OK, unless the bus was killed right then.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

from live_bus import Wire
from lxml import etree
from mailbox_bus import TIMEOUT_S
from traffic import Tally

from gridpost import envelope, exchange, ns, office_messages, schemas, wssecurity
from gridpost.model import Header

TYPE = {"Content-Type": "text/xml; charset=utf-8"}
LONGEST_S = 120  # without any progress
WAYS = ("status-500", "html", "html-200", "fault", "no-body", "drop", "take-and-drop", "cut", "slow", "too-slow")


@dataclass
class MailFound(Tally):
    """Raw counts; `problems` names the first few of what does not hold."""

    messages: int = 0
    seed: int = 0
    sabotage: str = ""
    kills: int = 0
    ends: int = 0
    delivered: dict[str, int] = field(default_factory=dict)
    errors_answered: dict[str, int] = field(default_factory=dict)
    signatures_verified: int = 0
    down_s: int = 0
    drained_meanwhile: int = 0
    kept_while_down: int = 0
    peeks: int = 0
    peeked_again: int = 0
    repeated_after_kill: int = 0
    refused: int = 0
    letters_listed: int = 0
    letters_again: int = 0
    sent_again: int = 0
    mails_left: int = 0
    lost: int = 0
    twice: int = 0
    after_commit: int = 0
    out_of_order: int = 0
    wrong: int = 0
    audit: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lock = threading.Lock()

    def problem(self, text: str, counter: str = "") -> None:
        with self.lock:
            super().problem(f"seed {self.seed}: {text}", counter)

    def add(self, counter: str) -> None:
        with self.lock:
            setattr(self, counter, getattr(self, counter) + 1)


@dataclass
class Posted:
    """What was put into a partner's mailbox: the content of number n is ``contents[n - 1]``."""

    partner: str
    contents: list[bytes] = field(default_factory=list)
    numbers: dict[bytes, int] = field(default_factory=dict)

    def add(self, content: bytes) -> None:
        self.contents.append(content)
        self.numbers[content] = len(self.contents)


def verified(raw: bytes, ca: bytes) -> envelope.Envelope:
    """Return an envelope that the bus signed."""
    shaped = envelope.shape(raw)
    exchange.check_bus(shaped.certificate, exchange.Trust(ca))
    wssecurity.verify(shaped, shaped.certificate)
    return shaped


def soap(content: str) -> bytes:
    return f'<s:Envelope xmlns:s="{ns.SOAP11}"><s:Body>{content}</s:Body></s:Envelope>'.encode()


def fault(code: str) -> bytes:
    return soap(f"<s:Fault><faultcode>s:{code}</faultcode><faultstring>not this</faultstring></s:Fault>")


def accepted(payload: Any) -> bytes:
    """The answer that the WSDL has for a message of readings or events."""
    name = etree.QName(payload)
    noun, message = name.localname.removeprefix("Created"), f'xmlns="{ns.MESSAGE}"'
    return soap(
        f'<{noun}ResponseMessage xmlns="{name.namespace}"><Header><Verb {message}>reply</Verb><Noun {message}>{noun}'
        f"</Noun></Header><Reply><Result {message}>OK</Result></Reply></{noun}ResponseMessage>"
    )


class Service:
    """A partner's own service, on a port that stays its own while it is down."""

    def __init__(self, posted: Posted, found: MailFound, ca: bytes, database: Path, errs: float) -> None:
        """`errs`: how likely an answer is not the right one."""
        self.posted = posted
        self.set_aside, self.refuses = frozenset[int](), frozenset[int]()  # what it refuses, until somebody mends it
        self._found, self._ca, self._database, self._errs = found, ca, database, errs
        self._chance = random.Random(f"{found.seed}-{posted.partner}")
        self._lock, self._active = threading.Lock(), 0
        self.done: set[int] = set()  # answered with OK
        self._next, self._newest, self._may_repeat = 1, 0, 0
        self.errors: Counter[str] = Counter()
        self._holding: socket.socket | None = None
        self._serve(0)
        self.port: int = self._server.server_address[1]

    # --- up and down ---

    def _serve(self, port: int) -> None:
        outer = self

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def process_request(self, *arguments: Any) -> None:
                outer._count(1)
                super().process_request(*arguments)

            def process_request_thread(self, *arguments: Any) -> None:
                try:
                    super().process_request_thread(*arguments)
                finally:
                    outer._count(-1)

            def handle_error(self, *_: Any) -> None:
                """Say nothing: whoever called was killed."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                document = schemas.documents().get(self.path.lstrip("/"), b"")
                outer._say(self, 200 if document else 404, document)

            def do_POST(self) -> None:
                outer._take(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = Server(("127.0.0.1", port), Handler)
        options = {"poll_interval": 0.02}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs=options, daemon=True)
        self._thread.start()

    def _count(self, more: int) -> None:
        with self._lock:
            self._active += more

    def down(self) -> None:
        """Refuse every connection from now on."""
        self.close()
        self._holding = socket.socket()
        self._holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holding.bind(("127.0.0.1", self.port))  # and does not listen

    def up(self) -> None:
        assert self._holding is not None
        self._holding.close()
        self._holding = None
        self._serve(self.port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def answered(self) -> int:
        """Up to which number all was taken, or refused."""
        return self._next - 1

    def was_killed(self) -> None:
        """The bus is dead: what was answered last may come once more, for it may not have heard the answer."""
        if self._holding is None:
            Wire(f"http://127.0.0.1:{self.port}").get("/none")  # behind whatever the dead one had sent
        ends = time.monotonic() + LONGEST_S
        while self._active and time.monotonic() < ends:
            time.sleep(0.005)
        with self._lock:
            self._may_repeat = self._newest

    # --- what comes ---

    def _take(self, handler: BaseHTTPRequestHandler, raw: bytes) -> None:
        shaped = verified(raw, self._ca)
        self._found.add("signatures_verified")
        number = self._number(envelope.canonical(shaped.payload))
        if not number:
            return
        with self._lock:
            self._judge(number)
            way = self._way(number)
            if way in ("", "refuse", "slow"):
                self._next = max(self._next, number + 1)
            if way in ("", "slow"):
                self.done.add(number)
                self._newest = number
        self._answer(handler, way, accepted(shaped.payload))

    def _number(self, content: bytes) -> int:
        number = self.posted.numbers.get(content, 0)
        if not number:
            self._found.problem(f"{self.posted.partner}: comes what was never posted: {content[:300]!r}", "wrong")
        return number

    def _judge(self, number: int) -> None:
        name, found = f"{self.posted.partner}-{number}", self._found
        if number in self.done:
            if number == self._may_repeat:
                found.add("repeated_after_kill")
                self.done.discard(number)
                self._may_repeat = 0
            else:
                found.problem(f"{name} comes again after OK", "twice")
        elif number > self._next:
            found.problem(f"{name} comes before {self._next}", "out_of_order")
        elif number < self._next and not self._is_set_aside(number) and number != self._newest:
            found.problem(f"{name} comes after {self._next - 1}", "out_of_order")
        if number <= self._committed() and not self._is_set_aside(number):
            found.problem(f"{name} comes after its commit", "after_commit")

    def _is_set_aside(self, number: int) -> bool:
        return number in self.set_aside and number not in self.done

    def _committed(self) -> int:
        with contextlib.closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=60)) as database:
            query = "SELECT committed FROM mailbox_cursor WHERE partner = ?"
            (committed,) = database.execute(query, (self.posted.partner,)).fetchone()
            return int(committed)

    def _way(self, number: int) -> str:
        if number in self.refuses:
            self._found.add("refused")
            return "refuse"
        way = self._chance.choice(WAYS) if self._chance.random() < self._errs else ""
        if way == "too-slow" and self._chance.randrange(4):
            way = "slow"
        self.errors.update([way] if way else [])
        return way

    def _answer(self, handler: BaseHTTPRequestHandler, way: str, ok: bytes) -> None:
        match way:
            case "status-500":
                self._say(handler, 500, b"")
            case "html":
                self._say(handler, 502, b"<html><h1>Bad gateway</h1></html>", "text/html")
            case "html-200":
                self._say(handler, 200, b"<!DOCTYPE html><html>Welcome</html>", "text/html")
            case "fault":
                self._say(handler, 500, fault("Server"))
            case "refuse":
                self._say(handler, 500, fault("Client"))
            case "no-body":
                self._say(handler, 200, b"")
            case "drop" | "take-and-drop":
                handler.close_connection = True
            case "cut":
                self._say(handler, 200, ok, keeps=9)
            case "slow" | "too-slow":
                time.sleep(TIMEOUT_S + 0.5 if way == "too-slow" else 0.1)  # what it is about
                self._say(handler, 200, ok)
            case _:
                self._say(handler, 200, ok)

    @staticmethod
    def _say(
        handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "text/xml; charset=utf-8", keeps: int = 0
    ) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) - keeps])
        handler.close_connection = True


class Fetching:
    """An office that peeks and dequeues, and forgets to dequeue now and then."""

    def __init__(self, posted: Posted, found: MailFound, key: Any, wire: Wire, clock: Callable[[], int]) -> None:
        """`clock`: when its requests are sealed."""
        self.posted, self._found, self._key, self._wire, self._clock = posted, found, key, wire, clock
        self.ca = b""
        self.committed, self._seen = 0, 0
        self._chance, self._numbers = random.Random(f"{found.seed}-fetching"), count()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                if not self._look():
                    self._over.wait(0.2)
        except Exception as error:
            self._found.problem(f"{self.posted.partner} stopped: {error!r}")

    def _look(self) -> int:
        limit = self._chance.randint(1, 40)
        answer = self._ask(lambda header: office_messages.encode_peek_mailbox(header, limit), "get")
        if answer is None:
            return 0
        mails = list(answer.payload.iter("{*}Mail"))
        numbers = [int(one.findtext("{*}number")) for one in mails]
        self._found.add("peeks")
        if numbers != list(range(self.committed + 1, self.committed + 1 + len(mails))):
            late = [number for number in numbers if number <= self.committed]
            text = f"{self.posted.partner} peeks {numbers} behind {self.committed}"
            self._found.problem(text, "after_commit" if late else "out_of_order")
        for number, one in zip(numbers, mails, strict=True):
            self._keep(number, etree.tostring(one[-1], method="c14n", exclusive=True))
        if mails and self._chance.randrange(4):  # or it crashed before it could say so
            self._dequeue(self._chance.choice((max(numbers), self._chance.choice(numbers))))
        return len(mails)

    def _keep(self, number: int, content: bytes) -> None:
        if not 1 <= number <= len(self.posted.contents) or self.posted.contents[number - 1] != content:
            self._found.problem(f"{self.posted.partner}: mail {number} is not the one posted", "wrong")
        if number <= self._seen:
            self._found.add("peeked_again")
        self._seen = max(self._seen, number)

    def _dequeue(self, up_to: int) -> None:
        if self._ask(lambda header: office_messages.encode_dequeue_mailbox(header, up_to), "delete"):
            self.committed = max(self.committed, up_to)

    def _ask(self, encode: Callable[[Header], bytes], verb: str) -> envelope.Envelope | None:
        """Ask until there is an answer, which the bus must have signed; None: it is all over."""
        while not self._over.is_set():
            now = self._clock()
            header = Header(verb, "Mailbox", now, self.posted.partner, f"ask-{next(self._numbers)}")
            raw = exchange.seal(encode(header), self._key, now)
            try:
                status, body = self._wire.request("POST", "/utility", raw, TYPE)[:2]
            except (OSError, http.client.HTTPException):
                self._over.wait(0.02)  # the bus is down
                continue
            if status == 200:
                self._found.add("signatures_verified")
                return verified(body, self.ca)
            if b"message-stale" in body:  # the clock leapt while it was on its way
                continue
            raise AssertionError(f"{status}: {body[:600]!r}")
        return None
