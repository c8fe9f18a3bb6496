"""Metrics of a running bus, scraped as Prometheus does and read by its own parser."""

from __future__ import annotations

import http.client
import socket
import time
from contextlib import ExitStack

import psutil
import pytest
from gridpost.server.transports import http_values
from live_bus import Wire
from prometheus_client.parser import text_string_to_metric_families

from gridpost.errors import leaves

ANY_PORT = {"metrics": {"listen": "127.0.0.1:0"}}


def scraped(address):
    status, body, headers = Wire(address).get("/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            key = (sample.name, *sample.labels.values())
            assert key not in found, "a series stands twice"
            found[key] = sample.value
    return found


def until(found, timeout=60):
    end = time.monotonic() + timeout
    while not (answer := found()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)  # between two questions, not instead of one
    return answer


def ready(address):
    """Scrape once the first look into the store is over."""
    return until(lambda: (found := scraped(address)) and ("gridpost_entries_total", "0") in found and found)


@pytest.fixture
def metered(make_bus):
    bus = make_bus(**ANY_PORT).start()
    return bus, bus.audit("started")[-1]["metrics"]


def test_every_series_is_there_from_the_start(metered):
    _, address = metered
    found = ready(address)
    refusals = {leaf.code for leaf in leaves()}
    refusals |= {one.code for one in vars(http_values).values() if isinstance(one, http_values.HttpRefusal)}
    assert {key[1] for key in found if key[0] == "gridpost_refused_total"} == refusals
    nothing = [
        ("gridpost_messages_received_total", "http"), ("gridpost_messages_receipted_total", "recorded"),
        ("gridpost_messages_receipted_total", "repeat"), ("gridpost_alarms_total",), ("gridpost_writer_queue",),
        ("gridpost_interval_values_total", "0"), ("gridpost_conflicts_total", "0"), ("gridpost_connections", "http"),
        ("gridpost_message_seconds_count",), ("gridpost_reader_lag_entries", "mv90"),
        ("gridpost_outbox_waiting", "mv90"), ("gridpost_dead_letters", "mv90"),
        *(("gridpost_refused_total", code) for code in refusals),
    ]  # fmt: skip
    assert {key: found[key] for key in nothing} == dict.fromkeys(nothing, 0)
    assert found["gridpost_store_healthy",] == 1
    assert found["gridpost_certificate_end_timestamp_seconds", "device"] == float("inf")
    for use in ("bus", "ca"):
        assert found["gridpost_certificate_end_timestamp_seconds", use] > time.time() + 86_400
    assert {"gridpost_group_entries_count", "gridpost_commit_seconds_sum"} <= {key[0] for key in found}


def test_what_happens_is_counted(metered):
    bus, address = metered
    before = ready(address)
    device = bus.enrol("IED-1")
    end = 1767225600 + 900
    first = device.seal(device.payload("m-1", ["1", "2", "3"], end))
    assert bus.wire.post(first)[0] == 200
    assert bus.wire.post(first)[0] == 200
    assert bus.wire.post(device.seal(device.payload("m-2", ["9"], end)))[0] == 200  # another value: a conflict
    assert bus.wire.post(b"<a/>")[0] == 500
    assert bus.wire.get("/nowhere")[0] == 404
    found = until(lambda: (new := scraped(address))["gridpost_entries_total", "0"] == 2 and new)
    assert found["gridpost_messages_received_total", "http"] == 4
    assert found["gridpost_messages_receipted_total", "recorded"] == 2
    assert found["gridpost_messages_receipted_total", "repeat"] == 1
    assert found["gridpost_refused_total", "path-unknown"] == 1
    refused = sum(value for key, value in found.items() if key[0] == "gridpost_refused_total")
    assert refused == 2
    assert found["gridpost_interval_values_total", "0"] == 3
    assert found["gridpost_conflicts_total", "0"] == 1
    assert found["gridpost_message_seconds_count",] == 4
    assert found["gridpost_message_seconds_bucket", "+Inf"] == 4
    assert 0 < found["gridpost_message_seconds_sum",] < 240
    grown = {
        name: found[name,] - before[name,] for name in ("gridpost_group_entries_sum", "gridpost_commit_seconds_sum")
    }
    assert grown["gridpost_group_entries_sum"] == 3  # the repeat went through the writer too
    assert grown["gridpost_commit_seconds_sum"] > 0
    assert 0 < found["gridpost_certificate_end_timestamp_seconds", "device"] < float("inf")
    assert set(found) == set(before), "a series that comes later cannot be told from one that was not measured"


def test_histograms_rise_to_their_count(metered):
    bus, address = metered
    for _ in range(5):
        bus.wire.post(b"<a/>")
    found = scraped(address)
    for name in ("message_seconds", "commit_seconds", "group_entries"):
        classes = {key[1]: value for key, value in found.items() if key[0] == f"gridpost_{name}_bucket"}
        rising = sorted(classes.items(), key=lambda item: float(item[0]))
        assert [value for _, value in rising] == sorted(classes.values())
        assert rising[-1] == ("+Inf", found[f"gridpost_{name}_count",])


def test_open_connections_are_seen(metered):
    bus, address = metered
    host, port = bus.addresses[0].removeprefix("http://").split(":")
    with ExitStack() as opened:
        for _ in range(3):
            opened.enter_context(socket.create_connection((host, int(port)), 10))
        until(lambda: scraped(address)["gridpost_connections", "http"] == 3)
    until(lambda: scraped(address)["gridpost_connections", "http"] == 0)


def test_devices_cannot_ask_for_metrics_and_the_metrics_take_no_messages(metered):
    bus, address = metered
    assert bus.wire.get("/metrics")[0] == 404
    assert Wire(address).post(b"<a/>")[0] == 404
    assert bus.stop() == 0
    with pytest.raises((ConnectionRefusedError, http.client.HTTPException)):
        Wire(address).get("/metrics")


def test_without_a_setting_nobody_listens_for_scrapes(make_bus):
    bus = make_bus().start()
    listening = [one for one in psutil.Process(bus.process.pid).net_connections() if one.status == "LISTEN"]
    assert len(listening) == 1
    assert "metrics" not in bus.audit("started")[-1]


def test_a_port_that_is_taken_is_told(make_bus):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = make_bus(metrics={"listen": address}).run("serve")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error[config-invalid]: cannot listen on {address}: ")


def _free_pair():
    """Two ports, one behind the other, that nobody has now."""
    for _ in range(50):
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = one.getsockname()[1]
            try:
                with socket.create_server(("127.0.0.1", port + 1)):
                    return port
            except OSError:
                continue
    raise AssertionError("no two free ports side by side")


def test_each_of_several_processes_has_a_port_and_their_sums_are_the_whole(tmp_path, make_bus, postgres):
    port = _free_pair()
    url = postgres.url("", create=f"metrics_{tmp_path.name}")
    sections = {"bus": {"database": url, "processes": 2}, "metrics": {"listen": f"127.0.0.1:{port}"}}
    bus = make_bus(**sections).start()
    addresses = [f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"]
    try:
        assert sorted(line["metrics"] for line in bus.audit("started")) == addresses
        device = bus.enrol("IED-1")
        for number in range(24):
            payload = device.payload(f"m-{number}", ["1"], 1767225600 + 900 * (number + 1))
            assert bus.wire.post(device.seal(payload))[0] == 200

        def both():
            found = [scraped(address) for address in addresses]
            told = [value for one in found for key, value in one.items() if key[0] == "gridpost_entries_total"]
            return found if len(told) == 2 and sum(told) == 24 else None

        found = until(both)
        names = [{key[1] for key in one if key[0] == "gridpost_entries_total"} for one in found]
        assert names in ([{"0"}, {"1"}], [{"1"}, {"0"}]), "each tells of its own partition"
        assert sum(one["gridpost_messages_received_total", "http"] for one in found) == 24
        assert sum(one["gridpost_messages_receipted_total", "recorded"] for one in found) == 24
        assert {one["gridpost_certificate_end_timestamp_seconds", "ca"] for one in found} != set()
        victim = psutil.Process(bus.process.pid).children()[0]
        victim.kill()
        until(lambda: len(bus.audit("started")) == 3)
        assert bus.audit("started")[-1]["metrics"] in addresses, "started again, it is scraped where it was"
        for address in addresses:
            ready_again = until(lambda: scraped(address))  # noqa: B023 - asked within this turn
            assert ready_again["gridpost_store_healthy",] == 1
        assert bus.stop() == 0
    finally:
        if bus.process is not None:
            bus.kill()
