"""Where readings lie, on each engine: what the look for gaps asks of a store."""

from __future__ import annotations

import pytest
from gridpost.server.store import create, open_store
from gridpost.server.store.holes import Lying, last_before, lying

from gridpost import testing
from gridpost.model import Block, Entry, Position, Quality, Rows

NOW = testing.NOW_UTC_MS
MIDNIGHT, Q = 1_767_139_200, 900  # 2025-12-31T00:00:00Z
MISSING = (Quality("2.5.259"),)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, tmp_path):
    place = request.getfixturevalue("postgres_store") if request.param == "postgres" else tmp_path / "gridpost.db"
    create(place)
    opened = open_store(place, lambda: NOW, serve=True)
    opened.add_ied("IED-1", "revenue meter", bytes(10), [testing.channel(1, "M1"), testing.channel(2, "M1")])
    yield opened
    opened.close()


@pytest.fixture
def record(store):
    """Record values for quarter hours from number `first` on, in an entry; None is reported missing."""

    def put(number, first, *values):
        ends = tuple(MIDNIGHT + (first + index) * Q for index in range(len(values)))
        qualities = tuple(MISSING if value is None else () for value in values)
        name = f"m-{store.status().entries}"
        entry = Entry("IED-1", name, "MeterReadings", "http", name.encode().ljust(32), NOW, None, "", b"raw")
        rows = Rows((Block(number, Q, ends, values, qualities),))
        store.record(entry, rows, lambda *_: b"receipt").result(timeout=30)

    return put


def end(number):
    return MIDNIGHT + number * Q


def before(store, *wanted):
    """What there is of channels before their intervals of some numbers, asked for all at once."""
    keys = [(channel, end(number)) for channel, number in wanted]
    found = last_before(store, keys)
    return [found[key] for key in keys]


def test_where_the_intervals_of_entries_lie(store, record):
    record(1, 95, "1", "2", "3")  # the row ends with the UTC day: 95 and 96, then 97
    record(2, 1, "1", None)
    record(1, 96, "9")  # in conflict
    found = lying(store, [Position(0, 2), Position(0, 0), Position(0, 1), Position(0, 0)])
    assert found == [
        Lying(Position(0, 0), 1, end(95), end(96), Q, "stored"),
        Lying(Position(0, 0), 1, end(97), end(97), Q, "stored"),
        Lying(Position(0, 1), 2, end(1), end(1), Q, "stored"),
        Lying(Position(0, 1), 2, end(2), end(2), Q, "gap"),
        Lying(Position(0, 2), 1, end(96), end(96), Q, "conflict"),
    ]
    assert lying(store, []) == []


def test_the_last_interval_before_another(store, record):
    record(1, 1, *["1"] * 40)
    record(1, 5, "2")  # in conflict: no longer row hides behind it
    record(2, 1, *["1"] * 90)
    record(2, 3, "1")
    assert before(store, (1, 1), (1, 50), (1, 500), (3, 7)) == [None, end(40), end(40), None]  # 500: days later
    record(1, 43, None)
    assert before(store, (1, 50)) == [end(43)]  # its device said that it has nothing


def test_a_short_row_that_begins_later_does_not_hide_a_long_one(store, record):
    record(1, 1, *["1"] * 40)
    edited = Rows((Block(1, Q, (end(5),), ("7",), ((Quality("3.7.0"),),)),))
    entry = Entry("bus", "t-1", "MeterReadings", "own", bytes(32), NOW, None, "", b"raw")
    store.record(entry, edited, lambda *_: b"receipt").result(timeout=30)
    assert before(store, (1, 50)) == [end(40)]
