"""Readings as a CMEP file, and what it cannot hold.

In: readings and the options (site table, creation time, period). Out: `Rendered`. One MEPMD01 record for up to 48
values of a channel, every value with its time; CR LF behind each.

Nothing is cut to fit: an id or a number that is too long is refused. Values are written as their text.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gridpost import units
from gridpost.errors import CannotRepresent, Item
from gridpost.model import ChannelKey, Qualities, Quality, Readings, ReadingType, Site
from gridpost.ports import FormatOptions, Rendered

from . import clock, tables
from .parse import RECORD

_VERSION = "19970819"  # of the record, as the specification's own text has it
_PARTICIPANT = "GRIDPOST"
_ID_WIDTH, _NUMBER_WIDTH, _MOST_VALUES = 12, 16, 48


@dataclass(frozen=True, slots=True)
class _Channel:
    """What records of one meter and unit hold: moment, UTC seconds, to value and qualities."""

    key: ChannelKey
    site: Site
    interval_s: int
    cells: dict[int, tuple[str | None, Qualities]]

    @property
    def customer(self) -> str:
        return self.site.custid or self.key.usage_point

    @property
    def meter(self) -> str:
        meter = self.site.recid or self.key.meter
        return "" if meter == self.customer else meter

    @property
    def unit(self) -> str:
        own = tables.unit_of(ReadingType.parse(self.key.reading_type))
        given = self.site.unit.upper()
        return own if own or given in tables.TYPES or given == tables.PULSE else given

    @property
    def commodity(self) -> str:
        return _COMMODITIES.get(ReadingType.parse(self.key.reading_type).commodity, "")

    @property
    def where(self) -> str:
        return f"{self.key.usage_point}/{self.key.meter}/{self.key.stream or self.key.reading_type}"


# Position 6 of a reading type (IEC 61968-9 annex C) -> CMEP's commodity; 0 says nothing, and electricity is meant.
_COMMODITIES = {0: "E", 1: "E", 2: "E", 7: "G", 9: "W", 10: "S"}


def to_rendered(readings: Readings, options: FormatOptions) -> Rendered:
    """Return the file and, listed, what it does not hold.

    Raises:
        CannotRepresent: nothing to write, or something without which the file would be wrong.
    """
    channels = _channels(readings, options)
    if not channels:
        raise CannotRepresent("there are no readings to write")
    _check(channels)
    losses: list[Item] = []
    out = io.StringIO(newline="")
    write = csv.writer(out, lineterminator="\r\n").writerow
    created = clock.end_text(options.created_utc_ms // 60_000 * 60)
    for channel in channels:
        cells = [(end, tables.cell(*channel.cells[end])) for end in sorted(channel.cells)]
        for start in range(0, len(cells), _MOST_VALUES):
            write(_record(channel, cells[start : start + _MOST_VALUES], created))
        losses += _losses(channel, [cell for _, cell in cells])
    return Rendered(out.getvalue().encode("ascii"), tuple(losses))


# --- readings, put in order ------------------------------------------------------------------------------------------


def _channels(readings: Readings, options: FormatOptions) -> list[_Channel]:
    found: dict[tuple[ChannelKey, int], _Channel] = {}
    for key, length_s, end_utc, cell in _values(readings):
        if (options.from_utc is not None and end_utc <= options.from_utc) or (
            options.to_utc is not None and end_utc > options.to_utc
        ):
            continue
        made = _Channel(key, options.sites.get(key, Site(key)), length_s, {})
        channel = found.setdefault((key, length_s), made)
        if channel.cells.setdefault(end_utc, cell) != cell:
            raise CannotRepresent(f"{channel.where}: two values for {units.format_utc(end_utc)}")
    return list(found.values())


def _values(readings: Readings) -> Iterator[tuple[ChannelKey, int, int, tuple[str | None, Qualities]]]:
    for block in readings.blocks:
        length_s = block.interval_s or ReadingType.parse(block.channel.reading_type).interval_s
        if not length_s:
            raise CannotRepresent(f"{block.channel.usage_point}/{block.channel.meter}: the interval length is unknown")
        for end_utc, value, qualities in zip(block.ends_utc, block.values, block.qualities, strict=True):
            yield block.channel, length_s, end_utc, (value, qualities)
    for reading in readings.registers:
        yield reading.channel, 0, reading.time_utc, (reading.value, reading.qualities)


def _check(channels: Sequence[_Channel]) -> None:
    """Refuse ids that do not fit, units CMEP does not have, and two channels that the file would show as one."""
    named: dict[tuple[str, str, str, int], ChannelKey] = {}
    for channel in channels:
        for name, text in (("customer ID", channel.customer), ("meter ID", channel.meter)):
            if len(text) > _ID_WIDTH or not (text.isascii() and text.isprintable()) or text != text.strip():
                raise CannotRepresent(f"{channel.where}: {name} {text!r} is not {_ID_WIDTH} or fewer ASCII characters")
        if not channel.unit or not channel.commodity:
            kind = channel.key.reading_type
            raise CannotRepresent(f"{channel.where}: CMEP has no unit for {kind}; a site table can give one")
        seen = (channel.customer, channel.meter, channel.unit, channel.interval_s)
        if named.setdefault(seen, channel.key) != channel.key:
            raise CannotRepresent(f"{channel.where}: the file would show it as one channel with {named[seen].stream}")


# --- records ---------------------------------------------------------------------------------------------------------


def _record(channel: _Channel, cells: Sequence[tuple[int, tables.Cell]], created: str) -> list[str]:
    head = [RECORD, _VERSION, _PARTICIPANT, "", "", channel.customer, created, channel.meter, "OK",
            channel.commodity, channel.unit, "1", clock.length_text(channel.interval_s), str(len(cells))]  # fmt: skip
    triples = ((clock.end_text(end), cell.flag, _number(channel, cell.value)) for end, cell in cells)
    return [*head, *(text for triple in triples for text in triple)]


def _number(channel: _Channel, text: str) -> str:
    if len(text) > _NUMBER_WIDTH:
        raise CannotRepresent(f"{channel.where}: {text} has more than {_NUMBER_WIDTH} characters")
    return text


# --- losses ----------------------------------------------------------------------------------------------------------


def _losses(channel: _Channel, cells: Sequence[tables.Cell]) -> Iterator[Item]:
    if channel.key.stream not in ("", channel.unit):
        reason = f"the stream name {channel.key.stream!r} has no place; the unit {channel.unit} stands for it"
        yield Item(CannotRepresent.code, reason, channel.where)
    counts: Mapping[Quality, int] = Counter(quality for cell in cells for quality in cell.lost)
    for quality, count in counts.items():
        name = f"{quality.code} {quality.detail}".strip()
        yield Item(CannotRepresent.code, f"no flag says all of quality {name!r}, on {count} values", channel.where)
