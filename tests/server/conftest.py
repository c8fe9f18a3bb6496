"""A bus without its sockets: a real store in tmp_path, a real CA, reception on a worker without a reactor."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gridpost.server.audit import Audit
from gridpost.server.enrolment import DeviceCA, Subject, make_ca
from gridpost.server.reception import Arrival, Post, Reception
from gridpost.server.store import open_store
from gridpost.server.zones import zone_of

from gridpost import check, exchange, testing
from gridpost.envelope import DEVICE_LIMITS
from gridpost.wssecurity import KeySigner

NOW = testing.NOW_UTC_MS
MADE = datetime.fromtimestamp(NOW / 1000, UTC)


class SameThreadWorker:
    """`reception.Worker` without an event loop; remembers how large what it ran was."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def run(self, size, function):
        self.sizes.append(size)
        return function()

    async def recorded(self, record):
        return record().result(timeout=10)


@dataclass
class PostOffice:
    """Everything behind the door. `now` is its clock; `signer` and `store` may be exchanged before `receive`."""

    folder: Path
    empty: Path
    now: int = NOW
    worker: SameThreadWorker = field(default_factory=SameThreadWorker)
    log: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        self.path = self.folder / "gridpost.db"
        shutil.copy(self.empty, self.path)
        self.store = open_store(self.path, self.clock, serve=True)
        self.ca = DeviceCA(*make_ca("CA of a test", MADE))
        self.signer = self.bus_signer(MADE)
        self.audit = Audit(self.log, self.clock)

    def clock(self) -> int:
        return self.now

    def bus_signer(self, made: datetime) -> KeySigner:
        """A bus's key with a certificate of our CA: from a day before `made`, for five years."""
        return KeySigner.from_pem(*reversed(self.ca.issue_bus("bus", made)))

    def reopen(self) -> None:
        """Close the store and open it again: what a restart does."""
        self.store.close()
        self.store = open_store(self.path, self.clock, serve=True)

    def certify(self, serial: str, key=None) -> KeySigner:
        """A signer with a certificate of our CA, not enrolled."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        issued = self.ca.issue(Subject(serial, 10), key.public_key(), MADE)
        return KeySigner(key, issued.public_bytes(serialization.Encoding.DER))

    def enrol(self, serial: str, channels) -> KeySigner:
        self.store.add_ied(serial, "revenue meter", bytes(10), channels)
        signer = self.certify(serial)
        self.store.bind_certificate(serial, serial.encode().ljust(32), signer.certificate)
        return signer

    def reception(self) -> Reception:
        post = Post("bus", self.signer, self.store, self.clock, zone_of, DEVICE_LIMITS)
        return Reception(post, self.audit, self.worker)

    def receive(self, raw: bytes, transport=check.HTTP, soap_action: str = "", reception=None):
        """Take one message, at a door opened for it alone unless `reception` is given."""
        door = reception or self.reception()
        return asyncio.run(door.receive(raw, Arrival(transport, "192.0.2.7:49152", soap_action)))

    def answer(self, reply) -> exchange.Answer:
        return exchange.open_answer(reply.body, exchange.Trust(self.ca.der))

    def events(self, name: str = "") -> list[dict]:
        """The audit log's events, of one name."""
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == name or not name]


@pytest.fixture
def post_office(tmp_path, empty_store):
    """A `PostOffice` at 2026-01-01T00:00:00Z."""
    made = PostOffice(tmp_path, empty_store)
    yield made
    made.store.close()


@pytest.fixture(scope="session")
def open_office(empty_store):
    """What makes a `PostOffice` in a folder, for whoever shares one among tests and closes its store."""
    return lambda folder: PostOffice(folder, empty_store)
