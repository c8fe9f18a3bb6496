"""Enrolment on a real store: which sets of channels are refused, what a code may be used for, who sees a change."""

from __future__ import annotations

import shutil
from dataclasses import replace
from hashlib import sha256

import pytest
from gridpost.server.store import open_store

from gridpost.errors import AlreadyExists, EnrolmentRefused, FileInvalid, NotFound
from gridpost.model import Block, Channel, ChannelKey, Entry, Position, Rows

KWH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
KWH_HOUR = "0.0.7.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
NOW = 1_800_000_000_000
SECRET = b"0123456789"
CSR, OTHER_CSR = sha256(b"csr").digest(), sha256(b"other csr").digest()


def channel(meter="M1", stream="", **changes):
    key = ChannelKey("UP1", meter, stream, changes.pop("reading_type", KWH))
    return replace(Channel(key, "kWh", 900, "Europe/Zurich"), **changes)


@pytest.fixture
def path(tmp_path, empty_store):
    return shutil.copy(empty_store, tmp_path / "gridpost.db")


@pytest.fixture
def store(path):
    store = open_store(path, lambda: NOW)
    yield store
    store.close()


def test_channels_are_numbered_and_shown(store):
    added = store.add_ied("IED1", "SunSpec meter", SECRET, [channel(stream="a"), channel(stream="b", unit="KWH")])
    assert [one.key.stream for one in added] == ["a", "b"]
    assert len({one.id for one in added} - {0}) == 2
    assert {one.unit for one in added} == {"kWh"}  # as the reading type spells it
    shown = store.show_ied("IED1")
    assert (shown.kind, shown.state, shown.added_at_utc_ms) == ("SunSpec meter", "waiting", NOW)
    assert (shown.channels, shown.certificates, shown.last_entry) == (added, (), None)
    assert store.list_ieds() == [shown]


@pytest.mark.parametrize(
    ("channels", "told"),
    [
        ([channel(interval_s=7000)], "does not divide a day"),
        ([channel(interval_s=0)], "does not divide a day"),
        ([channel(interval_s=-900)], "does not divide a day"),
        ([channel(interval_s=1800)], "its reading type says 900"),
        ([channel(unit="Wh")], "its reading type says kWh"),
        ([channel(unit="kvarh")], "its reading type says kWh"),
        ([channel(unit="furlong")], "unknown unit"),
        ([channel(reading_type="0.0.2.4")], "not a reading type"),
        ([channel(zone="Mars/Olympus")], "no zone"),
        ([channel(zone="../../etc/passwd")], "no zone"),
        ([channel(meter="")], "meter is empty"),
        ([channel(valid_from_utc=900, valid_to_utc=900)], "ends before it begins"),
        ([channel(stream="a"), channel(stream="a")], "twice at one time"),
        ([channel(), channel(stream="a")], "no stream name"),
        ([channel(valid_to_utc=901), channel(valid_from_utc=900)], "twice at one time"),
    ],
)
def test_a_wrong_or_ambiguous_set_is_refused_whole(store, channels, told):
    with pytest.raises(FileInvalid) as refusal:
        store.add_ied("IED1", "", SECRET, [channel(meter="M9"), *channels])
    assert any(told in item.reason for item in refusal.value.items)
    assert refusal.value.items[0].path in ("line 3", "line 4")
    assert store.channels() == []
    assert store.list_ieds() == []


def test_sets_that_can_be_told_apart_are_taken(store):
    channels = [
        channel(stream="a"),
        channel(stream="b"),
        channel(meter="M2"),
        channel(meter="M2", reading_type=KWH_HOUR, interval_s=3600),
        channel(meter="M3", valid_to_utc=900),
        channel(meter="M3", valid_from_utc=900),
    ]
    assert len(store.add_ied("IED1", "", SECRET, channels)) == 6


def test_a_channel_belongs_to_one_ied_at_a_time(store):
    store.add_ied("IED1", "", SECRET, [channel(stream="a", valid_from_utc=900)])
    for taken in (channel(stream="a", valid_from_utc=1800), channel(stream="")):
        with pytest.raises(AlreadyExists, match="IED1"):
            store.add_ied("IED2", "", SECRET, [channel(meter="M9"), taken])
    assert store.channels(sender="IED2") == []
    store.add_ied("IED2", "", SECRET, [channel(stream="a", valid_to_utc=900), channel(stream="b")])


def test_a_serial_is_enrolled_once(store):
    store.add_ied("IED1", "", SECRET, [channel()])
    with pytest.raises(AlreadyExists, match="revoke it first"):
        store.add_ied("IED1", "", SECRET, [channel(meter="M2")])
    assert store.channels(meter="M2") == []


