"""gridpost.toml: every setting of the bus, its default and its meaning, once.

In: a TOML file. Out: a frozen `Config`, or ConfigInvalid naming the key. The commented file that `gridpost init` writes
is made from the same fields, and tests/test_docs.py holds docs/operations.md against them. Relative paths are relative
to the file. Unknown keys are errors: a mistyped limit must not silently be no limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gridpost import settings
from gridpost.controls import ACTIONS, Role
from gridpost.errors import ConfigInvalid, NotFound
from gridpost.settings import setting


@dataclass(frozen=True, slots=True)
class Bus:
    """Who this bus is and where it keeps what it must not lose."""

    id: str = setting("bus", "Source in the bus's answers; 1 to 64 printable characters")
    database: str = setting(
        "gridpost.db", "the store: an SQLite file on a local disk, or postgresql://user@host/database"
    )
    processes: int = setting(1, "bus processes that share the ports; more than one needs PostgreSQL")
    audit: str = setting("audit.jsonl", "the audit log, one JSON line an event; empty: standard error")
    audit_size: int = setting(
        64 << 20, "bytes from which on the audit log is turned over to audit.jsonl.1 and so on; 0: never"
    )
    audit_keep: int = setting(10, "how many audit logs turned over are kept")


@dataclass(frozen=True, slots=True)
class Identity:
    """Keys and certificates, PEM."""

    ca_certificate: str = setting("ca.pem", "the device CA; its fingerprint is in every enrolment code")
    ca_key: str = setting("ca.key", "the CA's key; needed only while devices enrol")
    certificate: str = setting("bus.pem", "the bus's certificate, which signs receipts")
    key: str = setting("bus.key", "its key")
    rsa_certificate: str = setting("", "a second one, of RSA, that answers whoever signs with RSA; empty: none")
    rsa_key: str = setting("", "its key")


@dataclass(frozen=True, slots=True)
class Listen:
    """The device listener: POST /metering, the WSDL, enrolment, /health."""

    http: str = setting("0.0.0.0:80", "address and port of plain HTTP; empty: none")
    https: str = setting("", "address and port of HTTPS, such as 0.0.0.0:443; empty: none")
    tls_certificate: str = setting("", "the HTTPS certificate with its chain, PEM")
    tls_key: str = setting("", "its key, PEM")
    public_url: str = setting("", "the address devices use, put into the WSDL; empty: what the Host header says")
    body_limit: int = setting(1 << 20, "largest message in bytes; the caps on '<' and '=' grow in proportion")
    connections: int = setting(10_000, "open connections at most")
    connections_per_peer: int = setting(256, "of them from one address")


@dataclass(frozen=True, slots=True)
class Trust:
    """How long keys and lists of revoked certificates are good."""

    device_days: int = setting(3650, "days a device's certificate is good")
    overlap_days: int = setting(30, "days a device's old key goes on beside its next one")
    crl_days: int = setting(7, "days this bus's list of revoked certificates is good; a new one is made at half of it")
    stale_crl: str = setting(
        "refuse", "new messages whose foreign CA's list is out of date: refuse (until later) or alarm (and take them)"
    )


@dataclass(frozen=True, slots=True)
class Log:
    """The log of entries as evidence."""

    heads: str = setting("heads", "folder where a signed tree head of the log is put every hour; empty: nowhere")


@dataclass(frozen=True, slots=True)
class Mv90:
    """The reader that writes one MV-90 MDEF file a meter and day."""

    enabled: bool = setting(True, "whether files are written")
    directory: str = setting("mv90", "where they go")
    site: str = setting("", "the site table (CSV) for CUSTID, RECID, unit codes, channel numbers; empty: none")
    grace_h: int = setting(6, "hours after a day's end at which an incomplete day is written all the same")
    poll_s: int = setting(2, "seconds between two looks at the log")


@dataclass(frozen=True, slots=True)
class Metrics:
    """What is told to Prometheus; for those who run the bus, not for devices."""

    listen: str = setting(
        "",
        "address and port of GET /metrics, such as 127.0.0.1:9464; further processes take the next ports; empty: none",
    )


# Actions that switch something: what a stolen key could do at once is bounded from the start.
_SWITCHING = tuple(name for name, action in ACTIONS.items() if action.output)


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands to devices: who may ask for what, what waits for persons, what is held."""

    persons: Mapping[str, int] = setting(
        {"trip": 2, "disconnect-generator": 2},
        "action -> persons, each of another name, who must release it; others: 0",
    )
    may: Mapping[str, Sequence[str]] = setting(
        {}, 'role -> actions it may ask for, where that is less than the role may; such as { supplier = ["shed"] }'
    )
    period_s: int = setting(3600, "seconds over which the four thresholds below count what was released")
    most: Mapping[str, int] = setting(
        dict.fromkeys(_SWITCHING, 500), "action -> commands of one issuer in the period; what exceeds them is held"
    )
    most_all: Mapping[str, int] = setting(
        dict.fromkeys(_SWITCHING, 2000), "action -> commands of all issuers together in the period"
    )
    value: Mapping[str, str] = setting(
        {}, 'action -> sum of the values of one issuer\'s commands in the period, such as { reduce = "5000" }'
    )
    value_all: Mapping[str, str] = setting({}, "action -> sum of the values of all issuers' commands in the period")
    clock_gap: str = setting(
        "refuse", "timed commands nearer to each other than the clocks of their IEDs are apart: refuse, or hold"
    )
    life_s: int = setting(86_400, "seconds a command is good that states no end, from when it may be acted on")
    answer_s: int = setting(
        86_400,
        "seconds after its end by which the IED that fetched a command must have said what became of it; else it is"
        " unknown, until the IED says more",
    )
    long_polls: int = setting(
        10_000, "fetches kept open at once, waiting for a command; further ones are answered at once"
    )


