"""What the decoders share: findings with their places, and the texts that are read alike everywhere.

Floor 2. In: elements of a schema-valid message. Out: values, or one `SchemaInvalid` that lists what XSD lets pass and
Gridpost does not, each with its place. Nothing is put right silently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from . import ns, schemas, units
from .envelope import Element
from .errors import Item, SchemaInvalid

LONGEST_ID = 128
_BODY = ns.q(ns.SOAP11, "Body")
T = TypeVar("T")


class Findings:
    """What is wrong with a message, collected so that one refusal lists it all (at most 20)."""

    LONGEST = 20

    def __init__(self, top: Element) -> None:
        """Paths are given from the Body's child down, as the schema's findings are."""
        above = [ancestor for ancestor in top.iterancestors() if ancestor.getparent() is not None]
        self._top = next((child for child in above if child.getparent().tag == _BODY), top)
        self._items: list[Item] = []
        self.total = 0

    def add(self, element: Element, reason: str) -> None:
        """Note one more."""
        self.total += 1
        if len(self._items) < self.LONGEST:
            self._items.append(Item("bad-value", reason, schemas.path_of(element, self._top)))

    def tried(self, read: Callable[[str], T], element: Element) -> T | None:
        """Return what `read` makes of the element's text; None and a finding when it raises ValueError."""
        text = (element.text or "").strip()
        try:
            return read(text)
        except ValueError as error:
            self.add(element, f"{text[:40]!r}: {error}")
            return None

    def refuse(self) -> None:
        """Raise SchemaInvalid when there is one."""
        if self._items:
            raise SchemaInvalid(f"{self._items[0].path}: {self._items[0].reason}", items=self._items)


def text_at(element: Element, path: str) -> str:
    """Return the text at a path below `element`, stripped; empty when there is none."""
    return (element.findtext(path) or "").strip()


def printable(text: str, longest: int = LONGEST_ID) -> str:
    """Return an id as it is.

    Raises:
        ValueError: empty, too long, or not printable ASCII.
    """
    if not 1 <= len(text) <= longest or not all(" " <= character <= "~" for character in text):
        raise ValueError(f"must be 1 to {longest} printable ASCII characters")
    return text


def whole_number(text: str, most: int) -> int:
    """Return a whole number from 0 to `most`.

    Raises:
        ValueError: anything else.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= units.MAX_DIGITS) or int(text) > most:
        raise ValueError(f"must be a whole number from 0 to {most}")
    return int(text)
