"""`gridpost proof` of bills as they are really made: corrected, under a ratchet, of a supplier's own tariff."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from decimal import Decimal

import pytest
from billing_office import APRIL, EDITED, ESTIMATED, HOUR, MARCH, MAY, PLAIN, flat
from gridpost.server.commands import proof, verify
from gridpost.server.commands.log_proofs import Source
from gridpost.server.heads import Author, sign_head
from gridpost.server.identity import pem_of, trust_of
from gridpost.server.receipts import Recorded, receipt_maker, seal_answer

from gridpost import bill_check, bill_document, contract, exchange, messages, testing
from gridpost.applications.determinants import Peak
from gridpost.bill_proof import BillVerifier
from gridpost.controls import Role
from gridpost.errors import NotFound, StoreUnavailable
from gridpost.model import Entry, Header, Position, Rows
from gridpost.office_messages import encode_ok_reply, reply_to
from gridpost.partners import Partner
from gridpost.supply import CreateTariff
from gridpost.supply_messages import documents_of
from gridpost.tariff import FlatDemand, Minimum, Ratchet, Tier


@pytest.fixture
def proved(tmp_path):
    """Proves a bill and verifies the proof by the other library; returns the verdict."""

    def prove(office, bill):
        post = office.post
        sign_head(office.store, Author("bus", post.signer), 0, post.now)
        ca = post.ca.certificate
        made = proof.prove(Source(None, office.store, trust_of(ca), pem_of(ca)), bill).lines
        file = tmp_path / "bill.proof"
        file.write_bytes(b"".join(made))
        return verify.verify(file, [pem_of(ca)], lambda _: None)

    return prove


def test_a_bill_proves(ready, proved):
    ready.bill()
    verdict = proved(ready, "C1-2026-03")
    assert verdict.items == ()
    # 31 days of 24 hours, 1.5 kWh at 0.10: 111.60; tariff, contract, five messages, the bill.
    assert (verdict.states["total"], verdict.states["intervals"]) == ("111.60 EUR", "744 of 744, 0 estimated")
    assert verdict.states["entries"] == 8


def test_a_partial_bill_and_an_estimated_one_prove_what_they_lack(office, proved):
    office.add(flat())
    office.sign()
    office.month(but=(MARCH + 5 * HOUR, MARCH + 9 * HOUR))
    office.send(MARCH + 9 * HOUR, ["1.5"], ESTIMATED)
    office.bill(allow=["partial", "estimated"])
    verdict = proved(office, "C1-2026-03")
    assert (verdict.items, verdict.states["intervals"]) == ((), "743 of 744, 1 estimated")


def test_a_correction_proves_and_the_bill_before_it_still_does(ready, proved):
    ready.bill()
    for value, number in (("3.5", 1), ("4.5", 2)):  # a second correction stands on the first
        ready.send(MARCH + 20 * HOUR, [value], EDITED)
        done = ready.correct()
        assert done["changed"]
        assert len(done["documents"]) == 2
        for name in ("C1-2026-03", *done["documents"]):
            verdict = proved(ready, name)
            assert (verdict.items, verdict.states["bill"]) == ((), name), number


def test_what_was_taken_back_when_a_contract_ended_proves(ready, proved):
    """Ten days of March at 24 x 1.5 x 0.10 = 3.60 EUR are left, and nothing of April."""
    ready.month(APRIL, MAY)
    ready.bill()
    ready.bill(begins=APRIL, ends=MAY, name="C1-2026-04")
    ready.add(flat(id="T2"))
    ready.sign(replace(PLAIN, tariff="T2"))  # at another tariff by then, of the same price
    ready.do("contract-end", contract="C1", to_utc=MARCH + 240 * HOUR, reason="moved")
    ready.correct()
    ready.correct("C1-2026-04")
    totals = {"C1-2026-03.r1": "-111.60", "C1-2026-03.2": "36.00", "C1-2026-04.r1": "-108.00", "C1-2026-04.2": "0"}
    for name, total in totals.items():
        verdict = proved(ready, name)
        assert (verdict.items, verdict.states["total"]) == ((), f"{total} EUR"), name
    for name in ("C1-2026-03.r1", "C1-2026-03.2"):
        assert proved(ready, name).states["intervals"] == "240 of 240, 0 estimated"


def test_a_ratchet_and_a_yearly_minimum_prove_with_the_bills_before(office, proved):
    peak = FlatDemand((0,) * 12, ((Tier(Decimal(2), unit="kW"),),))
    ratchet = Ratchet((Decimal("0.8"),) * 12)
    office.add(flat(flat=peak, ratchet=ratchet, minimum=(Minimum(Decimal(10), "year"),)))
    office.sign()
    office.month(value="10")
    office.month(APRIL, MAY, "1")
    office.bill()
    office.bill(begins=APRIL, ends=MAY, name="C1-2026-04")
    verdict = proved(office, "C1-2026-04")
    assert verdict.items == ()
    # 720 kWh at 0.10, and 0.8 of March's 10 kW at 2: 72 + 16; its proof holds March's bill besides.
    assert verdict.states["total"] == "88.00 EUR"
    assert verdict.states["entries"] == 1 + 1 + 5 + 1 + 1


def test_a_tariff_that_changes_within_the_cycle_proves(ready, proved):
    ready.add(flat("0.20", valid_from_utc=MARCH + 24 * HOUR))
    ready.bill()
    assert proved(ready, "C1-2026-03").items == ()


def test_no_proof_is_made_of_what_does_not_hold(ready, proved):
    ready.bill()
    with pytest.raises(NotFound):
        proved(ready, "C1-2026-04")
    with sqlite3.connect(ready.post.path) as store:
        store.execute("UPDATE document SET content = replace(content, '1.5', '1.6') WHERE kind = 'bill'")
        store.execute("UPDATE entry SET evidence = NULL WHERE seq = 3")
    with pytest.raises(StoreUnavailable) as told:
        proved(ready, "C1-2026-03")
    assert "evidence-missing" in [item.code for item in told.value.items]


def offered(office, tariff):
    """A supplier's own signed message, recorded as the office's door does; the supplier's CA is nobody's here."""
    post = office.post
    signer = testing.ThrowawayCA("The supplier's").issue_device("S1's machine")
    post.store.add_partner(Partner("S1", "Sun", Role.SUPPLIER, "north"))
    post.store.add_partner_certificate("S1", signer.certificate, "signature")
    message = CreateTariff(Header("create", "Tariff", post.now, "S1", "offer"), tariff)
    payload = messages.encode(message)
    raw = exchange.seal(payload, signer, post.now)
    digest = exchange.content_digest(payload)
    entry = Entry("S1", "offer", "Tariff", "office", digest, post.now, None, "", raw)

    def answer(receipt):
        reply = encode_ok_reply("Tariff", reply_to(message.header, "bus", receipt.recorded_at_utc_ms), receipt)
        return seal_answer(post.signer, reply, receipt.recorded_at_utc_ms)

    recorded = Recorded("offer", "S1", digest, ())
    post.store.record(entry, Rows(documents=documents_of(message)), receipt_maker(recorded, answer)).result(30)


def test_a_suppliers_own_tariff_proves_and_its_signer_is_told(office, proved):
    offered(office, flat())
    office.sign()
    office.month()
    office.bill()
    verdict = proved(office, "C1-2026-03")
    assert verdict.items == ()
    assert verdict.states["known_to_the_bus_alone"].startswith("CN=S1's machine sha256:")


# --- other bills -----------------------------------------------------------------------------------------------------


@pytest.fixture
def april(office):
    """April's bill, of 80 per cent of March's demand at the least: where it stands, and the entries of its proof."""
    peak = FlatDemand((0,) * 12, ((Tier(Decimal(2), unit="kW"),),))
    office.add(flat(flat=peak, ratchet=Ratchet((Decimal("0.8"),) * 12)))
    office.sign()
    office.month(value="10")
    office.month(APRIL, MAY, "1")
    office.bill()
    office.bill(begins=APRIL, ends=MAY, name="C1-2026-04")
    return witnessed(office, "C1-2026-04")


def witnessed(office, bill):
    """Where a bill stands, and the entries of its proof."""
    post = office.post
    sign_head(office.store, Author("bus", post.signer), 0, post.now)
    ca = post.ca.certificate
    lines = proof.prove(Source(None, office.store, trust_of(ca), pem_of(ca)), bill).lines
    verifier = BillVerifier([pem_of(ca)], verify.BillAuthority)
    verifier.run(lines)
    return Position(0, json.loads(lines[0])["entry"][1]), verifier.witnessed


def without(april, **changes):
    """The findings when March's bill said something else: only that, its signature is not asked here."""
    at, entries = april
    march = bill_document.decode(entries[at].rows.documents[0].content).grounds.earlier[0].entry
    (row,) = entries[march].rows.documents
    document = bill_document.decode(row.content)
    bill = {name: changes[name] for name in changes if name != "peak"}
    other = replace(document, bill=replace(document.bill, **bill), peak=changes.get("peak", document.peak))
    rows = entries[march].rows._replace(documents=[row._replace(content=bill_document.encode(other))])
    items = bill_check.check(at, {**entries, march: entries[march]._replace(rows=rows)})[1]
    return {(item.code, item.path) for item in items}, f"entry 0:{march.seq}"


