"""Where each field of an MDEF record lies, how many records a channel may have, and which bytes refuse a file.

The offsets stand here a second time, as the format's description has them, so that a field moved on both ways shows.
"""

from __future__ import annotations

import struct
from dataclasses import asdict, replace

import pytest
from gridpost.adapters.mv90 import layout
from gridpost.adapters.mv90.layout import ChannelHeader, MdefChannel, MdefFile, MdefMeter, MeterHeader, Trailer

from gridpost.errors import CannotRepresent, FileInvalid

METER_FIELDS = {
    "custid": (4, 20), "name": (24, 20), "address1": (44, 20), "address2": (64, 20), "account": (84, 20),
    "unnamed_104": (104, 7), "channel_count": (111, 4), "unnamed_115": (115, 4), "ta_start": (119, 12),
    "ta_stop": (131, 12), "dst": (143, 1), "unnamed_144": (144, 72),
}  # fmt: skip
CHANNEL_FIELDS = {
    "custid": (4, 20), "recid": (24, 14), "unnamed_38": (38, 6), "label": (44, 12), "ta_start": (56, 12),
    "ta_stop": (68, 12), "constant_80": (80, 13), "physical_channel": (93, 2), "logical_channel": (95, 2),
    "uom_code": (97, 2), "chanstat": (99, 1), "intstat": (100, 1), "start_reading": (101, 12),
    "stop_reading": (113, 12), "constant_125": (125, 1), "meter_multiplier": (126, 10), "unnamed_136": (136, 30),
    "service_type": (166, 1), "unnamed_167": (167, 10), "intervals_per_hour": (177, 2), "unnamed_179": (179, 12),
    "constant_191": (191, 2), "td_status": (193, 2), "unnamed_195": (195, 15), "flow": (210, 1), "kvaset": (211, 2),
    "origin": (213, 1), "unnamed_214": (214, 2),
}  # fmt: skip
TRAILER_FIELDS = {"unnamed_4": (4, 30), "unnamed_44": (44, 160), "created": (204, 12)}
NUMBERS = {"logical_channel", "kvaset"}
START = "201703010001"
MOST = 8998  # interval records: their codes run from 1001 to 9998


def header_of(stop="201703010100", **fields):
    return ChannelHeader(custid="SEIN", ta_start=START, ta_stop=stop, intervals_per_hour="60", **fields)


def file_of(*channels, meter="SEIN"):
    return MdefFile((MdefMeter(MeterHeader(custid=meter), channels),), Trailer())


def channel_of(count=60, custid="SEIN", **fields):
    stop = f"{int('201703010000') + count // 60 * 100:012d}" if count < 1440 else ""
    header = header_of(**({"stop": stop} | fields))
    return MdefChannel(header, custid, tuple(range(count)), (0,) * count, (0,) * count)


def records(raw):
    return [raw[at : at + 216] for at in range(0, len(raw), 216)]


def refusal(raw) -> str:
    with pytest.raises(FileInvalid) as refused:
        layout.parse_file(raw)
    return refused.value.reason


# --- fields ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "code", "fields"),
    [(MeterHeader, 1, METER_FIELDS), (ChannelHeader, 10, CHANNEL_FIELDS), (Trailer, 9999, TRAILER_FIELDS)],
    ids=["meter", "channel", "trailer"],
)
def test_each_field_lies_where_the_description_says(kind, code, fields):
    """Each is filled with letters of its own, to its last byte."""
    letters = dict(zip(fields, "ABCDEFGHIJKLMNOPQRSTUVWXYZab", strict=False))
    values = {
        name: 256 * ord(letters[name]) + 1 if name in NUMBERS else letters[name] * length
        for name, (_, length) in fields.items()
    }
    record = layout._record(code, kind(**values))
    assert record[:4] == struct.pack("<HH", 216, code)
    for name, (offset, length) in fields.items():
        written = b"\1" + letters[name].encode() if name in NUMBERS else letters[name].encode() * length
        assert record[offset : offset + length] == written, name
    assert len(record) == 216
    assert asdict(layout._fields(kind, record)) == values


def test_what_is_not_said_is_written_as_in_all_files_seen():
    said = {name: value for name, value in asdict(MeterHeader()).items() if value}
    assert said == {"channel_count": "0000", "dst": "N"}
    said = {name: value for name, value in asdict(ChannelHeader()).items() if value}
    assert said == {
        "constant_80": "000000000000N", "chanstat": "Y", "intstat": "Y", "start_reading": "00000000.000",
        "stop_reading": "00000000.000", "constant_125": "3", "meter_multiplier": "000001.000", "service_type": "W",
        "constant_191": "NA", "td_status": "AC", "flow": "D", "origin": "R",
    }  # fmt: skip
    assert not any(asdict(Trailer()).values())
    assert (ChannelHeader().logical_channel, ChannelHeader().kvaset) == (0, 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Ω", "custid 'Ω' is not ASCII"),
        ("C" * 21, f"custid '{'C' * 21}' is longer than the 20 characters of its field"),
    ],
)
def test_a_text_that_its_field_cannot_hold_is_refused_by_name(text, reason):
    with pytest.raises(CannotRepresent) as refused:
        layout.render_file(file_of(meter=text))
    assert refused.value.reason == reason


