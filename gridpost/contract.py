"""Contracts: who buys what of whom, at which usage point, counted by which channels; value <-> canonical JSON.

Floor 5, pure. In: a contract and the channels of its usage point. Out: which channel stands for what over a period; the
content of a document of kind "contract", and back. Several contracts may be in force at once at one usage point, such
as one for energy and one for distribution (F65). A contract is never changed: a later version of its document stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from .applications.calendar import Period
from .applications.determinants import ENERGY, EXPORT, REACTIVE, Metered
from .canonical_json import Place, read, write
from .codes import ReadingType
from .errors import BillRefused, ConfigInvalid, Item
from .model import Channel
from .tariff import KINDS, stand_side_by_side
from .units import format_utc

VERSION = 1
REQUESTED, CONFIRMED, REJECTED, ENDED = STATES = ("requested", "confirmed", "rejected", "ended")
LONGEST_ID = 64  # the ids of its bills are made of it
_CYCLE_DAYS = range(1, 32)
# Each place with its lowest character and what a refusal adds; files of tariffs name suppliers in words.
_NAMES = (
    ("id", "!", " without a space"),
    ("usage_point", "!", " without a space"),
    ("supplier", " ", ""),
    ("tariff", " ", ""),
)
# (flow direction, unit without its prefix) -> what the channel measures (IEC 61968-9 annex C: 1 forward, 19 reverse).
_MEASURES = {(1, "Wh"): ENERGY, (19, "Wh"): EXPORT, (1, "varh"): REACTIVE}


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract.

    Attributes:
        id: unique for its supplier; customer: who pays; usage_point: mRID.
        channels: what counts. A channel is named by its stream, its reading type, or either behind its meter's mRID
            and a slash; one that moves to another meter keeps its name where the meter is left out.
        supplier, tariff: partner id and the tariff's id; kind: of tariff.KINDS.
        from_utc: first moment, to_utc: first moment no longer, UTC seconds; None: no end.
        zone: IANA name, as the tariff's; cycle_day: of the month on which a billing cycle begins, 1 to 31; a shorter
            month begins its own on its last day.
        status: of STATES; reason: why it was rejected or ended; may be empty.
    """

    id: str
    customer: str
    usage_point: str
    channels: tuple[Metered, ...]
    supplier: str
    tariff: str
    kind: str
    from_utc: int
    to_utc: int | None
    zone: str
    cycle_day: int = 1
    status: str = CONFIRMED
    reason: str = ""

    @property
    def is_billed(self) -> bool:
        """Whether it is, or was, in force."""
        return self.status in (CONFIRMED, ENDED)

    def covers(self, from_utc: int, to_utc: int) -> bool:
        """Tell whether it holds over all of a stretch of time."""
        return self.from_utc <= from_utc and self.ends_by(to_utc) == to_utc

    def ends_by(self, to_utc: int) -> int:
        """Return where a stretch of time that goes up to a moment ends for it: there, or where the contract does."""
        return to_utc if self.to_utc is None else min(to_utc, self.to_utc)

    def rivals(self, other: Contract) -> bool:
        """Tell whether both would sell the same at one place and time: two energies, or one of them and both in one.

        Energy and distribution stand side by side (F65); two versions of one contract are no rivals.
        """
        at_one_place = self.usage_point == other.usage_point and self.is_billed and other.is_billed
        same = (self.supplier, self.id) == (other.supplier, other.id)
        overlap = self._begins_before_the_end_of(other) and other._begins_before_the_end_of(self)
        return at_one_place and not same and overlap and not stand_side_by_side(self.kind, other.kind)

    def _begins_before_the_end_of(self, other: Contract) -> bool:
        return other.to_utc is None or self.from_utc < other.to_utc


def check(contract: Contract) -> None:
    """Refuse a contract that could not be billed, whatever its readings.

    Raises:
        ConfigInvalid: each place is listed.
    """
    items = [Item("bad-contract", reason, place) for place, reason in _wrong(contract)]
    if items:
        raise ConfigInvalid(f"{items[0].path}: {items[0].reason}", items=items)


def _wrong(contract: Contract) -> Iterator[tuple[str, str]]:
    for place, blank, told in _NAMES:
        text = getattr(contract, place)
        if not 1 <= len(text) <= LONGEST_ID or not all(blank <= character <= "~" for character in text):
            yield place, f"must be 1 to {LONGEST_ID} printable ASCII characters{told}"
    if contract.to_utc is not None and contract.to_utc <= contract.from_utc:
        yield "to_utc", f"it ends at {format_utc(contract.to_utc)}, before it begins"
    if contract.cycle_day not in _CYCLE_DAYS:
        yield "cycle_day", f"{contract.cycle_day} is not 1 to 31"
    for place, text, known in (("kind", contract.kind, KINDS), ("status", contract.status, STATES)):
        if text not in known:
            yield place, f"{text!r} is none of {', '.join(known)}"
    if all(one.measure != ENERGY for one in contract.channels):
        yield "channels", "none of them counts energy"
    names = sorted(one.channel for one in contract.channels)
    for name, same in groupby(names):
        if len(list(same)) > 1:
            yield "channels", f"{name} stands twice"


def names_of(channel: Channel) -> tuple[str, ...]:
    """Return what a contract may call a channel of its usage point, shortest first."""
    key = channel.key
    own = [text for text in (key.stream, key.reading_type) if text]
    return (*own, *(f"{key.meter}/{text}" for text in own))


def metered_by(channels: Sequence[Channel]) -> tuple[Metered, ...]:
    """Return what the channels of a usage point stand for where nobody says: energy taken, sent out, reactive.

    Channels of other units are left out. Each gets the shortest name that is its alone.
    """
    found = []
    for one in channels:
        measure = _measure(one)
        others = {name for other in channels if other.key != one.key for name in names_of(other)}
        name = next((name for name in names_of(one) if name not in others), "")
        if measure and name:
            found.append(Metered(name, measure))
    return tuple(dict.fromkeys(found))


def _measure(channel: Channel) -> str:
    flow = ReadingType.parse(channel.key.reading_type).flow_direction
    unit = next((unit for unit in ("varh", "Wh") if channel.unit.endswith(unit)), "")
    return _MEASURES.get((flow, unit), "")


def resolved(contract: Contract, channels: Sequence[Channel], period: Period) -> tuple[tuple[Metered, Channel], ...]:
    """Return the channel that stands behind each of the contract's over a period, in the contract's order.

    Args:
        contract: whose.
        channels: of its usage point, past and present.
        period: all of which one assignment must cover.

    Raises:
        BillRefused: none does, or several do; itemised.
    """
    found, items = [], []
    for metered in contract.channels:
        named = [one for one in channels if metered.channel in names_of(one)]
        whole = [one for one in named if _covers(one, period)]
        if len(whole) == 1:
            found.append((metered, whole[0]))
        else:
            items.append(Item("bad-channel", _why(metered.channel, named, whole), metered.channel))
    if items:
        raise BillRefused(f"{items[0].reason}", items=items)
    return tuple(found)


def _covers(channel: Channel, period: Period) -> bool:
    ends_utc = channel.valid_to_utc
    return channel.valid_from_utc <= period.from_utc and (ends_utc is None or period.to_utc <= ends_utc)


def _why(name: str, named: Sequence[Channel], whole: Sequence[Channel]) -> str:
    if whole:
        return f"channel {name} could be that of {' or '.join(sorted(one.key.meter for one in whole))}"
    if named:
        return f"no one meter has channel {name} all through the period; bill the parts before and after by themselves"
    return f"the usage point has no channel {name}"


# --- content ---------------------------------------------------------------------------------------------------------


def encode(contract: Contract) -> str:
    """Return the content of the contract's document."""
    fields = {name: getattr(contract, name) for name in Contract.__slots__}
    return write(fields | {"version": VERSION, "channels": [one._asdict() for one in contract.channels]})


def decode(text: str) -> Contract:
    """Read the content of a contract's document.

    Raises:
        FileInvalid: it is none, or not spelled as `encode` does; the place is named.
    """
    return read(text, _contract, encode)


def _contract(at: Place) -> Contract:
    if at["version"].whole() != VERSION:
        at["version"].refuse(f"{at['version'].value} is not known here, only {VERSION}")
    return Contract(
        id=at["id"].text(),
        customer=at["customer"].text(),
        usage_point=at["usage_point"].text(),
        channels=at["channels"].many(_metered),
        supplier=at["supplier"].text(),
        tariff=at["tariff"].text(),
        kind=at["kind"].one_of(KINDS),
        from_utc=at["from_utc"].whole(),
        to_utc=at["to_utc"].maybe(Place.whole),
        zone=at["zone"].text(),
        cycle_day=at["cycle_day"].whole(),
        status=at["status"].one_of(STATES),
        reason=at["reason"].text(),
    )


def _metered(at: Place) -> Metered:
    sign = at["sign"].whole()
    if sign not in (1, -1):
        at["sign"].refuse("is neither 1 nor -1")
    return Metered(at["channel"].text(), at["measure"].one_of((ENERGY, EXPORT, REACTIVE)), sign)
