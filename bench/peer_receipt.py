"""The peer's signed receipt: our Receipt element with an enveloped signature by signxml, ECDSA P-256 as ours has."""

import base64

from lxml import etree
from signxml import XMLSigner, methods
from signxml.algorithms import CanonicalizationMethod

from gridpost import ns


class ReceiptMaker:
    def __init__(self, key, certificate_pem):
        self._key, self._certificate = key, certificate_pem
        self._signer = XMLSigner(
            method=methods.enveloped,
            signature_algorithm="ecdsa-sha256",
            digest_algorithm="sha256",
            c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
        )

    def __call__(self, arrival, message_id, recorded_at, seq, counts):
        """Return the signed Receipt as bytes; `counts`: stored, known, conflicting."""
        receipt = etree.Element(f"{{{ns.RECEIPT}}}Receipt", nsmap={None: ns.RECEIPT})
        fields = [
            ("messageId", message_id),
            ("sender", arrival.sender),
            ("contentDigest", base64.b64encode(arrival.digest).decode()),
            *(("reference", f"{uri} {digest}") for uri, digest in arrival.references),
            ("recordedAt", recorded_at.isoformat()),
            ("seq", str(seq)),
            *zip(("stored", "known", "conflicting"), map(str, counts), strict=True),
        ]
        for name, text in fields:
            etree.SubElement(receipt, f"{{{ns.RECEIPT}}}{name}").text = text
        return etree.tostring(self._signer.sign(receipt, key=self._key, cert=self._certificate))
