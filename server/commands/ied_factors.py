"""gridpost ied factor list | set | clear: what a device's new messages must satisfy besides their signature (F14).

A second process beside a running bus (decision 7). All factors of a device must fit.
"""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from .. import config as configuration
from ..factors import FACTORS, factor
from .output import config_option, done, json_option, opened

_name = click.argument("name", type=click.Choice(tuple(FACTORS)), metavar="FACTOR")


@click.group("factor")
def command() -> None:
    """List, set and clear the authentication factors of a device."""


@command.command("list")
@click.argument("serial")
@config_option
@json_option
def list_(serial: str, config_file: Path, as_json: bool) -> None:
    """List the factors of SERIAL, and those it might have."""
    with opened(configuration.load(config_file)) as store:
        held = store.factors(serial)
    if as_json:
        done(True, {"serial": serial, "factors": held}, "")
        return
    table = Table("factor", "must be", "meaning", "for example")
    for name, kind in FACTORS.items():
        table.add_row(name, held.get(name, ""), kind.meaning, kind.example)
    Console().print(table)


@command.command("set")
@click.argument("serial")
@_name
@click.argument("value")
@config_option
@json_option
def set_(serial: str, name: str, value: str, config_file: Path, as_json: bool) -> None:
    """Have the messages of SERIAL satisfy FACTOR from the next one on; VALUE is what docs/operations.md says."""
    factor(name, value)
    with opened(configuration.load(config_file)) as store:
        store.set_factor(serial, name, value)
    done(as_json, {"serial": serial, "factor": name, "value": value}, f"{serial}: {name} must be {value}")


@command.command("clear")
@click.argument("serial")
@_name
@config_option
@json_option
def clear(serial: str, name: str, config_file: Path, as_json: bool) -> None:
    """Ask FACTOR of SERIAL no longer."""
    with opened(configuration.load(config_file)) as store:
        store.set_factor(serial, name, None)
    done(as_json, {"serial": serial, "factor": name, "value": None}, f"{serial}: {name} is not asked any more")
