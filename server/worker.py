"""Who works when on the event loop: messages first, and together; the readers of the log beside them.

In: a Twisted reactor, pools of one thread. Out: `ReactorWorker`, which fulfils `reception.Worker`, and `Aside` for the
readers' steps. Nothing here knows what a message or a step is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")
GATHER_S = 0.02  # two groups begin no closer than this while others may still join the second (ADR 0015)
IN_REACTOR_BYTES = 128 * 1024  # decision 6: above this a message is read in the pool, so that others are not held up
RESTS = 9  # times as long as it worked: while messages come in, the readers take a tenth of the time


class ReactorWorker:
    """`reception.Worker` over a Twisted reactor and a pool of one thread.

    What one turn of the reactor takes in is recorded at its end and so becomes one group of the writer's: else the
    writer, woken by the first message, would sync for each. What a group answers comes back with one wake-up.

    Soon after a group the next one waits for who is connected and has not sent its message yet: a transaction costs a
    busy bus more than a message does. Nobody waits where no other is connected, or no group was lately.
    """

    def __init__(self, reactor: Any, pool: ThreadPool, others: Callable[[], int]) -> None:
        """All live as long as the bus; `others` counts the peers that are connected and have no request with us."""
        self._reactor, self._pool, self._others = reactor, pool, others
        self._turn: list[Deferred[None]] = []
        self._looking = False  # whether this turn's end is called for
        self._gathering: Any = None  # the call that ends a wait for others
        self._ended_s = 0.0  # when messages were last handed to the store
        self._settled: deque[Deferred[None]] = deque()
        self._waking = False

    async def run(self, size: int, function: Callable[[], T]) -> T:
        """Return `function()`, from the pool when the message is large."""
        if size <= IN_REACTOR_BYTES:
            return function()
        result: T = await deferToThreadPool(self._reactor, self._pool, function)
        return result

    async def recorded(self, record: Callable[[], Future[bytes]]) -> bytes:
        """Call `record` when this turn ends and return what the store answers."""
        if not self._looking:
            self._looking = True
            self._reactor.callLater(0, self._look)
        ended: Deferred[None] = Deferred()
        self._turn.append(ended)
        await ended
        future = record()
        if not future.done():
            waiting: Deferred[None] = Deferred()
            future.add_done_callback(lambda _: self._settle(waiting))
            await waiting
        return future.result()

    def _look(self) -> None:
        """At the end of the reactor's turn: hand on what came in, or let the next turn's messages join it."""
        self._looking = False
        wait_s = self._ended_s + GATHER_S - monotonic()
        if wait_s <= 0 or not self._others():
            self._end_turn()
        elif self._gathering is None:
            self._gathering = self._reactor.callLater(wait_s, self._end_turn)

    def _end_turn(self) -> None:
        if self._gathering is not None and self._gathering.active():
            self._gathering.cancel()
        self._gathering, self._ended_s = None, monotonic()
        turn, self._turn = self._turn, []
        for ended in turn:
            ended.callback(None)

    def _settle(self, waiting: Deferred[None]) -> None:
        """Called in the store's thread, or in the reactor's for an answer that is there at once.

        The first of a group wakes the reactor, which then takes all there are. Each side does its two steps in the
        order that leaves no answer behind: put, then look; clear the flag, then take.
        """
        self._settled.append(waiting)
        if not self._waking:
            self._waking = True
            self._reactor.callFromThread(self._resume)

    def _resume(self) -> None:
        self._waking = False
        while self._settled:
            self._settled.popleft().callback(None)


class Aside:
    """Runs the readers' steps in a pool of one thread, and gives way while messages come in.

    The log is the queue: a reader that falls behind loses nothing and catches up at full speed when the burst is over,
    while a device that waits for its receipt would send again.
    """

    def __init__(self, reactor: Any, pool: ThreadPool, received: Callable[[], int]) -> None:
        """`received` counts the messages so far; reactor and pool live as long as the bus."""
        self._reactor, self._pool, self._received = reactor, pool, received
        self._rests: set[Any] = set()  # one for each reader that rests now
        self._hurried = False

    async def run(self, step: Callable[[], T]) -> T:
        """Return `step()`; if messages came in meanwhile, after a rest in proportion to the time it worked."""
        received = self._received()
        result, worked_s = await deferToThreadPool(self._reactor, self._pool, _timed, step)
        if self._received() != received and not self._hurried:
            rested: Deferred[None] = Deferred()
            rest = self._reactor.callLater(worked_s * RESTS, rested.callback, None)
            self._rests.add(rest)
            await rested
            self._rests.remove(rest)
        return result

    def hurry(self) -> None:
        """End every rest and take no other: the bus stops."""
        self._hurried = True
        for rest in self._rests:
            if rest.active():
                rest.reset(0)


def _timed(step: Callable[[], T]) -> tuple[T, float]:
    """Return what a step gave and the seconds it took, without those it waited for its turn."""
    began = monotonic()
    return step(), monotonic() - began
