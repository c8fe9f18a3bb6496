"""SunSpec meters to develop against: Modbus TCP, model 203 (three-phase wye), a load that looks like one; and a relay.

In: how many, from which port, which seed, how fast their time runs. Out: running servers. A meter is a Modbus unit;
units 1 to 247 share a port, more meters take further ports. Coil 0 of each unit is a relay, closed (1) at the start,
and input registers 0 and 1 count a pulse for each Wh drawn. The load goes on whatever the relay does: a meter's
register is a pure function of time here. Beside modbus.py the only place that imports pymodbus.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gridpost.errors import ConfigInvalid

from . import load

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

UNITS_PER_PORT = 247
BASE = 40000
_HOLDING, _INPUT = (3, 6, 16), 4  # Modbus function codes
_COS_PHI = 95  # percent: reactive energy is a fixed share of the active


class Simulated(NamedTuple):
    """Where a simulated meter answers."""

    meter: str
    port: int
    unit: int


@dataclass(frozen=True, slots=True)
class Timescale:
    """Simulated time: runs `speed` times as fast as `clock` from `anchor_ms` on."""

    clock: Callable[[], int]
    anchor_ms: int
    speed: int = 1

    def now_ms(self) -> int:
        """Return simulated UTC milliseconds."""
        return self.anchor_ms + (self.clock() - self.anchor_ms) * self.speed


@dataclass(frozen=True, slots=True)
class Load:
    """What all simulated meters share: seed of the load, time, and who is told that a relay is closed now or not."""

    seed: int
    time: Timescale
    switched: Callable[[str, bool], None] = lambda _meter, _closed: None

    def words(self, number: int) -> list[int]:
        """Return a meter's register image now."""
        return words(self.seed, number, self.time.now_ms())

    def pulses(self, number: int) -> list[int]:
        """Return a pulse counter's two words now: a pulse for each Wh imported."""
        return _acc32(load.energy_wms(self.seed, number, self.time.now_ms()) // load.MWH_PER_COUNT)


def words(seed: int, meter: int, utc_ms: int) -> list[int]:
    """Return the whole register image of a meter at a moment, beginning at `BASE`."""
    return [0x5375, 0x6E53, *_common(meter), *_model_203(seed, meter, utc_ms), 0xFFFF, 0]


async def start(count: int, host: str, port: int, seed: int, time: Timescale) -> tuple[Simulated, ...]:
    """As `serve`, where nobody watches the relays."""
    return await serve(count, host, port, Load(seed, time))


async def serve(count: int, host: str, port: int, drawn: Load) -> tuple[Simulated, ...]:
    """Start the servers and return where each meter answers; with port 0 free ones are taken.

    Raises:
        ConfigInvalid: a port is taken, or the address is none of this machine's.
    """
    meters: list[Simulated] = []
    for first in range(1, count + 1, UNITS_PER_PORT):
        numbers = range(first, min(count, first + UNITS_PER_PORT - 1) + 1)
        devices = [_device(unit, number, drawn) for unit, number in enumerate(numbers, 1)]
        chosen = port + (first - 1) // UNITS_PER_PORT if port else 0
        try:
            chosen = chosen or _free_port(host)
            await ModbusTcpServer(devices, address=(host, chosen)).serve_forever(background=True)
        except (OSError, RuntimeError):  # RuntimeError is pymodbus's, without the cause
            why = "the port is taken, not allowed, or the address is none of this machine's"
            raise ConfigInvalid(f"cannot listen on {host}:{chosen}: {why}") from None
        meters += [Simulated(serial(number), chosen, unit) for unit, number in enumerate(numbers, 1)]
    return tuple(meters)


def serial(number: int) -> str:
    """Return the serial number the meter states in its common model."""
    return f"SIM{number:05d}"


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _device(unit: int, number: int, drawn: Load) -> SimDevice:
    image, pulses = drawn.words(number), drawn.pulses(number)

    async def touched(
        function: int, start: int, _address: int, _count: int, registers: list[int], values: Sequence[int] | None
    ) -> ExcCodes | None:
        if function in _HOLDING:
            registers[BASE - start : BASE - start + len(image)] = drawn.words(number)
        elif function == _INPUT:
            registers[:2] = drawn.pulses(number)
        elif values is not None:
            drawn.switched(serial(number), bool(values[0]))
        return None

    coils = [SimData(0, values=[True] + [False] * 15, datatype=DataType.BITS)]
    nothing = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
    holding = [SimData(BASE, values=image, datatype=DataType.REGISTERS)]
    counted = [SimData(0, values=pulses, datatype=DataType.REGISTERS)]
    return SimDevice(unit, (coils, nothing, holding, counted), action=touched)


def _common(number: int) -> list[int]:
    """Return model 1: Mn, Md, Opt, Vr, SN, DA, pad."""
    text = [("Gridpost", 32), ("Simulated meter", 32), ("", 16), ("1", 16), (serial(number), 32)]
    octets = b"".join(value.encode().ljust(size, b"\0") for value, size in text)
    return [1, 66, *(octets[i] << 8 | octets[i + 1] for i in range(0, len(octets), 2)), 1, 0x8000]


def _model_203(seed: int, number: int, utc_ms: int) -> list[int]:
    """Return model 203; the layout is the table of facts in register_map.py, written the other way round."""
    imported = load.energy_wms(seed, number, utc_ms) // load.MWH_PER_COUNT
    exported = load.energy_wms(seed, number, utc_ms, True) // load.MWH_PER_COUNT
    power = load.power_w(seed, number, utc_ms) - load.power_w(seed, number, utc_ms, True)
    current = power * 10 // 690  # tenths of an ampere a phase at 230 V
    return [
        203, 105,
        *_int16(3 * current, current, current, current, -1),  # A
        *_int16(2300, 2301, 2299, 2300, 3984, 3985, 3983, 3984, -1),  # V
        *_int16(5000, -2),  # Hz
        *_int16(*_thirds(power), 0),  # W
        *_int16(*_thirds(power * 100 // _COS_PHI), 0),  # VA
        *_int16(*_thirds(power * 33 // 100), 0),  # VAR
        *_int16(_COS_PHI, _COS_PHI, _COS_PHI, _COS_PHI, 0),  # PF
        *_acc32(*_thirds(exported), *_thirds(imported)), *_int16(0),  # Wh, received then delivered
        *_acc32(*_thirds(exported * 100 // _COS_PHI), *_thirds(imported * 100 // _COS_PHI)), *_int16(0),  # VAh
        *_acc32(*_thirds(imported * 33 // 100), *_thirds(0), *_thirds(0), *_thirds(exported * 33 // 100)),  # varh Q1-4
        *_int16(0),
        0, 0,  # Evt
    ]  # fmt: skip


def _thirds(total: int) -> tuple[int, int, int, int]:
    third = total // 3
    return total, total - 2 * third, third, third


def _int16(*values: int) -> list[int]:
    return [value & 0xFFFF for value in values]


def _acc32(*values: int) -> list[int]:
    return [half for value in values for half in (value >> 16 & 0xFFFF, value & 0xFFFF)]


def as_json(meters: Sequence[Simulated], host: str) -> dict[str, object]:
    """Return what ``gridpost-ied simulate --json`` prints when the meters answer."""
    return {"ready": True, "host": host, "meters": [meter._asdict() for meter in meters]}
