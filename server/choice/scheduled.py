"""The reader that makes reports by itself (F31): when a period is over, and when a watch found something.

In: the log behind the cursor of the reader ``reports``, the clock, a schedule. Out: pages and files in the outbox, with
the cursor and how far each contract is reported in one transaction, so that a crash makes no report twice or none.
What cannot be reported is told and holds up no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from hashlib import sha256
from typing import NamedTuple

from gridpost.applications.calendar import cycle_at, local_day, midnight
from gridpost.contract import Contract
from gridpost.documents import OURS
from gridpost.errors import GridpostError, StoreUnavailable
from gridpost.model import DataVersion
from gridpost.ports import OutboxItem, ZoneOf

from ..billing import filed
from ..store import SqlStore, StoredEvent
from .contracts import all_in_force
from .report import Report
from .reporting import Desk, Files, consumer, of_contract, provider
from .usage import Asked

NAME = "reports"
BATCH = 20  # contracts, or entries, of one step: a second at most
DAY, WEEK, CYCLE = EVERY = ("day", "week", "cycle")


class Schedule(NamedTuple):
    """When reports are made.

    Attributes:
        every: of EVERY: each local day, week from Monday, or billing cycle that is over; empty: none.
        grace_h: hours after its end, for data that comes late.
        on_event: whether the running cycle is reported when a watch found something.
    """

    every: str
    grace_h: int = 6
    on_event: bool = False


class Outcome(NamedTuple):
    """What one step did: files made, (contract, code, reason) of what could not be, whether there is more to do."""

    files: tuple[str, ...] = ()
    failed: tuple[tuple[str, str, str], ...] = ()
    more: bool = False


class _Made(NamedTuple):
    """Reports of one step, each with its supplier, and what could not be made."""

    reports: list[tuple[str, Report]]
    failed: list[tuple[str, str, str]]


class Reporter:
    """The reader."""

    def __init__(self, store: SqlStore, zone_of: ZoneOf, schedule: Schedule) -> None:
        """`store` serves."""
        self._store, self._zone_of, self._schedule = store, zone_of, schedule
        self.stopping = False  # set when the bus stops: the present step is the last one
        self._minute = -1  # the one in which the calendar was looked at last

    def begin(self) -> None:
        """Start behind what is there where this reader never ran.

        Raises:
            StoreUnavailable: try again.
        """
        self._store.start_behind(NAME)

    def step(self, now_utc_ms: int) -> Outcome:
        """Make what is due, of BATCH contracts and of BATCH entries at most, and move the cursor.

        Raises:
            StoreUnavailable: the store fails; the next step begins where this one did.
        """
        version, kept = self._store.cursor(NAME)
        headers = self._store.entries(version, BATCH)
        reached = {**version, **{header.position.partition: header.position.seq for header in headers}}
        desk, done, made = Desk(self._store, self._zone_of, now_utc_ms // 1000), _done(kept), _Made([], [])
        due = list(self._due(desk.now_utc, done)) if desk.now_utc // 60 != self._minute else []
        self._minute = desk.now_utc // 60 if len(due) <= BATCH else -1
        for contract, ends_utc in due[:BATCH]:
            _make(desk, contract.id, self._period(contract, ends_utc), made)
            done[contract.id] = ends_utc
        files = [*map(_of_user, made.reports), *_of_suppliers(made.reports)]
        if self._schedule.on_event:
            ours = [header.position for header in headers if header.sender == OURS]
            files += _on_events(desk, self._store.events_of(ours), made)
        if headers or due:
            items = [_item(name, content, reached) for one in files for name, content in one.named.items()]
            self._store.advance(NAME, reached, {"done": done}, items).result()
        names = tuple(name for one in files for name in one.named)
        return Outcome(names, tuple(made.failed), len(due) > BATCH or len(headers) == BATCH)

    def _due(self, now_utc: int, done: Mapping[str, int]) -> Iterator[tuple[Contract, int]]:
        """Yield the contracts whose last closed period was not reported, with its end; earlier ones are not made up."""
        if not self._schedule.every:
            return
        moment = now_utc - self._schedule.grace_h * 3600
        for contract in all_in_force(self._store, now_utc):
            ends_utc = self._closed(contract, moment)
            if max(done.get(contract.id, 0), contract.from_utc) < ends_utc:
                yield contract, ends_utc

    def _closed(self, contract: Contract, moment_utc: int) -> int:
        """The end of the last period that was over at a moment."""
        zone = self._zone_of(contract.zone)
        if self._schedule.every == CYCLE:
            return cycle_at(moment_utc + 1, zone, contract.cycle_day).from_utc
        today = local_day(moment_utc, zone)
        return midnight(today - timedelta(days=today.weekday() if self._schedule.every == WEEK else 0), zone)

    def _period(self, contract: Contract, ends_utc: int) -> Asked:
        """The period that ends then; it begins with the contract, where that is later."""
        zone = self._zone_of(contract.zone)
        first: date = local_day(ends_utc, zone) - timedelta(days=7 if self._schedule.every == WEEK else 1)
        if self._schedule.every == CYCLE:
            first = local_day(cycle_at(ends_utc, zone, contract.cycle_day).from_utc, zone)
        begins = max(first, local_day(contract.from_utc, zone))
        return Asked(zone, contract.cycle_day, begins, local_day(ends_utc - 1, zone))


def _make(desk: Desk, name: str, asked: Asked | None, made: _Made) -> None:
    """Make a contract's report, of the running cycle where no time is asked for; what cannot be made is told."""
    try:
        contract = filed.contract(desk.store, name).value
        running = Asked(desk.zone_of(contract.zone), contract.cycle_day, running=True)
        made.reports.append((contract.supplier, of_contract(desk, contract, asked or running)))
    except StoreUnavailable:
        raise
    except GridpostError as error:
        made.failed.append((name, error.code, error.reason))


def _of_user(one: tuple[str, Report]) -> Files:
    return consumer(one[1])


def _of_suppliers(reports: Sequence[tuple[str, Report]]) -> Iterator[Files]:
    """Yield a report for each supplier and stretch of time."""
    groups: dict[tuple[str, int, int, str], list[Report]] = {}
    for supplier, one in reports:
        groups.setdefault((supplier, one.from_utc, one.to_utc, one.zone), []).append(one)
    for (supplier, *_), those in sorted(groups.items()):
        yield provider(supplier, those)


def _on_events(desk: Desk, events: Sequence[StoredEvent], made: _Made) -> Iterator[Files]:
    """Yield a report of the running cycle for each thing that a watch found."""
    for one in events:
        found = _Made([], made.failed)
        if name := one.event.details.get("contract", ""):
            _make(desk, name, None, found)
        for _, report in found.reports:
            files = consumer(report)
            yield files._replace(stem=f"{files.stem}_{one.event.mrid[-8:]}")


def _item(name: str, content: bytes, version: DataVersion) -> OutboxItem:
    return OutboxItem(NAME, name, content, sha256(content).digest(), version)


def _done(kept: Mapping[str, object]) -> dict[str, int]:
    """Contract -> the end of the last period that was reported."""
    done = kept.get("done", {})
    assert isinstance(done, Mapping)
    return dict(done)
