"""The intervals of a billing period as whole numbers on one grid: what determinants add up.

Floor 4. In: current readings of a channel, decimal text as kept. Out: a column of integers with the power of ten that
makes them kWh (or kvarh), its holes and estimates by index. Exact throughout; nothing is filled in: a hole is 0 here
and is listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property, lru_cache
from itertools import accumulate
from operator import add, sub

from .. import units
from ..codes import Qualities, is_estimated
from ..errors import BillRefused
from ..ports import CurrentReadings
from .calendar import Hour, Period, expected_ends

_ZEROS = str.maketrans("123456789", "0" * 9)
_ENERGY_UNITS = frozenset(("Wh", "varh"))


@dataclass(frozen=True)
class Series:
    """Values of the expected intervals of a period, in their order.

    Attributes:
        ends_utc: interval ends; values: whole numbers, times 10 ** -places is kWh or kvarh.
        missing: indexes without a value (0 there); estimated: indexes with an estimate.
    """

    ends_utc: tuple[int, ...]
    interval_s: int
    values: tuple[int, ...]
    places: int
    missing: tuple[int, ...] = ()
    estimated: tuple[int, ...] = ()

    @cached_property
    def sums(self) -> tuple[int, ...]:
        """Running sums with 0 in front: what lies in [a, b) is sums[b] - sums[a]."""
        return tuple(accumulate(self.values, initial=0))

    def between(self, runs: Sequence[tuple[int, int]]) -> Decimal:
        """Return the kWh of index runs [first, beyond)."""
        values = self.values
        return self.scaled(sum(sum(values[first:beyond]) for first, beyond in runs))

    def scaled(self, whole: int) -> Decimal:
        """Return a sum of values in kWh."""
        return Decimal(whole).scaleb(-self.places)


def of(readings: CurrentReadings, period: Period) -> Series:
    """Return a channel's intervals over a period.

    Raises:
        BillRefused: a unit that is no energy.
    """
    interval_s = readings.channel.interval_s
    ends, block = _ends(period, interval_s), readings.block
    texts, qualities = _on_grid(ends, block.ends_utc, block.values, block.qualities)
    estimated: tuple[int, ...] = ()
    if any(qualities):
        estimated = tuple(index for index, given in enumerate(qualities) if given and is_estimated(given))
    values, places, missing = _numbers(texts)
    return Series(ends, interval_s, values, places + _power(readings.channel.unit), missing, estimated)


def net(parts: Sequence[tuple[Series, int]]) -> Series:
    """Return the sum of series of one grid, each times its sign, 1 or -1 (one sent out, a sub-meter taken off)."""
    if len(parts) == 1 and parts[0][1] == 1:
        return parts[0][0]
    first, places = parts[0][0], max(series.places for series, _ in parts)
    total: Sequence[int] = (0,) * len(first.values)
    for series, sign in parts:
        factor = 10 ** (places - series.places)
        column = series.values if factor == 1 else [value * factor for value in series.values]
        total = tuple(map(add if sign > 0 else sub, total, column))
    missing, estimated = ({index for one, _ in parts for index in kind(one)} for kind in (_missing, _estimated))
    return Series(
        first.ends_utc, first.interval_s, tuple(total), places, tuple(sorted(missing)), tuple(sorted(estimated))
    )


def netted_hourly(taken: Series, sent: Series, hours: Sequence[Hour]) -> tuple[Series, Series]:
    """Return what was taken and sent out when each hour's two are set off; it stands at the hour's last interval."""
    difference = net([(taken, 1), (sent, -1)])
    columns = ([0] * len(difference.values), [0] * len(difference.values))
    for hour in hours:
        over = difference.sums[hour.beyond] - difference.sums[hour.first]
        columns[over < 0][hour.beyond - 1] = abs(over)
    first, second = (replace(difference, values=tuple(column)) for column in columns)
    return first, second


def _missing(series: Series) -> tuple[int, ...]:
    return series.missing


def _estimated(series: Series) -> tuple[int, ...]:
    return series.estimated


@lru_cache(maxsize=64)
def _ends(period: Period, interval_s: int) -> tuple[int, ...]:
    ends = expected_ends(period, interval_s)
    return units.ends_of(ends) if isinstance(ends, range) else tuple(ends)


def _on_grid(
    ends: tuple[int, ...], have: tuple[int, ...], texts: Sequence[str | None], qualities: Sequence[Qualities]
) -> tuple[Sequence[str | None], Sequence[Qualities]]:
    """The values in the order of the expected ends, None where there is none; what is off the grid is left out."""
    if have is ends or have == ends:
        return texts, qualities
    by_end = dict(zip(have, zip(texts, qualities, strict=True), strict=True))
    pairs = [by_end.get(end, (None, ())) for end in ends]
    return [text for text, _ in pairs], [given for _, given in pairs]


# Places -> literals of so many and the whole numbers they are: quarter hours of meters are few values again and again.
# Looked up by its text, one costs a third of what making it costs.
_known: dict[int, dict[str | None, int]] = {}
_MOST_KNOWN = 1 << 16


def _numbers(texts: Sequence[str | None]) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """Return decimal literals as whole numbers of one power of ten, the places, and the indexes of what is not there.

    All literals known by the places of the first: then all have as many, and nothing remains to be done.
    """
    places = _places(texts[0]) if texts and texts[0] else 0
    known = _known.setdefault(places, {})
    try:
        return tuple(map(known.__getitem__, texts)), places, ()
    except KeyError:
        column, missing = _column(texts)
    values = _whole(column, places)
    if values is None:
        return *_uneven(column), missing
    if not missing and sum(map(len, _known.values())) < _MOST_KNOWN:
        known.update(zip(texts, values, strict=True))
    return values, places, missing


def _places(text: str) -> int:
    return len(text.partition(".")[2])


def _column(texts: Sequence[str | None]) -> tuple[str, tuple[int, ...]]:
    """Return the values, a line each, and the indexes of those that are not there, 0 in their place."""
    try:
        return "\n".join((*texts, "")), ()  # type: ignore[arg-type]
    except TypeError:  # None among them; to look for it first would cost as much as all the rest
        missing = tuple(index for index, text in enumerate(texts) if text is None)
        return "".join("0\n" if text is None else f"{text}\n" for text in texts), missing


def _whole(column: str, places: int) -> tuple[int, ...] | None:
    """Return literals, a line each, as whole numbers; None unless each has so many places.

    All are seen to at once, at a third of the cost of one by one.
    """
    shape = column.translate(_ZEROS)
    if shape.count(f".{'0' * places}\n" if places else ".") != (column.count("\n") if places else 0):
        return None
    return tuple(map(int, column.replace(".", "").split()))


def _uneven(column: str) -> tuple[tuple[int, ...], int]:
    """Return literals of different places as whole numbers of one power of ten, and its places."""
    split = [text.partition(".") for text in column.split()]
    places = max((len(fraction) for _, _, fraction in split), default=0)
    return tuple(int(whole + fraction.ljust(places, "0")) for whole, _, fraction in split), places


def _power(symbol: str) -> int:
    """Places to add so that a value in this unit becomes one in thousands: Wh 3, kWh 0, MWh -3."""
    power, code = units.unit_code(symbol)
    if (0, code) not in units.SYMBOLS or units.SYMBOLS[0, code] not in _ENERGY_UNITS:
        raise BillRefused(f"a channel in {symbol} is no energy; kWh or kvarh is billed")
    return 3 - power
