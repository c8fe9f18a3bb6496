"""Switch, stay, or not enough data: on one's own intervals, with bounds that hold whatever was missing."""

from decimal import Decimal as D
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metered import by_hour, profile, readings, tariff

from gridpost.applications import calendar, comparison
from gridpost.applications.comparison import Bid, Usage
from gridpost.applications.determinants import Metered
from gridpost.errors import TariffRefused
from gridpost.model import Quality
from gridpost.tariff import Fixed, Schedule, TariffProfile, Tier

UTC = ZoneInfo("Etc/UTC")
PERIOD = calendar.cycle(2026, 1, UTC)
ENDS = calendar.expected_ends(PERIOD, 3600)
PRESENT = Bid("present", (tariff(),))  # 0.10 at any time: 744 kWh come to 74.40


def usage(column, **of):
    return Usage({"a": readings(ENDS, column, **of)}, [Metered("a")], [PERIOD])


def bid(price, fixed=0, name="other"):
    return Bid(name, (tariff(energy=profile(price), fixed=(Fixed("standing", D(fixed)),)),))


# 744 x 0.08 = 59.52: saves 14.88. A standing charge of 14.88 eats it up: no saving is no reason. Switching costs
# 14.87: a cent is left.
@pytest.mark.parametrize(
    ("fixed", "cost", "answer", "saving"),
    [("0", "0", "switch", "14.88"), ("14.88", "0", "stay", "0.00"), ("0", "14.87", "switch", "0.01"),
     ("0", "14.88", "stay", "0.00"), ("20", "0", "stay", "-5.12")],
)  # fmt: skip
def test_savings_are_net_of_fixed_charges_and_switching(fixed, cost, answer, saving):
    found = comparison.compare(PRESENT, [bid("0.08", fixed), bid("0.50", name="dear")], usage([1] * 744), D(cost))
    assert (found.answer, found.best, found.saving) == (answer, "other", (D(saving), D(saving)))
    assert found.uncertain == ()


def test_what_decided_is_told_by_kind_of_charge():
    found = comparison.compare(PRESENT, [bid("0.08", "5")], usage([1] * 744))
    assert found.decided_by == (("energy", D("74.40"), D("59.52")), ("fixed", D("0"), D("5.00")))


# 742 hours of 1 kWh, one of 21, and one unknown whose like held 1 to 21: 764 to 784 kWh, the present 76.40 to 78.40.
# An offer of 0.08 costs 61.12 to 62.72: cheaper in any case. One of 0.05 and 37.20 standing 75.40 to 76.40: by these
# bounds alone it depends. One of 0.30: never.
@pytest.mark.parametrize(
    ("offer", "answer"),
    [(bid("0.08"), "switch"), (bid("0.05", "37.20"), "not enough data"), (bid("0.30"), "stay")],
)
@pytest.mark.parametrize("estimated", [False, True])
def test_unknown_intervals_leave_bounds(offer, answer, estimated):
    column = [D(1)] * 744
    column[24 * 5 + 3] = D(21)  # 03:00 of Tuesday 6 January; the unknown one is 03:00 of Wednesday 7
    at = 24 * 6 + 3
    qualities = [()] * 744
    if estimated:
        column[at], qualities[at] = D(7), (Quality("2.8.0"),)
    else:
        column[at] = None
    found = comparison.compare(PRESENT, [offer], usage(column, qualities=qualities))
    assert (found.costs[0].low, found.costs[0].high) == (D("76.40"), D("78.40"))
    assert found.answer == answer
    assert found.uncertain == (("a", ENDS[at]),)


# As above, and 10 kWh sent out in one such hour, an unknown number (0 to 10) in the other, at 0.05: 0.50 off for one;
# for the other 0.50 off the low bill and nothing off the high one: 76.40 - 1.00 and 78.40 - 0.50.
def test_energy_sent_out_counts_the_other_way():
    known, unknown = 24 * 5 + 3, 24 * 6 + 3
    taken, sent = [D(1)] * 744, [D(0)] * 744
    taken[known], sent[known] = D(21), D(10)
    taken[unknown] = sent[unknown] = None
    channels = [Metered("a"), Metered("out", "export")]
    used = Usage({"a": readings(ENDS, taken), "out": readings(ENDS, sent)}, channels, [PERIOD])
    tiers = ((Tier(D("0.10"), sell=D("0.05")),),)
    grid = by_hour(lambda hour: 0)
    sold = Bid("sold", (tariff(energy=TariffProfile(Schedule(grid, grid), tiers), metering="net-billing"),))
    cost = comparison.compare(PRESENT, [sold], used).costs[1]
    assert (cost.low, cost.high, cost.bounded) == (D("75.40"), D("77.90"), True)


def test_a_tariff_that_gets_cheaper_with_use_decides_nothing_while_data_is_missing():
    by_use = ((Tier(D("0.50"), D(100), "kWh/kW"), Tier(D("0.001"), unit="kWh/kW")),)
    odd = tariff(energy=TariffProfile(Schedule(by_hour(lambda h: 0), by_hour(lambda h: 0)), by_use))
    found = comparison.compare(PRESENT, [Bid("odd", (odd,))], usage([None, *[1] * 743]))
    assert (found.answer, found.costs[1].bounded) == ("not enough data", False)
    assert comparison.compare(PRESENT, [Bid("odd", (odd,))], usage([1] * 744)).answer == "switch"


def test_nothing_known_is_not_enough():
    assert comparison.compare(PRESENT, [bid("0.01")], usage([None] * 744)).answer == "not enough data"


def test_an_energy_and_a_distribution_supplier_are_paid_together():
    both = Bid("two", (tariff(energy=profile("0.05")), tariff(energy=profile("0.04"), kind="distribution")))
    found = comparison.compare(PRESENT, [both], usage([1] * 744))
    assert found.costs[1].low == D("66.96")  # 744 x 0.05 + 744 x 0.04


def test_bids_of_two_currencies_are_refused():
    with pytest.raises(TariffRefused, match="one currency"):
        comparison.compare(PRESENT, [Bid("usd", (tariff(currency="USD"),))], usage([1] * 744))


# Whatever stood in the hole, as long as it is as its like were, the bill lies within the bounds.
@settings(max_examples=15)
@given(st.lists(st.integers(0, 50), min_size=744, max_size=744), st.integers(0, 743), st.integers(0, 30))
def test_the_bounds_hold(column, at, pick):
    kind = [calendar.hour_of(end, 3600, UTC) for end in ENDS]
    like = [value for i, value in enumerate(column) if i != at and kind[i].hour == kind[at].hour
            and (kind[i].weekday > 4) == (kind[at].weekday > 4)]  # fmt: skip
    true = [*column[:at], like[pick % len(like)], *column[at + 1 :]]
    tiers = ((Tier(D("0.1"), D(9000)), Tier(D("0.3"))),)
    of = Bid("tiers", (tariff(energy=TariffProfile(Schedule(by_hour(lambda h: 0), by_hour(lambda h: 0)), tiers),
                              demand=profile("5.00")),))  # fmt: skip
    holed = comparison.compare(PRESENT, [of], usage([*column[:at], None, *column[at + 1 :]])).costs[1]
    exact = comparison.compare(PRESENT, [of], usage(true)).costs[1]
    assert holed.low <= exact.low <= holed.high
