"""Whose usage it is: a customer's own intervals from a file, as what bids are compared on.

In: readings of a file, a zone, a period in local days. Out: `Usage`, and what is said of it. What is in the store comes
by its contract (`contracts.py`); from there on both are the same. No value is changed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta, tzinfo
from typing import NamedTuple

from gridpost import units
from gridpost.applications.calendar import Period, cycle_at, cycles, midnight
from gridpost.applications.comparison import Usage
from gridpost.applications.determinants import ENERGY, EXPORT, REACTIVE, Metered
from gridpost.errors import BillRefused, NotFound
from gridpost.model import Channel, IntervalBlock, ReadingType
from gridpost.ports import CurrentReadings

_FORWARD, _REVERSE = 1, 19  # flowDirection, IEC 61968-9 annex C
_KIND_ENERGY = 12  # measurementKind
# (flow direction, unit without its prefix) -> what the channel measures in a contract.
_MEASURES = {(_FORWARD, "Wh"): ENERGY, (_REVERSE, "Wh"): EXPORT, (_FORWARD, "varh"): REACTIVE}


class Asked(NamedTuple):
    """Which time is asked for, in a customer's zone.

    Attributes:
        zone: whose days and hours count.
        cycle_day: day of the month on which a billing cycle begins.
        first, last: local days, both included; None: as far as there is data.
        running: the billing cycle that the newest interval lies in, as far as it goes, instead.
    """

    zone: tzinfo
    cycle_day: int = 1
    first: date | None = None
    last: date | None = None
    running: bool = False


def periods(asked: Asked, extent: tuple[int, int]) -> tuple[Period, ...]:
    """Return the billing periods of what is asked for.

    Args:
        asked: for.
        extent: start of the first interval there is and end of the last one, UTC seconds.

    Raises:
        BillRefused: it holds no time.
    """
    begins, ends = extent
    if asked.running:
        begins = cycle_at(ends, asked.zone, asked.cycle_day).from_utc
        return cycles(begins, ends, asked.zone, asked.cycle_day)
    begins = midnight(asked.first, asked.zone) if asked.first else begins
    ends = midnight(asked.last + timedelta(days=1), asked.zone) if asked.last else ends
    if begins >= ends:
        raise BillRefused("the period asked for holds no time, or no reading lies in it")
    return cycles(begins, ends, asked.zone, asked.cycle_day)


def of_blocks(blocks: Sequence[IntervalBlock], asked: Asked, meter: str = "") -> Usage:
    """Return the usage that a file's blocks show; other channels than energy in, energy out and reactive are left out.

    Args:
        blocks: of any number of meters.
        asked: for which time.
        meter: whose; empty: there must be one only.

    Raises:
        NotFound: no such meter, or no energy in the file.
        BillRefused: several meters and none named, two channels of the same kind, no time.
    """
    meters = sorted({block.channel.meter for block in blocks})
    if meter and meter not in meters:
        raise NotFound(f"the file has no meter {meter!r}; it has {', '.join(meters[:10])}")
    if not meter and len(meters) > 1:
        raise BillRefused(f"the file has {len(meters)} meters ({', '.join(meters[:10])}); name one with --meter")
    found: dict[str, list[IntervalBlock]] = {}
    for block in blocks:
        measure = _measure(block)
        if measure and block.ends_utc and block.channel.meter in (meter, *meters[: not meter]):
            found.setdefault(measure, []).append(block)
    if ENERGY not in found:
        raise NotFound("the file holds no interval energy taken in (kWh)")
    readings = {measure: _joined(measure, those, asked.zone) for measure, those in found.items()}
    ends = [end for one in readings.values() for end in one.block.ends_utc]
    extent = (min(ends) - readings[ENERGY].channel.interval_s, max(ends))
    channels = [Metered(measure, measure) for measure in readings]
    return Usage(readings, channels, periods(asked, extent))


def _measure(block: IntervalBlock) -> str:
    kind = ReadingType.parse(block.channel.reading_type)
    symbol = kind.symbol.lstrip("kMG")
    return _MEASURES.get((kind.flow_direction, symbol), "") if kind.measurement_kind == _KIND_ENERGY else ""


def _joined(measure: str, blocks: Sequence[IntervalBlock], zone: tzinfo) -> CurrentReadings:
    """A channel's blocks as one; what is given twice counts as it came last."""
    keys = {block.channel for block in blocks}
    if len(keys) > 1:
        names = ", ".join(sorted(f"{key.stream or key.reading_type}" for key in keys))
        raise BillRefused(f"the meter has {len(keys)} channels of {measure} ({names}); convert the one that counts")
    key, interval_s = (
        blocks[0].channel,
        blocks[0].interval_s or ReadingType.parse(blocks[0].channel.reading_type).interval_s,
    )
    cells: Mapping[int, tuple[str, tuple[object, ...]]] = {
        end: (value, qualities)
        for block in blocks
        for end, value, qualities in zip(block.ends_utc, block.values, block.qualities, strict=True)
        if value is not None
    }
    ends = tuple(sorted(cells))
    if not interval_s or any(not units.on_grid(end, interval_s, zone) for end in ends):
        raise BillRefused(f"the intervals of {measure} do not lie on the grid of {zone}; name the customer's --zone")
    values, qualities = (tuple(cells[end][place] for end in ends) for place in (0, 1))
    channel = Channel(key, ReadingType.parse(key.reading_type).symbol, interval_s, str(zone))
    block = IntervalBlock(key, interval_s, ends, values, qualities)  # type: ignore[arg-type]
    return CurrentReadings(channel, block, (), (), (), 0)
