"""NEM12's lines as records: commas, line numbers, and 300 records that were broken over several lines.

In: the bytes of a file. Out: records in order with the line each begins at, and warnings. Only the frame is judged
here: 100 first, 900 last and once. What a record says is `parse`'s.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gridpost.errors import FileInvalid, Item

from .tables import METHOD

HEADER, NMI, INTERVALS, EVENT, B2B, END = "100", "200", "300", "400", "500", "900"
READ, READ_B2B = "250", "550"  # of NEM13
_KNOWN = (HEADER, NMI, INTERVALS, EVENT, B2B, END)


class Record(NamedTuple):
    """A record's fields, the indicator first, and the line it begins at."""

    line: int
    fields: tuple[str, ...]


def records_of(raw: bytes, version: str = "NEM12") -> tuple[list[Record], list[Item]]:
    """Return the records of a file, the 100 and 900 included, and a warning for each joined record.

    Raises:
        FileInvalid: not text, no 100 of that version at the start, no 900 at the end, or more than one of them.
    """
    joined: list[Record] = []
    notes: list[Item] = []
    for record in _lines(raw):
        if joined and _continues(joined[-1].fields, record.fields):
            note = Item("joined-record", "a 300 record broken over several lines was joined", f"line {joined[-1].line}")
            notes += [note] * (notes[-1:] != [note])
            joined[-1] = Record(joined[-1].line, _join(joined[-1].fields, record.fields))
        else:
            joined.append(record)
    _check_frame(joined, version)
    return joined, notes


def _lines(raw: bytes) -> Iterator[Record]:
    try:
        lines = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise invalid(raw.count(b"\n", 0, error.start) + 1, f"not UTF-8 at byte {error.start}") from error
    for line, text in enumerate(lines, 1):
        if not text.isprintable():
            raise invalid(line, "a control character")
        if text.strip(" ,"):
            yield Record(line, _fields(line, text))


def _fields(line: int, text: str) -> tuple[str, ...]:
    try:
        return tuple(next(csv.reader([text], strict=True)))
    except csv.Error as error:
        raise invalid(line, str(error)) from error


def _continues(pending: Sequence[str], fields: Sequence[str]) -> bool:
    """Tell the rest of a broken 300 record from a record; the rest's first value may well be 100 or 300."""
    if pending[0] != INTERVALS or fields[0] not in _KNOWN:
        return pending[0] == INTERVALS
    complete = any(METHOD.match(text) for text in pending[2:])
    return not complete and not _looks_like_a_record(fields)


def _looks_like_a_record(fields: Sequence[str]) -> bool:
    second = fields[1] if len(fields) > 1 else ""
    return {
        HEADER: second.startswith("NEM"),
        NMI: len(fields) in (9, 10),
        INTERVALS: len(second) == 8 and second.isdigit(),
        EVENT: 4 <= len(fields) <= 6,
        B2B: 4 <= len(fields) <= 5,
        END: not any(fields[1:]),
    }[fields[0]]


def _join(first: tuple[str, ...], rest: tuple[str, ...]) -> tuple[str, ...]:
    """Join a record broken behind or before a comma; the count of its values is checked later."""
    if first[-1] == "":
        return first[:-1] + rest
    return first + (rest[1:] if rest[0] == "" else rest)


def _check_frame(records: Sequence[Record], version: str) -> None:
    if not records:
        raise FileInvalid(f"the file is empty; a {version} file begins with a 100 record")
    first, last = records[0], records[-1]
    if first.fields[0] != HEADER:
        raise invalid(first.line, f"a {version} file begins with a 100 record")
    if first.fields[1:2] != (version,):
        raise invalid(first.line, f"the 100 record says {''.join(first.fields[1:2])!r}, not {version}")
    for record in records[1:-1]:
        if record.fields[0] in (HEADER, END):
            raise invalid(record.line, f"a second {record.fields[0]} record, or one inside the file")
    if last.fields[0] != END or len(records) == 1:
        raise invalid(last.line, "the file does not end with a 900 record: is it cut?")


def invalid(line: int, reason: str) -> FileInvalid:
    """Return the refusal of a line."""
    return FileInvalid(f"line {line}: {reason}", items=[Item(FileInvalid.code, reason, f"line {line}")])
