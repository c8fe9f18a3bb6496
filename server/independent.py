"""A second opinion on a signature, from a library that is not ours: signxml, its only home.

In: the bytes of a sealed message or of a signed answer, and the CA to trust. Out: what was signed and by whom, or a
PeerFault. `gridpost validate --signature` and `gridpost verify` use it, and tests hold `gridpost.wssecurity` against
it. It is too slow for the bus (some 3 ms a message) and must not be called there.

signxml decides about digests and the signature value. It does not know WS-Security, passes over transforms it does not
know, and with a given certificate checks no chain; so this page takes the certificate out of the token and checks its
chain with cryptography, fences the transforms, and compares what signxml says was signed with the parts of the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, XMLVerifier

from gridpost import ns, units
from gridpost.envelope import DEVICE_LIMITS, Element, Envelope, canonical, shape
from gridpost.errors import ConfigInvalid, SignatureInvalid

_METHODS = frozenset(
    SignatureMethod(uri)
    for uri in (ns.RSA_SHA256, ns.RSA_SHA384, ns.RSA_SHA512, ns.ECDSA_SHA256, ns.ECDSA_SHA384)
)  # fmt: skip
_DIGESTS = frozenset(DigestAlgorithm(uri) for uri in (ns.SHA256, ns.SHA384, ns.SHA512))
_SECURITY = f"./{ns.q(ns.SOAP11, 'Header')}/{ns.q(ns.WSSE, 'Security')}/"


@dataclass(frozen=True, slots=True)
class Signed:
    """What signxml says a message's signature covers.

    Attributes:
        certificate: the signer's, DER; its chain to the CA was checked for the moment of signing.
        subject: the certificate's subject, RFC 4514.
        created_utc_ms: the signed Timestamp's Created.
        parts: local names of the parts covered, in the order of the references.
        envelope: the message as it was parsed for this.
    """

    certificate: bytes
    subject: str
    created_utc_ms: int
    parts: tuple[str, ...]
    envelope: Envelope


def verify_signature(raw: bytes, ca_pem: bytes) -> Signed:
    """Verify the signature of a SOAP message with signxml.

    Whether the signer may speak for a meter is the enrolment's business and not judged here, nor is revocation.

    Args:
        raw: the message as it was sent.
        ca_pem: one or more CA certificates, PEM.

    Raises:
        PeerFault: the message has not the one shape (`gridpost.envelope.shape`).
        SignatureInvalid: anything about the signature; here, unlike on the bus, `detail` says what.
        ConfigInvalid: `ca_pem` holds no certificate.
    """
    envelope = shape(raw, DEVICE_LIMITS.raised(len(raw)))
    references = _fenced_references(envelope)
    created_utc_ms = _created(envelope.timestamp)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=created_utc_ms)
    certificate = _trusted(envelope.certificate, authorities(ca_pem), moment)
    config = SignatureConfiguration(
        location=_SECURITY,
        expect_references=len(references),
        signature_methods=_METHODS,
        digest_algorithms=_DIGESTS,
        verification_time=moment,
    )
    root = envelope.body.getroottree().getroot()
    try:
        results = XMLVerifier().verify(root, x509_cert=certificate, id_attribute="Id", expect_config=config)
    except (SignXMLException, InvalidSignature, UnsupportedAlgorithm, etree.LxmlError, ValueError) as error:
        raise SignatureInvalid(detail=f"signxml: {type(error).__name__}: {error}") from None
    signed = [result.signed_xml for result in results] if isinstance(results, list) else []
    parts = _same_parts(envelope, signed)
    return Signed(envelope.certificate, certificate.subject.rfc4514_string(), created_utc_ms, parts, envelope)


def _fenced_references(envelope: Envelope) -> Sequence[Element]:
    """Return the references; there are two or three, each with one exc-c14n transform and nothing else."""
    info = envelope.signature.find(ns.q(ns.DS, "SignedInfo"))
    references = [] if info is None else info.findall(ns.q(ns.DS, "Reference"))
    if not 2 <= len(references) <= 3:
        raise SignatureInvalid(detail=f"{len(references)} references; Body and Timestamp are expected")
    for reference in references:
        used = [node.get("Algorithm") for node in reference.iter(ns.q(ns.DS, "Transform"))]
        if used != [ns.EXC_C14N]:
            raise SignatureInvalid(detail=f"transforms {used} instead of one exc-c14n")
    return references


def _created(timestamp: Element) -> int:
    try:
        return units.parse_utc_ms((timestamp.findtext(ns.q(ns.WSU, "Created")) or "").strip())
    except ValueError as error:
        raise SignatureInvalid(detail=f"Timestamp/Created: {error}") from None


def authorities(ca_pem: bytes) -> Sequence[x509.Certificate]:
    """Return the certificates of a PEM file.

    Raises:
        ConfigInvalid: it holds none.
    """
    try:
        return x509.load_pem_x509_certificates(ca_pem)
    except ValueError as error:
        raise ConfigInvalid(f"no CA certificate in PEM form: {error}") from None


def _trusted(der: bytes, trusted: Sequence[x509.Certificate], moment: datetime) -> x509.Certificate:
    """Return the signer's certificate, issued directly by one of the CAs and, like that CA, valid at `moment`.

    One that is itself among those given is trusted for its own sake: an office's, whose CA nobody here knows.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise SignatureInvalid(detail=f"the token holds no certificate: {error}") from None
    issuer = next((one for one in trusted if one == certificate or _issued_by(certificate, one)), None)
    if issuer is None:
        raise SignatureInvalid(detail="the signer's certificate was not issued by the trusted CA")
    for name, each in (("signer's", certificate), ("CA's", issuer)):
        if not each.not_valid_before_utc <= moment <= each.not_valid_after_utc:
            raise SignatureInvalid(detail=f"the {name} certificate was not valid at {moment.isoformat()}")
    return certificate


def _issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
        certificate.verify_directly_issued_by(authority)
    except (
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        InvalidSignature,
        UnsupportedAlgorithm,
        ValueError,
        TypeError,
    ):
        return False
    return constraints.value.ca


def _same_parts(envelope: Envelope, signed: Sequence[Element]) -> tuple[str, ...]:
    """Hold what was signed against the message's own parts, octet for octet; Body and Timestamp must be among them."""
    parts = (envelope.body, envelope.timestamp, envelope.token)
    names = {canonical(part): etree.QName(part).localname for part in parts}
    covered = tuple(names.pop(canonical(element), "") for element in signed if element is not None)
    if len(covered) != len(signed) or "" in covered or not {"Body", "Timestamp"} <= set(covered):
        raise SignatureInvalid(detail="what was signed is not exactly Body and Timestamp (and perhaps the token)")
    return covered
