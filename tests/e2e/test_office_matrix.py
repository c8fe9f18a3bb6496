"""Every role, every operation, one's own tenant and another: each cell as the table here says, and nothing leaks.

Through the real listener of a running bus. The table is written from what the roles are for (FEATURES F3, F4, F25), not
read from the code. What is another tenant's is answered as what does not exist is.
"""

from __future__ import annotations

import itertools
import re

import pytest
from office_world import TENANTS, VALUES, flat_tariff

from gridpost import messages, requests, supply
from gridpost.controls import Role, Wanted
from gridpost.model import Channel, ChannelKey
from gridpost.requests import MeterConfig, Query
from gridpost.supply import Compared, Decision, Offer, Sought, Supply
from gridpost.testing import FORWARD_KWH_15MIN

OK, NO = "ok", "not-granted"
STAFF = (Role.UTILITY, Role.OPERATOR)
OFFERING = (*STAFF, Role.SUPPLIER)
# Operation -> what a role gets at its own tenant; at another's nobody gets anything.
OWN = {
    "GetMeterReadings": lambda role: OK,
    "GetEndDeviceEvents": lambda role: OK,
    "GetEndDeviceControls": lambda role: OK if role is not Role.THIRD_PARTY else NO,  # it has issued none
    "GetMeterConfig": lambda role: OK,
    "CreateMeterReadings": lambda role: OK,
    "CancelMeterReadings": lambda role: OK,
    "CreateEndDeviceControls": lambda role: "controls-refused" if role is Role.THIRD_PARTY else OK,
    "ChangeEndDeviceControls": lambda role: NO if role is Role.THIRD_PARTY else OK,
    "CancelEndDeviceControls": lambda role: NO if role is Role.THIRD_PARTY else OK,
    "CreateMeterConfig": lambda role: OK if role in STAFF else NO,
    "ChangeMeterConfig": lambda role: OK if role in STAFF else NO,
    "PeekMailbox": lambda role: OK,
    "DequeueMailbox": lambda role: OK,
    "CreateTariff": lambda role: OK if role in OFFERING else NO,
    "ChangeTariff": lambda role: OK if role in OFFERING else NO,
    "GetTariff": lambda role: OK,
    "CreateContract": lambda role: OK if role in OFFERING else NO,
    # What a supplier asks others decide: a utility, an operator, the customer.
    "ChangeContract": lambda role: NO if role in (Role.SUPPLIER, Role.THIRD_PARTY) else OK,
    "GetContract": lambda role: OK,
    "GetTariffComparison": lambda role: OK,
    "GetCompleteness": lambda role: OK,
}
# They name no tenant: each has its own.
OF_ONE_S_OWN = ("PeekMailbox", "DequeueMailbox", "CreateTariff", "ChangeTariff")
OFFERS = {"north": "supplier-north"}  # whose tariffs and contracts are asked for; elsewhere the utility's
NOWHERE = {"mrid": "0-999-0", "tracking": "tracking-nowhere", "contract": "C-nowhere"}
# What only south has; the names that a request states itself are not among them.
MARKS = (VALUES["south"], "reason of south", "utility-south", "tracking-south")
FROM, TO = 1_735_689_600, 4_102_444_800  # 2025 to 2100
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def of_south(office_world):
    """The mRIDs of a control and of a request for readings that south's utility issued."""
    world = office_world
    told = world.call(shed(world, "utility-south", "south", "tracking-south-1"))
    assert told.code == OK, told.raw
    asked = world.call(request_for("CreateMeterReadings", world, "utility-south", "south", {}))
    assert asked.code == OK, asked.raw
    offered = world.call(offer(world, "utility-south", "T-south"))
    assert offered.code == OK, offered.raw
    contracted = world.call(contract(world, "utility-south", "south", "C-south", "T-south"))
    assert contracted.code == OK, contracted.raw
    return {"mrid": told.texts("mRID")[0], "tracking": "tracking-south-1", "contract": "C-south"}


@pytest.fixture(scope="module")
def of_north(office_world):
    """What a supplier of north offers."""
    for name in ("T-1", "T-2"):
        told = office_world.call(offer(office_world, "supplier-north", name))
        assert told.code == OK, told.raw


def shed(world, partner: str, tenant: str, tracking: str = "", verb: str = "create"):
    kind = {"create": requests.CreateEndDeviceControls, "change": requests.ChangeEndDeviceControls}[verb]
    wanted = Wanted(tracking or f"{partner}-w{next(_numbers)}", "shed", (f"IED-{tenant}",), output="load1")
    return kind(world.header(partner, verb, "EndDeviceControls"), (wanted,))


def meter_config(tenant: str, stream: str) -> MeterConfig:
    key = ChannelKey(f"UP-M-IED-{tenant}", f"M-IED-{tenant}", stream, FORWARD_KWH_15MIN)
    return MeterConfig(key.meter, key.usage_point, f"IED-{tenant}", (Channel(key, "kWh", 900, "Etc/UTC", FROM),))


