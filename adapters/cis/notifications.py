"""MultiSpeak notifications to a customer information system: readings, intervals, events, states of a switch.

In: our values. Out: the Body's child in exclusive canonical form, and a list of what MultiSpeak has no place for. Pure:
the same values give the same bytes. Which element is what, and what is lost, is written in README.md. Times are UTC
with Z; an interval is named by its *start* there, and `_start_utc` is the one function that says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from gridpost.controls import (
    DETAIL_ACTION,
    DETAIL_CONTROL,
    DETAIL_METER,
    DETAIL_OUTCOME,
    DETAIL_TRACKING,
    FINAL,
    OUTCOME_EVENT,
    Control,
    State,
    transaction_of,
)
from gridpost.encoding import attribute, octets, text_of
from gridpost.errors import CannotRepresent, FileInvalid, Item
from gridpost.model import EndDeviceEvent, IntervalBlock, Qualities, Readings, ReadingType, RegisterReading
from gridpost.units import format_utc, format_utc_ms

from .tables import KNOWN_AFTER, LOAD_ACTION, UNKNOWN, UOM, Version

SEPARATORS = (",", ";", "|", "\t")
STATUS_DELIMITER, INTERVAL_DELIMITER, QUALITY_JOIN = "|", ",", "+"
FIELDS = ("meterNo", "usagePoint", "channel", "readingType", "readingDateTime", "value", "quality")
_WHOLE = frozenset("0123456789")
_ENERGY, _FORWARD, _REVERSE, _KILO_WH = 12, 1, 19, (3, 72)


class Notification(NamedTuple):
    """A message: the operation's name, its bytes, and each thing that it could not hold."""

    operation: str
    content: bytes
    losses: tuple[Item, ...] = ()


def _message(version: Version, operation: str, content: str, losses: Iterable[Item] = ()) -> Notification:
    return Notification(operation, octets(f'<{operation} xmlns="{version}">{content}</{operation}>'), tuple(losses))


def _text(name: str, value: str) -> str:
    return f"<{name}>{text_of(value)}</{name}>" if value else ""


# --- register readings -----------------------------------------------------------------------------------------------


def reading_changed(registers: Sequence[RegisterReading], version: Version, transaction_id: str) -> Notification:
    """Return ReadingChangedNotification: one meterRead (3.0) or meterReading (4.1) a meter and moment.

    Lost: usage points (always), and qualities (listed).

    Raises:
        CannotRepresent: no reading at all, or a text that XML cannot hold.
    """
    if not registers:
        raise CannotRepresent("a ReadingChangedNotification without a reading says nothing")
    grouped: dict[tuple[str, int], list[RegisterReading]] = {}
    for one in registers:
        grouped.setdefault((one.channel.meter, one.time_utc), []).append(one)
    render = _meter_read if version is Version.V3 else _meter_reading
    reads = "".join(render(meter, time_utc, same) for (meter, time_utc), same in grouped.items())
    content = f"<changedMeterReads>{reads}</changedMeterReads>{_text('transactionID', transaction_id)}"
    return _message(version, "ReadingChangedNotification", content, _lost(registers))


def _meter_read(meter: str, time_utc: int, readings: Sequence[RegisterReading]) -> str:
    moment = format_utc(time_utc)
    values = "".join(
        f"<readingValue>{_units(one.channel.reading_type)}<value>{one.value}</value>"
        f"{_text('readingType', one.channel.reading_type)}{_text('name', one.channel.stream)}"
        f"<dateTime>{moment}</dateTime></readingValue>"
        for one in readings
    )
    return (
        f"<meterRead>{_text('meterNo', meter)}<readingDate>{moment}</readingDate>"
        f"{_whole('posKWh', readings, _FORWARD)}{_whole('negKWh', readings, _REVERSE)}"
        f"<readingValues>{values}</readingValues></meterRead>"
    )


