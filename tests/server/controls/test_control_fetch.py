"""A fetch through the corridor: who may, how old it may be, what the answer is, and that nothing of it is kept."""

from __future__ import annotations

import asyncio

import pytest
from control_office import Office
from gridpost.server.receipts import seal_answer
from gridpost.server.reception import Arrival, Reception
from gridpost.server.store import NewKey

from gridpost import check, control_messages, exchange
from gridpost.model import Header

MINUTE = 60_000


class StraightDesk:
    """The store's fetch without a reactor; says what it was asked for."""

    def __init__(self, office: Office) -> None:
        self.office, self.asked = office, []

    async def fetch(self, serial, after, wait_s, certificate):
        self.asked.append((serial, after, wait_s))
        now = self.office.post.now

        def seal(control):
            return seal_answer(self.office.post.signer, control_messages.encode_control(control, "bus", now), now)

        return self.office.store.fetch([(serial, after)], seal, now).result(30)[serial]

    def waiting(self, serial):
        return self.office.store.waiting([serial]).get(serial, 0)


@pytest.fixture
def desk(office):
    return StraightDesk(office)


def ask(desk, signer, *, after=0, wait_s=0, transport=check.HTTP, age_ms=0):
    """Send a fetch of IED-1; return the reply."""
    office = desk.office
    header = Header("get", "EndDeviceControls", office.post.now, "IED-1", f"get-{next(office.numbers)}")
    raw = exchange.seal(control_messages.encode_get_controls(header, after, wait_s), signer, office.post.now - age_ms)
    post = office.post.reception()._post
    door = Reception(post, office.post.audit, office.post.worker, desk)
    return header, asyncio.run(door.receive(raw, Arrival(transport, "192.0.2.7:49152")))


def opened(desk, reply):
    return exchange.open_control(reply.body, exchange.Trust(desk.office.post.ca.der))


def test_a_fetch_is_answered_with_one_control_or_none_and_leaves_no_entry(office, desk):
    signer = office.ied("IED-1")
    header, reply = ask(desk, signer, wait_s=30)
    told = opened(desk, reply)
    assert (reply.status, told.control, told.correlation_id) == (200, None, header.message_id)
    (made, urgent) = office.ask(office.wanted("1", "IED-1"), office.wanted("2", "IED-1", priority=0))
    before = office.store.version()
    _, reply = ask(desk, signer)
    told = opened(desk, reply)
    assert (told.control.mrid, told.control.counter, told.correlation_id) == (urgent.control.mrid, 1, told.control.mrid)
    assert reply.waiting == 1, "the other one"
    assert ask(desk, signer)[1].body == reply.body
    assert opened(desk, ask(desk, signer, after=1)[1]).control.mrid == made.control.mrid
    assert office.store.version() == before
    assert desk.asked[0] == ("IED-1", 0, 30)


def test_a_fetch_that_came_by_mail_is_not_kept_waiting(office, desk):
    ask(desk, office.ied("IED-1"), wait_s=30, transport=check.MAIL)
    assert desk.asked == [("IED-1", 0, 0)]


def test_an_old_fetch_is_refused_and_gives_nothing(office, desk):
    signer = office.ied("IED-1")
    office.ask(office.wanted("1", "IED-1"))
    _, reply = ask(desk, signer, age_ms=16 * MINUTE)
    assert opened(desk, reply).refusal.code == "message-stale"
    assert desk.asked == []


@pytest.mark.parametrize(("rights", "code"), [(["readings"], "right-missing"), (["commands"], "")])
def test_a_key_fetches_commands_only_with_that_right(office, desk, rights, code):
    office.ied("IED-1")
    key = office.post.certify("IED-1")
    office.store.add_key("IED-1", NewKey(key.certificate, "service", rights))
    told = opened(desk, ask(desk, key)[1])
    assert (told.refusal.code if told.refusal else "") == code
    assert bool(desk.asked) is not bool(code)
