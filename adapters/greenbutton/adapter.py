"""The Green Button adapter: an ESPI feed to readings and back, as `gridpost.ports.Adapter` has it.

In: bytes, or readings, with the options. Out: `Parsed`, `Rendered`. The work is in `atom`, `parse` and `render`.
"""

from __future__ import annotations

from gridpost.model import Readings
from gridpost.ports import FormatOptions, Parsed, Rendered

from .parse import to_parsed
from .render import to_rendered


class GreenButtonAdapter:
    """Energy Services Provider Interface (NAESB REQ.21), usage information as one Atom feed."""

    name = "greenbutton"
    suffix = "xml"

    def parse(self, raw: bytes, options: FormatOptions) -> Parsed:
        """Read a whole feed.

        Raises:
            FileInvalid: with the entry and the reason.
        """
        return to_parsed(raw)

    def render(self, readings: Readings, options: FormatOptions) -> Rendered:
        """Write readings as one feed; the same arguments give the same bytes.

        Raises:
            CannotRepresent: a name or a value that ESPI has no place for.
        """
        return to_rendered(readings, options)
