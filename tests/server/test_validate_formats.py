"""Files of every format: told apart, cut in half, behind a byte order mark, taken for another market's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from gridpost.server import tariff_files
from gridpost.server.commands import convert, validate
from gridpost.server.zones import zone_of

from gridpost import ns, tariff_messages, testing
from gridpost.model import Readings, RegisterReading
from gridpost.ports import FormatOptions

ROOT = Path(__file__).parents[2]
MIDNIGHT = 1740751200  # 2025-02-28T14:00:00Z, midnight of NEM time
CHANNEL = testing.channel(zone="Etc/GMT-10")
STAND = CHANNEL.key._replace(reading_type="0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0", meter="M", usage_point="U")
BLOCK = testing.block(CHANNEL, MIDNIGHT + 900, [f"{number}.25" for number in range(96)])
INTERVALS = Readings((replace(BLOCK, channel=CHANNEL.key._replace(meter="M", usage_point="U")),))
READS = Readings((), tuple(RegisterReading(STAND, MIDNIGHT + 86400 * day, f"{day}0.5") for day in range(6)))
OPTIONS = FormatOptions(zone=zone_of("Etc/GMT-10"))
# format of convert -> what validate calls it, a file's name, what is in it
FORMATS = {
    "nem12": ("NEM12", "a.csv", INTERVALS),
    "nem13": ("NEM13", "a.csv", READS),
    "cmep": ("CMEP", "a.cmep", INTERVALS),
    "mdef": ("MDEF", "a.mde", INTERVALS),
    "greenbutton": ("Green Button", "a.xml", INTERVALS),
    "xml-record": ("XML record", "a.xml", INTERVALS),
    "csv-line": ("CSV line", "a.csv", INTERVALS),
    "csv": ("CSV of readings", "a.csv", INTERVALS),
    "cim": ("m:MeterReadings", "a.xml", INTERVALS),
}
BINARY, HAS_BOM = {"mdef"}, b"\xef\xbb\xbf"


@pytest.fixture(scope="module")
def files():
    """Format -> the bytes of a whole file of it."""
    return {name: convert.FORMATS[name].adapter().render(FORMATS[name][2], OPTIONS).content for name in FORMATS}


@pytest.fixture
def judged(tmp_path):
    def judge(format_name, raw):
        file = tmp_path / FORMATS[format_name][1]
        file.write_bytes(raw)
        result = CliRunner().invoke(validate.command, [str(file), "--json"])
        (verdict,) = json.loads(result.stdout)["files"]
        assert result.exit_code == int(not verdict["valid"])
        return verdict

    return judge


@pytest.mark.parametrize("name", FORMATS)
def test_each_is_known_for_what_it_is(files, judged, name):
    verdict = judged(name, files[name])
    assert (verdict["valid"], verdict["kind"]) == (True, FORMATS[name][0]), verdict


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - BINARY - {"cim"}))
def test_a_byte_order_mark_is_passed_over(files, judged, name):
    verdict = judged(name, HAS_BOM + files[name])
    assert (verdict["valid"], verdict["kind"]) == (True, FORMATS[name][0]), verdict


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_in_half_is_refused_with_its_place(files, judged, name):
    raw = files[name]
    (finding, *_) = judged(name, raw[: len(raw) // 2 + 1])["findings"]
    assert finding["code"] in ("file-invalid", "malformed-xml")
    assert finding["reason"]


def test_utf_16_is_named(files, judged):
    (finding,) = judged("csv", files["csv"].decode().encode("utf-16"))["findings"]
    assert "UTF-16" in finding["reason"]


def test_a_line_of_a_hundred_kwh_is_no_nem_file(judged):
    assert judged("csv-line", b"100,1.25,1234 Elm Street, 8500\r\n")["kind"] == "CSV line"


def test_an_atom_feed_of_something_else_is_told_so(judged):
    feed = b"<?xml version='1.0'?><!-- news --><feed xmlns='http://www.w3.org/2005/Atom'><entry/></feed>"
    verdict = judged("greenbutton", feed)
    assert verdict["kind"] == "Green Button"
    assert "no link to itself" in verdict["findings"][0]["reason"]


def test_a_tariff_that_cannot_be_billed_is_refused_with_its_place(tmp_path):
    example = json.loads((ROOT / "examples/tariffs/harbour-flat.json").read_text())
    tariffs = (tariff_files.read(json.dumps(example).encode(), tariff_files.Unsaid("Etc/UTC"), "x")[0],)
    xml = tariff_messages.encode(tariffs[0])
    assert "<places>2<" in xml
    assert "<endHour>24<" in xml
    spoilt = {
        "good.json": (json.dumps(example), "URDB tariffs", None),
        "good.xml": (xml, "tf:Tariff", None),
        "half.json": (json.dumps(example)[:300], "URDB tariffs", "file-invalid"),
        "mark.json": ("\ufeff" + json.dumps(example), "URDB tariffs", "file-invalid"),
        "nan.json": (re.sub(r'"rate": [0-9.]+', '"rate": NaN', json.dumps(example), count=1), "URDB tariffs", None),
        "nan.xml": (xml.replace("<places>2<", "<places>NaN<"), "tf:Tariff", "schema-invalid"),
        "hole.xml": (xml.replace("<endHour>24<", "<endHour>23<", 1), "tf:Tariff", "bad-tariff"),
    }
    for name, (text, _, _) in spoilt.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    files = _validated(tmp_path / name for name in spoilt)
    assert {name: one["valid"] for name, one in files.items()} == {name: name.startswith("good") for name in spoilt}
    assert {name: one["kind"] for name, one in files.items()} == {name: kind for name, (_, kind, _) in spoilt.items()}
    codes = {name: code for name, (_, _, code) in spoilt.items() if code}
    assert {name: files[name]["findings"][0]["code"] for name in codes} == codes
    assert "23" in files["hole.xml"]["findings"][0]["path"] + files["hole.xml"]["findings"][0]["reason"]


@pytest.mark.parametrize("taken_for", FORMATS)
def test_a_file_of_another_market_is_refused_and_nothing_is_written(files, tmp_path, taken_for):
    for name, raw in files.items():
        if name == taken_for:
            continue
        given, out = tmp_path / FORMATS[name][1], tmp_path / "out"
        given.write_bytes(raw)
        command = [str(given), "--from", taken_for, "--to", "csv" if taken_for != "csv" else "cim", "--out", str(out)]
        more = ["--at", "2025-03-01T00:00:00Z", "--zone", "Etc/GMT-10", "--json"]
        result = CliRunner().invoke(convert.command, [*command, *more])
        assert (result.exit_code, out.exists()) == (1, False), (name, result.output)
        assert json.loads(result.stdout)["error"]["reason"]


def test_a_tariff_and_a_message_about_one_are_told_where_they_miss_something(tmp_path):
    files = {
        "tariff.xml": f'<Tariff xmlns="{ns.TARIFF}">\n<mRID>a</mRID>\n</Tariff>',
        "message.xml": f'<GetTariff xmlns="{ns.SUPPLY}"></GetTariff>',
        "completeness.xml": f'<GetCompleteness xmlns="{ns.COMPLETENESS}"></GetCompleteness>',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for one in _validated(tmp_path / name for name in files).values():
        (found,) = one["findings"]
        assert (found["code"], "not an element" in found["reason"]) == ("schema-invalid", False)
        assert found["path"].startswith("/")


def _validated(files):
    """What `gridpost validate` tells of each file, by name: the command as installed, since xmlschema is for a process
    without Twisted."""
    command = [Path(sys.executable).with_name("gridpost"), "validate", *files, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode in (0, 1), done.stderr
    return {Path(one["file"]).name: one for one in json.loads(done.stdout)["files"]}
