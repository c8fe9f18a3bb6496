"""The record of two numbers a small reader wants: energy used this month and today, where, by what device.

Shared by `csv_line` and `xml_record`, which write it in two ways. In: readings; out: records, and back. A record's
moment is that of its reading; month and day are the local ones, of the zone given, UTC where none is.

This is the one place of both where intervals become sums. Decimal, exactly; no rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from decimal import Context, Decimal
from typing import NamedTuple

from gridpost import units
from gridpost.errors import CannotRepresent, FileInvalid, Item
from gridpost.model import ChannelKey, IntervalBlock, Readings, ReadingType, RegisterReading, Site
from gridpost.ports import FormatOptions, Parsed

MONTH, DAY = "kWhMonth", "kWhDay"
_MONTHLY, _DAILY, _SUM, _KILO, _WH, _FORWARD, _DELTA = 13, 11, 9, 3, 72, 1, 4
_TO_DATE = ReadingType(*[0] * 18)._replace(
    accumulation=_SUM, flow_direction=_FORWARD, commodity=1, measurement_kind=12, multiplier=_KILO, unit=_WH
)
# Energy summed since the local month or day began (IEC 61968-9 annex C, macroPeriod 13 monthly, 11 daily).
TYPES = {MONTH: _TO_DATE._replace(macro_period=_MONTHLY), DAY: _TO_DATE._replace(macro_period=_DAILY)}
_EXACT = Context(prec=64)  # more digits than any sum of values of 18 has
_KINDS = {str(reading_type): name for name, reading_type in TYPES.items()}


class UsageRecord(NamedTuple):
    """kWh used this month and today, as text; where; type of device; the moment, UTC seconds; its place in a file."""

    month: str
    day: str
    location: str
    device_type: str
    time_utc: int | None = None
    place: str = ""


@dataclass(slots=True)
class _Meter:
    """What there is of a usage point and meter."""

    key: ChannelKey
    stands: dict[str, RegisterReading] = field(default_factory=dict)
    blocks: list[IntervalBlock] = field(default_factory=list)

    @property
    def where(self) -> str:
        return f"{self.key.usage_point}/{self.key.meter}"


# --- records to readings ---------------------------------------------------------------------------------------------


def to_parsed(records: Sequence[UsageRecord], options: FormatOptions, notes: Iterable[Item] = ()) -> Parsed:
    """Return each record's two sums as stands of registers; the location is the usage point, the device type the meter.

    A record without a moment is of `options.to_utc`.

    Raises:
        FileInvalid: with an item a record that cannot be used.
    """
    registers: list[RegisterReading] = []
    items: list[Item] = []
    seen: set[tuple[str, str, int]] = set()
    for record in records:
        try:
            registers += _registers(record, seen, options)
        except ValueError as error:
            items.append(Item(FileInvalid.code, str(error), record.place))
    if items:
        raise FileInvalid(f"{items[0].path}: {items[0].reason}", items=items)
    return Parsed(Readings((), tuple(registers)), {}, tuple(notes))


def _registers(
    record: UsageRecord, seen: set[tuple[str, str, int]], options: FormatOptions
) -> Iterator[RegisterReading]:
    time_utc = options.to_utc if record.time_utc is None else record.time_utc
    if time_utc is None:
        raise ValueError("nothing says of which moment the record is; name it")
    for name, text in (("location", record.location), ("device type", record.device_type)):
        if not text or not text.isprintable():
            raise ValueError(f"the {name} {text[:40]!r} is empty or does not print")
    if (record.location, record.device_type, time_utc) in seen:
        raise ValueError(f"a second record of {record.location}, {record.device_type}")
    seen.add((record.location, record.device_type, time_utc))
    if not record.month and not record.day:
        raise ValueError("neither the month's nor the day's energy is there")
    for name, text in ((MONTH, record.month), (DAY, record.day)):
        if text:
            key = _key(record, name, options)
            yield RegisterReading(key, time_utc, _literal(name, text))


def _literal(name: str, text: str) -> str:
    try:
        return units.decimal_text(text)
    except ValueError as error:
        raise ValueError(f"{name} {text[:40]!r} is {error}") from error


def _key(record: UsageRecord, name: str, options: FormatOptions) -> ChannelKey:
    """Return the names the site table has for a location and device type, else these themselves."""
    near = {
        site.channel[:2]
        for site in options.sites.values()
        if (_location(site), _device_type(site)) == (record.location, record.device_type)
    }
    usage_point, meter = near.pop() if len(near) == 1 else (record.location, record.device_type)
    return ChannelKey(usage_point, meter, name, str(TYPES[name]))


def _location(site: Site) -> str:
    return site.address1 or site.custid or site.channel.usage_point


def _device_type(site: Site) -> str:
    return site.recid or site.channel.meter


# --- readings to records ---------------------------------------------------------------------------------------------


def from_readings(readings: Readings, options: FormatOptions) -> tuple[list[UsageRecord], list[Item]]:
    """Return a record a meter, of its newest moment (at most `options.to_utc`), and what has no place there.

    Raises:
        CannotRepresent: nothing to write, two channels of energy used for one meter, or names that do not print.
    """
    losses: list[Item] = []
    meters = _meters(readings, options, losses)
    records = [_record(meter, options, losses) for meter in meters]
    if not records:
        raise CannotRepresent("there is no energy used, forward, to write")
    return records, losses


def _meters(readings: Readings, options: FormatOptions, losses: list[Item]) -> list[_Meter]:
    found: dict[tuple[str, str], _Meter] = {}
    last = options.to_utc if options.to_utc is not None else 1 << 62
    for register in readings.registers:
        name = _KINDS.get(register.channel.reading_type)
        if name is None or register.time_utc > last:
            losses.append(_no_place(register.channel, "a register reading"))
            continue
        meter = found.setdefault(register.channel[:2], _Meter(register.channel))
        before = meter.stands.get(name)
        if before is None or before.time_utc < register.time_utc:
            meter.stands[name] = register
        if before is not None:
            losses.append(_no_place(register.channel, "an older record"))
    for block in readings.blocks:
        kind = ReadingType.parse(block.channel.reading_type)
        if (kind.accumulation, kind.flow_direction, kind.unit) != (_DELTA, _FORWARD, _WH):
            losses.append(_no_place(block.channel, f"{len(block.values)} intervals"))
            continue
        meter = found.setdefault(block.channel[:2], _Meter(block.channel))
        if meter.blocks and meter.blocks[0].channel != block.channel:
            raise CannotRepresent(f"{meter.where}: two channels of energy used; the record has room for one")
        meter.blocks.append(block)
    return [meter for meter in found.values() if meter.stands or any(block.ends_utc for block in meter.blocks)]


def _record(meter: _Meter, options: FormatOptions, losses: list[Item]) -> UsageRecord:
    site = options.sites.get(meter.key, Site(meter.key))
    if meter.stands:
        moments = {stand.time_utc for stand in meter.stands.values()}
        if len(moments) > 1 or meter.blocks:
            raise CannotRepresent(f"{meter.where}: sums of several moments, or intervals beside them")
        month, day = (meter.stands[name].value if name in meter.stands else "" for name in (MONTH, DAY))
        losses += (_no_place(stand.channel, "a quality") for stand in meter.stands.values() if stand.qualities)
        return _named(meter, UsageRecord(month, day, _location(site), _device_type(site), moments.pop()))
    moment, month, day = _sums(meter, options, losses)
    return _named(meter, UsageRecord(month, day, _location(site), _device_type(site), moment))


def _named(meter: _Meter, record: UsageRecord) -> UsageRecord:
    if not (record.location.isprintable() and record.device_type.isprintable()):
        raise CannotRepresent(f"{meter.where!r}: a name that does not print")
    return record


def _sums(meter: _Meter, options: FormatOptions, losses: list[Item]) -> tuple[int, str, str]:
    """Return the newest interval's end, and the energy of its local month and day until then."""
    cells: dict[int, str | None] = {}
    last = options.to_utc if options.to_utc is not None else 1 << 62
    for block in meter.blocks:
        cells.update((end, value) for end, value in zip(block.ends_utc, block.values, strict=True) if end <= last)
    if not cells:
        raise CannotRepresent(f"{meter.where}: no interval ends by {units.format_utc(last)}")
    zone, moment = options.zone or UTC, max(cells)
    today = _local(moment, zone)
    same_month = {
        end: value for end, value in cells.items() if _local(end, zone).replace(day=1) == today.replace(day=1)
    }
    same_day = {end: value for end, value in same_month.items() if _local(end, zone) == today}
    if missing := sum(value is None for value in same_month.values()):
        losses.append(Item(CannotRepresent.code, f"{missing} intervals without a value count as nothing", meter.where))
    if any(any(block.qualities) for block in meter.blocks):
        losses.append(Item(CannotRepresent.code, "the qualities of the intervals have no place", meter.where))
    losses.append(Item(CannotRepresent.code, f"{len(cells)} intervals become two sums", meter.where))
    power = ReadingType.parse(meter.key.reading_type).multiplier - _KILO
    month, day = (_sum(some.values(), power) for some in (same_month, same_day))
    return moment, month, day


def _local(end_utc: int, zone: tzinfo) -> date:
    """Return the local day an interval is of: that of its last second."""
    return datetime.fromtimestamp(end_utc - 1, zone).date()


def _sum(values: Iterable[str | None], power: int) -> str:
    total = Decimal(0)
    for value in values:
        total = _EXACT.add(total, Decimal(value or 0))
    return format(_EXACT.scaleb(total, power), "f")


def _no_place(key: ChannelKey, what: str) -> Item:
    return Item(CannotRepresent.code, f"{what} of {key.reading_type} has no place", "/".join(key[:3]))
