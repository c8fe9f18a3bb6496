"""Controls in the log: a changed one is found by `log check`, and a proof of one is checked without the store."""

from __future__ import annotations

import shutil

import pytest
from cryptography import x509
from gridpost.server.commands.verify import IndependentAuthority, verify
from gridpost.server.controls.follower import Follower
from gridpost.server.identity import pem_of
from gridpost.server.log_walk import read_exhibit

from gridpost import control_messages, exchange, proof, testing
from gridpost.controls import ACTIONS, OUTCOME_EVENT, Control, NewControl, State, Wanted, mrid_of
from gridpost.model import EndDeviceEvent, Entry, Header, Position, Receipt, Rows
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


def obey(office, signer):
    """IED1 fetches the first control, sealed, and its signed word that it is done is followed."""

    def seal(control):
        return exchange.seal(control_messages.encode_control(control, "bus", office.now), office.signer, office.now)

    assert office.store.fetch([("IED1", 0)], seal, office.now).result(30)["IED1"] is not None
    office.now += 1_000
    follower = Follower(office.store, "bus", 7200)
    for number, outcome in enumerate(("accepted", "done")):
        details = {"control": "0-0-0", "counter": "1", "outcome": outcome}
        event = EndDeviceEvent(f"e{number}", OUTCOME_EVENT, office.now, "IED1", "", "", details)
        message = testing.events_message("IED1", f"o{number}", [event], office.now)
        assert office.receive(testing.sealed(message, signer, office.now)).status == 200
        office.now += 1_000
    assert len(follower.step(office.now).steps) == 2


@pytest.fixture(scope="module")
def desk(open_office, tmp_path_factory):
    """A log of an office's commands: signed by it, and sealed by the bus for one that came by password."""
    office = open_office(tmp_path_factory.mktemp("desk"))
    device = office.enrol("IED1", [testing.channel(1, "M1")])
    office.enrol("IED2", [testing.channel(1, "M2")])
    office.store.add_partner(Partner("U1", "North Grid", Role.UTILITY, "north"))
    signer = testing.ThrowawayCA("somebody else's").issue_device("North Grid's machine")
    office.store.add_partner_certificate("U1", signer.certificate, "signature")
    reduce = wanted("t1", "reduce", targets=("IED1",), value="12.50", unit="kW", output="load 1", priority=0)
    group = wanted("t2", "shed", targets=(), group="east", not_before_utc_ms=7_000, need_by_utc_ms=8_000, reason='"x"')
    issue(office, signer, "m1", [(reduce, "IED1", ""), (group, "IED1", "east"), (group, "IED2", "east")])
    issue(office, office.signer, "m2", [(reduce, "IED1", "")], "office-username")
    obey(office, device)
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
    assert result.partitions[0].entries == 4


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
    # What hangs on the row (where it stands, what was sealed of it) no longer fits it either.
    hanging = {(code, path) for code, path in found if code == "control-changed" and path.endswith(f" 0:0:{line}")}
    assert found <= named | hanging


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


