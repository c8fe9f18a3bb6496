"""Commands on the wire: against XML written by hand, back and forth, and everything that is refused with its place."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from gridpost import answers, control_messages, exchange, messages, ns, schemas
from gridpost.controls import ACTIONS, Control, State, Wanted
from gridpost.envelope import canonical, parse
from gridpost.errors import AnswerUntrusted, HeaderIncomplete, SchemaInvalid, UnknownOperation
from gridpost.exchange import Trust
from gridpost.model import Counts, Header, Position, Receipt, Reference
from gridpost.requests import (
    CancelEndDeviceControls,
    ChangeEndDeviceControls,
    CreateEndDeviceControls,
    GetEndDeviceControls,
)
from gridpost.testing import NOW_UTC_MS, ThrowawayCA

MSG = 'xmlns="http://iec.ch/TC57/2011/schema/message"'
FIRST_MARCH_MS = 1_772_323_200_000  # 2026-03-01T00:00:00Z, by date -d
GET = Header("get", "EndDeviceControls", FIRST_MARCH_MS, "IED-7", "m-1")
CREATE = Header("create", "EndDeviceControls", FIRST_MARCH_MS, "acme", "m-2")
CHANGE = Header("change", "EndDeviceControls", FIRST_MARCH_MS, "acme", "m-3")
CANCEL = Header("cancel", "EndDeviceControls", FIRST_MARCH_MS, "acme", "m-4")
REPLY = Header("reply", "EndDeviceControls", FIRST_MARCH_MS, "bus", correlation_id="m-2")
CONTROL = Control(
    mrid="0-41-2",
    issuer="acme",
    role="utility",
    tracking_id="shed-9",
    action="reduce",
    target="IED-7",
    output="boiler",
    value="12.50",
    unit="kW",
    not_before_utc_ms=FIRST_MARCH_MS + 60_000,
    expires_utc_ms=FIRST_MARCH_MS + 3_600_000,
    need_by_utc_ms=FIRST_MARCH_MS + 120_000,
    priority=1,
    reason="peak & <price>",
    data=(("step", "2"),),
    counter=7,
)
RECEIPT = Receipt(
    message_id="m-2",
    sender="acme",
    content_digest=bytes(32),
    references=(Reference("#body", ns.EXC_C14N, "", ns.SHA256, "AA=="),),
    recorded_at_utc_ms=FIRST_MARCH_MS,
    position=Position(0, 41),
    root_before=bytes(32),
    counts=Counts(1, 0, 0),
)


def by_hand(text: str) -> bytes:
    """What stands between the lines of a test is laid out for people."""
    return re.sub(r"\n\s*", "", text).encode()


# --- by hand ---------------------------------------------------------------------------------------------------------

FETCH = by_hand(f"""
<GetEndDeviceControls xmlns="http://iec.ch/TC57/2011/EndDeviceControlsMessage">
 <Header><Verb {MSG}>get</Verb><Noun {MSG}>EndDeviceControls</Noun><Timestamp {MSG}>2026-03-01T00:00:00.000Z</Timestamp>
  <Source {MSG}>IED-7</Source><MessageID {MSG}>m-1</MessageID></Header>
 <Request><Option {MSG}><name>after</name><value>6</value></Option>
  <Option {MSG}><name>wait</name><value>300</value></Option></Request>
