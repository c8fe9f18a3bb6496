"""CMEP: records written out by hand from the protocol's field list, beside what they mean."""

from __future__ import annotations

import pytest
from gridpost.adapters.cmep import CmepAdapter
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpost import tabular
from gridpost.errors import CannotRepresent, FileInvalid
from gridpost.model import ChannelKey, IntervalBlock, Quality, Readings, RegisterReading, Site
from gridpost.ports import FormatOptions

ADAPTER = CmepAdapter()
OPTIONS = FormatOptions()
# 15 minute delta energy, forward kWh; the register behind it (IEC 61968-9 annex C)
KWH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
KWH_REGISTER = "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
KEY = ChannelKey("CUST1", "METER1", "KWH", KWH)
NOON = 1317124800  # 2011-09-27T12:00:00Z
# Four quarter hours to 13:00: good, estimated, empty, raw with what a supplier adds
TRIPLES = "201109271215,,1.25,201109271230,E,0.50,201109271245,N,,201109271300,R0,7"


def line(triples=TRIPLES, *, count=4, unit="KWH", interval="00000015", **other):
    field = {"purpose": "OK", "commodity": "E", "constant": "1", "customer": "CUST1", "meter": "METER1"} | other
    head = ["MEPMD01", "19970819", "GRIDPOST", "", "", field["customer"], "201109271300", field["meter"]]
    return ",".join(
        [*head, field["purpose"], field["commodity"], unit, field["constant"], interval, str(count), triples]
    )


def parse(*lines, options=OPTIONS):
    return ADAPTER.parse("".join(f"{one}\r\n" for one in lines).encode(), options)


def test_values_are_stamped_at_interval_ends_in_utc():
    block = parse(line()).readings.blocks[0]
    assert (block.channel, block.interval_s) == (KEY, 900)
    assert block.ends_utc == (NOON + 900, NOON + 1800, NOON + 2700, NOON + 3600)
    assert block.values == ("1.25", "0.50", None, "7")
    assert block.qualities == (
        (),
        (Quality("2.8.0", "CMEP E"),),
        (Quality("2.5.259", "CMEP N"),),
        (Quality("1.0.0", "CMEP R0"),),
    )


def test_a_time_left_out_is_the_one_before_and_the_interval():
    # 23:45 and a quarter hour is the next day's 00:00, which CMEP writes 0000
    ends = parse(line("201109272345,,1,,,2,,,3", count=3)).readings.blocks[0].ends_utc
    assert ends == (NOON + 42300, NOON + 43200, NOON + 44100)


@pytest.mark.parametrize(
    ("text", "value"),
    [("", "0"), ("007", "7"), ("H00ff", "255"), ("-1.5", "-1.5"), ("1.5E2", "150"), ("25d-1", "2.5"), (".5", "0.5")],
)
def test_numbers_of_every_spelling(text, value):
    assert parse(line(f"201109271215,,{text}", count=1)).readings.blocks[0].values == (value,)


@pytest.mark.parametrize(
    ("unit", "reading_type"),
    [
        ("GKWH", "0.0.2.4.19.1.12.0.0.0.0.0.0.0.0.3.72.0"),
        ("KVARH", "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.73.0"),
        ("KVAH", "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.71.0"),
        ("KW", "0.2.2.6.1.1.37.0.0.0.0.0.0.0.0.3.38.0"),
        ("GKVAR", "0.2.2.6.19.1.37.0.0.0.0.0.0.0.0.3.63.0"),
        ("VOLTS", "0.2.2.6.0.1.54.0.0.0.0.0.0.0.0.0.29.0"),
    ],
)
def test_the_unit_gives_the_reading_type(unit, reading_type):
    assert parse(line(unit=unit)).readings.blocks[0].channel == KEY._replace(stream=unit, reading_type=reading_type)


def test_a_register_is_a_stand_at_any_minute():
    # As meters of the field report: hourly, a minute late now and then, the meter ID empty
    readings = parse(
        line("201109271202,R0,698,201109271302,R0,700", count=2, unit="KWHREG", interval="00000100", meter="")
    ).readings
    key = ChannelKey("CUST1", "CUST1", "KWHREG", KWH_REGISTER)
    raw = (Quality("1.0.0", "CMEP R0"),)
    assert readings == Readings(
        (), (RegisterReading(key, NOON + 120, "698", raw), RegisterReading(key, NOON + 3720, "700", raw))
    )


