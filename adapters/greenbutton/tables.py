"""ESPI's codes and what they are in CIM: reading types number by number, qualities, both ways.

ESPI took its reading type from IEC 61968-9 annex C, so each of the 18 numbers has its element. A quality crosses as a
CIM quality whose detail is ``ESPI`` and the number, so that the same number is found again; 0 is no quality, which is
valid.

Do not add a code anywhere else: these tables are the mapping, which README.md shows to people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from gridpost.model import MISSING_QUALITY, VALID_QUALITY, Qualities, Quality, ReadingType
from gridpost.units import MEASURING_PERIODS, SYMBOLS

# Elements of ReadingType in the order of the schema -> name of the number; None: not one of the 18.
ELEMENTS: Mapping[str, str | None] = {
    "accumulationBehaviour": "accumulation", "commodity": "commodity", "consumptionTier": "consumption_tier",
    "currency": "currency", "dataQualifier": "aggregate", "defaultQuality": None, "flowDirection": "flow_direction",
    "intervalLength": None, "kind": "measurement_kind", "phase": "phases", "powerOfTenMultiplier": "multiplier",
    "timeAttribute": "macro_period", "tou": "tou", "uom": "unit", "cpp": "cpp", "measuringPeriod": "measuring_period",
}  # fmt: skip
# Two numbers each, as numerator and denominator.
RATIOS = {
    "interharmonic": ("interharmonic_numerator", "interharmonic_denominator"),
    "argument": ("argument_numerator", "argument_denominator"),
}
_PERIOD_CODES = {seconds: code for code, seconds in MEASURING_PERIODS.items()}

# Powers of ten that UnitMultiplierKind lists.
POWERS = (-12, -9, -6, -3, -2, -1, 0, 1, 2, 3, 6, 9)
# ServiceKind by commodity (annex C); electricity where none is said.
SERVICES = {7: 1, 9: 2}

# QualityOfReading -> quality. Where annex D's index is not public text, index 0 stands.
_CODES = {
    0: VALID_QUALITY,  # valid
    7: "2.7.0",  # manually edited
    8: "2.8.0",  # estimated by a reference day
    9: "2.8.0",  # estimated by a straight line
    10: "2.10.0",  # questionable
    11: "2.11.0",  # derived
    12: "2.12.0",  # projected
    14: VALID_QUALITY,  # raw
    15: "2.11.0",  # normalised for weather
    17: "2.0.0",  # validated
    18: "2.6.0",  # failed a check, accepted
    19: VALID_QUALITY,  # revenue quality
}
_UNNAMED_CODE = "4.1.0"  # 13 mixed, 16 other, and numbers that the table lacks
_BY_CATEGORY = {"5": 10, "6": 10, "7": 7, "8": 8, "10": 10, "11": 11, "12": 12}
_OTHER = 16
_ESPI = "ESPI "
_VERBATIM = re.compile(r"ESPI ([0-9]{1,5})\Z", re.ASCII)


class Said(NamedTuple):
    """QualityOfReading numbers of a value, and the qualities that they do not say in full."""

    numbers: tuple[int, ...]
    lost: Qualities


def reading_type(numbers: Mapping[str, int], interval_s: int) -> ReadingType:
    """Return the type of the elements given by name; a period that is not said is that of the interval length."""
    named = {name: numbers[element] for element, name in ELEMENTS.items() if name and element in numbers}
    named |= {
        name: numbers[f"{element}/{part}"]
        for element, names in RATIOS.items()
        for part, name in zip(("numerator", "denominator"), names, strict=True)
        if f"{element}/{part}" in numbers
    }
    found = ReadingType(*[0] * 18)._replace(**named)
    if found.measuring_period or is_register(found):
        return found
    return found._replace(measuring_period=_PERIOD_CODES.get(interval_s, 0))


def is_register(reading_type: ReadingType) -> bool:
    """Tell whether values are a dial's stand, not an interval's."""
    return reading_type.accumulation in (1, 2, 3, 9)


def spoken_power(power: int, unit: int) -> int:
    """Return the power of ten people write the unit with: kilo for 4, none for 2 or -5."""
    if (power, unit) in SYMBOLS:
        return power
    return max((one for one in (0, 3, 6, 9) if one <= power), default=0)


@lru_cache(maxsize=4096)
def qualities(numbers: tuple[int, ...]) -> Qualities:
    """Return one quality a number; 0 is none."""
    return tuple(Quality(_CODES.get(number, _UNNAMED_CODE), f"{_ESPI}{number}") for number in numbers if number)


def missing(numbers: tuple[int, ...]) -> Qualities:
    """Return the qualities of an interval without a value."""
    return (Quality(MISSING_QUALITY, ""), *qualities(numbers))


@lru_cache(maxsize=4096)
def said(qualities_: Qualities) -> Said:
    """Return the numbers that stand for qualities; what they do not say is listed."""
    numbers: list[int] = []
    lost: list[Quality] = []
    for quality in qualities_:
        if quality == (VALID_QUALITY, ""):
            continue
        match = _VERBATIM.match(quality.detail)
        if match and quality.code == _CODES.get(int(match[1]), _UNNAMED_CODE):
            numbers.append(int(match[1]))
            continue
        number = _BY_CATEGORY.get("".join(quality.code.split(".")[1:2]), _OTHER)
        numbers.append(number)
        if number == _OTHER or quality != (_CODES[number], ""):
            lost.append(quality)
    return Said(tuple(dict.fromkeys(numbers)), tuple(lost))
