"""$0.80 from 06:00 to 18:00, $0.60 otherwise; equality does not shed; by the local clock, also when it was just set."""

from datetime import UTC, datetime
from decimal import Decimal as D
from zoneinfo import ZoneInfo

import pytest
from metered import by_hour, profile, tariff

from gridpost.applications import limits
from gridpost.applications.limits import F64_LIMITS, Limit, Offer, Policy
from gridpost.controls import ACTIONS
from gridpost.errors import TariffRefused
from gridpost.tariff import IntervalPrices

CHICAGO = ZoneInfo("America/Chicago")
SHED = Policy(F64_LIMITS)


def utc(*parts):
    return int(datetime(*parts, tzinfo=UTC).timestamp())


# Chicago is UTC-6 in winter, UTC-5 from 8 March to 1 November 2026 (02:00 local).
@pytest.mark.parametrize(
    ("moment", "limit"),
    [
        (utc(2026, 1, 15, 11, 59, 59), "0.60"),  # 05:59:59
        (utc(2026, 1, 15, 12, 0), "0.80"),  # 06:00
        (utc(2026, 1, 15, 23, 59, 59), "0.80"),  # 17:59:59
        (utc(2026, 1, 16, 0, 0), "0.60"),  # 18:00
        (utc(2026, 1, 16, 6, 0), "0.60"),  # midnight
        (utc(2026, 3, 8, 10, 59, 59), "0.60"),  # the day of 23 hours: 05:59:59
        (utc(2026, 3, 8, 11, 0), "0.80"),  # 06:00, an hour earlier in UTC than the day before
        (utc(2026, 3, 8, 23, 0), "0.60"),  # 18:00
        (utc(2026, 11, 1, 11, 59, 59), "0.60"),  # the day of 25 hours: 05:59:59
        (utc(2026, 11, 1, 12, 0), "0.80"),  # 06:00
        (utc(2026, 11, 2, 0, 0), "0.60"),  # 18:00
        (utc(2026, 11, 1, 6, 30), "0.60"),  # 01:30, the first time
        (utc(2026, 11, 1, 7, 30), "0.60"),  # 01:30, the second
    ],
)
def test_the_limit_follows_the_local_clock(moment, limit):
    assert limits.limit_at(F64_LIMITS, moment, CHICAGO).price == D(limit)


# FEATURES F64, each by its words.
@pytest.mark.parametrize(
    ("price", "hour", "action"),
    [
        ("0.80", 12, "none"), ("0.81", 12, "shed"), ("0.60", 0, "none"), ("0.61", 0, "shed"),
        ("0.70", 12, "none"), ("0.70", 0, "shed"), ("0.80000000000000001", 12, "shed"),
    ],
)  # fmt: skip
def test_the_limit_itself_does_not_shed(price, hour, action):
    moment = utc(2026, 1, 15, hour + 6, 0)
    limit = limits.limit_at(F64_LIMITS, moment, CHICAGO).price
    assert limits.propose([Offer("A", "both", D(price))], [], SHED, limit).action == action


def test_a_cheaper_supplier_comes_before_less_consumption():
    now, offers = [Offer("A", "both", D("0.90"))], [Offer("B", "both", D("0.75")), Offer("C", "both", D("0.79"))]
    assert limits.propose(now, offers, SHED, D("0.80"))[:3] == ("switch-supplier", ("B",), D("0.75"))
    stay = Policy(F64_LIMITS, may_switch=False)
    assert limits.propose(now, offers, stay, D("0.80")).action == "shed"


def test_all_too_expensive_reduces_to_a_level():
    now, offers = [Offer("A", "both", D("0.90"))], [Offer("B", "both", D("0.85"))]
    found = limits.propose(now, offers, Policy(F64_LIMITS, D("3.5")), D("0.80"))
    assert (found.action, found.level_kw, found.suppliers) == ("reduce", D("3.5"), ("A",))
    assert {"reduce", "shed", "switch-supplier"} <= set(ACTIONS)


def test_several_energy_and_distribution_suppliers_at_once():
    energy = [Offer("E1", "energy", D("0.50")), Offer("E2", "energy", D("0.45"))]
    network = [Offer("D1", "distribution", D("0.20")), Offer("D2", "distribution", D("0.30"))]
    assert limits.cheapest([*energy, *network]) == (("E2", "D1"), D("0.65"))
    assert limits.cheapest([*energy, *network, Offer("W", "both", D("0.64"))]) == (("W",), D("0.64"))
    # 0.50 + 0.30 is the limit itself; with 0.31 the network or the energy supplier changes, whatever is cheapest.
    assert limits.propose([energy[0], network[1]], energy, SHED, D("0.80")).action == "none"
    dear = [energy[0], Offer("D2", "distribution", D("0.31"))]
    assert limits.propose(dear, [*energy, network[0]], SHED, D("0.80")).suppliers == ("E2", "D1")
    assert limits.cheapest(energy) is None
    with pytest.raises(TariffRefused, match="who supplies now"):
        limits.propose(energy, network, SHED, D("0.80"))


def test_equal_offers_are_decided_by_name():
    offers = [Offer("Z", "both", D("0.5")), Offer("A", "both", D("0.5"))]
    assert limits.cheapest(offers) == limits.cheapest(offers[::-1]) == (("A",), D("0.5"))


def test_limits_with_a_hole_or_an_overlap_are_refused():
    moment = utc(2026, 1, 15, 18, 0)  # noon
    for wrong, count in (((), 0), ((*F64_LIMITS, Limit(0, 0, D(1))), 2)):
        with pytest.raises(TariffRefused, match=f"^{count} limits"):
            limits.limit_at(wrong, moment, CHICAGO)


def test_the_price_at_a_moment_is_the_tariffs_for_the_local_hour():
    of = tariff("America/Chicago", energy=profile("0.60", "0.80", grid=by_hour(lambda hour: int(6 <= hour < 18))))
    moments = [utc(2026, 3, 8, 10, 59, 59), utc(2026, 3, 8, 11, 0), utc(2026, 3, 8, 22, 59, 59), utc(2026, 3, 8, 23, 0)]
    assert [limits.price_at(of, moment, CHICAGO) for moment in moments] == list(
        map(D, ("0.60", "0.80", "0.80", "0.60"))
    )
    noon = utc(2026, 1, 15, 18, 0)
    live = tariff(energy=None, interval_prices=IntervalPrices(900, (noon, noon + 900), (D("0.3"), D("0.81"))))
    # An interval is stamped at its end: at noon the one that ends a quarter later has begun.
    assert [limits.price_at(live, at, CHICAGO) for at in (noon - 900, noon - 1, noon, noon + 899)] == [
        D("0.3"), D("0.3"), D("0.81"), D("0.81"),
    ]  # fmt: skip
    with pytest.raises(TariffRefused, match="no price"):
        limits.price_at(live, noon + 900, CHICAGO)
