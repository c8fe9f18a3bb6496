"""What an IED is given when it calls: the control it has not confirmed, else the next one, counted and sealed.

Runs as one job of the writer for many IEDs at once. First the IEDs' counters are locked, so that of two buses that are
asked for the same IED the second one sees what the first one gave, and gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, func, select, update

from gridpost.controls import Control, State, Step
from gridpost.leaf import ControlRow, parse_control

from . import lives
from .driver import select_keyed
from .lives import Insert, Place
from .tables_office import control, control_counter, control_now, control_sealed

Seal = Callable[[Control], bytes]

_CHUNK = 500
_now, _sealed = control_now.c, control_sealed.c
_TARGETS = _now.target.in_(bindparam("targets", expanding=True))
_OPEN = (_now.closed_at_utc_ms.is_(None), _TARGETS)
_DUE = (
    *_OPEN,
    _now.state == State.WAITING.value,
    _now.not_before_utc_ms <= bindparam("latest"),
    _now.expires_utc_ms > bindparam("now"),
)
_HAVING = select(_now.target).where(*_OPEN).distinct().order_by(_now.target)
_GIVEN = (
    select(_sealed.partition, _sealed.seq, _sealed.line, _sealed.target, _sealed.counter)
    .join_from(
        control_now,
        control_sealed,
        and_(_sealed.partition == _now.partition, _sealed.seq == _now.seq, _sealed.line == _now.line),
    )
    .where(*_OPEN)
    .order_by(_sealed.target, _sealed.counter)
)
_BYTES = f"""
    SELECT s.target, s.sealed FROM wanted w CROSS JOIN {control_sealed.name} s
    WHERE s.partition = w.k0 AND s.seq = w.k1 AND s.line = w.k2
"""
_RANK = func.row_number().over(
    partition_by=_now.target, order_by=(_now.priority, _now.released_at_utc_ms, _now.partition, _now.seq, _now.line)
)
_NEXT = select(_now.partition, _now.seq, _now.line, _RANK.label("rank")).where(*_DUE).subquery()
_FIRST = (
    select(control)
    .join_from(
        _NEXT,
        control,
        and_(
            control.c.partition == _NEXT.c.partition,
            control.c.seq == _NEXT.c.seq,
            control.c.line == _NEXT.c.line,
        ),
    )
    .where(_NEXT.c.rank == 1)
    .order_by(control.c.partition, control.c.seq, control.c.line)
)
_COUNT = (
    update(control_counter).where(control_counter.c.target == bindparam("of_target")).values(counter=bindparam("given"))
)


class Give(NamedTuple):
    """A fetch of many IEDs: in whose transaction, how it is sealed, and when."""

    connection: Connection
    insert: Insert
    seal: Seal
    now_utc_ms: int
    lead_ms: int

    def to(self, wanted: Mapping[str, int]) -> dict[str, bytes | None]:
        """Return what each IED is given: serial -> its greatest known counter, in; serial -> sealed answer, out."""
        found: dict[str, bytes | None] = dict.fromkeys(wanted)
        serials = sorted(wanted)
        for start in range(0, len(serials), _CHUNK):
            targets = self._having(serials[start : start + _CHUNK])
            counters = lives.lock_counters(self.connection, targets)
            again = self._again({target: wanted[target] for target in targets})
            found |= again
            # A device may know a greater counter than we do: of a store that was put back from a backup.
            least = {target: max(counters[target], wanted[target]) for target in targets if target not in again}
            found |= self._next(least)
        return found

    def _having(self, serials: Sequence[str]) -> list[str]:
        """Those for whom anything is open: most that call have nothing, and are not locked."""
        return list(self.connection.execute(_HAVING, {"targets": serials}).scalars())

    def _again(self, after: Mapping[str, int]) -> dict[str, bytes]:
        """The stored bytes of what each was given before and does not know."""
        least: dict[str, Place] = {}
        for *key, target, counter in self.connection.execute(_GIVEN, {"targets": list(after)}).all():
            if counter > after[target]:
                least.setdefault(target, Place(*key))
        rows = select_keyed(self.connection, _BYTES, sorted(least.values()))
        return {row[0]: bytes(row[1]) for row in rows}

    def _next(self, counters: Mapping[str, int]) -> dict[str, bytes]:
        """Seal the next control of each. One taken back at this moment is passed over for the one behind it."""
        given: dict[str, bytes] = {}
        while left := [target for target in counters if target not in given]:
            rows = self._first(left)
            if not rows:
                break
            by_mrid = {Place(*row[:3]).mrid: row for row in rows}
            steps = [Step(mrid, State.FETCHED, self.now_utc_ms, by_mrid[mrid].target) for mrid in by_mrid]
            sealed = []
            for step in lives.append(self.connection, steps, (State.WAITING,)):
                row = by_mrid[step.control]
                one = parse_control(ControlRow._make(row[2:]), step.control, counters[row.target] + 1)
                given[one.target] = self.seal(one)
                sealed.append((*row[:3], one.target, one.counter, self.now_utc_ms, given[one.target]))
            self._keep(sealed)
        return given

    def _first(self, targets: Sequence[str]) -> Sequence[Any]:
        latest = self.now_utc_ms + self.lead_ms
        return self.connection.execute(_FIRST, {"targets": targets, "now": self.now_utc_ms, "latest": latest}).all()

    def _keep(self, sealed: Sequence[tuple[object, ...]]) -> None:
        self.insert(self.connection, control_sealed, sealed)
        if sealed:
            self.connection.execute(_COUNT, [{"of_target": row[3], "given": row[4]} for row in sealed])
