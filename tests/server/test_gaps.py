"""Gaps become requests for data, once, and close when the data arrives: on a real store, without a network."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from gridpost.server import config as settings
from gridpost.server import log_check, own
from gridpost.server.quality.gaps import NAME, Watcher
from gridpost.server.zones import zone_of

from gridpost import exchange, testing
from gridpost.controls import State
from gridpost.model import IntervalBlock, Quality
from gridpost.units import format_utc

Q = 900
NOON = int(datetime(2025, 12, 31, 12, tzinfo=UTC).timestamp())  # twelve hours before the office's clock
CHANNEL = testing.channel(1, "M1")


@pytest.fixture
def ied(post_office):
    return post_office.enrol("IED-1", [CHANNEL])


@pytest.fixture
def bench_of(post_office):
    def make(**sections):
        config = settings.Config(post_office.folder, **sections)
        return own.Bench(post_office.store, post_office.signer, "bus", post_office.clock, zone_of, config)

    return make


@pytest.fixture
def watcher(bench_of, ied):
    made = Watcher(bench_of(quality=settings.Quality(request_after_s=600)))
    made.step()
    return made


@pytest.fixture
def push(post_office, ied):
    """Push values for quarter hours after noon, from number `first` on; None is reported missing."""

    def send(first, *values):
        ends = tuple(NOON + (first + index) * Q for index in range(len(values)))
        missing = (Quality("2.5.259"),)
        qualities = tuple(missing if value is None else () for value in values)
        block = IntervalBlock(CHANNEL.key, Q, ends, values, qualities)
        name = f"m-{post_office.store.status().entries}"
        message = testing.readings_message("IED-1", name, [block], post_office.now)
        assert post_office.receive(testing.sealed(message, ied, post_office.now)).status == 200

    return send


def states(office):
    """(tracking id, state, why) of each control."""
    found = office.store.controls(limit=100)
    return [(one.control.tracking_id, one.state, one.steps[-1].detail) for one in found]


def gap(first, last):
    """The id of a gap from one quarter hour after noon to another, both missing."""
    return f"gap-1-{NOON + (first - 1) * Q}-{NOON + last * Q}"


def test_a_gap_is_asked_for_when_readings_behind_it_come(post_office, watcher, push):
    push(1, "1", "2")
    assert watcher.step().asked == ()
    push(6, "6")
    (asked,) = watcher.step().asked
    assert (asked.serial, asked.tracking_id) == ("IED-1", gap(3, 5))
    (one,) = post_office.store.controls()
    control = one.control
    assert (control.issuer, control.role, control.action, control.target) == (
        "bus", "operator", "request-data", "IED-1",
    )  # fmt: skip
    assert dict(control.data) == {"from": format_utc(NOON + 2 * Q), "to": format_utc(NOON + 5 * Q)}
    assert control.reason == "3 intervals of meter M1, E1, are missing"
    assert control.not_before_utc_ms == post_office.now + 600_000  # what is under way may arrive before
    assert one.state is State.WAITING
    assert watcher.step().entries == 1  # its own entry


def test_it_is_asked_for_once_and_the_log_is_sound(post_office, watcher, push, bench_of):
    push(1, "1")
    push(3, "3")
    watcher.step()
    post_office.store.advance(NAME, {0: -1}, {}, ()).result()  # as after a crash before the cursor was kept
    again = Watcher(bench_of())
    while again.step().entries:
        pass
    assert [name for name, *_ in states(post_office)] == [gap(2, 2)]
    held = log_check.against(post_office.store, {1: CHANNEL.key}, exchange.Trust(post_office.ca.der), post_office.now)
    assert log_check.check(post_office.store, held, (), lambda _done, _of: None).findings == []


def test_data_that_arrives_closes_what_no_ied_has_fetched(post_office, watcher, push):
    push(1, "1")
    push(4, "4")
    watcher.step()
    push(2, "2")
    assert watcher.step().closed == ()  # half of it
    push(3, "3")
    (step,) = watcher.step().closed
    assert step.by == "bus"
    assert states(post_office) == [(gap(2, 3), State.CANCELED, "the data has arrived")]
    assert watcher.step().closed == ()


def test_what_an_ied_has_fetched_is_done_when_the_data_is_here(post_office, watcher, push, bench_of):
    push(1, "1")
    push(3, "3")
    watcher.step()
    post_office.now += 600_000
    given = post_office.store.fetch([("IED-1", 0)], lambda control: b"sealed", post_office.now).result()
    assert given == {"IED-1": b"sealed"}
    push(2, "2")
    fresh = Watcher(bench_of())  # another process leads now: it finds what is waited for
    assert [step.state for step in fresh.step().closed] == [State.DONE]
    assert states(post_office) == [(gap(2, 2), State.DONE, "the data has arrived")]


def test_the_lead_may_go_to_another_process_and_come_back(post_office, watcher, push, bench_of):
    push(1, "1")
    watcher.step()
    other = Watcher(bench_of())
    push(3, "3")
    assert len(other.step().asked) == 1
    assert other.step().entries == 1
    push(2, "2")
    assert [step.state for step in watcher.step().closed] == [State.CANCELED]


def test_an_estimate_closes_nothing_it_is_no_data(post_office, watcher, push, bench_of):
    push(1, "1")
    push(3, "3")
    watcher.step()
    block = IntervalBlock(CHANNEL.key, Q, (NOON + 2 * Q,), ("2",), ((Quality("3.8.0"),),))
    own.record_readings(bench_of(), "t-1", testing.readings_message("bus", "t-1", [block]).readings)
    assert watcher.step().closed == ()
    push(2, "2.5")
    assert [step.state for step in watcher.step().closed] == [State.CANCELED]


def test_nothing_is_asked_that_the_device_says_it_has_not(watcher, push):
    push(1, "1", None, None)
    push(4, "4")
    push(5, None, "6")
    assert watcher.step().asked == ()


def test_what_came_behind_in_the_log_is_no_gap(watcher, push):
    push(1, "1")
    push(3, "3")
    push(2, "2")
    assert watcher.step().asked == ()


def test_a_channels_first_readings_follow_no_gap_and_old_ones_are_not_asked_for(post_office, bench_of, push):
    """31 days before the office's midnight is noon + 12 h - 31 d; two of three intervals end later."""
    young = Watcher(bench_of(quality=settings.Quality(request_days=1)))
    young.step()
    push(-50, "1")
    push(-46, "1")  # -49, -48, -47 are missing; a day before the clock is quarter hour -48 after noon
    (asked,) = young.step().asked
    assert asked.tracking_id == gap(-47, -47)


@pytest.mark.parametrize(
    "sections",
    [
        {"quality": settings.Quality(request_gaps=False)},
        {"commands": settings.Commands(may={"operator": ["shed"]})},
    ],
)
def test_the_settings_can_forbid_it(post_office, bench_of, push, sections):
    quiet = Watcher(bench_of(**sections))
    quiet.step()
    push(1, "1")
    push(3, "3")
    assert quiet.step().asked == ()
    assert states(post_office) == []


def test_a_log_that_is_there_already_is_not_asked_about(bench_of, push):
    push(1, "1")
    push(3, "3")
    fresh = Watcher(bench_of())
    assert fresh.step().entries == 0
    push(4, "4")
    assert fresh.step() == (1, (), ())
