"""Certificates and requests that parse only half: what fuzzing found to escape as an error of the library's own."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID
from gridpost.server import enrolment as bus_enrolment

from gridpost import enrolment, exchange, testing, wssecurity
from gridpost.errors import AnswerUntrusted, EnrolmentRefused, SignatureInvalid

CA = testing.ThrowawayCA()
VERSION_3, VERSION_9 = bytes.fromhex("a003020102"), bytes.fromhex("a003020108")  # X.690 8.3, RFC 5280 section 4.1.2.1
P_256, UNKNOWN_KEY = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8642ce3d0201")  # RFC 5480 section 2.1.1


def of_version_9(der: bytes) -> bytes:
    assert der.count(VERSION_3) == 1
    return der.replace(VERSION_3, VERSION_9)


def test_a_certificate_of_a_version_that_is_none_is_no_key():
    with pytest.raises(SignatureInvalid):
        wssecurity.public_key(of_version_9(CA.certificate))


def test_an_answer_signed_by_one_is_not_believed():
    with pytest.raises(SignatureInvalid):
        exchange.check_bus(of_version_9(CA.issue_bus().certificate), exchange.Trust(CA.certificate))


def test_an_enrolment_answer_with_one_is_not_believed():
    der = pkcs7.serialize_certificates([CA.x509], serialization.Encoding.DER)
    with pytest.raises(AnswerUntrusted):
        enrolment.certificates(base64.encodebytes(of_version_9(der)))


def test_a_request_for_a_key_of_an_unknown_kind_is_refused():
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "IED1")])
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256())
    der = request.public_bytes(serialization.Encoding.DER)
    assert bus_enrolment.requested_key("IED1", der) == key.public_key()
    with pytest.raises(EnrolmentRefused):
        bus_enrolment.requested_key("IED1", der.replace(P_256, UNKNOWN_KEY))
