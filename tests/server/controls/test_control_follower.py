"""Outcomes, expiry and mailboxes: what the log's reader makes of what IEDs sign, once and for the right partner."""

from __future__ import annotations

import json

import pytest
from control_office import ANSWER_S, CUSTOMER, OPERATOR, UTILITY
from gridpost.server.config import Commands
from lxml import etree

from gridpost import messages, testing
from gridpost.controls import OUTCOME_EVENT, OUTCOMES, State, Step
from gridpost.model import EndDeviceEvent, Position

DAY = 86_400


def outcome(serial: str, mrid: str, counter, value: str, reason: str = "", at: int = testing.NOW_UTC_MS):
    details = {"control": mrid, "counter": str(counter), "outcome": value, "outcomeReason": reason}
    stated = {name: text for name, text in details.items() if text}
    return EndDeviceEvent(f"{mrid}-{value}", OUTCOME_EVENT, at, asset=serial, details=stated)


def push(office, serial, signer, *events) -> None:
    """Post events as the IED does: signed, through the door."""
    name = f"e-{next(office.numbers)}"
    message = testing.events_message(serial, name, events, office.post.now)
    reply = office.post.receive(testing.sealed(message, signer, office.post.now))
    assert reply.status == 200, reply.body


def content(mail):
    """Decode a mail as a partner would: against the schema."""
    return messages.decode(etree.fromstring(mail.content))


@pytest.fixture
def shed(office):
    """An office, an IED's signer, and a shed the IED has fetched."""
    signer = office.ied("IED-1")
    (made,) = office.ask(office.wanted("t-1", "IED-1"))
    counter, mrid = json.loads(office.fetch("IED-1"))
    assert (counter, mrid) == (1, made.control.mrid)
    office.follow()
    return office, signer, mrid


# --- outcomes --------------------------------------------------------------------------------------------------------


def test_an_outcome_moves_the_control_and_is_mailed_to_its_issuer_once(shed):
    office, signer, mrid = shed
    push(office, "IED-1", signer, outcome("IED-1", mrid, 1, "accepted"), outcome("IED-1", mrid, 1, "done", "opened"))
    assert len(office.follow().steps) == 2
    push(office, "IED-1", signer, outcome("IED-1", mrid, 1, "done", "said again"))
    told = office.follow()
    assert (told.steps, told.strange) == ((), ())
    steps = office.store.control(mrid).steps
    assert [(step.state, step.by) for step in steps] == [
        (State.WAITING, "NORTH"),
        (State.FETCHED, "IED-1"),
        (State.ACCEPTED, "IED-1"),
        (State.DONE, "IED-1"),
    ]
    accepted, done = office.mails(UTILITY)
    assert (accepted.kind, done.kind) == ("outcome-accepted", "outcome-done")
    assert done.correlation_id == "t-1"
    (event,) = content(done).events
    assert (event.asset, event.details["outcome"], event.details["trackingID"]) == ("IED-1", "done", "t-1")
    assert event.details["outcomeReason"] == "opened"
    evidence = office.store.evidence(Position(*map(int, event.details["entry"].split(":"))))
    assert b"opened" in evidence, "the entry named is the IED's own signed message"
    assert office.mails(CUSTOMER) == []


@pytest.mark.parametrize("value", sorted(OUTCOMES))
def test_every_outcome_has_its_state(shed, value):
    office, signer, mrid = shed
    push(office, "IED-1", signer, outcome("IED-1", mrid, 1, value))
    office.follow()
    assert office.state(mrid) is OUTCOMES[value]


