"""Proof files: what `verify` takes, offline and with signxml, and that no change of one goes unseen."""

from __future__ import annotations

import base64
import json
import random
import socket

import pytest
from click.testing import CliRunner
from gridpost.server.commands import log_proofs, verify
from gridpost.server.commands.log_proofs import Source, Wanted
from gridpost.server.identity import pem_of, trust_of
from gridpost.server.log_check import read_anchor

from gridpost import heads, leaf, merkle, proof, testing
from gridpost.evidence import Exhibit
from gridpost.model import Position
from gridpost.proof import Span


def rendered(tampered, spans, anchors=()) -> bytes:
    """What `log prove` writes, from the copy's store and the head on file."""
    book, store = tampered.book, tampered.open()
    try:
        ca = book.office.ca.certificate
        source = Source(None, store, trust_of(ca), pem_of(ca))
        held = [(read_anchor("a", raw, book.trust), raw) for raw in anchors]
        return b"".join(log_proofs.lines(source, Wanted(spans, {0: store.newest_head(0)}, held), lambda: None))
    finally:
        store.close()


def examined(tmp_path, book, content: bytes, trusted: bool = True):
    file = tmp_path / "file"
    file.write_bytes(content)
    return verify.verify(file, [book.authority] if trusted else [], lambda count: None)


@pytest.fixture
def one(tampered, book) -> bytes:
    """A proof of the entry with registers, and that the log still begins as an early receipt and the head say."""
    return rendered(tampered, [Span(0, 4, 4)], [book.receipts[1], book.anchor])


def codes(verdict):
    return {item.code for item in verdict.items}


