"""The desk: fetches that come together, fetches kept open, what wakes and ends them; on a clock turned by hand."""

from __future__ import annotations

import queue

import pytest
from gridpost.server.controls.desk import Desk
from lxml import etree
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from gridpost import control_messages
from gridpost.controls import State, Step
from gridpost.errors import StoreUnavailable

CERTIFICATE = b"a device's"


class Loop(Clock):
    """A reactor's clock, and what other threads hand to it."""

    def __init__(self) -> None:
        super().__init__()
        self.handed: queue.Queue = queue.Queue()

    def callFromThread(self, function, *args):
        self.handed.put((function, args))

    def turn(self) -> None:
        """Run what is due, then take one thing that the writer's thread hands over."""
        self.advance(0)
        function, args = self.handed.get(timeout=30)
        function(*args)
        self.advance(0)


class House:
    """A desk on an office's store."""

    def __init__(self, office) -> None:
        self.office, self.loop = office, Loop()
        self.desk = Desk(office.store, "bus", lambda body, now, certificate: body, office.post.clock, self.loop)
        self.desk.most = 100
        self.desk.look()

    def fetch(self, serial: str = "IED-1", after: int = 0, wait_s: int = 0):
        """Begin a fetch; the list gets its answer: the counter given, or None."""
        told: list = []

        def tell(body):
            told.append(None if body is None else control_messages.decode_control(etree.fromstring(body)).counter)

        Deferred.fromCoroutine(self.desk.fetch(serial, after, wait_s, CERTIFICATE)).addCallback(tell)
        return told

    def waiting(self, serial: str = "IED-1", after: int = 0, wait_s: int = 300):
        """Begin a fetch that finds nothing and is kept open."""
        told = self.fetch(serial, after, wait_s)
        self.loop.turn()
        assert told == []
        return told


@pytest.fixture
def house(office):
    for serial in ("IED-1", "IED-2"):
        office.ied(serial)
    return House(office)


def test_nothing_waits_and_nobody_asked_to_wait(house):
    told = house.fetch()
    house.loop.turn()
    assert told == [None]
    assert house.desk.held == 0


def test_what_begins_to_wait_wakes_the_fetch_that_is_open_and_no_other(house):
    one, other = house.waiting("IED-1"), house.waiting("IED-2")
    house.desk.look()
    assert house.desk.held == 2
    house.office.ask(house.office.wanted("t", "IED-1"))
    house.desk.look()
    house.loop.turn()
    assert (one, other) == ([1], [])
    assert house.desk.held == 1


def test_a_group_wakes_all_of_it_with_one_job_of_the_store(house):
    jobs = []
    fetch = house.office.store.fetch
    house.office.store.fetch = lambda asked, *rest: jobs.append(len(asked)) or fetch(asked, *rest)
    one, other = house.waiting("IED-1"), house.waiting("IED-2")
    jobs.clear()
    house.office.ask(house.office.wanted("t", "IED-1", "IED-2"))
    house.desk.look()
    house.loop.turn()
    assert (one, other, jobs) == ([1], [1], [2])


def test_a_fetch_ends_when_its_time_is_up_and_not_before(house):
    told = house.waiting(wait_s=300)
    house.loop.advance(299.9)
    assert told == []
    house.loop.advance(0.2)
    assert told == [None]
    assert (house.desk.held, house.loop.getDelayedCalls()) == (0, [])


def test_what_is_released_between_the_question_and_the_wait_is_not_missed(house):
    told = house.fetch(wait_s=300)
    house.loop.advance(0)
    function, args = house.loop.handed.get(timeout=30)  # the store has said: nothing
    house.office.ask(house.office.wanted("t", "IED-1"))
    house.desk.look()  # sees that something begins to wait, when nobody waits yet
    function(*args)
    assert told == []
    house.desk.look()
    house.loop.turn()
    assert told == [1]


