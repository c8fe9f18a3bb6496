"""What each target begins with: small genuine inputs, the same in every run. `files(name)` gives them as bytes.

The corpus on disk (fuzz/corpus) holds what fuzzing found beyond them; a finding's input goes there under a name that
says what it was.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC
from hashlib import sha256

import genuine_samples
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gridpost.adapters.cmep import CmepAdapter
from gridpost.adapters.greenbutton import GreenButtonAdapter
from gridpost.adapters.mv90 import Mv90Adapter
from gridpost.adapters.nem12 import Nem12Adapter
from gridpost.ied_soap_client import config as ied_config
from gridpost.server import config as bus_config

from gridpost import (
    answers,
    control_messages,
    enrolment,
    errors,
    exchange,
    heads,
    messages,
    proof,
    requests,
    tabular,
    testing,
)
from gridpost.controls import Control, Wanted
from gridpost.evidence import Exhibit
from gridpost.leaf import EntryRows, HeaderRow, LeafParts
from gridpost.model import Counts, Header, Message, Position, Readings, Receipt, Reference, Refusal
from gridpost.ports import FormatOptions
from gridpost.requests import MeterConfig, Query

NOW = genuine_samples.NOW_UTC_MS


def _messages() -> list[bytes]:
    return [one.raw for one in genuine_samples.samples() if not one.name.endswith("day")]


def _payloads() -> list[bytes]:
    made = [messages.encode(one) for name, one in genuine_samples.contents().items() if name != "day"]
    return made + [messages.encode(one) for one in _asked()]


def _asked() -> list[Message]:
    """One request of each kind."""

    def head(verb: str, noun: str) -> Header:
        return Header(verb, noun, NOW, "acme", "m-1")

    wanted = (
        Wanted("s-1", "reduce", ("IED1", "IED2"), "north", "boiler", "12.5", "kW", NOW, NOW + 1, NOW, 1, "<why>"),
    )
    query = Query(("UP-1",), ("M1",), (testing.FORWARD_KWH_15MIN,), 1, NOW // 1000, "0:7,1:2", "p2", 5, ("E1",))
    meters = (MeterConfig("M1", "UP-1", "IED1", (testing.channel(1),)),)
    return [
        requests.GetEndDeviceControls(head("get", "EndDeviceControls"), 6, 300, ("s-1",), ("held",), 5, "p2"),
        requests.CreateEndDeviceControls(head("create", "EndDeviceControls"), wanted),
        requests.CancelEndDeviceControls(head("cancel", "EndDeviceControls"), ("s-1",)),
        requests.GetMeterReadings(head("get", "MeterReadings"), query),
        requests.CreateMeterConfig(head("create", "MeterConfig"), meters),
        requests.DequeueMailbox(head("delete", "Mailbox"), 17),
    ]


def _controls() -> list[bytes]:
    one = Control("0-41-2", "acme", "utility", "s-1", "shed", "IED1", "boiler", not_before_utc_ms=NOW, counter=7)
    other = one._replace(value="12.50", unit="kW", expires_utc_ms=NOW, need_by_utc_ms=NOW, data=(("step", "2"),))
    return [
        *(control_messages.encode_control(control, "bus", NOW) for control in (one, other)),
        control_messages.encode_no_control("m-1", "bus", NOW),
    ]


def _answer_contents() -> list[bytes]:
    digest = sha256(b"content").digest()
    reference = Reference("#body", "http://www.w3.org/2001/10/xml-exc-c14n#", "soap", "http://x/#sha256", "AAAA")
    receipt = Receipt("m-1", "IED1", digest, (reference,), NOW, Position(0, 7), digest, Counts(96, 0, 1))
    items = (("bad-value", "'x' is no number", "/a/b[2]"), ("bad-value", "late", ""))
    refusal = Refusal("schema-invalid", "after-fix", "it is not valid", digest, digest, NOW, items)
    return [
        answers.encode_receipt(receipt, "MeterReadings", "bus"),
        answers.encode_receipt(receipt, "EndDeviceEvents", "bus"),
        # As it stands in the Body, whose prefix it uses.
        answers.encode_refusal(refusal, "Client", "MeterReadings").replace(
            b"<soap:Fault>", b'<soap:Fault xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/">', 1
        ),
    ]


def _answers() -> list[bytes]:
    bus = genuine_samples.people().bus
    receipt, events, _ = _answer_contents()
    return [exchange.seal(receipt, bus, NOW), exchange.seal(events, bus, NOW), answers.encode_fault(errors.Internal())]


def _heads() -> list[bytes]:
    return [heads.encode(heads.TreeHead("bus", 0, size, sha256(b"%d" % size).digest(), NOW)) for size in (0, 5)]


def _proofs() -> list[bytes]:
    bus, people = genuine_samples.people().bus, genuine_samples.people()
    sealed = exchange.seal(_heads()[1], bus, NOW)
    pem = x509.load_der_x509_certificate(people.ca).public_bytes(serialization.Encoding.PEM).decode()
    digests = [sha256(letter).digest() for letter in (b"a", b"b", b"c")]
    parts = LeafParts(Position(0, 4), NOW, "IED1", "m-1", *digests)
    kept = Exhibit(
        parts, EntryRows(header=HeaderRow("MeterReadings", "http", NOW, 1, "")), _answers()[0], _messages()[0]
    )
    start = proof.render_start([proof.Span(0, 4, 4)]) + proof.render_authority(pem) + proof.render_head(sealed)
    return [start, start + proof.render_anchor(_answers()[0], digests) + proof.render_entry(kept, digests)]


def _codes() -> list[bytes]:
    return [enrolment.make_code("IED-1", bytes(range(10)), b"ca").encode(), b"A/b_c-9.aaaa-bbbb cccc"]


def _est() -> list[bytes]:
    people = genuine_samples.people()
    return [enrolment.certs_only([people.ca]), enrolment.certs_only([people.ca, people.device.certificate])]


def _requests() -> list[bytes]:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "IED1")])
    keys = [
        ec.derive_private_key(5, ec.SECP256R1()),
        ec.derive_private_key(5, ec.SECP521R1()),
        genuine_samples.rsa_key(9),
    ]
    made = []
    for key in keys:
        deterministic = isinstance(key, ec.EllipticCurvePrivateKey) or None
        builder = x509.CertificateSigningRequestBuilder(name)
        made.append(builder.sign(key, hashes.SHA256(), ecdsa_deterministic=deterministic))
    ders = [one.public_bytes(serialization.Encoding.DER) for one in made]
    return [*ders, base64.b64encode(ders[0])]


def _readings() -> Readings:
    message = genuine_samples.contents()["two-channels"]
    return message.readings


def _mdef() -> list[bytes]:
    day = genuine_samples.contents()["day"].readings
    options = FormatOptions(zone=UTC, created_utc_ms=NOW)
    return [Mv90Adapter().render(readings, options).content for readings in (day, _readings())]


def _nem12() -> list[bytes]:
    key = testing.channel(1).key._replace(usage_point="NMI1234567")
    day = testing.block(testing.channel(1, key=key), NOW // 1000 - 86_400 + 14 * 3600 + 900, ["1.5"] * 96)
    made = Nem12Adapter().render(Readings((day,)), FormatOptions(created_utc_ms=NOW)).content
    short = (
        b"100,NEM12,202601010000,MDP1,Retailer1\r\n200,NMI1234567,E1B1,1,E1,N1,METER1,kWh,30,\r\n"
        b"300,20250101," + b",".join(b"%d.5" % n for n in range(48)) + b",V,,,20250102030405,\r\n"
        b"400,1,20,A,,\r\n400,21,48,S14,32,\r\n500,S,1,20250102030405,99.5\r\n900\r\n"
    )
    return [made, short]


def _nem13() -> list[bytes]:
    read = (
        b"250,NMI1234567,11,1,11,,METER1,E,100.5,20240101000000,A,,,250.75,20240401000000,S61,76,,150.25,kWh,20240701,,"
    )
    return [b"100,NEM13,202601010000,MDP1,Retailer1\r\n" + read + b"\r\n550,N,1,A,2\r\n900\r\n"]


def _cmep() -> list[bytes]:
    short = (
        b"MEPMD01,19970819,S,,,C1,202601010000,M1,OK,E,KWHREG,1,00000100,2,202601010000,R0,7,,E,8.5E1\r\n"
        b"MEPMD01,19970819,S,,,C1,202601010000,M1,OK,E,GKW,1,00000015,2,202601010000,N,,202601010015,A,H00ff,H1A2B\r\n"
    )
    return [CmepAdapter().render(Readings(_readings().blocks[:1]), FormatOptions(created_utc_ms=NOW)).content, short]


def _greenbutton() -> list[bytes]:
    kinds = (genuine_samples.contents()[name].readings for name in ("two-channels", "register"))
    return [GreenButtonAdapter().render(one, FormatOptions(zone=UTC, created_utc_ms=NOW)).content for one in kinds]


_TAGS = b"<billingInformation><kWhDay>1.25</kWhDay><location>Elm</location><deviceType>8500</deviceType><x/>"


def _csv() -> list[bytes]:
    flagged = genuine_samples.contents()["flagged"].readings
    register = genuine_samples.contents()["register"].readings
    return [tabular.render(one) for one in (_readings(), flagged, register)]


def _channels() -> list[bytes]:
    kind = testing.FORWARD_KWH_15MIN
    rows = [
        f"UP-1,M1,E1,{kind},kWh,900,Etc/UTC,2020-01-01T00:00:00Z",
        f"UP-1,M1,'=E2,{kind},kWh,900,Australia/Melbourne,2020-01-01T00:00:00+10:00",
    ]
    return ["\n".join([",".join(tabular.CHANNEL_COLUMNS), *rows, ""]).encode()]


def _sites() -> list[bytes]:
    key = testing.channel(1).key
    return [f"usage_point,meter,channel,reading_type,custid,recid\n{','.join(key)},C1,R1\n".encode()]


def _toml() -> list[bytes]:
    values = {"bus": {"id": "b", "processes": 2}, "listen": {"http": "127.0.0.1:0"}, "mv90": {"enabled": False}}
    meter = {"id": "M1", "host": "h", "points": {"E1": "TotWhExp"}}
    return [bus_config.render(values).encode(), ied_config.render({"push": {"every_s": 5}}, [meter]).encode()]


def _numbers() -> list[bytes]:
    texts = ("1.5", "-0.00", "+.5", "123456789012345678", "2026-01-01T00:00:00Z", "2026-02-28T23:59:59.999+14:00",
             "kWh", "2024-02-29T00:00:00-05:30", testing.FORWARD_KWH_15MIN)  # fmt: skip
    return [text.encode() for text in texts]


def _http() -> list[bytes]:
    post = b"POST /metering HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nContent-Length: 5\r\n\r\nhello"
    get = b"GET /metering?wsdl HTTP/1.1\r\nHost: a:80\r\n\r\n"
    more = (
        post + get,
        get.replace(b"1.1", b"1.0"),
        post.replace(b"Host", b"Expect: 100-continue\r\nHost"),
        post.replace(b"Host", b"Connection: close\r\nHost") + get,
        post.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        b"\r\n" + get + b"\r\n" + get,
    )
    return [bytes([size]) + stream for size, stream in zip((0, 1, 7, 30, 96, 3, 50), (post, *more), strict=False)]


_MAKERS: Mapping[str, Callable[[], list[bytes]]] = {
    "sealed-message": _messages, "content": _payloads, "answer": _answers, "answer-content": _answer_contents,
    "tree-head": _heads, "proof-file": _proofs, "enrolment-code": _codes, "est-certificates": _est,
    "certification-request": _requests, "mdef": _mdef, "nem12": _nem12, "csv-readings": _csv, "csv-channels": _channels,
    "csv-sites": _sites, "toml": _toml, "number-or-time": _numbers, "http": _http,
    "control": lambda: [exchange.seal(one, genuine_samples.people().bus, NOW) for one in _controls()],
    "control-content": _controls, "nem13": _nem13, "cmep": _cmep, "greenbutton": _greenbutton,
    "csv-line": lambda: [b"45.54,1.25,1234 Elm Street, 8500\r\n", b'1,,"a, b",c\n'],
    "xml-record": lambda: [_TAGS + b"<time>2026-01-01T00:00:00Z</time></billingInformation>"],
    "cim": lambda: [messages.encode_meter_readings(_readings())],
}  # fmt: skip


def files(name: str) -> list[bytes]:
    """Return a target's beginnings."""
    return _MAKERS[name]()
