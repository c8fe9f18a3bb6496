"""Authentication factors one by one: what fits, what does not, and values that are none."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

import pytest
from gridpost.server.factors import FACTORS, Evidence, distance_m, factor

from gridpost.errors import ConfigInvalid

DIGEST = sha256(b"a certificate").digest()


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def evidence(*, peer="192.0.2.7:49152", now="2026-01-15T12:00:00", **properties):
    return Evidence(DIGEST, properties, peer, at(now))


def fits(name, value, **given):
    return factor(name, value)(evidence(**given)) == ""


@pytest.mark.parametrize(
    ("value", "now", "expected"),
    [
        ("06:00-18:00", "2026-01-15T06:00:00", True),
        ("06:00-18:00", "2026-01-15T05:59:59", False),
        ("06:00-18:00", "2026-01-15T17:59:59", True),
        ("06:00-18:00", "2026-01-15T18:00:00", False),
        ("22:00-04:00", "2026-01-15T23:00:00", True),
        ("22:00-04:00", "2026-01-15T03:59:00", True),
        ("22:00-04:00", "2026-01-15T04:00:00", False),
        ("00:00-24:00", "2026-01-15T23:59:59", True),
        ("06:00-07:00,20:00-21:00", "2026-01-15T20:30:00", True),
        ("06:00-07:00,20:00-21:00", "2026-01-15T12:30:00", False),
        # Berlin is UTC+1 in January and UTC+2 in July.
        ("06:00-18:00 Europe/Berlin", "2026-01-15T05:00:00", True),
        ("06:00-18:00 Europe/Berlin", "2026-01-15T04:59:00", False),
        ("06:00-18:00 Europe/Berlin", "2026-07-15T04:00:00", True),
        ("06:00-18:00 Europe/Berlin", "2026-07-15T16:00:00", False),
    ],
)
def test_hours(value, now, expected):
    assert fits("hours", value, now=now) is expected


@pytest.mark.parametrize(
    ("value", "peer", "expected"),
    [
        ("192.0.2.0/24", "192.0.2.7:49152", True),
        ("192.0.2.0/24", "192.0.3.7:49152", False),
        ("198.51.100.0/24 192.0.2.7", "192.0.2.7:1", True),
        ("2001:db8::/32", "[2001:db8:1::7]:49152", True),
        ("2001:db8::/32", "[2001:db9::7]:49152", False),
        ("192.0.2.0/24", "[::ffff:192.0.2.7]:49152", True),  # an IPv4 peer of a socket for both
        ("192.0.2.0/24", "2001:db8::7", False),
        ("0.0.0.0/0", "mail from nobody", False),
        ("0.0.0.0/0", "", False),
    ],
)
def test_network(value, peer, expected):
    assert fits("network", value, peer=peer) is expected


@pytest.mark.parametrize("name", ["position", "cell"])
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("48.1374,11.5755", True),
        ("48.1385,11.5755", True),  # 0.0011 degrees of latitude are 122 m
        ("48.1420,11.5755", False),  # 511 m
        ("48.1374,11.5820", True),  # 0.0065 degrees of longitude at 48 degrees are 482 m
        ("48.1374,11.5826", False),  # 527 m
        ("-48.1374,11.5755", False),
        ("", False),
        ("48.1374", False),
        ("nan,nan", False),
        ("91,0", False),
        ("48.1374,11.5755,0", False),
        ("٤٨,١١", False),
        ("1e1,11", False),
    ],
)
def test_positions(name, said, expected):
    known = {"position": "position", "cell": "cellPosition"}[name]
    assert fits(name, "48.1374,11.5755 500", **{known: said}) is expected


@pytest.mark.parametrize(
    ("one", "other", "metres"),
    [
        ((0, 0), (0, 0), 0),
        ((0, 0), (0, 180), 20_015_115),  # half round: pi x 6,371,008.8 m
        ((90, 0), (-90, 0), 20_015_115),
        ((36.12, -86.67), (33.94, -118.40), 2_886_448),  # Nashville to Los Angeles, the haversine's usual example
        ((0, 179.999), (0, -179.999), 222),  # over the date line
    ],
)
def test_distances(one, other, metres):
    assert distance_m(one, other) == pytest.approx(metres, rel=1e-4, abs=1)


@pytest.mark.parametrize(
    ("name", "said"), [("serial", "serialNumber"), ("caller-id", "callerId"), ("hardware-key", "hardwareKey")]
)
def test_what_a_device_says_of_itself(name, said):
    assert fits(name, "A-1 B-2", **{said: "B-2"})
    assert not fits(name, "A-1 B-2", **{said: "b-2"})
    assert not fits(name, "A-1 B-2", **{said: "A-1 B-2"})
    assert not fits(name, "A-1 B-2", **{said: ""})
    assert not fits(name, "A-1 B-2")


def test_certificate():
    assert fits("certificate", f"{'00' * 32} {DIGEST.hex().upper()}")
    assert not fits("certificate", "00" * 32)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hours", ""), ("hours", "6-18"), ("hours", "06:00-25:00"), ("hours", "06:00-18:00 Europe/Nowhere"),
        ("certificate", ""), ("certificate", "abcd"), ("certificate", "zz" * 32),
        ("network", ""), ("network", "192.0.2.7/24"), ("network", "somewhere"),
        ("position", "48.1374,11.5755"), ("position", "48.1374,11.5755 0"), ("position", "91,0 5"),
        ("position", "48.1374,11.5755 -5"), ("serial", " "), ("shoe-size", "43"),
    ],
)  # fmt: skip
def test_a_value_that_is_none_is_told_with_an_example(name, value):
    with pytest.raises(ConfigInvalid) as told:
        factor(name, value)
    assert name not in FACTORS or FACTORS[name].example in told.value.reason
