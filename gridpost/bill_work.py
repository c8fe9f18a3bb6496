"""A bill worked out from its grounds: the one way, for whoever makes it and for whoever checks it years later.

Floor 6, pure. In: what a bill rests on, fetched: current readings, tariffs, earlier bills. Out: the bill's document.
The same grounds give the same document to the last digit; no store, no zone file and no clock is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .applications import bills, determinants
from .applications.bills import ESTIMATE, PARTIAL, Basis, Bill
from .applications.calendar import Period
from .applications.determinants import Determinants, Peak
from .bill_document import BILL, REVERSAL, BillDocument, Grounds, history, standing
from .ports import CurrentReadings
from .tariff import Tariff
from .zone_offsets import ListedZone


@dataclass(frozen=True, slots=True)
class Found:
    """What the entries that grounds name hold.

    Attributes:
        readings: current at the grounds' data version over the bill's period, by the name of the channel.
        tariffs: one for each part, in their order.
        earlier: one for each earlier bill named, in their order.
        corrected: of a reversal or replacement: the bill and its corrections so far, in their order.
    """

    readings: Mapping[str, CurrentReadings]
    tariffs: Sequence[Tariff]
    earlier: Sequence[BillDocument] = ()
    corrected: Sequence[BillDocument] = ()


def work_out(kind: str, basis: Basis, grounds: Grounds, found: Found) -> BillDocument:
    """Return the document of a bill, or of a reversal or replacement of one.

    Args:
        kind: of `bill_document.KINDS`.
        basis: of the bill; of a reversal only the id counts, the rest is that of the bill it undoes.
        grounds: what it rests on; its offsets give the zone, whose name is the tariffs'.
        found: what stands there.

    Raises:
        BillRefused: as `bills.bill` and `determinants.of`.
    """
    if kind == REVERSAL:  # whatever the new bill had to be allowed, this takes back the old one
        basis = replace(basis, allow=frozenset((ESTIMATE, PARTIAL)))
    if kind == BILL:
        return BillDocument(kind, *_bill(basis, grounds, found), grounds)
    old = standing(found.corrected)
    # Without a part the contract had ended before: all of the old bill goes, and nothing comes in its place.
    new, peak = _bill(basis, grounds, found) if grounds.parts else (bills.nothing(old, basis), None)
    reversal, replacement = bills.rebill(old, new, basis.id)
    return BillDocument(kind, reversal if kind == REVERSAL else replacement, peak, grounds)


def _bill(basis: Basis, grounds: Grounds, found: Found) -> tuple[Bill, Peak | None]:
    metered = [one.metered for one in grounds.channels]
    parts: list[tuple[Tariff, Determinants]] = []
    for part, tariff in zip(grounds.parts, found.tariffs, strict=True):
        period = Period(part.from_utc, part.to_utc, ListedZone(tariff.zone, grounds.offsets), part.share)
        parts.append((tariff, determinants.of(found.readings, metered, tariff, period)))
    past = history(tuple(zip(grounds.earlier, found.earlier, strict=True)), closes_year=grounds.closes_year)
    peaks = [figures.flat for _, figures in parts if figures.flat is not None]
    return bills.bill(basis, parts, past), max(peaks, key=lambda peak: peak.value, default=None)