def test_what_is_taken_back_before_the_fetch_has_it_leaves_the_fetch_open(house):
    told = house.waiting()
    (made,) = house.office.ask(house.office.wanted("t", "IED-1"))
    house.desk.look()
    taken = Step(made.control.mrid, State.CANCELED, house.office.post.now, "NORTH")
    assert house.office.store.step(taken, {State.WAITING})
    house.loop.turn()
    assert (told, house.desk.held) == ([], 1)
    house.office.ask(house.office.wanted("t-2", "IED-1"))
    house.desk.look()
    house.loop.turn()
    assert told == [1]


def test_a_newer_fetch_of_a_device_takes_the_place_of_its_older_one(house):
    older = house.waiting()
    newer = house.waiting()
    assert (older, newer, house.desk.held) == ([None], [], 1)


def test_at_the_end_every_fetch_is_answered_and_none_waits_any_more(house):
    one, other = house.waiting("IED-1"), house.waiting("IED-2")
    house.desk.stop()
    assert (one, other) == ([None], [None])
    late = house.fetch(wait_s=300)
    house.loop.turn()
    assert late == [None]
    assert house.loop.getDelayedCalls() == []


def test_beyond_the_limit_a_fetch_is_answered_at_once(house):
    house.desk.most = 1
    house.waiting("IED-1")
    told = house.fetch("IED-2", wait_s=300)
    house.loop.turn()
    assert told == [None]


def test_two_fetches_of_one_device_each_get_what_their_counter_asks_for(house):
    house.office.ask(house.office.wanted("1", "IED-1"), house.office.wanted("2", "IED-1"))
    house.fetch()
    house.loop.turn()
    again, on = house.fetch(after=0), house.fetch(after=1)
    house.loop.turn()
    house.loop.turn()
    assert (again, on) == ([1], [2])


def test_what_waits_is_told_as_a_hint(house):
    assert house.desk.waiting("IED-1") == 0
    house.office.ask(house.office.wanted("1", "IED-1"), house.office.wanted("2", "IED-1"))
    house.desk.look()
    assert (house.desk.waiting("IED-1"), house.desk.waiting("IED-2")) == (2, 0)
    house.office.fetch("IED-1")
    assert house.desk.waiting("IED-1") == 1
    house.office.fetch("IED-1", after=1)
    house.desk.look()
    assert house.desk.waiting("IED-1") == 0


def test_a_look_that_fails_is_made_up_for_by_the_next_one(house, monkeypatch):
    told = house.waiting()
    house.office.ask(house.office.wanted("t", "IED-1"))
    with monkeypatch.context() as patched:
        patched.setattr(house.office.store, "waiting", lambda serials: {}[serials[0]])
        house.desk.look()
    house.desk.look()
    house.loop.turn()
    assert told == [1]


def test_a_failing_store_costs_a_hint_and_a_line_not_a_traceback(house, monkeypatch):
    house.office.ask(house.office.wanted("1", "IED-1"))
    house.desk.look()
    assert house.desk.waiting("IED-1") == 1
    told: list = []
    globalLogPublisher.addObserver(told.append)
    try:
        with monkeypatch.context() as broken:
            broken.setattr(house.office.store, "waiting", _fails)
            broken.setattr(house.office.store, "waiting_mark", _fails)
            assert house.desk.waiting("IED-1") == 0
            house.desk.look()
    finally:
        globalLogPublisher.removeObserver(told.append)
    ours = [event for event in told if event["log_namespace"].endswith("controls.desk")]
    assert [event["why"] for event in ours] == ["disk I/O error"] * 2
    assert not any("log_failure" in event for event in ours)
    house.desk.look()
    assert house.desk.waiting("IED-1") == 1


def _fails(*_):
    raise StoreUnavailable(detail="disk I/O error")


def test_a_store_that_fails_fails_the_fetch(house):
    house.office.store.close()
    failed: list = []
    Deferred.fromCoroutine(house.desk.fetch("IED-1", 0, 0, CERTIFICATE)).addErrback(failed.append)
    house.loop.turn()
    assert failed[0].check(StoreUnavailable)
