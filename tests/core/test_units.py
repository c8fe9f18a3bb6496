"""Decimal literals against decimal, instants against datetime, units against the reading type's own codes."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridpost import units
from gridpost.errors import FileInvalid

LITERALS = st.from_regex(r"\A[+-]?(?:[0-9]{1,12}(?:\.[0-9]{0,6})?|\.[0-9]{1,9})\Z")


@given(LITERALS)
def test_a_literal_keeps_its_value_and_its_decimals(text):
    kept = units.decimal_text(text)
    assert Decimal(kept) == Decimal(text)
    assert len(kept.partition(".")[2]) == len(text.partition(".")[2])
    assert str(json.loads(kept, parse_int=str, parse_float=str)) == kept


@given(LITERALS)
def test_a_kept_literal_is_kept_as_it_is(text):
    kept = units.decimal_text(text)
    assert units.decimal_text(kept) == kept


@given(st.text())
def test_whatever_is_taken_is_an_ascii_decimal(text):
    try:
        kept = units.decimal_text(text)
    except ValueError:
        return
    assert kept.isascii()
    assert Decimal(kept) == Decimal(text)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("1.5", "1.5"),
        ("+1.5", "1.5"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("5.", "5"),
        ("007", "7"),
        ("-007.10", "-7.10"),
        ("0", "0"),
        ("-0", "-0"),
        ("000", "0"),
        ("0.000", "0.000"),
        ("9007199254740993", "9007199254740993"),
        ("123456789012345678", "123456789012345678"),
        ("-12345678901234567.8", "-12345678901234567.8"),
    ],
)
def test_forms_of_a_literal(text, kept):
    assert units.decimal_text(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1 ",
        "\n1",
        "1\n",
        "NaN",
        "INF",
        "-Infinity",
        "sNaN",
        "1_000",
        "1e3",
        "1E400",
        "0x10",
        "1,5",
        "--1",
        "+-1",
        "-",
        "+",
        ".",
        "1.2.3",
        "\u0661",
        "\uff11",
        "1\u00b2",
        "\u00a01",
        "\u22121",
        "1234567890123456789",
        "0.1234567890123456789",
        "0" * 18 + "1",
        "9" * 100_000,
    ],
)
def test_what_is_no_literal(text):
    with pytest.raises(ValueError, match=r"decimal|digits"):
        units.decimal_text(text)


@given(st.lists(st.one_of(LITERALS, st.text(max_size=3), st.sampled_from(["", "1\n2", "1\n", "\n", "0" * 19]))))
def test_a_column_is_read_as_its_cells_are(texts):
    try:
        each = tuple(map(units.decimal_text, texts))
    except ValueError:
        with pytest.raises(ValueError, match=r"decimal|digits"):
            units.decimal_texts(texts)
        return
    assert units.decimal_texts(texts) == each


@given(st.lists(st.decimals(-(10**9), 10**9, places=3).map(str), min_size=1))
def test_a_plain_column_is_kept_as_it_is(texts):
    assert units.decimal_texts(texts) == tuple(texts)


MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(9998, 12, 30))
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(MOMENTS, OFFSETS)
def test_instants_are_those_of_datetime(moment, offset):
    aware = moment.replace(tzinfo=offset)
    exact = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert units.parse_utc_ms(aware.isoformat(timespec="microseconds")) == exact
    assert units.parse_utc_ms(aware.isoformat(timespec="milliseconds")) == exact


@given(st.integers(0, 253_370_764_799_999))
def test_an_instant_written_is_the_instant_read(millis):
    text = units.format_utc_ms(millis)
    assert units.parse_utc_ms(text) == millis
    assert datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC) == timedelta(milliseconds=millis)
    assert units.parse_utc(units.format_utc(millis // 1000)) == millis // 1000


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.9999Z", 999),
        ("1970-01-01T05:45:00.250+05:45", 250),
        ("1969-12-31T18:00:01-06:00", 1000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("2026-01-01T00:00:00-00:00", 1_767_225_600_000),
    ],
)
def test_examples_of_instants(text, millis):
    assert units.parse_utc_ms(text) == millis


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01 00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:60Z",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-01-01T00:00:00z",
        "2026-01-01T00:00:00+0000",
        "2026-01-01T00:00:00+14:01",
        "2026-01-01T00:00:00+1:00",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00,5Z",
        "2026-01-01T00:00Z",
        "20260101T000000Z",
        "2026-W01-1T00:00:00Z",
        "-2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z\n",
        " 2026-01-01T00:00:00Z",
        "\u0662026-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+00:01",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_what_is_no_instant(text):
    for parse in (units.parse_utc_ms, units.parse_utc):
        with pytest.raises(ValueError, match=r"."):
            parse(text)


def test_an_interval_ends_on_a_whole_second():
    assert units.parse_utc("2026-01-01T00:00:00.000Z") == 1_767_225_600
    with pytest.raises(ValueError, match="whole second"):
        units.parse_utc("2026-01-01T00:00:00.001Z")


@pytest.mark.parametrize(
    ("zone", "text", "offset_s"),
    [
        ("Europe/Berlin", "2026-01-15T12:00:00Z", 3600),
        ("Europe/Berlin", "2026-07-15T12:00:00Z", 3600),  # summer time is not standard time
        ("Australia/Sydney", "2026-01-15T12:00:00Z", 36000),
        ("Australia/Sydney", "2026-07-15T12:00:00Z", 36000),
        ("America/New_York", "2026-07-15T12:00:00Z", -18000),
        ("Asia/Kathmandu", "2026-07-15T12:00:00Z", 20700),
        ("Etc/GMT-10", "2026-07-15T12:00:00Z", 36000),  # NEM time
    ],
)
def test_standard_offsets(zone, text, offset_s):
    assert units.standard_offset(ZoneInfo(zone), units.parse_utc(text)) == offset_s


@pytest.mark.parametrize(
    ("text", "interval_s", "zone", "fits"),
    [
        ("2026-07-15T00:15:00Z", 900, "Europe/Berlin", True),
        ("2026-07-15T00:15:00Z", 3600, "Europe/Berlin", False),
        ("2026-07-14T23:00:00Z", 86400, "Europe/Berlin", True),  # midnight CET, 01:00 on the wall
        ("2026-07-14T22:00:00Z", 86400, "Europe/Berlin", False),  # midnight on the wall
        ("2026-07-15T00:15:00Z", 1800, "Asia/Kathmandu", True),  # 06:00 there
        ("2026-07-15T00:00:00Z", 1800, "Asia/Kathmandu", False),  # 05:45 there
        ("2026-07-15T00:00:01Z", 60, "Etc/UTC", False),
    ],
)
def test_the_grid_starts_at_standard_midnight(text, interval_s, zone, fits):
    assert units.on_grid(units.parse_utc(text), interval_s, ZoneInfo(zone)) is fits


def test_a_zone_that_knows_no_offset_is_a_defect_of_the_caller():
    class Nowhere(ZoneInfo.__base__):
        def utcoffset(self, moment):
            return None

        def dst(self, moment):
            return None

        def fromutc(self, moment):
            return moment

    with pytest.raises(TypeError, match="offset"):
        units.standard_offset(Nowhere(), 0)


@pytest.mark.parametrize(
    ("symbol", "key"),
    [
        ("kWh", (3, 72)),
        ("KWH", (3, 72)),
        ("Wh", (0, 72)),
        ("MWh", (6, 72)),
        ("kvarh", (3, 73)),
        ("kVArh", (3, 73)),
        ("V", (0, 29)),
        ("A", (0, 5)),
        ("°C", (0, 23)),
        ("mA", (-3, 5)),
        ("MVA", (6, 61)),
        ("count", (0, 111)),
    ],
)
def test_units_are_those_of_the_reading_type(symbol, key):
    """Positions 16 and 17 of a ReadingType: power of ten, unit code of IEC 61968-9 annex C."""
    assert units.unit_code(symbol) == key


def test_an_unknown_unit_is_named():
    with pytest.raises(FileInvalid, match="'furlong'"):
        units.unit_code("furlong")
