"""Offices that use the bus, as values: who a partner is, how it proves that, and what it may see and do.

Floor 1. A partner sees a usage point only by a grant, and a grant is given only inside the partner's tenant (F4, F25).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .controls import ACTIONS, Role

# Kind of data a grant is about -> what it is.
KINDS: Mapping[str, str] = {
    "billing": "interval values and registers of energy and demand",
    "power-quality": "interval values and registers of every other measurement",
    "events": "events of the devices",
    "commands": "controls, their states and outcomes; the right to ask for them is the role's",
}
BILLING_MEASUREMENTS = frozenset((8, 12))  # measurementKind of demand and energy (IEC 61968-9 annex C)

# Role -> actions it may ask for; a policy of the operator can only narrow it (gridpost.toml, [commands]).
MAY: Mapping[Role, frozenset[str]] = {
    Role.UTILITY: frozenset(ACTIONS),
    Role.OPERATOR: frozenset(ACTIONS),
    Role.SUPPLIER: frozenset(("tariff-update", "request-data", "reduce", "shed", "restore")),
    Role.CUSTOMER: frozenset(("request-data", "shed", "restore", "reduce", "billing-reset")),
    Role.THIRD_PARTY: frozenset(("request-data",)),
}


class Ways(NamedTuple):
    """How a partner may prove who it is; at least one.

    Attributes:
        signature: by a signed message.
        tls: by a TLS client certificate.
        username: by a UsernameToken over TLS.
        unsigned_commands: whether its commands count without a signature; otherwise they become proposals.
    """

    signature: bool = True
    tls: bool = False
    username: bool = False
    unsigned_commands: bool = False


class Partner(NamedTuple):
    """An office.

    Attributes:
        id: Source of its messages; never an IED's serial.
        name: what people call it.
        role: what it is.
        tenant: whose usage points it can be granted.
        ways: how it proves who it is.
        endpoint: the one address messages are pushed to; empty: it fetches from its mailbox.
        wsdl: where its own WSDL lies, a path or an address; empty: none.
        valid_from_utc_ms, valid_to_utc_ms: when it is a partner; None: no end.
        ca: path of the certificates that may vouch for its HTTPS; empty: those the machine trusts.
        push_user: who the bus is to its MultiSpeak service (UserID); empty: not stated.
        push_password_file: path of the file that holds the password (Pwd); the password itself is in no entry.
    """

    id: str
    name: str
    role: Role
    tenant: str
    ways: Ways = Ways()
    endpoint: str = ""
    wsdl: str = ""
    valid_from_utc_ms: int = 0
    valid_to_utc_ms: int | None = None
    ca: str = ""
    push_user: str = ""
    push_password_file: str = ""


class Grant(NamedTuple):
    """What a partner may see of one usage point.

    Attributes:
        partner: its id.
        usage_point: mRID.
        kind: a name of KINDS.
        from_utc: of interval ends and moments, exclusive.
        to_utc: inclusive; None: no end.
    """

    partner: str
    usage_point: str
    kind: str
    from_utc: int = 0
    to_utc: int | None = None

    def holds_at(self, utc: int) -> bool:
        """Tell whether the grant covers a moment or an interval's end."""
        return self.from_utc < utc and (self.to_utc is None or utc <= self.to_utc)


def kind_of(measurement_kind: int) -> str:
    """Return the kind of data a reading type's measurementKind belongs to."""
    return "billing" if measurement_kind in BILLING_MEASUREMENTS else "power-quality"
