"""bench/billing.py on a few meters: what it bills is what the store's own view of intervals sums to."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench" / "billing.py"


def test_the_bench_bills_every_interval_of_every_meter(tmp_path):
    options = ["--meters", "12", "--repeats", "1", "--work", tmp_path, "--pushes-a-day", "4", "--json"]
    done = subprocess.run([sys.executable, BENCH, *options], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr  # 1: a machine too busy for the aims
    found = json.loads(done.stdout)
    (place,) = tmp_path.glob("12-meters-*.db")
    with sqlite3.connect(place) as sql:
        rows = sql.execute("SELECT value FROM interval_value WHERE channel_id % 2 = 1").fetchall()
    sql.close()
    # March 2026 in Chicago: 31 days of 96 quarter hours, less the hour that the clock jumps
    assert len(rows) == 12 * (31 * 96 - 4)
    assert sum((Decimal(value) for (value,) in rows), Decimal(0)) == Decimal(found["months"]["kwh"])
    # a bill: three periods with two tiers, one time-of-use demand, one flat, one standing charge; no line of nothing
    assert 12 * 6 <= found["months"]["lines"] <= 12 * 10
    wanted = found["months"]["a_second"] >= 500 and max(found["year"]["first_s"], found["year"]["again_s"]) < 1
    assert found["ok"] == wanted == (done.returncode == 0)
