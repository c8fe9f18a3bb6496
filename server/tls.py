"""HTTPS for devices: the certificate, its key, the versions spoken.

In: a `Config`. Out: what Twisted makes connections with, or NotFound or ConfigInvalid. Who a device is is never read
from TLS: its signature says so.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.ssl import CertificateOptions, TLSVersion

from gridpost.errors import ConfigInvalid, NotFound

from .config import Config


def load_tls(config: Config) -> CertificateOptions:
    """TLS 1.2 and later, with session tickets: resumption saves 40 % of a handshake (facts/http-listener.md)."""
    try:
        leaf, *chain = x509.load_pem_x509_certificates(config.path(config.listen.tls_certificate).read_bytes())
        key = config.path(config.listen.tls_key).read_bytes()
        options = CertificateOptions(
            # A pass phrase, though an empty one: without it OpenSSL asks for one at the terminal.
            privateKey=crypto.load_privatekey(crypto.FILETYPE_PEM, key, passphrase=b""),
            certificate=crypto.X509.from_cryptography(leaf),
            extraCertChain=[crypto.X509.from_cryptography(issuer) for issuer in chain],
            raiseMinimumTo=TLSVersion.TLSv1_2,
            enableSessionTickets=True,
        )
        options.getContext().check_privatekey()
        options.getContext().set_alpn_select_callback(_http_1_1)
    except OSError as error:
        raise NotFound(f"the HTTPS certificate cannot be read: {error}") from None
    except (ValueError, crypto.Error, SSL.Error) as error:
        raise ConfigInvalid(f"the HTTPS certificate or its key cannot be used: {error}") from None
    return options


def _http_1_1(_: SSL.Connection, offered: list[bytes]) -> Any:
    """Agree to HTTP/1.1 where it is offered (RFC 7301); Twisted's own choice would end the handshake."""
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS
