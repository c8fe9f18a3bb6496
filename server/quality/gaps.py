"""Gaps become requests for data: controls that wait for the IED's next call-in, and close when the data arrives (D2).

In: a bench, the log behind the cursor of the reader ``quality``. Out: entries of our own with the control request-data,
one for each gap, and the steps that close them. A gap shows when an IED sends readings behind it; while it is silent,
nothing can be asked of it. An IED is asked for a gap once: it sends what it holds, and says so when it holds nothing.
What must not be done here: filling a gap, or asking for what the device itself has reported missing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from gridpost import units
from gridpost.controls import FINAL, OPEN, Role, State, Step, Wanted
from gridpost.documents import OURS
from gridpost.model import Channel, DataVersion, Position, is_estimated
from gridpost.ports import EntryHeader
from gridpost.versions import GAP, STORED

from .. import own
from ..audit import Audit
from ..controls import policy
from ..controls.intake import Asked, Intake
from ..own import Bench
from ..store import ControlOnFile
from ..store.holes import Lying, last_before, lying

NAME = "quality"
LOOK_S = 2.0  # between two looks at the log
ACTION = "request-data"
BATCH = 200  # entries a step
_UNFETCHED = frozenset((State.PROPOSED, State.HELD, State.WAITING))
_REMEMBERED = 50_000  # channels whose last interval end is kept in memory
_PAGE = 1000
_DAY_MS = 86_400_000
_PRIORITY = 7  # behind what a person asks for


class Gap(NamedTuple):
    """Intervals that are missing of a channel, from_utc < end <= to_utc, and the serial of the IED to ask."""

    channel: Channel
    from_utc: int
    to_utc: int
    serial: str

    @property
    def tracking_id(self) -> str:
        """The one id under which this gap is ever asked for."""
        return f"gap-{self.channel.id}-{self.from_utc}-{self.to_utc}"


def request(bench: Bench, gaps: Sequence[Gap], message_id: str, after_ms: int = 0) -> list[Gap]:
    """Record one entry that asks the IEDs for these gaps, and return those it asks for: not those asked for before.

    Args:
        bench: see `own`.
        gaps: of any channels.
        message_id: of the entry; where there is nothing to ask, there is none.
        after_ms: how long the IED must not fetch it yet, so that what is under way may arrive.

    Raises:
        ControlsRefused: the settings do not let an operator ask for data.
        SignerUnavailable, StoreUnavailable: nothing was recorded.
    """
    new = [gap for gap in dict.fromkeys(gaps) if not bench.store.tracked(OURS, gap.tracking_id)]
    if new:
        now = bench.clock()
        wanted = tuple(_wanted(gap, now, after_ms, bench.config.quality.request_days) for gap in new)
        intake = Intake(bench.store, bench.config.commands, bench.clock)
        own.record_controls(bench, message_id, wanted, intake.judged(Asked(own.OURSELVES, wanted, counts=True)))
    return new


def _wanted(gap: Gap, now_utc_ms: int, after_ms: int, days: int) -> Wanted:
    number = (gap.to_utc - gap.from_utc) // gap.channel.interval_s
    name = gap.channel.key.stream or gap.channel.key.reading_type
    return Wanted(
        mrid=gap.tracking_id,
        action=ACTION,
        targets=(gap.serial,),
        not_before_utc_ms=now_utc_ms + after_ms if after_ms else 0,
        expires_utc_ms=now_utc_ms + after_ms + days * _DAY_MS,
        priority=_PRIORITY,
        reason=f"{number} intervals of meter {gap.channel.key.meter}, {name}, are missing",
        data=(("from", units.format_utc(gap.from_utc)), ("to", units.format_utc(gap.to_utc))),
    )


class Watched(NamedTuple):
    """What a step of the reader did: entries passed, gaps asked for, steps that closed controls."""

    entries: int = 0
    asked: tuple[Gap, ...] = ()
    closed: tuple[Step, ...] = ()


class _Waiting(NamedTuple):
    """A control of ours that is not over: which intervals it waits for."""

    mrid: str
    channel_id: int
    from_utc: int
    to_utc: int


@dataclass
class Watcher:
    """The reader; one process runs it, the one that leads."""

    bench: Bench
    _last: OrderedDict[int, int] = field(default_factory=OrderedDict)  # channel -> the last interval end there is
    _waiting: dict[int, dict[str, _Waiting]] = field(default_factory=dict)  # channel -> mRID ->
    _reached: DataVersion | None = None  # where the cursor stood last; elsewhere now: another process led meanwhile
    stopping: bool = False  # set when the bus stops: the present step is the last one

    def step(self) -> Watched:
        """Take the next entries: ask for the gaps before what they brought, close what they made whole.

        Raises:
            StoreUnavailable, SignerUnavailable: nothing more is done; the next step begins where this one did.
        """
        store = self.bench.store
        if store.cursor(NAME)[0] != self._reached:
            self.begin()
        version, state = store.cursor(NAME)
        headers = store.entries(version, BATCH)
        if not headers:
            return Watched()
        self._remember([one for one in self._ours(headers) if one.state not in FINAL])
        brought = {header.position: header for header in headers if header.noun == "MeterReadings"}
        rows = [row for row in lying(store, list(brought)) if row.outcome in (STORED, GAP)]
        reached = {**version, **{header.position.partition: header.position.seq for header in headers}}
        asked: list[Gap] = []
        if self._may_ask():
            found = self._young(self._gaps(rows, brought))
            after_ms = self.bench.config.quality.request_after_s * 1000
            asked = request(self.bench, found, _message_id(found), after_ms)
        closed = self._closed({row.channel_id for row in rows if row.outcome == STORED})
        store.advance(NAME, reached, state, ()).result()
        self._reached = reached
        return Watched(len(headers), tuple(asked), tuple(closed))

    def _may_ask(self) -> bool:
        config = self.bench.config
        return config.quality.request_gaps and ACTION in policy.may(Role.OPERATOR, config.commands)

    def begin(self) -> None:
        """Start behind what is there where this reader never ran: nobody asks for the gaps of years at once.

        Before anything is listened on. What is waited for is read anew: another process may have asked.

        Raises:
            StoreUnavailable: try again.
        """
        store = self.bench.store
        store.start_behind(NAME)
        self._waiting.clear()
        after = ""
        while page := store.controls(issuer=OURS, states=OPEN | _UNFETCHED, limit=_PAGE, after=after):
            self._remember(page)
            after = page[-1].control.mrid
        self._reached = store.cursor(NAME)[0]

    def _ours(self, headers: Sequence[EntryHeader]) -> list[ControlOnFile]:
        asked = [one.position for one in headers if one.sender == OURS and one.noun == "EndDeviceControls"]
        return self.bench.store.controls_of(asked) if asked else []

    def _remember(self, found: Sequence[ControlOnFile]) -> None:
        for one in found:
            waiting = _waiting_of(one)
            if waiting is not None:
                self._waiting.setdefault(waiting.channel_id, {})[waiting.mrid] = waiting

    # --- gaps ---

    def _gaps(self, rows: Sequence[Lying], brought: Mapping[Position, EntryHeader]) -> Iterator[Gap]:
        channels: dict[str, Mapping[int, Channel]] = {}
        strays = [row for row in rows if not self._goes_on(row)]  # few: most readings follow the last ones
        before = last_before(self.bench.store, [(row.channel_id, row.first_interval_end_utc) for row in strays])
        for row in strays:
            serial = brought[row.position].sender
            last = before[row.channel_id, row.first_interval_end_utc]
            if last is None or last + row.interval_s >= row.first_interval_end_utc:
                continue
            if serial not in channels:
                channels[serial] = {channel.id: channel for channel in self.bench.store.channels(serial)}
            channel = channels[serial].get(row.channel_id)
            if channel is not None:  # else it is an estimate or edit of our own: behind it no IED shows anything
                yield Gap(channel, last, row.first_interval_end_utc - row.interval_s, serial)

    def _goes_on(self, row: Lying) -> bool:
        """Note where a channel's readings end now; tell whether the row began where they had ended."""
        before = self._last.get(row.channel_id)
        self._last[row.channel_id] = max(row.last_interval_end_utc, before or 0)
        self._last.move_to_end(row.channel_id)
        if len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)
        return before == row.first_interval_end_utc - row.interval_s

    def _young(self, gaps: Iterator[Gap]) -> list[Gap]:
        """Those parts of gaps that are not too old, and in which the meter was assigned throughout."""
        since = self.bench.clock() // 1000 - self.bench.config.quality.request_days * _DAY_MS // 1000
        found = []
        for gap in gaps:
            channel = gap.channel
            earliest = max(since, channel.valid_from_utc)
            late = max(0, -((gap.from_utc - earliest) // channel.interval_s)) * channel.interval_s
            if gap.from_utc + late < gap.to_utc:
                found.append(gap._replace(from_utc=gap.from_utc + late))
        return found

    # --- closing ---

    def _closed(self, touched: set[int]) -> list[Step]:
        """Close the controls whose intervals are all there now."""
        steps: list[Step] = []
        for channel_id in sorted(touched & self._waiting.keys()):
            for waiting in list(self._waiting[channel_id].values()):
                one = self.bench.store.control(waiting.mrid)
                if one is None or one.state in FINAL:
                    del self._waiting[channel_id][waiting.mrid]
                elif self._is_whole(waiting):
                    steps += self._close(one)
            if not self._waiting[channel_id]:
                del self._waiting[channel_id]
        return steps

    def _close(self, one: ControlOnFile) -> list[Step]:
        """What no IED has fetched need not be done; what one has fetched is done: the data is here."""
        unfetched = one.state in _UNFETCHED
        state = State.CANCELED if unfetched else State.DONE
        step = Step(one.control.mrid, state, self.bench.clock(), OURS, "the data has arrived")
        return [step] if self.bench.store.step(step, _UNFETCHED if unfetched else OPEN - _UNFETCHED) else []

    def _is_whole(self, waiting: _Waiting) -> bool:
        found = self.bench.store.readings(waiting.channel_id, waiting.from_utc, waiting.to_utc)
        measured = sum(not is_estimated(given) for given in found.block.qualities)
        return measured * found.channel.interval_s >= waiting.to_utc - waiting.from_utc


async def follow(watcher: Watcher, aside: Callable[[Callable[[], Watched]], Awaitable[Watched]], audit: Audit) -> None:
    """Follow the log as far as it goes; `aside` runs a step off the reactor.

    Raises:
        StoreUnavailable, SignerUnavailable: the next look goes on where this one stopped.
    """
    entries = BATCH
    while entries == BATCH and not watcher.stopping:
        entries, asked, closed = await aside(watcher.step)
        for gap in asked:
            audit.event(
                "gap", meter=gap.channel.key.meter, stream=gap.channel.key.stream, ied=gap.serial,
                first=units.format_utc(gap.from_utc), last=units.format_utc(gap.to_utc),
            )  # fmt: skip
        for step in closed:
            audit.event("control-step", control=step.control, state=step.state.value, by=step.by, detail=step.detail)


def _waiting_of(one: ControlOnFile) -> _Waiting | None:
    """What a control waits for, from its tracking id; None: it is for no gap."""
    kind, *numbers = one.control.tracking_id.split("-")
    if kind != "gap" or len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
        return None
    return _Waiting(one.control.mrid, *map(int, numbers))


def _message_id(gaps: Sequence[Gap]) -> str:
    """An id made of what is asked: a step done again after a crash finds its entry."""
    return f"gaps-{sha256(' '.join(gap.tracking_id for gap in gaps).encode()).hexdigest()[:40]}"
