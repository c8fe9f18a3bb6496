"""A meter's day: which 24 hours it is, which days a block touches, what stands in its file.

A day is 24 hours of standard time: in Berlin from 23:00Z to 23:00Z and on Lord Howe (+10:30) from 13:30Z to 13:30Z, all
through the year, whatever daylight saving does.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from gridpost.adapters.mv90 import Mv90Adapter
from gridpost.server.day_files import Day, DayFiles, day_stem
from gridpost.server.zones import zone_of

from gridpost import testing
from gridpost.errors import CannotRepresent, NotFound
from gridpost.model import Block, Entry, Quality, Rows
from gridpost.ports import FormatOptions

HOURLY = "0.0.7.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def number(date: str) -> int:
    return utc(date) // 86400


def record(post_office, channel, first_end, values, qualities=None):
    """Put a block straight into the log, as reception does once a message is checked."""
    ends = tuple(first_end + index * channel.interval_s for index in range(len(values)))
    block = Block(channel.id, channel.interval_s, ends, tuple(values), qualities or ((),) * len(values))
    name = f"m-{post_office.store.status().entries}"
    entry = Entry("IED-1", name, "MeterReadings", "http", name.encode().ljust(32), post_office.now, None, "", b"raw")
    post_office.store.record(entry, Rows((block,)), lambda *_: b"receipt").result(timeout=10)


def files(post_office, sites=None) -> DayFiles:
    return DayFiles(post_office.store, Mv90Adapter(), sites or {}, zone_of)


def read(content: bytes, zone: str):
    return Mv90Adapter().parse(content, FormatOptions(zone=zone_of(zone))).readings


@pytest.fixture
def enrolled(post_office):
    """Enrol a meter's channels and return them as numbered."""

    def enrol(*channels):
        return post_office.store.add_ied("IED-1", "revenue meter", bytes(10), channels)

    return enrol


@pytest.mark.parametrize(
    ("zone", "date", "start", "end"),
    [
        ("Etc/UTC", "2026-01-01", "2026-01-01T00:00", "2026-01-02T00:00"),
        ("Europe/Berlin", "2026-01-01", "2025-12-31T23:00", "2026-01-01T23:00"),
        ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00", "2026-03-29T23:00"),
        ("Europe/Berlin", "2026-07-01", "2026-06-30T23:00", "2026-07-01T23:00"),
        ("Europe/Berlin", "2026-10-25", "2026-10-24T23:00", "2026-10-25T23:00"),
        ("Australia/Lord_Howe", "2026-01-01", "2025-12-31T13:30", "2026-01-01T13:30"),
        ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:30", "2026-04-05T13:30"),
        ("Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:30", "2026-10-04T13:30"),
        ("Asia/Kathmandu", "2026-06-01", "2026-05-31T18:15", "2026-06-01T18:15"),
        ("America/St_Johns", "2026-06-01", "2026-06-01T03:30", "2026-06-02T03:30"),
        ("Pacific/Kiritimati", "2026-06-01", "2026-05-31T10:00", "2026-06-01T10:00"),
        # Irish Standard Time is UTC+1 by law (1968), winter an hour less: tzdata has negative saving there.
        ("Europe/Dublin", "2026-01-01", "2025-12-31T23:00", "2026-01-01T23:00"),
        ("Europe/Dublin", "2026-07-01", "2026-06-30T23:00", "2026-07-01T23:00"),
    ],
)
def test_a_day_is_24_hours_of_standard_time(post_office, zone, date, start, end):
    bounds = files(post_office).bounds(testing.channel(zone=zone), Day("M1", number(date)))
    assert bounds == (utc(start), utc(end))


@pytest.mark.parametrize(
    ("zone", "end", "date"),
    [
        ("Europe/Berlin", "2026-01-01T23:00", "20260101"),
        ("Europe/Berlin", "2026-01-01T23:15", "20260102"),
        ("Europe/Berlin", "2026-07-01T22:00", "20260701"),
        ("Europe/Berlin", "2026-07-01T22:15", "20260701"),
        ("Europe/Berlin", "2026-07-01T23:00", "20260701"),
        ("Australia/Lord_Howe", "2026-04-05T13:30", "20260405"),
        ("Australia/Lord_Howe", "2026-04-05T13:45", "20260406"),
        ("Australia/Lord_Howe", "2026-12-31T13:30", "20261231"),
    ],
)
def test_an_interval_that_ends_at_midnight_belongs_to_the_day_it_closes(post_office, enrolled, zone, end, date):
    (channel,) = enrolled(testing.channel(zone=zone))
    record(post_office, channel, utc(end), ["1"])
    (block,) = post_office.store.blocks([(position.position) for position in post_office.store.entries({}, 10)])
    assert [day.date for day in files(post_office).days(channel, block)] == [date]


