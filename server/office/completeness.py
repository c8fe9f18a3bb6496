"""GetCompleteness: how many of the expected intervals of what a partner may read are there.

In: a call. Out: counts and gaps by channel, at one data version, as far as grants and the present moment go: what is
still to come is not missing. Only looks; a certificate is `gridpost completeness --certificate`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from gridpost.applications import completeness
from gridpost.applications.calendar import Period
from gridpost.completeness_messages import Counted, encode_completeness_reply
from gridpost.errors import QueryRefused
from gridpost.model import DataVersion
from gridpost.office_messages import reply_to
from gridpost.ports import ZoneOf
from gridpost.requests import GetCompleteness

from ..store import SqlStore
from .call import Call
from .readings import check_period, read_version, version_text
from .rights import Rights, View

MOST = 1_000_000  # expected intervals of one answer: some seconds of work


@dataclass(frozen=True, slots=True)
class CompletenessDesk:
    """The handler."""

    bus_id: str
    store: SqlStore
    rights: Rights
    zone_of: ZoneOf

    def look(self, call: Call) -> bytes:
        """Return the answer.

        Raises:
            NotGranted: see `rights.views`.
            QueryRefused: no period, one that is too long for so many channels, or a data version that is none.
        """
        assert isinstance(call.message, GetCompleteness)
        query, now_utc = call.message.query, call.now_utc_ms // 1000
        check_period(query)
        if not query.from_utc or not query.to_utc:
            raise QueryRefused("StartTime and EndTime are needed")
        at = read_version(query.at, self.store.version())
        until = [view._replace(to_utc=min(view.to_utc, now_utc)) for view in self.rights.views(call.partner, query)]
        views = [view for view in until if view.from_utc < view.to_utc and view.channel.interval_s]
        if sum((view.to_utc - view.from_utc) // view.channel.interval_s for view in views) > MOST:
            raise QueryRefused(f"more than {MOST:,} intervals: ask for a shorter period or fewer channels")
        found = [self._counted(view, at) for view in views]
        header = reply_to(call.header, self.bus_id, call.now_utc_ms)
        return encode_completeness_reply(header, found, version_text(at))

    def _counted(self, view: View, at: DataVersion) -> Counted:
        period = Period(view.from_utc, view.to_utc, self.zone_of(view.channel.zone))
        readings = self.store.readings(view.channel.id, view.from_utc, view.to_utc, at)
        return Counted(completeness.of_channel(readings, period), view.from_utc, view.to_utc)
