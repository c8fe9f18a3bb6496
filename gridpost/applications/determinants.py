"""What a bill is made from: energy by tariff period, demand with the interval that set it, holes and estimates.

Floor 4. In: current readings by channel, how the contract meters them, a tariff, a period. Out: frozen numbers, each
with where it comes from. No price is applied here (`charges.py`), real-time prices excepted. Exact: integers, Decimal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from operator import sub
from typing import NamedTuple

from .. import units
from ..errors import BillRefused, Item
from ..model import Position
from ..ports import CurrentReadings
from ..tariff import ZERO, IntervalPrices, Schedule, Tariff, TariffProfile
from . import layout, series
from .calendar import Period, hours
from .layout import Runs
from .series import Series

PRECISION = 60  # digits: products of an 18-digit quantity, price and share are exact
ENERGY, EXPORT, REACTIVE = "energy", "export", "reactive"


class Metered(NamedTuple):
    """What a channel stands for in a contract: its key among the readings, the measure, added (1) or taken off (-1)."""

    channel: str
    measure: str = ENERGY
    sign: int = 1


class Peak(NamedTuple):
    """The highest mean power of a window, in kW (or kvar), and the window's end, UTC seconds."""

    value: Decimal
    end_utc: int


class Priced(NamedTuple):
    """Energy of a run of intervals under real-time prices: kWh and the exact sum of each times its price."""

    from_utc: int
    to_utc: int
    quantity: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Determinants:
    """A period's figures under one tariff; energies in kWh and kvarh, demand in kW.

    Attributes:
        energy: by period of the tariff's calendar; one figure where it has none. daily: the same for each local day,
            only when a tier counts anew each day. exported: energy sent out, by the same periods.
        demand, coincident: the peak of each period of those calendars, None where it is not in force.
        flat: the peak of all; None without an interval.
        reactive: kvarh; None without a reactive channel. reactive_peak: kvar, only where the tariff prices it.
        priced: local days under real-time prices.
        spans: from_utc < end <= to_utc of the intervals behind each energy figure.
        missing, estimated: (channel, interval end) of each.
    """

    period: Period
    energy: tuple[Decimal, ...]
    daily: tuple[tuple[Decimal, ...], ...]
    exported: tuple[Decimal, ...]
    demand: tuple[Peak | None, ...]
    coincident: tuple[Peak | None, ...]
    flat: Peak | None
    reactive: Decimal | None
    reactive_peak: Peak | None
    priced: tuple[Priced, ...]
    spans: tuple[tuple[tuple[int, int], ...], ...]
    missing: tuple[tuple[str, int], ...]
    estimated: tuple[tuple[str, int], ...]

    @property
    def total(self) -> Decimal:
        """All energy taken, kWh."""
        return sum(self.energy, ZERO)


@dataclass(frozen=True)
class Measured:
    """The series of a contract over a period, netted by measure: what every tariff compared is laid over."""

    period: Period
    by_measure: Mapping[str, Series]
    missing: tuple[tuple[str, int], ...]
    estimated: tuple[tuple[str, int], ...]


def measured(readings: Mapping[str, CurrentReadings], channels: Sequence[Metered], period: Period) -> Measured:
    """Return the contract's measures over a period.

    Raises:
        BillRefused: a channel without readings or in a unit that is no energy, two interval lengths, no energy.
    """
    columns = []
    for one in channels:
        if one.channel not in readings:
            raise BillRefused(f"no readings of channel {one.channel!r}")
        columns.append((one, series.of(readings[one.channel], period)))
    if len({column.interval_s for _, column in columns}) > 1:
        raise BillRefused("channels of different interval lengths cannot be billed together")
    by_measure = {
        measure: series.net([(column, one.sign) for one, column in columns if one.measure == measure])
        for measure in (ENERGY, EXPORT, REACTIVE)
        if any(one.measure == measure for one, _ in columns)
    }
    if ENERGY not in by_measure:
        raise BillRefused("the contract meters no energy")
    missing = tuple((one.channel, column.ends_utc[index]) for one, column in columns for index in column.missing)
    estimated = tuple((one.channel, column.ends_utc[index]) for one, column in columns for index in column.estimated)
    return Measured(period, by_measure, missing, estimated)


def of(
    readings: Mapping[str, CurrentReadings], channels: Sequence[Metered], tariff: Tariff, period: Period
) -> Determinants:
    """Return a contract's figures over a period under a tariff.

    Raises:
        BillRefused: as `measured` and `under`.
    """
    return under(measured(readings, channels, period), tariff)


def under(found: Measured, tariff: Tariff) -> Determinants:
    """Return what was measured by the periods of a tariff.

    Raises:
        BillRefused: a demand window or a real-time price that does not fit the intervals.
    """
    with localcontext(prec=PRECISION):
        return _under(found, tariff)


def _under(found: Measured, tariff: Tariff) -> Determinants:
    energy, export, reactive = (found.by_measure.get(measure) for measure in (ENERGY, EXPORT, REACTIVE))
    if energy is None:
        raise BillRefused("the contract meters no energy")
    if str(found.period.zone) != tariff.zone:
        raise BillRefused(f"the hours of tariff {tariff.id} are those of {tariff.zone}, not of {found.period.zone}")
    windows = _Windows(energy, tariff)
    if export is not None and tariff.metering == "net-billing-hourly":
        energy, export = series.netted_hourly(energy, export, hours(found.period, energy.interval_s))
    by_period = _by_period(tariff.energy, tariff, found, energy)
    return Determinants(
        period=found.period,
        energy=tuple(map(energy.between, by_period)),
        daily=_daily(energy, by_period, found.period) if _counts_days(tariff.energy) else (),
        exported=tuple(map(export.between, by_period)) if export is not None else (),
        demand=_peaks(tariff.demand, tariff, found, windows),
        coincident=_peaks(tariff.coincident, tariff, found, windows),
        flat=windows.peak(((0, len(energy.values)),)),
        reactive=reactive.between(((0, len(reactive.values)),)) if reactive is not None else None,
        reactive_peak=_Windows(reactive, tariff).peak(((0, len(reactive.values)),))
        if reactive is not None and _counts_kvar(tariff)
        else None,
        priced=_priced(energy, tariff.interval_prices, found.period) if tariff.interval_prices is not None else (),
        spans=tuple(spans(runs, energy) for runs in by_period),
        missing=found.missing,
        estimated=found.estimated,
    )


