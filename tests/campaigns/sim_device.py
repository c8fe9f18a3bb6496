"""A device of a history: the real agent and spool, on a machine and behind a meter that are not real.

The meter counts by true time; every stand it gave is remembered, and that is the truth the store is judged by. The
machine's wall clock is stepped and set right again; its disk fails; its process dies and comes back.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from gridpost.ied_soap_client import config as settings
from gridpost.ied_soap_client import register_map
from gridpost.ied_soap_client.agent import Agent
from gridpost.ied_soap_client.clockwatch import Machine
from gridpost.ied_soap_client.outgoing import Outgoing
from gridpost.ied_soap_client.spool import Spool
from sim_disk import Disk
from sim_loop import Crash
from sim_setting import DEVICES, SHAPES, START_UTC_MS, WEEK_S, meter_of

from gridpost.errors import MeterUnreachable, StoreUnavailable

if TYPE_CHECKING:
    from sim_world import World

DIAL = 1 << 32
OFFSETS = {"E": 46, "B": 38}  # of TotWhImp and TotWhExp, in words from the model's ID
STREAMS = {"TotWhImp": "E", "TotWhExp": "B"}
HOURS = WEEK_S // 3600 + 200


class Given(NamedTuple):
    """A stand that the meter gave: the boundary the device took it for, and what was counted in all, Wh."""

    end_utc: int
    counted: dict[str, int]


class FalseMeter:
    """In the place of `modbus.Link`."""

    def __init__(self, device: Device, chance: random.Random) -> None:
        self._device, self._chance = device, chance
        self.silent_until_s = 0.0
        self._begun = {stream: chance.choice((1000, 10_000_000, DIAL - 400_000)) for stream in OFFSETS}
        self._hours = {stream: _hours(chance) for stream in OFFSETS}
        self.given: list[Given] = []

    def counted(self, stream: str) -> int:
        """Wh so far by true time; always rising."""
        now_s = self._device.world.loop.time()
        hour, into_s = divmod(now_s, 3600)
        before, after = self._hours[stream][int(hour) : int(hour) + 2]
        return self._begun[stream] + before + int((after - before) * into_s / 3600)

    async def read(self, _unit: int) -> tuple[int, ...]:
        await asyncio.sleep(self._chance.uniform(0.01, 0.2))
        if self._device.world.loop.time() < self.silent_until_s:
            raise MeterUnreachable("silent")
        interval_s = self._device.shape.interval_s
        end_utc = self._device.wall_ms() // 1000 // interval_s * interval_s
        counted = {stream: self.counted(stream) for stream in OFFSETS}
        self.given.append(Given(end_utc, counted))
        words = [0] * register_map.MODEL_WORDS
        words[:2] = [203, 105]
        for stream, offset in OFFSETS.items():
            raw = counted[stream] % DIAL
            words[offset : offset + 2] = [raw >> 16, raw & 0xFFFF]
        return tuple(words)

    def close(self) -> None:
        """Nothing is open."""


def _hours(chance: random.Random) -> list[int]:
    return [0, *accumulate(chance.randrange(4000, 30_000) for _ in range(HOURS))]


@dataclass
class Device:
    """One device, through all its processes' lives."""

    world: World
    serial: str
    chance: random.Random
    offset_ms: int = 0
    boots: int = 1
    up: bool = False
    receipted: list[str] = field(default_factory=list)
    agent: Agent | None = None
    spool: Spool | None = None
    _task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        number = self.world.plan.shapes
        self.shape = SHAPES[number][DEVICES.index(self.serial)]
        self.disk = Disk(self.serial, self.world.trace, random.Random(self.chance.random()))
        self.disk.unsure_commits = (
            False  # a spool that lives on after an error must see what became of it, as SQLite does
        )
        self.meter = FalseMeter(self, random.Random(self.chance.random()))
        self._stepped = asyncio.Event()
        self._folder = self.world.setting.identity(self.serial, number)
        self.path = self.world.folder / f"{self.serial}.db"
        self.config = settings.Config(
            self._folder,
            bus=settings.Bus("http://bus"),
            identity=settings.Identity(self.serial),
            push=settings.Push(every_s=self.world.plan.push_every_s, spread_s=self.chance.choice((0, 20))),
            meter=(settings.Meter(meter_of(self.serial)),),
        )
        self.machine = Machine(
            wall_ms=self.wall_ms,
            steady_ms=lambda: int(self.world.loop.time() * 1000),
            random=random.Random(self.chance.random()).random,
            entropy=random.Random(self.chance.random()).randbytes,
            boot=lambda: self.boots,
            sleep=self._sleep,
        )

    def wall_ms(self) -> int:
        return START_UTC_MS + int(self.world.loop.time() * 1000) + self.offset_ms

    async def live(self) -> None:
        """Run the agent, and run it again whenever it ended, until the history's week is over."""
        while not self.world.over:
            try:
                await self._one_life()
            except (Crash, StoreUnavailable) as end:
                self.world.trace.note(self.serial, "down", type(end).__name__)
            if not self.world.over:
                self.disk.die()
                self.up = False
                await asyncio.sleep(self.chance.choice((1, 5, 60, 900, 7200)))

    async def _one_life(self) -> None:
        self.disk.begin_life()
        self.spool = Spool(self.path, self.disk.connect)
        self.agent = Agent(self.config, self.spool, self.world.network.transport(self), self._say, self.machine)
        for meter in self.agent.measuring.meters:
            meter.link = self.meter
        self.up = True
        self.world.trace.note(self.serial, "up", self.boots)
        self._task = asyncio.create_task(self.agent.run())
        await asyncio.wait({self._task})
        if self._task.cancelled():
            raise Crash
        problem = self._task.exception()
        if problem is not None and not _is_crash(problem):
            self.world.trace.problem("agent-ended", f"{self.serial}: {problem!r}")
        raise Crash

    def kill(self, *, reboot: bool) -> None:
        """Kill -9, or the machine loses power."""
        self.boots += reboot
        self.disk.die()
        self.stop()

    def stop(self) -> None:
        if self._task:
            self._task.cancel()

    def step_clock(self, by_ms: int) -> None:
        self.offset_ms += by_ms
        self._stepped.set()

    def is_between_boundaries(self) -> bool:
        """No stand is being read: nobody can say which boundary that would be while the clock is set."""
        return 60 <= self.wall_ms() // 1000 % self.shape.interval_s <= self.shape.interval_s - 60

    async def _sleep(self, seconds: float) -> None:
        """Wait as long as the agent asks, or on while it would only look at its clocks and find nothing new."""
        if seconds >= 1:
            interval_ms = self.shape.interval_s * 1000
            seconds = max(seconds, (interval_ms - self.wall_ms() % interval_ms) / 1000 - 0.5)
        self._stepped.clear()
        waiting = asyncio.ensure_future(self._stepped.wait())
        try:
            await asyncio.wait({waiting}, timeout=seconds)
        finally:
            waiting.cancel()

    def _say(self, event: str, **fields: Any) -> None:
        if event == "receipted":
            self.receipted.append(fields["message_id"])
        if event == "refused":  # what this device makes of its meter is never wrong for good: somebody interfered
            self.world.trace.problem("set-aside", f"{self.serial}: {fields['message_id']} for {fields['code']}")
        told = (fields.get(name) for name in ("message_id", "interval_end", "code", "reason", "seq", "by_ms"))
        self.world.trace.note(self.serial, f"ied-{event}", *(one for one in told if one is not None))

    # --- the end of a history ---

    async def empty(self) -> None:
        """Send what is left, as `gridpost-ied retry` does, until nothing is."""
        assert self.agent is not None
        assert self.spool is not None
        Outgoing(self.spool).retry()
        for _ in range(24):
            await self.agent.pusher.drain()
            status = self.spool.status()
            if not (status["readings_waiting"] or status["events_waiting"] or status["messages"]):
                return
            await asyncio.sleep(1200)
        self.world.trace.problem("not-drained", f"{self.serial}: {status}")


def _is_crash(problem: BaseException) -> bool:
    if isinstance(problem, BaseExceptionGroup):
        return all(map(_is_crash, problem.exceptions))
    return isinstance(problem, Crash | asyncio.CancelledError)
