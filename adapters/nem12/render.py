"""Readings as a NEM12 file, and what it cannot hold.

In: readings and the options (site table, creation time, period). Out: `Rendered`. One 200 record a stream, meter and
interval length, one 300 record a day, 400 records where the quality changes inside it; intervals without a value are N.

Nothing is cut to fit: an id that is too long is refused. Values are written as their text.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from gridpost import units
from gridpost.errors import CannotRepresent, FileInvalid, Item
from gridpost.model import ChannelKey, IntervalBlock, Qualities, Quality, Readings, ReadingType, Site
from gridpost.ports import FormatOptions, Rendered

from . import tables
from .parse import NEM_OFFSET
from .tables import Cell

_PARTICIPANT = "GRIDPOST"
_NMI_WIDTH, _SERIAL_WIDTH, _SUFFIX_WIDTH = 10, 12, 2
_DAY = 86400


@dataclass(frozen=True, slots=True)
class _Stream:
    """What one 200 record holds: days (start, UTC seconds) to the day's cells by number, counted from 0."""

    key: ChannelKey
    site: Site
    interval_s: int
    days: Mapping[int, Mapping[int, tuple[str | None, Qualities]]]

    @property
    def nmi(self) -> str:
        return self.site.custid or self.key.usage_point

    @property
    def serial(self) -> str:
        serial = self.site.recid or self.key.meter
        return "" if serial == self.nmi else serial

    @property
    def suffix(self) -> str:
        if self.site.nem12_suffix or (len(self.key.stream) == _SUFFIX_WIDTH and self.key.stream.isalnum()):
            return self.site.nem12_suffix or self.key.stream
        return tables.suffix(ReadingType.parse(self.key.reading_type))

    @property
    def where(self) -> str:
        return f"{self.key.usage_point}/{self.key.meter}/{self.key.stream or self.key.reading_type}"


