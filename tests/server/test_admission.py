"""Keys with conditions, in the corridor with a real store: rights, ends, lists out of date, factors; and alarms."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gridpost.server.alarms import AT_ONCE_MS, WATCHED, Watch
from gridpost.server.reception import Arrival, Post, Reception
from gridpost.server.store import NewKey, Renewal
from gridpost.server.zones import zone_of

from gridpost import check, exchange, messages, testing
from gridpost.envelope import DEVICE_LIMITS
from gridpost.model import CreatedEndDeviceEvents, EndDeviceEvent, Header
from gridpost.wssecurity import KeySigner

from .foreign_ca import MADE, ForeignCA

NOW = testing.NOW_UTC_MS
MIDNIGHT = NOW // 1000
DAY = 86_400_000
DER = serialization.Encoding.DER


@pytest.fixture
def meter(post_office):
    return post_office.enrol("IED-1", [testing.channel()])


def readings(number=1, **properties):
    block = testing.block(testing.channel(), MIDNIGHT - 900 * number, ["1.5"])
    made = testing.readings_message("IED-1", f"m-{number}", [block], NOW)
    header = replace(made.header, sequence=number, properties=tuple(properties.items()))
    return messages.encode(replace(made, header=header))


def event(number=1):
    header = Header("created", "EndDeviceEvents", NOW, "IED-1", f"e-{number}")
    return messages.encode(CreatedEndDeviceEvents(header, (EndDeviceEvent("", "3.26.0.85", NOW, "M1"),)))


def send(post_office, signer, payload, *, peer="192.0.2.7:49152", door=None, at=None):
    """Take a message; return the refusal's code, empty for a receipt."""
    raw = exchange.seal(payload, signer, at or post_office.now)
    reply = asyncio.run((door or post_office.reception()).receive(raw, Arrival(check.HTTP, peer)))
    refusal = post_office.answer(reply).refusal
    return "" if refusal is None else refusal.code


def alarms(post_office):
    return [line["code"] for line in post_office.events("alarm")]


def second_key(post_office, rights=None, **changes):
    signer = post_office.certify("IED-1")
    post_office.store.add_key("IED-1", NewKey(signer.certificate, rights=rights, **changes))
    return signer


# --- rights (F19) ----------------------------------------------------------------------------------------------------


def test_each_key_may_send_what_it_has_the_right_to(post_office, meter):
    billing, service, nothing = (second_key(post_office, rights) for rights in (["readings"], ["events"], []))
    assert send(post_office, billing, readings(1)) == ""
    assert send(post_office, billing, event(1)) == "right-missing"
    assert send(post_office, service, readings(2)) == "right-missing"
    assert send(post_office, service, event(2)) == ""
    assert send(post_office, nothing, readings(3)) == "right-missing"
    assert send(post_office, meter, readings(4)) == send(post_office, meter, event(4)) == ""
    assert alarms(post_office) == ["right-missing"] * 3


def test_rights_taken_away_hold_from_the_next_message_on_but_a_repeat_gets_its_receipt(post_office, meter):
    key = second_key(post_office)
    payload = readings(1)
    first = post_office.receive(exchange.seal(payload, key, NOW))
    post_office.store.set_rights("IED-1", sha256(key.certificate).digest(), ["events"])
    assert send(post_office, key, readings(2)) == "right-missing"
    assert post_office.receive(exchange.seal(payload, key, NOW)) == first
    post_office.store.set_rights("IED-1", sha256(key.certificate).digest(), None)
    assert send(post_office, key, readings(2)) == ""


# --- roll-over -------------------------------------------------------------------------------------------------------


def test_both_keys_are_good_during_the_overlap_and_the_old_one_alarms_behind_it(post_office, meter):
    fresh = post_office.certify("IED-1")
    overlap = Renewal(sha256(meter.certificate).digest(), b"2" * 32, fresh.certificate, 30 * DAY)
    post_office.store.renew("IED-1", overlap)
    payload = readings(1)
    assert send(post_office, meter, payload) == send(post_office, fresh, readings(2)) == ""
    post_office.now = NOW + 30 * DAY - 1
    assert send(post_office, meter, readings(3)) == ""
    assert alarms(post_office) == []
    post_office.now += 1
    assert send(post_office, meter, readings(4)) == "key-replaced"
    assert send(post_office, meter, payload) == "", "a repeat"
    assert send(post_office, fresh, readings(4)) == ""
    assert alarms(post_office) == ["key-replaced"]


