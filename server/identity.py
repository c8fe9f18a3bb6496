"""Who this bus is, read from its files: the key that signs, the CA that is trusted.

In: a `Config`. Out: a signer, or whom to trust; NotFound or ConfigInvalid where a file is missing or not what it should
be. `serve` and the commands share it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gridpost.errors import ConfigInvalid, FileUnwritable, NotFound
from gridpost.exchange import Trust
from gridpost.wssecurity import KeySigner

from .config import Config

_PRIVATE, _PUBLIC = 0o600, 0o644


def load_signer(config: Config) -> KeySigner:
    """Return the bus's key with its certificate; a next pair that `gridpost bus renew` left half in place goes there.

    Raises:
        NotFound, ConfigInvalid: see above.
    """
    settle(config)
    key, certificate = config.path(config.identity.key), config.path(config.identity.certificate)
    return KeySigner.from_pem(_read(key, "the bus's identity"), _read(certificate, "the bus's identity"))


def load_certificate(config: Config) -> bytes:
    """Return the bus's certificate, DER; its key is not needed.

    Raises:
        NotFound, ConfigInvalid: see above.
    """
    certificate = _x509(config.path(config.identity.certificate), "the bus's certificate")
    return certificate.public_bytes(serialization.Encoding.DER)


def _x509(file: Path, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(file, what))
    except ValueError as error:
        raise ConfigInvalid(f"{file} is no certificate in PEM form: {error}") from None


def put_next(config: Config, next_key: bytes, next_certificate: bytes) -> None:
    """Put the bus's next key and certificate in the place of the present ones, which stay beside as ``.old``.

    Args:
        config: where they are.
        next_key: PEM.
        next_certificate: PEM.

    Raises:
        NotFound: there is no present pair.
        FileUnwritable: the folder.
    """
    key, certificate = config.path(config.identity.key), config.path(config.identity.certificate)
    for file, mode in ((key, _PRIVATE), (certificate, _PUBLIC)):
        _write(file.with_name(f"{file.name}.old"), _read(file, "the bus's identity"), mode)
    _write(_after(key), next_key, _PRIVATE)
    _write(_after(certificate), next_certificate, _PUBLIC)
    settle(config)


def settle(config: Config) -> None:
    """Let a next pair take its place once both are there; the certificate, the last to come, is the last to go."""
    key, certificate = config.path(config.identity.key), config.path(config.identity.certificate)
    if _after(certificate).exists():
        for file in (key, certificate):
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
