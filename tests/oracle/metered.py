"""Readings as a store gives them, made from plain numbers, for everything that is billed in these tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from zoneinfo import ZoneInfo

from gridpost.applications import calendar
from gridpost.model import Channel, ChannelKey, IntervalBlock, Position
from gridpost.ports import CurrentReadings
from gridpost.tariff import Schedule, Tariff, TariffProfile, Tier

UTC = ZoneInfo("Etc/UTC")
KEY = ChannelKey("UP1", "M1", "", "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0")


def readings(ends: Sequence[int], values: Sequence[object], **of: object) -> CurrentReadings:
    """Return current readings; a value of None is absent. `of`: interval_s, unit, qualities."""
    interval_s = of.get("interval_s", ends[1] - ends[0] if len(ends) > 1 else 900)
    channel = Channel(KEY, of.get("unit", "kWh"), interval_s, "Etc/UTC")
    had = [index for index, value in enumerate(values) if value is not None]
    qualities = of.get("qualities") or [()] * len(values)
    block = IntervalBlock(
        KEY, interval_s, tuple(ends[i] for i in had), tuple(str(values[i]) for i in had),
        tuple(qualities[i] for i in had),
    )  # fmt: skip
    return CurrentReadings(channel, block, tuple(Position(0, i) for i in had), (), (), 0)


def over(period: calendar.Period, value: Callable[[calendar.Hour], object], interval_s: int = 3600) -> CurrentReadings:
    """Return a complete channel whose value is a function of the local hour."""
    ends = calendar.expected_ends(period, interval_s)
    values = [value(calendar.hour_of(end, interval_s, period.zone)) for end in ends]
    return readings(ends, values, interval_s=interval_s)


def flat_grid(index: int = 0) -> tuple[tuple[int, ...], ...]:
    return ((index,) * 24,) * 12


def by_hour(index_of: Callable[[int], int]) -> tuple[tuple[int, ...], ...]:
    return (tuple(map(index_of, range(24))),) * 12


def tariff(zone: str = "Etc/UTC", **terms: object) -> Tariff:
    """Return a tariff of 0.10 a kWh at any time, unless `terms` say otherwise."""
    energy = TariffProfile(Schedule(flat_grid(), flat_grid()), ((Tier(Decimal("0.10")),),))
    return Tariff(
        **{"id": "T", "supplier": "S", "name": "N", "currency": "EUR", "zone": zone, "energy": energy} | terms
    )


def profile(*prices: str, grid: object = None, weekend: object = None, holiday: object = None) -> TariffProfile:
    """Return a profile with one tier a period."""
    grid = grid or flat_grid()
    return TariffProfile(Schedule(grid, weekend or grid, holiday), tuple((Tier(Decimal(price)),) for price in prices))
