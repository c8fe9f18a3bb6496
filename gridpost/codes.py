"""The codes of IEC 61968-9 that every reading carries: what was measured, and how good the value is.

Floor 1. In: the dotted numbers of annexes C and D as text. Out: frozen values that know what their numbers say. Codes
that the tables of `units.py` do not have are kept, never refused. `model.py` hands these on as part of the one
vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

from . import units
from .errors import FileInvalid

MISSING_QUALITY = "2.5.259"  # known missing: the only quality under which a value may be absent (decision 11)
VALID_QUALITY, _EDITED_CATEGORY, _ESTIMATED_CATEGORY = "1.0.0", "7", "8"
LONGEST_CODE = 128  # as the schema has it


class Quality(NamedTuple):
    """A ReadingQualityType, ``system.category.index`` of IEC 61968-9 annex D, and the source's own words for it."""

    code: str
    detail: str = ""


Qualities = tuple[Quality, ...]  # () means 1.0.0, valid (decision 10)


def is_edited(qualities: Qualities) -> bool:
    """Tell whether a reading is marked edited: any ``x.7.*``."""
    return _has_category(qualities, _EDITED_CATEGORY)


def is_estimated(qualities: Qualities) -> bool:
    """Tell whether a reading is an estimate, whoever made it: any ``x.8.*``."""
    return _has_category(qualities, _ESTIMATED_CATEGORY)


def _has_category(qualities: Qualities, category: str) -> bool:
    return any(quality.code.split(".")[1:2] == [category] for quality in qualities)


class ReadingType(NamedTuple):
    """The 18 numbers of an IEC 61968-9 ReadingType, by their names in the standard."""

    macro_period: int
    aggregate: int
    measuring_period: int
    accumulation: int
    flow_direction: int
    commodity: int
    measurement_kind: int
    interharmonic_numerator: int
    interharmonic_denominator: int
    argument_numerator: int
    argument_denominator: int
    tou: int
    cpp: int
    consumption_tier: int
    phases: int
    multiplier: int
    unit: int
    currency: int

    @classmethod
    def parse(cls, text: str) -> ReadingType:
        """Read ``0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0``; unknown codes are kept.

        Raises:
            FileInvalid: not 18 dotted whole numbers.
        """
        parts = text.split(".") if len(text) <= LONGEST_CODE else []
        if len(parts) != 18 or not all(part.removeprefix("-").isdecimal() and part.isascii() for part in parts):
            raise FileInvalid(f"{text[:LONGEST_CODE]!r} is not a reading type of 18 numbers")
        return cls(*map(int, parts))

    def __str__(self) -> str:
        return ".".join(map(str, self))

    @property
    def symbol(self) -> str:
        """The unit's symbol, such as ``kWh``; empty when the table does not know it."""
        return units.SYMBOLS.get((self.multiplier, self.unit), "")

    @property
    def interval_s(self) -> int:
        """Seconds of the measuring period; 0 when it states none."""
        return units.MEASURING_PERIODS.get(self.measuring_period, 0)

    def reads_register_of(self, channel: ReadingType) -> bool:
        """Tell whether this type is the dial behind `channel`: equal but for accumulation and measuring period."""
        mine, its = (one._replace(accumulation=0, measuring_period=0) for one in (self, channel))
        return mine == its and self.accumulation in (1, 2, 3, 9)

    def register(self) -> ReadingType:
        """Return the type of the register whose differences this interval channel holds: bulk, no period."""
        return self._replace(accumulation=1, measuring_period=0)
