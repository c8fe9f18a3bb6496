"""Alarms: what somebody should look at, although every message was dealt with rightly.

In: a code and plain values. Out: a line in the audit log each, and counts for `gridpost status`. Here too is what is
remembered of senders to notice a copied device (`Watch`). Nothing here refuses anything.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gridpost.errors import CertificateNotAccepted, FactorFailed, KeyReplaced, MessageIdReused, RightMissing

from .audit import Audit

# Refusals of genuine senders that may mean a copied key or device (F15).
ALARMING = frozenset(
    leaf.code for leaf in (MessageIdReused, CertificateNotAccepted, KeyReplaced, RightMissing, FactorFailed)
)
LATE = "sequence-backwards"  # a note, no alarm: late messages are lawful (decision 19)
WATCHED = 20_000  # senders remembered: those heard of last
AT_ONCE_MS = 15 * 60_000  # two networks, or two keys, taking turns within this time are there at once
_IPV4_NETWORK, _IPV6_NETWORK = 16, 32  # what one access network mostly hands out from


class Alarms:
    """Raises alarms and counts them."""

    def __init__(self, audit: Audit) -> None:
        """Nothing was raised."""
        self._audit = audit
        self._counted: Counter[str] = Counter()

    def __call__(self, code: str, /, **values: str | int | None) -> None:
        """Raise an alarm."""
        self._counted[code] += 1
        self._audit.event("alarm", code=code, **values)

    def take(self) -> Mapping[str, int]:
        """Return the counts since the last call."""
        taken, self._counted = self._counted, Counter()
        return taken


def forget_first(kept: dict[Any, Any], most: int) -> None:
    """Drop the entry made first once there are more than `most`: what is remembered must not grow for ever."""
    if len(kept) > most:
        del kept[next(iter(kept))]


@dataclass(slots=True)
class _Turns:
    """Which of several a sender used last, and the one before it, with when it was last heard."""

    last: object
    before: object = None
    before_ms: int = 0

    def is_back(self, used: object, now_ms: int, last_ms: int) -> bool:
        """Note which one is used now; tell whether it is the one before, back within `AT_ONCE_MS`."""
        if used == self.last:
            return False
        back = used == self.before and now_ms - self.before_ms <= AT_ONCE_MS
        self.before, self.before_ms, self.last = self.last, last_ms, used
        return back


@dataclass(slots=True)
class _Seen:
    """A sender, as of its last new message."""

    certificate: bytes
    host: str
    sequence: int
    at_ms: int
    keys: _Turns
    networks: _Turns


class Watch:
    """What this process remembers of senders; each message costs it a look into a dictionary (F15)."""

    def __init__(self) -> None:
        """Nobody was seen."""
        self._seen: dict[str, _Seen] = {}

    def noticed(self, sender: str, certificate: bytes, peer: str, sequence: int | None, now_ms: int) -> Sequence[str]:
        """Note a new message; return what is strange: ``keys-at-once``, ``networks-at-once``, ``sequence-backwards``.

        The first two are alarms: a key or a network that a sender had left is back while the other is still in use.
        The last is a note: late messages are lawful.
        """
        host, number = peer.rpartition(":")[0], -1 if sequence is None else sequence
        seen = self._seen.get(sender)
        if seen is None:
            self._seen[sender] = _Seen(certificate, host, number, now_ms, _Turns(certificate), _Turns(_network(host)))
            forget_first(self._seen, WATCHED)
            return ()
        strange: list[str] = []
        if seen.certificate != certificate and seen.keys.is_back(certificate, now_ms, seen.at_ms):
            strange.append("keys-at-once")
        if seen.host != host and seen.networks.is_back(_network(host), now_ms, seen.at_ms):
            strange.append("networks-at-once")
        if 0 <= number < seen.sequence:
            strange.append(LATE)
        seen.certificate, seen.host, seen.at_ms = certificate, host, now_ms
        seen.sequence = max(number, seen.sequence)
        return strange


def _network(host: str) -> str:
    """Return what one access network is taken to be; the text itself for what is no address."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host
    length = _IPV4_NETWORK if address.version == 4 else _IPV6_NETWORK
    return str(ipaddress.ip_network((address, length), strict=False))
