"""ied.toml: every setting of the device, its default and its meaning, once.

In: a TOML file and the channel table it names. Out: a frozen `Config`, or ConfigInvalid naming the key. The commented
file that `gridpost-ied init` writes is made from the same fields. Relative paths are relative to the file. Unknown keys
are errors: a mistyped dial must not silently be a dial of 2^32.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from gridpost import settings, tabular, units
from gridpost.errors import ConfigInvalid, NotFound
from gridpost.model import Channel, ReadingType
from gridpost.settings import setting

from . import config_control, register_map
from .config_control import Control, Obey, Output, Pulse
from .obeying import Obeyed
from .zones import zone_of


@dataclass(frozen=True, slots=True)
class Bus:
    """The bus, and how it is reached. A proxy is taken from HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""

    url: str = setting("", "its address, such as https://bus.example.org; messages go to /metering below it")
    timeout_s: int = setting(30, "seconds to wait for an answer")
    tls_ca: str = setting("", "certificates (PEM) that may vouch for its HTTPS; empty: those the machine trusts")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this device is: files 'gridpost-ied init' made."""

    serial: str = setting("", "Source in every message, as enrolled")
    key: str = setting("ied.key", "private key, PEM")
    certificate: str = setting("ied.pem", "certificate, PEM")
    ca: str = setting("ca.pem", "the CA whose bus certificates are believed, PEM")
    renew_days: int = setting(
        90, "days before the certificate ends, at most half its life, at which 'run' gets one for a next key; 0: never"
    )
    properties: Mapping[str, str] = setting(
        {}, 'what this device says of itself in every message, such as position = "48.1374,11.5755"'
    )


@dataclass(frozen=True, slots=True)
class Spool:
    """Where what was measured waits for its receipt."""

    path: str = setting("spool.db", "an SQLite file on a local disk; never copy or delete it while readings wait")
    keep_days: int = setting(40, "days that receipted values are kept to be sent again on request; 0: not at all")


@dataclass(frozen=True, slots=True)
class Channels:
    """What is measured; the same table as for 'gridpost ied add'."""

    file: str = setting("channels.csv", "CSV, columns in docs/protocol.md")


@dataclass(frozen=True, slots=True)
class Push:
    """When readings are sent."""

    every_s: int = setting(900, "seconds between two pushes, counted from the full hour")
    spread_s: int = setting(20, "each push waits a random part of this, so that not all devices call at once")
    backoff_first_s: int = setting(2, "after a failure the next try is within this many seconds, then twice as many")
    backoff_most_s: int = setting(600, "and never more than this")


@dataclass(frozen=True, slots=True)
class Poll:
    """How meters are read."""

    timeout_s: int = setting(3, "seconds to wait for a meter")
    tolerance_s: int = setting(
        20, "how long after a boundary its stand may be read; never more than a tenth of an interval"
    )


@dataclass(frozen=True, slots=True)
class Meter:
    """One meter on Modbus TCP: SunSpec (models 201 to 204, 211 to 214) or with a map; a section for each."""

    id: str = setting("", "its mRID, as in the channel table")
    host: str = setting("127.0.0.1", "Modbus TCP host")
    port: int = setting(502, "and port")
    unit: int = setting(1, "Modbus unit")
    ratio: str = setting("1", "transformer ratios the meter does not apply itself, multiplied; a decimal number")
    dial: int = setting(1 << 32, "register value at which counting starts again at 0: 4294967296, or 1000000 ...")
    largest_step: int = setting(0, "most counts of the register in one interval; 0: a tenth of the dial")
    points: Mapping[str, str] = setting({}, "stream name = SunSpec point, where the reading type does not tell it")
    map: str = setting(
        "",
        'no SunSpec meter: a CSV of its registers (docs/operations.md), or "ion", packaged and unverified on hardware',
    )


@dataclass(frozen=True, slots=True)
class Reader:
    """For whom readings are encrypted; a section for each key. Without one they are sent in the clear, over TLS."""

    key: str = setting("", "a certificate or public key, PEM")
    kinds: str = setting("", "what it reads: billing, power-quality or both, such as 'billing power-quality'")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file, with the channels it names; `folder` is where it lies."""

    folder: Path
    bus: Bus = Bus()
    identity: Identity = Identity()
    spool: Spool = Spool()
    channels: Channels = Channels()
    push: Push = Push()
    poll: Poll = Poll()
    control: Control = field(default_factory=Control)
    meter: tuple[Meter, ...] = ()
    pulse: tuple[Pulse, ...] = ()
    obey: tuple[Obey, ...] = ()
    output: tuple[Output, ...] = ()
    reader: tuple[Reader, ...] = ()

    def path(self, name: str) -> Path:
        """Return a configured path, relative to the file's folder."""
        return self.folder / name

    @property
    def obeys(self) -> frozenset[Obeyed]:
        """The list of (issuer, role, action) this device obeys."""
        return config_control.obeyed(self.obey, str(self.folder))


SECTIONS: Mapping[str, type] = {
    "bus": Bus, "identity": Identity, "spool": Spool, "channels": Channels, "push": Push, "poll": Poll,
    "control": Control,
}  # fmt: skip
LISTS: Mapping[str, type] = {"meter": Meter, "pulse": Pulse, "obey": Obey, "output": Output, "reader": Reader}
OWN_PROPERTIES = ("sequence", "lastReceipt")
_PROPERTY = re.compile(r"[!-~][ -~]{0,126}\Z")
_AT_LEAST_ONE = (
    ("bus", "timeout_s"), ("push", "every_s"), ("push", "backoff_first_s"), ("push", "backoff_most_s"),
    ("poll", "timeout_s"), ("poll", "tolerance_s"),
)  # fmt: skip


