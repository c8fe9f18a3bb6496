"""A billing run: the MDEF files of many meters as one, meter by meter, so that none but one is in memory.

In: whole files, as `layout.render_file` makes them. Out: the parts of one file: their records in order, then the one
trailer. An MDEF file has no header of its own, so nothing else changes.

Nothing is interpreted here but where a meter's records begin and whose they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from gridpost.errors import CannotRepresent

from . import layout


def joined(files: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the records of each file, then a trailer that counts them all and states the newest creation time.

    Raises:
        FileInvalid: one of them is no whole MDEF file.
        CannotRepresent: two hold one meter (CUSTID and RECID), or there are none.
    """
    count, seen = 1, set[tuple[str, str]]()
    newest = layout.Trailer()
    for raw in files:
        file = layout.parse_file(raw)
        for meter in file.meters:
            name = (meter.header.custid.strip(), "".join(one.header.recid.strip() for one in meter.channels[:1]))
            if name in seen:
                raise CannotRepresent(f"two meters would both be CUSTID {name[0]!r}, RECID {name[1]!r}")
            seen.add(name)
        newest = replace(newest, created=max(newest.created, file.trailer.created))
        count += len(raw) // layout.RECORD - 1
        yield raw[: -layout.RECORD]
    if not seen:
        raise CannotRepresent("there are no interval readings to write")
    yield layout.trailer_record(newest, count)
