"""A real bus in a process of its own, and a device that speaks to it over the wire: for tests and campaigns.

The bus is the installed program `gridpost`, the device is `gridpost.exchange` behind `http.client`. Of the server only
its settings are imported here, and its store to enrol devices as `gridpost ied add` does beside a running bus: a
process for each would be a tenth of what all tests take. Servers listen on 127.0.0.1 on a port the kernel chooses.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import secrets
import signal
import subprocess
import sys
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gridpost.server import config as settings
from gridpost.server.store import open_store

from gridpost import enrolment, exchange, messages, tabular, testing
from gridpost.wssecurity import KeySigner

BIN = Path(sys.executable).parent
HEADER = "usage_point,meter,channel,reading_type,unit,interval_s,zone,valid_from"
QUARTER_KWH = testing.FORWARD_KWH_15MIN


def now_utc_ms() -> int:
    return time.time_ns() // 1_000_000


def channel_table(meter: str, streams: tuple[str, ...] = ("E1",), zone: str = "Etc/UTC") -> str:
    rows = [f"UP-{meter},{meter},{stream},{QUARTER_KWH},kWh,900,{zone},2020-01-01T00:00:00Z" for stream in streams]
    return "\n".join([HEADER, *rows]) + "\n"


def run(
    *arguments: Any, program: str = "gridpost", timeout: float = 300, **options: Any
) -> subprocess.CompletedProcess:
    """Run an installed program to its end; text in and out."""
    return subprocess.run(
        [BIN / program, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False, **options
    )


@dataclass
class Wire:
    """HTTP to one address, a new connection a request unless `kept` is used."""

    address: str
    context: Any = None
    timeout: float = 120  # a crowded disk may take seconds for a sync

    def connection(self) -> http.client.HTTPConnection:
        parts = urllib.parse.urlsplit(self.address)
        if parts.scheme == "https":
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=self.timeout, context=self.context)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.timeout)

    def request(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None):
        """Return (status, body, headers)."""
        connection = self.connection()
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def get(self, path: str):
        return self.request("GET", path)

    def post(self, raw: bytes):
        """Post a message; returns (status, body)."""
        return self.request("POST", "/metering", raw, {"Content-Type": "text/xml; charset=utf-8"})[:2]


@dataclass
class Device:
    """An enrolled device."""

    serial: str
    channels: tuple
    signer: KeySigner
    ca: bytes

    def payload(self, message_id: str, values, first_end: int | None = None, channel: int = 0) -> bytes:
        """A message's content: a block that ends, unless told, with the last quarter hour before now."""
        values = list(values)
        now = now_utc_ms()
        first_end = now // 900_000 * 900 - 900 * (len(values) - 1) if first_end is None else first_end
        block = testing.block(self.channels[channel], first_end, values)
        return messages.encode(testing.readings_message(self.serial, message_id, [block], now))

    def seal(self, payload: bytes, at_utc_ms: int | None = None) -> bytes:
        return exchange.seal(payload, self.signer, now_utc_ms() if at_utc_ms is None else at_utc_ms)

    def receipt(self, body: bytes, payload: bytes):
        """Verify an answer as a device does and return the receipt; it must be of this very content."""
        receipt = exchange.open_answer(body, exchange.Trust(self.ca)).receipt
        assert receipt is not None, body
        assert receipt.content_digest == hashlib.sha256(payload).digest()
        assert receipt.sender == self.serial
        return receipt

    def refusal(self, body: bytes):
        refusal = exchange.open_answer(body, exchange.Trust(self.ca)).refusal
        assert refusal is not None, body
        return refusal


