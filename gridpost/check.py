"""check: may this sender say this, now? The business rules on a verified, decoded, *new* message.

Floor 4. In: a message, the sender's channels, the moment. Out: the rows to record, every name resolved to a channel,
or a refusal that lists each finding. All or nothing: one bad reading refuses the message (DESIGN section 4). A repeat
never comes here (decision 2). Values are not judged: a negative or absurd reading is stored as sent and is validation's
to flag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from . import exchange
from .encrypted_readings import CreatedEncryptedReadings
from .errors import (
    CertificateNotAccepted,
    FileInvalid,
    Item,
    MessageFromFuture,
    MessageStale,
    ReadingInFuture,
    ReadingsRefused,
    UnknownOperation,
)
from .model import (
    Block,
    Channel,
    ChannelKey,
    CreatedEndDeviceEvents,
    CreatedMeterReadings,
    EndDeviceEvent,
    Enrolment,
    IntervalBlock,
    Message,
    Opened,
    ReadingType,
    Register,
    RegisterReading,
    Rows,
)
from .ports import ZoneOf
from .units import format_utc, is_contiguous, on_grid, standard_offset

MINUTE_MS, DAY_MS, DAY_S = 60_000, 86_400_000, 86_400
FUTURE_MS = MINUTE_MS  # of a Timestamp and of an interval's end, alike on every transport
MAX_ITEMS = 100


class Transport(NamedTuple):
    """How old a new message may be on a way in, and whether its certificate must still be valid on arrival."""

    name: str
    age_ms: int
    certificate_now: bool


HTTP = Transport("http", 15 * MINUTE_MS, certificate_now=True)
MAIL = Transport("mail", 7 * DAY_MS, certificate_now=False)
FILES = Transport("files", 7 * DAY_MS, certificate_now=False)
RELAY = Transport("relay", 400 * DAY_MS, certificate_now=False)


def check_moment(opened: Opened, enrolment: Enrolment, transport: Transport, now_utc_ms: int) -> None:
    """Judge a new message's signer and Timestamp at `now` (decision 2).

    Raises:
        CertificateNotAccepted: revoked, or expired where the transport insists.
        MessageStale, MessageFromFuture: the Timestamp's Created against now.
    """
    if enrolment.revoked_at_utc_ms is not None and enrolment.revoked_at_utc_ms <= now_utc_ms:
        raise CertificateNotAccepted("the certificate was revoked")
    if transport.certificate_now and not exchange.valid_at(enrolment.certificate, now_utc_ms):
        raise CertificateNotAccepted("the certificate has expired")
    age_ms = now_utc_ms - opened.created_utc_ms
    if age_ms > transport.age_ms:
        raise MessageStale(
            f"the Timestamp is {age_ms // 1000} s old; {transport.name} takes {transport.age_ms // 1000} s"
        )
    if -age_ms > FUTURE_MS:
        raise MessageFromFuture(f"the Timestamp lies {-age_ms // 1000} s in the future")


def check(message: Message, channels: Sequence[Channel], now_utc_ms: int, zone_of: ZoneOf) -> Rows:
    """Resolve a message's content to channels and return the rows to record.

    Args:
        message: verified and decoded.
        channels: all of the sender's, past and present.
        now_utc_ms: reception.
        zone_of: IANA name -> zone.

    Raises:
        ReadingInFuture: the only fault is an interval, register reading or event more than 60 s ahead of us.
        UnknownOperation: it is no push.
        ReadingsRefused: unknown or ambiguous channel, not assigned at the interval's end, off its grid; itemised.
    """
    checking = _Checking(_by_names(channels), now_utc_ms, zone_of)
    if isinstance(message, CreatedMeterReadings):
        blocks = [row for block in message.readings.blocks for row in checking.block(block)]
        registers = [row for register in message.readings.registers for row in checking.register(register)]
        rows = Rows(tuple(blocks), tuple(registers))
    elif isinstance(message, CreatedEndDeviceEvents):
        rows = Rows(events=tuple(event for event in message.events if checking.event(event)))
    elif isinstance(message, CreatedEncryptedReadings):
        rows = Rows()  # nothing that the bus can read: the entry itself is what is kept
    else:
        raise UnknownOperation(detail=f"{type(message).__name__} is no push")
    checking.refuse()
    return rows


Names = tuple[str, str]  # usage point, meter


def _by_names(channels: Sequence[Channel]) -> Mapping[Names, list[Channel]]:
    grouped: dict[Names, list[Channel]] = {}
    for channel in channels:
        grouped.setdefault(channel.key[:2], []).append(channel)
    return grouped


class _Checking:
    """One message under examination; collects findings so that the refusal names them all."""

    def __init__(self, by_names: Mapping[Names, list[Channel]], now_utc_ms: int, zone_of: ZoneOf) -> None:
        self._by_names = by_names
        self._latest_utc = (now_utc_ms + FUTURE_MS) // 1000
        self._zone_of = zone_of
        self._items: list[Item] = []

    def refuse(self) -> None:
        if not self._items:
            return
        first, shown = self._items[0], self._items[:MAX_ITEMS]
        only_future = all(item.code == ReadingInFuture.code for item in self._items)
        leaf = ReadingInFuture if only_future else ReadingsRefused
        raise leaf(f"{len(self._items)} finding(s); the first: {first.reason}", items=shown)

    def block(self, block: IntervalBlock) -> Iterator[Block]:
        found = self._channels(block.channel, lambda channel: channel.key.reading_type == block.channel.reading_type)
        if not found or not block.ends_utc:
            return
        self._refuse_future(block.channel, max(block.ends_utc))
        taken = 0
        for channel in found:
            held = _held(channel, block.ends_utc)
            taken += len(held)
            whole = len(held) == len(block.ends_utc)
            self._check_grid(channel, block.ends_utc if whole else [block.ends_utc[index] for index in held])
            if whole:
                yield Block(channel.id, channel.interval_s, block.ends_utc, block.values, block.qualities)
            elif held:
                yield _part(block, channel, held)
        if taken < len(block.ends_utc):
            orphan = next(end for end in block.ends_utc if not any(channel.holds_at(end) for channel in found))
            self._not_assigned(block.channel, orphan)

    def register(self, reading: RegisterReading) -> Iterator[Register]:
        try:
            reading_type = _reading_type(reading.channel.reading_type)
        except FileInvalid as error:
            self._add("unknown-channel", error.reason, reading.channel)
            return
        found = self._channels(
            reading.channel, lambda channel: reading_type.reads_register_of(_reading_type(channel.key.reading_type))
        )
        self._refuse_future(reading.channel, reading.time_utc)
        # A dial read at the very moment of assignment belongs to the new holder, unlike an interval that ends then.
        holders = [channel for channel in found if channel.holds_at(reading.time_utc + 1)] or [
            channel for channel in found if channel.holds_at(reading.time_utc)
        ]
        if holders:
            yield Register(
                holders[0].id, reading.channel.reading_type, reading.time_utc, reading.value, reading.qualities
            )
        elif found:
            self._not_assigned(reading.channel, reading.time_utc)

    def event(self, event: EndDeviceEvent) -> bool:
        future = event.created_utc_ms // 1000 > self._latest_utc
        if future:
            self._items.append(Item(ReadingInFuture.code, f"event {event.event_type} lies in the future", event.mrid))
        return not future

    def _channels(self, key: ChannelKey, is_type: Callable[[Channel], bool]) -> list[Channel]:
        """The effective-dated rows of one channel; a stream name may be left out where it is not needed to tell."""
        same = [channel for channel in self._by_names.get(key[:2], ()) if is_type(channel)]
        named = [channel for channel in same if channel.key.stream == key.stream]
        found = named or ([] if key.stream else same)
        if not found:
            self._add("unknown-channel", f"no channel {_name(key)} is enrolled for this IED", key)
        elif len({channel.key.stream for channel in found}) > 1:
            self._add("ambiguous-channel", f"{_name(key)} needs its stream name", key)
            return []
        return found

    def _refuse_future(self, key: ChannelKey, latest_utc: int) -> None:
        if latest_utc > self._latest_utc:
            self._add(ReadingInFuture.code, f"{_name(key)} ends at {format_utc(latest_utc)}, in the future", key)

    def _check_grid(self, channel: Channel, ends_utc: Sequence[int]) -> None:
        if not ends_utc:
            return
        zone, interval_s = self._zone_of(channel.zone), channel.interval_s
        # The standard offset is the same all through a block but in the rare year a country changes it.
        first = standard_offset(zone, min(ends_utc))
        if first != standard_offset(zone, max(ends_utc)):
            off = [end for end in ends_utc if not on_grid(end, interval_s, zone)]
        elif DAY_S % interval_s == 0 and is_contiguous(ends_utc, interval_s):
            # Whole intervals lead from one end on the grid to the next, and from one off it to another off it.
            off = list(ends_utc) if (ends_utc[0] + first) % interval_s else []
        else:
            off = [end for end in ends_utc if (end + first) % DAY_S % interval_s]
        if off:
            grid = f"the {interval_s} s grid of {channel.zone}"
            reason = f"{len(off)} interval(s) of {_name(channel.key)} off {grid}, the first at {format_utc(off[0])}"
            self._add("off-grid", reason, channel.key)

    def _not_assigned(self, key: ChannelKey, utc: int) -> None:
        self._add("not-assigned", f"{_name(key)} is not this IED's at {format_utc(utc)}", key)

    def _add(self, code: str, reason: str, key: ChannelKey) -> None:
        self._items.append(Item(code, reason, _name(key)))


# Every register is held against every channel of its meter, and few types ever occur.
_reading_type = lru_cache(maxsize=1024)(ReadingType.parse)


def _held(channel: Channel, ends_utc: Sequence[int]) -> Sequence[int]:
    """Return which intervals the assignment covers: all, where it covers the first and the last."""
    if channel.holds_at(min(ends_utc)) and channel.holds_at(max(ends_utc)):
        return range(len(ends_utc))
    return [index for index, end in enumerate(ends_utc) if channel.holds_at(end)]


def _part(block: IntervalBlock, channel: Channel, held: Sequence[int]) -> Block:
    return Block(
        channel.id,
        channel.interval_s,
        tuple(block.ends_utc[index] for index in held),
        tuple(block.values[index] for index in held),
        tuple(block.qualities[index] for index in held),
    )


def _name(key: ChannelKey) -> str:
    return "/".join(part or "-" for part in key)
