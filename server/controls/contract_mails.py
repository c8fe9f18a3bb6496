"""What suppliers are told of their contracts by their mailboxes. Pure.

In: documents of entries that the bus recorded. Out: mails, one a contract and entry, to the supplier whose it is, and
to nobody else: what becomes of another's contract is the other's business.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

from gridpost import contract, messages
from gridpost.contract import Contract
from gridpost.documents import CONTRACT
from gridpost.model import Header
from gridpost.ports import StoredDocument
from gridpost.requests import Mail
from gridpost.supply import CreatedContract, Supply

KIND, NOUN = "contract", "Contract"


def told(one: Contract) -> Supply:
    """Return a contract as partners are told it."""
    return Supply(
        id=one.id,
        customer=one.customer,
        usage_point=one.usage_point,
        tariff=one.tariff,
        from_utc=one.from_utc,
        to_utc=one.to_utc,
        cycle_day=one.cycle_day,
        supplier=one.supplier,
        kind=one.kind,
        status=one.status,
        reason=one.reason,
    )


def mails(found: Sequence[StoredDocument], partners: Collection[str], bus_id: str) -> Iterator[Mail]:
    """Yield the mails of documents, which are in the order of the log.

    Args:
        found: documents of any kind.
        partners: ids of those that are partners now.
        bus_id: Source of the mails' content.
    """
    for position, same in groupby(found, key=lambda one: one.position):
        for line, one in enumerate(same):
            document = one.document
            if document.kind != CONTRACT or document.owner not in partners:
                continue
            message_id = f"{KIND}-{position.partition}-{position.seq}-{line}"
            header = Header("created", NOUN, one.recorded_at_utc_ms, bus_id, message_id)
            content = messages.encode(CreatedContract(header, (told(contract.decode(document.content)),)))
            yield Mail(document.owner, KIND, NOUN, content, "", position.partition, position.seq, line)
