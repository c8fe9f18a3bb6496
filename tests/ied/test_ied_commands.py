"""gridpost-ied as a person types it: the installed program, a real bus on the other side."""

import contextlib
import datetime
import ipaddress
import json
import os
import pty
import re
import socket
import ssl
import subprocess
import sys
import time
import tomllib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gridpost.ied_soap_client import config as settings
from gridpost.ied_soap_client import contract
from gridpost.ied_soap_client.control_book import Closing, ControlBook
from gridpost.ied_soap_client.spool import Batch, Spool

from gridpost import enrolment, exchange
from gridpost.controls import Control
from gridpost.errors import ConfigInvalid
from gridpost.model import Enrolment
from gridpost.testing import ThrowawayCA

from .conftest import SERIAL, TestBus, channel_table, serve


def ied(*arguments, stdin=None):
    command = [sys.executable, "-c", "from gridpost.ied_soap_client.cli import main; main()", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(command, capture_output=True, input=stdin, timeout=60, env=environment, text=True)


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text(channel_table())
    return file


def csv_of(*rows):
    return "channel,interval_end_utc,value,quality\n" + "".join(f"{row}\n" for row in rows)


def test_init_enrols_writes_a_commented_configuration_and_checks_the_contract(tmp_path, bus, table):
    folder = tmp_path / "device"
    command = ("init", "--bus", bus.url, "--code", bus.code, "--channels", table, "--modbus", "127.0.0.1:1502")
    done = ied(*command, folder, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert (said["serial"], said["meters"], said["contract"]["problems"]) == (SERIAL, 1, [])
    tables = tomllib.loads((folder / "ied.toml").read_text())
    assert tables == {
        "bus": {"url": bus.url}, "identity": {"serial": SERIAL}, "spool": {}, "channels": {}, "push": {}, "poll": {},
        "control": {}, "meter": [{"id": "M1", "host": "127.0.0.1", "port": 1502, "unit": 1}],
    }  # fmt: skip
    for kind in (*settings.SECTIONS.values(), *settings.LISTS.values()):
        for name in kind.__dataclass_fields__:
            assert (
                f"# {name} = " in (folder / "ied.toml").read_text()
                or any(name in t for t in tables["meter"])
                or (name in ("url", "serial"))
            ), f"{name} is not shown"
    assert settings.load(folder / "ied.toml").identity.serial == SERIAL
    assert (folder / "ied.key").stat().st_mode & 0o777 == 0o600
    assert (folder / "metering.wsdl").read_bytes().startswith(b"<?xml")
    assert json.loads((folder / "contract.json").read_text())["read"] is True
    assert bus.code.partition(".")[2] not in "".join(p.read_text() for p in folder.iterdir()), "the secret is not kept"


def test_init_again_goes_on_with_the_same_key_and_certificate(tmp_path, bus, table):
    folder = tmp_path / "device"
    command = ("init", "--bus", bus.url, "--code", bus.code, folder)
    lost = bus.enrol
    bus.enrol = lambda raw, headers: (lost(raw, headers), (502, b"", {}))[1]  # issued, but the answer is lost
    failed = ied(*command)
    assert (failed.returncode, "HTTP 502" in failed.stderr) == (1, True)
    assert failed.stderr.startswith("error[bus-unreachable]: "), "later, not a bus to distrust"
    assert not (folder / "ied.toml").exists()
    key = (folder / "ied.key").read_bytes()
    bus.enrol = lost
    assert ied(*command).returncode == 0
    (certificate,) = bus.issued.values()
    assert (folder / "ied.key").read_bytes() == key
    (folder / "ied.toml").write_text((folder / "ied.toml").read_text() + "\n# mine\n")
    assert ied(*command).returncode == 0
    assert len(bus.issued) == 1
    assert "# mine" in (folder / "ied.toml").read_text(), "settings a person changed stay"
    other = enrolment.make_code("IED-9", bus.secret, bus.ca.certificate)
    refused = ied("init", "--bus", bus.url, "--code", other, folder)
    assert (refused.returncode, "already holds the identity of IED-7" in refused.stderr) == (1, True)
    assert bus.device == certificate


def test_init_again_with_other_wishes_is_refused_and_changes_nothing(tmp_path, bus, table):
    folder = tmp_path / "device"
    command = ("init", "--bus", bus.url, "--code", bus.code, "--channels", table, "--modbus", "127.0.0.1:1502", folder)
    assert ied(*command).returncode == 0
    again = ied(*command)
    assert (again.returncode, "stay as they are" in again.stdout) == (0, True)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    table.write_text(channel_table(meters=2))
    (tmp_path / "tls.pem").write_text("")
    other = ("--bus", "http://127.0.0.1:1", "--modbus", "127.0.0.1:1503", "--tls-ca", tmp_path / "tls.pem")
    done = ied(*command, *other)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error[already-exists]: ")
    for option in ("--bus", "--modbus", "--tls-ca", "--channels"):
        assert f"  {option}: " in done.stderr
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda bus: (bus.url, bus.code[:-3] + "AAA"), "answer-untrusted"),  # the fingerprint's end
        (lambda bus: (bus.url, enrolment.make_code(SERIAL, b"9876543210", bus.ca.certificate)), "enrolment-refused"),
        (lambda bus: (bus.url, enrolment.make_code(SERIAL, bus.secret, ThrowawayCA().certificate)), "answer-untrusted"),
        (lambda bus: ("http://127.0.0.1:1", bus.code), "bus-unreachable"),
    ],
)
def test_init_that_cannot_be_says_why_and_leaves_no_configuration(tmp_path, bus, change, code):
    url, text = change(bus)
    done = ied("init", "--bus", url, "--code", text, tmp_path / "device")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error[{code}]: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "device" / "ied.toml").exists()


