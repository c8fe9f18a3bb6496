"""The sealed message end to end: nothing but the genuine values ever comes out, and only a bus answers a device."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from forging import BODY, TIME, Setting, draft
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lxml import etree

from gridpost import answers, exchange, messages, ns, testing
from gridpost.envelope import canonical
from gridpost.errors import AnswerUntrusted, PeerFault, SchemaInvalid, SignatureInvalid, SourceMismatch
from gridpost.model import Counts, Position, Quality, Receipt, Refusal
from gridpost.wssecurity import KeySigner

NOW = testing.NOW_UTC_MS
CA = testing.ThrowawayCA()
DEVICE, BUS = CA.issue_device("IED1"), CA.issue_bus()
CHANNELS = [testing.channel(1), testing.channel(2)]
ENROLMENT = testing.enrolment(DEVICE, "IED1", CHANNELS)
BLOCKS = [
    testing.block(CHANNELS[0], NOW // 1000 - 900, ["10423.75", "-0.125"]),
    replace(testing.block(CHANNELS[1], NOW // 1000, ["7"]), qualities=((Quality("1.4.9", "clock step"),),)),
]
MESSAGE = testing.readings_message("IED1", "m-1", BLOCKS)
RAW = testing.sealed(MESSAGE, DEVICE)


def opened(raw: bytes, enrolment=ENROLMENT):
    return exchange.open_(exchange.read(raw), enrolment)


# --- open_ -----------------------------------------------------------------------------------------------------------


def test_what_is_sealed_is_opened():
    found = opened(RAW)
    assert found.message == MESSAGE
    assert (found.sender, found.created_utc_ms, found.raw) == ("IED1", NOW, RAW)
    assert found.content_digest == hashlib.sha256(messages.encode(MESSAGE)).digest()


def test_the_content_survives_a_new_sealing_and_the_attempt_does_not():
    again = opened(exchange.seal(messages.encode(MESSAGE), DEVICE, NOW + 1))
    assert again.content_digest == opened(RAW).content_digest
    assert again.signature_digest != opened(RAW).signature_digest


def test_the_same_time_gives_the_same_bytes():
    """ECDSA after RFC 6979: one seed of a simulation gives one history."""
    assert exchange.seal(messages.encode(MESSAGE), DEVICE, NOW) == RAW


def taken(raw: bytes):
    """The message that comes out, or None."""
    try:
        return opened(raw).message
    except PeerFault:
        return None


@settings(max_examples=400)
@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
def test_a_flipped_octet_never_gives_another_message(at, mask):
    assert taken(RAW[:at] + bytes([RAW[at] ^ mask]) + RAW[at + 1 :]) in (None, MESSAGE)


@settings(max_examples=300)
@given(st.integers(0, len(RAW)), st.integers(0, 400))
@example(0, 0)
def test_a_cut_never_gives_another_message(at, length):
    assert taken(RAW[:at] + RAW[at + length :]) in (None, MESSAGE)


@settings(max_examples=300)
@given(st.integers(0, len(RAW)), st.integers(0, len(RAW)), st.integers(0, 400))
def test_a_piece_copied_elsewhere_never_gives_another_message(start, at, length):
    assert taken(RAW[:at] + RAW[start : start + length] + RAW[at:]) in (None, MESSAGE)


ELEMENTS = range(sum(1 for _ in etree.fromstring(RAW).iter()))


@settings(max_examples=300)
@given(
    st.sampled_from(ELEMENTS[1:]),
    st.sampled_from(ELEMENTS),
    st.integers(0, 5),
    st.sampled_from(["copy", "move", "drop"]),
)
def test_an_element_copied_moved_or_dropped_never_gives_another_message(what, where, index, how):
    root = etree.fromstring(RAW)
    element, parent = list(root.iter())[what], list(root.iter())[where]
    if how == "drop":
        element.getparent().remove(element)
    elif how == "copy":
        parent.insert(index, etree.fromstring(etree.tostring(element, with_tail=False)))
    elif element not in (parent, *parent.iterancestors()):
        parent.insert(index, element)
    assert taken(etree.tostring(root)) in (None, MESSAGE)


@settings(max_examples=200)
@given(
    st.sampled_from(ELEMENTS),
    st.sampled_from(["text", "tail", "attribute"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126)),
)
def test_text_written_anywhere_never_gives_another_message(where, how, text):
    root = etree.fromstring(RAW)
    element = list(root.iter())[where]
    if how == "attribute":
        for name in element.attrib:
            element.set(name, text)
    elif element is not root or how == "text":
        setattr(element, how, text)
    assert taken(etree.tostring(root)) in (None, MESSAGE)


@given(st.binary())
def test_any_bytes_are_read_and_opened_or_refused(raw):
    try:
        exchange.open_(exchange.read(raw), ENROLMENT)
    except PeerFault:
        return


FRAGMENTS = st.recursive(
    st.sampled_from(
        [
            "",
            "x",
            "<a/>",
            "<ds:SignatureValue>AAAA</ds:SignatureValue>",
            "<ds:KeyInfo/>",
            "<ds:SignedInfo/>",
            "<wsse:SecurityTokenReference/>",
            '<wsse:Reference URI="#token"/>',
            "<ds:Reference/>",
            "<ds:Transforms/>",
            "<ds:SignatureMethod/>",
            "<ds:CanonicalizationMethod/>",
            "<wsu:Created/>",
        ]
    ),
    lambda inner: st.builds(
        lambda name, parts: f"<{name}>{''.join(parts)}</{name}>",
        st.sampled_from(
            [
                "ds:SignedInfo",
                "ds:Signature",
                "ds:KeyInfo",
                "ds:Reference",
                "ds:Transforms",
                "wsu:Timestamp",
                "wsse:SecurityTokenReference",
                "soap:Fault",
            ]
        ),
        st.lists(inner, max_size=4),
    ),
    max_leaves=8,
)
SETTING = Setting(DEVICE, "IED1", CHANNELS[0], NOW, DEVICE, "IED1", CHANNELS[0])


@settings(max_examples=200)
@given(st.sampled_from(["signature", "key_info", "timestamp", "payload", "token"]), st.lists(FRAGMENTS, max_size=4))
def test_any_shape_of_a_part_is_refused_not_tripped_over(part, pieces):
    text = "".join(pieces)
    if part == "payload":
        raw = draft(SETTING, text or "<a/>").sealed()
    else:
        raw = draft(SETTING, **{part: text}, unsigned=True, sign=lambda *_: b"x" * 64).sealed()
    assert taken(raw) is None


def test_a_certificate_is_judged_at_created():
    ends = datetime(2026, 1, 1, tzinfo=UTC)  # which is NOW
    short = CA.issue_device("IED1", valid=(ends - timedelta(days=1), ends))
    enrolment = testing.enrolment(short, "IED1", CHANNELS)
    assert opened(testing.sealed(MESSAGE, short, NOW), enrolment).sender == "IED1"
    assert opened(testing.sealed(MESSAGE, short, NOW + 999), enrolment).sender == "IED1"
    for at in (NOW + 1000, NOW - 86_400_001):
        with pytest.raises(SignatureInvalid) as refused:
            opened(testing.sealed(MESSAGE, short, at), enrolment)
        assert refused.value.detail == "certificate is not valid at Created"


def test_a_source_but_the_signers_is_refused():
    with pytest.raises(SourceMismatch):
        opened(testing.sealed(testing.readings_message("IED2", "m-1", BLOCKS), DEVICE))


def test_nothing_unsigned_reaches_the_schema():
    """Invalid against the schema *and* badly signed: the signature speaks first."""
    broken = draft(SETTING, SETTING.payload().replace("<value>1.5</value>", "<nonsense/>")).sealed()
    with pytest.raises(SchemaInvalid):
        opened(broken)
    with pytest.raises(SignatureInvalid):
        opened(broken.replace(b"nonsense", b"NONSENSE"))


@settings(max_examples=60)
@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=30),
    st.sampled_from(["", " ", "\n\t"]),
)
def test_the_digest_cut_out_of_the_body_is_that_of_the_payload(note, blank):
    escaped = note.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    payload = SETTING.payload().replace(
        "</Header>", f'<x:n xmlns:x="u:x" a="{escaped.replace(chr(34), "")}">soap:{escaped}</x:n></Header>', 1
    )
    raw = draft(SETTING, payload, body=f'<soap:Body wsu:Id="body">{blank}{{payload}}{blank}</soap:Body>').sealed()
    envelope = exchange.read(raw)
    assert exchange.verify(envelope, ENROLMENT).content_digest == hashlib.sha256(canonical(envelope.payload)).digest()


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        ('<soap:Body wsu:Id="body">&#13;{payload}</soap:Body>', "<a/>"),
        ('<soap:Body wsu:Id="body">{payload}&#13;</soap:Body>', "<a/>"),
        ('<soap:Body wsu:Id="body"> \n\t{payload}\t\n </soap:Body>', '<a xmlns="u:x"> </a>'),
        ('<soap:Body wsu:Id="body">{payload}</soap:Body>', "<soap:a/>"),
        ('<soap:Body wsu:Id="body">{payload}</soap:Body>', '<a wsu:x="1"/>'),
        ('<soap:Body wsu:Id="body">{payload}</soap:Body>', '<soap:a xmlns:soap="u:x"/>'),
        ('<soap:Body wsu:Id="body">{payload}</soap:Body>', "<a>soap: wsu:</a>"),
        (f'<Body xmlns="{ns.SOAP11}" wsu:Id="body">{{payload}}</Body>', '<a xmlns=""/>'),
        (f'<Body xmlns="{ns.SOAP11}" wsu:Id="body">{{payload}}</Body>', "<a/>"),
        (
            f'<s:Body xmlns:s="{ns.SOAP11}" xmlns:w="{ns.WSU}" w:Id="body">{{payload}}</s:Body>',
            '<a xmlns="u:x"><s:b/></a>',
        ),
    ],
)
def test_the_digest_is_the_payloads_wherever_it_could_differ(body, payload):
    """Each place where the payload's octets inside the Body are not those it has by itself, or nearly not."""
    envelope = exchange.read(draft(SETTING, payload, body=body).sealed())
    alone = etree.fromstring(etree.tostring(envelope.payload, with_tail=False))
    assert exchange.verify(envelope, ENROLMENT).content_digest == hashlib.sha256(canonical(alone)).digest()


