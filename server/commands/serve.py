"""gridpost serve: run the bus until it is told to stop."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import click
from twisted.internet import epollreactor, error

from gridpost.errors import GridpostError, Internal, StoreUnavailable

from .. import config as configuration
from ..cli import report
from ..config import Config
from .output import config_option, json_option, now_utc_ms

if TYPE_CHECKING:
    from ..processes import Child

# When generations are collected: so many more containers made than freed, then so many times the younger one.
COLLECT = (10_000, 20, 20)


@click.command("serve")
@click.option("--processes", type=click.IntRange(1), help="Bus processes on the same ports; otherwise bus.processes.")
@config_option
@json_option
def command(processes: int | None, config_file: Path, as_json: bool) -> None:
    """Run the bus: take messages, store them, answer with signed receipts, write billing files.

    SIGTERM or Ctrl-C stops it once the messages in flight are answered; SIGHUP reads the HTTPS certificate anew.
    """
    config = configuration.load(config_file)
    if processes:
        config = configuration.with_processes(config, processes)
    if config.bus.processes > 1:
        code = _several(config, as_json)
    else:
        code = _serve(config, lambda addresses: _announce({"addresses": addresses, "pid": os.getpid()}, as_json))
    if code:
        raise SystemExit(code)


def _several(config: Config, as_json: bool) -> int:
    """Run the configured number of processes; this one only watches them."""
    from ..audit import configured
    from ..processes import Processes

    def run(child: Child) -> int:
        try:
            return _serve(child.config, lambda _: _tell(child.listening), child)
        except GridpostError as error:
            report(error)
            return 1

    def told(addresses: Sequence[str], pids: Sequence[int]) -> None:
        _announce({"addresses": addresses, "pid": os.getpid(), "processes": pids}, as_json)

    audit = configured(config, now_utc_ms)
    return Processes(config, run, told, audit).serve()


def _tell(listening: int) -> None:
    with suppress(BrokenPipeError):  # the parent is gone already; `_follow` ends this process
        os.write(listening, b".")


def _serve(config: Config, told: Callable[[Sequence[str]], Any], child: Child | None = None) -> int:
    """Run one bus to its end and return its exit code; `told` hears where it listens; `child`: one of several."""
    try:
        epollreactor.install()
    except error.ReactorAlreadyInstalledError:
        raise AssertionError("something imported the reactor before serve could choose epoll") from None
    from twisted.internet import reactor

    from ..app import Bus, open_parts
    from ..tls import https_of

    failed: list[GridpostError] = []
    parts = open_parts(config, lambda reason: _fatal(reactor, failed, reason))
    bus = Bus(parts, reactor, child.https if child else https_of(config))
    if child:
        Thread(target=_follow, args=(reactor, child.parent), name="parent", daemon=True).start()
    else:
        signal.signal(signal.SIGHUP, lambda *_: _call(reactor, bus.renew_https))
    _run(reactor, bus, failed, told)
    for failure in failed:
        report(failure)
    if parts.store.is_healthy():
        return 1 if failed else 0
    with suppress(OSError):  # they may be on the disk that failed
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(1)  # the interpreter's own end would close the store's connections: see SqliteDialect.close


def _follow(reactor: Any, parent: int) -> None:
    """Stop when the parent is gone: its end of the pipe is then closed, whatever it died of."""
    os.read(parent, 1)
    _call(reactor, _stop, reactor)


def _stop(reactor: Any) -> None:
    with suppress(error.ReactorNotRunning):  # it stops already
        reactor.stop()


def _run(reactor: Any, bus: Any, failed: list[GridpostError], told: Callable[[Sequence[str]], Any]) -> None:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    async def start() -> None:
        addresses = await bus.start()
        _spare_the_collector()
        told(addresses)

    def on_failure(failure: Failure) -> None:
        if isinstance(failure.value, GridpostError):
            failed.append(failure.value)
        else:
            failure.printTraceback()
            failed.append(Internal(f"the bus did not start: {failure.value}"))
        reactor.callWhenRunning(reactor.stop)

    def stopping() -> Any:
        return Deferred.fromCoroutine(bus.stop())

    reactor.addSystemEventTrigger("before", "shutdown", stopping)
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(start()).addErrback(on_failure))
    reactor.run()


def _spare_the_collector() -> None:
    """Let the collector of cycles leave alone what stays, and look for garbage seldom.

    A TLS connection leaves cycles, and the young ones outnumber a quarter of the old so soon that under load all of the
    heap was looked through every three seconds: 100 ms each in which nobody was answered (docs/adr/0017).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)


def _announce(found: Mapping[str, Any], as_json: bool) -> None:
    """Say where the bus listens. If nobody is there to read it, the audit log still has it, and the bus runs."""
    described = [one if one.endswith("/utility") else f"{one}/metering" for one in found["addresses"]]
    lines = [f"listening on {one.rpartition('/')[0]}   WSDL: {one}?wsdl" for one in described]
    try:
        click.echo(json.dumps(found) if as_json else "\n".join(lines))
    except OSError:
        # What could not be written would be tried again, and complained about, when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _call(reactor: Any, function: Any, *args: Any) -> None:
    reactor.callFromThread(function, *args)


def _fatal(reactor: Any, failed: list[GridpostError], reason: BaseException) -> None:
    """The store can keep nothing more: stop at once rather than pretend (facts/security.md 2.7).

    Called in the writer's thread. Why is noted there: a reactor that stops already takes no more calls.
    """
    first, *_ = str(reason).splitlines() or [type(reason).__name__]  # a database's error goes on with its statement
    failed.append(StoreUnavailable(f"the store failed and the bus stopped: {first}"))
    _call(reactor, _stop, reactor)
