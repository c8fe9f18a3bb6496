"""How the bus states what it has recorded: receipts made inside the writer's transaction, answers sealed by its key.

In: what a message names itself, a key, a moment. Out: signed bytes. Reception, the office's door and the bus's own
entries (own.py) all make their receipts here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gridpost import exchange
from gridpost.errors import SignerUnavailable
from gridpost.model import Counts, Position, Receipt, Reference
from gridpost.ports import MakeReceipt, Signer


class Recorded(NamedTuple):
    """What a receipt says of the message itself; fields as in `model.Receipt`."""

    message_id: str
    sender: str
    content_digest: bytes
    references: tuple[Reference, ...]


def receipt_maker(of: Recorded, answer: Callable[[Receipt], bytes]) -> MakeReceipt:
    """Return what the writer calls in its thread, inside its transaction; `answer` encodes and seals the receipt."""

    def make_receipt(position: Position, root_before: bytes, recorded_at_utc_ms: int, counts: Counts) -> bytes:
        return answer(Receipt(*of, recorded_at_utc_ms, position, root_before, counts))

    return make_receipt


def seal_answer(signer: Signer, body: bytes, now_utc_ms: int) -> bytes:
    """Seal an answer; a certificate that devices would not believe now counts as no signer (decision 6).

    A receipt sealed with it would stand for ever and be refused for ever.

    Raises:
        SignerUnavailable: the certificate is not valid now, or the key cannot be used.
    """
    if not exchange.valid_at(signer.certificate, now_utc_ms):
        raise SignerUnavailable(detail="the bus's own certificate is not valid now")
    return exchange.seal(body, signer, now_utc_ms)
