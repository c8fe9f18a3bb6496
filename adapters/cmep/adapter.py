"""The CMEP adapter: MEPMD01 records to readings and back, as `gridpost.ports.Adapter` has it.

In: bytes, or readings, with the options. Out: `Parsed`, `Rendered`. The work is in `parse` and `render`.
"""

from __future__ import annotations

from gridpost.model import Readings
from gridpost.ports import FormatOptions, Parsed, Rendered

from .parse import to_parsed
from .render import to_rendered


class CmepAdapter:
    """California Metering Exchange Protocol 1.20, metering data (MEPMD01)."""

    name = "cmep"
    suffix = "cmep"

    def parse(self, raw: bytes, options: FormatOptions) -> Parsed:
        """Read a whole file.

        Raises:
            FileInvalid: with an item a line.
        """
        return to_parsed(raw, options)

    def render(self, readings: Readings, options: FormatOptions) -> Rendered:
        """Write readings as one file; the same arguments give the same bytes.

        Raises:
            CannotRepresent: an id, a value or a moment that CMEP has no place for.
        """
        return to_rendered(readings, options)
