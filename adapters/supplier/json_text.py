"""JSON with exact numbers: every number is read as Decimal and written digit by digit.

In: bytes, or plain values. Out: plain values, or bytes. What JSON readers pass silently is refused: a key that comes
twice, numbers too long to be a price. NaN and Infinity are read as such, so that who asks for a number can refuse them
with their place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from gridpost.errors import FileInvalid

LARGEST = 4 * 1024 * 1024
_DIGITS = 40  # a file of other programs may carry a binary fraction's full tail; it is a number still


def parse(raw: bytes, origin: str = "") -> Any:
    """Return the values of a JSON text in UTF-8.

    Raises:
        FileInvalid: no JSON (the line is named), a byte order mark, a key twice, too long a number, too large.
    """
    if len(raw) > LARGEST:
        raise FileInvalid(f"{origin}: {len(raw)} bytes; a tariff file has at most {LARGEST}")
    if raw.startswith(b"\xef\xbb\xbf"):
        raise FileInvalid(f"{origin}: begins with a byte order mark")
    try:
        text = raw.decode("utf-8")
        return json.loads(
            text, parse_float=_number, parse_int=_number, parse_constant=Decimal, object_pairs_hook=_object
        )
    except FileInvalid as error:
        raise FileInvalid(f"{origin}: {error.reason}") from None
    except json.JSONDecodeError as error:
        raise FileInvalid(f"{origin}: line {error.lineno}: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise FileInvalid(f"{origin}: no JSON text in UTF-8: {type(error).__name__}") from None


def render(value: Any, indent: str = "") -> str:
    """Return the JSON text of mappings, lists, texts, Decimals, whole numbers, truth and None.

    Raises:
        FileInvalid: a Decimal that is no number, which JSON cannot say.
    """
    if isinstance(value, Decimal) and not value.is_finite():
        raise FileInvalid(f"{value} is no number")
    if isinstance(value, Mapping):
        inner = [f"{indent}  {json.dumps(key)}: {render(one, indent + '  ')}" for key, one in value.items()]
        return "{\n" + ",\n".join(inner) + f"\n{indent}}}" if inner else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(render(one, indent) for one in value) + "]"
    return format(value, "f") if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def _number(text: str) -> Decimal:
    value = Decimal(text)
    if len(text) > _DIGITS or abs(value.adjusted()) > _DIGITS:
        raise FileInvalid(f"{text[:_DIGITS]} is too long a number")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise FileInvalid(f"the key {twice[:40]!r} comes twice")
    return found