def test_the_digest_is_the_payloads_whatever_the_bodys_id():
    named = BODY._replace(uri="#a&gt;b", target="a>b")
    raw = draft(SETTING, "<a/>", body='<soap:Body wsu:Id="a&gt;b">{payload}</soap:Body>', refs=(named, TIME)).sealed()
    assert exchange.verify(exchange.read(raw), ENROLMENT).content_digest == hashlib.sha256(b"<a></a>").digest()


# --- the device's side -----------------------------------------------------------------------------------------------

TRUST = exchange.Trust(CA.certificate)
DIGEST = hashlib.sha256(b"x").digest()
RECEIPT = Receipt(
    "m-1", "IED1", opened(RAW).content_digest, opened(RAW).references, NOW, Position(0, 7), DIGEST, Counts(3, 0, 0)
)
REFUSAL = Refusal("message-stale", "later", "too old", DIGEST, DIGEST, NOW)


def receipt(signer: KeySigner = BUS, at: int = NOW) -> bytes:
    return exchange.seal(answers.encode_receipt(RECEIPT, "MeterReadings", "bus"), signer, at)


def refusal(signer: KeySigner = BUS, at: int = NOW) -> bytes:
    return exchange.seal(answers.encode_refusal(REFUSAL, "Client", "MeterReadings"), signer, at)


