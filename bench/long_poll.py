"""Fetches kept open: a command for a group reaches every IED that waits, and the one beyond a threshold is held.

    .venv/bin/python bench/long_poll.py [--devices 500] [--rounds 5] [--json]

A real bus and its office listener, a partner's signed requests, a connection for each IED from many loopback addresses.
Exits 0 when every aim holds. README.md says what is real and what is not.
"""

import argparse
import json
import resource
import selectors
import socket
import statistics
import sys
import tempfile
import time
import urllib.parse
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/campaigns"))

import machine
import servers
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from equal_work import say
from gridpost.server.enrolment import DeviceCA, Subject
from live_bus import Device, LiveBus
from live_office import LISTENING, Office, fetch, given, shed

from gridpost import testing
from gridpost.wssecurity import KeySigner

DEVICES, ROUNDS, WITHIN_MS = 500, 5, 2000.0
WAIT_S, ANSWERED_S = 300, 60.0
SOURCES = 100  # loopback addresses: the listener takes 256 connections of one address
GROUP = "feeder 7"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=DEVICES, help=f"fetches kept open (default {DEVICES})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"commands to all of them (default {ROUNDS})")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args(arguments)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4 * chosen.devices + 200), hard), hard))
    with tempfile.TemporaryDirectory(prefix="gridpost-") as folder:
        result = measured(Path(folder), chosen)
    result["aims"] = aims(result)
    result["ok"] = all(one["holds"] for one in result["aims"])
    report(result, chosen.json)
    return 0 if result["ok"] else 1


def measured(folder, chosen):
    """Make the bus, keep the fetches open, send the commands; return what was seen."""
    most = {"shed": chosen.devices, "restore": chosen.devices * chosen.rounds}
    bus = LiveBus.make(
        folder / "bus", office=LISTENING, commands={"most": most, "most_all": {}}, mv90={"enabled": False}
    )
    office = Office.make(bus)
    devices = enrolled(bus, office, chosen.devices)
    bus.start()
    try:
        return {
            "devices": chosen.devices,
            "rounds": chosen.rounds,
            "machine": machine.describe(servers.Cores(None, None), folder),
            **rounds(bus, office, devices, chosen.rounds),
        }
    finally:
        bus.kill()
        office.close()


def enrolled(bus, office, count):
    """Enrol IEDs by the store and the CA themselves: EST is not what is measured here."""
    ca = DeviceCA.load(bus.folder / "ca.pem", bus.folder / "ca.key")
    made = []
    for number in range(count):
        serial = f"LP-{number:05d}"
        channels = [testing.channel(meter=f"M-{serial}")]
        office.store.add_ied(serial, "revenue meter", bytes(10), channels)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = ca.issue(Subject(serial, 10), key.public_key(), datetime.now(UTC) - timedelta(hours=1))
        der = certificate.public_bytes(serialization.Encoding.DER)
        office.store.bind_certificate(serial, serial.encode().ljust(32), der)
        made.append(Device(serial, tuple(channels), KeySigner(key, der), ca.der))
    serials = [one.serial for one in made]
    office.take_in(*serials)
    office.group(GROUP, serials)
    return made


def rounds(bus, office, devices, count):
    """Send `count` commands to all, the last one a shed; then one more shed."""
    lines = Lines(bus, devices)
    before = threads(bus)
    reached, answered, wrong, while_open = [], [], 0, 0
    for number in range(count):
        lines.ask(after=number)
        lines.settle()
        while_open = max(while_open, threads(bus))
        action = "shed" if number == count - 1 else "restore"
        began = time.perf_counter()
        status, body = office.ask(shed(f"t-{number}", group=GROUP, action=action))
        answered.append((time.perf_counter() - began) * 1000)
        assert status == 200, body
        answers = lines.answers(began)
        wrong += sum(not lines.is_right(one, body, number + 1, action) for one, (_, body) in answers.items())
        wrong += len(devices) - len(answers)
        reached += [late_s * 1000 for late_s, _ in answers.values()]
    lines.close()
    (beyond,) = office.asked(shed("beyond", devices[0].serial))
    fetched = [one.state.value for one in office.store.tracked(office.partner.id, f"t-{count - 1}")]
    reached.sort()
    return {
        **{f"p{part}_ms": at(reached, part) for part in (50, 90, 99)},
        "longest_ms": reached[-1] if reached else float("inf"),
        "answers": len(reached), "wrong": wrong, "fetched": fetched.count("fetched"),
        "office_answered_ms": statistics.median(answered),
        "threads_before": before, "threads_while_open": while_open,
        "beyond": office.state(beyond), "beyond_why": office.store.control(beyond).steps[0].detail,
    }  # fmt: skip


