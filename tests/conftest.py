"""What several rooms' tests share: the helpers of `campaigns/` are importable; a bus that runs; a PostgreSQL server."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from gridpost.server.store import create
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "campaigns"))

from live_bus import LiveBus

# How long one example takes says nothing on a machine that does other work too: nothing here is a timed test.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """An empty store to copy: migrations cost more than the tests that want their result."""
    path = tmp_path_factory.mktemp("store") / "empty.db"
    create(path)
    return path


@pytest.fixture(scope="session")
def initialised(tmp_path_factory):
    """What `gridpost init` made once, to copy: its keys are as good for another test."""
    return LiveBus.make(tmp_path_factory.mktemp("initialised") / "bus").folder


@pytest.fixture
def make_bus(tmp_path, initialised):
    """Return a function that makes a bus (not started) in a fresh folder; whatever runs in the end is killed."""
    made = []

    def make(name: str = "bus", **sections):
        bus = LiveBus(shutil.copytree(initialised, tmp_path / name))
        bus.configure(**sections)
        if "database" in sections.get("bus", {}):  # elsewhere
            (bus.folder / "gridpost.db").unlink()
            create(sections["bus"]["database"])
        made.append(bus)
        return bus

    yield make
    for bus in made:
        if bus.process is not None:
            bus.kill()


@pytest.fixture
def live_bus(make_bus):
    """A running bus of this test alone."""
    return make_bus().start()


@pytest.fixture(scope="session")
def shared_bus(tmp_path_factory):
    """A running bus that tests of the session share; each enrols devices of its own."""
    bus = LiveBus.make(tmp_path_factory.mktemp("shared") / "bus").start()
    yield bus
    if bus.process is not None:
        bus.kill()


@pytest.fixture(scope="session")
def postgres():
    """A `PostgresServer` of this session."""
    from postgres_server import PostgresServer

    server = PostgresServer.start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def _postgres_stores():
    return []


@pytest.fixture
def postgres_store(postgres, _postgres_stores):
    """The URL of an empty store on PostgreSQL, this test's alone."""
    url = (_postgres_stores and postgres.emptied(_postgres_stores.pop())) or postgres.store()
    yield url
    _postgres_stores.append(url)
