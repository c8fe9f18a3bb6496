"""An act happens at most once, whenever the process dies: a program as output proves how often it was run."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from gridpost.ied_soap_client import config_control, control_book, outputs
from gridpost.ied_soap_client.acting import Abilities, Acting, Around
from gridpost.ied_soap_client.obeying import Obeyed
from gridpost.ied_soap_client.outgoing import Draft, Outgoing
from gridpost.ied_soap_client.outputs import Told
from gridpost.ied_soap_client.spool import Batch, Row, Spool

from gridpost.controls import OUTCOME_EVENT, Control
from gridpost.errors import MeterUnreachable, StoreUnavailable
from gridpost.model import ChannelKey, Counts, Position, Receipt

ControlBook = control_book.ControlBook
NOW = 1_772_323_200_000
SHED = Control("0-9-0", "grid-co", "utility", "t-1", "shed", "IED-7", "relay", counter=1)
OBEYS = frozenset(Obeyed("grid-co", "utility", action) for action in ("shed", "billing-reset", "time-sync"))
KEY = ChannelKey("UP1", "M1", "E1", "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0")

DEVICE = """
    import asyncio, os, signal, sys
    sys.path.insert(0, {tests!r})
    from test_acting import control_book, live, outputs

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def before(kind, name):
        setattr(kind, name, die)

    def after(kind, name):
        inner = getattr(kind, name)

        def done(*arguments):
            value = inner(*arguments)
            if not asyncio.iscoroutine(value):
                die()

            async def awaited():
                await value
                die()

            return awaited()

        setattr(kind, name, done)

    {point}
    live({spool!r}, {command!r})
"""


def live(spool: str, command: str) -> None:
    """A device's life: the command comes (again), and it does what is open."""
    ids = (f"{os.getpid()}-{number}" for number in itertools.count())
    output = config_control.Output("relay", {"shed": "open"}, command=command)
    with contextlib.closing(Spool(Path(spool))) as opened:
        book = ControlBook(opened)
        can = Abilities("IED-7", OBEYS, outputs.make({"relay": output}), {}, False, None)
        around = Around(lambda: NOW, lambda: next(ids), asyncio.sleep, lambda: None, lambda *_, **__: None)

        async def until_done():
            book.take(SHED, b"sealed", "IED-7", NOW)
            task = asyncio.create_task(Acting(book, can, around).run())
            async with asyncio.timeout(30):
                while book.to_judge() or book.cut_short():
                    await asyncio.sleep(0.01)
            task.cancel()

        asyncio.run(until_done())


POINTS = {
    "after it is kept": ("after(control_book.ControlBook, 'take')", "done", 1),
    "before the intent": ("before(control_book.ControlBook, 'intend')", "done", 1),
    "after the intent": ("after(control_book.ControlBook, 'intend')", "unknown", 0),
    "before the act": ("before(outputs.ProgramOutput, 'act')", "unknown", 0),
    "after the act": ("after(outputs.ProgramOutput, 'act')", "unknown", 1),
    "before the outcome": ("before(control_book.ControlBook, 'close')", "unknown", 1),
    "after the outcome": ("after(control_book.ControlBook, 'close')", "done", 1),
}


@pytest.mark.parametrize("name", POINTS)
def test_killed_anywhere_around_the_act_it_acts_once_or_tells_it_does_not_know(tmp_path, name):
    point, outcome, acts = POINTS[name]
    acted = tmp_path / "acted"
    command = f"""sh -c 'echo "$1" >> {acted}' sh"""

    spool = str(tmp_path / "spool.db")
    code = textwrap.dedent(DEVICE).format(spool=spool, command=command, point=point, tests=os.path.dirname(__file__))
    first = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert first.returncode == -signal.SIGKILL, first.stderr
    for _ in range(2):  # and the command comes again and again, as from a bus that got no answer
        live(spool, command)
    lines = acted.read_text().splitlines() if acted.exists() else []
    assert lines == ["open"] * acts
    with contextlib.closing(Spool(tmp_path / "spool.db")) as spool:
        (listed,) = ControlBook(spool).listed()
        assert (listed["state"], listed["counter"]) == (outcome, 1)
        assert [event["details"]["outcome"] for event in events(spool)] == [outcome]


def events(spool) -> list[dict]:
    found = [json.loads(content) for (content,) in spool.rows("SELECT content FROM event ORDER BY id")]
    assert all((event["event_type"], event["asset"]) == (OUTCOME_EVENT, "IED-7") for event in found)
    return found


