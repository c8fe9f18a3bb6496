"""The document of a bill: every figure comes back as it was, and a text that is not as it is written is refused."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridpost import bill_document, canonical_json
from gridpost.applications import bills
from gridpost.applications.bills import Basis, Bill
from gridpost.applications.charges import Line, PastPeak
from gridpost.applications.determinants import Metered, Peak
from gridpost.bill_document import BILL, REPLACEMENT, REVERSAL, BillDocument, Channel, Earlier, Grounds, Part
from gridpost.errors import FileInvalid
from gridpost.model import ChannelKey, Position
from gridpost.zone_offsets import Offset

START, END = 1_772_323_200, 1_774_997_100  # 2026-03-01T00:00:00Z to 2026-03-31T22:45:00Z
SPANS = ((START, END),)
ENERGY = Line("energy", "", 0, 0, Decimal("12.500"), "kWh", Decimal("0.10"), Decimal("1.25"), SPANS)
FIXED = Line("fixed", "standing", None, None, Decimal(1), "month", Decimal("5"), Decimal("5.00"))
GROUNDS = Grounds(
    at={0: 17, 1: 3},
    contract=Position(0, 2),
    parts=(Part("S", "T-é", Position(0, 1), START, END, Decimal(1)),),
    channels=(
        Channel(
            Metered("UP1/M1", "energy", -1), 4, ChannelKey("UP1", "M1", "", "0.0.2"), "kWh", 900, (Position(0, 5),)
        ),
    ),
    offsets=(Offset(START, 3600, 0), Offset(1_774_746_000, 7200, 3600)),
    earlier=(Earlier(Position(0, 3), 1, True),),
)
DOCUMENT = BillDocument(
    BILL,
    Bill(
        Basis("C1-2026-03", "C1", {0: 17}, "tzdata 2026a", frozenset({"partial"})),
        (("S", "T-é"),), "EUR", START, END, "Europe/Paris", (ENERGY, FIXED), ("partial",), (("UP1/M1", START + 900),),
    ),
    Peak(Decimal("4.0"), START + 900),
    GROUNDS,
)  # fmt: skip
TEXT = bill_document.encode(DOCUMENT)


def test_a_document_comes_back_as_it_was_to_the_last_zero():
    again = bill_document.decode(TEXT)
    assert again == DOCUMENT
    assert str(again.bill.lines[0].quantity) == "12.500"


def test_it_is_written_as_rfc_8785_would():
    # Of texts without characters beyond the BMP, RFC 8785 is: keys sorted, no white space, nothing escaped needlessly.
    told = json.loads(TEXT)
    assert json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False) == TEXT
    assert told["total"] == "6.25"  # 1.25 + 5.00
    assert told["lines"][0]["amount"] == "1.25"


CHANGES = [
    (lambda it: it["lines"][1].update(amount=5), "lines/1/amount"),
    (lambda it: it["lines"][1].update(amount="5,00"), "lines/1/amount"),
    (lambda it: it["lines"][1].update(amount="1e3"), "lines/1/amount"),
    (lambda it: it["lines"][1].update(amount="NaN"), "lines/1/amount"),
    (lambda it: it["lines"][0].pop("price"), "lines/0"),
    (lambda it: it["lines"][0].update(spans=[[1]]), "lines/0/spans/0"),
    (lambda it: it.update(total="6.26"), "total"),
    (lambda it: it.update(version=2), "version"),
    (lambda it: it.update(from_utc=True), "from_utc"),
    (lambda it: it.update(from_utc=1 << 70), "from_utc"),
    (lambda it: it.update(kind="credit"), "kind"),
    (lambda it: it["grounds"].update(closes_year="no"), "grounds/closes_year"),
    (lambda it: it["grounds"]["channels"][0]["metered"].update(sign=0), "grounds/channels/0/metered/sign"),
    (lambda it: it["grounds"]["channels"][0].update(entries=None), "grounds/channels/0/entries"),
    (lambda it: it.update(grounds=[]), "grounds"),
]


@pytest.mark.parametrize(("change", "place"), CHANGES)
def test_what_is_wrong_is_named_with_its_place(change, place):
    told = json.loads(TEXT)
    change(told)
    with pytest.raises(FileInvalid) as refused:
        bill_document.decode(canonical_json.write(told))
    assert [item.path for item in refused.value.items] == [place]


@pytest.mark.parametrize(
    "text",
    [
        TEXT + " ",
        TEXT.replace('"version":1', '"version":1.0'),
        TEXT.replace("é", "\\u00e9"),
        TEXT.replace('"zone":', '"zone2":0,"zone":'),
        TEXT[:-1],
        "[" * 100_000,
    ],
)
def test_another_spelling_is_refused(text):
    assert text != TEXT
    with pytest.raises(FileInvalid):
        bill_document.decode(text)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6))
def test_decimals_come_back(number):
    text = canonical_json.write({"n": canonical_json.decimal_text(number)})
    read = canonical_json.read(text, lambda at: at["n"].decimal(), lambda found: text)
    assert read == number
    assert str(read) == format(number, "f")


def test_what_is_no_number_is_not_written():
    with pytest.raises(FileInvalid):
        canonical_json.decimal_text(Decimal("Infinity"))


# --- what later bills need -------------------------------------------------------------------------------------------


def test_history_is_what_earlier_bills_left():
    # 2026-03 begins on the 1st at 00:00Z, which is 01:00 in Paris: month 3. The peak of 0 cycles ago does not count.
    earlier = [(Earlier(Position(0, 3), 1, True), DOCUMENT), (Earlier(Position(0, 4), 0, True), DOCUMENT)]
    found = bill_document.history(earlier, closes_year=True)
    assert found.peaks == (PastPeak(1, 3, Decimal("4.0")),)
    assert (found.billed, found.closes_year) == (Decimal("12.50"), True)


def test_a_bill_stands_as_its_corrections_left_it():
    dearer = ENERGY._replace(quantity=Decimal(13), amount=Decimal("1.30"))
    new = replace(DOCUMENT.bill, lines=(dearer, FIXED))
    reversal, replacement = bills.rebill(DOCUMENT.bill, new, "C1-2026-03.r1")
    documents = [DOCUMENT, replace(DOCUMENT, kind=REVERSAL, bill=reversal)]
    assert bill_document.standing(documents).lines == (FIXED,)
    documents.append(replace(DOCUMENT, kind=REPLACEMENT, bill=replacement))
    standing = bill_document.standing(documents)
    assert sorted(standing.lines) == sorted(new.lines)
    assert standing.total == Decimal("6.30") == sum(one.bill.total for one in documents)  # 6.25 - 1.25 + 1.30


def test_undoing_loses_no_digit():
    # A window of 5,400 s makes kW of 60 digits; 28 is what Python's own precision would leave.
    with_60 = ENERGY._replace(quantity=Decimal("0." + "6" * 59 + "7"))
    assert bills.undone(with_60).quantity == Decimal("-0." + "6" * 59 + "7")
    assert bills.undone(bills.undone(with_60)) == with_60
