"""The campaign of forged messages is short enough to run whole: a real bus, every forgery, every genuine message."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import forged


def test_nothing_forged_is_accepted_and_everything_genuine_is(tmp_path):
    outcome = forged.campaign(tmp_path)
    assert outcome.problems == []
    assert outcome.forged >= 150
    assert outcome.genuine >= 60
