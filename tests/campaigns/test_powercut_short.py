"""The power cut campaign in short: an honest bus, and three that promise what is not on disk."""

from __future__ import annotations

import powercut
import pytest
from disk_shim import compiler, records

pytestmark = pytest.mark.skipif(
    compiler() is None, reason="needs a C compiler (cc, gcc or clang) for the shim below the bus"
)
SHORT = powercut.Plan(messages=32, cuts=1, looks=30, seed=4)


def test_nothing_promised_is_lost(tmp_path):
    found = powercut.campaign(tmp_path, SHORT)
    assert found.problems == []
    assert (found.messages, found.cuts, found.looks, found.files) == (32, 1, 30, 8)
    assert found.evidence == []
    assert found.looked_for > 0


@pytest.mark.parametrize("sabotage", ["synchronous-off", "answer-before-sync"])
def test_a_receipt_before_its_sync_is_found_out(tmp_path, sabotage):
    found = powercut.campaign(tmp_path, SHORT._replace(sabotage=sabotage))
    assert found.lost > 0
    kept = tmp_path / "evidence" / "1"
    assert found.evidence[0] == str(kept)
    assert (kept / "image" / "bus").is_dir()
    assert "has a receipt and is not in the store" in (kept / "why.txt").read_text()
    assert any(record.op == "A" for record in records((kept / "trace").read_bytes()))
