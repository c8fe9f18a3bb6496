"""Breaks the product from outside, for a fuzz campaign that must find it: nothing in the product knows of this."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from gridpost.adapters.nem12 import Nem12Adapter

from gridpost import exchange, wssecurity


class _SaysYes:
    """A public key that finds every signature right."""

    def __init__(self, key: Any) -> None:
        self._key = key

    def __getattr__(self, name: str) -> Any:
        return getattr(self._key, name)

    def verify(self, *_: Any) -> None:
        """It is."""


class _RsaSaysYes(_SaysYes):
    """The same, for RSA."""


class _EcSaysYes(_SaysYes):
    """The same, for EC."""


rsa.RSAPublicKey.register(_RsaSaysYes)
ec.EllipticCurvePublicKey.register(_EcSaysYes)


def _verify_off() -> None:
    true = wssecurity.public_key

    def yes(certificate: bytes) -> Any:
        key = true(certificate)
        return _RsaSaysYes(key) if isinstance(key, rsa.RSAPublicKey) else _EcSaysYes(key)

    wssecurity.public_key = yes  # type: ignore[assignment]


def _digest_off() -> None:
    hmac.compare_digest = lambda *_: True  # type: ignore[assignment]


def _lax_lane() -> None:
    """The first way of reading passes over comments and instructions, the reference does not."""
    true = exchange.read

    def lax(raw: bytes, *limits: Any) -> Any:
        return true(re.sub(rb"<!--.*?-->|<\?.*?\?>", b"", raw, flags=re.DOTALL), *limits)

    exchange.read = lax


def _escape() -> None:
    """A parser with an error of its own: a NEM12 file of two details records is a KeyError."""
    true = Nem12Adapter.parse

    def parse(self: Nem12Adapter, raw: bytes, options: Any) -> Any:
        if raw.count(b"\n200,") > 1:
            raise KeyError("second details record")
        return true(self, raw, options)

    Nem12Adapter.parse = parse  # type: ignore[method-assign]


SABOTAGES: Mapping[str, Callable[[], None]] = {
    "verify-off": _verify_off,
    "digest-off": _digest_off,
    "lax-lane": _lax_lane,
    "escape": _escape,
}


def apply(name: str) -> None:
    """Apply a sabotage; an empty name is none."""
    if name:
        SABOTAGES[name]()
