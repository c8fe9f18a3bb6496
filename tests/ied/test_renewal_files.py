"""The device's next key: killed at each step, answers lost, refused; it always has a key that the bus knows."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from gridpost.ied_soap_client import agent as agents
from gridpost.ied_soap_client import config as settings
from gridpost.ied_soap_client import identity
from gridpost.ied_soap_client import renewal as renewals
from gridpost.ied_soap_client.clockwatch import Machine
from gridpost.ied_soap_client.spool import Spool
from gridpost.ied_soap_client.transport import Transport

from gridpost import enrolment, renewal
from gridpost.errors import AlreadyExists, AnswerUntrusted, BusUnreachable, ConfigInvalid, EnrolmentRefused
from gridpost.testing import ThrowawayCA

DAY = 86_400_000
LIFE = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
ENDS = int(LIFE[1].timestamp()) * 1000


class Killed(BaseException):
    """The process dies here."""


@pytest.fixture
def device(enrolled, bus):
    """An enrolled device whose bus renews: one certificate a request, proven by a key it knows."""
    made = enrolled()
    bus.known, bus.answers, bus.asked = {bus.device}, {}, 0

    def simplereenroll(raw, headers):
        bus.asked += 1
        request = base64.b64decode(raw)
        claim = renewal.parse(headers["gridpost-renewal"])
        old = next(one for one in bus.known if hashlib.sha256(one).digest() == claim.certificate_sha256)
        renewal.check(claim, old, request)
        if request not in bus.answers:
            key = x509.load_der_x509_csr(request).public_key()
            bus.answers[request] = bus._certify(bus.ca.issue_device("IED-7").certificate, key)
            bus.known.add(bus.answers[request])
        return 200, enrolment.certs_only([bus.answers[request], bus.ca.certificate]), {}

    plain = bus.post

    def post(path, raw, headers):
        renews = path == "/.well-known/est/simplereenroll"
        return bus.renews(raw, headers) if renews else plain(path, raw, headers)

    bus.post, bus.renews = post, simplereenroll
    return made


def renew(device, url=None):
    async def run():
        async with Transport(url or device.config.bus.url, 5) as transport:
            return await renewals.renew(device.config, transport)

    return asyncio.run(run())


def test_the_next_key_takes_the_place_of_the_present_one(device, bus):
    before = identity.parties(device.config).signer.certificate
    renewed = renew(device)
    assert renewed.signer.certificate != before
    assert renewed.signer.certificate in bus.known
    assert identity.parties(device.config).signer.certificate == renewed.signer.certificate
    assert sorted(file.name for file in device.folder.glob("ied.*")) == [
        "ied.key", "ied.key.lock", "ied.key.old", "ied.pem", "ied.pem.old", "ied.toml",
    ]  # fmt: skip
    old = x509.load_pem_x509_certificate((device.folder / "ied.pem.old").read_bytes())
    assert old.public_bytes(renewals.serialization.Encoding.DER) == before
    assert all(file.stat().st_mode & 0o077 == 0 for file in device.folder.glob("ied.key*"))
    assert renew(device).signer.certificate not in (before, renewed.signer.certificate)


STEPS = 7  # files put in place: next key, request, next certificate, both old, key, certificate


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_killed_at_any_step_the_device_has_a_key_the_bus_knows_and_goes_on(device, bus, monkeypatch, step, moment):
    calls, replace = 0, os.replace

    def dying(source, target):
        nonlocal calls
        calls += 1
        if calls == step and moment == "before":
            raise Killed
        replace(source, target)
        if calls == step:
            raise Killed

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(Killed):
        renew(device)
    monkeypatch.setattr(os, "replace", replace)
    assert identity.parties(device.config).signer.certificate in bus.known
    again = renew(device)
    assert again.signer.certificate in bus.known
    assert identity.parties(device.config).signer.certificate == again.signer.certificate
    assert not list(device.folder.glob("*.next*"))


def test_the_steps_are_all_of_them(device, monkeypatch):
    calls, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: calls.append(target) or replace(source, target))
    renew(device)
    assert len(calls) == STEPS


def test_a_lost_answer_is_asked_for_again_by_the_same_request(device, bus):
    answer = bus.renews
    bus.renews = lambda raw, headers: (answer(raw, headers), (503, b"", {}))[1]
    before = identity.parties(device.config).signer.certificate
    with pytest.raises(BusUnreachable):
        renew(device)
    assert identity.parties(device.config).signer.certificate == before
    bus.renews = answer
    assert renew(device).signer.certificate == next(iter(bus.answers.values()))
    assert len(bus.answers) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((403, b"enrolment-refused: this key has no right to renew\n", {}), EnrolmentRefused),
        ((404, b"", {}), AnswerUntrusted),
        ((200, b"", {}), AnswerUntrusted),
        ((200, enrolment.certs_only([ThrowawayCA().certificate]), {}), AnswerUntrusted),
        ((500, b"", {}), BusUnreachable),
    ],
)
def test_a_bad_answer_changes_nothing(device, bus, answer, error):
    before = identity.parties(device.config).signer.certificate
    bus.renews = lambda raw, headers: answer
    with pytest.raises(error):
        renew(device)
    assert identity.parties(device.config).signer.certificate == before


def test_another_cas_certificate_for_our_key_is_not_taken(device, bus):
    stranger = ThrowawayCA()

    def answer(raw, headers):
        key = x509.load_der_x509_csr(base64.b64decode(raw)).public_key()
        own, bus.ca = bus.ca, stranger
        made = bus._certify(stranger.issue_device("IED-7").certificate, key)
        bus.ca = own
        return 200, enrolment.certs_only([made]), {}

    bus.renews = answer
    with pytest.raises(AnswerUntrusted):
        renew(device)
    assert identity.parties(device.config).signer.certificate == bus.device


def changed(der, octets, others):
    """A certificate with an OID or a version that nobody knows, as often as it stands there."""
    assert octets in der
    return der.replace(octets, others)


P256, ECDSA_SHA256 = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d040302")
UNKNOWN_CURVE, UNKNOWN_SIGNATURE = bytes.fromhex("06082a8648ce3d03017f"), bytes.fromhex("06082a8648ce3d04037f")
VERSION_3, VERSION_5 = bytes.fromhex("a003020102"), bytes.fromhex("a003020104")


def test_a_certificate_that_cannot_be_read_is_an_answer_not_to_be_trusted(device, bus):
    def answer(octets, others):
        def renews(raw, headers):
            key = x509.load_der_x509_csr(base64.b64decode(raw)).public_key()
            der = bus._certify(bus.ca.issue_device("IED-7").certificate, key)
            body = base64.b64decode(enrolment.certs_only([der]))
            # Of equal length, so the PKCS#7 around it stays whole.
            return 200, base64.encodebytes(body.replace(der, changed(der, octets, others))), {}

        return renews

    for octets, others in ((P256, UNKNOWN_CURVE), (ECDSA_SHA256, UNKNOWN_SIGNATURE), (VERSION_3, VERSION_5)):
        bus.renews = answer(octets, others)
        with pytest.raises(AnswerUntrusted):
            renew(device)
    assert identity.parties(device.config).signer.certificate == bus.device


@pytest.mark.parametrize("change", [(P256, UNKNOWN_CURVE), (VERSION_3, VERSION_5)], ids=["a curve", "a version"])
@pytest.mark.parametrize("name", ["ca", "certificate"])
def test_a_file_that_cannot_be_read_is_a_wrong_setting(device, name, change):
    file = device.config.path(getattr(device.config.identity, name))
    der = x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(serialization.Encoding.DER)
    begin, end = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
    file.write_bytes(begin + base64.encodebytes(changed(der, *change)) + end)
    if (name, change[0]) == ("ca", P256):  # its key is asked for when something of it comes
        assert identity.parties(device.config).ca
        return
    with pytest.raises(ConfigInvalid):
        identity.parties(device.config)


def test_two_renewals_at_once_are_one(device):
    with renewals._only_one(device.folder / "ied.key"), pytest.raises(AlreadyExists):
        renew(device)
    renew(device)


# --- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "left", "due"),
    [(90, 91, False), (90, 89, True), (0, 1, False), (300, 184, False), (300, 181, True), (90, -5, True)],
)
def test_it_is_due_some_days_before_the_end_and_never_before_half_the_life(days, left, due):
    certificate = ThrowawayCA().issue_device("IED-7", valid=LIFE).certificate
    assert renewals.is_due(certificate, ENDS - left * DAY, days) is due


def run_agent(device, wall_ms, looks):
    """Run the agent's renewals for so many looks on a clock of our own; returns its events and waits."""
    said, waits = [], []

    async def sleep(seconds):
        waits.append(seconds)
        if len(waits) >= looks:
            raise Killed

    async def run():
        machine = Machine(wall_ms=lambda: wall_ms, sleep=sleep)
        async with Transport(device.config.bus.url, 5) as transport:
            spool = Spool(device.folder / "spool.db")
            agent = agents.Agent(device.config, spool, transport, lambda event, **_: said.append(event), machine)
            try:
                await agent._renew()
            except Killed:
                return agent.pusher.certificate
            finally:
                spool.close()

    return asyncio.run(run()), said, waits


