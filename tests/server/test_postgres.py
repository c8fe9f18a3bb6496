"""What only PostgreSQL can show: several processes at one log. Races are run for real, most with two stores in this
process (each has its own sessions and writer), some with processes that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from hashlib import sha256

import psycopg
import pytest
from gridpost.server.store import open_store
from gridpost.server.store.postgres import MOST_LOCKS
from postgres_server import NOBODY, PostgresServer

from gridpost import merkle
from gridpost.errors import GridpostError, Internal, MessageIdReused, StoreUnavailable
from gridpost.model import Block, Channel, ChannelKey, EndDeviceEvent, Entry, Position, Quality, Rows

MIDNIGHT = 1772323200  # 2026-03-01T00:00:00Z
NOW = 1_800_000_000_000
KWH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
EDITED = (Quality("2.7.1"),)


def channel(meter):
    return Channel(ChannelKey("UP1", meter, "", KWH), "kWh", 900, "Etc/UTC")


@pytest.fixture
def url(postgres_store):
    return postgres_store


@pytest.fixture
def fatal():
    return []


@pytest.fixture
def pair(url, fatal):
    """Two stores on one database, as two processes have them; both know IED1 with channel 1 of M1."""
    first = open_store(url, lambda: NOW, serve=True, on_fatal=fatal.append)
    first.add_ied("IED1", "meter", b"0123456789", [channel("M1")])
    second = open_store(url, lambda: NOW, serve=True, on_fatal=fatal.append)
    yield first, second
    first.close()
    second.close()


def message(message_id, content=None, evidence=b"<Envelope/>"):
    digest = sha256((content or message_id).encode()).digest()
    return Entry("IED1", message_id, "MeterReadings", "http", digest, 5, None, "", evidence)


def reading(quarter, literal, qualities=(), channel_id=1):
    return Rows((Block(channel_id, 900, (MIDNIGHT + 900 * quarter,), (literal,), (qualities,)),))


def receipt(position, root_before, recorded_at_utc_ms, counts):
    """No two are equal: each tells its own making."""
    return json.dumps([position, root_before.hex(), recorded_at_utc_ms, counts, os.urandom(8).hex()]).encode()


def record(store, entry, rows=Rows()):  # noqa: B008 - a value
    return store.record(entry, rows, receipt).result(20)


def stated(receipt_bytes):
    return json.loads(receipt_bytes)


def sql(url, statement, *values):
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(statement, values)
        return done.fetchall() if done.description else []


def check_trees(store):
    """Every partition's numbers are without holes, each entry's receipt states the root over the leaves before it."""
    for number, last in store.version().items():
        with store.connection() as connection:
            rows = connection.exec_driver_sql(
                "SELECT seq, leaf_hash, receipt FROM entry WHERE partition = %s ORDER BY seq", (number,)
            ).all()
        assert [row[0] for row in rows] == list(range(last + 1))
        frontier = merkle.Frontier()
        for seq, leaf_hash, kept in rows:
            assert stated(kept)[:2] == [[number, seq], merkle.root(frontier).hex()]
            frontier, _ = merkle.append(frontier, bytes(leaf_hash))
        assert store.root(number, last + 1) == merkle.root(frontier)


def until_it_answers(store):
    """Ask twice: the first question may be what finds the session gone."""
    try:
        store.version()
    except StoreUnavailable:
        store.version()


def at_once(*works):
    """Run the works in threads that start together; return results, a refusal as itself."""
    gate = threading.Barrier(len(works))

    def run(work):
        gate.wait(20)
        try:
            return work()
        except GridpostError as refusal:
            return refusal

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


# --- who writes ------------------------------------------------------------------------------------------------------


def test_each_process_takes_the_lowest_free_partition(url, pair):
    assert [stated(record(store, message(f"m{i}")))[0] for i, store in enumerate(pair)] == [[0, 0], [1, 0]]
    with closing(open_store(url, lambda: NOW, serve=True)) as third:
        assert stated(record(third, message("m2")))[0] == [2, 0]
    pair[0].close()
    with closing(open_store(url, lambda: NOW, serve=True)) as again:
        assert stated(record(again, message("m3")))[0] == [0, 1]
        assert again.version() == {0: 1, 1: 0, 2: 0}
        assert [header.message_id for header in again.entries({}, 9)] == ["m0", "m3", "m1", "m2"]
        assert again.status().entries == 4
        check_trees(again)


def test_stores_opened_at_once_each_get_their_own(url):
    def take():
        with closing(open_store(url, lambda: NOW, serve=True)) as store:
            return stated(record(store, message(os.urandom(8).hex())))[0]

    places = at_once(*[take] * 6)
    assert len({tuple(place) for place in places}) == 6, places
    assert len(sql(url, "SELECT partition FROM partition")) <= 6


def test_a_live_partition_is_not_taken(url, pair):
    """Whatever a third process does, it gets a partition of its own, and the token of the first stays."""
    before = sql(url, "SELECT partition, token FROM partition ORDER BY 1")
    with closing(open_store(url, lambda: NOW, serve=True)):
        assert sql(url, "SELECT partition, token FROM partition ORDER BY 1")[:2] == before
    record(pair[0], message("m1"))
    record(pair[1], message("m2"))


SESSIONS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@contextmanager
def hung(store, work):
    """Run a block while the store's writer is held up inside a transaction, by the entry that `work` sends."""
    entered, release = threading.Event(), threading.Event()

    def waits(*args):
        entered.set()
        assert release.wait(30)
        return receipt(*args)

    future = work(waits)
    assert entered.wait(30)
    try:
        yield future
    finally:
        release.set()


