"""The bus's second key: whoever signs with RSA is answered with RSA, everybody else as before."""

from __future__ import annotations

import base64
import shutil
import stat
import tomllib
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from gridpost.server import config as settings
from gridpost.server.identity import load_rsa_signer
from gridpost.server.office.entries import Entries
from gridpost.server.reception import Post, Reception
from gridpost.server.zones import zone_of
from live_bus import run
from lxml import etree

from gridpost import control_messages, exchange, messages, testing
from gridpost.envelope import DEVICE_LIMITS
from gridpost.errors import ConfigInvalid, NotFound
from gridpost.model import Header
from gridpost.wssecurity import KeySigner

NOW = 1_767_225_600_000  # 2026-01-01T00:00:00Z, by date -d
END = NOW // 1000 - 900
DS = "{http://www.w3.org/2000/09/xmldsig#}"
RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
ECDSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"


@pytest.fixture(scope="module")
def rsa_key():
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def second(post_office):
    """The bus's RSA key, RSA-3072."""
    pair = post_office.ca.issue_bus("bus", datetime(2026, 1, 1, tzinfo=UTC), is_rsa=True)
    return KeySigner.from_pem(*reversed(pair))


@pytest.fixture
def door(post_office, second):
    """A reception with both keys."""
    post = Post("bus", post_office.signer, post_office.store, post_office.clock, zone_of, DEVICE_LIMITS, rsa=second)
    return Reception(post, post_office.audit, post_office.worker)


def device(post_office, serial, key):
    channel = testing.channel(f"M-{serial}")
    post_office.store.add_ied(serial, "revenue meter", bytes(10), [channel])
    signer = post_office.certify(serial, key)
    post_office.store.bind_certificate(serial, serial.encode().ljust(32), signer.certificate)
    return signer, channel


def payload(serial, channel, message_id, end=END):
    return messages.encode(testing.readings_message(serial, message_id, [testing.block(channel, end, ["1.5"])], NOW))


def method(raw: bytes) -> str:
    return etree.fromstring(raw).find(f".//{DS}SignatureMethod").get("Algorithm")


def signer_of(raw: bytes) -> x509.Certificate:
    token = etree.fromstring(raw).find(".//{*}BinarySecurityToken").text
    return x509.load_pem_x509_certificate(
        b"-----BEGIN CERTIFICATE-----\n" + token.encode() + b"\n-----END CERTIFICATE-----\n"
    )


def test_receipts_and_refusals_come_in_the_family_of_the_request(post_office, door, rsa_key):
    for serial, key, algorithm in (
        ("IED-R", rsa_key, RSA_SHA256), ("IED-E", ec.generate_private_key(ec.SECP256R1()), ECDSA_SHA256),
        ("IED-L", ec.generate_private_key(ec.SECP384R1()), ECDSA_SHA256),
    ):  # fmt: skip
        signer, channel = device(post_office, serial, key)
        taken = post_office.receive(exchange.seal(payload(serial, channel, "m-1"), signer, NOW), reception=door)
        refused = post_office.receive(
            exchange.seal(payload(serial, channel, "m-1", END - 900), signer, NOW), reception=door
        )
        assert post_office.answer(taken).receipt.sender == serial
        assert post_office.answer(refused).refusal.code == "message-id-reused"
        assert (method(taken.body), method(refused.body)) == (algorithm, algorithm)
        assert signer_of(taken.body).public_key().key_size == (3072 if algorithm == RSA_SHA256 else 256)


def test_the_rsa_receipts_signature_is_right_by_openssl_alone(post_office, door, rsa_key):
    signer, channel = device(post_office, "IED-R", rsa_key)
    raw = post_office.receive(exchange.seal(payload("IED-R", channel, "m-1"), signer, NOW), reception=door).body
    root = etree.fromstring(raw)
    signed_info = etree.tostring(root.find(f".//{DS}SignedInfo"), method="c14n", exclusive=True)
    value = base64.b64decode(root.findtext(f".//{DS}SignatureValue"))
    signer_of(raw).public_key().verify(value, signed_info, padding.PKCS1v15(), hashes.SHA256())


def test_a_repeat_keeps_its_receipt_whatever_key_it_comes_back_with(post_office, door, rsa_key):
    """Also where the bus was given its RSA key only afterwards."""
    signer, channel = device(post_office, "IED-R", rsa_key)
    content = payload("IED-R", channel, "m-1")
    first = post_office.receive(exchange.seal(content, signer, NOW))  # a bus of one key
    assert method(first.body) == ECDSA_SHA256
    assert post_office.receive(exchange.seal(content, signer, NOW), reception=door) == first
    post_office.store.revoke("IED-R", NOW)
    post_office.store.add_ied("IED-R", "revenue meter", b"new secret", [channel])
    other = post_office.certify("IED-R")
    post_office.store.bind_certificate("IED-R", b"2" * 32, other.certificate)
    assert post_office.receive(exchange.seal(content, other, NOW), reception=door) == first


