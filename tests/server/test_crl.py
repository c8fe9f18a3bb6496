"""Lists of revoked certificates: ours as OpenSSL reads it, foreign ones as they may come, what each does to keys."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gridpost.server import crl
from gridpost.server.config import Trust
from gridpost.server.store import NewKey
from gridpost.server.trust_keeper import Own, TrustKeeper, issue

from gridpost import testing
from gridpost.errors import AlreadyExists, FileInvalid

from .foreign_ca import DER, MADE, NOW, PEM, ForeignCA

DAY = 86_400_000


def openssl(*arguments) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.fixture
def foreign():
    return ForeignCA()


@pytest.fixture
def key_of(post_office, foreign):
    """A function that gives IED-1 a key certified by the foreign CA; returns its certificate."""
    post_office.enrol("IED-1", [testing.channel()])

    def make():
        certificate = foreign.certify("IED-1")
        issuer = sha256(foreign.der).digest()
        post_office.store.add_key("IED-1", NewKey(certificate.public_bytes(DER), "foreign", None, issuer))
        return certificate

    return make


def enrolment(post_office, certificate):
    return post_office.store.enrolment(sha256(certificate.public_bytes(DER)).digest())


# --- ours ------------------------------------------------------------------------------------------------------------


def test_openssl_refuses_a_revoked_device_by_our_list_and_accepts_another(post_office, tmp_path):
    kept, gone = (
        post_office.enrol(serial, [testing.channel(n, meter=serial)]) for n, serial in enumerate(("A1", "B2"))
    )
    post_office.store.revoke("B2", NOW)
    made = issue(post_office.store, post_office.ca, NOW, 7)
    (tmp_path / "ca.pem").write_bytes(post_office.ca.certificate.public_bytes(PEM))
    (tmp_path / "crl.pem").write_bytes(x509.load_der_x509_crl(made.der).public_bytes(PEM))
    verdicts = {}
    for name, signer in (("kept", kept), ("gone", gone)):
        (tmp_path / name).write_bytes(x509.load_der_x509_certificate(signer.certificate).public_bytes(PEM))
        verdicts[name] = openssl(
            "verify", "-attime", NOW // 1000 + 60, "-crl_check", "-CAfile", tmp_path / "ca.pem",
            "-CRLfile", tmp_path / "crl.pem", tmp_path / name,
        )  # fmt: skip
    assert "OK" in verdicts["kept"]
    assert "certificate revoked" in verdicts["gone"]
    text = openssl("crl", "-in", tmp_path / "crl.pem", "-noout", "-text", "-CAfile", tmp_path / "ca.pem")
    assert "verify OK" in text
    assert "Last Update: Jan  1 00:00:00 2026 GMT" in text
    assert "Next Update: Jan  8 00:00:00 2026 GMT" in text


def test_numbers_rise_and_the_newest_list_is_the_one_kept(post_office):
    first, second = (issue(post_office.store, post_office.ca, NOW + n, 7) for n in range(2))
    assert (first.number, second.number) == (1, 2)
    post_office.reopen()
    assert post_office.store.own_crl() == second.der
    assert issue(post_office.store, post_office.ca, NOW, 7).number == 3
    assert len(post_office.store.crls()) == 1


def test_a_list_is_due_at_first_at_half_its_life_and_behind_a_revocation(post_office):
    post_office.enrol("A1", [testing.channel()])
    store = post_office.store
    assert store.is_crl_due()
    issue(store, post_office.ca, NOW, 8)
    assert not store.is_crl_due()
    post_office.now = NOW + 4 * DAY - 1000
    assert not store.is_crl_due()
    post_office.now = NOW + 4 * DAY
    assert store.is_crl_due()
    post_office.now = NOW + 1000
    store.revoke("A1", NOW + 500)
    assert store.is_crl_due()
    issue(store, post_office.ca, post_office.now, 8)
    assert not store.is_crl_due()


def test_what_has_expired_is_left_out_of_the_list(post_office):
    signer = post_office.enrol("A1", [testing.channel()])
    post_office.store.revoke("A1", NOW)
    number = x509.load_der_x509_certificate(signer.certificate).serial_number
    assert [
        one.serial_number for one in x509.load_der_x509_crl(issue(post_office.store, post_office.ca, NOW, 7).der)
    ] == [number]
    post_office.now = NOW + 3651 * DAY
    later = issue(post_office.store, post_office.ca, post_office.now, 7)
    assert list(x509.load_der_x509_crl(later.der)) == []


# --- foreign ---------------------------------------------------------------------------------------------------------


def test_a_foreign_list_revokes_its_own_keys_only(post_office, foreign, key_of):
    gone, kept = key_of(), key_of()
    at = MADE - timedelta(hours=1)
    raw = foreign.crl(1, [(gone.serial_number, at), (4711, at)])
    changes = post_office.store.import_crl(foreign.read(raw))
    assert changes == [("IED-1", sha256(gone.public_bytes(DER)).digest(), True)]
    assert enrolment(post_office, gone).revoked_at_utc_ms == NOW - 3_600_000
    assert enrolment(post_office, kept).revoked_at_utc_ms is None
    own = post_office.store.show_ied("IED-1").certificates[0]
    assert own.revoked_at_utc_ms is None


def test_a_key_on_hold_is_in_force_again_by_a_later_list_but_not_one_an_operator_revoked(post_office, foreign, key_of):
    held, revoked = key_of(), key_of()
    at = MADE - timedelta(hours=1)
    store = post_office.store
    store.revoke_key("IED-1", sha256(revoked.public_bytes(DER)).digest(), NOW)
    store.import_crl(foreign.read(foreign.crl(1, [(held.serial_number, at), (revoked.serial_number, at)])))
    assert enrolment(post_office, revoked).revoked_at_utc_ms == NOW
    changes = store.import_crl(foreign.read(foreign.crl(2)))
    assert changes == [("IED-1", sha256(held.public_bytes(DER)).digest(), False)]
    assert enrolment(post_office, held).revoked_at_utc_ms is None
    assert enrolment(post_office, revoked).revoked_at_utc_ms == NOW


def test_an_older_list_never_takes_the_place_of_a_newer_one(post_office, foreign, key_of):
    gone = key_of()
    store = post_office.store
    store.import_crl(foreign.read(foreign.crl(7, [(gone.serial_number, MADE)])))
    for older in (foreign.crl(6), foreign.crl(7, [(gone.serial_number, MADE)])):
        with pytest.raises(AlreadyExists):
            store.import_crl(foreign.read(older))
    assert enrolment(post_office, gone).revoked_at_utc_ms == NOW
    assert [one.number for one in store.crls()] == [7]


def test_pem_and_der_are_read_alike(foreign):
    der, pem = (foreign.crl(encoding=encoding) for encoding in (DER, PEM))
    assert foreign.read(der).number == foreign.read(pem).number == 1
    assert crl.load_ca(foreign.der) == crl.load_ca(foreign.pem)


def replaced(der, octets, others):
    """A list with octets changed, as often as they stand there."""
    assert bytes.fromhex(octets) in der
    return der.replace(bytes.fromhex(octets), bytes.fromhex(others))


def name_octets(ca):
    return ca.name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value.encode()


OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    "make",
    [
        lambda ca: b"",
        lambda ca: b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
        lambda ca: ca.der,
        lambda ca: ca.crl(key=OTHER_KEY),
        lambda ca: ca.crl(name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Another")])),
        lambda ca: ca.crl()[:-1] + bytes([ca.crl()[-1] ^ 1]),
        lambda ca: ca.crl(number=None),
        lambda ca: ca.crl(made=MADE + timedelta(minutes=2)),
        lambda ca: ca.crl(extensions=[(x509.DeltaCRLIndicator(1), True)]),
        lambda ca: ca.crl(
            extensions=[(x509.IssuingDistributionPoint(None, None, True, False, None, False, False), True)]
        ),
        lambda ca: ca.crl(revoked=[(7, MADE, x509.CertificateIssuer([x509.DirectoryName(ca.name)]))]),
        # Octets of equal length: a version, a name that is no UTF-8, an algorithm that nobody knows.
        lambda ca: replaced(ca.crl(), "020101300a06082a8648ce3d0403", "020107300a06082a8648ce3d0403"),
        lambda ca: replaced(ca.crl(), name_octets(ca).hex(), b"\xff".hex() * len(name_octets(ca))),
        lambda ca: replaced(ca.crl(), "06082a8648ce3d040302", "06082a8648ce3d04037f"),
    ],
    ids=[
        "empty", "no PEM", "a certificate", "another key", "another issuer", "a changed octet", "no number",
        "from the future", "a delta", "a part", "of several CAs", "an unknown version", "no name",
        "an unknown algorithm",
    ],
)  # fmt: skip
def test_a_list_that_is_not_to_be_believed_is_refused(foreign, make):
    with pytest.raises(FileInvalid):
        foreign.read(make(foreign))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        ForeignCA(ca=False).pem,
        ForeignCA(crl_sign=False).pem,
        ForeignCA(key=ec.generate_private_key(ec.SECP521R1())).pem,
        replaced(ForeignCA().der, "a003020102", "a003020104"),
        replaced(ForeignCA().der, "06082a8648ce3d030107", "06082a8648ce3d03017f"),
        replaced(ForeignCA().der, "0603551d13", "0603551d0f"),
    ],
    ids=[
        "empty", "no CA", "may not sign lists", "a curve we refuse", "an unknown version", "an unknown curve",
        "one extension twice",
    ],
)  # fmt: skip
def test_what_is_no_ca_is_refused(raw):
    with pytest.raises(FileInvalid):
        crl.load_ca(raw)


# --- ends ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def keeper(post_office):
    """A keeper of a bus whose own certificate ends in five years, with a list on file."""
    issue(post_office.store, post_office.ca, NOW, 4000)
    owns = [Own("bus", post_office.signer.certificate)]
    return TrustKeeper(post_office.store, post_office.ca, owns, Trust(crl_days=4000))


def told(keeper, now):
    return [(event.name, event.values.get("use"), event.values.get("step")) for event in keeper.step(now)]


@pytest.mark.parametrize(("use", "years"), [("bus", 5), ("device", 10)])
def test_each_step_before_an_end_is_told_once_also_over_a_restart(post_office, keeper, use, years):
    if use == "device":
        post_office.enrol("IED-1", [testing.channel()])
    end = NOW + years * 365 * DAY
    if use == "device":
        told(keeper, end - 70 * DAY)  # the bus's own end is long past then, and told
    moments = {61: None, 60: None, 59: 60, 31: None, 29: 30, 8: None, 6: 7, 1: None, -1: 0, -400: None}
    for days, step in moments.items():
        expected = [] if step is None else [("certificate-expires", use, step)]
        assert told(keeper, end - days * DAY) == expected, days
        assert told(keeper, end - days * DAY) == [], days
        post_office.reopen()
        keeper = TrustKeeper(post_office.store, post_office.ca, keeper.owns, keeper.terms)


def test_a_key_that_is_revoked_or_replaced_is_not_waited_for(post_office, keeper):
    post_office.enrol("IED-1", [testing.channel()])
    end = NOW + 10 * 365 * DAY
    told(keeper, end - 70 * DAY)
    post_office.store.revoke("IED-1", NOW)
    assert told(keeper, end - 5 * DAY) == []
    assert post_office.store.count_ending(end) == 0


def test_a_foreign_list_out_of_date_is_told_once(post_office, foreign, keeper):
    post_office.store.import_crl(foreign.read(foreign.crl(1)))
    assert told(keeper, NOW + 6 * DAY) == []
    assert told(keeper, NOW + 8 * DAY) == [("crl-stale", None, None)]
    assert told(keeper, NOW + 9 * DAY) == []
    post_office.store.import_crl(foreign.read(foreign.crl(2, made=MADE + timedelta(days=9)), NOW + 9 * DAY))
    assert told(keeper, NOW + 10 * DAY) == []
    assert told(keeper, NOW + 17 * DAY) == [("crl-stale", None, None)]
