"""What is current: a channel's readings, as a data version has them, from the rows of the log.

Floor 4, pure. In: rows, as values (`current_readings`) or as a store keeps them (`of_rows`); a test holds both to the
same answer. Out: `CurrentReadings`, one value an interval, with the entry behind each. Which version of an interval is
current follows from the outcomes that were judged when the rows were written (`versions.py`): nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat
from operator import itemgetter, lt
from typing import Any, NamedTuple

from . import leaf, units
from .model import Channel, IntervalBlock, Position, Qualities, Register, RegisterReading
from .ports import CurrentReadings
from .versions import CONFLICT, GAP, STORED, JudgedRegister, Run


class FiledRun(NamedTuple):
    """A row of interval values with the entry behind it."""

    recorded_at_utc_ms: int
    position: Position
    run: Run


class FiledRegister(NamedTuple):
    """A row of a register reading with the entry behind it."""

    recorded_at_utc_ms: int
    position: Position
    judged: JudgedRegister


class Filed(NamedTuple):
    """A channel's rows up to a data version, each in order (recorded_at, partition, seq, line)."""

    runs: Sequence[FiledRun]
    registers: Sequence[FiledRegister]


class _Current(NamedTuple):
    value: str | None
    qualities: Qualities
    filed: FiledRun


def current_readings(channel: Channel, period: tuple[int, int], filed: Filed) -> CurrentReadings:
    """Return the current versions with period[0] < interval end <= period[1]; registers at both edges included."""
    current, conflicts = _current_intervals(period, filed.runs)
    registers = _current_registers(period, filed.registers)
    gaps = sorted(end for end in current if current[end].value is None)
    ends = sorted(current.keys() - set(gaps))
    used = [current[end].filed.recorded_at_utc_ms for end in ends]
    used += [one.recorded_at_utc_ms for one in registers]
    return CurrentReadings(
        channel,
        IntervalBlock(
            channel.key,
            channel.interval_s,
            tuple(ends),
            tuple(current[end].value for end in ends),
            tuple(current[end].qualities for end in ends),
        ),
        tuple(current[end].filed.position for end in ends),
        _readings(channel, registers),
        tuple(sorted(conflicts)),
        max(used, default=0),
        tuple((end, current[end].qualities) for end in gaps),
    )


def _current_intervals(period: tuple[int, int], runs: Sequence[FiledRun]) -> tuple[dict[int, _Current], set[int]]:
    current: dict[int, _Current] = {}
    conflicts: set[int] = set()
    for filed in runs:
        run = filed.run
        for end, value, qualities in zip(run.ends_utc(), run.values, run.qualities, strict=True):
            if not period[0] < end <= period[1]:
                continue
            if run.outcome == CONFLICT:
                conflicts.add(end)
            elif run.outcome != GAP or end not in current or current[end].value is None:  # a note yields to any value
                current[end] = _Current(value, qualities, filed)
    return current, conflicts


def _current_registers(period: tuple[int, int], registers: Sequence[FiledRegister]) -> list[FiledRegister]:
    current: dict[tuple[int, str], FiledRegister] = {}
    for filed in registers:
        register = filed.judged.register
        if filed.judged.outcome == STORED and period[0] <= register.time_utc <= period[1]:
            current[register.time_utc, register.reading_type] = filed
    return [current[key] for key in sorted(current)]


def _readings(channel: Channel, filed: Sequence[FiledRegister]) -> tuple[RegisterReading, ...]:
    return tuple(_reading(channel, one.judged.register) for one in filed)


def _reading(channel: Channel, register: Register) -> RegisterReading:
    key = channel.key._replace(reading_type=register.reading_type)
    return RegisterReading(key, register.time_utc, register.value, register.qualities)


# --- rows as they are kept -------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A row of interval values as a store keeps it, texts as `leaf` writes them, and when its entry was recorded."""

    channel_id: int
    recorded_at_utc_ms: int
    partition: int
    seq: int
    line: int
    first_interval_end_utc: int
    last_interval_end_utc: int
    interval_s: int
    values: str
    qualities: str | None
    outcome: str


