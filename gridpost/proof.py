"""The proof file: entries of a log that anybody can check without the store, the bus or a network. Written and checked.

Floor 5, pure. A proof file is text: JSON lines, each exactly as this page writes it, so that no byte of it is without
meaning (docs/protocol.md has an example)::

    gridpost-proof  version, spans: which entries it holds, as [partition, first seq, last seq]
    authority       pem: the CA that issued the bus's and the devices' certificates
    head            signed: the tree head of a partition
    anchor          signed: an older head, or a receipt; path: RFC 9162 consistency proof from it to the head
    entry           what its leaf covers, rows as hashed, receipt and message as sent; path: RFC 9162 inclusion proof

A `Verifier` is fed the lines. Who signed is answered by an `Authority`, so this page needs no opinion of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from . import heads, leaf, merkle
from .applications import completeness
from .applications.completeness import Completeness
from .documents import CERTIFICATE
from .errors import AnswerUntrusted, FileInvalid, Item, PeerFault
from .evidence import Authority, Examined, Exhibit, examine, name, open_receipt
from .heads import TreeHead
from .leaf import BlockRow, ControlRow, DocumentRow, EntryRows, EventRow, HeaderRow, LeafParts, RegisterRow
from .model import Position, Receipt

VERSION = 1
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_ORDER = ("gridpost-proof", "authority", "head", "anchor", "entry")
# What may follow a line of each kind; -1 is the beginning.
_NEXT: Mapping[int, tuple[int, ...]] = {-1: (0,), 0: (1,), 1: (1, 2), 2: (2, 3, 4), 3: (3, 4), 4: (4,)}
_HASHES = ("content_sha256", "evidence_sha256", "rows_sha256")
_NUMBERS = ("line", "not_before_utc_ms", "expires_utc_ms", "need_by_utc_ms", "priority")  # of a control
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
Path = Sequence[bytes]


class Span(NamedTuple):
    """Entries in a row, both ends included."""

    partition: int
    first: int
    last: int


# --- writing ---------------------------------------------------------------------------------------------------------


def render_start(spans: Sequence[Span]) -> bytes:
    """Return the first line: which entries follow."""
    return _line({"kind": "gridpost-proof", "version": VERSION, "spans": [list(span) for span in spans]})


def render_authority(pem: str) -> bytes:
    """Return the line of a CA certificate."""
    return _line({"kind": "authority", "pem": pem})


def render_head(signed: bytes) -> bytes:
    """Return the line of a partition's signed tree head."""
    return _line({"kind": "head", "signed": signed.decode()})


def render_anchor(signed: bytes, path: Path) -> bytes:
    """Return the line of an older head or a receipt, with its consistency proof to the partition's head."""
    return _line({"kind": "anchor", "signed": signed.decode(), "path": _hex(path)})


def render_entry(kept: Exhibit, path: Path) -> bytes:
    """Return the line of an entry, with its inclusion proof in the partition's head.

    Raises:
        ValueError: receipt or message are not UTF-8: damaged, for no such message was ever taken.
    """
    parts = kept.parts
    fields: dict[str, Any] = {"kind": "entry", "partition": parts.position.partition, "seq": parts.position.seq}
    fields |= {"recorded_at_utc_ms": parts.recorded_at_utc_ms, "sender": parts.sender, "message_id": parts.message_id}
    fields |= {column: getattr(parts, column).hex() for column in _HASHES}
    fields["rows"] = [line.removesuffix("\n") for line in leaf.rows_lines(kept.rows)]
    fields["receipt"] = kept.receipt.decode()
    fields["evidence"] = None if kept.evidence is None else kept.evidence.decode()
    return _line(fields | {"path": _hex(path)})


def _line(fields: Mapping[str, Any]) -> bytes:
    return _ENCODE.encode(fields).encode() + b"\n"


def _hex(path: Path) -> list[str]:
    return [one.hex() for one in path]


# --- reading ---------------------------------------------------------------------------------------------------------


def is_proof(raw: bytes) -> bool:
    """Tell whether bytes begin like a proof file."""
    return raw.startswith(b'{"kind":"gridpost-proof"')


