"""Versions of readings: what becomes of a value that arrives, and which version is current (decisions 9 to 11).

Floor 2, pure. In: a block or register reading and the versions on file, in order (recorded_at, partition, seq, line).
Out: an outcome for each value, and the rows to file. Nothing is ever overwritten; nothing here looks anything up.

============================================================  =========
the value that arrives                                        outcome
============================================================  =========
none (a gap), no such note on file                            gap
none (a gap), noted already                                   known
first value of its interval                                   stored
equal value and equal set of (quality, detail) to current     known
an estimate (``x.8.*``), and current is none:
 equal to any earlier version                                 known
 anything else                                                conflict
none, and current is an estimate                              stored: becomes current
marked edited (``x.7.*``)                                     stored: becomes current
equal to any earlier version                                  known
equal value, other qualities (a flag found later)             stored: becomes current
an estimate, and current is one                               stored: becomes current
anything else                                                 conflict
============================================================  =========

So a measured value beats every estimate, whenever it comes, and no estimate beats a measured value (docs/adr/0016).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from .model import VALID_QUALITY, Block, Counts, Qualities, Quality, Register, is_edited, is_estimated
from .units import is_contiguous

STORED, KNOWN, CONFLICT, GAP = "stored", "known", "conflict", "gap"
DAY_S = 86400

_VALID = frozenset({Quality(VALID_QUALITY)})


class Version(NamedTuple):
    """One value on file for one moment; `value` is None for a gap's note."""

    value: str | None
    qualities: Qualities
    outcome: str


class Run(NamedTuple):
    """Contiguous intervals of one channel, one outcome, within one UTC day: what becomes a row."""

    channel_id: int
    first_interval_end_utc: int
    interval_s: int
    values: tuple[str | None, ...]
    qualities: tuple[Qualities, ...]
    outcome: str

    @property
    def last_interval_end_utc(self) -> int:
        """End of the last interval, UTC seconds."""
        return self.first_interval_end_utc + (len(self.values) - 1) * self.interval_s

    def ends_utc(self) -> range:
        """Return the interval ends, UTC seconds."""
        return range(self.first_interval_end_utc, self.last_interval_end_utc + 1, self.interval_s)


class JudgedRegister(NamedTuple):
    """A register reading with its outcome."""

    register: Register
    outcome: str


def utc_day(interval_end_utc: int) -> int:
    """Return the number of the UTC day an interval lies in: one that ends at 00:00 belongs to the day it closes."""
    return (interval_end_utc - 1) // DAY_S


def judge(value: str | None, qualities: Qualities, on_file: Sequence[Version]) -> str:
    """Return the outcome of one value, by the table above.

    Args:
        value: a decimal literal; None for a gap.
        qualities: as sent; () is valid.
        on_file: every version and gap note of the same moment, in order.
    """
    if value is None:
        noted = any(version.value is None and _same_set(version.qualities, qualities) for version in on_file)
        return KNOWN if noted else GAP
    versions = [version for version in on_file if version.value is not None]
    current = next((version for version in reversed(versions) if version.outcome == STORED), None)
    if current is None:
        return STORED
    if _equal(current, value, qualities):
        return KNOWN
    estimate, over_estimate = is_estimated(qualities), is_estimated(current.qualities)
    if over_estimate and not estimate:
        return STORED
    beaten = estimate and not over_estimate
    if is_edited(qualities) and not beaten:
        return STORED
    if any(_equal(version, value, qualities) for version in versions):
        return KNOWN
    return STORED if not beaten and (over_estimate or _same_value(current.value, value)) else CONFLICT


def judge_block(block: Block, on_file: Sequence[Run]) -> tuple[list[Run], Counts]:
    """Return the rows a block becomes and what was counted.

    Args:
        block: its ends may be in any order, with holes, and the same one more than once: judged in the order of ends,
            equal ends in the order they came.
        on_file: the channel's runs in order; those elsewhere in time do no harm.
    """
    contiguous = is_contiguous(block.ends_utc, block.interval_s)
    if not contiguous:
        block = _ascending(block)
    outcomes = _outcomes(block, on_file)
    conflicting, known = outcomes.count(CONFLICT), outcomes.count(KNOWN)
    whole = contiguous and outcomes.count(STORED) == len(outcomes)
    runs = _days(block) if whole else _runs(block, outcomes)
    return list(runs), Counts(len(outcomes) - conflicting - known, known, conflicting)


