"""The CSV of readings, and the two CSV tables that describe channels: `--channels` and `--site`.

Floor 1. In: text or UTF-8 bytes of a whole file; out: values of `model`, and bytes again. One reading a row, stamped at
its interval's end in UTC; the columns are documented in docs/protocol.md.

Do not open files here, do not judge readings against enrolled channels (that is `check`), and let no cell out that a
spreadsheet would take for a formula (CWE-1236): such text gets one leading apostrophe, which reading takes off again.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache, lru_cache
from typing import NamedTuple

from . import units
from .cells import CONTROL, each_row, guard, moment, needed, plain, table, unguard, whole
from .errors import CannotRepresent
from .model import (
    MISSING_QUALITY,
    Channel,
    ChannelKey,
    IntervalBlock,
    Qualities,
    Quality,
    Readings,
    ReadingType,
    RegisterReading,
    Site,
)

COLUMNS = (
    "usage_point", "meter", "channel", "reading_type", "unit", "interval_s",
    "interval_end_utc", "value", "quality", "quality_detail",
)  # fmt: skip
REQUIRED = ("channel", "interval_end_utc", "value", "quality")
CHANNEL_COLUMNS = ("usage_point", "meter", "channel", "reading_type", "unit", "interval_s", "zone", "valid_from")
KEY_COLUMNS = ("usage_point", "meter", "channel", "reading_type")
SITE_COLUMNS = tuple(column.name for column in fields(Site) if column.name != "channel")

_CODE = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,5}){2}\Z", re.ASCII)
_ZONE = re.compile(r"[A-Za-z0-9_+\-]+(?:/[A-Za-z0-9_+\-]+)*\Z", re.ASCII)
_DETAIL_SPECIAL = re.compile("[;\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DETAIL_TOKEN = re.compile(r"\\(?:u([0-9a-f]{4})|([;\\]))|(;)|([^;\\]+)|(\\)")


# --- readings --------------------------------------------------------------------------------------------------------


class _Target(NamedTuple):
    """What a row's identity cells mean; `channel` is set where an enrolled channel completed them."""

    key: ChannelKey
    interval_s: int
    register: bool
    channel: Channel | None


def parse(text: str | bytes, channels: Sequence[Channel] = ()) -> Readings:
    """Read the CSV of readings.

    Needed columns: `REQUIRED`. What the file does not say of a channel (usage_point, meter, reading_type, interval_s)
    is taken from the one of `channels` that bears the row's stream name at that moment. Rows of one channel become one
    block in the order they came, whatever rows lie between. interval_s 0 marks a register reading.

    Args:
        text: the file; UTF-8, a byte order mark is dropped.
        channels: defaults, such as the IED's own channels.

    Raises:
        FileInvalid: with an item a line; the file counts as a whole or not at all.
    """
    resolve = _resolver(tuple(channels))
    blocks: dict[tuple[ChannelKey, int], tuple[list[int], list[str | None], list[Qualities]]] = {}
    registers: list[RegisterReading] = []
    seen: dict[tuple[ChannelKey, int, bool], int] = {}

    def take(line: int, row: Mapping[str, str]) -> None:
        end_utc = units.parse_utc(row["interval_end_utc"])
        target = _pick(resolve(tuple(row.get(name, "") for name in COLUMNS[:6])), end_utc, row)
        value, qualities = _cells(row, target.register)
        first = seen.setdefault((target.key, end_utc, target.register), line)
        if first != line:
            raise ValueError(f"repeats the reading of line {first}")
        if target.register:
            registers.append(RegisterReading(target.key, end_utc, value or "", qualities))
            return
        columns = blocks.setdefault((target.key, target.interval_s), ([], [], []))
        columns[0].append(end_utc)
        columns[1].append(value)
        columns[2].append(qualities)

    each_row(table(text, "CSV of readings", REQUIRED, COLUMNS), take, "CSV of readings")
    return Readings(
        tuple(
            IntervalBlock(key, interval_s, tuple(ends), tuple(values), tuple(qualities))
            for (key, interval_s), (ends, values, qualities) in blocks.items()
        ),
        tuple(registers),
    )


def render(readings: Readings) -> bytes:
    """Write readings as CSV, every column, UTF-8, LF; `parse` finds them again.

    Blocks of one channel and interval length come back as one block. An interval length of 0 (unknown) is written as an
    empty cell.

    Raises:
        CannotRepresent: a name holds a control character.
    """
    out = io.StringIO(newline="")
    write = csv.writer(out, lineterminator="\n").writerow
    write(COLUMNS)
    for block in readings.blocks:
        head = (*_identity(block.channel), str(block.interval_s or ""))
        for end_utc, value, qualities in zip(block.ends_utc, block.values, block.qualities, strict=True):
            write((*head, units.format_utc(end_utc), value or "", *_quality_cells(qualities)))
    for register in readings.registers:
        head = (*_identity(register.channel), "0")
        write((*head, units.format_utc(register.time_utc), register.value, *_quality_cells(register.qualities)))
    return out.getvalue().encode()


