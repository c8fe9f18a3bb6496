"""What the listener holds of unfinished requests, all peers together, and what it reads behind a refusal: both end."""

from gridpost.server.transports.device_http import DeviceHttpFactory
from gridpost.server.transports.http_values import HttpLimits, Request, Response, Route
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

LIMITS = HttpLimits(body=100_000, ahead=10_000, held=250_000)
POST = b"POST /metering HTTP/1.1\r\nHost: bus\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n"
GET = b"GET /health HTTP/1.1\r\nHost: bus\r\n\r\n"


class Wire(StringTransport):
    """Remembers being cut."""

    aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is held back here."""

    def abortConnection(self) -> None:
        self.aborted = True


class House:
    def __init__(self) -> None:
        self.clock, self.seen, self.refusals = Clock(), [], []
        routes = [
            Route("POST", "/metering", self.take),
            Route("GET", "/later", lambda request: Deferred()),
            Route("GET", "/health", lambda request: Response(200, b"ok")),
        ]
        self.factory = DeviceHttpFactory(routes, self.clock, LIMITS, lambda code, *_: self.refusals.append(code))

    def take(self, request: Request) -> Response:
        self.seen.append(len(request.body))
        return Response(200, b"taken")

    def connect(self, number: int = 0):
        wire = Wire(peerAddress=IPv4Address("TCP", f"192.0.2.{number}", 40000))
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(wire)
        return protocol, wire


def test_who_holds_the_most_is_refused_when_all_together_hold_too_much():
    house = House()
    lines = [house.connect(number) for number in range(4)]
    for (protocol, _), size in zip(lines, (60_000, 90_000, 80_000, 15_000), strict=True):
        protocol.dataReceived(POST % 100_000 + bytes(size))
    assert house.refusals == []
    lines[3][0].dataReceived(bytes(20_000))  # 265,000 together
    assert house.refusals == ["too-much-waiting"]
    assert lines[1][1].value().startswith(b"HTTP/1.1 503 ")
    for (protocol, wire), rest in ((lines[0], 40_000), (lines[2], 20_000), (lines[3], 65_000)):
        protocol.dataReceived(bytes(rest))
        assert wire.value().startswith(b"HTTP/1.1 200 ")
    assert house.seen == [100_000] * 3


def test_what_was_let_go_is_not_counted():
    """By an answer, a hang-up, a refusal: a hundred times the limit goes through, with three at once."""
    house = House()
    for number in range(100):
        taken, lost, refused = (house.connect(number) for _ in range(3))
        taken[0].dataReceived(POST % 80_000 + bytes(80_000))
        lost[0].dataReceived(POST % 80_000 + bytes(79_000))
        lost[0].connectionLost()
        refused[0].dataReceived(POST % 80_000 + bytes(79_000))
        house.clock.pump([1] * 120)
        refused[0].connectionLost()
        taken[0].connectionLost()
    assert house.seen == [80_000] * 100
    assert house.refusals == ["body-timeout"] * 100


def test_pipelined_input_counts_and_its_sender_is_cut():
    house = House()
    lines = [house.connect(number) for number in range(2)]
    for (protocol, _), count in zip(lines, (3_000, 5_000), strict=True):
        protocol.dataReceived(b"GET /later HTTP/1.1\r\nHost: bus\r\n\r\n")
        protocol.dataReceived(GET * count)
    assert [wire.aborted for _, wire in lines] == [False, True]


def test_behind_a_refusal_no_more_is_read_than_a_body_may_be_long():
    house = House()
    protocol, wire = house.connect()
    protocol.dataReceived(POST % 300_000_000)
    assert wire.value().startswith(b"HTTP/1.1 413 ")
    read = 0
    while wire.producerState == "producing" and read < 1_000_000:
        protocol.dataReceived(bytes(5_000))
        read += 5_000
    assert 90_000 <= read <= 100_000
    house.clock.pump([1] * 4)
    assert wire.aborted


def test_who_was_refused_and_sends_no_more_than_that_is_let_go_in_peace():
    house = House()
    protocol, wire = house.connect()
    protocol.dataReceived(POST % 300_000_000)
    protocol.dataReceived(bytes(60_000))
    house.clock.pump([1] * 4)
    assert wire.disconnecting
    assert not wire.aborted
