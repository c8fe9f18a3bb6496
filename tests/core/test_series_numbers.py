"""Literals as whole numbers of one power of ten: the same whatever was read before, by the arithmetic of Decimal."""

from __future__ import annotations

from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridpost import testing
from gridpost.applications import series
from gridpost.applications.calendar import Period
from gridpost.model import IntervalBlock, Position
from gridpost.ports import CurrentReadings

CHANNEL = testing.channel(zone="Etc/UTC")
ZONE = ZoneInfo("Etc/UTC")
START = 1772323200  # 2026-03-01T00:00:00Z


def of(texts):
    ends = tuple(START + 900 * (index + 1) for index in range(len(texts)))
    block = IntervalBlock(CHANNEL.key, 900, ends, tuple(texts), ((),) * len(texts))
    readings = CurrentReadings(CHANNEL, block, (Position(0, 0),) * len(texts), (), (), 0)
    return series.of(readings, Period(START, START + 900 * len(texts), ZONE))


def exact(found):
    return [Decimal(value).scaleb(-found.places) for value in found.values]


@pytest.mark.parametrize(
    ("texts", "missing"),
    [
        (["1.250", "0.001", "-3.500"], ()),
        (["1.250", "0.001"], ()),  # known by now
        (["1.250", "7.25"], ()),  # the first is known, the second has other places
        (["7.25", "1.250"], ()),
        (["12", "7"], ()),
        (["12", "7.5"], ()),
        (["1.250", None, "0.001"], (1,)),
        ([None, "0.001"], (0,)),
        (["12", None], (1,)),
        ([None], (0,)),
        ([], ()),
    ],
)
def test_each_is_its_decimal_and_what_is_not_there_is_nought_and_named(texts, missing):
    for _ in range(2):  # the second time what can be known is
        found = of(texts)
        assert exact(found) == [Decimal(text or 0) for text in texts]
        assert found.missing == missing


TEXTS = st.one_of(
    st.sampled_from(["0.000", "1.5", "12", "-0.250", "3.14159"]),
    st.from_regex(r"-?(0|[1-9][0-9]{0,7})(\.[0-9]{1,5})?", fullmatch=True),
    st.none(),
)


@given(st.lists(TEXTS, max_size=12))
def test_any_column_is_exact(texts):
    assert exact(of(texts)) == [Decimal(text or 0) for text in texts]


def test_no_more_is_remembered_than_is_worth_it(monkeypatch):
    monkeypatch.setattr(series, "_known", {})
    monkeypatch.setattr(series, "_MOST_KNOWN", 3)
    for number in range(10):
        of([f"{number}.5"])
    assert sum(map(len, series._known.values())) == 3
