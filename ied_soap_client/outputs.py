"""What a command switches: a Modbus coil or register, or a program.

In: a control that is to be done. Out: what became of it, in words the issuer is told. An output is looked at before
the intent is written (`check`: is it the one the command means, F23) and acted on once (`act`). Nothing here decides
whether to act, and nothing acts twice: an answer that does not come is `unknown`, unless reading back proves it done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple, Protocol

from gridpost.controls import Control
from gridpost.errors import MeterUnreachable

from . import config_control as settings
from .modbus import Link, Place
from .spool import Batch


class Told(NamedTuple):
    """What became of an act: `outcome` is done, failed or unknown; `batch` holds readings it brought, if any."""

    outcome: str
    reason: str
    batch: Batch | None = None


class Output(Protocol):
    """An output of the device."""

    @property
    def actions(self) -> Mapping[str, str]:
        """Action -> what is set."""

    async def check(self, control: Control) -> str:
        """Return why the output is not the one to be switched; empty: it is.

        Raises:
            MeterUnreachable: it cannot be asked.
        """

    async def act(self, control: Control) -> Told:
        """Switch it, once; never raises for what it switches."""

    def close(self) -> None:
        """Drop what is open."""


class ModbusOutput:
    """A coil or a holding register."""

    def __init__(self, output: settings.Output) -> None:
        """Prepare; nothing is connected yet."""
        kind, address = ("coil", output.coil) if output.coil >= 0 else ("holding", output.register)
        self._settings, self._place = output, Place(output.unit, kind, address)
        self._link = Link(output.host, output.port, output.timeout_s)

    @property
    def actions(self) -> Mapping[str, str]:
        """Action -> what is set."""
        return self._settings.actions

    async def check(self, control: Control) -> str:
        """Ask the unit for its serial number where one is configured, and for a value the register can hold."""
        value = self._value(control)
        if not 0 <= value <= 65535 or value != int(value):
            return f"{control.value} {control.unit} cannot be set in this register"
        wanted = self._settings.serial
        if not wanted:
            return ""
        found = await self._link.serial(self._settings.unit)
        return "" if found == wanted else f"the unit there is {found}, not {wanted}: it may be wired to another load"

    async def act(self, control: Control) -> Told:
        """Write once; read back what it did."""
        value = int(self._value(control))
        try:
            acknowledged = await self._link.put(self._place, value)
        except MeterUnreachable as error:
            return Told("failed", error.reason)
        stands = await self._stands() if self._settings.confirm else None
        name = f"{self._place.kind} {self._place.address}"
        if stands == value:
            return Told("done", f"{name} is {value}")
        if stands is None:
            said = "acknowledged" if acknowledged else "not acknowledged"
            return Told("done" if acknowledged else "unknown", f"{name} = {value} {said}")
        said = f"{name} reads back as {stands}, not {value}"
        return Told("failed", said) if acknowledged else Told("unknown", f"no answer; {said}")

    async def _stands(self) -> int | None:
        try:
            return (await self._link.registers(self._place, 1))[0]
        except MeterUnreachable:
            return None

    def _value(self, control: Control) -> Decimal:
        text = self._settings.actions[control.action]
        power = -self._settings.power
        return Decimal(control.value).scaleb(power) if text == settings.VALUE else Decimal(text)

    def close(self) -> None:
        """Drop the connection."""
        self._link.close()


class ProgramOutput:
    """A program that is run once for each act; the control is in its environment, never in a shell's line."""

    def __init__(self, output: settings.Output) -> None:
        """Prepare; nothing is started yet."""
        self._settings = output

    @property
    def actions(self) -> Mapping[str, str]:
        """Action -> first argument."""
        return self._settings.actions

    async def check(self, _control: Control) -> str:
        """Say that a program is always the one: its name is all there is."""
        return ""

    async def act(self, control: Control) -> Told:
        """Run it; what was started and did not end by itself may have done its work or not."""
        line = [*shlex.split(self._settings.command), self._settings.actions[control.action]]
        try:
            process = await asyncio.create_subprocess_exec(
                *line,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
                env=os.environ | _environment(control), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return Told("failed", f"the program was not started: {error.strerror}")
        try:
            code = await asyncio.wait_for(process.wait(), self._settings.timeout_s)
        except TimeoutError:
            return Told("unknown", f"the program did not end within {self._settings.timeout_s} s and was killed")
        finally:
            await _end(process)
        if code < 0:
            return Told("unknown", f"the program was killed by signal {-code}")
        return Told("failed", f"the program ended with {code}") if code else Told("done", "the program ended with 0")

    def close(self) -> None:
        """Nothing is open."""


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a program that still runs, with whatever it started."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _environment(control: Control) -> dict[str, str]:
    told = ("action", "output", "value", "unit", "issuer", "role", "mrid")
    values = {f"GRIDPOST_{name.upper()}": str(getattr(control, name)) for name in told}
    return values | {"GRIDPOST_DATA": json.dumps(dict(control.data))}


def make(sections: Mapping[str, settings.Output]) -> dict[str, Output]:
    """Return the outputs by their names."""
    return {name: ProgramOutput(one) if one.command else ModbusOutput(one) for name, one in sections.items()}
