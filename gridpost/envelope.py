"""Bytes to a shaped SOAP envelope, before anything in it is trusted.

Floor 2. In: the bytes a stranger sent. Out: an `Envelope` whose parts stand exactly where this page says, or a
PeerFault. Every count and markup check that can be made on the bytes is made before the tree is built; there is one
parse and one tree, and nothing else in Gridpost parses a message. What the signature covers is `wssecurity.py`'s
business; nothing here may be believed.

The one shape (DESIGN section 4)::

    soap:Envelope
      soap:Header      one wsse:Security (mustUnderstand); others only without mustUnderstand, and ignored
        wsse:Security  one wsu:Timestamp, one wsse:BinarySecurityToken, one ds:Signature, in any order
      soap:Body        wsu:Id, one element child
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import hashlib
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import Any

from lxml import etree

from . import ns
from .errors import (
    EnvelopeShape,
    ForbiddenMarkup,
    LimitExceeded,
    MalformedXml,
    MessageTooLarge,
    MustUnderstand,
    VersionMismatch,
)

Element = Any  # an lxml element: lxml carries no type hints of its own


@dataclass(frozen=True, slots=True)
class Limits:
    """What one message may hold. All are checked, the first five before or while the tree is built."""

    size: int = 1 << 20
    """Bytes. More lets one sender hold more memory and processor time: about 9 ms a MiB."""
    less_than: int = 100_000
    """Characters ``<``: bounds elements, whatever their spelling."""
    equals: int = 100_000
    """Characters ``=``: bounds attributes and namespace declarations."""
    nodes: int = 150_000
    """Elements, texts, and each attribute twice: libxml2 takes some 128 bytes of memory for each of them."""
    depth: int = 64
    """Levels of elements. libxml2 itself stops at 256."""
    attributes: int = 64
    """Attributes of one element."""
    namespaces: int = 64
    """Namespace declarations on the way from the root to any element, repeated ones too: c14n is quadratic in them."""

    def raised(self, size: int) -> Limits:
        """Return limits for larger messages, the caps on ``<``, ``=`` and nodes grown in proportion (decision 28)."""
        factor = max(1, -(-size // self.size))
        grown = {name: getattr(self, name) * factor for name in ("less_than", "equals", "nodes")}
        return replace(self, size=size, **grown)


DEVICE_LIMITS = Limits()


class Claims:
    """What a shaped message says of itself, signed or not: for the look-up of its operation, and for logs."""

    __slots__ = ()
    payload: Element

    @property
    def operation(self) -> str:
        """The name of the Body's child."""
        return str(self.payload.tag)

    @property
    def claimed_source(self) -> str:
        """Header/Source, for logs only."""
        return claim(self.payload, "Source")

    @property
    def claimed_message_id(self) -> str:
        """Header/MessageID, for logs only."""
        return claim(self.payload, "MessageID")


@dataclass(frozen=True, slots=True)
class Envelope(Claims):
    """A message of the one shape, not yet trusted.

    Attributes:
        raw: the bytes as received.
        body: soap:Body.
        payload: its one child.
        timestamp: wsu:Timestamp.
        token: wsse:BinarySecurityToken.
        signature: ds:Signature.
        certificate: the token's octets, DER if the sender is honest.
        certificate_sha256: their SHA-256: the key for the enrolment look-up.
    """

    raw: bytes
    body: Element
    payload: Element
    timestamp: Element
    token: Element
    signature: Element
    certificate: bytes
    certificate_sha256: bytes


_BOM = b"\xef\xbb\xbf"
_DECLARATION = re.compile(
    rb"<\?xml\s+version\s*=\s*(?:'1\.0'|\"1\.0\")(?:\s+encoding\s*=\s*(?:'utf-8'|\"utf-8\"))?"
    rb"(?:\s+standalone\s*=\s*(?:'(?:yes|no)'|\"(?:yes|no)\"))?\s*\?>",
    re.IGNORECASE,
)
HEADER, BODY = ns.q(ns.SOAP11, "Header"), ns.q(ns.SOAP11, "Body")
SECURITY = ns.q(ns.WSSE, "Security")
_TIMESTAMP = ns.q(ns.WSU, "Timestamp")
_TOKEN = ns.q(ns.WSSE, "BinarySecurityToken")
SIGNATURE = ns.q(ns.DS, "Signature")
WSU_ID = ns.q(ns.WSU, "Id")
_MUST_UNDERSTAND = ns.q(ns.SOAP11, "mustUnderstand")
_ACTOR = ns.q(ns.SOAP11, "actor")

_ids = etree.XPath("//@*[translate(local-name(), 'ID', 'id') = 'id']", smart_strings=False)