def enrol(wire: Wire, code_text: str, table: str, key: Any = None) -> Device:
    """Enrol by the wire protocol: cacerts against the fingerprint, then simpleenroll with the proof."""
    code = enrolment.parse_code(code_text)
    status, body, _ = wire.get("/.well-known/est/cacerts")
    assert status == 200
    (ca,) = enrolment.certificates(body)
    assert enrolment.trusts(code, ca)
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, code.serial)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    der = request.public_bytes(serialization.Encoding.DER)
    headers = {
        "Content-Type": "application/pkcs10",
        enrolment.HEADER: enrolment.proof_header(code.serial, code.secret, der),
    }
    status, body, _ = wire.request("POST", "/.well-known/est/simpleenroll", base64.encodebytes(der), headers)
    assert status == 200, body
    mine = next(one for one in enrolment.certificates(body) if one != ca)
    return Device(code.serial, tabular.channels(table), KeySigner(key, mine), ca)


@dataclass
class LiveBus:
    """A bus's folder and, while it runs, its process."""

    folder: Path
    command: tuple[str, ...] = (str(BIN / "gridpost"), "serve")
    process: subprocess.Popen | None = None
    addresses: list[str] = field(default_factory=list)
    started_s: float = 0.0

    @property
    def config(self) -> Path:
        return self.folder / "gridpost.toml"

    @property
    def wire(self) -> Wire:
        return Wire(self.addresses[0])

    @classmethod
    def make(cls, folder: Path, **sections: dict[str, Any]) -> LiveBus:
        """`gridpost init`, then settings of our own: a free port, and what is asked for."""
        database = sections.get("bus", {}).get("database", "gridpost.db")
        done = run("init", folder, "--http", "127.0.0.1:0", "--database", database, "--no-rsa", "--json")
        assert done.returncode == 0, done.stderr
        bus = cls(folder)
        bus.configure(**sections)
        return bus

    def configure(self, **sections: dict[str, Any]) -> None:
        values = {"bus": {"id": "bus"}, "listen": {"http": "127.0.0.1:0"}, "mv90": {"poll_s": 1}}
        for name, section in sections.items():
            values[name] = values.get(name, {}) | section
        self.config.write_text(settings.render(values), encoding="utf-8")

    def start(self, **options: Any) -> LiveBus:
        """Start the bus and wait until it says where it listens."""
        began = time.monotonic()
        with (self.folder / "stderr.txt").open("ab") as errors:
            self.process = subprocess.Popen(
                [*self.command, "--config", str(self.config), "--json"],
                stdout=subprocess.PIPE, stderr=errors, **options,
            )  # fmt: skip
        line = self.process.stdout.readline()
        self.started_s = time.monotonic() - began
        assert line, f"the bus did not start: {self.errors()}"
        told = json.loads(line)
        assert "addresses" in told, f"the bus did not start: {line.strip()}"
        self.addresses = told["addresses"]
        return self

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def wait(self, timeout: float = 60) -> int:
        try:
            code = self.process.wait(timeout)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()
        self.process = None
        return code

    def errors(self) -> str:
        return (self.folder / "stderr.txt").read_text(encoding="utf-8", errors="replace")

    def run(self, *arguments: Any, **options: Any) -> subprocess.CompletedProcess:
        """A command with this bus's configuration."""
        return run(*arguments, "--config", self.config, **options)

    def json(self, *arguments: Any) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def add(self, serial: str, table: str) -> str:
        """What `gridpost ied add` does; returns the code."""
        config, secret = settings.load(self.config), secrets.token_bytes(enrolment.SECRET_OCTETS)
        with contextlib.closing(open_store(config.database, now_utc_ms)) as store:
            store.add_ied(serial, "revenue meter", secret, tabular.channels(table))
        ca = x509.load_pem_x509_certificate(config.path(config.identity.ca_certificate).read_bytes())
        return enrolment.make_code(serial, secret, ca.public_bytes(serialization.Encoding.DER))

    def enrol(self, serial: str, table: str | None = None, key: Any = None) -> Device:
        table = table or channel_table(f"M-{serial}")
        return enrol(self.wire, self.add(serial, table), table, key)

    def audit(self, event: str = "") -> list[dict[str, Any]]:
        lines = (self.folder / "audit.jsonl").read_text(encoding="ascii").splitlines()
        return [line for line in map(json.loads, lines) if not event or line["event"] == event]
