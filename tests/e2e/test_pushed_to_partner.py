"""A running bus pushes what a partner is granted to the partner's own service, in the words its WSDL knows, and forgets
in time what was taken."""

import contextlib
import importlib.util
import sqlite3
import threading
import time
from pathlib import Path

from gridpost.adapters.cis.parse import parse_notification
from gridpost.server.store import open_store
from live_bus import channel_table, now_utc_ms

from gridpost.controls import Role
from gridpost.partners import Grant, Partner

ROOT = Path(__file__).parents[2]


def _example_cis():
    spec = importlib.util.spec_from_file_location("example_cis", ROOT / "examples/cis/cis.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_devices_readings_reach_a_customer_information_system_by_themselves(shared_bus):
    bus, example = shared_bus, _example_cis()
    cis = example.Cis("4")
    server = example.serve(cis)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/multispeak"
    try:
        device = bus.enrol("PUSH-1", channel_table("M-PUSH"))
        store = open_store(bus.folder / "gridpost.db", now_utc_ms)  # as an administration command beside the bus
        store.set_tenants("PUSH-1", ["north"])
        store.add_partner(Partner("acme", "", Role.UTILITY, "north", endpoint=address, wsdl=f"{address}?wsdl"))
        store.give(Grant("acme", "UP-M-PUSH", "billing"))
        store.close()
        payload = device.payload("m-1", ["1.5", "2.25"])
        status, _ = bus.wire.post(device.seal(payload))
        assert status == 200
        ends = time.monotonic() + 60
        while not cis.kept and time.monotonic() < ends:
            time.sleep(0.05)
        ((name, content),) = cis.kept.items()
    finally:
        server.shutdown()
        server.server_close()
    (block,) = parse_notification(content).blocks
    assert (name, block.values, block.channel.meter) == ("acme-1.1", ("1.5", "2.25"), "M-PUSH")
    while not (told := [one for one in bus.audit("pushed") if one["partner"] == "acme"]) and time.monotonic() < ends:
        time.sleep(0.05)
    assert [(one["number"], one["place"]) for one in told] == [(1, address)]


def test_a_running_bus_forgets_mail_that_was_taken_long_ago(make_bus):
    bus, day_ms = make_bus(office={"mail_days": 5}), 86_400_000
    store = open_store(bus.folder / "gridpost.db", now_utc_ms)
    store.add_partner(Partner("acme", "", Role.UTILITY, "north"))
    store.close()
    with contextlib.closing(sqlite3.connect(bus.folder / "gridpost.db", timeout=60)) as database:
        columns = "partner, number, kind, noun, correlation_id, partition, seq, line, made_at_utc_ms, content"
        aged = [
            ("acme", number, "events", "n", "", 0, 0, number, now_utc_ms() - days * day_ms, b"<a/>")
            for number, days in ((1, 6), (2, 4))
        ]
        database.executemany(f"INSERT INTO mailbox ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", aged)
        database.execute("INSERT INTO mailbox_cursor VALUES ('acme', 2, 2)")
        database.commit()
        bus.start()
        query, ends = "SELECT number FROM mailbox ORDER BY number", time.monotonic() + 120
        while (left := database.execute(query).fetchall()) == [(1,), (2,)] and time.monotonic() < ends:
            time.sleep(0.05)
    assert left == [(2,)]
