"""The commands that work on an enrolled device: run, push, seal, retry, status, controls, receipts.

In: a configuration file. Out: what the command answers. Puts the parts together; decides nothing of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gridpost import exchange, tabular, units
from gridpost.errors import AlreadyExists, FileInvalid, StoreUnavailable
from gridpost.model import Channel, IntervalBlock, Readings

from . import config as settings
from . import identity, renewal
from .agent import Agent, new_id
from .clockwatch import wall_ms
from .control_book import ControlBook
from .journal import Journal
from .outgoing import MAX_BODY, Draft, Outgoing
from .push import CLOCK_LIMIT_MS, Drained, Impure, Parties, Pusher
from .sealing import Form
from .spool import Batch, Row, Spool
from .transport import Transport

Step = Callable[[int], object]  # so much more is done
Bar = Callable[[str, int], contextlib.AbstractContextManager[Step]]  # a progress bar: what, and how much it is


def run(file: Path, journal: Journal) -> None:
    """Run the agent until SIGTERM or SIGINT.

    Raises:
        AlreadyExists: another agent runs on this spool.
    """
    config = settings.load(file)
    with _only_one(config.path(config.spool.path)), contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_run(config, journal))
    journal("stopped")


async def _run(config: settings.Config, journal: Journal) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with _spool(config) as spool:
        async with _transport(config) as transport:
            await Agent(config, spool, transport, journal).run()


def push(file: Path, content: bytes, journal: Journal, bar: Bar) -> dict[str, Any]:
    """Put the readings of a CSV into the spool and empty it.

    Raises:
        FileInvalid: the file; nothing of it was taken.
        ConfigInvalid: who this device is, or for whom it encrypts; nothing was taken.
    """
    config = settings.load(file)
    identity.parties(config)
    with _spool(config) as spool:
        with bar("keeping", 2) as step:
            rows = _rows(content, _own_channels(config))
            step(1)
            spool.record(Batch(rows=rows), measured=False)
            step(1)
        return {"readings": len(rows)} | _drained(config, spool, journal, bar)


def retry(file: Path, journal: Journal, bar: Bar) -> dict[str, Any]:
    """Put refused messages back and empty the spool."""
    config = settings.load(file)
    with _spool(config) as spool:
        return {"retried": Outgoing(spool).retry()} | _drained(config, spool, journal, bar)


def _drained(config: settings.Config, spool: Spool, journal: Journal, bar: Bar) -> dict[str, Any]:
    waiting = spool.status()["readings_waiting"]
    assert isinstance(waiting, int)
    with bar("sending", waiting) as sent:
        return asyncio.run(_drain(config, spool, journal, sent))


async def _drain(config: settings.Config, spool: Spool, journal: Journal, sent: Step) -> dict[str, Any]:
    def clock_told(offset_ms: int) -> None:
        journal("clock-told", bus_minus_device_ms=offset_ms)
        known_ms = spool.clock_offset_ms()
        spool.set_clock_offset_ms(offset_ms)
        if abs(offset_ms) > CLOCK_LIMIT_MS and abs(offset_ms - known_ms) > CLOCK_LIMIT_MS:
            spool.flag_clock(f"device clock {-offset_ms / 1000:+.0f} s off by the bus", {})

    async with _transport(config) as transport:
        impure = Impure(wall_ms, new_id, clock_told)
        drained: Drained = await Pusher(spool, transport, identity.parties(config), impure, journal).drain(sent)
    return asdict(drained) | {"waiting": spool.status()["readings_waiting"]}


def seal(file: Path, content: bytes, out: Path, bar: Bar, form: Form | None = None) -> dict[str, Any]:
    """Write the readings of a CSV as one signed message, and nothing when they do not fit one.

    Args:
        file: configuration.
        content: the CSV.
        out: where the message goes.
        bar: progress.
        form: how readings go; None: as the configuration says.

    Raises:
        FileInvalid: the file, or more readings than one message takes.
        ConfigInvalid: readings of a kind that `form` has no reader for.
    """
    config = settings.load(file)
    parties = identity.parties(config)
    form = form or parties.form
    with bar("sealing", 3) as step:
        readings = _readings(content, _own_channels(config))
        step(1)
        with _spool(config) as spool:
            now_ms = wall_ms() + spool.clock_offset_ms()
            header = Outgoing(spool).header(_draft(parties, now_ms), form.noun)
        body = form.encode(header, readings)
        step(1)
        if len(body) > MAX_BODY:
            raise FileInvalid(
                f"{readings.count} readings make {len(body)} bytes, one message takes {MAX_BODY}; split the file"
            )
        identity.write(out, exchange.seal(body, parties.signer, now_ms))
        step(1)
    return {"out": str(out), "message_id": header.message_id, "sequence": header.sequence, "readings": readings.count}


def _draft(parties: Parties, now_ms: int) -> Draft:
    return Draft(parties.source, now_ms, new_id, parties.properties)


def renew(file: Path) -> dict[str, Any]:
    """Get a certificate for a next key now, and use it from then on.

    Raises:
        AlreadyExists: another renewal is at work.
        EnrolmentRefused, AnswerUntrusted, BusUnreachable: see `renewal.renew`.
    """
    config = settings.load(file)

    async def renewed() -> Parties:
        async with _transport(config) as transport:
            return await renewal.renew(config, transport)

    parties = asyncio.run(renewed())
    return {"serial": parties.source, "ends_at": units.format_utc_ms(renewal.ends_utc_ms(parties.signer.certificate))}


def status(file: Path) -> dict[str, Any]:
    """Return what the spool holds."""
    config = settings.load(file)
    with _spool(config) as spool:
        return {"serial": config.identity.serial, **spool.status()}


def controls(file: Path) -> dict[str, Any]:
    """Return the commands the spool knows."""
    config = settings.load(file)
    with _spool(config) as spool:
        listed = ControlBook(spool).listed()
    return {"count": len(listed), "waiting": sum(one["state"] == "open" for one in listed), "controls": listed}


def receipts(file: Path, out: Path) -> dict[str, Any]:
    """Write each receipt as ``<message id>.xml``."""
    config = settings.load(file)
    identity.make_folder(out)
    count = 0
    with _spool(config) as spool:
        for message_id, raw in spool.receipts():
            identity.write(out / f"{message_id}.xml", raw)
            count += 1
    return {"receipts": count, "out": str(out)}


def _own_channels(config: settings.Config) -> tuple[Channel, ...]:
    """Return the device's channels; a device that only forwards whole files needs no table."""
    return settings.channels(config) if config.path(config.channels.file).exists() else ()


