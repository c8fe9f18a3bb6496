"""GetMeterReadings, and CreateMeterReadings: what is on file, and asking a device to send again.

In: a query of a partner. Out: a page of the readings its grants cover, as known at one data version, and what the next
request must state to go on. A page holds at most so many interval values as the limit says (the setting office.page, or
less where the query asks for less), and at most as many register readings again; it is all that is held of an answer in
memory, whatever period is asked for. The page's name pins the data version, so that all pages agree; it is no secret
and no right: grants are looked at for each page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gridpost.errors import QueryRefused
from gridpost.model import DataVersion, IntervalBlock, Readings, RegisterReading
from gridpost.partners import Partner
from gridpost.ports import CurrentReadings
from gridpost.requests import Query

from ..store import SqlStore
from ..store.extents import extent
from .rights import Rights, View

WINDOWS = 200  # looks at the store for one page; a page may be short, or empty, and there may be more all the same
_VERSION = re.compile(r"(?:(?:0|[1-9][0-9]{0,8}):(?:0|[1-9][0-9]{0,17})(?:,(?!$)|$)){0,64}", re.ASCII)
_PAGE = re.compile(r"([0-9]{1,18}):([0-9]{1,12})@([0-9:,]*)", re.ASCII)


class Page(NamedTuple):
    """A page of readings; `next_page` is empty on the last one, `at` names the data version of them all."""

    readings: Readings
    next_page: str
    at: str


@dataclass(frozen=True, slots=True)
class ReadingsDesk:
    """Answers queries for readings; `most`: values of a page."""

    store: SqlStore
    rights: Rights
    most: int

    def page(self, partner: Partner, query: Query) -> Page:
        """Return a page of what a partner may see of a query.

        Raises:
            NotGranted: see `rights.views`.
            QueryRefused: page or data version cannot be used.
        """
        check_period(query)
        channel_id, after_utc, stated = read_page(query.page)
        if query.page and query.at and query.at != stated:
            raise QueryRefused("the page belongs to another data version than the one stated")
        at = read_version(stated if query.page else query.at, self.store.version())
        views = [view for view in self.rights.views(partner, query) if view.channel.id >= channel_id]
        filling = _Filling(self.store, at, query, min(query.limit or self.most, self.most))
        for view in views:
            begins = after_utc if view.channel.id == channel_id else 0
            stopped_utc = filling.take(view, begins)
            if stopped_utc is not None:
                return Page(filling.readings(), f"{view.channel.id}:{stopped_utc}@{version_text(at)}", version_text(at))
        return Page(filling.readings(), "", version_text(at))


class _Filling:
    """A page that is being filled."""

    def __init__(self, store: SqlStore, at: DataVersion, query: Query, limit: int) -> None:
        self._store, self._at, self._query = store, at, query
        self._left, self._windows = limit, WINDOWS
        self._blocks: list[IntervalBlock] = []
        self._registers: list[RegisterReading] = []

    def readings(self) -> Readings:
        """What was taken."""
        return Readings(tuple(self._blocks), tuple(self._registers))

    def take(self, view: View, after_utc: int) -> int | None:
        """Take what fits of a view behind a moment; return where it stopped, None when all of it was taken."""
        found = extent(self._store, view.channel.id)
        if found is None:
            return None
        begins, ends = max(view.from_utc, found[0], after_utc), min(view.to_utc, found[1])
        while begins < ends:
            if self._left <= 0 or self._windows == 0:
                return begins
            until = min(ends, begins + self._left * max(1, view.channel.interval_s))
            self._windows -= 1
            self._put(self._store.readings(view.channel.id, begins, until, self._at), begins)
            begins = until
        return None

    def _put(self, current: CurrentReadings, after_utc: int) -> None:
        types = self._query.reading_types
        block = with_gaps(current)
        if block.ends_utc and (not types or block.channel.reading_type in types):
            self._blocks.append(block)
            self._left -= len(block.ends_utc)
        registers = [
            one
            for one in current.registers
            if one.time_utc > after_utc and (not types or one.channel.reading_type in types)
        ]
        self._registers += registers
        self._left -= len(registers)


def with_gaps(current: CurrentReadings) -> IntervalBlock:
    """Return a channel's intervals with those that were reported missing among them, in order of time."""
    block = current.block
    if not current.gaps:
        return block
    rows = [*zip(block.ends_utc, block.values, block.qualities, strict=True)]
    rows += [(end, None, qualities) for end, qualities in current.gaps]
    ends, values, qualities = zip(*sorted(rows, key=lambda row: row[0]), strict=True)
    return IntervalBlock(block.channel, block.interval_s, ends, values, qualities)


def check_period(query: Query) -> None:
    """Refuse a period that ends before it begins.

    Raises:
        QueryRefused: it does.
    """
    if query.to_utc and query.to_utc <= query.from_utc:
        raise QueryRefused("EndTime is not behind StartTime")


def read_page(text: str) -> tuple[int, int, str]:
    """Return what a page's name says: the channel's number, the moment behind which it goes on, the data version.

    Raises:
        QueryRefused: it is none that we gave.
    """
    match = _PAGE.fullmatch(text or "0:0@")
    if match is None:
        raise QueryRefused("page is not what an answer's nextPage said")
    return int(match[1]), int(match[2]), match[3]


def read_version(text: str, newest: DataVersion) -> DataVersion:
    """Return a data version, the newest where none is stated.

    Raises:
        QueryRefused: it is none, or lies in the future.
    """
    if not text:
        return newest
    if not _VERSION.fullmatch(text):
        raise QueryRefused("a data version is partition:seq, several joined by a comma")
    stated = dict(_pairs(text.split(",")))
    if any(seq > newest.get(partition, -1) for partition, seq in stated.items()):
        raise QueryRefused("the data version lies in the future")
    return stated


def _pairs(parts: Sequence[str]) -> Iterator[tuple[int, int]]:
    for part in parts:
        partition, _, seq = part.partition(":")
        yield int(partition), int(seq)


def version_text(version: DataVersion) -> str:
    """Return a data version as text."""
    return ",".join(f"{partition}:{seq}" for partition, seq in sorted(version.items()))
