"""The statements that run for every message, handed to the driver as plain tuples.

SQLAlchemy's own path turns each row into a dict and back: 5 us a row, a quarter of a small message's cost. The text is
still made from `tables.py`, and the parameter's mark from the driver's paramstyle, so no engine is named here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, Table, literal_column, select, text

T = TypeVar("T")

_KEYS = 256
_MARKS = {"qmark": "?", "format": "%s", "pyformat": "%s"}


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert rows given in the order of the table's columns; none is fine."""
    if rows:
        connection.exec_driver_sql(_insert_text(table, _mark(connection)), list(rows))


def select_joined(connection: Connection, columns: str, query: str, rows: Sequence[tuple[int, ...]]) -> Sequence[Any]:
    """Run `query` with the whole numbers `rows` as a table named wanted, its columns named by `columns`."""
    whole = _wanted_text(_mark(connection), columns, len(rows)) + query
    return connection.exec_driver_sql(whole, tuple(value for row in rows for value in row)).all()


def select_keyed(connection: Connection, query: str, keys: Sequence[tuple[int, ...]]) -> Iterator[Any]:
    """Run `query` for keys of whole numbers, some hundreds at a time, and yield its rows.

    `query` names them ``wanted w`` (columns k0, k1 ...) and joins them by CROSS JOIN: SQLite then searches the other
    table for each, and would else walk it where the rows are asked for in the order of its key.
    """
    for start in range(0, len(keys), _KEYS):
        some = keys[start : start + _KEYS]
        columns = ", ".join(f"k{number}" for number in range(len(some[0])))
        yield from select_joined(connection, columns, query, padded(some, (-1,) * len(some[0])))


def select_wanted(
    connection: Connection, query: str, keys: Sequence[int], values: tuple[int, ...]
) -> Sequence[tuple[Any, ...]]:
    """Run `query` for whole numbers, as `select_keyed` does, all at once; its ``?`` stand for `values`.

    Rows are the driver's own tuples: SQLAlchemy's would cost as much again as reading them.
    """
    some, mark = padded(keys, -1), _mark(connection)
    return _tuples(connection, _wanted_text(mark, "k0", len(some)) + _marked(mark, query), (*some, *values))


def select_in(connection: Connection, query: str, keys: Sequence[str]) -> Sequence[tuple[Any, ...]]:
    """Run `query`, whose ``%s`` stands for a list of `keys`, at least one; rows are the driver's own tuples."""
    some = padded(keys, keys[-1])
    return _tuples(connection, _marked(_mark(connection), query % ", ".join("?" * len(some))), tuple(some))


def padded(keys: Sequence[T], filler: T) -> list[T]:
    """Return `keys`, at least one, filled up to a power of two: few distinct texts, so that each is prepared once."""
    return [*keys, *[filler] * ((1 << (len(keys) - 1).bit_length()) - len(keys))]


def changed_rows(connection: Connection, statement: str, values: tuple[str | bytes | int, ...]) -> int:
    """Run a statement that changes rows, a ``?`` for each of `values`, and return how many it changed."""
    return connection.exec_driver_sql(_marked(_mark(connection), statement), values).rowcount


def locked(connection: Connection, query: str, alias: str) -> str:
    """Return `query` so that it locks the rows it reads of `alias`, on an engine that locks rows."""
    lock: Select[Any] = select(literal_column("1")).select_from(text("t")).with_for_update()
    return f"{query} FOR UPDATE OF {alias}" if "FOR UPDATE" in _compiled(lock, connection) else query


def _compiled(statement: Any, connection: Connection) -> str:
    return str(statement.compile(dialect=connection.dialect))


def select_by(
    connection: Connection, query: str, values: tuple[str | bytes | int, ...] = ()
) -> Sequence[tuple[Any, ...]]:
    """Run `query`, a ``?`` for each of `values`, and return its rows as the driver's own tuples.

    SQLAlchemy's cursor and rows would cost three times the look-up. For the reading connection, which is in autocommit:
    what fails is asked once more, so a locked database is waited for twice.
    """
    text, driver = _marked(_mark(connection), query), connection.connection.driver_connection
    assert driver is not None, "a connection that was lost is made anew by asking for it"
    try:
        rows: Sequence[tuple[Any, ...]] = driver.execute(text, values).fetchall()
        return rows
    except connection.dialect.loaded_dbapi.Error:
        # Asked once more the long way, which can tell that a connection is lost, and raises what callers expect.
        return _tuples(connection, text, values)


def _tuples(connection: Connection, text: str, values: tuple[Any, ...]) -> Sequence[tuple[Any, ...]]:
    cursor: Any = connection.exec_driver_sql(text, values).cursor
    rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
    return rows


@lru_cache(maxsize=64)
def _marked(mark: str, query: str) -> str:
    return query.replace("?", mark)


def _mark(connection: Connection) -> str:
    return _MARKS[connection.dialect.paramstyle]


@lru_cache(maxsize=64)
def _insert_text(table: Table, mark: str) -> str:
    columns = [column.name for column in table.columns]
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join([mark] * len(columns))})"


@lru_cache(maxsize=64)
def _wanted_text(mark: str, columns: str, count: int) -> str:
    width = columns.count(",") + 1
    first = f"({', '.join([f'CAST({mark} AS BIGINT)'] * width)})"  # tells PostgreSQL the types of all rows
    others = [f"({', '.join([mark] * width)})"] * (count - 1)
    return f"WITH wanted({columns}) AS (VALUES {', '.join([first, *others])}) "
