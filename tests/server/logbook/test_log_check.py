"""`log check` against everything that somebody with the file could do to it: it finds it, and says where."""

from __future__ import annotations

import re
import struct
from hashlib import sha256

import pytest
import zstandard
from gridpost.server import log_check
from gridpost.server.store import tables
from gridpost.server.store.archive import decompressed

from gridpost import exchange, heads, leaf, testing
from gridpost.errors import EnvelopeShape, PeerFault, SignatureInvalid
from gridpost.model import Header, Readings

DAY_MS = 86_400_000


def codes(result) -> set[str]:
    return {one.code for one in result.findings}


def paths(result) -> list[str]:
    return [one.path for one in result.findings]


def test_an_untouched_log_is_found_untouched(tampered, book):
    result = tampered.check(book.anchor, book.receipts[0], book.receipts[4], book.receipts[8])
    assert result.findings == []
    assert result.ok
    assert result.anchors == {f"anchor {number}": True for number in range(4)}
    (walked,) = result.partitions
    assert (walked.number, walked.entries, result.heads, result.evidence_gone) == (0, 9, 1, 0)
    with Opened(tampered) as store:
        assert walked.root == store.root(0, 9)


class Opened:
    """The copy's store, opened for reading."""

    def __init__(self, tampered):
        self.tampered = tampered

    def __enter__(self):
        self.store = self.tampered.open()
        return self.store

    def __exit__(self, *_):
        self.store.close()


# --- every column of every table of evidence -------------------------------------------------------------------------

# Table -> the row that is changed, the columns, and what the finding's path must begin with.
ROWS = {
    "entry": ("partition = 0 AND seq = 3", "entry 0:3"),
    "interval_block": ("partition = 0 AND seq = 1 AND line = 0", "interval_block 0:1"),
    "register_reading": ("partition = 0 AND seq = 4 AND line = 0", "register_reading 0:4"),
    "event": ("partition = 0 AND seq = 5 AND line = 0", "event 0:5"),
    "log_node": ("partition = 0 AND level = 1 AND number = 1", "log_node 0:"),
    "tree_head": ("id = 1", "tree_head 1"),
    "outbox": ("id = 1", "outbox 1"),
    "certificate": ("serial = 'IED-1'", "certificate"),
}
COLUMNS = {
    "entry": (
        "partition seq sender message_id noun transport created_utc_ms sequence last_receipt content_sha256"
        " recorded_at_utc_ms evidence_sha256 rows_sha256 leaf_hash receipt evidence"
    ),
    "interval_block": (
        "partition seq line channel_id first_interval_end_utc last_interval_end_utc interval_s interval_values"
        " qualities outcome"
    ),
    "register_reading": "partition seq line channel_id reading_type time_utc value qualities outcome",
    "event": "partition seq line mrid event_type created_utc_ms asset reason severity details",
    "log_node": "partition level number hash",
    "tree_head": "partition size root made_at_utc_ms signed",
    "outbox": "sha256 content",
    "certificate": "sha256 serial der",
}
# Findings that cannot stand at the row itself, because it no longer says where it belongs.
ELSEWHERE = {
    ("interval_block", "partition"): r"interval_block 7:1:0|entry 0:1 rows",
    ("interval_block", "seq"): r"interval_block 0:90:0|entry 0:1 rows",
    ("interval_block", "line"): r"entry 0:1 rows_sha256",
    ("interval_block", "outcome"): r"entry 0:1 rows_sha256",
    ("register_reading", "partition"): r"register_reading 7:4:0|entry 0:4 rows",
    ("register_reading", "seq"): r"register_reading 0:90:0|entry 0:4 rows",
    ("register_reading", "line"): r"entry 0:4 rows_sha256",
    ("register_reading", "outcome"): r"entry 0:4 rows_sha256",
    ("event", "partition"): r"event 7:5:0|entry 0:5 rows",
    ("event", "seq"): r"event 0:90:0|entry 0:5 rows",
    ("event", "line"): r"entry 0:5 rows_sha256",
    ("entry", "transport"): r"entry 0:3 rows_sha256",
    ("certificate", "sha256"): r"certificate|entry 0:0 evidence",
    ("certificate", "serial"): r"entry 0:0 sender",
}


# What becomes of a key: places that nothing else has.
KEYS = {"partition": 7, "seq": 90, "line": 10, "level": 9, "number": 77}


