"""Authentication factors of an IED beyond its signature (F14, F17): when, where, from which network, with what in hand.

In: a verified message, where it came from, when. Out: what does not fit, in words for the audit log; empty if it does.
One row of FACTORS is a factor: what its value must look like, and how it is judged. What a device says of itself (its
position, its telephone number, its dongle) is a Property of its signed Header: as good as the device that says it.

Coordinates are in degrees of WGS 84 and may be float here: no energy is computed from them.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import NamedTuple, Protocol

from gridpost.errors import ConfigInvalid, NotFound

from .zones import zone_of

EARTH_M = 6_371_008.8  # mean radius, IUGG
LONGEST = 128  # characters of a Property that is judged
_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)\Z")
_DEGREES = re.compile(r"-?[0-9]{1,3}(\.[0-9]{1,9})?\Z")


class Evidence(NamedTuple):
    """What a factor may look at.

    Attributes:
        certificate_sha256: of the key that signed.
        properties: name -> value, of the signed Header; a name that stands twice has no value.
        peer: the socket's other end, ``192.0.2.7:49152``; whatever the transport knows instead.
        now_utc_ms: our clock.
    """

    certificate_sha256: bytes
    properties: Mapping[str, str]
    peer: str
    now_utc_ms: int


class Factor(Protocol):
    """A factor with its value, ready to judge."""

    def __call__(self, evidence: Evidence) -> str:
        """Return what does not fit; empty when it does."""


class Kind(NamedTuple):
    """A row of the table: how a value is read, what it looks like, and what it means."""

    read: Callable[[str], Factor]  # raises ValueError for a value that is none
    example: str
    meaning: str
    now_and_then: bool = False  # what does not fit now may fit later


# --- when, with which key, from where --------------------------------------------------------------------------------


def _hours(value: str) -> Factor:
    """``06:00-18:00,20:00-22:00 Europe/Berlin``; a span over midnight begins late and ends early; no zone is UTC."""
    spans_text, _, zone_name = value.partition(" ")
    found = [_HOURS.match(span) for span in spans_text.split(",")]
    if not all(found):
        raise ValueError("hours such as 06:00-18:00")
    spans = [(int(one[1]) * 60 + int(one[2]), int(one[3] or 24) * 60 + int(one[4] or 0)) for one in found if one]
    zone = _zone(zone_name.strip() or "Etc/UTC")

    def judge(evidence: Evidence) -> str:
        local = datetime.fromtimestamp(evidence.now_utc_ms // 1000, UTC).astimezone(zone)
        minute = local.hour * 60 + local.minute
        fits = any(a <= minute < b if a < b else minute >= a or minute < b for a, b in spans)
        return "" if fits else f"it is {local:%H:%M}, outside {value}"

    return judge


def _zone(name: str) -> tzinfo:
    try:
        return zone_of(name)
    except NotFound as error:
        raise ValueError(error.reason) from None


def _certificate(value: str) -> Factor:
    """Digests (SHA-256 of the DER, hex) of the only keys that count."""
    digests = {bytes.fromhex(text) for text in value.split()}
    if not digests or any(len(digest) != 32 for digest in digests):
        raise ValueError("SHA-256 of certificates in hex")

    def judge(evidence: Evidence) -> str:
        digest = evidence.certificate_sha256
        return "" if digest in digests else f"certificate {digest.hex()}"

    return judge


def _network(value: str) -> Factor:
    """Networks in CIDR notation, IPv4 and IPv6."""
    networks = [ipaddress.ip_network(text) for text in value.split()]
    if not networks:
        raise ValueError("networks such as 192.0.2.0/24")

    def judge(evidence: Evidence) -> str:
        host = evidence.peer.rpartition(":")[0].strip("[]")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return f"no address is known of {evidence.peer}"
        plain = getattr(address, "ipv4_mapped", None) or address
        return "" if any(plain in network for network in networks) else f"{plain} is in none of {value}"

    return judge


# --- what the device says of itself ----------------------------------------------------------------------------------


def _said(name: str) -> Callable[[str], Factor]:
    """A Property that must be one of the values, written apart by blanks."""

    def read(value: str) -> Factor:
        allowed = set(value.split())
        if not allowed:
            raise ValueError("at least one value")

        def judge(evidence: Evidence) -> str:
            said = evidence.properties.get(name, "")
            return "" if said in allowed else f"{name} is {said[:LONGEST]!r}"

        return judge

    return read


def _within(name: str) -> Callable[[str], Factor]:
    """A Property ``LATITUDE,LONGITUDE`` that must lie within a radius of a place."""

    def read(value: str) -> Factor:
        place_text, _, radius_text = value.partition(" ")
        place, radius_m = _place(place_text), int(radius_text)
        if place is None or radius_m < 1:
            raise ValueError("a place and a radius in metres, such as 48.1374,11.5755 500")

        def judge(evidence: Evidence) -> str:
            said = evidence.properties.get(name, "")
            there = _place(said)
            if there is None:
                return f"{name} is {said[:LONGEST]!r}"
            away_m = distance_m(place, there)
            return "" if away_m <= radius_m else f"{name} {said} is {away_m:.0f} m away"

        return judge

    return read


def _place(text: str) -> tuple[float, float] | None:
    latitude, _, longitude = text.partition(",")
    if not (_DEGREES.match(latitude) and _DEGREES.match(longitude)):
        return None
    place = float(latitude), float(longitude)
    return place if abs(place[0]) <= 90 and abs(place[1]) <= 180 else None


def distance_m(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the great-circle distance of two places (latitude, longitude in degrees) in metres, by the haversine."""
    (a, b), (c, d) = (map(math.radians, place) for place in (one, other))
    half = math.sin((c - a) / 2) ** 2 + math.cos(a) * math.cos(c) * math.sin((d - b) / 2) ** 2
    return 2 * EARTH_M * math.asin(math.sqrt(min(1.0, half)))


FACTORS: Mapping[str, Kind] = {
    "hours": Kind(_hours, "06:00-18:00 Europe/Berlin", "when it may send, by this bus's clock", now_and_then=True),
    "certificate": Kind(_certificate, "9F86D081...", "the only certificates that count, SHA-256 in hex"),
    "network": Kind(_network, "192.0.2.0/24 2001:db8::/32", "the networks it may call from"),
    "serial": Kind(_said("serialNumber"), "SN-4711", "Property serialNumber: the number on its plate, a tracking id"),
    "position": Kind(_within("position"), "48.1374,11.5755 500", "Property position (GPS): within a radius in metres"),
    "cell": Kind(_within("cellPosition"), "48.1374,11.5755 5000", "Property cellPosition: as triangulated"),
    "caller-id": Kind(_said("callerId"), "+49891234567", "Property callerId: its telephone number"),
    "hardware-key": Kind(_said("hardwareKey"), "D-0815", "Property hardwareKey: the id of its dongle"),
}


@lru_cache(maxsize=4096)
def factor(name: str, value: str) -> Factor:
    """Return a factor, ready to judge.

    Raises:
        ConfigInvalid: no such factor, or a value that is none.
    """
    kind = FACTORS.get(name)
    if kind is None:
        raise ConfigInvalid(f"there is no factor {name!r}; known are {', '.join(FACTORS)}")
    try:
        return kind.read(value)
    except ValueError as error:
        raise ConfigInvalid(f"factor {name}: {value!r} is none: {error}; for example: {kind.example}") from None
