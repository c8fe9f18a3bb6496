"""Readings as an MDEF file, and what it cannot hold.

In: readings of one meter or several, and the options (zone, site table, creation time, period). Out: an `MdefFile` and
its losses. Every channel of a meter covers the same period; an interval without a value is 0.0 with status LA.

Do not write bytes here; that is `layout`. Nothing is cut to fit: an id that is too long is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from decimal import Decimal
from typing import NamedTuple

from gridpost import units
from gridpost.errors import CannotRepresent, Item
from gridpost.model import ChannelKey, IntervalBlock, Qualities, Quality, Readings, ReadingType, RegisterReading, Site
from gridpost.ports import FormatOptions

from . import clock, float32, status, tables
from .layout import ChannelHeader, MdefChannel, MdefFile, MdefMeter, MeterHeader, Trailer
from .parse import REJECTED

_MAX_PER_HOUR = 99  # DR_INPHR has two digits
_MAX_PHYSICAL = 99  # as has DC_PHYSCHAN
_READING_WIDTH, _MULTIPLIER_WIDTH, _DECIMALS = 12, 10, 3
_LABEL_WIDTH = 12

Cells = Mapping[int, tuple[str | None, Qualities]]


@dataclass(frozen=True, slots=True)
class _Series:
    """A channel's values by interval end, with the site's row for it."""

    key: ChannelKey
    interval_s: int
    cells: Cells
    site: Site
    logical_channel: int = 0

    @property
    def reading_type(self) -> ReadingType:
        return ReadingType.parse(self.key.reading_type)

    @property
    def where(self) -> str:
        return f"{self.key.usage_point}/{self.key.meter}/{self.key.stream or self.key.reading_type}"


class _Period(NamedTuple):
    """First moment and end, UTC seconds, and the same on the wall."""

    from_utc: int
    to_utc: int
    from_wall: int
    to_wall: int


class _Work(NamedTuple):
    """What every step needs, and the losses and used register readings it leaves."""

    options: FormatOptions
    zone: tzinfo
    registers: Mapping[tuple[str, str, int], Sequence[RegisterReading]]
    used: set[RegisterReading]
    losses: list[Item]


def from_readings(readings: Readings, options: FormatOptions) -> tuple[MdefFile, tuple[Item, ...]]:
    """Return the file and, listed, what it does not hold.

    Raises:
        CannotRepresent: no zone, nothing to write, or something without which the file would be wrong.
    """
    if options.zone is None:
        raise CannotRepresent("an MDEF file shows local standard time: say which zone it is")
    work = _Work(options, options.zone, _by_moment(readings.registers), set(), [])
    groups: dict[tuple[str, str], list[_Series]] = {}
    for series in _all_series(readings.blocks, options):
        groups.setdefault((series.key.usage_point, series.key.meter), []).append(series)
    meters = tuple(meter for group in groups.values() if (meter := _meter(group, work)))
    if not meters:
        raise CannotRepresent("there are no interval readings to write")
    _check_distinct(meters)
    work.losses.extend(_unused(readings.registers, work))
    created = clock.to_wall(options.created_utc_ms // 1000, work.zone) // 60 * 60
    return MdefFile(meters, Trailer(created=clock.minutes_text(created))), tuple(work.losses)


# --- readings, put in order ------------------------------------------------------------------------------------------


def _all_series(blocks: Sequence[IntervalBlock], options: FormatOptions) -> list[_Series]:
    """Return one series a channel, in the order of the blocks."""
    merged: dict[ChannelKey, tuple[int, dict[int, tuple[str | None, Qualities]]]] = {}
    for block in blocks:
        length_s = block.interval_s or ReadingType.parse(block.channel.reading_type).interval_s
        known_s, cells = merged.setdefault(block.channel, (length_s, {}))
        series = _Series(block.channel, length_s, cells, Site(block.channel))
        if known_s != length_s or not length_s:
            raise CannotRepresent(f"{series.where}: the interval length is unknown or changes inside the channel")
        for end_utc, cell in zip(block.ends_utc, zip(block.values, block.qualities, strict=True), strict=True):
            if cells.setdefault(end_utc, cell) != cell:
                raise CannotRepresent(f"{series.where}: two values for the interval ending {units.format_utc(end_utc)}")
    return [
        _Series(key, length_s, cells, options.sites.get(key, Site(key))) for key, (length_s, cells) in merged.items()
    ]


def _by_moment(readings: Sequence[RegisterReading]) -> Mapping[tuple[str, str, int], Sequence[RegisterReading]]:
    found: dict[tuple[str, str, int], list[RegisterReading]] = {}
    for reading in readings:
        found.setdefault((reading.channel.usage_point, reading.channel.meter, reading.time_utc), []).append(reading)
    return found


def _numbered(group: Sequence[_Series]) -> list[_Series]:
    """Return the channels of a meter by logical channel: the site's number, or the lowest free one in order."""
    given = [series.site.logical_channel for series in group if series.site.logical_channel]
    if len(set(given)) != len(given):
        raise CannotRepresent(f"{group[0].where}: the site table gives two channels of the meter one logical channel")
    free = (number for number in range(1, len(group) + len(given) + 1) if number not in given)
    numbered = [replace(series, logical_channel=series.site.logical_channel or next(free)) for series in group]
    return sorted(numbered, key=lambda series: series.logical_channel)


