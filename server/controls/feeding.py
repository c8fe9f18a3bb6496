"""What partners get of the log without asking: readings and events of the usage points they are granted. Pure.

In: rows of entries, channels, grants. Out: mails, one an entry, kind and partner, in the order of the log. A value is
in a mail only where a grant of its kind covers its interval's end, an event where one covers its moment; what is in
conflict with the current version is not told (DESIGN 4). What must not be done here: widening: an event of a whole IED
goes to who is granted one of its usage points at that time, and to nobody by the tenant alone.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from gridpost import messages, ns
from gridpost.controls import DETAIL_ACTION, DETAIL_CONTROL, DETAIL_COUNTER, DETAIL_METER, OUTCOME_EVENT, Control
from gridpost.encoding import octets
from gridpost.encrypted_readings import NOUN as ENCRYPTED
from gridpost.model import (
    Channel,
    ChannelKey,
    CreatedEndDeviceEvents,
    CreatedMeterReadings,
    EndDeviceEvent,
    Header,
    IntervalBlock,
    Position,
    Quality,
    Readings,
    ReadingType,
    Register,
    RegisterReading,
)
from gridpost.partners import Grant, kind_of
from gridpost.ports import EntryHeader, StoredBlock
from gridpost.requests import Mail
from gridpost.versions import CONFLICT

from ..store import StoredEvent, StoredRegister
from .telling import only_meter

READINGS, EVENTS, COMMANDS, SEALED = "readings", "events", "commands", "sealed-readings"


class Sealed(NamedTuple):
    """A message whose parts are encrypted: of which kinds they are, and all of it as its device sealed it."""

    kinds: frozenset[str]
    raw: bytes


class Rows(NamedTuple):
    """What entries brought."""

    blocks: Sequence[StoredBlock] = ()
    registers: Sequence[StoredRegister] = ()
    events: Sequence[StoredEvent] = ()
    sealed: Mapping[Position, Sealed] = MappingProxyType({})

    def of(self, position: Position) -> Rows:
        """Return what one entry brought."""
        return Rows(
            [one for one in self.blocks if one.position == position],
            [one for one in self.registers if one.position == position],
            [one for one in self.events if one.position == position],
            {position: self.sealed[position]} if position in self.sealed else {},
        )

    @property
    def is_empty(self) -> bool:
        """Whether they brought nothing."""
        return not any(self)


class Granted(NamedTuple):
    """Who may see what.

    Attributes:
        channels: number -> channel.
        of_sender: IED -> its channels, past and present.
        grants: usage point -> all partners' grants on it.
        partners: ids of those that are partners now.
        controls: mRID -> control, of those that outcomes name; its issuer is told the outcome anyway.
    """

    channels: Mapping[int, Channel]
    of_sender: Mapping[str, Sequence[Channel]]
    grants: Mapping[str, Sequence[Grant]]
    partners: frozenset[str]
    controls: Mapping[str, Control]


def mails(headers: Sequence[EntryHeader], rows: Rows, granted: Granted, bus_id: str) -> Iterator[Mail]:
    """Yield the mails of some entries, in their order."""
    for header in headers:
        here = rows.of(header.position)
        yield from _readings(header, here, granted, bus_id)
        yield from _events(header, here, granted, bus_id)
        yield from _sealed(header, here, granted)


def _readings(header: EntryHeader, rows: Rows, granted: Granted, bus_id: str) -> Iterator[Mail]:
    blocks: dict[str, list[IntervalBlock]] = {}
    registers: dict[str, list[RegisterReading]] = {}
    for row in rows.blocks:
        channel = granted.channels[row.channel_id]
        for partner, grants in _by_partner(channel.key, granted):
            seen = _seen(row, channel, grants)
            if seen.ends_utc:
                blocks.setdefault(partner, []).append(seen)
    for one in rows.registers:
        key = granted.channels[one.register.channel_id].key
        for partner, grants in _by_partner(key, granted):
            if one.outcome != CONFLICT and any(grant.holds_at(one.register.time_utc) for grant in grants):
                registers.setdefault(partner, []).append(_register(one.register, key))
    for partner in sorted(blocks.keys() | registers.keys()):
        readings = Readings(tuple(blocks.get(partner, ())), tuple(registers.get(partner, ())))
        stated = _header(header, "MeterReadings", READINGS, bus_id)
        content = messages.encode(CreatedMeterReadings(stated, readings))
        yield Mail(partner, READINGS, "MeterReadings", content, "", *header.position)


def _seen(row: StoredBlock, channel: Channel, grants: Sequence[Grant]) -> IntervalBlock:
    """The part of a row that grants cover."""
    ends = range(
        row.first_interval_end_utc, row.first_interval_end_utc + len(row.values) * row.interval_s, row.interval_s
    )
    kept = [
        (end, value, tuple(Quality(*quality) for quality in qualities))
        for end, value, qualities in zip(ends, row.values, row.qualities, strict=True)
        if row.outcome != CONFLICT and any(grant.holds_at(end) for grant in grants)
    ]
    columns = tuple(zip(*kept, strict=True)) or ((), (), ())
    return IntervalBlock(channel.key, row.interval_s, *columns)


def _register(one: Register, channel: ChannelKey) -> RegisterReading:
    key = channel._replace(reading_type=one.reading_type)
    return RegisterReading(key, one.time_utc, one.value, one.qualities)


def _by_partner(key: ChannelKey, granted: Granted) -> Iterator[tuple[str, list[Grant]]]:
    kind = kind_of(ReadingType.parse(key.reading_type).measurement_kind)
    return _partners((key.usage_point,), kind, granted)


def _partners(usage_points: Iterable[str], kind: str, granted: Granted) -> Iterator[tuple[str, list[Grant]]]:
    """Yield each partner with its grants of a kind on any of some usage points."""
    found: dict[str, list[Grant]] = {}
    for usage_point in usage_points:
        for grant in granted.grants.get(usage_point, ()):
            if grant.kind == kind and grant.partner in granted.partners:
                found.setdefault(grant.partner, []).append(grant)
    yield from sorted(found.items())


def _events(header: EntryHeader, rows: Rows, granted: Granted, bus_id: str) -> Iterator[Mail]:
    told: dict[tuple[str, str], list[EndDeviceEvent]] = {}
    for event in (one.event for one in rows.events):
        kind = COMMANDS if event.event_type == OUTCOME_EVENT else EVENTS
        utc = event.created_utc_ms // 1000
        for partner, grants in _partners(_concerned(header.sender, event, granted), kind, granted):
            about = granted.controls.get(event.details.get(DETAIL_CONTROL, ""))
            is_issuer = about is not None and about.issuer == partner
            if not is_issuer and any(grant.holds_at(utc) for grant in grants):
                told.setdefault((partner, kind), []).append(_explained(event, header.sender, about, granted))
    for (partner, kind), events in sorted(told.items()):
        stated = _header(header, "EndDeviceEvents", kind, bus_id)
        content = messages.encode(CreatedEndDeviceEvents(stated, tuple(events)))
        yield Mail(partner, kind, "EndDeviceEvents", content, "", *header.position)


def _sealed(header: EntryHeader, rows: Rows, granted: Granted) -> Iterator[Mail]:
    """Hand a message on as it was sealed: nobody can part it, so only to who is granted all it may be about.

    That is a kind of one of its parts, now, on each usage point that its IED speaks for; of the period of what is
    inside the bus knows nothing. What one cannot read is encrypted for others.
    """
    utc = header.recorded_at_utc_ms // 1000
    theirs = granted.of_sender.get(header.sender, ())
    points = {channel.key.usage_point for channel in theirs if channel.holds_at(utc)}
    for one in rows.sealed.values():
        seen = {
            (partner, point)
            for point in points
            for kind in one.kinds
            for partner, grants in _partners((point,), kind, granted)
            if any(grant.holds_at(utc) for grant in grants)
        }
        whole = {partner for partner, _ in seen if {(partner, point) for point in points} <= seen}
        content = octets(
            f'<SealedReadings xmlns="{ns.ENCRYPTED_READINGS}">{base64.b64encode(one.raw).decode()}</SealedReadings>'
        )
        for partner in sorted(whole):
            yield Mail(partner, SEALED, ENCRYPTED, content, "", *header.position)


def _explained(event: EndDeviceEvent, sender: str, about: Control | None, granted: Granted) -> EndDeviceEvent:
    """Add to an outcome what was to be done and at which meter; to another IED's word, or a wrong one, nothing."""
    if about is None or (sender, event.details.get(DETAIL_COUNTER)) != (about.target, str(about.counter)):
        return event
    meter = only_meter(granted.of_sender.get(sender, ()), event.created_utc_ms // 1000)
    more = {DETAIL_ACTION: about.action, DETAIL_METER: meter}
    return replace(event, details={**event.details, **{name: text for name, text in more.items() if text}})


def _concerned(sender: str, event: EndDeviceEvent, granted: Granted) -> set[str]:
    """The usage points an event is about: its meter's, or all that the IED spoke for at that time."""
    utc = event.created_utc_ms // 1000
    theirs = [channel for channel in granted.of_sender.get(sender, ()) if channel.holds_at(utc)]
    of_meter = {channel.key.usage_point for channel in theirs if channel.key.meter == event.asset}
    return of_meter or {channel.key.usage_point for channel in theirs if event.asset in ("", sender)}


def _header(entry: EntryHeader, noun: str, kind: str, bus_id: str) -> Header:
    place = f"{entry.position.partition}-{entry.position.seq}"
    return Header("created", noun, entry.recorded_at_utc_ms, bus_id, f"{kind}-{place}")
