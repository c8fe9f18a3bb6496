"""What the demonstration runs commands with: processes that tell what they do, and commands that end.

In: the installed `gridpost` and `gridpost-ied` beside this Python. Out: what they say, as JSON. Nothing of Gridpost is
imported here.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

BIN = Path(sys.executable).parent
GRIDPOST, IED = str(BIN / "gridpost"), str(BIN / "gridpost-ied")
T = TypeVar("T")


class Trouble(Exception):
    """The demonstration cannot go on."""


# --- processes -------------------------------------------------------------------------------------------------------


class Process:
    """A command that stays up and says one JSON line an event."""

    def __init__(self, child: subprocess.Popen[str], log: Path) -> None:
        """Read its lines in a thread, so that it is never held up; keep them all in `log`."""
        self._child, self._log = child, log
        self._said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        with self._log.open("a", encoding="utf-8") as log:
            for line in self._child.stdout:
                log.write(line)
                log.flush()
                if line.startswith("{"):
                    self._said.put(json.loads(line))
        self._said.put(None)

    def wait_for(self, what: str, wanted: Callable[[dict[str, Any]], Any], seconds: int) -> dict[str, Any]:
        """Return the first line that is wanted."""
        limit = time.monotonic() + seconds
        while True:
            try:
                said = self._said.get(timeout=max(0, limit - time.monotonic()))
            except queue.Empty:
                raise Trouble(f"no {what} within {seconds} s; see {self._log}") from None
            if said is None:
                raise Trouble(f"the process of {self._log} ended; its last words are there")
            if wanted(said):
                return said

    def wait(self) -> None:
        """Wait until it ends."""
        self._child.wait()


@contextmanager
def process(log: Path, *arguments: str | Path) -> Iterator[Process]:
    """Run a command until the block ends; its errors go to `log` too."""
    with log.open("a", encoding="utf-8") as errors:
        child = subprocess.Popen(
            [*map(str, arguments), "--json"], stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8"
        )
    try:
        yield Process(child, log)
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def command(*arguments: str | Path) -> dict[str, Any]:
    """Run a command that ends, and return what it says as JSON."""
    done = subprocess.run(
        [*map(str, arguments), "--json"], capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise Trouble(f"{' '.join(map(str, arguments))} failed:\n{done.stderr or done.stdout}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


# --- small things ----------------------------------------------------------------------------------------------------


def stage(name: str, text: str) -> None:
    """Print a stage as it happens."""
    print(f"{datetime.now():%H:%M:%S}  {name:<12}  {text}", flush=True)


def until(look: Callable[[], T | None], seconds: int, what: str) -> T:
    """Return what `look` finds, as soon as it finds something."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if found := look():
            return found
        time.sleep(0.1)
    raise Trouble(f"{what} did not appear within {seconds} s")
