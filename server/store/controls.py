"""Controls on file: where each is in its life, what its IED is given, how many there were.

A control is recorded with the entry that asks for it (`group.py`). From then on steps are appended, by the writer's
jobs and by other processes alike; `control_now` keeps the last one, and whoever changes its row first wins. Whoever
gives an IED's next counter locks that IED's row of `control_counter`, so that two buses never give one twice.

Locks are taken in one order, so that nobody waits in a circle: counters by target, controls by key, mailboxes by
partner, the mark.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from decimal import Decimal, localcontext
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, func, select, tuple_

from gridpost.controls import FINAL, Control, State, Step, place_of
from gridpost.leaf import ControlRow, parse_control
from gridpost.model import Position

from . import lives
from .driver import select_by, select_keyed
from .enrolments import Enrolments
from .giving import Give, Seal
from .lives import Place
from .tables_office import control, control_mark, control_now, control_sealed, control_step

T = TypeVar("T")

LEAD_MS = 86_400_000  # how long before its not-before a control is given: an IED that calls once a day has it in time
_CHUNK = 500
_FIRST = (-1, 0, 0)
_now = control_now.c
_OPEN = _now.closed_at_utc_ms.is_(None)
_CAME = select(func.max(_now.not_before_utc_ms)).where(
    _OPEN, _now.state == State.WAITING.value, _now.not_before_utc_ms <= bindparam("latest")
)
_ANY = select(_now.target).where(
    _OPEN,
    _now.state == State.WAITING.value,
    _now.not_before_utc_ms <= bindparam("latest"),
    _now.expires_utc_ms > bindparam("now"),
)
_MARK = select(control_mark.c.mark, _CAME.scalar_subquery())
_WAITING = f"""
    SELECT target, count(*) FROM {control_now.name}
    WHERE closed_at_utc_ms IS NULL AND state = '{State.WAITING.value}' AND not_before_utc_ms <= ?
      AND expires_utc_ms > ? AND target IN (%s) GROUP BY target
"""
_KEY = (control.c.partition, control.c.seq, control.c.line)


def _same(table: Any) -> Any:
    """The row of another table that is of the same control."""
    return and_(*(table.c[column.name] == column for column in _KEY))


_FILED = select(control, control_sealed.c.counter).outerjoin(control_sealed, _same(control_sealed)).order_by(*_KEY)
_FILED_AT = f"""
    SELECT c.*, s.counter FROM wanted w CROSS JOIN {control.name} c LEFT JOIN {control_sealed.name} s
    ON s.partition = c.partition AND s.seq = c.seq AND s.line = c.line
"""
_IN_ORDER = "ORDER BY c.partition, c.seq, c.line"
_STEPS = f"""
    SELECT s.partition, s.seq, s.line, s.state, s.at_utc_ms, s.by_whom, s.detail
    FROM wanted w CROSS JOIN {control_step.name} s WHERE s.partition = w.k0 AND s.seq = w.k1 AND s.line = w.k2
    ORDER BY s.partition, s.seq, s.line, s.number
