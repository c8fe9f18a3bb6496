"""The log's readers: each follows the entries with a cursor of its own and turns them into files.

In: entries behind the cursor. Out: rendered files with a stable name, put into the outbox together with the cursor in
one transaction, so a crash at any line repeats a step or none. Then `Deliveries` carries the outbox out, at least once,
idempotent by name. A reader holds no state but what `cursor` returns. What cannot be rendered is set aside as a dead
letter until new data touches it: nothing blocks the log.

`DayFileReader` writes a file a meter and day (decision 22): when the day is complete or some hours after its end, and
again as the next revision when a later entry changes its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from gridpost.errors import GridpostError, PeerFault
from gridpost.model import DataVersion, Position
from gridpost.ports import Delivery, OutboxItem

from .day_files import Day, DayFiles, day_stem
from .store import DeadLetter, SqlStore

BATCH = 500
HOUR_MS = 3_600_000


class Outcome(NamedTuple):
    """What one step did, for the audit log.

    Attributes:
        entries: how many entries the cursor passed.
        files: name and number of losses of each file put into the outbox.
        dead: days set aside, with the code and reason.
    """

    entries: int
    files: tuple[tuple[str, int], ...] = ()
    dead: tuple[tuple[Day, str], ...] = ()


class DayFileReader:
    """Follows the log for one adapter."""

    def __init__(self, name: str, store: SqlStore, files: DayFiles, grace_h: int) -> None:
        """`name` keeps the cursor; `grace_h` hours after its end an incomplete day is written all the same."""
        self.name, self._store, self._files = name, store, files
        self._grace_ms = grace_h * HOUR_MS

    def step(self, now_utc_ms: int) -> Outcome:
        """Take the next batch of entries, render the days that are due, and move the cursor."""
        version, state = self._store.cursor(self.name)
        headers = self._store.entries(version, BATCH)
        reached = {**version, **{header.position.partition: header.position.seq for header in headers}}
        waiting = _days(state)
        touched = set(self._touched([header.position for header in headers]))
        due = touched | {day for day in waiting if self._is_overdue(day, now_utc_ms)}
        if not headers and not due:
            return Outcome(0)
        items, losses, dead = [], [], []
        waiting |= touched
        for day in sorted(due):
            try:
                file = self._files.render(day, reached)
            except GridpostError as error:
                dead.append((day, f"{error.code}: {error.reason}"))
                waiting.discard(day)
                continue
            if file.complete or self._is_overdue(day, now_utc_ms):
                waiting.discard(day)
                for item in self._revision(day, file.content, reached):
                    items.append(item)
                    losses.append((item.name, len(file.losses)))
        for day, reason in dead:
            letter = DeadLetter(self.name, f"{day.meter} {day.date}", reason, now_utc_ms)
            self._store.dead_letter(letter).result()
        self._store.advance(self.name, reached, {"waiting": sorted(waiting)}, items).result()
        return Outcome(len(headers), tuple(losses), tuple(dead))

    def _touched(self, positions: Sequence[Position]) -> Iterator[Day]:
        channels = {channel.id: channel for channel in self._store.channels()}
        for block in self._store.blocks(positions):
            yield from self._files.days(channels[block.channel_id], block)

    def _is_overdue(self, day: Day, now_utc_ms: int) -> bool:
        channels = self._files.channels(day)
        return bool(channels) and now_utc_ms >= self._files.bounds(channels[0], day)[1] * 1000 + self._grace_ms

    def _revision(self, day: Day, content: bytes, version: DataVersion) -> Iterator[OutboxItem]:
        """The next revision, or nothing when the day's newest file has these very bytes."""
        stem, digest = f"{day_stem(day)}_r", sha256(content).digest()
        earlier = self._store.rendered(self.name, stem)
        if not earlier or earlier[-1].sha256 != digest:
            name = f"{stem}{len(earlier) + 1:02d}.{self._files.adapter.suffix}"
            yield OutboxItem(self.name, name, content, digest, version)


def _days(state: Mapping[str, object]) -> set[Day]:
    waiting = state.get("waiting", [])
    assert isinstance(waiting, list)
    return {Day(meter, number) for meter, number in waiting}


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
