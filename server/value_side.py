"""The value side of a running bus: what is asked of it becomes entries, and readers that follow the log for customers.

In: a bench, the running bus's way of doing a step aside, the audit log. Out: looks, each with its name and how many
seconds lie between two of them; `app.py` has them called. Which looks there are is said here alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from gridpost.errors import NotFound

from . import tasks
from .audit import Audit
from .choice import running, scheduled, watching
from .choice.policies import load
from .own import Bench
from .quality import gaps

if TYPE_CHECKING:
    from .tariff_polls import TariffPolls

POLLS_S = 0.5  # between two looks at whether an address is due
Aside = Callable[[Callable[[], Any]], Awaitable[Any]]


class Look(NamedTuple):
    """What is done again and again: its name, the seconds between, a coroutine function."""

    name: str
    every_s: float
    once: Callable[[], Coroutine[Any, Any, None]]


class ValueSide:
    """Made with the bus."""

    def __init__(self, bench: Bench, aside: Aside, audit: Audit, reactor: Any) -> None:
        """Read what the settings name; nothing runs before `looks`.

        Raises:
            NotFound, ConfigInvalid: the file of policies, or an address that is to be polled, cannot be used.
        """
        self._bench, self._aside, self._audit = bench, aside, audit
        choice = bench.config.choice
        watches = load(bench.config.path(choice.policies)) if choice.policies else ()
        self._watcher = watching.Watcher(bench, watches) if watches else None
        self._reports = running.reports_of(bench)
        self._gaps = gaps.Watcher(bench)
        self._polls = _polls(bench, reactor) if bench.config.tariffs.poll else None

    def begin(self) -> None:
        """Let readers that never ran start where the log is; before anything is listened on."""
        self._gaps.begin()
        if self._watcher:
            self._watcher.begin()
        if self._reports:
            self._reports.reporter.begin()

    def looks(self) -> Iterator[Look]:
        """Yield what is to be done again and again."""
        yield Look("tasks", tasks.LOOK_S, partial(tasks.follow, self._bench, self._aside, self._audit))
        yield Look(gaps.NAME, gaps.LOOK_S, partial(gaps.follow, self._gaps, self._aside, self._audit))
        if self._watcher:
            follow = partial(running.follow, self._watcher, self._aside, self._audit, self._bench.clock)
            yield Look(watching.NAME, running.LOOK_S, follow)
        if self._reports:
            report = partial(self._reports.carry, self._aside, self._audit, self._bench.clock)
            yield Look(scheduled.NAME, running.REPORTS_S, report)
        if self._polls:
            yield Look("tariffs", POLLS_S, partial(self._polls.carry, self._aside, self._audit))

    def readers(self) -> list[str]:
        """Return the names of the readers that run here."""
        chosen = [(scheduled.NAME, self._reports), (watching.NAME, self._watcher)]
        return [gaps.NAME, *(name for name, reader in chosen if reader)]

    def stop(self) -> None:
        """Follow no further than the present step."""
        self._gaps.stopping = True
        if self._watcher:
            self._watcher.stopping = True
        if self._reports:
            self._reports.reporter.stopping = True
        if self._polls:
            self._polls.stop()


def _polls(bench: Bench, reactor: Any) -> TariffPolls:
    from . import tariff_polls  # here: the client of HTTP is loaded only where something is fetched

    ca = bench.config.tariffs.ca
    try:
        pem = bench.config.path(ca).read_bytes() if ca else b""
    except OSError as error:
        raise NotFound(f"tariffs.ca cannot be read: {error}") from None
    return tariff_polls.TariffPolls(bench, tariff_polls.fetching(reactor, pem))
