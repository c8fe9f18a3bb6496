"""Readings as a Green Button feed, and what it cannot hold.

In: readings and the options (zone, creation time, period). Out: `Rendered`. For each usage point its UsagePoint,
LocalTimeParameters where a zone is named, and for each channel a MeterReading, its ReadingType and an IntervalBlock a
local day and run; a UsageSummary where a whole period was asked for and all of it is there.

An interval without a value is left out and listed: ESPI has no mark for it, and zero would be wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from gridpost import units
from gridpost.encoding import attribute, octets, text_of
from gridpost.errors import CannotRepresent, Item
from gridpost.model import ChannelKey, Qualities, Quality, Readings, ReadingType
from gridpost.ports import FormatOptions, Rendered

from . import clock, tables
from .atom import ATOM, ESPI

_ROOT = "/espi/1_1/resource"
_LARGEST = 2**47  # Int48
_FORWARD, _DELTA, _WH = 1, 4, 72


class _Reading(NamedTuple):
    """An interval or, of length 0, a stand: end, length, the literal, the QualityOfReading numbers."""

    end_utc: int
    length_s: int
    value: str
    numbers: tuple[int, ...]


@dataclass(slots=True)
class _Channel:
    key: ChannelKey
    reading_type: ReadingType
    readings: list[_Reading]
    power: int = 0

    @property
    def point(self) -> str:
        return f"{_ROOT}/UsagePoint/{quote(self.key.usage_point, safe='')}"

    @property
    def address(self) -> str:
        meter, stream, kind = (quote(name, safe="") for name in (self.key.meter, self.key.stream, str(self.kind)))
        return f"{self.point}/MeterReading/{meter}:{stream}" + (f";{kind}" if self.ambiguous else "")

    ambiguous: bool = False

    @property
    def kind(self) -> str:
        """The name of its ReadingType: the 18 numbers, the power of ten it counts in, the interval length."""
        return f"{self.reading_type}:{self.power}:{self.length_s}"

    @property
    def length_s(self) -> int:
        lengths = {one.length_s for one in self.readings}
        return lengths.pop() if len(lengths) == 1 else 0

    @property
    def where(self) -> str:
        return f"{self.key.usage_point}/{self.key.meter}/{self.key.stream or self.key.reading_type}"

    def counted(self, one: _Reading) -> int:
        """Return a value as the file counts it."""
        number = int(Decimal(one.value).scaleb(self.reading_type.multiplier - self.power))
        if abs(number) >= _LARGEST:
            raise CannotRepresent(f"{self.where}: {one.value} x 10^{self.reading_type.multiplier} is more than 48 bits")
        return number


def to_rendered(readings: Readings, options: FormatOptions) -> Rendered:
    """Return the feed and, listed, what it does not hold.

    Raises:
        CannotRepresent: nothing to write, or something without which the feed would be wrong.
    """
    losses: list[Item] = []
    channels = _channels(readings, options, losses)
    if not channels:
        raise CannotRepresent("there are no readings to write")
    moment = clock.atom_time(options.created_utc_ms)
    points: dict[str, list[_Channel]] = {}
    for channel in channels:
        points.setdefault(channel.key.usage_point, []).append(channel)
    entries = [entry for same in points.values() for entry in _point(same, options, losses)]
    local = _local_time(channels, options, losses)
    written: dict[str, str] = {entry.address: _entry(entry, moment) for entry in [*local, *entries]}
    name = f"<id>{_urn('feed' + ''.join(written))}</id><title>Gridpost</title><updated>{moment}</updated>"
    feed = f'<feed xmlns="{ATOM}">{name}<link rel="self" href="{_ROOT}/Batch"/>{"".join(written.values())}</feed>'
    return Rendered(b'<?xml version="1.0" encoding="UTF-8"?>\n' + octets(feed) + b"\n", tuple(losses))


# --- readings, put in order ------------------------------------------------------------------------------------------


def _channels(readings: Readings, options: FormatOptions, losses: list[Item]) -> list[_Channel]:
    found: dict[ChannelKey, _Channel] = {}
    seen: dict[tuple[ChannelKey, int, int], tuple[str | None, Qualities]] = {}
    counts: Counter[tuple[ChannelKey, Quality | None]] = Counter()
    for key, (end_utc, length_s), value, qualities in _values(readings, options):
        channel = found.setdefault(key, _Channel(key, ReadingType.parse(key.reading_type), []))
        before = seen.setdefault((key, end_utc, length_s), (value, qualities))
        if before != (value, qualities):
            raise CannotRepresent(f"{channel.where}: two values for {units.format_utc(end_utc)}")
        if value is None:
            counts[key, None] += 1
            continue
        said = tables.said(qualities)
        counts.update((key, quality) for quality in said.lost)
        channel.readings.append(_Reading(end_utc, length_s, value, said.numbers))
    losses += (_loss(found[key], quality, count) for (key, quality), count in counts.items())
    used = [channel for channel in found.values() if channel.readings]
    _check(used)
    return used


def _values(
    readings: Readings, options: FormatOptions
) -> Iterator[tuple[ChannelKey, tuple[int, int], str | None, Qualities]]:
    first = options.from_utc if options.from_utc is not None else -1
    last = options.to_utc if options.to_utc is not None else 1 << 62
    for block in readings.blocks:
        length_s = block.interval_s or ReadingType.parse(block.channel.reading_type).interval_s
        if not length_s:
            raise CannotRepresent(f"{block.channel.usage_point}/{block.channel.meter}: the interval length is unknown")
        for end_utc, value, qualities in zip(block.ends_utc, block.values, block.qualities, strict=True):
            if first < end_utc <= last:
                yield block.channel, (end_utc, length_s), value, qualities
    for one in readings.registers:
        if first <= one.time_utc <= last:
            yield one.channel, (one.time_utc, 0), one.value, one.qualities


def _check(channels: Sequence[_Channel]) -> None:
    """Refuse names an address cannot hold; tell channels apart that differ in their reading type only."""
    names = Counter(channel.key[:3] for channel in channels)
    for channel in channels:
        if not channel.key.usage_point or not channel.key.meter or not "".join(channel.key[:3]).isprintable():
            raise CannotRepresent(f"{channel.where!r}: a usage point, meter or stream without a name that prints")
        channel.readings.sort()
        channel.ambiguous = names[channel.key[:3]] > 1
        decimals = max(len(one.value.partition(".")[2]) for one in channel.readings)
        wanted = channel.reading_type.multiplier - decimals
        fitting = [power for power in tables.POWERS if power <= wanted]
        if not fitting:
            raise CannotRepresent(f"{channel.where}: ESPI has no power of ten for {decimals} decimals")
        channel.power = fitting[-1]


def _loss(channel: _Channel, quality: Quality | None, count: int) -> Item:
    if quality is None:
        reason = f"{count} intervals without a value are left out"
    else:
        name = f"{quality.code} {quality.detail}".strip()
        reason = f"no QualityOfReading says all of quality {name!r}, on {count} readings"
    return Item(CannotRepresent.code, reason, channel.where)


# --- entries ---------------------------------------------------------------------------------------------------------


class _Made(NamedTuple):
    """An entry to write: its address, those it is under and names, a title, the ESPI object."""

    address: str
    up: str
    related: tuple[str, ...]
    title: str
    content: str


_LOCAL = f"{_ROOT}/LocalTimeParameters/1"


def _entry(made: _Made, moment: str) -> str:
    links = [f'<link rel="self" href="{attribute(made.address)}"/>', f'<link rel="up" href="{attribute(made.up)}"/>']
    links += (f'<link rel="related" href="{attribute(one)}"/>' for one in made.related)
    return (
        f"<entry><id>{_urn(made.address)}</id>{''.join(links)}<title>{text_of(made.title)}</title>"
        f"<content>{made.content}</content><published>{moment}</published><updated>{moment}</updated></entry>"
    )


def _urn(name: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_URL, name)}"


def _object(name: str, content: str) -> str:
    return f'<{name} xmlns="{ESPI}">{content}</{name}>'


def _texts(*fields: tuple[str, int | str]) -> str:
    return "".join(f"<{name}>{value}</{name}>" for name, value in fields)


def _point(channels: Sequence[_Channel], options: FormatOptions, losses: list[Item]) -> Iterator[_Made]:
    """Yield a usage point and everything under it."""
    one = channels[0]
    service = _texts(("kind", tables.SERVICES.get(one.reading_type.commodity, 0)))
    related = [f"{one.point}/MeterReading", f"{one.point}/UsageSummary"] + [_LOCAL] * (options.zone is not None)
    content = _object("UsagePoint", f"<ServiceCategory>{service}</ServiceCategory>")
    yield _Made(one.point, f"{_ROOT}/UsagePoint", tuple(related), one.key.usage_point, content)
    for channel in channels:
        yield from _channel(channel, options)
    yield from _summary(channels, options)


def _channel(channel: _Channel, options: FormatOptions) -> Iterator[_Made]:
    address, kind = channel.address, f"{_ROOT}/ReadingType/{channel.kind}"
    title = f"{channel.key.meter} {channel.key.stream}".strip()
    related = (f"{address}/IntervalBlock", kind)
    yield _Made(address, f"{channel.point}/MeterReading", related, title, _object("MeterReading", ""))
    yield _Made(kind, f"{_ROOT}/ReadingType", (), channel.reading_type.symbol, _reading_type(channel))
    for run in _runs(channel.readings, options):
        start = clock.to_start(run[0].end_utc, run[0].length_s)
        interval = _texts(("duration", run[-1].end_utc - start), ("start", start))
        inside = "".join(_interval(channel, one) for one in run)
        content = _object("IntervalBlock", f"<interval>{interval}</interval>{inside}")
        name = f"{address}/IntervalBlock/{start}-{run[0].length_s}"
        yield _Made(name, f"{address}/IntervalBlock", (), "", content)


def _reading_type(channel: _Channel) -> str:
    numbers = channel.reading_type._asdict()
    special = {"powerOfTenMultiplier": channel.power, "intervalLength": channel.length_s}
    fields: list[tuple[str, int | str]] = []
    for element, name in tables.ELEMENTS.items():
        value = special.get(element, numbers[name] if name else 0)
        if element != "defaultQuality" and (value or element in ("uom", "powerOfTenMultiplier")):
            fields.append((element, value))
    place = next((at for at, (element, _) in enumerate(fields) if element == "measuringPeriod"), len(fields))
    fields.insert(place, ("interharmonic", _ratio(numbers, "interharmonic")))
    fields.append(("argument", _ratio(numbers, "argument")))
    return _object("ReadingType", _texts(*((name, value) for name, value in fields if value != "")))


def _ratio(numbers: dict[str, int], element: str) -> str:
    numerator, denominator = (numbers[name] for name in tables.RATIOS[element])
    return _texts(("numerator", numerator), ("denominator", denominator)) if numerator or denominator else ""


def _runs(readings: Sequence[_Reading], options: FormatOptions) -> Iterator[list[_Reading]]:
    """Yield readings that follow each other without a hole inside one local day; each stand alone."""
    run: list[_Reading] = []
    for one in sorted(readings, key=lambda each: (each.length_s, each.end_utc)):
        start = clock.to_start(one.end_utc, one.length_s)
        if run and not (run[-1][:2] == (start, one.length_s) and one.length_s and _same_day(run[0], start, options)):
            yield run
            run = []
        run.append(one)
    yield run


def _same_day(first: _Reading, start: int, options: FormatOptions) -> bool:
    began = clock.to_start(first.end_utc, first.length_s)
    return clock.local_day(began, options.zone) == clock.local_day(start, options.zone)


def _interval(channel: _Channel, one: _Reading) -> str:
    period = _texts(("duration", one.length_s), ("start", clock.to_start(one.end_utc, one.length_s)))
    quality = "".join(f"<ReadingQuality><quality>{number}</quality></ReadingQuality>" for number in one.numbers)
    value = _texts(("value", channel.counted(one)))
    return f"<IntervalReading>{quality}<timePeriod>{period}</timePeriod>{value}</IntervalReading>"


def _local_time(channels: Sequence[_Channel], options: FormatOptions, losses: list[Item]) -> list[_Made]:
    if options.zone is None:
        return []
    first = min(one.end_utc for channel in channels for one in channel.readings)
    try:
        local = clock.local_time(options.zone, first)
    except CannotRepresent as error:
        losses.append(Item(CannotRepresent.code, f"LocalTimeParameters: {error.reason}"))
        return []
    content = _texts(("dstEndRule", local.end_rule), ("dstOffset", local.saving_s),
                     ("dstStartRule", local.start_rule), ("tzOffset", local.offset_s))  # fmt: skip
    return [_Made(_LOCAL, f"{_ROOT}/LocalTimeParameters", (), "", _object("LocalTimeParameters", content))]


def _summary(channels: Sequence[_Channel], options: FormatOptions) -> Iterator[_Made]:
    """Yield the usage point's UsageSummary: of one channel of energy used, when each second of the period is there."""
    used = [one for one in channels if _is_used_energy(one.reading_type)]
    if options.from_utc is None or options.to_utc is None or len(used) != 1:
        return
    (channel,) = used
    length = options.to_utc - options.from_utc
    if sum(one.length_s for one in channel.readings) != length:
        return
    total = sum(channel.counted(one) for one in channel.readings)
    if total >= _LARGEST:
        return
    measured = _texts(("powerOfTenMultiplier", channel.power), ("timeStamp", options.to_utc),
                      ("uom", channel.reading_type.unit), ("value", total))  # fmt: skip
    billing = _texts(("duration", length), ("start", options.from_utc))
    content = (
        f"<billingPeriod>{billing}</billingPeriod><overallConsumptionLastPeriod>{measured}"
        f"</overallConsumptionLastPeriod><statusTimeStamp>{options.created_utc_ms // 1000}</statusTimeStamp>"
    )
    address = f"{channel.point}/UsageSummary/{options.from_utc}"
    yield _Made(address, f"{channel.point}/UsageSummary", (), "", _object("UsageSummary", content))


def _is_used_energy(kind: ReadingType) -> bool:
    return (kind.accumulation, kind.flow_direction, kind.unit) == (_DELTA, _FORWARD, _WH)
