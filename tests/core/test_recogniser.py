"""The short way in gives what the reference gives, on whatever can be made to differ; and is taken where it should."""

import hashlib
import random
import re
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from forgeries import forgeries, genuine
from forging import Setting
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpost import exchange, messages, recogniser, testing, units
from gridpost.envelope import DEVICE_LIMITS, Limits, shape
from gridpost.errors import PeerFault
from gridpost.model import ChannelKey, CreatedMeterReadings, Header, IntervalBlock, Quality, Readings

NOW = testing.NOW_UTC_MS
CA = testing.ThrowawayCA()
DEVICE, OTHER = CA.issue_device("IED1"), CA.issue_device("IED2")
CHANNELS = [testing.channel(1), testing.channel(2)]
ENROLMENT = testing.enrolment(DEVICE, "IED1", CHANNELS)
LAST = NOW // 1000
BLOCKS = [
    testing.block(CHANNELS[0], LAST - 1800, ["10423.75", "-0.125", "12"]),
    testing.block(CHANNELS[1], LAST, ["7"]),
]
FLAGGED = replace(BLOCKS[1], qualities=((Quality("1.4.9"),),))
MESSAGE = testing.readings_message("IED1", "m-1", BLOCKS)
RAW = testing.sealed(MESSAGE, DEVICE)
PAYLOAD = messages.encode(MESSAGE).decode()


def by(read, raw, limits=DEVICE_LIMITS):
    """What comes of a message by one way: all it says, or the code it is refused with."""
    try:
        envelope = read(raw, limits)
        return exchange.open_(envelope, ENROLMENT)
    except PeerFault as error:
        return error.code


def agree(raw, limits=DEVICE_LIMITS):
    """Hold the short way against the reference; tell whether it was taken."""
    assert by(exchange.read, raw, limits) == by(shape, raw, limits)
    return recogniser.recognise(raw, limits) is not None


def sealed(payload: str) -> bytes:
    """Signed over the bytes as they are, canonical or not, as a careless device would."""
    return exchange.seal(payload.encode(), DEVICE, NOW)


# --- it is taken -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    {
        "plain": MESSAGE,
        "receipt held": replace(MESSAGE, header=replace(MESSAGE.header, last_receipt="0:17:" + "ab" * 32)),
        "no sequence": replace(MESSAGE, header=replace(MESSAGE.header, sequence=None)),
        "no stream": replace(
            MESSAGE, readings=Readings((replace(BLOCKS[1], channel=CHANNELS[1].key._replace(stream="")),))
        ),
        "no usage point": replace(
            MESSAGE, readings=Readings((replace(BLOCKS[1], channel=CHANNELS[1].key._replace(usage_point="")),))
        ),
        "a day": replace(MESSAGE, readings=Readings((testing.block(CHANNELS[0], 900, ["0.5"] * 96),))),
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
def test_our_own_layout_is_read_the_short_way(message):
    raw = testing.sealed(message[1], DEVICE)
    assert agree(raw)
    opened = by(exchange.read, raw)
    assert opened.message == message[1]
    assert opened.content_digest == hashlib.sha256(messages.encode(message[1])).digest()


def test_rsa_signs_it_too():
    """Also with the key of another size and kind; SHA-384 and P-384 have their own names in SignatureMethod."""
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        signer = CA.issue_device("IED1", key)
        envelope = recogniser.recognise(testing.sealed(MESSAGE, signer), DEVICE_LIMITS)
        assert exchange.open_(envelope, testing.enrolment(signer, "IED1", CHANNELS)).message == MESSAGE


@pytest.mark.parametrize(
    "raw",
    [
        b'<?xml version="1.0"?>' + RAW,
        b"\xef\xbb\xbf" + RAW,
        RAW + b"\n",
        RAW.replace(b"<soap:Header>", b"<soap:Header >"),
        testing.sealed(replace(MESSAGE, readings=Readings((FLAGGED,))), DEVICE),
        testing.sealed(testing.readings_message("IED1", "a b", BLOCKS), DEVICE),
    ],
    ids=["declaration", "byte order mark", "line end", "blank in a tag", "quality", "blank in an id"],
)  # fmt: skip
def test_any_other_layout_is_the_references(raw):
    assert not agree(raw)
    assert by(exchange.read, raw).message.header.source == "IED1"


def test_the_limits_are_the_references():
    exact = Limits(size=len(RAW), less_than=RAW.count(b"<"), equals=RAW.count(b"="))
    assert agree(RAW, exact)
    for name in ("size", "less_than", "equals"):
        assert not agree(RAW, replace(exact, **{name: getattr(exact, name) - 1}))


