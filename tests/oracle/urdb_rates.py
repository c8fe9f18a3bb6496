"""Thirty rates as URDB writes them, and a year of load: what Gridpost and PySAM are both given.

Deterministic by seed. Time of use by season and kind of day, x one to three tiers shared out over the month, x demand
flat by season and by time of use (with tiers), x fixed charges in every unit. The year is PySAM's own: it starts on a
Monday, has 365 days, no daylight saving and no holidays, so 2018 in a zone without daylight saving.
"""

from __future__ import annotations

import random
from decimal import Decimal

SEED, RATES, YEAR, ZONE = 20_260, 30, 2018, "Etc/GMT+6"
TIER_UNITS = ("kWh", "kWh/kW", "kWh daily", "kWh/kW daily")


def load(seed: int = SEED) -> list[Decimal]:
    """kWh of each hour of the year: base, evenings, weekdays, and some weather."""
    chance = random.Random(seed)
    hourly = []
    for hour in range(8760):
        weekday, of_day = hour // 24 % 7 < 5, hour % 24
        base = 9 + (14 if weekday and 8 <= of_day < 18 else 0) + (6 if 18 <= of_day < 22 else 0)
        hourly.append(Decimal(base * 100 + chance.randrange(1200)) / 100)
    return hourly


def rates(seed: int = SEED) -> list[dict]:
    return [_rate(random.Random(seed * 1000 + number), number) for number in range(RATES)]


def _rate(chance: random.Random, number: int) -> dict:
    periods = chance.randrange(1, 6)
    rate = {
        "label": f"rate-{number}",
        "utility": "Example Power",
        "name": f"Generated {number}",
        "startdate": 1_483_228_800,
        "energyratestructure": _energy(chance, periods, number),
        "energyweekdayschedule": _schedule(chance, periods),
        "energyweekendschedule": _schedule(chance, periods),
        "fixedchargefirstmeter": _money(chance, 5, 60),
        "fixedchargeunits": "$/month",
    }
    if number % 3 != 0:
        rate |= _flat_demand(chance)
    if number % 2 == 0:
        demand_periods = chance.randrange(1, 4)
        rate |= {
            "demandratestructure": _demand(chance, demand_periods, number % 3),
            "demandweekdayschedule": _schedule(chance, demand_periods),
            "demandweekendschedule": _schedule(chance, demand_periods),
        }
    if number % 5 == 4:
        rate |= {"mincharge": _money(chance, 900, 1500), "minchargeunits": "$/month"}
    return rate


def _energy(chance: random.Random, periods: int, number: int) -> list[list[dict]]:
    unit = TIER_UNITS[number % 4]
    most = {"kWh": 4000, "kWh/kW": 150, "kWh daily": 150, "kWh/kW daily": 6}[unit]
    limits = sorted(chance.sample(range(most // 3, most * 2), number % 3))
    structure = []
    for _ in range(periods):
        tiers = [{"rate": _price(chance), "adj": _price(chance, 100), "max": limit, "unit": unit} for limit in limits]
        structure.append([*tiers, {"rate": _price(chance), "adj": _price(chance, 100), "unit": unit}])
    return structure


def _demand(chance: random.Random, periods: int, limited: int) -> list[list[dict]]:
    """Tiers of one set of limits: PySAM knows no other."""
    limits = sorted(chance.sample(range(5, 30), limited))
    return [
        [*({"rate": _money(chance, 1, 9), "max": limit} for limit in limits), {"rate": _money(chance, 1, 12)}]
        for _ in range(periods)
    ]


def _flat_demand(chance: random.Random) -> dict:
    seasons = chance.randrange(1, 4)
    return {
        "flatdemandstructure": _demand(chance, seasons, chance.randrange(3)),
        "flatdemandmonths": [index % seasons for index in range(12)],
        "flatdemandunit": "kW",
    }


def _schedule(chance: random.Random, periods: int) -> list[list[int]]:
    """Two seasons of blocks of hours; every period is in force somewhere."""
    seasons = []
    for _ in range(2):
        edges = sorted(chance.sample(range(1, 24), periods - 1)) if periods > 1 else []
        order = chance.sample(range(periods), periods)
        seasons.append([order[sum(hour >= edge for edge in edges)] for hour in range(24)])
    first, last = sorted(chance.sample(range(12), 2))
    return [list(seasons[first <= month < last]) for month in range(12)]


def _price(chance: random.Random, spread: int = 2500) -> Decimal:
    return Decimal(chance.randrange(50, spread + 51)) / 10_000


def _money(chance: random.Random, low: int, high: int) -> Decimal:
    return Decimal(chance.randrange(low * 100, high * 100)) / 100
