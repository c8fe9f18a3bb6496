"""gridpost partner: which offices the bus knows, how each proves itself, what it may see; tenants and groups of IEDs.

A second process beside a running bus (decision 7): it changes entries of partners, never the log. What is changed here
counts from the next message on.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from rich.console import Console
from rich.table import Table

from gridpost import units
from gridpost.controls import Role
from gridpost.errors import ConfigInvalid, NotFound
from gridpost.partners import KINDS, Grant, Partner, Ways
from gridpost.units import format_utc

from .. import config as configuration
from ..config import check_bus_id
from ..passwords import hash_password
from ..store import SqlStore
from .output import config_option, done, json_option, now_utc_ms, opened, typed

WAYS = ("signature", "tls", "username")
USES = ("signature", "tls")
SALT = 16


@click.group("partner")
def command() -> None:
    """Make offices known, say how they prove who they are and what they may see; tenants and groups of IEDs."""


def _moment(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        return units.parse_utc(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _ways(names: Sequence[str], unsigned: bool) -> Ways:
    return Ways("signature" in names, "tls" in names, "username" in names, unsigned)


def _authorities(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Take a file of certificates to its whole path: the bus may run elsewhere."""
    if not value:
        return value
    file = _whole_path(value)
    try:
        x509.load_pem_x509_certificates(Path(file).read_bytes())
    except ValueError as error:
        raise click.BadParameter(f"{value} holds no certificates in PEM form: {error}") from None
    return file


def _secret(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    return _whole_path(value) if value else value


def _whole_path(value: str) -> str:
    file = Path(value).resolve()
    if not file.is_file():
        raise click.BadParameter(f"there is no file {value}")
    return str(file)


def _way_out(decorated: Any) -> Any:
    """How it is called when something is pushed."""
    options = (
        click.option("--ca", callback=_authorities, metavar="FILE",
                     help="Certificates (PEM) that may vouch for its HTTPS; empty: those the machine trusts."),
        click.option("--push-user", help="Who the bus is to its MultiSpeak service (UserID)."),
        click.option("--push-password-file", callback=_secret, metavar="FILE",
                     help="File whose first line is the password (Pwd) that goes with it; read at each call."),
    )  # fmt: skip
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


@command.command("add")
@click.argument("partner", callback=typed(check_bus_id))
@click.option("--name", default="", help="What people call it; its id unless given.")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True, help="What it is.")
@click.option("--tenant", required=True, help="Whose usage points it can be granted.")
@click.option("--way", "ways", type=click.Choice(WAYS), multiple=True, default=("signature",), show_default=True,
              help="How it proves who it is; may stand more than once.")  # fmt: skip
@click.option("--unsigned-commands", is_flag=True, help="Let its commands count without a signature.")
@click.option("--endpoint", default="", help="The one address that messages are pushed to; empty: it fetches them.")
@click.option("--wsdl", default="", help="Where its own WSDL lies.")
@_way_out
@click.option(
    "--to", "valid_to", callback=_moment, help="When it is no partner any more, such as 2027-01-01T00:00:00Z."
)
@config_option
@json_option
def add(
    partner: str, name: str, role: str, tenant: str, ways: tuple[str, ...], unsigned_commands: bool, endpoint: str,
    wsdl: str, valid_to: int | None, config_file: Path, as_json: bool, **way_out: str | None,
) -> None:  # fmt: skip
    """Make PARTNER, the Source of its messages, known.

    It sees nothing yet: give it a certificate or a password, and grants.
    """
    ends = None if valid_to is None else valid_to * 1000
    made = Partner(
        partner,
        name or partner,
        Role(role),
        tenant,
        _ways(ways, unsigned_commands),
        endpoint,
        wsdl,
        0,
        ends,
        **{name: text or "" for name, text in way_out.items()},
    )
    with opened(configuration.load(config_file)) as store:
        store.add_partner(made)
    done(as_json, _shown(made), f"{partner}: a {role} of tenant {tenant}; it comes by {', '.join(ways)}")


