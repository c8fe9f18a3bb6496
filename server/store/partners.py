"""Offices: who they are, how they prove it, what they may see; and which tenants and groups the IEDs are in.

As in `enrolments.py`: plain transactions on connections of their own, beside a running bus. A certificate belongs to
one IED or one partner for ever, and a partner's id is never an IED's serial, so a sender is never two. A grant holds
only while its usage point is in the partner's tenant: that is asked at every look, not only when it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gridpost.model import Channel
from gridpost.partners import Grant, Partner

from .enrolments import Enrolments

SIGNATURE, TLS = "signature", "tls"


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

    def add_partner(self, partner: Partner) -> None:
        """Make an office known.

        Raises:
            AlreadyExists: the id is a partner's or an IED's.
        """
        raise NotImplementedError

    def set_partner(self, partner: Partner) -> None:
        """Change everything of a partner but its id; its certificates, password and grants stay.

        Raises:
            NotFound: no such partner.
        """
        raise NotImplementedError

    def partner(self, partner_id: str) -> Partner | None:
        """Return a partner, whether it is one now or not (`valid_from_utc_ms`); None for strangers."""
        raise NotImplementedError

    def partners(self, tenant: str | None = None) -> list[Partner]:
        """Return all partners, or a tenant's, by id."""
        raise NotImplementedError

    # --- how they prove it ---

    def add_partner_certificate(self, partner_id: str, der: bytes, use: str) -> bytes:
        """Bind a certificate to a partner for ``signature`` or ``tls``; return the SHA-256 it is known by.

        Raises:
            NotFound: no such partner.
            AlreadyExists: the certificate is an IED's or a partner's, this one's too.
            ConfigInvalid: no such use.
        """
        raise NotImplementedError

    def revoke_partner_certificate(self, sha256: bytes, at_utc_ms: int) -> None:
        """Revoke a certificate from that moment on; a revocation that stands is kept.

        Raises:
            NotFound: no partner has it.
        """
        raise NotImplementedError

    def partner_of(self, sha256: bytes) -> PartnerKey | None:
        """Return whose certificate it is, revoked or not; None for strangers and IEDs."""
        raise NotImplementedError

    def partner_keys(self, partner_id: str) -> list[PartnerKey]:
        """Return a partner's certificates, oldest first."""
        raise NotImplementedError

    def set_password(self, partner_id: str, hash_text: str | None) -> None:
        """Keep the hash of a partner's password; None takes it away.

        Raises:
            NotFound: no such partner.
        """
        raise NotImplementedError

    def password(self, partner_id: str) -> str | None:
        """Return the hash of a partner's password; None when it has none, or there is no such partner."""
        raise NotImplementedError

    # --- what they may see ---

    def give(self, *grants: Grant) -> None:
        """Give grants, all or none; one that is known (partner, usage point, kind, from) gets the new end.

        Raises:
            NotFound: no such partner.
            GrantRefused: the usage point has no IED in the partner's tenant, or there is no such kind.
        """
        raise NotImplementedError

    def take(self, grant: Grant, at_utc: int) -> None:
        """End a grant: what lies behind `at_utc`, UTC seconds, is no longer seen; 0: nothing of it is.

        Args:
            grant: as `grants` returns it; its end does not count.
            at_utc: the new end, never later than the old one.

        Raises:
            NotFound: there is no such grant.
        """
        raise NotImplementedError

    def grants(self, partner_id: str) -> list[Grant]:
        """Return a partner's grants as given, by usage point and kind, those that do not hold now too."""
        raise NotImplementedError

    def grants_on(self, usage_points: Sequence[str]) -> list[Grant]:
        """Return all partners' grants on usage points, those of IEDs in the partner's tenant only."""
        raise NotImplementedError

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
        raise NotImplementedError

    # --- tenants and groups ---

    def set_tenants(self, serial: str, names: Sequence[str]) -> None:
        """Say which tenants an IED is in, instead of those before; it leaves the groups of those it leaves.

        Raises:
            NotFound: no such IED.
        """
        raise NotImplementedError

    def tenants(self, serial: str) -> tuple[str, ...]:
        """Return the tenants of an IED, sorted; none for a stranger."""
        raise NotImplementedError

    def ieds_in(self, tenant: str) -> tuple[str, ...]:
        """Return the serials of a tenant's IEDs, sorted."""
        raise NotImplementedError

    def set_group(self, tenant: str, name: str, serials: Sequence[str]) -> None:
        """Make a group of IEDs, instead of what it was; without serials it is no more.

        Raises:
            GrantRefused: an IED is not in the tenant.
        """
        raise NotImplementedError

    def group(self, tenant: str, name: str) -> tuple[str, ...]:
        """Return the serials of a group, sorted; none when there is no such group in that tenant."""
        raise NotImplementedError

    def groups(self, tenant: str) -> dict[str, int]:
        """Return the names of a tenant's groups and how many IEDs each has."""
        raise NotImplementedError

    def ieds_of(self, name: str, at_utc: int) -> tuple[str, ...]:
        """Return the serials of the IEDs that speak for a usage point or a meter at a moment, sorted; often one.

        Args:
            name: mRID of a usage point or a meter.
            at_utc: UTC seconds.
        """
        raise NotImplementedError
