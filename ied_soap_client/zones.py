"""Zone values from the tzdata package, so that intervals do not depend on which zone files a device happens to have."""

from __future__ import annotations

import re
from datetime import tzinfo
from functools import lru_cache
from importlib import resources
from zoneinfo import ZoneInfo

from gridpost.errors import NotFound

_NAME = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*\Z")


@lru_cache(maxsize=64)
def zone_of(name: str) -> tzinfo:
    """Return the zone of an IANA name, such as ``Europe/Paris``.

    Raises:
        NotFound: tzdata has no such zone.
    """
    try:
        if not _NAME.match(name):
            raise ValueError(name)
        with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as stream:
            return ZoneInfo.from_file(stream, key=name)
    except (OSError, ValueError):  # absent, a folder, below a file, too long a name; not a zone file
        raise NotFound(f"{name!r} is no IANA zone name that tzdata knows, such as Europe/Paris") from None
