"""The spool: what is recorded is sent, what is receipted is forgotten, and nothing else ever is."""

import contextlib
import hashlib
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest
from gridpost.ied_soap_client import register_map as rm
from gridpost.ied_soap_client.outgoing import MAX_BODY, Draft, Outgoing
from gridpost.ied_soap_client.spool import Batch, Row, Spool
from lxml import etree

from gridpost import messages
from gridpost.errors import ConfigInvalid, StoreUnavailable
from gridpost.model import ChannelKey, Counts, EndDeviceEvent, Position, Quality, Receipt, Refusal

KEY = ChannelKey("UP1", "M1", "E1", "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0")
T0 = 1_772_323_200
LONG = Quality("1.4.3", 'since "then" <&>')


def row(number: int, value: str | None = "1.5", qualities=(), key=KEY) -> Row:
    return Row(key, 900, T0 + 900 * number, value, qualities)


@pytest.fixture
def spool(tmp_path):
    opened = Spool(tmp_path / "spool.db")
    yield opened
    opened.close()


@pytest.fixture
def draft():
    ids = itertools.count(1)
    return Draft("IED-7", T0 * 1000, lambda: f"id-{next(ids)}")


def decoded(pending):
    return messages.decode(etree.fromstring(pending.body))


def receipt(pending, at_ms: int = T0 * 1000) -> Receipt:
    digest = hashlib.sha256(pending.body).digest()
    return Receipt(pending.id, "IED-7", digest, (), at_ms, Position(0, pending.sequence), b"r" * 32, Counts(1, 0, 0))


def test_rows_wait_unsealed_and_leave_oldest_first_with_rising_sequence(spool, draft):
    outgoing = Outgoing(spool)
    spool.record(Batch(rows=[row(3), row(1, None, (Quality("2.5.259", "why"),)), row(2, "2", (LONG,))]))
    assert outgoing.next_pending(0) is None
    assert outgoing.cut(draft)
    spool.record(Batch(rows=[Row(KEY, 0, T0, "17", ())]))
    assert outgoing.cut(draft)
    assert not outgoing.cut(draft)
    first = outgoing.next_pending(0)
    message = decoded(first)
    (block,) = message.readings.blocks
    assert block.channel == KEY
    assert block.ends_utc == (T0 + 900, T0 + 1800, T0 + 2700)
    assert block.values == (None, "2", "1.5")
    assert block.qualities == ((Quality("2.5.259", "why"),), (LONG,), ())
    assert (message.header.message_id, message.header.sequence, message.header.source) == ("id-1", 1, "IED-7")
    outgoing.receipted(receipt(first), b"<receipt/>", clock_proven=True)
    second = outgoing.next_pending(0)
    assert second.sequence == 2
    (register,) = decoded(second).readings.registers
    assert (register.time_utc, register.value) == (T0, "17")


def test_a_later_message_names_the_newest_receipt(spool, draft):
    outgoing = Outgoing(spool)
    spool.record(Batch(rows=[row(1)]))
    outgoing.cut(draft)
    first = outgoing.next_pending(0)
    outgoing.receipted(receipt(first), b"<receipt/>", clock_proven=True)
    spool.record(Batch(rows=[row(2)]))
    outgoing.cut(draft)
    assert decoded(outgoing.next_pending(0)).header.last_receipt == f"0:1:{'72' * 32}"  # 0x72 is "r"
    assert list(spool.receipts()) == [("id-1", b"<receipt/>")]


def test_messages_stay_within_the_body_limit_and_hold_every_row_once(spool, draft):
    outgoing = Outgoing(spool)
    detail = Quality("1.4.3", "x" * 250)
    spool.record(Batch(rows=[row(number, "1.5", (detail,)) for number in range(6000)]), measured=False)
    ends = []
    while outgoing.cut(draft):
        pending = outgoing.next_pending(0)
        assert len(pending.body) <= MAX_BODY
        assert pending.body.count(b"<") < 100_000
        ends += decoded(pending).readings.blocks[0].ends_utc
        outgoing.receipted(receipt(pending), b"", clock_proven=False)
    assert ends == [T0 + 900 * number for number in range(6000)]
    assert spool.status()["readings_waiting"] == 0


def test_two_versions_of_an_interval_never_share_a_message(spool, draft):
    outgoing = Outgoing(spool)
    spool.record(Batch(rows=[row(1, "1"), row(2, "5"), row(1, "2")]))
    outgoing.cut(draft)
    outgoing.cut(draft)
    first = outgoing.next_pending(0)
    assert decoded(first).readings.blocks[0].values == ("1", "5")
    outgoing.receipted(receipt(first), b"", clock_proven=True)
    assert decoded(outgoing.next_pending(0)).readings.blocks[0].values == ("2",)


