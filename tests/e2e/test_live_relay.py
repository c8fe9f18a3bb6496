"""An office's signed shed opens the simulated relay behind a device that only calls out, and its outcome comes back."""

import contextlib
import json
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gridpost.ied_soap_client import config as settings
from live_bus import BIN, channel_table, run
from live_office import LISTENING, Office, content, shed

SERIAL, SECONDS = "IED-R", 60


@contextlib.contextmanager
def running(*arguments):
    command = [BIN / "gridpost-ied", *map(str, arguments), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(condition):
    """Poll for what other processes do, and return what it gave."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {SECONDS} s")


@pytest.fixture
def site(make_bus, tmp_path):
    """A bus, an office, a simulated meter with its relay, and a device's settings; the device does not run yet."""
    bus = make_bus(office=LISTENING).start()
    table = tmp_path / "channels.csv"
    table.write_text(channel_table(f"M-{SERIAL}"))
    key = ec.generate_private_key(ec.SECP256R1())
    device = bus.enrol(SERIAL, table.read_text(), key)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (tmp_path / "ied.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    for name, certificate in (("ied.pem", device.signer.certificate), ("ca.pem", device.ca)):
        (tmp_path / name).write_bytes(x509.load_der_x509_certificate(certificate).public_bytes(pem))
    office = Office.make(bus)
    office.take_in(SERIAL)
    with running("simulate") as simulator:
        placed = json.loads(simulator.stdout.readline())
        where = {"host": placed["host"], "port": placed["meters"][0]["port"], "unit": 1}
        relay = {"name": "load", "coil": 0, "serial": "SIM00001", "actions": {"shed": "0", "restore": "1"}} | where
        values = {
            "bus": {"url": bus.addresses[0]},
            "identity": {"serial": SERIAL},
            "control": {"long_poll_s": 60},
            "push": {"backoff_first_s": 1, "backoff_most_s": 1},
            "obey": [{"issuer": "NORTH", "role": "utility", "actions": "shed restore request-data"}],
            "output": [relay],
        }
        file = tmp_path / "ied.toml"
        file.write_text(settings.render(values, ({"id": f"M-{SERIAL}", **where},)))
        yield bus, office, simulator, file
    office.close()


def outcomes(office) -> dict[str, str]:
    """State of each control by its issuer's name for it, as told in the mailbox: the reason of the final outcome."""
    mails = [mail for mail in office.mails() if mail.kind.startswith("outcome-")]
    return {f"{mail.correlation_id} {mail.kind}": content(mail).events[0].details["outcomeReason"] for mail in mails}


def test_a_shed_opens_the_relay_once_and_its_outcome_is_in_the_mailbox_over_kills(site):
    bus, office, simulator, file = site

    def done(mrid):
        return office.state(mrid) not in ("waiting", "fetched", "accepted") and office.state(mrid)

    with running("run", "--config", file) as device:
        until(lambda: json.loads(device.stdout.readline())["event"] == "receipted")
        (opened,) = office.asked(shed("open", SERIAL))
        assert json.loads(simulator.stdout.readline()) == {"event": "relay", "meter": "SIM00001", "closed": False}
        assert until(lambda: done(opened)) == "done"
        (wrong,) = office.asked(shed("wrong", SERIAL, output="pump"))
        assert until(lambda: done(wrong)) == "refused"
        (read,) = office.asked(shed("read", SERIAL, action="request-data", output=""))
        assert until(lambda: done(read)) == "done"
    # The device was killed, with its fetch open; the bus too.
    bus.kill()
    bus.start()
    values = file.read_text().splitlines()
    url = next(line for line in values if line.startswith("url ="))
    file.write_text(file.read_text().replace(url, f'url = "{bus.addresses[0]}"'))
    (closed,) = office.asked(shed("close", SERIAL, action="restore"))
    with running("run", "--config", file):
        assert json.loads(simulator.stdout.readline()) == {"event": "relay", "meter": "SIM00001", "closed": True}
        assert until(lambda: done(closed)) == "done"
        until(lambda: len(outcomes(office)) == 4)
    assert outcomes(office) == {
        "open outcome-done": "coil 0 is 0",
        "wrong outcome-refused": "this device has no output pump",
        "read outcome-done": "1 registers read",
        "close outcome-done": "coil 0 is 1",
    }
    listed = run("controls", "--config", file, "--json", program="gridpost-ied")
    assert [one["state"] for one in json.loads(listed.stdout)["controls"]] == ["done", "done", "refused", "done"]