@pytest.mark.parametrize(
    ("statement", "path"),
    [
        ("UPDATE control_now SET state = 'failed' WHERE seq = 0 AND line = 0", "control_now 0:0:0"),
        ("UPDATE control_now SET state = 'canceled' WHERE seq = 1", "control_now 0:1:0"),
        ("UPDATE control_now SET steps = 2 WHERE seq = 1", "control_now 0:1:0"),
        ("UPDATE control_now SET target = 'IED2' WHERE seq = 1", "control_now 0:1:0"),
        ("UPDATE control_now SET priority = 9 WHERE seq = 1", "control_now 0:1:0"),
        ("UPDATE control_now SET not_before_utc_ms = 1 WHERE seq = 1", "control_now 0:1:0"),
        ("UPDATE control_now SET expires_utc_ms = 1 WHERE seq = 1", "control_now 0:1:0"),
        ("UPDATE control_now SET released_at_utc_ms = NULL WHERE seq = 1", "control_now 0:1:0"),
        ("UPDATE control_now SET closed_at_utc_ms = NULL WHERE seq = 0 AND line = 0", "control_now 0:0:0"),
        ("UPDATE control_now SET steps = 'many' WHERE seq = 1", "control_now 0:1:0"),
        ("DELETE FROM control_now WHERE seq = 1", "control_now 0:1:0"),
        ("UPDATE control_now SET line = 7 WHERE seq = 1", "control_now 0:1:7"),
        ("DELETE FROM control_step WHERE seq = 0 AND line = 0 AND number = 2", "control_step 0:0:0"),
        ("DELETE FROM control_step WHERE seq = 1", "control_step 0:1:0"),
        ("UPDATE control_step SET seq = 9 WHERE seq = 1", "control_step 0:9:0"),
        ("UPDATE control_step SET at_utc_ms = 1 WHERE number = 0 AND seq = 1", "control_step 0:1:0"),
        ("UPDATE control_step SET state = 'proposed' WHERE seq = 1", "control_step 0:1:0"),
        ("UPDATE control_step SET state = 'failed' WHERE number = 3", "control_step 0:0:0"),
        ("UPDATE control_step SET state = 'melted' WHERE number = 3", "control_step 0:0:0"),
        ("UPDATE control_step SET at_utc_ms = at_utc_ms + 1 WHERE number = 3", "control_step 0:0:0"),
        ("UPDATE control_step SET by_whom = 'Eve' WHERE number = 3", "control_step 0:0:0"),
        ("UPDATE control_step SET state = 'expired' WHERE number = 1", "control_sealed 0:0:0"),
        ("UPDATE control_sealed SET counter = 2", "control_sealed 0:0:0"),
        ("UPDATE control_sealed SET target = 'IED2'", "control_sealed 0:0:0"),
        ("UPDATE control_sealed SET at_utc_ms = 1", "control_sealed 0:0:0"),
        ("UPDATE control_sealed SET line = 1", "control_sealed 0:0:1"),
        ("DELETE FROM control_sealed", "control_sealed 0:0:0"),
        ("UPDATE control_counter SET counter = 0 WHERE target = 'IED1'", "control_counter IED1"),
        ("UPDATE control_counter SET counter = 5 WHERE target = 'IED2'", "control_counter IED2"),
        ("DELETE FROM control_counter WHERE target = 'IED1'", "control_counter IED1"),
    ],
)
def test_what_is_done_to_a_controls_life_is_found(copied, statement, path):
    copied.sql(statement)
    found = copied.check().findings
    assert {one.path for one in found} & {path}, found
    assert {one.code for one in found} <= {"control-changed", "row-without-entry"}


def test_a_step_and_where_it_stands_rewritten_together_are_found_by_the_devices_own_word(copied):
    copied.sql("UPDATE control_step SET state = 'failed' WHERE number = 3")
    copied.sql("UPDATE control_now SET state = 'failed' WHERE seq = 0 AND line = 0")
    (found,) = copied.check().findings
    assert (found.path, found.reason) == ("control_step 0:0:0", "step 3: IED1 never said failed at that moment")


@pytest.mark.parametrize("changed", ["shed", "digit"])
def test_what_the_device_was_given_is_what_the_bus_signed(copied, changed):
    (row,) = copied.sql("SELECT sealed FROM control_sealed")
    if changed == "digit":
        forged = row[0].replace(b">12.50<", b">12.51<")
    else:  # the bus signed it, but of another control
        forged = copied.sql("SELECT receipt FROM entry WHERE seq = 0")[0][0]
    assert forged != row[0]
    copied.sql("UPDATE control_sealed SET sealed = ?", forged)
    (found,) = copied.check().findings
    assert (found.code, found.path) == ("control-changed", "control_sealed 0:0:0")


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
