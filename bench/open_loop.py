"""Open loop: pushes at fixed moments, whatever became of those before, each message sealed a moment before its own.

One process: while no push is due and no answer is there, the next messages are sealed, at most a second ahead.
"""

import gc
import os
import time
from collections import deque
from typing import NamedTuple

import pushes
import workload

AHEAD_S = 1.0
LEAST_S = 0.002  # a message is sealed ahead only when nothing is due for so long
LATE_S = 0.05  # a push that starts later than this behind its moment: the generator was short of processor


class Load(NamedTuple):
    """What came of it: the outcomes, how late pushes started, the generator's processor time, memory by second."""

    seconds: float
    outcomes: list
    late_starts: int
    latest_start_s: float
    client_cpu_s: float
    memory: dict


def run(address, devices, rate, seconds, memory_bytes):
    """Push once for each device in turn at `rate` a second for `seconds`; `memory_bytes` is asked once a second."""
    gc.collect()
    gc.disable()  # half a second each time over all outcomes so far, in which no push would start
    try:
        return _run(address, devices, rate, seconds, memory_bytes)
    finally:
        gc.enable()


def _run(address, devices, rate, seconds, memory_bytes):
    count = int(rate * seconds)
    sealed, outcomes, memory = deque(), [], {}
    pusher = pushes.Pusher(address, pushes.tls_context())
    cpu, began = time.process_time(), time.perf_counter() + 0.1
    started = made = late = 0
    latest, last_second = 0.0, -1
    while started < count or pusher.open:
        now = time.perf_counter() - began
        while started < count and started / rate <= now:
            if not sealed:
                sealed.append(_sealed(devices, made))
                made += 1
            behind = time.perf_counter() - began - started / rate
            late, latest = late + (behind > LATE_S), max(latest, behind)
            pusher.start(sealed.popleft(), began + started / rate)
            started += 1
        if int(now) > last_second:
            last_second = int(now)
            memory[last_second] = memory_bytes()
        until = started / rate - (time.perf_counter() - began) if started < count else AHEAD_S
        may_seal = made < count and len(sealed) < rate * AHEAD_S and until > LEAST_S
        outcomes += pusher.wait(0.0 if may_seal else until)
        if may_seal:
            sealed.append(_sealed(devices, made))
            made += 1
    pusher.close()
    return Load(time.perf_counter() - began, outcomes, late, latest, time.process_time() - cpu, memory)


def _sealed(devices, number):
    return workload.message(devices[number % len(devices)], 1, number)


def figures(load, rate):
    """Return counts and latencies, from each push's moment, in milliseconds."""
    taken = [one for one in load.outcomes if not one.error and one.status == 200 and _names(one)]
    failed = [one for one in load.outcomes if one.error or one.status != 200 or not _names(one)]
    reasons = {}
    for one in failed:
        reason = one.error or f"status {one.status} {bytes(one.body[:200])!r}"
        reasons[reason] = reasons.get(reason, 0) + 1
    waited = sorted(one.late_s * 1000 for one in taken) or [float("inf")]
    return {
        "rate": rate, "seconds": load.seconds, "sent": len(load.outcomes), "taken": len(taken), "failed": len(failed),
        "reasons": dict(sorted(reasons.items(), key=lambda item: -item[1])[:5]),
        **{f"p{part}_ms": waited[min(len(waited) - 1, int(len(waited) * part / 100))] for part in (50, 90, 99, 99.9)},
        "longest_ms": waited[-1], "late_starts": load.late_starts, "latest_start_ms": load.latest_start_s * 1000,
        "client_busy": load.client_cpu_s / load.seconds, "cores": os.cpu_count(),
    }  # fmt: skip


def _names(one):
    return one.message.message_id.encode() in one.body
