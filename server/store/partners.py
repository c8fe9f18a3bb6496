"""Offices: who they are, how they prove it, what they may see; and which tenants and groups the IEDs are in.

As in `enrolments.py`: plain transactions on connections of their own, beside a running bus. A certificate belongs to
one IED or one partner for ever, and a partner's id is never an IED's serial, so a sender is never two. A grant holds
only while its usage point is in the partner's tenant: that is asked at every look, not only when it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import sha256 as sha256_of
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, and_, delete, func, insert, or_, select, update

from gridpost.controls import Role
from gridpost.errors import AlreadyExists, ConfigInvalid, GrantRefused, NotFound
from gridpost.model import Channel
from gridpost.partners import KINDS, Grant, Partner, Ways

from .enrolments import Enrolments, holder_of
from .reading import channel_of
from .tables import channel, ied
from .tables_office import ied_group, ied_tenant, partner, partner_certificate, partner_grant

SIGNATURE, TLS = "signature", "tls"

_CHUNK = 500
_grant = partner_grant.c
_KEYS = select(partner_certificate, partner).join_from(partner_certificate, partner)
# A grant with a channel of its usage point, where the channel's IED is in the partner's tenant.
_EFFECTIVE = (
    partner_grant.join(partner, partner.c.id == _grant.partner)
    .join(channel, channel.c.usage_point == _grant.usage_point)
    .join(ied_tenant, and_(ied_tenant.c.serial == channel.c.serial, ied_tenant.c.tenant == partner.c.tenant))
)
_GRANT_ORDER = (_grant.usage_point, _grant.kind, _grant.from_utc)


class PartnerKey(NamedTuple):
    """A certificate of a partner.

    Attributes:
        partner: whose.
        der: the certificate.
        use: ``signature`` or ``tls``.
        revoked_at_utc_ms: from when on it proves nothing new; None while in force.
    """

    partner: Partner
    der: bytes
    use: str
    revoked_at_utc_ms: int | None


class Partners(Enrolments):
    """The verbs of partners, tenants and groups; a part of `SqlStore`."""

    # --- who they are ---

    def add_partner(self, new: Partner) -> None:
        """Make an office known.

        Raises:
            AlreadyExists: the id is a partner's or an IED's.
        """
        with self._change() as connection:
            for table, key in ((partner, partner.c.id), (ied, ied.c.serial)):
                if connection.execute(select(key).where(key == new.id)).first() is not None:
                    raise AlreadyExists(
                        f"{new.id} is the id of {'a partner' if table is partner else 'an IED'} already"
                    )
            connection.execute(insert(partner), _row(new))

    def set_partner(self, changed: Partner) -> None:
        """Change everything of a partner but its id; its certificates, password and grants stay.

        Raises:
            NotFound: no such partner.
        """
        with self._keep() as connection:
            _require(connection, changed.id)
            connection.execute(update(partner).where(partner.c.id == changed.id).values(_row(changed)))

    def partner(self, partner_id: str) -> Partner | None:
        """Return a partner, whether it is one now or not (`valid_from_utc_ms`); None for strangers."""
        with self._look() as connection:
            row = connection.execute(select(partner).where(partner.c.id == partner_id)).one_or_none()
        return None if row is None else _partner(row)

    def partners(self, tenant: str | None = None) -> list[Partner]:
        """Return all partners, or a tenant's, by id."""
        query = select(partner).order_by(partner.c.id)
        with self._look() as connection:
            rows = connection.execute(query if tenant is None else query.where(partner.c.tenant == tenant))
            return [_partner(row) for row in rows]

    # --- how they prove it ---

    def add_partner_certificate(self, partner_id: str, der: bytes, use: str) -> bytes:
        """Bind a certificate to a partner for ``signature`` or ``tls``; return the SHA-256 it is known by.

        Raises:
            NotFound: no such partner.
            AlreadyExists: the certificate is an IED's or a partner's, this one's too.
            ConfigInvalid: no such use.
        """
        if use not in (SIGNATURE, TLS):
            raise ConfigInvalid(f"a certificate is for {SIGNATURE} or for {TLS}, not for {use!r}")
        digest = sha256_of(der).digest()
        with self._change() as connection:
            _require(connection, partner_id)
            if holder := holder_of(connection, digest):
                raise AlreadyExists(f"that certificate is {holder}'s already")
            row = {"sha256": digest, "partner": partner_id, "use": use, "bound_at_utc_ms": self._clock(), "der": der}
            connection.execute(insert(partner_certificate), row)
        return digest

    def revoke_partner_certificate(self, sha256: bytes, at_utc_ms: int) -> None:
        """Revoke a certificate from that moment on; a revocation that stands is kept.

        Raises:
            NotFound: no partner has it.
        """
        theirs = partner_certificate.c
        with self._keep() as connection:
            if connection.execute(select(theirs.use).where(theirs.sha256 == sha256)).first() is None:
                raise NotFound(f"no partner has a certificate {sha256.hex()[:16]}")
            still = update(partner_certificate).where(theirs.sha256 == sha256, theirs.revoked_at_utc_ms.is_(None))
            connection.execute(still.values(revoked_at_utc_ms=at_utc_ms))

    def partner_of(self, sha256: bytes) -> PartnerKey | None:
        """Return whose certificate it is, revoked or not; None for strangers and IEDs."""
        found = self._keys_where(_KEYS.where(partner_certificate.c.sha256 == sha256))
        return found[0] if found else None

    def partner_keys(self, partner_id: str) -> list[PartnerKey]:
        """Return a partner's certificates, oldest first."""
        query = _KEYS.where(partner_certificate.c.partner == partner_id)
        return self._keys_where(query.order_by(partner_certificate.c.bound_at_utc_ms, partner_certificate.c.sha256))

    def _keys_where(self, query: Select[Any]) -> list[PartnerKey]:
        with self._look() as connection:
            rows = connection.execute(query).all()
        return [PartnerKey(_partner(row), bytes(row.der), row.use, row.revoked_at_utc_ms) for row in rows]

    def set_password(self, partner_id: str, hash_text: str | None) -> None:
        """Keep the hash of a partner's password; None takes it away.

        Raises:
            NotFound: no such partner.
        """
        with self._keep() as connection:
            _require(connection, partner_id)
            connection.execute(update(partner).where(partner.c.id == partner_id).values(password=hash_text))

    def password(self, partner_id: str) -> str | None:
        """Return the hash of a partner's password; None when it has none, or there is no such partner."""
        with self._look() as connection:
            found: str | None = connection.execute(
                select(partner.c.password).where(partner.c.id == partner_id)
            ).scalar_one_or_none()
        return found

    # --- what they may see ---

    def give(self, *grants: Grant) -> None:
        """Give grants, all or none; one that is known (partner, usage point, kind, from) gets the new end.

        Raises:
            NotFound: no such partner.
            GrantRefused: the usage point has no IED in the partner's tenant, or there is no such kind.
        """
        with self._keep() as connection:
            tenants: dict[str, str] = {}
            for one in sorted(grants):
                if one.partner not in tenants:
                    tenants[one.partner] = _require(connection, one.partner).tenant
                if one.kind not in KINDS:
                    raise GrantRefused(f"no kind of data is called {one.kind}; there are {', '.join(KINDS)}")
                _require_in(connection, one.usage_point, tenants[one.partner])
                if not connection.execute(_this(update(partner_grant), one).values(to_utc=one.to_utc)).rowcount:
                    connection.execute(insert(partner_grant), one._asdict())

    def take(self, grant: Grant, at_utc: int) -> None:
        """End a grant: what lies behind `at_utc`, UTC seconds, is no longer seen; 0: nothing of it is.

        Args:
            grant: as `grants` returns it; its end does not count.
            at_utc: the new end, never later than the old one.

        Raises:
            NotFound: there is no such grant.
        """
        with self._keep() as connection:
            row = connection.execute(_this(select(partner_grant), grant).with_for_update()).one_or_none()
            if row is None:
                raise NotFound(f"{grant.partner} has no such grant on {grant.usage_point}")
            ends = at_utc if row.to_utc is None else min(at_utc, row.to_utc)
            connection.execute(_this(update(partner_grant), grant).values(to_utc=max(ends, row.from_utc)))

    def grants(self, partner_id: str) -> list[Grant]:
        """Return a partner's grants as given, by usage point and kind, those that do not hold now too."""
        query = select(partner_grant).where(_grant.partner == partner_id).order_by(*_GRANT_ORDER)
        with self._look() as connection:
            return [Grant(*row) for row in connection.execute(query)]

    def grants_on(self, usage_points: Sequence[str]) -> list[Grant]:
        """Return all partners' grants on usage points, those of IEDs in the partner's tenant only."""
        query = select(partner_grant).select_from(_EFFECTIVE).distinct().order_by(_grant.partner, *_GRANT_ORDER)
        with self._look() as connection:
            found = []
            for some in _chunks(usage_points):
                found += [Grant(*row) for row in connection.execute(query.where(_grant.usage_point.in_(some)))]
        return found

    def granted_channels(
        self, partner_id: str, usage_points: Sequence[str] | None = None
    ) -> list[tuple[Channel, Grant]]:
        """Return the channels a partner may see something of, each with the grant: in order of channel, kind, from.

        Only channels of IEDs in the partner's tenant. What kind of data a channel holds, and the period, is for the
        caller to compare (`partners.kind_of`, `Grant.holds_at`).

        Args:
            partner_id: who looks.
            usage_points: only of these; None: all.
        """
        query = select(channel, partner_grant).select_from(_EFFECTIVE).where(_grant.partner == partner_id)
        query = query.order_by(channel.c.id, _grant.kind, _grant.from_utc)
        with self._look() as connection:
            if usage_points is None:
                rows = list(connection.execute(query))
            else:
                parts = (query.where(_grant.usage_point.in_(some)) for some in _chunks(usage_points))
                rows = sorted((row for part in parts for row in connection.execute(part)), key=lambda row: row.id)
        return [(channel_of(row), Grant(*row[-len(Grant._fields) :])) for row in rows]

    # --- tenants and groups ---

    def set_tenants(self, serial: str, names: Sequence[str]) -> None:
        """Say which tenants an IED is in, instead of those before; it leaves the groups of those it leaves.

        Raises:
            NotFound: no such IED.
        """
        with self._keep() as connection:
            if connection.execute(select(ied.c.serial).where(ied.c.serial == serial).with_for_update()).first() is None:
                raise NotFound(f"no IED {serial}")
            connection.execute(delete(ied_tenant).where(ied_tenant.c.serial == serial))
            if names:
                connection.execute(
                    insert(ied_tenant), [{"serial": serial, "tenant": name} for name in sorted(set(names))]
                )
            left = delete(ied_group).where(ied_group.c.serial == serial, ied_group.c.tenant.not_in(sorted(set(names))))
            connection.execute(left)

    def tenants(self, serial: str) -> tuple[str, ...]:
        """Return the tenants of an IED, sorted; none for a stranger."""
        query = select(ied_tenant.c.tenant).where(ied_tenant.c.serial == serial).order_by(ied_tenant.c.tenant)
        with self._look() as connection:
            return tuple(connection.execute(query).scalars())

    def ieds_in(self, tenant: str) -> tuple[str, ...]:
        """Return the serials of a tenant's IEDs, sorted."""
        query = select(ied_tenant.c.serial).where(ied_tenant.c.tenant == tenant).order_by(ied_tenant.c.serial)
        with self._look() as connection:
            return tuple(connection.execute(query).scalars())

    def set_group(self, tenant: str, name: str, serials: Sequence[str]) -> None:
        """Make a group of IEDs, instead of what it was; without serials it is no more.

        Raises:
            GrantRefused: an IED is not in the tenant.
        """
        wanted = sorted(set(serials))
        with self._keep() as connection:
            # Locks the IEDs' places in the tenant, so that none leaves it while it joins the group.
            query = select(ied_tenant.c.serial).where(ied_tenant.c.tenant == tenant).with_for_update()
            found: set[str] = set()
            for some in _chunks(wanted):
                found |= set(connection.execute(query.where(ied_tenant.c.serial.in_(some))).scalars())
            if strangers := [serial for serial in wanted if serial not in found]:
                raise GrantRefused(f"not in tenant {tenant}: {', '.join(strangers[:10])}")
            connection.execute(delete(ied_group).where(ied_group.c.tenant == tenant, ied_group.c.name == name))
            if wanted:
                rows = [{"tenant": tenant, "name": name, "serial": serial} for serial in wanted]
                connection.execute(insert(ied_group), rows)

    def group(self, tenant: str, name: str) -> tuple[str, ...]:
        """Return the serials of a group, sorted; none when there is no such group in that tenant."""
        query = select(ied_group.c.serial).where(ied_group.c.tenant == tenant, ied_group.c.name == name)
        with self._look() as connection:
            return tuple(connection.execute(query.order_by(ied_group.c.serial)).scalars())

    def groups(self, tenant: str) -> dict[str, int]:
        """Return the names of a tenant's groups and how many IEDs each has."""
        query = select(ied_group.c.name, func.count()).where(ied_group.c.tenant == tenant)
        with self._look() as connection:
            rows = connection.execute(query.group_by(ied_group.c.name).order_by(ied_group.c.name))
            return {row[0]: row[1] for row in rows}

    def ieds_of(self, name: str, at_utc: int) -> tuple[str, ...]:
        """Return the serials of the IEDs that speak for a usage point or a meter at a moment, sorted; often one.

        Args:
            name: mRID of a usage point or a meter.
            at_utc: UTC seconds.
        """
        theirs = channel.c
        query = select(theirs.serial).where(
            or_(theirs.usage_point == name, theirs.meter == name),
            theirs.valid_from_utc <= at_utc,
            or_(theirs.valid_to_utc.is_(None), theirs.valid_to_utc > at_utc),
        )
        with self._look() as connection:
            return tuple(connection.execute(query.distinct().order_by(theirs.serial)).scalars())


