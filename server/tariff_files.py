"""Files of tariffs: OpenEI URDB JSON, or the XML of xsd/tariff.xsd, told apart by their first character.

In: a file's bytes, and what URDB does not say. Out: tariffs that `tariff_check` passed, or a refusal that names each
place. Needs no store; whoever has tariffs in files asks here, so that all commands take the same files.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

from gridpost.errors import FileInvalid, NotFound
from gridpost.tariff import Tariff

from .installed import entry_point

LARGEST = 64 << 20  # bytes: a utility's whole collection of rates
_MARK = b"\xef\xbb\xbf"


class Unsaid(NamedTuple):
    """What URDB leaves open; the XML says it all.

    Attributes:
        zone: IANA name of the zone the hours are in.
        holidays: local dates billed as weekends.
        scope: how energy tiers count, of `tariff.SCOPES`.
    """

    zone: str
    holidays: frozenset[date] = frozenset()
    scope: str = "month"


def read_file(file: Path, unsaid: Unsaid) -> tuple[Tariff, ...]:
    """Return the tariffs of a file.

    Raises:
        NotFound: it cannot be read.
        PeerFault: as `read`.
    """
    try:
        with file.open("rb") as stream:
            raw = stream.read(LARGEST + 1)
    except OSError as error:
        raise NotFound(f"{file} cannot be read: {error.strerror or error}") from None
    return tuple(read(raw, unsaid, file.name))


def read(raw: bytes, unsaid: Unsaid, origin: str) -> Sequence[Tariff]:
    """Return the tariffs in a file's bytes.

    Args:
        raw: the bytes.
        unsaid: what the file may not say.
        origin: its name, for messages.

    Raises:
        FileInvalid: too large, a byte order mark, or of neither format; the place is named.
        TariffRefused: a tariff cannot be billed; each place is listed.
        PeerFault: XML that is not well-formed, or against its schema.
    """
    if len(raw) > LARGEST:
        raise FileInvalid(f"{origin}: more than {LARGEST >> 20} MiB")
    if raw.startswith(_MARK):
        raise FileInvalid(f"{origin}: begins with a byte order mark; save it as UTF-8 without one")
    if raw.lstrip()[:1] == b"<":
        from gridpost import tariff_messages

        return (tariff_messages.decode(raw),)
    urdb = entry_point("gridpost.tariffs", "urdb")
    options = urdb.UrdbOptions(unsaid.zone, unsaid.holidays, unsaid.scope, origin=origin)
    tariffs: tuple[Tariff, ...] = urdb.parse(raw, options)
    return tariffs
