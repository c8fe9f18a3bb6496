"""An office beside a running bus: a partner with a key, groups of IEDs, signed requests; and a device that fetches.

The bus is the installed program; partners, grants and groups are written by the store's own verbs, as the commands do
from a second process. Requests go over the wire.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from gridpost.server.store import SqlStore, open_store
from live_bus import Device, LiveBus, Wire, now_utc_ms
from lxml import etree

from gridpost import control_messages, exchange, messages, testing
from gridpost.controls import OUTCOME_EVENT, Control, Role, Wanted
from gridpost.model import EndDeviceEvent, Header
from gridpost.partners import Grant, Partner
from gridpost.requests import Mail

TENANT = "north"
SOAP_TYPE = {"Content-Type": "text/xml; charset=utf-8"}
LISTENING = {"http": "127.0.0.1:0"}  # the section [office] of a bus that offices can call
_numbers = itertools.count()


@dataclass
class Office:
    """A partner of a running bus, with a certificate of its own for signing."""

    bus: LiveBus
    partner: Partner
    signer: object
    store: SqlStore = field(repr=False)

    @classmethod
    def make(cls, bus: LiveBus, name: str = "NORTH", role: Role = Role.UTILITY) -> Office:
        """Make a partner known; the bus may run or not."""
        store = open_store(bus.folder / "gridpost.db", now_utc_ms)
        partner = Partner(name, name, role, TENANT)
        store.add_partner(partner)
        signer = testing.ThrowawayCA().issue_device(name)
        store.add_partner_certificate(name, signer.certificate, "signature")
        return cls(bus, partner, signer, store)

    def take_in(self, *serials: str) -> None:
        """Put IEDs into the office's tenant, and let it command them."""
        for serial in serials:
            self.store.set_tenants(serial, [TENANT])
        channels = [channel for serial in serials for channel in self.store.channels(serial)]
        self.store.give(*(Grant(self.partner.id, one.key.usage_point, "commands") for one in channels))

    def group(self, name: str, serials: Sequence[str]) -> None:
        self.store.set_group(TENANT, name, serials)

    @property
    def wire(self) -> Wire:
        address = next(one for one in self.bus.addresses if one.endswith("/utility"))
        return Wire(address.removesuffix("/utility"))

    def sealed(self, *wanted: Wanted) -> bytes:
        header = Header("create", "EndDeviceControls", now_utc_ms(), self.partner.id, f"ask-{next(_numbers)}")
        return exchange.seal(control_messages.encode_create_controls(header, wanted), self.signer, now_utc_ms())

    def ask(self, *wanted: Wanted):
        """Post a signed CreateEndDeviceControls; return (status, body)."""
        return self.wire.request("POST", "/utility", self.sealed(*wanted), SOAP_TYPE)[:2]

    def asked(self, *wanted: Wanted) -> list[str]:
        """Ask for what must be taken; return the mRIDs of its controls, in the order asked for."""
        status, body = self.ask(*wanted)
        assert status == 200, body
        return [one.control.mrid for want in wanted for one in self.store.tracked(self.partner.id, want.mrid)]

    def state(self, mrid: str) -> str:
        return self.store.control(mrid).state.value

    def mails(self) -> list[Mail]:
        return self.store.peek(self.partner.id, 10_000, after=0)

    def close(self) -> None:
        self.store.close()


def shed(name: str, *targets: str, group: str = "", **changes) -> Wanted:
    """A shed that is good for an hour."""
    given = {"output": "load", "expires_utc_ms": now_utc_ms() + 3_600_000} | changes
    return Wanted(name, given.pop("action", "shed"), targets, group, **given)


def fetch(device: Device, after: int = 0, wait_s: int = 0) -> bytes:
    """Return a sealed GetEndDeviceControls, to be posted."""
    header = Header("get", "EndDeviceControls", now_utc_ms(), device.serial, f"get-{next(_numbers)}")
    return device.seal(control_messages.encode_get_controls(header, after, wait_s))


def given(device: Device, body: bytes) -> Control | None:
    """Verify what a fetch was answered with, as a device does."""
    return exchange.open_control(body, exchange.Trust(device.ca)).control


def outcome(device: Device, control: Control, value: str, reason: str = "") -> bytes:
    """Return the payload of an outcome event, as the device's spool would keep it."""
    details = {"control": control.mrid, "counter": str(control.counter), "outcome": value, "outcomeReason": reason}
    stated = {name: text for name, text in details.items() if text}
    now = now_utc_ms()
    event = EndDeviceEvent(f"{control.mrid}-{value}", OUTCOME_EVENT, now, device.serial, reason, details=stated)
    return messages.encode(testing.events_message(device.serial, f"out-{next(_numbers)}", [event], now))


def content(mail: Mail):
    """Decode a mail's content, against the schema."""
    return messages.decode(etree.fromstring(mail.content))
