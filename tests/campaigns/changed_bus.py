"""The installed bus with something changed from outside: its clock, or a damage that a campaign has to find.

    changed_bus.py AHEAD_S DAMAGE serve --config ...

The product has no switch for any of this: here its parts are replaced before its command line is run. AHEAD_S seconds
are added to the wall clock; with several numbers, split by commas, SIGUSR1 steps it to the next. DAMAGE is a name of
`DAMAGES`, or empty. With several processes all are damaged alike.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import Any

OFTEN = 20  # one in so many messages is damaged
EARLY_S = 0.005  # how long before the commit the answer is away


def command(*ahead_s: int, damage: str = "", arguments: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The command line of such a bus, for `LiveBus.command`."""
    return (sys.executable, __file__, ",".join(map(str, ahead_s or (0,))), damage, "serve", *arguments)


def step_clock(ahead_s: list[int]) -> None:
    """Put the wall clock ahead, further at each SIGUSR1; nothing else of the bus is touched."""
    real, steps = time.time_ns, iter(ahead_s)
    ahead_ns = 0

    def step(*_: object) -> None:
        nonlocal ahead_ns
        ahead_ns = next(steps) * 10**9

    step()
    time.time_ns = lambda: real() + ahead_ns
    signal.signal(signal.SIGUSR1, step)


# --- damages ---------------------------------------------------------------------------------------------------------


def no_repeat_lookup() -> None:
    """Neither reception nor the writer looks for a message id, and the database does not keep ids unique either."""
    from gridpost.server.store import SqlStore, on_file

    opened = _method(SqlStore, "__init__")

    def open_without_index(self: Any, dialect: Any, clock: Any, hold: Any, on_fatal: Any) -> None:
        opened(self, dialect, clock, hold, on_fatal)
        if hold:
            with dialect.writing.begin() as connection:
                connection.exec_driver_sql("DROP INDEX IF EXISTS entry_message_id")

    _replace(SqlStore, "__init__", open_without_index)
    _replace(SqlStore, "find", lambda *_: None)
    _replace(on_file, "known_receipts", lambda *_: {})


def answer_before_commit() -> None:
    """The answer leaves from inside the transaction, as soon as the receipt is made."""
    from gridpost.server.store import SqlStore

    recorded = _method(SqlStore, "record")

    def record(self: Any, entry: Any, rows: Any, make_receipt: Callable[..., bytes]) -> Future[bytes]:
        early: Future[bytes] = Future()

        def make(*place: Any) -> bytes:
            receipt = make_receipt(*place)
            if not early.done():  # a group that is begun anew makes its receipts anew
                early.set_result(receipt)
            time.sleep(EARLY_S)
            return receipt

        def settle(late: Future[bytes]) -> None:
            if not early.done():
                _pass_on(late, early)

        recorded(self, entry, rows, make).add_done_callback(settle)
        return early

    _replace(SqlStore, "record", record)


def forget_values() -> None:
    """Of some messages no value is kept, though their receipt is given."""
    from gridpost.model import Rows

    _each_so_often(lambda entry, rows: (entry, Rows()))


def change_values() -> None:
    """Of some messages the first value is kept as another."""

    def changed(entry: Any, rows: Any) -> tuple[Any, Any]:
        first, *rest = rows.blocks
        return entry, _with(rows, blocks=(first._replace(values=("0.5", *first.values[1:])), *rest))

    _each_so_often(changed)


def add_entries() -> None:
    """Beside some messages one is recorded that nobody sent."""
    from gridpost.server.store import SqlStore

    recorded, turn = _method(SqlStore, "record"), count()

    def record(self: Any, entry: Any, rows: Any, make_receipt: Any) -> Future[bytes]:
        future = recorded(self, entry, rows, make_receipt)
        if next(turn) % OFTEN == 0:
            recorded(self, _with(entry, message_id=f"{entry.message_id}-x"), _with(rows, blocks=()), make_receipt)
        return future

    _replace(SqlStore, "record", record)


