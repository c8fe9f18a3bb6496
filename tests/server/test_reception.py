"""The corridor with a real store behind it: what leaves a receipt, what leaves a refusal, what leaves nothing."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from time import monotonic

import pytest
from cryptography.hazmat.primitives import serialization
from gridpost.server import worker as worker_module
from gridpost.server.enrolment import Subject
from gridpost.server.reception import SENDERS_KEPT, SEQUENCES_KEPT, Sequences
from gridpost.server.store import open_store
from gridpost.server.worker import IN_REACTOR_BYTES, RESTS, Aside, ReactorWorker
from lxml import etree
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock
from twisted.python.threadpool import ThreadPool

from gridpost import check, exchange, messages, ns, schemas, testing
from gridpost.controls import Wanted
from gridpost.errors import SignerUnavailable
from gridpost.model import EndDeviceEvent, Header, Position
from gridpost.requests import CreateEndDeviceControls, DequeueMailbox, GetMeterReadings, Query
from gridpost.wssecurity import KeySigner

NOW = testing.NOW_UTC_MS
MIDNIGHT = NOW // 1000
SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"
WANTED = Wanted("s-1", "shed", ("IED-1",), output="boiler")
MINUTE = 60_000
DAY = 86_400_000


@pytest.fixture
def channel():
    return testing.channel(zone="Europe/Berlin")


@pytest.fixture
def meter(post_office, channel):
    """IED-1's signer."""
    return post_office.enrol("IED-1", [channel])


def message(message_id="m-1", values=("1.5", "2.25"), first_end=MIDNIGHT - 900, source="IED-1", made=NOW, number=1):
    block = testing.block(testing.channel(number), first_end, values)
    return testing.readings_message(source, message_id, [block], made)


def entries(post_office) -> int:
    return post_office.store.status().entries


def unsigned_code(reply) -> str:
    """The code of an unsigned fault; fails when the answer holds anything more."""
    root = etree.fromstring(reply.body)
    assert root.find(f"{SOAP}Header") is None
    (fault,) = root.find(f"{SOAP}Body")
    return fault.findtext("faultstring")


def test_a_receipt_states_what_was_stored_and_verifies(post_office, meter):
    payload = messages.encode(message())
    reply = post_office.receive(exchange.seal(payload, meter, NOW - 1000))
    assert reply.status == 200
    answer = post_office.answer(reply)
    assert answer.certificate == post_office.signer.certificate
    receipt = answer.receipt
    assert (receipt.message_id, receipt.sender) == ("m-1", "IED-1")
    assert receipt.content_digest == sha256(payload).digest()
    assert receipt.recorded_at_utc_ms == NOW
    assert receipt.position == Position(0, 0)
    assert receipt.root_before == sha256(b"").digest()  # RFC 9162 section 2.1.1: the hash of an empty tree
    assert receipt.counts == (2, 0, 0)
    assert len(receipt.references) == 2
    assert post_office.store.evidence(receipt.position).count(b"2.25") == 1


def test_the_evidence_is_the_message_byte_for_byte(post_office, meter):
    raw = testing.sealed(message(), meter)
    position = post_office.answer(post_office.receive(raw)).receipt.position
    assert post_office.store.evidence(position) == raw


def test_the_second_receipt_carries_the_root_over_the_first_entry(post_office, meter):
    first = post_office.answer(post_office.receive(testing.sealed(message("m-1"), meter))).receipt
    second = post_office.answer(post_office.receive(testing.sealed(message("m-2", ["7"], MIDNIGHT), meter))).receipt
    assert second.position == Position(0, 1)
    assert second.root_before == post_office.store.root(0, 1) != first.root_before


def test_known_and_conflicting_values_are_counted(post_office, meter):
    post_office.receive(testing.sealed(message("m-1", ["1.5", "2"]), meter))
    again = post_office.receive(testing.sealed(message("m-2", ["1.50", "3"]), meter))
    assert post_office.answer(again).receipt.counts == (0, 1, 1)


