"""The campaign of slow peers in short, with the bus's time limits shortened from outside; and damage that is found."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))
sys.path.insert(0, str(Path(__file__).parent))

import genuine_samples
import nasty_messages
import slow

# No judgement from times on a machine that does other work: the limit on p99 is far away.
SHORT = slow.Plan(
    connections=132, seconds=8, rate=10, post_mb=10, head_s=1, body_s=2, p99_ms=30_000,
    only="^(bare laughs|header token-long)$",
)  # fmt: skip


def test_genuine_messages_do_not_notice_slow_peers_posts_without_end_nor_dear_messages(tmp_path):
    outcome = slow.campaign(tmp_path, SHORT)
    # How long each was held says nothing where the machine stands still now and then; that each was cut does.
    assert [problem for problem in outcome.problems if ": held " not in problem] == []
    assert outcome.genuine == 80
    assert outcome.slow_at_the_end > 118
    assert all(outcome.kinds[kind]["cuts"] > 0 for kind in slow.longest_allowed_s(SHORT))
    assert outcome.kinds["body-floor"]["cuts"] == 0  # slow, but within the rule
    assert set(outcome.post_read) == {"length", "chunked", "unknown path", "not http"}
    assert all(read > 0 for read in outcome.post_read.values())
    assert outcome.messages == 2


def test_without_a_limit_of_size_the_post_is_read_whole(tmp_path):
    outcome = slow.campaign(tmp_path, SHORT._replace(connections=0, only="-", sabotage="no-size-limit"))
    assert outcome.post_read["length"] > 2 << 20
    assert any("length: the bus read" in problem for problem in outcome.problems)


def test_without_deadlines_each_kind_is_held_too_long():
    """The judge alone: the whole of it takes as long as the slack it gives."""
    outcome = slow.Outcome(kinds={kind: {"longest_s": 16.0} for kind in slow.longest_allowed_s(slow.Plan())})
    slow._judge_slow(slow.Plan(connections=0), outcome, slow.Traffic.__new__(_Silent))
    held = [problem for problem in outcome.problems if "held 16.0 s" in problem]
    assert sorted(problem.partition(":")[0] for problem in held) == ["head-drip", "silent", "tls-hello", "tls-silent"]


class _Silent(slow.Traffic):
    failed: list[str] = []  # noqa: RUF012


def test_every_dear_message_is_at_most_a_mebibyte():
    people = genuine_samples.people()
    setting, genuine = people.setting(people.device), genuine_samples.samples()[0].raw
    names = [one.name for one in nasty_messages.nasty(setting, genuine) if 0 < len(one.raw) <= 1 << 20]
    assert len(names) == len(set(names)) >= 118
    assert {name.partition(" ")[0] for name in names} == {"bare", "captured", "header", "signed"}
