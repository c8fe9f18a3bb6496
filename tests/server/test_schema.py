"""The schema on both engines: made, documented, refused when it is another's, and moved without losing an entry."""

from __future__ import annotations

import io
import os
import re
import signal
import sqlite3
import subprocess
import sys
from hashlib import sha256

import psycopg
import pytest
from gridpost.server.store import create, open_store, schema, upkeep
from gridpost.server.store.tables import metadata

from gridpost.documents import Document
from gridpost.errors import ConfigInvalid, NotFound, StoreUnavailable
from gridpost.model import Block, Channel, ChannelKey, Entry, Quality, Register, Rows

MIDNIGHT = 1772323200  # 2026-03-01T00:00:00Z
KWH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"


def clock():
    return 1_800_000_000_000


def _sqlite(request):
    path = request.getfixturevalue("tmp_path") / "gridpost.db"
    create(path)
    return path


@pytest.fixture(params=[_sqlite, lambda request: request.getfixturevalue("postgres_store")], ids=["sqlite", "postgres"])
def place(request):
    return request.param(request)


def sql(place, statement, *values):
    """Run a statement past the store, on a connection of our own, and return its rows."""
    if isinstance(place, str):
        with psycopg.connect(place) as connection:
            done = connection.execute(statement.replace("?", "%s"), values)
            return done.fetchall() if done.description else []
    with sqlite3.connect(place) as connection:
        return connection.execute(statement, values).fetchall()


def fill(place, message_id="m1"):
    """An entry with readings; returns its receipt."""
    store = open_store(place, clock, serve=True)
    if not store.list_ieds():
        store.add_ied(
            "IED1", "meter", b"0123456789", [Channel(ChannelKey("UP1", "M1", "", KWH), "kWh", 900, "Etc/UTC")]
        )
    (channel,) = store.channels()
    ends = tuple(MIDNIGHT + 900 * i for i in range(1, 5))
    qualities = ((), (Quality("1.4.9", 'a "b"'), Quality("2.5.1")), (), (Quality("2.5.259"),))
    block = Block(channel.id, 900, ends, ("12.500", "123456789012345.678", "-0.10", None), qualities)
    rows = Rows((block,), (Register(channel.id, KWH, MIDNIGHT, "7.0", ()),))
    digest = sha256(message_id.encode()).digest()
    entry = Entry("IED1", message_id, "MeterReadings", "http", digest, 5, None, "", b"<Envelope/>")
    receipt = store.record(entry, rows, lambda *stated: repr(stated).encode()).result(10)
    store.close()
    return receipt


# --- made ------------------------------------------------------------------------------------------------------------


def test_create_again_changes_nothing(place):
    fill(place)
    store = open_store(place, clock, serve=True)
    assert create(place) is False
    assert store.version() == {0: 0}
    store.close()


def test_the_store_is_the_owners_alone(tmp_path):
    assert create(tmp_path / "gridpost.db") is True
    assert (tmp_path / "gridpost.db").stat().st_mode & 0o077 == 0


def test_a_missing_store_and_a_foreign_file_are_told_apart(tmp_path):
    with pytest.raises(NotFound):
        open_store(tmp_path / "none.db", clock)
    (tmp_path / "text.db").write_text("no database, but a text that is long enough to be looked at" * 50)
    with pytest.raises(StoreUnavailable, match=r"text\.db"):
        open_store(tmp_path / "text.db", clock)
    with pytest.raises(StoreUnavailable, match=r"text\.db"):
        create(tmp_path / "text.db")
    sqlite3.connect(tmp_path / "empty.db").execute("CREATE TABLE t (a)").close()
    with pytest.raises(StoreUnavailable, match="not a Gridpost store"):
        open_store(tmp_path / "empty.db", clock)


def test_a_database_that_is_no_store_or_not_there_is_told(postgres):
    with pytest.raises(StoreUnavailable, match="not a Gridpost store"):
        open_store(postgres.url("postgres"), clock)
    with pytest.raises(StoreUnavailable, match='"nowhere" does not exist'):
        open_store(postgres.url("nowhere"), clock)


def test_a_database_that_cannot_hold_every_text_is_refused(postgres):
    from psycopg.sql import SQL

    postgres.sql(SQL("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0"))
    with pytest.raises(StoreUnavailable, match="UTF8"):
        create(postgres.url("latin"))


