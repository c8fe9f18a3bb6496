"""Bills of a real store: made once, refused with the place, corrected by late data, the same when asked again."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from decimal import Decimal

import pytest
from billing_office import APRIL, DAY, EDITED, ESTIMATED, HOUR, MARCH, MAY, PLAIN, flat, refused
from gridpost.server import log_check, own
from gridpost.server.billing import filed, filing, making, showing
from gridpost.server.billing.grounds import cycle_of
from gridpost.server.zones import zone_of
from hypothesis import given
from hypothesis import strategies as st

from gridpost import exchange
from gridpost.applications.calendar import cycle
from gridpost.applications.determinants import Metered
from gridpost.bill_document import encode, standing
from gridpost.errors import AlreadyExists, BillRefused, ConfigInvalid, Internal, NotFound
from gridpost.model import Position
from gridpost.tariff import FlatDemand, Minimum, Ratchet, Tier


def total(office, name="C1-2026-03"):
    return standing([one.value for one in filed.family(office.store, name)]).total


def test_a_month_is_billed_to_the_cent(ready):
    """31 days x 24 h x 1.5 kWh = 1116 kWh, x 0.10 EUR = 111.60 EUR."""
    outcome = ready.bill()
    assert (outcome["bill"], outcome["total"], outcome["currency"]) == ("C1-2026-03", "111.60", "EUR")
    (one,) = filed.bills(ready.store)
    (line,) = one.value.bill.lines
    assert (line.quantity, line.price, line.amount) == (Decimal(1116), Decimal("0.10"), Decimal("111.60"))
    (channel,) = one.value.grounds.channels
    assert channel.metered.channel == "E1"
    assert channel.entries == tuple(
        Position(0, seq) for seq in range(2, 7)
    )  # behind tariff and contract: a message a week
    assert one.value.bill.basis.at == {0: 6}
    assert one.value.bill.basis.zone_rules.startswith("tzdata 20")
    assert one.value.grounds.contract == Position(0, 1)
    assert [part.entry for part in one.value.grounds.parts] == [Position(0, 0)]


def test_a_bill_is_made_once(ready):
    ready.bill()
    assert refused(ready.bill).code == AlreadyExists.code
    assert "already" in refused(ready.bill, begins=APRIL, ends=MAY).reason  # another time, the same name
    again = refused(ready.bill, name="C1-other", begins=MARCH + DAY, ends=MARCH + 2 * DAY)
    assert again.code == AlreadyExists.code
    assert "gridpost bill correct C1-2026-03" in again.reason
    assert len(filed.bills(ready.store)) == 1


def test_missing_intervals_refuse_it_until_that_is_allowed(office):
    office.add(flat())
    office.sign()
    gap = MARCH + 5 * DAY + 7 * HOUR
    office.month(but=(gap,))
    error = refused(office.bill)
    assert error.code == BillRefused.code
    assert [item.path for item in error.items] == ["2026-03-06T07:00:00Z"]
    assert office.bill(allow=["partial"])["marks"] == ["partial"]
    assert total(office) == Decimal("111.45")  # an hour, 0.15 EUR, less


def test_estimates_refuse_it_until_that_is_allowed(office):
    office.add(flat())
    office.sign()
    gap = MARCH + 5 * DAY + 7 * HOUR
    office.month(but=(gap,))
    office.send(gap, ["2.5"], ESTIMATED)
    assert refused(office.bill).items[0].code == "interval-estimated"
    assert office.bill(allow=["estimated"])["marks"] == ["estimated"]
    assert total(office) == Decimal("111.70")  # 2.5 instead of 1.5 kWh: 0.10 EUR more


def test_late_data_reverse_what_was_wrong_and_nothing_else(ready):
    ready.bill()
    ready.send(MARCH + HOUR, ["11.5"], EDITED)  # 10 kWh more: 1.00 EUR
    outcome = ready.correct()
    assert outcome["documents"] == ["C1-2026-03.r1", "C1-2026-03.2"]
    assert (outcome["changed"], outcome["total"]) == (True, "112.60")
    bill, reversal, new = (one.value for one in filed.family(ready.store, "C1-2026-03"))
    assert (bill.kind, reversal.kind, new.kind) == ("bill", "reversal", "replacement")
    assert [one.bill.total for one in (bill, reversal, new)] == [
        Decimal("111.60"),
        Decimal("-111.60"),
        Decimal("112.60"),
    ]
    assert reversal.grounds.corrects == new.grounds.corrects
    assert ready.correct()["changed"] is False
    ready.send(MARCH + 2 * HOUR, ["21.5"], EDITED)
    assert ready.correct("C1-2026-03.2")["documents"] == ["C1-2026-03.r2", "C1-2026-03.3"]
    assert total(ready) == Decimal("114.60")
    assert len(filed.family(ready.store, "C1-2026-03.r1")) == 5


def test_a_correction_that_let_estimates_count_lets_the_next_one_count_them(ready):
    ready.bill()
    ready.send(MARCH + HOUR, ["2.5"], EDITED)
    ready.correct(allow=["estimated"])
    assert filed.bill(ready.store, "C1-2026-03.2").value.bill.basis.allow == {"estimated"}
    assert ready.correct()["changed"] is False
    ready.send(MARCH + 2 * HOUR, ["2.5"], EDITED)
    ready.correct()
    assert filed.bill(ready.store, "C1-2026-03.3").value.bill.basis.allow == {"estimated"}


def test_a_bill_without_news_says_so_and_leaves_nothing(ready):
    ready.bill()
    before = ready.store.version()
    assert ready.correct() == {"changed": False, "bill": "C1-2026-03"}
    assert ready.store.version() == before


def test_a_partial_bill_is_made_whole_by_what_comes_late(office):
    office.add(flat())
    office.sign()
    gap = MARCH + 5 * DAY + 7 * HOUR
    office.month(but=(gap,))
    office.bill(allow=["partial"])
    office.send(gap, ["1.5"])
    outcome = office.correct()
    assert (outcome["total"], outcome["marks"]) == ("111.60", [])


def test_asked_again_it_answers_what_was_billed(ready):
    ready.bill()
    ready.send(MARCH + HOUR, ["11.5"], EDITED)
    ready.add(flat("0.20"))
    ready.correct()
    for name in ("C1-2026-03", "C1-2026-03.r1", "C1-2026-03.2"):
        kept, new = making.again(ready.store, name)
        assert encode(new) == encode(kept)
    assert total(ready) == Decimal("225.20")  # 1126 kWh x 0.20: the tariff was corrected too


def test_a_store_that_was_changed_cannot_answer_the_same(ready):
    ready.bill()
    with sqlite3.connect(ready.post.path) as beside:
        beside.execute("UPDATE interval_block SET outcome = 'conflict' WHERE seq = 5")
    with pytest.raises(Internal, match="E1"):
        making.again(ready.store, "C1-2026-03")


def test_a_task_done_again_after_a_crash_makes_no_second_bill(ready):
    args = {"id": "C1-2026-03", "contract": "C1", "from_utc": MARCH, "to_utc": APRIL, "allow": []}
    first = making.make(ready.bench, args, "Ada", "task-x")
    assert making.make(ready.bench, args, "Ada", "task-x") == first
    ready.send(MARCH + HOUR, ["11.5"], EDITED)
    asked = {"bill": "C1-2026-03", "allow": []}
    whole = making.correct(ready.bench, asked, "Ada", "task-y")
    assert making.correct(ready.bench, asked, "Ada", "task-y") == whole
    assert len(filed.bills(ready.store)) == 3


def test_a_correction_cut_in_two_by_a_crash_is_finished_from_the_same(ready, monkeypatch):
    ready.bill()
    ready.send(MARCH + HOUR, ["11.5"], EDITED)
    record, asked = own.record_documents, {"bill": "C1-2026-03", "allow": []}

    def dies(bench, message_id, person, documents):
        if message_id.endswith("/2"):
            raise KeyboardInterrupt
        return record(bench, message_id, person, documents)

    monkeypatch.setattr(own, "record_documents", dies)
    with pytest.raises(KeyboardInterrupt):
        making.correct(ready.bench, asked, "Ada", "task-y")
    monkeypatch.undo()
    ready.send(MARCH + 2 * HOUR, ["99.5"], EDITED)  # too late for this one
    outcome = making.correct(ready.bench, asked, "Ada", "task-y")
    assert (outcome["total"], outcome["documents"]) == ("112.60", ["C1-2026-03.r1", "C1-2026-03.2"])
    assert [one.value.kind for one in filed.bills(ready.store)] == ["bill", "reversal", "replacement"]
    assert ready.correct()["total"] == "122.40"  # 112.60 + 98 kWh x 0.10


def test_contracts_of_one_id_with_two_suppliers_are_billed_each_by_itself(ready):
    """As suppliers make them at the office's door, where nobody sees another's ids."""
    theirs = replace(PLAIN, supplier="S2", channels=(Metered("E1"),))
    assert filed.bill_name(ready.store, PLAIN, "2026-03") == "C1-2026-03"
    own.record_documents(ready.bench, "s2", "S2", [filing.contract_document(theirs)])
    ready.add(flat("0.20", supplier="S2"))
    assert refused(ready.bill).code == ConfigInvalid.code
    assert ready.bill("S1/C1")["total"] == "111.60"
    name = filed.bill_name(ready.store, theirs, "2026-03")
    assert (name, ready.bill("S2/C1", name=name)["total"]) == ("S2/C1-2026-03", "223.20")
    ready.send(MARCH + HOUR, ["11.5"], EDITED)
    assert ready.correct(name)["total"] == "225.20"
    assert ready.correct()["total"] == "112.60"
    assert len(filed.bills_of(ready.store, theirs)) == 3


# --- tariffs and contracts over the period ---------------------------------------------------------------------------


def test_a_tariff_that_changes_within_the_cycle_is_billed_in_two_parts(ready):
    """15 days at 0.10 (360 h x 1.5 x 0.10 = 54.00), 16 at 0.20 (384 x 1.5 x 0.20 = 115.20)."""
    middle = MARCH + 15 * DAY
    ready.add(flat("0.20", valid_from_utc=middle))
    ready.bill()
    (one,) = filed.bills(ready.store)
    assert [line.amount for line in one.value.bill.lines] == [Decimal("54.00"), Decimal("115.20")]
    assert [(part.from_utc, part.to_utc) for part in one.value.grounds.parts] == [(MARCH, middle), (middle, APRIL)]
    assert sum(part.share for part in one.value.grounds.parts) == 1


def test_a_period_no_version_of_the_tariff_covers_is_refused(office):
    office.add(flat(valid_from_utc=MARCH + DAY))
    office.sign()
    office.month()
    assert "not in force at 2026-03-01T00:00:00Z" in refused(office.bill).reason


@pytest.mark.parametrize(
    ("change", "begins", "ends", "told"),
    [
        ({"status": "requested"}, MARCH, APRIL, "is requested"),
        ({"from_utc": MARCH + DAY}, MARCH, APRIL, "not in force all through"),
        ({"to_utc": APRIL - DAY}, MARCH, APRIL, "not in force all through"),
        ({}, APRIL, APRIL, "holds no time"),
    ],
)
def test_only_what_the_contract_covers_is_billed(change, begins, ends, told, office):
    office.add(flat())
    office.sign(replace(PLAIN, **change))
    office.month()
    error = refused(office.bill, begins=begins, ends=ends)
    assert error.code == BillRefused.code
    assert told in error.reason


def test_a_contract_that_ends_is_billed_up_to_then(ready):
    ready.do("contract-end", contract="C1", to_utc=MARCH + 10 * DAY, reason="moved")
    assert ready.bill(ends=MARCH + 10 * DAY)["total"] == "36.00"  # 240 h x 1.5 x 0.10
    assert filed.contract(ready.store, "S1/C1").value.reason == "moved"
    error = refused(ready.do, "contract-end", contract="C1", to_utc=MARCH - DAY, reason="")
    assert [item.path for item in error.items] == ["to_utc"]


def test_a_contract_that_ended_within_a_billed_time_is_paid_up_to_then(ready):
    """240 h x 1.5 kWh x 0.10 EUR = 36.00 EUR of the 111.60; when it turns out that it never ended, all 744 h again."""
    ready.bill()
    ready.do("contract-end", contract="C1", to_utc=MARCH + 10 * DAY, reason="moved")
    outcome = ready.correct()
    assert (outcome["documents"], outcome["total"]) == (["C1-2026-03.r1", "C1-2026-03.2"], "36.00")
    reversal, replacement = (filed.bill(ready.store, name).value.bill for name in outcome["documents"])
    assert (reversal.from_utc, reversal.to_utc) == (MARCH, APRIL)
    assert (replacement.from_utc, replacement.to_utc) == (MARCH, MARCH + 10 * DAY)
    assert [one.total for one in (reversal, replacement)] == [Decimal("-111.60"), Decimal("36.00")]
    assert ready.correct() == {"changed": False, "bill": "C1-2026-03"}
    ready.sign()
    assert ready.correct()["total"] == "111.60"
    for name in ("C1-2026-03.r1", "C1-2026-03.2", "C1-2026-03.r2", "C1-2026-03.3"):
        kept, new = making.again(ready.store, name)
        assert encode(kept) == encode(new)


def test_a_contract_that_had_ended_before_a_billed_time_takes_all_of_the_bill_back(ready):
    ready.month(APRIL, MAY)
    ready.bill(begins=APRIL, ends=MAY, name="C1-2026-04")
    ready.do("contract-end", contract="C1", to_utc=MARCH + 10 * DAY, reason="moved")
    outcome = ready.correct("C1-2026-04")
    assert (outcome["documents"], outcome["total"]) == (["C1-2026-04.r1", "C1-2026-04.2"], "0")
    replacement = filed.bill(ready.store, "C1-2026-04.2").value
    assert (replacement.bill.lines, replacement.grounds.parts, replacement.grounds.channels) == ((), (), ())
    assert showing.shown(ready.store, "C1-2026-04.2")["rests_on"] == []
    assert ready.correct("C1-2026-04") == {"changed": False, "bill": "C1-2026-04"}
    for name in outcome["documents"]:
        kept, new = making.again(ready.store, name)
        assert encode(kept) == encode(new)
    ready.add(flat("0.20", id="T2"))  # meanwhile at another tariff: 240 h x 1.5 x 0.20
    ready.sign(replace(PLAIN, to_utc=APRIL + 10 * DAY, tariff="T2"))
    assert ready.correct("C1-2026-04")["total"] == "72.00"


def test_what_is_on_file_to_the_letter_is_not_filed_again(ready):
    before = ready.store.version()
    assert ready.add(flat()) == {"tariffs": ["S1/T1"], "filed": []}
    assert ready.sign()["filed"] is False
    assert ready.store.version() == before
    assert refused(ready.add, flat(id="T2"), flat(id="T2")).code == ConfigInvalid.code
    assert ready.add(flat(), flat(id="T2"))["filed"] == ["S1/T2"]


def test_a_contract_that_could_not_be_billed_is_not_filed(ready):
    wrong = [
        (replace(PLAIN, tariff="T9"), NotFound, "S1/T9"),
        (replace(PLAIN, usage_point="UP9"), NotFound, "UP9"),
        (replace(PLAIN, zone="Europe/Paris"), ConfigInvalid, "Etc/UTC"),
        (replace(PLAIN, cycle_day=0), ConfigInvalid, "cycle_day"),
    ]
    for one, error, told in wrong:
        with pytest.raises(error, match=told):
            ready.sign(one)
    ready.add(flat(supplier="S2"))
    with pytest.raises(AlreadyExists, match="S1"):
        ready.sign(replace(PLAIN, supplier="S2"))


def test_nobody_buys_the_same_of_two_at_a_time(ready):
    ready.add(flat(supplier="S2"))
    two = replace(PLAIN, id="C2", supplier="S2", from_utc=APRIL)
    error = refused(ready.sign, two)
    assert error.code == AlreadyExists.code
    assert "contract C1 of S1 sells both there at that time; end it first: gridpost contract end S1/C1" in error.reason
    assert refused(ready.sign, replace(two, kind="energy")).code == AlreadyExists.code  # a part of what S1 sells
    ready.do("contract-end", contract="C1", to_utc=APRIL, reason="moved to S2")
    assert ready.sign(two)["filed"]
    ready.sign(replace(PLAIN, id="C3", kind="energy", to_utc=MARCH, from_utc=MARCH - DAY))
    ready.sign(replace(PLAIN, id="C4", kind="distribution", to_utc=MARCH, from_utc=MARCH - DAY))
    assert refused(ready.sign, replace(PLAIN, id="C5", to_utc=None, from_utc=MARCH - HOUR)).code == AlreadyExists.code
    # The same channel by another of its names; and what is taken off is not bought.
    (named,) = ready.store.channels(usage_point="UP1")
    by_meter = replace(two, id="C6", channels=(Metered(f"{named.key.meter}/{named.key.reading_type}", "energy"),))
    assert refused(ready.sign, by_meter).code == AlreadyExists.code
    late = refused(ready.do, "contract-end", contract="C1", to_utc=MAY, reason="")
    assert (late.code, "contract C2 of S2 sells both" in late.reason) == (AlreadyExists.code, True)
    ready.do("contract-end", contract="C1", to_utc=APRIL - DAY, reason="a day earlier")
    assert ready.sign(two)["filed"] is False


def test_an_unreadable_tariff_leaves_the_one_on_file_in_force(ready):
    with pytest.raises(Exception, match="Tariff") as told:
        ready.do("tariffs", tariffs=["<Tariff xmlns='urn:gridpost:tariff:1'/>"])
    assert told.value.code == "schema-invalid"
    assert filed.tariff(ready.store, "S1/T1").value == flat()


# --- what earlier bills leave behind ---------------------------------------------------------------------------------

DEMAND = FlatDemand((0,) * 12, ((Tier(Decimal(2), unit="kW"),),))


def test_a_ratchet_looks_at_the_bills_before_and_their_corrections(office):
    """Demand 2.00 a kW; at least 80 % of the highest of the cycle before. March peaks at 10 kW, corrected to 20."""
    ratchet = Ratchet((Decimal("0.8"),) * 12, months_back=1)
    office.add(flat(flat=DEMAND, ratchet=ratchet))
    office.sign()
    office.month(but=(MARCH + HOUR,))
    office.send(MARCH + HOUR, ["10"])
    office.month(APRIL, MAY)

    def demand(name):
        bill = standing([one.value for one in filed.family(office.store, name)])
        return next(line for line in bill.lines if line.kind == "flat-demand")

    office.bill()
    assert demand("C1-2026-03").amount == 20
    office.bill(begins=APRIL, ends=MAY, name="C1-2026-04")
    assert (demand("C1-2026-04").quantity, demand("C1-2026-04").amount) == (8, 16)
    office.send(MARCH + HOUR, ["20"], EDITED)
    office.correct()
    office.correct("C1-2026-04")
    assert (demand("C1-2026-03").amount, demand("C1-2026-04").amount) == (40, 32)
    for name in ("C1-2026-04", "C1-2026-04.r1", "C1-2026-04.2"):
        kept, new = making.again(office.store, name)
        assert encode(kept) == encode(new)


def test_a_yearly_minimum_is_looked_at_when_the_year_closes(office):
    """At least 100 a year: the cycles from 17 November and 17 December come to 0.24 a day; the latter closes it."""
    november, december, january = 1_763_337_600, 1_765_929_600, 1_768_608_000  # the 17th, 00:00 UTC
    office.add(flat("0.01", minimum=(Minimum(Decimal(100), "year"),)))
    office.sign(replace(PLAIN, from_utc=november, cycle_day=17))
    office.month(november, december, "1")
    office.month(december, january, "1")
    assert office.bill(begins=november, ends=december, name="C1-2025-11")["total"] == "7.20"  # 30 x 24 x 0.01
    assert office.bill(begins=december, ends=january, name="C1-2025-12")["total"] == "92.80"  # 100 - 7.20
    lines = filed.bill(office.store, "C1-2025-12").value.bill.lines
    assert [(line.kind, line.amount) for line in lines] == [("energy", Decimal("7.44")), ("minimum", Decimal("85.36"))]


@given(st.integers(0, 2**31), st.integers(1, 28))
def test_a_moment_lies_in_the_cycle_of_its_number(moment, day):
    zone = zone_of("Europe/Paris")
    number = cycle_of(moment, zone, day)
    whole = cycle(number // 12, number % 12 + 1, zone, day)
    assert whole.from_utc <= moment < whole.to_utc


# --- showing ---------------------------------------------------------------------------------------------------------


def test_a_bill_names_entries_receipts_and_versions_behind_each_line(ready):
    ready.bill()
    shown = showing.shown(ready.store, "C1-2026-03")
    (line,) = shown["lines"]
    assert line["entries"] == [f"0:{seq}" for seq in range(2, 7)]
    assert [one["entry"] for one in shown["rests_on"]] == line["entries"]
    first = shown["rests_on"][0]
    receipt = own.read_receipt(ready.store.receipt(Position(0, 2)))
    assert (first["message_id"], first["sender"]) == (receipt.message_id, "IED-1")
    assert shown["data_version"] == {"0": 6}
    assert shown["entries"] == {"contract": "0:1", "bill": "0:7"}
    text = showing.as_text(shown)
    assert "energy period 0 tier 0: 1116.0 kWh x 0.10 = 111.60 EUR" in text
    assert f"message {receipt.message_id} of IED-1" in text
    ready.send(MARCH + HOUR, ["11.5"], EDITED)
    ready.correct()
    assert showing.shown(ready.store, "C1-2026-03")["stands"] == "112.60"
    assert "corrected by C1-2026-03.r1, C1-2026-03.2" in showing.as_text(showing.shown(ready.store, "C1-2026-03"))


def test_all_of_it_is_a_log_without_a_finding(ready):
    ready.bill()
    ready.send(MARCH + HOUR, ["11.5"], EDITED)
    ready.correct()
    keys = {one.id: one.key for one in ready.store.channels()}
    held = log_check.against(ready.store, keys, exchange.Trust(ready.post.ca.der), ready.post.now)
    result = log_check.check(ready.store, held, (), lambda _done, _of: None)
    assert result.findings == []
