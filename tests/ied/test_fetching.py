"""The agent and a bus that gives commands, over real sockets: what is fetched when, what an answer is worth."""

import asyncio
import time

import pytest
from gridpost.ied_soap_client import config as settings
from gridpost.ied_soap_client.agent import Agent
from gridpost.ied_soap_client.clockwatch import Machine
from gridpost.ied_soap_client.control_book import ControlBook
from gridpost.ied_soap_client.spool import Batch, Row, Spool
from gridpost.ied_soap_client.transport import Transport

from gridpost import control_messages, exchange
from gridpost.controls import Control
from gridpost.errors import ConfigInvalid
from gridpost.model import ChannelKey
from gridpost.testing import FORWARD_KWH_15MIN, ThrowawayCA

OBEY = {"issuer": "grid-co", "role": "utility", "actions": "shed, restore time-sync request-data"}


def shed(number: int, **changes) -> Control:
    made = Control(f"0-{number}-0", "grid-co", "utility", f"t-{number}", "shed", "IED-7", "relay")
    return made._replace(**changes)


class Site:
    """An agent without meters in this process; its clock and its chance are the test's."""

    def __init__(self, enrolled, bus, tmp_path):
        self.enrolled, self.bus, self.offset_ms = enrolled, bus, 0
        self.lines, self.changed, self.acted = [], asyncio.Event(), tmp_path / "acted"

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset_ms

    def say(self, event, **fields):
        self.lines.append((event, fields))
        self.changed.set()

    def said(self, event) -> list[dict]:
        return [fields for name, fields in self.lines if name == event]

    def acts(self) -> list[str]:
        return self.acted.read_text().split() if self.acted.exists() else []

    async def until(self, condition, seconds=30):
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)

    def run(self, story, **control):
        asyncio.run(self._run(story, control))

    async def _run(self, story, control):
        push = {"every_s": 3600, "spread_s": 0, "backoff_first_s": 1, "backoff_most_s": 1}
        program = {"name": "relay", "actions": {"shed": "open", "restore": "close"}}
        program["command"] = f"""sh -c 'echo $GRIDPOST_MRID >> {self.acted}'"""
        if not hasattr(self, "device"):
            self.device = self.enrolled(push=push, control={"poll_s": 3600} | control, obey=[OBEY], output=[program])
        spool = Spool(self.device.folder / "spool.db", keep_days=40)
        async with Transport(self.bus.url, 10) as transport:
            machine = Machine(wall_ms=self.wall_ms, random=lambda: 0.05)
            agent = Agent(self.device.config, spool, transport, self.say, machine)
            task = asyncio.create_task(agent.run())
            try:
                await story(agent)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                spool.close()
        if task.done() and not task.cancelled():
            task.result()


@pytest.fixture
def site(enrolled, bus, tmp_path):
    return Site(enrolled, bus, tmp_path)


def test_commands_are_fetched_one_by_one_done_in_order_and_told_at_once(site, bus):
    bus.command(shed(1), shed(2, action="restore"), shed(3, output="pump"), shed(4, target="IED-8"))

    async def story(_agent):
        await site.until(lambda: len(bus.outcomes()) == 4)

    site.run(story)
    assert site.acts() == ["0-1-0", "0-2-0"]
    assert (
        bus.outcomes()
        == [
            ("0-1-0", "done", "the program ended with 0"),
            ("0-2-0", "done", "the program ended with 0"),
            ("0-3-0", "refused", "this device has no output pump"),
            ("0-4-0", "refused", "it is for IED-8, this is IED-7"),
        ]
        or sorted(bus.outcomes()) == bus.outcomes()
    )
    assert [fetch.after for fetch in bus.fetches][:4] == [0, 1, 2, 3]