def _row(one: Partner) -> dict[str, Any]:
    row = one._asdict()
    ways: Ways = row.pop("ways")
    row |= {"role": one.role.value, "by_signature": int(ways.signature), "by_tls": int(ways.tls)}
    return row | {"by_username": int(ways.username), "unsigned_commands": int(ways.unsigned_commands)}


def _partner(row: Row[Any]) -> Partner:
    ways = Ways(*map(bool, (row.by_signature, row.by_tls, row.by_username, row.unsigned_commands)))
    validity = (row.valid_from_utc_ms, row.valid_to_utc_ms)
    way_out = (row.ca, row.push_user, row.push_password_file)
    return Partner(row.id, row.name, Role(row.role), row.tenant, ways, row.endpoint, row.wsdl, *validity, *way_out)


def _require(connection: Connection, partner_id: str) -> Row[Any]:
    row = connection.execute(select(partner).where(partner.c.id == partner_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"no partner {partner_id}")
    return row


def _require_in(connection: Connection, usage_point: str, tenant: str) -> None:
    query = (
        select(ied_tenant.c.tenant)
        .join(channel, channel.c.serial == ied_tenant.c.serial)
        .where(channel.c.usage_point == usage_point, ied_tenant.c.tenant == tenant)
    )
    if connection.execute(query.limit(1)).first() is None:
        raise GrantRefused(f"usage point {usage_point} has no IED in tenant {tenant}")


def _this(query: Any, one: Grant) -> Any:
    """Narrow a statement to the row of a grant."""
    key = (_grant.partner == one.partner, _grant.usage_point == one.usage_point, _grant.kind == one.kind)
    return query.where(*key, _grant.from_utc == one.from_utc)


def _chunks(names: Collection[str]) -> list[list[str]]:
    """Sorted, without repeats, and few enough for one statement."""
    ordered = sorted(set(names))
    return [ordered[start : start + _CHUNK] for start in range(0, len(ordered), _CHUNK)]
