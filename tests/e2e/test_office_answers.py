"""What partners are told: pages that agree, versions, periods; commands replaced and taken back; meters, mail."""

from __future__ import annotations

import pytest
from live_bus import now_utc_ms
from live_office import SOAP_TYPE, fetch, given

from gridpost import messages, testing
from gridpost.controls import Role, Wanted
from gridpost.model import Channel, ChannelKey, Quality, ReadingType
from gridpost.partners import Grant
from gridpost.requests import (
    CancelEndDeviceControls,
    CancelMeterReadings,
    ChangeEndDeviceControls,
    ChangeMeterConfig,
    CreateEndDeviceControls,
    CreateMeterConfig,
    CreateMeterReadings,
    DequeueMailbox,
    GetEndDeviceControls,
    GetEndDeviceEvents,
    GetMeterConfig,
    GetMeterReadings,
    MeterConfig,
    PeekMailbox,
    Query,
)
from gridpost.testing import FORWARD_KWH_15MIN

POINT, METER, SERIAL = "UP-M-IED-west", "M-IED-west", "IED-west"


@pytest.fixture(scope="module")
def world(office_world):
    """The shared world with a tenant of this module's own, its utility and a customer."""
    office_world.add_device("west")
    office_world.add_partner("utility-west", Role.UTILITY, "west")
    return office_world


def ask(world, query: Query, partner: str = "utility-west"):
    told = world.call(GetMeterReadings(world.header(partner, "get", "MeterReadings"), query))
    assert told.code == "ok", told.raw
    told.check_schema()
    return told


def intervals(told) -> dict[str, str]:
    """Time stamp -> value."""
    readings = list(told.body.iter("{*}IntervalReadings"))
    found = {one.findtext("{*}timeStamp"): one.findtext("{*}value") for one in readings}
    assert len(found) == len(readings), "an interval twice"
    return found


def push(world, message_id: str, ends_values: dict[int, str], qualities=()) -> None:
    device = world.devices["west"]
    block = testing.block(device.channels[0], min(ends_values), list(ends_values.values()))
    block = type(block)(block.channel, 900, tuple(ends_values), block.values, (qualities,) * len(ends_values))
    payload = messages.encode(testing.readings_message(SERIAL, message_id, [block], now_utc_ms()))
    assert world.bus.wire.post(device.seal(payload))[0] == 200


def newest_end() -> int:
    return now_utc_ms() // 900_000 * 900


# --- readings ---


def test_pages_hold_all_of_it_once_and_agree_whatever_comes_in_between(world):
    whole = intervals(ask(world, Query((POINT,))))
    assert len(whole) == 96
    page, seen, versions, sizes = "", {}, set(), []
    while page or not sizes:
        told = ask(world, Query((POINT,), limit=10, page=page))
        found = intervals(told)
        assert not set(found) & set(seen)
        seen |= found
        sizes.append(len(found))
        versions.add(told.property("dataVersion"))
        page = told.property("nextPage")
        if len(sizes) == 3:
            push(world, "between", {newest_end() - 86_400 * 2 + 900 * index: "9" for index in range(5)})
    assert seen == whole
    assert max(sizes) == 10
    assert len(versions) == 1
    assert len(intervals(ask(world, Query((POINT,))))) == 101


def test_a_question_as_of_a_data_version_gets_what_was_known_then(world):
    end = newest_end() - 86_400 * 3
    push(world, "first-version", {end: "1.50"})
    then = ask(world, Query((POINT,))).property("dataVersion")
    push(world, "edited", {end: "2.75"}, (Quality("2.7.0"),))
    query = Query((POINT,), from_utc=end - 1, to_utc=end)
    assert list(intervals(ask(world, query)).values()) == ["2.75"]
    told = ask(world, query.__class__((POINT,), from_utc=end - 1, to_utc=end, at=then))
    assert list(intervals(told).values()) == ["1.50"]
    assert told.property("dataVersion") == then


def test_the_edges_of_a_period_and_of_a_grant_are_before_and_at(world):
    end = newest_end()
    first, last = end - 900 * 20, end - 900 * 10
    query = Query((POINT,), from_utc=first, to_utc=last)
    assert len(intervals(ask(world, query))) == 10  # the interval that ends at `first` is not, the one at `last` is
    grants = (Grant("short-west", POINT, "billing", first, last),)
    world.add_partner("short-west", Role.CUSTOMER, "west", grants=grants)
    assert intervals(ask(world, Query(), "short-west")) == intervals(ask(world, query))
    assert intervals(ask(world, Query(from_utc=last, to_utc=end), "short-west")) == {}


@pytest.mark.parametrize(
    ("query", "some"),
    [
        (Query(meters=(METER,)), True),
        (Query((POINT,), (METER,)), True),
        (Query((POINT,), streams=("E1",)), True),
        (Query((POINT,), streams=("E2",)), False),
        (Query((POINT,), reading_types=(FORWARD_KWH_15MIN,)), True),
        (Query((POINT,), reading_types=(str(ReadingType.parse(FORWARD_KWH_15MIN).register()),)), False),
    ],
    ids=["meter", "point and meter", "stream", "another stream", "reading type", "its register"],
)
def test_a_question_narrows_by_meter_stream_and_reading_type(world, query, some):
    assert bool(intervals(ask(world, query))) is some


def test_a_kind_that_is_not_granted_is_not_seen_and_a_grant_taken_away_counts_at_once(world):
    grants = (Grant("quality-west", POINT, "power-quality"),)
    world.add_partner("quality-west", Role.THIRD_PARTY, "west", grants=grants)
    header = world.header("quality-west", "get", "MeterReadings")
    assert world.call(GetMeterReadings(header, Query((POINT,)))).code == "not-granted"
    world.add_partner("leaving-west", Role.CUSTOMER, "west", kinds=("billing",))
    assert len(intervals(ask(world, Query(), "leaving-west"))) > 90
    store = world.store()
    (grant,) = store.grants("leaving-west")
    store.take(grant, newest_end() - 900 * 5)
    store.close()
    left = intervals(ask(world, Query(from_utc=newest_end() - 900 * 10), "leaving-west"))
    assert 0 < len(left) <= 5


@pytest.mark.parametrize(
    "query",
    [
        Query((POINT,), page="1:2"),
        Query((POINT,), page="7:0@99:99"),
        Query((POINT,), at="0:999999"),
        Query((POINT,), from_utc=100, to_utc=100),
    ],
    ids=["no page", "a page of another version", "a version to come", "an empty period"],
)
def test_a_question_that_cannot_be_answered_says_why(world, query):
    told = world.call(GetMeterReadings(world.header("utility-west", "get", "MeterReadings"), query))
    assert told.code in ("query-refused", "schema-invalid")
    assert told.reason


# --- events ---


def test_events_are_seen_of_meters_that_are_granted_and_only_from_their_own_device(world):
    forged = world.devices["north"]  # a device of another tenant speaks of our meter
    from gridpost.model import CreatedEndDeviceEvents, EndDeviceEvent, Header

    event = EndDeviceEvent("", "3.26.0.85", now_utc_ms() - 500, METER, "put there by another")
    header = Header("created", "EndDeviceEvents", now_utc_ms(), "IED-north", "foreign-event", sequence=9)
    assert world.bus.wire.post(forged.seal(messages.encode(CreatedEndDeviceEvents(header, (event,)))))[0] == 200
    told = world.call(GetEndDeviceEvents(world.header("utility-west", "get", "EndDeviceEvents"), Query((POINT,))))
    assert told.texts("reason") == ["reason of west"]
    told.check_schema()


# --- controls ---


def shed(world, mrid: str, kind=CreateEndDeviceControls, **changes):
    verb = kind.__name__.removesuffix("EndDeviceControls").lower()
    wanted = Wanted(mrid, "shed", (), group="all", output="load1")._replace(**changes)
    return world.call(kind(world.header("utility-west", verb, "EndDeviceControls"), (wanted,)))


def look(world, *ids: str, **narrowed):
    header = world.header("utility-west", "get", "EndDeviceControls")
    return world.call(GetEndDeviceControls(header, ids=ids, **narrowed))


def cancel(world, *ids: str):
    header = world.header("utility-west", "cancel", "EndDeviceControls")
    return world.call(CancelEndDeviceControls(header, ids))


def test_a_group_becomes_a_control_for_each_device_and_is_found_by_both_names(world):
    told = shed(world, "group-1")
    (mrid,) = [one for one in told.texts("mRID") if one != SERIAL]
    for name in (mrid, "group-1"):
        seen = look(world, name)
        assert (seen.texts("state"), seen.texts("issuerTrackingID")) == (["waiting"], ["group-1"])
    assert look(world, states=("held",)).texts("issuerTrackingID") == []


def test_what_was_not_fetched_is_replaced_and_taken_back(world):
    shed(world, "change-1")
    assert shed(world, "change-1", output="load2").code == "controls-refused"  # the mRID is taken
    changed = shed(world, "change-1", ChangeEndDeviceControls, output="load2")
    assert (changed.texts("state"), changed.texts("output")) == (["waiting"], ["load2"])
    assert sorted(look(world, "change-1").texts("state")) == ["canceled", "waiting"]
    assert set(cancel(world, "change-1").texts("state")) == {"canceled"}
    assert shed(world, "change-1", ChangeEndDeviceControls).code == "control-moved"
    assert shed(world, "never-asked", ChangeEndDeviceControls).code == "not-granted"


def test_what_a_device_may_have_is_neither_replaced_nor_taken_back(world):
    mrid = next(one for one in shed(world, "fetched-1").texts("mRID") if one != SERIAL)
    device, control = world.devices["west"], None
    while control is None or control.mrid != mrid:
        after = 0 if control is None else control.counter
        answered = world.bus.wire.request("POST", "/metering", fetch(device, after), SOAP_TYPE)
        control = given(device, answered[1])
        assert control is not None, "the one asked for is among what waits"
    assert cancel(world, "fetched-1").code == "control-moved"
    assert shed(world, "fetched-1", ChangeEndDeviceControls).code == "control-moved"
    assert look(world, "fetched-1").texts("state") == ["fetched"]


def test_pages_of_controls_hold_each_once(world):
    for number in range(4):
        assert shed(world, f"paged-{number}").code == "ok"
    page, seen = "", []
    while page or not seen:
        told = look(world, limit=3, page=page)
        seen += told.texts("issuerTrackingID")
        page = told.property("nextPage")
    assert {f"paged-{number}" for number in range(4)} <= set(seen)


def test_readings_asked_again_become_a_control_that_carries_the_period(world):
    header = world.header("utility-west", "create", "MeterReadings")
    told = world.call(CreateMeterReadings(header, Query((POINT,), from_utc=1_767_225_600, to_utc=1_767_312_000)))
    assert told.code == "ok"
    told.check_schema()
    seen = look(world, header.message_id)
    data = dict(zip(seen.texts("name"), seen.texts("value"), strict=True))
    assert data == {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
    cancelled = world.call(
        CancelMeterReadings(world.header("utility-west", "cancel", "MeterReadings"), (header.message_id,))
    )
    assert cancelled.code == "ok"
    assert look(world, header.message_id).texts("state") == ["canceled"]
    shed(world, "no-reading")
    other = world.call(CancelMeterReadings(world.header("utility-west", "cancel", "MeterReadings"), ("no-reading",)))
    assert other.code == "not-granted"


# --- meters ---


def test_a_channel_is_added_ended_and_judged_by_at_once(world):
    received = ReadingType.parse(FORWARD_KWH_15MIN)._replace(flow_direction=19)
    key = ChannelKey(POINT, METER, "R1", str(received))
    channel = Channel(key, "kWh", 900, "Etc/UTC", valid_from_utc=1_577_836_800)

    def put(kind, one: Channel):
        verb = kind.__name__.removesuffix("MeterConfig").lower()
        header = world.header("utility-west", verb, "MeterConfig")
        return world.call(kind(header, (MeterConfig(METER, POINT, SERIAL, (one,)),)))

    def shown():
        told = world.call(GetMeterConfig(world.header("utility-west", "get", "MeterConfig"), Query((POINT,))))
        told.check_schema()
        return told.raw.decode()

    assert "R1" not in shown()
    told = put(CreateMeterConfig, channel)
    assert told.code == "ok"
    told.check_schema()
    assert "R1" in shown()
    device = world.devices["west"]
    block = testing.block(channel, newest_end(), ["0.5"])
    payload = messages.encode(testing.readings_message(SERIAL, "on-r1", [block], now_utc_ms()))
    assert world.bus.wire.post(device.seal(payload))[0] == 200
    end = newest_end() - 900 * 4
    ended = Channel(key, "kWh", 900, "Etc/UTC", valid_from_utc=1_577_836_800, valid_to_utc=end)
    assert put(ChangeMeterConfig, ended).code == "ok"
    block = testing.block(channel, newest_end() - 900, ["0.5"])
    late = messages.encode(testing.readings_message(SERIAL, "after-r1", [block], now_utc_ms()))
    assert world.bus.wire.post(device.seal(late))[0] == 500


# --- mail ---


def test_mail_is_read_as_often_as_wanted_and_dealt_with_once(world):
    from office_world import until

    world.add_partner("reader-west", Role.CUSTOMER, "west", kinds=("billing",))
    push(world, "to-be-mailed", {newest_end() - 86_400 * 5: "3.25"})

    def peek(limit: int = 0):
        told = world.call(PeekMailbox(world.header("reader-west", "get", "Mailbox"), limit))
        assert told.code == "ok", told.raw
        told.check_schema()
        return told

    until(lambda: "3.25" in peek().raw.decode())  # others' readings of that usage point may come before
    numbers = peek().texts("number")
    assert peek().texts("number")[: len(numbers)] == numbers  # nothing was taken away
    last = int(numbers[-1])
    assert world.call(DequeueMailbox(world.header("reader-west", "delete", "Mailbox"), last)).code == "ok"
    assert str(last) not in peek().texts("number")
    assert (
        world.call(DequeueMailbox(world.header("reader-west", "delete", "Mailbox"), last + 100)).code == "query-refused"
    )
