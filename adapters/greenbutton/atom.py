"""The feed that ESPI's objects come in: entries tied together by the addresses in their links.

In: the bytes of a file. Out: entries with their links and the ESPI object each holds. Only the frame is judged here;
what an object says is `parse`'s.

No document type is read, so no entity is expanded; comments and processing instructions, which feeds carry for
browsers, are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from gridpost.errors import FileInvalid, Item

ATOM, ESPI = "http://www.w3.org/2005/Atom", "http://naesb.org/espi"


class Entry(NamedTuple):
    """An entry of the feed: its own address, its place, those it names, and the object in it."""

    self_link: str
    up: str
    related: frozenset[str]
    kind: str
    body: Element

    @property
    def name(self) -> str:
        """The last part of its address, as people wrote it."""
        return last_part(self.self_link)

    def is_over(self, other: Entry) -> bool:
        """Tell whether the links say that the other belongs to this one."""
        return (
            other.self_link in self.related
            or other.up in self.related
            or other.up == f"{self.self_link}/{other.kind}"
            or (other.up == self.self_link and bool(other.up))
        )


class _Plain(TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise FileInvalid("the file has a document type, which a feed has not")


def entries_of(raw: bytes) -> Sequence[Entry]:
    """Return the entries of a feed that hold an ESPI object.

    Raises:
        FileInvalid: no XML, no Atom feed, or an entry without an address or with several objects.
    """
    parser = XMLParser(target=_Plain())
    try:
        parser.feed(raw)
        root = parser.close()
    except (ParseError, ValueError, LookupError) as error:
        what = "the file is empty" if not raw.strip(b"\xef\xbb\xbf \r\n\t") else f"no whole XML document: {error}"
        raise FileInvalid(what) from error
    if root.tag not in (f"{{{ATOM}}}feed", f"{{{ATOM}}}entry"):
        raise FileInvalid(f"the document's root is {root.tag[:200]}, not an Atom feed")
    found = [_entry(one) for one in root.iter(f"{{{ATOM}}}entry")]
    if not found:
        raise FileInvalid("the feed has no entries")
    return found


def _entry(element: Element) -> Entry:
    links: dict[str, list[str]] = {}
    for link in element.findall(f"{{{ATOM}}}link"):
        links.setdefault(link.get("rel", ""), []).append(_address(link.get("href", "")))
    self_link, up = ("".join(links.get(rel, [])[:1]) for rel in ("self", "up"))
    objects = [one for content in element.findall(f"{{{ATOM}}}content") for one in content]
    if not self_link:
        raise FileInvalid("an entry has no link to itself")
    if len(objects) != 1 or not objects[0].tag.startswith(f"{{{ESPI}}}"):
        raise invalid(self_link, "the entry does not hold one ESPI object")
    kind = objects[0].tag.rpartition("}")[2]
    return Entry(self_link, up, frozenset(links.get("related", [])), kind, objects[0])


def _address(href: str) -> str:
    """Return an address without its end's slash: feeds write collections both ways."""
    return href.strip().rstrip("/")


def last_part(address: str) -> str:
    """Return the last part of an address's path, percent signs resolved."""
    try:
        return unquote(urlsplit(address).path.rpartition("/")[2])
    except ValueError as error:
        raise FileInvalid(f"{address[:200]!r} is no address: {error}") from error


def text(element: Element, name: str) -> str:
    """Return the text of an ESPI child; empty when there is none."""
    return (element.findtext(f"{{{ESPI}}}{name}") or "").strip()


def invalid(where: str, reason: str) -> FileInvalid:
    """Return the refusal of an entry."""
    return FileInvalid(f"{where[:200]}: {reason}", items=[Item(FileInvalid.code, reason, where[:200])])