def _readings(content: bytes, channels: Sequence[Channel]) -> Readings:
    readings = tabular.parse(content, channels)
    if not readings.count:
        raise FileInvalid("the file holds no readings")
    return readings


def _rows(content: bytes, channels: Sequence[Channel]) -> list[Row]:
    readings = _readings(content, channels)
    rows = [row for block in readings.blocks for row in _block_rows(block, channels)]
    return rows + [Row(one.channel, 0, one.time_utc, one.value, one.qualities) for one in readings.registers]


def _block_rows(block: IntervalBlock, channels: Sequence[Channel]) -> Iterator[Row]:
    known = {channel.key: channel.interval_s for channel in channels}
    interval_s = block.interval_s or known.get(block.channel, 0)
    if not interval_s:
        raise FileInvalid(f"nothing states the interval length of channel {'/'.join(block.channel)}; add interval_s")
    for end_utc, value, qualities in zip(block.ends_utc, block.values, block.qualities, strict=True):
        yield Row(block.channel, interval_s, end_utc, value, qualities)


def _transport(config: settings.Config) -> Transport:
    tls_ca = config.path(config.bus.tls_ca) if config.bus.tls_ca else None
    return Transport(config.bus.url, config.bus.timeout_s, tls_ca)


@contextlib.contextmanager
def _spool(config: settings.Config) -> Iterator[Spool]:
    spool = Spool(config.path(config.spool.path), keep_days=config.spool.keep_days)
    try:
        yield spool
    finally:
        spool.close()


@contextlib.contextmanager
def _only_one(spool: Path) -> Iterator[None]:
    """Two agents on one spool would count every interval twice. The lock dies with its process."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system; its service manager must see to it
        yield
        return
    try:
        descriptor = os.open(f"{spool}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"the spool's folder cannot be written: {error}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise AlreadyExists(f"another 'gridpost-ied run' works on {spool}; stop it first") from None
    finally:
        os.close(descriptor)
