"""What no tariff may hold, each with its place: holes, overlaps, disorder, two currencies, dates that cross, NaN."""

from decimal import Decimal as D

import pytest
from metered import flat_grid, profile, tariff

from gridpost.tariff import (
    Adjustment,
    Fixed,
    FlatDemand,
    IntervalPrices,
    Minimum,
    Ratchet,
    Reactive,
    Rounding,
    Schedule,
    TariffProfile,
    Tier,
)
from gridpost.tariff_check import check, overlaps


def energy(*periods):
    grid = (tuple(hour % len(periods) for hour in range(24)),) * 12
    return TariffProfile(Schedule(grid, grid), periods)


TWO = (Tier(D(1), D(100)), Tier(D(2)))


def test_a_sound_tariff_has_no_finding():
    assert check(tariff(energy=energy(TWO, TWO), interval_prices=None, minimum=(Minimum(D(1)),))) == []


@pytest.mark.parametrize(
    ("terms", "place"),
    [
        ({"energy": TariffProfile(Schedule(flat_grid()[:11], flat_grid()), (TWO,))}, "energy/weekday"),
        ({"energy": TariffProfile(Schedule(((0,) * 23, *flat_grid()[1:]), flat_grid()), (TWO,))}, "energy/weekday"),
        ({"energy": TariffProfile(Schedule(flat_grid(), flat_grid(3)), (TWO,))}, "energy/weekend/month 1/hour 0"),
        ({"energy": TariffProfile(Schedule(flat_grid(), flat_grid(), flat_grid(-1)), (TWO,))},
         "energy/holiday/month 1/hour 0"),
        ({"energy": TariffProfile(Schedule(flat_grid(), flat_grid()), (TWO, TWO))}, "energy/period 1"),
        ({"energy": energy(())}, "energy/period 0"),
        ({"energy": energy((Tier(D(1), D(100)), Tier(D(1), D(100)), Tier(D(1))))}, "energy/period 0/tier 1/limit"),
        ({"energy": energy((Tier(D(1), D(0)), Tier(D(1))))}, "energy/period 0/tier 0/limit"),
        ({"energy": energy((Tier(D(1)), Tier(D(1))))}, "energy/period 0/tier 0/limit"),
        ({"energy": energy((Tier(D("NaN")),))}, "energy/period 0/tier 0/price"),
        ({"energy": energy((Tier(D(1), adjustment=D("Infinity")),))}, "energy/period 0/tier 0/adjustment"),
        ({"energy": energy((Tier(D(1), D("sNaN")), Tier(D(1))))}, "energy/period 0/tier 0/limit"),
        ({"energy": energy((Tier(D("0.1234567890123456789")),))}, "energy/period 0/tier 0/price"),
        ({"energy": energy((Tier(D(1), currency="USD"),))}, "energy/period 0/tier 0/price"),
        ({"energy": energy((Tier(D(1), D(1), "MWh"), Tier(D(1))))}, "energy/period 0/tier 0/unit"),
        ({"energy": energy((Tier(D(1), D(1), per="week"), Tier(D(1))))}, "energy/period 0/tier 0/per"),
        ({"energy": energy((Tier(D(1), D(1), "kWh/kW"), Tier(D(1))))}, "energy/period 0"),
        ({"energy": energy(TWO, (Tier(D(1), D(99)), Tier(D(2))))}, "energy/period 1"),
        ({"interval_prices": IntervalPrices(900, (900,), (D(1),))}, "interval-prices"),
        ({"energy": None, "interval_prices": IntervalPrices(900, (900, 2700), (D(1), D(1)))}, "interval-prices/2700"),
        ({"energy": None, "interval_prices": IntervalPrices(900, (900, 1000), (D(1), D(1)))}, "interval-prices/1000"),
        ({"energy": None, "interval_prices": IntervalPrices(900, (900,), (D("NaN"),))}, "interval-prices/900"),
        ({"energy": None, "interval_prices": IntervalPrices(700, (900,), ())}, "interval-prices/interval"),
        ({"demand": profile("1")}, "demand/period 0/tier 0/unit"),
        ({"flat": FlatDemand((0,) * 11, ((Tier(D(1), unit="kW"),),))}, "flat/months"),
        ({"flat": FlatDemand((0,) * 11 + (1,), ((Tier(D(1), unit="kW"),),))}, "flat/month 12"),
        ({"fixed": (Fixed("a", D(1), currency="USD"),)}, "fixed a"),
        ({"fixed": (Fixed("a", D(1), "week"),)}, "fixed a/per"),
        ({"minimum": (Minimum(D("NaN")),)}, "minimum"),
        ({"adjustments": (Adjustment("x", "kW", D(1)),)}, "adjustment x/unit"),
        ({"reactive": Reactive(D(1), "kvarh", D("NaN"))}, "reactive/free"),
        ({"reactive": Reactive(D(1), "kvah")}, "reactive/unit"),
        ({"power_factor": D("1.1")}, "power-factor"),
        ({"ratchet": Ratchet((D(1),) * 11)}, "ratchet"),
        ({"ratchet": Ratchet((D(1),) * 12, 0)}, "ratchet/months"),
        ({"ratchet": Ratchet((D(1),) * 11 + (D(-1),))}, "ratchet/month 12"),
        ({"valid_from_utc": 10, "valid_to_utc": 10}, "validTo"),
        ({"currency": "euro"}, "currency"), ({"scope": "week"}, "scope"), ({"kind": "gas"}, "kind"),
        ({"metering": "x"}, "metering"), ({"rounding": Rounding(2, "down")}, "rounding/mode"),
        ({"rounding": Rounding(10)}, "rounding/places"), ({"window_s": 700}, "window"), ({"supplier": ""}, "supplier"),
    ],
)  # fmt: skip
def test_each_fault_is_found_at_its_place(terms, place):
    assert place in [item.path for item in check(tariff(**terms))]


# One tariff until 100; the next from 100 is right, from 90 overlaps, from 110 leaves a hole; others are free.
@pytest.mark.parametrize(
    ("start", "supplier", "says"),
    [(100, "S", None), (90, "S", "overlaps"), (110, "S", "hole"), (90, "Z", None)],
)
def test_dates_that_cross(start, supplier, says):
    found = overlaps([tariff(valid_from_utc=start, supplier=supplier), tariff(valid_to_utc=100)])
    assert [says in item.reason for item in found] == ([True] if says else [])


def test_an_open_tariff_overlaps_its_successor():
    assert len(overlaps([tariff(), tariff(valid_from_utc=500)])) == 1
