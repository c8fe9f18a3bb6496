"""gridpost edit: a person puts values in the place of others; what was there stays on file, and so does the reason."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import click

from gridpost import units
from gridpost.errors import FileInvalid

from .. import config as configuration
from .output import config_option, done, json_option
from .person import person_option

_COLUMNS = ("interval_end_utc", "value")


@click.command("edit")
@click.option("--meter", required=True, help="mRID of the meter.")
@click.option("--stream", default="", help="Name of the channel's stream, where the meter has several channels.")
@click.option("--reading-type", default="", help="Or its 18 numbers.")
@click.option("--at", "ends", multiple=True, metavar="TIME", help="End of an interval, such as 2026-03-01T00:15:00Z.")
@click.option("--value", "texts", multiple=True, help="Its value, in the channel's unit; one for each --at.")
@click.option(
    "--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Or many of them: CSV with the columns interval_end_utc and value.",
)  # fmt: skip
@click.option("--reason", required=True, help="Why; it stands beside the values for ever.")
@person_option
@config_option
@json_option
def command(
    meter: str, stream: str, reading_type: str, ends: tuple[str, ...], texts: tuple[str, ...], file: Path | None,
    reason: str, person: str, config_file: Path, as_json: bool,
) -> None:  # fmt: skip
    """Put values in the place of a meter's, with a reason; they become current at once, whatever was there.

    This is also how a conflict is resolved: edit the interval to the value that is right.
    """
    from ..tasks import ask

    values = _values(ends, texts) if file is None else _read(file)
    if not values or (file is not None and ends):
        raise click.UsageError("give --at and --value, or --file")
    args = {"meter": meter, "stream": stream, "reading_type": reading_type, "values": values, "reason": reason}
    outcome = ask(configuration.load(config_file), "edit", args, person)
    done(as_json, outcome, f"{outcome['stored']} values are current now, entry {outcome['entry']}")


def _values(ends: tuple[str, ...], texts: tuple[str, ...]) -> Mapping[str, str]:
    if len(ends) != len(texts):
        raise click.UsageError("give one --value for each --at")
    try:
        return {str(units.parse_utc(end)): text for end, text in zip(ends, texts, strict=True)}
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--at") from None


def _read(file: Path) -> Mapping[str, str]:
    """Read a file of edits.

    Raises:
        FileInvalid: not UTF-8, other columns, a time that is none, or one that comes twice; the line is named.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.reader(lines))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileInvalid(f"{file}: {error}") from None
    if not rows or tuple(rows[0]) != _COLUMNS:
        raise FileInvalid(f"{file}: the first line must be {','.join(_COLUMNS)}")
    values: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        end = _end(row, f"{file}: line {number}")
        if end in values:
            raise FileInvalid(f"{file}: line {number}: this interval was there before")
        values[end] = row[1].strip()
    return values


def _end(row: list[str], place: str) -> str:
    if len(row) != len(_COLUMNS):
        raise FileInvalid(f"{place}: {len(row)} columns, not {len(_COLUMNS)}")
    try:
        return str(units.parse_utc(row[0].strip()))
    except ValueError as error:
        raise FileInvalid(f"{place}: {error}") from None
