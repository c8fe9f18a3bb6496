"""Trust in use, with real processes: revocation, keys, factors, alarms, the next key of a device and of the bus."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import time
import urllib.parse
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from live_bus import BIN, channel_table, enrol, now_utc_ms, run

from gridpost.wssecurity import KeySigner

PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER


def until(found, timeout=60):
    end = time.monotonic() + timeout
    while not (answer := found()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)  # between two questions, not instead of one
    return answer


def push(bus, device, payload, *, source=None):
    """Post a message, from a source address; return the refusal's code, empty for a receipt."""
    parts = urllib.parse.urlsplit(bus.addresses[0])
    origin = (source, 0) if source else None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60, source_address=origin)
    with contextlib.closing(connection):
        connection.request("POST", "/metering", device.seal(payload), {"Content-Type": "text/xml; charset=utf-8"})
        answer = connection.getresponse()
        status, body = answer.status, answer.read()
    if status == 200:
        device.receipt(body, payload)
        return ""
    return device.refusal(body).code


def alarms(bus, serial):
    """The codes raised for a device, but for the sequence number that all messages of these tests share."""
    raised = [line for line in bus.audit("alarm") if serial in (line.get("sender"), line.get("serial"))]
    return [line["code"] for line in raised if line["code"] != "sequence-reused"]


def test_a_revoked_device_is_on_the_list_that_the_bus_serves(live_bus, tmp_path):
    meter = live_bus.enrol("IED-1")
    payload = meter.payload("m-1", ["1.5"])
    assert push(live_bus, meter, payload) == ""
    first = until(lambda: live_bus.wire.get("/crl")[1] if live_bus.wire.get("/crl")[0] == 200 else None)
    assert list(x509.load_der_x509_crl(first)) == []
    told = live_bus.json("ied", "revoke", "IED-1")
    status, body, headers = live_bus.wire.get("/crl")
    assert (status, headers["Content-Type"]) == (200, "application/pkix-crl")
    served = x509.load_der_x509_crl(body)
    number = served.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert number == told["crl"] == 2
    (entry,) = served
    assert entry.serial_number == x509.load_der_x509_certificate(meter.signer.certificate).serial_number
    ca = x509.load_pem_x509_certificate((live_bus.folder / "ca.pem").read_bytes())
    assert served.is_signature_valid(ca.public_key())
    live_bus.json("crl", "write", "--out", tmp_path / "list.crl")
    assert (tmp_path / "list.crl").read_bytes() == body
    assert push(live_bus, meter, meter.payload("m-2", ["1.5"])) == "certificate-not-accepted"
    assert push(live_bus, meter, payload) == "", "a repeat of what is stored"
    assert until(lambda: live_bus.json("status")["alarms"]) == {"certificate-not-accepted": 1}
    (shown,) = live_bus.json("crl", "list")["lists"]
    assert (shown["own"], shown["number"], shown["stale"]) == (True, 2, False)


def test_without_the_cas_key_a_revocation_counts_and_the_list_waits(make_bus):
    bus = make_bus()
    bus.add("IED-1", channel_table("M1"))
    (bus.folder / "ca.key").rename(bus.folder / "elsewhere")
    assert bus.json("ied", "revoke", "IED-1")["crl"] is None
    assert bus.run("crl", "write", "--out", bus.folder / "list").stderr.startswith("error[not-found]")
    (bus.folder / "elsewhere").rename(bus.folder / "ca.key")
    assert bus.json("crl", "issue")["number"] == 1


def test_a_further_key_has_the_rights_it_was_given(shared_bus, tmp_path):
    meter = shared_bus.enrol("KEYS-1")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "KEYS-1")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    (tmp_path / "service.csr").write_bytes(request.public_bytes(PEM))
    wanted = ("--request", tmp_path / "service.csr", "--out", tmp_path / "service.pem", "--rights", "events")
    shared_bus.json("ied", "key", "add", "KEYS-1", *wanted, "--name", "service")
    certificate = x509.load_pem_x509_certificate((tmp_path / "service.pem").read_bytes())
    own, meter.signer = meter.signer, KeySigner(key, certificate.public_bytes(DER))
    payload = meter.payload("m-1", ["1.5"])
    assert push(shared_bus, meter, payload) == "right-missing"
    shared_bus.json("ied", "key", "rights", "KEYS-1", "service", "readings,events")
    assert push(shared_bus, meter, payload) == ""
    shared_bus.json("ied", "key", "revoke", "KEYS-1", "service")
    assert push(shared_bus, meter, meter.payload("m-2", ["1.5"])) == "certificate-not-accepted"
    meter.signer = own
    assert push(shared_bus, meter, meter.payload("m-2", ["1.5"])) == ""
    shown = shared_bus.json("ied", "key", "list", "KEYS-1")["keys"]
    assert [(one["name"], one["rights"], one["state"]) for one in shown] == [
        ("", "all", "in force"), ("service", "events,readings", "revoked"),
    ]  # fmt: skip
    listed = {one.serial_number for one in x509.load_der_x509_crl(shared_bus.wire.get("/crl")[1])}
    assert certificate.serial_number in listed


