"""Time that runs only when somebody waits: an event loop without a clock, and the record of what happened in it.

Everything in a history runs in one thread, in one order. Where the product has a thread of its own (the store's
writer), `InlineThreads` stands in for the module `threading`: the thread's work is done in the caller's, at once or,
so that several requests become one group, when the caller says.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, deque
from typing import Any

LAST_LINES = 400


class Crash(BaseException):
    """This process is gone: nothing it does from here on may have an effect."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio loop whose time jumps to the next thing due."""

    _scheduled: list[asyncio.TimerHandle]  # asyncio's own

    def __init__(self) -> None:
        super().__init__()
        self._selector = self
        self._now_s = 0.0
        self.defects: list[str] = []
        self.set_exception_handler(self._defect)

    def time(self) -> float:
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen again: something waits for what nobody does")
        if timeout > 0:
            self._now_s = max(self._now_s, self._scheduled[0].when())
        return []

    def _process_events(self, events: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""

    def _defect(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        problem = context.get("exception")
        if not isinstance(problem, Crash | BaseExceptionGroup | asyncio.CancelledError):
            self.defects.append(f"{context['message']}: {problem!r}")


class Trace:
    """What happened, line by line: hashed as it comes, the last lines kept, kinds counted."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._hash = hashlib.sha256()
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def note(self, who: str, what: str, *details: object) -> None:
        self.counts[what] += 1
        line = f"{self._loop.time():11.3f} {who} {what} {' '.join(map(str, details))}"
        self._hash.update(line.encode())
        self.last.append(line)

    def problem(self, kind: str, text: str) -> None:
        """A promise that does not hold: `kind` of the list in simulate.py."""
        if len(self.problems) < 50:
            self.problems.append(f"{kind}: {text}")
        self.note("JUDGE", kind, text)

    def digest(self) -> str:
        return self._hash.hexdigest()


class InlineThreads:
    """Stands in for the module `threading` in the store's writer."""

    def __init__(self) -> None:
        self.hold = False
        self._work: list[Any] = []

    def Thread(self, target: Any, **_options: Any) -> InlineThreads:
        self._work.append(target)
        return self

    def Condition(self) -> _Condition:
        return _Condition(self)

    def start(self) -> None:
        """The work is done when there is some."""

    def join(self) -> None:
        self.pump()

    def pump(self) -> None:
        """Do what is queued; the writer's loop ends where it would wait."""
        for work in self._work:
            try:
                work()
            except _Idle:
                continue

    def forget(self) -> None:
        """The process whose threads these were is gone."""
        self._work.clear()


class _Idle(BaseException):
    """A thread would wait now."""


class _Condition:
    def __init__(self, threads: InlineThreads) -> None:
        self._threads = threads
        self._notified = False

    def __enter__(self) -> _Condition:
        return self

    def __exit__(self, *problem: object) -> None:
        if self._notified and problem[0] is None and not self._threads.hold:
            self._notified = False
            self._threads.pump()

    def wait_for(self, ready: Any) -> bool:
        if not ready():
            raise _Idle
        return True

    def notify(self) -> None:
        self._notified = True


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:12]
