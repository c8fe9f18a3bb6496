"""Whom a device obeys, and when: every rule by an example that breaks it alone."""

import pytest
from gridpost.ied_soap_client.obeying import Act, Expire, Knowledge, Obeyed, Refuse, Snapshot, Wait, judge

from gridpost.controls import ACTIONS, Control

NOW = 1_772_323_200_000  # 2026-03-01T00:00:00Z
UTILITY = frozenset(Obeyed("grid-co", "utility", action) for action in ACTIONS)
KNOWS = Knowledge("IED-7", 4, UTILITY, {"relay": frozenset(("shed", "restore", "reduce"))}, True)
SHED = Control("0-9-0", "grid-co", "utility", "t-1", "shed", "IED-7", "relay", counter=5)


def test_what_every_rule_allows_is_done_by_the_output_it_names():
    assert judge(SHED, KNOWS, NOW) == Act("relay")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"target": "IED-8"}, "it is for IED-8, this is IED-7"),
        ({"counter": 4}, "its counter 4 is not above 4"),
        ({"counter": 3}, "its counter 3 is not above 4"),
        ({"action": "9.9.9.9"}, "9.9.9.9 is no action this device knows"),
        ({"issuer": "other-co"}, "this device does not obey other-co"),
        ({"role": "supplier"}, "this device does not obey grid-co as supplier"),
        ({"output": "pump"}, "this device has no output pump"),
        ({"output": ""}, "shed must name the output"),
        ({"action": "trip"}, "output relay does not do trip"),
        ({"action": "tariff-update", "output": ""}, "no output of this device does tariff-update"),
        ({"action": "reduce", "value": "1,5", "unit": "kW"}, "'1,5' is no decimal number"),
        ({"action": "reduce", "value": "5", "unit": "MW"}, "reduce needs a value in kW"),
    ],
)
def test_what_a_rule_forbids_is_refused_with_the_reason(changes, reason):
    verdict = judge(SHED._replace(**changes), KNOWS, NOW)
    assert isinstance(verdict, Refuse)
    assert verdict.reason.startswith(reason)


def test_the_list_is_of_triples():
    knows = KNOWS._replace(
        obeys=frozenset((Obeyed("grid-co", "utility", "restore"), Obeyed("other", "utility", "shed")))
    )
    assert judge(SHED, knows, NOW) == Refuse("this device does not obey grid-co as utility in shed")
    assert judge(SHED._replace(action="restore"), knows, NOW) == Act("relay")
    assert judge(SHED, KNOWS._replace(obeys=frozenset()), NOW) == Refuse("this device does not obey grid-co")


def test_a_command_has_its_time():
    timed = SHED._replace(not_before_utc_ms=NOW + 60_000, expires_utc_ms=NOW + 120_000)
    assert judge(timed, KNOWS, NOW + 59_999) == Wait(NOW + 60_000, "not before 2026-03-01T00:01:00.000Z")
    assert judge(timed, KNOWS, NOW + 60_000) == Act("relay")
    assert judge(timed, KNOWS, NOW + 119_999) == Act("relay")
    assert judge(timed, KNOWS, NOW + 120_000) == Expire("expired at 2026-03-01T00:02:00.000Z")
    # What is refused is refused at once, not when its time comes.
    assert isinstance(judge(timed._replace(target="IED-8"), KNOWS, NOW), Refuse)


def test_what_the_device_does_by_itself_needs_no_output():
    assert judge(SHED._replace(action="time-sync", output=""), KNOWS, NOW) == Act("")
    assert judge(SHED._replace(action="request-data", output=""), KNOWS._replace(outputs={}), NOW) == Act("")


def test_an_action_without_a_name_goes_to_the_one_output_that_does_it():
    one = KNOWS._replace(outputs={"relay": frozenset(("shed",)), "display": frozenset(("tariff-update",))})
    assert judge(SHED._replace(action="tariff-update", output=""), one, NOW) == Act("display")
    two = one._replace(outputs={**one.outputs, "second": frozenset(("tariff-update",))})
    assert judge(SHED._replace(action="tariff-update", output=""), two, NOW) == Refuse(
        "display, second do tariff-update: it must name one"
    )


RESET = SHED._replace(action="billing-reset", output="")
RESETTING = KNOWS._replace(outputs={"meter": frozenset(("billing-reset",))})


def test_a_billing_reset_waits_for_the_receipt_of_what_it_resets():
    for snapshot in (Snapshot.NONE, Snapshot.SENT):
        assert isinstance(judge(RESET, RESETTING._replace(snapshot=snapshot), NOW), Wait)
    assert judge(RESET, RESETTING._replace(snapshot=Snapshot.RECEIPTED), NOW) == Act("meter")
    late = RESET._replace(expires_utc_ms=NOW)
    assert isinstance(judge(late, RESETTING._replace(snapshot=Snapshot.RECEIPTED), NOW), Expire)


@pytest.mark.parametrize(
    ("role", "allowed"), [("utility", True), ("customer", True), ("supplier", False), ("operator", False)]
)
def test_a_billing_reset_comes_from_the_customer_or_the_utility_whatever_the_list_says(role, allowed):
    knows = RESETTING._replace(obeys=frozenset((Obeyed("x", role, "billing-reset"),)), snapshot=Snapshot.RECEIPTED)
    verdict = judge(RESET._replace(issuer="x", role=role), knows, NOW)
    assert isinstance(verdict, Act if allowed else Refuse)


def test_nothing_to_store_nothing_to_reset():
    knows = RESETTING._replace(registers=False, snapshot=Snapshot.RECEIPTED)
    assert judge(RESET, knows, NOW) == Refuse("this device reads no register that could be stored before a reset")
