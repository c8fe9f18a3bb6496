"""gridpost export in the formats of other markets, read by somebody else's reader or by hand, and the billing run."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner
from greenbutton_objects.parse import parse_feed
from gridpost.adapters.mv90 import Mv90Adapter
from gridpost.server.commands import convert, export, export_run
from gridpost.server.zones import zone_of
from nemreader import NEMFile

from gridpost import testing
from gridpost.errors import CannotRepresent, FileInvalid
from gridpost.model import Block, ChannelKey, Entry, Quality, Register, Rows
from gridpost.ports import FormatOptions

KWH_30 = "0.0.5.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
STAND = "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
NEM = "Etc/GMT-10"
# 2025-03-01 00:00 at UTC+10 is 2025-02-28T14:00:00Z
MIDNIGHT = int(datetime(2025, 2, 28, 14, tzinfo=UTC).timestamp())
DAY = 86_400


def half_hourly(meter="NMI1", zone=NEM, **changes):
    return testing.channel(key=ChannelKey(meter, meter, "E1", KWH_30), interval_s=1800, zone=zone, **changes)


@pytest.fixture
def enrol(post_office):
    return lambda *channels: post_office.store.add_ied("IED-1", "revenue meter", bytes(10), channels)


@pytest.fixture
def record(post_office):
    def put(channel, first_end, values, qualities=None, registers=()):
        ends = tuple(first_end + index * channel.interval_s for index in range(len(values)))
        block = Block(channel.id, channel.interval_s, ends, tuple(values), qualities or ((),) * len(values))
        stands = tuple(Register(channel.id, STAND, moment, value, ()) for moment, value in registers)
        name = f"m-{post_office.store.status().entries}"
        entry = Entry(
            "IED-1", name, "MeterReadings", "http", name.encode().ljust(32), post_office.now, None, "", b"raw"
        )
        rows = Rows((block,) if values else (), stands)
        post_office.store.record(entry, rows, lambda *_: b"receipt").result(timeout=10)

    return put


@pytest.fixture
def run(post_office):
    """Run `gridpost export ...`; return the click result. Files go to the folder ``out``."""
    config = post_office.folder / "gridpost.toml"
    config.write_text("")

    def call(*options):
        place = ["--out", str(post_office.folder / "out"), "--config", str(config)]
        return CliRunner().invoke(export.command, [*options, *place])

    return call


def written(result):
    assert result.exit_code == 0, result.output + repr(result.exception)
    return json.loads(result.stdout)


def one_file(result):
    (file,) = written(result)["files"]
    return file


FIRST_DAY = ("--from", "2025-03-01", "--to", "2025-03-01", "--json")
TWO_DAYS = ("--from", "2025-03-01", "--to", "2025-03-02", "--json")


# --- a file a meter ---------------------------------------------------------------------------------------------------


def test_nem13_is_what_a_register_showed_and_what_was_used_between(enrol, record, run):
    (channel,) = enrol(half_hourly())
    record(channel, 0, [], registers=((MIDNIGHT, "100.5"), (MIDNIGHT + DAY, "150"), (MIDNIGHT + 3 * DAY, "900")))
    file = one_file(run("nem13", *TWO_DAYS))
    assert file["file"].endswith("NMI1_20250301_20250302.nem13.csv")
    ((suffixes),) = NEMFile(file["file"]).nem_data().readings.values()
    ((read,),) = suffixes.values()
    assert (read.val_start, read.val_end, read.read_value) == (100.5, 150.0, 49.5)
    assert (read.t_start, read.t_end) == (datetime(2025, 3, 1), datetime(2025, 3, 2))


def test_cmep_is_utc_at_interval_ends(enrol, record, run):
    (channel,) = enrol(half_hourly())
    record(channel, MIDNIGHT + 1800, ["0.25"] * 47 + ["9.5"], ((),) * 47 + ((Quality("2.8.0"),),))
    file = one_file(run("cmep", *FIRST_DAY))
    (line,) = Path(file["file"]).read_bytes().decode("ascii").splitlines()
    fields = line.split(",")
    # MEPMD01: 6 receiver's customer, 9 purpose, 11 unit, 13 interval, 14 count, then time, flag, value (1-based)
    assert [fields[at - 1] for at in (1, 6, 9, 11, 13, 14)] == ["MEPMD01", "NMI1", "OK", "KWH", "00000030", "48"]
    assert fields[14:17] == ["202502281430", "", "0.25"]
    assert fields[-3:] == ["202503011400", "E", "9.5"]


def test_green_button_objects_finds_the_day_and_its_local_time(enrol, record, run):
    (channel,) = enrol(half_hourly(zone="Australia/Melbourne"))
    record(channel, MIDNIGHT + 1800, ["0.125"] * 48)
    file = one_file(run("greenbutton", *FIRST_DAY))
    (point,) = parse_feed(file["file"])
    (meter,) = point.meterReadings
    power = Decimal(10) ** meter.readingType.powerOfTenMultiplier
    assert sum(one._value for one in meter.intervalReadings) * power == 6000  # Wh: 48 x 0.125 kWh
    first = min(one.timePeriod.start for one in meter.intervalReadings)
    assert first == datetime(2025, 2, 28, 14, tzinfo=UTC)
    feed = Path(file["file"]).read_text()
    assert "<tzOffset>36000</tzOffset>" in feed
    assert "<billingPeriod><duration>86400</duration>" in feed


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("csv-line", "84.5,60.5,NMI1, NMI1\r\n"),
        (
            "xml-record",
            '<?xml version="1.0" encoding="UTF-8"?>\n<billingInformation>\n  <kWhMonth>84.5</kWhMonth>\n'
            "  <kWhDay>60.5</kWhDay>\n  <location>NMI1</location>\n  <deviceType>NMI1</deviceType>\n"
            "  <time>2025-03-02T14:00:00Z</time>\n</billingInformation>\n",
        ),
    ],
)
def test_a_record_counts_from_the_month_s_first_day_whatever_from_says(enrol, record, run, kind, content):
    """February's last day 48 x 9; the first of March 48 x 0.5 = 24; the second 47 x 1 + 13.5 = 60.5."""
    (channel,) = enrol(half_hourly())
    record(channel, MIDNIGHT - DAY + 1800, ["9"] * 48 + ["0.5"] * 48 + ["1"] * 47 + ["13.5"])
    file = one_file(run(kind, "--from", "2025-03-02", "--to", "2025-03-02", "--json"))
    assert Path(file["file"]).read_bytes().decode() == content


