"""A way out shared by the adapters: a SOAP 1.1 call to a partner's service, as the partner's own WSDL describes it.

In: a stable name and a Body's child, made by a renderer. Out: an answer that takes it, or why not: `PartnerRefused`
(the partner says no, or its description has no such message: a person must look) or `PartnerUnreachable` (anything
else: the message is kept and sent again). At least once: an answer lost on the way means a second call, under the same
name, by which a partner can tell a repeat.

zeep reads the description and judges whether it has room for the message; what is sent are the very bytes rendered.
Called is the registered address, or the one in the description, and nobody else: no redirect, no address in an answer.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import requests
import zeep
from urllib3.exceptions import HTTPError
from zeep.exceptions import Error as ZeepError
from zeep.loader import is_relative_path
from zeep.transports import Transport
from zeep.wsdl.bindings import Soap11Binding

from gridpost import ns
from gridpost.envelope import Element, Limits, parse
from gridpost.errors import Item, PartnerRefused, PartnerUnreachable, PeerFault

MOST_ANSWER = 1 << 20  # octets
MOST_WSDL = 16 << 20
_CHUNK = 1 << 16
_SECOND_NS = 1_000_000_000
_BODY, _FAULT = ns.q(ns.SOAP11, "Body"), ns.q(ns.SOAP11, "Fault")
# What a partner answers to a message it can never take; any other status without a fault means: not now.
_NEVER = frozenset((400, 413, 415, 422))

Judge = Callable[[Element], Sequence[Item]]  # of an answer's Body child: what the partner found wrong; empty: taken
Wrap = Callable[[str, bytes], bytes]  # a stable name and a Body's child -> the envelope sent


def plain(name: str, content: bytes) -> bytes:
    """Return an envelope without a header."""
    return enveloped(b"", content)


def enveloped(header: bytes, content: bytes) -> bytes:
    """Return a SOAP 1.1 envelope around a Body's child and, where there are any, header blocks."""
    head = b"<soap:Header>" + header + b"</soap:Header>" if header else b""
    open_ = f'<soap:Envelope xmlns:soap="{ns.SOAP11}">'.encode()
    return open_ + head + b"<soap:Body>" + content + b"</soap:Body></soap:Envelope>"


@dataclass(frozen=True, slots=True)
class Partner:
    """Whom to call, and how.

    Attributes:
        wsdl: where the description lies, a path or an address.
        endpoint: the registered address; empty: the one of the description.
        judge: what an answer says.
        wrap: how a Body's child becomes an envelope: with a header, signed.
        timeout_s: for the whole call.
        ca: file of certificates that may vouch for the partner's HTTPS; empty: those the machine trusts.
        client: files of a TLS client certificate and its key; empty: none.
    """

    wsdl: str
    endpoint: str = ""
    judge: Judge = field(default=lambda answer: ())
    wrap: Wrap = plain
    timeout_s: int = 30
    ca: str = ""
    client: tuple[str, str] | tuple[()] = ()


class Reached(NamedTuple):
    """What an address says to a GET: HTTP status, its Date and Location; empty: not stated."""

    status: int
    date: str
    location: str


@dataclass(frozen=True, slots=True)
class Operation:
    """What a description says of one message."""

    action: str
    address: str
    answer: str  # name of the answer's Body child; empty: none
    fits: Callable[[Element], None]


