"""Tariffs, contracts and bills as they are on file: documents of the log, decoded, each with its entry.

In: a store, names, a data version (None: now). Out: values with their positions. Nothing is written, nothing judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from gridpost import bill_document, tariff_messages
from gridpost import contract as contracts
from gridpost.bill_document import BILL, BillDocument
from gridpost.contract import Contract
from gridpost.documents import BILL as BILL_KIND
from gridpost.documents import CONTRACT, TARIFF
from gridpost.errors import ConfigInvalid, NotFound
from gridpost.model import DataVersion, Position
from gridpost.ports import Store, StoredDocument
from gridpost.tariff import Tariff

T = TypeVar("T")


class Filed(NamedTuple, Generic[T]):
    """What a document says, the entry that brought it, and when that was recorded."""

    position: Position
    recorded_at_utc_ms: int
    value: T


_decoded_tariff = lru_cache(maxsize=256)(tariff_messages.decode)


def tariffs(store: Store, supplier: str | None = None) -> list[Filed[Tariff]]:
    """Return the tariffs in force, or a supplier's."""
    return _all(store.documents(TARIFF, owner=supplier), _decoded_tariff)


def tariff_versions(store: Store, supplier: str, name: str, at: DataVersion | None = None) -> list[Filed[Tariff]]:
    """Return every version of a tariff, oldest first.

    Raises:
        NotFound: there is none.
    """
    found = store.document_versions(TARIFF, owner=supplier, id=name, at=at)
    if not found:
        raise NotFound(f"there is no tariff {supplier}/{name}")
    return _all(found, _decoded_tariff)


def tariff(store: Store, name: str) -> Filed[Tariff]:
    """Return the version in force of ``SUPPLIER/ID``.

    Raises:
        NotFound: there is none.
    """
    supplier, _, own = name.partition("/")
    return tariff_versions(store, supplier, own)[-1]


def valid_at(versions: Sequence[Filed[Tariff]], moment_utc: int) -> Filed[Tariff] | None:
    """Return, of a tariff's versions, oldest first, the one that counts at a moment: of those valid the last recorded.

    Args:
        versions: as `tariff_versions` gives them.
        moment_utc: UTC seconds.
    """
    return next((one for one in reversed(versions) if one.value.in_force(moment_utc)), None)


def tariff_at(store: Store, supplier: str, name: str, moment_utc: int) -> Filed[Tariff] | None:
    """Return the version of a tariff that counts at a moment; None: none does, or there is no such tariff."""
    return valid_at(_all(store.document_versions(TARIFF, owner=supplier, id=name), _decoded_tariff), moment_utc)


def contract_list(store: Store, usage_point: str | None = None) -> list[Filed[Contract]]:
    """Return the contracts in force, or those of a usage point."""
    return _all(store.documents(CONTRACT, subject=usage_point), contracts.decode)


def in_force(store: Store, moment_utc: int, usage_point: str | None = None) -> list[Contract]:
    """Return the contracts in force at a moment, or those of a usage point, in order of supplier and id.

    Energy and distribution stand side by side (F65).

    Args:
        store: the log.
        moment_utc: UTC seconds; a contract holds from its first moment on, and no longer at the one it ends with.
        usage_point: mRID; None: of all.
    """
    found = (one.value for one in contract_list(store, usage_point))
    held = (one for one in found if one.is_billed and one.covers(moment_utc, moment_utc + 1))
    return sorted(held, key=lambda one: (one.supplier, one.id))


def contract(store: Store, name: str, at: DataVersion | None = None) -> Filed[Contract]:
    """Return the version in force of a contract, by its id or ``SUPPLIER/ID``.

    Raises:
        NotFound: there is none.
        ConfigInvalid: several suppliers have one of that id.
    """
    supplier, separator, own = name.rpartition("/")
    found = store.documents(CONTRACT, owner=supplier if separator else None, id=own, at=at)
    if not found:
        raise NotFound(f"there is no contract {name}")
    if len(found) > 1:
        owners = " or ".join(f"{one.document.owner}/{own}" for one in found)
        raise ConfigInvalid(f"contract {name} is one of several: say {owners}")
    return _filed(found[0], contracts.decode)


def bills(store: Store, contract_id: str | None = None, at: DataVersion | None = None) -> list[Filed[BillDocument]]:
    """Return bills and their corrections in the order they were made, of a contract or all."""
    return _all(store.document_versions(BILL_KIND, subject=contract_id, at=at), bill_document.decode)


def bills_of(store: Store, one: Contract, at: DataVersion | None = None) -> list[Filed[BillDocument]]:
    """Return the bills of a contract and their corrections; another supplier's contract may have the same id."""
    return [each for each in bills(store, one.id, at) if each.value.bill.tariffs[0][0] == one.supplier]


def bill_name(store: Store, one: Contract, period: str) -> str:
    """Return the id of a contract's bill of a period: the contract's, its supplier's before it where that is needed."""
    shared = len(store.documents(CONTRACT, id=one.id)) > 1
    return f"{one.supplier}/{one.id}-{period}" if shared else f"{one.id}-{period}"


def bill(store: Store, name: str) -> Filed[BillDocument]:
    """Return a bill, a reversal or a replacement.

    Raises:
        NotFound: there is none.
    """
    found = store.documents(BILL_KIND, id=name)
    if not found:
        raise NotFound(f"there is no bill {name}")
    return _filed(found[-1], bill_document.decode)


def families(found: Sequence[Filed[BillDocument]]) -> list[list[Filed[BillDocument]]]:
    """Return each bill with its corrections behind it, in the order they were made."""
    by_id: dict[str, list[Filed[BillDocument]]] = {}
    for one in found:
        own = one.value.bill
        by_id.setdefault(own.basis.id if one.value.kind == BILL else own.corrects, []).append(one)
    return list(by_id.values())


def family(store: Store, name: str) -> list[Filed[BillDocument]]:
    """Return a bill and its corrections, in the order they were made, by the name of any of them.

    Raises:
        NotFound: there is none.
    """
    one = bill(store, name).value.bill
    first = one.corrects or one.basis.id
    whole = families(bills(store, one.basis.contract))
    return next(some for some in whole if some[0].value.bill.basis.id == first)


def _all(found: Sequence[StoredDocument], decode: Callable[[str], T]) -> list[Filed[T]]:
    return [_filed(one, decode) for one in found]


def _filed(one: StoredDocument, decode: Callable[[str], T]) -> Filed[T]:
    return Filed(one.position, one.recorded_at_utc_ms, decode(one.document.content))
