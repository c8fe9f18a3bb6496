"""What may be wrong between the bus and a partner, looked at from here: each finding says what to change.

In: a partner's entry and what the store knows of it, its service (an adapter's, found by entry point), the settings,
the moment. Out: findings, in the order in which things stand in each other's way. Nothing is delivered, nothing is
changed: the partner's address is asked by GET. What must not be done here: printing, or deciding what a person should.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gridpost import ns
from gridpost.errors import OurFault
from gridpost.partners import Partner
from gridpost.units import format_utc_ms

from ..config import Config
from ..controls.clocks import Call, offset_ms
from ..store import DeadLetter, SqlStore
from ..store.call_ins import asked
from ..store.mailbox import PUSH_READER
from .callers import SIGNATURE_USE, TLS_USE, is_partner_at
from .pushing import credentials

OK, WARN, FAIL = "ok", "warn", "fail"
SOON_MS, DAY_MS = 30 * 86_400_000, 86_400_000
SKEW_MS = 60_000  # what a message may be from the future, and a Date header off without anybody's notice
CURVES, RSA_BITS = ("secp256r1", "secp384r1"), 2048
READINGS = ns.q(ns.METER_READINGS_MESSAGE, "CreatedMeterReadings")
EVENTS = ns.q(ns.END_DEVICE_EVENTS_MESSAGE, "CreatedEndDeviceEvents")
# Kind of a grant -> the push that brings what is granted.
PUSHES = {"billing": READINGS, "power-quality": READINGS, "events": EVENTS, "commands": EVENTS}


class Finding(NamedTuple):
    """One thing looked at: ``ok``, ``warn`` or ``fail``, what was found, and what to change; empty: nothing."""

    check: str
    state: str
    found: str
    advice: str = ""


class Service(Protocol):
    """What is asked of a partner's service; `PartnerService` of the adapters has it."""

    def takes(self) -> Any:
        """Return the operations of its description, by name of the Body's child."""

    def lacks(self, tags: Sequence[str]) -> Sequence[str]:
        """Return which of our messages the description has no room for."""

    def reach(self) -> Any:
        """Return status, date and location that its address answers to a GET."""


