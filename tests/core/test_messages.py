"""Model <-> XML: what goes in comes out, whoever wrote it; and what the schema lets pass but Gridpost does not."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from gridpost import messages, ns, schemas, testing
from gridpost.envelope import canonical, parse
from gridpost.errors import CannotRepresent, FileInvalid, HeaderIncomplete, PeerFault, SchemaInvalid, UnknownOperation
from gridpost.model import (
    ChannelKey,
    CreatedEndDeviceEvents,
    CreatedMeterReadings,
    EndDeviceEvent,
    Header,
    IntervalBlock,
    Quality,
    Readings,
    RegisterReading,
)

NOW = testing.NOW_UTC_MS
FORWARD, BULK = testing.FORWARD_KWH_15MIN, "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"


def decoded(payload: bytes):
    element = parse(payload)
    schemas.validate(element)
    return messages.decode(element)


# --- encode and decode -----------------------------------------------------------------------------------------------

# What XML 1.0 can write and what survives: decode strips names, so they begin and end with something visible.
_CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
_NAMES = st.text(_CHARACTERS, min_size=1, max_size=40).map(str.strip).filter(bool)
_TEXTS = st.text(st.one_of(_CHARACTERS, st.sampled_from("\t\n\r&<>\"']")), max_size=60)
_ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)
_VALUES = st.from_regex(r"\A-?(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,6})?\Z")
_ENDS = st.integers(0, 253_370_764_799)
_QUALITIES = st.lists(st.builds(Quality, st.from_regex(r"\A[1-5]\.[0-9]{1,2}\.[0-9]{1,3}\Z"), _TEXTS), max_size=3).map(
    tuple
)
_PLAIN = (Quality("1.0.0"),)


def _noted(qualities):
    return () if qualities == _PLAIN else qualities


_POINTS = st.one_of(
    st.tuples(_ENDS, _VALUES, _QUALITIES.map(_noted)),
    st.tuples(_ENDS, _VALUES, st.just(())),
    st.tuples(_ENDS, st.none(), st.just((Quality("2.5.259", "lost"),))),
)


@st.composite
def channel_readings(draw):
    """What one MeterReading holds: blocks and registers of one channel's names."""
    names = (
        draw(st.one_of(st.just(""), _NAMES)),
        draw(st.one_of(st.just(""), _NAMES)),
        draw(st.one_of(st.just(""), _NAMES)),
    )
    points = draw(st.lists(_POINTS, min_size=1, max_size=6))
    columns = tuple(zip(*points, strict=True))
    block = IntervalBlock(ChannelKey(*names, FORWARD), 900, *columns)
    stands = draw(st.lists(st.tuples(_ENDS, _VALUES, _QUALITIES.map(_noted)), max_size=3))
    registers = [RegisterReading(ChannelKey(*names, BULK), *stand) for stand in stands]
    return names, block, registers


@st.composite
def readings(draw):
    parts = draw(st.lists(channel_readings(), max_size=3, unique_by=lambda part: part[0]))
    return Readings(
        tuple(block for _, block, _ in parts), tuple(stand for _, _, registers in parts for stand in registers)
    )


@st.composite
def headers(draw, noun):
    return Header(
        verb="created",
        noun=noun,
        timestamp_utc_ms=draw(_ENDS) * 1000 + draw(st.integers(0, 999)),
        source=draw(_ASCII),
        message_id=draw(_ASCII),
        sequence=draw(st.one_of(st.none(), st.integers(0, 10**18 - 1))),
        last_receipt=draw(st.one_of(st.just(""), _ASCII)),
    )


EVENTS = st.builds(
    EndDeviceEvent,
    mrid=st.one_of(st.just(""), _NAMES),
    event_type=st.just("3.26.0.85"),
    created_utc_ms=_ENDS.map(lambda seconds: seconds * 1000 + 250),
    asset=st.one_of(st.just(""), _NAMES),
    reason=st.one_of(st.just(""), _NAMES),
    severity=st.one_of(st.just(""), _NAMES),
    details=st.dictionaries(_NAMES, _NAMES, max_size=3),
)
MESSAGES = st.one_of(
    st.builds(CreatedMeterReadings, headers("MeterReadings"), readings()),
    st.builds(CreatedEndDeviceEvents, headers("EndDeviceEvents"), st.lists(EVENTS, max_size=3).map(tuple)),
)


