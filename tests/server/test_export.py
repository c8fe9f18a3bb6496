"""gridpost export: what stands in the store comes out as each format has it, whole days, the same bytes each time."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from gridpost.adapters.mv90 import Mv90Adapter
from gridpost.server.commands import export
from gridpost.server.zones import zone_of
from nemreader import NEMFile

from gridpost import tabular, testing
from gridpost.errors import FileUnwritable, NotFound
from gridpost.model import Block, ChannelKey, Entry, Quality, Rows
from gridpost.ports import FormatOptions

KWH_30 = "0.0.5.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
NEM = "Etc/GMT-10"
# 2025-03-01 00:00 at UTC+10 is 2025-02-28T14:00:00Z
MIDNIGHT = int(datetime(2025, 2, 28, 14, tzinfo=UTC).timestamp())
SUBSTITUTED = (Quality("2.8.0", "S14,76,Communications Fault"),)
NULL = (Quality("2.5.259", "N=3.10,86,Meter removed"),)


def half_hourly(meter="NMI1", stream="E1", zone=NEM, **changes):
    key = ChannelKey(meter, meter, stream, KWH_30)
    return testing.channel(key=key, interval_s=1800, zone=zone, **changes)


@pytest.fixture
def enrol(post_office):
    return lambda *channels: post_office.store.add_ied("IED-1", "revenue meter", bytes(10), channels)


@pytest.fixture
def record(post_office):
    def put(channel, first_end, values, qualities=None):
        ends = tuple(first_end + index * channel.interval_s for index in range(len(values)))
        block = Block(channel.id, channel.interval_s, ends, tuple(values), qualities or ((),) * len(values))
        name = f"m-{post_office.store.status().entries}"
        entry = Entry(
            "IED-1", name, "MeterReadings", "http", name.encode().ljust(32), post_office.now, None, "", b"raw"
        )
        post_office.store.record(entry, Rows((block,)), lambda *_: b"receipt").result(timeout=10)

    return put


@pytest.fixture
def run(post_office):
    """Run `gridpost export KIND`; return the click result. Files go to the folder ``out``."""
    config = post_office.folder / "gridpost.toml"
    config.write_text("")

    def call(kind, first, last, *more):
        place = ["--out", str(post_office.folder / "out"), "--config", str(config)]
        return CliRunner().invoke(export.command, [kind, "--from", first, "--to", last, *place, *more])

    return call


def files(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["files"]


def by_nemreader(file):
    data = NEMFile(file).nem_data().readings
    return {
        (nmi, suffix, read.t_end.strftime("%d %H:%M")): (
            repr(read.read_value),
            read.quality_method,
            read.event_code or "",
        )
        for nmi, suffixes in data.items()
        for suffix, reads in suffixes.items()
        for read in reads
    }


def test_a_period_is_one_nem12_file_a_meter(enrol, record, run, post_office):
    one, two, other = enrol(half_hourly(), half_hourly(stream="E2", id=2), half_hourly("NMI2"))
    digits = [f"{number}.123456789012" for number in range(96)]
    record(one, MIDNIGHT + 1800, digits)
    record(two, MIDNIGHT + 1800, ["0.5"] * 48, (SUBSTITUTED,) * 20 + ((),) * 28)
    record(other, MIDNIGHT + 1800, ["7"] * 48)
    written = files(run("nem12", "2025-03-01", "2025-03-02", "--json"))
    names = ["NMI1_20250301_20250302.nem12.csv", "NMI2_20250301_20250302.nem12.csv"]
    assert [Path(item["file"]).name for item in written] == names
    assert [item["losses"] for item in written] == [[], []]
    seen = by_nemreader(written[0]["file"])
    assert len(seen) == 96 + 48
    assert seen["NMI1", "E1", "01 00:30"] == ("0.123456789012", "A", "")
    assert seen["NMI1", "E1", "03 00:00"] == ("95.123456789012", "A", "")
    assert seen["NMI1", "E2", "01 10:00"] == ("0.5", "S14", "76")
    assert seen["NMI1", "E2", "01 10:30"] == ("0.5", "A", "")
    assert b",94.123456789012," in (post_office.folder / "out" / names[0]).read_bytes()
    assert set(by_nemreader(written[1]["file"]).values()) == {("7.0", "A", "")}


def test_what_lies_outside_the_period_is_not_in_it(enrol, record, run):
    (channel,) = enrol(half_hourly())
    record(channel, MIDNIGHT - 86400 + 1800, [str(number) for number in range(3 * 48)])
    (file,) = files(run("nem12", "2025-03-01", "2025-03-01", "--json"))
    assert file["complete"]
    assert [value for value, _, _ in by_nemreader(file["file"]).values()] == [f"{number}.0" for number in range(48, 96)]


@pytest.mark.parametrize("zone", ["Australia/Adelaide", "Australia/Sydney", "Etc/UTC"])
def test_nem12_days_are_nem_time_whatever_the_meters_zone(enrol, record, run, zone):
    """A day in Adelaide's time would be two half days in the file, the other halves null: over real values."""
    (channel,) = enrol(half_hourly(zone=zone))
    record(channel, MIDNIGHT - 86400 + 1800, ["1"] * 48 + ["2"] * 48 + ["3"] * 48)
    (file,) = files(run("nem12", "2025-03-01", "2025-03-01", "--json"))
    assert set(by_nemreader(file["file"]).values()) == {("2.0", "A", "")}