def test_a_device_pins_each_of_the_two(post_office, door, rsa_key):
    signer, channel = device(post_office, "IED-R", rsa_key)
    raw = post_office.receive(exchange.seal(payload("IED-R", channel, "m-1"), signer, NOW), reception=door).body
    pinned = exchange.open_answer(raw, exchange.Trust(post_office.ca.der)).certificate
    assert pinned == signer_of(raw).public_bytes(serialization.Encoding.DER)
    assert pinned != post_office.signer.certificate


class NoDesk:
    """A desk at which nothing waits; it remembers whose fetch it was asked for."""

    def __init__(self):
        self.certificates = []

    async def fetch(self, serial, after, wait_s, certificate):
        self.certificates.append(certificate)

    def waiting(self, serial):
        return 0


def test_a_fetch_of_commands_is_answered_in_its_family_and_sealed_for_it(post_office, second, rsa_key):
    desk = NoDesk()
    post = Post("bus", post_office.signer, post_office.store, post_office.clock, zone_of, DEVICE_LIMITS, rsa=second)
    door = Reception(post, post_office.audit, post_office.worker, desk)
    signers = {}
    for serial, key, algorithm in (
        ("IED-R", rsa_key, RSA_SHA256), ("IED-E", ec.generate_private_key(ec.SECP256R1()), ECDSA_SHA256),
    ):  # fmt: skip
        signers[serial], _ = device(post_office, serial, key)
        header = Header("get", "EndDeviceControls", NOW, serial, f"fetch-{serial}")
        raw = exchange.seal(control_messages.encode_get_controls(header, 0, 0), signers[serial], NOW)
        assert method(post_office.receive(raw, reception=door).body) == algorithm
    assert desk.certificates == [signer.certificate for signer in signers.values()]


def test_an_office_is_answered_in_the_family_it_signed_with_and_a_nameless_one_with_the_bus_s_own(
    post_office, second, rsa_key
):
    entries = Entries(post_office.store, post_office.signer, post_office.worker, second)
    for certificate, algorithm in (
        (post_office.certify("R", rsa_key).certificate, RSA_SHA256),
        (post_office.certify("E").certificate, ECDSA_SHA256),
        (b"", ECDSA_SHA256),
    ):
        assert method(entries.seal(b"<x></x>", NOW, certificate)) == algorithm


def key_of(file):
    return x509.load_pem_x509_certificate(file.read_bytes()).public_key()


def test_init_makes_both_and_renew_renews_both(tmp_path):
    bus = tmp_path / "bus"
    assert run("init", bus).returncode == 0
    config = bus / "gridpost.toml"
    assert tomllib.loads(config.read_text())["identity"] == {"rsa_certificate": "bus-rsa.pem", "rsa_key": "bus-rsa.key"}
    assert stat.S_IMODE((bus / "bus-rsa.key").stat().st_mode) == 0o600
    before = {name: key_of(bus / name) for name in ("bus.pem", "bus-rsa.pem")}
    assert (before["bus.pem"].curve.name, before["bus-rsa.pem"].key_size) == ("secp256r1", 3072)
    assert run("bus", "renew", "--config", config).returncode == 0
    for name, key in before.items():
        assert key_of(bus / f"{name}.old") == key != key_of(bus / name)
    assert key_of(bus / "bus-rsa.pem").key_size == 3072


@pytest.fixture
def older(tmp_path, initialised):
    """A bus of one key; returns a function that names it another in its settings."""
    folder = shutil.copytree(initialised, tmp_path / "bus")

    def named(certificate, key):
        named = {"rsa_certificate": certificate, "rsa_key": key}
        (folder / "gridpost.toml").write_text(settings.render({"listen": {"http": "127.0.0.1:0"}, "identity": named}))
        return settings.load(folder / "gridpost.toml")

    return named


def test_an_older_bus_gets_its_second_key_by_two_lines_and_renew(older):
    config = older("r.pem", "r.key")
    with pytest.raises(NotFound, match=r"r\.key"):
        load_rsa_signer(config)
    assert run("bus", "renew", "--config", config.folder / "gridpost.toml").returncode == 0
    assert load_rsa_signer(config).algorithm == RSA_SHA256
    assert stat.S_IMODE((config.folder / "r.key").stat().st_mode) == 0o600


def test_a_key_on_a_curve_is_no_rsa_key(older):
    with pytest.raises(ConfigInvalid, match="no RSA key"):
        load_rsa_signer(older("bus.pem", "bus.key"))
    assert load_rsa_signer(older("", "")) is None
