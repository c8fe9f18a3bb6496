"""What values know of themselves."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridpost import testing
from gridpost.errors import FileInvalid
from gridpost.model import (
    ChannelKey,
    IntervalBlock,
    Quality,
    Readings,
    ReadingType,
    RegisterReading,
    is_edited,
    is_estimated,
)

FORWARD = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"  # 15-minute delta forward kWh
BULK = "0.0.2.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"  # 15-minute bulk register


def test_a_reading_type_is_read_by_the_standards_names():
    kind = ReadingType.parse(FORWARD)
    assert (kind.measuring_period, kind.accumulation, kind.flow_direction, kind.commodity) == (2, 4, 1, 1)
    assert (kind.measurement_kind, kind.multiplier, kind.unit) == (12, 3, 72)
    assert (kind.symbol, kind.interval_s) == ("kWh", 900)


@given(st.lists(st.integers(-3, 400), min_size=18, max_size=18))
def test_unknown_codes_survive(numbers):
    text = ".".join(map(str, numbers))
    assert str(ReadingType.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0.0.2.4",
        FORWARD + ".0",
        FORWARD.replace("72", "x"),
        FORWARD.replace("72", "9" * 5000),
        FORWARD.replace("72", "\u0661"),
        FORWARD.replace("72", ""),
        FORWARD.replace("72", "7-2"),
        FORWARD.replace("72", " 72"),
        FORWARD.replace("72", "+72"),
    ],
)
def test_what_is_no_reading_type(text):
    with pytest.raises(FileInvalid, match="18 numbers"):
        ReadingType.parse(text)


def test_a_register_belongs_to_its_interval_channel():
    channel = ReadingType.parse(FORWARD)
    assert ReadingType.parse(BULK).reads_register_of(channel)
    assert channel.register().reads_register_of(channel)
    assert not channel.reads_register_of(channel)  # differences are no dial
    assert not ReadingType.parse(BULK.replace(".1.12.", ".19.12.")).reads_register_of(channel)
    assert not ReadingType.parse(BULK.replace(".3.72.", ".0.72.")).reads_register_of(channel)


def test_an_unknown_unit_has_no_symbol():
    assert ReadingType.parse(FORWARD.replace(".72.", ".999.")).symbol == ""
    assert ReadingType.parse(FORWARD.replace("0.0.2.", "0.0.99.")).interval_s == 0


@pytest.mark.parametrize(
    ("codes", "edited"),
    [
        ((), False),
        (("1.0.0",), False),
        (("2.7.0",), True),
        (("1.0.0", "3.7.1"), True),
        (("7.0.0",), False),
        (("1.8.7",), False),
        (("7",), False),
        (("1.77.0",), False),
    ],
)
def test_edited_is_category_seven(codes, edited):
    assert is_edited(tuple(Quality(code) for code in codes)) is edited


@pytest.mark.parametrize(
    ("codes", "estimated"),
    [((), False), (("2.8.0",), True), (("1.0.0", "3.8.2"), True), (("8.0.0",), False), (("1.7.8",), False)],
)
def test_estimated_is_category_eight(codes, estimated):
    assert is_estimated(tuple(Quality(code) for code in codes)) is estimated


@pytest.mark.parametrize(
    ("end_utc", "held"), [(999, False), (1000, False), (1001, True), (2000, True), (2001, False), (10**9, False)]
)
def test_an_assignment_covers_intervals_that_lie_in_it(end_utc, held):
    """Valid from 1000 to 2000: an interval that ends at 1000 lies before, one that ends at 2000 still inside."""
    channel = testing.channel(1, valid_from_utc=1000, valid_to_utc=2000)
    assert channel.holds_at(end_utc) is held


def test_an_open_assignment_has_no_end():
    assert testing.channel(1, valid_from_utc=1000).holds_at(10**12)


def test_readings_count_values_gaps_and_registers():
    key = ChannelKey("UP", "M", "", FORWARD)
    block = IntervalBlock(key, 900, (900, 1800), ("1", None), ((), (Quality("2.5.259"),)))
    assert Readings((block, block), (RegisterReading(key, 900, "5"),)).count == 5


def test_values_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        testing.channel(1).unit = "MWh"
