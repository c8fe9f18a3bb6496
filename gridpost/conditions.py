"""What a key's new messages must satisfy beyond their signature: rights, an end, a known revocation, factors.

Floor 0. Values only, as the store hands them out with an enrolment; who judges them is the bus (`server/admission.py`).
An IED with one key of our own CA, with all rights and no factor, has no conditions at all: None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

RE_ENROL = "re-enrol"
# Right -> what a key with it may do. A key without a list has all of them, those to come included.
RIGHTS: Mapping[str, str] = {
    "readings": "send MeterReadings, encrypted or not",
    "events": "send EndDeviceEvents",
    "commands": "fetch EndDeviceControls",
    RE_ENROL: "get a certificate for its next key",
}
RIGHT_OF_NOUN: Mapping[str, str] = {
    "MeterReadings": "readings",
    "EncryptedReadings": "readings",
    "EndDeviceEvents": "events",
    "EndDeviceControls": "commands",
}


class Conditions(NamedTuple):
    """What speaks for or against a key besides its validity and its revocation.

    Attributes:
        rights: names of RIGHTS; None: all.
        ends_at_utc_ms: from when on a newer key of the IED has replaced it; None: not replaced.
        crl_due_utc_ms: until when its CA's list of revocations is good, 0 when there is none; None: our own CA's key,
            whose revocation the store itself knows.
        factors: (name, value) of each authentication factor of the IED; see docs/operations.md.
    """

    rights: frozenset[str] | None = None
    ends_at_utc_ms: int | None = None
    crl_due_utc_ms: int | None = None
    factors: tuple[tuple[str, str], ...] = ()

    def allows(self, right: str) -> bool:
        """Tell whether the key has a right."""
        return self.rights is None or right in self.rights
