"""Model <-> XML: the IEC 61968-9 payloads in their IEC 61968-100 wrappers.

Floor 2. `decode` takes the Body's child of a message that is verified and schema-valid, and nothing else; `encode`
writes that element. The bus's answers (receipt, refusal) are in `answers.py`. Adding a message is one class in model.py
or requests.py and one line in MESSAGES; requests bring their own decoders.

Interval readings stand in the tree as ``timeStamp`` (interval end, UTC), ``value``, ``ReadingQualities``; a quality's
``comment`` carries the source's own words. One MeterReading is one channel; its stream name is the Meter's Name of
NameType ``channel`` (DESIGN section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from lxml import etree

from . import (
    control_messages,
    document_messages,
    encrypted_readings,
    meter_config_messages,
    ns,
    office_messages,
    schemas,
    supply_messages,
    units,
)
from .encoding import encode as encode_push
from .encoding import encode_meter_readings
from .envelope import DEVICE_LIMITS, Element, parse
from .errors import FileInvalid, HeaderIncomplete, UnknownOperation
from .findings import Findings
from .model import (
    MISSING_QUALITY,
    VALID_QUALITY,
    ChannelKey,
    CreatedEndDeviceEvents,
    CreatedMeterReadings,
    EndDeviceEvent,
    Header,
    IntervalBlock,
    Message,
    Qualities,
    Quality,
    Readings,
    ReadingType,
    RegisterReading,
)

__all__ = ["MESSAGES", "decode", "decode_meter_readings", "encode", "encode_meter_readings"]

MAX_MESSAGE_ID = 64
_DOCUMENT_BYTES = 256 << 20
_READ = frozenset(("sequence", "lastReceipt"))
_IN_USE = "PRODUCTION"  # Context: none means this; test readings must never reach a bill
_STREAM_NAME_TYPE = "channel"
_M = f"{{{ns.METER_READINGS}}}"
_E = f"{{{ns.END_DEVICE_EVENTS}}}"
_H = f"{{{ns.MESSAGE}}}"


def _xpath(path: str) -> etree.XPath:
    return etree.XPath(path, namespaces={"m": ns.METER_READINGS}, smart_strings=False)


_USAGE_POINT = _xpath("string(m:UsagePoint/m:mRID)")
_METER = _xpath("string(m:Meter/m:mRID)")
_STREAM = _xpath(f"string(m:Meter/m:Names[normalize-space(m:NameType/m:name) = '{_STREAM_NAME_TYPE}']/m:name)")
_STAMPS = _xpath("m:IntervalReadings/m:timeStamp/text()")
_VALUES = _xpath("m:IntervalReadings/m:value/text()")
_CHILDREN = _xpath("count(m:IntervalReadings/*)")


class Kind(NamedTuple):
    """How one message is decoded, and what its header must say.

    Attributes:
        whole: `decode` is given the Body's child, and otherwise what stands first in its Payload.
    """

    noun: str
    verb: str
    decode: Callable[[Header, Element], Message]
    whole: bool = False


_ENCODERS: Mapping[type, Callable[[Any], bytes]] = {
    CreatedMeterReadings: encode_push,
    CreatedEndDeviceEvents: encode_push,
    document_messages.CreatedDocuments: document_messages.encode,
    **control_messages.ENCODERS,
    **office_messages.ENCODERS,
    **meter_config_messages.ENCODERS,
    **supply_messages.ENCODERS,
}


def encode(message: Message) -> bytes:
    """Return a push or a request as the Body's child, in exclusive canonical form, UTF-8.

    Encrypted readings are encoded by `encrypted_readings.encode`, which needs what no message holds.

    Raises:
        CannotRepresent: a text holds a character that XML cannot, such as a control character.
        UnknownOperation: another class.
    """
    encoder = _ENCODERS.get(type(message))
    if encoder is None:
        raise UnknownOperation(detail=type(message).__name__)
    return encoder(message)


def decode(payload: Element) -> Message:
    """Decode the Body's child of a verified, schema-valid message.

    Raises:
        UnknownOperation: no line in MESSAGES.
        HeaderIncomplete: Source, MessageID or Timestamp missing or unusable, or Verb or Noun not the element's.
        SchemaInvalid: a value or time that XSD lets pass and Gridpost does not; itemised.
    """
    kind = kind_of(payload)
    header = decode_header(payload[0], kind.noun, kind.verb)
    return kind.decode(header, payload if kind.whole else payload[1][0])


def kind_of(payload: Element) -> Kind:
    """Return the table's line for a Body's child.

    Raises:
        UnknownOperation: there is none.
    """
    kind = MESSAGES.get(payload.tag)
    if kind is None:
        raise UnknownOperation(detail=payload.tag[:200])
    return kind


def decode_header(element: Element, noun: str, verb: str) -> Header:
    """Decode a 61968-100 Header of a request and insist on what we need of it.

    Raises:
        HeaderIncomplete: see `decode`.
    """
    texts = {child.tag: (child.text or "").strip() for child in element}
    stated = [
        ((item[0].text or "").strip(), (item[1].text or "").strip())
        for item in element.iterchildren(f"{_H}Property")
        if len(item) > 1
    ]
    properties = dict(stated)
    if sum(name in _READ for name, _ in stated) > len(_READ & properties.keys()):
        raise HeaderIncomplete(f"Header/Property {' or '.join(sorted(_READ))} stands twice")
    if texts.get(f"{_H}Context", _IN_USE) != _IN_USE:
        raise HeaderIncomplete(f"Header/Context is {texts[f'{_H}Context']}: only {_IN_USE} readings are taken here")
    if (texts[f"{_H}Verb"], texts[f"{_H}Noun"]) != (verb, noun):
        raise HeaderIncomplete(f"Header says {texts[f'{_H}Verb']} {texts[f'{_H}Noun']}; expected {verb} {noun}")
    return Header(
        verb=verb,
        noun=noun,
        timestamp_utc_ms=_header_time(texts.get(f"{_H}Timestamp", "")),
        source=_printable(texts, "Source", 128),
        message_id=_printable(texts, "MessageID", MAX_MESSAGE_ID),
        correlation_id=texts.get(f"{_H}CorrelationID", "")[:128],
        sequence=_sequence(properties.get("sequence")),
        last_receipt=properties.get("lastReceipt", "")[:128],
        properties=tuple(pair for pair in stated if pair[0] not in _READ),
    )


def _header_time(text: str) -> int:
    try:
        return units.parse_utc_ms(text)
    except ValueError as error:
        raise HeaderIncomplete(f"Header/Timestamp: {error}") from None


def _printable(texts: Mapping[str, str], local: str, longest: int) -> str:
    text = texts.get(_H + local, "")
    if not 1 <= len(text) <= longest or not all(" " <= character <= "~" for character in text):
        raise HeaderIncomplete(f"Header/{local} must be 1 to {longest} printable ASCII characters")
    return text


def _sequence(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= units.MAX_DIGITS):
        raise HeaderIncomplete("Header/Property sequence is not a whole number")
    return int(text)


def _decode_created_meter_readings(header: Header, element: Element) -> Message:
    return CreatedMeterReadings(header, decode_readings(element))


def decode_readings(element: Element) -> Readings:
    """Decode a MeterReadings element.

    Raises:
        SchemaInvalid: itemised, at most 20 items.
    """
    blocks: list[IntervalBlock] = []
    registers: list[RegisterReading] = []
    findings = Findings(element)
    for reading in element.iterchildren(f"{_M}MeterReading"):
        if not len(reading):
            continue  # says nothing, and a message holds 70,000 of them: asking each for its names took 0.25 s
        usage_point, meter, stream = (name(reading).strip() for name in (_USAGE_POINT, _METER, _STREAM))
        for block in reading.iterchildren(f"{_M}IntervalBlocks"):
            key = ChannelKey(usage_point, meter, stream, _reading_type(block))
            blocks.append(_decode_plain(block, key) or _decode_block(block, key, findings))
        for register in reading.iterchildren(f"{_M}Readings"):
            key = ChannelKey(usage_point, meter, stream, _reading_type(register))
            registers.extend(_decode_register(register, key, findings))
    findings.refuse()
    return Readings(tuple(blocks), tuple(registers))


def _reading_type(element: Element) -> str:
    (reference,) = element.iterchildren(f"{_M}ReadingType")
    ref: str = reference.get("ref", "").strip()
    return ref


@lru_cache(maxsize=1024)
def interval_s(reading_type: str) -> int:
    """Return the seconds a reading type's measuring period lasts; 0 when it states none."""
    try:
        return ReadingType.parse(reading_type).interval_s
    except FileInvalid:
        return 0  # a code of another fashion is kept as data; whoever needs the length learns it from the channel


