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
from gridpost.errors import AlreadyExists, ConfigInvalid, Item, NotFound

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
        AlreadyExists: the folder has settings and the command line names others; nothing was changed.
        AnswerUntrusted, EnrolmentRefused, BusUnreachable: see `identity.enrol`.
    """
    check_url(wishes.url)
    code = enrolment.parse_code(wishes.code)
    table = _table(wishes.channels)
    meters = _meters(table, wishes.modbus)
    file = folder / "ied.toml"
    kept = settings.load(file) if file.exists() else None
    tls_ca = _agreed(kept, wishes, meters, table) if kept else wishes.tls_ca
    identity.make_folder(folder)
    async with Transport(wishes.url, tls_ca=tls_ca) as transport:
        await identity.enrol(folder, code, transport)
    if wishes.channels:
        identity.write(kept.path(kept.channels.file) if kept else folder / "channels.csv", table)
    if not kept:
        bus = {"url": wishes.url} | ({"tls_ca": str(tls_ca.resolve())} if tls_ca else {})
        values = {"bus": bus, "identity": {"serial": code.serial}}
        identity.write(file, settings.render(values, meters).encode())
    found = await asyncio.to_thread(contract.check, wishes.url, folder, tls_ca)
    count = len(kept.meter) if kept else len(meters)
    about = {"serial": code.serial, "config": str(file), "kept": bool(kept)}
    return {**about, "meters": count, "contract": asdict(found)}


def check_url(url: str) -> str:
    """Return `url` if it can be a bus's address.

    Raises:
        ConfigInvalid: neither http nor https.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigInvalid(f"the bus's address {url!r} must begin with http:// or https://")
    return url


def host_port(address: str) -> tuple[str, int]:
    """Split ``HOST:PORT``.

    Raises:
        ConfigInvalid: not of that form.
    """
    host, separator, port = address.rpartition(":")
    if not (separator and host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigInvalid(f"{address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _agreed(kept: settings.Config, wishes: Wishes, meters: list[dict[str, Any]], table: bytes) -> Path | None:
    """Hold the command line against settings that are there already; return the certificates they name.

    Enrolling again must neither lose what a person changed in ied.toml nor say "done" of what it left undone.

    Raises:
        AlreadyExists: they differ; each difference is listed.
    """
    file, channels = kept.folder / "ied.toml", kept.path(kept.channels.file)
    tls_ca = kept.path(kept.bus.tls_ca) if kept.bus.tls_ca else None
    placed = [{"id": one.id, "host": one.host, "port": one.port, "unit": one.unit} for one in kept.meter]
    differences = {
        f"--bus: the file's bus.url is {kept.bus.url}": wishes.url.rstrip("/") != kept.bus.url.rstrip("/"),
        f"--tls-ca: the file's bus.tls_ca is {kept.bus.tls_ca or 'empty'}": wishes.tls_ca
        and (tls_ca is None or wishes.tls_ca.resolve() != tls_ca.resolve()),
        "--modbus: the file's [[meter]] sections place meters elsewhere": wishes.modbus and meters != placed,
        f"--channels: {channels} holds another table": wishes.channels
        and channels.exists()
        and channels.read_bytes() != table,
    }
    items = [Item(AlreadyExists.code, text) for text, differs in differences.items() if differs]
    if items:
        raise AlreadyExists(
            f"{file} was written before and says otherwise; edit it, or move it away first", items=items
        )
    return tls_ca


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
    host, port = host_port(modbus)
    names = dict.fromkeys(channel.key.meter for channel in tabular.channels(table)) if table else {}
    if not names:
        raise ConfigInvalid("--modbus needs --channels, whose meters it places")
    return [{"id": name, "host": host, "port": port, "unit": unit} for unit, name in enumerate(names, 1)]
