"""Model -> XML: messages and readings as bytes in exclusive canonical form.

Floor 2. `messages.py` reads what this page writes. Everything is written the way Canonical XML 1.0 would print it
(namespaces where first used, empty elements as a pair of tags, escapes of section 2.3), so a signature is taken over
these bytes as they are; `tests/core/test_messages.py` holds every encoding against libxml2's own c14n.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby

from . import ns, units
from .errors import CannotRepresent
from .model import (
    Created,
    CreatedMeterReadings,
    EndDeviceEvent,
    Header,
    IntervalBlock,
    Qualities,
    Readings,
    RegisterReading,
)

# What XML 1.0 section 2.2 has no way to write; a sealed message with one would be refused as malformed for ever.
_UNSAYABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def encode(message: Created) -> bytes:
    """Return a push as the Body's child, in exclusive canonical form, UTF-8.

    Raises:
        CannotRepresent: a text holds a character that XML cannot, such as a control character.
    """
    if isinstance(message, CreatedMeterReadings):
        namespace, content = ns.METER_READINGS_MESSAGE, encode_readings(message.readings)
    else:
        namespace, content = ns.END_DEVICE_EVENTS_MESSAGE, encode_events(message.events)
    name = f"Created{message.header.noun}"
    return octets(f'<{name} xmlns="{namespace}">{encode_header(message.header)}<Payload>{content}</Payload></{name}>')


def octets(text: str) -> bytes:
    """Return what was put together as UTF-8.

    Raises:
        CannotRepresent: it holds a character that XML 1.0 has no way to write.
    """
    found = _UNSAYABLE.search(text)
    if found:
        raise CannotRepresent(f"the character {found[0]!r} has no place in XML, at {text[: found.start()][-40:]!r}")
    return text.encode()


def encode_header(header: Header) -> str:
    """Return the Header element in canonical form, for a parent that binds its namespace as default."""
    fields = [
        ("Verb", header.verb),
        ("Noun", header.noun),
        ("Timestamp", units.format_utc_ms(header.timestamp_utc_ms)),
        ("Source", header.source),
        ("MessageID", header.message_id),
        ("CorrelationID", header.correlation_id),
    ]
    space = f' xmlns="{ns.MESSAGE}"'
    parts = [f"<{name}{space}>{text_of(value)}</{name}>" for name, value in fields if value]
    properties = [("sequence", "" if header.sequence is None else str(header.sequence))]
    properties.append(("lastReceipt", header.last_receipt))
    parts += [encode_property(name, value) for name, value in properties if value]
    parts += [encode_property(text_of(name), value) for name, value in header.properties]
    return f"<Header>{''.join(parts)}</Header>"


def encode_property(name: str, value: str) -> str:
    """Return a Property of a Header."""
    return f'<Property xmlns="{ns.MESSAGE}"><Name>{name}</Name><Value>{text_of(value)}</Value></Property>'


def encode_readings(readings: Readings) -> str:
    """Return a MeterReadings element in canonical form: one MeterReading a channel, in order of first appearance."""
    by_channel: dict[tuple[str, str, str], tuple[list[IntervalBlock], list[RegisterReading]]] = {}
    for block in readings.blocks:
        by_channel.setdefault(block.channel[:3], ([], []))[0].append(block)
    for register in readings.registers:
        by_channel.setdefault(register.channel[:3], ([], []))[1].append(register)
    channels = "".join(_encode_channel(names, *content) for names, content in by_channel.items())
    return f'<MeterReadings xmlns="{ns.METER_READINGS}">{channels}</MeterReadings>'


def _encode_channel(names: tuple[str, str, str], blocks: list[IntervalBlock], registers: list[RegisterReading]) -> str:
    usage_point, meter, stream = names
    # 61968-9 lists IntervalBlocks one reading type each; blocks of one type and length are put together again.
    grouped = groupby(blocks, key=lambda block: block.channel.reading_type)
    interval_blocks = "".join(_encode_blocks(reading_type, list(same)) for reading_type, same in grouped)
    name = encode_stream(stream) if stream else ""
    readings = "".join(
        f"<Readings><timeStamp>{units.format_utc(register.time_utc)}</timeStamp><value>{register.value}</value>"
        f"{_encode_qualities(register.qualities)}"
        f'<ReadingType ref="{attribute(register.channel.reading_type)}"></ReadingType></Readings>'
        for register in registers
    )
    point = encode_usage_point(usage_point) if usage_point else ""
    return (
        f"<MeterReading>{interval_blocks}<Meter><mRID>{text_of(meter)}</mRID>{name}</Meter>"
        f"{readings}{point}</MeterReading>"
    )


def encode_stream(name: str) -> str:
    """Return the Names of a Meter that say which of its streams a channel is."""
    return f"<Names><name>{text_of(name)}</name><NameType><name>channel</name></NameType></Names>"


def encode_usage_point(mrid: str) -> str:
    """Return the UsagePoint of a MeterReading."""
    return f"<UsagePoint><mRID>{text_of(mrid)}</mRID></UsagePoint>"


def _encode_blocks(reading_type: str, blocks: Iterable[IntervalBlock]) -> str:
    intervals = "".join(
        f"<IntervalReadings><timeStamp>{units.format_utc(end)}</timeStamp>"
        f"{'' if value is None else f'<value>{value}</value>'}{_encode_qualities(qualities)}</IntervalReadings>"
        for block in blocks
        for end, value, qualities in zip(block.ends_utc, block.values, block.qualities, strict=True)
    )
    return f'<IntervalBlocks>{intervals}<ReadingType ref="{attribute(reading_type)}"></ReadingType></IntervalBlocks>'


def _encode_qualities(qualities: Qualities) -> str:
    return "".join(
        f"<ReadingQualities>{f'<comment>{text_of(detail)}</comment>' if detail else ''}"
        f'<ReadingQualityType ref="{attribute(code)}"></ReadingQualityType></ReadingQualities>'
        for code, detail in qualities
    )


def encode_events(events: Iterable[EndDeviceEvent]) -> str:
    """Return an EndDeviceEvents element in canonical form."""
    encoded = "".join(_encode_event(event) for event in events)
    return f'<EndDeviceEvents xmlns="{ns.END_DEVICE_EVENTS}">{encoded}</EndDeviceEvents>'


def _encode_event(event: EndDeviceEvent) -> str:
    optional = [("reason", event.reason), ("severity", event.severity)]
    texts = "".join(f"<{name}>{text_of(value)}</{name}>" for name, value in optional if value)
    asset = f"<Assets><mRID>{text_of(event.asset)}</mRID></Assets>" if event.asset else ""
    details = "".join(
        f"<EndDeviceEventDetails><name>{text_of(name)}</name><value>{text_of(value)}</value></EndDeviceEventDetails>"
        for name, value in event.details.items()
    )
    mrid = f"<mRID>{text_of(event.mrid)}</mRID>" if event.mrid else ""
    return (
        f"<EndDeviceEvent>{mrid}<createdDateTime>{units.format_utc_ms(event.created_utc_ms)}</createdDateTime>"
        f'{texts}{asset}{details}<EndDeviceEventType ref="{attribute(event.event_type)}"></EndDeviceEventType>'
        "</EndDeviceEvent>"
    )


def text_of(value: str) -> str:
    """Escape character content as canonical XML 1.0 section 2.3 writes it."""
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#xD;")


def attribute(value: str) -> str:
    """Escape an attribute value as canonical XML 1.0 section 2.3 writes it."""
    escaped = value.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return escaped.replace("\t", "&#x9;").replace("\n", "&#xA;").replace("\r", "&#xD;")


def encode_meter_readings(readings: Readings) -> bytes:
    """Return a 61968-9 MeterReadings document (``cim`` in `gridpost convert`), UTF-8 with its XML declaration.

    Raises:
        CannotRepresent: as `encode`.
    """
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + octets(encode_readings(readings)) + b"\n"
