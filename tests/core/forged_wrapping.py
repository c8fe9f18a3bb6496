"""Signature wrapping, the threat catalogue 2.3: the signed part moved away and a false one put where it is read.

McIntosh and Austel 2005; Somorovsky and others 2012 (XSW 1 to 8). The matrix is every place the signed Body can go to,
times every way the false one can be named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from forging import Forgery, Setting, draft
from lxml import etree

from gridpost import ns

CODES = ("envelope-shape", "signature-invalid", "must-understand", "malformed-xml")
ROW = "2.3 XSW1-8 and the matrix"
Tree = etree._Element
NAMES = {"soap": ns.SOAP11, "wsse": ns.WSSE, "wsu": ns.WSU, "ds": ns.DS}
WSU_ID = ns.q(ns.WSU, "Id")
XML_ID = "{http://www.w3.org/XML/1998/namespace}id"

# How the false part calls itself beside the true one's wsu:Id.
IDS: dict[str, dict[str, str]] = {
    "no-id": {},
    "same-id": {WSU_ID: "@"},
    "other-id": {WSU_ID: "other"},
    "plain-ID": {"ID": "@"},
    "plain-id": {"id": "@"},
    "plain-Id": {"Id": "@"},
    "xml-id": {XML_ID: "@"},
    "foreign-Id": {"{urn:x}Id": "@"},
    "other-and-plain-id": {WSU_ID: "other", "Id": "@"},
    "case-of-value": {WSU_ID: "^"},
}


def _first(root: Tree, path: str) -> Tree:
    return root.xpath(path, namespaces=NAMES)[0]


def _in_header(root: Tree, true: Tree, false: Tree) -> None:
    holder = etree.SubElement(_first(root, "/*/soap:Header"), "{urn:x}holder")
    holder.append(true)


def _first_in_header(root: Tree, true: Tree, false: Tree) -> None:
    _first(root, "/*/soap:Header").insert(0, true)


def _in_security(root: Tree, true: Tree, false: Tree) -> None:
    _first(root, "//wsse:Security").append(true)


def _in_object(root: Tree, true: Tree, false: Tree) -> None:
    etree.SubElement(_first(root, "//ds:Signature"), ns.q(ns.DS, "Object")).append(true)


def _in_key_info(root: Tree, true: Tree, false: Tree) -> None:
    _first(root, "//ds:KeyInfo").append(true)


def _in_token_reference(root: Tree, true: Tree, false: Tree) -> None:
    _first(root, "//wsse:SecurityTokenReference").append(true)


def _in_timestamp(root: Tree, true: Tree, false: Tree) -> None:
    _first(root, "//wsu:Timestamp").append(true)


def _in_signed_info(root: Tree, true: Tree, false: Tree) -> None:
    _first(root, "//ds:SignatureMethod").append(true)


def _trailer(root: Tree, true: Tree, false: Tree) -> None:
    root.append(true)


def _before_header(root: Tree, true: Tree, false: Tree) -> None:
    root.insert(0, true)


def _between(root: Tree, true: Tree, false: Tree) -> None:
    root.insert(1, true)


def _inside_false(root: Tree, true: Tree, false: Tree) -> None:
    false.append(true)


def _inside_false_payload(root: Tree, true: Tree, false: Tree) -> None:
    false[0].append(true)


def _around_false(root: Tree, true: Tree, false: Tree) -> None:
    _first(root, "//wsse:Security").append(true)
    etree.SubElement(true, "{urn:x}holder").append(root[-1].__copy__())


def _envelope_in_header(root: Tree, true: Tree, false: Tree) -> None:
    inner = etree.SubElement(_first(root, "/*/soap:Header"), ns.q(ns.SOAP11, "Envelope"))
    inner.append(true)


PLACES: dict[str, Callable[[Tree, Tree, Tree], None]] = {
    "header": _in_header,
    "header-first": _first_in_header,
    "security": _in_security,
    "object": _in_object,
    "key-info": _in_key_info,
    "token-reference": _in_token_reference,
    "timestamp": _in_timestamp,
    "signed-info": _in_signed_info,
    "trailer": _trailer,
    "before-header": _before_header,
    "between": _between,
    "inside-false": _inside_false,
    "inside-false-payload": _inside_false_payload,
    "around-false": _around_false,
    "envelope-in-header": _envelope_in_header,
}


def forgeries(setting: Setting) -> Iterator[Forgery]:
    """The matrix for the Body, the same for the Timestamp, and whole envelopes in each other."""
    for place, move in PLACES.items():
        for label, names in IDS.items():
            yield Forgery(f"wrapped-body-{place}-{label}", ROW, _wrapped(setting, "soap:Body", move, names), CODES)
    for place in (
        "header",
        "header-first",
        "security",
        "object",
        "key-info",
        "trailer",
        "before-header",
        "inside-false",
    ):
        for label in ("no-id", "same-id", "other-id", "plain-id"):
            raw = _wrapped(setting, "wsu:Timestamp", PLACES[place], IDS[label])
            yield Forgery(f"wrapped-timestamp-{place}-{label}", "2.3 Timestamp wrapping", raw, CODES)
    yield from _false_only(setting)


def _wrapped(setting: Setting, part: str, move: Callable[[Tree, Tree, Tree], None], names: dict[str, str]) -> bytes:
    root = etree.fromstring(draft(setting).sealed())
    true = _first(root, f"//{part}")
    false = etree.fromstring(etree.tostring(true))
    for value in false.iter(ns.q(ns.METER_READINGS, "value")):
        value.text = "999999"
    for created in false.iter(ns.q(ns.WSU, "Created")):
        created.text = created.text.replace("T", "T", 1).replace(".000Z", ".001Z")
    true_id = true.get(WSU_ID)
    del false.attrib[WSU_ID]
    for name, value in names.items():
        false.set(name, value.replace("@", true_id).replace("^", true_id.upper()))
    true.getparent().replace(true, false)
    move(root, true, false)
    return etree.tostring(root)


def _false_only(setting: Setting) -> Iterator[Forgery]:
    """The true part is nowhere: only what it says of itself is changed."""
    right = draft(setting).sealed().decode()
    inner = right.replace('"body"', '"b"').replace('"time"', '"t"').replace('"token"', '"k"')
    head = right[: right.index("<soap:Body")]
    cases = {
        "value-changed": right.replace(">1.5<", ">9.5<"),
        "value-with-blank": right.replace(">1.5<", ">1.5 <"),
        "time-of-value-changed": right.replace("<timeStamp>20", "<timeStamp>19"),
        "meter-changed": right.replace(f"<mRID>{setting.channel.key.meter}<", "<mRID>X1<"),
        "created-changed": right.replace("<wsu:Created>2", "<wsu:Created>3"),
        "body-id-changed": right.replace('wsu:Id="body"', 'wsu:Id="body2"'),
        "body-id-plain": right.replace('wsu:Id="body"', 'Id="body"'),
        "body-id-missing": right.replace(' wsu:Id="body"', ""),
        "body-id-empty": right.replace('wsu:Id="body"', 'wsu:Id=""').replace("#body", "#"),
        "body-and-token-one-id": right.replace('wsu:Id="token"', 'wsu:Id="body"').replace("#token", "#body"),
        "header-with-body-id": right.replace("<soap:Header>", '<soap:Header><a Id="body"/>'),
        "header-with-body-id-in-other-case": right.replace("<soap:Header>", '<soap:Header><a iD="body"/>'),
        "envelope-in-body": head + f'<soap:Body wsu:Id="body">{inner}</soap:Body></soap:Envelope>',
        "envelope-in-envelope": right.replace("<soap:Header>", inner + "<soap:Header>"),
        "attribute-added-in-body": right.replace("<value>", '<value x="1">'),
        "blank-added-in-body": right.replace("</soap:Body>", " </soap:Body>"),
        "prefix-added-in-body": right.replace(
            "<value>1.5</value>", f'<m:value xmlns:m="{ns.METER_READINGS}">1.5</m:value>'
        ),
        "reading-added": right.replace("</IntervalReadings>", "</IntervalReadings><IntervalReadings/>"),
        "reading-taken-away": right.replace("<value>1.5</value>", ""),
        "token-attribute-changed": right.replace("#X509v3", "#X509PKIPathv1"),
    }
    for name, text in cases.items():
        yield Forgery(f"tampered-{name}", ROW, text.encode(), CODES)
