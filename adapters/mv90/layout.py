"""MDEF byte for byte: records of 216 bytes to a value that keeps every one of them, and back.

In: the bytes of a whole file; out: an `MdefFile` whose `render_file` gives the same bytes. Each field of a header is
declared once, with its place, and the unnamed stretches are fields too, so what they hold survives.

Do not interpret anything here: no units, zones, statuses or numbers; `parse` and `render` do. Sources: the table in
README.md. All integers are little-endian; text is kept as Latin-1, which holds any byte.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, TypeVar

from gridpost.errors import CannotRepresent, FileInvalid, Item

from . import clock

RECORD = 216
METER, CHANNEL, FIRST_DATA, LAST_DATA, TRAILER = 1, 10, 1001, 9998, 9999
DATA_AT = 24  # of an interval record; before it length, code and CUSTID
DATA_BYTES = RECORD - DATA_AT
PADDING = b"\xff\x7f"
BLANK, NUL = b" ", b"\0"
_CUSTID = slice(4, 24)
_COUNT = slice(34, 44)


class Place(NamedTuple):
    """Where a field lies: offset, length, and what fills the rest of a text; None marks a 16-bit whole number."""

    offset: int
    length: int
    pad: bytes | None


def _text(offset: int, length: int, default: str = "", pad: bytes = NUL) -> Any:
    return field(default=default, metadata={"place": Place(offset, length, pad)})


def _blank(offset: int, length: int, default: str = "") -> Any:
    return _text(offset, length, default, BLANK)


def _number(offset: int, default: int = 0) -> Any:
    return field(default=default, metadata={"place": Place(offset, 2, None)})


@dataclass(frozen=True, slots=True)
class MeterHeader:
    """Record 1: whose data follow. Text is padded with blanks."""

    custid: str = _blank(4, 20)
    name: str = _blank(24, 20)
    address1: str = _blank(44, 20)
    address2: str = _blank(64, 20)
    account: str = _blank(84, 20)
    unnamed_104: str = _blank(104, 7)
    channel_count: str = _blank(111, 4, "0000")
    unnamed_115: str = _blank(115, 4)
    ta_start: str = _blank(119, 12)
    ta_stop: str = _blank(131, 12)
    dst: str = _blank(143, 1, "N")
    unnamed_144: str = _blank(144, 72)


@dataclass(frozen=True, slots=True)
class ChannelHeader:
    """Record 10: one channel. Text is padded with NUL; the defaults are what all files seen hold."""

    custid: str = _text(4, 20)
    recid: str = _text(24, 14)
    unnamed_38: str = _text(38, 6)
    label: str = _text(44, 12)
    ta_start: str = _text(56, 12)
    ta_stop: str = _text(68, 12)
    constant_80: str = _text(80, 13, "000000000000N")
    physical_channel: str = _text(93, 2)
    logical_channel: int = _number(95)
    uom_code: str = _text(97, 2)
    chanstat: str = _text(99, 1, "Y")
    intstat: str = _text(100, 1, "Y")
    start_reading: str = _text(101, 12, "00000000.000")
    stop_reading: str = _text(113, 12, "00000000.000")
    constant_125: str = _text(125, 1, "3")
    meter_multiplier: str = _text(126, 10, "000001.000")
    unnamed_136: str = _text(136, 30)
    service_type: str = _text(166, 1, "W")
    unnamed_167: str = _text(167, 10)
    intervals_per_hour: str = _text(177, 2)
    unnamed_179: str = _text(179, 12)
    constant_191: str = _text(191, 2, "NA")
    td_status: str = _text(193, 2, "AC")
    unnamed_195: str = _text(195, 15)
    flow: str = _text(210, 1, "D")
    kvaset: int = _number(211)
    origin: str = _text(213, 1, "R")
    unnamed_214: str = _text(214, 2)


@dataclass(frozen=True, slots=True)
class Trailer:
    """Record 9999; the number of records beside these fields is worked out."""

    unnamed_4: str = _blank(4, 30)
    unnamed_44: str = _blank(44, 160)
    created: str = _blank(204, 12)


@dataclass(frozen=True, slots=True)
class MdefChannel:
    """A channel header and its intervals in columns.

    Attributes:
        header: record 10.
        data_custid: CUSTID as the interval records write it, NUL stripped.
        values: the 32 bits of each interval's binary32.
        channel_statuses: one an interval when CHANSTAT is Y, else empty.
        interval_statuses: one an interval when INTSTAT is Y, else empty.
    """

    header: ChannelHeader
    data_custid: str
    values: tuple[int, ...]
    channel_statuses: tuple[int, ...]
    interval_statuses: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MdefMeter:
    """A meter header and its channels."""

    header: MeterHeader
    channels: tuple[MdefChannel, ...]


@dataclass(frozen=True, slots=True)
class MdefFile:
    """A whole file."""

    meters: tuple[MdefMeter, ...]
    trailer: Trailer


_Header = TypeVar("_Header", MeterHeader, ChannelHeader, Trailer)


def interval_s(header: ChannelHeader) -> int:
    """Return the interval length in seconds.

    Raises:
        FileInvalid: DR_INPHR does not divide the hour.
    """
    text = header.intervals_per_hour.strip(" ")
    per_hour = int(text) if text.isascii() and text.isdigit() else 0
    if not per_hour or 3600 % per_hour:
        raise FileInvalid(f"DR_INPHR {header.intervals_per_hour!r} intervals an hour have no whole length in seconds")
    return 3600 // per_hour


def interval_count(header: ChannelHeader) -> int:
    """Return how many intervals lie between TA_START and TA_STOP; the records may hold padding beyond.

    Raises:
        FileInvalid: no whole number of intervals, or none.
    """
    length_s = clock.parse_minutes(header.ta_stop) - clock.parse_minutes(header.ta_start) + 60
    count, rest = divmod(length_s, interval_s(header))
    if rest or count < 1:
        raise FileInvalid(f"TA_START {header.ta_start} to TA_STOP {header.ta_stop} are no whole number of intervals")
    return count


# --- bytes to values -------------------------------------------------------------------------------------------------


def parse_file(raw: bytes) -> MdefFile:
    """Read a whole file.

    Raises:
        FileInvalid: with the record and the byte it begins at.
    """
    records = _records(raw)
    last = len(records) - 1
    trailer = _at(last, lambda: _trailer(records[last], len(records)))
    meters: list[MdefMeter] = []
    place = 0
    while place < last:
        meter, place = _meter(records, place, last)
        meters.append(meter)
    if not meters:
        raise FileInvalid("the file holds no meter")
    return MdefFile(tuple(meters), trailer)


def _records(raw: bytes) -> list[bytes]:
    if not raw or len(raw) % RECORD:
        raise FileInvalid(f"an MDEF file is a number of records of {RECORD} bytes; this one has {len(raw)} bytes")
    records = [raw[at : at + RECORD] for at in range(0, len(raw), RECORD)]
    for place, record in enumerate(records):
        if record[:2] != RECORD.to_bytes(2, "little"):
            raise _invalid(place, f"the record's length reads {int.from_bytes(record[:2], 'little')}, not {RECORD}")
    return records


def _meter(records: Sequence[bytes], place: int, last: int) -> tuple[MdefMeter, int]:
    if _code(records[place]) != METER:
        raise _invalid(place, f"record code {_code(records[place])} where a meter header, {METER}, should be")
    header = _fields(MeterHeader, records[place])
    channels: list[MdefChannel] = []
    place += 1
    while place < last and _code(records[place]) != METER:
        channel, place = _channel(records, place, last)
        if channel.header.custid.strip() != header.custid.strip():
            raise _invalid(place - 1, f"CUSTID {channel.header.custid!r} is not the {header.custid!r} of its meter")
        channels.append(channel)
    return MdefMeter(header, tuple(channels)), place


def _channel(records: Sequence[bytes], place: int, last: int) -> tuple[MdefChannel, int]:
    if _code(records[place]) != CHANNEL:
        raise _invalid(place, f"record code {_code(records[place])} where a channel header, {CHANNEL}, should be")
    header = _fields(ChannelHeader, records[place])
    entry = _entry(header)
    count = _at(place, lambda: interval_count(header))
    needed = -(-count * entry.size // DATA_BYTES)
    data = records[place + 1 : min(place + 1 + needed, last)]
    if len(data) < needed or needed > LAST_DATA - FIRST_DATA + 1:
        raise _invalid(place, f"{count} intervals need {needed} interval records; {len(data)} follow")
    for step, record in enumerate(data):
        _check_data(record, place + 1 + step, FIRST_DATA + step, header, data[0])
    content = b"".join(record[DATA_AT:] for record in data)
    used = count * entry.size
    if content[used:] != PADDING * ((len(content) - used) // len(PADDING)):
        raise _invalid(place + needed, f"after interval {count}, the last by TA_STOP, stands no FF 7F padding")
    columns = list(zip(*entry.iter_unpack(content[:used]), strict=True))
    custid = data[0][_CUSTID].rstrip(NUL).decode("latin-1")
    return _columns(header, custid, columns), place + 1 + needed


def _columns(header: ChannelHeader, custid: str, columns: list[tuple[int, ...]]) -> MdefChannel:
    statuses = columns[1:]
    channel = statuses.pop(0) if header.chanstat == "Y" else ()
    interval = statuses.pop(0) if header.intstat == "Y" else ()
    return MdefChannel(header, custid, columns[0], channel, interval)


def _check_data(record: bytes, place: int, code: int, header: ChannelHeader, first: bytes) -> None:
    if _code(record) != code:
        raise _invalid(place, f"record code {_code(record)} where interval record {code} should be")
    custid = record[_CUSTID].decode("latin-1").strip(" \0")
    if record[_CUSTID] != first[_CUSTID] or custid != header.custid.strip(" \0"):
        raise _invalid(place, f"CUSTID {custid!r} is not the {header.custid!r} of its channel")


def _trailer(record: bytes, count: int) -> Trailer:
    if _code(record) != TRAILER:
        raise FileInvalid(f"the last record has code {_code(record)}, not the trailer's {TRAILER}: is the file cut?")
    if record[_COUNT] != b"%010d" % count:
        stated = record[_COUNT].decode("latin-1")
        raise FileInvalid(f"the trailer counts {stated!r} records; the file has {count}")
    return _fields(Trailer, record)


def _fields(header: type[_Header], record: bytes) -> _Header:
    values = {item.name: _read(item.metadata["place"], record) for item in fields(header)}
    return header(**values)


def _read(place: Place, record: bytes) -> Any:
    raw = record[place.offset : place.offset + place.length]
    return int.from_bytes(raw, "little") if place.pad is None else raw.rstrip(place.pad).decode("latin-1")


def _code(record: bytes) -> int:
    return int.from_bytes(record[2:4], "little")


def _entry(header: ChannelHeader) -> struct.Struct:
    """Return the layout of one interval: the value's bits, then the statuses the header's flags announce."""
    return struct.Struct("<I" + "H" * ((header.chanstat == "Y") + (header.intstat == "Y")))


_Result = TypeVar("_Result")


def _at(place: int, work: Callable[[], _Result]) -> _Result:
    try:
        return work()
    except FileInvalid as error:
        raise _invalid(place, error.reason) from error


def _invalid(place: int, reason: str) -> FileInvalid:
    where = f"record {place + 1} at byte {place * RECORD}"
    return FileInvalid(f"{where}: {reason}", items=[Item(FileInvalid.code, reason, where)])


# --- values to bytes -------------------------------------------------------------------------------------------------


def render_file(file: MdefFile) -> bytes:
    """Write a whole file.

    Raises:
        CannotRepresent: a text is too long for its field or not Latin-1, or a channel has too many intervals.
    """
    records: list[bytes] = []
    for meter in file.meters:
        records.append(_record(METER, meter.header))
        for channel in meter.channels:
            records.append(_record(CHANNEL, channel.header))
            records += _data(channel)
    return b"".join((*records, trailer_record(file.trailer, len(records) + 1)))


def trailer_record(trailer: Trailer, count: int) -> bytes:
    """Return the last record of a file of so many, itself included."""
    record = bytearray(_record(TRAILER, trailer))
    record[_COUNT] = b"%010d" % count
    return bytes(record)


def _data(channel: MdefChannel) -> list[bytes]:
    header = channel.header
    columns: list[tuple[int, ...]] = [channel.values]
    columns += [channel.channel_statuses] * (header.chanstat == "Y") + [channel.interval_statuses] * (
        header.intstat == "Y"
    )
    pack = _entry(header).pack
    content = b"".join(pack(*interval) for interval in zip(*columns, strict=True))
    custid = _encoded("CUSTID", channel.data_custid, Place(4, 20, NUL))
    parts = [content[at : at + DATA_BYTES] for at in range(0, len(content), DATA_BYTES)]
    if len(parts) > LAST_DATA - FIRST_DATA + 1:
        raise CannotRepresent(f"{len(channel.values)} intervals are more than the records of one channel hold")
    parts[-1] += PADDING * ((DATA_BYTES - len(parts[-1])) // len(PADDING))
    return [_head(FIRST_DATA + step) + custid + part for step, part in enumerate(parts)]


def _record(code: int, header: MeterHeader | ChannelHeader | Trailer) -> bytes:
    record = bytearray(_head(code).ljust(RECORD, NUL))
    for item in fields(header):
        place: Place = item.metadata["place"]
        record[place.offset : place.offset + place.length] = _encoded(item.name, getattr(header, item.name), place)
    return bytes(record)


def _head(code: int) -> bytes:
    return RECORD.to_bytes(2, "little") + code.to_bytes(2, "little")


def _encoded(name: str, value: str | int, place: Place) -> bytes:
    if isinstance(value, int) or place.pad is None:
        return int(value).to_bytes(place.length, "little")
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise CannotRepresent(f"{name} {value!r} is not ASCII") from error
    if len(raw) > place.length:
        raise CannotRepresent(f"{name} {value!r} is longer than the {place.length} characters of its field")
    return raw.ljust(place.length, place.pad)
