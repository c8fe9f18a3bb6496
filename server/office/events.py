"""GetEndDeviceEvents: what devices told of themselves, as far as the grant `events` reaches.

In: a query of a partner. Out: a page of events in order of time, and what the next request must state to go on. An
event is shown when it concerns a meter of a granted usage point at that moment and the device that then spoke for the
meter sent it; so no device can put an event into another tenant's view. The limit bounds what is held in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from gridpost.errors import QueryRefused
from gridpost.model import Channel, EndDeviceEvent
from gridpost.partners import Grant, Partner
from gridpost.requests import Query

from ..store import SqlStore, StoredEvent, page_of
from .readings import check_period, read_version, version_text
from .rights import ANY_TIME, Rights

LOOKS = 20  # at the store for one page; events that the grants do not cover are passed over


class EventPage(NamedTuple):
    """A page of events; as `readings.Page`."""

    events: tuple[EndDeviceEvent, ...]
    next_page: str
    at: str


@dataclass(frozen=True, slots=True)
class EventsDesk:
    """Answers queries for events; `most`: events of a page."""

    store: SqlStore
    rights: Rights
    most: int

    def page(self, partner: Partner, query: Query) -> EventPage:
        """Return a page of what a partner may see of a query.

        Raises:
            NotGranted: it names a usage point or meter without the grant.
            QueryRefused: page, period or data version cannot be used.
        """
        check_period(query)
        after, _, stated = query.page.partition("@")
        if query.page and (query.at not in ("", stated) or not _is_page(after)):
            raise QueryRefused("page is not what an answer's nextPage said, or of another data version")
        at = read_version(stated or query.at, self.store.version())
        granted: dict[str, list[tuple[Channel, Grant]]] = {}
        for channel, grant in self.rights.channels(partner, "GetEndDeviceEvents", query):
            granted.setdefault(channel.key.meter, []).append((channel, grant))
        period = (query.from_utc * 1000, (query.to_utc or ANY_TIME // 1000) * 1000)
        limit = min(query.limit or self.most, self.most)
        shown: list[EndDeviceEvent] = []
        for _ in range(LOOKS if granted else 0):
            found = self.store.events(sorted(granted), period, at, limit - len(shown), after)
            shown += [one.event for one in found if self._is_seen(one, granted)]
            if not found:
                return EventPage(tuple(shown), "", version_text(at))
            after = page_of(found[-1])
            if len(shown) >= limit:
                break
        next_page = f"{after}@{version_text(at)}" if granted else ""
        return EventPage(tuple(shown), next_page, version_text(at))

    def _is_seen(self, one: StoredEvent, granted: dict[str, list[tuple[Channel, Grant]]]) -> bool:
        at_utc = one.event.created_utc_ms // 1000
        pairs = granted.get(one.event.asset, ())
        held = any(grant.holds_at(at_utc) and channel.holds_at(at_utc) for channel, grant in pairs)
        return held and one.sender in self.store.ieds_of(one.event.asset, at_utc)


def _is_page(text: str) -> bool:
    parts = text.split(":")
    return len(parts) == 4 and all(part.isascii() and part.isdecimal() and len(part) <= 18 for part in parts)
