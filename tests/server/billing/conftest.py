"""A billing office, and one that is ready to bill; lets tests import what stands beside them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gridpost import testing
from gridpost.model import ChannelKey

sys.path.insert(0, str(Path(__file__).parent))

from billing_office import DAY, HOUR, HOURLY, MAY, Office, flat


@pytest.fixture
def office(post_office):
    """An office in May 2026, with an hourly channel of usage point UP1 and nothing else."""
    post_office.now = (MAY + DAY) * 1000
    channel = replace(testing.channel(1), key=ChannelKey("UP1", "M1", "E1", HOURLY), interval_s=HOUR)
    signer = post_office.enrol("IED-1", [channel])
    return Office(post_office, signer, channel)


@pytest.fixture
def ready(office):
    """With a tariff, a contract and the readings of March: 744 hours of 1.5 kWh at 0.10."""
    office.add(flat())
    office.sign()
    office.month()
    return office