def _decode_plain(block: Element, key: ChannelKey) -> IntervalBlock | None:
    """A block of nothing but a timeStamp and a value for each interval, read in columns; None for any other.

    Three calls instead of a walk over every child: this is most of what a bus decodes. Equal counts suffice, because
    the schema allows each interval at most one of either, and neither empty.
    """
    stamps, values = _STAMPS(block), _VALUES(block)
    if not (len(stamps) == len(values) == len(block) - 1 and _CHILDREN(block) == 2 * len(stamps)):
        return None
    try:
        ends, literals = tuple(map(units.parse_utc, stamps)), units.decimal_texts(values)
    except ValueError:
        return None  # white space around it, or a finding: _decode_block knows which
    return IntervalBlock(key, interval_s(key.reading_type), ends, literals, ((),) * len(ends))


def _decode_block(block: Element, key: ChannelKey, findings: Findings) -> IntervalBlock:
    ends: list[int] = []
    values: list[str | None] = []
    qualities: list[Qualities] = []
    for reading in block.iterchildren(f"{_M}IntervalReadings"):
        end, value, quality = _decode_interval(reading, findings)
        ends.append(end)
        values.append(value)
        qualities.append(quality)
    return IntervalBlock(key, interval_s(key.reading_type), tuple(ends), tuple(values), tuple(qualities))


