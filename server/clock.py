"""The bus's clock: the machine's, watched; and the timer of its listeners, which knows no wall clock.

A step of the machine's clock changes which messages are taken as fresh, so it is never silent: the clock compares each
reading with the monotonic one and reports a step before it follows it (facts/security.md 2.4). That recorded times
never fall is the writer's promise, not this one's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

STEP_MS = 2_000  # what NTP slews stays far below this between two readings


class WatchedClock:
    """A `ports.Clock`; call it for UTC milliseconds."""

    def __init__(
        self,
        on_step: Callable[[int], None],
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`on_step` is told by how many milliseconds the wall clock moved against the monotonic one."""
        self._on_step = on_step
        self._wall_ns, self._monotonic_ns = wall_ns, monotonic_ns
        self._lock = threading.Lock()  # the reactor and the writer's thread both ask
        self._offset_ms = self._difference_ms()

    def __call__(self) -> int:
        """Return UTC milliseconds."""
        with self._lock:
            offset = self._difference_ms()
            step, self._offset_ms = offset - self._offset_ms, offset
        if abs(step) > STEP_MS:
            self._on_step(step)
        return self._wall_ns() // 1_000_000

    def _difference_ms(self) -> int:
        return (self._wall_ns() - self._monotonic_ns()) // 1_000_000


class MonotonicTimer:
    """The reactor's timer on a clock that never steps: the listener's deadlines depend on it."""

    def __init__(self, reactor: Any) -> None:
        """Wrap a reactor."""
        self._reactor = reactor

    def seconds(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def callLater(self, delay: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Schedule a call, as IReactorTime has it."""
        return self._reactor.callLater(delay, function, *args, **kwargs)