@pytest.mark.parametrize(
    "arguments",
    [
        ("key", "rights", "KEYS-1", "service", "steal"),
        ("key", "add", "KEYS-1", "--rights", "readings"),
    ],
)
def test_a_wrong_command_line_is_told_as_such(arguments):
    done = run("ied", *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Usage: gridpost")


def test_keys_and_factors_that_are_not_there_are_told(shared_bus):
    shared_bus.add("NONE-1", channel_table("M-NONE-1"))
    for arguments in (("key", "revoke", "NONE-1", "nobody"), ("factor", "clear", "NONE-1", "hours")):
        assert shared_bus.run("ied", *arguments).stderr.startswith("error[not-found]"), arguments
    told = shared_bus.run("ied", "factor", "set", "NONE-1", "hours", "noon").stderr
    assert told.startswith("error[config-invalid]")
    assert "06:00-18:00" in told


def test_a_foreign_cas_key_counts_with_its_list(shared_bus, tmp_path):
    meter = shared_bus.enrol("FOREIGN-1")
    ca_key, key, now = *(ec.generate_private_key(ec.SECP256R1()) for _ in range(2)), datetime.now(UTC)
    (tmp_path / "ca.pem").write_bytes(_openssl_ca(ca_key, tmp_path))
    ca = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "FOREIGN-1")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(ca.subject).public_key(key.public_key())
    builder = builder.not_valid_before(ca.not_valid_before_utc).not_valid_after(ca.not_valid_after_utc)
    certificate = builder.serial_number(4711).sign(ca_key, hashes.SHA256())
    (tmp_path / "ied.pem").write_bytes(certificate.public_bytes(PEM))
    given = ("--certificate", tmp_path / "ied.pem", "--ca", tmp_path / "ca.pem")
    shared_bus.json("ied", "key", "add", "FOREIGN-1", *given)
    meter.signer = KeySigner(key, certificate.public_bytes(DER))
    payload = meter.payload("m-1", ["1.5"])
    assert push(shared_bus, meter, payload) == "revocation-unknown"
    for number, revoked, outcome in ((1, (), ""), (2, (4711,), "certificate-not-accepted"), (3, (), "")):
        lists = x509.CertificateRevocationListBuilder().issuer_name(ca.subject).last_update(now)
        lists = lists.next_update(ca.not_valid_after_utc).add_extension(x509.CRLNumber(number), critical=False)
        for serial_number in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial_number).revocation_date(now)
            lists = lists.add_revoked_certificate(entry.build())
        (tmp_path / "ca.crl").write_bytes(lists.sign(ca_key, hashes.SHA256()).public_bytes(PEM))
        done = shared_bus.json("crl", "import", tmp_path / "ca.crl", "--ca", tmp_path / "ca.pem")
        assert done["number"] == number
        assert push(shared_bus, meter, meter.payload(f"m-{number + 1}", ["1.5"])) == outcome, number
    again = shared_bus.run("crl", "import", tmp_path / "ca.crl", "--ca", tmp_path / "ca.pem")
    assert again.stderr.startswith("error[already-exists]")
    own = shared_bus.run("crl", "import", tmp_path / "ca.crl", "--ca", shared_bus.folder / "ca.pem")
    assert own.stderr.startswith("error[file-invalid]")


def _openssl_ca(key, folder):
    plain = serialization.NoEncryption()
    (folder / "ca.key").write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, plain))
    made = subprocess.run(
        ["openssl", "req", "-x509", "-new", "-key", folder / "ca.key", "-days", "30", "-subj", "/CN=Foreign CA",
         "-addext", "keyUsage=critical,keyCertSign,cRLSign"],
        capture_output=True, check=True,
    )  # fmt: skip
    return made.stdout


def test_the_network_a_device_calls_from_is_a_factor_and_two_at_once_alarm(shared_bus):
    meter = shared_bus.enrol("NET-1")
    shared_bus.json("ied", "factor", "set", "NET-1", "network", "127.0.0.0/9")
    payloads = [meter.payload(f"m-{number}", ["1.5"]) for number in range(5)]
    assert push(shared_bus, meter, payloads[0], source="127.0.0.7") == ""
    assert push(shared_bus, meter, payloads[1], source="127.200.0.7") == "factor-failed"
    assert push(shared_bus, meter, payloads[1], source="127.0.9.7") == ""
    assert push(shared_bus, meter, payloads[2], source="127.0.0.8") == ""
    shared_bus.json("ied", "factor", "clear", "NET-1", "network")
    assert push(shared_bus, meter, payloads[3], source="127.200.0.7") == ""
    assert alarms(shared_bus, "NET-1") == ["factor-failed"], "moved, and not back"
    assert push(shared_bus, meter, payloads[4], source="127.0.0.9") == ""
    assert alarms(shared_bus, "NET-1") == ["factor-failed", "networks-at-once"]


