"""The record of two sums, as a line of four cells and in tags: the source document's own example, and sums by hand."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from gridpost.adapters.csv_line import CsvLineAdapter
from gridpost.adapters.xml_record import XmlRecordAdapter

from gridpost.errors import CannotRepresent, FileInvalid
from gridpost.model import ChannelKey, IntervalBlock, Quality, Readings, RegisterReading, Site
from gridpost.ports import FormatOptions

LINE, XML = CsvLineAdapter(), XmlRecordAdapter()
EXAMPLE = b"45.54,1.25,1234 Elm Street, 8500"
AT = 1772352000  # 2026-03-01T08:00:00Z
OPTIONS = FormatOptions(to_utc=AT)
# energy forward in kWh summed since the month (macro period 13) and the day (11) began (IEC 61968-9 annex C)
MONTH, DAY = ("13.0.0.9.1.1.12.0.0.0.0.0.0.0.0.3.72.0", "11.0.0.9.1.1.12.0.0.0.0.0.0.0.0.3.72.0")
RECORD = Readings(
    (),
    (
        RegisterReading(ChannelKey("1234 Elm Street", "8500", "kWhMonth", MONTH), AT, "45.54"),
        RegisterReading(ChannelKey("1234 Elm Street", "8500", "kWhDay", DAY), AT, "1.25"),
    ),
)
TAGS = b"""<?xml version="1.0" encoding="UTF-8"?>
<billingInformation>
  <kWhMonth>45.54</kWhMonth>
  <kWhDay>1.25</kWhDay>
  <location>1234 Elm Street</location>
  <deviceType>8500</deviceType>
  <time>2026-03-01T08:00:00Z</time>
