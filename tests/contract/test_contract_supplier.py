"""zeep reads supplier.wsdl as served and calls every operation; xmlschema, a second engine, judges what we answer."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal as D

import pytest
import xmlschema
import zeep
from lxml import etree

from gridpost import comparison_messages, messages, ns, office_messages, schemas, supply_messages, tariff_messages
from gridpost.applications.comparison import Comparison, Cost, Difference
from gridpost.errors import SchemaInvalid, TariffRefused
from gridpost.model import Counts, Header, Position, Receipt
from gridpost.requests import Query
from gridpost.supply import Compared, CreatedContract, Decision, Offer, Sought, Supply
from gridpost.tariff import Fixed, Schedule, Tariff, TariffProfile, Tier

AT = datetime(2026, 3, 1, tzinfo=UTC)
AT_UTC = 1_772_323_200  # the same, by date -d
LATER = datetime(2027, 3, 1, tzinfo=UTC)
LATER_UTC = AT_UTC + 365 * 86_400
ALWAYS = ((0,) * 24,) * 12
TARIFF = Tariff(
    id="T1", supplier="acme", name="Flat", currency="EUR", zone="Europe/Berlin", kind="energy", valid_from_utc=AT_UTC,
    energy=TariffProfile(Schedule(ALWAYS, ALWAYS), ((Tier(D("0.31")),),)),
    fixed=(Fixed("standing charge", D("9.50")),), holidays=frozenset((date(2026, 12, 25),)),
)  # fmt: skip
HOURS = [
    {"dayKind": kind, "firstMonth": 1, "lastMonth": 12, "startHour": 0, "endHour": 24}
    for kind in ("weekday", "weekend")
]
TARIFF_BY_TOOLKIT = {
    "mRID": "T1", "supplier": "acme", "name": "Flat", "kind": "energy", "currency": "EUR", "zone": "Europe/Berlin",
    "startDate": AT,
    "EnergyProfile": {"TimeTariffInterval": [{
        "sequenceNumber": 0, "Hours": HOURS,
        "ConsumptionTariffInterval": [{
            "startValue": "0", "unit": "kWh", "tariffCycle": "cycle", "Charge": {"variablePortion": "0.31"},
        }],
    }]},
    "FixedCharge": [{"name": "standing charge", "fixedPortion": "9.50", "per": "month"}],
    "holiday": [date(2026, 12, 25)],
}  # fmt: skip
CONTRACT = Supply("C-1", "Mr Jones", "UP1", "T1", AT_UTC, LATER_UTC, 17)
TOLD = CONTRACT._replace(supplier="acme", kind="energy", status="rejected", reason="arrears")
CONTRACT_BY_TOOLKIT = {
    "mRID": "C-1", "customer": "Mr Jones", "usagePoint": "UP1", "tariff": "T1", "startDate": AT, "endDate": LATER,
    "cycleDay": 17,
}  # fmt: skip
DECISION = Decision("C-1", "acme", "ended", "moved out", 0, LATER_UTC)
RECEIPT = Receipt("m-1", "acme", bytes(32), (), AT_UTC * 1000, Position(0, 41), bytes(32), Counts(1, 0, 0))
FOUND = Comparison(
    "not enough data", "acme/T1", (D("-1.5"), D("2.25")),
    (Cost("acme/T0+net/N", D(10), D(11), True, ()), Cost("acme/T1", D("8.75"), D("11.5"), False, ())),
    (Difference("energy", D(10), D("8.75")),), (("UP1 kWh", AT_UTC), ("UP1 kvarh", AT_UTC)),
)  # fmt: skip


def head(noun: str) -> Header:
    return office_messages.reply_to(Header("get", noun, 0, "acme", "m-1"), "bus", AT_UTC * 1000)


def stored(noun: str) -> bytes:
    return office_messages.encode_ok_reply(noun, head(noun), RECEIPT)


def options(**values: object) -> list[dict[str, str]]:
    pairs = [(name, one) for name, value in values.items() for one in (value if isinstance(value, list) else [value])]
    return [{"name": name, "value": value} for name, value in pairs]


# Operation -> verb, noun, what zeep is given, what it must come to, our answer.
CALLS = {
    "OfferTariff": (
        "create", "Tariff", {"Payload": {"Tariff": TARIFF_BY_TOOLKIT}}, {"tariff": TARIFF}, stored("Tariff"),
    ),
    "ReviseTariff": (
        "change", "Tariff", {"Payload": {"Tariff": TARIFF_BY_TOOLKIT}}, {"tariff": TARIFF}, stored("Tariff"),
    ),
    "QueryTariff": (
        "get", "Tariff", {"Request": {"ID": ["T1"], "Option": options(supplier="acme", limit="5", page="p")}},
        {"sought": Sought(("T1",), ("acme",), limit=5, page="p")},
        supply_messages.encode_tariffs_reply(head("Tariff"), [tariff_messages.encode(TARIFF)] * 2, "p2"),
    ),
    "RequestContract": (
        "create", "Contract", {"Payload": {"Contract": CONTRACT_BY_TOOLKIT}}, {"contract": CONTRACT},
        stored("Contract"),
    ),
    "DecideContract": (
        "change", "Contract",
        {"Payload": {"ContractDecision": {"mRID": "C-1", "supplier": "acme", "status": "ended", "reason": "moved out",
                                          "endDate": LATER}}},
        {"decision": DECISION}, stored("Contract"),
    ),
    "QueryContract": (
        "get", "Contract", {"Request": {"Option": options(usagePoint=["UP1", "UP2"])}},
        {"sought": Sought(usage_points=("UP1", "UP2"))},
        supply_messages.encode_contracts_reply(head("Contract"), [TOLD]),
    ),
    "CompareTariffs": (
        "get", "TariffComparison",
        {"Request": {"StartTime": AT, "EndTime": LATER, "Option": options(
            usagePoint="UP1", bid=["acme/T1", "acme/T2+net/N"], present="acme/T0+net/N", switchingCost="2.50",
            zone="Europe/Berlin", cycleDay="17", dataVersion="0:7",
        )}},
        {"compared": Compared(
            "UP1", AT_UTC, LATER_UTC, (Offer((("acme", "T1"),)), Offer((("acme", "T2"), ("net", "N")))),
            Offer((("acme", "T0"), ("net", "N"))), D("2.50"), "Europe/Berlin", 17, "0:7",
        )},
        comparison_messages.encode_comparison_reply(head("TariffComparison"), FOUND, "EUR", "0:7"),
    ),
    "QueryMeterReadings": (
        "get", "MeterReadings", {"Request": {"Option": options(usagePoint="UP1")}}, {"query": Query(("UP1",))},
        office_messages.encode_ok_reply("MeterReadings", head("MeterReadings")),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def client(supplier_peer):
    with zeep.Client(supplier_peer.url + "?wsdl") as client:
        yield client


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """xmlschema on the same files."""
    folder = tmp_path_factory.mktemp("contract")
    for name, content in schemas.documents().items():
        (folder / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        for kind in xmlschema.XMLSchema.__mro__:  # see test_contract_schemas.py
            if "__provides__" in vars(kind):
                patch.delattr(kind, "__provides__")
        yield xmlschema.XMLSchema(str(folder / "supply.xsd"), allow="local")


def called(client, peer, name: str):
    """What zeep makes of our answer, and the Body's child it sent."""
    verb, noun, given, _, answer = CALLS[name]
    peer.answer = b'<s:Envelope xmlns:s="%s"><s:Body>%s</s:Body></s:Envelope>' % (ns.SOAP11.encode(), answer)
    peer.requests.clear()
    header = {"Verb": verb, "Noun": noun, "Timestamp": AT, "Source": "acme", "MessageID": "m-1"}
    told = getattr(client.service, name)(Header=header, **given)
    ((action, sent),) = peer.requests
    (element,) = etree.fromstring(sent).find(f"{{{ns.SOAP11}}}Body")
    assert action.strip('"') == schemas.SUPPLIER_ACTIONS[element.tag]
    return told, element


