"""Does the bus speak as this device does? Its WSDL, read by zeep in a process of its own, against what we send.

In: a bus's address and a folder. Out: a `Contract`, cached in the folder as ``contract.json`` beside ``metering.wsdl``.
zeep takes 40 MB, so it is imported only where this file runs as a program, never in the agent. A WSDL that cannot be
had, or differs, is told and stops nothing: measuring goes on (the bus has the last word on each message anyway).
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gridpost import ns

from .fetching import ACTION as FETCH_ACTION
from .identity import write
from .push import ACTIONS, PATH

TIMEOUT_S = 60
SPACES = {
    "MeterReadings": ns.METER_READINGS_MESSAGE,
    "EndDeviceEvents": ns.END_DEVICE_EVENTS_MESSAGE,
    "EncryptedReadings": ns.ENCRYPTED_READINGS,
}
# Operation -> what the WSDL must say of it, for what this device sends and understands.
EXPECTED: Mapping[str, Mapping[str, str]] = {
    f"PublishCreated{noun}": {
        "action": ACTIONS[noun],
        "style": "document",
        "input": ns.q(space, f"Created{noun}"),
        "output": ns.q(space, f"{noun}ResponseMessage"),
    }
    for noun, space in SPACES.items()
} | {
    "RequestEndDeviceControls": {
        "action": FETCH_ACTION,
        "style": "document",
        "input": ns.q(ns.END_DEVICE_CONTROLS_MESSAGE, "GetEndDeviceControls"),
        "output": ns.q(ns.END_DEVICE_CONTROLS_MESSAGE, "EndDeviceControlsResponseMessage"),
    }
}


@dataclass(frozen=True, slots=True)
class Contract:
    """What came of the check.

    Attributes:
        read: the WSDL was had and understood.
        wsdl_sha256: of its bytes, hex; empty when it was not had.
        problems: what differs, or why it was not read; empty: all agrees.
    """

    read: bool
    wsdl_sha256: str
    problems: tuple[str, ...]


def check(url: str, folder: Path, tls_ca: Path | None = None) -> Contract:
    """Fetch and compare the WSDL at `url`/metering?wsdl; never raises for a bus's sake.

    Args:
        url: the bus's address.
        folder: where WSDL and result are cached.
        tls_ca: certificates that may vouch for the bus's HTTPS, or None for those the machine trusts.
    """
    command = [sys.executable, "-P", "-m", __spec__.name if __spec__ else __name__, f"{url.rstrip('/')}{PATH}?wsdl"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False, env=_trust(tls_ca))
        said: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        trouble = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no answer"]
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        said, trouble = {}, [str(error)]
    if "operations" not in said:
        found = Contract(False, "", (f"the WSDL could not be read: {trouble[0]}",))
    else:
        wsdl = said["wsdl"].encode()
        write(folder / "metering.wsdl", wsdl)
        found = Contract(True, hashlib.sha256(wsdl).hexdigest(), tuple(compare(said["operations"])))
    write(folder / "contract.json", json.dumps(asdict(found), indent=2).encode() + b"\n")
    return found


def _trust(tls_ca: Path | None) -> dict[str, str]:
    """Return an environment in which requests, and so zeep, believes the certificates that transport.py does.

    By itself requests knows neither --tls-ca nor the machine's own list; this variable goes before all else it has.
    """
    file = str(tls_ca.resolve()) if tls_ca else ssl.get_default_verify_paths().cafile
    return {**os.environ, **({"REQUESTS_CA_BUNDLE": file} if file else {})}


def compare(operations: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return where a bus's operations differ from `EXPECTED`, one sentence each."""
    problems = []
    for name, expected in EXPECTED.items():
        offered = operations.get(name)
        if offered is None:
            problems.append(f"the bus offers no operation {name}")
            continue
        problems += [
            f"{name}: {what} is {offered.get(what)!r} at the bus, {value!r} here"
            for what, value in expected.items()
            if offered.get(what) != value
        ]
    return problems


def _describe(url: str) -> dict[str, Any]:
    """Read a WSDL with zeep; runs in the process of its own."""
    import zeep
    import zeep.transports

    transport = zeep.transports.Transport(timeout=15, operation_timeout=15)
    wsdl = transport.load(url)
    strict = zeep.Settings(forbid_dtd=True, forbid_entities=True)
    client = zeep.Client(url, transport=transport, settings=strict)
    operations = {
        name: {
            "action": operation.soapaction,
            "style": operation.style,
            "input": str(operation.input.body.qname),
            "output": str(operation.output.body.qname),
        }
        for service in client.wsdl.services.values()
        for port in service.ports.values()
        for name, operation in port.binding.all().items()
    }
    return {"wsdl": wsdl.decode("utf-8"), "operations": operations}


if __name__ == "__main__":
    json.dump(_describe(sys.argv[1]), sys.stdout)
