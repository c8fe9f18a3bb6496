"""Controls in the log: a changed one is found by `log check`, and a proof of one is checked without the store."""

from __future__ import annotations

import shutil

import pytest
from cryptography import x509
from gridpost.server.commands.verify import IndependentAuthority, verify
from gridpost.server.identity import pem_of
from gridpost.server.log_walk import read_exhibit

from gridpost import control_messages, exchange, proof, testing
from gridpost.controls import ACTIONS, Control, NewControl, State, Wanted, mrid_of
from gridpost.model import Entry, Header, Position, Receipt, Rows
from gridpost.office_messages import reply_to
from gridpost.partners import Partner, Role

EXPIRES = 1_900_000_000_000


def wanted(mrid, action, **fields):
    return Wanted(mrid, action, **({"expires_utc_ms": EXPIRES, "data": (("b", "1"), ("a", "é"))} | fields))


def control_of(one, target):
    same = {name: value for name, value in one._asdict().items() if name in Control._fields and name != "mrid"}
    return Control(mrid="", issuer="U1", role="utility", tracking_id=one.mrid, target=target, **same)


def issue(office, signer, message_id, asked, transport="office"):
    """Record what an office asked for as the office's side does: evidence, controls, an answer around the receipt."""
    header = Header("create", "EndDeviceControls", office.now, "U1", message_id)
    payload = control_messages.encode_create_controls(header, list(dict.fromkeys(one for one, _, _ in asked)))
    raw = exchange.seal(payload, signer, office.now)
    digest = exchange.content_digest(payload)
    entry = Entry("U1", message_id, "EndDeviceControls", transport, digest, office.now, None, "", raw)
    new = tuple(NewControl(control_of(*one[:2]), State.WAITING, "U1", "", one[2]) for one in asked)

    def make_receipt(position, root, at, counts):
        receipt = Receipt(message_id, "U1", digest, (), at, position, root, counts)
        told = [(one.control._replace(mrid=mrid_of(*position, line)), one.state) for line, one in enumerate(new)]
        reply = control_messages.encode_controls_reply(reply_to(header, "bus", at), told, receipt)
        return exchange.seal(reply, office.signer, at)

    office.store.record(entry, Rows(controls=new), make_receipt).result(30)
    office.now += 60_000


@pytest.fixture(scope="module")
def desk(open_office, tmp_path_factory):
    """A log of an office's commands: signed by it, and sealed by the bus for one that came by password."""
    office = open_office(tmp_path_factory.mktemp("desk"))
    office.enrol("IED1", [testing.channel(1, "M1")])
    office.enrol("IED2", [testing.channel(1, "M2")])
    office.store.add_partner(Partner("U1", "North Grid", Role.UTILITY, "north"))
    signer = testing.ThrowawayCA("somebody else's").issue_device("North Grid's machine")
    office.store.add_partner_certificate("U1", signer.certificate, "signature")
    reduce = wanted("t1", "reduce", targets=("IED1",), value="12.50", unit="kW", output="load 1", priority=0)
    group = wanted("t2", "shed", targets=(), group="east", not_before_utc_ms=7_000, need_by_utc_ms=8_000, reason='"x"')
    issue(office, signer, "m1", [(reduce, "IED1", ""), (group, "IED1", "east"), (group, "IED2", "east")])
    issue(office, office.signer, "m2", [(reduce, "IED1", "")], "office-username")
    yield office, signer
    office.store.close()


@pytest.fixture
def copied(desk, tampered):
    """The desk's log in the place of the book's, for the tools that tamper with it."""
    office, _ = desk
    office.store.close()
    shutil.copy(office.path, tampered.path)
    office.reopen()
    tampered.book = type(tampered.book)(office)
    return tampered


def test_a_log_of_commands_is_found_untouched(copied):
    result = copied.check()
    assert result.findings == []
    assert result.partitions[0].entries == 2


