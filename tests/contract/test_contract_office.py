"""zeep reads utility.wsdl as served and calls every operation; xmlschema, a second engine, judges what we answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import xmlschema
import zeep
from lxml import etree

from gridpost import completeness_messages, control_messages, messages, ns, office_messages, schemas
from gridpost.applications.completeness import Counts as Counted
from gridpost.applications.completeness import OfChannel
from gridpost.controls import Control, State, Wanted
from gridpost.errors import SchemaInvalid
from gridpost.model import (
    Channel,
    ChannelKey,
    Counts,
    EndDeviceEvent,
    Header,
    IntervalBlock,
    Position,
    Readings,
    Receipt,
    Reference,
)
from gridpost.requests import Mail, MeterConfig, Query

KWH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
AT = datetime(2026, 3, 1, tzinfo=UTC)
AT_MS = 1_772_323_200_000  # the same, by date -d
RECEIPT = Receipt(
    message_id="m-1",
    sender="acme",
    content_digest=bytes(32),
    references=(Reference("#body", ns.EXC_C14N, "", ns.SHA256, "AA=="),),
    recorded_at_utc_ms=AT_MS,
    position=Position(0, 41),
    root_before=bytes(32),
    counts=Counts(1, 0, 0),
)
CHANNEL = Channel(ChannelKey("UP1", "M1", "E1", KWH), "kWh", 900, "Etc/UTC")
CONTROL = Control("0-41-0", "acme", "utility", "s-1", "reduce", "IED-7", value="12.5", unit="kW", counter=7)


@pytest.fixture(scope="module")
def client(utility_peer):
    with zeep.Client(utility_peer.url + "?wsdl") as client:
        yield client


def header(verb: str, noun: str) -> dict[str, object]:
    return {"Verb": verb, "Noun": noun, "Timestamp": AT, "Source": "acme", "MessageID": "m-1"}


def options(**values: str) -> dict[str, object]:
    return {"Option": [{"name": name, "value": value} for name, value in values.items()]}


CONTROLS = {
    "EndDeviceControls": {
        "EndDeviceControl": [
            {
                "mRID": "s-1",
                "EndDeviceControlType": {"ref": "3.15.0.139"},
                "EndDevices": [{"mRID": "IED-7"}],
                "primaryDeviceTiming": {"interval": {"end": AT}},
                "Instruction": {"output": "boiler", "value": Decimal("12.5"), "unit": "kW", "priority": 1},
            }
        ]
    }
}
WANTED = Wanted("s-1", "reduce", ("IED-7",), output="boiler", value="12.5", unit="kW", expires_utc_ms=AT_MS, priority=1)
METERS = {
    "MeterConfig": {
        "Meter": [
            {
                "mRID": "M1",
                "UsagePoint": {"mRID": "UP1"},
                "Channels": {
                    "ied": "IED-7",
                    "Channel": [
                        {
                            "readingType": KWH,
                            "stream": "E1",
                            "unit": "kWh",
                            "intervalSeconds": 900,
                            "zone": "Etc/UTC",
                        }
                    ],
                },
            }
        ]
    }
}
CONFIG = MeterConfig("M1", "UP1", "IED-7", (CHANNEL,))


def reply(noun: str) -> Header:
    return Header("reply", noun, AT_MS, "bus", correlation_id="m-1")


def ok(noun: str) -> bytes:
    return office_messages.encode_ok_reply(noun, reply(noun), RECEIPT)


CONTROLS_TOLD = control_messages.encode_controls_reply(
    reply("EndDeviceControls"), [(CONTROL, State.HELD, "too many")], RECEIPT
)
CONFIG_TOLD = office_messages.encode_meter_config_reply(reply("MeterConfig"), [CONFIG], "p2", RECEIPT)
BLOCK = IntervalBlock(CHANNEL.key, 900, (AT_MS // 1000,), ("0.125",), ((),))
READINGS_TOLD = office_messages.encode_meter_readings_reply(reply("MeterReadings"), Readings((BLOCK,)), "p2", "0:7")
EVENTS_TOLD = office_messages.encode_end_device_events_reply(
    reply("EndDeviceEvents"), [EndDeviceEvent("ev1", "3.26.0.85", AT_MS, "M1")], "", "0:7"
)
MAIL = Mail("acme", "step", "EndDeviceControls", CONTROLS_TOLD, "m-0", 0, 41, 0, AT_MS, 17)
MAILS_TOLD = office_messages.encode_mail_reply(reply("Mailbox"), [MAIL], 3)

HALF_AN_HOUR = (AT_MS // 1000, AT_MS // 1000 + 1800)
COMPLETENESS_TOLD = completeness_messages.encode_completeness_reply(
    office_messages.reply_to(Header("get", "Completeness", 0, "acme", "m-1"), "bus", AT_MS),
    [
        completeness_messages.Counted(
            OfChannel(CHANNEL.key, 900, "Etc/UTC", Counted(2976, 2974, 1, 3), (), 4, (HALF_AN_HOUR,)),
            AT_MS // 1000,
            AT_MS // 1000 + 31 * 86_400,
        )
    ],
    "0:7",
)
# Operation -> verb, noun, what zeep is given, what we decode it to (besides the header), what we answer.
CALLS = {
    "QueryCompleteness": (
        "get",
        "Completeness",
        {"Request": {"StartTime": AT, **options(meter="M1", dataVersion="0:7")}},
        {"query": Query(meters=("M1",), from_utc=AT_MS // 1000, at="0:7")},
        COMPLETENESS_TOLD,
    ),
    "QueryMeterReadings": (
        "get",
        "MeterReadings",
        {"Request": {"StartTime": AT, **options(usagePoint="UP1", limit="5")}},
        {"query": Query(("UP1",), from_utc=AT_MS // 1000, limit=5)},
        READINGS_TOLD,
    ),
    "RequestMeterReadings": (
        "create",
        "MeterReadings",
        {"Request": options(meter="M1")},
        {"query": Query(meters=("M1",))},
        ok("MeterReadings"),
    ),
    "WithdrawMeterReadings": (
        "cancel",
        "MeterReadings",
        {"Request": {"ID": ["m-0"]}},
        {"ids": ("m-0",)},
        ok("MeterReadings"),
    ),
    "QueryEndDeviceEvents": ("get", "EndDeviceEvents", {}, {"query": Query()}, EVENTS_TOLD),
    "QueryEndDeviceControls": (
        "get",
        "EndDeviceControls",
        {"Request": {"ID": ["s-1"], **options(state="held")}},
        {"ids": ("s-1",), "states": ("held",)},
        CONTROLS_TOLD,
    ),
    "RequestEndDeviceControls": (
        "create",
        "EndDeviceControls",
        {"Payload": CONTROLS},
        {"wanted": (WANTED,)},
        CONTROLS_TOLD,
    ),
    "ReplaceEndDeviceControls": (
        "change",
        "EndDeviceControls",
        {"Payload": CONTROLS},
        {"wanted": (WANTED,)},
        CONTROLS_TOLD,
    ),
    "WithdrawEndDeviceControls": (
        "cancel",
        "EndDeviceControls",
        {"Request": {"ID": ["s-1"]}},
        {"ids": ("s-1",)},
        CONTROLS_TOLD,
    ),
    "QueryMeterConfig": (
        "get",
        "MeterConfig",
        {"Request": options(meter="M1")},
        {"query": Query(meters=("M1",))},
        CONFIG_TOLD,
    ),
    "EnrolMeterConfig": ("create", "MeterConfig", {"Payload": METERS}, {"configs": (CONFIG,)}, CONFIG_TOLD),
    "AmendMeterConfig": ("change", "MeterConfig", {"Payload": METERS}, {"configs": (CONFIG,)}, ok("MeterConfig")),
    "ReadMailbox": ("get", "Mailbox", {"Request": options(limit="20")}, {"limit": 20}, MAILS_TOLD),
    "CommitMailbox": ("delete", "Mailbox", {"Request": options(upTo="17")}, {"up_to": 17}, ok("Mailbox")),
}


def test_zeep_reads_what_is_missing(client, utility_peer):
    told, _ = called(client, utility_peer, "QueryCompleteness")
    found = told.Payload.Completeness
    assert found.told == "2,974 of 2,976, 1 estimated, 3 corrected"
    (channel,) = found.ChannelCompleteness
    assert (channel.expected, channel.present, channel.conflicting, channel.stream) == (2976, 2974, 4, "E1")
    assert [(gap.start, gap.end) for gap in channel.Gap] == [(AT, AT + timedelta(minutes=30))]


def called(client, peer, name: str):
    """What zeep makes of our answer, and the Body's child it sent."""
    verb, noun, given, _, answer = CALLS[name]
    peer.answer = b'<s:Envelope xmlns:s="%s"><s:Body>%s</s:Body></s:Envelope>' % (ns.SOAP11.encode(), answer)
    peer.requests.clear()
    told = getattr(client.service, name)(Header=header(verb, noun), **given)
    ((action, sent),) = peer.requests
    (element,) = etree.fromstring(sent).find(f"{{{ns.SOAP11}}}Body")
    assert action.strip('"') == schemas.OFFICE_ACTIONS[element.tag]
    return told, element


