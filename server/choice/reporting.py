"""Reports made from a store (F31): for the user of a contract, and for a supplier.

In: a store, a contract on file, a period. Out: `Report`s, and files with stable names. A report is no bill: it is
priced by the tariffs in force at the end of its period, and takes what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import quote

from gridpost.applications.calendar import midnight
from gridpost.contract import Contract
from gridpost.controls import OUTCOME_EVENT
from gridpost.ports import ZoneOf
from gridpost.units import format_utc_ms

from ..store import SqlStore
from . import report
from .contracts import Place, place_of, usage_of
from .report import Happened, Report, Whose
from .usage import Asked

_EVENTS = 1000  # of one report


class Files(NamedTuple):
    """A report rendered: name without its suffix, page, file."""

    stem: str
    page: bytes
    csv: bytes

    @property
    def named(self) -> Mapping[str, bytes]:
        """Name -> bytes."""
        return {f"{self.stem}.html": self.page, f"{self.stem}.csv": self.csv}


class Desk(NamedTuple):
    """What reports are made with: a store, zones by name, the clock in UTC seconds."""

    store: SqlStore
    zone_of: ZoneOf
    now_utc: int


def of_contract(desk: Desk, contract: Contract, asked: Asked) -> Report:
    """Return the report of a contract.

    Raises:
        BillRefused: it has no readings in that time, or they cannot be priced.
        NotFound: it has no tariff in force.
    """
    ends = midnight(asked.last + timedelta(days=1), asked.zone) if asked.last else None
    moment = min(one for one in (ends, contract.to_utc, desk.now_utc) if one is not None)
    place = place_of(desk.store, desk.zone_of, contract.id, moment)
    used = usage_of(desk.store, place, asked)
    happened = list(_happened(desk.store, place, (used.periods[0].from_utc, used.periods[-1].to_utc)))
    return report.of(Whose(contract.id, contract.customer, contract.usage_point), used, place.tariffs, happened)


def consumer(one: Report) -> Files:
    """Return what the user of a contract gets."""
    stem = f"report_{_safe(one.contract)}_{_dates(one)}"
    return Files(stem, report.consumer_page(one), report.consumer_csv(one))


def provider(name: str, reports: Sequence[Report]) -> Files:
    """Return what a supplier gets: a row a contract; `name` is the supplier's."""
    stem = f"provider_{_safe(name)}_{_safe(reports[0].zone)}_{_dates(reports[0])}"
    return Files(stem, report.provider_page(name, reports), report.provider_csv(reports))


def _happened(store: SqlStore, place: Place, span: tuple[int, int]) -> Iterator[Happened]:
    """Events of the meter and its IEDs, what became of commands among them."""
    assets = [place.meter, *store.ieds_of(place.meter, span[1])]
    for one in store.events(assets, (span[0] * 1000, span[1] * 1000), store.version(), _EVENTS):
        details = one.event.details
        if one.event.event_type == OUTCOME_EVENT:
            what = f"command {details.get('control', '')} {details.get('outcome', '')}"
        else:
            what = details.get("kind", one.event.event_type)
        yield Happened(format_utc_ms(one.event.created_utc_ms), what, one.event.reason or details.get("reason", ""))


def _dates(one: Report) -> str:
    return f"{one.days[0].day:%Y%m%d}_{one.days[-1].day:%Y%m%d}"


def _safe(name: str) -> str:
    """A name as part of a file's: no separator, and no dot that leads upwards (CWE-22)."""
    return quote(name, safe=" ").replace(".", "%2E").replace(" ", "_")
