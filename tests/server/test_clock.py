"""The watched clock: follows the machine's and never silently."""

from __future__ import annotations

import threading

import pytest
from gridpost.server.clock import WatchedClock

HOUR_MS = 3_600_000


class Machine:
    """A wall clock and a monotonic one, in nanoseconds; `pass_ms` moves both, `step_ms` the wall alone."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_767_225_600_000_000_000, 5_000_000_000

    def pass_ms(self, millis: int) -> None:
        self.wall += millis * 1_000_000
        self.monotonic += millis * 1_000_000

    def step_ms(self, millis: int) -> None:
        self.wall += millis * 1_000_000


@pytest.fixture
def watched():
    machine, steps = Machine(), []
    clock = WatchedClock(steps.append, lambda: machine.wall, lambda: machine.monotonic)
    return machine, clock, steps


def test_it_shows_the_wall_clock_in_milliseconds(watched):
    machine, clock, steps = watched
    assert clock() == 1_767_225_600_000
    machine.pass_ms(86_400_000)
    assert clock() == 1_767_225_600_000 + 86_400_000
    assert steps == []


@pytest.mark.parametrize("by", [HOUR_MS, -HOUR_MS, 365 * 24 * HOUR_MS, -365 * 24 * HOUR_MS, 2_001, -2_001])
def test_a_step_is_told_once_and_followed(watched, by):
    machine, clock, steps = watched
    clock()
    machine.pass_ms(40)
    machine.step_ms(by)
    assert clock() == 1_767_225_600_040 + by
    assert steps == [by]
    clock()
    assert steps == [by]


def test_slewing_is_no_step(watched):
    """NTP slews by 500 ppm: 1.8 s in an hour, seen in readings a second apart."""
    machine, clock, steps = watched
    for _ in range(3600):
        machine.pass_ms(1000)
        machine.wall += 500_000
        clock()
    assert steps == []


def test_whoever_is_told_may_ask_the_clock(watched):
    """The audit log does: it stamps the line about the step."""
    machine, _, _ = watched
    seen = []
    clock = WatchedClock(lambda by: seen.append((by, clock())), lambda: machine.wall, lambda: machine.monotonic)
    machine.step_ms(HOUR_MS)
    clock()
    assert seen == [(HOUR_MS, 1_767_225_600_000 + HOUR_MS)]


def test_two_threads_hear_of_one_step_once():
    """The reactor and the writer share the clock: a thread that read the wall before the step and comes to
    compare after the other one must not report the step backwards and forwards again."""
    machine, steps = Machine(), []
    first_is_between = threading.Event()
    go_on = threading.Event()
    stopped_at_once = threading.local()

    def monotonic() -> int:
        if threading.current_thread().name == "early" and not getattr(stopped_at_once, "done", False):
            stopped_at_once.done = True
            first_is_between.set()
            go_on.wait(5)
        return machine.monotonic

    clock = WatchedClock(steps.append, lambda: machine.wall, monotonic)
    early = threading.Thread(target=clock, name="early")
    early.start()
    assert first_is_between.wait(5)
    machine.step_ms(HOUR_MS)
    late = threading.Thread(target=clock, name="late")
    late.start()
    late.join(0.2)  # with a lock it waits for the early one, without it is done: both orders are right
    go_on.set()
    early.join()
    late.join()
    assert steps == [HOUR_MS]