def request_for(operation: str, world, partner: str, tenant: str, known: dict[str, str]):
    """A request of that operation about that tenant; `known` names what was issued there before."""
    query = Query((f"UP-M-IED-{tenant}",), from_utc=FROM, to_utc=TO)
    verb, noun = re.fullmatch(r"([A-Z][a-z]+)([A-Z]\w+)", operation).groups()
    header = world.header(partner, {"Peek": "get", "Dequeue": "delete"}.get(verb, verb.lower()), noun)
    kind = getattr(requests, operation, None) or getattr(supply, operation)
    match operation:
        case "GetEndDeviceControls":
            return kind(header, ids=(known.get("mrid", "0-0-0"),))
        case "CancelEndDeviceControls" | "CancelMeterReadings":
            return kind(header, (known.get("tracking", "nothing"),))
        case "CreateEndDeviceControls" | "ChangeEndDeviceControls":
            return shed(world, partner, tenant, known.get("tracking", ""), verb.lower())
        case "CreateMeterConfig" | "ChangeMeterConfig":
            return kind(header, (meter_config(tenant, f"E{next(_numbers) + 10}"),))
        case "CreateTariff" | "ChangeTariff":
            return offer(world, partner, known.get("tariff", f"T-{next(_numbers)}"), verb.lower())
        case "GetTariff":
            return kind(header, Sought(suppliers=(OFFERS.get(tenant, f"utility-{tenant}"),)))
        case "CreateContract":
            return contract(world, partner, tenant, f"C-{next(_numbers)}", known.get("tariff", "none"))
        case "ChangeContract":
            owner = OFFERS.get(tenant, f"utility-{tenant}")
            return kind(header, Decision(known["contract"], owner, "rejected", "no such customer"))
        case "GetContract":
            return kind(header, Sought(usage_points=query.usage_points))
        case "GetTariffComparison":
            bids = [Offer((("supplier-north", name),)) for name in ("T-1", "T-2")]
            return kind(header, Compared(*query.usage_points, FROM, FROM + 86_400, (bids[1],), bids[0]))
        case "PeekMailbox":
            return kind(header)
        case "DequeueMailbox":
            return kind(header, 0)
        case _:
            return kind(header, query)


def issued(operation: str, world, partner: str) -> dict[str, str]:
    """What the partner has issued itself, where an operation is about such; empty where it may issue none."""
    if operation == "CancelMeterReadings":
        made = request_for("CreateMeterReadings", world, partner, "north", {})
        world.call(made)
        return {"tracking": made.header.message_id}
    if operation in ("ChangeTariff", "CreateContract"):
        made = offer(world, partner, f"T-{next(_numbers)}")
        world.call(made)
        return {"tariff": made.tariff.id}
    if operation in ("ChangeContract", "GetContract"):
        made = contract(world, "supplier-north", "north", f"C-{next(_numbers)}", "T-1")
        world.call(made)
        return {"contract": made.contract.id}
    if not re.fullmatch("(Get|Change|Cancel)EndDeviceControls", operation):
        return {}
    made = shed(world, partner, "north")
    told = world.call(made)
    return {"tracking": made.wanted[0].mrid} | ({"mrid": told.texts("mRID")[0]} if told.code == OK else {})


def offer(world, partner: str, name: str, verb: str = "create"):
    kind = {"create": supply.CreateTariff, "change": supply.ChangeTariff}[verb]
    return kind(world.header(partner, verb, "Tariff"), flat_tariff(name, partner))


def contract(world, partner: str, tenant: str, name: str, of: str):
    asked = Supply(name, "somebody", f"UP-M-IED-{tenant}", of, FROM)
    return supply.CreateContract(world.header(partner, "create", "Contract"), asked)


def leaks(message: bytes, raw: bytes) -> list[str]:
    return [mark for mark in MARKS if mark.encode() in raw and mark.encode() not in message]


@pytest.mark.parametrize("role", list(Role))
def test_every_cell_of_a_role_is_as_the_table_says(office_world, of_north, of_south, role):
    world = office_world
    partner, found, expected, leaked = f"{role}-north", {}, {}, []
    for operation, tenant in itertools.product(OWN, TENANTS):
        own = tenant == "north"
        known = issued(operation, world, partner) if own or operation in OF_ONE_S_OWN else of_south
        message = request_for(operation, world, partner, tenant, known)
        told = world.call(message)
        found[operation, tenant] = told.code
        expected[operation, tenant] = OWN[operation](role) if own or operation in OF_ONE_S_OWN else NO
        leaked += [(operation, tenant, mark) for mark in leaks(messages.encode(message), told.raw)]
        assert told.is_signed
        told.check_schema()
    if role is Role.THIRD_PARTY:
        # It may ask for no shed, and that is said of the action before anything is said of the place.
        expected["CreateEndDeviceControls", "south"] = NO
    assert found == expected
    assert leaked == []


@pytest.mark.parametrize("operation", [name for name in OWN if name not in OF_ONE_S_OWN])
def test_what_is_another_tenant_s_is_answered_as_what_does_not_exist(office_world, of_north, of_south, operation):
    world = office_world
    answers = []
    for tenant, known in (("south", of_south), ("nowhere", NOWHERE)):
        told = world.call(request_for(operation, world, "utility-north", tenant, known))
        reason = told.reason
        for name in (*known.values(), tenant):
            reason = reason.replace(name, "X")
        answers.append((told.status, told.code, reason))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "operation", ["GetMeterReadings", "GetEndDeviceEvents", "GetEndDeviceControls", "GetMeterConfig"]
)
def test_a_question_that_names_nothing_is_answered_with_one_s_own(office_world, of_south, operation):
    world = office_world
    kind = getattr(requests, operation)
    arguments = () if operation == "GetEndDeviceControls" else (Query(),)
    for partner, sees in (("utility-north", "north"), ("utility-south", "south"), ("stranger-north", "")):
        told = world.call(kind(world.header(partner, "get", operation[3:]), *arguments))
        assert told.code == OK
        told.check_schema()
        for tenant in TENANTS:
            marks = (f"UP-M-IED-{tenant}", f"IED-{tenant}", VALUES[tenant], f"reason of {tenant}")
            assert any(mark.encode() in told.raw for mark in marks) is (tenant == sees), (partner, tenant)
