"""`gridpost log` and `gridpost verify` as a user runs them: the installed program, beside a bus that runs."""

from __future__ import annotations

import json
import sqlite3

import pytest
from live_bus import LiveBus, channel_table, run


@pytest.fixture(scope="module")
def bus(tmp_path_factory):
    """A running bus with four entries of IED-1; its receipts are files beside it."""
    made = LiveBus.make(tmp_path_factory.mktemp("log") / "bus", mv90={"enabled": False}).start()
    device = made.enrol("IED-1", channel_table("M1"))
    for number in range(4):
        payload = device.payload(f"m-{number}", ["1.5", "2.25"], first_end=1767225600 + 1800 * number + 900)
        status, body = made.wire.post(device.seal(payload))
        assert status == 200
        (made.folder / f"receipt-{number}.xml").write_bytes(body)
    yield made
    made.kill()


@pytest.fixture(scope="module")
def ca(bus):
    return bus.folder / "ca.pem"


def failed(done, code: str) -> str:
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"error[{code}]: "), done.stderr
    assert done.stdout == ""
    return done.stderr


def test_a_log_beside_a_running_bus_checks_against_a_receipt(bus):
    result = bus.json("log", "check", "--anchor", bus.folder / "receipt-2.xml")
    assert result["ok"] is True
    assert result["findings"] == []
    assert result["anchors"] == [{"anchor": str(bus.folder / "receipt-2.xml"), "holds": True}]
    assert result["partitions"][0]["entries"] == 4
    text = bus.run("log", "check").stdout
    assert "nothing was changed, as far as can be seen without --anchor" in text
    assert result["partitions"][0]["root"] in text


def test_no_head_is_told_as_such_and_now_signs_one(bus, ca, tmp_path):
    failed(bus.run("log", "head", "--partition", "7"), "not-found")
    failed(bus.run("log", "head", "--partition", "7", "--now"), "not-found")
    out = tmp_path / "head.xml"
    signed = bus.json("log", "head", "--now", "--out", out)
    assert (signed["partition"], signed["entries"], signed["file"]) == (0, 4, str(out))
    shown = bus.json("log", "head")
    assert shown["root"] == signed["root"]
    listed = bus.json("log", "heads")["heads"]
    assert listed[-1] == shown
    assert "partition" in bus.run("log", "heads").stdout
    verified = run("verify", "--trust", ca, "--json", out)
    assert verified.returncode == 0
    (file,) = json.loads(verified.stdout)["files"]
    assert (file["kind"], file["entries"], file["root"]) == ("tree head", 4, signed["root"])


def test_what_is_proved_here_verifies_elsewhere(bus, ca, tmp_path):
    proof, receipt = tmp_path / "proof.jsonl", bus.folder / "receipt-3.xml"
    done = bus.json("log", "prove", "0:1", receipt, "--since", bus.folder / "receipt-0.xml", "--out", proof)
    assert done == {"file": str(proof), "entries": 2}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    verified = run("verify", "--trust", ca, proof, receipt, cwd=elsewhere)
    assert verified.returncode == 0, verified.stdout
    assert f"{proof}: proof, holds" in verified.stdout
    assert f"{receipt}: receipt, holds" in verified.stdout
    assert "message id: m-3" in verified.stdout
    unknown = run("verify", "--json", proof, cwd=elsewhere)
    assert unknown.returncode == 1
    assert [one["code"] for one in json.loads(unknown.stdout)["files"][0]["findings"]] == ["authority-unknown"]
    proof.write_bytes(proof.read_bytes().replace(b"[1.5,2.25]", b"[1.5,2.35]"))
    forged = run("verify", "--trust", ca, "--json", proof)
    assert forged.returncode == 1
    findings = json.loads(forged.stdout)["files"][0]["findings"]
    assert {one["code"] for one in findings} == {"rows-changed"}
    assert all(one["path"].startswith("line ") for one in findings)


