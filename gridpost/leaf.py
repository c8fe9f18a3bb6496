"""What a leaf of the log is made of: the exact bytes that a receipt, a tree head and a proof stand for.

Floor 2, pure. A foreign verifier needs this page and RFC 9162, nothing else. Changing any byte here breaks every proof
ever given: do not.

**Leaf bytes**, in this order, integers big-endian and unsigned, texts UTF-8 behind their length in bytes::

    partition            4 bytes
    seq                  8 bytes
    recorded_at_utc_ms   8 bytes
    sender               2 bytes length, then the text
    message_id           2 bytes length, then the text
    content_sha256      32 bytes   SHA-256 of exc-c14n of the Body's one child (the receipt's contentDigest)
    evidence_sha256     32 bytes   SHA-256 of the message as received, before compression
    rows_sha256         32 bytes   SHA-256 of the rows below

**Rows** are JSON lines, each ended by LF, in UTF-8: no white space, keys in the order shown, strings escaped as RFC 8785
section 3.2.2.2 has it, `values` and `qualities` exactly the text of their columns. Lines are sorted by kind, channel,
time, line; there is always one of kind entry::

    {"kind":"block","channel":1,"time":1772323200,"line":0,"interval_s":900,"values":[12.500,13],"qualities":null,"outcome":"stored"}
    {"kind":"control","line":0,"issuer":"U1","role":"utility","tracking_id":"s-7","action":"shed","target":"IED1","output":"load1","value":"","unit":"","not_before":0,"expires":1772409600000,"need_by":0,"priority":1,"reason":"","group":"","data":[],"state":"waiting"}
    {"kind":"document","line":0,"type":"tariff","id":"T1","owner":"S1","subject":"","from":1772323200,"to":null,"content":"<Tariff ..."}
    {"kind":"entry","noun":"MeterReadings","transport":"http","created":1772323202250,"sequence":17,"last_receipt":""}
    {"kind":"event","time":1772323200000,"line":0,"mrid":"","event_type":"3.26.0.85","asset":"M1","reason":"","severity":"","details":{}}
    {"kind":"register","channel":1,"time":1772323200,"line":0,"reading_type":"0.0.0.1...","value":1234.5,"qualities":null,"outcome":"stored"}

`time` is the first interval's end or the register's moment in UTC seconds, the event's moment in UTC milliseconds.
`not_before`, `expires`, `need_by` are UTC milliseconds, 0 when not stated; `data` is a list of [name, value], `state` how
the control began. `from` and `to` of a document are UTC seconds, `to` null when it has no end; `content` is its text as
given. `created` is the Created of the message's Timestamp in UTC milliseconds, `sequence` null for a sender without one.
`line` numbers the rows of one kind in an entry from 0, in the order the writer judged them. `qualities` is null when
all are valid, else a list with null or a list of [code, detail] for each value.
"""  # noqa: E501 - the lines are shown as they are hashed

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from .controls import Control, NewControl
from .documents import Document
from .model import EndDeviceEvent, Position, Qualities, Quality

_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


_DATA = Control._fields.index("data")


class HeaderRow(NamedTuple):
    """What an entry keeps of how its message came, beyond what the leaf's own fields say."""

    noun: str
    transport: str
    created_utc_ms: int
    sequence: int | None
    last_receipt: str


class BlockRow(NamedTuple):
    """A row of interval values, `values` and `qualities` as JSON text."""

    line: int
    channel_id: int
    first_interval_end_utc: int
    last_interval_end_utc: int
    interval_s: int
    values: str
    qualities: str | None
    outcome: str


class RegisterRow(NamedTuple):
    """A row of a register reading, `qualities` as JSON text."""

    line: int
    channel_id: int
    reading_type: str
    time_utc: int
    value: str
    qualities: str | None
    outcome: str


class EventRow(NamedTuple):
    """A row of an event, `details` as JSON text."""

    line: int
    mrid: str
    event_type: str
    created_utc_ms: int
    asset: str
    reason: str
    severity: str
    details: str


