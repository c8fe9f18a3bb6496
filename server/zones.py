"""Zone values from the tzdata package, so that a bill does not depend on which zone files a machine happens to have."""

from __future__ import annotations

from datetime import tzinfo
from functools import lru_cache
from importlib import import_module, resources
from zoneinfo import ZoneInfo

from gridpost.errors import NotFound


def rules() -> str:
    """Return which edition of the zone rules these are, such as ``tzdata 2026a``."""
    return f"tzdata {import_module('tzdata').IANA_VERSION}"


@lru_cache(maxsize=256)
def zone_of(name: str) -> tzinfo:
    """Return the zone of an IANA name, such as ``Australia/Brisbane``.

    Raises:
        NotFound: tzdata has no such zone.
    """
    parts = name.split("/")
    if not all(part.replace("-", "").replace("_", "").replace("+", "").isalnum() for part in parts):
        raise NotFound(f"{name!r} is no IANA zone name, such as Europe/Paris")
    file = resources.files("tzdata").joinpath("zoneinfo", *parts)
    try:
        with file.open("rb") as stream:
            return ZoneInfo.from_file(stream, key=name)
    except (OSError, ValueError):  # absent, a folder, too long a name; not a zone file
        raise NotFound(f"tzdata knows no zone {name!r}") from None