@command.command("set")
@click.argument("partner")
@click.option("--name", help="What people call it.")
@click.option("--role", type=click.Choice([role.value for role in Role]), help="What it is.")
@click.option(
    "--way", "ways", type=click.Choice(WAYS), multiple=True, help="The ways it may come, instead of those before."
)
@click.option("--unsigned-commands/--signed-commands", default=None, help="Whether commands count without a signature.")
@click.option("--endpoint", help="The one address that messages are pushed to; empty: it fetches them.")
@click.option("--wsdl", help="Where its own WSDL lies.")
@_way_out
@click.option("--to", "valid_to", callback=_moment, help="When it is no partner any more.")
@config_option
@json_option
def set_(
    partner: str, name: str | None, role: str | None, ways: tuple[str, ...], unsigned_commands: bool | None,
    endpoint: str | None, wsdl: str | None, valid_to: int | None, config_file: Path, as_json: bool,
    **way_out: str | None,
) -> None:  # fmt: skip
    """Change an entry; what is not named stays."""
    with opened(configuration.load(config_file)) as store:
        kept = _known(store, partner)
        unsigned = kept.ways.unsigned_commands if unsigned_commands is None else unsigned_commands
        named = ways or [way for way in WAYS if getattr(kept.ways, way)]
        given: dict[str, Any] = {"name": name, "endpoint": endpoint, "wsdl": wsdl, **way_out}
        given |= {"role": Role(role) if role else None, "valid_to_utc_ms": valid_to and valid_to * 1000}
        changed = kept._replace(
            ways=_ways(named, unsigned), **{field: value for field, value in given.items() if value is not None}
        )
        store.set_partner(changed)
    done(as_json, _shown(changed), f"{partner} is changed")


@command.command("list")
@config_option
@json_option
def list_(config_file: Path, as_json: bool) -> None:
    """List all partners."""
    with opened(configuration.load(config_file)) as store:
        partners = store.partners()
    if as_json:
        done(True, {"partners": [_shown(one) for one in partners]}, "")
        return
    table = Table("partner", "name", "role", "tenant", "comes by")
    for one in partners:
        table.add_row(one.id, one.name, one.role, one.tenant, ", ".join(way for way in WAYS if getattr(one.ways, way)))
    Console().print(table)


@command.command("show")
@click.argument("partner")
@config_option
@json_option
def show(partner: str, config_file: Path, as_json: bool) -> None:
    """Show one partner: its entry, certificates, grants, and how much waits in its mailbox."""
    with opened(configuration.load(config_file)) as store:
        known = _known(store, partner)
        result = _shown(known) | {
            "password": store.password(partner) is not None,
            "mails": store.depth(partner),
            "certificates": [
                {"sha256": sha256(key.der).hexdigest(), "use": key.use, "revoked": key.revoked_at_utc_ms is not None}
                for key in store.partner_keys(partner)
            ],
            "grants": [_grant(one) for one in store.grants(partner)],
        }
    lines = [f"{name}: {value}" for name, value in result.items() if not isinstance(value, list)]
    lines += ["certificate: " + ", ".join(map(str, one.values())) for one in result["certificates"]]
    lines += ["grant: " + ", ".join(map(str, one.values())) for one in result["grants"]]
    done(as_json, result, "\n".join(lines))


@command.command("certificate")
@click.argument("partner")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--use", type=click.Choice(USES), default=USES[0], show_default=True, help="What it proves.")
@click.option("--revoke", is_flag=True, help="Take it away, from now on, instead.")
@config_option
@json_option
def certificate(partner: str, file: Path, use: str, revoke: bool, config_file: Path, as_json: bool) -> None:
    """Bind the certificate in FILE (PEM) to PARTNER, or take it away; two at a time let a key be replaced."""
    try:
        der = x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(Encoding.DER)
    except ValueError as error:
        raise ConfigInvalid(f"{file} is no certificate in PEM form: {error}") from None
    digest = sha256(der).digest()
    with opened(configuration.load(config_file)) as store:
        _known(store, partner)
        if revoke:
            key = store.partner_of(digest)
            if key is None or key.partner.id != partner:
                raise NotFound(f"{partner} has no such certificate")
            store.revoke_partner_certificate(digest, now_utc_ms())
        else:
            store.add_partner_certificate(partner, der, use)
    state = "revoked" if revoke else f"bound for {use}"
    done(as_json, {"partner": partner, "sha256": digest.hex(), "state": state}, f"{digest.hex()} is {state}")


@command.command("password")
@click.argument("partner")
@click.option("--remove", is_flag=True, help="Take its password away instead.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read it from standard input, instead of asking for it.")
@click.option("--make", is_flag=True, help="Make one and print it, once.")
@config_option
@json_option
def password(partner: str, remove: bool, from_stdin: bool, make: bool, config_file: Path, as_json: bool) -> None:
    """Set PARTNER's password for UsernameTokens over TLS; only its scrypt hash is kept."""
    made = secrets.token_urlsafe(24) if make else None
    text = made or (sys.stdin.readline().rstrip("\r\n") if from_stdin else None)
    if text is None and not remove:
        text = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    with opened(configuration.load(config_file)) as store:
        _known(store, partner)
        store.set_password(partner, None if remove or text is None else hash_password(text, secrets.token_bytes(SALT)))
    result: dict[str, Any] = {"partner": partner, "password": made} if made else {"partner": partner}
    done(as_json, result, f"{partner}'s password, shown this once:\n{made}" if made else f"{partner}: done")


