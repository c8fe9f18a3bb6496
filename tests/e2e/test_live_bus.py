"""The running bus as a device and a stranger meet it: push, receipt, file, HTTPS, health, audit."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import time
import urllib.parse
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gridpost.adapters.mv90 import Mv90Adapter
from live_bus import Wire, channel_table, enrol, now_utc_ms, run

from gridpost import testing
from gridpost.ports import FormatOptions

SOAP_TYPE = {"Content-Type": "text/xml; charset=utf-8"}


def until(condition, seconds: float = 20):
    """Poll for something another process does, and return what it gave."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def mv90(bus):
    return [one for one in bus.json("status")["readers"] if one["reader"] == "mv90"]


# --- the way of a message --------------------------------------------------------------------------------------------


def test_a_push_gets_a_receipt_and_counts_and_becomes_a_billing_file(make_bus):
    bus = make_bus().start()
    device = bus.enrol("IED-1", channel_table("M1", zone="Europe/Berlin"))
    values = [str(number) for number in range(1, 97)]
    first_end = int(datetime(2026, 1, 9, 23, 15, tzinfo=UTC).timestamp())  # the first of 2026-01-10 in Berlin
    payload = device.payload("m-1", values, first_end)
    status, body = bus.wire.post(device.seal(payload))
    assert status == 200
    receipt = device.receipt(body, payload)
    assert receipt.counts == (96, 0, 0)
    assert abs(receipt.recorded_at_utc_ms - now_utc_ms()) < 10_000
    assert bus.wire.post(device.seal(payload)) == (200, body)

    file = bus.folder / "mv90" / "M1_20260110_r01.mde"
    until(file.exists)
    (block,) = Mv90Adapter().parse(file.read_bytes(), FormatOptions(zone=UTC)).readings.blocks
    assert list(block.values) == values
    shown = bus.json("status")
    assert (shown["entries"], shown["interval_values"], shown["missing_intervals"]) == (1, 96, 0)
    reader = until(lambda: next((one for one in mv90(bus) if not one["waiting"]), None))
    assert (reader["reader"], reader["cursor"], reader["lag"]) == ("mv90", "0:0", 0)
    exported = bus.json("export", "mv90", "--from", "2026-01-10", "--to", "2026-01-10", "--out", bus.folder / "out")
    assert (bus.folder / "out" / "M1_20260110.mde").read_bytes() == file.read_bytes()
    assert exported["files"][0]["complete"] is True

    names = {event["event"] for event in bus.audit()}
    assert names == {"started", "crl-issued", "enrolled", "recorded", "repeat", "file-rendered", "file-delivered"}


