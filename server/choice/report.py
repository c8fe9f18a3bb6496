"""Reports (F31): what a contract used and cost, day by day, as a page and a file; one for its user, one for a supplier.

In: usage, the tariffs it is under, events and controls of the time. Out: `Report`s, rendered as HTML and as CSV. Costs
are what a bill would say of the time, by the same lines; what is missing costs nothing and is counted. Nothing is read
from a store here.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from gridpost.applications import charges, determinants, hourly
from gridpost.applications.calendar import local_day
from gridpost.applications.charges import Line
from gridpost.applications.comparison import Usage
from gridpost.applications.determinants import EXPORT
from gridpost.applications.hourly import CostByHour
from gridpost.cells import guard
from gridpost.tariff import ZERO, Tariff
from gridpost.units import format_utc

from .markup import Node, element, page, table
from .picture import Curve, Picture, draw

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?\Z", re.ASCII)  # a credit is no formula


class Day(NamedTuple):
    """A local day: energy taken and sent out in kWh, what its hours cost, intervals missing and estimated."""

    day: date
    kwh: Decimal
    sent: Decimal
    cost: Decimal
    missing: int
    estimated: int


class Happened(NamedTuple):
    """An event or an action taken, in words."""

    at: str
    what: str
    why: str


class Report(NamedTuple):
    """What a contract used and cost.

    Attributes:
        contract, customer, usage_point: whose.
        supplier: the tariffs', joined; currency: of all amounts.
        from_utc, to_utc, zone: the time.
        days: in order.
        lines: of a bill of that time; total: their sum.
        cost: by the hour.
        happened: events and actions, in order of time.
    """

    contract: str
    customer: str
    usage_point: str
    supplier: str
    currency: str
    from_utc: int
    to_utc: int
    zone: str
    days: tuple[Day, ...]
    lines: tuple[Line, ...]
    cost: CostByHour
    happened: tuple[Happened, ...] = ()

    @property
    def total(self) -> Decimal:
        """What it cost."""
        return charges.total(self.lines)

    @property
    def sums(self) -> Day:
        """All days together, under the first one's date."""
        numbers = [[getattr(one, name) for one in self.days] for name in Day._fields[1:]]
        return Day(self.days[0].day, *(sum(column, ZERO) for column in numbers))  # type: ignore[arg-type]


class Whose(NamedTuple):
    """Names of a contract, as a report shows them."""

    contract: str
    customer: str
    usage_point: str


def of(whose: Whose, usage: Usage, tariffs: Sequence[Tariff], happened: Iterable[Happened] = ()) -> Report:
    """Return the report of a contract over the periods of its usage.

    Raises:
        BillRefused: readings that cannot be billed.
    """
    cases = [determinants.measured(usage.readings, usage.channels, period) for period in usage.periods]
    lines = tuple(
        line for case in cases for tariff in tariffs for line in charges.lines(tariff, determinants.under(case, tariff))
    )
    cost = hourly.of(cases, tariffs, lines)
    return Report(
        *whose, " and ".join(tariff.supplier for tariff in tariffs), tariffs[0].currency, usage.periods[0].from_utc,
        usage.periods[-1].to_utc, str(usage.periods[0].zone), tuple(_days(cases, cost)), lines, cost, tuple(happened),
    )  # fmt: skip


def _days(cases: Sequence[determinants.Measured], cost: CostByHour) -> Iterable[Day]:
    zone = cases[0].period.zone
    sent: Counter[int] = Counter()
    places = {case.by_measure[EXPORT].places for case in cases if EXPORT in case.by_measure}
    for case in cases:
        series = case.by_measure.get(EXPORT)
        if series is not None:
            for end, value in zip(series.ends_utc, series.values, strict=True):
                sent[_ordinal(end - 1, zone)] += value
    missing, estimated = (
        Counter(_ordinal(end - 1, zone) for case in cases for _, end in getattr(case, name))
        for name in ("missing", "estimated")
    )
    sums: dict[int, list[Decimal]] = {}
    for hour in cost.hours:
        day = sums.setdefault(hour.day, [ZERO, ZERO])
        day[0] += hour.kwh
        day[1] += hour.amount
    for number, (kwh, amount) in sums.items():
        out = Decimal(sent[number]).scaleb(-max(places, default=0))
        yield Day(date.fromordinal(number), kwh, out, amount, missing[number], estimated[number])


