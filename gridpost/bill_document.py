"""The document of a bill: the bill itself and what it was worked out from, as canonical JSON that is kept for ever.

Floor 5. In: a `Bill` and its `Grounds`. Out: the content of a document of kind "bill", and back. The grounds name every
entry of the log the bill rests on, so that whoever has those entries can work each line out again (`bill_proof.py`):
contract, tariffs, the entry behind each current reading, earlier bills that count, and the zone's offsets of the time.
Nothing is worked out here but what earlier bills leave to a later one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, NamedTuple

from .applications.bills import Basis, Bill, undone
from .applications.calendar import local_day
from .applications.charges import History, Line, PastPeak
from .applications.determinants import ENERGY, EXPORT, REACTIVE, Metered, Peak
from .canonical_json import Place, decimal_text, read, write
from .model import ChannelKey, DataVersion, Position
from .tariff import ZERO
from .zone_offsets import ListedZone, Offset

VERSION = 1
BILL, REVERSAL, REPLACEMENT = "bill", "reversal", "replacement"
KINDS = (BILL, REVERSAL, REPLACEMENT)


class Part(NamedTuple):
    """A tariff over a stretch of the bill's time: all of it, or up to and from a change.

    Attributes:
        supplier, tariff: names of the tariff; entry: of the log, whose document it is.
        from_utc, to_utc: intervals with from_utc < end <= to_utc.
        share: of a billing cycle; 1 for a whole one.
    """

    supplier: str
    tariff: str
    entry: Position
    from_utc: int
    to_utc: int
    share: Decimal


class Channel(NamedTuple):
    """A channel the bill reads.

    Attributes:
        metered: how the contract counts it; its `channel` is the name in the bill's lists of holes and estimates.
        number: of the channel in the rows of entries.
        key, unit, interval_s: as enrolled.
        entries: of the log, behind each reading that was current, ascending, each once.
    """

    metered: Metered
    number: int
    key: ChannelKey
    unit: str
    interval_s: int
    entries: tuple[Position, ...]


class Earlier(NamedTuple):
    """An earlier bill that a ratchet or a yearly minimum looks at.

    Attributes:
        entry: of the log, whose document it is.
        cycles_ago: 1: the cycle before; 0: its peak does not count.
        in_year: its total counts towards the year's.
    """

    entry: Position
    cycles_ago: int
    in_year: bool


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a bill was worked out from.

    Attributes:
        at: data version of the readings and documents.
        contract: entry of the contract's document.
        parts: in the order of the bill's lines. A correction's end where the contract does, if it was ended within the
            time of the bill corrected; none: it was ended before.
        channels: in the contract's order; none where there is no part.
        offsets: of the bill's zone, over the period of the bill, or of the one it corrects.
        earlier: bills that the history is of; closes_year: this cycle is the year's last.
        corrects: of a reversal or replacement: entries of the bill it corrects and of that one's earlier corrections.
    """

    at: DataVersion
    contract: Position
    parts: tuple[Part, ...]
    channels: tuple[Channel, ...]
    offsets: tuple[Offset, ...]
    earlier: tuple[Earlier, ...] = ()
    closes_year: bool = False
    corrects: tuple[Position, ...] = ()


@dataclass(frozen=True, slots=True)
class BillDocument:
    """A bill as it is kept.

    Attributes:
        kind: ``bill``; ``reversal``: the lines of another bill undone that a correction changed; ``replacement``: the
            lines in their place.
        bill: the bill.
        peak: the highest demand of its period (of the first part that has one), as later bills may need it.
        grounds: what it was worked out from; of a reversal and a replacement: both from the same.
    """

    kind: str
    bill: Bill
    peak: Peak | None
    grounds: Grounds

    @property
    def billed_to_utc(self) -> int:
        """Where the time that is billed ends: a correction may leave less of the bill's time, or nothing."""
        if self.kind == BILL:
            return self.bill.to_utc
        return max((part.to_utc for part in self.grounds.parts), default=self.bill.from_utc)

    @property
    def zone(self) -> ListedZone:
        """The bill's zone, as it was."""
        return ListedZone(self.bill.zone, self.grounds.offsets)


def history(earlier: Sequence[tuple[Earlier, BillDocument]], *, closes_year: bool = False) -> History:
    """Return what earlier bills leave behind for this one."""
    peaks = [(one.cycles_ago, document) for one, document in earlier if one.cycles_ago and document.peak is not None]
    return History(
        tuple(
            PastPeak(ago, local_day(document.bill.from_utc, document.zone).month, document.peak.value)
            for ago, document in peaks
            if document.peak is not None
        ),
        sum((document.bill.total for one, document in earlier if one.in_year), ZERO),
        closes_year,
    )


def standing(documents: Sequence[BillDocument]) -> Bill:
    """Return a bill as its corrections left it: the first one's id and basis, the lines that stand.

    Args:
        documents: the bill, then every reversal and replacement of it, in the order they were made.
    """
    lines: Counter[Line] = Counter(documents[0].bill.lines)
    for document in documents[1:]:
        if document.kind == REVERSAL:
            taken = Counter(document.bill.lines)
            lines -= Counter({line: taken[undone(line)] for line in lines})
        else:
            lines += Counter(document.bill.lines)
    return replace(documents[0].bill, lines=tuple(lines.elements()))


# --- writing ---------------------------------------------------------------------------------------------------------


