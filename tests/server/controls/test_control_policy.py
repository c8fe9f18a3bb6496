"""Roles, persons and thresholds of commands: who may ask, what waits for a person, what is held."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from gridpost.server.config import Commands
from gridpost.server.controls import policy
from gridpost.server.controls.policy import First, Load, Sum

from gridpost.controls import Control, Role, State, Step, Wanted
from gridpost.errors import ControlMoved

NOW = 1_767_225_600_000
SHED = Wanted("t-1", "shed", ("IED-1",), output="load", expires_utc_ms=NOW + 1000)
REDUCE = SHED._replace(action="reduce", value="12.5", unit="kW")
PLAIN = Commands(most={"shed": 500}, most_all={"shed": 700}, persons={})


def codes(wanted: Wanted, role: Role = Role.UTILITY, commands: Commands = PLAIN) -> list[str]:
    return [item.code for item in policy.check_wanted(wanted, role, commands, NOW)]


# --- roles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "action", "permitted"),
    [
        (Role.UTILITY, "trip", True),
        (Role.SUPPLIER, "shed", True),
        (Role.SUPPLIER, "trip", False),
        (Role.CUSTOMER, "billing-reset", True),
        (Role.THIRD_PARTY, "request-data", True),
        (Role.THIRD_PARTY, "shed", False),
    ],
)
def test_a_role_may_ask_for_what_roles_are_for(role, action, permitted):
    assert (action in policy.may(role, PLAIN)) is permitted


def test_the_settings_narrow_what_a_role_may_and_never_widen_it():
    narrowed = replace(PLAIN, may={"supplier": ["shed", "trip"]})
    assert policy.may(Role.SUPPLIER, narrowed) == {"shed"}
    assert policy.may(Role.CUSTOMER, narrowed) == policy.may(Role.CUSTOMER, PLAIN)
    assert policy.may(Role.SUPPLIER, replace(PLAIN, may={"supplier": []})) == set()
    assert codes(SHED._replace(action="restore"), Role.SUPPLIER, narrowed) == ["action-not-permitted"]


# --- one control -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"action": "explode"}, ["action-unknown"]),
        ({"output": ""}, ["output-wrong"]),
        ({"action": "time-sync", "output": "load"}, ["output-wrong"]),
        ({"action": "time-sync", "output": ""}, []),
        ({"value": "1", "unit": "kW"}, ["value-wrong"]),
        ({"action": "reduce"}, ["value-wrong"]),
        ({"action": "reduce", "value": "1", "unit": "MW"}, ["value-wrong"]),
        ({"action": "reduce", "value": "-1", "unit": "kW"}, ["value-wrong"]),
        ({"action": "reduce", "value": "1e3", "unit": "kW"}, ["value-wrong"]),
        ({"action": "reduce", "value": "0", "unit": "kW"}, []),
        ({"expires_utc_ms": NOW}, ["expired"]),
        ({"expires_utc_ms": NOW + 1, "not_before_utc_ms": NOW + 1}, ["times-wrong"]),
        ({"priority": 10}, ["priority-wrong"]),
        ({"output": "", "expires_utc_ms": NOW - 1}, ["output-wrong", "expired"]),
    ],
)
def test_what_speaks_against_a_control_is_named_all_of_it(changes, found):
    assert codes(SHED._replace(**changes)) == found


def test_a_control_without_an_end_gets_one_from_when_it_may_be_acted_on():
    commands = replace(PLAIN, life_s=60)
    bare = SHED._replace(expires_utc_ms=0)
    assert policy.lasting(bare, commands, NOW).expires_utc_ms == NOW + 60_000
    later = bare._replace(not_before_utc_ms=NOW + 5000)
    assert policy.lasting(later, commands, NOW).expires_utc_ms == NOW + 65_000
    assert policy.lasting(SHED, commands, NOW) == SHED


# --- thresholds ------------------------------------------------------------------------------------------------------

NONE = Load()


def first(action: str, more: Sum, load: Load = NONE, commands: Commands = PLAIN, *, counts: bool = True) -> First:
    return policy.first(action, more, load, commands, counts=counts)


def test_the_501st_command_under_a_threshold_of_500_is_held():
    assert first("shed", Sum(1), Load(Sum(499), Sum(499))).state is State.WAITING
    held = first("shed", Sum(1), Load(Sum(500), Sum(500)))
    assert held.state is State.HELD
    assert "501 shed of this issuer" in held.detail
    assert first("restore", Sum(1), Load(Sum(500), Sum(500))).state is State.WAITING, "another action has its own"


def test_a_group_is_one_decision_and_is_held_as_a_whole():
    wanted = SHED._replace(group="feeder 7")
    assert first("shed", policy.asked(wanted, 500)).state is State.WAITING
    assert first("shed", policy.asked(wanted, 501)).state is State.HELD


def test_all_issuers_together_have_a_threshold_of_their_own():
    assert first("shed", Sum(1), Load(Sum(0), Sum(699))).state is State.WAITING
    held = first("shed", Sum(1), Load(Sum(0), Sum(700)))
    assert held.state is State.HELD
    assert "701 shed of all issuers" in held.detail


def test_values_are_summed_exactly():
    commands = replace(PLAIN, value={"reduce": "0.3"}, value_all={"reduce": "1"})
    tenth = policy.asked(REDUCE._replace(value="0.1"), 1)
    two = Load(Sum.of(2, "0.2"), Sum.of(2, "0.2"))
    assert first("reduce", tenth, two, commands).state is State.WAITING, "0.1 and 0.2 are 0.3"
    held = first("reduce", policy.asked(REDUCE._replace(value="0.10000000000000001"), 1), two, commands)
    assert held.state is State.HELD
    assert "0.30000000000000001 kW of reduce of this issuer" in held.detail
    assert policy.asked(REDUCE, 4) == Sum(4, Decimal(50))
    others = Load(Sum(), Sum.of(1, "0.95"))
    assert "of all issuers" in first("reduce", tenth, others, commands).detail


def test_without_a_signature_it_is_a_proposal_and_beyond_a_threshold_held_all_the_same():
    assert first("shed", Sum(1), counts=False).state is State.PROPOSED
    assert first("shed", Sum(501), counts=False).state is State.HELD


def test_a_policy_names_what_persons_must_release():
    commands = replace(PLAIN, persons={"trip": 2})
    assert first("trip", Sum(1), commands=commands) == First(State.PROPOSED, "trip must be released by 2 persons")
    assert first("shed", Sum(1), commands=commands).state is State.WAITING


# --- persons ---------------------------------------------------------------------------------------------------------

CONTROL = Control("0-1-0", "NORTH", "utility", "t-1", "trip", "IED-1", output="relay", expires_utc_ms=NOW + 1000)
TWO = replace(PLAIN, persons={"trip": 2})


def began(state: State) -> tuple[Step, ...]:
    return (Step("0-1-0", state, NOW - 5, "NORTH", "why"),)


@pytest.mark.parametrize("state", [State.PROPOSED, State.HELD])
def test_two_persons_release_and_neither_twice(state):
    steps = began(state)
    one = policy.released(CONTROL, steps, "Ann", TWO, NOW)
    assert one == Step("0-1-0", state, NOW, "Ann", policy.FIRST_OF_TWO)
    steps += (one,)
    for same in ("Ann", "ann", " ANN ", "\uff21nn"):
        with pytest.raises(ControlMoved):
            policy.released(CONTROL, steps, same, TWO, NOW)
    other = policy.released(CONTROL, steps, "Bob", TWO, NOW)
    assert other == Step("0-1-0", State.WAITING, NOW, "Bob", "released")


def test_a_partner_with_a_persons_name_is_no_first_person():
    steps = (Step("0-1-0", State.PROPOSED, NOW - 5, "Ann", "trip must be released by 2 persons"),)
    assert policy.released(CONTROL, steps, "Bob", TWO, NOW).state is State.PROPOSED


def test_what_one_person_is_enough_for_waits_at_once():
    assert policy.released(CONTROL, began(State.HELD), "Ann", PLAIN, NOW).state is State.WAITING


def test_a_release_before_it_was_held_again_counts_no_longer():
    steps = (
        *began(State.PROPOSED),
        Step("0-1-0", State.PROPOSED, NOW - 4, "Ann", policy.FIRST_OF_TWO),
        Step("0-1-0", State.HELD, NOW - 3, "Eve", "held"),
    )
    assert policy.released(CONTROL, steps, "Ann", TWO, NOW).state is State.HELD


@pytest.mark.parametrize("state", [one for one in State if one not in policy.NOT_RELEASED])
def test_what_waits_for_nobody_is_not_released(state):
    with pytest.raises(ControlMoved, match=state.value):
        policy.released(CONTROL, began(state), "Ann", TWO, NOW)


def test_what_has_expired_is_not_released():
    with pytest.raises(ControlMoved, match="expired"):
        policy.released(CONTROL, began(State.HELD), "Ann", PLAIN, NOW + 1000)
