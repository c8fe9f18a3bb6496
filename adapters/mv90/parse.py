"""What an MDEF file says, as readings and a site table.

In: an `MdefFile` and the options (the site's zone; its site table, where it has one). Out: `Parsed`. Values become the
shortest decimal of their binary32, statuses the qualities of `status`, register readings engineering units.

Do not read bytes here; that is `layout`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import tzinfo
from decimal import Decimal

from gridpost import units
from gridpost.errors import FileInvalid, Item
from gridpost.model import (
    ChannelKey,
    IntervalBlock,
    Qualities,
    Quality,
    Readings,
    ReadingType,
    RegisterReading,
    Site,
)
from gridpost.ports import FormatOptions, Parsed

from . import clock, float32, status, tables
from .layout import ChannelHeader, MdefChannel, MdefFile, MdefMeter, interval_s

REJECTED = "TD_STATUS "  # detail of the quality 2.6.0 that each interval of a channel not accepted carries
FAILED_VALIDATION = "2.6.0"


def to_readings(file: MdefFile, options: FormatOptions) -> Parsed:
    """Return the readings, the site table and the warnings of a file.

    Raises:
        FileInvalid: no zone was given, a channel's reading type cannot be told without a site table, or a value is no
            number of up to 18 digits.
    """
    zone = options.zone
    if zone is None:
        raise FileInvalid("an MDEF file shows local standard time: say which zone it is")
    keys = [_keys(meter, options) for meter in file.meters]
    if unknown := [item for row in keys for item in row if isinstance(item, Item)]:
        raise FileInvalid(f"{unknown[0].path}: {unknown[0].reason}", items=unknown)
    pairs = [
        (meter, channel, key)
        for meter, row in zip(file.meters, keys, strict=True)
        for channel, key in zip(meter.channels, row, strict=True)
        if isinstance(key, ChannelKey)
    ]
    blocks = tuple(_block(channel, key, zone) for _, channel, key in pairs)
    registers = tuple(found for _, channel, key in pairs for found in _registers(channel.header, key, zone))
    sites = {key: _site(meter, channel.header, key) for meter, channel, key in pairs}
    return Parsed(Readings(blocks, registers), sites, tuple(_notes(file)))


def _keys(meter: MdefMeter, options: FormatOptions) -> list[ChannelKey | Item]:
    """Return each channel's key, or what is wrong with it; a stream name is the label where that tells them apart."""
    labels = Counter((channel.header.recid, channel.header.label) for channel in meter.channels)
    return [
        _key(channel.header, labels[channel.header.recid, channel.header.label] > 1, options)
        for channel in meter.channels
    ]


def _key(header: ChannelHeader, shared: bool, options: FormatOptions) -> ChannelKey | Item:
    if site := _in_site_table(header, options):
        return site.channel
    where = f"{header.custid.strip()} {header.recid.strip()} channel {header.logical_channel}"
    quantity = tables.QUANTITIES.get((header.uom_code, header.flow))
    if quantity is None:
        reason = f"unit code {header.uom_code!r} with flow {header.flow!r} means what the site says: give a site table"
        return Item(FileInvalid.code, reason, where)
    reading_type = tables.reading_type(quantity, interval_s(header))
    label = header.label.strip()
    stream = " ".join(filter(None, (label, f"{header.logical_channel:02d}"))) if shared or not label else label
    return ChannelKey(header.custid.strip(), header.recid.strip(), stream, str(reading_type))


def _in_site_table(header: ChannelHeader, options: FormatOptions) -> Site | None:
    """Return the one row that means this channel: by its CUSTID, RECID, and logical channel or label."""
    custid, recid, label = header.custid.strip(), header.recid.strip(), header.label.strip()
    near = [
        site
        for site in options.sites.values()
        if (site.custid or site.channel.usage_point, site.recid or site.channel.meter) == (custid, recid)
        and site.logical_channel in (0, header.logical_channel)
        and (site.logical_channel or label in (site.label, site.channel.stream))
    ]
    return near[0] if len(near) == 1 else None