class Lines:
    """A connection for each device, and what comes back on it."""

    def __init__(self, bus, devices):
        parts = urllib.parse.urlsplit(bus.addresses[0])
        self._bus, self._devices = bus, {one.serial: one for one in devices}
        self._sockets = {}
        for number, serial in enumerate(self._devices):
            line = socket.create_connection(
                (parts.hostname, parts.port), source_address=(f"127.0.1.{1 + number % SOURCES}", 0)
            )
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[serial] = line

    def ask(self, after):
        """Send each device's fetch, to be kept open."""
        for serial, line in self._sockets.items():
            raw = fetch(self._devices[serial], after, WAIT_S)
            head = (
                f"POST /metering HTTP/1.1\r\nHost: bus\r\nContent-Type: text/xml\r\nContent-Length: {len(raw)}\r\n\r\n"
            )
            line.sendall(head.encode() + raw)

    def settle(self):
        """Return once the bus has looked at every fetch: a reading that was sent behind them has its receipt."""
        device = next(iter(self._devices.values()))
        for _ in range(2):
            payload = device.payload(f"mark-{time.time_ns()}", ["1"])
            assert self._bus.wire.post(device.seal(payload))[0] == 200
        early = [serial for serial, line in self._sockets.items() if _readable(line)]
        assert not early, f"answered although nothing waits: {early[:3]}"

    def answers(self, began):
        """Return serial -> (seconds since `began` until the answer was whole, its body), as far as they come."""
        got = {serial: bytearray() for serial in self._sockets}
        whole, end = {}, time.perf_counter() + ANSWERED_S
        with selectors.DefaultSelector() as selector:
            for serial, line in self._sockets.items():
                selector.register(line, selectors.EVENT_READ, serial)
            while len(whole) < len(got) and time.perf_counter() < end:
                for key, _ in selector.select(1):
                    got[key.data] += key.fileobj.recv(65536)
                    body = _body(got[key.data])
                    if body is not None:
                        whole[key.data] = (time.perf_counter() - began, body)
                        selector.unregister(key.fileobj)
        return whole

    def is_right(self, serial, body, counter, action):
        """Verify an answer as the device does: signed by the bus, for this very IED, the next counter."""
        control = given(self._devices[serial], body)
        return control is not None and (control.target, control.counter, control.action) == (serial, counter, action)

    def close(self):
        for line in self._sockets.values():
            line.close()


def _readable(line):
    with selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ)
        return bool(selector.select(0))


def _body(got):
    """The body of an answer once it is whole."""
    head, separator, rest = bytes(got).partition(b"\r\n\r\n")
    if not separator:
        return None
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    return rest if len(rest) >= length else None


def threads(bus):
    """Threads of the bus's process."""
    return len(list(Path(f"/proc/{bus.process.pid}/task").iterdir()))


def at(sorted_, part):
    """The value below which `part` percent lie."""
    return sorted_[min(len(sorted_) - 1, int(len(sorted_) * part / 100))] if sorted_ else float("inf")


def aims(result):
    """What must hold."""
    everybody = result["devices"] * result["rounds"]
    return [
        _aim("every IED is reached within 2 s", result["longest_ms"], result["longest_ms"] <= WITHIN_MS),
        _aim(
            "each answer is the IED's own, signed",
            result["wrong"],
            result["answers"] == everybody and not result["wrong"],
        ),
        _aim(
            "no fetch holds a thread",
            result["threads_while_open"],
            result["threads_while_open"] <= result["threads_before"] + 3,
        ),
        _aim("the shed beyond the threshold is held", result["beyond"], result["beyond"] == "held"),
    ]


def _aim(name, seen, holds):
    return {"aim": name, "seen": seen, "holds": bool(holds)}


def report(result, as_json):
    """Print it."""
    if as_json:
        print(json.dumps(result))
        return
    say(machine.line(result["machine"]))
    say("{devices} fetches open, {rounds} commands to all of them".format(**result))
    say("the office had its answer after {office_answered_ms:.0f} ms".format(**result))
    say("p50 {p50_ms:.0f} ms, p90 {p90_ms:.0f} ms, p99 {p99_ms:.0f} ms, longest {longest_ms:.0f} ms".format(**result))
    for one in result["aims"]:
        say(f"{'holds' if one['holds'] else 'FAILS'}: {one['aim']} ({one['seen']})")


if __name__ == "__main__":
    sys.exit(main())