def test_a_state_never_moves_back(shed):
    office, signer, mrid = shed
    push(office, "IED-1", signer, outcome("IED-1", mrid, 1, "done"))
    push(office, "IED-1", signer, outcome("IED-1", mrid, 1, "accepted"), outcome("IED-1", mrid, 1, "failed"))
    office.follow()
    assert office.state(mrid) is State.DONE
    assert [mail.kind for mail in office.mails(UTILITY)] == ["outcome-done"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"counter": 2}, "its counter is 1, not 2"),
        ({"counter": ""}, "its counter is 1, not "),
        ({"value": "exploded"}, "there is no outcome exploded"),
        ({"mrid": "0-77-0"}, "there is no such control"),
        ({"mrid": "none"}, "there is no such control"),
    ],
)
def test_an_outcome_that_names_no_control_as_it_was_given_is_strange_and_moves_nothing(shed, change, why):
    office, signer, mrid = shed
    given = {"mrid": mrid, "counter": 1, "value": "done"} | change
    push(office, "IED-1", signer, outcome("IED-1", **given))
    (strange,) = office.follow().strange
    assert (strange.sender, strange.control, strange.why) == ("IED-1", given["mrid"], why)
    assert office.state(mrid) is State.FETCHED
    assert office.mails(UTILITY) == []


def test_another_ieds_word_moves_nothing_and_is_strange(shed):
    office, _, mrid = shed
    push(office, "IED-2", office.ied("IED-2"), outcome("IED-1", mrid, 1, "done"))
    (strange,) = office.follow().strange
    assert (strange.sender, strange.why) == ("IED-2", "it is for IED-1")
    assert office.state(mrid) is State.FETCHED
    assert office.mails(UTILITY) == []


def test_a_step_that_was_kept_and_read_again_changes_nothing(shed):
    """A crash between two steps of the reader repeats one: here the cursor goes back by hand."""
    office, signer, mrid = shed
    push(office, "IED-1", signer, outcome("IED-1", mrid, 1, "done"))
    office.follow()
    office.store.advance("controls", {}, {}, ()).result(timeout=30)
    office.follow()
    assert office.state(mrid) is State.DONE
    assert [mail.kind for mail in office.mails(UTILITY)] == ["outcome-done"]


# --- the bus's own word ----------------------------------------------------------------------------------------------


def test_what_nobody_fetched_in_time_expires_and_the_issuer_is_told(office):
    office.ied("IED-1")
    (made,) = office.ask(office.wanted("t-1", "IED-1", expires_utc_ms=office.post.now + 1000))
    office.follow()
    assert office.state(made.control.mrid) is State.WAITING
    office.post.now += 1000
    assert office.fetch("IED-1") is None, "expired ones are never sealed"
    assert [step.state for step in office.follow().steps] == [State.EXPIRED]
    (mail,) = office.mails(UTILITY)
    assert (mail.kind, mail.correlation_id) == ("step-expired", "t-1")
    assert content(mail).events[0].details["by"] == "bus"
    assert office.follow().steps == ()


@pytest.mark.parametrize("state", [State.FETCHED, State.CANCELED])
def test_what_moves_on_while_the_bus_looks_is_not_told_as_expired(office, monkeypatch, state):
    """A fetch of the last moment, or a cancel, is on file behind the look at what is overdue, before its step."""
    office.ied("IED-1")
    (made,) = office.ask(office.wanted("t-1", "IED-1", expires_utc_ms=office.post.now + 1000))
    moved = Step(made.control.mrid, state, office.post.now, "somebody")
    overdue = office.store.overdue

    def late(by, of):
        found = overdue(by, of)
        if State.WAITING not in of:
            return found
        assert [one.state for one in found] == [State.WAITING]
        assert office.store.step(moved, {State.WAITING})
        return found

    monkeypatch.setattr(office.store, "overdue", late)
    office.post.now += 1000
    assert office.follow().steps == ()
    assert office.state(made.control.mrid) is state
    assert office.mails(UTILITY) == []


def test_what_an_ied_has_does_not_expire_by_the_bus(shed):
    office, _, mrid = shed
    office.post.now += 7_200_000
    office.follow()
    assert office.state(mrid) is State.FETCHED


