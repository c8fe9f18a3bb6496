"""gridpost doctor: what may be wrong between the bus and a partner, and what to change.

A second process beside a running bus; it changes nothing and delivers nothing. Exit status 1 when something fails.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from gridpost.errors import NotFound
from gridpost.partners import Partner

from .. import config as configuration
from ..installed import entry_point
from ..office.checkup import FAIL, Checkup, Finding
from ..office.pushing import credentials
from .output import config_option, done, json_option, now_utc_ms, opened


@click.command("doctor")
@click.option("--partner", required=True, help="Its id.")
@click.option(
    "--timeout",
    type=click.IntRange(1, 300),
    default=10,
    show_default=True,
    help="Seconds for each step on the network.",
)
@config_option
@json_option
def command(partner: str, timeout: int, config_file: Path, as_json: bool) -> None:
    """Look for what is wrong between the bus and a partner, and say what to change.

    Its entry, certificates, clock and mailbox as they are on file; its WSDL and its address as they answer now. Exit
    status 1 when something is wrong.
    """
    config = configuration.load(config_file)
    with opened(config) as store:
        known = store.partner(partner)
        if known is None:
            raise NotFound(f"no partner {partner}")
        service = partial(_service, known, timeout)
        findings = list(Checkup(config, store, known, service, now_utc_ms, timeout).findings())
    well = all(one.state != FAIL for one in findings)
    if as_json:
        done(True, {"partner": partner, "ok": well, "checks": [one._asdict() for one in findings]}, "")
    else:
        Console().print(_table(findings))
    sys.exit(0 if well else 1)


def _service(partner: Partner, timeout_s: int) -> Any:
    """What pushes are made with; asked only where something is pushed, for its libraries take a while to load."""
    return entry_point("gridpost.deliveries", "soap")(
        partner.wsdl, partner.endpoint, timeout_s=timeout_s, access=(partial(credentials, partner), partner.ca)
    )


def _table(findings: list[Finding]) -> Table:
    table = Table("looked at", "", "found", "what to change")
    for one in findings:
        table.add_row(one.check, one.state, one.found, one.advice)
    return table
