"""TLS sessions of a running bus resumed at any of its processes, and its certificate changed while it runs."""

from __future__ import annotations

import base64
import signal
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from live_bus import Device, Wire, channel_table, enrol

from gridpost import enrolment, renewal
from gridpost.wssecurity import KeySigner

HTTPS = {"http": "", "https": "127.0.0.1:0", "tls_certificate": "tls.pem", "tls_key": "tls.key"}
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def put_certificate(folder, name="localhost"):
    """Put a certificate that signs itself, with its key, where the bus looks; return it, DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=10)).sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "tls.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "tls.key").write_bytes(private)
    return made.public_bytes(serialization.Encoding.DER)


class Client:
    """Connects anew for each visit, and resumes the session it was given last."""

    def __init__(self, bus, version=ssl.TLSVersion.TLSv1_3):
        self.bus, self.port = bus, int(bus.addresses[0].rpartition(":")[2])
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.context.minimum_version = self.context.maximum_version = version
        self.session = None

    def visit(self):
        """Return whether the session was resumed, which process answered, and the certificate it showed."""
        with self.connected(self.session) as one:
            one.sendall(HEALTH)
            assert one.recv(1000).startswith(b"HTTP/1.1 200 ")  # the tickets have come before
            self.session = one.session
            return one.session_reused, self._process(one.getsockname()), one.getpeercert(True)

    def connected(self, session=None):
        plain = socket.create_connection(("127.0.0.1", self.port), 60)
        return self.context.wrap_socket(plain, session=session, server_hostname="localhost")

    def _process(self, ours):
        for process in processes(self.bus):
            if any(tuple(one.raddr) == ours for one in process.net_connections("tcp")):
                return process.pid
        raise AssertionError("nobody has this connection")


def processes(bus):
    parent = psutil.Process(bus.process.pid)
    return parent.children() or [parent]


def until(found, timeout=60):
    end = time.monotonic() + timeout
    while not (answer := found()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)  # between two questions, not instead of one
    return answer


def visits(client, least=12, most=200):
    """Visit until every process was met."""
    seen = []
    while len(seen) < least or {pid for _, pid, _ in seen} != {one.pid for one in processes(client.bus)}:
        assert len(seen) < most
        seen.append(client.visit())
    return seen


@pytest.fixture
def pair(tmp_path, make_bus, postgres):
    """A running bus of two processes with HTTPS, and its certificate."""
    url = postgres.url("", create=f"tls_{tmp_path.name}")
    bus = make_bus(bus={"database": url, "processes": 2}, listen=HTTPS)
    certificate = put_certificate(bus.folder)
    return bus.start(), certificate


def test_a_session_is_resumed_at_every_process_also_at_one_started_again(pair):
    bus, _ = pair
    clients = [Client(bus, version) for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]
    for client in clients:
        assert client.visit()[0] is False
        assert [resumed for resumed, _, _ in visits(client)].count(False) == 0
    victim = processes(bus)[0]
    victim.kill()
    until(lambda: len(bus.audit("started")) == 3)
    for client in clients:
        seen = visits(client)
        assert victim.pid not in {pid for _, pid, _ in seen}
        assert [resumed for resumed, _, _ in seen].count(False) == 0


def test_processes_are_replaced_one_by_one_by_such_with_the_new_certificate(pair):
    bus, old = pair
    client = Client(bus)
    assert {certificate for _, _, certificate in visits(client)} == {old}
    before = {one.pid for one in processes(bus)}
    new = put_certificate(bus.folder, "localhost-2")
    bus.process.send_signal(signal.SIGHUP)
    until(lambda: len(bus.audit("started")) == 4 and len(processes(bus)) == 2)
    assert not before & {one.pid for one in processes(bus)}
    client.session = None
    assert client.visit()[2] == new
    seen = visits(client)
    assert {certificate for _, _, certificate in seen} == {new}
    assert [resumed for resumed, _, _ in seen].count(False) == 0
    order = [line["event"] for line in bus.audit() if line["event"] in ("started", "stopped")]
    assert order == ["started", "started", "stopped", "started", "stopped", "started"], "one at a time"
    assert bus.audit("process-ended") == []
    assert len(bus.audit("https-certificate-renewed")) == 1
    assert bus.stop() == 0
    assert bus.errors() == ""


def test_one_process_takes_the_new_certificate_for_new_connections_and_cuts_none(make_bus):
    bus = make_bus(listen=HTTPS)
    old = put_certificate(bus.folder)
    client = Client(bus.start())
    assert [client.visit()[0] for _ in range(4)] == [False, True, True, True]
    with client.connected() as kept:
        new = put_certificate(bus.folder)
        bus.process.send_signal(signal.SIGHUP)
        until(lambda: bus.audit("https-certificate-renewed"))
        kept.sendall(HEALTH)
        assert kept.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert kept.getpeercert(True) == old
    client.session = None
    assert client.visit()[2] == new
    assert bus.stop() == 0


def test_a_certificate_that_cannot_be_used_leaves_the_one_before_and_is_told(make_bus):
    bus = make_bus(listen=HTTPS)
    old = put_certificate(bus.folder)
    client = Client(bus.start())
    (bus.folder / "tls.pem").write_text("no certificate")
    bus.process.send_signal(signal.SIGHUP)
    (told,) = until(lambda: bus.audit("https-certificate-refused"))
    assert told["code"] == "config-invalid"
    assert client.visit()[2] == old
    assert bus.stop() == 0


def test_a_device_enrols_and_renews_over_https(make_bus):
    """EST as RFC 7030 means it, and then a push with the next key."""
    bus = make_bus(listen=HTTPS, mv90={"enabled": False})
    put_certificate(bus.folder)
    code = bus.start().add("IED-1", channel_table("M1"))
    context = ssl.create_default_context(cafile=bus.folder / "tls.pem")
    context.check_hostname = False  # it is asked by its number here
    wire = Wire(bus.addresses[0], context)
    first = enrol(wire, code, channel_table("M1"))
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "IED-1")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    der = csr.public_bytes(serialization.Encoding.DER)
    headers = {"Content-Type": "application/pkcs10",
               renewal.HEADER: renewal.proof_header("IED-1", first.signer, der)}  # fmt: skip
    status, body, _ = wire.request("POST", "/.well-known/est/simplereenroll", base64.encodebytes(der), headers)
    assert status == 200, body
    (mine,) = (one for one in enrolment.certificates(body) if one != first.ca)
    second = Device("IED-1", first.channels, KeySigner(key, mine), first.ca)
    payload = second.payload("m-1", ["1"])
    status, body = wire.post(second.seal(payload))
    assert status == 200
    second.receipt(body, payload)


def test_a_hangup_ends_no_bus_without_https(live_bus):
    live_bus.process.send_signal(signal.SIGHUP)
    assert live_bus.wire.get("/health")[0] == 200
    assert live_bus.stop() == 0
    assert live_bus.errors() == ""
