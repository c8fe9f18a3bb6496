"""The enrolment code and its proof: typed by people, checked before anything is parsed."""

import base64
import hashlib
import hmac
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from hypothesis import given
from hypothesis import strategies as st

from gridpost import enrolment, testing
from gridpost.errors import AnswerUntrusted, ConfigInvalid, EnrolmentRefused

CA = testing.ThrowawayCA()
OTHER = testing.ThrowawayCA("Other")
SERIALS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_/-]{0,63}\Z")


@given(SERIALS, st.binary(min_size=10, max_size=10))
def test_a_code_read_is_the_code_made(serial, secret):
    code = enrolment.parse_code(enrolment.make_code(serial, secret, CA.certificate))
    assert code == (serial, secret, hashlib.sha256(CA.certificate).digest()[:16])


@given(st.text())
def test_any_text_is_a_code_or_refused(text):
    try:
        enrolment.parse_code(text)
    except ConfigInvalid:
        return


def test_people_may_type_it_their_way():
    code = enrolment.make_code("ied-7", bytes(range(10)), CA.certificate)
    serial, _, coded = code.partition(".")
    grouped = "-".join(coded[i : i + 6].lower() for i in range(0, len(coded), 6))
    assert enrolment.parse_code(f"  {serial}.{grouped} \n") == enrolment.parse_code(code)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c[:-1],
        lambda c: c + "A",
        lambda c: c.replace(".", ""),
        lambda c: c[:-1] + "1",
        lambda c: c[:-1] + "\u00e4",
        lambda c: c.partition(".")[2],
        lambda c: "." + c.partition(".")[2],
        lambda c: "-" + c,
        lambda c: "a b" + c,
    ],
)
def test_a_mistyped_code_is_refused(change):
    with pytest.raises(ConfigInvalid):
        enrolment.parse_code(change(enrolment.make_code("ied-7", bytes(range(10)), CA.certificate)))


def test_the_code_names_one_ca():
    code = enrolment.parse_code(enrolment.make_code("ied-7", bytes(10), CA.certificate))
    assert enrolment.trusts(code, CA.certificate)
    assert not enrolment.trusts(code, OTHER.certificate)
    assert not enrolment.trusts(code, CA.certificate + b"\0")


@pytest.mark.parametrize("serial", ["", "-a", "/a", "a b", "a.b", "a:b", "a\n", "ä", "a" * 65, "../a", "a\0", "\u0661"])
def test_what_is_no_serial(serial):
    with pytest.raises(ConfigInvalid, match="no serial"):
        enrolment.check_serial(serial)


def test_the_proof_is_an_hmac_over_the_request():
    secret, request = os.urandom(10), os.urandom(200)
    header = enrolment.proof_header("ied-7", secret, request)
    expected = hmac.new(secret, request, hashlib.sha256).digest()
    assert header == "ied-7:" + base64.urlsafe_b64encode(expected).decode().rstrip("=")
    assert enrolment.serial_of(header) == "ied-7"
    enrolment.check_proof(header, secret, request)


@pytest.mark.parametrize(
    "forge",
    [
        lambda header, secret, request: (header, os.urandom(10), request),
        lambda header, secret, request: (header, secret, request + b"\0"),
        lambda header, secret, request: (header[:-1], secret, request),
        lambda header, secret, request: (header + "=", secret, request),
        lambda header, secret, request: (header.partition(":")[0] + ":", secret, request),
        lambda header, secret, request: ("", secret, request),
        lambda header, secret, request: (header + "\ud800", secret, request),
        lambda header, secret, request: (header.swapcase(), secret, request),
    ],
)
def test_a_wrong_proof_is_refused(forge):
    secret, request = bytes(range(10)), b"request"
    arguments = forge(enrolment.proof_header("ied-7", secret, request), secret, request)
    with pytest.raises(EnrolmentRefused):
        enrolment.check_proof(*arguments)


def test_est_answers_are_read_by_cryptography_and_by_us():
    device = CA.issue_device("ied-7").certificate
    body = enrolment.certs_only([device, CA.certificate])
    theirs = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
    assert {item.public_bytes(serialization.Encoding.DER) for item in theirs} == {device, CA.certificate}
    assert set(enrolment.certificates(body)) == {device, CA.certificate}


def foreign_pkcs7() -> bytes:
    """A PKCS#7 of another kind: enveloped data."""
    signer = testing.ThrowawayCA("R").issue_device("r", rsa.generate_private_key(65537, 2048))
    recipient = x509.load_der_x509_certificate(signer.certificate)
    builder = pkcs7.PKCS7EnvelopeBuilder().set_data(b"x").add_recipient(recipient)
    return base64.encodebytes(builder.encrypt(serialization.Encoding.DER, []))


@pytest.mark.parametrize("body", [b"", b"*", b"AAAA", b"MAA=", "ä".encode(), base64.b64encode(os.urandom(300))])
def test_what_is_no_est_answer(body):
    with pytest.raises(AnswerUntrusted):
        enrolment.certificates(body)


def test_a_pkcs7_of_another_kind_is_no_est_answer():
    with pytest.raises(AnswerUntrusted):
        enrolment.certificates(foreign_pkcs7())


@given(st.binary())
def test_any_bytes_are_an_est_answer_or_refused(body):
    try:
        enrolment.certificates(body)
    except AnswerUntrusted:
        return


def test_a_throwaway_ca_issues_what_openssl_verifies():
    certificate = x509.load_der_x509_certificate(CA.issue_device("ied-7").certificate)
    certificate.verify_directly_issued_by(CA.x509)
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
