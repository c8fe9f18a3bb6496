"""One history: a seed makes a plan, the plan a week with two devices, and a quiet time in which all must come right.

Every choice comes from the seed, each part of the world with a generator of its own. `history(seed, setting)` returns
what was found; nothing outlives it but that.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import sim_judge
from gridpost.server import readers
from gridpost.server.store import sqlite, writer
from sim_bus import Bus
from sim_device import Device
from sim_loop import InlineThreads, Trace, VirtualLoop
from sim_network import Network
from sim_setting import DEVICES, SHAPES, START_UTC_MS, WEEK_S, Setting
from sqlalchemy import Engine, create_engine, event

_RECEIPT_OF = re.compile(rb"<messageId>([^<]+)</messageId><sender>([^<]+)</sender>")
STEPS_MS = (2500, 45_000, 90_000, 1_200_000, 10_800_000)
AFTERWARDS_S = 32 * 3600  # longer than a day and the readers' grace


class Plan(NamedTuple):
    """What a seed decides for the whole week."""

    shapes: int
    push_every_s: int
    trouble: float
    bus_strikes_every: int
    device_strikes_every: int
    batch: int
    happenings: tuple[tuple[float, str, float], ...]  # when, what, how long; seconds


def plan_of(seed: int) -> Plan:
    chance = random.Random(f"{seed} plan")
    happenings: list[tuple[float, str, float]] = []
    for what, most, longest_s in HAPPENINGS:
        for _ in range(chance.randrange(most + 1)):
            happenings.append((chance.uniform(0, WEEK_S), what, chance.uniform(10, longest_s)))
    return Plan(
        shapes=chance.randrange(len(SHAPES)),
        push_every_s=chance.choice((3, 4, 6)) * 3600,
        trouble=chance.choice((0.05, 0.2, 0.4)),
        bus_strikes_every=chance.choice((0, 300, 1000, 3000)),
        device_strikes_every=chance.choice((0, 100, 400, 2000)),
        batch=chance.choice((2, 10, 100)),
        happenings=tuple(sorted(happenings)),
    )


# What may happen, how often in a week at most, for how long at most.
HAPPENINGS = (
    ("kill-bus", 4, 0),
    ("kill-device", 4, 0),
    ("reboot-device", 2, 0),
    ("step-clock", 4, 0),
    ("silent-meter", 2, 9000),
    ("cut-off", 3, 30_000),
    ("bus-disk-full", 2, 20_000),
    ("device-disk-full", 2, 20_000),
    ("way-out-closed", 3, 80_000),
    ("attack", 25, 0),
)


@dataclass
class Found:
    """What a history came to."""

    seed: int
    digest: str
    problems: list[str]
    counts: Counter[str]
    last: list[str] = field(default_factory=list)
    cpu_ms: int = 0


class World:
    """Everything in one history."""

    def __init__(self, seed: int, setting: Setting, folder: Path) -> None:
        self.seed, self.setting, self.folder = seed, setting, folder
        self.plan = plan_of(seed)
        self.loop = VirtualLoop()
        self.trace = Trace(self.loop)
        self.threads = InlineThreads()
        self.over = False
        self.receipts: dict[tuple[str, str], set[bytes]] = {}  # every receipt that left the bus, of each message
        self._begun: set[asyncio.Task[Any]] = set()
        shutil.copy(setting.store(self.plan.shapes), folder / "gridpost.db")
        self.network = Network(self, self.chance("network"))
        self.bus = Bus(self, self.chance("bus"))
        self.devices = [Device(self, serial, self.chance(serial)) for serial in DEVICES]
        self._happens = self.chance("happenings")

    def _machines(self) -> list[Bus | Device]:
        return [self.bus, *self.devices]

    def chance(self, name: str) -> random.Random:
        return random.Random(f"{self.seed} {name}")

    def utc_ms(self) -> int:
        return START_UTC_MS + int(self.loop.time() * 1000)

    def utc_ns(self) -> int:
        return self.utc_ms() * 1_000_000

    def steady_ns(self) -> int:
        return int(self.loop.time() * 1000) * 1_000_000

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)

    def keep_receipt(self, raw: bytes) -> None:
        found = _RECEIPT_OF.search(raw)
        if found is None:
            self.trace.problem("answer", f"200 without a receipt: {raw[:200]!r}")
            return
        known = self.receipts.setdefault((found[2].decode(), found[1].decode()), set())
        known.add(raw)
        if len(known) > 1:
            self.trace.problem("receipts-differ", f"{found[1].decode()} has {len(known)} receipts")

    async def run(self) -> None:
        living = [asyncio.ensure_future(one.live()) for one in self._machines()]
        self._troubles_begin()
        for at_s, what, long_s in self.plan.happenings:
            await asyncio.sleep(max(0.0, at_s - self.loop.time()))
            self.begin(self._happen(what, long_s))
        await asyncio.sleep(max(0.0, WEEK_S - self.loop.time()))
        await self._come_right(living)

    def _troubles_begin(self) -> None:
        self.network.trouble = self.plan.trouble
        self.bus.disk.every = self.plan.bus_strikes_every
        for device in self.devices:
            device.disk.every = self.plan.device_strikes_every

    async def _happen(self, what: str, long_s: float) -> None:
        device = self._happens.choice(self.devices)
        if self.over:
            return
        self.trace.note("world", what, device.serial, int(long_s))
        if what == "kill-bus":
            self.bus.kill()
        elif what in ("kill-device", "reboot-device"):
            device.kill(reboot=what == "reboot-device")
        elif what == "attack":
            await self.network.attack()
        elif what == "step-clock":
            await self._step_clock(device, self._happens.choice(STEPS_MS) * self._happens.choice((-1, 1)))
        elif what == "silent-meter":
            device.meter.silent_until_s = self.loop.time() + long_s
        else:
            await self._for_a_while(what, device, long_s)

    async def _for_a_while(self, what: str, device: Device, long_s: float) -> None:
        owner, name = {
            "bus-disk-full": (self.bus.disk, "full"),
            "device-disk-full": (device.disk, "full"),
            "way-out-closed": (self.bus, "way_out_closed"),
            "cut-off": (self.network, ""),
        }[what]
        if name:
            setattr(owner, name, True)
        else:
            self.network.cut_off.add(device.serial)
        await asyncio.sleep(long_s)
        if name:
            setattr(owner, name, False)
        else:
            self.network.cut_off.discard(device.serial)

    async def _step_clock(self, device: Device, by_ms: int) -> None:
        """Set it wrong, and mostly right again after some hours."""
        await self._set_clock(device, by_ms)
        if self._happens.random() < 0.7:
            await asyncio.sleep(self._happens.uniform(100, 90_000))
            if not self.over:
                await self._set_clock(device, -device.offset_ms)

    async def _set_clock(self, device: Device, by_ms: int) -> None:
        while not device.is_between_boundaries():
            await asyncio.sleep(60)
        device.step_clock(by_ms)

    async def _come_right(self, living: list[asyncio.Task[Any]]) -> None:
        """All troubles end; what was measured must arrive, what arrived must go out."""
        self.network.trouble = 0.0
        self.network.cut_off.clear()
        self.bus.way_out_closed = False
        for one in self._machines():
            one.disk.rest()
        await asyncio.sleep(3 * 3600)  # who is down comes up, who stepped is set right
        for device in self.devices:
            await self._set_clock(device, -device.offset_ms)
        await asyncio.sleep(3 * 3600)
        self.over = True
        for device in self.devices:
            device.stop()
        await asyncio.wait(living[1:])
        for device in self.devices:
            await device.empty()
        while self._begun:  # what the network still carries
            await asyncio.wait(set(self._begun))
        await asyncio.sleep(AFTERWARDS_S)
        if not (self.bus.life and self.bus.life.look() and self.bus.life.look()):
            self.trace.problem("not-drained", "the readers do not get through")
        if self.bus.life and self.bus.life.store:
            self.bus.life.store.close()
        living[0].cancel()


_first: list[Engine] = []


def _engine(*arguments: Any, **options: Any) -> Engine:
    """`create_engine`, with the dialect and the compiled statements of this process's first: they are no state.

    Every life of a bus would compile all its statements again: a tenth of a history.
    """
    made = create_engine(*arguments, **options)
    if not _first:
        made.connect().close()  # tells the dialect which SQLite it is
        _first.append(made)
    made.dialect, made._compiled_cache = _first[0].dialect, _first[0]._compiled_cache
    return made


def history(seed: int, setting: Setting) -> Found:
    """Run a seed's history and judge it."""
    with tempfile.TemporaryDirectory(dir=setting.folder) as name:
        world = World(seed, setting, Path(name))
        event.listen(Engine, "do_connect", world.bus.disk.open_for_sqlalchemy)
        try:
            with (
                mock.patch.object(writer, "threading", world.threads),
                mock.patch.object(readers, "BATCH", world.plan.batch),
                mock.patch.object(sqlite, "create_engine", _engine),
            ):
                world.loop.run_until_complete(world.run())
            sim_judge.judge(world)
        finally:
            event.remove(Engine, "do_connect", world.bus.disk.open_for_sqlalchemy)
            world.bus.disk.die()
            for device in world.devices:
                device.disk.die()
            _end(world.loop)
        for defect in world.loop.defects:
            world.trace.problem("defect", defect)
    trace = world.trace
    return Found(seed, trace.digest(), trace.problems, trace.counts, list(trace.last))


def _end(loop: VirtualLoop) -> None:
    """Let go of what still waits, oldest first: a set would have its own order in each run."""
    left = sorted(asyncio.all_tasks(loop), key=lambda task: (len(task.get_name()), task.get_name()))
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left))
    loop.close()
