"""The enrolment code: how a device and a bus that never met come to trust each other (decision 14).

Floor 2. The code holds a secret of 80 bits and the fingerprint of the device CA. The device checks the CA by the
fingerprint and proves the secret by an HMAC over its certification request; the secret is never sent. EST (RFC 7030)
gives the messages: PKCS#10 in, certs-only PKCS#7 out, both base64. Whoever makes secrets or keys is a ring.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7

from .errors import AnswerUntrusted, ConfigInvalid, EnrolmentRefused

HEADER = "Gridpost-Enrolment"
SECRET_OCTETS = 10
FINGERPRINT_OCTETS = 16
# A serial becomes Source, a certificate's CN and part of the code: printable, no blank, no separator of ours.
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_/-]{0,63}\Z")
_BASE32_LENGTH = 42


class Code(NamedTuple):
    """What `gridpost ied add` prints: ``SERIAL.BASE32``."""

    serial: str
    secret: bytes
    ca_fingerprint: bytes  # first 16 octets of SHA-256 of the CA's DER


def check_serial(serial: str) -> str:
    """Return `serial` if it can name an IED.

    Raises:
        ConfigInvalid: not 1 to 64 letters, digits, ``_``, ``/`` or ``-``, beginning with a letter or digit.
    """
    if not _SERIAL.match(serial):
        raise ConfigInvalid(f"{serial!r} is no serial: 1 to 64 letters, digits, _, / or -, no sign first")
    return serial


def make_code(serial: str, secret: bytes, ca: bytes) -> str:
    """Return the code text of an IED; base32 of the secret and the CA's fingerprint behind the serial.

    Args:
        serial: the IED's id, checked.
        secret: 10 random octets.
        ca: the device CA's certificate, DER.
    """
    octets = secret + hashlib.sha256(ca).digest()[:FINGERPRINT_OCTETS]
    return f"{serial}.{base64.b32encode(octets).decode().rstrip('=')}"


def parse_code(text: str) -> Code:
    """Read a code; case, blanks and hyphens inside the base32 part do not matter, people type it.

    Raises:
        ConfigInvalid: not a code.
    """
    serial, _, coded = text.strip().rpartition(".")
    coded = coded.replace("-", "").replace(" ", "").upper()
    try:
        octets = base64.b32decode(coded + "=" * (-len(coded) % 8)) if len(coded) == _BASE32_LENGTH else b""
    except ValueError:  # binascii.Error is one; so is a letter outside ASCII
        octets = b""
    if len(octets) != SECRET_OCTETS + FINGERPRINT_OCTETS:
        raise ConfigInvalid("the enrolment code is mistyped: expected SERIAL.XXXX… as 'gridpost ied add' printed it")
    return Code(check_serial(serial), octets[:SECRET_OCTETS], octets[SECRET_OCTETS:])


def trusts(code: Code, ca: bytes) -> bool:
    """Tell whether a CA certificate (DER) is the one the code names."""
    return hmac.compare_digest(hashlib.sha256(ca).digest()[:FINGERPRINT_OCTETS], code.ca_fingerprint)


def proof_header(serial: str, secret: bytes, request: bytes) -> str:
    """Return the value of the header Gridpost-Enrolment for a certification request (DER)."""
    proof = hmac.digest(secret, request, "sha256")
    return f"{serial}:{base64.urlsafe_b64encode(proof).decode().rstrip('=')}"


def serial_of(header: str) -> str:
    """Return the serial a header claims, for the look-up of its secret; nothing is proven by it."""
    return header.rpartition(":")[0]


def check_proof(header: str, secret: bytes, request: bytes) -> None:
    """Hold a header against the secret and the request, in constant time, before the request is parsed.

    Raises:
        EnrolmentRefused: it does not match.
    """
    expected = proof_header(serial_of(header), secret, request)
    if not hmac.compare_digest(expected.encode(errors="replace"), header.encode(errors="replace")):
        raise EnrolmentRefused(detail="proof does not match")


def certs_only(certificates: Sequence[bytes]) -> bytes:
    """Return DER certificates as EST answers: base64 of a certs-only PKCS#7 (RFC 7030 section 4.1.3)."""
    loaded = [x509.load_der_x509_certificate(certificate) for certificate in certificates]
    return base64.encodebytes(pkcs7.serialize_certificates(loaded, serialization.Encoding.DER))


def certificates(body: bytes) -> tuple[bytes, ...]:
    """Read an EST answer back into DER certificates.

    Raises:
        AnswerUntrusted: not a certs-only PKCS#7 in base64.
    """
    try:
        loaded = pkcs7.load_der_pkcs7_certificates(base64.b64decode(b"".join(body.split()), validate=True))
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise AnswerUntrusted("the bus's enrolment answer is no PKCS#7 of certificates") from None
    return tuple(certificate.public_bytes(serialization.Encoding.DER) for certificate in loaded)
