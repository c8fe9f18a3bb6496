"""Settings as frozen dataclasses: a TOML text to checked sections, and back to a commented file.

Floor 1, pure. A section is a dataclass whose fields are made by `setting`, so each default and meaning stands once, in
the ring that uses it. Unknown sections and keys are errors: a mistyped limit must not silently be no limit.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

from .errors import ConfigInvalid


def setting(default: Any, meaning: str) -> Any:
    """Return a dataclass field with its meaning for the commented file; a dict default is copied for each section."""
    metadata = {"meaning": meaning, "default": default}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def parse(text: str, where: str, sections: Mapping[str, type], lists: Mapping[str, type]) -> dict[str, Any]:
    """Return each section as its dataclass, absent ones at their defaults, and each list as a tuple of dataclasses.

    Args:
        text: TOML.
        where: the file's name, for messages.
        sections: name -> dataclass, written ``[name]``.
        lists: name -> dataclass, written ``[[name]]`` any number of times.

    Raises:
        ConfigInvalid: not TOML, an unknown section or key, or a value of another kind than its default.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigInvalid(f"{where}: {error}") from None
    known = (*sections, *lists)
    if unknown := sorted(set(tables) - set(known)):
        raise ConfigInvalid(f"{where}: unknown section [{unknown[0]}]; known are {', '.join(known)}")
    found = {name: _section(kind, tables.get(name, {}), f"{where}: [{name}]") for name, kind in sections.items()}
    for name, kind in lists.items():
        rows = tables.get(name, [])
        if not isinstance(rows, list):
            raise ConfigInvalid(f"{where}: each {name} is a section of its own, written [[{name}]]")
        found[name] = tuple(_section(kind, row, f"{where}: [[{name}]]") for row in rows)
    return found


def _section(kind: type, table: Any, where: str) -> Any:
    if not isinstance(table, dict):
        raise ConfigInvalid(f"{where} is not a section")
    known = {item.name: item.metadata["default"] for item in fields(kind)}
    for name, value in table.items():
        if name not in known:
            raise ConfigInvalid(f"{where} unknown key {name}; known are {', '.join(known)}")
        if type(value) is not type(known[name]):
            raise ConfigInvalid(f"{where} {name} must be of the kind of {known[name]!r}, not {value!r}")
    return kind(**table)


def render(title: str, kind: type, given: Mapping[str, Any]) -> list[str]:
    """Return a section's lines: its title, every key with its meaning, and those not in `given` commented out."""
    lines = [f"# {(kind.__doc__ or '').splitlines()[0]}", title]
    for item in fields(kind):
        lines.append(f"# {item.metadata['meaning']}")
        value = literal(given.get(item.name, item.metadata["default"]))
        lines.append(f"{'' if item.name in given else '# '}{item.name} = {value}")
    return [*lines, ""]


def literal(value: Any) -> str:
    """Return a setting's value as TOML writes it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{literal(key)} = {literal(item)}" for key, item in value.items()) + " }"
    # JSON's literals and escapes are TOML's too; only DEL must be escaped in TOML and is not in JSON.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
