"""Who this bus is, read from its files: the key that signs, the CA that is trusted.

In: a `Config`. Out: a signer, or whom to trust; NotFound or ConfigInvalid where a file is missing or not what it should
be. `serve` and the commands share it.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gridpost.errors import ConfigInvalid, NotFound
from gridpost.exchange import Trust
from gridpost.wssecurity import KeySigner

from .config import Config


def load_signer(config: Config) -> KeySigner:
    """Return the bus's key with its certificate.

    Raises:
        NotFound, ConfigInvalid: see above.
    """
    key, certificate = config.path(config.identity.key), config.path(config.identity.certificate)
    return KeySigner.from_pem(_read(key, "the bus's identity"), _read(certificate, "the bus's identity"))


def load_ca(config: Config) -> x509.Certificate:
    """Return the device CA's certificate; its key is not needed.

    Raises:
        NotFound, ConfigInvalid: see above.
    """
    file = config.path(config.identity.ca_certificate)
    try:
        return x509.load_pem_x509_certificate(_read(file, "the device CA's certificate"))
    except ValueError as error:
        raise ConfigInvalid(f"{file} is no certificate in PEM form: {error}") from None


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