# --- it agrees -------------------------------------------------------------------------------------------------------

SETTING = Setting(
    signer=DEVICE,
    source="IED1",
    channel=testing.channel(1, valid_from_utc=LAST - 30 * 86400),
    now_utc_ms=NOW,
    neighbour=OTHER,
    neighbour_source="IED2",
    foreign=testing.channel(9, "M9"),
)


@pytest.mark.parametrize("raw", [item.raw for item in forgeries(SETTING) + genuine(SETTING)])
def test_it_agrees_on_the_corpus(raw):
    agree(raw)


# A piece of the payload -> what a device could write instead and sign as it stands.
OTHERWISE = [
    ("<value>7</value>", f"<value>{value}</value>")
    for value in (
        *("+7", ".5", "5.", "007", "-0", "1e5", "NaN", "INF", "", " ", " 7", "7\n", "7\t8", "0x7", "1_000", "٣", "--7"),
        *("1" * 18, "1" * 19, "0." + "1" * 17, "0." + "1" * 18, "<!--c-->7", "&#55;", "<![CDATA[7]]>", "7<x/>", "\x00"),
    )
] + [
    (units.format_utc(LAST), time)
    for time in (
        *("2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z", "2024-02-29T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01"),
        *("2026-01-01T23:59:60Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00+14:00", "2026-01-01T00:00:00-14:01", ""),
        *("2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.5Z", "1969-12-31T23:59:59Z", "12026-01-01T00:00:00Z"),
        *("2026-01-01t00:00:00z", " 2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z\n", "２026-01-01T00:00:00Z"),
        *("9998-12-31T00:00:00Z", "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "-2026-01-01T00:00:00Z"),
    )
] + [
    ("<Source", "<Source "),
    ("<Header>", "<Header><!-- c -->"),
    ("<Verb", "<Noun"),
    (">created<", ">changed<"),
    (">MeterReadings<", ">EndDeviceEvents<"),
    ("IED1", "IED2"),
    ("IED1", ""),
    ("IED1", "I" * 128),
    ("IED1", "I" * 129),
    ("IED1", " IED1"),
    ("IED1", "IED&amp;1"),
    ("IED1", "IED\"1'"),
    ("m-1", "m" * 64),
    ("m-1", "m" * 65),
    ("m-1", "ü"),
    ("<Name>sequence</Name><Value>1</Value>", "<Name>sequence</Name><Value>" + "1" * 18 + "</Value>"),
    ("<Name>sequence</Name><Value>1</Value>", "<Name>sequence</Name><Value>" + "1" * 19 + "</Value>"),
    ("<Name>sequence</Name><Value>1</Value>", "<Name>sequence</Name><Value>-1</Value>"),
    ("<Name>sequence</Name><Value>1</Value>", "<Name>sequence</Name><Value>" + "\u0661</Value>"),
    ("<Name>sequence</Name><Value>1</Value>", "<Name>lastReceipt</Name><Value>" + "r" * 128 + "</Value>"),
    ("<Name>sequence</Name><Value>1</Value>", "<Name>lastReceipt</Name><Value>" + "r" * 129 + "</Value>"),
    ("<Name>sequence</Name><Value>1</Value>", "<Name>position</Name><Value>1</Value>"),
    ("<mRID>M1</mRID>", "<mRID></mRID>"),
    ("<mRID>M1</mRID>", "<mRID>" + "M" * 128 + "</mRID>"),
    ("<mRID>M1</mRID>", "<mRID>" + "M" * 129 + "</mRID>"),
    ("<mRID>M1</mRID>", "<mRID>M 1</mRID>"),
    ("<mRID>M1</mRID>", "<mRID>M>1</mRID>"),
    ("<mRID>M1</mRID>", "<mRID>M'1\"</mRID>"),
    ('ref="0.0.2', 'ref="9.0.2'),
    ('ref="', 'ref="' + "9" * 100),
    ('ref="', "ref='"),
    ('ref="', 'ref="&#9;'),
    ('ref="', 'ref=" '),
    ('ref="0', 'ref="'),
    ("></ReadingType>", "/>"),
    ("<name>channel</name>", "<name>other</name>"),
    ("</MeterReading><MeterReading>", ""),
    ("</MeterReading><MeterReading>", "</MeterReading>\n<MeterReading>"),
    ("</MeterReading><MeterReading>", "</MeterReading><MeterReading></MeterReading><MeterReading>"),
    ("</IntervalReadings><IntervalReadings>", "</IntervalReadings><IntervalReadings/><IntervalReadings>"),
    ("</IntervalReadings><IntervalReadings>", ""),
    ("</timeStamp><value>", "</timeStamp></IntervalReadings><IntervalReadings><timeStamp>"),
    ("</value></IntervalReadings><IntervalReadings><timeStamp>", "</timeStamp><value>"),
    ("<UsagePoint><mRID>UP-M1</mRID></UsagePoint>", ""),
    ("<UsagePoint><mRID>UP-M1</mRID></UsagePoint>", "<UsagePoint></UsagePoint>"),
    ("</CreatedMeterReadings>", "</CreatedMeterReadings><x/>"),
    ("</CreatedMeterReadings>", "</CreatedMeterReadings>\n"),
    ("<CreatedMeterReadings ", '<CreatedMeterReadings xmlns:a="u:a" '),
    ("<Payload>", "<Payload>\n"),
    ("</Payload>", "<Format>XML</Format></Payload>"),
]  # fmt: skip


@pytest.mark.parametrize(("piece", "other"), OTHERWISE)
@pytest.mark.parametrize("count", [1, -1], ids=["once", "everywhere"])
def test_it_agrees_on_what_is_signed_though_it_is_odd(piece, other, count):
    assert piece in PAYLOAD
    agree(sealed(PAYLOAD.replace(piece, other, count)))


def test_it_agrees_wherever_a_byte_is_changed():
    """Not signed anew: a change that the signature covers must be seen, one that it does not must change nothing."""
    source = random.Random(5)
    taken = 0
    for at in range(len(RAW)):
        byte = source.choice(b"<>/ =\"'&;:.0A\n\x80") if at % 2 else RAW[at] ^ (1 << source.randrange(7))
        taken += agree(RAW[:at] + bytes([byte]) + RAW[at + 1 :])
    assert taken > 100  # bytes of the digests, the values, the certificate


@settings(max_examples=400)
@given(data=st.data())
def test_it_agrees_wherever_pieces_are_moved(data):
    """Whole tags and texts dropped, doubled or swapped; signed anew inside the payload, left as it is outside."""
    inside = data.draw(st.booleans())
    pieces = re.split(r"(<[^>]*>)", PAYLOAD if inside else RAW.decode())
    first, second = (data.draw(st.integers(0, len(pieces) - 1)) for _ in range(2))
    match data.draw(st.sampled_from(["drop", "double", "swap"])):
        case "drop":
            pieces[first] = ""
        case "double":
            pieces[second] += pieces[first]
        case "swap":
            pieces[first], pieces[second] = pieces[second], pieces[first]
    text = "".join(pieces)
    agree(sealed(text) if inside else text.encode())


_ODD = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=5)
_NAMES = st.one_of(st.sampled_from(["M1", "UP-M1", "a b", "x&y", "<", "'", '"', ">"]), _ODD)
_VALUES = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=3)
_COLUMNS = st.lists(
    st.tuples(st.integers(0, 2**33), _VALUES.map(str), st.sampled_from([(), (), (Quality("1.4.9", "x"),)])), max_size=5
)


