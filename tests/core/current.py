"""Current readings as a store would give them, for tests of what is worked out from them."""

from gridpost import testing
from gridpost.model import IntervalBlock, Position, Quality, RegisterReading
from gridpost.ports import CurrentReadings

REGISTER = testing.FORWARD_KWH_15MIN.replace("0.0.2.4.", "0.0.0.1.", 1)
ESTIMATED, EDITED, CLOCK = (Quality("2.8.0"),), (Quality("3.7.0", "a reason; by anna"),), (Quality("1.4.9"),)


def current(channel, values, *, qualities=None, stands=None, conflicts=(), gaps=()):
    """Return readings of a channel.

    Args:
        channel: whose.
        values: interval end -> literal; the entry behind the value of an end is 0:(end // 900).
        qualities: interval end -> qualities.
        stands: moment -> literal of its register.
        conflicts, gaps: interval ends.
    """
    ends = tuple(sorted(values))
    key = channel.key._replace(reading_type=REGISTER)
    return CurrentReadings(
        channel,
        IntervalBlock(
            channel.key,
            channel.interval_s,
            ends,
            tuple(values[end] for end in ends),
            tuple((qualities or {}).get(end, ()) for end in ends),
        ),
        tuple(Position(0, end // 900) for end in ends),
        tuple(RegisterReading(key, moment, value) for moment, value in sorted((stands or {}).items())),
        tuple(conflicts),
        0,
        tuple((end, (Quality("2.5.259"),)) for end in gaps),
    )