def test_what_the_table_lacks_is_refused_by_name_or_meant_by_the_site_table():
    water = ChannelKey("UP", "M", "water", "0.0.0.1.1.9.58.0.0.0.0.0.0.0.0.0.128.0")
    sites = {water: Site(water, custid="CUST1", recid="METER1", unit="GALREG")}
    record = line("201109271200,R0,36318", count=1, unit="GALREG", commodity="W")
    with pytest.raises(FileInvalid, match="line 1: commodity 'W' with unit 'GALREG' means what the site says"):
        parse(record)
    assert parse(record, options=FormatOptions(sites=sites)).readings.registers == (
        RegisterReading(water, NOON, "36318", (Quality("1.0.0", "CMEP R0"),)),
    )


def test_pulses_are_multiplied_exactly_where_the_site_table_says_of_what():
    options = FormatOptions(sites={KEY: Site(KEY, custid="CUST1", recid="METER1", unit="PULSE")})
    assert parse(line("201109271215,,3", count=1, unit="PULSE", constant="0.1"), options=options).readings.blocks[
        0
    ].values == ("0.3",)


def test_what_is_not_carried_is_named():
    notes = parse(
        "MEPEC01,19970819,X", line(purpose="TEMPLATE"), line(constant="40"), line().replace("CUST1", "C2") + ",H1A2B"
    ).notes
    assert [(note.code, note.path) for note in notes] == [
        ("not-carried", "line 1"),
        ("not-carried", "line 2"),
        ("not-carried", "line 3"),
        ("crc-not-checked", "line 4"),
    ]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (
            line().encode().rpartition(b",201109271300")[0],
            "line 1: the count is 4, 12 fields of time, quality and value; 9 follow",
        ),
        (line().encode() + b",201109271315,,9", "line 1: the count is 4"),
        (line().encode()[:60], "line 1: a MEPMD01 record has 14 fields before its values, not 11"),
        (b"100,NEM12,202401010000,A,B", "line 1: '100' is no record of CMEP"),
        (line().encode("utf-16"), "line 1: byte 0 is not ASCII"),
        (line(customer="É").encode(), "is not ASCII"),
        (line(customer="", meter="").encode(), "whose values"),
        (line(purpose="MAYBE").encode(), "purpose 'MAYBE'"),
        (line(count="4x").encode(), "count '4x'"),
        (line(interval="00000007").encode(), "does not divide the hour"),
        (line(interval="01000000").encode(), "of months"),
        (line(interval="").encode(), "interval length is empty"),
        (line(TRIPLES.replace("201109271215", "201109272400")).encode(), "'201109272400' is not a moment"),
        (line(TRIPLES.replace("201109271215", "")).encode(), "value 1 has no time"),
        (line(TRIPLES.replace("1.25", "NaN")).encode(), "'NaN' is no number"),
        (line(TRIPLES.replace("1.25", "1E99")).encode(), "more than 18 digits"),
        (line(TRIPLES.replace(",E,", ",e,")).encode(), "value 2 has the quality 'e'"),
        (line(TRIPLES.replace("201109271230", "201109271215")).encode(), "repeats the value of 2011-09-27T12:15:00Z"),
        (line("201109271215,N,", count=1, unit="KWHREG").encode(), "a register reading without a value"),
        (line().encode() + b',"', "unexpected end of data"),
        (line().encode().replace(b"1.25", b"1\x002"), "a control character"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_line(raw, words):
    with pytest.raises(FileInvalid) as caught:
        ADAPTER.parse(raw, OPTIONS)
    assert words in caught.value.reason


def test_every_bad_line_is_listed():
    with pytest.raises(FileInvalid) as caught:
        parse(line(purpose="MAYBE"), line(), "777")
    assert [item.path for item in caught.value.items] == ["line 1", "line 3"]


def test_a_last_line_without_an_end_may_be_cut_inside_a_number_and_is_said():
    assert [note.code for note in ADAPTER.parse(line().encode(), OPTIONS).notes] == ["no-line-end"]
    assert parse(line()).notes == ()


def test_a_byte_order_mark_is_passed_over():
    assert ADAPTER.parse(b"\xef\xbb\xbf" + line().encode(), OPTIONS).readings == parse(line()).readings


# --- writing --------------------------------------------------------------------------------------------------------


def block_of(*values, qualities=None, key=KEY, first=NOON + 900, interval_s=900):
    ends = tuple(first + interval_s * place for place in range(len(values)))
    return IntervalBlock(key, interval_s, ends, values, qualities or ((),) * len(values))


def test_a_file_of_ours_comes_back_to_the_byte():
    raw = f"{line()}\r\n{line('201109271200,R0,698', count=1, unit='KWHREG', interval='')}\r\n".encode()
    parsed = ADAPTER.parse(raw, OPTIONS)
    crossed = tabular.parse(tabular.render(parsed.readings))
    rendered = ADAPTER.render(crossed, FormatOptions(sites=parsed.sites, created_utc_ms=(NOON + 3600) * 1000))
    assert (rendered.content, rendered.losses) == (raw, ())


def test_a_record_holds_at_most_48_values():
    raw = ADAPTER.render(Readings((block_of(*["1.5"] * 100),)), OPTIONS).content
    assert [one.split(b",")[13] for one in raw.splitlines()] == [b"48", b"48", b"4"]
    assert max(map(len, raw.splitlines())) <= 2048
    assert ADAPTER.parse(raw, OPTIONS).readings.blocks[0].values == ("1.5",) * 100


@pytest.mark.parametrize(
    ("quality", "triple", "lost"),
    [
        (Quality("1.0.0"), ",1", False),
        (Quality("2.8.0"), "E,1", False),
        (Quality("3.7.1", "by hand"), "A,1", True),
        (Quality("1.2.32", "PO"), "R,1", True),
        (Quality("2.8.0", "CMEP N"), "E,1", True),
        (Quality("4.1.0", "CMEP Z9"), "Z9,1", False),
    ],
)
def test_a_quality_of_elsewhere_is_never_written_as_validated(quality, triple, lost):
    rendered = ADAPTER.render(Readings((block_of("1", qualities=((quality,),)),)), OPTIONS)
    assert rendered.content.decode().rstrip().endswith(f"201109271215,{triple}")
    assert bool(rendered.losses) == lost


def test_a_stream_name_that_is_not_the_unit_is_listed():
    losses = ADAPTER.render(Readings((block_of("1", key=KEY._replace(stream="E1")),)), OPTIONS).losses
    assert ["'E1' has no place" in loss.reason for loss in losses] == [True]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (block_of("1", key=KEY._replace(meter="1234567890123")), "meter ID '1234567890123'"),
        (block_of("1", key=KEY._replace(usage_point="É")), "customer ID"),
        (block_of("12345678901234567"), "more than 16 characters"),
        (block_of("1", first=NOON + 1), "whole minutes"),
        (block_of("1", interval_s=420), "no interval of 420 s"),
        (block_of("1", key=KEY._replace(reading_type=KWH.replace(".72.", ".23."))), "no unit for"),
    ],
)
def test_what_would_make_the_file_wrong_is_refused(block, words):
    with pytest.raises(CannotRepresent) as caught:
        ADAPTER.render(Readings((block,)), OPTIONS)
    assert words in caught.value.reason


