"""How a control's life is written: its first step with its entry, each further one behind the last.

Statements only, run inside a transaction of the writer or of another process. The row of `control_now` is what two of
them meet at: the update says which state it expects, and who comes second finds another one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, bindparam, func, insert, select, text, update

from gridpost.controls import FINAL, FOLLOWS, State, Step, mrid_of, place_of
from gridpost.log import Planned

from .driver import locked, select_keyed
from .tables_office import control, control_counter, control_mark, control_now, control_step

Insert = Callable[[Connection, Table, Sequence[tuple[object, ...]]], None]

_now = control_now.c
_HERE = (
    _now.partition == bindparam("of_partition"),
    _now.seq == bindparam("of_seq"),
    _now.line == bindparam("of_line"),
)
_ENTER = (
    update(control_now)
    .where(*_HERE)
    .values(
        state=bindparam("enters"),
        steps=bindparam("counted"),
        released_at_utc_ms=func.coalesce(_now.released_at_utc_ms, bindparam("released")),
        closed_at_utc_ms=bindparam("closed"),
    )
)
_NOW = """
    SELECT n.partition, n.seq, n.line, n.state, n.steps FROM wanted w CROSS JOIN control_now n
    WHERE n.partition = w.k0 AND n.seq = w.k1 AND n.line = w.k2 ORDER BY n.partition, n.seq, n.line
"""
_KNOWN = text("INSERT INTO control_counter (target, counter) VALUES (:target, 0) ON CONFLICT (target) DO NOTHING")
_WAKE = update(control_mark).values(mark=control_mark.c.mark + 1)
_COUNTERS = (
    select(control_counter.c.target, control_counter.c.counter)
    .where(control_counter.c.target.in_(bindparam("targets", expanding=True)))
    .order_by(control_counter.c.target)
    .with_for_update()
)


class Place(NamedTuple):
    """A control's key: the order in which the rows of several are locked."""

    partition: int
    seq: int
    line: int

    @property
    def mrid(self) -> str:
        """The control's."""
        return mrid_of(*self)


def begin(connection: Connection, insert_into: Insert, planned: Sequence[Planned]) -> None:
    """Insert the controls of new entries with their first steps, and wake who holds fetches open."""
    rows, firsts, nows = [], [], []
    for one in planned:
        at = one.parts.recorded_at_utc_ms
        for row, given in zip(one.controls, one.begun, strict=True):
            key, state = (*one.position, row.line), given.state
            released, closed = at if state is State.WAITING else None, at if state in FINAL else None
            rows.append((*one.position, *row))
            firsts.append((*key, 0, state.value, at, given.by, given.detail))
            times = (row.priority, row.not_before_utc_ms, row.expires_utc_ms, released, closed)
            nows.append((*key, row.target, state.value, 1, *times))
    if not rows:
        return
    insert_into(connection, control, rows)
    insert_into(connection, control_step, firsts)
    insert_into(connection, control_now, nows)
    connection.execute(_KNOWN, [{"target": target} for target in sorted({str(row[3]) for row in nows})])
    if any(row[4] == State.WAITING.value for row in nows):
        connection.execute(_WAKE)


def append(
    connection: Connection,
    steps: Iterable[Step],
    expected: Collection[State] | None,
    seen: int | None = None,
    *,
    whole: bool = False,
) -> list[Step]:
    """Append those steps whose controls are in an expected state; return them, in the order of the controls' keys.

    Their rows are locked first, in that order: whoever else wants one waits, and then sees what became of it.

    Args:
        connection: in a transaction.
        steps: of one control in the order given.
        expected: states; None: those that the step may follow (`controls.FOLLOWS`).
        seen: how many steps a control must have; None: any number.
        whole: all or, where one cannot be appended, none.
    """
    placed = [(Place(*place), step) for step in steps if (place := place_of(step.control)) is not None]
    placed.sort(key=lambda one: one[0])
    found = _lock(connection, [place for place, _ in placed])
    done: list[tuple[Place, Step, int]] = []
    for place, step in placed:
        state, count = found.get(place, ("", 0))
        allowed = FOLLOWS.get(step.state, frozenset()) if expected is None else expected
        if state in {one.value for one in allowed} and seen in (None, count):
            done.append((place, step, count))
            found[place] = (step.state.value, count + 1)
    if whole and len(done) < len(placed):
        return []
    _write(connection, done)
    return [step for _, step, _ in done]


def _lock(connection: Connection, places: Sequence[Place]) -> dict[Place, tuple[str, int]]:
    rows = select_keyed(connection, locked(connection, _NOW, "n"), sorted(set(places)))
    return {Place(row[0], row[1], row[2]): (row[3], row[4]) for row in rows}


def _write(connection: Connection, done: Sequence[tuple[Place, Step, int]]) -> None:
    """Write steps, each with how many its control had, and wake who holds fetches open if one waits now."""
    if not done:
        return
    connection.execute(_ENTER, [_entering(*one) for one in done])
    rows = [
        place._asdict() | {"number": count, "state": step.state.value, "at_utc_ms": step.at_utc_ms}
        | {"by_whom": step.by, "detail": step.detail}
        for place, step, count in done
    ]  # fmt: skip
    connection.execute(insert(control_step), rows)
    if any(step.state is State.WAITING for _, step, _ in done):
        connection.execute(_WAKE)


def _entering(place: Place, step: Step, count: int) -> dict[str, Any]:
    at, state = step.at_utc_ms, step.state
    values: dict[str, Any] = {f"of_{name}": number for name, number in place._asdict().items()}
    values |= {"enters": state.value, "counted": count + 1, "closed": at if state in FINAL else None}
    return values | {"released": at if state is State.WAITING else None}


def lock_counters(connection: Connection, targets: Sequence[str]) -> dict[str, int]:
    """Let nobody else give these IEDs a counter before this transaction ends; return the last ones given."""
    return {row.target: row.counter for row in connection.execute(_COUNTERS, {"targets": targets})}