@pytest.mark.parametrize("accepted", [False, True])
def test_what_an_ied_fetched_and_never_answered_is_unknown_at_last_and_its_issuer_is_told(shed, accepted):
    office, signer, mrid = shed
    if accepted:
        push(office, "IED-1", signer, outcome("IED-1", mrid, 1, "accepted"))
        office.follow()
    office.post.now += 3_600_000 + 1000 * ANSWER_S - 1  # its end, then the margin, but for a millisecond
    assert office.follow().steps == ()
    office.post.now += 1
    (step,) = office.follow().steps
    assert (step.state, step.by) == (State.UNKNOWN, "bus")
    mail = office.mails(UTILITY)[-1]
    assert (mail.kind, mail.correlation_id) == ("step-unknown", "t-1")
    assert "has not said what became of it by 7200 s after its end" in content(mail).events[0].reason
    assert office.follow().steps == ()


@pytest.mark.parametrize("value", ["done", "failed", "refused", "expired", "unknown"])
def test_a_late_word_of_the_ied_still_moves_what_the_bus_gave_up_and_then_no_more(shed, value):
    office, signer, mrid = shed
    office.post.now += 3_600_000 + 1000 * ANSWER_S
    office.follow()
    push(office, "IED-1", signer, outcome("IED-1", mrid, 1, "accepted"), outcome("IED-1", mrid, 1, value, "late"))
    (step,) = office.follow().steps
    assert (step.state, step.by, step.detail) == (OUTCOMES[value], "IED-1", "late")
    assert [mail.kind for mail in office.mails(UTILITY)] == ["step-unknown", f"outcome-{value}"]
    # What the IED itself said last stands, `unknown` too.
    push(office, "IED-1", signer, outcome("IED-1", mrid, 1, "done"))
    if value != "expired":
        assert office.follow().steps == ()
        assert office.state(mrid) is OUTCOMES[value]


def test_of_what_is_held_the_issuer_and_the_operators_of_its_tenant_are_told(office):
    office.ied("IED-1")
    office.commands = Commands(most={"shed": 0})
    office.store.add_partner(OPERATOR._replace(id="SOUTH-OPS", tenant="south"))
    (made,) = office.ask(office.wanted("t-1", "IED-1"))
    told = office.follow()
    assert [one.control.mrid for one in told.held] == [made.control.mrid]
    assert [mail.kind for mail in office.mails(UTILITY)] == ["step-held"]
    (mail,) = office.mails(OPERATOR)
    assert mail.kind == "held-held"
    assert "1 shed of this issuer within 3600 s exceed 0" in content(mail).events[0].reason
    assert office.mails(OPERATOR._replace(id="SOUTH-OPS")) == []
    assert office.mails(CUSTOMER) == []


# --- readings and events of granted usage points ---------------------------------------------------------------------


def read(office, serial, signer, end: int, *values: str, channel: int = 0) -> None:
    of = office.store.channels(serial)[channel]
    name = f"r-{next(office.numbers)}"
    message = testing.readings_message(serial, name, [testing.block(of, end, values)], office.post.now)
    reply = office.post.receive(testing.sealed(message, signer, office.post.now))
    assert reply.status == 200, reply.body


NOON = testing.NOW_UTC_MS // 1000 - 43_200


def values(mail):
    blocks = content(mail).readings.blocks
    return [pair for block in blocks for pair in zip(block.ends_utc, block.values, strict=True)]


def test_readings_go_to_who_is_granted_them_in_log_order_and_as_far_as_the_period_goes(office):
    signer = office.ied("IED-1")
    office.grant(CUSTOMER, "UP-IED-1", "billing", NOON + 900, NOON + 2700)
    read(office, "IED-1", signer, NOON + 2700, "3", "4")
    read(office, "IED-1", signer, NOON + 900, "1", "2")
    office.follow()
    first, second = office.mails(CUSTOMER)
    assert values(first) == [(NOON + 2700, "3")], "the end of the period is inclusive"
    assert values(second) == [(NOON + 1800, "2")], "its beginning is not"
    assert (first.noun, first.kind) == ("MeterReadings", "readings")
    assert content(first).header.source == "bus"
    assert office.mails(UTILITY) == []


def test_a_grant_of_another_kind_or_usage_point_shows_nothing(office):
    signer = office.ied("IED-1")
    office.ied("IED-2")
    office.grant(CUSTOMER, "UP-IED-1", "power-quality")
    office.grant(CUSTOMER, "UP-IED-1", "events")
    office.grant(CUSTOMER, "UP-IED-2", "billing")
    read(office, "IED-1", signer, NOON, "1")
    office.follow()
    assert office.mails(CUSTOMER) == []


