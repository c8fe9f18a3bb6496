"""URDB in and out: every key of the mapping table, what is refused and where, and nothing lost on the way back."""

import json
from datetime import date
from decimal import Decimal as D

import pytest
from gridpost.adapters.supplier import parse, render
from gridpost.adapters.supplier.urdb import UrdbOptions
from metered import flat_grid, profile, tariff
from urdb_rates import rates

from gridpost.errors import CannotRepresent, FileInvalid, TariffRefused
from gridpost.tariff import Adjustment, Fixed, Minimum, Ratchet, Reactive, Tier

OPTIONS = UrdbOptions("America/Chicago", origin="rate.json")
GRID = [[0] * 24 for _ in range(12)]
RATE = {
    "label": "539f6b25ec4f024411ec98c9", "utility": "Example Power", "name": "Rate 1",
    "energyratestructure": [[{"rate": 0.06387, "adj": 0.035187, "unit": "kWh"}]],
    "energyweekdayschedule": GRID, "energyweekendschedule": GRID,
}  # fmt: skip


def read(changes=None, options=OPTIONS, **more):
    (found,) = parse(json.dumps(RATE | (changes or {}) | more).encode(), options)
    return found


def test_the_price_is_rate_and_adjustment_to_the_last_digit():
    # 0.06387 + 0.035187, as facts about NREL's own run have it.
    assert read().energy.periods[0][0].charge == D("0.099057")


def test_every_term_of_the_mapping_table():
    found = read(
        startdate=1_483_228_800, enddate=1_514_764_800, servicetype="Delivery", sector="Residential", approved=True,
        demandratestructure=[[{"rate": 5.5, "max": 20, "unit": "kW"}, {"rate": 7}]],
        demandweekdayschedule=GRID, demandweekendschedule=GRID, demandrateunit="kW", demandwindow=30,
        flatdemandstructure=[[{"rate": 1}], [{"rate": 2}]], flatdemandmonths=[0] * 6 + [1] * 6, flatdemandunit="kW",
        coincidentratestructure=[[{"rate": 3}]], coincidentrateschedule=GRID, coincidentrateunit="kW",
        fixedchargefirstmeter=0.5, fixedchargeunits="$/day", fixedchargeeaaddl=2.25,
        mincharge=10, minchargeunits="$/month", annualmincharge=99, reactivepowercharge=0.3,
        lookbackpercent=0.8, lookbackrange=6, dgrules="Net Billing Instantaneous",
        options=UrdbOptions("America/Chicago", frozenset((date(2026, 7, 4),)), "period", meters=3),
    )  # fmt: skip
    assert (found.id, found.supplier, found.kind, found.currency) == (
        RATE["label"],
        "Example Power",
        "distribution",
        "USD",
    )
    assert (found.valid_from_utc, found.valid_to_utc, found.scope) == (1_483_228_800, 1_514_764_800, "period")
    assert found.demand.periods == ((Tier(D("5.5"), D(20), "kW"), Tier(D(7), unit="kW")),)
    assert (found.window_s, found.flat.months, found.metering) == (1800, (0,) * 6 + (1,) * 6, "net-billing")
    assert found.coincident.periods == ((Tier(D(3), unit="kW"),),)
    assert found.fixed == (Fixed("standing charge", D("0.5"), "day"), Fixed("each additional meter", D("4.50"), "day"))
    assert found.minimum == (Minimum(D(10)), Minimum(D(99), "year"))
    assert (found.reactive, found.ratchet) == (Reactive(D("0.3"), "kvar"), Ratchet((D("0.8"),) * 12, 6))
    assert dict(found.facts)["sector"] == '"Residential"'
    assert found.holidays == {date(2026, 7, 4)}


@pytest.mark.parametrize(
    ("unit", "limit"), [("kWh", ("kWh", "cycle")), ("kWh/kW", ("kWh/kW", "cycle")), ("kWh daily", ("kWh", "daily")),
                        ("kWh/kW daily", ("kWh/kW", "daily"))],
)  # fmt: skip
def test_units_of_tiers(unit, limit):
    tiers = read(
        energyratestructure=[[{"rate": 1, "max": 500, "unit": unit}, {"rate": 2, "unit": unit}]]
    ).energy.periods[0]
    assert [(tier.unit, tier.per) for tier in tiers] == [limit] * 2


def test_the_older_names_of_charges():
    found = read(fixedmonthlycharge=7, minmonthlycharge=9, usenetmetering=True)
    assert (found.fixed, found.minimum, found.metering) == (
        (Fixed("standing charge", D(7)),), (Minimum(D(9)),), "net-metering",
    )  # fmt: skip


def test_a_list_an_answer_of_the_api_and_json_in_a_string():
    two = [RATE, RATE | {"label": "other"}]
    for text in (json.dumps(two), json.dumps({"items": two}), json.dumps(json.dumps({"items": two}))):
        assert [one.id for one in parse(text.encode(), OPTIONS)] == [RATE["label"], "other"]


@pytest.mark.parametrize("rate", rates()[::5], ids=lambda rate: rate["label"])
def test_what_was_written_is_read_as_the_same_tariff(rate):
    extra = {
        "sector": "Commercial",
        "description": 'a "quoted"\nline',
        "lookbackpercent": 0.8,
        "dgrules": "Net Metering",
    }
    (first,) = parse(json.dumps(rate | extra, default=float).encode(), OPTIONS)
    written = render(first)
    (again,) = parse(written.content, OPTIONS)
    assert again == first
    assert render(again) == written
    assert {loss.path for loss in written.losses} <= {"zone", "scope"}


