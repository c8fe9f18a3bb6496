"""How a partner is called: its private CA, and the password its MultiSpeak service asks for, over real TLS."""

from __future__ import annotations

import importlib.util
import json
import ssl
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from gridpost.adapters.cis import PartnerService
from gridpost.server.cli import group
from gridpost.server.office.pushing import FIRST_MS, Pushes, calling
from gridpost.server.store import create, open_store
from office_world import write_server_certificate

from gridpost import messages, testing
from gridpost.model import EndDeviceEvent, Entry, Rows
from gridpost.requests import Mail

ROOT = Path(__file__).parents[2]
PASSWORD = "cis secret 4711"


@pytest.fixture
def cis(tmp_path):
    """The example CIS behind HTTPS of a CA that nobody trusts by himself; its address."""
    spec = importlib.util.spec_from_file_location("example_cis", ROOT / "examples/cis/cis.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    write_server_certificate(tmp_path, testing.ThrowawayCA("a CA of its own"))
    made = example.Cis("3", user="gridpost", password=PASSWORD)
    server = example.serve(made)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    made.address = f"https://127.0.0.1:{server.server_address[1]}/multispeak"
    # The description states http; it lies in a file, which has the true address.
    text = (ROOT / "wsdl/multispeak_v3_cb.wsdl").read_text().replace("http://localhost/multispeak", made.address)
    (tmp_path / "cis.wsdl").write_text(text)
    yield made
    server.shutdown()
    server.server_close()


class Bus:
    """A store with one mail for the partner P, pushes as the bus makes them, and the commands beside."""

    def __init__(self, folder):
        self.folder, self.now = folder, time.time_ns() // 1_000_000
        create(folder / "gridpost.db")
        (folder / "gridpost.toml").write_text("[office]\nhttp = '127.0.0.1:0'\n")
        self.store = open_store(folder / "gridpost.db", lambda: self.now, serve=True)
        self.store.add_ied("IED-1", "", b"0123456789", [testing.channel()])
        self.store.set_tenants("IED-1", ["north"])
        entry = Entry("IED-1", "m-0", "EndDeviceEvents", "http", bytes(32), 0, None, "", b"x")
        self.store.record(entry, Rows(), lambda *_: b"receipt").result(30)
        bus = testing.ThrowawayCA().issue_bus("bus")
        self.pushes = Pushes(self.store, calling(lambda: PartnerService, bus, lambda: self.now), lambda: self.now)

    def run(self, *arguments, code=0):
        given = [*map(str, arguments), "--config", str(self.folder / "gridpost.toml"), "--json"]
        done = CliRunner().invoke(group, given, catch_exceptions=False)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    def post(self):
        event = EndDeviceEvent("", "3.26.0.85", self.now, "M1", "power failed")
        content = messages.encode(testing.events_message("bus", "m-1", [event]))
        self.store.post("controls", {0: 0}, {}, [Mail("P", "events", "EndDeviceEvents", content)]).result(30)

    def pushed(self):
        """Call again now, and return what became of the mail."""
        self.now += FIRST_MS * 64
        told, ends = [], time.monotonic() + 60
        while not told and time.monotonic() < ends:
            told = self.pushes.step()
            time.sleep(0.01)
        (sent,) = told
        return sent


@pytest.fixture
def bus(tmp_path):
    made = Bus(tmp_path)
    yield made
    made.pushes.close()
    made.store.close()


def test_a_private_ca_and_a_password_of_the_partners_entry_are_used_and_never_told(bus, cis, tmp_path):
    secret = tmp_path / "cis.password"
    place = ("--endpoint", cis.address, "--wsdl", tmp_path / "cis.wsdl", "--push-user", "gridpost")
    bus.run("partner", "add", "P", "--role", "utility", "--tenant", "north", *place)
    examined = partial(bus.run, "doctor", "--partner", "P")
    bus.post()
    assert "certificate verify failed" in bus.pushed().reason
    (found,) = [one for one in examined(code=1)["checks"] if "certificate verify failed" in one["found"]]
    assert "gridpost partner set P --ca FILE" in found["advice"]

    bus.run("partner", "set", "P", "--ca", tmp_path / "ca.pem")
    assert not [one for one in examined(code=1)["checks"] if "verify failed" in one["found"]]
    sent = bus.pushed()
    assert "UserID or Pwd is not known here" in sent.reason, "no password is kept yet"

    secret.write_text(f"{PASSWORD}\nanything below the first line\n")
    shown = bus.run("partner", "set", "P", "--push-password-file", secret)
    assert shown["push_password_file"] == str(secret)
    secret.unlink()
    bus.store.retry_dead_letters()
    assert "cis.password: No such file" in (sent := bus.pushed()).reason
    assert sent.kept, "nothing is lost for a file that is not there"
    (found,) = [one for one in examined(code=1)["checks"] if one["check"] == "secret"]
    assert (found["state"], str(secret) in found["found"]) == ("fail", True)
    # The file is read at each call: put back, it counts at once.
    secret.write_text(PASSWORD)
    assert bus.pushed().place == cis.address
    assert cis.calls == ["MeterEventNotification"]
    everything = json.dumps([bus.run("partner", "show", "P"), examined(code=1)])
    assert PASSWORD not in everything
    assert PASSWORD.encode() not in (tmp_path / "gridpost.db").read_bytes()


def test_a_file_that_is_none_is_refused_when_it_is_named(bus, tmp_path):
    (tmp_path / "no.pem").write_text("no certificate")
    for option, file in (("--ca", "no.pem"), ("--ca", "absent.pem"), ("--push-password-file", "absent")):
        given = ["partner", "add", "P", "--role", "utility", "--tenant", "north", option, str(tmp_path / file)]
        done = CliRunner().invoke(group, [*given, "--config", str(tmp_path / "gridpost.toml")])
        assert done.exit_code == 2
        assert file in done.output
    assert bus.store.partners() == []