def test_channels_the_file_would_mix_up_and_nothing_at_all_are_refused():
    with pytest.raises(CannotRepresent, match="one channel with one"):
        ADAPTER.render(
            Readings(tuple(block_of("1", key=KEY._replace(stream=name)) for name in ("one", "two"))), OPTIONS
        )
    with pytest.raises(CannotRepresent, match="two values"):
        ADAPTER.render(Readings((block_of("1"), block_of("2"))), OPTIONS)
    with pytest.raises(CannotRepresent, match="no readings"):
        ADAPTER.render(Readings((block_of("1"),)), FormatOptions(from_utc=NOON + 900))


# --- any file ---------------------------------------------------------------------------------------------------------

VALUES = st.from_regex(r"-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,5})?", fullmatch=True)
FLAGS = st.from_regex(r"([A-MO-Z][A-Za-z0-9 ]{0,10}[A-Za-z0-9])?", fullmatch=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(FLAGS, VALUES), min_size=1, max_size=60))
def test_values_and_flags_survive_to_the_digit(cells):
    triples = ",".join(
        f"{',' if place else '201109271215,'}{flag},{value}" for place, (flag, value) in enumerate(cells)
    )
    parsed = parse(line(triples, count=len(cells)))
    again = ADAPTER.render(tabular.parse(tabular.render(parsed.readings)), FormatOptions(sites=parsed.sites))
    assert again.losses == ()
    assert ADAPTER.parse(again.content, OPTIONS).readings == parsed.readings
    assert parsed.readings.blocks[0].values == tuple(value for _, value in cells)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(line()) - 1), st.binary(max_size=2)), min_size=1, max_size=5))
def test_any_bytes_are_readings_or_are_refused(changes):
    raw = bytearray(line().encode())
    for place, piece in changes:
        raw[place : place + 1] = piece
    try:
        ADAPTER.parse(bytes(raw), OPTIONS)
    except FileInvalid as error:
        assert error.reason  # noqa: PT017
