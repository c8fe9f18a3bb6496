"""The commands, as installed: tariff, contract and bill beside a running bus, and without one."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime

import live_bus
import pytest
from gridpost.server import cli
from live_bus import channel_table

SEPTEMBER, OCTOBER = (int(datetime(2026, month, 1, tzinfo=UTC).timestamp()) for month in (9, 10))
GRID = [[0] * 8 + [1] * 12 + [0] * 4] * 12
RATE = {
    "label": "R1", "utility": "S1", "name": "Day and night", "servicetype": "Bundled",
    "energyratestructure": [[{"rate": 0.1, "unit": "kWh"}], [{"rate": 0.2, "unit": "kWh"}]],
    "energyweekdayschedule": GRID, "energyweekendschedule": GRID,
    "fixedchargefirstmeter": 5, "fixedchargeunits": "$/month",
}  # fmt: skip


@pytest.fixture
def rate(tmp_path):
    file = tmp_path / "rate.json"
    file.write_text(json.dumps(RATE))
    return file


class Here:
    """Commands of a bus's folder, run in this process: one of their own each would take a second."""

    def __init__(self, bus, monkeypatch, capsys):
        self._bus, self._monkeypatch, self._capsys = bus, monkeypatch, capsys

    def __call__(self, *arguments):
        words = ["gridpost", *map(str, arguments), "--config", str(self._bus.config)]
        self._monkeypatch.setattr(sys, "argv", words)
        self._capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        printed = self._capsys.readouterr()
        return subprocess.CompletedProcess(words, code or 0, printed.out, printed.err)

    def json(self, *arguments):
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def here(monkeypatch, capsys):
    return lambda bus: Here(bus, monkeypatch, capsys)


def sold(bus, run, rate, first_end=SEPTEMBER + 900, quarters=2880):
    """A month of 0.25 kWh a quarter hour on file, a tariff and a contract."""
    device = bus.enrol("IED-1", channel_table("M1"))
    for place in range(0, quarters, 480):
        payload = device.payload(f"m-{place}", ["0.25"] * min(480, quarters - place), first_end + place * 900)
        assert bus.wire.post(device.seal(payload))[0] == 200
    assert run.json("tariff", "add", rate) == {"tariffs": ["S1/R1"], "filed": ["S1/R1"]}
    added = bus.run("contract", "add", "C1", "--usage-point", "UP-M1", "--tariff", "S1/R1", "--from", "2026-01-01")
    assert (added.returncode, added.stdout) == (0, "S1/C1 is on file\n"), added.stderr
    return device


def test_from_readings_to_a_bill_and_its_correction(make_bus, here, rate):
    """30 days: by day 48 x 0.25 kWh at 0.20, by night 48 x 0.25 at 0.10, and 5.00 standing:
    30 x 12 x 0.20 = 72.00, 30 x 12 x 0.10 = 36.00, together 113.00."""
    bus = make_bus().start()
    run = here(bus)
    device = sold(bus, run, rate)
    made = bus.json("bill", "make", "C1", "--cycle", "2026-09")
    assert (made["bill"], made["total"], made["currency"]) == ("C1-2026-09", "113.00", "USD")
    shown = run.json("bill", "show", "C1-2026-09")
    assert [line["amount"] for line in shown["lines"]] == ["36.00", "72.00", "5.00"]
    assert all(line["entries"] == [f"0:{seq}" for seq in range(6)] for line in shown["lines"][:2])
    assert {one["sender"] for one in shown["rests_on"]} == {"IED-1"}
    assert run("bill", "make", "C1", "--cycle", "2026-09").returncode == 1
    proof = bus.folder / "bill.proof"
    assert run.json("proof", "C1-2026-09", "--out", proof)["entries"] == 9  # tariff, contract, six messages, the bill
    assert "there is no bill" in run("proof", "C9", "--out", proof).stderr
    assert "holds" in live_bus.run("verify", "--trust", bus.folder / "ca.pem", proof).stdout
    assert "C1-2026-09: nothing changed" in run("bill", "correct", "C1-2026-09").stdout
    assert bus.audit("task")[0]["kind"] == "tariffs"
    assert bus.stop() == 0
    assert run.json("bill", "again", "C1-2026-09")["same"] is True
    listed = run.json("bill", "list", "--contract", "C1")["bills"]
    assert [(one["bill"], one["total"], one["from"], one["to"]) for one in listed] == [
        ("C1-2026-09", "113.00", "2026-09-01", "2026-10-01")
    ]
    refused = run("bill", "make", "C1", "--from", "2026-10-01", "--to", "2026-10-02")
    assert (refused.returncode, "192 intervals are missing" in refused.stderr) == (1, True), refused.stderr
    assert "2026-10-01T00:15:00Z" in refused.stderr
    part = run.json("bill", "make", "C1", "--from", "2026-10-01", "--to", "2026-10-02", "--partial")
    assert (part["bill"], part["marks"]) == ("C1-2026-10-01_2026-10-02", ["partial"])
    # 12 hours at 0.20 and 12 at 0.10, 1 kWh each, as on the Saturdays and Sundays before; 5.00 x 1/31 is 0.16.
    guessed = ("bill", "make", "C1", "--from", "2026-10-03", "--to", "2026-10-03", "--estimate")
    made = run.json(*guessed)
    assert (made["total"], made["marks"]) == ("3.76", ["estimated"])
    entries = run.json("status")["entries"]
    assert run(*guessed).returncode == 1
    assert run.json("status")["entries"] == entries, "a bill that is refused leaves no estimate"
    assert device.serial == "IED-1"


