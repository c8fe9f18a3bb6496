"""Does everything that is kept of an entry agree: its columns, its rows, the receipt given, the message that came?

Floor 5, pure. `log check` asks this of every entry of a store, `verify` of every entry of a proof file; who signed is
answered by the `Authority` given, so the two use different libraries for it. Out: findings (`errors.Item`), each with
the column or row that is not what its witnesses say. What the log as a whole holds (tree, anchors) is not asked here.

Witnesses of an entry's columns: the receipt (the bus's signature), the message (the device's), the leaf (the tree).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple, Protocol

from . import answers, exchange, leaf, merkle, messages, schemas
from .controls import Control, Wanted
from .document_messages import CreatedDocuments
from .documents import OURS, OWN
from .envelope import Element, canonical
from .errors import AnswerUntrusted, Item, PeerFault
from .leaf import BlockRow, ControlRow, DocumentRow, EntryRows, EventRow, HeaderRow, LeafParts, RegisterRow
from .model import (
    ChannelKey,
    CreatedEndDeviceEvents,
    CreatedMeterReadings,
    EndDeviceEvent,
    Message,
    Position,
    Qualities,
    Receipt,
    RegisterReading,
)
from .requests import ChangeEndDeviceControls, CreateEndDeviceControls, CreateMeterReadings
from .supply_messages import documents_of
from .units import format_utc, format_utc_ms

OFFICE = "office"  # transports of partners' messages begin so
# What a control and the wish for it have in common.
_SAID = frozenset(Control._fields) & frozenset(Wanted._fields) - {"mrid", "expires_utc_ms"}
# What stored text that was damaged raises when it is read.
_UNREADABLE = (ValueError, TypeError, KeyError, IndexError, struct.error)


class Signed(NamedTuple):
    """A document whose signature holds.

    Attributes:
        payload: the Body's one child.
        signer: whom the certificate names: a device's serial, a partner's id; empty for a bus, and for a partner of
            whom only the certificate is known.
        created_utc_ms: the Timestamp's Created.
    """

    payload: Element
    signer: str
    created_utc_ms: int


class Authority(Protocol):
    """Who decides whether a signature holds and whose it is."""

    def bus(self, raw: bytes) -> Signed:
        """Open what a bus sealed, unchanged in every byte.

        Raises:
            PeerFault: it is not.
        """

    def device(self, raw: bytes) -> Signed:
        """Open what a device or a bus sealed.

        Raises:
            PeerFault: it is not.
        """

    def partner(self, raw: bytes) -> Signed:
        """Open what a partner sealed, or a bus of what a partner sent it without a signature.

        Raises:
            PeerFault: it is not.
        """


class Exhibit(NamedTuple):
    """What is kept of one entry; `evidence` is None once it is no longer kept."""

    parts: LeafParts
    rows: EntryRows
    receipt: bytes
    evidence: bytes | None


class Examined(NamedTuple):
    """What became of an examination.

    Attributes:
        leaf_hash: of the columns as they are; None when they cannot be a leaf.
        receipt: as signed; None when its signature does not hold.
        message: as signed; None when its signature does not hold or it is no longer kept.
        items: findings.
    """

    leaf_hash: bytes | None
    receipt: Receipt | None
    message: Message | None
    items: tuple[Item, ...]


def name(position: Position) -> str:
    """Return how findings name an entry: ``entry 0:5``."""
    return f"entry {position.partition}:{position.seq}"


def open_receipt(raw: bytes, authority: Authority) -> tuple[Receipt, str]:
    """Return a receipt and the noun it answers.

    Raises:
        PeerFault: the signature does not hold, or it is no receipt.
    """
    payload = authority.bus(raw).payload
    content = answers.decode(payload)
    if not isinstance(content, Receipt):
        raise AnswerUntrusted(detail="it is a refusal, no receipt")
    return content, str(payload.tag).rpartition("}")[2].removesuffix("ResponseMessage")


def examine(exhibit: Exhibit, authority: Authority, channels: Mapping[int, ChannelKey] | None = None) -> Examined:
    """Hold what is kept of an entry against its witnesses.

    Args:
        exhibit: as kept.
        authority: whose word on signatures counts.
        channels: the channels its rows name by number; None: whatever channel of the message fits.
    """
    examination = _Examination(exhibit)
    receipt = examination.receipt(authority)
    message = examination.message(authority)
    if message is not None:
        examination.rows(message, channels)
    if receipt is not None:
        examination.counts(receipt)
    return Examined(examination.leaf_hash(), receipt, message, tuple(examination.items))


def wrong_blocks(message: Message, rows: Sequence[BlockRow], channels: Mapping[int, ChannelKey]) -> list[str]:
    """Return why rows of interval values cannot come from a message: digits, qualities, or the channel they name."""
    said = _Said(message, channels)
    return [reason for reason in map(said.wrong_in_block, rows) if reason]


class _Examination:
    """One entry under examination; collects findings."""

    def __init__(self, exhibit: Exhibit) -> None:
        self._kept = exhibit
        self.items: list[Item] = []

    def receipt(self, authority: Authority) -> Receipt | None:
        """The bus's own signed words on the entry."""
        parts = self._kept.parts
        try:
            receipt, noun = open_receipt(self._kept.receipt, authority)
        except PeerFault as error:
            self._add("receipt-changed", f"the receipt is not what the bus signed ({_why(error)})", "receipt")
            return None
        self._compare(
            "its receipt",
            ("partition", parts.position.partition, receipt.position.partition),
            ("seq", parts.position.seq, receipt.position.seq),
            ("sender", parts.sender, receipt.sender),
            ("message_id", parts.message_id, receipt.message_id),
            ("content_sha256", parts.content_sha256, receipt.content_digest),
            ("recorded_at_utc_ms", parts.recorded_at_utc_ms, receipt.recorded_at_utc_ms),
            ("noun", self._kept.rows.header.noun, noun),
        )
        return receipt

    def message(self, authority: Authority) -> Message | None:
        """The device's signed words: they bind content, sender and header, whatever the bus says."""
        raw, parts, header = self._kept.evidence, self._kept.parts, self._kept.rows.header
        if raw is None:
            return None
        try:
            signed = (authority.partner if header.transport.startswith(OFFICE) else authority.device)(raw)
            schemas.validate(signed.payload)
            message = messages.decode(signed.payload)
        except PeerFault as error:
            self._add("evidence-changed", f"the message is not what its sender signed ({_why(error)})", "evidence")
            return None
        if sha256(raw).digest() != parts.evidence_sha256:
            self._add("evidence-changed", "the message's bytes are not those of evidence_sha256", "evidence_sha256")
        self._compare(
            "its message",
            ("content_sha256", parts.content_sha256, exchange.content_digest(canonical(signed.payload))),
            ("sender", parts.sender, signed.signer or self._vouched()),
            ("sender", parts.sender, message.header.source),
            ("message_id", parts.message_id, message.header.message_id),
            ("noun", header.noun, message.header.noun),
            ("created_utc_ms", header.created_utc_ms, signed.created_utc_ms),
            ("sequence", header.sequence, message.header.sequence),
            ("last_receipt", header.last_receipt, message.header.last_receipt),
        )
        return message

    def _vouched(self) -> str:
        """Who sent what no certificate names a sender of.

        At the office's door the bus itself says so, in the leaf; and what is its own it has sealed itself.
        """
        transport = self._kept.rows.header.transport
        if transport == OWN:
            return OURS
        return self._kept.parts.sender if transport.startswith(OFFICE) else ""

    def rows(self, message: Message, channels: Mapping[int, ChannelKey] | None) -> None:
        """Each row must stand in the message, with its digits, qualities and channel."""
        said = _Said(message, channels)
        rows = self._kept.rows
        judged = [("interval_block", block.line, said.wrong_in_block(block)) for block in rows.blocks]
        judged += [("register_reading", one.line, said.wrong_in_register(one)) for one in rows.registers]
        judged += [("event", event.line, said.wrong_in_event(event)) for event in rows.events]
        judged += [("control", one.line, said.wrong_in_control(one)) for one in rows.controls]
        judged += [("document", one.line, said.wrong_in_document(one)) for one in rows.documents]
        for table, line, reason in judged:
            if reason:
                self._add_row(table, line, reason)

    def counts(self, receipt: Receipt) -> None:
        """A row too few or too many, even where nothing else is left to tell."""
        rows = self._kept.rows
        held = sum(row.values.count(",") + 1 for row in rows.blocks)
        held += len(rows.registers) + len(rows.events) + len(rows.controls) + len(rows.documents)
        counted = receipt.counts.stored + receipt.counts.conflicting
        if held != counted:
            self._add(
                "rows-changed",
                f"{held} values, events, controls and documents are on file, its receipt counts {counted}",
                "rows",
            )

    def leaf_hash(self) -> bytes | None:
        """The leaf, and the rows it covers."""
        parts = self._kept.parts
        try:
            if leaf.rows_digest(self._kept.rows) != parts.rows_sha256 and not self._told_of_rows():
                # No witness named the place: the evidence is gone, or it is what no message says (transport, outcome).
                reason = "its rows, transport or the other columns of its header are not those of rows_sha256"
                self._add("rows-changed", reason, "rows_sha256")
            return merkle.leaf_hash(leaf.encode_leaf(parts))
        except _UNREADABLE as error:
            self._add("entry-changed", f"its columns cannot be a leaf: {error}", "")
            return None

    def _told_of_rows(self) -> bool:
        return any(item.code == "rows-changed" or item.path.split()[-1] in HeaderRow._fields for item in self.items)

    def _compare(self, witness: str, *pairs: tuple[str, object, object]) -> None:
        for column, kept, said in pairs:
            if kept != said:
                self._add("entry-changed", f"{column} is {_shown(kept)}; {witness} says {_shown(said)}", column)

    def _add(self, code: str, reason: str, column: str) -> None:
        self.items.append(Item(code, reason, f"{name(self._kept.parts.position)} {column}".strip()))

    def _add_row(self, table: str, line: int, reason: str) -> None:
        partition, seq = self._kept.parts.position
        self.items.append(Item("rows-changed", reason, f"{table} {partition}:{seq}:{line}"))


