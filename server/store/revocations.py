"""Lists of revoked certificates, the ends of certificates, and alarms: what people must hear of in time.

As in `enrolments.py`: plain transactions beside a running bus. An imported list changes the certificates it names when
it comes in, so that no message has to look into a list.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cryptography import x509
from sqlalchemy import Connection, Row, and_, delete, func, insert, or_, select, update

from gridpost.errors import AlreadyExists

from .keys import BY_CRL, Keys
from .tables import alarm, certificate, crl, expiry_notice


@dataclass(frozen=True, slots=True)
class Crl:
    """A list of revoked certificates, checked by whoever made or imported it.

    Attributes:
        issuer_sha256: SHA-256 of `issuer`.
        issuer: the CA's certificate, DER.
        own: the device CA's, made here.
        number: CRL number.
        this_update_utc_ms: when it was made.
        next_update_utc_ms: until when it is good.
        der: the list.
        revoked: certificate serial number -> from when on, UTC milliseconds; empty in what the store returns.
    """

    issuer_sha256: bytes
    issuer: bytes
    own: bool
    number: int
    this_update_utc_ms: int
    next_update_utc_ms: int
    der: bytes
    revoked: Mapping[int, int] = field(default_factory=dict)


class Revoked(NamedTuple):
    """A certificate of our own CA that is no longer good, for the list."""

    der: bytes
    at_utc_ms: int
    superseded: bool  # by the IED's next key; else revoked


class Ending(NamedTuple):
    """A certificate of an IED in force whose end is near or past, with the step told last (None: none yet)."""

    serial: str
    sha256: bytes
    not_after_utc_ms: int
    told_days: int | None


class Alarms(NamedTuple):
    """Alarms of one code."""

    code: str
    times: int
    last_at_utc_ms: int


class Revocations(Keys):
    """The verbs of lists, ends and alarms."""

    # --- lists ---

    def issue_crl(self, make: Callable[[int, Sequence[Revoked]], Crl]) -> Crl:
        """Have the own CA's next list made and keep it, in one transaction: two processes never make one number twice.

        Args:
            make: called with the list's number and everything of our own CA that is revoked or was replaced.
        """
        with self._change() as connection:
            newest = connection.execute(select(crl.c.number).where(crl.c.own == 1)).scalars().all()
            made = make(max(map(int, newest), default=0) + 1, _revoked_own(connection, self._clock()))
            _put(connection, made, self._clock())
            return made

    def is_crl_due(self) -> bool:
        """Tell whether the own list is missing, half over, or lacks what ended since it was made."""
        now = self._clock()
        with self._look() as connection:
            row = connection.execute(select(crl).where(crl.c.own == 1)).first()
            if row is None or now >= (row.this_update_utc_ms + row.next_update_utc_ms) // 2:
                return True
            since = (row.this_update_utc_ms + 1, now)
            own = select(certificate.c.sha256).where(certificate.c.issuer_sha256.is_(None)).limit(1)
            ends = (certificate.c.revoked_at_utc_ms, certificate.c.ends_at_utc_ms)  # each has its index
            return any(connection.execute(own.where(end.between(*since))).first() for end in ends)

    def own_crl(self) -> bytes | None:
        """Return the own CA's newest list, DER; None before the first."""
        with self._look() as connection:
            der: bytes | None = connection.execute(select(crl.c.der).where(crl.c.own == 1)).scalar()
        return der

    def import_crl(self, imported: Crl) -> list[tuple[str, bytes, bool]]:
        """Keep a foreign CA's list and apply it to that CA's keys; return (serial, digest, revoked) of each changed.

        A key that an earlier list revoked and this one no longer names is in force again: it was on hold.

        Raises:
            AlreadyExists: a list as new or newer is on file.
        """
        with self._change() as connection:
            issuer = imported.issuer_sha256
            known = connection.execute(select(crl).where(crl.c.issuer_sha256 == issuer)).one_or_none()
            if known is not None and (imported.number, imported.this_update_utc_ms) <= (
                int(known.number), known.this_update_utc_ms,
            ):  # fmt: skip
                raise AlreadyExists(f"the list {known.number} on file of that CA is as new or newer; nothing changed")
            _put(connection, imported, self._clock())
            query = select(certificate).where(certificate.c.issuer_sha256 == issuer)
            rows = connection.execute(query).all()
            return [change for row in rows for change in _applied(connection, row, imported.revoked)]

    def crls(self) -> list[Crl]:
        """Return the newest list of each CA, our own first."""
        with self._look() as connection:
            rows = connection.execute(select(crl).order_by(crl.c.own.desc(), crl.c.issuer_sha256))
            return [_crl(row) for row in rows]

    # --- ends ---

    def ending(self, before_utc_ms: int, limit: int) -> list[Ending]:
        """Return up to `limit` keys in force that end before a moment, the first to end first.

        Left out: keys that are revoked, or replaced by a newer one.
        """
        query = (
            select(certificate, expiry_notice.c.days)
            .outerjoin(expiry_notice, expiry_notice.c.sha256 == certificate.c.sha256)
            .where(certificate.c.not_after_utc_ms < before_utc_ms, *_STANDING)
            .order_by(certificate.c.not_after_utc_ms)
            .limit(limit)
        )
        with self._look() as connection:
            rows = connection.execute(query).all()
        return [Ending(row.serial, row.sha256, row.not_after_utc_ms, row.days) for row in rows]

    def untold(self, steps: Mapping[int, int], limit: int) -> list[Ending]:
        """Return keys in force that passed a step not told yet; `steps` is days -> the end that step begins before."""
        told = func.coalesce(expiry_notice.c.days, 1 << 30)
        passed = [and_(certificate.c.not_after_utc_ms < before, told > days) for days, before in steps.items()]
        query = (
            select(certificate, expiry_notice.c.days)
            .outerjoin(expiry_notice, expiry_notice.c.sha256 == certificate.c.sha256)
            .where(certificate.c.not_after_utc_ms < max(steps.values()), or_(*passed), *_STANDING)
            .order_by(certificate.c.not_after_utc_ms)
            .limit(limit)
        )
        with self._look() as connection:
            rows = connection.execute(query).all()
        return [Ending(row.serial, row.sha256, row.not_after_utc_ms, row.days) for row in rows]

    def count_ending(self, before_utc_ms: int) -> int:
        """Return how many keys in force end before a moment."""
        query = select(func.count()).where(certificate.c.not_after_utc_ms < before_utc_ms, *_STANDING)
        with self._look() as connection:
            return connection.execute(query).scalar_one()

    def told_days(self, sha256: bytes) -> int | None:
        """Return the step told last of a certificate or list; None when none was."""
        with self._look() as connection:
            query = select(expiry_notice.c.days).where(expiry_notice.c.sha256 == sha256)
            days: int | None = connection.execute(query).scalar()
        return days

    def note_told(self, told: Mapping[bytes, int]) -> None:
        """Note which step was told of each certificate or list (SHA-256 -> days)."""
        if not told:
            return
        with self._keep() as connection:
            now = self._clock()
            connection.execute(delete(expiry_notice).where(expiry_notice.c.sha256.in_(list(told))))
            rows = [{"sha256": sha256, "days": days, "told_at_utc_ms": now} for sha256, days in told.items()]
            connection.execute(insert(expiry_notice), rows)

    # --- alarms ---

    def alarms(self) -> list[Alarms]:
        """Return the alarms counted, by code."""
        with self._look() as connection:
            return [Alarms(*row) for row in connection.execute(select(alarm).order_by(alarm.c.code))]


