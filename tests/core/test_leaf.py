"""The leaf's bytes and the rows' digest, written out by hand from the description at the head of gridpost/leaf.py."""

from hashlib import sha256

import pytest

from gridpost import leaf
from gridpost.controls import Control, NewControl, State
from gridpost.model import EndDeviceEvent, Position, Quality

PARTS = leaf.LeafParts(Position(1, 258), 1772323200250, "IED-é", "m1", b"c" * 32, b"e" * 32, b"r" * 32)


def test_leaf_bytes():
    # "é" is two bytes of UTF-8, so the sender has six.
    assert leaf.encode_leaf(PARTS) == (
        bytes.fromhex("000000010000000000000102")
        + (1772323200250).to_bytes(8, "big")
        + b"\x00\x06IED-\xc3\xa9"
        + b"\x00\x02m1"
        + b"c" * 32
        + b"e" * 32
        + b"r" * 32
    )


def test_no_two_senders_and_ids_share_bytes():
    other = PARTS._replace(sender="IED-ém", message_id="1")
    assert leaf.encode_leaf(PARTS) != leaf.encode_leaf(other)


@pytest.mark.parametrize(
    "parts",
    [PARTS._replace(sender="x" * 65536), PARTS._replace(content_sha256=b"short"), PARTS._replace(message_id="\ud800")],
)
def test_what_cannot_be_a_leaf_is_refused(parts):
    with pytest.raises(ValueError, match=r"leaf|encode"):
        leaf.encode_leaf(parts)


def test_rows_digest_is_over_sorted_json_lines():
    blocks = [
        leaf.BlockRow(1, 7, 1772324100, 1772325000, 900, "[12.500,null]", '[null,[["2.5.259",""]]]', "stored"),
        leaf.BlockRow(0, 7, 1772323200, 1772323200, 900, "[13]", None, "conflict"),
        leaf.BlockRow(2, 3, 1772326800, 1772326800, 900, "[-0.5]", None, "stored"),
    ]
    events = [
        leaf.event_row(0, EndDeviceEvent("", "3.26.0.85", 1772323200001, "M1", 'a "b"\n', "", {"z": "1", "ä": "é"}))
    ]
    registers = [leaf.RegisterRow(0, 7, "0.0.0.1", 1772323200, "1234.5", None, "stored")]
    expected = (
        '{"kind":"block","channel":3,"time":1772326800,"line":2,"interval_s":900,"values":[-0.5],"qualities":null,'
        '"outcome":"stored"}\n'
        '{"kind":"block","channel":7,"time":1772323200,"line":0,"interval_s":900,"values":[13],"qualities":null,'
        '"outcome":"conflict"}\n'
        '{"kind":"block","channel":7,"time":1772324100,"line":1,"interval_s":900,"values":[12.500,null],'
        '"qualities":[null,[["2.5.259",""]]],"outcome":"stored"}\n'
        '{"kind":"entry","noun":"MeterReadings","transport":"http","created":1772323202250,"sequence":17,'
        '"last_receipt":"0:4:\u00e9\\""}\n'
        '{"kind":"event","time":1772323200001,"line":0,"mrid":"","event_type":"3.26.0.85","asset":"M1",'
        '"reason":"a \\"b\\"\\n","severity":"","details":{"z":"1","ä":"é"}}\n'
        '{"kind":"register","channel":7,"time":1772323200,"line":0,"reading_type":"0.0.0.1","value":1234.5,'
        '"qualities":null,"outcome":"stored"}\n'
    )
    header = leaf.HeaderRow("MeterReadings", "http", 1772323202250, 17, '0:4:é"')
    rows = leaf.EntryRows(header, blocks, events, registers)
    assert "".join(leaf.rows_lines(rows)) == expected
    assert leaf.rows_digest(rows) == sha256(expected.encode()).digest()
    assert leaf.rows_digest(rows._replace(blocks=blocks[::-1])) == sha256(expected.encode()).digest()


CONTROL = Control(
    "", "U1", "utility", "s-7", "reduce", "IED1", "load 1", "12.50", "kW", 1772323200000, 1772409600000, 0, 1, 'a "b"',
    (("z", "1"), ("ä", "é"), ("z", "2")),
)  # fmt: skip


def test_a_control_is_a_line_before_the_entrys():
    given = [NewControl(CONTROL, State.HELD, "policy", "too many", "north"), NewControl(CONTROL, State.WAITING, "bus")]
    rows = [leaf.control_row(line, one) for line, one in enumerate(given)]
    line = (
        '{"kind":"control","line":0,"issuer":"U1","role":"utility","tracking_id":"s-7","action":"reduce",'
        '"target":"IED1","output":"load 1","value":"12.50","unit":"kW","not_before":1772323200000,'
        '"expires":1772409600000,"need_by":0,"priority":1,"reason":"a \\"b\\"","group":"north",'
        '"data":[["z","1"],["ä","é"],["z","2"]],"state":"held"}\n'
    )
    other = line.replace('"line":0', '"line":1').replace('"north"', '""').replace('"held"', '"waiting"')
    header = leaf.HeaderRow("EndDeviceControls", "office", 1, None, "")
    event = leaf.event_row(0, EndDeviceEvent("", "3.26.0.85", 1))
    lines = leaf.rows_lines(leaf.EntryRows(header, events=[event], controls=rows[::-1]))
    assert lines[:2] == [line, other]
    assert [one[9:14] for one in lines[2:]] == ["entry", "event"]


def test_a_control_comes_back_from_its_row():
    (row,) = [leaf.control_row(3, NewControl(CONTROL, State.HELD, "policy"))]
    assert leaf.parse_control(row, "0-7-3", 12) == CONTROL._replace(mrid="0-7-3", counter=12)


def test_an_entry_without_readings_still_commits_to_how_it_came():
    rows = leaf.EntryRows(leaf.HeaderRow("EndDeviceEvents", "mail", 1, None, ""))
    line = b'{"kind":"entry","noun":"EndDeviceEvents","transport":"mail","created":1,"sequence":null,"last_receipt":""}'
    assert leaf.rows_digest(rows) == sha256(line + b"\n").digest()


def test_values_keep_every_digit():
    values = ("12.500", None, "123456789012345.678", "-0")
    assert leaf.values_text(values) == "[12.500,null,123456789012345.678,-0]"
    assert leaf.parse_values(leaf.values_text(values)) == values


def test_qualities_keep_what_was_sent():
    qualities = ((), (Quality("1.0.0"),), (Quality("1.4.9", "S14"), Quality("2.7.1")))
    assert leaf.qualities_text(qualities) == '[null,[["1.0.0",""]],[["1.4.9","S14"],["2.7.1",""]]]'
    assert leaf.parse_qualities(leaf.qualities_text(qualities), 3) == qualities
    assert leaf.qualities_text(((), ())) is None
    assert leaf.parse_qualities(None, 2) == ((), ())
