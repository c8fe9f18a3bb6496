"""What the corridor says of itself beside the answer: audit lines, counters, whether it is able; and its own limits."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from gridpost.server.audit import STRANGERS_LINES
from gridpost.server.reception import Arrival, Sequences
from lxml import etree

from gridpost import check, exchange, messages, ns, testing
from gridpost.errors import SignerUnavailable

NOW = testing.NOW_UTC_MS
MIDNIGHT = NOW // 1000
PEER = "192.0.2.7:49152"  # conftest.py's
NAMED = {"sender": "IED-1", "message_id": "m-1", "peer": PEER}


@pytest.fixture
def meter(post_office):
    return post_office.enrol("IED-1", [testing.channel()])


def message(message_id="m-1", literal="1.5", sequence=None):
    made = testing.readings_message("IED-1", message_id, [testing.block(testing.channel(), MIDNIGHT, [literal])])
    return replace(made, header=replace(made.header, sequence=sequence))


class LostKey:
    """A signer whose key store went away."""

    def __init__(self, signer) -> None:
        self.certificate, self.algorithm = signer.certificate, signer.algorithm

    def sign(self, data: bytes) -> bytes:
        raise SignerUnavailable


def only(post_office, name):
    """The one event of a name, without its time."""
    (event,) = post_office.events(name)
    del event["time"], event["event"]
    return event


# --- lines -----------------------------------------------------------------------------------------------------------


def test_a_message_and_its_repeat_are_told_with_who_sent_them_from_where(post_office, meter):
    raw = testing.sealed(message(), meter)
    post_office.receive(raw)
    post_office.receive(raw)
    recorded = only(post_office, "recorded")
    assert len(bytes.fromhex(recorded.pop("digest"))) == 32
    assert recorded == NAMED | {"size": len(raw)}
    assert only(post_office, "repeat") == NAMED


def test_an_alarm_and_a_note_are_told_with_who_sent_it_from_where(post_office, meter):
    door = post_office.reception()
    for number, sequence in enumerate((7, 7, 2), 1):
        post_office.receive(testing.sealed(message(f"m-{number}", sequence=sequence), meter), reception=door)
    assert only(post_office, "alarm") == NAMED | {
        "message_id": "m-2", "code": "sequence-reused", "sequence": 7, "other_message_id": "m-1",
    }  # fmt: skip
    assert only(post_office, "note") == NAMED | {"message_id": "m-3", "code": "sequence-backwards"}


def test_a_refused_message_is_told_with_the_inner_cause_or_what_the_peer_was_told(post_office, meter):
    post_office.receive(testing.sealed(message(), meter))
    post_office.receive(testing.sealed(message("m-1", "9.5"), meter))
    assert only(post_office, "refused") == {
        "code": "message-id-reused", "peer": PEER, "detail": "IED-1 m-1", "source": "IED-1", "message_id": "m-1",
    }  # fmt: skip
    assert only(post_office, "alarm") == NAMED | {"code": "message-id-reused"}
    foreign = testing.block(testing.channel(meter="M9"), MIDNIGHT, ["1"])
    reply = post_office.receive(testing.sealed(testing.readings_message("IED-1", "m-2", [foreign]), meter))
    refused = post_office.events("refused")[-1]
    assert (refused["code"], refused["message_id"]) == ("readings-refused", "m-2")
    (finding,) = post_office.answer(reply).refusal.items
    assert refused["detail"].endswith(finding[1]), "nothing more is known inside than outside"
    assert len(post_office.events("alarm")) == 1, "not every refusal is one"


def test_whoever_is_known_is_told_of_whatever_strangers_do(post_office, meter):
    """They fill the log up to a limit that does not hold for a verified message."""
    door = post_office.reception()
    for _ in range(STRANGERS_LINES + 1):
        post_office.receive(b"", reception=door)
    assert len(post_office.events("refused")) == STRANGERS_LINES
    post_office.receive(testing.sealed(message(), meter, NOW - 86_400_000), reception=door)
    assert post_office.events("refused")[-1]["code"] == "message-stale"


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "noun"),
    [
        (messages.encode(message()), "MeterReadings"),
        (messages.encode(testing.events_message("IED-1", "e-1", [])), "EndDeviceEvents"),
        (b'<Anything xmlns="urn:example:other"></Anything>', "MeterReadings"),
    ],
    ids=["readings", "events", "unknown"],
)
def test_a_refusal_has_the_messages_own_noun(post_office, meter, payload, noun):
    """Any for an operation that we do not know; stale, so that none of them passes."""
    reply = post_office.receive(exchange.seal(payload, meter, NOW - 86_400_000))
    assert reply.status == 500
    assert post_office.answer(reply).refusal is not None
    found = etree.fromstring(reply.body).find(".//detail/*")
    assert etree.QName(found).localname == f"{noun}FaultMessage"


def test_what_comes_without_a_soap_action_is_taken(post_office, meter):
    """Mail and files have none; an empty one in HTTP says nothing."""
    raw = testing.sealed(message(), meter)
    reply = asyncio.run(post_office.reception().receive(raw, Arrival(check.MAIL, "mail")))
    assert reply.status == 200


def test_an_operation_that_we_do_not_know_has_no_soap_action(post_office, meter):
    raw = exchange.seal(b'<Anything xmlns="urn:example:other"></Anything>', meter, NOW)
    reply = post_office.receive(raw, soap_action="urn:example:other/Anything")
    assert etree.fromstring(reply.body).findtext(".//faultstring") == "action-mismatch"
    assert ns.q("urn:example:other", "Anything") not in messages.MESSAGES


# --- counting and ability --------------------------------------------------------------------------------------------


def test_every_message_counts_taken_or_refused(post_office, meter):
    door = post_office.reception()
    assert door.received == 0
    for number, raw in enumerate((testing.sealed(message(), meter), b"", testing.sealed(message(), meter)), 1):
        post_office.receive(raw, reception=door)
        assert door.received == number


def test_it_is_not_able_for_half_a_minute_after_it_could_not_take_one(post_office, meter):
    """30 s are what Retry-After asks devices to wait; a clock that was set back does not make it longer."""
    working = post_office.signer
    post_office.signer = LostKey(working)
    door = post_office.reception()
    assert door.is_able()
    for moment in (NOW, NOW + 3_600_000):
        post_office.now = moment
        assert post_office.receive(testing.sealed(message(), meter, moment), reception=door).status == 503
        for step, able in ((0, False), (30_000, False), (30_001, True), (-30_000, False), (-30_001, True)):
            post_office.now = moment + step
            assert door.is_able() is able, (moment, step)


def test_it_is_able_again_once_one_was_recorded(post_office, meter):
    door = post_office.reception()
    first = testing.sealed(message(), meter)
    post_office.receive(first, reception=door)
    stopped, post_office.store._writer._poison = post_office.store._writer, OSError("disk")
    assert post_office.receive(testing.sealed(message("m-2"), meter), reception=door).status == 503
    assert not door.is_able()
    assert post_office.receive(first, reception=door).status == 200
    assert not door.is_able(), "a repeat needs no disk"
    stopped._poison = None
    assert post_office.receive(testing.sealed(message("m-3"), meter), reception=door).status == 200
    assert door.is_able()


def test_a_refusal_of_theirs_is_no_inability_of_ours(post_office, meter):
    door = post_office.reception()
    post_office.receive(b"", reception=door)
    post_office.receive(testing.sealed(message(), meter, NOW - 86_400_000), reception=door)
    assert door.is_able()


# --- what is remembered ----------------------------------------------------------------------------------------------


def test_of_each_sender_32_sequences_are_kept():
    seen = Sequences()
    assert all(seen.reused("IED-1", number, f"m-{number}") == "" for number in range(32))
    assert seen.reused("IED-1", 0, "copy") == "m-0"
    assert seen.reused("IED-1", 32, "m-32") == ""
    assert seen.reused("IED-1", 1, "copy") == "m-1"
    assert seen.reused("IED-1", 0, "late") == "", "forgotten"


def test_20_000_senders_are_kept():
    seen = Sequences()
    assert all(seen.reused(f"IED-{number}", 1, "m") == "" for number in range(20_000))
    assert seen.reused("IED-0", 1, "copy") == "m"
    assert seen.reused("IED-20000", 1, "m") == ""
    assert seen.reused("IED-1", 1, "copy") == "m"
    assert seen.reused("IED-0", 1, "late") == "", "forgotten"


def test_a_message_without_a_number_says_nothing_of_copies():
    seen = Sequences()
    assert seen.reused("IED-1", None, "m-1") == seen.reused("IED-1", None, "m-2") == ""