def test_what_an_earlier_bill_measured_decides_a_ratchet(april):
    assert bill_check.check(*april)[1] == []
    found, _ = without(april, peak=Peak(Decimal("9"), APRIL))
    # The energy, the demand: 0.8 of it is billed.
    places = {"bill lines/1/quantity", "bill lines/1/amount", "bill total"}
    assert found == {("bill-wrong", place) for place in places}


def test_an_earlier_bill_is_of_the_same_contract_and_supplier(april):
    basis = bill_document.decode(april[1][april[0]].rows.documents[0].content).bill.basis
    for change in ({"basis": replace(basis, contract="C9")}, {"tariffs": (("S9", "T1"),)}):
        found, march = without(april, **change)
        assert found == {("bill-changed", march)}


def test_every_bill_is_sealed_by_the_bus(april):
    at, entries = april
    for seq in [one for one in entries if any(row.kind == "bill" for row in entries[one].rows.documents)]:
        items = bill_check.check(at, {**entries, seq: entries[seq]._replace(by_bus=False)})[1]
        assert [(item.code, item.path) for item in items] == [("bill-changed", f"entry 0:{seq.seq}")]


@pytest.mark.parametrize("name", ["C1-2026-03.r1", "C1-2026-03.2", "C1-2026-04.r1", "C1-2026-04.2"])
@pytest.mark.parametrize("ended", [MARCH + 239 * HOUR, APRIL + 1, None])
def test_a_correction_bills_all_that_the_contract_leaves_and_no_more(name, ended, ready):
    ready.month(APRIL, MAY)
    ready.bill()
    ready.bill(begins=APRIL, ends=MAY, name="C1-2026-04")
    ready.do("contract-end", contract="C1", to_utc=MARCH + 240 * HOUR, reason="moved")
    ready.correct(name.partition(".")[0])
    at, entries = witnessed(ready, name)
    assert bill_check.check(at, entries)[1] == []
    agreed = bill_document.decode(entries[at].rows.documents[0].content).grounds.contract
    (row,) = entries[agreed].rows.documents
    content = contract.encode(replace(contract.decode(row.content), to_utc=ended))
    rows = entries[agreed].rows._replace(documents=[row._replace(content=content)])
    items = bill_check.check(at, {**entries, agreed: entries[agreed]._replace(rows=rows)})[1]
    # Nothing is billed of April by a contract that ends before it, whenever that is.
    is_right = "04" in name and ended == MARCH + 239 * HOUR
    wrong = [] if is_right else [("bill-changed", f"entry 0:{agreed.seq} period")]
    assert [(item.code, item.path) for item in items] == wrong


def test_a_correction_stands_on_the_bill_itself(ready):
    """A replacement that is shorter than the bill must not pass for it: then a shorter time would be all there is."""
    ready.bill()
    ready.do("contract-end", contract="C1", to_utc=MARCH + 240 * HOUR, reason="moved")
    ready.correct()
    ready.sign()
    ready.correct()
    at, entries = witnessed(ready, "C1-2026-03.3")
    assert bill_check.check(at, entries)[1] == []
    (row,) = entries[at].rows.documents
    document = bill_document.decode(row.content)
    for corrects in (document.grounds.corrects[2:], document.grounds.corrects[:2]):
        grounds = replace(document.grounds, corrects=corrects)
        content = bill_document.encode(replace(document, grounds=grounds))
        rows = entries[at].rows._replace(documents=[row._replace(content=content)])
        items = bill_check.check(at, {**entries, at: entries[at]._replace(rows=rows)})[1]
        assert ("bill-changed", "bill grounds/corrects") in {(item.code, item.path) for item in items}