"""
_VALUES = select(control.c.value).join(control_now, _same(control_now))
# What nobody but the clock ends; what an IED may have is for the IED to say.
UNFETCHED = frozenset((State.PROPOSED, State.HELD, State.WAITING))
_DUE = select(_now.partition, _now.seq, _now.line).where(
    _OPEN, _now.expires_utc_ms <= bindparam("now"), _now.state.in_(bindparam("states", expanding=True))
)


class ControlOnFile(NamedTuple):
    """A control and its life.

    Attributes:
        control: `counter` is 0 before its first fetch.
        group: name of the group it was asked for; empty: none.
        position: the entry that asked for it.
        steps: oldest first; at least one.
    """

    control: Control
    group: str
    position: Position
    steps: tuple[Step, ...]

    @property
    def state(self) -> State:
        """Where it is."""
        return self.steps[-1].state


class Controls(Enrolments):
    """The verbs of controls; a part of `SqlStore`."""

    def connection(self) -> AbstractContextManager[Connection]:
        """See `Reading.connection`."""
        raise NotImplementedError

    def _do(self, work: Callable[[Connection], T]) -> Future[T]:
        raise NotImplementedError

    # --- looking ---

    def control(self, mrid: str) -> ControlOnFile | None:
        """Return a control by the bus's mRID of it."""
        place = place_of(mrid)
        if place is None:
            return None
        found = self._controls(_FILED.where(*(column == number for column, number in zip(_KEY, place, strict=True))))
        return found[0] if found else None

    def controls(
        self,
        issuer: str | None = None,
        target: str | None = None,
        states: Collection[State] | None = None,
        limit: int = 100,
        after: str = "",
    ) -> list[ControlOnFile]:
        """Return controls in order of partition, seq, line.

        Args:
            issuer: only this partner's.
            target: only this IED's.
            states: only those whose last step is one of them.
            limit: how many.
            after: mRID of the last one of the page before; empty: from the first.
        """
        query = _FILED.limit(limit)
        whose: ColumnElement[Any] = control.c.issuer
        whom: ColumnElement[Any] = control.c.target
        if states is not None:
            query = query.join(control_now, _same(control_now))
            query = query.where(_now.state.in_(sorted(state.value for state in states)))
        if states is not None and FINAL.isdisjoint(states):
            # There are few, and an index has them alone; an issuer's own index would lead through all it ever asked.
            query, whose, whom = query.where(_OPEN), control.c.issuer.concat(""), _now.target
        if issuer is not None:
            query = query.where(whose == issuer)
        if target is not None:
            query = query.where(whom == target)
        if after:
            query = query.where(tuple_(*_KEY) > tuple_(*(place_of(after) or _FIRST)))
        return self._controls(query)

    def tracked(self, issuer: str, tracking_id: str) -> list[ControlOnFile]:
        """Return what an issuer's own mRID stands for: one control, or one for each IED of a group."""
        return self._controls(_FILED.where(control.c.issuer == issuer, control.c.tracking_id == tracking_id))

    def controls_of(self, positions: Sequence[Position]) -> list[ControlOnFile]:
        """Return the controls that those entries asked for, in order of partition, seq, line."""
        return self._filed_at(f"{_FILED_AT} WHERE c.partition = w.k0 AND c.seq = w.k1 {_IN_ORDER}", positions)

    def overdue(self, by_utc_ms: int, states: Collection[State] = UNFETCHED) -> list[ControlOnFile]:
        """Return some 500 of what expired by a moment and is in one of those states: not fetched, unless given."""
        with self._look() as connection:
            keys = [tuple(row) for row in connection.execute(_DUE.limit(_CHUNK), _due(by_utc_ms, states))]
        where = "WHERE c.partition = w.k0 AND c.seq = w.k1 AND c.line = w.k2"
        return self._filed_at(f"{_FILED_AT} {where} {_IN_ORDER}", keys)

    def waiting(self, serials: Sequence[str]) -> Mapping[str, int]:
        """Return how many controls an IED could fetch now, that it was not given yet; IEDs without are left out."""
        if not serials:
            return {}
        now, asked = self._clock(), sorted(set(serials))
        with self.connection() as connection:
            rows = select_by(connection, _WAITING % ", ".join("?" * len(asked)), (now + LEAD_MS, now, *asked))
        return {row[0]: row[1] for row in rows}

    def any_waiting(self) -> bool:
        """Tell whether any IED could fetch a control now that it was not given yet; cheap."""
        with self.connection() as connection:
            values = {"now": (now := self._clock()), "latest": now + LEAD_MS}
            return connection.execute(_ANY.limit(1), values).first() is not None

    def waiting_mark(self) -> int:
        """Return a number that changes whenever a control begins to wait, or can be given from now on; cheap."""
        with self.connection() as connection:
            mark, came = connection.execute(_MARK, {"latest": self._clock() + LEAD_MS}).one()
        return int(mark) << 48 | int(came or 0)

    def sums(self, action: str, since_utc_ms: int, issuer: str | None = None) -> tuple[int, str]:
        """Return how many controls of an action were released since a moment, and the exact sum of their values.

        A control counts from when it began to wait for its IED: held and proposed ones do not, nor deleted ones that
        were never released.

        Args:
            action: name of ACTIONS.
            since_utc_ms: inclusive.
            issuer: only this partner's; None: all issuers.
        """
        query = _VALUES.where(_now.released_at_utc_ms >= since_utc_ms, control.c.action == action)
        with self._look() as connection:
            rows = connection.execute(query if issuer is None else query.where(control.c.issuer == issuer))
            values = list(rows.scalars())
        return len(values), _exact_sum(values)

    # --- going on ---

    def step(self, step: Step, expected: Collection[State], seen: int | None = None) -> bool:
        """Append a step if the control's last state is one of `expected`; tell whether it was. One transaction.

        Args:
            step: its control is named by mRID.
            expected: of two that go on from the same state at once, one finds another state than it expected.
            seen: how many steps the caller has seen, where the state stays the same (the first of two persons).

        Raises:
            StoreUnavailable: nothing was appended.
        """
        with self._keep() as connection:
            return bool(lives.append(connection, [step], expected, seen))

    def step_all(self, steps: Sequence[Step], expected: Collection[State]) -> list[Step]:
        """Append several steps, of one control each, in one transaction, if all controls are in an expected state.

        For a group: what is replaced or taken back is so for all of its IEDs, or for none.

        Returns:
            The steps; none when one of the controls was in another state.

        Raises:
            StoreUnavailable: none was appended.
        """
        with self._keep() as connection:
            return lives.append(connection, steps, expected, whole=True)

    def fetch(
        self, asked: Sequence[tuple[str, int]], seal: Seal, now_utc_ms: int, lead_ms: int = LEAD_MS
    ) -> Future[Mapping[str, bytes | None]]:
        """Give each IED its next control, sealed; all of them in one transaction of the writer.

        For each (serial, after): the stored bytes of the least counter > after whose control is not final; else of the
        controls that wait for the IED, are not expired and can be given now, the most urgent, then the oldest:
        it gets the next counter, is sealed, its bytes are kept and its step FETCHED is appended. None when there is
        none. Of a serial asked twice the least `after` counts.

        Args:
            asked: serial, and the greatest counter the IED knows, 0 at first.
            seal: the control, counter given -> the signed answer. Called inside the transaction.
            now_utc_ms: the clock.
            lead_ms: how long before its not-before a control is given.

        The future raises:
            SignerUnavailable: from seal; nothing was given.
            StoreUnavailable: nothing was given.
        """
        wanted: dict[str, int] = {}
        for serial, after in asked:
            wanted[serial] = min(after, wanted.get(serial, after))
        insert = self._dialect.insert
        return self._do(lambda connection: Give(connection, insert, seal, now_utc_ms, lead_ms).to(wanted))

    def expire(self, now_utc_ms: int) -> Future[list[Step]]:
        """Append the step EXPIRED to what no IED has fetched by its expiry; the future yields the steps.

        What an IED may have is for the IED to say: its fetch goes on giving it, and its outcome says ``expired``.
        """

        def work(connection: Connection) -> list[Step]:
            keys = connection.execute(_DUE, _due(now_utc_ms, UNFETCHED)).all()
            why = "no IED had fetched it when its time ran out"
            steps = [Step(Place(*key).mrid, State.EXPIRED, now_utc_ms, "bus", why) for key in keys]
            return lives.append(connection, steps, UNFETCHED)

        return self._do(work)

    def _filed_at(self, query: str, keys: Sequence[tuple[int, ...]]) -> list[ControlOnFile]:
        with self._look() as connection:
            return _with_lives(connection, list(select_keyed(connection, query, sorted(set(keys)))))

    def _controls(self, query: Select[Any]) -> list[ControlOnFile]:
        with self._look() as connection:
            return _with_lives(connection, connection.execute(query).all())


