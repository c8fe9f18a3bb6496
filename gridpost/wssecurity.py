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
from cryptography.exceptions import InvalidSignature
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


class Verified(NamedTuple):
    """What a signature covers, beyond the Body it was checked over."""

    references: tuple[Reference, ...]
    signature_digest: bytes  # SHA-256 of the SignatureValue's octets
    created_utc_ms: int


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
    c14n, method, *references = list(signed_info)
    prefixes = _c14n_prefixes(c14n, "CanonicalizationMethod")
    _require(method.tag == ns.q(ns.DS, "SignatureMethod") and not len(method), "SignatureMethod")
    signature = base64_octets(value.text)
    _check_signature(public_key(certificate), method.get("Algorithm", ""), signature, canonical(signed_info, prefixes))
    covered = _check_references(references, envelope)
    return Verified(covered, hashlib.sha256(signature).digest(), created)


def _check_timestamp(timestamp: Element) -> int:
    """Created is mandatory; Expires, where given, is later and otherwise ignored (decision 4)."""
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


def _check_references(elements: list[Element], envelope: Envelope) -> tuple[Reference, ...]:
    targets = {f"#{part.get(WSU_ID)}": part for part in (envelope.body, envelope.timestamp, envelope.token)}
    _require(2 <= len(elements) <= 3, f"{len(elements)} references")
    covered: list[Reference] = []
    for element in elements:
        _require(element.tag == ns.q(ns.DS, "Reference"), "SignedInfo's children")
        part = targets.pop(element.get("URI", ""), None)
        if part is None or not part.get(WSU_ID):
            raise SignatureInvalid(detail="reference to something else, or twice")
        covered.append(_check_reference(element, part))
    _require(f"#{envelope.body.get(WSU_ID)}" not in targets, "Body is not signed")
    _require(f"#{envelope.timestamp.get(WSU_ID)}" not in targets, "Timestamp is not signed")
    return tuple(covered)


def _check_reference(element: Element, part: Element) -> Reference:
    _require(set(element.attrib) <= {"URI", "Id"}, "Reference's attributes")
    transforms, method, value = _children(element, "Transforms", "DigestMethod", "DigestValue")
    (transform,) = _children(transforms, "Transform")
    prefixes = _c14n_prefixes(transform, "Transform")
    algorithm = method.get("Algorithm", "")
    _require(algorithm in DIGESTS and not len(method) and not len(value), "digest algorithm")
    digest = hashlib.new(DIGESTS[algorithm], canonical(part, prefixes)).digest()
    _require(hmac.compare_digest(digest, base64_octets(value.text)), f"digest of {part.tag}")
    stated = "".join((value.text or "").split())
    return Reference(element.get("URI", ""), ns.EXC_C14N, " ".join(prefixes), algorithm, stated)


def _c14n_prefixes(element: Element, name: str) -> list[str]:
    """The PrefixList of an exc-c14n element, honoured exactly; ``#default`` included (exc-c14n section 3)."""
    _require(element.tag == ns.q(ns.DS, name) and dict(element.attrib) == {"Algorithm": ns.EXC_C14N}, name)
    if not len(element):
        return []
    (inclusive,) = _children(element, "InclusiveNamespaces", space=ns.EXC_C14N)
    _require(list(inclusive.attrib) == ["PrefixList"] and not len(inclusive), "InclusiveNamespaces")
    prefixes: list[str] = inclusive.get("PrefixList", "").split()
    return prefixes


def _check_signature(key: PublicKey, algorithm: str, signature: bytes, data: bytes) -> None:
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


@lru_cache(maxsize=4096)
def public_key(certificate: bytes) -> PublicKey:
    """Return the public key of a DER certificate if its kind and size are ones we accept.

    Raises:
        SignatureInvalid: no certificate, RSA under 2048 bits or exponent under 65537, or a curve but P-256, P-384.
    """
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except ValueError:
        raise SignatureInvalid(detail="token is no certificate") from None
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

