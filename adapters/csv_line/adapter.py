"""The CSV line adapter: ``45.54,1.25,1234 Elm Street, 8500``, as `gridpost.ports.Adapter` has it.

In: bytes, or readings, with the options. Out: `Parsed`, `Rendered`. The line says neither what its cells are nor of
which moment they are: who reads it must know (README.md). What the record means is in `..usage_record`.
"""

from __future__ import annotations

import csv
import io

from gridpost.cells import guard, unguard
from gridpost.errors import CannotRepresent, FileInvalid, Item
from gridpost.model import Readings
from gridpost.ports import FormatOptions, Parsed, Rendered

from ..usage_record import UsageRecord, from_readings, to_parsed

_CELLS = ("kWh this month", "kWh today", "location", "type of device")


class CsvLineAdapter:
    """A line a meter: kWh used this month, kWh used today, location, type of device."""

    name = "csv_line"
    suffix = "csv"

    def parse(self, raw: bytes, options: FormatOptions) -> Parsed:
        """Read a whole file; `options.to_utc` is the moment of its records.

        Raises:
            FileInvalid: with an item a line; also when no moment is given.
        """
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise _invalid(f"line {line}", f"not UTF-8 at byte {error.start}") from error
        lines = [(f"line {number}", one) for number, one in enumerate(text.splitlines(), 1) if one.strip()]
        if not lines:
            raise FileInvalid("the file is empty; a line has four cells: " + ", ".join(_CELLS))
        notes = []
        if not text.endswith("\n"):
            notes.append(Item("no-line-end", "the last line has no end; is the file cut?", lines[-1][0]))
        return to_parsed([_record(place, line) for place, line in lines], options, notes)

    def render(self, readings: Readings, options: FormatOptions) -> Rendered:
        """Write a line a meter; the same arguments give the same bytes.

        Raises:
            CannotRepresent: no energy used to write, or a name that does not print.
        """
        records, losses = from_readings(readings, options)
        if len({record.time_utc for record in records}) > 1:
            raise CannotRepresent("the records are of several moments, which a line does not say")
        text = "".join(
            f"{record.month},{record.day},{_cell(record.location)}, {_cell(record.device_type)}\r\n"
            for record in records
        )
        losses.append(Item(CannotRepresent.code, "the moment of the records has no place"))
        return Rendered(text.encode(), tuple(losses))


def _record(place: str, line: str) -> UsageRecord:
    try:
        cells = [cell.strip() for cell in next(csv.reader([line], strict=True, skipinitialspace=True))]
    except csv.Error as error:
        raise _invalid(place, str(error)) from error
    if len(cells) != len(_CELLS):
        raise _invalid(place, f"{len(cells)} cells, not the four of {', '.join(_CELLS)}")
    month, day, location, device_type = cells
    return UsageRecord(month, day, unguard(location), unguard(device_type), None, place)


def _invalid(place: str, reason: str) -> FileInvalid:
    return FileInvalid(f"{place}: {reason}", items=[Item(FileInvalid.code, reason, place)])


def _cell(text: str) -> str:
    """Return a cell as a spreadsheet may see it, in quotes where it needs them."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="").writerow([guard(text)])
    return out.getvalue()
