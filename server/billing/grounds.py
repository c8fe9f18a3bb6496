"""What a bill rests on, gathered: contract, tariffs, channels, current readings, earlier bills, the zone's offsets.

In: a store, a contract, a stretch of time, a data version. Out: `Grounds` and what stands there, from which
`bill_work.work_out` makes the bill; and of a bill that was made, the same again from the entries it names. Nothing is
priced here. A year is the calendar year in which a billing cycle begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import tzinfo
from itertools import groupby, pairwise
from typing import NamedTuple

from gridpost import bill_document, tariff_messages
from gridpost import contract as contracts
from gridpost.applications.calendar import Period, cycle, cycles, local_day
from gridpost.bill_document import REPLACEMENT, BillDocument, Channel, Earlier, Grounds, Part
from gridpost.bill_work import Found
from gridpost.contract import Contract
from gridpost.documents import BILL, TARIFF
from gridpost.errors import BillRefused, Internal
from gridpost.model import DataVersion, Position
from gridpost.ports import CurrentReadings, ZoneOf
from gridpost.tariff import Tariff
from gridpost.units import format_utc
from gridpost.zone_offsets import offsets

from ..store import SqlStore
from . import filed
from .filed import Filed


class Asked(NamedTuple):
    """A contract's stretch of time, from_utc < interval end <= to_utc, as known at a data version."""

    contract: Filed[Contract]
    from_utc: int
    to_utc: int
    at: DataVersion


class Gathered(NamedTuple):
    """What a bill rests on, and what stands there."""

    grounds: Grounds
    found: Found


def gather(store: SqlStore, zone_of: ZoneOf, asked: Asked) -> Gathered:
    """Return the grounds of a new bill.

    Raises:
        NotFound: the contract's tariff, or its zone.
        BillRefused: the contract is not in force all through, a tariff or a channel is not, or another zone's tariff.
    """
    contract = asked.contract.value
    _billable(contract, asked)
    zone = zone_of(contract.zone)
    period = Period(asked.from_utc, asked.to_utc, zone)
    versions = filed.tariff_versions(store, contract.supplier, contract.tariff, asked.at)
    priced = [(one, part) for one in _in_force(versions, period) for part in _parts(one, zone, contract.cycle_day)]
    tariffs = [version.value for (version, _), _ in priced]
    if foreign := next((one for one in tariffs if one.zone != contract.zone), None):
        raise BillRefused(
            f"tariff {foreign.id} counts the hours of {foreign.zone}, the contract those of {contract.zone}"
        )
    resolved = contracts.resolved(contract, store.channels(usage_point=contract.usage_point), period)
    readings = _readings(store, [(metered.channel, one.id) for metered, one in resolved], asked)
    family = _earlier(store, asked, zone, tariffs)
    grounds = Grounds(
        at=asked.at,
        contract=asked.contract.position,
        parts=tuple(part for _, part in priced),
        channels=tuple(
            Channel(metered, one.id, one.key, one.unit, one.interval_s, _entries(readings[metered.channel]))
            for metered, one in resolved
        ),
        offsets=offsets(zone, asked.from_utc, asked.to_utc),
        earlier=tuple(one for one, _ in family),
        closes_year=_counts_years(tariffs) and _closes_year(asked, zone),
    )
    return Gathered(grounds, Found(readings, tariffs, [document for _, document in family]))


def gather_again(store: SqlStore, document: BillDocument) -> Gathered:
    """Return a bill's grounds and what stands there now: the same, for ever, unless the store was changed.

    Raises:
        Internal: an entry the bill names no longer holds what it rests on.
    """
    grounds = document.grounds
    times = [moment for part in grounds.parts for moment in (part.from_utc, part.to_utc)]
    names = [(one.metered.channel, one.number) for one in grounds.channels]
    period = (min(times, default=0), max(times, default=0))  # without a part there is no channel to read
    readings = {name: store.readings(number, *period, grounds.at) for name, number in names}
    for one in grounds.channels:
        if _entries(readings[one.metered.channel]) != one.entries:
            raise Internal(f"channel {one.metered.channel} rests on other entries than the bill names")
    found = Found(
        readings,
        [_tariff(store, part) for part in grounds.parts],
        [_bill(store, one.entry) for one in grounds.earlier],
        [_bill(store, one) for one in grounds.corrects],
    )
    return Gathered(grounds, found)


def gather_correction(
    store: SqlStore, zone_of: ZoneOf, asked: Asked, corrected: Sequence[Filed[BillDocument]]
) -> Gathered:
    """Return the grounds of a correction: of the bill's time what is left of it when the contract was ended since.

    Args:
        store: the log.
        zone_of: zones by name.
        asked: the time of the bill.
        corrected: the bill and its corrections so far.

    Raises:
        NotFound, BillRefused: as `gather`; but a contract may have ended.
    """
    contract = asked.contract.value
    ends_utc = contract.ends_by(asked.to_utc)
    if contract.is_billed and ends_utc <= asked.from_utc:
        gathered = Gathered(Grounds(asked.at, asked.contract.position, (), (), ()), Found({}, ()))
    else:
        gathered = gather(store, zone_of, asked._replace(to_utc=ends_utc))
    grounds = replace(
        gathered.grounds,
        offsets=offsets(zone_of(contract.zone), asked.from_utc, asked.to_utc),
        corrects=tuple(one.position for one in corrected),
    )
    return Gathered(grounds, replace(gathered.found, corrected=[one.value for one in corrected]))


