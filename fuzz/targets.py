"""What is fuzzed: functions of any bytes, each with the errors it may raise and what must hold when it raises none.

A target returns None or raises; whatever it raises that is not listed as its own refusal is a finding. Nothing here
needs atheris: the suite runs every corpus through these same functions.
"""

from __future__ import annotations

import binascii
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import UTC
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "campaigns"))

import genuine_samples
from gridpost.adapters.cmep import CmepAdapter
from gridpost.adapters.csv_line import CsvLineAdapter
from gridpost.adapters.greenbutton import GreenButtonAdapter
from gridpost.adapters.mv90 import Mv90Adapter
from gridpost.adapters.nem12 import Nem12Adapter, Nem13Adapter
from gridpost.adapters.xml_record import XmlRecordAdapter
from gridpost.ied_soap_client import config as ied_config
from gridpost.server import config as bus_config
from gridpost.server import enrolment as bus_enrolment
from gridpost.server.transports.device_http import DeviceHttpFactory
from gridpost.server.transports.http_values import HttpLimits, Request, Response, Route
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from gridpost import (
    answers,
    check,
    control_messages,
    enrolment,
    envelope,
    exchange,
    heads,
    messages,
    proof,
    schemas,
    settings,
    tabular,
    units,
)
from gridpost.errors import (
    AnswerUntrusted,
    CannotRepresent,
    ConfigInvalid,
    EnrolmentRefused,
    FileInvalid,
    PeerFault,
)
from gridpost.evidence import Signed
from gridpost.model import CreatedMeterReadings, Enrolment, Opened, ReadingType
from gridpost.ports import Adapter, FormatOptions

Refusal = tuple[type[Exception], ...]
MELBOURNE = ZoneInfo("Australia/Melbourne")
MOST_CPU_S = 2.0  # for one input, of 64 KiB at most


class Finding(AssertionError):
    """What came out is wrong."""


def require(condition: bool, what: str) -> None:
    if not condition:
        raise Finding(what)


class Target(NamedTuple):
    """One function under test: any bytes in; it may refuse with these errors and no other."""

    run: Callable[[bytes], Any]
    refuses: Refusal


def outcome(target: Target, data: bytes) -> str:
    """Run a target; return ``taken`` or the refusal's name. Raises what is a finding, slowness too."""
    began, said = time.thread_time(), "taken"
    try:
        target.run(data)
    except target.refuses as error:
        said = getattr(error, "code", "") or type(error).__name__
    require(time.thread_time() - began < MOST_CPU_S, f"more than {MOST_CPU_S} s of processor time")
    return said


# --- the sealed message ----------------------------------------------------------------------------------------------


@cache
def _enrolments() -> Mapping[bytes, Enrolment]:
    return {one.enrolment.certificate: one.enrolment for one in genuine_samples.samples()}


@cache
def _genuine() -> Mapping[bytes, list[Opened]]:
    """What was signed, by contentDigest."""
    found: dict[bytes, list[Opened]] = {}
    for one in genuine_samples.samples():
        opened = exchange.open_(envelope.shape(one.raw), one.enrolment)
        found.setdefault(opened.content_digest, []).append(opened)
    return found


def opened(raw: bytes, read: Callable[[bytes], Any]) -> Opened | PeerFault:
    """Read a message by the way given and open it as whoever its token names."""
    try:
        shaped = read(raw)
        return exchange.open_(shaped, _enrolments().get(shaped.certificate, next(iter(_enrolments().values()))))
    except PeerFault as refused:
        return refused


def sealed_message(data: bytes) -> None:
    """`read` and `open_`, and the lxml path beside them: equal outcomes, and nothing taken but what was signed."""
    mine, reference = opened(data, exchange.read), opened(data, envelope.shape)
    if isinstance(mine, PeerFault) or isinstance(reference, PeerFault):
        require(isinstance(mine, PeerFault) and isinstance(reference, PeerFault), f"{mine!r} beside {reference!r}")
        raise mine
    require(mine == reference, "two ways of reading, two contents")
    signed = [one.message for one in _genuine().get(mine.content_digest, [])]
    require(mine.message in signed, f"taken at other values: {mine.message}")


def content(data: bytes) -> None:
    """A Body's child as it comes after the signature: schema, model, business rules."""
    payload = envelope.parse(data)
    messages.kind_of(payload)
    schemas.validate(payload)
    decoded = messages.decode(payload)
    again = messages.decode(envelope.parse(messages.encode(decoded)))
    require(_plain(again) == _plain(decoded), "written and read again it is another message")
    one = next(iter(_enrolments().values()))
    check.check(decoded, one.channels, genuine_samples.NOW_UTC_MS, ZoneInfo)


def _plain(message: Any) -> Any:
    """A message for comparison: two blocks of one channel are written as one."""
    if isinstance(message, CreatedMeterReadings):
        return message.header, _by_channel(message.readings)
    return message


def cim(data: bytes) -> None:
    messages.decode_meter_readings(data)


