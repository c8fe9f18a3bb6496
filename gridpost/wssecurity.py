"""WS-Security X.509: sign a message, verify one, of a single fixed shape.

Floor 3. In: an `Envelope` and the *enrolled* certificate, or a payload and a `Signer`. Out: what was signed, or
SignatureInvalid with one outside answer for every cause (the cause goes to the audit log in `detail`). No general XML
Signature here and no second way: transforms, algorithms and references outside the tables below are refused, never
skipped (XML Signature best practices 1 to 6; facts: that shape, not a library call, is the product's security).

SignedInfo covers Body and Timestamp, and may cover the token. A `#id` is resolved by identity against those three
elements, never searched for in the tree.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from . import ns, units
from .envelope import WSU_ID, Element, Envelope, base64_octets, canonical
from .errors import ConfigInvalid, EnvelopeShape, SignatureInvalid
from .model import Reference
from .ports import Signer

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

DIGESTS: Mapping[str, str] = {ns.SHA256: "sha256", ns.SHA384: "sha384", ns.SHA512: "sha512"}
RSA_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    ns.RSA_SHA256: hashes.SHA256(),
    ns.RSA_SHA384: hashes.SHA384(),
    ns.RSA_SHA512: hashes.SHA512(),
}
ECDSA_HASHES: Mapping[str, hashes.HashAlgorithm] = {ns.ECDSA_SHA256: hashes.SHA256(), ns.ECDSA_SHA384: hashes.SHA384()}
CURVES = {"secp256r1": 32, "secp384r1": 48}  # name -> octets of r and of s
RSA_BITS = range(2048, 8193)
SMALLEST_EXPONENT = 65537
SIGNED_INFO_CHILDREN = range(4, 6)  # CanonicalizationMethod, SignatureMethod, two or three References
MOST_PREFIXES = 32
MOST_LOOK_UPS = 1_000_000  # of a listed prefix at an element: some 0.15 s
LONGEST_TEXT = 512
# What cryptography raises for certificates that strangers made up; not all of it is a ValueError.
UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension)


class Verified(NamedTuple):
    """What a signature covers, beyond the Body it was checked over."""

    references: tuple[Reference, ...]
    signature_digest: bytes  # SHA-256 of the SignatureValue's octets
    created_utc_ms: int
    body: bytes = b""  # the Body's octets as digested, where no PrefixList added to them


def verify(envelope: Envelope, certificate: bytes) -> Verified:
    """Check the signature of a shaped envelope with the key of `certificate`, which the caller trusts.

    Args:
        envelope: from `envelope.shape`.
        certificate: DER; the token must hold exactly these octets.

    Raises:
        SignatureInvalid: for every cause alike.
    """
    try:
        return _verify(envelope, certificate)
    except EnvelopeShape as error:
        raise SignatureInvalid(detail=error.detail) from None


def _verify(envelope: Envelope, certificate: bytes) -> Verified:
    # The token is compared in constant time although it is public: one habit for all comparisons.
    _require(hmac.compare_digest(envelope.certificate, certificate), "token is not the enrolled certificate")
    created = _check_timestamp(envelope.timestamp)
    _check_token(envelope.token)
    signed_info, value, key_info = _children(envelope.signature, "SignedInfo", "SignatureValue", "KeyInfo")
    _check_key_info(key_info, envelope.token)
    # All of SignedInfo is bounded before it is canonicalised, and the key has spoken before the Body is: a stranger
    # who copied a certificate buys one small c14n and one public-key operation.
    _require(len(signed_info) in SIGNED_INFO_CHILDREN, f"{len(signed_info)} children of SignedInfo")
    c14n, method, *elements = list(signed_info)
    prefixes = _c14n_prefixes(c14n, "CanonicalizationMethod")
    _require(method.tag == ns.q(ns.DS, "SignatureMethod") and not len(method), "SignatureMethod")
    references = tuple(_read_reference(element) for element in elements)
    parts = _resolve(references, envelope)
    listed = sum(len(reference.prefix_list.split()) for reference in references)
    # Each prefix is looked up at each element of the part.
    _require(not listed or listed * envelope.raw.count(b"<") <= MOST_LOOK_UPS, "PrefixList of so large a message")
    _require(not len(value), "SignatureValue's shape")
    signature = base64_octets(value.text)
    check_value(certificate, method.get("Algorithm", ""), signature, canonical(signed_info, prefixes))
    octets = [_check_digest(reference, part) for reference, part in zip(references, parts, strict=True)]
    at = parts.index(envelope.body)
    body = b"" if references[at].prefix_list else octets[at]
    return Verified(references, hashlib.sha256(signature).digest(), created, body)


def _check_timestamp(timestamp: Element) -> int:
    """Created is mandatory; Expires, where given, is later and otherwise ignored (decision 4)."""
    _require(not any(len(child) for child in timestamp), "Timestamp's children")
    times = {child.tag: child.text or "" for child in timestamp}
    created, expires = ns.q(ns.WSU, "Created"), ns.q(ns.WSU, "Expires")
    _require(len(times) == len(timestamp) and set(times) in ({created}, {created, expires}), "Timestamp's children")
    try:
        created_utc_ms = units.parse_utc_ms(times[created].strip())
        expires_utc_ms = units.parse_utc_ms(times[expires].strip()) if expires in times else None
    except ValueError:
        raise SignatureInvalid(detail="Timestamp is no time with a zone") from None
    _require(expires_utc_ms is None or expires_utc_ms > created_utc_ms, "Expires before Created")
    return created_utc_ms


def _check_token(token: Element) -> None:
    allowed = {WSU_ID, "ValueType", "EncodingType"}
    _require(set(token.attrib) <= allowed and not len(token), "BinarySecurityToken's shape")
    _require(token.get("ValueType") == ns.X509V3, "token is no X509v3")
    _require(token.get("EncodingType", ns.BASE64) == ns.BASE64, "token's encoding")


def _check_key_info(key_info: Element, token: Element) -> None:
    (reference,) = _children(*_children(key_info, "SecurityTokenReference", space=ns.WSSE), "Reference", space=ns.WSSE)
    token_id = token.get(WSU_ID)
    _require(bool(token_id) and reference.get("URI") == f"#{token_id}", "KeyInfo names another token")
    _require(reference.get("ValueType", ns.X509V3) == ns.X509V3 and not len(reference), "KeyInfo's reference")


def _read_reference(element: Element) -> Reference:
    _require(element.tag == ns.q(ns.DS, "Reference") and set(element.attrib) <= {"URI", "Id"}, "Reference's shape")
    transforms, method, value = _children(element, "Transforms", "DigestMethod", "DigestValue")
    (transform,) = _children(transforms, "Transform")
    prefixes = _c14n_prefixes(transform, "Transform")
    algorithm, uri, digest = method.get("Algorithm", ""), element.get("URI", ""), value.text or ""
    _require(algorithm in DIGESTS and not len(method), "digest algorithm")
    _require(digest.isascii() and not len(value), "DigestValue's shape")
    # It is echoed in the receipt and kept with it.
    _require(len(uri) <= LONGEST_TEXT and len(digest) <= LONGEST_TEXT, "Reference's length")
    return Reference(uri, ns.EXC_C14N, " ".join(prefixes), algorithm, "".join(digest.split()))


def _resolve(references: tuple[Reference, ...], envelope: Envelope) -> list[Element]:
    """By identity, each part once: Body and Timestamp must be among them, the token may."""
    known = (envelope.token, envelope.timestamp, envelope.body)
    targets = {f"#{name}": part for part in known if (name := part.get(WSU_ID))}
    parts = [targets.pop(reference.uri, None) for reference in references]
    _require(None not in parts, "reference to something else, or twice")
    _require(envelope.body in parts, "Body is not signed")
    _require(envelope.timestamp in parts, "Timestamp is not signed")
    return parts


def _check_digest(reference: Reference, part: Element) -> bytes:
    octets = canonical(part, reference.prefix_list.split())
    digest = hashlib.new(DIGESTS[reference.digest_algorithm], octets).digest()
    _require(hmac.compare_digest(digest, base64_octets(reference.digest_value)), f"digest of {part.tag}")
    return octets


def _c14n_prefixes(element: Element, name: str) -> list[str]:
    """The PrefixList of an exc-c14n element, honoured exactly; ``#default`` included (exc-c14n section 3)."""
    _require(element.tag == ns.q(ns.DS, name) and dict(element.attrib) == {"Algorithm": ns.EXC_C14N}, name)
    if not len(element):
        return []
    (inclusive,) = _children(element, "InclusiveNamespaces", space=ns.EXC_C14N)
    _require(list(inclusive.attrib) == ["PrefixList"] and not len(inclusive), "InclusiveNamespaces")
    text: str = inclusive.get("PrefixList", "")
    # Each prefix is looked up for each element of the part, so their number is a price.
    _require(text.isascii() and len(text) <= LONGEST_TEXT and len(text.split()) <= MOST_PREFIXES, "PrefixList")
    return text.split()


