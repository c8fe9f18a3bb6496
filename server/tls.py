"""HTTPS for devices and for offices: the certificate, its key, the versions spoken, session tickets, clients' CAs.

In: a `Config` and the section of the listener. Out: what Twisted makes connections with, or NotFound or ConfigInvalid.
Who a device is is never read from TLS: its signature says so. A partner's entry may permit its TLS certificate; one of
a CA that the section does not name ends the handshake, and none at all is for the office's door to judge.

Tickets: a device that comes back within `TICKETS_S` resumes its session, whichever of several processes it meets. Their
keys are OpenSSL's own, made with the context, and no library in reach lets them be set; so the parent makes the context
before it forks, and processes started again later inherit it too. The keys never leave memory: they end with the parent
or with the next certificate, and then each device pays for one whole handshake.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.ssl import CertificateOptions, ContextFactory, TLSVersion

from gridpost.errors import ConfigInvalid, GridpostError, NotFound

from .audit import Audit
from .config import Config, Listen, Office

TICKETS_S = 86_400  # a meter that reports daily still resumes; RFC 8446 section 4.6.1 allows seven days


class Https(ContextFactory):
    """What the listener makes connections with; `renew` changes it for those that come."""

    def __init__(self, config: Config, section: Listen | Office | None = None) -> None:
        """Read the files of a section; None: of the device listener.

        Raises:
            NotFound, ConfigInvalid: see above.
        """
        self._config, self._section = config, section or config.listen
        self._options = load_tls(config, self._section)

    def renew(self) -> None:
        """Read the files anew.

        Raises:
            NotFound, ConfigInvalid: see above; what was read before stays in use.
        """
        self._options = load_tls(self._config, self._section)

    def getContext(self) -> SSL.Context:
        """Return the context of the next connection, as IOpenSSLContextFactory has it."""
        context: SSL.Context = self._options.getContext()
        return context


def https_of(config: Config) -> Https | None:
    """Return what HTTPS needs, None without HTTPS.

    Raises:
        NotFound, ConfigInvalid: see above.
    """
    return Https(config) if config.listen.https else None


def renewed(https: Https, audit: Audit) -> bool:
    """Read the certificate anew, tell the audit log, and say whether it is in use."""
    try:
        https.renew()
    except GridpostError as error:
        audit.event("https-certificate-refused", code=error.code, reason=error.reason)
        return False
    audit.event("https-certificate-renewed")
    return True


def load_tls(config: Config, section: Listen | Office) -> CertificateOptions:
    """TLS 1.2 and later, with session tickets: resumption saves 40 % of a handshake (facts/http-listener.md).

    Where clients are asked for a certificate there are none: each connection proves itself anew.
    """
    try:
        leaf, *chain = x509.load_pem_x509_certificates(config.path(section.tls_certificate).read_bytes())
        key = config.path(section.tls_key).read_bytes()
        clients = _clients(config, section)
        options = CertificateOptions(
            # A pass phrase, though an empty one: without it OpenSSL asks for one at the terminal.
            privateKey=crypto.load_privatekey(crypto.FILETYPE_PEM, key, passphrase=b""),
            certificate=crypto.X509.from_cryptography(leaf),
            extraCertChain=[crypto.X509.from_cryptography(issuer) for issuer in chain],
            raiseMinimumTo=TLSVersion.TLSv1_2,
            enableSessionTickets=not clients,
        )
        options.getContext().check_privatekey()
        options.getContext().set_timeout(TICKETS_S)
        options.getContext().set_alpn_select_callback(_http_1_1)
        if clients:
            _ask_for(clients, options.getContext())
    except OSError as error:
        raise NotFound(f"the HTTPS certificate cannot be read: {error}") from None
    except (ValueError, crypto.Error, SSL.Error) as error:
        raise ConfigInvalid(f"the HTTPS certificate or its key cannot be used: {error}") from None
    return options


def _clients(config: Config, section: Listen | Office) -> list[crypto.X509]:
    """The CAs whose client certificates are taken; none: clients are not asked for one."""
    if not isinstance(section, Office) or not section.client_ca:
        return []
    authorities = x509.load_pem_x509_certificates(config.path(section.client_ca).read_bytes())
    return [crypto.X509.from_cryptography(one) for one in authorities]


def _ask_for(clients: list[crypto.X509], context: SSL.Context) -> None:
    """Ask for a certificate of one of the CAs; a client may show none, but no other one."""
    for authority in clients:
        trusted = context.get_cert_store()
        assert trusted is not None, "a context has one"
        trusted.add_cert(authority)
    context.set_client_ca_list([authority.get_subject() for authority in clients])
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_verify(SSL.VERIFY_PEER, lambda _connection, _shown, _error, _depth, well: bool(well))


def _http_1_1(_: SSL.Connection, offered: list[bytes]) -> Any:
    """Agree to HTTP/1.1 where it is offered (RFC 7301); Twisted's own choice would end the handshake."""
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS
