"""gridpost export mv90: billing files of a period, on demand; the same bytes each time for the same data."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click

from gridpost.errors import NotFound

from .. import config as configuration
from ..day_files import Day, day_stem
from .output import config_option, done, json_option, opened, progress, say_losses

_DATE = click.DateTime(formats=["%Y-%m-%d"])


@click.group("export")
def command() -> None:
    """Write files from the store."""


@command.command("mv90")
@click.option("--from", "first", type=_DATE, required=True, help="First day, YYYY-MM-DD, in the meters' standard time.")
@click.option("--to", "last", type=_DATE, required=True, help="Last day, included.")
@click.option("--meter", help="One meter; otherwise all.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder to fill.")
@config_option
@json_option
def mv90(first: datetime, last: datetime, meter: str | None, out: Path, config_file: Path, as_json: bool) -> None:
    """Write one MDEF file a meter and day, from the readings current now. Days without any reading are passed over."""
    from ..app import day_files

    if last < first:
        raise click.UsageError("--to lies before --from")
    config = configuration.load(config_file)
    out.mkdir(parents=True, exist_ok=True)
    written: list[dict[str, Any]] = []
    with opened(config) as store:
        files = day_files(config, store)
        meters = sorted({channel.key.meter for channel in store.channels(meter=meter)})
        if meter and not meters:
            raise NotFound(f"no meter {meter!r} is enrolled")
        days = [Day(name, number) for name in meters for number in range(_number(first), _number(last) + 1)]
        for day in progress(days, "rendering"):
            if not files.channels(day) or not files.has_readings(day):
                continue
            file = files.render(day, None)
            path = out / f"{day_stem(day)}.{files.adapter.suffix}"
            _write(path, file.content)
            written.append({"file": str(path), "complete": file.complete, "losses": [i.reason for i in file.losses]})
    if not as_json:
        for item in written:
            say_losses(item["file"], item["losses"])
    done(as_json, {"files": written}, "\n".join([item["file"] for item in written] or ["no readings in that period"]))


def _number(day: datetime) -> int:
    return (day.replace(tzinfo=UTC).date() - date(1970, 1, 1)).days


def _write(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".export-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