def test_the_month_of_a_record_is_the_local_one_with_daylight_saving(enrol, record, run):
    """In Melbourne the 1st of March 2025 begins at 13:00Z, an hour before its standard midnight: 2 x 5 + 48 x 1."""
    (channel,) = enrol(half_hourly(zone="Australia/Melbourne"))
    record(channel, MIDNIGHT - 3600 + 1800, ["5"] * 2 + ["1"] * 48)
    file = one_file(run("csv-line", *FIRST_DAY))
    assert Path(file["file"]).read_bytes().startswith(b"58,")


def test_a_meter_that_a_format_cannot_hold_stops_no_other(enrol, record, run, post_office):
    long_name = half_hourly("METER-OF-14-CHARS")
    for channel in enrol(long_name, half_hourly("NMI2")):
        record(channel, MIDNIGHT + 1800, ["1"] * 48)
    result = run("cmep", *FIRST_DAY)
    told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [Path(item["file"]).name for item in told["files"]] == ["NMI2_20250301_20250301.cmep"]
    (item,) = told["error"]["items"]
    assert item["path"] == "METER-OF-14-CHARS_20250301_20250301"
    assert "is not 12 or fewer ASCII characters" in item["reason"]
    assert isinstance(run("cmep", *FIRST_DAY[:4]).exception, CannotRepresent)


