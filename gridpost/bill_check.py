"""Does a bill say what the entries behind it say? All it rests on is looked up again, each line worked out anew.

Floor 7, pure. In: what entries of a log hold, each already held against its own witnesses (`evidence.py`), and where
the bill stands among them. Out: the bill's document, and findings (`errors.Item`) with their places: an entry, or a
member of the document such as ``bill lines/3/amount``. Signatures, receipts and the tree are `bill_proof.py`'s affair.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

from . import contract, evidence, leaf, tariff_messages
from .bill_document import BILL, REPLACEMENT, REVERSAL, BillDocument, Channel, Part, decode, encode
from .bill_work import Found, work_out
from .canonical_json import decimal_text, write
from .current import Filed, FiledRun, current_readings
from .documents import BILL as BILLS
from .documents import CONTRACT, OURS, TARIFF
from .errors import Item, PeerFault
from .evidence import name
from .leaf import BlockRow, DocumentRow, EntryRows
from .model import Channel as Enrolled
from .model import Message, Position
from .ports import CurrentReadings
from .tariff import ZERO, Tariff
from .versions import Run

MOST_INTERVALS = 1 << 20  # of a channel in a bill: two years of minutes
LATEST_UTC = 1 << 37  # the year 6325; Python's calendar ends in 9999
LONGEST_SHOWN = 60
# What figures that nobody signed raise when they are worked with.
_NO_FIGURES = (ValueError, TypeError, LookupError, ArithmeticError)
T = TypeVar("T")


class Witnessed(NamedTuple):
    """What a verified entry holds.

    Attributes:
        recorded_at_utc_ms: by the bus's clock.
        sender: who it is from; by_bus: the bus itself has sealed it.
        rows: as the leaf covers them.
        message: as signed; None when its signature does not hold or it is gone.
    """

    recorded_at_utc_ms: int
    sender: str
    by_bus: bool
    rows: EntryRows
    message: Message | None


Entries = Mapping[Position, Witnessed]


class Behind(NamedTuple):
    """An entry that a bill names, and as what: for findings."""

    entry: Position
    what: str


def behind(document: BillDocument) -> list[Behind]:
    """Return every entry that a bill rests on, in the order it names them; one may stand there for several reasons."""
    grounds = document.grounds
    found = [Behind(grounds.contract, "its contract")]
    found += [Behind(part.entry, f"tariff {part.tariff} of {part.supplier}") for part in grounds.parts]
    found += [Behind(one, f"readings of {each.metered.channel}") for each in grounds.channels for one in each.entries]
    found += [Behind(one.entry, "an earlier bill") for one in grounds.earlier]
    found += [Behind(one, f"{document.bill.corrects}, which it corrects") for one in grounds.corrects]
    return found


def check(at: Position, entries: Entries) -> tuple[BillDocument | None, list[Item]]:
    """Hold a bill against the entries it names.

    Args:
        at: the entry whose document the bill is.
        entries: that one and all it names.

    Returns:
        the document, None when there is none that can be read; and what is wrong.
    """
    checking = _Checking(entries)
    document = checking.bill(at)
    if document is not None:
        checking.named(at, document)
        found = checking.found(document)
        if found is not None:
            checking.worked_out(document, found)
    return document, checking.items


class _Checking:
    """A bill under examination; collects findings."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self.items: list[Item] = []

    # --- what it names -----------------------------------------------------------------------------------------------

    def bill(self, at: Position) -> BillDocument | None:
        """The one document of a bill that stands in an entry of the bus's own."""
        row = self._row(at, BILLS)
        document = None if row is None else self._own_bill(at, row)
        if row is None or document is None:
            return None
        bill = document.bill
        said = (bill.basis.id, bill.basis.contract, bill.from_utc, bill.to_utc)
        if (row.id, row.subject, row.from_utc, row.to_utc) != said:
            self._add("bill-changed", "its frame names another bill, contract or period than its content", name(at))
        return document

    def named(self, at: Position, document: BillDocument) -> None:
        """Exactly the entries it names are there, and none that was not yet known to it."""
        wanted = behind(document)
        told: set[Position] = set()
        for one in wanted:
            if one.entry not in self._entries and one.entry not in told:
                self._add("proof-incomplete", f"the bill rests on it ({one.what}), and it is missing", name(one.entry))
            if document.grounds.at.get(one.entry.partition, -1) < one.entry.seq and one.entry not in told:
                self._add("bill-version", f"{one.what}: later than the bill's data version", name(one.entry))
            told.add(one.entry)
        for extra in sorted(self._entries.keys() - told - {at}):
            self._add("proof-incomplete", "the bill does not rest on it", name(extra))

    def _row(self, at: Position, kind: str, named: str = "") -> DocumentRow | None:
        """The one document of a kind that an entry holds; `named`: and of that id."""
        entry = self._entries.get(at)
        if entry is None:
            return None  # told by `named`
        rows = [row for row in entry.rows.documents if row.kind == kind and named in ("", row.id)]
        if len(rows) != 1:
            self._add("bill-changed", f"{len(rows)} documents stand there as {kind} {named}".strip(), name(at))
            return None
        return rows[0]

    def _own_bill(self, at: Position, row: DocumentRow) -> BillDocument | None:
        entry = self._entries[at]
        if not (entry.by_bus and entry.sender == row.owner == OURS):
            self._add("bill-changed", "a bill is the bus's own and sealed by it; this one is not", name(at))
        document = self._decoded(at, decode, row)
        if document is None and self.items[-1].path == f"{name(at)} total":
            # Told; which line is the wrong one, the arithmetic will say.
            return self._decoded(at, decode, row._replace(content=_summed(row.content)))
        return document

    def _decoded(self, at: Position, read: Callable[[str], T], row: DocumentRow) -> T | None:
        try:
            return read(row.content)
        except PeerFault as error:
            items = error.items or (Item("bill-changed", error.detail or error.reason),)
            for item in items:
                self._add("bill-changed", f"its {row.kind} cannot be read: {item.reason}", f"{name(at)} {item.path}")
            return None

    # --- what stands there -------------------------------------------------------------------------------------------

    def found(self, document: BillDocument) -> Found | None:
        """What the entries hold, or None when a part of it cannot be read."""
        grounds = document.grounds
        if not self._sensible(document):
            return None
        tariffs = [self._tariff(part.entry, (part.supplier, part.tariff)) for part in grounds.parts]
        earlier = [self._other(one.entry, document) for one in grounds.earlier]
        corrected = [self._other(one, document) for one in grounds.corrects]
        readings = {one.metered.channel: self._readings(one, document) for one in grounds.channels}
        self._contract(document, corrected[0] if corrected else None)
        self._corrects(_given(corrected))
        if None in (*tariffs, *earlier, *corrected):
            return None  # each is told already
        return Found(readings, _given(tariffs), _given(earlier), _given(corrected))

    def _sensible(self, document: BillDocument) -> bool:
        """Whether it can be worked out at all, within a moment and in memory: nobody may have signed it."""
        bill, grounds = document.bill, document.grounds
        shortest = min((one.interval_s for one in grounds.channels), default=0)
        span, billed = bill.to_utc - bill.from_utc, (bill.from_utc, document.billed_to_utc)
        wrong = {
            "from_utc": not 0 <= bill.from_utc < bill.to_utc,
            "to_utc": bill.to_utc > LATEST_UTC,
            "grounds/channels": bool(grounds.channels) != bool(grounds.parts)
            or (bool(grounds.channels) and (shortest <= 0 or not span <= MOST_INTERVALS * shortest)),
            "grounds/offsets": not grounds.offsets or grounds.offsets[0].from_utc != bill.from_utc,
            "grounds/parts": billed[1] > bill.to_utc or not _covered(grounds.parts, billed),
            "grounds/corrects": (document.kind == BILL) != (not grounds.corrects),
        }
        places = [place for place, is_wrong in wrong.items() if is_wrong]
        for place in places:
            self._add("bill-changed", "no bill has this", f"bill {place}")
        return not places

    def _contract(self, document: BillDocument, corrected: BillDocument | None) -> None:
        """What is billed is what was agreed, of a correction: what the contract leaves of the time of the bill.

        `_sensible` has seen that parts and channels are there, unless a correction leaves nothing.
        """
        at, bill = document.grounds.contract, document.bill
        whole = bill if corrected is None else corrected.bill
        row = self._row(at, CONTRACT, bill.basis.contract)
        agreed = None if row is None else self._decoded(at, contract.decode, row)
        if agreed is None:
            return
        channels = document.grounds.channels
        sold = {(part.supplier, part.tariff) for part in document.grounds.parts}
        places = {one.key.usage_point for one in channels}
        wrong = {
            "id": agreed.id != bill.basis.contract,
            "status": not agreed.is_billed,
            "usage point": not places <= {agreed.usage_point},
            "channels": bool(channels) and tuple(one.metered for one in channels) != agreed.channels,
            "meter": not all(one.metered.channel in contract.names_of(_enrolled(one, bill.zone)) for one in channels),
            "tariff": not sold <= {(agreed.supplier, agreed.tariff)},
            "supplier": {supplier for supplier, _ in bill.tariffs} != {agreed.supplier},
            "zone": agreed.zone != bill.zone,
            "period": not agreed.from_utc <= bill.from_utc == whole.from_utc
            or max(agreed.ends_by(whole.to_utc), bill.from_utc) != document.billed_to_utc,
        }
        for what in (what for what, is_wrong in wrong.items() if is_wrong):
            self._add("bill-changed", f"the {what} billed is not that of the contract", f"{name(at)} {what}")

    def _corrects(self, corrected: Sequence[BillDocument]) -> None:
        """What a correction stands on is a bill, then pairs of its corrections."""
        kinds = [BILL, *[REVERSAL, REPLACEMENT] * (len(corrected) // 2)]
        names = {one.bill.corrects for one in corrected[1:]} - {one.bill.basis.id for one in corrected[:1]}
        if corrected and ([one.kind for one in corrected] != kinds or names):
            self._add("bill-changed", "it does not stand on one bill and its corrections", "bill grounds/corrects")

    def _tariff(self, at: Position, named: tuple[str, str]) -> Tariff | None:
        row = self._row(at, TARIFF, named[1])
        tariff = None if row is None else self._decoded(at, tariff_messages.decode, row)
        if tariff is None:
            return None
        if (tariff.supplier, tariff.id) != named:
            self._add("bill-changed", f"tariff {tariff.id} of {tariff.supplier} is not the one billed", name(at))
        return tariff

    def _other(self, at: Position, of: BillDocument) -> BillDocument | None:
        """Another bill of the contract that this one looks at; its own proof says whether it is right."""
        row = self._row(at, BILLS)
        other = None if row is None else self._own_bill(at, row)
        if other is not None and _agreement(other) != _agreement(of):
            self._add("bill-changed", f"{other.bill.basis.id} is a bill of another contract", name(at))
        return other

    # --- readings ----------------------------------------------------------------------------------------------------

    def _readings(self, channel: Channel, document: BillDocument) -> CurrentReadings:
        """A channel's current readings as its entries have them; each row is what the message says of that channel."""
        filed: list[FiledRun] = []
        for at in channel.entries:
            entry = self._entries.get(at)
            if entry is not None:
                rows = [row for row in entry.rows.blocks if row.channel_id == channel.number]
                self._of_channel(at, entry, (channel, rows))
                filed += [FiledRun(entry.recorded_at_utc_ms, at, run) for row in rows for run in _runs(row)]
        filed.sort(key=lambda one: (one.recorded_at_utc_ms, one.position))
        bill = document.bill
        period = bill.from_utc, document.billed_to_utc
        current = current_readings(_enrolled(channel, bill.zone), period, Filed(filed, ()))
        used = set(current.positions)
        for at in channel.entries:
            if at in self._entries and at not in used:
                self._add("bill-version", f"holds no reading of {channel.metered.channel} that was current", name(at))
        return current

    def _of_channel(self, at: Position, entry: Witnessed, mine: tuple[Channel, Sequence[BlockRow]]) -> None:
        channel, rows = mine
        if entry.message is None:
            return  # told by whoever examined it
        for reason in evidence.wrong_blocks(entry.message, rows, {channel.number: channel.key}):
            self._add("rows-changed", f"{channel.metered.channel}: {reason}", name(at))

    # --- the arithmetic ----------------------------------------------------------------------------------------------

    def worked_out(self, document: BillDocument, found: Found) -> None:
        """Each figure of the bill, worked out again."""
        bill = document.bill
        try:
            again = work_out(document.kind, bill.basis, document.grounds, found)
        except PeerFault as error:
            for item in error.items or (Item("bill-wrong", error.reason),):
                self._add("bill-wrong", f"it cannot be worked out: {item.reason}", f"bill {item.path}".strip())
            return
        except _NO_FIGURES as error:
            self._add("bill-wrong", f"it cannot be worked out: {error}", "bill")
            return
        for place, said, right in _differences(json.loads(encode(document)), json.loads(encode(again))):
            self._add("bill-wrong", f"is {said}; worked out anew it is {right}", f"bill {place}")

    def _add(self, code: str, reason: str, path: str) -> None:
        self.items.append(Item(code, reason, path.strip()))


def _agreement(document: BillDocument) -> tuple[str, set[str]]:
    """Contract and supplier of a bill: an id is a contract's alone only with its supplier."""
    return document.bill.basis.contract, {supplier for supplier, _ in document.bill.tariffs}


def _enrolled(channel: Channel, zone: str) -> Enrolled:
    return Enrolled(channel.key, channel.unit, channel.interval_s, zone, id=channel.number)


def _summed(content: str) -> str:
    """A bill's content with the total that its lines have; all else in it can be read."""
    bill = json.loads(content)
    bill["total"] = decimal_text(sum((Decimal(line["amount"]) for line in bill["lines"]), ZERO))
    return write(bill)


def _given(several: Sequence[T | None]) -> list[T]:
    return [one for one in several if one is not None]


def _covered(parts: Sequence[Part], period: tuple[int, int]) -> bool:
    """Whether the parts leave no moment of the period out and none lies outside."""
    reached = period[0]
    for part in sorted(parts, key=lambda one: one.from_utc):
        if not period[0] <= part.from_utc <= reached or not part.from_utc < part.to_utc <= period[1]:
            return False
        reached = max(reached, part.to_utc)
    return reached == period[1]


def _runs(row: BlockRow) -> list[Run]:
    """A row as the run it was made from; nothing when it cannot be read, which whoever examined it has told."""
    try:
        values = leaf.parse_values(row.values)
        qualities = leaf.parse_qualities(row.qualities, len(values))
    except _NO_FIGURES:
        return []
    if len(qualities) != len(values) or row.interval_s <= 0:
        return []
    return [Run(row.channel_id, row.first_interval_end_utc, row.interval_s, values, qualities, row.outcome)]


def _differences(said: Any, again: Any, place: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield where two documents differ, as place and both values; lists of different length are one difference."""
    if isinstance(said, dict):
        for key in said:
            yield from _differences(said[key], again[key], f"{place}/{key}".lstrip("/"))
    elif isinstance(said, list) and len(said) == len(again):
        for index, pair in enumerate(zip(said, again, strict=True)):
            yield from _differences(*pair, f"{place}/{index}")
    elif isinstance(said, list):
        yield place, f"a list of {len(said)}", f"one of {len(again)}"
    elif said != again:
        yield place, _short(said), _short(again)


def _short(value: object) -> str:
    text = write(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
