"""NEM12: files made by nemwriter, ours read by nemreader, and literal records beside what they mean."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import pytest
from gridpost.adapters.nem12 import Nem12Adapter
from hypothesis import given, settings
from hypothesis import strategies as st
from nemreader import NEMFile
from nemwriter import NEM12

from gridpost import tabular
from gridpost.errors import CannotRepresent, FileInvalid
from gridpost.model import ChannelKey, IntervalBlock, Quality, Readings, RegisterReading, Site
from gridpost.ports import FormatOptions

logging.getLogger("nemreader").setLevel(logging.ERROR)

ADAPTER = Nem12Adapter()
OPTIONS = FormatOptions()
# 18 numbers of 30-minute delta energy: forward kWh, reverse kWh, forward kvarh, reverse kvarh (IEC 61968-9 annex C)
TYPES = {
    "E1": "0.0.5.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0",
    "B1": "0.0.5.4.19.1.12.0.0.0.0.0.0.0.0.3.72.0",
    "Q1": "0.0.5.4.1.1.12.0.0.0.0.0.0.0.0.3.73.0",
    "K1": "0.0.5.4.19.1.12.0.0.0.0.0.0.0.0.3.73.0",
}
KEY = ChannelKey("NMI0000001", "METER1", "E1", TYPES["E1"])
# 2024-02-01 00:00 at UTC+10 is 2024-01-31T14:00:00Z
MIDNIGHT = 1706709600


def day(values=None, tail="A,,,20240202000000,", date="20240201"):
    return ",".join(("300", date, *(values or ["1.5"] * 48), tail))


def file_of(*lines, nmi="200,NMI0000001,E1,1,E1,N1,METER1,kWh,30,20240601"):
    return "\r\n".join(("100,NEM12,202402021200,MDP1,RET1", *((nmi,) if nmi else ()), *lines, "900", "")).encode()


def parse(*lines, **keywords):
    return ADAPTER.parse(file_of(*lines, **keywords), OPTIONS)


def seen_by_nemreader(raw, tmp_path):
    path = tmp_path / "seen.csv"
    path.write_bytes(raw)
    return {
        (nmi, suffix): [
            (read.t_end, repr(read.read_value), read.quality_method, read.event_code, read.event_desc)
            for read in sorted(reads, key=lambda read: read.t_end)
        ]
        for nmi, suffixes in NEMFile(str(path)).nem_data().readings.items()
        for suffix, reads in suffixes.items()
    }


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_day_is_stamped_at_interval_ends_in_nem_time():
    block = parse(day([str(number) for number in range(48)])).readings.blocks[0]
    assert (block.channel, block.interval_s) == (KEY, 1800)
    assert (block.ends_utc[0], block.ends_utc[-1]) == (MIDNIGHT + 1800, MIDNIGHT + 86400)
    assert block.values[:3] == ("0", "1", "2")
    assert set(block.qualities) == {()}


def test_the_meter_is_the_nmi_where_the_serial_is_empty():
    nmi = "200,NMI0000001,E1,1,E1,N1,,kWh,30,"
    assert parse(day(), nmi=nmi).readings.blocks[0].channel.meter == "NMI0000001"


@pytest.mark.parametrize(("suffix", "uom"), [("E1", "KWH"), ("B1", "kWh"), ("Q1", "kVArh"), ("K1", "kvarh")])
def test_suffix_and_unit_give_the_reading_type(suffix, uom):
    nmi = f"200,NMI0000001,{suffix},1,{suffix},N1,METER1,{uom},30,"
    assert parse(day(), nmi=nmi).readings.blocks[0].channel.reading_type == TYPES[suffix]


@pytest.mark.parametrize(("minutes", "code"), [(5, 6), (10, 1), (15, 2), (30, 5)])
def test_the_interval_length_gives_the_measuring_period(minutes, code):
    nmi = f"200,NMI0000001,E1,1,E1,N1,METER1,kWh,{minutes},"
    block = parse(day(["1"] * (1440 // minutes)), nmi=nmi).readings.blocks[0]
    assert block.channel.reading_type.split(".")[2] == str(code)
    assert len(block.values) == 1440 // minutes


def test_the_site_table_gives_other_reading_types():
    demand = ChannelKey("UP", "M", "kw", "0.0.5.12.1.1.37.0.0.0.0.0.0.0.0.3.38.0")
    sites = {demand: Site(demand, custid="NMI0000001", recid="METER1", nem12_suffix="D1")}
    raw = file_of(day(), nmi="200,NMI0000001,D1,1,D1,N1,METER1,kW,30,")
    assert ADAPTER.parse(raw, FormatOptions(sites=sites)).readings.blocks[0].channel == demand
    with pytest.raises(FileInvalid, match="site table"):
        ADAPTER.parse(raw, OPTIONS)


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("A,,,20240202000000,", ()),
        ("A,32,,20240202000000,", (Quality("1.0.0", "A,32,"),)),
        ("S14,76,Communications Fault,20240202000000,", (Quality("2.8.0", "S14,76,Communications Fault"),)),
        ('E52,0,"a, b",,', (Quality("2.8.0", "E52,0,a, b"),)),
        ("F55,1,,20240202000000", (Quality("2.7.0", "F55,1,"),)),
    ],
)
def test_a_quality_crosses_with_its_verbatim_code(tail, expected):
    assert parse(day(tail=tail)).readings.blocks[0].qualities[0] == expected


def test_a_null_interval_keeps_its_value_in_the_detail():
    block = parse(day(["0.000"] * 48, tail="N,79,void,,")).readings.blocks[0]
    assert (block.values[0], block.qualities[0]) == (None, (Quality("2.5.259", "N=0.000,79,void"),))


def test_400_records_say_what_each_interval_is():
    block = parse(day(tail="V,,,,"), "400,1,20,A,,", "400,21,48,F51,1,").readings.blocks[0]
    assert block.qualities[19:21] == ((), (Quality("2.7.0", "F51,1,"),))


def test_a_record_broken_over_lines_is_joined_with_a_warning():
    values = [str(number) for number in (*range(1, 25), *range(200, 224))]
    broken = ("300,20240201,", ",".join(values[:24]) + ",", ",".join(values[24:]) + ",A,,,20240202000000,")
    parsed = parse(*broken)
    assert parsed.readings == parse(day(values)).readings
    assert [(note.code, note.path) for note in parsed.notes] == [("joined-record", "line 3")]


def test_the_interval_length_may_change_inside_a_channel():
    parsed = parse(
        day(), "200,NMI0000001,E1,1,E1,N1,METER1,kWh,15,", day(["2"] * 96, date="20240202"), "500,O,S1,20240202000000,"
    )
    assert [(block.interval_s, len(block.values)) for block in parsed.readings.blocks] == [(1800, 48), (900, 96)]
    assert [note.code for note in parsed.notes] == ["not-carried"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "empty"),
        (b"\xff\xfe", "not UTF-8"),
        (file_of(day()).removeprefix(b"100,NEM12,202402021200,MDP1,RET1\r\n"), "line 1: a NEM12 file begins"),
        (file_of(day()).replace(b"NEM12", b"NEM13", 1), "not NEM12"),
        (file_of(day()).replace(b"900\r\n", b""), "does not end with a 900"),
        (file_of(day(), "900"), "line 4: a second 900"),
        (file_of("100,NEM12,1,a,b"), "line 3: a second 100"),
        (file_of(nmi=None) + file_of(day()), "line 2: a second 900"),
        (file_of(day(["1"] * 47)), "line 3: a day of 30 minute intervals has 48 values"),
        (file_of(day(["1"] * 96)), "line 3: a day of 30"),
        (file_of(day(["1"] * 47 + ["x"])), "line 3: value 48, 'x', is not a decimal"),
        (file_of(day(["1"] * 47 + ["-1"])), "line 3: value 48, -1, is negative"),
        (file_of(day(date="20240230")), "line 3: interval date '20240230'"),
        (file_of(day(tail="V,,,,")), "line 3: quality V"),
        (file_of(day(tail="X,,,,")), "line 3: a day of"),
        (file_of(day(tail="A,1x,,,")), "line 3: reason code '1x'"),
        (file_of(day(tail="V,,,,"), "400,1,20,A,,", "400,22,48,A,,"), "line 5: a 400 record begins at interval 22"),
        (file_of(day(tail="V,,,,"), "400,1,47,A,,"), "line 4: the 400 records cover 47 of 48"),
        (file_of(day(tail="V,,,,"), "400,1,49,A,,"), "line 4: intervals 1 to 49"),
        (file_of(day(tail="V,,,,"), "400,1,48,V,,"), "line 4: a 400 record says V"),
        (file_of(day(tail="V,,,,"), "400,1,x,A,,"), "line 4: intervals '1' to 'x'"),
        (file_of("400,1,48,A,,"), "line 3: a 400 record before any 300"),
        (file_of(day(), nmi=None), "line 2: a 300 record before any 200"),
        (file_of("200,NMI,E1"), "line 3: a 200 record has 10 fields"),
        (file_of(day(), nmi="200,,E1,1,E1,N1,METER1,kWh,30,"), "line 2: the 200 record lacks the NMI"),
        (file_of(day(), nmi="200,NMI,E1,1,E1,N1,METER1,kWh,7,"), "line 2: interval length '7'"),
        (file_of(day(), nmi="200,NMI,E1,1,E1,N1,METER1,furlong,30,"), "line 2: unknown unit"),
        (file_of(day(), nmi="200,NMI,X1,1,X1,N1,METER1,kWh,30,"), "line 2: suffix 'X1'"),
        (file_of("777,1"), "line 3: record indicator '777'"),
        (file_of(day(), day()), "line 4: repeats the day of line 3"),
        (file_of(day(["1"] * 47 + ["1\x00"])), "line 3: a control character"),
        (file_of('300,"1'), "line 3: unexpected end of data"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_line(raw, words):
    with pytest.raises(FileInvalid) as caught:
        ADAPTER.parse(raw, OPTIONS)
    assert words in caught.value.reason


def test_every_bad_record_is_listed_once():
    with pytest.raises(FileInvalid) as caught:
        parse(day(["1"] * 47), "400,1,48,A,,", day(["x"] * 48, date="20240202"), "200,NMI,E1", day(), "400,1,48,A,,")
    assert [item.path for item in caught.value.items] == ["line 3", "line 5", "line 6"]


# --- against nemwriter and nemreader ----------------------------------------------------------------------------------


def made_by_nemwriter(tmp_path):
    maker = NEM12(to_participant="RET1", from_participant="MDP1")
    ends = [datetime(2024, 2, 1) + timedelta(minutes=30 * number) for number in range(1, 97)]
    for suffix, uom in (("E1", "kWh"), ("B1", "kWh"), ("Q1", "kVArh")):
        reads = [
            (
                end,
                number / 8,
                "A" if number % 7 else "S14",
                None if number % 7 else 76,
                None if number % 7 else "Comms, lost",
            )
            for number, end in enumerate(ends)
            if number != 50  # nemwriter fills it: N
        ]
        maker.add_readings("NMI0000001", "E1B1Q1", suffix, uom, reads, meter_serial_number="METER1")
    return (tmp_path / "made.csv").read_bytes() if maker.output_csv(str(tmp_path / "made.csv")) else b""


def test_nemreader_finds_every_value_and_quality_again(tmp_path):
    raw = made_by_nemwriter(tmp_path)
    parsed = ADAPTER.parse(raw, OPTIONS)
    assert parsed.readings.count == 3 * 96
    crossed = tabular.parse(tabular.render(parsed.readings))
    rendered = ADAPTER.render(crossed, FormatOptions(created_utc_ms=MIDNIGHT * 1000))
    assert rendered.losses == ()
    expected = seen_by_nemreader(raw, tmp_path)
    assert len(expected) == 3
    assert seen_by_nemreader(rendered.content, tmp_path) == expected


def test_nemreader_finds_values_of_fifteen_digits_by_their_text(tmp_path):
    block = IntervalBlock(KEY, 1800, (MIDNIGHT + 1800,), ("123456789.012345",), ((),))
    raw = ADAPTER.render(Readings((block,)), OPTIONS).content
    assert b"300,20240201,123456789.012345,0,0," in raw
    reads = seen_by_nemreader(raw, tmp_path)["NMI0000001", "E1"]
    assert reads[0][:3] == (datetime(2024, 2, 1, 0, 30), "123456789.012345", "A")
    assert [read[2] for read in reads[1:]] == ["N"] * 47


# --- writing --------------------------------------------------------------------------------------------------------


def block_of(*values, key=KEY, interval_s=1800, qualities=None, first=MIDNIGHT + 1800):
    ends = tuple(first + interval_s * place for place in range(len(values)))
    return IntervalBlock(key, interval_s, ends, values, qualities or ((),) * len(values))


def test_the_records_are_these():
    block = block_of(*["1"] * 47, "2", qualities=((),) * 47 + ((Quality("2.8.0", "E52,,"),),))
    raw = ADAPTER.render(Readings((block,)), FormatOptions(created_utc_ms=MIDNIGHT * 1000)).content
    assert raw.decode().split("\r\n") == [
        "100,NEM12,202402010000,GRIDPOST,GRIDPOST",
        "200,NMI0000001,E1,,E1,,METER1,kWh,30,",
        "300,20240201," + "1," * 47 + "2,V,,,20240201000000,",
        "400,1,47,A,,",
        "400,48,48,E52,,",
        "900",
        "",
    ]


def test_a_file_comes_back_as_it_was_but_for_its_making():
    raw = file_of(day(tail="V,,,20240202120000,"), "400,1,20,A,,", "400,21,48,S14,76,Comms")
    parsed = ADAPTER.parse(raw, OPTIONS)
    # 2024-02-02 12:00 at UTC+10 is 02:00 UTC, 36 h after the day began
    options = FormatOptions(sites=parsed.sites, created_utc_ms=(MIDNIGHT + 129600) * 1000)
    assert ADAPTER.render(parsed.readings, options).content == raw.replace(b"MDP1,RET1", b"GRIDPOST,GRIDPOST")


@pytest.mark.parametrize(
    ("quality", "code"),
    [
        (Quality("1.0.0"), "A,,"),
        (Quality("1.4.9", "clock stepped 12 s"), "A,0,CIM 1.4.9 clock stepped 12 s"),
        (Quality("2.8.0"), "E,0,CIM 2.8.0"),
        (Quality("3.7.1", "PO"), "F,0,CIM 3.7.1 PO"),
    ],
)
def test_qualities_of_other_sources_cross_in_the_reason_text(quality, code):
    block = block_of(*["1"] * 48, qualities=((quality,),) * 48)
    rendered = ADAPTER.render(Readings((block,)), OPTIONS)
    assert f"1,{code},19700101100000," in rendered.content.decode()
    assert rendered.losses == ()
    back = ADAPTER.parse(rendered.content, OPTIONS).readings.blocks[0].qualities[0]
    assert back == (() if quality == Quality("1.0.0") else (quality,))


@pytest.mark.parametrize(
    ("readings", "words"),
    [
        (Readings((block_of("1", qualities=((Quality("1.4.9", "two\nlines"),),)),)), "quality '1.4.9 two"),
        (Readings((block_of("1", qualities=((Quality("1.4.9"), Quality("1.2.32")),)),)), "quality '1.2.32'"),
        (Readings((block_of("1"),), (RegisterReading(KEY, MIDNIGHT, "7"),)), "register reading 7"),
        (Readings((block_of("1", key=KEY._replace(stream="kwh delivered")),)), "written as NMI suffix E1"),
    ],
)
def test_what_has_no_place_is_listed(readings, words):
    losses = ADAPTER.render(readings, OPTIONS).losses
    assert [words in loss.reason for loss in losses] == [True]


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ((), "no interval readings"),
        ((block_of("-1"),), "negative"),
        ((block_of("1", interval_s=3600),), "3600 s"),
        ((block_of("1", first=MIDNIGHT + 60),), "off NEM time's grid"),
        ((block_of("1", key=KEY._replace(usage_point="NMI00000012")),), "NMI 'NMI00000012'"),
        ((block_of("1", key=KEY._replace(usage_point="a,b")),), "without commas"),
        ((block_of("1", key=KEY._replace(meter="1234567890123")),), "meter serial"),
        ((block_of("1"), block_of("2")), "two values"),
        ((block_of("1", key=KEY._replace(stream="one")), block_of("1", key=KEY._replace(stream="two"))), "one stream"),
        (
            (block_of("230", key=KEY._replace(stream="", reading_type="0.2.5.12.0.1.54" + ".0" * 8 + ".0.29.0")),),
            "no NMI suffix",
        ),
    ],
)
def test_what_would_make_the_file_wrong_is_refused(blocks, words):
    with pytest.raises(CannotRepresent) as caught:
        ADAPTER.render(Readings(tuple(blocks)), OPTIONS)
    assert words in caught.value.reason


def test_only_the_period_asked_for_is_written():
    block = block_of(*["1"] * 96)
    raw = ADAPTER.render(Readings((block,)), FormatOptions(from_utc=MIDNIGHT, to_utc=MIDNIGHT + 86400)).content
    assert raw.count(b"\r\n300,") == 1


# --- any file ---------------------------------------------------------------------------------------------------------

VALUES = st.from_regex(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?", fullmatch=True)
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
CODES = st.one_of(
    st.just("A,,"),
    st.builds(
        lambda method, reason, text: f'{method},{reason},"{text}"',
        st.sampled_from(["A", "E52", "F55", "S14", "N", "S"]),
        st.sampled_from(["", "0", "79", "100"]),
        TEXTS.map(lambda text: text.replace('"', '""')),
    ),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(VALUES, min_size=48, max_size=48), st.integers(1, 47), CODES, CODES)
def test_values_and_qualities_survive_to_the_digit(values, split, first, second):
    raw = file_of(day(values, tail="V,,,,"), f"400,1,{split},{first}", f"400,{split + 1},48,{second}")
    parsed = ADAPTER.parse(raw, OPTIONS)
    rendered = ADAPTER.render(tabular.parse(tabular.render(parsed.readings)), FormatOptions(sites=parsed.sites))
    assert rendered.losses == ()
    again = ADAPTER.parse(rendered.content, OPTIONS)
    assert again.readings == parsed.readings
    assert rendered.content.decode().split("\r\n")[2].split(",")[2:50] == values


GOOD = file_of(day(tail="V,,,,"), "400,1,20,A,,", "400,21,48,S14,76,Comms", "500,O,S1,20240202000000,")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.binary(max_size=2)), min_size=1, max_size=5))
def test_any_bytes_are_readings_or_are_refused(changes):
    raw = bytearray(GOOD)
    for place, piece in changes:
        raw[place : place + 1] = piece
    try:
        ADAPTER.parse(bytes(raw), OPTIONS)
    except FileInvalid as error:
        assert error.reason  # noqa: PT017
