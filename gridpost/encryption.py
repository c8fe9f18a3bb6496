"""One octet string for several readers: XML Encryption 1.1 of one fixed shape, written, read and opened.

Floor 2. In: octets, the readers' public keys and the secrets to use; or an ``xenc:EncryptedData`` and one private key.
Out: the element in exclusive canonical form; or the octets, or one error for every cause. Keys, nonces and ephemeral
keys are arguments; only the seed of RSA-OAEP is drawn by the library that does it. No other algorithm and no other
shape is read: what is not in the tables below is refused, never tried.

The content is sealed by AES-256-GCM (XML Encryption 1.1 section 5.2.4: nonce, ciphertext, tag) under a key of its own,
and that key stands wrapped for each reader: for RSA by OAEP with SHA-256 and MGF1-SHA-256 (section 5.5.2), for P-256
by ECDH-ES with an ephemeral key, ConcatKDF with SHA-256 and AES-256 key wrap (sections 5.6.4, 5.4.1, 5.7.2). The tag
says nothing of who wrote it: every reader holds the content key. Who wrote it is the signature's to say.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from . import ns, schemas
from .encoding import attribute
from .envelope import Element, base64_octets
from .errors import ConfigInvalid, EnvelopeShape, Item, NotDecryptable, SchemaInvalid

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

KEY_OCTETS, NONCE_OCTETS, TAG_OCTETS = 32, 12, 16
WRAPPED_OCTETS = KEY_OCTETS + 8  # RFC 3394
POINT_OCTETS = 65  # uncompressed, P-256
MOST_READERS = 16
LARGEST_INFO = 1024  # octets of OtherInfo
RSA_BITS = range(2048, 8193)
_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
_CURVE = "urn:oid:1.2.840.10045.3.1.7"  # P-256, RFC 5480 section 2.1.1.1
_INFO = ("AlgorithmID", "PartyUInfo", "PartyVInfo")  # of ConcatKDF, in the order they are put together

_X, _X11, _DS, _DS11 = (f"{{{space}}}" for space in (ns.XENC, ns.XENC11, ns.DS, ns.DS11))


class Reader(NamedTuple):
    """Somebody who shall be able to read: a name for people (may be empty), and a key."""

    name: str
    key: PublicKey


class Secrets(NamedTuple):
    """What sealing one content needs of chance; never used twice.

    Attributes:
        content_key: 32 octets.
        nonce: 12 octets.
        ephemeral: a fresh P-256 key, for the readers with keys of that kind.
    """

    content_key: bytes
    nonce: bytes
    ephemeral: ec.EllipticCurvePrivateKey


class WrappedKey(NamedTuple):
    """The content key as one reader gets it. `point` and `info` are empty for RSA."""

    key_name: str
    octets: bytes
    point: bytes = b""
    info: bytes = b""


class Encrypted(NamedTuple):
    """An EncryptedData as read: nonce, ciphertext and tag, and the wrapped keys."""

    octets: bytes
    keys: tuple[WrappedKey, ...]

    def is_for(self, key: PublicKey) -> bool:
        """Tell whether a key is wrapped for this reader; anybody may see that."""
        name = key_name(key)
        return any(wrapped.key_name == name for wrapped in self.keys)


def key_name(key: PublicKey) -> str:
    """Return what names a reader's key on the wire: ``sha256:`` and the hex SHA-256 of its SubjectPublicKeyInfo."""
    octets = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(octets).hexdigest()}"


def reader(name: str, pem: bytes) -> Reader:
    """Return a reader from the PEM of a certificate or of a public key.

    Raises:
        ConfigInvalid: not readable, or neither RSA of 2048 to 8192 bits nor P-256.
    """
    try:
        if b"BEGIN CERTIFICATE" in pem:
            key: object = x509.load_pem_x509_certificate(pem).public_key()
        else:
            key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, x509.InvalidVersion) as error:
        raise ConfigInvalid(f"{name or 'the reader'}: no certificate or public key in PEM: {error}") from None
    if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) and _is_accepted(key):
        return Reader(name, key)
    raise ConfigInvalid(f"{name or 'the reader'}: the key is neither RSA of 2048 to 8192 bits nor P-256")


