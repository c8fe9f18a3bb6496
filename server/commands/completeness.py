"""gridpost completeness: what a meter has of its expected intervals; certified by the bus, asked for where it lacks.

Counting reads the store beside a running bus. A certificate is an entry of the bus's own; its file is a proof file, so
`gridpost verify` checks it anywhere. With --request each gap becomes a request for data to the meter's IED.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gridpost.applications import completeness
from gridpost.applications.completeness import Completeness, Counts, OfChannel
from gridpost.units import format_utc

from .. import config as configuration
from ..quality.looking import Days, Looking
from ..zones import zone_of
from .days import days_of, days_options
from .output import config_option, done, json_option, now_utc_ms, opened
from .person import person_option

_GAPS_SHOWN = 20


@click.command("completeness")
@days_options
@click.option("--certificate", is_flag=True, help="Have the bus certify it: an entry of the log, signed.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="The certificate's file, to be verified anywhere."
)
@click.option("--request", is_flag=True, help="Ask the meter's IED for what is missing, at its next call-in.")
@person_option
@config_option
@json_option
def command(
    certificate: bool, out: Path | None, request: bool, person: str, config_file: Path, as_json: bool, **asked: Any
) -> None:
    """Count the intervals a meter has of those its calendar expects: local days of 92, 96 or 100 quarter hours.

    Days still to come do not count. "Corrected" are edited values, "estimated" those with quality x.8.*.
    """
    days = days_of(**asked)
    if (out is not None) != certificate:
        raise click.UsageError("--certificate and --out go together")
    config = configuration.load(config_file)
    result: dict[str, Any] = {}
    lines: list[str] = []
    if certificate and out is not None:
        result, found = certified(config, days, person, out)
    else:
        with opened(config) as store:
            found = Looking(store, zone_of, now_utc_ms()).completeness(days)
    lines += _lines(found)
    if certificate:
        lines.append(f"{out}: certificate {result['certificate']}, entry {result['entry']}")
    if request:
        outcome = _requested(config, days, person)
        result |= {"gaps": outcome["gaps"], "asked": outcome["asked"]}
        lines.append(f"{len(outcome['asked'])} of {outcome['gaps']} gaps are asked for now")
        lines += ["{ied}: {from} to {to}, {control}".format(**one) for one in outcome["asked"]]
    done(as_json, _shown(found) | result, "\n".join(lines))


def certified(config: configuration.Config, days: Days, person: str, out: Path) -> tuple[dict[str, Any], Completeness]:
    """Have the bus certify days of a meter, write the certificate's proof file, and return what it says.

    Raises:
        NotFound: no such meter, or nothing of it in these days.
        SignerUnavailable, StoreUnavailable: there is no certificate.
    """
    from ..quality.handlers import days_args
    from ..tasks import ask
    from .log_proofs import write_entry

    outcome = ask(config, "certificate", days_args(days), person)
    write_entry(config, outcome["entry"], out)
    named = {"certificate": outcome["id"], "entry": outcome["entry"], "file": str(out)}
    return named, completeness.decode(outcome["content"])


def _requested(config: configuration.Config, days: Days, person: str) -> dict[str, Any]:
    from ..quality.handlers import days_args
    from ..tasks import ask

    return ask(config, "request-data", days_args(days), person)


def _shown(found: Completeness) -> dict[str, Any]:
    return {
        "meter": found.meter,
        "from": format_utc(found.from_utc),
        "to": format_utc(found.to_utc),
        "complete": found.is_complete,
        "statement": completeness.told(found.counts),
        **_counted(found.counts),
        "channels": [_shown_channel(one) for one in found.channels],
    }


def _counted(counts: Counts) -> dict[str, int]:
    return {**counts._asdict(), "missing": counts.missing}


def _shown_channel(one: OfChannel) -> dict[str, Any]:
    return {
        **one.key._asdict(),
        "zone": one.zone,
        **_counted(one.counts),
        "conflicting": one.conflicting,
        "days": [{"day": day.day, **_counted(day.counts)} for day in one.days],
        "gaps": [{"from": format_utc(since), "to": format_utc(to)} for since, to in one.gaps],
    }


def _lines(found: Completeness) -> list[str]:
    lines = [f"{found.meter}: {completeness.told(found.counts)}"]
    for one in found.channels:
        lines.append(f"  {one.key.stream or one.key.reading_type}: {completeness.told(one.counts)}")
        lines += [f"    missing {format_utc(since)} to {format_utc(to)}" for since, to in one.gaps[:_GAPS_SHOWN]]
        if len(one.gaps) > _GAPS_SHOWN:
            lines.append(f"    and {len(one.gaps) - _GAPS_SHOWN} more gaps")
    return lines
