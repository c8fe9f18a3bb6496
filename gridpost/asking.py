"""The Request of a message without a payload of its own: what is asked for, value <-> XML.

Floor 2. IEC 61968-100 Request: StartTime, EndTime, Options (name, value) and IDs. Which options an operation has is
the caller's table; one that is not in it is a finding, because a misspelt option passed over would give an answer to
another question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from . import ns, units
from .encoding import encode_header, octets, text_of
from .envelope import Element
from .findings import Findings, printable, text_at, whole_number
from .model import Header

MOST_IDS = 1000  # ids, or values of one option, in one request
_H = f"{{{ns.MESSAGE}}}"


class Asked(NamedTuple):
    """A Request: what is not stated is empty or 0; `options` has a name's values in their order."""

    options: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    ids: tuple[str, ...] = ()
    from_utc: int = 0
    to_utc: int = 0

    def texts(self, name: str) -> tuple[str, ...]:
        """Return every value of an option."""
        return self.options.get(name, ())

    def text(self, name: str) -> str:
        """Return the value of an option that stands at most once."""
        return next(iter(self.texts(name)), "")

    def number(self, name: str) -> int:
        """Return the value of an option of whole numbers, 0 when it is not stated."""
        return int(self.text(name) or 0)


def stated(text: str) -> str:
    """Return the value of an option of any text.

    Raises:
        ValueError: it is empty.
    """
    if not text:
        raise ValueError("has no value")
    return text


def up_to(most: int) -> Callable[[str], int]:
    """Return what reads a whole number from 0 to `most`, and raises ValueError for anything else."""
    return lambda text: whole_number(text, most)


class Option(NamedTuple):
    """How an option is read.

    Attributes:
        check: raises ValueError for what it cannot be.
        many: whether it may stand more than once.
        needed: whether it must stand.
    """

    check: Callable[[str], object] = stated
    many: bool = False
    needed: bool = False


def read_request(message: Element, options: Mapping[str, Option], least_ids: int = 0) -> Asked:
    """Read the Request of a Body's child; an absent one asks for nothing in particular.

    Args:
        message: the Body's child.
        options: the names it may state.
        least_ids: how many IDs it must state.

    Raises:
        SchemaInvalid: itemised.
    """
    request, findings = message.find("{*}Request"), Findings(message)
    place = message if request is None else request
    ids = tuple(findings.tried(printable, one) or "" for one in place.iterchildren(f"{_H}ID"))
    if not least_ids <= len(ids) <= MOST_IDS:
        findings.add(place, f"needs {least_ids} to {MOST_IDS} IDs, has {len(ids)}")
    from_utc, to_utc = (_moment(place.find(f"{_H}{name}"), findings) for name in ("StartTime", "EndTime"))
    values = _options(place, options, findings)
    findings.refuse()
    return Asked(values, ids, from_utc, to_utc)


def _moment(element: Element | None, findings: Findings) -> int:
    return 0 if element is None else findings.tried(units.parse_utc, element) or 0


def _options(place: Element, options: Mapping[str, Option], findings: Findings) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for element in place.iterchildren(f"{_H}Option"):
        name, value = text_at(element, f"{_H}name"), text_at(element, f"{_H}value")
        try:
            _check(value, options.get(name), len(found.setdefault(name, [])))
            found[name].append(value)
        except ValueError as error:
            findings.add(element, f"option {name[:40]!r}: {error}")
    missing = [name for name, option in options.items() if option.needed and name not in found]
    if missing:
        findings.add(place, f"needs the option {' and '.join(missing)}")
    return {name: tuple(values) for name, values in found.items()}


def _check(text: str, option: Option | None, before: int) -> None:
    if option is None:
        raise ValueError("is not one of this operation's")
    if before >= (MOST_IDS if option.many else 1):
        raise ValueError("stands too often")
    option.check(text)


def encode_request(name: str, header: Header, asked: Asked) -> bytes:
    """Return a Body's child of Header and Request, canonical.

    Args:
        name: its qualified name, ``{namespace}local``.
        header: of the request.
        asked: options of several values stand in the order given.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
    """
    namespace, _, local = name[1:].partition("}")
    space = f' xmlns="{ns.MESSAGE}"'
    moments = {"StartTime": asked.from_utc, "EndTime": asked.to_utc}
    parts = [f"<{tag}{space}>{units.format_utc(utc)}</{tag}>" for tag, utc in moments.items() if utc]
    parts += [
        f"<Option{space}><name>{text_of(option)}</name><value>{text_of(value)}</value></Option>"
        for option, values in asked.options.items()
        for value in values
    ]
    parts += [f"<ID{space}>{text_of(one)}</ID>" for one in asked.ids]
    head = encode_header(header)
    return octets(f'<{local} xmlns="{namespace}">{head}<Request>{"".join(parts)}</Request></{local}>')
