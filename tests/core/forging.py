"""A signer with every knob: makes messages of any shape, rightly or wrongly signed. Independent of gridpost.wssecurity.

A message is text with marks; marks for digests and for the signature are filled by lxml's c14n and cryptography, so a
message that should be refused for *one* fault is right in all else. `forgeries.py` and its parts use it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from lxml import etree

from gridpost import messages, ns, testing, units
from gridpost.model import Channel
from gridpost.wssecurity import KeySigner

EXC = ns.EXC_C14N
DS11 = "http://www.w3.org/2009/xmldsig11#"
SHA1 = "http://www.w3.org/2000/09/xmldsig#sha1"
HASHES = {
    ns.RSA_SHA256: hashes.SHA256(),
    ns.RSA_SHA384: hashes.SHA384(),
    ns.RSA_SHA512: hashes.SHA512(),
    ns.ECDSA_SHA256: hashes.SHA256(),
    ns.ECDSA_SHA384: hashes.SHA384(),
}
DIGESTS = {
    ns.SHA256: "sha256",
    ns.SHA384: "sha384",
    ns.SHA512: "sha512",
    SHA1: "sha1",
    "http://www.w3.org/2001/04/xmldsig-more#md5": "md5",
}


class Forgery(NamedTuple):
    """One message that must be refused.

    Attributes:
        name: unique.
        row: of the threat catalogue, such as ``2.3 transforms``.
        raw: the bytes to send.
        codes: the refusals that are right; the first is the expected one.
        late_ms: how long after the setting's now it arrives.
    """

    name: str
    row: str
    raw: bytes
    codes: tuple[str, ...]
    late_ms: int = 0


EITHER = ("signature-invalid", "envelope-shape")


def named(row: str, prefix: str, cases: dict[str, bytes], codes: tuple[str, ...] = EITHER) -> Iterator[Forgery]:
    """One forgery for each case, all refused alike."""
    for name, raw in cases.items():
        yield Forgery(f"{prefix}-{name}", row, raw, codes)


class Genuine(NamedTuple):
    """One unusual message that must be taken."""

    name: str
    raw: bytes
    value: str | None = "1.5"  # as it must come out


@dataclass(frozen=True)
class Setting:
    """Who is who while messages are forged.

    Attributes:
        signer: the enrolled device's key.
        source: its id.
        channel: one of its enrolled 15-minute channels.
        now_utc_ms: the moment messages are made for.
        neighbour: another enrolled device's key.
        neighbour_source: its id.
        foreign: a channel the device may not speak for (the neighbour's).
        canary: URL and file that must never be opened.
    """

    signer: KeySigner
    source: str
    channel: Channel
    now_utc_ms: int
    neighbour: KeySigner
    neighbour_source: str
    foreign: Channel
    canary: tuple[str, str] = ("http://127.0.0.1:9/canary", "/nonexistent/canary")
    made: list[int] = field(default_factory=list)

    @property
    def last_end_utc(self) -> int:
        """The newest whole quarter hour."""
        return self.now_utc_ms // 900_000 * 900

    def payload(
        self, values: Sequence[str] = ("1.5",), channel: Channel | None = None, source: str | None = None
    ) -> str:
        """A canonical CreatedMeterReadings with its own MessageID."""
        self.made.append(1)
        channel = channel or self.channel
        block = testing.block(channel, self.last_end_utc - 900 * (len(values) - 1), values)
        name = f"forged-{self.now_utc_ms}-{len(self.made)}"
        return messages.encode(testing.readings_message(source or self.source, name, [block], self.now_utc_ms)).decode()


def clock(utc_ms: int) -> str:
    return units.format_utc_ms(utc_ms)


Sign = Callable[[KeySigner, bytes, str], bytes]  # signer, octets of SignedInfo, method -> SignatureValue


class Ref(NamedTuple):
    """One ds:Reference and what it digests: the first element with that wsu:Id, or given octets."""

    uri: str = "#body"
    target: str = "body"
    transforms: str = f'<ds:Transforms><ds:Transform Algorithm="{EXC}"/></ds:Transforms>'
    digest: str = ns.SHA256
    octets: bytes | None = None
    prefixes: tuple[str, ...] = ()
    attributes: str = ""
    value: str | None = None


BODY, TIME, TOKEN = Ref(), Ref("#time", "time"), Ref("#token", "token")


def with_prefixes(ref: Ref, *prefixes: str) -> Ref:
    """The reference with a PrefixList."""
    return ref._replace(transforms=f"<ds:Transforms>{transform(prefixes)}</ds:Transforms>", prefixes=prefixes)


def transform(prefixes: Sequence[str] = (), tag: str = "Transform") -> str:
    listed = f'<ec:InclusiveNamespaces xmlns:ec="{EXC}" PrefixList="{" ".join(prefixes)}"/>' if prefixes else ""
    return f'<ds:{tag} Algorithm="{EXC}">{listed}</ds:{tag}>'


@dataclass(frozen=True)
class Draft:
    """A message to be: every part of it as text. `sealed` fills in digests and the signature."""

    payload: str
    signer: KeySigner
    created: str = ""
    timestamp: str = '<wsu:Timestamp wsu:Id="time"><wsu:Created>{created}</wsu:Created>{expires}</wsu:Timestamp>'
    expires: str = ""
    token: str = (
        f'<wsse:BinarySecurityToken EncodingType="{ns.BASE64}" ValueType="{ns.X509V3}" wsu:Id="token">'
        "{certificate}</wsse:BinarySecurityToken>"
    )
    certificate: bytes | None = None
    body: str = '<soap:Body wsu:Id="body">{payload}</soap:Body>'
    refs: Sequence[Ref] = (BODY, TIME)
    c14n: str = f'<ds:CanonicalizationMethod Algorithm="{EXC}"/>'
    c14n_prefixes: tuple[str, ...] = ()
    method: str = ""
    method_tag: str = "ds:SignatureMethod"
    method_children: str = ""
    sign: Sign | None = None
    rewrite: Callable[[str], str] = str  # changes the text before digests and signature are made
    unsigned: bool = False  # SignedInfo costs too much to canonicalise: `sign` gets nothing
    key_info: str = (
        '<ds:KeyInfo><wsse:SecurityTokenReference><wsse:Reference URI="#token" ValueType="'
        f'{ns.X509V3}"/></wsse:SecurityTokenReference></ds:KeyInfo>'
    )
    signature: str = (
        "<ds:Signature>{signed_info}<ds:SignatureValue>{value}</ds:SignatureValue>{key_info}</ds:Signature>"
    )
    security: str = '<wsse:Security soap:mustUnderstand="1">{token}{timestamp}{signature}</wsse:Security>'
    header: str = "<soap:Header>{security}</soap:Header>"
    declared: str = f'xmlns:soap="{ns.SOAP11}" xmlns:wsse="{ns.WSSE}" xmlns:wsu="{ns.WSU}" xmlns:ds="{ns.DS}"'
    envelope: str = "<soap:Envelope {declared}>{header}{body}</soap:Envelope>"

    def sealed(self) -> bytes:
        """Fill in digests, then the signature."""
        method = self.method or self.signer.algorithm
        text = self.rewrite(self._text(method))
        root = etree.fromstring(text.encode(), etree.XMLParser(resolve_entities=False, huge_tree=True))
        digests = [ref.value if ref.value is not None else _digest(root, ref) for ref in self.refs]
        text = re.sub(r"@digest(\d+)@", lambda mark: digests[int(mark[1])], text)
        octets = b"" if self.unsigned else _signed_info(text, self.c14n_prefixes)
        make = self.sign or raw_signature
        return text.replace("@value@", base64.b64encode(make(self.signer, octets, method)).decode()).encode()

    def _text(self, method: str) -> str:
        references = "".join(
            f'<ds:Reference URI="{ref.uri}"{ref.attributes}>{ref.transforms}<ds:DigestMethod Algorithm="{ref.digest}"/>'
            f"<ds:DigestValue>@digest{number}@</ds:DigestValue></ds:Reference>"
            for number, ref in enumerate(self.refs)
        )
        info = (
            f'<ds:SignedInfo>{self.c14n}<{self.method_tag} Algorithm="{method}">{self.method_children}'
            f"</{self.method_tag}>{references}</ds:SignedInfo>"
        )
        parts = {
            "token": self.token.replace(
                "{certificate}", base64.b64encode(self.certificate or self.signer.certificate).decode()
            ),
            "timestamp": self.timestamp.replace("{created}", self.created).replace("{expires}", self.expires),
            "signature": self.signature.replace("{signed_info}", info)
            .replace("{value}", "@value@")
            .replace("{key_info}", self.key_info),
        }
        security = self.security
        for name, text in parts.items():
            security = security.replace(f"{{{name}}}", text)
        return (
            self.envelope.replace("{declared}", self.declared)
            .replace("{header}", self.header.replace("{security}", security))
            .replace("{body}", self.body.replace("{payload}", self.payload))
        )


def draft(setting: Setting, payload: str | None = None, **changes: object) -> Draft:
    """A right message of the setting's device, but for `changes`."""
    values: dict[str, object] = {"created": clock(setting.now_utc_ms), "signer": setting.signer}
    return Draft(payload or setting.payload(), **(values | changes))  # type: ignore[arg-type]


def c14n(element: etree._Element, prefixes: Sequence[str] = ()) -> bytes:
    listed = list(prefixes) or None
    return etree.tostring(element, method="c14n", exclusive=True, inclusive_ns_prefixes=listed, with_tail=False)


def _signed_info(text: str, prefixes: Sequence[str]) -> bytes:
    root = etree.fromstring(text.encode(), etree.XMLParser(resolve_entities=False, huge_tree=True))
    infos = root.xpath("//ds:SignedInfo", namespaces={"ds": ns.DS})
    return c14n(infos[0], prefixes) if infos else b""


def _digest(root: etree._Element, ref: Ref) -> str:
    octets = ref.octets
    if octets is None:
        found = root.xpath("//*[@wsu:Id=$id]", namespaces={"wsu": ns.WSU}, id=ref.target)
        octets = c14n(found[0], ref.prefixes) if found else b""
    return base64.b64encode(hashlib.new(DIGESTS.get(ref.digest, "sha256"), octets).digest()).decode()


def raw_signature(signer: KeySigner, octets: bytes, method: str) -> bytes:
    """r||s or PKCS#1 v1.5 by the method's hash (SHA-256 when it is none of ours)."""
    algorithm = HASHES.get(method, hashes.SHA256())
    key = signer._key
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(octets, padding.PKCS1v15(), algorithm)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(octets)
    r, s = decode_dss_signature(key.sign(octets, ec.ECDSA(algorithm)))
    size = (key.curve.key_size + 7) // 8
    return r.to_bytes(size) + s.to_bytes(size)


def der_signature(signer: KeySigner, octets: bytes, method: str) -> bytes:
    return signer._key.sign(octets, ec.ECDSA(HASHES[method]))