def encode(document: BillDocument) -> str:
    """Return the content of the bill's document.

    Raises:
        FileInvalid: a figure that is no number.
    """
    bill, grounds = document.bill, document.grounds
    peak = document.peak
    return write(
        {
            "version": VERSION,
            "kind": document.kind,
            "id": bill.basis.id,
            "contract": bill.basis.contract,
            "corrects": bill.corrects,
            "data_version": _version(bill.basis.at),
            "zone_rules": bill.basis.zone_rules,
            "allow": sorted(bill.basis.allow),
            "tariffs": bill.tariffs,
            "currency": bill.currency,
            "from_utc": bill.from_utc,
            "to_utc": bill.to_utc,
            "zone": bill.zone,
            "lines": [_line(line) for line in bill.lines],
            "total": decimal_text(bill.total),
            "marks": bill.marks,
            "missing": bill.missing,
            "estimated": bill.estimated,
            "peak": None if peak is None else {"value": decimal_text(peak.value), "end_utc": peak.end_utc},
            "grounds": {
                "data_version": _version(grounds.at),
                "contract": grounds.contract,
                "parts": [part._asdict() | {"share": decimal_text(part.share)} for part in grounds.parts],
                "channels": [_channel(one) for one in grounds.channels],
                "offsets": grounds.offsets,
                "earlier": [one._asdict() for one in grounds.earlier],
                "closes_year": grounds.closes_year,
                "corrects": grounds.corrects,
            },
        }
    )


def _version(at: DataVersion) -> list[list[int]]:
    return [list(pair) for pair in sorted(at.items())]


def _line(line: Line) -> Mapping[str, Any]:
    numbers = {name: decimal_text(getattr(line, name)) for name in ("quantity", "price", "amount")}
    return line._asdict() | numbers


def _channel(one: Channel) -> Mapping[str, Any]:
    return one._asdict() | {"metered": one.metered._asdict(), "key": one.key._asdict()}


# --- reading ---------------------------------------------------------------------------------------------------------


def decode(text: str) -> BillDocument:
    """Read the content of a bill's document.

    Raises:
        FileInvalid: it is none, or not spelled as `encode` does; the place is named.
    """
    return read(text, _document, encode)


def _document(at: Place) -> BillDocument:
    if at["version"].whole() != VERSION:
        at["version"].refuse(f"{at['version'].value} is not known here, only {VERSION}")
    basis = Basis(
        id=at["id"].text(),
        contract=at["contract"].text(),
        at=_read_version(at["data_version"]),
        zone_rules=at["zone_rules"].text(),
        allow=frozenset(at["allow"].many(Place.text)),
    )
    bill = Bill(
        basis=basis,
        tariffs=at["tariffs"].many(_two_texts),
        currency=at["currency"].text(),
        from_utc=at["from_utc"].whole(),
        to_utc=at["to_utc"].whole(),
        zone=at["zone"].text(),
        lines=at["lines"].many(_read_line),
        marks=at["marks"].many(Place.text),
        missing=at["missing"].many(_moment),
        estimated=at["estimated"].many(_moment),
        corrects=at["corrects"].text(),
    )
    if at["total"].decimal() != bill.total:
        at["total"].refuse(f"{at['total'].value} is not the sum of the lines, {decimal_text(bill.total)}")
    peak = at["peak"].maybe(lambda one: Peak(one["value"].decimal(), one["end_utc"].whole()))
    return BillDocument(at["kind"].one_of(KINDS), bill, peak, _grounds(at["grounds"]))


def _grounds(at: Place) -> Grounds:
    return Grounds(
        at=_read_version(at["data_version"]),
        contract=_position(at["contract"]),
        parts=at["parts"].many(_part),
        channels=at["channels"].many(_read_channel),
        offsets=at["offsets"].many(lambda one: Offset(*one.wholes(3))),
        earlier=at["earlier"].many(
            lambda one: Earlier(_position(one["entry"]), one["cycles_ago"].whole(), one["in_year"].flag())
        ),
        closes_year=at["closes_year"].flag(),
        corrects=at["corrects"].many(_position),
    )


def _part(at: Place) -> Part:
    times = at["from_utc"].whole(), at["to_utc"].whole()
    names = at["supplier"].text(), at["tariff"].text()
    return Part(*names, _position(at["entry"]), *times, at["share"].decimal())


def _read_channel(at: Place) -> Channel:
    metered, key = at["metered"], at["key"]
    sign = metered["sign"].whole()
    if sign not in (1, -1):
        metered["sign"].refuse("is neither 1 nor -1")
    return Channel(
        Metered(metered["channel"].text(), metered["measure"].one_of((ENERGY, EXPORT, REACTIVE)), sign),
        at["number"].whole(),
        ChannelKey(*(key[name].text() for name in ChannelKey._fields)),
        at["unit"].text(),
        at["interval_s"].whole(),
        at["entries"].many(_position),
    )


def _read_line(at: Place) -> Line:
    return Line(
        kind=at["kind"].text(),
        name=at["name"].text(),
        period=at["period"].maybe(Place.whole),
        tier=at["tier"].maybe(Place.whole),
        quantity=at["quantity"].decimal(),
        unit=at["unit"].text(),
        price=at["price"].decimal(),
        amount=at["amount"].decimal(),
        spans=at["spans"].many(_pair),
    )


def _read_version(at: Place) -> DataVersion:
    return dict(at.many(_pair))


def _position(at: Place) -> Position:
    return Position(*_pair(at))


def _pair(at: Place) -> tuple[int, int]:
    first, second = at.wholes(2)
    return first, second


def _two_texts(at: Place) -> tuple[str, str]:
    first, second = at.exactly(2)
    return first.text(), second.text()


def _moment(at: Place) -> tuple[str, int]:
    channel, end_utc = at.exactly(2)
    return channel.text(), end_utc.whole()
