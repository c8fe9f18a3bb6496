"""Readings of many channels at once are those of each, at one data version."""

from __future__ import annotations

import pytest
from gridpost.server.store import readings

from gridpost import testing
from gridpost.errors import NotFound
from gridpost.model import Block, ChannelKey, Entry, Quality, Register, Rows

START = 1_767_225_600  # 2026-01-01T00:00:00Z
STAND = "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
DAY = 86_400


@pytest.fixture
def filled(post_office, monkeypatch):
    """Seven channels: whole days, a correction, a conflict, a note of a gap, an estimate, registers, nothing."""
    monkeypatch.setattr(readings, "_AT_ONCE", 3)  # so that seven are asked for in three queries
    keys = [ChannelKey(f"UP{number}", f"M{number}", "E1", testing.FORWARD_KWH_15MIN) for number in range(7)]
    channels = [testing.channel(number + 1, key=key) for number, key in enumerate(keys)]
    numbered = post_office.store.add_ied("IED-1", "revenue meter", bytes(10), channels)

    def put(number, first, values, quality=(), registers=()):
        ends = tuple(START + (first + index) * 900 for index in range(len(values)))
        channel_id = numbered[number].id
        block = Block(channel_id, 900, ends, tuple(values), (quality,) * len(values))
        stands = tuple(Register(channel_id, STAND, moment, value, ()) for moment, value in registers)
        name = f"m-{post_office.store.status().entries}"
        entry = Entry("IED-1", name, "MeterReadings", "http", name.encode().ljust(32), 0, None, "", b"raw")
        post_office.store.record(entry, Rows((block,), stands), lambda *_: b"receipt").result(timeout=30)

    for number in range(6):
        put(number, 1, [f"{number}.{index:03d}" for index in range(192)])
    before = post_office.store.version()
    put(0, 30, ["99"], (Quality("2.7.1"),))
    put(1, 40, ["88"])
    put(2, 300, [None], (Quality("2.5.259"),))
    put(3, 200, ["7"], (Quality("2.8.0"),))
    put(4, 200, ["7"], registers=((START, "100"), (START + DAY, "150")))
    return post_office.store, [channel.id for channel in numbered], before


@pytest.mark.parametrize(
    "period", [(0, DAY), (0, 4 * DAY), (DAY // 2, DAY + 1800), (5000, 90_500), (9 * DAY, 10 * DAY)]
)
def test_each_is_what_it_is_alone_now_and_before(filled, period):
    store, numbers, before = filled
    first, last = (START + moment for moment in period)
    for at in (None, before):
        together = list(store.readings_of(numbers, first, last, at))
        assert together == [store.readings(number, first, last, at) for number in numbers]
        assert [one.channel.id for one in together] == numbers
    assert [one.channel.id for one in store.readings_of(numbers[::-1], first, last)] == numbers[::-1]


def test_what_was_recorded_later_is_not_in_it(filled):
    store, numbers, before = filled
    now, then = (next(store.readings_of(numbers[:1], START, START + DAY, at)) for at in (None, before))
    assert (now.block.values[29], then.block.values[29]) == ("99", "0.029")
    assert (len(now.block.values), now.newest_recorded_at_utc_ms >= then.newest_recorded_at_utc_ms) == (96, True)


def test_an_unknown_channel_is_named(filled):
    store, numbers, _ = filled
    with pytest.raises(NotFound, match="no channel 4711"):
        list(store.readings_of([*numbers, 4711], START, START + DAY))
    assert list(store.readings_of([], START, START + DAY)) == []
