"""The proof of a bill: one file by which anybody can check it, from the devices' signatures down to each line's digits.

Floor 8, pure. It is a line of its own and behind it a proof file (`proof.py`) of every entry the bill rests on::

    gridpost-bill-proof  version, bill: its id, entry: [partition, seq] of its document
    gridpost-proof       ... the proof file, from its first line to its last

The `BillVerifier` checks the proof file as any other, so receipts, messages, leaves and the tree are seen to there;
then it holds the bill against what the entries say (`bill_check.py`). No zone file is needed: the bill has its offsets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from . import bill_check
from .applications.calendar import Period, expected_ends
from .bill_check import Witnessed, behind
from .bill_document import BillDocument
from .documents import OURS
from .errors import FileInvalid, Item, PeerFault
from .evidence import Authority, Examined, Exhibit, name
from .model import Position
from .proof import Span, Verifier
from .units import format_utc

VERSION = 1
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


# --- writing ---------------------------------------------------------------------------------------------------------


def render_start(bill: str, entry: Position) -> bytes:
    """Return the first line: which bill, and where its document stands."""
    fields = {"kind": "gridpost-bill-proof", "version": VERSION, "bill": bill, "entry": entry}
    return _ENCODE.encode(fields).encode() + b"\n"


def spans(document: BillDocument, entry: Position) -> list[Span]:
    """Return the entries that the proof file behind the first line holds, in order, neighbours as one span."""
    found: list[Span] = []
    for one in sorted({entry, *(named.entry for named in behind(document))}):
        if found and found[-1].partition == one.partition and found[-1].last + 1 == one.seq:
            found[-1] = found[-1]._replace(last=one.seq)
        else:
            found.append(Span(one.partition, one.seq, one.seq))
    return found


# --- reading ---------------------------------------------------------------------------------------------------------


def is_bill_proof(raw: bytes) -> bool:
    """Tell whether bytes begin like the proof of a bill."""
    return raw.startswith(b'{"kind":"gridpost-bill-proof"')


class BillVerifier(Verifier):
    """Takes the lines of a bill's proof, one by one; collects findings as its kind for any log does.

    Attributes:
        witnessed: what each entry holds.
        document: the bill; None while there is none, or none that can be read.
    """

    def __init__(self, trusted: Sequence[str], authority_of: Callable[[str], Authority]) -> None:
        """See `proof.Verifier`."""
        super().__init__(trusted, authority_of, lines_before=1)
        self.witnessed: dict[Position, Witnessed] = {}
        self.document: BillDocument | None = None

    def run(self, lines: Iterable[bytes]) -> None:
        """Check every line, then the bill."""
        rest = iter(lines)
        try:
            bill, at = _start(next(rest, b""))
        except _MALFORMED as error:
            self.items.append(Item(FileInvalid.code, f"it is no proof of a bill: {error}", "line 1"))
            return
        super().run(rest)
        self.document, items = bill_check.check(at, self.witnessed)
        self.items += items
        if self.document is None:
            self.items.append(Item("bill-changed", f"{name(at)} holds no bill that can be read", "line 1 entry"))
            return
        if self.document.bill.basis.id != bill:
            reason = f"it is said to prove {bill}; {name(at)} holds {self.document.bill.basis.id}"
            self.items.append(Item("bill-changed", reason, "line 1 bill"))
        if self.spans != spans(self.document, at):
            self.items.append(Item("proof-incomplete", "these are not the entries the bill rests on", "line 2 spans"))
        self.states = {"bill": bill} if self.items else _states(self.document)

    def taken(self, kept: Exhibit, examined: Examined) -> None:
        """Keep what an entry holds, for the bill."""
        at, parts = kept.parts.position, kept.parts
        if kept.evidence is None:
            self.items.append(Item("evidence-missing", "what was sent is no longer there: nobody's word", name(at)))
        by_bus = parts.sender == OURS and self._is_sealed_by_the_bus(kept.evidence or b"")
        self.witnessed[at] = Witnessed(parts.recorded_at_utc_ms, parts.sender, by_bus, kept.rows, examined.message)

    def _is_sealed_by_the_bus(self, evidence: bytes) -> bool:
        try:
            self._judge().bus(evidence)
        except PeerFault:
            return False
        return True


def _start(line: bytes) -> tuple[str, Position]:
    fields = json.loads(line.decode())
    if fields["kind"] != "gridpost-bill-proof" or fields["version"] != VERSION:
        raise ValueError(f"version {fields['version']!r} of {fields['kind']!r} is not known here")
    bill, (partition, seq) = fields["bill"], fields["entry"]
    at = Position(partition, seq)
    if render_start(bill, at) != line:
        raise ValueError("its first line is not as it is written")
    return bill, at


def _states(document: BillDocument) -> dict[str, Any]:
    bill, channels = document.bill, document.grounds.channels
    period = Period(bill.from_utc, document.billed_to_utc, document.zone)
    expected = sum(len(expected_ends(period, one.interval_s)) for one in channels)
    missing, estimated = (sum(end <= period.to_utc for _, end in some) for some in (bill.missing, bill.estimated))
    return {
        "bill": bill.basis.id,
        "contract": bill.basis.contract,
        "from": format_utc(bill.from_utc),
        "to": format_utc(bill.to_utc),
        "total": f"{bill.total} {bill.currency}",
        "lines": len(bill.lines),
        "intervals": f"{expected - missing} of {expected}, {estimated} estimated",
        "zone_rules": bill.basis.zone_rules,
    }
