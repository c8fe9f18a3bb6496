"""The answer to GetTariffComparison, on the wire: a comparison of tariffs as XML.

Floor 5. Out: the Body's child in exclusive canonical form. Amounts are exact text, both bounds always given.
"""

from __future__ import annotations

from decimal import Decimal

from . import units
from .answers import encode_reply
from .applications.comparison import Comparison, Cost, Difference
from .encoding import text_of
from .model import Header
from .office_messages import paged

MOST_TOLD = 100  # ends of uncertain intervals


def encode_comparison_reply(reply_header: Header, found: Comparison, currency: str, at: str) -> bytes:
    """Return ``TariffComparisonResponseMessage``.

    Args:
        reply_header: from `office_messages.reply_to`.
        found: the comparison; bids are named as in the request.
        currency: of its amounts.
        at: for the Property ``dataVersion``: of which readings it tells.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
    """
    ends = sorted({end for _, end in found.uncertain})
    content = "".join(
        (
            _text("answer", found.answer),
            _text("best", found.best),
            _text("currency", currency),
            _text("savingLow", min(found.saving)),
            _text("savingHigh", max(found.saving)),
            *map(_cost, found.costs),
            *map(_difference, found.decided_by),
            _text("uncertain", len(found.uncertain)),
            *(_text("uncertainInterval", units.format_utc(end)) for end in ends[:MOST_TOLD]),
        )
    )
    return encode_reply(paged(reply_header, "", at), f"<TariffComparison>{content}</TariffComparison>")


def _text(name: str, value: object) -> str:
    shown = f"{value:f}" if isinstance(value, Decimal) else str(value)
    return f"<{name}>{text_of(shown)}</{name}>"


def _cost(one: Cost) -> str:
    bounded = str(one.bounded).lower()
    inner = _text("bid", one.bid) + _text("low", one.low) + _text("high", one.high) + _text("bounded", bounded)
    return f"<BidCost>{inner}</BidCost>"


def _difference(one: Difference) -> str:
    inner = _text("kind", one.kind) + _text("present", one.present) + _text("best", one.best)
    return f"<ChargeDifference>{inner}</ChargeDifference>"
