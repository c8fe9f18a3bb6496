"""From meters to the spool: what one clock boundary brings, for all meters that have one then.

In: meters read at a boundary. Out: a `Batch` (stands, intervals, register readings, events) recorded in one
transaction. Reads as long as a stand may still count as the boundary's; a meter that stays silent costs its own
intervals only. When the spool cannot be written the batch waits in memory, and when memory is full too, registers go
on counting: the energy runs into the next interval that can be kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from gridpost import units
from gridpost.errors import MeterUnreachable, StoreUnavailable
from gridpost.model import Channel, ChannelKey, EndDeviceEvent, Quality, ReadingType

from . import config as settings
from . import maps
from . import register_map as rm
from .modbus import Link
from .spool import Batch, Row, Spool
from .zones import zone_of

MAX_UNSAVED_ROWS = 50_000  # in memory while the disk is full: about 20 MB
RETRY_S = 1.0

# What happened -> EndDeviceEventType (IEC 61968-9 annex E). Only the first is seen in a public source; the others are
# put together from its code lists and not confirmed by a second one. They are data: a bus takes any.
EVENTS: Mapping[str, str] = {
    "power-up": "3.26.0.216",
    "meter-silent": "3.1.0.85",
    "meter-answers": "3.1.0.216",
    "clock-stepped": "3.36.0.24",
    "register-reset": "3.21.0.214",
}

Say = Callable[..., None]


class Measured(NamedTuple):
    """A channel of a meter: its row of the table, its point, its dial."""

    channel: Channel
    point: str
    dial: rm.Dial


class Source(Protocol):
    """What gives stands and is no SunSpec meter: a pulse input, a meter with a register map of its own."""

    async def samples(self) -> Mapping[str, rm.Sample]:
        """Return the stands now; raises MeterUnreachable or StoreUnavailable."""

    def close(self) -> None:
        """Let go of what is open."""


@dataclass(slots=True)
class Meter:
    """A meter as the agent knows it: SunSpec behind `link`, unless it has a `source`."""

    settings: settings.Meter
    link: Link | None
    channels: Sequence[Measured]
    silent: bool = False
    source: Source | None = None

    async def samples(self) -> Mapping[str, rm.Sample]:
        """Return the stands now; raises MeterUnreachable, and StoreUnavailable where they are kept here."""
        if self.source:
            return await self.source.samples()
        assert self.link is not None
        return rm.decode(await self.link.read(self.settings.unit))

    def close(self) -> None:
        """Drop what is open."""
        for one in (self.source, self.link):
            if one is not None:
                one.close()

    def due(self, end_utc: int) -> list[Measured]:
        """Return the channels that have an interval end then."""
        return [one for one in self.channels if one.channel.holds_at(end_utc) and _next(one, end_utc - 1) == end_utc]

    def next_end(self, after_utc: int) -> int:
        """Return the next interval end of any channel."""
        return min(_next(one, after_utc) for one in self.channels)


def _next(one: Measured, after_utc: int) -> int:
    return rm.next_end(after_utc, one.dial.interval_s, zone_of(one.channel.zone))


def meters(config: settings.Config) -> list[Meter]:
    """Return the configured meters; those behind one address share a connection."""
    links: dict[tuple[str, int], Link] = {}
    found = settings.channels(config)
    made = []
    for meter in config.meter:
        address = (meter.host, meter.port)
        link = links.setdefault(address, Link(*address, config.poll.timeout_s))
        source = maps.MappedMeter(link, meter.unit, maps.load(config, meter.map)) if meter.map else None
        chosen = maps.points(source.map, meter, found) if source else settings.points(meter, found)
        measured = [Measured(one, point, _dial(meter, one)) for one, point in chosen.items()]
        made.append(Meter(meter, link, measured, source=source))
    return made


def _dial(meter: settings.Meter, channel: Channel) -> rm.Dial:
    multiplier = ReadingType.parse(channel.key.reading_type).multiplier
    return rm.Dial(channel.interval_s, multiplier, settings.ratio_of(meter), meter.dial, meter.largest_step)


@dataclass(slots=True)
class Measuring:
    """The measuring half of the agent.

    Attributes:
        spool: where batches go.
        meters: what is read.
        tolerance_s: how long after a boundary its stand may be read.
        wall_ms: the device's clock.
        new_id: a fresh mRID for an event.
        say: the journal.
        stands: registers at their last boundary, as in the spool or ahead of it by `unsaved`.
        unsaved: what the spool could not take yet.
        clock_wrong: why intervals measured now are marked 1.4.9; empty while the clock is not known to be wrong.
        unmarked: why what was measured before is still to be marked in the spool.
    """

    spool: Spool
    meters: Sequence[Meter]
    tolerance_s: int
    wall_ms: Callable[[], int]
    new_id: Callable[[], str]
    say: Say
    stands: dict[ChannelKey, rm.Stand] = field(default_factory=dict)
    unsaved: Batch = field(default_factory=Batch)
    clock_wrong: str = ""
    unmarked: str = ""

    def next_end(self, after_utc: int) -> int:
        """Return the next boundary of any meter."""
        return min(meter.next_end(after_utc) for meter in self.meters)

    async def boundary(self, end_utc: int) -> None:
        """Read every meter that has a boundary now and record what it brings; never raises for a meter or the disk."""
        due = [(meter, channels) for meter in self.meters if (channels := meter.due(end_utc))]
        read = await asyncio.gather(*(self._read(meter, channels, end_utc) for meter, channels in due))
        batch = Batch()
        for (meter, channels), samples in zip(due, read, strict=True):
            self._heard(meter, samples is not None, batch)
            for one in channels:
                if samples is not None and one.point in samples:
                    self._advance(one, samples[one.point], end_utc, batch)
        self.keep(batch)
        if batch.rows:
            self.say("measured", interval_end=units.format_utc(end_utc), values=len(batch.rows))

    async def read_now(self) -> list[Row]:
        """Read every register now, off the grid, and return register readings of this moment; nothing is recorded.

        Raises:
            MeterUnreachable: a meter is silent; a part would be no answer to who asked for all.
        """
        rows = []
        for meter in self.meters:
            samples = await meter.samples()
            now_utc = self.wall_ms() // 1000
            wrong = (Quality(rm.CLOCK_CHANGED, self.clock_wrong),) if self.clock_wrong else ()
            found = [one for one in meter.channels if one.channel.holds_at(now_utc) and one.point in samples]
            rows += [_register(one, samples[one.point], now_utc)._replace(qualities=wrong) for one in found]
        return rows

    async def _read(self, meter: Meter, due: Sequence[Measured], end_utc: int) -> Mapping[str, rm.Sample] | None:
        """Read a meter, again and again while its stand may still be called the boundary's; None: not to be had."""
        running = asyncio.get_running_loop().time  # a clock nobody steps
        patience_s = max(1.0, min(self.tolerance_s, *(one.dial.interval_s / 10 for one in due)))
        last = running() + patience_s - max(0, self.wall_ms() - end_utc * 1000) / 1000
        while True:
            try:
                samples = await meter.samples()
                reason = "answered too late to say what the register was at the boundary"
                if running() <= last:
                    return samples
            except (MeterUnreachable, StoreUnavailable) as error:
                reason = error.reason
            if running() + RETRY_S > last:
                self.say("meter-silent", meter=meter.settings.id, interval_end=units.format_utc(end_utc), reason=reason)
                return None
            await asyncio.sleep(RETRY_S)

    def _heard(self, meter: Meter, answered: bool, batch: Batch) -> None:
        if meter.silent == answered:
            meter.silent = not answered
            self.event("meter-answers" if answered else "meter-silent", meter.settings.id, batch)

    def _advance(self, one: Measured, sample: rm.Sample, end_utc: int, batch: Batch) -> None:
        key = one.channel.key
        stand = self.stands.get(key)
        # Without room for another row the boundary passes as if the meter had been silent: the register keeps count.
        if len(self.unsaved.rows) + len(batch.rows) >= MAX_UNSAVED_ROWS:
            return
        if stand is None:
            step = rm.Step(rm.first_stand(sample, end_utc), ())
        else:
            if self.clock_wrong:
                stand = rm.flagged(stand, Quality(rm.CLOCK_CHANGED, self.clock_wrong))
            step = rm.advance(stand, sample, end_utc, one.dial)
        self.stands[key] = batch.stands[key] = step.stand
        batch.rows += [Row(key, one.dial.interval_s, *interval) for interval in step.intervals]
        if step.stand.end_utc == end_utc and (stand is None or rm.is_midnight(end_utc, zone_of(one.channel.zone))):
            batch.rows.append(_register(one, sample, end_utc))
        if any(quality.code == rm.RESET for interval in step.intervals for quality in interval.qualities):
            self.event("register-reset", key.meter, batch, channel=key.stream or key.reading_type)

    def event(self, name: str, asset: str, batch: Batch, **details: str) -> None:
        """Put an event into a batch."""
        batch.events.append(EndDeviceEvent(self.new_id(), EVENTS[name], self.wall_ms(), asset, name, "", details))

    def keep(self, batch: Batch) -> None:
        """Record a batch behind those that wait; what cannot be recorded waits in memory and is said aloud."""
        self.unsaved.add(batch)
        try:
            if self.unsaved:
                self.spool.record(self.unsaved)
                self.unsaved = Batch()
            if self.unmarked:
                values = self.spool.flag_clock(self.unmarked, self.stands)
                self.say("clock-wrong", detail=self.unmarked, values_flagged=values)
                self.unmarked = ""
        except StoreUnavailable as error:
            self.say("spool-unavailable", reason=error.reason, rows_in_memory=len(self.unsaved.rows))

    def clock_changed(self, detail: str, *, all_since_proven: bool) -> None:
        """Mark the interval that is running; and, if the clock was wrong by more than a minute, all it measured.

        Args:
            detail: what is known of the change.
            all_since_proven: mark everything measured since the clock was last known right (decision 18).
        """
        flag = Quality(rm.CLOCK_CHANGED, detail)
        self.stands = {key: rm.flagged(stand, flag) for key, stand in self.stands.items()}
        if all_since_proven:
            self.unmarked = detail
        self.keep(Batch(stands=dict(self.stands)))


def _register(one: Measured, sample: rm.Sample, end_utc: int) -> Row:
    """Return the dial's stand at a boundary as a register reading, so that a day's bill can be checked against it."""
    key = one.channel.key
    register = ReadingType.parse(key.reading_type).register()
    return Row(key._replace(reading_type=str(register)), 0, end_utc, rm.engineering(*sample, one.dial), ())