def any_content() -> None:
    """A known id is a repeat whatever the content."""
    from gridpost.server.store import on_file

    known = _method(on_file, "known_receipts")

    def alike(connection: Any, entries: Any) -> dict[Any, Any]:
        asked = {(one.sender, one.message_id): one.content_digest for one in entries}
        found = known(connection, entries)
        return {key: _with(one, content_digest=asked.get(key, b"")) for key, one in found.items()}

    _replace(on_file, "known_receipts", alike)


def window_off() -> None:
    """A new message is taken at any age."""
    from gridpost.server import reception

    _replace(reception, "check_moment", lambda *_: None)


def synchronous_off() -> None:
    """SQLite commits without a sync."""
    from gridpost.server.store import sqlite

    configured = _method(sqlite, "_configure")

    def configure(connection: Any, record: object) -> None:
        configured(connection, record)
        connection.execute("PRAGMA synchronous=OFF").close()

    _replace(sqlite, "_configure", configure)


def short_queue() -> None:
    """No damage: the writer's queue takes two entries, so that a few messages fill it."""
    from gridpost.server.store import writer

    _replace(writer, "QUEUE", 2)


def lose_outcomes() -> None:
    """Of some outcomes the step is kept, and no mail is posted."""
    turn = count()

    def lost(mail: Any) -> bool:
        return mail.kind.startswith("outcome-") and next(turn) % OFTEN == 0

    _post_others(lambda mails: [mail for mail in mails if not lost(mail)])


def double_outcomes() -> None:
    """Some outcomes are posted a second time, as of another row."""
    turn = count()

    def again(mail: Any) -> bool:
        return mail.kind.startswith("outcome-") and next(turn) % OFTEN == 0

    _post_others(lambda mails: [*mails, *(_with(mail, line=mail.line + 10**6) for mail in mails if again(mail))])


DAMAGES: dict[str, Callable[[], None]] = {
    "no-repeat-lookup": no_repeat_lookup,
    "answer-before-commit": answer_before_commit,
    "answer-before-sync": answer_before_commit,
    "forget-values": forget_values,
    "change-values": change_values,
    "add-entries": add_entries,
    "any-content": any_content,
    "window-off": window_off,
    "synchronous-off": synchronous_off,
    "short-queue": short_queue,
    "outcome-lost": lose_outcomes,
    "outcome-twice": double_outcomes,
}


def _post_others(change: Callable[[Any], Any]) -> None:
    """Post other mails than the bus means to."""
    from gridpost.server.store import SqlStore

    posted = _method(SqlStore, "post")

    def post(self: Any, reader: Any, version: Any, state: Any, mails: Any, steps: Any = ()) -> Any:
        return posted(self, reader, version, state, change(mails), steps)

    _replace(SqlStore, "post", post)


def _each_so_often(change: Callable[[Any, Any], tuple[Any, Any]]) -> None:
    from gridpost.server.store import SqlStore

    recorded, turn = _method(SqlStore, "record"), count()

    def record(self: Any, entry: Any, rows: Any, make_receipt: Any) -> Future[bytes]:
        if next(turn) % OFTEN == 0:
            entry, rows = change(entry, rows)
        return recorded(self, entry, rows, make_receipt)

    _replace(SqlStore, "record", record)


def _method(owner: Any, name: str) -> Any:
    return getattr(owner, name)


def _replace(owner: Any, name: str, by: Any) -> None:
    """Put something in the place of a part that is there: a damage that damages nothing would prove nothing."""
    assert hasattr(owner, name), f"{owner} has no {name}"
    setattr(owner, name, by)


def _with(value: Any, **changes: Any) -> Any:
    """A changed copy of a dataclass or a named tuple."""
    if hasattr(value, "_replace"):
        return value._replace(**changes)
    from dataclasses import replace

    return replace(value, **changes)


def _pass_on(late: Future[bytes], early: Future[bytes]) -> None:
    problem = late.exception()
    if problem is None:
        early.set_result(late.result())
    else:
        early.set_exception(problem)


def main() -> None:
    """Change what is asked for, then be `gridpost`."""
    ahead_s, damage, *arguments = sys.argv[1:]
    step_clock([int(one) for one in ahead_s.split(",")])
    if damage:
        DAMAGES[damage]()
    sys.argv = ["gridpost", *arguments]
    from gridpost.server.cli import main as gridpost

    gridpost()


if __name__ == "__main__":
    main()