def test_every_operation_is_called_here(client):
    assert set(client.service._operations) == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_what_zeep_asks_is_valid_and_means_what_was_given(client, supplier_peer, name):
    told, element = called(client, supplier_peer, name)
    schemas.validate(element)
    message = messages.decode(element)
    verb, noun, _, expected, _ = CALLS[name]
    assert message.header == Header(verb, noun, AT_UTC * 1000, "acme", "m-1")
    assert {field: getattr(message, field) for field in expected} == expected
    assert (told.Reply.Result, told.Header.CorrelationID) == ("OK", "m-1")
    # And we ask the same in the same words.
    again = etree.fromstring(messages.encode(message))
    schemas.validate(again)
    assert messages.decode(again) == message


@pytest.mark.parametrize("name", [name for name in CALLS if name != "QueryMeterReadings"])
def test_a_second_engine_accepts_every_question_and_answer(client, supplier_peer, engine, name):
    _, element = called(client, supplier_peer, name)
    for one in (element, etree.fromstring(CALLS[name][4])):
        assert list(engine.iter_errors(one)) == []
        canonical = etree.tostring(one, method="c14n", exclusive=True)
        assert canonical == CALLS[name][4] or one is element


def test_zeep_reads_what_it_is_told(client, supplier_peer):
    told, _ = called(client, supplier_peer, "OfferTariff")
    assert (told.Payload.Receipt.seq, told.Payload.Tariffs) == (41, None)
    told, _ = called(client, supplier_peer, "QueryTariff")
    tariff, _ = told.Payload.Tariffs.Tariff
    (period,) = tariff.EnergyProfile.TimeTariffInterval
    assert period.ConsumptionTariffInterval[0].Charge.variablePortion == D("0.31")
    assert [one.endHour for one in period.Hours] == [24, 24]
    assert told.Header.Property[0].Value == "p2"
    told, _ = called(client, supplier_peer, "QueryContract")
    (contract,) = told.Payload.Contracts.Contract
    assert (contract.status, contract.reason, contract.startDate, contract.cycleDay) == ("rejected", "arrears", AT, 17)
    told, _ = called(client, supplier_peer, "CompareTariffs")
    found = told.Payload.TariffComparison
    assert (found.answer, found.savingLow, found.savingHigh) == ("not enough data", D("-1.5"), D("2.25"))
    assert [(one.bid, one.low, one.bounded) for one in found.BidCost] == [
        ("acme/T0+net/N", D(10), True),
        ("acme/T1", D("8.75"), False),
    ]
    assert (found.uncertain, found.uncertainInterval) == (2, [AT])


