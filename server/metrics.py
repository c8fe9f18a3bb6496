"""What a running bus tells Prometheus: integers that are there anyway, read when it asks.

In: counts of the audit log, the writer, the listeners; every few seconds a look into the store. Out: the text of
`GET /metrics`, on a listener of its own. The only file that imports prometheus_client, and none of its objects is
touched on a message's way.

Every series is there from the start, with 0 where nothing happened: what appears only with the first failure cannot be
told from what was never measured. Of several processes each has a listener of its own. What a process counts adds up; a
partition's counts are told by the one process that writes it, so they add up too; what the store holds is the same seen
from each process (docs/operations.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from gridpost import check
from gridpost.errors import GridpostError, leaves

from .audit import Audit
from .figures import Distribution
from .store import ReaderStatus, SqlStore, Tallies
from .transports import http_values
from .transports.http_values import Request, Response, Route

LOOKED_S = 5  # between two looks into the store
PATH = "/metrics"
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_PER_SECOND = 1_000_000
_FOREVER_MS = 1 << 62
CODES = sorted(
    {leaf.code for leaf in leaves()}
    | {one.code for one in vars(http_values).values() if isinstance(one, http_values.HttpRefusal)}
)
_PARTITION = {
    "entries": "Entries in the log.",
    "interval_values": "Interval values stored, those in conflict left out.",
    "conflicts": "Interval values that contradict one stored before.",
    "gaps": "Intervals reported as missing.",
    "register_readings": "Register readings stored.",
    "events": "Events of devices stored.",
}


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the figures are.

    Attributes:
        audit: counts events and refusals.
        store: that this process serves.
        received: how many messages came in so far.
        connections: scheme -> how many are open.
        is_healthy: whether a message could be taken now.
        answered_us: how long messages took, from the whole request to the answer.
        owns_end_utc_ms: the bus's own certificates, by use, and when each ends.
        readers: those that are to run.
    """

    audit: Audit
    store: SqlStore
    received: Callable[[], int]
    connections: Callable[[], Mapping[str, int]]
    is_healthy: Callable[[], bool]
    answered_us: Distribution
    owns_end_utc_ms: Callable[[], Mapping[str, int]]
    readers: Sequence[str]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look into the store found, and when."""

    at_utc_ms: int
    tallies: Tallies
    readers: Sequence[ReaderStatus]
    ends_utc_ms: int | None  # of the device's key in force that ends first


class Metrics(Collector):
    """Answers `GET /metrics`."""

    def __init__(self, sources: Sources) -> None:
        """Nothing is known of the store before the first `look`."""
        self._of = sources
        self._seen: Seen | None = None
        self._failed_looks = 0
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def routes(self) -> list[Route]:
        """Return the listener's table."""
        return [Route("GET", PATH, self._get)]

    def look(self, now_utc_ms: int) -> None:
        """Look into the store; may wait for the disk. What cannot be seen now keeps the figures seen last."""
        store = self._of.store
        try:
            status, first = store.status(), store.ending(_FOREVER_MS, 1)
            ends = first[0].not_after_utc_ms if first else None
            self._seen = Seen(now_utc_ms, store.tallies(), self._readers(status.readers, status.entries), ends)
        except GridpostError:
            self._failed_looks += 1

    def collect(self) -> Iterator[Metric]:
        """Yield everything, as prometheus_client asks for it."""
        yield from self._messages()
        yield from self._now()
        yield from self._durations()
        if self._seen is not None:
            yield from self._stored(self._seen)

    def _get(self, _request: Request) -> Response:
        return Response(200, generate_latest(self._registry), _TEXT)

    def _readers(self, found: Sequence[ReaderStatus], entries: int) -> list[ReaderStatus]:
        """Those that have not begun are behind by all entries."""
        begun = {one.reader for one in found}
        return [*found, *(ReaderStatus(name, {}, entries, 0, 0) for name in self._of.readers if name not in begun)]

    def _messages(self) -> Iterator[Metric]:
        events, refusals = self._of.audit.events, self._of.audit.refusals
        received = {check.HTTP.name: self._of.received()}
        yield _counter("messages_received", "Messages that came in whole.", "transport", received)
        outcomes = {"recorded": events["recorded"], "repeat": events["repeat"]}
        yield _counter("messages_receipted", "Messages answered with a receipt.", "outcome", outcomes)
        codes = dict.fromkeys(CODES, 0) | refusals
        yield _counter("refused", "Messages, requests and connections refused.", "code", codes)
        yield CounterMetricFamily("gridpost_alarms", "Alarms raised.", events["alarm"])
        yield CounterMetricFamily(
            "gridpost_store_looks_failed", "Looks into the store that failed.", self._failed_looks
        )

    def _now(self) -> Iterator[Metric]:
        writer, healthy = self._of.store.writer, self._of.is_healthy()
        yield GaugeMetricFamily("gridpost_store_healthy", "1 while a message could be stored.", healthy)
        waiting = writer.waiting() if writer else 0
        yield GaugeMetricFamily("gridpost_writer_queue", "Entries and jobs that wait for the writer.", waiting)
        yield _gauge("connections", "Open connections of devices.", "listener", self._of.connections())

    def _durations(self) -> Iterator[Metric]:
        writer = self._of.store.writer
        assert writer is not None, "a bus serves its store"
        yield _histogram("message_seconds", "From the whole request to its answer.", self._of.answered_us, _PER_SECOND)
        yield _histogram("commit_seconds", "Commit of a group, its sync included.", writer.commits_us, _PER_SECOND)
        yield _histogram("group_entries", "Messages committed together, repeats included.", writer.groups, 1)

    def _stored(self, seen: Seen) -> Iterator[Metric]:
        looked = GaugeMetricFamily("gridpost_store_looked_at_timestamp_seconds", "When what follows was looked up.")
        looked.add_metric([], seen.at_utc_ms / 1000)
        yield looked
        number = str(seen.tallies.partition)
        for name, meaning in _PARTITION.items():
            yield _counter(name, meaning, "partition", {number: getattr(seen.tallies, name)})
        for name, attribute, meaning in (
            ("reader_lag_entries", "lag", "Entries behind a reader's cursor."),
            ("outbox_waiting", "waiting", "Files that wait for delivery."),
            ("dead_letters", "dead_letters", "Days and files given up until somebody looks."),
        ):
            yield _gauge(name, meaning, "reader", {one.reader: getattr(one, attribute) for one in seen.readers})
        ends = {use: end / 1000 for use, end in self._of.owns_end_utc_ms().items()}
        first = float("inf") if seen.ends_utc_ms is None else seen.ends_utc_ms / 1000
        name, meaning = "certificate_end_timestamp_seconds", "End of the certificate of each use that ends first."
        yield _gauge(name, meaning, "use", ends | {"device": first})


def _counter(name: str, meaning: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"gridpost_{name}", meaning, labels=[label])
    return _filled(family, values)


def _gauge(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"gridpost_{name}", meaning, labels=[label])
    return _filled(family, values)


def _filled(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, float]) -> Metric:
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _histogram(name: str, meaning: str, found: Distribution, scale: int) -> Metric:
    """Return counts by class as Prometheus has them: of each bound, all that lie at or below."""
    buckets, below = [], 0
    for bound, count in zip((*found.bounds, None), found.counts, strict=True):
        below += count
        buckets.append(("+Inf" if bound is None else repr(bound / scale), float(below)))
    return HistogramMetricFamily(f"gridpost_{name}", meaning, buckets, found.total / scale)
