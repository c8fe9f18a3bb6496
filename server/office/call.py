"""A call as its handler sees it: who calls, what it says, what of it is kept.

Values only. A `Call` exists only for a message whose sender is known and which is valid by its schema.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from gridpost.model import Entry, Header, Message, Reference
from gridpost.partners import Partner

from .callers import Caller, Way

Aside = Callable[[Callable[[], Any]], Awaitable[Any]]  # runs a function off the reactor and gives what it returns


class Call(NamedTuple):
    """A call.

    Attributes:
        caller: proved.
        operation: name of the Body's child, without its namespace.
        message: decoded.
        content_digest: SHA-256 of the Body's child in canonical form.
        evidence: what an entry keeps: a signed message as received; of an unsigned one what the bus sealed of it, so
            that no password is kept.
        created_utc_ms: Created of the security Timestamp of `evidence`.
        now_utc_ms: when it came.
        peer: address and port.
    """

    caller: Caller
    operation: str
    message: Message
    content_digest: bytes
    evidence: bytes
    created_utc_ms: int
    now_utc_ms: int
    peer: str

    @property
    def partner(self) -> Partner:
        """Who calls."""
        return self.caller.partner

    @property
    def header(self) -> Header:
        """The message's own."""
        return self.message.header

    @property
    def references(self) -> tuple[Reference, ...]:
        """What a receipt echoes; of an unsigned message nothing."""
        return self.caller.authentic.verified.references if self.caller.authentic else ()

    def entry(self) -> Entry:
        """Return what the log keeps of it."""
        header = self.header
        return Entry(
            sender=self.partner.id,
            message_id=header.message_id,
            noun=header.noun,
            transport="office" if self.caller.way is Way.SIGNATURE else f"office-{self.caller.way}",
            content_digest=self.content_digest,
            created_utc_ms=self.created_utc_ms,
            sequence=header.sequence,
            last_receipt=header.last_receipt,
            evidence=self.evidence,
        )
