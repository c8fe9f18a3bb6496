"""Where exactly the MDEF renderer draws its lines, and that each refusal and loss names its place."""

from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest
from gridpost.adapters.mv90 import Mv90Adapter, layout, parse

from gridpost.errors import CannotRepresent
from gridpost.model import ChannelKey, IntervalBlock, Quality, Readings, RegisterReading, Site
from gridpost.ports import FormatOptions

KWH_15 = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
KWH_OF_NO_LENGTH = "0.0.0.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
KWH_REGISTER = "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
KEY = ChannelKey("UP-1", "M-1", "KWH D", KWH_15)
OTHER = KEY._replace(stream="KWH R")
MIDNIGHT = 1488297600  # 2017-03-01 00:00 in Manila, UTC+8
WHERE = "UP-1/M-1/KWH D"


def block_of(*values, key=KEY, interval_s=900, first=0, every=0):
    first = first or MIDNIGHT + interval_s
    ends = tuple(first + (every or interval_s) * place for place in range(len(values)))
    return IntervalBlock(key, interval_s, ends, values, ((),) * len(values))


def render(*blocks, registers=(), **options):
    zone = {"zone": ZoneInfo("Asia/Manila")}
    return Mv90Adapter().render(Readings(blocks, tuple(registers)), FormatOptions(**zone | options))


def meter_of(rendered):
    return layout.parse_file(rendered.content).meters[0]


def headers(rendered):
    return [channel.header for channel in meter_of(rendered).channels]


def refusal(*blocks, **options) -> str:
    with pytest.raises(CannotRepresent) as caught:
        render(*blocks, **options)
    return caught.value.reason


# --- one series a channel --------------------------------------------------------------------------------------------


def test_a_refusal_names_the_channel():
    assert refusal(block_of("1"), block_of("2")) == (
        f"{WHERE}: two values for the interval ending 2017-02-28T16:15:00Z"
    )
    nameless = KEY._replace(stream="")
    assert refusal(block_of("1", key=nameless), block_of("2", key=nameless)).startswith(f"UP-1/M-1/{KWH_15}: ")


def test_a_value_said_twice_alike_is_one():
    assert len(meter_of(render(block_of("1"), block_of("1"))).channels[0].values) == 1


def test_the_interval_length_may_come_from_the_reading_type():
    silent = replace(block_of("1", "2"), interval_s=0)
    assert headers(render(silent))[0].intervals_per_hour == "04"


def test_an_interval_length_unknown_or_changing_is_refused():
    words = f"{WHERE}: the interval length is unknown or changes inside the channel"
    unknown = replace(block_of("1", key=KEY._replace(reading_type=KWH_OF_NO_LENGTH)), interval_s=0)
    assert refusal(unknown) == words
    assert refusal(block_of("1"), block_of("2", interval_s=1800, first=MIDNIGHT + 3600)) == words


@pytest.mark.parametrize(("interval_s", "per_hour"), [(3600, "01"), (60, "60"), (1800, "02")])
def test_one_to_99_intervals_an_hour(interval_s, per_hour):
    assert headers(render(block_of("1", interval_s=interval_s)))[0].intervals_per_hour == per_hour


@pytest.mark.parametrize("interval_s", [7200, 36, 7, 1000])
def test_other_lengths_are_refused(interval_s):
    """36 s would be 100 an hour: three digits. 7 and 1000 s do not divide an hour."""
    assert refusal(block_of("1", interval_s=interval_s)) == (
        f"{WHERE}: intervals of {interval_s} s are not 1 to 99 an hour, which DR_INPHR needs"
    )


# --- the period ------------------------------------------------------------------------------------------------------


def test_a_period_asked_for_is_written_without_any_value():
    empty = block_of()
    file = meter_of(render(empty, from_utc=MIDNIGHT, to_utc=MIDNIGHT + 3600))
    assert file.channels[0].values == (0, 0, 0, 0)
    assert file.channels[0].interval_statuses == (64, 64, 64, 64)


@pytest.mark.parametrize("asked", [{}, {"from_utc": MIDNIGHT}, {"to_utc": MIDNIGHT + 900}])
def test_half_a_period_and_no_value_is_nothing_to_write(asked):
    assert refusal(block_of(), **asked) == "there are no interval readings to write"


@pytest.mark.parametrize(
    ("asked", "count"),
    [({}, 2), ({"from_utc": MIDNIGHT - 900}, 3), ({"to_utc": MIDNIGHT + 3600}, 4), ({"from_utc": MIDNIGHT + 900}, 1)],
)
def test_each_end_is_as_asked_or_as_the_values_lie(asked, count):
    assert len(meter_of(render(block_of("1", "2"), **asked)).channels[0].values) == count