def changed(value, column):
    if column in KEYS:
        return KEYS[column]
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        middle = len(value) // 2
        return value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]
    if column == "interval_values":
        return value.replace("20", "21")
    if column == "details":
        return value.replace("1", "2")
    return f"{value or ''}x"


@pytest.mark.parametrize(("table", "column"), [(table, name) for table in COLUMNS for name in COLUMNS[table].split()])
def test_a_change_of_any_column_is_found_and_named(tampered, table, column):
    where, begins = ROWS[table]
    if table == "outbox":
        tampered.sql(
            "INSERT INTO outbox (reader, name, sha256, version, queued_at_utc_ms, content) VALUES (?, ?, ?, ?, ?, ?)",
            "mv90", "a.mde", sha256(b"a file").digest(), "{}", 1, b"a file",
        )  # fmt: skip
    (before,) = tampered.sql(f"SELECT {column} FROM {table} WHERE {where}")
    tampered.sql(f"UPDATE {table} SET {column} = ? WHERE {where}", changed(before[0], column))
    result = tampered.check()
    assert not result.ok
    wanted = ELSEWHERE.get((table, column), re.escape(begins))
    assert [path for path in paths(result) if re.match(wanted, path)], result.findings
    if table == "entry" and column not in ("partition", "seq", "transport", "receipt", "evidence"):
        assert f"entry 0:3 {column}" in paths(result), result.findings


def test_one_changed_column_is_one_finding_not_one_for_each_entry_behind_it(tampered):
    tampered.sql("UPDATE entry SET recorded_at_utc_ms = recorded_at_utc_ms + 1 WHERE seq = 2")
    result = tampered.check()
    # The receipt's word on the column, and the leaf that no longer fits; nothing about entries 3 to 8.
    assert paths(result) == ["entry 0:2 recorded_at_utc_ms", "entry 0:2 leaf_hash"]


def test_every_column_of_evidence_is_in_the_list_above():
    not_evidence = {
        "tree_head": {"id"},
        "outbox": {"id", "reader", "name", "version", "queued_at_utc_ms", "place", "delivered_at_utc_ms"},
        "certificate": {
            *("csr_sha256", "bound_at_utc_ms", "revoked_at_utc_ms", "revoked_by", "not_after_utc_ms", "ends_at_utc_ms"),
            *("issuer_sha256", "name", "rights"),
        },
    }
    for name, columns in COLUMNS.items():
        real = {column.name for column in tables.metadata.tables[name].columns}
        assert real - set(columns.split()) == not_evidence.get(name, set())


@pytest.mark.parametrize("column", ["interval_values", "conflicts", "gaps", "register_readings", "events"])
def test_a_running_count_that_is_not_that_of_the_rows_is_found(tampered, column):
    tampered.sql(f"UPDATE partition SET {column} = {column} + 1")
    result = tampered.check()
    assert codes(result) == {"count-changed"}
    assert paths(result) == [f"partition 0 {column}"]


@pytest.mark.parametrize(
    ("statement", "path"),
    [
        ("UPDATE channel SET meter = 'M9' WHERE meter = 'M1'", "interval_block 0:0:0"),
        ("UPDATE channel SET usage_point = 'U9' WHERE meter = 'M1'", "interval_block 0:0:0"),
        ("UPDATE channel SET stream = 'E9' WHERE meter = 'M1'", "interval_block 0:0:0"),
        ("UPDATE channel SET reading_type = '1.2.3' WHERE meter = 'M1'", "interval_block 0:0:0"),
    ],
)
def test_a_channel_that_is_made_another_one_is_found_by_what_the_messages_say(tampered, statement, path):
    tampered.sql(statement)
    result = tampered.check()
    assert codes(result) == {"rows-changed"}
    assert path in paths(result)


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("entry", "recorded_at_utc_ms", "soon"), ("entry", "receipt", "text"), ("entry", "sender", b"bytes"),
        ("entry", "content_sha256", b"short"), ("entry", "evidence", 5), ("entry", "recorded_at_utc_ms", -1),
        ("entry", "sender", "\x00"), ("interval_block", "interval_values", 3),
        ("interval_block", "interval_values", ""),
        ("interval_block", "qualities", "[["), ("interval_block", "interval_s", "x"), ("event", "details", 1),
        ("register_reading", "qualities", "{}"), ("tree_head", "signed", "text"), ("tree_head", "root", 1),
    ],
)  # fmt: skip
def test_what_is_not_even_of_its_kind_is_a_finding_not_a_crash(tampered, table, column, value):
    tampered.sql(f"UPDATE {table} SET {column} = ?", value)
    assert not tampered.check().ok


