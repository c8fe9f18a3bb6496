"""What the commands of tariffs, contracts and bills share: times as people write them."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import click

from gridpost.applications.calendar import midnight
from gridpost.units import format_utc

from ..zones import zone_of

DAY = click.DateTime(formats=["%Y-%m-%d"])


def begin_of(day: datetime, zone: str) -> int:
    """Return the UTC second a local day begins.

    Raises:
        NotFound: tzdata has no such zone.
    """
    return midnight(day.date(), zone_of(zone))


def end_of(day: datetime, zone: str) -> int:
    """Return the UTC second a local day ends."""
    return midnight(day.date() + timedelta(days=1), zone_of(zone))


def local(moment_utc: int | None, zone: str) -> str:
    """Return a moment as people read it: the local day where it is a midnight, UTC otherwise; empty: none."""
    if moment_utc is None:
        return ""
    day: date = datetime.fromtimestamp(moment_utc, zone_of(zone)).date()
    return day.isoformat() if midnight(day, zone_of(zone)) == moment_utc else format_utc(moment_utc)
