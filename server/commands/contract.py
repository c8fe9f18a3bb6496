"""gridpost contract add | list | show | end: who buys what of whom, as people put it on file.

In: names, days of the contract's zone. Out: entries of the log, made by the running bus or, where none runs, at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from gridpost import contract as contracts
from gridpost.applications.determinants import ENERGY, EXPORT, REACTIVE, Metered
from gridpost.contract import Contract
from gridpost.errors import ConfigInvalid
from gridpost.tariff import KINDS

from .. import config as configuration
from .. import tasks
from ..billing import filed
from ..billing.filed import Filed
from .output import config_option, done, json_option, opened
from .person import person_option
from .valueside import DAY, begin_of, end_of, local

_name = click.argument("name", metavar="CONTRACT")


@click.group("contract")
def command() -> None:
    """Put contracts on file, list, show and end them."""


@command.command("add")
@click.argument("id")
@click.option("--usage-point", required=True, help="mRID of the usage point.")
@click.option("--tariff", required=True, metavar="SUPPLIER/ID", help="What is paid; it must be on file.")
@click.option("--customer", default="", help="Who pays.")
@click.option("--from", "first", type=DAY, required=True, help="First local day.")
@click.option("--to", "last", type=DAY, help="Last local day, included; otherwise it has no end.")
@click.option("--cycle-day", type=click.IntRange(1, 31), default=1, show_default=True,
              help="Day of the month on which a billing cycle begins.")  # fmt: skip
@click.option("--kind", type=click.Choice(KINDS), help="What of the energy it is for; otherwise the tariff's.")
@click.option("--channel", "channels", multiple=True, metavar="[-]NAME[=MEASURE]",
              help="A channel that counts: its stream, reading type, or METER/ before either; with - it is taken off. "
                   "MEASURE is energy, export or reactive. Otherwise all channels, as their reading types "
                   "say.")  # fmt: skip
@person_option
@config_option
@json_option
def add(
    id: str, tariff: str, first: datetime, last: datetime | None, channels: Sequence[str], kind: str | None,
    person: str, config_file: Path, as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Put a contract on file; one of its supplier's with that ID is replaced by this, a further version."""
    config = configuration.load(config_file)
    supplier, _, own = tariff.partition("/")
    with opened(config) as store:
        priced = filed.tariff(store, tariff).value
    metered = tuple(_metered(text) for text in channels)
    ends_utc = end_of(last, priced.zone) if last else None
    one = Contract(
        id, channels=metered, supplier=supplier, tariff=own, kind=kind or priced.kind,
        from_utc=begin_of(first, priced.zone), to_utc=ends_utc, zone=priced.zone, **given,
    )  # fmt: skip
    outcome = tasks.ask(config, "contract", {"contract": contracts.encode(one)}, person)
    done(
        as_json, outcome, f"{outcome['contract']} is on file" + ("" if outcome["filed"] else " already, to the letter")
    )


@command.command("list")
@click.option("--usage-point", help="Only those of this usage point.")
@config_option
@json_option
def list_(usage_point: str | None, config_file: Path, as_json: bool) -> None:
    """List the contracts on file."""
    with opened(configuration.load(config_file)) as store:
        found = [_told(one) for one in filed.contract_list(store, usage_point)]
    shown = "{contract}  {status}  {usage_point}  {tariff}  from {from}{until}"
    lines = [shown.format(**one, until=f" to {one['to']}" if one["to"] else "") for one in found]
    done(as_json, {"contracts": found}, "\n".join(lines) or "no contract is on file")


@command.command("show")
@_name
@config_option
@json_option
def show(name: str, config_file: Path, as_json: bool) -> None:
    """Show a contract: its channels, its times, the entry of the log that brought it."""
    with opened(configuration.load(config_file)) as store:
        told = _told(filed.contract(store, name))
    channels = [f"  {'-' if one['sign'] < 0 else '+'} {one['channel']} ({one['measure']})" for one in told["channels"]]
    plain = [f"{key}: {value}" for key, value in told.items() if key != "channels" and value not in ("", None)]
    done(as_json, told, "\n".join([*plain, "channels:", *channels]))


@command.command("end")
@_name
@click.option("--to", "last", type=DAY, required=True, help="Last local day it holds.")
@click.option("--reason", default="", help="Why.")
@person_option
@config_option
@json_option
def end(name: str, last: datetime, reason: str, person: str, config_file: Path, as_json: bool) -> None:
    """End a contract; its bills up to then can still be made."""
    config = configuration.load(config_file)
    with opened(config) as store:
        zone = filed.contract(store, name).value.zone
    asked = {"contract": name, "to_utc": end_of(last, zone), "reason": reason}
    outcome = tasks.ask(config, "contract-end", asked, person)
    done(as_json, outcome, f"{outcome['contract']} ends with {last.date()}")


def _metered(text: str) -> Metered:
    name, _, measure = text.removeprefix("-").partition("=")
    if measure not in ("", ENERGY, EXPORT, REACTIVE):
        raise ConfigInvalid(f"--channel {text}: {measure!r} is none of {ENERGY}, {EXPORT}, {REACTIVE}")
    return Metered(name, measure or ENERGY, -1 if text.startswith("-") else 1)


def _told(one: Filed[Contract]) -> dict[str, Any]:
    it = one.value
    return {
        "contract": f"{it.supplier}/{it.id}", "customer": it.customer, "usage_point": it.usage_point,
        "tariff": f"{it.supplier}/{it.tariff}", "kind": it.kind, "from": local(it.from_utc, it.zone),
        "to": local(it.to_utc, it.zone) or None, "zone": it.zone, "cycle_day": it.cycle_day, "status": it.status,
        "reason": it.reason, "channels": [metered._asdict() for metered in it.channels],
        "entry": f"{one.position.partition}:{one.position.seq}",
    }  # fmt: skip
