"""What time it is, by an NTP server: one SNTP question and its answer (RFC 5905), and how far it may be believed.

In: an address and this device's clocks. Out: how far this clock is off. Nothing is set here. NTP's answers are not
signed, so they only refine what a freshly sealed answer of the bus says: see `agreed`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import NamedTuple, cast

from gridpost.errors import BusUnreachable

PORT, WAIT_S = 123, 3.0
TOLERANCE_MS = 5_000  # how much further than its own round trip allows an NTP answer may lie from the bus's
_NTP_EPOCH_S = 2_208_988_800  # from 1900 to 1970
_FIRST = 0x23  # leap indicator 0, version 4, mode 3: client


class Offset(NamedTuple):
    """True time minus this device's clock, in ms, and how far off it may be."""

    ms: int
    within_ms: int


class _Asking(asyncio.DatagramProtocol):
    def __init__(self, question: bytes, answered: asyncio.Future[bytes]) -> None:
        self._question, self._answered = question, answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.DatagramTransport, transport).sendto(self._question)  # asyncio's own is no subclass of it

    def datagram_received(self, data: bytes, _peer: object) -> None:
        if not self._answered.done() and is_answer(data, self._question):
            self._answered.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self._answered.done():
            self._answered.set_exception(error)


async def ask(address: str, wall_ms: Callable[[], int]) -> Offset:
    """Ask an NTP server once.

    Args:
        address: ``HOST`` or ``HOST:PORT``.
        wall_ms: this device's clock.

    Raises:
        BusUnreachable: no usable answer within `WAIT_S`.
    """
    host, _, port = address.partition(":")
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bytes] = loop.create_future()
    # The transmit timestamp is a nonce: the answer repeats it, and it tells nobody our clock.
    question = bytes([_FIRST]) + bytes(39) + os.urandom(8)
    sent_ms = wall_ms()
    try:
        where = (host, int(port or PORT))
        transport, _ = await loop.create_datagram_endpoint(lambda: _Asking(question, answered), remote_addr=where)
        try:
            answer = await asyncio.wait_for(answered, WAIT_S)
        finally:
            transport.close()
    except (OSError, TimeoutError, ValueError) as error:
        raise BusUnreachable(f"no NTP answer from {address}", detail=str(error)) from None
    return offset_of(answer, sent_ms, wall_ms())


def is_answer(data: bytes, question: bytes) -> bool:
    """Tell whether a datagram answers this very question and comes from a server that knows the time."""
    if len(data) < 48 or data[24:32] != question[40:48]:
        return False
    leap, mode, stratum = data[0] >> 6, data[0] & 7, data[1]
    return leap != 3 and mode == 4 and 1 <= stratum <= 15


def offset_of(answer: bytes, sent_ms: int, came_ms: int) -> Offset:
    """Return the offset of RFC 5905 section 8: ((T2 - T1) + (T3 - T4)) / 2, within half the round trip."""
    received_ms, transmitted_ms = _ms(answer[32:40]), _ms(answer[40:48])
    offset_ms = ((received_ms - sent_ms) + (transmitted_ms - came_ms)) // 2
    round_trip_ms = max(0, (came_ms - sent_ms) - (transmitted_ms - received_ms))
    return Offset(offset_ms, round_trip_ms // 2 + 1)


def _ms(stamp: bytes) -> int:
    """Return UTC ms of a 64-bit NTP timestamp; its era (RFC 5905 section 6) is that of 2036 if the top bit is 0."""
    seconds, fraction = int.from_bytes(stamp[:4]), int.from_bytes(stamp[4:])
    era = 0 if seconds & 0x8000_0000 else 1 << 32
    return (seconds + era - _NTP_EPOCH_S) * 1000 + (fraction * 1000 >> 32)


def agreed(sealed: Offset, ntp: Offset | None) -> Offset:
    """Return the offset to keep: NTP's where it agrees with what the bus sealed, else the bus's.

    Args:
        sealed: from an answer the bus sealed for this device's own fetch just now.
        ntp: from an NTP server; None: none answered, or none is configured.
    """
    if ntp is None or abs(ntp.ms - sealed.ms) > sealed.within_ms + ntp.within_ms + TOLERANCE_MS:
        return sealed
    return min(sealed, ntp, key=lambda one: one.within_ms)
