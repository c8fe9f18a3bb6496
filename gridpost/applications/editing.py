"""Editing: values that a person puts in the place of what is there, with a reason; what was there stays on file.

Floor 5. In: a channel, its zone, the values wanted, who and why. Out: the block to record, marked edited, or a refusal
that lists each value that cannot be. Nothing is stored here, and nothing worked out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import tzinfo

from .. import units
from ..codes import Quality
from ..errors import Item, ReadingsRefused
from ..model import Channel, IntervalBlock

QUALITY = "3.7.0"  # edited, by meter data management: system 3, category 7 of IEC 61968-9 annex D
LONGEST_REASON = 400
MOST = 20_000  # values of one edit
_SHOWN = 20


def edited(
    channel: Channel, zone: tzinfo, values: Mapping[int, str], by: tuple[str, str], now_utc: int
) -> IntervalBlock:
    """Return an edit as a block, ascending.

    Args:
        channel: whose.
        zone: the channel's.
        values: interval end (UTC seconds) -> decimal literal.
        by: the person's name, and the reason.
        now_utc: UTC seconds.

    Raises:
        ReadingsRefused: no reason, no value, too many, or values that no interval of the channel can have; itemised.
    """
    person, reason = by
    if not reason.strip() or len(reason) > LONGEST_REASON or not reason.isprintable():
        raise ReadingsRefused(f"an edit needs a reason: 1 to {LONGEST_REASON} printable characters")
    if not 1 <= len(values) <= MOST:
        raise ReadingsRefused(f"an edit has 1 to {MOST} values, not {len(values)}")
    items = list(_wrong(channel, zone, values, now_utc))
    if items:
        raise ReadingsRefused(f"{len(items)} finding(s); the first: {items[0].reason}", items=items[:_SHOWN])
    ends = tuple(sorted(values))
    qualities = (Quality(QUALITY, f"{reason}; by {person}"),)
    literals = tuple(units.decimal_text(values[end]) for end in ends)
    return IntervalBlock(channel.key, channel.interval_s, ends, literals, (qualities,) * len(ends))


def _wrong(channel: Channel, zone: tzinfo, values: Mapping[int, str], now_utc: int) -> Iterator[Item]:
    digits = f"a decimal number of at most {units.MAX_DIGITS} digits"
    for end, value in sorted(values.items()):
        shown = units.format_utc(end)
        rules = (
            (units.on_grid(end, channel.interval_s, zone), "off-grid", f"ends off the {channel.interval_s} s grid"),
            (channel.holds_at(end), "not-assigned", "the meter is not assigned then"),
            (end <= now_utc, "reading-in-future", "lies in the future"),
            (
                _is_decimal(value),
                "bad-value",
                f"{value[:40]!r} is not {digits}",
            ),
        )
        yield from (Item(code, f"{shown}: {reason}", shown) for holds, code, reason in rules if not holds)


def _is_decimal(text: str) -> bool:
    try:
        return bool(units.decimal_text(text))
    except ValueError:
        return False
