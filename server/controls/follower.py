"""Follows the log for the offices: outcomes become steps, and what partners are to know goes into their mailboxes.

In: entries behind the cursor of the reader ``controls``, and the clock. Out: steps and mails with the cursor, in one
transaction, so a crash at any line repeats a step of this reader or none, and a repeat changes nothing; then what
expires, its steps with their mails, in one of its own. What must not be done here: believing an outcome that anybody
but the control's own IED signed; that is an alarm and moves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gridpost import messages
from gridpost.controls import (
    DETAIL_CONTROL,
    DETAIL_COUNTER,
    DETAIL_OUTCOME,
    DETAIL_REASON,
    FOLLOWS,
    OUTCOME_EVENT,
    OUTCOMES,
    State,
    Step,
    mrid_of,
)
from gridpost.document_messages import NOUN as DOCUMENTS
from gridpost.documents import OURS
from gridpost.encrypted_readings import NOUN as ENCRYPTED
from gridpost.encrypted_readings import CreatedEncryptedReadings
from gridpost.envelope import DEVICE_LIMITS, shape
from gridpost.errors import NotFound
from gridpost.model import Channel, Position
from gridpost.partners import Grant, Partner
from gridpost.ports import EntryHeader
from gridpost.requests import Mail

from ..store import ControlOnFile, SqlStore, StoredEvent
from ..store.controls import UNFETCHED
from . import answering, contract_mails, feeding, telling
from .feeding import Granted, Rows, Sealed

NAME, BUS = "controls", "bus"
BATCH = 100  # entries a step
LONGEST = 500  # characters of what an IED gives as its reason
_CONTROLS, _READINGS, _EVENTS = "EndDeviceControls", "MeterReadings", "EndDeviceEvents"
_GIVEN = frozenset((State.FETCHED, State.ACCEPTED))
_TOLD_AT_ENTRY = frozenset(
    (State.HELD,)
)  # of first states; that it waits, or is proposed, its issuer has as the answer


class Strange(NamedTuple):
    """An outcome that moves nothing: who sent it, of which control, why."""

    sender: str
    control: str
    why: str


class Outcome(NamedTuple):
    """What one step of the reader did.

    Attributes:
        entries: how many the cursor passed.
        mails: how many were put into mailboxes.
        steps: those appended.
        strange: outcomes to alarm somebody about.
        held: controls that quarantine or clocks held, for the operator.
    """

    entries: int = 0
    mails: int = 0
    steps: tuple[Step, ...] = ()
    strange: tuple[Strange, ...] = ()
    held: tuple[ControlOnFile, ...] = ()


class _Found(NamedTuple):
    """What a step of this reader comes to, before it is kept."""

    mails: list[Mail]
    steps: list[Step]
    strange: list[Strange]


class _End(NamedTuple):
    """How controls are given up: how long after their end, from which states, to which, and why."""

    after_ms: int
    states: frozenset[State]
    state: State
    why: str


class Follower:
    """The reader."""

    def __init__(self, store: SqlStore, bus_id: str, answer_s: int) -> None:
        """Follow for a bus.

        Args:
            store: one that serves.
            bus_id: Source of mails.
            answer_s: how long after a control's end its IED may still say what became of it.
        """
        self._store, self._bus_id = store, bus_id
        silent = f"its IED has fetched it, and has not said what became of it by {answer_s} s after its end"
        self._ends = (
            _End(0, UNFETCHED, State.EXPIRED, "no IED had fetched it when its time ran out"),
            _End(answer_s * 1000, _GIVEN, State.UNKNOWN, silent),
        )

    def begin(self) -> None:
        """Start behind what is there where this reader never ran: a log of years is no mail for a new partner.

        Raises:
            StoreUnavailable: try again.
        """
        self._store.start_behind(NAME)

    def step(self, now_utc_ms: int) -> Outcome:
        """Take the next entries and what has expired; keep what comes of both.

        Raises:
            StoreUnavailable: the store fails; the next step begins where this one did.
        """
        version, state = self._store.cursor(NAME)
        headers = self._store.entries(version, BATCH)
        partners = [one for one in self._store.partners() if is_partner(one, now_utc_ms)]
        found = _Found([], [], [])
        rows = self._rows(headers, partners)
        controls = self._reported(rows.events)
        for event in rows.events:
            if event.event.event_type == OUTCOME_EVENT:
                self._outcome(event, controls, found)
        held = self._held(headers)
        for one in held:
            found.mails.extend(telling.step_mails(one.control, one.steps[0], self._bus_id, partners))
        recorded = self._store.documents_of([header.position for header in headers if header.noun == DOCUMENTS])
        found.mails.extend(contract_mails.mails(recorded, {one.id for one in partners}, self._bus_id))
        if not headers:
            return self._expired(now_utc_ms, partners)
        granted = self._granted(headers, rows, partners, controls)
        found.mails.extend(feeding.mails(headers, rows, granted, self._bus_id))
        reached = {**version, **{header.position.partition: header.position.seq for header in headers}}
        posted = self._store.post(NAME, reached, state, found.mails, found.steps).result()
        expired = self._expired(now_utc_ms, partners)
        mails, steps = len(posted.mails) + expired.mails, (*posted.steps, *expired.steps)
        return Outcome(len(headers), mails, steps, tuple(found.strange), tuple(held))

    def _expired(self, now_utc_ms: int, partners: Sequence[Partner]) -> Outcome:
        """Give up what is over: never fetched, or never answered. What moves on meanwhile is not told of."""
        given_up = [self._given_up(now_utc_ms, partners, end) for end in self._ends]
        return Outcome(mails=sum(one.mails for one in given_up), steps=tuple(s for one in given_up for s in one.steps))

    def _given_up(self, now_utc_ms: int, partners: Sequence[Partner], end: _End) -> Outcome:
        mails: list[Mail] = []
        steps: list[Step] = []
        for one in self._store.overdue(now_utc_ms - end.after_ms, end.states):
            step = Step(one.control.mrid, end.state, now_utc_ms, BUS, end.why)
            steps.append(step)
            meter = meter_of(self._store, one.control.target, now_utc_ms)
            mails.extend(telling.step_mails(one.control, step, self._bus_id, partners, meter))
        done = self._store.tell(steps, end.states, mails) if steps else []
        gone_on = {step.control for step in done}
        told = [mail for mail in mails if mrid_of(mail.partition, mail.seq, mail.line) in gone_on]
        return Outcome(mails=len(told), steps=tuple(done))

    # --- outcomes ---

    def _reported(self, events: Sequence[StoredEvent]) -> dict[str, ControlOnFile | None]:
        """The controls that outcomes name; None for what is none of ours."""
        named = {one.event.details.get(DETAIL_CONTROL, "") for one in events if one.event.event_type == OUTCOME_EVENT}
        return {mrid: self._store.control(mrid) for mrid in sorted(named)}

    def _outcome(self, told: StoredEvent, controls: dict[str, ControlOnFile | None], found: _Found) -> None:
        """Let an outcome move its control, if it may; a state moves forward only, and what was said before is known."""
        details = told.event.details
        mrid = details.get(DETAIL_CONTROL, "")
        known = controls.get(mrid)
        if known is None or (why := _objection(told, known)):
            why = "there is no such control" if known is None else why
            found.strange.append(Strange(told.sender, mrid[:64], why))
            return
        state = OUTCOMES[details[DETAIL_OUTCOME]]
        settled = known.state is State.UNKNOWN and known.steps[-1].by != BUS  # the IED's own last word
        if settled or known.state not in FOLLOWS[state]:
            return
        step = Step(mrid, state, told.event.created_utc_ms, told.sender, details.get(DETAIL_REASON, "")[:LONGEST])
        found.steps.append(step)
        entry = f"{told.position.partition}:{told.position.seq}"
        meter = meter_of(self._store, told.sender, step.at_utc_ms)
        found.mails.append(telling.outcome_mail(known.control, step, self._bus_id, entry, meter))
        found.mails.extend(answering.answers(self._store, known, step, self._bus_id))
        controls[mrid] = known._replace(steps=(*known.steps, step))

    # --- what the bus itself has to tell ---

    def _held(self, headers: Sequence[EntryHeader]) -> list[ControlOnFile]:
        asked = [header.position for header in headers if header.noun == _CONTROLS]
        return [one for one in self._store.controls_of(asked) if one.steps[0].state in _TOLD_AT_ENTRY]

    # --- what partners are granted ---

    def _rows(self, headers: Sequence[EntryHeader], partners: Sequence[Partner]) -> Rows:
        events = self._store.events_of([header.position for header in headers if header.noun == _EVENTS])
        readings = [header.position for header in headers if header.noun == _READINGS] if partners else []
        encrypted = [header.position for header in headers if header.noun == ENCRYPTED] if partners else []
        sealed = {position: one for position in encrypted if (one := self._sealed(position)) is not None}
        return Rows(self._store.blocks(readings), self._store.registers_of(readings), events, sealed)

    def _sealed(self, position: Position) -> Sealed | None:
        """A message for several readers as it came; None: its evidence is no longer kept, so nobody can verify it."""
        try:
            raw = self._store.evidence(position)
        except NotFound:
            return None
        # It was verified when it was recorded.
        message = messages.decode(shape(raw, DEVICE_LIMITS.raised(len(raw))).payload)
        assert isinstance(message, CreatedEncryptedReadings), "its entry's noun says so"
        return Sealed(frozenset(part.kind for part in message.parts), raw)

    def _granted(
        self,
        headers: Sequence[EntryHeader],
        rows: Rows,
        partners: Sequence[Partner],
        controls: dict[str, ControlOnFile | None],
    ) -> Granted:
        senders = {header.sender for header in headers if not rows.of(header.position).is_empty}
        of_sender: dict[str, Sequence[Channel]] = {one: self._store.channels(one) for one in sorted(senders)}
        if OURS in senders:  # what the bus itself found is of the meters that its events name
            meters = sorted({one.event.asset for one in rows.events if one.sender == OURS})
            of_sender[OURS] = [channel for meter in meters for channel in self._store.channels(meter=meter)]
        channels = {channel.id: channel for theirs in of_sender.values() for channel in theirs}
        if any(row.channel_id not in channels for row in rows.blocks):  # the bus's own entries speak for any channel
            channels |= {channel.id: channel for channel in self._store.channels()}
        grants: dict[str, list[Grant]] = {}
        for grant in self._store.grants_on(sorted({one.key.usage_point for one in channels.values()})):
            grants.setdefault(grant.usage_point, []).append(grant)
        named = {mrid: one.control for mrid, one in controls.items() if one is not None}
        return Granted(channels, of_sender, grants, frozenset(one.id for one in partners), named)


def _objection(told: StoredEvent, known: ControlOnFile) -> str:
    """Why an outcome counts for nothing; empty: it counts."""
    details, control = told.event.details, known.control
    if told.sender != control.target:
        return f"it is for {control.target}"
    if details.get(DETAIL_COUNTER, "") != str(control.counter):
        return f"its counter is {control.counter}, not {details.get(DETAIL_COUNTER, '')[:20]}"
    if details.get(DETAIL_OUTCOME, "") not in OUTCOMES:
        return f"there is no outcome {details.get(DETAIL_OUTCOME, '')[:20]}"
    return ""


def meter_of(store: SqlStore, serial: str, at_utc_ms: int) -> str:
    """Return the one meter that an IED speaks for at a moment; empty: several, or none."""
    return telling.only_meter(store.channels(serial), at_utc_ms // 1000)


def is_partner(one: Partner, now_utc_ms: int) -> bool:
    """Tell whether an office is a partner at a moment: from its beginning, inclusive, to its end, exclusive."""
    ends = one.valid_to_utc_ms
    return one.valid_from_utc_ms <= now_utc_ms and (ends is None or now_utc_ms < ends)
