"""Two stands become an interval: one example for each thing that can happen, and the law of sums for all of them."""

import json
import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sunspec2
from gridpost.ied_soap_client import register_map as rm
from hypothesis import given
from hypothesis import strategies as st

from gridpost.model import Quality, ReadingType

T0 = 1_772_323_200  # 2026-03-01T00:00:00Z
QUARTER = 900
KWH = rm.Dial(QUARTER, 3)
MODELS = Path(sunspec2.__file__).parent / "models" / "json"


def offsets(model: int) -> dict[str, tuple[int, dict]]:
    """Word offset of each point, by pysunspec2's own model definition."""
    points, place = {}, 0
    for point in json.loads((MODELS / f"model_{model}.json").read_text())["group"]["points"]:
        points[point["name"]] = (place, point)
        place += point["size"]
    points["end"] = (place, {})
    return points


@pytest.mark.parametrize("model", rm.MODELS)
def test_the_table_of_points_is_pysunspec2s(model):
    theirs = offsets(model)
    assert theirs["end"][0] == rm.MODEL_WORDS
    for name, point in rm.POINTS.items():
        place, definition = theirs[name]
        assert (place, definition["type"]) == (point.offset, "acc32")
        assert theirs[definition["sf"]][0] == point.scale_offset
        assert {"Wh": 72, "VAh": 71, "varh": 73}[definition["units"]] == point.unit


@pytest.mark.parametrize("model", rm.FLOAT_MODELS)
def test_the_table_of_float_points_is_pysunspec2s(model):
    theirs = offsets(model)
    assert theirs["end"][0] - theirs["Evt"][1]["size"] == rm.WORDS[model] <= 125, "one Modbus answer holds it"
    for name, place in rm.FLOAT_OFFSETS.items():
        found, definition = theirs[name]
        assert (found, definition["type"]) == (place, "float32")
        assert {"Wh": 72, "VAh": 71, "varh": 73}[definition["units"]] == rm.POINTS[name].unit
    assert set(rm.FLOAT_OFFSETS) == set(rm.POINTS)


def float_words(**values) -> list[int]:
    words = [213, 124, *[0x7FC0, 0] * 61]  # NaN: not implemented
    for name, octets in values.items():
        place = rm.FLOAT_OFFSETS[name]
        words[place : place + 2] = struct.unpack(">HH", octets)
    return words


@pytest.mark.parametrize(
    ("octets", "sample"),
    [
        (b"\x00\x00\x00\x00", (0, -3)),
        (b"\x44\x9a\x52\x2b", (1234568, -3)),  # 1234.5677490234375, the float32 next to 1234.5678
        (b"\x4b\x80\x00\x01", (16777218_000, -3)),  # 2^24 + 2: float32 counts in twos from there
        (b"\x3a\x03\x12\x6e", (0, -3)),  # 0.00049999997
        (b"\x3a\x03\x12\x6f", (1, -3)),  # 0.00050000002
        (b"\x7f\xc0\x00\x00", None),  # NaN
        (b"\x7f\x80\x00\x00", None),  # infinite
        (b"\xbf\x80\x00\x00", None),  # -1
        (b"\x7f\x7f\xff\xff", None),  # the largest float32
    ],
)
def test_a_float_is_read_to_the_thousandth_or_not_at_all(octets, sample):
    assert rm.decode(float_words(TotWhImp=octets)).get("TotWhImp") == sample


def test_a_float_that_goes_down_was_reset_and_never_rolled_over():
    (before,) = rm.decode(float_words(TotWhImp=struct.pack(">f", 4_294_967.0))).values()
    (after,) = rm.decode(float_words(TotWhImp=struct.pack(">f", 5.0))).values()
    assert rm.advance(stand(before.raw, -3), rm.Sample(*after), T0 + QUARTER, KWH).intervals[0].value is not None
    (interval,) = rm.advance(stand(before.raw, -3), after, T0 + QUARTER, KWH).intervals
    assert (interval.value, codes(interval)) == (None, ["2.5.259", "1.4.8"])


def test_decode_leaves_out_what_the_meter_does_not_implement():
    words = [0] * rm.MODEL_WORDS
    words[46:48] = [0x0001, 0x0002]  # TotWhImp 65538
    words[38:40] = [0x8000, 0x0000]  # TotWhExp not implemented
    words[54] = 0xFFFE  # TotWh_SF -2
    words[71] = words[104] = 0x8000  # no scale: no VAh, no varh
    samples = rm.decode(words)
    assert samples["TotWhImp"] == rm.Sample(65538, -2)
    assert set(samples) == {"TotWhImp"} | {f"TotWh{way}Ph{p}" for way in ("Imp", "Exp") for p in "ABC"}
    words[54] = 11  # beyond sunssf's range
    assert rm.decode(words) == {}