def test_lost_answers_and_repeated_fetches_never_act_twice(site, bus):
    bus.command(shed(1), shed(2))
    count = 0

    def lossy(_raw, answer):
        nonlocal count
        count += 1
        status, body, headers = answer()
        return (502, b"", {}) if count % 2 else (status, body, headers)

    bus.behave = lossy

    async def story(_agent):
        await site.until(lambda: len(bus.outcomes()) == 2)

    site.run(story)
    with_answer = bus.sealed[1][1]
    assert site.acts() == ["0-1-0", "0-2-0"]
    # The bus forgot that it was told, and gives the first one again: the device knows it.
    bus.behave = lambda _raw, answer: (200, with_answer, {}) if len(bus.fetches) < 99 and not told() else answer()
    seen = []

    def told():
        seen.append(1)
        return len(seen) > 3

    async def again(_agent):
        await site.until(lambda: len(seen) > 3)

    site.run(again)
    assert site.acts() == ["0-1-0", "0-2-0"]
    assert [outcome for _, outcome, _ in bus.outcomes()] == ["done", "done"]


def test_a_push_is_followed_by_a_fetch_at_once_when_the_bus_says_that_something_waits(site, bus):
    async def story(agent):
        await site.until(lambda: len(bus.fetches) == 1 and bus.messages)  # the first fetch and the power-up event
        bus.command(shed(1))
        agent._urgent.set()
        agent.measuring.keep(_event(agent))
        await site.until(lambda: bus.outcomes())

    site.run(story)
    assert site.acts() == ["0-1-0"]


def _event(agent):
    batch = Batch()
    agent.measuring.event("power-up", "IED-7", batch)
    return batch


def test_a_fetch_kept_open_brings_a_command_at_once_beside_a_push(site, bus):
    async def story(agent):
        await site.until(lambda: any(fetch.wait_s == 60 for fetch in bus.fetches))
        pushed = len(bus.messages)
        agent.measuring.keep(_event(agent))
        agent._urgent.set()
        await site.until(lambda: len(bus.messages) > pushed)
        bus.command(shed(1))
        await site.until(lambda: bus.outcomes())

    site.run(story, long_poll_s=60)
    assert site.acts() == ["0-1-0"]
    assert [fetch.wait_s for fetch in bus.fetches][:2] == [0, 60]


def test_who_obeys_nobody_asks_only_when_told_to_and_refuses_with_the_reason(site, bus):
    site.device = site.enrolled(push={"every_s": 3600, "spread_s": 0})
    bus.command(shed(1))

    async def story(_agent):
        await site.until(lambda: bus.outcomes())

    site.run(story)
    assert bus.outcomes() == [("0-1-0", "refused", "this device does not obey grid-co")]
    assert len(bus.messages) == 2, "the fetch followed the first push"


def test_what_no_bus_sealed_is_not_taken(site, bus):
    foreign = ThrowawayCA().issue_bus()
    insider = bus.ca.issue_device("IED-8")
    body = control_messages.encode_control(shed(1, counter=1), "bus", site.wall_ms())
    sealed = {signer: exchange.seal(body, signer, site.wall_ms()) for signer in (foreign, insider, bus.signer)}
    changed = sealed[bus.signer].replace(b"IED-7", b"IED-9")
    other = control_messages.encode_no_control("some-other-fetch", "bus", site.wall_ms())
    lies = [sealed[foreign], sealed[insider], changed, exchange.seal(other, bus.signer, site.wall_ms()), b"<html/>"]
    given = []

    def lie(raw, answer):
        if b"GetEndDeviceControls" not in raw or len(given) == len(lies):
            return answer()
        given.append(1)
        return 200, lies[len(given) - 1], {}

    bus.behave = lie

    async def story(_agent):
        await site.until(lambda: len(given) == len(lies) and bus.fetches)

    site.run(story)
    assert len(site.said("fetch-unanswered")) == len(lies)
    assert (site.acts(), bus.outcomes()) == ([], [])
    spool = Spool(site.device.folder / "spool.db")
    assert ControlBook(spool).listed() == []
    spool.close()


