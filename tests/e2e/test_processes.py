"""Several bus processes on one port and one PostgreSQL store, as installed: killed, stopped, started again."""

from __future__ import annotations

import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import psutil
import pytest
from live_bus import LiveBus, run

STREAMS = 4


@pytest.fixture
def make_pair(make_bus, postgres_store_url):
    """Return a function that makes a bus of two processes on a fresh store; whatever runs in the end is killed."""
    made = []

    def make(**sections):
        sections["bus"] = {"database": postgres_store_url, "processes": 2} | sections.get("bus", {})
        made.append(make_bus(**sections))
        return made[-1]

    yield make
    for bus in made:
        for process in children(bus):
            process.kill()


@pytest.fixture
def postgres_store_url(postgres, tmp_path):
    """The URL of an empty database."""
    return postgres.url("", create=f"bus_{tmp_path.name}")


def children(bus):
    return psutil.Process(bus.process.pid).children() if bus.process is not None else []


def until(found, timeout=30):
    """Ask until there is an answer."""
    end = time.monotonic() + timeout
    while not (answer := found()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)  # between two questions, not instead of one
    return answer


_made = {}


def made(device, number):
    """Message `number` of a device: a repeat is the same content."""
    key = (device.signer.certificate, number)
    if key not in _made:
        _made[key] = device.payload(f"m{number}", ["1.5"], first_end=1767225600 + 900 * (number + 1))
    return _made[key]


def send(bus, device, number, tries=1):
    """Post message `number`, again after a lost connection; return the receipt's bytes and the message's content."""
    payload = made(device, number)
    for left in reversed(range(tries)):
        try:
            status, body = bus.wire.post(device.seal(payload))
        except (OSError, HTTPException):
            assert left, "no connection at all"
            time.sleep(0.05)  # a device waits longer
            continue
        if status == 200 or not left:
            assert status == 200, body[-900:]
            return body, payload
    raise AssertionError


def test_two_processes_share_a_port_and_a_store(make_pair):
    bus = make_pair(mv90={"poll_s": 1}).start()
    assert len(bus.addresses) == 1
    assert len(children(bus)) == 2
    device = bus.enrol("IED-1")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: send(bus, device, number), range(96)))
    receipts = [device.receipt(*answer) for answer in answers]
    assert {receipt.position.partition for receipt in receipts} == {0, 1}  # 96 connections: one in 2^95 is one-sided
    assert sorted(receipt.counts for receipt in receipts) == [(1, 0, 0)] * 96
    status = bus.json("status")
    assert (status["entries"], status["interval_values"], status["conflicts"]) == (96, 96, 0)
    files = bus.folder / "mv90"
    until(lambda: list(files.glob("M-IED-1_20260101_r*.mde")))
    readers = until(lambda: [r for r in bus.json("status")["readers"] if not r["waiting"] and not r["lag"]])
    assert [one["dead_letters"] for one in readers] == [0] * len(readers)
    names = [line["name"] for line in bus.audit("file-delivered")]
    assert len(names) == len(set(names)), "only one process runs the readers"
    assert bus.audit("reader-failed") == []
    assert bus.stop() == 0
    assert "Traceback" not in bus.errors()
    with pytest.raises(ConnectionRefusedError):
        bus.wire.get("/health")


def test_one_message_on_many_connections_is_one_entry(make_pair):
    bus = make_pair().start()
    device = bus.enrol("IED-1")
    for number in range(5):
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _, n=number: send(bus, device, n)[0], range(12)))
        assert len(set(answers)) == 1
    assert bus.json("status")["entries"] == 5


