"""Readings and prices watched through a real store: events, proposals, and nothing twice."""

from __future__ import annotations

import pytest
from customer_place import MIDNIGHT, CustomerPlace, tariff
from gridpost.server import log_check
from gridpost.server.controls.follower import Follower

from gridpost import exchange, testing
from gridpost.controls import Role, State
from gridpost.model import ChannelKey
from gridpost.partners import Grant, Partner

QUARTER = 900
PULSES = ChannelKey("UP-M1", "M1", "pulses", "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.0.111.0")


@pytest.fixture
def place(post_office):
    """A customer of A at 0.10 EUR a kWh, from midnight on 1 January 2026."""
    made = CustomerPlace(post_office)
    made.offer(tariff("A", "0.10"))
    made.contract("A")
    return made


def step(watcher, place):
    return watcher.step(place.post.now)


def test_an_excess_is_an_event_in_the_log_and_a_control_that_waits_for_a_person(place):
    watcher = place.watcher(most_kw="12", on_excess="reduce", level_kw="5")
    # 2, 4 and 3.5 kWh in a quarter of an hour are 8, 16 and 14 kW: above 12 from the second on, told once.
    place.push(MIDNIGHT + QUARTER, "2", "4", "3.5")
    found = step(watcher, place)
    assert [(contract, one.bound, str(one.value)) for contract, one in found.findings] == [("C-1", "most_kw", "16.0")]
    (event,) = place.events()
    assert (event.event_type, event.created_utc_ms, event.asset) == ("3.8.0.93", (MIDNIGHT + 1800) * 1000, "M1")
    assert event.details == {"contract": "C-1", "kind": "excess", "bound": "most_kw", "value": "16.0", "limit": "12",
                             "unit": "kW"}  # fmt: skip
    (control,) = place.controls()
    assert (control.state, control.control.action, control.control.value) == (State.PROPOSED, "reduce", "5")
    assert (control.control.target, control.control.output, control.control.role) == ("IED-1", "load", "operator")
    assert control.steps[0].detail == "proposed by a policy; a person must release it"
    assert "16.0 kW, above 12 kW" in control.control.reason


def test_a_policy_may_release_what_it_proposes(place):
    watcher = place.watcher(least_kw="1", on_shortage="start-generator", release=True)
    place.push(MIDNIGHT + QUARTER, "0.1")
    step(watcher, place)
    (control,) = place.controls()
    assert (control.state, control.control.action) == (State.WAITING, "start-generator")
    assert place.events()[0].event_type == "3.8.0.150"


def test_persons_of_the_settings_are_needed_all_the_same(place):
    watcher = place.watcher(most_kw="1", on_excess="trip", release=True)
    place.push(MIDNIGHT + QUARTER, "1")
    step(watcher, place)
    (control,) = place.controls()
    assert control.state is State.PROPOSED
    assert "2 persons" in control.steps[0].detail


def test_what_was_judged_is_not_judged_again_and_a_step_taken_again_changes_nothing(place):
    watcher = place.watcher(most_kw="12", on_excess="shed")
    place.push(MIDNIGHT + QUARTER, "4")
    version, state = place.store.cursor("watch")
    step(watcher, place)
    entries = place.store.version()
    assert step(watcher, place).findings == ()  # its own entries are behind the cursor now
    place.store.advance("watch", version, state, ()).result()  # as if the process had died before the cursor moved
    assert len(step(place.watcher(most_kw="12", on_excess="shed"), place).findings) == 1
    assert place.store.version() == entries
    place.push(MIDNIGHT + 2 * QUARTER, "1", "5")
    assert [one.end_utc for _, one in step(watcher, place).findings] == [MIDNIGHT + 3 * QUARTER]
    assert len(place.controls()) == 2


