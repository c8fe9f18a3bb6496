"""The readings an office asked a device for, told once the device has sent them: the answer to CreateMeterReadings.

In: a control request-data that its IED says is done. Out: mails to its issuer with what the store holds now of the
period asked for, or of what was read between the fetch and the outcome, each with the CorrelationID of the request: of
what the bus had already, the device's message brings no new row, so the store is asked and not the entry. Told is what
the issuer is granted, as everywhere. What must not be done here: telling more than MOST values; the rest is asked for
by GetMeterReadings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gridpost import messages, units
from gridpost.controls import Control, State, Step, place_of
from gridpost.model import Channel, CreatedMeterReadings, Header, IntervalBlock, Readings, ReadingType
from gridpost.partners import Grant, kind_of
from gridpost.requests import Mail

from ..store import ControlOnFile, SqlStore
from ..store.extents import extent

ACTION, NOUN = "request-data", "MeterReadings"
OF_ONE_MAIL, MOST = 5_000, 100_000  # interval values
SKEW_S = 60  # what a device's clock may be behind without anybody's notice


class Period(NamedTuple):
    """UTC seconds: from, exclusive; to, inclusive."""

    from_utc: int
    to_utc: int


def answers(store: SqlStore, known: ControlOnFile, done: Step, bus_id: str) -> Iterator[Mail]:
    """Yield the mails that answer a request for readings; none for any other control, or while it is not done.

    Args:
        store: holds the readings.
        known: the control, with its life before `done`.
        done: what its IED says; `at_utc_ms` by the IED's clock.
        bus_id: Source of the mails.
    """
    control = known.control
    if control.action != ACTION or done.state is not State.DONE:
        return
    place = place_of(control.mrid)
    assert place is not None, "a control on file has the mRID of its row"
    period = _period(known, done)
    for number, readings in enumerate(_parts(store, control, period)):
        name = f"answer-{control.mrid}-{number}"
        header = Header("created", NOUN, done.at_utc_ms, bus_id, name, correlation_id=control.tracking_id)
        content = messages.encode(CreatedMeterReadings(header, readings))
        yield Mail(control.issuer, f"answer-{number}", NOUN, content, control.tracking_id, *place)


def _period(known: ControlOnFile, done: Step) -> Period:
    """The period asked for; of a request to read now, from its fetch to its outcome."""
    stated = {name: units.parse_utc(text) for name, text in known.control.data if name in ("from", "to") and text}
    until = done.at_utc_ms // 1000
    if stated:
        return Period(stated.get("from", 0), min(stated.get("to", until), until + SKEW_S))
    fetched = next((step.at_utc_ms for step in known.steps if step.state is State.FETCHED), done.at_utc_ms)
    return Period(fetched // 1000 - SKEW_S, until)


def _parts(store: SqlStore, control: Control, period: Period) -> Iterator[Readings]:
    left = MOST
    for channel, grants in _granted(store, control):
        first, last = extent(store, channel.id) or (0, 0)
        begins, until = max(period.from_utc, first), min(period.to_utc, last)
        while begins < until and left > 0:
            ends = min(until, begins + OF_ONE_MAIL * max(60, channel.interval_s))
            part = _seen(store, channel, grants, Period(begins, ends))
            if part.count:
                left -= part.count
                yield part
            begins = ends


def _granted(store: SqlStore, control: Control) -> list[tuple[Channel, list[Grant]]]:
    """The channels of the IED that the issuer has a grant of their kind on."""
    theirs = {channel.id for channel in store.channels(control.target)}
    found: dict[int, tuple[Channel, list[Grant]]] = {}
    for channel, grant in store.granted_channels(control.issuer):
        if channel.id in theirs and grant.kind == _kind(channel):
            found.setdefault(channel.id, (channel, []))[1].append(grant)
    return [found[number] for number in sorted(found)]


def _kind(channel: Channel) -> str:
    return kind_of(ReadingType.parse(channel.key.reading_type).measurement_kind)


def _seen(store: SqlStore, channel: Channel, grants: Sequence[Grant], period: Period) -> Readings:
    """What the store holds now of a period, as far as grants cover it."""
    current = store.readings(channel.id, *period)
    block = current.block
    kept = [
        one
        for one in zip(block.ends_utc, block.values, block.qualities, strict=True)
        if any(grant.holds_at(one[0]) for grant in grants)
    ]
    registers = [
        one
        for one in current.registers
        if one.time_utc > period.from_utc and any(grant.holds_at(one.time_utc) for grant in grants)
    ]
    blocks = (IntervalBlock(channel.key, channel.interval_s, *zip(*kept, strict=True)),) if kept else ()
    return Readings(blocks, tuple(registers))
