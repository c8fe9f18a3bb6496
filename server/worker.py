"""How reception uses the event loop: what leaves the reactor, and what waits for its turn to end.

In: a Twisted reactor, a pool of one thread. Out: `ReactorWorker`, which fulfils `reception.Worker`. Nothing here knows
what a message is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")
IN_REACTOR_BYTES = 128 * 1024  # decision 6: above this a message is read in the pool, so that others are not held up


class ReactorWorker:
    """`reception.Worker` over a Twisted reactor and a pool of one thread.

    What one turn of the reactor takes in is recorded at its end and so becomes one group of the writer's: else the
    writer, woken by the first message, would sync for each. What a group answers comes back with one wake-up.
    """

    def __init__(self, reactor: Any, pool: ThreadPool) -> None:
        """Both live as long as the bus."""
        self._reactor, self._pool = reactor, pool
        self._turn: list[Deferred[None]] = []
        self._settled: deque[Deferred[None]] = deque()

    async def run(self, size: int, function: Callable[[], T]) -> T:
        """Return `function()`, from the pool when the message is large."""
        if size <= IN_REACTOR_BYTES:
            return function()
        result: T = await deferToThreadPool(self._reactor, self._pool, function)
        return result

    async def recorded(self, record: Callable[[], Future[bytes]]) -> bytes:
        """Call `record` when this turn ends and return what the store answers."""
        if not self._turn:
            self._reactor.callLater(0, self._end_turn)
        ended: Deferred[None] = Deferred()
        self._turn.append(ended)
        await ended
        future = record()
        if not future.done():
            waiting: Deferred[None] = Deferred()
            future.add_done_callback(lambda _: self._settle(waiting))
            await waiting
        return future.result()

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, []
        for ended in turn:
            ended.callback(None)

    def _settle(self, waiting: Deferred[None]) -> None:
        """Called in the store's thread: the first of a group wakes the reactor, which then takes all there are."""
        self._settled.append(waiting)
        if len(self._settled) == 1:
            self._reactor.callFromThread(self._resume)

    def _resume(self) -> None:
        while self._settled:
            self._settled.popleft().callback(None)
