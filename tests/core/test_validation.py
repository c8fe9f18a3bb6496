"""The rules of validation, each by what it finds and what it lets pass, and their order."""

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from current import CLOCK, ESTIMATED, current

from gridpost import testing
from gridpost.applications import rules, validation
from gridpost.applications.calendar import Period
from gridpost.applications.rules import Rules
from gridpost.applications.validation import Subject
from gridpost.model import Quality

ZONE = ZoneInfo("Etc/UTC")
DAY0 = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp())
Q, DAY = 900, 86_400
CHANNEL = testing.channel()


def quarters(first, *texts):
    """Values for the quarter hours that end from number `first` of the day on."""
    return {DAY0 + (first + index) * Q: text for index, text in enumerate(texts)}


def day(value="1.000"):
    return quarters(1, *[value] * 96)


def checked(values, ruled=None, *, history=None, channel=CHANNEL, period=None, **more):
    """The findings as (rule, first quarter hour, last one)."""
    ruled = ruled or Rules()
    kept = {name: more.pop(name) for name in ("qualities", "stands", "conflicts", "gaps") if name in more}
    subject = Subject(
        period or Period(DAY0, DAY0 + DAY, ZONE),
        current(channel, values, **kept),
        history or current(channel, {}),
        **more,
    )
    report = validation.check(subject, ruled)
    return report, [(one.rule, (one.from_utc - DAY0) // Q + 1, (one.to_utc - DAY0) // Q) for one in report.findings]


def found(*args, **kwargs):
    return checked(*args, **kwargs)[1]


def test_a_whole_day_of_good_values_is_clean():
    report, findings = checked(day())
    assert (report.is_clean, findings) == (True, [])
    assert [rule for rule, _ in report.not_judged] == ["register", "register-sum", "spike"]  # it says what it lacked


def test_the_order_of_the_rules_is_stated():
    assert rules.ORDER == (
        "time-tolerance", "meter-exchange", "gap", "duplicate", "register", "multiplier", "register-sum", "limit",
        "negative", "zero-run", "spike",
    )  # fmt: skip
    assert tuple(validation._JUDGES) == rules.ORDER


def test_what_one_rule_called_wrong_the_next_do_not_judge():
    """200 is above the limit and more than 3 x 1: only the first of the two rules speaks, unless it is off."""
    history = current(CHANNEL, {DAY0 - index * Q: "1.000" for index in range(300)})
    high = Rules(high="100")
    values = day() | quarters(40, "200")
    assert found(values, high, history=history) == [("limit", 40, 40)]
    assert found(values, replace(high, off="limit"), history=history) == [("spike", 40, 40)]


def test_a_gap_is_a_run_of_missing_intervals():
    values = {end: text for end, text in day().items() if end not in quarters(10, *"abc") and end != DAY0 + 96 * Q}
    report, findings = checked(values, gaps=[DAY0 + 11 * Q])
    assert findings == [("gap", 10, 12), ("gap", 96, 96)]
    assert [one.reason for one in report.findings] == [
        "3 intervals without a value, 1 of them reported missing by the device",
        "1 intervals without a value",
    ]


def test_intervals_before_the_meter_was_assigned_are_not_missing():
    late = replace(CHANNEL, valid_from_utc=DAY0 + 48 * Q)
    report, findings = checked(
        {end: text for end, text in day().items() if end > DAY0 + 48 * Q}, channel=late,
        others=(replace(CHANNEL, key=CHANNEL.key._replace(meter="M0"), valid_to_utc=DAY0 + 48 * Q),),
    )  # fmt: skip
    assert findings == [("meter-exchange", 49, 48)]
    assert report.findings[0].reason == (
        "meter M1 began here; meter M0 is the other one; there is no register reading of that moment"
    )
    assert not report.is_clean
    with_stand, _ = checked(
        {end: text for end, text in day().items() if end > DAY0 + 48 * Q}, channel=late,
        stands={DAY0 + 48 * Q + 30: "0"},
    )  # fmt: skip
    assert with_stand.is_clean
    first, _ = checked({end: text for end, text in day().items() if end > DAY0 + 48 * Q}, channel=late)
    assert first.is_clean  # nothing was exchanged


def test_a_clock_that_is_off_and_values_measured_under_it():
    assert found(day(), clock_ms=30_000) == []
    assert found(day(), clock_ms=-30_001) == [("time-tolerance", 1, 96)]
    flags = dict.fromkeys(quarters(5, "", ""), CLOCK)
    assert found(day(), qualities=flags) == [("time-tolerance", 5, 6)]


def test_conflicts_are_duplicates():
    assert found(day(), conflicts=tuple(quarters(7, "", ""))) == [("duplicate", 7, 8)]


# 96 quarter hours of 1.000 are 96.000; 0.1 is let pass, and one in the last place of each stand: 0.2 for whole tenths.
@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ("1096.0", []),
        ("1096.3", []),
        ("1096.4", [("register-sum", 1, 96)]),
        ("1095.6", [("register-sum", 1, 96)]),
        ("3880.0", [("multiplier", 1, 96)]),  # 2880 = 30 x 96: a current transformer of 150/5
        ("3880.4", [("register-sum", 1, 96)]),  # not quite
        ("999.9", [("register", 1, 96)]),
    ],
)
def test_the_register_beside_the_sum_of_the_intervals(last, expected):
    assert found(day(), stands={DAY0: "1000.0", DAY0 + DAY: last}) == expected


