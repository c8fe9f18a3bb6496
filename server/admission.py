"""What a new message must satisfy beyond its signature: its key's rights and end, its CA's list, its IED's factors.

In: a verified, decoded, *new* message; a key without conditions (`gridpost/conditions.py`) passes at once. Out:
nothing, or a refusal that is signed like any other. A repeat never comes here (decision 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from gridpost.conditions import RIGHT_OF_NOUN
from gridpost.errors import FactorFailed, Item, KeyReplaced, OutsideHours, RevocationUnknown, RightMissing
from gridpost.model import Enrolment, Header, Opened

from .alarms import Alarms
from .factors import FACTORS, Evidence, factor

_TOLD = 10_000


class Admission:
    """Judges; `on_stale` is the setting trust.stale_crl."""

    def __init__(self, alarms: Alarms, on_stale: str) -> None:
        """Lives as long as the bus."""
        self._alarms, self._on_stale = alarms, on_stale
        self._told: set[tuple[str, int]] = set()

    def judge(self, opened: Opened, enrolment: Enrolment, peer: str, now_utc_ms: int) -> None:
        """Let a message pass.

        Raises:
            KeyReplaced, RevocationUnknown, RightMissing, OutsideHours, FactorFailed: see errors.py.
        """
        conditions = enrolment.conditions
        if conditions is None:
            return
        if conditions.ends_at_utc_ms is not None and conditions.ends_at_utc_ms <= now_utc_ms:
            raise KeyReplaced(detail=f"key {sha256(enrolment.certificate).hexdigest()} ended")
        if conditions.crl_due_utc_ms is not None and conditions.crl_due_utc_ms < now_utc_ms:
            self._stale(enrolment.sender, conditions.crl_due_utc_ms)
        right = RIGHT_OF_NOUN[opened.message.header.noun]
        if not conditions.allows(right):
            raise RightMissing(f"this key has no right to send {right}")
        if conditions.factors:
            digest = sha256(enrolment.certificate).digest()
            _judge_factors(conditions.factors, Evidence(digest, said(opened.message.header), peer, now_utc_ms))

    def _stale(self, sender: str, due_utc_ms: int) -> None:
        if self._on_stale == "refuse":
            raise RevocationUnknown(detail=f"the list of {sender}'s CA is out of date")
        if (sender, due_utc_ms) in self._told:  # once a sender and list; a busy device would fill the log with it
            return
        if len(self._told) >= _TOLD:
            self._told.clear()
        self._told.add((sender, due_utc_ms))
        self._alarms(RevocationUnknown.code, sender=sender)


def _judge_factors(factors: Sequence[tuple[str, str]], evidence: Evidence) -> None:
    found = {name: text for name, value in factors if (text := factor(name, value)(evidence))}
    if not found:
        return
    items = [Item(f"factor-{name}", f"the factor {name} does not fit") for name in found]
    leaf = OutsideHours if all(FACTORS[name].now_and_then for name in found) else FactorFailed
    detail = "; ".join(f"{name}: {text}" for name, text in found.items())
    raise leaf(f"what is known of this device does not fit: {', '.join(found)}", detail=detail, items=items)


def said(header: Header) -> dict[str, str]:
    """Return a Header's Properties by name; one that stands twice says nothing."""
    names = [name for name, _ in header.properties]
    return {name: value for name, value in header.properties if names.count(name) == 1}
