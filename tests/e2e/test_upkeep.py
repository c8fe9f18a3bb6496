"""A store's schema, backup and restore as an operator does them, while devices go on calling in."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import stat
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import pytest
from live_bus import BIN, now_utc_ms

from gridpost import messages, testing
from gridpost.model import CreatedMeterReadings, Header, Readings
from gridpost.units import parse_utc_ms

DAY = 1767225600  # 2026-01-01T00:00:00Z


_made = {}


def content(device, number, last_receipt):
    """Message `number` of a device, one interval, with the receipt it quotes; a repeat is the same content."""
    key = (device.signer.certificate, number)
    if key not in _made:
        block = testing.block(device.channels[0], DAY + 900 * (number + 1), ["1.5"])
        names = (device.serial, f"m{number}", "", number, last_receipt)
        header = Header("created", "MeterReadings", now_utc_ms(), *names)
        _made[key] = messages.encode(CreatedMeterReadings(header, Readings((block,))))
    return _made[key]


def push(bus, device, number, last_receipt=""):
    """Send one message and return its verified receipt."""
    payload = content(device, number, last_receipt)
    status, body = bus.wire.post(device.seal(payload))
    assert status == 200, body[-900:]
    return device.receipt(body, payload)


def quote(receipt):
    return f"{receipt.position.partition}:{receipt.position.seq}:{receipt.root_before.hex()}"


def until(found, timeout=30):
    end = time.monotonic() + timeout
    while not (answer := found()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)  # between two questions, not instead of one
    return answer


class Pushing:
    """A device that pushes all the time, each message until it is receipted; `acknowledged` is what it holds."""

    def __init__(self, bus, device):
        self.bus, self.device, self.acknowledged = bus, device, {}
        self._stop = threading.Event()

    def __enter__(self):
        self._pool = ThreadPoolExecutor(1)
        self._done = self._pool.submit(self._run)
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._done.result(60)
        self._pool.shutdown()

    def _run(self):
        number = 0
        while not self._stop.is_set():
            try:
                self.acknowledged[number] = push(self.bus, self.device, number)
                number += 1
            except (OSError, HTTPException):
                time.sleep(0.02)  # a device waits longer

    def more(self, count):
        enough = len(self.acknowledged) + count
        until(lambda: len(self.acknowledged) >= enough)


@pytest.fixture(params=["sqlite", "postgres"])
def bus(request, tmp_path, make_bus):
    """A bus that runs, on either engine; its port stays the same when it is started again."""
    sections = {"mv90": {"enabled": False}}
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").url("", create=f"upkeep_{tmp_path.name}")
        sections["bus"] = {"database": url}
    made = make_bus(**sections).start()
    made.configure(listen={"http": made.addresses[0].removeprefix("http://")}, **sections)
    return made


# --- the schema ------------------------------------------------------------------------------------------------------


def test_the_schema_goes_down_and_up_while_messages_keep_coming(bus):
    device = bus.enrol("IED-1")
    with Pushing(bus, device) as pushing:
        pushing.more(10)
        refused = bus.run("migrate", "down")
        assert refused.returncode == 1
        assert refused.stderr.startswith("error[store-unavailable]: ")
        assert str(bus.process.pid) in refused.stderr
        pushing.more(5)
        assert bus.stop() == 0
        before = bus.json("migrate", "status")
        assert before["schema"] == before["needed"] == before["known"][-1]["schema"]
        older = before["known"][-2]["schema"]
        assert bus.json("migrate", "down") == {"before": before["schema"], "after": older}
        not_started = bus.run("serve")
        assert not_started.returncode == 1
        assert "gridpost migrate up" in not_started.stderr
        assert bus.json("migrate", "up") == {"before": older, "after": before["schema"]}
        bus.start()
        pushing.more(5)
    for number, receipt in pushing.acknowledged.items():
        assert push(bus, device, number) == receipt
    assert bus.json("status")["interval_values"] == bus.json("status")["entries"] >= len(pushing.acknowledged)


def test_there_is_nothing_before_the_first_schema(bus):
    bus.stop()
    oldest = bus.json("migrate", "status")["known"][0]["schema"]
    assert bus.json("migrate", "down", "--to", oldest)["after"] == oldest
    done = bus.run("migrate", "down")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error[not-found]: there is no schema before 0001")
    assert "0001" in bus.run("migrate", "status").stdout


# --- backup and restore (SQLite) -------------------------------------------------------------------------------------


@pytest.fixture
def live(make_bus):
    bus = make_bus(mv90={"enabled": False}).start()
    bus.configure(listen={"http": bus.addresses[0].removeprefix("http://")}, mv90={"enabled": False})
    return bus


def test_a_backup_beside_a_running_bus_is_one_moment_of_it(live, tmp_path):
    device = live.enrol("IED-1")
    with Pushing(live, device) as pushing:
        for number in range(2):
            pushing.more(10)
            sure = len(pushing.acknowledged)
            found = live.json("backup", tmp_path / f"copy-{number}.db")
            assert found["entries"] >= sure
            (head,) = found["heads"]
            after = until(lambda: [r for r in pushing.acknowledged.values() if r.position.seq == head["entries"]])  # noqa: B023
            assert after[0].root_before.hex() == head["root"], "the root that the next receipt states"
    for number in range(2):
        copy = tmp_path / f"copy-{number}.db"
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        with sqlite3.connect(copy) as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)
            held = {row[0] for row in database.execute("SELECT message_id FROM entry")}
        database.close()
        assert held == {f"m{i}" for i in range(len(held))}
        assert sorted(file.name for file in tmp_path.glob("*copy*")) == [f"copy-{i}.db" for i in range(2)]


def test_a_backup_into_a_folder_is_named_by_its_time(live, tmp_path):
    (tmp_path / "backups").mkdir()
    before = now_utc_ms()
    found = live.json("backup", tmp_path / "backups")
    (file,) = (tmp_path / "backups").iterdir()
    assert found["file"] == str(file)
    year, month, day, hour, minute, second = re.fullmatch(
        r"gridpost-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z\.db", file.name
    ).groups()
    at = parse_utc_ms(f"{year}-{month}-{day}T{hour}:{minute}:{second}Z")
    assert before // 1000 * 1000 <= at <= now_utc_ms()


def test_a_backup_never_overwrites_and_leaves_nothing_half(live, tmp_path):
    (tmp_path / "there.db").write_text("mine")
    done = live.run("backup", tmp_path / "there.db")
    assert done.returncode == 1
    assert done.stderr.startswith("error[already-exists]: ")
    assert (tmp_path / "there.db").read_text() == "mine"
    done = live.run("backup", tmp_path / "nowhere" / "copy.db")
    assert done.stderr.startswith("error[file-unwritable]: ")
    assert [file.name for file in tmp_path.iterdir() if "copy" in file.name or "partial" in file.name] == []


def test_a_backup_killed_half_way_leaves_no_backup(live, tmp_path):
    device = live.enrol("IED-1")
    for number in range(3):
        push(live, device, number)
    with sqlite3.connect(live.folder / "gridpost.db") as database:  # large enough that the copy takes a while
        database.execute("CREATE TABLE weight AS SELECT randomblob(200000000) AS content")
    database.close()
    target = tmp_path / "copy.db"
    command = [BIN / "gridpost", "backup", target, "--config", live.config]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: any(file.stat().st_size > 1 << 20 for file in tmp_path.glob(".copy.db.partial")))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not target.exists()
    assert live.json("backup", target)["entries"] == 3  # what was left half is written over
    assert [file.name for file in tmp_path.glob("*copy*")] == ["copy.db"]
    assert [file.name for file in tmp_path.glob(".copy*")] == []


def test_a_damaged_store_gives_no_backup(live, tmp_path):
    device = live.enrol("IED-1")
    for number in range(50):
        push(live, device, number)
    live.stop()
    file = live.folder / "gridpost.db"
    with sqlite3.connect(file) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'entry_message_id'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    database.close()
    with file.open("r+b") as stream:
        stream.seek((page - 1) * size + size - 64)
        stream.write(b"\xff" * 32)
    done = live.run("backup", tmp_path / "copy.db")
    assert done.returncode == 1
    assert done.stderr.startswith("error[store-unavailable]: the store is damaged")
    assert list(tmp_path.glob("*copy*")) == []


def test_a_restored_old_backup_is_noticed_from_what_devices_quote(live, tmp_path):
    """The promise: what was receipted since the backup is named, by device, so that it can be asked for again."""
    one, other = live.enrol("IED-1"), live.enrol("IED-2")
    kept = push(live, one, 0)
    push(live, other, 0)
    live.json("backup", tmp_path / "copy.db")
    lost = [push(live, one, number) for number in (1, 2)]
    push(live, other, 1)
    refused = live.run("restore", tmp_path / "copy.db", "--replace")
    assert refused.stderr.startswith("error[store-unavailable]: ")
    assert str(live.process.pid) in refused.stderr
    live.stop()
    refused = live.run("restore", tmp_path / "copy.db")
    assert refused.stderr.startswith("error[already-exists]: ")
    found = live.json("restore", tmp_path / "copy.db", "--replace")
    assert found["entries"] == 2
    with sqlite3.connect(found["replaced"]) as database:
        assert database.execute("SELECT count(*) FROM entry").fetchone() == (5,)
    database.close()
    live.start()
    assert live.json("status")["missing_entries"] == []
    assert push(live, one, 0) == kept
    again = push(live, other, 5)  # takes number 2, which was another's
    assert again.position == lost[0].position
    push(live, other, 6, quote(again))
    late = push(live, one, 3, quote(lost[1]))
    (missing,) = until(lambda: live.json("status")["missing_entries"])
    assert parse_utc_ms(missing.pop("noticed_at")) <= now_utc_ms()
    assert missing == {
        "device": "IED-1", "from_entry": "0:2", "to_entry": "0:3", "quoted_in": f"0:{late.position.seq}",
    }  # fmt: skip
    (event,) = live.audit("entries-missing")
    assert (event["sender"], event["first"], event["last"]) == ("IED-1", "0:2", "0:3")
    assert "IED-1" in live.run("status").stdout
    push(live, one, 4, quote(late))
    push(live, one, 7, quote(lost[0]))  # cut before; no news
    until(lambda: live.json("status")["entries"] == 7)
    assert len(live.audit("entries-missing")) == 1


def test_a_restore_into_an_empty_place_and_of_what_is_no_backup(live, tmp_path):
    device = live.enrol("IED-1")
    kept = push(live, device, 0)
    live.json("backup", tmp_path / "copy.db")
    live.stop()
    for file in live.folder.glob("gridpost.db*"):
        file.unlink()
    (tmp_path / "text.db").write_text("no database, but long enough to be looked at. " * 99)
    sqlite3.connect(tmp_path / "foreign.db").execute("CREATE TABLE t (a)").close()
    torn = (tmp_path / "copy.db").read_bytes()
    (tmp_path / "torn.db").write_bytes(torn[: len(torn) // 2 // 4096 * 4096])
    for name in ("text.db", "foreign.db", "torn.db"):
        done = live.run("restore", tmp_path / name)
        assert done.returncode == 1
        assert done.stderr.startswith("error[file-invalid]: "), done.stderr
        assert not (live.folder / "gridpost.db").exists()
    assert live.json("restore", tmp_path / "copy.db")["replaced"] is None
    live.start()
    assert push(live, device, 0) == kept
    assert os.stat(live.folder / "gridpost.db").st_mode & 0o077 == 0


def test_a_backup_of_another_schema_is_moved_up_after_it_was_put_back(live, tmp_path):
    device = live.enrol("IED-1")
    kept = push(live, device, 0)
    live.stop()
    older = live.json("migrate", "down")["after"]
    live.json("backup", tmp_path / "old.db")
    live.json("migrate", "up")
    assert live.json("restore", tmp_path / "old.db", "--replace")["schema"] == older
    assert "migrate up" in live.run("serve").stderr
    live.json("migrate", "up")
    live.start()
    assert push(live, device, 0) == kept


def test_postgres_says_which_tools_it_has(tmp_path, make_bus, postgres):
    url = postgres.url("", create=f"tools_{tmp_path.name}")
    bus = make_bus(bus={"database": url})
    for command in (("backup", tmp_path / "copy.db"), ("restore", bus.config)):
        done = bus.run(*command)
        assert done.returncode == 1
        assert done.stderr.startswith("error[config-invalid]: PostgreSQL has its own tools: pg_basebackup, pg_dump")


@pytest.mark.parametrize("bus", ["postgres"], indirect=True)
def test_a_postgres_store_put_back_from_a_dump_is_noticed_as_well(bus, postgres, tmp_path):
    device = bus.enrol("IED-1")
    push(bus, device, 0)
    dump, source = postgres.folder / "store.dump", postgres.url(f"upkeep_{tmp_path.name}")
    postgres.program("pg_dump", "-Fc", "-f", dump, "-d", source)
    lost = push(bus, device, 1)
    bus.stop()
    target = postgres.url("", create=f"restored_{tmp_path.name}")
    postgres.program("pg_restore", "-d", target, "--exit-on-error", dump)
    bus.configure(bus={"database": target})
    bus.start()
    late = push(bus, device, 2, quote(lost))  # takes the number that it quotes
    assert late.position == lost.position
    (missing,) = until(lambda: bus.json("status")["missing_entries"])
    assert (missing["device"], missing["from_entry"], missing["to_entry"]) == ("IED-1", "0:1", "0:1")