def _whole(name: str, readings: Sequence[RegisterReading], direction: int) -> str:
    """The whole kWh of the one total register in a direction, rounded to nothing: left out unless it is exact."""
    found = [one.value for one in readings if _is_total(one.channel.reading_type, direction)]
    exact = len(found) == 1 and set(found[0]) <= _WHOLE
    return f"<{name}>{found[0]}</{name}>" if exact else ""


def _is_total(reading_type: str, direction: int) -> bool:
    kind = _kind(reading_type)
    if kind is None or kind[6] != _ENERGY or kind.flow_direction != direction:
        return False
    return (kind.multiplier, kind.unit) == _KILO_WH and not (kind.tou or kind.cpp or kind.consumption_tier)


def _meter_reading(meter: str, time_utc: int, readings: Sequence[RegisterReading]) -> str:
    moment = format_utc(time_utc)
    values = "".join(
        f"<readingValue>{_units(one.channel.reading_type)}<value>{one.value}</value>"
        f"{_text('readingType', one.channel.reading_type)}{_text('name', one.channel.stream)}"
        f"<timeStamp>{moment}</timeStamp></readingValue>"
        for one in readings
    )
    return f"<meterReading>{_meter_id(meter)}<readingValues>{values}</readingValues></meterReading>"


def _meter_id(meter: str) -> str:
    return f'<meterID meterNo="{attribute(meter)}" serviceType="Electric">{text_of(meter)}</meterID>'


def _kind(reading_type: str) -> ReadingType | None:
    try:
        return ReadingType.parse(reading_type)
    except FileInvalid:
        return None


def _uom(reading_type: str) -> str:
    kind = _kind(reading_type)
    return UOM.get(kind.symbol, "") if kind else ""


def _units(reading_type: str) -> str:
    return _text("units", _uom(reading_type))


def _lost(registers: Sequence[RegisterReading]) -> Iterator[Item]:
    for one in registers:
        where = f"{one.channel.meter} {one.channel.reading_type} {format_utc(one.time_utc)}"
        if one.qualities:
            yield Item("not-carried", f"quality {_quality(one.qualities)} has no place in a reading", where)


def _quality(qualities: Qualities) -> str:
    return QUALITY_JOIN.join(code for code, _ in qualities)


# --- the same as a table ---------------------------------------------------------------------------------------------


def formatted_block(registers: Sequence[RegisterReading], version: Version, transaction_id: str) -> Notification:
    """Return FormattedBlockNotification: a line a reading, its columns named by valSyntax; usage point and quality too.

    Lost: the words of qualities.

    Raises:
        CannotRepresent: no reading, or each separator there is stands in some text.
    """
    rows = [_columns(one) for one in registers]
    separator = next((one for one in SEPARATORS if not any(one in text for row in rows for text in row)), None)
    if separator is None or not rows:
        raise CannotRepresent("there is no reading, or no separator that no text holds" if rows else "no reading")
    syntax = "".join(
        f"<syntaxItem><fieldName>{name}</fieldName><position>{position}</position></syntaxItem>"
        for position, name in enumerate(FIELDS, 1)
    )
    values = "".join(f"<val>{text_of(separator.join(row))}</val>" for row in rows)
    block = (
        f"<separator>{separator}</separator><contentNounType>meterReading</contentNounType>"
        f"{_text('contentID', transaction_id)}<valSyntax>{syntax}</valSyntax><valueList>{values}</valueList>"
    )
    content = f"<changedMeterReads>{block}</changedMeterReads>{_text('transactionID', transaction_id)}"
    words = [Item("not-carried", "the words of a quality", one.channel.meter) for one in registers if _words(one)]
    return _message(version, "FormattedBlockNotification", content, words)


def _columns(one: RegisterReading) -> tuple[str, ...]:
    point, meter, stream, reading_type = one.channel
    return meter, point, stream, reading_type, format_utc(one.time_utc), one.value, _quality(one.qualities)


def _words(one: RegisterReading) -> bool:
    return any(detail for _, detail in one.qualities)


# --- intervals -------------------------------------------------------------------------------------------------------


