"""The corridor: every sealed message, whatever way it came in, walks this once, from top to bottom.

In: bytes and where they came from. Out: the bytes of the answer, and for HTTP its status. A receipt leaves only after
the entry is on disk; a refusal leaves nothing behind but an audit line. What must not be done here: looking into a
message before `exchange.verify` has found it genuine, and asking the clock twice for one message.

Before the signature is known to be right, the sender learns a code and nothing else; afterwards a refusal is signed and
bound to the attempt (decisions 16, 17).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from gridpost import answers, control_messages, exchange, messages, schemas
from gridpost.check import HTTP, Transport, check, check_moment
from gridpost.envelope import Limits
from gridpost.errors import (
    ActionMismatch,
    GridpostError,
    MessageIdReused,
    OurFault,
    PeerFault,
    SignatureInvalid,
    UnknownOperation,
)
from gridpost.exchange import Authentic, Sealed
from gridpost.model import Enrolment, Entry, Opened, Receipt
from gridpost.ports import Clock, MakeReceipt, Signer, Store, ZoneOf
from gridpost.requests import GetEndDeviceControls

from .admission import Admission
from .alarms import ALARMING, LATE, Alarms, Watch, forget_first
from .audit import Audit
from .identity import answering
from .receipts import Recorded, receipt_maker, seal_answer

T = TypeVar("T")
_DEFAULT_NOUN = "MeterReadings"
SEQUENCES_KEPT = 32  # of each sender; a copied spool uses its numbers within a few messages of the original
SENDERS_KEPT = 20_000  # those heard of first are forgotten
UNABLE_MS = 30_000  # as long as Retry-After asks devices to wait


class Arrival(NamedTuple):
    """Where a message came from: facts of the transport, none of them trusted."""

    transport: Transport
    peer: str
    soap_action: str = ""


class Reply(NamedTuple):
    """What goes back.

    Attributes:
        status: HTTP's.
        body: the answer.
        waiting: how many controls wait for the sender; known of who it is only.
        held: whether it may have waited for a control, so that how long it took says nothing.
    """

    status: int
    body: bytes
    waiting: int = 0
    held: bool = False


class Worker(Protocol):
    """What reception needs of the event loop."""

    async def run(self, size: int, function: Callable[[], T]) -> T:
        """Return `function()`, off the reactor when the message is large."""

    async def recorded(self, record: Callable[[], Future[bytes]]) -> bytes:
        """Return what the store answers to `record()`, called with those of all messages that came in together."""


class Fetches(Protocol):
    """What reception needs of the desk where IEDs fetch their commands (server/controls/desk.py)."""

    async def fetch(self, serial: str, after: int, wait_s: int, certificate: bytes) -> bytes | None:
        """Return an IED's next control behind a counter, sealed; None when none waits, or none came in time."""

    def waiting(self, serial: str) -> int:
        """Return how many controls an IED was not given yet."""


@dataclass(frozen=True, slots=True)
class Post:
    """Who answers: the bus's id and keys, its store, clock and zones, and how large a message may be."""

    bus_id: str
    signer: Signer
    store: Store
    clock: Clock
    zone_of: ZoneOf
    limits: Limits
    stale_crl: str = "refuse"  # the setting trust.stale_crl
    rsa: Signer | None = None  # answers what RSA signed; None: the one key answers all

    def signer_for(self, certificate: bytes) -> Signer:
        """Return the key that answers what a certificate's key signed: of its family, so that its toolkit knows it."""
        return answering(certificate, self.signer, self.rsa)


class Sequences:
    """Which message last used which sequence number, of each sender, since this process started (decision 19).

    Gaps and late numbers say nothing; one number under two message ids says that a device or its spool was copied.
    """

    def __init__(self) -> None:
        """Nothing was seen."""
        self._seen: dict[str, dict[int, str]] = {}

    def reused(self, sender: str, sequence: int | None, message_id: str) -> str:
        """Note a recorded message's number; return the other message id that has it, empty when none is known."""
        if sequence is None:
            return ""
        seen = self._seen.setdefault(sender, {})
        first = seen.setdefault(sequence, message_id)
        forget_first(seen, SEQUENCES_KEPT)
        forget_first(self._seen, SENDERS_KEPT)
        return "" if first == message_id else first


