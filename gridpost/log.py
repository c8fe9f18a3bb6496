"""The log: how an entry is judged, numbered and made a leaf.

Floor 4, pure. Every store does the same two things between its transactions: `plan` before it writes, and
`current.current_readings` after it fetched. What is on file is given; nothing here is kept, and a plan that is thrown
away leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from . import leaf, merkle, units, versions
from .controls import NewControl
from .leaf import BlockRow, ControlRow, DocumentRow, EntryRows, EventRow, HeaderRow, LeafParts, RegisterRow
from .model import (
    Block,
    Counts,
    Entry,
    Position,
    Rows,
)
from .ports import MakeReceipt
from .versions import CONFLICT, DAY_S, KNOWN, STORED, JudgedRegister, Run


class Head(NamedTuple):
    """Where a partition's log ends: the next seq is the frontier's size."""

    partition: int
    frontier: merkle.Frontier
    recorded_at_utc_ms: int

    @property
    def position(self) -> Position:
        """The place the next entry takes."""
        return Position(self.partition, self.frontier.size)


class OnFile(NamedTuple):
    """The versions a plan compares with, in order; by channel."""

    runs: dict[int, list[Run]]
    registers: dict[int, list[JudgedRegister]]

    def add(self, planned: Planned) -> None:
        """Count what was planned as on file, for the entries behind it in the same transaction."""
        for run in planned.runs:
            self.runs.setdefault(run.channel_id, []).append(run)
        for judged in planned.registers:
            self.registers.setdefault(judged.register.channel_id, []).append(judged)


class Planned(NamedTuple):
    """An entry ready to be written.

    Attributes:
        head: the log's end once this is written.
        position: this entry's place.
        entry: as given.
        parts: what its leaf commits to.
        leaf_hash: RFC 9162 leaf hash.
        nodes: the subtrees of level >= 1 that it completes.
        runs: its interval rows as values, with `blocks` the same as columns.
        registers: likewise, with `register_rows`.
        events: its event rows.
        controls: its control rows, and `begun` the same as given, with their first steps.
        documents: its document rows.
        counts: what became of its readings.
        receipt: as made.
    """

    head: Head
    position: Position
    entry: Entry
    parts: LeafParts
    leaf_hash: bytes
    nodes: tuple[merkle.Node, ...]
    runs: tuple[Run, ...]
    registers: tuple[JudgedRegister, ...]
    blocks: tuple[BlockRow, ...]
    register_rows: tuple[RegisterRow, ...]
    events: tuple[EventRow, ...]
    counts: Counts
    receipt: bytes
    controls: tuple[ControlRow, ...] = ()
    begun: tuple[NewControl, ...] = ()
    documents: tuple[DocumentRow, ...] = ()


class _Judged(NamedTuple):
    runs: tuple[Run, ...]
    registers: tuple[JudgedRegister, ...]
    counts: Counts


def plan(head: Head, now_utc_ms: int, new: tuple[Entry, Rows, MakeReceipt], on_file: OnFile) -> Planned:
    """Judge, number and seal one entry behind `head`; nothing is written and `on_file` is not touched.

    Args:
        head: the log's end.
        now_utc_ms: the clock; the recorded time never falls within a partition (decision 4).
        new: entry, its rows, and what makes its receipt.
        on_file: every run and register reading of its channels in the UTC days concerned.

    Raises:
        SignerUnavailable: from make_receipt, as anything else it raises.
        ValueError: the entry's own texts cannot be kept.
    """
    entry, rows, make_receipt = new
    judged = _judge(rows, on_file)
    blocks = tuple(_block_row(line, run) for line, run in enumerate(judged.runs))
    registers = tuple(_register_row(line, one) for line, one in enumerate(judged.registers))
    events = tuple(leaf.event_row(line, event) for line, event in enumerate(rows.events))
    controls = tuple(leaf.control_row(line, control) for line, control in enumerate(rows.controls))
    documents = tuple(leaf.document_row(line, document) for line, document in enumerate(rows.documents))
    recorded_at = max(now_utc_ms, head.recorded_at_utc_ms)
    parts = LeafParts(
        head.position,
        recorded_at,
        entry.sender,
        entry.message_id,
        entry.content_digest,
        sha256(entry.evidence).digest(),
        leaf.rows_digest(EntryRows(_header_row(entry), blocks, events, registers, controls, documents)),
    )
    leaf_hash = merkle.leaf_hash(leaf.encode_leaf(parts))
    frontier, nodes = merkle.append(head.frontier, leaf_hash)
    receipt = make_receipt(head.position, merkle.root(head.frontier), recorded_at, judged.counts)
    return Planned(
        Head(head.partition, frontier, recorded_at),
        head.position,
        entry,
        parts,
        leaf_hash,
        nodes,
        judged.runs,
        judged.registers,
        blocks,
        registers,
        events,
        judged.counts,
        receipt,
        controls,
        rows.controls,
        documents,
    )


def _judge(rows: Rows, on_file: OnFile) -> _Judged:
    stored, known, conflicting = len(rows.events) + len(rows.controls) + len(rows.documents), 0, 0
    runs: list[Run] = []
    for block in rows.blocks:
        earlier = [run for run in runs if run.channel_id == block.channel_id]
        new, counts = versions.judge_block(block, on_file.runs.get(block.channel_id, []) + earlier)
        runs += new
        stored, known, conflicting = stored + counts.stored, known + counts.known, conflicting + counts.conflicting
    registers: list[JudgedRegister] = []
    for register in rows.registers:
        outcome = versions.judge_register(register, on_file.registers.get(register.channel_id, []) + registers)
        stored, known, conflicting = (
            stored + (outcome == STORED),
            known + (outcome == KNOWN),
            conflicting + (outcome == CONFLICT),
        )
        if outcome != KNOWN:
            registers.append(JudgedRegister(register, outcome))
    return _Judged(tuple(runs), tuple(registers), Counts(stored, known, conflicting))


def _header_row(entry: Entry) -> HeaderRow:
    return HeaderRow(entry.noun, entry.transport, entry.created_utc_ms, entry.sequence, entry.last_receipt)


def _block_row(line: int, run: Run) -> BlockRow:
    return BlockRow(
        line,
        run.channel_id,
        run.first_interval_end_utc,
        run.last_interval_end_utc,
        run.interval_s,
        leaf.values_text(run.values),
        leaf.qualities_text(run.qualities),
        run.outcome,
    )


def _register_row(line: int, judged: JudgedRegister) -> RegisterRow:
    register, qualities = judged.register, leaf.qualities_text((judged.register.qualities,))
    return RegisterRow(
        line, register.channel_id, register.reading_type, register.time_utc, register.value, qualities, judged.outcome
    )


# --- what a plan needs of what is on file ----------------------------------------------------------------------------

# (channel, UTC day) -> the first and last moment of that day that matters, UTC seconds.
Wanted = dict[tuple[int, int], tuple[int, int]]


def wanted_intervals(rows: Rows) -> Wanted:
    """Return where on file `plan` needs to look for the versions of these rows' intervals."""
    wanted: Wanted = {}
    for block in rows.blocks:
        if block.ends_utc:
            _widen(wanted, block.channel_id, _edges(block))
    return wanted


