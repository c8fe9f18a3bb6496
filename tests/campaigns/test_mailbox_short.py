"""The mailbox campaign in short, dead letters mended by `gridpost dead-letters`; and a damaged bus, found out."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import mailbox

from live_bus import LiveBus

SHORT = mailbox.Plan(messages=48, kills=2, seed=5, refused=1, hour_s=0.6)


@pytest.fixture
def bus(tmp_path, initialised):
    return LiveBus(shutil.copytree(initialised, tmp_path / "bus"))


def test_all_mail_comes_in_order_and_once_and_what_was_refused_after_it_is_mended(tmp_path, bus):
    found = mailbox.campaign(tmp_path, SHORT, bus)
    assert found.problems == []
    assert found.ok
    assert found.delivered == {"fetches": 16, "down": 16, "errs": 16}
    assert (found.kills, found.ends) == (1, 2)
    assert found.down_s >= 3600
    assert found.kept_while_down > 0
    assert found.drained_meanwhile > 0
    assert (found.letters_listed, found.letters_again, found.sent_again) == (2, 2, 2)
    assert found.mails_left == 0


def test_a_bus_that_commits_before_the_answer_is_found_out(tmp_path, bus):
    damaged = SHORT._replace(messages=36, kills=0, sabotage="commit-before-answer")
    found = mailbox.campaign(tmp_path, damaged, bus)
    assert not found.ok
    assert found.lost > 0
    assert found.after_commit > 0
