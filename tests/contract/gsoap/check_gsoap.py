"""gSOAP reads the WSDL, builds a C++ client from it and sends a right message.

Not collected by name: gSOAP and a compiler are wanted, so only the tox environment ``contract`` runs it
(Debian: ``apt-get install gsoap g++ libgsoap-dev``). There a missing tool is a failure, not a skip.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from lxml import etree

from gridpost import ns, schemas

HERE = Path(__file__).parent
IMPORTS = "/usr/share/gsoap/import"


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        pytest.fail(f"{command[0]} is not installed: apt-get install gsoap g++ libgsoap-dev")
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built client: WSDL -> wsdl2h -> soapcpp2 -> g++."""
    folder = tmp_path_factory.mktemp("gsoap")
    for name, content in schemas.documents().items():
        (folder / name).write_bytes(content)
    for name in ("client.cpp", "typemap.dat"):
        shutil.copy(HERE / name, folder)
    steps = [
        ("wsdl2h", "-t", "typemap.dat", "-o", "metering.h", "metering.wsdl"),
        ("soapcpp2", "-j", "-C", "-L", "-x", f"-I{IMPORTS}", "metering.h"),
        ("g++", "-O0", "-o", "client", "client.cpp", "soapC.cpp", "soapMeteringBindingProxy.cpp", "-lgsoap++"),
    ]
    for step in steps:
        done = run(*step, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "client"


def test_a_push_is_valid_and_its_receipt_is_typed(client, metering_peer, answers):
    metering_peer.answer = answers[0]("MeterReadings", "0195-1", '<z:Later xmlns:z="urn:later"/>')
    done = run(str(client), metering_peer.url, cwd=client.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "receipt 0195-1 IED-7 0:41 digest 32 references 2 stored 2\n"

    ((action, sent),) = metering_peer.requests
    (message,) = etree.fromstring(sent).find(f"{{{ns.SOAP11}}}Body")
    schemas.validate(message)
    assert action.strip('"') == schemas.DEVICE_ACTIONS[message.tag]
    names = {"m": ns.METER_READINGS}
    assert message.xpath("//m:value/text()", namespaces=names) == ["0.125000"]
    assert message.xpath("//m:timeStamp/text()", namespaces=names) == ["2026-03-01T00:15:00Z", "2026-03-01T00:30:00Z"]
    assert message.xpath("//m:ReadingQualityType/@ref", namespaces=names) == ["2.5.259"]


def test_a_refusal_arrives_as_a_typed_fault(client, metering_peer, answers):
    metering_peer.answer, metering_peer.status = answers[1]("MeterReadings"), 500
    done = run(str(client), metering_peer.url, cwd=client.parent)
    assert done.returncode == 3, done.stderr
    assert done.stdout == (
        "refused readings-refused at /m:MeterReadings[1]/m:MeterReading[2] retry after-fix signature 32\n"
    )
