"""MemoryStore: a Store in memory, for tests of what stands on a store; public, imported by `testing.py`.

Floor 5, pure. It passes the same contract suite as the engines (`tests/contract/test_store.py`), with one difference:
its futures are done when `record` and `advance` return. The clock is given. Nothing survives the object.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from hashlib import sha256
from typing import TypeVar

from . import current, log, merkle
from .current import Filed, FiledRegister, FiledRun
from .documents import Document
from .errors import AlreadyExists, GridpostError, Internal, MessageIdReused, NotFound
from .log import Head, OnFile, Planned
from .model import Channel, DataVersion, Enrolment, Entry, Position, Rows
from .ports import (
    Clock,
    CurrentReadings,
    EntryHeader,
    MakeReceipt,
    OutboxItem,
    StoredBlock,
    StoredDocument,
    StoredReceipt,
)

_T = TypeVar("_T")


class MemoryStore:
    """Fulfils `ports.Store`; `entries_planned` shows everything written, in order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._head = Head(0, merkle.Frontier(), 0)
        self._enrolments: dict[bytes, Enrolment] = {}
        self._channels: list[Channel] = []
        self._owners: dict[int, str] = {}
        self._known: dict[tuple[str, str], StoredReceipt] = {}
        self._cursors: dict[str, tuple[DataVersion, Mapping[str, object]]] = {}
        self.entries_planned: list[Planned] = []
        self.outbox: dict[tuple[str, str], OutboxItem] = {}

    def enrol(self, serial: str, certificate: bytes, channels: Sequence[Channel]) -> tuple[Channel, ...]:
        """Enrol an IED with one certificate (DER) and return its channels as numbered; no rule is checked."""
        with self._lock:
            if any(known.sender == serial for known in self._enrolments.values()):
                raise AlreadyExists(f"{serial} is enrolled already")
            first = len(self._channels) + 1
            numbered = tuple(replace(channel, id=first + i) for i, channel in enumerate(channels))
            self._channels += numbered
            self._owners.update((channel.id, serial) for channel in numbered)
            self._enrolments[sha256(certificate).digest()] = Enrolment(serial, certificate, None, numbered)
            return numbered

    def revoke(self, serial: str, at_utc_ms: int) -> None:
        """Revoke the IED's certificates."""
        with self._lock:
            for digest, known in self._enrolments.items():
                if known.sender == serial:
                    self._enrolments[digest] = replace(known, revoked_at_utc_ms=at_utc_ms)

    def enrolment(self, certificate_sha256: bytes) -> Enrolment | None:
        """See `ports.Store`."""
        return self._enrolments.get(certificate_sha256)

    def find(self, sender: str, message_id: str) -> StoredReceipt | None:
        """See `ports.Store`."""
        return self._known.get((sender, message_id))

    def record(self, entry: Entry, rows: Rows, make_receipt: MakeReceipt) -> Future[bytes]:
        """See `ports.Store`."""
        return self._settled(lambda: self._record(entry, rows, make_receipt))

    def version(self) -> DataVersion:
        """See `ports.Store`."""
        size = self._head.frontier.size
        return {0: size - 1} if size else {}

    def version_at(self, moment_utc_ms: int) -> DataVersion:
        """See `ports.Store`."""
        if moment_utc_ms > self._clock() - 60_000:
            raise NotFound("a moment has one data version for ever only once it is 60 s past; ask again then")
        seqs = [one.position.seq for one in self.entries_planned if one.parts.recorded_at_utc_ms <= moment_utc_ms]
        return {0: max(seqs)} if seqs else {}

    def entries(self, after: DataVersion, limit: int) -> Sequence[EntryHeader]:
        """See `ports.Store`."""
        start = after.get(0, -1) + 1
        return [
            EntryHeader(
                one.position, one.entry.sender, one.entry.message_id, one.entry.noun, one.parts.recorded_at_utc_ms
            )
            for one in self.entries_planned[start : start + limit]
        ]

    def blocks(self, positions: Sequence[Position]) -> Sequence[StoredBlock]:
        """See `ports.Store`."""
        chosen = [self.entries_planned[position.seq] for position in sorted(set(positions))]
        return [StoredBlock(one.position, *run) for one in chosen for run in one.runs]

    def channels(
        self, sender: str | None = None, meter: str | None = None, usage_point: str | None = None
    ) -> Sequence[Channel]:
        """See `ports.Store`."""
        return [
            channel
            for channel in self._channels
            if sender in (None, self._owners[channel.id])
            and meter in (None, channel.key.meter)
            and usage_point in (None, channel.key.usage_point)
        ]

    def readings(self, channel_id: int, from_utc: int, to_utc: int, at: DataVersion | None = None) -> CurrentReadings:
        """See `ports.Store`."""
        channel = next((channel for channel in self._channels if channel.id == channel_id), None)
        if channel is None:
            raise NotFound(f"no channel {channel_id}")
        last = (self.version() if at is None else at).get(0, -1)
        behind = self.entries_planned[: last + 1]
        runs = [
            FiledRun(one.parts.recorded_at_utc_ms, one.position, run)
            for one in behind
            for run in one.runs
            if run.channel_id == channel_id
        ]
        registers = [
            FiledRegister(one.parts.recorded_at_utc_ms, one.position, judged)
            for one in behind
            for judged in one.registers
            if judged.register.channel_id == channel_id
        ]
        return current.current_readings(channel, (from_utc, to_utc), Filed(runs, registers))

    def readings_of(
        self, channel_ids: Sequence[int], from_utc: int, to_utc: int, at: DataVersion | None = None
    ) -> Iterator[CurrentReadings]:
        """See `ports.Store`."""
        until = self.version() if at is None else at
        for channel_id in channel_ids:
            yield self.readings(channel_id, from_utc, to_utc, until)

    def documents(
        self,
        kind: str,
        *,
        owner: str | None = None,
        subject: str | None = None,
        id: str | None = None,
        at: DataVersion | None = None,
    ) -> Sequence[StoredDocument]:
        """See `ports.Store`."""
        found = self.document_versions(kind, owner=owner, subject=subject, id=id, at=at)
        newest = {one.document[:3]: one for one in found}
        return [one for one in found if newest[one.document[:3]] is one]

    def document_versions(
        self,
        kind: str,
        *,
        owner: str | None = None,
        subject: str | None = None,
        id: str | None = None,
        at: DataVersion | None = None,
    ) -> Sequence[StoredDocument]:
        """See `ports.Store`."""
        last = (self.version() if at is None else at).get(0, -1)
        wanted = {"kind": kind, "owner": owner, "subject": subject, "id": id}
        return [
            StoredDocument(one.position, one.parts.recorded_at_utc_ms, Document._make(row[1:]))
            for one in self.entries_planned[: last + 1]
            for row in one.documents
            if all(value in (None, getattr(row, name)) for name, value in wanted.items())
        ]

    def cursor(self, reader: str) -> tuple[DataVersion, Mapping[str, object]]:
        """See `ports.Store`."""
        return self._cursors.get(reader, ({}, {}))

    def advance(
        self, reader: str, version: DataVersion, state: Mapping[str, object], items: Sequence[OutboxItem]
    ) -> Future[None]:
        """See `ports.Store`."""
        return self._settled(lambda: self._advance(reader, version, state, items))

    def _record(self, entry: Entry, rows: Rows, make_receipt: MakeReceipt) -> bytes:
        known = self._known.get((entry.sender, entry.message_id))
        if known is not None:
            if known.content_digest != entry.content_digest:
                raise MessageIdReused()
            return known.receipt
        named = {block.channel_id for block in rows.blocks} | {register.channel_id for register in rows.registers}
        if unknown := named - self._owners.keys():
            raise Internal(detail=f"no channel {min(unknown)}")
        planned = log.plan(self._head, self._clock(), (entry, rows, make_receipt), self._on_file())
        self._head = planned.head
        self.entries_planned.append(planned)
        self._known[entry.sender, entry.message_id] = StoredReceipt(entry.content_digest, planned.receipt)
        return planned.receipt

    def _on_file(self) -> OnFile:
        on_file = OnFile({}, {})
        for planned in self.entries_planned:
            on_file.add(planned)
        return on_file

    def _advance(
        self, reader: str, version: DataVersion, state: Mapping[str, object], items: Sequence[OutboxItem]
    ) -> None:
        self._cursors[reader] = (dict(version), dict(state))
        for item in items:
            self.outbox.setdefault((reader, item.name), item)

    def _settled(self, work: Callable[[], _T]) -> Future[_T]:
        future: Future[_T] = Future()
        with self._lock:
            try:
                future.set_result(work())
            except GridpostError as refusal:
                future.set_exception(refusal)
            except Exception as problem:  # a defect of the caller's: told through the future, as an engine does
                future.set_exception(Internal(detail=repr(problem)))
        return future