def test_a_value_in_conflict_is_not_told(office):
    signer = office.ied("IED-1")
    office.grant(CUSTOMER, "UP-IED-1", "billing")
    read(office, "IED-1", signer, NOON, "1")
    read(office, "IED-1", signer, NOON, "2")
    office.follow()
    (mail,) = office.mails(CUSTOMER)
    assert values(mail) == [(NOON, "1")]


def test_events_go_to_who_is_granted_the_usage_point_of_the_meter(office):
    channels = [testing.channel(meter="A"), testing.channel(meter="B")]
    signer = office.ied("IED-1", *channels)
    office.grant(CUSTOMER, "UP-A", "events")
    office.grant(UTILITY, "UP-B", "events")
    at = office.post.now - 1000
    push(
        office, "IED-1", signer,
        EndDeviceEvent("a", "3.26.0.185", at, asset="A"),
        EndDeviceEvent("b", "3.26.0.185", at, asset="B"),
        EndDeviceEvent("all", "3.26.0.185", at, asset="IED-1"),
    )  # fmt: skip
    office.follow()
    (mail,), (other,) = office.mails(CUSTOMER), office.mails(UTILITY)
    assert [event.mrid for event in content(mail).events] == ["a", "all"]
    assert [event.mrid for event in content(other).events] == ["b", "all"]


def test_an_outcome_is_seen_with_a_grant_of_commands_and_by_its_issuer_once(shed):
    office, signer, mrid = shed
    for partner in (UTILITY, CUSTOMER):
        office.grant(partner, "UP-IED-1", "commands")
        office.grant(partner, "UP-IED-1", "events")
    push(office, "IED-1", signer, outcome("IED-1", mrid, 1, "done", at=office.post.now))
    office.follow()
    assert [mail.kind for mail in office.mails(UTILITY)] == ["outcome-done"]
    assert [mail.kind for mail in office.mails(CUSTOMER)] == ["commands"]


def test_a_partner_that_is_none_any_more_gets_nothing(office):
    signer = office.ied("IED-1")
    office.grant(CUSTOMER, "UP-IED-1", "billing")
    office.store.set_partner(CUSTOMER._replace(valid_to_utc_ms=office.post.now))
    read(office, "IED-1", signer, NOON, "1")
    office.follow()
    assert office.mails(CUSTOMER) == []


def test_a_log_that_was_there_before_is_no_mail(office):
    signer = office.ied("IED-1")
    office.grant(CUSTOMER, "UP-IED-1", "billing")
    read(office, "IED-1", signer, NOON, "1")
    office.follower.begin()
    read(office, "IED-1", signer, NOON + 900, "2")
    office.follower.begin()
    office.follow()
    assert [values(mail) for mail in office.mails(CUSTOMER)] == [[(NOON + 900, "2")]]


def test_steps_of_a_batch_are_kept_in_the_order_they_were_said(office):
    signer = office.ied("IED-1")
    made = office.ask(office.wanted("t-1", "IED-1"), office.wanted("t-2", "IED-1", priority=0))
    urgent, plain = made[1].control.mrid, made[0].control.mrid
    assert json.loads(office.fetch("IED-1")) == [1, urgent], "the most urgent first"
    assert json.loads(office.fetch("IED-1")) == [1, urgent], "and again the same until the counter has passed it"
    assert json.loads(office.fetch("IED-1", after=1)) == [2, plain]
    push(office, "IED-1", signer, outcome("IED-1", plain, 2, "refused", "no"), outcome("IED-1", urgent, 1, "accepted"))
    push(office, "IED-1", signer, outcome("IED-1", urgent, 1, "unknown"))
    office.follow()
    assert office.store.control(plain).steps[-1] == Step(plain, State.REFUSED, testing.NOW_UTC_MS, "IED-1", "no")
    assert [step.state.value for step in office.store.control(urgent).steps[2:]] == ["accepted", "unknown"]
