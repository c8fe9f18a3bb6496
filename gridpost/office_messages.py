"""What offices ask and are told, on the wire: readings, events and the mailbox; values <-> XML.

Floor 2. Out: the Body's child in exclusive canonical form, UTF-8. In (`messages.MESSAGES` calls the decoders): the
Body's child of a request that is admitted and schema-valid. Controls are in `control_messages.py`, the set-up of
meters in `meter_config_messages.py`. Rights, pages and limits are the caller's; nothing is cut here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import meter_config_messages, ns, units
from .answers import encode_receipt_element, encode_reply
from .asking import Asked, Option, encode_request, read_request, up_to
from .encoding import encode_events, encode_readings, text_of
from .envelope import Element
from .findings import printable
from .model import DataVersion, EndDeviceEvent, Header, Message, Readings, Receipt
from .requests import (
    MOST_ASKED,
    CancelMeterReadings,
    CreateMeterReadings,
    DequeueMailbox,
    GetCompleteness,
    GetEndDeviceEvents,
    GetMeterReadings,
    Mail,
    MeterConfig,
    PeekMailbox,
    Query,
)

NEXT_PAGE, DATA_VERSION = "nextPage", "dataVersion"  # Properties of an answer's Header; the latter an Option too
_VERSION = re.compile(r"\d{1,9}:\d{1,18}(,\d{1,9}:\d{1,18})*", re.ASCII)
_MANY = Option(many=True)
_NAMES = {"usagePoint": _MANY, "meter": _MANY}
_CHANNELS = {**_NAMES, "readingType": Option(printable, many=True), "stream": _MANY}


def parse_version(text: str) -> DataVersion:
    """Return the data version that ``partition:seq,partition:seq`` names.

    Raises:
        ValueError: it is none, or names a partition twice.
    """
    if not _VERSION.fullmatch(text):
        raise ValueError("is no data version partition:seq,partition:seq")
    pairs = [part.split(":") for part in text.split(",")]
    version = {int(partition): int(seq) for partition, seq in pairs}
    if len(version) != len(pairs):
        raise ValueError("names a partition twice")
    return version


def format_version(version: DataVersion) -> str:
    """Return a data version as `parse_version` reads it, partitions rising."""
    return ",".join(f"{partition}:{seq}" for partition, seq in sorted(version.items()))


_PAGED = {"page": Option(), "limit": Option(up_to(MOST_ASKED))}
_AT = {DATA_VERSION: Option(parse_version)}

GET_READINGS, CREATE_READINGS, CANCEL_READINGS = (
    ns.q(ns.METER_READINGS_MESSAGE, f"{verb}MeterReadings") for verb in ("Get", "Create", "Cancel")
)
GET_COMPLETENESS = ns.q(ns.COMPLETENESS, "GetCompleteness")
GET_EVENTS = ns.q(ns.END_DEVICE_EVENTS_MESSAGE, "GetEndDeviceEvents")
PEEK, DEQUEUE = (ns.q(ns.MAILBOX, f"{verb}Mailbox") for verb in ("Peek", "Dequeue"))
OPTIONS: Mapping[str, Mapping[str, Option]] = {
    GET_READINGS: {**_CHANNELS, **_AT, **_PAGED},
    CREATE_READINGS: _CHANNELS,
    GET_COMPLETENESS: {**_CHANNELS, **_AT},
    CANCEL_READINGS: {},
    GET_EVENTS: {**_NAMES, **_AT, **_PAGED},
    PEEK: {"limit": Option(up_to(MOST_ASKED))},
    DEQUEUE: {"upTo": Option(up_to(10**units.MAX_DIGITS - 1), needed=True)},
}

# --- requests, encoded -----------------------------------------------------------------------------------------------


def encode_get_meter_readings(header: Header, query: Query) -> bytes:
    """Return ``GetMeterReadings``: the period in StartTime and EndTime, the rest in Options."""
    return _encode_query(GET_READINGS, header, query)


def encode_get_end_device_events(header: Header, query: Query) -> bytes:
    """Return ``GetEndDeviceEvents``, as `encode_get_meter_readings`."""
    return _encode_query(GET_EVENTS, header, query)


def encode_get_completeness(header: Header, query: Query) -> bytes:
    """Return ``GetCompleteness``, as `encode_get_meter_readings`; page and limit are left out."""
    return _encode_query(GET_COMPLETENESS, header, query)


def encode_create_meter_readings(header: Header, query: Query) -> bytes:
    """Return ``CreateMeterReadings``: have devices read again; of the query the names and the period."""
    return _encode_query(CREATE_READINGS, header, query)


def encode_cancel_meter_readings(header: Header, ids: Sequence[str]) -> bytes:
    """Return ``CancelMeterReadings``: MessageIDs of CreateMeterReadings in Request/ID."""
    return encode_request(CANCEL_READINGS, header, Asked(ids=tuple(ids)))


def encode_peek_mailbox(header: Header, limit: int = 0) -> bytes:
    """Return ``PeekMailbox``; Verb get, Noun Mailbox."""
    return encode_request(PEEK, header, Asked({"limit": (str(limit),)} if limit else {}))


def encode_dequeue_mailbox(header: Header, up_to_number: int) -> bytes:
    """Return ``DequeueMailbox``; Verb delete, Noun Mailbox."""
    return encode_request(DEQUEUE, header, Asked({"upTo": (str(up_to_number),)}))


def _encode_query(name: str, header: Header, query: Query) -> bytes:
    many = {
        "usagePoint": query.usage_points,
        "meter": query.meters,
        "readingType": query.reading_types,
        "stream": query.streams,
    }
    single = {DATA_VERSION: query.at, "page": query.page, "limit": str(query.limit or "")}
    options = {**many, **{option: (value,) if value else () for option, value in single.items()}}
    taken = {option: values for option, values in options.items() if option in OPTIONS[name]}
    return encode_request(name, header, Asked(taken, (), query.from_utc, query.to_utc))


# --- answers, encoded ------------------------------------------------------------------------------------------------


def reply_to(request: Header, bus_id: str, at_utc_ms: int, properties: Sequence[tuple[str, str]] = ()) -> Header:
    """Return the header of an answer: Verb reply, the request's Noun, CorrelationID its MessageID."""
    return Header(
        verb="reply",
        noun=request.noun,
        timestamp_utc_ms=at_utc_ms,
        source=bus_id,
        correlation_id=request.message_id,
        properties=tuple(properties),
    )


