"""MultiSpeak at the office listener: a customer information system's question, to what its partner's entry lets it see.

In: the bytes of a request and what the transport knows of the connection. Out: status and bytes of the answer.

    shape (the adapter's) > who is it (`callers.py`: UserID and Pwd, over TLS) > role > the caller's own office > answer

How MultiSpeak says things is the adapter `multispeak`, found by its entry point and loaded with the first question; it
is pure. What it asks of the log is done between two calls of it: the first notes what is wanted, the second answers
with what became of that. What must not be done here: moving a switch. A switch is a shed or a restore that goes the
way of every command; without a signature, and MultiSpeak has none, it is a proposal unless the partner's entry says so.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gridpost import answers, exchange, messages
from gridpost.controls import Wanted, name_part
from gridpost.errors import (
    ActionMismatch,
    ControlsRefused,
    GridpostError,
    Item,
    NotGranted,
    OurFault,
    QueryRefused,
    ReplyAddressRefused,
)
from gridpost.model import Header, Message, RegisterReading
from gridpost.partners import Partner
from gridpost.ports import Clock
from gridpost.requests import CreateEndDeviceControls, CreateMeterReadings, Query
from gridpost.unsigned import Unsigned

from ..audit import Audit
from ..reception import Worker
from ..store import SqlStore
from ..store.dials import count, moments, newest
from .call import Aside, Call
from .callers import Caller, Callers, Hello
from .controls import ControlsDesk
from .door import Reply
from .rights import Rights, View, check_role

PAGE = 500  # moments of one answer
READ, SWITCH = "CreateMeterReadings", "CreateEndDeviceControls"
# What an operation needs the right to; every other looks at readings.
NEEDS = {
    "InitiateMeterReadByMeterNumber": READ,
    "InitiateConnectDisconnect": SWITCH,
}
_TRANSACTION = re.compile(r"[!-~]{0,48}", re.ASCII)
_AFTER = re.compile(r"([0-9]{1,18}):([0-9]{1,12})", re.ASCII)


class Page(NamedTuple):
    """What the adapter's `Page` is: readings in order, the name of the last one, and how many moments follow."""

    registers: Sequence[RegisterReading]
    last: str = ""
    remaining: int = 0


class Wish(NamedTuple):
    """What a question asks of the log: (meter, action) each; the action of a reading is empty."""

    wanted: Sequence[tuple[str, str]]
    later: Any  # the adapter's `Later`


@dataclass
class CallersOffice:
    """What one caller may see and propose; the adapter's `Office`."""

    desk: MultiSpeak
    partner: Partner
    refused: Sequence[Item] = ()
    wishes: list[Wish] = field(default_factory=list)

    def latest(self, meter: str) -> Sequence[RegisterReading]:
        """The newest reading of each register of a meter; none for a meter the caller may not see."""
        store = self.desk.store
        found = [
            (view, newest(store, view.channel.id, (view.from_utc, view.to_utc))) for view in self._views((meter,), 0, 0)
        ]
        return [one for view, at_utc in found if at_utc is not None for one in _read(store, view, at_utc)]

    def readings(self, meter: str, from_utc: int, to_utc: int, after: str) -> Page:
        """Registers of a period, both ends included, of one meter or of all the caller may see; a page."""
        return self._page(self._views((meter,) if meter else (), from_utc - 1, to_utc), after)

    def cycle(self, billing_cycle: str, from_utc: int, to_utc: int, after: str) -> Page:
        """Registers of the meters of a billing cycle: the group of that name in the caller's tenant."""
        serials = self.desk.store.group(self.partner.tenant, billing_cycle)
        meters = {channel.key.meter for serial in serials for channel in self.desk.store.channels(sender=serial)}
        views = [one for one in self._views((), from_utc - 1, to_utc) if one.channel.key.meter in meters]
        return self._page(views, after)

    def read(self, meters: Sequence[str], later: Any) -> Sequence[Item]:
        """Note that meters are to be read; return which were not asked, once that is known."""
        self.wishes.append(Wish([(meter, "") for meter in meters], later))
        return self.refused

    def propose(self, switches: Sequence[tuple[str, str]], later: Any) -> Sequence[Item]:
        """Note what switches are to be moved; return which were not taken, once that is known."""
        self.wishes.append(Wish(switches, later))
        return self.refused

    def _views(self, meters: tuple[str, ...], from_utc: int, to_utc: int) -> list[View]:
        try:
            found = self.desk.rights.views(self.partner, Query(meters=meters, from_utc=from_utc, to_utc=to_utc))
        except NotGranted:
            return []  # as if there were no such meter
        return sorted(found, key=lambda view: (view.channel.id, view.from_utc))

    def _page(self, views: Sequence[View], after: str) -> Page:
        begun = _AFTER.fullmatch(after or "0:0")
        if begun is None:
            raise QueryRefused("lastReceived is not what an answer's LastSent said")
        channel_id, after_utc = int(begun[1]), int(begun[2])
        taken: list[RegisterReading] = []
        left, remaining, last = PAGE, 0, after
        for view in (one for one in views if one.channel.id >= channel_id):
            begins = max(view.from_utc, after_utc if view.channel.id == channel_id else 0)
            times = moments(self.desk.store, view.channel.id, (begins, view.to_utc), left) if left else []
            for at_utc in times:
                taken += _read(self.desk.store, view, at_utc)
                last = f"{view.channel.id}:{at_utc}"
            left -= len(times)
            if not left:
                rest_from = times[-1] if times else begins
                remaining += count(self.desk.store, view.channel.id, (rest_from, view.to_utc))
        return Page(taken, last, remaining)


