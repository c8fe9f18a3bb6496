"""gridpost ied key list | add | rights | revoke: the keys of a device, each with rights of its own (F19).

A second process beside a running bus (decision 7). A key is named by its name or by the first digits of its
certificate's SHA-256.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from rich.console import Console
from rich.table import Table

from gridpost.conditions import RIGHTS
from gridpost.errors import ConfigInvalid, FileInvalid, NotFound
from gridpost.units import format_utc_ms

from .. import config as configuration
from .. import crl as lists
from ..enrolment import DeviceCA, Subject, foreign_key, requested_key
from ..store import CertificateStatus, IedStatus, NewKey, SqlStore
from .crl import foreign_ca, issued
from .files import write_whole
from .output import config_option, done, json_option, now_utc_ms, opened, typed

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DER, _PEM = serialization.Encoding.DER, serialization.Encoding.PEM
_FEWEST_DIGITS = 8


def parse_rights(text: str) -> tuple[str, ...] | None:
    """Read ``all`` or a comma-separated list of rights.

    Raises:
        ConfigInvalid: it names one that does not exist.
    """
    if text == "all":
        return None
    rights = tuple(one.strip() for one in text.split(",") if one.strip())
    if unknown := [one for one in rights if one not in RIGHTS]:
        raise ConfigInvalid(f"there is no right {unknown[0]!r}; known are all, {', '.join(RIGHTS)}")
    return rights


_rights = click.option(
    "--rights", default="all", show_default=True, callback=typed(parse_rights),
    help=f"What the key may do: {', '.join(RIGHTS)}, comma-separated; or all.",
)  # fmt: skip


@click.group("key")
def command() -> None:
    """List, add, restrict and revoke the keys of a device."""


@command.command("list")
@click.argument("serial")
@config_option
@json_option
def list_(serial: str, config_file: Path, as_json: bool) -> None:
    """List the keys of SERIAL, their rights and their ends."""
    with opened(configuration.load(config_file)) as store:
        keys = [shown(one) for one in store.show_ied(serial).certificates]
    if as_json:
        done(True, {"serial": serial, "keys": keys}, "")
        return
    table = Table("key", "name", "rights", "CA", "ends at", "state")
    for one in keys:
        table.add_row(one["sha256"][:16], one["name"], one["rights"], one["ca"], one["ends_at"], one["state"])
    Console().print(table)


@command.command("add")
@click.argument("serial")
@click.option("--request", type=_FILE, help="A certification request (PKCS#10); our CA issues the certificate.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where that certificate goes, PEM.")
@click.option("--certificate", type=_FILE, help="Instead: a certificate that a foreign CA issued.")
@click.option("--ca", "ca_file", type=_FILE, help="The foreign CA's certificate.")
@click.option("--name", default="", help="What people call the key.")
@_rights
@config_option
@json_option
def add(serial: str, config_file: Path, as_json: bool, **options: Any) -> None:
    """Give SERIAL a further key, beside those it has: of our own CA by a request, or of a foreign CA.

    A key of a foreign CA is revoked by that CA's list: gridpost crl import.
    """
    own, foreign = (options["request"], options["out"]), (options["certificate"], options["ca_file"])
    if all(own) == all(foreign) or any(own) == any(foreign):
        raise click.UsageError("give either --request and --out, or --certificate and --ca")
    config, now = configuration.load(config_file), now_utc_ms()
    rights = parse_rights(options["rights"])
    with opened(config) as store:
        if all(own):
            ca = DeviceCA.load(config.path(config.identity.ca_certificate), config.path(config.identity.ca_key))
            key = requested_key(serial, _request(options["request"]))
            moment = datetime.fromtimestamp(now // 1000, UTC)
            certificate = ca.issue(Subject(serial, 0, days=config.trust.device_days), key, moment)
            new = NewKey(certificate.public_bytes(_DER), options["name"], rights)
        else:
            issuer = foreign_ca(config, options["ca_file"])
            new = _foreign(store, serial, (options["certificate"].read_bytes(), issuer), now)
            new = new._replace(name=options["name"], rights=rights)
        digest = store.add_key(serial, new)
    if all(own):
        write_whole(options["out"], certificate.public_bytes(_PEM))
    done(
        as_json,
        {"serial": serial, "key": digest.hex(), "rights": options["rights"]},
        f"{serial}: key {digest.hex()[:16]}, rights: {options['rights']}",
    )


def _request(file: Path) -> bytes:
    raw = file.read_bytes()
    try:
        pem = b"-----BEGIN" in raw
        return (x509.load_pem_x509_csr(raw) if pem else x509.load_der_x509_csr(raw)).public_bytes(_DER)
    except ValueError as error:
        raise FileInvalid(f"{file} is no certification request: {error}") from None


def _foreign(store: SqlStore, serial: str, given: tuple[bytes, x509.Certificate], now: int) -> NewKey:
    """Check a foreign CA's certificate for a device, and whether that CA's list on file names it already."""
    certificate = foreign_key(serial, *given)
    issuer = sha256(given[1].public_bytes(_DER)).digest()
    on_file = [one for one in store.crls() if not one.own and one.issuer_sha256 == issuer]
    revoked = lists.read(on_file[0].der, given[1], now).revoked if on_file else {}
    at = revoked.get(certificate.serial_number)
    return NewKey(certificate.public_bytes(_DER), issuer_sha256=issuer, revoked_at_utc_ms=at)


@command.command("rights")
@click.argument("serial")
@click.argument("key")
@click.argument("rights", callback=typed(parse_rights))
@config_option
@json_option
def rights(serial: str, key: str, rights: str, config_file: Path, as_json: bool) -> None:
    """Give the KEY of SERIAL other RIGHTS: all, or a comma-separated list."""
    digest = _change(
        config_file, (serial, key), lambda store, held: store.set_rights(serial, held, parse_rights(rights))
    )
    done(as_json, {"serial": serial, "key": digest.hex(), "rights": rights}, f"{serial}: key {key} may do: {rights}")


@command.command("revoke")
@click.argument("serial")
@click.argument("key")
@config_option
@json_option
def revoke(serial: str, key: str, config_file: Path, as_json: bool) -> None:
    """Revoke one KEY of SERIAL from now on, and make the next list; its other keys and its code stay."""
    config, now = configuration.load(config_file), now_utc_ms()
    digest = _change(config_file, (serial, key), lambda store, held: store.revoke_key(serial, held, now))
    with opened(config) as store:
        number = issued(config, store)
    result = {"serial": serial, "key": digest.hex(), "revoked_at": format_utc_ms(now), "crl": number}
    done(as_json, result, f"{serial}: key {digest.hex()[:16]} is revoked")


def _change(config_file: Path, named: tuple[str, str], change: Callable[[SqlStore, bytes], None]) -> bytes:
    with opened(configuration.load(config_file)) as store:
        digest = _find(store.show_ied(named[0]), named[1])
        change(store, digest)
    return digest


def _find(ied: IedStatus, key: str) -> bytes:
    by_digest = [one.sha256 for one in ied.certificates if one.sha256.hex().startswith(key.lower())]
    named = [one.sha256 for one in ied.certificates if one.name and one.name == key]
    found = named or (by_digest if len(key) >= _FEWEST_DIGITS else [])
    if len(found) != 1:
        raise NotFound(
            f"IED {ied.serial} has {len(found)} keys {key!r}; give a name or {_FEWEST_DIGITS} digits or more"
        )
    return found[0]


def shown(one: CertificateStatus) -> dict[str, str]:
    """Return what people are shown of a key."""
    ends = one.not_after_utc_ms if one.ends_at_utc_ms is None else one.ends_at_utc_ms
    state = "revoked" if one.revoked_at_utc_ms is not None else "in force" if one.ends_at_utc_ms is None else "replaced"
    return {
        "sha256": one.sha256.hex(),
        "name": one.name,
        "rights": "all" if one.rights is None else ",".join(one.rights) or "none",
        "ca": "own" if one.issuer_sha256 is None else f"foreign {one.issuer_sha256.hex()[:16]}",
        "ends_at": format_utc_ms(ends),
        "state": state,
    }
