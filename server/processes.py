"""Several bus processes on the same ports: started together, watched, started again, stopped together.

In: what one process does. Out: an exit code. The parent serves nobody: it keeps the ports reserved, forks, and starts a
process again that ended by itself, whatever it died of; what was acknowledged is in the store. Each child ends when the
parent does, however that ends. What must not be done here: anything that starts a thread or a reactor before the fork.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from gridpost.errors import ConfigInvalid

from .audit import Audit
from .config import Config, host_port, of_process
from .tls import Https, https_of, renewed
from .transports.shared_port import bind_shared

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
_LOOK_S = 0.1  # while somebody starts or is to be started; else a signal wakes the parent
_IDLE_S = 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S, _SOUND_S = 0.1, 10.0, 30.0


class Child(NamedTuple):
    """What a process is given: the settings with the ports that are reserved, whom to tell, and the parent's life.

    Attributes:
        config: with real port numbers.
        listening: a descriptor to write to once it takes messages.
        parent: a descriptor that ends when the parent is gone.
        https: the same for all, so that a TLS session of one is resumed by another.
    """

    config: Config
    listening: int
    parent: int
    https: Https | None


@dataclass(slots=True)
class _Slot:
    """A place for one process; `wait_s` grows while it keeps dying young.

    `outdated`: another process, with the present certificate, is to take its place; `leaving`: it was told to go.
    """

    number: int
    pid: int = 0
    listening: int = -1
    ready: bool = False
    started_s: float = 0.0
    due_s: float = 0.0
    wait_s: float = _FIRST_WAIT_S
    outdated: bool = False
    leaving: bool = False


class Processes:
    """The parent's loop."""

    def __init__(
        self, config: Config, run: Callable[[Child], int], told: Callable[[list[str], list[int]], None], audit: Audit
    ) -> None:
        """`run` is one process's whole life and returns its exit code; `told` hears when all listen, and their ids."""
        self._config, self._run, self._told, self._audit = config, run, told, audit
        self._slots = [_Slot(number) for number in range(config.bus.processes)]
        self._reserved: list[socket.socket] = []
        self._https = https_of(config)
        self._office = Https(config, config.office) if config.office.https else None  # each process makes its own
        self._parent = self._life = -1
        self._mask: set[signal.Signals | int] = set()
        self._started = self._stopping = self._failed = False

    def serve(self) -> int:
        """Run until a signal says stop, or until one of them cannot even start; return the exit code.

        SIGHUP: read the HTTPS certificate anew, and replace the processes one after the other.

        Raises:
            ConfigInvalid: an address cannot be bound.
        """
        with ExitStack() as undo:
            self._reserve(undo)
            self._parent, self._life = os.pipe()
            undo.callback(os.close, self._parent)
            undo.callback(os.close, self._life)
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            undo.callback(signal.pthread_sigmask, signal.SIG_SETMASK, self._mask)
            while not self._is_over():
                self._look()
        return 1 if self._failed else 0

    def _reserve(self, undo: ExitStack) -> None:
        """Bind each address once: that finds a free port for all of them, or that there is none."""
        bound: dict[str, dict[str, Any]] = {"listen": {}, "office": {}}
        for section, name, address in _addresses(self._config):
            try:
                self._reserved.append(undo.enter_context(bind_shared(*host_port(address))))
            except OSError as error:
                raise ConfigInvalid(f"cannot listen on {address}: {error}") from None
            bound[section][name] = _written(self._reserved[-1])
        listen, office = (
            replace(self._config.listen, **bound["listen"]),
            replace(self._config.office, **bound["office"]),
        )
        self._config = replace(self._config, listen=listen, office=office)

    def _is_over(self) -> bool:
        return self._stopping and not any(slot.pid for slot in self._slots)

    def _look(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if not slot.pid and not self._stopping and now >= slot.due_s:
                self._start(slot)
        self._replace_one()
        busy = any(not slot.ready for slot in self._slots)
        came = signal.sigtimedwait(_SIGNALS, _LOOK_S if busy else _IDLE_S)
        if came is not None and came.si_signo == signal.SIGHUP:
            self._renew()
        elif came is not None and came.si_signo != signal.SIGCHLD:
            self._stop()
        self._reap()
        for slot in self._slots:
            self._hear(slot)
        if not self._started and all(slot.ready for slot in self._slots):
            self._started = True
            addresses = [
                f"{name}://{address}{'/utility' if section == 'office' else ''}"
                for section, name, address in _addresses(self._config)
            ]
            self._told(addresses, [slot.pid for slot in self._slots])

    def _start(self, slot: _Slot) -> None:
        heard, listening = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            config = of_process(self._config, slot.number)
            self._be_child(Child(config, listening, self._parent, self._https), heard)
        os.close(listening)
        os.set_blocking(heard, False)
        slot.pid, slot.listening, slot.ready, slot.started_s = pid, heard, False, time.monotonic()
        slot.outdated = False

    def _be_child(self, child: Child, heard: int) -> None:
        code = 1
        try:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal tells all; what to do is the parent's
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            for descriptor in (heard, self._life, *(slot.listening for slot in self._slots if slot.pid)):
                os.close(descriptor)
            for reserved in self._reserved:
                reserved.close()
            code = self._run(child)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            with suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(code)  # never back into the parent's code

    def _hear(self, slot: _Slot) -> None:
        if slot.pid and not slot.ready:
            with suppress(BlockingIOError):
                slot.ready = bool(os.read(slot.listening, 1))

    def _reap(self) -> None:
        for slot in self._slots:
            pid, status = os.waitpid(slot.pid, os.WNOHANG) if slot.pid else (0, 0)
            if pid:
                self._ended(slot, os.waitstatus_to_exitcode(status))

    def _ended(self, slot: _Slot, code: int) -> None:
        pid, lived = slot.pid, time.monotonic() - slot.started_s
        self._hear(slot)
        os.close(slot.listening)
        was_ready, was_told, slot.pid, slot.ready, slot.leaving = slot.ready, slot.leaving, 0, False, False
        if self._stopping:
            self._failed |= code != 0
        elif was_told and code == 0:
            slot.due_s = 0.0
        elif not self._started and not was_ready:
            self._failed = True  # it has said why; the others would fail alike
            self._stop()
        else:
            slot.wait_s = _FIRST_WAIT_S if lived > _SOUND_S else min(slot.wait_s * 2, _LONGEST_WAIT_S)
            slot.due_s = time.monotonic() + slot.wait_s
            self._audit.event("process-ended", pid=pid, code=code)

    def _renew(self) -> None:
        read = [renewed(one, self._audit) for one in (self._https, self._office) if one]
        if read and all(read):
            for slot in self._slots:
                slot.outdated = bool(slot.pid)

    def _replace_one(self) -> None:
        """Let one outdated process go, while all others serve."""
        if self._stopping or not all(slot.ready for slot in self._slots):
            return
        for slot in self._slots:
            if slot.outdated:
                slot.outdated, slot.ready, slot.leaving = False, False, True
                os.kill(slot.pid, signal.SIGTERM)
                return

    def _stop(self) -> None:
        self._stopping = True
        for slot in self._slots:
            if slot.pid:
                os.kill(slot.pid, signal.SIGTERM)


def _addresses(config: Config) -> list[tuple[str, str, str]]:
    """Section, scheme and address of every listener that the processes share."""
    schemes = (
        ("listen", "http", config.listen.http), ("listen", "https", config.listen.https),
        ("office", "http", config.office.http), ("office", "https", config.office.https),
    )  # fmt: skip
    return [one for one in schemes if one[2]]


def _written(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