def test_a_block_over_midnight_touches_both_days(post_office, enrolled):
    (channel,) = enrolled(testing.channel(zone="Europe/Berlin"))
    record(post_office, channel, utc("2026-01-01T22:45"), ["1", "2", "3"])
    (block,) = post_office.store.blocks([header.position for header in post_office.store.entries({}, 10)])
    assert {day.date for day in files(post_office).days(channel, block)} == {"20260101", "20260102"}


@pytest.mark.parametrize(
    ("zone", "date", "first"),
    [
        ("Europe/Berlin", "2026-03-29", "2026-03-28T23:15"),
        ("Europe/Berlin", "2026-10-25", "2026-10-24T23:15"),
        ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:45"),
        ("Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:45"),
    ],
)
def test_a_day_of_a_clock_change_holds_96_quarter_hours(post_office, enrolled, zone, date, first):
    """MDEF days are standard-time days: never 92, never 100, and every value in its place."""
    (channel,) = enrolled(testing.channel(zone=zone))
    values = [str(count) for count in range(1, 97)]
    record(post_office, channel, utc(first), values)
    file = files(post_office).render(Day("M1", number(date)), None)
    assert file.complete
    (block,) = read(file.content, zone).blocks
    assert block.ends_utc[0] == utc(first)
    assert block.ends_utc[-1] == utc(first) + 95 * 900
    assert list(block.values) == values


def test_what_lies_outside_the_day_is_not_in_it(post_office, enrolled):
    (channel,) = enrolled(testing.channel())
    record(post_office, channel, utc("2026-01-01T00:00"), [str(count) for count in range(98)])
    (block,) = read(files(post_office).render(Day("M1", number("2026-01-01")), None).content, "Etc/UTC").blocks
    assert list(block.values) == [str(count) for count in range(1, 97)]


def test_a_missing_interval_leaves_the_day_incomplete_and_a_gap_in_the_file(post_office, enrolled):
    (channel,) = enrolled(testing.channel())
    values = ["1"] * 96
    values[40] = None
    qualities = tuple((Quality("2.5.259"),) if value is None else () for value in values)
    record(post_office, channel, utc("2026-01-01T00:15"), values, qualities)
    file = files(post_office).render(Day("M1", number("2026-01-01")), None)
    assert not file.complete
    (block,) = read(file.content, "Etc/UTC").blocks
    assert block.values[40] is None
    assert block.values.count(None) == 1


def test_a_day_with_nothing_but_known_gaps_is_rendered_all_the_same(post_office, enrolled):
    (channel,) = enrolled(testing.channel())
    record(post_office, channel, utc("2026-01-01T00:15"), [None] * 96, ((Quality("2.5.259"),),) * 96)
    file = files(post_office).render(Day("M1", number("2026-01-01")), None)
    assert not file.complete
    (block,) = read(file.content, "Etc/UTC").blocks
    assert list(block.values) == [None] * 96


def test_two_channels_are_one_file_and_complete_only_together(post_office, enrolled):
    one, two = enrolled(testing.channel(1), testing.channel(2))
    record(post_office, one, utc("2026-01-01T00:15"), ["1"] * 96)
    day = Day("M1", number("2026-01-01"))
    assert not files(post_office).render(day, None).complete
    record(post_office, two, utc("2026-01-01T00:15"), ["2"] * 96)
    file = files(post_office).render(day, None)
    assert file.complete
    assert {block.values for block in read(file.content, "Etc/UTC").blocks} == {("1",) * 96, ("2",) * 96}


def test_channels_of_other_lengths_share_a_day(post_office, enrolled):
    hourly = testing.channel(2, interval_s=3600)
    hourly = testing.channel(2, interval_s=3600, key=hourly.key._replace(reading_type=HOURLY))
    quarter, hour = enrolled(testing.channel(1), hourly)
    record(post_office, quarter, utc("2026-01-01T00:15"), ["1"] * 96)
    record(post_office, hour, utc("2026-01-01T01:00"), ["4"] * 24)
    file = files(post_office).render(Day("M1", number("2026-01-01")), None)
    assert file.complete
    assert sorted(len(block.values) for block in read(file.content, "Etc/UTC").blocks) == [24, 96]