class Reception:
    """`receive` and what it needs."""

    def __init__(self, post: Post, audit: Audit, worker: Worker, desk: Fetches | None = None) -> None:
        """All live as long as the bus; without a desk no command is fetched here."""
        self._post, self._audit, self._worker, self._desk = post, audit, worker, desk
        self.alarms = Alarms(audit)
        self._sequences, self._watch = Sequences(), Watch()
        self._admission = Admission(self.alarms, post.stale_crl)
        self.received = 0  # messages so far, taken or refused
        self._failed_utc_ms: int | None = None  # when we last could not take one; None once one was recorded

    async def receive(self, raw: bytes, arrival: Arrival) -> Reply:
        """Take one message and return what goes back: a receipt, a signed refusal, or an unsigned fault."""
        self.received += 1
        now = self._post.clock()
        try:
            envelope, enrolment, authentic = await self._worker.run(len(raw), lambda: self._authenticate(raw, arrival))
        except GridpostError as error:
            return self._fault(error, arrival, raw)
        try:
            opened = await self._worker.run(len(raw), lambda: exchange.decode(envelope, enrolment, authentic))
            if isinstance(opened.message, GetEndDeviceControls):
                reply = await self._give(opened, opened.message, enrolment, arrival)
            else:
                reply = await self._admit(opened, enrolment, arrival, now)
        except PeerFault as error:
            reply = self._refuse(error, envelope, authentic, arrival, now)
        except OurFault as error:
            reply = self._fault(error, arrival, raw)
        return reply._replace(waiting=self._desk.waiting(enrolment.sender)) if self._desk is not None else reply

    def is_able(self) -> bool:
        """Tell whether the newest message was not one that we failed to take, in the last half minute.

        Behind a full disk or a lost key: each message finds out anew, so without messages nothing is known for long.
        """
        return self._failed_utc_ms is None or abs(self._post.clock() - self._failed_utc_ms) > UNABLE_MS

    def _authenticate(self, raw: bytes, arrival: Arrival) -> tuple[Sealed, Enrolment, Authentic]:
        """Read, look the signer up, verify; in the pool's thread when the message is large (a store's reads may be)."""
        post = self._post
        envelope = exchange.read(raw, post.limits)
        if arrival.soap_action and arrival.soap_action != schemas.DEVICE_ACTIONS.get(envelope.operation):
            raise ActionMismatch(detail=arrival.soap_action[:200])
        enrolment = post.store.enrolment(envelope.certificate_sha256)
        if enrolment is None:
            raise SignatureInvalid(detail=f"stranger, claims to be {envelope.claimed_source}")
        return envelope, enrolment, exchange.verify(envelope, enrolment)

    async def _admit(self, opened: Opened, enrolment: Enrolment, arrival: Arrival, now: int) -> Reply:
        """Record a message, or give a repeat its receipt (ADR 0010: the writer looks for repeats anyway).

        A repeat is never judged: what speaks against it now, or keeps us from recording it, counts only when its id is
        not on file (decision 2).
        """
        try:
            receipt, is_new = await self._record(opened, enrolment, arrival, now)
        except GridpostError:
            stored = self._post.store.find(opened.sender, opened.message.header.message_id)
            if stored is None:
                raise
            if stored.content_digest != opened.content_digest:
                raise MessageIdReused(detail=f"{opened.sender} {opened.message.header.message_id}") from None
            receipt, is_new = stored.receipt, False
        self._tell(opened, arrival, is_new)
        if is_new:
            self._look(opened, enrolment, arrival, now)
        return Reply(200, receipt)

    async def _give(self, opened: Opened, asked: GetEndDeviceControls, enrolment: Enrolment, arrival: Arrival) -> Reply:
        """Let an IED fetch its next command. No entry comes of it: fetched again, the same bytes come (DESIGN 4)."""
        if self._desk is None:
            raise UnknownOperation(detail="no commands are fetched here")
        now = self._post.clock()
        check_moment(opened, enrolment, arrival.transport, now)
        self._admission.judge(opened, enrolment, arrival.peer, now)
        wait_s = asked.wait_s if arrival.transport is HTTP else 0
        given = await self._desk.fetch(opened.sender, asked.after, wait_s, enrolment.certificate)
        if given is None:
            now = self._post.clock()
            none = control_messages.encode_no_control(asked.header.message_id, self._post.bus_id, now)
            return Reply(200, seal_answer(self._post.signer_for(enrolment.certificate), none, now), held=True)
        self._audit.event("control-given", sender=opened.sender, after=asked.after, peer=arrival.peer)
        return Reply(200, given, held=True)

    async def _record(self, opened: Opened, enrolment: Enrolment, arrival: Arrival, now: int) -> tuple[bytes, bool]:
        """Return the receipt that stands, and whether it was made for this message."""
        check_moment(opened, enrolment, arrival.transport, now)
        self._admission.judge(opened, enrolment, arrival.peer, now)
        rows = check(opened.message, enrolment.channels, now, self._post.zone_of)
        made: list[bytes] = []
        entry, make_receipt = _entry(opened, arrival), self._receipt_maker(opened, enrolment.certificate, made)
        receipt = await self._worker.recorded(lambda: self._post.store.record(entry, rows, make_receipt))
        return receipt, receipt in made

    def _tell(self, opened: Opened, arrival: Arrival, is_new: bool) -> None:
        header = opened.message.header
        named = {"sender": opened.sender, "message_id": header.message_id, "peer": arrival.peer}
        if not is_new:
            self._audit.event("repeat", **named)
            return
        self._failed_utc_ms = None
        self._audit.event("recorded", **named, size=len(opened.raw), digest=opened.content_digest.hex())
        other = self._sequences.reused(opened.sender, header.sequence, header.message_id)
        if other:
            self.alarms("sequence-reused", **named, sequence=header.sequence, other_message_id=other)

    def _look(self, opened: Opened, enrolment: Enrolment, arrival: Arrival, now: int) -> None:
        """Notice a copied key or device (F15)."""
        header = opened.message.header
        known = (opened.sender, enrolment.certificate, arrival.peer, header.sequence)
        for strange in self._watch.noticed(*known, now):
            tell = self._note if strange == LATE else self.alarms
            tell(strange, sender=opened.sender, message_id=header.message_id, peer=arrival.peer)

    def _note(self, code: str, /, **values: str | int | None) -> None:
        self._audit.event("note", code=code, **values)

    def _receipt_maker(self, opened: Opened, certificate: bytes, made: list[bytes]) -> MakeReceipt:
        """What it returned stands in `made`."""
        noun, post = opened.message.header.noun, self._post
        signer = post.signer_for(certificate)

        def answer(receipt: Receipt) -> bytes:
            body = answers.encode_receipt(receipt, noun, post.bus_id)
            made.append(seal_answer(signer, body, receipt.recorded_at_utc_ms))
            return made[-1]

        named = (opened.message.header.message_id, opened.sender, opened.content_digest, opened.references)
        return receipt_maker(Recorded(*named), answer)

    def _refuse(self, error: PeerFault, envelope: Sealed, authentic: Authentic, arrival: Arrival, now: int) -> Reply:
        refusal = exchange.refusal(error, authentic, now)
        self._audit.refused(
            error.code, arrival.peer, error.detail or error.reason,
            verified=True, source=envelope.claimed_source, message_id=envelope.claimed_message_id,
        )  # fmt: skip
        if error.code in ALARMING:  # DESIGN 4, F15
            named = {"sender": envelope.claimed_source, "message_id": envelope.claimed_message_id}
            self.alarms(error.code, **named, peer=arrival.peer)
        try:
            body = answers.encode_refusal(refusal, error.soap_fault, _noun(envelope))
            return Reply(500, seal_answer(self._post.signer_for(envelope.certificate), body, now))
        except OurFault as unable:
            return self._fault(unable, arrival, envelope.raw)

    def _fault(self, error: GridpostError, arrival: Arrival, raw: bytes) -> Reply:
        if isinstance(error, OurFault):
            self._failed_utc_ms = self._post.clock()
        self._audit.refused(error.code, arrival.peer, error.detail, size=len(raw))
        return Reply(error.http_status, answers.encode_fault(error))


def _entry(opened: Opened, arrival: Arrival) -> Entry:
    header = opened.message.header
    return Entry(
        sender=opened.sender,
        message_id=header.message_id,
        noun=header.noun,
        transport=arrival.transport.name,
        content_digest=opened.content_digest,
        created_utc_ms=opened.created_utc_ms,
        sequence=header.sequence,
        last_receipt=header.last_receipt,
        evidence=opened.raw,
    )


def _noun(envelope: Sealed) -> str:
    """The noun of the fault message: the message's own, any for one we do not know."""
    kind = messages.MESSAGES.get(envelope.operation)
    return kind.noun if kind else _DEFAULT_NOUN
