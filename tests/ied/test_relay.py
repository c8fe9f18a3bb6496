"""Outputs over Modbus: the simulator's relay, a register, a unit that is not meant, answers that do not come."""

import asyncio
import struct

import pytest
from gridpost.ied_soap_client import config_control, outputs
from gridpost.ied_soap_client.modbus import Link, Place
from gridpost.ied_soap_client.outputs import Told
from gridpost.ied_soap_client.simulator import meters
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gridpost.controls import Control
from gridpost.errors import MeterUnreachable

HOST, NOON = "127.0.0.1", 1_772_366_400_000
SHED = Control("0-9-0", "grid-co", "utility", "t-1", "shed", "IED-7", "relay", counter=1)


def relay(port: int, **more) -> config_control.Output:
    return config_control.Output("relay", {"shed": "0", "restore": "1"}, coil=0, host=HOST, port=port, **more)


async def switched(section: config_control.Output, control: Control = SHED) -> tuple[str, Told | None]:
    output = outputs.make({"relay": section})["relay"]
    try:
        wrong = await output.check(control)
        return wrong, None if wrong else await output.act(control)
    finally:
        output.close()


def test_the_simulators_relay_opens_and_closes_and_the_meter_goes_on():
    async def story():
        seen = []
        time = meters.Timescale(lambda: NOON, NOON)
        drawn = meters.Load(1, time, lambda meter, closed: seen.append((meter, closed)))
        _, second = await meters.serve(2, HOST, 0, drawn)
        section = relay(second.port, unit=second.unit, serial="SIM00002")
        assert await switched(section) == ("", Told("done", "coil 0 is 0"))
        link = Link(HOST, second.port)
        assert await link.registers(Place(1, "coil", 0), 1) == (1,), "the neighbour's stays as it was"
        assert await link.registers(Place(2, "coil", 0), 1) == (0,)
        assert (await link.read(2))[0] == 203
        assert await switched(section, SHED._replace(action="restore")) == ("", Told("done", "coil 0 is 1"))
        assert seen == [("SIM00002", False), ("SIM00002", True)]
        link.close()

    asyncio.run(story())


def test_a_unit_with_another_serial_number_is_not_switched():
    async def story():
        seen = []
        drawn = meters.Load(1, meters.Timescale(lambda: NOON, NOON), lambda *told: seen.append(told))
        (first,) = await meters.serve(1, HOST, 0, drawn)
        wrong, told = await switched(relay(first.port, serial="SIM00002"))
        assert wrong.startswith("the unit there is SIM00001, not SIM00002")
        assert (told, seen) == (None, [])

    asyncio.run(story())


def test_a_register_takes_the_value_in_its_own_unit_and_refuses_what_it_cannot_hold():
    async def story():
        device = SimDevice(1, [SimData(7, values=[65535], datatype=DataType.REGISTERS)])
        server = ModbusTcpServer(device, address=(HOST, meters._free_port(HOST)))
        await server.serve_forever(background=True)
        port = server.comm_params.source_address[1]
        actions = {"reduce": "value", "shed": "0"}
        section = config_control.Output("relay", actions, register=7, power=-2, host=HOST, port=port)
        reduce = SHED._replace(action="reduce", value="2.50", unit="kW")
        assert await switched(section, reduce) == ("", Told("done", "holding 7 is 250"))
        for value in ("2.505", "-1", "656"):
            wrong, told = await switched(section, reduce._replace(value=value))
            assert (wrong, told) == (f"{value} kW cannot be set in this register", None)
        nowhere = config_control.Output("relay", actions, register=9, host=HOST, port=port)
        wrong, told = await switched(nowhere)
        assert (wrong, told.outcome) == ("", "failed")
        await server.shutdown()

    asyncio.run(story())


@pytest.mark.parametrize(("stands", "outcome"), [(b"\x00", "done"), (b"\x01", "unknown"), (None, "unknown")])
def test_a_write_without_an_answer_is_done_only_where_reading_back_proves_it(stands, outcome):
    """A gateway that swallows the answer to a write; `stands` is what it then says of the coil, None: nothing."""
    written = []

    async def gateway(reader, writer):
        while head := await reader.read(8):
            transaction, _, length, unit, function = struct.unpack(">HHHBB", head)
            await reader.readexactly(length - 2)
            if function == 5:
                written.append(function)
            elif stands is not None:
                writer.write(struct.pack(">HHHBBB", transaction, 0, 4, unit, function, 1) + stands)
        writer.close()

    async def story():
        server = await asyncio.start_server(gateway, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        wrong, told = await switched(relay(port, timeout_s=0.3))
        server.close()
        return wrong, told.outcome

    assert asyncio.run(story()) == ("", outcome)
    assert written == [5], "written once"


@pytest.mark.parametrize(("confirm", "outcome"), [(True, "failed"), (False, "done")])
def test_a_relay_that_acknowledges_and_stays_as_it_was_has_failed(confirm, outcome):
    async def stuck(reader, writer):
        while head := await reader.read(8):
            transaction, _, length, unit, function = struct.unpack(">HHHBB", head)
            rest = await reader.readexactly(length - 2)
            answer = rest if function == 5 else b"\x01\x01"  # the write as it came; the coil: closed
            writer.write(struct.pack(">HHHBB", transaction, 0, len(answer) + 2, unit, function) + answer)
        writer.close()

    async def story():
        server = await asyncio.start_server(stuck, HOST, 0)
        _, told = await switched(relay(server.sockets[0].getsockname()[1], confirm=confirm))
        server.close()
        return told.outcome

    assert asyncio.run(story()) == outcome


def test_nobody_there_is_surely_not_done():
    async def story():
        port = meters._free_port(HOST)
        wrong, told = await switched(relay(port))
        assert (wrong, told.outcome) == ("", "failed")
        with pytest.raises(MeterUnreachable):
            await switched(relay(port, serial="SIM00001"))

    asyncio.run(story())
