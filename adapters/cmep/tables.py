"""CMEP's codes and what they are in CIM: units to reading types, flags to qualities, both ways.

A flag crosses as a CIM quality whose detail is ``CMEP`` and the flag as it stood, so that the same flag is found again;
no flag is no quality, which is valid. An empty interval that had a value keeps it there: ``CMEP N=0.0``.

Do not add a code anywhere else: these tables are the mapping, which README.md shows to people.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from gridpost.model import MISSING_QUALITY, VALID_QUALITY, Qualities, Quality, ReadingType
from gridpost.units import MEASURING_PERIODS

ELECTRICITY = "E"
_FORWARD, _REVERSE = 1, 19
_AVERAGE = 2
_BULK, _DELTA, _INDICATING = 1, 4, 6
_ENERGY, _POWER, _VOLTAGE = 12, 37, 54
_V, _W, _VA, _VAR, _VAH, _WH, _VARH = 29, 38, 61, 63, 71, 72, 73
_KILO = 3
_PERIOD_CODES = {seconds: code for code, seconds in MEASURING_PERIODS.items()}

_BLANK = ReadingType(*[0] * 18)._replace(commodity=1)


def _types() -> dict[str, ReadingType]:
    """Return the reading type of each unit of electricity, without its measuring period."""
    found = {"VOLTS": _BLANK._replace(aggregate=_AVERAGE, accumulation=_INDICATING, measurement_kind=_VOLTAGE, unit=_V)}
    for name, power, energy in (("W", _W, _WH), ("VA", _VA, _VAH), ("VAR", _VAR, _VARH)):
        for letter, flow in (("", _FORWARD), ("G", _REVERSE)):
            way = _BLANK._replace(flow_direction=flow, multiplier=_KILO)
            demand = way._replace(aggregate=_AVERAGE, accumulation=_INDICATING, measurement_kind=_POWER, unit=power)
            used = way._replace(accumulation=_DELTA, measurement_kind=_ENERGY, unit=energy)
            found |= {f"{letter}K{name}": demand, f"{letter}K{name}H": used}
        found[f"K{name}HREG"] = found[f"K{name}H"]._replace(accumulation=_BULK)
    return found


TYPES = _types()
_UNITS = {reading_type: unit for unit, reading_type in TYPES.items()}
# Taken with a row of the site table only: PULSE needs the quantity its constant makes; the rest are no electricity.
PULSE = "PULSE"

# Flag letter -> quality. R, raw, is what the device said and nobody validated.
_CODES = {"E": "2.8.0", "A": "2.7.0", "N": MISSING_QUALITY, "R": VALID_QUALITY}
_UNNAMED_CODE = "4.1.0"
EMPTY = "N"
FLAG = re.compile(r"[A-Z][A-Za-z0-9 ]{0,11}\Z", re.ASCII)
_CMEP = "CMEP "
_VERBATIM = re.compile(r"CMEP ([A-Z][A-Za-z0-9 ]{0,11})(?:=(\S+))?\Z", re.ASCII)
# Qualities of other sources, by category of annex D; every other one is written as raw.
_BY_CATEGORY = {"7": "A", "8": "E"}
_RAW = "R"


class Cell(NamedTuple):
    """A value as CMEP writes it with its flag, and what of its qualities that does not say."""

    flag: str
    value: str
    lost: Qualities = ()


def reading_type(unit: str, interval_s: int) -> ReadingType | None:
    """Return the reading type of a unit of electricity; None where the table has none. A register has no period."""
    found = TYPES.get(unit)
    if found is None or found.accumulation == _BULK:
        return found
    return found._replace(measuring_period=_PERIOD_CODES.get(interval_s, 0))


def is_register(reading_type: ReadingType) -> bool:
    """Tell whether values are a dial's stand, not an interval's."""
    return reading_type.accumulation in (1, 2, 3, 9)


def unit_of(reading_type: ReadingType) -> str:
    """Return CMEP's unit of a reading type, whatever its measuring period; empty where the table has none."""
    bulk = reading_type._replace(accumulation=_BULK) if is_register(reading_type) else reading_type
    return _UNITS.get(bulk._replace(measuring_period=0), "")


@lru_cache(maxsize=4096)
def qualities(flag: str, value: str) -> Qualities:
    """Return the qualities of a flag as it stood; a letter that is not in the table is kept under 4.1.0."""
    if not flag:
        return ()
    kept = f"={value}" if value and flag[0] == EMPTY else ""
    return (Quality(_CODES.get(flag[0], _UNNAMED_CODE), f"{_CMEP}{flag}{kept}"),)


@lru_cache(maxsize=16384)
def cell(value: str | None, qualities_: Qualities) -> Cell:
    """Return how CMEP writes a value with its qualities; no value is flag N."""
    spoken = [quality for quality in qualities_ if quality != (VALID_QUALITY, "")]
    for quality in spoken:
        match = _VERBATIM.match(quality.detail)
        empty = match is not None and match[1][0] == EMPTY
        if match and quality.code == _CODES.get(match[1][0], _UNNAMED_CODE) and empty == (value is None):
            rest = tuple(other for other in spoken if other is not quality)
            return Cell(match[1], (match[2] or "") if value is None else value, rest)
    if value is None:
        return Cell(EMPTY, "", tuple(quality for quality in spoken if quality != (MISSING_QUALITY, "")))
    if not spoken:
        return Cell("", value)
    flags = [_BY_CATEGORY.get("".join(quality.code.split(".")[1:2]), _RAW) for quality in spoken]
    flag = next((one for one in flags if one != _RAW), _RAW)
    said = Quality(_CODES[flag], "")
    return Cell(flag, value, tuple(quality for quality in spoken if quality != said))
