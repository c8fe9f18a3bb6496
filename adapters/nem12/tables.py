"""NEM12's codes and what they are in CIM: reading types by suffix and unit, qualities by method, both ways.

A quality crosses as a CIM quality whose detail is the verbatim code, `method,reason,text`, so that the same code is
found again; a plain ``A`` is no quality at all, which is valid. A null interval keeps the value that stood there:
``N=0.000,reason,text``. A quality from elsewhere is written as reason 0 (free text) ``CIM code detail``.

Do not add a code anywhere else: these tables are the mapping (decision 25).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from gridpost import units
from gridpost.errors import FileInvalid
from gridpost.model import MISSING_QUALITY, VALID_QUALITY, Qualities, Quality, ReadingType

FORWARD, REVERSE = 1, 19
_WH, _VARH = 72, 73
_DELTA, _ELECTRICITY, _ENERGY = 4, 1, 12

# First letter of the NMI suffix -> (flow direction, unit); its second character only numbers the stream.
SUFFIXES = {"E": (FORWARD, _WH), "B": (REVERSE, _WH), "Q": (FORWARD, _VARH), "K": (REVERSE, _VARH)}
_LETTERS = {meaning: letter for letter, meaning in SUFFIXES.items()}

# Interval length in minutes -> measuringPeriod (IEC 61968-9 annex C, position 3).
INTERVAL_MINUTES = {5: 6, 10: 1, 15: 2, 30: 5}

# Quality method letter -> code. E, F and S are estimates; F, the final one, replaces what was sent before it.
_CODES = {"A": VALID_QUALITY, "E": "2.8.0", "F": "2.7.0", "S": "2.8.0", "N": MISSING_QUALITY}
VARIABLE = "V"
METHOD = re.compile(r"[AEFSNV](?:[0-9]{2})?\Z", re.ASCII)
REASON = re.compile(r"[0-9]{0,3}\Z", re.ASCII)
MAX_TEXT = 240
_VERBATIM = re.compile(r"(?:([AEFS](?:[0-9]{2})?)|(N(?:[0-9]{2})?)=([0-9.]+)),([0-9]{0,3}),(.*)\Z", re.ASCII)
_FREE_TEXT = "0"
_CIM = "CIM "
_CIM_TEXT = re.compile(r"CIM ([0-9]+\.[0-9]+\.[0-9]+)(?: (.*))?\Z", re.ASCII)


class Code(NamedTuple):
    """A quality as NEM12 writes it: method such as ``S14``, reason code, reason text."""

    method: str
    reason: str = ""
    text: str = ""


ACTUAL = Code("A")
NULL = Code("N")


class Cell(NamedTuple):
    """An interval as NEM12 writes it, and what of its qualities it does not say."""

    value: str
    code: Code
    lost: Qualities = ()


def reading_type(suffix: str, uom: str, minutes: int) -> ReadingType:
    """Return the reading type of a stream.

    Raises:
        FileInvalid: the suffix and unit are not in the table.
    """
    power, unit = units.unit_code(uom)
    meaning = SUFFIXES.get(suffix[:1])
    if meaning is None or meaning[1] != unit:
        raise FileInvalid(f"suffix {suffix!r} with unit {uom!r} means what the site says: give a site table")
    return ReadingType(*[0] * 18)._replace(
        measuring_period=INTERVAL_MINUTES[minutes],
        accumulation=_DELTA,
        flow_direction=meaning[0],
        commodity=_ELECTRICITY,
        measurement_kind=_ENERGY,
        multiplier=power,
        unit=unit,
    )


def suffix(reading_type: ReadingType) -> str:
    """Return the suffix of the first stream of a reading type, such as ``E1``; empty when the table has none."""
    letter = _LETTERS.get((reading_type.flow_direction, reading_type.unit))
    return f"{letter}1" if letter else ""


@lru_cache(maxsize=4096)
def qualities(code: Code) -> Qualities:
    """Return the qualities of an interval that is not null."""
    foreign = _CIM_TEXT.match(code.text) if code.reason == _FREE_TEXT else None
    if foreign:
        found = (Quality(foreign[1], foreign[2] or ""),)
        if cell("0", found) == Cell("0", code):
            return found
    return () if code == ACTUAL else (Quality(_CODES[code.method[0]], ",".join(code)),)


def null_qualities(value: str, code: Code) -> Qualities:
    """Return the qualities of a null interval; its value stays in the detail."""
    return (Quality(MISSING_QUALITY, f"{code.method}={value},{code.reason},{code.text}"),)


@lru_cache(maxsize=16384)
def cell(value: str | None, qualities_: Qualities) -> Cell:
    """Return how NEM12 writes a value with its qualities; no value is a null interval."""
    spoken = [quality for quality in qualities_ if quality != (VALID_QUALITY, "")]
    verbatim = [(quality, match) for quality in spoken if (match := _VERBATIM.match(quality.detail))]
    if verbatim:
        quality, match = verbatim[0]
        rest = tuple(other for other in spoken if other is not quality)
        code = Code(match[1] or match[2], match[4], match[5])
        if value is None and match[2]:
            return Cell(match[3], code, rest)
        if value is not None and match[1]:
            return Cell(value, code, rest)
    if value is None:
        return Cell("0", NULL, tuple(quality for quality in spoken if quality != (MISSING_QUALITY, "")))
    if not spoken:
        return Cell(value, ACTUAL)
    return Cell(value, _foreign(spoken[0]), tuple(spoken[1:]) if _fits(spoken[0]) else tuple(spoken))


def _foreign(quality: Quality) -> Code:
    """Return the method nearest to a quality of another source, its code in the free text."""
    category = quality.code.split(".")[1:2]
    method = {"8": "E", "7": "F"}.get("".join(category), "A")
    if not _fits(quality):
        return Code(method)
    return Code(method, _FREE_TEXT, _CIM + f"{quality.code} {quality.detail}".strip())


def _fits(quality: Quality) -> bool:
    text = f"{quality.code} {quality.detail}"
    return text.isprintable() and text.isascii() and len(_CIM + text) <= MAX_TEXT