def test_a_killed_process_is_started_again_and_nothing_is_lost(make_pair):
    bus = make_pair().start()
    device = bus.enrol("IED-1")
    acknowledged, stop = {}, threading.Event()

    def push(start):
        number = start
        while not stop.is_set():
            acknowledged[number] = send(bus, device, number, tries=200)
            number += STREAMS

    with ThreadPoolExecutor(STREAMS) as pool:
        pushing = [pool.submit(push, start) for start in range(STREAMS)]
        try:
            for kill in range(3):
                enough = len(acknowledged) + 20
                until(lambda: len(acknowledged) > enough)  # noqa: B023 - asked within this turn
                before = children(bus)
                before[kill % 2].kill()
                until(lambda: len(bus.audit("started")) == 3 + kill)  # noqa: B023 - asked within this turn
                assert before[1 - kill % 2].is_running()
        finally:
            stop.set()
        for one in pushing:
            one.result(60)
    assert [(line["code"]) for line in bus.audit("process-ended")] == [-signal.SIGKILL] * 3
    status = bus.json("status")
    assert status["entries"] == status["interval_values"] >= len(acknowledged) > 60
    for number, (body, payload) in acknowledged.items():
        assert device.receipt(body, payload).position.partition in (0, 1), "a dead process's partition is taken again"
        assert send(bus, device, number)[0] == body
    assert bus.stop() == 0


def test_the_processes_go_when_their_parent_is_killed(make_pair):
    bus = make_pair().start()
    device = bus.enrol("IED-1")
    kept = send(bus, device, 1)[0]
    orphans = children(bus)
    bus.kill()
    _, alive = psutil.wait_procs(orphans, timeout=30)
    assert alive == []
    bus.start()
    assert send(bus, device, 1)[0] == kept
    assert bus.stop() == 0


def test_sigterm_under_load_keeps_every_promise(make_pair):
    bus = make_pair().start()
    device = bus.enrol("IED-1")
    acknowledged = {}

    def push(start):
        for number in range(start, 10**6, STREAMS):
            try:
                acknowledged[number] = send(bus, device, number)
            except (OSError, HTTPException, AssertionError):
                return

    with ThreadPoolExecutor(STREAMS) as pool:
        pushing = [pool.submit(push, start) for start in range(STREAMS)]
        until(lambda: len(acknowledged) > 40)
        assert bus.stop() == 0
        for one in pushing:
            one.result(60)
    bus.start()
    for number, (body, _) in acknowledged.items():
        assert send(bus, device, number)[0] == body
    assert bus.stop() == 0


def test_processes_may_be_given_on_the_command_line(make_pair):
    bus = make_pair(bus={"processes": 1})
    bus.command += ("--processes", "3")
    bus.start()
    assert len(children(bus)) == 3
    bus.process.send_signal(signal.SIGINT)
    assert bus.wait() == 0


def test_a_file_takes_one_process(make_bus):
    done = make_bus().run("serve", "--processes", "2")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error[config-invalid]: bus.processes: several processes need a PostgreSQL store")


def test_what_keeps_one_from_starting_keeps_all(make_pair):
    bus = make_pair()
    (bus.folder / "bus.key").write_text("no key")
    done = bus.run("serve")
    assert done.returncode == 1
    assert done.stderr.startswith("error[")
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_told(make_pair):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bus = make_pair(listen={"http": f"127.0.0.1:{taken.getsockname()[1]}"})
        done = bus.run("serve")
    assert done.returncode == 1
    assert done.stderr.startswith("error[config-invalid]: cannot listen on 127.0.0.1:")


def test_a_second_bus_of_other_keys_cannot_take_a_store_that_is_one(make_pair, tmp_path, postgres_store_url):
    make_pair()
    done = run("init", tmp_path / "other", "--database", postgres_store_url)
    assert done.returncode == 1
    assert done.stderr.startswith("error[already-exists]: that database is a store already")
    assert not (tmp_path / "other").exists()


def test_the_settings_of_a_database_are_the_owners_alone(tmp_path, postgres_store_url):
    bus = LiveBus.make(tmp_path / "bus", bus={"database": postgres_store_url})
    assert bus.config.stat().st_mode & 0o777 == 0o600  # a URL may hold a password
    assert bus.json("status")["entries"] == 0
    assert not (bus.folder / "gridpost.db").exists()
