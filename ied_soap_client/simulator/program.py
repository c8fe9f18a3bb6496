"""``gridpost-ied simulate``: the simulated meters as a process.

In: the command line. Out: one line a meter, or one JSON line, once they answer; then a line for each switching of a
relay, until SIGTERM or SIGINT.
"""

from __future__ import annotations

import asyncio
import json
import signal
from typing import NamedTuple

from ..clockwatch import wall_ms
from . import load, meters


class Wanted(NamedTuple):
    """The command line: how many meters, from which address on, with which load, how fast their time runs."""

    meters: int
    host: str
    port: int
    seed: int
    speed: int


async def simulate(wanted: Wanted, *, as_json: bool) -> None:
    """Serve until stopped. Sped-up time begins at the last UTC midnight, so a restart that day goes on with it."""
    anchor_ms = wall_ms() - wall_ms() % load.DAY_MS
    time = meters.Timescale(wall_ms, anchor_ms, wanted.speed)

    def switched(meter: str, closed: bool) -> None:
        told = json.dumps({"event": "relay", "meter": meter, "closed": closed})
        print(told if as_json else f"relay of {meter} {'closed' if closed else 'opened'}", flush=True)

    simulated = await meters.serve(wanted.meters, wanted.host, wanted.port, meters.Load(wanted.seed, time, switched))
    if as_json:
        print(json.dumps(meters.as_json(simulated, wanted.host)), flush=True)
    else:
        for meter in simulated:
            print(f"{meter.meter} at {wanted.host}:{meter.port} unit {meter.unit}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