# --- rows and entries that are gone, or too many ---------------------------------------------------------------------


@pytest.mark.parametrize(("table", "seq"), [("interval_block", 1), ("register_reading", 4), ("event", 5)])
def test_a_deleted_row_is_found(tampered, table, seq):
    tampered.sql(f"DELETE FROM {table} WHERE seq = ?", seq)
    result = tampered.check()
    assert f"entry 0:{seq} rows" in paths(result)
    assert "rows-changed" in codes(result)


def test_a_row_put_in_is_found(tampered):
    tampered.sql("INSERT INTO interval_block SELECT 0, 6, 9, channel_id, first_interval_end_utc + 90000,"
                 " last_interval_end_utc + 90000, interval_s, interval_values, qualities, outcome"
                 " FROM interval_block WHERE seq = 6")  # fmt: skip
    assert "interval_block 0:6:9" in paths(tampered.check())


@pytest.mark.parametrize("seq", range(9))
def test_a_deleted_entry_is_named(tampered, seq):
    tampered.sql("DELETE FROM entry WHERE seq = ?", seq)
    result = tampered.check()
    if seq < 8:
        assert [one.path for one in result.findings if one.code == "entry-missing"] == [f"entry 0:{seq}"]
    else:
        assert "tail-cut" in codes(result)  # by the head on file
    strays = [one.path for one in result.findings if one.code == "row-without-entry"]
    assert all(f" 0:{seq}:" in path for path in strays)
    assert len(strays) >= 1
    assert "past-rewritten" not in codes(result), "what is left still leads to what was signed"


def test_several_deleted_entries_in_a_row_are_one_finding(tampered):
    tampered.sql("DELETE FROM entry WHERE seq BETWEEN 2 AND 5")
    assert "entry 0:2 to entry 0:5" in paths(tampered.check())


def test_a_deleted_node_is_found(tampered):
    tampered.sql("DELETE FROM log_node WHERE level = 3")
    assert paths(tampered.check()) == ["log_node 0:3:0"]


def test_a_node_too_many_is_found(tampered):
    tampered.sql("INSERT INTO log_node VALUES (0, 4, 0, ?)", b"n" * 32)
    assert paths(tampered.check()) == ["log_node 0:4:0"]


def cut(tampered, size):
    """Cut the tail so that nothing inside the store is left of it."""
    for table in ("interval_block", "register_reading", "event", "entry"):
        tampered.sql(f"DELETE FROM {table} WHERE seq >= ?", size)
    tampered.sql("DELETE FROM log_node WHERE (number + 1) << level > ?", size)
    for outcome, column in (("stored", "interval_values"), ("gap", "gaps"), ("conflict", "conflicts")):
        rows = tampered.sql("SELECT interval_values FROM interval_block WHERE outcome = ?", outcome)
        tampered.sql(f"UPDATE partition SET {column} = ?", sum(text.count(",") + 1 for (text,) in rows))


def test_a_cut_tail_is_found_by_a_head_on_file_and_else_by_an_anchor_alone(tampered, book):
    cut(tampered, 7)
    assert codes(tampered.check()) == {"tail-cut"}
    tampered.sql("DELETE FROM tree_head")
    assert tampered.check().ok, "nothing inside knows better: this is what anchors are for"
    assert tampered.check(book.receipts[6]).ok
    for anchor in (book.anchor, book.receipts[7], book.receipts[8]):
        result = tampered.check(anchor)
        assert codes(result) == {"tail-cut"}
        assert result.anchors == {"anchor 0": False}


# --- a past rewritten ------------------------------------------------------------------------------------------------


def rehash(tampered):
    """Make rows_sha256, leaf_hash and every node fit the columns: by the description, with none of the store's code."""
    leaves = []
    rows = tampered.sql(
        "SELECT seq, recorded_at_utc_ms, sender, message_id, content_sha256, evidence_sha256, rows_sha256 FROM entry"
        " ORDER BY seq"
    )
    for seq, at, sender, message_id, *hashes in rows:
        texts = b"".join(len(text.encode()).to_bytes(2, "big") + text.encode() for text in (sender, message_id))
        leaves.append(sha256(b"\x00" + struct.pack(">IQQ", 0, seq, at) + texts + b"".join(hashes)).digest())
        tampered.sql("UPDATE entry SET leaf_hash = ? WHERE seq = ?", leaves[-1], seq)
    level, row = 1, leaves
    while len(row) > 1:
        row = [sha256(b"\x01" + row[i] + row[i + 1]).digest() for i in range(0, len(row) - 1, 2)]
        for number, digest in enumerate(row):
            tampered.sql("UPDATE log_node SET hash = ? WHERE level = ? AND number = ?", digest, level, number)
        level += 1


