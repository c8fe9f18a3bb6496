"""Signing and verifying, held against python-xmlsec, signxml and an independent canonicaliser."""

import base64
import hashlib
from functools import cache
from xml.etree import ElementTree

import pytest
import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from forging import BODY, EXC, TIME, TOKEN, Setting, draft, raw_signature, with_prefixes
from lxml import etree
from signed_by_xmlsec import XMLSEC_SHAPES, signed_by_xmlsec
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.verifier import SignatureConfiguration, XMLVerifier

from gridpost import answers, envelope, exchange, messages, ns, testing, wssecurity
from gridpost.errors import ConfigInvalid, SignatureInvalid
from gridpost.model import Counts, EndDeviceEvent, Position, Quality, Receipt, Reference, Refusal

CA = testing.ThrowawayCA()
NOW = testing.NOW_UTC_MS
KINDS = ("p-256", "p-384", "rsa-2048", "rsa-3072")


@cache
def signer(kind: str) -> wssecurity.KeySigner:
    key = {
        "p-256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
        "rsa-3072": lambda: rsa.generate_private_key(65537, 3072),
    }[kind]()
    return CA.issue_device("IED1", key)


def setting(kind: str = "p-256") -> Setting:
    return Setting(signer(kind), "IED1", testing.channel(1), NOW, signer(kind), "IED1", testing.channel(1))


def verified(raw: bytes, kind: str) -> wssecurity.Verified:
    return wssecurity.verify(exchange.read(raw), signer(kind).certificate)


# --- python-xmlsec signs, we verify ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", XMLSEC_SHAPES)
def test_what_xmlsec_signs_is_taken(name, kind):
    raw = signed_by_xmlsec(draft(setting(kind), **XMLSEC_SHAPES[name]))
    opened = exchange.open_(exchange.read(raw), testing.enrolment(signer(kind), "IED1", [testing.channel(1)]))
    assert opened.message.readings.blocks[0].values == ("1.5",)
    assert opened.created_utc_ms == NOW


@pytest.mark.parametrize(
    ("kind", "method"),
    [("rsa-2048", ns.RSA_SHA384), ("rsa-2048", ns.RSA_SHA512), ("p-256", ns.ECDSA_SHA384), ("p-384", ns.ECDSA_SHA256)],
)
def test_the_other_algorithms_of_the_table_are_taken(kind, method):
    assert verified(signed_by_xmlsec(draft(setting(kind), method=method)), kind).created_utc_ms == NOW


@pytest.mark.parametrize(
    "method",
    [
        "http://www.w3.org/2000/09/xmldsig#rsa-sha1",
        "http://www.w3.org/2001/04/xmldsig-more#rsa-md5",
        "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1",
        ns.ECDSA_SHA256,
        "",
    ],
)
def test_an_rsa_key_signs_by_its_own_algorithms_only(method):
    """The value is a right rsa-sha256 signature; only what SignatureMethod says of it is wrong."""
    raw = draft(setting("rsa-2048"), method=method or "-").sealed()
    with pytest.raises(SignatureInvalid) as refused:
        verified(raw, "rsa-2048")
    assert refused.value.detail == "algorithm does not fit an RSA key"


def test_an_rsa_value_has_the_length_of_the_key():
    for change in (
        lambda octets: octets + b"\0",
        lambda octets: b"\0" + octets,
        lambda octets: octets[:-1],
        lambda _: b"\0",
    ):

        def odd(signer, octets, method, change=change):
            return change(raw_signature(signer, octets, method))

        with pytest.raises(SignatureInvalid):
            verified(draft(setting("rsa-2048"), sign=odd).sealed(), "rsa-2048")


def test_our_digests_are_those_of_xmlsec():
    """DigestValue is filled in by libxmlsec1; ours must come to the same octets, PrefixList included."""
    raw = signed_by_xmlsec(draft(setting(), **XMLSEC_SHAPES["prefix-list-default"]))
    shaped = exchange.read(raw)
    found = {
        reference.get("URI"): base64.b64decode(reference.findtext(ns.q(ns.DS, "DigestValue")))
        for reference in shaped.signature.iter(ns.q(ns.DS, "Reference"))
    }
    assert found == {
        "#body": hashlib.sha256(envelope.canonical(shaped.body, ["#default"])).digest(),
        "#time": hashlib.sha256(envelope.canonical(shaped.timestamp, ["#default", "soap"])).digest(),
    }


# --- we sign, python-xmlsec and signxml verify -----------------------------------------------------------------------


