"""server.independent: signxml's opinion on messages signed by python-xmlsec and by us, and on forged ones."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from gridpost.server.independent import verify_signature
from lxml import etree

from gridpost import ns, testing
from gridpost.errors import ConfigInvalid, EnvelopeShape, ForbiddenMarkup, SignatureInvalid

BODY = (
    '<w:CreatedMeterReadings xmlns:w="http://iec.ch/TC57/2011/MeterReadingsMessage" xmlns:q="urn:unused">'
    "<w:Header>10.50</w:Header></w:CreatedMeterReadings>"
)
TRANSFORM = f'<ds:Transform Algorithm="{ns.EXC_C14N}"/>'


def reference(uri: str, transforms: str = TRANSFORM, digest: str = ns.SHA256) -> str:
    return (
        f'<ds:Reference URI="{uri}"><ds:Transforms>{transforms}</ds:Transforms>'
        f'<ds:DigestMethod Algorithm="{digest}"/><ds:DigestValue/></ds:Reference>'
    )


BOTH = reference("#b") + reference("#t")


@pytest.fixture(scope="module")
def ca() -> testing.ThrowawayCA:
    return testing.ThrowawayCA()


def signed(
    ca: testing.ThrowawayCA,
    references: str = BOTH,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    method: str = ns.ECDSA_SHA256,
    valid: tuple[datetime, datetime] | None = None,
) -> bytes:
    """Return a message sealed by python-xmlsec, the issuer of its certificate being `ca`."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    certificate = base64.b64encode(ca.issue_device("IED-7", key, valid).certificate).decode()
    root = etree.fromstring(
        f'<s:Envelope xmlns:s="{ns.SOAP11}" xmlns:u="{ns.WSU}"><s:Header><o:Security xmlns:o="{ns.WSSE}" '
        's:mustUnderstand="1"><u:Timestamp u:Id="t"><u:Created>2026-01-01T00:00:00Z</u:Created></u:Timestamp>'
        f'<o:BinarySecurityToken u:Id="c" ValueType="{ns.X509V3}" EncodingType="{ns.BASE64}">{certificate}'
        f'</o:BinarySecurityToken><ds:Signature xmlns:ds="{ns.DS}"><ds:SignedInfo>'
        f'<ds:CanonicalizationMethod Algorithm="{ns.EXC_C14N}"/><ds:SignatureMethod Algorithm="{method}"/>'
        f"{references}</ds:SignedInfo><ds:SignatureValue/><ds:KeyInfo><o:SecurityTokenReference>"
        f'<o:Reference URI="#c" ValueType="{ns.X509V3}"/></o:SecurityTokenReference></ds:KeyInfo></ds:Signature>'
        f'</o:Security></s:Header><s:Body u:Id="b">{BODY}</s:Body></s:Envelope>'
    )
    context = xmlsec.SignatureContext()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    context.key = xmlsec.Key.from_memory(pem, xmlsec.KeyFormat.PEM)
    for node in root.xpath("//*[@u:Id]", namespaces={"u": ns.WSU}):
        context.register_id(node, "Id", ns.WSU)
    context.sign(root.find(f".//{ns.q(ns.DS, 'Signature')}"))
    return etree.tostring(root)


def refused(raw: bytes, ca: testing.ThrowawayCA) -> str:
    with pytest.raises(SignatureInvalid) as caught:
        verify_signature(raw, ca.pem)
    return caught.value.detail


# --- genuine ---------------------------------------------------------------------------------------------------------


def test_a_message_signed_by_xmlsec_is_accepted(ca):
    result = verify_signature(signed(ca), ca.pem)
    assert result.parts == ("Body", "Timestamp")
    assert result.subject == "CN=IED-7"
    assert result.created_utc_ms == 1_767_225_600_000  # date -u -d 2026-01-01 +%s, times 1000
    assert x509.load_der_x509_certificate(result.certificate).issuer == ca.name


def test_token_order_of_references_rsa_and_longer_digests_are_accepted(ca):
    references = reference("#t", digest=ns.SHA512) + reference("#c") + reference("#b", digest=ns.SHA384)
    key = rsa.generate_private_key(65537, 2048)
    raw = signed(ca, references, key, ns.RSA_SHA512)
    assert verify_signature(raw, ca.pem).parts == ("Timestamp", "BinarySecurityToken", "Body")


def test_a_prefix_list_is_honoured(ca):
    listed = (
        f'<ds:Transform Algorithm="{ns.EXC_C14N}"><x:InclusiveNamespaces xmlns:x="{ns.EXC_C14N}" PrefixList="q s"/>'
        "</ds:Transform>"
    )
    assert verify_signature(signed(ca, reference("#b", listed) + reference("#t")), ca.pem).parts[0] == "Body"


