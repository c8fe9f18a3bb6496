"""Pushing to a real HTTP bus: only its signed word counts, and each word has its one consequence."""

import asyncio
import hashlib
import uuid
from dataclasses import replace

import pytest
from gridpost.ied_soap_client import identity
from gridpost.ied_soap_client.agent import new_id
from gridpost.ied_soap_client.clockwatch import wall_ms
from gridpost.ied_soap_client.push import Impure, Pusher, backoff_s
from gridpost.ied_soap_client.spool import Batch, Row, Spool
from gridpost.ied_soap_client.transport import ANSWER_CAP, Transport

from gridpost import answers, exchange, units
from gridpost.envelope import DEVICE_LIMITS, shape
from gridpost.errors import ConfigInvalid, MessageStale, ReadingsRefused, SourceMismatch, StoreUnavailable
from gridpost.testing import ThrowawayCA

HOUR_MS = 3_600_000


class Side:
    """A device's pushing half, driven drain by drain."""

    def __init__(self, device, clock=wall_ms):
        self.config = device.config
        self.spool = Spool(device.folder / "spool.db")
        self.clock, self.told, self.lines = clock, [], []

    def record(self, *ends, stream="E1", value="1.5"):
        from gridpost.ied_soap_client import config as settings

        (channel,) = [one for one in settings.channels(self.config) if one.key.stream == stream]
        self.spool.record(Batch(rows=[Row(channel.key, 900, end, value, ()) for end in ends]))

    def drain(self):
        def clock_told(offset_ms):
            self.told.append(offset_ms)
            self.spool.set_clock_offset_ms(offset_ms)

        def say(event, **fields):
            self.lines.append((event, fields))

        async def run():
            async with Transport(self.config.bus.url, self.config.bus.timeout_s) as transport:
                impure = Impure(self.clock, new_id, clock_told)
                return await Pusher(self.spool, transport, identity.parties(self.config), impure, say).drain()

        return asyncio.run(run())

    def waiting(self) -> int:
        return self.spool.status()["readings_waiting"]


@pytest.fixture
def side(enrolled):
    made = Side(enrolled())
    yield made
    made.spool.close()


def recent(steps_back: int = 1) -> int:
    now = wall_ms() // 1000
    return now - now % 900 - 900 * (steps_back - 1)


def test_readings_arrive_and_are_forgotten_only_with_the_receipt(side, bus):
    ends = [recent(3), recent(2), recent(1)]
    side.record(*ends)
    drained = side.drain()
    assert (drained.receipted, drained.unanswered) == (1, "")
    assert side.waiting() == 0
    assert bus.readings() == {("E1", end): [("1.5", ())] for end in ends}
    assert bus.headers[0]["soapaction"] == '"http://iec.ch/TC57/2011/MeterReadings/CreatedMeterReadings"'
    assert bus.headers[0]["content-type"] == "text/xml; charset=utf-8"
    ((message_id, raw),) = side.spool.receipts()
    assert raw == bus.receipts[message_id][1]
    assert set(side.spool.pins().values()) == {bus.signer.certificate}


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda bus: (200, b"", {}),
        lambda bus: (200, b"<html>login</html>", {}),
        lambda bus: (503, b"", {"Retry-After": "7"}),
        lambda bus: (500, answers.encode_fault(StoreUnavailable()), {}),
        lambda bus: (500, answers.encode_fault(ReadingsRefused()), {}),  # unsigned: not believed
        lambda bus: (302, b"", {"Location": bus.url + "/metering"}),
    ],
)
def test_what_is_not_signed_means_later_with_the_same_message(side, bus, spoilt):
    bus.behave = lambda raw, receive: spoilt(bus)
    side.record(recent())
    drained = side.drain()
    assert drained.unanswered
    assert drained.retry_after_s == (7 if spoilt(bus)[0] == 503 else 0)
    assert side.waiting() == 1
    assert len(bus.received) == 1, "no redirect is followed"
    bus.behave = None
    assert side.drain().receipted == 1
    first, second = (exchange.read(raw) for raw in bus.received)
    assert exchange.content_digest(first.raw) != exchange.content_digest(second.raw), "sealed anew"
    assert first.claimed_message_id == second.claimed_message_id
    assert side.waiting() == 0