</GetEndDeviceControls>""")

SEALED = by_hand(f"""
<EndDeviceControlsResponseMessage xmlns="http://iec.ch/TC57/2011/EndDeviceControlsMessage">
 <Header><Verb {MSG}>reply</Verb><Noun {MSG}>EndDeviceControls</Noun>
  <Timestamp {MSG}>2026-03-01T00:00:00.000Z</Timestamp><Source {MSG}>bus</Source>
  <CorrelationID {MSG}>0-41-2</CorrelationID></Header>
 <Reply><Result {MSG}>OK</Result></Reply>
 <Payload><EndDeviceControls xmlns="http://iec.ch/TC57/2011/EndDeviceControls#"><EndDeviceControl>
  <mRID>0-41-2</mRID><issuerID>acme</issuerID><issuerTrackingID>shed-9</issuerTrackingID>
  <reason>peak &amp; &lt;price&gt;</reason><EndDeviceControlType ref="3.15.0.139"></EndDeviceControlType>
  <EndDevices><mRID>IED-7</mRID></EndDevices>
  <primaryDeviceTiming><interval><end>2026-03-01T01:00:00.000Z</end><start>2026-03-01T00:01:00.000Z</start></interval>
  </primaryDeviceTiming>
  <Instruction xmlns="urn:gridpost:control:1"><role>utility</role><counter>7</counter><output>boiler</output>
   <value>12.50</value><unit>kW</unit><priority>1</priority><needBy>2026-03-01T00:02:00.000Z</needBy>
   <Data><name>step</name><value>2</value></Data></Instruction>
 </EndDeviceControl></EndDeviceControls></Payload>
</EndDeviceControlsResponseMessage>""")

ASKED = by_hand(f"""
<CreateEndDeviceControls xmlns="http://iec.ch/TC57/2011/EndDeviceControlsMessage">
 <Header><Verb {MSG}>create</Verb><Noun {MSG}>EndDeviceControls</Noun>
  <Timestamp {MSG}>2026-03-01T00:00:00.000Z</Timestamp><Source {MSG}>acme</Source>
  <MessageID {MSG}>m-2</MessageID></Header>
 <Payload><EndDeviceControls xmlns="http://iec.ch/TC57/2011/EndDeviceControls#">
  <EndDeviceControl><mRID>shed-9</mRID><EndDeviceControlType ref="3.15.0.23"></EndDeviceControlType>
   <EndDeviceGroups><mRID>north</mRID></EndDeviceGroups><EndDevices><mRID>IED-7</mRID></EndDevices>
   <EndDevices><mRID>IED-8</mRID></EndDevices>
   <primaryDeviceTiming><interval><end>2026-03-01T01:00:00.000Z</end></interval></primaryDeviceTiming>
   <Instruction xmlns="urn:gridpost:control:1"><output>boiler</output><priority>5</priority></Instruction>
  </EndDeviceControl></EndDeviceControls></Payload>
