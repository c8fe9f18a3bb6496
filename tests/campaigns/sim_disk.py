"""A disk that fails: real SQLite files, opened through a connection that strikes at a chosen step.

`Disk.connect` is a `sqlite3.connect` whose every statement and commit first asks the disk. It may refuse (full, busy,
an I/O error, which for a commit may come before or after it took), or the process may die right before or right after
the step. A dead process's connections do nothing any more; what they had not committed is gone.
"""

from __future__ import annotations

import random
import sqlite3
from typing import Any

from sim_loop import Crash, Trace

FULL, BUSY, IOERR = 13, 5, 10
_TEXTS = {FULL: "database or disk is full", BUSY: "database is locked", IOERR: "disk I/O error"}
_WRITES = ("INSERT", "UPDATE", "DELETE", "COMMIT")
# How a strike goes, at a commit and elsewhere.
AT_COMMIT = ("die-before", "die-after", "die-after", "full", "io-error", "io-error-after")
ELSEWHERE = ("die-before", "die-after", "full", "busy", "io-error")
_CODES = {"full": FULL, "busy": BUSY, "io-error": IOERR, "io-error-after": IOERR}


class Disk:
    """Of one machine, through all its processes' lives."""

    def __init__(self, name: str, trace: Trace, chance: random.Random) -> None:
        self.name, self._trace, self._chance = name, trace, chance
        self.full = False
        self.every = 0  # statements between two strikes, on average; 0: none
        self.unsure_commits = True  # whether a commit may take and report an error all the same
        self._left = -1
        self._armed = ""
        self._connections: list[Connection] = []

    def connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        made: Connection = sqlite3.connect(*arguments, **(options | {"factory": Connection}))
        made.disk = self
        self._connections.append(made)
        return made

    def open_for_sqlalchemy(self, _dialect: object, _record: object, arguments: Any, options: Any) -> Any:
        """A "do_connect" listener of SQLAlchemy's engines."""
        return self.connect(*arguments, **options)

    def rest(self) -> None:
        """No strike any more."""
        self.every, self.full, self._left, self._armed = 0, False, -1, ""

    def begin_life(self) -> None:
        self._left = self._draw()

    def die(self) -> None:
        """The process is gone, and the kernel closes its files."""
        for connection in self._connections:
            connection.disk = None
            sqlite3.Connection.rollback(connection)  # close alone would wait for cursors that somebody still holds
            sqlite3.Connection.close(connection)
        self._connections.clear()

    def closed(self, connection: Connection) -> None:
        """A process that lives on has closed it."""
        self._connections.remove(connection)
        connection.disk = None

    def step(self, name: str) -> None:
        """A step beside the database at which the process may die; raises Crash."""
        if self._is_due() and self._chance.random() < 0.5:
            self._strike(name, "die-before")
            raise Crash(name)

    def before(self, statement: str) -> str:
        """Ask before a statement; returns what to do after it. Raises Crash or what SQLite would."""
        if self.full and statement.startswith(_WRITES):
            self._trace.note(self.name, "disk-full")
            raise _error(FULL)
        if not self._is_due() or statement == "ROLLBACK":
            return ""
        is_commit = statement == "COMMIT"
        if not self._armed and self._chance.random() < 0.6:
            self._armed = "COMMIT"  # what is interesting happens there
        if self._armed and not is_commit:
            return ""
        how = self._chance.choice(AT_COMMIT if is_commit else ELSEWHERE)
        if how == "io-error-after" and not self.unsure_commits:
            how = "io-error"
        self._strike(statement.split(None, 3)[0:3], how)
        if how.endswith("after"):
            return how
        if how == "die-before":
            raise Crash(statement)
        raise _error(_CODES[how])

    def after(self, what: str, statement: str) -> None:
        if what == "die-after":
            raise Crash(statement)
        if what:
            raise _error(_CODES[what])

    def _is_due(self) -> bool:
        self._left -= 1
        return self.every > 0 and self._left <= 0

    def _strike(self, where: object, how: str) -> None:
        self._trace.note(self.name, how, where)
        self._left, self._armed = self._draw(), ""

    def _draw(self) -> int:
        return 1 + int(self._chance.expovariate(1 / self.every)) if self.every else -1


def _error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(_TEXTS[code])
    error.sqlite_errorcode = code
    return error


class Cursor(sqlite3.Cursor):
    def execute(self, statement: str, *values: Any) -> Cursor:
        disk = _living(self.connection)
        what = disk.before(statement)
        super().execute(statement, *values)
        disk.after(what, statement)
        return self

    def executemany(self, statement: str, values: Any) -> Cursor:
        disk = _living(self.connection)
        what = disk.before(statement)
        super().executemany(statement, values)
        disk.after(what, statement)
        return self


class Connection(sqlite3.Connection):
    disk: Disk | None = None

    def cursor(self, factory: Any = Cursor) -> Any:
        _living(self)
        return super().cursor(Cursor)

    def commit(self) -> None:
        disk = _living(self)
        if not self.in_transaction:
            return
        what = disk.before("COMMIT")
        super().commit()
        disk.after(what, "COMMIT")

    def rollback(self) -> None:
        if self.disk is not None:
            super().rollback()

    def close(self) -> None:
        if self.disk is not None:
            self.disk.closed(self)
            # SQLAlchemy closes what a Crash came out of, in the midst of a transaction. SQLite would keep that, and its
            # lock, for as long as a traceback holds a cursor, and the next life wait for it in the machine's own time.
            super().rollback()
            super().close()


def _living(connection: Any) -> Disk:
    if connection.disk is None:
        raise Crash("a process that is gone")
    disk: Disk = connection.disk
    return disk