# --- what a device or an auditor reads -------------------------------------------------------------------------------


def answer(data: bytes) -> None:
    """A whole answer: nothing but the bus's own is believed."""
    exchange.open_answer(data, exchange.Trust(genuine_samples.people().ca))


def answer_content(data: bytes) -> None:
    answers.decode(envelope.parse(data))


def control(data: bytes) -> None:
    """What answers a device's fetch: nothing but the bus's own is believed."""
    exchange.open_control(data, exchange.Trust(genuine_samples.people().ca))


def control_content(data: bytes) -> None:
    """The same behind the signature: a control that is taken says the same when it is sealed again."""
    said = control_messages.decode_control(envelope.parse(data))
    if said is not None:
        again = control_messages.encode_control(said, "bus", genuine_samples.NOW_UTC_MS)
        require(control_messages.decode_control(envelope.parse(again)) == said, "sealed again it is another control")


def tree_head(data: bytes) -> None:
    heads.decode(envelope.parse(data))


class _Credulous:
    """Takes every signature for right: what stands behind it is what is fuzzed."""

    def bus(self, raw: bytes) -> Signed:
        return Signed(envelope.shape(raw).payload, "", genuine_samples.NOW_UTC_MS)

    def device(self, raw: bytes) -> Signed:
        return Signed(envelope.shape(raw).payload, genuine_samples.SOURCE, genuine_samples.NOW_UTC_MS)


def proof_file(data: bytes) -> None:
    verifier = proof.Verifier([], lambda _: _Credulous())
    verifier.run(data.splitlines(keepends=True))
    require(bool(verifier.items), "a proof without any trusted CA holds")


def enrolment_code(data: bytes) -> None:
    code = enrolment.parse_code(data.decode("utf-8", "surrogateescape"))
    require(len(code.secret) == enrolment.SECRET_OCTETS, "the secret's length")


def est_certificates(data: bytes) -> None:
    for certificate in enrolment.certificates(data):
        require(bool(certificate), "an empty certificate")


def certification_request(data: bytes) -> None:
    """PKCS#10 as the bus reads it once the proof is right; base64 or not."""
    try:
        der = b64decode(data, validate=True)
    except binascii.Error:
        der = data
    bus_enrolment.requested_key("IED1", der)


# --- files -----------------------------------------------------------------------------------------------------------


def mdef(data: bytes) -> None:
    adapter = Mv90Adapter()
    adapter.parse(data, FormatOptions(zone=MELBOURNE))
    require(adapter.rewrite(data) == data, "a valid file is not written again as it was")


def nem12(data: bytes) -> None:
    Nem12Adapter().parse(data, FormatOptions(zone=UTC))


def adapted(adapter: Adapter) -> Callable[[bytes], None]:
    """Return a target: what is taken is CSV of readings too."""

    def run(data: bytes) -> None:
        csv_readings(tabular.render(adapter.parse(data, FormatOptions(zone=UTC, to_utc=0)).readings))

    return run


def csv_readings(data: bytes) -> None:
    readings = tabular.parse(data)
    try:
        again = tabular.parse(tabular.render(readings))
    except CannotRepresent:
        return
    require(_by_channel(again) == _by_channel(readings), "written and read again they are other readings")


def _by_channel(readings: Any) -> tuple[set[Any], list[Any]]:
    values = {
        (block.channel, end, value, tuple(sorted(quality)))
        for block in readings.blocks
        for end, value, quality in zip(block.ends_utc, block.values, block.qualities, strict=True)
    }
    return values, sorted(map(repr, readings.registers))


def csv_channels(data: bytes) -> None:
    tabular.channels(data)


def csv_sites(data: bytes) -> None:
    tabular.sites(data)


def toml(data: bytes) -> None:
    """Both settings files; a text that neither takes is refused."""
    text = data.decode("utf-8", "replace")
    kinds: list[tuple[Any, Any]] = [(bus_config.SECTIONS, {}), (ied_config.SECTIONS, {"meter": ied_config.Meter})]
    refused = [error for sections, lists in kinds if (error := _settings_refused(text, sections, lists))]
    if len(refused) == len(kinds):
        raise refused[0]


def _settings_refused(text: str, sections: Any, lists: Any) -> ConfigInvalid | None:
    try:
        settings.parse(text, "a file", sections, lists)
    except ConfigInvalid as error:
        return error
    return None


def number_or_time(data: bytes) -> None:
    """The parsers of values, times and codes; what they take is what XML Schema means by it."""
    text = data.decode("utf-8", "replace")
    found = [_tried(text, read) for read in (_decimal, _moment, ReadingType.parse, units.unit_code)]
    if all(isinstance(one, Exception) for one in found):
        raise ValueError


