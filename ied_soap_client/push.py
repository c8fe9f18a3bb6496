"""One message at a time to the bus, until its signed receipt: seal, post, judge the answer, forget or come again.

In: the spool's messages. Out: receipts in the spool, or a time to come back. Nothing blocks the queue: what the bus
refuses for good is set aside, what it refuses for now is postponed, what nobody answered is sent again as it is, only
its Security header made new (decisions 17 to 20). Nothing unsigned is believed, and no receipt sets a clock.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from gridpost import exchange
from gridpost.errors import AFTER_FIX, NEVER, AnswerUntrusted, BusUnreachable, MessageFromFuture, MessageStale
from gridpost.model import Receipt, Refusal
from gridpost.ports import Signer

from .outgoing import Draft, Outgoing, Pending
from .sealing import PLAIN, Form
from .spool import Spool
from .transport import HttpAnswer, Transport

CLOCK_LIMIT_MS = 60_000  # an interval measured on a clock wrong by more is flagged
POSTPONE_MS = 60_000  # a message refused for now lets the others pass for so long, then longer, up to 16 min
CLOCK_TRIES = 3  # seals of one message by a corrected clock before it is postponed like any other
PROBLEMS = 20  # messages a drain tells about; `status` lists all
PATIENCE = 3  # unsigned answers to one message before the next is tried first
CLOCK_CODES = (MessageStale.code, MessageFromFuture.code)
_SIGNATURE_VALUE = re.compile(rb"<(?:[\w-]+:)?SignatureValue[^>]*>([A-Za-z0-9+/=\s]+)</")
ACTIONS = {
    "MeterReadings": "http://iec.ch/TC57/2011/MeterReadings/CreatedMeterReadings",
    "EndDeviceEvents": "http://iec.ch/TC57/2011/EndDeviceEvents/CreatedEndDeviceEvents",
    "EncryptedReadings": "urn:gridpost:encrypted-readings:1/CreatedEncryptedReadings",
}
PATH = "/metering"

Say = Callable[..., None]  # event name, then fields


class Outcome(Enum):
    """What became of one attempt."""

    RECEIPTED = "receipted"
    REFUSED = "refused"  # set aside
    POSTPONED = "postponed"  # this one later, the next one now
    CLOCK = "clock"  # the bus told the time: the same message again, now
    UNANSWERED = "unanswered"  # nothing the bus signed: everything later


class Attempt(NamedTuple):
    """One attempt: what became of the message and, unless it was receipted, what the bus or the network said."""

    outcome: Outcome
    code: str = ""
    reason: str = ""
    items: tuple[tuple[str, str, str], ...] = ()  # code, reason, path
    retry_after_s: int = 0


@dataclass(slots=True)
class Drained:
    """What a run through the queue brought."""

    receipted: int = 0
    refused: int = 0
    postponed: int = 0
    unanswered: str = ""  # why the run ended early; empty when the queue was gone through
    retry_after_s: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)  # the first refused or postponed; message, code ...

    def note(self, message_id: str, attempt: Attempt) -> None:
        """Count what became of a message, and keep what the bus said of the first few it did not take."""
        self.receipted += attempt.outcome is Outcome.RECEIPTED
        self.refused += attempt.outcome is Outcome.REFUSED
        self.postponed += attempt.outcome is Outcome.POSTPONED
        if attempt.outcome in (Outcome.REFUSED, Outcome.POSTPONED) and len(self.problems) < PROBLEMS:
            items = [{"code": code, "reason": reason, "path": path} for code, reason, path in attempt.items]
            told = {"message_id": message_id, "outcome": attempt.outcome.value, "code": attempt.code}
            self.problems.append({**told, "reason": attempt.reason, "items": items})


@dataclass(frozen=True, slots=True)
class Parties:
    """Who speaks to whom.

    Attributes:
        source: this IED's serial.
        signer: its key.
        ca: the CA whose bus certificates are believed, DER.
        properties: (name, value) of what the device says of itself in every message's Header.
        form: how readings go: in the clear, or encrypted for their readers.
    """

    source: str
    signer: Signer
    ca: bytes
    properties: tuple[tuple[str, str], ...] = ()
    form: Form = PLAIN


class Pusher:
    """Empties a spool towards a bus."""

    def __init__(self, spool: Spool, transport: Transport, parties: Parties, impure: Impure, say: Say) -> None:
        """`say` is told each thing worth a line in the journal."""
        self._spool, self._outgoing = spool, Outgoing(spool)
        self._transport, self._parties, self._impure, self._say = transport, parties, impure, say
        self.waiting = False  # whether the last answer said that commands wait at the bus

    async def drain(self, sent: Callable[[int], object] | None = None) -> Drained:
        """Send everything that may be sent now, oldest first, until the queue is gone through or the bus is silent.

        Args:
            sent: told after each message how many readings it held, for a progress bar.

        Raises:
            StoreUnavailable: the spool cannot be written; what was receipted before stays so.
        """
        drained, clock_tries = Drained(), 0
        while message := self._next():
            held = self._outgoing.readings_in(message.id) if sent else 0
            attempt = await self._attempt(message)
            clock_tries = clock_tries + 1 if attempt.outcome is Outcome.CLOCK else 0
            if clock_tries >= CLOCK_TRIES:
                attempt = attempt._replace(outcome=Outcome.POSTPONED)
                self._postpone(message)
            drained.note(message.id, attempt)
            if attempt.outcome is Outcome.UNANSWERED:
                drained.unanswered, drained.retry_after_s = attempt.reason, attempt.retry_after_s
                return drained
            if sent and attempt.outcome is not Outcome.CLOCK:
                sent(held)
        return drained

    def draft(self) -> Draft:
        """Return what a message made now needs."""
        now_ms, properties = self._bus_now_ms(), self._parties.properties
        return Draft(self._parties.source, now_ms, self._impure.new_id, properties, self._parties.form)

    @property
    def parties(self) -> Parties:
        """Return who speaks to whom, by the key in use."""
        return self._parties

    @property
    def certificate(self) -> bytes:
        """Return the certificate of the key in use, DER."""
        return self._parties.signer.certificate

    def use(self, parties: Parties) -> None:
        """Seal with another key from the next attempt on; what waits is sealed anew at each attempt anyway."""
        self._parties = parties

    def _next(self) -> Pending | None:
        pending = self._outgoing.next_pending(self._impure.wall_ms())
        if pending is None and self._outgoing.cut(self.draft()):
            pending = self._outgoing.next_pending(self._impure.wall_ms())
        return pending

    def _bus_now_ms(self) -> int:
        return self._impure.wall_ms() + self._spool.clock_offset_ms()

    async def _attempt(self, message: Pending) -> Attempt:
        sealed = exchange.seal(message.body, self._parties.signer, self._bus_now_ms())
        self._outgoing.attempted(message.id)
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{ACTIONS[message.noun]}"'}
        try:
            answer = await self._transport.post(PATH, sealed, headers)
            self.waiting = answer.waiting
        except BusUnreachable as error:
            self._say("unanswered", message_id=message.id, reason=error.reason)
            return Attempt(Outcome.UNANSWERED, error.code, error.reason)
        try:
            return self._judge(message, signature_digest(sealed), answer)
        except AnswerUntrusted as error:
            reason = f"HTTP {answer.status}: {error.reason}"
            self._say("unanswered", message_id=message.id, reason=reason, detail=error.detail)
            if message.attempts >= PATIENCE:
                self._postpone(message)  # something between may dislike this very message: let others try
            return Attempt(Outcome.UNANSWERED, error.code, reason, retry_after_s=answer.retry_after_s)

    def _judge(self, message: Pending, attempt: bytes, answer: HttpAnswer) -> Attempt:
        """Act on a verified answer of this very message; anything else is AnswerUntrusted."""
        trust = exchange.Trust(self._parties.ca, frozenset(self._spool.pins()))
        opened = exchange.open_answer(answer.content, trust)
        content = opened.receipt or opened.refusal
        assert content is not None
        if content.content_digest != exchange.content_digest(message.body):
            raise AnswerUntrusted("the answer is signed, but for other content")
        if isinstance(content, Refusal) and content.signature_digest != attempt:
            # Whoever is enrolled can seal our Body with a key of its own and hand us what that was refused for.
            raise AnswerUntrusted("the refusal is signed, but for another attempt")
        self._spool.pin(opened.certificate, self._impure.wall_ms())
        if isinstance(content, Receipt):
            return self._receipted(message, content, answer.content)
        return self._refused(message, content)

    def _receipted(self, message: Pending, receipt: Receipt, raw: bytes) -> Attempt:
        if receipt.message_id != message.id or receipt.sender != self._parties.source:
            raise AnswerUntrusted("the receipt is of another message")
        proven = abs(receipt.recorded_at_utc_ms - self._impure.wall_ms()) <= CLOCK_LIMIT_MS
        self._outgoing.receipted(receipt, raw, clock_proven=proven)
        self._say(
            "receipted", message_id=message.id, size=len(message.body), partition=receipt.position.partition,
            seq=receipt.position.seq, **receipt.counts._asdict(),
        )  # fmt: skip
        return Attempt(Outcome.RECEIPTED)

    def _refused(self, message: Pending, refusal: Refusal) -> Attempt:
        said = refusal.code, refusal.reason, refusal.items
        if refusal.retry in (NEVER, AFTER_FIX):
            self._outgoing.refuse(message.id, refusal)
            self._say("refused", message_id=message.id, code=refusal.code, reason=refusal.reason)
            return Attempt(Outcome.REFUSED, *said)
        if refusal.code in CLOCK_CODES:
            self._impure.clock_told(refusal.time_utc_ms - self._impure.wall_ms())
            return Attempt(Outcome.CLOCK, *said)
        self._say("postponed", message_id=message.id, code=refusal.code, reason=refusal.reason)
        self._postpone(message)
        return Attempt(Outcome.POSTPONED, *said)

    def _postpone(self, message: Pending) -> None:
        wait_ms = POSTPONE_MS << min(message.attempts, 4)
        self._outgoing.postpone(message.id, self._impure.wall_ms() + wait_ms)


@dataclass(frozen=True, slots=True)
class Impure:
    """What is not a function of its arguments.

    Attributes:
        wall_ms: this device's clock, UTC milliseconds, right or wrong.
        new_id: a fresh message id.
        clock_told: called with bus time minus `wall_ms` when a signed refusal of our very attempt tells it.
    """

    wall_ms: Callable[[], int]
    new_id: Callable[[], str]
    clock_told: Callable[[int], None]


def signature_digest(sealed: bytes) -> bytes:
    """Return SHA-256 of the SignatureValue's octets of a message we sealed: what a refusal of it names."""
    found = _SIGNATURE_VALUE.search(sealed)
    assert found is not None
    return hashlib.sha256(base64.b64decode(found[1])).digest()


def backoff_s(failures: int, first_s: int, most_s: int, random: float) -> float:
    """Return a wait with full jitter: anything up to first x 2^(failures-1), capped; `random` is in 0..1."""
    return random * min(most_s, first_s << min(failures - 1, 20))
