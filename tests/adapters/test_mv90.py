"""MDEF: vectors built by hand from the byte tables, never from the renderer, and round trips of any file."""

from __future__ import annotations

import struct
from dataclasses import fields, replace
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from gridpost.adapters.mv90 import Mv90Adapter, layout
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpost import tabular
from gridpost.errors import CannotRepresent, FileInvalid
from gridpost.model import ChannelKey, IntervalBlock, Quality, Readings, RegisterReading, Site
from gridpost.ports import FormatOptions, Rewriter

MANILA = ZoneInfo("Asia/Manila")  # UTC+8, no daylight saving since 1978
KWH_15 = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
KWH_REGISTER = "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
KEY = ChannelKey("SEIN000001", "SEIN0000001", "KWH D", KWH_15)
# 2017-03-01 00:00 in Manila is 2017-02-28T16:00:00Z
MIDNIGHT = 1488297600
ADAPTER = Mv90Adapter()
OPTIONS = FormatOptions(zone=MANILA)

# --- vectors by hand --------------------------------------------------------------------------------------------------


def meter_header(custid=b"SEIN000001", channels=b"0001", start=b"201703010001", stop=b"201703010100"):
    parts = [
        struct.pack("<HH", 216, 1), custid.ljust(20), b"NAME".ljust(20), b"STREET 1".ljust(20), b"".ljust(20),
        b"ACC-7".ljust(20), b" " * 7, channels, b" " * 4, start, stop, b"N", b" " * 72,
    ]  # fmt: skip
    return b"".join(parts)


def channel_header(**changed):
    text = {
        "custid": b"SEIN000001", "recid": b"SEIN0000001", "label": b"KWH D", "start": b"201703010001",
        "stop": b"201703010100", "physical": b"01", "uom": b"01", "flags": b"YY", "strt": b"00000716.700",
        "stopm": b"00000717.700", "mult": b"003500.000", "per_hour": b"04", "td": b"AC", "flow": b"D", "logical": 1,
    } | changed  # fmt: skip
    parts = [
        struct.pack("<HH", 216, 10), text["custid"].ljust(20, b"\0"), text["recid"].ljust(14, b"\0"), bytes(6),
        text["label"].ljust(12, b"\0"), text["start"], text["stop"], b"000000000000N", text["physical"],
        struct.pack("<H", text["logical"]), text["uom"], text["flags"], text["strt"], text["stopm"], b"3",
        text["mult"], bytes(30), b"W", bytes(10), text["per_hour"], bytes(12), b"NA", text["td"], bytes(15),
        text["flow"], struct.pack("<H", 0), b"R", bytes(2),
    ]  # fmt: skip
    return b"".join(parts)


