"""Forgeries of the threat catalogue 2.3 about keys: KeyInfo, tokens, strangers' and weak certificates."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from forging import DS11, Forgery, Setting, draft, named, raw_signature

from gridpost import ns, testing
from gridpost.wssecurity import KeySigner

SIGNATURE = "signature-invalid"


def forgeries(setting: Setting) -> Iterator[Forgery]:
    """Every row of 2.3 on whose key it is."""
    for group in (_key_infos, _tokens, _strangers):
        yield from group(setting)


def _key_infos(setting: Setting) -> Iterator[Forgery]:
    public = x509.load_der_x509_certificate(setting.signer.certificate).public_key()
    point = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    der = base64.b64encode(setting.signer.certificate).decode()
    print_ = base64.b64encode(hashlib.sha1(setting.signer.certificate).digest()).decode()
    right = draft(setting).key_info
    reference = right[len("<ds:KeyInfo>") : -len("</ds:KeyInfo>")]
    key_value = (
        f'<ds:KeyValue><k:ECKeyValue xmlns:k="{DS11}"><k:NamedCurve URI="urn:oid:1.2.840.10045.3.1.7"/>'
        f"<k:PublicKey>{base64.b64encode(point).decode()}</k:PublicKey></k:ECKeyValue></ds:KeyValue>"
    )
    x509_data = f"<ds:X509Data><ds:X509Certificate>{der}</ds:X509Certificate></ds:X509Data>"
    url, file = setting.canary
    token = draft(setting).token.replace("token", "emb").replace("{certificate}", der)
    embedded = f"<wsse:Embedded>{token}</wsse:Embedded>"
    contents = {
        "key-value": key_value,
        "key-value-beside": reference + key_value,
        "key-value-before": key_value + reference,
        "x509-data": x509_data,
        "x509-data-beside": reference + x509_data,
        "issuer-serial": "<ds:X509Data><ds:X509IssuerSerial><ds:X509IssuerName>CN=x</ds:X509IssuerName>"
        "<ds:X509SerialNumber>1</ds:X509SerialNumber></ds:X509IssuerSerial></ds:X509Data>",
        "key-name": "<ds:KeyName>token</ds:KeyName>",
        "key-name-path": f"<ds:KeyName>{file}</ds:KeyName>",
        "key-name-beside": reference + "<ds:KeyName>x</ds:KeyName>",
        "retrieval-method": f'<ds:RetrievalMethod URI="{url}"/>',
        "retrieval-method-inside": '<ds:RetrievalMethod URI="#token"/>',
        "key-info-reference": f'<k:KeyInfoReference xmlns:k="{DS11}" URI="{url}"/>',
        "der-encoded-key-value": f'<k:DEREncodedKeyValue xmlns:k="{DS11}">AAAA</k:DEREncodedKeyValue>',
        "reference-twice": reference * 2,
        "str-empty": "<wsse:SecurityTokenReference/>",
        "str-key-identifier": "<wsse:SecurityTokenReference><wsse:KeyIdentifier ValueType="
        f'"http://docs.oasis-open.org/wss/oasis-wss-soap-message-security-1.1#ThumbprintSHA1">{print_}'
        "</wsse:KeyIdentifier></wsse:SecurityTokenReference>",
        "str-embedded": f"<wsse:SecurityTokenReference>{embedded}</wsse:SecurityTokenReference>",
        "str-with-x509-data": f"<wsse:SecurityTokenReference>{x509_data}</wsse:SecurityTokenReference>",
        "str-two-references": reference.replace("</wsse:Sec", '<wsse:Reference URI="#token"/></wsse:Sec'),
        "reference-without-uri": reference.replace(' URI="#token"', ""),
        "reference-to-nothing": reference.replace("#token", "#nothing"),
        "reference-to-body": reference.replace("#token", "#body"),
        "reference-external": reference.replace("#token", url),
        "reference-of-another-type": reference.replace("#X509v3", "#X509PKIPathv1"),
        "reference-with-child": reference.replace("/></wsse:Sec", "><a/></wsse:Reference></wsse:Sec"),
    }
    cases = {
        name: draft(setting, key_info=f"<ds:KeyInfo>{text}</ds:KeyInfo>").sealed() for name, text in contents.items()
    }
    row = "2.3 KeyValue, RetrievalMethod, KeyInfoReference, KeyName, X509Data"
    yield from named(row, "key-info", cases)


def _tokens(setting: Setting) -> Iterator[Forgery]:
    token = draft(setting).token
    other = base64.b64encode(setting.neighbour.certificate).decode()
    security = draft(setting).security
    second = token.replace('"token"', '"token2"').replace("{certificate}", other)
    same = token.replace("{certificate}", other)
    cases = {
        "second-beside": draft(setting, security=security.replace("{token}", "{token}" + second)),
        "second-before": draft(setting, security=security.replace("{token}", second + "{token}")),
        "second-of-one-id": draft(setting, security=security.replace("{token}", "{token}" + same)),
        "pkcs7": draft(setting, token=token.replace("#X509v3", "#PKCS7")),
        "pki-path": draft(setting, token=token.replace("#X509v3", "#X509PKIPathv1")),
        "no-type": draft(setting, token=token.replace(f' ValueType="{ns.X509V3}"', "")),
        "hex": draft(setting, token=token.replace("#Base64Binary", "#HexBinary")),
        "attribute-beside": draft(setting, token=token.replace(" wsu:Id", ' x="1" wsu:Id')),
        "child-inside": draft(setting, token=token.replace("{certificate}", "{certificate}<a/>")),
        "no-id": draft(setting, token=token.replace(' wsu:Id="token"', "")),
        "empty": draft(setting, token=token.replace("{certificate}", "")),
        "not-base64": draft(setting, token=token.replace("{certificate}", "***")),
        "garbage": draft(setting, certificate=b"garbage"),
        "truncated": draft(setting, certificate=setting.signer.certificate[:-1]),
        "octet-behind": draft(setting, certificate=setting.signer.certificate + b"\0"),
        "huge": draft(setting, certificate=b"\x30" * 300_000),
        "missing": draft(setting, security=security.replace("{token}", "")),
        "username-token": draft(setting, security=security.replace("{token}", "<wsse:UsernameToken/>")),
        "saml-beside": draft(
            setting, security=security.replace("{token}", '{token}<a xmlns="urn:oasis:names:tc:SAML:2.0:assertion"/>')
        ),
        "in-pem": draft(setting, certificate=_pem(setting.signer.certificate)),
    }
    made = {name: drafted.sealed() for name, drafted in cases.items()}
    yield from named("2.3 two BSTs, BST plus X509Data", "token", made)


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)


def _strangers(setting: Setting) -> Iterator[Forgery]:
    own = x509.load_der_x509_certificate(setting.signer.certificate)
    stranger = testing.ThrowawayCA("Another CA").issue_device(setting.source)
    cases = {
        "other-ca-same-name": draft(setting, signer=stranger),
        "self-signed-twin": draft(setting, signer=_twin(own, ec.generate_private_key(ec.SECP256R1()))),
        "own-token-strange-key": draft(setting, signer=stranger, certificate=setting.signer.certificate),
        "own-key-strange-token": draft(setting, certificate=stranger.certificate),
        "own-key-neighbours-token": draft(setting, certificate=setting.neighbour.certificate),
        "neighbours-key-own-token": draft(setting, signer=setting.neighbour, certificate=setting.signer.certificate),
    }
    for name, signer in weak_signers().items():
        method = {"ed25519": "http://www.w3.org/2021/04/xmldsig-more#eddsa-ed25519"}.get(name, signer.algorithm)
        cases[f"key-{name}"] = draft(setting, signer=signer, method=method, sign=_weak)
    made = {name: drafted.sealed() for name, drafted in cases.items()}
    row = "2.3 self-signed twin, other CA, stranger; weak keys"
    yield from named(row, "signer", made, (SIGNATURE,))


def _weak(signer: KeySigner, octets: bytes, method: str) -> bytes:
    key = signer._key
    if isinstance(key, dsa.DSAPrivateKey):
        return key.sign(octets, hashes.SHA256())
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(octets, padding.PKCS1v15(), hashes.SHA256())
    return raw_signature(signer, octets, method)


@cache
def weak_signers() -> dict[str, KeySigner]:
    """Certificates of keys we do not accept, each self-signed or signed by an EC key."""
    keys = {
        "rsa-1024": rsa.generate_private_key(65537, 1024),
        "rsa-2047": rsa.generate_private_key(65537, 2047),
        "rsa-exponent-3": rsa.generate_private_key(3, 2048),
        "p-224": ec.generate_private_key(ec.SECP224R1()),
        "p-521": ec.generate_private_key(ec.SECP521R1()),
        "secp256k1": ec.generate_private_key(ec.SECP256K1()),
        "brainpool-256": ec.generate_private_key(ec.BrainpoolP256R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "dsa-1024": dsa.generate_private_key(1024),
    }
    issuer = ec.generate_private_key(ec.SECP256R1())
    return {name: KeySigner(key, _certificate(key.public_key(), name, issuer)) for name, key in keys.items()}  # type: ignore[arg-type]


def _certificate(public: object, name: str, issuer: ec.EllipticCurvePrivateKey) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")]))
        .public_key(public)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2050, 1, 1, tzinfo=UTC))
    )
    return builder.sign(issuer, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _twin(own: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeySigner:
    """The same subject, issuer, serial number and dates; another key."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(own.issuer)
        .public_key(key.public_key())
        .serial_number(own.serial_number)
        .not_valid_before(own.not_valid_before_utc)
        .not_valid_after(own.not_valid_after_utc)
    )
    return KeySigner(key, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))