def interval_data(readings: Readings, version: Version, transaction_id: str) -> Notification:
    """Return IntervalDataNotification: a profile a channel, a block a run without holes.

    A value stands as ``1.25`` or, with qualities, ``1.25|1.4.9+2.8.0``; a missing one has no number before the bar.
    Lost: register readings (they are another notification) and the words of qualities.

    Raises:
        CannotRepresent: no interval, or a block whose interval length nothing states.
    """
    channels = list(dict.fromkeys((block.channel, block.interval_s) for block in readings.blocks))
    if not channels or any(not interval_s for _, interval_s in channels):
        raise CannotRepresent("there is no interval" if not channels else "nothing states how long an interval is")
    names = {channel: f"P{number}" for number, channel in enumerate(channels, 1)}
    profiles = "".join(_profile(name, *channel, version) for channel, name in names.items())
    blocks = "".join(
        _block(names[block.channel, block.interval_s], run, version)
        for block in readings.blocks
        for run in _runs(block)
    )
    content = (
        f"<intervalReads><statusDelimiter>{STATUS_DELIMITER}</statusDelimiter>"
        f"<intervalDelimiter>{INTERVAL_DELIMITER}</intervalDelimiter>"
        "<comment>intervalLength in minutes; profile name is the usage point, fieldName the IEC 61968-9 reading type,"
        " fieldDescription the channel; a status is qualities of IEC 61968-9 annex D</comment>"
        f"<profiles>{profiles}</profiles><blocks>{blocks}</blocks></intervalReads>"
        f"{_text('transactionID', transaction_id)}"
    )
    return _message(version, "IntervalDataNotification", content, _lost_of_intervals(readings))


def _profile(name: str, channel: Sequence[str], interval_s: int, version: Version) -> str:
    point, _, stream, reading_type = channel
    length = f"{interval_s // 60}{_fraction_of_minute(interval_s)}"
    units = ' units="Minutes"' if version is Version.V4 else ""
    return (
        f'<profile profileID="{name}">{_text("name", point)}<intervalLength{units}>{length}</intervalLength>'
        f"<channels><channel><index>1</index>{_text('fieldName', reading_type)}{_text('fieldDescription', stream)}"
        f"{_units(reading_type)}</channel></channels></profile>"
    )


def _fraction_of_minute(interval_s: int) -> str:
    """Decimals of a length that is no whole minute; six say any second exactly enough to be read back."""
    rest = interval_s % 60
    return f".{rest * 1_000_000 // 60:06d}" if rest else ""


def _runs(block: IntervalBlock) -> Iterator[IntervalBlock]:
    """Cut a block where an interval does not follow the one before."""
    begin = 0
    for at in range(1, len(block.ends_utc) + 1):
        if at == len(block.ends_utc) or block.ends_utc[at] - block.ends_utc[at - 1] != block.interval_s:
            columns = (block.ends_utc[begin:at], block.values[begin:at], block.qualities[begin:at])
            yield IntervalBlock(block.channel, block.interval_s, *columns)
            begin = at


def _start_utc(interval_end_utc: int, interval_s: int) -> int:
    """MultiSpeak names an interval by its start."""
    return interval_end_utc - interval_s


def _block(profile: str, run: IntervalBlock, version: Version) -> str:
    meter = run.channel.meter
    named = _text("meterNo", meter) if version is Version.V3 else _meter_id(meter)
    start = format_utc(_start_utc(run.ends_utc[0], run.interval_s))
    data = INTERVAL_DELIMITER.join(map(_interval, run.values, run.qualities))
    return (
        f"<block><profileID>{profile}</profileID>{named}<intervalStart>{start}</intervalStart>"
        f"<dB><chs><ch><idx>1</idx><d>{text_of(data)}</d></ch></chs></dB></block>"
    )


def _interval(value: str | None, qualities: Qualities) -> str:
    status = f"{STATUS_DELIMITER}{_quality(qualities)}" if qualities else ""
    return f"{value or ''}{status}"


def _lost_of_intervals(readings: Readings) -> Iterator[Item]:
    for block in readings.blocks:
        if any(detail for qualities in block.qualities for _, detail in qualities):
            yield Item("not-carried", "the words of a quality", "/".join(block.channel))
    for one in readings.registers:
        yield Item(
            "not-carried", "a register reading is no interval", f"{one.channel.meter} {format_utc(one.time_utc)}"
        )