@pytest.mark.parametrize("kind", ["nem13", "cmep", "greenbutton", "csv-line", "xml-record"])
def test_the_same_data_give_the_same_bytes_and_none_give_no_file(enrol, record, run, kind):
    (channel,) = enrol(half_hourly())
    assert written(run(kind, *FIRST_DAY)) == {"files": []}
    record(channel, MIDNIGHT + 1800, ["1"] * 48, registers=((MIDNIGHT, "1"), (MIDNIGHT + DAY, "49")))
    contents = [Path(one_file(run(kind, *FIRST_DAY))["file"]).read_bytes() for _ in range(2)]
    assert contents[0] == contents[1]


@pytest.mark.parametrize("kind", ["mv90", "nem12", "cmep", "greenbutton", "csv"])
def test_a_file_says_again_what_the_store_holds(enrol, record, run, kind):
    """To the digit, but for MDEF's binary32; 0.5, 12.25 and 7 are exact there."""
    (channel,) = enrol(half_hourly(zone="Etc/GMT-10"))
    values = ["0.5", "12.25", "7"] * 16
    record(channel, MIDNIGHT + 1800, values)
    raw = Path(one_file(run(kind, *FIRST_DAY))["file"]).read_bytes()
    format_ = convert.FORMATS[export.KINDS[kind].format]
    (block,) = format_.adapter().parse(raw, FormatOptions(zone=zone_of(NEM))).readings.blocks
    assert [Decimal(value) for value in block.values] == [Decimal(value) for value in values]
    assert block.ends_utc == tuple(MIDNIGHT + 1800 * (place + 1) for place in range(48))
    assert block.channel.reading_type == KWH_30
    assert set(block.qualities) == {()}


# --- the billing run --------------------------------------------------------------------------------------------------

CYCLE = ("mdef", "--cycle", "2025-03", "--json")


def month_of(channel, record, value, days=31):
    record(channel, MIDNIGHT + 1800, [value] * (48 * days))


def records_of(raw):
    """MDEF by hand: 216 byte records, a u16 length and a u16 code at the head of each."""
    assert len(raw) % 216 == 0
    return [raw[at : at + 216] for at in range(0, len(raw), 216)]


def test_a_billing_run_is_one_file_of_all_meters(enrol, record, run):
    for value, channel in zip(("0.5", "1.25"), enrol(half_hourly(), half_hourly("NMI2")), strict=True):
        month_of(channel, record, value)
    told = written(run(*CYCLE))
    assert Path(told["file"]).name == "billing_20250301_20250331.mde"
    assert [(one["meter"], one["complete"]) for one in told["meters"]] == [("NMI1", True), ("NMI2", True)]
    records = records_of(Path(told["file"]).read_bytes())
    codes = [struct.unpack("<HH", record[:4]) for record in records]
    # 31 x 48 = 1488 intervals of 8 bytes, 24 a record: 62 records a channel, under a meter and a channel header
    data = [*range(1001, 1063)]
    assert codes == [(216, code) for code in [1, 10, *data, 1, 10, *data, 9999]]
    assert [record[4:24].rstrip() for record in records if record[2:4] == b"\x01\0"] == [b"NMI1", b"NMI2"]
    assert {(record[119:131], record[131:143]) for record in records if record[2:4] == b"\x01\0"} == {
        (b"202503010001", b"202503312400")
    }
    values = [
        struct.unpack_from("<f", record, 24)[0] for record in records if struct.unpack("<H", record[2:4])[0] == 1001
    ]
    assert values == [0.5, 1.25]
    assert records[-1][34:44] == b"%010d" % len(records)
    assert records_of(Mv90Adapter().rewrite(b"".join(records))) == records


