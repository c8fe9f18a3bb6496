"""Decimal literals, instants and units: how text becomes an exact value and back.

Floor 0: imports only errors. Times are whole numbers everywhere inside: an interval's end in UTC *seconds* since 1970
(`..._utc`), a message's moment in UTC *milliseconds* (`..._utc_ms`). No float, no zone-less time, no clock.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache

from .errors import FileInvalid

# xs:decimal as XSD 1.0 part 2 section 3.2.3 has it, ASCII only: Decimal() also takes 1_000, Arabic digits and NaN.
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\Z", re.ASCII)
# JSON's number, RFC 8259 section 6: what the store keeps. Most literals on the wire are one already.
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?\Z", re.ASCII)
_JSON_COLUMN = re.compile(r"(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:\n(?!\Z)|\Z))+\Z", re.ASCII)
MAX_DIGITS = 18

# xs:dateTime with a mandatory zone; 24:00, leap seconds and years of five digits are refused (DESIGN 3.6).
_ZONE = r"Z|[+-](?:0\d|1[0-3]):[0-5]\d|[+-]14:00"  # XSD 1.0 part 2 section 3.2.7.3: at most 14 hours
_DATE_TIME = re.compile(rf"(\d{{4}})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{{1,9}}))?({_ZONE})\Z", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_CLOCK = re.compile(r"T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)Z\Z", re.ASCII)
# 1970 to 9998: whatever the zone, datetime can still say it, so no time once read can break a later sum.
SPEAKABLE_S = range(0, 253_370_764_800)

# Code -> seconds: position 3 (measuringPeriod) of an 18-number reading type, IEC 61968-9 annex C.
MEASURING_PERIODS = {1: 600, 2: 900, 3: 60, 4: 86400, 5: 1800, 6: 300, 7: 3600, 10: 120, 14: 180, 31: 1200}

_UNIT_CODES = {
    "A": 5, "°C": 23, "V": 29, "Hz": 33, "W": 38, "VA": 61, "var": 63, "VAh": 71, "Wh": 72, "varh": 73, "count": 111,
}  # fmt: skip
_MULTIPLIERS = {"": 0, "k": 3, "M": 6, "G": 9, "m": -3}
# (power of ten, unit code) -> symbol, as positions 16 and 17 of a reading type.
SYMBOLS = {
    (power, code): prefix + symbol
    for symbol, code in _UNIT_CODES.items()
    for prefix, power in _MULTIPLIERS.items()
    if not (prefix and symbol in ("°C", "count"))
}
_BY_FOLDED = {symbol.casefold(): key for key, symbol in SYMBOLS.items() if not symbol.startswith("m")}
# Files write units in any case (kWh, KWH, kVArh); "m" and "M" differ only by case, so milli is matched exactly.
_BY_SYMBOL = {symbol: key for key, symbol in SYMBOLS.items()}


def decimal_text(text: str) -> str:
    """Return the decimal literal `text` in the one form the store keeps: JSON's number, digits untouched.

    ``+1.5`` -> ``1.5``, ``.5`` -> ``0.5``, ``5.`` -> ``5``, ``007`` -> ``7``; trailing zeros stay.

    Raises:
        ValueError: not an ASCII xs:decimal, or more than 18 digits.
    """
    if len(text) <= MAX_DIGITS and _JSON_NUMBER.match(text):
        return text
    if not _DECIMAL.match(text):
        raise ValueError("not a decimal number")
    sign = "-" if text[0] == "-" else ""
    whole, _, fraction = text.lstrip("+-").partition(".")
    if len(whole) + len(fraction) > MAX_DIGITS:
        raise ValueError(f"more than {MAX_DIGITS} digits")
    return sign + (whole.lstrip("0") or "0") + ("." + fraction if fraction else "")


def decimal_texts(texts: Sequence[str]) -> tuple[str, ...]:
    """Return many literals as `decimal_text` does each; a column that is in that form already is looked at once.

    Raises:
        ValueError: as `decimal_text`, for any of them.
    """
    column = "\n".join(texts)
    if _JSON_COLUMN.match(column) and column.count("\n") < len(texts) and max(map(len, texts)) <= MAX_DIGITS:
        return tuple(texts)
    return tuple(map(decimal_text, texts))


def parse_utc_ms(text: str) -> int:
    """Return the UTC milliseconds of an xs:dateTime that carries its zone; finer fractions are cut.

    Raises:
        ValueError: no zone, no such date, 24:00, a leap second, before 1970, or not an xs:dateTime at all.
    """
    match = _DATE_TIME.match(text)
    if not match:
        raise ValueError("not a date and time with a zone, such as 2026-03-01T00:15:00Z")
    seconds = seconds_of(datetime.fromisoformat(text[:19] + match[8]))
    if seconds not in SPEAKABLE_S:
        raise ValueError("not a time between 1970 and 9998")
    return seconds * 1000 + int(((match[7] or "") + "000")[:3])


@lru_cache(maxsize=8192)  # the channels of one message repeat the same ends
def parse_utc(text: str) -> int:
    """Return the UTC seconds of an xs:dateTime that carries its zone and falls on a whole second.

    Raises:
        ValueError: as `parse_utc_ms`, or a fraction of a second.
    """
    midnight, of_day = _midnight(text[:10]), _of_day(text[10:])
    if midnight is not None and of_day is not None:  # the usual spelling, a quarter of the cost
        return midnight + of_day
    millis = parse_utc_ms(text)
    if millis % 1000:
        raise ValueError("an interval ends on a whole second")
    return millis // 1000


@lru_cache(maxsize=1024)
def _midnight(day: str) -> int | None:
    """UTC seconds at the start of ``2026-03-01``; None for anything else, which `parse_utc_ms` judges."""
    try:
        seconds = seconds_of(datetime.fromisoformat(f"{day}T00:00:00+00:00")) if _DAY.match(day) else -1
    except ValueError:
        return None
    return seconds if seconds in SPEAKABLE_S else None


@lru_cache(maxsize=1024)
def _of_day(clock: str) -> int | None:
    """Seconds since midnight of ``T00:15:00Z``; None for anything else."""
    match = _CLOCK.match(clock)
    return int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3]) if match else None


@lru_cache(maxsize=8192)  # as parse_utc
def format_utc(seconds: int) -> str:
    """Return ``2026-03-01T00:15:00Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19] + "Z"


