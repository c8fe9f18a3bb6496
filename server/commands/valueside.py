"""What the commands of tariffs, contracts and bills share: who asks, and times as people write them."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

import click

from gridpost.applications.calendar import midnight
from gridpost.units import format_utc

from ..controls.persons import check_person
from ..zones import zone_of
from .output import typed

F = TypeVar("F", bound=Callable[..., Any])
DAY = click.DateTime(formats=["%Y-%m-%d"])


def person_option(function: F) -> F:
    """Add --person: who answers for what becomes an entry of the log."""
    return click.option(
        "--person", default=getpass.getuser, show_default="who is logged in", callback=typed(check_person),
        help="Who does it; it stands in the log for ever.",
    )(function)  # fmt: skip


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
