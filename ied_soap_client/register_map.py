"""Which SunSpec register is which channel, and how two stands of a register become an interval.

In: the words of a meter model (201 to 204 and 211 to 214) as read at a clock boundary, and the stand kept from the
boundary before. Out: intervals with exact values and their qualities, and the stand to keep. Pure: no clock, no I/O;
whoever edits this file keeps it a set of tables and functions of values.

The law of the file: **the values of a channel add up to the difference of its register**, whatever happened between.
A boundary nobody read becomes a gap (2.5.259) and its energy runs into the next interval, flagged long; after the
clock stepped back no interval end is used twice, the energy runs into the first free end, flagged (decision 18). The
one exception is a register that was reset: what it counted before the reset since its last stand nobody can know.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import NamedTuple

from gridpost import units
from gridpost.model import MISSING_QUALITY, Qualities, Quality, ReadingType

MODELS = (201, 202, 203, 204)  # single phase, split phase, wye, delta: integer registers with scale factors
MODEL_WORDS = 107  # ID and L and 105 words of data
FLOAT_MODELS = (211, 212, 213, 214)  # the same meters with float32 registers
# What is read of each: of the float models all but Evt, for a Modbus answer holds 125 words.
WORDS: Mapping[int, int] = dict.fromkeys(MODELS, MODEL_WORDS) | dict.fromkeys(FLOAT_MODELS, 124)
BASES = (40000, 50000, 0)  # where "SunS" may stand
SUNS = (0x5375, 0x6E53)
CHAIN_END = 0xFFFF

_NOT_IMPLEMENTED_ACC32 = 0x8000_0000
_LARGEST_SCALE = 10  # sunssf is -10..10 by the SunSpec information model; anything else is not a scale factor


class Point(NamedTuple):
    """A counting register: word offsets from the model's ID; acc32, high word first."""

    offset: int
    scale_offset: int
    unit: int  # IEC 61968-9 unit code of the counted unit, multiplier 0


_WH, _VAH, _VARH = 72, 71, 73
POINTS: Mapping[str, Point] = {
    "TotWhExp": Point(38, 54, _WH),
    "TotWhExpPhA": Point(40, 54, _WH),
    "TotWhExpPhB": Point(42, 54, _WH),
    "TotWhExpPhC": Point(44, 54, _WH),
    "TotWhImp": Point(46, 54, _WH),
    "TotWhImpPhA": Point(48, 54, _WH),
    "TotWhImpPhB": Point(50, 54, _WH),
    "TotWhImpPhC": Point(52, 54, _WH),
    "TotVAhExp": Point(55, 71, _VAH),
    "TotVAhImp": Point(63, 71, _VAH),
    "TotVArhImpQ1": Point(72, 104, _VARH),
    "TotVArhImpQ2": Point(80, 104, _VARH),
    "TotVArhExpQ3": Point(88, 104, _VARH),
    "TotVArhExpQ4": Point(96, 104, _VARH),
}

# Word offsets of the same points in the float models, and what their values are kept in: thousandths of the unit.
FLOAT_OFFSETS: Mapping[str, int] = {
    "TotWhExp": 60, "TotWhExpPhA": 62, "TotWhExpPhB": 64, "TotWhExpPhC": 66,
    "TotWhImp": 68, "TotWhImpPhA": 70, "TotWhImpPhB": 72, "TotWhImpPhC": 74,
    "TotVAhExp": 76, "TotVAhImp": 84,
    "TotVArhImpQ1": 92, "TotVArhImpQ2": 100, "TotVArhExpQ3": 108, "TotVArhExpQ4": 116,
}  # fmt: skip
_FLOAT_SCALE = -3
_LARGEST_FLOAT = Decimal(10) ** 14  # beyond it float32 counts in steps of 8 MWh: no meter's register

# (flowDirection, unit) of a reading type -> the point it means when the configuration names none. SunSpec's import is
# what the site draws: delivered, forward; export is received, reverse.
DEFAULT_POINTS: Mapping[tuple[int, int], str] = {
    (1, _WH): "TotWhImp",
    (19, _WH): "TotWhExp",
    (1, _VAH): "TotVAhImp",
    (19, _VAH): "TotVAhExp",
    (15, _VARH): "TotVArhImpQ1",
    (16, _VARH): "TotVArhImpQ2",
    (17, _VARH): "TotVArhExpQ3",
    (18, _VARH): "TotVArhExpQ4",
}

# What may be wrong with an interval -> ReadingQualityType (IEC 61968-9 annex D). No quality at all is 1.0.0, valid.
POWER_FAIL = "1.2.32"  # this device had no power over a boundary
ROLLOVER = "1.4.1"  # overflow condition detected: the dial passed its highest number; the value is modulo the dial
LONG_INTERVAL = "1.4.3"  # holds the energy of boundaries nobody read; those are gaps
RESET = "1.4.8"  # reset occurred: goes with a gap, never with a value
CLOCK_CHANGED = "1.4.9"  # measured on a clock that stepped, or was later found more than 60 s wrong
MISSING = MISSING_QUALITY

