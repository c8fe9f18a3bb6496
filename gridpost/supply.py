"""What suppliers, their customers and utilities ask about supply, as values: tariffs, contracts, comparisons.

Floor 1. Frozen values only; `supply_messages.py` encodes and decodes them, `messages.MESSAGES` names them. Each request
has the `header` of `model.Message`. Who may ask what is not judged here. Times are UTC seconds; an empty text, an empty
tuple and 0 mean not stated.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from .model import Header
from .tariff import ZERO, Tariff

REQUESTED, CONFIRMED, REJECTED, ENDED = STATUSES = ("requested", "confirmed", "rejected", "ended")


@dataclass(frozen=True, slots=True)
class CreateTariff:
    """A supplier offers a tariff."""

    header: Header
    tariff: Tariff


@dataclass(frozen=True, slots=True)
class ChangeTariff:
    """A supplier offers the next version of a tariff, whole."""

    header: Header
    tariff: Tariff


class Sought(NamedTuple):
    """Which tariffs or contracts are asked for; what is empty does not narrow.

    Attributes:
        ids: mRIDs; suppliers: partners' ids; usage_points: mRIDs, of contracts only.
        limit: most wanted in one answer; page: what the last answer's ``nextPage`` said.
    """

    ids: tuple[str, ...] = ()
    suppliers: tuple[str, ...] = ()
    usage_points: tuple[str, ...] = ()
    limit: int = 0
    page: str = ""


@dataclass(frozen=True, slots=True)
class GetTariff:
    """What is on offer."""

    header: Header
    sought: Sought


class Supply(NamedTuple):
    """A contract as partners tell each other.

    Attributes:
        id: the supplier's own, never used again; customer: as the supplier names him.
        usage_point: mRID; tariff: mRID of one of the supplier's.
        from_utc: effective date, first moment in force; to_utc: first moment no longer; None: open.
        cycle_day: of the month, on which billing cycles begin; 1 to 31.
        supplier, kind, status, reason: the bus's; kind of `tariff.KINDS`, status of STATUSES.
    """

    id: str
    customer: str
    usage_point: str
    tariff: str
    from_utc: int
    to_utc: int | None = None
    cycle_day: int = 1
    supplier: str = ""
    kind: str = ""
    status: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CreateContract:
    """A supplier asks to supply a usage point; the bus's parts of the contract are empty."""

    header: Header
    contract: Supply


class Decision(NamedTuple):
    """What becomes of a contract.

    Attributes:
        id, supplier: which contract.
        status: CONFIRMED, REJECTED (with a reason) or ENDED (with an end).
        from_utc: of a confirmation: another effective date; 0: the one asked for.
        to_utc: of an end: first moment no longer in force; None: not stated.
    """

    id: str
    supplier: str
    status: str
    reason: str = ""
    from_utc: int = 0
    to_utc: int | None = None


@dataclass(frozen=True, slots=True)
class ChangeContract:
    """A contract is decided on."""

    header: Header
    decision: Decision


@dataclass(frozen=True, slots=True)
class GetContract:
    """What is contracted."""

    header: Header
    sought: Sought


@dataclass(frozen=True, slots=True)
class CreatedContract:
    """Tells a partner of contracts as they are now."""

    header: Header
    contracts: tuple[Supply, ...]


class Offer(NamedTuple):
    """Tariffs paid together, each as (supplier, id)."""

    tariffs: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """As the wire has it: ``supplier/id``, several joined by ``+``."""
        return "+".join("/".join(one) for one in self.tariffs)


class Compared(NamedTuple):
    """What is to be compared.

    Attributes:
        usage_point: mRID.
        from_utc, to_utc: the period: intervals with from_utc < end <= to_utc.
        bids: none: every tariff that the partner may see and that is in force.
        present: None: what the contracts in force say.
        switching_cost: taken off what is saved.
        zone: IANA name; empty: the usage point's.
        cycle_day: on which billing cycles begin.
        at: data version; empty: as it is now.
    """

    usage_point: str
    from_utc: int
    to_utc: int
    bids: tuple[Offer, ...] = ()
    present: Offer | None = None
    switching_cost: Decimal = ZERO
    zone: str = ""
    cycle_day: int = 1
    at: str = ""


@dataclass(frozen=True, slots=True)
class GetTariffComparison:
    """What tariffs would have cost."""

    header: Header
    compared: Compared