def test_money_of_a_day_counts_by_the_tariff_in_force(place):
    watcher = place.watcher(most_a_day="0.55")
    place.push(MIDNIGHT + QUARTER, "2", "3", "1")  # 0.20, 0.50, 0.60
    ((_, finding),) = step(watcher, place).findings
    assert (finding.end_utc, str(finding.value)) == (MIDNIGHT + 3 * QUARTER, "0.60")
    assert place.events()[0].details["unit"] == "EUR"


def test_a_contract_that_is_not_there_is_told_and_holds_up_no_other(place, post_office):
    from gridpost.server.choice.policies import Watch
    from gridpost.server.choice.watching import Watcher

    watcher = Watcher(place.bench, [Watch(contract="C-9"), Watch(contract="C-1", most_kw="1")])
    place.push(MIDNIGHT + QUARTER, "4")
    found = step(watcher, place)
    assert [one[:2] for one in found.failed] == [("C-9", "not-found")]
    assert len(found.findings) == 1


def test_the_log_with_events_and_controls_of_the_bus_is_whole(place):
    watcher = place.watcher(most_kw="12", on_excess="shed")
    place.push(MIDNIGHT + QUARTER, "4")
    step(watcher, place)
    keys = {one.id: one.key for one in place.store.channels()}
    held = log_check.against(place.store, keys, exchange.Trust(place.post.ca.der), place.post.now)
    assert list(log_check.check(place.store, held, (), lambda _done, _of: None).findings) == []


def test_what_is_unusual_is_measured_by_four_weeks_before(place):
    watcher = place.watcher(times_usual="3", on_anomaly="shed")
    for day in range(14, 0, -1):  # fourteen days of 1 kWh in each quarter of an hour
        place.push(MIDNIGHT - day * 86_400 + QUARTER, *["1"] * 96)
    assert step(watcher, place).findings == ()
    place.push(MIDNIGHT + QUARTER, "3", "3.1")
    ((_, finding),) = step(watcher, place).findings
    assert (finding.kind, finding.end_utc, finding.limit) == ("anomaly", MIDNIGHT + 2 * QUARTER, 3)
    assert place.events()[0].event_type == "3.8.0.36"


def test_nothing_new_within_a_minute_asks_for_nothing(place):
    watcher = place.watcher(limits=LIMITS)
    at(place, 0)
    step(watcher, place)
    place.post.now += 59_000
    place.offer(tariff("A", "0.90"))
    assert step(watcher, place).decided == ()  # entries came, but prices are looked at each minute
    place.post.now += 1_000
    assert [action for _, action, _ in step(watcher, place).decided] == ["shed"]


def test_money_counts_from_the_contracts_first_moment(place):
    place.contract("A", number="C-2", from_utc=MIDNIGHT + QUARTER)
    place.contract("A", to_utc=MIDNIGHT + QUARTER)
    watcher = place.watcher(contract="C-2", most_a_cycle="0.25")
    place.push(MIDNIGHT + QUARTER, "9", "2", "1")  # 0.90 was another's; 0.20, 0.30
    assert [(one.end_utc, str(one.value)) for _, one in step(watcher, place).findings] == [
        (MIDNIGHT + 3 * QUARTER, "0.30"),
    ]  # fmt: skip


def test_readings_are_judged_as_they_come_not_by_the_minute(place):
    watcher = place.watcher(most_kw="12")
    at(place, 2)
    place.push(MIDNIGHT + QUARTER, "1")
    assert step(watcher, place).findings == ()
    assert place.store.cursor("watch")[0] == place.store.version()
    place.push(MIDNIGHT + 2 * QUARTER, "4")  # in the same second
    assert [one.end_utc for _, one in step(watcher, place).findings] == [MIDNIGHT + 2 * QUARTER]


