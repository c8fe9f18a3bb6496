"""Pages and pictures as trees of elements, so that no text in them can become markup.

In: tags, attributes, texts. Out: HTML or SVG bytes that need no other file and no network. No script is ever in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lxml import etree

SVG = "http://www.w3.org/2000/svg"
Node = Any  # lxml's element, which its stubs do not name
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 1.6em }
table { border-collapse: collapse; margin: .6em 0 } th { text-align: left; border-bottom: 2px solid #888 }
td, th { padding: .25em .9em .25em 0; vertical-align: top } tr + tr td { border-top: 1px solid #ddd }
td.number { text-align: right; font-variant-numeric: tabular-nums } .answer { font-size: 1.15em; font-weight: 600 }
svg { max-width: 100%; height: auto } footer { color: #666; font-size: .85em; margin-top: 2em }
"""


def element(tag: str, *inside: Node | str, **attributes: object) -> Node:
    """Return an element; ``class_`` is class, an underscore elsewhere a hyphen; what is None is left out."""
    named = {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items() if value is not None}
    made = etree.Element(tag, named)
    for one in inside:
        if not isinstance(one, str):
            made.append(one)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + one
        else:
            made.text = (made.text or "") + one
    return made


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> Node:
    """Return a table; from column `numbers` on cells are numbers (0: none are)."""
    kinds = ["number" if numbers and place >= numbers else None for place in range(len(heads))]
    head = element("tr", *(element("th", text) for text in heads))
    body = [element("tr", *(element("td", text, class_=kind) for text, kind in zip(row, kinds, strict=True)))
            for row in rows]  # fmt: skip
    return element("table", element("thead", head), element("tbody", *body))


def page(title: str, *body: Node) -> bytes:
    """Return a whole HTML page in UTF-8."""
    head = element("head", element("meta", charset="utf-8"), element("title", title), element("style", _STYLE))
    whole = element("html", head, element("body", element("h1", title), *body), lang="en")
    made: bytes = etree.tostring(whole, method="html", encoding="utf-8", doctype="<!DOCTYPE html>", pretty_print=True)
    return made


def svg_file(drawing: Node) -> bytes:
    """Return a drawing as an SVG file."""
    drawing.set("xmlns", SVG)
    made: bytes = etree.tostring(drawing, xml_declaration=True, encoding="utf-8", pretty_print=True)
    return made
