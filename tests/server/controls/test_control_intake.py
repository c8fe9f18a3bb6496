"""Commands come in: groups, thresholds over what is on file, tracking ids, and clocks that are apart (F105)."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from control_office import CUSTOMER, OPERATOR, TENANT, UTILITY
from gridpost.server.config import Commands
from gridpost.server.controls.intake import Asked
from twisted.internet.defer import Deferred, succeed

from gridpost import testing
from gridpost.controls import State
from gridpost.errors import ControlsRefused

MINUTE = 60_000


def codes(refused: pytest.ExceptionInfo[ControlsRefused]) -> list[str]:
    return [item.code for item in refused.value.items]


def test_a_group_becomes_one_control_for_each_of_its_ieds(office):
    for serial in ("IED-1", "IED-2", "IED-3"):
        office.ied(serial)
    office.store.set_group(TENANT, "feeder 7", ["IED-1", "IED-3"])
    made = office.ask(office.wanted("t-1", group="feeder 7", reason="peak"))
    assert [(one.control.target, one.group, one.state) for one in made] == [
        ("IED-1", "feeder 7", State.WAITING),
        ("IED-3", "feeder 7", State.WAITING),
    ]
    assert {(one.control.issuer, one.control.role, one.control.tracking_id, one.control.reason) for one in made} == {
        ("NORTH", "utility", "t-1", "peak")
    }
    assert len({one.control.mrid for one in made}) == 2
    assert office.store.waiting(["IED-1", "IED-2", "IED-3"]) == {"IED-1": 1, "IED-3": 1}


def test_a_group_of_another_tenant_is_none(office):
    office.ied("IED-1")
    office.store.set_tenants("IED-1", [TENANT, "south"])
    office.store.set_group("south", "feeder 7", ["IED-1"])
    with pytest.raises(ControlsRefused) as refused:
        office.ask(office.wanted("t-1", group="feeder 7"))
    assert codes(refused) == ["target-unknown"]


def test_one_bad_control_refuses_the_whole_request_and_every_finding_is_named(office):
    office.ied("IED-1")
    with pytest.raises(ControlsRefused) as refused:
        office.ask(
            office.wanted("good", "IED-1"),
            office.wanted("bad", "IED-1", output=""),
            office.wanted("late", "IED-1", expires_utc_ms=office.post.now),
            office.wanted("nobody"),
        )
    assert codes(refused) == ["output-wrong", "expired", "target-unknown"]
    assert office.store.controls() == []


def test_a_tracking_id_names_one_request_for_ever(office):
    office.ied("IED-1")
    office.ask(office.wanted("t-1", "IED-1"))
    with pytest.raises(ControlsRefused) as refused:
        office.ask(office.wanted("t-1", "IED-1"), office.wanted("t-2", "IED-1"), office.wanted("t-2", "IED-1"))
    assert codes(refused) == ["tracking-id-reused", "tracking-id-reused"]
    assert office.ask(office.wanted("t-1", "IED-1"), issuer=OPERATOR)[0].state is State.WAITING, "another issuer's"


def test_what_was_released_in_the_period_counts_over_requests_issuers_and_time(office):
    office.ied("IED-1")
    office.commands = Commands(most={"shed": 3}, most_all={"shed": 4}, period_s=3600, persons={})

    def states(issuer, *ids):
        return [one.state for one in office.ask(*(office.wanted(name, "IED-1") for name in ids), issuer=issuer)]

    assert states(UTILITY, "1", "2") == [State.WAITING] * 2
    assert states(UTILITY, "3", "4", "5") == [State.WAITING, State.HELD, State.HELD], "the fourth of an issuer is held"
    assert states(OPERATOR, "1", "2") == [State.WAITING, State.HELD], "the fifth of all issuers is held"
    office.post.now += 3600_001
    assert states(UTILITY, "6", "7", "8", "9") == [State.WAITING] * 3 + [State.HELD]


def test_values_count_over_requests(office):
    office.ied("IED-1")
    office.commands = Commands(value={"reduce": "100"})
    reduce = {"action": "reduce", "value": "40", "unit": "kW"}
    made = [office.ask(office.wanted(name, "IED-1", **reduce))[0] for name in ("1", "2", "3")]
    assert [one.state for one in made] == [State.WAITING, State.WAITING, State.HELD]
    assert "120 kW of reduce" in made[2].steps[0].detail


def test_a_proposal_of_a_customer_waits_for_a_person(office):
    office.ied("IED-1")
    (made,) = office.ask(office.wanted("t-1", "IED-1"), issuer=CUSTOMER, counts=False)
    assert made.state is State.PROPOSED
    assert office.store.waiting(["IED-1"]) == {}


def test_requests_that_come_together_are_judged_one_after_the_other(office):
    """Else two of 500 each would both see nothing on file."""
    office.ied("IED-1")
    office.commands = Commands(most={"shed": 1}, persons={})
    intake, under_way, seen = office.intake, Deferred(), []

    def recorded(news):
        seen.append([new.state for new in news])
        done = Deferred()
        under_way.addCallback(lambda _: office.record(news)).addCallback(done.callback)
        return done

    def at_once(news):
        seen.append([new.state for new in news])
        return succeed(None)

    first = Deferred.fromCoroutine(intake.admit(Asked(UTILITY, [office.wanted("1", "IED-1")], True), recorded))
    second = Deferred.fromCoroutine(intake.admit(Asked(UTILITY, [office.wanted("2", "IED-1")], True), at_once))
    assert seen == [[State.WAITING]], "the second one waits until the first is on file"
    under_way.callback(None)
    assert first.called
    assert second.called
    assert seen == [[State.WAITING], [State.HELD]]


def test_a_refused_request_lets_the_next_one_in(office):
    office.ied("IED-1")
    intake = office.intake
    failed = Deferred.fromCoroutine(intake.admit(Asked(UTILITY, [office.wanted("1")], True), succeed))
    failed.addErrback(lambda failure: failure.trap(ControlsRefused))
    done = Deferred.fromCoroutine(intake.admit(Asked(UTILITY, [office.wanted("1", "IED-1")], True), succeed))
    assert done.result[0].state is State.WAITING


# --- F105 ------------------------------------------------------------------------------------------------------------


def calls(office, serial, signer, ahead_ms: int) -> None:
    """Push a reading whose seal says what the IED's clock says."""
    channel = office.store.channels(serial)[0]
    end = office.post.now // 900_000 * 900
    message = testing.readings_message(serial, f"m-{end}", [testing.block(channel, end, ["1.5"])], office.post.now)
    reply = office.post.receive(testing.sealed(message, signer, office.post.now + ahead_ms))
    assert reply.status == 200