@settings(max_examples=60)
@given(MESSAGES)
def test_what_is_encoded_decodes_to_itself(message):
    assert decoded(messages.encode(message)) == message


@settings(max_examples=60)
@given(MESSAGES)
def test_what_is_encoded_is_canonical(message):
    payload = messages.encode(message)
    assert canonical(parse(payload)) == payload


@settings(max_examples=60)
@given(readings())
def test_a_document_of_readings_decodes_to_itself(content):
    assert messages.decode_meter_readings(messages.encode_meter_readings(content)) == content


@pytest.mark.parametrize("bad", ["\0", "\x1b", "\x0b", "\ufffe", "\uffff", "\ud800"])
@pytest.mark.parametrize("place", ["meter", "detail", "source", "mrid"])
def test_what_xml_cannot_say_is_not_sealed(bad, place):
    text = f"a{bad}b"
    channel = testing.channel(1)
    key = channel.key._replace(meter=text) if place == "meter" else channel.key
    quality = (Quality("1.4.9", text if place == "detail" else ""),)
    block = IntervalBlock(key, 900, (900,), ("1",), (quality,))
    source = text if place == "source" else "IED1"
    message = testing.readings_message(source, "m", [block])
    if place == "mrid":
        message = testing.events_message(source, "m", [EndDeviceEvent(text, "3.26.0.85", NOW)])
    with pytest.raises(CannotRepresent, match="no place in XML"):
        messages.encode(message)


# --- decode: other writers' messages ---------------------------------------------------------------------------------

_HEADER = (
    "<h:Verb>created</h:Verb><h:Noun>MeterReadings</h:Noun><h:Timestamp>2026-01-01T01:00:00+01:00</h:Timestamp>"
    "<h:Source> IED1 </h:Source><h:MessageID>m 1</h:MessageID>"
)
_SEQUENCE = "<h:Property><h:Name>sequence</h:Name><h:Value>{}</h:Value></h:Property>"


def written(content: str, header: str = _HEADER) -> bytes:
    return (
        f'<w:CreatedMeterReadings xmlns:w="{ns.METER_READINGS_MESSAGE}" xmlns:h="{ns.MESSAGE}"'
        f' xmlns="{ns.METER_READINGS}">\n'
        f" <w:Header>{header}</w:Header>\n <w:Payload>\n  <MeterReadings>{content}</MeterReadings>\n </w:Payload>\n"
        "</w:CreatedMeterReadings>"
    ).encode()


def block_of(*intervals: str, kind: str = FORWARD) -> str:
    inside = "\n".join(f"<IntervalReadings>{interval}</IntervalReadings>" for interval in intervals)
    names = "<Names><name>x</name></Names>"
    names += "<Names><name> E1 </name><NameType><name> channel </name></NameType></Names>"
    return (
        f'<MeterReading><IntervalBlocks>{inside}<ReadingType ref=" {kind} "/></IntervalBlocks>'
        f"<Meter><mRID> M1 </mRID>{names}</Meter><UsagePoint><mRID>UP</mRID></UsagePoint></MeterReading>"
    )


AT, VALUE = "<timeStamp>2026-01-01T00:15:00Z</timeStamp>", "<value>1.50</value>"
GAP = '<ReadingQualities><ReadingQualityType ref="2.5.259"/></ReadingQualities>'
FIRST = 1_767_226_500  # 2026-01-01T00:15:00Z


def only_block(*intervals: str) -> IntervalBlock:
    (block,) = decoded(written(block_of(*intervals))).readings.blocks
    return block


def test_names_are_stripped_and_the_stream_is_the_name_of_type_channel():
    assert only_block(AT + VALUE).channel == ChannelKey("UP", "M1", "E1", FORWARD)


def test_a_header_is_read_whatever_its_prefixes():
    header = decoded(written("")).header
    assert header == Header("created", "MeterReadings", NOW, "IED1", "m 1")


