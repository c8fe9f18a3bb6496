"""The audit log after a power cut: what was half written stays by itself."""

from __future__ import annotations

import json

import pytest
from gridpost.server.audit import open_audit

NOW = 1_767_225_600_250


@pytest.mark.parametrize("left", [b'{"time": "2026-01-01T00', b"{}\n\0\0\0\0", b"\xc3"])
def test_half_a_line_gets_no_company(tmp_path, left):
    file = tmp_path / "audit.jsonl"
    file.write_bytes(left)
    open_audit(file, lambda: NOW).event("started")
    *_, line = file.read_bytes().splitlines()
    assert json.loads(line)["event"] == "started"
    assert file.read_bytes().startswith(left + b"\n")


@pytest.mark.parametrize("left", [b"", b"{}\n"])
def test_whole_lines_are_only_added_to(tmp_path, left):
    file = tmp_path / "audit.jsonl"
    file.write_bytes(left)
    open_audit(file, lambda: NOW).event("started")
    assert len(file.read_bytes().splitlines()) == left.count(b"\n") + 1