def _decode_interval(reading: Element, findings: Findings) -> tuple[int, str | None, Qualities]:
    """One pass over the children: this runs for every value with a quality, so no look-ups by path."""
    end: int | None = None
    value: str | None = None
    qualities: list[Quality] = []
    found = findings.total
    for child in reading:
        tag = child.tag
        if tag == f"{_M}timeStamp":
            end = findings.tried(units.parse_utc, child)
        elif tag == f"{_M}value":
            value = findings.tried(units.decimal_text, child)
        elif tag == f"{_M}ReadingQualities":
            qualities.append(_decode_quality(child))
        elif tag == f"{_M}timePeriod" and end is None and child.find(f"{_M}end") is not None:
            end = findings.tried(units.parse_utc, child.find(f"{_M}end"))
    if findings.total > found:
        return 0, None, ()  # what cannot be read is not also missing
    if end is None:
        findings.add(reading, "an interval needs a timeStamp")
    if value is None and all(quality.code != MISSING_QUALITY for quality in qualities):
        findings.add(reading, f"a value may be left out only with quality {MISSING_QUALITY}")
    return end or 0, value, _plain(qualities)


def _decode_quality(element: Element) -> Quality:
    code = detail = ""
    for child in element:
        if child.tag == f"{_M}ReadingQualityType":
            code = child.get("ref", "").strip()
        elif child.tag == f"{_M}comment":
            detail = child.text or ""
    return Quality(code, detail)


