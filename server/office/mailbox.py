"""PeekMailbox and DequeueMailbox: a partner takes what waits for it, at least once, and says when it has it.

In: a call. Out: mails in their order, or the word that they are dealt with. Only the partner's own mailbox is looked
at; what is in it was put there by the grants of that moment. An answer holds at most so many mails as the limit says
and, from the second mail on, `LARGEST` octets.
"""

from __future__ import annotations

from dataclasses import dataclass

from gridpost.errors import NotFound, QueryRefused
from gridpost.office_messages import encode_mail_reply, reply_to
from gridpost.ports import Clock
from gridpost.requests import DequeueMailbox, Mail, PeekMailbox

from ..store import SqlStore
from .call import Call

LARGEST = 4 << 20
DAY_MS = 86_400_000
_AT_ONCE = 16  # mails read in one look: what is read but not sent is thrown away


@dataclass(frozen=True, slots=True)
class MailboxDesk:
    """The handlers; `most`: mails of one answer."""

    bus_id: str
    store: SqlStore
    most: int

    def peek(self, call: Call) -> bytes:
        """Return the mails after the last one committed; nothing is taken away."""
        assert isinstance(call.message, PeekMailbox)
        partner = call.partner.id
        mails = self._mails(partner, min(call.message.limit or self.most, self.most))
        header = reply_to(call.header, self.bus_id, call.now_utc_ms)
        return encode_mail_reply(header, mails, self.store.depth(partner))

    def dequeue(self, call: Call) -> bytes:
        """Note that mails up to a number are dealt with; doing it again changes nothing.

        Raises:
            QueryRefused: there is no mail of that number yet.
        """
        assert isinstance(call.message, DequeueMailbox)
        try:
            self.store.commit(call.partner.id, call.message.up_to)
        except NotFound as error:
            raise QueryRefused(error.reason) from None
        header = reply_to(call.header, self.bus_id, call.now_utc_ms)
        return encode_mail_reply(header, (), self.store.depth(call.partner.id))

    def _mails(self, partner: str, limit: int) -> list[Mail]:
        taken: list[Mail] = []
        size, after = 0, None
        while len(taken) < limit:
            found = self.store.peek(partner, min(_AT_ONCE, limit - len(taken)), after)
            for mail in found:
                size += len(mail.content)
                if taken and size > LARGEST:
                    return taken
                taken.append(mail)
            if not found:
                break
            after = found[-1].number
        return taken


def forget_old(store: SqlStore, clock: Clock, days: int) -> None:
    """Forget some of the mail that was taken and is older than so many days; 0: none ever. To be called often.

    Raises:
        StoreUnavailable: nothing was forgotten.
    """
    if days:
        store.forget_mail(clock() - days * DAY_MS)
