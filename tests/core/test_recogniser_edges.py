"""What the short way says of a message beside its readings, and how long each text may be there."""

import hashlib
import re
from dataclasses import replace

import pytest

from gridpost import exchange, messages, recogniser, testing, wssecurity
from gridpost.envelope import DEVICE_LIMITS, shape
from gridpost.errors import SignatureInvalid
from gridpost.model import Readings

CA = testing.ThrowawayCA()
DEVICE = CA.issue_device("IED1")
CHANNEL = testing.channel(1)
BLOCK = testing.block(CHANNEL, testing.NOW_UTC_MS // 1000, ["1.5", "2"])
MESSAGE = testing.readings_message("IED1", "m-1", [BLOCK])


def plain_of(message) -> recogniser.Plain | None:
    return recogniser.recognise(testing.sealed(message, DEVICE), DEVICE_LIMITS)


def with_header(**changes):
    return replace(MESSAGE, header=replace(MESSAGE.header, **changes))


def with_key(**changes):
    return replace(MESSAGE, readings=Readings((replace(BLOCK, channel=BLOCK.channel._replace(**changes)),)))


def test_it_claims_what_the_reference_claims():
    message = with_header(source="S" * 70, message_id="m" * 64)
    raw = testing.sealed(message, DEVICE)
    plain, reference = recogniser.recognise(raw, DEVICE_LIMITS), shape(raw)
    for name in ("raw", "operation", "certificate", "certificate_sha256", "claimed_source", "claimed_message_id"):
        assert getattr(plain, name) == getattr(reference, name)
    assert plain.claimed_source == "S" * 64
    assert plain.claimed_message_id == "m" * 64
    assert plain.operation == "{http://iec.ch/TC57/2011/MeterReadingsMessage}CreatedMeterReadings"
    assert plain.certificate_sha256 == hashlib.sha256(DEVICE.certificate).digest()


def test_it_verifies_as_the_reference_does():
    raw = testing.sealed(MESSAGE, DEVICE)
    plain = recogniser.recognise(raw, DEVICE_LIMITS)
    found, reference = recogniser.verify(plain, DEVICE.certificate), wssecurity.verify(shape(raw), DEVICE.certificate)
    assert found == reference._replace(body=b"")  # what `exchange` cuts the payload out of, and has here already
    assert plain.payload == messages.encode(MESSAGE)


@pytest.mark.parametrize(
    "field", ["certificate", "signature", "signed_info", "body", "timestamp"], ids=lambda field: field
)
def test_each_part_counts(field):
    """One octet of each; the digests are counted by what they are compared with."""
    plain = plain_of(MESSAGE)
    octets = getattr(plain, field)
    with pytest.raises(SignatureInvalid):
        recogniser.verify(replace(plain, **{field: octets[:-1] + bytes([octets[-1] ^ 1])}), DEVICE.certificate)


@pytest.mark.parametrize("place", [0, 1])
def test_each_digest_counts(place):
    plain = plain_of(MESSAGE)
    digests = list(plain.digests)
    digests[place] = "A" * 43 + "="
    with pytest.raises(SignatureInvalid):
        recogniser.verify(replace(plain, digests=tuple(digests)), DEVICE.certificate)


@pytest.mark.parametrize(
    ("of", "longest"),
    [
        (lambda text: with_header(source=text), 128),
        (lambda text: with_header(message_id=text), 64),
        (lambda text: with_header(last_receipt=text), 128),
        (lambda text: with_key(meter=text), 128),
        (lambda text: with_key(stream=text), 128),
        (lambda text: with_key(usage_point=text), 128),
    ],
    ids=["source", "message id", "receipt", "meter", "stream", "usage point"],
)
def test_texts_are_read_up_to_their_length(of, longest):
    """64 is the header's limit for an id (DESIGN section 4)."""
    for text in ("x", "x" * longest):
        message = of(text)
        assert plain_of(message).message == message
    assert plain_of(of("x" * (longest + 1))) is None


@pytest.mark.parametrize("character", [*"!#$%()*+,-./:;=?@[]^_`{|}~", "0", "Z"])
def test_printable_characters_that_xml_writes_as_themselves_are_read(character):
    assert plain_of(with_header(source=f"a{character}b")).message.header.source == f"a{character}b"


@pytest.mark.parametrize("character", [*" \"&<>'", "é", "\t"])
def test_others_are_left_to_the_reference(character):
    """The apostrophe too, which the reference takes: the short way is for what our own devices are called."""
    assert plain_of(with_header(source=f"a{character}b")) is None


@pytest.mark.parametrize("sequence", [None, 0, 7, 10**17])
def test_a_sequence_is_read(sequence):
    assert plain_of(with_header(sequence=sequence)).message.header.sequence == sequence


def test_a_message_of_no_row_no_block_or_another_table_is_left_to_the_reference():
    raw = testing.sealed(MESSAGE, DEVICE)
    for old, new in (
        (b"<IntervalReadings>", b"<IntervalReading>"),
        (b"</value></IntervalReadings>", b"</value> </IntervalReadings>"),
        (b"<ReadingType ref=", b"<ReadingType  ref="),
        (b"<MeterReading><IntervalBlocks>", b"<MeterReading ><IntervalBlocks>"),
    ):
        assert raw.count(old)
        assert recogniser.recognise(raw.replace(old, new), DEVICE_LIMITS) is None
    assert plain_of(testing.readings_message("IED1", "m-1", [])) is None
    assert (
        exchange.read(testing.sealed(testing.readings_message("IED1", "m-1", []), DEVICE)).claimed_message_id == "m-1"
    )


def with_part(pattern: bytes, text: bytes) -> bytes:
    """A message of ours with another text in place of the group of a pattern."""
    raw = testing.sealed(MESSAGE, DEVICE)
    found = re.search(pattern, raw)
    return raw[: found.start(1)] + text + raw[found.end(1) :]


@pytest.mark.parametrize(
    ("pattern", "most"), [(rb'wsu:Id="token">([^<]+)<', 20_000), (rb"<ds:SignatureValue>([^<]+)<", 2000)]
)
def test_token_and_signature_are_read_from_three_octets_to_their_length(pattern, most):
    """Base64 in whole groups of four; a key that long is none of ours."""
    for letters, is_read in ((3, False), (4, True), (most, True), (most + 4, False)):
        plain = recogniser.recognise(with_part(pattern, b"A" * letters), DEVICE_LIMITS)
        assert (plain is not None) is is_read, letters


def test_a_digest_has_the_length_of_sha_256():
    for text, is_read in ((b"A" * 43 + b"=", True), (b"A" * 42 + b"==", False), (b"A" * 44, False)):
        plain = recogniser.recognise(with_part(rb"<ds:DigestValue>([^<]+)<", text), DEVICE_LIMITS)
        assert (plain is not None) is is_read, text