def test_a_process_whose_partition_was_taken_over_stops(url, fatal):
    """Its sessions end without its noticing, as when a machine is cut off; another process takes its partition."""
    lost = open_store(url, lambda: NOW, serve=True, on_fatal=fatal.append)
    record(lost, message("m1"))
    sql(url, f"SELECT pg_terminate_backend(pid, 5000) {SESSIONS}")
    with closing(open_store(url, lambda: NOW, serve=True)) as taker:
        assert stated(record(taker, message("m2")))[0] == [0, 1]
        told = []
        for name in ("m3", "m4", "m5"):  # the first may only find its session gone
            with pytest.raises(StoreUnavailable) as refusal:
                record(lost, message(name))
            told.append(refusal.value.detail)
        assert any("took over" in detail for detail in told), told
        assert len(fatal) == 1
        assert not lost.is_healthy()
        assert taker.version() == {0: 1}
        assert stated(record(taker, message("m6")))[0] == [0, 2]
        check_trees(taker)
    lost.close()


def test_a_takeover_in_the_midst_of_a_group_leaves_one_history(url, fatal):
    """The old writer hangs inside its transaction, after it has read where the log ends; then it goes on."""
    old = open_store(url, lambda: NOW, serve=True, on_fatal=fatal.append)
    record(old, message("m1"))
    with hung(old, lambda make: old.record(message("m2"), Rows(), make)) as late:
        sql(url, "UPDATE partition SET token = token + 1 WHERE partition = 0")  # what a taker does first
    with pytest.raises(StoreUnavailable):
        late.result(20)
    assert len(fatal) == 1
    old.close()
    with closing(open_store(url, lambda: NOW, serve=True)) as store:
        assert store.version() == {0: 0}
        check_trees(store)


def test_a_lost_session_is_made_anew_and_its_partition_kept(url, pair, fatal):
    first, second = pair
    record(first, message("m1"))
    sql(url, f"SELECT pg_terminate_backend(pid, 5000) {SESSIONS}")
    for store in pair:
        with pytest.raises(StoreUnavailable):
            store.version()
    assert stated(record(first, message("m2")))[0] == [0, 1]
    assert record(second, message("m2")) == record(first, message("m2"))
    assert fatal == []
    with closing(open_store(url, lambda: NOW, serve=True)) as third:  # their partitions are theirs again
        assert stated(record(third, message("m3")))[0] == [2, 0]


def test_only_one_runs_the_readers(url, pair):
    first, second = pair
    assert [first.leads(), second.leads(), first.leads(), second.leads()] == [True, False, True, False]
    with closing(open_store(url, lambda: NOW)) as beside:
        assert not beside.leads()
    first.close()
    assert second.leads()
    sql(url, f"SELECT pg_terminate_backend(pid, 5000) {SESSIONS}")
    with pytest.raises(StoreUnavailable):
        second.leads()
    assert second.leads()


