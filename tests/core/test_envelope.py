"""From bytes to the one shape: what is refused on the bytes, what on the tree, and what it may cost."""

import base64
import hashlib
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from forging import Setting, draft
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from gridpost import envelope, ns, testing
from gridpost.errors import (
    EnvelopeShape,
    ForbiddenMarkup,
    LimitExceeded,
    MalformedXml,
    MessageTooLarge,
    MustUnderstand,
    PeerFault,
    VersionMismatch,
)

CA = testing.ThrowawayCA()
DEVICE = CA.issue_device("IED1")
SETTING = Setting(DEVICE, "IED1", testing.channel(1), testing.NOW_UTC_MS, DEVICE, "IED1", testing.channel(1))
RIGHT = draft(SETTING).sealed()
SMALL = envelope.Limits(size=2000, less_than=50, equals=50, depth=5, attributes=3, namespaces=3)


def test_the_shape_finds_each_part():
    shaped = envelope.shape(RIGHT)
    parts = (shaped.body, shaped.payload, shaped.timestamp, shaped.token, shaped.signature)
    names = ["Body", "CreatedMeterReadings", "Timestamp", "BinarySecurityToken", "Signature"]
    assert [etree.QName(part).localname for part in parts] == names
    assert shaped.raw is RIGHT
    assert shaped.certificate == DEVICE.certificate
    assert shaped.certificate_sha256 == hashlib.sha256(DEVICE.certificate).digest()
    assert shaped.claimed_source == "IED1"
    assert shaped.claimed_message_id.startswith("forged-")


def test_claims_are_short_and_printable():
    claim = "x" * 100 + "\u202e\n\u00a0"
    raw = RIGHT.decode().replace(">IED1</Source>", f">a\n \u202eb{claim}</Source>").encode()
    assert envelope.shape(raw).claimed_source == "ab" + "x" * (64 - len("a\n \u202eb"))
    assert envelope.shape(draft(SETTING, '<a xmlns="u:x"/>').sealed()).claimed_source == ""


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"<a/>" + b" " * 2000, MessageTooLarge),
        (b"<a>" + b"<b/>" * 50 + b"</a>", LimitExceeded),
        (b"<a>" + b"=" * 51 + b"</a>", LimitExceeded),
        (b"<a><b><c><d><e><f/></e></d></c></b></a>", LimitExceeded),
        (b'<a b="" c="" d="" e=""/>', LimitExceeded),
        (b'<a><b c="" d="" e="" f=""/></a>', LimitExceeded),
        (b'<a xmlns:b="u:b" xmlns:c="u:c"><d xmlns:e="u:e" xmlns:f="u:f"/></a>', LimitExceeded),
        (b'<a xmlns:b="u:b"><d xmlns:b="u:c"><e xmlns:b="u:d"><f xmlns:b="u:e"/></e></d></a>', LimitExceeded),
        (b"<a/><!-- -->", ForbiddenMarkup),
        (b"<!DOCTYPE a><a/>", ForbiddenMarkup),
        (b"<a><?b?></a>", ForbiddenMarkup),
        (b"<a><![CDATA[]]></a>", ForbiddenMarkup),
        (b"a", MalformedXml),
        (b"", MalformedXml),
    ],
)
def test_each_limit_is_the_first_value_refused(raw, error):
    with pytest.raises(error):
        envelope.parse(raw, SMALL)


@pytest.mark.parametrize(
    "raw",
    [
        b"<a/>" + b" " * 1996,
        b"<a>" + b"<b/>" * 48 + b"</a>",
        b"<a>" + b"=" * 50 + b"</a>",
        b"<a><b><c><d><e/></d></c></b></a>",
        b'<a b="" c="" d=""/>',
        b'<a xmlns:b="u:b" xmlns:c="u:c"><d xmlns:e="u:e"/><d xmlns:e="u:e"/><d xmlns:e="u:e"/></a>',
        b"<a>! ? &lt;!-- &lt;?</a>",
    ],
)
def test_each_limit_is_the_last_value_taken(raw):
    assert envelope.parse(raw, SMALL).tag == "a"


def test_raised_limits_grow_in_proportion():
    raised = envelope.DEVICE_LIMITS.raised(3 << 20)
    assert (raised.size, raised.less_than, raised.equals) == (3 << 20, 300_000, 300_000)
    assert (raised.nodes, raised.depth, raised.attributes, raised.namespaces) == (450_000, 64, 64, 64)
    assert envelope.DEVICE_LIMITS.raised(1000).less_than == 100_000


def test_limits_hold_where_libxml2_itself_has_none():
    """Above 10 MB libxml2 is told to allow huge trees: depth, entities and counts are then ours to bound."""
    huge = envelope.DEVICE_LIMITS.raised(64 << 20)
    with pytest.raises(LimitExceeded):
        envelope.parse(b"<a>" * 2000 + b"</a>" * 2000, huge)
    with pytest.raises(ForbiddenMarkup):
        envelope.parse(b'<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>', huge)
    text = b"<a>" + b"x" * 11_000_000 + b"</a>"
    assert len(envelope.parse(text, huge).text) == 11_000_000