def check_value(certificate: bytes, algorithm: str, signature: bytes, data: bytes) -> None:
    """Check a SignatureValue over SignedInfo's canonical form with a certificate's key.

    Raises:
        SignatureInvalid: for every cause alike.
    """
    key = public_key(certificate)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            _require(algorithm in RSA_HASHES, "algorithm does not fit an RSA key")
            key.verify(signature, data, padding.PKCS1v15(), RSA_HASHES[algorithm])
        else:
            _require(algorithm in ECDSA_HASHES, "algorithm does not fit an EC key")
            key.verify(_to_der(signature, CURVES[key.curve.name]), data, ec.ECDSA(ECDSA_HASHES[algorithm]))
    except (InvalidSignature, ValueError):
        raise SignatureInvalid(detail="signature value") from None


def _to_der(signature: bytes, octets: int) -> bytes:
    """XML Signature writes ECDSA as r||s, both at full length; DER or a stripped zero is refused."""
    _require(len(signature) == 2 * octets, "ECDSA value's length")
    return encode_dss_signature(int.from_bytes(signature[:octets]), int.from_bytes(signature[octets:]))


def is_rsa(certificate: bytes) -> bool:
    """Tell whether a DER certificate that was accepted before holds an RSA key, and not one on a curve.

    Raises:
        SignatureInvalid: see `public_key`.
    """
    return isinstance(public_key(certificate), rsa.RSAPublicKey)


