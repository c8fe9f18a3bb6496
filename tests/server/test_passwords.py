"""Passwords: what is kept is scrypt as RFC 7914 has it, computed here by another library; who guesses is shut out."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from gridpost.server import passwords

from gridpost.errors import ConfigInvalid

PASSWORD = "correct horse battery"
SALT = bytes(range(16))


def test_what_is_kept_is_scrypt_of_the_password():
    name, log2, r, p, salt, digest = passwords.hash_password(PASSWORD, SALT).split("$")
    assert (name, base64.b64decode(salt)) == ("scrypt", SALT)
    assert 1 << int(log2) >= 1 << 15  # OWASP's least is 2^17 with r=8, p=1 or equal cost; NIST names no number
    other = Scrypt(salt=SALT, length=32, n=1 << int(log2), r=int(r), p=int(p))
    other.verify(PASSWORD.encode(), base64.b64decode(digest))


@pytest.mark.parametrize(
    ("given", "right"),
    [(PASSWORD, True), (PASSWORD + " ", False), (PASSWORD.upper(), False), ("", False), ("x" * 10_000, False)],
)
def test_only_the_password_itself_is_right(given, right):
    assert passwords.verify_password(given, passwords.hash_password(PASSWORD, SALT)) is right


def test_nobody_has_a_password_that_is_never_right():
    assert not passwords.verify_password("", None)
    assert not passwords.verify_password("x", None)


@pytest.mark.parametrize("given", ["short", "x" * 257])
def test_a_password_too_short_or_too_long_is_not_kept(given):
    with pytest.raises(ConfigInvalid):
        passwords.hash_password(given, SALT)


@dataclass
class Now:
    ms: int = 1_000_000

    def __call__(self) -> int:
        return self.ms


def test_who_guesses_from_one_place_is_shut_out_there_and_nowhere_else():
    now = Now()
    guard = passwords.Guard(now, most=3)
    for _ in range(3):
        assert not guard.is_shut("U1", "192.0.2.7")
        guard.failed("U1", "192.0.2.7")
    assert guard.is_shut("U1", "192.0.2.7")
    assert not guard.is_shut("U1", "192.0.2.8")
    assert not guard.is_shut("U2", "192.0.2.7")
    now.ms += 60_001
    assert not guard.is_shut("U1", "192.0.2.7")


def test_many_names_from_one_place_make_the_bus_compute_no_more_there():
    guard = passwords.Guard(Now(), most_of_group=5)
    for number in range(5):
        assert not guard.is_crowded("192.0.2.7")
        guard.failed(f"guess-{number}", "192.0.2.7")
    assert guard.is_crowded("192.0.2.7")
    assert not guard.is_crowded("192.0.2.8")


def test_a_right_pair_is_known_for_a_while_and_only_with_the_hash_it_was_right_for():
    now = Now()
    guard = passwords.Guard(now)
    guard.succeeded("U1", PASSWORD, "hash-1")
    assert guard.is_known("U1", PASSWORD, "hash-1")
    assert not guard.is_known("U1", PASSWORD, "hash-2")  # it was changed
    assert not guard.is_known("U1", "other", "hash-1")
    assert not guard.is_known("U", "1" + PASSWORD, "hash-1")
    now.ms += 300_001
    assert not guard.is_known("U1", PASSWORD, "hash-1")


def test_what_is_remembered_does_not_grow_for_ever():
    guard = passwords.Guard(Now(), kept=10)
    for number in range(100):
        guard.failed(f"U{number}", "192.0.2.7")
        guard.succeeded(f"U{number}", PASSWORD, "hash")
    assert len(guard._failed) == len(guard._right) == 10
    assert PASSWORD not in repr(guard)
