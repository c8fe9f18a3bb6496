"""gridpost export FORMAT: files of a period, on demand; the same bytes each time for the same data.

In: the store beside a running bus, days, a folder. Out: one file a meter and day, or one a meter, each written whole or
not at all. Every format goes the same way: readings current now, an adapter, a file. What differs is a row of KINDS.
A meter that a format cannot hold stops no other's file; it is named, and the command fails in the end. `mdef`, one
file of many meters, is in `export_run.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import click

from gridpost.applications import completeness
from gridpost.errors import CannotRepresent, Item, as_object

from .. import config as configuration
from ..day_files import Day, DayFile, DayFiles, Days, Span, day_stem, days_stem
from ..quality.looking import Days as Asked
from . import export_run
from .completeness import certified
from .exporting import DATE, FILE, FOLDER, Kind, Period, about, day_files, number_of, say_about, site_file
from .files import make_folder, write_whole
from .output import config_option, done, json_option, opened, progress
from .person import person_option

CERTIFICATE_SUFFIX = "certificate.proof.jsonl"
_EPOCH = date(1970, 1, 1).toordinal()
KINDS: Mapping[str, Kind] = {
    "mv90": Kind("Write one MV-90 MDEF file a meter and day.", "mdef", "mde", by_day=True, configured=True),
    "nem12": Kind("Write one NEM12 file a meter; days are NEM time, UTC+10.", "nem12", "nem12.csv", zone="Etc/GMT-10"),
    "nem13": Kind("Write one NEM13 file of register reads a meter; NEM time.", "nem13", "nem13.csv", zone="Etc/GMT-10"),
    "cmep": Kind("Write one file of CMEP MEPMD01 records a meter.", "cmep", "cmep"),
    "greenbutton": Kind("Write one Green Button feed (ESPI) a meter.", "greenbutton", "greenbutton.xml"),
    "csv-line": Kind(
        "Write one line of kWh this month and today a meter, as of the end of --to.", "csv-line", "line.csv", month=True
    ),
    "xml-record": Kind(
        "Write one billingInformation record a meter, as of the end of --to.", "xml-record", "record.xml", month=True
    ),
    "csv": Kind("Write one CSV of readings a meter.", "csv", "csv"),
}


class Written(NamedTuple):
    """A file, and what it could not hold."""

    path: Path
    file: DayFile

    def as_object(self) -> dict[str, Any]:
        """Return it as --json prints it."""
        return {"file": str(self.path), **about(self.file)}


@click.group("export")
def command() -> None:
    """Write files from the store: the readings current now. Where there are none, no file is written."""


def _command(name: str, kind: Kind) -> click.Command:
    @click.command(name, help=kind.help)
    @click.option("--from", "first", type=DATE, required=True, help="First day, YYYY-MM-DD.")
    @click.option("--to", "last", type=DATE, required=True, help="Last day, included.")
    @click.option("--meter", help="One meter; otherwise all.")
    @click.option("--out", type=FOLDER, required=True, help="The folder to fill.")
    @click.option("--site", type=FILE, help="Site table, CSV; for mv90 instead of the configured one.")
    @click.option(
        "--certificate", is_flag=True, help="Have the bus certify how complete each meter is, in a file beside."
    )
    @person_option
    @config_option
    @json_option
    def run(
        as_json: bool, config_file: Path, out: Path, site: Path | None, certificate: bool, person: str, **asked: Any
    ) -> None:  # fmt: skip
        period = _period(kind, **asked)
        config = configuration.load(config_file)
        make_folder(out)
        refused: list[Item] = []
        with opened(config) as store:
            files = day_files(kind, store, site_file(kind, config, site))
            spans = _spans(kind, files, progress(period.of_each_meter(store), "searching"))
            certificates = _certified(config, spans, (out, person)) if certificate else []
            written = list(_write(kind, files, progress(spans, "rendering"), (out, refused)))
        _say(as_json, name, (written, certificates), refused)

    return run


for _name, _kind in KINDS.items():
    command.add_command(_command(_name, _kind))
command.add_command(export_run.command)


def _period(kind: Kind, first: datetime, last: datetime, meter: str | None) -> Period:
    if last < first:
        raise click.UsageError("--to lies before --from")
    if kind.month:  # daylight saving begins a local month before its standard time does, hence the day
        first = last.replace(day=1) - timedelta(days=1)
    return Period(number_of(first), number_of(last), (meter,) if meter else ())


def _spans(kind: Kind, files: DayFiles, periods: Iterable[Days]) -> list[Span]:
    """Return what becomes one file each: the days with readings, or the periods that have any."""
    if not kind.by_day:
        return [period for period in periods if files.holds(period)]
    return [day for period in periods for day in files.days_held(period)]


def _write(kind: Kind, files: DayFiles, spans: Iterable[Span], to: tuple[Path, list[Item]]) -> Iterator[Written]:
    """Write each file and yield it; what cannot be written is added to the list in `to`, behind the folder."""
    out, refused = to
    for span in spans:
        stem = day_stem(span) if isinstance(span, Day) else days_stem(span)
        try:
            file = files.render(span, None)
        except CannotRepresent as error:
            refused.append(Item(error.code, error.reason, stem))
            continue
        path = out / f"{stem}.{kind.suffix}"
        write_whole(path, file.content)
        yield Written(path, file)


def _certified(config: configuration.Config, spans: Sequence[Span], to: tuple[Path, str]) -> list[dict[str, Any]]:
    """Have each meter's days certified, before they are written; return where, and what it says."""
    out, person = to
    told = []
    for meter in sorted({span.meter for span in spans}):
        first = min(span.first for span in spans if span.meter == meter)
        last = max(span.last for span in spans if span.meter == meter)
        file = out / f"{days_stem(Days(meter, first, last))}.{CERTIFICATE_SUFFIX}"
        asked = Asked(meter, *(date.fromordinal(_EPOCH + number) for number in (first, last)))
        named, found = certified(config, asked, person, file)
        told.append({"meter": meter, **named, "statement": completeness.told(found.counts)})
    return told


def _say(
    as_json: bool, name: str, made: tuple[Sequence[Written], Sequence[dict[str, Any]]], refused: Sequence[Item]
) -> None:
    written, certificates = made
    error = CannotRepresent(f"{len(refused)} could not be written as {name}, all others were", items=refused)
    if not as_json:
        for path, file in written:
            say_about(str(path), file)
    text = [str(one.path) for one in written] or ["no readings in that period"] * (not refused)
    text += ["{file}: {statement}".format(**one) for one in certificates]
    result: dict[str, Any] = {"files": [one.as_object() for one in written]}
    result |= {"certificates": certificates} if certificates else {}
    done(as_json, result | (as_object(error) if refused else {}), "\n".join(text))
    if refused and not as_json:
        raise error
    sys.exit(bool(refused))