@pytest.mark.parametrize(
    ("interval", "end_utc", "value", "qualities"),
    [
        (AT + VALUE, FIRST, "1.50", ()),
        ("<timeStamp>2026-01-01T01:15:00+01:00</timeStamp>" + VALUE, FIRST, "1.50", ()),
        (AT + "<value> +.5 </value>", FIRST, "0.5", ()),
        ("<source>x</source>" + AT + VALUE, FIRST, "1.50", ()),
        ("<reportedDateTime>2026-01-02T00:00:00Z</reportedDateTime>" + AT + VALUE, FIRST, "1.50", ()),
        (AT + VALUE + "<timePeriod><end>2000-01-01T00:00:00Z</end></timePeriod>", FIRST, "1.50", ()),
        (VALUE + "<timePeriod><end>2026-01-01T00:15:00Z</end></timePeriod>", FIRST, "1.50", ()),
        (AT + GAP, FIRST, None, (Quality("2.5.259"),)),
        (AT + VALUE + GAP.replace("2.5.259", "1.0.0"), FIRST, "1.50", ()),
        (
            AT
            + VALUE
            + '<ReadingQualities><comment> a&#xD;b </comment><ReadingQualityType ref=" 1.4.9 "/></ReadingQualities>',
            FIRST,
            "1.50",
            (Quality("1.4.9", " a\rb "),),
        ),
        (
            AT + VALUE + GAP.replace("2.5.259", "1.0.0") + GAP.replace("2.5.259", "1.4.9"),
            FIRST,
            "1.50",
            (Quality("1.0.0"), Quality("1.4.9")),
        ),
    ],
)
@pytest.mark.parametrize("beside", [0, 1, 2])
def test_an_interval_is_read_the_same_alone_and_among_plain_ones(interval, end_utc, value, qualities, beside):
    """A block of plain intervals is decoded in columns, any other child by child: both must agree."""
    plain = [AT + VALUE] * beside
    block = only_block(*plain, interval, *plain)
    assert (block.ends_utc[beside], block.values[beside], block.qualities[beside]) == (end_utc, value, qualities)
    assert block.values[:beside] == block.values[beside + 1 :] == ("1.50",) * beside
    assert len(block.ends_utc) == len(block.qualities) == 2 * beside + 1


def test_two_intervals_never_lend_each_other_their_parts():
    """Two stamps and two values in all, but not one of each in each interval."""
    with pytest.raises(SchemaInvalid) as refused:
        decoded(
            written(
                block_of(AT + GAP, "<value>2</value>" + "<timePeriod><start>2026-01-01T00:00:00Z</start></timePeriod>")
            )
        )
    assert "timeStamp" in refused.value.reason


def test_an_empty_block_and_no_readings_are_readings():
    assert only_block().values == ()
    assert decoded(written("")).readings == Readings()


@pytest.mark.parametrize(
    ("interval", "reason"),
    [
        (VALUE, "needs a timeStamp"),
        (AT, "may be left out only with quality 2.5.259"),
        (AT + GAP.replace("2.5.259", "1.0.0"), "may be left out only with quality 2.5.259"),
        ("<timeStamp>2026-01-01T00:15:00</timeStamp>" + VALUE, "with a zone"),
        ("<timeStamp>2026-01-01T00:15:00.5Z</timeStamp>" + VALUE, "whole second"),
        ("<timeStamp>1969-01-01T00:15:00Z</timeStamp>" + VALUE, "between 1970"),
    ],
)
def test_what_the_schema_lets_pass_and_we_do_not(interval, reason):
    with pytest.raises(SchemaInvalid, match=reason) as refused:
        decoded(written(block_of(AT + VALUE, interval)))
    (item,) = refused.value.items
    assert item.path.startswith("/mrm:CreatedMeterReadings[1]") or item.path.startswith("/m:MeterReadings[1]")
    assert "/m:IntervalReadings[2]" in item.path


def test_findings_are_listed_up_to_twenty():
    with pytest.raises(SchemaInvalid) as refused:
        decoded(written(block_of(*[AT] * 50)))
    assert len(refused.value.items) == 20
    assert refused.value.items[19].path.endswith("/m:IntervalReadings[20]")


