"""What offices ask and are told: against XML written by hand, back and forth, and what is refused with its place."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from gridpost import answers, document_messages, exchange, messages, ns, office_messages, schemas
from gridpost.envelope import canonical, parse
from gridpost.errors import CannotRepresent, SchemaInvalid, UnknownOperation
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
    Refusal,
)
from gridpost.requests import (
    CancelMeterReadings,
    ChangeMeterConfig,
    CreateMeterConfig,
    CreateMeterReadings,
    DequeueMailbox,
    GetEndDeviceEvents,
    GetMeterConfig,
    GetMeterReadings,
    Mail,
    MeterConfig,
    PeekMailbox,
    Query,
)
from gridpost.testing import NOW_UTC_MS, ThrowawayCA, enrolment

MSG = 'xmlns="http://iec.ch/TC57/2011/schema/message"'
KWH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
FIRST_MARCH = 1_772_323_200  # 2026-03-01T00:00:00Z, by date -d
RECEIPT = Receipt(
    message_id="m-1",
    sender="acme",
    content_digest=bytes(32),
    references=(Reference("#body", ns.EXC_C14N, "", ns.SHA256, "AA=="),),
    recorded_at_utc_ms=FIRST_MARCH * 1000,
    position=Position(0, 41),
    root_before=bytes(32),
    counts=Counts(1, 0, 0),
)


def head(verb: str, noun: str) -> Header:
    return Header(verb, noun, FIRST_MARCH * 1000, "acme", "m-1")


def header_by_hand(verb: str, noun: str) -> str:
    return (
        f"<Header><Verb {MSG}>{verb}</Verb><Noun {MSG}>{noun}</Noun>"
        f"<Timestamp {MSG}>2026-03-01T00:00:00.000Z</Timestamp><Source {MSG}>acme</Source>"
        f"<MessageID {MSG}>m-1</MessageID></Header>"
    )


def reply_by_hand(noun: str, properties: str = "") -> str:
    return (
        f"<Header><Verb {MSG}>reply</Verb><Noun {MSG}>{noun}</Noun>"
        f"<Timestamp {MSG}>2026-03-01T00:00:01.000Z</Timestamp><Source {MSG}>bus</Source>"
        f"<CorrelationID {MSG}>m-1</CorrelationID>{properties}</Header><Reply><Result {MSG}>OK</Result></Reply>"
    )


def reply_head(noun: str) -> Header:
    return office_messages.reply_to(head("get", noun), "bus", FIRST_MARCH * 1000 + 1000)


def by_hand(text: str) -> bytes:
    """What stands between the lines of a test is laid out for people."""
    return re.sub(r"\n\s*", "", text).encode()


def decoded(payload: bytes):
    element = etree.fromstring(payload)
    schemas.validate(element)
    return messages.decode(element)


def checked(payload: bytes) -> etree._Element:
    """An answer: valid by its schema and canonical as it stands."""
    element = etree.fromstring(payload)
    schemas.validate(element)
    assert canonical(parse(payload)) == payload
    return element


# --- requests, by hand -----------------------------------------------------------------------------------------------

GET_READINGS = by_hand(f"""
<GetMeterReadings xmlns="http://iec.ch/TC57/2011/MeterReadingsMessage">{header_by_hand("get", "MeterReadings")}
 <Request><StartTime {MSG}>2026-03-01T00:00:00Z</StartTime><EndTime {MSG}>2026-03-02T00:00:00Z</EndTime>
  <Option {MSG}><name>usagePoint</name><value>UP1</value></Option>
  <Option {MSG}><name>usagePoint</name><value>UP&amp;2</value></Option>
  <Option {MSG}><name>readingType</name><value>{KWH}</value></Option>
  <Option {MSG}><name>stream</name><value>E1</value></Option>
  <Option {MSG}><name>dataVersion</name><value>0:41,1:7</value></Option>
  <Option {MSG}><name>page</name><value>p2</value></Option>
  <Option {MSG}><name>limit</name><value>500</value></Option></Request>
</GetMeterReadings>""")
READINGS_QUERY = Query(
    usage_points=("UP1", "UP&2"),
    reading_types=(KWH,),
    from_utc=FIRST_MARCH,
    to_utc=FIRST_MARCH + 86_400,
    at="0:41,1:7",
    page="p2",
    limit=500,
    streams=("E1",),
)
GET_EVENTS = by_hand(f"""
<GetEndDeviceEvents xmlns="http://iec.ch/TC57/2011/EndDeviceEventsMessage">{header_by_hand("get", "EndDeviceEvents")}
 <Request><Option {MSG}><name>meter</name><value>M1</value></Option></Request>
