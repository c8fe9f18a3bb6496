"""Commands that offices ask for: asking, looking, replacing, taking back; and readings asked of a device again.

In: a call of a partner. Out: the answer. Rights are asked here first; `controls/intake.py` then judges what becomes of
a command (proposed, held, waiting), and the log keeps it with the answer that stands (`entries.py`). What a device may
have fetched is never taken back here: only the device can say what became of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gridpost import units
from gridpost.control_messages import Told, encode_controls_reply
from gridpost.controls import FINAL, NewControl, State, Step, Wanted, mrid_of
from gridpost.errors import ControlMoved, Item, NotGranted, QueryRefused
from gridpost.model import Receipt, Rows
from gridpost.office_messages import encode_ok_reply, reply_to
from gridpost.requests import (
    CancelEndDeviceControls,
    CancelMeterReadings,
    ChangeEndDeviceControls,
    CreateEndDeviceControls,
    CreateMeterReadings,
    GetEndDeviceControls,
    Query,
)

from ..controls.intake import Asked, Intake
from ..soap import Answer
from ..store import ControlOnFile, SqlStore
from .call import Aside, Call
from .entries import Entries
from .readings import check_period
from .rights import Rights

REPLACEABLE = frozenset((State.PROPOSED, State.HELD, State.WAITING))
REQUEST_DATA = "request-data"


@dataclass(frozen=True, slots=True)
class ControlsDesk:
    """The handlers.

    Attributes:
        bus_id: Source of the answers.
        store: the log; the process serves it.
        rights: who may command and see what.
        intake: judges commands.
        entries: records them.
        most: controls of one answer.
        aside: runs what asks the store off the reactor.
    """

    bus_id: str
    store: SqlStore
    rights: Rights
    intake: Intake
    entries: Entries
    most: int
    aside: Aside

    async def create(self, call: Call) -> Answer:
        """CreateEndDeviceControls: one control for each IED, each in its first state."""
        assert isinstance(call.message, CreateEndDeviceControls)
        wanted = call.message.wanted
        await self.aside(lambda: self._check_targets(call, wanted))

        async def record(new: tuple[NewControl, ...]) -> Answer:
            return await self.entries.record(call, Rows(controls=new), lambda receipt: self._told(call, new, receipt))

        return await self.intake.admit(self._asked(call, wanted), record)

    async def change(self, call: Call) -> Answer:
        """ChangeEndDeviceControls: others in the place of those of the same mRID that no device may have fetched.

        All of them, or, where a device may have fetched one, none: which ones it were is told one by one.
        The old ones are cancelled before the new ones are recorded: if the bus dies in between, the same message sent
        again finds them cancelled by itself and goes on. No device ever gets both.
        """
        assert isinstance(call.message, ChangeEndDeviceControls)
        wanted, why = call.message.wanted, f"replaced by message {call.header.message_id}"

        def replaceable() -> list[ControlOnFile]:
            old = self._replaceable(call, [one.mrid for one in wanted], why)
            self._check_targets(call, wanted)
            return old

        old = await self.aside(replaceable)

        async def record(new: tuple[NewControl, ...]) -> Answer:
            await self.aside(lambda: self._cancel(call, old, why))
            return await self.entries.record(call, Rows(controls=new), lambda receipt: self._told(call, new, receipt))

        return await self.intake.admit(self._asked(call, wanted, replaces=True), record)

    async def cancel(self, call: Call) -> Answer:
        """CancelEndDeviceControls: by the bus's mRIDs or the issuer's; all or, where a device may have one, none."""
        assert isinstance(call.message, CancelEndDeviceControls)
        names = call.message.ids

        def cancelled() -> list[Told]:
            found = [one for name in names for one in self._own(call, name)]
            self._withdraw(call, found)
            return self._now([one.control.mrid for one in found])

        told = await self.aside(cancelled)
        header = reply_to(call.header, self.bus_id, call.now_utc_ms)
        return await self.entries.record(call, Rows(), lambda receipt: encode_controls_reply(header, told, receipt))

    def look(self, call: Call) -> bytes:
        """GetEndDeviceControls of a partner: those it issued, with their states, a page at a time."""
        request = call.message
        assert isinstance(request, GetEndDeviceControls)
        states = _states(request.states)
        limit = min(request.limit or self.most, self.most)
        if request.ids:
            found = [one for name in request.ids for one in self._own(call, name)]
            shown, page = [one for one in found if not states or one.state in states], ""
        else:
            found = self.store.controls(
                issuer=call.partner.id, states=states or None, limit=limit, after=_page(request.page)
            )
            shown = list(self.rights.may_see(call.partner, found))
            page = found[-1].control.mrid if len(found) == limit else ""
        properties = (("nextPage", page),) if page else ()
        header = reply_to(call.header, self.bus_id, call.now_utc_ms, properties)
        return encode_controls_reply(header, [told(one) for one in shown])

    async def request_readings(self, call: Call) -> Answer:
        """CreateMeterReadings: the IEDs of the meters named get the control request-data; without a period: read now.

        What they send comes to the mailbox, with the CorrelationID of this message; so does what became of the control.
        """
        assert isinstance(call.message, CreateMeterReadings)
        query = call.message.query
        check_period(query)
        if bool(query.from_utc) != bool(query.to_utc) or not (query.usage_points or query.meters):
            raise QueryRefused("name usage points or meters, and StartTime and EndTime or neither")
        targets = await self.aside(lambda: self._reading(call, query))
        asked = (("from", query.from_utc), ("to", query.to_utc)) if query.to_utc else ()
        period = tuple((name, units.format_utc(utc)) for name, utc in asked)
        wanted = Wanted(call.header.message_id, REQUEST_DATA, tuple(sorted(targets)), data=period)

        async def record(new: tuple[NewControl, ...]) -> Answer:
            return await self.entries.record(call, Rows(controls=new), lambda receipt: self._ok(call, receipt))

        return await self.intake.admit(self._asked(call, (wanted,)), record)

    async def cancel_readings(self, call: Call) -> Answer:
        """CancelMeterReadings: takes back what `request_readings` asked, named by its MessageID."""
        assert isinstance(call.message, CancelMeterReadings)
        names = call.message.ids

        def withdraw() -> None:
            found = [one for name in names for one in self._own(call, name)]
            if any(one.control.action != REQUEST_DATA for one in found):
                raise NotGranted("this is no request for readings; use CancelEndDeviceControls")
            self._withdraw(call, found)

        await self.aside(withdraw)
        return await self.entries.record(call, Rows(), lambda receipt: self._ok(call, receipt))

    # --- what they share ---

    def _reading(self, call: Call, query: Query) -> set[str]:
        """The IEDs that speak now for the meters that a query names and the partner may see now.

        Raises:
            NotGranted: there are none.
        """
        now_utc = call.now_utc_ms // 1000
        pairs = self.rights.channels(call.partner, call.operation, query)
        meters = {
            channel.key.meter for channel, grant in pairs if grant.holds_at(now_utc) and channel.holds_at(now_utc)
        }
        targets = {serial for meter in meters for serial in self.store.ieds_of(meter, now_utc)}
        targets = {serial for serial in targets if call.partner.tenant in self.store.tenants(serial)}
        if not targets:
            raise NotGranted("no meter that this partner may see now")
        return targets

    def _asked(self, call: Call, wanted: Sequence[Wanted], *, replaces: bool = False) -> Asked:
        return Asked(call.partner, wanted, call.caller.may_command, replaces)

    def _check_targets(self, call: Call, wanted: Sequence[Wanted]) -> None:
        targets = {serial for one in wanted for serial in self.intake.targets(call.partner, one)}
        self.rights.check_targets(call.partner, targets, call.now_utc_ms // 1000)

    def _told(self, call: Call, new: Sequence[NewControl], receipt: Receipt) -> bytes:
        """The answer to a call that brought controls; their mRIDs are their places in the log."""
        header = reply_to(call.header, self.bus_id, receipt.recorded_at_utc_ms)
        told: list[Told] = [
            (one.control._replace(mrid=mrid_of(*receipt.position, line)), one.state, one.detail)
            for line, one in enumerate(new)
        ]
        return encode_controls_reply(header, told, receipt)

    def _ok(self, call: Call, receipt: Receipt) -> bytes:
        header = reply_to(call.header, self.bus_id, receipt.recorded_at_utc_ms)
        return encode_ok_reply(call.header.noun, header, receipt)

    def _own(self, call: Call, name: str) -> list[ControlOnFile]:
        """What a name stands for among those the partner issued and may see.

        Raises:
            NotGranted: nothing.
        """
        one = self.store.control(name)
        found = self.store.tracked(call.partner.id, name) if one is None else [one]
        seen = list(self.rights.may_see(call.partner, found))
        if not seen:
            raise NotGranted(f"no control {name[:64]}")
        return seen

    def _replaceable(self, call: Call, names: Sequence[str], why: str) -> list[ControlOnFile]:
        """Those of these mRIDs that are not over; all of them may still be cancelled.

        Raises:
            NotGranted: there are none of one of these mRIDs.
            ControlMoved: itemised: a device may have one, or those of an mRID are over, and not by this very message.
        """
        items: list[Item] = []
        going: list[ControlOnFile] = []
        for name in names:
            found = self._own(call, name)
            still = [one for one in found if one.state not in FINAL]
            if not still and not any(one.steps[-1].detail == why for one in found):
                items.append(_moved(found[-1]))
            going += still
        _refuse_moved([*items, *(_moved(one) for one in going if one.state not in REPLACEABLE)])
        return going

    def _withdraw(self, call: Call, found: Sequence[ControlOnFile]) -> None:
        _check_states(found, REPLACEABLE | {State.CANCELED})
        waiting = [one for one in found if one.state is not State.CANCELED]
        self._cancel(call, waiting, f"by message {call.header.message_id}")

    def _cancel(self, call: Call, found: Sequence[ControlOnFile], why: str) -> None:
        """Cancel controls, all or, where a device fetched one in this very moment, none.

        Raises:
            ControlMoved: itemised: one did.
        """
        steps = [Step(one.control.mrid, State.CANCELED, call.now_utc_ms, call.partner.id, why) for one in found]
        if len(self.store.step_all(steps, REPLACEABLE)) < len(steps):
            _refuse_moved([_moved(one) for one in self._again(found) if one.state not in REPLACEABLE])
            raise ControlMoved("a command moved on and came back in this very moment; look, and ask again")

    def _again(self, found: Sequence[ControlOnFile]) -> list[ControlOnFile]:
        looked = (self.store.control(one.control.mrid) for one in found)
        return [one for one in looked if one is not None]

    def _now(self, mrids: Sequence[str]) -> list[Told]:
        looked = (self.store.control(mrid) for mrid in mrids)
        return [told(one) for one in looked if one is not None]


def told(one: ControlOnFile) -> Told:
    """Return a control as an answer tells of it."""
    return one.control, one.state, one.steps[-1].detail


def _check_states(found: Sequence[ControlOnFile], expected: Collection[State]) -> None:
    _refuse_moved([_moved(one) for one in found if one.state not in expected])


def _moved(one: ControlOnFile) -> Item:
    reason = f"{one.control.tracking_id} ({one.control.mrid}) is {one.state}"
    return Item(ControlMoved.code, reason, "Payload/EndDeviceControls/EndDeviceControl")


def _refuse_moved(items: Sequence[Item]) -> None:
    if items:
        raise ControlMoved(f"nothing was changed: {items[0].reason}", items=items)


def _states(names: Sequence[str]) -> frozenset[State]:
    try:
        return frozenset(map(State, names))
    except ValueError:
        raise QueryRefused(f"a state is one of {', '.join(State)}") from None


def _page(text: str) -> str:
    parts = text.split("-")
    if text and not (len(parts) == 3 and all(part.isascii() and part.isdecimal() for part in parts)):
        raise QueryRefused("page is not what an answer's nextPage said")
    return text
