"""What the figures were seen on: versions, cores, and what a sync of the disk takes."""

import os
import platform
import statistics
import time

_SYNCS = 50


def describe(cores, folder):
    """Return what a result says of the machine; `folder` is where the databases are."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "pinned": "no" if cores.client is None else f"servers to core {cores.server}, client to {cores.client}",
        "sync_us": _sync_us(folder),
    }


def line(described):
    """Return it as one line of text."""
    return (f"Python {described['python']}, {described['cores']} cores; pinned: {described['pinned']}; "
            f"a sync takes {described['sync_us']:,.0f} us")  # fmt: skip


def _sync_us(folder):
    """What the disk takes to keep 4 KiB: who commits each message alone waits so long for each."""
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6