# --- one message at two processes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [reading(1, "1"), Rows(), Rows(events=(EndDeviceEvent("", "3.26.0.85", 5),))])
def test_one_message_at_both_processes_at_once_is_one_entry(pair, rows):
    for number in range(25):
        entry = message(f"m{number}")
        one, other = at_once(*(lambda store=store, entry=entry: record(store, entry, rows) for store in pair))
        assert one == other
        assert all(store.find("IED1", entry.message_id).receipt == one for store in pair)
    assert pair[0].status().entries == 25
    check_trees(pair[0])


def test_the_same_groups_at_both_processes_at_once(pair):
    """Groups of many, in opposite order, of equal ids and channels: no circle of waiting, no second entry."""
    first, second = pair

    def send(store, numbers):
        futures = [store.record(message(f"m{i:03}"), reading(i, str(i)), receipt) for i in numbers]
        return {i: future.result(30) for i, future in zip(numbers, futures, strict=True)}

    one, other = at_once(lambda: send(first, range(300)), lambda: send(second, range(299, -1, -1)))
    assert one == other
    assert first.status().entries == 300
    assert first.status().interval_values == 300
    assert first.status().conflicts == 0
    check_trees(first)


def test_the_loser_waits_for_the_winner_and_its_receipt(pair):
    first, second = pair
    with hung(first, lambda make: first.record(message("m1"), reading(1, "1"), make)) as winner:
        loser = second.record(message("m1"), reading(1, "1"), receipt)
        free = second.record(message("m2"), Rows(), receipt)  # waits behind it, in the same writer
        assert not loser.done()
    assert loser.result(20) == winner.result(20)
    assert stated(free.result(20))[0] == [1, 0]


def test_other_content_at_the_other_process_is_refused(pair):
    for number in range(10):
        works = [
            lambda store=store, i=i, n=number: record(store, message(f"m{n}", f"{n} {i}"), Rows())
            for i, store in enumerate(pair)
        ]
        results = at_once(*works)
        assert {type(result) for result in results} == {MessageIdReused, bytes}
    assert pair[0].status().entries == 10


def test_one_interval_at_both_processes_at_once_has_one_stored_version(pair):
    for number in range(1, 26):
        works = [
            lambda store=store, i=i, n=number: record(store, message(f"m{n}-{i}"), reading(n, str(i)))
            for i, store in enumerate(pair)
        ]
        counts = sorted(stated(result)[3] for result in at_once(*works))
        assert counts == [[0, 0, 1], [1, 0, 0]]
    assert len(pair[1].readings(1, MIDNIGHT, MIDNIGHT + 86400).conflicts) == 25


def test_what_is_judged_later_sorts_later_though_its_clock_is_behind(url):
    """Decision 9 orders versions by recorded time; machines' clocks differ, here by a minute."""
    with closing(open_store(url, lambda: NOW + 60_000, serve=True)) as ahead:
        ahead.add_ied("IED1", "meter", b"0123456789", [channel("M1")])
        with closing(open_store(url, lambda: NOW, serve=True)) as behind:
            record(ahead, message("m1"), reading(1, "1"))
            later = record(behind, message("m2"), reading(1, "2", EDITED))
            assert stated(later)[3] == [1, 0, 0]
            record(behind, message("m3"), reading(2, "3"))
            found = ahead.readings(1, MIDNIGHT, MIDNIGHT + 86400)
            assert found.block.values == ("2", "3")
            assert found.positions[0] == Position(1, 0)
            assert stated(later)[2] == NOW + 60_001


def test_a_version_counts_entries_of_each_partition(pair):
    first, second = pair
    record(first, message("m1"), reading(1, "1"))
    before = first.version()
    record(second, message("m2"), reading(1, "2", EDITED))
    assert (before, second.version()) == ({0: 0}, {0: 0, 1: 0})
    values = [first.readings(1, MIDNIGHT, MIDNIGHT + 86400, at).block.values for at in (before, {1: 0}, None)]
    assert values == [("1",), ("2",), ("2",)]


