"""Completeness: how many of the expected intervals a meter has, how many of them are estimated or corrected (D2).

Floor 5. In: current readings of channels, a period, a data version. Out: counts by channel and local day, the gaps, one
line of words, and the certificate's content: canonical JSON, and back. Expected is what the channel's calendar says,
while the meter is assigned: a local day has 92, 96 or 100 quarter hours. Nothing is signed or fetched here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import NamedTuple

from ..canonical_json import Place, read, write
from ..codes import is_edited, is_estimated
from ..model import Channel, ChannelKey, DataVersion
from ..ports import CurrentReadings
from .calendar import Period, expected_ends, local_day, runs

VERSION = 1


class Counts(NamedTuple):
    """Intervals: expected; with a value; of these estimated (``x.8.*``) and corrected (edited, ``x.7.*``)."""

    expected: int
    present: int
    estimated: int
    corrected: int

    @property
    def missing(self) -> int:
        """Those without a value."""
        return self.expected - self.present


class Day(NamedTuple):
    """A local day (ISO 8601) with its counts."""

    day: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class OfChannel:
    """A channel over a period.

    Attributes:
        key: its names; interval_s: its interval; zone: IANA name of the zone whose days count.
        counts: of the whole period; days: those that are not complete, or have estimated or corrected values.
        conflicting: intervals with a second value that differs.
        gaps: from_utc < interval end <= to_utc of what is missing.
    """

    key: ChannelKey
    interval_s: int
    zone: str
    counts: Counts
    days: tuple[Day, ...]
    conflicting: int
    gaps: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Completeness:
    """A meter over a period, at a data version: the content of a certificate."""

    meter: str
    from_utc: int
    to_utc: int
    at: DataVersion
    channels: tuple[OfChannel, ...]

    @property
    def counts(self) -> Counts:
        """All channels together."""
        return _sum([one.counts for one in self.channels])

    @property
    def is_complete(self) -> bool:
        """Whether every expected interval has a value."""
        return self.counts.missing == 0


def of_channel(readings: CurrentReadings, period: Period) -> OfChannel:
    """Return what a channel has of what its calendar expects."""
    channel, block = readings.channel, readings.block
    pairs = zip(block.ends_utc, block.qualities, strict=True)
    marks = {end: (is_estimated(given), is_edited(given)) for end, given in pairs}
    ends = expected_of(channel, period)
    days = []
    for day, same in groupby(ends, key=lambda end: local_day(end - channel.interval_s, period.zone)):
        days.append(Day(day.isoformat(), _counts(list(same), marks)))
    told = [one for one in days if one.counts.missing or one.counts.estimated or one.counts.corrected]
    missing = [end for end in ends if end not in marks]
    return OfChannel(
        channel.key, channel.interval_s, channel.zone, _sum([one.counts for one in days]), tuple(told),
        len(readings.conflicts), tuple(runs(missing, channel.interval_s)),
    )  # fmt: skip


def expected_of(channel: Channel, period: Period) -> list[int]:
    """Return the interval ends of a period that a channel must have: those while its meter is assigned."""
    return [end for end in expected_ends(period, channel.interval_s) if channel.holds_at(end)]


def told(counts: Counts) -> str:
    """Return counts in words: ``2,976 of 2,976, 0 estimated, 3 corrected``."""
    return f"{counts.present:,} of {counts.expected:,}, {counts.estimated:,} estimated, {counts.corrected:,} corrected"


def _counts(ends: Sequence[int], marks: dict[int, tuple[bool, bool]]) -> Counts:
    found = [marks[end] for end in ends if end in marks]
    return Counts(len(ends), len(found), sum(one[0] for one in found), sum(one[1] for one in found))


def _sum(counts: Sequence[Counts]) -> Counts:
    return Counts(*map(sum, zip(*counts, strict=True))) if counts else Counts(0, 0, 0, 0)


# --- the certificate's content ---------------------------------------------------------------------------------------


def encode(found: Completeness) -> str:
    """Return the content of a certificate: canonical JSON."""
    return write(
        {
            "version": VERSION,
            "meter": found.meter,
            "from_utc": found.from_utc,
            "to_utc": found.to_utc,
            "at": [list(one) for one in sorted(found.at.items())],
            "statement": told(found.counts),
            "channels": [_encode_channel(one) for one in found.channels],
        }
    )


def decode(text: str) -> Completeness:
    """Read a certificate's content.

    Raises:
        FileInvalid: it is none, or its figures do not agree with each other; the place is named.
    """
    return read(text, _build, encode)


def _encode_channel(one: OfChannel) -> dict[str, object]:
    return {
        "channel": list(one.key),
        "interval_s": one.interval_s,
        "zone": one.zone,
        "counts": list(one.counts),
        "days": [[day.day, *day.counts] for day in one.days],
        "conflicting": one.conflicting,
        "gaps": [list(gap) for gap in one.gaps],
    }


def _build(top: Place) -> Completeness:
    if top["version"].whole() != VERSION:
        top["version"].refuse(f"is not {VERSION}")
    found = Completeness(
        top["meter"].text(),
        top["from_utc"].whole(),
        top["to_utc"].whole(),
        dict(top["at"].many(_pair)),
        top["channels"].many(_build_channel),
    )
    if top["statement"].text() != told(found.counts):
        top["statement"].refuse("does not say what the channels' figures come to")
    return found


def _build_channel(place: Place) -> OfChannel:
    one = OfChannel(
        ChannelKey(*(text.text() for text in place["channel"].exactly(4))),
        place["interval_s"].whole(),
        place["zone"].text(),
        Counts(*place["counts"].wholes(4)),
        place["days"].many(_build_day),
        place["conflicting"].whole(),
        place["gaps"].many(_pair),
    )
    if sum(to - since for since, to in one.gaps) != one.counts.missing * one.interval_s:
        place["gaps"].refuse("do not come to what is missing")
    for name in ("missing", "estimated", "corrected"):
        if sum(getattr(day.counts, name) for day in one.days) != getattr(one.counts, name):
            place["days"].refuse(f"do not come to what is {name}")
    return one


def _pair(place: Place) -> tuple[int, int]:
    first, second = place.wholes(2)
    return first, second


def _build_day(place: Place) -> Day:
    day, *counts = place.exactly(5)
    try:
        date.fromisoformat(day.text())
    except ValueError:
        day.refuse("is no date")
    return Day(day.text(), Counts(*(count.whole() for count in counts)))
