"""The part of `gridpost status` about keys: which certificates end soon, which lists are out of date, alarms counted.

In: the settings and an open store. Out: values for --json, tables for people.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from gridpost.units import format_utc_ms

from ..config import Config
from ..enrolment import ends_utc_ms
from ..identity import load_certificates
from ..store import SqlStore
from ..trust_keeper import DAY_MS, OWN_USES, STEPS
from .crl import shown
from .output import SHOWN


def trust_of(config: Config, store: SqlStore, now: int) -> dict[str, Any]:
    """Return what is near its end, lists on file, and alarms."""
    horizon = now + STEPS[-1] * DAY_MS
    near = [("device", one.serial, one.not_after_utc_ms) for one in store.ending(horizon, SHOWN)]
    ends = dict(zip(OWN_USES, map(ends_utc_ms, load_certificates(config)), strict=False))
    near = [(use, config.bus.id, ends_at) for use, ends_at in ends.items() if ends_at < horizon] + near
    within = {f"within_{days}_days": store.count_ending(now + days * DAY_MS) for days in STEPS if days}
    return {
        "certificates_ending": {"ended": store.count_ending(now), **within},
        "ending": [
            {"use": use, "name": name, "ends_at": format_utc_ms(ends_at), "days": max(0, (ends_at - now) // DAY_MS)}
            for use, name, ends_at in near
        ],
        "crls": shown(store, now),
        "alarms": {one.code: one.times for one in store.alarms()},
        "alarms_newest": {one.code: format_utc_ms(one.last_at_utc_ms) for one in store.alarms()},
    }


def trust_tables(result: dict[str, Any]) -> Iterator[Table]:
    """Yield the tables that have a row."""
    if result["ending"]:
        ending = Table("certificate", "of", "ends at", "days", title="certificates that end soon")
        for one in result["ending"]:
            ending.add_row(*map(str, one.values()))
        yield ending
    if stale := [one for one in result["crls"] if one["stale"]]:
        lists = Table("CA", "number", "was good until", title="lists of revoked certificates out of date")
        for one in stale:
            lists.add_row(one["ca"], str(one["number"]), one["good_until"])
        yield lists
    if result["alarms"]:
        alarms = Table("alarm", "times", "newest", title="alarms")
        for code, count in result["alarms"].items():
            alarms.add_row(code, str(count), result["alarms_newest"][code])
        yield alarms