CHANGES = {
    "issuer": "U2", "role": "operator", "tracking_id": "t9", "action": "restore", "target": "IED9", "output": "load 2",
    "value": "12.5", "unit": "W", "not_before_utc_ms": 1, "expires_utc_ms": EXPIRES + 1, "need_by_utc_ms": 1,
    "priority": 1, "reason": "y", "group_name": "west", "data": '[["b","1"],["a","e"]]', "state": "held",
}  # fmt: skip


@pytest.mark.parametrize(
    ("column", "line"),
    [*((column, 0) for column in CHANGES), *((column, 1) for column in ("target", "group_name", "state"))],
)
def test_a_changed_column_of_a_control_is_found(copied, column, line):
    copied.sql(f"UPDATE control SET {column} = ? WHERE seq = 0 AND line = ?", CHANGES[column], line)
    found = {(one.code, one.path) for one in copied.check().findings}
    # What the message does not say (the role, how it began) is still in the leaf.
    named = {("rows-changed", f"control 0:0:{line}"), ("rows-changed", "entry 0:0 rows_sha256")}
    assert found & named
    assert found <= named


@pytest.mark.parametrize(
    ("statement", "path"),
    [
        ("DELETE FROM control WHERE seq = 0 AND line = 2", "entry 0:0 rows"),
        ("UPDATE control SET seq = 5 WHERE seq = 1", "control 0:5:0"),
        ("UPDATE control SET data = 'x' WHERE seq = 1", "control 0:1:0"),
        ("UPDATE control SET priority = 'high' WHERE seq = 1", "control 0:1:0"),
        ("UPDATE entry SET transport = 'http' WHERE seq = 1", "entry 0:1 sender"),
        ("UPDATE partner_certificate SET partner = 'U2'", "entry 0:0 sender"),
        ("UPDATE partner_certificate SET der = x'00'", "partner_certificate"),
        ("DELETE FROM partner_certificate", "entry 0:0 evidence"),
    ],
)
def test_what_else_is_done_to_commands_is_found(copied, statement, path):
    copied.sql(statement)
    assert any(one.path.startswith(path) for one in copied.check().findings)


def test_a_proof_of_commands_is_checked_with_the_offices_certificate(desk):
    office, signer = desk
    lines = []
    for one in office.store.entries_on_file(0, 0):
        kept, items = read_exhibit(one)
        assert items == []
        lines.append(proof.render_entry(kept, ()))
    assert b'"kind\\":\\"control\\",\\"line\\":2' in lines[0]
    trusted = pem_of(office.ca.certificate) + pem_of(x509.load_der_x509_certificate(signer.certificate))
    for line, pem, codes in (
        (lines[0], trusted, set()),
        (lines[1], trusted, set()),
        (lines[1], pem_of(office.ca.certificate), set()),
        (lines[0], pem_of(office.ca.certificate), {"evidence-changed"}),
        (lines[0].replace(b'\\"load 1\\"', b'\\"load 2\\"'), trusted, {"rows-changed"}),
    ):
        kept = proof._exhibit(proof._read(line))
        found = proof.examine(kept, IndependentAuthority(pem)).items
        assert {item.code for item in found} == codes, found


def test_an_offices_message_is_verified_by_its_certificate(desk, tmp_path):
    office, signer = desk
    message = tmp_path / "message.xml"
    message.write_bytes(office.store.evidence(Position(0, 0)))
    pem = pem_of(x509.load_der_x509_certificate(signer.certificate))
    held = verify(message, [pem_of(office.ca.certificate), pem], lambda _count: None)
    assert (held.items, held.states["sender"]) == ((), "U1")
    assert verify(message, [pem_of(office.ca.certificate)], lambda _count: None).items != ()


def test_an_answer_that_tells_controls_is_a_receipt_too(desk):
    office, _ = desk
    opened = exchange.open_answer(office.store.find("U1", "m1").receipt, exchange.Trust(office.ca.der))
    assert opened.receipt is not None
    assert (opened.receipt.message_id, opened.receipt.counts.stored) == ("m1", 3)
    assert ACTIONS["shed"].code.encode() in office.store.find("U1", "m1").receipt