@pytest.mark.parametrize(
    ("verb", "noun", "request_of"),
    [
        ("create", "EndDeviceControls", lambda header: CreateEndDeviceControls(header, (WANTED,))),
        ("get", "MeterReadings", lambda header: GetMeterReadings(header, Query())),
        ("delete", "Mailbox", lambda header: DequeueMailbox(header, 1)),
    ],
)
def test_what_offices_ask_is_unknown_here_and_leaves_no_entry(post_office, meter, verb, noun, request_of):
    payload = messages.encode(request_of(Header(verb, noun, NOW, "IED-1", "m-1")))
    reply = post_office.receive(exchange.seal(payload, meter, NOW))
    assert reply.status == 500
    refusal = post_office.answer(reply).refusal
    assert (refusal.code, refusal.content_digest) == ("unknown-operation", sha256(payload).digest())
    assert entries(post_office) == 0


# --- repeats ---------------------------------------------------------------------------------------------------------


def test_a_repeat_gets_the_receipt_byte_for_byte_also_re_sealed_and_after_a_restart(post_office, meter):
    payload = messages.encode(message())
    first = post_office.receive(exchange.seal(payload, meter, NOW))
    assert post_office.receive(exchange.seal(payload, meter, NOW)) == first
    post_office.now += 3_600_000
    assert post_office.receive(exchange.seal(payload, meter, NOW)) == first, "the same bytes, now stale"
    assert post_office.receive(exchange.seal(payload, meter, post_office.now)) == first, "re-sealed"
    post_office.reopen()
    assert post_office.receive(exchange.seal(payload, meter, post_office.now)) == first, "after a restart"
    post_office.now += 399 * DAY
    assert post_office.receive(exchange.seal(payload, meter, post_office.now), check.RELAY) == first, "by relay"
    assert entries(post_office) == 1
    assert len(post_office.events("repeat")) == 5


def test_the_same_content_in_other_clothes_is_a_repeat(post_office, meter):
    """Re-serialised by a middleman: other prefixes outside the Body, white space between the headers."""
    raw = testing.sealed(message(), meter)
    first = post_office.receive(raw)
    dressed = raw.replace(b"?>", b"?>\n", 1) if raw.startswith(b"<?xml") else b"<?xml version='1.0'?>\n" + raw
    assert post_office.receive(dressed) == first
    assert entries(post_office) == 1


def test_a_repeat_by_a_new_key_of_the_same_ied_gets_the_receipt(post_office, meter, channel):
    """Key roll-over: the sender is the enrolled id, never the certificate."""
    payload = messages.encode(message())
    first = post_office.receive(exchange.seal(payload, meter, NOW))
    post_office.store.revoke("IED-1", NOW)
    post_office.store.add_ied("IED-1", "revenue meter", b"new secret", [channel])
    fresh = post_office.certify("IED-1")
    post_office.store.bind_certificate("IED-1", b"2" * 32, fresh.certificate)
    assert post_office.receive(exchange.seal(payload, fresh, NOW)) == first


def test_many_at_once_with_one_id_get_one_receipt(post_office, meter):
    raw = testing.sealed(message(), meter)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: post_office.receive(raw), range(24)))
    assert set(replies) == {replies[0]}
    assert replies[0].status == 200
    assert entries(post_office) == 1


def test_a_repeat_gets_its_receipt_from_a_store_that_takes_nothing_now(post_office, meter):
    raw = testing.sealed(message(), meter)
    first = post_office.receive(raw)
    post_office.store.close()
    post_office.store = open_store(post_office.path, post_office.clock)  # reads only: what a stopped writer leaves
    assert post_office.receive(raw) == first
    assert post_office.receive(testing.sealed(message("m-2", ["9.5"]), meter)).status == 503
    reused = post_office.receive(testing.sealed(message("m-1", ["9.5"]), meter))
    assert post_office.answer(reused).refusal.code == "message-id-reused"


def test_of_two_copies_in_one_group_one_is_told_to_be_a_repeat(post_office, meter):
    raw = testing.sealed(message(), meter)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: post_office.receive(raw), range(8)))
    assert (len(post_office.events("recorded")), len(post_office.events("repeat"))) == (1, 7)


def test_other_content_under_a_known_id_is_refused_signed(post_office, meter):
    post_office.receive(testing.sealed(message("m-1", ["1.5"]), meter))
    raw = testing.sealed(message("m-1", ["9.5"]), meter)
    reply = post_office.receive(raw)
    assert reply.status == 500
    refusal = post_office.answer(reply).refusal
    assert (refusal.code, refusal.retry) == ("message-id-reused", "never")
    assert refusal.content_digest == sha256(messages.encode(message("m-1", ["9.5"]))).digest()
    assert entries(post_office) == 1
    assert post_office.events("refused")[-1]["code"] == "message-id-reused"
    (alarm,) = post_office.events("alarm")
    assert (alarm["code"], alarm["sender"], alarm["message_id"]) == ("message-id-reused", "IED-1", "m-1")