def test_tariffs_and_contracts_are_told_and_taken_out(make_bus, here, rate, tmp_path):
    bus = make_bus()
    run = here(bus)
    bus.add("IED-1", channel_table("M1"))
    assert run("tariff", "add", rate).stdout == "S1/R1 is on file\n"
    assert run("tariff", "add", rate).stdout == "1 on file already, to the letter\n"
    assert [one["tariff"] for one in run.json("tariff", "list")["tariffs"]] == ["S1/R1"]
    assert run.json("tariff", "list", "--supplier", "S2") == {"tariffs": []}
    assert "<mRID>R1</mRID>" in run("tariff", "show", "S1/R1").stdout
    for kind in ("urdb", "xml"):
        out = tmp_path / f"again.{kind}"
        assert run.json("tariff", "export", "S1/R1", "--format", kind, "--out", out)["file"] == str(out)
        added = run("tariff", "add", out)
        assert (added.returncode, added.stdout) == (0, "1 on file already, to the letter\n"), added.stderr
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(RATE | {"energyweekdayschedule": GRID[:11]}))
    refused = run("tariff", "add", broken)
    assert (refused.returncode, "energyweekdayschedule" in refused.stderr) == (1, True), refused.stderr
    add = ["contract", "add", "C1", "--usage-point", "UP-M1", "--tariff", "S1/R1", "--from", "2026-01-01"]
    assert run(*add, "--cycle-day", "17", "--channel", "E1=energy", "--customer", "Ann").returncode == 0
    strange = run(*add, "--channel", "E9")
    assert (strange.returncode, "E9: usage point UP-M1 has no such channel, only " in strange.stderr) == (1, True)
    (listed,) = run.json("contract", "list", "--usage-point", "UP-M1")["contracts"]
    assert (listed["contract"], listed["cycle_day"], listed["from"], listed["to"]) == ("S1/C1", 17, "2026-01-01", None)
    assert run("contract", "end", "C1", "--to", "2026-06-30", "--reason", "moved").returncode == 0
    shown = run.json("contract", "show", "S1/C1")
    assert (shown["status"], shown["to"], shown["reason"]) == ("ended", "2026-07-01", "moved")
    assert "+ E1 (energy)" in run("contract", "show", "C1").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["bill", "make", "C1"], "--cycle"),
        (["bill", "make", "C1", "--cycle", "2026-09", "--from", "2026-09-01", "--to", "2026-09-02"], "--cycle"),
        (["bill", "make", "C1", "--from", "2026-09-01"], "--to"),
        (["bill", "make", "C1", "--cycle", "2026-13"], "2026-13"),
        (["tariff", "add", "nowhere.json"], "nowhere.json"),
    ],
)
def test_a_wrong_command_line_is_exit_2(arguments, told, make_bus, here):
    refused = here(make_bus())(*arguments)
    assert (refused.returncode, told in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["bill", "make", "C9", "--cycle", "2026-09"], "not-found"),
        (["bill", "show", "B9"], "not-found"),
        (["bill", "correct", "B9"], "not-found"),
        (["contract", "end", "C9", "--to", "2026-09-01"], "not-found"),
        (["tariff", "export", "S1/R9", "--out", "x.xml"], "not-found"),
    ],
)
def test_what_is_not_there_is_exit_1_and_leaves_nothing(arguments, code, make_bus, here):
    bus = make_bus()
    refused = here(bus)(*arguments, "--json")
    assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (1, code)
    assert not (bus.folder / "x.xml").exists()
