"""Many slow connections, kept up for as long as standard input is open; a process of its own beside the campaign.

    slow_clients.py COUNT HTTP_PORT HTTPS_PORT

Each connection is of one kind, from one of several loopback addresses (the bus counts connections by address). When the
bus cuts one, it is made anew at once. One JSON line a second on standard output: how many are open, and of each kind
how many were cut and the longest life: until it was last seen open, for this process may look late.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable, Mapping

PER_ADDRESS = 125
BODY = 1 << 20
_POST = b"POST /metering HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n"
_GET = b"GET /metering?wsdl HTTP/1.1\r\nHost: a\r\n\r\n"
_CLOSED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError, BrokenPipeError)
_CONTEXT = ssl.create_default_context()  # one: making it reads every CA of the system
_CONTEXT.check_hostname, _CONTEXT.verify_mode = False, ssl.CERT_NONE
_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Slow:
    """One connection of a kind, and its next life."""

    def __init__(self, kind: str, number: int, ports: tuple[int, int]) -> None:
        self.kind, self._number, self._ports = kind, number, ports
        self.open = False
        self.cuts, self.longest_s, self._since = 0, 0.0, 0.0
        self._sent, self._seen = 0, 0.0
        self._socket: socket.socket | None = None

    def step(self) -> None:
        """What is due once a second; connects again when cut."""
        if self._socket is None:
            self._connect()
            return
        try:
            STEPS[self.kind](self)
        except _LATER:
            pass
        except _CLOSED:
            self._cut()
            return
        if self.kind != "reader" and self._is_over():
            self._cut()
        else:
            self._seen = time.monotonic()

    def _connect(self) -> None:
        secure = self.kind.startswith("tls")
        made = socket.socket()
        made.settimeout(10)
        if self.kind == "reader":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        try:
            made.bind((f"127.0.1.{1 + self._number // PER_ADDRESS}", 0))
            made.connect(("127.0.0.1", self._ports[secure]))
            if secure and self.kind != "tls-hello":
                made = _CONTEXT.wrap_socket(made)
            self._begin(made)
        except OSError:
            made.close()
            return
        self._socket, self.open, self._sent = made, True, 0
        self._since = self._seen = time.monotonic()

    def _begin(self, made: socket.socket) -> None:
        begin = BEGINNINGS.get(self.kind, b"")
        if begin:
            made.sendall(begin)
        if self.kind == "kept":
            made.recv(1 << 20)
        made.setblocking(False)

    def send(self, octets: bytes) -> None:
        assert self._socket is not None
        self._sent += self._socket.send(octets)

    def fatten(self) -> None:
        """All of the body but its last octet, as fast as it goes."""
        while self._sent < BODY - 1:
            self.send(bytes(min(65_536, BODY - 1 - self._sent)))

    def _is_over(self) -> bool:
        """Read what there is; an end or a reset is a cut."""
        assert self._socket is not None
        try:
            while True:
                if not self._socket.recv(65_536):
                    return True
        except _LATER:
            return False
        except OSError:
            return True

    def _cut(self) -> None:
        assert self._socket is not None
        self._socket.close()
        self._socket, self.open = None, False
        self.cuts += 1
        self.longest_s = self.age_s
        self._connect()

    @property
    def age_s(self) -> float:
        """The longest life so far, the present one included."""
        return max(self.longest_s, self._seen - self._since)


# What each kind sends at once, and what it does every second; a body of 1 MiB is announced.
BEGINNINGS: Mapping[str, bytes] = {
    "head-drip": b"POST /metering HT",
    "body-none": _POST % BODY,
    "body-drip": _POST % BODY,
    "body-floor": _POST % BODY,
    "body-fat": _POST % BODY,
    "kept": _GET,
    "tls-hello": b"\x16\x03\x01\x02\x00\x01",
    "tls-body-drip": _POST % BODY,
}
STEPS: Mapping[str, Callable[[Slow], None]] = {
    "silent": lambda one: None,
    "head-drip": lambda one: one.send(b"T"),
    "body-none": lambda one: None,
    "body-drip": lambda one: one.send(b"<"),
    "body-floor": lambda one: one.send(b"<" * 1100),
    "body-fat": Slow.fatten,
    "reader": lambda one: one.send(_GET * 40),
    "kept": lambda one: None,
    "tls-hello": lambda one: None,
    "tls-silent": lambda one: None,
    "tls-body-drip": lambda one: one.send(b"<"),
}


def main() -> None:
    """Keep them up until standard input ends."""
    count, *ports = map(int, sys.argv[1:4])
    kinds = list(STEPS)
    all_of_them = [Slow(kinds[number % len(kinds)], number, (ports[0], ports[1])) for number in range(count)]
    shares = [all_of_them[start::10] for start in range(10)]
    while True:
        for share in shares:
            until = time.monotonic() + 0.1
            for one in share:
                one.step()
            if select.select([sys.stdin], [], [], max(0.0, until - time.monotonic()))[0]:
                return
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(report(all_of_them)), flush=True)


def report(all_of_them: list[Slow]) -> dict[str, object]:
    """Return the counts of now."""
    kinds: dict[str, dict[str, float]] = {}
    for one in all_of_them:
        found = kinds.setdefault(one.kind, {"open": 0, "cuts": 0, "longest_s": 0.0})
        found["open"] += one.open
        found["cuts"] += one.cuts
        found["longest_s"] = max(found["longest_s"], round(one.age_s, 1))
    return {"open": sum(one.open for one in all_of_them), "kinds": kinds}


if __name__ == "__main__":
    main()
