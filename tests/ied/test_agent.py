"""The agent in this process, with real meters over Modbus and a real bus; its clock can be set by the test.

Most of the time a test waits for the next whole second, so they run three at a time, each in a thread with a loop, a
meter and a bus of its own.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from gridpost.ied_soap_client import measuring
from gridpost.ied_soap_client.agent import Agent
from gridpost.ied_soap_client.clockwatch import ClockWatch, Machine
from gridpost.ied_soap_client.measuring import EVENTS
from gridpost.ied_soap_client.simulator import meters as simulator
from gridpost.ied_soap_client.spool import Spool
from gridpost.ied_soap_client.transport import Transport
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gridpost.model import CreatedEndDeviceEvents, CreatedMeterReadings

HOST = "127.0.0.1"
HOUR_MS = 3_600_000


class Site:
    """One meter whose register the test turns, a machine whose clock it sets, and the agent between."""

    def __init__(self, enrolled, bus):
        self.enrolled, self.bus = enrolled, bus
        self.imported, self.exported, self.scale, self.silent = 1_000_000, 500, 0, False
        self.offset_ms, self.lines, self.changed = 0, [], asyncio.Event()

    async def refresh(self, _function, start, _address, _count, registers, _values):
        if self.silent:
            return ExcCodes.DEVICE_FAILURE
        image = simulator.words(1, 1, 1_772_323_200_000)
        at = 2 + 68  # behind SunS and the common model
        for offset, value in ((46, self.imported), (38, self.exported)):
            image[at + offset : at + offset + 2] = [value >> 16 & 0xFFFF, value & 0xFFFF]
        image[at + 54] = self.scale & 0xFFFF
        registers[40000 - start : 40000 - start + len(image)] = image
        return None

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset_ms

    def say(self, event, **fields):
        self.lines.append((event, fields))
        self.changed.set()

    async def until(self, condition, seconds=20):
        """Wait for the journal to make `condition` true; each line is a chance."""
        async with asyncio.timeout(seconds):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def said(self, event) -> list[dict]:
        return [fields for name, fields in self.lines if name == event]

    async def run(self, story, **sections):
        image = simulator.words(1, 1, 1_772_323_200_000)
        device = SimDevice(1, [SimData(40000, values=image, datatype=DataType.REGISTERS)], action=self.refresh)
        server = ModbusTcpServer(device, address=(HOST, simulator._free_port(HOST)))
        await server.serve_forever(background=True)
        port = server.comm_params.source_address[1]
        meter = {"id": "M1", "host": HOST, "port": port, "unit": 1}
        push = {"every_s": 1, "spread_s": 0, "backoff_first_s": 1, "backoff_most_s": 1}
        self.device = self.enrolled(1, (meter,), push=push, poll={"tolerance_s": 1, "timeout_s": 1}, **sections)
        spool = Spool(self.device.folder / "spool.db")
        async with Transport(self.bus.url, 5) as transport:
            machine = Machine(wall_ms=self.wall_ms, random=lambda: 0.0)
            self.agent = Agent(self.device.config, spool, transport, self.say, machine)
            task = asyncio.create_task(self.agent.run())
            try:
                await story(self)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                spool.close()
                await server.shutdown()
        if task.done() and not task.cancelled():
            task.result()

    def delivered(self, stream="E1") -> dict[int, list[tuple[str | None, tuple[str, ...]]]]:
        return {end: versions for (name, end), versions in sorted(self.bus.readings().items()) if name == stream}

    def total(self) -> Decimal:
        return sum((Decimal(versions[0][0] or 0) for versions in self.delivered().values()), Decimal(0))

    def events(self) -> list[str]:
        pushed = [message for message in self.bus.messages if isinstance(message, CreatedEndDeviceEvents)]
        return [event.event_type for message in pushed for event in message.events]


@pytest.fixture
def site(enrolled, bus):
    return Site(enrolled, bus)


TELLERS = {}


def beside_others(tell):
    """Make a test of `tell(site)` that runs beside others of its kind."""
    TELLERS[tell.__name__] = tell

    def test(together):
        together[tell.__name__].result(180)

    test.__name__, test.__doc__ = tell.__name__, tell.__doc__
    return test


@pytest.fixture(scope="module")
def together(request, tmp_path_factory, world_makers):
    """What becomes of each test of `beside_others` that is to be run, by its name."""
    serving, enroller = world_makers

    def run(name, folder):
        with serving() as bus:
            TELLERS[name](Site(enroller(folder, bus), bus))

    names = [item.name for item in request.session.items if item.module is request.module and item.name in TELLERS]
    with ThreadPoolExecutor(3) as pool:
        yield {name: pool.submit(run, name, tmp_path_factory.mktemp("site")) for name in names}


def values_at_bus(site) -> int:
    return len(site.delivered())


def in_memory(site) -> list[int]:
    return [line["rows_in_memory"] for line in site.said("spool-unavailable") if "rows_in_memory" in line]


# By itself and first: what it sets holds for the whole process.
def test_with_memory_full_too_the_register_keeps_count(site, monkeypatch):
    monkeypatch.setattr(measuring, "MAX_UNSAVED_ROWS", 4)

    async def story(site):
        await site.until(lambda: values_at_bus(site) >= 1)
        spool = site.agent.measuring.spool
        spool.rows("PRAGMA query_only=ON")
        await site.until(lambda: 4 in in_memory(site), 30)
        site.imported += 77
        count = len(in_memory(site))
        await site.until(lambda: len(in_memory(site)) >= count + 3)
        assert max(in_memory(site)) == 4
        spool.rows("PRAGMA query_only=OFF")
        await site.until(lambda: site.total() * 1000 == 77)

    asyncio.run(site.run(story))
    (long,) = [one for versions in site.delivered().values() for one in versions if "1.4.3" in one[1]]
    assert Decimal(long[0]) * 1000 == 77


@beside_others
def test_what_the_register_counts_arrives_to_the_last_watt_hour(site):
    async def story(site):
        await site.until(lambda: site.said("measured"))
        for step in (7, 0, 1234):
            before = values_at_bus(site)
            site.imported += step
            await site.until(lambda before=before: values_at_bus(site) > before and site.total() * 1000 == turned())
        assert set(site.delivered()) == set(site.delivered("B1"))

    def turned():
        return site.imported - 1_000_000

    asyncio.run(site.run(story))
    ends = list(site.delivered())
    assert ends == list(range(ends[0], ends[-1] + 1)), "an interval a second, none missing"
    assert all(versions == [(versions[0][0], ())] for versions in site.delivered().values())
    assert site.events()[0] == EVENTS["power-up"]
    pushed = [message for message in site.bus.messages if isinstance(message, CreatedMeterReadings)]
    dials = {one.channel.stream: one.value for message in pushed for one in message.readings.registers}
    assert dials == {"E1": "1000.000", "B1": "0.500"}, "the dials that counting starts from go along"


@beside_others
def test_a_silent_meter_is_said_once_and_its_energy_runs_into_a_flagged_interval(site):
    async def story(site):
        await site.until(lambda: values_at_bus(site) >= 1)
        site.silent = True
        site.imported += 5000
        await site.until(lambda: len(site.said("meter-silent")) >= 2)
        site.silent = False
        await site.until(lambda: site.total() == Decimal(5))
        await site.until(lambda: EVENTS["meter-answers"] in site.events())

    asyncio.run(site.run(story))
    codes = [codes for versions in site.delivered().values() for _, codes in versions]
    assert codes.count(("1.4.3",)) == 1
    assert codes.count(("2.5.259",)) >= 1
    assert site.events().count(EVENTS["meter-silent"]) == 1
    assert "answers with Modbus exception" in site.said("meter-silent")[0]["reason"]


@beside_others
def test_a_reset_register_is_a_gap_and_an_event(site):
    async def story(site):
        await site.until(lambda: values_at_bus(site) >= 1)
        site.imported = 3
        await site.until(lambda: EVENTS["register-reset"] in site.events())
        site.imported = 10
        await site.until(lambda: site.total() * 1000 == 7)

    asyncio.run(site.run(story))
    assert [versions for versions in site.delivered().values() if versions[0][0] is None] == [
        [(None, ("2.5.259", "1.4.8"))]
    ]


@beside_others
def test_a_clock_an_hour_slow_is_marked_before_and_after_and_never_restamped(site):
    """The bus tells it; the device goes on by its own clock, seals by the bus's, and marks what it measured."""
    site.offset_ms = -HOUR_MS

    async def story(site):
        await site.until(lambda: site.said("clock-wrong") and values_at_bus(site) >= 1)
        site.imported += 40
        await site.until(lambda: site.total() * 1000 == 40)

    asyncio.run(site.run(story))
    now = time.time()
    for end, versions in site.delivered().items():
        assert now - 3600 - 60 < end < now - 3600 + 5, "stamped by the clock it was measured on"
        assert versions[-1][1] == ("1.4.9",)
    assert abs(site.said("clock-told")[0]["bus_minus_device_ms"] - HOUR_MS) < 5000


