"""Bench of the pure part of billing: readings of a month to the lines of a bill, and a year under twenty tariffs.

``python bench/billing.py [--meters N] [--repeats N] [--json]``. No store, no disk: what the arithmetic takes on one
core, from the decimal texts the store keeps to rounded lines. Each meter has its own values, made beforehand.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from decimal import Decimal
from zoneinfo import ZoneInfo

from gridpost.applications import calendar, charges, comparison, determinants, series
from gridpost.applications.comparison import Bid, Usage
from gridpost.applications.determinants import Metered
from gridpost.model import Channel, ChannelKey, IntervalBlock, Position
from gridpost.ports import CurrentReadings
from gridpost.tariff import Fixed, FlatDemand, Schedule, Tariff, TariffProfile, Tier

ZONE = ZoneInfo("America/Chicago")
CHANNELS = (Metered("import"), Metered("reactive", "reactive"))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--meters", type=int, default=300, help="different meters in a month (300)")
    options.add_argument("--repeats", type=int, default=5, help="times each is measured (5)")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    month, (low, high) = months(given.meters, given.repeats)
    found = {
        "meter_months_a_second": round(month),
        "meter_months_a_second_least_and_greatest": [round(low), round(high)],
        "stages_ms_a_meter_month": stages(given.repeats),
        "twenty_tariffs_one_meter_year_s": year(given.repeats),
        "meters": given.meters,
        "repeats": given.repeats,
    }
    print(json.dumps(found, indent=None if given.json else 1))
    return 0


def tariff(number: int = 0) -> Tariff:
    """Time of use with two tiers, demand by time of use and flat, a standing charge."""
    shift = number % 4
    grid = (tuple(int(7 + shift <= hour < 21) + int(12 <= hour < 18) for hour in range(24)),) * 12
    weekend = ((0,) * 24,) * 12
    prices = [(Decimal(1000 + 37 * number + 211 * index) / 10_000) for index in range(3)]
    tiers = tuple((Tier(price, Decimal(900)), Tier(price * 2)) for price in prices)
    demand = ((Tier(Decimal(0), unit="kW"),), (Tier(Decimal("3.2"), unit="kW"),))
    peak = (tuple(int(12 <= hour < 18) for hour in range(24)),) * 12
    return Tariff(
        id=f"T{number}", supplier="S", name="bench", currency="USD", zone="America/Chicago",
        energy=TariffProfile(Schedule(grid, weekend), tiers),
        demand=TariffProfile(Schedule(peak, weekend), demand),
        flat=FlatDemand((0,) * 12, ((Tier(Decimal("5.5"), unit="kW"),),)),
        fixed=(Fixed("standing", Decimal("12.5")),),
    )  # fmt: skip


def channel(period: calendar.Period, seed: int) -> CurrentReadings:
    """A quarter-hour channel with three decimals, as the store gives it."""
    chance = random.Random(seed)
    key = ChannelKey("UP1", "M1", "", "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0")
    ends = tuple(calendar.expected_ends(period, 900))
    values = tuple(f"{chance.randrange(4000) / 1000:.3f}" for _ in ends)
    block = IntervalBlock(key, 900, ends, values, ((),) * len(ends))
    return CurrentReadings(Channel(key, "kWh", 900, "America/Chicago"), block, (Position(0, 0),) * len(ends), (), (), 0)


def months(meters: int, repeats: int) -> tuple[float, tuple[float, float]]:
    """Meter-months a second: median, then least and greatest."""
    period, of = calendar.cycle(2026, 3, ZONE), tariff()
    readings = [{"import": channel(period, n), "reactive": channel(period, n + meters)} for n in range(meters)]
    charges.lines(of, determinants.of(readings[0], CHANNELS, of, period))  # the calendar is worked out once
    rates = []
    for _ in range(repeats):
        begun = time.process_time()
        for one in readings:
            charges.lines(of, determinants.of(one, CHANNELS, of, period))
        rates.append(meters / (time.process_time() - begun))
    return statistics.median(rates), (min(rates), max(rates))


def stages(repeats: int) -> dict[str, float]:
    """Milliseconds of processor time of each stage of one meter-month."""
    period, of = calendar.cycle(2026, 3, ZONE), tariff()
    readings = {"import": channel(period, 1), "reactive": channel(period, 2)}
    found = determinants.measured(readings, CHANNELS, period)
    under = determinants.under(found, of)
    cases = {
        "text to whole numbers, two channels": lambda: [series.of(one, period) for one in readings.values()],
        "determinants": lambda: determinants.under(determinants.Measured(period, _fresh(found), (), ()), of),
        "lines": lambda: charges.lines(of, under),
    }
    return {name: _ms(case, repeats * 20) for name, case in cases.items()}


def _fresh(found: determinants.Measured) -> dict[str, series.Series]:
    """Series that have not summed yet."""
    return {
        measure: series.Series(one.ends_utc, one.interval_s, one.values, one.places)
        for measure, one in found.by_measure.items()
    }


def _ms(case: object, times: int) -> float:
    begun = time.process_time()
    for _ in range(times):
        case()
    return round((time.process_time() - begun) / times * 1000, 3)


def year(repeats: int) -> dict[str, float]:
    """Seconds for a comparison of twenty bids over twelve months; the first works out twenty calendars too."""
    periods = [calendar.cycle(2026, month, ZONE) for month in range(1, 13)]
    whole = calendar.Period(periods[0].from_utc, periods[-1].to_utc, ZONE)
    usage = Usage({"import": channel(whole, 7), "reactive": channel(whole, 8)}, CHANNELS, periods)
    bids = [Bid(f"bid {number}", (tariff(number),)) for number in range(20)]
    taken = []
    for _ in range(repeats + 1):
        begun = time.process_time()
        comparison.compare(bids[0], bids[1:], usage)
        taken.append(time.process_time() - begun)
    return {"first": round(taken[0], 3), "again": round(statistics.median(taken[1:]), 3)}


if __name__ == "__main__":
    sys.exit(main())
