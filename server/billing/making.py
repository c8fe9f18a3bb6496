"""Bills made, corrected, and worked out again: what becomes an entry of the log, and what only looks.

In: the arguments of a task (server/tasks.py), or a bill's name. Out: outcomes as JSON objects. A bill stands for ever:
what a late reading changes is a reversal of the lines that were wrong and a new bill of those in their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gridpost import bill_document
from gridpost.applications.bills import ESTIMATE, Basis
from gridpost.bill_document import BILL, REPLACEMENT, REVERSAL, BillDocument, standing
from gridpost.bill_work import work_out
from gridpost.canonical_json import decimal_text
from gridpost.documents import BILL as BILL_KIND
from gridpost.documents import OURS, Document
from gridpost.errors import AlreadyExists, BillRefused, ConfigInvalid
from gridpost.model import Position, Receipt
from gridpost.ports import ZoneOf

from .. import own, zones
from ..own import Bench
from ..store import SqlStore
from . import filed
from .filed import Filed
from .grounds import Asked, gather, gather_again, gather_correction

Outcome = dict[str, Any]
LONGEST_NAME = 128


def make(bench: Bench, args: Mapping[str, Any], person: str, task_id: str) -> Outcome:
    """Make the bill of a contract over a stretch of time: a task.

    Args:
        bench: see own.py.
        args: ``id`` of the bill, ``contract``, ``from_utc``, ``to_utc``, ``allow`` (list of bill marks).
        person: who asks.
        task_id: of the task.

    Raises:
        AlreadyExists: there is such a bill, or one of a part of that time.
        NotFound, BillRefused: as `grounds.gather` and `bill_work.work_out`.
    """
    done = own.known(bench, task_id)
    if done is not None:
        return _made(bench, [done])
    return _made(bench, [_record(bench, task_id, person, _worked_out(bench.store, bench.zone_of, args))])


def lacking(store: SqlStore, zone_of: ZoneOf, args: Mapping[str, Any]) -> bool:
    """Tell whether a bill would be refused for intervals that are missing, and for nothing else; looks only.

    Args:
        store: the log.
        zone_of: zones by name.
        args: those of `make`; ``allow`` does not count.

    Raises:
        AlreadyExists, NotFound, BillRefused: as `make`, for anything but intervals.
    """
    try:
        _worked_out(store, zone_of, {**args, "allow": [ESTIMATE]})
    except BillRefused as refused:
        if any(item.code == "interval-missing" for item in refused.items):
            return True
        raise
    return False


def _worked_out(store: SqlStore, zone_of: ZoneOf, args: Mapping[str, Any]) -> BillDocument:
    at = store.version()
    contract = filed.contract(store, args["contract"], at)
    asked = Asked(contract, args["from_utc"], args["to_utc"], at)
    _not_billed(store, asked, args["id"])
    gathered = gather(store, zone_of, asked)
    basis = Basis(args["id"], contract.value.id, at, zones.rules(), frozenset(args["allow"]))
    return work_out(BILL, basis, gathered.grounds, gathered.found)


def correct(bench: Bench, args: Mapping[str, Any], person: str, task_id: str) -> Outcome:
    """Correct a bill by what is known now: a reversal and a replacement of the lines that changed; a task.

    What lies behind the end of a contract that was ended since is taken back.

    Args:
        bench: see own.py.
        args: ``bill``: its id; ``allow``: marks to let through besides those it was made or corrected under.
        person: who asks.
        task_id: of the task.

    Raises:
        NotFound, BillRefused: as `make`.
    """
    taken_back = own.known(bench, task_id)
    if taken_back is not None:  # a process died over it: the new bill is made of the same
        reversal = _recorded(bench.store, taken_back.position)
        before = filed.family(bench.store, args["bill"])[: len(reversal.grounds.corrects)]
    else:
        before = filed.family(bench.store, args["bill"])
        at = bench.store.version()
        old = before[0].value.bill
        contract = filed.contract(bench.store, f"{old.tariffs[0][0]}/{old.basis.contract}", at)
        asked = Asked(contract, old.from_utc, old.to_utc, at)
        gathered = gather_correction(bench.store, bench.zone_of, asked, before)
        reversal = work_out(
            REVERSAL, _basis(before, args, f"r{len(before) // 2 + 1}"), gathered.grounds, gathered.found
        )
    new = _replacement(bench, before, args, reversal)
    if taken_back is None:
        if not reversal.bill.lines and not new.bill.lines:
            return {"changed": False, "bill": before[0].value.bill.basis.id}
        taken_back = _record(bench, task_id, person, reversal)
    return _made(bench, [taken_back, _record(bench, f"{task_id}/2", person, new)]) | {"changed": True}


def again(store: SqlStore, name: str) -> tuple[BillDocument, BillDocument]:
    """Return a bill as it is on file, and as it is worked out now from the entries it names.

    Raises:
        NotFound: there is no such bill.
        Internal: the store no longer holds what it rests on.
    """
    kept = filed.bill(store, name).value
    gathered = gather_again(store, kept)
    return kept, work_out(kept.kind, kept.bill.basis, gathered.grounds, gathered.found)


def _not_billed(store: SqlStore, asked: Asked, name: str) -> None:
    if len(name) > LONGEST_NAME:
        raise ConfigInvalid(f"a bill's id has at most {LONGEST_NAME} characters")
    if store.documents(BILL_KIND, id=name):
        raise AlreadyExists(f"there is a bill {name} already; `gridpost bill correct {name}` renews it")
    for family in filed.families(filed.bills_of(store, asked.contract.value)):
        one = family[0].value.bill
        if one.from_utc < asked.to_utc and asked.from_utc < one.to_utc:
            raise AlreadyExists(
                f"bill {one.basis.id} is of that time; `gridpost bill correct {one.basis.id}` renews it"
            )


def _replacement(
    bench: Bench, before: Sequence[Filed[BillDocument]], args: Mapping[str, Any], reversal: BillDocument
) -> BillDocument:
    """Work the new bill out from the reversal's own grounds, so that both rest on the same."""
    gathered = gather_again(bench.store, reversal)
    basis = _basis(before, args, str(len(before) // 2 + 2))
    return work_out(REPLACEMENT, replace(basis, at=gathered.grounds.at), gathered.grounds, gathered.found)


def _basis(before: Sequence[Filed[BillDocument]], args: Mapping[str, Any], suffix: str) -> Basis:
    first = before[0].value.bill.basis
    allow = frozenset(args["allow"]).union(*(one.value.bill.basis.allow for one in before))
    return Basis(f"{first.id}.{suffix}", first.contract, first.at, zones.rules(), allow)


def _record(bench: Bench, message_id: str, person: str, document: BillDocument) -> Receipt:
    bill = document.bill
    times = (bill.from_utc, bill.to_utc)
    kept = Document(BILL_KIND, bill.basis.id, OURS, bill.basis.contract, *times, bill_document.encode(document))
    return own.record_documents(bench, message_id, person, [kept])


def _recorded(store: SqlStore, position: Position) -> BillDocument:
    (one,) = store.documents_of([position])
    return bill_document.decode(one.document.content)


def _made(bench: Bench, receipts: Sequence[Receipt]) -> Outcome:
    documents = [_recorded(bench.store, receipt.position) for receipt in receipts]
    last = documents[-1].bill
    whole = [one.value for one in filed.family(bench.store, last.basis.id)]
    return {
        "bill": (last.corrects or last.basis.id),
        "documents": [one.bill.basis.id for one in documents],
        "entries": [f"{one.position.partition}:{one.position.seq}" for one in receipts],
        "total": decimal_text(standing(whole).total),
        "currency": last.currency,
        "marks": list(last.marks),
    }
