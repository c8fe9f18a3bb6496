"""Forked children that do a piece of work and tell what came of it, within a limit of time. For `mutant_trials.py`."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from mutants import Mutant

SILENCE_S = 120  # on the wall, as this process's own clock ticks: stopped together with it, no time passes
TIMEOUT = "timeout"


class Child(NamedTuple):
    pid: int
    pipe: int
    folder: Path


def fork(work: Callable[[], Any], folder: Path) -> Child:
    """Start a child that does `work` and tells what it returned; its output goes nowhere."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return Child(pid, reading, folder)
    os.close(reading)
    _live(work, writing)


def _live(work: Callable[[], Any], writing: int) -> NoReturn:
    with contextlib.suppress(BaseException):  # whatever ends a child without a word, its end tells
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, *(() if os.environ.get("MUTATE_LOUD") else (2,))):
            os.dup2(nowhere, stream)
        result = work()
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(result, pipe)
    os._exit(0)


def result_of(child: Child, silence_s: float = SILENCE_S) -> Any:
    """Wait for a child and return what it told; TIMEOUT when it had to be killed, None when it ended without a word."""
    told, patience = b"", silence_s
    while True:
        began = time.monotonic()
        ready, _, _ = select.select([child.pipe], [], [], 0.5)
        if ready:
            more = os.read(child.pipe, 1 << 16)
            if not more:
                break
            told += more
        else:
            patience -= min(time.monotonic() - began, 1)
            if patience <= 0:
                break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    os.close(child.pipe)
    _, status = os.waitpid(child.pid, 0)
    shutil.rmtree(child.folder, ignore_errors=True)
    if patience <= 0 or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return TIMEOUT
    return pickle.loads(told) if told else None


def in_turn(
    works: Sequence[tuple[Mutant, Callable[[], Any]]], workers: int, scratch: Path
) -> Iterator[tuple[Mutant, Any]]:
    """Do each work in a child of its own, some at a time."""
    running: deque[tuple[Mutant, Child]] = deque()
    for number, (mutant, work) in enumerate(works):
        if len(running) >= workers:
            earlier, child = running.popleft()
            yield earlier, result_of(child)
        running.append((mutant, fork(work, scratch / str(number))))
    for mutant, child in running:
        yield mutant, result_of(child)