def format_utc_ms(millis: int) -> str:
    """Return ``2026-03-01T00:15:00.250Z``."""
    return f"{format_utc(millis // 1000)[:-1]}.{millis % 1000:03d}Z"


@lru_cache(maxsize=4096)  # the channels of one message, and the messages of one hour, ask for the same ends
def standard_offset(zone: tzinfo, utc: int) -> int:
    """Return the zone's offset from UTC in seconds at `utc` without daylight saving: utcoffset - dst (decision 12)."""
    local = datetime.fromtimestamp(utc, zone)
    offset, saving = local.utcoffset(), local.dst()
    if offset is None:
        raise TypeError("a zone value must know its offset")
    whole = offset - saving if saving else offset
    return whole.days * 86400 + whole.seconds


def is_contiguous(ends_utc: Sequence[int], interval_s: int) -> bool:
    """Tell whether interval ends follow each other without a hole, a repeat or disorder; so does no end at all."""
    if not ends_utc:
        return True
    first = ends_utc[0]
    # Compared as a whole: a fortieth of what a loop over them costs.
    return interval_s > 0 and tuple(ends_utc) == tuple(range(first, first + interval_s * len(ends_utc), interval_s))


@lru_cache(maxsize=64)
def ends_of(grid: range) -> tuple[int, ...]:
    """Return interval ends on a grid as a tuple, the same one for equal grids: a month is asked for by every meter."""
    return tuple(grid)


def on_grid(interval_end_utc: int, interval_s: int, zone: tzinfo) -> bool:
    """Tell whether an interval's end is a whole number of intervals after local *standard* midnight (decision 12)."""
    return (interval_end_utc + standard_offset(zone, interval_end_utc)) % 86400 % interval_s == 0


def unit_code(symbol: str) -> tuple[int, int]:
    """Return (power of ten, unit code of IEC 61968-9) of a unit symbol, whatever its case.

    Raises:
        FileInvalid: the symbol is not in the table.
    """
    key = _BY_SYMBOL.get(symbol) or _BY_FOLDED.get(symbol.casefold())
    if key is None:
        raise FileInvalid(f"unknown unit {symbol!r}; known are {', '.join(sorted(_BY_SYMBOL))}")
    return key


def seconds_of(moment: datetime) -> int:
    """Return the UTC seconds of an aware datetime; a fraction is cut."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return delta.days * 86400 + delta.seconds


def uuid7(utc_ms: int, random: bytes) -> str:
    """Return a UUIDv7 (RFC 9562 section 5.7) of a moment and 10 random octets."""
    octets = bytearray(utc_ms.to_bytes(6) + random)
    octets[6] = octets[6] & 0x0F | 0x70
    octets[8] = octets[8] & 0x3F | 0x80
    digits = octets.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
