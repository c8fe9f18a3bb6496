"""The NEM12 adapter: AEMO's meter data file to readings and back, as `gridpost.ports.Adapter` has it.

In: bytes, or readings, with the options. Out: `Parsed`, `Rendered`. The work is in `records`, `parse`, `render`.
"""

from __future__ import annotations

from gridpost.model import Readings
from gridpost.ports import FormatOptions, Parsed, Rendered

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
