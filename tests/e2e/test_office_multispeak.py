"""MultiSpeak on the office listener: zeep, built from the WSDL that is served, over TLS; rights as everywhere."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import requests as http
import zeep
from live_bus import now_utc_ms
from office_world import PASSWORD

from gridpost import messages
from gridpost.controls import Role
from gridpost.model import ChannelKey, CreatedMeterReadings, Header, Readings, RegisterReading
from gridpost.partners import Ways

TYPE = "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
DAY = 86_400


@pytest.fixture(scope="module")
def world(office_world):
    """The shared world; both IEDs have three register readings, one a day."""
    for name, ways in (("cis", Ways(signature=False, username=True)), ("cis-bare", Ways(username=True))):
        office_world.add_partner(name, Role.UTILITY, "north", ways, **({} if name == "cis" else {"kinds": ()}))
    for tenant, device in office_world.devices.items():
        registers = tuple(
            RegisterReading(channel_of(office_world, tenant), moment(day), f"{100 + day}.5") for day in range(3)
        )
        header = Header("created", "MeterReadings", now_utc_ms(), device.serial, f"dials-{tenant}", sequence=9)
        raw = device.seal(messages.encode(CreatedMeterReadings(header, Readings((), registers))))
        assert office_world.bus.wire.post(raw)[0] == 200
    return office_world


def channel_of(world, tenant: str) -> ChannelKey:
    store = world.store()
    key = store.channels(sender=f"IED-{tenant}")[0].key
    store.close()
    return key._replace(reading_type=TYPE)


def moment(day: int) -> int:
    return now_utc_ms() // 1000 // DAY * DAY - DAY * (3 - day)


def client(world, short: str, user: str = "cis", scheme: str = "https"):
    """A function that asks, as a customer information system's own toolkit would."""
    base = (world.tls() if scheme == "https" else world.plain).address
    session = http.Session()
    session.trust_env, session.verify = False, str(world.bus.folder.parent / "ca.pem")
    made = zeep.Client(f"{base}/multispeak/{short}?wsdl", transport=zeep.Transport(session=session))
    space = {"v3": "http://www.multispeak.org/Version_3.0", "v4": "http://www.multispeak.org/Version_4.1_Release"}[
        short
    ]
    header = made.get_element(f"{{{space}}}MultiSpeakMsgHeader")(UserID=user, Pwd=PASSWORD)

    def ask(operation, **arguments):
        answer = made.service[operation](_soapheaders=[header], **arguments)
        body = answer.body
        return answer.header, body[next(iter(body))] if hasattr(body, "__values__") else body

    return ask


def values(result):
    return [(one.meterNo, [value.value for value in one.readingValues.readingValue]) for one in result.meterRead]


PERIOD = {"startDate": datetime(2020, 1, 1, tzinfo=UTC), "endDate": datetime(2099, 1, 1, tzinfo=UTC)}


def test_a_cis_reads_what_its_partner_is_granted_and_nothing_of_another_tenant(world):
    ask = client(world, "v3")
    mine, other = "M-IED-north", "M-IED-south"
    header, result = ask("GetReadingsByDate", **PERIOD)
    assert [meter for meter, _ in values(result)] == [mine] * 3
    assert header["MultiSpeakMsgHeader"].ObjectsRemaining in (0, None)
    _, newest = ask("GetLatestReadingByMeterNo", meterNo=mine)
    assert (newest.meterNo, [one.value for one in newest.readingValues.readingValue]) == (mine, ["102.5"])
    assert ask("GetReadingsByMeterNo", meterNo=other, **PERIOD)[1] in (None, [])
    assert ask("GetLatestReadingByMeterNo", meterNo=other)[1] is None
    # A billing cycle is the group of that name; the groups of both tenants are called `all`.
    today = datetime.now(UTC).replace(microsecond=0)
    look = {"billingDate": today, "kWhLookBack": 30, "kWLookBack": 0, "kWLookForward": 0}
    _, table = ask("GetReadingsByBillingCycle", billingCycle="all", **look)
    rows = str(table)
    assert mine in rows
    assert other not in rows
    assert client(world, "v3", "cis-bare")("GetReadingsByDate", **PERIOD)[1] in (None, [])


@pytest.mark.parametrize("short", ["v3", "v4"])
def test_a_switch_asked_for_becomes_a_proposal_once(world, short):
    ask, name = client(world, short), f"tx-{short}"
    meters = ["M-IED-north", "M-IED-south"]

    def event(meter):
        named = {"meterNo": meter} if short == "v3" else {"meterID": {"_value_1": meter, "meterNo": meter}}
        return named | {"loadActionCode": "Disconnect"}

    events = {"connectDisconnectEvent": [event(meter) for meter in meters]}
    for _ in range(2):
        _, refused = ask("InitiateConnectDisconnect", cdEvents=events, transactionID=name, expirationTime=600.0)
        assert [(one.objectID, one.nounType) for one in refused.errorObject] == [("M-IED-south", "not-granted")]
    store = world.store()
    (made,) = store.tracked("cis", name)
    store.close()
    assert (made.control.action, made.control.target, made.control.output) == ("shed", "IED-north", "load")
    assert (made.state.value, made.steps[0].by) == ("proposed", "cis")


def test_a_transaction_of_two_actions_makes_a_proposal_of_each(world):
    events = [{"meterNo": "M-IED-north", "loadActionCode": code} for code in ("Disconnect", "Connect")]
    ask = client(world, "v3")
    _, refused = ask(
        "InitiateConnectDisconnect", cdEvents={"connectDisconnectEvent": events},
        transactionID="tx-both", expirationTime=600.0,
    )  # fmt: skip
    assert refused is None or not refused.errorObject
    store = world.store()
    made = [one.control for action in ("shed", "restore") for one in store.tracked("cis", f"tx-both#{action}")]
    store.close()
    assert [one.action for one in made] == ["shed", "restore"]


def test_a_meter_is_asked_to_read_now(world):
    ask = client(world, "v3")
    _, refused = ask(
        "InitiateMeterReadByMeterNumber", meterNos={"string": ["M-IED-north", "M-IED-south"]}, transactionID="read-1"
    )
    assert [one.objectID for one in refused.errorObject] == ["M-IED-south"]
    store = world.store()
    (made,) = store.tracked("cis", "read-1")
    store.close()
    assert (made.control.action, made.control.data) == ("request-data", ())


def test_whoever_does_not_prove_itself_is_told_one_thing_and_an_address_of_ones_own_counts_for_nothing(world):
    for ask in (client(world, "v3", "nobody"), client(world, "v3", scheme="http")):
        with pytest.raises(zeep.exceptions.Fault, match=r"^not-authenticated"):
            ask("PingURL")
    ask = client(world, "v3")
    with pytest.raises(zeep.exceptions.Fault, match=r"^reply-address-refused: "):
        ask(
            "InitiateMeterReadByMeterNumber", meterNos={"string": ["M-IED-north"]}, responseURL="https://other.example/"
        )
    assert world.bus.errors() == ""
    secret = PASSWORD in (world.bus.folder / "audit.jsonl").read_text()
    assert not secret