@pytest.mark.parametrize("to_utc", [MIDNIGHT, MIDNIGHT - 900])
def test_a_period_that_ends_before_it_begins_is_refused(to_utc):
    assert refusal(block_of("1"), from_utc=MIDNIGHT, to_utc=to_utc) == f"{WHERE}: the period ends before it begins"


def test_two_lengths_widen_the_period_to_the_longer_at_both_ends():
    """00:45 to 01:30 becomes 00:00 to 02:00: three intervals of 15 minutes in eight places, one hour in two."""
    hour = KEY._replace(stream="hours")
    quarters = block_of("1", "2", "3", first=MIDNIGHT + 3600)
    rendered = render(quarters, block_of("9", key=hour, interval_s=3600, first=MIDNIGHT + 3600))
    file = meter_of(rendered)
    assert (file.header.ta_start, file.header.ta_stop) == ("201703010001", "201703010200")
    assert [len(channel.values) for channel in file.channels] == [8, 2]
    one, two, three = 0x3F800000, 0x40000000, 0x40400000
    assert file.channels[0].values == (0, 0, 0, one, two, three, 0, 0)
    assert file.channels[1].values == (0x41100000, 0)


def test_a_start_within_the_longer_interval_goes_back_to_its_beginning():
    """00:45 to 02:00 becomes 00:00 to 02:00, though the hour itself begins at 01:00."""
    hour = KEY._replace(stream="hours")
    blocks = (block_of("1", first=MIDNIGHT + 3600), block_of("9", key=hour, interval_s=3600, first=MIDNIGHT + 7200))
    file = meter_of(render(*blocks))
    assert (file.header.ta_start, file.header.ta_stop) == ("201703010001", "201703010200")
    assert file.channels[0].values == (0, 0, 0, 0x3F800000, 0, 0, 0, 0)
    assert file.channels[1].values == (0, 0x41100000)


def test_a_period_asked_for_is_not_widened():
    hour = KEY._replace(stream="hours")
    blocks = (block_of("1", "2", "3", "4"), block_of("9", key=hour, interval_s=3600))
    asked = {"from_utc": MIDNIGHT + 900, "to_utc": MIDNIGHT + 2700}
    assert "no whole number of intervals of 3600 s" in refusal(*blocks, **asked)


def test_values_off_the_grid_are_refused_inside_the_period_only():
    """The first ends outside, on the period's start; the odd one a minute after it."""
    inside = replace(block_of("1", "2"), ends_utc=(MIDNIGHT + 60, MIDNIGHT + 900))
    asked = {"from_utc": MIDNIGHT, "to_utc": MIDNIGHT + 900}
    assert refusal(inside, **asked) == f"{WHERE}: the interval ending 2017-02-28T16:01:00Z is off the grid"
    for outside in (MIDNIGHT - 60, MIDNIGHT, MIDNIGHT + 960):
        block = replace(block_of("1", "2"), ends_utc=(outside, MIDNIGHT + 900))
        assert meter_of(render(block, **asked)).channels[0].values == (0x40000000,)


def test_a_zone_that_changes_its_standard_time_is_refused():
    """Caracas went from UTC-4:30 to UTC-4 on 2016-05-01 (tz database)."""
    day = 1462060800  # 2016-05-01T00:00:00Z, the change came at 07:00Z
    reason = refusal(block_of(*["1"] * 48, first=day + 900), zone=ZoneInfo("America/Caracas"))
    assert reason == f"{WHERE}: the zone's standard time changes inside the period"


# --- names from the site table ---------------------------------------------------------------------------------------


def test_the_site_table_names_meter_and_channel():
    site = Site(
        KEY, custid="CUST", recid="REC", uom_code="07", physical_channel=9, label="LABEL", name="NAME",
        address1="ADDR 1", address2="ADDR 2", account="ACC", service_type="G", flow="R",
    )  # fmt: skip
    rendered = render(block_of("1"), sites={KEY: site})
    meter, (channel,) = meter_of(rendered).header, headers(rendered)
    found = (meter.custid, meter.name, meter.address1, meter.address2, meter.account)
    assert found == ("CUST", "NAME", "ADDR 1", "ADDR 2", "ACC")
    assert (channel.custid, channel.recid, channel.label, channel.uom_code) == ("CUST", "REC", "LABEL", "07")
    assert (channel.physical_channel, channel.logical_channel) == ("09", 1)
    assert (channel.service_type, channel.flow) == ("G", "R")
    assert rendered.losses == render(block_of("1")).losses


def test_a_site_may_say_that_a_unit_is_other():
    rendered = render(block_of("1"), sites={KEY: Site(KEY, uom_code="13")})
    assert not any("unit code" in loss.reason for loss in rendered.losses)
    assert headers(rendered)[0].uom_code == "13"


