"""The log's readers: each follows the entries with a cursor of its own and turns them into files.

In: entries behind the cursor. Out: rendered files with a stable name, put into the outbox together with the cursor in
one transaction, so a crash at any line repeats a step or none. Then `Deliveries` carries the outbox out, at least once,
idempotent by name. A reader holds no state but what `cursor` returns. What cannot be rendered is set aside as a dead
letter until new data touches it, or `gridpost dead-letters --retry` asks for it: nothing blocks the log.

`DayFileReader` writes a file a meter and day (decision 22): when the day is complete or some hours after its end, and
again as the next revision when a later entry changes its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from gridpost.errors import GridpostError, Internal, PeerFault, StoreUnavailable
from gridpost.model import Channel, DataVersion, Position
from gridpost.ports import Delivery, OutboxItem
from gridpost.units import seconds_of

from .day_files import DAY_S, Day, DayFiles, day_stem
from .store import DeadLetter, SqlStore

BATCH = 100  # entries, or files, a step: a few tenths of a second, so that messages never wait long behind one
HOUR_MS = 3_600_000


class Made(NamedTuple):
    """A file put into the outbox: its name, how much its format could not hold, intervals with values in conflict."""

    name: str
    losses: int
    conflicts: int


class Outcome(NamedTuple):
    """What one step did, for the audit log.

    Attributes:
        entries: how many entries the cursor passed.
        files: each file put into the outbox.
        dead: days set aside, with the code and reason.
    """

    entries: int
    files: tuple[Made, ...] = ()
    dead: tuple[tuple[Day, str], ...] = ()


class DayFileReader:
    """Follows the log for one adapter."""

    def __init__(self, name: str, store: SqlStore, files: DayFiles, grace_h: int) -> None:
        """`name` keeps the cursor; `grace_h` hours after its end an incomplete day is written all the same."""
        self.name, self._store, self._files = name, store, files
        self._grace_ms = grace_h * HOUR_MS
        self._channels: Mapping[int, Channel] = {}

    def step(self, now_utc_ms: int) -> Outcome:
        """Take the next batch of entries, render the days that are due, and move the cursor.

        Raises:
            StoreUnavailable: the store fails; the next step begins where this one did.
        """
        version, state = self._store.cursor(self.name)
        headers = self._store.entries(version, BATCH)
        reached = {**version, **{header.position.partition: header.position.seq for header in headers}}
        letters = {one.subject: one.reason for one in self._store.dead_letters() if one.reader == self.name}
        touched = dict(self._touched([header.position for header in headers])) | self._again(letters)
        waiting = _waiting(state) | touched
        overdue = {day for day, end_utc in waiting.items() if now_utc_ms >= end_utc * 1000 + self._grace_ms}
        due = set(touched) | overdue
        if not headers and not due:
            return Outcome(0)
        items, made, dead = [], [], []
        for day in sorted(due):
            try:
                file = self._files.render(day, reached)
            except StoreUnavailable:
                raise  # not the day's fault: the whole step is taken again
            except Exception as problem:  # a defect too: one day that cannot be written must not stop all the others
                dead.append((day, _told(problem)))
                del waiting[day]
                continue
            if file.complete or day in overdue:
                del waiting[day]
                for item in self._revision(day, file.content, reached):
                    items.append(item)
                    conflicts = sum(len(ends) for _, ends in file.conflicts)
                    made.append(Made(item.name, len(file.losses), conflicts))
        for day, reason in dead:
            self._store.dead_letter(DeadLetter(self.name, _subject(day), reason, now_utc_ms)).result()
        self._store.advance(self.name, reached, _state(waiting), items).result()
        settled = sorted(letters.keys() & {_subject(day) for day in due - {day for day, _ in dead}})
        if settled:
            self._store.forget_dead_letters(self.name, settled).result()
        return Outcome(len(headers), tuple(made), tuple(dead))

    def _touched(self, positions: Sequence[Position]) -> Iterator[tuple[Day, int]]:
        """Yield each day those entries touch, with its end in UTC seconds."""
        for block in self._store.blocks(positions):
            channel = self._channel(block.channel_id)
            for day in self._files.days(channel, block):
                yield day, self._files.bounds(channel, day)[1]

    def _again(self, letters: Mapping[str, str]) -> dict[Day, int]:
        """Return the days that somebody wants tried again, each with its end; they are those without a reason."""
        again = {}
        for subject in (subject for subject, reason in letters.items() if not reason):
            meter, _, date = subject.rpartition(" ")
            day = Day(meter, seconds_of(datetime.strptime(f"{date}Z", "%Y%m%d%z")) // DAY_S)
            again[day] = max((self._files.bounds(channel, day)[1] for channel in self._files.channels(day)), default=0)
        return again

    def _channel(self, number: int) -> Channel:
        """Return a channel; what is used of it here, meter and zone, never changes, so all are asked for once."""
        if number not in self._channels:
            self._channels = {channel.id: channel for channel in self._store.channels()}
        return self._channels[number]

    def _revision(self, day: Day, content: bytes, version: DataVersion) -> Iterator[OutboxItem]:
        """The next revision, or nothing when the day's newest file has these very bytes."""
        stem, digest = f"{day_stem(day)}_r", sha256(content).digest()
        earlier = self._store.rendered(self.name, stem)
        if not earlier or earlier[-1].sha256 != digest:
            name = f"{stem}{len(earlier) + 1:02d}.{self._files.adapter.suffix}"
            yield OutboxItem(self.name, name, content, digest, version)


def _waiting(state: Mapping[str, object]) -> dict[Day, int]:
    """The days that wait to be complete, each with its end: what a reader keeps with its cursor."""
    waiting = state.get("waiting", [])
    assert isinstance(waiting, list)
    return {Day(meter, number): end_utc for meter, number, end_utc in waiting}


def _subject(day: Day) -> str:
    return f"{day.meter} {day.date}"


def _state(waiting: Mapping[Day, int]) -> Mapping[str, object]:
    return {"waiting": sorted([*day, end_utc] for day, end_utc in waiting.items())}


def _told(problem: Exception) -> str:
    if isinstance(problem, GridpostError):
        return f"{problem.code}: {problem.reason}"
    return f"{Internal.code}: {type(problem).__name__}: {problem}"


class Sent(NamedTuple):
    """What became of one file.

    Attributes:
        name: the file's.
        place: where it is; empty when it was set aside.
        reason: why it was, with the code; empty when it was delivered.
    """

    name: str
    place: str
    reason: str = ""


class Deliveries:
    """Carries a reader's outbox to its delivery."""

    def __init__(self, name: str, store: SqlStore, delivery: Delivery) -> None:
        """`name` is the reader's."""
        self.name, self._store, self._delivery = name, store, delivery

    def step(self, now_utc_ms: int) -> tuple[Sent, ...]:
        """Deliver what waits, oldest first; what can never be delivered becomes a dead letter and holds nobody up.

        Raises:
            OurFault: the way out is closed for now; what was delivered before is remembered.
        """
        return tuple(self._deliver(item, now_utc_ms) for item in self._store.pending(BATCH, self.name))

    def _deliver(self, item: OutboxItem, now_utc_ms: int) -> Sent:
        try:
            place = self._delivery.deliver(item.name, item.content)
        except PeerFault as error:
            sent = Sent(item.name, "", f"{error.code}: {error.reason}")
            self._store.dead_letter(DeadLetter(self.name, item.name, sent.reason, now_utc_ms)).result()
            return sent
        self._store.delivered(self.name, item.name, place, now_utc_ms).result()
        return Sent(item.name, place)
