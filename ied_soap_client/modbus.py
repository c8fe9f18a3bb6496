"""The wire to the meters and relays: Modbus TCP, SunSpec models found by their chain.

In: host, port, unit. Out: the words of a meter's model, of registers at known places; coils and registers set. One
connection serves all units behind one address; requests on it take turns. The only file, beside the simulator, that
imports pymodbus. It decides nothing about values.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from gridpost.errors import MeterUnreachable

from . import register_map

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # what it says of a silent meter, the journal says once

MAX_BLOCKS = 64  # a chain longer than this is a loop or not SunSpec

_NOTHING_THERE = (1, 2, 3)  # illegal function, address, value: the unit lives, the register does not


class Located(NamedTuple):
    """Where a unit keeps its meter model."""

    address: int  # of the model's ID
    model: int
    length: int


class Place(NamedTuple):
    """One coil or register of a unit; `kind` is a name of `KINDS`, `address` counts from 0."""

    unit: int
    kind: str
    address: int


KINDS = ("coil", "discrete", "holding", "input")  # the four tables of Modbus
_SERIAL_AT, _SERIAL_WORDS = 50, 16  # SN in SunSpec model 1, from its ID


class Link:
    """One Modbus TCP address; reconnects when it must, remembers where each unit keeps its model."""

    def __init__(self, host: str, port: int, timeout_s: float = 3.0) -> None:
        self.host, self.port = host, port
        self._client = AsyncModbusTcpClient(host, port=port, timeout=timeout_s, retries=0, reconnect_delay=0)
        self._turn = asyncio.Lock()
        self._located: dict[int, Located] = {}

    async def read(self, unit: int) -> tuple[int, ...]:
        """Return the words of the unit's meter model, ID first, read in one request so that they belong together.

        Raises:
            MeterUnreachable: no connection, no answer, an exception answer, or no SunSpec meter there.
        """
        async with self._turn:
            await self._connect()
            located = self._located.get(unit) or await self._find(unit)
            self._located[unit] = located
            words = await self._words(unit, located.address, register_map.WORDS[located.model])
            if words[0] != located.model or words[1] != located.length:
                # The map moved under us, as after a firmware update: look again next time.
                del self._located[unit]
                raise MeterUnreachable(f"{self._name(unit)}: the meter model is no longer at {located.address}")
            return words

    async def find(self, unit: int) -> Located:
        """Walk the unit's chain of models afresh and return its meter model; raises as `read`."""
        async with self._turn:
            await self._connect()
            self._located[unit] = await self._find(unit)
            return self._located[unit]

    async def registers(self, place: Place, count: int) -> tuple[int, ...]:
        """Return the words of `count` registers from a place on, or of so many bits as 0 and 1; raises as `read`."""
        async with self._turn:
            await self._connect()
            answer = await self._asked(place.unit, self._reader(place.kind), place.address, count)
            if answer is None:
                raise MeterUnreachable(f"{self._name(place.unit)} has no {place.kind} {place.address}")
            return tuple(map(int, answer))[:count]

    async def put(self, place: Place, value: int) -> bool:
        """Set a coil (0 or 1) or a holding register (0 to 65535).

        Returns:
            True: acknowledged. False: it was sent and no answer came; whether it took effect is not known.

        Raises:
            MeterUnreachable: surely not set: no connection, or an exception answer.
        """
        async with self._turn:
            await self._connect()
            try:
                if place.kind == "coil":
                    answer = await self._client.write_coil(place.address, bool(value), device_id=place.unit)
                else:
                    answer = await self._client.write_register(place.address, value, device_id=place.unit)
            except (ModbusException, TimeoutError, OSError):
                self._client.close()
                return False
            if answer.isError():
                told = f"answers with Modbus exception {answer.exception_code}"
                raise MeterUnreachable(f"{self._name(place.unit)} {told} to {place.kind} {place.address}")
            return True

    async def serial(self, unit: int) -> str:
        """Return the serial number a unit states in its SunSpec common model; raises as `read`."""
        async with self._turn:
            await self._connect()
            words = await self._words(unit, await self._base(unit) + _SERIAL_AT, _SERIAL_WORDS)
            return b"".join(word.to_bytes(2) for word in words).rstrip(b"\0 ").decode("ascii", "replace")

    def close(self) -> None:
        """Drop the connection."""
        self._client.close()

    async def _connect(self) -> None:
        if not self._client.connected and not await self._client.connect():
            raise MeterUnreachable(f"no Modbus TCP connection to {self.host}:{self.port}")

    async def _find(self, unit: int) -> Located:
        return await self._walk(unit, await self._base(unit))

    async def _base(self, unit: int) -> int:
        """Return where the unit's chain of models begins: its common model."""
        for base in register_map.BASES:
            if await self._words_or_none(unit, base, 2) == register_map.SUNS:
                return base + 2
        bases = ", ".join(map(str, register_map.BASES))
        raise MeterUnreachable(f'{self._name(unit)}: no "SunS" at register {bases}; it is not a SunSpec device')

    async def _walk(self, unit: int, address: int) -> Located:
        for _ in range(MAX_BLOCKS):
            model, length = await self._words(unit, address, 2)
            if length + 2 >= register_map.WORDS.get(model, 0x10000):
                return Located(address, model, length)
            address += 2 + length
            if model == register_map.CHAIN_END or address > 0xFFFF:
                break
        models = ", ".join(map(str, register_map.WORDS))
        raise MeterUnreachable(f"{self._name(unit)}: a SunSpec device, but none of the meter models {models}")

    async def _words_or_none(self, unit: int, address: int, count: int) -> tuple[int, ...] | None:
        """Read where the unit may rightly answer with an exception: there is nothing at that base."""
        answer = await self._ask(unit, address, count)
        return None if answer is None else tuple(answer)

    async def _words(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        words = await self._words_or_none(unit, address, count)
        if words is None or len(words) != count:
            raise MeterUnreachable(f"{self._name(unit)} answers with an exception at register {address}")
        return words

    async def _ask(self, unit: int, address: int, count: int) -> Sequence[int] | None:
        return await self._asked(unit, self._client.read_holding_registers, address, count)

    def _reader(self, kind: str) -> Callable[..., Awaitable[Any]]:
        client = self._client
        readers = (
            client.read_coils, client.read_discrete_inputs, client.read_holding_registers, client.read_input_registers,
        )  # fmt: skip
        return readers[KINDS.index(kind)]

    async def _asked(
        self, unit: int, reader: Callable[..., Awaitable[Any]], address: int, count: int
    ) -> Sequence[int] | None:
        try:
            answer = await reader(address, count=count, device_id=unit)
        except (ModbusException, TimeoutError, OSError) as error:
            # A late answer to this request must not be taken for the next one's: a new connection starts clean.
            self._client.close()
            raise MeterUnreachable(f"{self._name(unit)} does not answer", detail=str(error)) from error
        if not answer.isError():
            found: Sequence[int] = answer.registers or answer.bits
            return found
        if answer.exception_code in _NOTHING_THERE:
            return None
        raise MeterUnreachable(f"{self._name(unit)} answers with Modbus exception {answer.exception_code}")

    def _name(self, unit: int) -> str:
        return f"{self.host}:{self.port} unit {unit}"