class Device:
    """Acting in this process on a clock the test sets; an output that notes what it was asked."""

    def __init__(self, spool):
        self.spool, self.book, self.now_ms, self.acts = spool, ControlBook(spool), NOW, []
        self.told, self.wrong, self.rows, self.ids = Told("done", "it was done"), "", None, iter(range(1000))
        abilities = Abilities("IED-7", OBEYS, {"relay": self}, {}, True, self.photograph)
        around = Around(lambda: self.now_ms, lambda: f"id-{next(self.ids)}", asyncio.sleep, lambda: None, self.say)
        self.acting = Acting(self.book, abilities, around)

    actions = {"shed": "", "restore": "", "billing-reset": ""}  # noqa: RUF012

    def say(self, event, **fields):
        pass

    async def check(self, control):
        return self.wrong

    async def photograph(self):
        if self.rows is None:
            raise MeterUnreachable("silent")
        return self.rows

    async def act(self, control):
        self.acts.append(control.mrid)
        return self.told

    def work(self) -> int:
        return asyncio.run(self.acting._work())

    def take(self, control, raw=b"sealed"):
        return self.book.take(control, raw, "IED-7", self.now_ms)

    def outcomes(self) -> list[tuple[str, str]]:
        return [(event["details"]["control"], event["details"]["outcome"]) for event in events(self.spool)]


@pytest.fixture
def device(tmp_path):
    with contextlib.closing(Spool(tmp_path / "spool.db", keep_days=40)) as spool:
        yield Device(spool)


def test_what_comes_again_is_known_and_a_second_command_under_a_seen_counter_is_refused(device):
    assert device.take(SHED)
    assert not device.take(SHED)
    device.work()
    assert not device.take(SHED), "long after"
    device.take(SHED._replace(mrid="0-10-0"))
    device.work()
    device.work()
    assert device.acts == ["0-9-0"]
    assert device.outcomes() == [("0-9-0", "done"), ("0-10-0", "refused")]
    assert "counter 1 is not above 1" in device.book.listed()[0]["reason"]


def test_a_command_for_another_device_is_refused_and_moves_no_counter(device):
    device.take(SHED._replace(mrid="0-3-0", target="IED-8", counter=77))
    device.work()
    assert device.outcomes() == [("0-3-0", "refused")]
    assert device.book.counter() == 0
    device.take(SHED)
    device.work()
    assert device.acts == ["0-9-0"]


def test_what_waits_for_its_moment_is_accepted_once_and_done_then_or_expires(device):
    device.take(SHED._replace(not_before_utc_ms=NOW + 60_000, expires_utc_ms=NOW + 90_000))
    device.take(SHED._replace(mrid="0-9-1", counter=2, not_before_utc_ms=NOW + 60_000, expires_utc_ms=NOW + 60_000))
    assert device.work() == NOW + 60_000
    assert device.work() == NOW + 60_000
    device.now_ms = NOW + 60_000
    assert device.work() == 0
    assert device.acts == ["0-9-0"]
    assert device.outcomes() == [("0-9-0", "accepted"), ("0-9-1", "accepted"), ("0-9-0", "done"), ("0-9-1", "expired")]


def test_an_output_that_is_not_the_one_meant_is_not_touched(device):
    device.wrong = "the unit there is SIM00002, not SIM00001"
    device.take(SHED)
    device.work()
    assert (device.acts, device.outcomes()) == ([], [("0-9-0", "refused")])


def test_an_outcome_the_disk_cannot_take_is_written_later_and_nothing_is_done_again(device, monkeypatch):
    device.take(SHED)
    close = ControlBook.close

    def full(*_):
        raise StoreUnavailable("full")

    monkeypatch.setattr(ControlBook, "close", full)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            device.work()
    monkeypatch.setattr(ControlBook, "close", close)
    device.work()
    assert (device.acts, device.outcomes()) == (["0-9-0"], [("0-9-0", "done")])


def test_stopped_while_it_acts_it_does_not_know(device):
    async def story():
        begun = asyncio.Event()

        async def never(_control):
            begun.set()
            await asyncio.Event().wait()

        device.act = never
        task = asyncio.create_task(device.acting.run())
        async with asyncio.timeout(30):
            await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    device.take(SHED)
    asyncio.run(story())
    assert device.outcomes() == [("0-9-0", "unknown")]


