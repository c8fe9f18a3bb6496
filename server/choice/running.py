"""What a running bus has of choosing: the reader that watches, and reports on their schedule; with what they say.

In: a bench, a function that runs a step off the reactor, the audit log. Out: coroutines that `value_side.py` calls
again and again. Nothing runs by itself here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from gridpost.ports import Delivery

from ..audit import Audit
from ..installed import entry_point
from ..own import Bench
from ..readers import Deliveries
from . import scheduled
from .scheduled import Reporter, Schedule
from .watching import BATCH, Watcher

LOOK_S = 0.5  # between two looks at the log: an excess is told a second after its receipt
REPORTS_S = 5.0  # and to see whether a report is due
Aside = Callable[[Callable[[], Any]], Awaitable[Any]]


async def follow(watcher: Watcher, aside: Aside, audit: Audit, now: Callable[[], int]) -> None:
    """Follow the log as far as it goes.

    Raises:
        StoreUnavailable: the next look goes on where this one stopped.
    """
    more = True
    while more and not watcher.stopping:
        outcome = await aside(lambda: watcher.step(now()))
        for contract, finding in outcome.findings:
            audit.event("watch-found", contract=contract, kind=finding.kind, bound=finding.bound,
                        value=f"{finding.value:f}", limit=f"{finding.limit:f}", unit=finding.unit)  # fmt: skip
        for contract, action, reason in outcome.decided:
            audit.event("watch-proposed", contract=contract, action=action, reason=reason)
        for contract, code, reason in outcome.failed:
            audit.event("watch-failed", contract=contract, code=code, reason=reason)
        more = outcome.entries == BATCH


class Reports(NamedTuple):
    """The reader that makes reports, and what carries them out."""

    reporter: Reporter
    deliveries: Deliveries

    async def carry(self, aside: Aside, audit: Audit, now: Callable[[], int]) -> None:
        """Make what is due and deliver what waits.

        Raises:
            OurFault: the store or the way out fails; the next look goes on from there.
        """
        more = True
        while more and not self.reporter.stopping:
            outcome = await aside(lambda: self.reporter.step(now()))
            for name in outcome.files:
                audit.event("file-rendered", name=name, losses=0, conflicts=0)
            for contract, code, reason in outcome.failed:
                audit.event("report-failed", contract=contract, code=code, reason=reason)
            for sent in await aside(lambda: self.deliveries.step(now())):
                told = {"reader": scheduled.NAME, "reason": sent.reason} if sent.reason else {"place": sent.place}
                audit.event("dead-letter" if sent.reason else "file-delivered", name=sent.name, **told)
            more = outcome.more


def reports_of(bench: Bench) -> Reports | None:
    """Return what makes and delivers reports, where the settings name a directory for them."""
    wanted = bench.config.reports
    if not wanted.directory:
        return None
    out: Delivery = entry_point("gridpost.deliveries", "directory")(bench.config.path(wanted.directory))
    reporter = Reporter(bench.store, bench.zone_of, Schedule(wanted.every, wanted.grace_h, wanted.on_event))
    return Reports(reporter, Deliveries(scheduled.NAME, bench.store, out))
