"""Public fakes and builders for tests, of Gridpost and of its users: a throw-away CA, messages, a store in memory.

Floor 5. Keys made here are for tests only. Nothing in the product imports this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from . import exchange, messages
from .model import (
    Channel,
    ChannelKey,
    CreatedEndDeviceEvents,
    CreatedMeterReadings,
    EndDeviceEvent,
    Enrolment,
    Header,
    IntervalBlock,
    Readings,
)
from .wssecurity import KeySigner

FORWARD_KWH_15MIN = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
NOW_UTC_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class ThrowawayCA:
    """A device CA for one test: issues device and bus certificates, valid 2020 to 2050 unless told."""

    def __init__(self, name: str = "Throwaway CA") -> None:
        """Make the CA's key and certificate."""
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(self.name, self.name, self.key, _VALID)
        ca = x509.BasicConstraints(ca=True, path_length=0)
        usage = _key_usage(key_cert_sign=True)
        built = builder.add_extension(ca, critical=True).add_extension(usage, critical=True)
        self.x509 = built.sign(self.key, hashes.SHA256())
        self.certificate = self.x509.public_bytes(serialization.Encoding.DER)
        self.pem = self.x509.public_bytes(serialization.Encoding.PEM)

    def issue_device(
        self, serial: str, key: PrivateKey | None = None, valid: tuple[datetime, datetime] | None = None
    ) -> KeySigner:
        """Return a signer for an IED; a P-256 key is made unless one is given."""
        return self._issue(serial, key, valid, [])

    def issue_bus(self, name: str = "bus", key: PrivateKey | None = None) -> KeySigner:
        """Return a signer whose certificate carries the bus's extended key usage."""
        return self._issue(name, key, None, [exchange.BUS_KEY_USAGE])

    def _issue(
        self,
        name: str,
        key: PrivateKey | None,
        valid: tuple[datetime, datetime] | None,
        usages: list[x509.ObjectIdentifier],
    ) -> KeySigner:
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self.name, key, valid or _VALID)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(key_cert_sign=False), critical=True)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return KeySigner(key, certificate.public_bytes(serialization.Encoding.DER))


_VALID = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, valid: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )


def _key_usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not key_cert_sign, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=key_cert_sign, crl_sign=key_cert_sign, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def years(count: int) -> timedelta:
    """Return `count` years of 365 days."""
    return timedelta(days=365 * count)


def channel(number: int = 1, meter: str = "M1", zone: str = "Etc/UTC", **changes: object) -> Channel:
    """Return an enrolled 15-minute forward kWh channel of usage point ``UP-<meter>``."""
    key = ChannelKey(f"UP-{meter}", meter, f"E{number}", FORWARD_KWH_15MIN)
    values: dict[str, object] = {"key": key, "unit": "kWh", "interval_s": 900, "zone": zone, "id": number}
    return Channel(**(values | changes))  # type: ignore[arg-type]


def enrolment(signer: KeySigner, sender: str, channels: Sequence[Channel]) -> Enrolment:
    """Return the enrolment of a signer that is in force."""
    return Enrolment(sender, signer.certificate, None, tuple(channels))


def block(of: Channel, first_end_utc: int, values: Sequence[str]) -> IntervalBlock:
    """Return a contiguous block of plain values."""
    ends = tuple(first_end_utc + index * of.interval_s for index in range(len(values)))
    return IntervalBlock(of.key, of.interval_s, ends, tuple(values), ((),) * len(values))


def readings_message(
    source: str, message_id: str, blocks: Sequence[IntervalBlock], now_utc_ms: int = NOW_UTC_MS
) -> CreatedMeterReadings:
    """Return a push of readings."""
    header = Header("created", "MeterReadings", now_utc_ms, source, message_id, sequence=1)
    return CreatedMeterReadings(header, Readings(tuple(blocks)))


def events_message(
    source: str, message_id: str, events: Sequence[EndDeviceEvent], now_utc_ms: int = NOW_UTC_MS
) -> CreatedEndDeviceEvents:
    """Return a push of events."""
    header = Header("created", "EndDeviceEvents", now_utc_ms, source, message_id, sequence=1)
    return CreatedEndDeviceEvents(header, tuple(events))


def sealed(message: CreatedMeterReadings | CreatedEndDeviceEvents, signer: KeySigner, at: int = NOW_UTC_MS) -> bytes:
    """Return a message, encoded and sealed."""
    return exchange.seal(messages.encode(message), signer, at)
