"""A plain HTTP server that serves the contract and plays a bus: it keeps each request and gives a canned answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gridpost import schemas

DIGEST = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="  # SHA-256 of nothing, base64

_REFERENCES = "".join(
    f"<r:Reference><r:uri>{uri}</r:uri><r:transform>http://www.w3.org/2001/10/xml-exc-c14n#</r:transform><r:prefixList/>"
    f"<r:digestAlgorithm>http://www.w3.org/2001/04/xmlenc#sha256</r:digestAlgorithm>"
    f"<r:digestValue>{DIGEST}</r:digestValue></r:Reference>"
    for uri in ("#Body", "#Timestamp")
)


def envelope(body: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">'
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def receipt_answer(noun: str, message_id: str, extra: str = "") -> bytes:
    return envelope(
        f'<w:{noun}ResponseMessage xmlns:w="http://iec.ch/TC57/2011/{noun}Message" '
        'xmlns:h="http://iec.ch/TC57/2011/schema/message" xmlns:r="urn:gridpost:receipt:1">'
        f"<w:Header><h:Verb>reply</h:Verb><h:Noun>{noun}</h:Noun><h:Timestamp>2026-03-01T00:15:02.250Z</h:Timestamp>"
        f"<h:Source>bus</h:Source><h:CorrelationID>{message_id}</h:CorrelationID></w:Header>"
        "<w:Reply><h:Result>OK</h:Result></w:Reply>"
        f"<w:Payload><r:Receipt><r:messageId>{message_id}</r:messageId><r:sender>IED-7</r:sender>"
        f"<r:contentDigest>{DIGEST}</r:contentDigest>{_REFERENCES}<r:recordedAt>2026-03-01T00:15:02.250Z</r:recordedAt>"
        f"<r:partition>0</r:partition><r:seq>41</r:seq><r:logRootBefore>{DIGEST}</r:logRootBefore>"
        f"<r:stored>2</r:stored><r:known>0</r:known><r:conflicting>0</r:conflicting></r:Receipt>{extra}</w:Payload>"
        f"</w:{noun}ResponseMessage>"
    )


def fault_answer(noun: str) -> bytes:
    return envelope(
        "<s:Fault><faultcode>s:Client</faultcode><faultstring>readings-refused</faultstring><detail>"
        f'<w:{noun}FaultMessage xmlns:w="http://iec.ch/TC57/2011/{noun}Message" '
        'xmlns:h="http://iec.ch/TC57/2011/schema/message" xmlns:f="urn:gridpost:refusal:1">'
        "<w:Reply><h:Result>FAILED</h:Result><h:Error><h:code>readings-refused</h:code>"
        "<h:reason>unknown channel</h:reason><h:xpath>/m:MeterReadings[1]/m:MeterReading[2]</h:xpath></h:Error>"
        "</w:Reply><f:Refusal><f:code>readings-refused</f:code><f:retry>after-fix</f:retry>"
        f"<f:contentDigest>{DIGEST}</f:contentDigest><f:signatureDigest>{DIGEST}</f:signatureDigest>"
        f"<f:time>2026-03-01T00:15:02.250Z</f:time></f:Refusal></w:{noun}FaultMessage></detail></s:Fault>"
    )


@dataclass
class Peer:
    """What the test sets (`answer`, `status`) and reads (`fetched`: paths; `requests`: SOAPAction and body)."""

    url: str = ""
    answer: bytes = b""
    status: int = 200
    fetched: list[str] = field(default_factory=list)
    requests: list[tuple[str, bytes]] = field(default_factory=list)


def _handler(peer: Peer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            peer.fetched.append(self.path)
            name = self.path.lstrip("/").replace("?wsdl", ".wsdl")
            content = schemas.documents().get(name)
            if content is None:
                self.send_error(404)
                return
            placeholder = f"http://localhost/{peer.url.rpartition('/')[2]}".encode()
            self._send(200, content.replace(placeholder, peer.url.encode()))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            peer.requests.append((self.headers.get("SOAPAction", ""), body))
            self._send(peer.status, peer.answer)

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/xml; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def _serving(path: str) -> Iterator[Peer]:
    peer = Peer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(peer))
    peer.url = f"http://127.0.0.1:{server.server_address[1]}/{path}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield peer
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def metering_peer() -> Iterator[Peer]:
    """A `Peer` on an ephemeral port of 127.0.0.1, its WSDL at ``<url>?wsdl``."""
    with _serving("metering") as peer:
        yield peer


@pytest.fixture(scope="module")
def utility_peer() -> Iterator[Peer]:
    """The same for offices."""
    with _serving("utility") as peer:
        yield peer


@pytest.fixture(scope="module")
def supplier_peer() -> Iterator[Peer]:
    """The same for suppliers."""
    with _serving("supplier") as peer:
        yield peer


@pytest.fixture
def answers() -> tuple[object, object]:
    """The makers of canned answers: receipt_answer(noun, message_id, extra) and fault_answer(noun)."""
    return receipt_answer, fault_answer
