"""Validation: the readings of a channel held against its rules, in their order; nothing is changed.

Floor 5. In: current readings of a period, those of the days before, what is known of the meter and its IED's clock,
rules. Out: a `Report`: findings with their spans, the rules that could not judge. Deciding what becomes of a finding
(an estimate, an edit, a request for data) is not done here.

The rules come in the order of `rules.ORDER`: first what says when and by which meter values were measured, then which
values there are, then whether the register agrees, then each value by itself, then values beside others. An interval
that one rule calls wrong is not judged by those behind it: what they found would only follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import NamedTuple

from .. import units
from ..codes import Qualities, Quality, ReadingType, is_estimated
from ..model import Channel, IntervalBlock
from ..ports import CurrentReadings
from . import stands
from .calendar import Period, expected_ends, runs
from .rules import ORDER, Rules
from .stands import Span

ERROR, SUSPECT, NOTE = "error", "suspect", "note"
FAILED = "3.6.0"  # failed validation, by meter data management: system 3, category 6 of IEC 61968-9 annex D
MARKING = ("limit", "negative", "zero-run", "spike")
_CLOCK_CHANGED = "1.4.9"
_NET_FLOWS = frozenset((4, 9, 12, 14))  # flow directions that are differences (IEC 61968-9 annex C)
_ENERGY_KINDS = frozenset((8, 12))  # measurement kinds demand and energy
_MOST_EXCHANGED = 10  # a whole factor is found in a sum only when the sum is so many times what it may be off by
_THIRD = 3  # a spike that went unseen, and a second one, do not hide the next


class Finding(NamedTuple):
    """What a rule found.

    Attributes:
        rule: a name of `rules.ORDER`.
        severity: ``error`` (missing or wrong), ``suspect`` (a person should look), ``note`` (to be known).
        from_utc, to_utc: of the intervals with from_utc < end <= to_utc; equal: a moment.
        reason: in words.
    """

    rule: str
    severity: str
    from_utc: int
    to_utc: int
    reason: str


class Report(NamedTuple):
    """The findings in the order of the rules, then of time; and (rule, why) of those that could not judge."""

    findings: tuple[Finding, ...]
    not_judged: tuple[tuple[str, str], ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong or suspect."""
        return all(finding.severity == NOTE for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged.

    Attributes:
        period: of the readings.
        readings: current ones of the period.
        history: current ones of the days before it.
        clock_ms: its IED's clock minus the bus's; None: unknown.
        others: channels of other meters at the same usage point that measure the same.
    """

    period: Period
    readings: CurrentReadings
    history: CurrentReadings
    clock_ms: int | None = None
    others: tuple[Channel, ...] = ()


class _NotJudged(Exception):
    """Raised by a rule that lacks what it needs; says what."""


@dataclass
class _View:
    """The subject as the rules see it; `wrong` grows from rule to rule."""

    subject: Subject
    rules: Rules
    wrong: set[int] = field(default_factory=set)  # interval ends

    @cached_property
    def channel(self) -> Channel:
        return self.subject.readings.channel

    @cached_property
    def kind(self) -> ReadingType:
        return ReadingType.parse(self.channel.key.reading_type)

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Those expected while the meter is assigned."""
        expected = expected_ends(self.subject.period, self.channel.interval_s)
        return tuple(end for end in expected if self.channel.holds_at(end))

    @cached_property
    def values(self) -> Mapping[int, Decimal]:
        block = self.subject.readings.block
        return {end: Decimal(text) for end, text in zip(block.ends_utc, block.values, strict=True) if text is not None}

    def judged(self) -> Iterator[tuple[int, Decimal]]:
        """The values that no rule before has called wrong."""
        return ((end, self.values[end]) for end in self.ends if end in self.values and end not in self.wrong)

    @cached_property
    def spans(self) -> list[Span]:
        grid = (self.ends[0] - self.channel.interval_s, *self.ends) if self.ends else ()
        registers = self.subject.readings.registers
        return stands.spans(registers, grid, self.rules.register_s, self.rules.decimal("dial"))

    def sums(self) -> Iterator[tuple[Span, Decimal, Decimal, Decimal]]:
        """Yield spans that both sides know: span, what its intervals add up to, what the register says, tolerance."""
        tolerance = self.rules.decimal("sum_tolerance") or Decimal()
        for span in self.spans:
            ends = stands.between(self.ends, span)
            if (
                span.energy is not None
                and not self.wrong.intersection(ends)
                and all(end in self.values for end in ends)
            ):
                total = sum((self.values[end] for end in ends), Decimal())
                yield span, total, span.energy, tolerance + span.last_places

    def runs(self, ends: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Yield (from, to) of intervals that follow each other."""
        return runs(ends, self.channel.interval_s)


def check(subject: Subject, rules: Rules) -> Report:
    """Return what the rules say of readings."""
    view, findings, not_judged = _View(subject, rules), [], []
    for rule in ORDER:
        if not rules.holds(rule):
            continue
        severity, judge = _JUDGES[rule]
        try:
            found = list(judge(view))
        except _NotJudged as lacking:
            not_judged.append((rule, str(lacking)))
            continue
        findings += [Finding(rule, one.severity or severity, one.from_utc, one.to_utc, one.reason) for one in found]
        view.wrong.update(end for one in found for end in one.wrong)
    return Report(tuple(findings), tuple(not_judged))


class _Found(NamedTuple):
    from_utc: int
    to_utc: int
    reason: str
    wrong: Sequence[int] = ()  # ends that no later rule judges
    severity: str = ""  # another than the rule's


# --- when, and by which meter ----------------------------------------------------------------------------------------


def _time_tolerance(view: _View) -> Iterator[_Found]:
    off_ms, period = view.subject.clock_ms, view.subject.period
    if off_ms is not None and abs(off_ms) > view.rules.clock_s * 1000:
        reason = f"its IED's clock is {off_ms} ms off the bus's; {view.rules.clock_s} s are let pass"
        yield _Found(period.from_utc, period.to_utc, reason)
    block = view.subject.readings.block
    pairs = zip(block.ends_utc, block.qualities, strict=True)
    flagged = [end for end, given in pairs if any(quality.code == _CLOCK_CHANGED for quality in given)]
    for from_utc, to_utc in view.runs(flagged):
        yield _Found(from_utc, to_utc, f"measured while the device's clock was known to be wrong ({_CLOCK_CHANGED})")


def _meter_exchange(view: _View) -> Iterator[_Found]:
    period, channel = view.subject.period, view.channel
    edges = ((channel.valid_from_utc, "began"), (channel.valid_to_utc, "ended"))
    for moment, what in edges:
        if moment is None or not period.from_utc < moment < period.to_utc:
            continue
        other = next((one for one in view.subject.others if moment in (one.valid_from_utc, one.valid_to_utc)), None)
        meter = f"; meter {other.key.meter} is the other one" if other else ""
        near = any(
            abs(reading.time_utc - moment) <= view.rules.register_s for reading in view.subject.readings.registers
        )
        stand = "" if near else "; there is no register reading of that moment"
        known = near or other is None  # a first installation needs no stand to be billed up to
        yield _Found(moment, moment, f"meter {channel.key.meter} {what} here{meter}{stand}", (), NOTE if known else "")


# --- which values there are ------------------------------------------------------------------------------------------


def _gap(view: _View) -> Iterator[_Found]:
    noted = {end for end, _ in view.subject.readings.gaps}
    missing = [end for end in view.ends if end not in view.values]
    for from_utc, to_utc in view.runs(missing):
        ends = range(from_utc + view.channel.interval_s, to_utc + 1, view.channel.interval_s)
        told = sum(end in noted for end in ends)
        reported = f", {told} of them reported missing by the device" if told else ""
        yield _Found(from_utc, to_utc, f"{len(ends)} intervals without a value{reported}", ends)


def _duplicate(view: _View) -> Iterator[_Found]:
    for from_utc, to_utc in view.runs(view.subject.readings.conflicts):
        yield _Found(from_utc, to_utc, "a second value came that differs; the first counts until somebody edits it")


# --- the register ----------------------------------------------------------------------------------------------------


def _register(view: _View) -> Iterator[_Found]:
    if view.kind.flow_direction in _NET_FLOWS:
        return
    if len(view.subject.readings.registers) < 2:
        raise _NotJudged("fewer than two register readings")
    for span in view.spans:
        stood = f"from {span.first.value} to {span.last.value}"
        if span.rolled:
            reason = f"the register passed its highest number, {stood}: {span.energy} {view.channel.unit}"
            yield _Found(span.first.end_utc, span.last.end_utc, reason, (), NOTE)
        elif span.energy is None:
            yield _Found(span.first.end_utc, span.last.end_utc, f"the register went back, {stood}")


def _multiplier(view: _View) -> Iterator[_Found]:
    for span, total, energy, tolerance in view.sums():
        factor = _factor(total, energy, tolerance)
        if factor is not None:
            reason = (
                f"the register counted {energy}, the intervals add up to {total}: {factor}; was a multiplier changed?"
            )
            yield _Found(span.first.end_utc, span.last.end_utc, reason)


def _register_sum(view: _View) -> Iterator[_Found]:
    if not any(span.energy is not None for span in view.spans):
        raise _NotJudged("no two stands of the register at interval ends")
    for span, total, energy, tolerance in view.sums():
        if abs(total - energy) > tolerance and not _factor(total, energy, tolerance):
            reason = f"the register counted {energy}, the intervals add up to {total} {view.channel.unit}"
            yield _Found(span.first.end_utc, span.last.end_utc, f"{reason}; {tolerance} are let pass")


def _factor(total: Decimal, energy: Decimal, tolerance: Decimal) -> str | None:
    """How many times one is the other, where that is a whole number and no chance."""
    small, large = sorted((total, energy))
    if small <= tolerance * _MOST_EXCHANGED or large - small <= tolerance:
        return None
    times = int((large / small).to_integral_value())
    if times < 2 or abs(large - small * times) > tolerance:
        return None
    return f"{times} times as much" if energy > total else f"a {times}th of it"


# --- each value by itself --------------------------------------------------------------------------------------------


def _limit(view: _View) -> Iterator[_Found]:
    for name, beyond in (("high", Decimal.__gt__), ("low", Decimal.__lt__)):
        limit = view.rules.decimal(name)
        if limit is None:
            continue
        ends = [end for end, value in view.judged() if beyond(value, limit)]
        yield from _listed(view, ends, f"beyond the {name} limit of {limit} {view.channel.unit}")


def _negative(view: _View) -> Iterator[_Found]:
    if view.rules.may_be_negative or view.kind.flow_direction in _NET_FLOWS:
        return
    if view.kind.measurement_kind in _ENERGY_KINDS:
        yield from _listed(view, [end for end, value in view.judged() if value < 0], "negative")


def _listed(view: _View, ends: Sequence[int], what: str) -> Iterator[_Found]:
    for from_utc, to_utc in view.runs(ends):
        within = [end for end in ends if from_utc < end <= to_utc]
        values = ", ".join(str(view.values[end]) for end in within[:5]) + (", ..." if len(within) > 5 else "")
        yield _Found(from_utc, to_utc, f"{values}: {what}", within)


# --- values beside others --------------------------------------------------------------------------------------------


def _zero_run(view: _View) -> Iterator[_Found]:
    if not view.rules.zero_s:
        return
    for from_utc, to_utc in view.runs(end for end, value in view.judged() if value == 0):
        if to_utc - from_utc > view.rules.zero_s:
            hours = Decimal(to_utc - from_utc) / 3600
            yield _Found(from_utc, to_utc, f"nothing was consumed for {hours.normalize():f} hours")


def _spike(view: _View) -> Iterator[_Found]:
    block, least = view.subject.history.block, max(view.rules.spike_least, _THIRD)
    measured = [
        Decimal(text)
        for text, given in zip(block.values, block.qualities, strict=True)
        if text is not None and not is_estimated(given)
    ]
    if len(measured) < least:
        raise _NotJudged(f"{len(measured)} measured values of the days before; {least} are needed")
    third = sorted(measured)[-_THIRD]
    if third <= 0:
        raise _NotJudged("next to nothing was consumed in the days before")
    most = third * (view.rules.decimal("spike_times") or Decimal())
    ends = [end for end, value in view.judged() if value > most]
    days = f"the third highest of the {view.rules.spike_days} days before"
    yield from _listed(view, ends, f"more than {view.rules.spike_times} times {third}, {days}")


_JUDGES: Mapping[str, tuple[str, Callable[[_View], Iterator[_Found]]]] = {
    "time-tolerance": (SUSPECT, _time_tolerance),
    "meter-exchange": (SUSPECT, _meter_exchange),
    "gap": (ERROR, _gap),
    "duplicate": (ERROR, _duplicate),
    "register": (ERROR, _register),
    "multiplier": (ERROR, _multiplier),
    "register-sum": (ERROR, _register_sum),
    "limit": (SUSPECT, _limit),
    "negative": (SUSPECT, _negative),
    "zero-run": (SUSPECT, _zero_run),
    "spike": (SUSPECT, _spike),
}


def marked(readings: CurrentReadings, findings: Sequence[Finding], author: str) -> IntervalBlock | None:
    """Return the values that rules found wrong, as further versions that say so; None: there are none to mark.

    Values stay as they are, and so do their other qualities. Only rules that name single values mark them (`MARKING`);
    what is marked for the same rules already is left alone.
    """
    block = readings.block
    marks: dict[int, Qualities] = {}
    for end, given in zip(block.ends_utc, block.qualities, strict=True):
        rules = [one.rule for one in findings if one.rule in MARKING and one.from_utc < end <= one.to_utc]
        kept = tuple(quality for quality in given if quality.code != FAILED)
        said = " ".join(dict.fromkeys(rules))
        if rules and not any(quality.detail.startswith(f"{said}; by ") for quality in given if quality.code == FAILED):
            marks[end] = (*kept, Quality(FAILED, f"{said}; by {author}"))
    if not marks:
        return None
    values = dict(zip(block.ends_utc, block.values, strict=True))
    ends = tuple(marks)
    column = tuple(values[end] for end in ends)
    return IntervalBlock(block.channel, block.interval_s, ends, column, tuple(marks.values()))


def told(finding: Finding) -> str:
    """Return a finding as a line of text."""
    when = units.format_utc(finding.from_utc)
    when += "" if finding.to_utc == finding.from_utc else f" to {units.format_utc(finding.to_utc)}"
    return f"{finding.severity:8}{finding.rule:15} {when}: {finding.reason}"
