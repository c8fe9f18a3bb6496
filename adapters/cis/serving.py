"""What a customer information system asks of us in MultiSpeak, roles MR and CD: a request in, an answer out. Pure.

In: the bytes of a request and an `Office`: what the caller may see and propose, nothing else. Out: the answer's
envelope, or a PeerFault that the listener turns into a SOAP fault. Who the caller is, the listener finds out from
`Call.user` and `Call.password` (they count as a UsernameToken, over TLS only) before it lends an `Office` that is the
caller's. A switch is never moved here: what is asked becomes a proposal, and the answer says only what was not taken.

A date without a zone is refused: MultiSpeak leaves open whose it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

from gridpost import ns
from gridpost.encoding import attribute, octets, text_of
from gridpost.envelope import Element, Limits, parse
from gridpost.errors import EnvelopeShape, GridpostError, Item, QueryRefused, UnknownOperation, VersionMismatch
from gridpost.model import RegisterReading
from gridpost.units import decimal_text, parse_utc

from ..soap_call import enveloped
from .notifications import formatted_block, reading_changed
from .tables import Version

LIMITS = Limits()
MOST_METERS = 1000  # of one request
LONGEST_EXPIRY_S = 30 * 86_400
_BODY, _HEADER = ns.q(ns.SOAP11, "Body"), ns.q(ns.SOAP11, "Header")
# loadActionCode -> our action; the others are states, or nothing a switch of ours does.
ACTION_OF_CODE: Mapping[str, str] = {
    "Disconnect": "shed", "Open": "shed", "Connect": "restore", "Closed": "restore",
}  # fmt: skip


class Page(NamedTuple):
    """Readings in order, the name of the last one for the next page, and how many follow."""

    registers: Sequence[RegisterReading]
    last: str = ""
    remaining: int = 0


class Later(NamedTuple):
    """What is answered later: to whom, under which id, and until when it is worth it."""

    transaction_id: str
    response_url: str  # must be the caller's registered endpoint; the office refuses any other
    expires_s: int


class Office(Protocol):
    """What one caller may see and propose."""

    def latest(self, meter: str) -> Sequence[RegisterReading]:
        """Return the newest reading of each register of a meter; none for a meter the caller may not see."""

    def readings(self, meter: str, from_utc: int, to_utc: int, after: str) -> Page:
        """Return registers with from_utc <= moment <= to_utc, of one meter or (empty) of all the caller may see."""

    def cycle(self, billing_cycle: str, from_utc: int, to_utc: int, after: str) -> Page:
        """Return register readings of the meters of a billing cycle."""

    def read(self, meters: Sequence[str], later: Later) -> Sequence[Item]:
        """Ask meters to be read; return which were not asked, each with its meter as path, and why."""

    def propose(self, switches: Sequence[tuple[str, str]], later: Later) -> Sequence[Item]:
        """Propose (meter, action of `ACTION_OF_CODE`) each; return which were not taken, and why."""


class Call(NamedTuple):
    """A request, its sender not yet proved."""

    version: Version
    user: str
    password: str
    operation: str
    element: Element


def read_call(raw: bytes) -> Call:
    """Take bytes to a request.

    Raises:
        PeerFault: of the first group in errors.py; UnknownOperation: none of MultiSpeak's that are answered here.
    """
    root = parse(raw, LIMITS)
    if root.tag != ns.q(ns.SOAP11, "Envelope"):
        raise VersionMismatch(detail=f"root {root.tag[:200]}")
    body = root.find(_BODY)
    if body is None or len(body) != 1:
        raise EnvelopeShape(detail="Body without one child")
    space, _, operation = body[0].tag.removeprefix("{").rpartition("}")
    if space not in set(Version) or operation not in OPERATIONS:
        raise UnknownOperation(f"{operation[:80]} is not answered here; GetMethods tells what is")
    header = root.find(f"{_HEADER}/{ns.q(space, 'MultiSpeakMsgHeader')}")
    said = {} if header is None else header.attrib
    return Call(Version(space), said.get("UserID", ""), said.get("Pwd", ""), operation, body[0])


class Answer(NamedTuple):
    """The content of a result, and what the header says of pages."""

    result: str = ""
    last: str = ""
    remaining: int | None = None


def answer(call: Call, office: Office) -> bytes:
    """Return the answer's envelope.

    Raises:
        QueryRefused: a date, number or meter of the request cannot be used.
        CannotRepresent: readings that MultiSpeak cannot say.
    """
    found = OPERATIONS[call.operation](call, office)
    pages = {} if found.remaining is None else {"LastSent": found.last, "ObjectsRemaining": str(found.remaining)}
    fields = "".join(f' {name}="{attribute(value)}"' for name, value in pages.items() if value)
    header = f'<MultiSpeakMsgHeader xmlns="{call.version}"{fields}></MultiSpeakMsgHeader>'
    name = call.operation
    content = f'<{name}Response xmlns="{call.version}"><{name}Result>{found.result}</{name}Result></{name}Response>'
    return enveloped(octets(header), octets(content))


def fault(error: GridpostError) -> bytes:
    """Return a SOAP fault for a caller that proved who it is: the code and the reason."""
    text = text_of(f"{error.code}: {error.reason}")
    said = f"<faultcode>soap:{error.soap_fault}</faultcode><faultstring>{text}</faultstring>"
    return enveloped(b"", octets(f"<soap:Fault>{said}</soap:Fault>"))


# --- the operations --------------------------------------------------------------------------------------------------


def _ping(call: Call, office: Office) -> Answer:
    return Answer()


def _methods(call: Call, office: Office) -> Answer:
    return Answer("".join(f"<string>{name}</string>" for name in OPERATIONS))


def _latest(call: Call, office: Office) -> Answer:
    registers = office.latest(_meter(call.element))
    newest = max((one.time_utc for one in registers), default=0)
    reads = _reads([one for one in registers if one.time_utc == newest], call.version)
    # The one result is a meterRead, not a list of them: its own element's tags go.
    return Answer(reads[reads.find(">") + 1 : reads.rfind("<")])


def _by_meter(call: Call, office: Office) -> Answer:
    page = office.readings(_meter(call.element), *_period(call.element), "")
    if page.remaining:
        raise QueryRefused("more readings than one answer takes: ask for a shorter period, or GetReadingsByDate")
    return Answer(_reads(page.registers, call.version))


def _by_date(call: Call, office: Office) -> Answer:
    page = office.readings("", *_period(call.element), _text(call.element, "lastReceived"))
    return Answer(_reads(page.registers, call.version), page.last, page.remaining)


def _by_cycle(call: Call, office: Office) -> Answer:
    """Look kWhLookBack days back from billingDate, and kWLookForward days ahead."""
    at_utc = _date(call.element, "billingDate")
    from_utc = at_utc - 86_400 * max(_days(call.element, name) for name in ("kWhLookBack", "kWLookBack"))
    to_utc = at_utc + 86_400 * _days(call.element, "kWLookForward")
    cycle, after = _text(call.element, "billingCycle"), _text(call.element, "lastReceived")
    page = office.cycle(cycle, from_utc, to_utc, after)
    if not page.registers:
        return Answer("", page.last, page.remaining)
    made = formatted_block(page.registers, call.version, "").content.decode()
    block = made[made.index("<changedMeterReads>") + len("<changedMeterReads>") : made.index("</changedMeterReads>")]
    return Answer(f"<formattedBlock>{block}</formattedBlock>", page.last, page.remaining)


def _read(call: Call, office: Office) -> Answer:
    listed = [child for child in call.element if child.tag.endswith(("}meterNos", "}meterIDs"))]
    meters = [text for parent in listed for text in map(_own_text, parent) if text]
    if not 1 <= len(meters) <= MOST_METERS:
        raise QueryRefused(f"{len(meters)} meters; a request names 1 to {MOST_METERS}")
    return Answer(_errors(office.read(meters, _later(call.element))))


def _switch(call: Call, office: Office) -> Answer:
    wanted = [(_meter(event), _text(event, "loadActionCode")) for event in call.element.iterfind("{*}cdEvents/*")]
    if not 1 <= len(wanted) <= MOST_METERS:
        raise QueryRefused(f"{len(wanted)} events; a request holds 1 to {MOST_METERS}")
    known = [(meter, ACTION_OF_CODE[code]) for meter, code in wanted if code in ACTION_OF_CODE]
    refused = [
        Item("not-carried", f"loadActionCode {code or 'missing'} is nothing that is done here", meter)
        for meter, code in wanted
        if code not in ACTION_OF_CODE
    ]
    later = _later(call.element)
    return Answer(_errors([*refused, *(office.propose(known, later) if known else ())]))


OPERATIONS: Mapping[str, Callable[[Call, Office], Answer]] = {
    "PingURL": _ping,
    "GetMethods": _methods,
    "GetLatestReadingByMeterNo": _latest,
    "GetReadingsByMeterNo": _by_meter,
    "GetReadingsByDate": _by_date,
    "GetReadingsByBillingCycle": _by_cycle,
    "InitiateMeterReadByMeterNumber": _read,
    "InitiateConnectDisconnect": _switch,
}


# --- their parts -----------------------------------------------------------------------------------------------------


def _own_text(element: Element) -> str:
    return (element.text or "").strip()


def _text(element: Element, name: str) -> str:
    return (element.findtext(f"{{*}}{name}") or "").strip()


def _meter(element: Element) -> str:
    named = element.find("{*}meterID")
    meter = _text(element, "meterNo") or ("" if named is None else named.get("meterNo", "") or _own_text(named))
    if not meter:
        raise QueryRefused("no meter is named")
    return str(meter)


def _date(element: Element, name: str) -> int:
    text = _text(element, name)
    try:
        return parse_utc(text)
    except ValueError as error:
        raise QueryRefused(f"{name} {text[:40]!r}: {error}") from None


def _period(element: Element) -> tuple[int, int]:
    from_utc, to_utc = _date(element, "startDate"), _date(element, "endDate")
    if to_utc < from_utc:
        raise QueryRefused("endDate is before startDate")
    return from_utc, to_utc


def _number(element: Element, name: str) -> Decimal:
    text = _text(element, name)
    try:
        return Decimal(decimal_text(text)) if text else Decimal(0)
    except ValueError as error:
        raise QueryRefused(f"{name} {text[:40]!r}: {error}") from None


def _days(element: Element, name: str) -> int:
    days = int(_number(element, name))
    if not 0 <= days <= 400:
        raise QueryRefused(f"{name} is not 0 to 400 days")
    return days


def _later(element: Element) -> Later:
    """Read what comes later. A float of seconds written with an exponent is refused, not guessed."""
    expires_s = int(_number(element, "expirationTime"))
    if not 0 <= expires_s <= LONGEST_EXPIRY_S:
        raise QueryRefused(f"expirationTime is not 0 to {LONGEST_EXPIRY_S} s")
    return Later(_text(element, "transactionID"), _text(element, "responseURL"), expires_s)


def _reads(registers: Sequence[RegisterReading], version: Version) -> str:
    """The meterRead or meterReading elements of readings, as ReadingChangedNotification has them."""
    if not registers:
        return ""
    made = reading_changed(registers, version, "").content.decode()
    return made[made.index("<changedMeterReads>") + len("<changedMeterReads>") : made.index("</changedMeterReads>")]


def _errors(items: Iterable[Item]) -> str:
    return "".join(
        f'<errorObject errorString="{attribute(item.reason)}" nounType="{attribute(item.code)}"'
        f' objectID="{attribute(item.path)}"></errorObject>'
        for item in items
    )
