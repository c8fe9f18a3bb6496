"""The audit log: one event is one line, whatever a stranger sent, and no failure of the log stops the bus."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading

import pytest
from gridpost.server.audit import STRANGERS_LINES, Audit, open_audit

NOW = 1_767_225_600_250  # 2026-01-01T00:00:00.250Z


def at_new_year() -> int:
    return NOW


HOSTILE = [
    "a\nb",
    "a\r\nHTTP/1.1 200 OK",
    '{"event": "recorded"}\n{"event": "recorded"}',
    "\x1b[2J\x1b[31mred",
    "\u202eexe.gpj",
    "\u2028line\u2029paragraph\x85next",
    "\x00\x07\x7f\x9b",
    "\ud800 lone surrogate",
    "${jndi:ldap://x/y} %s %n {0}",
    "'; DROP TABLE entry; --",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_one_event_is_one_line_of_plain_ascii(text):
    stream = io.StringIO()
    Audit(stream, at_new_year).event("refused", detail=text, peer="192.0.2.7:1")
    written = stream.getvalue()
    assert written.endswith("\n")
    assert written.count("\n") == 1
    assert all(" " <= character <= "~" for character in written[:-1])
    assert json.loads(written) == {
        "time": "2026-01-01T00:00:00.250Z",
        "event": "refused",
        "detail": text,
        "peer": "192.0.2.7:1",
    }


def test_no_value_fills_the_log():
    """A message id of a megabyte, signed by an enrolled device, is worth a line, not a megabyte."""
    stream = io.StringIO()
    Audit(stream, at_new_year).refused("header-incomplete", "192.0.2.7:1", "d" * 10**6, message_id="m" * 10**6)
    assert len(stream.getvalue()) < 2000
    assert json.loads(stream.getvalue())["message_id"].startswith("mmmm")


def test_refusals_are_counted_by_code_and_taken_once():
    audit = Audit(io.StringIO(), at_new_year)
    for code in ("malformed-xml", "signature-invalid", "malformed-xml"):
        audit.refused(code, "192.0.2.7:1")
    assert audit.take_refusals() == {"malformed-xml": 2, "signature-invalid": 1}
    assert audit.take_refusals() == {}


def test_a_flood_of_strangers_is_counted_and_not_written_out_and_hides_no_device():
    stream = io.StringIO()
    audit = Audit(stream, at_new_year)
    for _ in range(STRANGERS_LINES + 7):
        audit.refused("signature-invalid", "192.0.2.7:1")
    audit.refused("source-mismatch", "192.0.2.8:1", verified=True)
    assert audit.take_refusals() == {"signature-invalid": STRANGERS_LINES + 7, "source-mismatch": 1}
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events].count("refused") == STRANGERS_LINES + 1
    assert events[-2]["code"] == "source-mismatch"
    assert (events[-1]["event"], events[-1]["count"]) == ("refusals-unwritten", 7)
    audit.refused("signature-invalid", "192.0.2.7:1")
    assert json.loads(stream.getvalue().splitlines()[-1])["event"] == "refused", "and the next ones have lines again"


def test_events_are_appended(tmp_path):
    file = tmp_path / "audit.jsonl"
    for name in ("started", "stopped"):
        open_audit(file, at_new_year).event(name)
    assert [json.loads(line)["event"] for line in file.read_text().splitlines()] == ["started", "stopped"]


def test_an_event_is_on_the_file_at_once(tmp_path):
    file = tmp_path / "audit.jsonl"
    audit = open_audit(file, at_new_year)
    audit.event("started")
    assert file.read_text().count("\n") == 1


@pytest.fixture
def full_disk():
    """Return a function that opens a stream to a full disk. What is left in it cannot be written at its end either."""
    opened = []

    def make():
        opened.append(open("/dev/full", "w", encoding="utf-8", buffering=1))  # noqa: SIM115
        return opened[-1]

    yield make
    for stream in opened:
        with contextlib.suppress(OSError):
            stream.close()


def test_a_full_disk_is_told_to_standard_error(capsys, full_disk):
    audit = Audit(full_disk(), at_new_year)
    audit.event("recorded", sender="IED-1")
    assert "No space left on device" in capsys.readouterr().err
    assert "IED-1" not in capsys.readouterr().out


def test_a_full_disk_under_standard_error_too_stops_nothing(monkeypatch, full_disk):
    """Where the log and standard error share a disk, a receipt must still leave."""
    monkeypatch.setattr(sys, "stderr", full_disk())
    Audit(full_disk(), at_new_year).event("recorded")
    Audit(sys.stderr, at_new_year).event("recorded")


def test_a_closed_pipe_stops_nothing(monkeypatch):
    """`gridpost serve 2>&1 | head` leaves a pipe nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8", buffering=1) as broken:
        monkeypatch.setattr(sys, "stderr", broken)
        Audit(broken, at_new_year).event("recorded")
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            broken.close()


def test_lines_of_two_threads_do_not_mix(tmp_path):
    """The writer's thread reports a stepped clock while the reactor reports messages."""
    file = tmp_path / "audit.jsonl"
    audit = open_audit(file, at_new_year)

    def many(name: str) -> None:
        for number in range(2000):
            audit.event(name, number=number, filler="x" * 200)

    threads = [threading.Thread(target=many, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = [json.loads(line) for line in file.read_text().splitlines()]
    for name in ("one", "two", "three"):
        assert [event["number"] for event in events if event["event"] == name] == list(range(2000))
