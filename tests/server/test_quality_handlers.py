"""Estimates, edits and certificates become entries of the bus's own; findings and counts are read from a real store."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from gridpost.server import config as settings
from gridpost.server import own
from gridpost.server.quality import handlers
from gridpost.server.quality.looking import Days, Looking, rule_book
from gridpost.server.zones import zone_of

from gridpost import testing
from gridpost.applications import completeness
from gridpost.applications.rules import RuleBook
from gridpost.errors import ConfigInvalid, NotFound, ReadingsRefused
from gridpost.model import Position, Quality, Readings, RegisterReading

Q = 900
DAY = date(2025, 12, 30)  # a Tuesday; the office's clock stands at 2026-01-01T00:00:00Z
MIDNIGHT = int(datetime(2025, 12, 30, tzinfo=UTC).timestamp())
CHANNEL = testing.channel(1, "M1")
REGISTER = CHANNEL.key._replace(reading_type=CHANNEL.key.reading_type.replace("0.0.2.4.", "0.0.0.1.", 1))
DAYS = Days("M1", DAY, DAY)
ARGS = {**handlers.days_args(DAYS), "again": False}


@pytest.fixture
def ied(post_office):
    return post_office.enrol("IED-1", [CHANNEL])


@pytest.fixture
def bench(post_office):
    config = settings.Config(post_office.folder)
    return own.Bench(post_office.store, post_office.signer, "bus", post_office.clock, zone_of, config)


@pytest.fixture
def push(post_office, ied):
    """Push values for quarter hours of the Tuesday, from number `first` on, and stands of the register."""

    def send(first, values, stands=()):
        block = testing.block(CHANNEL, MIDNIGHT + first * Q, values)
        name = f"m-{post_office.store.status().entries}"
        message = testing.readings_message("IED-1", name, [block] if values else [], post_office.now)
        registers = tuple(RegisterReading(REGISTER, MIDNIGHT + number * Q, value) for number, value in stands)
        message = replace(message, readings=Readings(message.readings.blocks, registers))
        assert post_office.receive(testing.sealed(message, ied, post_office.now)).status == 200

    return send


def current(office, number):
    """Value and qualities of a quarter hour as they are current."""
    found = office.store.readings(1, MIDNIGHT + (number - 1) * Q, MIDNIGHT + number * Q).block
    return (found.values[0], found.qualities[0]) if found.values else None


def test_an_estimate_is_a_version_that_says_how_it_was_made_and_yields_to_what_was_measured(post_office, bench, push):
    push(1, ["1.0"] * 40)
    push(44, ["2.0"] * 53)  # 41 to 43 lack
    outcome = handlers.estimate(bench, ARGS, "anna", "t-1")
    assert (outcome["entry"], outcome["stored"], outcome["conflicting"]) == ("0:2", 3, 0)
    assert outcome["channels"][0]["estimated"] == {"straight-line": 3}
    said = (Quality("3.8.0", "straight-line; from 0:0 0:1; by anna"),)
    assert [current(post_office, number) for number in (41, 42, 43)] == [("1.2", said), ("1.5", said), ("1.8", said)]
    assert handlers.estimate(bench, ARGS, "anna", "t-1")["entry"] == "0:2"  # done again after a crash
    assert handlers.estimate(bench, ARGS, "anna", "t-2")["entry"] is None  # there is nothing left to estimate
    push(41, ["7.0"])
    assert current(post_office, 41) == ("7.0", ())
    assert [row.values for row in post_office.store.blocks([Position(0, 2)])] == [("1.2", "1.5", "1.8")]


def test_estimates_scaled_to_the_register_leave_nothing_for_validation_to_find(post_office, bench, push):
    """The register counted 100.0; 86 values of 1.0 are there; the ten that lack come to 14.0."""
    push(-95, ["1.0"] * 96)  # the Monday, a like day
    push(11, ["1.0"] * 86, [(0, "500.0"), (96, "600.0")])
    outcome = handlers.estimate(bench, ARGS, "anna", "t-1")
    assert (outcome["channels"][0]["scaled"], outcome["channels"][0]["left"]) == (10, [])
    assert current(post_office, 1)[0] == "1.4"
    looking = Looking(post_office.store, zone_of, post_office.now)
    ((channel, report),) = looking.reports(DAYS, RuleBook())
    assert (channel.id, report.findings) == (1, ())
    counts = looking.completeness(DAYS).counts
    assert completeness.told(counts) == "96 of 96, 10 estimated, 0 corrected"


def test_estimates_that_are_asked_for_again_follow_new_data(post_office, bench, push):
    push(1, ["1.0"] * 40)
    push(42, ["2.0"] * 55)
    handlers.estimate(bench, ARGS, "anna", "t-1")
    assert current(post_office, 41)[0] == "1.5"
    edit = {"meter": "M1", "stream": "", "reading_type": "", "reason": "r", "values": {str(MIDNIGHT + 42 * Q): "4.0"}}
    handlers.edit(bench, edit, "bob", "t-2")
    handlers.estimate(bench, {**ARGS, "again": True}, "anna", "t-3")
    assert current(post_office, 41) == ("2.5", (Quality("3.8.0", "straight-line; from 0:0 0:3; by anna"),))


def test_an_edit_becomes_current_with_its_reason_and_the_old_value_stays(post_office, bench, push):
    push(1, ["1.0"] * 96)
    push(5, ["9.0"])  # in conflict
    end = MIDNIGHT + 5 * Q
    edit = {"meter": "M1", "stream": "E1", "reading_type": "", "reason": "read on site", "values": {str(end): "9"}}
    outcome = handlers.edit(bench, edit, "anna", "t-1")
    assert (outcome["stored"], outcome["entry"]) == (1, "0:2")
    assert current(post_office, 5) == ("9", (Quality("3.7.0", "read on site; by anna"),))
    assert handlers.edit(bench, edit, "anna", "t-1")["entry"] == "0:2"
    before = post_office.store.readings(1, end - Q, end, {0: 1})
    assert (before.block.values, before.conflicts) == (("1.0",), (end,))
    with pytest.raises(ReadingsRefused, match="off the 900 s grid"):
        handlers.edit(bench, {**edit, "values": {str(end + 1): "9"}}, "anna", "t-2")
    with pytest.raises(NotFound, match="no such channel"):
        handlers.edit(bench, {**edit, "stream": "E9"}, "anna", "t-3")


def test_a_mark_is_a_version_of_the_same_value(post_office, bench, push):
    push(1, ["1.0"] * 95 + ["-1.0"])
    outcome = handlers.mark(bench, ARGS, "anna", "t-1")
    assert (outcome["stored"], outcome["entry"]) == (1, "0:1")
    assert current(post_office, 96) == ("-1.0", (Quality("3.6.0", "negative; by anna"),))
    assert handlers.mark(bench, ARGS, "anna", "t-1")["entry"] == "0:1"
    assert handlers.mark(bench, ARGS, "anna", "t-2")["entry"] is None
    push(96, ["-1.0"])  # the device says it again: the mark stays
    assert current(post_office, 96)[1] == (Quality("3.6.0", "negative; by anna"),)


def test_an_edit_must_name_one_channel(post_office, bench):
    post_office.enrol("IED-1", [CHANNEL, testing.channel(2, "M1")])
    edit = {"meter": "M1", "stream": "", "reading_type": "", "reason": "r", "values": {str(MIDNIGHT): "9"}}
    with pytest.raises(NotFound, match=r"several channels match: E1 .*, E2"):
        handlers.edit(bench, edit, "anna", "t-1")


def test_a_certificate_is_a_document_at_its_data_version(post_office, bench, push):
    push(1, ["1.0"] * 90)
    outcome = handlers.certify(bench, ARGS, "anna", "t-1")
    assert (outcome["entry"], outcome["id"]) == ("0:1", "M1_2025-12-30_2025-12-30")
    push(91, ["1.0"] * 6)
    assert handlers.certify(bench, ARGS, "anna", "t-1") == outcome
    later = handlers.certify(bench, ARGS, "anna", "t-2")
    told = [completeness.decode(one["content"]) for one in (outcome, later)]
    assert [completeness.told(one.counts) for one in told] == [
        "90 of 96, 0 estimated, 0 corrected", "96 of 96, 0 estimated, 0 corrected",
    ]  # fmt: skip
    assert [one.at for one in told] == [{0: 0}, {0: 2}]
    (kept,) = post_office.store.documents("certificate", subject="UP-M1")
    assert (kept.document.content, kept.document.owner) == (later["content"], "bus")


def test_gaps_are_asked_for_at_once_when_somebody_says_so(post_office, bench, push):
    push(1, ["1.0"] * 40)
    push(44, ["2.0"] * 50)
    outcome = handlers.request(bench, ARGS, "anna", "t-1")
    assert (outcome["gaps"], len(outcome["asked"])) == (2, 2)
    assert outcome["asked"][0]["from"] == "2025-12-30T10:00:00Z"
    (first, second) = post_office.store.controls()
    assert (first.control.not_before_utc_ms, first.state) == (0, "waiting")
    assert dict(second.control.data)["to"] == "2025-12-31T00:00:00Z"
    again = handlers.request(bench, ARGS, "anna", "t-2")
    assert (again["gaps"], again["asked"]) == (2, [])
    with pytest.raises(NotFound, match="no IED speaks for meter M9 now"):
        handlers.request(bench, {**ARGS, "meter": "M9"}, "anna", "t-3")


def test_what_is_still_to_come_is_not_missing(post_office, bench, push):
    """Until six in the evening of New Year's Day, two days later, there are 72 quarter hours of it."""
    today, post_office.now = Days("M1", date(2026, 1, 1), date(2026, 1, 1)), post_office.now + 18 * 3600_000
    push(192 + 1, ["1.0"] * 70)
    assert Looking(post_office.store, zone_of, post_office.now).completeness(today).counts == (72, 70, 0, 0)


