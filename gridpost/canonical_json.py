"""JSON in exactly one spelling, for documents that are kept for ever: written, and read with every place named.

Floor 1. Out: keys sorted, no white space, characters not escaped but for quotation mark, backslash and controls, exact
decimals as strings in plain digits. In: the same, and nothing else: a text that would be written in another way is
refused, so no byte of a document is without meaning. What the members mean is the business of whoever reads them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn, TypeVar

from .errors import FileInvalid, Item

LONGEST_DECIMAL = 128  # characters; products of an 18-digit quantity, a price and a share stay below
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?\Z", re.ASCII)
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
T = TypeVar("T")


def write(value: object) -> str:
    """Return maps, lists, texts, whole numbers, flags and None as JSON; a decimal is given as `decimal_text` has it."""
    return _ENCODE.encode(value)


def decimal_text(value: Decimal) -> str:
    """Return a decimal in plain digits, trailing zeros kept; reading it gives the same digits again.

    Raises:
        FileInvalid: it is no number.
    """
    if not value.is_finite():
        raise FileInvalid(f"{value} is no number")
    return format(value, "f")


def read(text: str, build: Callable[[Place], T], again: Callable[[T], str]) -> T:
    """Return what `build` makes of a document.

    Args:
        text: as kept.
        build: takes the document apart.
        again: writes what was built; it must give `text`.

    Raises:
        FileInvalid: no JSON of this form, a member that is missing or of another kind, or another spelling; its Item's
            path is the place, such as ``lines/3/amount``.
    """
    try:
        value = json.loads(text, parse_float=_no_float, parse_constant=_no_float)
    except (ValueError, RecursionError) as error:
        raise FileInvalid(f"it is no JSON document: {error}") from None
    built = build(Place("", value))
    if again(built) != text:
        raise FileInvalid("it is not written in the one way such a document is: members, their order, or spelling")
    return built


def _no_float(text: str) -> NoReturn:
    raise ValueError(f"{text} is a bare number with a fraction; decimals are strings")


@dataclass(frozen=True, slots=True)
class Place:
    """A value within a document and where it stands: ``lines/3/amount``."""

    path: str
    value: object

    def __getitem__(self, name: str) -> Place:
        """Return a member of a map.

        Raises:
            FileInvalid: this is no map, or has no such member.
        """
        if not isinstance(self.value, Mapping) or name not in self.value:
            self.refuse(f"has no member {name!r}")
        return Place(f"{self.path}/{name}".lstrip("/"), self.value[name])

    def each(self) -> list[Place]:
        """Return the items of a list.

        Raises:
            FileInvalid: it is none.
        """
        if not isinstance(self.value, list):
            self.refuse("is no list")
        return [Place(f"{self.path}/{index}".lstrip("/"), item) for index, item in enumerate(self.value)]

    def exactly(self, count: int) -> list[Place]:
        """Return the items of a list that has so many.

        Raises:
            FileInvalid: it is none, or has others.
        """
        items = self.each()
        if len(items) != count:
            self.refuse(f"has {len(items)} items, not {count}")
        return items

    def wholes(self, count: int) -> tuple[int, ...]:
        """Return so many whole numbers of a list.

        Raises:
            FileInvalid: they are none.
        """
        return tuple(one.whole() for one in self.exactly(count))

    def many(self, build: Callable[[Place], T]) -> tuple[T, ...]:
        """Return what `build` makes of each item of a list."""
        return tuple(build(one) for one in self.each())

    def maybe(self, build: Callable[[Place], T]) -> T | None:
        """Return None of null, else what `build` makes of it."""
        return None if self.value is None else build(self)

    def text(self) -> str:
        """Return a text.

        Raises:
            FileInvalid: it is none.
        """
        if not isinstance(self.value, str):
            self.refuse("is no text")
        return self.value

    def one_of(self, known: tuple[str, ...]) -> str:
        """Return a text that is one of those known.

        Raises:
            FileInvalid: it is not.
        """
        text = self.text()
        if text not in known:
            self.refuse(f"{text[:40]!r} is none of {', '.join(known)}")
        return text

    def whole(self) -> int:
        """Return a whole number.

        Raises:
            FileInvalid: it is none, or has more than 64 bits.
        """
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value.bit_length() > 63:
            self.refuse("is no whole number")
        return self.value

    def flag(self) -> bool:
        """Return true or false.

        Raises:
            FileInvalid: it is neither.
        """
        if not isinstance(self.value, bool):
            self.refuse("is neither true nor false")
        return self.value

    def decimal(self) -> Decimal:
        """Return an exact decimal from its text.

        Raises:
            FileInvalid: it is none in plain digits.
        """
        text = self.text()
        if len(text) > LONGEST_DECIMAL or not _DECIMAL.match(text):
            self.refuse(f"{text[:40]!r} is no decimal number")
        return Decimal(text)

    def refuse(self, reason: str) -> NoReturn:
        """Say what is wrong here.

        Raises:
            FileInvalid: always.
        """
        where = self.path or "the document"
        raise FileInvalid(f"{where}: {reason}", items=[Item("bad-value", reason, self.path)])
