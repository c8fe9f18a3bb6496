"""Part-wise encryption from the device's push to two offices' mailboxes: each opens its own part, both verify all."""

from __future__ import annotations

import base64
import json
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from live_bus import HEADER, QUARTER_KWH, run

from gridpost import ns
from gridpost.controls import Role
from gridpost.partners import Grant
from gridpost.requests import PeekMailbox

VOLTS = "0.2.2.12.0.1.54.0.0.0.0.0.0.0.128.0.29.0"
# Five digits before the point: no time of day in an envelope can look like them.
READINGS = "channel,interval_end_utc,value,quality\nE1,{0},61507.125,\nV1,{0},231.5,\n"
KEYS = {"utility": ec.generate_private_key(ec.SECP256R1()), "customer": rsa.generate_private_key(65537, 2048)}
KINDS = {"utility": "power-quality", "customer": "billing"}
AT = "2026-01-10T00:15:00Z"


@pytest.fixture(scope="module")
def device(office_world, tmp_path_factory):
    """An IED of north with two usage points, enrolled by its own command; its ied.toml names both readers."""
    world, folder = office_world, tmp_path_factory.mktemp("readers") / "device"
    place = ",900,Etc/UTC,2020-01-01T00:00:00Z\n"
    table = f"{HEADER}\nUP-R1,M-R,E1,{QUARTER_KWH},kWh{place}UP-R2,M-R2,V1,{VOLTS},V{place}"
    folder.with_suffix(".csv").write_text(table)
    code, address = world.bus.add("IED-R", table), world.bus.addresses[0]
    enrol = ("init", "--bus", address, "--code", code, "--channels", folder.with_suffix(".csv"), folder)
    assert run(*enrol, program="gridpost-ied").returncode == 0
    store = world.store()
    store.set_tenants("IED-R", ["north"])
    store.close()
    pem = serialization.Encoding.PEM
    with (folder / "ied.toml").open("a") as settings:
        for name, key in KEYS.items():
            public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
            (folder / f"{name}.pem").write_bytes(public)
            private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            (folder / f"{name}.key").write_bytes(private)
            settings.write(f'\n[[reader]]\nkey = "{name}.pem"\nkinds = "{KINDS[name]}"\n')
    return folder


def mails(world, partner: str) -> list[bytes]:
    """Messages for several readers in a partner's mailbox, fetched over SOAP."""
    told = world.call(PeekMailbox(world.header(partner, "get", "Mailbox")))
    assert told.code == "ok"
    told.check_schema()
    return [base64.b64decode(one.text) for one in told.body.iter(ns.q(ns.ENCRYPTED_READINGS, "SealedReadings"))]


def test_each_office_fetches_what_was_sealed_reads_its_part_and_verifies_the_whole(office_world, device, tmp_path):
    world, both = office_world, ("UP-R1", "UP-R2")
    for name, kind in KINDS.items():
        world.add_partner(f"{name}-r", Role(name), "north", grants=tuple(Grant(f"{name}-r", p, kind) for p in both))
    # Who is granted a part of what it is about, or events, or was granted it once, gets nothing; nor does the south.
    world.add_partner("half-r", Role.SUPPLIER, "north", grants=(Grant("half-r", "UP-R1", "billing"),))
    world.add_partner("events-r", Role.SUPPLIER, "north", grants=tuple(Grant("events-r", p, "events") for p in both))
    past = tuple(Grant("past-r", p, "billing", 0, 1_700_000_000) for p in both)
    world.add_partner("past-r", Role.SUPPLIER, "north", grants=past)
    (tmp_path / "day.csv").write_text(READINGS.format(AT))
    pushed = run("push", "--config", device / "ied.toml", tmp_path / "day.csv", "--json", program="gridpost-ied")
    assert pushed.returncode == 0, pushed.stderr
    assert json.loads(pushed.stdout)["receipted"] == 1

    ends, fetched = time.monotonic() + 60, {}
    while len(fetched) < 2 and time.monotonic() < ends:
        fetched = {name: found for name in KINDS if (found := mails(world, f"{name}-r"))}
        time.sleep(0.1)
    (raw,) = fetched["utility"]
    assert fetched["customer"] == [raw]
    assert b"61507.125" not in raw
    (tmp_path / "mail.xml").write_bytes(raw)
    for name, mine, other in (("utility", "231.5", "61507.125"), ("customer", "61507.125", "231.5")):
        opening = ("--key", device / f"{name}.key", "--trust", world.bus.folder / "ca.pem")
        done = run("decrypt", tmp_path / "mail.xml", *opening, "--out", tmp_path / name, "--json")
        assert done.returncode == 0, done.stderr
        text = (tmp_path / name).read_text()
        assert (mine in text, other in text) == (True, False)
    (tmp_path / "mail.xml").write_bytes(raw.replace(b"IED-R<", b"IED-S<"))
    opening = ("--key", device / "customer.key", "--trust", world.bus.folder / "ca.pem")
    forged = run("decrypt", tmp_path / "mail.xml", *opening, "--json")
    assert json.loads(forged.stdout)["error"]["code"] == "signature-invalid"
    for nobody in ("half-r", "events-r", "past-r", "utility-south", "utility-north", "stranger-north"):
        assert mails(world, nobody) == []


def test_a_channel_that_nobody_may_read_is_refused_before_anything_is_kept(office_world, device, tmp_path):
    text = (device / "ied.toml").read_text()
    (device / "half.toml").write_text(text.replace('kinds = "billing"', 'kinds = "power-quality"'))
    (tmp_path / "day.csv").write_text(READINGS.format("2026-01-10T00:30:00Z"))
    refused = run("push", "--config", device / "half.toml", tmp_path / "day.csv", "--json", program="gridpost-ied")
    assert refused.returncode != 0
    error = json.loads(refused.stdout)["error"]
    assert error["code"] == "config-invalid"
    assert "billing: no reader is given for it" in error["reason"]
    status = json.loads(run("status", "--config", device / "ied.toml", "--json", program="gridpost-ied").stdout)
    assert (status["readings_waiting"], status["messages_pending"]) == (0, 0)
