"""The answer to GetCompleteness, on the wire: how complete channels are, as XML.

Floor 6. Out: the Body's child in exclusive canonical form. What counts as expected is `applications/completeness.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from . import units
from .answers import encode_reply
from .applications.completeness import Counts, OfChannel, told
from .encoding import text_of
from .model import Header
from .office_messages import paged

MOST_GAPS = 1000  # told of one channel


class Counted(NamedTuple):
    """A channel and the stretch it was counted over: intervals with from_utc < end <= to_utc."""

    channel: OfChannel
    from_utc: int
    to_utc: int


def encode_completeness_reply(reply_header: Header, found: Sequence[Counted], at: str) -> bytes:
    """Return ``CompletenessResponseMessage``.

    Args:
        reply_header: from `office_messages.reply_to`.
        found: in order of channel; may be empty.
        at: for the Property ``dataVersion``: of which readings it tells.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
    """
    counts = [one.channel.counts for one in found]
    whole = Counts(*map(sum, zip(*counts, strict=True))) if counts else Counts(0, 0, 0, 0)
    channels = "".join(map(_channel, found))
    content = f"<Completeness>{_text('told', told(whole))}{channels}</Completeness>"
    return encode_reply(paged(reply_header, "", at), content)


def _text(name: str, value: object) -> str:
    return f"<{name}>{text_of(str(value))}</{name}>" if value != "" else ""


def _channel(one: Counted) -> str:
    channel = one.channel
    fields = {
        "usagePoint": channel.key.usage_point,
        "meter": channel.key.meter,
        "stream": channel.key.stream,
        "readingType": channel.key.reading_type,
        "intervalSeconds": channel.interval_s,
        "zone": channel.zone,
        "start": units.format_utc(one.from_utc),
        "end": units.format_utc(one.to_utc),
        **channel.counts._asdict(),
        "conflicting": channel.conflicting,
    }
    gaps = (
        f"<Gap>{_text('start', units.format_utc(begins))}{_text('end', units.format_utc(ends))}</Gap>"
        for begins, ends in channel.gaps[:MOST_GAPS]
    )
    texts = "".join(_text(name, value) for name, value in fields.items())
    return f"<ChannelCompleteness>{texts}{''.join(gaps)}</ChannelCompleteness>"