def test_the_intervals_may_be_the_larger_ones():
    report, findings = checked(day("10.000"), stands={DAY0: "0.0", DAY0 + DAY: "96.0"})
    assert findings == [("multiplier", 1, 96)]
    assert "a 10th of it" in report.findings[0].reason


def test_no_sum_is_taken_over_a_gap_nor_from_a_stand_between_intervals():
    values = {end: text for end, text in day().items() if end != DAY0 + 50 * Q}
    assert found(values, stands={DAY0: "1000.0", DAY0 + DAY: "1500.0"}) == [("gap", 50, 50)]
    assert found(day(), stands={DAY0: "1000.0", DAY0 + DAY - 300: "1500.0"}) == []
    assert found(day(), stands={DAY0: "1000.0", DAY0 + DAY - 60: "1500.0"}) == [("register-sum", 1, 96)]


# Five whole digits: 99,950 and 96 more is 100,046, which stands as 46.
@pytest.mark.parametrize(
    ("first", "last", "dial", "expected", "clean"),
    [
        ("99950.0", "46.0", "", [("register", 1, 96)], True),
        ("99950.0", "46.0", "100000", [("register", 1, 96)], True),
        ("99950.0", "96.0", "", [("register", 1, 96), ("register-sum", 1, 96)], False),  # 146 kWh
        ("950.0", "46.0", "", [("register", 1, 96)], False),  # nobody said it has three digits: it went back
        ("950.0", "46.0", "1000", [("register", 1, 96)], True),
        ("50000.0", "46.0", "", [("register", 1, 96)], False),
        ("850.0", "46.0", "1000", [("register", 1, 96)], False),  # more than a tenth of the dial: rather it went back
    ],
)
def test_a_register_that_goes_back_may_have_passed_its_highest_number(first, last, dial, expected, clean):
    report, findings = checked(day(), Rules(dial=dial), stands={DAY0: first, DAY0 + DAY: last})
    assert (findings, report.is_clean) == (expected, clean)


def test_each_stand_begins_the_next_span():
    stands = {DAY0: "0.0", DAY0 + 24 * Q: "24.0", DAY0 + 48 * Q: "50.0", DAY0 + DAY: "98.0"}
    assert found(day(), stands=stands) == [("register-sum", 25, 48)]


def test_negative_energy_unless_the_channel_may():
    values = day() | quarters(3, "-0.001")
    assert found(values) == [("negative", 3, 3)]
    assert found(values, Rules(may_be_negative=True)) == []
    net = replace(
        CHANNEL, key=CHANNEL.key._replace(reading_type=CHANNEL.key.reading_type.replace(".4.1.1.", ".4.4.1."))
    )
    assert found(values, channel=net) == []
    volts = replace(CHANNEL, key=CHANNEL.key._replace(reading_type="0.2.2.6.0.1.54.0.0.0.0.0.0.0.128.0.29.0"))
    assert found(values, channel=volts) == []


def test_limits_are_met_by_what_equals_them():
    values = day() | quarters(8, "2.5", "2.501", "0.2", "0.199")
    assert found(values, Rules(high="2.5", low="0.2")) == [("limit", 9, 9), ("limit", 11, 11)]