@dataclass(frozen=True, slots=True)
class Office:
    """The office listener: partners' SOAP calls, and the WSDLs. Passwords count over HTTPS only."""

    http: str = setting("", "address and port of plain HTTP, such as 127.0.0.1:8081; empty: none")
    https: str = setting("", "address and port of HTTPS; empty: none")
    tls_certificate: str = setting("", "the HTTPS certificate with its chain, PEM")
    tls_key: str = setting("", "its key, PEM")
    client_ca: str = setting("", "the CAs of partners' TLS client certificates, PEM; empty: none is asked for")
    public_url: str = setting("", "the address partners use, put into the WSDL; empty: what the Host header says")
    body_limit: int = setting(1 << 20, "largest message in bytes; the caps on '<' and '=' grow in proportion")
    connections: int = setting(500, "open connections at most")
    connections_per_peer: int = setting(64, "of them from one address")
    page: int = setting(10_000, "values, events or mails in one answer at most; what is more comes with further pages")
    mail_days: int = setting(
        90, "days a mail stays in the store after it was put there, once its partner has taken it; 0: for ever"
    )
    switch_output: str = setting(
        "load", "the output of a device that a MultiSpeak request to connect or disconnect means"
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """Readings and prices watched for customers; what is found is an event, what is decided a proposal."""

    policies: str = setting(
        "", "the file of what is watched, TOML; 'gridpost watch example' prints one; empty: nothing is"
    )


@dataclass(frozen=True, slots=True)
class Reports:
    """Reports of use and cost that the bus makes by itself, for users and suppliers."""

    directory: str = setting("", "where they go; empty: none are made")
    every: str = setting("", "each day, week (from Monday) or cycle that is over; empty: none by the calendar")
    grace_h: int = setting(6, "hours after its end at which it is reported, for data that comes late")
    on_event: bool = setting(True, "whether the running cycle is reported when a policy found something")


@dataclass(frozen=True, slots=True)
class Quality:
    """Validation, estimation, and what is missing."""

    rules: str = setting("", "the file of rules, as 'gridpost rules' prints it; empty: the default ones")
    request_gaps: bool = setting(
        True, "whether an IED is asked for what is missing before readings it sent, by the control request-data"
    )
    request_after_s: int = setting(3600, "seconds a gap may fill by itself before its IED may fetch that control")
    request_days: int = setting(31, "how old a gap may be at most, and how long the request is good")


@dataclass(frozen=True, slots=True)
class Tariffs:
    """Tariffs fetched from suppliers' addresses: OpenEI URDB JSON, or the XML of xsd/tariff.xsd."""

    poll: Mapping[str, str] = setting(
        {}, 'supplier -> address of its tariffs, such as { acme = "https://acme.example/rates.json" }'
    )
    every_s: int = setting(3600, "seconds between two fetches of an address; each is fetched at the start, too")
    zone: str = setting("Etc/UTC", "IANA name of the zone of URDB tariffs, which state none")
    zones: Mapping[str, str] = setting({}, "supplier -> the zone of its URDB tariffs, where it is another one")
    ca: str = setting("", "the CAs that https addresses are trusted by, PEM; empty: the machine's")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file; `folder` is where it lies."""

    folder: Path
    bus: Bus = Bus()
    identity: Identity = Identity()
    listen: Listen = Listen()
    trust: Trust = Trust()
    log: Log = Log()
    mv90: Mv90 = Mv90()
    metrics: Metrics = Metrics()
    commands: Commands = Commands()
    office: Office = Office()
    choice: Choice = Choice()
    reports: Reports = Reports()
    quality: Quality = Quality()
    tariffs: Tariffs = Tariffs()

    @property
    def database(self) -> Path | str:
        """The store's place: a path, or a URL as it is."""
        return self.bus.database if "://" in self.bus.database else self.path(self.bus.database)

    def path(self, name: str) -> Path:
        """Return a configured path, relative to the file's folder."""
        return self.folder / name


SECTIONS: Mapping[str, type] = {
    "bus": Bus, "identity": Identity, "listen": Listen, "trust": Trust, "log": Log, "mv90": Mv90,
    "metrics": Metrics, "commands": Commands, "office": Office,
    "choice": Choice, "reports": Reports, "quality": Quality, "tariffs": Tariffs,
}  # fmt: skip
STALE_CRL = ("refuse", "alarm")
REPORTS_EVERY = ("", "day", "week", "cycle")
CLOCK_GAP = ("refuse", "hold")
_DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?\Z", re.ASCII)


def load(file: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        NotFound: no such file, or not readable.
        ConfigInvalid: not TOML, an unknown section or key, or a value of another kind or out of range.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"there is no {file}; 'gridpost init DIR' writes one") from None
    except OSError as error:
        raise NotFound(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{file}: {error}") from None
    config = Config(file.parent.resolve(), **settings.parse(text, str(file), SECTIONS, {}))
    _check(config, file)
    return config


def _check(config: Config, file: Path) -> None:
    least = {
        "bus.processes": (config.bus.processes, 1),
        "bus.audit_size": (config.bus.audit_size, 0),
        "bus.audit_keep": (config.bus.audit_keep, 1),
        "listen.body_limit": (config.listen.body_limit, 1),
        "listen.connections": (config.listen.connections, 1),
        "listen.connections_per_peer": (config.listen.connections_per_peer, 1),
        "trust.device_days": (config.trust.device_days, 1),
        "trust.overlap_days": (config.trust.overlap_days, 0),
        "trust.crl_days": (config.trust.crl_days, 1),
        "mv90.poll_s": (config.mv90.poll_s, 1),
        "mv90.grace_h": (config.mv90.grace_h, 0),
        "commands.period_s": (config.commands.period_s, 1),
        "commands.life_s": (config.commands.life_s, 1),
        "commands.long_polls": (config.commands.long_polls, 0),
        "office.body_limit": (config.office.body_limit, 1),
        "office.connections": (config.office.connections, 1),
        "office.connections_per_peer": (config.office.connections_per_peer, 1),
        "office.page": (config.office.page, 1),
        "tariffs.every_s": (config.tariffs.every_s, 1),
        "office.mail_days": (config.office.mail_days, 0),
        "reports.grace_h": (config.reports.grace_h, 0),
        "quality.request_after_s": (config.quality.request_after_s, 0),
        "quality.request_days": (config.quality.request_days, 1),
    }
    for name, (value, smallest) in least.items():
        if value < smallest:
            raise ConfigInvalid(f"{file}: {name} must be at least {smallest}")
    if config.trust.stale_crl not in STALE_CRL:
        raise ConfigInvalid(f"{file}: trust.stale_crl must be one of {', '.join(STALE_CRL)}")
    if config.reports.every not in REPORTS_EVERY:
        raise ConfigInvalid(f"{file}: reports.every must be day, week, cycle or empty")
    for name, one in (("listen", config.listen), ("office", config.office)):
        if one.https and not (one.tls_certificate and one.tls_key):
            raise ConfigInvalid(f"{file}: {name}.https needs {name}.tls_certificate and {name}.tls_key")
    if not (config.listen.http or config.listen.https):
        raise ConfigInvalid(f"{file}: neither listen.http nor listen.https is set")
    check_bus_id(config.bus.id)
    check_processes(config)
    _check_commands(config.commands, file)
    for address in filter(None, (config.listen.http, config.listen.https, config.office.http, config.office.https)):
        host_port(address)
    of_process(config, config.bus.processes - 1)


def _check_commands(commands: Commands, file: Path) -> None:
    """Hold what is named by an action or a role against those there are, and each threshold against its kind."""
    if commands.clock_gap not in CLOCK_GAP:
        raise ConfigInvalid(f"{file}: commands.clock_gap must be one of {', '.join(CLOCK_GAP)}")
    counts = {"persons": commands.persons, "most": commands.most, "most_all": commands.most_all}
    sums = {"value": commands.value, "value_all": commands.value_all}
    lists = {f"may.{role}": dict.fromkeys(actions) for role, actions in commands.may.items()}
    for name, table in (counts | sums | lists).items():
        if unknown := sorted(set(table) - set(ACTIONS)):
            raise ConfigInvalid(f"{file}: commands.{name} unknown action {unknown[0]}; known are {', '.join(ACTIONS)}")
    if unknown := sorted(set(commands.may) - set(Role)):
        raise ConfigInvalid(f"{file}: commands.may unknown role {unknown[0]}; known are {', '.join(Role)}")
    for name, numbers in counts.items():
        if any(type(number) is not int or number < 0 for number in numbers.values()):
            raise ConfigInvalid(f"{file}: commands.{name} holds whole numbers, none below 0")
    for name, texts in sums.items():
        if not all(isinstance(text, str) and _DECIMAL.match(text) for text in texts.values()):
            raise ConfigInvalid(f"{file}: commands.{name} holds decimal numbers as text, none below 0")


def with_processes(config: Config, processes: int) -> Config:
    """Return the settings with another number of processes.

    Raises:
        ConfigInvalid: the store does not take so many.
    """
    changed = replace(config, bus=replace(config.bus, processes=processes))
    check_processes(changed)
    return changed


def of_process(config: Config, number: int) -> Config:
    """Return the settings of one of several processes, counted from 0: what they do not share differs.

    Raises:
        ConfigInvalid: there is no such port.
    """
    if not config.metrics.listen:
        return config
    host, port = config.metrics.listen.rpartition(":")[0], host_port(config.metrics.listen)[1]
    if not port:
        return config  # each takes any free one
    own = f"{host}:{port + number}"
    host_port(own)
    return replace(config, metrics=replace(config.metrics, listen=own))


def check_processes(config: Config) -> None:
    """Hold the number of processes against the store.

    Raises:
        ConfigInvalid: several processes cannot write an SQLite file's log.
    """
    if config.bus.processes > 1 and isinstance(config.database, Path):
        raise ConfigInvalid("bus.processes: several processes need a PostgreSQL store; bus.database names a file")


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
        lines += settings.render(f"[{name}]", kind, values.get(name, {}))
    return "\n".join(lines)
