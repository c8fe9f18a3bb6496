"""What the export commands share: which days and meters, what renders them, what is told of a file.

In: options, the store. Out: periods, `DayFiles`, objects and lines for people. No file is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click

from gridpost.errors import NotFound
from gridpost.ports import Store
from gridpost.units import format_utc

from .. import config as configuration
from ..day_files import DayFile, DayFiles, Days
from ..zones import zone_of
from .convert import FORMATS
from .output import say_losses

DATE = click.DateTime(formats=["%Y-%m-%d"])
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
_EPOCH = date(1970, 1, 1)


class Kind(NamedTuple):
    """How a format is exported.

    Attributes:
        help: of its command.
        format: its name in `convert.FORMATS`.
        suffix: of its files.
        by_day: a file a meter and day; else a file a meter.
        zone: whose days --from and --to count; empty: the meter's standard time.
        configured: the site table of the configuration is meant for it.
        month: it states sums of a local month, which is read from its beginning, whatever --from says.
    """

    help: str
    format: str
    suffix: str
    by_day: bool = False
    zone: str = ""
    configured: bool = False
    month: bool = False


class Period(NamedTuple):
    """What is asked for: first and last day, counted as `Day.number`, and meters, or all."""

    first: int
    last: int
    meters: tuple[str, ...] = ()

    def of_each_meter(self, store: Store) -> list[Days]:
        """Return the period of each enrolled meter that is asked for.

        Raises:
            NotFound: one of them is not enrolled.
        """
        enrolled = {channel.key.meter for channel in store.channels()}
        if unknown := sorted(set(self.meters) - enrolled):
            raise NotFound(f"no meter {unknown[0]!r} is enrolled")
        return [Days(name, self.first, self.last) for name in sorted(set(self.meters) or enrolled)]


def number_of(day: datetime) -> int:
    """Return a date as `Day.number`."""
    return (day.replace(tzinfo=UTC).date() - _EPOCH).days


def site_file(kind: Kind, config: configuration.Config, given: Path | None) -> Path | None:
    """Return the site table given, else the configured one where it is meant for the format."""
    configured = config.mv90.site if kind.configured else ""
    return given or (config.path(configured) if configured else None)


def day_files(kind: Kind, store: Store, site: Path | None) -> DayFiles:
    """Return what renders a meter's days in a format."""
    from ..app import site_table

    return DayFiles(store, FORMATS[kind.format].adapter(), site_table(site) if site else {}, zone_of, kind.zone)


def about(file: DayFile) -> dict[str, Any]:
    """Return what is to be told of a file, as --json prints it."""
    return {
        "complete": file.complete,
        "missing": file.missing,
        "losses": [item.reason for item in file.losses],
        "conflicts": [
            {**key._asdict(), "interval_end_utc": format_utc(end)} for key, ends in file.conflicts for end in ends
        ],
    }


def say_about(subject: str, file: DayFile) -> None:
    """Tell on standard error what a file could not hold, and where its store has conflicting values."""
    told = about(file)
    say_losses(subject, told["losses"])
    say_losses(subject, [_told(conflict) for conflict in told["conflicts"]])


def _told(conflict: Mapping[str, str]) -> str:
    named = conflict["stream"] or conflict["reading_type"]
    return f"channel {named}: conflicting values for {conflict['interval_end_utc']}; the first that came is used"
