"""Twelve monthly bills of thirty rates are those that NREL's own calculator gave for them (`pysam_bills.py`)."""

import json
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from gridpost.adapters.supplier import parse
from gridpost.adapters.supplier.urdb import UrdbOptions
from metered import readings
from urdb_rates import RATES, YEAR, ZONE, load, rates

from gridpost.applications import calendar, charges, determinants
from gridpost.tariff import Rounding

KEPT = json.loads((Path(__file__).parent / "pysam_bills.json").read_text(encoding="utf-8"))
# No line is rounded to the cent here: what is compared is the bill before rounding.
OPTIONS = UrdbOptions(ZONE, rounding=Rounding(places=9))


@pytest.fixture(scope="module")
def year():
    zone = ZoneInfo(ZONE)
    ends = [end for month in range(1, 13) for end in calendar.expected_ends(calendar.cycle(YEAR, month, zone), 3600)]
    return {"import": readings(ends, load(), interval_s=3600)}


def test_every_rate_is_kept_and_no_two_are_alike():
    assert len(KEPT) == RATES == 30
    assert len({tuple(months) for months in KEPT.values()}) == 30


@pytest.mark.parametrize("rate", rates(), ids=lambda rate: rate["label"])
def test_twelve_bills_are_those_of_pysam(rate, year):
    (tariff,) = parse(json.dumps(rate, default=float).encode(), OPTIONS)
    for month, expected in enumerate(KEPT[rate["label"]], 1):
        period = calendar.cycle(YEAR, month, ZoneInfo(ZONE))
        found = determinants.of(year, [determinants.Metered("import")], tariff, period)
        total = charges.total(charges.lines(tariff, found))
        assert abs(total - Decimal(expected)) <= Decimal("0.005"), f"month {month}"
