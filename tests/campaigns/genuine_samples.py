"""Genuine messages of many shapes, the same bytes in every run, each with the content that was signed.

Keys are derived from constants, ECDSA is deterministic (RFC 6979): so a seed of the fuzz campaign names one history,
and what a corpus holds stays signed by the device that is enrolled here. The keys are worth nothing.
"""

from __future__ import annotations

import random
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))

import forgeries
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from forging import BODY, TIME, TOKEN, Setting, draft, transform, with_prefixes
from signed_by_xmlsec import XMLSEC_SHAPES, signed_by_xmlsec

from gridpost import exchange, messages, ns, testing
from gridpost.model import (
    CreatedMeterReadings,
    EndDeviceEvent,
    Enrolment,
    Header,
    IntervalBlock,
    Quality,
    Readings,
    RegisterReading,
)
from gridpost.wssecurity import KeySigner

NOW_UTC_MS = testing.NOW_UTC_MS
FIRST_END_UTC = NOW_UTC_MS // 1000 - 96 * 900
SOURCE, NEIGHBOUR_SOURCE = "IED1", "IED2"
_VALID = datetime(2020, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)


class Sample(NamedTuple):
    """A genuine message and what must come out of it.

    Attributes:
        name: unique.
        raw: the bytes.
        enrolment: whose message it is.
        message: what was signed, as the sender had it before a byte was written; None where the builder of odd
            shapes kept only `value`.
        value: the one value in it, where `message` is None; None there too for events and gaps.
    """

    name: str
    raw: bytes
    enrolment: Enrolment
    message: Any = None
    value: str | None = None


def _primes(seed: int, bits: int) -> tuple[int, int]:
    chance, found = random.Random(seed), []
    while len(found) < 2:
        number = chance.getrandbits(bits) | 1 | 3 << bits - 2
        if all(number % small for small in range(3, 2000, 2)) and pow(2, number - 1, number) == 1:
            found.append(number)
    return found[0], found[1]


def rsa_key(seed: int) -> rsa.RSAPrivateKey:
    """The RSA-2048 key of a seed; Fermat's test is enough for a key that guards nothing."""
    p, q = _primes(seed, 1024)
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    parts = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, *parts, public).private_key()


def _certificate(name: str, key: Any, issuer: tuple[str, Any], usages: list[x509.ObjectIdentifier]) -> bytes:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    serial = int.from_bytes(name.encode()) % (1 << 100) + 1
    builder = x509.CertificateBuilder(named(issuer[0]), named(name), key.public_key(), serial, *_VALID)
    builder = builder.add_extension(x509.BasicConstraints(ca=name == issuer[0], path_length=None), critical=True)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    made = builder.sign(issuer[1], hashes.SHA256(), ecdsa_deterministic=True)
    return made.public_bytes(serialization.Encoding.DER)


class People(NamedTuple):
    """Who is who; the channel is `device`'s and of every key that signs as SOURCE."""

    ca: bytes
    bus: KeySigner
    device: KeySigner
    p384: KeySigner
    rsa: KeySigner
    neighbour: KeySigner

    def setting(self, signer: KeySigner) -> Setting:
        return Setting(
            signer=signer, source=SOURCE, channel=testing.channel(1), now_utc_ms=NOW_UTC_MS, neighbour=self.neighbour,
            neighbour_source=NEIGHBOUR_SOURCE, foreign=testing.channel(9, "M9"),
        )  # fmt: skip


@cache
def people() -> People:
    ca_key = ec.derive_private_key(0xCA, ec.SECP256R1())
    root = ("Fuzz CA", ca_key)

    def signer(name: str, key: Any, *usages: x509.ObjectIdentifier) -> KeySigner:
        return KeySigner(key, _certificate(name, key, root, list(usages)))

    return People(
        ca=_certificate("Fuzz CA", ca_key, root, []),
        bus=signer("bus", ec.derive_private_key(0xB5, ec.SECP256R1()), exchange.BUS_KEY_USAGE),
        device=signer("IED1", ec.derive_private_key(0xD1, ec.SECP256R1())),
        p384=signer("IED1 P-384", ec.derive_private_key(0xD2, ec.SECP384R1())),
        rsa=signer("IED1 RSA", rsa_key(0xD3)),
        neighbour=signer("IED2", ec.derive_private_key(0xD4, ec.SECP256R1())),
    )


def enrolment(signer: KeySigner, sender: str = SOURCE) -> Enrolment:
    return Enrolment(sender, signer.certificate, None, (testing.channel(1), testing.channel(2)))


