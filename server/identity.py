"""Who this bus is, read from its files: the keys that sign, the CA that is trusted.

In: a `Config`. Out: a signer, or whom to trust; NotFound or ConfigInvalid where a file is missing or not what it should
be. `serve` and the commands share it.

Its own key is P-256. Where the settings name a second one, of RSA, that one answers whoever signs with RSA
(`answering`): some toolkits know nothing else. Both chain to the CA that devices pinned.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gridpost.errors import ConfigInvalid, FileUnwritable, NotFound
from gridpost.exchange import Trust
from gridpost.ports import Signer
from gridpost.wssecurity import KeySigner, is_rsa

from .config import Config

_PRIVATE, _PUBLIC = 0o600, 0o644


class Files(NamedTuple):
    """Where a key and its certificate are."""

    key: Path
    certificate: Path


def own_files(config: Config) -> Files:
    """Return where the bus's own pair is."""
    return Files(config.path(config.identity.key), config.path(config.identity.certificate))


def rsa_files(config: Config) -> Files | None:
    """Return where its RSA pair is; None: it has none."""
    named = config.identity
    return Files(config.path(named.rsa_key), config.path(named.rsa_certificate)) if named.rsa_certificate else None


def load_signer(config: Config) -> KeySigner:
    """Return the bus's key with its certificate; a next pair that `gridpost bus renew` left half in place goes there.

    Raises:
        NotFound, ConfigInvalid: see above.
    """
    return _loaded(own_files(config))


def load_rsa_signer(config: Config) -> KeySigner | None:
    """Return the bus's RSA key with its certificate, as `load_signer` does; None: it has none.

    Raises:
        NotFound, ConfigInvalid: see above.
    """
    files = rsa_files(config)
    if files is None:
        return None
    signer = _loaded(files)
    if not is_rsa(signer.certificate):
        raise ConfigInvalid(f"{files.certificate} holds no RSA key; identity.rsa_certificate is for one")
    return signer


def answering(certificate: bytes, own: Signer, rsa: Signer | None) -> Signer:
    """Return the key of the bus that answers what the key of `certificate` (DER, accepted before) signed."""
    return rsa if rsa is not None and is_rsa(certificate) else own


def load_certificates(config: Config) -> list[bytes]:
    """Return the bus's certificates, DER, its own first; their keys are not needed.

    Raises:
        NotFound, ConfigInvalid: see above.
    """
    found = filter(None, (own_files(config), rsa_files(config)))
    certificates = [_x509(files.certificate, "the bus's certificate") for files in found]
    return [one.public_bytes(serialization.Encoding.DER) for one in certificates]


def _loaded(files: Files) -> KeySigner:
    settle(files)
    return KeySigner.from_pem(*(_read(file, "the bus's identity") for file in files))


def _x509(file: Path, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(file, what))
    except ValueError as error:
        raise ConfigInvalid(f"{file} is no certificate in PEM form: {error}") from None


def put_next(files: Files, next_key: bytes, next_certificate: bytes) -> None:
    """Put a next key and certificate of the bus in the place of the present ones, which stay beside as ``.old``.

    Args:
        files: where they are; a pair that only the settings name so far is put there.
        next_key: PEM.
        next_certificate: PEM.

    Raises:
        NotFound: one of the present pair is there, and cannot be read.
        FileUnwritable: the folder.
    """
    for file, mode in zip(files, (_PRIVATE, _PUBLIC), strict=True):
        if file.exists():
            _write(file.with_name(f"{file.name}.old"), _read(file, "the bus's identity"), mode)
    _write(_after(files.key), next_key, _PRIVATE)
    _write(_after(files.certificate), next_certificate, _PUBLIC)
    settle(files)


def settle(files: Files) -> None:
    """Let a next pair take its place once both are there; the certificate, the last to come, is the last to go."""
    if _after(files.certificate).exists():
        for file in files:
            with suppress(FileNotFoundError):  # done before, or by another process
                os.replace(_after(file), file)


def _write(file: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all, and on the disk when this returns."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except OSError as error:
        raise FileUnwritable(f"{file} cannot be written: {error.strerror}") from None


def _after(file: Path) -> Path:
    return file.with_name(f"{file.name}.next")


def load_ca(config: Config) -> x509.Certificate:
    """Return the device CA's certificate; its key is not needed.

    Raises:
        NotFound, ConfigInvalid: see above.
    """
    return _x509(config.path(config.identity.ca_certificate), "the device CA's certificate")


def trust_of(ca: x509.Certificate) -> Trust:
    """Return trust in the bus certificates of a CA."""
    return Trust(ca.public_bytes(serialization.Encoding.DER))


def pem_of(ca: x509.Certificate) -> str:
    """Return a certificate as PEM text, always written the same way."""
    return ca.public_bytes(serialization.Encoding.PEM).decode()


def _read(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise NotFound(f"{what} cannot be read: {error}") from None
