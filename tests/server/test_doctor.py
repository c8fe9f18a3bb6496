"""gridpost doctor: each defect a partner may have, on file or at a real listener, is found with what to change."""

from __future__ import annotations

import datetime
import json
import shutil
import ssl
import threading
from contextlib import contextmanager
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from gridpost.server.commands.doctor import command
from gridpost.server.store import DeadLetter, create, open_store

from gridpost import tabular, testing
from gridpost.controls import Control, NewControl, Role, State
from gridpost.errors import NotFound
from gridpost.model import Entry, Rows
from gridpost.partners import Grant, Partner, Ways
from gridpost.requests import Mail

ROOT = Path(__file__).parents[2]
NOW_S = int(datetime.datetime.now(datetime.UTC).timestamp())
SIGNED = Ways()
CHANNELS = (
    "usage_point,meter,channel,reading_type,unit,interval_s,zone,valid_from\n"
    f"UP-1,M-1,E1,{testing.FORWARD_KWH_15MIN},kWh,900,Etc/UTC,2020-01-01T00:00:00Z\n"
)


class Partners:
    """A bus's folder with one partner, as the test wants it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.office = 'https = "127.0.0.1:8444"\ntls_certificate = "tls.pem"\ntls_key = "tls.key"'
        self.at_s = NOW_S
        self.store = open_store(folder / "gridpost.db", lambda: self.at_s * 1000, serve=True)

    def add(self, ways: Ways = SIGNED, kinds: tuple[str, ...] = ("billing", "events"), **changes) -> None:
        self.store.add_partner(Partner("P", "P", Role.UTILITY, "north", ways, **changes))
        self.store.give(*(Grant("P", "UP-1", kind) for kind in kinds))

    def certify(self, key=None, ends_days: int = 300, use: str = "signature", begins_days: int = -400) -> None:
        der = certificate(key or ec.generate_private_key(ec.SECP256R1()), begins_days, ends_days)
        self.store.add_partner_certificate("P", der.public_bytes(serialization.Encoding.DER), use)

    def ask(self, sealed_s: int) -> None:
        """Record a signed request for a command, sealed at a moment by the partner's clock, now by the bus's."""
        new = NewControl(Control("", "P", "utility", "t-1", "shed", "IED-1", "load"), State.WAITING, "P")
        entry = Entry("P", "m-1", "EndDeviceControls", "office", bytes(32), sealed_s * 1000, None, "", b"<x/>")
        self.store.record(entry, Rows(controls=(new,)), lambda *stated: b"receipt").result()

    def examined(self, *, well: bool) -> list[dict[str, str]]:
        """Run the command; return what it found, without what is well."""
        (self.folder / "gridpost.toml").write_text(f"[office]\n{self.office}\n")
        arguments = ["--partner", "P", "--json", "--timeout", "5", "--config", str(self.folder / "gridpost.toml")]
        done = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert done.exit_code == (0 if well else 1), done.output
        said = json.loads(done.stdout)
        assert said["ok"] is well
        found = [one for one in said["checks"] if one["state"] != "ok"]
        assert all(one["advice"] for one in found)
        return found


def certificate(key, begins_days: int, ends_days: int) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now + datetime.timedelta(days=begins_days))
    return builder.not_valid_after(now + datetime.timedelta(days=ends_days)).sign(key, hashes.SHA256())


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """A store with one IED, to copy."""
    file = tmp_path_factory.mktemp("doctor") / "gridpost.db"
    create(file)
    store = open_store(file, lambda: NOW_S * 1000)
    store.add_ied("IED-1", "revenue meter", bytes(10), tabular.channels(CHANNELS.encode()))
    store.set_tenants("IED-1", ["north"])
    store.close()
    return file


@pytest.fixture
def partners(tmp_path, made_once):
    shutil.copy(made_once, tmp_path)
    made = Partners(tmp_path)
    yield made
    made.store.close()


@contextmanager
def listening(
    answer=(405, {}), wsdl: str = "multispeak_v4_cb.wsdl", off_s: int = 0, tls: tuple[Path, Path] | None = None
):
    """A partner's service on a real socket; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            described = self.path.endswith("?wsdl")
            status, fields = (200, {}) if described else answer
            content = (
                (ROOT / "wsdl" / wsdl).read_bytes().replace(b"http://localhost", base.encode()) if described else b""
            )
            self.send_response_only(status)
            at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=off_s)
            for name, value in {
                "Date": format_datetime(at, usegmt=True),
                "Content-Length": len(content),
                **fields,
            }.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    base = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"{base}/multispeak"
    server.shutdown()
    server.server_close()


def told(found: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(one["check"], one["state"]) for one in found]


NOT_HTTPS = ("tls", "warn")


def test_a_partner_that_is_well(partners):
    with listening() as address:
        partners.add(endpoint=address, wsdl=f"{address}?wsdl")
        partners.certify()
        assert told(partners.examined(well=True)) == [NOT_HTTPS]


def test_a_stranger_is_not_examined(partners):
    (partners.folder / "gridpost.toml").write_text("")
    with pytest.raises(NotFound):
        command.main(["--partner", "X", "--config", str(partners.folder / "gridpost.toml")], standalone_mode=False)


