"""What a CMEP file says, as readings and a site table.

In: the bytes of a file and the options (a site table where a unit is not one of electricity). Out: `Parsed`: the
receiver's customer ID is the usage point, the meter ID the meter (the customer's where empty), the unit the stream
name; one block a channel and interval length.

MEPMD01 only. Records of the protocol's other types are listed as not carried; what is no record refuses the file.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from gridpost import units
from gridpost.errors import FileInvalid, Item
from gridpost.model import ChannelKey, IntervalBlock, Qualities, Readings, ReadingType, RegisterReading, Site
from gridpost.ports import FormatOptions, Parsed

from . import clock, tables

RECORD = "MEPMD01"
_OTHER_RECORD = re.compile(r"MEP[A-Z]{2}[0-9]{2}\Z|MLA[0-9]{2}\Z", re.ASCII)
HEADER_FIELDS = 14
_DATA = ("OK", "RESEND", "SUMMARY", "HISTORY")
_NO_DATA = ("PROFILE", "TEMPLATE", "REJECT")
_CRC = re.compile(r"H[0-9A-Fa-f]{4}\Z", re.ASCII)
_HEX = re.compile(r"H([0-9A-Fa-f]{1,15})\Z", re.ASCII)
_NUMBER = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[EeDd]([+-]?[0-9]{1,2}))?\Z", re.ASCII)
_MAX_FINDINGS = 100


class _Cell(NamedTuple):
    """A triple read: the line it stands in, the end of its interval or the moment of its reading, what it says."""

    line: int
    end_utc: int
    value: str | None
    qualities: Qualities


class _Record(NamedTuple):
    """A MEPMD01 record's place and fields by their meaning."""

    line: int
    customer: str
    meter: str
    commodity: str
    unit: str
    constant: Decimal
    interval_s: int
    triples: tuple[tuple[str, str, str], ...]


@dataclass(slots=True)
class _Channel:
    """The cells of a channel so far, by end."""

    key: ChannelKey
    interval_s: int
    site: Site
    cells: dict[int, _Cell] = field(default_factory=dict)


def to_parsed(raw: bytes, options: FormatOptions) -> Parsed:
    """Return the readings, the site table and the warnings of a file.

    Raises:
        FileInvalid: with an item for each line that cannot be used.
    """
    channels: dict[tuple[ChannelKey, int], _Channel] = {}
    notes: list[Item] = []
    items: list[Item] = []
    count = 0
    for line, text in _lines(raw):
        count += 1
        try:
            notes += _take(line, text, channels, options)
        except (ValueError, FileInvalid) as error:
            items.append(Item(FileInvalid.code, str(getattr(error, "reason", "") or error), f"line {line}"))
        if len(items) >= _MAX_FINDINGS:
            break
    if items:
        raise FileInvalid(f"{items[0].path}: {items[0].reason}", items=items)
    if not count:
        raise FileInvalid(f"the file is empty; a CMEP file holds {RECORD} records")
    if not raw.endswith(b"\n"):
        notes.append(Item("no-line-end", "the last line has no end; is the file cut?", f"line {line}"))
    return Parsed(_readings(channels.values()), {one.key: one.site for one in channels.values()}, tuple(notes))


