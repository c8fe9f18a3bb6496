"""The device listener's time limits on a clock that the test moves, and its framing under any cut of the input."""

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from gridpost.server.transports.device_http import DeviceHttpFactory, DeviceHttpProtocol, parse_head
from gridpost.server.transports.http_connections import peer_group
from gridpost.server.transports.http_head import Head, check_octets
from gridpost.server.transports.http_values import HEADER_INVALID, HttpLimits, HttpRefusal, Request, Response, Route
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

GET = b"GET /health HTTP/1.1\r\nHost: bus\r\n\r\n"


def post(body: bytes, length: int | None = None) -> bytes:
    declared = len(body) if length is None else length
    head = f"POST /metering HTTP/1.1\r\nHost: bus\r\nContent-Type: text/xml\r\nContent-Length: {declared}\r\n\r\n"
    return head.encode() + body


class Wire(StringTransport):
    """Twisted's own in-memory transport, which also remembers being cut."""

    aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is held back here."""

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


class Line:
    """A connection, its transport and the clock."""

    def __init__(self, house: "House", host: str) -> None:
        kind = IPv6Address if ":" in host else IPv4Address
        self.clock = house.clock
        self.wire = Wire(peerAddress=kind("TCP", host, 40000))
        self.protocol: DeviceHttpProtocol = house.factory.buildProtocol(None)
        self.protocol.makeConnection(self.wire)

    def send(self, octets: bytes) -> None:
        self.protocol.dataReceived(octets)
        self.clock.advance(0)

    def wait(self, seconds: int) -> None:
        self.clock.pump([1] * seconds)

    def hang_up(self) -> None:
        self.protocol.connectionLost()

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", self.wire.value())]

    @property
    def told_to_close(self) -> bool:
        return self.wire.disconnecting and not self.wire.aborted


class House:
    """A listener on a clock; POST /metering waits in `waiting`, GET /health answers at once."""

    def __init__(self, limits: HttpLimits) -> None:
        self.clock = Clock()
        self.refusals: list[str] = []
        self.waiting: list[Deferred[Response]] = []
        routes = [Route("POST", "/metering", self.later), Route("GET", "/health", lambda request: Response(200, b"ok"))]
        self.factory = DeviceHttpFactory(routes, self.clock, limits, lambda code, *_: self.refusals.append(code))

    def later(self, request: Request) -> Deferred[Response]:
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def line(self, host: str = "192.0.2.1") -> Line:
        return Line(self, host)


@pytest.fixture
def house() -> House:
    return House(HttpLimits())


# --- heads ---


def test_a_silent_connection_is_closed_after_ten_seconds_without_a_word(house: House) -> None:
    line = house.line()
    line.wait(9)
    assert not line.told_to_close
    line.wait(1)
    assert line.told_to_close
    assert (line.wire.value(), house.refusals) == (b"", [])


def test_a_head_that_trickles_is_cut_ten_seconds_after_its_first_octet(house: House) -> None:
    line = house.line()
    line.wait(9)
    for octet in GET[:10]:  # slowloris: a letter a second keeps any idle timer from running out
        assert line.statuses == []
        line.send(bytes([octet]))
        line.wait(1)
    assert line.statuses == [408]
    assert house.refusals == ["head-timeout"]
    line.send(GET[10:] + GET)
    assert line.statuses == [408]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 8188, 431),
        (GET[:-2] + b"X: " + b"a" * 8192, 431),
        (GET[:-2] + b"X: a\n", 400),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"\r\n\r", None),
        (b"\r\n\r\n", 400),
        (b"\0", 400),
        (b"\r\n\0", 400),
        (GET[:-1], None),
        (b"GET /" + b"a" * 8187, None),
    ],
)
def test_a_head_that_cannot_become_good_is_refused_before_it_ends(
    house: House, sent: bytes, status: int | None
) -> None:
    together, trickling = house.line(), house.line()
    together.send(sent)
    for octet in sent:
        trickling.send(bytes([octet]))
    assert together.statuses == trickling.statuses == ([status] if status else [])


@pytest.mark.parametrize("ends", [b"\rY: b\r\n", b"\nY: b\r\n", b"\r\r\n", b"\r\n b\r\n", b"\r\n\tb\r\n"])
def test_line_ends_are_judged_before_any_parser_has_an_opinion(ends: bytes) -> None:
    assert check_octets(GET[:-2] + b"X: a\r\n\r\n", HttpLimits()) is None
    assert check_octets(GET[:-2] + b"X: a" + ends + b"\r\n", HttpLimits()) == HEADER_INVALID


def test_a_kept_connection_may_be_silent_for_a_minute(house: House) -> None:
    line = house.line()
    line.send(GET)
    line.wait(59)
    line.send(GET[:-1])  # idle no longer: now the head's ten seconds run
    line.wait(9)
    line.send(GET[-1:])
    assert line.statuses == [200, 200]
    line.wait(59)
    assert not line.told_to_close
    line.wait(1)
    assert line.told_to_close


# --- bodies ---


def test_a_thousand_half_open_posts_are_all_cut_after_thirty_seconds(house: House) -> None:
    lines = [house.line(f"192.0.2.{n % 200}") for n in range(1000)]
    for line in lines:
        line.send(post(b"", 500))
    lines[0].wait(29)
    assert all(line.statuses == [] for line in lines)
    lines[0].wait(1)
    assert all(line.statuses == [408] for line in lines)
    assert house.refusals == ["body-timeout"] * 1000


@pytest.mark.parametrize(("rate", "cut_after_s"), [(900, 300), (500, 60), (1100, None)])
def test_a_body_must_keep_a_thousand_octets_a_second_beyond_its_thirty(
    house: House, rate: int, cut_after_s: int | None
) -> None:
    # cut when t >= 30 + rate * t / 1000, so t = 30 / (1 - rate / 1000): 300 s at 900, 60 s at 500, never at 1,100
    line = house.line()
    line.send(post(b"", 400 * 1100))
    seconds = 0
    while not line.statuses and not house.waiting:
        line.send(bytes(rate))
        line.wait(1)
        seconds += 1
    assert (line.statuses, seconds) == (([], 400) if cut_after_s is None else ([408], cut_after_s))


def test_a_handler_takes_as_long_as_it_needs(house: House) -> None:
    line = house.line()
    line.send(post(b"<a/>"))
    line.wait(600)
    house.waiting[0].callback(Response(200))
    assert line.statuses == [200]


# --- closing ---


def test_behind_a_refusal_input_is_thrown_away_for_two_seconds_then_we_close_then_cut(house: House) -> None:
    line = house.line()
    line.send(b"BREW / HTTP/1.1\r\n" + GET)
    assert line.statuses == [501]
    line.wait(1)
    line.send(bytes(200_000))
    assert len(line.protocol._buffer) == 0
    assert (line.wire.disconnecting, line.wire.producerState) == (False, "producing")
    line.wait(1)
    assert line.told_to_close
    line.wait(29)
    assert not line.wire.aborted
    line.wait(1)
    assert line.wire.aborted


def test_behind_an_asked_for_close_there_is_nothing_to_wait_for(house: House) -> None:
    line = house.line()
    line.send(GET[:-2] + b"Connection: close\r\n\r\n")
    assert (line.statuses, line.told_to_close) == ([200], True)


def test_behind_an_asked_for_close_unread_input_is_read_first_lest_the_answer_be_reset(house: House) -> None:
    line = house.line()
    line.send(GET[:-2] + b"Connection: close\r\n\r\n" + GET)
    assert (line.statuses, line.wire.disconnecting) == ([200], False)


def test_a_connection_held_back_is_read_again_before_it_is_closed(house: House) -> None:
    line = house.line()
    line.protocol.dataReceived(GET * 4000)
    assert line.wire.producerState == "paused"
    house.factory.stop()
    assert (line.told_to_close, line.wire.producerState) == (True, "producing")


def test_a_peer_that_stops_reading_gets_no_more_and_is_cut_after_thirty_seconds(house: House) -> None:
    line = house.line()
    line.send(post(b"<a/>"))
    line.wire.producer.pauseProducing()  # what Twisted calls once its own buffer is full
    house.waiting[0].callback(Response(200))
    line.send(GET)
    line.wait(29)
    assert (line.statuses, line.wire.aborted) == ([200], False)
    line.wait(1)
    assert line.wire.aborted


def test_a_slow_reader_that_catches_up_goes_on(house: House) -> None:
    line = house.line()
    line.send(post(b"<a/>"))
    line.wire.producer.pauseProducing()
    house.waiting[0].callback(Response(200))
    line.send(GET)
    line.wait(20)
    line.wire.producer.resumeProducing()
    line.wait(1)
    assert line.statuses == [200, 200]


def test_no_more_is_read_ahead_than_the_limit(house: House) -> None:
    line = house.line()
    line.send(post(b"<a/>") + GET * 2000)
    assert line.wire.producerState == "paused"  # 2,000 x 35 octets is more than 65,536
    house.waiting[0].callback(Response(200))
    for _ in range(2000):
        line.clock.advance(0)
    assert line.statuses == [200] * 2001
    assert line.wire.producerState == "producing"


def test_pipelined_connections_take_turns(house: House) -> None:
    first, second = house.line(), house.line()
    first.protocol.dataReceived(GET * 100)
    second.protocol.dataReceived(GET)
    assert (len(first.statuses), len(second.statuses)) == (1, 1)


def test_nothing_runs_on_the_clock_when_nobody_is_connected(house: House) -> None:
    line = house.line()
    line.send(GET)
    line.hang_up()
    line.wait(2)
    assert house.clock.getDelayedCalls() == []


@pytest.mark.parametrize("sent", [b"", GET[:9], post(b"", 9), post(b"<a/>"), post(b"<a/>") + GET, b"\0", GET + GET])
def test_hanging_up_at_any_moment_leaves_nothing_behind(house: House, sent: bytes) -> None:
    line = house.line()
    line.protocol.dataReceived(sent)
    line.hang_up()
    said = line.wire.value()
    stopped: list[None] = []
    house.factory.stop().addCallback(stopped.append)
    assert stopped == [None] * (not house.waiting)  # a request being handled is waited for
    for answer in house.waiting:
        answer.callback(Response(200))
    assert stopped == [None]
    line.wait(2)
    assert line.wire.value() == said
    assert house.clock.getDelayedCalls() == []


# --- caps ---


def test_caps_hold_for_a_peer_and_for_all() -> None:
    house = House(HttpLimits(connections=5, connections_per_peer=2))
    hosts = ["192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.2"]
    lines = [house.line(host) for host in hosts]
    assert [line.wire.aborted for line in lines] == [False, False, True, False, False, True, False]
    assert house.line("192.0.2.3").wire.aborted  # five are open
    assert house.refusals == ["too-many-connections"] * 3
    lines[2].hang_up()  # one that never counted
    lines[0].hang_up()
    assert not house.line("192.0.2.1").wire.aborted
    assert house.line("192.0.2.1").wire.aborted


def test_a_peer_is_an_ipv4_address_or_an_ipv6_64() -> None:
    assert peer_group("192.0.2.1") == peer_group("::ffff:192.0.2.1") != peer_group("::ffff:192.0.2.2")
    assert peer_group("2001:db8::1") == peer_group("2001:db8:0:0:ffff::9%eth0") != peer_group("2001:db8:0:1::1")
    assert peer_group("local") == "local"


# --- any cut of the input, any input ---


def answers(pieces: list[bytes]) -> bytes:
    """Return all that is answered to `pieces`, without the date; POSTs are answered by their length."""
    clock = Clock()
    echo: Callable[[Request], Response] = lambda request: Response(200, str(len(request.body)).encode())  # noqa: E731
    routes = [Route("POST", "/metering", echo), Route("GET", "/health", echo)]
    factory = DeviceHttpFactory(routes, clock, HttpLimits(), lambda *_: None)
    protocol, wire = factory.buildProtocol(None), Wire()
    protocol.makeConnection(wire)
    for piece in pieces:
        protocol.dataReceived(piece)
        clock.advance(0)
    clock.pump([0] * 10)
    return re.sub(rb"Date: [^\r]*", b"", wire.value())


def cuts(octets: bytes) -> st.SearchStrategy[list[bytes]]:
    places = st.lists(st.integers(1, len(octets) - 1), max_size=12).map(lambda found: sorted({0, len(octets), *found}))
    return places.map(lambda at: [octets[a:b] for a, b in pairwise(at)])


THREE = post(b"<a>\r\n\r\nGET / HTTP/1.1\r\n\r\n</a>") + GET + b"\r\n" + post(bytes(300))
BAD = post(b"<a/>") + b"GET /health HTTP/1.1\r\nHost: a\nX: b\r\n\r\n" + GET


@given(pieces=cuts(THREE))
@settings(max_examples=200, deadline=None)
def test_cutting_requests_anywhere_changes_no_answer(pieces: list[bytes]) -> None:
    assert answers(pieces) == answers([THREE])
    assert re.findall(rb"\r\n\r\n(\d+)", answers(pieces)) == [b"29", b"0", b"300"]  # 3 + 4 + 14 + 4 + 4 octets


@given(pieces=cuts(BAD))
@settings(max_examples=100, deadline=None)
def test_cutting_a_bad_request_anywhere_changes_no_answer(pieces: list[bytes]) -> None:
    assert answers(pieces) == answers([BAD])
    assert re.findall(rb"HTTP/1\.1 (\d+) ", answers(pieces)) == [b"200", b"400"]


@given(pieces=st.lists(st.sampled_from(re.findall(rb"[\w/.-]+|\W", post(b"<a/>") + GET)) | st.binary(max_size=9)))
@settings(max_examples=300, deadline=None)
def test_any_octets_are_answered_or_awaited_and_never_raise(pieces: list[bytes]) -> None:
    answers([piece for piece in pieces if piece])


@given(octets=st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_a_head_is_read_or_refused(octets: bytes) -> None:
    assert isinstance(parse_head(octets + b"\r\n\r\n", HttpLimits()), Head | HttpRefusal)