def test_refused_is_set_aside_and_retried_with_the_same_body(spool, draft):
    outgoing = Outgoing(spool)
    spool.record(Batch(rows=[row(1)]))
    outgoing.cut(draft)
    first = outgoing.next_pending(0)
    outgoing.attempted(first.id)
    items = (("readings-refused", "off the grid", "/a/b[1]"), ("readings-refused", "unknown channel", ""))
    outgoing.refuse(first.id, Refusal("readings-refused", "after-fix", "2 findings", b"", b"", 0, items))
    spool.record(Batch(rows=[row(2)]))
    outgoing.cut(draft)
    assert outgoing.next_pending(0).id == "id-2", "the queue goes on"
    status = spool.status()
    assert (status["messages_refused"], status["messages_pending"], status["readings_waiting"]) == (1, 1, 2)
    assert status["messages"][0]["code"] == "readings-refused"
    assert status["messages"][0]["items"] == [
        {"code": "readings-refused", "reason": "off the grid", "path": "/a/b[1]"},
        {"code": "readings-refused", "reason": "unknown channel", "path": ""},
    ]
    assert outgoing.retry() == 1
    assert spool.status()["messages"][0]["items"] == []
    again = outgoing.next_pending(0)
    assert (again.id, again.body, again.attempts) == (first.id, first.body, 1)


def test_a_postponed_message_lets_others_pass_and_a_clock_that_stepped_back_does_not_hold_it(spool, draft):
    outgoing = Outgoing(spool)
    spool.record(Batch(rows=[row(1)]))
    outgoing.cut(draft)
    spool.record(Batch(rows=[row(2)]))
    outgoing.cut(draft)
    now = T0 * 1000
    outgoing.postpone("id-1", now + 60_000)
    assert outgoing.next_pending(now).id == "id-2"
    assert outgoing.next_pending(now + 60_000).id == "id-1"
    outgoing.postpone("id-1", now + 365 * 86_400_000)  # by a clock a year ahead
    assert outgoing.next_pending(now).id == "id-1"


def test_events_leave_in_messages_of_their_own_after_readings(spool, draft):
    outgoing = Outgoing(spool)
    event = EndDeviceEvent("e1", "3.26.0.216", T0 * 1000 + 5, "M1", "power-up", "", {"a": "<1>"})
    spool.record(Batch(rows=[row(1)], events=[event]))
    outgoing.cut(draft)
    outgoing.cut(draft)
    first = outgoing.next_pending(0)
    outgoing.receipted(receipt(first), b"", clock_proven=True)
    pending = outgoing.next_pending(0)
    assert (pending.noun, decoded(pending).events) == ("EndDeviceEvents", (event,))
    outgoing.receipted(receipt(pending), b"", clock_proven=True)
    assert spool.status()["events_waiting"] == 0


