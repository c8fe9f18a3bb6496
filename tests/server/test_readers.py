"""The log's reader that writes day files: when a day is due, when again, and what a crash can do to it: nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

import pytest
from gridpost.adapters.delivery import Directory
from gridpost.adapters.mv90 import Mv90Adapter
from gridpost.server.day_files import Day, DayFiles
from gridpost.server.readers import BATCH, DayFileReader, Deliveries
from gridpost.server.zones import zone_of

from gridpost import testing
from gridpost.errors import AlreadyExists, StoreUnavailable
from gridpost.model import Block, Entry, Quality, Rows
from gridpost.ports import FormatOptions, Site

HOUR_MS = 3_600_000
MISSING = (Quality("2.5.259"),)
EDITED = (Quality("2.7.0"),)


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


class House:
    """A post office, its readers, and the folder the files go to. Every step is taken by fresh objects: a reader holds
    nothing that a restart would lose."""

    def __init__(self, post_office, folder) -> None:
        self.post_office, self.folder = post_office, folder
        self.sites = {}

    def enrol(self, *channels, serial="IED-1"):
        return self.post_office.store.add_ied(serial, "revenue meter", bytes(10), channels)

    def record(self, channel, first_end, values, qualities=None) -> None:
        ends = tuple(first_end + index * channel.interval_s for index in range(len(values)))
        block = Block(channel.id, channel.interval_s, ends, tuple(values), qualities or ((),) * len(values))
        name = f"m-{self.post_office.store.status().entries}"
        entry = Entry("IED-1", name, "MeterReadings", "http", name.encode().ljust(32), 0, None, "", b"raw")
        self.post_office.store.record(entry, Rows((block,)), lambda *_: b"receipt").result(timeout=10)

    def reader(self, store=None) -> DayFileReader:
        store = store or self.post_office.store
        return DayFileReader("mv90", store, DayFiles(store, Mv90Adapter(), self.sites, zone_of), grace_h=6)

    def step(self, now_utc: int):
        """One step of a reader at a moment."""
        self.post_office.now = max(self.post_office.now, now_utc * 1000)
        return self.reader().step(now_utc * 1000)

    def files(self, now_utc: int) -> list[str]:
        """The names that a step makes."""
        return [made.name for made in self.step(now_utc).files]

    def deliver(self, delivery=None):
        return Deliveries("mv90", self.post_office.store, delivery or Directory(self.folder)).step(self.post_office.now)

    def content(self, name: str) -> bytes:
        self.deliver()
        return (self.folder / name).read_bytes()

    def values(self, name: str, zone: str = "Etc/UTC"):
        options = FormatOptions(zone=zone_of(zone))
        return [block.values for block in Mv90Adapter().parse(self.content(name), options).readings.blocks]


@pytest.fixture
def house(post_office, tmp_path):
    return House(post_office, tmp_path / "mv90")


# --- when a day is due -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "first_end", "name"),
    [
        ("Etc/UTC", "2026-01-01T00:15", "M1_20260101_r01.mde"),
        ("Europe/Berlin", "2026-03-28T23:15", "M1_20260329_r01.mde"),  # a day of 23 hours on the wall
        ("Europe/Berlin", "2026-10-24T23:15", "M1_20261025_r01.mde"),  # and of 25
        ("Australia/Lord_Howe", "2026-04-04T13:45", "M1_20260405_r01.mde"),  # of 24 h 30 min
        ("Australia/Lord_Howe", "2026-10-03T13:45", "M1_20261004_r01.mde"),  # of 23 h 30 min
    ],
)
def test_a_complete_day_is_written_at_once(house, zone, first_end, name):
    (channel,) = house.enrol(testing.channel(zone=zone))
    values = tuple(str(count) for count in range(96))
    house.record(channel, utc(first_end), values[:95])
    end = utc(first_end) + 95 * 900
    assert house.files(end) == []
    house.record(channel, end, values[95:])
    assert house.files(end) == [name]
    assert house.values(name, zone) == [values]
    assert house.files(end + 86400) == [], "and once"


def test_an_incomplete_day_is_written_six_hours_after_its_end(house):
    (channel,) = house.enrol(testing.channel(zone="Europe/Berlin"))
    house.record(channel, utc("2026-01-01T00:00"), ["1"] * 10)
    due = utc("2026-01-01T23:00") + 6 * 3600
    assert house.files(utc("2026-01-01T02:30")) == []
    assert house.files(due - 1) == []
    assert house.files(due) == ["M1_20260101_r01.mde"]
    (values,) = house.values("M1_20260101_r01.mde", "Europe/Berlin")
    assert values == (None,) * 3 + ("1",) * 10 + (None,) * 83
    assert house.files(due + 86400) == []


def test_what_comes_after_that_is_the_next_revision_at_once(house):
    (channel,) = house.enrol(testing.channel())
    house.record(channel, utc("2026-01-01T00:15"), ["1"] * 95)
    late = utc("2026-01-02T06:00")
    assert house.files(late) == ["M1_20260101_r01.mde"]
    house.record(channel, utc("2026-01-02T00:00"), ["7"])
    assert house.files(late + 60) == ["M1_20260101_r02.mde"]
    assert house.values("M1_20260101_r02.mde") == [("1",) * 95 + ("7",)]
    assert house.values("M1_20260101_r01.mde") == [("1",) * 95 + (None,)], "and the first is as it was"


def test_a_correction_makes_a_revision_and_a_conflict_none(house):
    (channel,) = house.enrol(testing.channel())
    house.record(channel, utc("2026-01-01T00:15"), ["1"] * 96)
    now = utc("2026-01-02T00:00")
    assert house.files(now) == ["M1_20260101_r01.mde"]
    house.record(channel, utc("2026-01-01T12:00"), ["5"])
    assert house.files(now + 60) == [], "the first stays current, so the bytes are equal"
    house.record(channel, utc("2026-01-01T12:00"), ["6"], (EDITED,))
    assert house.step(now + 120).files == (("M1_20260101_r02.mde", 1, 1),), (
        "the quality is lost; one interval in conflict"
    )
    assert house.values("M1_20260101_r02.mde")[0][47] == "6"


def test_a_repeat_of_the_same_values_makes_no_revision(house):
    (channel,) = house.enrol(testing.channel())
    now = utc("2026-01-02T00:00")
    house.record(channel, utc("2026-01-01T00:15"), ["1"] * 96)
    assert house.files(now) == ["M1_20260101_r01.mde"]
    house.record(channel, utc("2026-01-01T00:15"), ["1.0"] * 96)
    outcome = house.step(now + 60)
    assert (outcome.entries, outcome.files) == (1, ())


def test_known_gaps_wait_for_the_grace_and_a_value_fills_them(house):
    (channel,) = house.enrol(testing.channel())
    house.record(channel, utc("2026-01-01T00:15"), [None] * 96, (MISSING,) * 96)
    assert house.files(utc("2026-01-02T05:59")) == []
    assert house.files(utc("2026-01-02T06:00")) == ["M1_20260101_r01.mde"]
    house.record(channel, utc("2026-01-01T00:15"), ["3"] * 96)
    assert house.files(utc("2026-01-02T06:01")) == ["M1_20260101_r02.mde"]


def test_a_meter_with_two_channels_waits_for_both(house):
    one, two = house.enrol(testing.channel(1), testing.channel(2))
    now = utc("2026-01-02T00:00")
    house.record(one, utc("2026-01-01T00:15"), ["1"] * 96)
    assert house.files(now) == []
    house.record(two, utc("2026-01-01T00:15"), ["2"] * 96)
    assert house.files(now) == ["M1_20260101_r01.mde"]
    assert sorted(house.values("M1_20260101_r01.mde")) == [("1",) * 96, ("2",) * 96]


def test_years_of_backlog_are_taken_in_steps_without_a_gap(house):
    """One entry an hour of 25 days: more entries than a step takes."""
    (channel,) = house.enrol(testing.channel())
    start = utc("2026-01-01T00:15")
    for hour in range(25 * 24):
        house.record(channel, start + hour * 3600, ["1"] * 4)
    now = start + 26 * 86400
    steps = [house.step(now) for _ in range(600 // BATCH + 1)]
    assert [step.entries for step in steps] == [BATCH] * (600 // BATCH) + [600 % BATCH]
    made = [name for step in steps for name, *_ in step.files]
    newest = {name.split("_")[1]: name for name in made}
    assert sorted(newest) == [f"202601{day:02d}" for day in range(1, 26)]
    assert all(house.values(name) == [("1",) * 96] for name in newest.values())


def test_the_hundredth_revision_follows_the_ninety_ninth(house):
    (channel,) = house.enrol(testing.channel())
    now = utc("2026-01-02T00:00")
    house.record(channel, utc("2026-01-01T00:15"), ["0"] * 96)
    for count in range(1, 102):
        assert house.files(now) == [f"M1_20260101_r{count:02d}.mde"]
        house.record(channel, utc("2026-01-01T00:15"), [str(count)], (EDITED,))


def test_two_meters_whose_names_begin_alike_count_their_revisions_apart(house):
    (one,) = house.enrol(testing.channel(meter="M1"))
    (other,) = house.enrol(testing.channel(2, meter="M1_20260101_r01"), serial="IED-2")
    house.sites = {other.key: Site(other.key, custid="CUST", recid="REC")}  # the meter's id is too long for MDEF
    now = utc("2026-01-02T00:00")
    house.record(other, utc("2026-01-01T00:15"), ["1"] * 96)
    assert house.files(now) == ["M1_20260101_r01_20260101_r01.mde"]
    house.record(one, utc("2026-01-01T00:15"), ["2"] * 96)
    assert house.files(now) == ["M1_20260101_r01.mde"]


# --- crashes ---------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """kill -9, as a reader would not see it."""


class DiesAt:
    """A store in front of a store: the n-th call of a method is the last."""

    def __init__(self, store, method: str) -> None:
        self._store, self._method = store, method

    def __getattr__(self, name: str):
        if name == self._method:
            raise Killed
        return getattr(self._store, name)


@pytest.mark.parametrize("method", ["cursor", "entries", "blocks", "channels", "readings_of", "rendered", "advance"])
def test_killed_at_any_call_of_the_store_a_step_is_repeated_or_none(house, method):
    (channel,) = house.enrol(testing.channel())
    house.record(channel, utc("2026-01-01T00:15"), ["1"] * 96)
    now = utc("2026-01-02T00:00")
    with pytest.raises(Killed):
        house.reader(DiesAt(house.post_office.store, method)).step(now * 1000)
    house.post_office.reopen()
    assert house.post_office.store.pending(10) == []
    assert house.files(now) == ["M1_20260101_r01.mde"]
    house.post_office.reopen()
    assert house.files(now) == []
    assert len(house.post_office.store.pending(10)) == 1


def test_a_day_that_waits_is_remembered_over_a_restart(house):
    (channel,) = house.enrol(testing.channel())
    house.record(channel, utc("2026-01-01T00:15"), ["1"])
    assert house.files(utc("2026-01-01T12:00")) == []
    house.post_office.reopen()
    assert house.files(utc("2026-01-02T06:00")) == ["M1_20260101_r01.mde"]


class DiesAfter:
    """A delivery that carries the file out and dies before it can say so."""

    def __init__(self, inner) -> None:
        self._inner = inner

    def deliver(self, name, content):
        self._inner.deliver(name, content)
        raise Killed


def test_killed_between_delivery_and_its_note_the_file_is_delivered_again_and_is_the_same(house):
    (channel,) = house.enrol(testing.channel())
    house.record(channel, utc("2026-01-01T00:15"), ["1"] * 96)
    house.step(utc("2026-01-02T00:00"))
    with pytest.raises(Killed):
        house.deliver(DiesAfter(Directory(house.folder)))
    (file,) = house.folder.iterdir()
    before = file.read_bytes()
    house.post_office.reopen()
    assert [sent.name for sent in house.deliver()] == ["M1_20260101_r01.mde"]
    assert [path.read_bytes() for path in house.folder.iterdir()] == [before]
    assert list(house.deliver()) == []


def test_delivered_bytes_are_those_whose_hash_is_kept(house):
    (channel,) = house.enrol(testing.channel())
    house.record(channel, utc("2026-01-01T00:15"), ["1"] * 96)
    house.step(utc("2026-01-02T00:00"))
    (item,) = house.post_office.store.pending(10)
    assert sha256(house.content(item.name)).digest() == item.sha256
    assert dict(item.version) == {0: 0}


# --- what cannot be done ---------------------------------------------------------------------------------------------


def test_what_cannot_be_rendered_is_set_aside_and_nothing_waits_for_it(house):
    """MDEF has 20 characters for CUSTID (the usage point): one meter's id does not fit."""
    (long,) = house.enrol(testing.channel(1, meter="x" * 30))
    (short,) = house.enrol(testing.channel(2, meter="M2"), serial="IED-2")
    house.record(long, utc("2026-01-01T00:15"), ["1"] * 96)
    house.record(short, utc("2026-01-01T00:15"), ["2"] * 96)
    now = utc("2026-01-02T00:00")
    outcome = house.step(now)
    assert [name for name, *_ in outcome.files] == ["M2_20260101_r01.mde"]
    ((day, reason),) = outcome.dead
    assert day == Day("x" * 30, utc("2026-01-01") // 86400)
    assert reason.startswith("cannot-represent: ")
    (letter,) = house.post_office.store.dead_letters()
    assert (letter.reader, letter.subject) == ("mv90", f"{'x' * 30} 20260101")
    assert house.step(now + 7 * 3600).dead == (), "not tried at every step"


def test_a_day_set_aside_is_tried_again_when_new_data_touches_it(house):
    (channel,) = house.enrol(testing.channel(1, meter="x" * 30))
    house.record(channel, utc("2026-01-01T00:15"), ["1"] * 95)
    assert len(house.step(utc("2026-01-01T23:50")).dead) == 1
    house.sites = {channel.key: Site(channel.key, custid="CUST", recid="REC")}
    house.record(channel, utc("2026-01-02T00:00"), ["1"])
    assert house.files(utc("2026-01-02T00:01")) == [f"{'x' * 30}_20260101_r01.mde"]


class Broken(Mv90Adapter):
    """An adapter with a defect that shows at one meter."""

    def render(self, readings, options):
        if readings.blocks[0].channel.meter == "M1":
            raise ZeroDivisionError("a defect")
        return super().render(readings, options)


def test_a_defect_at_one_meter_does_not_stop_the_others(house):
    (one,) = house.enrol(testing.channel(1, meter="M1"))
    (two,) = house.enrol(testing.channel(2, meter="M2"), serial="IED-2")
    for channel in (one, two):
        house.record(channel, utc("2026-01-01T00:15"), ["1"] * 96)
    store = house.post_office.store
    reader = DayFileReader("mv90", store, DayFiles(store, Broken(), {}, zone_of), grace_h=6)
    outcome = reader.step(utc("2026-01-02T00:00") * 1000)
    assert [name for name, *_ in outcome.files] == ["M2_20260101_r01.mde"]
    ((day, reason),) = outcome.dead
    assert (day.meter, reason) == ("M1", "internal-error: ZeroDivisionError: a defect")


class Fails(DiesAt):
    """A store whose method fails for now."""

    def __getattr__(self, name: str):
        if name == self._method:
            raise StoreUnavailable("disk")
        return getattr(self._store, name)


@pytest.mark.parametrize("method", ["cursor", "entries", "blocks", "channels", "readings_of", "rendered", "advance"])
def test_a_store_that_fails_for_now_costs_no_day(house, method):
    (channel,) = house.enrol(testing.channel())
    house.record(channel, utc("2026-01-01T00:15"), ["1"] * 96)
    now = utc("2026-01-02T00:00")
    with pytest.raises(StoreUnavailable):
        house.reader(Fails(house.post_office.store, method)).step(now * 1000)
    assert house.post_office.store.dead_letters() == []
    assert house.files(now) == ["M1_20260101_r01.mde"]


@pytest.mark.parametrize(
    ("zone", "first_end"),
    [("Etc/UTC", "1970-01-01T00:15"), ("America/New_York", "1970-01-01T00:15"), ("Etc/UTC", "2000-02-29T12:00")],
)
def test_readings_as_old_as_the_epoch_hold_nobody_up(house, zone, first_end):
    """A device whose clock was lost sends 1970; in New York that is a day of 1969."""
    (old,) = house.enrol(testing.channel(1, meter="M1", zone=zone))
    (two,) = house.enrol(testing.channel(2, meter="M2"), serial="IED-2")
    house.record(old, utc(first_end), ["1"])
    house.record(two, utc("2026-01-01T00:15"), ["1"] * 96)
    outcome = house.step(utc("2026-01-02T00:00"))
    assert "M2_20260101_r01.mde" in [name for name, *_ in outcome.files]
    assert len(outcome.files) + len(outcome.dead) == 2


def test_a_channel_enrolled_while_the_reader_runs_is_followed(house):
    (one,) = house.enrol(testing.channel(1, meter="M1"))
    reader, now = house.reader(), utc("2026-01-02T00:00") * 1000
    house.record(one, utc("2026-01-01T00:15"), ["1"] * 96)
    assert [name for name, *_ in reader.step(now).files] == ["M1_20260101_r01.mde"]
    (two,) = house.enrol(testing.channel(2, meter="M2"), serial="IED-2")
    house.record(two, utc("2026-01-01T00:15"), ["1"] * 96)
    assert [name for name, *_ in reader.step(now).files] == ["M2_20260101_r01.mde"]


class Refuses:
    """A delivery that fails for one name with one error."""

    def __init__(self, inner, name: str, error: Exception) -> None:
        self._inner, self._name, self._error = inner, name, error

    def deliver(self, name, content):
        if name == self._name:
            raise self._error
        return self._inner.deliver(name, content)


def two_files(house) -> None:
    (one,) = house.enrol(testing.channel(1, meter="M1"))
    (two,) = house.enrol(testing.channel(2, meter="M2"), serial="IED-2")
    for channel in (one, two):
        house.record(channel, utc("2026-01-01T00:15"), ["1"] * 96)
    house.step(utc("2026-01-02T00:00"))


def test_a_way_out_that_is_closed_for_now_is_tried_again_in_order(house):
    two_files(house)
    with pytest.raises(StoreUnavailable):
        house.deliver(Refuses(Directory(house.folder), "M1_20260101_r01.mde", StoreUnavailable("disk full")))
    assert not house.folder.exists()
    delivered = house.deliver()
    assert [sent.name for sent in delivered] == ["M1_20260101_r01.mde", "M2_20260101_r01.mde"]


def test_a_file_that_can_never_be_delivered_is_set_aside_and_the_others_go(house):
    """Somebody put another file there under that name: it is not written over, and holds nobody up."""
    two_files(house)
    house.folder.mkdir()
    (house.folder / "M1_20260101_r01.mde").write_bytes(b"somebody's")
    first, second = house.deliver()
    assert (first.name, first.place) == ("M1_20260101_r01.mde", "")
    assert first.reason.startswith(AlreadyExists.code)
    assert (second.name, second.reason) == ("M2_20260101_r01.mde", "")
    assert (house.folder / "M1_20260101_r01.mde").read_bytes() == b"somebody's"
    assert [letter.subject for letter in house.post_office.store.dead_letters()] == ["M1_20260101_r01.mde"]
    assert list(house.deliver()) == []


def test_a_meter_id_too_long_for_a_file_name_holds_nobody_up(house):
    """40 letters with an umlaut, percent-coded six to one: longer than the 200 characters every file system takes."""
    (channel,) = house.enrol(testing.channel(1, meter="ü" * 40))
    house.sites = {channel.key: Site(channel.key, custid="CUST", recid="REC")}
    (other,) = house.enrol(testing.channel(2, meter="M2"), serial="IED-2")
    for one in (channel, other):
        house.record(one, utc("2026-01-01T00:15"), ["1"] * 96)
    house.step(utc("2026-01-02T00:00"))
    assert [bool(sent.reason) for sent in house.deliver()] in ([True, False], [False, True])
    assert [path.name for path in house.folder.iterdir()] == ["M2_20260101_r01.mde"]


# --- dead letters, tried again ---------------------------------------------------------------------------------------


def test_a_day_set_aside_is_written_once_its_cause_is_mended_and_somebody_asks(house):
    """A recorder id of the site table that MDEF cannot hold; the table is then mended."""
    (channel,) = house.enrol(testing.channel(1, meter="M 1"))
    house.sites = {channel.key: Site(channel.key, custid="C" * 100, recid="REC")}
    house.record(channel, utc("2026-01-01T00:15"), ["1"] * 96)
    now, store = utc("2026-01-02T00:00"), house.post_office.store
    assert len(house.step(now).dead) == 1
    assert store.retry_dead_letters() == 1
    assert len(house.step(now).dead) == 1, "it fails again ..."
    (letter,) = store.dead_letters()
    assert (letter.subject, letter.reason[:16]) == ("M 1 20260101", "cannot-represent")
    house.sites = {}
    assert house.files(now) == [], "... and by itself nobody tries"
    assert store.retry_dead_letters() == 1
    assert house.files(now) == ["M%201_20260101_r01.mde"]
    assert store.dead_letters() == []


def test_a_file_set_aside_is_delivered_once_its_cause_is_mended_and_somebody_asks(house):
    two_files(house)
    house.folder.mkdir()
    theirs = house.folder / "M1_20260101_r01.mde"
    theirs.write_bytes(b"somebody's")
    house.deliver()
    theirs.unlink()
    assert list(house.deliver()) == []
    store = house.post_office.store
    assert store.retry_dead_letters() == 1
    assert [sent.name for sent in house.deliver()] == ["M1_20260101_r01.mde"]
    assert store.dead_letters() == []


def test_new_data_that_make_a_day_whole_take_its_dead_letter_away(house):
    (channel,) = house.enrol(testing.channel(1))
    house.sites = {channel.key: Site(channel.key, custid="C" * 100, recid="REC")}
    house.record(channel, utc("2026-01-01T00:15"), ["1"] * 95)
    house.step(utc("2026-01-02T06:00"))
    assert len(house.post_office.store.dead_letters()) == 1
    house.sites = {}
    house.record(channel, utc("2026-01-02T00:00"), ["1"])
    assert house.files(utc("2026-01-02T06:00")) == ["M1_20260101_r01.mde"]
    assert house.post_office.store.dead_letters() == []