def stand(raw: int, scale: int = 0, end: int = T0) -> rm.Stand:
    return rm.first_stand(rm.Sample(raw, scale), end)


def codes(interval: rm.Interval) -> list[str]:
    return [quality.code for quality in interval.qualities]


def test_the_ordinary_interval_is_an_exact_difference_without_quality():
    step = rm.advance(stand(1000), rm.Sample(2234, 0), T0 + QUARTER, KWH)
    assert step.intervals == (rm.Interval(T0 + QUARTER, "1.234", ()),)  # 1234 Wh
    assert (step.stand.end_utc, step.stand.raw, step.stand.flags) == (T0 + QUARTER, 2234, ())


@pytest.mark.parametrize(
    ("scale", "multiplier", "ratio", "expected"),
    [
        (0, 0, "1", "1234"),
        (-2, 3, "1", "0.01234"),
        (2, 3, "1", "123.4"),
        (0, 3, "0.5", "0.6170"),
        (1, 6, "40", "0.49360"),
    ],
)
def test_scale_multiplier_and_ratio_are_applied_exactly(scale, multiplier, ratio, expected):
    dial = rm.Dial(QUARTER, multiplier, Decimal(ratio))
    assert rm.advance(stand(1000, scale), rm.Sample(2234, scale), T0 + QUARTER, dial).intervals[0].value == expected
    assert rm.engineering(1234, scale, dial) == expected


def test_boundaries_nobody_read_are_gaps_and_their_energy_runs_into_the_next_interval():
    step = rm.advance(stand(0), rm.Sample(4000, 0), T0 + 4 * QUARTER, KWH)
    assert [(i.end_utc, i.value) for i in step.intervals] == [
        (T0 + 900, None), (T0 + 1800, None), (T0 + 2700, None), (T0 + 3600, "4.000"),
    ]  # fmt: skip
    assert [codes(i) for i in step.intervals] == [["2.5.259"]] * 3 + [["1.4.3"]]
    assert step.intervals[-1].qualities[0].detail == "since 2026-03-01T00:00:00Z"


@pytest.mark.parametrize(("modulus", "old"), [(1 << 32, (1 << 32) - 10), (10**6, 999_990)])
def test_a_register_that_rolled_over_counts_modulo_its_dial_and_says_so(modulus, old):
    step = rm.advance(stand(old), rm.Sample(5, 0), T0 + QUARTER, replace(KWH, modulus=modulus))
    assert step.intervals == (rm.Interval(T0 + QUARTER, "0.015", (Quality("1.4.1", f"{old}e0 -> 5e0"),)),)


@pytest.mark.parametrize(
    ("old", "new", "dial"),
    [
        (3_000_000, 12, KWH),  # a modulo 2^32 step of 4.29e9 counts is no quarter hour
        (600_000, 0, replace(KWH, modulus=10**6)),  # 40 % of a six-digit dial
        (999_000, 500, replace(KWH, modulus=10**6, largest_step=1000)),  # 1500 counts where 1000 are possible
        (2_000_000, 100, replace(KWH, modulus=10**6)),  # the dial never showed seven digits: it is not that dial
    ],
)
def test_a_register_that_was_reset_is_a_gap_and_counting_begins_again(old, new, dial):
    step = rm.advance(stand(old), rm.Sample(new, 0), T0 + QUARTER, dial)
    assert [(i.value, codes(i)) for i in step.intervals] == [(None, ["2.5.259", "1.4.8"])]
    again = rm.advance(step.stand, rm.Sample(new + 500, 0), T0 + 2 * QUARTER, dial)
    assert again.intervals == (rm.Interval(T0 + 2 * QUARTER, "0.500", ()),)


def test_a_changed_scale_factor_keeps_the_sum():
    # 12.345 kWh in Wh; then in units of 10 Wh, cut: 1234 -> nothing counted; then 1240 -> 55 Wh since 12345.
    cut = rm.advance(stand(12345), rm.Sample(1234, 1), T0 + QUARTER, KWH)
    assert [(i.value, codes(i)) for i in cut.intervals] == [("0.000", [])]
    step = rm.advance(cut.stand, rm.Sample(1240, 1), T0 + 2 * QUARTER, KWH)
    assert Decimal(step.intervals[0].value) == Decimal("0.055")