class ControlRow(NamedTuple):
    """A row of a control, `data` as JSON text."""

    line: int
    issuer: str
    role: str
    tracking_id: str
    action: str
    target: str
    output: str
    value: str
    unit: str
    not_before_utc_ms: int
    expires_utc_ms: int
    need_by_utc_ms: int
    priority: int
    reason: str
    group: str
    data: str
    state: str


class DocumentRow(NamedTuple):
    """A row of a document: its line, and the columns of `documents.Document`."""

    line: int
    kind: str
    id: str
    owner: str
    subject: str
    from_utc: int
    to_utc: int | None
    content: str


class LeafParts(NamedTuple):
    """Everything a leaf commits to."""

    position: Position
    recorded_at_utc_ms: int
    sender: str
    message_id: str
    content_sha256: bytes
    evidence_sha256: bytes
    rows_sha256: bytes


def encode_leaf(parts: LeafParts) -> bytes:
    """Return the leaf's bytes (layout above).

    Raises:
        ValueError: a text longer than 65,535 bytes or not encodable, or a digest that is not 32 bytes.
    """
    digests = (parts.content_sha256, parts.evidence_sha256, parts.rows_sha256)
    if any(len(digest) != 32 for digest in digests):
        raise ValueError("a digest in a leaf is 32 bytes")
    head = struct.pack(">IQQ", *parts.position, parts.recorded_at_utc_ms)
    return b"".join((head, _text(parts.sender), _text(parts.message_id), *digests))


# Key in a control's line, column; in the line's order.
CONTROL_KEYS = tuple(
    (name.removesuffix("_utc_ms"), name) for name in ControlRow._fields[: ControlRow._fields.index("data")]
)


# Key in a document's line, in the order of its columns; ``kind`` is the row's own.
DOCUMENT_KEYS = ("line", "type", "id", "owner", "subject", "from", "to", "content")


class EntryRows(NamedTuple):
    """Everything a leaf's rows_sha256 covers, in any order."""

    header: HeaderRow
    blocks: Sequence[BlockRow] = ()
    events: Sequence[EventRow] = ()
    registers: Sequence[RegisterRow] = ()
    controls: Sequence[ControlRow] = ()
    documents: Sequence[DocumentRow] = ()


def rows_lines(rows: EntryRows) -> list[str]:
    """Return the rows as sorted JSON lines, each with its LF."""
    lines = [_block_line(row) for row in sorted(rows.blocks, key=_block_place)]
    lines += [_control_line(row) for row in sorted(rows.controls, key=lambda r: r.line)]
    lines += [_document_line(row) for row in sorted(rows.documents, key=lambda r: r.line)]
    lines.append(_header_line(rows.header))
    lines += [_event_line(row) for row in sorted(rows.events, key=lambda r: (r.created_utc_ms, r.line))]
    lines += [_register_line(row) for row in sorted(rows.registers, key=lambda r: (r.channel_id, r.time_utc, r.line))]
    return lines


def rows_digest(rows: EntryRows) -> bytes:
    """Return SHA-256 of the rows' JSON lines."""
    return sha256("".join(rows_lines(rows)).encode()).digest()


def values_text(values: Sequence[str | None]) -> str:
    """Return decimal literals as a JSON array, digits untouched; None is null."""
    if None in values:
        values = ["null" if value is None else value for value in values]
    return f"[{','.join(values)}]"  # type: ignore[arg-type]  # None was replaced just above


def parse_values(text: str) -> tuple[str | None, ...]:
    """Return the literals of a JSON array made by `values_text`, digits untouched (json.loads would make floats)."""
    parts = text[1:-1].split(",")
    return tuple(None if part == "null" else part for part in parts) if "null" in text else tuple(parts)


def qualities_text(qualities: Sequence[Qualities]) -> str | None:
    """Return qualities as JSON text; None when none is given."""
    return _ENCODE.encode([item or None for item in qualities]) if any(qualities) else None