@lru_cache(maxsize=4096)
def public_key(certificate: bytes) -> PublicKey:
    """Return the public key of a DER certificate if its kind and size are ones we accept.

    Raises:
        SignatureInvalid: no certificate, RSA under 2048 bits or exponent under 65537, or a curve but P-256, P-384.
    """
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except UNREADABLE:
        raise SignatureInvalid(detail="token is no certificate with a key we know") from None
    return accepted(key)


def accepted(key: object) -> PublicKey:
    """Return a public key if its kind and size are ones we accept.

    Raises:
        SignatureInvalid: see `public_key`.
    """
    if isinstance(key, rsa.RSAPublicKey):
        _require(key.key_size in RSA_BITS and key.public_numbers().e >= SMALLEST_EXPONENT, "RSA key too weak")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        _require(key.curve.name in CURVES, "curve")
        return key
    raise SignatureInvalid(detail="key is neither RSA nor EC")


def _children(parent: Element, *names: str, space: str = ns.DS) -> list[Element]:
    children = list(parent)
    _require([child.tag for child in children] == [ns.q(space, name) for name in names], f"children of {parent.tag}")
    return children


def _require(condition: bool, detail: str) -> None:
    if not condition:
        raise SignatureInvalid(detail=detail)


# --- signing ---------------------------------------------------------------------------------------------------------

# The one layout we write; `recogniser.py` makes its patterns of these.
SIGNED_INFO = (
    f'<ds:SignedInfo xmlns:ds="{ns.DS}">'
    f'<ds:CanonicalizationMethod Algorithm="{ns.EXC_C14N}"></ds:CanonicalizationMethod>'
    '<ds:SignatureMethod Algorithm="{algorithm}"></ds:SignatureMethod>{references}</ds:SignedInfo>'
)
REFERENCE = (
    '<ds:Reference URI="#{id}"><ds:Transforms>'
    f'<ds:Transform Algorithm="{ns.EXC_C14N}"></ds:Transform></ds:Transforms>'
    f'<ds:DigestMethod Algorithm="{ns.SHA256}"></ds:DigestMethod>'
    "<ds:DigestValue>{digest}</ds:DigestValue></ds:Reference>"
)
ENVELOPE = (
    f'<soap:Envelope xmlns:soap="{ns.SOAP11}"><soap:Header>'
    f'<wsse:Security xmlns:wsse="{ns.WSSE}" soap:mustUnderstand="1">'
    f'<wsse:BinarySecurityToken xmlns:wsu="{ns.WSU}" EncodingType="{ns.BASE64}" ValueType="{ns.X509V3}" wsu:Id="token">'
    "{token}</wsse:BinarySecurityToken>{timestamp}"
    f'<ds:Signature xmlns:ds="{ns.DS}">{{signed_info}}<ds:SignatureValue>{{value}}</ds:SignatureValue>'
    "<ds:KeyInfo><wsse:SecurityTokenReference>"
    f'<wsse:Reference URI="#token" ValueType="{ns.X509V3}"/></wsse:SecurityTokenReference></ds:KeyInfo>'
    "</ds:Signature></wsse:Security></soap:Header>{body}</soap:Envelope>"
)
TIMESTAMP = f'<wsu:Timestamp xmlns:wsu="{ns.WSU}" wsu:Id="time"><wsu:Created>{{created}}</wsu:Created></wsu:Timestamp>'
BODY = f'<soap:Body xmlns:soap="{ns.SOAP11}" xmlns:wsu="{ns.WSU}" wsu:Id="body">{{payload}}</soap:Body>'