def test_a_rewriting_without_the_bus_s_key_is_found_without_an_anchor(tampered):
    """The message goes too, as if it were old, so that only the receipts are left to object."""
    tampered.sql("DELETE FROM tree_head")
    tampered.sql("UPDATE entry SET evidence = NULL")
    tampered.sql("UPDATE interval_block SET interval_values = '[2.76]' WHERE seq = 3")
    rows = leaf.EntryRows(
        leaf.HeaderRow(*tampered.sql(
            "SELECT noun, transport, created_utc_ms, sequence, last_receipt FROM entry WHERE seq = 3")[0]),
        [leaf.BlockRow(*row) for row in tampered.sql(
            "SELECT line, channel_id, first_interval_end_utc, last_interval_end_utc, interval_s, interval_values,"
            " qualities, outcome FROM interval_block WHERE seq = 3")],
    )  # fmt: skip
    tampered.sql("UPDATE entry SET rows_sha256 = ? WHERE seq = 3", leaf.rows_digest(rows))
    rehash(tampered)
    result = tampered.check(now=tampered.book.office.now + 401 * DAY_MS)
    assert codes(result) == {"past-rewritten"}
    assert paths(result) == ["entry 0:4"]  # the first receipt that was given for another past


@pytest.fixture(scope="module")
def rewritten(book, open_office, tmp_path_factory):
    """The keeper's own work: the log made anew with the same keys, at the same times, without the fourth message."""
    office = open_office(tmp_path_factory.mktemp("rewritten"))
    office.ca, office.signer = book.office.ca, book.office.signer
    source = book.office
    source.reopen()
    for serial, meter in (("IED-1", "M1"), ("IED-2", "M2")):
        office.store.add_ied(serial, "revenue meter", bytes(10), [testing.channel(1, meter)])
        der = source.store.show_ied(serial).certificates[0].der
        office.store.bind_certificate(serial, serial.encode().ljust(32), der)
    source.store.close()
    for number, raw in enumerate(book.sealed):
        if number != 3:
            assert office.receive(raw).status == 200
        office.now += 60_000
    office.store.close()
    return office


def test_a_past_rewritten_with_the_bus_s_key_is_found_by_an_anchor_and_only_so(tampered, book, rewritten):
    tampered.path = rewritten.path
    assert tampered.check().ok, "who has the keys can make a consistent log"
    assert tampered.check(book.receipts[0], book.receipts[3 - 1]).ok, "up to the change it is the same log"
    for anchor, code in (
        (book.anchor, "tail-cut"),  # nine entries then, eight now
        (book.receipts[3], "past-rewritten"),  # its root still holds, but another entry stands in its place
        (book.receipts[4], "past-rewritten"),
        (book.receipts[7], "past-rewritten"),
    ):
        result = tampered.check(anchor)
        assert codes(result) == {code}
        assert result.anchors == {"anchor 0": False}


def test_an_anchor_must_be_signed_by_a_bus_of_the_trusted_ca(book):
    foreign = testing.ThrowawayCA().issue_bus()
    payload = heads.encode(heads.TreeHead("bus", 0, 9, b"r" * 32, testing.NOW_UTC_MS))
    raw = exchange.seal(payload, foreign, testing.NOW_UTC_MS)
    with pytest.raises(SignatureInvalid):
        log_check.read_anchor("x", raw, book.trust)


# --- bytes -----------------------------------------------------------------------------------------------------------


def test_a_flip_of_any_byte_of_a_receipt_is_found(book):
    """A signature leaves room around what it covers; a receipt on file must be as it was signed in every byte."""
    authority = log_check.StoreAuthority(book.trust, {})
    raw = book.receipts[0]
    assert authority.bus(raw)
    for at in range(len(raw)):
        with pytest.raises(PeerFault):
            authority.bus(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])


def test_white_space_put_beside_the_signature_of_a_receipt_is_found(book):
    authority = log_check.StoreAuthority(book.trust, {})
    with pytest.raises(EnvelopeShape):
        authority.bus(book.receipts[0].replace(b"<soap:Header>", b"<soap:Header> ", 1))