def _period(group: Sequence[_Series], work: _Work) -> _Period | None:
    """Return the period all channels of a meter cover: as asked for, else the extent of the values; None when none."""
    options = work.options
    starts = [min(series.cells) - series.interval_s for series in group if series.cells]
    ends = [max(series.cells) for series in group if series.cells]
    if not (starts or (options.from_utc is not None and options.to_utc is not None)):
        return None
    from_utc = min(starts) if options.from_utc is None else options.from_utc
    to_utc = max(ends) if options.to_utc is None else options.to_utc
    period = _Period(from_utc, to_utc, clock.to_wall(from_utc, work.zone), clock.to_wall(to_utc, work.zone))
    if to_utc <= from_utc:
        raise CannotRepresent(f"{group[0].where}: the period ends before it begins")
    if period.to_wall - period.from_wall != to_utc - from_utc:
        raise CannotRepresent(f"{group[0].where}: the zone's standard time changes inside the period")
    # Channels of different interval lengths end at different moments: widen to whole intervals of the longest.
    step = max(series.interval_s for series in group)
    if options.from_utc is None and len({series.interval_s for series in group}) > 1:
        period = _widened(period, step)
    return period


def _widened(period: _Period, step: int) -> _Period:
    before, after = period.from_wall % step, -period.to_wall % step
    return _Period(period.from_utc - before, period.to_utc + after, period.from_wall - before, period.to_wall + after)


# --- records ---------------------------------------------------------------------------------------------------------


def _meter(group: Sequence[_Series], work: _Work) -> MdefMeter | None:
    for series in group:
        _per_hour(series)
    period = _period(group, work)
    if period is None:
        return None
    custid, recid = (_one_name(group, name) for name in ("custid", "recid"))
    sites = [series.site for series in group]
    header = MeterHeader(
        custid=_ascii("CUSTID", custid or group[0].key.usage_point, group[0]),
        name=_ascii("name", _first(sites, "name"), group[0]),
        address1=_ascii("address1", _first(sites, "address1"), group[0]),
        address2=_ascii("address2", _first(sites, "address2"), group[0]),
        account=_ascii("account", _first(sites, "account"), group[0]),
        channel_count=f"{len(group):04d}",
        ta_start=clock.start_text(period.from_wall),
        ta_stop=clock.stop_text(period.to_wall),
    )
    recid = _ascii("RECID", recid or group[0].key.meter, group[0])
    channels = tuple(_channel(series, (header, recid), period, work) for series in _numbered(group))
    return MdefMeter(header, channels)


def _one_name(group: Sequence[_Series], name: str) -> str:
    """Return the CUSTID or RECID the site table gives the meter; empty when it gives none."""
    given = sorted({getattr(series.site, name) for series in group} - {""})
    if len(given) > 1:
        raise CannotRepresent(f"{group[0].where}: the site table gives one meter several {name}: {', '.join(given)}")
    return "".join(given)


