"""gridpost tariff add | list | show | export | page: what suppliers ask for, as people put it on file and take it out.

In: files of tariffs (URDB JSON or the XML of xsd/tariff.xsd), or the store. Out: entries of the log, made by the
running bus or, where none runs, at once; files. A tariff that is refused leaves the one on file in force.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from gridpost import tariff_messages
from gridpost.tariff import SCOPES, Tariff

from .. import config as configuration
from .. import tasks
from ..billing import filed
from ..billing.filed import Filed
from ..installed import entry_point
from ..tariff_files import Unsaid, read_file
from ..zones import zone_of
from .files import write_whole
from .output import config_option, done, json_option, opened, say_losses
from .person import person_option
from .valueside import DAY, local

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUT = click.Path(dir_okay=False, path_type=Path)
_name = click.argument("name", metavar="SUPPLIER/ID")
MOST = 1000  # tariffs put on file at once: one entry holds them


@click.group("tariff")
def command() -> None:
    """Put tariffs on file, list, show and export them."""


@command.command("add")
@click.argument("file", type=_FILE)
@click.option("--zone", default="Etc/UTC", show_default=True, help="Whose hours a URDB file means.")
@click.option("--holiday", "holidays", type=DAY, multiple=True,
              help="A local date that a URDB file's hours bill as a weekend; may be given more than once.")  # fmt: skip
@click.option("--scope", type=click.Choice(SCOPES), default="month", show_default=True,
              help="How tiers of a URDB file count: the month's total shared out, or each period's.")  # fmt: skip
@person_option
@config_option
@json_option
def add(
    file: Path, zone: str, holidays: tuple[datetime, ...], scope: str, person: str, config_file: Path, as_json: bool
) -> None:  # fmt: skip
    """Put the tariffs of a file on file, all or none; each is checked first, and each fault is named by its place.

    A tariff of the same supplier and id is a further version: what is valid then is the version recorded last.
    """
    config = configuration.load(config_file)
    zone_of(zone)
    found = read_file(file, Unsaid(zone, frozenset(day.date() for day in holidays), scope))
    if len(found) > MOST:
        raise click.UsageError(f"{file} holds {len(found)} tariffs; put at most {MOST} on file at once")
    texts = [tariff_messages.encode(one) for one in found]
    outcome = tasks.ask(config, "tariffs", {"tariffs": texts}, person)
    known = len(outcome["tariffs"]) - len(outcome["filed"])
    lines = [f"{name} is on file" for name in outcome["filed"]] + [f"{known} on file already, to the letter"] * (
        known > 0
    )
    done(as_json, outcome, "\n".join(lines))


@command.command("list")
@click.option("--supplier", help="Only this one's.")
@config_option
@json_option
def list_(supplier: str | None, config_file: Path, as_json: bool) -> None:
    """List the tariffs on file, each in its newest version."""
    with opened(configuration.load(config_file)) as store:
        found = [_told(one) for one in filed.tariffs(store, supplier)]
    lines = [
        "{tariff}  {kind}  {currency}  from {from}{until}  {name}".format(**one, until=_until(one)) for one in found
    ]
    done(as_json, {"tariffs": found}, "\n".join(lines) or "no tariff is on file")


@command.command("show")
@_name
@config_option
@json_option
def show(name: str, config_file: Path, as_json: bool) -> None:
    """Show a tariff as it is on file, in XML, and the versions there are."""
    with opened(configuration.load(config_file)) as store:
        supplier, _, own = name.partition("/")
        versions = filed.tariff_versions(store, supplier, own)
    newest = versions[-1].value
    shown = _told(versions[-1]) | {"versions": [_told(one) for one in versions], "xml": tariff_messages.encode(newest)}
    lines = ["entry {entry}: from {from}{until}".format(**one, until=_until(one)) for one in shown["versions"]]
    done(as_json, shown, "\n".join([f"{name}: {newest.name}", *lines, shown["xml"]]))


@command.command("export")
@_name
@click.option("--format", "kind", type=click.Choice(["urdb", "xml"]), default="xml", show_default=True,
              help="URDB JSON cannot hold all that the XML can; what it cannot is named.")  # fmt: skip
@click.option("--out", type=_OUT, required=True, help="The file to write.")
@config_option
@json_option
def export(name: str, kind: str, out: Path, config_file: Path, as_json: bool) -> None:
    """Write a tariff that is on file to a file."""
    with opened(configuration.load(config_file)) as store:
        one = filed.tariff(store, name).value
    content, losses = _rendered(one, kind)
    write_whole(out, content)
    if not as_json:
        say_losses(name, losses)
    done(as_json, {"file": str(out), "format": kind, "losses": losses}, f"{out}")


@command.command("page")
@click.argument("source", metavar="FILE|SUPPLIER/ID")
@click.option("--zone", default="Etc/UTC", show_default=True, help="Whose hours a URDB file means.")
@click.option("--out", type=_OUT, required=True, help="The page to write.")
@config_option
@json_option
def page(source: str, zone: str, out: Path, config_file: Path, as_json: bool) -> None:
    """Write a tariff, of a file or on file, as a page for people: every hour, every price, every other term."""
    from ..choice import tariff_page

    one = _one_of(Path(source), zone) if Path(source).is_file() else _on_file(source, config_file)
    write_whole(out, tariff_page.render(one))
    done(as_json, {"file": str(out), "tariff": f"{one.supplier}/{one.id}"}, f"{out}")


def _one_of(file: Path, zone: str) -> Tariff:
    zone_of(zone)
    found = read_file(file, Unsaid(zone))
    if len(found) != 1:
        raise click.UsageError(f"{file} holds {len(found)} tariffs; a page is of one")
    return found[0]


def _on_file(name: str, config_file: Path) -> Tariff:
    with opened(configuration.load(config_file)) as store:
        return filed.tariff(store, name).value


def _rendered(one: Tariff, kind: str) -> tuple[bytes, list[str]]:
    if kind == "xml":
        return tariff_messages.encode(one).encode(), []
    rendered = entry_point("gridpost.tariffs", "urdb").render(one)
    return rendered.content, [f"{item.path}: {item.reason}" for item in rendered.losses]


def _told(one: Filed[Tariff]) -> dict[str, Any]:
    tariff = one.value
    times = {"from": local(tariff.valid_from_utc, tariff.zone), "to": local(tariff.valid_to_utc, tariff.zone) or None}
    return {
        "tariff": f"{tariff.supplier}/{tariff.id}", "name": tariff.name, "kind": tariff.kind, "zone": tariff.zone,
        "currency": tariff.currency, "entry": f"{one.position.partition}:{one.position.seq}",
    } | times  # fmt: skip


def _until(told: dict[str, Any]) -> str:
    return f" to {told['to']}" if told["to"] else ""
