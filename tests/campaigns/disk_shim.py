"""Compiles disk_shim.c, puts it below a process, and reads what it wrote down.

In: a folder to look at. Out: the environment for the process, its trace as records, and a page that says which of its
calls fail. Needs a C compiler (`compiler()` is None without one); nothing else here does.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("disk_shim.c")
_HEAD = struct.Struct("<Ic3xiiiIIq")  # struct head in disk_shim.c
_PAGE = struct.Struct("<6i")  # struct control
_MAGIC = 0x44535031
WRITES, SYNCS, CREATES, READS, MAIN_SYNCS = 1, 2, 4, 8, 16  # the last: of databases, not of their logs


class Record(NamedTuple):
    """One line of a trace.

    Attributes:
        op: O open, W write, T truncate, Y a sync begins, Z it has ended, N unlink, R rename, M mkdir, D rmdir,
            A bytes sent to a socket, U something the shim cannot tell.
        where: process and descriptor, what an open file is known by.
        thread: which thread.
        number: O 1 made + 2 emptied, W offset, T size, Z errno or 0.
        path: of O, N, R, M, D.
        data: what was written or sent; of R the new path.
    """

    op: str
    where: tuple[int, int]
    thread: int
    number: int
    path: str
    data: bytes


def records(raw: bytes) -> Iterator[Record]:
    """Yield a trace's records; the last one may be cut short, as the process was killed while it wrote it."""
    at = 0
    while at + _HEAD.size <= len(raw):
        magic, op, pid, tid, fd, path_length, data_length, number = _HEAD.unpack_from(raw, at)
        if magic != _MAGIC:
            raise ValueError(f"no record at byte {at} of the trace")
        data_at = at + _HEAD.size + path_length
        at, path = data_at + data_length, raw[at + _HEAD.size : data_at].decode()
        if at <= len(raw):
            yield Record(op.decode(), (pid, fd), tid, number, path, raw[data_at:at])


def packed(record: Record) -> bytes:
    """Return a record as the shim writes it: for tests."""
    path = record.path.encode()
    sizes = (len(path), len(record.data))
    head = _HEAD.pack(
        _MAGIC, record.op.encode(), record.where[0], record.thread, record.where[1], *sizes, record.number
    )
    return head + path + record.data


def compiler() -> str | None:
    """Return the C compiler's path."""
    return next((found for found in map(shutil.which, ("cc", "gcc", "clang")) if found), None)


class Control:
    """The page shared with the shim: which calls fail from now on."""

    def __init__(self, file: Path) -> None:
        file.write_bytes(bytes(mmap.PAGESIZE))
        with file.open("r+b") as opened:
            self._page = mmap.mmap(opened.fileno(), _PAGE.size)

    def arm(self, kinds: int, error: int, every: int = 1, swallow: bool = False) -> None:
        """Let every n-th call of these kinds fail; counted from now."""
        self._page[:] = _PAGE.pack(0, error, every, 0, 0, swallow)
        self._page[:4] = struct.pack("<i", kinds)

    def disarm(self) -> None:
        self._page[:4] = bytes(4)

    @property
    def fired(self) -> int:
        """How many calls failed since it was armed."""
        fired: int = _PAGE.unpack(self._page)[4]
        return fired

    def close(self) -> None:
        self._page.close()


@dataclass
class Shim:
    """A compiled shim with its trace and its page; `folder` is what it looks at and must be a real path."""

    library: Path
    folder: Path
    trace: Path
    control: Control
    page: Path
    lie: str = ""

    @classmethod
    def build(cls, place: Path, folder: Path, lie: str = "") -> Shim:
        """Compile into `place`.

        Raises:
            FileNotFoundError: there is no C compiler.
        """
        found = compiler()
        if found is None:
            raise FileNotFoundError("no C compiler (cc, gcc or clang)")
        library, page = place / "disk_shim.so", place / "disk_shim.page"
        command = [found, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", library, SOURCE, "-ldl"]
        subprocess.run([*command, "-lpthread"], check=True)
        return cls(library, folder, place / "disk_shim.trace", Control(page), page, lie)

    def environment(self, traced: bool = True) -> dict[str, str]:
        """Return the environment of a process above the shim."""
        shim = {
            "LD_PRELOAD": str(self.library),
            "DISK_SHIM_ROOT": str(self.folder),
            "DISK_SHIM_CONTROL": str(self.page),
            "DISK_SHIM_LIE": self.lie,
        }
        return {**os.environ, **shim} | ({"DISK_SHIM_TRACE": str(self.trace)} if traced else {})

    def so_far(self) -> list[Record]:
        """Return the trace so far."""
        return list(records(self.trace.read_bytes() if self.trace.exists() else b""))

    def taken(self) -> list[Record]:
        """Return the trace so far and begin a new one; nothing may run above the shim."""
        trace = self.so_far()
        self.trace.unlink(missing_ok=True)
        return trace


ENOSPC, EIO = errno.ENOSPC, errno.EIO
