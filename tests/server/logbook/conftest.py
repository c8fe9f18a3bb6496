"""A log worth tampering with: two devices, readings of every kind, events, all received by a real bus's corridor."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from gridpost.server import log_check
from gridpost.server.heads import Author, sign_head
from gridpost.server.identity import pem_of
from gridpost.server.store import open_store

from gridpost import exchange, testing
from gridpost.model import EndDeviceEvent, Header, IntervalBlock, Quality, Readings, RegisterReading

MIDNIGHT = 1_767_139_200  # 2025-12-31T00:00:00Z
DIAL = "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
MINUTE_MS = 60_000


def readings(channel, values, quarter, qualities=None) -> IntervalBlock:
    block = testing.block(channel, MIDNIGHT + 900 * quarter, [value or "0" for value in values])
    given = qualities or ((),) * len(values)
    return IntervalBlock(block.channel, 900, block.ends_utc, tuple(values), tuple(given))


@dataclass
class Book:
    """A store's file, and everything its keeper and its devices hold.

    `sealed`: what was sent, in order; `receipts`: what came back; `anchor`: a head over all but the last two entries.
    """

    office: object
    sealed: list[bytes] = field(default_factory=list)
    receipts: list[bytes] = field(default_factory=list)
    anchor: bytes = b""

    @property
    def path(self) -> Path:
        return self.office.path

    @property
    def trust(self) -> exchange.Trust:
        return exchange.Trust(self.office.ca.der)

    @property
    def authority(self) -> str:
        return pem_of(self.office.ca.certificate)

    def post(self, raw: bytes) -> None:
        reply = self.office.receive(raw)
        assert reply.status == 200, reply.body
        self.sealed.append(raw)
        self.receipts.append(reply.body)
        self.office.now += MINUTE_MS

    def head(self) -> bytes:
        return sign_head(self.office.store, Author("bus", self.office.signer), 0, self.office.now).signed


def fill(book: Book, one, two) -> None:
    """Nine entries: fresh, with a gap and a flag, in conflict, edited, registers, events, from an RSA key."""
    now = book.office.now
    a, b = testing.channel(1, "M1"), testing.channel(1, "M2")
    flagged = ((), (Quality("1.4.9", "clock"),), (Quality("2.5.259"),))

    def send(signer, source, number, content, registers=()):
        header = Header("created", "MeterReadings", now, source, f"m-{number}", sequence=number)
        message = testing.CreatedMeterReadings(header, Readings(tuple(content), tuple(registers)))
        book.post(testing.sealed(message, signer, book.office.now))

    send(one, "IED-1", 0, [readings(a, ["1.00", "2.50", "3"], 1)])
    send(two, "IED-2", 1, [readings(b, ["10", "20", None], 1, flagged)])
    send(one, "IED-1", 2, [readings(a, ["1.00", "9.99", "3"], 1)])  # two known, one in conflict
    send(one, "IED-1", 3, [readings(a, ["2.75"], 2, [(Quality("2.7.1"),)])])
    dial = RegisterReading(a.key._replace(reading_type=DIAL), MIDNIGHT, "1234.50", (Quality("1.0.0"),))
    send(one, "IED-1", 4, [readings(a, ["4", "5"], 4)], [dial])
    event = EndDeviceEvent("E-1", "3.26.0.85", MIDNIGHT * 1000, "M2", "mains", "high", {"a": "1", "b": "é"})
    book.post(testing.sealed(testing.events_message("IED-2", "m-5", [event], now), two, book.office.now))
    for number in range(6, 9):
        send(two, "IED-2", number, [readings(b, ["7.0", "8.0"], 10 + 2 * number)])


@pytest.fixture(scope="session")
def book(open_office, tmp_path_factory):
    """The log, its store closed: copy it with `tampered`."""
    made = write_book(open_office(tmp_path_factory.mktemp("book")))
    made.office.store.close()
    return made


@pytest.fixture(scope="session")
def new_book():
    """What fills an office's store with the log."""
    return write_book


def write_book(office) -> Book:
    made = Book(office)
    one = office.enrol("IED-1", [testing.channel(1, "M1")])
    office.store.add_ied("IED-2", "revenue meter", bytes(10), [testing.channel(1, "M2")])
    two = office.certify("IED-2", rsa.generate_private_key(65537, 2048))
    office.store.bind_certificate("IED-2", b"IED-2".ljust(32), two.certificate)
    fill(made, one, two)
    made.anchor = made.head()
    return made


@dataclass
class Copy:
    """A copy of the book's store to tamper with by plain SQL, and to check."""

    book: Book
    path: Path

    def sql(self, statement: str, *values) -> list:
        """Run a statement as somebody with the file and no scruples would."""
        with sqlite3.connect(self.path) as connection:
            connection.execute("PRAGMA foreign_keys = OFF")
            return connection.execute(statement, values).fetchall()

    def open(self):
        return open_store(self.path, self.book.office.clock)

    def check(self, *anchors: bytes, now: int | None = None) -> log_check.Result:
        store = self.open()
        try:
            held = [log_check.read_anchor(f"anchor {i}", raw, self.book.trust) for i, raw in enumerate(anchors)]
            channels = {one.id: one.key for one in store.channels()}
            against = log_check.against(store, channels, self.book.trust, now or self.book.office.now)
            return log_check.check(store, against, held, lambda walked, total: None)
        finally:
            store.close()


@pytest.fixture
def tampered(book, tmp_path):
    """A `Copy` of the book."""
    path = tmp_path / "copy.db"
    shutil.copy(book.path, path)
    return Copy(book, path)
