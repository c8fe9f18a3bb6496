"""The CSV of readings and the two channel tables: literal text beside what it means, and round trips of any values."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridpost import tabular
from gridpost.errors import CannotRepresent, FileInvalid
from gridpost.model import (
    Channel,
    ChannelKey,
    IntervalBlock,
    Quality,
    Readings,
    RegisterReading,
    Site,
)

KWH_15 = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
KWH_REGISTER = "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
KWH_REVERSE = "0.0.2.4.19.1.12.0.0.0.0.0.0.0.0.3.72.0"
KEY = ChannelKey("UP1", "M1", "E1", KWH_15)
# 2026-03-01T00:15:00Z: date -u -d 2026-03-01T00:15:00Z +%s
QUARTER = 1772324100
HEADER = "usage_point,meter,channel,reading_type,unit,interval_s,interval_end_utc,value,quality,quality_detail\n"


def reason_of(call, *arguments):
    with pytest.raises(FileInvalid) as caught:
        call(*arguments)
    return caught.value


def test_a_full_row_is_one_reading():
    text = HEADER + f"UP1,M1,E1,{KWH_15},kWh,900,2026-03-01T00:15:00Z,12.500,,\n"
    assert tabular.parse(text) == Readings((IntervalBlock(KEY, 900, (QUARTER,), ("12.500",), ((),)),))


def test_rows_of_one_channel_become_one_block_whatever_lies_between():
    rows = [f"UP1,M1,{name},{KWH_15},kWh,900,2026-03-01T00:{minute}:00Z,1,," for minute in (15, 30) for name in "ab"]
    blocks = tabular.parse(HEADER + "\n".join(rows)).blocks
    assert [(block.channel.stream, block.ends_utc) for block in blocks] == [
        ("a", (QUARTER, QUARTER + 900)),
        ("b", (QUARTER, QUARTER + 900)),
    ]


def test_interval_length_zero_marks_a_register_reading():
    text = HEADER + f"UP1,M1,E1,{KWH_REGISTER},kWh,0,2026-03-01T00:15:00+00:00,99.1,1.4.9,clock stepped\r\n"
    key = KEY._replace(reading_type=KWH_REGISTER)
    assert tabular.parse(text).registers == (
        RegisterReading(key, QUARTER, "99.1", (Quality("1.4.9", "clock stepped"),)),
    )


def test_qualities_and_details_go_in_pairs():
    text = HEADER + f'UP1,M1,E1,{KWH_15},,900,2026-03-01T00:15:00Z,1,1.4.9;2.8.0,"a\\;b;c, \\u000ad\\\\"\n'
    assert tabular.parse(text).blocks[0].qualities == ((Quality("1.4.9", "a;b"), Quality("2.8.0", "c, \nd\\")),)


def test_a_gap_is_an_empty_value_known_missing():
    text = HEADER + f"UP1,M1,E1,{KWH_15},kWh,900,2026-03-01T00:15:00Z,,2.5.259,\n"
    assert tabular.parse(text).blocks[0].values == (None,)


SHORT = "\ufeffinterval_end_utc,channel,value,quality\r\n2026-03-01T00:15:00Z,E1,.5,\r\n"


def test_the_four_needed_columns_are_completed_from_a_channel():
    channels = (Channel(KEY, "kWh", 900, "Etc/UTC"),)
    expected = Readings((IntervalBlock(KEY, 900, (QUARTER,), ("0.5",), ((),)),))
    assert tabular.parse(SHORT, channels) == expected
    assert tabular.parse(SHORT.encode(), channels) == expected


def test_a_channel_is_completed_by_its_assignment_at_the_interval():
    before = Channel(KEY._replace(meter="OLD"), "kWh", 900, "Etc/UTC", 0, QUARTER - 900)
    after = Channel(KEY._replace(meter="NEW"), "kWh", 900, "Etc/UTC", QUARTER - 900)
    assert tabular.parse(SHORT, (before, after)).blocks[0].channel.meter == "NEW"


def test_a_register_row_is_completed_with_the_register_behind_the_channel():
    text = "interval_end_utc,channel,interval_s,value,quality\n2026-03-01T00:15:00Z,E1,0,7,\n"
    found = tabular.parse(text, (Channel(KEY, "kWh", 900, "Etc/UTC"),)).registers[0].channel
    # accumulation 1 (bulk), no measuring period, the rest the channel's: IEC 61968-9 annex C
    assert found == KEY._replace(reading_type="0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0")


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        ((), "is not known"),
        ((Channel(KEY, "kWh", 900, "Etc/UTC", QUARTER),), "not assigned"),
        ((Channel(KEY, "kWh", 900, "Z"), Channel(KEY._replace(meter="M2"), "kWh", 900, "Z")), "names 2 channels"),
    ],
)
def test_a_row_that_names_no_one_channel_is_refused(channels, words):
    error = reason_of(tabular.parse, SHORT, channels)
    assert (error.items[0].path, words in error.items[0].reason) == ("line 2", True)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("2026-03-01T00:15:00,1,,", "zone"),
        ("2026-03-01T24:00:00Z,1,,", "hour must be in"),
        ("2026-03-01T00:15:00.5Z,1,,", "whole second"),
        ("2026-03-01T00:15:00Z,1e3,,", "not a decimal"),
        ("2026-03-01T00:15:00Z,NaN,,", "not a decimal"),
        ("2026-03-01T00:15:00Z,1_000,,", "not a decimal"),
        ("2026-03-01T00:15:00Z,١٢,,", "not a decimal"),
        ("2026-03-01T00:15:00Z,1234567890123456789,,", "18 digits"),
        ("2026-03-01T00:15:00Z,,,", "2.5.259"),
        ("2026-03-01T00:15:00Z,1,1.4,", "three dotted numbers"),
        ("2026-03-01T00:15:00Z,1,1.4.9,a;b", "2 quality details"),
        ("2026-03-01T00:15:00Z,1,,a", "without a quality"),
        ("2026-03-01T00:15:00Z,1,1.4.9,a\\b", "backslash"),
    ],
)
def test_a_bad_cell_is_refused_with_its_line(row, words):
    error = reason_of(tabular.parse, HEADER + f"UP1,M1,E1,{KWH_15},kWh,900,{row}\n")
    assert error.items[0].path == "line 2"
    assert words in error.items[0].reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("channel,value\n", "lacks the columns interval_end_utc, quality"),
        (HEADER.strip() + ",colour\n", "unknown column 'colour'"),
        (HEADER.strip() + ",value\n", "named twice"),
        (HEADER + "a,b\n", "2 cells under 10 columns"),
        (HEADER + '"a', "unexpected end of data"),
        (HEADER.encode() + b"\xff", "not UTF-8"),
        (HEADER + f"UP1,M1,E1,{KWH_15},kvarh,900,2026-03-01T00:15:00Z,1,,\n", "'kvarh' is not the kWh"),
        (HEADER + "UP1,M1,E1,1.2.3,kWh,900,2026-03-01T00:15:00Z,1,,\n", "18 numbers"),
        (HEADER + f"UP1,M1,E1,{KWH_15},kWh,-9,2026-03-01T00:15:00Z,1,,\n", "interval_s: '-9'"),
        (HEADER + f'"UP\n1",M1,E1,{KWH_15},kWh,900,2026-03-01T00:15:00Z,1,,\n', "control character"),
    ],
)
def test_a_bad_file_is_refused(text, words):
    assert words in reason_of(tabular.parse, text).reason


def test_every_bad_line_is_listed_and_a_repeat_names_the_first():
    row = f"UP1,M1,E1,{KWH_15},kWh,900,2026-03-01T00:15:00Z,%s,,\n"
    error = reason_of(tabular.parse, HEADER + row % "1" + row % "x" + row % "2")
    assert [item.path for item in error.items] == ["line 3", "line 4"]
    assert error.items[1].reason == "repeats the reading of line 2"


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "＝1", "'=1", "'plain", "''-"])
def test_no_cell_begins_like_a_formula_and_names_survive(name):
    readings = Readings((IntervalBlock(ChannelKey(name, name, name, KWH_15), 900, (QUARTER,), ("-1",), ((),)),))
    raw = tabular.render(readings)
    cells = list(csv.reader(io.StringIO(raw.decode())))[1]
    assert not any(cell[:1] in "=+-@＝\t\r" for cell in cells[:3])
    assert cells[7] == "-1"  # a number, not text
    assert tabular.parse(raw) == readings


def test_a_name_with_a_line_break_is_not_written():
    block = IntervalBlock(KEY._replace(meter="a\nb"), 900, (QUARTER,), ("1",), ((),))
    with pytest.raises(CannotRepresent, match="meter"):
        tabular.render(Readings((block,)))


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=6)
VALUES = st.from_regex(r"-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?", fullmatch=True)
QUALITIES = st.lists(
    st.builds(Quality, st.sampled_from(["1.4.9", "2.8.0", "1.0.0", "2.5.259"]), st.text(max_size=5)), max_size=3
).map(tuple)


@st.composite
def any_readings(draw):
    keys = draw(st.lists(st.builds(ChannelKey, NAMES, NAMES, NAMES, st.just(KWH_15)), max_size=3, unique=True))
    blocks = []
    for key in keys:
        count = draw(st.integers(1, 3))
        cells = draw(st.lists(st.tuples(VALUES, QUALITIES), min_size=count, max_size=count))
        ends = tuple(QUARTER + 900 * place for place in range(count))
        blocks.append(IntervalBlock(key, 900, ends, tuple(c[0] for c in cells), tuple(c[1] for c in cells)))
    registers = draw(st.builds(RegisterReading, st.just(KEY), st.just(QUARTER), VALUES, QUALITIES))
    return Readings(tuple(blocks), (registers,))


@given(any_readings())
def test_what_is_rendered_is_found_again(readings):
    assert tabular.parse(tabular.render(readings)) == readings


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: (HEADER + text).encode()))
def test_any_bytes_are_readings_or_an_invalid_file(raw):
    try:
        tabular.parse(raw)
    except FileInvalid as error:
        assert error.reason  # noqa: PT017


# --- channel and site tables -----------------------------------------------------------------------------------------

CHANNELS = "usage_point,meter,channel,reading_type,unit,interval_s,zone,valid_from,valid_to\n"


def test_a_channel_table_gives_channels():
    text = CHANNELS + f"UP1,M1,E1,{KWH_15},KWH,900,Europe/Oslo,2026-03-01T01:15:00+01:00,\n"
    assert tabular.channels(text) == (Channel(KEY, "KWH", 900, "Europe/Oslo", QUARTER, None),)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (f"UP1,M1,E1,{KWH_15},kWh,900,Etc/UTC,2026-03-01,", "valid_from"),
        (f"UP1,M1,E1,{KWH_15},kWh,900,Etc/UTC,2026-03-01T00:00:00Z,2026-02-01T00:00:00Z", "valid_to"),
        (f"UP1,M1,E1,{KWH_15},kWh,1800,Etc/UTC,2026-03-01T00:00:00Z,", "interval_s"),
        (f"UP1,M1,E1,{KWH_15},kWh,0,Etc/UTC,2026-03-01T00:00:00Z,", "interval_s"),
        (f"UP1,M1,E1,{KWH_15},,900,Etc/UTC,2026-03-01T00:00:00Z,", "unit"),
        (f"UP1,M1,E1,{KWH_15},Wh,900,Etc/UTC,2026-03-01T00:00:00Z,", "unit"),
        (f"UP1,M1,E1,{KWH_15},parsec,900,Etc/UTC,2026-03-01T00:00:00Z,", "unit"),
        (f"UP1,M1,E1,{KWH_15},kWh,900,../passwd,2026-03-01T00:00:00Z,", "zone"),
        (f",M1,E1,{KWH_15},kWh,900,Etc/UTC,2026-03-01T00:00:00Z,", "usage_point"),
        ("UP1,M1,E1,1,kWh,900,Etc/UTC,2026-03-01T00:00:00Z,", "18 numbers"),
    ],
)
def test_a_bad_channel_row_names_line_and_column(row, words):
    error = reason_of(tabular.channels, CHANNELS + row + "\n")
    assert error.items[0].path == "line 2"
    assert words in error.items[0].reason


def test_one_channel_is_not_in_force_twice():
    row = f"UP1,M1,E1,{KWH_15},kWh,900,Etc/UTC,%s,%s\n"
    march, april, may = (f"2026-0{month}-01T00:00:00Z" for month in (3, 4, 5))
    assert len(tabular.channels(CHANNELS + row % (march, april) + row % (april, ""))) == 2
    error = reason_of(tabular.channels, CHANNELS + row % (march, may) + row % (april, ""))
    assert error.items[0].path == "line 3"


def test_a_site_table_gives_what_a_foreign_format_calls_a_channel():
    text = f"usage_point,meter,channel,reading_type,custid,uom_code,logical_channel\nUP1,M1,E1,{KWH_15},C1,07,2\n"
    assert tabular.sites(text) == {KEY: Site(KEY, custid="C1", uom_code="07", logical_channel=2)}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (f"UP1,M1,E1,{KWH_15},x,", "logical_channel"),
        (f"UP1,M1,E1,{KWH_15},,1e3", "decimal"),
        (f"UP1,,E1,{KWH_15},,", "meter"),
    ],
)
def test_a_bad_site_row_names_line_and_column(row, words):
    header = "usage_point,meter,channel,reading_type,logical_channel,meter_multiplier\n"
    error = reason_of(tabular.sites, header + row + "\n")
    assert error.items[0].path == "line 2"
    assert words in error.items[0].reason