def cycle_of(moment_utc: int, zone: tzinfo, day: int) -> int:
    """Return the number of the billing cycle a moment lies in: 12 times its year plus its month, from 0."""
    local = local_day(moment_utc, zone)
    number = local.year * 12 + local.month - 1
    return number if cycle(local.year, local.month, zone, day).from_utc <= moment_utc else number - 1


def _billable(contract: Contract, asked: Asked) -> None:
    if not contract.is_billed:
        raise BillRefused(f"contract {contract.id} is {contract.status}, it was never in force")
    if asked.from_utc >= asked.to_utc:
        raise BillRefused("the period holds no time of the contract")
    if not contract.covers(asked.from_utc, asked.to_utc):
        raise BillRefused(f"contract {contract.id} is not in force all through the period")


# --- tariffs ---------------------------------------------------------------------------------------------------------

_Stretch = tuple[Filed[Tariff], Period]


def _in_force(versions: Sequence[Filed[Tariff]], period: Period) -> Iterator[_Stretch]:
    """Yield the version that counts for each stretch of a period: of those valid then the last one recorded."""
    ends = {one.value.valid_to_utc for one in versions} | {one.value.valid_from_utc for one in versions}
    inside = sorted(moment for moment in ends if moment is not None and period.from_utc < moment < period.to_utc)
    edges = pairwise([period.from_utc, *inside, period.to_utc])
    for version, stretches in groupby(edges, lambda stretch: _valid(versions, stretch[0])):
        (begins, ends_first), *more = stretches
        yield version, Period(begins, more[-1][1] if more else ends_first, period.zone)


def _valid(versions: Sequence[Filed[Tariff]], moment_utc: int) -> Filed[Tariff]:
    version = filed.valid_at(versions, moment_utc)
    if version is None:
        raise BillRefused(f"tariff {versions[0].value.id} is not in force at {format_utc(moment_utc)}")
    return version


def _parts(stretch: _Stretch, zone: tzinfo, cycle_day: int) -> Iterator[Part]:
    """Yield a stretch cut where billing cycles begin."""
    version, period = stretch
    for one in cycles(period.from_utc, period.to_utc, zone, cycle_day):
        names = (version.value.supplier, version.value.id, version.position)
        yield Part(*names, one.from_utc, one.to_utc, one.share)


# --- readings --------------------------------------------------------------------------------------------------------


def _readings(store: SqlStore, names: Sequence[tuple[str, int]], asked: Asked) -> Mapping[str, CurrentReadings]:
    period = (asked.from_utc, asked.to_utc)
    found = store.readings_of([number for _, number in names], *period, asked.at)
    return {name: one for (name, _), one in zip(names, found, strict=True)}


def _entries(readings: CurrentReadings) -> tuple[Position, ...]:
    return tuple(sorted(set(readings.positions)))


# --- earlier bills ---------------------------------------------------------------------------------------------------


def _counts_years(tariffs: Sequence[Tariff]) -> bool:
    return any(minimum.per == "year" for tariff in tariffs for minimum in tariff.minimum)


def _closes_year(asked: Asked, zone: tzinfo) -> bool:
    """The bill goes to the end of the cycle that begins in December."""
    day = asked.contract.value.cycle_day
    return cycle_of(asked.to_utc, zone, day) % 12 == 0 and cycle_of(asked.to_utc - 1, zone, day) % 12 == 11


def _earlier(
    store: SqlStore, asked: Asked, zone: tzinfo, tariffs: Sequence[Tariff]
) -> list[tuple[Earlier, BillDocument]]:
    """Return the bills before this one that a ratchet or a yearly minimum looks at, with their corrections."""
    back = max((tariff.ratchet.months_back for tariff in tariffs if tariff.ratchet is not None), default=0)
    yearly, contract = _counts_years(tariffs), asked.contract.value
    if not back and not yearly:
        return []
    this = cycle_of(asked.from_utc, zone, contract.cycle_day)
    found: list[tuple[Earlier, BillDocument]] = []
    for family in filed.families(filed.bills_of(store, contract, asked.at)):
        own = family[0].value.bill
        that = cycle_of(own.from_utc, zone, contract.cycle_day)
        ago = this - that if this - that <= back else 0
        in_year = yearly and that // 12 == this // 12
        if own.to_utc <= asked.from_utc and (ago or in_year):
            found += _counted(family, ago, in_year)
    return found


def _counted(family: Sequence[Filed[BillDocument]], ago: int, in_year: bool) -> Iterator[tuple[Earlier, BillDocument]]:
    """Yield a bill and its corrections; the peak is that of the last one that measured it."""
    measured = [one for one in family if one.value.kind == REPLACEMENT] or family[:1]
    for one in family:
        has_peak = one is measured[-1]
        if in_year or (ago and has_peak):
            yield Earlier(one.position, ago if has_peak else 0, in_year), one.value


# --- again -----------------------------------------------------------------------------------------------------------


def _tariff(store: SqlStore, part: Part) -> Tariff:
    for one in store.documents_of([part.entry]):
        if one.document[:3] == (TARIFF, part.tariff, part.supplier):
            return tariff_messages.decode(one.document.content)
    raise Internal(f"entry {part.entry.partition}:{part.entry.seq} holds no tariff {part.supplier}/{part.tariff}")


def _bill(store: SqlStore, entry: Position) -> BillDocument:
    for one in store.documents_of([entry]):
        if one.document.kind == BILL:
            return bill_document.decode(one.document.content)
    raise Internal(f"entry {entry.partition}:{entry.seq} holds no bill")
