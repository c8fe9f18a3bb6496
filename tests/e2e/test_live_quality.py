"""A gap in a running bus: asked for, estimated, certified, filled by what was measured, edited; each with its trail."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest
from live_bus import HEADER, QUARTER_KWH, now_utc_ms, run
from live_office import SOAP_TYPE, fetch, given

SECONDS = 60
Q = 900


def until(condition):
    """Poll for something another process does, and return what it gave."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {SECONDS} s")


def shown(utc):
    return datetime.fromtimestamp(utc, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def bus(make_bus):
    return make_bus(quality={"request_after_s": 0}).start()


def test_a_gap_from_the_first_request_to_the_certificate(bus, tmp_path):
    newest = now_utc_ms() // 1000 // Q * Q
    start = newest - 20 * Q  # twenty quarter hours, the last one over just now; the meter was assigned to them alone
    table = f"{HEADER}\nUP-1,M-1,E1,{QUARTER_KWH},kWh,{Q},Etc/UTC,{shown(start)}\n"
    device = bus.enrol("IED-1", table)
    days = ["--meter", "M-1", "--from", shown(start)[:10], "--to", shown(newest)[:10]]

    def push(name, first, values):
        payload = device.payload(name, values, start + first * Q)
        status, body = bus.wire.post(device.seal(payload))
        assert (status, device.receipt(body, payload).counts.conflicting) == (200, 0)

    push("m-1", 1, ["1.0"] * 10)
    push("m-2", 13, ["2.5"] * 8)  # 11 and 12 lack

    # The bus asks the IED by itself; the control waits for its next fetch.
    (event,) = until(lambda: bus.audit("gap"))
    assert (event["meter"], event["ied"], event["first"], event["last"]) == (
        "M-1", "IED-1", shown(start + 10 * Q), shown(start + 12 * Q),
    )  # fmt: skip
    status, body, _ = bus.wire.request("POST", "/metering", fetch(device), SOAP_TYPE)
    asked = given(device, body)
    assert (status, asked.action, asked.issuer, asked.role) == (200, "request-data", "bus", "operator")
    assert dict(asked.data) == {"from": shown(start + 10 * Q), "to": shown(start + 12 * Q)}

    found = bus.run("check-readings", *days, "--json")
    assert found.returncode == 1
    findings = json.loads(found.stdout)["channels"][0]["findings"]
    assert [(one["rule"], one["severity"]) for one in findings] == [("meter-exchange", "note"), ("gap", "error")]

    # Meanwhile an estimate: 1.0, 1.5, 2.0, 2.5 is a straight line.
    outcome = bus.json("estimate", *days, "--person", "anna")
    assert (outcome["stored"], outcome["channels"][0]["estimated"]) == (2, {"straight-line": 2})
    file = tmp_path / "certificate.proof.jsonl"
    certified = bus.json("completeness", *days, "--certificate", "--out", file, "--person", "anna")
    assert certified["statement"] == "20 of 20, 2 estimated, 0 corrected"
    verified = run("verify", "--trust", bus.folder / "ca.pem", file)
    assert verified.returncode == 0, verified.stderr
    assert certified["statement"] in verified.stdout
    forged = tmp_path / "forged.proof.jsonl"
    forged.write_text(file.read_text().replace("2 estimated", "0 estimated"))
    assert run("verify", "--trust", bus.folder / "ca.pem", forged).returncode == 1

    # What was measured arrives, takes the estimates' place and closes the control.
    push("m-3", 11, ["1.0", "2.0"])
    closed = until(lambda: [one for one in bus.audit("control-step") if one["control"] == asked.mrid])
    assert (closed[-1]["state"], closed[-1]["by"], closed[-1]["detail"]) == ("done", "bus", "the data has arrived")
    assert bus.json("completeness", *days)["statement"] == "20 of 20, 0 estimated, 0 corrected"
    edit = ["edit", "--meter", "M-1", "--at", shown(start + 12 * Q), "--value", "2.25", "--reason", "read on site"]
    assert bus.json(*edit, "--person", "bob")["stored"] == 1
    assert bus.json("completeness", *days)["statement"] == "20 of 20, 0 estimated, 1 corrected"
    assert bus.run("check-readings", *days).returncode == 0
    exported = bus.json("export", "csv", *days[2:], "--out", tmp_path / "out", "--certificate", "--person", "bob")
    (beside,) = exported["certificates"]
    assert beside["statement"] == "20 of 20, 0 estimated, 1 corrected"
    assert run("verify", "--trust", bus.folder / "ca.pem", beside["file"]).returncode == 0
    assert bus.json("log", "check")["ok"]
