"""Meters read by a register map: what the words mean, what a map must be, and the packaged ION map over the wire."""

import asyncio

import pytest
from gridpost.ied_soap_client import config as settings
from gridpost.ied_soap_client import maps
from gridpost.ied_soap_client.measuring import Measuring, meters
from gridpost.ied_soap_client.simulator.meters import _free_port
from gridpost.ied_soap_client.spool import Spool
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gridpost.errors import ConfigInvalid

HOST = "127.0.0.1"
HEAD = "point,register,format,unit,flow\n"


@pytest.mark.parametrize(
    ("form", "words", "value"),
    [
        ("u16", [0xFFFF], 65535),
        ("s16", [0xFFFE], -2),
        ("u32", [0x0001, 0x0002], 65538),
        ("u32", [0x8000, 0x0000], 2_147_483_648),
        ("s32", [0xFFFF, 0xFFFE], -2),
        ("s32", [0x7FFF, 0xFFFF], 2_147_483_647),
        ("m10k", [123, 4567], 1_234_567),
    ],
)
def test_what_the_words_of_a_format_mean(form, words, value):
    count, meaning = maps.FORMATS[form]
    assert (count, meaning(words)) == (len(words), value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("point,register\n", "columns"),
        (HEAD, "no counters"),
        (HEAD + "a,40001,f32,kWh,\n", "format f32"),
        (HEAD + "a,30001,u16,kWh,\n", "register 30001"),
        (HEAD + "a,40001,u16,parsec,\n", "point a"),
        (HEAD + "a,40001,u16,kWh,\nb,40126,u16,kWh,\n", "further apart"),
    ],
)
def test_what_is_no_map_is_said(text, what):
    with pytest.raises(ConfigInvalid, match=what):
        maps.parse(text, "m")


def test_the_packaged_ion_map_is_marked_unverified_and_read_over_the_wire(enrolled):
    """Registers as the manuals print them: 40230 and on are addresses 229 and on; kWh delivered, received, ..."""
    words = [0, 1234, 0, 56, 0, 7, 0xFFFF, 0xFFFF, 0, 9]

    async def story():
        device = SimDevice(5, [SimData(229, values=words, datatype=DataType.REGISTERS)])
        server = ModbusTcpServer(device, address=(HOST, _free_port(HOST)))
        await server.serve_forever(background=True)
        port = server.comm_params.source_address[1]
        config = enrolled(900, ({"id": "M1", "host": HOST, "port": port, "unit": 5, "map": "ion"},)).config
        assert not maps.load(config, "ion").verified
        spool = Spool(config.path("spool.db"))
        measuring = Measuring(spool, meters(config), 20, lambda: 1_772_366_400_000, lambda: "id", lambda *_, **__: None)
        samples = await measuring.meters[0].samples()
        rows = await measuring.read_now()
        spool.close()
        measuring.meters[0].close()
        await server.shutdown()
        return samples, {row.channel.stream: row.value for row in rows}

    samples, rows = asyncio.run(story())
    assert samples == {"kWhDel": (1234, 3), "kWhRec": (56, 3), "kVARhDel": (7, 3), "kVAhDelRec": (9, 3)}
    assert rows == {"E1": "1234", "B1": "56"}


def test_a_site_s_own_map_names_its_counters(enrolled):
    device = enrolled(900, ({"id": "M1", "map": "site.csv", "points": {"E1": "in", "B1": "out"}},))
    with pytest.raises(ConfigInvalid, match="No such file"):
        meters_of(device)
    (device.folder / "site.csv").write_text(f"# verified: by A. Fitter\n{HEAD}in,40001,u32,Wh,\nout,40003,u32,Wh,\n")
    read = maps.load(device.config, "site.csv")
    assert (read.verified, read.span) == (True, (0, 4))
    (channel_points,) = meters_of(device)
    assert sorted(channel_points) == ["in", "out"]
    (device.folder / "site.csv").write_text(f"{HEAD}in,40001,u32,varh,\nout,40003,u32,Wh,\n")
    with pytest.raises(ConfigInvalid, match="counter of channel E1"):
        meters_of(device)


def meters_of(device) -> list[list[str]]:
    async def made():
        return [[one.point for one in meter.channels] for meter in meters(settings.load(device.file))]

    return asyncio.run(made())
