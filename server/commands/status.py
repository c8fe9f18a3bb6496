"""gridpost status: what the bus holds and how far its readers are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from gridpost.units import format_utc_ms

from .. import config as configuration
from ..store import Missing, Status
from .output import config_option, done, json_option, now_utc_ms, opened
from .status_trust import trust_of, trust_tables


@click.command("status")
@config_option
@json_option
def command(config_file: Path, as_json: bool) -> None:
    """Count entries, readings, missing intervals, conflicts, refusals and alarms, and show each reader's cursor.

    Certificates that end within 60 days, and lists of revoked ones that are out of date, are named.
    Where an older copy of the store was put back: which entries to ask which device for again.
    """
    config = configuration.load(config_file)
    with opened(config) as store:
        result = _result(store.status(), store.missing_intervals()) | {
            "missing_entries": _lost(store.missing_entries()),
            **trust_of(config, store, now_utc_ms()),
        }
    if as_json:
        done(True, result, "")
        return
    console = Console()
    counts = Table("count", "", title="store")
    for name, value in result.items():
        if not isinstance(value, dict | list):
            counts.add_row(name.replace("_", " "), str(value))
    console.print(counts)
    refusals = Table("refused", "times", title="refusals")
    for code, times in sorted(result["refusals"].items()):
        refusals.add_row(code, str(times))
    console.print(refusals)
    readers = Table("reader", "cursor", "entries behind", "files waiting", "dead letters", title="readers")
    for reader in result["readers"]:
        readers.add_row(*(str(value) for value in reader.values()))
    console.print(readers)
    for table in trust_tables(result):
        console.print(table)
    if result["missing_entries"]:
        lost = Table(
            "ask device", "for entries", "to", "quoted in", "noticed at", title="receipted, and not in this store"
        )
        for one in result["missing_entries"]:
            lost.add_row(*one.values())
        console.print(lost)


def _result(status: Status, missing: int) -> dict[str, Any]:
    newest = status.newest_recorded_at_utc_ms
    return {
        "entries": status.entries,
        "interval_values": status.interval_values,
        "register_readings": status.register_readings,
        "events": status.events,
        "missing_intervals": missing,
        "gaps_reported": status.gaps,
        "conflicts": status.conflicts,
        "newest_recorded_at": format_utc_ms(newest) if newest else None,
        "refusals": dict(status.refusals),
        "readers": [
            {
                "reader": reader.reader,
                "cursor": ",".join(f"{partition}:{seq}" for partition, seq in sorted(reader.version.items())),
                "lag": reader.lag,
                "waiting": reader.waiting,
                "dead_letters": reader.dead_letters,
            }
            for reader in status.readers
        ],
    }


def _lost(missing: list[Missing]) -> list[dict[str, str]]:
    return [
        {
            "device": one.sender,
            "from_entry": f"{one.partition}:{one.first_seq}",
            "to_entry": f"{one.partition}:{one.last_seq}",
            "quoted_in": f"{one.quoted_in.partition}:{one.quoted_in.seq}",
            "noticed_at": format_utc_ms(one.noticed_at_utc_ms),
        }
        for one in missing
    ]
