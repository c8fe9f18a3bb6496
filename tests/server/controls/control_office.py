"""An office behind the door of tests/server/conftest.py: partners, IEDs, commands recorded as entries of a partner."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count

from gridpost.server.config import Commands
from gridpost.server.controls.follower import Follower
from gridpost.server.controls.intake import Asked, Intake

from gridpost import testing
from gridpost.controls import Control, Role, State, Wanted
from gridpost.model import Entry, Rows
from gridpost.partners import Grant, Partner

TENANT = "north"
ANSWER_S = 7200
UTILITY = Partner("NORTH", "Northern Grid", Role.UTILITY, TENANT)
OPERATOR = Partner("OPS", "Control room", Role.OPERATOR, TENANT)
CUSTOMER = Partner("MILL", "The mill", Role.CUSTOMER, TENANT)


@dataclass
class Office:
    """A post office with partners UTILITY, OPERATOR, CUSTOMER and IEDs made by `ied`."""

    post: object
    commands: Commands = field(default_factory=Commands)
    numbers: count = field(default_factory=count)

    def __post_init__(self) -> None:
        self.store = self.post.store
        for partner in (UTILITY, OPERATOR, CUSTOMER):
            self.store.add_partner(partner)
        self.follower = Follower(self.store, "bus", ANSWER_S)

    def ied(self, serial: str, *channels):
        """Enrol an IED of the tenant; its one channel is of usage point ``UP-<serial>`` unless others are given."""
        signer = self.post.enrol(serial, channels or [testing.channel(meter=serial)])
        self.store.set_tenants(serial, [TENANT])
        return signer

    def grant(self, partner: Partner, usage_point: str, kind: str, from_utc: int = 0, to_utc: int | None = None):
        self.store.give(Grant(partner.id, usage_point, kind, from_utc, to_utc))

    @property
    def intake(self) -> Intake:
        return Intake(self.store, self.commands, self.post.clock)

    def wanted(self, tracking_id: str, *targets: str, **changes) -> Wanted:
        given = {"output": "load", "expires_utc_ms": self.post.now + 3_600_000} | changes
        return Wanted(tracking_id, given.pop("action", "shed"), targets, **given)

    def ask(self, *wanted: Wanted, issuer: Partner = UTILITY, counts: bool = True):
        """Judge and record a request; return its controls on file."""
        news = self.intake.judged(Asked(issuer, wanted, counts))
        return self.record(news, issuer)

    def record(self, news, issuer: Partner = UTILITY):
        number = next(self.numbers)
        digest = sha256(str(number).encode()).digest()
        entry = Entry(issuer.id, f"ask-{number}", "EndDeviceControls", "http", digest, self.post.now, None, "", b"<x/>")
        self.store.record(entry, Rows(controls=tuple(news)), lambda *_: b"receipt").result(timeout=30)
        tracked = dict.fromkeys(new.control.tracking_id for new in news)
        return [one for tracking_id in tracked for one in self.store.tracked(issuer.id, tracking_id)]

    def fetch(self, serial: str, after: int = 0) -> bytes | None:
        """What the store gives an IED: here the control's counter and mRID as JSON, not sealed."""
        job = self.store.fetch([(serial, after)], _plain, self.post.now)
        return job.result(timeout=30)[serial]

    def follow(self):
        return self.follower.step(self.post.now)

    def state(self, mrid: str) -> State:
        return self.store.control(mrid).state

    def mails(self, partner: Partner):
        return self.store.peek(partner.id, 1000, after=0)


def _plain(control: Control) -> bytes:
    return json.dumps([control.counter, control.mrid]).encode()
