"""Suppliers at a running bus: offers, refusals that change nothing, a change of supplier, a comparison to the cent."""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import requests as http
import zeep
from live_bus import now_utc_ms, run
from lxml import etree
from office_world import PASSWORD, flat_tariff, until
from zeep.wsse.username import UsernameToken

from gridpost import messages, ns, tariff_messages
from gridpost.controls import Role
from gridpost.exchange import seal
from gridpost.partners import Ways
from gridpost.requests import GetMeterReadings, PeekMailbox, Query
from gridpost.supply import (
    ChangeContract,
    ChangeTariff,
    Compared,
    CreateContract,
    CreateTariff,
    Decision,
    GetContract,
    GetTariff,
    GetTariffComparison,
    Offer,
    Sought,
    Supply,
)
from gridpost.tariff import Schedule, TariffProfile

TENANT = "supply"
POINT = f"UP-M-IED-{TENANT}"
DAY = 86_400


@pytest.fixture(scope="module")
def world(office_world):
    """A tenant of its own: a meter with a day of 5 kWh a quarter hour; its suppliers have no grant yet."""
    office_world.add_device(TENANT)
    office_world.add_partner("net", Role.UTILITY, TENANT)
    office_world.add_partner("old", Role.SUPPLIER, TENANT, kinds=())
    office_world.add_partner("new", Role.SUPPLIER, TENANT, kinds=())
    office_world.add_partner("jones", Role.CUSTOMER, TENANT)
    for partner, price in (("old", "0.10"), ("new", "0.08")):
        assert offer(office_world, partner, flat_tariff("flat", partner, price)).code == "ok"
    return office_world


def offer(world, partner: str, tariff, kind=CreateTariff):
    verb = {CreateTariff: "create", ChangeTariff: "change"}[kind]
    return world.call(kind(world.header(partner, verb, "Tariff"), tariff))


def on_offer(world, partner: str, *ids: str) -> list[str]:
    """The tariffs that a partner is told, as canonical text."""
    told = world.call(GetTariff(world.header(partner, "get", "Tariff"), Sought(ids)))
    assert told.code == "ok", told.raw
    told.check_schema()
    found = told.body.iter(ns.q(ns.TARIFF, "Tariff"))
    return [etree.tostring(one, method="c14n", exclusive=True).decode() for one in found]


def request(world, partner: str, name: str, from_utc: int, message_id: str = ""):
    asked = Supply(name, "Mr Jones", POINT, "flat", from_utc, cycle_day=17)
    return CreateContract(world.header(partner, "create", "Contract", message_id), asked)


def decide(world, partner: str, *decision: object):
    return world.call(ChangeContract(world.header(partner, "change", "Contract"), Decision(*decision)))


def contracts(world, partner: str) -> dict[str, dict[str, str]]:
    """What a partner is told of contracts, by id."""
    told = world.call(GetContract(world.header(partner, "get", "Contract"), Sought()))
    assert told.code == "ok", told.raw
    told.check_schema()
    found = [
        {field.tag.rpartition("}")[2]: field.text for field in one}
        for one in told.body.iter(ns.q(ns.SUPPLY, "Contract"))
    ]
    return {one["mRID"]: one for one in found}


# --- offers ----------------------------------------------------------------------------------------------------------


def test_a_refused_version_is_itemised_and_the_old_one_stays(world):
    before = on_offer(world, "old", "flat")
    quiet, peak = (0,) * 24, (0,) * 12 + (1,) * 6 + (0,) * 6
    schedule, prices = Schedule((peak,) * 12, (quiet,) * 12), flat_tariff("flat", "old").energy.periods
    tariff = flat_tariff("flat", "old", energy=TariffProfile(schedule, prices * 2))
    good = messages.encode(ChangeTariff(world.header("old", "change", "Tariff"), tariff)).decode()
    hours = "<startHour>12</startHour><endHour>18</endHour>"
    assert good.count(hours) == 1
    raw = good.replace(hours, "<startHour>13</startHour><endHour>18</endHour>").encode()
    told = world.post(seal(raw, world.keys["old"], now_utc_ms()))
    assert (told.code, told.is_signed) == ("tariff-refused", True)
    told.check_schema()
    assert told.texts("xpath") == ["energy/weekday/month 1/hour 12"]
    assert on_offer(world, "old", "flat") == before


