"""What must be told or made in time: ends of certificates, lists of revoked certificates, of ours and of foreign CAs.

In: the store, the device CA, certificates of this bus, the moment. Out: events for the audit log, and a new list when
one is due. Each end is told once a step (60, 30, 7 days, and when it is there), also over restarts: the store keeps the
step. One process of all does this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gridpost.ports import Signer

from . import crl
from .config import Config, Trust
from .enrolment import DeviceCA, ends_utc_ms
from .identity import load_certificates
from .store import Crl, SqlStore

DAY_MS = 86_400_000
STEPS = (0, 7, 30, 60)  # days before the end; 0: it is there
BATCH = 500
OWN_USES = ("bus", "bus-rsa")  # as `identity.load_certificates` returns them


class Event(NamedTuple):
    """A line of the audit log."""

    name: str
    values: Mapping[str, str | int]


class Own(NamedTuple):
    """A certificate of this bus, and what it is for: ``bus``, ``bus-rsa``, ``https``, ``ca``."""

    use: str
    der: bytes


@dataclass(frozen=True, slots=True)
class TrustKeeper:
    """Looks every minute."""

    store: SqlStore
    ca: DeviceCA
    owns: Sequence[Own]
    terms: Trust

    def step(self, now_utc_ms: int) -> list[Event]:
        """Do what is due; may wait for the disk."""
        return [*self._list(now_utc_ms), *self._own_ends(now_utc_ms), *self._ends(now_utc_ms), *self._stale(now_utc_ms)]

    def _list(self, now_utc_ms: int) -> Iterator[Event]:
        if self.store.is_crl_due():
            made = issue(self.store, self.ca, now_utc_ms, self.terms.crl_days)
            yield Event("crl-issued", {"number": made.number})

    def _own_ends(self, now_utc_ms: int) -> Iterator[Event]:
        for own in self.owns:
            digest, left_ms = sha256(own.der).digest(), ends_utc_ms(own.der) - now_utc_ms
            if self._tell(digest, step := step_of(left_ms)):
                yield Event("certificate-expires", {"use": own.use, "days": max(0, left_ms // DAY_MS), "step": step})

    def _ends(self, now_utc_ms: int) -> Iterator[Event]:
        found = self.store.untold({days: now_utc_ms + days * DAY_MS for days in STEPS}, BATCH)
        told = {one.sha256: step_of(one.not_after_utc_ms - now_utc_ms) for one in found}
        self.store.note_told(told)
        for one in found:
            left = max(0, (one.not_after_utc_ms - now_utc_ms) // DAY_MS)
            whose = {"use": "device", "serial": one.serial, "certificate": one.sha256.hex()}
            yield Event("certificate-expires", {**whose, "days": left, "step": told[one.sha256]})

    def _stale(self, now_utc_ms: int) -> Iterator[Event]:
        for one in self.store.crls():
            if not one.own and one.next_update_utc_ms < now_utc_ms and self._tell(sha256(one.der).digest(), 0):
                yield Event("crl-stale", {"ca": one.issuer_sha256.hex(), "number": one.number})

    def _tell(self, digest: bytes, step: int) -> bool:
        """Tell whether that step was not told yet, and note that it is."""
        told = self.store.told_days(digest)
        if step > STEPS[-1] or (told is not None and told <= step):
            return False
        self.store.note_told({digest: step})
        return True


def own_certificates(config: Config, signer: Signer, ca: DeviceCA) -> list[Own]:
    """Return the certificates of this bus whose end somebody must hear of in time."""
    owns = [Own("bus", signer.certificate), Own("ca", ca.der)]
    owns += [Own(OWN_USES[1], der) for der in load_certificates(config)[1:]]
    for use, section in (("https", config.listen), ("office", config.office)):
        if not section.https:
            continue
        with suppress(OSError, ValueError):  # the listener itself says that its certificate cannot be read
            pem = config.path(section.tls_certificate).read_bytes()
            leaf, *_ = x509.load_pem_x509_certificates(pem)
            owns.append(Own(use, leaf.public_bytes(serialization.Encoding.DER)))
    return owns


def step_of(left_ms: int) -> int:
    """Return the step a certificate has reached with so much time left; 61 for none."""
    return next((days for days in STEPS if left_ms < days * DAY_MS), STEPS[-1] + 1)


def issue(store: SqlStore, ca: DeviceCA, now_utc_ms: int, days: int) -> Crl:
    """Make the device CA's next list and keep it.

    Raises:
        StoreUnavailable: it was not kept.
    """
    return store.issue_crl(lambda number, revoked: crl.make(ca, number, revoked, (now_utc_ms, days)))