def data_record(*intervals, code=1001, custid=b"SEIN000001", layout="<fHH"):
    body = b"".join(struct.pack(layout, *interval) for interval in intervals)
    padding = b"\xff\x7f" * ((192 - len(body)) // 2)
    return struct.pack("<HH", 216, code) + custid.ljust(20, b"\0") + body + padding


def trailer(count, created=b"201703020830"):
    return struct.pack("<HH", 216, 9999) + b" " * 30 + b"%010d" % count + b" " * 160 + created


def file_of(*records):
    assert {len(record) for record in records} == {216}
    return b"".join((*records, trailer(len(records) + 1)))


FOUR = ((12.5, 0, 0), (0.1, 0, 1), (0.0, 0, 64), (99.75, 0x21, 1026))
GOOD = file_of(meter_header(), channel_header(), data_record(*FOUR))


def test_a_file_says_what_its_bytes_say():
    parsed = ADAPTER.parse(GOOD, OPTIONS)
    assert parsed.notes == ()
    # 0x21 is bits 0 and 5: UPD, DOV; 1026 is 1024 + 2: TR and SI
    expected = IntervalBlock(
        KEY,
        900,
        (MIDNIGHT + 900, MIDNIGHT + 1800, MIDNIGHT + 2700, MIDNIGHT + 3600),
        ("12.5", "0.1", None, "99.75"),
        (
            (),
            (Quality("1.2.32", "PO"),),
            (Quality("2.5.259", "LA"),),
            (Quality("2.4.0", "UPD"), Quality("2.5.0", "DOV"), Quality("1.4.0", "SI"), Quality("1.4.9", "TR")),
        ),
    )
    assert parsed.readings.blocks == (expected,)
    # 716.7 x 3500 and 717.7 x 3500, in engineering units
    register = KEY._replace(reading_type=KWH_REGISTER)
    assert [(r.channel, r.time_utc, Decimal(r.value)) for r in parsed.readings.registers] == [
        (register, MIDNIGHT, Decimal(2508450)),
        (register, MIDNIGHT + 3600, Decimal(2511950)),
    ]
    site = parsed.sites[KEY]
    assert (site.custid, site.recid, site.uom_code, site.logical_channel) == ("SEIN000001", "SEIN0000001", "01", 1)
    assert (site.name, site.account, site.meter_multiplier) == ("NAME", "ACC-7", "3500.000")


def test_readings_rendered_are_the_bytes_by_hand():
    parsed = ADAPTER.parse(GOOD, OPTIONS)
    # 2017-03-02 08:30 in Manila is 00:30 UTC
    options = FormatOptions(zone=MANILA, sites=parsed.sites, created_utc_ms=1488414600 * 1000 + 59999)
    rendered = ADAPTER.render(parsed.readings, options)
    assert rendered.content == GOOD
    assert rendered.losses == ()


def test_the_bytes_survive_the_csv_of_readings():
    parsed = ADAPTER.parse(GOOD, OPTIONS)
    again = tabular.parse(tabular.render(parsed.readings))
    options = FormatOptions(zone=MANILA, sites=parsed.sites, created_utc_ms=1488414600 * 1000)
    assert ADAPTER.render(again, options).content == GOOD


@pytest.mark.parametrize(
    ("flags", "form", "per_record"), [(b"YY", "<fHH", 24), (b"NY", "<fH", 32), (b"YN", "<fH", 32), (b"NN", "<f", 48)]
)
def test_the_flags_set_how_many_intervals_a_record_holds(flags, form, per_record):
    count = per_record + 1
    interval = (1.5, 16, 1)[: len(form) - 1]
    hours, minutes = divmod(count * 15, 60)
    stop = b"20170301%02d%02d" % (hours, minutes)
    raw = file_of(
        meter_header(stop=stop),
        channel_header(flags=flags, stop=stop),
        data_record(*[interval] * per_record, layout=form),
        data_record(interval, code=1002, layout=form),
    )
    block = ADAPTER.parse(raw, OPTIONS).readings.blocks[0]
    assert block.values == ("1.5",) * count
    # 16 is bit 4: POV as a channel status, RA as an interval status
    names = {b"YY": {"POV", "PO"}, b"NY": {"RA"}, b"YN": {"POV"}, b"NN": set()}[flags]
    assert {quality.detail for quality in block.qualities[0]} == names
    assert ADAPTER.rewrite(raw) == raw


@pytest.mark.parametrize("stop", [b"201703012400", b"201703020000"])
def test_midnight_is_read_in_both_forms_and_kept(stop):
    values = [(float(number), 0, 0) for number in range(96)]
    records = [data_record(*values[at : at + 24], code=1001 + at // 24) for at in range(0, 96, 24)]
    raw = file_of(meter_header(stop=stop), channel_header(stop=stop), *records)
    block = ADAPTER.parse(raw, OPTIONS).readings.blocks[0]
    assert (block.ends_utc[0], block.ends_utc[-1]) == (MIDNIGHT + 900, MIDNIGHT + 86400)
    assert ADAPTER.rewrite(raw) == raw


def test_what_no_reading_holds_is_kept_byte_for_byte():
    odd = file_of(
        meter_header(custid=b"C\xf1", channels=b"0009"),
        # NaN as a value, unknown unit, unknown statuses, constants other than known, blanks instead of NUL
        channel_header(custid=b"C\xf1 ", uom=b"77", td=b"RE", strt=b"            ", mult=b"1         ").replace(
            b"000000000000N", b"00000000000YN"
        ),
        data_record((float("nan"), 0xF800, 0xE000), (-0.0, 0, 0), (1e30, 0, 0), (1, 0, 0), custid=b"C\xf1".ljust(20)),
        meter_header(),
        channel_header(),
        data_record(*FOUR),
    )
    assert isinstance(ADAPTER, Rewriter)
    assert ADAPTER.rewrite(odd) == odd


def test_unknown_status_bits_survive_readings():
    raw = file_of(meter_header(), channel_header(), data_record((1, 0xF800, 0xE000), *FOUR[1:]))
    parsed = ADAPTER.parse(raw, OPTIONS)
    assert len(parsed.readings.blocks[0].qualities[0]) == 8  # five unnamed channel bits, three unnamed interval bits
    options = FormatOptions(zone=MANILA, sites=parsed.sites, created_utc_ms=1488414600 * 1000)
    assert ADAPTER.render(parsed.readings, options) == (raw, ())


def test_data_not_accepted_say_so_and_survive():
    raw = file_of(meter_header(), channel_header(td=b"RE"), data_record(*FOUR))
    parsed = ADAPTER.parse(raw, OPTIONS)
    assert [note.code for note in parsed.notes] == ["not-accepted"]
    assert all(qualities[-1].code == "2.6.0" for qualities in parsed.readings.blocks[0].qualities)
    options = FormatOptions(zone=MANILA, sites=parsed.sites, created_utc_ms=1488414600 * 1000)
    assert ADAPTER.render(parsed.readings, options).content == raw


def test_a_missing_value_that_is_not_zero_is_kept():
    raw = file_of(meter_header(), channel_header(), data_record((7.5, 0, 64), *FOUR[1:]))
    block = ADAPTER.parse(raw, OPTIONS).readings.blocks[0]
    assert (block.values[0], block.qualities[0]) == ("7.5", (Quality("2.5.259", "LA"),))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "0 bytes"),
        (GOOD[:-1], "bytes"),
        (GOOD[:-216], "not the trailer"),
        (b"\xd9" + GOOD[1:], "record 1 at byte 0: the record's length reads 217"),
        (file_of(channel_header(), data_record(*FOUR)), "where a meter header"),
        (file_of(meter_header(), data_record(*FOUR)), "where a channel header"),
        (file_of(meter_header(), channel_header()), "need 1 interval records; 0 follow"),
        (file_of(meter_header(), channel_header(), data_record(*FOUR, code=1002)), "where interval record 1001"),
        (file_of(meter_header(), channel_header(), data_record(*FOUR, custid=b"OTHER")), "CUSTID 'OTHER'"),
        (file_of(meter_header(custid=b"OTHER"), channel_header(), data_record(*FOUR)), "is not the 'OTHER'"),
        (file_of(meter_header(), channel_header(), data_record(*FOUR, FOUR[0])), "no FF 7F padding"),
        (file_of(meter_header(), channel_header(stop=b"201703010107"), data_record(*FOUR)), "no whole number"),
        (file_of(meter_header(), channel_header(stop=b"201703010000"), data_record(*FOUR)), "no whole number"),
        (file_of(meter_header(), channel_header(stop=b"201702300100"), data_record(*FOUR)), "not a moment"),
        (file_of(meter_header(), channel_header(per_hour=b"07"), data_record(*FOUR)), "DR_INPHR '07'"),
        (file_of(meter_header(), channel_header(per_hour=b"00"), data_record(*FOUR)), "DR_INPHR '00'"),
        (GOOD[:-216] + trailer(5), "counts '0000000005' records; the file has 4"),
        (trailer(1), "no meter"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_place(raw, words):
    with pytest.raises(FileInvalid) as caught:
        layout.parse_file(raw)
    assert words in caught.value.reason


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (channel_header(uom=b"07"), "give a site table"),
        (channel_header(uom=b"02"), "give a site table"),  # 02 is received energy only with flow R
        (channel_header(mult=b"x         "), "not a decimal"),
    ],
)
def test_what_cannot_be_readings_is_refused(header, words):
    with pytest.raises(FileInvalid) as caught:
        ADAPTER.parse(file_of(meter_header(), header, data_record(*FOUR)), OPTIONS)
    assert words in caught.value.reason


def test_a_value_that_is_no_number_is_refused():
    raw = file_of(meter_header(), channel_header(), data_record((float("inf"), 0, 0), *FOUR[1:]))
    with pytest.raises(FileInvalid, match="7F800000"):
        ADAPTER.parse(raw, OPTIONS)


def test_the_site_table_says_what_a_unit_code_means():
    volts = ChannelKey("UP", "M", "volts A", "0.2.2.12.0.1.54.0.0.0.0.0.0.0.128.0.29.0")
    site = Site(volts, custid="SEIN000001", recid="SEIN0000001", logical_channel=7)
    raw = file_of(meter_header(), channel_header(uom=b"07", label=b"VAN", logical=7), data_record(*FOUR))
    parsed = ADAPTER.parse(raw, FormatOptions(zone=MANILA, sites={volts: site}))
    assert parsed.readings.blocks[0].channel == volts


def test_channels_of_one_label_are_told_apart_by_their_number():
    raw = file_of(
        meter_header(channels=b"0002"),
        channel_header(), data_record(*FOUR), channel_header(logical=2, physical=b"02"), data_record(*FOUR),
    )  # fmt: skip
    assert [block.channel.stream for block in ADAPTER.parse(raw, OPTIONS).readings.blocks] == ["KWH D 01", "KWH D 02"]


# --- rendering --------------------------------------------------------------------------------------------------------


def block_of(*values, key=KEY, interval_s=900, qualities=None, first=MIDNIGHT + 900):
    ends = tuple(first + interval_s * place for place in range(len(values)))
    return IntervalBlock(key, interval_s, ends, values, qualities or ((),) * len(values))


def render(*blocks, registers=(), **options):
    return ADAPTER.render(Readings(blocks, tuple(registers)), FormatOptions(**{"zone": MANILA} | options))


def channel_of(rendered, place=0):
    return layout.parse_file(rendered.content).meters[0].channels[place]


def test_a_missing_interval_is_zero_with_status_la():
    block = block_of("1", "2")
    holes = replace(block, ends_utc=(MIDNIGHT + 900, MIDNIGHT + 2700))
    channel = channel_of(render(holes))
    assert channel.values == (0x3F800000, 0, 0x40000000)
    assert channel.interval_statuses == (0, 64, 0)


def test_a_whole_day_ends_at_2400_and_begins_a_minute_late():
    rendered = render(block_of("1"), from_utc=MIDNIGHT, to_utc=MIDNIGHT + 86400)
    header = layout.parse_file(rendered.content).meters[0].header
    assert (header.ta_start, header.ta_stop, header.dst) == ("201703010001", "201703012400", "N")
    assert len(channel_of(rendered).values) == 96


@pytest.mark.parametrize(
    ("zone", "day_utc"),
    [
        ("Europe/Oslo", 1774738800),  # 2026-03-29 00:00 CET = 2026-03-28T23:00Z; the clocks go forward that day
        ("Europe/Oslo", 1792882800),  # 2026-10-25 00:00 CET = 2026-10-24T23:00Z; and back on this one
        ("America/New_York", 1773032400),  # 2026-03-09 00:00 EST = 05:00Z, in daylight saving time since a day
    ],
)
def test_a_day_is_a_standard_time_day_of_24_hours(zone, day_utc):
    rendered = render(block_of("1", first=day_utc + 900), zone=ZoneInfo(zone), from_utc=day_utc, to_utc=day_utc + 86400)
    header = layout.parse_file(rendered.content).meters[0].header
    assert header.ta_start[8:] + header.ta_stop[8:] == "00012400"
    assert len(channel_of(rendered).values) == 96
    again = ADAPTER.parse(rendered.content, FormatOptions(zone=ZoneInfo(zone)))
    assert again.readings.blocks[0].ends_utc[0] == day_utc + 900


@pytest.mark.parametrize(
    ("value", "reported"),
    [("0.1", ""), ("12.345", ""), ("16777217", "16777216"), ("123456.789", "123456.79"), ("0.30000001", "0.3")],
)
def test_a_value_is_reported_when_it_does_not_read_back(value, reported):
    losses = [loss.reason for loss in render(block_of(value)).losses if "32-bit" in loss.reason]
    assert losses == ([f"{value} is held as {reported}, the nearest 32-bit number"] if reported else [])


def test_register_readings_off_the_boundary_are_zero_and_listed():
    register = RegisterReading(KEY._replace(reading_type=KWH_REGISTER), MIDNIGHT + 60, "5")
    rendered = render(block_of("1"), registers=[register])
    header = channel_of(rendered).header
    assert (header.start_reading, header.stop_reading) == ("00000000.000", "00000000.000")
    assert ["is zero" in loss.reason or "on no boundary" in loss.reason for loss in rendered.losses] == [True, True]


@pytest.mark.parametrize(
    ("reading", "text"),
    [("716.7", "00000716.700"), ("102885508", "102885508.00"), ("10288550800", "010288550800"), ("1", "00000001.000")],
)
def test_a_reading_drops_decimals_until_it_fits(reading, text):
    register = RegisterReading(KEY._replace(reading_type=KWH_REGISTER), MIDNIGHT, reading)
    found = channel_of(render(block_of("1"), registers=[register])).header.start_reading
    assert found == text  # printf's %012.3f, %012.2f, %012.0f


def test_a_multiplier_that_needs_room_drops_decimals():
    sites = {KEY: Site(KEY, meter_multiplier="6000000")}
    assert channel_of(render(block_of("1"), sites=sites)).header.meter_multiplier == "6000000.00"


@pytest.mark.parametrize(
    ("blocks", "options", "words"),
    [
        ((block_of("1", interval_s=10, first=MIDNIGHT + 10),), {}, "10 s"),
        ((block_of("1", interval_s=7200, first=MIDNIGHT + 7200),), {}, "7200 s"),
        ((block_of("1", key=KEY._replace(usage_point="U" * 21)),), {}, "longer than the 20"),
        ((block_of("1", key=KEY._replace(meter="M" * 15)),), {}, "longer than the 14"),
        ((block_of("1", key=KEY._replace(meter="Zähler")),), {}, "printable ASCII"),
        ((block_of("1", key=KEY._replace(meter="a\nb")),), {}, "printable ASCII"),
        ((block_of("1"),), {"zone": None}, "which zone"),
        ((), {}, "no interval readings"),
        ((block_of("1"),), {"from_utc": MIDNIGHT, "to_utc": MIDNIGHT}, "ends before it begins"),
        ((block_of("1"),), {"from_utc": MIDNIGHT, "to_utc": MIDNIGHT + 1020}, "no whole number"),
        ((block_of("1", first=MIDNIGHT + 60),), {"from_utc": MIDNIGHT, "to_utc": MIDNIGHT + 900}, "off the grid"),
        ((block_of("1", first=MIDNIGHT + 930),), {}, "whole minutes"),
        ((block_of("1"), block_of("2")), {}, "two values"),
        ((block_of("9" * 18 + "0" * 22),), {}, "greater than any"),
    ],
)
def test_what_would_make_the_file_wrong_is_refused(blocks, options, words):
    with pytest.raises(CannotRepresent) as caught:
        render(*blocks, **options)
    assert words in caught.value.reason


def test_two_meters_never_become_one():
    other = KEY._replace(meter="OTHER")
    sites = {KEY: Site(KEY, recid="SAME"), other: Site(other, recid="SAME")}
    with pytest.raises(CannotRepresent, match="two meters"):
        render(block_of("1"), block_of("1", key=other), sites=sites)


def test_several_meters_share_one_trailer():
    rendered = render(block_of("1"), block_of("2", key=KEY._replace(meter="OTHER")))
    assert [len(meter.channels) for meter in layout.parse_file(rendered.content).meters] == [1, 1]
    assert rendered.content[-216:][34:44] == b"0000000007"  # 2 x (meter, channel, interval record) + trailer


def test_channels_stand_in_the_order_of_the_site_table():
    other = KEY._replace(stream="KWH R", reading_type=KWH_15.replace(".4.1.1.", ".4.19.1."))
    sites = {other: Site(other, logical_channel=1)}
    file = layout.parse_file(render(block_of("1"), block_of("2", key=other), sites=sites).content)
    found = [
        (c.header.label, c.header.logical_channel, c.header.uom_code, c.header.flow) for c in file.meters[0].channels
    ]
    assert found == [("KWH R", 1, "02", "R"), ("KWH D", 2, "01", "D")]


def test_what_only_the_site_can_name_is_other_and_listed():
    key = KEY._replace(stream="", reading_type="0.2.2.12.0.1.54.0.0.0.0.0.0.0.128.0.29.0")
    rendered = render(block_of("230", key=key))
    header = channel_of(rendered).header
    assert (header.uom_code, header.label) == ("13", "V A")
    assert [loss.reason for loss in rendered.losses] == [
        "unit code 13, other, stands for V; a site table can give the right one"
    ]


@pytest.mark.parametrize(
    ("quality", "masks", "lost"),
    [
        (Quality("1.0.0"), (0, 0), False),
        (Quality("1.2.32"), (0, 1), False),
        (Quality("1.4.9", "clock stepped 12 s"), (0, 1024), True),
        (Quality("2.8.0", "S14,76,Communications Fault"), (8, 0), True),
        (Quality("3.8.4"), (8, 0), True),
        (Quality("1.12.0"), (0, 0), True),
        (Quality("odd"), (0, 0), True),
    ],
)
def test_qualities_of_other_sources_become_the_status_that_fits(quality, masks, lost):
    rendered = render(block_of("1", qualities=((quality,),)), from_utc=MIDNIGHT, to_utc=MIDNIGHT + 900)
    channel = channel_of(rendered)
    assert (channel.channel_statuses[0], channel.interval_statuses[0]) == masks
    assert any("no status says all" in loss.reason for loss in rendered.losses) == lost


def test_intervals_of_two_lengths_share_a_period_of_whole_hours():
    hour = KEY._replace(stream="hours", reading_type=KWH_15.replace("0.0.2.", "0.0.7."))
    # values end at 02:00 and 02:15: the period is 01:00 to 03:00, whole hours
    rendered = render(
        block_of("1", first=MIDNIGHT + 8100), block_of("5", key=hour, interval_s=3600, first=MIDNIGHT + 7200)
    )
    file = layout.parse_file(rendered.content)
    assert [len(channel.values) for channel in file.meters[0].channels] == [8, 2]
    assert (file.meters[0].header.ta_start, file.meters[0].header.ta_stop) == ("201703010101", "201703010300")


# --- any file ---------------------------------------------------------------------------------------------------------


def texts(place):
    alphabet = st.characters(min_codepoint=1, max_codepoint=255)
    text = st.text(alphabet, max_size=place.length)
    return text.map(lambda value: value.rstrip(place.pad.decode()))


def headers(kind, **fixed):
    places = {item.name: item.metadata["place"] for item in fields(kind) if item.name not in fixed}
    values = {name: st.integers(0, 65535) if place.pad is None else texts(place) for name, place in places.items()}
    return st.builds(kind, **values, **{name: st.just(value) for name, value in fixed.items()})


@st.composite
def channels(draw, custid):
    per_hour, count = draw(st.sampled_from([1, 2, 4, 12, 60])), draw(st.integers(1, 60))
    minutes = count * 60 // per_hour
    stop = f"201703{1 + minutes // 1440:02d}{minutes % 1440 // 60:02d}{minutes % 60:02d}"
    flags = {name: draw(st.sampled_from(["Y", "N", "y", ""])) for name in ("chanstat", "intstat")}
    header = draw(
        headers(
            layout.ChannelHeader, custid=custid, ta_start="201703010001", ta_stop=stop,
            intervals_per_hour=f"{per_hour:02d}", **flags,
        )
    )  # fmt: skip

    def column(most, present=True):
        return tuple(draw(st.lists(st.integers(0, most), min_size=count, max_size=count))) if present else ()

    return layout.MdefChannel(
        header,
        custid,
        column(2**32 - 1),
        column(65535, flags["chanstat"] == "Y"),
        column(65535, flags["intstat"] == "Y"),
    )


@st.composite
def files(draw):
    custid = draw(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20))
    meters = draw(
        st.lists(
            st.builds(
                layout.MdefMeter,
                headers(layout.MeterHeader, custid=custid),
                st.lists(channels(custid), max_size=2).map(tuple),
            ),
            min_size=1,
            max_size=2,
        )
    )
    return layout.MdefFile(tuple(meters), draw(headers(layout.Trailer)))


@settings(max_examples=60, deadline=None)
@given(files())
def test_every_value_of_a_file_is_found_again(file):
    raw = layout.render_file(file)
    assert layout.parse_file(raw) == file
    assert ADAPTER.rewrite(raw) == raw


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_bytes_are_a_file_or_are_refused(changes):
    raw = bytearray(GOOD)
    for place, byte in changes:
        raw[place] = byte
    try:
        assert ADAPTER.rewrite(bytes(raw)) == raw
        ADAPTER.parse(bytes(raw), OPTIONS)
    except FileInvalid as error:
        assert error.reason  # noqa: PT017


@pytest.mark.parametrize("kind", [layout.MeterHeader, layout.ChannelHeader, layout.Trailer])
def test_the_fields_of_a_header_cover_it_once(kind):
    covered = [at for item in fields(kind) for at in range(*_span(item.metadata["place"]))]
    # the trailer's bytes 34 to 43 are its record count, which is worked out
    expected = [at for at in range(4, 216) if not (kind is layout.Trailer and 34 <= at < 44)]
    assert covered == expected


def _span(place):
    return place.offset, place.offset + place.length
