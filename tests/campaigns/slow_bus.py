"""`gridpost serve` with other time limits, or broken from outside: `slow_bus.py HEAD_S BODY_S SABOTAGE serve...`.

The time limits of the listener are no settings; the short form of the campaign cannot wait for them. A sabotage takes
one guard away, for a campaign that must notice.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gridpost.server import app
from gridpost.server.cli import main
from gridpost.server.transports import device_http
from gridpost.server.transports.http_values import HttpLimits


def _no_deadlines() -> None:
    device_http.DeviceHttpProtocol._allowed_s = lambda self: float("inf")


def _no_size_limit() -> None:
    device_http.check_route = lambda head, route, limits: None


SABOTAGES: Mapping[str, Callable[[], None]] = {
    "no-deadlines": _no_deadlines,
    "no-size-limit": _no_size_limit,
}


def run(given: list[str]) -> None:
    """Change what is asked for, then be `gridpost`."""
    head_s, body_s, sabotage, *rest = given
    limits: Any = partial(HttpLimits, head_deadline_s=float(head_s), body_deadline_s=float(body_s))
    app.HttpLimits = limits
    if sabotage != "none":
        SABOTAGES[sabotage]()
    sys.argv = ["gridpost", *rest]
    main()


if __name__ == "__main__":
    run(sys.argv[1:])