DAY_S = 86400
MAX_GAPS = 35 * 96  # a gap is a note for people; nobody reads more of them after one silence
MAX_RANGES = 16
_EXACT = Context(prec=80, traps=[Inexact, InvalidOperation])


class Sample(NamedTuple):
    """A counter as read: raw x 10^scale of the point's unit."""

    raw: int
    scale: int


class FloatSample(Sample):
    """A counter read as float32: it has no highest number to roll over at, so going down is a reset."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Dial:
    """What a channel needs to know of its register.

    Attributes:
        interval_s: length of the channel's intervals.
        multiplier: power of ten of the channel's unit (3 for kWh).
        ratio: product of the transformer ratios the meter does not apply itself; 1 for most.
        modulus: raw value at which the register starts again at 0: 2^32, or 10^n.
        largest_step: most raw counts one interval may bring after a rollover; 0: a tenth of the dial.
    """

    interval_s: int
    multiplier: int
    ratio: Decimal = Decimal(1)
    modulus: int = 1 << 32
    largest_step: int = 0


@dataclass(frozen=True, slots=True)
class Stand:
    """The register at the last boundary it was read, and what the next interval must say.

    Attributes:
        end_utc: that boundary.
        raw: register, and `scale` its power of ten.
        flags: qualities the next interval carries.
        used: ranges of interval ends already spoken for, first and last inclusive.
    """

    end_utc: int
    raw: int
    scale: int
    flags: Qualities = ()
    used: tuple[tuple[int, int], ...] = ()


class Interval(NamedTuple):
    """One interval of one channel; value None is a gap."""

    end_utc: int
    value: str | None
    qualities: Qualities


class Step(NamedTuple):
    """What a boundary brings: the stand to keep and the intervals it closes, ascending."""

    stand: Stand
    intervals: tuple[Interval, ...]


def decode(words: Sequence[int]) -> dict[str, Sample]:
    """Return the counters a meter implements, from a model's words beginning with its ID.

    An acc32 of 0x80000000, a scale factor that is none, a float that is NaN, negative or too large to be a register
    means not implemented. A plain 0 is a new meter's stand.
    """
    if words[0] in FLOAT_MODELS:
        return dict(_decode_floats(words))
    samples = {}
    for name, point in POINTS.items():
        raw = words[point.offset] << 16 | words[point.offset + 1]
        scale = signed(words[point.scale_offset])
        if raw != _NOT_IMPLEMENTED_ACC32 and abs(scale) <= _LARGEST_SCALE:
            samples[name] = Sample(raw, scale)
    return samples


def _decode_floats(words: Sequence[int]) -> Iterator[tuple[str, Sample]]:
    """Yield the counters of a float model, rounded half even to thousandths: differences add up exactly from there."""
    for name, offset in FLOAT_OFFSETS.items():
        (value,) = struct.unpack(">f", struct.pack(">HH", *words[offset : offset + 2]))
        if math.isfinite(value) and 0 <= value <= _LARGEST_FLOAT:
            raw = int(Decimal(value).scaleb(-_FLOAT_SCALE).to_integral_value())
            yield name, FloatSample(raw, _FLOAT_SCALE)


def signed(word: int) -> int:
    """Return a 16-bit word as int16."""
    return word - 0x10000 if word & 0x8000 else word


def default_point(reading_type: ReadingType) -> str:
    """Return the point an interval reading type means, or empty text when the table has none."""
    return DEFAULT_POINTS.get((reading_type.flow_direction, reading_type.unit), "")


def next_end(after_utc: int, interval_s: int, zone: tzinfo) -> int:
    """Return the first interval end strictly after a moment, on the grid of local standard midnight (decision 12)."""
    day = (after_utc + units.standard_offset(zone, after_utc)) % DAY_S
    return after_utc - day + min((day // interval_s + 1) * interval_s, DAY_S)


def is_midnight(end_utc: int, zone: tzinfo) -> bool:
    """Tell whether a boundary is local standard midnight, where a day's register reading belongs."""
    return (end_utc + units.standard_offset(zone, end_utc)) % DAY_S == 0


def engineering(raw: int, scale: int, dial: Dial) -> str:
    """Return raw x 10^scale x ratio in the channel's unit, exactly, as a decimal literal."""
    return _text(_EXACT.multiply(Decimal(raw).scaleb(scale), dial.ratio), dial)


def first_stand(sample: Sample, end_utc: int) -> Stand:
    """Return the stand a channel starts from: it closes no interval."""
    return Stand(end_utc, sample.raw, sample.scale, (), ((end_utc, end_utc),))


