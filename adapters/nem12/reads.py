"""NEM13: what a meter's register showed at two readings, and the energy between them, both ways.

In: the bytes of a file, or readings, and the options (site table, creation time). Out: `Parsed`, `Rendered`. A 250
record is two register readings and one interval from the first to the second that holds the quantity.

NEM time is UTC+10 all year; `_utc` and `_nem` are where it changes. Values are written as their text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal
from itertools import pairwise
from typing import NamedTuple

from gridpost import units
from gridpost.errors import CannotRepresent, FileInvalid, Item
from gridpost.model import ChannelKey, IntervalBlock, Readings, ReadingType, RegisterReading, Site
from gridpost.ports import FormatOptions, Parsed, Rendered

from . import tables
from .parse import NEM_OFFSET
from .records import READ, READ_B2B, Record, invalid, records_of
from .tables import Code

VERSION = "NEM13"
_FIELDS = range(22, 24)  # of a 250 record; the load time is absent in old files
_PARTICIPANT = "GRIDPOST"
_WIDTHS = (("NMI", 10), ("meter serial", 12), ("NMI suffix", 2))
_MAX_FINDINGS = 100
_EXACT = Context(prec=64)
# DirectionIndicator -> flow direction: E from the grid to the customer, I into the grid.
_FLOWS = {"E": tables.FORWARD, "I": tables.REVERSE}
_DIRECTIONS = {flow: letter for letter, flow in _FLOWS.items()}
_DELTA = 4


class _Read(NamedTuple):
    """A 250 record: whose, both stands, the energy between them."""

    line: int
    site: Site
    previous: RegisterReading
    current: RegisterReading
    quantity: str


# --- reading ---------------------------------------------------------------------------------------------------------


def to_parsed(raw: bytes, options: FormatOptions) -> Parsed:
    """Return the readings, the site table and the warnings of a file; 550 records are noted as not carried.

    Raises:
        FileInvalid: with an item for each record that cannot be used.
    """
    records, notes = records_of(raw, VERSION)
    found: list[_Read] = []
    items: list[Item] = []
    for record in records[1:-1]:
        try:
            if record.fields[0] == READ:
                found.append(_read(record, options))
            elif record.fields[0] == READ_B2B:
                reason = f"the 550 record {','.join(record.fields)} is not a reading"
                notes.append(Item("not-carried", reason, f"line {record.line}"))
            else:
                raise invalid(record.line, f"record indicator {record.fields[0][:20]!r} is not one of {VERSION}")
        except FileInvalid as error:
            items += error.items
        if len(items) >= _MAX_FINDINGS:
            break
    stands = _stands(found, items, notes)
    blocks = _blocks(found, items)
    if items:
        raise FileInvalid(f"{items[0].path}: {items[0].reason}", items=items)
    sites = {one.site.channel: one.site for one in found}
    return Parsed(Readings(tuple(blocks), tuple(stands)), sites, tuple(notes))


def _read(record: Record, options: FormatOptions) -> _Read:
    fields = list(record.fields)
    while len(fields) > _FIELDS.stop - 1 and not fields[-1]:
        fields.pop()
    if len(fields) not in _FIELDS:
        raise invalid(record.line, f"a 250 record has 23 fields, not {len(record.fields)}")
    _, nmi, configuration, register, suffix, datastream, serial, direction = fields[:8]
    if not nmi or not suffix:
        raise invalid(record.line, "the 250 record lacks the NMI or the NMI suffix")
    key = _key(record.line, (nmi, serial or nmi, suffix), (direction, fields[19]), options)
    site = Site(key, nem12_suffix=suffix, nem12_configuration=configuration, nem12_register=register,
                nem12_datastream=datastream, nem12_next_read=fields[20], unit=fields[19])  # fmt: skip
    previous, current = (_stand(record.line, key, fields[at : at + 5]) for at in (8, 13))
    if current.time_utc <= previous.time_utc:
        raise invalid(record.line, "the current reading is not later than the previous one")
    return _Read(record.line, site, previous, current, _value(record.line, "quantity", fields[18]))


def _key(line: int, names: tuple[str, str, str], said: tuple[str, str], options: FormatOptions) -> ChannelKey:
    """Return the register's key: the site table's, where one row means it, else by direction and unit."""
    near = [
        site.channel
        for site in options.sites.values()
        if (site.custid or site.channel.usage_point, site.recid or site.channel.meter) == names[:2]
        and (site.nem12_suffix or site.channel.stream) == names[2]
    ]
    if len(near) == 1:
        return near[0]._replace(reading_type=str(ReadingType.parse(near[0].reading_type).register()))
    direction, uom = said
    try:
        power, unit = units.unit_code(uom)
    except FileInvalid as error:
        raise invalid(line, error.reason) from error
    if direction not in _FLOWS or unit not in (meaning[1] for meaning in tables.SUFFIXES.values()):
        reason = f"direction {direction[:20]!r} with unit {uom!r} means what the site says: give a site table"
        raise invalid(line, reason)
    kind = tables.reading_type("E1", "kWh", 30).register()
    return ChannelKey(*names, str(kind._replace(flow_direction=_FLOWS[direction], multiplier=power, unit=unit)))


def _stand(line: int, key: ChannelKey, fields: Sequence[str]) -> RegisterReading:
    value, time, method, reason, text = fields
    if not tables.METHOD.match(method) or method[0] in "NV":
        raise invalid(line, f"quality method {method[:20]!r} is not A, E, F or S with its two digits")
    if not tables.REASON.match(reason):
        raise invalid(line, f"reason code {reason[:20]!r} is not a number of up to three digits")
    code = Code(method, reason, text)
    return RegisterReading(key, _utc(line, time), _value(line, "register read", value), tables.qualities(code))


def _value(line: int, name: str, text: str) -> str:
    try:
        value = units.decimal_text(text)
    except ValueError as error:
        raise invalid(line, f"{name} {text[:40]!r} is {error}") from error
    if value.startswith("-"):
        raise invalid(line, f"{name} {value} is negative, which {VERSION} has not")
    return value


def _utc(line: int, text: str) -> int:
    """Return the UTC seconds of a moment ``CCYYMMDDhhmmss`` of NEM time."""
    try:
        if not (len(text) == 14 and text.isascii() and text.isdigit() and "1971" <= text[:4] <= "2199"):
            raise ValueError("not CCYYMMDDhhmmss")
        return units.seconds_of(datetime.fromisoformat(f"{text[:8]}T{text[8:]}+00:00")) - NEM_OFFSET
    except ValueError as error:
        raise invalid(line, f"read time {text[:20]!r}: {error}") from error


def _stands(found: Sequence[_Read], items: list[Item], notes: list[Item]) -> list[RegisterReading]:
    """Return each stand once: a record's first is the one before's second. What contradicts goes to `items`."""
    seen: dict[tuple[ChannelKey, int], RegisterReading] = {}
    for one in found:
        for stand in (one.previous, one.current):
            before = seen.setdefault((stand.channel, stand.time_utc), stand)
            where = f"line {one.line}"
            if Decimal(before.value) != Decimal(stand.value):
                reason = f"{stand.value} contradicts the read {before.value} of {units.format_utc(stand.time_utc)}"
                items.append(Item(FileInvalid.code, reason, where))
            elif before.qualities != stand.qualities:
                reason = f"a second quality of the read of {units.format_utc(stand.time_utc)}"
                notes.append(Item("not-carried", reason, where))
    return list(seen.values())


def _blocks(found: Sequence[_Read], items: list[Item]) -> list[IntervalBlock]:
    """Return the quantities: an interval each, since reads are as far apart as they are; none overlaps another."""
    last: dict[ChannelKey, int] = {}
    blocks = []
    for one in sorted(found, key=lambda read: read.previous.time_utc):
        kind = ReadingType.parse(one.previous.channel.reading_type)._replace(accumulation=_DELTA)
        key = one.previous.channel._replace(reading_type=str(kind))
        if last.get(key, one.previous.time_utc) > one.previous.time_utc:
            reason = "the time since the previous read is another record's"
            items.append(Item(FileInvalid.code, reason, f"line {one.line}"))
        last[key] = one.current.time_utc
        length_s = one.current.time_utc - one.previous.time_utc
        quality = (one.current.qualities,)
        blocks.append(IntervalBlock(key, length_s, (one.current.time_utc,), (one.quantity,), quality))
    return blocks


# --- writing ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Register:
    """A register's stands in order, with the site's row, and what intervals say was used until each."""

    key: ChannelKey
    site: Site
    stands: list[RegisterReading]
    quantities: dict[tuple[int, int], str]

    @property
    def names(self) -> tuple[str, str, str]:
        site, key = self.site, self.key
        nmi, serial = site.custid or key.usage_point, site.recid or key.meter
        fitting = len(key.stream) == 2 and key.stream.isalnum()
        suffix = site.nem12_suffix or (key.stream if fitting else tables.suffix(ReadingType.parse(key.reading_type)))
        return nmi, "" if serial == nmi else serial, suffix

    @property
    def where(self) -> str:
        return f"{self.key.usage_point}/{self.key.meter}/{self.key.stream or self.key.reading_type}"


def to_rendered(readings: Readings, options: FormatOptions) -> Rendered:
    """Return the file and, listed, what it does not hold.

    Raises:
        CannotRepresent: no two stands of a register, or something without which the file would be wrong.
    """
    losses: list[Item] = []
    registers = _registers(readings, options, losses)
    out = io.StringIO(newline="")
    write = csv.writer(out, lineterminator="\r\n").writerow
    created = _nem(options.created_utc_ms // 1000)
    write(("100", VERSION, created[:12], _PARTICIPANT, _PARTICIPANT))
    count = 0
    for register in registers:
        for record in _records(register, created, losses):
            write(record)
            count += 1
    if not count:
        raise CannotRepresent(f"there are no two readings of a register, which a {VERSION} record needs")
    write(("900",))
    return Rendered(out.getvalue().encode(), tuple(losses))


def _registers(readings: Readings, options: FormatOptions, losses: list[Item]) -> list[_Register]:
    found: dict[ChannelKey, _Register] = {}
    sites = {_register_of(key): site for key, site in options.sites.items()}
    for stand in sorted(readings.registers, key=lambda one: one.time_utc):
        if (options.from_utc is None or stand.time_utc >= options.from_utc) and (
            options.to_utc is None or stand.time_utc <= options.to_utc
        ):
            site = sites.get(_register_of(stand.channel), Site(stand.channel))
            register = found.setdefault(stand.channel, _Register(stand.channel, site, [], {}))
            register.stands.append(stand)
    by_type = {_register_of(key): register for key, register in found.items()}
    for block in readings.blocks:
        owner = by_type.get(_register_of(block.channel))
        if owner is None or block.interval_s in (minutes * 60 for minutes in tables.INTERVAL_MINUTES):
            where = "/".join(block.channel[:3])
            losses.append(Item(CannotRepresent.code, f"{len(block.values)} intervals have no place", where))
            continue
        for end_utc, value in zip(block.ends_utc, block.values, strict=True):
            if value is not None:
                owner.quantities[end_utc - block.interval_s, end_utc] = value
    return list(found.values())


def _register_of(key: ChannelKey) -> ChannelKey:
    """Return the key of the register behind a channel, by which both are found."""
    return key._replace(reading_type=str(ReadingType.parse(key.reading_type).register()))


def _records(register: _Register, created: str, losses: list[Item]) -> Iterator[tuple[str, ...]]:
    if len(register.stands) < 2:
        losses.append(Item(CannotRepresent.code, "one reading of the register is no record", register.where))
        return
    kind, site = ReadingType.parse(register.key.reading_type), register.site
    nmi, serial, suffix = register.names
    for (name, width), text in zip(_WIDTHS, (nmi, serial, suffix), strict=True):
        if len(text) > width or not (text.isascii() and text.isprintable()) or set(text) & set(',"'):
            raise CannotRepresent(f"{register.where}: {name} {text!r} is not {width} or fewer ASCII characters")
    uom, direction = _uom(site, kind), _DIRECTIONS.get(kind.flow_direction, "")
    if not suffix or not uom or not direction:
        raise CannotRepresent(f"{register.where}: {VERSION} has no suffix, unit or direction for {kind}")
    head = (READ, nmi, site.nem12_configuration or suffix, site.nem12_register, suffix, site.nem12_datastream, serial)
    for previous, current in pairwise(register.stands):
        texts = (*_texts(register, previous, losses), *_texts(register, current, losses))
        tail = (_quantity(register, previous, current), uom, site.nem12_next_read, created, "")
        yield *head, direction, *texts, *tail


def _uom(site: Site, kind: ReadingType) -> str:
    """Return the unit as the site writes it, which may differ in case, else its symbol."""
    return site.unit if site.unit.casefold() == kind.symbol.casefold() else kind.symbol


def _texts(register: _Register, stand: RegisterReading, losses: list[Item]) -> tuple[str, ...]:
    cell = tables.cell(stand.value, stand.qualities)
    losses += (
        Item(CannotRepresent.code, f"quality '{one.code} {one.detail}'".strip() + " has no place", register.where)
        for one in cell.lost
    )
    if stand.value.startswith("-"):
        raise CannotRepresent(f"{register.where}: {stand.value} is negative, which {VERSION} has not")
    return stand.value, _nem(stand.time_utc), *cell.code


def _quantity(register: _Register, previous: RegisterReading, current: RegisterReading) -> str:
    """Return what an interval says was used between two stands, else their difference."""
    said = register.quantities.get((previous.time_utc, current.time_utc))
    value = said or format(_EXACT.subtract(Decimal(current.value), Decimal(previous.value)), "f")
    if value.startswith("-"):
        moment = units.format_utc(current.time_utc)
        raise CannotRepresent(f"{register.where}: the register went back at {moment}; say what was used in between")
    return value


def _nem(utc: int) -> str:
    """Return a moment as NEM time, ``CCYYMMDDhhmmss``."""
    return datetime.fromtimestamp(utc + NEM_OFFSET, UTC).strftime("%Y%m%d%H%M%S")
