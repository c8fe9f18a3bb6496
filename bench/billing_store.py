"""The store of bench/billing.py: meters with two channels each and a month of quarter hours, as their pushes left it.

Made by bulk SQL into the tables that `store.create` made. What a bill reads is real: a row a push, channel and UTC day
in the order the pushes came, day after day over all meters, so that a meter's rows lie as far apart as on a bus.
What no bill reads is short: entries have placeholders for hashes and receipts and no evidence, and the tree is empty.
"""

import json
import random
import sqlite3
import sys
from pathlib import Path
from typing import NamedTuple

from gridpost.server.store import create
from gridpost.server.store.schema import SCHEMA

from gridpost import leaf, units, versions
from gridpost.applications import calendar

CHANNELS = (
    ("E1", "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0", "kWh"),
    ("Q1", "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.73.0", "kvarh"),
)
INTERVAL_S, DAY_S = 900, 86_400


class Shape(NamedTuple):
    """What is in a store: so many meters, every interval of a period, messages a day, different values."""

    meters: int
    period: calendar.Period
    pushes_a_day: int = 1
    spread: int = 4000


def channel_ids(meter):
    """Return the store's numbers of a meter's channels, meters counted from 0."""
    first = meter * len(CHANNELS) + 1
    return list(range(first, first + len(CHANNELS)))


def prepared(folder, shape):
    """Return the database of a shape, made unless it is there."""
    meters, period, pushes_a_day, spread = shape
    place = Path(folder) / f"{meters}-meters-{period.days}-days-{pushes_a_day}-a-day-{spread}-values.db"
    stamp = place.with_suffix(".json")
    wanted = {"schema": SCHEMA, "from": period.from_utc, "to": period.to_utc, "zone": str(period.zone)}
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return place
    if place.exists():
        raise SystemExit(f"{place} is of another schema or unfinished: remove it")
    place.parent.mkdir(parents=True, exist_ok=True)
    create(place)
    _fill(place, shape)
    stamp.write_text(json.dumps(wanted))
    return place


def _fill(place, shape):
    meters, period, pushes_a_day, spread = shape
    sql = sqlite3.connect(place, isolation_level=None)
    sql.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = -200000; BEGIN")
    sql.executemany("INSERT INTO ied (serial, kind, added_at_utc_ms) VALUES (?, 'meter', 0)",
                    ((f"IED-{meter:06d}",) for meter in range(meters)))  # fmt: skip
    sql.executemany(
        "INSERT INTO channel (id, serial, usage_point, meter, stream, reading_type, unit, interval_s, zone,"
        f" valid_from_utc) VALUES (?, ?, ?, ?, ?, ?, ?, {INTERVAL_S}, ?, 0)",
        _channel_rows(meters, str(period.zone)),
    )
    sql.execute("INSERT OR IGNORE INTO partition VALUES (0, 0, '', 0, 0, 0, 0, 0, 0)")
    chance = random.Random(meters)
    pool = tuple(f"{number // 1000}.{number % 1000:03d}" for number in range(spread))
    seq = 0
    print(f"filling a store with {meters:,} meters", file=sys.stderr, flush=True)
    for push in _pushes(period, pushes_a_day):
        sql.executemany(
            "INSERT INTO entry (partition, seq, sender, message_id, noun, transport, created_utc_ms, last_receipt,"
            " content_sha256, recorded_at_utc_ms, evidence_sha256, rows_sha256, leaf_hash, receipt)"
            " VALUES (0, ?, ?, ?, 'MeterReadings', 'http', ?, '', x'', ?, x'', x'', x'', x'')",
            (
                (seq + meter, f"IED-{meter:06d}", f"{push[-1]:010d}-{meter}", push[-1] * 1000, push[-1] * 1000 + meter)
                for meter in range(meters)
            ),
        )
        sql.executemany(
            f"INSERT INTO interval_block VALUES (0, ?, ?, ?, ?, ?, {INTERVAL_S}, ?, NULL, 'stored')",
            _block_rows((meters, seq), push, lambda count: chance.choices(pool, k=count)),
        )
        seq += meters
    sql.execute("COMMIT")
    sql.executescript("ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)")
    sql.close()


def _channel_rows(meters, zone):
    for meter in range(meters):
        for number, (stream, kind, unit) in zip(channel_ids(meter), CHANNELS, strict=True):
            yield number, f"IED-{meter:06d}", f"UP{meter:06d}", f"M{meter:06d}", stream, kind, unit, zone


def _pushes(period, pushes_a_day):
    """Yield the interval ends of each push: equal parts of a day of standard time, as devices cut them."""
    ends = calendar.expected_ends(period, INTERVAL_S)
    step = DAY_S // pushes_a_day
    offset = units.standard_offset(period.zone, period.from_utc)
    part = []
    for end in ends:
        part.append(end)
        if (end + offset) % step == 0:
            yield part
            part = []
    if part:
        yield part


def _block_rows(at, push, some):
    """Yield the rows the writer makes of a push by so many meters, the first as entry `seq`: cut where UTC days end."""
    meters, seq = at
    days = {}
    for end in push:
        days.setdefault(versions.utc_day(end), []).append(end)
    for meter in range(meters):
        line = 0
        for number in channel_ids(meter):
            for ends in days.values():
                values = leaf.values_text(some(len(ends)))
                yield seq + meter, line, number, ends[0], ends[-1], values
                line += 1