def test_the_interval_records_name_is_refused_like_the_headers():
    with pytest.raises(CannotRepresent) as refused:
        layout.render_file(file_of(channel_of(custid="C" * 21)))
    assert refused.value.reason.startswith("CUSTID 'CCC")


# --- intervals an hour -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["xx", "X4", "4X", "", "²", "-4", "07", "00"])
def test_what_is_no_divisor_of_the_hour_is_refused(text):
    with pytest.raises(FileInvalid, match="DR_INPHR"):
        layout.interval_s(ChannelHeader(intervals_per_hour=text))


@pytest.mark.parametrize(("text", "length_s"), [("04", 900), (" 4", 900), ("4 ", 900), ("01", 3600), ("60", 60)])
def test_a_number_may_stand_between_blanks(text, length_s):
    assert layout.interval_s(ChannelHeader(intervals_per_hour=text)) == length_s


# --- records ---------------------------------------------------------------------------------------------------------


def longest(more=0):
    """A channel whose interval records are 8,998, of 24 minutes each, and so many minutes `more`: from March 1 on."""
    count = MOST * 24 + more
    days, minutes = divmod(count, 1440)
    assert days == 149  # to July 28
    header = header_of(f"20170728{minutes // 60:02d}{minutes % 60:02d}")
    return MdefChannel(header, "SEIN", (0,) * count, (0,) * count, (0,) * count)


def test_a_channel_has_at_most_8998_interval_records():
    whole = file_of(longest())
    raw = layout.render_file(whole)
    assert struct.unpack_from("<H", raw, len(raw) - 2 * 216 + 2) == (9998,)
    assert layout.parse_file(raw) == whole
    with pytest.raises(CannotRepresent, match="215953 intervals are more than the records of one channel hold"):
        layout.render_file(file_of(longest(more=1)))


def test_a_file_of_more_interval_records_is_refused():
    """By its codes it would go on with the trailer's own."""
    meter, header, *data, trailer = records(layout.render_file(file_of(longest())))
    header = header[:68] + longest(more=1).header.ta_stop.encode() + header[80:]
    one_more = data[0][:2] + struct.pack("<H", 9999) + data[0][4:24] + bytes(8) + b"\xff\x7f" * 92
    counted = trailer[:34] + b"%010d" % (MOST + 4) + trailer[44:]
    raw = b"".join((meter, header, *data, one_more, counted))
    assert refusal(raw) == "record 2 at byte 216: 215953 intervals need 8999 interval records; 8999 follow"


@pytest.mark.parametrize(("number", "where"), [(2, "record 3 at byte 432"), (3, "record 4 at byte 648")])
def test_an_interval_record_out_of_place_is_named(number, where):
    parts = records(layout.render_file(file_of(channel_of(60))))
    parts[number] = parts[number][:2] + struct.pack("<H", 1234) + parts[number][4:]
    assert refusal(b"".join(parts)) == f"{where}: record code 1234 where interval record {999 + number} should be"


@pytest.mark.parametrize(
    ("in_header", "in_records"), [(b"SEIN", b"XSEIN"), (b"XSEIN", b"SEIN"), (b"SEIN", b"SEINX"), (b"SEINX", b"SEIN")]
)
def test_an_interval_record_of_another_customer_is_refused(in_header, in_records):
    meter, header, *data, trailer = records(layout.render_file(file_of(channel_of(60))))
    meter, header = (part[:4] + in_header.ljust(20, part[23:24]) + part[24:] for part in (meter, header))
    data = [part[:4] + in_records.ljust(20, b"\0") + part[24:] for part in data]
    assert "CUSTID" in refusal(b"".join((meter, header, *data, trailer)))


def test_all_interval_records_write_the_customer_alike():
    """Blank or NUL is no difference between header and records, but is among records: it could not be kept."""
    meter, header, *data, trailer = records(layout.render_file(file_of(channel_of(60))))
    blank = [part[:4] + b"SEIN".ljust(20) + part[24:] for part in data]
    assert layout.parse_file(b"".join((meter, header, *blank, trailer))).meters[0].channels[0].values[59] == 59
    for mixed in ([data[0], blank[1]], [blank[0], data[1]]):
        assert "record 4 at byte 648: CUSTID" in refusal(b"".join((meter, header, *mixed, *data[2:], trailer)))


def test_what_lies_in_the_records_is_kept():
    file = file_of(channel_of(60), replace(channel_of(120), header=replace(channel_of(120).header, label="TWO")))
    assert layout.parse_file(layout.render_file(file)) == file
