"""What MDEF's unit codes and labels mean where no site table says otherwise.

Codes above 03 are set by each site, so only those that all files seen agree on stand here, and on reading only together
with the flow; README.md shows the table to people.
"""

from __future__ import annotations

from typing import NamedTuple

from gridpost.model import ReadingType
from gridpost.units import MEASURING_PERIODS

FORWARD, REVERSE = 1, 19
KILO, WH, VARH = 3, 72, 73
OTHER = "13"
_DELTA, _ELECTRICITY, _ENERGY = 4, 1, 12
_PERIOD_CODES = {seconds: code for code, seconds in MEASURING_PERIODS.items()}


class Quantity(NamedTuple):
    """Flow direction, power of ten and unit of a reading type."""

    flow_direction: int
    multiplier: int
    unit: int


# (DC_UMCODE, DC_FLOW) -> quantity
QUANTITIES = {
    ("01", "D"): Quantity(FORWARD, KILO, WH),
    ("02", "R"): Quantity(REVERSE, KILO, WH),
    ("03", "D"): Quantity(FORWARD, KILO, VARH),
    ("05", "R"): Quantity(REVERSE, KILO, VARH),
}
UOM_CODES = {quantity: code for (code, _), quantity in QUANTITIES.items()}
_PHASES = {128: "A", 64: "B", 32: "C", 129: "A", 65: "B", 33: "C", 132: "AB", 66: "BC", 96: "AC"}


def quantity_of(reading_type: ReadingType) -> Quantity:
    """Return the quantity of a reading type."""
    return Quantity(reading_type.flow_direction, reading_type.multiplier, reading_type.unit)


def reading_type(quantity: Quantity, interval_s: int) -> ReadingType:
    """Return the interval (delta) type of electrical energy; a length without a code gives period 0."""
    blank = ReadingType(*[0] * 18)
    return blank._replace(
        measuring_period=_PERIOD_CODES.get(interval_s, 0),
        accumulation=_DELTA,
        flow_direction=quantity.flow_direction,
        commodity=_ELECTRICITY,
        measurement_kind=_ENERGY,
        multiplier=quantity.multiplier,
        unit=quantity.unit,
    )


def uom_code(reading_type: ReadingType) -> str:
    """Return DC_UMCODE of a reading type; `OTHER` where only the site can say."""
    return UOM_CODES.get(quantity_of(reading_type), OTHER)


def flow(reading_type: ReadingType) -> str:
    """Return DC_FLOW: R received for reverse flow, else D delivered."""
    return "R" if reading_type.flow_direction == REVERSE else "D"


def label(reading_type: ReadingType) -> str:
    """Return a channel label such as ``KWH D``, ``KVARH R`` or ``V A``."""
    symbol = reading_type.symbol.upper() or f"UNIT {reading_type.unit}"
    if reading_type.unit in (WH, VARH):
        return f"{symbol} {flow(reading_type)}"
    return f"{symbol} {_PHASES.get(reading_type.phases, '')}".strip()


def has_register(reading_type: ReadingType) -> bool:
    """Tell whether the values are differences of a register; a voltage has none."""
    return reading_type.accumulation == _DELTA
