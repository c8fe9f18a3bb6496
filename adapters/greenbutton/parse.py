"""What a Green Button feed says, as readings.

In: the bytes of a feed. Out: `Parsed`: the last part of a UsagePoint's address is the usage point. A MeterReading that
Gridpost wrote is named ``meter:stream``; another's is the stream, and the meter is the usage point.

Numbers are whole, times a power of ten: they come back with the power people write the unit with, digits exact.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from gridpost import units
from gridpost.errors import FileInvalid, Item
from gridpost.model import ChannelKey, IntervalBlock, Qualities, Readings, ReadingType, RegisterReading
from gridpost.ports import Parsed

from . import clock, tables
from .atom import ESPI, Entry, entries_of, invalid, last_part, text

USAGE_POINT, METER_READING, READING_TYPE = "UsagePoint", "MeterReading", "ReadingType"
INTERVAL_BLOCK, LOCAL_TIME = "IntervalBlock", "LocalTimeParameters"
_READ = (USAGE_POINT, METER_READING, READING_TYPE, INTERVAL_BLOCK, LOCAL_TIME)
_WHOLE = re.compile(r"-?[0-9]{1,15}\Z", re.ASCII)
_RULE = re.compile(r"[0-9A-Fa-f]{1,8}\Z", re.ASCII)
_DROPPED = ("cost", "consumptionTier", "tou", "cpp")  # of an IntervalReading
_LATEST = 253_370_764_800  # the year 9999: beyond it a moment cannot be written


class _Cell(NamedTuple):
    value: str | None
    qualities: Qualities


class _Kind(NamedTuple):
    """A ReadingType as values are read by it: the type, the power of ten the file counts in, the default quality."""

    reading_type: ReadingType
    power: int
    default: tuple[int, ...]


@dataclass(slots=True)
class _Channel:
    key: ChannelKey
    kind: _Kind
    cells: dict[tuple[int, int], _Cell] = field(default_factory=dict)  # (interval length, end, UTC seconds)


def to_parsed(raw: bytes) -> Parsed:
    """Return the readings of a feed; what it holds beside them is noted by name.

    Raises:
        FileInvalid: with the entry's address.
    """
    entries = entries_of(raw)
    by_kind: dict[str, list[Entry]] = {}
    for entry in entries:
        by_kind.setdefault(entry.kind, []).append(entry)
    if METER_READING not in by_kind:
        raise FileInvalid(f"the feed has no {METER_READING}")
    for entry in by_kind.get(LOCAL_TIME, ()):
        _check_local_time(entry)
    dropped: Counter[str] = Counter()
    channels = []
    taken: set[str] = set()
    for entry in by_kind[METER_READING]:
        channel = _channel(entry, by_kind)
        for block in by_kind.get(INTERVAL_BLOCK, ()):
            if entry.is_over(block):
                taken.add(block.self_link)
                _take(channel, block, dropped)
        channels.append(channel)
    _check_whole(by_kind.get(INTERVAL_BLOCK, ()), taken, channels)
    notes = [Item("not-carried", f"{entry.kind} is not a reading", entry.self_link) for entry in entries
             if entry.kind not in _READ]  # fmt: skip
    notes += (Item("not-carried", f"{name} of {count} intervals is not a reading") for name, count in dropped.items())
    return Parsed(_readings(channels), {}, tuple(notes))


def _check_whole(blocks: Sequence[Entry], taken: set[str], channels: Sequence[_Channel]) -> None:
    for block in blocks:
        if block.self_link not in taken:
            raise invalid(block.self_link, f"no {METER_READING} links to this {INTERVAL_BLOCK}")
    twice = [key for key, count in Counter(channel.key for channel in channels).items() if count > 1]
    if twice:
        raise FileInvalid(f"two {METER_READING} entries are {'/'.join(twice[0][:3])}")


# --- channels --------------------------------------------------------------------------------------------------------


def _channel(entry: Entry, by_kind: dict[str, list[Entry]]) -> _Channel:
    types = [one for one in by_kind.get(READING_TYPE, ()) if one.self_link in entry.related or entry.is_over(one)]
    if len(types) != 1:
        raise invalid(entry.self_link, f"{len(types)} {READING_TYPE} entries are linked to it; it needs one")
    kind = _kind(types[0])
    usage_point = _usage_point(entry, by_kind.get(USAGE_POINT, ()))
    meter, stream = usage_point, entry.name
    parts = entry.self_link.rpartition("/")[2].split(":")
    if len(parts) == 2 and parts[0]:
        meter, stream = unquote(parts[0]), unquote(parts[1].partition(";")[0])
    for name in (usage_point, meter, stream):
        if not name.isprintable():
            raise invalid(entry.self_link, f"{name[:40]!r} is no name")
    return _Channel(ChannelKey(usage_point, meter, stream, str(kind.reading_type)), kind)


def _usage_point(entry: Entry, points: Sequence[Entry]) -> str:
    """Return whose a MeterReading is: by the links, by its address, or the only one there is."""
    over = [point for point in points if point.is_over(entry)]
    if not over and len(points) == 1:
        over = list(points)
    name = over[0].name if len(over) == 1 else ""
    if not points and (found := re.search(rf"/{USAGE_POINT}/([^/]+)/", entry.self_link)):
        name = last_part(found[1])
    if not name:
        raise invalid(entry.self_link, f"the links do not say which {USAGE_POINT} it is of")
    return name


def _kind(entry: Entry) -> _Kind:
    numbers = {name: _number(entry, text(entry.body, name)) for name in tables.ELEMENTS if text(entry.body, name)}
    for name in tables.RATIOS:
        for part in ("numerator", "denominator"):
            found = (entry.body.findtext(f"{{{ESPI}}}{name}/{{{ESPI}}}{part}") or "").strip()
            if found:
                numbers[f"{name}/{part}"] = _number(entry, found)
    if "uom" not in numbers:
        raise invalid(entry.self_link, "the reading type does not state its unit, uom")
    power = numbers.get("powerOfTenMultiplier", 0)
    if not -18 <= power <= 18:
        raise invalid(entry.self_link, f"power of ten {power} is not within -18 to 18")
    said = tables.reading_type(numbers, numbers.get("intervalLength", 0))
    spoken = said._replace(multiplier=tables.spoken_power(power, said.unit))
    own = _own_type(entry)
    if own is not None and own._replace(multiplier=0) == said._replace(multiplier=0):
        spoken = own
    return _Kind(spoken, power, (numbers["defaultQuality"],) if "defaultQuality" in numbers else ())


def _own_type(entry: Entry) -> ReadingType | None:
    """Return the type its address spells out, as Gridpost writes it; its elements must agree but for the power."""
    try:
        return ReadingType.parse(entry.name.partition(":")[0])
    except FileInvalid:
        return None


def _check_local_time(entry: Entry) -> None:
    """Refuse parameters that cannot be read; the readings are UTC and need none."""
    for name in ("dstOffset", "tzOffset"):
        _number(entry, text(entry.body, name) or "0")
    for name in ("dstStartRule", "dstEndRule"):
        if not _RULE.match(text(entry.body, name)):
            raise invalid(entry.self_link, f"{name} {text(entry.body, name)[:20]!r} is not 8 hexadecimal digits")


# --- values ----------------------------------------------------------------------------------------------------------


def _take(channel: _Channel, block: Entry, dropped: Counter[str]) -> None:
    for reading in block.body.iter(f"{{{ESPI}}}IntervalReading"):
        length_s, end_utc = _time(block, reading)
        dropped.update(name for name in _DROPPED if reading.find(f"{{{ESPI}}}{name}") is not None)
        cell = _cell(channel.kind, block, reading)
        if (length_s, end_utc) in channel.cells:
            raise invalid(block.self_link, f"a second value for {units.format_utc(end_utc)}")
        channel.cells[length_s, end_utc] = cell


def _time(block: Entry, reading: Element) -> tuple[int, int]:
    period = reading.find(f"{{{ESPI}}}timePeriod")
    if period is None:
        raise invalid(block.self_link, "an IntervalReading has no timePeriod")
    length_s, start = (_number(block, text(period, name)) for name in ("duration", "start"))
    end_utc = clock.to_end(start, length_s)
    if length_s < 0 or not 0 <= end_utc < _LATEST:
        raise invalid(block.self_link, f"an interval of {length_s} s from {start} cannot be")
    return length_s, end_utc


def _cell(kind: _Kind, block: Entry, reading: Element) -> _Cell:
    numbers = tuple(
        _number(block, text(quality, "quality")) for quality in reading.findall(f"{{{ESPI}}}ReadingQuality")
    )
    if not text(reading, "value"):
        return _Cell(None, tables.missing(numbers))
    number = _number(block, text(reading, "value"))
    scaled = Decimal(number).scaleb(kind.power - kind.reading_type.multiplier)
    try:
        value = units.decimal_text(format(scaled, "f"))
    except ValueError as error:
        raise invalid(block.self_link, f"value {number} x 10^{kind.power} is {error}") from error
    return _Cell(value, tables.qualities(numbers or kind.default))


def _number(entry: Entry, found: str) -> int:
    if not _WHOLE.match(found):
        raise invalid(entry.self_link, f"{found[:40]!r} is no whole number")
    return int(found)


def _readings(channels: Sequence[_Channel]) -> Readings:
    blocks: list[IntervalBlock] = []
    registers: list[RegisterReading] = []
    for channel in channels:
        if tables.is_register(channel.kind.reading_type):
            registers += _registers(channel)
            continue
        for length_s in sorted({length for length, _ in channel.cells}):
            if not length_s:
                raise FileInvalid(f"{'/'.join(channel.key[:3])}: an interval of no length")
            cells = sorted((end, cell) for (length, end), cell in channel.cells.items() if length == length_s)
            ends, both = zip(*cells, strict=True)
            values, qualities = zip(*both, strict=True)
            blocks.append(IntervalBlock(channel.key, length_s, ends, values, qualities))
    return Readings(tuple(blocks), tuple(registers))


def _registers(channel: _Channel) -> Iterator[RegisterReading]:
    for (_, end_utc), cell in sorted(channel.cells.items(), key=lambda item: item[0][1]):
        if cell.value is None:
            raise FileInvalid(f"{'/'.join(channel.key[:3])}: a register reading without a value")
        yield RegisterReading(channel.key, end_utc, cell.value, cell.qualities)