def test_without_a_site_table_the_house_names_them():
    rendered = render(block_of("1"))
    meter, (channel,) = meter_of(rendered).header, headers(rendered)
    assert (meter.custid, channel.recid, channel.label) == ("UP-1", "M-1", "KWH D")
    assert (channel.physical_channel, channel.service_type, channel.flow) == ("01", "W", "D")


@pytest.mark.parametrize(
    ("column", "said"),
    [("custid", "CUSTID"), ("recid", "RECID"), ("uom_code", "uom_code"), ("label", "label"), ("name", "name"),
     ("address1", "address1"), ("address2", "address2"), ("account", "account"), ("service_type", "service_type"),
     ("flow", "flow")],
)  # fmt: skip
@pytest.mark.parametrize("text", ["é", "a\tb", " a", "a "])
def test_a_text_that_is_not_printable_ascii_is_refused_by_name(column, said, text):
    reason = refusal(block_of("1"), sites={KEY: Site(KEY, **{column: text})})
    assert reason == f"{WHERE}: {said} {text!r} is not printable ASCII without blanks around it"


def test_a_status_that_is_not_printable_ascii_is_refused_by_name():
    """TD_STATUS comes from a quality, not from the site table."""
    odd = replace(block_of("1"), qualities=((Quality("1.4.9", parse.REJECTED + "é"),),))
    assert refusal(odd) == f"{WHERE}: TD_STATUS 'é' is not printable ASCII without blanks around it"


@pytest.mark.parametrize(("name", "one", "other"), [("custid", "A", "B"), ("recid", "A", "B")])
def test_a_meter_has_one_custid_and_one_recid(name, one, other):
    blocks = (block_of("1"), block_of("2", key=OTHER))
    both = {KEY: Site(KEY, **{name: other}), OTHER: Site(OTHER, **{name: one})}
    assert refusal(*blocks, sites=both) == f"{WHERE}: the site table gives one meter several {name}: A, B"
    rendered = render(*blocks, sites={OTHER: both[OTHER]})  # one channel's name is the meter's
    assert {"custid": meter_of(rendered).header.custid, "recid": headers(rendered)[0].recid}[name] == "A"


def test_one_logical_channel_is_one_channels():
    blocks = (block_of("1"), block_of("2", key=OTHER))
    sites = {key: Site(key, logical_channel=2) for key in (KEY, OTHER)}
    assert refusal(*blocks, sites=sites).endswith("the site table gives two channels of the meter one logical channel")
    third = KEY._replace(stream="KVAR")
    rendered = render(*blocks, block_of("3", key=third), sites={OTHER: Site(OTHER, logical_channel=1)})
    assert [(one.label, one.logical_channel) for one in headers(rendered)] == [("KWH R", 1), ("KWH D", 2), ("KVAR", 3)]


def test_a_physical_channel_has_two_digits():
    assert headers(render(block_of("1"), sites={KEY: Site(KEY, physical_channel=99)}))[0].physical_channel == "99"
    reason = refusal(block_of("1"), sites={KEY: Site(KEY, physical_channel=100)})
    assert reason == f"{WHERE}: physical channel 100 has more than two digits"


@pytest.mark.parametrize(
    ("stream", "fits"), [("TWELVE CHARS", True), ("THIRTEEN CHAR", False), ("é", False), ("a\tb", False)]
)
def test_a_stream_name_is_the_label_where_it_fits(stream, fits):
    key = KEY._replace(stream=stream)
    rendered = render(block_of("1", key=key))
    told = [loss for loss in rendered.losses if "stream name" in loss.reason]
    if fits:
        assert (headers(rendered)[0].label, told) == (stream, [])
    else:
        assert headers(rendered)[0].label == "KWH D"
        assert told[0].reason == (
            f"the stream name {stream!r} is no label of 12 ASCII characters; a site table can give one"
        )
        assert told[0].path == f"UP-1/M-1/{stream}"


def test_a_quantity_without_a_name_is_called_by_its_numbers():
    """A label of twelve characters at most; the loss says which reading type it was."""
    unknown = KEY._replace(stream="", reading_type="0.0.2.4.1.1.12.0.0.0.0.0.0.0.132.0.12345.0")
    rendered = render(block_of("1", key=unknown))
    assert headers(rendered)[0].label == "UNIT 12345 A"
    assert [loss.reason for loss in rendered.losses if "unit code" in loss.reason] == [
        f"unit code 13, other, stands for {unknown.reading_type}; a site table can give the right one"
    ]


# --- registers and losses --------------------------------------------------------------------------------------------


def register(time_utc, value="5", key=KEY, stream="KWH D"):
    return RegisterReading(key._replace(reading_type=KWH_REGISTER, stream=stream), time_utc, value)


