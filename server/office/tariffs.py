"""CreateTariff, ChangeTariff, GetTariff: what suppliers offer.

In: a call. Out: the receipt of the offer, or the tariffs that a partner may see. A tariff was checked while it was read
(`tariff_messages`); here it is held against who sent it and what is on file. It is a row of the supplier's own signed
message, kept for ever: a refused one leaves what is on file in force. Pages as in `paging`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gridpost import supply_messages
from gridpost.documents import TARIFF
from gridpost.errors import AlreadyExists, Item, NotFound, NotGranted, TariffRefused
from gridpost.model import Rows
from gridpost.office_messages import encode_ok_reply, reply_to
from gridpost.partners import Partner
from gridpost.ports import StoredDocument, ZoneOf
from gridpost.supply import ChangeTariff, CreateTariff, GetTariff, Sought
from gridpost.tariff import Tariff

from ..soap import Answer
from ..store import SqlStore
from .call import Aside, Call
from .entries import Entries
from .rights import Rights

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TariffDesk:
    """The handlers; `most`: tariffs of one answer; `aside` runs what asks the store off the reactor."""

    bus_id: str
    store: SqlStore
    rights: Rights
    entries: Entries
    most: int
    aside: Aside
    zone_of: ZoneOf

    async def offer(self, call: Call) -> Answer:
        """CreateTariff: of an id that is new."""
        assert isinstance(call.message, CreateTariff)
        tariff = call.message.tariff
        if await self.aside(lambda: self._judged(call.partner, tariff)):
            raise AlreadyExists(f"tariff {tariff.id[:64]} is on offer: send its next version as ChangeTariff")
        return await self._kept(call)

    async def revise(self, call: Call) -> Answer:
        """ChangeTariff: of an id that is on file."""
        assert isinstance(call.message, ChangeTariff)
        tariff = call.message.tariff
        if not await self.aside(lambda: self._judged(call.partner, tariff)):
            raise NotFound(f"there is no tariff {tariff.id[:64]} of yours: offer it as CreateTariff")
        return await self._kept(call)

    def look(self, call: Call) -> bytes:
        """GetTariff: the newest versions of those a partner may see."""
        assert isinstance(call.message, GetTariff)
        sought = call.message.sought
        seen = [
            one for one in self.store.documents(TARIFF) if self.rights.sees_offers(call.partner, one.document.owner)
        ]
        check_named(sought.suppliers, (one.document.owner for one in seen))
        check_named(sought.ids, (one.document.id for one in seen))
        fitting = [one for one in seen if is_sought(one, sought)]
        shown, page = paging(fitting, key_of, sought, self.most)
        header = reply_to(call.header, self.bus_id, call.now_utc_ms)
        return supply_messages.encode_tariffs_reply(header, [one.document.content for one in shown], page)

    def _judged(self, partner: Partner, tariff: Tariff) -> bool:
        """Tell whether a tariff of that id is on file.

        Raises:
            TariffRefused: it is not the sender's, or in no zone.
        """
        if tariff.supplier != partner.id:
            raise _refused("supplier", f"{tariff.supplier[:64]} is not {partner.id}, who sent this")
        try:
            self.zone_of(tariff.zone)
        except NotFound as unknown:
            raise _refused("zone", unknown.reason) from None
        return bool(self.store.documents(TARIFF, owner=partner.id, id=tariff.id))

    async def _kept(self, call: Call) -> Answer:
        header = reply_to(call.header, self.bus_id, call.now_utc_ms)
        rows = Rows(documents=supply_messages.documents_of(call.message))
        return await self.entries.record(call, rows, lambda receipt: encode_ok_reply("Tariff", header, receipt))


def _refused(place: str, reason: str) -> TariffRefused:
    return TariffRefused(f"{place}: {reason}", items=[Item("bad-tariff", reason, place)])


# --- what the desks of supply share ----------------------------------------------------------------------------------


def key_of(one: StoredDocument) -> str:
    """Return what documents of one kind are ordered by, and pages named by."""
    return f"{one.document.owner}/{one.document.id}"


def is_sought(one: StoredDocument, sought: Sought) -> bool:
    """Tell whether a document is asked for."""
    document = one.document
    pairs = ((sought.ids, document.id), (sought.suppliers, document.owner), (sought.usage_points, document.subject))
    return all(not names or name in names for names, name in pairs)


def check_named(asked: Iterable[str], seen: Iterable[str]) -> None:
    """Hold names asked for against those a partner may see.

    Raises:
        NotGranted: naming the first that is not among them, whether it exists or not.
    """
    known = frozenset(seen)
    unknown = next((name for name in asked if name not in known), None)
    if unknown is not None:
        raise NotGranted(f"no grant for {unknown[:64]}")


def paging(found: Sequence[T], key: Callable[[T], str], sought: Sought, most: int) -> tuple[Sequence[T], str]:
    """Return a page, ordered by key, and what the next one is called; empty: this is the last."""
    limit = min(sought.limit or most, most)
    ordered = sorted((one for one in found if key(one) > sought.page), key=key)
    return ordered[:limit], key(ordered[limit - 1]) if len(ordered) > limit else ""
