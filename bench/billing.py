"""Bench of billing: a month of every meter from the SQLite store to bills, and a meter's year under twenty tariffs.

``python bench/billing.py [--meters 10000] [--work FOLDER] [--pushes-a-day 1] [--spread 4000] [--json]``. Processor
time of one thread, wall time beside it. Made beforehand and not timed: the store (`billing_store.py`), kept in FOLDER
for the next run. A meter has two channels of quarter hours with three decimals; the tariff has time of use, tiers and
demand. Exit 0, and "ok": true, when 500 meter-months a second, reading included, and a comparison in less than a second
are reached.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import billing_store
from billing_store import Shape
from gridpost.server.store import open_store

from gridpost.applications import bills, calendar, charges, comparison, determinants, series
from gridpost.applications.bills import Basis
from gridpost.applications.comparison import Bid, Usage
from gridpost.applications.determinants import Metered
from gridpost.tariff import Fixed, FlatDemand, Schedule, Tariff, TariffProfile, Tier

ZONE = ZoneInfo("America/Chicago")
CHANNELS = (Metered("import"), Metered("reactive", "reactive"))
MONTHS_A_SECOND, YEAR_S = 500, 1  # wanted
BIDS = 20
_STAGE_METERS = 200
_LATER = 4_000_000_000_000  # UTC milliseconds: behind all that was recorded


def main(arguments=None) -> int:
    given = parse(arguments)
    shape = Shape(given.meters, month(), given.pushes_a_day, given.spread)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(given.work or temporary)
        found = {
            "months": months(work, shape),
            "stages_ms_a_meter_month": stages(work, shape, given.repeats),
            "year": year(work, given.repeats),
            "load_average": round(os.getloadavg()[0], 1),
            "pushes_a_day": given.pushes_a_day,
            "different_values": given.spread,
        }
    rate, slowest = found["months"]["a_second"], max(found["year"]["first_s"], found["year"]["again_s"])
    found["ok"] = rate >= MONTHS_A_SECOND and slowest < YEAR_S
    print(json.dumps(found, indent=None if given.json else 1))
    return 0 if found["ok"] else 1


def parse(arguments) -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--meters", type=int, default=10_000, help="meters in the store, each billed once (10000)")
    options.add_argument("--work", help="folder that keeps the store for the next run; 520 MB for 10,000 meters")
    options.add_argument("--pushes-a-day", type=int, default=1, choices=(1, 4, 24), help="messages a meter sent (1)")
    options.add_argument("--spread", type=int, default=4000, help="different values, 0.000 and up (4000)")
    options.add_argument("--repeats", type=int, default=3, help="times a stage and the comparison are measured (3)")
    options.add_argument("--json", action="store_true")
    return options.parse_args(arguments)


def month() -> calendar.Period:
    """March, with its change to summer time: 2,972 quarter hours."""
    return calendar.cycle(2026, 3, ZONE)


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


def opened(work, shape):
    """The store of a shape, open for reading, as an administration command opens it."""
    return open_store(billing_store.prepared(work, shape), lambda: _LATER)


def bills_of(store, meters, period, of):
    """Yield each meter's bill: what is timed."""
    at = store.version()
    ids = [number for meter in meters for number in billing_store.channel_ids(meter)]
    current = store.readings_of(ids, period.from_utc, period.to_utc, at)
    for meter, energy, reactive in zip(meters, current, current, strict=True):
        found = determinants.of({"import": energy, "reactive": reactive}, CHANNELS, of, period)
        yield bills.bill(Basis(f"B{meter}", f"C{meter}", at, "tzdata"), [(of, found)])


def months(work, shape) -> dict[str, object]:
    """Every meter of the store billed once, from opening it to the last line; the rate also of each tenth."""
    billing_store.prepared(work, shape)
    begun, wall = time.process_time(), time.perf_counter()
    store = opened(work, shape)
    lines, energy, total, marks = 0, Decimal(0), Decimal(0), [(0, begun)]
    tenth = max(1, shape.meters // 10)
    for count, bill in enumerate(bills_of(store, range(shape.meters), shape.period, tariff()), 1):
        lines += len(bill.lines)
        energy += sum((line.quantity for line in bill.lines if line.kind == "energy"), Decimal(0))
        total += bill.total
        if count % tenth == 0 or count == shape.meters:
            marks.append((count, time.process_time()))
    waited = time.perf_counter() - wall
    store.close()
    rates = [round((one[0] - before[0]) / (one[1] - before[1]), 1) for before, one in pairwise(marks)]
    return {
        "meters": shape.meters,
        "a_second": round(shape.meters / (marks[-1][1] - begun), 1),
        "a_second_least_and_greatest_tenth": [min(rates), max(rates)],
        "a_second_by_the_wall": round(shape.meters / waited, 1),
        "lines": lines,
        "kwh": str(energy),
        "total": str(total),
    }


def stages(work, shape, repeats) -> dict[str, float]:
    """Milliseconds of processor time of each stage of one meter-month."""
    meters, period, of = range(min(shape.meters, _STAGE_METERS)), shape.period, tariff()
    ids = [number for meter in meters for number in billing_store.channel_ids(meter)]
    store = opened(work, shape)
    read = list(store.readings_of(ids, period.from_utc, period.to_utc))
    pairs = [{"import": read[at], "reactive": read[at + 1]} for at in range(0, len(read), 2)]
    measured = [determinants.measured(pair, CHANNELS, period) for pair in pairs]
    laid = [determinants.under(one, of) for one in measured]
    cases = {
        "rows of the store to current readings": lambda: [
            None for _ in store.readings_of(ids, period.from_utc, period.to_utc)
        ],
        "text to whole numbers": lambda: [series.of(one, period) for one in read],
        "determinants": lambda: [determinants.under(one, of) for one in measured],
        "lines": lambda: [charges.lines(of, one) for one in laid],
    }
    found = {name: round(_least(case, repeats) / len(meters) * 1000, 3) for name, case in cases.items()}
    store.close()
    return found


def year(work, repeats) -> dict[str, float]:
    """Seconds for twenty bids over a meter's year, its readings fetched anew each time.

    The first one works out the calendars of twenty tariffs too.
    """
    periods = [calendar.cycle(2026, number, ZONE) for number in range(1, 13)]
    whole = calendar.Period(periods[0].from_utc, periods[-1].to_utc, ZONE)
    bids = [Bid(f"bid {number}", (tariff(number),)) for number in range(BIDS)]
    store = opened(work, Shape(1, whole))

    def compare():
        energy, reactive = store.readings_of(billing_store.channel_ids(0), whole.from_utc, whole.to_utc)
        comparison.compare(bids[0], bids[1:], Usage({"import": energy, "reactive": reactive}, CHANNELS, periods))

    first = _seconds(compare)
    again = statistics.median(_seconds(compare) for _ in range(repeats))
    store.close()
    return {"tariffs": BIDS, "first_s": round(first, 3), "again_s": round(again, 3)}


def _least(case, repeats) -> float:
    return min(_seconds(case) for _ in range(repeats))


def _seconds(case) -> float:
    begun = time.process_time()
    case()
    return time.process_time() - begun


if __name__ == "__main__":
    sys.exit(main())
