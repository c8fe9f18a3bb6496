"""gridpost crl issue | import | list | write: which certificates are no longer good, ours and those of foreign CAs.

A second process beside a running bus (decision 7). Our own keys' revocations are in the store itself; the list is for
others. A foreign CA's list is applied to that CA's keys when it is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from cryptography import x509
from rich.console import Console
from rich.table import Table

from gridpost.errors import FileInvalid, NotFound
from gridpost.units import format_utc_ms

from .. import config as configuration
from .. import crl, trust_keeper
from ..config import Config
from ..enrolment import DeviceCA
from ..identity import load_ca
from ..store import Crl, SqlStore
from .files import write_whole
from .output import config_option, done, json_option, now_utc_ms, opened

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("crl")
def command() -> None:
    """Make, import, list and write lists of revoked certificates."""


@command.command("issue")
@config_option
@json_option
def issue(config_file: Path, as_json: bool) -> None:
    """Make the device CA's next list now; the running bus serves it at /crl. Needs the CA's key."""
    config = configuration.load(config_file)
    ca = DeviceCA.load(config.path(config.identity.ca_certificate), config.path(config.identity.ca_key))
    with opened(config) as store:
        made = trust_keeper.issue(store, ca, now_utc_ms(), config.trust.crl_days)
    until = format_utc_ms(made.next_update_utc_ms)
    done(as_json, _shown(made, now_utc_ms()), f"list {made.number}, good until {until}")


@command.command("import")
@click.argument("file", type=_FILE)
@click.option("--ca", "ca_file", type=_FILE, required=True, help="The certificate of the CA that signed it.")
@config_option
@json_option
def import_(file: Path, ca_file: Path, config_file: Path, as_json: bool) -> None:
    """Take a foreign CA's list in FILE (PEM or DER) and apply it to the keys which that CA certified."""
    config, now = configuration.load(config_file), now_utc_ms()
    found = crl.read(file.read_bytes(), foreign_ca(config, ca_file), now)
    with opened(config) as store:
        changes = store.import_crl(found)
    changed = [{"serial": serial, "key": sha256.hex(), "revoked": gone} for serial, sha256, gone in changes]
    lines = [f"list {found.number} of {_name(found)}: {len(found.revoked)} certificate(s)"]
    words = {True: "revoked", False: "in force again"}
    lines += [f"{serial}: key {sha256.hex()} {words[gone]}" for serial, sha256, gone in changes]
    done(as_json, _shown(found, now) | {"certificates": len(found.revoked), "changed": changed}, "\n".join(lines))


@command.command("list")
@config_option
@json_option
def list_(config_file: Path, as_json: bool) -> None:
    """List the newest list of each CA, and whether it is out of date."""
    with opened(configuration.load(config_file)) as store:
        lists = shown(store, now_utc_ms())
    if as_json:
        done(True, {"lists": lists}, "")
        return
    table = Table("CA", "own", "number", "made", "good until", "stale")
    for one in lists:
        table.add_row(*(str(one[name]) for name in ("ca", "own", "number", "made_at", "good_until", "stale")))
    Console().print(table)


@command.command("write")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write, DER.")
@config_option
@json_option
def write_(out: Path, config_file: Path, as_json: bool) -> None:
    """Write the device CA's newest list to a file, as it is served at /crl."""
    with opened(configuration.load(config_file)) as store:
        der = store.own_crl()
    if der is None:
        raise NotFound("there is no list yet; `gridpost crl issue` makes one")
    write_whole(out, der)
    done(as_json, {"out": str(out), "bytes": len(der)}, f"{out}: {len(der)} bytes")


def foreign_ca(config: Config, file: Path) -> x509.Certificate:
    """Read a foreign CA's certificate.

    Raises:
        FileInvalid: it is none, or this bus's own.
    """
    ca = crl.load_ca(file.read_bytes())
    if ca == load_ca(config):
        raise FileInvalid(f"{file} is this bus's own CA: its list is made here, its keys come from requests")
    return ca


def issued(config: Config, store: SqlStore) -> int | None:
    """Make the next list behind a revocation and return its number; None where the CA's key is not at hand."""
    key = config.path(config.identity.ca_key)
    if not key.exists():
        return None
    ca = DeviceCA.load(config.path(config.identity.ca_certificate), key)
    return trust_keeper.issue(store, ca, now_utc_ms(), config.trust.crl_days).number


def shown(store: SqlStore, now: int) -> list[dict[str, Any]]:
    """Return what people are shown of each list on file."""
    return [_shown(one, now) for one in store.crls()]


def _shown(one: Crl, now: int) -> dict[str, Any]:
    return {
        "ca": _name(one),
        "own": one.own,
        "number": one.number,
        "made_at": format_utc_ms(one.this_update_utc_ms),
        "good_until": format_utc_ms(one.next_update_utc_ms),
        "stale": one.next_update_utc_ms < now,
    }


def _name(one: Crl) -> str:
    return x509.load_der_x509_certificate(one.issuer).subject.rfc4514_string()