def encode_meter_readings_reply(reply_header: Header, readings: Readings, page: str, at: str) -> bytes:
    """Return ``MeterReadingsResponseMessage`` with readings.

    Args:
        reply_header: from `reply_to`.
        readings: one page of them; may be empty.
        page: for the Property ``nextPage``, what the next request must state to go on; empty: this is the last.
        at: for the Property ``dataVersion``, ``partition:seq,...`` of which all pages are told; empty: not stated.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
    """
    return encode_reply(paged(reply_header, page, at), encode_readings(readings))


def encode_end_device_events_reply(reply_header: Header, events: Sequence[EndDeviceEvent], page: str, at: str) -> bytes:
    """Return ``EndDeviceEventsResponseMessage`` with events; page and at as `encode_meter_readings_reply`.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
    """
    return encode_reply(paged(reply_header, page, at), encode_events(events))


def encode_meter_config_reply(
    reply_header: Header, configs: Sequence[MeterConfig], page: str = "", receipt: Receipt | None = None
) -> bytes:
    """Return ``MeterConfigResponseMessage``; the receipt of a signed Create or Change stands behind it.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
    """
    content = meter_config_messages.encode_element(configs) + _receipt(receipt)
    return encode_reply(paged(reply_header, page, ""), content)


def encode_mail_reply(reply_header: Header, mails: Sequence[Mail], depth: int = 0) -> bytes:
    """Return ``MailboxResponseMessage`` with mails in their order.

    Args:
        reply_header: from `reply_to`, Noun Mailbox.
        mails: numbered; each content is put in as it is.
        depth: how many are in the mailbox from the first of these on, for the client to know whether to come again;
            never less than there are mails here.
    """
    content = "".join(map(_encode_mail, mails))
    count = max(depth, len(mails))
    # No xmlns: it is the one of the message around it, and canonical XML says a namespace once.
    return encode_reply(reply_header, f"<Mailbox><depth>{count}</depth>{content}</Mailbox>")


