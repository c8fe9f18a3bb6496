"""Lists of revoked certificates (RFC 5280 section 5): our device CA's made, those of foreign CAs read and checked.

In: what the store says is revoked; or a file and the CA it is said to be of. Out: a `Crl`. A list is believed only when
its CA's key signed it and nothing in it is of a kind that we would have to understand and do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from gridpost import wssecurity
from gridpost.errors import FileInvalid, SignatureInvalid
from gridpost.units import seconds_of

from .enrolment import DeviceCA
from .store import Crl, Revoked

_DER = serialization.Encoding.DER
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_KNOWN = {ExtensionOID.AUTHORITY_KEY_IDENTIFIER, ExtensionOID.CRL_NUMBER}
FUTURE_MS = 60_000


def make(ca: DeviceCA, number: int, revoked: Sequence[Revoked], made: tuple[int, int]) -> Crl:
    """Return the device CA's list.

    Args:
        ca: with its key.
        number: of the list, rising.
        revoked: what it names.
        made: now in UTC milliseconds, and for how many days the list is good.
    """
    now_utc_ms, days = made
    now = datetime.fromtimestamp(now_utc_ms // 1000, UTC)
    until = now + timedelta(days=days)
    builder = x509.CertificateRevocationListBuilder().last_update(now).next_update(until)
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for one in revoked:
        builder = builder.add_revoked_certificate(_entry(one))
    der = ca.sign_list(builder).public_bytes(_DER)
    return Crl(sha256(ca.der).digest(), ca.der, True, number, now_utc_ms, seconds_of(until) * 1000, der)


def _entry(one: Revoked) -> x509.RevokedCertificate:
    reason = x509.ReasonFlags.superseded if one.superseded else x509.ReasonFlags.unspecified
    builder = (
        x509.RevokedCertificateBuilder()
        .serial_number(x509.load_der_x509_certificate(one.der).serial_number)
        .revocation_date(datetime.fromtimestamp(one.at_utc_ms // 1000, UTC))
    )
    # RFC 5280 5.3.1: the reason is left out rather than "unspecified".
    return (builder.add_extension(x509.CRLReason(reason), critical=False) if one.superseded else builder).build()


def load_ca(raw: bytes) -> x509.Certificate:
    """Read a foreign CA's certificate, PEM or DER.

    Raises:
        FileInvalid: it is none, it may not sign lists or certificates, or its key is of a kind or size we refuse.
    """
    try:
        pem = b"-----BEGIN" in raw
        ca = x509.load_pem_x509_certificate(raw) if pem else x509.load_der_x509_certificate(raw)
        wssecurity.accepted(ca.public_key())
        is_ca = ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        usage = ca.extensions.get_extension_for_class(x509.KeyUsage).value
    except wssecurity.UNREADABLE as error:
        raise FileInvalid(f"the CA's certificate cannot be read: {error}") from None
    except SignatureInvalid as error:
        raise FileInvalid(f"the CA's key is not accepted: {error.detail}") from None
    except x509.ExtensionNotFound as error:
        raise FileInvalid(f"the certificate is no CA's: {error}") from None
    if not (is_ca and usage.key_cert_sign and usage.crl_sign):
        raise FileInvalid("the certificate is not of a CA that signs certificates and lists of revoked ones")
    return ca


def read(raw: bytes, ca: x509.Certificate, now_utc_ms: int) -> Crl:
    """Read a foreign CA's list, PEM or DER, and check that it is that CA's.

    Raises:
        FileInvalid: no list, another CA's, a wrong signature, no number or end, made in the future, a partial list, or
            one with something critical that we do not know.
    """
    try:
        found = x509.load_pem_x509_crl(raw) if b"-----BEGIN" in raw else x509.load_der_x509_crl(raw)
        extensions = {one.oid: one for one in found.extensions}
        revoked = dict(_revoked(found))
        _check(found, ca)  # names and algorithms are read only when they are asked for
    except wssecurity.UNREADABLE as error:
        raise FileInvalid(f"no list of revoked certificates: {error}") from None
    if ExtensionOID.CRL_NUMBER not in extensions or found.next_update_utc is None:
        raise FileInvalid("the list has no number or no end; RFC 5280 section 5.1.2 wants both")
    if unknown := [oid for oid, one in extensions.items() if one.critical and oid not in _KNOWN]:
        raise FileInvalid(f"the list holds what we do not know, or is a partial one: {unknown[0].dotted_string}")
    this_ms, next_ms = (seconds_of(moment) * 1000 for moment in (found.last_update_utc, found.next_update_utc))
    if this_ms > now_utc_ms + FUTURE_MS:
        raise FileInvalid("the list was made in the future; check the clocks")
    issuer = ca.public_bytes(_DER)
    number = extensions[ExtensionOID.CRL_NUMBER].value
    assert isinstance(number, x509.CRLNumber)
    der = found.public_bytes(_DER)
    return Crl(sha256(issuer).digest(), issuer, False, number.crl_number, this_ms, next_ms, der, revoked)


def _check(found: x509.CertificateRevocationList, ca: x509.Certificate) -> None:
    key = wssecurity.accepted(ca.public_key())
    try:
        algorithm = found.signature_hash_algorithm
    except UnsupportedAlgorithm:
        algorithm = None
    if found.issuer != ca.subject or not isinstance(algorithm, _HASHES) or not found.is_signature_valid(key):
        raise FileInvalid("the list is not signed by that CA, or not by an algorithm that is accepted")


def _revoked(found: x509.CertificateRevocationList) -> Iterator[tuple[int, int]]:
    for one in found:
        for extension in one.extensions:
            if extension.critical and extension.oid != CRLEntryExtensionOID.CRL_REASON:
                raise ValueError(f"an entry with {extension.oid.dotted_string}, which we do not know")
        yield one.serial_number, seconds_of(one.revocation_date_utc) * 1000
