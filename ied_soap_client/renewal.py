"""The next key: made and saved, certified by the bus on the word of the present one, then used (docs/adr/0012).

In: a configuration and a way to the bus. Out: the new signer. The key and the request are on disk before anything is
sent, and sent again as they are after any failure, so neither a kill nor a lost answer leaves the device without a key
that the bus knows.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gridpost import enrolment, renewal, units
from gridpost.errors import AlreadyExists, AnswerUntrusted, BusUnreachable, EnrolmentRefused, FileUnwritable

from . import config as settings
from . import identity
from .push import Parties
from .transport import HttpAnswer, Transport

LOOKED_S, RESTS_S = 3600, 86_400
DAY_MS = 86_400_000


def ends_utc_ms(certificate: bytes) -> int:
    """Return the end of a DER certificate's validity."""
    return units.seconds_of(x509.load_der_x509_certificate(certificate).not_valid_after_utc) * 1000


def is_due(certificate: bytes, now_utc_ms: int, days: int) -> bool:
    """Tell whether it is time for the next key: so many days before the end, or half the validity where that is less.

    Args:
        certificate: the present one, DER.
        now_utc_ms: by the bus's clock as far as it is known.
        days: the setting; 0 is never.
    """
    loaded = x509.load_der_x509_certificate(certificate)
    first, last = units.seconds_of(loaded.not_valid_before_utc) * 1000, ends_utc_ms(certificate)
    return days > 0 and last - now_utc_ms < min(days * DAY_MS, (last - first) // 2)


async def renew(config: settings.Config, transport: Transport) -> Parties:
    """Get a certificate for the next key and put both in the place of the present ones; return who speaks then.

    Raises:
        AlreadyExists: another renewal of this device is at work.
        EnrolmentRefused: the bus does not let this key renew.
        AnswerUntrusted: no usable answer, or a certificate of another CA.
        BusUnreachable: no answer, or one that says later.
        FileUnwritable: the folder.
    """
    key, certificate = config.path(config.identity.key), config.path(config.identity.certificate)
    with _only_one(key):
        present = identity.parties(config)
        request = identity.saved_request(identity.after(key), identity.request_of(key), present.source)
        headers = {
            "Content-Type": "application/pkcs10",
            "Content-Transfer-Encoding": "base64",
            renewal.HEADER: renewal.proof_header(present.source, present.signer, request),
        }
        answer = await transport.post(f"{identity.EST}/simplereenroll", base64.encodebytes(request), headers)
        _accepted(answer)
        ca = x509.load_der_x509_certificate(present.ca)
        next_one = identity.own(enrolment.certificates(answer.content), request, ca)
        identity.write(identity.after(certificate), next_one.public_bytes(serialization.Encoding.PEM))
        return identity.parties(config)


def _accepted(answer: HttpAnswer) -> None:
    if answer.status == EnrolmentRefused.http_status:
        said = answer.content[:200].decode("ascii", "replace").strip()
        raise EnrolmentRefused(f"the bus does not renew this key: {said}")
    if answer.status >= 500:
        raise BusUnreachable(f"the bus cannot renew now (HTTP {answer.status})")
    if answer.status != 200:
        raise AnswerUntrusted(f"the bus answers a renewal with HTTP {answer.status}")


@contextlib.contextmanager
def _only_one(key: Path) -> Iterator[None]:
    """Two at once would overwrite each other's next key. The lock dies with its process."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    try:
        descriptor = os.open(key.with_name(f"{key.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise FileUnwritable(f"{key.parent} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise AlreadyExists("another renewal of this device is at work") from None
    finally:
        os.close(descriptor)