def parse_qualities(text: str | None, count: int) -> tuple[Qualities, ...]:
    """Return what `qualities_text` was given for `count` values."""
    if text is None:
        return ((),) * count
    return tuple(tuple(Quality(*pair) for pair in item or ()) for item in json.loads(text))


def event_row(line: int, event: EndDeviceEvent) -> EventRow:
    """Return an event as its row; details sorted by name."""
    details = _ENCODE.encode(dict(sorted(event.details.items())))
    return EventRow(
        line, event.mrid, event.event_type, event.created_utc_ms, event.asset, event.reason, event.severity, details
    )


def control_row(line: int, new: NewControl) -> ControlRow:
    """Return a control as its row; what it needs besides stays in the order given."""
    data = _ENCODE.encode([list(pair) for pair in new.control.data])
    # From the issuer to the reason, a row's columns are a control's.
    return ControlRow._make((line, *new.control[1:_DATA], new.group, data, new.state.value))


def document_row(line: int, document: Document) -> DocumentRow:
    """Return a document as its row."""
    return DocumentRow(line, *document)


def parse_control(row: ControlRow, mrid: str, counter: int = 0) -> Control:
    """Return the control that a row is, under the bus's mRID of it.

    Raises:
        ValueError, TypeError: `data` is not as `control_row` writes it.
    """
    data = tuple((str(name), str(value)) for name, value in json.loads(row.data))
    return Control._make((mrid, *row[1:_DATA], data, counter))


def _text(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > 0xFFFF:
        raise ValueError("a text in a leaf is at most 65,535 bytes")
    return len(encoded).to_bytes(2, "big") + encoded


def _block_place(row: BlockRow) -> tuple[int, int, int]:
    return row.channel_id, row.first_interval_end_utc, row.line


def _header_line(row: HeaderRow) -> str:
    texts = _ENCODE.encode({"noun": row.noun, "transport": row.transport})
    sequence = "null" if row.sequence is None else row.sequence
    return (
        f'{{"kind":"entry",{texts[1:-1]},"created":{row.created_utc_ms},"sequence":{sequence},'
        f'"last_receipt":{_ENCODE.encode(row.last_receipt)}}}\n'
    )


def _block_line(row: BlockRow) -> str:
    return (
        f'{{"kind":"block","channel":{row.channel_id},"time":{row.first_interval_end_utc},"line":{row.line},'
        f'"interval_s":{row.interval_s},"values":{row.values},"qualities":{row.qualities or "null"},'
        f'"outcome":"{row.outcome}"}}\n'
    )


def _control_line(row: ControlRow) -> str:
    before = {name: getattr(row, column) for name, column in CONTROL_KEYS}
    return (
        f'{{"kind":"control",{_ENCODE.encode(before)[1:-1]},"data":{row.data},"state":{_ENCODE.encode(row.state)}}}\n'
    )


def _document_line(row: DocumentRow) -> str:
    columns = dict(zip(DOCUMENT_KEYS, row, strict=True))
    return f'{{"kind":"document",{_ENCODE.encode(columns)[1:-1]}}}\n'


def _event_line(row: EventRow) -> str:
    texts = {"mrid": row.mrid, "event_type": row.event_type, "asset": row.asset}
    texts |= {"reason": row.reason, "severity": row.severity}
    return (
        f'{{"kind":"event","time":{row.created_utc_ms},"line":{row.line},'
        f'{_ENCODE.encode(texts)[1:-1]},"details":{row.details}}}\n'
    )


def _register_line(row: RegisterRow) -> str:
    return (
        f'{{"kind":"register","channel":{row.channel_id},"time":{row.time_utc},"line":{row.line},'
        f'"reading_type":{_ENCODE.encode(row.reading_type)},"value":{row.value},'
        f'"qualities":{row.qualities or "null"},"outcome":"{row.outcome}"}}\n'
    )