@pytest.mark.parametrize(
    ("octets", "text"),
    [(b"a", "YQ=="), (b"a", " Y\tQ\n=\r= "), (b"\xfb\xff", "+/8="), (b"abc", "YWJj")],
)
def test_base64_takes_white_space_of_xml(octets, text):
    assert envelope.base64_octets(text) == octets


@pytest.mark.parametrize(
    "text", [None, "", " ", "YQ", "YQ=", "YQ==YQ==", "YQ===", "Y*Q=", "-_-_", "YQ\u00a0==", "\u2028YQ==", "\uff39Q=="]
)
def test_base64_takes_nothing_else(text):
    with pytest.raises(EnvelopeShape):
        envelope.base64_octets(text)


@given(st.binary(min_size=1))
def test_base64_is_the_standard_librarys(octets):
    assert envelope.base64_octets(base64.encodebytes(octets).decode()) == octets


@pytest.mark.parametrize("space", ["relative", "../x", "?x", "a/b"])
def test_a_part_without_a_canonical_form_is_refused_never_empty(space):
    """Canonical XML 1.0 section 1.3: an implementation must fail on relative namespace URIs."""
    with pytest.raises(EnvelopeShape, match="not Header") as refused:
        envelope.canonical(etree.fromstring(f'<a xmlns="{space}"/>'))
    assert "no canonical form" in refused.value.detail


def test_canonical_leaves_the_tail_behind():
    assert envelope.canonical(etree.fromstring("<a><b/>tail</a>")[0]) == b"<b></b>"


def test_a_prefix_list_knows_default_in_every_thread_and_with_every_dictionary():
    def ask() -> bytes:
        return envelope.canonical(envelope.parse(b'<a xmlns="urn:d" xmlns:p="urn:p"><p:b/></a>')[0], ["#default"])

    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(ask()))
    thread.start()
    thread.join()
    envelope._names.make_room(envelope._Names.BYTES + 1)
    assert [*found, ask()] == [b'<p:b xmlns="urn:d" xmlns:p="urn:p"></p:b>'] * 2


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("soap:Envelope", "soap:Letter"), VersionMismatch),
        ((ns.SOAP11, ns.SOAP12), VersionMismatch),
        (("<soap:Header>", '<soap:Header><a xmlns="u:x" soap:mustUnderstand=" 1 "/>'), MustUnderstand),
        (("<soap:Header>", '<soap:Header><a xmlns="u:x" soap:mustUnderstand=""/>'), MustUnderstand),
        (("</soap:Header>", "\u3000</soap:Header>"), EnvelopeShape),
        (('wsu:Id="body"', 'wsu:Id="token"'), EnvelopeShape),
        (("<value>", '<value iD="time">'), EnvelopeShape),
    ],
)
def test_one_change_and_the_shape_is_lost(change, error):
    with pytest.raises(error):
        envelope.shape(RIGHT.decode().replace(*change).encode())


@given(st.binary())
def test_any_bytes_are_refused_or_parsed(raw):
    try:
        envelope.parse(raw)
    except PeerFault:
        return


@given(st.binary(max_size=300), st.integers(0, len(RIGHT)), st.integers(0, 40))
def test_any_bytes_in_a_right_message_are_refused_or_shaped(octets, at, cut):
    try:
        envelope.shape(RIGHT[:at] + octets + RIGHT[at + cut :])
    except PeerFault:
        return


# --- what it may cost ------------------------------------------------------------------------------------------------

_REPEATED = b"<a " + b" ".join(b'xmlns:p%d="u:%d"' % (n, n) for n in range(60)) + b">"
COSTLY = {
    "elements": b"<a>" + b"<b/>" * 99_990 + b"</a>",
    "too many elements": b"<a>" + b"<b/>" * 200_000 + b"</a>",
    "open tags": b"<a>" * 200_000,
    "attributes": b"<a " + b" ".join(b'a%d=""' % n for n in range(99_000)) + b"/>",
    "attributes over elements": b"<a>"
    + (b"<b " + b" ".join(b'a%d=""' % n for n in range(60)) + b"/>") * 1600
    + b"</a>",
    "namespaces": b"<a " + b" ".join(b'xmlns:p%d="u"' % n for n in range(60_000)) + b"/>",
    "namespaces repeated over leaves": _REPEATED * 55 + b"<b/>" * 60_000 + b"</a>" * 55,
    "names": b"<a>" + b"".join(b"<n%x/>" % n for n in range(80_000)) + b"</a>",
    "one long name": b"<" + b"n" * 900_000 + b"/>",
    "text": b"<a>" + b"x" * 1_000_000 + b"</a>",
    "character references": b"<a>" + b"&#120;" * 170_000 + b"</a>",
    "ampersands": b"<a>" + b"&" * 1_000_000 + b"</a>",
    "attribute value": b'<a b="' + b"x" * 1_000_000 + b'"/>',
    "white space": b" " * 1_000_000 + b"<a/>",
    "declaration without end": b"<?xml " + b"version " * 120_000,
    "declaration with blanks": b'<?xml version="1.0"' + b" " * 1_000_000 + b"><a/>",
    "declaration of blanks": b"<?xml" + b" " * 1_000_000 + b"?><a/>",
    "equals": b"=" * 1_000_000,
    "ids": b"<a>" + b"".join(b'<b Id="%d"/>' % n for n in range(50_000)) + b"</a>",
    "billion laughs": b'<!DOCTYPE a [<!ENTITY l "lol">'
    + b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 20))
    + b"]><a>&l19;</a>",
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_megabyte_of_malice_costs_little_time(name):
    begun = time.process_time()
    with pytest.raises(PeerFault):
        envelope.shape(COSTLY[name])
    assert time.process_time() - begun < 3.0  # see CPU_S in test_forgeries.py