def _pick(targets: tuple[_Target, ...], end_utc: int, row: Mapping[str, str]) -> _Target:
    in_force = [target for target in targets if target.channel is None or target.channel.holds_at(end_utc)]
    if len({target.key for target in in_force}) == 1:
        return in_force[0]
    name = row.get("channel", "")
    if in_force:
        raise ValueError(f"channel {name!r} names {len(in_force)} channels; add usage_point, meter or reading_type")
    if targets:
        raise ValueError(f"channel {name!r} is not assigned at {row['interval_end_utc']}")
    raise ValueError(f"channel {name!r} is not known, and the row lacks usage_point, meter or reading_type")


def _resolver(channels: tuple[Channel, ...]) -> Callable[[tuple[str, ...]], tuple[_Target, ...]]:
    """Return the function from a row's first six cells to what they may mean; the same cells are worked out once."""

    @cache
    def resolve(cells: tuple[str, ...]) -> tuple[_Target, ...]:
        usage_point, meter, stream, type_text, unit, interval_text = cells
        for name, cell in zip(KEY_COLUMNS, cells, strict=False):
            plain(name, cell)
        given = ReadingType.parse(type_text) if type_text else None
        interval_s = whole("interval_s", interval_text) if interval_text else None
        if usage_point and meter and given:
            targets = [_given(ChannelKey(usage_point, meter, stream, str(given)), given, interval_s)]
        else:
            near = [c for c in channels if _agrees(c.key, usage_point, meter, stream)]
            targets = [t for c in near if (t := _completed(c, given, interval_s))]
        for target in targets:
            _check_unit(unit, ReadingType.parse(target.key.reading_type))
        return tuple(targets)

    return resolve


def _given(key: ChannelKey, given: ReadingType, interval_s: int | None) -> _Target:
    return _Target(key, given.interval_s if interval_s is None else interval_s, interval_s == 0, None)


def _agrees(key: ChannelKey, usage_point: str, meter: str, stream: str) -> bool:
    return key.stream == stream and usage_point in ("", key.usage_point) and meter in ("", key.meter)


def _completed(channel: Channel, given: ReadingType | None, interval_s: int | None) -> _Target | None:
    own = ReadingType.parse(channel.key.reading_type)
    register = interval_s == 0
    meant = given or (own.register() if register else own)
    fits = meant.reads_register_of(own) if register else meant == own
    key = channel.key._replace(reading_type=str(meant))
    return _Target(key, channel.interval_s if interval_s is None else interval_s, register, channel) if fits else None


def _cells(row: Mapping[str, str], register: bool) -> tuple[str | None, Qualities]:
    qualities = _qualities(row["quality"], row.get("quality_detail", ""))
    if row["value"]:
        return units.decimal_text(row["value"]), qualities
    if register:
        raise ValueError("a register reading needs a value")
    if not any(quality.code == MISSING_QUALITY for quality in qualities):
        raise ValueError(f"an empty value needs the quality {MISSING_QUALITY}, known missing")
    return None, qualities


@lru_cache(maxsize=4096)
def _qualities(codes: str, details: str) -> Qualities:
    """Read `a;b` and its details, joined the same way, ``;`` and control characters escaped by a backslash."""
    if not codes:
        if details:
            raise ValueError("quality_detail without a quality")
        return ()
    split = codes.split(";")
    texts = _split_details(unguard(details)) if details else [""] * len(split)
    if len(texts) != len(split):
        raise ValueError(f"{len(split)} qualities, but {len(texts)} quality details")
    if wrong := [code for code in split if not _CODE.match(code)]:
        raise ValueError(f"quality {wrong[0]!r} is not three dotted numbers such as 1.2.32")
    return tuple(map(Quality, split, texts))


def _split_details(text: str) -> list[str]:
    parts = [""]
    for escaped, literal, separator, text_run, lone in _DETAIL_TOKEN.findall(text):
        if lone:
            raise ValueError("quality_detail: a backslash stands before ; or \\ or u and four hex digits")
        if separator:
            parts.append("")
        else:
            parts[-1] += chr(int(escaped, 16)) if escaped else literal or text_run
    return parts


@lru_cache(maxsize=4096)
def _quality_cells(qualities: Qualities) -> tuple[str, str]:
    details = [_DETAIL_SPECIAL.sub(_escape, quality.detail) for quality in qualities]
    return ";".join(quality.code for quality in qualities), guard(";".join(details)) if any(details) else ""


