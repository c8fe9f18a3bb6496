"""One pulse, one amount: from a file, a FIFO and a counting register, over kills, and to the bus as exact intervals."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from decimal import Decimal

import pytest
from gridpost.ied_soap_client import pulses
from gridpost.ied_soap_client.agent import Agent
from gridpost.ied_soap_client.clockwatch import Machine
from gridpost.ied_soap_client.pulses import CountedLines
from gridpost.ied_soap_client.simulator import load, meters
from gridpost.ied_soap_client.spool import Spool
from gridpost.ied_soap_client.transport import Transport

from gridpost.errors import ConfigInvalid, MeterUnreachable

NOON = 1_772_366_400_000


@pytest.fixture
def spool(tmp_path):
    with contextlib.closing(Spool(tmp_path / "spool.db")) as opened:
        yield opened


def test_each_line_of_a_file_is_counted_once_whoever_opens_it_again(tmp_path, spool):
    file = tmp_path / "pulses"
    with pytest.raises(MeterUnreachable, match="No such file"):
        CountedLines("M1/", file, spool).count()
    file.write_text("1\n1\n")
    assert CountedLines("M1/", file, spool).count() == 2
    with file.open("a") as more:
        more.write("1\n1")
    assert CountedLines("M1/", file, spool).count() == 3, "a line counts when it is ended"
    assert CountedLines("M1/", file, spool).count() == 3
    with file.open("a") as more:
        more.write("\n" * 200_000)
    assert CountedLines("M1/", file, spool).count() == 200_003
    file.unlink()
    file.write_text("1\n")  # rotated
    assert CountedLines("M1/", file, spool).count() == 200_004
    file.write_text("")
    assert CountedLines("M1/", file, spool).count() == 200_004
    file.write_text("1\n1\n")
    assert CountedLines("M1/", file, spool).count() == 200_006
    assert CountedLines("M2/", file, spool).count() == 2, "each input has its own count"


COUNTING = """
    import os, signal
    from pathlib import Path
    from gridpost.ied_soap_client.pulses import CountedLines
    from gridpost.ied_soap_client.spool import Spool
    counting = CountedLines("M1/", Path({file!r}), Spool(Path({spool!r})))
    keep = counting._keep
    def dying(counted, known):
        if {when} == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        keep(counted, known)
        os.kill(os.getpid(), signal.SIGKILL)
    counting._keep = dying
    counting.count()
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_while_counting_a_file_loses_none_and_counts_none_twice(tmp_path, when):
    file, path = tmp_path / "pulses", tmp_path / "spool.db"
    file.write_text("1\n" * 7)
    code = textwrap.dedent(COUNTING).format(file=str(file), spool=str(path), when=repr(when))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with file.open("a") as more:
        more.write("1\n" * 3)
    with contextlib.closing(Spool(path)) as spool:
        assert CountedLines("M1/", file, spool).count() == 10


def test_a_fifo_is_drained_and_what_was_counted_stays(tmp_path, spool):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    counting = CountedLines("M1/", fifo, spool)
    assert counting.is_fifo
    assert counting.count() == 0
    for expected in (3, 5):
        writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        os.write(writer, b"1\n" * (3 if expected == 3 else 2))
        os.close(writer)
        assert counting.count() == expected
    counting.close()
    again = CountedLines("M1/", fifo, spool)
    assert again.count() == 5
    again.close()


def test_an_input_is_one_channel_of_the_table(enrolled, spool):
    device = enrolled(pulse=[{"meter": "M1", "file": "pulses"}])
    with pytest.raises(ConfigInvalid, match="several channels"):
        pulses.inputs(device.config, spool)
    for channel, found in (("E1", 1), ("nowhere", 0)):
        text = device.file.read_text().split("[[pulse]]")[0]
        device.file.write_text(f'{text}[[pulse]]\nmeter = "M1"\nchannel = "{channel}"\nfile = "pulses"\n')
        if found:
            (meter,) = pulses.inputs(device.config, spool)
            assert [one.channel.key.stream for one in meter.channels] == ["E1"]
        else:
            with pytest.raises(ConfigInvalid, match="no channel"):
                pulses.inputs(device.config, spool)


def test_pulses_arrive_as_exact_intervals_and_read_now_brings_the_dial(enrolled, bus, tmp_path):
    """A file for one channel and the simulator's pulse counter for the other; an interval a second."""
    file = tmp_path / "pulses"
    file.write_text("1\n" * 40)

    async def story():
        moment = [NOON]
        time_ = meters.Timescale(lambda: moment[0], NOON)
        (counter,) = await meters.start(1, "127.0.0.1", 0, 1, time_)
        device = enrolled(
            1,
            push={"every_s": 1, "spread_s": 0, "backoff_first_s": 1, "backoff_most_s": 1},
            pulse=[
                {"meter": "M1", "channel": "E1", "file": str(file), "amount": "0.25"},
                {"meter": "M1", "channel": "B1", "port": counter.port, "amount": "0.001"},
            ],
        )
        with contextlib.closing(Spool(device.folder / "spool.db")) as spool:
            async with Transport(bus.url, 5) as transport:
                agent = Agent(device.config, spool, transport, lambda *_, **__: None, Machine(random=lambda: 0.0))
                task = asyncio.create_task(agent.run())
                try:
                    await until(lambda: bus.readings())
                    for lines, in_all in ((4, 4), (3, 7)):
                        with file.open("a") as more:
                            more.write("1\n" * lines)
                        moment[0] += 1_800_000
                        await until(lambda in_all=in_all: total("E1") * 4 == in_all)
                    await until(lambda: total("B1") * 1000 == energy(moment[0]) - energy(NOON))
                    rows = await agent.measuring.read_now()
                    assert {row.channel.stream: row.value for row in rows}["E1"] == "11.75"
                finally:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    def energy(at_ms):
        return load.energy_wms(1, 1, at_ms) // load.MWH_PER_COUNT

    def total(stream):
        found = [versions[0][0] for (name, _), versions in bus.readings().items() if name == stream]
        return sum((Decimal(value or 0) for value in found), Decimal(0))

    async def until(condition):
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, bus.readings()
            await asyncio.sleep(0.02)

    asyncio.run(story())
    assert {codes for versions in bus.readings().values() for _, codes in versions} <= {(), ("1.4.3",)}
