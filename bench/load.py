"""The load: N keep-alive connections, each sending the next message as soon as its answer is whole.

Plain non-blocking sockets and one selector, so that the client costs a small part of what the cheapest server does; its
own processor time is measured and reported.
"""

import selectors
import socket
import time
from collections import deque
from dataclasses import dataclass

TIMEOUT_S = 120
SETTLE_S = 0.1  # for the server to accept
_HEAD = (
    "POST /metering HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/xml; charset=utf-8\r\n"
    'SOAPAction: "http://iec.ch/TC57/2011/MeterReadings/CreatedMeterReadings"\r\nContent-Length: {length}\r\n\r\n'
)


def head(address, message):
    """Return the head of the request that carries `message`."""
    return _HEAD.format(host="{}:{}".format(*address), length=len(message.raw)).encode()


def answer(got):
    """Return (status, body) of the bytes received so far, None while the answer is not whole."""
    found = got.find(b"\r\n\r\n")
    if found < 0:
        return None
    lines = bytes(got[:found]).lower()
    body = _body(lines, got, found + 4)
    return None if body is None else (int(lines[9:12]), body)


@dataclass(frozen=True)
class Answer:
    """What came back for a message."""

    status: int
    body: bytes
    seconds: float


class Connection:
    """One keep-alive connection with one request in flight."""

    def __init__(self, address):
        self._address = address
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.message = None
        self._left = memoryview(b"")
        self._got = bytearray()
        self._since = 0.0

    def start(self, message):
        """Begin to send `message`."""
        self.message, self._since = message, time.perf_counter()
        self._left = memoryview(head(self._address, message) + message.raw)
        self._got.clear()

    def send(self):
        """Send what the socket takes; return whether all is sent."""
        try:
            self._left = self._left[self.socket.send(self._left) :]
        except BlockingIOError:
            return False
        return not self._left

    def receive(self):
        """Read what is there; return the Answer when it is whole."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._got += data
        whole = answer(self._got)
        return None if whole is None else Answer(*whole, time.perf_counter() - self._since)


def _body(lines, got, start):
    """The body by Content-Length or in chunks (Spyne on Twisted answers so); None while it is not whole."""
    if b"transfer-encoding: chunked" in lines:
        return _unchunked(bytes(got[start:])) if got.endswith(b"0\r\n\r\n") else None
    length = int(lines.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    return bytes(got[start : start + length]) if len(got) >= start + length else None


def _unchunked(data):
    parts = []
    while True:
        size, _, data = data.partition(b"\r\n")
        if not int(size, 16):
            return b"".join(parts)
        parts.append(data[: int(size, 16)])
        data = data[int(size, 16) + 2 :]


@dataclass(frozen=True)
class Round:
    """One round: as many answers as messages, unless `error` says why not. Connecting is not in it."""

    seconds: float
    client_cpu_s: float
    server_cpu_s: float
    answers: list
    error: str = ""


def run(address, messages, connections, server_cpu_s):
    """Send every message once, over at most `connections` connections, and return the answers.

    `server_cpu_s` tells the processor seconds the server has used so far.
    """
    waiting, answers, error = deque(messages), [], ""
    pool = [Connection(address) for _ in range(min(connections, len(messages)))]
    time.sleep(SETTLE_S)
    began, cpu, server = time.perf_counter(), time.process_time(), server_cpu_s()
    with selectors.DefaultSelector() as selector:
        for connection in pool:
            connection.start(waiting.popleft())
            selector.register(connection.socket, selectors.EVENT_WRITE, connection)
        try:
            _drive(selector, waiting, answers)
        except (OSError, ValueError) as problem:
            error = f"{type(problem).__name__}: {problem}"
    took = time.perf_counter() - began, time.process_time() - cpu, server_cpu_s() - server
    done = Round(*took, answers, error)
    for connection in pool:
        connection.socket.close()
    return done


def _drive(selector, waiting, answers):
    while selector.get_map():
        ready = selector.select(TIMEOUT_S)
        if not ready:
            raise TimeoutError(f"no answer within {TIMEOUT_S} s")
        for key, events in ready:
            connection = key.data
            if events & selectors.EVENT_WRITE:
                if connection.send():
                    selector.modify(connection.socket, selectors.EVENT_READ, connection)
                continue
            whole = connection.receive()
            if whole is None:
                continue
            answers.append((connection.message, whole))
            if not waiting:
                selector.unregister(connection.socket)
                continue
            connection.start(waiting.popleft())
            if not connection.send():
                selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
