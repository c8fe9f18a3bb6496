"""The crash campaign in short, on every run of the tests; and its judges judged, on a store that was tampered with."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import crash
import judging


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("crash")


@pytest.fixture(scope="module")
def outcome(folder):
    kept = []
    judge = crash.judge_files
    crash.judge_files = lambda place, sent, found: (kept.extend(sent), judge(place, sent, found))
    try:
        found = crash.campaign(folder, crash.Plan(messages=40, bus_kills=2, agent_kills=1, seed=4))
    finally:
        crash.judge_files = judge
    return found, kept


def test_nothing_is_lost_double_or_wrong(outcome):
    found, _ = outcome
    assert found.problems == []
    assert found.ok
    assert (found.messages, found.bus_kills, found.agent_kills) == (40, 2, 1)
    assert (found.resent_an_hour_later, found.files) == (40, 40)
    assert found.resent > 0
    assert found.agent_messages > 0
    assert found.agent_intervals > 0
    assert found.slowest_start_s < 5


@pytest.mark.parametrize(
    ("statement", "counter", "judge"),
    [
        ("DELETE FROM entry WHERE seq = (SELECT max(seq) FROM entry WHERE sender != 'AGENT-1')", "lost", "entries"),
        ("DELETE FROM interval_block WHERE rowid = (SELECT min(b.rowid) FROM interval_block b JOIN channel c"
         " ON c.id = b.channel_id WHERE c.serial LIKE 'IED%')", "lost", "entries"),
        ("INSERT INTO interval_block SELECT partition, seq, line + 100, channel_id, first_interval_end_utc,"
         " last_interval_end_utc, interval_s, interval_values, qualities, outcome FROM interval_block LIMIT 1000",
         "double", "entries"),
        ("UPDATE interval_block SET interval_values = replace(interval_values, '1', '2')", "wrong", "entries"),
        ("UPDATE entry SET message_id = message_id || 'x' WHERE sender != 'AGENT-1'", "phantom", "entries"),
        ("UPDATE entry SET content_sha256 = zeroblob(32) WHERE sender != 'AGENT-1'", "phantom", "entries"),
        ("UPDATE interval_block SET first_interval_end_utc = first_interval_end_utc - 86400 * 365", "phantom",
         "entries"),
        ("UPDATE entry SET leaf_hash = zeroblob(32) WHERE seq = 0", "roots_wrong", "receipts"),
        ("UPDATE entry SET receipt = (SELECT receipt FROM entry WHERE seq = 9) WHERE seq = 8", "receipts_changed",
         "receipts"),
    ],
    ids=["an entry gone", "values gone", "values twice", "values changed", "ids changed", "contents changed",
         "times changed", "the tree changed", "receipts swapped"],
)  # fmt: skip
def test_the_judges_see_it(outcome, folder, tmp_path, statement, counter, judge):
    _, sent = outcome
    copy = tmp_path / "copy.db"
    shutil.copy(folder / "bus" / "gridpost.db", copy)
    with sqlite3.connect(copy) as database:
        changed = database.execute(statement).rowcount
    assert changed > 0
    found = crash.Outcome()
    with sqlite3.connect(copy) as database:
        try:
            if judge == "entries":
                judging.judge_entries(database, sent, found, {crash.AGENT})
            else:
                judging.judge_receipts(database, sent, found)
        except AssertionError:  # a receipt of another message, found out before it is compared
            assert counter == "receipts_changed"
    assert not found.ok
    assert getattr(found, counter) > 0


def test_a_file_too_many_and_a_file_changed_are_seen(outcome, folder, tmp_path):
    _, sent = outcome
    copy = tmp_path / "mv90"
    shutil.copytree(folder / "bus" / "mv90", copy)
    first, second = sorted(copy.iterdir())[:2]
    first.write_bytes(second.read_bytes())
    (copy / "M-IED-0_20250101_r02.mde").write_bytes(b"")
    found = crash.Outcome()
    crash.judge_files(copy, sent, found)
    assert found.files_wrong == 2


def test_the_seed_makes_the_kills():
    import random

    plan = crash.Plan(500, 10, 5, 7)
    one, two = (list(crash._kills(plan, random.Random(7))) for _ in range(2))
    assert one == two
    assert [kind for _, kind in one].count("bus") == 10
    assert [kind for _, kind in one].count("agent") == 5


def test_the_root_is_that_of_rfc_9162():
    """RFC 6962's well-known test vectors: the root of the empty tree, and of leaves '' and '\\0'."""
    from hashlib import sha256

    assert judging.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    leaves = [sha256(b"\0" + text).digest() for text in (b"", b"\0")]
    assert judging.root(leaves[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert judging.root(leaves).hex() == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    leaves = [sha256(bytes([number])).digest() for number in range(70)]
    assert list(judging.roots(iter(leaves))) == [judging.root(leaves[:size]) for size in range(71)]
