"""CreatedDocuments: the message by which the bus itself puts documents into the log, value <-> XML.

Floor 2. Out: the Body's child in exclusive canonical form, to be sealed by the bus's own key. In: the Body's child of a
message that is verified and schema-valid. No way in takes it from anybody: it is read again only as evidence. A
content is carried as text, so that its bytes come back as they were given.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import ns, units
from .documents import Document
from .encoding import encode_header, octets, text_of
from .envelope import Element
from .findings import Findings, text_at
from .model import Header

NOUN, VERB = "Documents", "created"
NAME = ns.q(ns.DOCUMENT, "CreatedDocuments")
_D = f"{{{ns.DOCUMENT}}}"


@dataclass(frozen=True, slots=True)
class CreatedDocuments:
    """Documents that the bus puts into its log; `author`: the person or the rule behind them."""

    header: Header
    author: str
    documents: tuple[Document, ...]


def encode(message: CreatedDocuments) -> bytes:
    """Return ``CreatedDocuments``.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
    """
    documents = "".join(map(_encode_document, message.documents))
    return octets(
        f'<CreatedDocuments xmlns="{ns.DOCUMENT}">{encode_header(message.header)}'
        f"<Payload><Documents><author>{text_of(message.author)}</author>{documents}</Documents></Payload>"
        "</CreatedDocuments>"
    )


def _encode_document(document: Document) -> str:
    fields = {
        "kind": document.kind,
        "id": document.id,
        "owner": document.owner,
        "subject": document.subject,
        "from": units.format_utc(document.from_utc),
    }
    if document.to_utc is not None:
        fields["to"] = units.format_utc(document.to_utc)
    texts = (fields | {"content": document.content}).items()
    return f"<Document>{''.join(f'<{name}>{text_of(text)}</{name}>' for name, text in texts)}</Document>"


def decode(header: Header, element: Element) -> CreatedDocuments:
    """Decode a Documents element.

    Raises:
        SchemaInvalid: a moment that XSD lets pass and Gridpost does not; itemised.
    """
    findings = Findings(element)
    documents = tuple(_decode_document(one, findings) for one in element.iterchildren(f"{_D}Document"))
    findings.refuse()
    return CreatedDocuments(header, text_at(element, f"{_D}author"), documents)


def _decode_document(element: Element, findings: Findings) -> Document:
    def text(name: str) -> str:
        return element.findtext(f"{_D}{name}") or ""

    ends = element.find(f"{_D}to")
    return Document(
        kind=text("kind"),
        id=text("id"),
        owner=text("owner"),
        subject=text("subject"),
        from_utc=findings.tried(units.parse_utc, element.find(f"{_D}from")) or 0,
        to_utc=None if ends is None else findings.tried(units.parse_utc, ends),
        content=text("content"),
    )
