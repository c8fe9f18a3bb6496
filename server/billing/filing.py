"""Tariffs and contracts put on file by people: the tasks behind `gridpost tariff add` and `gridpost contract`.

In: the arguments of a task. Out: outcomes as JSON objects. What is refused leaves everything as it was; what is on file
already, to the letter, is not filed again. Suppliers file theirs themselves, by signed messages (server/office).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gridpost import contract as contracts
from gridpost import tariff_messages
from gridpost.contract import ENDED, Contract
from gridpost.documents import CONTRACT, Document
from gridpost.errors import AlreadyExists, ConfigInvalid, Item, NotFound
from gridpost.model import Channel
from gridpost.ports import Store
from gridpost.supply_messages import tariff_document

from .. import own
from ..own import Bench
from . import filed

Outcome = dict[str, Any]


def add_tariffs(bench: Bench, args: Mapping[str, Any], person: str, task_id: str) -> Outcome:
    """File tariffs, all in one entry or none.

    Args:
        bench: see own.py.
        args: ``tariffs``: a list of texts as `tariff_messages.encode` gives them.
        person: who asks.
        task_id: of the task.

    Raises:
        TariffRefused, SchemaInvalid, FileInvalid: one cannot be billed; the place is named.
    """
    wanted = [tariff_document(tariff_messages.decode(text)) for text in args["tariffs"]]
    names = [f"{one.owner}/{one.id}" for one in wanted]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigInvalid(f"two tariffs of one name: {', '.join(sorted(twice))}")
    new = [one for one in wanted if not _on_file(bench.store, one)]
    if new:
        own.record_documents(bench, task_id, person, new)
    return {"tariffs": names, "filed": [f"{one.owner}/{one.id}" for one in new]}


def add_contract(bench: Bench, args: Mapping[str, Any], person: str, task_id: str) -> Outcome:
    """File a contract; one of its supplier's that has its id is replaced.

    Args:
        bench: see own.py.
        args: ``contract``: a text as `contract.encode` gives it; one without channels gets those of its usage point.
        person: who asks.
        task_id: of the task.

    Raises:
        NotFound: no such tariff, zone or usage point.
        ConfigInvalid: it could not be billed so, its usage point never had a channel it names, or the tariff's zone is
            another.
        AlreadyExists: another supplier has a contract of that id, whose bills would have the same names; or another
            contract sells the same by the same channel at a time.
    """
    one = with_channels(contracts.decode(args["contract"]), bench.store)
    contracts.check(one)
    _channels_there(one, bench.store)
    bench.zone_of(one.zone)
    versions = filed.tariff_versions(bench.store, one.supplier, one.tariff)
    if versions[-1].value.zone != one.zone:
        raise ConfigInvalid(
            f"zone: tariff {one.tariff} counts the hours of {versions[-1].value.zone}, not of {one.zone}"
        )
    for other in bench.store.documents(CONTRACT, id=one.id):
        if other.document.owner != one.supplier:
            raise AlreadyExists(f"{other.document.owner} has a contract {one.id} already")
    if not _on_file(bench.store, contract_document(one)):
        _without_rival(one, bench.store)
    return _file(bench, one, person, task_id)


def end_contract(bench: Bench, args: Mapping[str, Any], person: str, task_id: str) -> Outcome:
    """End a contract.

    Args:
        bench: see own.py.
        args: ``contract``: its name; ``to_utc``: first moment it no longer holds; ``reason``: may be empty.
        person: who asks.
        task_id: of the task.

    Raises:
        NotFound: no such contract.
        ConfigInvalid: it begins later, or was never in force.
        AlreadyExists: it had ended earlier, and another contract sells the same by the same channel since.
    """
    one = filed.contract(bench.store, args["contract"]).value
    if not one.is_billed:
        raise ConfigInvalid(f"contract {one.id} is {one.status}, it was never in force")
    ended = replace(one, to_utc=args["to_utc"], status=ENDED, reason=args["reason"])
    contracts.check(ended)
    if one.ends_by(args["to_utc"]) < args["to_utc"]:  # it had ended earlier; meanwhile another may have begun
        _without_rival(ended, bench.store)
    return _file(bench, ended, person, task_id)


def contract_document(one: Contract) -> Document:
    """Return a contract as a document."""
    times = (one.from_utc, one.to_utc)
    return Document(CONTRACT, one.id, one.supplier, one.usage_point, *times, contracts.encode(one))


def with_channels(one: Contract, store: Store) -> Contract:
    """Return a contract that names its channels: those its usage point has when it begins, where it named none.

    Raises:
        NotFound: the usage point has no channel.
    """
    channels = store.channels(usage_point=one.usage_point)
    if not channels:
        raise NotFound(f"no channel is enrolled at usage point {one.usage_point}")
    then = [channel for channel in channels if channel.holds_at(one.from_utc + 1)] or _first(channels)
    return one if one.channels else replace(one, channels=contracts.metered_by(then))


def _channels_there(one: Contract, store: Store) -> None:
    """Refuse a name that no channel of the usage point has or had."""
    known = {name for channel in store.channels(usage_point=one.usage_point) for name in contracts.names_of(channel)}
    if strange := [metered.channel for metered in one.channels if metered.channel not in known]:
        told = ", ".join(sorted(known))
        items = [Item("bad-contract", f"usage point {one.usage_point} has no such channel", name) for name in strange]
        raise ConfigInvalid(
            f"{strange[0]}: usage point {one.usage_point} has no such channel, only {told}", items=items
        )


def _without_rival(one: Contract, store: Store) -> None:
    """Refuse a contract while another sells the same by the same channel; a heat pump's meter may have one of its own.

    A partner's contract counts every channel, and ends all its rivals instead (server/office/contracts.py).
    """
    channels = store.channels(usage_point=one.usage_point)
    counted = _counted(one, channels)
    for other in (held.value for held in filed.contract_list(store, one.usage_point)):
        if other.rivals(one) and counted & _counted(other, channels):
            raise AlreadyExists(
                f"contract {other.id} of {other.supplier} sells {other.kind} there at that time; end it first:"
                f" gridpost contract end {other.supplier}/{other.id} --to DAY"
            )


def _counted(one: Contract, channels: Sequence[Channel]) -> set[int]:
    """Return the channels whose energy a contract adds, whatever it calls them."""
    names = {metered.channel for metered in one.channels if metered.sign > 0}
    return {channel.id for channel in channels if names.intersection(contracts.names_of(channel))}


def _first(channels: Sequence[Channel]) -> list[Channel]:
    begins = min(one.valid_from_utc for one in channels)
    return [one for one in channels if one.valid_from_utc == begins]


def _file(bench: Bench, one: Contract, person: str, task_id: str) -> Outcome:
    document = contract_document(one)
    is_new = not _on_file(bench.store, document)
    if is_new:
        own.record_documents(bench, task_id, person, [document])
    return {"contract": f"{one.supplier}/{one.id}", "filed": is_new}


def _on_file(store: Store, one: Document) -> bool:
    found = store.documents(one.kind, owner=one.owner, id=one.id)
    return any(stored.document == one for stored in found)
