"""The same log on PostgreSQL: heads, check, proofs and retention do not care which engine keeps it."""

from __future__ import annotations

import psycopg
import pytest
from gridpost.server import log_check
from gridpost.server.commands import log_proofs, verify
from gridpost.server.commands.log_proofs import Source, Wanted
from gridpost.server.identity import pem_of
from gridpost.server.store import open_store

from gridpost import testing
from gridpost.proof import Span

DAY_MS = 86_400_000


@pytest.fixture
def held(post_office, postgres_store, new_book):
    """A book whose store is on PostgreSQL, open."""
    post_office.store.close()
    post_office.store = open_store(postgres_store, post_office.clock, serve=True)
    return new_book(post_office)


def check(book, *anchors, now=None):
    store = book.office.store
    held = [log_check.read_anchor(f"anchor {i}", raw, book.trust) for i, raw in enumerate(anchors)]
    channels = {one.id: one.key for one in store.channels()}
    against = log_check.against(store, channels, book.trust, now or book.office.now)
    return log_check.check(store, against, held, lambda walked, total: None)


def sql(url, statement):
    with psycopg.connect(url) as connection:
        connection.execute("SET session_replication_role = replica")  # no foreign keys: what an intruder would set
        connection.execute(statement)


def test_an_untouched_log_is_found_untouched_and_its_proof_verifies(held, tmp_path):
    result = check(held, held.anchor, held.receipts[3])
    assert result.findings == []
    assert result.partitions[0].entries == 9
    store = held.office.store
    partition = result.partitions[0].number
    source = Source(None, store, held.trust, pem_of(held.office.ca.certificate))
    heads = {partition: store.newest_head(partition)}
    file = tmp_path / "proof.jsonl"
    file.write_bytes(b"".join(log_proofs.lines(source, Wanted([Span(partition, 0, 8)], heads), lambda: None)))
    verdict = verify.verify(file, [held.authority], lambda count: None)
    assert verdict.items == ()
    assert verdict.states["entries"] == 9


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE interval_block SET interval_values = '[2.76]' WHERE seq = 3", "rows-changed"),
        ("UPDATE entry SET transport = 'mail' WHERE seq = 3", "rows-changed"),
        ("UPDATE entry SET receipt = set_byte(receipt, 2000, 65) WHERE seq = 3", "receipt-changed"),
        ("DELETE FROM entry WHERE seq = 3", "entry-missing"),
        ("DELETE FROM event WHERE seq = 5", "rows-changed"),
        ("UPDATE log_node SET hash = set_byte(hash, 0, 1) WHERE level = 2 AND number = 0", "tree-changed"),
        ("DELETE FROM entry WHERE seq = 8", "tail-cut"),
        ("UPDATE tree_head SET size = 3", "head-changed"),
    ],
)
def test_what_is_changed_is_named(held, postgres_store, statement, code):
    sql(postgres_store, statement)
    assert code in {one.code for one in check(held).findings}


def test_old_evidence_may_go(held):
    store = held.office.store
    before = testing.NOW_UTC_MS + 4 * 60_000  # the first four of nine, a minute apart
    due = store.evidence_due(before)
    assert due.entries == 4
    assert due.octets > 4000
    assert list(store.drop_evidence(before)) == [4]
    result = check(held, held.anchor, now=held.office.now + 400 * DAY_MS)
    assert result.findings == []
    assert result.evidence_gone == 4
