"""simplereenroll with a real store: who gets the next key's certificate, who does not, and what a lost answer costs."""

from __future__ import annotations

import base64
from datetime import timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID
from gridpost.server.config import Trust
from gridpost.server.enrolment import Est, Subject
from gridpost.server.store import NewKey

from gridpost import enrolment, renewal, testing
from gridpost.errors import EnrolmentRefused
from gridpost.wssecurity import KeySigner

from .foreign_ca import DER, MADE, NOW, ForeignCA

SERIAL = "IED-1"
DAY = 86_400_000


def csr(key=None, name=SERIAL):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    key = key or ec.generate_private_key(ec.SECP256R1())
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256()).public_bytes(DER)


@pytest.fixture
def meter(post_office):
    return post_office.enrol(SERIAL, [testing.channel()])


@pytest.fixture
def est(post_office):
    return Est(post_office.ca, post_office.store, lambda: MADE + timedelta(milliseconds=post_office.now - NOW), Trust())


def renew(est, signer, request, serial=SERIAL):
    """Ask as a device does; returns its new certificate."""
    answer = est.simplereenroll(base64.encodebytes(request), renewal.proof_header(serial, signer, request))
    asked = x509.load_der_x509_csr(request).public_key()
    found = [one for one in enrolment.certificates(answer) if x509.load_der_x509_certificate(one).public_key() == asked]
    return found[0]


def refused(est, signer, request, **changes):
    with pytest.raises(EnrolmentRefused) as told:
        renew(est, signer, request, **changes)
    return told.value


def key_on_file(post_office, certificate):
    held = post_office.store.show_ied(SERIAL).certificates
    return next(one for one in held if one.sha256 == sha256(certificate).digest())


def test_the_next_key_has_the_same_sender_name_and_rights_and_the_old_one_an_end(post_office, est):
    post_office.enrol(SERIAL, [testing.channel()])
    old = post_office.certify(SERIAL)
    post_office.store.add_key(SERIAL, NewKey(old.certificate, "billing", ["readings", "re-enrol"]))
    new = renew(est, old, csr())
    assert post_office.store.enrolment(sha256(new).digest()).sender == SERIAL
    fresh, replaced = key_on_file(post_office, new), key_on_file(post_office, old.certificate)
    assert (fresh.name, fresh.rights, fresh.ends_at_utc_ms) == ("billing", ("re-enrol", "readings"), None)
    assert fresh.not_after_utc_ms == NOW + 3650 * DAY
    assert replaced.ends_at_utc_ms == NOW + 30 * DAY
    assert replaced.revoked_at_utc_ms is None


def test_the_old_key_never_outlives_its_certificate(post_office, est):
    post_office.enrol(SERIAL, [testing.channel()])
    key = ec.generate_private_key(ec.SECP256R1())
    issued = post_office.ca.issue(Subject(SERIAL, 0, days=10), key.public_key(), MADE)
    old = KeySigner(key, issued.public_bytes(DER))
    post_office.store.add_key(SERIAL, NewKey(old.certificate))
    renew(est, old, csr())
    assert key_on_file(post_office, old.certificate).ends_at_utc_ms == NOW + 10 * DAY


def test_a_lost_answer_costs_nothing_also_after_the_overlap_and_a_restart(post_office, est, meter):
    request = csr()
    first = renew(est, meter, request)
    assert renew(est, meter, request) == first
    post_office.now = NOW + 400 * DAY
    post_office.reopen()
    again = Est(post_office.ca, post_office.store, lambda: MADE + timedelta(days=400), Trust())
    assert renew(again, meter, request) == first
    assert len(post_office.store.show_ied(SERIAL).certificates) == 2


def test_a_second_successor_is_refused_as_somebody_elses(est, meter):
    renew(est, meter, csr())
    error = refused(est, meter, csr())
    assert [item.code for item in error.items] == ["second-key"]


def test_the_successor_renews_in_its_turn(post_office, est, meter):
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    signer = meter
    for key in keys:
        signer = KeySigner(key, renew(est, signer, csr(key)))
    assert len(post_office.store.show_ied(SERIAL).certificates) == 4


@pytest.mark.parametrize("after", [0, 1])
def test_a_revoked_key_renews_nothing_not_even_what_it_asked_before(post_office, est, meter, after):
    request = csr()
    if after:
        renew(est, meter, request)
    post_office.store.revoke(SERIAL, NOW)
    refused(est, meter, request)


def test_an_expired_key_needs_a_new_code(post_office, est, meter):
    post_office.now = NOW + 3651 * DAY
    assert "expired" in refused(est, meter, csr()).reason


