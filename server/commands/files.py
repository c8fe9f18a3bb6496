"""How a command writes a file: whole, or not at all.

In: a path and bytes. Out: the file. Imports nothing heavy, so that `convert` starts quickly.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gridpost.errors import FileUnwritable


def write_whole(target: Path, content: bytes) -> None:
    """Write a file under a temporary name, sync it and rename it: it is there whole or as it was before.

    Raises:
        FileUnwritable: the folder is missing, may not be written to, or is full.
    """
    write_parts(target, (content,))


def write_parts(target: Path, parts: Iterable[bytes]) -> None:
    """Do the same with a file that comes in parts and need not fit into memory; a part that fails leaves no file.

    Raises:
        FileUnwritable: the folder is missing, may not be written to, or is full.
    """
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".part", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise FileUnwritable(f"{target} cannot be written: {error.strerror or error}") from error


def make_folder(folder: Path) -> None:
    """Make a folder to write into, with those above it, where it is not there yet.

    Raises:
        FileUnwritable: it cannot be made, or is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileUnwritable(f"{folder} cannot be made: {error.strerror or error}") from error


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on disk when this returns.

    Raises:
        OSError: they may not be.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # The only way to ask for it is to set it; a command has one thread.
    mask = os.umask(0)
    os.umask(mask)
    return mask
