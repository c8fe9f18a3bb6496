"""The office listener: what the device listener refuses is refused here too, but for chunked bodies: offices send them.

Expected statuses are the device listener's table (RFC 9110 and 9112, the table of HTTP threats) and, for chunked
bodies, RFC 9112 section 7.1.
"""

import contextlib
import importlib.util
import re
from pathlib import Path

import pytest
from gridpost.server.transports.http_values import HttpLimits, Response, Route
from gridpost.server.transports.office_http import OfficeHttpFactory
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

_spec = importlib.util.spec_from_file_location("refusals", Path(__file__).parent / "test_device_http_refusals.py")
_device = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_device)
GET = b"GET /health HTTP/1.1\r\nHost: bus\r\n\r\n"
HEAD = b"POST /metering HTTP/1.1\r\nHost: bus\r\nContent-Type: text/xml\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
# The chunked body that is let in, and two that break RFC 9112 section 7.1 instead of the device listener's rule.
DIFFERENT = {"chunked": 200, "chunked-bad-size": 400, "chunked-endless-extension": 400}


@pytest.fixture(scope="module")
def office(running):
    """The harness of the device listener around the office's."""

    class Office(type(running)):
        def make_factory(self, limits):
            routes = [
                Route("POST", "/metering", self.digest), Route("GET", "/metering", self.query),
                Route("GET", "/health", lambda request: Response(200, b"ok", "text/plain")),
                Route("POST", "/later", self.later), Route("POST", "/broken", self.broken),
            ]  # fmt: skip
            return OfficeHttpFactory(routes, self.reactor, limits, lambda *refusal: self.refusals.append(refusal))

    made = Office()
    yield made
    made.reactor.callFromThread(made.reactor.stop)
    made.thread.join(10)


@pytest.fixture
def bus(office):
    office.seen.clear()
    office.refusals.clear()
    office.waiting.clear()
    return office


def status_of(bus, raw: bytes) -> int:
    with bus.connect() as client, client.makefile("rb") as stream:
        client.sendall(raw)
        return int(stream.readline().split(b" ")[1])


@pytest.mark.parametrize("name", _device.REFUSED)
def test_what_the_device_listener_refuses_is_refused_here(bus, name):
    raw, status = _device.REFUSED[name]
    assert status_of(bus, raw + GET) == DIFFERENT.get(name, status)
    assert [request.path for request in bus.seen] == (["/metering"] if name == "chunked" else [])
    assert len(bus.refusals) == (name != "chunked")


def test_bodies_come_whole_and_in_order_however_they_are_framed(bus):
    chunks = b"3\r\nabc\r\n1;note\r\nd\r\n0\r\nTrailer: x\r\n\r\n"
    answers = bus.talk(bus.post(b"abc") + CHUNKED + chunks + GET, 3)
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert [request.body for request in bus.seen] == [b"abc", b"abcd"]
    assert not bus.seen[0].secure
    assert bus.seen[0].certificate == b""


def test_a_chunked_body_is_cut_at_the_limit_while_it_comes(bus):
    sent = 0
    with contextlib.suppress(ConnectionResetError, BrokenPipeError), bus.connect() as client:
        client.sendall(CHUNKED)
        while sent < 100:  # 1 MB, ten times the limit
            client.sendall(b"2710\r\n" + bytes(10_000) + b"\r\n")
            sent += 1
    bus.until(lambda: bus.refusals)
    assert [code for code, _, _ in bus.refusals] == ["body-too-large"]
    assert bus.seen == []


def test_a_form_is_not_parsed_and_cookies_are_not_read(bus):
    form = b"a=1&b=2"
    raw = HEAD.replace(b"text/xml", b"application/x-www-form-urlencoded") + b"Content-Length: 7\r\n\r\n" + form
    assert status_of(bus, raw) == 415


def test_a_defect_in_a_handler_is_a_fault_and_the_connection_goes_on(bus):
    broken, well = bus.talk(bus.post(path="/broken") + GET, 2)
    assert (broken.status, well.status) == (500, 200)
    assert b"internal-error" in broken.body
    assert b"a defect" not in broken.body


def test_answers_come_in_order_although_later_requests_wait_here(bus):
    with bus.connect() as client, client.makefile("rb") as stream:
        client.sendall(bus.post(path="/later") + GET)
        bus.until(lambda: bus.waiting)
        bus.reactor.callFromThread(lambda: bus.waiting[0].callback(Response(200, b"first")))
        assert [bus.read_answer(stream).body for _ in range(2)] == [b"first", b"ok"]


def test_a_peer_gets_no_more_connections_than_its_share(bus):
    held = [bus.connect() for _ in range(8)]
    try:
        for client in held:
            client.sendall(GET[:10])
        bus.until(lambda: len(bus.factory.connections) == 8)
        with contextlib.suppress(ConnectionResetError), bus.connect() as ninth:  # cut, whenever the kernel tells us
            assert ninth.recv(100) == b""
        bus.until(lambda: [code for code, _, _ in bus.refusals] == ["too-many-connections"])
    finally:
        for client in held:
            client.close()


# --- time, on a clock that the test moves ---


class Wire(StringTransport):
    aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is held back here."""

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


class Line:
    def __init__(self) -> None:
        self.clock, self.refusals = Clock(), []
        routes = [
            Route("POST", "/metering", lambda request: Deferred()),
            Route("GET", "/health", lambda _: Response(200)),
        ]
        factory = OfficeHttpFactory(routes, self.clock, HttpLimits(), lambda code, *_: self.refusals.append(code))
        self.wire = Wire(peerAddress=IPv4Address("TCP", "192.0.2.1", 40000))
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.wire)

    def send(self, octets: bytes) -> None:
        self.protocol.dataReceived(octets)
        self.clock.advance(0)

    def wait(self, seconds: int) -> None:
        self.clock.pump([1] * seconds)

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", self.wire.value())]


def test_a_silent_connection_is_closed_after_ten_seconds():
    line = Line()
    line.wait(9)
    assert not line.wire.disconnecting
    line.wait(1)
    assert line.wire.disconnecting


def test_a_head_that_trickles_is_cut_ten_seconds_after_its_first_octet():
    line = Line()
    line.wait(9)
    for octet in GET[:10]:  # none of it ends a line
        assert line.statuses == []
        line.send(bytes([octet]))
        line.wait(1)
    assert (line.statuses, line.refusals) == ([408], ["head-timeout"])


def test_a_body_below_the_least_rate_is_cut_after_thirty_seconds_and_one_above_goes_on():
    slow, steady = Line(), Line()
    for line, octets in ((slow, 1), (steady, 1100)):
        line.send(HEAD + b"Content-Length: 100000\r\n\r\n")
        for _ in range(31):
            line.send(bytes(octets))
            line.wait(1)
    assert slow.statuses == [408]
    assert steady.statuses == []


def test_between_requests_a_connection_may_rest_for_a_minute():
    line = Line()
    line.send(GET)
    assert line.statuses == [200]
    line.wait(59)
    assert not line.wire.disconnecting
    line.wait(2)
    assert line.wire.disconnecting
