"""The bus of a history: the real reception, store, writer, readers and delivery; no sockets, threads and reactor.

A life of its process is one object; when it dies, at whatever step, the next one begins with what the disk holds. What
`server/app.py` does with Twisted's timers is done here with the virtual loop's.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from gridpost.adapters.delivery import Directory
from gridpost.adapters.mv90 import Mv90Adapter
from gridpost.server.audit import Audit
from gridpost.server.clock import WatchedClock
from gridpost.server.day_files import DayFiles
from gridpost.server.heads import Author, HeadPublisher
from gridpost.server.quoted import QuotedReceipts
from gridpost.server.readers import DayFileReader, Deliveries
from gridpost.server.reception import Arrival, Post, Reception, Reply
from gridpost.server.store import SqlStore, open_store
from gridpost.server.zones import zone_of
from sim_disk import Disk
from sim_loop import Crash
from sim_setting import BUS_ID, INSIDER, START_UTC_MS

from gridpost import check
from gridpost.envelope import DEVICE_LIMITS
from gridpost.errors import GridpostError, StoreUnavailable

if TYPE_CHECKING:
    from sim_world import World

T = TypeVar("T")
GRACE_H = 6
HOUR_MS = 3_600_000


class Worker:
    """`reception.Worker`: what comes in while the disk syncs is recorded together, as one group of the writer's."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._turn: list[tuple[Callable[[], Future[bytes]], asyncio.Future[Future[bytes]]]] = []

    async def run(self, _size: int, function: Callable[[], T]) -> T:
        return function()

    async def recorded(self, record: Callable[[], Future[bytes]]) -> bytes:
        loop = self._life.world.loop
        if not self._turn:
            loop.call_later(self._life.bus.chance.choice((0.0, 0.005, 0.1, 2.0)), self._end_turn)
        waiting = loop.create_future()
        self._turn.append((record, waiting))
        receipt: bytes = (await waiting).result(timeout=0)
        return receipt

    def _end_turn(self) -> None:
        life, threads = self._life, self._life.world.threads
        turn, self._turn = self._turn, []
        if not life.is_up:
            return
        try:
            threads.hold = True
            futures = [record() for record, _ in turn]
            threads.hold = False
            threads.pump()
            life.world.trace.note(BUS_ID, "group" if len(turn) > 1 else "alone", len(turn))
            life.bus.disk.step("answer")
        except Crash:
            life.die()
            return
        for future, (_, waiting) in zip(futures, turn, strict=True):
            if not waiting.done():
                waiting.set_result(future)


class AuditLines:
    """Where the audit log goes: into the history."""

    def __init__(self, world: World) -> None:
        self._world = world

    def write(self, line: str) -> None:
        self._world.trace.note("audit", line.split('"event": "', 1)[1].split('"', 1)[0], line.strip())

    def flush(self) -> None:
        """Nothing is kept back."""