</CreateEndDeviceControls>""")
SHED = Wanted(
    mrid="shed-9",
    action="shed",
    targets=("IED-7", "IED-8"),
    group="north",
    output="boiler",
    expires_utc_ms=FIRST_MARCH_MS + 3_600_000,
)


def decoded(payload: bytes):
    element = etree.fromstring(payload)
    schemas.validate(element)
    return messages.decode(element)


def test_a_fetch_is_what_the_contract_says():
    assert control_messages.encode_get_controls(GET, 6, 300) == FETCH
    assert decoded(FETCH) == GetEndDeviceControls(GET, after=6, wait_s=300)


def test_a_fetch_without_a_request_asks_from_the_start():
    text = re.sub(b"<Request>.*</Request>", b"", FETCH)
    assert decoded(text) == GetEndDeviceControls(GET)


def test_a_sealed_control_is_what_the_contract_says():
    assert control_messages.encode_control(CONTROL, "bus", FIRST_MARCH_MS) == SEALED
    assert control_messages.decode_control(etree.fromstring(SEALED)) == CONTROL


def test_what_an_issuer_asks_for_is_what_the_contract_says():
    assert control_messages.encode_create_controls(CREATE, [SHED]) == ASKED
    assert decoded(ASKED) == CreateEndDeviceControls(CREATE, (SHED,))


def test_an_answer_without_a_control_has_no_payload_and_names_the_fetch():
    payload = control_messages.encode_no_control("m-1", "bus", FIRST_MARCH_MS)
    element = etree.fromstring(payload)
    schemas.validate(element)
    assert [child.tag.rpartition("}")[2] for child in element] == ["Header", "Reply"]
    assert element.findtext("{*}Header/{*}CorrelationID") == "m-1"
    assert control_messages.decode_control(element) is None


def test_an_issuer_is_told_states_and_its_receipt_behind_them():
    told = [(CONTROL._replace(counter=0), State.HELD, "31 in an hour; 30 are let through"), (CONTROL, State.FETCHED)]
    payload = control_messages.encode_controls_reply(REPLY, told, RECEIPT)
    element = etree.fromstring(payload)
    schemas.validate(element)
    names = {"c": "urn:gridpost:control:1", "r": "urn:gridpost:receipt:1"}
    assert element.xpath("//c:state/text()", namespaces=names) == ["held", "fetched"]
    assert element.xpath("//c:detail/text()", namespaces=names) == ["31 in an hour; 30 are let through"]
    assert element.xpath("//c:counter/text()", namespaces=names) == ["7"]
    payload_children = [child.tag.rpartition("}")[2] for child in element[2]]
    assert payload_children == ["EndDeviceControls", "Receipt"]
    assert canonical(parse(payload)) == payload


# --- back and forth --------------------------------------------------------------------------------------------------

_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=40).map(str.strip)
_NAME = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40).map(str.strip)
_ID = _NAME.filter(bool)
_MS = st.one_of(st.just(0), st.integers(1, 4_000_000_000_000))
_VALUE = st.from_regex(r"-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?", fullmatch=True)
_COMMON = {
    "action": st.sampled_from(sorted(ACTIONS)),
    "output": _NAME,
    "value": st.one_of(st.just(""), _VALUE),
    "unit": _NAME,
    "not_before_utc_ms": _MS,
    "expires_utc_ms": _MS,
    "need_by_utc_ms": _MS,
    "priority": st.integers(0, 9),
    "reason": _TEXT,
    "data": st.lists(st.tuples(_ID, _TEXT), max_size=3).map(tuple),
}
WANTED = st.builds(
    Wanted, mrid=_ID, targets=st.lists(_ID, min_size=1, max_size=3).map(tuple), group=_NAME, **_COMMON
)  # fmt: skip
SEALABLE = st.builds(
    Control,
    mrid=_ID,
    issuer=_NAME,
    role=_NAME,
    tracking_id=_NAME,
    target=_ID,
    counter=st.integers(1, 10**18 - 1),
    **_COMMON,
)


@settings(max_examples=60)
@given(st.sampled_from([CREATE, CHANGE]), st.lists(WANTED, min_size=1, max_size=3, unique_by=lambda one: one.mrid))
def test_what_an_issuer_asks_decodes_to_itself(header, wanted):
    payload = control_messages.encode_create_controls(header, wanted)
    kind = {"create": CreateEndDeviceControls, "change": ChangeEndDeviceControls}[header.verb]
    assert decoded(payload) == kind(header, tuple(wanted))
    assert canonical(parse(payload)) == payload


@settings(max_examples=60)
@given(SEALABLE)
def test_a_sealed_control_decodes_to_itself(control):
    payload = control_messages.encode_control(control, "bus", FIRST_MARCH_MS)
    assert control_messages.decode_control(etree.fromstring(payload)) == control
    assert canonical(parse(payload)) == payload


@settings(max_examples=60)
@given(
    st.builds(
        GetEndDeviceControls,
        st.just(GET),
        after=st.integers(0, 10**18 - 1),
        wait_s=st.integers(0, 300),
        ids=st.lists(_ID, max_size=3).map(tuple),
        states=st.lists(st.sampled_from([str(state) for state in State]), max_size=3).map(tuple),
        limit=st.integers(0, 10_000),
        page=_NAME,
    )
)
def test_what_is_looked_for_decodes_to_itself(request):
    payload = control_messages.encode_list_controls(request)
    assert decoded(payload) == request
    assert canonical(parse(payload)) == payload


@given(st.lists(_ID, min_size=1, max_size=3))
def test_what_is_taken_back_decodes_to_itself(ids):
    payload = control_messages.encode_cancel_controls(CANCEL, ids)
    assert decoded(payload) == CancelEndDeviceControls(CANCEL, tuple(ids))


def test_an_action_of_a_newer_bus_comes_through_as_its_code():
    payload = control_messages.encode_control(CONTROL._replace(action="3.99.0.1"), "bus", FIRST_MARCH_MS)
    assert control_messages.decode_control(etree.fromstring(payload)).action == "3.99.0.1"


# --- what is refused, and where --------------------------------------------------------------------------------------

PLACE = "/edcm:CreateEndDeviceControls[1]/edcm:Payload[1]/d:EndDeviceControls[1]/d:EndDeviceControl[1]"
GROUP = b"<EndDeviceGroups><mRID>south</mRID></EndDeviceGroups>"
BAD_WANTED = {
    "no mRID": (b"<mRID>shed-9</mRID>", b"", PLACE),
    "blank mRID": (b"shed-9", b" ", PLACE),
    "long mRID": (b"shed-9", b"x" * 65, PLACE),
    "unknown action": (b"3.15.0.23", b"3.15.0.24", PLACE),
    "two groups": (b"<EndDeviceGroups>", GROUP + b"<EndDeviceGroups>", PLACE),
    "a target of nothing": (b"IED-7", b"", f"{PLACE}/d:EndDevices[1]/d:mRID[1]"),
    "a target in Greek": (b"IED-7", "\N{GREEK SMALL LETTER ALPHA}".encode(), f"{PLACE}/d:EndDevices[1]/d:mRID[1]"),
    "a zoneless end": (
        b"01:00:00.000Z",
        b"01:00:00",
        f"{PLACE}/d:primaryDeviceTiming[1]/d:interval[1]/d:end[1]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_WANTED)
def test_what_xsd_lets_pass_and_nobody_could_obey_is_refused_at_its_place(case):
    old, new, place = BAD_WANTED[case]
    assert ASKED.count(old) == 1
    with pytest.raises(SchemaInvalid) as caught:
        decoded(ASKED.replace(old, new))
    assert {(item.code, item.path) for item in caught.value.items} == {("bad-value", place)}


def test_a_control_for_nobody_is_refused():
    nobody = re.sub(rb"<EndDevices>.*</EndDevices>|<EndDeviceGroups>.*</EndDeviceGroups>", b"", ASKED)
    with pytest.raises(SchemaInvalid, match="names neither"):
        decoded(nobody)


def test_one_mrid_twice_is_refused_at_both_places():
    twice = control_messages.encode_create_controls(CREATE, [SHED, SHED])
    with pytest.raises(SchemaInvalid) as caught:
        decoded(twice)
    assert [item.path[-4:-1] for item in caught.value.items] == ["l[1", "l[2"]


@pytest.mark.parametrize("count", [0, 1001])
def test_none_and_too_many_are_refused(count):
    wanted = [SHED._replace(mrid=f"s-{number}") for number in range(count)]
    with pytest.raises(SchemaInvalid, match=f"needs 1 to 1000 controls, has {count}"):
        decoded(control_messages.encode_create_controls(CREATE, wanted))


BAD_FETCHES = {
    "an option nobody has": (b"<name>wait", b"<name>weight"),
    "a wait too long": (b"<value>300", b"<value>301"),
    "a negative wait": (b"<value>300", b"<value>-1"),
    "a counter in Arabic digits": (b"<value>6", "<value>\N{ARABIC-INDIC DIGIT SIX}".encode()),
    "a counter of 19 digits": (b"<value>6", b"<value>" + b"9" * 19),
    "no value": (b"<value>6</value>", b""),
    "after twice": (b"<name>wait", b"<name>after"),
}


@pytest.mark.parametrize("case", BAD_FETCHES)
def test_a_fetch_that_cannot_be_meant_is_refused_at_its_option(case):
    with pytest.raises(SchemaInvalid) as caught:
        decoded(FETCH.replace(*BAD_FETCHES[case]))
    (item,) = caught.value.items
    assert re.fullmatch(r"/edcm:GetEndDeviceControls\[1\]/edcm:Request\[1\]/msg:Option\[[12]\]", item.path)


def test_taking_nothing_back_is_refused():
    with pytest.raises(SchemaInvalid, match="needs 1 to 1000 IDs, has 0"):
        decoded(control_messages.encode_cancel_controls(CANCEL, []))


@pytest.mark.parametrize("payload", [FETCH.replace(b">get<", b">create<"), ASKED.replace(b">create<", b">change<")])
def test_a_verb_that_is_not_the_elements_is_refused(payload):
    with pytest.raises(HeaderIncomplete, match="expected"):
        decoded(payload)


SECOND = b'<EndDeviceControl><EndDeviceControlType ref="1.1.1.1"/></EndDeviceControl>'
BAD_SEALED = {
    "two controls": (b"</EndDeviceControls>", SECOND + b"</EndDeviceControls>"),
    "two targets": (b"</EndDevices>", b"</EndDevices><EndDevices><mRID>IED-8</mRID></EndDevices>"),
    "no counter": (b"<counter>7</counter>", b""),
    "counter 0": (b"<counter>7<", b"<counter>0<"),
    "an exponent": (b"12.50", b"1e3"),
    "priority 10": (b"<priority>1<", b"<priority>10<"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_SEALED)
def test_a_device_takes_no_control_of_another_form(case):
    old, new = BAD_SEALED[case]
    assert SEALED.count(old) == 1
    with pytest.raises(SchemaInvalid):
        control_messages.decode_control(etree.fromstring(SEALED.replace(old, new)))


# --- sealed ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca():
    return ThrowawayCA()


@pytest.fixture(scope="module")
def bus(ca):
    return ca.issue_bus()


def opened(ca, signer, payload: bytes) -> exchange.ControlAnswer:
    return exchange.open_control(exchange.seal(payload, signer, NOW_UTC_MS), Trust(ca.certificate))


def test_a_device_opens_a_control_sealed_by_its_bus(ca, bus):
    answer = opened(ca, bus, SEALED)
    assert (answer.control, answer.correlation_id, answer.sealed_at_utc_ms) == (CONTROL, "0-41-2", NOW_UTC_MS)
    assert answer.certificate == bus.certificate


def test_a_device_learns_that_none_waits(ca, bus):
    answer = opened(ca, bus, control_messages.encode_no_control("m-1", "bus", NOW_UTC_MS))
    assert (answer.control, answer.correlation_id, answer.refusal) == (None, "m-1", None)


def test_a_device_believes_no_other_device(ca):
    with pytest.raises(AnswerUntrusted):
        opened(ca, ca.issue_device("IED-8"), SEALED)


def test_a_receipt_is_no_answer_to_a_fetch(ca, bus):
    with pytest.raises(AnswerUntrusted):
        opened(ca, bus, answers.encode_receipt(RECEIPT, "MeterReadings", "bus"))
    with pytest.raises(AnswerUntrusted):
        opened(ca, bus, answers.encode_receipt(RECEIPT, "EndDeviceControls", "bus"))


@pytest.mark.parametrize("old", [b">0-41-2</Corr", b"<counter>7</counter>", b"EndDeviceControlsResponseMessage"])
def test_an_answer_of_another_form_counts_as_none(ca, bus, old):
    new = b">0-41-3</Corr" if b"Corr" in old else b"" if b"counter" in old else b"EndDeviceEventsResponseMessage"
    with pytest.raises(AnswerUntrusted):
        opened(ca, bus, SEALED.replace(old, new))


def test_a_control_is_not_believed_as_a_receipt(ca, bus):
    with pytest.raises(AnswerUntrusted):
        exchange.open_answer(exchange.seal(SEALED, bus, NOW_UTC_MS), Trust(ca.certificate))


def test_another_element_is_no_control():
    with pytest.raises(UnknownOperation):
        control_messages.decode_control(etree.fromstring(FETCH))
