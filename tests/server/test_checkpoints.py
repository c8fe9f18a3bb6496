"""Who moves SQLite's log to the file, and when it is left alone: docs/adr/0013."""

import shutil
import sqlite3

import pytest
from gridpost.server.store import open_store, sqlite

from gridpost.errors import StoreUnavailable

DISK_ERROR, DISK_FULL = 10, 13  # SQLITE_IOERR, SQLITE_FULL: sqlite.org/rescode.html


@pytest.fixture
def fatal():
    return []


@pytest.fixture
def store(tmp_path, empty_store, fatal):
    path = shutil.copy(empty_store, tmp_path / "gridpost.db")
    return open_store(path, lambda: 1, serve=True, on_fatal=fatal.append)


def commit(store, times=1):
    for _ in range(times):
        store.add_refusals({"too-large": 1}).result(60)


def in_file(path, tmp_path):
    """What the file holds without its log."""
    copy = tmp_path / "copy.db"
    copy.write_bytes(path.read_bytes())
    with sqlite3.connect(copy) as database:
        found = database.execute("SELECT sum(count) FROM refusal").fetchone()[0]
    database.close()
    return found or 0


def failing(monkeypatch, code):
    def fail(_engine):
        problem = sqlite3.OperationalError("made up")
        problem.sqlite_errorcode = code
        raise sqlite.DBAPIError("PRAGMA wal_checkpoint", None, problem)

    monkeypatch.setattr(sqlite, "_move", fail)


def test_the_log_is_moved_after_so_many_transactions(store, tmp_path):
    commit(store, sqlite.CHECKPOINT_TRANSACTIONS - 2)  # opening it was one
    assert in_file(tmp_path / "gridpost.db", tmp_path) == 0
    commit(store, 3)
    assert in_file(tmp_path / "gridpost.db", tmp_path) >= sqlite.CHECKPOINT_TRANSACTIONS - 1
    store.close()


def test_a_move_that_fails_ends_the_writer_and_the_log_stays(store, tmp_path, fatal, monkeypatch):
    failing(monkeypatch, DISK_ERROR)
    with pytest.raises(StoreUnavailable):
        commit(store, sqlite.CHECKPOINT_TRANSACTIONS + 1)
    assert len(fatal) == 1
    assert not store.is_healthy()
    store.close()
    assert in_file(tmp_path / "gridpost.db", tmp_path) == 0
    with sqlite3.connect(tmp_path / "gridpost.db") as database:  # with the log nothing is missing
        assert database.execute("SELECT sum(count) FROM refusal").fetchone()[0] >= sqlite.CHECKPOINT_TRANSACTIONS - 1
    database.close()


def test_a_move_without_room_is_done_later(store, tmp_path, fatal, monkeypatch):
    with monkeypatch.context() as full:
        failing(full, DISK_FULL)
        commit(store, sqlite.CHECKPOINT_TRANSACTIONS)
        assert in_file(tmp_path / "gridpost.db", tmp_path) == 0
    commit(store)
    assert in_file(tmp_path / "gridpost.db", tmp_path) >= sqlite.CHECKPOINT_TRANSACTIONS
    assert fatal == []
    store.close()


def test_a_failed_look_for_changes_is_the_stores_failure_and_no_defect(store, monkeypatch):
    """It goes to the driver itself, whose errors nobody else translates: a message got 500 for a disk's error."""
    monkeypatch.setattr(sqlite, "_DATA_VERSION", "PRAGMA data_version(")
    with pytest.raises(StoreUnavailable):
        store.enrolment(bytes(32))
    monkeypatch.undo()
    assert store.enrolment(bytes(32)) is None
