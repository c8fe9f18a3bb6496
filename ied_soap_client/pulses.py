"""Pulse inputs: one pulse is an amount of energy, and none that was counted is lost or counted twice.

In: a count a Modbus unit keeps, or a file or FIFO to which something adds a line a pulse. Out: a stand that only
grows, from which register_map.py makes intervals like from any meter's. Lines are counted into the spool, with the
place up to which they are, in one transaction: a file is read on from there after a kill. A FIFO hands each line out
once, so what was read and not yet in the spool dies with the process; it is put there at once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from gridpost.errors import ConfigInvalid, MeterUnreachable, StoreUnavailable
from gridpost.model import Channel

from . import config as settings
from . import register_map as rm
from .config_control import Pulse, amount_of
from .measuring import Measured, Meter, Say
from .modbus import Link, Place
from .spool import Spool

POINT = "pulses"
ENDLESS = 1 << 62  # a count of lines never starts again
PIECE = 1 << 16
DRAIN_S = 1.0


class _Counted(NamedTuple):
    """How far lines are counted: pulses in all, which file, octets of it."""

    pulses: int
    file: str
    place: int


class CountedLines:
    """Lines of a file or a FIFO; asked when a stand is due, and as often as the owner likes in between."""

    def __init__(self, name: str, path: Path, spool: Spool) -> None:
        """Count under `name` in `spool`; the file need not be there yet."""
        self._name, self._path, self._spool = name, path, spool
        self._fifo: int | None = None

    async def samples(self) -> dict[str, rm.Sample]:
        """Count what came and return the stand.

        Raises:
            MeterUnreachable: the file cannot be read; what is counted stays counted.
            StoreUnavailable: the count could not be kept; the lines of a file are counted next time.
        """
        return {POINT: rm.Sample(self.count(), 0)}

    def count(self) -> int:
        """Count what came since the last time; raises as `samples`."""
        try:
            kind = self._path.stat()
            known = self._known()
            return (self._from_fifo if stat.S_ISFIFO(kind.st_mode) else self._from_file)(known)
        except OSError as error:
            raise MeterUnreachable(f"pulses {self._path}: {error.strerror}") from None

    def _from_file(self, known: _Counted) -> int:
        with self._path.open("rb") as file:
            about = os.fstat(file.fileno())
            name = f"{about.st_dev}:{about.st_ino}"
            # Another file under the name, or the same cut short: it begins anew. What was not read of the old is gone.
            place = known.place if name == known.file and about.st_size >= known.place else 0
            file.seek(place)
            pulses = known.pulses
            while piece := file.read(PIECE):
                pulses += piece.count(b"\n")
                place += len(piece)
            # A line that is not ended has its end counted when that comes: newlines are pulses.
        return self._keep(_Counted(pulses, name, place), known)

    def _from_fifo(self, known: _Counted) -> int:
        if self._fifo is None:  # for writing too, so that it never ends when a writer goes
            self._fifo = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        counted = known
        while piece := self._piece():
            counted = counted._replace(pulses=counted.pulses + piece.count(b"\n"), file="fifo")
            self._keep(counted, known)
            known = counted
        return counted.pulses

    def _piece(self) -> bytes:
        assert self._fifo is not None
        try:
            return os.read(self._fifo, PIECE)
        except BlockingIOError:
            return b""

    def _known(self) -> _Counted:
        found = self._spool.rows("SELECT count, file, place FROM pulse WHERE name = ?", (self._name,))
        return _Counted(*found[0]) if found else _Counted(0, "", 0)

    def _keep(self, counted: _Counted, known: _Counted) -> int:
        if counted != known:
            with self._spool.transaction() as db:
                db.execute("INSERT OR REPLACE INTO pulse VALUES (?, ?, ?, ?)", (self._name, *counted))
        return counted.pulses

    @property
    def is_fifo(self) -> bool:
        """Whether lines are handed out once, and die with the pipe when nobody holds it."""
        return self._path.is_fifo()

    def close(self) -> None:
        """Let go of the FIFO."""
        if self._fifo is not None:
            os.close(self._fifo)
            self._fifo = None


class CountingRegister:
    """A register of a Modbus unit that counts pulses; the unit keeps the count."""

    def __init__(self, pulse: Pulse, timeout_s: int) -> None:
        """Prepare; nothing is connected yet."""
        self._words = pulse.bits // 16
        self._place = Place(pulse.unit, pulse.kind, pulse.register)
        self._link = Link(pulse.host, pulse.port, timeout_s)

    async def samples(self) -> dict[str, rm.Sample]:
        """Return the stand; raises MeterUnreachable."""
        words = await self._link.registers(self._place, self._words)
        return {POINT: rm.Sample(int.from_bytes(b"".join(word.to_bytes(2) for word in words)), 0)}

    def close(self) -> None:
        """Drop the connection."""
        self._link.close()


async def drain(counted: Sequence[CountedLines], sleep: Callable[[float], Awaitable[None]], say: Say) -> None:
    """Take what FIFOs hold every second, until cancelled; what fails is told and tried again."""
    told: dict[CountedLines, str] = {}
    while True:
        for one in counted:
            reason = _drained(one)
            if reason and told.get(one) != reason:
                say("pulses-uncounted", reason=reason)
            told[one] = reason
        await sleep(DRAIN_S)


def _drained(one: CountedLines) -> str:
    """Take what a FIFO holds; return why that failed. A file is read when its stand is due."""
    try:
        if one.is_fifo:
            one.count()
    except (MeterUnreachable, StoreUnavailable) as error:
        return error.reason
    return ""


def inputs(config: settings.Config, spool: Spool) -> list[Meter]:
    """Return the configured pulse inputs, to be measured like meters.

    Raises:
        ConfigInvalid: an input has no row in the channel table, or several.
    """
    found = settings.channels(config) if config.pulse else ()
    return [_input(pulse, _channels(pulse, found), config, spool) for pulse in config.pulse]


def _channels(pulse: Pulse, found: Sequence[Channel]) -> list[Channel]:
    """The rows of an input's channel: one channel, effective-dated."""
    rows = [one for one in found if one.key.meter == pulse.meter and pulse.channel in ("", one.key.stream)]
    if len({one.key for one in rows}) != 1:
        what = "several channels" if rows else "no channel"
        raise ConfigInvalid(f"pulse {pulse.meter!r} {pulse.channel!r}: {what} in the channel table")
    return rows


def _input(pulse: Pulse, channels: Sequence[Channel], config: settings.Config, spool: Spool) -> Meter:
    modulus = ENDLESS if pulse.file else 1 << pulse.bits
    measured = [Measured(one, POINT, rm.Dial(one.interval_s, 0, amount_of(pulse), modulus)) for one in channels]
    name = f"{pulse.meter}/{pulse.channel}"
    source = (
        CountedLines(name, config.path(pulse.file), spool)
        if pulse.file
        else CountingRegister(pulse, config.poll.timeout_s)
    )
    about = settings.Meter(pulse.meter)
    return Meter(about, None, measured, source=source)
