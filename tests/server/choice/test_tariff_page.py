"""The page of a tariff: every term of it is there, to the last digit, and no text of it becomes markup."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal as D

from click.testing import CliRunner
from gridpost.server.choice import tariff_page
from gridpost.server.cli import group
from lxml import html
from office_world import flat_tariff

from gridpost import tariff_messages
from gridpost.tariff import (
    Adjustment,
    Fixed,
    FlatDemand,
    IntervalPrices,
    Minimum,
    Ratchet,
    Reactive,
    Schedule,
    TariffProfile,
    Tier,
)

QUIET, PEAK = (0,) * 24, (0,) * 12 + (1,) * 6 + (0,) * 6
ENERGY = TariffProfile(
    Schedule((QUIET,) * 5 + (PEAK,) * 4 + (QUIET,) * 3, (QUIET,) * 12),
    ((Tier(D("0.063870"), D(500)), Tier(D("0.07"))), (Tier(D("0.4"), adjustment=D("0.011"), sell=D("0.05")),)),
)
WHOLE = flat_tariff(
    "T", "S", energy=ENERGY, scope="period",
    demand=TariffProfile(ENERGY.schedule, ((Tier(D("5.25"), unit="kW"),),) * 2),
    flat=FlatDemand((0,) * 6 + (1,) * 6, ((Tier(D("1.125"), unit="kW"),), (Tier(D("2.375"), unit="kW"),))),
    window_s=1800, ratchet=Ratchet((D("0.85"),) * 12, 11), reactive=Reactive(D("0.0301"), "kvar", D("0.4")),
    power_factor=D("0.93"), fixed=(Fixed("standing charge", D("9.50")),), minimum=(Minimum(D("17.77")),),
    adjustments=(Adjustment("levy", "percent", D("19.6")),), metering="net-billing",
    holidays=frozenset((date(2026, 12, 25),)), facts=(("source", "page 7"),),
)  # fmt: skip


def texts(tariff) -> str:
    return " | ".join(html.fromstring(tariff_page.render(tariff)).itertext())


def test_every_term_is_on_the_page():
    shown = texts(WHOLE)
    wanted = [
        "0.063870", "500 kWh in a billing cycle", "0.411", "0.05", "5.25", "1.125", "2.375", "30 minutes", "85 %",
        "0.0301 a kvar beyond 40 % of the active one", "0.93", "9.50 a month", "17.77", "19.6 %", "as measured",
        "2026-12-25", "page 7", "each period's own", "Etc/UTC", "EUR", "Jul, Aug, Sep, Oct, Nov, Dec",
    ]  # fmt: skip
    assert [one for one in wanted if one not in shown] == []


def test_the_calendar_has_each_hour_of_each_month():
    calendar, *_ = [one for one in html.fromstring(tariff_page.render(WHOLE)).iter("table") if len(one[0][0]) == 25]
    rows = [[cell.text for cell in row] for row in calendar[1]]
    assert rows[5] == ["Jun"] + ["0"] * 12 + ["1"] * 6 + ["0"] * 6
    assert len(rows) == 12


def test_real_time_prices_are_listed_as_far_as_one_can_read():
    prices = IntervalPrices(3600, tuple(range(3600, 3600 * 251, 3600)), (D("0.25"),) * 250)
    shown = texts(flat_tariff("T", "S", energy=None, interval_prices=prices))
    assert "The first 200 of 250, to 1970-01-11T10:00:00Z" in shown  # 250 hours: 10 days and 10 hours


def test_a_name_is_no_markup():
    name = "<script>alert(1)</script> & Sons"
    page = html.fromstring(tariff_page.render(replace(WHOLE, name=name, facts=((name, name),))))
    assert page.findtext(".//h1") == name
    assert list(page.iter("script")) == []


def test_the_command_writes_the_page_of_a_file(tmp_path):
    file, out = tmp_path / "tariff.xml", tmp_path / "tariff.html"
    file.write_text(tariff_messages.encode(WHOLE), encoding="utf-8")
    told = CliRunner().invoke(group, ["tariff", "page", str(file), "--out", str(out), "--json"])
    assert json.loads(told.stdout) == {"file": str(out), "tariff": "S/T"}
    assert out.read_bytes() == tariff_page.render(WHOLE)
