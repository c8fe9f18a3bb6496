"""The options that name a meter and local days of it, shared by the commands about the quality of readings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from ..quality.looking import Days

F = TypeVar("F", bound=Callable[..., Any])
_DATE = click.DateTime(formats=["%Y-%m-%d"])


def days_options(function: F) -> F:
    """Add --meter, --from and --to; the command gets them as `meter`, `first` and `last`, for `days_of`."""
    function = click.option("--to", "last", type=_DATE, required=True, help="Last local day, included.")(function)
    function = click.option("--from", "first", type=_DATE, required=True, help="First local day, YYYY-MM-DD.")(function)
    return click.option("--meter", required=True, help="mRID of the meter.")(function)


def days_of(meter: str, first: datetime, last: datetime) -> Days:
    """Return what the options say.

    Raises:
        click.UsageError: the days cross.
    """
    if last < first:
        raise click.UsageError("--to lies before --from")
    return Days(meter, first.date(), last.date())
