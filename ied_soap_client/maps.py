"""Meters that are no SunSpec devices: their counters by a register map, which is a data file of the site.

In: a CSV (point, register, format, unit, flow) and the words of a meter. Out: stands, as of any other meter. A map is
data because it differs by meter, firmware and what somebody linked there; one that nobody held beside a real meter
says so in its head (``# verified: no``), and the agent says it at each start. `ion` is packaged.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import NamedTuple

from gridpost import units
from gridpost.errors import ConfigInvalid, FileInvalid
from gridpost.model import Channel, ReadingType

from . import config as settings
from . import register_map as rm
from .modbus import Link, Place

PACKAGED = ("ion",)
FIRST, MOST_WORDS = 40001, 125  # register 40001 is address 0 of the holding registers; one answer holds 125 words
COLUMNS = ["point", "register", "format", "unit", "flow"]

# Format -> number of words, and their meaning, high word first.
FORMATS: Mapping[str, tuple[int, Callable[[Sequence[int]], int]]] = {
    "u16": (1, lambda words: words[0]),
    "s16": (1, lambda words: rm.signed(words[0])),
    "u32": (2, lambda words: words[0] << 16 | words[1]),
    "s32": (2, lambda words: (words[0] << 16 | words[1]) - ((words[0] >> 15) << 32)),
    "m10k": (2, lambda words: words[0] * 10_000 + words[1]),  # modulo 10000, as Power Measurement's meters have it
}


class Register(NamedTuple):
    """A counter: its place, its format, the power of ten and IEC 61968-9 code of its unit, the flow it counts or ''."""

    address: int
    format: str
    power: int
    unit: int
    flow: str


class RegisterMap(NamedTuple):
    """A map: its counters by name, and whether somebody held it beside a real meter."""

    points: Mapping[str, Register]
    verified: bool

    @property
    def span(self) -> tuple[int, int]:
        """First address and number of words that hold all counters."""
        ends = [one.address + FORMATS[one.format][0] for one in self.points.values()]
        first = min(one.address for one in self.points.values())
        return first, max(ends) - first


def load(config: settings.Config, name: str) -> RegisterMap:
    """Read a packaged map or a file of the site.

    Raises:
        ConfigInvalid: no such file, or not a map.
    """
    try:
        packaged = resources.files(__package__).joinpath(f"{name}.csv")
        text = packaged.read_text("utf-8") if name in PACKAGED else config.path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"register map {name}: {error}") from None
    return parse(text, name)


def parse(text: str, name: str) -> RegisterMap:
    """Read a map.

    Raises:
        ConfigInvalid: naming the line's point.
    """
    head = [line for line in text.splitlines() if line.startswith("#")]
    rows = csv.DictReader(line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    if rows.fieldnames != COLUMNS:
        raise ConfigInvalid(f"register map {name}: its columns are not {','.join(COLUMNS)}")
    found = RegisterMap({row["point"]: _register(row, name) for row in rows}, "# verified: no" not in head)
    if not found.points or found.span[1] > MOST_WORDS:
        raise ConfigInvalid(f"register map {name}: no counters, or further apart than {MOST_WORDS} registers")
    return found


def _register(row: Mapping[str, str], name: str) -> Register:
    try:
        power, unit = units.unit_code(row["unit"])
        address = int(row["register"]) - FIRST
        if row["format"] not in FORMATS or not 0 <= address < 0x10000 or not (row["flow"] or "0").isdecimal():
            raise ValueError(f"register {row['register']}, format {row['format']} or flow {row['flow']}")
    except (ValueError, TypeError, FileInvalid) as error:
        raise ConfigInvalid(f"register map {name}: point {row['point']}: {error}") from None
    return Register(address, row["format"], power, unit, row["flow"])


def points(read: RegisterMap, meter: settings.Meter, found: Sequence[Channel]) -> Mapping[Channel, str]:
    """Return which counter each of a meter's channels is: the one the settings name, else that of its flow and unit.

    Raises:
        ConfigInvalid: the meter has no channel, or one without a counter of its unit.
    """
    chosen = {one: _point(read, meter, one) for one in found if one.key.meter == meter.id}
    if not chosen:
        raise ConfigInvalid(f"meter {meter.id!r} has no row in the channel table")
    return chosen


def _point(read: RegisterMap, meter: settings.Meter, channel: Channel) -> str:
    kind = ReadingType.parse(channel.key.reading_type)
    fitting = [
        name for name, one in read.points.items() if (one.flow, one.unit) == (str(kind.flow_direction), kind.unit)
    ]
    point = meter.points.get(channel.key.stream) or (fitting[0] if fitting else "")
    name = channel.key.stream or channel.key.reading_type
    if point not in read.points or read.points[point].unit != kind.unit:
        known = ", ".join(read.points)
        raise ConfigInvalid(f"meter {meter.id!r}: name the counter of channel {name} under [meter.points]: {known}")
    return point


class MappedMeter:
    """A meter behind a link, read by a map."""

    def __init__(self, link: Link, unit: int, read: RegisterMap) -> None:
        """Prepare; the link is the caller's to close."""
        self._link, self._unit, self.map = link, unit, read

    async def samples(self) -> Mapping[str, rm.Sample]:
        """Read all counters in one request; raises MeterUnreachable. A negative one is not there."""
        first, count = self.map.span
        words = await self._link.registers(Place(self._unit, "holding", first), count)
        found = {name: _sample(one, words[one.address - first :]) for name, one in self.map.points.items()}
        return {name: sample for name, sample in found.items() if sample.raw >= 0}

    def close(self) -> None:
        """Nothing of its own is open."""


def _sample(register: Register, words: Sequence[int]) -> rm.Sample:
    count, meaning = FORMATS[register.format]
    return rm.Sample(meaning(words[:count]), register.power)
