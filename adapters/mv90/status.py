"""MDEF's status bits and the CIM qualities they cross as, both ways.

In and out: 16-bit masks and `Qualities`. A bit becomes one quality whose detail is MV-90's short name, so that the same
bit is found again; a bit without a name keeps its number. A quality from elsewhere goes by its code, then by its
category (IEC 61968-9 annex D), and what the bit does not say is reported.

Do not add a status anywhere else: this table is the mapping.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from gridpost.model import VALID_QUALITY, Qualities, Quality


class Status(NamedTuple):
    """One bit: its place, MV-90's short name, the quality's code."""

    bit: int
    name: str
    code: str


# MV-90 code n is bit n - 1. Where annex D's index is not public text, index 0 stands: the category's general one.
CHANNEL = (
    Status(0, "UPD", "2.4.0"),  # retransmitted or updated
    Status(1, "AD", "2.7.0"),  # interval added by a correction
    Status(2, "RE", "2.7.0"),  # interval replaced by a correction
    Status(3, "ES", "2.8.0"),  # estimated
    Status(4, "POV", "1.1.0"),  # pulse overflow
    Status(5, "DOV", "2.5.0"),  # data out of limits
    Status(6, "ED", "2.10.0"),  # excluded data
    Status(7, "PE", "1.1.0"),  # parity
    Status(8, "ETC", "1.4.0"),  # energy type changed
    Status(9, "LR", "1.1.0"),  # alarm
    Status(10, "HD", "1.2.0"),  # harmonic distortion
)
INTERVAL = (
    Status(0, "PO", "1.2.32"),  # power outage
    Status(1, "SI", "1.4.0"),  # short interval
    Status(2, "LI", "1.4.0"),  # long interval
    Status(3, "CR", "1.1.0"),  # CRC error
    Status(4, "RA", "1.1.0"),  # RAM checksum error
    Status(5, "RO", "1.1.0"),  # ROM checksum error
    Status(6, "LA", "2.5.259"),  # data missing
    Status(7, "CL", "1.4.0"),  # clock error
    Status(8, "BR", "1.4.0"),  # reset occurred
    Status(9, "WD", "1.1.0"),  # watchdog time-out
    Status(10, "TR", "1.4.9"),  # time reset
    Status(11, "TM", "1.4.0"),  # test mode
    Status(12, "LC", "1.4.0"),  # load control
)
MISSING = 1 << 6  # LA

_UNNAMED_CODE = "4.1.0"
_NAMED = {
    **{status.name: (1 << status.bit, 0, status.code) for status in CHANNEL},
    **{status.name: (0, 1 << status.bit, status.code) for status in INTERVAL},
    **{f"channel status {1 << bit:04X}": (1 << bit, 0, _UNNAMED_CODE) for bit in range(len(CHANNEL), 16)},
    **{f"interval status {1 << bit:04X}": (0, 1 << bit, _UNNAMED_CODE) for bit in range(len(INTERVAL), 16)},
}
_CHANNEL_NAMES = [name for name, (channel, _, _) in _NAMED.items() if channel]
_INTERVAL_NAMES = [name for name, (_, interval, _) in _NAMED.items() if interval]

# Qualities of other sources, by code and else by category: the status a billing system acts on in the same way.
_BY_CODE = {"1.2.32": "PO", "1.4.9": "TR", "2.5.259": "LA"}
_BY_CATEGORY = {"5": "DOV", "6": "DOV", "7": "RE", "8": "ES"}


class Masks(NamedTuple):
    """A channel and an interval status, and the qualities that they do not hold in full."""

    channel: int
    interval: int
    lost: Qualities


@lru_cache(maxsize=4096)
def qualities(channel: int, interval: int) -> Qualities:
    """Return one quality a set bit, channel statuses first; no bit is no quality, which is valid."""
    names = [name for bit, name in enumerate(_CHANNEL_NAMES) if channel >> bit & 1]
    names += [name for bit, name in enumerate(_INTERVAL_NAMES) if interval >> bit & 1]
    return tuple(Quality(_NAMED[name][2], name) for name in names)


@lru_cache(maxsize=4096)
def masks(qualities_: Qualities) -> Masks:
    """Return the statuses that stand for the qualities, and what these say beyond them."""
    channel = interval = 0
    lost: list[Quality] = []
    for quality in qualities_:
        name = _name(quality)
        if name:
            channel |= _NAMED[name][0]
            interval |= _NAMED[name][1]
        if not _says_all(quality, name):
            lost.append(quality)
    return Masks(channel, interval, tuple(lost))


def _name(quality: Quality) -> str:
    """Return the short name of the status for a quality; empty when none fits."""
    if quality.detail in _NAMED and _NAMED[quality.detail][2] == quality.code:
        return quality.detail
    category = "".join(quality.code.split(".")[1:2])
    return _BY_CODE.get(quality.code) or _BY_CATEGORY.get(category, "")


def _says_all(quality: Quality, name: str) -> bool:
    if quality == (VALID_QUALITY, ""):
        return True
    return bool(name) and _NAMED[name][2] == quality.code and quality.detail in ("", name)
