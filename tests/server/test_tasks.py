"""Tasks: done beside a store nobody serves, done by the running bus, refused in words, and never done twice."""

from __future__ import annotations

import json
import threading
from types import MappingProxyType

import pytest
from gridpost.server import config as settings
from gridpost.server import own, tasks
from gridpost.server.store import Task, open_store

from gridpost.documents import Document
from gridpost.errors import Internal, Item, StoreUnavailable, TariffRefused, UnknownOperation


def note(bench, args, person, task_id):
    receipt = own.record_documents(bench, task_id, person, [Document("bill", args["id"], "bus", "C1", 0, None, "{}")])
    return {"seq": receipt.position.seq}


def refuse(_bench, _args, _person, _task_id):
    raise TariffRefused("no such season", items=[Item("season", "never begins", "seasons[1]")])


def fail(_bench, _args, _person, _task_id):
    raise ZeroDivisionError


@pytest.fixture(autouse=True)
def kinds(monkeypatch):
    monkeypatch.setattr(tasks, "KINDS", MappingProxyType({"note": note, "refuse": refuse, "fail": fail}))


@pytest.fixture(params=["sqlite", "postgres"])
def config(request, make_bus):
    elsewhere = {"bus": {"database": request.getfixturevalue("postgres_store")}} if request.param == "postgres" else {}
    return settings.load(make_bus(**elsewhere).folder / "gridpost.toml")


@pytest.fixture
def beside(config):
    store = open_store(config.database, lambda: 5)
    yield store
    store.close()


def test_without_a_bus_the_command_does_it_itself(config, beside):
    assert tasks.ask(config, "note", {"id": "B1"}, "Ada") == {"seq": 0}
    assert tasks.ask(config, "note", {"id": "B2"}, "Ada") == {"seq": 1}
    assert [one.document.id for one in beside.documents("bill")] == ["B1", "B2"]
    assert beside.asked_tasks(10) == []


def test_what_was_asked_before_and_left_half_done_is_done_first(config, beside):
    beside.put_task(Task("019b0000-0000-7000-8000-000000000001", "note", '{"id":"B1"}', "Bob", 5))
    assert tasks.ask(config, "note", {"id": "B2"}, "Ada") == {"seq": 1}
    assert [one.document.id for one in beside.documents("bill")] == ["B1", "B2"]


def test_a_refusal_reaches_who_asked_with_its_places(config, beside):
    with pytest.raises(TariffRefused, match="no such season") as told:
        tasks.ask(config, "refuse", {}, "Ada")
    assert told.value.items == (Item("season", "never begins", "seasons[1]"),)
    with pytest.raises(UnknownOperation, match="paint"):
        tasks.ask(config, "paint", {}, "Ada")
    assert beside.asked_tasks(10) == []
    assert beside.version() == {}


def test_a_defect_is_told_and_not_tried_for_ever(config, beside):
    with pytest.raises(ZeroDivisionError):
        tasks.ask(config, "fail", {}, "Ada")
    assert beside.asked_tasks(10) == []


def test_one_done_again_after_a_crash_records_nothing_more(config):
    store = open_store(config.database, lambda: 1_800_000_000_000, serve=True)
    bench = tasks.bench_of(config, store)
    one = Task("019b0000-0000-7000-8000-000000000001", "note", '{"id":"B1"}', "Ada", 5)
    store.put_task(one)
    assert note(bench, {"id": "B1"}, "Ada", one.id) == {"seq": 0}  # and then the process died
    tasks.perform(bench, one)
    tasks.perform(bench, one)
    assert store.version() == {0: 0}
    done = store.task(one.id)
    assert (done.state, json.loads(done.outcome), done.done_at_utc_ms) == ("done", {"seq": 0}, 1_800_000_000_000)
    store.settle_task(one.id, "refused", "{}")
    assert store.task(one.id) == done  # the first word stands
    store.close()


def test_while_a_process_serves_the_store_it_is_left_to_it(config):
    """The server here does not look at tasks by itself, so the outcome can only be what it is told to do."""
    store = open_store(config.database, lambda: 1_800_000_000_000, serve=True)
    assert store.leads()
    bench = tasks.bench_of(config, store)
    outcomes = []
    asking = threading.Thread(target=lambda: outcomes.append(tasks.ask(config, "note", {"id": "B1"}, "Ada")))
    asking.start()
    while not (waiting := store.asked_tasks(10)):
        assert asking.is_alive()
    tasks.perform(bench, waiting[0])
    asking.join(30)
    assert outcomes == [{"seq": 0}]
    with pytest.raises(StoreUnavailable, match="within 1 s"):
        tasks.ask(config, "note", {"id": "B2"}, "Ada", longest_s=1)
    assert store.version() == {0: 0}
    store.close()


def test_the_running_bus_does_what_it_is_asked(make_bus):
    """Of another process: it has the real table of kinds, in which there is no `note`."""
    bus = make_bus().start()
    config = settings.load(bus.folder / "gridpost.toml")
    with pytest.raises(UnknownOperation, match="note"):
        tasks.ask(config, "note", {"id": "B1"}, "Ada", longest_s=60)


def test_what_no_leaf_is_called_comes_back_as_a_defect():
    done = Task("1", "note", "{}", "Ada", 5, "refused", '{"error": {"code": "gone", "reason": "why", "items": []}}', 6)
    with pytest.raises(Internal, match="why"):
        tasks._outcome(done)
