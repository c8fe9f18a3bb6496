"""Enrolment: which IED exists, which certificate it uses, which channels it speaks for.

Plain transactions on connections of their own, so a second process (`gridpost ied add`) may do them beside a running
bus (decision 7); each change raises `enrolment_version`, which empties the bus's cache. They never write entries.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography import x509
from sqlalchemy import Connection, Row, and_, insert, select, update
from sqlalchemy.exc import DBAPIError

from gridpost.errors import AlreadyExists, EnrolmentRefused, FileInvalid, Item, NotFound, StoreUnavailable
from gridpost.model import Channel, ChannelKey, Position, ReadingType
from gridpost.ports import Clock
from gridpost.units import seconds_of
from gridpost.wssecurity import UNREADABLE

from .channel_rules import Owned, check_set, clashes, place, same_row
from .engine import Dialect, told
from .reading import channel_of
from .tables import certificate, channel, enrolment_version, entry, ied, interval_block
from .tables_office import partner, partner_certificate


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """A certificate of an IED: one of its keys.

    Attributes:
        rights: names of `conditions.RIGHTS`; None: all.
        ends_at_utc_ms: from when on a newer key has replaced it; None while none has.
        issuer_sha256: the foreign CA behind it; None: our own.
        not_after_utc_ms: the end of its validity; 0: nobody can read the certificate.
    """

    sha256: bytes
    der: bytes
    bound_at_utc_ms: int
    revoked_at_utc_ms: int | None
    name: str = ""
    rights: tuple[str, ...] | None = None
    ends_at_utc_ms: int | None = None
    issuer_sha256: bytes | None = None
    not_after_utc_ms: int = 0


@dataclass(frozen=True, slots=True)
class IedStatus:
    """An IED as the operator sees it.

    Attributes:
        state: ``waiting`` (its code is unused), ``enrolled`` or ``revoked``.
        last_interval_end_utc: its newest interval on file; None when none. The two below are the entry behind it.
    """

    serial: str
    kind: str
    added_at_utc_ms: int
    state: str
    certificates: tuple[CertificateStatus, ...]
    channels: tuple[Channel, ...]
    last_interval_end_utc: int | None = None
    last_entry: Position | None = None
    last_recorded_at_utc_ms: int | None = None


class Enrolments:
    """The enrolment verbs."""

    def __init__(self, dialect: Dialect, clock: Clock) -> None:
        self._dialect = dialect
        self._clock = clock

    def add_ied(self, serial: str, kind: str, secret: bytes, channels: Sequence[Channel]) -> tuple[Channel, ...]:
        """Enrol an IED with the secret of its one-time code; return its channels as numbered.

        A revoked serial may be added again: it gets a new code, and equal channels on file go on. A channel that a
        revoked IED held passes to this one at its valid_from.

        Raises:
            FileInvalid: the channels are wrong or ambiguous; each finding is listed with its line.
            AlreadyExists: the serial is enrolled and not revoked, or is a partner's id; or another IED has one of the
                channels.
        """
        if items := check_set(channels):
            raise FileInvalid(f"{len(items)} finding(s) in the channels of {serial}", items=items)
        with self._change() as connection:
            self._put_ied(connection, serial, kind, secret)
            owned = owned_channels(connection, {one.key.meter for one in channels})
            for one in channels:
                put_channel(connection, serial, one, owned.get(place(one), ()))
            return _channels(connection, serial)

    def _put_ied(self, connection: Connection, serial: str, kind: str, secret: bytes) -> None:
        columns = {"kind": kind, "added_at_utc_ms": self._clock(), "secret": secret, "csr_sha256": None}
        known = connection.execute(select(ied.c.secret).where(ied.c.serial == serial)).one_or_none()
        if connection.execute(select(partner.c.id).where(partner.c.id == serial)).first() is not None:
            raise AlreadyExists(f"{serial} is a partner's id; a sender is one of both")
        if known is None:
            connection.execute(insert(ied), {"serial": serial} | columns)
        elif known.secret is None:
            connection.execute(update(ied).where(ied.c.serial == serial).values(columns))
        else:
            raise AlreadyExists(f"IED {serial} is enrolled already; revoke it first to enrol it again")

    def enrolment_secret(self, serial: str) -> bytes:
        """Return the secret of the IED's code, used or not: a device that lost the answer proves itself again.

        Raises:
            EnrolmentRefused: no such IED, or it is revoked.
        """
        with self._look() as connection:
            secret: bytes | None = connection.execute(
                select(ied.c.secret).where(ied.c.serial == serial)
            ).scalar_one_or_none()
        if secret is None:
            raise EnrolmentRefused(detail=f"{serial} is unknown or revoked")
        return secret

    def bind_certificate(self, serial: str, csr_sha256: bytes, der: bytes) -> bytes:
        """Bind the code to its first CSR and return the certificate (DER) that stands for that CSR (decision 14).

        Args:
            serial: the IED.
            csr_sha256: SHA-256 of the CSR's DER.
            der: a certificate issued for it; kept, unless the same CSR got one before.

        Raises:
            EnrolmentRefused: another CSR used the code, or the IED is unknown or revoked.
        """
        with self._change() as connection:
            row = connection.execute(select(ied).where(ied.c.serial == serial)).one_or_none()
            if row is None or row.secret is None:
                raise EnrolmentRefused(detail=f"{serial} is unknown or revoked")
            if row.csr_sha256 is not None:
                return _bound(connection, row, csr_sha256)
            connection.execute(update(ied).where(ied.c.serial == serial).values(csr_sha256=csr_sha256))
            connection.execute(insert(certificate), certificate_row(serial, der, csr_sha256, self._clock()))
            return der

    def revoke(self, serial: str, at_utc_ms: int) -> None:
        """Revoke every certificate of an IED from that moment on, and its code; its channels and readings stay.

        Raises:
            NotFound: no such IED.
        """
        with self._change() as connection:
            if not connection.execute(update(ied).where(ied.c.serial == serial).values(secret=None)).rowcount:
                raise NotFound(f"no IED {serial}")
            connection.execute(
                update(certificate)
                .where(certificate.c.serial == serial, certificate.c.revoked_at_utc_ms.is_(None))
                .values(revoked_at_utc_ms=at_utc_ms, revoked_by="operator")
            )

    def list_ieds(self) -> list[IedStatus]:
        """Return all IEDs by serial."""
        with self._look() as connection:
            return [_status(connection, row) for row in connection.execute(select(ied).order_by(ied.c.serial)).all()]

    def show_ied(self, serial: str) -> IedStatus:
        """Return one IED.

        Raises:
            NotFound: no such IED.
        """
        with self._look() as connection:
            row = connection.execute(select(ied).where(ied.c.serial == serial)).one_or_none()
            if row is None:
                raise NotFound(f"no IED {serial}")
            return _status(connection, row)

    @contextmanager
    def _change(self) -> Iterator[Connection]:
        with self._keep() as connection:
            # First: its row is what keeps two processes from changing the same IED at once.
            connection.execute(update(enrolment_version).values(version=enrolment_version.c.version + 1))
            yield connection

    @contextmanager
    def _keep(self) -> Iterator[Connection]:
        """Change what is no enrolment, so that no bus empties its cache."""
        try:
            with self._dialect.writing.begin() as connection:
                yield connection
        except DBAPIError as problem:
            raise StoreUnavailable(detail=told(problem)) from problem

    @contextmanager
    def _look(self) -> Iterator[Connection]:
        try:
            with self._dialect.reading.connect() as connection:
                yield connection
        except DBAPIError as problem:
            raise StoreUnavailable(detail=told(problem)) from problem


def certificate_row(serial: str, der: bytes, csr_sha256: bytes, now_utc_ms: int) -> dict[str, Any]:
    """Return the columns of a certificate that is bound now, with all rights."""
    return {
        "sha256": sha256(der).digest(),
        "serial": serial,
        "der": der,
        "csr_sha256": csr_sha256,
        "bound_at_utc_ms": now_utc_ms,
        "name": "",
        "not_after_utc_ms": _not_after_utc_ms(der),
    }


def holder_of(connection: Connection, digest: bytes) -> str | None:
    """Return which IED or partner has a certificate; None when nobody has."""
    theirs = select(partner_certificate.c.partner).where(partner_certificate.c.sha256 == digest)
    query = select(certificate.c.serial).where(certificate.c.sha256 == digest).union_all(theirs)
    found: str | None = connection.execute(query).scalar()
    return found


def _not_after_utc_ms(der: bytes) -> int:
    try:
        return seconds_of(x509.load_der_x509_certificate(der).not_valid_after_utc) * 1000
    except UNREADABLE:
        return 0  # no certificate; nothing verifies with it


def rights_text(rights: Collection[str] | None) -> str | None:
    """Return rights as their column's text."""
    return None if rights is None else ",".join(sorted(rights))