@pytest.mark.parametrize("url", ["mysql://host/store", "postgresql://host:port/store"])
def test_a_url_that_leads_nowhere_is_a_wrong_setting(url):
    with pytest.raises(ConfigInvalid, match="postgresql://"):
        open_store(url, clock)


def test_a_password_in_the_url_is_never_told(postgres):
    with pytest.raises(StoreUnavailable) as told:
        open_store(postgres.url("nowhere").replace("postgres@", "postgres:s3cret@"), clock)
    assert "s3cret" not in str(told.value) + told.value.detail
    assert "postgresql://postgres:***@" in str(told.value)


def test_tables_and_migrations_agree(place):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    store = open_store(place, clock)
    with store._dialect.reading.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    changes = [change for one in found for change in ([one] if isinstance(one, tuple) else one)]
    assert [change for change in changes if "comment" not in change[0]] == []  # comments stand in the migrations only
    store.close()


def test_every_column_has_a_comment():
    """The migrations are the schema's documentation; SQLite drops comments, so they are read from their text."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory

    written = io.StringIO()
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "output_buffer": written})
    with Operations.context(context):
        for revision, _ in schema.revisions():
            ScriptDirectory(str(schema._MIGRATIONS)).get_revision(revision).module.upgrade()
    told = set(re.findall(r"COMMENT ON COLUMN (\S+) IS '..", written.getvalue().replace('"', "")))
    assert told == {f"{table.name}.{column.name}" for table in metadata.tables.values() for column in table.columns}


def test_postgres_has_the_comments_and_the_types(postgres_store):
    """Asked of its own catalogue: a comment everywhere, texts compared by bytes, evidence not compressed twice."""
    columns = (
        "SELECT a.attrelid::regclass::text, a.attname, col_description(a.attrelid, a.attnum), c.collname, a.attstorage,"
        " format_type(a.atttypid, a.atttypmod) FROM pg_attribute a JOIN pg_class t ON t.oid = a.attrelid"
        " LEFT JOIN pg_collation c ON c.oid = a.attcollation WHERE t.relkind = 'r' AND a.attnum > 0"
        " AND NOT a.attisdropped AND t.relnamespace = 'public'::regnamespace AND t.relname <> 'alembic_version'"
    )
    found = {(row[0], row[1]): row[2:] for row in sql(postgres_store, columns)}
    assert len(found) > 90
    assert [key for key, (comment, *_) in found.items() if not comment] == []
    assert {collation for _, collation, _, kind in found.values() if kind == "text"} == {"C"}
    assert found["entry", "evidence"][2:] == ("e", "bytea")
    assert found["entry", "recorded_at_utc_ms"][3] == "bigint"


def test_the_view_gives_rows_with_every_digit(place):
    fill(place)
    rows = sql(place, "SELECT interval_end_utc, value, qualities, outcome, meter FROM interval_value ORDER BY 1")
    assert [(row[0], row[1], row[3], row[4]) for row in rows] == [
        (MIDNIGHT + 900, "12.500", "stored", "M1"),
        (MIDNIGHT + 1800, "123456789012345.678", "stored", "M1"),
        (MIDNIGHT + 2700, "-0.10", "stored", "M1"),
        (MIDNIGHT + 3600, None, "gap", "M1"),
    ]
    assert [row[2] for row in rows] == [None, '[["1.4.9","a \\"b\\""],["2.5.1",""]]', None, '[["2.5.259",""]]']


def test_the_views_of_documents_say_which_version_is_in_force(place):
    store = open_store(place, clock, serve=True)
    for number, content in enumerate(("first", "second")):
        digest = sha256(content.encode()).digest()
        entry = Entry("bus", f"d{number}", "Documents", "own", digest, 5, None, "", b"<Envelope/>")
        rows = Rows(documents=(Document("bill", "B1", "bus", "C1", MIDNIGHT, None, content),))
        store.record(entry, rows, lambda *stated: repr(stated).encode()).result(10)
    store.close()
    columns = "id, owner, subject, from_utc, to_utc, content, newest, partition, seq"
    assert sql(place, f"SELECT {columns} FROM bill ORDER BY seq") == [
        ("B1", "bus", "C1", MIDNIGHT, None, "first", 0, 0, 0),
        ("B1", "bus", "C1", MIDNIGHT, None, "second", 1, 0, 1),
    ]
    assert [sql(place, f"SELECT id FROM {view}") for view in ("tariff", "contract")] == [[], []]


# --- another's -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("revision", "told"), [("9999", "install the newer"), ("0001", "migrate up")])
def test_another_schema_is_refused(place, revision, told):
    sql(place, "UPDATE alembic_version SET version_num = ?", revision)
    with pytest.raises(StoreUnavailable, match=told):
        open_store(place, clock, serve=True)
    with pytest.raises(StoreUnavailable, match=told):
        create(place)
    sql(place, "UPDATE alembic_version SET version_num = ?", schema.SCHEMA)
    open_store(place, clock, serve=True).close()


def test_a_newer_schema_is_not_migrated_either(place):
    sql(place, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match="install the newer"):
        upkeep.migrate(place)
    assert upkeep.schema_state(place).found == "9999"
    sql(place, "UPDATE alembic_version SET version_num = ?", schema.SCHEMA)


# --- moved -----------------------------------------------------------------------------------------------------------

OLDEST = schema.revisions()[0][0]
CONTENT = "SELECT partition, seq, message_id, recorded_at_utc_ms, receipt, evidence FROM entry ORDER BY partition, seq"


def test_down_and_up_again_keeps_every_entry(place):
    receipt = fill(place)
    before = sql(place, CONTENT)
    assert upkeep.migrate(place, OLDEST) == (schema.SCHEMA, OLDEST)
    with pytest.raises(StoreUnavailable, match="migrate up"):
        open_store(place, clock, serve=True)
    assert sql(place, CONTENT) == before
    assert upkeep.migrate(place) == (OLDEST, schema.SCHEMA)
    assert upkeep.migrate(place) == (schema.SCHEMA, schema.SCHEMA)
    assert sql(place, CONTENT) == before
    assert fill(place) == receipt
    fill(place, "m2")
    store = open_store(place, clock)
    assert store.version() == {0: 1}
    store.close()


def test_a_schema_that_does_not_exist_is_not_gone_to(place):
    with pytest.raises(NotFound):
        upkeep.migrate(place, "0000")


def test_the_schemas_are_listed(place):
    state = upkeep.schema_state(place)
    assert (state.found, state.needed) == (schema.SCHEMA, schema.SCHEMA)
    assert list(state.known) == sorted(state.known)
    assert all(state.known.values())


@pytest.mark.parametrize("target", [OLDEST, None])
def test_no_schema_is_changed_under_a_running_bus(place, target):
    store = open_store(place, clock, serve=True)
    with pytest.raises(StoreUnavailable, match=str(os.getpid())):
        upkeep.migrate(place, target)
    assert upkeep.schema_state(place).found == schema.SCHEMA
    assert store.is_healthy()
    store.close()
    assert upkeep.migrate(place, target)[1] == (target or schema.SCHEMA)
    upkeep.migrate(place)


KILLED = """
import os, signal, sys
from pathlib import Path
from gridpost.server.store import schema, upkeep
place = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
move = schema.move
def die(connection, target):
    move(connection, target)  # everything but the commit
    print(schema.current(connection), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
schema.move = die
upkeep.migrate(place, sys.argv[2])
"""


@pytest.mark.parametrize("way", [(schema.SCHEMA, OLDEST), (OLDEST, schema.SCHEMA)], ids=["down", "up"])
def test_killed_in_the_midst_of_it_the_store_is_as_it_was(place, way):
    receipt = fill(place)
    start, target = way
    upkeep.migrate(place, start)
    before = sql(place, CONTENT)
    command = [sys.executable, "-c", KILLED, str(place), target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout.split() == [target], "it died before it had done anything"
    assert upkeep.schema_state(place).found == start
    assert sql(place, CONTENT) == before
    upkeep.migrate(place)
    assert fill(place) == receipt


def test_nobody_opens_a_postgres_store_while_its_schema_changes(postgres_store):
    from gridpost.server.store.engine import connect

    dialect = connect(postgres_store)
    with dialect.alone(), pytest.raises(StoreUnavailable, match="being changed"):
        open_store(postgres_store, clock)
    open_store(postgres_store, clock).close()
    dialect.close()
