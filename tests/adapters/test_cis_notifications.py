"""MultiSpeak notifications: what they say to zeep, which reads them by the WSDLs, and what comes back from them."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import zeep
from gridpost.adapters.cis import notifications as render
from gridpost.adapters.cis.answers import Credentials, judged, wrapping
from gridpost.adapters.cis.parse import SwitchState, parse_notification
from gridpost.adapters.cis.tables import UOM, Version
from lxml import etree

from gridpost import ns, units
from gridpost.controls import ACTIONS, Control, State, name_part
from gridpost.errors import CannotRepresent, FileInvalid
from gridpost.model import ChannelKey, EndDeviceEvent, IntervalBlock, Quality, Readings, RegisterReading

ROOT = Path(__file__).parents[2]
VERSIONS = list(Version)
FILES = {Version.V3: "multispeak_v3_cb.wsdl", Version.V4: "multispeak_v4_cb.wsdl"}
AT = 1_772_323_200  # 2026-03-01T00:00:00Z
FORWARD = ChannelKey("UP-1", "M1", "E1", "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0")
REVERSE = FORWARD._replace(stream="B1", reading_type="0.0.0.1.19.1.12.0.0.0.0.0.0.0.0.3.72.0")
QUARTER = FORWARD._replace(reading_type="0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0")
VOLTS = FORWARD._replace(stream="V & A", reading_type="0.2.2.12.0.1.54.0.0.0.0.0.0.0.128.0.29.0")
REGISTERS = (
    RegisterReading(FORWARD, AT, "1234.50"),
    RegisterReading(REVERSE, AT, "17"),
    RegisterReading(FORWARD, AT + 900, "1235"),
    RegisterReading(FORWARD._replace(meter="M2"), AT, "0.001"),
)
CONTROL = Control("0-1-0", "utility", "utility", "shed-7", "shed", "IED-1")


@pytest.fixture(scope="module", params=VERSIONS, ids=["3.0ac", "4.1.6"])
def spoken(request):
    """A version, and what reads a notification by its WSDL: zeep, in strict mode."""
    version = request.param
    client = zeep.Client(str(ROOT / "wsdl" / FILES[version]), settings=zeep.Settings(strict=True))
    ((binding),) = client.wsdl.bindings.values()

    def read(content):
        element = etree.fromstring(content)
        operation = binding.all()[etree.QName(element).localname]
        assert operation.soapaction == f"{version}/{etree.QName(element).localname}"
        return operation.input.body.parse(element, client.wsdl.types)

    return version, read


def canonical(notification):
    assert etree.tostring(etree.fromstring(notification.content), method="c14n", exclusive=True) == notification.content
    return notification.content


# --- readings --------------------------------------------------------------------------------------------------------


def test_a_reading_is_whole_in_the_old_fields_and_exact_in_the_new_ones(spoken):
    version, read = spoken
    content = canonical(render.reading_changed(REGISTERS, version, "t-1"))
    said = read(content)
    assert said.transactionID == "t-1"
    if version is Version.V3:
        first, second, other = said.changedMeterReads.meterRead
        assert (first.meterNo, first.posKWh, first.negKWh) == ("M1", None, 17), "1234.50 is no whole number"
        assert (second.posKWh, second.negKWh, other.meterNo) == (1235, None, "M2")
        assert units.seconds_of(first.readingDate) == AT
    else:
        first, second, other = said.changedMeterReads.meterReading
        assert (first.meterID._value_1, first.meterID.meterNo, first.meterID.serviceType) == ("M1", "M1", "Electric")
    values = first.readingValues.readingValue
    assert [(one.value, one.units, one.name) for one in values] == [("1234.50", "kWh", "E1"), ("17", "kWh", "B1")]
    assert [one.readingType for one in values] == [FORWARD.reading_type, REVERSE.reading_type]
    without_point = tuple(replace(one, channel=one.channel._replace(usage_point="")) for one in REGISTERS)
    assert parse_notification(content) == Readings(registers=without_point)


def test_a_quality_has_no_place_in_a_reading_and_is_listed(spoken):
    bad = replace(REGISTERS[0], qualities=(Quality("1.4.9", "clock"),))
    found = render.reading_changed([bad, REGISTERS[1]], spoken[0], "")
    assert [(item.code, item.path) for item in found.losses] == [
        ("not-carried", f"M1 {FORWARD.reading_type} 2026-03-01T00:00:00Z")
    ]


def test_of_two_totals_neither_is_whole():
    other = RegisterReading(FORWARD._replace(stream="E2"), AT + 900, "8")
    assert b"posKWh" not in render.reading_changed([REGISTERS[2], other], Version.V3, "").content


def test_a_register_of_a_tariff_is_not_taken_for_the_total():
    day = FORWARD._replace(reading_type="0.0.0.1.1.1.12.0.0.0.0.1.0.0.0.3.72.0")
    for others in ([], [REGISTERS[2]]):
        content = render.reading_changed([RegisterReading(day, AT + 900, "700"), *others], Version.V3, "").content
        assert (b"<posKWh>1235</posKWh>" in content) is bool(others)
        assert b"<posKWh>700" not in content


def test_a_table_holds_usage_point_and_quality_too(spoken):
    version, read = spoken
    given = [replace(REGISTERS[0], qualities=(Quality("1.4.9"), Quality("2.8.0"))), *REGISTERS[1:]]
    content = canonical(render.formatted_block(given, version, "t-2"))
    block = read(content).changedMeterReads
    assert [(item.fieldName, item.position) for item in block.valSyntax.syntaxItem] == [
        ("meterNo", 1), ("usagePoint", 2), ("channel", 3), ("readingType", 4), ("readingDateTime", 5), ("value", 6),
        ("quality", 7),
    ]  # fmt: skip
    assert block.valueList.val[0] == f"M1,UP-1,E1,{FORWARD.reading_type},2026-03-01T00:00:00Z,1234.50,1.4.9+2.8.0"
    assert parse_notification(content) == Readings(registers=tuple(given))


def test_a_table_takes_a_separator_that_no_text_holds(spoken):
    comma = RegisterReading(FORWARD._replace(stream="a,b"), AT, "1")
    content = render.formatted_block([comma], spoken[0], "t").content
    assert etree.fromstring(content).findtext(".//{*}separator") == ";"
    assert parse_notification(content) == Readings(registers=(comma,))
    none_left = RegisterReading(FORWARD._replace(stream=",;|\t"), AT, "1")
    with pytest.raises(CannotRepresent, match="no separator"):
        render.formatted_block([none_left], spoken[0], "t")


# --- intervals -------------------------------------------------------------------------------------------------------


def test_intervals_are_named_by_their_start_and_come_back_as_they_were(spoken):
    version, read = spoken
    missing, clock = (Quality("2.5.259"),), (Quality("1.4.9"),)
    quarter = IntervalBlock(QUARTER, 900, (AT, AT + 900, AT + 1800), ("1.250", None, "0"), ((), missing, clock))
    volts = IntervalBlock(VOLTS, 100, (AT,), ("230.1",), ((),))
    content = canonical(render.interval_data(Readings((quarter, volts)), version, "t-3"))
    said = read(content).intervalReads
    first, second = said.profiles.profile
    length = first.intervalLength if version is Version.V3 else first.intervalLength._value_1
    assert (Decimal(str(length)), first.profileID, first.name) == (15, "P1", "UP-1")
    channel = second.channels.channel[0]
    assert (channel.fieldName, channel.fieldDescription, channel.units) == (VOLTS.reading_type, "V & A", "V")
    block = said.blocks.block[0]
    assert units.seconds_of(block.intervalStart) == AT - 900
    assert block.dB.chs.ch[0].d == "1.250,|2.5.259,0|1.4.9"
    assert (said.statusDelimiter, said.intervalDelimiter) == ("|", ",")
    assert parse_notification(content) == Readings((quarter, volts))


def test_a_hole_cuts_a_block_in_two():
    five = QUARTER._replace(reading_type="0.0.6.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0")
    holed = IntervalBlock(five, 300, (AT, AT + 300, AT + 1200), ("1", "2", "3"), ((),) * 3)
    found = parse_notification(render.interval_data(Readings((holed,)), Version.V4, "").content)
    assert [(block.ends_utc, block.values) for block in found.blocks] == [
        ((AT, AT + 300), ("1", "2")),
        ((AT + 1200,), ("3",)),
    ]


def test_what_intervals_cannot_hold_is_listed_or_refused():
    said = IntervalBlock(QUARTER, 900, (AT,), ("1",), ((Quality("2.8.0", "guessed"),),))
    found = render.interval_data(Readings((said,), REGISTERS[:1]), Version.V3, "")
    assert [item.reason for item in found.losses] == ["the words of a quality", "a register reading is no interval"]
    for nothing in (Readings(), Readings((replace(said, interval_s=0),))):
        with pytest.raises(CannotRepresent):
            render.interval_data(nothing, Version.V3, "")


# --- events and switches ---------------------------------------------------------------------------------------------


def test_an_event_keeps_its_four_numbers_moment_reason_and_details(spoken):
    version, read = spoken
    details = {"phase": "A", "volt": '"0" & less'}
    event = EndDeviceEvent("", "3.26.0.85", AT * 1000 + 250, "M1", "power failed", details=details)
    content = canonical(render.meter_events([event], version))
    (instance,) = read(content).events.eventInstances.eventInstance
    said = instance.meterEvent
    assert (said.domain, said.domainPart, said.type, said.index, said.codeString) == ("3", "26", "0", "85", "3.26.0.85")
    assert said._value_1 == "2026-03-01T00:00:00.250Z power failed"
    assert parse_notification(content) == (event,)
    lossy = replace(event, mrid="e-1", severity="high")
    assert [item.reason.split()[0] for item in render.meter_events([lossy], version).losses] == ["mRID", "severity"]
    with pytest.raises(CannotRepresent, match="four parts"):
        render.meter_events([replace(event, event_type="3.26")], version)


@pytest.mark.parametrize(
    ("action", "state", "code"),
    [
        ("shed", State.DONE, "Open"),
        ("restore", State.DONE, "Closed"),
        ("start-generator", State.DONE, "Closed"),
        ("trip", State.DONE, "Open"),
        ("disconnect-generator", State.FAILED, "Unknown"),
        ("shed", State.EXPIRED, "Unknown"),
        ("restore", State.UNKNOWN, "Unknown"),
    ],
)
def test_a_switch_is_where_it_was_put_only_when_that_was_done(spoken, action, state, code):
    version, read = spoken
    found = render.state_changed("M1", CONTROL._replace(action=action), state, version)
    said = read(canonical(found))
    why = "" if state is State.DONE else f"{action} {state}"
    if version is Version.V3:
        assert (said.meterNo, said.stateChange, said.transactionID, said.errorString or "") == (
            "M1",
            code,
            "shed-7",
            why,
        )
    else:
        assert (said.stateChange.meterID.meterNo, said.stateChange.stateChange) == ("M1", code)
        assert bool(found.losses) is bool(why)
    told = why if version is Version.V3 else ""
    assert parse_notification(found.content) == SwitchState("M1", code, "shed-7", told)


@pytest.mark.parametrize("version", VERSIONS)
def test_of_a_transaction_of_several_actions_each_answer_bears_the_callers_own_name(version):
    for action in render.LOAD_ACTION:
        control = CONTROL._replace(action=action, tracking_id=name_part("tx-1", action))
        found = render.state_changed("M1", control, State.DONE, version)
        assert parse_notification(found.content).transaction_id == "tx-1"


@pytest.mark.parametrize("action", sorted(set(ACTIONS) - set(render.LOAD_ACTION)))
def test_a_command_that_moves_no_switch_changes_no_state(action):
    with pytest.raises(CannotRepresent, match="moves no switch"):
        render.state_changed("M1", CONTROL._replace(action=action), State.DONE, Version.V3)


# --- what is said around and back ------------------------------------------------------------------------------------


def test_every_unit_we_send_is_in_the_wsdl_and_none_is_ours_alone():
    for file in FILES.values():
        tree = etree.parse(str(ROOT / "wsdl" / file))
        listed = tree.xpath("//*[local-name()='simpleType'][@name='uom']//@value")
        assert sorted(set(UOM.values())) == listed
    assert set(UOM) <= set(units.SYMBOLS.values())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_header_says_who_calls_and_the_messages_name(version):
    wrap = wrapping(version, Credentials("us & co", "secret", "Co-op"), lambda: AT * 1000)
    envelope = etree.fromstring(wrap("m-1", b"<x/>"))
    (header,) = envelope.find(ns.q(ns.SOAP11, "Header"))
    assert header.tag == f"{{{version}}}MultiSpeakMsgHeader"
    said = dict(header.attrib)
    assert (said["UserID"], said["Pwd"], said["Company"], said["MessageID"]) == ("us & co", "secret", "Co-op", "m-1")
    assert said["TimeStamp"] == "2026-03-01T00:00:00.000Z"
    assert said.get("Version", said.get("MajorVersion")) in ("3.0ac", "4")
    schema = etree.parse(str(ROOT / "wsdl" / FILES[version]))
    known = schema.xpath("//*[local-name()='complexType'][@name='MultiSpeakMsgHeader']//@name")
    assert set(said) <= set(known)


MSG = f'xmlns="{ns.MESSAGE}"'
ANSWERS = {
    "empty": ("<r><Result/></r>", []),
    "nil-object": ('<r><errorObject xmlns:i="u" /></r>', []),
    "object": ('<r><errorObject objectID="M1" errorString="no such meter"/></r>', [("no such meter", "M1")]),
    "text-only": ("<r><errorObject>bad</errorObject></r>", [("bad", "")]),
    "ok": (f"<r><Reply {MSG}><Result>OK</Result></Reply></r>", []),
    "ok-with-zero": (f"<r><Reply {MSG}><Result>OK</Result><Error><code>0.0</code></Error></Reply></r>", []),
    "failed": (f"<r><Reply {MSG}><Result>FAILED</Result></Reply></r>", [("Result FAILED", "")]),
    "partial": (
        f"<r><Reply {MSG}><Result>PARTIAL</Result><Error><code>2.4</code><reason>late</reason></Error></Reply></r>",
        [("late", "")],
    ),
    "reply-in-the-wrappers-space": (
        f'<r xmlns="urn:w"><Reply><Result {MSG}>FAILED</Result></Reply></r>', [("Result FAILED", "")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_what_an_answer_says(name):
    text, expected = ANSWERS[name]
    assert [(item.reason, item.path) for item in judged(etree.fromstring(text))] == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"no xml",
        b"<Other/>",
        b'<ReadingChangedNotification xmlns="u"><changedMeterReads><r><readingValues><readingValue/></readingValues>'
        b"</r></changedMeterReads></ReadingChangedNotification>",
        b'<IntervalDataNotification xmlns="u"></IntervalDataNotification>',
        b'<IntervalDataNotification xmlns="u"><intervalReads><blocks><b><profileID>P9</profileID><dB><chs><ch/></chs>'
        b"</dB></b></blocks></intervalReads></IntervalDataNotification>",
        b'<MeterEventNotification xmlns="u"><events><eventInstances><e><meterEvent value="[]">2026</meterEvent></e>'
        b"</eventInstances></events></MeterEventNotification>",
        b'<FormattedBlockNotification xmlns="u"><changedMeterReads/></FormattedBlockNotification>',
        b'<CDStateChangedNotification xmlns="u"/>',
    ],
)
def test_what_cannot_be_read_is_refused(raw):
    with pytest.raises(FileInvalid):
        parse_notification(raw)
