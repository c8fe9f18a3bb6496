"""The device CA, and EST (RFC 7030) over it: how a new device gets its certificate with nothing but a code.

In: a certification request and the header Gridpost-Enrolment (decision 14). Out: certificates. The proof is checked
before the request is parsed. The code binds to the first request: the same request gets the same certificate again, so
an answer lost on the way locks nobody out, and another request is refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtensionOID, NameOID

from gridpost import enrolment, exchange, renewal, wssecurity
from gridpost.conditions import RE_ENROL, Conditions
from gridpost.errors import ConfigInvalid, EnrolmentRefused, FileInvalid, NotFound, SignatureInvalid
from gridpost.exchange import BUS_KEY_USAGE
from gridpost.model import Enrolment
from gridpost.units import seconds_of

from .config import Trust
from .store import Renewal

CA_YEARS, BUS_YEARS = 30, 5
RSA_BITS = 3072
# A device's clock may be behind ours when it first checks its own certificate.
_BACKDATED = timedelta(days=1)
_YEAR = timedelta(days=365)
_DAY_MS = 86_400_000


class Pair(NamedTuple):
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


class Subject(NamedTuple):
    """What a certificate is to say: a name, a lifetime of years and days, extended key usages."""

    name: str
    years: int
    usages: tuple[x509.ObjectIdentifier, ...] = ()
    days: int = 0

    @property
    def lifetime(self) -> timedelta:
        """Return years and days together."""
        return self.years * _YEAR + timedelta(days=self.days)


def make_ca(organisation: str, now: datetime) -> Pair:
    """Make a device CA: P-256, path length 0. `organisation` is the bus's id, up to 64 characters as X.520 has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = {NameOID.ORGANIZATION_NAME: organisation, NameOID.COMMON_NAME: "Gridpost device CA"}
    subject = x509.Name([x509.NameAttribute(kind, name) for kind, name in names.items()])
    built = (
        _builder(subject, subject, key.public_key(), (now, CA_YEARS * _YEAR))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pair(built.sign(key, hashes.SHA256()), key)


class DeviceCA:
    """Issues device and bus certificates."""

    def __init__(self, certificate_pem: bytes, key_pem: bytes) -> None:
        """Load the CA.

        Raises:
            ConfigInvalid: not PEM, or not a pair.
        """
        try:
            key = serialization.load_pem_private_key(key_pem, password=None)
            self.certificate = x509.load_pem_x509_certificate(certificate_pem)
        except (ValueError, TypeError) as error:  # TypeError: the key is encrypted
            raise ConfigInvalid(f"the device CA is not readable: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != self.certificate.public_key():
            raise ConfigInvalid("the device CA's key does not belong to its certificate")
        self._key = key
        self.der = self.certificate.public_bytes(serialization.Encoding.DER)

    @classmethod
    def load(cls, certificate: Path, key: Path) -> DeviceCA:
        """Load the CA from its two files.

        Raises:
            NotFound, ConfigInvalid: see above.
        """
        try:
            return cls(certificate.read_bytes(), key.read_bytes())
        except OSError as error:
            raise NotFound(f"the device CA cannot be read: {error}") from None

    def issue(self, subject: Subject, key: wssecurity.PublicKey, now: datetime) -> x509.Certificate:
        """Return an end-entity certificate for a public key."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject.name)])
        builder = (
            _builder(name, self.certificate.subject, key, (now, subject.lifetime))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if subject.usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(subject.usages), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def sign_list(self, builder: x509.CertificateRevocationListBuilder) -> x509.CertificateRevocationList:
        """Return a list of revoked certificates as this CA's."""
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        named = builder.issuer_name(self.certificate.subject).add_extension(issuer, critical=False)
        return named.sign(self._key, hashes.SHA256())

    def issue_bus(self, name: str, now: datetime, *, is_rsa: bool = False) -> Pair:
        """Make a key and certificate of the bus, with the extended key usage that only a bus has (decision 13).

        P-256; with `is_rsa` RSA-3072, for toolkits that know nothing else.
        """
        key = rsa.generate_private_key(65537, RSA_BITS) if is_rsa else ec.generate_private_key(ec.SECP256R1())
        return _pair(self.issue(Subject(name, BUS_YEARS, (BUS_KEY_USAGE,)), key.public_key(), now), key)


class Enrolments(Protocol):
    """The store's part in an enrolment."""

    def enrolment_secret(self, serial: str) -> bytes:
        """Return the secret of an IED's code; EnrolmentRefused when there is no such IED."""

    def bind_certificate(self, serial: str, csr_sha256: bytes, der: bytes) -> bytes:
        """Bind the code to its first request and return the certificate that stands for this one."""

    def enrolment(self, certificate_sha256: bytes) -> Enrolment | None:
        """Return who a certificate is; None for strangers."""

    def renewed(self, serial: str, csr_sha256: bytes) -> bytes | None:
        """Return the certificate that a request got before; None when there is none, or it is revoked."""

    def renew(self, serial: str, renewal: Renewal) -> bytes:
        """Bind the next key's certificate and return the one that stands for the request."""

    def own_crl(self) -> bytes | None:
        """Return the device CA's newest list of revoked certificates, DER; None before the first."""


class Est:
    """simpleenroll, simplereenroll and cacerts."""

    def __init__(
        self, ca: DeviceCA, enrolments: Enrolments, now: Callable[[], datetime], terms: Trust | None = None
    ) -> None:
        """`now` is asked once for each certificate made; `terms` say how long they are good."""
        self._ca, self._enrolments, self._now, self._terms = ca, enrolments, now, terms or Trust()

    def cacerts(self) -> bytes:
        """Return the CA as RFC 7030 section 4.1.3 has it."""
        return enrolment.certs_only([self._ca.der])

    def crl(self) -> bytes:
        """Return the CA's list of revoked certificates, DER (RFC 5280 section 5).

        Raises:
            NotFound: none was made yet.
        """
        found = self._enrolments.own_crl()
        if found is None:
            raise NotFound("no list of revoked certificates was made yet")
        return found

    def simpleenroll(self, body: bytes, header: str) -> bytes:
        """Return the certificate for a request, with the CA behind it.

        Args:
            body: PKCS#10, base64.
            header: Gridpost-Enrolment's value.

        Raises:
            EnrolmentRefused: unknown serial, wrong proof, used code, or a request that is not ours to sign.
        """
        serial, request = enrolment.serial_of(header), _request(body)
        enrolment.check_proof(header, self._enrolments.enrolment_secret(serial), request)
        # Made anew each time; for a request seen before, the store answers with the first one.
        issued = self._issue(serial, request)
        certificate = self._enrolments.bind_certificate(serial, sha256(request).digest(), issued)
        return enrolment.certs_only([certificate, self._ca.der])

    def simplereenroll(self, body: bytes, header: str) -> bytes:
        """Return the certificate of a device's next key, with the CA behind it (docs/adr/0012).

        The same request gets the same certificate again, also when the old key's time is over meanwhile: an answer
        lost on the way locks nobody out.

        Args:
            body: PKCS#10 for the next key, base64.
            header: Gridpost-Renewal's value.

        Raises:
            EnrolmentRefused: an unknown key or a wrong proof; a key that is revoked, over, of a foreign CA, without the
                right to renew, or replaced by another one before; or a request that is not ours to sign.
        """
        claim, request = renewal.parse(header), _request(body)
        held = self._enrolments.enrolment(claim.certificate_sha256)
        if held is None or held.sender != claim.serial:
            raise EnrolmentRefused(detail=f"{claim.serial} has no such key")
        renewal.check(claim, held.certificate, request)
        if held.revoked_at_utc_ms is not None:
            raise EnrolmentRefused("the key was revoked")
        csr_sha256 = sha256(request).digest()
        certificate = self._enrolments.renewed(claim.serial, csr_sha256)
        if certificate is None:
            now = self._now()
            _check_renewable(held, seconds_of(now) * 1000)
            asked = Renewal(claim.certificate_sha256, csr_sha256, self._issue(claim.serial, request), self._overlap_ms)
            certificate = self._enrolments.renew(claim.serial, asked)
        return enrolment.certs_only([certificate, self._ca.der])

    @property
    def _overlap_ms(self) -> int:
        return self._terms.overlap_days * _DAY_MS

    def _issue(self, serial: str, request: bytes) -> bytes:
        key = requested_key(serial, request)
        certificate = self._ca.issue(Subject(serial, 0, days=self._terms.device_days), key, self._now())
        return certificate.public_bytes(serialization.Encoding.DER)


def _request(body: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        raise EnrolmentRefused("the request is not PKCS#10 in base64") from None


def _check_renewable(held: Enrolment, now_utc_ms: int) -> None:
    conditions = held.conditions or Conditions()
    if not exchange.valid_at(held.certificate, now_utc_ms):
        raise EnrolmentRefused("the key's certificate has expired; enrol with a new code")
    if conditions.crl_due_utc_ms is not None:
        raise EnrolmentRefused("the key's certificate is a foreign CA's; that CA certifies the next one")
    if not conditions.allows(RE_ENROL):
        raise EnrolmentRefused("this key has no right to renew")


def requested_key(serial: str, request: bytes) -> wssecurity.PublicKey:
    """Return the public key of a PKCS#10 request whose name and self-signature are right.

    Raises:
        EnrolmentRefused: they are not, or the key is of a kind or size we do not accept.
    """
    try:
        csr = x509.load_der_x509_csr(request)
        names = [str(attribute.value) for attribute in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if not csr.is_signature_valid or names != [serial]:
            raise EnrolmentRefused("the request is not signed by its own key, or names another serial")
        return wssecurity.accepted(csr.public_key())
    except wssecurity.UNREADABLE:
        raise EnrolmentRefused("the request is no PKCS#10") from None
    except SignatureInvalid as error:
        raise EnrolmentRefused(f"the request's key: {error.detail}") from None


def foreign_key(serial: str, raw: bytes, ca: x509.Certificate) -> x509.Certificate:
    """Read a device certificate, PEM or DER, that a foreign CA issued, and hold it against what a device's may be.

    Raises:
        FileInvalid: no certificate, not that CA's, another name, a CA's or a bus's, or a key we do not accept.
    """
    try:
        pem = b"-----BEGIN" in raw
        found = x509.load_pem_x509_certificate(raw) if pem else x509.load_der_x509_certificate(raw)
        found.verify_directly_issued_by(ca)
        wssecurity.accepted(found.public_key())
        names = [str(attribute.value) for attribute in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        purposes = {one.oid: one.value for one in found.extensions}
    except (*wssecurity.UNREADABLE, InvalidSignature) as error:
        raise FileInvalid(f"the certificate cannot be read, or is not that CA's: {error}") from None
    except SignatureInvalid as error:
        raise FileInvalid(f"the certificate's key: {error.detail}") from None
    constraints = purposes.get(ExtensionOID.BASIC_CONSTRAINTS)
    if names != [serial] or (isinstance(constraints, x509.BasicConstraints) and constraints.ca):
        raise FileInvalid(f"the certificate is not of a device named {serial}")
    return found


def ends_utc_ms(certificate: bytes) -> int:
    """Return the end of a DER certificate's validity."""
    return seconds_of(x509.load_der_x509_certificate(certificate).not_valid_after_utc) * 1000


def utc_now() -> datetime:
    """Return the moment, for certificates."""
    return datetime.now(UTC)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: wssecurity.PublicKey, life: tuple[datetime, timedelta]
) -> x509.CertificateBuilder:
    now, lifetime = life
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Pair:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), private)