def judge_register(register: Register, on_file: Sequence[JudgedRegister]) -> str:
    """Return the outcome of a register reading; `on_file`: readings of its channel in order."""
    moment = (register.channel_id, register.reading_type, register.time_utc)
    versions = [
        Version(filed.register.value, filed.register.qualities, filed.outcome)
        for filed in on_file
        if (filed.register.channel_id, filed.register.reading_type, filed.register.time_utc) == moment
    ]
    return judge(register.value, register.qualities, versions)


def _ascending(block: Block) -> Block:
    ends = block.ends_utc
    if all(map(int.__le__, ends, ends[1:])):
        return block
    order = sorted(range(len(ends)), key=ends.__getitem__)  # stable: equal ends keep their order
    values, qualities = block.values, block.qualities
    return block._replace(
        ends_utc=tuple(ends[i] for i in order),
        values=tuple(values[i] for i in order),
        qualities=tuple(qualities[i] for i in order),
    )


def _outcomes(block: Block, on_file: Sequence[Run]) -> list[str]:
    ends = block.ends_utc
    if not ends:
        return []
    near = [run for run in on_file if run.first_interval_end_utc <= ends[-1] and run.last_interval_end_utc >= ends[0]]
    if not near and len(set(ends)) == len(ends):  # the usual case: all of it is new
        if None not in block.values:
            return [STORED] * len(ends)
        return [GAP if value is None else STORED for value in block.values]
    versions = _by_end(near)
    outcomes = []
    for end, value, qualities in zip(ends, block.values, block.qualities, strict=True):
        outcome = judge(value, qualities, versions.get(end, ()))
        if outcome != KNOWN:
            versions.setdefault(end, []).append(Version(value, qualities, outcome))
        outcomes.append(outcome)
    return outcomes


def _by_end(runs: Sequence[Run]) -> dict[int, list[Version]]:
    versions: dict[int, list[Version]] = {}
    for run in runs:
        for end, value, qualities in zip(run.ends_utc(), run.values, run.qualities, strict=True):
            versions.setdefault(end, []).append(Version(value, qualities, run.outcome))
    return versions


def _days(block: Block) -> Iterator[Run]:
    """Cut a contiguous block, all of it stored, where a UTC day ends: what `_runs` does, by arithmetic."""
    channel_id, interval_s, ends, values, qualities = block
    start = 0
    while start < len(ends):
        first = ends[start]
        stop = start + ((utc_day(first) + 1) * DAY_S - first) // interval_s + 1
        yield Run(channel_id, first, interval_s, values[start:stop], qualities[start:stop], STORED)
        start = stop


def _runs(block: Block, outcomes: list[str]) -> Iterator[Run]:
    """Cut where the outcome changes, an interval is left out, or a UTC day ends; what is known makes no row."""
    channel_id, interval_s, ends, values, qualities = block
    start, count = 0, len(ends)
    while start < count:
        outcome, first = outcomes[start], ends[start]
        midnight = (utc_day(first) + 1) * DAY_S
        stop, due = start + 1, first + interval_s
        while stop < count and outcomes[stop] == outcome and ends[stop] == due <= midnight:
            stop, due = stop + 1, due + interval_s
        if outcome != KNOWN:
            yield Run(channel_id, first, interval_s, values[start:stop], qualities[start:stop], outcome)
        start = stop


def _equal(version: Version, value: str, qualities: Qualities) -> bool:
    return _same_value(version.value, value) and _same_set(version.qualities, qualities)


def _same_value(one: str | None, other: str) -> bool:
    return one is not None and (one == other or Decimal(one) == Decimal(other))


def _same_set(one: Qualities, other: Qualities) -> bool:
    return one == other or (frozenset(one) or _VALID) == (frozenset(other) or _VALID)
