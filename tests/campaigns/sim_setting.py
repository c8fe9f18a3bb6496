"""What all histories begin from: keys that are always the same, and an empty store with the devices enrolled.

Made once a process. Keys are derived from their owner's name and certificates signed deterministically (RFC 6979), so
that one seed gives one history, byte for byte, wherever it runs.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gridpost.server.store import create, open_store

from gridpost import exchange, tabular
from gridpost.model import Channel
from gridpost.wssecurity import KeySigner

START_UTC_MS = 1_774_224_000_000  # 2026-03-23T00:00:00Z, a Monday; on that week's Sunday Europe's clocks go forward
WEEK_S = 7 * 86_400
BUS_ID = "bus"
DEVICES = ("IED-A", "IED-B")
INSIDER = "IED-X"  # enrolled, with a meter of its own, and up to no good
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
Usages = tuple[x509.ObjectIdentifier, ...]
_PERIODS = {900: 2, 1800: 5, 3600: 7}


class Shape(NamedTuple):
    """The devices' channels: for each its interval length, zone and streams."""

    interval_s: int
    zone: str
    streams: tuple[str, ...]


SHAPES: tuple[tuple[Shape, Shape], ...] = (
    (Shape(3600, "Etc/UTC", ("E", "B")), Shape(1800, "Europe/Paris", ("E",))),
    (Shape(1800, "Etc/GMT-10", ("E",)), Shape(3600, "Europe/Paris", ("E", "B"))),
    (Shape(900, "Europe/Paris", ("E",)), Shape(3600, "America/New_York", ("E",))),
)


class Parties(NamedTuple):
    """Who has which key."""

    ca: bytes  # DER
    bus: KeySigner
    devices: dict[str, KeySigner]
    stranger: KeySigner  # another CA's device, named like one of ours
    false_bus: KeySigner  # another CA's bus


def meter_of(serial: str) -> str:
    return f"M-{serial}"


def channel_table(serial: str, shape: Shape) -> str:
    rows = ["usage_point,meter,channel,reading_type,unit,interval_s,zone,valid_from"]
    for stream in shape.streams:
        flow = {"E": 1, "B": 19}[stream]
        kind = f"0.0.{_PERIODS[shape.interval_s]}.4.{flow}.1.12.0.0.0.0.0.0.0.0.3.72.0"
        meter = meter_of(serial)
        rows.append(f"UP-{meter},{meter},{stream},{kind},kWh,{shape.interval_s},{shape.zone},2020-01-01T00:00:00Z")
    return "\n".join(rows) + "\n"


def make_parties() -> Parties:
    ours, other = _key("ca"), _key("another ca")
    return Parties(
        _certificate("Device CA", "Device CA", ours, ours, ()),
        _signer("bus", "Device CA", ours, (exchange.BUS_KEY_USAGE,)),
        {serial: _signer(serial, "Device CA", ours, ()) for serial in (*DEVICES, INSIDER)},
        _signer(DEVICES[0], "Another CA", other, ()),
        _signer("bus", "Another CA", other, (exchange.BUS_KEY_USAGE,)),
    )


class Setting:
    """Keys, and a folder with the files histories are begun from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parties = make_parties()
        for serial in DEVICES:
            for shapes in SHAPES:
                self._identity(serial, shapes)
        for number in range(len(SHAPES)):
            self._store(number)

    def store(self, number: int) -> Path:
        return self.folder / f"empty-{number}.db"

    def identity(self, serial: str, number: int) -> Path:
        return self.folder / f"{serial}-{number}"

    def channels(self, serial: str, number: int) -> tuple[Channel, ...]:
        shape = SHAPES[number][DEVICES.index(serial)] if serial in DEVICES else Shape(3600, "Etc/UTC", ("E",))
        return tabular.channels(channel_table(serial, shape))

    def _identity(self, serial: str, shapes: tuple[Shape, Shape]) -> None:
        folder = self.identity(serial, SHAPES.index(shapes))
        folder.mkdir()
        signer = self.parties.devices[serial]
        plain = serialization.NoEncryption()
        pem = serialization.Encoding.PEM
        pkcs8 = serialization.PrivateFormat.PKCS8
        (folder / "ied.key").write_bytes(_key(serial).private_bytes(pem, pkcs8, plain))
        (folder / "ied.pem").write_bytes(x509.load_der_x509_certificate(signer.certificate).public_bytes(pem))
        (folder / "ca.pem").write_bytes(x509.load_der_x509_certificate(self.parties.ca).public_bytes(pem))
        (folder / "channels.csv").write_text(channel_table(serial, shapes[DEVICES.index(serial)]))

    def _store(self, number: int) -> None:
        path = self.store(number)
        create(path)
        store = open_store(path, lambda: START_UTC_MS)
        for serial in (*DEVICES, INSIDER):
            store.add_ied(serial, "revenue meter", bytes(10), self.channels(serial, number))
            store.bind_certificate(serial, serial.encode().ljust(32), self.parties.devices[serial].certificate)
        store.close()


def _key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(b"simulate " + name.encode()).digest()), ec.SECP256R1())


def _signer(name: str, issuer: str, ca: ec.EllipticCurvePrivateKey, usages: Usages) -> KeySigner:
    key = _key(f"{name} of {issuer}" if issuer != "Device CA" else name)
    return KeySigner(key, _certificate(name, issuer, key, ca, usages))


def _certificate(
    name: str, issuer: str, key: ec.EllipticCurvePrivateKey, ca: ec.EllipticCurvePrivateKey, usages: Usages
) -> bytes:
    """DER; what `CertificateBuilder.sign` makes, but with RFC 6979's signature, so always the same."""
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(int.from_bytes(hashlib.sha256(f"{name} {issuer}".encode()).digest()[:8]) | 1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
    signed = builder.sign(ca, hashes.SHA256()).tbs_certificate_bytes
    signature = ca.sign(signed, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    return _der(0x30, signed + _ECDSA_SHA256 + _der(0x03, b"\0" + signature))


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2)
    return bytes([tag]) + length + content
