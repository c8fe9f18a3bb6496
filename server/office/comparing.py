"""GetTariffComparison: what tariffs would have cost on a usage point's own intervals.

In: a call of a partner. Out: the comparison, with the data version it rests on. Only readings, contracts and tariffs
that the partner may see count; nothing is stored and nothing is done by it: it is a proposal (Fig 5, D5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gridpost import tariff_messages
from gridpost.applications.calendar import cycles
from gridpost.applications.comparison import Bid, Usage, compare
from gridpost.applications.determinants import ENERGY, Metered
from gridpost.comparison_messages import encode_comparison_reply
from gridpost.documents import TARIFF
from gridpost.errors import BillRefused, NotGranted, QueryRefused
from gridpost.model import Channel, DataVersion
from gridpost.office_messages import reply_to
from gridpost.partners import Partner
from gridpost.ports import ZoneOf
from gridpost.requests import Query
from gridpost.supply import Compared, GetTariffComparison, Offer
from gridpost.tariff import Tariff

from ..choice.usage import measure_of
from ..store import SqlStore
from .call import Call
from .contracts import in_force
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
        present = self._bid(call.partner, asked.present or self._contracted(call.partner, asked))
        bids = [self._bid(call.partner, one) for one in asked.bids] or list(self._offers(call.partner, asked, present))
        found = compare(present, bids, usage, asked.switching_cost)
        header = reply_to(call.header, self.bus_id, call.now_utc_ms)
        return encode_comparison_reply(header, found, present.tariffs[0].currency, version_text(at))

    def _usage(self, partner: Partner, asked: Compared, at: DataVersion) -> Usage:
        channels = self._channels(partner, asked)
        zone = self.zone_of(asked.zone or channels[ENERGY].zone)
        readings = {
            measure: self.store.readings(channel.id, asked.from_utc, asked.to_utc, at)
            for measure, channel in channels.items()
        }
        periods = cycles(asked.from_utc, asked.to_utc, zone, asked.cycle_day)
        return Usage(readings, [Metered(measure, measure) for measure in readings], periods)

    def _channels(self, partner: Partner, asked: Compared) -> dict[str, Channel]:
        """The usage point's channel of each measure, granted for all of the period."""
        query = Query((asked.usage_point,), from_utc=asked.from_utc, to_utc=asked.to_utc)
        found: dict[str, Channel] = {}
        for view in self.rights.views(partner, query):
            measure = measure_of(view.channel.key.reading_type) if kind(view.channel) in BILLING else ""
            if not measure or not _holds_in(view.channel, asked):
                continue
            if view.from_utc > asked.from_utc or view.to_utc < asked.to_utc:
                raise NotGranted(f"the grant on {asked.usage_point[:64]} does not cover the period")
            if measure in found:
                raise BillRefused(f"two channels measure {measure} in the period: compare a part of it")
            found[measure] = view.channel
        if ENERGY not in found:
            raise NotGranted(f"no grant for {asked.usage_point[:64]}")
        return found

    def _contracted(self, partner: Partner, asked: Compared) -> Offer:
        """The tariffs of the contracts in force when the period ends."""
        held = in_force(self.store, asked.usage_point, asked.to_utc - 1)
        seen = [(one.supplier, one.tariff) for one in held if self.rights.sees_offers(partner, one.supplier)]
        if not seen or len(seen) < len(held):
            raise QueryRefused("no contract in force there that you may see whole: state the Option present")
        return Offer(tuple(seen))

    def _bid(self, partner: Partner, offer: Offer) -> Bid:
        return Bid(offer.name, tuple(self._tariff(partner, *pair) for pair in offer.tariffs))

    def _tariff(self, partner: Partner, supplier: str, name: str) -> Tariff:
        """The newest version of a tariff."""
        found = self.store.documents(TARIFF, owner=supplier, id=name)
        if not found or not self.rights.sees_offers(partner, supplier):
            raise NotGranted(f"no grant for {supplier[:64]}/{name[:64]}")
        return tariff_messages.decode(found[0].document.content)

    def _offers(self, partner: Partner, asked: Compared, present: Bid) -> Iterator[Bid]:
        """Every tariff in force that the partner may see, each in the place of the present one of its kind."""
        for one in self.store.documents(TARIFF):
            tariff = tariff_messages.decode(one.document.content)
            if not tariff.in_force(asked.to_utc - 1) or not self.rights.sees_offers(partner, one.document.owner):
                continue
            beside = tuple(own for own in present.tariffs if {own.kind, tariff.kind} == {"energy", "distribution"})
            tariffs = (tariff, *beside)
            if set(tariffs) != set(present.tariffs):
                yield Bid(Offer(tuple((own.supplier, own.id) for own in tariffs)).name, tariffs)


def _holds_in(channel: Channel, asked: Compared) -> bool:
    """Tell whether a channel is valid at some time of a period."""
    ends = channel.valid_to_utc
    return channel.valid_from_utc < asked.to_utc and (ends is None or asked.from_utc < ends)
