"""The machine the agent runs on, and its clock, watched: a step is told from the running of time by a second clock.

In: two clocks, the second one set by nobody. Out: by how much the first was stepped since the last look. What an
interval measured over a step must say is the agent's. `Machine` is all that the agent asks of its machine, so that a
simulation can be one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

STEP_MS = 2000  # what NTP slews within a second stays far below
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux; elsewhere a restart of the machine is not told apart


def wall_ms() -> int:
    """Return UTC milliseconds by the machine's clock."""
    return time.time_ns() // 1_000_000


def steady_ms() -> int:
    """Return milliseconds since boot, sleep included where the system counts it."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


def boot_number() -> int:
    """Return a number that is another after each start of the machine; 0 where that cannot be told."""
    try:
        return int.from_bytes(hashlib.sha256(_BOOT_ID.read_bytes()).digest()[:6])
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class Machine:
    """What the agent asks of the machine: two clocks, chance, which start this is, and to be woken.

    Attributes:
        wall_ms: UTC milliseconds, right or wrong.
        steady_ms: milliseconds by a clock that nobody sets.
        random: a number in 0..1.
        entropy: so many random octets, for ids.
        boot: another number after each start of the machine; 0 when that cannot be told.
        sleep: returns after some seconds; the agent looks at its clocks between two of them.
    """

    wall_ms: Callable[[], int] = wall_ms
    steady_ms: Callable[[], int] = steady_ms
    random: Callable[[], float] = random.random
    entropy: Callable[[int], bytes] = os.urandom
    boot: Callable[[], int] = boot_number
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class ClockWatch:
    """Looks at both clocks."""

    def __init__(self, machine: Machine) -> None:
        """Begin; the first look compares with now."""
        self._wall, self._steady = machine.wall_ms, machine.steady_ms
        self._offset_ms = self._wall() - self._steady()

    def step_ms(self) -> int:
        """Return by how much the wall clock was set since the last look; 0 for less than `STEP_MS`."""
        offset_ms = self._wall() - self._steady()
        step_ms, self._offset_ms = offset_ms - self._offset_ms, offset_ms
        return step_ms if abs(step_ms) >= STEP_MS else 0