def message_samples() -> dict[str, bytes]:
    """One of every kind of message and answer, with texts that need escapes."""
    channel = testing.channel(1, key=testing.channel(1).key._replace(meter="M<1>&\"'\r\té😀", stream="a > b"))
    block = testing.block(channel, NOW // 1000, ["1.5", "-0.10"])
    noted = (Quality("1.4.9", 'clock "step" <1 h> & more\r\n\ttab'),)
    block = block.__class__(block.channel, 900, block.ends_utc, ("1.5", None), (noted, (Quality("2.5.259"),)))
    event = EndDeviceEvent("e&1", "3.26.0.85", NOW, "M1", "why <not>", "", {"a": "b & c"})
    digest = hashlib.sha256(b"x").digest()
    references = (Reference('#b"o<dy&', EXC, "soap #default", ns.SHA256, base64.b64encode(digest).decode()),)
    receipt = Receipt("m<1>", "IED&1", digest, references, NOW, Position(0, 41), digest, Counts(1, 2, 3))
    refusal = Refusal("schema-invalid", "after-fix", "a < b", digest, digest, NOW, (("c", "r & s", "/m:a[1]"),))
    return {
        "readings": messages.encode(testing.readings_message("IED1", "m&1", [block], NOW)),
        "no-readings": messages.encode(testing.readings_message("IED1", "m1", [], NOW)),
        "events": messages.encode(testing.events_message("IED1", "m2", [event], NOW)),
        "receipt": answers.encode_receipt(receipt, "MeterReadings", "bus"),
        "receipt-of-events": answers.encode_receipt(receipt, "EndDeviceEvents", "bus"),
        "refusal": answers.encode_refusal(refusal, "Client", "MeterReadings"),
        "refusal-of-events": answers.encode_refusal(refusal, "Server", "EndDeviceEvents"),
    }


SAMPLES = message_samples()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SAMPLES)
def test_xmlsec_and_signxml_verify_what_we_sign(name, kind):
    raw = wssecurity.sign(SAMPLES[name], signer(kind), NOW)
    root = etree.fromstring(raw)
    xmlsec.tree.add_ids(root, ["Id"])
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(signer(kind).certificate, xmlsec.KeyFormat.CERT_DER)
    context.verify(root.find(f".//{ns.q(ns.DS, 'Signature')}"))

    config = SignatureConfiguration(
        location=f"./{ns.q(ns.SOAP11, 'Header')}/{ns.q(ns.WSSE, 'Security')}/",
        expect_references=2,
        signature_methods=frozenset({SignatureMethod(signer(kind).algorithm)}),
        digest_algorithms=frozenset({DigestAlgorithm.SHA256}),
    )
    certificate = x509.load_der_x509_certificate(signer(kind).certificate)
    found = XMLVerifier().verify(etree.fromstring(raw), x509_cert=certificate, id_attribute="Id", expect_config=config)
    assert [etree.QName(result.signed_xml).localname for result in found] == ["Body", "Timestamp"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SAMPLES)
def test_what_we_sign_is_canonical_by_construction(name, kind):
    """No tree is built when signing; libxml2's c14n of each part must give the very bytes that were sent."""
    raw = wssecurity.sign(SAMPLES[name], signer(kind), NOW)
    shaped = exchange.read(raw)
    for part in (shaped.body, shaped.timestamp, shaped.signature[0]):
        assert envelope.canonical(part) in raw
    assert verified(raw, kind).created_utc_ms == NOW


@pytest.mark.parametrize("name", SAMPLES)
def test_payloads_are_canonical_for_an_engine_that_is_not_libxml2(name):
    """xml.etree's canonicalize (C14N 2.0 over expat) agrees with exclusive c14n where no prefix is rewritten."""
    if name.startswith("refusal"):
        wrapped = b'<soap:Body xmlns:soap="%s">%s</soap:Body>' % (ns.SOAP11.encode(), SAMPLES[name])
    else:
        wrapped = SAMPLES[name]
    assert ElementTree.canonicalize(wrapped.decode()).encode() == wrapped


def test_default_in_a_prefix_list_brings_the_default_namespace():
    """Exclusive XML Canonicalization 1.0 section 3: #default stands for the default namespace."""
    root = etree.fromstring('<a xmlns="urn:d" xmlns:p="urn:p" xmlns:q="urn:q"><p:b><p:c/></p:b></a>')
    assert envelope.canonical(root[0]) == b'<p:b xmlns:p="urn:p"><p:c></p:c></p:b>'
    assert envelope.canonical(root[0], ["#default"]) == b'<p:b xmlns="urn:d" xmlns:p="urn:p"><p:c></p:c></p:b>'
    assert envelope.canonical(root[0], ["q"]) == b'<p:b xmlns:p="urn:p" xmlns:q="urn:q"><p:c></p:c></p:b>'


# --- what verify reports, and what it refuses ------------------------------------------------------------------------


