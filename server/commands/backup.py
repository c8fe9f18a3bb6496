"""gridpost backup TARGET: a checked copy of the store, beside a running bus."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from .. import config as configuration
from ..store import upkeep
from .output import bar, config_option, done, json_option, now_utc_ms, say_copy


@click.command("backup")
@click.argument("target", type=click.Path(path_type=Path))
@config_option
@json_option
def command(target: Path, config_file: Path, as_json: bool) -> None:
    """Copy the store to TARGET, a new file or a folder, as of one moment; the bus may run.

    The copy is read whole, checked and synced before it gets its name. Keys and settings are not in it: keep the
    folder's other files as well. A PostgreSQL store has tools of its own; see docs/operations.md.
    """
    if target.is_dir():
        stamp = datetime.fromtimestamp(now_utc_ms() // 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
        target /= f"gridpost-{stamp}.db"
    with bar("copying") as progress:
        summary = upkeep.backup(configuration.load(config_file).database, target, progress)
    done(as_json, *say_copy(summary))