</GetEndDeviceEvents>""")
CREATE_READINGS = by_hand(f"""
<CreateMeterReadings xmlns="http://iec.ch/TC57/2011/MeterReadingsMessage">{header_by_hand("create", "MeterReadings")}
 <Request><StartTime {MSG}>2026-03-01T00:00:00Z</StartTime><Option {MSG}><name>meter</name><value>M1</value></Option>
 </Request>
</CreateMeterReadings>""")
CANCEL_READINGS = by_hand(f"""
<CancelMeterReadings xmlns="http://iec.ch/TC57/2011/MeterReadingsMessage">{header_by_hand("cancel", "MeterReadings")}
 <Request><ID {MSG}>m-0</ID></Request>
</CancelMeterReadings>""")
PEEK = by_hand(f"""
<PeekMailbox xmlns="urn:gridpost:mailbox:1">{header_by_hand("get", "Mailbox")}
 <Request><Option {MSG}><name>limit</name><value>20</value></Option></Request>
</PeekMailbox>""")
DEQUEUE = by_hand(f"""
<DequeueMailbox xmlns="urn:gridpost:mailbox:1">{header_by_hand("delete", "Mailbox")}
 <Request><Option {MSG}><name>upTo</name><value>17</value></Option></Request>
</DequeueMailbox>""")
CHANNEL = Channel(ChannelKey("UP1", "M1", "E1", KWH), "kWh", 900, "Australia/Sydney", FIRST_MARCH, FIRST_MARCH + 86_400)
CONFIG = MeterConfig("M1", "UP1", "IED-7", (CHANNEL,))
METERS = f"""
<MeterConfig xmlns="http://iec.ch/TC57/2011/MeterConfig#"><Meter><mRID>M1</mRID><UsagePoint><mRID>UP1</mRID></UsagePoint>
 <Channels xmlns="urn:gridpost:channels:1"><ied>IED-7</ied>
  <Channel><readingType>{KWH}</readingType><stream>E1</stream><unit>kWh</unit><intervalSeconds>900</intervalSeconds>
   <zone>Australia/Sydney</zone><validFrom>2026-03-01T00:00:00Z</validFrom><validTo>2026-03-02T00:00:00Z</validTo>
  </Channel></Channels></Meter></MeterConfig>"""
CREATE_CONFIG = by_hand(f"""
<CreateMeterConfig xmlns="http://iec.ch/TC57/2011/MeterConfigMessage">{header_by_hand("create", "MeterConfig")}
 <Payload>{METERS}</Payload>
</CreateMeterConfig>""")
GET_CONFIG = by_hand(f"""
<GetMeterConfig xmlns="http://iec.ch/TC57/2011/MeterConfigMessage">{header_by_hand("get", "MeterConfig")}
 <Request><Option {MSG}><name>usagePoint</name><value>UP1</value></Option>
  <Option {MSG}><name>limit</name><value>7</value></Option></Request>
