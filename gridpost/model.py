"""The one vocabulary: values after IEC 61968-9, used from the register of a meter to the line of a billing file.

Floor 1. Frozen values only: no behaviour beyond what a value knows of itself, no I/O. Two encodings of them exist: XML
(`messages.py`) and the CSV of readings (`tabular.py`); adapters render and parse foreign formats from these values.

Times: `..._utc` is UTC seconds, `..._utc_ms` UTC milliseconds; an interval is stamped at its *end*. Values are decimal
literals as text (`units.decimal_text`), in the engineering unit of the reading type, transformer ratios applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from .codes import LONGEST_CODE as LONGEST_CODE
from .codes import MISSING_QUALITY as MISSING_QUALITY
from .codes import VALID_QUALITY as VALID_QUALITY
from .codes import Qualities as Qualities
from .codes import Quality as Quality
from .codes import ReadingType as ReadingType
from .codes import is_edited as is_edited
from .codes import is_estimated as is_estimated
from .conditions import Conditions
from .controls import NewControl
from .documents import Document


class ChannelKey(NamedTuple):
    """What names a channel on the wire: mRIDs of usage point and meter, stream name (may be empty), reading type."""

    usage_point: str
    meter: str
    stream: str
    reading_type: str


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as enrolled: one row of ``--channels``, effective-dated.

    Attributes:
        key: its names on the wire; reading_type is that of the intervals.
        unit: symbol, agreeing with the reading type.
        interval_s: interval length in seconds.
        zone: IANA name of the zone whose standard midnight the grid starts at.
        valid_from_utc: first moment the IED speaks for this meter, inclusive.
        valid_to_utc: first moment it no longer does; None while open.
        id: the store's number; 0 outside a store.
    """

    key: ChannelKey
    unit: str
    interval_s: int
    zone: str
    valid_from_utc: int = 0
    valid_to_utc: int | None = None
    id: int = 0

    def holds_at(self, interval_end_utc: int) -> bool:
        """Tell whether the assignment covers an interval that ends then."""
        ends_utc = self.valid_to_utc
        return self.valid_from_utc < interval_end_utc and (ends_utc is None or interval_end_utc <= ends_utc)


@dataclass(frozen=True, slots=True)
class IntervalBlock:
    """Interval values of one channel in columns of equal length, in the order they came.

    Attributes:
        channel: its names.
        interval_s: interval length in seconds; 0 when neither reading type nor channel states it.
        ends_utc: interval ends, UTC seconds.
        values: decimal literals; None is a gap (quality 2.5.259).
        qualities: () is valid.
    """

    channel: ChannelKey
    interval_s: int
    ends_utc: tuple[int, ...]
    values: tuple[str | None, ...]
    qualities: tuple[Qualities, ...]


@dataclass(frozen=True, slots=True)
class RegisterReading:
    """A dial's stand at a moment; `channel.reading_type` is the register's own type."""

    channel: ChannelKey
    time_utc: int
    value: str
    qualities: Qualities = ()


@dataclass(frozen=True, slots=True)
class Readings:
    """What a message or a file of readings holds."""

    blocks: tuple[IntervalBlock, ...] = ()
    registers: tuple[RegisterReading, ...] = ()

    @property
    def count(self) -> int:
        """Number of interval values and register readings."""
        return sum(len(block.ends_utc) for block in self.blocks) + len(self.registers)


@dataclass(frozen=True, slots=True)
class Site:
    """One row of a site table: what a foreign format calls a channel. Empty text means not given."""

    channel: ChannelKey
    custid: str = ""
    recid: str = ""
    uom_code: str = ""
    logical_channel: int = 0
    physical_channel: int = 0
    label: str = ""
    name: str = ""
    address1: str = ""
    address2: str = ""
    account: str = ""
    meter_multiplier: str = ""
    service_type: str = ""
    flow: str = ""
    nem12_suffix: str = ""
    nem12_configuration: str = ""
    nem12_register: str = ""
    nem12_datastream: str = ""
    nem12_next_read: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class EndDeviceEvent:
    """An event of a device, ``deviceType.domain.subDomain.eventOrAction`` (IEC 61968-9 annex E).

    Attributes:
        mrid: the event's own id, empty when the device gave none.
        event_type: four dotted numbers, kept as data.
        created_utc_ms: when it happened.
        asset: mRID of the meter or IED it concerns.
        reason: free text.
        severity: free text.
        details: name -> value.
    """

    mrid: str
    event_type: str
    created_utc_ms: int
    asset: str = ""
    reason: str = ""
    severity: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Header:
    """The IEC 61968-100 header inside the Body.

    Attributes:
        verb: ``created``, ``reply`` ...; noun: ``MeterReadings``, ``EndDeviceEvents``.
        timestamp_utc_ms: when the Body was made.
        source: the sender's id.
        message_id: <= 64 printable ASCII characters.
        correlation_id: the id answered; empty in what answers nothing.
        sequence: per IED, rising; None for foreign senders.
        last_receipt: ``partition:seq:root`` of the newest receipt the device holds; empty when none.
        properties: (name, value) of every other Property, such as ``position``.
    """

    verb: str
    noun: str
    timestamp_utc_ms: int
    source: str
    message_id: str = ""
    correlation_id: str = ""
    sequence: int | None = None
    last_receipt: str = ""
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CreatedMeterReadings:
    """A push of readings."""

    header: Header
    readings: Readings