def flagged(stand: Stand, quality: Quality) -> Stand:
    """Return `stand` with one more thing the next interval must say; a code is said once."""
    if any(known.code == quality.code for known in stand.flags):
        return stand
    return replace(stand, flags=(*stand.flags, quality))


def advance(stand: Stand, sample: Sample, end_utc: int, dial: Dial) -> Step:
    """Turn the register at boundary `end_utc` into intervals.

    Every case of decision 18 and of the head of this file; see the tests for one example each.
    """
    if end_utc <= stand.end_utc:
        stand = flagged(stand, Quality(CLOCK_CHANGED, f"clock stepped back behind {units.format_utc(stand.end_utc)}"))
    if _is_used(stand.used, end_utc):
        return Step(stand, ())
    gaps = _gaps(stand, end_utc, dial)
    if end_utc - stand.end_utc > dial.interval_s:
        stand = flagged(stand, Quality(LONG_INTERVAL, f"since {units.format_utc(stand.end_utc)}"))
    moved = Stand(end_utc, sample.raw, sample.scale, (), _use(stand, end_utc))
    old, new = (Decimal(raw).scaleb(scale) for raw, scale in ((stand.raw, stand.scale), sample))
    difference = _EXACT.subtract(new, old)
    if difference >= 0:
        return Step(moved, (*gaps, _interval(end_utc, difference, stand.flags, dial)))
    if stand.scale != sample.scale and -difference < Decimal(1).scaleb(max(stand.scale, sample.scale)):
        # The meter changed its scale factor and the coarser one cut digits: nothing was counted, the finer stand holds.
        kept = replace(moved, raw=stand.raw, scale=stand.scale)
        return Step(kept, (*gaps, _interval(end_utc, Decimal(0), stand.flags, dial)))
    return Step(moved, (*gaps, _decreased(stand, sample, end_utc, dial)))


def _decreased(stand: Stand, sample: Sample, end_utc: int, dial: Dial) -> Interval:
    """Return the interval of a register that went down: rolled over when plausible, else reset."""
    words = f"{stand.raw}e{stand.scale} -> {sample.raw}e{sample.scale}"
    spans = max(1, (end_utc - stand.end_utc) // dial.interval_s)
    most = dial.largest_step * spans or dial.modulus // 10
    counts = (sample.raw - stand.raw) % dial.modulus
    fits = max(stand.raw, sample.raw) < dial.modulus and not isinstance(sample, FloatSample)
    if stand.scale == sample.scale and fits and counts <= most:
        flags = (*stand.flags, Quality(ROLLOVER, words))
        return _interval(end_utc, Decimal(counts).scaleb(sample.scale), flags, dial)
    return Interval(end_utc, None, (Quality(MISSING, "register reset"), Quality(RESET, words)))


def _interval(end_utc: int, counted: Decimal, flags: Qualities, dial: Dial) -> Interval:
    value = _text(_EXACT.multiply(counted, dial.ratio), dial)
    try:
        return Interval(end_utc, units.decimal_text(value), flags)
    except ValueError:  # no meter counts 18 digits in an interval: a scale factor gone wild
        return Interval(end_utc, None, (Quality(MISSING, f"no believable value: {value}"),))


def _text(value: Decimal, dial: Dial) -> str:
    return format(value.scaleb(-dial.multiplier), "f")


def _gaps(stand: Stand, end_utc: int, dial: Dial) -> tuple[Interval, ...]:
    """Return the ends between two stands; after a clock step most of them never were, so at most a day of them."""
    stepped = any(flag.code == CLOCK_CHANGED for flag in stand.flags)
    most = min(MAX_GAPS, DAY_S // dial.interval_s) if stepped else MAX_GAPS
    ends = range(stand.end_utc + dial.interval_s, end_utc, dial.interval_s)
    if len(ends) > most and stepped:
        return ()
    note = Quality(MISSING, f"not read since {units.format_utc(stand.end_utc)}")
    return tuple(Interval(end, None, (note,)) for end in ends[-most:] if not _is_used(stand.used, end))


def _is_used(used: tuple[tuple[int, int], ...], end_utc: int) -> bool:
    return any(first <= end_utc <= last for first, last in used)


def _use(stand: Stand, end_utc: int) -> tuple[tuple[int, int], ...]:
    """Speak for an end and, within a day, the gaps before it; after a leap for the end alone."""
    first = stand.end_utc if stand.end_utc < end_utc <= stand.end_utc + DAY_S else end_utc
    apart = [known for known in stand.used if known[1] < first or end_utc < known[0]]
    joined = [known for known in stand.used if known not in apart]
    first = min([first, *(known[0] for known in joined)])
    return (*apart, (first, max([end_utc, *(known[1] for known in joined)])))[-MAX_RANGES:]
