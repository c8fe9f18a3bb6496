"""MDEF's clock: local standard time in whole minutes, an interval file's start written a minute late.

The one place of this adapter where times change their zone. "Wall seconds" are seconds since 1970-01-01 00:00 on the
site's standard-time clock, which no daylight saving moves.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo

from gridpost import units
from gridpost.errors import CannotRepresent, FileInvalid

_EPOCH = datetime(1970, 1, 1)
_MINUTES = re.compile(r"([12][0-9]{3})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})\Z", re.ASCII)
_DAY = 86400


def to_wall(utc: int, zone: tzinfo) -> int:
    """Return the wall seconds of UTC seconds."""
    return utc + units.standard_offset(zone, utc)


def to_utc(wall: int, zone: tzinfo) -> int:
    """Return the UTC seconds of wall seconds; where the standard offset itself changed, the later reading of two."""
    return wall - units.standard_offset(zone, wall - units.standard_offset(zone, wall))


def parse_minutes(text: str) -> int:
    """Return the wall seconds of ``YYYYMMDDhhmm``; 2400 is the midnight that ends the day.

    Raises:
        FileInvalid: no such moment, or outside the years 1900 to 2199.
    """
    match = _MINUTES.match(text)
    if not match or not 1900 <= int(match[1]) <= 2199:
        raise FileInvalid(f"{text!r} is not a moment YYYYMMDDhhmm")
    year, month, day, hour, minute = map(int, match.groups())
    midnight = hour == 24 and minute == 0
    try:
        moment = datetime(year, month, day, 0 if midnight else hour, minute)
    except ValueError as error:
        raise FileInvalid(f"{text!r} is not a moment YYYYMMDDhhmm: {error}") from error
    since = moment - _EPOCH
    return since.days * _DAY + since.seconds + (_DAY if midnight else 0)


def start_text(wall: int) -> str:
    """Return TA_START of intervals that begin at `wall`: the first minute, one later.

    Raises:
        CannotRepresent: not a whole minute.
    """
    return minutes_text(wall + 60)


def stop_text(wall: int) -> str:
    """Return TA_STOP of intervals that end at `wall`; midnight is 2400 of the day it ends.

    Raises:
        CannotRepresent: not a whole minute.
    """
    return minutes_text(wall - _DAY)[:8] + "2400" if wall % _DAY == 0 else minutes_text(wall)


def minutes_text(wall: int) -> str:
    """Return ``YYYYMMDDhhmm``.

    Raises:
        CannotRepresent: not a whole minute.
    """
    if wall % 60:
        raise CannotRepresent("MDEF's clock knows whole minutes only")
    return (_EPOCH + timedelta(seconds=wall)).strftime("%Y%m%d%H%M")
