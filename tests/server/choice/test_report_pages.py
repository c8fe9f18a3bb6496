"""Reports as values, pages and files: every figure what the lines of a bill say, and no text that becomes markup."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from decimal import Decimal as D

import pytest
from customer import hourly_csv, urdb
from gridpost.adapters.supplier import UrdbOptions, parse
from gridpost.server.choice import report, usage
from gridpost.server.choice.report import Happened, Whose
from gridpost.server.zones import zone_of

from gridpost import tabular

BERLIN = zone_of("Europe/Berlin")
WHOSE = Whose("C-1", "Mill & Sons", "UP1")


def made(values, happened=(), name="Harbour"):
    """A report from 28 March 2026, 00:00 in Berlin, on: the 29th has 23 hours. 0.10 a kWh, 31.00 a month."""
    (tariff,) = parse(urdb(name, [0.10], 31).encode(), UrdbOptions("Europe/Berlin"))
    raw = hourly_csv(datetime(2026, 3, 27, 23, tzinfo=UTC), values).encode()
    used = usage.of_blocks(tabular.parse(raw).blocks, usage.Asked(BERLIN))
    return report.of(WHOSE, used, [tariff], happened)


def test_each_local_day_has_its_hours():
    found = made([1] * 24 + [2] * 23 + [1] * 24)
    assert [(one.day, one.kwh, one.cost) for one in found.days] == [
        (date(2026, 3, 28), D(24), D("2.40")), (date(2026, 3, 29), D(46), D("4.60")),
        (date(2026, 3, 30), D(24), D("2.40")),
    ]  # fmt: skip
    # 94 kWh x 0.10, and 71 of March's 743 hours of the standing charge: 31.00 x 71 / 743 = 2.96.
    assert (found.sums.kwh, found.total) == (D(94), D("12.36"))
    assert found.cost.total == found.total


def test_what_is_missing_is_counted_by_day():
    found = made([1] * 24 + [None, None] + [1] * 21)
    assert [(one.missing, one.kwh) for one in found.days] == [(0, D(24)), (2, D(21))]
    assert "2 intervals are missing" in report.consumer_page(found).decode()


def test_the_consumers_file_and_page_say_the_same():
    found = made([1] * 24, [Happened("2026-03-28T10:00:00Z", "excess: 6 kW", "above 5 kW")])
    rows = list(csv.DictReader(io.StringIO(report.consumer_csv(found).decode())))
    assert rows == [{"day": "2026-03-28", "kwh": "24", "kwh_sent_out": "0", "cost_USD": "2.400000", "missing": "0",
                     "estimated": "0"}]  # fmt: skip
    page = report.consumer_page(found).decode()
    for text in (
        "Mill &amp; Sons",
        "Harbour",
        "excess: 6 kW",
        "<svg",
        "24 kWh cost 3.40 USD",
        "No interval is missing",
    ):
        assert text in page  # 24 x 0.10 + 31.00 x 24 / 743 = 3.40


def test_the_providers_file_has_a_row_a_contract():
    found = [made([1] * 24), made([2] * 24)]
    rows = list(csv.DictReader(io.StringIO(report.provider_csv(found).decode())))
    assert [(row["contract"], row["kwh"], row["cost"], row["events"]) for row in rows] == [
        ("C-1", "24", "3.40", "0"), ("C-1", "48", "5.80", "0"),
    ]  # fmt: skip
    assert "Harbour: 2 contracts, 2026-03-28" in report.provider_page("Harbour", found).decode()


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", "=1+1"])
def test_no_text_becomes_markup_or_a_formula(evil):
    found = made([1])._replace(customer=evil, supplier=evil, happened=(Happened("2026", evil, evil),))
    for page in (report.consumer_page(found), report.provider_page(evil, [found])):
        assert b"<script" not in page
    assert b",=1" not in report.provider_csv([found])
