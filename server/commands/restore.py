"""gridpost restore SOURCE: a backup put in the store's place, with no bus running."""

from __future__ import annotations

from pathlib import Path

import click

from .. import config as configuration
from ..store import upkeep
from .output import config_option, done, json_option, now_utc_ms, say_copy


@click.command("restore")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Keep the present store under another name, beside it.")
@config_option
@json_option
def command(source: Path, replace: bool, config_file: Path, as_json: bool) -> None:
    """Put the backup SOURCE in the store's place; needs the bus to be stopped.

    What was recorded after the backup is then missing, and devices hold receipts for it: as soon as they call in,
    `gridpost status` lists what to ask each of them for again. Devices revoked since must be revoked again.
    """
    summary = upkeep.restore(configuration.load(config_file).database, source, now_utc_ms(), replace=replace)
    done(as_json, *say_copy(summary))