def sign(payload: bytes, signer: Signer, created_utc_ms: int) -> bytes:
    """Return a complete signed envelope around `payload`.

    Body, Timestamp and SignedInfo are written in their exclusive canonical form, so no tree is built and the digests
    are taken over the very bytes sent. That holds for a payload in canonical form that binds no prefix ``soap`` or
    ``wsu``: what `messages.encode` and its kin return.

    Raises:
        SignerUnavailable: the key cannot be used now.
    """
    body = BODY.format(payload=payload.decode())
    timestamp = TIMESTAMP.format(created=units.format_utc_ms(created_utc_ms))
    parts = (("body", body), ("time", timestamp))
    references = "".join(REFERENCE.format(id=name, digest=_sha256_base64(part)) for name, part in parts)
    signed_info = SIGNED_INFO.format(algorithm=signer.algorithm, references=references)
    value = signer.sign(signed_info.encode())
    return _assembled(signer.certificate, timestamp, signed_info, value, body)


def _assembled(certificate: bytes, timestamp: str, signed_info: str, value: bytes, body: str) -> bytes:
    return ENVELOPE.format(
        token=base64.b64encode(certificate).decode(),
        timestamp=timestamp,
        signed_info=signed_info,
        value=base64.b64encode(value).decode(),
        body=body,
    ).encode()


def is_as_signed(envelope: Envelope) -> bool:
    """Tell whether the bytes of an envelope are those that `sign` would have written around its parts.

    A signature leaves room: white space between headers, attributes it does not cover. What we signed ourselves and
    keep as evidence must not have changed there either. Verify first.
    """
    signed_info, value, _ = envelope.signature
    parts = (canonical(part).decode() for part in (envelope.timestamp, signed_info, envelope.body))
    timestamp, info, body = parts
    return envelope.raw == _assembled(envelope.certificate, timestamp, info, base64_octets(value.text), body)


def _sha256_base64(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def own_algorithm(key: PublicKey) -> str:
    """Return the SignatureMethod that a `KeySigner` of this key signs with: one for each kind and curve."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return ns.ECDSA_SHA256 if key.curve.name == "secp256r1" else ns.ECDSA_SHA384
    return ns.RSA_SHA256


class KeySigner:
    """A `ports.Signer` over a private key in memory: P-256 or P-384 (deterministic, RFC 6979) or RSA."""

    def __init__(self, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, certificate: bytes) -> None:
        """Pair a key with its DER certificate."""
        self._key = key
        self.certificate = certificate
        self.algorithm = own_algorithm(key.public_key())
        self._make: Callable[[bytes], bytes] = self._rsa
        if isinstance(key, ec.EllipticCurvePrivateKey):
            self._make = self._ecdsa

    @classmethod
    def from_pem(cls, key_pem: bytes, certificate_pem: bytes) -> KeySigner:
        """Load both from PEM.

        Raises:
            ConfigInvalid: not PEM, another kind of key, or the two do not belong together.
        """
        try:
            key = serialization.load_pem_private_key(key_pem, password=None)
            certificate = x509.load_pem_x509_certificate(certificate_pem)
        except UNREADABLE as error:  # TypeError: the key is encrypted
            raise ConfigInvalid(f"key or certificate is not readable: {error}") from None
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise ConfigInvalid("the key is neither RSA nor EC")
        if key.public_key() != certificate.public_key():
            raise ConfigInvalid("the certificate belongs to another key")
        return cls(key, certificate.public_bytes(serialization.Encoding.DER))

    def sign(self, data: bytes) -> bytes:
        """Return the SignatureValue's octets."""
        return self._make(data)

    def _rsa(self, data: bytes) -> bytes:
        assert isinstance(self._key, rsa.RSAPrivateKey)
        return self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def _ecdsa(self, data: bytes) -> bytes:
        assert isinstance(self._key, ec.EllipticCurvePrivateKey)
        der = self._key.sign(data, ec.ECDSA(ECDSA_HASHES[self.algorithm], deterministic_signing=True))
        r, s = decode_dss_signature(der)
        octets = CURVES[self._key.curve.name]
        return r.to_bytes(octets) + s.to_bytes(octets)
