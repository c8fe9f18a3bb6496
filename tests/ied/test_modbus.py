"""The wire to the meters, with pysunspec2 as the other side: it reads our simulator, we read maps it built."""

import asyncio
import contextlib
import itertools
import threading

import pytest
import sunspec2.modbus.client as sunspec
from gridpost.ied_soap_client import register_map as rm
from gridpost.ied_soap_client.modbus import Link
from gridpost.ied_soap_client.simulator import load, meters
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gridpost.errors import MeterUnreachable

HOST = "127.0.0.1"
NOON = 1_772_366_400_000  # 2026-03-01T12:00:00Z


@contextlib.contextmanager
def in_background(start):
    """Run `start()`'s servers in a thread of their own; pysunspec2 blocks."""
    loop, ready, box = asyncio.new_event_loop(), threading.Event(), []

    def serve():
        asyncio.set_event_loop(loop)
        box.append(loop.run_until_complete(start()))
        ready.set()
        loop.run_forever()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(10)
    try:
        yield box[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


async def serve(image: list[int], base: int, unit: int = 1) -> ModbusTcpServer:
    device = SimDevice(unit, [SimData(base, values=image, datatype=DataType.REGISTERS)])
    server = ModbusTcpServer(device, address=(HOST, meters._free_port(HOST)), ignore_missing_devices=True)
    await server.serve_forever(background=True)
    return server


def port_of(server: ModbusTcpServer) -> int:
    return server.comm_params.source_address[1]


def test_pysunspec2_reads_the_simulator():
    time = meters.Timescale(lambda: NOON, NOON)
    with in_background(lambda: meters.start(3, HOST, 0, 7, time)) as simulated:
        for number, meter in enumerate(simulated, 1):
            device = sunspec.SunSpecModbusClientDeviceTCP(meter.unit, ipaddr=HOST, ipport=meter.port)
            device.scan()
            common, wye = device.models[1][0], device.models[203][0]
            assert (common.SN.value, common.Mn.value) == (meter.meter, "Gridpost")
            assert wye.model_id == 203
            assert wye.TotWhImp.cvalue == load.energy_wms(7, number, NOON) // 3_600_000
            assert wye.TotWhExp.cvalue == load.energy_wms(7, number, NOON, True) // 3_600_000
            assert wye.TotWhImpPhA.value + wye.TotWhImpPhB.value + wye.TotWhImpPhC.value == wye.TotWhImp.value
            assert wye.W.cvalue == load.power_w(7, number, NOON) - load.power_w(7, number, NOON, True)
            assert (wye.PhV.cvalue, wye.Hz.cvalue, wye.V_SF.value) == (230.0, 50.0, -1)
            device.close()


def test_more_meters_than_units_take_further_ports():
    async def run():
        simulated = await meters.start(250, HOST, 0, 1, meters.Timescale(lambda: NOON, NOON))
        assert len({meter.port for meter in simulated}) == 2
        assert [meter.unit for meter in simulated[246:249]] == [247, 1, 2]
        link = Link(HOST, simulated[249].port)
        words = await link.read(3)
        assert rm.decode(words)["TotWhImp"].raw == load.energy_wms(1, 250, NOON) // 3_600_000
        link.close()

    asyncio.run(run())


def built_by_pysunspec2(model: int, values: dict[str, int], before: tuple[int, ...] = ()) -> list[int]:
    """A register image: SunS, model 1, the models of `before` zero-filled, `model` with `values`, the end."""
    octets = b"SunS"
    for number in (1, *before, model):
        block = sunspec.SunSpecModbusClientModel(model_id=number, data=b"")
        for name, value in (values if number == model else {}).items():
            getattr(block, name).value = value
        content = block.get_mb()[4:]
        octets += number.to_bytes(2, "big") + (len(content) // 2).to_bytes(2, "big") + content
    words = [octets[i] << 8 | octets[i + 1] for i in range(0, len(octets), 2)]
    return [*words, 0xFFFF, 0]


@pytest.mark.parametrize("model", rm.MODELS)
@pytest.mark.parametrize("base", [40000, 50000, 0])
def test_we_read_maps_built_by_pysunspec2(model, base):
    values = {"TotWhImp": 4_000_000_001, "TotWhExp": 17, "TotWh_SF": -1, "TotVArhImpQ1": 99, "TotVArh_SF": 2}
    image = built_by_pysunspec2(model, values, before=(103,))

    async def run():
        server = await serve(image, base)
        link = Link(HOST, port_of(server))
        located = await link.find(1)
        samples = rm.decode(await link.read(1))
        link.close()
        await server.shutdown()
        return located, samples

    located, samples = asyncio.run(run())
    assert located == (base + 2 + 68 + 52, model, 105)  # SunS, common 2+66, inverter 2+50
    assert samples["TotWhImp"] == (4_000_000_001, -1)
    assert samples["TotWhExp"] == (17, -1)
    assert samples["TotVArhImpQ1"] == (99, 2)
    assert "TotVAhImp" not in samples  # its scale factor is not implemented


@pytest.mark.parametrize("model", rm.FLOAT_MODELS)
def test_we_read_float_maps_built_by_pysunspec2(model):
    values = {"TotWhImp": 123456.75, "TotWhExp": 0.5, "TotVArhImpQ1": 99.0}
    image = built_by_pysunspec2(model, values, before=(103,))

    async def run():
        server = await serve(image, 40000)
        link = Link(HOST, port_of(server))
        located, words = await link.find(1), await link.read(1)
        link.close()
        await server.shutdown()
        return located, rm.decode(words)

    located, samples = asyncio.run(run())
    assert located == (40000 + 2 + 68 + 52, model, 124)
    assert samples["TotWhImp"] == (123_456_750, -3)
    assert samples["TotWhExp"] == (500, -3)
    assert samples["TotVArhImpQ1"] == (99_000, -3)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ([1, 2, 3, 4], "not a SunSpec device"),
        ([0x5375, 0x6E53, 1, 66, *[0] * 66, 0xFFFF, 0], "none of the meter models"),
        ([0x5375, 0x6E53, 1, 66, *[0] * 20], "exception"),  # the chain leads out of the map
        ([0x5375, 0x6E53, *[7, 0] * 100], "none of the meter models"),  # an endless chain
    ],
)
def test_what_is_no_sunspec_meter_is_named(image, reason):
    async def run():
        server = await serve(image, 40000)
        link = Link(HOST, port_of(server))
        try:
            await link.read(1)
        finally:
            link.close()
            await server.shutdown()

    with pytest.raises(MeterUnreachable, match=reason):
        asyncio.run(run())


