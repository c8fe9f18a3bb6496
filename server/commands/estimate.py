"""gridpost estimate: values for what a meter lacks, by the rules; each becomes a version that says how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .. import config as configuration
from .days import days_of, days_options
from .output import config_option, done, json_option
from .person import person_option


@click.command("estimate")
@days_options
@click.option("--again", is_flag=True, help="Work out anew what is an estimate now; measured values stay.")
@person_option
@config_option
@json_option
def command(again: bool, person: str, config_file: Path, as_json: bool, **asked: Any) -> None:
    """Give the intervals that a meter lacks estimated values: a straight line, or like days, scaled to the register.

    A measured value that comes later takes their place. What cannot be estimated stays missing and is listed.
    """
    from ..quality.handlers import days_args
    from ..tasks import ask

    days, config = days_of(**asked), configuration.load(config_file)
    outcome = ask(config, "estimate", {**days_args(days), "again": again}, person)
    done(as_json, outcome, "\n".join(_lines(outcome)))


def _lines(outcome: dict[str, Any]) -> list[str]:
    lines = []
    for one in outcome["channels"]:
        made = (
            ", ".join(f"{number} by {method}" for method, number in one["estimated"].items()) or "nothing to estimate"
        )
        scaled = f", {one['scaled']} of them scaled to the register" if one["scaled"] else ""
        lines.append(f"{one['meter']} {one['stream'] or one['reading_type']}: {made}{scaled}")
        lines += [f"  {left['interval_end_utc']} stays missing: {left['why']}" for left in one["left"]]
    return [*lines, f"entry {outcome['entry']}"] if outcome["entry"] else lines
