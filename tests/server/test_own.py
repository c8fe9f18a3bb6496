"""Entries of the bus's own: recorded once, in the tree, and what is changed in them is found and named."""

from __future__ import annotations

import sqlite3
from hashlib import sha256
from pathlib import Path

import pytest
from gridpost.server import log_check, own
from gridpost.server.identity import pem_of
from gridpost.server.independent import verify_signature
from gridpost.server.log_walk import read_exhibit
from gridpost.server.store.archive import decompressed
from gridpost.server.zones import zone_of

from gridpost import evidence, exchange, proof, testing
from gridpost.documents import Document
from gridpost.errors import ReadingsRefused, SignerUnavailable
from gridpost.model import Counts, IntervalBlock, Position, Quality, Readings

MIDNIGHT = 1_767_139_200  # 2025-12-31T00:00:00Z
TARIFF = Document("tariff", "T1", "S1", "", MIDNIGHT, None, '<Tariff>\r\n "é" & <more/></Tariff>')
BILL = Document("bill", "C1-2025-12", "bus", "C1", MIDNIGHT, MIDNIGHT + 86400, '{"total":"12.30"}')


@pytest.fixture
def bench(post_office):
    return own.Bench(post_office.store, post_office.signer, "bus", post_office.clock, zone_of, None)


def findings(office):
    trust = exchange.Trust(office.ca.der)
    keys = {one.id: one.key for one in office.store.channels()}
    held = log_check.against(office.store, keys, trust, office.now)
    return [
        (item.code, item.path) for item in log_check.check(office.store, held, (), lambda _done, _of: None).findings
    ]


def test_a_document_is_an_entry_like_any_other(bench, post_office):
    receipt = own.record_documents(bench, "t-1", "Ada", [TARIFF, BILL])
    assert (receipt.sender, receipt.message_id, receipt.position) == ("bus", "t-1", Position(0, 0))
    assert receipt.counts == Counts(2, 0, 0)
    assert [one.document for one in post_office.store.documents_of([receipt.position])] == [TARIFF, BILL]
    assert findings(post_office) == []


def test_its_message_is_sealed_by_the_bus_and_names_the_author(bench, post_office):
    own.record_documents(bench, "t-1", "Ada", [TARIFF])
    (one,) = post_office.store.entries_on_file(0, 0)
    raw = decompressed(one.columns["evidence"])
    verify_signature(raw, pem_of(post_office.ca.certificate).encode())
    assert b"<author>Ada</author>" in raw
    assert (one.columns["sender"], one.columns["transport"], one.columns["noun"]) == ("bus", "own", "Documents")


def test_a_message_id_is_recorded_once_whatever_it_brings(bench, post_office):
    first = own.record_documents(bench, "t-1", "Ada", [TARIFF])
    post_office.now += 5000
    assert own.record_documents(bench, "t-1", "Bob", [BILL]) == first
    assert own.known(bench, "t-1") == first
    assert own.known(bench, "t-2") is None
    assert post_office.store.version() == {0: 0}


def test_readings_of_the_bus_become_versions_of_the_meters_own(bench, post_office):
    channel = testing.channel(1, "M1")
    signer = post_office.enrol("IED-1", [channel])
    sent = testing.readings_message("IED-1", "m-1", [testing.block(channel, MIDNIGHT + 900, ["1", "2"])])
    assert post_office.receive(testing.sealed(sent, signer)).status == 200
    edited = IntervalBlock(channel.key, 900, (MIDNIGHT + 1800,), ("2.5",), ((Quality("2.7.1", "Ada: misread"),),))
    receipt = own.record_readings(bench, "t-1", Readings((edited,)))
    assert receipt.counts == Counts(1, 0, 0)
    (numbered,) = post_office.store.channels()
    current = post_office.store.readings(numbered.id, MIDNIGHT, MIDNIGHT + 3600)
    assert current.block.values == ("1", "2.5")
    assert current.positions == (Position(0, 0), Position(0, 1))
    assert findings(post_office) == []
    elsewhere = testing.block(testing.channel(1, "M2"), MIDNIGHT + 900, ["1"])
    with pytest.raises(ReadingsRefused):
        own.record_readings(bench, "t-2", Readings((elsewhere,)))


def test_without_a_key_nothing_is_recorded(bench, post_office):
    class Lost:
        certificate, algorithm = post_office.signer.certificate, post_office.signer.algorithm

        def sign(self, _data):
            raise SignerUnavailable

    with pytest.raises(SignerUnavailable):
        own.record_documents(bench._replace(signer=Lost()), "t-1", "Ada", [TARIFF])
    assert post_office.store.version() == {}


CHANGES = {
    "content": ("UPDATE document SET content = replace(content, '12.30', '12.31')", "rows-changed", "document 0:0:1"),
    "owner": ("UPDATE document SET owner = 'S2' WHERE line = 0", "rows-changed", "document 0:0:0"),
    "kind": ("UPDATE document SET content = x'00' WHERE line = 0", "rows-changed", "document 0:0:0"),
    "removed": ("DELETE FROM document WHERE line = 1", "rows-changed", "entry 0:0 rows"),
    "put in": (
        "INSERT INTO document SELECT partition, 7, line, kind, id, owner, subject, from_utc, to_utc, content "
        "FROM document",
        "row-without-entry",
        "document 0:7:0",
    ),
    "sender": ("UPDATE entry SET sender = 'IED-1'", "entry-changed", "entry 0:0 sender"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_a_document_is_found_and_named(name, bench, post_office):
    own.record_documents(bench, "t-1", "Ada", [TARIFF, BILL])
    statement, code, path = CHANGES[name]
    with sqlite3.connect(Path(post_office.path)) as beside:
        beside.execute(statement)
    assert (code, path) in findings(post_office)


def test_a_proof_file_holds_documents_and_verifies(bench, post_office):
    receipt = own.record_documents(bench, "t-1", "Ada", [TARIFF, BILL])
    (one,) = post_office.store.entries_on_file(0, 0)
    kept, items = read_exhibit(one)
    assert items == []
    line = proof.render_entry(kept, [])
    again = proof._exhibit(proof._read(line))
    assert again == kept
    authority = log_check.StoreAuthority(exchange.Trust(post_office.ca.der), {})
    assert evidence.examine(again, authority).items == ()
    assert sha256(kept.evidence).digest() == kept.parts.evidence_sha256
    assert evidence.examine(again, authority).receipt == receipt
    forged = kept._replace(rows=kept.rows._replace(documents=[kept.rows.documents[0]._replace(content="<Tariff/>")]))
    assert {item.code for item in evidence.examine(forged, authority).items} == {"rows-changed"}