def test_one_sequence_under_two_ids_is_taken_and_alarms(post_office, meter):
    """Decision 19: gaps, late numbers and repeats do not."""
    door = post_office.reception()
    for message_id, sequence in (("a", 1), ("b", 5), ("c", 2), ("b", 5), ("d", 5), ("foreign", None), ("other", None)):
        made = message(message_id)
        made = replace(made, header=replace(made.header, sequence=sequence))
        assert post_office.receive(testing.sealed(made, meter), reception=door).status == 200
    (alarm,) = post_office.events("alarm")
    assert (alarm["code"], alarm["sender"], alarm["sequence"]) == ("sequence-reused", "IED-1", 5)
    assert (alarm["message_id"], alarm["other_message_id"]) == ("d", "b")
    assert entries(post_office) == 6


def test_of_each_sender_the_last_sequences_are_kept_only():
    seen = Sequences()
    assert all(seen.reused("IED-1", number, f"m-{number}") == "" for number in range(SEQUENCES_KEPT + 1))
    assert seen.reused("IED-1", 1, "copy") == "m-1"
    assert seen.reused("IED-2", 1, "own") == ""
    assert seen.reused("IED-1", 0, "late") == "", "forgotten"


def test_of_very_many_senders_those_heard_of_first_are_forgotten():
    seen = Sequences()
    assert all(seen.reused(f"IED-{number}", 1, "m") == "" for number in range(SENDERS_KEPT + 1))
    assert seen.reused("IED-1", 1, "copy") == "m"
    assert seen.reused("IED-0", 1, "late") == "", "forgotten"


def test_two_ieds_may_use_one_message_id(post_office, meter):
    other = post_office.enrol("IED-2", [testing.channel(2, meter="M2")])
    assert post_office.receive(testing.sealed(message(), meter)).status == 200
    block = testing.block(testing.channel(2, meter="M2"), MIDNIGHT, ["1"])
    theirs = testing.readings_message("IED-2", "m-1", [block])
    assert post_office.receive(testing.sealed(theirs, other)).status == 200
    assert entries(post_office) == 2


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transport", "age_ms", "code"),
    [
        (check.HTTP, 15 * MINUTE, ""),
        (check.HTTP, 15 * MINUTE + 1, "message-stale"),
        (check.HTTP, -MINUTE, ""),
        (check.HTTP, -MINUTE - 1, "message-from-future"),
        (check.MAIL, 7 * DAY, ""),
        (check.MAIL, 7 * DAY + 1, "message-stale"),
        (check.RELAY, 400 * DAY, ""),
        (check.RELAY, 400 * DAY + 1, "message-stale"),
        (check.RELAY, -MINUTE - 1, "message-from-future"),
    ],
)
def test_age_is_judged_by_the_transport(post_office, channel, transport, age_ms, code):
    post_office.now = NOW + 500 * DAY
    meter = post_office.enrol("IED-1", [channel])
    reply = post_office.receive(testing.sealed(message(), meter, post_office.now - age_ms), transport)
    if not code:
        assert post_office.answer(reply).receipt.message_id == "m-1"
        return
    refusal = post_office.answer(reply).refusal
    assert (refusal.code, refusal.retry) == (code, "later")
    assert refusal.time_utc_ms == post_office.now, "so that a device can set its clock"
    assert entries(post_office) == 0


def test_a_stale_message_re_sealed_by_the_time_in_the_refusal_is_taken(post_office, meter):
    payload = messages.encode(message())
    refusal = post_office.answer(post_office.receive(exchange.seal(payload, meter, NOW - DAY))).refusal
    raw = exchange.seal(payload, meter, NOW - DAY)
    assert (
        refusal.signature_digest
        == exchange.verify(
            exchange.read(raw), post_office.store.enrolment(sha256(meter.certificate).digest())
        ).verified.signature_digest
    ), "it names the attempt: our keys sign deterministically"
    assert post_office.receive(exchange.seal(payload, meter, refusal.time_utc_ms)).status == 200


