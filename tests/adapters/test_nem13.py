"""NEM13: files made by nemwriter, ours read by nemreader, and literal records beside what they mean."""

from __future__ import annotations

import logging
from datetime import datetime

import pytest
from gridpost.adapters.nem12 import Nem12Adapter, Nem13Adapter
from nemreader import NEMFile
from nemwriter import NEM13

from gridpost import tabular
from gridpost.errors import CannotRepresent, FileInvalid
from gridpost.model import ChannelKey, IntervalBlock, Quality, Readings, RegisterReading, Site
from gridpost.ports import FormatOptions

logging.getLogger("nemreader").setLevel(logging.ERROR)

ADAPTER = Nem13Adapter()
OPTIONS = FormatOptions()
# forward kWh: a register's stand (bulk), and what was used between two (delta); no period (IEC 61968-9 annex C)
STAND = "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
USED = "0.0.0.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
KEY = ChannelKey("NMI0000001", "METER1", "11", STAND)
# 2024-01-01 and 2024-04-01 00:00 at UTC+10 are the days before, 14:00Z
JANUARY, APRIL = 1704031200, 1711893600
FIRST = (
    "250,NMI0000001,11,1,11,,METER1,E,100.5,20240101000000,A,,,250.75,20240401000000,S61,76,Est,150.25,kWh,20240701,,"
)


def file_of(*lines, version="NEM13"):
    return "\r\n".join((f"100,{version},202404021200,MDP1,RET1", *lines, "900", "")).encode()


def parse(*lines, options=OPTIONS):
    return ADAPTER.parse(file_of(*lines), options)


def changed(*places):
    fields = FIRST.split(",")
    for place, text in places:
        fields[place] = text
    return ",".join(fields)


def test_a_record_is_two_stands_and_what_was_used_between_them():
    estimate = (Quality("2.8.0", "S61,76,Est"),)
    parsed = parse(FIRST)
    assert parsed.readings == Readings(
        (IntervalBlock(KEY._replace(reading_type=USED), APRIL - JANUARY, (APRIL,), ("150.25",), (estimate,)),),
        (RegisterReading(KEY, JANUARY, "100.5"), RegisterReading(KEY, APRIL, "250.75", estimate)),
    )
    assert parsed.sites[KEY].nem12_next_read == "20240701"


@pytest.mark.parametrize(
    ("direction", "uom", "reading_type"),
    [
        ("I", "kWh", "0.0.0.1.19.1.12.0.0.0.0.0.0.0.0.3.72.0"),
        ("E", "MWH", "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.6.72.0"),
        ("E", "kvarh", "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.73.0"),
    ],
)
def test_direction_and_unit_give_the_reading_type(direction, uom, reading_type):
    assert parse(changed((7, direction), (19, uom))).readings.registers[0].channel.reading_type == reading_type


def test_the_site_table_gives_other_reading_types():
    demand = ChannelKey("UP", "M", "kw", "0.0.0.1.1.1.37.0.0.0.0.0.0.0.0.3.38.0")
    sites = {demand: Site(demand, custid="NMI0000001", recid="METER1", nem12_suffix="11")}
    record = changed((19, "kW"))
    assert parse(record, options=FormatOptions(sites=sites)).readings.registers[0].channel == demand
    with pytest.raises(FileInvalid, match="direction 'E' with unit 'kW' means what the site says"):
        parse(record)


SECOND = changed((8, "250.75"), (9, "20240401000000"), (10, "S61"), (11, "76"), (12, "Est"), (13, "300"),
                 (14, "20240701000000"), (15, "A"), (16, ""), (17, ""), (18, "49.25"))  # fmt: skip


def test_a_read_that_two_records_name_is_one():
    parsed = parse(FIRST, SECOND, "550,N,S1,A,S2")
    assert [one.value for one in parsed.readings.registers] == ["100.5", "250.75", "300"]
    assert [block.values for block in parsed.readings.blocks] == [("150.25",), ("49.25",)]
    assert [(note.code, note.path) for note in parsed.notes] == [("not-carried", "line 4")]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((FIRST.rpartition(",S61")[0],), "line 2: a 250 record has 23 fields, not 15"),
        ((changed((1, "")),), "lacks the NMI"),
        ((changed((8, "-1")),), "register read -1 is negative"),
        ((changed((8, "NaN")),), "register read 'NaN' is not a decimal"),
        ((changed((18, "")),), "quantity '' is not a decimal"),
        ((changed((10, "N")),), "quality method 'N'"),
        ((changed((11, "x")),), "reason code 'x'"),
        ((changed((9, "20240401")),), "read time '20240401': not CCYYMMDDhhmmss"),
        ((changed((9, "20240230000000")),), "read time '20240230000000'"),
        ((changed((9, "20240401000000")),), "the current reading is not later"),
        ((changed((19, "furlong")),), "unknown unit 'furlong'"),
        ((changed((7, "X")),), "direction 'X'"),
        ((FIRST, SECOND.replace(",250.75,", ",251,")), "line 3: 251 contradicts the read 250.75"),
        ((FIRST, changed((9, "20240201000000"))), "line 3: the time since the previous read is another record's"),
        (("300,20240201",), "record indicator '300' is not one of NEM13"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_line(lines, words):
    with pytest.raises(FileInvalid) as caught:
        parse(*lines)
    assert words in caught.value.reason


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "the file is empty; a NEM13 file"),
        (file_of(FIRST)[:150], "does not end with a 900"),
        (file_of(FIRST, version="NEM12"), "'NEM12', not NEM13"),
        (b"MEPMD01,19970819", "a NEM13 file begins with a 100"),
    ],
)
def test_a_file_of_another_market_or_cut_is_refused(raw, words):
    with pytest.raises(FileInvalid) as caught:
        ADAPTER.parse(raw, OPTIONS)
    assert words in caught.value.reason
    assert ADAPTER.parse(b"\xef\xbb\xbf" + file_of(FIRST), OPTIONS).readings == parse(FIRST).readings


