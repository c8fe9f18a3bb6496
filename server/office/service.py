"""The office side put together: its desks, its door, its listeners' routes.

In: what the bus is made of. Out: the routes that `transports/office_http.py` serves. What takes long (a query of the
store, an encoding, a password) runs in the pool of the office, beside the reactor and beside the devices' messages.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any, NamedTuple, TypeVar
from xml.sax.saxutils import quoteattr

from gridpost import schemas
from gridpost.envelope import DEVICE_LIMITS
from gridpost.office_messages import encode_end_device_events_reply, encode_meter_readings_reply, reply_to
from gridpost.ports import Clock, Signer
from gridpost.requests import GetEndDeviceEvents, GetMeterReadings

from ..audit import Audit
from ..config import Config
from ..controls.intake import Intake
from ..own import Bench
from ..passwords import Guard
from ..reception import Worker
from ..soap import Answer, Edge, Handler
from ..store import SqlStore
from ..transports.http_connections import peer_group
from ..transports.http_values import PLAIN_TEXT, Request, Response, Route
from ..transports.office_http import OfficeRequest
from ..zones import zone_of
from .call import Aside, Call
from .callers import Callers, Hello
from .comparing import ComparisonDesk
from .completeness import CompletenessDesk
from .contracts import ContractDesk
from .controls import ControlsDesk
from .door import Door, Reply
from .entries import Entries
from .events import EventsDesk
from .mailbox import MailboxDesk
from .meter_config import MeterConfigDesk
from .multispeak import MultiSpeak
from .readings import ReadingsDesk
from .rights import Rights
from .tariffs import TariffDesk

T = TypeVar("T")
Receive = Callable[[bytes, Hello], Awaitable[Reply]]
UTILITY, SUPPLIER = "/utility", "/supplier"
# Where a service is answered -> its description; the door behind both takes the operations of either.
_SERVICES = {UTILITY: schemas.OFFICE_WSDL_NAME, SUPPLIER: schemas.SUPPLIER_WSDL_NAME}
# Where a version of MultiSpeak is answered -> its description; a message says itself which version it is of.
MULTISPEAK = {"/multispeak/v3": "multispeak_v3_mr.wsdl", "/multispeak/v4": "multispeak_v4_mr.wsdl"}
_MULTISPEAK_ADDRESS = "http://localhost/multispeak"
_HOST = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?\Z|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?\Z")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the office side is given.

    Attributes:
        config: the settings.
        store: of the process: its writer takes entries.
        looking: the same store on connections of its own, so that no long answer keeps a device's message waiting.
        signer: the bus's key.
        clock: UTC milliseconds.
        audit: the audit log.
        worker: brings what the writer answers back to the reactor.
        aside: runs what takes long in the office's pool.
        hashed: as aside, one after the other, so that passwords leave room for the rest.
        rsa: the bus's second key, of RSA; None: it has none.
        recorded: hears that commands were recorded, so that fetches that are open have them at once.
        multispeak: returns the adapter of that name; None: MultiSpeak is not served.
    """

    config: Config
    store: SqlStore
    looking: SqlStore
    signer: Signer
    clock: Clock
    audit: Audit
    worker: Worker
    aside: Aside
    hashed: Aside
    rsa: Signer | None = None
    recorded: Callable[[], None] | None = None
    multispeak: Callable[[], Any] | None = None


class Doors(NamedTuple):
    """The ways in: messages of IEC 61968-100, and of MultiSpeak where that is served."""

    door: Door
    multispeak: MultiSpeak | None


def door_of(parts: Parts) -> Door:
    """Return the door for IEC 61968-100 with everything behind it."""
    return doors_of(parts).door


def doors_of(parts: Parts) -> Doors:
    """Return the doors with everything behind them; what changes something goes through one desk for both."""
    config = parts.config
    entries = Entries(parts.store, parts.signer, parts.worker, parts.rsa)
    callers = Callers(parts.looking, parts.clock, Guard(parts.clock), parts.hashed)
    rights = Rights(parts.looking)
    intake = Intake(parts.store, config.commands, parts.clock, parts.recorded, parts.aside)
    controls = ControlsDesk(config.bus.id, parts.store, rights, intake, entries, config.office.page, parts.aside)
    door = Door(
        limits=DEVICE_LIMITS.raised(config.office.body_limit),
        clock=parts.clock,
        callers=callers,
        entries=entries,
        edge=Edge(_handlers(parts, controls)),
        worker=parts.worker,
        audit=parts.audit,
    )
    multispeak = parts.multispeak and MultiSpeak(
        parts.multispeak, parts.looking, rights, callers, controls, parts.clock, parts.worker, parts.aside,
        parts.audit, config.office.switch_output,
    )  # fmt: skip
    return Doors(door, multispeak)


