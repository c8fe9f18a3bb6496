"""What the bus holds in memory (issue 3, Show 7): at most 120 MB with a hundred IEDs, whatever is sent to it."""

from __future__ import annotations

import psutil
from gridpost.server.store import open_store
from live_bus import channel_table, enrol, now_utc_ms

from gridpost import enrolment, tabular

MB = 10**6
STREAMS = ("E1", "E2", "E3", "E4")


def enrol_many(bus, count: int):
    """What `gridpost ied add` does, a hundred times in one process beside the running bus."""
    ca = enrolment.certificates(bus.wire.get("/.well-known/est/cacerts")[1])[0]
    store = open_store(bus.folder / "gridpost.db", now_utc_ms)
    devices = []
    for number in range(count):
        serial, secret = f"IED-{number}", number.to_bytes(10, "big")
        table = channel_table(f"M{number}", STREAMS)
        store.add_ied(serial, "revenue meter", secret, tabular.channels(table))
        devices.append(enrol(bus.wire, enrolment.make_code(serial, secret, ca), table))
    store.close()
    return devices


def test_a_hundred_ieds_are_served_in_120_mb(make_bus):
    """Each pushes a day of four channels, one of them two messages as large as messages are; strangers call too."""
    bus = make_bus().start()
    process = psutil.Process(bus.process.pid)
    idle = process.memory_info().rss
    devices = enrol_many(bus, 100)
    for device in devices:
        for channel in range(len(STREAMS)):
            payload = device.payload(f"m-{channel}", ["1.234"] * 96, 1767225600 + 900, channel)
            assert bus.wire.post(device.seal(payload))[0] == 200
        bus.wire.post(b"<a/>")
        bus.wire.post(b"<a>" + b"<b/>" * 10_000 + b"</a>")
    for number in range(2):
        large = devices[0].payload(f"large-{number}", ["1.5"] * 8000, channel=number)
        sealed = devices[0].seal(large)
        assert len(sealed) > 700_000
        assert bus.wire.post(sealed)[0] == 200
    resident = process.memory_info().rss
    print(f"idle {idle / MB:.1f} MB, after traffic {resident / MB:.1f} MB")
    assert resident <= 120 * MB
