"""Verifies receipts, so that a server that is fast because it signs nothing would be found out.

Ours as a device does, the peers' with signxml. Each checker takes the message and the answer's body and returns what is
wrong, or an empty text.
"""

import base64
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml import SignatureConfiguration, XMLVerifier
from signxml.exceptions import SignXMLException

from gridpost import exchange, ns
from gridpost.envelope import Limits, canonical, shape
from gridpost.errors import GridpostError

_NO_LIMIT = Limits().raised(64 << 20)


def _digest(raw, whole_body):
    envelope = shape(raw, _NO_LIMIT)
    return sha256(canonical(envelope.body if whole_body else envelope.payload)).digest()


def ours(ca_pem):
    """A checker of Gridpost's receipts, for messages whose values are all new."""
    return _ours(ca_pem, lambda message, counts: counts == (message.values, 0, 0))


def genuine(ca_pem):
    """A checker of Gridpost's receipts, whatever was on file before."""
    return _ours(ca_pem, lambda message, counts: sum(counts) == message.values)


def _ours(ca_pem, is_count):
    ca = x509.load_pem_x509_certificate(ca_pem.read_bytes()).public_bytes(Encoding.DER)

    def check(message, body):
        try:
            receipt = exchange.open_answer(body, exchange.Trust(ca)).receipt
        except GridpostError as error:
            return f"{error.code} {error.detail}"
        if receipt is None or receipt.message_id != message.message_id:
            return "not a receipt of this message"
        if receipt.content_digest != _digest(message.raw, whole_body=False):
            return "of other content"
        return "" if is_count(message, receipt.counts) else f"counts {receipt.counts}"

    return check


def peers(certificate_pem):
    certificate = x509.load_pem_x509_certificate(certificate_pem.read_bytes())
    config = SignatureConfiguration(location="./")

    def text(receipt, name):
        return receipt.findtext(f"{{{ns.RECEIPT}}}{name}")

    def check(message, body):
        found = etree.fromstring(body).find(f".//{{{ns.RECEIPT}}}Receipt")
        if found is None:
            return "no Receipt"
        try:
            receipt = XMLVerifier().verify(found, x509_cert=certificate, expect_config=config).signed_xml
        except SignXMLException as error:
            return f"{type(error).__name__}: {error}"
        if text(receipt, "messageId") != message.message_id:
            return "of another message"
        if base64.b64decode(text(receipt, "contentDigest")) != _digest(message.raw, whole_body=True):
            return "of other content"
        counts = tuple(int(text(receipt, name)) for name in ("stored", "known", "conflicting"))
        return "" if counts == (message.values, 0, 0) else f"counts {counts}"

    return check
