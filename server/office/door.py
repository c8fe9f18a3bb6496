"""The door of the office side: bytes to an answer, straight through, in this order and no other.

In: the bytes of a request and what the transport knows of the connection. Out: status and bytes of the answer.

    limits, one hardened parse, shape > who is it (`callers.py`) > operation, schema, decoding > a repeat gets its
    answer > age > ReplyAddress > role (`rights.py`) > Spyne > handler

Before a caller is known, a message costs a parse and one signature or password, and gets a code and nothing else; the
schema engine, Spyne and the handlers see only what a partner sent. The answer to a signed request is signed; a refusal
of one is bound to its attempt, as on the device side (decision 17).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from gridpost import answers, check, exchange, messages, ns, schemas
from gridpost.envelope import Limits, canonical
from gridpost.errors import (
    ActionMismatch,
    EnvelopeShape,
    GridpostError,
    OurFault,
    ReplyAddressRefused,
    SourceMismatch,
    UnknownOperation,
)
from gridpost.model import Enrolment, Opened
from gridpost.ports import Clock
from gridpost.unsigned import shape_office

from ..audit import Audit
from ..reception import Worker
from ..soap import Answer, Edge, plain
from .call import Call
from .callers import Caller, Callers, Hello, Shaped
from .entries import Entries
from .rights import check_role

# These change something: they are entries of the log, and the same message again gets the same answer.
WRITING = ("Create", "Change", "Cancel")
_REPLY_ADDRESS = ns.q(ns.MESSAGE, "ReplyAddress")


class Reply(NamedTuple):
    """What goes back."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Door:
    """`receive`, and what it needs; all of it lives as long as the bus.

    Attributes:
        limits: of a message.
        clock: UTC milliseconds.
        callers: who is it.
        entries: repeats, and the seal.
        edge: Spyne with the handlers.
        worker: large messages leave the reactor.
        audit: hears of every call and every refusal.
    """

    limits: Limits
    clock: Clock
    callers: Callers
    entries: Entries
    edge: Edge
    worker: Worker
    audit: Audit

    async def receive(self, raw: bytes, hello: Hello) -> Reply:
        """Take one message and return what goes back."""
        now = self.clock()
        try:
            shaped = await self.worker.run(len(raw), lambda: shape_office(raw, self.limits))
            caller = await self.callers.known(shaped, hello)
        except GridpostError as error:
            self.audit.refused(error.code, hello.peer, error.detail, size=len(raw), office=True)
            return Reply(error.http_status, answers.encode_fault(error))
        try:
            call = await self.worker.run(len(raw), lambda: self._call(shaped, caller, hello, now))
            answer = await self._answer(call, shaped)
            return Reply(200, answer.sealed if caller.authentic else plain(answer))
        except GridpostError as error:
            return self._refused(error, caller, shaped, hello.peer)

    def _call(self, shaped: Shaped, caller: Caller, hello: Hello, now: int) -> Call:
        """Hold the message against operation and schema and decode it; nothing of it was read before."""
        action = schemas.PARTNER_ACTIONS.get(shaped.operation)
        if action is None:
            raise UnknownOperation(detail=shaped.operation[:200])
        if hello.soap_action and hello.soap_action != action:
            raise ActionMismatch(detail=hello.soap_action[:200])
        messages.kind_of(shaped.payload)  # before the schema engine sees it
        schemas.validate(shaped.payload)
        message = messages.decode(shaped.payload)
        if message.header.source != caller.partner.id:
            raise SourceMismatch(detail=f"Source {message.header.source} of {caller.partner.id}")
        operation = shaped.operation.rpartition("}")[2]
        known = Call(caller, operation, message, b"", shaped.raw, now, now, hello.peer)
        if caller.authentic:
            created = caller.authentic.verified.created_utc_ms
            return known._replace(content_digest=caller.authentic.content_digest, created_utc_ms=created)
        body = canonical(shaped.payload)
        witnessed = self._witnessed(body, now) if operation.startswith(WRITING) else b""
        return known._replace(content_digest=exchange.content_digest(body), evidence=witnessed)

    def _witnessed(self, body: bytes, now: int) -> bytes:
        """What the bus says it was sent without a signature: the content under its own seal, and no password."""
        if b"xmlns:soap=" in body or b"xmlns:wsu=" in body:
            raise EnvelopeShape(detail="the prefixes soap and wsu inside the Body's child")
        return self.entries.seal(body, now, b"")

    async def _answer(self, call: Call, shaped: Shaped) -> Answer:
        known = self.entries.known(call) if call.operation.startswith(WRITING) else None
        if known is None:
            self._check(call, shaped)
            said = await self.edge.call(shaped.payload, call)
            if said.answer is None:
                raise said.error or UnknownOperation()
            known = said.answer
            self._tell("office-call", call)
        else:
            self._tell("office-repeat", call)
        if known.sealed or not call.caller.authentic:
            return known
        body, now, signed_by = known.body, self.clock(), call.caller.certificate
        return Answer(body, await self.worker.run(len(body), lambda: self.entries.seal(body, now, signed_by)))

    def _check(self, call: Call, shaped: Shaped) -> None:
        """What holds for a call that is no repeat: its age, where an answer would go, the role."""
        partner = call.partner
        authentic = call.caller.authentic
        if authentic:
            opened = Opened(
                partner.id, call.message, authentic.content_digest, authentic.verified.signature_digest,
                authentic.verified.references, authentic.verified.created_utc_ms, shaped.raw,
            )  # fmt: skip
            enrolment = Enrolment(partner.id, call.caller.certificate, None, ())
            check.check_moment(opened, enrolment, check.HTTP, call.now_utc_ms)
        stated = (shaped.payload[0].findtext(_REPLY_ADDRESS) or "").strip()
        if stated and stated != partner.endpoint:
            raise ReplyAddressRefused(detail=stated[:200])
        check_role(partner, call.operation)

    def _tell(self, event: str, call: Call) -> None:
        self.audit.event(
            event, partner=call.partner.id, way=call.caller.way.value, operation=call.operation,
            message_id=call.header.message_id, peer=call.peer,
        )  # fmt: skip

    def _refused(self, error: GridpostError, caller: Caller, shaped: Shaped, peer: str) -> Reply:
        self.audit.refused(
            error.code, peer, error.detail or error.reason,
            verified=True, source=caller.partner.id, message_id=shaped.claimed_message_id, office=True,
        )  # fmt: skip
        if isinstance(error, OurFault):
            return Reply(error.http_status, answers.encode_fault(error))
        if caller.authentic is None:
            return Reply(error.http_status, self.edge.refused(error, shaped.operation))
        refusal = exchange.refusal(error, caller.authentic, self.clock())
        try:
            body = answers.encode_refusal(refusal, error.soap_fault, self.edge.noun(shaped.operation))
            return Reply(error.http_status, self.entries.seal(body, refusal.time_utc_ms, caller.certificate))
        except OurFault as unable:
            return Reply(unable.http_status, answers.encode_fault(unable))