def _tried(text: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(text)
    except (ValueError, FileInvalid) as refused:
        return refused


def _decimal(text: str) -> None:
    literal = units.decimal_text(text)
    require(literal.isascii() and Decimal(literal).is_finite(), f"{text!r} taken for a number")
    require(units.decimal_texts([text]) == (literal,), "one and many differ")
    require(sum(letter.isdigit() for letter in literal.lstrip("-0")) <= 18, "more than 18 digits")


def _moment(text: str) -> None:
    millis = units.parse_utc_ms(text)
    require(units.parse_utc_ms(units.format_utc_ms(millis)) == millis, f"{text!r} is not the same time again")
    whole = _tried(text, units.parse_utc)
    require(isinstance(whole, ValueError) or whole * 1000 == millis, f"{text!r} in seconds is another time")


# --- the listener ----------------------------------------------------------------------------------------------------


class _Wire(StringTransport):
    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is held back here."""


class _Heard:
    """A listener that keeps what its handlers were given; no reactor, no socket, no clock but one that stands still."""

    def __init__(self) -> None:
        self.requests: list[tuple[Any, ...]] = []
        self.refused: list[str] = []
        self.clock = Clock()
        routes = [
            Route("POST", "/metering", self._take),
            Route("GET", "/metering", self._take),
            Route("POST", "/est", self._take, ("application/pkcs10",), 64),
        ]
        limits = HttpLimits(body=4096, head=1024, headers=16, ahead=2048)
        factory = DeviceHttpFactory(routes, self.clock, limits, lambda code, *_: self.refused.append(code))
        self.protocol, self.transport = factory.buildProtocol(None), _Wire()
        self.protocol.makeConnection(self.transport)

    def _take(self, request: Request) -> Response:
        named = dict(request.headers)
        self.requests.append((request.method, request.path, request.query, tuple(named.items()), request.body))
        require(len(request.body) == int(named.get("content-length", "0")), "a body of another length than stated")
        return Response(200, b"taken")

    def feed(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            if not self.transport.disconnecting:
                self.protocol.dataReceived(piece)
            self.clock.advance(0)
        for _ in range(64):
            self.clock.advance(0)

    @property
    def answers(self) -> list[bytes]:
        """The statuses sent, but for 100."""
        found, rest = [], self.transport.value()
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            lengths = [
                line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
            ]
            rest = rest[int(lengths[0]) if lengths else 0 :]
            found.append(head.split(b" ")[1])
        return [status for status in found if status != b"100"]


def http(data: bytes) -> None:
    """Octets to the listener, whole and in pieces: the same requests, an answer for each, at most one refusal."""
    if not data:
        raise ValueError
    size, stream = data[0] % 97 + 1, data[1:]
    whole, pieces = _Heard(), _Heard()
    whole.feed([stream])
    pieces.feed([stream[at : at + size] for at in range(0, len(stream), size)])
    require(whole.requests == pieces.requests, "in pieces they are other requests")
    for one in (whole, pieces):
        require(one.answers.count(b"200") == len(one.requests), "not one answer for each request")
        require(
            len(one.answers) == len(one.requests) + len(one.refused) and len(one.refused) <= 1, "answers to nothing"
        )
        require(b"500" not in one.answers, "a handler failed")
    if whole.refused:
        raise ValueError(whole.refused[0])


_PEER: Refusal = (PeerFault,)
TARGETS: Mapping[str, Target] = {
    "sealed-message": Target(sealed_message, _PEER),
    "content": Target(content, _PEER),
    "cim": Target(cim, _PEER),
    "answer": Target(answer, (AnswerUntrusted,)),
    "answer-content": Target(answer_content, (AnswerUntrusted, *_PEER)),
    "control": Target(control, (AnswerUntrusted,)),
    "control-content": Target(control_content, _PEER),
    "tree-head": Target(tree_head, (AnswerUntrusted, *_PEER)),
    "proof-file": Target(proof_file, ()),
    "enrolment-code": Target(enrolment_code, (ConfigInvalid,)),
    "est-certificates": Target(est_certificates, (AnswerUntrusted,)),
    "certification-request": Target(certification_request, (EnrolmentRefused,)),
    "mdef": Target(mdef, (FileInvalid,)),
    "nem12": Target(nem12, (FileInvalid,)),
    "nem13": Target(adapted(Nem13Adapter()), (FileInvalid,)),
    "cmep": Target(adapted(CmepAdapter()), (FileInvalid,)),
    "greenbutton": Target(adapted(GreenButtonAdapter()), (FileInvalid,)),
    "csv-line": Target(adapted(CsvLineAdapter()), (FileInvalid,)),
    "xml-record": Target(adapted(XmlRecordAdapter()), (FileInvalid,)),
    "csv-readings": Target(csv_readings, (FileInvalid,)),
    "csv-channels": Target(csv_channels, (FileInvalid,)),
    "csv-sites": Target(csv_sites, (FileInvalid,)),
    "toml": Target(toml, (ConfigInvalid,)),
    "number-or-time": Target(number_or_time, (ValueError,)),
    "http": Target(http, (ValueError,)),
}
XML = frozenset(
    {
        "sealed-message",
        "content",
        "cim",
        "answer",
        "answer-content",
        "control",
        "control-content",
        "tree-head",
        "greenbutton",
        "xml-record",
    }
)
