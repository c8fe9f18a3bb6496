"""Calls to partners over real sockets: the example CIS, and services that are down, slow, wrong or hostile."""

import base64
import importlib.util
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from gridpost.adapters.cis import notifications as render
from gridpost.adapters.cis.answers import Credentials, judged, wrapping
from gridpost.adapters.cis.parse import parse_notification
from gridpost.adapters.cis.service import PartnerService
from gridpost.adapters.cis.tables import Version
from gridpost.adapters.soap_call import Partner, SoapCall

from gridpost import encrypted_readings, exchange, messages, ns, parts, schemas, testing
from gridpost.controls import Control, State
from gridpost.encrypted_readings import Clear
from gridpost.encryption import Reader, Secrets
from gridpost.errors import PartnerRefused, PartnerUnreachable
from gridpost.model import ChannelKey, EndDeviceEvent, Header, IntervalBlock, Readings, RegisterReading

ROOT = Path(__file__).parents[2]
AT = 1_772_323_200
KEY = ChannelKey("UP-1", "M1", "E1", "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0")
QUARTER = KEY._replace(reading_type="0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0")
READING = RegisterReading(KEY, AT, "1234.50")
EVENT = EndDeviceEvent("", "3.26.0.85", AT * 1000, "M1", "power failed")
V3_WSDL = ROOT / "wsdl" / "multispeak_v3_cb.wsdl"
CONTENT = render.reading_changed([READING], Version.V3, "t").content


