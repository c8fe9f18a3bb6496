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


def family(pid):
    """Return `pid` and the processes it started, and theirs."""
    children = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(file.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        children.setdefault(parent, []).append(int(file.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, ())
    return found


def cpu_s(pid):
    """Return the processor seconds of one process, all threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
        urls = json.loads(line)["addresses"]
        self.url = urls[0]
        self.address, self.tls_address = _address(urls[0]), _address(urls[-1])

    def sleep(self):
        """Hold it still: another server has its core now."""
        self._signal(signal.SIGSTOP)

    def wake(self):
        """Let it run."""
        self._signal(signal.SIGCONT)

    def _signal(self, number):
        for pid in () if self._process.poll() is not None else family(self._process.pid):
            os.kill(pid, number)

    def cpu_s(self):
        """Return the processor seconds it has used, all processes and threads, user and system."""
        return sum(map(cpu_s, family(self._process.pid)))

    def memory_bytes(self):
        """Return the memory its processes hold (resident, shared pages counted in each)."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in family(self._process.pid))
        return pages * os.sysconf("SC_PAGE_SIZE")

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


def _address(url):
    host, _, port = url.rpartition("//")[2].rpartition(":")
    return host, int(port)


class Bus(NamedTuple):
    """How a Gridpost is started besides its defaults; a database is a URL, none is a file.

    `rsa` gives it the RSA-3072 key beside its own, as `gridpost init` does when not told otherwise: what RSA signed is
    then answered with RSA. Without it all receipts are P-256, as all the peers' are.
    """

    mv90: bool = False
    rsa: bool = False
    database: str = ""
    processes: int = 1
    https: bool = False


def _program(name):
    found = Path(sys.executable).with_name(name)
    if not found.exists():
        raise SystemExit(f"{found} does not exist: run this with the Python Gridpost is installed in (script/test makes"
                         " .venv/bin/python)")  # fmt: skip
    return found


def _gridpost(*arguments):
    done = subprocess.run([_program("gridpost"), *map(str, arguments), "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def start_ours(folder, devices, core, bus):
    """gridpost init, ied add and serve, and the devices' enrolment over EST; sets each device's signer."""
    config = init_ours(folder, bus)

    def add(device):
        file = folder / f"{device.serial}.csv"
        rows = ["usage_point,meter,channel,reading_type,unit,interval_s,zone,valid_from"]
        rows += [",".join((*one.key, one.unit, str(one.interval_s), one.zone, "1990-01-01T00:00:00Z"))
                 for one in device.channels]  # fmt: skip
        file.write_text("\n".join(rows) + "\n")
        return _gridpost("ied", "add", device.serial, "--channels", file, "--config", config)["code"]

    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(add, devices))
    server = serve_ours(config, core, bus)
    try:
        for device, code in zip(devices, codes, strict=True):
            device.signer = _enrol(server.url, device, enrolment.parse_code(code))
    except BaseException:
        server.stop()
        raise
    return server


def init_ours(folder, bus):
    """gridpost init with the settings of `bus`; return the path of gridpost.toml."""
    chosen = (*(("--database", bus.database) if bus.database else ()), "--rsa" if bus.rsa else "--no-rsa")
    config = Path(_gridpost("init", folder, "--http", "127.0.0.1:0", *chosen)["config"])
    text = config.read_text().replace("# body_limit = 1048576", f"body_limit = {BODY_LIMIT}")
    if not bus.mv90:
        text = text.replace("# enabled = true", "enabled = false")
    if bus.https:
        _write_identity(folder, "tls")
        lines = 'https = "127.0.0.1:0"\ntls_certificate = "tls.pem"\ntls_key = "tls.key"\n'
        text = text.replace("[listen]\n", f"[listen]\n{lines}")
    config.write_text(text)
    return config


def serve_ours(config, core, bus):
    """gridpost serve."""
    processes = ("--processes", bus.processes) if bus.processes > 1 else ()
    return Server("gridpost", [_program("gridpost"), "serve", "--config", config, "--json", *processes], core)


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
    fill_peer_folder(folder, devices)
    command = [peer_python(), HERE / "naive_peer.py", "--storage", storage, "--folder", folder]
    return Server(name, command, core)


def base64_text(data):
    """Return base64 as text."""
    return base64.b64encode(data).decode()


def fill_peer_folder(folder, devices):
    """Make a peer's folder: enrolled.json with the devices and their channels, bus.key and bus.pem for its receipts."""
    folder.mkdir()
    enrolled = [
        {
            "serial": device.serial,
            "certificate": base64_text(device.signer.certificate),
            "channels": [
                {"key": one.key, "unit": one.unit, "interval_s": one.interval_s, "zone": one.zone,
                 "valid_from_utc": one.valid_from_utc} for one in device.channels
            ],
        }
        for device in devices
    ]  # fmt: skip
    (folder / "enrolled.json").write_text(json.dumps(enrolled))
    _write_identity(folder, "bus")


def _write_identity(folder, name):
    """Write a new P-256 key and a certificate for it, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    bus = x509.load_der_x509_certificate(ThrowawayCA("bench").issue_bus(key=key).certificate)
    (folder / f"{name}.pem").write_bytes(bus.public_bytes(PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


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