@command.command("grant")
@click.argument("partner")
@click.argument("usage_points", nargs=-1, required=True)
@click.option("--kind", "kinds", type=click.Choice(list(KINDS)), multiple=True, required=True, help="What may be seen.")
@click.option("--from", "from_utc", callback=_moment, help="From when on, exclusive; from the first unless given.")
@click.option("--to", "to_utc", callback=_moment, help="Until when, inclusive; without end unless given.")
@config_option
@json_option
def grant(
    partner: str, usage_points: tuple[str, ...], kinds: tuple[str, ...], from_utc: int | None, to_utc: int | None,
    config_file: Path, as_json: bool,
) -> None:  # fmt: skip
    """Let PARTNER see kinds of data of usage points of its tenant over a period."""
    given = [Grant(partner, point, kind, from_utc or 0, to_utc) for point in usage_points for kind in kinds]
    with opened(configuration.load(config_file)) as store:
        store.give(*given)
    done(as_json, {"grants": [_grant(one) for one in given]}, f"{partner}: {len(given)} grant(s)")


@command.command("ungrant")
@click.argument("partner")
@click.argument("usage_points", nargs=-1, required=True)
@click.option("--kind", "kinds", type=click.Choice(list(KINDS)), multiple=True, required=True, help="What no more.")
@click.option(
    "--at", "at_utc", callback=_moment, help="From when on; what lies before is still seen. Now unless given."
)
@click.option("--all", "everything", is_flag=True, help="Nothing of it at all, not of the past either.")
@config_option
@json_option
def ungrant(
    partner: str, usage_points: tuple[str, ...], kinds: tuple[str, ...], at_utc: int | None, everything: bool,
    config_file: Path, as_json: bool,
) -> None:  # fmt: skip
    """End grants; the next question finds them ended."""
    ends = 0 if everything else now_utc_ms() // 1000 if at_utc is None else at_utc
    with opened(configuration.load(config_file)) as store:
        found = [one for one in store.grants(partner) if one.usage_point in usage_points and one.kind in kinds]
        if not found:
            raise NotFound(f"{partner} has no such grant")
        for one in found:
            store.take(one, ends)
    done(as_json, {"ended": len(found)}, f"{partner}: {len(found)} grant(s) ended")


@command.command("tenant")
@click.argument("serial")
@click.argument("tenants", nargs=-1)
@config_option
@json_option
def tenant(serial: str, tenants: tuple[str, ...], config_file: Path, as_json: bool) -> None:
    """Say which tenants the IED SERIAL is in, instead of those before; without any it is in none."""
    with opened(configuration.load(config_file)) as store:
        store.set_tenants(serial, tenants)
    done(as_json, {"serial": serial, "tenants": list(tenants)}, f"{serial}: {', '.join(tenants) or 'in no tenant'}")


@command.command("group")
@click.argument("tenant")
@click.argument("name")
@click.argument("serials", nargs=-1)
@config_option
@json_option
def group(tenant: str, name: str, serials: tuple[str, ...], config_file: Path, as_json: bool) -> None:
    """Make NAME a group of IEDs of TENANT, instead of what it was; without IEDs it is no more."""
    with opened(configuration.load(config_file)) as store:
        store.set_group(tenant, name, serials)
    done(as_json, {"tenant": tenant, "group": name, "serials": list(serials)}, f"{name}: {len(serials)} IED(s)")


def _known(store: SqlStore, partner: str) -> Partner:
    known = store.partner(partner)
    if known is None:
        raise NotFound(f"no partner {partner}")
    return known


def _shown(partner: Partner) -> dict[str, Any]:
    return {
        "partner": partner.id,
        "name": partner.name,
        "role": partner.role.value,
        "tenant": partner.tenant,
        "ways": ", ".join(way for way in WAYS if getattr(partner.ways, way)),
        "unsigned_commands": partner.ways.unsigned_commands,
        "endpoint": partner.endpoint,
        "wsdl": partner.wsdl,
        "ca": partner.ca,
        "push_user": partner.push_user,
        "push_password_file": partner.push_password_file,
        "until": None if partner.valid_to_utc_ms is None else format_utc(partner.valid_to_utc_ms // 1000),
    }


def _grant(one: Grant) -> dict[str, Any]:
    return {
        "usage_point": one.usage_point,
        "kind": one.kind,
        "from": format_utc(one.from_utc),
        "to": None if one.to_utc is None else format_utc(one.to_utc),
    }