def test_one_code_used_by_two_keys_at_two_processes_binds_one(pair):
    """The enrolment code is for one key (decision 14), whichever process is asked."""
    for number in range(10):
        serial = f"IED-{number}"
        pair[0].add_ied(serial, "meter", b"0123456789", [channel(f"M-{number}")])
        works = [
            lambda store=store, i=i, s=serial: store.bind_certificate(s, bytes([i]) * 32, f"{s} {i}".encode())
            for i, store in enumerate(pair)
        ]
        assert sorted(type(result).__name__ for result in at_once(*works)) == ["EnrolmentRefused", "bytes"]
        assert len(pair[0].show_ied(serial).certificates) == 1


def test_refusals_and_cursors_of_two_processes_add_up(pair):
    for number in range(10):
        at_once(*(lambda store=store, n=number: store.add_refusals({f"code-{n}": 1}).result(20) for store in pair))
        at_once(*(lambda store=store, n=number: store.advance(f"r{n}", {0: 1}, {}, []).result(20) for store in pair))
    assert pair[0].status().refusals == {f"code-{number}": 2 for number in range(10)}
    assert len(pair[0].status().readers) == 10


# --- faults ----------------------------------------------------------------------------------------------------------


def test_a_channel_locked_too_long_is_refused_not_fatal(url, pair, fatal):
    """Another process holds what the group waits for; afterwards the same message is taken."""
    first, second = pair
    with hung(first, lambda make: first.record(message("held"), reading(1, "1"), make)):
        with pytest.raises(StoreUnavailable) as told:
            record(second, message("m1"), reading(2, "2"))
        assert "lock timeout" in told.value.detail
    assert stated(record(second, message("m1"), reading(2, "2")))[0] == [1, 0]
    assert fatal == []


def test_a_message_of_more_channels_than_locks(pair):
    first, second = pair
    channels = first.add_ied("IED2", "master", b"0123456789", [channel(f"X{i}") for i in range(MOST_LOCKS + 76)])
    many = Rows(tuple(Block(one.id, 900, (MIDNIGHT + 900,), ("1",), ((),)) for one in channels))
    with hung(first, lambda make: first.record(message("m1"), many, make)) as large:
        small = second.record(message("m2"), reading(1, "2", channel_id=channels[7].id), receipt)
        assert not small.done()
    assert stated(large.result(20))[3] == [1100, 0, 0]
    assert stated(small.result(20))[3] == [0, 0, 1]


def test_evidence_larger_than_a_pipeline_holds(pair):
    """facts: inside a pipeline one large statement hangs; incompressible, so nothing makes it small."""
    large = os.urandom(6 << 20)
    futures = [pair[0].record(message(f"m{i}", evidence=large), Rows(), receipt) for i in range(3)]
    for future in futures:
        future.result(60)
    assert pair[1].evidence(Position(0, 2)) == large


@pytest.mark.parametrize(
    ("bad", "rows"),
    [
        (Entry("IED1", "bad", "N", "http", bytes(32), 5, 2**70, "", b""), Rows()),  # no column holds it
        (message("bad"), reading(1, "1", channel_id=999)),  # no such channel
        (Entry("IED1", "bad", "N\0", "http", bytes(32), 5, 1, "", b""), Rows()),  # no text of PostgreSQL's
    ],
)
def test_bad_data_of_one_entry_fails_alone(pair, bad, rows):
    futures = [pair[0].record(*one, receipt) for one in ((message("m1"), Rows()), (bad, rows), (message("m2"), Rows()))]
    with pytest.raises(Internal):
        futures[1].result(20)
    assert [stated(future.result(20))[0] for future in (futures[0], futures[2])] == [[0, 0], [0, 1]]


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_may_lose_what_it_committed_is_not_served(postgres, url, setting):
    sql(postgres.url("postgres"), f"ALTER SYSTEM SET {setting} = off")
    sql(postgres.url("postgres"), "SELECT pg_reload_conf()")
    try:
        with pytest.raises(StoreUnavailable, match=f"{setting} off"):
            open_store(url, lambda: NOW, serve=True)
        open_store(url, lambda: NOW).close()
    finally:
        sql(postgres.url("postgres"), f"ALTER SYSTEM RESET {setting}")
        sql(postgres.url("postgres"), "SELECT pg_reload_conf()")