def _load_cis():
    spec = importlib.util.spec_from_file_location("example_cis", ROOT / "examples/cis/cis.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cis_example = _load_cis()


@contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/multispeak"
    finally:
        server.shutdown()
        server.server_close()


def notifications(version):
    interval = IntervalBlock(QUARTER, 900, (AT, AT + 900), ("1", "2"), ((), ()))
    control = Control("0-1-0", "utility", "utility", "shed-7", "shed", "IED-1")
    return [
        render.reading_changed([READING], version, "t-1"),
        render.formatted_block([READING], version, "t-2"),
        render.interval_data(Readings((interval,)), version, "t-3"),
        render.meter_events([EVENT], version),
        render.state_changed("M1", control, State.DONE, version),
    ]


# --- the example CIS -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "version"), [("3", Version.V3), ("4", Version.V4)])
def test_every_notification_is_taken_once_however_often_it_is_sent(number, version):
    cis = cis_example.Cis(number, user="gridpost", password="secret")
    with running(cis_example.serve(cis)) as address:
        wrap = wrapping(version, Credentials("gridpost", "secret"), lambda: AT * 1000)
        delivery = SoapCall(Partner(f"{address}?wsdl", judge=judged, wrap=wrap))
        made = notifications(version)
        for _ in range(2):
            places = [delivery.deliver(f"m-{n}", one.content) for n, one in enumerate(made)]
    assert places == [address] * 5
    assert cis.calls == [one.operation for one in made] * 2
    assert len(cis.kept) == 5
    for n, one in enumerate(made):
        assert parse_notification(cis.kept[f"m-{n}"]) == parse_notification(one.content)


def test_a_meter_that_is_not_known_and_a_wrong_password_are_refused_with_the_partners_words():
    cis = cis_example.Cis("3", refuse="M1", user="gridpost", password="secret")
    with running(cis_example.serve(cis)) as address:
        for password, reason, findings in (
            ("secret", "m-1: meter M1 is not known here", [("partner-error", "M1")]),
            ("wrong", "the partner answers a fault: UserID or Pwd is not known here", [("partner-fault", "")]),
        ):
            wrap = wrapping(Version.V3, Credentials("gridpost", password), lambda: AT * 1000)
            with pytest.raises(PartnerRefused) as caught:
                SoapCall(Partner(f"{address}?wsdl", judge=judged, wrap=wrap)).deliver("m-1", CONTENT)
            assert caught.value.reason == reason
            assert [(item.code, item.path) for item in caught.value.items] == findings
    assert cis.kept == {}


def test_a_newcomer_starts_the_cis_and_sends_it_a_reading():
    """The two programs of examples/cis, as its README has them."""
    folder = ROOT / "examples" / "cis"
    command = [sys.executable, "-u", folder / "cis.py", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            address = program.stdout.readline().split('"wsdl": "')[1].split('"')[0]
            sent = subprocess.run(
                [sys.executable, folder / "send.py", address], capture_output=True, text=True, timeout=60
            )
            assert sent.stdout == f"ReadingChangedNotification was taken by {address.removesuffix('?wsdl')}\n", (
                sent.stderr
            )
            assert program.stdout.readline() == "ReadingChangedNotification taken: M1\n"
        finally:
            program.kill()


# --- a partner of IEC 61968-100 --------------------------------------------------------------------------------------


class Answering:
    """A server that answers every POST with what it is told, and keeps what it got."""

    def __init__(self, status=200, body=b"", headers=(), send=None):
        self.requests = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.requests.append(
                    (self.headers["SOAPAction"], self.rfile.read(int(self.headers["Content-Length"])))
                )
                if send:
                    send(self.connection)
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in [("Content-Length", str(len(body))), *headers]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                outer.requests.append(("GET", self.path))
                self.send_error(404)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def soap(content):
    return f'<s:Envelope xmlns:s="{ns.SOAP11}"><s:Body>{content}</s:Body></s:Envelope>'.encode()


def reply(result, errors=""):
    message = f'xmlns="{ns.MESSAGE}"'
    return soap(
        f'<EndDeviceEventsResponseMessage xmlns="{ns.END_DEVICE_EVENTS_MESSAGE}"><Header><Verb {message}>reply</Verb>'
        f"<Noun {message}>EndDeviceEvents</Noun></Header><Reply><Result {message}>{result}</Result>{errors}</Reply>"
        "</EndDeviceEventsResponseMessage>"
    )


def test_events_are_pushed_signed_as_iec_61968_100_has_them(tmp_path):
    signer = testing.ThrowawayCA().issue_bus()
    content = messages.encode(testing.events_message("bus", "m-1", [EVENT]))
    for name, document in schemas.documents().items():
        (tmp_path / name).write_bytes(document)
    wsdl = str(tmp_path / "metering.wsdl")
    answering = Answering(body=reply("OK"))
    with running(answering.server) as address:
        partner = Partner(wsdl, address, judged, lambda _, body: exchange.seal(body, signer, testing.NOW_UTC_MS))
        assert SoapCall(partner).deliver("m-1", content) == address
    ((action, raw),) = answering.requests
    assert action == '"http://iec.ch/TC57/2011/EndDeviceEvents/CreatedEndDeviceEvents"'
    opened = exchange.open_(exchange.read(raw), testing.enrolment(signer, "bus", []))
    assert opened.message.events == (EVENT,)
    error = f'<Error xmlns="{ns.MESSAGE}"><code>2.1</code><reason>not ours</reason></Error>'
    with running(Answering(body=reply("FAILED", error)).server) as address:
        refused = SoapCall(Partner(wsdl, address, judged))
        with pytest.raises(PartnerRefused, match="not ours"):
            refused.deliver("m-1", content)


def test_what_a_device_sealed_for_several_readers_is_pushed_octet_by_octet(tmp_path):
    for name, document in schemas.documents().items():
        (tmp_path / name).write_bytes(document)
    device, key = testing.ThrowawayCA().issue_device("IED-1"), ec.generate_private_key(ec.SECP256R1())
    readings = Readings((IntervalBlock(QUARTER, 900, (AT,), ("7.125",), ((),)),))
    secrets = Secrets(bytes(range(32)), bytes(12), ec.generate_private_key(ec.SECP256R1()))
    clear = {"billing": Clear(readings, [Reader("acme", key.public_key())], secrets)}
    header = Header("created", "EncryptedReadings", testing.NOW_UTC_MS, "IED-1", "m-1", sequence=1)
    raw = exchange.seal(encrypted_readings.encode(header, clear), device, testing.NOW_UTC_MS)
    mail = f'<SealedReadings xmlns="{ns.ENCRYPTED_READINGS}">{base64.b64encode(raw).decode()}</SealedReadings>'.encode()
    answer = (
        f'<EncryptedReadingsResponseMessage xmlns="{ns.ENCRYPTED_READINGS}"><Header xmlns="{ns.MESSAGE}"/>'
        f'<Reply><Result xmlns="{ns.MESSAGE}">OK</Result></Reply></EncryptedReadingsResponseMessage>'
    )
    answering = Answering(body=soap(answer))
    with running(answering.server) as address:
        assert PartnerService(str(tmp_path / "metering.wsdl"), address).deliver("acme-1", mail) == address
        with pytest.raises(PartnerRefused):  # one that knows no such message is not called at all
            PartnerService(str(V3_WSDL), address).deliver("acme-1", mail)
    ((_, got),) = answering.requests
    assert got == raw
    opened = exchange.open_(exchange.read(got), testing.enrolment(device, "IED-1", [])).message
    assert parts.open_parts(opened, key) == {"billing": readings}


# --- bad partners ----------------------------------------------------------------------------------------------------

RESULT = "ReadingChangedNotificationResponse"
OK = soap(f'<{RESULT} xmlns="{Version.V3}"/>')
FAULT = "<s:Fault><faultcode>{}</faultcode><faultstring>no &lt; no</faultstring></s:Fault>"


def _drip(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    with suppress(OSError):  # until the other side has had enough
        while True:
            connection.sendall(b" ")
            connection.settimeout(0.05)
            try:
                if connection.recv(1) == b"":
                    raise OSError("gone")
            except TimeoutError:
                continue


def _cut(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(OK) + OK[:-9])


def _flood(connection):
    with suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
        while True:
            connection.sendall(b" " * 65536)


KEPT = {
    "html": {"body": b"<html><body>Welcome</body></html>", "headers": [("Content-Type", "text/html")]},
    "html-error": {"status": 502, "body": b"<h1>Bad gateway</h1>"},
    "nothing": {},
    "not-found": {"status": 404},
    "forbidden": {"status": 403},
    "fault-server": {"status": 500, "body": soap(FAULT.format("s:Server"))},
    "fault-without-code": {"status": 500, "body": soap("<s:Fault><faultstring>x</faultstring></s:Fault>")},
    "answer-of-another-operation": {"body": OK.replace(b"ReadingChanged", b"MeterEvent")},
    "answer-with-status-500": {"status": 500, "body": OK},
    "two-in-the-body": {"body": OK.replace(b"</s:Body>", b"<b/></s:Body>")},
    "more-than-an-answer-holds": {"body": OK + b" " * (1 << 20)},
    "document-type": {"body": b"<!DOCTYPE x>" + OK},
    "drops-the-connection": {"send": lambda connection: None},
    "cut-off": {"send": _cut},
    "drips": {"send": _drip},
    "floods": {"send": _flood},
}  # fmt: skip
REFUSED = {
    "fault-client": {"status": 500, "body": soap(FAULT.format("s:Client"))},
    "fault-client-detailed": {"status": 500, "body": soap(FAULT.format("soapenv:Client.Authentication"))},
    "bad-request": {"status": 400, "body": b"what?"},
    "too-large": {"status": 413},
}


@pytest.mark.parametrize("name", KEPT)
def test_a_partner_that_answers_otherwise_gets_the_message_again_later(name):
    with running(Answering(**KEPT[name]).server) as address:
        delivery = SoapCall(Partner(str(V3_WSDL), address, judged, timeout_s=1))
        with pytest.raises(PartnerUnreachable):
            delivery.deliver("m", CONTENT)
    with running(Answering(body=OK).server) as address:
        assert SoapCall(Partner(str(V3_WSDL), address, judged)).deliver("m", CONTENT) == address


@pytest.mark.parametrize("name", REFUSED)
def test_a_partner_that_blames_the_message_refuses_it(name):
    with running(Answering(**REFUSED[name]).server) as address, pytest.raises(PartnerRefused):
        SoapCall(Partner(str(V3_WSDL), address, judged)).deliver("m", CONTENT)


def test_a_partner_that_is_down_is_tried_again():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/"
    with pytest.raises(PartnerUnreachable):
        SoapCall(Partner(str(V3_WSDL), address)).deliver("m", CONTENT)


def test_no_redirect_is_followed():
    other = Answering(body=OK)
    with running(other.server) as elsewhere:
        for status in (301, 302, 307, 308):
            answering = Answering(status, headers=[("Location", elsewhere)])
            with running(answering.server) as address, pytest.raises(PartnerUnreachable, match=f"HTTP {status}"):
                SoapCall(Partner(str(V3_WSDL), address)).deliver("m", CONTENT)
    assert other.requests == []


def test_a_message_the_partners_wsdl_has_no_room_for_never_leaves():
    answering = Answering(body=OK)
    with running(answering.server) as address:
        delivery = SoapCall(Partner(str(V3_WSDL), address))
        with pytest.raises(PartnerRefused, match=r"no operation for \{urn:x\}Other"):
            delivery.deliver("m", b'<Other xmlns="urn:x"></Other>')
        with pytest.raises(PartnerRefused, match="does not take this message"):
            delivery.deliver("m", CONTENT.replace(b"<meterNo>M1</meterNo>", b"<meterNumber>M1</meterNumber>"))
    assert answering.requests == []


@pytest.mark.parametrize("place", ["http://127.0.0.1:{port}/x.xsd", "file:///etc/hostname", "../outside.xsd"])
def test_a_wsdl_that_asks_for_other_places_is_not_read(tmp_path, place):
    other = Answering()
    (tmp_path / "outside.xsd").write_text('<s:schema xmlns:s="http://www.w3.org/2001/XMLSchema"/>')
    (tmp_path / "in").mkdir()
    with running(other.server):
        location = place.format(port=other.server.server_address[1])
        include = f'<s:include schemaLocation="{location}"/>'
        text, found = re.subn(r"<s:schema [^>]*>", lambda tag: tag[0] + include, V3_WSDL.read_text(), count=1)
        assert found == 1
        (tmp_path / "in" / "partner.wsdl").write_text(text)
        with pytest.raises(PartnerUnreachable, match="not beside it"):
            SoapCall(Partner(str(tmp_path / "in" / "partner.wsdl"), "http://127.0.0.1:1/")).deliver("m", CONTENT)
    assert other.requests == []


@pytest.mark.parametrize(
    "text", ["", "<html/>", '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><x>&e;</x>', None]
)
def test_a_description_that_cannot_be_read_is_asked_for_again_at_the_next_call(tmp_path, text):
    wsdl = tmp_path / "partner.wsdl"
    if text is not None:
        wsdl.write_text(text)
    with running(Answering(body=OK).server) as address:
        delivery = SoapCall(Partner(str(wsdl), address, judged))
        with pytest.raises(PartnerUnreachable, match="cannot be read"):
            delivery.deliver("m", CONTENT)
        wsdl.write_text(V3_WSDL.read_text())
        assert delivery.deliver("m", CONTENT) == address
