"""A running bus with two tenants that must never see each other, and partners of every role in one of them.

`north` and `south` each have an IED with a day's readings and an event. Every role has a partner in north with every
grant for north's usage point; in south there is a utility alone. What is south's bears marks that nothing of north has.
For tests and campaigns; the bus is the installed program, set up by the store's own verbs beside it.
"""

from __future__ import annotations

import secrets
import shutil
import ssl
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gridpost.server import passwords
from gridpost.server.store import open_store
from live_bus import Device, LiveBus, Wire, channel_table, enrol, now_utc_ms
from lxml import etree

from gridpost import enrolment, exchange, messages, ns, schemas, tabular, testing
from gridpost.controls import Role
from gridpost.model import CreatedEndDeviceEvents, EndDeviceEvent, Header
from gridpost.partners import KINDS, Grant, Partner, Ways
from gridpost.tariff import Schedule, Tariff, TariffProfile, Tier
from gridpost.wssecurity import KeySigner

TENANTS = ("north", "south")
VALUES = {"north": "101.25", "south": "777.125"}
PASSWORD = "a password of some length"
SIGNED = Ways()
_numbers = count(1)


@dataclass
class Told:
    """An answer: status, bytes, and what stands in it."""

    status: int
    raw: bytes

    @property
    def body(self) -> etree._Element:
        """The Body's child; a fault message where it is a fault."""
        (child,) = etree.fromstring(self.raw).find(ns.q(ns.SOAP11, "Body"))
        return child

    @property
    def code(self) -> str:
        """``ok``, or the code of a refusal."""
        found = self.body.findtext("faultstring")
        return "ok" if found is None else found.partition(":")[0]

    @property
    def reason(self) -> str:
        return (self.body.findtext("faultstring") or "").partition(": ")[2]

    @property
    def is_signed(self) -> bool:
        return b"BinarySecurityToken" in self.raw

    def texts(self, local: str) -> list[str]:
        return [one.text for one in self.body.iter(f"{{*}}{local}")]

    def property(self, name: str) -> str:
        for one in self.body.iter(f"{{{ns.MESSAGE}}}Property"):
            if one.findtext("{*}Name") == name:
                return one.findtext("{*}Value")
        return ""

    def check_schema(self) -> None:
        """Hold the answer, or a fault's detail, against the schemas."""
        fault = self.body if self.body.tag.endswith("}Fault") else None
        schemas.validate(self.body if fault is None else fault.find("detail")[0])


