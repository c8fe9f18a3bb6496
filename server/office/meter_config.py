"""GetMeterConfig, CreateMeterConfig, ChangeMeterConfig: which meters there are, and what each measures.

In: a call. Out: the meters a partner may see, or that what it asked was done. Enrolling an IED itself stays the
operator's (`gridpost ied add`): a partner of the staff adds meters and channels to IEDs of its tenant, or ends them.
The signed request is an entry of the log, because readings are judged by it (decision 9); the change itself is made
first and making it again changes nothing, so a message sent again after a crash goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gridpost.errors import AlreadyExists, NotGranted
from gridpost.model import Channel, Receipt, Rows
from gridpost.office_messages import encode_meter_config_reply, reply_to
from gridpost.partners import Grant
from gridpost.requests import ChangeMeterConfig, CreateMeterConfig, GetMeterConfig, MeterConfig

from ..soap import Answer
from ..store import SqlStore
from .call import Aside, Call
from .entries import Entries
from .rights import READINGS, Rights, kind


@dataclass(frozen=True, slots=True)
class MeterConfigDesk:
    """The handlers; `most`: meters of one answer; `aside` runs what asks or changes the store off the reactor."""

    bus_id: str
    store: SqlStore
    rights: Rights
    entries: Entries
    most: int
    aside: Aside

    def look(self, call: Call) -> bytes:
        """Return the meters that a partner has a grant for, with the channels whose kind is granted, by meter."""
        assert isinstance(call.message, GetMeterConfig)
        query, now_utc = call.message.query, call.now_utc_ms // 1000
        by_meter: dict[str, list[tuple[Channel, Grant]]] = {}
        for channel, grant in self.rights.channels(call.partner, call.operation, query):
            by_meter.setdefault(channel.key.meter, []).append((channel, grant))
        limit = min(query.limit or self.most, self.most)
        names = [name for name in sorted(by_meter) if name > query.page]
        shown = [self._config(call, by_meter[name], now_utc) for name in names[:limit]]
        page = names[limit - 1] if len(names) > limit else ""
        return encode_meter_config_reply(reply_to(call.header, self.bus_id, call.now_utc_ms), shown, page)

    async def create(self, call: Call) -> Answer:
        """Add meters and channels to IEDs of the partner's tenant."""
        assert isinstance(call.message, CreateMeterConfig)
        return await self._done(call, call.message.configs)

    async def change(self, call: Call) -> Answer:
        """Add channels, or end those whose end is stated."""
        assert isinstance(call.message, ChangeMeterConfig)
        return await self._done(call, call.message.configs)

    async def _done(self, call: Call, configs: Sequence[MeterConfig]) -> Answer:
        await self.aside(lambda: self._put(call, configs))

        def encode(receipt: Receipt) -> bytes:
            header = reply_to(call.header, self.bus_id, receipt.recorded_at_utc_ms)
            return encode_meter_config_reply(header, configs, receipt=receipt)

        return await self.entries.record(call, Rows(), encode)

    def _put(self, call: Call, configs: Sequence[MeterConfig]) -> None:
        changes = [(self._serial(call, one), one.channels) for one in configs]
        try:
            self.store.put_channels(changes)
        except AlreadyExists as error:
            # Whose it is may be another tenant's business.
            raise NotGranted("a channel of it is another device's", detail=error.reason) from None

    def _serial(self, call: Call, config: MeterConfig) -> str:
        """The IED that a configuration is for: the one it names, else the one that speaks for the meter now.

        Raises:
            NotGranted: there is none in the partner's tenant, or it is in another one too.
        """
        named = (config.ied,) if config.ied else self.store.ieds_of(config.meter, call.now_utc_ms // 1000)
        found = [serial for serial in named if self.store.tenants(serial) == (call.partner.tenant,)]
        if len(found) != 1:
            raise NotGranted(f"no device of this tenant for meter {config.meter[:64]}")
        return found[0]

    def _config(self, call: Call, pairs: Sequence[tuple[Channel, Grant]], now_utc: int) -> MeterConfig:
        key = pairs[0][0].key
        serials = [
            one for one in self.store.ieds_of(key.meter, now_utc) if call.partner.tenant in self.store.tenants(one)
        ]
        return MeterConfig(key.meter, key.usage_point, next(iter(serials), ""), tuple(_seen(pairs)))


def _seen(pairs: Sequence[tuple[Channel, Grant]]) -> Iterator[Channel]:
    """The channels whose own kind is granted for some time of their life, each once."""
    known: set[int] = set()
    for channel, grant in pairs:
        begins, ends = max(channel.valid_from_utc, grant.from_utc), _end(channel.valid_to_utc, grant.to_utc)
        held = ends is None or begins < ends
        if grant.kind in READINGS and grant.kind == kind(channel) and held and channel.id not in known:
            known.add(channel.id)
            yield channel


def _end(one: int | None, other: int | None) -> int | None:
    ends = [end for end in (one, other) if end is not None]
    return min(ends) if ends else None