@settings(max_examples=300)
@given(st.lists(st.tuples(_NAMES, _NAMES, st.one_of(st.just(""), _NAMES), _COLUMNS), max_size=4), _NAMES)
def test_it_agrees_on_every_message_we_can_write(channels, message_id):
    blocks = tuple(
        IntervalBlock(
            ChannelKey(point, meter, stream, testing.FORWARD_KWH_15MIN),
            900,
            tuple(end for end, _, _ in rows),
            tuple(value for _, value, _ in rows),
            tuple(quality for _, _, quality in rows),
        )
        for point, meter, stream, rows in channels
    )
    header = Header("created", "MeterReadings", NOW, "IED1", message_id)
    agree(testing.sealed(CreatedMeterReadings(header, Readings(blocks)), DEVICE))


# --- a signature it does not believe ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern", [rb"<ds:DigestValue>(.)", rb"<ds:SignatureValue>(.)", rb"<value>(.)", rb"Created>2(.)"]
)
def test_what_was_changed_is_recognised_and_not_believed(pattern):
    at = re.search(pattern, RAW).start(1)
    changed = RAW[:at] + (b"1" if RAW[at : at + 1] != b"1" else b"2") + RAW[at + 1 :]
    assert agree(changed)
    assert by(exchange.read, changed) == "signature-invalid"


def test_another_certificate_is_not_believed():
    envelope = recogniser.recognise(testing.sealed(MESSAGE, OTHER), DEVICE_LIMITS)
    with pytest.raises(PeerFault) as refused:
        exchange.open_(envelope, ENROLMENT)
    assert refused.value.code == "signature-invalid"