def test_a_key_without_the_right_renews_nothing(post_office, est, meter):
    key = post_office.certify(SERIAL)
    post_office.store.add_key(SERIAL, NewKey(key.certificate, rights=["readings", "events"]))
    assert "right" in refused(est, key, csr()).reason


def test_a_foreign_cas_key_is_renewed_by_that_ca(post_office, est, meter):
    foreign, key = ForeignCA(), ec.generate_private_key(ec.SECP256R1())
    der = foreign.certify(SERIAL, key).public_bytes(DER)
    post_office.store.add_key(SERIAL, NewKey(der, issuer_sha256=sha256(foreign.der).digest()))
    assert "foreign" in refused(est, KeySigner(key, der), csr()).reason


def test_strangers_and_other_names_are_refused(post_office, est, meter):
    refused(est, post_office.certify(SERIAL), csr())  # of our CA, but nobody's key
    refused(est, meter, csr(name="IED-2"), serial="IED-2")
    refused(est, meter, csr(name="IED-2"))
    assert len(post_office.store.show_ied(SERIAL).certificates) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda header, _: "",
        lambda header, _: header[:-4],
        lambda header, _: header + "=",
        lambda header, _: header.upper(),
        lambda header, other: ":".join([*header.split(":")[:2], other.split(":")[2]]),
        lambda header, _: ":".join([*header.split(":")[:2], "A" * 86]),
        lambda header, _: header.replace(":", ":00", 1),
        lambda header, _: "IED-1:" + "\xff" * 64 + ":AAAA",
    ],
    ids=["none", "short", "padded", "upper case", "of another request", "zeros", "longer digest", "no text"],
)
def test_a_wrong_proof_is_refused_before_the_request_is_parsed(post_office, est, meter, spoil):
    request, other = b"no request at all", csr()
    header = spoil(renewal.proof_header(SERIAL, meter, request), renewal.proof_header(SERIAL, meter, other))
    with pytest.raises(EnrolmentRefused) as told:
        est.simplereenroll(base64.b64encode(request), header)
    assert "PKCS#10" not in told.value.reason
    assert "PKCS#10" in refused_by_form(est, meter, request)


def refused_by_form(est, signer, request):
    with pytest.raises(EnrolmentRefused) as told:
        est.simplereenroll(base64.b64encode(request), renewal.proof_header(SERIAL, signer, request))
    return told.value.reason


def test_a_messages_signature_is_no_proof(est, meter):
    """The proof begins with its purpose, so what a key signs elsewhere cannot be passed off as one."""
    request = csr()
    digest = sha256(meter.certificate).hexdigest()
    bare = base64.urlsafe_b64encode(meter.sign(request)).decode().rstrip("=")
    with pytest.raises(EnrolmentRefused):
        est.simplereenroll(base64.b64encode(request), f"{SERIAL}:{digest}:{bare}")


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA"])
def test_the_proof_is_what_the_protocol_says_by_the_library_alone(post_office, est, kind):
    """Made without our code, as docs/protocol.md tells it."""
    post_office.enrol(SERIAL, [testing.channel()])
    make = {
        "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "RSA": lambda: rsa.generate_private_key(65537, 2048),
    }[kind]
    key = make()
    old = post_office.certify(SERIAL, key)
    post_office.store.add_key(SERIAL, NewKey(old.certificate))
    request = csr()
    data = b"gridpost renewal 1\n" + request
    if kind == "RSA":
        value = key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    else:
        algorithm, octets = (hashes.SHA256(), 32) if kind == "P-256" else (hashes.SHA384(), 48)
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(algorithm)))
        value = r.to_bytes(octets, "big") + s.to_bytes(octets, "big")
    proof = base64.urlsafe_b64encode(value).decode().rstrip("=")
    header = f"{SERIAL}:{sha256(old.certificate).hexdigest()}:{proof}"
    assert len(enrolment.certificates(est.simplereenroll(base64.encodebytes(request), header))) == 2


def test_a_replaced_key_goes_onto_the_list_once_its_time_is_over(post_office, est, meter):
    from gridpost.server.trust_keeper import issue

    renew(est, meter, csr())
    assert list(x509.load_der_x509_crl(issue(post_office.store, post_office.ca, NOW, 100).der)) == []
    post_office.now = NOW + 31 * DAY
    assert post_office.store.is_crl_due()
    (entry,) = x509.load_der_x509_crl(issue(post_office.store, post_office.ca, post_office.now, 100).der)
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == x509.ReasonFlags.superseded
    assert entry.revocation_date_utc == MADE + timedelta(days=30)