def _plain(qualities: list[Quality]) -> Qualities:
    """() for a plain 1.0.0: the two mean the same and must compare equal (decision 10)."""
    return () if qualities == [Quality(VALID_QUALITY)] else tuple(qualities)


def _decode_register(element: Element, key: ChannelKey, findings: Findings) -> Iterator[RegisterReading]:
    found = findings.total
    time, value, qualities = _decode_interval(element, findings)
    if value is not None:
        yield RegisterReading(key, time, value, qualities)
    elif findings.total == found:
        findings.add(element, "a register reading needs a value")


def _decode_created_end_device_events(header: Header, element: Element) -> Message:
    findings = Findings(element)
    events = tuple(_decode_event(event, findings) for event in element.iterfind(f"{_E}EndDeviceEvent"))
    findings.refuse()
    return CreatedEndDeviceEvents(header, events)


def _decode_event(element: Element, findings: Findings) -> EndDeviceEvent:
    def text(path: str) -> str:
        return (element.findtext(path) or "").strip()

    details = {
        (detail.findtext(f"{_E}name") or "").strip(): (detail.findtext(f"{_E}value") or "").strip()
        for detail in element.iterfind(f"{_E}EndDeviceEventDetails")
    }
    return EndDeviceEvent(
        mrid=text(f"{_E}mRID"),
        event_type=element.find(f"{_E}EndDeviceEventType").get("ref", "").strip(),
        created_utc_ms=findings.tried(units.parse_utc_ms, element.find(f"{_E}createdDateTime")) or 0,
        asset=text(f"{_E}Assets/{_E}mRID"),
        reason=text(f"{_E}reason"),
        severity=text(f"{_E}severity"),
        details=details,
    )


_REQUESTS = {
    **control_messages.REQUESTS,
    **office_messages.REQUESTS,
    **meter_config_messages.REQUESTS,
    **supply_messages.REQUESTS,
}

# QName of the Body's child -> how it is read. The one table of messages.
MESSAGES: Mapping[str, Kind] = {
    ns.q(ns.METER_READINGS_MESSAGE, "CreatedMeterReadings"): Kind(
        "MeterReadings", "created", _decode_created_meter_readings
    ),
    ns.q(ns.END_DEVICE_EVENTS_MESSAGE, "CreatedEndDeviceEvents"): Kind(
        "EndDeviceEvents", "created", _decode_created_end_device_events
    ),
    ns.q(ns.ENCRYPTED_READINGS, "CreatedEncryptedReadings"): Kind(
        "EncryptedReadings", "created", encrypted_readings.decode
    ),
    document_messages.NAME: Kind(document_messages.NOUN, document_messages.VERB, document_messages.decode),
    **{name: Kind(*line, whole=True) for name, line in _REQUESTS.items()},
}


def decode_meter_readings(raw: bytes) -> Readings:
    """Read a bare 61968-9 MeterReadings document (``cim`` in `gridpost convert`).

    A reading type without a measuring period leaves the interval length to the spacing of the time stamps.

    Raises:
        PeerFault: MessageTooLarge, MalformedXml, ForbiddenMarkup, LimitExceeded; SchemaInvalid with the places.
        FileInvalid: another root, or a single interval whose length nothing states.
    """
    root = parse(raw, DEVICE_LIMITS.raised(_DOCUMENT_BYTES))
    if root.tag != f"{_M}MeterReadings":
        raise FileInvalid(f"the document's root is {root.tag}, expected {_M}MeterReadings")
    schemas.validate(root)
    readings = decode_readings(root)
    return replace(readings, blocks=tuple(map(_with_length, readings.blocks)))


def _with_length(block: IntervalBlock) -> IntervalBlock:
    if block.interval_s or not block.ends_utc:
        return block
    steps = [later - earlier for earlier, later in pairwise(sorted(set(block.ends_utc)))]
    if not steps:
        raise FileInvalid(f"reading type {block.channel.reading_type} does not state how long its interval is")
    return replace(block, interval_s=min(steps))