def contents() -> dict[str, Any]:
    """Messages as a device has them, by name; values differ so that no two can be taken for each other."""

    def values(count: int, first: int) -> list[str]:
        return [f"{first + 7 * index}.{index % 1000:03d}" for index in range(count)]

    one, two = testing.channel(1), testing.channel(2)
    day = testing.block(one, FIRST_END_UTC, values(96, 1000))
    notes = (Quality("2.4.0", "clock stepped"), Quality("1.4.9"))
    flagged = IntervalBlock(
        one.key, 900, day.ends_utc[:6], (*values(4, 20), None, "-3.5"),
        ((), (notes[0],), notes, (), (Quality("2.5.259"),), (Quality("1.7.0", "edited & 'so' <on>"),)),
    )  # fmt: skip
    register = RegisterReading(one.key._replace(reading_type="0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"), FIRST_END_UTC,
                               "123456.789", ())  # fmt: skip
    event = EndDeviceEvent("e-1", "12.26.39.47", NOW_UTC_MS - 5000, "M1", "lid opened", "1", {"who": "nobody"})

    def readings(name: str, blocks: list[IntervalBlock], registers: tuple[RegisterReading, ...] = ()) -> Any:
        header = Header("created", "MeterReadings", NOW_UTC_MS, SOURCE, name, sequence=1)
        return CreatedMeterReadings(header, Readings(tuple(blocks), registers))

    return {
        "one": readings("one", [testing.block(one, FIRST_END_UTC, ["1.5"])]),
        "four": readings("four", [testing.block(one, FIRST_END_UTC, values(4, 50))]),
        "day": readings("day", [day]),
        "flagged": readings("flagged", [flagged]),
        "two-channels": readings("two", [testing.block(c, FIRST_END_UTC, values(3, c.id * 90)) for c in (one, two)]),
        "register": readings("register", [testing.block(one, FIRST_END_UTC, ["7"])], (register,)),
        "events": testing.events_message(SOURCE, "events", [event]),
    }


def _ours() -> list[Sample]:
    made = []
    for key in ("device", "p384", "rsa"):
        signer = getattr(people(), key)
        for name, message in contents().items():
            if key == "device" or name in ("one", "four", "flagged"):
                raw = exchange.seal(messages.encode(message), signer, NOW_UTC_MS)
                made.append(Sample(f"{key} {name}", raw, enrolment(signer), message))
    return made


def _foreign() -> list[Sample]:
    """As libxmlsec1 signs (RSA alone: OpenSSL's ECDSA is random), around payloads we know."""
    setting, made = people().setting(people().rsa), []
    for name, changes in XMLSEC_SHAPES.items():
        message = contents()["flagged" if name == "sha-512" else "four"]
        raw = signed_by_xmlsec(draft(setting, messages.encode(message).decode(), **changes))
        made.append(Sample(f"xmlsec {name}", raw, enrolment(people().rsa), message))
    return made


def _odd() -> list[Sample]:
    setting = people().setting(people().rsa)
    return [
        Sample(f"odd {one.name}", one.raw, enrolment(people().rsa), None, one.value)
        for one in forgeries.genuine(setting)
        if "ecdsa" not in one.name and len(one.raw) < 60_000
    ]


def _covers() -> list[Sample]:
    """Odd references over payloads we know."""
    message, setting = contents()["four"], people().setting(people().rsa)
    listed = ("soap", "wsu")
    shapes = {
        "token covered": {"refs": (TOKEN, BODY, TIME)},
        "listed prefixes": {
            "refs": (with_prefixes(BODY, "#default", "wsse"), with_prefixes(TIME, "soap")),
            "c14n": transform(listed, "CanonicalizationMethod"), "c14n_prefixes": listed,
        },
        "sha-384": {"refs": (BODY._replace(digest=ns.SHA384), TIME)},
        "pretty": {"body": '<soap:Body wsu:Id="body">\n  {payload}\n</soap:Body>', "declared":
                   draft(setting).declared.replace("xmlns:soap", "xmlns:m='urn:m' xmlns:soap")},
    }  # fmt: skip
    payload = messages.encode(message).decode()
    return [
        Sample(f"cover {name}", draft(setting, payload, **changes).sealed(), enrolment(people().rsa), message)
        for name, changes in shapes.items()
    ]


@cache
def samples() -> tuple[Sample, ...]:
    """All of them; names are unique."""
    made = (*_ours(), *_foreign(), *_covers(), *_odd())
    assert len({one.name for one in made}) == len(made)
    return made
