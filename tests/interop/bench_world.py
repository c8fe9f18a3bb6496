"""The bus that toolkits call: an office listener with TLS, a device listener, a partner and a device for each of them.

In: a folder. Out: a running bus, and for each toolkit the environment its client reads. Nothing of a toolkit is known
here. The variables are all a client gets:

    GRIDPOST_UTILITY     the office's endpoint over TLS; its WSDL is there with ?wsdl, over TLS and at GRIDPOST_WSDL
    GRIDPOST_WSDL        the same WSDL over plain HTTP, for generators of code
    GRIDPOST_CA          the CA of that TLS, PEM; GRIDPOST_CA_STORE the same for Java
    GRIDPOST_PARTNER     who the client is: Source, and the name of its UsernameToken; GRIDPOST_PASSWORD its password
    GRIDPOST_CLIENT_PEM  certificate and key of its TLS, for those that cannot send a UsernameToken; GRIDPOST_CLIENT_P12
    GRIDPOST_IED, GRIDPOST_METER, GRIDPOST_USAGE_POINT    what it asks about
    GRIDPOST_OWN_METER, GRIDPOST_OWN_IED    a meter that it may enrol, and the IED that will speak for it
    GRIDPOST_METERING    the endpoint of devices
    GRIDPOST_NOW         the moment, to the second, with Z; GRIDPOST_START a day before

A signer is a device and gets instead

    GRIDPOST_METERING    where it posts; the WSDL is there with ?wsdl
    GRIDPOST_SERIAL, GRIDPOST_KEY, GRIDPOST_CERT, GRIDPOST_FAMILY    who it is, its key and certificate (PEM), RSA or EC
    GRIDPOST_BUS_CA      the CA that a bus's certificate must come from, PEM
    GRIDPOST_METER, GRIDPOST_USAGE_POINT, GRIDPOST_READING_TYPE, GRIDPOST_END, GRIDPOST_MESSAGE_ID    what it tells
"""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from live_bus import QUARTER_KWH, Wire, channel_table, run
from office_world import PASSWORD, OfficeWorld, private_pem

from gridpost.controls import Role
from gridpost.partners import Ways

