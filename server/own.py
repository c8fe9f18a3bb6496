"""Entries of the bus's own (decision 9): documents, readings and commands that a rule or a person made; sender `bus`.

In: a bench and what is to be recorded. Out: the receipt that stands, an ordinary one. The evidence is an envelope that
the bus's own P-256 key seals, so a proof shows it like anybody's message. A message id is recorded once: asked again,
whatever for, the receipt of the first time comes back. Blocks until the entry is on disk: not for the reactor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gridpost import answers, document_messages, exchange, messages, wssecurity
from gridpost.check import check
from gridpost.controls import NewControl, Role, Wanted
from gridpost.document_messages import CreatedDocuments
from gridpost.documents import OURS, OWN, Document
from gridpost.envelope import DEVICE_LIMITS, shape
from gridpost.errors import Internal
from gridpost.model import (
    CreatedEndDeviceEvents,
    CreatedMeterReadings,
    EndDeviceEvent,
    Entry,
    Header,
    Message,
    Readings,
    Receipt,
    Rows,
)
from gridpost.partners import Partner
from gridpost.ports import Clock, Signer, ZoneOf
from gridpost.requests import CreateEndDeviceControls

from .config import Config
from .receipts import Recorded, receipt_maker, seal_answer
from .store import SqlStore

# Who asks where the bus itself does: judged as an operator is, in no tenant.
OURSELVES = Partner(OURS, "this bus", Role.OPERATOR, "")


class Bench(NamedTuple):
    """What the value side works with: a store that this process serves, the bus's key and id, its clock and zones."""

    store: SqlStore
    signer: Signer
    bus_id: str
    clock: Clock
    zone_of: ZoneOf
    config: Config


def known(bench: Bench, message_id: str) -> Receipt | None:
    """Return the receipt of an entry of our own that is on file under that id."""
    stored = bench.store.find(OURS, message_id)
    return None if stored is None else read_receipt(stored.receipt)


def record_documents(bench: Bench, message_id: str, author: str, documents: Sequence[Document]) -> Receipt:
    """Put documents into the log, in one entry.

    Args:
        bench: see above.
        message_id: at most 64 printable ASCII characters; known already: nothing is recorded.
        author: the person or the rule behind them.
        documents: at least one.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
        SignerUnavailable, StoreUnavailable: nothing was recorded.
    """
    header = _header(bench, document_messages.NOUN, message_id)
    message = CreatedDocuments(header, author, tuple(documents))
    return _record(bench, message, Rows(documents=message.documents))


def record_readings(bench: Bench, message_id: str, readings: Readings) -> Receipt:
    """Put readings into the log, in one entry; their qualities say who made them and from what.

    Raises:
        ReadingsRefused, ReadingInFuture: no such channel, off its grid, not yet over; itemised.
        SignerUnavailable, StoreUnavailable: nothing was recorded.
    """
    message = CreatedMeterReadings(_header(bench, "MeterReadings", message_id), readings)
    meters = sorted({one.channel.meter for some in (readings.blocks, readings.registers) for one in some})
    channels = [channel for meter in meters for channel in bench.store.channels(meter=meter)]
    return _record(bench, message, check(message, channels, bench.clock(), bench.zone_of))


def record_controls(bench: Bench, message_id: str, wanted: Sequence[Wanted], controls: Sequence[NewControl]) -> Receipt:
    """Put commands to devices into the log, in one entry; issuer OURS.

    Args:
        bench: see above.
        message_id: as in `record_documents`.
        wanted: what is asked for.
        controls: what `Intake.judged` made of it.

    Raises:
        SignerUnavailable, StoreUnavailable: nothing was recorded.
    """
    header = _header(bench, "EndDeviceControls", message_id, "create")
    return _record(bench, CreateEndDeviceControls(header, tuple(wanted)), Rows(controls=tuple(controls)))


def record_events(bench: Bench, message_id: str, events: Sequence[EndDeviceEvent]) -> Receipt:
    """Put events that the bus itself found into the log, in one entry; arguments and errors as `record_documents`."""
    header = _header(bench, "EndDeviceEvents", message_id)
    return _record(bench, CreatedEndDeviceEvents(header, tuple(events)), Rows(events=tuple(events)))


def _header(bench: Bench, noun: str, message_id: str, verb: str = "created") -> Header:
    return Header(verb, noun, bench.clock(), OURS, message_id)


def _record(bench: Bench, message: Message, rows: Rows) -> Receipt:
    header = message.header
    before = known(bench, header.message_id)
    if before is not None:
        return before
    payload = messages.encode(message)
    created_utc_ms = bench.clock()
    raw = seal_answer(bench.signer, payload, created_utc_ms)
    references = wssecurity.verify(shape(raw, DEVICE_LIMITS.raised(len(raw))), bench.signer.certificate).references
    digest = exchange.content_digest(payload)

    def answer(receipt: Receipt) -> bytes:
        body = answers.encode_receipt(receipt, header.noun, bench.bus_id)
        return seal_answer(bench.signer, body, receipt.recorded_at_utc_ms)

    entry = Entry(OURS, header.message_id, header.noun, OWN, digest, created_utc_ms, None, "", raw)
    make_receipt = receipt_maker(Recorded(header.message_id, OURS, digest, references), answer)
    return read_receipt(bench.store.record(entry, rows, make_receipt).result())


def read_receipt(sealed: bytes) -> Receipt:
    """Return what a receipt of our own store says; nothing is verified.

    Raises:
        Internal: the store keeps something else.
    """
    receipt = answers.decode(shape(sealed).payload)
    if not isinstance(receipt, Receipt):
        raise Internal(detail="what the store keeps as a receipt is none")
    return receipt
