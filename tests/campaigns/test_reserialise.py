"""What `reserialise` writes is, to lxml's exclusive c14n, what it was given; and no two writings are alike."""

import random
import sys
from pathlib import Path

import pytest
from lxml import etree

sys.path.insert(0, str(Path(__file__).parent))

from reserialise import reserialised

from gridpost import testing

SIGNED = ("Body", "Timestamp", "SignedInfo", "SignatureValue", "BinarySecurityToken", "KeyInfo")


@pytest.fixture(scope="module")
def message():
    signer = testing.ThrowawayCA().issue_device("IED-1")
    block = testing.block(testing.channel(), 1_767_225_600, ["1.5", "2.25"])
    return testing.sealed(testing.readings_message("IED-1", "<a>&'\"b", [block]), signer)


def octets(raw):
    root = etree.fromstring(raw)
    parts = [next(root.iter(f"{{*}}{name}")) for name in SIGNED]
    return [etree.tostring(part, method="c14n", exclusive=True, with_tail=False) for part in parts]


def test_the_signed_octets_stay_and_the_bytes_do_not(message):
    written = [reserialised(message, random.Random(seed)) for seed in range(300)]
    assert len({message, *written}) == 301
    for raw in written:
        assert octets(raw) == octets(message)


def test_everything_it_can_do_is_done(message):
    written = b"".join(reserialised(message, random.Random(seed)) for seed in range(100))
    for mark in (b"\xef\xbb\xbf", b"='", b" = ", b"/>", b"&#x", b"&#5", b"></ds:Transform", b"urn:example:trace",
                 b"xmlns:unused", b"<?xml"):  # fmt: skip
        assert mark in written


def test_the_seed_makes_the_writing(message):
    assert reserialised(message, random.Random(7)) == reserialised(message, random.Random(7))
