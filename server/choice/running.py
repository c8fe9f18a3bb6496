"""What a running bus has of choosing: the reader that watches, and reports on their schedule; with what they say.

In: a bench, a function that runs a step off the reactor, the audit log. Out: coroutines that `value_side.py` calls
again and again. Nothing runs by itself here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..audit import Audit
from .watching import BATCH, Outcome, Watcher

LOOK_S = 0.5  # between two looks at the log: an excess is told a second after its receipt
Aside = Callable[[Callable[[], Outcome]], Awaitable[Outcome]]


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
