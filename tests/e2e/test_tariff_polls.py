"""A running bus that fetches tariffs: what is new is on file, what is wrong is an audit line and the old one stays."""

from __future__ import annotations

import json
import shutil
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from gridpost.server.store import open_store
from live_bus import LiveBus, now_utc_ms
from office_world import flat_tariff, until

from gridpost import tariff_messages

GRID = [[0] * 24 for _ in range(12)]
URDB = {
    "label": "rate-1", "utility": "Example Power", "name": "Rate 1", "energyratestructure": [[{"rate": 0.06387}]],
    "energyweekdayschedule": GRID, "energyweekendschedule": GRID,
}  # fmt: skip
XML = tariff_messages.encode(flat_tariff("x-1", "whoever", "0.30")).encode()


@pytest.fixture
def site():
    """A web site whose pages the test sets: path -> status and bytes."""
    pages: dict[str, tuple[int, bytes]] = {}
    asked, over = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow":
                asked.set()
                over.wait(60)
                return
            status, body = pages[self.path]
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/json")
            self.send_header("Content-Length", str(len(body) + (7 if self.path == "/half" else 0)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield pages, f"http://127.0.0.1:{server.server_address[1]}", asked
    over.set()
    server.shutdown()
    server.server_close()


def prices(bus: LiveBus) -> dict[str, str]:
    """What is on file: supplier/id -> the price of a kWh."""
    with closing(open_store(bus.folder / "gridpost.db", now_utc_ms)) as store:
        found = [tariff_messages.decode(one.document.content) for one in store.documents("tariff")]
    return {f"{one.supplier}/{one.id}": str(one.energy.periods[0][0].price) for one in found}


def told(bus: LiveBus, event: str) -> dict[str, str]:
    """The last audit line of that event for each supplier: its reason."""
    lines = map(json.loads, (bus.folder / "audit.jsonl").read_text().splitlines())
    return {one["supplier"]: one.get("reason", "") for one in lines if one["event"] == event}


def test_tariffs_are_polled(tmp_path, initialised, site):
    pages, address, _ = site
    pages |= {
        "/json": (200, json.dumps(URDB).encode()), "/xml": (200, XML), "/gone": (404, b""), "/half": (200, XML),
        "/elsewhere": (302, b""), "/long": (200, b" " * ((16 << 20) + 1)),
    }  # fmt: skip
    bus = LiveBus(shutil.copytree(initialised, tmp_path / "bus"))
    names = ("json", "xml", "gone", "half", "elsewhere", "long")
    poll = {name: f"{address}/{name}" for name in names} | {"nobody": "http://127.0.0.1:1/x"}
    bus.configure(tariffs={"poll": poll, "every_s": 1, "zones": {"json": "America/Chicago"}})
    bus.start()
    try:
        # What supplier an address speaks for is the operator's word, whatever the file says.
        until(lambda: prices(bus) == {"json/rate-1": "0.06387", "xml/x-1": "0.30"})
        until(lambda: len(told(bus, "tariffs-refused")) == 5)
        why = told(bus, "tariffs-refused")
        assert "404" in why["gone"]
        assert "302" in why["elsewhere"]
        assert "broke off" in why["half"]
        assert "16 MiB" in why["long"]
        assert "cannot be fetched" in why["nobody"]

        holed = XML.replace(b"<startHour>0</startHour>", b"<startHour>1</startHour>", 1)
        assert holed != XML
        pages |= {"/xml": (200, holed), "/json": (200, json.dumps(URDB).replace("0.06387", "0.07").encode())}
        until(lambda: "energy/weekday/month 1/hour 0" in told(bus, "tariffs-refused").get("xml", ""))
        until(lambda: prices(bus) == {"json/rate-1": "0.07", "xml/x-1": "0.30"})
        # The first price again is a third version, not the first entry once more.
        pages["/json"] = (200, json.dumps(URDB).encode())
        until(lambda: prices(bus)["json/rate-1"] == "0.06387")
        with closing(open_store(bus.folder / "gridpost.db", now_utc_ms)) as store:
            assert len(store.document_versions("tariff", owner="json")) == 3
            assert len(store.document_versions("tariff", owner="xml")) == 1
    finally:
        bus.kill()


def test_an_address_that_is_none_stops_the_start(tmp_path, initialised):
    bus = LiveBus(shutil.copytree(initialised, tmp_path / "bus"))
    bus.configure(tariffs={"poll": {"acme": "ftp://acme.example/x"}})
    with pytest.raises(AssertionError, match=r"must begin with http"):
        bus.start()


def test_a_bus_does_not_wait_for_an_address_that_says_nothing(tmp_path, initialised, site):
    _, address, asked = site
    bus = LiveBus(shutil.copytree(initialised, tmp_path / "bus"))
    bus.configure(tariffs={"poll": {"slow": f"{address}/slow"}})
    bus.start()
    assert asked.wait(60)
    began = time.monotonic()
    assert bus.stop() == 0
    assert time.monotonic() - began < 25  # a fetch may take 30 s
    assert "cannot be fetched" in told(bus, "tariffs-refused")["slow"]