def test_every_operation_is_called_here(client):
    assert set(client.service._operations) == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_what_zeep_asks_is_valid_and_means_what_was_given(client, utility_peer, name):
    told, element = called(client, utility_peer, name)
    schemas.validate(element)
    message = messages.decode(element)
    verb, noun, _, expected, _ = CALLS[name]
    assert message.header == Header(verb, noun, AT_MS, "acme", "m-1")
    assert {field: getattr(message, field) for field in expected} == expected
    assert (told.Reply.Result, told.Header.CorrelationID) == ("OK", "m-1")


def test_zeep_reads_what_it_is_told(client, utility_peer):
    told, _ = called(client, utility_peer, "QueryMeterReadings")
    (reading,) = told.Payload.MeterReadings.MeterReading[0].IntervalBlocks[0].IntervalReadings
    assert (reading.timeStamp, reading.value) == (AT, Decimal("0.125"))
    assert {one.Name: one.Value for one in told.Header.Property} == {"nextPage": "p2", "dataVersion": "0:7"}
    told, _ = called(client, utility_peer, "QueryEndDeviceControls")
    (control,) = told.Payload.EndDeviceControls.EndDeviceControl
    assert (control.issuerTrackingID, control.mRID) == ("s-1", "0-41-0")
    assert (control.Instruction.state, control.Instruction.detail) == ("held", "too many")
    assert told.Payload._value_1[0].seq == 41  # the Receipt in the room for later additions
    told, _ = called(client, utility_peer, "ReadMailbox")
    (mail,) = told.Payload.Mailbox.Mail
    assert (mail.number, mail.kind, mail.correlationID, told.Payload.Mailbox.depth) == (17, "step", "m-0", 3)
    told, _ = called(client, utility_peer, "CommitMailbox")
    assert (told.Payload.Receipt.seq, told.Payload.Mailbox) == (41, None)