def test_an_interval_that_ends_in_the_future_refuses_all(post_office, meter):
    """Ends 00:00 and 00:15; 61 s and more ahead is too far, and the first value is not kept either."""
    raw = testing.sealed(message(values=["1", "2"], first_end=MIDNIGHT), meter)
    assert post_office.answer(post_office.receive(raw)).refusal.code == "reading-in-future"
    assert entries(post_office) == 0
    post_office.now += (900 - 60) * 1000
    assert post_office.receive(raw).status == 200, "14 minutes later the very same message is taken"


# --- who -------------------------------------------------------------------------------------------------------------


def test_a_revoked_certificate_sends_nothing_new_but_learns_what_is_stored(post_office, meter):
    payload = messages.encode(message())
    receipt = post_office.receive(exchange.seal(payload, meter, NOW))
    post_office.store.revoke("IED-1", NOW)
    assert post_office.receive(exchange.seal(payload, meter, NOW)) == receipt
    reply = post_office.receive(testing.sealed(message("m-2", ["3"], MIDNIGHT), meter))
    refusal = post_office.answer(reply).refusal
    assert (refusal.code, refusal.retry) == ("certificate-not-accepted", "after-fix")
    assert entries(post_office) == 1


def test_a_certificate_that_expired_on_the_way_is_taken_by_mail_and_not_by_http(post_office, channel):
    """Ten years of 365 days: expired at NOW + 3650 days."""
    meter = post_office.enrol("IED-1", [channel])
    end = NOW + int(timedelta(days=3650).total_seconds() * 1000)
    post_office.now = end + 5 * MINUTE
    post_office.signer = post_office.bus_signer(datetime.fromtimestamp(end / 1000, UTC))
    raw = testing.sealed(message(), meter, end - MINUTE)
    assert post_office.answer(post_office.receive(raw)).refusal.code == "certificate-not-accepted"
    assert post_office.receive(raw, check.MAIL).status == 200
    after = testing.sealed(message("m-2"), meter, end + MINUTE)
    assert unsigned_code(post_office.receive(after, check.MAIL)) == "signature-invalid"


def test_strangers_learn_a_code_and_nothing_else(post_office, meter):
    cases = {
        "another CA": testing.ThrowawayCA().issue_device("IED-1"),
        "our CA, never enrolled": post_office.certify("IED-1"),
        "the bus itself": post_office.signer,
    }
    for case, signer in cases.items():
        reply = post_office.receive(testing.sealed(message(), signer))
        assert (reply.status, unsigned_code(reply)) == (500, "signature-invalid"), case
    assert entries(post_office) == 0
    assert all("IED-1" in event["detail"] for event in post_office.events("refused"))


def test_all_failures_before_the_signature_is_known_look_alike_but_for_their_code(post_office, meter):
    """One outside answer for a stranger and for a broken signature; the audit log tells them apart."""
    raw = testing.sealed(message(), meter)
    broken = post_office.receive(raw.replace(b"2.25", b"2.26"))
    stranger = post_office.receive(testing.sealed(message(), post_office.certify("IED-1")))
    assert broken == stranger
    first, second = post_office.events("refused")
    assert first["detail"] != second["detail"]


def test_one_ied_does_not_speak_for_another(post_office, meter):
    other = post_office.enrol("IED-2", [testing.channel(2, meter="M2")])
    claims = testing.sealed(message(source="IED-1"), other)
    assert post_office.answer(post_office.receive(claims)).refusal.code == "source-mismatch"
    their_meter = testing.sealed(message(source="IED-2"), other)
    refusal = post_office.answer(post_office.receive(their_meter)).refusal
    assert refusal.code == "readings-refused"
    assert refusal.items[0][0] == "unknown-channel"
    assert entries(post_office) == 0


def test_a_revocation_by_a_second_process_counts_at_once(post_office, meter):
    """`gridpost ied revoke` beside the running bus: the cache of enrolments is dropped."""
    assert post_office.receive(testing.sealed(message(), meter)).status == 200
    beside = open_store(post_office.path, post_office.clock)
    beside.revoke("IED-1", NOW)
    beside.close()
    reply = post_office.receive(testing.sealed(message("m-2", ["3"], MIDNIGHT), meter))
    assert post_office.answer(reply).refusal.code == "certificate-not-accepted"


