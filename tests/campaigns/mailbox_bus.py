"""The part of a bus that mailboxes need, in processes that can be killed: store, office listener, pushes, fake clock.

    mailbox_bus.py FOLDER ADDRESS SABOTAGE

FOLDER is one that `gridpost init` made. This program imports everything once; for each line on standard input it forks
a life, prints its process id, and goes on: so a restart costs no second. A life connects to ADDRESS and does what it is
told there: post mails, forget old ones, end. Its clock is the eight octets of FOLDER/clock, UTC milliseconds.

A sabotage is put into the product from here, outside it.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from itertools import count
from multiprocessing.connection import Client, Connection
from pathlib import Path
from threading import Thread
from typing import Any

CLOCK = struct.Struct("=q")
STEP_S = 0.03  # between two looks at who is due
TIMEOUT_S = 2  # of a call to a partner
OFTEN = 20  # one in so many is damaged
AUTH = b"campaign"


class Clock:
    """UTC milliseconds, in a file that two processes share."""

    def __init__(self, file: Path, begin: int | None = None) -> None:
        if begin is not None:
            file.write_bytes(CLOCK.pack(begin))
        self._map = mmap.mmap(os.open(file, os.O_RDWR), CLOCK.size)

    def __call__(self) -> int:
        (now,) = CLOCK.unpack(self._map[:])
        return int(now)

    def put(self, now_utc_ms: int) -> None:
        self._map[:] = CLOCK.pack(now_utc_ms)


# --- damages ---------------------------------------------------------------------------------------------------------


def commit_before_answer() -> None:
    """A mail counts as taken before the partner is even called."""
    from gridpost.server.office.pushing import Pushes

    def send(self: Any, partner: Any, mail: Any, **options: Any) -> Any:
        self._store.commit(partner.id, mail.number)
        return kept(self, partner, mail, **options)

    kept = _replaced(Pushes, "_send", send)


def forget_kept() -> None:
    """A mail that a partner did not answer is passed over."""
    from gridpost.server.office.pushing import Pushes

    def send(self: Any, partner: Any, mail: Any, **options: Any) -> Any:
        return kept(self, partner, mail, **options)._replace(kept=False)

    kept = _replaced(Pushes, "_send", send)


def no_order() -> None:
    """Mails come as the database likes, here the newest first."""
    from gridpost.server.store import SqlStore

    def peek(self: Any, *arguments: Any, **options: Any) -> Any:
        return kept(self, *arguments, **options)[::-1]

    kept = _replaced(SqlStore, "peek", peek)


def no_commit() -> None:
    """Some commits are answered and not done."""
    from gridpost.server.store import SqlStore

    def commit(self: Any, partner: str, up_to: int) -> int:
        return up_to if next(calls) % OFTEN == OFTEN // 2 else kept(self, partner, up_to)

    calls, kept = count(), _replaced(SqlStore, "commit", commit)


def no_letter() -> None:
    """What a partner refuses is set aside, and nobody is told."""
    from gridpost.server.store import SqlStore

    def dead_letter(_self: Any, _letter: Any) -> Future[None]:
        done: Future[None] = Future()
        done.set_result(None)
        return done

    _replaced(SqlStore, "dead_letter", dead_letter)


DAMAGES: dict[str, Callable[[], None]] = {
    "commit-before-answer": commit_before_answer,
    "no-order": no_order,
    "forget-kept": forget_kept,
    "no-commit": no_commit,
    "no-letter": no_letter,
}


def _replaced(owner: type, name: str, value: Any) -> Any:
    kept = getattr(owner, name)
    setattr(owner, name, value)
    return kept


# --- a life ----------------------------------------------------------------------------------------------------------


class Life:
    """What `app.Bus` makes of the same parts, as far as mailboxes need it."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        from gridpost.adapters.cis import PartnerService
        from gridpost.server import config as settings
        from gridpost.server.audit import configured
        from gridpost.server.clock import MonotonicTimer
        from gridpost.server.identity import load_signer
        from gridpost.server.office.listening import Given, OfficeSide
        from gridpost.server.office.pushing import Pushes, calling
        from gridpost.server.store import open_store
        from twisted.internet import reactor

        self.reactor: Any = reactor
        config, self.clock = settings.load(folder / "gridpost.toml"), clock
        self.store = open_store(config.database, clock, serve=True)
        self.audit, signer = configured(config, clock), load_signer(config)
        self.office = OfficeSide(Given(config, self.store, self.audit, clock, signer), reactor, MonotonicTimer(reactor))
        self.pushes = Pushes(
            self.store, calling(lambda: partial(PartnerService, timeout_s=TIMEOUT_S), signer, clock), clock
        )

    def run(self, orders: Connection) -> None:
        """Serve until told to end."""
        from gridpost.server.config import host_port
        from twisted.internet.endpoints import TCP4ServerEndpoint
        from twisted.internet.task import LoopingCall

        self._begin_log()
        for one in self.office.listeners():
            host, port = host_port(one.address)
            TCP4ServerEndpoint(self.reactor, port, interface=host).listen(one.factory)
        self._steps = LoopingCall(self._step)
        self._steps.start(STEP_S)
        self.reactor.callWhenRunning(Thread(target=self._obey, args=(orders,), daemon=True).start)
        self.reactor.run(installSignalHandlers=False)

    def _begin_log(self) -> None:
        """One entry, of which all the mails tell."""
        from gridpost.model import Entry, Rows

        if not self.store.version():
            entry = Entry("IED-1", "m-0", "MeterReadings", "http", bytes(32), 0, None, "", b"x")
            self.store.record(entry, Rows(), lambda *_: b"receipt").result(60)

    def _step(self) -> Any:
        from twisted.internet.defer import Deferred
        from twisted.internet.threads import deferToThread

        return Deferred.fromCoroutine(self.pushes.carry(deferToThread, self.audit))

    def _obey(self, orders: Connection) -> None:
        from gridpost.server.office.mailbox import forget_old

        orders.send("ready")
        while (order := orders.recv())[0] != "end":
            name, value = order
            if name == "post":
                self.store.post("controls", {0: 0}, {}, value).result(60)
            else:
                forget_old(self.store, self.clock, value)
            orders.send("done")
        self.reactor.callFromThread(self._end)

    def _end(self) -> None:
        running = self._steps.deferred
        self._steps.stop()
        running.addCallback(lambda _: self._close())

    def _close(self) -> None:
        self.pushes.close()
        self.office.close()
        self.store.close()
        self.reactor.stop()


def live(folder: Path, address: str, sabotage: str) -> None:
    """Be one life, and end with it."""
    host, _, port = address.partition(":")
    if sabotage:
        DAMAGES[sabotage]()
    with Client((host, int(port)), authkey=AUTH) as orders:
        Life(folder, Clock(folder / "clock")).run(orders)


def main() -> None:
    import gridpost.adapters.cis
    import gridpost.server.office.listening
    import gridpost.server.office.pushing  # noqa: F401  all that a life needs, before it is forked

    folder, address, sabotage = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            live(folder, address, sabotage)
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