@pytest.mark.parametrize(
    ("terms", "place"),
    [
        ({"currency": "EUR"}, "currency"), ({"power_factor": D("0.9")}, "power-factor"), ({"rolling": True}, "rolling"),
        ({"adjustments": (Adjustment("tax", "percent", D(1)),)}, "adjustments"),
        ({"fixed": (Fixed("a", D(1)), Fixed("b", D(1)))}, "fixed"), ({"window_s": 90}, "window"),
        ({"reactive": Reactive(D(1), "kvarh")}, "reactive"),
        ({"energy": profile("1", "2", holiday=flat_grid(1))}, "schedule"),
    ],
)  # fmt: skip
def test_what_urdb_cannot_say_is_refused_by_name(terms, place):
    with pytest.raises(CannotRepresent) as caught:
        render(tariff(**({"currency": "USD"} | terms)))
    assert [item.path for item in caught.value.items] == [place]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"fueladjustmentsmonthly": [0] * 12}, "rate.json/fueladjustmentsmonthly"),
        ({"energyratestructure": [[{"rate": 1, "loss": 2}]]}, "rate.json/energyratestructure/period 0/tier 0"),
        ({"energyratestructure": [[{"rate": 1, "unit": "therms"}]]},
         "rate.json/energyratestructure/period 0/tier 0/unit"),
        ({"energyratestructure": [[{"rate": "0.1"}]]}, "rate.json/energyratestructure/period 0/tier 0/rate"),
        ({"energyratestructure": [[{"max": 1}]]}, "rate.json/energyratestructure/period 0/tier 0"),
        ({"energyweekdayschedule": GRID[:11]}, "rate.json/energyweekdayschedule"),
        ({"energyweekdayschedule": [[0] * 23, *GRID[1:]]}, "rate.json/energyweekdayschedule/month 1"),
        ({"energyweekdayschedule": [[0.5] * 24, *GRID[1:]]}, "rate.json/energyweekdayschedule"),
        ({"demandratestructure": [[{"rate": 1}]]}, "rate.json/demandratestructure"),
        ({"flatdemandmonths": [0] * 12}, "rate.json/flatdemandmonths"),
        ({"flatdemandstructure": [[{"rate": 1, "unit": "kVA"}]], "flatdemandmonths": [0] * 12},
         "rate.json/flatdemandstructure/period 0/tier 0/unit"),
        ({"fixedchargefirstmeter": 1, "fixedchargeunits": "$/week"}, "rate.json/fixedchargeunits"),
        ({"fixedchargefirstmeter": 1, "fixedmonthlycharge": 1}, "rate.json/fixedmonthlycharge"),
        ({"dgrules": "Feed-in"}, "rate.json/dgrules"),
        ({"usenetmetering": False, "dgrules": "Net Metering"}, "rate.json/usenetmetering"),
        ({"lookbackrange": 6}, "rate.json/lookbackrange"), ({"servicetype": "Gas"}, "rate.json/servicetype"),
        ({"label": 7}, "rate.json/label"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_named_and_refused(changes, place):
    with pytest.raises(FileInvalid) as caught:
        read(changes)
    assert place in (*(item.path for item in caught.value.items), caught.value.reason.split(":")[0])


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'{"label": "a", "label": "b"}', "rate.json: the key .* comes twice"), (b"\xef\xbb\xbf{}", "byte order mark"),
        (json.dumps(RATE).encode()[:200], "line 1"), (b"", "line 1"),
        (b"\xff\xfe", "UTF-8"), (b"[]", "0 rates"), (b"[7]", "an object"),
        (json.dumps(RATE).replace("0.06387", "NaN").encode(), "rate.json/energyratestructure/.* 0/tier 0/rate: NaN"),
        (json.dumps(RATE).replace("0.035187", "-Infinity").encode(), "period 0/tier 0/adj: -Infinity is no number"),
        (json.dumps(RATE | {"sector": float("nan")}).encode(), "NaN is no number"),
        (json.dumps(RATE).replace("0.06387", "1e999").encode(), "rate.json: 1e999 is too long"),
        (b"[" * 100_000, "UTF-8"),
        (b"100,NEM12,200506081149,UNITEDDP,NEMMCO", "line 1"),
    ],
)  # fmt: skip
def test_files_that_are_none(raw, says):
    with pytest.raises(FileInvalid, match=says):
        parse(raw, OPTIONS)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"energyweekdayschedule": [[1] * 24] * 12}, "energy/weekday/month 1/hour 0"),
        ({"energyratestructure": [[{"rate": 1, "max": 9}, {"rate": 1, "max": 5}, {"rate": 1}]]},
         "energy/period 0/tier 1/limit"),
        ({"energyratestructure": [[{"rate": 1, "max": 9}]]}, "energy/period 0/tier 0/limit"),
        ({"startdate": 200, "enddate": 100}, "validTo"), ({"name": ""}, "name"),
        ({"lookbackpercent": 80}, "ratchet/month 1"),
    ],
)  # fmt: skip
def test_a_tariff_that_cannot_be_billed_is_refused_with_the_place(changes, place):
    with pytest.raises(TariffRefused) as caught:
        read(changes)
    assert f"rate.json/{place}" in [item.path for item in caught.value.items]