def _ordinal(moment_utc: int, zone: object) -> int:
    return local_day(moment_utc, zone).toordinal()  # type: ignore[arg-type]


# --- for the consumer ------------------------------------------------------------------------------------------------


def consumer_csv(report: Report) -> bytes:
    """Return the days as CSV."""
    rows = [[one.day.isoformat(), f"{one.kwh:f}", f"{one.sent:f}", f"{one.cost:f}", str(one.missing),
             str(one.estimated)] for one in report.days]  # fmt: skip
    return _csv(("day", "kwh", "kwh_sent_out", f"cost_{report.currency}", "missing", "estimated"), rows)


def consumer_page(report: Report) -> bytes:
    """Return the page of one contract: the days, the hours, the lines, what happened."""
    curve = Curve(report.supplier, report.cost, report.cost, report.total, report.total)
    title = f"{report.usage_point}: use and cost, {_span(report)}"
    lines = [(line.kind, line.name, f"{line.quantity:f} {line.unit}", f"{line.price:f}", f"{line.amount:f}")
             for line in report.lines]  # fmt: skip
    days = [(one.day.isoformat(), f"{one.kwh:f}", f"{one.sent:f}", f"{one.cost:.2f}", str(one.missing),
             str(one.estimated)) for one in report.days]  # fmt: skip
    return page(
        title,
        element("p", f"{_told(report)} {_holes(report)}", class_="answer"),
        element("p", f"Contract {report.contract} of {report.customer}, supplied by {report.supplier}; hours and days "
                f"of {report.zone}."),
        draw(Picture(title, _told(report), report.currency, (curve,))),
        element("h2", "What it comes to"),
        table(("charge", "", "quantity", "price", "amount"), lines, numbers=2),
        element("h2", "Day by day"),
        table(("day", "kWh", "kWh sent out", f"{report.currency} of its hours", "missing", "estimated"), days, 1),
        *_events(report.happened),
    )  # fmt: skip


def _events(happened: Sequence[Happened]) -> list[Node]:
    if not happened:
        return []
    return [element("h2", "What happened"), table(("when", "what", "why"), happened)]


def _told(report: Report) -> str:
    return f"{report.sums.kwh:f} kWh cost {report.total:f} {report.currency}."


def _holes(report: Report) -> str:
    sums = report.sums
    if not (sums.missing or sums.estimated):
        return "No interval is missing."
    return f"{sums.missing} intervals are missing and {sums.estimated} estimated: this is no bill."


# --- for the provider ------------------------------------------------------------------------------------------------

_HEADS = ("contract", "customer", "usage_point", "from", "to", "kwh", "kwh_sent_out", "cost", "currency", "missing",
          "estimated", "events")  # fmt: skip


def provider_csv(reports: Sequence[Report]) -> bytes:
    """Return a row a contract as CSV."""
    return _csv(_HEADS, map(_row, reports))


def provider_page(provider: str, reports: Sequence[Report]) -> bytes:
    """Return the page of a supplier, or of all: a row a contract, and what happened on each."""
    happened = [Happened(one.at, f"{report.usage_point}: {one.what}", one.why) for report in reports
                for one in report.happened]  # fmt: skip
    spans = sorted({_span(report) for report in reports})
    return page(
        f"{provider}: {len(reports)} contracts, {', '.join(spans)}",
        table(_HEADS, map(_row, reports), numbers=5),
        *_events(sorted(happened)),
    )


def _row(report: Report) -> tuple[str, ...]:
    sums = report.sums
    return (
        report.contract, report.customer, report.usage_point, format_utc(report.from_utc), format_utc(report.to_utc),
        f"{sums.kwh:f}", f"{sums.sent:f}", f"{report.total:f}", report.currency, str(sums.missing),
        str(sums.estimated), str(len(report.happened)),
    )  # fmt: skip


def _span(report: Report) -> str:
    first, last = report.days[0].day, report.days[-1].day
    return f"{first}" if first == last else f"{first} to {last}"


def _csv(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([cell if _NUMBER.match(cell) else guard(cell) for cell in row] for row in rows)
    return text.getvalue().encode()
