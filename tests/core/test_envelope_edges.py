"""Where exactly `envelope` draws its lines: which lock refuses, and the last thing each lets pass."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from forging import Setting, draft
from lxml import etree

from gridpost import envelope, testing
from gridpost.errors import EnvelopeShape, ForbiddenMarkup, LimitExceeded, MalformedXml, MustUnderstand

CA = testing.ThrowawayCA()
DEVICE = CA.issue_device("IED1")
SETTING = Setting(DEVICE, "IED1", testing.channel(1), testing.NOW_UTC_MS, DEVICE, "IED1", testing.channel(1))
RIGHT = draft(SETTING).sealed().decode()
SMALL = envelope.Limits(size=2000, less_than=50, equals=50, depth=5, attributes=3, namespaces=3)


def detail(error, raw, limits=SMALL) -> str:
    with pytest.raises(error) as refused:
        envelope.parse(raw, limits)
    return refused.value.detail


# --- on the bytes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"a<a/>",
        b"X<a/>",
        b" " * 400 + b"<a/>",
        "<a/>".encode("utf-16-le"),
        "<a/>".encode("utf-32-le"),
        b"<a>" + b" " * 60 + b"\0</a>",
        b'<?xml version="1.0"?>' + b" " * 400 + b"<a/>",
    ],
)
def test_what_does_not_begin_with_an_element_is_refused_on_the_bytes(raw):
    assert detail(MalformedXml, raw) == "does not begin with an element"


@pytest.mark.parametrize(
    "raw", [b" " * 399 + b"<a/>", b"\t\r\n <a/>", b'<?xml version="1.0"?>' + b"\n" * 399 + b"<a/>"]
)
def test_white_space_may_stand_before_it(raw):
    assert envelope.parse(raw, SMALL).tag == "a"


def test_a_nul_further_on_is_the_parsers_to_refuse():
    """The first 64 octets tell UTF-16 and UTF-32; no XML holds a NUL anywhere."""
    assert detail(MalformedXml, b"<a>" + b" " * 61 + b"\0</a>") != "does not begin with an element"


@pytest.mark.parametrize(
    "document_type",
    [
        '<!DOCTYPE a [<!ENTITY e "x">]>',
        '<!DOCTYPE a [<!ENTITY e SYSTEM "/nonexistent/entity">]>',
        '<!DOCTYPE a SYSTEM "/nonexistent/document-type">',
    ],
)
def test_a_document_type_is_refused_by_the_tree_too_and_nothing_of_it_is_loaded(monkeypatch, document_type):
    """The second lock behind the one on the bytes; were the parser to load what is named, it would not be found."""
    monkeypatch.setattr(envelope, "_refuse_by_bytes", lambda *_: None)
    assert detail(ForbiddenMarkup, f"{document_type}<a>&e;</a>".encode()) == "document type"
    assert envelope.parse(b"<a/>", SMALL).tag == "a"


# --- on the tree -----------------------------------------------------------------------------------------------------


def test_the_most_attributes_of_one_element_beside_others():
    """Where the count of `=` on the bytes does not speak for all of them."""
    assert envelope.parse(b'<a b="" c="" d=""><e f="" g="" h=""/></a>', SMALL).tag == "a"
    assert detail(LimitExceeded, b'<a b=""><e f="" g="" h="" i=""/></a>') == "attributes of one element"


def test_declarations_count_on_the_way_down_and_no_longer_behind_their_element():
    closed = b'<c xmlns:e="u:e" xmlns:f="u:f"/>' * 4
    assert envelope.parse(b'<a xmlns:b="u:b">' + closed + b"</a>", SMALL).tag == "a"
    too_many = b'<a xmlns:b="u:b">' + closed + b'<c xmlns:e="u:e" xmlns:f="u:f"><d xmlns:g="u:g"/></c></a>'
    assert detail(LimitExceeded, too_many) == "namespace declarations above one element"


def test_comments_are_no_part_of_a_canonical_form():
    """Canonical XML without comments; those of messages were refused on the bytes."""
    assert envelope.canonical(etree.fromstring("<a><!-- b --><c/></a>")) == b"<a><c></c></a>"


# --- the one shape ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["0", " 0 ", "false", "\tfalse\n"])
def test_another_header_that_need_not_be_understood_is_ignored(spelling):
    other = f'<soap:Header><a xmlns="u:x" soap:mustUnderstand="{spelling}"/>'
    assert envelope.shape(RIGHT.replace("<soap:Header>", other).encode()).certificate == DEVICE.certificate
    assert envelope.shape(RIGHT.replace("<soap:Header>", '<soap:Header><a xmlns="u:x"/>').encode()).raw


@pytest.mark.parametrize("spelling", ["1", "true", "", "00", "False"])
def test_another_header_of_any_other_spelling_is_refused(spelling):
    other = f'<soap:Header><a xmlns="u:x" soap:mustUnderstand="{spelling}"/>'
    with pytest.raises(MustUnderstand):
        envelope.shape(RIGHT.replace("<soap:Header>", other).encode())


@pytest.mark.parametrize("letter", ["X", "0", "\u00a0", "\u2028"])
def test_text_between_the_parts_is_refused(letter):
    with pytest.raises(EnvelopeShape):
        envelope.shape(RIGHT.replace("</soap:Header>", f"{letter}</soap:Header>").encode())
    assert envelope.shape(RIGHT.replace("</soap:Header>", " \t\n</soap:Header>").encode()).raw


@pytest.mark.parametrize("code", range(0x20, 0x82))
def test_a_claim_holds_each_printable_character_but_the_blank(code):
    raw = RIGHT.replace(">IED1</Source>", f">a&#{code};b</Source>").encode()
    printable = 0x21 <= code <= 0x7E  # ASCII
    assert envelope.shape(raw).claimed_source == (f"a{chr(code)}b" if printable else "ab")


# --- what strangers leave behind -------------------------------------------------------------------------------------


def names_of_this_thread():
    """The dictionary of names that lxml keeps for this thread, up to version 6."""
    state = ctypes.cast(envelope._thread_state(), ctypes.py_object).value
    return state.get("_ParserDictionaryContext")


def test_names_are_kept_for_four_mebibytes_of_messages_and_then_begun_anew():
    with ThreadPoolExecutor(1) as fresh:  # a thread that has parsed nothing
        found = fresh.submit(_names_after, [4 << 20, 1, 4 << 20, 1]).result()
    if None in found:
        pytest.skip("this lxml has one dictionary a parser")
    assert [earlier is later for earlier, later in pairwise(found)] == [True, False, True, False]


def _names_after(sizes):
    """The dictionary at the beginning and after messages of these sizes."""
    envelope.parse(b"<a/>")
    envelope._names._parsed -= len(b"<a/>")
    found = [names_of_this_thread()]
    for size in sizes:
        envelope._names.make_room(size)
        found.append(names_of_this_thread())
    return found