def test_verify_reports_references_as_sent():
    raw = draft(setting(), refs=(with_prefixes(TOKEN, "soap", "ds"), TIME, BODY._replace(digest=ns.SHA512))).sealed()
    references = verified(raw, "p-256").references
    assert [reference.uri for reference in references] == ["#token", "#time", "#body"]
    assert [reference.prefix_list for reference in references] == ["soap ds", "", ""]
    assert [reference.digest_algorithm for reference in references] == [ns.SHA256, ns.SHA256, ns.SHA512]
    assert {reference.transform for reference in references} == {EXC}
    assert all(reference.digest_value.encode() in raw for reference in references)


def test_the_signature_digest_is_over_the_octets_of_the_value():
    raw = draft(setting()).sealed()
    value = exchange.read(raw).signature.findtext(ns.q(ns.DS, "SignatureValue"))
    expected = hashlib.sha256(base64.b64decode(value)).digest()
    assert verified(raw, "p-256").signature_digest == expected
    folded = raw.replace(value.encode(), b"\n".join(value[i : i + 20].encode() for i in range(0, len(value), 20)))
    assert verified(folded, "p-256").signature_digest == expected


def test_the_body_is_handed_on_only_without_a_prefix_list():
    shaped = exchange.read(raw := draft(setting()).sealed())
    assert verified(raw, "p-256").body == envelope.canonical(shaped.body)
    assert verified(draft(setting(), refs=(with_prefixes(BODY, "ds"), TIME)).sealed(), "p-256").body == b""


def test_a_certificate_but_the_given_one_is_refused():
    other = CA.issue_device("IED1")
    with pytest.raises(SignatureInvalid, match="not accepted") as refused:
        wssecurity.verify(exchange.read(draft(setting()).sealed()), other.certificate)
    assert refused.value.detail == "token is not the enrolled certificate"


@pytest.mark.parametrize("octets", [b"", b"garbage", b"0" * 500])
def test_octets_that_are_no_certificate_have_no_key(octets):
    with pytest.raises(SignatureInvalid):
        wssecurity.public_key(octets)


def test_ecdsa_is_deterministic_and_of_full_length():
    """RFC 6979; RFC 4050 section 3.3: r and s at the octet length of the curve's order."""
    for kind, octets in (("p-256", 64), ("p-384", 96)):
        first, again = signer(kind).sign(b"x"), signer(kind).sign(b"x")
        assert first == again
        assert len(first) == octets


def test_keys_load_from_pem_only_with_their_own_certificate():
    one, other = signer("p-256"), signer("p-384")

    def pems(key_of: wssecurity.KeySigner, certificate_of: wssecurity.KeySigner) -> tuple[bytes, bytes]:
        key = key_of._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        loaded = x509.load_der_x509_certificate(certificate_of.certificate)
        return key, loaded.public_bytes(serialization.Encoding.PEM)

    assert wssecurity.KeySigner.from_pem(*pems(one, one)).certificate == one.certificate
    with pytest.raises(ConfigInvalid, match="another key"):
        wssecurity.KeySigner.from_pem(*pems(one, other))
    with pytest.raises(ConfigInvalid, match="not readable"):
        wssecurity.KeySigner.from_pem(b"no pem", pems(one, one)[1])
    version_8 = one.certificate.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1)  # RFC 5280 knows v1 to v3
    text = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(version_8) + b"-----END CERTIFICATE-----\n"
    with pytest.raises(ConfigInvalid, match="not readable"):
        wssecurity.KeySigner.from_pem(pems(one, one)[0], text)


def test_a_prefix_list_is_bounded():
    fits = [f"p{number}" for number in range(wssecurity.MOST_PREFIXES)]
    assert verified(draft(setting(), refs=(with_prefixes(BODY, *fits), TIME)).sealed(), "p-256")
    with pytest.raises(SignatureInvalid) as refused:
        verified(draft(setting(), refs=(with_prefixes(BODY, *fits, "one"), TIME)).sealed(), "p-256")
    assert refused.value.detail == "PrefixList"


def test_a_prefix_list_over_many_elements_is_refused():
    """32 prefixes looked up at each of 40,000 elements took 0.4 s."""
    listed = [f"p{number}" for number in range(wssecurity.MOST_PREFIXES)]
    wide = f"<a>{'<b/>' * 40_000}</a>"
    with pytest.raises(SignatureInvalid) as refused:
        verified(draft(setting(), wide, refs=(with_prefixes(BODY, *listed), TIME)).sealed(), "p-256")
    assert refused.value.detail == "PrefixList of so large a message"
    assert verified(draft(setting(), wide, refs=(with_prefixes(BODY, *listed[:20]), TIME)).sealed(), "p-256")