@pytest.mark.parametrize("off_ms", [-200_000, 3_600_000])
def test_a_clock_is_set_by_a_fresh_answer_and_then_a_command_has_its_time(site, bus, off_ms):
    """Told to, or when it is off by more than a minute: `not before` and `expires` are the bus's times."""
    site.offset_ms = off_ms
    now_ms = time.time_ns() // 1_000_000
    late = shed(2, not_before_utc_ms=now_ms + 1000, expires_utc_ms=now_ms + 60_000)
    bus.command(shed(1, action="time-sync", output=""), late, shed(3, expires_utc_ms=now_ms - 1000))

    async def story(agent):
        await site.until(lambda: len(bus.outcomes()) == 4)
        assert abs(agent._spool.clock_offset_ms() + off_ms) < 2000

    site.run(story)
    outcomes = {(mrid, outcome) for mrid, outcome, _ in bus.outcomes()}
    assert outcomes == {("0-1-0", "done"), ("0-2-0", "accepted"), ("0-2-0", "done"), ("0-3-0", "expired")}
    assert site.acts() == ["0-2-0"]
    assert time.time_ns() // 1_000_000 >= now_ms + 1000


def test_data_is_sent_again_on_request_as_far_as_it_is_still_there(site, bus):
    key = ChannelKey("UP1", "M1", "E1", FORWARD_KWH_15MIN)
    begin = 1_772_323_200  # 2026-03-01T00:00:00Z
    ask = shed(0, action="request-data", output="")
    bus.clock = lambda: (begin + 86_400) * 1000
    site.offset_ms = bus.clock() - time.time_ns() // 1_000_000

    async def story(agent):
        rows = [Row(key, 900, begin + 900 * number, str(number), ()) for number in range(1, 5)]
        agent.measuring.keep(Batch(rows=rows))
        agent._urgent.set()
        await site.until(lambda: len(bus.readings()) == 4 and not agent._spool.status()["readings_waiting"])
        period = (("from", "2026-03-01T00:15:00Z"), ("to", "2026-03-01T00:45:00Z"))
        bus.command(
            ask._replace(mrid="0-1-0", data=period),
            ask._replace(mrid="0-2-0", data=(("from", "2026-04-01T00:00:00Z"),)),
            ask._replace(mrid="0-3-0", data=(("from", "yesterday"),)),
        )
        agent.fetching.summons.set()
        await site.until(lambda: len(bus.outcomes()) == 3 and not agent._spool.status()["readings_waiting"])

    site.run(story)
    assert [(mrid, outcome) for mrid, outcome, _ in bus.outcomes()] == [
        ("0-1-0", "done"), ("0-2-0", "failed"), ("0-3-0", "failed"),
    ]  # fmt: skip
    came = {end: [value for value, _ in versions] for (_, end), versions in sorted(bus.readings().items())}
    assert came == {begin + 900: ["1"], begin + 1800: ["2", "2"], begin + 2700: ["3", "3"], begin + 3600: ["4"]}


def test_the_settings_of_commands_are_checked(site, tmp_path):
    device = site.enrolled(obey=[OBEY])
    assert {(line.issuer, line.role) for line in device.config.obeys} == {("grid-co", "utility")}
    assert len(device.config.obeys) == 4
    good = device.file.read_text()
    for more, what in (
        ('[[output]]\nname = "a"\n', "exactly one of"),
        ('[[output]]\nname = "a"\ncoil = 1\nregister = 2\n', "exactly one of"),
        ('[[output]]\nname = "a"\ncoil = 1\nactions = { shed = "2" }\n', "cannot be set"),
        ('[[output]]\nname = "a"\ncoil = 1\nactions = { explode = "1" }\n', "nothing an output does"),
        ('[[output]]\nname = "a"\nregister = 1\nactions = { shed = "value" }\n', "cannot be set"),
        ('[[output]]\nname = "a"\ncoil = 1\n[[output]]\nname = "a"\ncoil = 2\n', "one name"),
        ('[[obey]]\nissuer = "x"\nrole = "king"\nactions = "shed"\n', "roles are"),
        ('[[obey]]\nissuer = "x"\nrole = "utility"\nactions = "explode"\n', "known are"),
        ('[[pulse]]\nmeter = "M1"\namount = "0"\n', "above 0"),
        ("[control]\nlong_poll_s = 301\n", "long_poll_s"),
    ):
        device.file.write_text(good.replace("[control]", "") + more if more.startswith("[control]") else good + more)
        with pytest.raises(ConfigInvalid, match=what):
            settings.load(device.file)