def test_what_the_device_does_by_itself_fails_when_its_disk_does_and_is_not_tried_again(device):
    tried = []

    async def sync(control):
        tried.append(control.mrid)
        raise StoreUnavailable("full")

    device.acting.can.deeds["time-sync"] = sync
    device.take(SHED._replace(action="time-sync", output=""))
    device.work()
    device.work()
    assert (tried, device.outcomes()) == (["0-9-0"], [("0-9-0", "failed")])


def push(spool) -> list[str]:
    """Send everything as if the bus receipted it; return the nouns."""
    outgoing, nouns = Outgoing(spool), []
    ids = iter(f"m{number}" for number in range(100, 200))
    while outgoing.cut(Draft("IED-7", NOW, lambda: next(ids) + str(len(list(spool.receipts()))))):
        pending = outgoing.next_pending(0)
        nouns.append(pending.noun)
        receipt = Receipt(pending.id, "IED-7", b"", (), NOW, Position(0, 1), b"r" * 32, Counts(1, 0, 0))
        outgoing.receipted(receipt, b"", clock_proven=True)
    return nouns


def test_a_billing_reset_happens_after_the_receipt_of_its_snapshot_and_not_before(device):
    device.take(SHED._replace(action="billing-reset"))
    assert device.work() > 0, "the meter is silent: it will be asked again"
    device.rows = []
    assert device.work() > 0, "nothing read is no snapshot"
    assert device.work() > 0
    assert device.acts == []
    device.rows = [Row(KEY, 0, NOW // 1000, "1234.5", ())]
    device.spool.record(Batch(rows=[Row(KEY, 0, NOW // 1000 - 900, "1230", ())]))
    for _ in range(2):
        device.work()
    assert device.acts == []
    waiting = device.spool.rows("SELECT value FROM reading ORDER BY id")
    assert waiting == [("1230",), ("1234.5",)], "one snapshot, once"
    assert push(device.spool) == ["MeterReadings", "EndDeviceEvents"]
    device.work()
    assert device.acts == ["0-9-0"]
    assert device.outcomes() == [("0-9-0", "done")]  # 'accepted' was sent already


def test_what_was_receipted_is_sent_again_on_request_as_far_as_it_is_kept(device):
    def row(number, value, kind=900):
        return Row(KEY, kind, NOW // 1000 + 900 * number, value, ())

    device.spool.record(Batch(rows=[row(number, str(number)) for number in range(1, 5)]))
    push(device.spool)
    device.spool.record(Batch(rows=[row(2, "2.5"), row(5, "5")]))
    push(device.spool)
    device.spool.record(Batch(rows=[row(3, "3.5")]))  # waits
    begin = NOW // 1000
    assert device.book.resend(begin + 900, begin + 2700) == (2, 1)
    again = device.spool.rows("SELECT end_utc, value FROM reading WHERE NOT sent AND NOT measured ORDER BY end_utc")
    assert again == [(begin + 1800, "2.5"), (begin + 2700, "3")], "the newest receipted version of each"
    push(device.spool)
    assert device.book.resend(begin + 86_400, begin + 2 * 86_400) == (0, 0)
    assert device.book.resend(begin, begin + 90_000)[0] == 5


# --- outputs ---------------------------------------------------------------------------------------------------------


def act(section: config_control.Output, control: Control = SHED) -> Told:
    async def run():
        output = outputs.make({"relay": section})["relay"]
        assert await output.check(control) == ""
        return await output.act(control)

    return asyncio.run(run())


def program(code: str, **more) -> config_control.Output:
    return config_control.Output("relay", {"shed": "open"}, command=f'{sys.executable} -c "{code}"', **more)


def test_a_program_is_told_the_control_and_its_exit_code_is_the_outcome(tmp_path):
    out = tmp_path / "out"
    told = f"import os, sys; open('{out}', 'w').write(' '.join([sys.argv[1], os.environ['GRIDPOST_MRID']]))"
    assert act(program(told)) == Told("done", "the program ended with 0")
    assert out.read_text() == "open 0-9-0"
    assert act(program("raise SystemExit(3)")).outcome == "failed"
    assert act(program("import os; os.kill(os.getpid(), 9)")).outcome == "unknown"
    assert act(program("import time; time.sleep(60)", timeout_s=0.3)).outcome == "unknown"
    missing = config_control.Output("relay", {"shed": "open"}, command="/nowhere/at/all")
    assert act(missing).outcome == "failed"