_SIGNED_INFO = (
    f'<ds:SignedInfo xmlns:ds="{ns.DS}">'
    f'<ds:CanonicalizationMethod Algorithm="{ns.EXC_C14N}"></ds:CanonicalizationMethod>'
    '<ds:SignatureMethod Algorithm="{algorithm}"></ds:SignatureMethod>{references}</ds:SignedInfo>'
)
_REFERENCE = (
    '<ds:Reference URI="#{id}"><ds:Transforms>'
    f'<ds:Transform Algorithm="{ns.EXC_C14N}"></ds:Transform></ds:Transforms>'
    f'<ds:DigestMethod Algorithm="{ns.SHA256}"></ds:DigestMethod>'
    "<ds:DigestValue>{digest}</ds:DigestValue></ds:Reference>"
)
_ENVELOPE = (
    f'<soap:Envelope xmlns:soap="{ns.SOAP11}"><soap:Header>'
    f'<wsse:Security xmlns:wsse="{ns.WSSE}" soap:mustUnderstand="1">'
    f'<wsse:BinarySecurityToken xmlns:wsu="{ns.WSU}" EncodingType="{ns.BASE64}" ValueType="{ns.X509V3}" wsu:Id="token">'
    "{token}</wsse:BinarySecurityToken>{timestamp}"
    f'<ds:Signature xmlns:ds="{ns.DS}">{{signed_info}}<ds:SignatureValue>{{value}}</ds:SignatureValue>'
    "<ds:KeyInfo><wsse:SecurityTokenReference>"
    f'<wsse:Reference URI="#token" ValueType="{ns.X509V3}"/></wsse:SecurityTokenReference></ds:KeyInfo>'
    "</ds:Signature></wsse:Security></soap:Header>{body}</soap:Envelope>"
)


def sign(payload: bytes, signer: Signer, created_utc_ms: int) -> bytes:
    """Return a complete signed envelope around `payload`.

    Body, Timestamp and SignedInfo are written in their exclusive canonical form, so no tree is built and the digests
    are taken over the very bytes sent. That holds for a payload in canonical form that binds no prefix ``soap`` or
    ``wsu``: what `messages.encode` and its kin return.

    Raises:
        SignerUnavailable: the key cannot be used now.
    """
    body = f'<soap:Body xmlns:soap="{ns.SOAP11}" xmlns:wsu="{ns.WSU}" wsu:Id="body">{payload.decode()}</soap:Body>'
    timestamp = (
        f'<wsu:Timestamp xmlns:wsu="{ns.WSU}" wsu:Id="time">'
        f"<wsu:Created>{units.format_utc_ms(created_utc_ms)}</wsu:Created></wsu:Timestamp>"
    )
    parts = (("body", body), ("time", timestamp))
    references = "".join(_REFERENCE.format(id=name, digest=_sha256_base64(part)) for name, part in parts)
    signed_info = _SIGNED_INFO.format(algorithm=signer.algorithm, references=references)
    return _ENVELOPE.format(
        token=base64.b64encode(signer.certificate).decode(),
        timestamp=timestamp,
        signed_info=signed_info,
        value=base64.b64encode(signer.sign(signed_info.encode())).decode(),
        body=body,
    ).encode()


def _sha256_base64(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


class KeySigner:
    """A `ports.Signer` over a private key in memory: P-256 or P-384 (deterministic, RFC 6979) or RSA."""

    def __init__(self, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, certificate: bytes) -> None:
        """Pair a key with its DER certificate."""
        self._key = key
        self.certificate = certificate
        self.algorithm = ns.RSA_SHA256
        self._make: Callable[[bytes], bytes] = self._rsa
        if isinstance(key, ec.EllipticCurvePrivateKey):
            self.algorithm = ns.ECDSA_SHA256 if key.curve.name == "secp256r1" else ns.ECDSA_SHA384
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
        except ValueError as error:
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