</GetMeterConfig>""")


encoded = messages.encode


BY_HAND = {
    "GetMeterReadings": (GET_READINGS, GetMeterReadings(head("get", "MeterReadings"), READINGS_QUERY)),
    "GetEndDeviceEvents": (GET_EVENTS, GetEndDeviceEvents(head("get", "EndDeviceEvents"), Query(meters=("M1",)))),
    "CreateMeterReadings": (
        CREATE_READINGS,
        CreateMeterReadings(head("create", "MeterReadings"), Query(meters=("M1",), from_utc=FIRST_MARCH)),
    ),
    "CancelMeterReadings": (CANCEL_READINGS, CancelMeterReadings(head("cancel", "MeterReadings"), ("m-0",))),
    "PeekMailbox": (PEEK, PeekMailbox(head("get", "Mailbox"), 20)),
    "DequeueMailbox": (DEQUEUE, DequeueMailbox(head("delete", "Mailbox"), 17)),
    "CreateMeterConfig": (CREATE_CONFIG, CreateMeterConfig(head("create", "MeterConfig"), (CONFIG,))),
    "ChangeMeterConfig": (
        CREATE_CONFIG.replace(b"CreateMeterConfig", b"ChangeMeterConfig").replace(b">create<", b">change<"),
        ChangeMeterConfig(head("change", "MeterConfig"), (CONFIG,)),
    ),
    "GetMeterConfig": (
        GET_CONFIG,
        GetMeterConfig(head("get", "MeterConfig"), Query(usage_points=("UP1",), limit=7)),
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_request_is_what_the_contract_says(name):
    text, message = BY_HAND[name]
    assert encoded(message) == text
    assert decoded(text) == message


@pytest.mark.parametrize("name", ["GetMeterReadings", "GetEndDeviceEvents", "GetMeterConfig", "PeekMailbox"])
def test_a_question_without_a_request_narrows_nothing(name):
    text, message = BY_HAND[name]
    bare = decoded(re.sub(b"<Request>.*</Request>", b"", text))
    assert bare == (PeekMailbox(message.header) if name == "PeekMailbox" else type(message)(message.header, Query()))


def test_a_moment_of_another_zone_is_the_same_moment():
    other = GET_READINGS.replace(b"2026-03-01T00:00:00Z</StartTime>", b"2026-03-01T11:00:00+11:00</StartTime>")
    assert decoded(other).query.from_utc == FIRST_MARCH


# --- answers, by hand ------------------------------------------------------------------------------------------------


def test_readings_are_told_by_page_and_version():
    block = IntervalBlock(CHANNEL.key, 900, (FIRST_MARCH + 900,), ("0.125",), ((),))
    payload = office_messages.encode_meter_readings_reply(
        reply_head("MeterReadings"), Readings((block,)), "p3", "0:41"
    )  # fmt: skip
    properties = (
        f"<Property {MSG}><Name>nextPage</Name><Value>p3</Value></Property>"
        f"<Property {MSG}><Name>dataVersion</Name><Value>0:41</Value></Property>"
    )
    assert payload == by_hand(f"""
<MeterReadingsResponseMessage xmlns="http://iec.ch/TC57/2011/MeterReadingsMessage">
 {reply_by_hand("MeterReadings", properties)}
 <Payload><MeterReadings xmlns="http://iec.ch/TC57/2011/MeterReadings#"><MeterReading>
  <IntervalBlocks><IntervalReadings><timeStamp>2026-03-01T00:15:00Z</timeStamp><value>0.125</value></IntervalReadings>
   <ReadingType ref="{KWH}"></ReadingType></IntervalBlocks>
  <Meter><mRID>M1</mRID><Names><name>E1</name><NameType><name>channel</name></NameType></Names></Meter>
  <UsagePoint><mRID>UP1</mRID></UsagePoint></MeterReading></MeterReadings></Payload>
</MeterReadingsResponseMessage>""")
    checked(payload)
    assert messages.decode_readings(etree.fromstring(payload)[2][0]) == Readings((block,))


def test_no_readings_are_an_answer_too():
    element = checked(office_messages.encode_meter_readings_reply(reply_head("MeterReadings"), Readings(), "", ""))
    assert len(element[2][0]) == 0
    assert element.findall("{*}Header/{*}Property") == []


def test_events_are_told():
    event = EndDeviceEvent("ev1", "3.26.0.85", FIRST_MARCH * 1000, "M1")
    payload = office_messages.encode_end_device_events_reply(reply_head("EndDeviceEvents"), [event], "", "")
    assert payload == by_hand(f"""
<EndDeviceEventsResponseMessage xmlns="http://iec.ch/TC57/2011/EndDeviceEventsMessage">
 {reply_by_hand("EndDeviceEvents")}
 <Payload><EndDeviceEvents xmlns="http://iec.ch/TC57/2011/EndDeviceEvents#"><EndDeviceEvent><mRID>ev1</mRID>
  <createdDateTime>2026-03-01T00:00:00.000Z</createdDateTime><Assets><mRID>M1</mRID></Assets>
  <EndDeviceEventType ref="3.26.0.85"></EndDeviceEventType></EndDeviceEvent></EndDeviceEvents></Payload>
</EndDeviceEventsResponseMessage>""")
    checked(payload)


def test_meters_are_told_and_the_receipt_stands_behind_them():
    payload = office_messages.encode_meter_config_reply(reply_head("MeterConfig"), [CONFIG], receipt=RECEIPT)
    element = checked(payload)
    assert [child.tag.rpartition("}")[2] for child in element[2]] == ["MeterConfig", "Receipt"]
    assert by_hand(METERS) in payload
    assert answers.decode(element) == RECEIPT


def test_mails_are_told_as_they_were_made():
    event = office_messages.encode_end_device_events_reply(reply_head("EndDeviceEvents"), [], "", "")
    mail = Mail("acme", "outcome", "EndDeviceEvents", event, "m-0", 0, 41, 2, FIRST_MARCH * 1000, 17)
    payload = office_messages.encode_mail_reply(reply_head("Mailbox"), [mail], depth=3)
    assert payload == by_hand(f"""
