"""Ways out that the adapters share: a file put into a directory.

In: a stable name and bytes. Out: the place. A reader of the directory sees a whole file under its name or none: it is
written beside it under a name with a leading dot, synced, and renamed. Doing it again with the same bytes changes
nothing; other bytes under a known name are refused, never written over.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from gridpost.errors import AlreadyExists, CannotRepresent, StoreUnavailable

MAX_NAME = 200  # bytes; file systems take 255, and the temporary name is longer
_NAME = re.compile(r"[A-Za-z0-9_#@%+=,~(){}\[\]!$&-][A-Za-z0-9_#@%+=,~(){}\[\]!$&. -]*\Z", re.ASCII)
# Windows opens a device for these, whatever the suffix; the directory may well be a share.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|\Z)", re.ASCII | re.IGNORECASE)


class Directory:
    """Delivery into a directory; made, when missing, inside an existing one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._folder = Path(path)

    def deliver(self, name: str, content: bytes) -> str:
        """Put `content` under `name` and return the file's path.

        Raises:
            CannotRepresent: the name could lead out of the directory or is none that every system takes.
            AlreadyExists: other content stands there under that name.
            StoreUnavailable: the directory cannot be written now; what was there before still is.
        """
        check_name(name)
        target = self._folder / name
        try:
            _make(self._folder)
            if _stands(target, content):
                # By a run that may have ended before its syncs did: who hears that it is delivered lets go of it.
                _sync(target)
                _sync(self._folder)
                return str(target)
            _put(target, content)
        except OSError as error:
            raise StoreUnavailable(f"{target} cannot be written: {error.strerror or error}") from error
        return str(target)


def check_name(name: str) -> None:
    """Take a plain file name: ASCII, no separator, no leading dot, not a device, at most 200 characters.

    Raises:
        CannotRepresent: anything else.
    """
    if not _NAME.match(name) or len(name) > MAX_NAME or name[-1] in ". " or ".." in name or _DEVICES.match(name):
        raise CannotRepresent(f"{name[:80]!r} is not the name of a file in a directory")


def _stands(target: Path, content: bytes) -> bool:
    """Tell whether the file is there already with this content.

    Raises:
        AlreadyExists: it is there with other content, or as something that is not a file.
    """
    if not os.path.lexists(target):
        return False
    if target.is_file() and not target.is_symlink() and target.read_bytes() == content:
        return True
    raise AlreadyExists(f"{target} is there with other content")


def _make(folder: Path) -> None:
    """Make the directory, when missing, and have its name on disk, or not at all."""
    if folder.is_dir():
        return
    folder.mkdir()
    try:
        _sync(folder.parent)
    except OSError:
        folder.rmdir()
        raise


def _put(target: Path, content: bytes) -> None:
    """Write, sync, rename, sync the directory: after a crash the name shows the whole file or nothing.

    A sync that fails may have dropped what it should have kept, and a second one would not say so: all is done anew.
    """
    temporary = target.with_name(f".{target.name}.part")
    temporary.unlink(missing_ok=True)  # left by a crash; O_EXCL below must not meet a planted link
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    try:
        _sync(target.parent)
    except OSError:
        target.unlink()
        raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
