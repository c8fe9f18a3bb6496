"""What to do when energy costs more than its user wants to pay: other suppliers, a lower level, off (F63 to F65).

Floor 4. In: prices in force, the limits of a load, a moment, its zone. Out: a proposal; it becomes a command for the
IED only when a policy or a person releases it. Prices are for a kWh; a limit that is met exactly is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import NamedTuple

from ..errors import TariffRefused
from ..tariff import BOTH, Tariff

DAY_S = 86_400


class Limit(NamedTuple):
    """The most a kWh may cost from one local time of day up to another, which is excluded; past midnight when later.

    Attributes:
        from_s, to_s: seconds of the local clock since midnight; equal: all day.
        price: in the tariffs' currency.
    """

    from_s: int
    to_s: int
    price: Decimal

    def holds_at(self, clock_s: int) -> bool:
        """Tell whether it is in force at a time of the local clock."""
        if self.from_s < self.to_s:
            return self.from_s <= clock_s < self.to_s
        return clock_s >= self.from_s or clock_s < self.to_s


# F64: $0.80 from 06:00 to 18:00, $0.60 from 18:00 to 06:00.
F64_LIMITS = (
    Limit(6 * 3600, 18 * 3600, Decimal("0.80")),
    Limit(18 * 3600, 6 * 3600, Decimal("0.60")),
)


class Offer(NamedTuple):
    """What a supplier asks for a kWh now; kind as a tariff's: ``energy``, ``distribution`` or ``both``."""

    supplier: str
    kind: str
    price: Decimal


class Policy(NamedTuple):
    """What the user of a load asked for.

    Attributes:
        limits: each time of day lies in exactly one.
        level_kw: what consumption is reduced to when all is too expensive; None: the load is shut off.
        may_switch: whether another supplier may be proposed.
    """

    limits: tuple[Limit, ...]
    level_kw: Decimal | None = None
    may_switch: bool = True


class Proposal(NamedTuple):
    """What to do, and why. `action`: ``none``, ``switch-supplier``, ``reduce`` or ``shed`` (names of controls.ACTIONS).

    Attributes:
        suppliers: who would supply, an energy and a distribution supplier where they are two.
        price: of a kWh from them; limit: in force.
        level_kw: of ``reduce``.
    """

    action: str
    suppliers: tuple[str, ...]
    price: Decimal
    limit: Decimal
    level_kw: Decimal | None = None


def limit_at(limits: Sequence[Limit], moment_utc: int, zone: tzinfo) -> Limit:
    """Return the limit in force at a moment, by the local clock as it stands then, also where it was just set.

    Raises:
        TariffRefused: none is, or two are.
    """
    local = datetime.fromtimestamp(moment_utc, zone)
    clock_s = local.hour * 3600 + local.minute * 60 + local.second
    found = [limit for limit in limits if limit.holds_at(clock_s)]
    if len(found) != 1:
        raise TariffRefused(f"{len(found)} limits are in force at {local:%H:%M:%S}; there must be one")
    return found[0]


def price_at(tariff: Tariff, moment_utc: int, zone: tzinfo, tier: int = 0) -> Decimal:
    """Return what a kWh taken at a moment costs, in a tier.

    Raises:
        TariffRefused: the tariff has no price then.
    """
    found = price_or_none(tariff, moment_utc, zone, tier)
    if found is None:
        raise TariffRefused(f"tariff {tariff.id} has no price of a kWh at this moment")
    return found


def price_or_none(tariff: Tariff, moment_utc: int, zone: tzinfo, tier: int = 0) -> Decimal | None:
    """Return the same, None where the tariff has no price then."""
    prices = tariff.interval_prices
    if prices is not None:
        end = moment_utc + prices.interval_s - (moment_utc - (prices.ends_utc or (0,))[0]) % prices.interval_s
        if end in prices.ends_utc:
            return prices.prices[prices.ends_utc.index(end)]
    if tariff.energy is None or not tariff.in_force(moment_utc):
        return None
    local = datetime.fromtimestamp(moment_utc, zone)
    off = local.date() in tariff.holidays
    period = tariff.energy.periods[tariff.energy.schedule.at(local.month, local.weekday(), local.hour, off)]
    return period[min(tier, len(period) - 1)].charge


def cheapest(offers: Sequence[Offer]) -> tuple[tuple[str, ...], Decimal] | None:
    """Return the suppliers of the cheapest whole supply and its price: one for both, or an energy and a network one.

    Of equals the first by name, so that two buses propose the same. None: the offers make no whole supply.
    """
    whole: list[tuple[tuple[str, ...], Decimal]]
    whole = [((offer.supplier,), offer.price) for offer in offers if offer.kind == BOTH]
    energy, network = ([offer for offer in offers if offer.kind == kind] for kind in ("energy", "distribution"))
    whole += [((one.supplier, two.supplier), one.price + two.price) for one in energy for two in network]
    return min(whole, key=lambda supply: (supply[1], supply[0]), default=None)


def propose(present: Sequence[Offer], offers: Sequence[Offer], policy: Policy, limit: Decimal) -> Proposal:
    """Return what to do: nothing while the present supply is within the limit, else a cheaper one that is, else less.

    Raises:
        TariffRefused: the present offers make no whole supply.
    """
    now = cheapest(present)
    if now is None:
        raise TariffRefused(
            "who supplies now is not known: neither one for both, nor an energy and a distribution supplier"
        )
    if now[1] <= limit:
        return Proposal("none", now[0], now[1], limit)
    other = cheapest([*present, *offers])
    if policy.may_switch and other is not None and other[1] <= limit:
        return Proposal("switch-supplier", other[0], other[1], limit)
    action = "shed" if policy.level_kw is None else "reduce"
    return Proposal(action, now[0], now[1], limit, policy.level_kw)
