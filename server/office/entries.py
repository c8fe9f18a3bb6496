"""What offices ask of the log becomes an entry: evidence, rows and the answer that stands for it, in one transaction.

In: a call, the rows it brings, a function that encodes the answer around the receipt. Out: the answer, sealed, as it
was committed; the same message again gets the same bytes (DESIGN 1.2). The answer to an unsigned call is what stands
in that envelope, without its seal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gridpost.errors import MessageIdReused
from gridpost.model import Receipt, Rows
from gridpost.ports import Signer, Store

from ..identity import answering
from ..receipts import Recorded, receipt_maker, seal_answer
from ..reception import Worker
from ..soap import Answer
from .call import Call

_BODY = b' wsu:Id="body">'


@dataclass(frozen=True, slots=True)
class Entries:
    """Records calls, and finds those recorded before.

    Attributes:
        store: the log; the process serves it.
        signer: the bus's key.
        worker: brings what the writer answers back to the reactor.
        rsa: the one that answers what RSA signed; None: the first answers all.
    """

    store: Store
    signer: Signer
    worker: Worker
    rsa: Signer | None = None

    def known(self, call: Call) -> Answer | None:
        """Return the answer that stands for a call's message id; None: it is new.

        Raises:
            MessageIdReused: it stands for other content.
        """
        stored = self.store.find(call.partner.id, call.header.message_id)
        if stored is None:
            return None
        if stored.content_digest != call.content_digest:
            raise MessageIdReused(detail=f"{call.partner.id} {call.header.message_id}")
        return answer_of(stored.receipt)

    async def record(self, call: Call, rows: Rows, encode: Callable[[Receipt], bytes]) -> Answer:
        """Append a call and its rows to the log and return the answer that stands.

        Args:
            call: of a partner whose rights were looked at.
            rows: what it brings.
            encode: the answer's Body child around its receipt; called in the writer's thread, inside its transaction.

        Raises:
            MessageIdReused, SignerUnavailable, StoreUnavailable: see `ports.Store`.
        """

        def answer(receipt: Receipt) -> bytes:
            return self.seal(encode(receipt), receipt.recorded_at_utc_ms, call.caller.certificate)

        of = Recorded(call.header.message_id, call.partner.id, call.content_digest, call.references)
        make_receipt = receipt_maker(of, answer)
        return answer_of(await self.worker.recorded(lambda: self.store.record(call.entry(), rows, make_receipt)))

    def seal(self, body: bytes, now_utc_ms: int, certificate: bytes) -> bytes:
        """Seal an answer in the family of the certificate (DER) that signed the request; empty: nobody did.

        Raises:
            SignerUnavailable: the key cannot be used, or its certificate is not valid now.
        """
        signer = answering(certificate, self.signer, self.rsa) if certificate else self.signer
        return seal_answer(signer, body, now_utc_ms)


def answer_of(sealed: bytes) -> Answer:
    """Return an answer that was sealed by us; its Body's child is cut out of the one layout that we write."""
    _, found, rest = sealed.partition(_BODY)
    assert found, "sealed by wssecurity.sign"
    return Answer(rest[: rest.rindex(b"</soap:Body>")], sealed)