class SoapCall:
    """Delivery by a SOAP call; one for each partner."""

    def __init__(self, partner: Partner) -> None:
        """The description is read at the first call, and again at the next when that failed."""
        self._partner = partner
        self._operations: Mapping[str, Operation] = {}
        self._transport = _Transport(partner)

    def deliver(self, name: str, content: bytes) -> str:
        """Send a Body's child and return the address that took it.

        Raises:
            PartnerRefused: the partner does not take it, each finding listed; or its description has no room for it.
            PartnerUnreachable: no answer, or none that the description knows; try again.
        """
        element = parse(content, Limits().raised(len(content)))
        return self.carry(name, element, self._partner.wrap(name, content))

    def carry(self, name: str, element: Element, envelope: bytes) -> str:
        """Send an envelope whose Body's child is `element`; as `deliver`."""
        operation = self._operation(str(element.tag))
        _held_against(operation, element)
        address = self._partner.endpoint or operation.address
        status, answer = self._transport.call(address, operation.action, envelope)
        findings = self._partner.judge(_taken(status, answer, operation))
        if findings:
            raise PartnerRefused(f"{name}: {findings[0].reason}", items=findings)
        return address

    def takes(self) -> Mapping[str, Operation]:
        """Return what the partner's description knows: name of the Body's child -> operation.

        Raises:
            PartnerUnreachable: the description cannot be read now.
        """
        if not self._operations:
            self._operations = _read(self._partner.wsdl, self._transport)
        return self._operations

    def reach(self) -> Reached:
        """Ask the address that is called for nothing, over the very way that messages take.

        Raises:
            PartnerUnreachable: no answer came, or who answers is not trusted.
        """
        address = self._partner.endpoint or next(iter(self.takes().values())).address
        return self._transport.reach(address)

    def _operation(self, tag: str) -> Operation:
        operation = self.takes().get(tag)
        if operation is None:
            raise PartnerRefused(f"the partner's WSDL has no operation for {tag}")
        return operation


def _read(wsdl: str, transport: _Transport) -> Mapping[str, Operation]:
    """Read a description: name of the Body's child -> operation, of its SOAP 1.1 ports."""
    try:
        client = zeep.Client(wsdl, transport=transport, settings=zeep.Settings(strict=True))
        operations = dict(_operations(client))
    except (ZeepError, requests.RequestException, PeerFault, OSError, ValueError, AttributeError, TypeError) as error:
        raise PartnerUnreachable(f"the partner's WSDL {wsdl} cannot be read: {error}") from None
    if not operations:
        raise PartnerUnreachable(f"the partner's WSDL {wsdl} cannot be read: it has no operation of SOAP 1.1")
    return operations


def _operations(client: Any) -> Iterator[tuple[str, Operation]]:
    ports = [port for service in client.wsdl.services.values() for port in service.ports.values()]
    for port in ports:
        if isinstance(port.binding, Soap11Binding):
            for one in port.binding.all().values():
                body, answer = one.input.body, one.output and one.output.body
                fits = _fitting(body, client.wsdl.types)
                told = str(answer.qname) if answer is not None else ""
                operation = Operation(one.soapaction or "", port.binding_options["address"], told, fits)
                yield str(body.qname), operation


def _fitting(body: Any, schema: Any) -> Callable[[Element], None]:
    def fits(element: Element) -> None:
        body.parse(element, schema)

    return fits


def _held_against(operation: Operation, element: Element) -> None:
    """Ask zeep whether the partner's schema has room for all of a message.

    Raises:
        PartnerRefused: it does not.
    """
    try:
        operation.fits(element)
    except (ZeepError, ValueError, TypeError, AttributeError) as error:
        raise PartnerRefused(f"the partner's WSDL does not take this message: {error}") from None


def _taken(status: int, answer: bytes, operation: Operation) -> Element:
    """Return the Body's child of an answer that takes the message.

    Raises:
        PartnerRefused: a fault that blames the message.
        PartnerUnreachable: anything else.
    """
    child = _body_child(answer)
    if child is not None and child.tag == _FAULT:
        raise _fault(child)
    if child is not None and status == 200 and child.tag == operation.answer:
        return child
    if status in _NEVER:
        raise PartnerRefused(f"the partner answers HTTP {status}")
    raise PartnerUnreachable(f"the partner answers HTTP {status} with {_kind(answer)}, not with {operation.answer}")


def _body_child(answer: bytes) -> Element | None:
    try:
        root = parse(answer, Limits().raised(len(answer)))
    except PeerFault:
        return None
    body = root.find(_BODY)
    return body[0] if body is not None and len(body) == 1 else None


def _kind(answer: bytes) -> str:
    start = " ".join(answer[:60].decode("utf-8", "replace").split())
    return repr(start) if start else "nothing"