def test_a_message_sealed_by_us_is_accepted(ca):
    channel = testing.channel()
    message = testing.readings_message("IED-7", "id-1", [testing.block(channel, 1_767_225_600, ["1.5"])])
    raw = testing.sealed(message, ca.issue_device("IED-7"))
    assert {"Body", "Timestamp"} <= set(verify_signature(raw, ca.pem).parts)


def test_one_of_several_trusted_authorities_is_enough(ca):
    other = testing.ThrowawayCA("Other CA")
    assert verify_signature(signed(ca), other.pem + ca.pem).subject == "CN=IED-7"


# --- not genuine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), [(b"10.50", b"10.51"), (b"00:00:00Z", b"00:00:01Z")])
def test_a_changed_body_or_timestamp_is_refused(ca, old, new):
    raw = signed(ca)
    assert raw.count(old) == 1
    assert "Digest" in refused(raw.replace(old, new), ca)


def test_a_changed_signature_value_is_refused(ca):
    root = etree.fromstring(signed(ca))
    value = root.find(f".//{ns.q(ns.DS, 'SignatureValue')}")
    octets = bytearray(base64.b64decode(value.text))
    octets[5] ^= 1
    value.text = base64.b64encode(octets).decode()
    assert "signxml" in refused(etree.tostring(root), ca)


def test_a_signer_of_another_authority_is_refused(ca):
    assert "not issued by the trusted CA" in refused(signed(testing.ThrowawayCA()), ca)


def test_an_authority_of_the_same_name_and_another_key_is_refused(ca):
    assert "not issued" in refused(signed(testing.ThrowawayCA(name="Throwaway CA")), ca)


def test_a_certificate_issued_by_a_device_is_refused_even_if_that_device_is_trusted(ca):
    device_key = ec.generate_private_key(ec.SECP256R1())
    device = x509.load_der_x509_certificate(ca.issue_device("IED-1", device_key).certificate)
    impostor = testing.ThrowawayCA()
    impostor.key, impostor.name = device_key, device.subject
    trusted = device.public_bytes(serialization.Encoding.PEM)
    with pytest.raises(SignatureInvalid) as caught:
        verify_signature(signed(impostor), trusted)
    assert "not issued" in caught.value.detail


def test_a_certificate_not_valid_when_signing_is_refused(ca):
    valid = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2025, 12, 31, tzinfo=UTC))
    assert "not valid at 2026-01-01" in refused(signed(ca, valid=valid), ca)


@pytest.mark.parametrize(
    "references",
    [
        reference("#t"),
        reference("#b"),
        reference("#t") + reference("#t"),
        reference("#t") + reference("#c"),
        reference("#b") + reference("#t") + reference("#c") + reference("#c"),
    ],
    ids=["Timestamp only", "Body only", "Timestamp twice", "no Body", "four"],
)
def test_references_that_are_not_body_and_timestamp_are_refused(ca, references):
    refused(signed(ca, references), ca)


@pytest.mark.parametrize(
    "transforms",
    [
        '<ds:Transform Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"/>',
        '<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#WithComments"/>',
        '<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>' + TRANSFORM,
    ],
)
def test_other_transforms_are_refused(ca, transforms):
    assert "transforms" in refused(signed(ca, reference("#b", transforms) + reference("#t")), ca)


def test_sha1_is_refused(ca):
    sha1 = "http://www.w3.org/2000/09/xmldsig#sha1"
    refused(signed(ca, reference("#b", digest=sha1) + reference("#t")), ca)
    key = rsa.generate_private_key(65537, 2048)
    refused(signed(ca, key=key, method="http://www.w3.org/2000/09/xmldsig#rsa-sha1"), ca)


def test_a_signed_body_moved_aside_for_another_is_refused(ca):
    # Signature wrapping: the signed Body survives in a header, the Body that would be read is a new one.
    root = etree.fromstring(signed(ca))
    body = root[1]
    aside = etree.SubElement(root[0], "{urn:x}Aside")
    aside.append(body)
    forged = etree.SubElement(root, body.tag, attrib={ns.q(ns.WSU, "Id"): "other"})
    forged.append(etree.fromstring(BODY.replace("10.50", "99")))
    assert "not exactly Body" in refused(etree.tostring(root), ca)


def test_the_shape_is_checked_before_any_cryptography(ca):
    raw = signed(ca)
    with pytest.raises(ForbiddenMarkup):
        verify_signature(b"<!DOCTYPE x>" + raw, ca.pem)
    with pytest.raises(EnvelopeShape):
        verify_signature(raw.replace(b"ds:Signature", b"ds:Sign"), ca.pem)


def test_a_trust_file_without_a_certificate_is_told_apart(ca):
    with pytest.raises(ConfigInvalid):
        verify_signature(signed(ca), b"-----BEGIN NOTHING-----")
