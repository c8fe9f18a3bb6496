"""GetTariffComparison: what tariffs would have cost on a usage point's own intervals.

In: a call of a partner. Out: the comparison, with the data version it rests on. Only readings, contracts and tariffs
that the partner may see count; nothing is stored and nothing is done by it: it is a proposal (Fig 5, D5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from gridpost.applications.calendar import cycles
from gridpost.applications.comparison import Bid, Usage, compare
from gridpost.comparison_messages import encode_comparison_reply
from gridpost.contract import metered_by, names_of
from gridpost.documents import TARIFF
from gridpost.errors import BillRefused, NotGranted, QueryRefused
from gridpost.model import Channel, DataVersion
from gridpost.office_messages import reply_to
from gridpost.partners import Partner
from gridpost.ports import ZoneOf
from gridpost.requests import Query
from gridpost.supply import Compared, GetTariffComparison, Offer
from gridpost.tariff import Tariff, stand_side_by_side

from ..billing import filed
from ..store import SqlStore
from .call import Call
from .readings import read_version, version_text
from .rights import BILLING, Rights, kind

LONGEST_S = 1_100 * 86_400
MOST_BIDS = 50


@dataclass(frozen=True, slots=True)
class ComparisonDesk:
    """The handler."""

    bus_id: str
    store: SqlStore
    rights: Rights
    zone_of: ZoneOf

    def look(self, call: Call) -> bytes:
        """Return the answer.

        Raises:
            NotGranted: of readings or tariffs, for all of the period.
            QueryRefused: too long a period, too many bids, a data version that is none, or no present contract.
            BillRefused, TariffRefused: as `comparison.compare`.
        """
        assert isinstance(call.message, GetTariffComparison)
        asked = call.message.compared
        if asked.to_utc - asked.from_utc > LONGEST_S or len(asked.bids) > MOST_BIDS:
            raise QueryRefused(f"at most {LONGEST_S // 86_400} days and {MOST_BIDS} bids are compared")
        at = read_version(asked.at, self.store.version())
        usage = self._usage(call.partner, asked, at)
        present = self._bid(call.partner, asked.present or self._contracted(call.partner, asked), asked.to_utc)
        offers = self._offers(call.partner, asked, present)
        named = [self._bid(call.partner, one, asked.to_utc) for one in asked.bids]
        bids = named or list(islice(offers, MOST_BIDS + 1))
        if len(bids) > MOST_BIDS:
            raise QueryRefused(f"more than {MOST_BIDS} tariffs are on offer: name some with the Option bid")
        found = compare(present, bids, usage, asked.switching_cost)
        header = reply_to(call.header, self.bus_id, call.now_utc_ms)
        return encode_comparison_reply(header, found, present.tariffs[0].currency, version_text(at))

    def _usage(self, partner: Partner, asked: Compared, at: DataVersion) -> Usage:
        channels = self._channels(partner, asked)
        if not channels:
            raise BillRefused(f"{asked.usage_point} has no channel of energy in the period")
        zone = self.zone_of(asked.zone or channels[0].zone)
        contracted = filed.in_force(self.store, asked.to_utc - 1, asked.usage_point)
        metered = contracted[0].channels if contracted else metered_by(channels)
        readings = {
            one.channel: self.store.readings(_named(one.channel, channels).id, asked.from_utc, asked.to_utc, at)
            for one in metered
        }
        return Usage(readings, metered, cycles(asked.from_utc, asked.to_utc, zone, asked.cycle_day))

    def _channels(self, partner: Partner, asked: Compared) -> list[Channel]:
        """The usage point's channels of billing, each granted for all of the period."""
        query = Query((asked.usage_point,), from_utc=asked.from_utc, to_utc=asked.to_utc)
        views = [one for one in self.rights.views(partner, query) if kind(one.channel) in BILLING]
        if not views:
            raise NotGranted(f"no grant for {asked.usage_point[:64]}")
        if any(view.from_utc > asked.from_utc or view.to_utc < asked.to_utc for view in views):
            raise NotGranted(f"the grant on {asked.usage_point[:64]} does not cover the period")
        return [view.channel for view in views if _holds_in(view.channel, asked)]

    def _contracted(self, partner: Partner, asked: Compared) -> Offer:
        """The tariffs of the contracts in force when the period ends."""
        held = filed.in_force(self.store, asked.to_utc - 1, asked.usage_point)
        seen = [(one.supplier, one.tariff) for one in held if self.rights.sees_offers(partner, one.supplier)]
        if not seen or len(seen) < len(held):
            raise QueryRefused("no contract in force there that you may see whole: state the Option present")
        return Offer(tuple(seen))

    def _bid(self, partner: Partner, offer: Offer, to_utc: int) -> Bid:
        return Bid(offer.name, tuple(self._tariff(partner, *pair, to_utc) for pair in offer.tariffs))

    def _tariff(self, partner: Partner, supplier: str, name: str, to_utc: int) -> Tariff:
        """The version in force when the period ends; the newest one of a tariff that is not in force then."""
        if not self.rights.sees_offers(partner, supplier) or not self.store.documents(TARIFF, owner=supplier, id=name):
            raise NotGranted(f"no grant for {supplier[:64]}/{name[:64]}")
        versions = filed.tariff_versions(self.store, supplier, name)
        return (filed.valid_at(versions, to_utc - 1) or versions[-1]).value

    def _offers(self, partner: Partner, asked: Compared, present: Bid) -> Iterator[Bid]:
        """Every tariff in force that the partner may see, each in the place of the present one of its kind."""
        currency = present.tariffs[0].currency
        for one in self.store.documents(TARIFF):
            if not self.rights.sees_offers(partner, one.document.owner):
                continue
            found = filed.tariff_at(self.store, one.document.owner, one.document.id, asked.to_utc - 1)
            if found is None or found.value.currency != currency:
                continue
            tariff = found.value
            beside = tuple(own for own in present.tariffs if stand_side_by_side(own.kind, tariff.kind))
            tariffs = (tariff, *beside)
            if set(tariffs) != set(present.tariffs):
                yield Bid(Offer(tuple((own.supplier, own.id) for own in tariffs)).name, tariffs)


def _holds_in(channel: Channel, asked: Compared) -> bool:
    """Tell whether a channel is valid at some time of a period."""
    ends = channel.valid_to_utc
    return channel.valid_from_utc < asked.to_utc and (ends is None or asked.from_utc < ends)


def _named(name: str, channels: Sequence[Channel]) -> Channel:
    found = [one for one in channels if name in names_of(one)]
    if len(found) != 1:
        raise BillRefused(f"{len(found)} channels are called {name} in the period: compare a part of it")
    return found[0]
