"""Passwords of partners: scrypt (RFC 7914), and nothing of a password kept but that.

In: what a person set, and what a UsernameToken says. Out: a text to store, or whether the two agree. Costs 32 MiB and
some 80 ms each time, so it runs beside the reactor; `Guard` keeps strangers from making it run for them, and spares a
partner that calls often the cost of each call. What must not be done here: logging a password, or telling apart, in
time or in words, a partner without a password from a wrong one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from gridpost.errors import ConfigInvalid

from .alarms import forget_first

N_LOG2, R, P = 15, 8, 1
SHORTEST = 12  # characters; set by people for machines, so there is no reason for fewer
LONGEST = 256
_OCTETS, _SALT = 32, 16
_MEMORY = 64 << 20  # what OpenSSL may take; N=2**15, r=8 needs 32 MiB
# Of no password: an unknown name costs as much as a known one.
NOBODY = (
    f"scrypt${N_LOG2}${R}${P}${base64.b64encode(bytes(_SALT)).decode()}${base64.b64encode(bytes(_OCTETS)).decode()}"
)


def hash_password(password: str, salt: bytes) -> str:
    """Return ``scrypt$log2 N$r$p$salt$hash``, the last two base64, for a password and a fresh salt of 16 octets.

    Raises:
        ConfigInvalid: it is too short or too long.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigInvalid(f"a password has {SHORTEST} to {LONGEST} characters")
    digest = _scrypt(password, salt, (N_LOG2, R, P))
    return f"scrypt${N_LOG2}${R}${P}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def verify_password(password: str, kept: str | None) -> bool:
    """Tell whether a password is the one that `kept` was made of; None takes as long and is never."""
    _, log2, r, p, salt, digest = (kept or NOBODY).split("$")
    made = _scrypt(password[: LONGEST + 1], base64.b64decode(salt), (int(log2), int(r), int(p)))
    return hmac.compare_digest(made, base64.b64decode(digest)) and kept is not None


def _scrypt(password: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    log2, r, p = cost
    return hashlib.scrypt(
        password.encode(), salt=salt, n=1 << log2, r=r, p=p, maxmem=_MEMORY, dklen=_OCTETS
    )  # fmt: skip


@dataclass
class Guard:
    """Who failed lately, and who was right lately.

    A name that failed `most` times within `window_ms` from one network address is refused there, right or wrong,
    without scrypt being asked; elsewhere it still works, so nobody can lock a partner out. Beyond `most_of_group`
    failures from one address, of whatever names, only pairs that are known are heard from there. A pair that was right
    is known again for `known_ms` by a keyed hash of it, as long as the hash on file is the same.

    Attributes:
        clock: UTC milliseconds.
    """

    clock: Callable[[], int]
    most: int = 10
    most_of_group: int = 100
    window_ms: int = 60_000
    known_ms: int = 300_000
    kept: int = 10_000
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _failed: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    _right: dict[bytes, int] = field(default_factory=dict)

    def is_shut(self, name: str, group: str) -> bool:
        """Tell whether this name failed too often from there."""
        since = self.clock() - self.window_ms
        return len([at for at in self._failed.get((name, group), ()) if at > since]) >= self.most

    def is_crowded(self, group: str) -> bool:
        """Tell whether so many failed from there, under whatever names, that only who is known is heard."""
        since = self.clock() - self.window_ms
        return len([at for at in self._failed.get(("", group), ()) if at > since]) >= self.most_of_group

    def is_known(self, name: str, password: str, kept: str) -> bool:
        """Tell whether this very pair was right a short time ago."""
        until = self._right.get(self._mark(name, password, kept))
        return until is not None and self.clock() < until

    def failed(self, name: str, group: str) -> None:
        """Note a failure."""
        since = self.clock() - self.window_ms
        for key, most in (((name, group), self.most), (("", group), self.most_of_group)):
            lately = [at for at in self._failed.pop(key, ()) if at > since]
            self._failed[key] = [*lately, self.clock()][-most:]
            forget_first(self._failed, self.kept)

    def succeeded(self, name: str, password: str, kept: str) -> None:
        """Note that a pair was right."""
        mark = self._mark(name, password, kept)
        self._right.pop(mark, None)
        self._right[mark] = self.clock() + self.known_ms
        forget_first(self._right, self.kept)

    def _mark(self, name: str, password: str, kept: str) -> bytes:
        text = "\0".join((str(len(name)), name, kept, password))
        return hmac.digest(self._key, text.encode(), "sha256")
