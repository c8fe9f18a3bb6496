"""The running bus when things end badly: SIGTERM and kill -9 under load, a full disk, a moved clock."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor, as_completed

import changed_bus
import psutil
import pytest
from live_bus import BIN, LiveBus, channel_table, enrol, now_utc_ms

SOAP_TYPE = {"Content-Type": "text/xml; charset=utf-8"}
ENDED = (ConnectionError, OSError, TimeoutError)


class Load:
    """Threads that post messages of a device until told to stop; every answer of 200 is kept with its payload."""

    def __init__(self, bus: LiveBus, device, name: str, threads: int = 4) -> None:
        self._bus, self._device, self._name = bus, device, name
        self.acknowledged: dict[str, tuple[bytes, bytes]] = {}
        self.unanswered: dict[str, bytes] = {}
        self.other: list[tuple[int, bytes]] = []
        self._stop = threading.Event()
        self.reached = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        assert self.reached.wait(30), "no message was ever acknowledged"
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        connection = self._bus.wire.connection()
        count = 0
        while not self._stop.is_set():
            count += 1
            message_id = f"{self._name}-{number}-{count}"
            payload = self._device.payload(message_id, [str(count)] * 4)
            try:
                connection.request("POST", "/metering", self._device.seal(payload), SOAP_TYPE)
                answer = connection.getresponse()
                body = answer.read()
            except Exception:
                self.unanswered[message_id] = payload
                return
            if answer.status == 200:
                self.acknowledged[message_id] = (payload, body)
                if len(self.acknowledged) >= 30:
                    self.reached.set()
            else:
                self.other.append((answer.status, body))


def check_all_kept(bus: LiveBus, device, load: Load) -> None:
    """Every acknowledged message, re-sealed, gets its very receipt; those unanswered are taken or known."""
    for payload, body in load.acknowledged.values():
        assert bus.wire.post(device.seal(payload)) == (200, body)
    for payload in load.unanswered.values():
        status, body = bus.wire.post(device.seal(payload))
        assert status == 200
        device.receipt(body, payload)
    assert bus.json("status")["entries"] == len(load.acknowledged) + len(load.unanswered)


def test_sigterm_under_load_keeps_every_promise_and_ends_well(make_bus):
    bus = make_bus().start()
    device = bus.enrol("IED-1")
    with Load(bus, device, "term") as load:
        assert bus.stop() == 0
    assert load.other == []
    assert bus.errors() == ""
    assert [event["event"] for event in bus.audit()[-1:]] == ["stopped"]
    check_all_kept(bus.start(), device, load)


def test_kill_9_under_load_loses_nothing_acknowledged(make_bus):
    """Also unanswered messages are sent again: stored once, whether or not the answer was lost."""
    bus = make_bus().start()
    device = bus.enrol("IED-1")
    for attempt in range(3):
        with Load(bus, device, f"kill-{attempt}") as load:
            bus.kill()
        bus.start()
        assert bus.started_s < 5
        for payload, body in load.acknowledged.values():
            assert bus.wire.post(device.seal(payload)) == (200, body)
    assert bus.stop() == 0


def test_killed_and_unanswered_messages_are_stored_once_when_sent_again(make_bus):
    bus = make_bus().start()
    device = bus.enrol("IED-1")
    with Load(bus, device, "kill") as load:
        bus.kill()
    check_all_kept(bus.start(), device, load)


def test_sigterm_does_not_wait_for_a_request_half_sent(make_bus):
    bus = make_bus().start()
    host = urllib.parse.urlsplit(bus.addresses[0])
    sockets = []
    for part in (b"POST /meter", b"POST /metering HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\n"
                 b"Content-Length: 1000\r\n\r\n<half"):  # fmt: skip
        sockets.append(socket.create_connection((host.hostname, host.port), 10))
        sockets[-1].sendall(part)
    assert bus.wire.get("/health")[0] == 200  # so the bus has read what was sent before
    began = time.monotonic()
    assert bus.stop() == 0
    assert time.monotonic() - began < 5
    for one in sockets:
        assert one.recv(100) == b""
        one.close()


def test_a_second_sigterm_does_not_end_badly_what_the_first_began(make_bus):
    bus = make_bus().start()
    device = bus.enrol("IED-1")
    with Load(bus, device, "twice") as load:
        bus.process.send_signal(signal.SIGTERM)
        bus.process.send_signal(signal.SIGTERM)
        assert bus.wait() == 0
    check_all_kept(bus.start(), device, load)


def test_sigterm_in_the_midst_of_a_backlog_of_files_ends_soon(make_bus):
    """Days to render are left for the next start."""
    bus = make_bus(mv90={"enabled": False}).start()
    device = bus.enrol("IED-1")
    start = now_utc_ms() // 86_400_000 * 86_400 - 700 * 86_400
    for month in range(20):
        payload = device.payload(f"m-{month}", ["1"] * 96 * 30, start + month * 30 * 86_400 + 900)
        assert bus.wire.post(device.seal(payload))[0] == 200
    assert bus.stop() == 0
    bus.configure()
    bus.start()
    assert bus.stop() == 0
    bus.start()
    end = time.monotonic() + 60
    while len(list((bus.folder / "mv90").glob("*.mde"))) < 600 and time.monotonic() < end:
        time.sleep(0.1)
    assert len({file.name for file in (bus.folder / "mv90").glob("*_r01.mde")}) == 600
    assert list((bus.folder / "mv90").glob("*_r02.mde")) == []


# --- disks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1.5 MB of our own, where we may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs more rights than these tests have")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_on_a_full_disk_nothing_is_acknowledged_and_everything_comes_back_with_the_space(small_disk):
    bus = LiveBus.make(small_disk / "bus", mv90={"enabled": False})
    try:
        bus.start()
        device = bus.enrol("IED-1")
        first = device.payload("m-0", ["1.5"])
        receipt = bus.wire.post(device.seal(first))
        assert receipt[0] == 200
        ballast = small_disk / "ballast"
        filled(ballast)
        answers = []
        for number in range(1, 60):
            payload = device.payload(f"m-{number}", [str(number)] * 200)
            answers.append((payload, *bus.wire.request("POST", "/metering", device.seal(payload), SOAP_TYPE)))
            if answers[-1][1] == 503:
                break
        payload, status, body, headers = answers[-1]
        assert status == 503
        assert b"store-unavailable" in body
        assert headers["Retry-After"]
        assert bus.wire.get("/health")[:2] == (503, b"store unavailable\n")
        assert bus.wire.get("/metering?wsdl")[0] == 200
        assert bus.wire.post(device.seal(first)) == receipt, "a repeat needs no space"
        assert [ied["serial"] for ied in bus.json("ied", "list")["ieds"]] == ["IED-1"]
        taken = len(answers) - 1 + 1
        assert bus.json("status")["entries"] == taken
        ballast.unlink()
        status, body = bus.wire.post(device.seal(payload))
        assert status == 200
        device.receipt(body, payload)
        assert bus.wire.get("/health")[:2] == (200, b"ok\n")
        assert bus.json("status")["entries"] == taken + 1
        assert bus.stop() == 0
        lines = (bus.folder / "audit.jsonl").read_text().splitlines()
        assert all(line.startswith("{") and line.endswith("}") for line in lines)
    finally:
        if bus.process is not None:
            bus.kill()


def filled(file) -> None:
    """Write until the disk is full."""
    with file.open("wb", buffering=0) as stream:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    stream.write(b"\0" * size)
            except OSError:
                continue


def test_a_disk_that_fails_stops_the_bus_and_what_was_acknowledged_is_there_afterwards(make_bus):
    """A write that fails for another reason than a full disk (here: the process may write no larger file, EFBIG): the
    bus says so and stops, as after a failed fsync, and recovers from the log."""
    bus = make_bus(mv90={"enabled": False})
    size = (bus.folder / "gridpost.db").stat().st_size + 200_000
    bus.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
    device = bus.enrol("IED-1")
    acknowledged, status = [], 200
    for number in range(2000):
        payload = device.payload(f"m-{number}", [str(number)] * 200)
        try:
            status, body = bus.wire.post(device.seal(payload))
        except ENDED:
            break
        if status != 200:
            assert status == 503
            break
        acknowledged.append((payload, body))
    assert acknowledged
    assert bus.wait() == 1
    assert "error[store-unavailable]: the store failed and the bus stopped" in bus.errors()
    bus.start()
    for payload, body in acknowledged:
        assert bus.wire.post(device.seal(payload)) == (200, body)
    assert bus.json("status")["entries"] == len(acknowledged)


def test_an_audit_log_that_cannot_be_written_stops_nothing(make_bus):
    bus = make_bus(bus={"audit": "/dev/full"}, mv90={"enabled": False}).start()
    device = bus.enrol("IED-1")
    payload = device.payload("m-1", ["1"])
    device.receipt(bus.wire.post(device.seal(payload))[1], payload)
    assert bus.stop() == 0
    assert "No space left on device" in bus.errors()


def test_a_folder_for_files_that_cannot_be_written_stops_no_message_and_the_files_come_later(make_bus):
    bus = make_bus(mv90={"directory": "gone/mv90"}).start()
    device = bus.enrol("IED-1", channel_table("M1"))
    payload = device.payload("m-1", ["1"] * 96, 1767225600 + 900)
    assert bus.wire.post(device.seal(payload))[0] == 200
    end = time.monotonic() + 20
    while not bus.audit("reader-failed") and time.monotonic() < end:
        time.sleep(0.05)
    assert bus.audit("reader-failed")[0]["code"] == "store-unavailable"
    assert bus.wire.get("/health")[0] == 200
    (bus.folder / "gone").mkdir()
    file = bus.folder / "gone" / "mv90" / "M1_20260101_r01.mde"
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert file.exists()


def test_a_store_taken_over_by_another_bus_stops_the_first_and_loses_nothing(make_bus):
    """Somebody deleted the lock file and started a second bus: the first may not commit any more."""
    bus = make_bus(mv90={"enabled": False}).start()
    device = bus.enrol("IED-1")
    first, second = device.payload("m-1", ["1"]), device.payload("m-2", ["2"])
    receipt = bus.wire.post(device.seal(first))
    (bus.folder / "gridpost.db.lock").unlink()
    other = LiveBus(bus.folder).start()
    try:
        assert bus.wire.post(device.seal(second))[0] == 503
        assert bus.wait() == 1
        assert "another process took over this store" in bus.errors()
        assert other.wire.post(device.seal(first)) == receipt
        assert other.wire.post(device.seal(second))[0] == 200
        assert other.json("status")["entries"] == 2
        assert other.stop() == 0
    finally:
        if other.process is not None:
            other.kill()


def test_a_store_locked_by_somebody_else_holds_up_what_needs_it_and_nothing_more(make_bus):
    """Somebody's transaction, left open for longer than we wait."""
    bus = make_bus(mv90={"enabled": False}).start()
    device, code = bus.enrol("IED-1"), bus.add("IED-2", channel_table("M2"))
    payload = device.payload("m-1", ["1"])

    def enrols() -> bool:
        try:
            return bool(enrol(bus.wire, code, channel_table("M2")))
        except AssertionError:
            return False

    intruder = sqlite3.connect(bus.folder / "gridpost.db", isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(2) as pool:
        posting, enrolling = pool.submit(bus.wire.post, device.seal(payload)), pool.submit(enrols)
        longest = 0.0
        while not (posting.done() and enrolling.done()):
            began = time.monotonic()
            assert bus.wire.get("/metering?wsdl")[0] == 200
            longest = max(longest, time.monotonic() - began)
        assert (posting.result()[0], enrolling.result()) == (503, False)
    assert longest < 2, "others waited"
    intruder.execute("ROLLBACK")
    intruder.close()
    status, body = bus.wire.post(device.seal(payload))
    assert status == 200
    device.receipt(body, payload)
    assert enrols()


def test_a_full_queue_says_come_again_at_once_and_takes_nothing_it_cannot_keep(make_bus):
    """The store is slow (somebody holds its lock): those beyond the queue hear 503 before it goes on."""
    bus = make_bus(mv90={"enabled": False})
    bus.command = changed_bus.command(damage="short-queue")
    device = bus.start().enrol("IED-1")
    payloads = [device.payload(f"m-{number}", [str(number)], 1_767_225_600 + 900 * number) for number in range(12)]

    def push(payload: bytes):
        return bus.wire.request("POST", "/metering", device.seal(payload), SOAP_TYPE)

    intruder = sqlite3.connect(bus.folder / "gridpost.db", isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(12) as pool:
        pushes = [pool.submit(push, payload) for payload in payloads]
        first = next(as_completed(pushes)).result()
        assert (first[0], first[2]["Retry-After"]) == (503, "30"), "told at once, behind nobody"
        intruder.execute("ROLLBACK")
        intruder.close()
        answers = [push.result() for push in pushes]
    assert {status for status, _, _ in answers} == {200, 503}
    taken = sum(status == 200 for status, _, _ in answers)
    assert bus.json("status")["entries"] == taken
    for payload in payloads:  # as devices do
        status, body, _ = push(payload)
        assert status == 200
        device.receipt(body, payload)
    assert bus.json("status")["entries"] == len(payloads)


def test_a_damaged_store_is_one_clear_line(make_bus):
    bus = make_bus(mv90={"enabled": False}).start()
    device = bus.enrol("IED-1")
    for number in range(60):
        assert bus.wire.post(device.seal(device.payload(f"m-{number}", [str(number)] * 50)))[0] == 200
    assert bus.stop() == 0
    file = bus.folder / "gridpost.db"
    damaged = bytearray(file.read_bytes())
    for page in range(8, len(damaged) // 4096):
        damaged[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    file.write_bytes(damaged)
    done = bus.run("serve")
    assert done.returncode == 1
    assert done.stderr.startswith("error[store-unavailable]: ")
    assert "Traceback" not in done.stderr
    assert "SELECT" not in done.stderr


# --- the clock -------------------------------------------------------------------------------------------------------

_MOVED = """
import sys, time
real, began, by = time.time_ns, time.monotonic(), {by_ns}
time.time_ns = lambda: real() + (by if time.monotonic() - began > {after_s} else 0)
sys.argv = ["gridpost", "serve", *sys.argv[1:]]
from gridpost.server.cli import main
main()
"""


def moved(by_s: int, after_s: float = -1.0) -> tuple[str, ...]:
    """The command of a bus whose wall clock is wrong by so much, from so long after its start on."""
    return (sys.executable, "-c", _MOVED.format(by_ns=by_s * 10**9, after_s=after_s))


@pytest.mark.parametrize("by_s", [3600, -3600, 365 * 86400, -300 * 86400])
def test_a_clock_that_was_moved_loses_no_receipt_and_never_falls_back_in_the_log(make_bus, by_s):
    bus = make_bus(mv90={"enabled": False}).start()
    device = bus.enrol("IED-1")
    first = device.payload("m-1", ["1"])
    answer = bus.wire.post(device.seal(first))
    recorded = device.receipt(answer[1], first).recorded_at_utc_ms
    bus.stop()
    bus.command = moved(by_s)
    bus.start()
    assert bus.wire.post(device.seal(first)) == answer
    fresh = device.payload("m-2", ["2"])
    status, body = bus.wire.post(device.seal(fresh))
    if by_s < -86_400:
        assert status == 503, "before the beginning of its own certificate a bus has no signer"
        assert b"signer-unavailable" in body
    elif status != 200:
        code, time_utc_ms = device.refusal(body).code, device.refusal(body).time_utc_ms
        assert code == ("message-stale" if by_s > 0 else "message-from-future")
        assert abs(time_utc_ms - now_utc_ms() - by_s * 1000) < 60_000
        status, body = bus.wire.post(device.seal(fresh, time_utc_ms))
    if by_s > 0:
        assert device.receipt(body, fresh).recorded_at_utc_ms > recorded
    elif status != 503:
        assert device.refusal(body).code == "reading-in-future"
    bus.stop()
    bus.command = (str(BIN / "gridpost"), "serve")
    bus.start()
    last = device.payload("m-3", ["3"])
    status, body = bus.wire.post(device.seal(last))
    assert status == 200
    assert device.receipt(body, last).recorded_at_utc_ms >= recorded


def test_a_step_of_the_clock_under_way_is_told(make_bus):
    bus = make_bus(mv90={"enabled": False})
    bus.command = moved(3600, 3.0)
    bus.start()
    end = time.monotonic() + 20
    while not bus.audit("clock-stepped") and time.monotonic() < end:
        bus.wire.post(b"<a/>")
        time.sleep(0.1)
    (step,) = bus.audit("clock-stepped")
    assert abs(step["by_ms"] - 3_600_000) < 100


# --- leaks ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts open files in /proc")
def test_nothing_is_left_open_behind_visitors(make_bus):
    bus = make_bus(mv90={"enabled": False}).start()
    device = bus.enrol("IED-1")
    host = urllib.parse.urlsplit(bus.addresses[0])

    def visit() -> None:
        for number in range(50):
            with socket.create_connection((host.hostname, host.port), 10) as one:
                one.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" if number % 2 else b"rubbish\r\n\r\n")
                one.recv(1000)
            bus.wire.post(device.seal(device.payload("m-1", ["1"], 1767225600)))

    process = psutil.Process(bus.process.pid)
    visit()
    before = process.num_fds()
    visit()
    end = time.monotonic() + 10
    while process.num_fds() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert process.num_fds() <= before
