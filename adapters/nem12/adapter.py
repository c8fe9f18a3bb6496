"""The NEM12 and NEM13 adapters: AEMO's meter data files to readings and back, as `gridpost.ports.Adapter` has it.

In: bytes, or readings, with the options. Out: `Parsed`, `Rendered`. The work is in `records`, `parse`, `render`, and
for NEM13 in `reads`.
"""

from __future__ import annotations

from gridpost.model import Readings
from gridpost.ports import FormatOptions, Parsed, Rendered

from . import reads
from .parse import to_parsed
from .render import to_rendered


class Nem12Adapter:
    """AEMO Meter Data File Format, NEM12 (interval data)."""

    name = "nem12"
    suffix = "csv"

    def parse(self, raw: bytes, options: FormatOptions) -> Parsed:
        """Read a whole file.

        Raises:
            FileInvalid: with an item a line.
        """
        return to_parsed(raw, options)

    def render(self, readings: Readings, options: FormatOptions) -> Rendered:
        """Write readings as one file; the same arguments give the same bytes.

        Raises:
            CannotRepresent: an id that does not fit, an interval length or a value that NEM12 has no place for.
        """
        return to_rendered(readings, options)


class Nem13Adapter:
    """AEMO Meter Data File Format, NEM13 (accumulation data)."""

    name = "nem13"
    suffix = "csv"

    def parse(self, raw: bytes, options: FormatOptions) -> Parsed:
        """Read a whole file.

        Raises:
            FileInvalid: with an item a line.
        """
        return reads.to_parsed(raw, options)

    def render(self, readings: Readings, options: FormatOptions) -> Rendered:
        """Write readings as one file; the same arguments give the same bytes.

        Raises:
            CannotRepresent: an id that does not fit, or a value that NEM13 has no place for.
        """
        return reads.to_rendered(readings, options)