def _channel(series: _Series, meter: tuple[MeterHeader, str], period: _Period, work: _Work) -> MdefChannel:
    site, (top, recid) = series.site, meter
    cells = [series.cells.get(end, (None, ())) for end in _ends(series, period)]
    rejected = {quality.detail for _, qualities in cells for quality in qualities if _is_td_status(quality)}
    start, stop, multiplier = _readings(series, period, work)
    header = ChannelHeader(
        custid=top.custid,
        recid=recid,
        label=_label(series, work),
        ta_start=top.ta_start,
        ta_stop=top.ta_stop,
        physical_channel=_physical(series),
        logical_channel=series.logical_channel,
        uom_code=_uom_code(series, work),
        start_reading=start,
        stop_reading=stop,
        meter_multiplier=multiplier,
        service_type=_ascii("service_type", site.service_type or "W", series),
        intervals_per_hour=_per_hour(series),
        td_status=_ascii("TD_STATUS", min(rejected, default=REJECTED + "AC").removeprefix(REJECTED), series),
        flow=_ascii("flow", site.flow or tables.flow(series.reading_type), series),
    )
    masks = [_masks(value, qualities) for value, qualities in cells]
    values = tuple(0 if value is None else float32.bits_of(Decimal(value)) for value, _ in cells)
    work.losses.extend(_value_losses(series, period))
    work.losses.extend(_quality_losses(series, masks))
    return MdefChannel(
        header, top.custid, values, tuple(mask.channel for mask in masks), tuple(mask.interval for mask in masks)
    )


def _ends(series: _Series, period: _Period) -> range:
    """Return the interval ends of the period; every value must have its place there."""
    if (period.to_utc - period.from_utc) % series.interval_s:
        raise CannotRepresent(f"{series.where}: the period is no whole number of intervals of {series.interval_s} s")
    ends = range(period.from_utc + series.interval_s, period.to_utc + 1, series.interval_s)
    for end in series.cells:
        if period.from_utc < end <= period.to_utc and end not in ends:
            raise CannotRepresent(f"{series.where}: the interval ending {units.format_utc(end)} is off the grid")
    return ends


def _masks(value: str | None, qualities: Qualities) -> status.Masks:
    mask = status.masks(tuple(quality for quality in qualities if not _is_td_status(quality)))
    return mask._replace(interval=mask.interval | status.MISSING) if value is None else mask


def _is_td_status(quality: Quality) -> bool:
    return quality.detail.startswith(REJECTED)


def _per_hour(series: _Series) -> str:
    per_hour, rest = divmod(3600, series.interval_s)
    if rest or not 1 <= per_hour <= _MAX_PER_HOUR:
        reason = f"intervals of {series.interval_s} s are not 1 to {_MAX_PER_HOUR} an hour, which DR_INPHR needs"
        raise CannotRepresent(f"{series.where}: {reason}")
    return f"{per_hour:02d}"


def _physical(series: _Series) -> str:
    number = series.site.physical_channel or series.logical_channel
    if number > _MAX_PHYSICAL:
        raise CannotRepresent(f"{series.where}: physical channel {number} has more than two digits")
    return f"{number:02d}"


def _label(series: _Series, work: _Work) -> str:
    """Return the site's label, else the stream name where it fits, else one made from the reading type."""
    if series.site.label:
        return _ascii("label", series.site.label, series)
    stream = series.key.stream
    if stream and stream.isascii() and stream.isprintable() and len(stream) <= _LABEL_WIDTH:
        return stream
    if stream:
        reason = f"the stream name {stream!r} is no label of {_LABEL_WIDTH} ASCII characters; a site table can give one"
        work.losses.append(Item(CannotRepresent.code, reason, series.where))
    return tables.label(series.reading_type)[:_LABEL_WIDTH]


def _uom_code(series: _Series, work: _Work) -> str:
    code = series.site.uom_code or tables.uom_code(series.reading_type)
    if code == tables.OTHER and not series.site.uom_code:
        symbol = series.reading_type.symbol or series.key.reading_type
        reason = f"unit code {code}, other, stands for {symbol}; a site table can give the right one"
        work.losses.append(Item(CannotRepresent.code, reason, series.where))
    return _ascii("uom_code", code, series)


