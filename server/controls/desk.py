"""Where IEDs fetch their commands: many asked for together, and fetches kept open until something waits for them.

In: a serial, the greatest counter it knows, how long it will wait. Out: the sealed control's bytes, or None. It runs in
the reactor. What came together goes to the store as one job; a fetch that waits is an entry in a table, no thread, no
connection to the store. What must not be done here: deciding what an IED gets (the store does, by priority), and
telling the IED's counter: the store keeps it with the bytes it gave.

A waiting fetch is woken by `waiting_mark`, looked at every LOOK_S, which also shows what other processes released; what
this one releases wakes at once (`wake`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gridpost import control_messages
from gridpost.controls import Control
from gridpost.errors import StoreUnavailable
from gridpost.ports import Clock

from ..store import SqlStore

LOOK_S = 0.2
BATCH = 50  # fetches of one job: sealing them takes the writer some 20 ms, and receipts wait no longer than that
_ASKED_AT_ONCE = 500  # serials in one question
_FAILED = "{what} failed: {why}"
_log = Logger()
T = TypeVar("T")

# The Body's child, UTC ms, the certificate that signed the fetch -> the signed answer.
Seal = Callable[[bytes, int, bytes], bytes]


class _Ask(NamedTuple):
    """A fetch that goes to the store at the end of this turn."""

    serial: str
    after: int
    certificate: bytes
    told: Deferred[bytes | None]


class _Poll(NamedTuple):
    """A fetch that waits; `ended` fires with whether to ask the store again."""

    serial: str
    ended: Deferred[bool]
    timer: Any


class Desk:
    """`fetch`, and what waits there."""

    def __init__(self, store: SqlStore, bus_id: str, seal: Seal, clock: Clock, reactor: Any) -> None:
        """All live as long as the bus; `seal` is called in the writer's thread."""
        self._store, self._bus_id, self._seal, self._clock = store, bus_id, seal, clock
        self._reactor = reactor
        self.most = 0  # waiting fetches at once; the setting commands.long_polls
        self._asks: list[_Ask] = []
        self._polls: dict[str, _Poll] = {}  # by serial: a device's newer fetch takes the place of its older one
        self._fresh: set[str] = set()  # began to wait since the last look
        self._mark = -1
        self._anything = True  # whether anything waits for anybody; looked at when the mark moves
        self._stopping = False

    @property
    def held(self) -> int:
        """How many fetches wait."""
        return len(self._polls)

    async def fetch(self, serial: str, after: int, wait_s: int, certificate: bytes) -> bytes | None:
        """Return the next control of an IED, sealed; None when none waits, or none came in time.

        Args:
            serial: of the IED, from its enrolment.
            after: the greatest counter it knows.
            wait_s: how long it will wait.
            certificate: that signed its fetch, DER: the control is sealed in that key's family, at its first fetch.

        Raises:
            SignerUnavailable, StoreUnavailable: nothing was given.
        """
        ends = self._reactor.seconds() + wait_s
        found = await self._ask(serial, after, certificate)
        while found is None and (left := ends - self._reactor.seconds()) > 0 and await self._something(serial, left):
            found = await self._ask(serial, after, certificate)  # None again: it was taken back meanwhile
        return found

    def waiting(self, serial: str) -> int:
        """Return how many controls the IED was not given yet; 0 too where the store cannot tell: it is a hint only."""
        if not self._anything:
            return 0
        try:
            return self._store.waiting([serial]).get(serial, 0)
        except StoreUnavailable as problem:
            _log.warn(_FAILED, what="a hint of what waits", why=problem.detail)
            return 0
        except Exception:  # a receipt must not be lost for a hint
            _log.failure("what waits for {serial} cannot be told", serial=serial)
            return 0

    def wake(self) -> None:
        """Something was released by this process: look now."""
        self._reactor.callLater(0, self.look)

    def look(self) -> None:
        """Wake the fetches for which something waits; called every LOOK_S."""
        try:
            mark = self._store.waiting_mark()
            moved, self._mark = mark != self._mark, mark
            self._anything = (moved or self._anything) and self._store.any_waiting()
            asked, self._fresh = (list(self._polls) if moved else list(self._fresh)), set()
            ready = [serial for some in _parts(asked, _ASKED_AT_ONCE) for serial in self._store.waiting(some)]
        except StoreUnavailable as problem:
            self._mark = -1  # the next look sees what this one would have seen
            _log.warn(_FAILED, what="a look for what waits", why=problem.detail)
            return
        except Exception:  # the next look must come whatever became of this one
            self._mark = -1
            _log.failure("the look for waiting controls failed")
            return
        for serial in ready:
            self._end(serial, again=True)

    def stop(self) -> None:
        """Answer what waits, and let nothing wait from now on."""
        self._stopping = True
        for serial in list(self._polls):
            self._end(serial, again=False)

    # --- waiting ---

    async def _something(self, serial: str, wait_s: float) -> bool:
        """Wait until something waits for the IED, or for so long; tell which."""
        self._end(serial, again=False)
        if self._stopping or len(self._polls) >= self.most:
            return False
        ended: Deferred[bool] = Deferred()
        timer = self._reactor.callLater(wait_s, self._end, serial, again=False)
        self._polls[serial] = _Poll(serial, ended, timer)
        self._fresh.add(serial)  # it may have begun to wait after the store was asked, before this
        return await ended

    def _end(self, serial: str, *, again: bool) -> None:
        poll = self._polls.pop(serial, None)
        if poll is None:
            return
        self._fresh.discard(serial)
        if poll.timer.active():
            poll.timer.cancel()
        poll.ended.callback(again)

    # --- asking the store ---

    async def _ask(self, serial: str, after: int, certificate: bytes) -> bytes | None:
        if not self._asks:
            self._reactor.callLater(0, self._hand_over)
        told: Deferred[bytes | None] = Deferred()
        self._asks.append(_Ask(serial, after, certificate, told))
        return await told

    def _hand_over(self) -> None:
        asks, self._asks = self._asks, []
        for together in _without_twins(asks):
            for some in _parts(together, BATCH):
                pairs = [(ask.serial, ask.after) for ask in some]
                seal = partial(self._sealed, {ask.serial: ask.certificate for ask in some})
                future = self._store.fetch(pairs, seal, self._clock())
                future.add_done_callback(partial(self._reactor.callFromThread, _tell, some))

    def _sealed(self, certificates: Mapping[str, bytes], control: Control) -> bytes:
        now = self._clock()
        body = control_messages.encode_control(control, self._bus_id, now)
        return self._seal(body, now, certificates[control.target])


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _without_twins(asks: Iterable[_Ask]) -> list[list[_Ask]]:
    """Lay asks out so that none stands beside one of the same IED: each then gets what its own counter asks for."""
    rows: list[list[_Ask]] = []
    seen: dict[str, int] = {}
    for ask in asks:
        row = seen[ask.serial] = seen.get(ask.serial, -1) + 1
        if row == len(rows):
            rows.append([])
        rows[row].append(ask)
    return rows


def _tell(asks: Sequence[_Ask], done: Future[Mapping[str, bytes | None]]) -> None:
    problem = done.exception()
    for ask in asks:
        if problem is None:
            ask.told.callback(done.result()[ask.serial])
        else:
            ask.told.errback(problem)
