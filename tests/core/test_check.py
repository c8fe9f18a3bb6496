"""May this sender say this, now? Each finding, each edge of time, and that nothing is taken when one thing is wrong."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from gridpost import check, exchange, messages, testing
from gridpost.envelope import canonical
from gridpost.errors import (
    CertificateNotAccepted,
    MessageFromFuture,
    MessageStale,
    PeerFault,
    ReadingInFuture,
    ReadingsRefused,
)
from gridpost.model import ChannelKey, EndDeviceEvent, IntervalBlock, Quality, Readings, RegisterReading, Rows

NOW_MS = testing.NOW_UTC_MS
NOW = NOW_MS // 1000
DAY = 86400
CA = testing.ThrowawayCA()
DEVICE = CA.issue_device("IED1")
BULK = "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
CHANNEL = testing.channel(1)


def checked(blocks=(), registers=(), channels=(CHANNEL,), now_ms: int = NOW_MS) -> Rows:
    message = testing.readings_message("IED1", "m", blocks)
    message = replace(message, readings=Readings(tuple(blocks), tuple(registers)))
    return check.check(message, channels, now_ms, ZoneInfo)


def refused(error: type[PeerFault] = ReadingsRefused, **arguments) -> list[str]:
    with pytest.raises(error) as raised:
        checked(**arguments)
    return [item.code for item in raised.value.items]


# --- the moment ------------------------------------------------------------------------------------------------------


def opened(created_ms: int = NOW_MS, signer=DEVICE):
    message = testing.readings_message("IED1", "m", [], created_ms)
    enrolment = testing.enrolment(signer, "IED1", [CHANNEL])
    return exchange.open_(exchange.read(testing.sealed(message, signer, created_ms)), enrolment), enrolment


AGES = {check.HTTP: 900_000, check.MAIL: 7 * DAY * 1000, check.FILES: 7 * DAY * 1000, check.RELAY: 400 * DAY * 1000}


@pytest.mark.parametrize("transport", AGES, ids=lambda transport: transport.name)
def test_a_message_may_be_as_old_as_its_transport_allows(transport):
    """DESIGN 1.1: HTTP 15 min, mail and FTP 7 days, relay 400 days; 60 s into the future on all."""
    for age_ms in (AGES[transport], 0, -60_000):
        message, enrolment = opened(NOW_MS - age_ms)
        check.check_moment(message, enrolment, transport, NOW_MS)
    for age_ms, error in ((AGES[transport] + 1, MessageStale), (-60_001, MessageFromFuture)):
        message, enrolment = opened(NOW_MS - age_ms)
        with pytest.raises(error):
            check.check_moment(message, enrolment, transport, NOW_MS)


def test_a_revoked_certificate_is_refused_from_that_moment():
    message, enrolment = opened()
    check.check_moment(message, replace(enrolment, revoked_at_utc_ms=NOW_MS + 1), check.RELAY, NOW_MS)
    for at in (NOW_MS, NOW_MS - 1, 0):
        with pytest.raises(CertificateNotAccepted, match="revoked"):
            check.check_moment(message, replace(enrolment, revoked_at_utc_ms=at), check.RELAY, NOW_MS)


def test_an_expired_certificate_is_refused_only_where_the_message_came_at_once():
    """Decision 2: mail, files and relay accept a certificate that expired after Created."""
    ends = datetime.fromtimestamp(NOW, UTC)
    signer = CA.issue_device("IED1", valid=(ends - timedelta(days=1), ends))
    message, enrolment = opened(signer=signer)
    check.check_moment(message, enrolment, check.HTTP, NOW_MS + 999)
    with pytest.raises(CertificateNotAccepted, match="expired"):
        check.check_moment(message, enrolment, check.HTTP, NOW_MS + 1000)
    for transport in (check.MAIL, check.FILES, check.RELAY):
        check.check_moment(message, enrolment, transport, NOW_MS + 1000)


# --- channels --------------------------------------------------------------------------------------------------------


def test_a_block_becomes_a_row_of_its_channel():
    block = testing.block(CHANNEL, NOW - 900, ["1.5", "-2"])
    (row,) = checked([block]).blocks
    assert row == (CHANNEL.id, 900, (NOW - 900, NOW), ("1.5", "-2"), ((), ()))


def test_values_are_not_judged():
    gap = IntervalBlock(CHANNEL.key, 900, (NOW,), (None,), ((Quality("2.5.259"),),))
    blocks = [testing.block(CHANNEL, NOW - 9000, ["-999999999", "0", "0"]), gap]
    assert [row.values for row in checked(blocks).blocks] == [("-999999999", "0", "0"), (None,)]


def test_the_length_is_the_channels_not_the_messages():
    block = replace(testing.block(CHANNEL, NOW, ["1"]), interval_s=0)
    assert checked([block]).blocks[0].interval_s == 900


@pytest.mark.parametrize(
    "change",
    [
        {"usage_point": "UP-x"},
        {"meter": "x"},
        {"stream": "x"},
        {"meter": "m1"},
        {"usage_point": ""},
        {"reading_type": testing.FORWARD_KWH_15MIN.replace(".3.72.", ".0.72.")},
        {"reading_type": testing.FORWARD_KWH_15MIN.replace("0.0.2.4.1.", "0.0.2.4.19.")},
        {"reading_type": testing.FORWARD_KWH_15MIN.replace("0.0.2.", "0.0.5.")},
        {"reading_type": BULK},
        {"reading_type": "nonsense"},
    ],
)
def test_an_unknown_channel_is_refused(change):
    key = CHANNEL.key._replace(**change)
    with pytest.raises(ReadingsRefused) as raised:
        checked([replace(testing.block(CHANNEL, NOW, ["1"]), channel=key)])
    (item,) = raised.value.items
    assert (item.code, item.path) == ("unknown-channel", "/".join(part or "-" for part in key))


def test_a_stream_name_may_be_left_out_where_it_is_not_needed():
    bare = replace(testing.block(CHANNEL, NOW, ["1"]), channel=CHANNEL.key._replace(stream=""))
    assert checked([bare]).blocks[0].channel_id == CHANNEL.id
    second = testing.channel(2)
    assert refused(blocks=[bare], channels=(CHANNEL, second)) == ["ambiguous-channel"]
    unnamed = testing.channel(3, key=CHANNEL.key._replace(stream=""))
    assert checked([bare], channels=(unnamed, CHANNEL)).blocks[0].channel_id == 3


@pytest.mark.parametrize(
    ("end_utc", "code"),
    [(NOW - 900, ["not-assigned"]), (NOW, []), (NOW + DAY - 900, []), (NOW + DAY, ["not-assigned"])],
)
def test_the_assignment_is_looked_at_at_each_intervals_end(end_utc, code):
    mine = testing.channel(1, valid_from_utc=NOW - 900, valid_to_utc=NOW + DAY - 900)
    arguments = {
        "blocks": [testing.block(mine, end_utc, ["1"])],
        "channels": (mine,),
        "now_ms": NOW_MS + 2 * DAY * 1000,
    }
    if code:
        assert refused(**arguments) == code
    else:
        assert len(checked(**arguments).blocks) == 1


def test_a_block_over_a_meter_exchange_is_split_at_it():
    """The same names before and after NOW, two rows of --channels: each interval goes to the one that holds it."""
    before = testing.channel(1, valid_to_utc=NOW)
    after = replace(testing.channel(2, valid_from_utc=NOW), key=before.key)
    noted = (Quality("1.4.9"),)
    block = testing.block(before, NOW - 900, ["1", "2", "3"])
    block = replace(block, qualities=((), noted, noted))
    rows = checked([block], channels=(before, after), now_ms=NOW_MS + DAY * 1000).blocks
    assert rows == (
        (1, 900, (NOW - 900, NOW), ("1", "2"), ((), noted)),
        (2, 900, (NOW + 900,), ("3",), (noted,)),
    )


@pytest.mark.parametrize(
    ("zone", "off_s", "fits"),
    [
        ("Etc/UTC", 0, True),
        ("Etc/UTC", 1, False),
        ("Etc/UTC", 300, False),
        ("Asia/Kathmandu", 0, True),
        ("Europe/Berlin", 0, True),
    ],
)
def test_intervals_lie_on_the_grid(zone, off_s, fits):
    channel = testing.channel(1, zone=zone)
    arguments = {"blocks": [testing.block(channel, NOW - 900 + off_s, ["1"])], "channels": (channel,)}
    if fits:
        assert checked(**arguments).blocks
    else:
        assert refused(**arguments) == ["off-grid"]


def test_hours_of_a_zone_with_a_quarter_offset_have_their_own_grid():
    """Nepal is UTC+5:45: its hours end at a quarter past on the UTC clock."""
    hourly = testing.FORWARD_KWH_15MIN.replace("0.0.2.", "0.0.7.")
    channel = testing.channel(1, zone="Asia/Kathmandu", interval_s=3600, key=CHANNEL.key._replace(reading_type=hourly))
    assert checked([testing.block(channel, NOW - 2700, ["1"])], channels=(channel,)).blocks
    assert refused(blocks=[testing.block(channel, NOW - 3600, ["1"])], channels=(channel,)) == ["off-grid"]


@pytest.mark.parametrize(("day", "quarters"), [("2026-03-29", 92), ("2026-10-25", 100), ("2026-06-01", 96)])
def test_local_days_of_23_24_and_25_hours_are_on_the_grid(day, quarters):
    """A local day in Berlin has 92, 96 or 100 quarter hours (DESIGN 3.6)."""
    zone = ZoneInfo("Europe/Berlin")
    start = datetime.fromisoformat(day).replace(tzinfo=zone)
    begin = int(start.timestamp())
    channel = testing.channel(1, zone="Europe/Berlin")
    block = testing.block(channel, begin + 900, ["1"] * quarters)
    assert datetime.fromtimestamp(block.ends_utc[-1], zone).date() - start.date() == timedelta(days=1)
    later = (block.ends_utc[-1] + 1) * 1000
    assert checked([block], channels=(channel,), now_ms=later).blocks[0].ends_utc == block.ends_utc


def test_the_grid_follows_a_country_that_changes_its_standard_time():
    """North Korea went from UTC+8:30 to UTC+9 at 2018-05-04T15:00:00Z: hours ended at half past, then at full hours."""
    hourly = CHANNEL.key._replace(reading_type=testing.FORWARD_KWH_15MIN.replace("0.0.2.", "0.0.7."))
    channel = testing.channel(1, zone="Asia/Pyongyang", interval_s=3600, key=hourly)
    before, after = (int(datetime(2018, 5, 4, *at, tzinfo=UTC).timestamp()) for at in ((14, 30), (16, 0)))

    def block(*ends: int) -> IntervalBlock:
        return IntervalBlock(hourly, 3600, ends, ("1",) * len(ends), ((),) * len(ends))

    assert checked([block(before, after)], channels=(channel,)).blocks[0].ends_utc == (before, after)
    assert refused(blocks=[block(before, after + 1800)], channels=(channel,)) == ["off-grid"]


def test_an_empty_block_is_no_row():
    assert checked([testing.block(CHANNEL, NOW, [])]) == Rows()


def test_one_interval_twice_is_left_to_the_versions():
    block = IntervalBlock(CHANNEL.key, 900, (NOW, NOW), ("1", "2"), ((), ()))
    assert checked([block]).blocks[0].values == ("1", "2")


# --- the future ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("late_ms", "taken"), [(-60_000, True), (-61_000, False), (0, True)])
def test_an_interval_may_end_60_s_ahead(late_ms, taken):
    arguments = {"blocks": [testing.block(CHANNEL, NOW, ["1"])], "now_ms": NOW_MS + late_ms}
    if taken:
        assert checked(**arguments).blocks
    else:
        assert refused(ReadingInFuture, **arguments) == [ReadingInFuture.code]


def test_the_future_beside_another_fault_is_not_worth_a_retry():
    future, unknown = testing.block(CHANNEL, NOW + 9000, ["1"]), testing.block(testing.channel(1, "X"), NOW, ["1"])
    assert refused(blocks=[future, unknown]) == [ReadingInFuture.code, "unknown-channel"]


@pytest.mark.parametrize("zone", ["Etc/UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize("end_utc", [0, 900, 253_370_764_799 // 900 * 900])
def test_the_ends_of_time_are_refused_not_tripped_over(zone, end_utc):
    """The first and last times a message can state, in the zones furthest east and west."""
    channel = testing.channel(1, zone=zone, valid_from_utc=NOW - DAY)
    with pytest.raises((ReadingsRefused, ReadingInFuture)):
        checked([testing.block(channel, end_utc, ["1"])], channels=(channel,))


# --- registers and events --------------------------------------------------------------------------------------------


def stand(time_utc: int = NOW, reading_type: str = BULK, **change: str) -> RegisterReading:
    return RegisterReading(
        ChannelKey(**(CHANNEL.key._asdict() | {"reading_type": reading_type} | change)), time_utc, "5"
    )


def test_a_register_reading_goes_to_its_interval_channel():
    (row,) = checked(registers=[stand(NOW - 7)]).registers  # a dial is read at any second
    assert row == (CHANNEL.id, BULK, NOW - 7, "5", ())


@pytest.mark.parametrize(
    ("reading", "code"),
    [
        (stand(meter="X"), "unknown-channel"),
        (stand(reading_type=testing.FORWARD_KWH_15MIN), "unknown-channel"),
        (stand(reading_type=BULK.replace(".3.72.", ".0.72.")), "unknown-channel"),
        (stand(reading_type="nonsense"), "unknown-channel"),
        (stand(stream="x"), "unknown-channel"),
    ],
)
def test_a_register_of_no_channel_is_refused(reading, code):
    assert refused(registers=[reading]) == [code]


def test_a_register_reading_in_the_future_is_refused():
    assert refused(ReadingInFuture, registers=[stand(NOW + 61)]) == [ReadingInFuture.code]


def test_a_dial_read_at_the_exchange_belongs_to_the_new_holder():
    before = testing.channel(1, valid_to_utc=NOW)
    after = replace(testing.channel(2, valid_from_utc=NOW), key=before.key)

    def holder(time_utc: int) -> int:
        (row,) = checked(registers=[stand(time_utc)], channels=(before, after), now_ms=NOW_MS + DAY * 1000).registers
        return row.channel_id

    assert [holder(NOW - 1), holder(NOW), holder(NOW + 1)] == [1, 2, 2]
    (last,) = checked(registers=[stand(NOW)], channels=(before,)).registers  # nobody took over: the old one's last
    assert last.channel_id == 1
    assert refused(registers=[stand(NOW)], channels=(testing.channel(1, valid_from_utc=NOW + 1),)) == ["not-assigned"]


def test_events_are_taken_whatever_they_say_but_not_from_the_future():
    past = EndDeviceEvent("e1", "3.26.0.85", NOW_MS - 400 * DAY * 1000)
    soon = EndDeviceEvent("e2", "3.26.0.85", NOW_MS + 60_000)
    ahead = EndDeviceEvent("e3", "3.26.0.85", NOW_MS + 62_000)
    rows = check.check(testing.events_message("IED1", "m", [past, soon]), [CHANNEL], NOW_MS, ZoneInfo)
    assert rows == Rows(events=(past, soon))
    with pytest.raises(ReadingInFuture) as raised:
        check.check(testing.events_message("IED1", "m", [past, ahead]), [CHANNEL], NOW_MS, ZoneInfo)
    assert [item.path for item in raised.value.items] == ["e3"]


# --- all or nothing --------------------------------------------------------------------------------------------------


def test_every_finding_is_listed_up_to_a_hundred():
    unknown = [testing.block(testing.channel(1, f"X{number}"), NOW, ["1"]) for number in range(150)]
    with pytest.raises(ReadingsRefused, match="150 finding") as raised:
        checked([*unknown, testing.block(CHANNEL, NOW, ["1"])])
    assert len(raised.value.items) == 100
    assert raised.value.items[0].path == "UP-X0/X0/E1/" + testing.FORWARD_KWH_15MIN


TIMES = st.integers(NOW - 2 * DAY, NOW + 2 * DAY)
ENDS = st.one_of(st.integers(-192, 0).map(lambda quarter: NOW + 900 * quarter), TIMES)


@given(st.lists(st.tuples(ENDS, st.sampled_from(["", "E1", "E2", "x"])), max_size=6), TIMES, TIMES)
def test_what_is_taken_is_all_of_it_and_nothing_else(points, valid_from, valid_to):
    """Whatever the mixture: either refused, or every value once, on the grid, assigned and not in the future."""
    channels = (testing.channel(1, valid_from_utc=valid_from, valid_to_utc=valid_to), testing.channel(2))
    blocks = [
        IntervalBlock(CHANNEL.key._replace(stream=stream), 900, (end,), (str(end),), ((),)) for end, stream in points
    ]
    try:
        rows = checked(blocks, channels=channels).blocks
    except (ReadingsRefused, ReadingInFuture):
        return
    assert sorted(value for row in rows for value in row.values) == sorted(str(end) for end, _ in points)
    assert all(end % 900 == 0 and end <= NOW + 60 for row in rows for end in row.ends_utc)
    assert all(valid_from < end <= valid_to for row in rows if row.channel_id == 1 for end in row.ends_utc)


# --- signed nonsense: a device that seals anything at all -------------------------------------------------------------

NASTY = (
    "",
    " ",
    "0",
    "-1",
    "9" * 5000,
    "1e999",
    "NaN",
    "2026-01-01T00:00:00Z",
    "9998-12-31T23:59:59-14:00",
    "1970-01-01T00:00:00Z",
    "2.5.259",
    "1.0.0",
    BULK,
    testing.FORWARD_KWH_15MIN,
    "0.0.2",
    "channel",
    "M1",
    "E1",
    "\u0661",
    "x" * 2000,
    "]]>",
    "&<>\"'",
)


def _rich_payload() -> bytes:
    noted = (Quality("1.4.9", "clock"), Quality("2.5.259"))
    block = IntervalBlock(CHANNEL.key, 900, (NOW - 900, NOW), ("1", None), ((), noted))
    message = testing.readings_message("IED1", "m", [block, testing.block(CHANNEL, NOW - 9000, ["1"])])
    message = replace(message, readings=Readings(message.readings.blocks, (stand(), stand(NOW - 5))))
    return messages.encode(message)


def _event_payload() -> bytes:
    event = EndDeviceEvent("e1", "3.26.0.85", NOW_MS, "M1", "why", "high", {"a": "b"})
    return messages.encode(testing.events_message("IED1", "m", [event, event]))


@settings(max_examples=300)
@given(st.sampled_from([_rich_payload(), _event_payload()]), st.data())
def test_signed_nonsense_is_refused_or_taken_never_tripped_over(payload, data):
    root = etree.fromstring(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        elements = list(root.iter())
        element, other = (elements[data.draw(st.integers(0, len(elements) - 1))] for _ in range(2))
        how = data.draw(st.sampled_from(["text", "attribute", "drop", "copy", "rename"]))
        if how == "text":
            element.text = data.draw(st.sampled_from(NASTY))
        elif how == "attribute":
            element.set(
                data.draw(st.sampled_from(["ref", "x", "{http://www.w3.org/2001/XMLSchema-instance}nil"])),
                data.draw(st.sampled_from(NASTY)),
            )
        elif how == "rename":
            element.tag = other.tag
        elif how == "copy":
            other.append(etree.fromstring(etree.tostring(element, with_tail=False)))
        elif element is not root:
            element.getparent().remove(element)
    raw = exchange.seal(canonical(root), DEVICE, NOW_MS)
    enrolment = testing.enrolment(DEVICE, "IED1", [CHANNEL])
    try:
        message = exchange.open_(exchange.read(raw), enrolment)
        assert isinstance(check.check(message.message, enrolment.channels, NOW_MS, ZoneInfo), Rows)
    except PeerFault:
        return