def test_a_revoked_key_in_use_alarms(post_office, meter):
    post_office.store.revoke("IED-1", NOW)
    assert send(post_office, meter, readings(1)) == "certificate-not-accepted"
    assert alarms(post_office) == ["certificate-not-accepted"]


# --- foreign CAs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def foreign():
    return ForeignCA()


def foreign_key(post_office, foreign):
    key = ec.generate_private_key(ec.SECP256R1())
    der = foreign.certify("IED-1", key).public_bytes(DER)
    post_office.store.add_key("IED-1", NewKey(der, "foreign", None, sha256(foreign.der).digest()))
    return KeySigner(key, der)


def test_a_foreign_key_counts_while_its_list_is_good(post_office, meter, foreign):
    key = foreign_key(post_office, foreign)
    assert send(post_office, key, readings(1)) == "revocation-unknown", "no list at all"
    post_office.store.import_crl(foreign.read(foreign.crl(1)))
    assert send(post_office, key, readings(1)) == ""
    post_office.now = NOW + 7 * DAY
    assert send(post_office, key, readings(2)) == ""
    post_office.now += 1
    assert send(post_office, key, readings(3)) == "revocation-unknown"
    assert send(post_office, meter, readings(4)) == "", "our own keys need no list"
    later = foreign.crl(2, made=MADE + timedelta(days=7))
    post_office.store.import_crl(foreign.read(later, post_office.now))
    assert send(post_office, key, readings(3)) == ""
    assert alarms(post_office) == []


def test_the_refusal_asks_to_come_again_later(post_office, meter, foreign):
    reply = post_office.receive(exchange.seal(readings(1), foreign_key(post_office, foreign), NOW))
    assert post_office.answer(reply).refusal.retry == "later"


def test_a_list_out_of_date_may_be_an_alarm_only(post_office, meter, foreign):
    """Told once for a sender and a list, not with every message."""
    key = foreign_key(post_office, foreign)
    post = Post("bus", post_office.signer, post_office.store, post_office.clock, zone_of, DEVICE_LIMITS, "alarm")
    door = Reception(post, post_office.audit, post_office.worker)
    assert [send(post_office, key, readings(number), door=door) for number in (1, 2)] == ["", ""]
    assert alarms(post_office) == ["revocation-unknown"]
    assert door.alarms.take() == {"revocation-unknown": 1}


def test_a_foreign_key_on_the_list_is_refused(post_office, meter, foreign):
    key = foreign_key(post_office, foreign)
    number = x509.load_der_x509_certificate(key.certificate).serial_number
    post_office.store.import_crl(foreign.read(foreign.crl(1, [(number, MADE - timedelta(hours=1))])))
    assert send(post_office, key, readings(1)) == "certificate-not-accepted"


# --- factors (F14) ---------------------------------------------------------------------------------------------------


def test_factors_are_asked_of_new_messages_only_and_all_must_fit(post_office, meter):
    payload = readings(1)
    first = post_office.receive(exchange.seal(payload, meter, NOW))
    post_office.store.set_factor("IED-1", "network", "192.0.2.0/24")
    post_office.store.set_factor("IED-1", "position", "48.1374,11.5755 500")
    there, away = {"position": "48.1380,11.5750"}, {"position": "52.5200,13.4050"}
    assert send(post_office, meter, readings(2, **there)) == ""
    assert send(post_office, meter, readings(3, **away)) == "factor-failed"
    assert send(post_office, meter, readings(3)) == "factor-failed", "says nothing"
    assert send(post_office, meter, readings(3, **there), peer="203.0.113.9:5") == "factor-failed"
    assert post_office.receive(exchange.seal(payload, meter, NOW)) == first, "a repeat is not asked"
    post_office.store.set_factor("IED-1", "network", None)
    assert send(post_office, meter, readings(3, **there), peer="203.0.113.9:5") == ""
    assert alarms(post_office) == ["factor-failed"] * 3


