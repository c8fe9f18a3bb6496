"""The audit log: one JSON line an event, for people who must know later who was refused and why.

What goes in: event names and plain values, never secrets, keys or message content. Control characters are escaped by
JSON and long values cut, so one event is one short line whatever a stranger sent (CWE-117). Refusals are also counted
by code; the counts go to the store every few seconds, and a crash may lose the last of them (decision 8).
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from gridpost.ports import Clock
from gridpost.units import format_utc_ms

from .audit_file import AuditFile
from .config import Config

STRANGERS_LINES = 500
LONGEST = 400  # characters of a value; a signed message id may be as long as a message


class Lines(Protocol):
    """What takes lines: a text stream, or an `AuditFile`."""

    def write(self, line: str, /) -> object:
        """Append a line, its end included."""

    def flush(self) -> object:
        """Leave nothing waiting."""


class Audit:
    """Writes events from any thread; counts refusals in the reactor."""

    def __init__(self, stream: Lines, clock: Clock) -> None:
        """`stream` takes whole lines; see `open_audit`."""
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()
        self._refused: Counter[str] = Counter()
        self.events: Counter[str] = Counter()  # by name, written or not, since this process started
        self.refusals: Counter[str] = Counter()  # by code, since this process started
        self._strangers_lines = 0

    def event(self, event: str, /, **values: str | int | None) -> None:
        """Write one event. A full disk must not stop the bus, so it is told to standard error instead."""
        cut = {name: value[:LONGEST] if isinstance(value, str) else value for name, value in values.items()}
        line = json.dumps({"time": format_utc_ms(self._clock()), "event": event, **cut}, ensure_ascii=True)
        with self._lock:
            self.events[event] += 1
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except OSError as error:
                # Standard error may be on that disk, or a pipe without a reader: then nobody is left to be told.
                with contextlib.suppress(OSError):
                    print(f"audit log: {error.strerror}: {line}", file=sys.stderr)

    def refused(
        self, code: str, peer: str, detail: str = "", *, verified: bool = False, **values: str | int | None
    ) -> None:
        """Write a refusal with its inner cause, and count it.

        Anybody can be refused a thousand times a second: beyond STRANGERS_LINES between two calls of `take_refusals`
        those whose signature was not verified are counted only, so that they cannot fill the disk with our own words.
        """
        self._refused[code] += 1
        self.refusals[code] += 1
        self._strangers_lines += not verified
        if verified or self._strangers_lines <= STRANGERS_LINES:
            self.event("refused", code=code, peer=peer, detail=detail, **values)

    def take_refusals(self) -> Mapping[str, int]:
        """Return the counts since the last call, and say how many had no line."""
        unwritten, self._strangers_lines = self._strangers_lines - STRANGERS_LINES, 0
        if unwritten > 0:
            self.event("refusals-unwritten", count=unwritten)
        taken, self._refused = self._refused, Counter()
        return taken


def configured(config: Config, clock: Clock) -> Audit:
    """Open the audit log the settings name."""
    bus = config.bus
    return open_audit(config.path(bus.audit) if bus.audit else None, clock, bus.audit_size, bus.audit_keep)


def open_audit(file: Path | None, clock: Clock, most: int = 0, keep: int = 1) -> Audit:
    """Open the audit log for appending; None is standard error.

    Args:
        file: its name.
        clock: UTC milliseconds.
        most: from so many bytes on the file is turned over; 0: never.
        keep: how many older files stay.
    """
    return Audit(sys.stderr if file is None else AuditFile(file, most, keep), clock)
