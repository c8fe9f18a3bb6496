"""A billing office: a bus's store with one metered customer, tariffs and contracts filed as a person files them.

March and April 2026, UTC, hourly readings sent by an enrolled device through the bus's own corridor.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import count, pairwise

import pytest
from gridpost.server import own, tasks
from gridpost.server.store import Task
from gridpost.server.zones import zone_of

from gridpost import contract as contracts
from gridpost import tariff_messages, testing
from gridpost.contract import Contract
from gridpost.errors import GridpostError
from gridpost.model import IntervalBlock, Quality
from gridpost.tariff import Schedule, Tariff, TariffProfile, Tier

MARCH, APRIL, MAY = 1_772_323_200, 1_775_001_600, 1_777_593_600  # 2026-03-01, 04-01, 05-01 00:00 UTC
HOUR, DAY = 3600, 86_400
HOURLY = "0.0.7.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
ALL_DAY = Schedule(((0,) * 24,) * 12, ((0,) * 24,) * 12)
EDITED, ESTIMATED = (Quality("2.7.1", "Ada"),), (Quality("2.8.1", "like days"),)
_numbers = count(1)


def flat(price="0.10", **changes):
    """A tariff of one price."""
    energy = TariffProfile(ALL_DAY, ((Tier(Decimal(price)),),))
    return replace(Tariff("T1", "S1", "One price", "EUR", "Etc/UTC", energy=energy), **changes)


PLAIN = Contract("C1", "Ann", "UP1", (), "S1", "T1", "both", MARCH, None, "Etc/UTC")


@dataclass
class Office:
    """What a person, and one device, do at a bus."""

    post: object
    signer: object
    channel: object
    sent: list[bytes] = field(default_factory=list)

    @property
    def store(self):
        return self.post.store

    @property
    def bench(self):
        return own.Bench(self.store, self.post.signer, "bus", self.post.clock, zone_of, None)

    def do(self, kind, person="Ada", **args):
        """A task, done; returns its outcome or raises what refused it."""
        one = Task(f"task-{next(_numbers)}", kind, "{}", person, self.post.now)
        self.post.now += 1000
        return tasks.KINDS[kind](self.bench, args, person, one.id)

    def add(self, *tariffs):
        return self.do("tariffs", tariffs=[tariff_messages.encode(one) for one in tariffs])

    def sign(self, one=PLAIN):
        return self.do("contract", contract=contracts.encode(one))

    def bill(self, contract="C1", begins=MARCH, ends=APRIL, allow=(), name="C1-2026-03"):
        return self.do("bill", id=name, contract=contract, from_utc=begins, to_utc=ends, allow=list(allow))

    def correct(self, name="C1-2026-03", allow=()):
        return self.do("bill-correction", bill=name, allow=list(allow))

    def send(self, first_end, values, qualities=()):
        """Readings of the device, a message of its own."""
        self.post.now += 1000
        ends = tuple(first_end + HOUR * place for place in range(len(values)))
        block = IntervalBlock(self.channel.key, HOUR, ends, tuple(values), (tuple(qualities),) * len(values))
        message = testing.readings_message("IED-1", f"m-{next(_numbers)}", [block], self.post.now)
        raw = testing.sealed(message, self.signer, self.post.now)
        reply = self.post.receive(raw)
        assert reply.status == 200, reply.body
        self.sent.append(raw)

    def month(self, begins=MARCH, ends=APRIL, value="1.5", but=()):
        """A month of one value, a message a week, without the hours that end at `but`."""
        edges = sorted({*range(begins, ends, 7 * DAY), *(end - HOUR for end in but), *but, ends})
        for first, last in pairwise(edges):
            if last not in but:
                self.send(first + HOUR, [value] * ((last - first) // HOUR))


def refused(function, *args, **named):
    """The error that a call raises."""
    with pytest.raises(GridpostError) as told:
        function(*args, **named)
    return told.value
