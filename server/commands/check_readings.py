"""gridpost check-readings: what the rules find in a meter's readings; beside a running bus, nothing is changed."""

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
from ..quality.looking import Looking, rule_book
from ..zones import zone_of
from .days import days_of, days_options
from .output import config_option, done, json_option, now_utc_ms, opened


@click.command("check-readings")
@days_options
@config_option
@json_option
def command(config_file: Path, as_json: bool, **asked: Any) -> None:
    """Hold a meter's readings against the rules, in their order; exit 1 when something is wrong or suspect.

    The rules are those of quality.rules; `gridpost rules` prints the default ones.
    """
    days, config = days_of(**asked), configuration.load(config_file)
    book = rule_book(config)
    with opened(config) as store:
        found = list(Looking(store, zone_of, now_utc_ms()).reports(days, book))
    clean = all(report.is_clean for _, report in found)
    channels = [_shown(channel, report) for channel, report in found]
    text = "\n".join(line for channel, report in found for line in _lines(channel, report))
    done(as_json, {"meter": days.meter, "ok": clean, "channels": channels}, text)
    if not clean:
        sys.exit(1)


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
