"""A CA of somebody else's, by the cryptography library alone: certificates and lists, right and wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gridpost.server import crl

from gridpost import testing

NOW = testing.NOW_UTC_MS
MADE = datetime.fromtimestamp(NOW / 1000, UTC)
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER


class ForeignCA:
    """A CA of somebody else's, by the cryptography library alone."""

    def __init__(self, name="Foreign CA", *, ca=True, crl_sign=True, key=None):
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(not ca, False, False, False, False, ca, crl_sign, False, False)
        self.certificate = (
            self._builder(self.name, self.key.public_key())
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.der = self.certificate.public_bytes(DER)
        self.pem = self.certificate.public_bytes(PEM)

    def _builder(self, subject, key):
        built = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key)
        built = built.serial_number(x509.random_serial_number()).not_valid_before(MADE - timedelta(days=1))
        return built.not_valid_after(MADE + timedelta(days=3650))

    def certify(self, serial, key=None):
        """A device certificate, as an x509 value."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, serial)])
        return self._builder(name, key.public_key()).sign(self.key, hashes.SHA256())

    def crl(self, number=1, revoked=(), made=MADE, **changes):
        """A list, DER. Changes: until, extensions, key, name, hash, encoding."""
        until = changes.get("until", made + timedelta(days=7))
        built = x509.CertificateRevocationListBuilder().issuer_name(changes.get("name", self.name)).last_update(made)
        built = built.next_update(until)
        if number is not None:
            built = built.add_extension(x509.CRLNumber(number), critical=False)
        for extension, critical in changes.get("extensions", ()):
            built = built.add_extension(extension, critical)
        for serial_number, at, *more in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial_number).revocation_date(at)
            for extension in more:
                entry = entry.add_extension(extension, critical=True)
            built = built.add_revoked_certificate(entry.build())
        signed = built.sign(changes.get("key", self.key), changes.get("hash", hashes.SHA256()))
        return signed.public_bytes(changes.get("encoding", DER))

    def read(self, raw, now=NOW):
        return crl.read(raw, crl.load_ca(self.pem), now)