# --- the next key ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def device_of(bus, tmp_path, **settings):
    """A folder of `gridpost-ied init` at a bus."""
    table = channel_table("M1")
    (tmp_path / "channels.csv").write_text(table)
    folder = tmp_path / "ied"
    code = bus.add("IED-1", table)
    wishes = ("--bus", bus.addresses[0], "--code", code, "--channels", tmp_path / "channels.csv")
    done = run("init", *wishes, folder, program="gridpost-ied")
    assert done.returncode == 0, done.stderr
    file = folder / "ied.toml"
    text = file.read_text()
    for name, value in settings.items():
        text = text.replace(f"# {name} = ", f"{name} = {value}\n# {name} = ", 1)
    file.write_text(text)
    yield folder


def csv(end_utc, value="1.5"):
    end = datetime.fromtimestamp(end_utc, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"channel,interval_end_utc,value,quality\nE1,{end},{value},\n"


def ied(folder, *arguments, **options):
    done = run(*arguments, "--config", folder / "ied.toml", "--json", program="gridpost-ied", **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def serial_number(file):
    return x509.load_pem_x509_certificate(file.read_bytes()).serial_number


def test_the_agent_renews_by_itself_and_goes_on_as_the_same_sender(make_bus, tmp_path):
    """Certificates of one day, so that half their life is over from the start."""
    bus = make_bus(trust={"device_days": 1}).start()
    last = now_utc_ms() // 900_000 * 900
    with device_of(bus, tmp_path, renew_days="90", every_s="1") as folder:
        before = serial_number(folder / "ied.pem")
        assert ied(folder, "push", "-", input=csv(last - 900))["receipted"] == 1
        agent = subprocess.Popen(
            [sys.executable, BIN / "gridpost-ied", "run", "--config", folder / "ied.toml", "--json"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert any(json.loads(line)["event"] == "renewed" for line in agent.stdout), "it ended"
        finally:
            agent.terminate()
            agent.communicate(timeout=60)
        after = serial_number(folder / "ied.pem")
        assert after != before
        assert serial_number(folder / "ied.pem.old") == before
        assert ied(folder, "push", "-", input=csv(last))["receipted"] == 1
    states = [one["state"] for one in bus.json("ied", "key", "list", "IED-1")["keys"]]
    assert states == ["replaced", "in force"]
    assert {line["sender"] for line in bus.audit("recorded")} == {"IED-1"}
    assert [line["serial"] for line in bus.audit("reenrolled")] == ["IED-1"]
    near = bus.json("status")
    assert near["certificates_ending"]["within_7_days"] == 1
    assert [(one["use"], one["name"]) for one in near["ending"]] == [("device", "IED-1")]


def test_a_key_is_renewed_on_command_and_the_bus_renews_its_own(live_bus, tmp_path):
    last = now_utc_ms() // 900_000 * 900
    with device_of(live_bus, tmp_path) as folder:
        before = serial_number(folder / "ied.pem")
        assert ied(folder, "renew")["serial"] == "IED-1"
        assert serial_number(folder / "ied.pem") != before
        assert ied(folder, "push", "-", input=csv(last - 900))["receipted"] == 1
        receipts = tmp_path / "receipts"
        ied(folder, "receipts", "--out", receipts)
        signed_before = {file.name: file.read_bytes() for file in receipts.iterdir()}

        bus_before = serial_number(live_bus.folder / "bus.pem")
        live_bus.json("bus", "renew")
        assert serial_number(live_bus.folder / "bus.pem") != bus_before
        assert (live_bus.folder / "bus.key").stat().st_mode & 0o077 == 0
        address = urllib.parse.urlsplit(live_bus.addresses[0])
        assert live_bus.stop() == 0
        live_bus.configure(listen={"http": f"{address.hostname}:{address.port}"})
        live_bus.start()
        assert ied(folder, "push", "-", input=csv(last))["receipted"] == 1
        ied(folder, "receipts", "--out", receipts)
        assert len(list(receipts.iterdir())) == 2
        checked = run("verify", "--trust", live_bus.folder / "ca.pem", *receipts.iterdir())
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert all((receipts / name).read_bytes() == raw for name, raw in signed_before.items())


def test_a_code_used_by_another_key_alarms(shared_bus):
    table = channel_table("M-CODE-1")
    code = shared_bus.add("CODE-1", table)
    enrol(shared_bus.wire, code, table)
    with pytest.raises(AssertionError, match="enrolment-refused"):
        enrol(shared_bus.wire, code, table)
    assert alarms(shared_bus, "CODE-1") == ["second-key"]