def test_zeros_for_longer_than_allowed():
    values = day() | quarters(1, *["0.0"] * 16)
    assert found(values, Rules(zero_s=16 * Q)) == []
    assert found(values, Rules(zero_s=15 * Q)) == [("zero-run", 1, 16)]
    assert found(values, Rules(zero_s=0)) == []


def test_a_spike_is_beyond_the_third_highest_of_the_days_before():
    """Third highest of 9, 8, 2, 1, 1 ...: 2; 3 x 2 = 6."""
    texts = ["9", "8", "2"] + ["1"] * 189
    history = current(CHANNEL, {DAY0 - index * Q: text for index, text in enumerate(texts)})
    values = day() | quarters(20, "6", "6.001")
    assert found(values, history=history) == [("spike", 21, 21)]
    assert found(values, Rules(spike_times="4"), history=history) == []
    report, findings = checked(values, Rules(spike_least=193), history=history)
    assert (findings, report.not_judged[-1][0]) == ([], "spike")


def test_estimates_are_no_history():
    ends = [DAY0 - index * Q for index in range(200)]
    history = current(CHANNEL, dict.fromkeys(ends, "1"), qualities=dict.fromkeys(ends[:9], ESTIMATED))
    report, _ = checked(day() | quarters(20, "99"), history=history)
    assert ("spike", "191 measured values of the days before; 192 are needed") in report.not_judged


@pytest.mark.parametrize("rule", rules.ORDER)
def test_each_rule_can_be_left_out(rule):
    """A day on which every rule finds something; without one of them exactly its findings are gone, or those it hid."""
    late = replace(CHANNEL, valid_from_utc=DAY0 + Q)
    values = quarters(2, *["1.000"] * 95) | quarters(10, "-1", *["0"] * 8, "500", "40")
    del values[DAY0 + 90 * Q]
    stands = {DAY0 + 2 * Q: "100.0", DAY0 + 4 * Q: "90.0", DAY0 + 40 * Q: "600.0", DAY0 + 60 * Q: "1600.0"}
    history = current(CHANNEL, {DAY0 - index * Q: "1.000" for index in range(300)})
    ruled = Rules(high="100", zero_s=7 * Q)
    kwargs = {"channel": late, "stands": stands, "history": history, "conflicts": (DAY0 + 30 * Q,), "clock_ms": 10**6}
    whole = found(values, ruled, **kwargs)
    assert {name for name, *_ in whole} == set(rules.ORDER)
    without = found(values, replace(ruled, off=rule), **kwargs)
    assert rule not in {name for name, *_ in without}
    assert {name for name, *_ in without} == set(rules.ORDER) - {rule}


def test_values_that_failed_are_marked_and_stay_what_they_are():
    """The limit names 9, the negative rule 10; the gap and the sum name no value that is there."""
    values = day() | quarters(9, "7", "-1")
    del values[DAY0 + 50 * Q]
    report, _ = checked(values, Rules(high="5"), stands={DAY0: "0", DAY0 + 9 * Q: "99"})
    assert {one.rule for one in report.findings} == {"gap", "register-sum", "limit", "negative"}
    block = validation.marked(current(CHANNEL, values, qualities={DAY0 + 9 * Q: CLOCK}), report.findings, "anna")
    assert (block.ends_utc, block.values) == ((DAY0 + 9 * Q, DAY0 + 10 * Q), ("7", "-1"))
    assert block.qualities == (
        (*CLOCK, Quality("3.6.0", "limit; by anna")), (Quality("3.6.0", "negative; by anna"),),
    )  # fmt: skip
    again = current(CHANNEL, values, qualities=dict(zip(block.ends_utc, block.qualities, strict=True)))
    assert validation.marked(again, report.findings, "bob") is None
    other = [one._replace(rule="spike") for one in report.findings if one.rule == "limit"]
    assert validation.marked(again, other, "bob").qualities == ((*CLOCK, Quality("3.6.0", "spike; by bob")),)


def test_a_finding_as_a_line_of_text():
    report, _ = checked({end: text for end, text in day().items() if end != DAY0 + Q})
    assert [validation.told(one) for one in report.findings] == [
        "error   gap             2026-03-02T00:00:00Z to 2026-03-02T00:15:00Z: 1 intervals without a value"
    ]