def test_a_cycle_begins_on_any_day(enrol, record, run):
    (channel,) = enrol(half_hourly())
    record(channel, MIDNIGHT + 16 * DAY + 1800, ["1"] * (48 * 31))
    told = written(run(*CYCLE, "--cycle-day", "17"))
    assert Path(told["file"]).name == "billing_20250317_20250416.mde"
    head = records_of(Path(told["file"]).read_bytes())[0]
    assert (head[119:131], head[131:143]) == (b"202503170001", b"202504162400")


def test_a_run_with_holes_is_refused_and_each_meter_named(enrol, record, run, post_office):
    full, holed, _empty = enrol(half_hourly(), half_hourly("NMI2"), half_hourly("NMI3"))
    month_of(full, record, "1")
    month_of(holed, record, "1", days=30)
    error = run(*CYCLE).exception
    assert isinstance(error, CannotRepresent)
    assert [(item.path, item.reason.split(";")[0]) for item in error.items] == [
        ("NMI2", "48 intervals are missing"),
        ("NMI3", "1488 intervals are missing"),
    ]
    assert list((post_office.folder / "out").iterdir()) == []
    told = written(run(*CYCLE, "--partial"))
    assert [(one["meter"], one["missing"]) for one in told["meters"]] == [("NMI1", 0), ("NMI2", 48)]
    assert told["without_readings"] == ["NMI3"]
    last = records_of(Path(told["file"]).read_bytes())[-2]
    assert struct.unpack_from("<fHH", last, 24) == (0.0, 0, 0x40)  # LA, data missing


def test_two_meters_that_the_file_would_show_as_one_are_refused(enrol, record, run, post_office):
    for channel in enrol(half_hourly(), half_hourly("NMI2")):
        month_of(channel, record, "1")
    site = post_office.folder / "site.csv"
    rows = "".join(f"{name},{name},E1,{KWH_30},SAME,R1\n" for name in ("NMI1", "NMI2"))
    site.write_text("usage_point,meter,channel,reading_type,custid,recid\n" + rows)
    result = run(*CYCLE, "--site", str(site))
    assert "two meters would both be CUSTID 'SAME', RECID 'R1'" in result.exception.reason
    assert list((post_office.folder / "out").iterdir()) == []


def test_a_file_shows_the_clock_of_one_zone(enrol, record, run):
    here, there = enrol(half_hourly(), half_hourly("NMI2", zone="Etc/UTC"))
    month_of(here, record, "1")
    record(there, MIDNIGHT + 36_000 + 1800, ["1"] * (48 * 31))
    assert "2 zones, Etc/GMT-10, Etc/UTC; name one with --zone" in run(*CYCLE).output
    told = written(run(*CYCLE, "--zone", "Etc/UTC"))
    assert Path(told["file"]).name == "billing_20250301_20250331_Etc_UTC.mde"
    assert [one["meter"] for one in told["meters"]] == ["NMI2"]
    assert [one["meter"] for one in written(run(*CYCLE, "--meter", "NMI1"))["meters"]] == ["NMI1"]


@pytest.mark.parametrize(
    "options",
    [(), ("--from", "2025-03-01"), ("--cycle", "2025-03", "--from", "2025-03-01", "--to", "2025-03-02"),
     ("--from", "2025-03-02", "--to", "2025-03-01"), ("--cycle", "2025-03", "--cycle-day", "32")],
)  # fmt: skip
def test_a_run_without_one_period_is_wrong_usage(run, options):
    assert run("mdef", *options).exit_code == 2


def test_what_is_joined_must_be_whole():
    with pytest.raises(FileInvalid, match="records of 216 bytes"):
        list(Mv90Adapter().join([b"\xd8\0"]))
    with pytest.raises(CannotRepresent, match="no interval readings"):
        list(Mv90Adapter().join([]))


def test_the_moments_of_this_test_are_these():
    assert datetime.fromtimestamp(MIDNIGHT, UTC) + timedelta(hours=10) == datetime(2025, 3, 1, tzinfo=UTC)
    assert export_run.command.name == "mdef"
