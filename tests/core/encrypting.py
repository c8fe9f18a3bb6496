"""Keys of readers, and the other side of XML Encryption: libxmlsec1, by python-xmlsec."""

from __future__ import annotations

import base64

import xmlsec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lxml import etree

from gridpost import encryption, ns
from gridpost.encryption import PrivateKey, Reader, Secrets

UTILITY = ec.derive_private_key(0x1234567890ABCDEF, ec.SECP256R1())
AUDITOR = ec.derive_private_key(0x3333333333333333, ec.SECP256R1())
STRANGER = ec.derive_private_key(0x7777777777777777, ec.SECP256R1())
EPHEMERAL = ec.derive_private_key(0x5555555555555555, ec.SECP256R1())
CUSTOMER = rsa.generate_private_key(65537, 2048)
SECRETS = Secrets(bytes(range(32)), bytes(range(100, 112)), EPHEMERAL)
X, DS, DS11 = (f"{{{space}}}" for space in (ns.XENC, ns.DS, ns.DS11))


def secrets(number: int) -> Secrets:
    """Other secrets for each number: equal ones in two parts would hide a part put in another's place."""
    ephemeral = ec.derive_private_key(0x5555 + number, ec.SECP256R1())
    return Secrets(bytes([number]) * 32, bytes([number]) * 12, ephemeral)


def reader(key: PrivateKey, name: str = "") -> Reader:
    return Reader(name, key.public_key())


def pem_of(key: PrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def public_pem_of(key: PrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def _named(key: PrivateKey, pem: bytes) -> xmlsec.Key:
    loaded = xmlsec.Key.from_memory(pem, xmlsec.KeyFormat.PEM)
    loaded.name = encryption.key_name(key.public_key())
    return loaded


def opened_by_xmlsec(data: etree._Element, key: PrivateKey) -> etree._Element:
    """Have libxmlsec1 put what it deciphers in the place of an EncryptedData; return that.

    Its 1.3 takes no originator's key by value unless its program is told to, which python-xmlsec cannot do: so the
    originator's key in the message is given to it by its name.
    """
    manager = xmlsec.KeysManager()
    manager.add_key(_named(key, pem_of(key)))
    for point in data.iter(f"{DS11}PublicKey"):
        octets = base64.b64decode(point.text)
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), octets)
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        loaded = xmlsec.Key.from_memory(public.public_bytes(serialization.Encoding.PEM, form), xmlsec.KeyFormat.PEM)
        loaded.name = encryption.key_name(public)
        manager.add_key(loaded)
    return xmlsec.EncryptionContext(manager).decrypt(data)


def sealed_by_xmlsec(content: bytes, readers: list[PrivateKey]) -> etree._Element:
    """An EncryptedData whose content key, nonce, tag and wrapped keys libxmlsec1 made."""
    layout = encryption.encrypt(b"<x/>", [reader(key) for key in readers], SECRETS)
    root = etree.fromstring(f"<root>{layout}</root>")
    by_value = [(value, value[0]) for value in root.iter(f"{DS}KeyValue")]
    for value, child in by_value:
        value.remove(child)
    for value in root.iter(f"{X}CipherValue"):
        value.text = None
    manager = xmlsec.KeysManager()
    for key in readers:
        manager.add_key(_named(key, public_pem_of(key)))
    manager.add_key(_named(EPHEMERAL, pem_of(EPHEMERAL)))
    context = xmlsec.EncryptionContext(manager)
    context.key = xmlsec.Key.generate(xmlsec.constants.KeyDataAes, 256, xmlsec.constants.KeyDataTypeSession)
    sealed = context.encrypt_binary(root[0], content)
    for value, child in by_value:
        value.append(child)
    return sealed
