"""A customer in a real store: an IED that pushes quarter hours, contracts, tariffs, and what the bus makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from types import SimpleNamespace

from gridpost.server import own
from gridpost.server.choice.policies import Watch
from gridpost.server.choice.watching import Watcher
from gridpost.server.config import Commands
from gridpost.server.zones import zone_of

from gridpost import contract, tariff_messages, testing
from gridpost.applications.determinants import Metered
from gridpost.contract import Contract
from gridpost.documents import Document
from gridpost.model import Channel
from gridpost.tariff import Schedule, Tariff, TariffProfile, Tier

MIDNIGHT = 1_767_225_600  # 2026-01-01T00:00:00Z: now
CHANNEL = testing.channel(1, "M1")
FLAT = ((0,) * 24,) * 12


def tariff(supplier: str, price: str, **terms) -> Tariff:
    """A tariff of one price a kWh, or of `day` between 06:00 and 18:00."""
    day = terms.pop("day", None)
    grid = (tuple(int(6 <= hour < 18) for hour in range(24)),) * 12 if day else FLAT
    prices = (price, day) if day else (price,)
    periods = tuple((Tier(Decimal(one)),) for one in prices)
    named = {"id": f"{supplier}-T", "supplier": supplier, "name": f"{supplier}'s", "currency": "EUR", "zone": "Etc/UTC"}
    return Tariff(**named | {"energy": TariffProfile(Schedule(grid, grid), periods)} | terms)


@dataclass
class CustomerPlace:
    """`push` readings, put `contract` and `tariff` documents, `step` the watcher."""

    post: object
    channel: Channel = CHANNEL
    commands: Commands = field(default_factory=Commands)
    numbers: count = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.store = self.post.store
        self.signer = self.post.enrol("IED-1", [self.channel])

    @property
    def bench(self) -> own.Bench:
        config = SimpleNamespace(commands=self.commands)
        return own.Bench(self.store, self.post.signer, "bus", self.post.clock, zone_of, config)

    def push(self, first_end_utc: int, *values: str) -> None:
        """The IED pushes quarter hours; the clock goes on to their end where it is not there yet."""
        block = testing.block(self.channel, first_end_utc, values)
        self.post.now = max(self.post.now, block.ends_utc[-1] * 1000)
        message = testing.readings_message("IED-1", f"m-{next(self.numbers)}", [block])
        assert self.post.receive(testing.sealed(message, self.signer, self.post.now)).status == 200

    def put(self, *documents: Document) -> None:
        own.record_documents(self.bench, f"doc-{next(self.numbers)}", "Ada", documents)

    def offer(self, *tariffs: Tariff) -> None:
        self.put(*(Document("tariff", one.id, one.supplier, "", one.valid_from_utc, one.valid_to_utc,
                            tariff_messages.encode(one)) for one in tariffs))  # fmt: skip

    def contract(self, supplier: str, kind: str = "both", number: str = "C-1", **changes) -> None:
        """A contract in force since a month ago."""
        named = {"id": number, "customer": "Mill", "usage_point": self.channel.key.usage_point, "supplier": supplier,
                 "channels": (Metered(self.channel.key.stream),), "tariff": f"{supplier}-T",
                 "kind": kind, "from_utc": MIDNIGHT - 31 * 86_400, "to_utc": None, "zone": "Etc/UTC"}  # fmt: skip
        made = Contract(**named | changes)
        self.put(Document("contract", made.id, made.supplier, made.usage_point, made.from_utc, made.to_utc,
                          contract.encode(made)))  # fmt: skip

    def watcher(self, **watch) -> Watcher:
        return Watcher(self.bench, [Watch(**{"contract": "C-1", "device": "IED-1"} | watch)])

    def events(self):
        """Events of the meter, in order of time."""
        found = self.store.events([self.channel.key.meter], (0, 1 << 50), self.store.version(), 100)
        return [one.event for one in found]

    def controls(self):
        return self.store.controls(issuer="bus")
