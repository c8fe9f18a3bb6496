"""Tariffs as values: what a supplier or a network asks for energy, demand and the connection, and since when.

Floor 1. Frozen values and the check of one; nothing is priced here (`applications/charges.py`). Names after IEC 61968
PaymentMetering where it has one: `Tariff` -< `TariffProfile` (a 12 x 24 calendar) -< TimeTariffInterval (a period of
it) -< ConsumptionTariffInterval and Charge (a `Tier`). Money and energy are Decimal; times are UTC seconds. Local hours
are those of `zone`; an interval belongs to the hour it starts in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

Grid = tuple[tuple[int, ...], ...]  # 12 months x 24 local hours -> index of a period
ZERO, ONE = Decimal(0), Decimal(1)

BOTH = "both"  # energy and its distribution in one
KINDS = ("energy", "distribution", BOTH)
SCOPES = ("month", "period")  # the cycle's total shared out over the periods, or each period's own
TIER_UNITS = ("kWh", "kWh/kW")
TIER_SPANS = ("cycle", "daily", "day")  # limit a billing cycle; times its days; anew each local day
METERING = ("none", "net-metering", "net-billing", "net-billing-hourly", "buy-all-sell-all")
ROUNDINGS = {"half-up": ROUND_HALF_UP, "half-even": ROUND_HALF_EVEN}


@dataclass(frozen=True, slots=True)
class Rounding:
    """How each line's amount is rounded: places after the point, and a name of ROUNDINGS."""

    places: int = 2
    mode: str = "half-up"


TO_THE_CENT = Rounding()


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which period is in force: by month (January first), local hour, and kind of day.

    `holiday` is for the tariff's holidays; None: they are as weekends.
    """

    weekday: Grid
    weekend: Grid
    holiday: Grid | None = None

    def grids(self) -> dict[str, Grid]:
        """Return the grids that are given, by name."""
        given = {"weekday": self.weekday, "weekend": self.weekend, "holiday": self.holiday}
        return {name: grid for name, grid in given.items() if grid is not None}

    def at(self, month: int, weekday: int, hour: int, is_holiday: bool = False) -> int:
        """Return the period of a local hour; month 1 to 12, weekday 0 (Monday) to 6."""
        off = is_holiday or weekday > 4
        grid = self.holiday if is_holiday and self.holiday is not None else self.weekend if off else self.weekday
        return grid[month - 1][hour]


@dataclass(frozen=True, slots=True)
class Tier:
    """A ConsumptionTariffInterval with its Charge; it begins where the one before it ends.

    Attributes:
        price: for a unit; adjustment: added to it.
        limit: where it ends, that amount included; None: nowhere.
        unit: of the limit: ``kWh``, or ``kWh/kW`` (hours of use of the highest demand); ``kW`` in a demand profile.
        per: what the limit counts for, of TIER_SPANS.
        sell: credit for a unit sent out; None: as the tariff's rule has it.
        currency: empty: the tariff's.
    """

    price: Decimal
    limit: Decimal | None = None
    unit: str = "kWh"
    per: str = "cycle"
    adjustment: Decimal = ZERO
    sell: Decimal | None = None
    currency: str = ""

    @property
    def charge(self) -> Decimal:
        """What a unit costs."""
        return self.price + self.adjustment


Tiers = tuple[Tier, ...]


@dataclass(frozen=True, slots=True)
class TariffProfile:
    """A calendar and what each of its periods costs."""

    schedule: Schedule
    periods: tuple[Tiers, ...]


@dataclass(frozen=True, slots=True)
class FlatDemand:
    """Highest demand of the cycle, whenever: a set of tiers for the month the cycle begins in."""

    months: tuple[int, ...]  # 12 indexes
    periods: tuple[Tiers, ...]


@dataclass(frozen=True, slots=True)
class Ratchet:
    """Billed demand is at least a share of an earlier one.

    Attributes:
        shares: of January to December, 0 to 1 each, by the month billed.
        months_back: how many cycles before count.
        of_months: which calendar months' demand counts.
    """

    shares: tuple[Decimal, ...]
    months_back: int = 11
    of_months: tuple[bool, ...] = (True,) * 12


@dataclass(frozen=True, slots=True)
class Reactive:
    """Price of reactive energy (``kvarh``) or highest reactive demand (``kvar``) beyond a share of the active one."""

    price: Decimal
    unit: str = "kvarh"
    free_share: Decimal = ZERO
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A standing charge, per ``day``, ``month`` (a billing cycle) or ``year``."""

    name: str
    amount: Decimal
    per: str = "month"
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Minimum:
    """The least a bill, or the bills of a year, come to."""

    amount: Decimal
    per: str = "month"
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A rider or a tax: ``kWh`` adds `value` for each kWh taken, ``percent`` that part of all lines before it."""

    name: str
    unit: str
    value: Decimal


@dataclass(frozen=True, slots=True)
class IntervalPrices:
    """Real-time prices of a kWh: one for each interval, stamped at its end (UTC seconds, ascending)."""

    interval_s: int
    ends_utc: tuple[int, ...]
    prices: tuple[Decimal, ...]


@dataclass(frozen=True, slots=True)
class Tariff:
    """A tariff as offered, for all who are on it.

    Attributes:
        id: unique for its supplier; currency: ISO 4217; zone: IANA name.
        valid_from_utc: first moment in force; valid_to_utc: first moment no longer; None while open.
        energy: price of a kWh by period; None where a tariff has none (or has `interval_prices`).
        scope: of SCOPES: what tiers of energy count.
        demand: by period, `flat`: whenever; `coincident`: in the hours the grid has its peak (period 0 costs nothing
            there unless it has a price).
        window_s: length of the demand window; 0: the interval. rolling: a window at each interval, else side by side.
        power_factor: billed demand is raised by this over the mean power factor when that is less; None: not.
        metering: of METERING: what is done with energy sent out.
        holidays: local dates.
        facts: (name, value) of what a format says besides: description, source; never priced.
    """

    id: str
    supplier: str
    name: str
    currency: str
    zone: str
    kind: str = BOTH
    valid_from_utc: int = 0
    valid_to_utc: int | None = None
    rounding: Rounding = TO_THE_CENT
    energy: TariffProfile | None = None
    scope: str = "month"
    demand: TariffProfile | None = None
    flat: FlatDemand | None = None
    coincident: TariffProfile | None = None
    window_s: int = 0
    rolling: bool = False
    ratchet: Ratchet | None = None
    reactive: Reactive | None = None
    power_factor: Decimal | None = None
    fixed: tuple[Fixed, ...] = ()
    minimum: tuple[Minimum, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()
    metering: str = "none"
    interval_prices: IntervalPrices | None = None
    holidays: frozenset[date] = frozenset()
    facts: tuple[tuple[str, str], ...] = field(default=(), hash=False)

    def in_force(self, moment_utc: int) -> bool:
        """Tell whether it is valid at a moment."""
        return self.valid_from_utc <= moment_utc and (self.valid_to_utc is None or moment_utc < self.valid_to_utc)


def stand_side_by_side(kind: str, other: str) -> bool:
    """Tell whether one customer pays both at once: energy and its distribution (F65)."""
    return {kind, other} == {"energy", "distribution"}
