"""Mailboxes: what waits for partners, numbered for each; taken at least once, gone on from by an explicit commit.

Mails and the cursor of the reader that makes them move in one transaction, as in `outbox.py`; the same mail posted
again stays the one it was. Numbers are given under a lock on the partner's row, so a number that is seen has none
missing before it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Row, String, bindparam, cast, delete, exists, insert, select, text, update

from gridpost.controls import State, Step, mrid_of
from gridpost.errors import NotFound
from gridpost.model import DataVersion
from gridpost.requests import Mail

from . import lives, outbox
from .enrolments import Enrolments
from .tables import dead_letter
from .tables_office import mailbox, mailbox_cursor, partner

T = TypeVar("T")

PUSH_READER = "push "  # before a partner's id: the reader of its dead letters, whose subject is a mail's number
AT_ONCE = 1000  # mails of one partner that `forget_mail` looks at

_box, _cursor = mailbox.c, mailbox_cursor.c
_HAVE = text("INSERT INTO mailbox_cursor (partner, last, committed) VALUES (:partner, 0, 0) ON CONFLICT DO NOTHING")
_LOCK = select(_cursor.last, _cursor.committed).where(_cursor.partner == bindparam("whose")).with_for_update()
_PLACE = select(_cursor.last, _cursor.committed).where(_cursor.partner == bindparam("whose"))
_SAME = select(_box.number).where(
    _box.partner == bindparam("whose"),
    _box.partition == bindparam("of_partition"),
    _box.seq == bindparam("of_seq"),
    _box.kind == bindparam("of_kind"),
    _box.line == bindparam("of_line"),
)
_LAST = update(mailbox_cursor).where(_cursor.partner == bindparam("whose")).values(last=bindparam("newest"))
_IS_DEAD = exists().where(
    dead_letter.c.reader == PUSH_READER + _box.partner, dead_letter.c.subject == cast(_box.number, String)
)


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
        place = (outbox.version_text(version), json.dumps(state, allow_nan=False))
        now = self._clock()

        def work(connection: Connection) -> Posted:
            outbox.advance(connection, reader, place, (), now)
            done = lives.append(connection, steps, None)
            return Posted(tuple(_put(connection, mails, now)), tuple(done))

        return self._do(work)

    def tell(self, steps: Sequence[Step], expected: Collection[State], mails: Sequence[Mail]) -> list[Step]:
        """Append those steps whose controls are in an expected state, and put the mails about these, at once.

        For what a person decides beside a running bus.

        Args:
            steps: at most one a control.
            expected: states.
            mails: each of the row of a control; those of controls that did not go on are left out.

        Returns:
            The steps that were appended.

        Raises:
            NotFound: no such partner; nothing was done.
            StoreUnavailable: nothing was done.
        """
        with self._keep() as connection:
            done = lives.append(connection, steps, expected)
            gone_on = {step.control for step in done}
            about = [mail for mail in mails if mrid_of(mail.partition, mail.seq, mail.line) in gone_on]
            list(_put(connection, about, self._clock()))
            return done

    def peek(self, partner_id: str, limit: int, after: int | None = None) -> list[Mail]:
        """Return up to `limit` mails with a number > `after`, ascending; None: behind what was committed."""
        with self._look() as connection:
            if after is None:
                after = _at(connection, partner_id)[1]
            query = select(mailbox).where(_box.partner == partner_id, _box.number > after)
            return [_mail(row) for row in connection.execute(query.order_by(_box.number).limit(limit))]

    def commit(self, partner_id: str, up_to: int) -> int:
        """Note that the partner has taken all mails up to that number; return the number that stands. It never falls.

        Raises:
            NotFound: there is no mail of that number yet.
        """
        with self._keep() as connection:
            row = connection.execute(_LOCK, {"whose": partner_id}).one_or_none()
            last, committed = (0, 0) if row is None else row
            if up_to > last:
                raise NotFound(f"the newest mail of {partner_id} is {last}, not {up_to}")
            if up_to > committed:
                mine = update(mailbox_cursor).where(_cursor.partner == partner_id)
                connection.execute(mine.values(committed=up_to))
        return max(up_to, committed)

    def depth(self, partner_id: str) -> int:
        """Return how many mails the partner has not committed yet."""
        with self._look() as connection:
            last, committed = _at(connection, partner_id)
        return last - committed

    def forget_mail(self, before_utc_ms: int) -> int:
        """Delete mails that were committed and put here before a moment; return how many: 0 when there are no more.

        Of each partner's at most `AT_ONCE`, so that nothing else waits long for the store. One that is a dead letter
        stays: somebody may want it sent again.

        Raises:
            StoreUnavailable: nothing was deleted.
        """
        with self._keep() as connection:
            places = connection.execute(select(_cursor.partner, _cursor.committed).where(_cursor.committed > 0)).all()
            return sum(_forget(connection, *place, before_utc_ms) for place in places)


def _forget(connection: Connection, partner_id: str, committed: int, before_utc_ms: int) -> int:
    mine = (_box.partner == partner_id, _box.number <= committed)
    oldest = select(_box.number).where(*mine, ~_IS_DEAD).order_by(_box.number).limit(AT_ONCE)
    made_at = connection.execute(oldest.with_only_columns(_box.made_at_utc_ms).limit(1)).scalar_one_or_none()
    if made_at is None or made_at >= before_utc_ms:
        return 0
    old = delete(mailbox).where(*mine, _box.made_at_utc_ms < before_utc_ms, _box.number.in_(oldest))
    return connection.execute(old).rowcount


def _at(connection: Connection, partner_id: str) -> tuple[int, int]:
    row = connection.execute(_PLACE, {"whose": partner_id}).one_or_none()
    return (0, 0) if row is None else (row.last, row.committed)


def _put(connection: Connection, mails: Sequence[Mail], now_utc_ms: int) -> Iterator[tuple[str, int]]:
    """Put mails into their boxes, box by box in the order of their partners, each box's in the order given."""
    for whose, theirs in groupby(sorted(mails, key=lambda one: one.partner), lambda one: one.partner):
        last = before = _lock(connection, whose)
        for mail in theirs:
            key = {"whose": whose, "of_partition": mail.partition, "of_seq": mail.seq}
            if connection.execute(_SAME, key | {"of_kind": mail.kind, "of_line": mail.line}).first() is None:
                last += 1
                row = mail._replace(number=last, made_at_utc_ms=now_utc_ms)
                connection.execute(insert(mailbox), row._asdict())
                yield whose, last
        if last > before:
            connection.execute(_LAST, {"whose": whose, "newest": last})


def _lock(connection: Connection, whose: str) -> int:
    """Let nobody else number this partner's mails before the transaction ends; return the last number given."""
    if connection.execute(select(partner.c.id).where(partner.c.id == whose)).first() is None:
        raise NotFound(f"no partner {whose}")
    connection.execute(_HAVE, {"partner": whose})
    last: int = connection.execute(_LOCK, {"whose": whose}).one().last
    return last


def _mail(row: Row[Any]) -> Mail:
    return Mail(**{name: getattr(row, name) for name in Mail._fields})