def test_a_commit_is_synced_before_it_is_one(url):
    """Whatever the database's own default is."""
    name = url.partition("@/")[2].partition("?")[0]
    sql(url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    with closing(open_store(url, lambda: NOW, serve=True)) as store:
        with store._hold.transaction() as connection:
            asked = [connection.exec_driver_sql(f"SHOW {one}").scalar_one() for one in ("synchronous_commit", "fsync")]
        assert asked == ["on", "on"]
    sql(url, f"ALTER DATABASE {name} RESET synchronous_commit")


def test_a_crash_of_the_server_loses_nothing_that_was_receipted(postgres, url, pair, fatal):
    first, second = pair
    receipts = {f"m{i}": record(store, message(f"m{i}"), reading(i, "1")) for i, store in enumerate(pair * 20)}
    postgres.down("immediate")
    for ask in (lambda: record(first, message("late")), lambda: second.find("IED1", "m1")):
        with pytest.raises(StoreUnavailable):
            ask()
    postgres.up()
    for store in pair:
        until_it_answers(store)
    for name, kept in receipts.items():
        assert second.find("IED1", name).receipt == kept
        assert record(first, message(name)) == kept
    assert stated(record(second, message("late")))[0][0] == 1
    assert fatal == []
    check_trees(first)


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests run as an ordinary user, and so does their server already")
def test_a_server_of_an_ordinary_user_serves_as_well():
    server = PostgresServer.start(user=NOBODY)
    try:
        with closing(open_store(server.store(), lambda: NOW, serve=True)) as store:
            assert stated(record(store, message("m1")))[0] == [0, 0]
        assert server.data.stat().st_uid == NOBODY
    finally:
        server.close()


# --- processes that are killed ---------------------------------------------------------------------------------------

CHILD = """
import json, os, sys, threading
from hashlib import sha256
from gridpost.model import Block, Entry, Rows
from gridpost.server.store import open_store
store = open_store(sys.argv[1], lambda: {now}, serve=True)
def receipt(position, root, at, counts):
    return json.dumps([position, root.hex(), at, counts, os.urandom(8).hex()]).encode()
def send(start):
    for number in range(start, 10**9, 4):
        block = Block(1, 900, ({midnight} + 900 * number,), (str(number),), ((),))
        entry = Entry("IED1", "k%d" % number, "N", "http", sha256(b"%d" % number).digest(), 0, None, "", b"x" * 3000)
        os.write(1, b"%d %s\\n" % (number, store.record(entry, Rows((block,)), receipt).result().hex().encode()))
for start in range(4):
    threading.Thread(target=send, args=(start,)).start()
"""


def test_two_processes_send_the_same_and_one_is_killed(url):
    """Both send k0, k1, k2 ...; one is killed with SIGKILL, then the other: no receipt is lost, none differs."""
    with closing(open_store(url, lambda: NOW)) as store:
        store.add_ied("IED1", "meter", b"0123456789", [channel("M1")])
    command = [sys.executable, "-c", CHILD.format(now=NOW, midnight=MIDNIGHT), url]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    guards = [threading.Timer(60, child.kill) for child in children]
    for guard in guards:
        guard.start()
    seen = [[child.stdout.readline() for _ in range(30)] for child in children]
    os.kill(children[0].pid, signal.SIGKILL)
    seen[1] += [children[1].stdout.readline() for _ in range(60)]  # it goes on
    os.kill(children[1].pid, signal.SIGKILL)
    acknowledged = {}
    for child, lines in zip(children, seen, strict=True):
        whole = (b"".join(lines) + child.stdout.read()).split(b"\n")[:-1]
        child.stdout.close()
        child.wait()
        for number, answer in (line.split() for line in whole):
            assert acknowledged.setdefault(int(number), answer) == answer
    for guard in guards:
        guard.cancel()
    with closing(open_store(url, lambda: NOW, serve=True)) as store:
        assert sql(url, "SELECT count(*) FROM partition WHERE token > 0") == [(2,)]  # one may have lost every race
        headers = store.entries({}, 10**6)
        assert len({header.message_id for header in headers}) == len(headers)
        assert {int(header.message_id[1:]) for header in headers} >= acknowledged.keys()
        for number, answer in acknowledged.items():
            assert store.find("IED1", f"k{number}").receipt == bytes.fromhex(answer.decode())
        assert store.status().conflicts == 0
        assert store.status().interval_values == len(headers)
        check_trees(store)
