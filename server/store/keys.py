"""The keys of an IED: several, each with rights of its own; the next one of a key; what else its messages must satisfy.

As in `enrolments.py`: plain transactions on connections of their own, beside a running bus. A certificate is never
deleted, because receipts name what it signed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, insert, select, update

from gridpost.errors import AlreadyExists, EnrolmentRefused, Item, NotFound

from .enrolments import Enrolments, certificate_row, holder_of, rights_text
from .tables import certificate, ied

OPERATOR, BY_CRL = "operator", "crl"


class NewKey(NamedTuple):
    """A certificate that becomes one of an IED's keys.

    Attributes:
        der: the certificate.
        name: what people call it; may be empty.
        rights: names of `conditions.RIGHTS`; None: all.
        issuer_sha256: the foreign CA behind it; None: our own.
        revoked_at_utc_ms: where that CA's list says so already.
    """

    der: bytes
    name: str = ""
    rights: Collection[str] | None = None
    issuer_sha256: bytes | None = None
    revoked_at_utc_ms: int | None = None


class Renewal(NamedTuple):
    """What a key asks for its successor.

    Attributes:
        old_sha256: of the certificate whose key proved the request.
        csr_sha256: of the request.
        der: a certificate issued for it; kept, unless the same request got one before.
        overlap_ms: how long the old key goes on beside the new one.
    """

    old_sha256: bytes
    csr_sha256: bytes
    der: bytes
    overlap_ms: int


class Keys(Enrolments):
    """The verbs of keys and factors."""

    def add_key(self, serial: str, key: NewKey) -> bytes:
        """Give an IED a further key, beside those it has; return the digest it is known by.

        Raises:
            NotFound: no such IED, or it is revoked.
            AlreadyExists: the certificate is some IED's or partner's already.
        """
        with self._change() as connection:
            _in_force(connection, serial)
            row = certificate_row(serial, key.der, b"", self._clock()) | {
                "name": key.name,
                "rights": rights_text(key.rights),
                "issuer_sha256": key.issuer_sha256,
                "revoked_at_utc_ms": key.revoked_at_utc_ms,
                "revoked_by": None if key.revoked_at_utc_ms is None else BY_CRL,
            }
            digest: bytes = row["sha256"]
            if holder := holder_of(connection, digest):
                raise AlreadyExists(f"that certificate is a key of {holder} already")
            connection.execute(insert(certificate), row)
            return digest

    def set_rights(self, serial: str, sha256: bytes, rights: Collection[str] | None) -> None:
        """Give a key other rights; None: all.

        Raises:
            NotFound: the IED has no such key.
        """
        self._set_key(serial, sha256, {"rights": rights_text(rights)})

    def revoke_key(self, serial: str, sha256: bytes, at_utc_ms: int) -> None:
        """Revoke one key from that moment on; a revocation that stands is kept.

        Raises:
            NotFound: the IED has no such key.
        """
        with self._change() as connection:
            row = _key(connection, serial, sha256)
            if row.revoked_at_utc_ms is None or row.revoked_by == BY_CRL:
                at = at_utc_ms if row.revoked_at_utc_ms is None else row.revoked_at_utc_ms
                values = {"revoked_at_utc_ms": at, "revoked_by": OPERATOR}
                connection.execute(update(certificate).where(certificate.c.sha256 == sha256).values(values))

    def _set_key(self, serial: str, sha256: bytes, values: Mapping[str, object]) -> None:
        with self._change() as connection:
            _key(connection, serial, sha256)
            connection.execute(update(certificate).where(certificate.c.sha256 == sha256).values(values))

    def renewed(self, serial: str, csr_sha256: bytes) -> bytes | None:
        """Return the certificate (DER) a request got before, while it is not revoked; None when there is none."""
        with self._look() as connection:
            der: bytes | None = connection.execute(
                select(certificate.c.der).where(
                    certificate.c.serial == serial,
                    certificate.c.csr_sha256 == csr_sha256,
                    certificate.c.revoked_at_utc_ms.is_(None),
                )
            ).scalar()
        return der

    def renew(self, serial: str, renewal: Renewal) -> bytes:
        """Bind the successor of a key and return the certificate (DER) that stands for the request.

        The successor has the old key's name and rights. The old key ends after the overlap, or with its certificate.

        Raises:
            EnrolmentRefused: the key is no longer the IED's, or has another successor.
        """
        if (known := self.renewed(serial, renewal.csr_sha256)) is not None:
            return known
        now = self._clock()
        with self._change() as connection:
            row = connection.execute(
                select(certificate).where(certificate.c.serial == serial, certificate.c.sha256 == renewal.old_sha256)
            ).one_or_none()
            if row is None or row.revoked_at_utc_ms is not None:
                raise EnrolmentRefused(detail=f"the key is not {serial}'s, or revoked")
            if row.ends_at_utc_ms is not None:
                return _successor(connection, row, renewal)
            new = certificate_row(serial, renewal.der, renewal.csr_sha256, now)
            connection.execute(insert(certificate), new | {"name": row.name, "rights": row.rights})
            ends = update(certificate).where(certificate.c.sha256 == renewal.old_sha256)
            connection.execute(ends.values(ends_at_utc_ms=min(now + renewal.overlap_ms, row.not_after_utc_ms)))
            return renewal.der

    def set_factor(self, serial: str, name: str, value: str | None) -> None:
        """Set an authentication factor of an IED, or take it away with None.

        Raises:
            NotFound: no such IED; or it has no such factor to take away.
        """
        with self._change() as connection:
            factors = _factors(connection, serial)
            if value is None and name not in factors:
                raise NotFound(f"IED {serial} has no factor {name}")
            factors = {key: text for key, text in factors.items() if key != name}
            if value is not None:
                factors[name] = value
            text = json.dumps(dict(sorted(factors.items()))) if factors else None
            connection.execute(update(ied).where(ied.c.serial == serial).values(factors=text))

    def factors(self, serial: str) -> dict[str, str]:
        """Return an IED's authentication factors, name -> value.

        Raises:
            NotFound: no such IED.
        """
        with self._look() as connection:
            return _factors(connection, serial)


def _in_force(connection: Connection, serial: str) -> None:
    row = connection.execute(select(ied.c.secret).where(ied.c.serial == serial)).one_or_none()
    if row is None or row.secret is None:
        raise NotFound(f"no IED {serial}, or it is revoked")


def _key(connection: Connection, serial: str, sha256: bytes) -> Row[Any]:
    query = select(certificate).where(certificate.c.serial == serial, certificate.c.sha256 == sha256)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"IED {serial} has no key {sha256.hex()[:16]}")
    return row


def _successor(connection: Connection, row: Row[Any], renewal: Renewal) -> bytes:
    """Two at once with one request: the first one's certificate stands; another request is somebody else's."""
    query = select(certificate.c.der).where(
        certificate.c.serial == row.serial,
        certificate.c.csr_sha256 == renewal.csr_sha256,
        certificate.c.revoked_at_utc_ms.is_(None),
    )
    der: bytes | None = connection.execute(query).scalar()
    if der is None:
        found = f"key {renewal.old_sha256.hex()[:16]} of {row.serial} was replaced before"
        raise EnrolmentRefused(detail=found, items=[Item("second-key", found)])
    return der


def _factors(connection: Connection, serial: str) -> dict[str, str]:
    row = connection.execute(select(ied.c.factors).where(ied.c.serial == serial)).one_or_none()
    if row is None:
        raise NotFound(f"no IED {serial}")
    found: dict[str, str] = json.loads(row.factors) if row.factors else {}
    return found
