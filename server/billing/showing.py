"""A bill with all that stands behind it, for people and machines: lines, entries, receipts, versions.

In: a store, a bill's name. Out: one object for ``--json``, and the same as text. Amounts are exact text. Which entry a
line rests on is worked out from the current readings at the bill's data version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from gridpost.applications.charges import Line
from gridpost.applications.determinants import positions
from gridpost.bill_document import standing
from gridpost.canonical_json import decimal_text
from gridpost.model import Position
from gridpost.ports import CurrentReadings
from gridpost.units import format_utc, format_utc_ms

from ..own import read_receipt
from ..store import SqlStore
from . import filed
from .grounds import gather_again


def shown(store: SqlStore, name: str) -> dict[str, Any]:
    """Return a bill, its lines with the entries behind each, and those entries with their receipts.

    Raises:
        NotFound: there is no such bill.
        Internal: the store no longer holds what it rests on.
    """
    one = filed.bill(store, name)
    family = filed.family(store, name)
    document, grounds, bill = one.value, one.value.grounds, one.value.bill
    readings = gather_again(store, document).found.readings
    entries = sorted({entry for channel in grounds.channels for entry in channel.entries})
    others = {"contract": grounds.contract, "bill": one.position}
    return {
        "bill": bill.basis.id, "kind": document.kind, "contract": bill.basis.contract, "corrects": bill.corrects,
        "from": format_utc(bill.from_utc), "to": format_utc(bill.to_utc), "zone": bill.zone,
        "recorded_at": format_utc_ms(one.recorded_at_utc_ms), "zone_rules": bill.basis.zone_rules,
        "data_version": {str(partition): seq for partition, seq in sorted(bill.basis.at.items())},
        "currency": bill.currency, "total": decimal_text(bill.total), "marks": list(bill.marks),
        "missing": _moments(bill.missing), "estimated": _moments(bill.estimated),
        "lines": [_line(line, readings) for line in bill.lines],
        "tariffs": [{"tariff": f"{part.supplier}/{part.tariff}", "entry": _name(part.entry)} for part in grounds.parts],
        "channels": [
            {"channel": channel.metered.channel, "measure": channel.metered.measure, "sign": channel.metered.sign,
             "meter": channel.key.meter, "reading_type": channel.key.reading_type} for channel in grounds.channels
        ],
        "rests_on": _receipts(store, entries), "entries": {what: _name(entry) for what, entry in others.items()},
        "corrections": [each.value.bill.basis.id for each in family[1:]],
        "stands": decimal_text(standing([each.value for each in family]).total),
    }  # fmt: skip


def as_text(told: Mapping[str, Any]) -> str:
    """Return what `shown` gives, as text."""
    time = f"{told['from']} to {told['to']} ({told['zone']})"
    head = f"{told['bill']} ({told['kind']}) of contract {told['contract']}, {time}"
    known = " ".join(f"{partition}:{seq}" for partition, seq in told["data_version"].items())
    lines = [_row(one, told["currency"]) for one in told["lines"]]
    lacks = [f"{len(told[mark])} intervals {mark}" for mark in ("missing", "estimated") if told[mark]]
    rest = [
        f"total: {told['total']} {told['currency']}", *lacks,
        f"data version {known}, {told['zone_rules']}, entry {told['entries']['bill']}, recorded {told['recorded_at']}",
        f"contract: entry {told['entries']['contract']}",
        *(f"tariff {one['tariff']}: entry {one['entry']}" for one in told["tariffs"]),
        *(f"entry {one['entry']}: message {one['message_id']} of {one['sender']}, recorded {one['recorded_at']}, "
          f"receipt {one['receipt_sha256'][:16]}" for one in told["rests_on"]),
    ]  # fmt: skip
    if told["corrections"]:
        rest.append(f"corrected by {', '.join(told['corrections'])}: {told['stands']} {told['currency']} stands")
    return "\n".join([head, *lines, *rest])


def _row(line: Mapping[str, Any], currency: str) -> str:
    place = "".join(f" {word} {line[word]}" for word in ("period", "tier") if line[word] is not None)
    what = f"{line['kind']}{place}{' ' + line['name'] if line['name'] else ''}"
    behind = f"  [{', '.join(line['entries'])}]" if line["entries"] else ""
    return f"  {what}: {line['quantity']} {line['unit']} x {line['price']} = {line['amount']} {currency}{behind}"


def _line(line: Line, readings: Mapping[str, CurrentReadings]) -> dict[str, Any]:
    behind = sorted({entry for one in readings.values() for entry in positions(one, line.spans)})
    texts = {name: decimal_text(getattr(line, name)) for name in ("quantity", "price", "amount")}
    spans = [[format_utc(first), format_utc(last)] for first, last in line.spans]
    return line._asdict() | texts | {"spans": spans, "entries": [_name(entry) for entry in behind]}


def _receipts(store: SqlStore, entries: Sequence[Position]) -> list[dict[str, str]]:
    found = []
    for entry in entries:
        sealed = store.receipt(entry)
        receipt = read_receipt(sealed)
        found.append({
            "entry": _name(entry), "sender": receipt.sender, "message_id": receipt.message_id,
            "recorded_at": format_utc_ms(receipt.recorded_at_utc_ms), "receipt_sha256": sha256(sealed).hexdigest(),
        })  # fmt: skip
    return found


def _moments(moments: Sequence[tuple[str, int]]) -> list[list[str]]:
    return [[channel, format_utc(end)] for channel, end in moments]


def _name(entry: Position) -> str:
    return f"{entry.partition}:{entry.seq}"