def test_a_dial_shows_units_divided_by_the_multiplier():
    sites = {KEY: Site(KEY, meter_multiplier="10")}
    rendered = render(block_of("1"), registers=[register(MIDNIGHT, "20"), register(MIDNIGHT + 900, "30")], sites=sites)
    (header,) = headers(rendered)
    assert (header.start_reading, header.stop_reading) == ("00000002.000", "00000003.000")
    assert header.meter_multiplier == "000010.000"
    assert rendered.losses == ()


def test_a_multiplier_of_nought_divides_nothing():
    sites = {KEY: Site(KEY, meter_multiplier="0")}
    rendered = render(block_of("1"), registers=[register(MIDNIGHT), register(MIDNIGHT + 900, "6")], sites=sites)
    (header,) = headers(rendered)
    assert (header.start_reading, header.meter_multiplier) == ("00000005.000", "000000.000")


def test_a_register_of_no_stream_or_the_channels_own_is_taken_and_no_other():
    ends = [register(MIDNIGHT + 900, "6")]
    assert render(block_of("1"), registers=[register(MIDNIGHT, stream=""), *ends]).losses == ()
    foreign = render(block_of("1"), registers=[register(MIDNIGHT, stream="KWH R"), *ends])
    assert [loss.reason for loss in foreign.losses] == [
        "no register reading lies on the period's start or end: STRTMTR or STOPMTR is zero",
        "the register reading 5 of 2017-02-28T16:00:00Z is on no boundary",
    ]
    assert [loss.path for loss in foreign.losses] == [WHERE, "UP-1/M-1/KWH R"]


def test_a_register_of_another_quantity_is_not_taken():
    """Of no stream, so only its type says that it counts what flows the other way (direction 19)."""
    reverse = KEY._replace(stream="", reading_type=KWH_REGISTER.replace(".1.1.1.12", ".1.19.1.12"))
    rendered = render(block_of("1"), registers=[RegisterReading(reverse, MIDNIGHT, "77"), register(MIDNIGHT, "5")])
    assert headers(rendered)[0].start_reading == "00000005.000"


@pytest.mark.parametrize(("time_utc", "told"), [(-1, 0), (0, 1), (450, 1), (900, 1), (901, 0)])
def test_unused_registers_are_told_of_where_they_were_asked_for(time_utc, told):
    odd = register(MIDNIGHT + time_utc, "7", stream="KWH R")
    rendered = render(block_of("1"), registers=[odd], from_utc=MIDNIGHT, to_utc=MIDNIGHT + 900)
    assert sum("on no boundary" in loss.reason for loss in rendered.losses) == told


def test_a_reading_too_long_for_its_field_is_refused():
    reason = refusal(block_of("1"), registers=[register(MIDNIGHT, "1" + "0" * 12)])
    assert reason == f"{WHERE}: 1000000000000 does not fit into 12 characters"


def test_a_reading_that_loses_digits_is_told():
    rendered = render(block_of("1"), registers=[register(MIDNIGHT, "1.2345"), register(MIDNIGHT + 900)])
    assert [(loss.reason, loss.path) for loss in rendered.losses] == [("1.2345 is written as 00000001.234", WHERE)]


def test_values_that_lose_digits_are_told_inside_the_period_only():
    block = block_of("16777217", "16777217", "16777217")
    rendered = render(block, from_utc=MIDNIGHT + 900, to_utc=MIDNIGHT + 1800)
    told = [loss for loss in rendered.losses if "32-bit" in loss.reason]
    assert [loss.path for loss in told] == [f"{WHERE} 2017-02-28T16:30:00Z"]
    assert told[0].reason == "16777217 is held as 16777216, the nearest 32-bit number"


def test_lost_qualities_are_counted():
    odd = (Quality("3.8.4", "why"),)
    rendered = render(replace(block_of("1", "2", "3"), qualities=(odd, odd, ())))
    told = [loss for loss in rendered.losses if "quality" in loss.reason]
    assert [loss.path for loss in told] == [WHERE]
    assert told[0].reason == "no status says all of quality '3.8.4 why', on 2 intervals"


def test_two_meters_the_file_would_show_as_one_are_named():
    other = KEY._replace(meter="M-2")
    sites = {KEY: Site(KEY, recid="SAME"), other: Site(other, recid="SAME")}
    blocks = (block_of("1"), block_of("1", key=other))
    assert refusal(*blocks, sites=sites) == "two meters would both be CUSTID 'UP-1', RECID 'SAME'"


def test_the_trailer_says_when_in_whole_minutes_of_the_wall():
    rendered = render(block_of("1"), created_utc_ms=(MIDNIGHT + 8 * 60) * 1000 + 59_999)
    assert layout.parse_file(rendered.content).trailer.created == "201703010008"
