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

from .tables_office import control, control_counter, control_mark, control_now, control_step

Insert = Callable[[Connection, Table, Sequence[tuple[object, ...]]], None]

_now = control_now.c
_HERE = (
    _now.partition == bindparam("of_partition"),
    _now.seq == bindparam("of_seq"),
    _now.line == bindparam("of_line"),
    _now.state.in_(bindparam("expected", expanding=True)),
)
_ENTER = update(control_now).values(
    state=bindparam("enters"),
    steps=_now.steps + 1,
    released_at_utc_ms=func.coalesce(_now.released_at_utc_ms, bindparam("released")),
    closed_at_utc_ms=bindparam("closed"),
)
_STEP = _ENTER.where(*_HERE).returning(_now.steps)
_STEP_SEEN = _ENTER.where(*_HERE, _now.steps == bindparam("seen")).returning(_now.steps)
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


def append(connection: Connection, steps: Iterable[Step], expected: Collection[State] | None) -> list[Step]:
    """Append those steps whose controls are in an expected state, in the order of the controls' keys; return them.

    Args:
        connection: in a transaction.
        steps: at most one a control.
        expected: states; None: those that the step may follow (`controls.FOLLOWS`).
    """
    placed = [(Place(*place), step) for step in steps if (place := place_of(step.control)) is not None]
    done: list[Step] = []
    rows: list[dict[str, Any]] = []
    for place, step in sorted(placed, key=lambda one: one[0]):
        allowed = FOLLOWS.get(step.state, frozenset()) if expected is None else expected
        row = enter(connection, place, step, allowed)
        if row is not None:
            rows.append(row)
            done.append(step)
    keep(connection, rows)
    return done


def enter(
    connection: Connection, place: Place, step: Step, expected: Collection[State], seen: int | None = None
) -> dict[str, Any] | None:
    """Let a control go on if it is in an expected state (and has `seen` steps); return the step's row, for `keep`."""
    at, state = step.at_utc_ms, step.state
    values: dict[str, Any] = {f"of_{name}": number for name, number in place._asdict().items()}
    values |= {"expected": sorted(one.value for one in expected), "enters": state.value}
    values |= {"released": at if state is State.WAITING else None, "closed": at if state in FINAL else None}
    if seen is not None:
        values["seen"] = seen
    steps = connection.execute(_STEP if seen is None else _STEP_SEEN, values).scalar_one_or_none()
    if steps is None:
        return None
    row = {**place._asdict(), "number": steps - 1, "state": state.value, "at_utc_ms": at, "by_whom": step.by}
    return row | {"detail": step.detail}


def keep(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Insert the steps that controls took, and wake who holds fetches open if one waits now."""
    if rows:
        connection.execute(insert(control_step), rows)
    if any(row["state"] == State.WAITING.value for row in rows):
        connection.execute(_WAKE)


def lock_counters(connection: Connection, targets: Sequence[str]) -> dict[str, int]:
    """Let nobody else give these IEDs a counter before this transaction ends; return the last ones given."""
    return {row.target: row.counter for row in connection.execute(_COUNTERS, {"targets": targets})}
