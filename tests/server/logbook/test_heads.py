"""Tree heads: signed every hour, kept, put where others find them, and readable by anybody who has the CA."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from gridpost.adapters.delivery import Directory
from gridpost.server.heads import HOUR_MS, Author, HeadPublisher, sign_head
from lxml import etree

from gridpost import exchange, heads, testing
from gridpost.envelope import canonical
from gridpost.errors import AnswerUntrusted, NotFound, SignerUnavailable, StoreUnavailable

NOW = testing.NOW_UTC_MS
HEAD = heads.TreeHead("bus & co", 3, 12, bytes(range(32)), NOW + 250)


@pytest.fixture
def office(post_office):
    """A bus with one device enrolled."""
    post_office.device = post_office.enrol("IED-1", [testing.channel(1, "M1")])
    return post_office


def post(office, number: int) -> None:
    values = testing.block(testing.channel(1, "M1"), 1_767_139_200 + 900 * number, ["1.5"])
    message = testing.readings_message("IED-1", f"m-{number}", [values], office.now)
    assert office.receive(testing.sealed(message, office.device, office.now)).status == 200


def publisher(office, folder=None):
    return HeadPublisher(office.store, Author("bus", office.signer), folder and Directory(folder))


# --- the document ----------------------------------------------------------------------------------------------------


def test_a_head_is_written_in_canonical_form_and_read_back():
    raw = heads.encode(HEAD)
    assert raw == (
        b'<TreeHead xmlns="urn:gridpost:tree-head:1"><source>bus &amp; co</source><partition>3</partition>'
        b"<treeSize>12</treeSize><rootHash>AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=</rootHash>"
        b"<timestamp>2026-01-01T00:00:00.250Z</timestamp></TreeHead>"
    )
    element = etree.fromstring(raw)
    assert canonical(element) == raw
    assert heads.decode(element) == HEAD


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<treeSize>12", "<treeSize>-1"),
        ("<treeSize>12", "<treeSize>x"),
        ("AAECAwQ", "AAEC"),
        ("00.250Z", "00.250"),
        ("<partition>3</partition>", ""),
        ("TreeHead", "TreeHeads"),
        ("tree-head:1", "tree-head:2"),
    ],
)
def test_what_is_not_of_the_schema_is_no_head(old, new):
    text = heads.encode(HEAD).decode()
    assert old in text
    with pytest.raises(AnswerUntrusted):
        heads.decode(etree.fromstring(text.replace(old, new)))


def sealed(office, head=HEAD, signer=None, at=HEAD.made_at_utc_ms):
    return exchange.seal(heads.encode(head), signer or office.signer, at)


def test_a_head_is_opened_by_whoever_pinned_the_ca(office):
    assert exchange.open_head(sealed(office), exchange.Trust(office.ca.der)) == HEAD


@pytest.mark.parametrize("forged", ["by a device", "at another time", "a byte", "white space", "under another ca"])
def test_a_head_that_is_not_the_bus_s_is_refused(office, forged):
    raw, trust = sealed(office), exchange.Trust(office.ca.der)
    if forged == "by a device":
        raw = sealed(office, signer=office.device)
    elif forged == "at another time":
        raw = sealed(office, at=NOW)
    elif forged == "a byte":
        raw = raw.replace(b"<treeSize>12", b"<treeSize>13")
    elif forged == "white space":
        raw = raw.replace(b"<soap:Header>", b"<soap:Header>\n")
    else:
        trust = exchange.Trust(testing.ThrowawayCA().certificate)
    with pytest.raises(AnswerUntrusted):
        exchange.open_head(raw, trust)


def test_a_head_is_no_message_and_no_answer(office):
    """The same seal, another meaning: neither side mistakes one for the other."""
    assert office.receive(sealed(office, signer=office.device)).status == 500
    assert office.events("refused")[-1]["code"] == "unknown-operation"
    with pytest.raises(AnswerUntrusted):
        exchange.open_answer(sealed(office), exchange.Trust(office.ca.der))


# --- publishing ------------------------------------------------------------------------------------------------------


def test_an_empty_log_has_no_head(office):
    assert publisher(office).step(NOW) == []
    with pytest.raises(NotFound):
        sign_head(office.store, Author("bus", office.signer), 0, NOW)


def test_a_head_is_published_every_hour_and_no_more_often(office, tmp_path):
    folder = tmp_path / "heads"
    heads_of = publisher(office, folder)
    post(office, 1)
    ((first, place),) = heads_of.step(NOW)
    assert (first.size, first.made_at_utc_ms) == (1, NOW)
    assert place == str(folder / "head-0-20260101T000000000Z.xml")
    post(office, 2)
    assert heads_of.step(NOW + HOUR_MS - 1) == []
    ((second, _),) = heads_of.step(NOW + HOUR_MS)
    assert second.size == 2
    assert [one.size for one in office.store.heads()] == [1, 2]
    assert sorted(file.name for file in folder.iterdir()) == [
        "head-0-20260101T000000000Z.xml", "head-0-20260101T010000000Z.xml",
    ]  # fmt: skip
    opened = exchange.open_head((folder / "head-0-20260101T010000000Z.xml").read_bytes(), exchange.Trust(office.ca.der))
    assert opened == heads.TreeHead("bus", 0, 2, office.store.root(0, 2), NOW + HOUR_MS)
    assert office.store.root(0, 2) != hashlib.sha256(b"").digest()


def test_a_log_that_stands_still_is_signed_again_so_that_silence_is_seen(office):
    post(office, 1)
    heads_of = publisher(office)
    for hour in range(3):
        assert len(heads_of.step(NOW + hour * HOUR_MS)) == 1
    assert [one.size for one in office.store.heads()] == [1, 1, 1]


def test_a_restart_signs_nothing_anew_but_delivers_what_was_left(office, tmp_path):
    post(office, 1)
    publisher(office).step(NOW)  # kept, and nobody carried it out
    ((head, place),) = publisher(office, tmp_path / "heads").step(NOW + 5000)
    assert head.made_at_utc_ms == NOW
    assert place.endswith("head-0-20260101T000000000Z.xml")
    assert len(office.store.heads()) == 1


def test_a_folder_that_cannot_be_written_is_tried_again(office, tmp_path):
    post(office, 1)
    (tmp_path / "heads").write_text("a file in the way")
    heads_of = publisher(office, tmp_path / "heads")
    with pytest.raises(StoreUnavailable):
        heads_of.step(NOW)
    (tmp_path / "heads").unlink()
    ((head, _),) = heads_of.step(NOW + 60_000)
    assert head.made_at_utc_ms == NOW, "the one that was signed then"


def test_a_clock_that_went_back_does_not_silence_the_log(office):
    post(office, 1)
    heads_of = publisher(office)
    heads_of.step(NOW)
    assert heads_of.step(NOW - HOUR_MS + 1) == []
    ((head, _),) = heads_of.step(NOW - 3 * HOUR_MS)
    assert head.made_at_utc_ms == NOW - 3 * HOUR_MS


def test_a_certificate_that_nobody_would_believe_signs_no_head(office):
    post(office, 1)
    office.signer = office.bus_signer(datetime.fromtimestamp(NOW / 1000, UTC) - timedelta(days=6 * 365))
    with pytest.raises(SignerUnavailable):
        publisher(office).step(NOW)
    assert office.store.heads() == []


class Told:
    def __init__(self):
        self.events = []

    def event(self, event, /, **values):
        self.events.append((event, values))


async def at_once(step):
    return step()


def test_what_became_of_a_step_is_told(office, tmp_path):
    post(office, 1)
    told = Told()
    asyncio.run(publisher(office, tmp_path / "heads").run(at_once, told, NOW))
    ((event, values),) = told.events
    assert event == "head-published"
    assert values["entries"] == 1
    assert values["root"] == office.store.root(0, 1).hex()


def test_a_failure_is_told_and_is_no_end(office, tmp_path):
    post(office, 1)
    (tmp_path / "heads").write_text("in the way")
    told = Told()
    asyncio.run(publisher(office, tmp_path / "heads").run(at_once, told, NOW))
    broken = HeadPublisher(None, Author("bus", office.signer), None)
    asyncio.run(broken.run(at_once, told, NOW))
    assert [(event, values["code"]) for event, values in told.events] == [
        ("head-failed", "store-unavailable"), ("head-failed", "internal-error"),
    ]  # fmt: skip


def test_heads_are_kept_beside_the_log_and_change_nothing_in_it(office):
    post(office, 1)
    with sqlite3.connect(office.path) as connection:
        tables = [f"SELECT * FROM {name}" for name in ("entry", "log_node", "interval_block", "partition")]
        before = [connection.execute(table).fetchall() for table in tables]
        publisher(office).step(NOW)
        assert [connection.execute(table).fetchall() for table in tables] == before
