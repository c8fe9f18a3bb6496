"""The audit log's file: whole lines behind each other, turned over by size, shared by several processes.

In: lines. Out: ``audit.jsonl`` and, older first renamed, ``audit.jsonl.1`` ... ``.N``. A line is one write to a file
opened for appending, so lines of several processes never mix. Who turns the file over holds a lock on it; the others,
and we after logrotate's rename, notice within a second that the name now is another file, and open that. A line written
meanwhile stands at the end of the file before.

Nothing here may stop the bus: what fails, a full disk above all, leaves the file as it is, and is tried again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic

LOOKED_S = 1.0  # how long we may write on after somebody renamed the file
SHARE = 64  # of its size the file may grow beyond it, at most, by each process
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class AuditFile:
    """One process's end of the file; the caller sees to it that one thread writes at a time."""

    def __init__(self, file: Path, most: int, keep: int) -> None:
        """Open the file for appending.

        Args:
            file: its name.
            most: from so many bytes on it is turned over; 0: never.
            keep: how many older files stay, at least one.

        Raises:
            OSError: it cannot be opened.
        """
        self._file, self._most, self._keep = file, most, keep
        self._handle = os.open(file, _APPEND, 0o666)
        self._due_s, self._written = 0.0, 0  # when to look again, and how much we wrote since we looked
        self._step = max(1, most // SHARE) if most else 1 << 30
        self._torn = _ends_torn(file)
        self._failed = False  # the last look, and that was told

    def write(self, line: str) -> None:
        """Append one line, its end included.

        Half a line, left by a power cut or a full disk, is ended first: what comes after it has lines of its own.

        Raises:
            OSError: it was not written, or not whole.
        """
        try:
            self._look()
            self._failed = False
        except OSError as error:  # on with the file we have
            self._tell(error)
        octets = b"\n" * self._torn + line.encode("ascii")
        written = os.write(self._handle, octets)
        self._written += written
        if written:
            self._torn = not octets[:written].endswith(b"\n")
        if written != len(octets):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)

    def _tell(self, error: OSError) -> None:
        """Say once that the file was not turned over."""
        if not self._failed:
            self._failed = True
            with suppress(OSError):  # standard error may be on that disk
                print(f"audit log: {self._file} not turned over: {error.strerror}", file=sys.stderr)

    def _look(self) -> None:
        now = monotonic()
        if now < self._due_s and self._written < self._step:
            return
        self._due_s, self._written = now + LOOKED_S, 0
        if not self._is_ours():
            self._take(os.open(self._file, _APPEND, 0o666))
        elif 0 < self._most <= self._size():
            self._turn_over()

    def _is_ours(self) -> bool:
        """Tell whether the name still is the file we write."""
        try:
            return os.path.samestat(os.stat(self._file), os.fstat(self._handle))
        except FileNotFoundError:
            return False

    def _size(self) -> int:
        """Return the size; 0 of what is no file: a pipe, a terminal."""
        found = os.fstat(self._handle)
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def _take(self, handle: int) -> None:
        os.close(self._handle)
        self._handle, self._torn = handle, False

    def _turn_over(self) -> None:
        """Rename the older ones and ours, and begin a new one; or do nothing, where a step fails."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process does it
        try:
            if self._is_ours():  # nobody was faster
                self._begin()
        finally:
            with suppress(OSError):
                fcntl.flock(self._handle, fcntl.LOCK_UN)

    def _begin(self) -> None:
        """The new file is there before the old one loses its name: without room nothing is renamed."""
        fresh = self._file.with_name(f".{self._file.name}.next")
        handle = os.open(fresh, _APPEND, 0o666)
        try:
            os.fchmod(handle, stat.S_IMODE(os.fstat(self._handle).st_mode))
            free = next((number for number in range(1, self._keep) if not self._older(number).exists()), self._keep)
            for number in range(free - 1, 0, -1):
                os.replace(self._older(number), self._older(number + 1))
            if free == 1:  # with one file kept, or after a failure
                self._older(1).unlink(missing_ok=True)
            os.link(self._file, self._older(1))
            os.replace(fresh, self._file)
        except OSError:
            os.close(handle)
            fresh.unlink(missing_ok=True)
            raise
        self._take(handle)

    def _older(self, number: int) -> Path:
        return self._file.with_name(f"{self._file.name}.{number}")


def _ends_torn(file: Path) -> bool:
    if not file.is_file() or not file.stat().st_size:  # a pipe or a terminal has no end to look at
        return False
    try:
        with file.open("rb") as written:
            written.seek(-1, os.SEEK_END)
            return written.read(1) != b"\n"
    except OSError:
        return False  # not readable