# --- events and switches ---------------------------------------------------------------------------------------------


def meter_events(events: Sequence[EndDeviceEvent], version: Version) -> Notification:
    """Return MeterEventNotification: the four numbers of an event type as domain, domainPart, type and index.

    The text is the moment and the reason; ``value`` holds the details as a JSON object. Lost: mRID and severity.

    Raises:
        CannotRepresent: no event, or an event type that is not four dotted parts.
    """
    if not events:
        raise CannotRepresent("a MeterEventNotification without an event says nothing")
    instances = "".join(_event(one, version) for one in events)
    content = f"<events><eventInstances>{instances}</eventInstances></events>"
    lost = [
        Item("not-carried", f"{name} {value!r} has no place in a meterEvent", one.asset)
        for one in events
        for name, value in (("mRID", one.mrid), ("severity", one.severity))
        if value
    ]
    return _message(version, "MeterEventNotification", content, lost)


def _event(one: EndDeviceEvent, version: Version) -> str:
    parts = one.event_type.split(".")
    if len(parts) != 4:
        raise CannotRepresent(f"event type {one.event_type!r} has not four parts")
    named = _text("meterNo", one.asset) if version is Version.V3 else _meter_id(one.asset)
    details = json.dumps(dict(one.details), sort_keys=True, ensure_ascii=False) if one.details else ""
    fields = dict(zip(("domain", "domainPart", "type", "index"), parts, strict=True)) | {
        "value": details,
        "codeString": one.event_type,
    }
    stated = "".join(f' {name}="{attribute(fields[name])}"' for name in sorted(fields) if fields[name])
    text = f"{format_utc_ms(one.created_utc_ms)} {one.reason}".rstrip()
    return f"<eventInstance>{named}<meterEvent{stated}>{text_of(text)}</meterEvent></eventInstance>"


def switched(event: EndDeviceEvent) -> tuple[str, Control, State] | None:
    """Return meter, control and state of an event that says where a switch is after a control; None: it does not."""
    told = event.details
    meter, state = told.get(DETAIL_METER, ""), told.get(DETAIL_OUTCOME, "")
    moves = event.event_type == OUTCOME_EVENT and told.get(DETAIL_ACTION) in LOAD_ACTION
    if not (moves and meter and state in FINAL):
        return None
    tracking_id, mrid = told.get(DETAIL_TRACKING, ""), told.get(DETAIL_CONTROL, "")
    return meter, Control(mrid, "", "", tracking_id, told[DETAIL_ACTION], event.asset), State(state)


def state_changed(meter: str, control: Control, state: State, version: Version, reason: str = "") -> Notification:
    """Return CDStateChangedNotification: where the switch of a meter is after a control; transactionID is the issuer's.

    A control that was not done leaves the switch ``Unknown``, and 3.0 says why; 4.1 has no place for that.

    Raises:
        CannotRepresent: an action that moves no switch.
    """
    wanted = LOAD_ACTION.get(control.action)
    if wanted is None:
        raise CannotRepresent(f"{control.action} moves no switch: CDStateChangedNotification has no word for it")
    code = wanted if state in KNOWN_AFTER else UNKNOWN
    why = "" if state in KNOWN_AFTER else f"{control.action} {state}" + (f": {reason}" if reason else "")
    transaction = _text("transactionID", transaction_of(control.tracking_id, control.action))
    if version is Version.V3:
        content = f"{_text('meterNo', meter)}<stateChange>{code}</stateChange>{transaction}{_text('errorString', why)}"
        return _message(version, "CDStateChangedNotification", content)
    content = f"<stateChange>{_meter_id(meter)}<stateChange>{code}</stateChange></stateChange>{transaction}"
    lost = [Item("not-carried", f"{why!r} has no place in version 4.1", meter)] if why else []
    return _message(version, "CDStateChangedNotification", content, lost)
