"""Rows and cells of the CSV files we read and write: headers, lines in errors, the guard against formulas.

Floor 1. In: text of a file with a header; out: (line, cells by column). A spreadsheet takes a cell for a formula by its
first character (CWE-1236), so text that begins like one gets an apostrophe, which reading takes off again.

Do not add the meaning of a column here; that is `tabular`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from . import units
from .errors import FileInvalid, Item

MAX_FINDINGS = 100

# A spreadsheet takes a cell for a formula by its first character; full-width twins are folded by some of them.
_FORMULA = re.compile("'*[=+\\-@\uff1d\uff0b\uff0d\uff20]")
_GUARDED = re.compile("'+[=+\\-@\uff1d\uff0b\uff0d\uff20]")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_WHOLE = re.compile(r"[0-9]{1,9}\Z", re.ASCII)


def guard(text: str) -> str:
    """Return the text as a spreadsheet may see it; `unguard` undoes it."""
    return "'" + text if _FORMULA.match(text) else text


def unguard(text: str) -> str:
    """Return the text that was guarded."""
    return text[1:] if _GUARDED.match(text) else text


def plain(name: str, text: str) -> None:
    """Refuse control characters, line breaks and lone surrogates.

    Raises:
        ValueError: naming the column.
    """
    if CONTROL.search(text):
        raise ValueError(f"{name}: {text!r} holds a control character")


def needed(name: str, text: str) -> str:
    """Refuse an empty cell.

    Raises:
        ValueError: naming the column.
    """
    if not text:
        raise ValueError(f"{name}: is empty")
    return text


def whole(name: str, text: str) -> int:
    """Return a whole number of at most nine digits.

    Raises:
        ValueError: naming the column.
    """
    if not _WHOLE.match(text):
        raise ValueError(f"{name}: {text!r} is not a whole number")
    return int(text)


def moment(name: str, text: str) -> int:
    """Return the UTC seconds of a date-time with a zone.

    Raises:
        ValueError: naming the column.
    """
    try:
        return units.parse_utc(text)
    except ValueError as error:
        raise ValueError(f"{name}: {text!r} is {error}") from error


def each_row(
    rows: Iterable[tuple[int, Mapping[str, str]]], take: Callable[[int, Mapping[str, str]], None], what: str
) -> None:
    """Give each row to `take`, which raises for a row that cannot be used, and refuse the file when any could not."""
    items: list[Item] = []
    for line, row in rows:
        try:
            take(line, row)
        except (ValueError, FileInvalid) as error:
            items.append(Item(FileInvalid.code, str(error), f"line {line}"))
        if len(items) == MAX_FINDINGS:
            break
    if items:
        raise FileInvalid(f"{what}, {items[0].path}: {items[0].reason}", items=items)


def table(
    text: str | bytes, what: str, required: Sequence[str], known: Sequence[str]
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield (line, cells by column) of a CSV with a header; text columns are freed of the formula guard."""
    reader = csv.reader(io.StringIO(_decoded(text, what), newline=""), strict=True)
    header = _next(reader, what)
    if header is None:
        raise FileInvalid(f"{what}: the file is empty; its first line names the columns {', '.join(required)}")
    _check_header(header, what, required, known)
    while (cells := _next(reader, what)) is not None:
        if not cells:
            continue
        if len(cells) != len(header):
            raise invalid(what, reader.line_num, f"{len(cells)} cells under {len(header)} columns")
        yield reader.line_num, {name: _text(name, cell) for name, cell in zip(header, cells, strict=True)}


def _text(name: str, cell: str) -> str:
    # quality_detail is escaped before it is guarded, so its reader takes the guard off.
    return unguard(cell) if cell[:1] == "'" and name != "quality_detail" else cell


def _check_header(header: Sequence[str], what: str, required: Sequence[str], known: Sequence[str]) -> None:
    if missing := [name for name in required if name not in header]:
        raise invalid(what, 1, f"the header lacks the columns {', '.join(missing)}")
    if unknown := [name for name in header if name not in known]:
        raise invalid(what, 1, f"unknown column {unknown[0]!r}; known are {', '.join(known)}")
    if len(set(header)) != len(header):
        raise invalid(what, 1, "a column is named twice")


def _next(reader: Iterator[list[str]], what: str) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise invalid(what, reader.line_num, str(error)) from error  # type: ignore[attr-defined]


def _decoded(text: str | bytes, what: str) -> str:
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise invalid(what, text.count(b"\n", 0, error.start) + 1, f"not UTF-8 at byte {error.start}") from error


def invalid(what: str, line: int, reason: str) -> FileInvalid:
    """Return the refusal of a line."""
    return FileInvalid(f"{what}, line {line}: {reason}", items=[Item(FileInvalid.code, reason, f"line {line}")])