@pytest.mark.parametrize(
    ("changes", "kind", "code", "place"),
    [
        ({"supplier": "new"}, CreateTariff, "tariff-refused", ["supplier"]),
        ({"zone": "Europe/Atlantis"}, CreateTariff, "tariff-refused", ["zone"]),
        ({"id": "flat"}, CreateTariff, "already-exists", []),
        ({"id": "never-offered"}, ChangeTariff, "not-found", []),
    ],
)
def test_an_offer_is_held_against_its_sender_and_what_is_on_file(world, changes, kind, code, place):
    told = offer(world, "old", replace(flat_tariff("other", "old"), **changes), kind)
    assert (told.code, told.texts("xpath")) == (code, place)
    assert on_offer(world, "old") == [tariff_messages.encode(flat_tariff("flat", "old"))]


def test_a_supplier_sees_its_own_offers_and_others_those_of_the_tenant(world):
    assert len(on_offer(world, "new")) == 1
    assert sorted(on_offer(world, "jones")) == sorted(on_offer(world, "new") + on_offer(world, "old"))


def test_a_new_version_takes_the_place_of_the_old(world):
    name = f"versions-{secrets.token_hex(4)}"
    assert offer(world, "net", flat_tariff(name, "net")).code == "ok"
    changed = flat_tariff(name, "net", "0.11")
    assert offer(world, "net", changed, ChangeTariff).code == "ok"
    assert on_offer(world, "net", name) == [tariff_messages.encode(changed)]


# --- a change of supplier --------------------------------------------------------------------------------------------


def test_a_change_of_supplier_from_request_to_readings(world):
    today = now_utc_ms() // 1000 // DAY * DAY
    first, change = today - 30 * DAY, today - DAY
    asked = request(world, "old", "C-1", first)
    raw = seal(messages.encode(asked), world.keys["old"], now_utc_ms())
    told = world.post(raw)
    assert told.code == "ok", told.raw
    assert world.post(raw).raw == told.raw, "the same message again gets the same answer"
    assert contracts(world, "old")["C-1"]["status"] == "requested"
    # Nobody's to decide but the utility's, an operator's or the customer's; who has no part in it learns nothing.
    assert decide(world, "old", "C-1", "old", "confirmed").code == "not-granted"
    assert decide(world, "new", "C-1", "old", "rejected", "mine").code == "not-granted"
    assert reads(world, "old") == "not-granted"
    assert decide(world, "jones", "C-1", "old", "confirmed").code == "ok"
    assert decide(world, "net", "C-1", "old", "confirmed").code == "contract-refused"
    assert reads(world, "old") == "ok"

    assert world.call(request(world, "new", "C-2", today)).code == "ok"
    assert decide(world, "net", "C-2", "new", "confirmed", "", change).code == "ok"
    mine, theirs = contracts(world, "old")["C-1"], contracts(world, "new")["C-2"]
    assert (mine["status"], mine["reason"]) == ("ended", "replaced by contract C-2 of new")
    assert mine["endDate"] == theirs["startDate"]  # to the second: nobody bills twice, nobody not at all
    assert (theirs["status"], theirs["kind"], theirs["cycleDay"]) == ("confirmed", "both", "17")
    assert contracts(world, "new").keys() == {"C-2"}
    assert contracts(world, "net").keys() >= {"C-1", "C-2"}
    (ends,) = {grant.to_utc for grant in world_grants(world, "old")}
    assert ends == change
    assert reads(world, "new") == "ok"

    # Each is told of its own by its mailbox, and of no other.
    until(lambda: mailed(world, "old", "C-1") == ["requested", "confirmed", "ended"])
    until(lambda: mailed(world, "new", "C-2") == ["requested", "confirmed"])
    assert mailed(world, "old", "C-2") == mailed(world, "new", "C-1") == mailed(world, "net", "C-1") == []


