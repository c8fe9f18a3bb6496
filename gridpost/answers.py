"""The bus's answers: the receipt and the signed refusal, model <-> XML.

Floor 2. In and out as in `messages.py`: `encode_*` return the Body's child in exclusive canonical form, `decode` takes
the Body's child of a *verified* answer. Both carry a digest that binds them to one message (DESIGN section 4, decisions
16 and 17); a refusal also names one attempt. An unsigned fault (`encode_fault`) carries a code and nothing else.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from . import ns, schemas, units
from .encoding import encode_header, octets, text_of
from .envelope import Element, base64_octets
from .errors import AnswerUntrusted, EnvelopeShape, GridpostError, SchemaInvalid
from .model import Counts, Header, Position, Receipt, Reference, Refusal

_R = f"{{{ns.RECEIPT}}}"
_F = f"{{{ns.REFUSAL}}}"
_H = f"{{{ns.MESSAGE}}}"
_MESSAGE_SPACES = {
    "MeterReadings": ns.METER_READINGS_MESSAGE,
    "EndDeviceEvents": ns.END_DEVICE_EVENTS_MESSAGE,
    "EndDeviceControls": ns.END_DEVICE_CONTROLS_MESSAGE,
    "MeterConfig": ns.METER_CONFIG_MESSAGE,
    "Mailbox": ns.MAILBOX,
    "EncryptedReadings": ns.ENCRYPTED_READINGS,
    "Documents": ns.DOCUMENT,
    "Completeness": ns.COMPLETENESS,
    **dict.fromkeys(("Tariff", "Contract", "TariffComparison"), ns.SUPPLY),
}
_RESPONSES = {ns.q(space, f"{noun}ResponseMessage") for noun, space in _MESSAGE_SPACES.items()}
_FAULT_MESSAGES = {ns.q(space, f"{noun}FaultMessage") for noun, space in _MESSAGE_SPACES.items()}


def encode_receipt(receipt: Receipt, noun: str, source: str) -> bytes:
    """Return ``<Noun>ResponseMessage`` with Reply OK and the Receipt.

    Args:
        receipt: what it states.
        noun: of the message answered.
        source: the bus's id.
    """
    header = Header("reply", noun, receipt.recorded_at_utc_ms, source, correlation_id=receipt.message_id)
    return encode_reply(header, encode_receipt_element(receipt))


def encode_reply(header: Header, content: str) -> bytes:
    """Return ``<Noun>ResponseMessage`` with Reply OK, in canonical form.

    Args:
        header: Verb reply, and the noun of what is answered.
        content: what its Payload holds, canonical; empty: it has none.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
    """
    name = f"{header.noun}ResponseMessage"
    return octets(
        f'<{name} xmlns="{_MESSAGE_SPACES[header.noun]}">{encode_header(header)}'
        f'<Reply><Result xmlns="{ns.MESSAGE}">OK</Result></Reply>'
        f"{f'<Payload>{content}</Payload>' if content else ''}</{name}>"
    )


def encode_receipt_element(receipt: Receipt) -> str:
    """Return a Receipt in canonical form, for the Payload of an answer."""
    references = "".join(
        f"<Reference><uri>{text_of(uri)}</uri><transform>{transform}</transform><prefixList>{text_of(prefixes)}"
        f"</prefixList><digestAlgorithm>{algorithm}</digestAlgorithm><digestValue>{digest}</digestValue></Reference>"
        for uri, transform, prefixes, algorithm, digest in receipt.references
    )
    fields = (
        ("recordedAt", units.format_utc_ms(receipt.recorded_at_utc_ms)),
        ("partition", receipt.position.partition),
        ("seq", receipt.position.seq),
        ("logRootBefore", _base64(receipt.root_before)),
        ("stored", receipt.counts.stored),
        ("known", receipt.counts.known),
        ("conflicting", receipt.counts.conflicting),
    )
    return (
        f'<Receipt xmlns="{ns.RECEIPT}"><messageId>{text_of(receipt.message_id)}</messageId>'
        f"<sender>{text_of(receipt.sender)}</sender><contentDigest>{_base64(receipt.content_digest)}</contentDigest>"
        f"{references}{''.join(f'<{name}>{value}</{name}>' for name, value in fields)}</Receipt>"
    )


def encode_refusal(refusal: Refusal, soap_fault: str, noun: str) -> bytes:
    """Return a soap:Fault whose detail is ``<Noun>FaultMessage`` with Reply FAILED and the Refusal (decision 17).

    Unlike the others it is no document of its own: the Body that `wssecurity.sign` adds binds the prefix ``soap``.
    """
    name = f"{noun}FaultMessage"
    items = refusal.items or ((refusal.code, refusal.reason, ""),)
    space = f' xmlns="{ns.MESSAGE}"'
    errors = "".join(
        f"<Error{space}><code>{text_of(code)}</code><reason>{text_of(reason)}</reason>"
        f"{f'<xpath>{text_of(path)}</xpath>' if path else ''}</Error>"
        for code, reason, path in items
    )
    detail = (
        f'<{name} xmlns="{_MESSAGE_SPACES[noun]}"><Reply>'
        f"<Result{space}>FAILED</Result>{errors}</Reply>"
        f'<Refusal xmlns="{ns.REFUSAL}"><code>{text_of(refusal.code)}</code><retry>{refusal.retry}</retry>'
        f"<contentDigest>{_base64(refusal.content_digest)}</contentDigest>"
        f"<signatureDigest>{_base64(refusal.signature_digest)}</signatureDigest>"
        f"<time>{units.format_utc_ms(refusal.time_utc_ms)}</time></Refusal></{name}>"
    )
    return _fault(soap_fault, f"{refusal.code}: {refusal.reason}", detail)


def encode_fault(error: GridpostError) -> bytes:
    """Return a complete *unsigned* SOAP 1.1 envelope: the code and its fixed summary, nothing of the cause."""
    fault = _fault(error.soap_fault, error.code, "").decode()
    return f'<soap:Envelope xmlns:soap="{ns.SOAP11}"><soap:Body>{fault}</soap:Body></soap:Envelope>'.encode()


def _fault(soap_fault: str, text: str, detail: str) -> bytes:
    # No xmlns:soap here: the Body around it binds the prefix, and in the Body's canonical form it stands there alone.
    return (
        f"<soap:Fault><faultcode>soap:{soap_fault}</faultcode>"
        f"<faultstring>{text_of(text)}</faultstring>{f'<detail>{detail}</detail>' if detail else ''}</soap:Fault>"
    ).encode()


# --- decode ----------------------------------------------------------------------------------------------------------


def decode(payload: Element) -> Receipt | Refusal:
    """Decode the Body's child of a verified answer.

    Raises:
        AnswerUntrusted: neither a receipt nor a refusal of the schema's form.
    """
    try:
        if payload.tag in _RESPONSES:
            schemas.validate(payload)
            return _decode_receipt(_receipt_of(payload))
        if payload.tag == ns.q(ns.SOAP11, "Fault"):
            return _decode_refusal(_fault_message(payload), payload.findtext("faultstring") or "")
    except (SchemaInvalid, EnvelopeShape, ValueError) as error:
        raise AnswerUntrusted(detail=f"answer is signed but not of its schema: {error}") from None
    raise AnswerUntrusted(detail=f"answer is signed but no receipt: {payload.tag[:200]}")


def _receipt_of(response: Element) -> Element:
    (receipt,) = response.iterfind(f"{{*}}Payload/{_R}Receipt")  # the schema lets an answer have no Payload
    return receipt


def _decode_receipt(element: Element) -> Receipt:
    text = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in element}
    references = tuple(
        Reference(*((child.text or "").strip() for child in reference))
        for reference in element.iterfind(f"{_R}Reference")
    )
    return Receipt(
        message_id=text["messageId"],
        sender=text["sender"],
        content_digest=base64_octets(text["contentDigest"]),
        references=references,
        recorded_at_utc_ms=units.parse_utc_ms(text["recordedAt"]),
        position=Position(int(text["partition"]), int(text["seq"])),
        root_before=base64_octets(text["logRootBefore"]),
        counts=Counts(int(text["stored"]), int(text["known"]), int(text["conflicting"])),
    )


def _fault_message(fault: Element) -> Element:
    details: Sequence[Element] = list(fault.find("detail")) if fault.find("detail") is not None else []
    if len(details) != 1 or details[0].tag not in _FAULT_MESSAGES:
        raise EnvelopeShape(detail="fault without a fault message")
    schemas.validate(details[0])
    return details[0]


def _decode_refusal(message: Element, stated: str) -> Refusal:
    refusal = message.find(f"{_F}Refusal")
    if refusal is None:
        raise EnvelopeShape(detail="fault message without a Refusal")
    text = {child.tag: (child.text or "").strip() for child in refusal}
    items = tuple(
        tuple((error.findtext(f"{_H}{name}") or "").strip() for name in ("code", "reason", "xpath"))
        for error in message[0].iterfind(f"{_H}Error")
    )
    return Refusal(
        code=text[f"{_F}code"],
        retry=text[f"{_F}retry"],
        reason=stated.strip().removeprefix(f"{text[f'{_F}code']}: "),
        content_digest=base64_octets(text[f"{_F}contentDigest"]),
        signature_digest=base64_octets(text[f"{_F}signatureDigest"]),
        time_utc_ms=units.parse_utc_ms(text[f"{_F}time"]),
        items=tuple((code, reason, path) for code, reason, path in items),
    )


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
