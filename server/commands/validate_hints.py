"""What to do about a finding of ``gridpost validate``: hints, places and lines.

In: an element, a reason, a path. Out: text, an element, a line number. No judgement here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from lxml import etree

from gridpost import ns, schemas
from gridpost.envelope import Element
from gridpost.errors import AFTER_FIX, GridpostError, summary

_LONGEST = 300
_LINE = re.compile(r"\bline (\d+)\b")
_LOCATED = re.compile(r"\A/[^/]+((?:/[^/]+)*)\Z")

# Reason (of xmlschema, libxml2 or our reader) and local name -> what to do; the first that fits.
_HINTS: Sequence[tuple[re.Pattern[str], str]] = tuple(
    (re.compile(pattern, re.IGNORECASE), text)
    for pattern, text in (
        (r"(decimal|number of digits|more digits).*\bvalue\Z",
         "write a decimal numeral of at most 18 digits such as 0.125: no exponent, no comma, no white space inside; "
         "binary floats must be sent as text"),
        (r"(date ?time|datetime|date and time|whole second|invalid value|out of range).*(time|start|end|created)\w*\Z",
         "write a time with its zone, such as 2026-03-01T00:15:00Z or 2026-03-01T08:15:00+08:00"),
        (r"missing required attribute|is required but missing", "give the attribute; a reference has its code in ref"),
        (r"unexpected child|not expected|not complete|missing child",
         "the order of elements is fixed and only those of the schema may stand here"),
        (r"length|maxLength", "shorten the text"),
        (r"character data", "only elements may stand here, no text"),
        (r"No matching global|not found|unknown", "the element's name or namespace is not one of the contract's"),
        (r"must be one of|not an element of the set", "use one of the values that the schema lists"),
    )
)  # fmt: skip


def hint(element: Element | None, reason: str) -> str:
    """Return what to do, and what the schema says of the element; empty when nothing is known."""
    local = etree.QName(element).localname if element is not None else ""
    todo = next((text for pattern, text in _HINTS if pattern.search(f"{reason} {local}")), "")
    said = _documentation().get(_key(element), "") if element is not None and not todo else ""
    return todo or (f"{local}: {said}" if said else "")


def remedy(error: type[GridpostError]) -> str:
    """Return the error's own second sentence for the peer's operator, where it has one."""
    _first, _, rest = summary(error).partition(". ")
    return rest if rest and error.retry == AFTER_FIX else ""


def shortened(reason: str) -> str:
    """Return a reason that fits a line."""
    return reason if len(reason) <= _LONGEST else reason[:_LONGEST] + "..."


def line_in(text: str) -> int:
    """Return the line a path or reason names in words, 0 for none."""
    match = _LINE.search(text)
    return int(match[1]) if match else 0


def located(top: Element, path: str, prefixes: Mapping[str, str]) -> Element | None:
    """Return the element that a path of `gridpost.schemas.path_of`, made from `top`, names."""
    match = _LOCATED.match(path)
    if not match or "*:" in path:
        return None
    found = top.xpath("." + match[1], namespaces=dict(prefixes))
    return found[0] if found else None


def _key(element: Element) -> tuple[str, str]:
    parent = element.getparent()
    return ("" if parent is None else etree.QName(parent).localname, element.tag)


@lru_cache(maxsize=1)
def _documentation() -> Mapping[tuple[str, str], str]:
    """(local name of the parent, Clark name) -> what the schema says of it, for leaves under types used by one name."""
    said: dict[tuple[str, str], str] = {}
    for namespace, file in schemas.FILES.items():
        tree = etree.fromstring(schemas.documents()[file])
        uses: dict[str, list[str]] = {}
        for declared in tree.iter(_XS + "element"):
            uses.setdefault(declared.get("type", ""), []).append(declared.get("name", ""))
        for inner in tree.iterfind(f"{_XS}complexType//{_XS}element[@name]"):
            owner = next(inner.iterancestors(_XS + "complexType")).get("name")
            text = " ".join((inner.findtext(f"{_XS}annotation/{_XS}documentation") or "").split())
            for parent in uses.get(owner, []):
                said[parent, ns.q(namespace, inner.get("name"))] = text
    return said


_XS = f"{{{ns.XSD}}}"