@dataclass(frozen=True, slots=True)
class CreatedEndDeviceEvents:
    """A push of events."""

    header: Header
    events: tuple[EndDeviceEvent, ...]


Created = CreatedMeterReadings | CreatedEndDeviceEvents  # what devices push, and the log keeps


class Message(Protocol):
    """Whatever stands in a Body: a push of a device, or a request of `requests.py`."""

    @property
    def header(self) -> Header:
        """Who says it, when, and under which id."""


class Reference(NamedTuple):
    """One ds:Reference of a message, echoed in its receipt as AS4 does (ebMS 3.0 section 5.1.8)."""

    uri: str
    transform: str
    prefix_list: str
    digest_algorithm: str
    digest_value: str  # base64, as sent


class Position(NamedTuple):
    """An entry's place in the log. `seq` starts at 0 in each partition."""

    partition: int
    seq: int


DataVersion = Mapping[int, int]  # partition -> greatest seq that counts


class Counts(NamedTuple):
    """What became of a message's interval values, gaps, register readings, events, controls and documents."""

    stored: int
    known: int
    conflicting: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a signed receipt states (DESIGN section 4). Digests and root are raw bytes; recorded_at_utc_ms is ours."""

    message_id: str
    sender: str
    content_digest: bytes
    references: tuple[Reference, ...]
    recorded_at_utc_ms: int
    position: Position
    root_before: bytes
    counts: Counts


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a signed refusal states (decision 17); the digests bind it to one attempt."""

    code: str
    retry: str
    reason: str
    content_digest: bytes
    signature_digest: bytes  # SHA-256 of the SignatureValue's octets
    time_utc_ms: int
    items: tuple[tuple[str, str, str], ...] = ()  # code, reason, path


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Who a certificate is, and for which channels it speaks."""

    sender: str  # the enrolled id (an IED's serial), never the certificate
    certificate: bytes  # DER
    revoked_at_utc_ms: int | None  # None while in force
    channels: tuple[Channel, ...]  # all of the sender's, past and present
    conditions: Conditions | None = None  # what else its new messages must satisfy


@dataclass(frozen=True, slots=True)
class Opened:
    """A verified, schema-valid, decoded message with what binds it.

    Attributes:
        sender: from the enrolment.
        message: decoded from the verified tree only.
        content_digest: SHA-256 of exc-c14n of the Body's one child.
        signature_digest: SHA-256 of the SignatureValue's octets.
        references: as sent.
        created_utc_ms: the Timestamp's Created.
        raw: the bytes as received: the evidence.
    """

    sender: str
    message: Message
    content_digest: bytes
    signature_digest: bytes
    references: tuple[Reference, ...]
    created_utc_ms: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """What the writer is asked to append to the log (DESIGN section 5, decision 5)."""

    sender: str
    message_id: str
    noun: str
    transport: str
    content_digest: bytes
    created_utc_ms: int
    sequence: int | None
    last_receipt: str
    evidence: bytes


class Block(NamedTuple):
    """Interval values resolved to an enrolled channel: a row to be, before the writer compares versions."""

    channel_id: int
    interval_s: int
    ends_utc: tuple[int, ...]
    values: tuple[str | None, ...]
    qualities: tuple[Qualities, ...]


class Register(NamedTuple):
    """A register reading resolved to its interval channel."""

    channel_id: int
    reading_type: str
    time_utc: int
    value: str
    qualities: Qualities


@dataclass(frozen=True, slots=True)
class Rows:
    """What an entry adds to the store of readings, events, controls and documents."""

    blocks: tuple[Block, ...] = ()
    registers: tuple[Register, ...] = ()
    events: tuple[EndDeviceEvent, ...] = ()
    controls: tuple[NewControl, ...] = ()
    documents: tuple[Document, ...] = ()