@beside_others
def test_a_clock_step_marks_what_was_measured_before_it_and_runs_into_no_used_end(site):
    async def story(site):
        await site.until(lambda: values_at_bus(site) >= 2)
        site.offset_ms -= 3_000
        site.imported += 11
        await site.until(lambda: site.said("clock-stepped"))
        await site.until(lambda: site.total() * 1000 == 11)

    asyncio.run(site.run(story))
    marked = [versions for versions in site.delivered().values() if any("1.4.9" in codes for _, codes in versions)]
    assert len(marked) == 1, "three seconds: only the interval the step fell into"
    assert Decimal(marked[0][0][0]) * 1000 == 11, "which holds all that was counted while the ends came round again"
    assert EVENTS["clock-stepped"] in site.events()


@beside_others
def test_after_a_step_of_two_minutes_all_unproven_values_come_again_with_the_mark(site):
    """The clock is 2 min slow, within what the bus takes; then somebody sets it right."""
    site.offset_ms = -120_000

    async def story(site):
        await site.until(lambda: values_at_bus(site) >= 2)
        early = dict(site.delivered())
        site.offset_ms = 0
        await site.until(lambda: all(len(site.delivered()[end]) == 2 for end in early))
        for end in early:
            (before, none), (after, mark) = site.delivered()[end]
            assert (before, none, mark) == (after, (), ("1.4.9",))

    asyncio.run(site.run(story))


