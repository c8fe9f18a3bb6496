"""One partition of the log from its first entry to its last: every column, every row, every root, recomputed.

In: the entries as they lie on file. Out: findings (`errors.Item`), each with its place. The tree is grown from the
columns alone. Where a receipt says that it had another root by then, the kept subtrees are asked: if they lead to the
receipt's root, the tree goes on from them, so one damaged entry is one finding and not one for each entry behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gridpost import merkle
from gridpost.errors import Item, StoreUnavailable
from gridpost.evidence import Authority, Examined, Exhibit, examine, name
from gridpost.leaf import BlockRow, ControlRow, DocumentRow, EntryRows, EventRow, HeaderRow, LeafParts, RegisterRow
from gridpost.model import ChannelKey, Position, Receipt
from gridpost.versions import CONFLICT, GAP, STORED

from .store.archive import Archive, EntryOnFile, decompressed, mistyped

_UNKNOWN = bytes(32)
_MOST_UNKNOWN = 1 << 16  # roots kept for entries that are missing in a row
_QUOTE = re.compile(r"([0-9]{1,9}):([0-9]{1,18}):([0-9a-f]{64})")


class Sink(NamedTuple):
    """Where findings go, and what should only be known."""

    find: Callable[[Item], None]
    note: Callable[[Item], None]


class Claim(NamedTuple):
    """Somebody's signed word on the log: its first `size` entries have this root.

    Attributes:
        size: how many entries.
        root: over them.
        said_by: for the finding: ``head 7`` or an anchor's file name.
        receipt: where it is a receipt: what it says of the entry behind them.
    """

    size: int
    root: bytes
    said_by: str
    receipt: Receipt | None = None


class Known(NamedTuple):
    """What entries are held against: who signs, which channels exist, and until when evidence must be kept."""

    authority: Authority
    channels: Mapping[int, ChannelKey]
    kept_from_utc_ms: int


class Walk:
    """A partition while it is walked.

    Attributes:
        gone: how many entries no longer have their evidence, as is right after its time.
        kept: the claims that hold.
        tallies: counts of rows, as the partition's own columns have them.
    """

    def __init__(self, archive: Archive, number: int, claims: Sequence[Claim], known: Known, sink: Sink) -> None:
        self._archive, self._number, self._known, self._report = archive, number, known, sink.find
        self._note, self._roots = sink.note, bytearray()
        self._claims: dict[int, list[Claim]] = {}
        self._receipts: dict[int, list[Claim]] = {}
        for claim in claims:
            self._claims.setdefault(claim.size, []).append(claim)
            if claim.receipt is not None:
                self._receipts.setdefault(claim.receipt.position.seq, []).append(claim)
        self._stored = archive.cached_subtrees(number)
        self._frontier: merkle.Frontier | None = merkle.Frontier()
        self._next = 0
        self._broken = False  # the receipts' roots are not ours, and that was told
        self._bad: list[range] = []  # entries whose leaf is not to be trusted
        self._wrong_nodes: list[tuple[int, int]] = []
        self._expected: dict[int, dict[int, bytes]] = {}
        self.gone, self.kept = 0, set[Claim]()
        self.tallies = dict.fromkeys(("interval_values", "conflicts", "gaps", "register_readings", "events"), 0)

    def run(self, size: int) -> Iterator[int]:
        """Walk the entries with seq < size; yields how many were walked, batch by batch."""
        while self._next < size:
            batch = [one for one in self._archive.entries_on_file(self._number, self._next) if one.seq < size]
            if not batch:
                break
            for one in batch:
                self._take(one)
            self._compare_nodes()
            yield len(batch)
        if self._next < size:
            self._miss(size)
        self._hold_claims(self._next)
        left = {claim for table in (self._claims, self._receipts) for claims in table.values() for claim in claims}
        for claim in sorted(left, key=lambda one: one.size):
            self._cut_off(claim)
        self._tell_nodes()

    @property
    def root(self) -> bytes | None:
        """The root over what was walked; None when an entry is missing and nothing leads on from it."""
        return None if self._frontier is None else merkle.root(self._frontier)

    def _take(self, one: EntryOnFile) -> None:
        if one.seq > self._next:
            self._miss(one.seq)
        kept, items = read_exhibit(one)
        examined = Examined(None, None, None, ())
        if kept is not None:
            examined = examine(kept, self._known.authority, self._known.channels)
            self._note_evidence(one, kept)
            self._tally(kept)
        stored = one.columns["leaf_hash"]
        items += examined.items
        if examined.leaf_hash is not None and examined.leaf_hash != stored:
            items.append(Item("entry-changed", "leaf_hash is not that of its columns", f"{_place(one)} leaf_hash"))
        for item in items:
            self._report(item)
        if items:
            self._bad.append(range(one.seq, one.seq + 1))
        if examined.receipt is not None:
            self._agree(one.seq, examined.receipt)
        if len(self._roots) == 32 * one.seq:
            self._roots += self.root or _UNKNOWN
        if kept is not None:
            self._hear(one, kept.rows.header.last_receipt)
        self._hold_claims(one.seq)
        self._hold_receipts(one.seq, examined.receipt)
        self._append(examined.leaf_hash or (stored if isinstance(stored, bytes) and len(stored) == 32 else None))

    def _hear(self, one: EntryOnFile, quoted: str) -> None:
        """A device quotes the newest receipt it holds: an anchor out of its own signed mouth, true or not."""
        match = _QUOTE.fullmatch(quoted)
        if match is None:
            return
        number, seq, root = int(match[1]), int(match[2]), bytes.fromhex(match[3])
        if self._root_before(Position(number, seq), one.seq) != root:
            reason = f"{one.columns['sender']} holds a receipt of entry {number}:{seq} that this log does not know"
            self._note(Item("receipt-quoted", reason, f"{_place(one)} last_receipt"))

    def _root_before(self, place: Position, quoted_at: int) -> bytes | None:
        """The root a receipt of that entry names; None when there is none, or it lies behind the one that quotes it."""
        number, seq = place
        if number != self._number:
            kept = self._restored(seq, self._archive.cached_subtrees(number))
        elif seq >= quoted_at:
            return None
        elif (root := bytes(self._roots[32 * seq : 32 * seq + 32])) not in (b"", _UNKNOWN):
            return root
        else:
            kept = self._restored(seq)
        return None if kept is None else merkle.root(kept)

    # --- the tree ---

    def _append(self, leaf_hash: bytes | None) -> None:
        self._next += 1
        if self._frontier is None or leaf_hash is None:
            self._frontier = None
            return
        self._frontier, nodes = merkle.append(self._frontier, leaf_hash)
        for node in nodes:
            self._expected.setdefault(node.level, {})[node.number] = node.hash

    def _miss(self, until: int) -> None:
        first, self._frontier = self._next, None
        self._bad.append(range(first, until))
        last = "" if until == first + 1 else f" to {name(Position(self._number, until - 1))}"
        self._report(Item("entry-missing", "there is no such entry", name(Position(self._number, first)) + last))
        if until - first <= _MOST_UNKNOWN and len(self._roots) == 32 * first:
            self._roots += _UNKNOWN * (until - first)
        for size in [size for size in self._claims if first <= size < until]:
            self._next = size
            self._hold_claims(size)
        self._next = until

    def _agree(self, seq: int, receipt: Receipt) -> None:
        """Hold the root so far against the one the receipt was given for."""
        if self._frontier is not None and merkle.root(self._frontier) == receipt.root_before:
            self._broken = False
            return
        kept = self._restored(seq)
        if kept is not None and merkle.root(kept) == receipt.root_before:
            self._frontier, self._broken = kept, False
            return
        if self._frontier is None and kept is None:
            return  # an entry is missing and nothing leads past it yet
        if not self._broken:
            reason = "from here on the receipts were given for another past than the log holds"
            self._report(Item("past-rewritten", reason, name(Position(self._number, seq))))
        self._broken = True

    def _restored(self, size: int, subtrees: merkle.Subtree | None = None) -> merkle.Frontier | None:
        try:
            kept = merkle.restore(size, subtrees or self._stored)
        except StoreUnavailable:
            return None
        return kept if all(isinstance(one, bytes) for one in kept.hashes) else None

    def _hold_claims(self, size: int) -> None:
        for claim in self._claims.pop(size, ()):
            ours = self._frontier if self._frontier is not None and self._next == size else None
            roots = [merkle.root(one) for one in (ours, self._restored(size)) if one is not None]
            if claim.root in roots:
                self.kept.add(claim)
                continue
            reason = f"{claim.said_by} was signed for another log: the first {size} entries have another root now"
            self._report(Item("past-rewritten", reason, f"partition {self._number}"))

    def _hold_receipts(self, seq: int, receipt: Receipt | None) -> None:
        """An anchor that is a receipt also names the entry that follows its root."""
        for claim in self._receipts.pop(seq, ()):
            if receipt != claim.receipt:
                self.kept.discard(claim)
                reason = f"{claim.said_by} is not the receipt of this entry"
                self._report(Item("past-rewritten", reason, name(Position(self._number, seq))))

    def _cut_off(self, claim: Claim) -> None:
        self.kept.discard(claim)
        entries = claim.size if claim.receipt is None else claim.size + 1
        reason = f"{claim.said_by} was signed for a log of {entries} entries or more; {self._next} are left"
        if entries <= self._next:
            return  # its entry is one of those that are missing, and that was told
        self._report(Item("tail-cut", reason, f"partition {self._number}"))

    # --- the kept subtrees ---

    def _compare_nodes(self) -> None:
        for level, expected in self._expected.items():
            stored = self._archive.nodes_on_file(self._number, level, min(expected), max(expected) + 1)
            self._wrong_nodes += [(level, at) for at, digest in expected.items() if stored.get(at) != digest]
        self._expected.clear()

    def _tell_nodes(self) -> None:
        """A subtree above an entry that was named is explained by it."""
        for level, at in self._wrong_nodes:
            if not any(one.start < (at + 1) << level and one.stop > at << level for one in self._bad):
                reason = "the kept hash is not that of the entries below it, or is missing"
                self._report(Item("tree-changed", reason, f"log_node {self._number}:{level}:{at}"))

    # --- what is counted ---

    def _note_evidence(self, one: EntryOnFile, kept: Exhibit) -> None:
        if kept.evidence is not None or one.columns["evidence"] is not None:
            return
        if kept.parts.recorded_at_utc_ms >= self._known.kept_from_utc_ms:
            self._report(Item("evidence-missing", "the message is gone before its time", f"{_place(one)} evidence"))
        self.gone += 1

    def _tally(self, kept: Exhibit) -> None:
        names = {STORED: "interval_values", CONFLICT: "conflicts", GAP: "gaps"}
        for block in kept.rows.blocks:
            self._count(names.get(block.outcome, ""), block.values.count(",") + 1)
        for register in kept.rows.registers:
            self._count("register_readings" if register.outcome == STORED else names.get(register.outcome, ""), 1)
        self._count("events", len(kept.rows.events))

    def _count(self, tally: str, count: int) -> None:
        if tally:
            self.tallies[tally] += count


def read_exhibit(one: EntryOnFile) -> tuple[Exhibit | None, list[Item]]:
    """Return what is kept of an entry as values, or findings where a column is of another kind."""
    items = [
        Item("entry-changed", f"{column} is not of its kind", f"{_place(one)} {column}")
        for column in mistyped("entry", one.columns)
    ]
    by_table = {"interval_block": one.blocks, "register_reading": one.registers, "event": one.events}
    for table, rows in (by_table | {"control": one.controls, "document": one.documents}).items():
        for row in rows:
            wrong = ", ".join(mistyped(table, row))
            if wrong:
                place = f"{table} {one.partition}:{one.seq}:{row['line']}"
                items.append(Item("rows-changed", f"{wrong} is not of its kind", place))
    if items:
        return None, items
    evidence, stored = None, one.columns["evidence"]
    if stored is not None:
        try:
            evidence = decompressed(stored)
        except ValueError as error:
            items.append(Item("evidence-changed", f"the message cannot be read: {error}", f"{_place(one)} evidence"))
    return Exhibit(_parts(one), _rows(one), one.columns["receipt"], evidence), items


def _parts(one: EntryOnFile) -> LeafParts:
    names = ("recorded_at_utc_ms", "sender", "message_id", "content_sha256", "evidence_sha256", "rows_sha256")
    return LeafParts(Position(one.partition, one.seq), *(one.columns[column] for column in names))


def _rows(one: EntryOnFile) -> EntryRows:
    columns = one.columns
    header = HeaderRow(*(columns[column] for column in HeaderRow._fields))
    return EntryRows(
        header,
        [BlockRow(*_behind_key(row)) for row in one.blocks],
        [EventRow(*_behind_key(row)) for row in one.events],
        [RegisterRow(*_behind_key(row)) for row in one.registers],
        [ControlRow(*_behind_key(row)) for row in one.controls],
        [DocumentRow(*_behind_key(row)) for row in one.documents],
    )


def _behind_key(row: Mapping[str, Any]) -> list[Any]:
    """The row values of gridpost/leaf.py are in the order of their tables' columns."""
    return [value for column, value in row.items() if column not in ("partition", "seq")]


def _place(one: EntryOnFile) -> str:
    return name(Position(one.partition, one.seq))