def test_what_a_mailbox_tells_of_contracts_is_of_the_schema(engine):
    told = messages.encode(CreatedContract(Header("created", "Contract", AT_UTC * 1000, "bus", "m-2"), (TOLD,)))
    assert list(engine.iter_errors(etree.fromstring(told))) == []


def changed(client, peer, name: str, old: str, new: str):
    _, element = called(client, peer, name)
    text = etree.tostring(element).decode()
    assert old in text
    return etree.fromstring(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("DecideContract", ">ended<", ">requested<", "is no decision"),
        ("DecideContract", "2027-03-01T00:00:00Z", "2027-03-01T00:00:00", "zone"),
        ("RequestContract", "2027-03-01", "2026-03-01", "ends before it begins"),
        ("CompareTariffs", ">acme/T1<", ">T1<", "supplier/tariff"),
        ("CompareTariffs", "2027-03-01", "2026-02-01", "EndTime behind it"),
        ("CompareTariffs", ">2.50<", ">NaN<", "not a decimal"),
        ("CompareTariffs", ">17<", ">0<", "1 to 31"),
    ],
)
def test_what_the_schema_lets_pass_and_we_do_not(client, supplier_peer, name, old, new, says):
    element = changed(client, supplier_peer, name, old, new)
    schemas.validate(element)
    with pytest.raises(SchemaInvalid, match=says):
        messages.decode(element)


def test_a_tariff_that_cannot_be_billed_is_refused_while_it_is_read(client, supplier_peer):
    element = changed(client, supplier_peer, "OfferTariff", "endHour>24<", "endHour>23<")
    schemas.validate(element)
    with pytest.raises(TariffRefused, match="a hole of 12 hours"):
        messages.decode(element)
