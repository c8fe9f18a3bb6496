"""What a NEM12 file says, as readings and a site table.

In: the bytes of a file and the options (a site table where streams are not energy). Out: `Parsed`: NMI is the usage
point, the meter serial the meter (the NMI where empty), the suffix the stream name; one block a 200 record.

NEM time is UTC+10 all year (decision 12), so an interval k of a day ends at the day's start + k lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gridpost import units
from gridpost.errors import FileInvalid, Item
from gridpost.model import ChannelKey, IntervalBlock, Readings, ReadingType, Site
from gridpost.ports import FormatOptions, Parsed

from . import tables
from .records import B2B, EVENT, INTERVALS, NMI, Record, invalid, records_of
from .tables import Code

NEM_OFFSET = 36000
MINUTES_A_DAY = 1440
_MAX_FINDINGS = 100
_VALUES_AT = 2  # of a 300 record: indicator, date, then the values
# What follows a record that cannot be used says nothing new.
_BELONG_TO = {NMI: (INTERVALS, EVENT, B2B), INTERVALS: (EVENT,)}
_TAILS = (4, 5)  # fields behind the values; the load time is absent in old files


@dataclass(slots=True)
class _Day:
    """A 300 record and the 400 records behind it."""

    line: int
    start_utc: int
    values: tuple[str, ...]
    code: Code
    events: list[tuple[int, int, int, Code]] = field(default_factory=list)  # line, first, last, code


@dataclass(slots=True)
class _Stream:
    """A 200 record and the days behind it."""

    key: ChannelKey
    minutes: int
    site: Site
    days: list[_Day] = field(default_factory=list)


def to_parsed(raw: bytes, options: FormatOptions) -> Parsed:
    """Return the readings, the site table and the warnings of a file.

    500 records (service orders) and update times have no place in readings; the first are noted one by one with the
    code ``not-carried``.

    Raises:
        FileInvalid: with an item for each record that cannot be used.
    """
    records, notes = records_of(raw)
    streams: list[_Stream] = []
    items: list[Item] = []
    skipped: tuple[str, ...] = ()
    for record in records[1:-1]:
        if record.fields[0] in skipped:
            continue
        try:
            notes += _take(record, streams, options)
            skipped = ()
        except FileInvalid as error:
            items += error.items
            skipped = _BELONG_TO.get(record.fields[0], skipped)
        if len(items) >= _MAX_FINDINGS:
            break
    blocks = [] if items else _blocks(streams, items)
    if items:
        raise FileInvalid(f"{items[0].path}: {items[0].reason}", items=items)
    sites = {stream.key: stream.site for stream in streams}
    return Parsed(Readings(tuple(blocks)), sites, tuple(notes))


def _take(record: Record, streams: list[_Stream], options: FormatOptions) -> list[Item]:
    """Put a record behind the last 200 or 300 it belongs to; return the warnings it gives rise to."""
    indicator = record.fields[0]
    if indicator == NMI:
        streams.append(_stream(record, options))
        return []
    if indicator not in (INTERVALS, EVENT, B2B):
        raise invalid(record.line, f"record indicator {indicator[:20]!r} is not one of NEM12")
    if not streams:
        raise invalid(record.line, f"a {indicator} record before any 200 record")
    if indicator == B2B:
        return [
            Item("not-carried", f"the 500 record {','.join(record.fields)} is not a reading", f"line {record.line}")
        ]
    if indicator == INTERVALS:
        streams[-1].days.append(_day(record, streams[-1].minutes))
    elif not streams[-1].days:
        raise invalid(record.line, "a 400 record before any 300 record")
    else:
        streams[-1].days[-1].events.append(_event(record, len(streams[-1].days[-1].values)))
    return []


# --- records ---------------------------------------------------------------------------------------------------------


def _stream(record: Record, options: FormatOptions) -> _Stream:
    if not 9 <= len(_trimmed(record.fields, 9)) <= 10:
        raise invalid(record.line, f"a 200 record has 10 fields, not {len(record.fields)}")
    _, nmi, configuration, register, suffix, datastream, serial, uom, length, *rest = record.fields
    if not nmi or not suffix:
        raise invalid(record.line, "the 200 record lacks the NMI or the NMI suffix")
    if length not in map(str, tables.INTERVAL_MINUTES):
        raise invalid(
            record.line,
            f"interval length {length!r} is not one of {', '.join(map(str, tables.INTERVAL_MINUTES))} minutes",
        )
    minutes = int(length)
    try:
        key = _key((nmi, serial, suffix), uom, minutes, options)
    except FileInvalid as error:
        raise invalid(record.line, error.reason) from error
    site = Site(
        key,
        nem12_suffix=suffix,
        nem12_configuration=configuration,
        nem12_register=register,
        nem12_datastream=datastream,
        nem12_next_read="".join(rest[:1]),
        unit=uom,
    )
    return _Stream(key, minutes, site)


def _key(names: tuple[str, str, str], uom: str, minutes: int, options: FormatOptions) -> ChannelKey:
    """Return the key of a stream: the site table's, where one row means it, else by suffix and unit."""
    nmi, serial, suffix = names
    near = [
        site.channel
        for site in options.sites.values()
        if (site.custid or site.channel.usage_point) == nmi
        and (site.recid or site.channel.meter) == (serial or nmi)
        and (site.nem12_suffix or site.channel.stream) == suffix
        and ReadingType.parse(site.channel.reading_type).interval_s in (0, minutes * 60)
    ]
    if len(near) == 1:
        return near[0]
    return ChannelKey(nmi, serial or nmi, suffix, str(tables.reading_type(suffix, uom, minutes)))


