"""Commands through a real bus: a signed request, a fetch kept open, the same bytes after kill -9, one mail, persons."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from live_office import LISTENING, SOAP_TYPE, Office, content, fetch, given, outcome, shed

SECONDS = 60


def until(condition):
    """Poll for something another process does, and return what it gave."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {SECONDS} s")


@pytest.fixture(scope="module")
def offices():
    made = []
    yield made
    for office in made:
        office.close()


@pytest.fixture
def bus(make_bus):
    return make_bus(office=LISTENING, commands={"persons": {"trip": 2}}).start()


@pytest.fixture
def office(bus, offices):
    offices.append(Office.make(bus))
    return offices[-1]


def post(bus, raw: bytes):
    """Return (status, body, what waits)."""
    status, body, headers = bus.wire.request("POST", "/metering", raw, SOAP_TYPE)
    return status, body, int(headers.get("Gridpost-Waiting", 0))


def test_a_shed_of_a_group_from_the_offices_message_to_the_signed_outcome_in_its_mailbox(bus, office):
    held_open, calling = bus.enrol("IED-1"), bus.enrol("IED-2")
    office.take_in("IED-1", "IED-2")
    office.group("feeder 7", ["IED-1", "IED-2"])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, bus, fetch(held_open, wait_s=SECONDS))
        reading = calling.payload("m-1", ["1.5"])
        assert post(bus, calling.seal(reading))[2] == 0, "nothing waits yet"
        assert not waiting.done(), "a fetch that waits holds up nobody"
        office.asked(shed("t-1", group="feeder 7"))
        status, body, _ = waiting.result(timeout=SECONDS)
    assert status == 200
    told = given(held_open, body)
    assert (told.target, told.counter, told.issuer, told.role) == ("IED-1", 1, "NORTH", "utility")
    assert (told.action, told.output, told.tracking_id) == ("shed", "load", "t-1")

    status, _, waits = post(bus, calling.seal(calling.payload("m-2", ["1.6"], first_end=1_767_225_600)))
    assert (status, waits) == (200, 1), "the other one learns of it with its next receipt"
    _, first, waits = post(bus, fetch(calling))
    other = given(calling, first)
    assert (other.target, other.counter, waits) == ("IED-2", 1, 0)
    assert post(bus, fetch(calling))[1] == first, "fetched again the same bytes come"
    bus.kill()
    bus.start()
    assert post(bus, fetch(calling))[1] == first, "after kill -9 too"
    assert given(calling, post(bus, fetch(calling, after=1))[1]) is None

    done = outcome(calling, other, "done", "the relay opened")
    forged = outcome(calling, told, "done")
    for payload in (forged, done, done):
        assert post(bus, calling.seal(payload))[0] == 200
    until(lambda: office.state(other.mrid) == "done")
    (mail,) = office.mails()
    assert (mail.kind, mail.correlation_id) == ("outcome-done", "t-1")
    (event,) = content(mail).events
    assert (event.asset, event.details["outcomeReason"]) == ("IED-2", "the relay opened")
    assert office.state(told.mrid) == "fetched", "another IED's word moves nothing"
    (alarm,) = until(lambda: [line for line in bus.audit("alarm") if line["code"] == "outcome-strange"])
    assert (alarm["sender"], alarm["control"]) == ("IED-2", told.mrid)

    # Two persons, from other processes: the fetch that is open has it when the second one has released.
    (mrid,) = office.asked(shed("t-2", "IED-1", action="trip"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, bus, fetch(held_open, after=1, wait_s=SECONDS))
        one = bus.json("control", "release", "NORTH/t-2", "--person", "Ann")
        assert [step["state"] for step in one["steps"]] == ["proposed"]
        assert not waiting.done()
        bus.json("control", "release", "NORTH/t-2", "--person", "Bob")
        assert given(held_open, waiting.result(timeout=SECONDS)[1]).mrid == mrid

    # Stopped with a fetch open: it is answered, and the bus ends at once.
    with ThreadPoolExecutor(1) as pool:
        opened = until(lambda: bus.process)
        waiting = pool.submit(post, bus, fetch(held_open, after=2, wait_s=300))
        until(lambda: connections(opened.pid) >= 1)
        opened.send_signal(signal.SIGTERM)
        status, body, _ = waiting.result(timeout=SECONDS)
        assert (status, given(held_open, body)) == (200, None)
    assert bus.wait() == 0


def connections(pid: int) -> int:
    """Established TCP connections of a process: sockets beyond those that listen."""
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    inodes = {line.split()[9] for line in lines if line.split()[3] == "01"}
    own = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            own.add(link.readlink().name.removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            continue
    return len(own & inodes)