# F53, F54: a channel of pulse counts, 12.5 Wh each, is translated here: 240 in a quarter of an hour are 3 kWh, 12 kW.
def test_pulses_are_translated_priced_and_watched(post_office):
    counts = testing.channel(1, "M1", unit="count", key=PULSES)
    place = CustomerPlace(post_office, counts)
    place.offer(tariff("A", "0.10"))
    place.contract("A")
    watcher = place.watcher(most_kw="11.9", most_a_day="0.29", pulse_kwh="0.0125")
    place.push(MIDNIGHT + QUARTER, "240")
    found = [(one.bound, str(one.value)) for _, one in step(watcher, place).findings]
    assert found == [("most_a_day", "0.300000"), ("most_kw", "12.0000")]
    place.push(MIDNIGHT + 2 * QUARTER, "10")
    assert step(place.watcher(most_kw="11"), place).failed[0][1] == "bill-refused"  # nobody says what one is worth


# --- prices ---

LIMITS = "06:00-18:00 0.80, 18:00-06:00 0.60"


def at(place, hour):
    place.post.now = (MIDNIGHT + int(hour * 3600)) * 1000


def actions(place):
    return [one.control.action for one in place.controls()]


# F64: 0.70 is above 0.60 at night, not above 0.80 by day: off at 00:00, on at 06:00, off at 18:00; nothing between.
def test_a_load_is_shed_while_the_price_is_above_the_limit_in_force(place):
    place.offer(tariff("A", "0.70"))
    watcher = place.watcher(limits=LIMITS, release=True)
    said = []
    for hour in (0, 1, 5, 6, 12, 17, 18, 23):
        at(place, hour)
        said.append([action for _, action, _ in step(watcher, place).decided])
    assert said == [["shed"], [], [], ["restore"], [], [], ["shed"], []]
    assert [one.state for one in place.controls()] == [State.WAITING] * 3
    assert "costs 0.70 EUR, above the limit of 0.60" in place.controls()[0].control.reason


def test_a_price_at_the_limit_sheds_nothing(place):
    place.offer(tariff("A", "0.60", day="0.80"))
    watcher = place.watcher(limits=LIMITS)
    for hour in (0, 6, 12, 18):
        at(place, hour)
        assert step(watcher, place).decided == ()


# F59, F65: B asks less than the limit: switching comes before shedding; without leave to switch it is shed.
def test_a_cheaper_supplier_is_proposed_first(place):
    place.offer(tariff("A", "0.90"), tariff("B", "0.55"), tariff("C", "0.58"))
    at(place, 0)
    step(place.watcher(limits=LIMITS), place)
    (control,) = place.controls()
    assert (control.control.action, control.state) == ("switch-supplier", State.PROPOSED)
    assert control.control.data == (("contract", "C-1"), ("suppliers", "B"))
    assert control.control.reason == "a kWh from B costs 0.55 EUR, within the limit of 0.60"
    assert (control.control.output, control.control.value) == ("", "")


def test_a_supplier_that_may_not_be_switched_to_is_not(place):
    place.offer(tariff("A", "0.90"), tariff("B", "0.55"))
    at(place, 0)
    step(place.watcher(limits=LIMITS, may_switch=False), place)
    assert actions(place) == ["shed"]


def test_a_load_that_was_cut_is_restored_whatever_was_proposed_between(place):
    place.offer(tariff("A", "0.70"))
    watcher = place.watcher(limits=LIMITS)
    at(place, 0)
    step(watcher, place)
    place.offer(tariff("B", "0.10"))
    for hour in (1, 2, 6, 7):
        at(place, hour)
        step(watcher, place)
    assert actions(place) == ["shed", "switch-supplier", "restore"]


def test_what_goes_wrong_is_told_once_and_again_when_it_goes_wrong_anew(place):
    watcher = place.watcher(limits=LIMITS, contract="C-9")
    said = []
    for hour in (0, 1, 2):
        at(place, hour)
        said.append(len(step(watcher, place).failed))
    assert said == [1, 0, 0]