def test_a_null_interval_keeps_its_reason(enrol, record, run):
    (channel,) = enrol(half_hourly())
    record(channel, MIDNIGHT + 1800, ["1"] * 47 + [None], ((),) * 47 + (NULL,))
    (file,) = files(run("nem12", "2025-03-01", "2025-03-01", "--json"))
    assert by_nemreader(file["file"])["NMI1", "E1", "02 00:00"] == ("3.1", "N", "86")
    assert not file["complete"]


def test_a_value_that_comes_later_takes_the_place_of_the_gap(enrol, record, run):
    (channel,) = enrol(half_hourly())
    record(channel, MIDNIGHT + 1800, ["1"] * 47 + [None], ((),) * 47 + (NULL,))
    record(channel, MIDNIGHT + 86400, ["9"])
    record(channel, MIDNIGHT + 86400, [None], ((Quality("2.5.259", "N=0,87,"),),))
    (file,) = files(run("nem12", "2025-03-01", "2025-03-01", "--json"))
    assert by_nemreader(file["file"])["NMI1", "E1", "02 00:00"] == ("9.0", "A", "")
    assert file["complete"]


def test_a_site_table_names_what_the_store_does_not_know(enrol, record, run, post_office):
    (channel,) = enrol(half_hourly(stream="import"))
    record(channel, MIDNIGHT + 1800, ["1"] * 48)
    site = post_office.folder / "site.csv"
    head = "usage_point,meter,channel,reading_type,nem12_suffix,nem12_register,nem12_datastream,recid\n"
    site.write_text(f"{head}NMI1,NMI1,import,{KWH_30},E3,7,N3,SERIAL9\n")
    (file,) = files(run("nem12", "2025-03-01", "2025-03-01", "--json", "--site", str(site)))
    assert "\r\n200,NMI1,E3,7,E3,N3,SERIAL9,kWh,30,\r\n" in Path(file["file"]).read_bytes().decode()
    assert file["losses"] == []


def test_csv_holds_what_was_recorded(enrol, record, run):
    (channel,) = enrol(half_hourly())
    values, qualities = ["1.50", "0.00", None], (SUBSTITUTED, (), NULL)
    record(channel, MIDNIGHT + 1800, values, qualities)
    (file,) = files(run("csv", "2025-03-01", "2025-03-01", "--json"))
    (block,) = tabular.parse(Path(file["file"]).read_bytes()).blocks
    assert (block.channel, block.interval_s) == (channel.key, 1800)
    assert (block.values, block.qualities) == (tuple(values), qualities)
    assert block.ends_utc == tuple(MIDNIGHT + 1800 * number for number in (1, 2, 3))