class Delivery:
    """The way out: a real directory, which may be away, and beside which the process may die."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._directory = Directory(bus.world.folder / "mv90")

    def deliver(self, name: str, content: bytes) -> str:
        disk, trace = self._bus.disk, self._bus.world.trace
        if self._bus.way_out_closed:
            trace.note(BUS_ID, "delivery-fails", name)
            raise StoreUnavailable("the partner's server is away")
        disk.step("before the file is put")
        place: str = self._directory.deliver(name, content)
        self._bus.delivered.setdefault(name, []).append(content)
        trace.note(BUS_ID, "delivered", name)
        disk.step("before the delivery is noted")
        return place


class Life:
    """One process of the bus."""

    def __init__(self, bus: Bus) -> None:
        self.bus, self.world = bus, bus.world
        self.is_up = False
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in the order they began: a set would have its own each run
        self.store: SqlStore | None = None

    def start(self) -> None:
        """Open everything, as `app.open_parts` and `Bus` do; raises Crash or StoreUnavailable."""
        world, parties = self.world, self.world.setting.parties
        clock = WatchedClock(self._stepped, world.utc_ns, world.steady_ns)
        self.store = store = open_store(self.bus.path, clock, serve=True, on_fatal=self._fatal)
        audit = Audit(AuditLines(world), clock)
        post = Post(BUS_ID, parties.bus, store, clock, zone_of, DEVICE_LIMITS)
        self.reception = Reception(post, audit, Worker(self))
        files = DayFiles(store, Mv90Adapter(), {}, zone_of)
        self.reader = DayFileReader("mv90", store, files, GRACE_H)
        self.deliveries = Deliveries("mv90", store, Delivery(self.bus))
        self.quoted = QuotedReceipts(store, clock)
        self.heads = HeadPublisher(store, Author(BUS_ID, parties.bus), None)
        self.clock, self.audit = clock, audit
        self.is_up = True

    async def receive(self, raw: bytes, peer: str) -> Reply | None:
        """Take one message; None when the process died meanwhile, so that the peer sees the connection break."""
        task = asyncio.ensure_future(self.reception.receive(raw, Arrival(check.HTTP, peer)))
        self.tasks[task] = None
        await asyncio.wait({task})
        self.tasks.pop(task, None)
        if not self.is_up or task.cancelled():
            return None
        problem = task.exception()
        if problem is None:
            return task.result()
        if not isinstance(problem, Crash):
            self.world.trace.problem("reception-raised", repr(problem))
        self.die()
        return None

    async def read_on(self) -> None:
        """The slow reader: follows the log at its own pace; one that fails comes again."""
        while self.is_up:
            await asyncio.sleep(self.bus.reader_every_s * self.bus.chance.uniform(0.2, 1.8))
            if self.is_up:
                self.look()

    def look(self) -> bool:
        """Do what `app.Bus` does at each look; return whether all went well."""
        try:
            self._files()
            more = True
            while more:
                more, found = self.quoted.step()
                for one in found:
                    if one.sender != INSIDER:  # who may quote what it likes, in its own name
                        self.world.trace.problem("entries-missing", str(one))
            self.heads.step(self.clock())
            taken = self.audit.take_refusals()
            if taken and self.store:
                self.store.add_refusals(taken)
        except Crash:
            self.die()
            return False
        except GridpostError as error:
            self.world.trace.note(BUS_ID, "reader-failed", error.code)
            return False
        return True

    def _files(self) -> None:
        now, more = self.clock(), True
        while more:
            outcome = self.reader.step(now)
            self.world.trace.note(BUS_ID, "reader-step", outcome.entries, *(made.name for made in outcome.files))
            for day, reason in outcome.dead:
                self.world.trace.problem("dead-letter", f"{day}: {reason}")
            for sent in self.deliveries.step(now):
                if sent.reason:
                    self.world.trace.problem("dead-letter", f"{sent.name}: {sent.reason}")
            more = outcome.entries > 0

    def die(self) -> None:
        """Kill -9: every task stops where it is, open transactions are gone, the kernel drops the lock."""
        if not self.is_up and self.store is None:
            return
        self.is_up = False
        self.bus.disk.die()
        self.world.threads.forget()
        if self.store is not None and self.store._hold is not None:
            self.store._hold.release()
        self.store = None
        for task in self.tasks:
            task.cancel()
        self.bus.ended.set()

    def _fatal(self, problem: BaseException) -> None:
        """The store is not to be trusted: the process stops by itself, after what it answers now."""
        self.world.trace.note(BUS_ID, "fatal", type(problem).__name__)
        self.world.loop.call_later(0.5, self.die)

    def _stepped(self, step_ms: int) -> None:
        self.world.trace.problem("bus-clock", f"stepped by {step_ms} ms")


class Bus:
    """The bus, through all its processes' lives."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance = world, chance
        self.path = world.folder / "gridpost.db"
        self.disk = Disk(BUS_ID, world.trace, random.Random(chance.random()))
        self.way_out_closed = False
        self.reader_every_s = chance.choice((3 * 3600, 6 * 3600, 12 * 3600))
        self.delivered: dict[str, list[bytes]] = {}  # name -> each content that was put under it
        self.receipts: dict[tuple[str, str], set[bytes]] = {}  # sender, message id -> every 200 that left the bus
        self.life: Life | None = None
        self.ended = asyncio.Event()

    async def live(self) -> None:
        while not self.world.over:
            self._start()
            reading = asyncio.ensure_future(self.life.read_on()) if self.life else None
            await self.ended.wait()
            if reading:
                reading.cancel()
            if not self.world.over:
                await asyncio.sleep(self.chance.choice((0.5, 2, 30, 600, 3600)))

    def _start(self) -> None:
        self.ended.clear()
        self.disk.begin_life()
        life = Life(self)
        try:
            life.start()
        except (Crash, StoreUnavailable) as end:
            self.world.trace.note(BUS_ID, "did-not-start", type(end).__name__)
            self.disk.die()
            self.world.threads.forget()
            self.ended.set()
            return
        self.world.trace.note(BUS_ID, "up")
        self.life = life

    def kill(self) -> None:
        if self.life and self.life.is_up:
            self.world.trace.note(BUS_ID, "killed")
            self.life.die()

    async def receive(self, raw: bytes, peer: str) -> Reply | None:
        """Take a message from the network; None: no connection, or one that broke."""
        life = self.life
        if life is None or not life.is_up:
            return None
        reply = await life.receive(raw, peer)
        if reply is not None and reply.status == 200:
            self.world.keep_receipt(reply.body)
        return reply


def utc_ms(loop_s: float) -> int:
    return START_UTC_MS + int(loop_s * 1000)
