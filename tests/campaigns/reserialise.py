"""Writes a message as another XML writer might: other bytes, the same signed octets.

In: a message as `exchange.seal` writes it (no comment, no CDATA section). Out: the same to exclusive canonical XML, and
so to its signature: attributes and declarations in another order, other quotes, blanks in tags, character and entity
references, empty elements with one tag or two, a byte order mark, an XML declaration, an unsigned header, a declaration
nobody uses. Nothing of Gridpost is imported: what this makes is judged by lxml's c14n in the tests, not by itself.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(r"<(?P<end>/?)(?P<name>[\w:.-]+)(?P<attributes>[^<>]*?)(?P<empty>/?)>|(?P<text>[^<]+)", re.DOTALL)
_ATTRIBUTE = re.compile(r"""([\w:.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.DOTALL)
_UNIT = re.compile(r"&[^;]+;|.", re.DOTALL)  # a reference, or a character

BLANKS = (" ", "  ", "\n", "\t", " \n\t ")
DECLARATIONS = (
    "", "", '<?xml version="1.0"?>', "<?xml version='1.0' encoding='utf-8'?>\n",
    '<?xml version="1.0" encoding="UTF-8" ?>',
    '\ufeff<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\r\n',
)  # fmt: skip
UNSIGNED = '<trace xmlns="urn:example:trace" hop="3">a &amp; b</trace>'
AS_REFERENCE = 0.03  # of the characters


class Tag(NamedTuple):
    """A tag: `kind` is "<" for a start, "</" for an end, "/" for both."""

    kind: str
    name: str
    attributes: list[tuple[str, str]]


def reserialised(raw: bytes, chance: random.Random) -> bytes:
    """Return the message written differently, as the chance has it."""
    tokens = list(_tokens(raw.decode()))
    with_header = chance.random() < 0.3
    out = [chance.choice(DECLARATIONS)]
    for number, token in enumerate(tokens):
        if isinstance(token, str):
            out.append(_text(token, chance))
            continue
        declared = [("xmlns:unused", "urn:example:unused")] if number == 0 and chance.random() < 0.3 else []
        out.append(_tag(token._replace(attributes=token.attributes + declared), chance))
        if with_header and token.kind == "<" and token.name.endswith(":Header") and number == 1:
            out.append(UNSIGNED)
    return ("".join(out) + chance.choice(("", "\n", " \r\n"))).encode()


def _tokens(text: str) -> Iterator[Tag | str]:
    """Tags and texts; a start with its end right behind it as one."""
    waiting: Tag | None = None
    for found in _TOKEN.finditer(text):
        token = found["text"] or _read(found)
        if waiting and isinstance(token, Tag) and token.kind == "</":
            yield waiting._replace(kind="/")
            waiting = None
            continue
        if waiting:
            yield waiting
        waiting = token if isinstance(token, Tag) and token.kind == "<" else None
        if not waiting:
            yield token


def _read(found: re.Match[str]) -> Tag:
    attributes = [(name, double or single) for name, double, single in _ATTRIBUTE.findall(found["attributes"])]
    return Tag("</" if found["end"] else "/" if found["empty"] else "<", found["name"], attributes)


def _tag(tag: Tag, chance: random.Random) -> str:
    blank = chance.choice(("", "", *BLANKS))
    if tag.kind == "</":
        return f"</{tag.name}{blank}>"
    attributes = chance.sample(tag.attributes, len(tag.attributes))
    start = f"<{tag.name}" + "".join(chance.choice(BLANKS) + _attribute(*one, chance) for one in attributes)
    if tag.kind == "<":
        return f"{start}{blank}>"
    return f"{start}{blank}/>" if chance.random() < 0.5 else f"{start}></{tag.name}{blank}>"


def _attribute(name: str, value: str, chance: random.Random) -> str:
    """Declarations keep their characters: a namespace is compared as it is written."""
    quote = chance.choice("\"'")
    equals = chance.choice(("=", "=", " = ", "=\n"))
    if not name.startswith("xmlns"):
        value = "".join(_unit(unit, chance) for unit in _UNIT.findall(value))
    return f"{name}{equals}{quote}{value.replace(quote, {chr(34): '&quot;', chr(39): '&apos;'}[quote])}{quote}"


def _text(text: str, chance: random.Random) -> str:
    return "".join(_unit(unit, chance) for unit in _UNIT.findall(text))


def _unit(unit: str, chance: random.Random) -> str:
    if unit == "&gt;":
        return chance.choice(("&gt;", ">", "&#62;"))
    if len(unit) > 1 or chance.random() >= AS_REFERENCE:
        return unit
    return chance.choice((f"&#{ord(unit)};", f"&#x{ord(unit):x};", f"&#x{ord(unit):04X};"))