def test_a_mail_is_typed_for_whoever_asks_for_its_type(client, utility_peer):
    told, _ = called(client, utility_peer, "ReadMailbox")
    content = told.Payload.Mailbox.Mail[0]._value_1
    assert content.Payload.EndDeviceControls.EndDeviceControl[0].mRID == "0-41-0"


CONTROLS_WHOLE = f"""<d:EndDeviceControls xmlns:d="{ns.END_DEVICE_CONTROLS}" xmlns:c="{ns.CONTROL}">
 <d:EndDeviceControl><d:mRID>s-1</d:mRID><d:issuerID>i</d:issuerID><d:issuerTrackingID>t</d:issuerTrackingID>
  <d:reason>peak</d:reason><d:EndDeviceControlType ref="3.15.0.23"/>
  <d:EndDeviceGroups><d:mRID>g</d:mRID></d:EndDeviceGroups>
  <d:EndDevices><d:mRID>IED-7</d:mRID></d:EndDevices><d:primaryDeviceTiming><d:interval><d:end>2026-03-01T00:00:00Z</d:end>
  <d:start>2026-02-28T00:00:00Z</d:start></d:interval></d:primaryDeviceTiming>
  <c:Instruction><c:role>utility</c:role><c:counter>1</c:counter><c:state>held</c:state><c:detail>why</c:detail>
   <c:output>o</c:output><c:value>-.5</c:value><c:unit>kW</c:unit><c:priority>9</c:priority>
   <c:needBy>2026-03-01T00:00:00Z</c:needBy><c:Data><c:name>n</c:name><c:value>v</c:value></c:Data></c:Instruction>
 </d:EndDeviceControl>
 <d:EndDeviceControlType><d:mRID>3.15.0.23</d:mRID><d:action>23</d:action><d:domain>15</d:domain>
  <d:subDomain>0</d:subDomain><d:type>3</d:type></d:EndDeviceControlType></d:EndDeviceControls>"""