def parse(raw: bytes, limits: Limits = DEVICE_LIMITS) -> Element:
    """Parse one XML document under the house's rules and return its root.

    Raises:
        MessageTooLarge, ForbiddenMarkup, MalformedXml, LimitExceeded: see their docstrings.
    """
    _refuse_by_bytes(raw, limits)
    _names.make_room(len(raw))
    # A parser for each call: lxml locks a shared one between threads, and making one costs 3 us.
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, collect_ids=False,
        huge_tree=limits.size > 10_000_000, encoding="utf-8",
    )  # fmt: skip
    try:
        root = etree.fromstring(raw, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise MalformedXml(detail=str(error)) from None
    if root.getroottree().docinfo.doctype:
        raise ForbiddenMarkup(detail="document type")
    _refuse_by_tree(root, raw, limits)
    return root


def shape(raw: bytes, limits: Limits = DEVICE_LIMITS) -> Envelope:
    """Parse a message and hold it against the one shape.

    Raises:
        PeerFault: any leaf of the first group in errors.py but SignatureInvalid and ActionMismatch.
    """
    return shape_of(parse(raw, limits), raw)


def shape_of(root: Element, raw: bytes) -> Envelope:
    """Hold a message that `parse` made of `raw` against the one shape; raises as `shape`."""
    if root.tag != ns.q(ns.SOAP11, "Envelope"):
        raise VersionMismatch(detail=f"root {root.tag[:200]}")
    refuse_soap_attributes(root)
    header, body = _exactly(root, [HEADER, BODY])
    security = _security_of(header)
    timestamp, token, signature = _in_any_order(security, [_TIMESTAMP, _TOKEN, SIGNATURE])
    if list(body.attrib) != [WSU_ID]:
        raise EnvelopeShape(detail="Body's attributes are not exactly wsu:Id")
    (payload,) = children_of(body, 1)
    refuse_twin_ids(root)
    certificate = base64_octets(token.text)
    return Envelope(
        raw=raw,
        body=body,
        payload=payload,
        timestamp=timestamp,
        token=token,
        signature=signature,
        certificate=certificate,
        certificate_sha256=hashlib.sha256(certificate).digest(),
    )


class _Names(threading.local):
    """Bounds what strangers can leave behind in lxml.

    Up to version 6, lxml keeps each element, attribute and namespace name it ever met in one dictionary a thread,
    which only the thread's end frees: a megabyte of made-up names leaves some three behind, for good, unauthenticated.
    Dropping its entry from the thread's state lets the next parse begin a new one; trees keep the one they were made
    with. Where lxml has no such entry (one dictionary a parser), nothing happens.

    lxml also hands libxml2 only those prefixes of a PrefixList that the dictionary knows, which loses ``#default``:
    so each dictionary is taught it, as the name of a namespace.
    """

    BYTES = 4 << 20

    def __init__(self) -> None:
        self._parsed = 0
        etree.fromstring(_TEACH_DEFAULT)

    def make_room(self, size: int) -> None:
        self._parsed += size
        if self._parsed > self.BYTES:
            self._parsed = 0
            state = ctypes.cast(_thread_state(), ctypes.py_object).value
            state.pop("_ParserDictionaryContext", None)
            etree.fromstring(_TEACH_DEFAULT)


_BLANKS = b" \t\r\n"
_TEACH_DEFAULT = b'<a xmlns="#default"/>'


_thread_state = ctypes.pythonapi.PyThreadState_GetDict
# Not py_object: that would take ownership of a reference the call only lends.
_thread_state.restype, _thread_state.argtypes = ctypes.c_void_p, []
_names = _Names()


def base64_octets(text: str | None) -> bytes:
    """Decode xs:base64Binary: XML white space is allowed, anything else foreign is not.

    Raises:
        EnvelopeShape: not base64, or empty.
    """
    try:
        # As bytes: str.split() would also drop a no-break space and its like. In one piece: 340,000 letters, each
        # between blanks, split into 25 MB.
        octets = base64.b64decode((text or "").encode("ascii").translate(None, _BLANKS), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        octets = b""
    if not octets:
        raise EnvelopeShape(detail="not base64")
    return octets


def canonical(element: Element, prefixes: Sequence[str] = ()) -> bytes:
    """Return exclusive canonical XML 1.0 of an element without comments, `prefixes` being its PrefixList.

    Raises:
        EnvelopeShape: it has no canonical form (a relative namespace URI).
    """
    try:
        octets: bytes = etree.tostring(
            element,
            method="c14n",
            exclusive=True,
            with_comments=False,
            inclusive_ns_prefixes=list(prefixes) or None,
            with_tail=False,
        )
    except (etree.C14NError, ValueError) as error:
        # An empty digest must never stand for a failure (facts: a C14N exception is a refusal).
        raise EnvelopeShape(detail=f"no canonical form: {error}") from None
    return octets


def _refuse_by_bytes(raw: bytes, limits: Limits) -> None:
    if len(raw) > limits.size:
        raise MessageTooLarge(detail=f"{len(raw)} bytes")
    text = raw.removeprefix(_BOM)
    start = 0
    if text.startswith(b"<?xml"):
        declaration = _DECLARATION.match(text)
        if not declaration:
            raise MalformedXml(detail="declaration is not XML 1.0 in UTF-8")
        start = declaration.end()
    # Also keeps UTF-16 and UTF-32 out: their second or first byte is NUL.
    if not text[start : start + 400].lstrip(b" \t\r\n").startswith(b"<") or b"\0" in text[:64]:
        raise MalformedXml(detail="does not begin with an element")
    # The search for one character first: most messages have neither, and it costs a fortieth.
    if any(text.find(mark[1:], start) >= 0 and text.find(mark, start) >= 0 for mark in (b"<!", b"<?")):
        raise ForbiddenMarkup()
    if raw.count(b"<") > limits.less_than or raw.count(b"=") > limits.equals:
        raise LimitExceeded(detail="elements or attributes")
    if 2 * len(raw) > limits.nodes and _most_nodes(raw) > limits.nodes:
        raise LimitExceeded(detail="elements, texts and attributes together")


def _most_nodes(raw: bytes) -> int:
    """How many nodes a tree of it can have.

    A tag begins with ``<``, an element's end has ``</``. A text stands behind a ``>`` that no ``<`` follows at once; a
    ``>`` inside a text or a value only makes the count too high.
    """
    return raw.count(b"<") - raw.count(b"</") + raw.count(b">") - raw.count(b"><") + 2 * raw.count(b"=")


def _refuse_by_tree(root: Element, raw: bytes, limits: Limits) -> None:
    if _exceeds(f"{'/*' * (limits.depth + 1)}")(root):
        raise LimitExceeded(detail="depth")
    if raw.count(b"=") <= min(limits.attributes, limits.namespaces):
        return  # each attribute and each declaration has one
    if _exceeds(f"//@*[{limits.attributes + 1}]")(root):
        raise LimitExceeded(detail="attributes of one element")
    if raw.count(b"xmlns") > limits.namespaces and _declares_more(root, limits.namespaces):
        raise LimitExceeded(detail="namespace declarations above one element")


@lru_cache(maxsize=16)
def _exceeds(path: str) -> Any:
    return etree.XPath(f"boolean({path})")


def _declares_more(root: Element, limit: int) -> bool:
    """A walk, not `nsmap`: that goes up to the root for every element, 8 s for a message within every other limit."""
    events = etree.iterwalk(root, events=("start-ns", "end-ns"))
    return any(count > limit for count in accumulate(1 if event == "start-ns" else -1 for event, _ in events))


def refuse_soap_attributes(root: Element) -> None:
    """Refuse SOAP attributes where they mean nothing."""
    if any(name.startswith(f"{{{ns.SOAP11}}}") for name in root.attrib):
        raise EnvelopeShape(detail="SOAP attribute on Envelope")


def _security_of(header: Element) -> Element:
    security = None
    for child in children_of(header):
        if child.tag == SECURITY:
            if security is not None:
                raise EnvelopeShape(detail="two Security headers")
            security = child
        else:
            refuse_must_understand(child)
    if security is None:
        raise EnvelopeShape(detail="no Security header")
    if security.get(_MUST_UNDERSTAND) != "1" or _ACTOR in security.attrib:
        raise EnvelopeShape(detail="Security header is not mustUnderstand for the ultimate receiver")
    return security


def refuse_must_understand(header: Element) -> None:
    """Refuse a header that insists on being understood."""
    if header.get(_MUST_UNDERSTAND, "0").strip() not in ("0", "false"):
        raise MustUnderstand(detail=header.tag[:200])


def _exactly(parent: Element, tags: Sequence[str]) -> list[Element]:
    children = children_of(parent)
    if [child.tag for child in children] != list(tags):
        raise EnvelopeShape(detail=f"children of {parent.tag}")
    return children


def _in_any_order(parent: Element, tags: Sequence[str]) -> list[Element]:
    children = children_of(parent, len(tags))
    by_tag = {child.tag: child for child in children}
    if set(by_tag) != set(tags):
        raise EnvelopeShape(detail=f"children of {parent.tag}")
    return [by_tag[tag] for tag in tags]


def children_of(parent: Element, count: int | None = None) -> list[Element]:
    """The element children; text between them must be white space (comments were refused on the bytes)."""
    children = list(parent)
    texts = [parent.text, *(child.tail for child in children)]
    if any(text and text.strip(" \t\r\n") for text in texts):
        raise EnvelopeShape(detail=f"text in {parent.tag}")
    if count is not None and len(children) != count:
        raise EnvelopeShape(detail=f"{len(children)} children of {parent.tag}")
    return children


def refuse_twin_ids(root: Element) -> None:
    """Refuse one Id twice, whatever its spelling."""
    ids = _ids(root)
    if len(ids) != len(set(ids)):
        raise EnvelopeShape(detail="one Id twice")


def claim(payload: Element, local: str) -> str:
    """What the sender says of itself, printable and short: for the audit log only."""
    text = payload.findtext(f"{{*}}Header/{{*}}{local}") or ""
    return "".join(character for character in text.strip()[:64] if " " < character <= "~")
