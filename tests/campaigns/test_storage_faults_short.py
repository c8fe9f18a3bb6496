"""The campaign of a failing disk in short; damaged buses, which it has to find out; and what it counts."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import storage_faults
from disk_shim import Record, compiler
from storage_faults import Case, Plan

needs_compiler = pytest.mark.skipif(compiler() is None, reason="the shim below the process needs a C compiler")


def tried(place, monkeypatch, cases, sabotage=""):
    monkeypatch.setattr(storage_faults, "cases", lambda _: cases)
    return storage_faults.campaign(place, Plan(seed=5, sabotage=sabotage), workers=1)


@needs_compiler
def test_nothing_acknowledged_is_lost_whatever_fails(tmp_path, monkeypatch):
    cases = [Case("enospc", 40), Case("eio", 150), Case("sync", 15), Case("full", 1)]
    found = tried(tmp_path, monkeypatch, cases)
    assert found.problems == []
    assert found.ok
    assert all(found.by_kind[case.kind]["faults"] > 0 for case in cases)
    assert found.by_kind["sync"]["stopped_itself"] == 1  # and not while it started
    assert found.by_kind["sync"]["promised"] > 0
    assert found.by_kind["full"]["listings"] == len(storage_faults.LISTINGS)


@needs_compiler
@pytest.mark.parametrize(("sabotage", "counter"), [("ignore-sync-error", "lost"), ("go-on", "not_stopped")])
def test_a_damaged_bus_is_found_out(tmp_path, monkeypatch, sabotage, counter):
    found = tried(tmp_path, monkeypatch, [Case("sync", 2)], sabotage)
    assert not found.ok
    assert getattr(found, counter) > 0


def test_every_n_of_every_kind_is_tried_once():
    found = storage_faults.cases(Plan(most=200))
    assert len(found) == len(set(found)) == 200 + 200 + 200 + 10 + 5
    assert {case.n for case in found if case.kind == "sync"} == set(range(1, 201))


def test_only_failed_syncs_of_the_database_count():
    def sync(fd, error):
        return Record("Z", (1, fd), 1, error, "", b"")

    trace = [
        Record("O", (1, 3), 1, 0, "/disk/bus/gridpost.db-wal", b""), sync(3, 0), sync(3, 5),
        Record("O", (1, 4), 1, 0, "/disk/bus/days/.a.part", b""), sync(4, 5),
    ]  # fmt: skip
    assert storage_faults.failed_syncs(trace) == 1
