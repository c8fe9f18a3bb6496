"""What we write of ESPI, held to its schema (`espi.xsd`, in own words), and the frame of the feed to RFC 4287."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from gridpost.adapters.greenbutton import GreenButtonAdapter
from lxml import etree

from gridpost.model import ChannelKey, IntervalBlock, Quality, Readings, RegisterReading
from gridpost.ports import FormatOptions

ATOM = "{http://www.w3.org/2005/Atom}"
SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).with_name("espi.xsd")))
KWH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
EVERY_NUMBER = "11.2.2.4.19.2.12.1.2.3.4.5.6.7.128.3.73.840"
STAND = "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
START = 1331366400  # 2012-03-10T08:00:00Z, midnight of Los Angeles; the next day has 23 hours
COUNT = 96 + 92


def feed(**options):
    ends = tuple(START + 900 * (place + 1) for place in range(COUNT))
    estimates = ((Quality("2.8.0", "ESPI 9"), Quality("1.2.32", "PO")),) * 2 + ((),) * (COUNT - 2)
    names = (("E1", KWH), ("B1", EVERY_NUMBER), ("Q1", KWH.replace(".72.", ".73.")))
    blocks = tuple(
        IntervalBlock(ChannelKey("UP 1/ä", "M:1", stream, kind), 900, ends, ("-12.345",) * COUNT, estimates)
        for stream, kind in names
    )
    register = RegisterReading(ChannelKey("UP 1/ä", "M:1", "E1", STAND), START, "716.7")
    rendered = GreenButtonAdapter().render(Readings(blocks, (register,)), FormatOptions(**options))
    return etree.fromstring(rendered.content)


def objects(root):
    return [entry.find(f"{ATOM}content")[0] for entry in root.iterfind(f"{ATOM}entry")]


WHOLE = {"zone": ZoneInfo("America/Los_Angeles"), "from_utc": START, "to_utc": START + 900 * COUNT, "created_utc_ms": 5}


@pytest.mark.parametrize(
    ("options", "besides"),
    [
        ({}, set()),
        ({"zone": ZoneInfo("Australia/Brisbane")}, {"LocalTimeParameters"}),
        (WHOLE, {"LocalTimeParameters", "UsageSummary"}),
    ],
)
def test_every_object_is_of_the_schema(options, besides):
    found = objects(feed(**options))
    refused = [(one.tag, SCHEMA.error_log.last_error) for one in found if not SCHEMA.validate(etree.ElementTree(one))]
    assert refused == []
    kinds = {etree.QName(one).localname for one in found}
    assert kinds == {"UsagePoint", "MeterReading", "ReadingType", "IntervalBlock"} | besides


def test_a_feed_and_its_entries_have_what_atom_wants():
    """RFC 4287 sections 4.1.1 and 4.1.2: one id, one title, one updated each; no id twice; a link to itself."""
    root = feed(**WHOLE)
    entries = list(root.iterfind(f"{ATOM}entry"))
    for element in (root, *entries):
        assert [len(element.findall(f"{ATOM}{name}")) for name in ("id", "title", "updated")] == [1, 1, 1]
        assert [link.get("rel") for link in element.iterfind(f"{ATOM}link")].count("self") == 1
    ids = [element.findtext(f"{ATOM}id") for element in (root, *entries)]
    assert len(set(ids)) == len(ids)
    addresses = {link.get("href") for one in entries for link in one.iterfind(f"{ATOM}link[@rel='self']")}
    collections = {address.rpartition("/")[0] for address in addresses}
    named = {link.get("href") for one in entries for link in one.iterfind(f"{ATOM}link[@rel='related']")}
    assert named <= addresses | collections


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("IntervalBlock", lambda one: one.append(one[0])),  # the interval behind its readings
        ("IntervalBlock", lambda one: one[1].remove(one[1][-1]) or one[1].insert(0, one[0])),
        ("ReadingType", lambda one: one.insert(0, one[-1])),
        ("ReadingType", lambda one: one.find("{*}powerOfTenMultiplier").__setattr__("text", "4")),
        ("LocalTimeParameters", lambda one: one.remove(one[1])),
        ("LocalTimeParameters", lambda one: one[0].__setattr__("text", "B40E20")),
        ("UsageSummary", lambda one: one.remove(one.find("{*}statusTimeStamp"))),
        ("UsagePoint", lambda one: one[0].remove(one[0][0])),
    ],
)
def test_the_schema_refuses_what_is_spoilt(name, spoil):
    one = next(one for one in objects(feed(**WHOLE)) if etree.QName(one).localname == name)
    spoil(one)
    assert not SCHEMA.validate(etree.fromstring(etree.tostring(one)))