def test_a_channel_that_begins_at_noon_is_complete_with_its_afternoon(post_office, enrolled):
    (channel,) = enrolled(testing.channel(valid_from_utc=utc("2026-01-01T12:00")))
    record(post_office, channel, utc("2026-01-01T12:15"), ["1"] * 48)
    file = files(post_office).render(Day("M1", number("2026-01-01")), None)
    assert file.complete
    (block,) = read(file.content, "Etc/UTC").blocks
    assert list(block.values) == [None] * 48 + ["1"] * 48


def test_a_device_exchanged_at_noon_makes_one_day(post_office, enrolled):
    """The meter passes from a revoked IED to another: two rows of one channel, one series in the file."""
    (before,) = enrolled(testing.channel())
    record(post_office, before, utc("2026-01-01T00:15"), ["1"] * 48)
    post_office.store.revoke("IED-1", post_office.now)
    new = testing.channel(valid_from_utc=utc("2026-01-01T12:00"))
    (after,) = post_office.store.add_ied("IED-2", "revenue meter", bytes(10), [new])
    record(post_office, after, utc("2026-01-01T12:15"), ["2"] * 48)
    file = files(post_office).render(Day("M1", number("2026-01-01")), None)
    assert file.complete
    (block,) = read(file.content, "Etc/UTC").blocks
    assert list(block.values) == ["1"] * 48 + ["2"] * 48


def test_a_day_as_known_at_a_data_version_keeps_its_bytes(post_office, enrolled):
    (channel,) = enrolled(testing.channel())
    record(post_office, channel, utc("2026-01-01T00:15"), ["1"] * 96)
    day, then = Day("M1", number("2026-01-01")), post_office.store.version()
    billed = files(post_office).render(day, then).content
    post_office.now += 86_400_000
    record(post_office, channel, utc("2026-01-01T00:15"), ["9"], ((Quality("2.7.0"),),))
    assert files(post_office).render(day, then).content == billed
    changed = files(post_office).render(day, None).content
    assert changed != billed
    assert read(changed, "Etc/UTC").blocks[0].values[0] == "9"


def test_a_conflicting_value_does_not_change_the_file_nor_its_creation_time(post_office, enrolled):
    """The first stays current; so the bytes stay too, and no revision follows."""
    (channel,) = enrolled(testing.channel())
    record(post_office, channel, utc("2026-01-01T00:15"), ["1"] * 96)
    day = Day("M1", number("2026-01-01"))
    before = files(post_office).render(day, None).content
    post_office.now += 86_400_000
    record(post_office, channel, utc("2026-01-01T00:15"), ["9"])
    assert post_office.store.status().conflicts == 1
    assert files(post_office).render(day, None).content == before


def test_channels_in_two_zones_are_refused(post_office, enrolled):
    enrolled(testing.channel(1), testing.channel(2, zone="Europe/Berlin"))
    with pytest.raises(CannotRepresent, match="2 zones"):
        files(post_office).render(Day("M1", number("2026-01-01")), None)


@pytest.mark.parametrize(
    ("meter", "stem"),
    [
        ("M1", "M1_20260101"),
        ("M1.2", "M1.2_20260101"),
        ("../../etc/passwd", "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd_20260101"),
        ("a/b\\c", "a%2Fb%5Cc_20260101"),
        ("a\0b\nc", "a%00b%0Ac_20260101"),
        ("Zähler", "Z%C3%A4hler_20260101"),
        ("a%2Fb", "a%252Fb_20260101"),
        ("..", "%2E%2E_20260101"),
        (".hidden", "%2Ehidden_20260101"),
        ("NUL", "NUL_20260101"),
    ],
)
def test_a_file_name_never_leads_elsewhere_and_two_meters_never_share_one(meter, stem):
    assert day_stem(Day(meter, number("2026-01-01"))) == stem


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "../../etc/passwd", "Europe", "Europe/../UTC", "x" * 300, "tzdata.zi"]
)
def test_what_is_no_zone_is_not_found(name):
    with pytest.raises(NotFound):
        zone_of(name)