<MailboxResponseMessage xmlns="urn:gridpost:mailbox:1">{reply_by_hand("Mailbox")}
 <Payload><Mailbox><depth>3</depth><Mail><number>17</number><kind>outcome</kind><noun>EndDeviceEvents</noun>
  <correlationID>m-0</correlationID><partition>0</partition><seq>41</seq><madeAt>2026-03-01T00:00:00.000Z</madeAt>
  {event.decode()}</Mail></Mailbox></Payload>
</MailboxResponseMessage>""")
    element = checked(payload)
    assert canonical(element.find(".//{*}EndDeviceEventsResponseMessage")) == event


def test_an_empty_mailbox_says_so():
    element = checked(office_messages.encode_mail_reply(reply_head("Mailbox"), []))
    assert [child.tag.rpartition("}")[2] for child in element[2][0]] == ["depth"]
    assert element[2][0][0].text == "0"


@pytest.mark.parametrize("noun", ["MeterReadings", "EndDeviceEvents", "EndDeviceControls", "MeterConfig", "Mailbox"])
def test_a_plain_ok_has_a_receipt_or_no_payload(noun):
    bare = checked(office_messages.encode_ok_reply(noun, reply_head(noun)))
    assert [child.tag.rpartition("}")[2] for child in bare] == ["Header", "Reply"]
    assert answers.decode(checked(office_messages.encode_ok_reply(noun, reply_head(noun), RECEIPT))) == RECEIPT


@pytest.mark.parametrize("noun", ["EndDeviceControls", "MeterConfig", "Mailbox"])
def test_a_signed_refusal_of_each_noun_is_read(noun):
    ca = ThrowawayCA()
    items = (("bad-value", "is not one of this operation's", "/mb:PeekMailbox[1]/mb:Request[1]/msg:Option[1]"),)
    refusal = Refusal("schema-invalid", "after-fix", "an option", bytes(32), bytes(32), NOW_UTC_MS, items)
    raw = exchange.seal(answers.encode_refusal(refusal, "Client", noun), ca.issue_bus(), NOW_UTC_MS)
    assert exchange.open_answer(raw, exchange.Trust(ca.certificate)).refusal == refusal
    assert exchange.open_control(raw, exchange.Trust(ca.certificate)).refusal == refusal
    detail = etree.fromstring(raw).find(".//detail")[0]
    assert detail.tag.endswith(f"}}{noun}FaultMessage")


def test_what_xml_cannot_say_is_not_told():
    with pytest.raises(CannotRepresent):
        office_messages.encode_meter_config_reply(reply_head("MeterConfig"), [CONFIG._replace(ied="\x01")])


# --- back and forth --------------------------------------------------------------------------------------------------

_CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
_TEXT = st.text(_CHARACTERS, min_size=1, max_size=40).map(str.strip).filter(bool)
_TEXTS = st.lists(_TEXT, max_size=3).map(tuple)
_OPTIONAL = st.one_of(st.just(""), _TEXT)
_MOMENT = st.integers(0, 253_370_764_799)
_VERSION = st.dictionaries(st.integers(0, 9), st.integers(0, 10**17), max_size=3).map(office_messages.format_version)
QUERIES = st.builds(
    Query,
    usage_points=_TEXTS,
    meters=_TEXTS,
    reading_types=st.lists(st.just(KWH), max_size=2).map(tuple),
    from_utc=_MOMENT,
    to_utc=_MOMENT,
    at=_VERSION,
    page=_OPTIONAL,
    limit=st.integers(0, 10_000),
    streams=_TEXTS,
)


@st.composite
def configs(draw):
    meter, usage_point = draw(_TEXT), draw(_TEXT)
    channel = st.builds(
        Channel,
        key=st.builds(ChannelKey, st.just(usage_point), st.just(meter), _OPTIONAL, st.just(KWH)),
        unit=_TEXT,
        interval_s=st.integers(1, 86_400),
        zone=_TEXT,
        valid_from_utc=_MOMENT,
        valid_to_utc=st.one_of(st.none(), _MOMENT),
    )
    return MeterConfig(meter, usage_point, draw(_OPTIONAL), tuple(draw(st.lists(channel, max_size=3))))


REQUESTS = st.one_of(
    st.builds(GetMeterReadings, st.just(head("get", "MeterReadings")), QUERIES),
    st.builds(PeekMailbox, st.just(head("get", "Mailbox")), st.integers(0, 10_000)),
    st.builds(DequeueMailbox, st.just(head("delete", "Mailbox")), st.integers(0, 10**18 - 1)),
    st.builds(
        CreateMeterConfig,
        st.just(head("create", "MeterConfig")),
        st.lists(configs(), min_size=1, max_size=3).map(tuple),
    ),
)


@settings(max_examples=100)
@given(REQUESTS)
def test_what_is_asked_decodes_to_itself(message):
    payload = encoded(message)
    assert decoded(payload) == message
    assert canonical(parse(payload)) == payload


@given(st.dictionaries(st.integers(0, 999_999_999), st.integers(0, 10**18 - 1), min_size=1, max_size=5))
def test_a_data_version_is_read_as_it_is_written(version):
    assert office_messages.parse_version(office_messages.format_version(version)) == version


# --- what is refused, and where --------------------------------------------------------------------------------------

REFUSED = {
    "an option of another operation": (GET_EVENTS, b"<name>meter", b"<name>stream", "/msg:Option[1]"),
    "a limit too large": (PEEK, b"<value>20", b"<value>10001", "/msg:Option[1]"),
    "a version that is none": (GET_READINGS, b"0:41,1:7", b"41", "/msg:Option[5]"),
    "a version with a partition twice": (GET_READINGS, b"0:41,1:7", b"1:41,1:7", "/msg:Option[5]"),
    "an empty usage point": (GET_READINGS, b"<value>UP1", b"<value> ", "/msg:Option[1]"),
    "two pages": (GET_READINGS, b"<name>dataVersion", b"<name>page", "/msg:Option[6]"),
    "a zoneless start": (GET_READINGS, b"00:00:00Z</StartTime>", b"00:00:00</StartTime>", "/msg:StartTime[1]"),
    "a fraction of a second": (GET_READINGS, b"00:00:00Z</EndTime>", b"00:00:00.5Z</EndTime>", "/msg:EndTime[1]"),
    "a reading type of 17 numbers": (CREATE_CONFIG, KWH.encode(), KWH[2:].encode(), "/ch:readingType[1]"),
    "no meter": (CREATE_CONFIG, b"<mRID>M1<", b"<mRID> <", "/mc:Meter[1]"),
    "no zone": (CREATE_CONFIG, b"Australia/Sydney", b"", "/ch:Channel[1]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused_at_its_place(case):
    text, old, new, place = REFUSED[case]
    assert old in text
    with pytest.raises(SchemaInvalid) as caught:
        decoded(text.replace(old, new, 1))
    (item,) = caught.value.items
    assert item.code == "bad-value"
    assert item.path.endswith(place)


def test_a_commit_without_its_number_is_refused():
    with pytest.raises(SchemaInvalid, match="needs the option upTo"):
        decoded(re.sub(b"<Option.*</Option>", b"", DEQUEUE))


def test_a_thousand_names_pass_and_one_more_does_not():
    asked = Query(meters=tuple(f"M{number}" for number in range(1000)))
    assert decoded(encoded(GetMeterReadings(head("get", "MeterReadings"), asked))).query == asked
    more = Query(meters=(*asked.meters, "M1000"))
    with pytest.raises(SchemaInvalid, match="stands too often"):
        decoded(encoded(GetMeterReadings(head("get", "MeterReadings"), more)))


def test_a_set_up_of_no_meter_is_refused():
    with pytest.raises(SchemaInvalid, match="names no meter"):
        decoded(encoded(CreateMeterConfig(head("create", "MeterConfig"), ())))


# --- who may send what -----------------------------------------------------------------------------------------------


def test_every_operation_is_read_and_every_request_is_an_operation():
    ways_in = set(schemas.DEVICE_ACTIONS) | set(schemas.PARTNER_ACTIONS)
    assert set(messages.MESSAGES) == ways_in | {document_messages.NAME}  # the bus's own, read only as evidence
    assert document_messages.NAME not in ways_in


@pytest.fixture(scope="module")
def device():
    return ThrowawayCA().issue_device("acme")


@pytest.mark.parametrize("name", BY_HAND)
def test_a_devices_way_in_knows_no_office_operation(device, name):
    raw = exchange.seal(BY_HAND[name][0], device, NOW_UTC_MS)
    envelope, who = exchange.read(raw), enrolment(device, "acme", [])
    with pytest.raises(UnknownOperation):
        exchange.open_(envelope, who)
    opened = exchange.decode(envelope, who, exchange.verify(envelope, who), schemas.OFFICE_ACTIONS)
    assert opened.message == BY_HAND[name][1]