@pytest.mark.parametrize("kind", ["mv90", "nem12", "csv"])
def test_conflicting_values_are_reported_beside_the_file(enrol, record, run, kind):
    """DESIGN 4: exports use the current version and report conflicts."""
    (channel,) = enrol(half_hourly())
    record(channel, MIDNIGHT + 1800, ["1"] * 48)
    record(channel, MIDNIGHT + 3600, ["2"])
    (file,) = files(run(kind, "2025-03-01", "2025-03-01", "--json"))
    named = {"usage_point": "NMI1", "meter": "NMI1", "stream": "E1", "reading_type": KWH_30}
    assert file["conflicts"] == [{**named, "interval_end_utc": "2025-02-28T15:00:00Z"}]  # MIDNIGHT + 1 h
    told = run(kind, "2025-03-01", "2025-03-01")
    assert "channel E1: conflicting values for 2025-02-28T15:00:00Z; the first that came is used\n" in told.stderr
    (other,) = files(run(kind, "2025-02-28", "2025-03-01", "--json"))
    assert len(other["conflicts"]) == 1


def test_mv90_is_a_file_for_each_day_with_readings(enrol, record, run):
    (channel,) = enrol(half_hourly())
    record(channel, MIDNIGHT + 1800, ["1"] * 48)
    record(channel, MIDNIGHT + 2 * 86400 + 1800, ["3"])
    written = files(run("mv90", "2025-02-01", "2025-04-01", "--json"))
    assert [Path(item["file"]).name for item in written] == ["NMI1_20250301.mde", "NMI1_20250303.mde"]
    assert [item["complete"] for item in written] == [True, False]
    third = Mv90Adapter().parse(Path(written[1]["file"]).read_bytes(), FormatOptions(zone=zone_of(NEM)))
    assert third.readings.blocks[0].values == ("3", *[None] * 47)


@pytest.mark.parametrize("kind", ["mv90", "nem12", "csv"])
def test_the_same_data_give_the_same_bytes_and_all_may_read_them(enrol, record, run, kind):
    (channel,) = enrol(half_hourly())
    record(channel, MIDNIGHT + 1800, ["1"] * 48)
    contents = []
    for _ in range(2):
        (file,) = files(run(kind, "2025-03-01", "2025-03-01", "--json"))
        contents.append(Path(file["file"]).read_bytes())
        assert Path(file["file"]).stat().st_mode & 0o444 == 0o444
    assert contents[0] == contents[1]
    assert [path.name for path in Path(file["file"]).parent.iterdir()] == [Path(file["file"]).name]


@pytest.mark.parametrize("kind", ["mv90", "nem12", "csv"])
def test_a_period_without_readings_makes_no_file(enrol, run, kind, post_office):
    enrol(half_hourly())
    assert run(kind, "2025-03-01", "2025-03-01").stdout == "no readings in that period\n"
    assert list((post_office.folder / "out").iterdir()) == []


def test_one_meter_of_many(enrol, record, run):
    for channel in enrol(half_hourly(), half_hourly("NMI2")):
        record(channel, MIDNIGHT + 1800, ["1"] * 48)
    (file,) = files(run("csv", "2025-03-01", "2025-03-01", "--json", "--meter", "NMI2"))
    assert Path(file["file"]).name == "NMI2_20250301_20250301.csv"


def test_bad_usage_and_places_are_told(enrol, run, post_office):
    enrol(half_hourly())
    assert run("nem12", "2025-03-02", "2025-03-01").exit_code == 2
    assert isinstance(run("nem12", "2025-03-01", "2025-03-01", "--meter", "other").exception, NotFound)
    (post_office.folder / "file").write_text("")
    below = str(post_office.folder / "file" / "out")
    assert isinstance(run("nem12", "2025-03-01", "2025-03-01", "--out", below).exception, FileUnwritable)