def test_init_into_a_folder_that_cannot_be_made_is_unwritable(tmp_path, bus):
    (tmp_path / "file").write_text("")
    done = ied("init", "--bus", bus.url, "--code", bus.code, tmp_path / "file" / "device")
    assert (done.returncode, done.stderr.split(":")[0]) == (1, "error[file-unwritable]")


def test_a_wsdl_that_cannot_be_had_is_a_warning(tmp_path, bus):
    genuine = bus.get
    bus.get = lambda path: (404, b"", {}) if path == "/metering" else genuine(path)
    done = ied("init", "--bus", bus.url, "--code", bus.code, tmp_path / "device")
    assert done.returncode == 0
    assert done.stderr.startswith("warning[contract]: the WSDL could not be read")


def test_a_wsdl_that_differs_is_told(tmp_path, bus):
    genuine = bus.get

    def changed(path):
        status, body, headers = genuine(path)
        return status, body.replace(b"/MeterReadings/CreatedMeterReadings", b"/MeterReadings/Other"), headers

    bus.get = changed
    found = contract.check(bus.url, tmp_path)
    assert found.read
    assert found.problems == (
        "PublishCreatedMeterReadings: action is 'http://iec.ch/TC57/2011/MeterReadings/Other' at the bus, "
        "'http://iec.ch/TC57/2011/MeterReadings/CreatedMeterReadings' here",
    )
    assert contract.compare({}) == [f"the bus offers no operation {name}" for name in contract.EXPECTED]


