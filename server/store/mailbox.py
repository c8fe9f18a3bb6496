"""Mailboxes: what waits for partners, numbered for each; taken at least once, gone on from by an explicit commit.

Mails and the cursor of the reader that makes them move in one transaction, as in `outbox.py`; the same mail posted
again stays the one it was. Numbers are given under a lock on the partner's row, so a number that is seen has none
missing before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection

from gridpost.controls import Step
from gridpost.model import DataVersion, Position

from .enrolments import Enrolments

T = TypeVar("T")


class Mail(NamedTuple):
    """What a partner is to be told.

    Attributes:
        partner: whose mailbox.
        kind: what it is about; (partner, position, kind, line) is one mail for ever.
        noun: ``MeterReadings``, ``EndDeviceEvents`` ...
        content: the Body's child, canonical XML.
        position: the entry it comes from: of what the bus says by itself, the entry that asked for it.
        correlation_id: id of the partner's message it answers; empty: none.
        line: which of several mails of that kind from that entry.
    """

    partner: str
    kind: str
    noun: str
    content: bytes
    position: Position
    correlation_id: str = ""
    line: int = 0


class Mailed(NamedTuple):
    """A mail in its mailbox: its number, rising for the partner from 1 without holes, and when it was put there."""

    number: int
    mail: Mail
    made_at_utc_ms: int


class Posted(NamedTuple):
    """What `post` brought.

    Attributes:
        mails: (partner, number) of each mail that was new.
        steps: those that were appended.
    """

    mails: tuple[tuple[str, int], ...]
    steps: tuple[Step, ...]


class Mailboxes(Enrolments):
    """The verbs of mailboxes; a part of `SqlStore`."""

    def _do(self, work: Callable[[Connection], T]) -> Future[T]:
        raise NotImplementedError

    def post(
        self,
        reader: str,
        version: DataVersion,
        state: Mapping[str, object],
        mails: Sequence[Mail],
        steps: Sequence[Step] = (),
    ) -> Future[Posted]:
        """Move a reader's cursor, put its mails into their boxes and append its steps, in one transaction.

        A mail that is there already is left as it is. A step is appended where its state may follow the last one
        (`controls.FOLLOWS`), otherwise left out.

        The future raises:
            NotFound: no such partner; nothing was done.
            StoreUnavailable: nothing was done.
        """
        raise NotImplementedError

    def peek(self, partner_id: str, limit: int, after: int | None = None) -> list[Mailed]:
        """Return up to `limit` mails with a number > `after`, ascending; None: behind what was committed."""
        raise NotImplementedError

    def commit(self, partner_id: str, up_to: int) -> int:
        """Note that the partner has taken all mails up to that number; return the number that stands. It never falls.

        Raises:
            NotFound: there is no mail of that number yet.
        """
        raise NotImplementedError

    def depth(self, partner_id: str) -> int:
        """Return how many mails the partner has not committed yet."""
        raise NotImplementedError

    def forget_mail(self, before_utc_ms: int) -> int:
        """Delete mails that were committed and put here before a moment; return how many."""
        raise NotImplementedError
