"""``gridpost convert INPUT --from F --to T --out FILE``: one file of readings into another format.

In: a file (or a zip with one file in it, or ``-`` for standard input), a zone and a site table where a format needs
them. Out: the file, written whole or not at all; warnings and what the target cannot hold on standard error, or all of
it as one JSON object. Needs no bus and no network; starts without Twisted and Spyne.

Adapters are found by entry point, so no format's name is known here but in FORMATS.
"""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gridpost import messages, tabular, units
from gridpost.errors import CannotRepresent, FileInvalid, GridpostError, Item, NotFound, as_object
from gridpost.model import ChannelKey, Readings, Site
from gridpost.ports import Adapter, FormatOptions, Parsed, Rendered, Rewriter

from ..installed import adapter
from ..zones import zone_of
from .files import write_whole

MAX_INPUT = 256 << 20  # bytes, also of what a zip unpacks to
SHOWN = 20
NOT_CARRIED = "not-carried"  # a note with this code is a loss: the file said more than readings hold
_SHOW_PROGRESS_FROM = 1 << 20  # bytes: below that it is done before a bar is drawn


class CsvFormat:
    """The CSV of readings, as an adapter."""

    name, suffix = "csv", "csv"

    def parse(self, raw: bytes, options: FormatOptions) -> Parsed:
        """Read the CSV of readings."""
        return Parsed(tabular.parse(raw), {}, ())

    def render(self, readings: Readings, options: FormatOptions) -> Rendered:
        """Write the CSV of readings."""
        return Rendered(tabular.render(readings), ())


class CimFormat:
    """A bare IEC 61968-9 MeterReadings document, as an adapter."""

    name, suffix = "cim", "xml"

    def parse(self, raw: bytes, options: FormatOptions) -> Parsed:
        """Read a MeterReadings document."""
        return Parsed(messages.decode_meter_readings(raw), {}, ())

    def render(self, readings: Readings, options: FormatOptions) -> Rendered:
        """Write a MeterReadings document."""
        return Rendered(messages.encode_meter_readings(readings), ())


class Format(NamedTuple):
    """A format's adapter; whether its files show a local clock, or no time at all, so that it must be named."""

    adapter: Callable[[], Adapter]
    local_clock: bool = False
    no_time: bool = False


FORMATS: Mapping[str, Format] = {
    "mdef": Format(partial(adapter, "mv90"), local_clock=True),
    "nem12": Format(partial(adapter, "nem12")),
    "nem13": Format(partial(adapter, "nem13")),
    "cmep": Format(partial(adapter, "cmep")),
    "greenbutton": Format(partial(adapter, "greenbutton")),
    "csv-line": Format(partial(adapter, "csv_line"), no_time=True),
    "xml-record": Format(partial(adapter, "xml_record")),
    "csv": Format(CsvFormat),
    "cim": Format(CimFormat),
}


class Outcome(NamedTuple):
    """What a conversion gave: the bytes, how many readings, warnings and losses."""

    content: bytes
    readings: int | None
    warnings: tuple[Item, ...] = ()
    losses: tuple[Item, ...] = ()


class Task(NamedTuple):
    """A conversion as asked for on the command line."""

    source: str
    target: str
    zone: str | None
    site: Path | None
    strict: bool
    at: str | None


