"""gridpost.toml: every setting of the bus, its default and its meaning, once.

In: a TOML file. Out: a frozen `Config`, or ConfigInvalid naming the key. The commented file that `gridpost init` writes
is made from the same fields, and tests/test_docs.py holds docs/operations.md against them. Relative paths are relative
to the file. Unknown keys are errors: a mistyped limit must not silently be no limit.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from gridpost.errors import ConfigInvalid, NotFound


def _setting(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True)
class Bus:
    """Who this bus is and where it keeps what it must not lose."""

    id: str = _setting("bus", "Source in the bus's answers; 1 to 64 printable characters")
    database: str = _setting("gridpost.db", "the store, an SQLite file on a local disk")
    audit: str = _setting("audit.jsonl", "the audit log, one JSON line an event; empty: standard error")


@dataclass(frozen=True, slots=True)
class Identity:
    """Keys and certificates, PEM."""

    ca_certificate: str = _setting("ca.pem", "the device CA; its fingerprint is in every enrolment code")
    ca_key: str = _setting("ca.key", "the CA's key; needed only while devices enrol")
    certificate: str = _setting("bus.pem", "the bus's certificate, which signs receipts")
    key: str = _setting("bus.key", "its key")


@dataclass(frozen=True, slots=True)
class Listen:
    """The device listener: POST /metering, the WSDL, enrolment, /health."""

    http: str = _setting("0.0.0.0:80", "address and port of plain HTTP; empty: none")
    https: str = _setting("", "address and port of HTTPS, such as 0.0.0.0:443; empty: none")
    tls_certificate: str = _setting("", "the HTTPS certificate with its chain, PEM")
    tls_key: str = _setting("", "its key, PEM")
    public_url: str = _setting("", "the address devices use, put into the WSDL; empty: what the Host header says")
    body_limit: int = _setting(1 << 20, "largest message in bytes; the caps on '<' and '=' grow in proportion")
    connections: int = _setting(10_000, "open connections at most")
    connections_per_peer: int = _setting(256, "of them from one address")


@dataclass(frozen=True, slots=True)
class Mv90:
    """The reader that writes one MV-90 MDEF file a meter and day."""

    enabled: bool = _setting(True, "whether files are written")
    directory: str = _setting("mv90", "where they go")
    site: str = _setting("", "the site table (CSV) for CUSTID, RECID, unit codes, channel numbers; empty: none")
    grace_h: int = _setting(6, "hours after a day's end at which an incomplete day is written all the same")
    poll_s: int = _setting(2, "seconds between two looks at the log")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file; `folder` is where it lies."""

    folder: Path
    bus: Bus = Bus()
    identity: Identity = Identity()
    listen: Listen = Listen()
    mv90: Mv90 = Mv90()

    def path(self, name: str) -> Path:
        """Return a configured path, relative to the file's folder."""
        return self.folder / name


SECTIONS: Mapping[str, type] = {"bus": Bus, "identity": Identity, "listen": Listen, "mv90": Mv90}


def load(file: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        NotFound: no such file, or not readable.
        ConfigInvalid: not TOML, an unknown section or key, or a value of another kind or out of range.
    """
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(f"there is no {file}; 'gridpost init DIR' writes one") from None
    except OSError as error:
        raise NotFound(f"{file} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{file}: {error}") from None
    unknown = sorted(set(tables) - set(SECTIONS))
    if unknown:
        raise ConfigInvalid(f"{file}: unknown section [{unknown[0]}]; known are {', '.join(SECTIONS)}")
    sections = {name: _section(kind, tables.get(name, {}), f"{file}: [{name}]") for name, kind in SECTIONS.items()}
    config = Config(file.parent.resolve(), **sections)
    _check(config, file)
    return config


def _section(kind: type, table: Any, where: str) -> Any:
    if not isinstance(table, dict):
        raise ConfigInvalid(f"{where} is not a section")
    known = {item.name: item.default for item in fields(kind)}
    for name, value in table.items():
        if name not in known:
            raise ConfigInvalid(f"{where} unknown key {name}; known are {', '.join(known)}")
        if type(value) is not type(known[name]):
            raise ConfigInvalid(f"{where} {name} must be of the kind of {known[name]!r}, not {value!r}")
    return kind(**table)


def _check(config: Config, file: Path) -> None:
    least = {
        "listen.body_limit": (config.listen.body_limit, 1),
        "listen.connections": (config.listen.connections, 1),
        "listen.connections_per_peer": (config.listen.connections_per_peer, 1),
        "mv90.poll_s": (config.mv90.poll_s, 1),
        "mv90.grace_h": (config.mv90.grace_h, 0),
    }
    for name, (value, smallest) in least.items():
        if value < smallest:
            raise ConfigInvalid(f"{file}: {name} must be at least {smallest}")
    if config.listen.https and not (config.listen.tls_certificate and config.listen.tls_key):
        raise ConfigInvalid(f"{file}: listen.https needs listen.tls_certificate and listen.tls_key")
    if not (config.listen.http or config.listen.https):
        raise ConfigInvalid(f"{file}: neither listen.http nor listen.https is set")
    check_bus_id(config.bus.id)
    for address in filter(None, (config.listen.http, config.listen.https)):
        host_port(address)


def check_bus_id(bus_id: str) -> None:
    """Hold a bus's id against what Source in its answers, and its certificate, can be.

    Raises:
        ConfigInvalid: it cannot.
    """
    if not (1 <= len(bus_id) <= 64 and bus_id.isascii() and bus_id.isprintable() and bus_id.strip() == bus_id):
        raise ConfigInvalid(f"bus.id {bus_id!r} must be 1 to 64 printable ASCII characters, no blank at either end")


def host_port(address: str) -> tuple[str, int]:
    """Split ``127.0.0.1:8080`` or ``[::1]:8080``; port 0 takes any free one.

    Raises:
        ConfigInvalid: not of that form.
    """
    host, separator, port = address.rpartition(":")
    if not (separator and host and port.isascii() and port.isdecimal() and int(port) < 65536):
        raise ConfigInvalid(f"{address!r} is not address:port")
    return host.strip("[]"), int(port)


def render(values: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a commented gridpost.toml: every setting with its meaning; those not in `values` commented out."""
    lines = ["# Gridpost's settings. Those commented out show their default.", ""]
    for name, kind in SECTIONS.items():
        lines += [f"# {(kind.__doc__ or '').splitlines()[0]}", f"[{name}]"]
        for item in fields(kind):
            given = values.get(name, {})
            value = given.get(item.name, item.default)
            lines.append(f"# {item.metadata['meaning']}")
            lines.append(f"{'' if item.name in given else '# '}{item.name} = {_toml(value)}")
        lines.append("")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    # JSON's escapes are TOML's too; only DEL must be escaped in TOML and is not in JSON.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
