"""How a partner proves who it is, that whoever does not gets one answer and reaches nothing, and zeep as a client."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime

import pytest
import requests as http
import zeep
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from live_bus import now_utc_ms
from office_world import PASSWORD, VALUES, Told, private_pem, unsigned
from zeep.wsse.username import UsernameToken

from gridpost import exchange, messages, testing
from gridpost.controls import Role, Wanted
from gridpost.model import Position
from gridpost.partners import Ways
from gridpost.requests import CreateEndDeviceControls, GetMeterReadings, PeekMailbox, Query

ONLY_NAME = Ways(signature=False, username=True)
ONLY_TLS = Ways(signature=False, tls=True)


@pytest.fixture(scope="module")
def world(office_world):
    """The shared world with a partner for each way."""
    office_world.add_partner("by-name", Role.UTILITY, "north", ONLY_NAME)
    office_world.add_partner("by-relaxed-name", Role.UTILITY, "north", Ways(username=True, unsigned_commands=True))
    office_world.add_partner("by-tls", Role.UTILITY, "north", ONLY_TLS)
    return office_world


@pytest.fixture(scope="module")
def tls_key(world, tmp_path_factory):
    """A file with the TLS certificate of ``by-tls`` and its key."""
    return client_certificate(world, "by-tls", tmp_path_factory.mktemp("tls"))


def client_certificate(world, partner: str, folder, ca=None, register: bool = True):
    key = ec.generate_private_key(ec.SECP256R1())
    signer = (ca or world.ca).issue_device(partner, key)
    if register:
        store = world.store()
        store.add_partner_certificate(partner, signer.certificate, "tls")
        store.close()
    file = folder / f"{partner}.pem"
    pem = x509.load_der_x509_certificate(signer.certificate).public_bytes(serialization.Encoding.PEM)
    file.write_bytes(pem + private_pem(key))
    return file


def query(world, partner: str) -> GetMeterReadings:
    return GetMeterReadings(world.header(partner, "get", "MeterReadings"), Query(("UP-M-IED-north",)))


def shed(world, partner: str, message_id: str = "") -> CreateEndDeviceControls:
    header = world.header(partner, "create", "EndDeviceControls", message_id)
    return CreateEndDeviceControls(header, (Wanted(f"w-{header.message_id}", "shed", ("IED-north",), output="load1"),))


# --- zeep ---


def test_zeep_reads_a_day_with_a_user_name_over_tls(world):
    address, ca = world.tls().address + "/utility?wsdl", str(world.bus.folder.parent / "ca.pem")
    session = http.Session()
    session.trust_env, session.verify = False, ca
    client = zeep.Client(address, UsernameToken("by-name", PASSWORD), transport=zeep.Transport(session=session))
    answer = client.service.QueryMeterReadings(
        Header={"Verb": "get", "Noun": "MeterReadings", "Source": "by-name", "MessageID": "zeep-1",
                "Timestamp": datetime.now(UTC)},
        Request={"Option": [{"name": "usagePoint", "value": "UP-M-IED-north"}]},
    )  # fmt: skip
    (reading,) = answer.Payload.MeterReadings.MeterReading
    values = [one.value for block in reading.IntervalBlocks for one in block.IntervalReadings]
    assert values == [pytest.approx(float(VALUES["north"]))] * 96
    assert str(values[0]) == VALUES["north"]  # a Decimal, digit by digit


# --- the ways in ---


def test_by_a_tls_certificate_alone(world, tls_key):
    told = world.post(unsigned(query(world, "by-tls")), world.tls(world.context(tls_key)))
    assert told.code == "ok"
    assert not told.is_signed
    told.check_schema()
    assert VALUES["north"].encode() in told.raw


def test_a_signed_message_may_come_over_the_sender_s_own_tls_and_gets_a_signed_answer(world):
    assert world.call(query(world, "utility-north"), world.tls()).is_signed


def attempts(world, tls_key, folder):
    """Name -> a way to send without having proved who one is; each gives the answer."""
    stranger = testing.ThrowawayCA("another").issue_device("utility-north")
    key = world.keys["utility-north"]
    genuine = exchange.seal(messages.encode(query(world, "utility-north")), key, now_utc_ms())
    revoked, expired = "revoked-north", "expired-north"
    for partner in (revoked, expired):
        changes = {"valid_to_utc_ms": now_utc_ms()} if partner == expired else {}
        world.add_partner(partner, Role.UTILITY, "north", **changes)
    store = world.store()
    store.revoke_partner_certificate(hashlib.sha256(world.keys[revoked].certificate).digest(), now_utc_ms())
    store.close()
    mine = world.tls(world.context(tls_key))
    unregistered = world.tls(world.context(client_certificate(world, "nobody", folder, register=False)))
    device = world.devices["north"]

    def signed(partner, signer):
        return exchange.seal(messages.encode(query(world, partner)), signer, now_utc_ms())

    return {
        "nothing": lambda: world.post(unsigned(query(world, "by-name"))),
        "nothing over TLS": lambda: world.post(unsigned(query(world, "by-name")), world.tls()),
        "a stranger's key": lambda: world.post(signed("utility-north", stranger)),
        "a device's key": lambda: world.post(signed("utility-north", device.signer)),
        "a changed body": lambda: world.post(genuine.replace(b"UP-M-IED-north", b"UP-M-IED-south")),
        "a revoked key": lambda: world.post(signed(revoked, world.keys[revoked])),
        "no partner any more": lambda: world.post(signed(expired, world.keys[expired])),
        "a wrong password": lambda: world.post(
            unsigned(query(world, "by-name"), "by-name", PASSWORD + "!"), world.tls()
        ),
        "an unknown name": lambda: world.post(unsigned(query(world, "nobody"), "nobody"), world.tls()),
        "a password without TLS": lambda: world.post(unsigned(query(world, "by-name"), "by-name")),
        "a name where only signatures count": lambda: world.post(
            unsigned(query(world, "utility-north"), "utility-north"), world.tls()
        ),
        "a certificate nobody registered": lambda: world.post(unsigned(query(world, "nobody")), unregistered),
        "a name on another's connection": lambda: world.post(unsigned(query(world, "by-name"), "by-name"), mine),
        "a signature on another's connection": lambda: world.post(signed("utility-north", key), mine),
    }


def test_whoever_did_not_prove_itself_gets_one_answer(world, tls_key, tmp_path):
    told = {name: attempt() for name, attempt in attempts(world, tls_key, tmp_path).items()}
    assert {name: (one.status, one.raw) for name, one in told.items()} == dict.fromkeys(
        told, (500, told["nothing"].raw)
    )
    assert told["nothing"].code == "not-authenticated"
    assert world.bus.errors() == ""
    # The audit log tells them apart.
    details = {line["detail"] for line in world.bus.audit("refused") if line["code"] == "not-authenticated"}
    assert len(details) >= 12


def test_a_certificate_of_another_ca_ends_the_handshake(world, tmp_path):
    file = client_certificate(world, "elsewhere", tmp_path, testing.ThrowawayCA("another"), register=False)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        world.post(unsigned(query(world, "by-tls")), world.tls(world.context(file)))


def test_a_source_other_than_who_proved_itself_is_refused(world, tls_key):
    told = world.post(unsigned(query(world, "by-name")), world.tls(world.context(tls_key)))
    assert told.code == "source-mismatch"


# --- commands ---


@pytest.mark.parametrize(
    ("partner", "state"), [("utility-north", "waiting"), ("by-name", "proposed"), ("by-relaxed-name", "waiting")]
)
def test_a_command_without_a_signature_is_a_proposal_unless_the_entry_relaxes_that(world, partner, state):
    message = shed(world, partner)
    told = world.call(message) if partner == "utility-north" else world.post(unsigned(message, partner), world.tls())
    assert told.code == "ok"
    assert told.texts("state") == [state]
    told.check_schema()


def test_the_same_message_again_gets_the_same_answer_byte_for_byte(world):
    for partner, send in (
        ("utility-north", world.call),
        ("by-name", lambda message: world.post(unsigned(message, "by-name"), world.tls())),
    ):
        message = shed(world, partner)
        first = send(message)
        assert send(message).raw == first.raw  # sealed anew: other bytes came, the same content
        other = shed(world, partner, message.header.message_id)
        other = CreateEndDeviceControls(other.header, (other.wanted[0]._replace(output="load2"),))
        assert send(other).code == "message-id-reused"


def test_a_signed_command_is_kept_as_it_came_and_an_unsigned_one_under_our_seal_without_the_password(world):
    message, secret = shed(world, "utility-north"), shed(world, "by-name")
    raw = exchange.seal(messages.encode(message), world.keys["utility-north"], now_utc_ms())
    kept = []
    for told in (world.post(raw), world.post(unsigned(secret, "by-name"), world.tls())):
        place = Position(*(int(told.texts(name)[0]) for name in ("partition", "seq")))
        store = world.store()
        kept.append(store.evidence(place))
        store.close()
    assert kept[0] == raw
    assert messages.encode(secret) in kept[1]
    assert PASSWORD.encode() not in kept[1]
    assert PASSWORD not in (world.bus.folder / "audit.jsonl").read_text()
    checked = world.bus.run("log", "check", "--json")
    assert checked.returncode == 0, checked.stdout


# --- what holds for every call ---


def test_an_address_inside_a_message_counts_only_if_it_is_the_registered_one(world):
    world.add_partner("pushed-north", Role.UTILITY, "north", endpoint="https://cis.example.org/in")

    def ask(address: str) -> Told:
        payload = messages.encode(query(world, "pushed-north"))
        stated = f'<ReplyAddress xmlns="http://iec.ch/TC57/2011/schema/message">{address}</ReplyAddress>'
        payload = payload.replace(b"<MessageID ", stated.encode() + b"<MessageID ", 1)
        return world.post(exchange.seal(payload, world.keys["pushed-north"], now_utc_ms()))

    assert ask("https://cis.example.org/in").code == "ok"
    for other in ("http://169.254.169.254/latest", "https://cis.example.org/in/", "file:///etc/passwd"):
        assert ask(other).code == "reply-address-refused"


@pytest.mark.parametrize(("late_ms", "code"), [(16 * 60_000, "message-stale"), (-120_000, "message-from-future")])
def test_a_signed_question_must_be_fresh_and_its_refusal_is_signed(world, late_ms, code):
    payload = messages.encode(query(world, "utility-north"))
    told = world.post(exchange.seal(payload, world.keys["utility-north"], now_utc_ms() - late_ms))
    assert (told.code, told.is_signed) == (code, True)
    device = world.devices["north"]
    assert device.refusal(told.raw).content_digest == exchange.content_digest(payload)


def test_a_soap_action_of_another_operation_is_refused(world):
    raw = exchange.seal(messages.encode(query(world, "utility-north")), world.keys["utility-north"], now_utc_ms())
    headers = {"Content-Type": "text/xml", "SOAPAction": '"urn:gridpost:mailbox:1/PeekMailbox"'}
    assert Told(*world.plain.request("POST", "/utility", raw, headers)[:2]).code == "action-mismatch"


def test_a_push_of_readings_has_no_place_here(world):
    device = world.devices["north"]
    header = world.header("utility-north", "created", "MeterReadings")
    block = testing.block(device.channels[0], 1_767_226_500, ["1"])
    message = testing.readings_message(header.source, header.message_id, [block], now_utc_ms())
    assert world.call(message).code == "unknown-operation"


def test_what_does_not_follow_the_schema_is_refused_with_its_places(world):
    payload = messages.encode(PeekMailbox(world.header("utility-north", "get", "Mailbox")))
    payload = payload.replace(b"</Header>", b"</Header><Surprise></Surprise>")
    told = world.post(exchange.seal(payload, world.keys["utility-north"], now_utc_ms()))
    assert told.code == "schema-invalid"
    assert "Surprise" in told.texts("reason")[0]