def _lines(raw: bytes) -> Iterator[tuple[int, str]]:
    try:
        lines = raw.decode("ascii" if not raw.startswith(b"\xef\xbb\xbf") else "utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _invalid(line, f"byte {error.start} is not ASCII, as CMEP is") from error
    for line, text in enumerate(lines, 1):
        if text.strip():
            yield line, text.removesuffix("\r")


def _take(line: int, text: str, channels: dict[tuple[ChannelKey, int], _Channel], options: FormatOptions) -> list[Item]:
    """Put a line's values behind those of its channel; return the warnings it gives rise to."""
    fields = _fields(text)
    if fields[0] != RECORD:
        return [_other(line, fields[0])]
    if len(fields) < HEADER_FIELDS:
        raise ValueError(f"a {RECORD} record has {HEADER_FIELDS} fields before its values, not {len(fields)}")
    if fields[8] in _NO_DATA:
        return [Item("not-carried", f"purpose {fields[8]} is not of readings", f"line {line}")]
    if fields[8] not in _DATA:
        raise ValueError(f"purpose {fields[8][:20]!r} is not one of {', '.join(_DATA + _NO_DATA)}")
    record, notes = _record(line, fields)
    channel = _channel(record, channels, options)
    for cell in _cells(record, channel):
        first = channel.cells.setdefault(cell.end_utc, cell)
        if first is not cell:
            raise ValueError(f"repeats the value of {units.format_utc(cell.end_utc)} in line {first.line}")
    return notes


def _fields(text: str) -> list[str]:
    if not text.isprintable():
        raise ValueError("a control character")
    try:
        return [one.strip() for one in next(csv.reader([text], strict=True, skipinitialspace=True))]
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _other(line: int, name: str) -> Item:
    if not _OTHER_RECORD.match(name):
        raise ValueError(f"{name[:20]!r} is no record of CMEP; {RECORD} holds readings")
    return Item("not-carried", f"the {name} record is not a {RECORD} record", f"line {line}")


def _record(line: int, fields: Sequence[str]) -> tuple[_Record, list[Item]]:
    """Return a record and its warnings; its count must be that of its triples, so a cut line is found."""
    count = int(fields[13]) if fields[13].isascii() and fields[13].isdigit() and len(fields[13]) < 5 else -1
    if count < 0:
        raise ValueError(f"count {fields[13][:20]!r} is not a whole number")
    end = HEADER_FIELDS + 3 * count
    behind = [one for one in fields[end:] if one]
    notes = []
    if behind and _CRC.match(behind[0]):
        notes.append(Item("crc-not-checked", f"the check sum {behind.pop(0)} was not checked", f"line {line}"))
    if len(fields) < end or behind:
        found = len(fields) - HEADER_FIELDS
        raise ValueError(f"the count is {count}, {3 * count} fields of time, quality and value; {found} follow it")
    data = fields[HEADER_FIELDS:end]
    triples = tuple((data[at], data[at + 1], data[at + 2]) for at in range(0, len(data), 3))
    constant = Decimal(_number(fields[11]) if fields[11] else "1")
    if fields[10] != tables.PULSE and constant not in (0, 1):
        reason = f"the calculation constant {fields[11]} is for pulses; {fields[10][:20]} is taken as it stands"
        notes.append(Item("not-carried", reason, f"line {line}"))
    interval_s = clock.parse_length(fields[12])
    return _Record(line, fields[5], fields[7], fields[9], fields[10], constant, interval_s, triples), notes


# --- channels --------------------------------------------------------------------------------------------------------


def _channel(record: _Record, channels: dict[tuple[ChannelKey, int], _Channel], options: FormatOptions) -> _Channel:
    customer, meter = record.customer or record.meter, record.meter or record.customer
    if not customer:
        raise ValueError("neither the receiver's customer ID nor the meter ID says whose values these are")
    key = _from_site(record, (customer, meter), options) or _from_table(record, (customer, meter))
    register = tables.is_register(ReadingType.parse(key.reading_type))
    interval_s = 0 if register else record.interval_s
    if not interval_s and not register:
        raise ValueError(f"{record.unit} is of intervals, but the interval length is empty or 0")
    site = Site(key, unit=record.unit)
    return channels.setdefault((key, interval_s), _Channel(key, interval_s, site))


def _from_site(record: _Record, names: tuple[str, str], options: FormatOptions) -> ChannelKey | None:
    near = [
        site.channel
        for site in options.sites.values()
        if (site.custid or site.channel.usage_point, site.recid or site.channel.meter) == names
        and (site.unit or site.channel.stream).upper() == record.unit.upper()
    ]
    return near[0] if len(near) == 1 else None


def _from_table(record: _Record, names: tuple[str, str]) -> ChannelKey:
    reading_type = tables.reading_type(record.unit, record.interval_s)
    if record.commodity != tables.ELECTRICITY or reading_type is None:
        what = f"commodity {record.commodity[:20]!r} with unit {record.unit[:20]!r}"
        raise ValueError(f"{what} means what the site says: give a site table")
    return ChannelKey(*names, record.unit, str(reading_type))


# --- values ----------------------------------------------------------------------------------------------------------


def _cells(record: _Record, channel: _Channel) -> Iterator[_Cell]:
    """Yield a record's cells; an empty time is the one before and the interval, as field 13 says."""
    end_utc = None
    for number, (time, flag, text) in enumerate(record.triples, 1):
        if time:
            end_utc = clock.parse_end(time)
        elif end_utc is None or not record.interval_s:
            raise ValueError(f"value {number} has no time, and there is no time or no interval to tell it by")
        else:
            end_utc += record.interval_s
        yield _cell(record, channel, (number, flag, text), end_utc)


def _cell(record: _Record, channel: _Channel, said: tuple[int, str, str], end_utc: int) -> _Cell:
    number, flag, text = said
    if flag and not tables.FLAG.match(flag):
        raise ValueError(f"value {number} has the quality {flag[:20]!r}, which does not begin with a capital letter")
    value = _number(text)
    if flag[:1] == tables.EMPTY:
        if not channel.interval_s:
            raise ValueError(f"value {number}: a register reading without a value")
        return _Cell(record.line, end_utc, None, tables.qualities(flag, text and value))
    if record.unit == tables.PULSE:
        value = units.decimal_text(format(Decimal(value) * record.constant, "f"))
    return _Cell(record.line, end_utc, value, tables.qualities(flag, ""))


def _number(text: str) -> str:
    """Return a number as CMEP writes it, as a decimal literal; empty is 0."""
    if not text:
        return "0"
    hexadecimal, match = _HEX.match(text), _NUMBER.match(text)
    if hexadecimal:
        return units.decimal_text(str(int(hexadecimal[1], 16)))
    if not match:
        raise ValueError(f"{text[:40]!r} is no number")
    if match[2]:
        return units.decimal_text(format(Decimal(f"{match[1]}E{match[2]}"), "f"))
    return units.decimal_text(match[1])


def _readings(channels: Iterable[_Channel]) -> Readings:
    blocks: list[IntervalBlock] = []
    registers: list[RegisterReading] = []
    for channel in channels:
        cells = sorted(channel.cells.values(), key=lambda cell: cell.end_utc)
        if channel.interval_s and cells:
            _, ends, values, qualities = zip(*cells, strict=True)
            blocks.append(IntervalBlock(channel.key, channel.interval_s, ends, values, qualities))
        else:
            registers += (RegisterReading(channel.key, one.end_utc, one.value or "0", one.qualities) for one in cells)
    return Readings(tuple(blocks), tuple(registers))


def _invalid(line: int, reason: str) -> FileInvalid:
    return FileInvalid(f"line {line}: {reason}", items=[Item(FileInvalid.code, reason, f"line {line}")])
