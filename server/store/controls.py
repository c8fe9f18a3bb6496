"""Controls on file: where each is in its life, what its IED is given, how many there were.

A control is recorded with the entry that asks for it (`group.py`). From then on steps are appended, by the writer's
jobs and by other processes alike; `control_now` keeps the last one, and whoever changes its row first wins. Whoever
gives an IED's next counter locks that IED's row of `control_counter`, so that two buses never give one twice.

Locks are taken in one order, so that nobody waits in a circle: counters by target, controls by key, mailboxes by
partner, the mark.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection, bindparam, func, select

from gridpost.controls import Control, State, Step
from gridpost.model import Position

from .enrolments import Enrolments
from .tables_office import control_mark, control_now

T = TypeVar("T")

Seal = Callable[[Control], bytes]

_now = control_now.c
_OPEN = _now.closed_at_utc_ms.is_(None)
_CAME = select(func.max(_now.not_before_utc_ms)).where(
    _OPEN, _now.state == State.WAITING.value, _now.not_before_utc_ms <= bindparam("now")
)
_MARK = select(control_mark.c.mark, _CAME.scalar_subquery())


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
        raise NotImplementedError

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
        raise NotImplementedError

    def tracked(self, issuer: str, tracking_id: str) -> list[ControlOnFile]:
        """Return what an issuer's own mRID stands for: one control, or one for each IED of a group."""
        raise NotImplementedError

    def waiting(self, serials: Sequence[str]) -> Mapping[str, int]:
        """Return how many controls an IED could fetch now, that it was not given yet; IEDs without are left out."""
        raise NotImplementedError

    def waiting_mark(self) -> int:
        """Return a number that changes whenever a control begins to wait, or the not-before of one comes; cheap."""
        with self.connection() as connection:
            mark, came = connection.execute(_MARK, {"now": self._clock()}).one()
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
        raise NotImplementedError

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
        raise NotImplementedError

    def step_all(self, steps: Sequence[Step], expected: Collection[State]) -> list[Step]:
        """Append those of several steps whose controls are in an expected state, in one transaction; return these.

        For a group: all that are released wake their IEDs at once.

        Raises:
            StoreUnavailable: none was appended.
        """
        raise NotImplementedError

    def fetch(
        self, asked: Sequence[tuple[str, int]], seal: Seal, now_utc_ms: int, lead_ms: int = 0
    ) -> Future[Mapping[str, bytes | None]]:
        """Give each IED its next control, sealed; all of them in one transaction of the writer.

        For each (serial, after): the stored bytes of the least counter > after whose control is not final; else of the
        controls that wait for the IED, are not expired and whose not-before has come, the most urgent, then the oldest:
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
        raise NotImplementedError

    def expire(self, now_utc_ms: int) -> Future[list[Step]]:
        """Append the step EXPIRED to what no IED has fetched by its expiry; the future yields the steps.

        What an IED may have is for the IED to say: its fetch goes on giving it, and its outcome says ``expired``.
        """
        raise NotImplementedError
