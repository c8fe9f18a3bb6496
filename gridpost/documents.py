"""Documents: what the value side keeps of contracts, tariffs, bills and certificates, each a text in a frame.

Floor 0: values only. A document is a row of its entry in the log, covered by the leaf (gridpost/leaf.py) and never
changed: another version is another row. What a content says is its kind's own: a tariff is XML (`tariff_messages.py`),
the others are canonical JSON (`bill_document.py`, `contract.py`, `applications/completeness.py`).
"""

from __future__ import annotations

from typing import NamedTuple

TARIFF, CONTRACT, BILL, CERTIFICATE = KINDS = ("tariff", "contract", "bill", "certificate")
OURS = "bus"  # owner of what is nobody else's, and sender of the bus's own entries (decision 9)
OWN = "own"  # their transport


class Document(NamedTuple):
    """A document.

    Attributes:
        kind: one of KINDS.
        id: unique within (kind, owner), but for later versions of the same document.
        owner: id of the partner it belongs to, or OURS.
        subject: mRID of the usage point, or id of the contract, that it is about; empty: neither.
        from_utc: first moment it is about, UTC seconds.
        to_utc: first moment it no longer is about, UTC seconds; None: no end.
        content: its text, kept as given.
    """

    kind: str
    id: str
    owner: str
    subject: str
    from_utc: int
    to_utc: int | None
    content: str
