"""What is on file of a customer: the contracts of a usage point, their tariffs in force, their channels and readings.

In: a store, the id of a contract, a moment. Out: a `Place`. Looks only. A usage point may have an energy and a
distribution contract at once (F65); both tariffs are paid then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo

from gridpost import contract as contracts
from gridpost.applications import determinants, realtime
from gridpost.applications.calendar import Period, cycles
from gridpost.applications.comparison import Usage
from gridpost.applications.determinants import ENERGY, Measured, Metered
from gridpost.applications.realtime import Pulses
from gridpost.contract import Contract
from gridpost.errors import BillRefused, NotFound
from gridpost.model import Channel, DataVersion
from gridpost.ports import CurrentReadings, ZoneOf
from gridpost.tariff import Tariff

from ..billing import filed
from ..store import SqlStore
from ..store.extents import extent
from .usage import Asked, periods

_DAY_S = 86_400
_COUNT = "count"  # unit of a channel that counts pulses


@dataclass(frozen=True, slots=True)
class Place:
    """A contract's usage point at a moment.

    Attributes:
        contract: the one asked for.
        tariffs: in force at the moment, of every contract in force there.
        channels: what the contract counts, each with the enrolled channel behind it.
        zone: whose days and hours count.
    """

    contract: Contract
    tariffs: tuple[Tariff, ...]
    channels: tuple[tuple[Metered, Channel], ...]
    zone: tzinfo

    @property
    def currency(self) -> str:
        """Of its tariffs."""
        return self.tariffs[0].currency

    @property
    def meter(self) -> str:
        """The meter whose energy counts."""
        return next(channel.key.meter for metered, channel in self.channels if metered.measure == ENERGY)

    @property
    def numbers(self) -> frozenset[int]:
        """The channels' numbers in the store."""
        return frozenset(channel.id for _, channel in self.channels)

    def newest_utc(self, store: SqlStore) -> int:
        """Return the end of the newest interval of energy there is; 0: there is none."""
        number = next(channel.id for metered, channel in self.channels if metered.measure == ENERGY)
        found = extent(store, number)
        if found is None:
            return 0
        ends = store.readings(number, found[1] - 3 * _DAY_S, found[1]).block.ends_utc  # the last row may be of a gap
        return ends[-1] if ends else 0

    def oldest_utc(self, store: SqlStore) -> int:
        """Return the start of the first interval of energy there is; 0: there is none."""
        one = next(channel for metered, channel in self.channels if metered.measure == ENERGY)
        found = extent(store, one.id)
        ends = store.readings(one.id, found[0], found[0] + 3 * _DAY_S).block.ends_utc if found else ()
        return ends[0] - one.interval_s if ends else 0

    def readings(
        self, store: SqlStore, span: tuple[int, int], pulses: Pulses | None = None, at: DataVersion | None = None
    ) -> Mapping[str, CurrentReadings]:
        """Return readings by the contract's names of its channels; pulse counts as energy.

        Args:
            store: the log.
            span: from_utc < interval end <= to_utc.
            pulses: what a pulse is worth.
            at: as known at this data version; None: now.

        Raises:
            BillRefused: a channel counts pulses, and nobody says what they are worth.
        """
        return {
            metered.channel: _energy(store.readings(channel.id, *span, at), pulses)
            for metered, channel in self.channels
        }

    def measured(self, store: SqlStore, period: Period, pulses: Pulses | None = None) -> Measured:
        """Return what was measured over a period.

        Raises:
            BillRefused: readings that cannot be billed.
        """
        readings = self.readings(store, (period.from_utc, period.to_utc), pulses)
        return determinants.measured(readings, [metered for metered, _ in self.channels], period)


def place_of(store: SqlStore, zone_of: ZoneOf, contract_id: str, moment_utc: int) -> Place:
    """Return a contract's usage point as it is at a moment.

    Raises:
        NotFound, ConfigInvalid: no such contract, or several of that id.
        BillRefused: it is not in force then, has no tariff in force, or a channel of it is not clear.
    """
    found = filed.contract(store, contract_id).value
    here = all_in_force(store, moment_utc, found.usage_point)
    if found not in here:
        raise BillRefused(f"contract {contract_id} is not in force at this moment")
    channels = store.channels(usage_point=found.usage_point)
    zone = zone_of(found.zone)
    now = Period(moment_utc - 1, moment_utc, zone)
    tariffs = tuple(tariff_of(store, one.supplier, one.tariff, moment_utc) for one in here)
    return Place(found, tariffs, contracts.resolved(found, channels, now), zone)


def usage_of(store: SqlStore, place: Place, asked: Asked, at: DataVersion | None = None) -> Usage:
    """Return the usage of a contract on file, as known at a data version; zone and billing cycle are the contract's.

    Raises:
        BillRefused: it has no readings, or the period asked for holds no time.
    """
    contract, newest = place.contract, place.newest_utc(store)
    if not newest:
        raise BillRefused(f"contract {contract.id} has no readings yet")
    asked = asked._replace(zone=place.zone, cycle_day=contract.cycle_day)
    whole = periods(asked, (place.oldest_utc(store), newest))
    begins = max(whole[0].from_utc, contract.from_utc)  # what was used before is another's
    wanted = cycles(begins, contract.ends_by(whole[-1].to_utc), place.zone, contract.cycle_day)
    if not wanted:
        raise BillRefused(f"contract {contract.id} was not in force in that period")
    readings = place.readings(store, (wanted[0].from_utc, wanted[-1].to_utc), at=at)
    return Usage(readings, [metered for metered, _ in place.channels], wanted)


def all_in_force(store: SqlStore, moment_utc: int, usage_point: str | None = None) -> list[Contract]:
    """Return the contracts in force in the interval that ends at a moment, in order of supplier and id."""
    return filed.in_force(store, moment_utc - 1, usage_point)


def tariff_of(store: SqlStore, supplier: str, tariff_id: str, moment_utc: int) -> Tariff:
    """Return the version of a supplier's tariff that is in force at a moment: of several, the one recorded last.

    Raises:
        NotFound: none is.
    """
    found = filed.tariff_at(store, supplier, tariff_id, moment_utc)
    if found is None:
        raise NotFound(f"there is no tariff {supplier}/{tariff_id} in force at this moment")
    return found.value


def offers(store: SqlStore, moment_utc: int) -> list[Tariff]:
    """Return every tariff on file that is in force at a moment, in order of supplier and id."""
    names = sorted((one.value.supplier, one.value.id) for one in filed.tariffs(store))
    found = (filed.tariff_at(store, *name, moment_utc) for name in names)
    return [one.value for one in found if one is not None]


def _energy(readings: CurrentReadings, pulses: Pulses | None) -> CurrentReadings:
    if readings.channel.unit != _COUNT:
        return readings
    if pulses is None:
        raise BillRefused(f"channel {readings.channel.key.stream} counts pulses; the policy must say pulse_kwh")
    return realtime.translated(readings, pulses)