def test_a_proof_verifies_without_a_store_and_without_a_network(tmp_path, book, one, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    verdict = examined(tmp_path, book, one)
    assert verdict.items == ()
    assert verdict.kind == "proof"
    # Two intervals and a register reading.
    assert (verdict.states["entries"], verdict.states["values"], verdict.states["without_message"]) == (1, 3, 0)


def test_a_whole_log_verifies(tmp_path, book, tampered):
    verdict = examined(tmp_path, book, rendered(tampered, [Span(0, 0, 8)]))
    assert verdict.items == ()
    # 3, 3 with a gap, 1 in conflict, 1, 2 and a register, an event, 3 times 2
    assert (verdict.states["entries"], verdict.states["values"]) == (9, 17)


def test_its_inclusion_proof_is_rfc_9162_s(one, book):
    """By the recursive definition of section 2.1.3.1, from leaves made of the file's own words."""
    lines = [json.loads(line) for line in one.splitlines()]
    entry = lines[-1]
    assert entry["kind"] == "entry"
    digests = [bytes.fromhex(entry[name]) for name in ("content_sha256", "evidence_sha256", "rows_sha256")]
    parts = leaf.LeafParts(Position(0, 4), entry["recorded_at_utc_ms"], entry["sender"], entry["message_id"], *digests)
    head = next(line for line in lines if line["kind"] == "head")["signed"]
    root = head.partition("<rootHash>")[2].partition("</rootHash>")[0]
    path = [bytes.fromhex(one) for one in entry["path"]]
    computed = merkle.leaf_hash(leaf.encode_leaf(parts))
    # Entry 4 of 9: sibling 5, then 6..7, then 0..3, then the lonely 8.
    for sibling, left in zip(path, (False, False, True, False), strict=True):
        computed = merkle.node_hash(sibling, computed) if left else merkle.node_hash(computed, sibling)
    assert computed == base64.b64decode(root)


def test_without_a_trusted_ca_nothing_is_found_right(tmp_path, book, one):
    verdict = examined(tmp_path, book, one, trusted=False)
    assert codes(verdict) == {"authority-unknown"}
    assert codes(examined(tmp_path, book, book.receipts[0], trusted=False)) == {"authority-unknown"}


def test_a_file_made_under_another_ca_is_not_believed(tmp_path, one):
    other = testing.ThrowawayCA("Somebody's CA")
    file = tmp_path / "file"
    file.write_bytes(one)
    verdict = verify.verify(file, [other.pem.decode()], lambda count: None)
    assert "authority-unknown" in codes(verdict)
    assert "signature-invalid" in codes(verdict)


# --- changes ---------------------------------------------------------------------------------------------------------


def test_changes_of_one_byte_are_found(tmp_path, book, one):
    """Seeded; a digit becomes another digit, any other byte its neighbour."""
    chance = random.Random(20260101)
    unseen = []
    for at in chance.sample(range(len(one)), 200):
        byte = one[at]
        other = b"1234567890"[byte - 48] if 48 <= byte <= 57 else byte ^ 1
        changed = one[:at] + bytes([other]) + one[at + 1 :]
        if not examined(tmp_path, book, changed).items:
            unseen.append((at, one[max(0, at - 20) : at + 20]))
    assert unseen == []


def edited(one: bytes, kind: str, **changes) -> bytes:
    """The file with one line's fields changed and written as a proof file is."""
    lines = []
    for line in one.splitlines():
        fields = json.loads(line)
        lines.append(proof._line(fields | changes if fields["kind"] == kind else fields))
    return b"".join(lines)


def entry_of(one: bytes) -> dict:
    return json.loads(one.splitlines()[-1])


def row_changed(one: bytes, old: str, new: str) -> bytes:
    rows = [row.replace(old, new) for row in entry_of(one)["rows"]]
    digest = leaf.sha256("".join(f"{row}\n" for row in rows).encode()).hexdigest()
    return edited(one, "entry", rows=rows, rows_sha256=digest)


# What somebody without the keys can do at most: every hash recomputed, and it still does not lead to the signed head.
FORGERIES = {
    "a value": (lambda one, book: row_changed(one, "[4,5]", "[4,6]"), {"rows-changed", "proof-broken"}),
    "an interval": (lambda one, book: row_changed(one, "1767142800", "1767143700"), {"rows-changed", "proof-broken"}),
    "an outcome": (lambda one, book: row_changed(one, '"stored"', '"conflict"'), {"proof-broken"}),
    "how it came": (lambda one, book: row_changed(one, '"http"', '"mail"'), {"proof-broken"}),
    "a register": (lambda one, book: row_changed(one, "1234.50", "1234.51"), {"rows-changed", "proof-broken"}),
    "a sender": (lambda one, book: edited(one, "entry", sender="IED-2"), {"entry-changed", "proof-broken"}),
    "a time": (lambda one, book: edited(one, "entry", recorded_at_utc_ms=1), {"entry-changed", "proof-broken"}),
    "the receipt of another message": (
        lambda one, book: edited(one, "entry", receipt=book.receipts[3].decode()),
        {"entry-changed", "rows-changed"},
    ),
    "another message": (
        lambda one, book: edited(
            one, "entry", evidence=book.sealed[0].decode(), evidence_sha256=leaf.sha256(book.sealed[0]).hexdigest()
        ),
        {"entry-changed", "rows-changed", "proof-broken"},
    ),
    "no message": (lambda one, book: edited(one, "entry", evidence=None), set()),
    "a path": (lambda one, book: edited(one, "entry", path=entry_of(one)["path"][::-1]), {"proof-broken"}),
    "a shorter path": (lambda one, book: edited(one, "entry", path=entry_of(one)["path"][:-1]), {"proof-broken"}),
    "an anchor's path": (lambda one, book: edited(one, "anchor", path=[]), {"proof-broken"}),
    "a receipt as head": (lambda one, book: edited(one, "head", signed=book.receipts[0].decode()), {"file-invalid"}),
    "a message as receipt": (
        lambda one, book: edited(one, "entry", receipt=book.sealed[4].decode()),
        {"receipt-changed"},
    ),
    "a receipt as message": (
        lambda one, book: edited(one, "entry", evidence=book.receipts[4].decode()),
        {"evidence-changed"},
    ),
    "spans": (
        lambda one, book: edited(one, "gridpost-proof", spans=[[0, 4, 4], [0, 6, 7]]),
        {"proof-incomplete"},
    ),
    "endless spans": (lambda one, book: edited(one, "gridpost-proof", spans=[[0, 4, 10**18]]), {"proof-incomplete"}),
    "a version": (lambda one, book: edited(one, "gridpost-proof", version=2), {"file-invalid"}),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_change_with_every_hash_recomputed_is_found_and_named(tmp_path, book, one, name):
    make, expected = FORGERIES[name]
    verdict = examined(tmp_path, book, make(one, book))
    assert expected <= codes(verdict), verdict.items
    if name == "no message":  # is what a pruned entry looks like; the file says so
        assert verdict.states["without_message"] == 1
    else:
        assert all(item.path.startswith("line ") for item in verdict.items)


@pytest.mark.parametrize("at", range(6))
def test_a_line_left_out_or_twice_is_found(tmp_path, book, one, at):
    lines = one.splitlines(keepends=True)
    assert len(lines) == 6
    # Without an anchor the file is a proof of less, and says so by what it lists: that one may go.
    left_out = examined(tmp_path, book, b"".join(lines[:at] + lines[at + 1 :]))
    assert bool(left_out.items) or left_out.kind == "unknown" or at in (3, 4)
    twice = examined(tmp_path, book, b"".join([*lines[: at + 1], lines[at], *lines[at + 1 :]]))
    assert twice.items or at in (1, 3, 4)


@pytest.mark.parametrize("cut", [1, 100, 5000, -1, -2])
def test_a_file_cut_off_is_found(tmp_path, book, one, cut):
    assert examined(tmp_path, book, one[:cut]).items


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"{}",
        b"<a/>",
        b"\xff\xfe",
        b'{"kind":"gridpost-proof"}\n',
        b'{"kind":"gridpost-proof","version":1,"spans":5}\n',
        b'{"kind":"gridpost-proof","version":1,"spans":[["x",0,0]]}\n',
        b'{"kind":"gridpost-proof","version":1,"spans":[[0,0,0]]}\n' + b"[" * 100_000 + b"\n",
    ],
)
def test_what_is_no_proof_at_all_is_a_finding_not_a_crash(tmp_path, book, content):
    assert examined(tmp_path, book, content).items


