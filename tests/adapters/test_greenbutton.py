"""Green Button: a feed as utilities write them, ours read by greenbutton-objects, and literal entries."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from greenbutton_objects.parse import parse_feed
from gridpost.adapters.greenbutton import GreenButtonAdapter
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpost import tabular
from gridpost.errors import CannotRepresent, FileInvalid
from gridpost.model import ChannelKey, IntervalBlock, Quality, Readings, RegisterReading
from gridpost.ports import FormatOptions

ADAPTER = GreenButtonAdapter()
OPTIONS = FormatOptions()
# 15 minute delta energy, forward; Wh, kWh; the register behind it (IEC 61968-9 annex C)
WH, KWH = (f"0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.{power}.72.0" for power in (0, 3))
KWH_REGISTER = "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
KEY = ChannelKey("UP 1/a", "METER:1", "E1", KWH)
FEED = """<?xml version="1.0" encoding="UTF-8"?>
<?xml-stylesheet type="text/xsl" href="style.xslt"?>
<!-- from the portal -->
<feed xmlns="http://www.w3.org/2005/Atom"><id>urn:uuid:1</id><title>Usage</title>
<entry><link rel="self" href="https://utility.example/espi/1_1/resource/RetailCustomer/9/UsagePoint/01"/>
<link rel="related" href="https://utility.example/espi/1_1/resource/RetailCustomer/9/UsagePoint/01/MeterReading/"/>
<content><UsagePoint xmlns="http://naesb.org/espi"><ServiceCategory><kind>0</kind></ServiceCategory></UsagePoint></content></entry>
<entry><link rel="self" href="https://utility.example/espi/1_1/resource/LocalTimeParameters/01"/>
<content><LocalTimeParameters xmlns="http://naesb.org/espi"><dstEndRule>B40E2000</dstEndRule><dstOffset>3600</dstOffset>
<dstStartRule>360E2000</dstStartRule><tzOffset>-28800</tzOffset></LocalTimeParameters></content></entry>
<entry><link rel="self" href="https://utility.example/espi/1_1/resource/RetailCustomer/9/UsagePoint/01/MeterReading/01"/>
<link rel="up" href="https://utility.example/espi/1_1/resource/RetailCustomer/9/UsagePoint/01/MeterReading"/>
<link rel="related" href="https://utility.example/espi/1_1/resource/RetailCustomer/9/UsagePoint/01/MeterReading/01/IntervalBlock"/>
<link rel="related" href="https://utility.example/espi/1_1/resource/ReadingType/07"/>
<content><MeterReading xmlns="http://naesb.org/espi"/></content></entry>
<entry><link rel="self" href="https://utility.example/espi/1_1/resource/ReadingType/07"/>
<content><ReadingType xmlns="http://naesb.org/espi"><accumulationBehaviour>4</accumulationBehaviour><commodity>1</commodity>
<flowDirection>1</flowDirection><intervalLength>900</intervalLength><kind>12</kind>
<powerOfTenMultiplier>0</powerOfTenMultiplier><uom>72</uom></ReadingType></content></entry>
<entry><link rel="self" href="https://utility.example/espi/1_1/resource/RetailCustomer/9/UsagePoint/01/MeterReading/01/IntervalBlock/1"/>
<link rel="up" href="https://utility.example/espi/1_1/resource/RetailCustomer/9/UsagePoint/01/MeterReading/01/IntervalBlock"/>
<content><IntervalBlock xmlns="http://naesb.org/espi"><interval><duration>2700</duration><start>1317020400</start></interval>
<IntervalReading><timePeriod><duration>900</duration><start>1317020400</start></timePeriod><value>974</value></IntervalReading>
<IntervalReading><cost>12</cost><ReadingQuality><quality>8</quality></ReadingQuality>
<timePeriod><duration>900</duration><start>1317021300</start></timePeriod><value>-3</value></IntervalReading>
<IntervalReading><timePeriod><duration>900</duration><start>1317022200</start></timePeriod></IntervalReading>
</IntervalBlock></content></entry>
</feed>"""


def parse(text=FEED):
    return ADAPTER.parse(text.encode(), OPTIONS)


def block_of(*values, key=KEY, first=1317021300, interval_s=900, qualities=None):
    ends = tuple(first + interval_s * place for place in range(len(values)))
    return IntervalBlock(key, interval_s, ends, values, qualities or ((),) * len(values))


def render(*blocks, registers=(), **options):
    return ADAPTER.render(Readings(tuple(blocks), tuple(registers)), FormatOptions(**options))


# --- reading --------------------------------------------------------------------------------------------------------


def test_starts_become_ends_and_links_say_whose_a_reading_is():
    parsed = parse()
    assert parsed.readings == Readings(
        (
            IntervalBlock(
                ChannelKey("01", "01", "01", WH),
                900,
                (1317021300, 1317022200, 1317023100),
                ("974", "-3", None),
                ((), (Quality("2.8.0", "ESPI 8"),), (Quality("2.5.259"),)),
            ),
        )
    )
    assert [(note.code, note.reason) for note in parsed.notes] == [
        ("not-carried", "cost of 1 intervals is not a reading")
    ]


def test_a_byte_order_mark_is_passed_over():
    assert ADAPTER.parse(b"\xef\xbb\xbf" + FEED.encode(), OPTIONS).readings == parse().readings


def test_the_default_quality_is_of_readings_that_have_none():
    block = parse(
        FEED.replace("<flowDirection>", "<defaultQuality>14</defaultQuality><flowDirection>")
    ).readings.blocks[0]
    assert [one[:1] for one in block.qualities[:2]] == [(Quality("1.0.0", "ESPI 14"),), (Quality("2.8.0", "ESPI 8"),)]


@pytest.mark.parametrize(
    ("power", "value", "multiplier"),
    [
        (3, "974", 3),
        (1, "9740", 0),
        (2, "97400", 0),
        (4, "9740", 3),
        (-1, "97.4", 0),
        (-3, "974", -3),
        (-4, "0.0974", 0),
    ],
)
def test_powers_of_ten_come_back_as_people_write_the_unit(power, value, multiplier):
    text = FEED.replace("<powerOfTenMultiplier>0<", f"<powerOfTenMultiplier>{power}<")
    block = parse(text).readings.blocks[0]
    assert (block.values[0], block.channel.reading_type.split(".")[15]) == (value, str(multiplier))


def test_what_is_not_read_is_named():
    entry = """<entry><link rel="self" href="/x/UsageSummary/1"/><content><UsageSummary xmlns="http://naesb.org/espi"/>
    </content></entry></feed>"""
    notes = parse(FEED.replace("</feed>", entry)).notes
    assert notes[0].reason == "UsageSummary is not a reading"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("\ufeff", "the file is empty"),
        (FEED[:2000], "no whole XML document"),
        ("100,NEM12,1,a,b", "no whole XML document"),
        ("<MeterReadings xmlns='http://iec.ch/TC57/2011/MeterReadings#'/>", "not an Atom feed"),
        ("<feed xmlns='http://www.w3.org/2005/Atom'/>", "the feed has no entries"),
        (FEED.replace("<feed ", "<!DOCTYPE feed [<!ENTITY a 'b'>]><feed ", 1), "document type"),
        (FEED.replace("<MeterReading ", "<Other "), "the feed has no MeterReading"),
        (FEED.replace("ReadingType/07", "ReadingType/08", 1), "0 ReadingType"),
        (FEED.replace('01/IntervalBlock"/>\n<c', '02/IntervalBlock"/>\n<c'), "no MeterReading links"),
        (FEED.replace("<uom>72</uom>", ""), "does not state its unit"),
        (FEED.replace("<uom>72</uom>", "<uom>Wh</uom>"), "'Wh' is no whole number"),
        (FEED.replace("<value>974<", "<value>9.74<"), "'9.74' is no whole number"),
        (FEED.replace("<value>974<", "<value>NaN<"), "'NaN' is no whole number"),
        (FEED.replace("<start>1317021300<", "<start>1317020400<"), "a second value for 2011-09-26T07:15:00Z"),
        (FEED.replace("<duration>900<", "<duration>-900<"), "cannot be"),
        (FEED.replace("360E2000", "second Sunday"), "dstStartRule"),
        (FEED.replace("<powerOfTenMultiplier>0<", "<powerOfTenMultiplier>99<"), "not within -18 to 18"),
        (FEED.replace('rel="self"', 'rel="me"', 1), "no link to itself"),
        (FEED.replace("http://naesb.org/espi", "http://naesb.org/other"), "does not hold one ESPI object"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_with_its_entry(text, words):
    with pytest.raises(FileInvalid) as caught:
        parse(text)
    assert words in caught.value.reason


# --- writing --------------------------------------------------------------------------------------------------------


def test_greenbutton_objects_reads_the_same_values_starts_and_qualities(tmp_path):
    estimate = (Quality("2.8.0", "ESPI 9"),)
    one = block_of("1.25", "0.5", "7", qualities=((), estimate, ()))
    other = block_of("3", "4", key=KEY._replace(stream="B1", reading_type=KWH.replace(".1.1.12.", ".19.1.12.")))
    path = tmp_path / "feed.xml"
    path.write_bytes(render(one, other, zone=ZoneInfo("America/Los_Angeles")).content)
    (point,) = parse_feed(str(path))
    assert (point.title, point.serviceCategory.name) == ("UP 1/a", "electricity")
    seen = {
        reading.readingType.flowDirection.name: [
            (
                each.timePeriod.start,
                each.timePeriod.duration.seconds,
                each._value * Decimal(10) ** reading.readingType.powerOfTenMultiplier,
                [quality.quality.value for quality in each.readingQualities],
            )
            for each in reading.intervalReadings
        ]
        for reading in point.meterReadings
    }
    start = [datetime.fromtimestamp(1317020400 + 900 * place, UTC) for place in range(3)]
    assert seen == {
        "forward": [(start[0], 900, 1250, []), (start[1], 900, 500, [9]), (start[2], 900, 7000, [])],
        "reverse": [(start[0], 900, 3000, []), (start[1], 900, 4000, [])],
    }


def test_channels_come_back_with_every_name_and_number():
    named = KEY._replace(reading_type="1.2.2.4.19.1.12.1.2.3.4.5.6.7.128.3.72.840")
    twin = KEY._replace(reading_type=KWH.replace(".72.", ".73."))
    readings = Readings(
        (block_of("1.25", "2.50"), block_of("1", key=named), block_of("5", key=twin)),
        (RegisterReading(KEY._replace(stream="d;1", reading_type=KWH_REGISTER), 1317020400, "716.7"),),
    )
    rendered = ADAPTER.render(readings, OPTIONS)
    assert (ADAPTER.parse(rendered.content, OPTIONS).readings, rendered.losses) == (readings, ())
    assert ADAPTER.render(readings, OPTIONS).content == rendered.content


@pytest.mark.parametrize(
    ("zone", "local"),
    [
        # 360E2000 and B40E2000 are the specification's own: second Sunday of March, first Sunday of November, 02:00.
        ("America/Los_Angeles", ("B40E2000", "3600", "360E2000", "-28800")),
        # by hand: month 3, last (7), Sunday (7), 02:00 = 0011 111 00000 111 00010; month 10, 03:00
        ("Europe/Vienna", ("AE0E3000", "3600", "3E0E2000", "3600")),
        # first (2) Sunday of October, 02:00 = 1010 010 00000 111 00010; of April, 03:00
        ("Australia/Melbourne", ("440E3000", "3600", "A40E2000", "36000")),
        ("Australia/Brisbane", ("FFFFFFFF", "0", "FFFFFFFF", "36000")),
    ],
)
def test_local_time_is_said_by_rules(zone, local):
    text = render(block_of("1"), zone=ZoneInfo(zone)).content.decode()
    found = re.search(r"<LocalTimeParameters [^>]*>(.*)</LocalTimeParameters>", text)
    assert tuple(re.findall(r">([^<]+)<", found[1])) == local


def test_a_zone_whose_rule_cannot_be_said_is_a_loss():
    rendered = render(block_of("1"), zone=ZoneInfo("Africa/Casablanca"))  # by the moon
    assert ["LocalTimeParameters" in loss.reason for loss in rendered.losses] == [True]
    assert b"<LocalTimeParameters" not in rendered.content


def test_a_block_is_a_local_day_of_92_quarters_where_the_clock_is_set():
    # 2012-03-10T08:00Z is midnight of Los Angeles; the 11th has 23 hours
    block = block_of(*["1"] * (96 + 92 + 96), first=1331366400 + 900)
    text = render(block, zone=ZoneInfo("America/Los_Angeles")).content.decode()
    assert [one.count("<IntervalReading>") for one in re.findall(r"<IntervalBlock .*?</IntervalBlock>", text)] == [
        96,
        92,
        96,
    ]


def test_what_is_missing_is_left_out_never_zero():
    rendered = render(block_of("1", None, "3", qualities=((), (Quality("2.5.259"),), ())))
    assert [loss.reason for loss in rendered.losses] == ["1 intervals without a value are left out"]
    assert ADAPTER.parse(rendered.content, OPTIONS).readings.blocks[0].values == ("1", "3")


@pytest.mark.parametrize(
    ("quality", "number", "lost"),
    [
        (Quality("2.7.0"), "7", False),
        (Quality("3.7.1", "by hand"), "7", True),
        (Quality("2.8.0"), "8", False),
        (Quality("2.6.0", "TD_STATUS RE"), "10", True),
        (Quality("1.2.32", "PO"), "16", True),
        (Quality("4.1.0", "ESPI 77"), "77", False),
    ],
)
def test_qualities_of_elsewhere_have_a_number_and_what_it_does_not_say_is_listed(quality, number, lost):
    rendered = render(block_of("1", qualities=((quality,),)))
    assert re.findall(r"<quality>(\d+)<", rendered.content.decode()) == [number]
    assert bool(rendered.losses) == lost


def test_a_whole_period_asked_for_has_its_summary():
    block = block_of("1.25", "0.5", "7")
    whole = render(block, from_utc=1317020400, to_utc=1317023100, created_utc_ms=1317023100_000).content.decode()
    summary = re.search(r"<UsageSummary [^>]*>(.*)</UsageSummary>", whole)[1]
    # 8.75 kWh are 875 x 10 Wh
    assert re.findall(r">([^<]+)<", summary) == ["2700", "1317020400", "1", "1317023100", "72", "875", "1317023100"]
    part = render(block, from_utc=1317020400, to_utc=1317024000).content
    assert b"<UsageSummary" not in part


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ((), "no readings"),
        ((block_of(str(2**47)),), "more than 48 bits"),
        ((block_of("1"), block_of("2")), "two values"),
        ((block_of("1", key=KEY._replace(usage_point="a\nb")),), "without a name that prints"),
        ((block_of("1", key=KEY._replace(meter="")),), "without a name"),
        ((block_of("0." + "1" * 17),), "no power of ten"),
    ],
)
def test_what_would_make_the_feed_wrong_is_refused(blocks, words):
    with pytest.raises(CannotRepresent) as caught:
        render(*blocks)
    assert words in caught.value.reason


# --- any file ---------------------------------------------------------------------------------------------------------

VALUES = st.from_regex(r"-?(0|[1-9][0-9]{0,4})(\.[0-9]{1,6})?", fullmatch=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=30))
def test_values_survive_exactly(values):
    readings = Readings((block_of(*values),))
    again = ADAPTER.parse(ADAPTER.render(tabular.parse(tabular.render(readings)), OPTIONS).content, OPTIONS).readings
    assert list(map(Decimal, again.blocks[0].values)) == list(map(Decimal, values))
    assert again.blocks[0].ends_utc == readings.blocks[0].ends_utc


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(FEED) - 1), st.binary(max_size=2)), min_size=1, max_size=3))
def test_any_bytes_are_readings_or_are_refused(changes):
    raw = bytearray(FEED.encode())
    for place, piece in changes:
        raw[place : place + 1] = piece
    try:
        ADAPTER.parse(bytes(raw), OPTIONS)
    except FileInvalid as error:
        assert error.reason  # noqa: PT017


def test_the_moments_of_this_test_are_these():
    assert datetime(2011, 9, 26, 7, tzinfo=UTC).timestamp() == 1317020400
    assert datetime(2012, 3, 10, 8, tzinfo=UTC).timestamp() == 1331366400