def codes(spool) -> list[tuple[int, str, list[str]]]:
    found = spool.rows("SELECT end_utc, value, qualities FROM reading WHERE message IS NULL AND NOT sent ORDER BY id")
    return [((end - T0) // 900, value, [code for code, _ in eval(text)]) for end, value, text in found]


def test_a_clock_found_wrong_marks_all_since_it_was_last_known_right(spool, draft):
    outgoing = Outgoing(spool)

    def send(number: int, proven: bool):
        spool.record(Batch(rows=[row(number, str(number))]))
        outgoing.cut(draft)
        outgoing.receipted(receipt(outgoing.next_pending(0)), b"", clock_proven=proven)

    send(1, proven=True)  # known right: forgotten
    send(2, proven=False)  # receipted, but the clock is not proven: kept, not sent again
    assert spool.status()["readings_kept_until_clock_proven"] == 1
    spool.record(Batch(rows=[row(3, "3")]))
    outgoing.cut(draft)  # in a message whose Body stays as made
    spool.record(Batch(rows=[row(4, "4", (LONG,)), row(5, None, (Quality("2.5.259"),))]))
    spool.record(Batch(rows=[row(6, "6")]), measured=False)  # a file's times are not this clock's
    stands = {KEY: rm.flagged(rm.first_stand(rm.Sample(1, 0), T0), Quality("1.4.9", "off"))}
    assert spool.flag_clock("off", stands) == 3
    assert codes(spool) == [
        (4, "4", ["1.4.3", "1.4.9"]), (5, None, ["2.5.259"]), (6, "6", []),
        (2, "2", ["1.4.9"]), (3, "3", ["1.4.9"]),
    ]  # fmt: skip
    assert spool.stands() == stands
    assert spool.flag_clock("off again", {}) == 0, "said once"
    assert decoded(outgoing.next_pending(0)).readings.blocks[0].qualities == ((),), "never re-stamped, never re-written"


def test_stands_survive_whole(spool, tmp_path):
    stand = rm.Stand(T0, 4_000_000_000, -3, (Quality("1.4.9", "x"),), ((T0 - 900, T0), (T0 + 86400, T0 + 90000)))
    other = KEY._replace(stream="")
    spool.record(Batch(stands={KEY: stand, other: stand}))
    again = Spool(tmp_path / "spool.db")
    assert again.stands() == {KEY: stand, other: stand}
    again.close()


def test_a_full_disk_keeps_nothing_of_a_batch_and_later_takes_it_whole(spool):
    spool.record(Batch(rows=[row(1)]))
    ((pages,),) = spool.rows("PRAGMA page_count")
    spool.rows(f"PRAGMA max_page_count={pages}")
    batch = Batch(stands={KEY: rm.first_stand(rm.Sample(9, 0), T0)}, rows=[row(n, "1", (LONG,)) for n in range(2, 999)])
    with pytest.raises(StoreUnavailable, match="full"):
        spool.record(batch)
    assert (spool.status()["readings_waiting"], spool.stands()) == (1, {})
    spool.rows("PRAGMA max_page_count=100000")
    spool.record(batch)
    assert (spool.status()["readings_waiting"], len(spool.stands())) == (998, 1)


def test_an_unusable_file_and_a_newer_one_are_refused(tmp_path):
    with pytest.raises(StoreUnavailable):
        Spool(tmp_path / "nowhere" / "spool.db")
    (tmp_path / "text").write_text("this is no database " * 100)
    with pytest.raises(StoreUnavailable):
        Spool(tmp_path / "text")
    Spool(tmp_path / "new").close()
    with sqlite3.connect(tmp_path / "new") as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(ConfigInvalid, match="newer"):
        Spool(tmp_path / "new")
    assert os.stat(tmp_path / "new").st_mode & 0o777 == 0o600


def test_two_processes_draw_different_sequences(spool, draft, tmp_path):
    other = Spool(tmp_path / "spool.db")
    one, two = Outgoing(spool), Outgoing(other)
    drawn = [side.header(draft, "MeterReadings").sequence for side in (one, two, two, one)]
    assert drawn == [1, 2, 3, 4]
    other.close()


KILLED = """
import sys
from gridpost.ied_soap_client import register_map as rm
from gridpost.ied_soap_client.spool import Batch, Row, Spool
from gridpost.model import ChannelKey
key = ChannelKey("UP1", "M1", "E1", "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0")
spool = Spool(sys.argv[1])
known = spool.stands().get(key)
raw = known.raw if known else 0
while True:
    raw += 1
    spool.record(Batch(stands={key: rm.first_stand(rm.Sample(raw, 0), raw)}, rows=[Row(key, 900, raw, "1", ())]))
    print(raw, flush=True)
"""


def test_a_kill_at_any_moment_leaves_rows_and_stand_together(tmp_path):
    path = tmp_path / "spool.db"
    last = 0
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(path)], stdout=subprocess.PIPE, text=True
        )
        for line in itertools.islice(child.stdout, 30):
            last = int(line)
        child.send_signal(signal.SIGKILL)
        child.wait()
        last = max([last, *map(int, child.stdout.read().split())])
        child.stdout.close()
        spool = Spool(path)
        stand = spool.stands()[KEY]
        ((count, highest),) = spool.rows("SELECT count(*), max(end_utc) FROM reading")
        assert stand.raw == count == highest >= last, "each row with its stand, and none announced is missing"
        spool.close()


def test_a_spool_of_version_1_is_brought_up_and_keeps_what_it_holds(tmp_path):
    file = tmp_path / "old.db"
    Spool(file).close()
    with contextlib.closing(sqlite3.connect(file)) as db, db:
        db.execute("ALTER TABLE message DROP COLUMN items")  # version 1 was this schema without it
        for table in ("control", "kept", "pulse"):  # nor had version 2 these
            db.execute(f"DROP TABLE {table}")
        db.execute(
            "INSERT INTO message (id, sequence, noun, body, digest, made_utc_ms, state, code, reason)"
            " VALUES ('m', 1, 'MeterReadings', x'00', x'00', 0, 'refused', 'readings-refused', '3 findings')"
        )
        db.execute("PRAGMA user_version=1")
    for _ in range(2):
        opened = Spool(file)
        (message,) = opened.status()["messages"]
        opened.close()
        assert (message["reason"], message["items"]) == ("3 findings", [])
    with contextlib.closing(sqlite3.connect(file)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (3,)
        assert db.execute("SELECT count(*) FROM control").fetchone() == (0,)
