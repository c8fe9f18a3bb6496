"""read, open_, seal: the sealed message from end to end, for both sides.

Floor 4. A bus calls `read`, looks the signer up, and `open_`; a device calls `seal`, and `open_answer` on what comes
back. `read` and `open_` on any bytes return or raise PeerFault, nothing else: that is the fuzz target. No clock here:
what depends on *now* is `check.py`'s, and comes after the look-up for a repeat (decision 2).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Container
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ObjectIdentifier

from . import answers, control_messages, heads, messages, recogniser, schemas, units, wssecurity
from .controls import Control
from .envelope import DEVICE_LIMITS, Envelope, Limits, canonical, shape
from .errors import AnswerUntrusted, GridpostError, PeerFault, SignatureInvalid, SourceMismatch, UnknownOperation
from .heads import TreeHead
from .model import Enrolment, Message, Opened, Receipt, Refusal
from .ports import Signer
from .recogniser import Plain

# The extended key usage that makes a certificate a bus's (decision 13): an OID under the UUID arc, ITU-T X.667.
BUS_KEY_USAGE = ObjectIdentifier("2.25.284392625550119026516274436571923214786")

Sealed = Envelope | Plain  # what came in, by either way; not yet trusted


def read(raw: bytes, limits: Limits = DEVICE_LIMITS) -> Sealed:
    """Take bytes to a message of a known shape: size, counts, hardened parse, shape. Nothing in it is trusted yet.

    Our own devices' layout is recognised without a tree (ADR 0011); what comes of a message does not depend on that.

    Raises:
        PeerFault: a leaf of the first group in errors.py.
    """
    return recogniser.recognise(raw, limits) or shape(raw, limits)


def open_(envelope: Sealed, enrolment: Enrolment) -> Opened:
    """Verify, then validate, then decode; in this order, and only from what was digested.

    The certificate is judged at the Timestamp's Created, and so is Source; revocation, expiry and age at *now* are not
    looked at here, so that a repeat finds its receipt at any age.

    Raises:
        SignatureInvalid: the signature, or the certificate at Created.
        UnknownOperation, SchemaInvalid, HeaderIncomplete, SourceMismatch: after the signature was found right.
    """
    opened = verify(envelope, enrolment)
    return decode(envelope, enrolment, opened)


@dataclass(frozen=True, slots=True)
class Authentic:
    """A message whose signature is right, its content not yet read: enough to bind a refusal to it."""

    verified: wssecurity.Verified
    content_digest: bytes


def verify(envelope: Sealed, enrolment: Enrolment) -> Authentic:
    """The first half of `open_`: is it really from that sender?

    Raises:
        SignatureInvalid: for every cause alike.
    """
    if isinstance(envelope, Plain):
        verified, content = recogniser.verify(envelope, enrolment.certificate), envelope.payload
    else:
        verified = wssecurity.verify(envelope, enrolment.certificate)
        content = _content(envelope, verified.body)
    if not valid_at(enrolment.certificate, verified.created_utc_ms):
        raise SignatureInvalid(detail="certificate is not valid at Created")
    return Authentic(verified, content_digest(content))


def refusal(error: GridpostError, authentic: Authentic, time_utc_ms: int) -> Refusal:
    """Return the refusal of a message for an error, bound to its content and to this attempt (decision 17)."""
    return Refusal(
        code=error.code,
        retry=error.retry,
        reason=error.reason,
        content_digest=authentic.content_digest,
        signature_digest=authentic.verified.signature_digest,
        time_utc_ms=time_utc_ms,
        items=tuple((item.code, item.reason, item.path) for item in error.items),
    )


_PREFIX = re.compile(rb"xmlns(:[^=]+)?=")


def _content(envelope: Envelope, body: bytes) -> bytes:
    """The payload in exclusive canonical form: cut out of the Body's, as digested, wherever the two are the same.

    They are, unless the payload uses a prefix that the Body's own tag has already declared, or white space stands
    around it that XML cannot write as itself. Canonicalising twice would be a tenth of the whole way in.
    """
    head, _, rest = body.partition(b">")  # of the tag; were it one inside its Id, no "<" would follow
    inner = rest[: rest.rfind(b"</")].strip(b" \t\n")
    prefixes = [found[1:] + b":" for found in _PREFIX.findall(head)]
    plain = inner.startswith(b"<") and inner.endswith(b">") and b":" not in prefixes
    if plain and not any(prefix in inner for prefix in prefixes):
        return inner
    return canonical(envelope.payload)


def decode(
    envelope: Sealed, enrolment: Enrolment, authentic: Authentic, operations: Container[str] = schemas.DEVICE_ACTIONS
) -> Opened:
    """The second half of `open_`: what does it say?

    Args:
        envelope: verified.
        enrolment: whose it is.
        authentic: from `verify`.
        operations: names of the Body's child that this way in takes; the others are unknown to it.

    Raises:
        UnknownOperation, SchemaInvalid, HeaderIncomplete, SourceMismatch: see errors.py.
    """
    if envelope.operation not in operations:
        raise UnknownOperation(detail=envelope.operation[:200])
    message: Message = envelope.message if isinstance(envelope, Plain) else _decoded(envelope)
    if message.header.source != enrolment.sender:
        raise SourceMismatch(detail=f"Source {message.header.source} signed by {enrolment.sender}")
    return Opened(
        sender=enrolment.sender,
        message=message,
        content_digest=authentic.content_digest,
        signature_digest=authentic.verified.signature_digest,
        references=authentic.verified.references,
        created_utc_ms=authentic.verified.created_utc_ms,
        raw=envelope.raw,
    )


def _decoded(envelope: Envelope) -> Message:
    messages.kind_of(envelope.payload)  # before the schema engine sees it
    schemas.validate(envelope.payload)
    return messages.decode(envelope.payload)


def seal(payload: bytes, signer: Signer, created_utc_ms: int) -> bytes:
    """Return the signed SOAP envelope around a Body's child.

    Args:
        payload: canonical bytes from `messages.encode` or `answers.encode_*`; kept as made, whatever the attempt.
        signer: the key.
        created_utc_ms: the security Timestamp's Created: the time of this attempt.

    Raises:
        SignerUnavailable: the key cannot be used now.
    """
    return wssecurity.sign(payload, signer, created_utc_ms)


def content_digest(payload: bytes) -> bytes:
    """Return SHA-256 of a Body's child in exclusive canonical form: what makes two messages the same content."""
    return hashlib.sha256(payload).digest()


