"""The device CA and EST: checked with OpenSSL's own command line, driven with hostile requests."""

from __future__ import annotations

import base64
import subprocess
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from gridpost.server.enrolment import DeviceCA, Est, Subject, make_ca

from gridpost import enrolment, exchange, testing
from gridpost.errors import ConfigInvalid, EnrolmentRefused, NotFound, SignatureInvalid
from gridpost.wssecurity import KeySigner

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = b"ten octets"
SERIAL = "IED-1"


def openssl(*arguments, given: bytes = b"") -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], input=given, capture_output=True, check=False)
    return (done.stdout + done.stderr).decode()


def csr(serial=SERIAL, key=None, *names) -> bytes:
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in (serial, *names)])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    built = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm)
    return built.public_bytes(serialization.Encoding.DER)


def header(request: bytes, serial=SERIAL, secret=SECRET) -> str:
    return enrolment.proof_header(serial, secret, request)


@pytest.fixture
def est(post_office):
    """Est over a real store in which IED-1 waits."""
    post_office.store.add_ied(SERIAL, "revenue meter", SECRET, [testing.channel()])
    return Est(post_office.ca, post_office.store, lambda: NOW)


@pytest.fixture
def files(tmp_path):
    """A CA, a bus and a device certificate as PEM files."""
    ca_pair = make_ca("bus", NOW)
    ca = DeviceCA(*ca_pair)
    device = ca.issue(Subject(SERIAL, 10), ec.generate_private_key(ec.SECP256R1()).public_key(), NOW)
    contents = {
        "ca.pem": ca_pair.certificate,
        "ca.key": ca_pair.key,
        "bus.pem": ca.issue_bus("bus", NOW).certificate,
        "device.pem": device.public_bytes(serialization.Encoding.PEM),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


# --- the CA, as OpenSSL sees it --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bus.pem", "device.pem"])
@pytest.mark.parametrize(("at", "verdict"), [("2026-01-02", "OK"), ("2025-12-30", "not yet valid")])
def test_openssl_accepts_what_the_ca_issued_from_a_day_before(files, name, at, verdict):
    moment = int(datetime.fromisoformat(f"{at}T00:00:00+00:00").timestamp())
    said = openssl("verify", "-x509_strict", "-attime", moment, "-CAfile", files / "ca.pem", files / name)
    assert verdict in said


@pytest.mark.parametrize(
    ("name", "years", "verdict"),
    [("bus.pem", 5, "OK"), ("device.pem", 10, "OK"), ("bus.pem", 6, "expired"), ("device.pem", 11, "expired")],
)
def test_lifetimes_are_five_years_and_ten(files, name, years, verdict):
    moment = int((NOW + timedelta(days=365 * years - 1)).timestamp())
    said = openssl("verify", "-x509_strict", "-attime", moment, "-CAfile", files / "ca.pem", files / name)
    assert verdict in said


def test_a_device_cannot_issue_certificates(files):
    """Chain CA -> device -> somebody: refused, because the device is no CA and the path length is 0."""
    text = openssl("x509", "-in", files / "ca.pem", "-noout", "-text")
    assert "CA:TRUE, pathlen:0" in text
    assert "Certificate Sign, CRL Sign" in text
    text = openssl("x509", "-in", files / "device.pem", "-noout", "-text")
    assert "CA:FALSE" in text
    assert "X509v3 Key Usage: critical\n                Digital Signature\n" in text
    assert "Extended Key Usage" not in text


def test_only_the_bus_carries_the_bus_key_usage(files):
    assert exchange.BUS_KEY_USAGE.dotted_string in openssl("x509", "-in", files / "bus.pem", "-noout", "-text")
    assert exchange.BUS_KEY_USAGE.dotted_string not in openssl("x509", "-in", files / "device.pem", "-noout", "-text")
    bus, device = (
        x509.load_pem_x509_certificate((files / name).read_bytes()).public_bytes(serialization.Encoding.DER)
        for name in ("bus.pem", "device.pem")
    )
    trust = exchange.Trust(
        x509.load_pem_x509_certificate((files / "ca.pem").read_bytes()).public_bytes(serialization.Encoding.DER)
    )
    exchange.check_bus(bus, trust)
    with pytest.raises(SignatureInvalid):
        exchange.check_bus(device, trust)


def test_two_certificates_never_share_a_serial_number():
    ca = DeviceCA(*make_ca("CA", NOW))
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    numbers = {ca.issue(Subject(SERIAL, 10), key, NOW).serial_number for _ in range(20)}
    assert len(numbers) == 20


def test_the_longest_bus_id_fits_its_certificates():
    """X.520: an organisation and a common name have 64 characters at most, and so has a bus id."""
    ca = DeviceCA(*make_ca("x" * 64, NOW))
    assert b"BEGIN CERTIFICATE" in ca.issue_bus("x" * 64, NOW).certificate


def test_a_ca_is_not_loaded_from_halves_that_do_not_belong_together(files, tmp_path):
    other = make_ca("another", NOW)
    with pytest.raises(ConfigInvalid, match="does not belong"):
        DeviceCA((files / "ca.pem").read_bytes(), other.key)
    with pytest.raises(ConfigInvalid, match="not readable"):
        DeviceCA((files / "ca.pem").read_bytes(), b"no key")
    with pytest.raises(ConfigInvalid, match="not readable"):
        DeviceCA(b"", other.key)
    encrypted = serialization.load_pem_private_key(other.key, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    with pytest.raises(ConfigInvalid, match="not readable"):
        DeviceCA(other.certificate, encrypted)
    with pytest.raises(ConfigInvalid, match="not readable"):
        KeySigner.from_pem(encrypted, other.certificate)
    with pytest.raises(NotFound):
        DeviceCA.load(tmp_path / "absent.pem", files / "ca.key")


# --- EST -------------------------------------------------------------------------------------------------------------


def test_cacerts_is_a_pkcs7_that_openssl_reads_and_holds_the_ca(est, post_office):
    der = base64.b64decode(est.cacerts())
    printed = openssl("pkcs7", "-inform", "DER", "-print_certs", given=der)
    (found,) = x509.load_pem_x509_certificates(printed.encode())
    assert found.public_bytes(serialization.Encoding.DER) == post_office.ca.der


def test_a_device_gets_a_certificate_for_its_own_key_and_name(est, post_office, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    request = csr(SERIAL, key)
    answer = est.simpleenroll(base64.encodebytes(request), header(request))
    printed = openssl("pkcs7", "-inform", "DER", "-print_certs", given=base64.b64decode(answer))
    mine = next(c for c in x509.load_pem_x509_certificates(printed.encode()) if "IED-1" in c.subject.rfc4514_string())
    assert mine.public_key() == key.public_key()
    assert mine.subject.rfc4514_string() == "CN=IED-1"
    enrolled = post_office.store.enrolment(sha256(mine.public_bytes(serialization.Encoding.DER)).digest())
    assert enrolled.sender == SERIAL
    (tmp_path / "ca.pem").write_bytes(post_office.ca.certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "mine.pem").write_bytes(mine.public_bytes(serialization.Encoding.PEM))
    at = int(NOW.timestamp())
    assert "OK" in openssl("verify", "-attime", at, "-CAfile", tmp_path / "ca.pem", tmp_path / "mine.pem")


def test_a_request_made_by_openssl_is_taken(est, tmp_path):
    openssl(
        "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={SERIAL}",
        "-keyout", tmp_path / "key.pem", "-outform", "DER", "-out", tmp_path / "csr.der",
    )  # fmt: skip
    request = (tmp_path / "csr.der").read_bytes()
    assert enrolment.certificates(est.simpleenroll(base64.b64encode(request), header(request)))


def test_the_same_request_gets_the_same_certificate_again(est, post_office):
    """The answer was lost; also after a restart."""
    request = csr()
    first = enrolment.certificates(est.simpleenroll(base64.b64encode(request), header(request)))
    again = enrolment.certificates(est.simpleenroll(base64.b64encode(request), header(request)))
    post_office.reopen()
    restarted = Est(post_office.ca, post_office.store, lambda: NOW)
    later = enrolment.certificates(restarted.simpleenroll(base64.b64encode(request), header(request)))
    assert set(first) == set(again) == set(later)


def test_the_code_binds_to_its_first_request(est):
    """Whoever reads the code off the device later gets nothing, although the proof is right."""
    mine, thief = csr(), csr()
    est.simpleenroll(base64.b64encode(mine), header(mine))
    with pytest.raises(EnrolmentRefused):
        est.simpleenroll(base64.b64encode(thief), header(thief))
    assert enrolment.certificates(est.simpleenroll(base64.b64encode(mine), header(mine)))


def test_a_revoked_code_gets_nothing_not_even_its_own_certificate(est, post_office):
    request = csr()
    est.simpleenroll(base64.b64encode(request), header(request))
    post_office.store.revoke(SERIAL, post_office.now)
    with pytest.raises(EnrolmentRefused):
        est.simpleenroll(base64.b64encode(request), header(request))


def test_a_revoked_ied_added_again_enrols_with_the_new_code_only(est, post_office):
    post_office.store.revoke(SERIAL, post_office.now)
    post_office.store.add_ied(SERIAL, "revenue meter", b"a new one!", [testing.channel()])
    request = csr()
    with pytest.raises(EnrolmentRefused):
        est.simpleenroll(base64.b64encode(request), header(request))
    fresh = header(request, secret=b"a new one!")
    assert enrolment.certificates(est.simpleenroll(base64.b64encode(request), fresh))


def test_a_wrong_request_with_the_right_proof_leaves_the_code_unused(est):
    other_name, mine = csr("IED-2"), csr()
    with pytest.raises(EnrolmentRefused):
        est.simpleenroll(base64.b64encode(other_name), header(other_name))
    assert enrolment.certificates(est.simpleenroll(base64.b64encode(mine), header(mine)))


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        ":",
        "IED-1",
        "IED-1:",
        "IED-1:AAAA",
        "IED-2:",
        "'; DROP TABLE ied; --:AAAA",
        "IED-1:" + "\xff" * 43,
        "IED-1:" + "A" * 8000,
    ],
)
def test_a_wrong_proof_is_refused_whatever_its_form(est, wrong):
    request = csr()
    with pytest.raises(EnrolmentRefused):
        est.simpleenroll(base64.b64encode(request), wrong)


@pytest.mark.parametrize("change", ["truncated", "padded", "other secret", "other serial", "other request"])
def test_a_nearly_right_proof_is_refused(est, post_office, change):
    post_office.store.add_ied("IED-2", "revenue meter", b"other code", [testing.channel(2, meter="M2")])
    request = csr()
    right = header(request)
    wrong = {
        "truncated": right[:-1],
        "padded": right + "=",
        "other secret": header(request, secret=b"other code"),
        "other serial": header(request, "IED-2", SECRET),
        "other request": header(csr()),
    }[change]
    with pytest.raises(EnrolmentRefused):
        est.simpleenroll(base64.b64encode(request), wrong)


def test_the_proof_is_checked_before_the_request_is_parsed(est):
    """Rubbish without a proof and rubbish with one: only the second is told that it is no PKCS#10."""
    rubbish = b"\x30\x84\xff\xff\xff\xff"
    with pytest.raises(EnrolmentRefused) as stranger:
        est.simpleenroll(base64.b64encode(rubbish), "IED-1:AAAA")
    with pytest.raises(EnrolmentRefused) as known:
        est.simpleenroll(base64.b64encode(rubbish), header(rubbish))
    assert "PKCS#10" not in stranger.value.reason
    assert "PKCS#10" in known.value.reason


@pytest.mark.parametrize(
    "body", [b"", b"=", b"!!!!", b"AAA", "AAÄA".encode(), b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"]
)
def test_a_body_that_is_no_base64_is_refused(est, body):
    with pytest.raises(EnrolmentRefused):
        est.simpleenroll(body, header(b""))


def _broken_signature() -> bytes:
    request = bytearray(csr())
    request[-1] ^= 1
    return bytes(request)


@pytest.mark.parametrize(
    "make",
    [
        lambda: csr("IED-2"),
        lambda: csr(SERIAL, None, "IED-2"),
        lambda: csr(SERIAL + " "),
        lambda: csr(SERIAL.lower()),
        lambda: csr(SERIAL, rsa.generate_private_key(65537, 1024)),
        lambda: csr(SERIAL, ec.generate_private_key(ec.SECP521R1())),
        lambda: csr(SERIAL, ec.generate_private_key(ec.SECP256K1())),
        lambda: csr(SERIAL, ed25519.Ed25519PrivateKey.generate()),
        _broken_signature,
        lambda: csr() + b"\x00",
        lambda: b"",
        lambda: testing.ThrowawayCA().certificate,
    ],
    ids=[
        "other name", "two names", "a blank", "other case", "small RSA", "P-521", "secp256k1", "Ed25519",
        "broken signature", "trailing octet", "empty", "a certificate",
    ],
)  # fmt: skip
def test_a_request_that_is_not_ours_to_sign_is_refused(est, make):
    request = make()
    with pytest.raises(EnrolmentRefused):
        est.simpleenroll(base64.b64encode(request), header(request))


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())])
def test_rsa_2048_and_p_384_enrol_too(est, key):
    request = csr(SERIAL, key)
    assert enrolment.certificates(est.simpleenroll(base64.b64encode(request), header(request)))


def test_extensions_a_device_asks_for_are_not_granted(est):
    """A request that asks to be a CA and a bus gets a plain device certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERIAL)])
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([exchange.BUS_KEY_USAGE]), critical=False)
    request = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    issued = x509.load_der_x509_certificate(
        enrolment.certificates(est.simpleenroll(base64.b64encode(request), header(request)))[0]
    )
    assert issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    with pytest.raises(x509.ExtensionNotFound):
        issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage)


def test_an_enrolled_device_signs_what_the_bus_takes(est, post_office):
    key = ec.generate_private_key(ec.SECP256R1())
    request = csr(SERIAL, key)
    issued = enrolment.certificates(est.simpleenroll(base64.b64encode(request), header(request)))[0]
    message = testing.readings_message(SERIAL, "m-1", [testing.block(testing.channel(), 1767225600, ["1.5"])])
    assert post_office.receive(testing.sealed(message, KeySigner(key, issued))).status == 200
