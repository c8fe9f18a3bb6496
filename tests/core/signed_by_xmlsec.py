"""Messages whose digests and signatures libxmlsec1 made, by python-xmlsec: what a foreign WS-Security stack sends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import xmlsec
from cryptography.hazmat.primitives import serialization
from forging import BODY, TIME, TOKEN, Draft, transform, with_prefixes
from lxml import etree

from gridpost import ns
from gridpost.wssecurity import KeySigner


def signed_by_xmlsec(template: Draft) -> bytes:
    """The draft with every digest and the signature made by libxmlsec1, by the key of its signer."""
    blank = replace(
        template, refs=[ref._replace(value="") for ref in template.refs], unsigned=True, sign=lambda *_: b""
    )
    root = etree.fromstring(blank.sealed())
    xmlsec.tree.add_ids(root, ["Id"])
    context = xmlsec.SignatureContext()
    context.key = private_key(template.signer)
    context.sign(root.find(f".//{ns.q(ns.DS, 'Signature')}"))
    return etree.tostring(root)


def private_key(signer: KeySigner) -> xmlsec.Key:
    pem = signer._key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return xmlsec.Key.from_memory(pem, xmlsec.KeyFormat.PEM)


SECURITY = '<wsse:Security soap:mustUnderstand="1">{}</wsse:Security>'
XMLSEC_SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "timestamp-first": {"security": SECURITY.format("{timestamp}{signature}{token}")},
    "signature-first": {"security": SECURITY.format("{signature}\n{token}\n{timestamp}")},
    "token-signed": {"refs": (TOKEN, TIME, BODY)},
    "expires": {"expires": "<wsu:Expires>2026-01-01T00:05:00Z</wsu:Expires>"},
    "sha-512": {"refs": (BODY._replace(digest=ns.SHA512), TIME._replace(digest=ns.SHA384))},
    "prefix-list": {
        "refs": (with_prefixes(BODY, "soap", "wsse"), with_prefixes(TIME, "ds", "nothing")),
        "c14n": transform(("soap", "wsu"), "CanonicalizationMethod"),
    },
    "prefix-list-default": {
        "refs": (with_prefixes(BODY, "#default"), with_prefixes(TIME, "#default", "soap")),
        "declared": f'{Draft.declared} xmlns="urn:default"',
    },
    "white-space-in-body": {"body": '<soap:Body wsu:Id="body">\n  {payload}\n\t</soap:Body>'},
    "unsigned-header": {"header": '<soap:Header><a xmlns="urn:x">x</a>{security}</soap:Header>'},
}