def test_an_ied_that_is_not_there_leaves_the_finding_on_file(place):
    watcher = place.watcher(most_kw="12", on_excess="shed", device="IED-9")
    place.push(MIDNIGHT + QUARTER, "4")
    found = step(watcher, place)
    assert ([one[1] for one in found.failed], len(found.findings)) == (["not-found"], 1)
    assert len(place.events()) == 1
    assert step(watcher, place).findings == ()


# F63: all are too expensive: consumption is reduced to a level.
def test_all_too_expensive_reduces_to_the_level(place):
    place.offer(tariff("A", "0.90"), tariff("B", "0.85"))
    at(place, 0)
    step(place.watcher(limits=LIMITS, level_kw="3.5"), place)
    (control,) = place.controls()
    assert (control.control.action, control.control.value, control.control.unit) == ("reduce", "3.5", "kW")
    at(place, 6.5)
    place.offer(tariff("A", "0.50"))
    step(place.watcher(limits=LIMITS, level_kw="3.5"), place)
    assert actions(place) == ["reduce", "restore"]


# F65: an energy and a distribution contract are paid together: 0.40 + 0.30 is above 0.60; with E2 0.25 + 0.30 is not.
def test_an_energy_supplier_is_exchanged_and_the_network_kept(place):
    place.offer(tariff("A", "0.90"), tariff("E1", "0.40", kind="energy"), tariff("D", "0.30", kind="distribution"))
    place.contract("A", to_utc=MIDNIGHT - 1)
    place.contract("E1", "energy", "C-E")
    place.contract("D", "distribution", "C-D")
    at(place, 0)
    watcher = place.watcher(limits=LIMITS, contract="C-E")
    assert [decided[1] for decided in step(watcher, place).decided] == ["shed"]
    place.offer(tariff("E2", "0.25", kind="energy"))
    at(place, 1)
    step(watcher, place)
    assert place.controls()[-1].control.data == (("contract", "C-E"), ("suppliers", "E2 + D"))


# F62: the IED is told when another version of its tariff comes into force.
def test_another_tariff_in_force_is_told_to_the_ied(place):
    watcher = place.watcher(tell_tariff=True)
    at(place, 0)
    assert step(watcher, place).decided == ()
    place.offer(tariff("A", "0.12", valid_from_utc=MIDNIGHT + 3600))
    at(place, 0.5)
    assert step(watcher, place).decided == ()  # not yet in force
    at(place, 1)
    step(watcher, place)
    (control,) = place.controls()
    assert control.control.action == "tariff-update"
    assert control.control.data == (("contract", "C-1"), ("tariff 1", "A/A-T since 2026-01-01T01:00:00Z"))
    at(place, 2)
    assert step(watcher, place).decided == ()


def test_a_watcher_that_never_ran_begins_where_the_log_is(place):
    place.push(MIDNIGHT + QUARTER, "4")
    watcher = place.watcher(most_kw="12")
    watcher.begin()
    assert step(watcher, place).entries == 0
    place.push(MIDNIGHT + 2 * QUARTER, "1", "5")
    assert len(step(watcher, place).findings) == 2  # of the cycle that runs, from its first interval on
    place.push(MIDNIGHT + 4 * QUARTER, "1", "5")
    watcher.begin()  # a restart leaves out nothing
    assert len(step(watcher, place).findings) == 1


# F57: whoever is granted the events of the usage point is told by its mailbox.
def test_who_is_granted_the_events_is_told(place):
    place.store.add_partner(Partner("GRID", "The grid", Role.UTILITY, "north"))
    place.store.set_tenants("IED-1", ["north"])
    place.store.give(Grant("GRID", "UP-M1", "events", 0, None))
    follower = Follower(place.store, "bus", 7200)
    follower.begin()
    place.push(MIDNIGHT + QUARTER, "4")
    step(place.watcher(most_kw="12"), place)
    follower.step(place.post.now)
    (mail,) = place.store.peek("GRID", 10)
    assert mail.kind == "events"
    assert b"16 kW, above 12 kW" in mail.content
