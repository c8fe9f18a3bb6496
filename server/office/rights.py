"""May it? One table of roles and kinds by operation, and grants by usage point, kind and period.

In: a partner whose identity is proved, and what it asks for. Out: what of it the partner may see, or NotGranted; that
says the same of what is not granted and of what does not exist, so nobody learns which it is. Everything that a handler
looks up for a partner comes through here; a tenant's data is reached only by grants, which hold only inside the
partner's tenant (`store/partners.py` asks that at every look).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gridpost.controls import Role
from gridpost.errors import FileInvalid, NotGranted
from gridpost.model import Channel, ReadingType
from gridpost.partners import Grant, Partner, kind_of
from gridpost.requests import Query

from ..store import ControlOnFile, SqlStore

ANY_TIME = 1 << 62
EVERYBODY = frozenset(Role)
STAFF = frozenset((Role.UTILITY, Role.OPERATOR))
OFFERING = STAFF | {Role.SUPPLIER}  # a utility offers its network
READINGS = frozenset(("billing", "power-quality"))
BILLING = frozenset(("billing",))
EVENTS, COMMANDS = frozenset(("events",)), frozenset(("commands",))
ANY = READINGS | EVENTS | COMMANDS
OWN: frozenset[str] = frozenset()  # it is about the partner itself: no grant is needed


class Need(NamedTuple):
    """What an operation needs.

    Attributes:
        roles: who may call it at all; which actions a role may ask for is `controls/policy.py`'s.
        kinds: a grant of one of these, for each usage point concerned.
    """

    roles: frozenset[Role]
    kinds: frozenset[str]


# Name of the Body's child -> what it needs. One line an operation; a test goes through every role and every line.
NEEDS: Mapping[str, Need] = {
    "GetMeterReadings": Need(EVERYBODY, READINGS),
    "GetCompleteness": Need(EVERYBODY, READINGS),
    "CreateMeterReadings": Need(EVERYBODY, READINGS),
    "CancelMeterReadings": Need(EVERYBODY, OWN),
    "GetEndDeviceEvents": Need(EVERYBODY, EVENTS),
    "GetEndDeviceControls": Need(EVERYBODY, COMMANDS),
    "CreateEndDeviceControls": Need(EVERYBODY, COMMANDS),
    "ChangeEndDeviceControls": Need(EVERYBODY, COMMANDS),
    "CancelEndDeviceControls": Need(EVERYBODY, OWN),
    "GetMeterConfig": Need(EVERYBODY, ANY),
    "CreateMeterConfig": Need(STAFF, OWN),  # of IEDs in its tenant: new usage points have no grants yet
    "ChangeMeterConfig": Need(STAFF, OWN),
    "PeekMailbox": Need(EVERYBODY, OWN),
    "DequeueMailbox": Need(EVERYBODY, OWN),
    "CreateTariff": Need(OFFERING, OWN),
    "ChangeTariff": Need(OFFERING, OWN),
    "GetTariff": Need(EVERYBODY, OWN),  # of its tenant; a supplier its own and the network's
    "CreateContract": Need(OFFERING, OWN),  # for a usage point of its tenant: a new supplier has no grant there yet
    "ChangeContract": Need(EVERYBODY - {Role.THIRD_PARTY}, BILLING),  # staff and a contract's supplier need no grant
    "GetContract": Need(EVERYBODY, BILLING),  # likewise
    "GetTariffComparison": Need(EVERYBODY, BILLING),
}


class View(NamedTuple):
    """A channel, and of when a partner may see it: interval ends and moments, first exclusive, last inclusive."""

    channel: Channel
    from_utc: int
    to_utc: int


def check_role(partner: Partner, operation: str) -> None:
    """Let a role call an operation, given by the name of the Body's child.

    Raises:
        NotGranted: it may not.
    """
    if partner.role not in NEEDS[operation].roles:
        raise NotGranted(f"a {partner.role} may not call {operation}")


@dataclass(frozen=True, slots=True)
class Rights:
    """What partners may see and command, asked of the store each time: a grant taken away counts at once."""

    store: SqlStore

    def views(self, partner: Partner, query: Query) -> list[View]:
        """Return the channels of readings that a query names and the partner may see, each with its periods, in order.

        Raises:
            NotGranted: it names a usage point or meter of which the partner may see no reading at all.
        """
        granted = self.store.granted_channels(partner.id, query.usage_points or None)
        kinds = NEEDS["GetMeterReadings"].kinds
        fitting = [(channel, grant) for channel, grant in granted if grant.kind in kinds & {kind(channel)}]
        check_names(query, (channel for channel, _ in fitting))
        chosen = [pair for pair in fitting if _is_asked(pair[0], query)]
        by_channel: dict[int, tuple[Channel, list[Grant]]] = {}
        for channel, grant in chosen:
            by_channel.setdefault(channel.id, (channel, []))[1].append(grant)
        return [view for channel, grants in by_channel.values() for view in _views(channel, grants, query)]

    def channels(self, partner: Partner, operation: str, query: Query) -> list[tuple[Channel, Grant]]:
        """Return the channels of the usage points that a query names and a grant of a kind the operation needs covers.

        Raises:
            NotGranted: it names a usage point or meter that no such grant covers.
        """
        granted = self.store.granted_channels(partner.id, query.usage_points or None)
        fitting = [(channel, grant) for channel, grant in granted if grant.kind in NEEDS[operation].kinds]
        check_names(query, (channel for channel, _ in fitting))
        return [pair for pair in fitting if _is_place_asked(pair[0], query)]

    def check_targets(self, partner: Partner, serials: Collection[str], at_utc: int) -> None:
        """Let a partner command IEDs: it has the grant `commands` for every usage point that one speaks for.

        An IED that serves two tenants is commanded by nobody: what it switches is not told apart by usage point.

        Raises:
            NotGranted: of one of them it has not.
        """
        granted = self._commanded(partner, at_utc)
        for serial in serials:
            if not self._covers(partner, granted, serial, at_utc):
                raise NotGranted(f"no right to command {serial[:64]}")

    def sees_offers(self, partner: Partner, owner: str) -> bool:
        """Tell whether a partner may see the tariffs of an owner.

        Those of its tenant; a supplier never another supplier's. What nobody here owns the bus's operator put there.
        """
        if owner == partner.id:
            return True
        other = self.store.partner(owner)
        if other is None:
            return partner.role is not Role.SUPPLIER
        return other.tenant == partner.tenant and (partner.role is not Role.SUPPLIER or other.role in STAFF)

    def may_see(self, partner: Partner, controls: Iterable[ControlOnFile]) -> Iterator[ControlOnFile]:
        """Yield the controls that a partner issued and has, for the moment it did, the grant `commands` for."""
        known: dict[tuple[str, int], bool] = {}
        for one in controls:
            target, at_utc = one.control.target, one.steps[0].at_utc_ms // 1000
            if one.control.issuer != partner.id:
                continue
            if (target, at_utc) not in known:
                known[target, at_utc] = self._covers(partner, self._commanded(partner, at_utc), target, at_utc)
            if known[target, at_utc]:
                yield one

    def _commanded(self, partner: Partner, at_utc: int) -> set[str]:
        granted = self.store.granted_channels(partner.id)
        return {
            channel.key.usage_point for channel, grant in granted if grant.kind in COMMANDS and grant.holds_at(at_utc)
        }

    def _covers(self, partner: Partner, granted: set[str], serial: str, at_utc: int) -> bool:
        if partner.tenant not in self.store.tenants(serial):
            return False
        served = {channel.key.usage_point for channel in self.store.channels(sender=serial) if channel.holds_at(at_utc)}
        return bool(served) and served <= granted


def kind(channel: Channel) -> str:
    """Return the kind of data a channel holds; a reading type of another fashion is power quality, not billing."""
    try:
        return kind_of(ReadingType.parse(channel.key.reading_type).measurement_kind)
    except FileInvalid:
        return "power-quality"


def check_names(query: Query, seen: Iterable[Channel]) -> None:
    """Hold the places that a query names against those a partner may see.

    Raises:
        NotGranted: naming the first that is not among them.
    """
    keys = [channel.key for channel in seen]
    points, meters = {key.usage_point for key in keys}, {key.meter for key in keys}
    for asked, granted in ((query.usage_points, points), (query.meters, meters)):
        unknown = next((name for name in asked if name not in granted), None)
        if unknown is not None:
            raise NotGranted(f"no grant for {unknown[:64]}")


def _is_place_asked(channel: Channel, query: Query) -> bool:
    key = channel.key
    pairs = ((query.usage_points, key.usage_point), (query.meters, key.meter))
    return all(not asked or name in asked for asked, name in pairs)


def _is_asked(channel: Channel, query: Query) -> bool:
    if not _is_place_asked(channel, query) or (query.streams and channel.key.stream not in query.streams):
        return False
    return not query.reading_types or any(_is_of(channel, text) for text in query.reading_types)


def _is_of(channel: Channel, text: str) -> bool:
    """A query names a channel's own type or that of the register behind it."""
    if text == channel.key.reading_type:
        return True
    try:
        return ReadingType.parse(text).reads_register_of(ReadingType.parse(channel.key.reading_type))
    except FileInvalid:
        return False


def _views(channel: Channel, grants: Iterable[Grant], query: Query) -> Iterator[View]:
    """The periods of a channel that grants and query have in common, those that overlap made one."""
    until = query.to_utc or ANY_TIME
    periods = sorted((max(grant.from_utc, query.from_utc), _least(grant.to_utc, until)) for grant in grants)
    joined: list[tuple[int, int]] = []
    for begins, ends in periods:
        if joined and begins <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(ends, joined[-1][1]))
        else:
            joined.append((begins, ends))
    return (View(channel, begins, ends) for begins, ends in joined if begins < ends)


def _least(end: int | None, other: int) -> int:
    return other if end is None else min(end, other)