def private_key(pem: bytes) -> PrivateKey:
    """Return a reader's private key from PEM, not encrypted.

    Raises:
        ConfigInvalid: not readable, or of another kind.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:  # TypeError: the key is encrypted
        raise ConfigInvalid(f"no private key in PEM: {error}") from None
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) and _is_accepted(key.public_key()):
        return key
    raise ConfigInvalid("the key is neither RSA of 2048 to 8192 bits nor P-256")


def _is_accepted(key: PublicKey) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size in RSA_BITS
    return key.curve.name == "secp256r1"


# --- sealing ---------------------------------------------------------------------------------------------------------


def encrypt(content: bytes, readers: Sequence[Reader], secrets: Secrets) -> str:
    """Return an EncryptedData (Type Element) of `content`, readable by each of `readers`.

    Args:
        content: one XML element, UTF-8.
        readers: 1 to 16, no key twice.
        secrets: fresh.

    Raises:
        ConfigInvalid: no reader, too many, or one key twice.
    """
    if not 1 <= len(readers) <= MOST_READERS:
        raise ConfigInvalid(f"{len(readers)} readers; a part has 1 to {MOST_READERS}")
    if len({key_name(reader.key) for reader in readers}) < len(readers):
        raise ConfigInvalid("one key is given for two readers of a part")
    sealed = secrets.nonce + AESGCM(secrets.content_key).encrypt(secrets.nonce, content, None)
    keys = "".join(_encrypted_key(reader, secrets) for reader in readers)
    return (
        f'<EncryptedData xmlns="{ns.XENC}" Type="{ns.XENC}Element">'
        f'<EncryptionMethod Algorithm="{ns.AES256_GCM}"></EncryptionMethod>'
        f'<KeyInfo xmlns="{ns.DS}">{keys}</KeyInfo>{_cipher_data(sealed)}</EncryptedData>'
    )


def _encrypted_key(reader: Reader, secrets: Secrets) -> str:
    if isinstance(reader.key, rsa.RSAPublicKey):
        method, key_info = _for_rsa(reader.key)
        octets = reader.key.encrypt(secrets.content_key, _OAEP)
    else:
        method, key_info = _for_p256(reader.key, secrets.ephemeral.public_key())
        info = b"".join(_party_info(secrets.ephemeral.public_key(), reader.key))
        octets = aes_key_wrap(_agreed(secrets.ephemeral, reader.key, info), secrets.content_key)
    recipient = f' Recipient="{attribute(reader.name)}"' if reader.name else ""
    return (
        f'<EncryptedKey xmlns="{ns.XENC}"{recipient}>{method}<KeyInfo xmlns="{ns.DS}">{key_info}</KeyInfo>'
        f"{_cipher_data(octets)}</EncryptedKey>"
    )


def _for_rsa(key: PublicKey) -> tuple[str, str]:
    method = (
        f'<EncryptionMethod Algorithm="{ns.RSA_OAEP}"><DigestMethod xmlns="{ns.DS}" Algorithm="{ns.SHA256}">'
        f'</DigestMethod><MGF xmlns="{ns.XENC11}" Algorithm="{ns.MGF1_SHA256}"></MGF></EncryptionMethod>'
    )
    return method, f"<KeyName>{key_name(key)}</KeyName>"


def _for_p256(key: PublicKey, ephemeral: ec.EllipticCurvePublicKey) -> tuple[str, str]:
    named = zip(_INFO, _party_info(ephemeral, key), strict=True)
    info = "".join(f' {name}="00{octets.hex()}"' for name, octets in named)  # 00: no bits of padding
    # The originator's KeyName stands before its value for toolkits that take no key by value unless told to.
    agreement = (
        f'<AgreementMethod xmlns="{ns.XENC}" Algorithm="{ns.ECDH_ES}">'
        f'<KeyDerivationMethod xmlns="{ns.XENC11}" Algorithm="{ns.CONCAT_KDF}"><ConcatKDFParams{info}>'
        f'<DigestMethod xmlns="{ns.DS}" Algorithm="{ns.SHA256}"></DigestMethod></ConcatKDFParams></KeyDerivationMethod>'
        f'<OriginatorKeyInfo><KeyName xmlns="{ns.DS}">{key_name(ephemeral)}</KeyName><KeyValue xmlns="{ns.DS}">'
        f'<ECKeyValue xmlns="{ns.DS11}"><NamedCurve URI="{_CURVE}"></NamedCurve>'
        f"<PublicKey>{_base64(_point(ephemeral))}</PublicKey></ECKeyValue></KeyValue></OriginatorKeyInfo>"
        f'<RecipientKeyInfo><KeyName xmlns="{ns.DS}">{key_name(key)}</KeyName></RecipientKeyInfo></AgreementMethod>'
    )
    return f'<EncryptionMethod Algorithm="{ns.KW_AES256}"></EncryptionMethod>', agreement


def _party_info(ephemeral: PublicKey, key: PublicKey) -> tuple[bytes, bytes, bytes]:
    """What the wrapping key is bound to (NIST SP 800-56A section 5.8.1): its use, who sends, who receives."""
    return ns.KW_AES256.encode(), key_name(ephemeral).encode(), key_name(key).encode()


def _agreed(mine: ec.EllipticCurvePrivateKey, theirs: ec.EllipticCurvePublicKey, info: bytes) -> bytes:
    return ConcatKDFHash(hashes.SHA256(), KEY_OCTETS, info).derive(mine.exchange(ec.ECDH(), theirs))


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def _cipher_data(octets: bytes) -> str:
    return f"<CipherData><CipherValue>{_base64(octets)}</CipherValue></CipherData>"


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


# --- reading ---------------------------------------------------------------------------------------------------------


def read(element: Element) -> Encrypted:
    """Read an EncryptedData of the one shape; nothing secret is needed, nothing is deciphered.

    Raises:
        SchemaInvalid: another element, another algorithm, more than 16 readers, or octets of a wrong length.
    """
    _require(element.tag == f"{_X}EncryptedData" and element.get("Type") == f"{ns.XENC}Element", element)
    method, key_info, cipher_data = _children(element, f"{_X}EncryptionMethod", f"{_DS}KeyInfo", f"{_X}CipherData")
    _algorithm(method, ns.AES256_GCM)
    _children(method)
    octets = _octets(cipher_data)
    _require(len(octets) >= NONCE_OCTETS + TAG_OCTETS, cipher_data)
    _require(1 <= len(key_info) <= MOST_READERS, key_info)
    keys = tuple(map(_read_key, key_info))
    _require(len({key.key_name for key in keys}) == len(keys), key_info)
    return Encrypted(octets, keys)


def _read_key(element: Element) -> WrappedKey:
    _require(element.tag == f"{_X}EncryptedKey", element)
    method, key_info, cipher_data = _children(element, f"{_X}EncryptionMethod", f"{_DS}KeyInfo", f"{_X}CipherData")
    octets = _octets(cipher_data)
    if method.get("Algorithm") == ns.RSA_OAEP:
        digest, mgf = _children(method, f"{_DS}DigestMethod", f"{_X11}MGF")
        _algorithm(digest, ns.SHA256)
        _algorithm(mgf, ns.MGF1_SHA256)
        (name,) = _children(key_info, f"{_DS}KeyName")
        _require(len(octets) <= RSA_BITS[-1] // 8, cipher_data)
        return WrappedKey(_text(name), octets)
    _algorithm(method, ns.KW_AES256)
    _children(method)
    _require(len(octets) == WRAPPED_OCTETS, cipher_data)
    name, point, info = _read_agreement(*_children(key_info, f"{_X}AgreementMethod"))
    return WrappedKey(name, octets, point, info)


def _read_agreement(agreement: Element) -> tuple[str, bytes, bytes]:
    _algorithm(agreement, ns.ECDH_ES)
    names = (f"{_X11}KeyDerivationMethod", f"{_X}OriginatorKeyInfo", f"{_X}RecipientKeyInfo")
    derivation, originator, recipient = _children(agreement, *names)
    _algorithm(derivation, ns.CONCAT_KDF)
    (parameters,) = _children(derivation, f"{_X11}ConcatKDFParams")
    (digest,) = _children(parameters, f"{_DS}DigestMethod")
    _algorithm(digest, ns.SHA256)
    *_, value = _children(originator, *[f"{_DS}KeyName"][: len(originator) - 1], f"{_DS}KeyValue")
    (key_value,) = _children(value, f"{_DS11}ECKeyValue")
    curve, point = _children(key_value, f"{_DS11}NamedCurve", f"{_DS11}PublicKey")
    _require(curve.get("URI") == _CURVE, curve)
    octets = _octets_of(point)
    _require(len(octets) == POINT_OCTETS, point)
    (name,) = _children(recipient, f"{_DS}KeyName")
    return _text(name), octets, _other_info(parameters)


def _other_info(parameters: Element) -> bytes:
    """Put OtherInfo together: each attribute is a bit string whose first octet says how many bits of padding it has."""
    _require(set(parameters.attrib) <= set(_INFO), parameters)
    texts = [parameters.get(name, "00") for name in _INFO]
    _require(all(text.startswith("00") and text.isascii() for text in texts), parameters)
    try:
        info = b"".join(bytes.fromhex(text[2:]) for text in texts)
    except ValueError:
        info = bytes(LARGEST_INFO + 1)
    _require(len(info) <= LARGEST_INFO, parameters)
    return info


def _octets(cipher_data: Element) -> bytes:
    (value,) = _children(cipher_data, f"{_X}CipherValue")
    return _octets_of(value)


def _octets_of(element: Element) -> bytes:
    try:
        return base64_octets(element.text)
    except EnvelopeShape:
        raise _refusal(element) from None


def _text(element: Element) -> str:
    return (element.text or "").strip()


def _algorithm(element: Element, expected: str) -> None:
    _require(element.get("Algorithm") == expected, element, f"the algorithm is not {expected}")


def _children(parent: Element, *names: str) -> list[Element]:
    children = list(parent)
    _require([child.tag for child in children] == list(names), parent)
    return children


def _require(condition: bool, element: Element, reason: str = "") -> None:
    if not condition:
        raise _refusal(element, reason)


def _refusal(element: Element, reason: str = "") -> SchemaInvalid:
    reason = reason or "not the one shape of XML Encryption that is read here"
    return SchemaInvalid(reason, items=[Item(SchemaInvalid.code, reason, schemas.path_of(element))])


# --- opening ---------------------------------------------------------------------------------------------------------


def decrypt(encrypted: Encrypted, key: PrivateKey) -> bytes:
    """Return the content, if it was sealed for this key and is as it was.

    Who wrote it is not known by this: verify the signature around it first.

    Raises:
        NotDecryptable: for every cause alike.
    """
    name = key_name(key.public_key())
    wrapped = next((one for one in encrypted.keys if one.key_name == name), None)
    nonce, sealed = encrypted.octets[:NONCE_OCTETS], encrypted.octets[NONCE_OCTETS:]
    try:
        return AESGCM(_unwrapped(wrapped, key)).decrypt(nonce, sealed, None)
    except (ValueError, TypeError, InvalidUnwrap, InvalidTag):
        raise NotDecryptable() from None


def _unwrapped(wrapped: WrappedKey | None, key: PrivateKey) -> bytes:
    if wrapped is None:
        raise ValueError
    if isinstance(key, rsa.RSAPrivateKey):
        content_key = key.decrypt(wrapped.octets, _OAEP)
    else:
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), wrapped.point)
        content_key = aes_key_unwrap(_agreed(key, point, wrapped.info), wrapped.octets)
    if len(content_key) != KEY_OCTETS:  # AES-128 would be another algorithm than the one stated
        raise ValueError
    return content_key
