"""``gridpost-ied simulate``: the simulated meters as a process.

In: the command line. Out: one line a meter, or one JSON line, once they answer; then silence until SIGTERM or SIGINT.
"""

from __future__ import annotations

import asyncio
import json
import signal

from ..clockwatch import wall_ms
from . import load, meters


async def simulate(*, meters_wanted: int, host: str, port: int, seed: int, speed: int, as_json: bool) -> None:
    """Serve until stopped. Sped-up time begins at the last UTC midnight, so a restart that day goes on with it."""
    anchor_ms = wall_ms() - wall_ms() % load.DAY_MS
    time = meters.Timescale(wall_ms, anchor_ms, speed)
    simulated = await meters.start(meters_wanted, host, port, seed, time)
    if as_json:
        print(json.dumps(meters.as_json(simulated, host)), flush=True)
    else:
        for meter in simulated:
            print(f"{meter.meter} at {host}:{meter.port} unit {meter.unit}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
