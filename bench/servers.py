"""The three servers as processes: made, enrolled, started, pinned, held still while another is measured, stopped."""

import base64
import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.request
import venv
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gridpost import enrolment
from gridpost.testing import ThrowawayCA
from gridpost.wssecurity import KeySigner

HERE = Path(__file__).parent
ROOT = HERE.parent
PEER_ENV = ROOT / ".venv-bench"
BODY_LIMIT = 4 << 20
START_S = 60
PEM = serialization.Encoding.PEM


class Cores(NamedTuple):
    """Which core the servers share in turn, and which the client has; None where processes cannot be pinned."""

    server: int | None
    client: int | None


def cores():
    """Choose the cores; ask before anything is pinned."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return Cores(*allowed[:2]) if len(allowed) > 1 else Cores(None, None)


class Server:
    """A server process that has printed its address; stopped (SIGSTOP) until `awake`."""

    def __init__(self, name, command, core, environment=None):
        self.name = name
        pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
        self._process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, preexec_fn=pin, env=environment
        )
        if not select.select([self._process.stdout], [], [], START_S)[0]:
            self.stop()
            raise SystemExit(f"{name} did not start within {START_S} s")
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{name} ended as it started; its message is above")
        self.url = json.loads(line)["addresses"][0]
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        self.address = (host, int(port))

    def sleep(self):
        """Hold it still: another server has its core now."""
        self._process.send_signal(signal.SIGSTOP)

    def wake(self):
        """Let it run."""
        self._process.send_signal(signal.SIGCONT)

    def cpu_s(self):
        """Return the processor seconds it has used, all threads, user and system."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def settle(self, most_s):
        """Wait until it uses under a tenth of its core, at most `most_s`; return whether it came to rest."""
        until = time.monotonic() + most_s
        while time.monotonic() < until:
            before = self.cpu_s()
            time.sleep(1)
            if self.cpu_s() - before < 0.1:
                return True
        return False

    def stop(self):
        """End it in order, or by force after ten seconds."""
        self.wake()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def _program(name):
    found = Path(sys.executable).with_name(name)
    if not found.exists():
        raise SystemExit(f"{found} does not exist: run this with the Python Gridpost is installed in (script/test makes"
                         " .venv/bin/python)")  # fmt: skip
    return found


def _gridpost(*arguments):
    done = subprocess.run([_program("gridpost"), *map(str, arguments), "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def start_ours(folder, devices, core, mv90):
    """gridpost init, ied add and serve, and the devices' enrolment over EST; sets each device's signer."""
    config = Path(_gridpost("init", folder, "--http", "127.0.0.1:0")["config"])
    text = config.read_text()
    text = text.replace("# body_limit = 1048576", f"body_limit = {BODY_LIMIT}")
    if not mv90:
        text = text.replace("# enabled = true", "enabled = false")
    config.write_text(text)

    def add(device):
        file = folder / f"{device.serial}.csv"
        rows = ["usage_point,meter,channel,reading_type,unit,interval_s,zone,valid_from"]
        rows += [",".join((*one.key, one.unit, str(one.interval_s), one.zone, "1990-01-01T00:00:00Z"))
                 for one in device.channels]  # fmt: skip
        file.write_text("\n".join(rows) + "\n")
        return _gridpost("ied", "add", device.serial, "--channels", file, "--config", config)["code"]

    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(add, devices))
    server = Server("gridpost", [_program("gridpost"), "serve", "--config", config, "--json"], core)
    try:
        for device, code in zip(devices, codes, strict=True):
            device.signer = _enrol(server.url, device, enrolment.parse_code(code))
    except BaseException:
        server.stop()
        raise
    return server


def _enrol(url, device, code):
    csr = device.request()
    headers = {
        "Content-Type": "application/pkcs10",
        enrolment.HEADER: enrolment.proof_header(code.serial, code.secret, csr),
    }
    request = urllib.request.Request(f"{url}/.well-known/est/simpleenroll", base64.encodebytes(csr), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        issued = enrolment.certificates(answer.read())
    own = [der for der in issued if x509.load_der_x509_certificate(der).public_key() == device.key.public_key()]
    return KeySigner(device.key, own[0])


def start_peer(name, storage, folder, devices, core):
    """The naive peer in the bench's environment, knowing the same devices."""
    folder.mkdir()
    enrolled = [
        {
            "serial": device.serial,
            "certificate": base64.b64encode(device.signer.certificate).decode(),
            "channels": [
                {"key": one.key, "unit": one.unit, "interval_s": one.interval_s, "zone": one.zone,
                 "valid_from_utc": one.valid_from_utc} for one in device.channels
            ],
        }
        for device in devices
    ]  # fmt: skip
    (folder / "enrolled.json").write_text(json.dumps(enrolled))
    key = ec.generate_private_key(ec.SECP256R1())
    bus = x509.load_der_x509_certificate(ThrowawayCA("bench").issue_bus(key=key).certificate)
    (folder / "bus.pem").write_bytes(bus.public_bytes(PEM))
    (folder / "bus.key").write_bytes(
        key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    command = [peer_python(), HERE / "naive_peer.py", "--storage", storage, "--folder", folder]
    return Server(name, command, core)


def peer_python():
    """Return the bench environment's Python, made and filled when absent or when its list of packages has changed."""
    python, stamp = PEER_ENV / "bin" / "python", PEER_ENV / ".made-from"
    wanted = sha256((HERE / "requirements.txt").read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == f"{wanted} {ROOT}":
        return python
    print(f"making {PEER_ENV.name}, about a minute", file=sys.stderr)
    venv.create(PEER_ENV, clear=True, with_pip=True)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-r", HERE / "requirements.txt", "--editable", ROOT], check=True, stdout=sys.stderr)
    stamp.write_text(f"{wanted} {ROOT}")
    return python