def _handlers(parts: Parts, controls: ControlsDesk) -> Mapping[str, Handler]:
    """One line an operation of `soap.OPERATIONS`."""
    bus_id, most, looking = parts.config.bus.id, parts.config.office.page, parts.looking
    rights, entries = controls.rights, controls.entries
    config = MeterConfigDesk(bus_id, parts.store, rights, entries, most, parts.aside)
    mailbox = MailboxDesk(bus_id, looking, most)
    tariffs = TariffDesk(bus_id, looking, rights, entries, most, parts.aside, zone_of)
    bench = Bench(parts.store, parts.signer, bus_id, parts.clock, zone_of, parts.config)
    contracts = ContractDesk(bench, rights, entries, most, parts.aside)
    completeness = CompletenessDesk(bus_id, looking, rights, zone_of)
    comparison = ComparisonDesk(bus_id, looking, rights, zone_of)
    readings, events = ReadingsDesk(looking, rights, most), EventsDesk(looking, rights, most)

    def meter_readings(call: Call) -> bytes:
        assert isinstance(call.message, GetMeterReadings)
        page = readings.page(call.partner, call.message.query)
        return encode_meter_readings_reply(reply_to(call.header, bus_id, call.now_utc_ms), *page)

    def end_device_events(call: Call) -> bytes:
        assert isinstance(call.message, GetEndDeviceEvents)
        page = events.page(call.partner, call.message.query)
        return encode_end_device_events_reply(reply_to(call.header, bus_id, call.now_utc_ms), *page)

    def looked(look: Callable[[Call], bytes]) -> Handler:
        async def handle(call: Call) -> Answer:
            return Answer(await parts.aside(lambda: look(call)))

        return handle

    return {
        "QueryMeterReadings": looked(meter_readings),
        "RequestMeterReadings": controls.request_readings,
        "WithdrawMeterReadings": controls.cancel_readings,
        "QueryEndDeviceEvents": looked(end_device_events),
        "QueryEndDeviceControls": looked(controls.look),
        "RequestEndDeviceControls": controls.create,
        "ReplaceEndDeviceControls": controls.change,
        "WithdrawEndDeviceControls": controls.cancel,
        "QueryMeterConfig": looked(config.look),
        "EnrolMeterConfig": config.create,
        "AmendMeterConfig": config.change,
        "ReadMailbox": looked(mailbox.peek),
        "CommitMailbox": looked(mailbox.dequeue),
        "QueryCompleteness": looked(completeness.look),
        "OfferTariff": tariffs.offer,
        "ReviseTariff": tariffs.revise,
        "QueryTariff": looked(tariffs.look),
        "RequestContract": contracts.request,
        "DecideContract": contracts.decide,
        "QueryContract": looked(contracts.look),
        "CompareTariffs": looked(comparison.look),
    }


@dataclass(frozen=True, slots=True)
class OfficeRoutes:
    """What an office listener serves: messages, and the contract.

    Attributes:
        doors: take messages.
        scheme: ``http`` or ``https``: which listener this is.
        public_url: the address put into the WSDL; empty: from the Host header.
    """

    doors: Doors
    scheme: str
    public_url: str

    def routes(self) -> list[Route]:
        """Return the listener's table."""
        files = [Route("GET", f"/{name}", self.document) for name in schemas.documents() if name.endswith(".xsd")]
        ways = dict.fromkeys(_SERVICES, self.doors.door.receive)
        if self.doors.multispeak:
            ways |= dict.fromkeys(MULTISPEAK, self.doors.multispeak.receive)
        posts = [Route("POST", path, partial(self.message, receive)) for path, receive in ways.items()]
        return [*posts, *(Route("GET", path, self.wsdl) for path in ways), *files]

    async def message(self, receive: Receive, request: Request) -> Response:
        """POST: through a door."""
        assert isinstance(request, OfficeRequest)
        action = request.headers.get("soapaction", "").strip().strip('"')
        host = request.peer.rpartition(":")[0].strip("[]")
        hello = Hello(request.peer, peer_group(host), request.secure, request.certificate, action)
        reply = await receive(request.body, hello)
        headers = {"Retry-After": "30"} if reply.status == 503 else {}
        return Response(reply.status, reply.body, headers=headers)

    def wsdl(self, request: Request) -> Response:
        """GET ...?wsdl, with the address the caller can reach us at; no header but Host is used for it."""
        path = request.path
        if request.query.lower() != "wsdl":
            return Response(404, f"the service description is at {path}?wsdl\n".encode(), PLAIN_TEXT)
        host = request.headers.get("host", "")
        public = self.public_url and self.public_url.removesuffix(UTILITY) + path
        if path in MULTISPEAK:
            stated, text = _MULTISPEAK_ADDRESS, (resources.files("gridpost.wsdl") / MULTISPEAK[path]).read_bytes()
        else:
            stated, text = f"http://localhost{path}", schemas.documents()[_SERVICES[path]]
        address = public or (f"{self.scheme}://{host}{path}" if _HOST.match(host) else stated)
        return Response(200, text.replace(f'"{stated}"'.encode(), quoteattr(address).encode()))

    def document(self, request: Request) -> Response:
        """GET a schema, at the address the WSDL names relative to itself."""
        return Response(200, schemas.documents()[request.path[1:]])
