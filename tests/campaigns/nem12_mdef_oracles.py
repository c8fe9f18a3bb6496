"""What NEM12 and MDEF files say, read without any of Gridpost: for campaigns that judge it.

A splitter of NEM12's 200, 300 and 400 records that keeps every value as its text, nemreader beside it, a reader of
MDEF's fixed records (216 bytes, little-endian), and the float32 nearest to a decimal.
"""

from __future__ import annotations

import logging
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy
from nemreader import NEMFile

logging.getLogger("nemreader").setLevel(logging.CRITICAL)


class Key(NamedTuple):
    """An interval of a NEM12 file; `number` counts from 1 in its day of `minutes` intervals."""

    nmi: str
    meter: str
    suffix: str
    date: str
    minutes: int
    number: int


class Cell(NamedTuple):
    """What is said of an interval; `value` is the text, but for a zero before a leading point (`.95` is `0.95`)."""

    value: str
    method: str
    reason: str
    text: str


def unwrapped(text: str) -> str:
    """Return the file with broken 300 records in one line: what bears no indicator belongs to the line above."""
    lines: list[str] = []
    for line in text.splitlines():
        if lines and line.split(",")[0] not in ("100", "200", "300", "400", "500", "900"):
            lines[-1] += line
        else:
            lines.append(line)
    return "\r\n".join([*lines, ""])


def split(text: str) -> dict[Key, Cell]:
    """Return every interval of a file."""
    found: dict[Key, Cell] = {}
    stream: tuple[str, str, str] = ("", "", "")
    minutes, date = 0, ""
    for line in unwrapped(text).splitlines():
        fields = line.split(",")
        if fields[0] == "200":
            stream, minutes = (fields[1], fields[6] or fields[1], fields[4]), int(fields[8])
        elif fields[0] == "300":
            date, count = fields[1], 1440 // minutes
            tail = (*fields[2 + count :], "", "")[:3]
            for number, value in enumerate(fields[2 : 2 + count], 1):
                key = Key(*stream, date, minutes, number)
                assert key not in found, f"{key} is there twice"
                found[key] = Cell("0" * value.startswith(".") + value, *tail)
        elif fields[0] == "400":
            for number in range(int(fields[1]), int(fields[2]) + 1):
                key = Key(*stream, date, minutes, number)
                found[key] = Cell(found[key].value, *(*fields[3:], "", "")[:3])
    return found


def split_all(texts: Iterable[str]) -> dict[Key, Cell]:
    """Return the intervals of several files, none of which may be in two."""
    found: dict[Key, Cell] = {}
    for text in texts:
        more = split(text)
        assert not found.keys() & more.keys(), "an interval is in two files"
        found |= more
    return found


def shape(text: str) -> tuple[int, int, int]:
    """Return the numbers of meters, of streams and of values."""
    keys = split(text)
    return len({key[:2] for key in keys}), len({key[:3] for key in keys}), len(keys)


def seen_by_nemreader(texts: Iterable[str], scratch: Path) -> dict[Any, Any]:
    """Return what nemreader reads: its floats by repr, which is exact, the quality with reason and text."""
    found = {}
    for text in texts:
        scratch.write_bytes(text.encode())
        for nmi, suffixes in NEMFile(str(scratch)).nem_data().readings.items():
            for suffix, reads in suffixes.items():
                for read in reads:
                    key = (nmi, suffix, read.t_start.isoformat(), read.t_end.isoformat())
                    assert key not in found, f"{key} is there twice"
                    quality = (read.quality_method, read.event_code or "", read.event_desc or "")
                    found[key] = (repr(read.read_value), read.uom.lower(), read.meter_serial_number, *quality)
    return found


# --- MDEF ------------------------------------------------------------------------------------------------------------


class DayKey(NamedTuple):
    """A channel's day in MDEF: CUSTID, RECID, the label, the date of the first minute, intervals an hour."""

    custid: str
    meter: str
    label: str
    date: str
    per_hour: int


Interval = tuple[bytes, bool]  # the four octets of the value, status LA
GAP: Interval = (b"\0\0\0\0", True)
_LA = 0x40


def read_mdef(content: bytes) -> dict[DayKey, list[Interval]]:
    """Return each channel of a file of whole days."""
    found: dict[DayKey, list[Interval]] = {}
    values: list[Interval] = []
    records = [content[start : start + 216] for start in range(0, len(content), 216)]
    assert int(records[-1][34:44]) == len(records)
    wanted = 0
    for record in records:
        length, code = struct.unpack_from("<HH", record)
        assert (length, len(record)) == (216, 216)
        if code == 10:
            start, stop = record[56:68].decode(), record[68:80].decode()
            assert (start[8:], stop) == ("0001", f"{start[:8]}2400"), "not a day from its first minute to 2400"
            assert record[99:101] == b"YY"
            per_hour = int(record[177:179])
            wanted, values = 24 * per_hour, []
            names = (record[4:24], record[24:38], record[44:56])
            key = DayKey(*(name.rstrip(b" \0").decode() for name in names), start[:8], per_hour)
            assert key not in found
            found[key] = values
        elif 1000 < code < 9999:
            for place in range(24, 216, 8):
                if len(values) < wanted:
                    octets, _, status = struct.unpack_from("<4sHH", record, place)
                    values.append((octets, bool(status & _LA)))
    assert all(len(held) == 24 * key.per_hour for key, held in found.items())
    return found


def mdef_days(cells: Mapping[Key, Cell]) -> dict[DayKey, list[str]]:
    """Return the value texts of each channel and day as MDEF should have them."""
    found: dict[DayKey, list[str]] = defaultdict(list)
    for key in sorted(cells):
        found[DayKey(key.nmi, key.meter, key.suffix, key.date, 60 // key.minutes)].append(cells[key].value)
    return found


@cache
def nearest(text: str) -> Interval:
    """Return the float32 nearest to a decimal that is not negative, ties to even; struct alone would round twice."""
    exact = Fraction(Decimal(text))
    (guess,) = struct.unpack("<I", struct.pack("<f", float(text)))
    near = [struct.pack("<I", bits) for bits in (guess - 1, guess, guess + 1) if bits >= 0]
    return min(near, key=lambda octets: (abs(Fraction(*struct.unpack("<f", octets)) - exact), octets[0] & 1)), False


@cache
def is_lossy(text: str) -> bool:
    """Tell whether float32's shortest decimal (numpy's) is another number."""
    return Decimal(str(numpy.frombuffer(nearest(text)[0], "<f4")[0])) != Decimal(text)