def add_alarms(connection: Connection, counts: Mapping[str, int], at_utc_ms: int) -> None:
    """Add to the alarms counted by code; a job of the writer."""
    for code, count in sorted(counts.items()):
        known = update(alarm).where(alarm.c.code == code)
        values = {"count": alarm.c.count + count, "last_at_utc_ms": at_utc_ms}
        if not connection.execute(known.values(values)).rowcount:
            connection.execute(insert(alarm), {"code": code, "count": count, "last_at_utc_ms": at_utc_ms})


_STANDING = (certificate.c.revoked_at_utc_ms.is_(None), certificate.c.ends_at_utc_ms.is_(None))


def _revoked_own(connection: Connection, now_utc_ms: int) -> list[Revoked]:
    """Everything of our own CA that ended before its time; a list need not name what has expired (RFC 5280 3.3)."""
    own = (certificate.c.issuer_sha256.is_(None), certificate.c.not_after_utc_ms >= now_utc_ms)
    ended = or_(certificate.c.revoked_at_utc_ms.isnot(None), certificate.c.ends_at_utc_ms <= now_utc_ms)
    rows = connection.execute(select(certificate).where(*own, ended).order_by(certificate.c.sha256)).all()
    return [
        Revoked(row.der, row.ends_at_utc_ms, superseded=True)
        if row.revoked_at_utc_ms is None
        else Revoked(row.der, row.revoked_at_utc_ms, superseded=False)
        for row in rows
    ]


def _put(connection: Connection, new: Crl, now_utc_ms: int) -> None:
    connection.execute(delete(crl).where(crl.c.own == 1 if new.own else crl.c.issuer_sha256 == new.issuer_sha256))
    row = {
        "issuer_sha256": new.issuer_sha256,
        "issuer": new.issuer,
        "own": int(new.own),
        "number": str(new.number),
        "this_update_utc_ms": new.this_update_utc_ms,
        "next_update_utc_ms": new.next_update_utc_ms,
        "taken_at_utc_ms": now_utc_ms,
        "der": new.der,
    }
    connection.execute(insert(crl), row)


def _crl(row: Row[Any]) -> Crl:
    return Crl(
        bytes(row.issuer_sha256), bytes(row.issuer), bool(row.own), int(row.number), row.this_update_utc_ms,
        row.next_update_utc_ms, bytes(row.der),
    )  # fmt: skip


def _applied(connection: Connection, row: Row[Any], revoked: Mapping[int, int]) -> Collection[tuple[str, bytes, bool]]:
    at = revoked.get(x509.load_der_x509_certificate(row.der).serial_number)
    if at == row.revoked_at_utc_ms or row.revoked_by not in (None, BY_CRL):
        return ()
    values = {"revoked_at_utc_ms": at, "revoked_by": None if at is None else BY_CRL}
    connection.execute(update(certificate).where(certificate.c.sha256 == row.sha256).values(values))
    return ((row.serial, row.sha256, at is not None),)
