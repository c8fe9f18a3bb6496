"""What the device listener serves: messages, the contract, enrolment, health. Each handler is thin and ends elsewhere.

In: whole, checked HTTP requests. Out: HTTP answers. Messages go to `reception`, certification requests to the device
CA; the WSDL and its schemas are static. No header but Host is used, and that only to complete the WSDL where no public
address is configured; X-Forwarded-* are never read.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic_ns
from xml.sax.saxutils import quoteattr

from gridpost import check, enrolment, renewal, schemas
from gridpost.errors import GridpostError, PeerFault

from ..audit import Audit
from ..enrolment import Est
from ..figures import Distribution
from ..reception import Arrival, Reception
from .http_values import PLAIN_TEXT, Request, Response, Route

METERING = "/metering"
EST = "/.well-known/est"
CRL = "/crl"
PKCS10, PKCS7 = "application/pkcs10", "application/pkcs7-mime; smime-type=certs-only"
PKIX_CRL = "application/pkix-crl"  # RFC 2585
WAITING = "Gridpost-Waiting"  # how many controls the sender could fetch: an unsigned hint (DESIGN 4)
_EST_BODY = 16_384
_ADDRESS = "http://localhost/metering"
_HOST = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?\Z|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?\Z")


@dataclass(frozen=True, slots=True)
class Door:
    """What the handlers lead to.

    Attributes:
        reception: takes messages.
        est: takes certification requests.
        audit: hears of enrolments.
        scheme: ``http`` or ``https``: which listener this is.
        public_url: the address put into the WSDL; empty: from the Host header.
        is_healthy: whether a message could be taken now.
        aside: runs what may wait for the disk off the reactor.
        answered_us: hears how long each message took, from the whole request to its answer.
    """

    reception: Reception
    est: Est
    audit: Audit
    scheme: str
    public_url: str
    is_healthy: Callable[[], bool]
    aside: Callable[[Callable[[], bytes]], Awaitable[bytes]]
    answered_us: Distribution

    def routes(self) -> list[Route]:
        """Return the listener's table."""
        files = [Route("GET", f"/{name}", self.document) for name in schemas.documents() if name.endswith(".xsd")]
        return [
            Route("POST", METERING, self.message),
            Route("GET", METERING, self.wsdl),
            *files,
            Route("GET", f"{EST}/cacerts", self.cacerts),
            Route("POST", f"{EST}/simpleenroll", self.simpleenroll, (PKCS10,), _EST_BODY),
            Route("POST", f"{EST}/simplereenroll", self.simplereenroll, (PKCS10,), _EST_BODY),
            Route("GET", CRL, self.crl),
            Route("GET", "/health", self.health),
        ]

    async def message(self, request: Request) -> Response:
        """POST /metering: the corridor."""
        began_ns = monotonic_ns()
        action = request.headers.get("soapaction", "").strip().strip('"')
        reply = await self.reception.receive(request.body, Arrival(check.HTTP, request.peer, action))
        headers = {"Retry-After": "30"} if reply.status == 503 else {}
        if reply.waiting:
            headers[WAITING] = str(reply.waiting)
        if not reply.held:
            self.answered_us.note((monotonic_ns() - began_ns) // 1000)
        return Response(reply.status, reply.body, headers=headers)

    def wsdl(self, request: Request) -> Response:
        """GET /metering?wsdl, with the address the caller can reach us at."""
        if request.query.lower() != "wsdl":
            return Response(404, b"the service description is at /metering?wsdl\n", PLAIN_TEXT)
        host = request.headers.get("host", "")
        address = self.public_url or (f"{self.scheme}://{host}{METERING}" if _HOST.match(host) else _ADDRESS)
        text = schemas.documents()[schemas.WSDL_NAME].replace(f'"{_ADDRESS}"'.encode(), quoteattr(address).encode())
        return Response(200, text)

    def document(self, request: Request) -> Response:
        """GET a schema, at the address the WSDL names relative to itself."""
        return Response(200, schemas.documents()[request.path[1:]])

    def cacerts(self, request: Request) -> Response:
        """GET the device CA; whoever holds a code compares its fingerprint."""
        return Response(200, self.est.cacerts(), PKCS7, {"Content-Transfer-Encoding": "base64"})

    async def simpleenroll(self, request: Request) -> Response:
        """POST a certification request with the proof of a code."""
        header = request.headers.get(enrolment.HEADER.lower(), "")
        serial = enrolment.serial_of(header)[:64]
        response = await self._certified(request, serial, lambda: self.est.simpleenroll(request.body, header))
        if response.status == 200:
            self.audit.event("enrolled", serial=serial, peer=request.peer)
        return response

    async def simplereenroll(self, request: Request) -> Response:
        """POST a certification request for the next key with the proof of the present one."""
        header = request.headers.get(renewal.HEADER.lower(), "")
        serial = header.partition(":")[0][:64]
        response = await self._certified(request, serial, lambda: self.est.simplereenroll(request.body, header))
        if response.status == 200:
            self.audit.event("reenrolled", serial=serial, peer=request.peer)
        return response

    async def _certified(self, request: Request, serial: str, certify: Callable[[], bytes]) -> Response:
        try:
            answer = await self.aside(certify)
        except GridpostError as error:
            self.audit.refused(error.code, request.peer, error.detail or error.reason, serial=serial)
            for item in error.items:  # somebody knows the secret, or has the key, and is not the one we know
                self.reception.alarms(item.code, serial=serial, peer=request.peer)
            reason = error.reason if isinstance(error, PeerFault) else ""
            return Response(error.http_status, f"{error.code}: {reason}\n".encode(), PLAIN_TEXT)
        return Response(200, answer, PKCS7, {"Content-Transfer-Encoding": "base64"})

    async def crl(self, request: Request) -> Response:
        """GET the device CA's list of revoked certificates."""
        try:
            return Response(200, await self.aside(self.est.crl), PKIX_CRL)
        except GridpostError as error:
            status = 404 if isinstance(error, PeerFault) else error.http_status
            return Response(status, f"{error.code}\n".encode(), PLAIN_TEXT)

    def health(self, request: Request) -> Response:
        """GET /health: 200 while a message could be stored, else 503."""
        healthy = self.is_healthy()
        return Response(200 if healthy else 503, b"ok\n" if healthy else b"store unavailable\n", PLAIN_TEXT)
