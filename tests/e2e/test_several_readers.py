"""One message, several readers: a device seals it, the bus keeps it unread, each reader opens his own part."""

import hashlib
import json
import sqlite3

import zstandard
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from live_bus import HEADER, QUARTER_KWH, run

from gridpost import exchange

VOLTS = "0.2.2.12.0.1.54.0.0.0.0.0.0.0.128.0.29.0"
# The readings have more digits before the point than any time of day in an envelope.
ROWS = "2026-01-10T00:15:00Z,{},1.4.9\nV1,2026-01-10T00:15:00Z,{},\n"


def _keys(folder, name, key):
    """A reader's private key, and what he gives away of it."""
    private, public = folder / f"{name}.key", folder / f"{name}.pem"
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_a_utility_reads_power_quality_and_a_customer_billing_of_one_message_and_both_verify(shared_bus, tmp_path):
    place = ",kWh,900,Etc/UTC,2020-01-01T00:00:00Z\n"
    table = f"{HEADER}\nUP-SR,M-SR,E1,{QUARTER_KWH}{place}UP-SR,M-SR,V1,{VOLTS}{place.replace('kWh', 'V')}"
    (tmp_path / "channels.csv").write_text(table)
    code, device = shared_bus.add("SR-1", table), tmp_path / "device"
    enrol = ("init", "--bus", shared_bus.addresses[0], "--code", code, "--channels", tmp_path / "channels.csv", device)
    assert run(*enrol, program="gridpost-ied").returncode == 0
    utility, utility_public = _keys(tmp_path, "utility", ec.generate_private_key(ec.SECP256R1()))
    customer, customer_public = _keys(tmp_path, "customer", rsa.generate_private_key(65537, 2048))
    stranger, _ = _keys(tmp_path, "stranger", ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "readings.csv").write_text(
        "channel,interval_end_utc,value,quality\nE1," + ROWS.format("61507.125", "231.5")
    )
    message, ca = tmp_path / "message.xml", shared_bus.folder / "ca.pem"
    command = ("seal", "--config", device / "ied.toml", "--out", message, tmp_path / "readings.csv")
    readers = ("--for", f"{utility_public}=power-quality", "--for", f"{customer_public}=billing")
    sealed = run(*command, *readers, program="gridpost-ied")
    assert sealed.returncode == 0, sealed.stderr
    raw = message.read_bytes()
    assert b"61507.125" not in raw
    assert b"231.5" not in raw

    status, answer = shared_bus.wire.post(raw)
    assert status == 200, answer
    receipt = exchange.open_answer(answer, exchange.Trust(_der(ca))).receipt
    assert receipt.counts == (0, 0, 0)
    assert shared_bus.wire.post(raw) == (200, answer)

    kept = tmp_path / "kept.xml"
    kept.write_bytes(_evidence(shared_bus, receipt))
    opened = {}
    for name, key in (("utility", utility), ("customer", customer)):
        out = tmp_path / f"{name}.csv"
        done = run("decrypt", kept, "--key", key, "--trust", ca, "--out", out, "--json")
        assert done.returncode == 0, done.stderr
        opened[name] = (json.loads(done.stdout)["parts"], out.read_text())
    assert opened["utility"][0] == [{"kind": "billing", "readings": None}, {"kind": "power-quality", "readings": 1}]
    assert opened["customer"][0] == [{"kind": "billing", "readings": 1}, {"kind": "power-quality", "readings": None}]
    assert ("231.5" in opened["utility"][1], "61507.125" in opened["utility"][1]) == (True, False)
    assert ("231.5" in opened["customer"][1], "61507.125,1.4.9" in opened["customer"][1]) == (False, True)

    nothing = run("decrypt", kept, "--key", stranger, "--trust", ca, "--json")
    assert (nothing.returncode, json.loads(nothing.stdout)["error"]["code"]) == (1, "not-decryptable")
    kept.write_bytes(raw.replace(b"SR-1<", b"SR-2<"))
    forged = run("decrypt", kept, "--key", customer, "--trust", ca, "--json")
    assert (forged.returncode, json.loads(forged.stdout)["error"]["code"]) == (1, "signature-invalid")


def _der(pem):
    return x509.load_pem_x509_certificate(pem.read_bytes()).public_bytes(serialization.Encoding.DER)


def _evidence(bus, receipt):
    """What the store keeps of an entry, by SQL."""
    with sqlite3.connect(bus.folder / "gridpost.db") as db:
        found = db.execute(
            "SELECT evidence, evidence_sha256 FROM entry WHERE partition = ? AND seq = ?", receipt.position
        ).fetchone()
    evidence = zstandard.ZstdDecompressor().decompress(found[0])
    assert hashlib.sha256(evidence).digest() == found[1]
    return evidence