def test_a_unit_that_is_missing_is_unreachable_and_the_others_go_on():
    async def run():
        server = await serve(built_by_pysunspec2(203, {"TotWhImp": 5, "TotWh_SF": 0}), 40000)
        link = Link(HOST, port_of(server))
        with pytest.raises(
            MeterUnreachable, match="unit 9 answers with Modbus exception 4"
        ):  # pymodbus: device failure
            await link.read(9)
        assert rm.decode(await link.read(1))["TotWhImp"].raw == 5
        link.close()
        await server.shutdown()

    asyncio.run(run())


def test_a_mute_and_a_dead_address_are_unreachable():
    async def run():
        async def mute(reader, writer):
            await reader.read()
            writer.close()

        silent = await asyncio.start_server(mute, HOST, 0)
        port = silent.sockets[0].getsockname()[1]
        link = Link(HOST, port, timeout_s=0.2)
        with pytest.raises(MeterUnreachable, match="unit 1 does not answer"):
            await link.read(1)
        link.close()
        silent.close()
        await silent.wait_closed()
        with pytest.raises(MeterUnreachable, match="no Modbus TCP connection"):
            await link.read(1)

    asyncio.run(run())


def test_a_map_that_moved_is_found_again():
    async def run():
        server = await serve(built_by_pysunspec2(203, {"TotWhImp": 6, "TotWh_SF": 0}, before=(103,)), 40000)
        link = Link(HOST, port_of(server))
        link._located[1] = (await link.find(1))._replace(address=40070)  # where the meter stood before an update
        with pytest.raises(MeterUnreachable, match="no longer at 40070"):
            await link.read(1)
        assert rm.decode(await link.read(1))["TotWhImp"].raw == 6
        link.close()
        await server.shutdown()

    asyncio.run(run())


def test_the_load_never_runs_backwards_and_days_join():
    day = load.DAY_MS
    moments = range(NOON - NOON % day - 3 * 900_000, NOON - NOON % day + day + 3 * 900_000, 450_000)
    energies = [load.energy_wms(3, 1, moment) for moment in moments]
    assert energies == sorted(energies)
    # Between two moments of one slot the energy is power times time; over midnight it is the two slots' sum.
    for before, after in itertools.pairwise(moments):
        expected = load.power_w(3, 1, before) * 450_000
        assert load.energy_wms(3, 1, after) - load.energy_wms(3, 1, before) == expected
    assert load.slots(3, 1, 20000, False) != load.slots(4, 1, 20000, False) != load.slots(4, 2, 20000, False)
    assert load.slots(3, 1, 20000, False) == load.slots.__wrapped__(3, 1, 20000, False)