def _due(by_utc_ms: int, states: Collection[State]) -> dict[str, Any]:
    return {"now": by_utc_ms, "states": sorted(state.value for state in states)}


def _with_lives(connection: Connection, rows: Sequence[Any]) -> list[ControlOnFile]:
    lives_of = _lives(connection, [Place(row.partition, row.seq, row.line) for row in rows])
    return [_on_file(row, lives_of) for row in rows]


def _exact_sum(literals: Iterable[str]) -> str:
    with localcontext(prec=1000):  # the sum of what fits in a message is exact
        return format(sum(map(Decimal, filter(None, literals)), Decimal(0)), "f")


def _lives(connection: Connection, places: Sequence[Place]) -> dict[Place, list[Step]]:
    found: dict[Place, list[Step]] = {}
    for row in select_keyed(connection, _STEPS, places):
        place = Place(row[0], row[1], row[2])
        found.setdefault(place, []).append(Step(place.mrid, State(row[3]), *row[4:]))
    return found


def _on_file(row: Any, lives_of: Mapping[Place, Iterable[Step]]) -> ControlOnFile:
    place = Place(row.partition, row.seq, row.line)
    columns = ControlRow._make(row[2 : 2 + len(ControlRow._fields)])
    one = parse_control(columns, place.mrid, row.counter or 0)
    return ControlOnFile(one, columns.group, Position(place.partition, place.seq), tuple(lives_of[place]))