@dataclass(frozen=True, slots=True)
class Checkup:
    """A look at one partner; `now` is in UTC milliseconds, `timeout_s` bounds each step on the network."""

    config: Config
    store: SqlStore
    partner: Partner
    service: Callable[[], Service]
    now: Callable[[], int]
    timeout_s: int

    def findings(self) -> Iterator[Finding]:
        """Yield them; what needs the network comes last."""
        yield from self.entry()
        yield from self.certificates()
        yield from self.clock()
        yield from self.mailbox()
        if not (self.partner.endpoint or self.partner.wsdl):
            yield Finding("wsdl", OK, "nothing is pushed to it: it fetches from its mailbox")
        elif not (self.partner.endpoint and self.partner.wsdl):
            missing = "--endpoint" if self.partner.wsdl else "--wsdl"
            found = f"it has no {missing}, so nothing is pushed"
            yield Finding("wsdl", FAIL, found, f"gridpost partner set {self.partner.id} {missing} ...")
        else:
            service = self.service()
            yield from self.secret()
            yield from self.wsdl(service)
            yield from self.address(service)

    # --- what is on file ---

    def entry(self) -> Iterator[Finding]:
        """Its entry: does it hold, and can each way in be gone?"""
        partner, office = self.partner, self.config.office
        if not is_partner_at(partner, self.now()):
            ends = format_utc_ms(partner.valid_to_utc_ms or 0)
            yield Finding(
                "entry", FAIL, f"it is no partner since {ends}", f"gridpost partner set {partner.id} --to ..."
            )
        uses = {key.use for key in self.store.partner_keys(partner.id) if key.revoked_at_utc_ms is None}
        certify = f"gridpost partner certificate {partner.id} FILE"
        rules = (
            (office.http or office.https, "no office listener is set", "set office.https, restart the bus"),
            (not partner.ways.signature or SIGNATURE_USE in uses, "it may sign, but has no certificate now", certify),
            (not partner.ways.tls or TLS_USE in uses, "it may come by TLS, but has no certificate for it now",
             f"{certify} --use tls"),
            (not partner.ways.tls or office.client_ca, "it may come by TLS, but office.client_ca names no CA",
             "name its CA in office.client_ca, restart the bus"),
            (not partner.ways.username or self.store.password(partner.id), "it may come by password, but has none",
             f"gridpost partner password {partner.id}"),
            (not partner.ways.username or office.https, "it may come by password, but passwords count over HTTPS only",
             "set office.https, office.tls_certificate and office.tls_key, restart the bus"),
            (self.store.grants(partner.id), "it has no grant, so it sees nothing",
             f"gridpost partner grant {partner.id} USAGE_POINT --kind billing"),
        )  # fmt: skip
        wrong = [Finding("entry", FAIL, found, advice) for holds, found, advice in rules if not holds]
        yield from wrong or [Finding("entry", OK, f"a {partner.role} of tenant {partner.tenant}")]

    def certificates(self) -> Iterator[Finding]:
        """Its certificates on file: key, chain, end."""
        for key in self.store.partner_keys(self.partner.id):
            if key.revoked_at_utc_ms is not None:
                continue
            certificate = x509.load_der_x509_certificate(key.der)
            renew = f"have it make the next key, gridpost partner certificate {self.partner.id} FILE --use {key.use}"
            yield from dated("certificate", f"its {key.use} certificate", certificate, self.now(), renew)
            if not fits(certificate.public_key()):
                found = f"its {key.use} key is {named(certificate.public_key())}"
                yield Finding("certificate", FAIL, found, f"{renew}: P-256, P-384, or RSA of 2048 bits or more")
            if key.use == TLS_USE and not self._is_of_a_ca(certificate):
                advice = "add the CA that issued it to the file office.client_ca, restart the bus"
                yield Finding("certificate", FAIL, "its TLS certificate is of no CA in office.client_ca", advice)

    def clock(self) -> Iterator[Finding]:
        """Its clock, as its newest signed requests tell."""
        off = offset_ms(Call(*one) for one in asked(self.store, self.partner.id))
        if off is not None:
            yield skew("the clock behind its signed requests", off)

    def mailbox(self) -> Iterator[Finding]:
        """What waits for it, and what it refused."""
        depth, letters = self.store.depth(self.partner.id), self._letters()
        oldest = next(iter(self.store.peek(self.partner.id, 1)), None) if depth else None
        days = 0 if oldest is None else (self.now() - oldest.made_at_utc_ms) // DAY_MS
        pushed = bool(self.partner.endpoint and self.partner.wsdl)
        advice = "mend what is said below: mails are sent again by themselves" if pushed else "have it call ReadMailbox"
        late = days >= 1
        yield Finding(
            "mailbox", WARN if late else OK, f"{depth} mail(s) wait, the oldest for {days} day(s)", advice * late
        )
        if letters:
            found = f"{len(letters)} dead letter(s), the last: mail {letters[-1].subject}, {letters[-1].reason}"
            yield Finding("mailbox", FAIL, found, "mend the cause, then gridpost dead-letters --retry")

    def secret(self) -> Iterator[Finding]:
        """The password that its MultiSpeak service asks for: can it be read?"""
        try:
            credentials(self.partner)
        except OurFault as error:
            advice = f"gridpost partner set {self.partner.id} --push-password-file FILE"
            yield Finding("secret", FAIL, error.reason, advice)

    def _letters(self) -> list[DeadLetter]:
        mine = PUSH_READER + self.partner.id
        return [one for one in self.store.dead_letters() if one.reader == mine and one.reason]

    def _is_of_a_ca(self, certificate: x509.Certificate) -> bool:
        file = self.config.office.client_ca
        if not file:
            return True  # said of the entry already
        authorities = x509.load_pem_x509_certificates(self.config.path(file).read_bytes())
        return any(_issued(certificate, one) for one in authorities)

    # --- what the network says ---

    def wsdl(self, service: Service) -> Iterator[Finding]:
        """Its description: does it load, has it room for what is pushed, where does it send us?"""
        place = self.partner.wsdl
        try:
            known = service.takes()
            pushed = sorted({PUSHES[grant.kind] for grant in self.store.grants(self.partner.id)})
            lacking = [tag.rpartition("}")[2] for tag in service.lacks(pushed)]
        except OurFault as error:
            yield Finding(
                "wsdl", FAIL, error.reason, "have it served at that address, or gridpost partner set --wsdl a copy"
            )
            return
        if lacking:
            advice = (
                "have it add them (wsdl/utility.wsdl has the messages), or those of MultiSpeak, or take the grants away"
            )
            yield Finding("wsdl", FAIL, f"{place} has no operation for {', '.join(lacking)}", advice)
        else:
            yield Finding("wsdl", OK, f"{place} has {len(known)} operations, and room for all that is pushed")
        stated = {operation.address for operation in known.values()}
        if self.partner.endpoint not in stated:
            found = f"it states {', '.join(sorted(stated))}; called is {self.partner.endpoint}"
            yield Finding(
                "wsdl", WARN, found, "ask which is right; gridpost partner set --endpoint changes what is called"
            )

    def address(self, service: Service) -> Iterator[Finding]:
        """Its address: name, TCP, TLS, HTTP, clock; the first step that fails is the last one told."""
        parts = urlsplit(self.partner.endpoint)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        if parts.scheme != "https":
            yield Finding("tls", WARN, "its endpoint is not https: what is pushed can be read on the way",
                          f"gridpost partner set {self.partner.id} --endpoint https://...")  # fmt: skip
        try:
            with socket.create_connection((host, port), self.timeout_s) as plain:
                yield Finding("tcp", OK, f"{host} port {port} answers")
                if parts.scheme == "https":
                    yield from self.tls(plain, host)
        except OSError as error:
            advice = "is the address right, its service up, and the way there open in both firewalls?"
            yield Finding("tcp", FAIL, f"{host} port {port}: {error}", advice)
            return
        yield from self.http(service)

    def tls(self, plain: socket.socket, host: str) -> Iterator[Finding]:
        """Look at its HTTPS certificate; whether it is trusted is for the very way that messages take to say."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain, server_hostname=host) as secured:
            shown = secured.getpeercert(binary_form=True)
        if shown:
            certificate = x509.load_der_x509_certificate(shown)
            yield from dated(
                "tls", "its HTTPS certificate", certificate, self.now(), "have it put the next one in place"
            )

    def http(self, service: Service) -> Iterator[Finding]:
        """Ask its address for nothing."""
        try:
            said = service.reach()
        except OurFault as error:
            untrusted = "CERTIFICATE_VERIFY_FAILED" in error.reason
            advice = (
                "have its HTTPS certificate issued for that name by a CA everybody trusts, and served with its chain,"
                f" or name its own CA: gridpost partner set {self.partner.id} --ca FILE"
            )
            yield Finding(
                "tls" if untrusted else "http", FAIL, error.reason, advice if untrusted else "is its service up?"
            )
            return
        yield status(said.status, said.location)
        with suppress(ValueError, TypeError):  # a Date that is none tells nothing
            yield skew("its Date header", int(parsedate_to_datetime(said.date).timestamp()) * 1000 - self.now())


def status(code: int, location: str) -> Finding:
    """Judge what a GET of a SOAP service answers: few have anything there, so 400, 404, 405 and 500 say it is alive."""
    if 300 <= code < 400:
        found = f"HTTP {code}, to {location or 'nowhere'}"
        return Finding(
            "http", FAIL, found, "no redirect is followed: gridpost partner set --endpoint the address it leads to"
        )
    if code in (401, 403, 407):
        return Finding(
            "http", FAIL, f"HTTP {code}", "have it let the bus's address in; messages say who they are by signature"
        )
    if code in (502, 503, 504):
        return Finding("http", FAIL, f"HTTP {code}", "its service is down behind its front: have it started")
    return Finding("http", OK, f"HTTP {code}")


def skew(whose: str, off_ms: int) -> Finding:
    """Judge a clock: `off_ms` is theirs minus ours."""
    found = f"{whose} is {off_ms // 1000} s from this machine's"
    if abs(off_ms) <= SKEW_MS:
        return Finding("clock", OK, found)
    return Finding(
        "clock", FAIL, found, "set both by NTP: what is sealed over a minute ahead, or 15 minutes ago, is refused"
    )


def dated(check: str, whose: str, certificate: x509.Certificate, now_utc_ms: int, renew: str) -> Iterator[Finding]:
    """Judge a certificate's dates."""
    begins = int(certificate.not_valid_before_utc.timestamp()) * 1000
    ends = int(certificate.not_valid_after_utc.timestamp()) * 1000
    told = f"{whose} is good until {format_utc_ms(ends)}"
    if now_utc_ms < begins:
        yield Finding(
            check, FAIL, f"{whose} is good from {format_utc_ms(begins)} on", "are both clocks right? else wait"
        )
    elif now_utc_ms >= ends:
        yield Finding(check, FAIL, f"{whose} ended at {format_utc_ms(ends)}", renew)
    else:
        soon = ends - now_utc_ms < SOON_MS
        yield Finding(check, WARN if soon else OK, told, renew * soon)


def fits(key: Any) -> bool:
    """Tell whether a key can sign for us (docs/protocol.md)."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name in CURVES
    return isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS


def named(key: Any) -> str:
    """Return what people call a key."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return str(key.curve.name)
    return f"RSA of {key.key_size} bits" if isinstance(key, rsa.RSAPublicKey) else type(key).__name__


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
