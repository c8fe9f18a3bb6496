"""GetCompleteness of a running bus: counts and gaps of a day that is known, and nothing of the hours to come."""

from __future__ import annotations

import pytest
from live_bus import now_utc_ms

from gridpost import units
from gridpost.controls import Role
from gridpost.partners import Grant
from gridpost.requests import GetCompleteness, Query

TENANT = "complete"
POINT = f"UP-M-IED-{TENANT}"
QUARTER = 900


@pytest.fixture(scope="module")
def world(office_world):
    """A meter with one day: 96 quarter hours, up to the last one before the device was made."""
    office_world.add_device(TENANT)
    office_world.add_partner("counter", Role.UTILITY, TENANT)
    return office_world


@pytest.fixture(scope="module")
def last(world):
    """The end of the last quarter hour there is, as the store has it."""
    store = world.store()
    (channel,) = [one for one in store.channels() if one.key.usage_point == POINT]
    ends = store.readings(channel.id, 0, 1 << 40).block.ends_utc
    store.close()
    assert len(ends) == 96
    return ends[-1]


def asked(world, partner: str, from_utc: int, to_utc: int, **more):
    query = Query((POINT,), from_utc=from_utc, to_utc=to_utc, **more)
    return world.call(GetCompleteness(world.header(partner, "get", "Completeness"), query))


def counts(told) -> tuple[str, ...]:
    return tuple(told.texts(name)[0] for name in ("expected", "present", "estimated", "corrected"))


def test_a_whole_stretch_is_whole(world, last):
    told = asked(world, "counter", last - 96 * QUARTER, last)
    assert told.code == "ok", told.raw
    told.check_schema()
    assert (told.texts("told"), counts(told)) == (["96 of 96, 0 estimated, 0 corrected"], ("96", "96", "0", "0"))
    assert told.texts("Gap") == []
    assert told.property("dataVersion").startswith("0:")


def test_what_came_before_is_one_gap(world, last):
    told = asked(world, "counter", last - 100 * QUARTER, last)
    assert counts(told) == ("100", "96", "0", "0")
    (gap,) = told.body.iter("{*}Gap")
    stretch = (last - 100 * QUARTER, last - 96 * QUARTER)
    assert tuple(one.text for one in gap) == tuple(map(units.format_utc, stretch))


def test_what_is_to_come_is_not_missing(world, last):
    told = asked(world, "counter", last - 96 * QUARTER, now_utc_ms() // 1000 + 30 * 86_400)
    expected = (now_utc_ms() // 1000 - last) // QUARTER + 96  # whatever time the tests before this one took
    assert int(counts(told)[0]) in (expected, expected - 1)


def test_a_grant_bounds_what_is_counted(world, last):
    middle = Grant("half", POINT, "billing", last - 48 * QUARTER)
    world.add_partner("half", Role.CUSTOMER, TENANT, grants=(middle,))
    told = asked(world, "half", last - 96 * QUARTER, last)
    assert counts(told) == ("48", "48", "0", "0")
    assert told.texts("start")[0] == units.format_utc(last - 48 * QUARTER)


@pytest.mark.parametrize(("from_utc", "to_utc"), [(0, 0), (1, 0), (1, 4_000_000_000)])
def test_a_period_is_needed_and_bounded(world, from_utc, to_utc):
    told = asked(world, "counter", from_utc, to_utc)
    assert told.code == "query-refused"
    told.check_schema()