def test_a_flip_of_any_byte_of_a_stored_message_changes_it_or_cannot_be_read(book):
    raw = book.sealed[0]
    stored = zstandard.ZstdCompressor(level=1).compress(raw)
    unchanged = 0
    for at in range(len(stored)):
        try:
            unchanged += decompressed(stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :]) == raw
        except ValueError:
            continue
    assert unchanged <= 2, "but for a bit of the frame's head that says nothing"
    with pytest.raises(ValueError, match="whole"):
        decompressed(stored + b"x")
    with pytest.raises(ValueError, match="whole"):
        decompressed(stored[:-1])


# --- retention -------------------------------------------------------------------------------------------------------


def test_old_evidence_may_go_and_the_log_still_checks(tampered, book):
    now = book.office.now + 400 * DAY_MS
    # All nine were recorded within nine minutes; the first four are older than 400 days then.
    before = testing.NOW_UTC_MS + 4 * 60_000
    with Opened(tampered) as store:
        due = store.evidence_due(before)
        assert due.entries == 4
        assert due.octets == sum(len(row[0]) for row in tampered.sql("SELECT evidence FROM entry WHERE seq < 4"))
        assert list(store.drop_evidence(before)) == [4]
        assert store.evidence_due(before) == (0, 0)
        assert list(store.drop_evidence(before)) == []
    assert tampered.sql("SELECT seq FROM entry WHERE evidence IS NULL ORDER BY seq") == [(0,), (1,), (2,), (3,)]
    result = tampered.check(book.anchor, book.receipts[2], now=now)
    assert result.ok, result.findings
    assert result.evidence_gone == 4
    # A repeat still gets its receipt: header, hashes and receipt stay.
    assert tampered.sql("SELECT receipt FROM entry WHERE seq = 0")[0][0] == book.receipts[0]


def test_evidence_that_is_gone_before_its_time_is_a_finding(tampered):
    tampered.sql("UPDATE entry SET evidence = NULL WHERE seq = 2")
    result = tampered.check()
    assert codes(result) == {"evidence-missing"}
    assert paths(result) == ["entry 0:2 evidence"]


@pytest.mark.parametrize("column", ["noun", "transport", "created_utc_ms", "sequence", "last_receipt"])
def test_without_its_message_an_entry_s_header_is_still_covered_by_the_leaf(tampered, column):
    tampered.sql("UPDATE entry SET evidence = NULL")
    (before,) = tampered.sql(f"SELECT {column} FROM entry WHERE seq = 3")
    tampered.sql(f"UPDATE entry SET {column} = ? WHERE seq = 3", changed(before[0], column))
    result = tampered.check(now=tampered.book.office.now + 401 * DAY_MS)
    assert not result.ok
    assert all(path.startswith("entry 0:3") for path in paths(result))


# --- what devices quote ----------------------------------------------------------------------------------------------


def quoting(office, signer, number: int, quoted: str) -> str:
    """Post a message that quotes a receipt; returns its entry's name."""
    values = testing.block(testing.channel(1, "M1"), 1_767_139_200 + 900 * number, ["1.5"])
    header = Header(
        "created", "MeterReadings", office.now, "IED-1", f"q-{number}", sequence=number, last_receipt=quoted
    )
    raw = testing.sealed(testing.CreatedMeterReadings(header, Readings((values,))), signer, office.now)
    reply = office.receive(raw)
    assert reply.status == 200, reply.body
    receipt = office.answer(reply).receipt
    return f"{receipt.position.partition}:{receipt.position.seq}:{receipt.root_before.hex()}"


def test_a_device_that_quotes_what_the_log_does_not_know_is_noted_and_is_no_finding(post_office):
    device = post_office.enrol("IED-1", [testing.channel(1, "M1")])
    first = quoting(post_office, device, 1, "")
    second = quoting(post_office, device, 2, first)
    third = quoting(post_office, device, 3, second)
    for number, wrong in enumerate((f"0:1:{'ab' * 32}", f"0:99:{'ab' * 32}", f"3:0:{'ab' * 32}", "what I like"), 4):
        quoting(post_office, device, number, wrong)
    quoting(post_office, device, 8, third)
    store = post_office.store
    trust = exchange.Trust(post_office.ca.der)
    against = log_check.against(store, {one.id: one.key for one in store.channels()}, trust, post_office.now)
    result = log_check.check(store, against, [], lambda walked, total: None)
    assert result.findings == []
    assert [(one.code, one.path) for one in result.notes] == [
        ("receipt-quoted", f"entry 0:{seq} last_receipt") for seq in (3, 4, 5)
    ]