def test_nem12_refuses_nem13_by_name():
    with pytest.raises(FileInvalid, match="'NEM13', not NEM12"):
        Nem12Adapter().parse(file_of(FIRST), OPTIONS)


# --- against nemwriter and nemreader ----------------------------------------------------------------------------------


def seen_by_nemreader(raw, tmp_path):
    path = tmp_path / "seen.csv"
    path.write_bytes(raw)
    return {
        (nmi, suffix): [
            (one.t_start, one.t_end, one.read_value, one.uom, one.meter_serial_number, one.quality_method,
             one.event_code, one.event_desc, one.val_start, one.val_end)
            for one in sorted(reads, key=lambda one: one.t_end)
        ]
        for nmi, suffixes in NEMFile(str(path)).nem_data().readings.items()
        for suffix, reads in suffixes.items()
    }  # fmt: skip


def test_nemreader_finds_every_read_of_nemwriter_again(tmp_path):
    maker = NEM13(to_participant="RET1", from_participant="MDP1")
    for suffix, direction in (("11", "E"), ("71", "I")):
        for quarter, (start, end) in enumerate((("100", "250.5"), ("250.5", "300"), ("300", "1000.125"))):
            maker.add_reading(
                "NMI0000001", "1171", "1", suffix, start, datetime(2023, 1 + 3 * quarter, 1), end,
                datetime(2023, 4 + 3 * quarter, 1), str(float(end) - float(start)), meter_serial_number="METER1",
                direction_indicator=direction, previous_quality_method="A", current_quality_method="A",
            )  # fmt: skip
    maker.output_csv(str(tmp_path / "made.csv"))
    raw = (tmp_path / "made.csv").read_bytes()
    parsed = ADAPTER.parse(raw, OPTIONS)
    crossed = tabular.parse(tabular.render(parsed.readings))
    rendered = ADAPTER.render(crossed, FormatOptions(sites=parsed.sites))
    assert rendered.losses == ()
    expected = seen_by_nemreader(raw, tmp_path)
    assert [len(reads) for reads in expected.values()] == [3, 3]
    assert seen_by_nemreader(rendered.content, tmp_path) == expected


def test_a_file_comes_back_as_it_was_but_for_its_making():
    raw = file_of(FIRST, SECOND)
    parsed = ADAPTER.parse(raw, OPTIONS)
    # 2024-04-02 12:00 at UTC+10 is 36 h after the first of April began there
    options = FormatOptions(sites=parsed.sites, created_utc_ms=(APRIL + 129600) * 1000)
    wanted = raw.replace(b"MDP1,RET1", b"GRIDPOST,GRIDPOST").replace(b",20240701,,", b",20240701,20240402120000,")
    assert ADAPTER.render(parsed.readings, options).content == wanted


# --- writing --------------------------------------------------------------------------------------------------------


def stands(*values, key=KEY):
    return tuple(RegisterReading(key, JANUARY + 86400 * day, value) for day, value in enumerate(values))


def test_the_quantity_is_the_difference_where_nothing_else_is_said():
    raw = ADAPTER.render(Readings((), stands("99.9", "100.25")), OPTIONS).content
    assert b",0.35,kWh," in raw


def test_what_has_no_place_is_listed():
    block = IntervalBlock(KEY, 900, (JANUARY,), ("1",), ((),))
    lone = stands("1", key=KEY._replace(stream="12"))
    losses = ADAPTER.render(Readings((block,), (*stands("1", "2"), *lone)), OPTIONS).losses
    assert [loss.reason for loss in losses] == ["1 intervals have no place", "one reading of the register is no record"]


@pytest.mark.parametrize(
    ("registers", "words"),
    [
        ((), "no two readings"),
        (stands("1"), "no two readings"),
        (stands("2", "1"), "the register went back at 2024-01-01T14:00:00Z"),
        (stands("-2", "-1"), "-2 is negative"),
        (stands("1", "2", key=KEY._replace(usage_point="NMI00000012")), "NMI 'NMI00000012'"),
        (stands("1", "2", key=KEY._replace(meter="a,b")), "meter serial 'a,b'"),
        (stands("1", "2", key=KEY._replace(reading_type=STAND.replace("1.1.12", "0.1.12"))), "suffix, unit or"),
    ],
)  # fmt: skip
def test_what_would_make_the_file_wrong_is_refused(registers, words):
    with pytest.raises(CannotRepresent) as caught:
        ADAPTER.render(Readings((), tuple(registers)), OPTIONS)
    assert words in caught.value.reason