def test_the_refusal_lists_what_does_not_fit_and_keeps_the_rest_for_the_audit_log(post_office, meter):
    post_office.store.set_factor("IED-1", "network", "198.51.100.0/24")
    post_office.store.set_factor("IED-1", "hardware-key", "D-0815")
    reply = post_office.receive(exchange.seal(readings(1, hardwareKey="D-1"), meter, NOW))
    refusal = post_office.answer(reply).refusal
    assert sorted(code for code, _, _ in refusal.items) == ["factor-hardware-key", "factor-network"]
    assert b"198.51.100" not in reply.body
    assert b"0815" not in reply.body
    (refused,) = post_office.events("refused")
    assert "192.0.2.7" in refused["detail"]
    assert "'D-1'" in refused["detail"]


def test_outside_its_hours_a_device_is_asked_to_come_later(post_office, meter):
    post_office.store.set_factor("IED-1", "hours", "06:00-18:00")  # it is midnight
    reply = post_office.receive(exchange.seal(readings(1), meter, NOW))
    assert post_office.answer(reply).refusal.code == "outside-hours"
    assert post_office.answer(reply).refusal.retry == "later"
    post_office.now = NOW + 6 * 3_600_000
    assert send(post_office, meter, readings(1)) == ""
    assert alarms(post_office) == []


def test_a_property_that_stands_twice_says_nothing(post_office, meter):
    post_office.store.set_factor("IED-1", "serial", "SN-1")
    made = testing.readings_message("IED-1", "m-1", [testing.block(testing.channel(), MIDNIGHT - 900, ["1"])], NOW)
    twice = (("serialNumber", "SN-2"), ("serialNumber", "SN-1"))
    payload = messages.encode(replace(made, header=replace(made.header, properties=twice)))
    assert send(post_office, meter, payload) == "factor-failed"


# --- copied devices (F15) --------------------------------------------------------------------------------------------


def test_two_networks_at_once_alarm_and_a_device_that_moves_does_not(post_office, meter):
    door = post_office.reception()
    for number, peer in enumerate(["192.0.2.7:1", "198.51.100.9:1", "198.51.100.10:1", "192.0.2.8:2"], 1):
        assert send(post_office, meter, readings(number), peer=peer, door=door) == ""
        assert len(alarms(post_office)) == (number == 4)
    (alarm,) = post_office.events("alarm")
    assert (alarm["code"], alarm["sender"], alarm["message_id"]) == ("networks-at-once", "IED-1", "m-4")
    assert door.alarms.take() == {"networks-at-once": 1}
    assert door.alarms.take() == {}


def test_two_keys_taking_turns_alarm_and_a_roll_over_does_not(post_office, meter):
    fresh, door = second_key(post_office), post_office.reception()
    for number, key in enumerate([meter, fresh, fresh], 1):
        assert send(post_office, key, readings(number), door=door) == ""
    assert alarms(post_office) == []
    assert send(post_office, meter, readings(4), door=door) == ""
    assert alarms(post_office) == ["keys-at-once"]


def numbered(number):
    made = testing.readings_message("IED-1", f"s-{number}", [testing.block(testing.channel(), MIDNIGHT, ["1"])], NOW)
    return messages.encode(replace(made, header=replace(made.header, sequence=number)))


def test_a_sequence_that_goes_backwards_is_a_note(post_office, meter):
    door = post_office.reception()
    assert [send(post_office, meter, numbered(number), door=door) for number in (7, 9, 8, 10)] == [""] * 4
    assert [(line["code"], line["message_id"]) for line in post_office.events("note")] == [
        ("sequence-backwards", "s-8")
    ]
    assert alarms(post_office) == []


def test_turns_far_apart_are_a_move_and_back():
    watch = Watch()
    certificate = b"certificate"
    for hour in range(4):
        peer = ("192.0.2.7:1", "198.51.100.9:1")[hour % 2]
        assert watch.noticed("IED-1", certificate, peer, hour, hour * (AT_ONCE_MS + 1)) == ([] if hour else ())


def test_addresses_of_one_network_are_one_place():
    watch = Watch()
    for at, peer in enumerate(["[2001:db8:1::7]:1", "[2001:db8:2::7]:1", "[2001:db8:1::7]:1", "nobody", "nobody"]):
        assert not watch.noticed("IED-1", b"certificate", peer, None, at)


def test_only_the_senders_heard_of_last_are_remembered():
    watch = Watch()
    for number in range(WATCHED + 5):
        watch.noticed(f"IED-{number}", b"certificate", "192.0.2.7:1", 1, number)
    assert len(watch._seen) == WATCHED
    assert "IED-4" not in watch._seen
    assert "IED-5" in watch._seen
