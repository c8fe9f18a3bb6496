"""The file of rules: what it may say, and that what it prints is what counts without it. Editing."""

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from gridpost import testing
from gridpost.applications import editing, rules
from gridpost.applications.rules import Rules
from gridpost.errors import ConfigInvalid, ReadingsRefused
from gridpost.model import Quality, is_edited, is_estimated

KEY = testing.channel().key
UTC_ZONE = ZoneInfo("Etc/UTC")


def test_the_default_text_is_the_default():
    assert rules.parse(rules.default_text(), "rules.toml").of(KEY) == Rules() == rules.parse("", "").of(KEY)
    assert "zero-run: seconds without consumption" in rules.default_text()


def test_a_channel_has_rules_of_its_own():
    book = rules.parse(
        """
        [rules]
        high = "100"
        [[channel]]
        meter = "M1"
        rules = { high = "12.5", off = "spike gap" }
        [[channel]]
        meter = "M1"
        stream = "E2"
        rules = { high = "3", may_be_negative = true }
        """,
        "rules.toml",
    )
    assert book.of(KEY) == Rules(high="12.5", off="spike gap")
    assert book.of(KEY._replace(stream="E2")) == Rules(high="3", off="spike gap", may_be_negative=True)
    assert book.of(KEY._replace(meter="M2")) == Rules(high="100")
    assert [name for name in rules.ORDER if not book.of(KEY).holds(name)] == ["gap", "spike"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[rules", "rules.toml"),
        ("[rulse]", "rulse"),
        ("[rules]\nhihg = '1'", "hihg"),
        ("[rules]\nhigh = 1.5", "high"),
        ("[rules]\nhigh = '1,5'", "high"),
        ("[rules]\nhigh = 'NaN'", "high"),
        ("[rules]\nlow = '1e3'", "low"),
        ("[rules]\ndial = '0'", "dial"),
        ("[rules]\nsum_tolerance = '-1'", "sum_tolerance"),
        ("[rules]\nspike_times = ''", "spike_times"),
        ("[rules]\nspike_times = '0'", "spike_times"),
        ("[rules]\nzero_s = -1", "zero_s"),
        ("[rules]\noff = 'gaps'", "gaps"),
        ("[rules]\nholidays = '2026-02-30'", "holidays"),
        ("[[channel]]\nmetre = 'M1'", "metre"),
        ("[[channel]]\nrules = { hihg = '1' }", "hihg"),
        ("[[channel]]\nrules = { high = 1 }", "high"),
        ("[[channel]]\n[[channel]]\nrules = { off = 'x' }", "number 2"),
        ("[[channel]]\nrules = { high = '1x' }", "high"),
    ],
)
def test_what_a_file_may_not_say_is_named(text, named):
    with pytest.raises(ConfigInvalid) as refused:
        rules.parse(text, "rules.toml")
    assert named in refused.value.reason


# --- editing ---------------------------------------------------------------------------------------------------------

NOON = 1_772_323_200 + 12 * 3600
ANNA = ("anna", "the meter was read on site")


def test_an_edit_is_a_block_that_says_who_and_why():
    channel = testing.channel()
    block = editing.edited(channel, UTC_ZONE, {NOON: "1.50", NOON - 900: "+2"}, ANNA, NOON)
    said = (Quality("3.7.0", "the meter was read on site; by anna"),)
    assert (block.ends_utc, block.values, block.qualities) == ((NOON - 900, NOON), ("2", "1.50"), (said, said))
    assert is_edited(said)
    assert not is_estimated(said)


def test_every_value_that_cannot_be_is_named():
    channel = replace(testing.channel(), valid_to_utc=NOON)
    values = {NOON - 1: "1", NOON: "1,5", NOON + 900: "2", NOON + 1800: "NaN"}
    with pytest.raises(ReadingsRefused) as refused:
        editing.edited(channel, UTC_ZONE, values, ANNA, NOON + 900)
    assert [(item.code, item.path[11:16]) for item in refused.value.items] == [
        ("off-grid", "11:59"), ("bad-value", "12:00"), ("not-assigned", "12:15"), ("not-assigned", "12:30"),
        ("reading-in-future", "12:30"), ("bad-value", "12:30"),
    ]  # fmt: skip


@pytest.mark.parametrize("reason", ["", "  ", "x" * 401, "line\nbreak"])
def test_an_edit_needs_a_reason(reason):
    with pytest.raises(ReadingsRefused, match="reason"):
        editing.edited(testing.channel(), UTC_ZONE, {NOON: "1"}, ("anna", reason), NOON)


def test_an_edit_has_values():
    with pytest.raises(ReadingsRefused, match="1 to 20000 values"):
        editing.edited(testing.channel(), UTC_ZONE, {}, ANNA, NOON)
