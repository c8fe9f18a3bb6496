"""A customer's readings as a file, and tariffs as URDB files."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

KWH = "0.0.7.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"  # hourly energy taken in
COLUMNS = "usage_point,meter,channel,reading_type,unit,interval_s,interval_end_utc,value,quality,quality_detail\n"


def hourly_csv(first: datetime, values, meter="M1"):
    """The CSV of readings of one channel: `values` an hour each from `first` on; None is left out."""
    rows = []
    for place, value in enumerate(values, 1):
        if value is not None:
            end = f"{first + timedelta(hours=place):%Y-%m-%dT%H:%M:%SZ}"
            rows.append(f"UP1,{meter},in,{KWH},kWh,3600,{end},{value},,\n")
    return COLUMNS + "".join(rows)


def urdb(name, rates, fixed=0, grid=None):
    """A URDB rate: a price by period; `grid` gives the period of an hour."""
    rows = [[(grid or (lambda hour: 0))(hour) for hour in range(24)]] * 12
    return json.dumps({
        "label": name.upper(), "utility": name, "name": "offer", "servicetype": "Bundled",
        "energyratestructure": [[{"rate": rate, "unit": "kWh"}] for rate in rates],
        "energyweekdayschedule": rows, "energyweekendschedule": rows,
        "fixedchargefirstmeter": fixed, "fixedchargeunits": "$/month",
    })  # fmt: skip