def _ascii(name: str, text: str, series: _Series) -> str:
    if not (text.isascii() and text.isprintable()) or text != text.strip():
        raise CannotRepresent(f"{series.where}: {name} {text!r} is not printable ASCII without blanks around it")
    return text


def _first(sites: Sequence[Site], name: str) -> str:
    return next((text for site in sites if (text := getattr(site, name))), "")


def _check_distinct(meters: Sequence[MdefMeter]) -> None:
    """Refuse two meters that the file would show as one."""
    named = [(meter.header.custid, channel.header.recid) for meter in meters for channel in meter.channels[:1]]
    if twice := [name for name, count in Counter(named).items() if count > 1]:
        raise CannotRepresent(f"two meters would both be CUSTID {twice[0][0]!r}, RECID {twice[0][1]!r}")


# --- register readings -----------------------------------------------------------------------------------------------


def _readings(series: _Series, period: _Period, work: _Work) -> tuple[str, str, str]:
    """Return STRTMTR, STOPMTR and DC_MMULT; a dial shows engineering units divided by the multiplier."""
    multiplier = Decimal(series.site.meter_multiplier or 1)
    found = [_stand(series, moment, work) for moment in (period.from_utc, period.to_utc)]
    if tables.has_register(series.reading_type) and None in found:
        reason = "no register reading lies on the period's start or end: STRTMTR or STOPMTR is zero"
        work.losses.append(Item(CannotRepresent.code, reason, series.where))
    start, stop = (_fixed(series, (value or Decimal(0)) / (multiplier or 1), _READING_WIDTH, work) for value in found)
    return start, stop, _fixed(series, multiplier, _MULTIPLIER_WIDTH, work)


def _stand(series: _Series, time_utc: int, work: _Work) -> Decimal | None:
    for reading in work.registers.get((series.key.usage_point, series.key.meter, time_utc), ()):
        own_type = ReadingType.parse(reading.channel.reading_type)
        if reading.channel.stream in ("", series.key.stream) and own_type.reads_register_of(series.reading_type):
            work.used.add(reading)
            return Decimal(reading.value)
    return None


def _fixed(series: _Series, value: Decimal, width: int, work: _Work) -> str:
    """Return ``%0<width>.3f`` with as many decimals as fit, as MV-90 writes numbers."""
    for decimals in range(_DECIMALS, -1, -1):
        text = f"{value:0{width}.{decimals}f}"
        if len(text) <= width:
            break
    else:
        raise CannotRepresent(f"{series.where}: {value} does not fit into {width} characters")
    if Decimal(text) != value:
        work.losses.append(Item(CannotRepresent.code, f"{value} is written as {text}", series.where))
    return text


# --- losses ----------------------------------------------------------------------------------------------------------


def _value_losses(series: _Series, period: _Period) -> Iterator[Item]:
    for end, (value, _) in series.cells.items():
        if value is not None and period.from_utc < end <= period.to_utc and not float32.holds(Decimal(value)):
            held = format(float32.shortest(float32.bits_of(Decimal(value))), "f")
            where = f"{series.where} {units.format_utc(end)}"
            yield Item(CannotRepresent.code, f"{value} is held as {held}, the nearest 32-bit number", where)


def _quality_losses(series: _Series, masks: Sequence[status.Masks]) -> Iterator[Item]:
    counts = Counter(quality for mask in masks for quality in mask.lost)
    for quality, count in counts.items():
        name = f"{quality.code} {quality.detail}".strip()
        yield Item(CannotRepresent.code, f"no status says all of quality {name!r}, on {count} intervals", series.where)


def _unused(readings: Sequence[RegisterReading], work: _Work) -> Iterator[Item]:
    options = work.options
    for reading in readings:
        asked_for = (options.from_utc is None or options.from_utc <= reading.time_utc) and (
            options.to_utc is None or reading.time_utc <= options.to_utc
        )
        if asked_for and reading not in work.used:
            where = f"{reading.channel.usage_point}/{reading.channel.meter}/{reading.channel.stream}"
            reason = f"the register reading {reading.value} of {units.format_utc(reading.time_utc)} is on no boundary"
            yield Item(CannotRepresent.code, reason, where)
