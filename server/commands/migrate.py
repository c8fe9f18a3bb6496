"""gridpost migrate up | down | status: the store's schema, brought to this program's or back, with no bus running."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from gridpost.errors import NotFound

from .. import config as configuration
from ..store import upkeep
from .output import config_option, done, json_option


@click.group("migrate")
def command() -> None:
    """Bring the store's schema up, or back down; needs the bus to be stopped."""


@command.command("up")
@config_option
@json_option
def up(config_file: Path, as_json: bool) -> None:
    """Bring the store to the schema of this Gridpost: stop the bus, back up, run this, start the new bus.

    One transaction: killed half-way, the store is as it was. Devices keep what they could not send meanwhile.
    """
    _say(as_json, *upkeep.migrate(configuration.load(config_file).database))


@command.command("down")
@click.option("--to", "target", help="The schema to go back to; otherwise the one before the store's.")
@config_option
@json_option
def down(target: str | None, config_file: Path, as_json: bool) -> None:
    """Bring the store back to an older schema, before an older Gridpost is started; no entry or reading is lost.

    What only the newer schema has a place for is; `gridpost migrate status` says what each brought.
    """
    place = configuration.load(config_file).database
    state = upkeep.schema_state(place)
    older = [revision for revision in state.known if revision < state.found]
    if not older or (target and target not in older):
        raise NotFound(f"there is no schema {target or ''} before {state.found or 'none'}".replace("  ", " "))
    _say(as_json, *upkeep.migrate(place, target or older[-1]))


@command.command("status")
@config_option
@json_option
def status(config_file: Path, as_json: bool) -> None:
    """Show the store's schema, this program's, and what each one brought; may be asked beside a running bus."""
    state = upkeep.schema_state(configuration.load(config_file).database)
    if as_json:
        known = [{"schema": revision, "brought": what} for revision, what in state.known.items()]
        done(True, {"schema": state.found, "needed": state.needed, "known": known}, "")
        return
    table = Table("schema", "", "what it brought")
    for revision, what in state.known.items():
        marks = [(state.found, "the store's"), (state.needed, "this Gridpost's")]
        table.add_row(revision, " and ".join(mark for at, mark in marks if at == revision), what)
    if state.found not in state.known:
        table.add_row(state.found or "none", "the store's", "of a newer Gridpost" if state.found else "no store")
    Console().print(table)


def _say(as_json: bool, before: str, after: str) -> None:
    text = f"the store has schema {after} already" if before == after else f"schema {before} became {after}"
    done(as_json, {"before": before, "after": after}, text)