def test_a_register_reading_needs_its_value():
    register = f'<Readings>{AT}{GAP}<ReadingType ref="{BULK}"/></Readings>'
    reading = f"<MeterReading><Meter><mRID>M1</mRID></Meter>{register}</MeterReading>"
    with pytest.raises(SchemaInvalid, match="register reading needs a value"):
        decoded(written(reading))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<h:Source> IED1 </h:Source>", ""),
        ("IED1", "\u00e4"),
        ("IED1", " "),
        ("IED1", "x" * 129),
        ("<h:MessageID>m 1</h:MessageID>", ""),
        ("m 1", "m\u00a01"),
        ("m 1", "m&#10;1"),
        ("m 1", "x" * 65),
        ("<h:Timestamp>2026-01-01T01:00:00+01:00</h:Timestamp>", ""),
        ("2026-01-01T01:00:00+01:00", "2026-01-01T01:00:00"),
        (">created<", ">changed<"),
        (">MeterReadings<", ">EndDeviceEvents<"),
        ("</h:MessageID>", "</h:MessageID><h:Property><h:Name>sequence</h:Name><h:Value>-1</h:Value></h:Property>"),
        ("</h:MessageID>", "</h:MessageID><h:Property><h:Name>sequence</h:Name><h:Value>1.0</h:Value></h:Property>"),
        ("</h:MessageID>", "</h:MessageID><h:Property><h:Name>sequence</h:Name><h:Value>\u0661</h:Value></h:Property>"),
        (
            "</h:MessageID>",
            f"</h:MessageID><h:Property><h:Name>sequence</h:Name><h:Value>{'1' * 19}</h:Value></h:Property>",
        ),
        ("</h:MessageID>", "</h:MessageID>" + _SEQUENCE.format(7) + _SEQUENCE.format(7)),
        ("</h:MessageID>", "</h:MessageID>" + _SEQUENCE.format(7) + _SEQUENCE.format(8)),
        ("</h:Noun>", "</h:Noun><h:Context>TESTING</h:Context>"),
        ("</h:Noun>", "</h:Noun><h:Context>TRAINING</h:Context>"),
    ],
)
def test_a_header_without_what_we_need_is_refused(old, new):
    assert old in _HEADER
    with pytest.raises(HeaderIncomplete):
        decoded(written("", _HEADER.replace(old, new)))


def test_production_may_be_said():
    stated = _HEADER.replace("</h:Noun>", "</h:Noun><h:Context>PRODUCTION</h:Context>")
    assert decoded(written("", stated)) == decoded(written("", _HEADER))


def test_foreign_properties_and_extensions_are_passed_over():
    more = (
        "<h:Property><h:Name>colour</h:Name></h:Property>"
        "<h:Property><h:Name>sequence</h:Name><h:Value> 7 </h:Value></h:Property>"
        '<x xmlns="urn:x"><MessageID>other</MessageID></x>'
    )
    header = decoded(written("", _HEADER + more)).header
    assert (header.message_id, header.sequence) == ("m 1", 7)


def test_an_unknown_message_is_no_message():
    with pytest.raises(UnknownOperation):
        messages.decode(etree.fromstring(f'<Nothing xmlns="{ns.METER_READINGS_MESSAGE}"/>'))


# --- a bare document -------------------------------------------------------------------------------------------------


def test_a_document_without_measuring_period_takes_its_length_from_the_spacing():
    kind = FORWARD.replace("0.0.2.", "0.0.0.")
    second = AT.replace("00:15", "00:20")
    raw = (
        f'<MeterReadings xmlns="{ns.METER_READINGS}">{block_of(second + VALUE, AT + VALUE, kind=kind)}</MeterReadings>'
    )
    (block,) = messages.decode_meter_readings(raw.encode()).blocks
    assert block.interval_s == 300
    lonely = f'<MeterReadings xmlns="{ns.METER_READINGS}">{block_of(AT + VALUE, kind=kind)}</MeterReadings>'
    with pytest.raises(FileInvalid, match="how long"):
        messages.decode_meter_readings(lonely.encode())


def test_a_document_of_another_kind_is_named():
    with pytest.raises(FileInvalid, match="root is a"):
        messages.decode_meter_readings(b"<a/>")


@given(st.binary())
def test_any_document_is_read_or_refused(raw):
    try:
        messages.decode_meter_readings(raw)
    except PeerFault:
        return


def test_a_block_decoded_in_columns_equals_one_decoded_by_children():
    """Break the columns by one quality that says nothing, and compare."""
    values = [f"{number}.{number:03d}" for number in range(200)]
    block = testing.block(testing.channel(1), FIRST, values)
    plain = messages.encode(testing.readings_message("IED1", "m", [block]))
    first = b"</value></IntervalReadings>"
    valid = b'<ReadingQualities><ReadingQualityType ref="1.0.0"></ReadingQualityType></ReadingQualities>'
    said = b"</value>" + valid + b"</IntervalReadings>"
    assert decoded(plain.replace(first, said, 1)) == decoded(plain)
    assert decoded(plain).readings.blocks == (replace(block, qualities=((),) * 200),)
