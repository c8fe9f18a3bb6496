"""gridpost bus renew: the bus's own next key, before its certificate ends, or when the present one may be known.

Devices believe any certificate that the CA they pinned issued with the bus's key usage (decision 13), so they need not
be told. What the old key signed stays valid: a receipt counts by its own moment.
"""

from __future__ import annotations

from pathlib import Path

import click

from gridpost.units import format_utc_ms

from .. import config as configuration
from ..enrolment import DeviceCA, ends_utc_ms, utc_now
from ..identity import load_signer, own_files, put_next, rsa_files
from .output import config_option, done, json_option


@click.group("bus")
def command() -> None:
    """Give the bus its next key."""


@command.command("renew")
@config_option
@json_option
def renew(config_file: Path, as_json: bool) -> None:
    """Make the bus's next key and certificate; it signs with them once it is started again. Needs the CA's key.

    Its RSA pair, where the settings name one, is made anew too. The present files stay beside as .old. With several
    machines do it on one and copy the files to the others.
    """
    config = configuration.load(config_file)
    ca = DeviceCA.load(config.path(config.identity.ca_certificate), config.path(config.identity.ca_key))
    load_signer(config)
    for files, is_rsa in ((own_files(config), False), (rsa_files(config), True)):
        if files:
            made = ca.issue_bus(config.bus.id, utc_now(), is_rsa=is_rsa)
            put_next(files, made.key, made.certificate)
    signer = load_signer(config)
    until = format_utc_ms(ends_utc_ms(signer.certificate))
    done(
        as_json,
        {"certificate": str(config.path(config.identity.certificate)), "ends_at": until},
        f"the bus has a new key, good until {until}; start it again to sign with it",
    )
