"""The wire to the meters: Modbus TCP, SunSpec models found by their chain.

In: host, port, unit. Out: the words of a meter's model. One connection serves all units behind one address; requests
on it take turns. The only file, beside the simulator, that imports pymodbus. It decides nothing about values.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

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
            words = await self._words(unit, located.address, register_map.MODEL_WORDS)
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

    def close(self) -> None:
        """Drop the connection."""
        self._client.close()

    async def _connect(self) -> None:
        if not self._client.connected and not await self._client.connect():
            raise MeterUnreachable(f"no Modbus TCP connection to {self.host}:{self.port}")

    async def _find(self, unit: int) -> Located:
        for base in register_map.BASES:
            if await self._words_or_none(unit, base, 2) == register_map.SUNS:
                return await self._walk(unit, base + 2)
        bases = ", ".join(map(str, register_map.BASES))
        raise MeterUnreachable(f'{self._name(unit)}: no "SunS" at register {bases}; it is not a SunSpec device')

    async def _walk(self, unit: int, address: int) -> Located:
        for _ in range(MAX_BLOCKS):
            model, length = await self._words(unit, address, 2)
            if model in register_map.MODELS and length + 2 >= register_map.MODEL_WORDS:
                return Located(address, model, length)
            address += 2 + length
            if model == register_map.CHAIN_END or address > 0xFFFF:
                break
        models = ", ".join(map(str, register_map.MODELS))
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
        try:
            answer = await self._client.read_holding_registers(address, count=count, device_id=unit)
        except (ModbusException, TimeoutError, OSError) as error:
            # A late answer to this request must not be taken for the next one's: a new connection starts clean.
            self._client.close()
            raise MeterUnreachable(f"{self._name(unit)} does not answer", detail=str(error)) from error
        if not answer.isError():
            return answer.registers
        if answer.exception_code in _NOTHING_THERE:
            return None
        raise MeterUnreachable(f"{self._name(unit)} answers with Modbus exception {answer.exception_code}")

    def _name(self, unit: int) -> str:
        return f"{self.host}:{self.port} unit {unit}"
