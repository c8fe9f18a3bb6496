"""What a disk may hold after the power went: pure, from a trace of writes and syncs and a seeded chance.

In: the files before, records of `disk_shim`, a `random.Random`. Out: the files after. What POSIX promises and no more:

- a write or truncation is on disk once a sync of that file, begun after it, has returned; until then it may be lost,
  kept, or kept in some of its 512-byte sectors only, whatever became of those before and after it;
- a name made, removed or renamed is on disk once a sync of its folder has; until then each may have happened or not;
- a sync that failed may have dropped what it should have written, and a later one does not bring it back.

No process and no file is touched here but by `load` and `put`.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from disk_shim import Record

SECTOR = 512
REBUILT = "-shm"  # SQLite's shared index, written through mmap: made anew from the log by who opens it first


class Weather(NamedTuple):
    """How a power cut treats what was not synced: percent kept whole, percent torn; the rest is lost."""

    kept: int
    torn: int


CALM, DROUGHT = Weather(100, 0), Weather(0, 0)
SEASONS = (DROUGHT, Weather(0, 30), Weather(20, 20), Weather(50, 25), Weather(80, 15), Weather(95, 5))


@dataclass(eq=False)
class Change:
    """A write at an offset, or (`data` None) a truncation to a size."""

    at: int
    index: int
    data: bytes | None = None

    def do(self, content: bytearray) -> None:
        if self.data is None:
            del content[self.at :]
            _grow(content, self.at)
        else:
            _grow(content, self.at)
            content[self.at : self.at + len(self.data)] = self.data

    def tear(self, content: bytearray, chance: random.Random) -> None:
        """Put some of its sectors."""
        assert self.data is not None
        end = self.at + len(self.data)
        first = self.at
        while first < end:
            last = min((first // SECTOR + 1) * SECTOR, end)
            if chance.randrange(2):
                Change(first, 0, self.data[first - self.at : last - self.at]).do(content)
            first = last

    def suffer(self, content: bytearray, weather: Weather, chance: random.Random) -> None:
        """Happen, partly happen, or not."""
        fate = chance.randrange(100)
        if fate < weather.kept:
            self.do(content)
        elif self.data is not None and fate < weather.kept + weather.torn:
            self.tear(content, chance)
        elif self.data is not None and chance.randrange(2):
            _grow(content, self.at + len(self.data))  # the size was written down, the bytes were not


@dataclass(eq=False)
class File:
    """`content` is what is surely on disk."""

    content: bytearray
    pending: list[Change] = field(default_factory=list)


@dataclass(eq=False)
class Naming:
    """Names taken away and (`node` not None) one given, as one step."""

    index: int
    removed: tuple[str, ...]
    name: str = ""
    node: Node | None = None

    def do(self, names: dict[str, Node]) -> None:
        for name in self.removed:
            names.pop(name, None)
        if self.node is not None:
            names[self.name] = self.node


@dataclass(eq=False)
class Folder:
    """`synced` is what is surely on disk, `names` what processes see."""

    names: dict[str, Node] = field(default_factory=dict)
    synced: dict[str, Node] = field(default_factory=dict)
    pending: list[Naming] = field(default_factory=list)


Node = File | Folder
Files = dict[str, bytes | None]  # path below the root -> content; None: a folder


class Untold(Exception):
    """The trace holds something this model does not know."""


class Disk:
    """Follows a trace."""

    def __init__(self, root: str, files: Files, chance: random.Random) -> None:
        """Everything in `files` is on disk; `chance` decides what a failed sync drops."""
        self._root, self._chance = PurePosixPath(root), chance
        self._top = Folder()
        self._open: dict[tuple[int, int], Node] = {}
        self._syncing: dict[tuple[int, int], list[int]] = {}
        self._index = 0
        for path in sorted(files):
            content = files[path]
            node: Node = Folder() if content is None else File(bytearray(content))
            parent, name = self._place(str(self._root / path))
            parent.names[name] = parent.synced[name] = node

    def follow(self, trace: Iterable[Record]) -> Disk:
        """Take records in their order.

        Raises:
            Untold: a call the shim does not describe, or a descriptor nobody opened.
        """
        acts = {
            "O": self._opened, "W": self._wrote, "T": self._truncated, "Y": self._began, "Z": self._ended,
            "N": self._removed, "D": self._removed, "R": self._renamed, "M": self._made,
        }  # fmt: skip
        for record in trace:
            self._index += 1
            if record.op == "U":
                raise Untold(f"{record.path} on a file of the folder")
            if record.op != "A":
                acts[record.op](record)
        return self

    def cut(self, weather: Weather, chance: random.Random) -> Files:
        """Return what is on the disk if the power goes now; the disk itself goes on."""
        found: Files = {}
        self._collect(self._top, "", (weather, chance), found)
        return found

    # --- records ---

    def _place(self, path: str) -> tuple[Folder, str]:
        folder = self._top
        *parents, name = PurePosixPath(path).relative_to(self._root).parts
        for parent in parents:
            node = folder.names[parent]
            assert isinstance(node, Folder)
            folder = node
        return folder, name

    def _opened(self, record: Record) -> None:
        if PurePosixPath(record.path) == self._root:
            self._open[record.where] = self._top
            return
        folder, name = self._place(record.path)
        node = folder.names.get(name)
        if node is None:
            node = File(bytearray())
            self._name(folder, Naming(self._index, (), name, node))
        self._open[record.where] = node
        if record.number & 2 and isinstance(node, File):
            node.pending.append(Change(0, self._index))

    def _file(self, record: Record) -> File:
        node = self._open.get(record.where)
        if not isinstance(node, File):
            raise Untold(f"{record.op} on a descriptor that is no open file: {record.where}")
        return node

    def _wrote(self, record: Record) -> None:
        self._file(record).pending.append(Change(record.number, self._index, record.data))

    def _truncated(self, record: Record) -> None:
        self._file(record).pending.append(Change(record.number, self._index))

    def _began(self, record: Record) -> None:
        self._syncing.setdefault(record.where, []).append(self._index)

    def _ended(self, record: Record) -> None:
        before = self._syncing[record.where].pop(0)  # of two at once the one that covers less
        node = self._open[record.where]
        covered = [one for one in node.pending if one.index < before]
        node.pending[:] = [one for one in node.pending if one.index >= before]
        for one in covered:
            if record.number and self._chance.randrange(2):
                continue  # the kernel gave these pages up, and says so only once
            if isinstance(one, Change) and isinstance(node, File):
                one.do(node.content)
            elif isinstance(one, Naming) and isinstance(node, Folder):
                one.do(node.synced)

    def _name(self, folder: Folder, naming: Naming) -> None:
        naming.do(folder.names)
        folder.pending.append(naming)

    def _removed(self, record: Record) -> None:
        folder, name = self._place(record.path)
        self._name(folder, Naming(self._index, (name,)))

    def _renamed(self, record: Record) -> None:
        folder, name = self._place(record.path)
        target, new = self._place(record.data.decode())
        if folder is not target:
            raise Untold("a rename from one folder to another")
        self._name(folder, Naming(self._index, (name,), new, folder.names[name]))

    def _made(self, record: Record) -> None:
        folder, name = self._place(record.path)
        self._name(folder, Naming(self._index, (), name, Folder()))

    # --- the cut ---

    def _collect(self, folder: Folder, path: str, fate: tuple[Weather, random.Random], found: Files) -> None:
        weather, chance = fate
        names = dict(folder.synced)
        for naming in folder.pending:
            if chance.randrange(100) < weather.kept + weather.torn // 2:
                naming.do(names)
        for name, node in names.items():
            if name.endswith(REBUILT):
                continue
            if isinstance(node, Folder):
                found[path + name] = None
                self._collect(node, f"{path}{name}/", fate, found)
            else:
                content = bytearray(node.content)
                for change in node.pending:
                    change.suffer(content, weather, chance)
                found[path + name] = bytes(content)


def _grow(content: bytearray, size: int) -> None:
    if len(content) < size:
        content.extend(bytes(size - len(content)))


def load(folder: Path) -> Files:
    """Return the files below a folder."""
    return {
        file.relative_to(folder).as_posix(): None if file.is_dir() else file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if not file.name.endswith(REBUILT)
    }


def put(files: Files, folder: Path) -> None:
    """Make a folder hold these files and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in sorted(files):
        content = files[path]
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)
            (folder / path).chmod(0o600)