def generators(office, gap_ms: int, *names: str):
    noon = office.post.now + 600_000
    start = {"action": "start-generator", "output": "generator"}
    moments = (noon, noon + gap_ms)
    return [
        office.wanted(name, serial, not_before_utc_ms=at, expires_utc_ms=at + 600_000, **start)
        for name, serial, at in zip(names, ("G-1", "G-2"), moments, strict=True)
    ]


@pytest.fixture
def two_generators(office):
    """G-1's clock is right, G-2's is 50 s ahead."""
    office.commands = Commands(persons={})
    for serial, ahead_ms in (("G-1", 0), ("G-2", 50_000)):
        calls(office, serial, office.ied(serial), ahead_ms)
    return office


def test_generators_at_12_00_and_12_01_are_refused_when_their_clocks_are_further_apart(two_generators):
    office = two_generators
    assert [one.state for one in office.ask(*generators(office, MINUTE, "1", "2"))] == [State.WAITING] * 2
    with pytest.raises(ControlsRefused) as refused:
        office.ask(*generators(office, 50_000, "3", "4"))
    (item,) = refused.value.items
    assert item.code == "clocks-apart"
    assert re.match("4: 4 for G-2 follows [13] for G-1 by 50000 ms, and their clocks are 50000 ms apart", item.reason)


def test_or_flagged_where_the_settings_say_so(two_generators):
    office = two_generators
    office.commands = replace(office.commands, clock_gap="hold")
    first, second = office.ask(*generators(office, 49_999, "1", "2"))
    assert (first.state, second.state) == (State.WAITING, State.HELD)
    assert "clocks are 50000 ms apart" in second.steps[0].detail


def test_in_two_requests_too(two_generators):
    office = two_generators
    one, other = generators(office, 30_000, "1", "2")
    office.ask(one)
    with pytest.raises(ControlsRefused) as refused:
        office.ask(other)
    assert codes(refused) == ["clocks-apart"]
