"""A bus to push against: a real HTTP server that answers with real receipts and refusals, and can misbehave."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from gridpost.ied_soap_client import config as settings
from gridpost.ied_soap_client.zones import zone_of

import gridpost
from gridpost import answers, control_messages, enrolment, exchange, tabular
from gridpost import check as checks
from gridpost.controls import OUTCOME_EVENT, Control
from gridpost.errors import GridpostError, MessageStale, PeerFault
from gridpost.model import (
    Channel,
    Counts,
    CreatedEndDeviceEvents,
    CreatedMeterReadings,
    Enrolment,
    Position,
    Receipt,
    Refusal,
)
from gridpost.requests import GetEndDeviceControls
from gridpost.testing import ThrowawayCA
from gridpost.wssecurity import KeySigner

ROOT = Path(gridpost.__file__).parents[1]
SERIAL = "IED-7"
FORWARD = "0.0.{}.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
REVERSE = "0.0.{}.4.19.1.12.0.0.0.0.0.0.0.0.3.72.0"
Answer = tuple[int, bytes, dict[str, str]]


@dataclass
class TestBus:
    """What the HTTP server does; a test sets `behave` to spoil answers."""

    __test__ = False

    ca: ThrowawayCA = field(default_factory=ThrowawayCA)
    clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    channels: tuple[Channel, ...] = ()
    behave: Callable[[bytes, Callable[[], Answer]], Answer] | None = None
    receipts: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)  # message id -> digest, receipt
    messages: list[CreatedMeterReadings] = field(default_factory=list)  # recorded, in order
    received: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    secret: bytes = b"0123456789"
    issued: dict[bytes, bytes] = field(default_factory=dict)  # request -> certificate
    url: str = ""
    commands: list[Control] = field(default_factory=list)  # that wait to be fetched; counters are given then
    sealed: dict[int, tuple[str, bytes]] = field(default_factory=dict)  # counter -> mRID, what was answered
    fetches: list[GetEndDeviceControls] = field(default_factory=list)

    def __post_init__(self):
        self.signer = self.ca.issue_bus()
        self.lock = threading.Lock()
        self.news = threading.Condition()  # a command was added
        self.device: bytes | None = None

    @property
    def code(self) -> str:
        return enrolment.make_code(SERIAL, self.secret, self.ca.certificate)

    def readings(self) -> dict[tuple[str, int], list[tuple[str | None, tuple[str, ...]]]]:
        """Everything recorded: (stream, interval end) -> versions (value, quality codes) in order."""
        found: dict[tuple[str, int], list[tuple[str | None, tuple[str, ...]]]] = {}
        for message in self.messages:
            if isinstance(message, CreatedMeterReadings):
                for block in message.readings.blocks:
                    for end, value, qualities in zip(block.ends_utc, block.values, block.qualities, strict=True):
                        codes = tuple(quality.code for quality in qualities)
                        found.setdefault((block.channel.stream, end), []).append((value, codes))
        return found

    def post(self, path: str, raw: bytes, headers: dict[str, str]) -> Answer:
        if path == "/.well-known/est/simpleenroll":
            return self.enrol(raw, headers)
        if b"GetEndDeviceControls" in headers.get("soapaction", "").encode():
            return self.behave(raw, lambda: self.fetch(raw)) if self.behave else self.fetch(raw)
        with self.lock:
            self.received.append(raw)
            self.headers.append(headers)
            status, body, more = self.behave(raw, lambda: self.receive(raw)) if self.behave else self.receive(raw)
            return status, body, more | self.waiting()

    # --- commands: what DESIGN 4 says of a fetch, without a store ---

    def command(self, *controls: Control) -> None:
        with self.news:
            self.commands += controls
            self.news.notify_all()

    def waiting(self) -> dict[str, str]:
        return {"Gridpost-Waiting": str(len(self.commands))} if self.commands else {}

    def fetch(self, raw: bytes) -> Answer:
        assert self.device
        opened = exchange.open_(exchange.read(raw), Enrolment(SERIAL, self.device, None, self.channels))
        asked, now = opened.message, self.clock()
        assert isinstance(asked, GetEndDeviceControls)
        if abs(now - opened.created_utc_ms) > 900_000:
            return self.refuse(MessageStale("stale"), opened.content_digest, opened.signature_digest, now)
        with self.news:
            self.fetches.append(asked)
            self.news.wait_for(lambda: self.commands or max(self.sealed, default=0) > asked.after, asked.wait_s)
            later = min((counter for counter in self.sealed if counter > asked.after), default=0)
            if not later and self.commands:
                later = max(self.sealed, default=0) + 1
                control = self.commands.pop(0)
                control = control._replace(counter=control.counter or later)
                body = control_messages.encode_control(control, "bus", self.clock())
                self.sealed[later] = (control.mrid, exchange.seal(body, self.signer, self.clock()))
        if later:
            return 200, self.sealed[later][1], self.waiting()
        body = control_messages.encode_no_control(asked.header.message_id, "bus", self.clock())
        return 200, exchange.seal(body, self.signer, self.clock()), {}

    def outcomes(self) -> list[tuple[str, str, str]]:
        """What the device told: (mRID, outcome, reason) of every outcome event, in order."""
        pushed = [message for message in self.messages if isinstance(message, CreatedEndDeviceEvents)]
        details = [event.details for one in pushed for event in one.events if event.event_type == OUTCOME_EVENT]
        return [(one["control"], one["outcome"], one["outcomeReason"]) for one in details]

    def receive(self, raw: bytes) -> Answer:
        try:
            envelope = exchange.read(raw)
            assert self.device
            known = Enrolment(SERIAL, self.device, None, self.channels)
            authentic = exchange.verify(envelope, known)
        except GridpostError as error:
            return error.http_status, answers.encode_fault(error), {}
        now = self.clock()
        try:
            opened = exchange.decode(envelope, known, authentic)
            header = opened.message.header
            if header.message_id in self.receipts:
                assert self.receipts[header.message_id][0] == opened.content_digest
                return 200, self.receipts[header.message_id][1], {}
            checks.check_moment(opened, known, checks.HTTP, now)
            checks.check(opened.message, self.channels, now, zone_of)
        except PeerFault as error:
            return self.refuse(error, authentic.content_digest, authentic.verified.signature_digest, now)
        receipt = Receipt(
            header.message_id, SERIAL, opened.content_digest, opened.references, now,
            Position(0, len(self.receipts)), hashlib.sha256().digest(), Counts(1, 0, 0),
        )  # fmt: skip
        sealed = exchange.seal(answers.encode_receipt(receipt, header.noun, "bus"), self.signer, now)
        self.receipts[header.message_id] = (opened.content_digest, sealed)
        self.messages.append(opened.message)
        return 200, sealed, {}

    def refuse(self, error: PeerFault, content: bytes, signature: bytes, now: int, signer: KeySigner | None = None):
        items = tuple((item.code, item.reason, item.path) for item in error.items)
        refusal = Refusal(error.code, error.retry, error.reason, content, signature, now, items)
        body = answers.encode_refusal(refusal, error.soap_fault, "MeterReadings")
        return 500, exchange.seal(body, signer or self.signer, now), {}

    def enrol(self, raw: bytes, headers: dict[str, str]) -> Answer:
        request = base64.b64decode(raw)
        try:
            enrolment.check_proof(headers["gridpost-enrolment"], self.secret, request)
        except GridpostError as error:
            return error.http_status, b"", {}
        if request not in self.issued:
            if self.issued:
                return 403, b"", {}
            key = x509.load_der_x509_csr(request).public_key()
            issued = self.ca.issue_device(SERIAL).certificate  # a certificate of the right form ...
            self.issued[request] = self.device = self._certify(issued, key)  # ... for the key that asked
        return 200, enrolment.certs_only([self.issued[request]]), {}

    def _certify(self, like: bytes, key) -> bytes:
        from cryptography.hazmat.primitives import hashes

        template = x509.load_der_x509_certificate(like)
        builder = (
            x509.CertificateBuilder()
            .subject_name(template.subject)
            .issuer_name(template.issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(template.not_valid_before_utc)
            .not_valid_after(template.not_valid_after_utc)
        )
        for extension in template.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        return builder.sign(self.ca.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def get(self, path: str) -> Answer:
        if path == "/.well-known/est/cacerts":
            return 200, enrolment.certs_only([self.ca.certificate]), {}
        name = "metering.wsdl" if path == "/metering" else path.lstrip("/")
        for folder in ("wsdl", "xsd"):
            file = ROOT / folder / name
            if "/" not in name and file.is_file():
                return 200, file.read_bytes().replace(b"http://localhost", self.url.encode()), {}
        return 404, b"", {}


def serve(bus: TestBus, port: int = 0) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            names = {name.lower(): value for name, value in self.headers.items()}
            self.reply(*bus.post(urlsplit(self.path).path, raw, names))

        def do_GET(self):
            self.reply(*bus.get(urlsplit(self.path).path))

        def reply(self, status, body, headers):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), "Content-Type": "text/xml", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    bus.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


@contextmanager
def serving():
    """A bus that answers for as long as the block lasts."""
    made = TestBus()
    server = serve(made)
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def bus():
    with serving() as made:
        yield made


def channel_table(interval_s: int = 900, meters: int = 1) -> str:
    """A channel table: forward and reverse kWh of each meter."""
    period = {900: 2, 60: 3}.get(interval_s, 0)
    rows = ["usage_point,meter,channel,reading_type,unit,interval_s,zone,valid_from"]
    for number in range(1, meters + 1):
        for stream, kind in (("E", FORWARD), ("B", REVERSE)):
            rows.append(
                f"UP{number},M{number},{stream}{number},{kind.format(period)},kWh,{interval_s},Etc/UTC,2020-01-01T00:00:00Z"
            )
    return "\n".join(rows) + "\n"


@dataclass
class Device:
    """An enrolled device's folder."""

    folder: Path
    file: Path

    @property
    def config(self) -> settings.Config:
        return settings.load(self.file)


