"""Switches off one check of the verifier of bills' proofs, for a campaign that must notice it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gridpost.server.commands import verify

from gridpost import bill_check, bill_proof, evidence, exchange, merkle, proof
from gridpost.envelope import shape
from gridpost.evidence import Signed, open_receipt
from gridpost.units import parse_utc_ms

_CREATED = "{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd}Created"
Patch = tuple[Any, str, Any]  # whose attribute becomes what


def _unchecked(raw: bytes) -> Signed:
    envelope = shape(raw, exchange.DEVICE_LIMITS.raised(len(raw)))
    return Signed(envelope.payload, "", parse_utc_ms(envelope.timestamp.findtext(_CREATED)))


def _device(_self: Any, raw: bytes) -> Signed:
    """No signature of a device, partner or bus under a message is looked at; it is whom it says it is."""
    signed = _unchecked(raw)
    sources = [one.text for one in signed.payload.iter("{http://iec.ch/TC57/2011/schema/message}Source")]
    return signed._replace(signer=sources[0] if sources else "")


def _receipt_of_anything(self: Any, authority: Any) -> Any:
    """A receipt need not be the entry's own."""
    return open_receipt(self._kept.receipt, authority)[0]


def _any_authority(self: Any, fields: Mapping[str, Any]) -> None:
    """The CA in the file is believed."""
    self._offered.append(fields["pem"])
    self._trusted = self._offered


def _nothing(*_: Any) -> None:
    """Not looked at."""


SABOTAGES: Mapping[str, tuple[Patch, ...]] = {
    "message-signature": ((verify.IndependentAuthority, "device", _device),),
    "bus-signature": ((verify.IndependentAuthority, "bus", lambda _, raw: _unchecked(raw)),),
    "authority": ((proof.Verifier, "_offer", _any_authority),),
    "receipt": ((evidence._Examination, "receipt", _receipt_of_anything),),
    "inclusion": ((merkle, "verify_inclusion", lambda *_: True),),
    "rows": (
        (evidence._Examination, "rows", _nothing),
        (bill_check.evidence, "wrong_blocks", lambda *_: []),
    ),
    "entries": ((bill_check._Checking, "named", _nothing),),
    "spans": ((bill_proof, "spans", lambda *_: _Anything()),),
    "contract": ((bill_check._Checking, "_contract", _nothing),),
    "arithmetic": ((bill_check._Checking, "worked_out", _nothing),),
}


class _Anything:
    """Equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


@contextmanager
def applied(name: str) -> Iterator[None]:
    """Apply a sabotage; an empty name is none."""
    patches: tuple[Patch, ...] = SABOTAGES[name] if name else ()
    before = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in patches]
    for owner, attribute, instead in patches:
        setattr(owner, attribute, instead)
    try:
        yield
    finally:
        for owner, attribute, old in before:
            setattr(owner, attribute, old)