def test_a_device_takes_a_bus_at_first_sight():
    answer = exchange.open_answer(receipt(), TRUST)
    assert (answer.receipt, answer.refusal, answer.certificate) == (RECEIPT, None, BUS.certificate)
    answer = exchange.open_answer(refusal(), TRUST)
    assert (answer.receipt, answer.refusal) == (None, replace(REFUSAL, items=(("message-stale", "too old", ""),)))


def test_no_enrolled_device_can_forge_a_receipt():
    """Decision 13: a bus certificate carries a key usage that enrolment never issues."""
    with pytest.raises(AnswerUntrusted) as refused:
        exchange.open_answer(receipt(CA.issue_device("IED2")), TRUST)
    assert "extension" in refused.value.detail


def self_signed(key, usages: list[x509.ObjectIdentifier]) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Throwaway CA")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2050, 1, 1, tzinfo=UTC))
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    )
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


def unknown_algorithm(der: bytes) -> bytes:
    """The certificate with both signature algorithms replaced by an OID nobody knows (1.2.840.10045.4.3.15)."""
    return der.replace(bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06082a8648ce3d04030f"))


def test_no_stranger_can_forge_a_receipt():
    key = ec.generate_private_key(ec.SECP256R1())
    odd = ed25519.Ed25519PrivateKey.generate()
    usages = [exchange.BUS_KEY_USAGE]
    strangers = {
        "another CA's bus": testing.ThrowawayCA("Throwaway CA").issue_bus(),
        "self-signed by the CA's name": KeySigner(key, self_signed(key, usages)),
        "a certificate of an unknown algorithm": KeySigner(key, unknown_algorithm(self_signed(key, usages))),
        "a certificate of a foreign algorithm": KeySigner(key, self_signed(odd, usages)),
        "no certificate": KeySigner(key, b"garbage"),
        "the CA itself": KeySigner(CA.key, CA.certificate),
    }
    for name, signer in strangers.items():
        with pytest.raises(AnswerUntrusted):
            exchange.open_answer(receipt(signer), TRUST)
        assert name


def test_another_extended_key_usage_makes_no_bus():
    signer = CA._issue("web", None, None, [x509.ExtendedKeyUsageOID.SERVER_AUTH])
    with pytest.raises(AnswerUntrusted) as refused:
        exchange.open_answer(receipt(signer), TRUST)
    assert "signer is no bus" in refused.value.detail


def test_a_pinned_bus_is_taken_even_when_the_ca_changed():
    pinned = exchange.Trust(
        testing.ThrowawayCA("New CA").certificate, frozenset({hashlib.sha256(BUS.certificate).digest()})
    )
    assert exchange.open_answer(receipt(), pinned).receipt == RECEIPT
    with pytest.raises(AnswerUntrusted):
        exchange.open_answer(receipt(CA.issue_bus("bus-2")), pinned)


def test_a_bus_certificate_must_have_been_valid_when_it_recorded():
    before = datetime(2025, 1, 1, tzinfo=UTC)
    old = CA._issue("old", None, (before - timedelta(days=1), before), [exchange.BUS_KEY_USAGE])
    with pytest.raises(AnswerUntrusted):
        exchange.open_answer(receipt(old), TRUST)
    with pytest.raises(AnswerUntrusted):
        exchange.open_answer(refusal(old), TRUST)


@pytest.mark.parametrize(
    "raw", [b"", b"<html/>", b"<!DOCTYPE html><html/>", RAW, answers.encode_fault(SignatureInvalid())]
)
def test_anything_else_is_no_answer(raw):
    with pytest.raises(AnswerUntrusted):
        exchange.open_answer(raw, TRUST)


@settings(max_examples=200)
@given(st.integers(0, len(receipt()) - 1), st.integers(1, 255))
def test_a_flipped_octet_of_a_receipt_never_gives_another(at, mask):
    raw = receipt()
    try:
        answer = exchange.open_answer(raw[:at] + bytes([raw[at] ^ mask]) + raw[at + 1 :], TRUST)
    except AnswerUntrusted:
        return
    assert answer.receipt == RECEIPT


@given(st.binary())
def test_any_bytes_are_an_answer_or_untrusted(raw):
    try:
        exchange.open_answer(raw, TRUST)
    except AnswerUntrusted:
        return


def test_bus_key_usage_is_an_oid_of_the_uuid_arc():
    """ITU-T X.667: 2.25 followed by a UUID as a decimal number of at most 128 bits."""
    prefix, _, number = exchange.BUS_KEY_USAGE.dotted_string.rpartition(".")
    assert prefix == "2.25"
    assert 0 < int(number) < 1 << 128
    assert ns.SOAP11.encode() in RAW
