"""gridpost export mv90 | nem12 | csv: files of a period, on demand; the same bytes each time for the same data.

In: the store beside a running bus, days, a folder. Out: one file a meter and day, or one a meter, each written whole or
not at all. Every format goes the same way: readings current now, an adapter, a file. What differs is a row of KINDS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click

from gridpost.errors import NotFound
from gridpost.ports import Store
from gridpost.units import format_utc

from .. import config as configuration
from ..day_files import Day, DayFiles, Days, Span, day_stem, days_stem
from ..zones import zone_of
from .convert import FORMATS
from .files import make_folder, write_whole
from .output import config_option, done, json_option, opened, progress, say_losses

_DATE = click.DateTime(formats=["%Y-%m-%d"])
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


class Kind(NamedTuple):
    """How a format is exported.

    Attributes:
        help: of its command.
        format: its name in `convert.FORMATS`.
        suffix: of its files.
        by_day: a file a meter and day; else a file a meter.
        zone: whose days --from and --to count; empty: the meter's standard time.
        configured: the site table of the configuration is meant for it.
    """

    help: str
    format: str
    suffix: str
    by_day: bool = False
    zone: str = ""
    configured: bool = False


KINDS: Mapping[str, Kind] = {
    "mv90": Kind("Write one MV-90 MDEF file a meter and day.", "mdef", "mde", by_day=True, configured=True),
    "nem12": Kind("Write one NEM12 file a meter; days are NEM time, UTC+10.", "nem12", "nem12.csv", zone="Etc/GMT-10"),
    "csv": Kind("Write one CSV of readings a meter.", "csv", "csv"),
}


class Period(NamedTuple):
    """What is asked for: first and last day, counted as `Day.number`, and a meter or all."""

    first: int
    last: int
    meter: str | None

    def of_each_meter(self, store: Store) -> list[Days]:
        """Return the period of each enrolled meter that is asked for.

        Raises:
            NotFound: none is.
        """
        meters = sorted({channel.key.meter for channel in store.channels(meter=self.meter)})
        if self.meter and not meters:
            raise NotFound(f"no meter {self.meter!r} is enrolled")
        return [Days(name, self.first, self.last) for name in meters]


@click.group("export")
def command() -> None:
    """Write files from the store: the readings current now. Where there are none, no file is written."""


def _command(name: str, kind: Kind) -> click.Command:
    @click.command(name, help=kind.help)
    @click.option("--from", "first", type=_DATE, required=True, help="First day, YYYY-MM-DD.")
    @click.option("--to", "last", type=_DATE, required=True, help="Last day, included.")
    @click.option("--meter", help="One meter; otherwise all.")
    @click.option("--out", type=_FOLDER, required=True, help="The folder to fill.")
    @click.option("--site", type=_FILE, help="Site table, CSV; for mv90 instead of the configured one.")
    @config_option
    @json_option
    def run(as_json: bool, config_file: Path, out: Path, site: Path | None, **asked: Any) -> None:
        period = _period(**asked)
        config = configuration.load(config_file)
        make_folder(out)
        with opened(config) as store:
            files = _files(kind, store, _site_file(kind, config, site))
            spans = _spans(kind, files, progress(period.of_each_meter(store), "searching"))
            written = [_write(kind, files, span, out) for span in progress(spans, "rendering")]
        if not as_json:
            for item in written:
                say_losses(item["file"], item["losses"])
                say_losses(item["file"], [_told(conflict) for conflict in item["conflicts"]])
        text = [item["file"] for item in written] or ["no readings in that period"]
        done(as_json, {"files": written}, "\n".join(text))

    return run


for _name, _kind in KINDS.items():
    command.add_command(_command(_name, _kind))


def _period(first: datetime, last: datetime, meter: str | None) -> Period:
    if last < first:
        raise click.UsageError("--to lies before --from")
    return Period(_number(first), _number(last), meter)


def _number(day: datetime) -> int:
    return (day.replace(tzinfo=UTC).date() - date(1970, 1, 1)).days


def _site_file(kind: Kind, config: configuration.Config, given: Path | None) -> Path | None:
    configured = config.mv90.site if kind.configured else ""
    return given or (config.path(configured) if configured else None)


def _files(kind: Kind, store: Store, site: Path | None) -> DayFiles:
    from ..app import site_table

    return DayFiles(store, FORMATS[kind.format].adapter(), site_table(site) if site else {}, zone_of, kind.zone)


def _spans(kind: Kind, files: DayFiles, periods: Iterable[Days]) -> list[Span]:
    """Return what becomes one file each: the days with readings, or the periods that have such days."""
    held = ((period, files.days_held(period)) for period in periods)
    return [span for period, days in held if days for span in (days if kind.by_day else [period])]


def _write(kind: Kind, files: DayFiles, span: Span, out: Path) -> dict[str, Any]:
    file = files.render(span, None)
    stem = day_stem(span) if isinstance(span, Day) else days_stem(span)
    path = out / f"{stem}.{kind.suffix}"
    write_whole(path, file.content)
    return {
        "file": str(path),
        "complete": file.complete,
        "losses": [item.reason for item in file.losses],
        "conflicts": [
            {**key._asdict(), "interval_end_utc": format_utc(end)} for key, ends in file.conflicts for end in ends
        ],
    }


def _told(conflict: Mapping[str, str]) -> str:
    named = conflict["stream"] or conflict["reading_type"]
    return f"channel {named}: conflicting values for {conflict['interval_end_utc']}; the first that came is used"