def to_rendered(readings: Readings, options: FormatOptions) -> Rendered:
    """Return the file and, listed, what it does not hold.

    Raises:
        CannotRepresent: nothing to write, or something without which the file would be wrong.
    """
    streams = _streams(readings.blocks, options)
    if not streams:
        raise CannotRepresent("there are no interval readings to write")
    _check(streams)
    losses: list[Item] = []
    out = io.StringIO(newline="")
    write = csv.writer(out, lineterminator="\r\n").writerow
    created = _nem_time(options.created_utc_ms // 1000)
    write(("100", "NEM12", created.strftime("%Y%m%d%H%M"), _PARTICIPANT, _PARTICIPANT))
    for stream in _in_order(streams):
        write(_record_200(stream, _configuration(stream, streams)))
        lost: Counter[Quality] = Counter()
        for start_utc in sorted(stream.days):
            cells = _cells(stream, start_utc)
            lost.update(quality for cell in cells for quality in cell.lost)
            for record in _day_records(start_utc, cells, created):
                write(record)
        losses += _name_losses(stream)
        losses += _quality_losses(stream, lost)
    write(("900",))
    losses += _register_losses(readings)
    return Rendered(out.getvalue().encode(), tuple(losses))


# --- readings, put in order ------------------------------------------------------------------------------------------


def _streams(blocks: Sequence[IntervalBlock], options: FormatOptions) -> list[_Stream]:
    found: dict[tuple[ChannelKey, int], _Stream] = {}
    for block in blocks:
        length_s = block.interval_s or ReadingType.parse(block.channel.reading_type).interval_s
        site = options.sites.get(block.channel, Site(block.channel))
        stream = found.setdefault((block.channel, length_s), _Stream(block.channel, site, length_s, {}))
        if length_s not in (minutes * 60 for minutes in tables.INTERVAL_MINUTES):
            raise CannotRepresent(f"{stream.where}: intervals of {length_s} s are not 5, 10, 15 or 30 minutes")
        for end_utc, value, qualities in zip(block.ends_utc, block.values, block.qualities, strict=True):
            if (options.from_utc is None or end_utc > options.from_utc) and (
                options.to_utc is None or end_utc <= options.to_utc
            ):
                _put(stream, end_utc, (value, qualities))
    return [stream for stream in found.values() if stream.days]


def _put(stream: _Stream, end_utc: int, cell: tuple[str | None, Qualities]) -> None:
    start_utc = (end_utc - 1 + NEM_OFFSET) // _DAY * _DAY - NEM_OFFSET
    number, rest = divmod(end_utc - start_utc, stream.interval_s)
    if rest:
        raise CannotRepresent(f"{stream.where}: the interval ending {units.format_utc(end_utc)} is off NEM time's grid")
    if cell[0] is not None and cell[0].startswith("-"):
        raise CannotRepresent(f"{stream.where}: {cell[0]} is negative, which NEM12 has not")
    day = stream.days.setdefault(start_utc, {})  # type: ignore[attr-defined]
    if day.setdefault(number - 1, cell) != cell:
        raise CannotRepresent(f"{stream.where}: two values for the interval ending {units.format_utc(end_utc)}")


def _in_order(streams: Sequence[_Stream]) -> list[_Stream]:
    """Return the streams with those of one NMI together, as a reader of blocks expects; else as they came."""
    place = {nmi: number for number, nmi in enumerate(dict.fromkeys(stream.nmi for stream in streams))}
    return sorted(streams, key=lambda stream: place[stream.nmi])


def _check(streams: Sequence[_Stream]) -> None:
    """Refuse ids that do not fit, and two channels that the file would show as one."""
    days: dict[tuple[str, str, str, int], ChannelKey] = {}
    for stream in streams:
        for name, text, width in (
            ("NMI", stream.nmi, _NMI_WIDTH), ("meter serial", stream.serial, _SERIAL_WIDTH),
            ("NMI suffix", stream.suffix, _SUFFIX_WIDTH),
        ):  # fmt: skip
            _check_text(stream, name, text, width)
        if not stream.suffix:
            raise CannotRepresent(f"{stream.where}: no NMI suffix stands for this quantity; a site table can give one")
        for start_utc in stream.days:
            other = days.setdefault((stream.nmi, stream.serial, stream.suffix, start_utc), stream.key)
            if other != stream.key:
                raise CannotRepresent(f"{stream.where}: the file would show it as one stream with {other.stream}")


def _check_text(stream: _Stream, name: str, text: str, width: int) -> None:
    if len(text) > width or not (text.isascii() and text.isprintable()) or set(text) & set(',"'):
        raise CannotRepresent(
            f"{stream.where}: {name} {text!r} is not {width} or fewer ASCII characters without commas"
        )


# --- records ---------------------------------------------------------------------------------------------------------


def _record_200(stream: _Stream, configuration: str) -> tuple[str, ...]:
    site = stream.site
    return (
        "200", stream.nmi, configuration, site.nem12_register, stream.suffix, site.nem12_datastream, stream.serial,
        _uom(stream), str(stream.interval_s // 60), site.nem12_next_read,
    )  # fmt: skip


def _configuration(stream: _Stream, streams: Sequence[_Stream]) -> str:
    own = [other.suffix for other in streams if other.nmi == stream.nmi]
    return stream.site.nem12_configuration or "".join(sorted(set(own), key=own.index))


def _uom(stream: _Stream) -> str:
    """Return the unit as the site writes it, which may differ in case, else its symbol."""
    reading_type = ReadingType.parse(stream.key.reading_type)
    try:
        written = units.unit_code(stream.site.unit) if stream.site.unit else None
    except FileInvalid:
        written = None
    if written == (reading_type.multiplier, reading_type.unit):
        return stream.site.unit
    if not reading_type.symbol:
        raise CannotRepresent(f"{stream.where}: unit {reading_type.unit} of the reading type has no symbol")
    return reading_type.symbol


def _cells(stream: _Stream, start_utc: int) -> list[Cell]:
    day = stream.days[start_utc]
    return [tables.cell(*day.get(number, (None, ()))) for number in range(_DAY // stream.interval_s)]


def _day_records(start_utc: int, cells: Sequence[Cell], created: datetime) -> Iterator[tuple[str, ...]]:
    """Yield the 300 record and, where the quality is not one, V and its 400 records."""
    date = _nem_time(start_utc).strftime("%Y%m%d")
    runs = [(code, len(list(group))) for code, group in groupby(cell.code for cell in cells)]
    code = runs[0][0] if len(runs) == 1 else (tables.VARIABLE, "", "")
    yield "300", date, *(cell.value for cell in cells), *code, created.strftime("%Y%m%d%H%M%S"), ""
    if len(runs) == 1:
        return
    first = 1
    for code, length in runs:
        yield "400", str(first), str(first + length - 1), *code
        first += length


def _nem_time(utc: int) -> datetime:
    return datetime.fromtimestamp(utc + NEM_OFFSET, UTC)


# --- losses ----------------------------------------------------------------------------------------------------------


def _name_losses(stream: _Stream) -> Iterator[Item]:
    if stream.key.stream not in ("", stream.suffix) and not stream.site.nem12_suffix:
        reason = f"the stream name {stream.key.stream!r} is written as NMI suffix {stream.suffix}"
        yield Item(CannotRepresent.code, reason, stream.where)


def _quality_losses(stream: _Stream, lost: Mapping[Quality, int]) -> Iterator[Item]:
    for quality, count in lost.items():
        name = f"{quality.code} {quality.detail}".strip()
        yield Item(CannotRepresent.code, f"quality {name!r} has no place, on {count} intervals", stream.where)


def _register_losses(readings: Readings) -> Iterator[Item]:
    for register in readings.registers:
        where = f"{register.channel.usage_point}/{register.channel.meter}/{register.channel.stream}"
        reason = f"the register reading {register.value} of {units.format_utc(register.time_utc)} has no place"
        yield Item(CannotRepresent.code, reason, where)
