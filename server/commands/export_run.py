"""gridpost export mdef: a billing run, one MDEF file of a billing cycle's readings of many meters.

In: the store beside a running bus, a cycle, a folder. Out: one file, written whole or not at all: a meter of which
intervals are missing, or that the format cannot hold, refuses the run, and all such meters are named. Meters are read
and rendered one after the other, so a run over a city needs the memory of one meter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import click

from gridpost.applications.calendar import cycle
from gridpost.errors import CannotRepresent, Item
from gridpost.ports import Joiner

from .. import config as configuration
from ..day_files import DayFile, DayFiles, Days
from .exporting import DATE, FILE, FOLDER, Kind, Period, about, day_files, number_of, say_about, site_file
from .files import make_folder, write_parts
from .output import config_option, done, json_option, opened, progress

_KIND = Kind("", "mdef", "mde", configured=True)
_CYCLE = click.DateTime(formats=["%Y-%m"])


class _Asked(NamedTuple):
    """The period and meters of a run; `zone` narrows the meters, `partial` lets holes through."""

    period: Period
    zone: str
    partial: bool


@dataclass
class _Run:
    """What became of the meters, gathered as the file is written."""

    written: list[tuple[str, DayFile]] = field(default_factory=list)
    refused: list[Item] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


@click.command("mdef")
@click.option("--cycle", "month", type=_CYCLE, help="The month the billing cycle begins in, YYYY-MM.")
@click.option("--cycle-day", type=click.IntRange(1, 31), default=1, show_default=True, help="The day it begins.")
@click.option("--from", "first", type=DATE, help="First day, YYYY-MM-DD; instead of --cycle, with --to.")
@click.option("--to", "last", type=DATE, help="Last day, included.")
@click.option("--meter", "meters", multiple=True, help="A meter; may be given several times. Otherwise all.")
@click.option("--zone", default="", help="Only meters of this IANA zone: a file shows one clock.")
@click.option("--partial", is_flag=True, help="Write meters with missing intervals too, marked LA.")
@click.option("--out", type=FOLDER, required=True, help="The folder to write into.")
@click.option("--site", type=FILE, help="Site table, CSV; instead of the configured one.")
@config_option
@json_option
def command(as_json: bool, config_file: Path, out: Path, site: Path | None, **asked: Any) -> None:
    """Write one MV-90 MDEF file of a billing cycle, all meters in it: a billing run.

    Days are of standard time. A meter with missing intervals, or that MDEF cannot hold, refuses the run; each is named.
    """
    wanted = _asked(**asked)
    config = configuration.load(config_file)
    make_folder(out)
    with opened(config) as store:
        files = day_files(_KIND, store, site_file(_KIND, config, site))
        meters = _meters(files, wanted)
        path = out / _name(wanted)
        run = _Run()
        adapter = files.adapter
        assert isinstance(adapter, Joiner)
        write_parts(path, adapter.join(_rendered(files, progress(meters, "rendering"), wanted, run)))
    if not as_json:
        for meter, file in run.written:
            say_about(meter, file)
    told = [{"meter": meter, **about(file)} for meter, file in run.written]
    result = {"file": str(path), "bytes": path.stat().st_size, "meters": told, "without_readings": run.empty}
    done(as_json, result, f"{path}: {len(told)} meters, {result['bytes']} bytes" + _left_out(run))


def _asked(
    month: datetime | None,
    cycle_day: int,
    first: datetime | None,
    last: datetime | None,
    **rest: Any,
) -> _Asked:
    if (month is None) == (first is None or last is None) or (month is not None and (first or last)):
        raise click.UsageError("name the period by --cycle, or by --from and --to")
    if month is not None:
        days = cycle(month.year, month.month, UTC, cycle_day)
        first, last = (datetime.fromtimestamp(moment, UTC) for moment in (days.from_utc, days.to_utc))
        last -= timedelta(days=1)
    assert first is not None
    assert last is not None
    if last < first:
        raise click.UsageError("--to lies before --from")
    period = Period(number_of(first), number_of(last), rest["meters"])
    return _Asked(period, rest["zone"], rest["partial"])


def _meters(files: DayFiles, asked: _Asked) -> list[Days]:
    """Return the meters of the run that are enrolled during its period, all of one zone."""
    spans = [(span, files.zones(span)) for span in asked.period.of_each_meter(files.store)]
    found = [(span, zones) for span, zones in spans if zones and (not asked.zone or asked.zone in zones)]
    if len(several := sorted(set().union(*(zones for _, zones in found)))) > 1:
        reason = f"the meters are of {len(several)} zones, {', '.join(several)}; name one with --zone, or the meters"
        raise click.UsageError(reason)
    return [span for span, _ in found]


def _rendered(files: DayFiles, spans: Iterable[Days], asked: _Asked, run: _Run) -> Iterator[bytes]:
    """Yield each meter's file; when one cannot be in the run, say so of all such, behind the last.

    Raises:
        CannotRepresent: with an item a meter.
    """
    for span in spans:
        if asked.partial and not files.holds(span):
            run.empty.append(span.meter)
            continue
        try:
            file = files.render(span, None)
        except CannotRepresent as error:
            run.refused.append(Item(error.code, error.reason, span.meter))
            continue
        if file.missing and not asked.partial:
            reason = f"{file.missing} intervals are missing; --partial writes them marked LA"
            run.refused.append(Item(CannotRepresent.code, reason, span.meter))
            continue
        run.written.append((span.meter, file._replace(content=b"")))  # of what is written only the tale is kept
        yield file.content
    if run.refused:
        raise CannotRepresent(f"{len(run.refused)} meters cannot be in the run; nothing was written", items=run.refused)


def _name(asked: _Asked) -> str:
    first, last = (date.fromordinal(date(1970, 1, 1).toordinal() + day) for day in asked.period[:2])
    zone = f"_{asked.zone.replace('/', '_')}" if asked.zone else ""
    return f"billing_{first:%Y%m%d}_{last:%Y%m%d}{zone}.mde"


def _left_out(run: _Run) -> str:
    return f"; without readings and left out: {', '.join(run.empty)}" if run.empty else ""