RSA = {"rsa_certificate": "bus-rsa.pem", "rsa_key": "bus-rsa.key"}
IED, METER, USAGE_POINT = "IED-north", "M-IED-north", "UP-M-IED-north"
P12_PASSWORD = "changeit"
TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass
class BenchWorld:
    """The bus and what clients are told of it."""

    folder: Path
    office: OfficeWorld

    @classmethod
    def make(cls, folder: Path) -> BenchWorld:
        """Start it; its identity is the one that `gridpost init` makes: P-256 and RSA-3072."""
        done = run("init", folder / "made", "--http", "127.0.0.1:0")
        assert done.returncode == 0, done.stderr
        made = cls(folder, OfficeWorld.make(folder, folder / "made", identity=RSA))
        _tool("keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", folder / "ca.pem",
              "-keystore", folder / "ca.jks", "-storepass", P12_PASSWORD)  # fmt: skip
        return made

    def client(self, name: str) -> dict[str, str]:
        """Make a partner that may come by UsernameToken and by TLS certificate; return its client's environment."""
        partner = f"office-{name}"
        ways = Ways(signature=False, tls=True, username=True)
        self.office.add_partner(partner, Role.UTILITY, "north", ways)
        self.office.bus.add(f"IED-{name}", channel_table(f"M-first-{name}"))
        store = self.office.store()
        store.set_tenants(f"IED-{name}", ["north"])
        store.close()
        pem, p12 = self._certificate(partner)
        now = datetime.now(UTC)
        # By name: some toolkits do not find an address in a certificate.
        endpoint = self.office.tls().address.replace("127.0.0.1", "localhost") + "/utility"
        told = {
            "UTILITY": endpoint,
            "WSDL": self.office.plain.address + "/utility?wsdl",
            "METERING": self.metering,
            "CA": self.folder / "ca.pem",
            "CA_STORE": self.folder / "ca.jks",
            "PARTNER": partner,
            "PASSWORD": PASSWORD,
            "CLIENT_PEM": pem,
            "CLIENT_P12": p12,
            "IED": IED,
            "METER": METER,
            "USAGE_POINT": USAGE_POINT,
            "OWN_IED": f"IED-{name}",
            "OWN_METER": f"M-{name}",
            "NOW": now.strftime(TIME),
            "START": (now - timedelta(days=1)).strftime(TIME),
        }
        return os.environ | {f"GRIDPOST_{key}": str(value) for key, value in told.items()}

    def signer(self, name: str, family: str) -> dict[str, str]:
        """Enrol an IED with a key of a family, ``RSA`` or ``EC`` (P-256); return its signer's environment."""
        serial = f"{name}-{family}"
        key = ec.generate_private_key(ec.SECP256R1()) if family == "EC" else rsa.generate_private_key(65537, 3072)
        device = self.office.bus.enrol(serial, key=key)
        files = self.folder / f"{serial}.key", self.folder / f"{serial}.crt"
        files[0].write_bytes(private_pem(key))
        issued = x509.load_der_x509_certificate(device.signer.certificate)
        files[1].write_bytes(issued.public_bytes(serialization.Encoding.PEM))
        now = datetime.now(UTC)
        end = datetime.fromtimestamp(now.timestamp() // 900 * 900, UTC)
        told = {
            "METERING": self.metering,
            "SERIAL": serial,
            "FAMILY": family,
            "KEY": files[0],
            "CERT": files[1],
            "BUS_CA": self.office.bus.folder / "ca.pem",
            "METER": f"M-{serial}",
            "USAGE_POINT": f"UP-M-{serial}",
            "READING_TYPE": QUARTER_KWH,
            "END": end.strftime(TIME),
            "NOW": now.strftime(TIME),
            "MESSAGE_ID": f"{serial}-1",
        }
        return os.environ | {f"GRIDPOST_{key}": str(value) for key, value in told.items()}

    @property
    def metering(self) -> str:
        """Address of the device listener's messages."""
        return self.office.bus.addresses[0] + "/metering"

    def _certificate(self, partner: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        der = self.office.ca.issue_device(partner, key).certificate
        store = self.office.store()
        store.add_partner_certificate(partner, der, "tls")
        store.close()
        pem = self.folder / f"{partner}.pem"
        pem.write_bytes(x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM) + private_pem(key))
        p12 = pem.with_suffix(".p12")
        _tool("openssl", "pkcs12", "-export", "-legacy", "-in", pem, "-out", p12, "-passout", f"pass:{P12_PASSWORD}")
        return pem, p12

    def close(self) -> None:
        """End the bus."""
        self.office.close()


class Forger:
    """A way to the bus that changes one digit of each receipt: whoever verifies receipts refuses them."""

    def __init__(self, target: str) -> None:
        """Listen on a port the kernel chooses; `target`: the endpoint behind it."""
        forger = self
        self.forged = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._pass(None)

            def do_POST(self) -> None:
                self._pass(self.rfile.read(int(self.headers["Content-Length"])))

            def _pass(self, body: bytes | None) -> None:
                wire = Wire(target)
                kept = {name: self.headers[name] for name in ("Content-Type", "SOAPAction") if name in self.headers}
                status, answer, headers = wire.request(self.command, self.path, body, kept)
                changed = answer.replace(b"<partition>0</partition>", b"<partition>7</partition>")
                forger.forged += changed != answer
                self.send_response(status)
                self.send_header("Content-Type", headers["Content-Type"])
                self.send_header("Content-Length", str(len(changed)))
                self.end_headers()
                self.wfile.write(changed)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/metering"

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


def _tool(*command: object) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (command[0], done.stderr)
