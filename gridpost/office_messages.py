"""What offices ask and are told, on the wire: readings, events, configurations and the mailbox; values <-> XML.

Floor 2. Out: the Body's child in exclusive canonical form, UTF-8. In (`messages.MESSAGES` calls the decoders): the
Body's child of a request that is admitted and schema-valid. Controls are in `control_messages.py`. Rights, pages and
limits are the caller's; nothing is cut here.
"""

from __future__ import annotations

from collections.abc import Sequence

from .model import EndDeviceEvent, Header, Message, Readings, Receipt
from .requests import Mail, MeterConfig, Query


def reply_to(request: Header, bus_id: str, at_utc_ms: int, properties: Sequence[tuple[str, str]] = ()) -> Header:
    """Return the header of an answer: Verb reply, the request's Noun, CorrelationID its MessageID."""
    raise NotImplementedError


def encode_request(message: Message) -> bytes:
    """Return any request of `requests.py` as the Body's child.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
        UnknownOperation: it is none of them.
    """
    raise NotImplementedError


def encode_get_meter_readings(header: Header, query: Query) -> bytes:
    """Return ``GetMeterReadings``: the period in StartTime and EndTime, the rest in Options."""
    raise NotImplementedError


def encode_get_end_device_events(header: Header, query: Query) -> bytes:
    """Return ``GetEndDeviceEvents``, as `encode_get_meter_readings`."""
    raise NotImplementedError


def encode_meter_readings_reply(reply_header: Header, readings: Readings, page: str, at: str) -> bytes:
    """Return ``MeterReadingsResponseMessage`` with readings.

    Args:
        reply_header: from `reply_to`.
        readings: one page of them; may be empty.
        page: for the Property ``nextPage``, what the next request must state to go on; empty: this is the last.
        at: for the Property ``dataVersion``, ``partition:seq,...`` of which all pages are told; empty: not stated.
    """
    raise NotImplementedError


def encode_end_device_events_reply(reply_header: Header, events: Sequence[EndDeviceEvent], page: str, at: str) -> bytes:
    """Return ``EndDeviceEventsResponseMessage`` with events; page and at as `encode_meter_readings_reply`."""
    raise NotImplementedError


def encode_meter_config_reply(
    reply_header: Header, configs: Sequence[MeterConfig], page: str = "", receipt: Receipt | None = None
) -> bytes:
    """Return ``MeterConfigResponseMessage``; the receipt of a signed Create or Change stands behind it."""
    raise NotImplementedError


def encode_mail_reply(reply_header: Header, mails: Sequence[Mail], depth: int = 0) -> bytes:
    """Return ``MailboxResponseMessage`` with mails in their order.

    Args:
        reply_header: from `reply_to`, Noun Mailbox.
        mails: numbered; each content is put in as it is.
        depth: how many are in the mailbox from the first of these on, for the client to know whether to come again.
    """
    raise NotImplementedError


def encode_ok_reply(noun: str, reply_header: Header, receipt: Receipt | None = None) -> bytes:
    """Return ``<noun>ResponseMessage`` with Reply OK, and with the Receipt as its Payload where one is given."""
    raise NotImplementedError