def test_a_lost_answer_gets_the_stored_receipt_and_nothing_twice(side, bus):
    bus.behave = lambda raw, receive: (receive(), (502, b"", {}))[1]
    side.record(recent())
    assert side.drain().unanswered
    bus.behave = None
    assert side.drain().receipted == 1
    assert len(bus.messages) == 1


def test_an_answer_beyond_the_cap_is_not_read_to_its_end(side, bus):
    bus.behave = lambda raw, receive: (200, b" " * (ANSWER_CAP + 1), {})
    side.record(recent())
    assert "larger" in side.drain().unanswered


def test_a_dead_bus_is_later(side, bus, enrolled):
    side.record(recent())
    side.config = replace(side.config, bus=replace(side.config.bus, url="http://127.0.0.1:1"))
    drained = side.drain()
    assert "does not answer" in drained.unanswered
    assert side.waiting() == 1


def foreign_signers(bus):
    other = ThrowawayCA()
    return {
        "another CA's bus": other.issue_bus(),
        "an enrolled device": bus.ca.issue_device("IED-8"),  # decision 13: no bus key usage
    }


@pytest.mark.parametrize("who", ["another CA's bus", "an enrolled device"])
def test_a_receipt_or_refusal_signed_by_a_stranger_is_no_answer(side, bus, who):
    stranger = foreign_signers(bus)[who]
    own, bus.signer = bus.signer, stranger
    side.record(recent())
    assert "HTTP 200" in side.drain().unanswered
    assert side.waiting() == 1
    assert side.spool.pins() == {}
    bus.receipts.clear()
    bus.behave = lambda raw, receive: bus.refuse(ReadingsRefused(), *digests(raw), wall_ms())
    assert side.drain().unanswered
    assert side.spool.status()["messages_refused"] == 0
    bus.signer, bus.behave = own, None
    assert side.drain().receipted == 1


def digests(raw):
    payload = exchange.canonical(shape(raw, DEVICE_LIMITS).payload)
    return exchange.content_digest(payload), b"s" * 32


def test_a_receipt_of_another_message_is_no_answer(side, bus):
    side.record(recent(2))
    side.drain()
    ((_, old),) = side.spool.receipts()
    bus.behave = lambda raw, receive: (200, old, {})
    side.record(recent(1))
    assert "other content" in side.drain().unanswered
    assert side.waiting() == 1


def test_a_pinned_certificate_is_believed_after_the_ca_is_gone(side, bus):
    """A bus key that is rolled over: the old certificate still speaks for what it signed."""
    side.record(recent(2))
    side.drain()
    (side.config.folder / "ca.pem").write_bytes(ThrowawayCA().pem)
    side.record(recent(1))
    assert side.drain().receipted == 1


def test_what_the_bus_refuses_for_good_is_set_aside_and_the_queue_goes_on(side, bus):
    side.record(recent(2) + 7)  # off the grid: check() refuses it, after-fix
    bad = side.drain()
    side.record(recent(1))
    good = side.drain()
    assert (bad.refused, good.receipted) == (1, 1)
    (refused,) = side.spool.status()["messages"]
    assert (refused["code"], refused["state"]) == ("readings-refused", "refused")
    assert "grid" in refused["reason"]