def _day(record: Record, minutes: int) -> _Day:
    count = MINUTES_A_DAY // minutes
    fields = _trimmed(record.fields, _VALUES_AT + count + _TAILS[1])
    tail = fields[_VALUES_AT + count :]
    values = fields[_VALUES_AT : _VALUES_AT + count]
    if len(tail) not in _TAILS or not tables.METHOD.match(tail[0]):
        raise invalid(record.line, _miscounted(fields[_VALUES_AT:], count, minutes))
    numbered = tuple(_value(record.line, number, text) for number, text in enumerate(values, 1))
    return _Day(record.line, _date(record.line, fields[1]), numbered, _code(record.line, tail))


def _miscounted(behind_date: Sequence[str], count: int, minutes: int) -> str:
    letters = (number for number, text in enumerate(behind_date) if text[:1].isalpha())
    found = next(letters, len(behind_date))
    needed = f"a day of {minutes} minute intervals has {count} values and a quality method; this 300 record has"
    return f"{needed} {found} values and {len(behind_date) - found} fields behind them"


def _event(record: Record, count: int) -> tuple[int, int, int, Code]:
    fields = _trimmed(record.fields, 6)
    if not 4 <= len(fields) <= 6:
        raise invalid(record.line, f"a 400 record has 6 fields, not {len(fields)}")
    if not all(text.isascii() and text.isdigit() and len(text) <= 4 for text in fields[1:3]):
        raise invalid(record.line, f"intervals {fields[1]!r} to {fields[2]!r} are not whole numbers")
    first, last = int(fields[1]), int(fields[2])
    if not 1 <= first <= last <= count:
        raise invalid(record.line, f"intervals {first} to {last} are not within 1 to {count}")
    code = _code(record.line, fields[3:])
    if code.method.startswith(tables.VARIABLE):
        raise invalid(record.line, "a 400 record says V; V is for a whole day only")
    return record.line, first, last, code


def _code(line: int, tail: Sequence[str]) -> Code:
    method, reason, text = (*tail, "", "")[:3]
    if not tables.METHOD.match(method):
        raise invalid(line, f"quality method {method[:20]!r} is not A, E, F, S, N or V with its two digits")
    if not tables.REASON.match(reason):
        raise invalid(line, f"reason code {reason[:20]!r} is not a number of up to three digits")
    return Code(method, reason, text)


def _date(line: int, text: str) -> int:
    """Return the UTC seconds at which a NEM day begins."""
    try:
        if not (len(text) == 8 and text.isascii() and text.isdigit() and "1900" <= text[:4] <= "2199"):
            raise ValueError("not CCYYMMDD")
        midnight = datetime(int(text[:4]), int(text[4:6]), int(text[6:]), tzinfo=UTC)
    except ValueError as error:
        raise invalid(line, f"interval date {text[:20]!r}: {error}") from error
    since = midnight - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86400 - NEM_OFFSET


def _value(line: int, number: int, text: str) -> str:
    try:
        value = units.decimal_text(text)
    except ValueError as error:
        raise invalid(line, f"value {number}, {text[:40]!r}, is {error}") from error
    if value.startswith("-"):
        raise invalid(line, f"value {number}, {value}, is negative, which NEM12 has not")
    return value


def _trimmed(fields: Sequence[str], most: int) -> tuple[str, ...]:
    """Return the fields without empty ones beyond the last that the record can have, as spreadsheets add them."""
    end = len(fields)
    while end > most and not fields[end - 1]:
        end -= 1
    return tuple(fields[:end])


# --- days to blocks --------------------------------------------------------------------------------------------------


def _blocks(streams: Sequence[_Stream], items: list[Item]) -> list[IntervalBlock]:
    """Return a block a stream; what is wrong with a day goes to `items`."""
    seen: dict[tuple[ChannelKey, int], int] = {}
    blocks = []
    for stream in streams:
        days = []
        for day in stream.days:
            first = seen.setdefault((stream.key, day.start_utc), day.line)
            try:
                days.append((day, _codes(day, first)))
            except FileInvalid as error:
                items += error.items
        if days:
            blocks.append(_block(stream, days))
    return blocks


def _block(stream: _Stream, days: Sequence[tuple[_Day, Sequence[Code]]]) -> IntervalBlock:
    length_s = stream.minutes * 60
    cells = [pair for day, codes in days for pair in zip(day.values, codes, strict=True)]
    return IntervalBlock(
        stream.key,
        length_s,
        tuple(end for day, _ in days for end in range(day.start_utc + length_s, day.start_utc + 86400 + 1, length_s)),
        tuple(None if _is_null(code) else value for value, code in cells),
        tuple(
            tables.null_qualities(value, code) if _is_null(code) else tables.qualities(code) for value, code in cells
        ),
    )


def _codes(day: _Day, first_line: int) -> list[Code]:
    """Return each interval's code: the 300 record's, or those of its 400 records, which must cover the day in order."""
    if first_line != day.line:
        raise invalid(day.line, f"repeats the day of line {first_line}")
    variable = day.code.method.startswith(tables.VARIABLE)
    if not day.events:
        if variable:
            raise invalid(day.line, "quality V, but no 400 record says which quality each interval has")
        return [day.code] * len(day.values)
    codes: list[Code] = []
    for line, first, last, code in day.events:
        if first != len(codes) + 1:
            raise invalid(
                line, f"a 400 record begins at interval {first}; after {len(codes)} it should at {len(codes) + 1}"
            )
        codes += [code] * (last - first + 1)
    if len(codes) != len(day.values):
        raise invalid(day.events[-1][0], f"the 400 records cover {len(codes)} of {len(day.values)} intervals")
    return codes


def _is_null(code: Code) -> bool:
    return code.method.startswith("N")
