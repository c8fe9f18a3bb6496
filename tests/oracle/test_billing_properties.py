"""What holds of every bill: lines are its total, a split changes no energy, a correction ends where it should."""

from decimal import Decimal as D
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metered import by_hour, profile, readings, tariff

from gridpost.applications import bills, calendar, determinants
from gridpost.applications.determinants import Metered
from gridpost.errors import BillRefused
from gridpost.model import Quality
from gridpost.tariff import Adjustment, Fixed, FlatDemand, Minimum, Schedule, TariffProfile, Tier

PARIS = ZoneInfo("Europe/Paris")
BASIS = bills.Basis("B1", "C1", {0: 41}, "tzdata 2026a")
# Five days around the end of summer time: 5 x 24 + 1 hours.
PERIOD = calendar.Period(
    calendar.midnight(calendar.date(2026, 10, 23), PARIS), calendar.midnight(calendar.date(2026, 10, 28), PARIS), PARIS
)
ENDS = calendar.expected_ends(PERIOD, 3600)
values = st.lists(st.decimals(0, 99, places=3, allow_nan=False), min_size=len(ENDS), max_size=len(ENDS))
prices = st.decimals("0.0001", "0.9", places=4)


@st.composite
def tariffs(draw):
    edges = draw(st.tuples(st.integers(1, 23), st.integers(1, 23)))
    grids = [by_hour(lambda hour, edge=edge: int(hour >= edge)) for edge in edges]
    limits = sorted(draw(st.sets(st.integers(1, 3000), min_size=2, max_size=2)))
    tiers = [tuple(Tier(draw(prices), limit) for limit in [*map(D, limits), None]) for _ in range(2)]
    return tariff(
        "Europe/Paris",
        energy=TariffProfile(Schedule(*grids), tuple(tiers)),
        scope=draw(st.sampled_from(["month", "period"])),
        demand=profile(str(draw(prices)), str(draw(prices)), grid=grids[0]),
        flat=FlatDemand((0,) * 12, ((Tier(draw(prices), D(30), "kW"), Tier(draw(prices), unit="kW")),)),
        fixed=(Fixed("standing", draw(prices), draw(st.sampled_from(["day", "month", "year"]))),),
        adjustments=(Adjustment("tax", "percent", D(19)),),
        minimum=(Minimum(draw(st.decimals(0, 5000, places=2))),),
    )


def billed(of, used, period=PERIOD, basis=BASIS):
    return bills.bill(basis, [(of, determinants.of({"a": used}, [Metered("a")], of, period))])


@settings(max_examples=20)
@given(tariffs(), values)
def test_the_lines_are_the_total_and_each_is_its_quantity_times_its_price(of, column):
    bill = billed(of, readings(ENDS, column))
    assert bill.total == sum(line.amount for line in bill.lines)
    for line in bill.lines:
        assert abs(line.quantity * line.price - line.amount) <= D("0.005")
        assert line.amount == line.amount.quantize(D("0.01"))
    # No kWh is lost or billed twice, however tiers are shared out.
    assert sum(line.quantity for line in bill.lines if line.kind == "energy") == sum(column)


@settings(max_examples=20)
@given(st.integers(1, len(ENDS) - 1), values, prices, prices)
def test_splitting_a_period_changes_no_energy_line(at, column, night, day):
    of = tariff("Europe/Paris", energy=profile(str(night), str(day), grid=by_hour(lambda hour: int(6 <= hour < 22))))
    used, middle = readings(ENDS, column), ENDS[at - 1]
    parts = [calendar.Period(PERIOD.from_utc, middle, PARIS), calendar.Period(middle, PERIOD.to_utc, PARIS)]
    whole = _by_period(billed(of, used).lines)
    split = _by_period([line for period in parts for line in billed(of, used, period).lines])
    assert split == whole


def _by_period(lines):
    found = {}
    for line in lines:
        found[line.period, line.tier, line.price] = found.get((line.period, line.tier, line.price), 0) + line.quantity
    return found


