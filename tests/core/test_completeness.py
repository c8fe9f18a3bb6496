"""Completeness: the calendar's figures, what counts as what, and the certificate's content."""

import json
from dataclasses import replace
from datetime import date
from zoneinfo import ZoneInfo

import pytest
from current import EDITED, ESTIMATED, current

from gridpost import testing
from gridpost.applications import completeness
from gridpost.applications.calendar import Period, cycle, day_period, expected_ends
from gridpost.applications.completeness import Completeness, Counts
from gridpost.errors import FileInvalid

PARIS = ZoneInfo("Europe/Paris")
CHANNEL = testing.channel(zone="Europe/Paris")


def of(values, period, channel=CHANNEL, **more):
    return completeness.of_channel(current(channel, values, **more), period)


# The EU changes its clocks at 01:00 UTC on the last Sundays of March and October.
@pytest.mark.parametrize(
    ("day", "interval_s", "expected"),
    [
        (date(2026, 3, 28), 900, 96), (date(2026, 3, 29), 900, 92), (date(2026, 10, 25), 900, 100),
        (date(2026, 3, 28), 1800, 48), (date(2026, 3, 29), 1800, 46), (date(2026, 10, 25), 1800, 50),
    ],
)  # fmt: skip
def test_a_local_day_expects_its_intervals(day, interval_s, expected):
    channel = replace(CHANNEL, interval_s=interval_s)
    period = day_period(day, PARIS)
    values = dict.fromkeys(expected_ends(period, interval_s), "1")
    whole = of(values, period, channel)
    assert (whole.counts, whole.days, whole.gaps) == (Counts(expected, expected, 0, 0), (), ())
    lost = of(dict.fromkeys(list(values)[1:], "1"), period, channel)
    assert lost.counts == Counts(expected, expected - 1, 0, 0)
    assert lost.days == ((day.isoformat(), lost.counts),)
    assert lost.gaps == ((period.from_utc, period.from_utc + interval_s),)


def test_a_month_in_words():
    """January 2026 has 31 x 96 = 2,976 quarter hours."""
    period = cycle(2026, 1, PARIS)
    ends = list(expected_ends(period, 900))
    marked = dict.fromkeys(ends[10:13], EDITED)
    whole = of(dict.fromkeys(ends, "1"), period, qualities=marked)
    assert completeness.told(whole.counts) == "2,976 of 2,976, 0 estimated, 3 corrected"
    kept = {end: "1" for end in ends if end not in ends[200:204] and end != ends[-1]}
    found = of(kept, period, qualities=dict.fromkeys(ends[20:22], ESTIMATED), conflicts=ends[:4])
    assert completeness.told(found.counts) == "2,971 of 2,976, 2 estimated, 0 corrected"
    assert found.gaps == ((ends[199], ends[203]), (ends[-2], ends[-1]))
    assert [day.day for day in found.days] == ["2026-01-01", "2026-01-03", "2026-01-31"]
    assert (found.conflicting, found.counts.missing) == (4, 5)


def test_nothing_is_expected_of_a_meter_that_is_not_assigned():
    period = day_period(date(2026, 1, 10), PARIS)
    noon = period.from_utc + 12 * 3600
    ends = list(expected_ends(period, 900))
    assert of({}, period, replace(CHANNEL, valid_from_utc=noon)).counts == Counts(48, 0, 0, 0)
    assert of(dict.fromkeys(ends, "1"), period, replace(CHANNEL, valid_to_utc=noon)).counts == Counts(48, 48, 0, 0)
    assert of({}, Period(noon, noon + 60, PARIS)).counts == Counts(0, 0, 0, 0)


def certificate():
    period = day_period(date(2026, 3, 29), PARIS)
    ends = list(expected_ends(period, 900))
    parts = [
        of(dict.fromkeys(ends[:-2], "1"), period, testing.channel(number, zone="Europe/Paris")) for number in (1, 2)
    ]
    return Completeness("M1", period.from_utc, period.to_utc, {0: 17, 3: 2}, tuple(parts))


def test_a_certificate_reads_back():
    text = completeness.encode(certificate())
    assert completeness.decode(text) == certificate()
    assert json.loads(text)["statement"] == "180 of 184, 0 estimated, 0 corrected"
    assert not certificate().is_complete


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("180 of 184", "184 of 184", "statement"),
        ('"counts":[92,90,0,0]', '"counts":[92,91,0,0]', "channels/0/gaps"),
        ('["2026-03-29",92,90,0,0]', '["2026-03-29",92,91,0,0]', "channels/0/days"),
        ('["2026-03-29",92,90,0,0]', '["2026-13-29",92,90,0,0]', "channels/0/days/0/0"),
        ('"interval_s":900', '"interval_s":0', "channels/0/gaps"),
        ('"version":1', '"version":2', "version"),
        ('"version":1', '"version": 1', ""),
        ('"meter":"M1"', '"meter":1', "meter"),
        ('"at":[[0,17]', '"at":[[0]', "at/0"),
    ],
)
def test_a_certificate_whose_figures_disagree_is_refused_with_the_place(old, new, place):
    text = completeness.encode(certificate())
    assert old in text
    with pytest.raises(FileInvalid) as refused:
        completeness.decode(text.replace(old, new, 1))
    assert [item.path for item in refused.value.items] == ([place] if place else [])
