"""The README's commands, in its order, by the real programs: what a newcomer types works and ends in a billing file."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from decimal import Decimal
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
SCRIPTS = [block.strip() for block in BLOCKS if block.startswith("script/")]
TOUR = [block for block in BLOCKS if block.startswith("gridpost") or block.startswith("CODE=")]


def _environment():
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([here, os.environ["PATH"]]), "COLUMNS": "120"}


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run(script, folder):
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, env=_environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_tour_ends_in_a_billing_file(tmp_path, free_port):
    assert len(TOUR) == 4
    (tmp_path / "examples").mkdir()
    for file in (ROOT / "examples").glob("*.csv"):
        (tmp_path / "examples" / file.name).write_bytes(file.read_bytes())
    bus, *later = [block.replace(":8080", f":{free_port}") for block in TOUR]
    *before, serve = bus.strip().splitlines()
    assert serve.startswith("gridpost serve ")
    _run("\n".join(before), tmp_path)
    with subprocess.Popen(serve.split(), cwd=tmp_path, env=_environment(), stdout=subprocess.PIPE, text=True) as server:
        try:
            assert "listening on" in server.stdout.readline()
            said = "".join(_run(block, tmp_path) for block in later)
            wsdl = urllib.request.urlopen(f"http://127.0.0.1:{free_port}/metering?wsdl", timeout=10).read()
            _wait_for_the_reader(tmp_path)
        finally:
            server.terminate()
        assert server.wait(10) == 0
    assert b"PublishCreatedMeterReadings" in wsdl
    assert "receipted 1 message(s), refused 0" in said
    _check_files(tmp_path)


def _wait_for_the_reader(folder):
    """`status` asks the store, so each turn of this loop waits for a process, not for a clock."""
    for _ in range(60):
        status = json.loads(_run("gridpost status --config bus/gridpost.toml --json", folder))
        (reader,) = (one for one in status["readers"] if one["reader"] == "mv90")
        if reader["lag"] == 0 and reader["waiting"] == 0 and list((folder / "bus/mv90").iterdir()):
            return
    raise AssertionError(f"no billing file: {status}")


def _check_files(folder):
    (written,) = (folder / "bus/mv90").iterdir()
    assert written.name == "METER-7_20250301_r01.mde"
    # an MDEF file is a whole number of records of 216 bytes
    assert written.stat().st_size % 216 == 0
    assert written.read_bytes() == (folder / "out/METER-7_20250301.mde").read_bytes()
    sent = (folder / "examples/readings.csv").read_text().splitlines()
    back = (folder / "day.csv").read_text().splitlines()
    # MDEF holds 32-bit numbers: the value comes back to the digit, but not its trailing zeros.
    values = [(line.split(",")[1], Decimal(line.split(",")[2])) for line in sent[1:]]
    assert [(line.split(",")[6], Decimal(line.split(",")[7])) for line in back[1:]] == values
    assert len(values) == 96
    assert len(list((folder / "receipts").glob("*.xml"))) == 1


def test_every_command_of_the_readme_is_run_by_a_test():
    assert sorted(SCRIPTS) == ["script/demo --once", "script/test"]
    assert len(BLOCKS) == len(SCRIPTS) + len(TOUR)


@pytest.mark.parametrize("name", ["demo", "server", "test", "_venv.sh"])
def test_the_scripts_are_posix_shell_and_may_be_run(name):
    file = ROOT / "script" / name
    assert subprocess.run(["sh", "-n", str(file)], check=False).returncode == 0
    assert name.endswith(".sh") or os.access(file, os.X_OK)
    assert file.read_text(encoding="utf-8").isascii()


def test_the_demonstration_runs_to_its_end(demonstration):
    end = time.monotonic() + 240
    while not demonstration.code.exists():
        assert time.monotonic() < end, demonstration.said.read_text()
        time.sleep(0.1)  # between two looks
    said = demonstration.said.read_text()
    assert demonstration.code.read_text() == "0", said
    stages = [line[10:24].strip() for line in said.splitlines() if re.match(r"\d\d:\d\d:\d\d  ", line)]
    wanted = ["enrolled", "measured", "pushed", "receipt", "stored", "file written"]
    assert [stages.count(stage) >= 2 for stage in wanted] == [True] * 6
    (folder,) = (demonstration.folder / "demo-data").iterdir()
    assert list((folder / "bus/mv90").glob("DEMO-CSV_*_r01.mde"))
    assert list((folder / "export").glob("DEMO-SUNSPEC_*.mde"))
    for device in ("DEMO-CSV", "DEMO-SUNSPEC"):
        assert list((folder / "receipts" / device).glob("*.xml"))
    for stage in ("contract", "bill", "proof", "suppliers", "watched"):
        assert stages.count(stage) == 1, stage
    for file in ("bill.proof.jsonl", "suppliers.html", "suppliers.svg", "bus/reports/report_DEMO-1_"):
        assert str(Path("demo-data", folder.name, file)) in said
    proof = folder / "bill.proof.jsonl"
    verify = f"gridpost verify --trust {folder / 'bus/ca.pem'} {proof}"
    _run(verify, demonstration.folder)
    changed, count = re.subn(rb'(total\\*":\\*")(\d)', _another_digit, proof.read_bytes(), count=1)
    proof.write_bytes(changed)
    assert count == 1
    with pytest.raises(AssertionError, match="is not the sum of the lines"):
        _run(verify, demonstration.folder)


def _another_digit(found):
    return found[1] + (b"2" if found[2] == b"1" else b"1")
