"""The next key of a device: how it proves to the bus that a certification request is its own (docs/adr/0012).

Floor 4. EST's simplereenroll (RFC 7030 section 4.2.2) with one header beside the request: the present key signs the
request. So it works alike over plain HTTP, behind a proxy that ends TLS, and from a key that lives in a chip. Whoever
makes keys, and who may renew when, are a ring's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import NamedTuple

from . import wssecurity
from .errors import EnrolmentRefused, SignatureInvalid
from .ports import Signer

HEADER = "Gridpost-Renewal"
# Signed before the request: nothing else that such a key ever signs begins like this.
_PURPOSE = b"gridpost renewal 1\n"
_CLAIM = re.compile(r"([A-Za-z0-9][A-Za-z0-9_/-]{0,63}):([0-9a-f]{64}):([A-Za-z0-9_-]{1,2000})\Z")


class Claim(NamedTuple):
    """What the header says; nothing is proven by it before `check`."""

    serial: str
    certificate_sha256: bytes
    signature: bytes


def proof_header(serial: str, signer: Signer, request: bytes) -> str:
    """Return the header's value for a certification request (DER), signed by the present key.

    Raises:
        SignerUnavailable: the key cannot be used now.
    """
    digest = hashlib.sha256(signer.certificate).hexdigest()
    value = base64.urlsafe_b64encode(signer.sign(_PURPOSE + request)).decode().rstrip("=")
    return f"{serial}:{digest}:{value}"


def parse(header: str) -> Claim:
    """Read the header.

    Raises:
        EnrolmentRefused: it has another form.
    """
    found = _CLAIM.match(header)
    if found is None:
        raise EnrolmentRefused(detail="the renewal's proof has another form")
    try:
        signature = base64.b64decode(found[3] + "=" * (-len(found[3]) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise EnrolmentRefused(detail="the renewal's proof is no base64url") from None
    return Claim(found[1], bytes.fromhex(found[2]), signature)


def check(claim: Claim, certificate: bytes, request: bytes) -> None:
    """Hold a claim's signature against the enrolled certificate (DER) it names, before the request is parsed.

    Raises:
        EnrolmentRefused: it does not fit.
    """
    try:
        algorithm = wssecurity.own_algorithm(wssecurity.public_key(certificate))
        wssecurity.check_value(certificate, algorithm, claim.signature, _PURPOSE + request)
    except SignatureInvalid as error:
        raise EnrolmentRefused(detail=f"the renewal's proof: {error.detail}") from None