def test_an_export_goes_into_a_file_or_a_folder(bus, ca, tmp_path):
    file = bus.json("log", "export", "--from", "1", "--to", "2", "--out", tmp_path / "part.jsonl")
    assert file == {"files": [str(tmp_path / "part.jsonl")], "entries": 2}
    folder = bus.json("log", "export", "--out", f"{tmp_path}/all/")
    assert folder == {"files": [f"{tmp_path}/all/log-0-000000000000.proof.jsonl"], "entries": 4}
    verified = run("verify", "--trust", ca, "--json", *file["files"], *folder["files"])
    assert verified.returncode == 0, verified.stdout
    assert [one["entries"] for one in json.loads(verified.stdout)["files"]] == [2, 4]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["prove", "0:99", "--out", "x"], "not-found"),
        (["prove", "5:0", "--out", "x"], "not-found"),
        (["export", "--from", "99", "--out", "x"], "not-found"),
        (["export", "--partition", "4", "--out", "x"], "not-found"),
        (["prove", "0:0", "--out", "no/such/folder/x"], "file-unwritable"),
        (["check", "--anchor", "gridpost.toml"], "file-invalid"),
        (["prove", "gridpost.toml", "--out", "x"], "file-invalid"),
        (["prove", "0:0", "--since", "bus.pem", "--out", "x"], "file-invalid"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_no_file(bus, arguments, code):
    failed(bus.run("log", *arguments, cwd=bus.folder), code)
    assert not (bus.folder / "x").exists()


@pytest.mark.parametrize(
    "arguments",
    [["prove", "--out", "x"], ["prove", "zero", "--out", "x"], ["prove", "0:-1", "--out", "x"], ["prove", "0:0"],
     ["prune"], ["prune", "--older-than", "399d"], ["prune", "--older-than", "400"], ["prune", "--older-than", "-1d"],
     ["check", "--anchor", "nothing.xml"], ["export", "--from", "-1", "--out", "x"]],
)  # fmt: skip
def test_a_wrong_command_line_is_told(bus, arguments):
    done = bus.run("log", *arguments)
    assert done.returncode == 2, done.stderr
    assert "Usage: gridpost log" in done.stderr


def test_prune_says_what_would_go_and_takes_nothing_young(bus):
    tried = bus.json("log", "prune", "--older-than", "400d", "--dry-run")
    assert (tried["due"], tried["removed"], tried["dry_run"]) == (0, 0, True)
    done = bus.json("log", "prune", "--older-than", "400d")
    assert (done["due"], done["removed"], done["dry_run"]) == (0, 0, False)


def test_prune_removes_what_is_old_and_repeats_still_get_their_receipt(make_bus):
    bus = make_bus(mv90={"enabled": False}).start()
    device = bus.enrol("IED-1", channel_table("M1"))
    payload = device.payload("m-0", ["1.5"], first_end=1767225600 + 900)
    status, receipt = bus.wire.post(device.seal(payload))
    assert status == 200
    bus.stop()
    with sqlite3.connect(bus.folder / "gridpost.db") as connection:  # 401 days ago, as far as the store knows
        connection.execute("UPDATE entry SET recorded_at_utc_ms = recorded_at_utc_ms - 401 * 86400000")
    assert bus.json("log", "prune", "--older-than", "400d", "--dry-run")["due"] == 1
    assert "would remove 1 messages" in bus.run("log", "prune", "--older-than", "400d", "--dry-run").stdout
    assert bus.json("log", "prune", "--older-than", "400d")["removed"] == 1
    bus.start()
    assert bus.wire.post(device.seal(payload)) == (200, receipt)


def test_a_change_is_named_and_the_exit_status_says_so(make_bus):
    bus = make_bus(mv90={"enabled": False}).start()
    device = bus.enrol("IED-1", channel_table("M1"))
    assert bus.wire.post(device.seal(device.payload("m-0", ["1.5"], first_end=1767226500)))[0] == 200
    bus.stop()
    with sqlite3.connect(bus.folder / "gridpost.db") as connection:
        connection.execute("UPDATE interval_block SET interval_values = '[1.6]'")
    done = bus.run("log", "check")
    assert done.returncode == 1
    assert "interval_block 0:0:0: 1.6 at 2026-01-01T00:15:00Z" in done.stdout
    assert "[rows-changed]" in done.stdout
    assert "Traceback" not in done.stderr
    assert json.loads(bus.run("log", "check", "--json").stdout)["ok"] is False


def test_a_running_bus_publishes_its_heads(make_bus):
    bus = make_bus(mv90={"enabled": False}).start()
    device = bus.enrol("IED-1", channel_table("M1"))
    assert bus.wire.post(device.seal(device.payload("m-0", ["1.5"])))[0] == 200
    assert bus.audit("head-published") == [], "an empty log has none, and the next look is a minute later"
    bus.stop()
    bus.start()  # it looks at once
    bus.stop()
    (event,) = bus.audit("head-published")
    (file,) = (bus.folder / "heads").iterdir()
    assert (event["partition"], event["entries"], event["place"]) == (0, 1, str(file))
    verified = run("verify", "--trust", bus.folder / "ca.pem", "--json", file)
    assert json.loads(verified.stdout)["files"][0]["root"] == event["root"]
    assert bus.json("log", "check", "--anchor", file)["ok"] is True