def _fault(fault: Element) -> PartnerRefused | PartnerUnreachable:
    """SOAP 1.1 section 4.4.1: Client faults are the message's, all others may pass."""
    code = (fault.findtext("faultcode") or "").strip().rpartition(":")[2].partition(".")[0]
    said = " ".join((fault.findtext("faultstring") or "no reason given").split())[:400]
    if code == "Client":
        return PartnerRefused(f"the partner answers a fault: {said}", items=[Item("partner-fault", said)])
    return PartnerUnreachable(f"the partner answers a fault of its own: {said}")


class _Transport(Transport):
    """zeep's way to the network, narrowed: own origin only, no redirect, bounded in octets and in time."""

    def __init__(self, partner: Partner) -> None:
        session = requests.Session()
        session.trust_env = False  # no proxy and no .netrc from the environment
        session.headers["Accept-Encoding"] = "identity"  # a compressed answer could be a bomb
        session.verify = partner.ca or True
        session.cert = partner.client or None
        super().__init__(session=session, timeout=partner.timeout_s, operation_timeout=partner.timeout_s)  # type: ignore[no-untyped-call]
        self._wsdl, self._timeout_s = partner.wsdl, partner.timeout_s

    def load(self, url: str) -> bytes:
        """Load a description or what it imports: from the description's own folder or origin, and nowhere else."""
        remote = urlsplit(self._wsdl).scheme in ("http", "https")
        if remote and not is_relative_path(url) and _origin(url) == _origin(self._wsdl):
            status, content = self._bounded("GET", url, MOST_WSDL)
            if status != 200:
                raise PartnerUnreachable(f"{url} answers HTTP {status}")
            return content
        folder = Path(self._wsdl.removeprefix("file://")).resolve().parent
        file = Path(url.removeprefix("file://")).resolve()
        if remote or not file.is_relative_to(folder):
            raise PartnerUnreachable(f"the partner's WSDL asks for {url}, which is not beside it")
        return file.read_bytes()

    def call(self, address: str, action: str, envelope: bytes) -> tuple[int, bytes]:
        """Post an envelope; return status and answer.

        Raises:
            PartnerUnreachable: no whole answer came.
        """
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{action}"', "Connection": "close"}
        return self._bounded("POST", address, MOST_ANSWER, data=envelope, headers=headers)

    def reach(self, address: str) -> Reached:
        """GET an address and leave its content unread.

        Raises:
            PartnerUnreachable: no answer came.
        """
        try:
            asked = self.session.get(address, stream=True, allow_redirects=False, timeout=self._timeout_s)
            with contextlib.closing(asked) as answer:
                said = answer.headers
                return Reached(answer.status_code, said.get("Date", ""), said.get("Location", ""))
        except (requests.RequestException, HTTPError, OSError) as error:
            raise PartnerUnreachable(f"{address} cannot be reached: {error}") from None

    def _bounded(self, method: str, url: str, most: int, **options: Any) -> tuple[int, bytes]:
        ends_ns = time.monotonic_ns() + self._timeout_s * _SECOND_NS
        asked = {"stream": True, "allow_redirects": False, "timeout": self._timeout_s, **options}
        try:
            with contextlib.closing(self.session.request(method, url, **asked)) as answer:
                return answer.status_code, b"".join(_read_until(answer, most, ends_ns))
        except (requests.RequestException, HTTPError, OSError) as error:
            raise PartnerUnreachable(f"{url} cannot be reached: {error}") from None


def _read_until(answer: Any, most: int, ends_ns: int) -> Iterator[bytes]:
    """Yield an answer as it comes, in pieces of any size: one that drips must not outlast the deadline."""
    total = 0
    while chunk := answer.raw.read1(_CHUNK, decode_content=True):
        total += len(chunk)
        if total > most or time.monotonic_ns() > ends_ns:
            raise PartnerUnreachable(f"{answer.url} answers more than {most} octets, or for too long")
        yield chunk


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(urljoin(url, url))
    return parts.scheme, parts.netloc