# --- our own failures ------------------------------------------------------------------------------------------------


class LostKey:
    """A signer whose key store went away."""

    def __init__(self, signer) -> None:
        self.certificate, self.algorithm = signer.certificate, signer.algorithm

    def sign(self, data: bytes) -> bytes:
        raise SignerUnavailable(detail="HSM away")


def test_without_a_signer_nothing_is_stored_and_the_peer_may_come_back(post_office, meter):
    raw = testing.sealed(message(), meter)
    working, post_office.signer = post_office.signer, LostKey(post_office.signer)
    reply = post_office.receive(raw)
    assert (reply.status, unsigned_code(reply)) == (503, "signer-unavailable")
    assert b"HSM" not in reply.body
    stale = post_office.receive(testing.sealed(message("m-2"), meter, NOW - DAY))
    assert (stale.status, unsigned_code(stale)) == (503, "signer-unavailable"), "a refusal cannot be signed either"
    assert entries(post_office) == 0
    post_office.signer = working
    assert post_office.answer(post_office.receive(raw)).receipt.position == Position(0, 0)


@pytest.mark.parametrize("years", [6, -6], ids=["expired", "clock before its beginning"])
def test_a_bus_whose_own_certificate_is_not_valid_stores_nothing(post_office, channel, years):
    """Its receipt would stand for ever, and no device would ever take it."""
    post_office.now = NOW + years * 365 * DAY
    moment = datetime.fromtimestamp(post_office.now / 1000, UTC)
    key = post_office.enrol("IED-1", [channel])._key
    issued = post_office.ca.issue(Subject("IED-1", 10), key.public_key(), moment)
    meter = KeySigner(key, issued.public_bytes(serialization.Encoding.DER))
    post_office.store.revoke("IED-1", 0)
    post_office.store.add_ied("IED-1", "revenue meter", b"new secret", [channel])
    post_office.store.bind_certificate("IED-1", b"2" * 32, meter.certificate)
    raw = testing.sealed(message(first_end=post_office.now // 1000 - 900), meter, post_office.now)
    reply = post_office.receive(raw)
    assert (reply.status, unsigned_code(reply)) == (503, "signer-unavailable")
    assert entries(post_office) == 0
    post_office.signer = post_office.bus_signer(moment)
    assert post_office.answer(post_office.receive(raw)).receipt.position == Position(0, 0)


def test_a_closed_store_is_a_503_without_a_receipt(post_office, meter):
    raw = testing.sealed(message(), meter)
    post_office.receive(testing.sealed(message("m-0"), meter))
    post_office.store._writer.close()
    reply = post_office.receive(raw)
    assert (reply.status, unsigned_code(reply)) == (503, "store-unavailable")


# --- HTTP's own ------------------------------------------------------------------------------------------------------


def test_the_soap_action_must_be_the_payloads_or_empty(post_office, meter):
    raw = testing.sealed(message(), meter)
    wrong = post_office.receive(raw, soap_action="http://iec.ch/TC57/2011/EndDeviceEvents/Created")
    assert (wrong.status, unsigned_code(wrong)) == (500, "action-mismatch")
    assert entries(post_office) == 0
    right = schemas.DEVICE_ACTIONS[ns.q(ns.METER_READINGS_MESSAGE, "CreatedMeterReadings")]
    assert post_office.receive(raw, soap_action=right).status == 200


def test_events_are_taken_too(post_office, meter):
    event = EndDeviceEvent("e-1", "3.26.0.85", NOW - 5000, "M1", "power lost", "high", {"phase": "A"})
    reply = post_office.receive(testing.sealed(testing.events_message("IED-1", "ev-1", [event]), meter))
    assert post_office.answer(reply).receipt.counts == (1, 0, 0)
    assert post_office.store.status().events == 1


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"", 500, "malformed-xml"),
        (b"\x00" * 100, 500, "malformed-xml"),
        (b"<a/>", 500, "version-mismatch"),
        (b"<!DOCTYPE a><a/>", 500, "forbidden-markup"),
        (b"<a>" + b"x" * (1 << 20) + b"</a>", 413, "message-too-large"),
    ],
)
def test_what_is_no_message_is_an_unsigned_fault(post_office, raw, status, code):
    reply = post_office.receive(raw)
    assert (reply.status, unsigned_code(reply)) == (status, code)
    (event,) = post_office.events("refused")
    assert (event["code"], event["size"], event["peer"]) == (code, len(raw), "192.0.2.7:49152")


