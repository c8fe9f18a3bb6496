"""A device that knows RSA only gets its command from a running bus sealed with RSA, the same bytes each time."""

from __future__ import annotations

import contextlib

from cryptography.hazmat.primitives.asymmetric import rsa
from live_bus import LiveBus, run
from live_office import LISTENING, SOAP_TYPE, Office, fetch, given, shed

RSA, ECDSA = b"xmldsig-more#rsa-sha256", b"xmldsig-more#ecdsa-sha256"


def test_a_control_is_sealed_in_the_family_of_the_key_that_fetched_it(tmp_path):
    folder = tmp_path / "bus"
    assert run("init", folder, "--http", "127.0.0.1:0", "--json").returncode == 0
    bus = LiveBus(folder)
    second = {"rsa_certificate": "bus-rsa.pem", "rsa_key": "bus-rsa.key"}
    bus.configure(office=LISTENING, identity=second)
    bus.start()
    with contextlib.ExitStack() as closing:
        closing.callback(bus.kill)
        office = Office.make(bus)
        closing.callback(office.close)
        devices = (bus.enrol("IED-R", key=rsa.generate_private_key(65537, 2048)), bus.enrol("IED-E"))
        office.take_in("IED-R", "IED-E")
        mrids = office.asked(shed("r", "IED-R"), shed("e", "IED-E"))
        for device, mrid, mine, other in zip(devices, mrids, (RSA, ECDSA), (ECDSA, RSA), strict=True):
            status, first, _ = bus.wire.request("POST", "/metering", fetch(device), SOAP_TYPE)
            assert status == 200, first
            assert (mine in first, other in first) == (True, False)
            assert (given(device, first).mrid, given(device, first).target) == (mrid, device.serial)
            assert bus.wire.request("POST", "/metering", fetch(device), SOAP_TYPE)[1] == first