def spans(runs: Runs, of_series: Series) -> tuple[tuple[int, int], ...]:
    """Return runs of indexes as times: intervals with from_utc < end <= to_utc."""
    ends, interval_s = of_series.ends_utc, of_series.interval_s
    return tuple((ends[first] - interval_s, ends[beyond - 1]) for first, beyond in runs)


def positions(readings: CurrentReadings, within: Sequence[tuple[int, int]]) -> tuple[Position, ...]:
    """Return the entries of the log behind the intervals of some spans, each once, in order."""
    pairs = zip(readings.block.ends_utc, readings.positions, strict=True)
    return tuple(sorted({position for end, position in pairs if any(a < end <= b for a, b in within)}))


def _by_period(profile: TariffProfile | None, tariff: Tariff, found: Measured, column: Series) -> tuple[Runs, ...]:
    if profile is None:
        return (((0, len(column.values)),) if column.values else (),)
    return _runs(profile.schedule, len(profile.periods), tariff, (found.period, column.interval_s))


def _runs(schedule: Schedule, count: int, tariff: Tariff, grid: tuple[Period, int]) -> tuple[Runs, ...]:
    at = layout.runs(schedule, tariff.holidays, *grid)
    return tuple(at.get(index, ()) for index in range(count))


def _counts_kvar(tariff: Tariff) -> bool:
    return tariff.reactive is not None and tariff.reactive.unit == "kvar"


def _counts_days(profile: TariffProfile | None) -> bool:
    return profile is not None and any(tier.per == "day" for tiers in profile.periods for tier in tiers)


def _daily(column: Series, by_period: Sequence[Runs], period: Period) -> tuple[tuple[Decimal, ...], ...]:
    days = layout.days(period, column.interval_s)
    return tuple(tuple(column.between(layout.overlap(runs, day)) for runs in by_period) for day in days)


class _Windows:
    """Sums of demand windows: side by side from the period's first interval, or one ending at each interval."""

    def __init__(self, column: Series, tariff: Tariff) -> None:
        window_s = tariff.window_s or column.interval_s
        if window_s % column.interval_s:
            raise BillRefused(f"a demand window of {window_s} s is no whole number of {column.interval_s} s intervals")
        self._column, self._length = column, window_s // column.interval_s
        self._step = 1 if tariff.rolling else self._length
        self._per_hour = Decimal(3600) / window_s
        self._sums: Sequence[int] = column.values
        if self._length > 1:  # the running sums cost as much as all the rest of a demand
            sums, length = column.sums, self._length
            self._sums = tuple(map(sub, sums[length :: self._step], sums[: -length : self._step]))

    def peak(self, runs: Runs) -> Peak | None:
        """The highest of the windows that end with an interval of `runs`; the first of equals; None when none does."""
        best: tuple[int, int] | None = None
        for first, beyond in runs:
            at = self._window_from(first)
            within = self._sums[at : self._window_from(beyond)]
            highest = max(within, default=None)
            if highest is not None and (best is None or highest > best[0]):
                best = (highest, at + within.index(highest))
        if best is None:
            return None
        end_utc = self._column.ends_utc[best[1] * self._step + self._length - 1]
        return Peak(self._column.scaled(best[0]) * self._per_hour, end_utc)

    def _window_from(self, index: int) -> int:
        """The first window whose last interval is at `index` or later."""
        return max(0, -((self._length - 1 - index) // self._step))


def _peaks(
    profile: TariffProfile | None, tariff: Tariff, found: Measured, windows: _Windows
) -> tuple[Peak | None, ...]:
    if profile is None:
        return ()
    interval_s = found.by_measure[ENERGY].interval_s
    runs = _runs(profile.schedule, len(profile.periods), tariff, (found.period, interval_s))
    return tuple(map(windows.peak, runs))


def _priced(column: Series, prices: IntervalPrices, period: Period) -> tuple[Priced, ...]:
    """Each interval's energy times the price of the (as long or longer) interval it lies in, summed by local day."""
    by_end = dict(zip(prices.ends_utc, prices.prices, strict=True))
    if prices.interval_s % column.interval_s:
        raise BillRefused(f"prices for {prices.interval_s} s do not fit intervals of {column.interval_s} s")
    start = (prices.ends_utc or (0,))[0]
    of_end = [end + (start - end) % prices.interval_s for end in column.ends_utc]
    absent = sorted({end for end in of_end if end not in by_end})
    if absent:
        items = [Item("no-price", "no price for this interval", units.format_utc(end)) for end in absent[:20]]
        raise BillRefused(f"{len(absent)} intervals have no price", items=items)
    found = []
    for first, beyond in layout.days(period, column.interval_s):
        pairs = zip(of_end[first:beyond], column.values[first:beyond], strict=True)
        amounts = (by_end[end] * value for end, value in pairs)
        amount = sum(amounts, ZERO).scaleb(-column.places)
        ((from_utc, to_utc),) = spans(((first, beyond),), column)
        found.append(Priced(from_utc, to_utc, column.between(((first, beyond),)), amount))
    return tuple(found)
