"""What is installed beside the server and found by entry point, because rings never import rings: adapters, deliveries.

In: a group and a name. Out: what is installed under it. Called once for each part as the bus is put together.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from gridpost.errors import NotFound
from gridpost.ports import Adapter


def adapter(name: str) -> Adapter:
    """Return the adapter installed under a name in the group ``gridpost.adapters``.

    Raises:
        NotFound: none is.
    """
    made: Adapter = entry_point("gridpost.adapters", name)()
    return made


def entry_point(group: str, name: str) -> Any:
    """Return what is installed under a name in a group such as ``gridpost.deliveries``.

    Raises:
        NotFound: nothing is.
    """
    found = entry_points(group=group, name=name)
    if not found:
        raise NotFound(f"no {group.rpartition('.')[2]} named {name!r} is installed")
    return next(iter(found)).load()