def _escape(match: re.Match[str]) -> str:
    return "\\" + match[0] if match[0] in ";\\" else f"\\u{ord(match[0]):04x}"


@lru_cache(maxsize=4096)
def _identity(key: ChannelKey) -> tuple[str, ...]:
    for name, text in zip(KEY_COLUMNS, key, strict=True):
        if CONTROL.search(text):
            raise CannotRepresent(f"the CSV of readings holds no control character, but {name} is {text!r}")
    symbol = ReadingType.parse(key.reading_type).symbol
    return (guard(key.usage_point), guard(key.meter), guard(key.stream), key.reading_type, symbol)


# --- tables of channels ----------------------------------------------------------------------------------------------


def channels(text: str | bytes) -> tuple[Channel, ...]:
    """Read a ``--channels`` table: `CHANNEL_COLUMNS` and, optional, valid_to.

    valid_from (inclusive) and valid_to (first moment no longer) are date-times with a zone; zone is an IANA name.

    Raises:
        FileInvalid: with an item a line that names the column.
    """
    found: list[tuple[int, Channel]] = []

    def take(line: int, row: Mapping[str, str]) -> None:
        channel = _channel(row)
        for other, before in found:
            if before.key == channel.key and _overlap(before, channel):
                raise ValueError(f"valid_from: the same channel is in force by line {other}")
        found.append((line, channel))

    each_row(table(text, "channel table", CHANNEL_COLUMNS, (*CHANNEL_COLUMNS, "valid_to")), take, "channel table")
    return tuple(channel for _, channel in found)


def sites(text: str | bytes) -> Mapping[ChannelKey, Site]:
    """Read a ``--site`` table: the four columns that name a channel, and any of `SITE_COLUMNS`.

    Raises:
        FileInvalid: with an item a line that names the column.
    """
    found: dict[ChannelKey, Site] = {}

    def take(line: int, row: Mapping[str, str]) -> None:
        key = _key(row)
        if key in found:
            raise ValueError("this channel has a row already")
        found[key] = _site(key, row)

    each_row(table(text, "site table", KEY_COLUMNS, (*KEY_COLUMNS, *SITE_COLUMNS)), take, "site table")
    return found


def _channel(row: Mapping[str, str]) -> Channel:
    key = _key(row)
    reading_type = ReadingType.parse(key.reading_type)
    _check_unit(row["unit"] or needed("unit", ""), reading_type)
    interval_s = whole("interval_s", row["interval_s"])
    if not interval_s or reading_type.interval_s not in (0, interval_s):
        raise ValueError(f"interval_s: {interval_s} s is not the {reading_type.interval_s} s of the reading type")
    if not _ZONE.match(row["zone"]):
        raise ValueError(f"zone: {row['zone']!r} is not the IANA name of a zone")
    valid_from = moment("valid_from", row["valid_from"])
    valid_to = moment("valid_to", row["valid_to"]) if row.get("valid_to") else None
    if valid_to is not None and valid_to <= valid_from:
        raise ValueError("valid_to: not after valid_from")
    return Channel(key, row["unit"], interval_s, row["zone"], valid_from, valid_to)


def _overlap(one: Channel, other: Channel) -> bool:
    return (one.valid_to_utc is None or other.valid_from_utc < one.valid_to_utc) and (
        other.valid_to_utc is None or one.valid_from_utc < other.valid_to_utc
    )


def _site(key: ChannelKey, row: Mapping[str, str]) -> Site:
    texts = {name: row[name] for name in SITE_COLUMNS if row.get(name)}
    numbers = {name: whole(name, texts.pop(name)) for name in ("logical_channel", "physical_channel") if name in texts}
    if "meter_multiplier" in texts:
        texts["meter_multiplier"] = units.decimal_text(texts["meter_multiplier"])
    for name, text in texts.items():
        plain(name, text)
    return Site(key, **numbers, **texts)  # type: ignore[arg-type]


def _key(row: Mapping[str, str]) -> ChannelKey:
    for name in KEY_COLUMNS:
        plain(name, row[name])
    for name in ("usage_point", "meter", "reading_type"):
        needed(name, row[name])
    return ChannelKey(row["usage_point"], row["meter"], row["channel"], str(ReadingType.parse(row["reading_type"])))


def _check_unit(unit: str, reading_type: ReadingType) -> None:
    if unit and reading_type.symbol and units.unit_code(unit) != (reading_type.multiplier, reading_type.unit):
        raise ValueError(f"unit: {unit!r} is not the {reading_type.symbol} of reading type {reading_type}")
