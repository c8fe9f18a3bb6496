"""gridpost check-readings: what the rules find in a meter's readings; beside a running bus; marked when asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from gridpost.applications import validation
from gridpost.applications.validation import Report
from gridpost.model import Channel
from gridpost.units import format_utc

from .. import config as configuration
from ..quality.looking import Days, Looking, rule_book
from ..zones import zone_of
from .days import days_of, days_options
from .output import config_option, done, json_option, now_utc_ms, opened
from .person import person_option


@click.command("check-readings")
@days_options
@click.option("--mark", is_flag=True, help="Mark values that failed: further versions of quality 3.6.0, with the rule.")
@person_option
@config_option
@json_option
def command(mark: bool, person: str, config_file: Path, as_json: bool, **asked: Any) -> None:
    """Hold a meter's readings against the rules, in their order; exit 1 when something is wrong or suspect.

    The rules are those of quality.rules; `gridpost rules` prints the default ones. Nothing is changed without --mark.
    """
    days, config = days_of(**asked), configuration.load(config_file)
    book = rule_book(config)
    with opened(config) as store:
        found = list(Looking(store, zone_of, now_utc_ms()).reports(days, book))
    marked = _mark(config, days, person) if mark else {}
    clean = all(report.is_clean for _, report in found)
    channels = [_shown(channel, report) for channel, report in found]
    text = "\n".join(line for channel, report in found for line in _lines(channel, report))
    text += f"\n{marked['stored']} values are marked now" if marked else ""
    result = {"meter": days.meter, "ok": clean, "channels": channels}
    done(as_json, result | ({"marked": marked["stored"], "entry": marked["entry"]} if marked else {}), text)
    if not clean:
        sys.exit(1)


def _mark(config: configuration.Config, days: Days, person: str) -> dict[str, Any]:
    from ..quality.handlers import days_args
    from ..tasks import ask

    return ask(config, "mark", days_args(days), person)


def _shown(channel: Channel, report: Report) -> dict[str, Any]:
    findings = [
        {**one._asdict(), "from_utc": format_utc(one.from_utc), "to_utc": format_utc(one.to_utc)}
        for one in report.findings
    ]
    not_judged = [{"rule": rule, "why": why} for rule, why in report.not_judged]
    return {**channel.key._asdict(), "findings": findings, "not_judged": not_judged}


def _lines(channel: Channel, report: Report) -> list[str]:
    name = channel.key.stream or channel.key.reading_type
    lines = [f"{channel.key.meter} {name}: {len(report.findings)} findings"]
    lines += [validation.told(one) for one in report.findings]
    return lines + [f"not judged {rule}: {why}" for rule, why in report.not_judged]