def _read(store: SqlStore, view: View, at_utc: int) -> Sequence[RegisterReading]:
    return store.readings(view.channel.id, at_utc, at_utc).registers


@dataclass(frozen=True, slots=True)
class MultiSpeak:
    """`receive`, and what it needs; all of it lives as long as the bus.

    Attributes:
        adapter: returns the adapter's module; asked with the first question.
        store: to look at; connections of the office's own.
        rights: who may see and command what.
        callers: who is it.
        controls: takes what becomes a command.
        clock: UTC milliseconds.
        worker: large messages leave the reactor.
        aside: runs what asks the store off the reactor.
        audit: hears of every call and every refusal.
        output: name of the output that a switch is.
    """

    adapter: Callable[[], Any]
    store: SqlStore
    rights: Rights
    callers: Callers
    controls: ControlsDesk
    clock: Clock
    worker: Worker
    aside: Aside
    audit: Audit
    output: str

    async def receive(self, raw: bytes, hello: Hello) -> Reply:
        """Take one question and return what goes back."""
        now = self.clock()
        try:
            adapter = await self.aside(self.adapter)
            asked = await self.worker.run(len(raw), lambda: adapter.read_call(raw))
            caller = await self.callers.known(Unsigned(raw, asked.element, asked.user, asked.password), hello)
        except GridpostError as error:
            self.audit.refused(error.code, hello.peer, error.detail or error.reason, size=len(raw), office=True)
            return Reply(error.http_status, answers.encode_fault(error))
        try:
            if hello.soap_action and hello.soap_action != f"{asked.version}/{asked.operation}":
                raise ActionMismatch(detail=hello.soap_action[:200])
            check_role(caller.partner, NEEDS.get(asked.operation, "GetMeterReadings"))
            body = await self._answered(adapter, asked, caller, hello.peer, now)
        except GridpostError as error:
            self.audit.refused(
                error.code, hello.peer, error.detail or error.reason,
                verified=True, source=caller.partner.id, office=True,
            )  # fmt: skip
            ours = isinstance(error, OurFault)
            return Reply(error.http_status, answers.encode_fault(error) if ours else adapter.fault(error))
        self.audit.event(
            "office-call", partner=caller.partner.id, way=caller.way.value, operation=asked.operation,
            message_id="", peer=hello.peer,
        )  # fmt: skip
        return Reply(200, body)

    async def _answered(self, adapter: Any, asked: Any, caller: Caller, peer: str, now: int) -> bytes:
        office = CallersOffice(self, caller.partner)
        body: bytes = await self.aside(lambda: adapter.answer(asked, office))
        if not office.wishes:
            return body
        call = Call(caller, asked.operation, _NOTHING, b"", b"", now, now, peer)
        refused = [item for wish in office.wishes for item in await self._done(call, wish)]
        again = CallersOffice(self, caller.partner, refused)
        body = await self.aside(lambda: adapter.answer(asked, again))
        return body

    async def _done(self, call: Call, wish: Wish) -> list[Item]:
        """Have the log take a wish; return what of it was not taken, each with its meter."""
        name = wish.later.transaction_id or f"multispeak-{secrets.token_hex(12)}"
        if not _TRANSACTION.fullmatch(name):
            raise QueryRefused("transactionID is at most 48 printable ASCII characters")
        if wish.later.response_url and wish.later.response_url != call.partner.endpoint:
            raise ReplyAddressRefused(detail=wish.later.response_url[:200])
        refused: list[Item] = []
        by_action: dict[str, list[str]] = {}
        for meter, action in wish.wanted:
            by_action.setdefault(action, []).append(meter)
        for action, meters in by_action.items():
            mrid = name if len(by_action) == 1 else name_part(name, action)
            take = self._switch if action else self._ask
            refused += await take(call, meters, _Named(mrid, action, wish.later.expires_s))
        return refused

    async def _ask(self, call: Call, meters: Sequence[str], named: _Named) -> list[Item]:
        """Have meters read now; what they send comes to the mailbox."""
        seen, refused = await self._parted(call, meters, READ)
        if not seen or await self.aside(lambda: self.store.tracked(call.partner.id, named.mrid)):
            return refused
        header = Header("create", "MeterReadings", call.now_utc_ms, call.partner.id, named.mrid)
        await self.controls.request_readings(
            self._recorded(call, CreateMeterReadings(header, Query(meters=tuple(seen))))
        )
        return refused

    async def _switch(self, call: Call, meters: Sequence[str], named: _Named) -> list[Item]:
        """Propose a shed or a restore for the IEDs of meters; the same transaction again changes nothing."""
        seen, refused = await self._parted(call, meters, SWITCH)
        if not seen or await self.aside(lambda: self.store.tracked(call.partner.id, named.mrid)):
            return refused
        ends = call.now_utc_ms + named.expires_s * 1000 if named.expires_s else 0
        wanted = Wanted(named.mrid, named.action, tuple(seen.values()), output=self.output, expires_utc_ms=ends)
        header = Header("create", "EndDeviceControls", call.now_utc_ms, call.partner.id, f"{named.mrid}-switch")
        try:
            await self.controls.create(self._recorded(call, CreateEndDeviceControls(header, (wanted,))))
        except ControlsRefused as error:
            refused += [Item(one.code, one.reason, meter) for one in error.items for meter in seen]
        return refused

    async def _parted(self, call: Call, meters: Sequence[str], operation: str) -> _Parted:
        """Part meters into those that may be asked, each with its IED, and the others, each with why."""
        parted: _Parted = await self.aside(lambda: self._part(call, meters, operation))
        return parted

    def _part(self, call: Call, meters: Sequence[str], operation: str) -> _Parted:
        seen: dict[str, str] = {}
        refused: list[Item] = []
        for meter in dict.fromkeys(meters):
            try:
                seen[meter] = self._ied_of(call, meter, operation)
            except NotGranted as error:
                refused.append(Item(error.code, error.reason, meter))
            except QueryRefused as error:
                refused.append(Item("not-carried", error.reason, meter))
        return _Parted(seen, refused)

    def _ied_of(self, call: Call, meter: str, operation: str) -> str:
        """The one IED of a meter that the caller has a right to.

        Raises:
            NotGranted: the caller has none.
            QueryRefused: its switch is not told apart by a meter's number.
        """
        now_utc = call.now_utc_ms // 1000
        pairs = self.rights.channels(call.partner, operation, Query(meters=(meter,)))
        serials = self.store.ieds_of(meter, now_utc)
        if not serials or not any(grant.holds_at(now_utc) for _, grant in pairs):
            raise NotGranted(f"no grant for {meter[:64]}")
        if operation != SWITCH:
            return serials[0]
        self.rights.check_targets(call.partner, serials, now_utc)
        served = {channel.key.meter for one in serials for channel in self.store.channels(sender=one)}
        if len(serials) > 1 or len(served) > 1:
            raise QueryRefused("its IED serves several meters: ask by CreateEndDeviceControls, naming the output")
        return serials[0]

    def _recorded(self, call: Call, message: Message) -> Call:
        """The call as the log keeps it: what was asked in our own words, under the bus's seal, and no password."""
        body = messages.encode(message)
        evidence = self.controls.entries.seal(body, call.now_utc_ms, b"")
        operation = SWITCH if isinstance(message, CreateEndDeviceControls) else READ
        digest = exchange.content_digest(body)
        return call._replace(operation=operation, message=message, content_digest=digest, evidence=evidence)


class _Named(NamedTuple):
    """Under which name something is asked, what, and for how long it is worth it."""

    mrid: str
    action: str
    expires_s: int


class _Parted(NamedTuple):
    """Meters that may be asked, each with its IED; and why the others may not."""

    seen: Mapping[str, str]
    refused: list[Item]


class _Nothing(NamedTuple):
    """What stands for a message before there is one."""

    header: Header = Header("get", "MeterReadings", 0, "", "")


_NOTHING = _Nothing()
