"""CMEP's clock: UTC in whole minutes, a value stamped at its interval's end, lengths as ``MMDDHHMM``.

The one place of this adapter where times change their form. CMEP and Gridpost agree on edge and zone, so nothing moves.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from gridpost import units
from gridpost.errors import CannotRepresent

_MINUTES = re.compile(r"([12][0-9]{3})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})\Z", re.ASCII)
_LENGTH = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})\Z", re.ASCII)
_DAY, _HOUR, _MINUTE = 86400, 3600, 60


def parse_end(text: str) -> int:
    """Return the UTC seconds of ``CCYYMMDDHHMM``, the end of an interval; 0000 to 2359, never 2400.

    Raises:
        ValueError: no such moment, or outside the years 1970 to 2199.
    """
    match = _MINUTES.match(text)
    if not match or not 1970 <= int(match[1]) <= 2199:
        raise ValueError(f"{text[:20]!r} is not a moment CCYYMMDDHHMM")
    try:
        return units.seconds_of(datetime(*map(int, match.groups()), tzinfo=UTC))  # type: ignore[arg-type, misc]
    except ValueError as error:
        raise ValueError(f"{text!r} is not a moment CCYYMMDDHHMM: {error}") from error


def end_text(end_utc: int) -> str:
    """Return ``CCYYMMDDHHMM``.

    Raises:
        CannotRepresent: not a whole minute.
    """
    if end_utc % _MINUTE:
        raise CannotRepresent(f"{units.format_utc(end_utc)}: CMEP's clock knows whole minutes only")
    return datetime.fromtimestamp(end_utc, UTC).strftime("%Y%m%d%H%M")


def parse_length(text: str) -> int:
    """Return the seconds of an interval ``MMDDHHMM``; empty is 0, not stated.

    Raises:
        ValueError: not of that form, of months (which have no one length), or minutes that do not divide the hour.
    """
    if not text:
        return 0
    match = _LENGTH.match(text)
    if not match:
        raise ValueError(f"interval {text[:20]!r} is not a length MMDDHHMM")
    months, days, hours, minutes = map(int, match.groups())
    if months:
        raise ValueError(f"interval {text!r} is of months, which have no one length")
    length_s = days * _DAY + hours * _HOUR + minutes * _MINUTE
    if 0 < length_s < _HOUR and _HOUR % length_s:
        raise ValueError(f"interval {text!r} does not divide the hour")
    return length_s


def length_text(length_s: int) -> str:
    """Return ``MMDDHHMM`` of a length in seconds; nothing for 0.

    Raises:
        CannotRepresent: not whole minutes, below an hour and no part of it, or of 100 days and more.
    """
    if not length_s:
        return ""
    days, rest = divmod(length_s, _DAY)
    if length_s % _MINUTE or days > 99 or (length_s < _HOUR and _HOUR % length_s):
        raise CannotRepresent(f"CMEP has no interval of {length_s} s")
    return f"00{days:02d}{rest // _HOUR:02d}{rest % _HOUR // _MINUTE:02d}"