def load(file: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        NotFound: no such file.
        ConfigInvalid: not TOML, an unknown section or key, or a value of another kind or out of range.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"there is no {file}; 'gridpost-ied init' writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{file}: {error}") from None
    config = Config(file.parent.resolve(), **settings.parse(text, str(file), SECTIONS, LISTS))
    _check(config, file)
    return config


def _check(config: Config, file: Path) -> None:
    if not config.bus.url.startswith(("http://", "https://")):
        raise ConfigInvalid(f"{file}: bus.url must begin with http:// or https://")
    if not config.identity.serial:
        raise ConfigInvalid(f"{file}: identity.serial is missing")
    for section, key in _AT_LEAST_ONE:
        if getattr(getattr(config, section), key) < 1:
            raise ConfigInvalid(f"{file}: {section}.{key} must be at least 1")
    if config.identity.renew_days < 0:
        raise ConfigInvalid(f"{file}: identity.renew_days must not be negative")
    for name, value in config.identity.properties.items():
        said = isinstance(value, str) and _PROPERTY.match(name) and _PROPERTY.match(value)
        if name in OWN_PROPERTIES or not said:
            raise ConfigInvalid(f"{file}: identity.properties: {name} = {value!r} cannot be said in a message")
    if config.push.spread_s < 0 or config.spool.keep_days < 0:
        raise ConfigInvalid(f"{file}: push.spread_s and spool.keep_days must not be negative")
    names = [meter.id for meter in config.meter]
    if len(set(names)) < len(names):
        raise ConfigInvalid(f"{file}: two [[meter]] sections have one id")
    for meter in config.meter:
        _check_meter(meter, f"{file}: meter {meter.id!r}")
    config_control.check(config.control, config.output, config.pulse, str(file))
    config_control.obeyed(config.obey, str(file))


def _check_meter(meter: Meter, where: str) -> None:
    if not meter.id:
        raise ConfigInvalid(f"{where}: id is missing")
    if not (0 < meter.port < 65536 and 0 <= meter.unit <= 255 and meter.dial > 1 and meter.largest_step >= 0):
        raise ConfigInvalid(f"{where}: port, unit, dial or largest_step is out of range")
    ratio_of(meter)
    for stream, point in meter.points.items():
        if point not in register_map.POINTS and not meter.map:
            known = ", ".join(register_map.POINTS)
            raise ConfigInvalid(f"{where}: points: {stream} = {point!r} is no point Gridpost reads; known are {known}")


def ratio_of(meter: Meter) -> Decimal:
    """Return a meter's transformer ratio.

    Raises:
        ConfigInvalid: not a decimal number above 0 of at most 9 digits.
    """
    try:
        ratio = Decimal(units.decimal_text(meter.ratio))
    except ValueError:
        ratio = Decimal(0)
    if ratio <= 0 or len(ratio.as_tuple().digits) > 9:
        raise ConfigInvalid(f"meter {meter.id!r}: ratio {meter.ratio!r} is no decimal number above 0 of up to 9 digits")
    return ratio


def channels(config: Config) -> tuple[Channel, ...]:
    """Read the channel table the configuration names.

    Raises:
        NotFound: no such file, or a zone tzdata does not know.
        FileInvalid: not a channel table.
    """
    file = config.path(config.channels.file)
    try:
        found = tabular.channels(file.read_bytes())
    except OSError:
        raise NotFound(f"there is no channel table {file}; it is the one given to 'gridpost ied add'") from None
    for channel in found:
        zone_of(channel.zone)
    return found


def points(meter: Meter, found: Sequence[Channel]) -> Mapping[Channel, str]:
    """Return which SunSpec point each of a meter's channels is.

    Raises:
        ConfigInvalid: a channel has no point, or one of another unit.
    """
    chosen = {}
    for channel in found:
        if channel.key.meter == meter.id:
            chosen[channel] = _point(meter, channel)
    if not chosen:
        raise ConfigInvalid(f"meter {meter.id!r} has no row in the channel table")
    return chosen


def _point(meter: Meter, channel: Channel) -> str:
    reading_type = ReadingType.parse(channel.key.reading_type)
    point = meter.points.get(channel.key.stream) or register_map.default_point(reading_type)
    name = channel.key.stream or channel.key.reading_type
    if not point:
        raise ConfigInvalid(f"meter {meter.id!r}: name the SunSpec point of channel {name} under [meter.points]")
    if register_map.POINTS[point].unit != reading_type.unit:
        raise ConfigInvalid(f"meter {meter.id!r}: channel {name} has another unit than {point}")
    return point


def render(values: Mapping[str, Any], meters: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return a commented ied.toml: every setting with its meaning; those not in `values` commented out.

    Args:
        values: section -> key -> value; of the sections that may stand several times, a list of those.
        meters: the [[meter]] sections.
    """
    lines = ["# Settings of a Gridpost device. Those commented out show their default.", ""]
    for name, kind in SECTIONS.items():
        lines += settings.render(f"[{name}]", kind, values.get(name, {}))
    for meter in meters or ({},):
        lines += settings.render("[[meter]]" if meter else "# [[meter]]", Meter, meter)
    for name in ("pulse", "obey", "output", "reader"):
        given: Sequence[Mapping[str, Any]] = values.get(name) or ({},)
        for one in given:
            lines += settings.render(f"[[{name}]]" if one else f"# [[{name}]]", LISTS[name], one)
    return "\n".join(lines)
