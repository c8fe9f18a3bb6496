"""gridpost partner: what is set is what the running bus reads; what cannot be is refused with its code."""

from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from gridpost.server import passwords
from gridpost.server.cli import group
from gridpost.server.config import load
from gridpost.server.store import open_store

from gridpost import testing
from gridpost.controls import Role
from gridpost.errors import AlreadyExists, ConfigInvalid, GrantRefused, NotFound
from gridpost.partners import Grant, Partner, Ways


@pytest.fixture
def bus(tmp_path, initialised):
    """A bus's folder, not running, with IED1 of tenant north; runs a command and returns what it prints."""
    folder = shutil.copytree(initialised, tmp_path / "bus")
    config = folder / "gridpost.toml"

    def run(*arguments: object, text: str = "") -> dict:
        given = ["partner", *map(str, arguments), "--config", str(config), "--json"]
        done = CliRunner().invoke(group, given, input=text, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    run.store = open_store(load(config).database, lambda: testing.NOW_UTC_MS)
    run.folder = folder
    run.store.add_ied("IED1", "revenue meter", bytes(10), [testing.channel(1)])
    run("tenant", "IED1", "north")
    yield run
    run.store.close()


def pem(file, signer):
    certificate = x509.load_der_x509_certificate(signer.certificate)
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return file


def test_a_partner_is_made_known_changed_listed_and_shown(bus):
    bus(
        "add",
        "U1",
        "--name",
        "North Power",
        "--role",
        "utility",
        "--tenant",
        "north",
        "--way",
        "tls",
        "--way",
        "username",
    )
    assert bus.store.partner("U1") == Partner(
        "U1", "North Power", Role.UTILITY, "north", Ways(signature=False, tls=True, username=True)
    )
    bus("set", "U1", "--unsigned-commands", "--endpoint", "https://u1.example.org/in", "--to", "2027-01-01T00:00:00Z")
    changed = bus.store.partner("U1")
    assert changed.ways == Ways(signature=False, tls=True, username=True, unsigned_commands=True)
    assert (changed.endpoint, changed.valid_to_utc_ms) == ("https://u1.example.org/in", 1_798_761_600_000)
    assert (changed.name, changed.role) == ("North Power", Role.UTILITY)
    bus("set", "U1", "--way", "signature", "--signed-commands")
    assert bus.store.partner("U1").ways == Ways()
    assert [one["partner"] for one in bus("list")["partners"]] == ["U1"]
    assert bus("show", "U1")["until"] == "2027-01-01T00:00:00Z"


def test_certificates_are_bound_and_taken_away(bus, tmp_path):
    bus("add", "U1", "--role", "utility", "--tenant", "north")
    signer = testing.ThrowawayCA().issue_device("anything")
    file = pem(tmp_path / "u1.pem", signer)
    digest = bytes.fromhex(bus("certificate", "U1", file, "--use", "tls")["sha256"])
    assert bus.store.partner_of(digest).use == "tls"
    assert bus("show", "U1")["certificates"] == [{"sha256": digest.hex(), "use": "tls", "revoked": False}]
    with pytest.raises(AlreadyExists):
        bus("certificate", "U1", file)
    bus("certificate", "U1", file, "--revoke")
    assert bus.store.partner_of(digest).revoked_at_utc_ms is not None
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(ConfigInvalid):
        bus("certificate", "U1", tmp_path / "no.pem")


def test_a_password_is_kept_as_a_hash_only_and_made_or_removed(bus):
    bus("add", "U1", "--role", "customer", "--tenant", "north", "--way", "username")
    bus("password", "U1", "--stdin", text="correct horse battery\n")
    assert passwords.verify_password("correct horse battery", bus.store.password("U1"))
    made = bus("password", "U1", "--make")["password"]
    assert passwords.verify_password(made, bus.store.password("U1"))
    everything = b"".join(file.read_bytes() for file in bus.folder.glob("gridpost.db*"))
    assert b"correct horse" not in everything
    assert made.encode() not in everything
    with pytest.raises(ConfigInvalid):
        bus("password", "U1", "--stdin", text="short\n")
    bus("password", "U1", "--remove")
    assert bus.store.password("U1") is None


def test_grants_are_given_inside_the_tenant_and_ended(bus):
    bus("add", "U1", "--role", "utility", "--tenant", "north")
    bus("grant", "U1", "UP-M1", "--kind", "billing", "--kind", "events", "--from", "2026-01-01T00:00:00Z")
    assert set(bus.store.grants("U1")) == {
        Grant("U1", "UP-M1", kind, 1_767_225_600, None) for kind in ("billing", "events")
    }
    bus("ungrant", "U1", "UP-M1", "--kind", "billing", "--at", "2026-03-01T00:00:00Z")
    ends = {one.kind: one.to_utc for one in bus.store.grants("U1")}
    assert ends == {"billing": 1_772_323_200, "events": None}
    bus("ungrant", "U1", "UP-M1", "--kind", "events", "--all")
    assert not any(one.kind == "events" and one.holds_at(1_767_300_000) for one in bus.store.grants("U1"))
    with pytest.raises(NotFound):
        bus("ungrant", "U1", "UP-M1", "--kind", "commands")
    bus("add", "S1", "--role", "utility", "--tenant", "south")
    for point in ("UP-M1", "UP-NOWHERE"):
        with pytest.raises(GrantRefused):
            bus("grant", "S1", point, "--kind", "billing")


def test_groups_hold_devices_of_their_tenant(bus):
    bus("group", "north", "all", "IED1")
    assert bus.store.group("north", "all") == ("IED1",)
    with pytest.raises(GrantRefused):
        bus("group", "south", "all", "IED1")
    bus("group", "north", "all")
    assert bus.store.group("north", "all") == ()


@pytest.mark.parametrize(
    "arguments",
    [("show", "U9"), ("set", "U9", "--name", "x"), ("password", "U9", "--make"), ("tenant", "IED9", "north")],
)
def test_who_is_not_known_is_not_found(bus, arguments):
    with pytest.raises(NotFound):
        bus(*arguments)


def test_an_id_is_a_device_s_or_a_partner_s_never_both(bus):
    with pytest.raises(AlreadyExists):
        bus("add", "IED1", "--role", "utility", "--tenant", "north")