def rights_of(text: str | None) -> tuple[str, ...] | None:
    """Return what `rights_text` was given, sorted."""
    return None if text is None else tuple(filter(None, text.split(",")))


def _bound(connection: Connection, row: Row[Any], csr_sha256: bytes) -> bytes:
    if row.csr_sha256 != csr_sha256:
        found = f"the code of {row.serial} was used by another key"
        raise EnrolmentRefused(detail=found, items=[Item("second-key", found)])
    query = (
        select(certificate.c.der)
        .where(certificate.c.serial == row.serial, certificate.c.csr_sha256 == csr_sha256)
        .order_by(certificate.c.bound_at_utc_ms.desc())
        .limit(1)
    )
    der: bytes = connection.execute(query).scalar_one()
    return der


def owned_channels(connection: Connection, meters: Collection[str]) -> dict[ChannelKey, list[Owned]]:
    """Return the channels on file of those meters, by place."""
    query = select(channel, ied.c.secret).join(ied, ied.c.serial == channel.c.serial)
    owned: dict[ChannelKey, list[Owned]] = {}
    for row in connection.execute(query.where(channel.c.meter.in_(sorted(meters)))):
        one = Owned(row.serial, channel_of(row), row.secret is not None)
        owned.setdefault(place(one.channel), []).append(one)
    return owned