def _block(channel: MdefChannel, key: ChannelKey, zone: tzinfo) -> IntervalBlock:
    header = channel.header
    length_s = interval_s(header)
    start, stop = _period(header, zone)
    count = len(channel.values)
    if stop - start != count * length_s:
        raise FileInvalid(f"{_where(key)}: the zone's standard time changes between TA_START and TA_STOP")
    channel_statuses = channel.channel_statuses or (0,) * count
    interval_statuses = channel.interval_statuses or (0,) * count
    rejected = _rejected(header)
    return IntervalBlock(
        key,
        length_s,
        tuple(range(start + length_s, stop + 1, length_s)),
        tuple(_value(bits, mask, key) for bits, mask in zip(channel.values, interval_statuses, strict=True)),
        tuple(status.qualities(*pair) + rejected for pair in zip(channel_statuses, interval_statuses, strict=True)),
    )


def _period(header: ChannelHeader, zone: tzinfo) -> tuple[int, int]:
    start = clock.parse_minutes(header.ta_start) - 60
    return clock.to_utc(start, zone), clock.to_utc(clock.parse_minutes(header.ta_stop), zone)


def _value(bits: int, interval_status: int, key: ChannelKey) -> str | None:
    if bits == 0 and interval_status & status.MISSING:
        return None
    try:
        return units.decimal_text(format(float32.shortest(bits), "f"))
    except ValueError as error:
        raise FileInvalid(f"{_where(key)}: the interval value with the bits {bits:08X} is {error}") from error


def _rejected(header: ChannelHeader) -> Qualities:
    accepted = header.td_status in ("", "AC")
    return () if accepted else (Quality(FAILED_VALIDATION, REJECTED + header.td_status),)


def _registers(header: ChannelHeader, key: ChannelKey, zone: tzinfo) -> Iterator[RegisterReading]:
    """Yield the start and stop readings, dial times multiplier; zero stands for none."""
    register = key._replace(reading_type=str(ReadingType.parse(key.reading_type).register()))
    multiplier = _number(header.meter_multiplier or "1", key).normalize()
    texts = (header.start_reading, header.stop_reading)
    for text, time_utc in zip(texts, _period(header, zone), strict=True):
        reading = _number(text or "0", key) * multiplier
        if reading:
            yield RegisterReading(register, time_utc, str(_number(format(reading, "f"), key)))


def _number(text: str, key: ChannelKey) -> Decimal:
    try:
        return Decimal(units.decimal_text(text.strip()))
    except ValueError as error:
        raise FileInvalid(f"{_where(key)}: {text!r} in the channel header is {error}") from error


def _site(meter: MdefMeter, header: ChannelHeader, key: ChannelKey) -> Site:
    top = meter.header
    physical = header.physical_channel.strip()
    site = Site(
        key,
        custid=header.custid.strip(),
        recid=header.recid.strip(),
        uom_code=header.uom_code,
        logical_channel=header.logical_channel,
        physical_channel=int(physical) if physical.isascii() and physical.isdigit() else 0,
        label=header.label.strip(),
    )
    return replace(
        site,
        name=top.name,
        address1=top.address1,
        address2=top.address2,
        account=top.account,
        meter_multiplier=format(_number(header.meter_multiplier or "1", key), "f"),
        service_type=header.service_type,
        flow=header.flow,
    )


def _notes(file: MdefFile) -> Iterator[Item]:
    for meter in file.meters:
        stated = meter.header.channel_count.strip()
        if not (stated.isascii() and stated.isdigit() and int(stated) == len(meter.channels)):
            reason = f"CM_LOGCHANS says {stated!r} channels; the file has {len(meter.channels)}"
            yield Item("channel-count", reason, meter.header.custid.strip())
        for channel in meter.channels:
            if _rejected(channel.header):
                reason = f"MV-90 did not accept these data (TD_STATUS {channel.header.td_status})"
                yield Item("not-accepted", reason, f"{channel.header.custid} {channel.header.label}".strip())


def _where(key: ChannelKey) -> str:
    return f"{key.usage_point}/{key.meter}/{key.stream}"
