"""gridpost init DIR: a new bus, ready to serve: configuration, device CA, the bus's identity, an empty database."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import click

from gridpost.errors import AlreadyExists

from .. import config as configuration
from ..enrolment import DeviceCA, make_ca, utc_now
from ..store import create
from .files import sync
from .output import done, json_option, typed

CONFIG = "gridpost.toml"
RSA = {"rsa_certificate": "bus-rsa.pem", "rsa_key": "bus-rsa.key"}


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--id", "bus_id", default="bus", show_default=True, callback=typed(configuration.check_bus_id),
    help="The bus's name: Source in its answers.",
)  # fmt: skip
@click.option(
    "--database", default=configuration.Bus().database, show_default=True,
    help="The store: a file, or the URL of an empty PostgreSQL database.",
)  # fmt: skip
@click.option(
    "--http", default="0.0.0.0:80", show_default=True, callback=typed(configuration.host_port),
    help="Address and port of the device listener.",
)  # fmt: skip
@click.option("--rsa/--no-rsa", default=True, show_default=True, help="An RSA key too: some toolkits know no other.")
@json_option
def command(folder: Path, bus_id: str, database: str, http: str, rsa: bool, as_json: bool) -> None:
    """Make FOLDER with gridpost.toml, a device CA, the bus's keys and an empty database.

    FOLDER must be new or empty. It is filled under another name and renamed, so it is whole or absent, and on disk when
    this ends: its CA and key must outlive what is promised with them.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AlreadyExists(f"{folder} is no empty folder; choose a new one, nothing was changed")
    made = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".gridpost-", dir=folder.parent))
    try:
        _fill(work, configuration.Bus(bus_id, database), http, rsa=rsa)
        if folder.exists():
            folder.rmdir()
        for path in (*work.iterdir(), work):
            sync(path)
        work.rename(folder)
        for path in (folder, *made):
            sync(path.parent)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    done(
        as_json,
        {"config": str(folder / CONFIG), "ca_certificate": str(folder / "ca.pem")},
        f"made {folder}: configuration, device CA, the bus's key, database\n"
        f"next: gridpost ied add SERIAL --channels FILE --config {folder / CONFIG}\n"
        f"      gridpost serve --config {folder / CONFIG}",
    )


def _fill(folder: Path, named: configuration.Bus, http: str, *, rsa: bool) -> None:
    secrets, public = _keys(named.id, rsa=rsa)
    own = {"id": named.id}
    if named.database != configuration.Bus().database:
        own["database"] = named.database
    settings = {"bus": own, "listen": {"http": http}, "mv90": {"directory": configuration.Mv90().directory}}
    if rsa:
        settings["identity"] = RSA
    config = configuration.Config(folder, bus=named)
    # A URL may hold a password.
    (public if isinstance(config.database, Path) else secrets)[CONFIG] = configuration.render(settings).encode()
    for name, content in secrets.items():
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
    for name, content in public.items():
        (folder / name).write_bytes(content)
    (folder / configuration.Mv90().directory).mkdir()
    if not create(config.database):
        raise AlreadyExists("that database is a store already; a further process of its bus needs a copy of its folder")
    folder.chmod(0o755)


def _keys(bus_id: str, *, rsa: bool) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the files of a new bus's CA and keys by name: the secret ones, and the others."""
    now, identity = utc_now(), configuration.Identity()
    made = make_ca(bus_id, now)
    ca = DeviceCA(*made)
    bus = ca.issue_bus(bus_id, now)
    secrets = {identity.ca_key: made.key, identity.key: bus.key}
    public = {identity.ca_certificate: made.certificate, identity.certificate: bus.certificate}
    if rsa:
        second = ca.issue_bus(bus_id, now, is_rsa=True)
        secrets[RSA["rsa_key"]], public[RSA["rsa_certificate"]] = second.key, second.certificate
    return secrets, public