def put_channel(connection: Connection, serial: str, new: Channel, owned: Sequence[Owned]) -> None:
    """Put a channel on file unless the very same is there; `owned`: those on file at its place.

    Raises:
        AlreadyExists: another IED has it at that time.
    """
    for other in clashes(new, owned):
        if other.serial == serial and same_row(new, other.channel):
            return
        if not _passes_over(serial, new, other):
            name = "/".join(filter(None, other.channel.key))
            reason = f"channel {name} belongs to IED {other.serial} at that time"
            raise AlreadyExists(reason, items=[Item("channel-taken", reason)])
        closing = update(channel).where(channel.c.id == other.channel.id)
        connection.execute(closing.values(valid_to_utc=new.valid_from_utc))
    connection.execute(insert(channel), _channel_row(serial, new))


def _passes_over(serial: str, new: Channel, other: Owned) -> bool:
    """Tell whether a channel may end where the new one begins: its IED is out of service, or is this one itself."""
    held = other.channel
    return (other.serial == serial or not other.in_force) and (
        held.valid_to_utc is None and held.valid_from_utc < new.valid_from_utc
    )


def _channel_row(serial: str, new: Channel) -> dict[str, object]:
    return {
        "serial": serial,
        **new.key._asdict(),
        "unit": ReadingType.parse(new.key.reading_type).symbol or new.unit,
        "interval_s": new.interval_s,
        "zone": new.zone,
        "valid_from_utc": new.valid_from_utc,
        "valid_to_utc": new.valid_to_utc,
    }


def _channels(connection: Connection, serial: str) -> tuple[Channel, ...]:
    query = select(channel).where(channel.c.serial == serial).order_by(channel.c.id)
    return tuple(channel_of(row) for row in connection.execute(query))


def _status(connection: Connection, row: Row[Any]) -> IedStatus:
    query = select(certificate).where(certificate.c.serial == row.serial).order_by(certificate.c.bound_at_utc_ms)
    certificates = tuple(map(_certificate_status, connection.execute(query)))
    state = "revoked" if row.secret is None else "waiting" if row.csr_sha256 is None else "enrolled"
    channels = _channels(connection, row.serial)
    newest = max(filter(None, (_newest(connection, one) for one in channels)), default=())
    return IedStatus(row.serial, row.kind, row.added_at_utc_ms, state, certificates, channels, *newest)


def _certificate_status(row: Row[Any]) -> CertificateStatus:
    return CertificateStatus(
        row.sha256, row.der, row.bound_at_utc_ms, row.revoked_at_utc_ms, row.name, rights_of(row.rights),
        row.ends_at_utc_ms, row.issuer_sha256, row.not_after_utc_ms,
    )  # fmt: skip


def _newest(connection: Connection, one: Channel) -> tuple[int, Position, int] | None:
    """Return the channel's newest interval end and the entry behind it, by the channel's index."""
    blocks = interval_block
    query = (
        select(blocks.c.last_interval_end_utc, blocks.c.partition, blocks.c.seq, entry.c.recorded_at_utc_ms)
        .join(entry, and_(entry.c.partition == blocks.c.partition, entry.c.seq == blocks.c.seq))
        .where(blocks.c.channel_id == one.id)
        .order_by(blocks.c.first_interval_end_utc.desc(), blocks.c.last_interval_end_utc.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else (row[0], Position(row[1], row[2]), row[3])
