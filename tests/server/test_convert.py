"""gridpost convert: real files through the installed command, and what it says when it cannot."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile

import pytest
from click.testing import CliRunner
from gridpost.server.cli import group
from gridpost.server.commands import convert

from gridpost import tabular
from gridpost.errors import CannotRepresent, FileInvalid, FileUnwritable

KWH_30 = "0.0.5.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
COLUMNS = "usage_point,meter,channel,reading_type,unit,interval_s,interval_end_utc,value,quality,quality_detail\n"
# Half hours of 2024-02-01 in UTC+10: 14:30Z the day before to 14:00Z
ENDS = [f"2024-01-31T{14 + n // 2}:{n % 2 * 30:02d}:00Z" for n in range(1, 20)] + [
    f"2024-02-01T{n // 2:02d}:{n % 2 * 30:02d}:00Z" for n in range(29)
]
ROWS = [f"NMI1,M1,E1,{KWH_30},kWh,1800,{end},{number}.25,," for number, end in enumerate(ENDS)]
CSV = COLUMNS + "\n".join(ROWS) + "\n"
DAY = ",".join(["300", "20240201", *(f"{number}.25" for number in range(48)), "A", "", "", "20240202120000", ""])
NEM12 = "\r\n".join(
    ["100,NEM12,202402021200,MDP1,RET1", "200,NMI1,E1,1,E1,N1,M1,kWh,30,", DAY, "500,O,S1,20240202000000,", "900", ""]
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run convert in a folder of its own with these files in it; return the click result."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, **files):
        for name, content in files.items():
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return CliRunner().invoke(convert.command, arguments)

    return call


def arguments(source, target, *more, out="out"):
    return ("input", "--from", source, "--to", target, "--out", out, *more)


def test_nem12_becomes_csv(run, tmp_path):
    result = run(*arguments("nem12", "csv"), input=NEM12)
    assert (result.exit_code, result.stdout) == (0, f"out: 48 readings, {(tmp_path / 'out').stat().st_size} bytes\n")
    assert (tmp_path / "out").read_text() == CSV
    assert result.stderr.startswith("not held: line 4: the 500 record")


@pytest.mark.parametrize("through", ["csv", "cim", "mdef", "nem12", "greenbutton"])
def test_readings_survive_a_way_through_every_format(run, tmp_path, through):
    zone = ("--zone", "Australia/Brisbane")
    assert run(*arguments("csv", through, *zone, out="between"), input=CSV).exit_code == 0
    result = CliRunner().invoke(
        convert.command, ("between", "--from", through, "--to", "csv", "--out", "back.csv", *zone)
    )
    assert result.exit_code == 0
    assert (tmp_path / "back.csv").read_text() == CSV


@pytest.mark.parametrize(("through", "stream"), [("cmep", "KWH")])
def test_values_survive_formats_that_name_streams_otherwise(run, tmp_path, through, stream):
    """What the stream is called there is a loss, listed; everything else comes back."""
    assert "'E1'" in run(*arguments("csv", through, out="between"), input=CSV).stderr
    result = CliRunner().invoke(convert.command, ("between", "--from", through, "--to", "csv", "--out", "back.csv"))
    assert result.exit_code == 0
    assert (tmp_path / "back.csv").read_text() == CSV.replace(",E1,", f",{stream},")


def test_a_line_of_four_cells_becomes_the_record_in_tags_and_comes_back(run, tmp_path):
    line = "45.54,1.25,1234 Elm Street, 8500\r\n"
    at = ("--at", "2026-03-01T08:00:00Z")
    assert run(*arguments("csv-line", "xml-record", *at, out="between"), input=line).exit_code == 0
    back = CliRunner().invoke(
        convert.command, ("between", "--from", "xml-record", "--to", "csv-line", "--out", "back.csv")
    )
    assert (back.exit_code, (tmp_path / "back.csv").read_bytes()) == (0, line.encode())


def test_mdef_to_mdef_gives_the_same_bytes_and_needs_no_zone(run, tmp_path):
    run(*arguments("csv", "mdef", "--zone", "Asia/Manila", out="a.mde"), input=CSV)
    raw = (tmp_path / "a.mde").read_bytes()
    # an unknown unit code, a customer's name and a value that is no number: none of them a reading
    assert (raw[24:44], raw[216 + 97 : 216 + 99], raw[456:460]) == (b" " * 20, b"01", b"\x00\x00\x80\x3e")
    raw = raw[:24] + b"CUSTOMER \xf1".ljust(20) + raw[44 : 216 + 97] + b"77" + raw[216 + 99 :]
    raw = raw[:456] + b"\x00\x00\xc0\x7f" + raw[460:]
    result = run(*arguments("mdef", "mdef"), input=raw)
    assert (result.exit_code, (tmp_path / "out").read_bytes() == raw) == (0, True)


def test_a_conversion_repeated_gives_the_same_bytes(run, tmp_path):
    for out in ("one", "two"):
        assert run(*arguments("csv", "nem12", out=out), input=CSV).exit_code == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_zip_with_one_file_is_read(run, tmp_path):
    assert run(*arguments("csv", "csv"), input=zipped({"a.csv": CSV})).exit_code == 0
    assert (tmp_path / "out").read_text() == CSV


def zipped(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (zipped({}), "0 files"),
        (zipped({"a": CSV, "b": CSV}), "2 files"),
        (zipped({"a": CSV})[:-40], "cannot be unpacked"),
        (zipped({"a": CSV}).replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"), "unpacked"),
    ],
)
def test_a_zip_that_is_not_one_file_is_refused(run, tmp_path, raw, words):
    result = run(*arguments("csv", "csv"), input=raw)
    assert isinstance(result.exception, FileInvalid)
    assert words in result.exception.reason
    assert not (tmp_path / "out").exists()


def test_a_zip_that_unpacks_to_too_much_is_refused(run, monkeypatch):
    monkeypatch.setattr(convert, "MAX_INPUT", 1 << 20)
    result = run(*arguments("csv", "csv"), input=zipped({"a": bytes(2 << 20)}))
    assert isinstance(result.exception, FileInvalid)
    assert "more than 1 MiB" in result.exception.reason


def test_strict_refuses_a_loss_and_writes_nothing(run, tmp_path):
    result = run(*arguments("nem12", "csv", "--strict"), input=NEM12)
    assert isinstance(result.exception, CannotRepresent)
    assert "1 thing of the nem12 file" in result.exception.reason
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["input"]


def test_strict_converts_what_is_held(run):
    assert run(*arguments("csv", "nem12", "--strict"), input=CSV).exit_code == 0


def test_losses_beyond_the_first_twenty_are_counted_and_listed_in_json(run):
    wide = CSV.replace(".25,", ".123456789,")  # ten digits and more: no binary32 holds them
    zone = ("--zone", "Australia/Brisbane")
    result = run(*arguments("csv", "mdef", *zone), input=wide)
    lines = result.stderr.splitlines()
    # 48 values, of which 0.123456789 is held; beside them one line for the register readings
    assert len(lines) == 21
    found = json.loads(run(*arguments("csv", "mdef", *zone, "--json"), input=wide).stdout)
    assert lines[-1] == f"not held: {len(found['losses'])} in all, {len(found['losses']) - 20} more; --json lists them"
    assert (found["ok"], found["readings"], found["losses"][0]["code"]) == (True, 48, "cannot-represent")
    assert len(found["losses"]) in (48, 49)


def test_a_site_table_names_what_the_target_needs(run, tmp_path):
    site = f"usage_point,meter,channel,reading_type,custid,recid\nNMI1,M1,E1,{KWH_30},CUSTOMER-7,REC-7\n"
    options = ("--zone", "Australia/Brisbane", "--site", "site.csv")
    (tmp_path / "site.csv").write_text(site)
    assert run(*arguments("csv", "mdef", *options), input=CSV).exit_code == 0
    raw = (tmp_path / "out").read_bytes()
    assert (raw[4:24], raw[216 + 24 : 216 + 38]) == (b"CUSTOMER-7".ljust(20), b"REC-7".ljust(14, b"\0"))
    back = run("out", "--from", "mdef", "--to", "csv", "--out", "back", *options)
    assert (back.exit_code, (tmp_path / "back").read_text()) == (0, CSV)


def test_a_bad_file_is_refused_with_json_too(run, tmp_path):
    result = run(*arguments("csv", "cim", "--json"), input="channel\n")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["ok"], found["error"]["code"]) == (1, False, "file-invalid")
    assert found["error"]["items"][0]["path"] == "line 1"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("missing", "--from", "csv", "--to", "cim", "--out", "o"), "does not exist"),
        (arguments("csv", "xls"), "xls"),
        (arguments("csv", "mdef"), "name its --zone"),
        (arguments("csv-line", "csv"), "--at"),
        (arguments("csv-line", "csv", "--at", "2026-03-01"), "--at"),
        (arguments("mdef", "csv"), "name its --zone"),
        (arguments("csv", "mdef", "--zone", "Mars/Olympus"), "--zone"),
        (arguments("csv", "mdef", "--zone", "../../etc/passwd"), "--zone"),
        (arguments("csv", "mdef", "--zone", "Etc/UTC/deeper"), "--zone"),
        (arguments("csv", "cim", "--json", out="-"), "standard output"),
        (arguments("csv", "cim", out="./input"), "INPUT itself"),
        (arguments("csv", "cim", "--site", "none.csv"), "none.csv"),
        (("input", "--from", "csv", "--to", "cim"), "--out"),
    ],
)
def test_wrong_usage_is_exit_2(run, args, words):
    result = run(*args, input=CSV)
    assert (result.exit_code, words in result.stderr) == (2, True)


def test_a_folder_that_is_not_there_is_said(run):
    result = run(*arguments("csv", "cim", out="none/out"), input=CSV)
    assert isinstance(result.exception, FileUnwritable)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")
def test_what_stood_there_stays_when_the_disk_is_full(run, tmp_path, monkeypatch):
    (tmp_path / "out").write_text("before")
    monkeypatch.setattr(os, "fsync", lambda handle: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
    result = run(*arguments("csv", "cim"), input=CSV)
    assert isinstance(result.exception, FileUnwritable)
    assert "No space left" in result.exception.reason
    assert {entry.name: entry.read_bytes()[:6] for entry in tmp_path.iterdir()} == {
        "input": CSV.encode()[:6],
        "out": b"before",
    }


def test_a_file_is_replaced_never_written_over(run, tmp_path):
    (tmp_path / "out").write_text("before")
    os.link(tmp_path / "out", tmp_path / "open_elsewhere")
    assert run(*arguments("csv", "csv"), input=CSV).exit_code == 0
    assert ((tmp_path / "out").read_text(), (tmp_path / "open_elsewhere").read_text()) == (CSV, "before")


def gridpost(*args, **keywords):
    code = "from gridpost.server.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, timeout=60, check=False, **keywords)


def test_the_installed_command_reads_and_writes_streams():
    result = gridpost("convert", "-", "--from", "nem12", "--to", "csv", "--out", "-", input=NEM12.encode())
    assert (result.returncode, result.stdout) == (0, CSV.encode())


def test_the_installed_command_says_what_is_wrong_in_a_line_with_a_code():
    bad = NEM12.replace("300,20240201,", "300,20240230,")
    result = gridpost("convert", "-", "--from", "nem12", "--to", "csv", "--out", "-", input=bad.encode())
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.decode().splitlines()[0].startswith("error[file-invalid]: line 3: interval date '20240230'")


def test_it_starts_without_the_bus():
    code = (
        "import sys; from gridpost.server.commands import convert;"
        "print(*sorted({name.split('.')[0] for name in sys.modules} & {'twisted', 'spyne', 'sqlalchemy', 'zeep'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_the_command_is_in_the_group():
    assert CliRunner().invoke(group, ["convert", "--help"]).exit_code == 0


def test_the_csv_of_this_test_is_readings():
    assert tabular.parse(CSV).count == 48
