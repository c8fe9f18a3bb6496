"""The MV-90 adapter: MDEF bytes to readings and back, as `gridpost.ports.Adapter` has it.

In: bytes, or readings, with the options. Out: `Parsed`, `Rendered`. The work is in `layout` (bytes), `parse`, `render`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gridpost.model import Readings
from gridpost.ports import FormatOptions, Parsed, Rendered

from .billing_run import joined
from .layout import parse_file, render_file
from .parse import to_readings
from .render import from_readings


class Mv90Adapter:
    """Itron MV-90 Meter Data Exchange Format."""

    name = "mv90"
    suffix = "mde"

    def parse(self, raw: bytes, options: FormatOptions) -> Parsed:
        """Read a whole file.

        Raises:
            FileInvalid: with the record, its byte and the reason.
        """
        return to_readings(parse_file(raw), options)

    def render(self, readings: Readings, options: FormatOptions) -> Rendered:
        """Write readings of one meter or several as one file; the same arguments give the same bytes.

        Raises:
            CannotRepresent: an id that does not fit, an interval length or a moment that MDEF has no place for.
        """
        file, losses = from_readings(readings, options)
        return Rendered(render_file(file), losses)

    def rewrite(self, raw: bytes) -> bytes:
        """Read a whole file and write it again: equal bytes for every valid file.

        Raises:
            FileInvalid: with the record, its byte and the reason.
        """
        return render_file(parse_file(raw))

    def join(self, files: Iterable[bytes]) -> Iterator[bytes]:
        """Yield, in parts, one file of what these hold, in their order: a billing run.

        Raises:
            FileInvalid: one of them is no whole MDEF file.
            CannotRepresent: two hold one meter, or there are none.
        """
        return joined(files)
