"""The load of meters that connect, push and hang up: each message on a new connection, TLS without resumption or plain.

One selector, non-blocking sockets. Closed loop: so many at once, each replaced as it ends. Open loop: each starts at
its moment, whatever became of the others, and its latency counts from that moment. Connections come from many loopback
addresses, as meters do, or the machine would run out of ports before it runs out of anything else.
"""

import heapq
import selectors
import socket
import ssl
import time
from itertools import islice
from typing import NamedTuple

import load

SOURCES = 200  # loopback addresses connections come from
TIMEOUT_S = 30
_BIND_WITHOUT_PORT = 24  # IP_BIND_ADDRESS_NO_PORT, Linux: the port is chosen when the connection's other end is known


class Outcome(NamedTuple):
    """What became of a push: the answer, or what went wrong; seconds from its moment and from its start to its end."""

    message: object
    status: int
    body: bytes
    late_s: float
    took_s: float
    error: str = ""


def tls_context():
    """A client's context that checks no certificate and keeps no session."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Push:
    """One connection with one request: connect, shake hands, send, receive, hang up."""

    def __init__(self, address, context, message, moment, number):
        self.message, self.moment, self.began = message, moment, time.perf_counter()
        self._context, self._steps = context, [self._connect, self._send, self._receive]
        self._left = memoryview(load.head(address, message) + message.raw)
        self._got = bytearray()
        self.status, self.body = 0, b""
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_IP, _BIND_WITHOUT_PORT, 1)
        self.socket.bind((f"127.0.1.{1 + number % SOURCES}", 0))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(address)

    def go_on(self):
        """Do what can be done now; return the selector's event to wait for, 0 when the answer is whole."""
        try:
            while self._steps:
                if not self._steps[0]():
                    return selectors.EVENT_READ if len(self._steps) == 1 else selectors.EVENT_WRITE
                del self._steps[0]
        except (ssl.SSLWantReadError, BlockingIOError):
            return selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            return selectors.EVENT_WRITE
        return 0

    def outcome(self, error=""):
        """Close, and say what became of it."""
        now = time.perf_counter()
        self.socket.close()
        return Outcome(self.message, self.status, self.body, now - self.moment, now - self.began, error)

    def _connect(self):
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise ConnectionError(f"connect: error {error}")
        if self._context is not None:
            self.socket = self._context.wrap_socket(self.socket, do_handshake_on_connect=False)
            self._steps.insert(1, self._shake)
        return True

    def _shake(self):
        self.socket.do_handshake()
        return True

    def _send(self):
        while self._left:
            self._left = self._left[self.socket.send(self._left) :]
        return True

    def _receive(self):
        while True:
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._got += data
            whole = load.answer(self._got)
            if whole is not None:
                self.status, self.body = whole
                return True


class Pusher:
    """Connections under way, on one selector."""

    def __init__(self, address, context):
        self._address, self._context = address, context
        self._selector = selectors.DefaultSelector()
        self._deadlines, self._number, self.open = [], 0, 0

    def start(self, message, moment):
        """Open a connection for `message`; nothing is waited for."""
        push = Push(self._address, self._context, message, moment, self._number)
        self._number += 1
        self.open += 1
        self._selector.register(push.socket.fileno(), selectors.EVENT_WRITE, push)  # TLS makes another object of it
        heapq.heappush(self._deadlines, (push.began + TIMEOUT_S, self._number, push))

    def wait(self, seconds):
        """Let connections go on for up to `seconds`, at least one look; yield those that ended."""
        for key, _ in self._selector.select(max(0.0, seconds)):
            ended = self._advance(key.data, key.fd)
            if ended is not None:
                yield ended
        while self._deadlines and (self._deadlines[0][2].socket.fileno() < 0 or self._is_over()):
            push = heapq.heappop(self._deadlines)[2]
            if push.socket.fileno() >= 0:
                self._selector.unregister(push.socket.fileno())
                self.open -= 1
                yield push.outcome(f"no answer within {TIMEOUT_S} s")

    def close(self):
        self._selector.close()

    def _is_over(self):
        return self._deadlines[0][0] < time.perf_counter()

    def _advance(self, push, descriptor):
        """Return the Outcome when the push ended."""
        error, event = "", 0
        try:
            event = push.go_on()
        except (OSError, ValueError) as problem:
            error = f"{type(problem).__name__}: {problem}"
        if event:
            self._selector.modify(descriptor, event, push)
            return None
        self._selector.unregister(descriptor)
        self.open -= 1
        return push.outcome(error)


def closed_loop(address, context, messages, at_once):
    """Send every message, `at_once` at a time; return (seconds, outcomes)."""
    waiting, outcomes = iter(messages), []
    pusher = Pusher(address, context)
    began = time.perf_counter()
    for message in islice(waiting, at_once):
        pusher.start(message, time.perf_counter())
    while pusher.open:
        for ended in pusher.wait(1.0):
            outcomes.append(ended)
            message = next(waiting, None)
            if message is not None:
                pusher.start(message, time.perf_counter())
    took = time.perf_counter() - began
    pusher.close()
    return took, outcomes