@click.command("convert")
@click.argument("input_file", metavar="INPUT", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--from", "source", type=click.Choice(list(FORMATS)), required=True, help="Format of INPUT.")
@click.option("--to", "target", type=click.Choice(list(FORMATS)), required=True, help="Format to write.")
@click.option("--out", type=click.Path(dir_okay=False, allow_dash=True), required=True, help="File to write; - prints.")
@click.option("--zone", help="IANA zone whose standard time an MDEF file shows, such as Australia/Brisbane.")
@click.option("--at", help="Moment of records that state none (csv-line), such as 2026-03-01T00:00:00Z.")
@click.option("--site", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Site table, CSV.")
@click.option("--strict", is_flag=True, help="Write nothing when the target cannot hold everything.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def command(input_file: str, out: str, as_json: bool, **asked: Any) -> None:
    """Convert a file of readings from one format to another.

    INPUT may be a zip with one file in it, or - for standard input. What the target cannot hold is listed.
    Exit status: 0 written, 1 not converted, 2 wrong usage.
    """
    task = Task(**asked)
    _check_usage(task, input_file, out, as_json)
    try:
        outcome = _convert(input_file, task)
        _write(out, outcome.content)
    except GridpostError as error:
        if not as_json:
            raise _shortened(error) from error
        click.echo(json.dumps({"ok": False, "input": input_file, **as_object(error)}, indent=2))
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(_as_json(outcome, input_file, out), indent=2))
    else:
        _say(outcome, out)


def _check_usage(task: Task, input_file: str, out: str, as_json: bool) -> None:
    rewritten = task.source == task.target
    if not rewritten and not task.zone and (FORMATS[task.source].local_clock or FORMATS[task.target].local_clock):
        raise click.UsageError("an MDEF file shows local standard time: name its --zone, such as Asia/Manila")
    if task.zone:
        try:
            zone_of(task.zone)
        except (NotFound, OSError) as error:
            raise click.BadParameter(str(error), param_hint="--zone") from error
    if task.at or (FORMATS[task.source].no_time):
        try:
            units.parse_utc(task.at or "")
        except ValueError as error:
            raise click.BadParameter(f"the moment of the records is {error}", param_hint="--at") from error
    if as_json and out == "-":
        raise click.UsageError("--json and --out - would both write to standard output")
    if out != "-" and input_file != "-" and os.path.exists(out) and os.path.samefile(input_file, out):
        raise click.UsageError("--out is INPUT itself; name another file")


def _convert(input_file: str, task: Task) -> Outcome:
    raw = _unpacked(_read(input_file))
    with _stages(len(raw)) as stage:
        stage(f"reading {task.source}")
        adapter = FORMATS[task.source].adapter()
        if task.source == task.target and isinstance(adapter, Rewriter):
            return Outcome(adapter.rewrite(raw), None)
        sites = _site_table(task.site)
        zone = zone_of(task.zone) if task.zone else None
        at = units.parse_utc(task.at) if task.at else None
        parsed = adapter.parse(raw, FormatOptions(zone=zone, sites=sites, to_utc=at, origin=input_file))
        stage(f"writing {task.target}")
        # What the file says of its channels holds where the site table says nothing. The newest interval end stands
        # for the creation time, so that the same input gives the same bytes.
        newest = max((end for block in parsed.readings.blocks for end in block.ends_utc), default=0)
        options = FormatOptions(zone=zone, sites={**parsed.sites, **sites}, created_utc_ms=newest * 1000)
        rendered = FORMATS[task.target].adapter().render(parsed.readings, options)
    return _judged(task, parsed, rendered)


def _judged(task: Task, parsed: Parsed, rendered: Rendered) -> Outcome:
    dropped = [note for note in parsed.notes if note.code == NOT_CARRIED]
    warnings = tuple(note for note in parsed.notes if note.code != NOT_CARRIED)
    losses = (*dropped, *rendered.losses)
    if losses and task.strict:
        count = f"{len(losses)} thing{'s' * (len(losses) > 1)}"
        raise CannotRepresent(f"{task.target} cannot hold {count} of the {task.source} file", items=losses)
    return Outcome(rendered.content, parsed.readings.count, warnings, losses)


def _site_table(site: Path | None) -> Mapping[ChannelKey, Site]:
    return tabular.sites(_read(str(site))) if site else {}


# --- files -----------------------------------------------------------------------------------------------------------


def _read(name: str) -> bytes:
    try:
        with click.open_file(name, "rb") as file:
            raw: bytes = file.read(MAX_INPUT + 1)
    except OSError as error:
        raise NotFound(f"{name} cannot be read: {error.strerror or error}") from error
    return _capped(raw)


def _unpacked(raw: bytes) -> bytes:
    """Return the one file in a zip, or what is no zip as it is.

    Raises:
        FileInvalid: a broken zip, an encrypted one, one with more or fewer files than one, or too much in it.
    """
    if not raw.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return raw
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
            if len(files) != 1:
                raise FileInvalid(f"the zip holds {len(files)} files; it must hold exactly one")
            with archive.open(files[0]) as file:
                return _capped(file.read(MAX_INPUT + 1))
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError, ValueError) as error:
        raise FileInvalid(f"the zip cannot be unpacked: {error}") from error


def _capped(raw: bytes) -> bytes:
    if len(raw) > MAX_INPUT:
        raise FileInvalid(f"more than {MAX_INPUT >> 20} MiB; convert it in parts")
    return raw


def _write(out: str, content: bytes) -> None:
    """Write the whole file under a temporary name and rename it; ``-`` is standard output."""
    if out == "-":
        sys.stdout.buffer.write(content)
        return
    write_whole(Path(out), content)


# --- what people and machines see ------------------------------------------------------------------------------------


@contextmanager
def _stages(size: int) -> Iterator[Callable[[str], None]]:
    """Yield what names the stage under way; a large file shows them on a terminal."""
    console = Console(stderr=True)
    hidden = size < _SHOW_PROGRESS_FROM or not console.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        bar = progress.add_task("", total=None)
        yield lambda name: progress.update(bar, description=name)


def _say(outcome: Outcome, out: str) -> None:
    _list("warning", outcome.warnings)
    _list("not held", outcome.losses)
    if out != "-":
        count = "the file" if outcome.readings is None else f"{outcome.readings} readings"
        click.echo(f"{out}: {count}, {len(outcome.content)} bytes")


def _shortened(error: GridpostError) -> GridpostError:
    """Return the error with its first items only, as people read it."""
    more = len(error.items) - SHOWN
    if more <= 0:
        return error
    rest = Item(error.code, f"{len(error.items)} in all, {more} more; --json lists them")
    return type(error)(error.reason, detail=error.detail, items=(*error.items[:SHOWN], rest))


def _list(word: str, items: Iterable[Item]) -> None:
    every = list(items)
    for item in every[:SHOWN]:
        click.echo(f"{word}: {item.path + ': ' if item.path else ''}{item.reason}", err=True)
    if len(every) > SHOWN:
        click.echo(f"{word}: {len(every)} in all, {len(every) - SHOWN} more; --json lists them", err=True)


def _as_json(outcome: Outcome, input_file: str, out: str) -> dict[str, Any]:
    return {
        "ok": True,
        "input": input_file,
        "out": out,
        "readings": outcome.readings,
        "bytes": len(outcome.content),
        "warnings": [asdict(item) for item in outcome.warnings],
        "losses": [asdict(item) for item in outcome.losses],
    }
