"""MultiSpeak notifications read back: what another system, or we, said in them.

In: the bytes of a Body's child of either version. Out: readings, events, the state of a switch. What
`notifications.py` writes comes back but for the losses it lists; what others write must name our reading types.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from gridpost.envelope import Element, Limits, parse
from gridpost.errors import FileInvalid, PeerFault
from gridpost.model import (
    ChannelKey,
    EndDeviceEvent,
    IntervalBlock,
    Qualities,
    Quality,
    Readings,
    ReadingType,
    RegisterReading,
)
from gridpost.units import decimal_text, parse_utc, parse_utc_ms

from .notifications import FIELDS, QUALITY_JOIN

MOST_OCTETS = 64 << 20


class SwitchState(NamedTuple):
    """Where a switch is: a loadActionCode, of which meter, in answer to which transaction, and why not elsewhere."""

    meter: str
    state: str
    transaction_id: str
    error: str = ""


Parsed = Readings | tuple[EndDeviceEvent, ...] | SwitchState


def parse_notification(raw: bytes) -> Parsed:
    """Read a notification, whichever it is.

    Raises:
        FileInvalid: no notification that is known, or a value, time or reading type that cannot be read.
    """
    try:
        root = parse(raw, Limits().raised(min(len(raw), MOST_OCTETS)))
    except PeerFault as error:
        raise FileInvalid(f"no XML that can be read: {error.code}") from None
    name = root.tag.rpartition("}")[2]
    read = _READ.get(name)
    if read is None:
        raise FileInvalid(f"{name[:80]} is no notification that is read here")
    try:
        return read(root)
    except (ValueError, KeyError, IndexError) as error:
        raise FileInvalid(f"{name}: {error}") from None


def _text(element: Element, path: str) -> str:
    return (element.findtext("/".join(f"{{*}}{step}" for step in path.split("/"))) or "").strip()


def _meter(element: Element) -> str:
    return _text(element, "meterNo") or _text(element, "meterID")


def _reading_changed(root: Element) -> Readings:
    return Readings(registers=tuple(_registers(root)))


def _registers(root: Element) -> Iterator[RegisterReading]:
    for read in root.iterfind("{*}changedMeterReads/*"):
        for value in read.iterfind("{*}readingValues/{*}readingValue"):
            key = ChannelKey(
                "", _meter(read), _text(value, "name"), str(ReadingType.parse(_text(value, "readingType")))
            )
            moment = _text(value, "dateTime") or _text(value, "timeStamp")
            yield RegisterReading(key, parse_utc(moment), decimal_text(_text(value, "value")))


def _formatted_block(root: Element) -> Readings:
    (block,) = root.iterfind("{*}changedMeterReads")
    separator = block.findtext("{*}separator") or ","
    places = {_text(item, "fieldName"): int(_text(item, "position")) - 1 for item in block.iterfind("{*}valSyntax/*")}
    if not set(FIELDS) <= set(places):
        raise ValueError(f"valSyntax has not the fields {', '.join(FIELDS)}")
    rows = [(value.text or "").split(separator) for value in block.iterfind("{*}valueList/*")]
    return Readings(registers=tuple(_row({name: row[place] for name, place in places.items()}) for row in rows))


def _row(row: dict[str, str]) -> RegisterReading:
    key = ChannelKey(row["usagePoint"], row["meterNo"], row["channel"], str(ReadingType.parse(row["readingType"])))
    return RegisterReading(
        key, parse_utc(row["readingDateTime"]), decimal_text(row["value"]), _qualities(row["quality"])
    )


def _interval_data(root: Element) -> Readings:
    (data,) = root.iterfind("{*}intervalReads")
    delimiters = data.findtext("{*}intervalDelimiter") or ",", data.findtext("{*}statusDelimiter") or "|"
    profiles = {one.get("profileID", ""): one for one in data.iterfind("{*}profiles/*")}
    blocks = [
        _block(block, profiles[_text(block, "profileID")], channel, delimiters)
        for block in data.iterfind("{*}blocks/*")
        for channel in block.iterfind("{*}dB/{*}chs/{*}ch")
    ]
    return Readings(tuple(blocks))


def _block(block: Element, profile: Element, column: Element, delimiters: tuple[str, str]) -> IntervalBlock:
    between, status = delimiters
    (channel,) = (one for one in profile.iterfind("{*}channels/*") if _text(one, "index") == _text(column, "idx"))
    key = ChannelKey(
        _text(profile, "name"), _meter(block), _text(channel, "fieldDescription"),
        str(ReadingType.parse(_text(channel, "fieldName"))),
    )  # fmt: skip
    interval_s = round(Decimal(decimal_text(_text(profile, "intervalLength"))) * 60)
    cells = [cell.partition(status) for cell in (column.findtext("{*}d") or "").split(between)]
    end_utc = parse_utc(_text(block, "intervalStart")) + interval_s
    ends = tuple(range(end_utc, end_utc + interval_s * len(cells), interval_s))
    values = tuple(decimal_text(value) if value else None for value, _, _ in cells)
    return IntervalBlock(key, interval_s, ends, values, tuple(_qualities(codes) for _, _, codes in cells))


def _qualities(codes: str) -> Qualities:
    return tuple(map(Quality, codes.split(QUALITY_JOIN))) if codes else ()


def _meter_events(root: Element) -> tuple[EndDeviceEvent, ...]:
    return tuple(
        _event(_meter(one), one.find("{*}meterEvent")) for one in root.iterfind("{*}events/{*}eventInstances/*")
    )


def _event(meter: str, event: Element | None) -> EndDeviceEvent:
    if event is None:
        raise ValueError("an eventInstance without a meterEvent")
    numbers = ".".join(event.get(name, "") for name in ("domain", "domainPart", "type", "index"))
    moment, _, reason = (event.text or "").partition(" ")
    details = json.loads(event.get("value") or "{}")
    if not isinstance(details, dict):
        raise ValueError("value of a meterEvent is no JSON object")
    said = {str(name): str(value) for name, value in details.items()}
    return EndDeviceEvent("", numbers, parse_utc_ms(moment), meter, reason, details=said)


def _state_changed(root: Element) -> SwitchState:
    (change,) = root.iterfind("{*}stateChange")
    inner = change if len(change) else root
    return SwitchState(
        _meter(inner), _text(inner, "stateChange"), _text(root, "transactionID"), _text(root, "errorString")
    )


_READ: Mapping[str, Callable[[Element], Parsed]] = {
    "ReadingChangedNotification": _reading_changed,
    "FormattedBlockNotification": _formatted_block,
    "IntervalDataNotification": _interval_data,
    "MeterEventNotification": _meter_events,
    "CDStateChangedNotification": _state_changed,
}