def _read(line: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(line.decode())
    if fields["kind"] not in _ORDER or _line(fields) != line:
        raise ValueError("it is not as a proof file is written")
    return fields


def _exhibit(fields: Mapping[str, Any]) -> Exhibit:
    parts = LeafParts(
        Position(fields["partition"], fields["seq"]),
        *(fields[column] for column in ("recorded_at_utc_ms", "sender", "message_id")),
        *(bytes.fromhex(fields[column]) for column in _HASHES),
    )
    evidence: str | None = fields["evidence"]
    rows = _rows(fields["rows"])
    kept = Exhibit(parts, rows, fields["receipt"].encode(), None if evidence is None else evidence.encode())
    if render_entry(kept, _path(fields)) != _line(fields):
        raise ValueError("its rows or hashes are not as a proof file has them")
    return kept


def _path(fields: Mapping[str, Any]) -> list[bytes]:
    return [bytes.fromhex(one) for one in fields["path"]]


def _rows(lines: Sequence[str]) -> EntryRows:
    # Numbers stay the digits they are.
    parsed = [json.loads(line, parse_float=str, parse_int=str) for line in lines]
    (header,) = (_header(one) for one in parsed if one["kind"] == "entry")
    return EntryRows(
        header,
        [_block(one) for one in parsed if one["kind"] == "block"],
        [_event(one) for one in parsed if one["kind"] == "event"],
        [_register(one) for one in parsed if one["kind"] == "register"],
        [_control(one) for one in parsed if one["kind"] == "control"],
        [_document(one) for one in parsed if one["kind"] == "document"],
    )


def _header(row: Mapping[str, Any]) -> HeaderRow:
    sequence = None if row["sequence"] is None else int(row["sequence"])
    return HeaderRow(row["noun"], row["transport"], int(row["created"]), sequence, row["last_receipt"])


def _block(row: Mapping[str, Any]) -> BlockRow:
    first, interval_s, values = int(row["time"]), int(row["interval_s"]), row["values"]
    last = first + (len(values) - 1) * interval_s
    qualities, text = _text(row["qualities"]), leaf.values_text(values)
    return BlockRow(int(row["line"]), int(row["channel"]), first, last, interval_s, text, qualities, row["outcome"])


def _event(row: Mapping[str, Any]) -> EventRow:
    return EventRow(
        line=int(row["line"]),
        mrid=row["mrid"],
        event_type=row["event_type"],
        created_utc_ms=int(row["time"]),
        asset=row["asset"],
        reason=row["reason"],
        severity=row["severity"],
        details=_ENCODE.encode(row["details"]),
    )


def _register(row: Mapping[str, Any]) -> RegisterRow:
    numbers = (int(row["line"]), int(row["channel"]), row["reading_type"], int(row["time"]))
    return RegisterRow(*numbers, row["value"], _text(row["qualities"]), row["outcome"])


def _document(row: Mapping[str, Any]) -> DocumentRow:
    columns = dict(zip(DocumentRow._fields, (row[key] for key in leaf.DOCUMENT_KEYS), strict=True))
    ends = columns["to_utc"]
    whole = {"line": int(columns["line"]), "from_utc": int(columns["from_utc"])}
    return DocumentRow(**columns | whole | {"to_utc": None if ends is None else int(ends)})


def _control(row: Mapping[str, Any]) -> ControlRow:
    columns = {column: row[key] for key, column in leaf.CONTROL_KEYS}
    columns |= {column: int(columns[column]) for column in _NUMBERS}
    return ControlRow(**columns, data=_ENCODE.encode(row["data"]), state=row["state"])


def _text(qualities: object) -> str | None:
    return None if qualities is None else _ENCODE.encode(qualities)


# --- checking --------------------------------------------------------------------------------------------------------


class Root(NamedTuple):
    """What a head or a receipt says of a log: its first `size` entries have this root."""

    partition: int
    size: int
    root: bytes


def read_root(raw: bytes, authority: Authority) -> tuple[Root, TreeHead | Receipt]:
    """Open a signed tree head or a receipt.

    Raises:
        PeerFault: it is neither, or not as the bus signed it.
    """
    signed = authority.bus(raw)
    try:
        head = heads.decode(signed.payload)
    except AnswerUntrusted:
        receipt, _ = open_receipt(raw, authority)
        return Root(receipt.position.partition, receipt.position.seq, receipt.root_before), receipt
    if head.made_at_utc_ms != signed.created_utc_ms:
        raise AnswerUntrusted(detail="the head was sealed at another time than it says")
    return Root(head.partition, head.size, head.root), head


class Verifier:
    """Checks a proof file line by line; holds one line at a time, so a file may be of any length.

    Attributes:
        spans: the entries its first line names.
        authority: who judged its signatures; None before there was one.
        states: what else there is to tell of it.
        heads: the tree heads found, by partition.
        roots: what every head, anchor and receipt in it says of the log, for comparison across files.
        entries, values, without_evidence: counts.
        certificates: of completeness, among the entries.
        items: findings.
    """

    def __init__(self, trusted: Sequence[str], authority_of: Callable[[str], Authority], lines_before: int = 0) -> None:
        """Begin.

        Args:
            trusted: CA certificates, PEM as OpenSSL writes it; empty: none is known, which is a finding.
            authority_of: makes a judge of signatures from one or more of them.
            lines_before: how many lines stand in the file before the first one given here; findings count them.
        """
        self._trusted, self._authority_of = trusted, authority_of
        self._offered: list[str] = []
        self.authority: Authority | None = None
        self._number, self._stage = lines_before, -1
        self._due: Iterator[Position] = iter(())
        self._missing = 0
        self.spans: list[Span] = []
        self.states: dict[str, Any] = {}
        self.heads: dict[int, TreeHead] = {}
        self.roots: list[Root] = []
        self.entries = self.values = self.without_evidence = 0
        self.items: list[Item] = []
        self.certificates: list[Completeness] = []

    def taken(self, kept: Exhibit, examined: Examined) -> None:
        """Take note of an entry that was looked at, whatever was found: nothing here, so that a file may be long."""

    def run(self, lines: Iterable[bytes]) -> None:
        """Check every line, then whether the file is whole."""
        for line in lines:
            self._number += 1
            try:
                self._take(line)
            except (PeerFault, *_MALFORMED) as error:
                why = error.detail or error.reason if isinstance(error, PeerFault) else str(error)
                self._add(error.code if isinstance(error, PeerFault) else FileInvalid.code, why)
        if self._stage < 0:
            self._add(FileInvalid.code, "it is no proof file")
        elif self._missing:
            self._add("proof-incomplete", f"{self._missing} entries that its first line names are missing")

    def _take(self, line: bytes) -> None:
        fields = _read(line)
        stage = _ORDER.index(fields["kind"])
        if stage not in _NEXT[self._stage]:
            raise ValueError(f"a line of kind {fields['kind']} does not stand here")
        self._stage = stage
        (self._start, self._offer, self._head, self._anchor, self._entry)[stage](fields)

    def _start(self, fields: Mapping[str, Any]) -> None:
        if fields["version"] != VERSION:
            raise ValueError(f"version {fields['version']} is not known here")
        self.spans = [Span(*span) for span in fields["spans"]]
        self._due = (Position(one.partition, seq) for one in self.spans for seq in range(one.first, one.last + 1))
        self._missing = sum(one.last + 1 - one.first for one in self.spans)

    def _offer(self, fields: Mapping[str, Any]) -> None:
        pem: str = fields["pem"]
        if pem not in self._trusted:
            self._add("authority-unknown", "this CA is not one that you trust")
        self._offered.append(pem)

    def _judge(self) -> Authority:
        """Who judges signatures: by what is trusted, or where nothing is, by what the file itself offers."""
        if self.authority is None:
            self.authority = self._authority_of("".join(self._trusted or self._offered))
        return self.authority

    def _head(self, fields: Mapping[str, Any]) -> None:
        root, head = read_root(fields["signed"].encode(), self._judge())
        if not isinstance(head, TreeHead) or head.partition in self.heads:
            raise ValueError("it is no tree head, or a second one of its partition")
        self.heads[head.partition] = head
        self.roots.append(root)

    def _anchor(self, fields: Mapping[str, Any]) -> None:
        root, _ = read_root(fields["signed"].encode(), self._judge())
        head, path = self._head_of(root.partition), _path(fields)
        if root.size == 0:
            holds = not path and root.root == merkle.EMPTY_ROOT
        else:
            holds = merkle.verify_consistency(root.size, head.size, path, root.root, head.root)
        if not holds:
            self._add("proof-broken", f"the log of the head does not begin with the {root.size} entries of this anchor")
        self.roots.append(root)

    def _entry(self, fields: Mapping[str, Any]) -> None:
        kept = _exhibit(fields)
        position = kept.parts.position
        self._missing -= 1
        due = next(self._due, None)
        if due != position:
            self._add("proof-incomplete", f"{name(position)} stands where {name(due) if due else 'no entry'} is due")
        examined = examine(kept, self._judge())
        self.taken(kept, examined)
        for item in examined.items:
            self._add(item.code, item.reason, item.path)
        head = self._head_of(position.partition)
        leaf_hash = examined.leaf_hash or b""
        if not merkle.verify_inclusion(leaf_hash, position.seq, head.size, _path(fields), head.root):
            self._add("proof-broken", "no such entry is in the tree of the head", name(position))
        if examined.receipt is not None:
            self.roots.append(Root(position.partition, position.seq, examined.receipt.root_before))
        self.entries += 1
        self.values += sum(row.values.count(",") + 1 for row in kept.rows.blocks) + len(kept.rows.registers)
        self.without_evidence += kept.evidence is None
        for line in kept.rows.documents:
            if line.kind == CERTIFICATE:
                self.certificates.append(completeness.decode(line.content))

    def _head_of(self, partition: int) -> TreeHead:
        head = self.heads.get(partition)
        if head is None:
            raise ValueError(f"there is no head of partition {partition} that holds")
        return head

    def _add(self, code: str, reason: str, path: str = "") -> None:
        self.items.append(Item(code, reason, f"line {self._number}{' ' + path if path else ''}"))