@dataclass
class OfficeWorld:
    """The bus, its IEDs by tenant, its partners' keys by id."""

    bus: LiveBus
    ca: testing.ThrowawayCA
    devices: dict[str, Device] = field(default_factory=dict)
    keys: dict[str, KeySigner] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, initialised: Path | None = None, **sections: Any) -> OfficeWorld:
        """Make it in a folder; `initialised`: a bus's folder to copy, which spares a run of `gridpost init`."""
        ca = testing.ThrowawayCA("CA of offices")
        write_server_certificate(folder, ca)
        office = {"http": "127.0.0.1:0", "https": "127.0.0.1:0", "tls_certificate": str(folder / "server.pem"),
                  "tls_key": str(folder / "server.key"), "client_ca": str(folder / "ca.pem")}  # fmt: skip
        sections = {"office": office | sections.pop("office", {}), **sections}
        if initialised is None:
            bus = LiveBus.make(folder / "bus", **sections)
        else:
            bus = LiveBus(shutil.copytree(initialised, folder / "bus"))
            bus.configure(**sections)
        world = cls(bus.start(), ca)
        for tenant in TENANTS:
            world.add_device(tenant)
        for role in Role:
            world.add_partner(f"{role}-north", role, "north")
        world.add_partner("utility-south", Role.UTILITY, "south")
        world.add_partner("stranger-north", Role.THIRD_PARTY, "north", kinds=())
        return world

    @property
    def plain(self) -> Wire:
        return Wire(self._address("http://"))

    def tls(self, trusted: ssl.SSLContext | None = None) -> Wire:
        return Wire(self._address("https://"), trusted or self.context())

    def _address(self, scheme: str) -> str:
        (found,) = [one for one in self.bus.addresses if one.startswith(scheme) and one.endswith("/utility")]
        return found.removesuffix("/utility")

    def context(self, certificate: Path | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ca.pem.decode())
        if certificate:
            context.load_cert_chain(certificate)
        return context

    def store(self):
        return open_store(self.bus.folder / "gridpost.db", now_utc_ms)

    # --- who is there ---

    def add_device(self, tenant: str) -> None:
        serial = f"IED-{tenant}"
        store = self.store()
        table, secret = channel_table(f"M-{serial}"), secrets.token_bytes(enrolment.SECRET_OCTETS)
        store.add_ied(serial, "revenue meter", secret, tabular.channels(table))
        authority = x509.load_pem_x509_certificate((self.bus.folder / "ca.pem").read_bytes())
        code = enrolment.make_code(serial, secret, authority.public_bytes(serialization.Encoding.DER))
        device = self.devices[tenant] = enrol(self.bus.wire, code, table)
        store.set_tenants(serial, [tenant])
        store.set_group(tenant, "all", [serial])
        store.close()
        assert (
            self.bus.wire.post(device.seal(device.payload(f"day-{tenant}", [VALUES.get(tenant, "5")] * 96)))[0] == 200
        )
        event = EndDeviceEvent("", "3.26.0.85", now_utc_ms() - 1000, f"M-{serial}", f"reason of {tenant}")
        header = Header("created", "EndDeviceEvents", now_utc_ms(), serial, f"event-{tenant}", sequence=2)
        raw = device.seal(messages.encode(CreatedEndDeviceEvents(header, (event,))))
        assert self.bus.wire.post(raw)[0] == 200

    def add_partner(
        self, partner: str, role: Role, tenant: str, ways: Ways = SIGNED, kinds: tuple[str, ...] = tuple(KINDS),
        grants: tuple[Grant, ...] = (), **changes: Any,
    ) -> None:  # fmt: skip
        store = self.store()
        store.add_partner(Partner(partner, partner, role, tenant, ways, **changes))
        if ways.signature:
            self.keys[partner] = self.ca.issue_device(partner)
            store.add_partner_certificate(partner, self.keys[partner].certificate, "signature")
        if ways.username:
            store.set_password(partner, passwords.hash_password(PASSWORD, bytes(16)))
        store.give(*(grants or [Grant(partner, f"UP-M-IED-{tenant}", kind) for kind in kinds]))
        store.close()

    # --- speaking ---

    def header(self, partner: str, verb: str, noun: str, message_id: str = "") -> Header:
        return Header(verb, noun, now_utc_ms(), partner, message_id or f"{partner}-{next(_numbers)}")

    def call(self, message: Any, wire: Wire | None = None) -> Told:
        """Send a request signed by the partner that its header names."""
        payload = messages.encode(message)
        return self.post(exchange.seal(payload, self.keys[message.header.source], now_utc_ms()), wire)

    def post(self, raw: bytes, wire: Wire | None = None) -> Told:
        headers = {"Content-Type": "text/xml; charset=utf-8"}
        return Told(*(wire or self.plain).request("POST", "/utility", raw, headers)[:2])

    def close(self) -> None:
        if self.bus.process is not None:
            self.bus.kill()


def unsigned(message: Any, username: str = "", password: str = PASSWORD) -> bytes:
    """An envelope without a signature, with a UsernameToken where a name is given."""
    token = (
        f'<wsse:Security xmlns:wsse="{ns.WSSE}"><wsse:UsernameToken><wsse:Username>{username}</wsse:Username>'
        f"<wsse:Password>{password}</wsse:Password></wsse:UsernameToken></wsse:Security>"
    )
    header = f"<soap:Header>{token}</soap:Header>" if username else ""
    body = messages.encode(message).decode()
    return f'<soap:Envelope xmlns:soap="{ns.SOAP11}">{header}<soap:Body>{body}</soap:Body></soap:Envelope>'.encode()


def flat_tariff(name: str, supplier: str, price: str = "0.10", **terms: Any) -> Tariff:
    """A tariff of one price a kWh, at any time."""
    always = ((0,) * 24,) * 12
    energy = TariffProfile(Schedule(always, always), ((Tier(Decimal(price)),),))
    return Tariff(
        **{"id": name, "supplier": supplier, "name": name, "currency": "EUR", "zone": "Etc/UTC", "energy": energy}
        | terms
    )


def write_server_certificate(folder: Path, ca: testing.ThrowawayCA) -> None:
    """Put the CA's certificate, and a certificate with its key for 127.0.0.1, into a folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = datetime.now(UTC) - timedelta(days=1)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]))
        .issuer_name(ca.name).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(made).not_valid_after(made + timedelta(days=30))
        .add_extension(address, critical=False)
        .sign(ca.key, hashes.SHA256())
    )  # fmt: skip
    (folder / "ca.pem").write_bytes(ca.pem)
    (folder / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(private_pem(key))


def private_pem(key: Any) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def until(condition: Any, seconds: float = 60) -> None:
    """Ask again until it holds."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "in vain"
        time.sleep(0.05)
