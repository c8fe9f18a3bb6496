"""Receipts and refusals: what is stated is what is read, and nothing else counts as an answer."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from gridpost import answers, ns, schemas
from gridpost.envelope import parse
from gridpost.errors import AnswerUntrusted, GridpostError, Internal, MessageStale, SignatureInvalid, leaves
from gridpost.model import Counts, Position, Receipt, Reference, Refusal

DIGEST = hashlib.sha256(b"x").digest()
NUMBERS = st.integers(0, 2**31)
OCTETS = st.binary(min_size=32, max_size=32)
TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
REFERENCES = st.builds(
    Reference,
    TEXTS,
    st.just(ns.EXC_C14N),
    st.sampled_from(["", "soap", "soap #default"]),
    st.just(ns.SHA256),
    st.just("AAAA"),
)
RECEIPTS = st.builds(
    Receipt,
    message_id=TEXTS,
    sender=TEXTS,
    content_digest=OCTETS,
    references=st.lists(REFERENCES, min_size=2, max_size=3).map(tuple),
    recorded_at_utc_ms=st.integers(0, 10**13),
    position=st.builds(Position, NUMBERS, NUMBERS),
    root_before=OCTETS,
    counts=st.builds(Counts, NUMBERS, NUMBERS, NUMBERS),
)
SAID = (
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1)
    .map(str.strip)
    .filter(bool)
)
REFUSALS = st.builds(
    Refusal,
    code=st.sampled_from(sorted(leaf.code for leaf in leaves())),
    retry=st.sampled_from(["never", "after-fix", "later"]),
    reason=SAID,
    content_digest=OCTETS,
    signature_digest=OCTETS,
    time_utc_ms=st.integers(0, 10**13),
    items=st.lists(st.tuples(st.just("bad-value"), SAID, SAID), min_size=1, max_size=3).map(tuple),
)
NOUNS = st.sampled_from(["MeterReadings", "EndDeviceEvents"])
RECEIPT = Receipt(
    "m1",
    "IED1",
    DIGEST,
    (Reference("#body", ns.EXC_C14N, "", ns.SHA256, "AAAA"),) * 2,
    1000,
    Position(0, 41),
    DIGEST,
    Counts(1, 2, 3),
)
REFUSAL = Refusal("message-stale", "later", "too old", DIGEST, DIGEST, 2000)


def decoded(payload: bytes):
    """Around it what wssecurity.sign puts there, for the prefix of a Fault."""
    return answers.decode(parse(b'<soap:Body xmlns:soap="%s">%s</soap:Body>' % (ns.SOAP11.encode(), payload))[0])


@given(RECEIPTS, NOUNS)
def test_a_receipt_read_is_the_receipt_made(receipt, noun):
    assert decoded(answers.encode_receipt(receipt, noun, "bus")) == receipt


@given(REFUSALS, NOUNS)
def test_a_refusal_read_is_the_refusal_made(refusal, noun):
    assert decoded(answers.encode_refusal(refusal, "Client", noun)) == refusal


def test_a_refusal_without_items_lists_itself():
    assert decoded(answers.encode_refusal(REFUSAL, "Client", "MeterReadings")).items == (
        ("message-stale", "too old", ""),
    )


def test_a_receipt_says_reply_and_what_it_answers():
    root = parse(answers.encode_receipt(RECEIPT, "MeterReadings", "bus-1"))
    schemas.validate(root)
    said = {etree.QName(child).localname: child.text for child in root[0]}
    assert said == {
        "Verb": "reply",
        "Noun": "MeterReadings",
        "Timestamp": "1970-01-01T00:00:01.000Z",
        "Source": "bus-1",
        "CorrelationID": "m1",
    }
    assert root.findtext(f".//{{{ns.MESSAGE}}}Result") == "OK"


def test_a_refusal_is_a_fault_of_soap_1_1():
    """SOAP 1.1 section 4.4: faultcode, faultstring, detail, in this order, without namespace."""
    root = parse(
        b'<soap:Body xmlns:soap="%s">%s</soap:Body>'
        % (ns.SOAP11.encode(), answers.encode_refusal(REFUSAL, "Client", "MeterReadings"))
    )
    fault = root[0]
    assert [child.tag for child in fault] == ["faultcode", "faultstring", "detail"]
    assert (fault[0].text, fault[1].text) == ("soap:Client", "message-stale: too old")
    schemas.validate(fault[2][0])


@pytest.mark.parametrize("leaf", sorted(leaves(), key=lambda leaf: leaf.code), ids=lambda leaf: leaf.code)
def test_an_unsigned_fault_tells_a_code_and_nothing_else(leaf: type[GridpostError]):
    raw = answers.encode_fault(leaf("the reason", detail="the cause"))
    root = parse(raw)
    assert root.tag == f"{{{ns.SOAP11}}}Envelope"
    assert root.findtext(".//faultstring") == leaf.code
    assert root.findtext(".//faultcode") == f"soap:{leaf.soap_fault}"
    assert b"the reason" not in raw
    assert b"the cause" not in raw


def test_every_code_is_different():
    codes = [leaf.code for leaf in leaves()]
    assert len(codes) == len(set(codes))
    assert {SignatureInvalid.code, MessageStale.code, Internal.code} <= set(codes)


RIGHT = answers.encode_receipt(RECEIPT, "MeterReadings", "bus").decode()
REFUSED = answers.encode_refusal(REFUSAL, "Client", "MeterReadings").decode()
PAYLOAD = RIGHT[RIGHT.index("<Payload>") : RIGHT.index("</Payload>") + 10]


@pytest.mark.parametrize(
    "payload",
    [
        '<a xmlns="u:x"/>',
        RIGHT.replace("MeterReadingsResponseMessage", "CreatedMeterReadings"),
        RIGHT.replace(PAYLOAD, ""),
        RIGHT.replace(PAYLOAD, "<Payload/>"),
        RIGHT.replace("<seq>41</seq>", ""),
        RIGHT.replace("<seq>41</seq>", "<seq>-1</seq>"),
        RIGHT.replace("<seq>41</seq>", f"<seq>{'9' * 5000}</seq>"),
        RIGHT.replace("<seq>41</seq>", "<seq>4.1</seq>"),
        RIGHT.replace("1970-01-01T00:00:01.000Z</recordedAt>", "1970-01-01T00:00:01.000</recordedAt>"),
        RIGHT.replace("<contentDigest>", "<contentDigest>*"),
        RIGHT.replace("<messageId>m1</messageId>", "<messageId>m1</messageId><messageId>m2</messageId>"),
        REFUSED.replace("<detail>", "<Detail>").replace("</detail>", "</Detail>"),
        REFUSED.replace("<detail>", "<detail><a/>"),
        REFUSED.replace("MeterReadingsFaultMessage", "MeterReadingsResponseMessage"),
        REFUSED[: REFUSED.index("<Refusal")] + REFUSED[REFUSED.index("</Refusal>") + 10 :],
        REFUSED.replace("<retry>later</retry>", "<retry>perhaps</retry>"),
        REFUSED.replace("<signatureDigest>", "<signatureDigest>*"),
        "<soap:Fault><faultcode>soap:Client</faultcode><faultstring>x</faultstring></soap:Fault>",
        "<soap:Fault><faultcode>soap:Client</faultcode><faultstring>x</faultstring><detail/></soap:Fault>",
    ],
    ids=range(19),
)
def test_what_is_no_answer(payload):
    with pytest.raises(AnswerUntrusted):
        decoded(payload.encode())


def test_a_refusal_without_its_sentence_is_still_a_refusal():
    start, end = REFUSED.index("<faultstring>"), REFUSED.index("</faultstring>") + len("</faultstring>")
    assert decoded((REFUSED[:start] + REFUSED[end:]).encode()).reason == ""


def test_an_answer_may_grow_behind_the_receipt():
    """The schema leaves room for later additions, which a client passes over."""
    more = RIGHT.replace("</Payload>", '<Format>XML</Format><new xmlns="urn:new"/></Payload>')
    assert decoded(more.encode()) == RECEIPT