METERS_WHOLE = f"""<m:MeterConfig xmlns:m="{ns.METER_CONFIG}" xmlns:h="{ns.CHANNELS}"><m:Meter><m:mRID>M1</m:mRID>
 <m:UsagePoint><m:mRID>UP1</m:mRID></m:UsagePoint><h:Channels><h:ied>IED-7</h:ied><h:Channel>
 <h:readingType>{KWH}</h:readingType><h:stream>E1</h:stream><h:unit>kWh</h:unit><h:intervalSeconds>900</h:intervalSeconds>
 <h:zone>Etc/UTC</h:zone><h:validFrom>2026-03-01T00:00:00Z</h:validFrom><h:validTo>2026-03-02T00:00:00+10:00</h:validTo>
 </h:Channel></h:Channels></m:Meter></m:MeterConfig>"""


@pytest.mark.parametrize(
    ("text", "spaces"),
    [(CONTROLS_WHOLE, (ns.END_DEVICE_CONTROLS, ns.CONTROL)), (METERS_WHOLE, (ns.METER_CONFIG, ns.CHANNELS))],
)
def test_the_whole_profile_is_accepted_by_both_engines(engines, text, spaces):
    element = etree.fromstring(text)
    schemas.validate(element)
    engine = engines["EndDeviceControls" if ns.CONTROL in spaces else "MeterConfig"]
    assert list(engine.iter_errors(element)) == []
    declared = {
        f"{{{uri}}}{node.get('name')}"
        for uri in spaces
        for node in etree.fromstring(schemas.documents()[schemas.FILES[uri]]).iter(f"{{{ns.XSD}}}element")
        if node.get("name")
    }
    assert declared == {node.tag for node in element.iter()}


REFUSED = {
    "a priority of 10": (CONTROLS_WHOLE, ">9<", ">10<"),
    "a negative counter": (CONTROLS_WHOLE, ">1</c:counter>", ">-1</c:counter>"),
    "an exponent": (CONTROLS_WHOLE, "-.5", "5e-1"),
    "no kind of command": (CONTROLS_WHOLE, '<d:EndDeviceControlType ref="3.15.0.23"/>', ""),
    "the start before the end": (CONTROLS_WHOLE, "d:end>", "d:start>"),
    "a programme level": (CONTROLS_WHOLE, "<d:issuerID>", "<d:drProgramLevel>1</d:drProgramLevel><d:issuerID>"),
    "no usage point": (METERS_WHOLE, "<m:UsagePoint><m:mRID>UP1</m:mRID></m:UsagePoint>", ""),
    "an interval of nothing": (METERS_WHOLE, ">900<", ">0<"),
    "an empty mRID": (METERS_WHOLE, ">M1<", "><"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_schema_does_not_know_is_refused_by_both_engines(engines, case):
    text, old, new = REFUSED[case]
    assert old in text
    element = etree.fromstring(text.replace(old, new))
    engine = engines["EndDeviceControls" if text is CONTROLS_WHOLE else "MeterConfig"]
    assert not engine.is_valid(element)
    with pytest.raises(SchemaInvalid):
        schemas.validate(element)


@pytest.mark.parametrize("name", CALLS)
def test_a_second_engine_accepts_every_answer(engines, name):
    _, noun, _, _, answer = CALLS[name]
    assert list(engines[noun].iter_errors(etree.fromstring(answer))) == []


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """xmlschema on the same files, one engine a noun."""
    tmp_path = tmp_path_factory.mktemp("contract")
    for name, content in schemas.documents().items():
        (tmp_path / name).write_bytes(content)
    spaces = {"MeterReadings": "meter_readings_message.xsd", "EndDeviceEvents": "end_device_events_message.xsd"}
    spaces |= {"EndDeviceControls": "end_device_controls_message.xsd", "MeterConfig": "meter_config_message.xsd"}
    spaces |= {"Mailbox": "mailbox.xsd", "Completeness": "completeness.xsd"}
    with pytest.MonkeyPatch.context() as patch:
        for kind in xmlschema.XMLSchema.__mro__:  # see test_contract_schemas.py
            if "__provides__" in vars(kind):
                patch.delattr(kind, "__provides__")
        yield {noun: xmlschema.XMLSchema(str(tmp_path / name), allow="local") for noun, name in spaces.items()}
