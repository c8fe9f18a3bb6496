"""gridpost ied add | list | show | revoke | key | factor: which devices the bus knows, and for what each speaks.

A second process beside a running bus (decision 7): it changes enrolments, never entries.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from gridpost import enrolment, tabular
from gridpost.model import Channel
from gridpost.units import format_utc, format_utc_ms

from .. import config as configuration
from ..enrolment import DeviceCA
from ..store import IedStatus
from ..zones import zone_of
from . import ied_factors, ied_keys
from .crl import issued
from .output import config_option, done, json_option, now_utc_ms, opened, typed

KINDS = ("revenue meter", "PLC", "RTU", "protective relay", "fault recorder", "pulse box")


@click.group("ied")
def command() -> None:
    """Enrol, list, show and revoke devices."""


@command.command("add")
@click.argument("serial", callback=typed(enrolment.check_serial))
@click.option(
    "--channels", "channels_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True,
    help="CSV: usage_point, meter, channel, reading_type, unit, interval_s, zone, valid_from.",
)  # fmt: skip
@click.option("--kind", type=click.Choice(KINDS), default=KINDS[0], show_default=True)
@config_option
@json_option
def add(serial: str, channels_file: Path, kind: str, config_file: Path, as_json: bool) -> None:
    """Enrol SERIAL for the channels of a file and print its one-time code.

    Give the code to whoever sets the device up: gridpost-ied init --bus URL --code CODE DIR. The first device that
    uses it gets the certificate; the same device may ask again.
    """
    config = configuration.load(config_file)
    channels = tabular.channels(channels_file.read_bytes())
    for channel in channels:
        zone_of(channel.zone)
    ca = DeviceCA.load(config.path(config.identity.ca_certificate), config.path(config.identity.ca_key))
    secret = secrets.token_bytes(enrolment.SECRET_OCTETS)
    with opened(config) as store:
        held = store.add_ied(serial, kind, secret, channels)
    code = enrolment.make_code(serial, secret, ca.der)
    done(
        as_json,
        {"serial": serial, "code": code, "channels": len(held)},
        f"{serial}: {len(held)} channel(s); one-time code, keep it secret until used:\n{code}",
    )


@command.command("list")
@config_option
@json_option
def list_(config_file: Path, as_json: bool) -> None:
    """List all devices."""
    with opened(configuration.load(config_file)) as store:
        ieds = store.list_ieds()
    if as_json:
        done(True, {"ieds": [_ied(ied) for ied in ieds]}, "")
        return
    table = Table("serial", "kind", "state", "channels", "last entry")
    for ied in ieds:
        seen = ied.last_recorded_at_utc_ms
        table.add_row(ied.serial, ied.kind, ied.state, str(len(ied.channels)), format_utc_ms(seen) if seen else "none")
    Console().print(table)


@command.command("show")
@click.argument("serial")
@config_option
@json_option
def show(serial: str, config_file: Path, as_json: bool) -> None:
    """Show one device: its certificates, its channels, its last entry."""
    with opened(configuration.load(config_file)) as store:
        ied = store.show_ied(serial)
    result = _ied(ied)
    lines = [f"{name}: {value}" for name, value in result.items() if not isinstance(value, list)]
    lines += [f"certificate: {held}" for held in result["certificates"]]
    lines += ["channel: " + ", ".join(str(value) for value in held.values()) for held in result["channel_list"]]
    done(as_json, result, "\n".join(lines))


@command.command("revoke")
@click.argument("serial")
@config_option
@json_option
def revoke(serial: str, config_file: Path, as_json: bool) -> None:
    """Revoke a device's certificates and its code, from now on, and make the next list of revoked certificates.

    What it sent stays.
    """
    config, now = configuration.load(config_file), now_utc_ms()
    with opened(config) as store:
        store.revoke(serial, now)
        number = issued(config, store)
    listed = f"list {number} names it" if number else "make the list where the CA's key is: gridpost crl issue"
    done(
        as_json,
        {"serial": serial, "revoked_at": format_utc_ms(now), "crl": number},
        f"{serial} is revoked; its readings stay; {listed}",
    )


command.add_command(ied_keys.command)
command.add_command(ied_factors.command)


def _ied(ied: IedStatus) -> dict[str, Any]:
    seen = ied.last_recorded_at_utc_ms
    return {
        "serial": ied.serial,
        "kind": ied.kind,
        "state": ied.state,
        "last_entry": None if ied.last_entry is None else f"{ied.last_entry.partition}:{ied.last_entry.seq}",
        "last_recorded_at": None if seen is None else format_utc_ms(seen),
        "channels": len(ied.channels),
        "certificates": [
            held.sha256.hex() + ("" if held.revoked_at_utc_ms is None else " (revoked)") for held in ied.certificates
        ],
        "keys": [ied_keys.shown(held) for held in ied.certificates],
        "channel_list": [_channel(channel) for channel in ied.channels],
    }


def _channel(channel: Channel) -> dict[str, Any]:
    return {
        **channel.key._asdict(),
        "unit": channel.unit,
        "interval_s": channel.interval_s,
        "zone": channel.zone,
        "valid_from": format_utc(channel.valid_from_utc),
        "valid_to": None if channel.valid_to_utc is None else format_utc(channel.valid_to_utc),
    }