@settings(max_examples=20)
@given(tariffs(), values, st.integers(0, len(ENDS) - 1), st.decimals(0, 99, places=3))
def test_reversing_and_billing_again_comes_to_the_right_bill(of, column, at, right):
    wrong = billed(of, readings(ENDS, column))
    late = billed(
        of, readings(ENDS, [*column[:at], right, *column[at + 1 :]]), basis=bills.Basis("B2", "C1", {0: 50}, "")
    )
    reversal, replacement = bills.rebill(wrong, late, "B1-R")
    assert bills.settled([wrong, reversal, replacement]) == late.total
    assert reversal.corrects == replacement.corrects == "B1"
    undone = {line._replace(quantity=-line.quantity, amount=-line.amount) for line in reversal.lines}
    assert undone <= set(wrong.lines)
    assert not undone & set(replacement.lines)
    if column[at] == right:
        assert reversal.lines == replacement.lines == ()


def test_only_what_changed_is_reversed():
    of = tariff("Europe/Paris", energy=profile("0.10", "0.20", grid=by_hour(lambda hour: int(6 <= hour < 22))),
                fixed=(Fixed("standing", D(10)),))  # fmt: skip
    old = billed(of, readings(ENDS, [1] * len(ENDS)))
    new = billed(of, readings(ENDS, [3, *[1] * (len(ENDS) - 1)]))  # an hour of the first night
    reversal, replacement = bills.rebill(old, new, "R")
    assert [(line.kind, line.period) for line in reversal.lines] == [("energy", 0)]
    assert (reversal.total, replacement.total) == (D("-4.10"), D("4.30"))  # 41 hours of night at 0.10, then 43 kWh


def test_missing_data_is_refused_unless_told_and_then_marked():
    of = tariff("Europe/Paris")
    estimated = [(Quality("2.8.0"),), *[()] * (len(ENDS) - 1)]
    used = readings(ENDS, [1, None, *[1] * (len(ENDS) - 2)], qualities=estimated)
    with pytest.raises(BillRefused, match="1 intervals are missing") as caught:
        billed(of, used)
    assert [item.path for item in caught.value.items] == ["2026-10-23T00:00:00Z"]
    with pytest.raises(BillRefused, match="1 intervals are estimated"):
        billed(of, used, basis=bills.Basis("B", "C", {}, "", frozenset((bills.PARTIAL,))))
    let_through = billed(of, used, basis=bills.Basis("B", "C", {}, "", frozenset((bills.PARTIAL, bills.ESTIMATE))))
    assert let_through.marks == ("estimated", "partial")


def test_a_tariff_is_in_force_all_through_its_part_and_of_one_currency():
    used = readings(ENDS, [1] * len(ENDS))
    for wrong in ({"valid_from_utc": PERIOD.from_utc + 1}, {"valid_to_utc": PERIOD.to_utc - 1}):
        with pytest.raises(BillRefused, match="not in force"):
            billed(tariff("Europe/Paris", **wrong), used)
    of, other = tariff("Europe/Paris"), tariff("Europe/Paris", currency="USD")
    parts = [(one, determinants.of({"a": used}, [Metered("a")], one, PERIOD)) for one in (of, other)]
    with pytest.raises(BillRefused, match="one currency"):
        bills.bill(BASIS, parts)


def test_a_line_names_the_entries_behind_it():
    of = tariff("Europe/Paris", energy=profile("0.10", "0.20", grid=by_hour(lambda hour: int(6 <= hour < 22))))
    used = readings(ENDS, [1] * len(ENDS))
    night = billed(of, used).lines[0]
    behind = {position.seq for position in determinants.positions(used, night.spans)}
    assert len(behind) == 41
    assert {calendar.hour_of(ENDS[seq], 3600, PARIS).hour for seq in behind} == {22, 23, 0, 1, 2, 3, 4, 5}