def https_certificate(folder):
    """A key and a certificate for 127.0.0.1 that no machine trusts by itself, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "private")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    built = built.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
    built = built.add_extension(x509.BasicConstraints(True, None), True)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    certificate = built.sign(key, hashes.SHA256()).public_bytes(pem)
    (folder / "tls.pem").write_bytes(certificate)
    (folder / "tls.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return folder / "tls.pem", folder / "tls.key"


def test_the_contract_is_checked_behind_a_private_ca_too(tmp_path):
    certificate, key = https_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    bus = TestBus()
    server = serve(bus)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    bus.url = bus.url.replace("http:", "https:")
    try:
        done = ied("init", "--bus", bus.url, "--code", bus.code, "--tls-ca", certificate, tmp_path / "device", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["contract"]["problems"] == []
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def device(enrolled):
    return enrolled()


def ends(count):
    now = int(time.time())
    first = now - now % 900 - 900 * (count - 1)
    return [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(first + 900 * number)) for number in range(count)]


def test_push_sends_a_file_or_standard_input(tmp_path, bus, device):
    first, second, third = ends(3)
    (tmp_path / "day.csv").write_text(csv_of(f"E1,{first},1.250,", f"E1,{second},,2.5.259"))
    done = ied("push", "--config", device.file, tmp_path / "day.csv", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["receipted"] == 1
    assert ied("push", "--config", device.file, "-", stdin=csv_of(f"E1,{third},7,")).returncode == 0
    assert [versions for _, versions in sorted(bus.readings().items())] == [
        [("1.250", ())], [(None, ("2.5.259",))], [("7", ())],
    ]  # fmt: skip
    out = tmp_path / "receipts"
    said = json.loads(ied("receipts", "--config", device.file, "--out", out, "--json").stdout)
    assert said["receipts"] == 2
    assert {file.stem: file.read_bytes() for file in out.iterdir()} == {
        name: raw for name, (_, raw) in bus.receipts.items()
    }


def test_push_of_a_bad_file_takes_nothing_of_it(tmp_path, bus, device):
    first, second = ends(2)
    done = ied("push", "--config", device.file, "-", stdin=csv_of(f"E1,{first},1,", f"E1,{second},1_000,"))
    assert done.returncode == 1
    assert done.stderr.startswith("error[file-invalid]: ")
    assert "line 3" in done.stderr
    assert json.loads(ied("status", "--config", device.file, "--json").stdout)["readings_waiting"] == 0
    assert bus.received == []
    missing = ied("push", "--config", device.file, tmp_path / "none.csv")
    assert (missing.returncode, "Traceback" in missing.stderr) == (2, False)


def test_push_without_a_bus_keeps_the_readings_and_says_so(bus, device):
    bus.behave = lambda raw, receive: (503, b"", {})
    (first,) = ends(1)
    done = ied("push", "--config", device.file, "-", stdin=csv_of(f"E1,{first},1,"))
    assert done.returncode == 1
    assert "error[bus-unreachable]" in done.stderr
    status = json.loads(ied("status", "--config", device.file, "--json").stdout)
    assert (status["readings_waiting"], status["messages_pending"]) == (1, 1)
    bus.behave = None
    assert ied("retry", "--config", device.file).returncode == 0
    assert len(bus.messages) == 1


def test_a_refused_message_is_listed_and_retried_after_the_cause_is_gone(bus, device):
    (first,) = ends(1)
    channels, bus.channels = bus.channels, ()
    done = ied("push", "--config", device.file, "-", stdin=csv_of(f"E1,{first},1,", f"B1,{first},1,"))
    assert done.returncode == 1
    assert "error[readings-refused]: message " in done.stderr
    assert done.stderr.count(" [unknown-channel]\n") == 2
    status = ied("status", "--config", device.file).stdout
    (message,) = json.loads(ied("status", "--config", device.file, "--json").stdout)["messages"]
    assert [item["code"] for item in message["items"]] == ["unknown-channel"] * 2, "each channel is one finding"
    assert all(f"  {item['path']}: {item['reason']} [unknown-channel]\n" in status for item in message["items"])
    bus.channels = channels
    retried = ied("retry", "--config", device.file, "--json")
    assert retried.returncode == 0
    said = json.loads(retried.stdout)
    assert (said["retried"], said["receipted"]) == (1, 1)


def test_seal_writes_a_message_any_transport_may_carry(tmp_path, bus, device):
    first, second = ends(2)
    rows = csv_of(f"E1,{first},1.5,", f"E1,{second},2,1.4.3")
    out = tmp_path / "message.xml"
    done = ied("seal", "--config", device.file, "-", "--out", out, "--json", stdin=rows)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    opened = exchange.open_(exchange.read(out.read_bytes()), Enrolment(SERIAL, bus.device, None, bus.channels))
    header = opened.message.header
    assert (header.message_id, header.sequence) == (said["message_id"], said["sequence"]) == (header.message_id, 1)
    assert opened.message.readings.blocks[0].values == ("1.5", "2")
    again = ied("seal", "--config", device.file, "-", "--out", out, "--json", stdin=rows)
    assert json.loads(again.stdout)["sequence"] == 2
    nowhere = ied("seal", "--config", device.file, "-", "--out", tmp_path / "no" / "m.xml", stdin=rows)
    assert nowhere.returncode == 1
    assert nowhere.stderr.startswith("error[file-unwritable]: ")
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[bus]\nurl = 'http://b'\n[identity]\nserial = 'x'\n[spoool]\n", "spoool"),
        ("[bus]\nurl = 'http://b'\ntimeout = 3\n[identity]\nserial = 'x'\n", "timeout"),
        ("[bus]\nurl = 'http://b'\ntimeout_s = 'x'\n[identity]\nserial = 'x'\n", "timeout_s"),
        ("[bus]\nurl = 'http://b'\ntimeout_s = true\n[identity]\nserial = 'x'\n", "timeout_s"),
        ("[bus]\nurl = 'ftp://b'\n[identity]\nserial = 'x'\n", "bus.url"),
        ("[bus]\nurl = 'http://b'\n", "identity.serial"),
        ("[bus]\nurl = 'http://b'\n[identity]\nserial = 'x'\n[push]\nevery_s = 0\n", "push.every_s"),
        ("[bus]\nurl = 'http://b'\n[identity]\nserial = 'x'\n[[meter]]\nid = 'M1'\ndail = 9\n", "dail"),
        ("[bus]\nurl = 'http://b'\n[identity]\nserial = 'x'\n[[meter]]\nid = 'M1'\nratio = '1e3'\n", "1e3"),
        (
            "[bus]\nurl = 'http://b'\n[identity]\nserial = 'x'\n[[meter]]\nid = 'M1'\n[meter.points]\nE1 = 'Tot'\n",
            "TotWhImp",
        ),
        ("[bus]\nurl = 'http://b'\n[identity]\nserial = 'x'\n[meter]\nid = 'M1'\n", "[[meter]]"),
        ("[bus\n", "ied.toml"),
    ],
)
def test_a_mistyped_setting_is_named(tmp_path, text, named):
    (tmp_path / "ied.toml").write_text(text)
    with pytest.raises(ConfigInvalid) as caught:
        settings.load(tmp_path / "ied.toml")
    assert named in caught.value.reason


@pytest.mark.parametrize("command", ["run", "status", "retry"])
def test_commands_without_an_enrolled_device_say_what_to_do(tmp_path, command):
    done = ied(command, "--config", tmp_path / "ied.toml")
    assert done.returncode == 1
    assert done.stderr.startswith("error[not-found]: ")
    assert "init" in done.stderr


def test_usage_errors_exit_2():
    assert ied("run", "--nonsense").returncode == 2
    assert ied("simulate", "--meters", "0").returncode == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--bus", "nonsense"),
        ("--code", "IED-7.ABC"),
        ("--modbus", "127.0.0.1"),
        ("--modbus", "127.0.0.1:1502"),  # without --channels
        ("--channels", "nowhere.csv"),
        ("--tls-ca", "nowhere.pem"),
    ],
)
def test_a_mistyped_option_of_init_is_a_wrong_command_line(tmp_path, bus, option, value):
    done = ied("init", "--bus", bus.url, "--code", bus.code, option, value, tmp_path / "device")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: gridpost-ied init")
    assert option in done.stderr
    assert not (tmp_path / "device").exists()


def test_which_point_a_channel_is(enrolled):
    device = enrolled(meters=({"id": "M1", "points": {"B1": "TotWhExpPhA"}},))
    config = device.config
    found = settings.points(config.meter[0], settings.channels(config))
    assert {channel.key.stream: point for channel, point in found.items()} == {"E1": "TotWhImp", "B1": "TotWhExpPhA"}
    wrong = settings.Meter(id="M1", points={"B1": "TotVAhExp"})
    with pytest.raises(ConfigInvalid, match="another unit"):
        settings.points(wrong, settings.channels(config))


def test_a_simulator_whose_port_is_taken_says_so():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = ied("simulate", "--port", port)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error[config-invalid]: cannot listen on 127.0.0.1:{port}: ")
    elsewhere = ied("simulate", "--host", "192.0.2.1")  # TEST-NET-1: no machine's own address
    assert (elsewhere.returncode, "Traceback" in elsewhere.stderr) == (1, False)


def test_a_disk_error_no_command_expects_is_one_line(tmp_path, bus, device):
    (device.folder / "ied.csr").mkdir()
    done = ied("init", "--bus", bus.url, "--code", bus.code, device.folder)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error[file-unwritable]: {device.folder / 'ied.csr'}: ")


def test_a_push_that_is_only_postponed_ends_in_the_refusals_own_error(bus, device):
    bus.clock = lambda: int(time.time() - 3600) * 1000
    (first,) = ends(1)
    # Sealed again by the time the bus told, the message is in time, but its reading lies in the bus's future.
    done = ied("push", "--config", device.file, "-", "--json", stdin=csv_of(f"E1,{first},1,"))
    assert done.returncode == 1
    assert "error[reading-in-future]: message " in done.stderr
    said = json.loads(done.stdout)
    assert (said["postponed"], said["refused"], said["receipted"]) == (1, 0, 0)
    assert said["error"]["code"] == "reading-in-future"
    assert said["problems"][0]["outcome"] == "postponed"


def test_a_failure_with_json_is_one_object_on_standard_output(tmp_path, bus, device):
    for command in (
        ("status", "--json", "--config", tmp_path / "no.toml"),
        ("run", "--config", tmp_path / "no.toml", "--json"),
    ):
        done = ied(*command)
        said = json.loads(done.stdout)
        assert (done.returncode, set(said), set(said["error"])) == (1, {"error"}, {"code", "reason", "items"})
        assert said["error"]["code"] == "not-found"
        assert done.stderr.startswith("error[not-found]: ")
    bus.behave = lambda raw, receive: (503, b"", {})
    (first,) = ends(1)
    done = ied("push", "--json", "--config", device.file, "-", stdin=csv_of(f"E1,{first},1,"))
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "bus-unreachable")
    plain = ied("status", "--config", tmp_path / "no.toml")
    assert (plain.returncode, plain.stdout) == (1, "")


def test_push_and_seal_show_a_bar_where_standard_error_is_a_terminal(tmp_path, bus, device):
    (first,) = ends(1)
    (tmp_path / "day.csv").write_text(csv_of(f"E1,{first},1,"))
    program = [sys.executable, "-c", "from gridpost.ied_soap_client.cli import main; main()"]
    for command, bars in (("push", ("keeping", "sending")), ("seal", ("sealing",))):
        ours, theirs = pty.openpty()
        out = ["--out", tmp_path / "m.xml"] if command == "seal" else []
        words = [*program, command, "--config", device.file, *out, tmp_path / "day.csv", "--json"]
        done = subprocess.run(list(map(str, words)), stdout=subprocess.PIPE, stderr=theirs, timeout=60)
        shown = os.read(ours, 65536).decode()
        os.close(ours)
        os.close(theirs)
        assert (done.returncode, json.loads(done.stdout)["readings"]) == (0, 1)
        for bar in bars:
            assert any(bar in line and "100%" in line for line in re.split(r"[\r\n]", shown)), shown
    assert "%" not in ied("push", "--config", device.file, tmp_path / "day.csv").stderr


def test_controls_lists_what_the_device_was_told_and_what_became_of_it(enrolled):
    device = enrolled()
    with contextlib.closing(Spool(device.folder / "spool.db")) as spool:
        book = ControlBook(spool)
        shed = Control("0-9-0", "grid-co", "utility", "t-1", "shed", SERIAL, "relay", counter=1)
        for one in (shed, shed._replace(mrid="0-9-1", action="restore", counter=2)):
            book.take(one, b"sealed", SERIAL, 1_772_323_200_000)
        book.close("0-9-0", Closing("refused", "this device does not obey grid-co", 1_772_323_201_000, Batch()))
    shown = ied("controls", "--config", device.file)
    assert shown.stdout.splitlines() == [
        "1 command(s) open, 2 known",
        "2 restore relay from grid-co as utility: open",
        "1 shed relay from grid-co as utility: refused this device does not obey grid-co",
    ]
    newest, oldest = json.loads(ied("controls", "--config", device.file, "--json").stdout)["controls"]
    assert (newest["state"], newest["closed"], newest["taken"]) == ("open", None, "2026-03-01T00:00:00.000Z")
    assert (oldest["state"], oldest["intent"], oldest["closed"]) == ("refused", None, "2026-03-01T00:00:01.000Z")
