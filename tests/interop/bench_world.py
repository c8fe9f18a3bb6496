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
    GRIDPOST_NOW         the moment, to the second, with Z; GRIDPOST_START a day before
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from live_bus import channel_table, run
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
        pem.write_bytes(
            x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM) + private_pem(key)
        )
        p12 = pem.with_suffix(".p12")
        _tool("openssl", "pkcs12", "-export", "-legacy", "-in", pem, "-out", p12, "-passout", f"pass:{P12_PASSWORD}")
        return pem, p12

    def close(self) -> None:
        """End the bus."""
        self.office.close()


def _tool(*command: object) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (command[0], done.stderr)