@pytest.fixture
def enrolled(tmp_path, bus):
    """What `enroller` returns, for a test with one bus."""
    return enroller(tmp_path, bus)


@pytest.fixture(scope="session")
def world_makers():
    """`serving` and `enroller`, for a test with several buses."""
    return serving, enroller


def enroller(parent: Path, bus: TestBus):
    """Return a function that makes an enrolled device by hand, without going through `init`."""

    def make(interval_s: int = 900, meters: tuple[dict, ...] = (), **sections) -> Device:
        folder = parent / "device"
        folder.mkdir()
        signer = bus.ca.issue_device(SERIAL)
        bus.device = signer.certificate
        table = channel_table(interval_s, max(1, len(meters)))
        bus.channels = tabular.channels(table)
        plain = serialization.NoEncryption()
        pem = serialization.Encoding.PEM
        (folder / "ied.key").write_bytes(signer._key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        (folder / "ied.pem").write_bytes(x509.load_der_x509_certificate(signer.certificate).public_bytes(pem))
        (folder / "ca.pem").write_bytes(bus.ca.pem)
        (folder / "channels.csv").write_text(table)
        values = {"bus": {"url": bus.url, "timeout_s": 5}, "identity": {"serial": SERIAL}}
        for name, extra in sections.items():
            values[name] = values.get(name, {}) | extra if isinstance(extra, dict) else extra
        file = folder / "ied.toml"
        file.write_text(settings.render(values, meters))
        return Device(folder, file)

    return make
