"""What is compared: a bid by name, its tariffs from files or the store.

In: ``NAME=SOURCE+SOURCE`` as typed; a source is a file of one tariff, or ``SUPPLIER/ID`` of one on file. Out: `Bid`s.
Two tariffs of one bid are paid together: an energy and a distribution supplier (F65).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gridpost.applications.comparison import Bid
from gridpost.errors import FileInvalid, NotFound
from gridpost.tariff import BOTH, Tariff, stand_side_by_side

from ..tariff_files import Unsaid, read_file

Stored = Callable[[str, str], Tariff]  # supplier, id -> the version in force; raises NotFound


def no_store(supplier: str, name: str) -> Tariff:
    """Stand in for a store where none is asked.

    Raises:
        NotFound: always.
    """
    raise NotFound(f"there is no file {supplier}/{name}; without a contract only files are compared")


def read(text: str, unsaid: Unsaid, stored: Stored) -> Bid:
    """Return a bid.

    Args:
        text: as typed.
        unsaid: what URDB files leave open.
        stored: looks up what is no file.

    Raises:
        NotFound: neither a file nor a tariff on file.
        FileInvalid: a file with several tariffs.
        PeerFault: as `tariff_files.read`.
    """
    name, separator, sources = text.partition("=")
    if not separator or Path(text).exists():
        name, sources = "", text
    tariffs = tuple(_tariff(source, unsaid, stored) for source in sources.split("+"))
    return Bid(name or name_of(tariffs), tariffs)


def present(tariffs: Sequence[Tariff]) -> Bid:
    """Return what a contract's customer pays now as a bid."""
    return Bid(name_of(tariffs), tuple(tariffs))


def offered(now: Bid, tariffs: Sequence[Tariff]) -> list[Bid]:
    """Return the bids that tariffs on file make for a customer: one for both, or one part exchanged and the other kept.

    Args:
        now: what is paid now, an energy and a distribution tariff where they are two (F65).
        tariffs: on file; those of another currency, and those paid now, make no bid.
    """
    found = []
    for tariff in tariffs:
        kept = [one for one in now.tariffs if stand_side_by_side(one.kind, tariff.kind)]
        whole = (tariff, *kept)
        covers = tariff.kind == BOTH or kept
        if covers and tariff not in now.tariffs and tariff.currency == now.tariffs[0].currency:
            found.append(Bid(name_of(whole), whole))
    return found


def name_of(tariffs: Sequence[Tariff]) -> str:
    """Return what a bid without a name is called."""
    return " + ".join(f"{tariff.supplier}, {tariff.name}" for tariff in tariffs)


def _tariff(source: str, unsaid: Unsaid, stored: Stored) -> Tariff:
    file = Path(source)
    if file.is_file():
        found = read_file(file, unsaid)
        if len(found) != 1:
            raise FileInvalid(f"{source} holds {len(found)} tariffs; a bid is one of them, in a file of its own")
        return found[0]
    supplier, separator, name = source.partition("/")
    if not separator:
        raise NotFound(f"there is no file {source}; a tariff on file is named SUPPLIER/ID")
    return stored(supplier, name)