def test_a_meter_that_nobody_knows_and_days_in_which_it_was_not_there(post_office, ied, bench):
    looking = Looking(post_office.store, zone_of, post_office.now)
    with pytest.raises(NotFound, match="no meter 'M9'"):
        looking.completeness(Days("M9", DAY, DAY))
    with pytest.raises(NotFound, match="no channel from 2026-02-01"):
        looking.completeness(Days("M1", date(2026, 2, 1), date(2026, 2, 2)))


def test_the_rules_are_those_of_the_file_that_is_configured(post_office):
    file = post_office.folder / "rules.toml"
    config = settings.Config(post_office.folder, quality=settings.Quality(rules="rules.toml"))
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        rule_book(config)
    file.write_text("[rules]\nhigh = '5'\n")
    assert rule_book(config).of(CHANNEL.key).high == "5"
    file.write_text("[rules]\nhigh = 5\n")
    with pytest.raises(ConfigInvalid, match=r"rules.toml: \[rules\] high"):
        rule_book(config)


def test_the_meter_before_is_named_where_a_meter_was_exchanged(post_office, bench):
    noon = MIDNIGHT + 48 * Q
    old = replace(CHANNEL, key=CHANNEL.key._replace(meter="M0"), valid_to_utc=noon)
    post_office.store.add_ied("IED-1", "revenue meter", bytes(10), [old, replace(CHANNEL, valid_from_utc=noon)])
    looking = Looking(post_office.store, zone_of, post_office.now)
    ((_, report),) = looking.reports(DAYS, RuleBook())
    assert [one.rule for one in report.findings] == ["meter-exchange", "gap"]
    assert "meter M0 is the other one" in report.findings[0].reason
    assert json.dumps(looking.completeness(DAYS).counts) == "[48, 0, 0, 0]"
