"""How many files this process may open: each connection is one.

In: how many connections are wanted. Out: the limit raised, or ConfigInvalid that says what to change.
"""

from __future__ import annotations

import resource

from gridpost.errors import ConfigInvalid


def check_open_files(connections: int) -> None:
    """Raise the soft limit on open files as far as needed and allowed.

    Raises:
        ConfigInvalid: more are needed than are allowed.
    """
    needed = connections + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigInvalid(f"{connections} connections need {needed} open files and only {hard} are allowed: "
                            "raise LimitNOFILE or lower listen.connections")  # fmt: skip
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
