"""Which sets of channels may be enrolled: values in, findings out; no database here.

A channel on the wire is named by usage point, meter, reading type and, where those are ambiguous, a stream name. A set
in which a reading could belong to two channels, or a channel to two IEDs, is refused before it exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gridpost.errors import FileInvalid, Item
from gridpost.model import Channel, ChannelKey, ReadingType
from gridpost.units import unit_code
from gridpost.versions import DAY_S


class Owned(NamedTuple):
    """A channel on file and whose it is; `in_force` is False once that IED is revoked."""

    serial: str
    channel: Channel
    in_force: bool


def check_set(channels: Sequence[Channel]) -> list[Item]:
    """Return what is wrong with the channels of one IED, each and together; empty when they may be enrolled."""
    items = [item for line, channel in enumerate(channels, 2) for item in _check_one(channel, f"line {line}")]
    places: dict[ChannelKey, list[tuple[int, Channel]]] = {}
    for line, channel in enumerate(channels, 2):
        places.setdefault(place(channel), []).append((line, channel))
    for near in places.values():
        for (first, one), (second, other) in combinations(near, 2):
            if clash := _ambiguous(one, other):
                items.append(Item("ambiguous-channel", f"{clash} (see line {first})", f"line {second}"))
    return items


def place(channel: Channel) -> ChannelKey:
    """Return the channel's key without its stream name: only channels that share it can be ambiguous."""
    return channel.key._replace(stream="")


def clashes(channel: Channel, owned: Iterable[Owned]) -> list[Owned]:
    """Return the channels on file from which this one could not be told at some time."""
    return [other for other in owned if _ambiguous(channel, other.channel)]


def same_row(one: Channel, other: Channel) -> bool:
    """Tell whether two channels are the same but for their number and end."""
    return (one.key, one.unit, one.interval_s, one.zone, one.valid_from_utc) == (
        other.key,
        other.unit,
        other.interval_s,
        other.zone,
        other.valid_from_utc,
    )


def _check_one(channel: Channel, line: str) -> Iterator[Item]:
    for name, text in (("usage_point", channel.key.usage_point), ("meter", channel.key.meter)):
        if not text:
            yield Item("channel-invalid", f"{name} is empty", line)
    if channel.interval_s <= 0 or DAY_S % channel.interval_s:
        yield Item("channel-invalid", f"an interval of {channel.interval_s} s does not divide a day", line)
    if channel.valid_to_utc is not None and channel.valid_to_utc <= channel.valid_from_utc:
        yield Item("channel-invalid", "it ends before it begins", line)
    try:
        ZoneInfo(channel.zone)
    except (ZoneInfoNotFoundError, ValueError):
        yield Item("channel-invalid", f"no zone {channel.zone!r}; use an IANA name such as Europe/Zurich", line)
    try:
        yield from _check_type(channel, ReadingType.parse(channel.key.reading_type), line)
    except FileInvalid as problem:
        yield Item("channel-invalid", problem.reason, line)


def _check_type(channel: Channel, reading_type: ReadingType, line: str) -> Iterator[Item]:
    if unit_code(channel.unit) != (reading_type.multiplier, reading_type.unit):
        stated = reading_type.symbol or f"unit {reading_type.unit} with multiplier {reading_type.multiplier}"
        yield Item("channel-invalid", f"unit {channel.unit}, but its reading type says {stated}", line)
    if reading_type.interval_s not in (0, channel.interval_s):
        yield Item(
            "channel-invalid",
            f"interval of {channel.interval_s} s, but its reading type says {reading_type.interval_s}",
            line,
        )


def _ambiguous(one: Channel, other: Channel) -> str:
    """Return why readings of the two could not be told apart, empty when they can."""
    if place(one) != place(other) or not _overlap(one, other):
        return ""
    if one.key.stream == other.key.stream:
        return f"the same channel {'/'.join(filter(None, one.key))} twice at one time"
    if not one.key.stream or not other.key.stream:
        return f"one of two channels of meter {one.key.meter} with the same reading type has no stream name"
    return ""


def _overlap(one: Channel, other: Channel) -> bool:
    return (other.valid_to_utc is None or one.valid_from_utc < other.valid_to_utc) and (
        one.valid_to_utc is None or other.valid_from_utc < one.valid_to_utc
    )