def test_a_code_binds_to_its_first_csr(store):
    store.add_ied("IED1", "", SECRET, [channel()])
    assert store.enrolment_secret("IED1") == SECRET
    assert store.bind_certificate("IED1", CSR, b"certificate 1") == b"certificate 1"
    assert store.bind_certificate("IED1", CSR, b"certificate 2") == b"certificate 1"  # a lost answer, asked again
    with pytest.raises(EnrolmentRefused):
        store.bind_certificate("IED1", OTHER_CSR, b"certificate 3")
    (one,) = store.show_ied("IED1").certificates
    assert (one.der, one.sha256, one.bound_at_utc_ms) == (b"certificate 1", sha256(b"certificate 1").digest(), NOW)
    assert store.show_ied("IED1").state == "enrolled"
    assert store.enrolment(sha256(b"certificate 3").digest()) is None


def test_strangers_have_no_code(store):
    with pytest.raises(EnrolmentRefused):
        store.enrolment_secret("IED9")
    with pytest.raises(EnrolmentRefused):
        store.bind_certificate("IED9", CSR, b"certificate")
    for ask in (store.show_ied, lambda serial: store.revoke(serial, NOW)):
        with pytest.raises(NotFound):
            ask("IED9")


def test_a_revoked_ied_is_known_but_out(store):
    (one,) = store.add_ied("IED1", "", SECRET, [channel()])
    store.bind_certificate("IED1", CSR, b"certificate")
    store.revoke("IED1", NOW)
    store.revoke("IED1", NOW + 1)  # the first moment stands
    found = store.enrolment(sha256(b"certificate").digest())
    assert (found.revoked_at_utc_ms, found.channels) == (NOW, (one,))
    assert store.show_ied("IED1").state == "revoked"
    with pytest.raises(EnrolmentRefused):
        store.enrolment_secret("IED1")
    with pytest.raises(EnrolmentRefused):
        store.bind_certificate("IED1", CSR, b"certificate")


def test_an_unused_code_dies_with_its_ied(store):
    store.add_ied("IED1", "", SECRET, [channel()])
    store.revoke("IED1", NOW)
    with pytest.raises(EnrolmentRefused):
        store.bind_certificate("IED1", CSR, b"certificate")


def test_a_revoked_serial_is_enrolled_again_with_its_channels(store):
    first = store.add_ied("IED1", "", SECRET, [channel()])
    store.bind_certificate("IED1", CSR, b"certificate 1")
    store.revoke("IED1", NOW)
    again = store.add_ied("IED1", "", b"9876543210", [channel(), channel(meter="M2")])
    assert again[:1] == first
    assert store.enrolment_secret("IED1") == b"9876543210"
    assert store.bind_certificate("IED1", OTHER_CSR, b"certificate 2") == b"certificate 2"
    revoked = [store.enrolment(sha256(der).digest()).revoked_at_utc_ms for der in (b"certificate 1", b"certificate 2")]
    assert revoked == [NOW, None]


def test_a_replacement_takes_over_from_a_revoked_ied(store):
    store.add_ied("OLD", "", SECRET, [channel()])
    with pytest.raises(AlreadyExists):
        store.add_ied("NEW", "", SECRET, [channel(valid_from_utc=9000)])
    store.revoke("OLD", NOW)
    with pytest.raises(AlreadyExists):
        store.add_ied("NEW", "", SECRET, [channel()])  # the old one's readings stay the old one's
    store.add_ied("NEW", "", SECRET, [channel(valid_from_utc=9000)])
    old, new = store.channels()
    assert (old.valid_to_utc, new.valid_from_utc, new.valid_to_utc) == (9000, 9000, None)
    assert (old.holds_at(9000), new.holds_at(9000), new.holds_at(9900)) == (True, False, True)


def test_a_running_bus_sees_what_another_process_enrols(path):
    bus, beside = open_store(path, lambda: NOW, serve=True), open_store(path, lambda: NOW)
    digest = sha256(b"certificate").digest()
    beside.add_ied("IED1", "", SECRET, [channel()])
    assert bus.enrolment(digest) is None
    beside.bind_certificate("IED1", CSR, b"certificate")
    assert bus.enrolment(digest).revoked_at_utc_ms is None
    assert bus.enrolment(digest) is bus.enrolment(digest)  # cached
    beside.revoke("IED1", NOW)
    assert bus.enrolment(digest).revoked_at_utc_ms == NOW
    beside.close()
    bus.close()


def test_the_newest_interval_is_shown(path):
    bus = open_store(path, lambda: NOW, serve=True)
    (one, other) = bus.add_ied("IED1", "", SECRET, [channel(stream="a"), channel(stream="b")])
    for number, (into, quarter) in enumerate([(one, 5), (other, 9), (one, 2)]):
        block = Block(into.id, 900, (900 * quarter,), ("1",), ((),))
        entry = Entry("IED1", f"m{number}", "MeterReadings", "http", bytes(32), 0, None, "", b"x")
        bus.record(entry, Rows((block,)), lambda *_: b"receipt").result(10)
    shown = bus.show_ied("IED1")
    assert (shown.last_interval_end_utc, shown.last_entry, shown.last_recorded_at_utc_ms) == (8100, Position(0, 1), NOW)
    bus.close()
