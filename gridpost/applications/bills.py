"""Bills as values that do not change: lines, what they rest on, and how a correction undoes what was wrong.

Floor 4. In: tariffs with the determinants under them, the data version and zone rules they were worked out with. Out: a
`Bill`; for a late correction a reversal and a bill of what changed. Nothing is stored, signed or rendered here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext

from .. import units
from ..errors import BillRefused, Item
from ..model import DataVersion
from ..tariff import ZERO, Tariff
from . import charges
from .charges import NO_HISTORY, History, Line
from .determinants import PRECISION, Determinants

ESTIMATE, PARTIAL = "estimated", "partial"


@dataclass(frozen=True, slots=True)
class Basis:
    """What a bill is known by and worked out from.

    Attributes:
        id: of the bill; contract: of the contract.
        at: data version of the readings; zone_rules: version of the zone data, such as ``tzdata 2026a``.
        allow: marks under which missing data is let through: ``estimated`` (estimates count), ``partial`` (holes too).
    """

    id: str
    contract: str
    at: DataVersion
    zone_rules: str
    allow: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Bill:
    """A bill: its total is the sum of its lines and nothing else.

    Attributes:
        tariffs: (supplier, id) of each, in the order of the lines.
        from_utc, to_utc, zone: the period, intervals with from_utc < end <= to_utc.
        marks: ``estimated``, ``partial``: what it was let through under, and needed.
        missing, estimated: (channel, interval end) of each.
        corrects: id of the bill that this one reverses or replaces a part of; empty: none.
    """

    basis: Basis
    tariffs: tuple[tuple[str, str], ...]
    currency: str
    from_utc: int
    to_utc: int
    zone: str
    lines: tuple[Line, ...]
    marks: tuple[str, ...] = ()
    missing: tuple[tuple[str, int], ...] = ()
    estimated: tuple[tuple[str, int], ...] = ()
    corrects: str = ""

    @property
    def total(self) -> Decimal:
        """What is to be paid; negative: what is owed back."""
        return charges.total(self.lines)


def bill(basis: Basis, parts: Sequence[tuple[Tariff, Determinants]], history: History = NO_HISTORY) -> Bill:
    """Return the bill of a cycle: one part, or several (an energy and a network tariff, a tariff that changed).

    Raises:
        BillRefused: data is missing or estimated and `basis.allow` does not let it through, no part, two currencies, or
            a tariff that is not in force all through its part.
    """
    if not parts or len({tariff.currency for tariff, _ in parts}) > 1:
        raise BillRefused("a bill has one currency, and at least one tariff")
    for tariff, found in parts:
        ends = tariff.valid_to_utc
        if found.period.from_utc < tariff.valid_from_utc or (ends is not None and found.period.to_utc > ends):
            raise BillRefused(f"tariff {tariff.id} is not in force all through the period")
    missing = tuple(dict.fromkeys(hole for _, found in parts for hole in found.missing))
    estimated = tuple(dict.fromkeys(one for _, found in parts for one in found.estimated))
    _allowed(basis, missing, estimated)
    periods = [found.period for _, found in parts]
    return Bill(
        basis=basis,
        tariffs=tuple((tariff.supplier, tariff.id) for tariff, _ in parts),
        currency=parts[0][0].currency,
        from_utc=min(period.from_utc for period in periods),
        to_utc=max(period.to_utc for period in periods),
        zone=str(periods[0].zone),
        lines=tuple(line for tariff, found in parts for line in charges.lines(tariff, found, history)),
        marks=((ESTIMATE,) if estimated else ()) + ((PARTIAL,) if missing else ()),
        missing=missing,
        estimated=estimated,
    )


def nothing(old: Bill, basis: Basis) -> Bill:
    """Return the bill of a time of which, as it turned out, nothing is to be billed: an old one's without its lines."""
    return replace(old, basis=basis, lines=(), marks=(), missing=(), estimated=())


def rebill(old: Bill, new: Bill, reversal_id: str) -> tuple[Bill, Bill]:
    """Return what makes an old bill right: a reversal of its lines that changed, and a bill of those that replace them.

    The totals of the old bill, the reversal and the replacement together are the new bill's. Lines that are as before
    are in neither.
    """
    before, after = Counter(old.lines), Counter(new.lines)
    gone, come = list((before - after).elements()), list((after - before).elements())
    back = tuple(undone(line) for line in gone)
    reversal = replace(old, basis=replace(old.basis, id=reversal_id), lines=back, corrects=old.basis.id)
    return reversal, replace(new, lines=tuple(come), corrects=old.basis.id)


def undone(line: Line) -> Line:
    """Return the line that takes another one back, to its last digit."""
    with localcontext(prec=PRECISION):
        return line._replace(quantity=-line.quantity, amount=-line.amount)


def settled(bills: Sequence[Bill]) -> Decimal:
    """Return what bills, reversals and replacements come to together."""
    return sum((one.total for one in bills), ZERO)


def _allowed(basis: Basis, missing: Sequence[tuple[str, int]], estimated: Sequence[tuple[str, int]]) -> None:
    for mark, what, found, way in (
        (PARTIAL, "missing", missing, "--estimate has them estimated, --partial bills without them"),
        (ESTIMATE, "estimated", estimated, "--estimate lets them count"),
    ):
        if found and mark not in basis.allow:
            items = [Item(f"interval-{what}", f"{name}: {what}", units.format_utc(end)) for name, end in found[:20]]
            raise BillRefused(f"{len(found)} intervals are {what}; {way}", items=items)
