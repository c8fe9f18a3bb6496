"""The device's clock, watched: a step is told from the running of time by a second clock that nobody sets.

In: two clocks. Out: by how much the first was stepped since the last look. What an interval measured over a step must
say is the agent's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

STEP_MS = 2000  # what NTP slews within a second stays far below


def wall_ms() -> int:
    """Return UTC milliseconds by the machine's clock."""
    return time.time_ns() // 1_000_000


def steady_ms() -> int:
    """Return milliseconds since boot, sleep included where the system counts it."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


@dataclass(frozen=True, slots=True)
class Machine:
    """What the agent asks of the machine: two clocks and chance."""

    wall_ms: Callable[[], int] = wall_ms
    steady_ms: Callable[[], int] = steady_ms
    random: Callable[[], float] = random.random


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