@lru_cache(maxsize=4096)
def _validity_utc_ms(certificate: bytes) -> tuple[int, int]:
    loaded = x509.load_der_x509_certificate(certificate)
    return units.seconds_of(loaded.not_valid_before_utc) * 1000, units.seconds_of(loaded.not_valid_after_utc) * 1000


def valid_at(certificate: bytes, utc_ms: int) -> bool:
    """Tell whether a DER certificate's validity covers a moment, both ends inclusive (RFC 5280 section 4.1.2.5)."""
    first, last = _validity_utc_ms(certificate)
    return first <= utc_ms <= last + 999


# --- the device's side -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose answers a device takes.

    Attributes:
        ca: the pinned device CA, DER.
        pinned: SHA-256 of each bus certificate it ever took an answer from.
    """

    ca: bytes
    pinned: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Answer:
    """A verified answer: exactly one of receipt and refusal, and the bus certificate to pin."""

    certificate: bytes
    receipt: Receipt | None = None
    refusal: Refusal | None = None


def open_answer(raw: bytes, trust: Trust) -> Answer:
    """Verify and decode what a bus answered. Whether it answers *our* message is for the caller to compare.

    Raises:
        AnswerUntrusted: unsigned, malformed, or signed by anyone but a bus this device may believe.
    """
    envelope, verified = _verified_bus(raw, trust)
    content = answers.decode(envelope.payload)
    at = content.recorded_at_utc_ms if isinstance(content, Receipt) else verified.created_utc_ms
    if not valid_at(envelope.certificate, at):
        raise AnswerUntrusted(detail="bus certificate was not valid then")
    if isinstance(content, Receipt):
        return Answer(envelope.certificate, receipt=content)
    return Answer(envelope.certificate, refusal=content)


@dataclass(frozen=True, slots=True)
class ControlAnswer:
    """A verified answer to a fetch of a control, and the bus certificate to pin.

    Attributes:
        certificate: DER.
        control: the command; None when none waits, or when the fetch was refused.
        correlation_id: the control's mRID; without a control the MessageID of the fetch; empty in a refusal.
        sealed_at_utc_ms: when the bus sealed it, for a control long ago perhaps.
        refusal: bound to the attempt by its signature digest; for the caller to compare.
    """

    certificate: bytes
    control: Control | None
    correlation_id: str
    sealed_at_utc_ms: int
    refusal: Refusal | None = None


def open_control(raw: bytes, trust: Trust) -> ControlAnswer:
    """Verify and decode what a bus answered to a fetch. Whether the control is for *us*, and new, is for the caller.

    A control has no age limit: the same bytes come again until the device's counter has passed it.

    Raises:
        AnswerUntrusted: unsigned, malformed, no such answer, or signed by anyone but a bus this device may believe.
    """
    envelope, verified = _verified_bus(raw, trust)
    if not valid_at(envelope.certificate, verified.created_utc_ms):
        raise AnswerUntrusted(detail="bus certificate was not valid then")
    if envelope.payload.tag != control_messages.RESPONSE:
        refusal = answers.decode(envelope.payload)
        if isinstance(refusal, Receipt):
            raise AnswerUntrusted(detail="a receipt answers no fetch")
        return ControlAnswer(envelope.certificate, None, "", verified.created_utc_ms, refusal)
    try:
        control = control_messages.decode_control(envelope.payload)
    except PeerFault as error:
        raise AnswerUntrusted(detail=f"answer is signed but tells no control: {error.reason}") from None
    correlation_id = (envelope.payload.findtext("{*}Header/{*}CorrelationID") or "").strip()
    if control is not None and control.mrid != correlation_id:
        raise AnswerUntrusted(detail="CorrelationID is not the control's mRID")
    return ControlAnswer(envelope.certificate, control, correlation_id, verified.created_utc_ms)


def open_head(raw: bytes, trust: Trust) -> TreeHead:
    """Verify and decode a signed tree head.

    Raises:
        AnswerUntrusted: unsigned, malformed, signed by anyone but a bus to be believed, or changed in any byte.
    """
    envelope, verified = _verified_bus(raw, trust)
    head = heads.decode(envelope.payload)
    if head.made_at_utc_ms != verified.created_utc_ms or not valid_at(envelope.certificate, head.made_at_utc_ms):
        raise AnswerUntrusted(detail="bus certificate was not valid then, or the head was sealed at another time")
    if not wssecurity.is_as_signed(envelope):
        raise AnswerUntrusted(detail="the bytes outside the signature were changed")
    return head


def _verified_bus(raw: bytes, trust: Trust) -> tuple[Envelope, wssecurity.Verified]:
    try:
        envelope = shape(raw)
        check_bus(envelope.certificate, trust)
        return envelope, wssecurity.verify(envelope, envelope.certificate)
    except PeerFault as error:
        raise AnswerUntrusted(detail=f"{error.code}: {error.detail}") from None


def check_bus(certificate: bytes, trust: Trust) -> None:
    """Hold a certificate against the pins, or the pinned CA and the bus's extended key usage (decision 13).

    Raises:
        SignatureInvalid: neither.
    """
    digest = hashlib.sha256(certificate).digest()
    if any(hmac.compare_digest(digest, pin) for pin in trust.pinned):
        return
    try:
        loaded = x509.load_der_x509_certificate(certificate)
        loaded.verify_directly_issued_by(x509.load_der_x509_certificate(trust.ca))
        usages = loaded.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (*wssecurity.UNREADABLE, InvalidSignature, x509.ExtensionNotFound) as error:
        raise SignatureInvalid(detail=f"signer is not issued by the pinned CA: {error}") from None
    if BUS_KEY_USAGE not in usages:
        raise SignatureInvalid(detail="signer is no bus")