def test_a_signed_message_with_hostile_texts_is_one_audit_line_each(post_office, meter):
    for text in ("a\nb", "\u202e" + "x" * 5000):
        post_office.receive(testing.sealed(message(message_id=text), meter))
    lines = post_office.log.getvalue().splitlines()
    assert len(lines) == 2
    assert all(len(line) < 2000 for line in lines)


def test_a_schema_error_is_refused_signed_and_itemised(post_office, meter):
    payload = messages.encode(message()).replace(b"2.25", b"NaN")
    refusal = post_office.answer(post_office.receive(exchange.seal(payload, meter, NOW))).refusal
    assert (refusal.code, refusal.retry) == ("schema-invalid", "after-fix")
    assert any(path for _, _, path in refusal.items)
    assert entries(post_office) == 0


# --- the reactor's worker --------------------------------------------------------------------------------------------


@pytest.fixture
def reactor_and_pool():
    reactor, pool = EPollReactor(), ThreadPool(1, 1)
    pool.start()
    yield reactor, pool
    pool.stop()


def run(reactor, coroutine):
    """Run a coroutine in a reactor of its own."""
    outcome = []

    def begin() -> None:
        Deferred.fromCoroutine(coroutine).addBoth(outcome.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run(installSignalHandlers=False)
    return outcome[0]


@pytest.mark.parametrize(("size", "in_pool"), [(0, False), (IN_REACTOR_BYTES, False), (IN_REACTOR_BYTES + 1, True)])
def test_a_large_message_is_read_in_the_pool(reactor_and_pool, size, in_pool):
    reactor, pool = reactor_and_pool
    worker = ReactorWorker(reactor, pool, lambda: 0)
    thread = run(reactor, worker.run(size, threading.current_thread))
    assert (thread is not threading.current_thread()) == in_pool


def test_reception_gives_the_worker_the_messages_size(post_office, meter):
    """So that the one above applies: authenticating and decoding each ask with the length of the message."""
    values = ["1.5"] * 3000
    raw = testing.sealed(message(values=values, first_end=MIDNIGHT - 900 * 2999), meter)
    assert len(raw) > IN_REACTOR_BYTES
    assert post_office.receive(raw).status == 200
    assert post_office.worker.sizes == [len(raw)] * 2


def test_the_worker_hands_a_futures_error_and_result_over(reactor_and_pool):
    reactor, pool = reactor_and_pool
    worker = ReactorWorker(reactor, pool, lambda: 0)
    with ThreadPoolExecutor(1) as other:
        gate = threading.Event()
        future = other.submit(lambda: gate.wait(5) and b"receipt")
        reactor.callWhenRunning(gate.set)
        assert run(reactor, worker.recorded(lambda: future)) == b"receipt"


def test_what_comes_in_together_is_recorded_together_and_answered_with_one_wake_up(reactor_and_pool):
    reactor, pool = reactor_and_pool
    worker, futures, wake_ups = ReactorWorker(reactor, pool, lambda: 0), [Future(), Future(), Future()], []
    call_from_thread, recorded = reactor.callFromThread, []

    def count(function, *arguments):
        wake_ups.append(function)
        call_from_thread(function, *arguments)

    def record(number):
        recorded.append(number)
        if number == 2:  # the writer: it sees all three, and answers them while the reactor is busy
            writer = threading.Thread(target=lambda: [future.set_result(b"%d" % n) for n, future in enumerate(futures)])
            reactor.callLater(0, lambda: (writer.start(), writer.join()))
        return futures[number]

    async def together():
        coroutines = [Deferred.fromCoroutine(worker.recorded(lambda n=n: record(n))) for n in range(3)]
        assert recorded == []  # not before the turn has ended
        return [await one for one in coroutines]

    reactor.callFromThread = count
    assert run(reactor, together()) == [b"0", b"1", b"2"]
    assert recorded == [0, 1, 2]
    assert len(wake_ups) == 1


@pytest.mark.parametrize(
    ("others", "groups"),
    [
        ((0, 0, 0, 0), [(0, [0]), (2, [1]), (5, [2]), (40, [3])]),  # nobody else could join: each goes at once
        ((0, 1, 0, 0), [(0, [0]), (5, [1, 2]), (40, [3])]),  # the second waits, until the other one is there
        ((9, 8, 7, 9), [(0, [0]), (21, [1, 2]), (42, [3])]),  # more are connected: both go 20 ms after the first group
    ],
)
def test_soon_after_a_group_the_next_waits_for_who_is_connected(monkeypatch, others, groups):
    """`others`: how many peers are connected and have sent nothing, as each of the four messages comes."""
    clock, handed, came = Clock(), [], []
    clock.advance(1000)
    monkeypatch.setattr(worker_module, "monotonic", clock.seconds)
    worker = ReactorWorker(clock, None, lambda: others[came[-1]])
    answered = Future()
    answered.set_result(b"receipt")

    def record(number):
        at = (clock.seconds() - 1000) * 1024
        if handed and handed[-1][0] == at:
            handed[-1][1].append(number)
        else:
            handed.append((at, [number]))
        return answered

    def come(number):
        came.append(number)
        Deferred.fromCoroutine(worker.recorded(lambda: record(number)))

    for number, at in enumerate((0, 2, 5, 40)):  # in 1/1024 s, of which sums are exact
        clock.callLater(at / 1024, come, number)
    clock.pump([0, *[1 / 1024] * 60])
    assert handed == groups


class Crossing(deque):
    """A deque whose first append is overtaken by a second thread before it comes to look at what it did."""

    def __init__(self, overtake) -> None:
        super().__init__()
        self._overtake = overtake

    def append(self, item) -> None:
        super().append(item)
        overtake, self._overtake = self._overtake, lambda: None
        overtake()


def test_two_threads_that_answer_at_once_leave_no_answer_behind(reactor_and_pool):
    """The writer's thread, and the reactor's own for an answer that was there at once: both put, then both look."""
    reactor, pool = reactor_and_pool
    worker, first, second = ReactorWorker(reactor, pool, lambda: 0), Deferred(), Deferred()
    worker._settled = Crossing(lambda: worker._settle(second))

    async def both():
        reactor.callLater(5, lambda: [one.cancel() for one in (first, second)])
        worker._settle(first)
        await first
        await second
        return "answered"

    assert run(reactor, both()) == "answered"


@pytest.mark.parametrize(("came_in", "rests"), [(0, 0), (3, 1)])
def test_a_reader_rests_after_a_step_only_while_messages_come_in(reactor_and_pool, came_in, rests):
    reactor, pool = reactor_and_pool
    received, delays, call_later = [0], [], reactor.callLater

    def step() -> str:
        threading.Event().wait(0.02)
        received[0] += came_in
        return threading.current_thread().name

    def noted(delay, *rest):
        delays.append(delay)
        return call_later(0, *rest)

    async def one_step():
        reactor.callLater = noted
        return await Aside(reactor, pool, lambda: received[0]).run(step)

    assert run(reactor, one_step()) != threading.current_thread().name
    assert [delay >= 0.02 * RESTS for delay in delays] == [True] * rests


def test_a_reader_in_a_hurry_ends_its_rest_and_takes_no_other(reactor_and_pool):
    reactor, pool = reactor_and_pool
    received, took = [0], []

    def step() -> None:
        threading.Event().wait(0.1)  # a rest of a second
        received[0] += 1

    async def two_steps():
        aside, began = Aside(reactor, pool, lambda: received[0]), monotonic()
        reactor.callLater(0.2, aside.hurry)
        await aside.run(step)
        await aside.run(step)
        took.append(monotonic() - began)

    run(reactor, two_steps())
    assert took[0] < 0.1 * RESTS


def test_in_a_hurry_all_readers_end_their_rest(reactor_and_pool):
    """Several readers share the pool, and rest at the same time."""
    reactor, pool = reactor_and_pool
    received, took = [0], []

    def step() -> None:
        threading.Event().wait(0.2)  # a rest of almost two seconds
        received[0] += 1

    async def both():
        aside, began = Aside(reactor, pool, lambda: received[0]), monotonic()
        steps = [Deferred.fromCoroutine(aside.run(step)) for _ in range(2)]
        reactor.callLater(0.6, aside.hurry)  # both rest by then
        for one in steps:
            await one
        took.append(monotonic() - began)

    run(reactor, both())
    assert took[0] < 0.2 * RESTS
