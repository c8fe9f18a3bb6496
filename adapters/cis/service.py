"""A partner's service as a delivery, whatever of ours its WSDL knows: IEC 61968-100 as it is, or MultiSpeak.

In: a stable name and a Body's child of IEC 61968-100 (or a MultiSpeak notification). Out: the call, or the calls, that
say the same to this partner. What a partner speaks is read from its own WSDL, not configured: an operation for the very
message, else those of MultiSpeak 3.0ac, else of 4.1.6. The notifications of one message have its name with a number, so
that each can be told from its repeat.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from gridpost import messages, ns
from gridpost.controls import DETAIL_REASON
from gridpost.envelope import Limits, parse
from gridpost.errors import PartnerRefused
from gridpost.model import CreatedEndDeviceEvents, CreatedMeterReadings, EndDeviceEvent, Readings

from ..soap_call import Operation, Partner, SoapCall, Wrap, plain
from .answers import Credentials, judged, wrapping
from .notifications import Notification, interval_data, meter_events, reading_changed, state_changed, switched
from .tables import Version

_SEALED = ns.q(ns.ENCRYPTED_READINGS, "SealedReadings")
_SWITCH = "CDStateChangedNotification"
# A message of IEC 61968-100 -> the notifications of MultiSpeak that together say it.
_SAID: Mapping[str, tuple[str, ...]] = {
    ns.q(ns.METER_READINGS_MESSAGE, "CreatedMeterReadings"): ("IntervalDataNotification", "ReadingChangedNotification"),
    ns.q(ns.END_DEVICE_EVENTS_MESSAGE, "CreatedEndDeviceEvents"): ("MeterEventNotification",),
}


Known = Callable[[], tuple[str, str, str]]


def nobody() -> tuple[str, str, str]:
    """Return the credentials of a caller that states none."""
    return "", "", ""


class PartnerService(SoapCall):
    """Delivery to a partner's service; entry point ``soap`` of the group ``gridpost.deliveries``."""

    def __init__(
        self,
        wsdl: str,
        endpoint: str = "",
        wrap: Wrap = plain,
        timeout_s: int = 30,
        access: tuple[Known, str] = (nobody, ""),
    ) -> None:
        """Name a partner.

        Args:
            wsdl: where the partner's description lies, a path or an address.
            endpoint: its registered address; empty: the one in the description.
            wrap: makes an envelope of what is not translated: a seal for 61968-100, `answers.wrapping` for MultiSpeak.
            timeout_s: for a whole call.
            access: what returns user, password and company that a MultiSpeak header states where a message is
                translated, asked at each call, so that a changed password counts at once; and the file of certificates
                that may vouch for the partner's HTTPS, empty: those the machine trusts.
        """
        credentials, ca = access
        super().__init__(Partner(wsdl, endpoint, judged, wrap, timeout_s, ca))

        def spoken(version: Version, name: str, body: bytes) -> bytes:
            return wrapping(version, Credentials(*credentials()), _now)(name, body)

        self._spoken = {
            version: SoapCall(Partner(wsdl, endpoint, judged, partial(spoken, version), timeout_s, ca))
            for version in Version
        }

    def deliver(self, name: str, content: bytes) -> str:
        """See `SoapCall.deliver`; a message that the WSDL does not know is translated to MultiSpeak if it knows that.

        Raises:
            PartnerRefused, PartnerUnreachable: see `SoapCall.deliver`.
            CannotRepresent: MultiSpeak has no way to say this.
        """
        tag = str(parse(content, Limits().raised(len(content))).tag)
        if tag == _SEALED:
            return self._as_sealed(name, content)
        known = self.takes()
        version = _speaks(known)
        if tag in known or version is None:
            return super().deliver(name, content)
        place = ""
        has_switches = f"{{{version}}}{_SWITCH}" in known
        for number, notification in enumerate(translated(content, version, switches=has_switches), 1):
            place = self._spoken[version].deliver(f"{name}.{number}", notification.content)
        return place

    def _as_sealed(self, name: str, content: bytes) -> str:
        """Send on what a device sealed for several readers, octet by octet, to a service that knows such messages."""
        raw = base64.b64decode(parse(content, Limits().raised(len(content))).text or "")
        (payload,) = parse(raw, Limits().raised(len(raw))).iterfind(f"{ns.q(ns.SOAP11, 'Body')}/*")
        return self.carry(name, payload, raw)

    def lacks(self, tags: Sequence[str]) -> list[str]:
        """Return which of our pushes the description has no room for, translated or not.

        Args:
            tags: names of the Body's child: CreatedMeterReadings, CreatedEndDeviceEvents.

        Raises:
            PartnerUnreachable: the description cannot be read now.
        """
        known = self.takes()
        version = _speaks(known)
        return [
            tag for tag in tags
            if tag not in known and not (version and all(f"{{{version}}}{name}" in known for name in _SAID[tag]))
        ]  # fmt: skip


def _speaks(known: Mapping[str, Operation]) -> Version | None:
    return next((one for one in Version if f"{{{one}}}MeterEventNotification" in known), None)


def translated(content: bytes, version: Version, *, switches: bool = True) -> Iterator[Notification]:
    """Yield the notifications that say what a message of IEC 61968-100 says.

    Args:
        content: the Body's child.
        version: whose notifications.
        switches: what became of a switch is a CDStateChangedNotification each; else a meter event like all others.

    Raises:
        PartnerRefused: a message that MultiSpeak has nothing for.
    """
    message = messages.decode(parse(content, Limits().raised(len(content))))
    if isinstance(message, CreatedMeterReadings):
        readings, header = message.readings, message.header
        transaction = header.correlation_id or header.message_id  # of an answer the one that was asked with
        if readings.blocks:
            yield interval_data(Readings(readings.blocks), version, transaction)
        if readings.registers:
            yield reading_changed(readings.registers, version, transaction)
    elif isinstance(message, CreatedEndDeviceEvents):
        yield from _of_events(message.events, version, switches)
    else:
        raise PartnerRefused(f"MultiSpeak has no notification for {message.header.noun}")


def _of_events(events: Sequence[EndDeviceEvent], version: Version, switches: bool) -> Iterator[Notification]:
    moved = [(event, where) for event in events if switches and (where := switched(event))]
    others = [event for event in events if not (switches and switched(event))]
    if others:
        yield meter_events(others, version)
    for event, where in moved:
        yield state_changed(*where, version, event.details.get(DETAIL_REASON, "") or event.reason)


def _now() -> int:
    return time.time_ns() // 1_000_000