def reads(world, partner: str) -> str:
    return world.call(GetMeterReadings(world.header(partner, "get", "MeterReadings"), Query((POINT,)))).code


def world_grants(world, partner: str):
    store = world.store()
    found = store.grants(partner)
    store.close()
    return found


def mailed(world, partner: str, contract: str) -> list[str]:
    """The states of a contract in a mailbox."""
    told = world.call(PeekMailbox(world.header(partner, "get", "Mailbox")))
    told.check_schema()
    found = told.body.iter(ns.q(ns.SUPPLY, "Contract"))
    return [one.findtext("{*}status") for one in found if one.findtext("{*}mRID") == contract]


@pytest.mark.parametrize(
    ("decision", "code", "reason"),
    [
        (("rejected", "no such customer"), "ok", ""),
        (("confirmed", "", 60), "contract-refused", "in force at the effective date"),  # the tariff begins later
        (("ended", "", 0, 100), "ok", ""),
    ],
)
def test_a_request_is_decided_once_and_by_its_terms(world, decision, code, reason):
    name = f"C-{secrets.token_hex(4)}"
    later = flat_tariff(f"T-{name}", "old", valid_from_utc=now_utc_ms() // 1000 - DAY)
    assert offer(world, "old", later).code == "ok"
    asked = Supply(name, "Mr Jones", POINT, later.id, now_utc_ms() // 1000)
    assert world.call(CreateContract(world.header("old", "create", "Contract"), asked)).code == "ok"
    told = decide(world, "net", name, "old", *decision)
    assert told.code == code
    assert re.search(reason, told.reason)
    again = decide(world, "net", name, "old", "rejected", "again")
    assert again.code == ("ok" if code != "ok" else "contract-refused")
    assert contracts(world, "old")[name]["status"] == "rejected"


def test_a_contract_needs_a_tariff_a_place_and_an_id_of_its_own(world):
    from_utc = now_utc_ms() // 1000
    asked = Supply("C-9", "Mr Jones", POINT, "flat", from_utc)

    def code(**changes):
        header = world.header("old", "create", "Contract")
        return world.call(CreateContract(header, asked._replace(**changes))).code

    assert code(tariff="no such") == "contract-refused"
    assert code(usage_point="UP-M-IED-south") == code(usage_point="UP-of-nobody") == "not-granted"
    assert code() == "ok"
    assert code() == "already-exists"


# --- a comparison ----------------------------------------------------------------------------------------------------


def test_a_comparison_is_exact_and_names_what_it_rests_on(world):
    last = now_utc_ms() // 900_000 * 900
    # The day of readings was sent some minutes ago: 80 of its intervals are surely over, and there.
    old, new = Offer((("old", "flat"),)), Offer((("new", "flat"),))
    compared = Compared(POINT, last - 90 * 900, last - 10 * 900, (new,), old)
    told = world.call(GetTariffComparison(world.header("jones", "get", "TariffComparison"), compared))
    assert told.code == "ok", told.raw
    told.check_schema()
    # 80 x 5 kWh = 400 kWh: 40.00 at 0.10, 32.00 at 0.08.
    assert told.texts("low") == told.texts("high") == ["40.00", "32.00"]
    assert (told.texts("answer"), told.texts("best")[0], told.texts("savingLow")) == (["switch"], "new/flat", ["8.00"])
    assert re.fullmatch(r"0:\d+", told.property("dataVersion"))
    # Of what is on offer, a tariff in another currency is left out.
    assert offer(world, "net", flat_tariff("dollars", "net", currency="USD")).code == "ok"
    again = compared._replace(at=told.property("dataVersion"), bids=())
    offers = world.call(GetTariffComparison(world.header("net", "get", "TariffComparison"), again))
    costs = dict(zip(offers.texts("bid"), offers.texts("low"), strict=True))
    assert (costs["old/flat"], costs["new/flat"]) == ("40.00", "32.00")
    assert "net/dollars" not in costs


def test_a_version_that_begins_later_does_not_hide_the_one_in_force(world):
    later = flat_tariff("soon", "new", "0.50", valid_from_utc=now_utc_ms() // 1000 + DAY)
    assert offer(world, "new", flat_tariff("soon", "new", "0.08")).code == "ok"
    assert offer(world, "new", later, ChangeTariff).code == "ok"
    last = now_utc_ms() // 900_000 * 900
    for bids in ((Offer((("new", "soon"),)),), ()):
        compared = Compared(POINT, last - 90 * 900, last - 10 * 900, bids, Offer((("old", "flat"),)))
        told = world.call(GetTariffComparison(world.header("net", "get", "TariffComparison"), compared))
        costs = dict(zip(told.texts("bid"), told.texts("low"), strict=True))
        assert costs["new/soon"] == "32.00", told.raw  # 400 kWh at 0.08


def test_who_may_not_read_may_not_compare(world):
    compared = Compared("UP-M-IED-north", 1, 2, (Offer((("new", "flat"),)),), Offer((("new", "flat"),)))
    told = world.call(GetTariffComparison(world.header("new", "get", "TariffComparison"), compared))
    assert told.code == "not-granted"
    # Nor is a supplier told what another's tariff costs.
    mine = compared._replace(usage_point=POINT, present=Offer((("old", "flat"),)))
    assert world.call(GetTariffComparison(world.header("new", "get", "TariffComparison"), mine)).code == "not-granted"


# --- zeep ------------------------------------------------------------------------------------------------------------


def test_zeep_offers_and_compares_by_the_wsdl_the_bus_serves(world):
    world.add_partner("by-zeep", Role.UTILITY, TENANT, Ways(signature=False, username=True))
    session = http.Session()
    session.trust_env, session.verify = False, str(world.bus.folder.parent / "ca.pem")
    address = world.tls().address + "/supplier?wsdl"
    client = zeep.Client(address, UsernameToken("by-zeep", PASSWORD), transport=zeep.Transport(session=session))

    def header(verb: str, noun: str) -> dict[str, object]:
        identity = {"Source": "by-zeep", "MessageID": f"zeep-{verb}-{noun}", "Timestamp": datetime.now(UTC)}
        return {"Verb": verb, "Noun": noun, **identity}

    always = [
        {"dayKind": kind, "firstMonth": 1, "lastMonth": 12, "startHour": 0, "endHour": 24}
        for kind in ("weekday", "weekend")
    ]
    tier = {"startValue": "0", "unit": "kWh", "tariffCycle": "cycle", "Charge": {"variablePortion": "0.125"}}
    period = {"sequenceNumber": 0, "Hours": always, "ConsumptionTariffInterval": [tier]}
    tariff = {
        "mRID": "Z-1", "supplier": "by-zeep", "name": "by zeep", "kind": "both", "currency": "EUR", "zone": "Etc/UTC",
        "EnergyProfile": {"TimeTariffInterval": [period]},
    }  # fmt: skip
    offered = client.service.OfferTariff(Header=header("create", "Tariff"), Payload={"Tariff": tariff})
    assert offered.Payload.Receipt.sender == "by-zeep"
    options = {"usagePoint": POINT, "bid": "by-zeep/Z-1", "present": "old/flat"}
    last = datetime.fromtimestamp(now_utc_ms() // 900_000 * 900, UTC)
    asked = {
        "StartTime": last - timedelta(hours=20), "EndTime": last - timedelta(hours=10),
        "Option": [{"name": name, "value": value} for name, value in options.items()],
    }  # fmt: skip
    told = client.service.CompareTariffs(Header=header("get", "TariffComparison"), Request=asked)
    found = told.Payload.TariffComparison
    # 40 x 5 kWh = 200 kWh: 20.00 at 0.10, 25.00 at 0.125.
    assert (found.answer, [one.high for one in found.BidCost]) == ("stay", [Decimal("20.00"), Decimal("25.00")])


def test_the_log_holds_what_the_signed_messages_say(world):
    """Each document on file must stand in the message of its entry: `gridpost log check` recomputes it."""
    told = run("log", "check", "--config", world.bus.config, "--json")
    assert told.returncode == 0, told.stdout
    store = world.store()
    assert store.documents("tariff", owner="old")
    store.close()