_MEMORY = """
import resource, sys
sys.path.insert(0, {folder!r})
from test_envelope import COSTLY
from gridpost import envelope
from gridpost.errors import PeerFault
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
for raw in COSTLY.values():
    try:
        envelope.shape(raw)
    except PeerFault:
        pass
print(peak() - before)
"""

_LEAK = """
from gridpost import envelope
def held(): return int(open("/proc/self/statm").read().split()[1]) * 4 // 1024
def names(turn): return b"<a>" + b"".join(b"<t%xn%x/>" % (turn, n) for n in range(60_000)) + b"</a>"
for turn in range(10): envelope.parse(names(turn))
before = held()
for turn in range(10, 70): envelope.parse(names(turn))
print(held() - before)
"""


def megabytes(program: str) -> int:
    """What a fresh interpreter prints at its end."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return int(done.stdout)


def test_a_megabyte_of_malice_costs_little_memory():
    assert megabytes(_MEMORY.format(folder=str(Path(__file__).parent))) < 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_names_made_up_by_strangers_are_forgotten():
    """3.6 million names in 40 MB of messages; lxml 6 alone keeps some 90 MB of them for good."""
    assert megabytes(_LEAK) < 40


@pytest.mark.parametrize(
    ("raw", "nodes"),
    [
        (b"<a/>", 1),
        (b"<a></a>", 1),
        (b"<a>x</a>", 2),
        (b'<a>x<b c="" d="">y</b>\n</a>', 2 + 3 + 4),
        (b'<a>><b c=">"/>></a>', 2 + 2 + 2),
        (b"<a>==<b/>x></a>", 2 + 2),
        (b'<a xmlns:b="u:b"><b:c/>&gt;</a>', 2 + 1 + 2),
    ],
)
def test_no_tree_has_more_nodes_than_were_counted_on_the_bytes(raw, nodes):
    root = etree.fromstring(raw)
    texts = root.xpath("count(//text())")  # lxml's own count, as are the others
    assert nodes == root.xpath("count(//*)") + texts + 2 * root.xpath("count(//@*)") + 2 * raw.count(b"xmlns")
    assert envelope._most_nodes(raw) >= nodes
    plain = raw.count(b">") == raw.count(b"<") and b"==" not in raw
    # The root's own end has no "<" behind it.
    assert not plain or envelope._most_nodes(raw) == nodes + 1


def test_the_nodes_of_a_tree_are_bounded_on_the_bytes():
    raw = b'<a>x<b c="" d="">y</b></a>'
    assert envelope.parse(raw, envelope.Limits(nodes=9)).tag == "a"
    with pytest.raises(LimitExceeded):
        envelope.parse(raw, envelope.Limits(nodes=8))
    # 37,500 of four nodes each are refused before anything is built: half a megabyte, 20 MB as a tree.
    with pytest.raises(LimitExceeded):
        envelope.parse(b"<a>" + b'x<b c=""/>' * 37_500 + b"</a>")
    assert len(envelope.parse(b"<a>" + b'x<b c=""/>' * 37_400 + b"</a>")) == 37_400


def test_the_nodes_allow_what_the_count_of_elements_is_for():
    """35 days of 384 channel-quarters: 13,440 values, each in its six tags and every tag on a line of its own."""
    row = b"\n  <r>\n   <t>2026-01-01T00:00:00Z</t>\n   <v>1.5</v>\n  </r>"
    raw = b"<a>" + row * 13_440 + b"\n</a>"
    assert raw.count(b"<") > 80_640 > 0.8 * envelope.DEVICE_LIMITS.less_than
    assert len(envelope.parse(raw, envelope.DEVICE_LIMITS)) == 13_440


def test_a_token_between_blanks_is_decoded_in_one_piece():
    text = "Q \n" * 340_000
    tracemalloc.start()
    try:
        octets = envelope.base64_octets(text)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert octets == b"\x41\x04\x10" * 85_000  # QQQQ
    assert most < 3 * len(text)  # in pieces: 25 MB
