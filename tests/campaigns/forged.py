"""Every forged message over HTTP to a real bus: none accepted, nothing fetched; every genuine one taken.

    tests/campaigns/forged.py [--keep DIR] [--json]

The messages are those of tests/core/forgeries.py, made anew for the bus's own devices and clock; genuine ones come also
from libxmlsec1, in other element orders, with RSA and P-384. What is asked of the bus:

- a forgery gets the fault it deserves: its code alone before the signature is known to be right, signed afterwards;
- the store holds the genuine messages and not one entry more;
- the canary, a web server and a pipe whose addresses the forgeries name, is never touched, and no connection leaves;
- nothing unexpected in the bus's log, and its memory and processor time stay small.

Exit status: 0 everything holds, 1 something does not.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import http.server
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from cryptography.hazmat.primitives.asymmetric import ec, rsa

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "core"))

import forgeries
from forging import Forgery, Setting, draft
from live_bus import Device, LiveBus, channel_table, now_utc_ms
from lxml import etree
from signed_by_xmlsec import XMLSEC_SHAPES, signed_by_xmlsec

from gridpost import errors, exchange
from gridpost.errors import AnswerUntrusted

BEFORE_THE_SIGNATURE = {
    error.code
    for error in (
        errors.MessageTooLarge, errors.MalformedXml, errors.ForbiddenMarkup, errors.LimitExceeded,
        errors.VersionMismatch, errors.MustUnderstand, errors.EnvelopeShape, errors.SignatureInvalid,
    )
}  # fmt: skip
MOST_MEMORY_MB = 160
MOST_CPU_S = 0.02  # a message, over all of them


@dataclass
class Outcome:
    """What was seen; `problems` is empty when everything holds."""

    forged: int = 0
    genuine: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    memory_mb: int = 0
    cpu_s: float = 0.0

    def expect(self, condition: bool, problem: str) -> None:
        if not condition:
            self.problems.append(problem)


class Canary:
    """A web server and a named pipe; both remember every visitor."""

    def __init__(self, folder: Path) -> None:
        self.visits: list[str] = []
        self.pipe = folder / "canary"
        os.mkfifo(self.pipe)
        canary = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                canary.visits.append(f"http from {self.client_address}")
                super().handle_one_request()

            def log_message(self, *_: Any) -> None:
                """Silence."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._stopped = threading.Event()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        threading.Thread(target=self._watch_pipe, daemon=True).start()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def places(self) -> tuple[str, str]:
        return f"http://127.0.0.1:{self.port}/canary", str(self.pipe)

    def _watch_pipe(self) -> None:
        """Opening a pipe to write succeeds only while somebody has it open to read; a reader waits for that."""
        while not self._stopped.wait(0.02):
            with contextlib.suppress(OSError):  # ENXIO: nobody reads
                os.close(os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK))
                self.visits.append("file")

    def close(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()


class Connections:
    """Looks, many times a second, for connections the bus made itself."""

    def __init__(self, bus: LiveBus) -> None:
        self.outward: set[str] = set()
        self._process = psutil.Process(bus.process.pid)
        self._port = int(bus.addresses[0].rpartition(":")[2])
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.wait(0.25):
            for one in self._process.net_connections("inet"):
                if one.raddr and one.laddr.port != self._port:
                    self.outward.add(f"{one.raddr.ip}:{one.raddr.port}")

    def stop(self) -> psutil.Process:
        self._stopped.set()
        self._thread.join()
        return self._process


# --- the campaign ----------------------------------------------------------------------------------------------------


def campaign(folder: Path) -> Outcome:
    """Run everything in a new folder and say what was seen."""
    outcome, canary = Outcome(), Canary(folder)
    bus = LiveBus.make(folder / "bus").start()
    try:
        watch = Connections(bus)
        first, second = bus.enrol("IED1", channel_table("M1")), bus.enrol("IED2", channel_table("M9"))
        before = watch._process.cpu_times().user
        for forgery in _forgeries(first, second, canary):
            _post_forgery(bus, first, forgery, outcome)
        for device in (first, *_other_devices(bus)):
            for name, raw in _genuine(device, second, canary):
                _post_genuine(bus, device, f"{device.serial} {name}", raw, outcome)
        process = watch.stop()
        outcome.cpu_s = process.cpu_times().user - before
        outcome.memory_mb = process.memory_info().rss >> 20
        _judge(bus, canary, watch, outcome)
    finally:
        canary.close()
        code = bus.stop()
    outcome.expect(code == 0, f"the bus ended with {code}")
    outcome.expect(not bus.errors().strip(), f"the bus complained: {bus.errors()[:2000]}")
    return outcome


def _setting(device: Device, neighbour: Device, canary: Canary) -> Setting:
    return Setting(
        signer=device.signer, source=device.serial, channel=device.channels[0], now_utc_ms=now_utc_ms(),
        neighbour=neighbour.signer, neighbour_source=neighbour.serial, foreign=neighbour.channels[0],
        canary=canary.places,
    )  # fmt: skip


def _forgeries(device: Device, neighbour: Device, canary: Canary) -> Iterator[Forgery]:
    """A part at a time, so that each is made for a clock that has hardly moved."""
    for part in forgeries.PARTS:
        yield from list(part.forgeries(_setting(device, neighbour, canary)))


def _other_devices(bus: LiveBus) -> Iterator[Device]:
    yield bus.enrol("IED3", key=rsa.generate_private_key(65537, 2048))
    yield bus.enrol("IED4", key=rsa.generate_private_key(65537, 3072))
    yield bus.enrol("IED5", key=ec.generate_private_key(ec.SECP384R1()))


def _genuine(device: Device, neighbour: Device, canary: Canary) -> Iterator[tuple[str, bytes]]:
    setting = _setting(device, neighbour, canary)
    if device.serial == "IED1":
        for message in forgeries.genuine(setting):
            yield message.name, message.raw
    yield "sealed by ours", device.seal(setting.payload().encode())
    for name, changes in XMLSEC_SHAPES.items():
        created = {"expires": ""} if name == "expires" else {}
        yield f"xmlsec {name}", signed_by_xmlsec(draft(setting, **(changes | created)))


def _post(bus: LiveBus, raw: bytes) -> tuple[int, bytes]:
    try:
        return bus.wire.post(raw)
    except (ConnectionError, http.client.HTTPException):
        return 0, b""  # a refusal of the size may overtake the sending of eleven megabytes


def _post_forgery(bus: LiveBus, device: Device, forgery: Forgery, outcome: Outcome) -> None:
    status, body = _post(bus, forgery.raw)
    outcome.forged += 1
    code = _listener_code(status, body) or _fault_code(device, body, forgery.name, outcome)
    outcome.codes[code] += 1
    listener = {"message-too-large"} if len(forgery.raw) > 1 << 20 else {"no-body"} if not forgery.raw else set()
    right = code in listener or (status == 500 and code in forgery.codes)
    outcome.expect(right, f"{forgery.name}: HTTP {status}, {code}, expected {' or '.join(forgery.codes)}")


def _listener_code(status: int, body: bytes) -> str:
    """The listener judges what has no message in it: too much, or nothing at all."""
    if status in (0, 413):
        return "message-too-large"
    return "no-body" if status in (400, 411) else ""


def _fault_code(device: Device, body: bytes, name: str, outcome: Outcome) -> str:
    """The code of a fault; before the signature nothing but the code, afterwards signed by the bus."""
    try:
        answer = exchange.open_answer(body, exchange.Trust(device.ca))
    except AnswerUntrusted:
        root = etree.fromstring(body)
        code = root.findtext(".//faultstring") or ""
        outcome.expect(code in BEFORE_THE_SIGNATURE, f"{name}: unsigned fault says {code!r}")
        outcome.expect(root.find(".//detail") is None, f"{name}: unsigned fault with a detail")
        return code
    if answer.refusal is None:
        outcome.problems.append(f"{name}: ACCEPTED")
        return "accepted"
    outcome.expect(answer.refusal.code not in BEFORE_THE_SIGNATURE, f"{name}: signed fault says {answer.refusal.code}")
    return answer.refusal.code


def _post_genuine(bus: LiveBus, device: Device, name: str, raw: bytes, outcome: Outcome) -> None:
    status, body = _post(bus, raw)
    outcome.genuine += 1
    try:
        receipt = exchange.open_answer(body, exchange.Trust(device.ca)).receipt
    except AnswerUntrusted as error:
        outcome.problems.append(f"{name}: HTTP {status}, {error.detail}, {body[:200]!r}")
        return
    if receipt is None:
        outcome.problems.append(f"{name}: refused, {body.decode()[-1500:]}")
        return
    envelope = exchange.read(raw)
    outcome.expect(receipt.message_id == envelope.claimed_message_id, f"{name}: receipt for {receipt.message_id}")
    outcome.expect(_post(bus, raw) == (200, body), f"{name}: a repeat got another answer")


def _judge(bus: LiveBus, canary: Canary, watch: Connections, outcome: Outcome) -> None:
    status = bus.json("status")
    outcome.expect(status["entries"] == outcome.genuine, f"{status['entries']} entries of {outcome.genuine} genuine")
    outcome.expect(not canary.visits, f"the canary was touched: {canary.visits[:5]}")
    outcome.expect(not watch.outward, f"the bus connected to {sorted(watch.outward)}")
    outcome.expect(outcome.forged >= 150, f"only {outcome.forged} forgeries")
    outcome.expect(outcome.memory_mb <= MOST_MEMORY_MB, f"the bus holds {outcome.memory_mb} MB")
    each = outcome.cpu_s / (outcome.forged + outcome.genuine)
    outcome.expect(each <= MOST_CPU_S, f"{each * 1000:.1f} ms of processor time a message")
    sane, _ = _post(bus, b"<a/>")
    outcome.expect(sane == 500, f"afterwards the bus answers {sane}")


def main() -> int:
    """Print what was seen; 0 when everything holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="a new folder that keeps the bus's files")
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        if options.keep:
            options.keep.mkdir(parents=True)
        outcome = campaign(options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory())))
    result = {
        "ok": not outcome.problems, "forged": outcome.forged, "genuine": outcome.genuine,
        "codes": dict(outcome.codes.most_common()), "memory_mb": outcome.memory_mb, "cpu_s": round(outcome.cpu_s, 2),
        "seconds": round(time.monotonic() - began, 1), "problems": outcome.problems,
    }  # fmt: skip
    print(json.dumps(result) if options.as_json else _report(result))
    return 0 if result["ok"] else 1


def _report(result: dict[str, Any]) -> str:
    lines = [f"{result['forged']} forged, {result['genuine']} genuine messages in {result['seconds']} s"]
    lines += [f"  {times:4d}  {code}" for code, times in result["codes"].items()]
    lines += [f"bus: {result['memory_mb']} MB, {result['cpu_s']} s of processor time"]
    lines += [f"PROBLEM {problem}" for problem in result["problems"]] or ["everything holds"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
