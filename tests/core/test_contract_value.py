"""Contracts: their one spelling, what makes one unusable, and which channel stands behind each name over a period."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridpost import contract as contracts
from gridpost.applications.calendar import Period
from gridpost.applications.determinants import Metered
from gridpost.contract import Contract
from gridpost.errors import BillRefused, ConfigInvalid, FileInvalid
from gridpost.model import Channel, ChannelKey

FORWARD = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
REVERSE = "0.0.2.4.19.1.12.0.0.0.0.0.0.0.0.3.72.0"
KVARH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.73.0"
VOLT = "0.0.2.4.0.1.54.0.0.0.0.0.0.0.0.0.29.0"
FIRST, LAST = 1_772_323_200, 1_775_001_600  # March 2026, UTC
MARCH = Period(FIRST, LAST, UTC)
PLAIN = Contract("C1", "Ann", "UP1", (Metered("E1"),), "S1", "T1", "both", FIRST, None, "Etc/UTC")


def channel(meter, stream, reading_type=FORWARD, unit="kWh", span=(0, None), usage_point="UP1"):
    key = ChannelKey(usage_point, meter, stream, reading_type)
    return Channel(key, unit, 900, "Etc/UTC", *span)


texts = st.text(st.characters(codec="utf-8"), max_size=8)
metered = st.builds(Metered, texts, st.sampled_from(["energy", "export", "reactive"]), st.sampled_from([1, -1]))
any_contract = st.builds(
    Contract, texts, texts, texts, st.lists(metered, max_size=3).map(tuple), texts, texts,
    st.sampled_from(["energy", "distribution", "both"]), st.integers(0, 2**40), st.none() | st.integers(0, 2**40),
    texts, st.integers(1, 31), st.sampled_from(contracts.STATES), texts,
)  # fmt: skip


def test_a_supplier_may_be_named_in_words_as_files_of_tariffs_name_them():
    contracts.check(replace(PLAIN, supplier="Harbour Gas & Electric Co", tariff="Rate A-1 TOU"))
    for wrong in ({"supplier": "Stadtwerke K\u00f6ln"}, {"supplier": ""}, {"id": "C 1"}, {"usage_point": "UP 1"}):
        with pytest.raises(ConfigInvalid, match=f"{next(iter(wrong))}: must be 1 to 64 printable ASCII"):
            contracts.check(replace(PLAIN, **wrong))


@given(any_contract)
def test_every_contract_comes_back_as_it_was(one):
    assert contracts.decode(contracts.encode(one)) == one


def test_the_content_is_json_of_one_spelling():
    assert contracts.encode(PLAIN) == (
        '{"channels":[{"channel":"E1","measure":"energy","sign":1}],"customer":"Ann","cycle_day":1,"from_utc":1772323200,'
        '"id":"C1","kind":"both","reason":"","status":"confirmed","supplier":"S1","tariff":"T1","to_utc":null,'
        '"usage_point":"UP1","version":1,"zone":"Etc/UTC"}'
    )


@pytest.mark.parametrize(
    ("was", "becomes", "place"),
    [
        ('"both"', '"gas"', "kind"),
        ('"sign":1', '"sign":2', "channels/0/sign"),
        ('"from_utc":1772323200', '"from_utc":"soon"', "from_utc"),
        ('"version":1', '"version":2', "version"),
        ('"confirmed"', '"open"', "status"),
        ('"zone":"Etc/UTC"', '"region":"Etc/UTC"', ""),
    ],
)
def test_another_content_is_refused_by_its_place(was, becomes, place):
    with pytest.raises(FileInvalid) as told:
        contracts.decode(contracts.encode(PLAIN).replace(was, becomes))
    assert [item.path for item in told.value.items] == [place]


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("id", {"id": "C 1"}),
        ("id", {"id": "C" * 65}),
        ("usage_point", {"usage_point": ""}),
        ("to_utc", {"to_utc": FIRST}),
        ("cycle_day", {"cycle_day": 32}),
        ("channels", {"channels": (Metered("B1", "export"),)}),
        ("channels", {"channels": (Metered("E1"), Metered("E1", "export"))}),
        ("status", {"status": "open"}),
    ],
)
def test_what_could_never_be_billed_is_named(place, change):
    contracts.check(PLAIN)
    with pytest.raises(ConfigInvalid) as told:
        contracts.check(replace(PLAIN, **change))
    assert [item.path for item in told.value.items] == [place]


def test_without_a_word_a_channel_counts_as_its_reading_type_says():
    found = [
        channel("M1", "E1"),
        channel("M1", "B1", REVERSE),
        channel("M1", "Q1", KVARH, "kvarh"),
        channel("M1", "V", VOLT, "V"),
    ]
    expected = (Metered("E1"), Metered("B1", "export"), Metered("Q1", "reactive"))
    assert contracts.metered_by(found) == expected
    assert contracts.metered_by([channel("M1", ""), channel("M1", "", REVERSE)]) == (
        Metered(FORWARD), Metered(REVERSE, "export")
    )  # fmt: skip
    assert contracts.metered_by([channel("M1", "E1"), channel("M2", "E1")]) == (Metered("M1/E1"), Metered("M2/E1"))


@pytest.mark.parametrize("name", ["E1", FORWARD, "M1/E1", f"M1/{FORWARD}"])
def test_a_channel_is_found_by_any_of_its_names(name):
    wanted, other = channel("M1", "E1"), channel("M1", "B1", REVERSE)
    one = replace(PLAIN, channels=(Metered(name),))
    assert contracts.resolved(one, [other, wanted], MARCH) == ((Metered(name), wanted),)


def test_the_channel_that_covers_the_whole_period_stands_behind_a_name():
    old, new = channel("M1", "E1", span=(0, FIRST)), channel("M2", "E1", span=(FIRST, None))
    assert contracts.resolved(PLAIN, [old, new], MARCH) == ((Metered("E1"), new),)
    middle = FIRST + 86_400
    exchanged = [channel("M1", "E1", span=(0, middle)), channel("M2", "E1", span=(middle, None))]
    for channels, told in (
        (exchanged, "no one meter has channel E1 all through"),
        ([channel("M1", "E1"), channel("M2", "E1")], "could be that of M1 or M2"),
        ([channel("M1", "B1", REVERSE)], "has no channel E1"),
    ):
        with pytest.raises(BillRefused, match=told):
            contracts.resolved(PLAIN, channels, MARCH)


def test_a_contract_is_billed_once_it_is_confirmed_and_within_its_time():
    assert [replace(PLAIN, status=status).is_billed for status in contracts.STATES] == [False, True, False, True]
    ended = replace(PLAIN, to_utc=LAST)
    assert (ended.covers(FIRST, LAST), ended.covers(FIRST - 1, LAST), ended.covers(FIRST, LAST + 1)) == (1, 0, 0)
    assert PLAIN.covers(FIRST, LAST * 2)
