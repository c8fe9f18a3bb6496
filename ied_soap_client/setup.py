"""``gridpost-ied init``: from an enrolment code to a device that can run.

In: a folder and what the command line says. Out: key, certificate, CA, channel table and a commented ied.toml in the
folder. Everything that can be checked is checked before anything is written or sent; run again it goes on.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gridpost import enrolment, tabular
from gridpost.errors import ConfigInvalid, NotFound

from . import config as settings
from . import contract, identity
from .transport import Transport
from .zones import zone_of


@dataclass(frozen=True, slots=True)
class Wishes:
    """The command line.

    Attributes:
        url: of the bus.
        code: ``SERIAL.BASE32``.
        channels: the channel table, or None.
        modbus: ``HOST:PORT`` of its meters, or None.
        tls_ca: certificates that may vouch for the bus's HTTPS, or None.
    """

    url: str
    code: str
    channels: Path | None = None
    modbus: str | None = None
    tls_ca: Path | None = None


async def init(folder: Path, wishes: Wishes) -> dict[str, Any]:
    """Enrol and write the folder; return what to tell.

    Raises:
        ConfigInvalid: the URL, the code or HOST:PORT is mistyped, or the folder holds another device.
        AnswerUntrusted, EnrolmentRefused, BusUnreachable: see `identity.enrol`.
    """
    if not wishes.url.startswith(("http://", "https://")):
        raise ConfigInvalid(f"the bus's address {wishes.url!r} must begin with http:// or https://")
    code = enrolment.parse_code(wishes.code)
    table = _table(wishes.channels)
    meters = _meters(table, wishes.modbus)
    identity.make_folder(folder)
    async with Transport(wishes.url, tls_ca=wishes.tls_ca) as transport:
        await identity.enrol(folder, code, transport)
    if wishes.channels:
        identity.write(folder / "channels.csv", table)
    file = folder / "ied.toml"
    if not file.exists():
        bus = {"url": wishes.url} | ({"tls_ca": str(wishes.tls_ca.resolve())} if wishes.tls_ca else {})
        values = {"bus": bus, "identity": {"serial": code.serial}}
        identity.write(file, settings.render(values, meters).encode())
    found = await asyncio.to_thread(contract.check, wishes.url, folder, wishes.tls_ca)
    return {"serial": code.serial, "config": str(file), "meters": len(meters), "contract": asdict(found)}


def _table(file: Path | None) -> bytes:
    if file is None:
        return b""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise NotFound(f"there is no channel table {file}: {error.strerror}") from None
    for channel in tabular.channels(content):
        zone_of(channel.zone)
    return content


def _meters(table: bytes, modbus: str | None) -> list[dict[str, Any]]:
    if modbus is None:
        return []
    host, separator, port = modbus.rpartition(":")
    if not (separator and host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigInvalid(f"--modbus {modbus!r} is not HOST:PORT")
    names = dict.fromkeys(channel.key.meter for channel in tabular.channels(table)) if table else {}
    if not names:
        raise ConfigInvalid("--modbus needs --channels, whose meters it places")
    return [
        {"id": name, "host": host.strip("[]"), "port": int(port), "unit": unit} for unit, name in enumerate(names, 1)
    ]
