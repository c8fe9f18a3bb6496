"""Tasks: what the running bus is asked by commands beside it, and what came of it (decision 7).

Plain transactions, any process: a task is no entry of the log, only the wish for one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import insert, select, update

from .enrolments import Enrolments
from .tables_value import task

ASKED, DONE, REFUSED = "asked", "done", "refused"


class Task(NamedTuple):
    """A row of `task`; `args` and `outcome` are JSON text."""

    id: str
    kind: str
    args: str
    person: str
    asked_at_utc_ms: int
    state: str = ASKED
    outcome: str = "null"
    done_at_utc_ms: int | None = None


class Tasks(Enrolments):
    """The verbs of tasks; a part of `SqlStore`."""

    def put_task(self, new: Task) -> None:
        """Ask for something.

        Raises:
            StoreUnavailable: it was not asked.
        """
        with self._keep() as connection:
            connection.execute(insert(task), new._asdict())

    def task(self, task_id: str) -> Task | None:
        """Return a task by its id."""
        found = self._tasks(select(task).where(task.c.id == task_id))
        return found[0] if found else None

    def asked_tasks(self, limit: int) -> list[Task]:
        """Return up to `limit` tasks that nobody has done yet, oldest first."""
        query = select(task).where(task.c.state == ASKED).order_by(task.c.asked_at_utc_ms, task.c.id)
        return self._tasks(query.limit(limit))

    def settle_task(self, task_id: str, state: str, outcome: str) -> None:
        """Say what came of a task; the first word on it stands.

        Raises:
            StoreUnavailable: nothing was said.
        """
        still_asked = (task.c.id == task_id, task.c.state == ASKED)
        with self._keep() as connection:
            done = {"state": state, "outcome": outcome, "done_at_utc_ms": self._clock()}
            connection.execute(update(task).where(*still_asked).values(done))

    def _tasks(self, query: Any) -> list[Task]:
        with self._look() as connection:
            return [Task._make(row) for row in connection.execute(query)]