def test_after_the_clock_stepped_back_no_end_is_used_twice():
    first = rm.advance(stand(0), rm.Sample(100, 0), T0 + QUARTER, KWH)  # 00:15
    # The clock goes back to 23:50: the boundary 00:00 was the first stand, 00:15 is spoken for.
    again = rm.advance(first.stand, rm.Sample(200, 0), T0, KWH)
    assert again.intervals == ()
    still = rm.advance(again.stand, rm.Sample(300, 0), T0 + QUARTER, KWH)
    assert still.intervals == ()
    free = rm.advance(still.stand, rm.Sample(400, 0), T0 + 2 * QUARTER, KWH)
    assert [(i.end_utc, i.value, codes(i)) for i in free.intervals] == [(T0 + 2 * QUARTER, "0.300", ["1.4.9"])]


def test_a_clock_that_was_a_year_ahead_does_not_cost_a_year():
    year = 365 * 86400
    ahead = rm.flagged(stand(0), Quality(rm.CLOCK_CHANGED))
    leap = rm.advance(ahead, rm.Sample(100, 0), T0 + year, KWH)
    assert [i.end_utc for i in leap.intervals] == [T0 + year]  # no gap notes for a year that never was
    back = rm.advance(leap.stand, rm.Sample(250, 0), T0 + QUARTER, KWH)
    assert [(i.end_utc, i.value, codes(i)) for i in back.intervals] == [(T0 + QUARTER, "0.150", ["1.4.9"])]


def test_flags_wait_for_the_next_interval_and_are_said_once():
    waiting = rm.flagged(rm.flagged(stand(0), Quality("1.2.32", "a")), Quality("1.2.32", "b"))
    step = rm.advance(waiting, rm.Sample(1, 0), T0 + QUARTER, KWH)
    assert step.intervals[0].qualities == (Quality("1.2.32", "a"),)
    assert step.stand.flags == ()


@pytest.mark.parametrize(
    ("zone", "after", "expected"),
    [
        (UTC, "2026-03-01T00:00:00+00:00", "2026-03-01T00:15:00+00:00"),
        (UTC, "2026-03-01T23:59:59+00:00", "2026-03-02T00:00:00+00:00"),
        (timezone(timedelta(hours=5, minutes=45)), "2026-03-01T00:05:00+05:45", "2026-03-01T00:15:00+05:45"),
        # Summer time moves no boundary: the grid is that of standard midnight.
        (ZoneInfo("Australia/Lord_Howe"), "2026-01-01T00:10:00+11:00", "2026-01-01T00:15:00+11:00"),
    ],
)
def test_the_grid_is_that_of_local_standard_midnight(zone, after, expected):
    moment = int(datetime.fromisoformat(after).timestamp())
    assert rm.next_end(moment, QUARTER, zone) == int(datetime.fromisoformat(expected).timestamp())


def test_midnight_is_standard_midnight():
    zone = ZoneInfo("Europe/Berlin")
    summer = int(datetime(2026, 7, 1, tzinfo=zone).timestamp())  # 00:00 CEST is 23:00 CET
    assert not rm.is_midnight(summer, zone)
    assert rm.is_midnight(summer + 3600, zone)


@pytest.mark.parametrize(
    ("reading_type", "point"),
    [
        ("0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0", "TotWhImp"),
        ("0.0.2.4.19.1.12.0.0.0.0.0.0.0.0.3.72.0", "TotWhExp"),
        ("0.0.2.4.15.1.12.0.0.0.0.0.0.0.0.3.73.0", "TotVArhImpQ1"),
        ("0.0.2.4.4.1.12.0.0.0.0.0.0.0.0.3.72.0", ""),  # net: no single register
    ],
)
def test_default_points(reading_type, point):
    assert rm.default_point(ReadingType.parse(reading_type)) == point


@given(
    counts=st.lists(st.integers(0, 5000), min_size=1, max_size=40),
    moves=st.lists(st.sampled_from([1, 1, 1, 1, 2, 5, -1, -3, 0]), min_size=40, max_size=40),
    start=st.integers(0, (1 << 32) - 1),
)
def test_the_values_add_up_to_the_register_whatever_the_clock_did(counts, moves, start):
    kept, place, register, total, seen = stand(start), 0, start, Decimal(0), set()
    for count, move in zip(counts, moves, strict=False):
        place, register = place + move, register + count
        step = rm.advance(kept, rm.Sample(register % (1 << 32), 0), T0 + place * QUARTER, KWH)
        kept = step.stand
        for interval in step.intervals:
            assert interval.end_utc not in seen, "an interval end was used twice"
            seen.add(interval.end_utc)
            total += Decimal(interval.value or 0)
    unfinished = (register - kept.raw) % (1 << 32)
    assert total * 1000 + unfinished == register - start