class _Said:
    """What a message says, for comparison with rows."""

    def __init__(self, message: Message, channels: Mapping[int, ChannelKey] | None) -> None:
        self._channels, self._message = channels, message
        self._events: Sequence[EndDeviceEvent] = ()
        self._intervals: dict[int, list[tuple[ChannelKey, str | None, Qualities]]] = {}
        self._registers: dict[int, list[RegisterReading]] = {}
        if isinstance(message, CreatedEndDeviceEvents):
            self._events = message.events
        if not isinstance(message, CreatedMeterReadings):
            return
        for block in message.readings.blocks:
            for end, value, qualities in zip(block.ends_utc, block.values, block.qualities, strict=True):
                self._intervals.setdefault(end, []).append((block.channel, value, qualities))
        for register in message.readings.registers:
            self._registers.setdefault(register.time_utc, []).append(register)

    def wrong_in_block(self, row: BlockRow) -> str:
        """Return why a row of interval values cannot come from the message; empty when it can."""
        try:
            values = leaf.parse_values(row.values)
            qualities = leaf.parse_qualities(row.qualities, len(values))
        except _UNREADABLE as error:
            return f"its values or qualities cannot be read: {error}"
        end = row.first_interval_end_utc
        if row.last_interval_end_utc != end + (len(values) - 1) * row.interval_s:
            return f"last_interval_end_utc is not that of {len(values)} intervals"
        if len(qualities) != len(values):
            return f"{len(qualities)} qualities of {len(values)} values"
        for value, given in zip(values, qualities, strict=True):
            said = [one[0] for one in self._intervals.get(end, ()) if one[1:] == (value, given)]
            if not any(self._is(row.channel_id, key) for key in said):
                return f"{value} at {format_utc(end)} for channel {row.channel_id} is not what the message says"
            end += row.interval_s
        return ""

    def wrong_in_register(self, row: RegisterRow) -> str:
        """Return why a register reading cannot come from the message; empty when it can."""
        try:
            (given,) = leaf.parse_qualities(row.qualities, 1)
        except _UNREADABLE as error:
            return f"its qualities cannot be read: {error}"
        for one in self._registers.get(row.time_utc, ()):
            said = (one.channel.reading_type, one.value, one.qualities)
            # A register has a reading type of its own, not its channel's.
            if said == (row.reading_type, row.value, given) and self._is(
                row.channel_id, one.channel._replace(reading_type="")
            ):
                return ""
        return f"{row.value} of channel {row.channel_id} at {format_utc(row.time_utc)} is not what the message says"

    def wrong_in_event(self, row: EventRow) -> str:
        """Return why an event cannot come from the message; empty when it can."""
        if any(leaf.event_row(row.line, event) == row for event in self._events):
            return ""
        return f"event {row.event_type} at {format_utc_ms(row.created_utc_ms)} is not what the message says"

    def wrong_in_control(self, row: ControlRow) -> str:
        """Return why a control cannot come from the message; empty when it can."""
        try:
            one = leaf.parse_control(row, "")
        except _UNREADABLE as error:
            return f"its data cannot be read: {error}"
        message = self._message
        if isinstance(message, CreateMeterReadings):
            wanted = one.action == "request-data"  # made of a question: the rest of it is the bus's own
        elif isinstance(message, CreateEndDeviceControls | ChangeEndDeviceControls):
            wanted = any(_is_wanted(one, row.group, said) for said in message.wanted)
        else:
            wanted = False
        if wanted and one.issuer == message.header.source:
            return ""
        return f"control {one.tracking_id} ({one.action}) for {one.target} is not what the message says"

    def wrong_in_document(self, row: DocumentRow) -> str:
        """Return why a document cannot come from the message; empty when it can."""
        message = self._message
        said = message.documents if isinstance(message, CreatedDocuments) else documents_of(message)
        if any(document == row[1:] for document in said):
            return ""
        return f"{row.kind} {row.id} of {row.owner} is not what the message says"

    def _is(self, channel_id: int, said: ChannelKey) -> bool:
        """A message may leave out a stream name that the channel has."""
        if self._channels is None:
            return True
        key = self._channels.get(channel_id)
        if key is None or key[:2] != said[:2] or said.stream not in ("", key.stream):
            return False
        return said.reading_type in ("", key.reading_type)


def _is_wanted(one: Control, group: str, said: Wanted) -> bool:
    """A group's IEDs, and the end of what states none, are the bus's to say."""
    same = all(getattr(one, name) == getattr(said, name) for name in _SAID)
    aimed = group == said.group and (bool(group) or one.target in said.targets)
    ends = said.expires_utc_ms in (0, one.expires_utc_ms)
    return same and aimed and ends and one.tracking_id == said.mrid


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)


def _why(error: PeerFault) -> str:
    return f"{error.code}{': ' + error.detail if error.detail else ''}"
