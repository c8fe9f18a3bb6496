"""gridpost serve: run the bus until it is told to stop."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from twisted.internet import epollreactor, error

from gridpost.errors import GridpostError, Internal, StoreUnavailable

from .. import config as configuration
from ..cli import report
from .output import config_option, json_option


@click.command("serve")
@config_option
@json_option
def command(config_file: Path, as_json: bool) -> None:
    """Run the bus: take messages, store them, answer with signed receipts, write billing files.

    SIGTERM or Ctrl-C stops it once the messages in flight are answered.
    """
    config = configuration.load(config_file)
    try:
        epollreactor.install()
    except error.ReactorAlreadyInstalledError:
        raise AssertionError("something imported the reactor before serve could choose epoll") from None
    from twisted.internet import reactor

    from ..app import Bus, open_parts

    failed: list[GridpostError] = []
    parts = open_parts(config, lambda reason: _call(reactor, _fatal, reactor, failed, reason))
    bus = Bus(parts, reactor)
    _run(reactor, bus, failed, as_json)
    for failure in failed:
        report(failure)
    if failed:
        raise SystemExit(1)


def _run(reactor: Any, bus: Any, failed: list[GridpostError], as_json: bool) -> None:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    async def start() -> None:
        _announce(await bus.start(), as_json)

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


def _announce(addresses: Sequence[str], as_json: bool) -> None:
    """Say where the bus listens. If nobody is there to read it, the audit log still has it, and the bus runs."""
    lines = "\n".join(f"listening on {address}   WSDL: {address}/metering?wsdl" for address in addresses)
    try:
        click.echo(json.dumps({"addresses": addresses, "pid": os.getpid()}) if as_json else lines)
    except OSError:
        # What could not be written would be tried again, and complained about, when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _call(reactor: Any, function: Any, *args: Any) -> None:
    reactor.callFromThread(function, *args)


def _fatal(reactor: Any, failed: list[GridpostError], reason: BaseException) -> None:
    """The store can keep nothing more: stop at once rather than pretend (facts/security.md 2.7)."""
    first, *_ = str(reason).splitlines() or [type(reason).__name__]  # a database's error goes on with its statement
    failed.append(StoreUnavailable(f"the store failed and the bus stopped: {first}"))
    if reactor.running:
        reactor.stop()