def test_what_the_bus_refuses_for_now_lets_others_pass(side, bus):
    ahead = wall_ms() + HOUR_MS
    side.record(ahead // 1000 - ahead // 1000 % 900)
    first = side.drain()
    assert first.postponed == 1
    side.record(recent(1))
    assert side.drain().receipted == 1
    bus.clock = lambda: wall_ms() + 2 * HOUR_MS
    side.clock = bus.clock
    assert side.drain().receipted == 1
    assert side.waiting() == 0


@pytest.mark.parametrize("wrong_ms", [-HOUR_MS, 2 * HOUR_MS])
def test_a_wrong_clock_is_told_by_the_signed_refusal_and_the_same_message_goes_through(side, bus, wrong_ms):
    side.clock = lambda: wall_ms() + wrong_ms
    side.record(recent(1))
    drained = side.drain()
    assert (drained.receipted, drained.unanswered) == (1, "")
    assert abs(side.told[0] + wrong_ms) < 5000
    assert len(bus.received) == 2
    ids = {exchange.read(raw).claimed_message_id for raw in bus.received}
    assert len(ids) == 1
    assert side.spool.status()["readings_kept_until_clock_proven"] == 1, "the clock is wrong: it may yet be marked"


def test_a_time_that_does_not_name_our_attempt_sets_no_clock(side, bus):
    """A refusal of an earlier attempt, replayed, would carry an old time (decision 17)."""
    bus.behave = lambda raw, receive: bus.refuse(MessageStale(), *digests(raw), wall_ms() - HOUR_MS)
    side.record(recent(1))
    assert "another attempt" in side.drain().unanswered
    assert side.told == []


def test_a_refusal_of_another_attempt_sets_nothing_aside(side, bus):
    """Any enrolled insider can seal our Body with its own key, is refused for good, and could hand us that."""
    bus.behave = lambda raw, receive: bus.refuse(SourceMismatch(), *digests(raw), wall_ms())
    side.record(recent(1))
    drained = side.drain()
    assert "another attempt" in drained.unanswered
    assert (drained.refused, side.waiting()) == (0, 1)
    bus.behave = lambda raw, receive: receive()
    assert side.drain().receipted == 1


def test_a_bus_that_always_says_stale_does_not_hold_the_queue(side, bus):
    def stale(raw, receive):
        content, _ = digests(raw)
        return bus.refuse(MessageStale(), content, attempt(raw), wall_ms())

    def attempt(raw):
        import base64

        value = shape(raw, DEVICE_LIMITS).signature.findtext("{http://www.w3.org/2000/09/xmldsig#}SignatureValue")
        return hashlib.sha256(base64.b64decode(value)).digest()

    bus.behave = stale
    side.record(recent(1))
    drained = side.drain()
    assert (drained.postponed, len(bus.received)) == (1, 3)


def test_an_unsigned_answer_to_one_message_over_and_over_lets_the_others_try(side, bus):
    """Such as a proxy with a lower limit than the bus."""
    side.record(recent(2), value="1111111")
    bus.behave = lambda raw, receive: (413, b"", {}) if b"1111111" in raw else receive()
    for _ in range(4):
        assert side.drain().unanswered
    side.record(recent(1))
    assert side.drain().receipted == 1


def test_days_of_outage_are_caught_up_oldest_first(side, bus):
    ends = [recent(number) for number in range(4 * 96, 0, -1)]
    for end in ends:
        side.record(end)
    drained = side.drain()
    assert drained.receipted == 1, "one message, cut when the push was due"
    assert [end for _, end in bus.readings()] == ends


def test_a_proxy_from_the_usual_variables_is_used(side, bus, monkeypatch):
    """The bus itself stands in for a proxy: it sees the absolute address."""
    seen = []
    side.record(recent(1))
    monkeypatch.setenv("HTTP_PROXY", bus.url)
    monkeypatch.setenv("http_proxy", bus.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    side.config = replace(side.config, bus=replace(side.config.bus, url="http://bus.invalid"))
    original = bus.post
    bus.post = lambda path, raw, headers: (seen.append(headers["host"]), original(path, raw, headers))[1]
    assert side.drain().receipted == 1
    assert seen == ["bus.invalid"]


def test_back_off_has_full_jitter_and_a_cap():
    assert [backoff_s(n, 2, 600, 1.0) for n in (1, 2, 3, 9, 10, 500)] == [2, 4, 8, 512, 600, 600]
    assert backoff_s(5, 2, 600, 0.25) == 8


def test_message_ids_are_uuidv7():
    made = uuid.UUID(units.uuid7(1_772_323_200_123, bytes(range(10))))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == 1_772_323_200_123
    assert len({new_id() for _ in range(100)}) == 100


def test_tls_files_that_are_none_are_named(tmp_path):
    (tmp_path / "no.pem").write_text("hello")
    with pytest.raises(ConfigInvalid, match="no file of certificates"):
        Transport("https://bus", tls_ca=tmp_path / "no.pem")
