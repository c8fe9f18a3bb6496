"""How often what was how large: plain integers that the hot path adds to and a look at the metrics reads.

In: integers. Out: counts by class. What must not be done here: anything that costs a message more than a look-up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

# Microseconds, for what a device or a disk waits for.
TIMES_US = (
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
    30_000_000,
)  # fmt: skip
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Distribution:
    """Counts by class; one thread adds to it, any may read it."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[int]) -> None:
        """`bounds` rise; a class holds what is greater than the bound before and at most its own, the last the rest."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0

    def note(self, value: int) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
