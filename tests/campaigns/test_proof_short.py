"""The campaign of bills' proofs in short; and verifiers with one check less, each of which it has to find out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import proof
import proof_forger
import proof_sabotage
import proof_world

SHORT = proof.Plan(bytes=24, forgeries=24, seed=1, month=proof_world.SHORT)


def test_every_change_is_found_and_named(tmp_path):
    outcome = proof.campaign(tmp_path, SHORT)
    assert outcome.problems == []
    assert outcome.ok
    assert (outcome.changes, outcome.found, outcome.named) == (48, 48, 48)
    # 12 lines: a round of digits, one of other bytes; six kinds in turn.
    assert {kind: counts["changes"] for kind, counts in outcome.by_kind.items()} == {
        "digit": 12,
        "byte": 12,
        **dict.fromkeys(proof_forger.KINDS, 4),
    }


@pytest.mark.parametrize("sabotage", proof_sabotage.SABOTAGES)
def test_a_verifier_with_one_check_less_is_found_out(tmp_path, sabotage):
    outcome = proof.campaign(tmp_path, SHORT._replace(bytes=0, forgeries=100, sabotage=sabotage))
    assert outcome.genuine_holds
    assert not outcome.ok
    assert outcome.named < outcome.changes


def test_a_forgery_is_the_same_again():
    forger = proof_forger.Forger(proof_world.build(proof_world.SHORT))
    one, other = (proof_forger.forge(forger, 7, 3) for _ in range(2))
    assert (one[0], one[1].done, one[1].named) == (other[0], other[1].done, other[1].named)
