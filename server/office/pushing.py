"""Carries mailboxes to partners that have an endpoint: in order, at least once, each partner at its own pace.

In: mailboxes, and what makes a delivery of a partner (its own WSDL, its registered endpoint; nothing a message says).
Out: calls, and what became of each mail: taken, set aside, or kept. A mail that a partner refuses becomes a dead letter
and holds nobody up; `gridpost dead-letters --retry` sends it again. A partner that does not answer keeps its mails and
is left alone for a while, twice as long each time it took nothing; the others do not notice. The place in a mailbox is
the one that DequeueMailbox moves, so what was fetched is not pushed, and after a crash nothing is lost and at most the
mail on its way is sent again, under its old name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from gridpost.errors import OurFault, PartnerUnreachable, PeerFault
from gridpost.partners import Partner
from gridpost.ports import Clock, Delivery, Signer
from gridpost.requests import Mail

from ..audit import Audit
from ..receipts import seal_answer
from ..store import DeadLetter, SqlStore
from ..store.mailbox import PUSH_READER as READER

BATCH = 20  # mails of one partner a round
THREADS = 8  # partners called at once
PUSH_S = 2  # between two steps
_GONE = "not-found: the mail is no longer in the store"
FIRST_MS, LONGEST_MS = 5_000, 900_000  # before a partner that did not answer is called again

Aside = Callable[[Callable[[], "list[Sent]"]], Awaitable["list[Sent]"]]


class Sent(NamedTuple):
    """What became of one mail.

    Attributes:
        partner: its id.
        number: the mail's.
        place: who took it; empty: it was not taken.
        reason: why not, with the code; empty when it was taken.
        kept: it is still in the mailbox and will be sent again.
    """

    partner: str
    number: int
    place: str
    reason: str = ""
    kept: bool = False


class Pushes:
    """The pushes of one bus."""

    def __init__(self, store: SqlStore, delivery_to: Callable[[Partner], Delivery], clock: Clock) -> None:
        """`store` is one that serves; `clock` says when a partner is called again."""
        self._store, self._delivery_to, self._clock = store, delivery_to, clock
        self._pool = ThreadPoolExecutor(THREADS, "push")
        self._deliveries: dict[str, tuple[Partner, Delivery]] = {}
        self._running: dict[str, Future[list[Sent]]] = {}
        self._closing = False
        self._waits: dict[str, tuple[int, int]] = {}  # partner -> not before, and how long the next wait is

    def step(self) -> list[Sent]:
        """Begin a round for each partner that is due and has mail, and return what the rounds that ended did.

        Raises:
            StoreUnavailable: the store fails; nothing was moved that is not done.
        """
        told = [one for partner_id in list(self._running) for one in self._ended(partner_id)]
        letters = self._letters()
        for partner in self._store.partners():
            mine = letters.get(partner.id, {})
            if self._is_due(partner) and (any(mine.values()) or self._store.depth(partner.id)):
                self._running[partner.id] = self._pool.submit(self._round, partner, mine)
        return told

    async def carry(self, aside: Aside, audit: Audit) -> None:
        """Take a step off the reactor and tell the audit log what became of each mail.

        Raises:
            StoreUnavailable: see `step`.
        """
        for one in await aside(self.step):
            told: dict[str, str | int] = {"partner": one.partner, "number": one.number}
            if one.kept:
                audit.event("push-kept", **told, reason=one.reason)
            elif one.reason:
                audit.event("dead-letter", reader=READER + one.partner, name=str(one.number), reason=one.reason)
            else:
                audit.event("pushed", **told, place=one.place)

    def close(self) -> None:
        """Let the calls that are on their way end, and begin no other."""
        self._closing = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _ended(self, partner_id: str) -> list[Sent]:
        future = self._running[partner_id]
        if not future.done():
            return []
        del self._running[partner_id]
        sent = future.result()
        if any(one.kept for one in sent):
            # Who takes some answers: were its waits to grow, errors now and then would stop its mailbox.
            took = any(one.place for one in sent)
            wait_ms = FIRST_MS if took else self._waits.get(partner_id, (0, FIRST_MS))[1]
            self._waits[partner_id] = (self._clock() + wait_ms, min(2 * wait_ms, LONGEST_MS))
        else:
            self._waits.pop(partner_id, None)
        return sent

    def _is_due(self, partner: Partner) -> bool:
        now = self._clock()
        in_force = partner.valid_from_utc_ms <= now and (partner.valid_to_utc_ms or now + 1) > now
        named = bool(partner.endpoint and partner.wsdl)
        return in_force and named and partner.id not in self._running and self._waits.get(partner.id, (0, 0))[0] <= now

    def _letters(self) -> dict[str, dict[int, bool]]:
        """The dead letters of each partner: number -> whether somebody wants it sent again: it has no reason then."""
        found: dict[str, dict[int, bool]] = {}
        for letter in self._store.dead_letters():
            if letter.reader.startswith(READER):
                mine = found.setdefault(letter.reader.removeprefix(READER), {})
                mine[int(letter.subject)] = not letter.reason
        return found

    def _round(self, partner: Partner, letters: dict[int, bool]) -> list[Sent]:
        sent = []
        for one in self._mails(partner, letters):
            sent.append(one)
            if one.kept or self._closing:
                break
        return sent

    def _mails(self, partner: Partner, letters: dict[int, bool]) -> Iterator[Sent]:
        for number in (number for number, wanted in letters.items() if wanted):
            found = [mail for mail in self._store.peek(partner.id, 1, number - 1) if mail.number == number]
            yield self._send(partner, found[0], is_dead=True) if found else self._aside(partner, number, _GONE)
        for mail in self._store.peek(partner.id, BATCH):
            # A letter of a mail that is not committed: killed between the two. It must not outlive the delivery.
            outcome = self._send(partner, mail, is_dead=mail.number in letters)
            if not outcome.kept:
                self._store.commit(partner.id, mail.number)
            yield outcome

    def _send(self, partner: Partner, mail: Mail, *, is_dead: bool) -> Sent:
        name = f"{partner.id}-{mail.number}"
        try:
            place = self._delivery(partner).deliver(name, mail.content)
            if is_dead:
                self._store.forget_dead_letters(READER + partner.id, [str(mail.number)]).result()
            return Sent(partner.id, mail.number, place)
        except PeerFault as error:
            return self._aside(partner, mail.number, f"{error.code}: {error.reason}")
        except OurFault as error:
            return Sent(partner.id, mail.number, "", f"{error.code}: {error.reason}", kept=True)

    def _aside(self, partner: Partner, number: int, reason: str) -> Sent:
        letter = DeadLetter(READER + partner.id, str(number), reason, self._clock())
        self._store.dead_letter(letter).result()
        return Sent(partner.id, number, "", reason)

    def _delivery(self, partner: Partner) -> Delivery:
        """The delivery of a partner as it is now: a changed entry gets a new one."""
        known = self._deliveries.get(partner.id)
        if known is None or known[0] != partner:
            known = self._deliveries[partner.id] = (partner, self._delivery_to(partner))
        return known[1]


def calling(service: Callable[[], Any], signer: Signer, clock: Clock) -> Callable[[Partner], Delivery]:
    """Return what makes a partner's delivery: its own service, called with messages that the bus seals.

    Args:
        service: returns the entry point ``soap``; asked with the first partner, for its libraries take 40 MB.
        signer: the bus's.
        clock: when a message is sealed.
    """

    def deliver_to(partner: Partner) -> Delivery:
        made: Delivery = service()(
            partner.wsdl,
            partner.endpoint,
            lambda _, body: seal_answer(signer, body, clock()),
            access=(partial(credentials, partner), partner.ca),
        )
        return made

    return deliver_to


def credentials(partner: Partner) -> tuple[str, str, str]:
    """Return who the bus is to a partner's MultiSpeak service: user, password, company; empty: not stated.

    Raises:
        PartnerUnreachable: the password's file cannot be read; what is pushed is kept.
    """
    file = partner.push_password_file
    try:
        password = Path(file).read_text(encoding="utf-8").partition("\n")[0].rstrip("\r") if file else ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PartnerUnreachable(f"the password for {partner.id} cannot be read from {file}: {why}") from None
    return partner.push_user, password, ""