def _edges(block: Block) -> Sequence[int]:
    """Ends enough to tell which UTC days a block lies in: of a contiguous one, one in each day, and the last."""
    ends, interval_s = block.ends_utc, block.interval_s
    if not units.is_contiguous(ends, interval_s):
        return ends
    a_day = max(1, DAY_S // interval_s)
    return (*ends[::a_day], ends[-1])


def wanted_registers(rows: Rows) -> Wanted:
    """Return where on file `plan` needs to look for the versions of these rows' register readings."""
    wanted: Wanted = {}
    for register in rows.registers:
        _widen(wanted, register.channel_id, (register.time_utc,))
    return wanted


def merge_wanted(into: Wanted, more: Wanted) -> None:
    """Widen `into` so that it covers `more`."""
    for key, (low, high) in more.items():
        have = into.get(key)
        into[key] = (low, high) if have is None else (min(low, have[0]), max(high, have[1]))


def _widen(wanted: Wanted, channel_id: int, moments: Sequence[int]) -> None:
    low, high = min(moments), max(moments)
    first, last = versions.utc_day(low), versions.utc_day(high)
    days = (first,) if first == last else {versions.utc_day(moment) for moment in moments}
    for day in days:
        inside = (max(low, day * DAY_S + 1), min(high, (day + 1) * DAY_S))
        merge_wanted(wanted, {(channel_id, day): inside})