</billingInformation>
"""
KWH = "0.0.7.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"


KEY = ChannelKey("UP1", "M1", "E1", KWH)


def hours(*values, first, key=KEY, quality=()):
    ends = tuple(first + 3600 * place for place in range(len(values)))
    return IntervalBlock(key, 3600, ends, values, (quality,) * len(values))


# --- the line --------------------------------------------------------------------------------------------------------


def test_the_line_is_energy_of_the_month_and_day_at_a_place_by_a_device():
    parsed = LINE.parse(EXAMPLE, OPTIONS)
    assert parsed.readings == RECORD
    assert [note.code for note in parsed.notes] == ["no-line-end"]
    assert LINE.parse(b"\xef\xbb\xbf" + EXAMPLE + b"\n", OPTIONS) == (RECORD, {}, ())


def test_the_line_comes_back_to_the_byte():
    rendered = LINE.render(RECORD, OPTIONS)
    assert rendered.content == EXAMPLE + b"\r\n"
    assert [loss.reason for loss in rendered.losses] == ["the moment of the records has no place"]


@pytest.mark.parametrize("location", ['Elm Street 12, rear "B"', "=1+1", "'=1", "Straße"])
def test_a_location_of_any_letters_comes_back(location):
    raw = LINE.render(LINE.parse(EXAMPLE.replace(b"1234 Elm Street", b"X"), OPTIONS).readings, OPTIONS).content
    readings = Readings((), tuple(
        RegisterReading(one.channel._replace(usage_point=location), AT, one.value) for one in RECORD.registers
    ))  # fmt: skip
    again = LINE.render(readings, OPTIONS).content
    assert b",=" not in again
    assert LINE.parse(again, OPTIONS).readings == readings
    assert raw != again


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "the file is empty"),
        (b"\xff", "line 1: not UTF-8 at byte 0"),
        (EXAMPLE[:22], "line 1: 3 cells, not the four"),
        (EXAMPLE + b",x", "line 1: 5 cells"),
        (b"100,NEM12,202401010000,A,B", "line 1: 5 cells"),
        (b"kWh,1.25,Elm, 8500", "line 1: kWhMonth 'kWh' is not a decimal number"),
        (b"1,NaN,Elm, 8500", "line 1: kWhDay 'NaN' is not a decimal"),
        (b",,Elm, 8500", "line 1: neither"),
        (b"1,2,, 8500", "line 1: the location '' is empty"),
        (b"1,2,Elm,", "line 1: the device type '' is empty"),
        (b"1,2,Elm, 8500\n1,2,Elm, 8500", "line 2: a second record of Elm, 8500"),
        (b'1,2,"Elm, 8500', "line 1: unexpected end of data"),
    ],
)
def test_a_line_that_is_none_is_refused_with_its_number(raw, words):
    with pytest.raises(FileInvalid) as caught:
        LINE.parse(raw, OPTIONS)
    assert words in caught.value.reason


def test_a_line_without_a_moment_is_refused():
    with pytest.raises(FileInvalid, match="of which moment"):
        LINE.parse(EXAMPLE, FormatOptions())


# --- the tags --------------------------------------------------------------------------------------------------------


def test_the_record_in_tags_comes_back_to_the_byte():
    assert XML.parse(TAGS, FormatOptions()) == (RECORD, {}, ())
    assert XML.render(RECORD, OPTIONS) == (TAGS, ())


def test_order_namespace_and_unknown_tags_do_not_matter():
    other = b"""<b:billingInformation xmlns:b="urn:another"><b:motor unit="C">71</b:motor>
    <b:deviceType>8500</b:deviceType>
    <b:kWhDay> 1.25 </b:kWhDay><b:location>1234 Elm Street</b:location><b:motor/><b:kWhMonth>45.54</b:kWhMonth>
    </b:billingInformation>"""
    parsed = XML.parse(other, OPTIONS)
    assert parsed.readings == RECORD
    assert [(note.code, note.reason) for note in parsed.notes] == [("unknown-tag", "2 of motor passed over")]


def test_records_of_several_meters_are_a_list():
    both = Readings((), (*RECORD.registers, RegisterReading(ChannelKey("Oak", "7500", "kWhDay", DAY), AT, "0.5")))
    raw = XML.render(both, OPTIONS).content
    assert raw.count(b"<billingInformation>") == 2
    assert XML.parse(raw, FormatOptions()).readings == both


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (TAGS[:120], "no whole XML document"),
        (TAGS.replace(b"kWhMonth", b"kWh month"), "no whole XML document"),
        (TAGS.replace(b"<billing", b"<!DOCTYPE x [<!ENTITY a 'b'>]><billing", 1), "document type"),
        (TAGS.replace(b"billingInformation", b"MeterReadings"), "root is MeterReadings"),
        (TAGS.replace(b"kWhDay", b"kWhMonth"), "kWhMonth stands there twice"),
        (TAGS.replace(b"45.54", b"4_5"), "kWhMonth '4_5' is not a decimal"),
        (TAGS.replace(b"08:00:00Z", b"08:00:00"), "time '2026-03-01T08:00:00' is"),
        (TAGS.replace(b"8500", b""), "the device type '' is empty"),
    ],
)
def test_a_document_that_is_none_is_refused(raw, words):
    with pytest.raises(FileInvalid) as caught:
        XML.parse(raw, OPTIONS)
    assert words in caught.value.reason


# --- sums ------------------------------------------------------------------------------------------------------------


def test_intervals_become_sums_of_the_local_month_and_day():
    # Los Angeles is 8 h behind: 2026-03-01T08:00Z is its midnight. The hour that ends then is of February.
    block = hours("100", "1.25", "0.30", first=AT)
    rendered = XML.render(Readings((block,)), FormatOptions(zone=ZoneInfo("America/Los_Angeles")))
    assert b"<kWhMonth>1.55</kWhMonth>\n  <kWhDay>1.55</kWhDay>" in rendered.content
    assert b"<time>2026-03-01T10:00:00Z</time>" in rendered.content
    in_utc = XML.render(Readings((block,)), FormatOptions()).content  # all three are of the first of March there
    assert b"<kWhMonth>101.55</kWhMonth>\n  <kWhDay>101.55</kWhDay>" in in_utc


def test_the_day_is_the_newest_intervals_and_the_month_goes_on():
    # 23 h to midnight UTC of the second of March, then two of that day, in Wh
    block = hours(
        *["1"] * 23, "2000", "3000", first=AT - 7 * 3600, key=ChannelKey("U", "M", "E", KWH.replace(".3.72.", ".0.72."))
    )
    rendered = LINE.render(
        Readings((block,)), FormatOptions(sites={block.channel: Site(block.channel, address1="Elm", recid="8500")})
    )
    # the 24th hour ends at midnight, which is still the first's: 2.023; then 3 kWh
    assert rendered.content == b"5.023,3.000,Elm, 8500\r\n"


def test_sums_are_exact():
    block = hours("99999999999999999.9", "0.00000000000000001", first=AT)
    assert (
        b"<kWhDay>99999999999999999.90000000000000001</kWhDay>"
        in XML.render(Readings((block,)), FormatOptions()).content
    )


def test_what_has_no_place_is_listed():
    flagged = hours("1", None, first=AT, quality=(Quality("2.8.0"),))
    reverse = hours("1", first=AT, key=ChannelKey("UP1", "M1", "B1", KWH.replace(".1.1.12.", ".19.1.12.")))
    losses = [loss.reason for loss in LINE.render(Readings((flagged, reverse)), FormatOptions()).losses]
    assert len(losses) == 5
    for words in (
        "1 intervals of",
        "1 intervals without a value",
        "qualities",
        "2 intervals become two sums",
        "moment",
    ):
        assert any(words in loss for loss in losses), words


@pytest.mark.parametrize(
    ("readings", "words"),
    [
        (Readings(), "no energy used"),
        (
            Readings((hours("1", first=AT), hours("1", first=AT, key=ChannelKey("UP1", "M1", "E2", KWH)))),
            "two channels",
        ),
        (Readings((hours("1", first=AT, key=ChannelKey("a\nb", "M1", "E2", KWH)),)), "does not print"),
        (
            Readings((hours("1", first=AT), hours("1", first=AT + 1, key=ChannelKey("U2", "M", "E", KWH)))),
            "several moments",
        ),
    ],
)
def test_what_would_make_the_line_wrong_is_refused(readings, words):
    with pytest.raises(CannotRepresent, match=words):
        LINE.render(readings, FormatOptions())
