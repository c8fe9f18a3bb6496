"""What offices and devices ask of the bus, as values: one class a request, decoded from the Body's child.

Floor 1. Frozen values only; `control_messages.py` and `office_messages.py` encode and decode them, `messages.MESSAGES`
names them. Each has the `header` of `model.Message`. Who may ask what is not judged here. Times are UTC seconds where
the name ends in `_utc`, milliseconds in `_utc_ms`; 0 means not stated, and so does an empty text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .controls import Wanted
from .model import Channel, Header

LONGEST_WAIT_S = 300  # of one long poll
MOST_ASKED = 10_000  # largest limit a request may state; the bus's own may be lower


@dataclass(frozen=True, slots=True)
class GetEndDeviceControls:
    """A device's fetch of its next control, or a partner's look at those it issued.

    Attributes:
        after: of a device: the highest counter it knows; 0 first.
        wait_s: of a device: seconds it will wait for one, 0 to 300 (long poll).
        ids: of a partner: mRIDs of controls (the bus's, or its own); none: all.
        states: of a partner: names of `controls.State`; none: all.
        limit: of a partner: most it wants in one answer; 0: the bus's own.
        page: of a partner: what the last answer's ``nextPage`` said; empty: from the start.
    """

    header: Header
    after: int = 0
    wait_s: int = 0
    ids: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    limit: int = 0
    page: str = ""


@dataclass(frozen=True, slots=True)
class CreateEndDeviceControls:
    """An issuer asks for controls; at least one. `expires_utc_ms` 0: it stated none, the bus gives its own."""

    header: Header
    wanted: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True)
class ChangeEndDeviceControls:
    """An issuer puts others in the place of controls it asked for, by its own mRID; only what was not fetched."""

    header: Header
    wanted: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True)
class CancelEndDeviceControls:
    """An issuer takes controls back: mRIDs as in GetEndDeviceControls, at least one; only what was not fetched."""

    header: Header
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """Which readings, events or configurations are asked for; what is empty does not narrow.

    Attributes:
        usage_points, meters: mRIDs.
        reading_types: 18 dotted numbers each, as the channel or register has it.
        from_utc: of interval ends and moments, exclusive; 0: from the first.
        to_utc: inclusive; 0: to the last.
        at: data version ``partition:seq,partition:seq``; empty: as it is now.
        page: what the last answer's ``nextPage`` said; empty: from the start.
        limit: most values wanted in one answer; 0: the bus's own.
        streams: names of streams, where a meter has several.
    """

    usage_points: tuple[str, ...] = ()
    meters: tuple[str, ...] = ()
    reading_types: tuple[str, ...] = ()
    from_utc: int = 0
    to_utc: int = 0
    at: str = ""
    page: str = ""
    limit: int = 0
    streams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GetMeterReadings:
    """What is stored of readings."""

    header: Header
    query: Query


@dataclass(frozen=True, slots=True)
class GetCompleteness:
    """How complete stored readings are over the query's period; page and limit do not narrow."""

    header: Header
    query: Query


@dataclass(frozen=True, slots=True)
class GetEndDeviceEvents:
    """What is stored of events; reading types and streams do not narrow."""

    header: Header
    query: Query


@dataclass(frozen=True, slots=True)
class CreateMeterReadings:
    """Have the IED read again and send; becomes a request-data control, answered later through the mailbox."""

    header: Header
    query: Query


@dataclass(frozen=True, slots=True)
class CancelMeterReadings:
    """Take such a request back: MessageIDs of CreateMeterReadings, at least one."""

    header: Header
    ids: tuple[str, ...]


class MeterConfig(NamedTuple):
    """A meter as it is enrolled: where it hangs, which IED speaks for it, what it measures.

    Attributes:
        meter: mRID.
        usage_point: mRID.
        ied: serial of the IED; empty: not stated.
        channels: each with the two mRIDs above in its key, `unit` the symbol, valid from (inclusive) to (exclusive).
    """

    meter: str
    usage_point: str
    ied: str = ""
    channels: tuple[Channel, ...] = ()


@dataclass(frozen=True, slots=True)
class GetMeterConfig:
    """What is enrolled; only usage points, meters, page and limit (meters a page) narrow."""

    header: Header
    query: Query


@dataclass(frozen=True, slots=True)
class CreateMeterConfig:
    """Enrol meters and channels; at least one."""

    header: Header
    configs: tuple[MeterConfig, ...]


@dataclass(frozen=True, slots=True)
class ChangeMeterConfig:
    """Add channels to enrolled meters, or end those whose `valid_to_utc` is stated; at least one."""

    header: Header
    configs: tuple[MeterConfig, ...]


@dataclass(frozen=True, slots=True)
class PeekMailbox:
    """The mails after the last one committed, in their order; `limit` 0: the bus's own. Nothing is taken away."""

    header: Header
    limit: int = 0


@dataclass(frozen=True, slots=True)
class DequeueMailbox:
    """The consumer's commit: mails up to this number, inclusive, are dealt with."""

    header: Header
    up_to: int


class Mail(NamedTuple):
    """One message in a partner's mailbox.

    Attributes:
        partner: whose.
        kind: ``readings``, ``events``, ``outcome``, ``step``, ``held`` and the like: for the reader's own sorting.
        noun: of the content.
        content: the Body's child as it would have been sent, canonical bytes.
        correlation_id: MessageID of the request it answers, or mRID of the control; empty: none.
        partition, seq, line: the entry (and the row of it) that it tells of; one mail a partner, entry, kind and line.
        made_at_utc_ms: when it was put there.
        number: its place in the mailbox, from 1, rising by 1; 0 before it is there.
    """

    partner: str
    kind: str
    noun: str
    content: bytes
    correlation_id: str = ""
    partition: int = 0
    seq: int = 0
    line: int = 0
    made_at_utc_ms: int = 0
    number: int = 0