def encode_ok_reply(noun: str, reply_header: Header, receipt: Receipt | None = None) -> bytes:
    """Return ``<noun>ResponseMessage`` with Reply OK, and with the Receipt as its Payload where one is given."""
    return encode_reply(replace(reply_header, noun=noun), _receipt(receipt))


def _encode_mail(mail: Mail) -> str:
    fields = {
        "number": str(mail.number),
        "kind": mail.kind,
        "noun": mail.noun,
        "correlationID": mail.correlation_id,
        "partition": str(mail.partition),
        "seq": str(mail.seq),
        "madeAt": units.format_utc_ms(mail.made_at_utc_ms),
    }
    texts = "".join(f"<{name}>{text_of(text)}</{name}>" for name, text in fields.items() if text)
    return f"<Mail>{texts}{mail.content.decode()}</Mail>"


def paged(header: Header, page: str, at: str = "") -> Header:
    """Return the header of an answer with what the next page is called, and of which data version all pages tell."""
    added = tuple((name, value) for name, value in ((NEXT_PAGE, page), (DATA_VERSION, at)) if value)
    return replace(header, properties=header.properties + added)


def _receipt(receipt: Receipt | None) -> str:
    return "" if receipt is None else encode_receipt_element(receipt)


# --- requests, decoded -----------------------------------------------------------------------------------------------


def _query(element: Element) -> Query:
    asked = read_request(element, OPTIONS[element.tag])
    return Query(
        usage_points=asked.texts("usagePoint"),
        meters=asked.texts("meter"),
        reading_types=asked.texts("readingType"),
        from_utc=asked.from_utc,
        to_utc=asked.to_utc,
        at=asked.text(DATA_VERSION),
        page=asked.text("page"),
        limit=asked.number("limit"),
        streams=asked.texts("stream"),
    )


def _decode_get_meter_readings(header: Header, element: Element) -> Message:
    return GetMeterReadings(header, _query(element))


def _decode_get_completeness(header: Header, element: Element) -> Message:
    return GetCompleteness(header, _query(element))


def _decode_get_end_device_events(header: Header, element: Element) -> Message:
    return GetEndDeviceEvents(header, _query(element))


def _decode_create_meter_readings(header: Header, element: Element) -> Message:
    return CreateMeterReadings(header, _query(element))


def _decode_cancel_meter_readings(header: Header, element: Element) -> Message:
    return CancelMeterReadings(header, read_request(element, OPTIONS[CANCEL_READINGS], least_ids=1).ids)


def _decode_peek(header: Header, element: Element) -> Message:
    return PeekMailbox(header, read_request(element, OPTIONS[PEEK]).number("limit"))


def _decode_dequeue(header: Header, element: Element) -> Message:
    return DequeueMailbox(header, read_request(element, OPTIONS[DEQUEUE]).number("upTo"))


# Class -> its encoder: lines of `messages.encode`.
ENCODERS: Mapping[type, Callable[[Any], bytes]] = {
    GetMeterReadings: lambda one: encode_get_meter_readings(one.header, one.query),
    GetCompleteness: lambda one: encode_get_completeness(one.header, one.query),
    GetEndDeviceEvents: lambda one: encode_get_end_device_events(one.header, one.query),
    CreateMeterReadings: lambda one: encode_create_meter_readings(one.header, one.query),
    CancelMeterReadings: lambda one: encode_cancel_meter_readings(one.header, one.ids),
    PeekMailbox: lambda one: encode_peek_mailbox(one.header, one.limit),
    DequeueMailbox: lambda one: encode_dequeue_mailbox(one.header, one.up_to),
}

# QName of the Body's child -> noun, verb, decoder: lines of `messages.MESSAGES`.
REQUESTS: Mapping[str, tuple[str, str, Callable[[Header, Element], Message]]] = {
    GET_READINGS: ("MeterReadings", "get", _decode_get_meter_readings),
    CREATE_READINGS: ("MeterReadings", "create", _decode_create_meter_readings),
    CANCEL_READINGS: ("MeterReadings", "cancel", _decode_cancel_meter_readings),
    GET_COMPLETENESS: ("Completeness", "get", _decode_get_completeness),
    GET_EVENTS: ("EndDeviceEvents", "get", _decode_get_end_device_events),
    PEEK: ("Mailbox", "get", _decode_peek),
    DEQUEUE: ("Mailbox", "delete", _decode_dequeue),
}
