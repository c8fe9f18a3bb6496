"""A device listener on a reactor and a thread of its own, and a client of plain sockets that reads what is there."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import NamedTuple

import pytest
from gridpost.server.transports.device_http import DeviceHttpFactory
from gridpost.server.transports.http_values import HttpLimits, Request, Response, Route
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor

BIG = bytes(200_000)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Bus:
    """A listener on its own reactor, in its own thread, with handlers that say what they were given."""

    def __init__(self) -> None:
        self.reactor = EPollReactor()
        self.seen: list[Request] = []
        self.refusals: list[tuple[str, str, str]] = []
        self.waiting: list[Deferred[Response]] = []
        self.thread = threading.Thread(target=self.reactor.run, kwargs={"installSignalHandlers": False}, daemon=True)
        self.thread.start()
        self.factory = self.call(self.make_factory, HttpLimits(body=100_000, connections_per_peer=8))
        self.port = self.listen(self.factory)

    def call(self, function, *args):
        """Run `function` in the reactor's thread and return what it returns."""
        done: Future = Future()

        def run() -> None:
            try:
                done.set_result(function(*args))
            except BaseException as error:
                done.set_exception(error)

        self.reactor.callFromThread(run)
        return done.result(20)

    def listen(self, factory) -> int:
        port = self.call(lambda: self.reactor.listenTCP(0, factory, interface="127.0.0.1"))
        return port.getHost().port

    def make_factory(self, limits: HttpLimits) -> DeviceHttpFactory:
        routes = [
            Route("POST", "/metering", self.digest),
            Route("GET", "/metering", self.query),
            Route("GET", "/health", lambda request: Response(200, b"ok", "text/plain")),
            Route("GET", "/big", self.big),
            Route("POST", "/est", self.digest, ("application/pkcs10",), 64),
            Route("POST", "/later", self.later),
            Route("POST", "/broken", self.broken),
            Route("GET", "/broken", self.broken),
            Route("GET", "/split", lambda request: Response(200, headers={"X": "a\r\nSet-Cookie: b"})),
        ]
        return DeviceHttpFactory(routes, self.reactor, limits, lambda *refusal: self.refusals.append(refusal))

    def digest(self, request: Request) -> Response:
        self.seen.append(request)
        return Response(200, hashlib.sha256(request.body).hexdigest().encode())

    async def query(self, request: Request) -> Response:
        self.seen.append(request)
        return Response(200, request.query.encode(), "text/plain", {"Gridpost-Waiting": "2"})

    def big(self, request: Request) -> Response:
        self.seen.append(request)
        return Response(200, BIG)

    def later(self, request: Request) -> Deferred[Response]:
        self.seen.append(request)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def broken(self, request: Request) -> Response:
        raise RuntimeError("a defect")

    def connect(self, port: int = 0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port or self.port), timeout=20)

    @staticmethod
    def read_answer(stream) -> Answer:
        """Read one answer by its Content-Length."""
        status = int(stream.readline().split(b" ")[1])
        headers = {}
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            assert name not in headers
            headers[name] = value
        return Answer(status, headers, stream.read(int(headers.get("Content-Length", 0))))

    def talk(self, raw: bytes, answers: int = 1) -> list[Answer]:
        """Send `raw`, read `answers` answers, close our side; an octet beyond them fails."""
        with self.connect() as client, client.makefile("rb") as stream:
            client.sendall(raw)
            got = [self.read_answer(stream) for _ in range(answers)]
            client.shutdown(socket.SHUT_WR)
            assert stream.read() == b""
        return got

    @staticmethod
    def post(body: bytes = b"<a/>", path: str = "/metering", extra: str = "", length: str | None = None) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: bus:8080\r\nContent-Type: text/xml; charset=utf-8\r\n"
        return (head + f"Content-Length: {len(body) if length is None else length}\r\n{extra}\r\n").encode() + body

    @staticmethod
    def get(path: str = "/health", extra: str = "", version: str = "HTTP/1.1") -> bytes:
        return f"GET {path} {version}\r\nHost: bus\r\n{extra}\r\n".encode()

    def until(self, condition) -> None:
        """Ask again in the reactor's thread, a turn at a time, until `condition` holds; 20 s at most."""
        done: Future = Future()

        def ask() -> None:
            if condition():
                done.set_result(None)
            elif not done.cancelled():
                self.reactor.callLater(0.002, ask)

        self.reactor.callFromThread(ask)
        try:
            done.result(20)
        finally:
            done.cancel()


@pytest.fixture(scope="module")
def running() -> Iterator[Bus]:
    bus = Bus()
    yield bus
    bus.reactor.callFromThread(bus.reactor.stop)
    bus.thread.join(10)


@pytest.fixture
def bus(running: Bus) -> Bus:
    running.seen.clear()
    running.refusals.clear()
    running.waiting.clear()
    return running
