"""What is sent: messages of n intervals x 4 channels from enrolled devices, each new, signed with RSA-2048, fresh.

A device's messages move forward in time, as a spool's do, on the grid of UTC+10 without daylight saving. RSA because
the devices of others have it; Gridpost's own sign with P-256. Nothing here is timed.
"""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from gridpost import exchange, messages
from gridpost.model import Channel, ChannelKey, CreatedMeterReadings, Header, IntervalBlock, Readings
from gridpost.wssecurity import KeySigner

INTERVAL_S, DAY_S = 900, 86_400
ZONE, ZONE_S = "Etc/GMT-10", 36_000
START_UTC = 946_684_800 - ZONE_S  # the midnight that begins 2000-01-01 there
READING_TYPES = (  # energy and reactive energy, forward and reverse, 15 minutes
    ("E1", "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0", "kWh"),
    ("B1", "0.0.2.4.19.1.12.0.0.0.0.0.0.0.0.3.72.0", "kWh"),
    ("Q1", "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.73.0", "kvarh"),
    ("K1", "0.0.2.4.19.1.12.0.0.0.0.0.0.0.0.3.73.0", "kvarh"),
)


@dataclass
class Device:
    """An IED of four channels; `signer` once it is enrolled."""

    serial: str
    key: rsa.RSAPrivateKey
    channels: tuple[Channel, ...]
    signer: KeySigner | None = None
    next_utc: int = START_UTC  # where its next interval begins
    sequence: int = 0

    def request(self):
        """Return a certification request, DER."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.serial)])
        csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self.key, hashes.SHA256())
        return csr.public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True)
class Message:
    """A sealed message and what names it."""

    message_id: str
    values: int
    raw: bytes = field(repr=False)


_random = random.Random()


def seed(number):
    """Make ids and values those of `number`; keys and times are always new."""
    _random.seed(number)


def make_devices(count):
    """Return `count` devices with keys of their own."""
    with ThreadPoolExecutor(2) as pool:
        keys = list(pool.map(lambda _: rsa.generate_private_key(65537, 2048), range(count)))
    return [
        Device(f"BENCH-{number:03d}", key, channels(f"UP{number:05d}", f"M{number:05d}"))
        for number, key in enumerate(keys, 1)
    ]


def channels(usage_point, meter):
    """Return a meter's four channels."""
    return tuple(
        Channel(ChannelKey(usage_point, meter, stream, kind), unit, INTERVAL_S, ZONE)
        for stream, kind, unit in READING_TYPES
    )


def batch(devices, intervals, count):
    """Return `count` new messages, the devices in turn, sealed now."""
    first = _random.randrange(1 << 16)
    return [message(devices[number % len(devices)], intervals, first + number) for number in range(count)]


def foreign(message):
    """Return it as another maker's device might lay it out: a line break that no signature covers."""
    return replace(message, raw=message.raw.replace(b"><soap:Header>", b">\n<soap:Header>", 1))


def message(device, intervals, seed):
    """Return the device's next message, sealed now; its values follow from `seed`."""
    start = device.next_utc
    if intervals * INTERVAL_S >= DAY_S:  # whole days, as a daily push has
        start += -(start + ZONE_S) % DAY_S
    ends = tuple(start + INTERVAL_S * step for step in range(1, intervals + 1))
    device.next_utc = ends[-1]
    device.sequence += 1
    valid = ((),) * intervals
    blocks = tuple(
        IntervalBlock(channel.key, INTERVAL_S, ends, _values(seed + place, intervals), valid)
        for place, channel in enumerate(device.channels)
    )
    now = time.time_ns() // 1_000_000
    header = Header("created", "MeterReadings", now, device.serial, uuid7(now, _random), sequence=device.sequence)
    payload = messages.encode(CreatedMeterReadings(header, Readings(blocks)))
    return Message(header.message_id, intervals * len(blocks), exchange.seal(payload, device.signer, now))


def _values(seed, count):
    numbers = [(seed * 7919 + step * 104_729) % 40_000 for step in range(count)]
    return tuple(f"{number // 1000}.{number % 1000:03d}" for number in numbers)


def uuid7(utc_ms, source):
    """UUID version 7, RFC 9562 section 5.7: time-ordered, as our devices' ids are; `source` is a random.Random."""
    noise = source.getrandbits(80) & ~(0xF << 76) & ~(0x3 << 62)
    text = f"{(utc_ms << 80) | (0x7 << 76) | noise | (0x2 << 62):032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