def test_the_agent_renews_by_itself_in_time_and_seals_with_the_new_key(device, bus):
    ends = renewals.ends_utc_ms(bus.device)
    assert run_agent(device, ends - 91 * DAY, 2) == (bus.device, [], [3600, 3600])
    certificate, said, waits = run_agent(device, ends - 89 * DAY, 1)
    assert certificate in bus.answers.values()
    assert (said, waits) == (["renewed"], [86_400])


def test_the_agent_tries_a_silent_bus_every_hour_and_one_that_refuses_every_day(device, bus):
    ends = renewals.ends_utc_ms(bus.device)
    bus.renews = lambda raw, headers: (503, b"", {})
    assert run_agent(device, ends - DAY, 2) == (bus.device, ["renewal-failed"] * 2, [3600, 3600])
    bus.renews = lambda raw, headers: (403, b"", {})
    assert run_agent(device, ends - DAY, 1) == (bus.device, ["renewal-failed"], [86_400])


# --- what a device says of itself ------------------------------------------------------------------------------------


def test_properties_of_the_settings_stand_in_every_message(enrolled, bus):
    said = {"position": "48.1374,11.5755", "callerId": "+49 89 <1>"}
    device = enrolled(identity={"properties": said})
    assert identity.parties(device.config).properties == tuple(said.items())


@pytest.mark.parametrize("properties", [{"sequence": "1"}, {"a": "\n"}, {"a": 1}, {"ä": "1"}, {"a": ""}])
def test_what_cannot_be_said_in_a_message_is_a_wrong_setting(enrolled, properties):
    device = enrolled(identity={"properties": properties})
    with pytest.raises(ConfigInvalid):
        settings.load(device.file)
