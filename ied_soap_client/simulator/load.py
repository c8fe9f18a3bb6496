"""A believable household or small-business load, as a pure function of seed, meter number and time.

In: simulated UTC milliseconds. Out: whole W·ms since an origin, so that a register never goes back, also after a
restart. Pure. Power is constant over each quarter hour: a daily profile, a weekday, and noise that sums to nothing
over each hour, so that the energy at any moment needs only the day at hand.
"""

from __future__ import annotations

import random
from functools import lru_cache

MS = 1000
SLOT_MS = 900 * MS
DAY_MS = 96 * SLOT_MS
ORIGIN_DAY = 18262  # 2020-01-01 in days since 1970
MWH_PER_COUNT = 3600 * MS  # W·ms in one Wh

# Mean W of a home by hour of day: night base, breakfast, daytime, evening peak.
_PROFILE = (
    310, 280, 260, 250, 255, 300, 520, 840, 780, 560, 480, 470,
    560, 540, 470, 460, 520, 760, 1150, 1340, 1210, 960, 620, 420,
)  # fmt: skip
_EXPORT = (0,) * 6 + (10, 120, 420, 840, 1260, 1530, 1640, 1570, 1290, 880, 430, 110, 5) + (0,) * 5  # a small roof


@lru_cache(maxsize=4096)
def slots(seed: int, meter: int, day: int, export: bool) -> tuple[int, ...]:
    """Return the 96 mean powers in W of one day."""
    profile = _EXPORT if export else _PROFILE
    size = random.Random(f"{seed}/{meter}").randrange(60, 400)  # percent of the profile: no two customers are alike
    noise = random.Random(f"{seed}/{meter}/{day}/{export}")
    powers = []
    for hour in range(24):
        mean = profile[hour] * size // 100
        for _ in range(2):
            swing = noise.randrange(0, mean // 3 + 1)
            powers += [mean + swing, mean - swing]
    return tuple(powers)


def power_w(seed: int, meter: int, utc_ms: int, export: bool = False) -> int:
    """Return the power in W at a moment."""
    day, in_day = divmod(utc_ms, DAY_MS)
    return slots(seed, meter, day, export)[in_day // SLOT_MS]


def energy_wms(seed: int, meter: int, utc_ms: int, export: bool = False) -> int:
    """Return the energy since the origin in W·ms; never falls as time goes on."""
    day, in_day = divmod(utc_ms, DAY_MS)
    powers = slots(seed, meter, day, export)
    whole, part = divmod(in_day, SLOT_MS)
    size = sum(powers) * SLOT_MS  # equal for each day of a meter: the noise cancels within the hour
    return (day - ORIGIN_DAY) * size + sum(powers[:whole]) * SLOT_MS + powers[whole] * part
