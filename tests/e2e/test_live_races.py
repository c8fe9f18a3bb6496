"""What happens when people and devices do the same thing at the same time, or stop in the wrong moment."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from crash import free_port
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from live_bus import BIN, LiveBus, Wire, channel_table, run

from gridpost import enrolment


def all_at_once(count: int, function):
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, range(count)))


def test_one_message_id_with_two_contents_at_once_leaves_one_of_them(shared_bus):
    device = shared_bus.enrol("RACE-ID")
    for attempt in range(5):
        payloads = [device.payload(f"same-{attempt}", [f"{attempt}.{number}"]) for number in range(6)]
        answers = all_at_once(6, lambda n, payloads=payloads: shared_bus.wire.post(device.seal(payloads[n])))
        taken = [number for number, (status, _) in enumerate(answers) if status == 200]
        assert len(taken) == 1
        device.receipt(answers[taken[0]][1], payloads[taken[0]])
        refused = [body for status, body in answers if status != 200]
        assert {device.refusal(body).code for body in refused} == {"message-id-reused"}
        assert shared_bus.wire.post(device.seal(payloads[taken[0]])) == answers[taken[0]]


def test_one_message_many_times_at_once_gets_one_receipt(shared_bus):
    device = shared_bus.enrol("RACE-MANY")
    payload = device.payload("m-1", ["1.5"])
    answers = all_at_once(12, lambda _: shared_bus.wire.post(device.seal(payload)))
    assert {status for status, _ in answers} == {200}
    assert len({body for _, body in answers}) == 1


def test_one_interval_in_many_messages_at_once_is_stored_once(shared_bus):
    device = shared_bus.enrol("RACE-INTERVAL")
    payloads = [device.payload(f"m-{number}", ["1.5"], 1767225600) for number in range(12)]
    answers = all_at_once(12, lambda n: shared_bus.wire.post(device.seal(payloads[n])))
    counts = [device.receipt(body, payload).counts for (_, body), payload in zip(answers, payloads, strict=True)]
    assert sorted(counts) == [(0, 1, 0)] * 11 + [(1, 0, 0)]


def test_one_certification_request_many_times_at_once_gets_one_certificate(shared_bus):
    code = enrolment.parse_code(shared_bus.add("RACE-CSR", channel_table("M-RACE-CSR")))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, code.serial)])
    made = x509.CertificateSigningRequestBuilder().subject_name(name)
    der = made.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    headers = {
        "Content-Type": "application/pkcs10",
        enrolment.HEADER: enrolment.proof_header(code.serial, code.secret, der),
    }
    body = base64.encodebytes(der)
    ask = shared_bus.wire.request
    answers = all_at_once(8, lambda _: ask("POST", "/.well-known/est/simpleenroll", body, headers)[:2])
    assert {status for status, _ in answers} == {200}
    assert len({enrolment.certificates(body) for _, body in answers}) == 1


def test_two_people_who_add_one_ied_at_once(make_bus):
    bus = make_bus()
    file = bus.folder / "channels.csv"
    file.write_text(channel_table("M1"))
    done = all_at_once(3, lambda _: bus.run("ied", "add", "IED-1", "--channels", file))
    assert sorted(one.returncode for one in done) == [0, 1, 1]
    assert all("error[already-exists]" in one.stderr for one in done if one.returncode)
    assert len(bus.json("ied", "show", "IED-1")["channel_list"]) == 1


def test_two_people_who_make_one_bus_at_once(tmp_path):
    done = all_at_once(3, lambda _: run("init", tmp_path / "bus"))
    assert sorted(one.returncode for one in done) == [0, 1, 1]
    assert all(one.stderr.startswith("error[") and "Traceback" not in one.stderr for one in done if one.returncode)
    assert [path.name for path in tmp_path.iterdir()] == ["bus"]
    assert LiveBus(tmp_path / "bus").run("status").returncode == 0


def test_two_that_start_to_serve_one_store_at_once(make_bus):
    bus = make_bus()
    command = [BIN / "gridpost", "serve", "--config", bus.config, "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    end = time.monotonic() + 30
    while all(one.poll() is None for one in both) and time.monotonic() < end:
        time.sleep(0.02)
    (loser,) = [one for one in both if one.poll() is not None]
    (winner,) = [one for one in both if one is not loser]
    assert loser.communicate()[1].startswith("error[store-unavailable]: process ")
    assert winner.stdout.readline().startswith('{"addresses"')
    winner.send_signal(signal.SIGTERM)
    assert winner.communicate(timeout=30) == ("", "")
    assert winner.returncode == 0


def test_sigterm_at_any_moment_of_the_start_ends_it_without_a_word(make_bus):
    """Before there is a handler the signal itself ends the process; afterwards the stop is orderly."""
    bus = make_bus()
    codes = set()
    for attempt in range(8):
        process = subprocess.Popen(
            [BIN / "gridpost", "serve", "--config", bus.config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        time.sleep(0.2 * attempt)  # the moment of the signal, not a wait for anything
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert errors == b""
        codes.add(process.returncode)
    assert codes <= {0, -signal.SIGTERM}
    assert bus.start().stop() == 0


def test_a_reader_of_its_output_that_goes_away_does_not_stop_the_bus(make_bus):
    """`gridpost serve | head -1`"""
    bus = make_bus().start()
    address = bus.addresses[0]
    bus.process.stdout.close()
    device = bus.enrol("IED-1")
    payload = device.payload("m-1", ["1"])
    device.receipt(bus.wire.post(device.seal(payload))[1], payload)
    assert bus.addresses == [address]
    assert bus.stop() == 0


@pytest.mark.parametrize("redirection", ["| true", ">&-"])
def test_without_anybody_to_read_where_it_listens_it_listens_all_the_same(make_bus, redirection):
    """Standard output is a pipe without a reader, or closed: a service manager may do that."""
    port = free_port()
    bus = make_bus(mv90={"enabled": False}, listen={"http": f"127.0.0.1:{port}"})
    command = f"sleep 1; exec {BIN / 'gridpost'} serve --config {bus.config} --json"
    # The sleep lets the reader of the pipe go away first.
    shell = subprocess.Popen(["bash", "-c", f"({command}) {redirection}"], stderr=subprocess.PIPE)
    wire, end = Wire(f"http://127.0.0.1:{port}"), time.monotonic() + 20
    answers = 0
    while answers < 10 and time.monotonic() < end:
        try:
            answers += wire.get("/health")[0] == 200
        except ConnectionError:
            answers = 0
        time.sleep(0.1)
    assert answers == 10, "it came, and it stayed"
    os.kill(int((bus.folder / "gridpost.db.lock").read_text()), signal.SIGTERM)
    _, errors = shell.communicate(timeout=30)
    assert errors == b""
    assert [event["event"] for event in bus.audit()] == ["started", "crl-issued", "stopped"]
