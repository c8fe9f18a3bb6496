"""The audit log of a running bus, turned over by its size: every message still has its line."""

from __future__ import annotations

import json

MESSAGES = 60


def every_line(bus):
    return [json.loads(line) for file in bus.folder.glob("audit.jsonl*") for line in file.read_text().splitlines()]


def pushed(bus, device, first=0):
    for number in range(first, first + MESSAGES):
        payload = device.payload(f"m-{number}", ["1"], 1767225600 + 900 * (number + 1))
        assert bus.wire.post(device.seal(payload))[0] == 200
    return [f"m-{number}" for number in range(first, first + MESSAGES)]


def recorded(bus):
    return sorted(
        (line["message_id"] for line in every_line(bus) if line["event"] == "recorded"), key=lambda m: int(m[2:])
    )


def test_a_bus_turns_its_log_over(make_bus):
    bus = make_bus(bus={"audit_size": 4000, "audit_keep": 100}).start()
    device = bus.enrol("IED-1")
    sent = pushed(bus, device)
    assert len(list(bus.folder.glob("audit.jsonl.*"))) > 2
    (bus.folder / "audit.jsonl").rename(bus.folder / "audit.jsonl-20260101")  # by somebody else, too
    sent += pushed(bus, device, MESSAGES)
    assert bus.stop() == 0
    assert recorded(bus) == sent
    assert (bus.folder / "audit.jsonl").read_text().splitlines()[-1].endswith('"event": "stopped"}')
    assert bus.errors() == ""


def test_so_do_two_processes_with_one_log(tmp_path, make_bus, postgres):
    url = postgres.url("", create=f"audit_{tmp_path.name}")
    bus = make_bus(bus={"database": url, "processes": 2, "audit_size": 4000, "audit_keep": 100}).start()
    sent = pushed(bus, bus.enrol("IED-1"))
    assert bus.stop() == 0
    assert recorded(bus) == sent
    assert len(list(bus.folder.glob("audit.jsonl.*"))) > 2
    assert len([line for line in every_line(bus) if line["event"] == "stopped"]) == 2