def test_the_ieds_own_programs_do_the_same(shared_bus, tmp_path):
    """gridpost-ied init and push, against the same bus."""
    table = channel_table("M-OWN")
    (tmp_path / "channels.csv").write_text(table)
    code = shared_bus.add("OWN-1", table)
    made = run(
        "init", "--bus", shared_bus.addresses[0], "--code", code, "--channels", tmp_path / "channels.csv",
        tmp_path / "device", "--json", program="gridpost-ied",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    readings = "channel,interval_end_utc,value,quality\nE1,2026-01-10T00:15:00Z,1.25,\nE1,2026-01-10T00:30:00Z,2.50,\n"
    (tmp_path / "readings.csv").write_text(readings)
    pushed = run(
        "push", "--config", tmp_path / "device" / "ied.toml", tmp_path / "readings.csv", "--json",
        program="gridpost-ied",
    )  # fmt: skip
    assert pushed.returncode == 0, pushed.stderr
    assert json.loads(pushed.stdout)["receipted"] == 1
    assert shared_bus.json("ied", "show", "OWN-1")["last_entry"] is not None


def test_two_devices_enrolled_with_one_code_at_once_leave_one_of_them_enrolled(shared_bus):
    table = channel_table("M-RACE")
    code = shared_bus.add("RACE-1", table)

    def attempt(_):
        try:
            return enrol(shared_bus.wire, code, table)
        except AssertionError:
            return None

    with ThreadPoolExecutor(6) as pool:
        devices = [device for device in pool.map(attempt, range(6)) if device]
    assert len(devices) == 1
    assert len(shared_bus.json("ied", "show", "RACE-1")["certificates"]) == 1
    payload = devices[0].payload("m-1", ["1"])
    assert shared_bus.wire.post(devices[0].seal(payload))[0] == 200


def test_revoked_beside_the_running_bus_it_is_out_at_once(shared_bus):
    device = shared_bus.enrol("GONE-1")
    payload = device.payload("m-1", ["1"])
    status, receipt = shared_bus.wire.post(device.seal(payload))
    assert status == 200
    shared_bus.json("ied", "revoke", "GONE-1")
    status, body = shared_bus.wire.post(device.seal(device.payload("m-2", ["2"])))
    assert status == 500
    assert device.refusal(body).code == "certificate-not-accepted"
    assert shared_bus.wire.post(device.seal(payload)) == (200, receipt), "what is stored stays acknowledged"


def test_refusals_are_counted_in_the_status_of_another_process(live_bus):
    live_bus.wire.post(b"<a/>")
    live_bus.wire.get("/absent")
    found = until(lambda: live_bus.json("status")["refusals"])
    assert found == {"version-mismatch": 1, "path-unknown": 1}


def test_a_message_at_the_limit_is_taken_and_one_octet_more_is_not(live_bus):
    device = live_bus.enrol("BIG-1")
    body = device.seal(device.payload("m-1", ["1.5"]))
    padded = body.replace(b"<soap:Header>", b"<soap:Header>" + b" " * ((1 << 20) - len(body)))
    assert len(padded) == 1 << 20
    assert live_bus.wire.post(padded)[0] == 200
    assert live_bus.wire.post(padded + b" ")[0] == 413


def test_while_a_large_message_is_read_small_ones_are_answered(live_bus):
    """768 KiB, the most our own device sends, is read in the pool."""
    device = live_bus.enrol("BIG-2")
    payload = device.payload("large", ["1.5"] * 5000)
    large = device.seal(payload)
    assert len(large) > 400_000
    connection = live_bus.wire.connection()
    connection.request("POST", "/metering", large, SOAP_TYPE)
    assert live_bus.wire.get("/health")[0] == 200
    answer = connection.getresponse()
    device.receipt(answer.read(), payload)
    connection.close()


# --- HTTPS -----------------------------------------------------------------------------------------------------------


def certificate(name: str, issuer=None, *, ca: bool):
    """Return (certificate, key) of our own, for ten days."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by_name, by_key = (issuer[0].subject, issuer[1]) if issuer else (subject, key)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(by_name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=10)).add_extension(x509.BasicConstraints(ca, None), critical=True)
    )  # fmt: skip
    if not ca:
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(by_key, hashes.SHA256()), key


def pem(thing) -> bytes:
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(serialization.Encoding.PEM)
    return thing.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture(scope="module")
def pki():
    """A root, an issuer under it, and a server certificate of the issuer for localhost."""
    root = certificate("Root", ca=True)
    issuer = certificate("Issuer", root, ca=True)
    return root, issuer, certificate("localhost", issuer, ca=False)


def https_bus(make_bus, chain: bytes, key: bytes):
    bus = make_bus(
        listen={"http": "", "https": "127.0.0.1:0", "tls_certificate": "tls.pem", "tls_key": "tls.key"},
    )
    (bus.folder / "tls.pem").write_bytes(chain)
    (bus.folder / "tls.key").write_bytes(key)
    return bus


@pytest.fixture
def bus_over_https(make_bus, pki, tmp_path):
    """A running bus, and the file of the root to trust."""
    root, issuer, server = pki
    (tmp_path / "root.pem").write_bytes(pem(root[0]))
    return https_bus(make_bus, pem(server[0]) + pem(issuer[0]), pem(server[1])).start(), tmp_path / "root.pem"


def test_https_with_a_chain_is_believed_by_whoever_trusts_its_root(make_bus, pki):
    root, issuer, server = pki
    bus = https_bus(make_bus, pem(server[0]) + pem(issuer[0]), pem(server[1])).start()
    (address,) = bus.addresses
    assert address.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cadata=pem(root[0]).decode())
    wire = Wire(address.replace("127.0.0.1", "localhost"), context)
    assert wire.get("/health")[:2] == (200, b"ok\n")
    table = channel_table("M1")
    device = enrol(wire, bus.add("IED-1", table), table)
    payload = device.payload("m-1", ["1.5"])
    device.receipt(wire.post(device.seal(payload))[1], payload)
    assert b'location="https://localhost:' in wire.get("/metering?wsdl")[1]


@pytest.mark.parametrize(("offered", "chosen"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)])
def test_whatever_protocols_a_client_offers_http_1_1_is_spoken(bus_over_https, offered, chosen):
    """RFC 7301; curl and httpx offer. Without an overlap the handshake goes on without a choice."""
    bus, root = bus_over_https
    context = ssl.create_default_context(cafile=str(root))
    if offered:
        context.set_alpn_protocols(offered)
    port = urllib.parse.urlsplit(bus.addresses[0]).port
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        assert secure.selected_alpn_protocol() == chosen
        secure.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert secure.recv(100).startswith(b"HTTP/1.1 200 ")


def test_the_ieds_own_programs_go_over_https(bus_over_https, tmp_path):
    bus, root = bus_over_https
    table = channel_table("M-TLS")
    (tmp_path / "channels.csv").write_text(table)
    made = run(
        "init", "--bus", bus.addresses[0].replace("127.0.0.1", "localhost"), "--code", bus.add("TLS-1", table),
        "--channels", tmp_path / "channels.csv", "--tls-ca", root, tmp_path / "device", program="gridpost-ied",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    (tmp_path / "r.csv").write_text("channel,interval_end_utc,value,quality\nE1,2026-01-10T00:15:00Z,1.25,\n")
    config = tmp_path / "device" / "ied.toml"
    pushed = run("push", "--config", config, tmp_path / "r.csv", "--json", program="gridpost-ied")
    assert pushed.returncode == 0, pushed.stderr
    assert json.loads(pushed.stdout)["receipted"] == 1


def test_nothing_below_tls_1_2_is_spoken(make_bus, pki):
    _, issuer, server = pki
    bus = https_bus(make_bus, pem(server[0]) + pem(issuer[0]), pem(server[1])).start()
    port = urllib.parse.urlsplit(bus.addresses[0]).port
    for version, works in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore"):  # that TLS 1.1 is deprecated is why it is tried
            context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            try:
                with context.wrap_socket(plain) as secure:
                    assert (secure.version() == "TLSv1.2") == works
            except (ssl.SSLError, ConnectionError):
                assert not works
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not plain.recv(100).startswith(b"HTTP/")


@pytest.mark.parametrize(
    ("chain", "key"),
    [
        ("server", "root"),
        ("nothing", "server"),
        ("server", "nothing"),
        ("key", "server"),
        ("server", "encrypted"),
    ],
)
def test_a_certificate_that_cannot_work_is_refused_before_anything_listens(make_bus, pki, chain, key):
    root, issuer, server = pki
    locked = server[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    chains = {"server": pem(server[0]) + pem(issuer[0]), "nothing": b"", "key": pem(server[1])}
    keys = {"server": pem(server[1]), "root": pem(root[1]), "nothing": b"", "encrypted": locked}
    bus = https_bus(make_bus, chains[chain], keys[key])
    done = bus.run("serve")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error[config-invalid]: the HTTPS certificate")
    assert "Traceback" not in done.stderr


# --- the audit log ---------------------------------------------------------------------------------------------------


def test_the_audit_log_is_one_line_an_event_whatever_strangers_send(live_bus):
    device = live_bus.enrol("AUDIT-1")
    hostile = ["a\r\nb", "\x1b[2Jx", "\u202eab", '{"event": "recorded"}', "x" * 100_000, "${jndi:ldap://x}"]
    wire = live_bus.wire
    for text in hostile:
        plain = "".join(character for character in text if character.isprintable() or character == "\r")
        message = testing.readings_message("AUDIT-1", plain, [], now_utc_ms())
        wire.post(testing.sealed(message, device.signer, now_utc_ms()))
        stranger = testing.ThrowawayCA().issue_device("X")
        wire.post(testing.sealed(testing.readings_message(plain, "m", [], now_utc_ms()), stranger, now_utc_ms()))
        with socket.create_connection(urllib.parse.urlsplit(live_bus.addresses[0]).netloc.split(":"), 10) as raw:
            raw.sendall(b"GET /" + text.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            raw.recv(1000)
        with socket.create_connection(urllib.parse.urlsplit(live_bus.addresses[0]).netloc.split(":"), 10) as raw:
            proof = text.replace("\r\n", "").encode()[:4000]
            raw.sendall(
                b"POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: a\r\nContent-Type: application/pkcs10\r\n"
                b"Content-Length: 4\r\nGridpost-Enrolment: " + proof + b":AAAA\r\n\r\nAAAA"
            )
            raw.recv(1000)
    raw_log = (live_bus.folder / "audit.jsonl").read_bytes()
    lines = raw_log.splitlines()
    assert all(0x20 <= octet < 0x7F or octet == 0x0A for octet in raw_log)
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events[:3]] == ["started", "crl-issued", "enrolled"]
    # Printable text of up to 64 characters is a message id like any other: those were recorded, as text.
    recorded = [event["message_id"] for event in events if event["event"] == "recorded"]
    # (and of one sequence number, which alarms)
    assert recorded == ["[2Jx", "ab", '{"event": "recorded"}', "${jndi:ldap://x}"]
    assert all(event["event"] in ("refused", "recorded", "alarm") for event in events[3:])
    assert len(events) >= 3 + 4 * len(hostile) - 2
    assert max(map(len, lines)) < 3000
    assert all(event["peer"].startswith("127.0.0.1:") for event in events[3:])


def test_secrets_are_in_no_log(live_bus):
    code = live_bus.add("SECRET-1", channel_table("M-S"))
    device = enrol(live_bus.wire, code, channel_table("M-S"))
    live_bus.wire.post(device.seal(device.payload("m-1", ["123456.789"])))
    live_bus.wire.post(device.seal(device.payload("m-1", ["987654.321"])))
    said = (live_bus.folder / "audit.jsonl").read_text() + live_bus.errors()
    assert code.partition(".")[2] not in said
    assert "123456.789" not in said
    assert "987654.321" not in said
    assert "BEGIN" not in said


def test_a_burst_of_devices_is_let_in_while_the_bus_is_busy(make_bus):
    """A full queue of connections makes a device's system try again after a second, then three, then seven."""
    bus = make_bus().start()
    host, port = bus.addresses[0].removeprefix("http://").split(":")
    bus.process.send_signal(signal.SIGSTOP)  # as busy as can be
    try:
        burst = [socket.create_connection((host, int(port)), timeout=0.9) for _ in range(200)]
    finally:
        bus.process.send_signal(signal.SIGCONT)
    for connection in burst:
        connection.close()