@beside_others
def test_a_disk_that_takes_nothing_costs_nothing_but_memory(site):
    """Read-only, as a disk remounts itself after an error; test_spool.py has the full one."""

    async def story(site):
        await site.until(lambda: values_at_bus(site) >= 1)
        spool = site.agent.measuring.spool
        spool.rows("PRAGMA query_only=ON")
        await site.until(lambda: in_memory(site))
        site.imported += 77
        count = len(in_memory(site))
        await site.until(lambda: len(in_memory(site)) >= count + 2)
        spool.rows("PRAGMA query_only=OFF")
        await site.until(lambda: site.total() * 1000 == 77)

    asyncio.run(site.run(story))
    ends = list(site.delivered())
    assert ends == list(range(ends[0], ends[-1] + 1)), "measured all the while, boundary by boundary"
    assert all(codes == () for versions in site.delivered().values() for _, codes in versions)


def test_the_clock_watch_tells_steps_from_running():
    clocks = {"wall": 1_000_000, "steady": 5_000}
    watch = ClockWatch(Machine(wall_ms=lambda: clocks["wall"], steady_ms=lambda: clocks["steady"]))
    clocks["wall"] += 60_500  # a minute passed, NTP slewed half a second
    clocks["steady"] += 60_000
    assert watch.step_ms() == 0
    clocks["wall"] -= 3_600_000
    assert watch.step_ms() == -3_600_000
    assert watch.step_ms() == 0
