"""The two branches of the tree of errors, and what every leaf of it carries.

Floor 0: imports nothing. The leaves, one for each thing that can go wrong, are in `errors.py`, which hands these on:
the rest of the house imports from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NEVER, AFTER_FIX, LATER = "never", "after-fix", "later"


@dataclass(frozen=True, slots=True)
class Item:
    """One finding inside a refused message or file.

    Attributes:
        code: a stable code, as an error's.
        reason: one sentence with the offending value.
        path: where: an XPath-like path in a message, ``line 7`` in a file, empty when it concerns the whole.
    """

    code: str
    reason: str
    path: str = ""


class GridpostError(Exception):
    """Base of all; never raised itself.

    Attributes:
        code: stable, kebab-case.
        soap_fault: local name of the SOAP 1.1 faultcode.
        http_status: of the HTTP answer (SOAP 1.1 binding: faults travel as 500).
        retry: ``never``, ``after-fix`` or ``later``.
        reason: one sentence the peer may see.
        detail: for the audit log only.
        items: the itemised list, where there is one.
    """

    code = ""
    soap_fault = "Client"
    http_status = 500
    retry = AFTER_FIX

    def __init__(self, reason: str = "", *, detail: str = "", items: Sequence[Item] = ()) -> None:
        if not self.code:
            raise TypeError(f"{type(self).__name__} is a branch, not a leaf: raise a leaf")
        super().__init__(reason or summary(type(self)))
        self.reason = reason or summary(type(self))
        self.detail = detail
        self.items = tuple(items)


class PeerFault(GridpostError):
    """They did something we must refuse."""


class OurFault(GridpostError):
    """We failed; the peer did nothing wrong and should come back."""

    soap_fault = "Server"
    http_status = 503
    retry = LATER


def summary(error: type[GridpostError]) -> str:
    """Return the first line of a leaf's docstring."""
    return (error.__doc__ or error.code).splitlines()[0]