def test_an_entry_whose_message_is_gone_still_proves_its_rows(tmp_path, book, tampered):
    tampered.sql("UPDATE entry SET evidence = NULL WHERE seq = 4")
    verdict = examined(tmp_path, book, rendered(tampered, [Span(0, 4, 4)]))
    assert verdict.items == ()
    assert verdict.states["without_message"] == 1


# --- single documents ------------------------------------------------------------------------------------------------


def test_receipts_heads_and_messages_say_what_they_state(tmp_path, book):
    receipt = examined(tmp_path, book, book.receipts[2])
    assert receipt.kind == "receipt"
    assert receipt.items == ()
    stated = {name: receipt.states[name] for name in ("message_id", "sender", "partition", "seq")}
    assert stated == {"message_id": "m-2", "sender": "IED-1", "partition": 0, "seq": 2}
    assert (receipt.states["stored"], receipt.states["known"], receipt.states["conflicting"]) == (0, 2, 1)
    head = examined(tmp_path, book, book.anchor)
    assert (head.kind, head.states["entries"], head.states["bus"]) == ("tree head", 9, "bus")
    message = examined(tmp_path, book, book.sealed[1])
    assert (message.kind, message.states["sender"], message.states["signer"]) == ("message", "IED-2", "IED-2")


def test_a_device_cannot_forge_a_receipt_or_a_head(tmp_path, book):
    device = book.office.certify("IED-9")
    payload = heads.encode(heads.TreeHead("bus", 0, 9, b"r" * 32, testing.NOW_UTC_MS))
    forged = verify.exchange.seal(payload, device, testing.NOW_UTC_MS)
    assert codes(examined(tmp_path, book, forged)) == {"signature-invalid"}


def signed_root(book, size: int, root: bytes) -> bytes:
    payload = heads.encode(heads.TreeHead("bus", 0, size, root, testing.NOW_UTC_MS))
    return verify.exchange.seal(payload, book.office.signer, testing.NOW_UTC_MS)


def run(*arguments):
    result = CliRunner().invoke(verify.command, [str(one) for one in arguments])
    return result.exit_code, json.loads(result.stdout)


def test_two_heads_of_one_size_with_two_roots_are_a_split_view(tmp_path, book):
    """Each is genuine by itself: the bus showed two people two logs."""
    ca, one, two = tmp_path / "ca.pem", tmp_path / "one.xml", tmp_path / "two.xml"
    ca.write_text(book.authority)
    one.write_bytes(book.anchor)
    two.write_bytes(signed_root(book, 9, b"r" * 32))
    assert run("--trust", ca, "--json", one)[0] == 0
    assert run("--trust", ca, "--json", two)[0] == 0
    code, said = run("--trust", ca, "--json", one, two)
    assert code == 1
    assert [finding["code"] for finding in said["findings"]] == ["past-rewritten"]


def test_a_receipt_s_root_is_held_against_a_head_s(tmp_path, book):
    ca, one, two = tmp_path / "ca.pem", tmp_path / "one.xml", tmp_path / "two.xml"
    ca.write_text(book.authority)
    one.write_bytes(book.receipts[5])
    two.write_bytes(signed_root(book, 5, b"r" * 32))
    code, said = run("--trust", ca, "--json", one, two)
    assert code == 1
    assert said["ok"] is False
    assert [one["ok"] for one in said["files"]] == [True, True]


def test_what_is_written_is_read_back(book, tampered):
    """Every row of every kind survives the file, digit by digit: a file of all entries is written again from itself."""
    raw = rendered(tampered, [Span(0, 0, 8)])
    entries = [line for line in raw.splitlines(keepends=True) if line.startswith(b'{"kind":"entry"')]
    assert len(entries) == 9
    for line in entries:
        fields = proof._read(line)
        kept = proof._exhibit(fields)
        assert isinstance(kept, Exhibit)
        assert proof.render_entry(kept, proof._path(fields)) == line
        assert leaf.rows_digest(kept.rows) == kept.parts.rows_sha256
