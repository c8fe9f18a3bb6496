"""Who is it? A partner by a signature, by a TLS client certificate, or by a UsernameToken over TLS, as its entry says.

In: a shaped message, nothing of it trusted, and what TLS says of the connection. Out: a `Caller`, or NotAuthenticated,
the one answer outside for every cause; the cause goes to the audit log. Where a connection's certificate and a message
name somebody each, they must name the same partner. What must not be done here: reading the message's content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from gridpost import exchange
from gridpost.envelope import Envelope
from gridpost.errors import NotAuthenticated, SignatureInvalid
from gridpost.exchange import Authentic
from gridpost.model import Enrolment
from gridpost.partners import Partner
from gridpost.ports import Clock
from gridpost.unsigned import Unsigned

from ..passwords import Guard, verify_password
from ..store import PartnerKey, SqlStore

Shaped = Envelope | Unsigned
SIGNATURE_USE, TLS_USE = "signature", "tls"


class Way(StrEnum):
    """How a caller proved who it is."""

    SIGNATURE = "signature"
    TLS = "tls"
    USERNAME = "username"


class Hello(NamedTuple):
    """What the transport knows of the connection.

    Attributes:
        peer: address and port.
        group: what counts as one peer.
        secure: whether it is TLS that ends here.
        certificate: DER of the TLS client's; empty: none.
        soap_action: as sent, without quotes; empty: none.
    """

    peer: str
    group: str
    secure: bool = False
    certificate: bytes = b""
    soap_action: str = ""


class Caller(NamedTuple):
    """A partner that proved who it is.

    Attributes:
        partner: its entry.
        way: how it proved it.
        authentic: what was verified of a signed message; None of any other.
        certificate: that signed it; empty: none.
    """

    partner: Partner
    way: Way
    authentic: Authentic | None = None
    certificate: bytes = b""

    @property
    def may_command(self) -> bool:
        """Whether what it asks for counts as a command, or as a proposal that a person must release."""
        return self.way is Way.SIGNATURE or self.partner.ways.unsigned_commands


@dataclass(frozen=True, slots=True)
class Callers:
    """`known`, and what it asks.

    Attributes:
        store: partners, their certificates and passwords.
        clock: UTC milliseconds.
        guard: keeps strangers from making the bus compute.
        aside: runs what takes long off the reactor.
    """

    store: SqlStore
    clock: Clock
    guard: Guard
    aside: Callable[[Callable[[], bool]], Awaitable[bool]]

    async def known(self, message: Shaped, hello: Hello) -> Caller:
        """Return who sent a message.

        Raises:
            NotAuthenticated: whatever the cause.
        """
        on_wire = self._by_tls(hello) if hello.certificate else None
        if isinstance(message, Envelope):
            caller = self._by_signature(message)
        elif message.username:
            caller = await self._by_password(message, hello)
        elif on_wire is not None:
            _require(on_wire.partner.ways.tls, f"{on_wire.partner.id} may not come by TLS certificate alone")
            return on_wire
        else:
            raise NotAuthenticated(detail="neither signature, nor certificate, nor token")
        same = on_wire is None or on_wire.partner.id == caller.partner.id
        _require(same, f"{caller.partner.id} on a connection of another partner")
        return caller

    def _by_tls(self, hello: Hello) -> Caller:
        key = self._key(hello.certificate, TLS_USE)
        return Caller(key.partner, Way.TLS)

    def _by_signature(self, envelope: Envelope) -> Caller:
        key = self._key(envelope.certificate, SIGNATURE_USE)
        _require(key.partner.ways.signature, f"{key.partner.id} may not come by signature")
        try:
            authentic = exchange.verify(envelope, Enrolment(key.partner.id, key.der, None, ()))
        except SignatureInvalid as error:
            raise NotAuthenticated(detail=f"{key.partner.id}: {error.detail}") from None
        return Caller(key.partner, Way.SIGNATURE, authentic, key.der)

    def _key(self, der: bytes, use: str) -> PartnerKey:
        """The partner's key on file, in force now; revoked ones count for nothing, repeats included."""
        now = self.clock()
        key = self.store.partner_of(hashlib.sha256(der).digest())
        if key is None or key.use != use:
            raise NotAuthenticated(detail=f"no partner has that certificate for {use}")
        _require(key.revoked_at_utc_ms is None or now < key.revoked_at_utc_ms, f"{key.partner.id}: revoked")
        _require(exchange.valid_at(key.der, now), f"{key.partner.id}: certificate is not valid now")
        _require(is_partner_at(key.partner, now), f"{key.partner.id} is no partner now")
        return key

    async def _by_password(self, message: Unsigned, hello: Hello) -> Caller:
        name, password = message.username, message.password
        _require(hello.secure, "a UsernameToken without TLS")
        _require(not self.guard.is_shut(name, hello.group), f"{name[:64]!a} failed too often from there")
        partner, kept = self.store.partner(name), self.store.password(name)
        right = kept is not None and self.guard.is_known(name, password, kept)
        if not right:
            _require(not self.guard.is_crowded(hello.group), "too many failed from there")
            right = await self.aside(lambda: verify_password(password, kept))
        if not right or kept is None or partner is None:
            self.guard.failed(name, hello.group)
            raise NotAuthenticated(detail=f"{name[:64]!a}: wrong name or password")
        self.guard.succeeded(name, password, kept)
        _require(partner.ways.username, f"{partner.id} may not come by UsernameToken")
        _require(is_partner_at(partner, self.clock()), f"{partner.id} is no partner now")
        return Caller(partner, Way.USERNAME)


def is_partner_at(partner: Partner, utc_ms: int) -> bool:
    """Tell whether an entry holds at a moment."""
    ends = partner.valid_to_utc_ms
    return partner.valid_from_utc_ms <= utc_ms and (ends is None or utc_ms < ends)


def _require(condition: bool, detail: str) -> None:
    if not condition:
        raise NotAuthenticated(detail=detail)
