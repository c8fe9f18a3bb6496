"""Many devices on disk and the processes they run in: for the campaign of commands.

Each device is enrolled by the store and the CA themselves, has a key, settings and a spool of its own, and one output:
a program that adds a line to a file when it begins (``+``) and one when it has acted (``=``), so what was done is
counted outside the product. A process (`Host`) runs one device (the installed `gridpost-ied run`) or several; each of
its lives and of its kills is written down.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import changed_ied
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gridpost.ied_soap_client import config as settings
from gridpost.server.enrolment import DeviceCA, Subject
from live_bus import Device, LiveBus, channel_table, now_utc_ms
from live_office import Office
from office_world import private_pem

from gridpost import tabular
from gridpost.wssecurity import KeySigner

HELD_S, POLL_S = 10, 2  # half of the devices keep a fetch open, the others ask so often
# It takes some time before it acts and some after, a different one each time. Between the two it looks whether its
# device is still there, as a driver does that loses its power with it; from then on no kill of the device stops it.
HOOK = """#!/bin/sh
printf '+ %s %s %s\\n' "$GRIDPOST_MRID" "$2" "$(date +%s%3N)" >> "$1"
sleep 0.$(( $$ % 2 ))$(( $$ % 9 ))
kill -0 $PPID 2> /dev/null || exit 1
printf '= %s %s %s\\n' "$GRIDPOST_MRID" "$2" "$(date +%s%3N)" >> "$1"
sleep 0.4$(( $$ % 9 ))
"""


class Act(NamedTuple):
    """A line of a device's file."""

    serial: str
    kind: str  # + began, = acted
    mrid: str
    action: str
    at_utc_ms: int


@dataclass
class Ied:
    """A device on disk."""

    device: Device
    folder: Path

    @property
    def serial(self) -> str:
        return self.device.serial

    @property
    def config(self) -> Path:
        return self.folder / "ied.toml"

    @property
    def spool(self) -> Path:
        return self.folder / "spool.db"

    @property
    def file(self) -> Path:
        return self.folder / "acts.txt"

    def acts(self) -> Iterator[Act]:
        for line in self.file.read_text().splitlines():
            kind, mrid, action, at = line.split(" ")
            yield Act(self.serial, kind, mrid, action, int(at))


class Kill(NamedTuple):
    """A kill, by the wall clock: it fell between these two moments."""

    before_utc_ms: int
    after_utc_ms: int


@dataclass
class Host:
    """A process that devices run in."""

    ieds: list[Ied]
    damage: str = ""
    process: subprocess.Popen[str] | None = None
    kills: list[Kill] = field(default_factory=list)
    lives: list[int] = field(default_factory=list)  # when each began, UTC ms
    _started: threading.Event = field(default_factory=threading.Event)

    @property
    def folder(self) -> Path:
        return self.ieds[0].folder

    def start(self) -> None:
        self.lives.append(now_utc_ms())
        with (self.folder / "stderr.txt").open("ab") as errors:
            command = changed_ied.command(*(one.config for one in self.ieds), damage=self.damage)
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        self._started = threading.Event()
        threading.Thread(target=self._read, args=(self.process, self._started), daemon=True).start()

    def _read(self, process: subprocess.Popen[str], started: threading.Event) -> None:
        """Keep what the devices say; note when the last of them has begun."""
        missing = len(self.ieds)
        assert process.stdout is not None
        with (self.folder / "journal.txt").open("a") as kept:
            for line in process.stdout:
                kept.write(line)
                kept.flush()
                missing -= json.loads(line)["event"] == "started"
                if not missing:
                    started.set()

    def wait_until_started(self) -> None:
        if not self._started.wait(120):
            raise AssertionError(f"devices did not start: {self.errors()}")

    def kill(self) -> None:
        """`kill -9`, unless it ended by itself, which is a surprise."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"devices ended by themselves with {self.process.returncode}: {self.errors()}")
        before = now_utc_ms()
        self.process.kill()
        self.process.wait()
        self.kills.append(Kill(before, now_utc_ms()))
        self.process = None

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def errors(self) -> str:
        return (self.folder / "stderr.txt").read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def enrolled(folder: Path, bus: LiveBus, store_of: Office, count: int) -> list[Ied]:
    """Enrol devices by the store and the CA themselves, and write their keys."""
    ca = DeviceCA.load(bus.folder / "ca.pem", bus.folder / "ca.key")
    hook = folder / "hook.sh"
    hook.write_text(HOOK)
    made = []
    for number in range(count):
        serial = f"IED-{number:03d}"
        home = folder / serial
        home.mkdir()
        table = channel_table(f"M-{serial}")
        store_of.store.add_ied(serial, "revenue meter", bytes(10), tabular.channels(table))
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = ca.issue(Subject(serial, 10), key.public_key(), datetime.now(UTC) - timedelta(hours=1))
        der = certificate.public_bytes(serialization.Encoding.DER)
        store_of.store.bind_certificate(serial, serial.encode().ljust(32), der)
        (home / "ied.key").write_bytes(private_pem(key))
        for name, one in (("ied.pem", der), ("ca.pem", ca.der)):
            pem = x509.load_der_x509_certificate(one).public_bytes(serialization.Encoding.PEM)
            (home / name).write_bytes(pem)
        (home / "channels.csv").write_text(table)
        (home / "acts.txt").touch()
        made.append(Ied(Device(serial, tabular.channels(table), KeySigner(key, der), ca.der), home))
    return made


def configure(ieds: Sequence[Ied], url: str, issuers: Sequence[Office]) -> None:
    """Write each device's settings: whom it obeys, its one output, how it fetches."""
    obeyed = [{"issuer": one.partner.id, "role": one.partner.role.value, "actions": "shed restore"} for one in issuers]
    for number, one in enumerate(ieds):
        line = f"/bin/sh {one.folder.parent / 'hook.sh'} {one.file}"
        output = {"name": "load", "command": line, "actions": {"shed": "shed", "restore": "restore"}, "timeout_s": 300}
        fetch = {"long_poll_s": HELD_S, "poll_s": 60} if number % 2 else {"poll_s": POLL_S}
        values = {
            "bus": {"url": url, "timeout_s": 10},
            "identity": {"serial": one.serial, "renew_days": 0},
            "push": {"spread_s": 0, "backoff_first_s": 1, "backoff_most_s": 2},
            "control": fetch, "obey": obeyed, "output": [output],
        }  # fmt: skip
        one.config.write_text(settings.render(values))