# --- on file ---

ON_FILE = {
    "ended": (lambda one: one.certify(ends_days=-1), "certificate", "ended at"),
    "ends soon": (lambda one: one.certify(ends_days=20), "certificate", "is good until"),
    "not yet": (lambda one: one.certify(begins_days=1), "certificate", "is good from"),
    "a curve we do not know": (
        lambda one: one.certify(ec.generate_private_key(ec.SECP521R1())), "certificate", "key is secp521r1"),
    "a short key": (lambda one: one.certify(rsa.generate_private_key(65537, 1024)), "certificate", "RSA of 1024 bits"),
    "no certificate": (lambda one: None, "entry", "has no certificate now"),
}  # fmt: skip


@pytest.mark.parametrize("name", ON_FILE)
def test_what_is_wrong_with_a_key(partners, name):
    prepare, check, words = ON_FILE[name]
    partners.add()
    prepare(partners)
    (found,) = partners.examined(well=name == "ends soon")
    assert found["check"] == check
    assert words in found["found"]


def test_what_is_wrong_with_ways_in(partners):
    partners.office = f'http = "127.0.0.1:8081"\nclient_ca = "{partners.folder}/other.pem"'
    other = certificate(ec.generate_private_key(ec.SECP256R1()), -1, 9)
    (partners.folder / "other.pem").write_bytes(other.public_bytes(serialization.Encoding.PEM))
    partners.add(Ways(signature=False, tls=True, username=True), kinds=())
    partners.certify(use="tls")
    said = " / ".join(one["found"] for one in partners.examined(well=False))
    for words in ("but has none", "passwords count over HTTPS only", "no grant", "of no CA in office.client_ca"):
        assert words in said


def test_a_clock_that_its_signed_requests_show_wrong(partners):
    partners.add()
    partners.certify()
    partners.ask(sealed_s=NOW_S - 900)
    (found,) = partners.examined(well=False)
    assert (found["check"], found["found"]) == (
        "clock",
        "the clock behind its signed requests is -900 s from this machine's",
    )


def test_what_lies_in_the_mailbox_too_long_and_what_was_refused(partners):
    partners.add()
    partners.certify()
    partners.at_s = NOW_S - 3 * 86_400
    partners.ask(sealed_s=partners.at_s)
    partners.store.post("controls", {0: 0}, {}, [Mail("P", "readings", "MeterReadings", b"<x/>")]).result()
    partners.store.dead_letter(DeadLetter("push P", "7", "partner-refused: no such meter", NOW_S * 1000)).result()
    partners.store.dead_letter(DeadLetter("push Q", "8", "another's", NOW_S * 1000)).result()
    waiting, dead = partners.examined(well=False)
    assert waiting["found"] == "1 mail(s) wait, the oldest for 3 day(s)"
    assert dead["found"].startswith("1 dead letter(s)")
    assert "no such meter" in dead["found"]


# --- on the network ---

ON_THE_WIRE = {
    "redirects": ({"answer": (302, {"Location": "https://elsewhere/"})}, "http", "to https://elsewhere/"),
    "is shut": ({"answer": (403, {})}, "http", "HTTP 403"),
    "is down behind its front": ({"answer": (503, {})}, "http", "HTTP 503"),
    "has a wrong clock": ({"off_s": -4000}, "clock", "s from this machine's"),
    "knows other messages": ({"wsdl": "multispeak_v4_mr.wsdl"}, "wsdl", "CreatedEndDeviceEvents, CreatedMeterReadings"),
}


@pytest.mark.parametrize("name", ON_THE_WIRE)
def test_a_service_that(partners, name):
    defect, check, words = ON_THE_WIRE[name]
    with listening(**defect) as address:
        partners.add(endpoint=address, wsdl=f"{address}?wsdl")
        partners.certify()
        (found,) = [one for one in partners.examined(well=False) if one["state"] == "fail"]
    assert found["check"] == check
    assert words in found["found"]


def test_an_https_certificate_nobody_knows_and_that_has_ended(partners, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (tmp_path / "tls.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    (tmp_path / "tls.pem").write_bytes(certificate(key, -9, -1).public_bytes(pem))
    with listening(tls=(tmp_path / "tls.pem", tmp_path / "tls.key")) as address:
        partners.add(endpoint=address, wsdl=str(ROOT / "wsdl/multispeak_v4_cb.wsdl"))
        partners.certify()
        found = partners.examined(well=False)
    assert next(one["found"] for one in found if one["check"] == "tls").startswith("its HTTPS certificate ended at")
    assert "certificate verify failed" in found[-1]["found"]
    assert "CA" in found[-1]["advice"]
    # The description states another address than the one registered.
    assert ("wsdl", "warn") in told(found)


def test_a_service_that_is_not_there(partners):
    with listening() as address:
        pass
    partners.add(endpoint=address, wsdl=f"{address}?wsdl")
    partners.certify()
    assert told(partners.examined(well=False)) == [("wsdl", "fail"), NOT_HTTPS, ("tcp", "fail")]
    partners.store.set_partner(partners.store.partner("P")._replace(wsdl=""))
    (found,) = partners.examined(well=False)
    assert found["advice"] == "gridpost partner set P --wsdl ..."
