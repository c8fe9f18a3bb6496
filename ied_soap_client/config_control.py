"""The sections of ied.toml about commands and pulses: whom the device obeys, what it switches, what it counts.

In: sections as parsed. Out: frozen values, checked, or ConfigInvalid naming the key. `config.py` holds the file as a
whole. An output says which actions it does; what is not written here is not done.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from gridpost import units
from gridpost.controls import ACTIONS, Role
from gridpost.errors import ConfigInvalid
from gridpost.requests import LONGEST_WAIT_S
from gridpost.settings import setting

from .obeying import OWN_ACTIONS, Obeyed

VALUE = "value"  # in an output's actions: the value the command brings


@dataclass(frozen=True, slots=True)
class Control:
    """How commands are fetched; the sections [[obey]] say whose are obeyed, [[output]] what they switch."""

    poll_s: int = setting(
        900, "seconds between two looks for commands where anybody is obeyed; a push looks at once when one waits"
    )
    long_poll_s: int = setting(0, "keep a fetch open at the bus for so many seconds, up to 300, to act at once; 0: no")
    ntp: str = setting("", "NTP server, HOST or HOST:PORT, asked when a command says to set the clock; empty: the bus")


@dataclass(frozen=True, slots=True)
class Obey:
    """Whose commands are obeyed; a section for each issuer and role. Without one, nobody's."""

    issuer: str = setting("", "the partner's id")
    role: str = setting("", "the role it asks in: utility, supplier, customer, third-party or operator")
    actions: str = setting("", "what it may ask for, such as 'shed restore'")


@dataclass(frozen=True, slots=True)
class Output:
    """What a command switches: a Modbus coil, a Modbus register or a program; a section for each."""

    name: str = setting("", "what commands call it")
    actions: Mapping[str, str] = setting(
        {},
        'what it does: action = what is set: "1" or "0" for a coil, a number or "value" (the command\'s) for a'
        " register, the first argument for a program",
    )
    coil: int = setting(-1, "address of a coil, counted from 0")
    register: int = setting(-1, "address of a holding register, counted from 0")
    power: int = setting(0, "a register counts in ten to this power of the command's unit")
    host: str = setting("127.0.0.1", "Modbus TCP host")
    port: int = setting(502, "and port")
    unit: int = setting(1, "Modbus unit")
    serial: str = setting("", "serial number the unit must state (SunSpec common model) before it is switched")
    confirm: bool = setting(True, "read the coil or register back; a pulsed relay cannot be")
    command: str = setting("", "a program instead, with its arguments; exit code 0 means done")
    timeout_s: int = setting(10, "seconds to wait for the Modbus unit or the program")


@dataclass(frozen=True, slots=True)
class Pulse:
    """A pulse input: each pulse is an amount of energy; a section for each."""

    meter: str = setting("", "mRID of the meter, as in the channel table")
    channel: str = setting("", "its stream name there; empty where the meter has one channel")
    amount: str = setting("1", "what one pulse is in the channel's unit; a decimal number")
    file: str = setting("", "a file or FIFO to which each pulse adds a line; empty: a Modbus register that counts")
    kind: str = setting("input", "where the count is: input or holding register")
    register: int = setting(0, "its address, counted from 0; a 32-bit count has its high word first")
    bits: int = setting(32, "width of the count: 16 or 32")
    host: str = setting("127.0.0.1", "Modbus TCP host")
    port: int = setting(502, "and port")
    unit: int = setting(1, "Modbus unit")


def check(control: Control, outputs: Sequence[Output], pulses: Sequence[Pulse], where: str) -> None:
    """Check values that have no other place.

    Raises:
        ConfigInvalid: naming the section and key.
    """
    if control.poll_s < 1 or not 0 <= control.long_poll_s <= LONGEST_WAIT_S:
        raise ConfigInvalid(f"{where}: control.poll_s is less than 1, or long_poll_s not within 0..{LONGEST_WAIT_S}")
    names = [output.name for output in outputs]
    if len(set(names)) < len(names):
        raise ConfigInvalid(f"{where}: two [[output]] sections have one name")
    for output in outputs:
        _check_output(output, f"{where}: output {output.name!r}")
    inputs = [(pulse.meter, pulse.channel) for pulse in pulses]
    if len(set(inputs)) < len(inputs):
        raise ConfigInvalid(f"{where}: two [[pulse]] sections count for one channel")
    for pulse in pulses:
        _check_pulse(pulse, f"{where}: pulse {pulse.meter!r}")


def obeyed(sections: Sequence[Obey], where: str) -> frozenset[Obeyed]:
    """Return the list of (issuer, role, action).

    Raises:
        ConfigInvalid: a role or action that does not exist, or an empty section.
    """
    found = set()
    for one in sections:
        actions = one.actions.replace(",", " ").split()
        unknown = [action for action in actions if action not in ACTIONS]
        if unknown or not actions:
            raise ConfigInvalid(f"{where}: obey: {unknown or 'no action'}; known are {', '.join(ACTIONS)}")
        if not one.issuer or one.role not in set(Role):
            raise ConfigInvalid(f"{where}: obey: issuer {one.issuer!r} as {one.role!r}; roles are {', '.join(Role)}")
        found |= {Obeyed(one.issuer, one.role, action) for action in actions}
    return frozenset(found)


def _check_output(output: Output, where: str) -> None:
    ways = [output.coil >= 0, output.register >= 0, bool(output.command)]
    if not output.name or sum(ways) != 1:
        raise ConfigInvalid(f"{where} needs a name and exactly one of coil, register and command")
    if not (0 < output.port < 65536 and 0 <= output.unit <= 255 and 0 < output.timeout_s <= 600):
        raise ConfigInvalid(f"{where}: port, unit or timeout_s is out of range")
    if max(output.coil, output.register) > 65535 or abs(output.power) > 9:
        raise ConfigInvalid(f"{where}: coil, register or power is out of range")
    for action, value in output.actions.items():
        if action not in ACTIONS or action in OWN_ACTIONS or not isinstance(value, str):
            raise ConfigInvalid(f"{where}: {action} = {value!r} is nothing an output does")
        _check_value(output, action, value, where)
    if output.command and not _words(output.command):
        raise ConfigInvalid(f"{where}: command {output.command!r} cannot be read as a command line")


def _check_value(output: Output, action: str, value: str, where: str) -> None:
    if output.command or (output.register >= 0 and value == VALUE and ACTIONS[action].unit):
        return
    most = 1 if output.coil >= 0 else 65535
    if not (value.isascii() and value.isdecimal() and int(value) <= most):
        raise ConfigInvalid(f"{where}: {action} = {value!r} cannot be set; 0 to {most} can")


def _check_pulse(pulse: Pulse, where: str) -> None:
    if not pulse.meter or pulse.kind not in ("input", "holding") or pulse.bits not in (16, 32):
        raise ConfigInvalid(f"{where}: meter is missing, kind is not input or holding, or bits not 16 or 32")
    if not (0 < pulse.port < 65536 and 0 <= pulse.unit <= 255 and 0 <= pulse.register <= 65535):
        raise ConfigInvalid(f"{where}: port, unit or register is out of range")
    if amount_of(pulse) <= 0:
        raise ConfigInvalid(f"{where}: amount {pulse.amount!r} is no decimal number above 0")


def amount_of(pulse: Pulse) -> Decimal:
    """Return what one pulse is; 0 when that is not a decimal number."""
    try:
        return Decimal(units.decimal_text(pulse.amount))
    except ValueError:
        return Decimal(0)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return []