def of_rows(
    channel: Channel, period: tuple[int, int], rows: list[Row], registers: Sequence[FiledRegister]
) -> CurrentReadings:
    """Return what `current_readings` does, from rows in any order; rows may be plain tuples of Row's columns.

    A month of a meter is usually all stored, valid and in one version: then the texts are laid one behind the other and
    cut into values once, a tenth of the cost of looking at each interval.
    """
    rows.sort(key=itemgetter(_FIRST))
    laid = _laid_out(channel, period, rows)
    current = _current_registers(period, registers)
    if laid is None:
        filed = Filed([_filed(Row._make(row)) for row in sorted(rows, key=_ORDER)], registers)
        return current_readings(channel, period, filed)
    block, positions, newest = laid
    newest = max((newest, *(one.recorded_at_utc_ms for one in current)))
    return CurrentReadings(channel, block, positions, _readings(channel, current), (), newest)


_FIRST, _LAST = map(Row._fields.index, ("first_interval_end_utc", "last_interval_end_utc"))
_ORDER = itemgetter(*map(Row._fields.index, ("recorded_at_utc_ms", "partition", "seq", "line")))


def _filed(row: Row) -> FiledRun:
    literals = leaf.parse_values(row.values)
    qualities = leaf.parse_qualities(row.qualities, len(literals))
    run = Run(row.channel_id, row.first_interval_end_utc, row.interval_s, literals, qualities, row.outcome)
    return FiledRun(row.recorded_at_utc_ms, Position(row.partition, row.seq), run)


def _laid_out(
    channel: Channel, period: tuple[int, int], rows: Sequence[Row]
) -> tuple[IntervalBlock, tuple[Position, ...], int] | None:
    """Return block, positions and newest recorded time of rows by first end; None unless all are stored and apart.

    Column by column: a look at each row would take longer than the driver takes to fetch it.
    """
    rows = _within(rows, period)
    if not rows:
        return IntervalBlock(channel.key, channel.interval_s, (), (), ()), (), 0
    columns: Any = zip(*rows, strict=True)
    _, recorded, partitions, seqs, _, firsts, lasts, lengths, texts, qualities, outcomes = columns
    if outcomes.count(STORED) != len(rows) or qualities.count(None) != len(rows) or not all(map(lt, lasts, firsts[1:])):
        return None
    joined = "".join(texts).replace("][", ",")[1:-1]
    literals = tuple(joined.split(","))
    spans = list(map(range, firsts, [last + 1 for last in lasts], lengths))
    positions = tuple(chain.from_iterable(map(repeat, map(Position, partitions, seqs), map(len, spans))))
    if "null" in joined or len(literals) != len(positions):  # no row of the writer's is so
        return None
    block = IntervalBlock(channel.key, channel.interval_s, _ends(spans), literals, ((),) * len(literals))
    return block, positions, max(recorded)


def _within(rows: Sequence[Row], period: tuple[int, int]) -> list[Row]:
    """Return the parts of rows that end in the period; of rows that are apart only the outer two reach beyond it."""
    low, high = period
    inside = [row for row in rows if row[_FIRST] <= high and row[_LAST] > low]  # type: ignore[operator]
    for outer in {0, len(inside) - 1} if inside else ():
        inside[outer] = _cut(Row._make(inside[outer]), period)
    return [row for row in inside if row[_FIRST] <= row[_LAST]]  # type: ignore[operator]


def _cut(row: Row, period: tuple[int, int]) -> Row:
    """Return the part of a row that ends in the period; where there is none its last end lies before its first."""
    span = range(row.first_interval_end_utc, row.last_interval_end_utc + 1, row.interval_s)
    first, beyond = (max(0, (edge - span.start) // span.step + 1) for edge in period)
    part = span[first:beyond]
    if len(part) == len(span):
        return row
    values = ",".join(row.values[1:-1].split(",")[first:beyond])
    return row._replace(
        first_interval_end_utc=part.start, last_interval_end_utc=part.stop - part.step, values=f"[{values}]"
    )


def _ends(spans: Sequence[range]) -> tuple[int, ...]:
    start, step = spans[0].start, spans[0].step
    whole = range(start, spans[-1].stop, step)
    if len(whole) == sum(map(len, spans)) and all(one.step == step and one.start in whole for one in spans):
        return units.ends_of(whole)
    return tuple(chain.from_iterable(spans))
