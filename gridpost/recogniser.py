"""The short way in: a reading message laid out exactly as Gridpost's own devices lay it out is read without a tree.

Floor 4. In: the bytes a stranger sent. Out: a `Plain`, claimed like an `Envelope` and verified like one, or None: any
other layout, any doubt and any finding is `envelope.shape`'s, whose way stays the reference. Nothing is refused here,
so what a sender is told never depends on the way its message took.

Why it may be believed (ADR 0011): `wssecurity.sign` and `encoding.encode` write canonical XML by construction. A
message that these patterns cover from the first byte to the last therefore *is* its own canonical form, and digests may
be taken over the bytes as received. The patterns are made of what the writers themselves write, and hold every text to
what the schema, the limits and `messages.decode` accept; tests compare the two ways over every message they can make.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter

from . import encoding, messages, ns, units, wssecurity
from .envelope import Limits, base64_octets
from .errors import EnvelopeShape, SignatureInvalid
from .model import ChannelKey, CreatedMeterReadings, Header, IntervalBlock, Readings, Reference
from .wssecurity import Verified


@dataclass(frozen=True, slots=True)
class Plain:
    """A message of our own layout, not yet trusted; its parts are cut out of `raw` and account for all of it.

    Attributes:
        raw: the bytes as received.
        operation: the name of the Body's child.
        certificate: the token's octets, DER if the sender is honest.
        certificate_sha256: their SHA-256: the key for the enrolment look-up.
        message: what the Body's child says; to be read only after `verify`.
        created_utc_ms: the Timestamp's Created.
        algorithm: the SignatureMethod's.
        signature: the SignatureValue's octets.
        signed_info: SignedInfo's canonical form.
        digests: the DigestValues of Body and Timestamp, base64.
        body: its canonical form.
        timestamp: its canonical form.
        payload: the canonical form of the Body's child.
    """

    raw: bytes
    operation: str
    certificate: bytes
    certificate_sha256: bytes
    message: CreatedMeterReadings
    created_utc_ms: int
    algorithm: str
    signature: bytes
    signed_info: bytes
    digests: tuple[str, str]
    body: bytes
    timestamp: bytes
    payload: bytes

    @property
    def claimed_source(self) -> str:
        """Header/Source, for logs only."""
        return self.message.header.source[:64]

    @property
    def claimed_message_id(self) -> str:
        """Header/MessageID, for logs only."""
        return self.message.header.message_id


def verify(plain: Plain, certificate: bytes) -> Verified:
    """Check the signature with the key of `certificate`, which the caller trusts, as `wssecurity.verify` does.

    Raises:
        SignatureInvalid: for every cause alike.
    """
    if not hmac.compare_digest(plain.certificate, certificate):
        raise SignatureInvalid(detail="token is not the enrolled certificate")
    wssecurity.check_value(certificate, plain.algorithm, plain.signature, plain.signed_info)
    for digest, octets in zip(plain.digests, (plain.body, plain.timestamp), strict=True):
        if not hmac.compare_digest(hashlib.sha256(octets).digest(), base64_octets(digest)):
            raise SignatureInvalid(detail="digest")
    references = tuple(
        Reference(uri, ns.EXC_C14N, "", ns.SHA256, digest)
        for uri, digest in zip(("#body", "#time"), plain.digests, strict=True)
    )
    return Verified(references, hashlib.sha256(plain.signature).digest(), plain.created_utc_ms)


def recognise(raw: bytes, limits: Limits) -> Plain | None:
    """Return what a message of our own layout says; None leaves it to the reference."""
    if not _is_within(raw, limits) or not raw.isascii():
        return None
    text = raw.decode("ascii")
    outer = _OUTER.match(text)
    if outer is None or not text.endswith(_END):
        return None
    try:
        readings = _readings(text[outer.end() : len(text) - len(_END)])
        return _plain(raw, outer, CreatedMeterReadings(_header(outer), readings))
    except (
        ValueError,
        EnvelopeShape,
    ):  # no such date, not a number, not a row: the reference finds out which, and says so
        return None


def _is_within(raw: bytes, limits: Limits) -> bool:
    """The limits that this layout could break at all: its depth, attributes and declarations are fixed."""
    least = min(limits.less_than, limits.equals)
    if len(raw) <= least <= limits.size:
        return True  # one byte each
    return len(raw) <= limits.size and raw.count(b"<") <= limits.less_than and raw.count(b"=") <= limits.equals


def _plain(raw: bytes, outer: re.Match[str], message: CreatedMeterReadings) -> Plain:
    certificate = base64_octets(outer["token"])
    body_end = len(raw) - len(_AFTER_BODY)
    return Plain(
        raw=raw,
        operation=OPERATION,
        certificate=certificate,
        certificate_sha256=hashlib.sha256(certificate).digest(),
        message=message,
        created_utc_ms=units.parse_utc_ms(outer["created"]),
        algorithm=outer["algorithm"],
        signature=base64_octets(outer["value"]),
        signed_info=raw[slice(*outer.span("info"))],
        digests=(outer["body_digest"], outer["time_digest"]),
        body=raw[outer.start("body") : body_end],
        timestamp=raw[slice(*outer.span("timestamp"))],
        payload=raw[outer.start("payload") : body_end - len(_AFTER_PAYLOAD)],
    )


def _header(outer: re.Match[str]) -> Header:
    sequence = outer["sequence"]
    return Header(
        verb=_VERB,
        noun=_NOUN,
        timestamp_utc_ms=units.parse_utc_ms(outer["time"]),
        source=outer["source"],
        message_id=outer["id"],
        sequence=None if sequence is None else int(sequence),
        last_receipt=outer["receipt"] or "",
    )


def _readings(text: str) -> Readings:
    """One MeterReading after the other, each with one plain block: what is left of the text is no part of any."""
    if not (text.startswith(_OPEN) and text.endswith(_CLOSE)):
        raise ValueError("no MeterReading")
    return Readings(tuple(map(_block, text[len(_OPEN) : -len(_CLOSE)].split(_CLOSE + _OPEN))))


def _block(text: str) -> IntervalBlock:
    at = text.rfind(_TYPE)
    if not (text.startswith(_STAMP) and text.endswith(_ROW_END, 0, max(at, 0))):
        raise ValueError("no row")
    key, interval_s = _channel(text[at:])
    rows = text[len(_STAMP) : at - len(_ROW_END)].split(_ROW_END + _STAMP)
    stamps, values = zip(*[row.split(_VALUE) for row in rows], strict=True)  # ValueError where a row is not of two
    ends = _ends(stamps)
    return IntervalBlock(key, interval_s, ends, units.decimal_texts(values), ((),) * len(ends))


@lru_cache(maxsize=64)  # the channels of one message, and the messages of one hour, have the same
def _ends(stamps: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(map(units.parse_utc, stamps))


@lru_cache(maxsize=4096)  # a channel says the same in each message
def _channel(text: str) -> tuple[ChannelKey, int]:
    """What stands behind the rows of a block: its reading type, meter, stream and usage point."""
    found = _CHANNEL.fullmatch(text)
    if found is None:
        raise ValueError("no channel")
    key = ChannelKey(found["point"] or "", found["meter"], found["stream"] or "", found["type"])
    return key, messages.interval_s(key.reading_type)


# --- the layout, as patterns made of what the writers write ----------------------------------------------------------

_VERB, _NOUN = "created", "MeterReadings"
OPERATION = ns.q(ns.METER_READINGS_MESSAGE, "CreatedMeterReadings")

_BASE64 = "[A-Za-z0-9+/]{%d,%d}={0,2}"
_INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def _group(name: str, pattern: str) -> str:
    return f"(?P<{name}>{pattern})"


def _text(name: str, longest: int = 128) -> str:
    """A text of printable ASCII that XML writes as itself everywhere; no blank, so there is nothing to strip."""
    return _group(name, f"[!#-%(-;=?-~]{{1,{longest}}}")


def _pattern(written: str, **fields: str) -> str:
    """Turn what a writer writes, a name in braces where a field stands, into a pattern."""
    return "".join(re.escape(text) + (fields[name] if name else "") for text, name, *_ in Formatter().parse(written))


def _head() -> str:
    """The pattern of all that stands before the readings."""
    written = encoding.encode(CreatedMeterReadings(Header(_VERB, _NOUN, 0, "{source}", "{id}"), Readings(()))).decode()
    written = written.replace(units.format_utc_ms(0), "{time}").replace("</Header>", "{properties}</Header>")
    sequence = _pattern(
        encoding.encode_property("sequence", "{n}"), n=_group("sequence", rf"\d{{1,{units.MAX_DIGITS}}}")
    )
    receipt = _pattern(encoding.encode_property("lastReceipt", "{receipt}"), receipt=_text("receipt"))
    payload = _pattern(
        written.partition(_AFTER_READINGS)[0],
        time=_group("time", _INSTANT),
        source=_text("source"),
        id=_text("id", messages.MAX_MESSAGE_ID),
        properties=f"(?:{sequence})?(?:{receipt})?",
    )
    body = _pattern(wssecurity.BODY.partition("{payload}")[0])
    references = "".join(
        _pattern(wssecurity.REFERENCE, id=part, digest=_group(f"{part}_digest", _BASE64 % (43, 43)))
        for part in ("body", "time")
    )
    info = _pattern(wssecurity.SIGNED_INFO, algorithm=_text("algorithm"), references=references)
    return (
        _pattern(
            wssecurity.ENVELOPE.partition("{body}")[0],
            token=_group("token", _BASE64 % (4, 20_000)),
            timestamp=_group("timestamp", _pattern(wssecurity.TIMESTAMP, created=_group("created", _INSTANT))),
            signed_info=_group("info", info),
            value=_group("value", _BASE64 % (4, 2000)),
        )
        + f"(?P<body>){body}(?P<payload>){payload}"
    )  # empty groups: where the two begin


def _behind_rows() -> str:
    key = ChannelKey("{point}", "{meter}", "{stream}", "{type}")
    block = IntervalBlock(key, 900, (0,), ("0",), ((),))
    written = encoding.encode_readings(Readings((block,)))
    optional = {"names": encoding.encode_stream("{stream}"), "points": encoding.encode_usage_point("{point}")}
    for name, text in optional.items():
        written = written.replace(text, f"{{{name}}}")
    return _pattern(
        written[written.index(_TYPE) : written.index(_CLOSE)],
        type=_text("type"),
        meter=_text("meter"),
        names=f"(?:{_pattern(optional['names'], stream=_text('stream'))})?",
        points=f"(?:{_pattern(optional['points'], point=_text('point'))})?",
    )


_OPEN, _CLOSE = "<MeterReading><IntervalBlocks>", "</MeterReading>"
_STAMP, _VALUE, _ROW_END = "<IntervalReadings><timeStamp>", "</timeStamp><value>", "</value></IntervalReadings>"
_TYPE = "<ReadingType ref="
_AFTER_READINGS = "</MeterReadings>"
_AFTER_PAYLOAD = wssecurity.BODY.partition("{payload}")[2]
_AFTER_BODY = wssecurity.ENVELOPE.partition("{body}")[2]
_END = f"{_AFTER_READINGS}</Payload></CreatedMeterReadings>{_AFTER_PAYLOAD}{_AFTER_BODY}"
_OUTER = re.compile(_head(), re.ASCII)
_CHANNEL = re.compile(_behind_rows(), re.ASCII)
