"""The audit log's file: turned over by size by several processes at once, renamed by others, on a full disk."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
from contextlib import suppress

import pytest
from gridpost.server.audit import open_audit
from gridpost.server.audit_file import AuditFile
from live_bus import now_utc_ms

PROCESSES, LINES, MOST = 4, 1500, 30_000


def write_lines(file, writer):
    audit = open_audit(file, now_utc_ms, MOST, 1000)
    for number in range(LINES):
        audit.event("recorded", writer=writer, number=number, padding="x" * (number % 50))


def files(file):
    return sorted(file.parent.glob(f"{file.name}*"))


def lines(found):
    return [json.loads(line) for one in found for line in one.read_text(encoding="ascii").splitlines()]


def test_several_processes_turn_one_file_over_and_no_line_is_lost_doubled_or_mixed(tmp_path):
    file = tmp_path / "audit.jsonl"
    fork = multiprocessing.get_context("fork")  # a fresh interpreter would not find this file by its name
    writers = [fork.Process(target=write_lines, args=(file, number)) for number in range(PROCESSES)]
    for one in writers:
        one.start()
    for one in writers:
        one.join(120)
        assert one.exitcode == 0
    found = files(file)
    # How much longer a file gets depends on how long the one who turns it over is kept from working: nobody waits.
    assert 2 <= len(found) <= sum(one.stat().st_size for one in found) // MOST + 1
    written = sorted((line["writer"], line["number"]) for line in lines(found))
    assert written == [(writer, number) for writer in range(PROCESSES) for number in range(LINES)]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_are_kept_in_order(tmp_path, keep):
    file = tmp_path / "audit.jsonl"
    log = AuditFile(file, 1, keep)
    for number in range(10):
        log.write(f'{{"number": {number}}}\n')
    log.close()
    names = [file, *(tmp_path / f"audit.jsonl.{number}" for number in range(1, keep + 1))]
    assert sorted(tmp_path.iterdir()) == sorted(names)
    assert [line["number"] for line in lines(names)] == list(range(9, 8 - keep, -1))


def test_a_file_is_turned_over_at_its_size(tmp_path):
    file = tmp_path / "audit.jsonl"
    log = AuditFile(file, 10_000, 100)
    for number in range(10_000):
        log.write(f'{{"number": {number}}}\n')
    log.close()
    sizes = [(tmp_path / f"audit.jsonl.{number}").stat().st_size for number in range(1, len(files(file)))]
    assert min(sizes) >= 10_000
    assert max(sizes) <= 10_000 * (1 + 1 / 64) + 40


def test_who_could_read_the_file_can_read_the_next_one(tmp_path):
    file = tmp_path / "audit.jsonl"
    log = AuditFile(file, 1, 2)
    log.write("{}\n")
    file.chmod(0o640)
    log.write("{}\n")
    log.close()
    assert [one.stat().st_mode & 0o777 for one in files(file)] == [0o640, 0o640]


def test_a_file_that_somebody_renames_is_let_go_of(tmp_path, monkeypatch):
    file = tmp_path / "audit.jsonl"
    monkeypatch.setattr("gridpost.server.audit_file.LOOKED_S", 0)
    log = AuditFile(file, 0, 1)
    for number in range(6):
        if number % 2:
            file.rename(tmp_path / f"audit.jsonl-{number}")  # as logrotate does
        if number == 3:
            file.touch()  # and with `create`
        log.write(f'{{"number": {number}}}\n')
    log.close()
    assert [line["number"] for line in lines([file])] == [5]
    assert len(files(file)) == 4
    assert sorted(line["number"] for line in lines(files(file))) == list(range(6))


def test_without_a_size_it_grows(tmp_path):
    file = tmp_path / "audit.jsonl"
    log = AuditFile(file, 0, 1)
    for _ in range(5000):
        log.write("{}\n")
    log.close()
    assert files(file) == [file]


@pytest.fixture
def few_files(tmp_path):
    """A file system that holds three files."""
    folder = tmp_path / "few"
    folder.mkdir()
    options = "size=1m,nr_inodes=4"  # the folder itself is one
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a file system needs more rights than these tests have")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_too_full_to_turn_over_keeps_every_line_and_tells_once(few_files, capfd):
    file, ballast = few_files / "audit.jsonl", [few_files / "one", few_files / "two"]
    log = AuditFile(file, 1, 5)
    for one in ballast:
        one.touch()
    for number in range(4):
        log.write(f'{{"number": {number}}}\n')
    assert [line["number"] for line in lines([file])] == [0, 1, 2, 3]
    told = f"audit log: {file} not turned over: No space left on device\n"
    assert capfd.readouterr().err == told
    assert len(list(few_files.iterdir())) == 3
    ballast[0].unlink()
    log.write('{"number": 4}\n')  # room for the new file, none for the old one's new name
    ballast[1].unlink()
    log.write('{"number": 5}\n')
    log.close()
    assert [line["number"] for line in lines([file, few_files / "audit.jsonl.1"])] == [5, 0, 1, 2, 3, 4]


def fill(ballast):
    with ballast.open("wb", buffering=0) as filling, suppress(OSError):
        while True:
            filling.write(b"\0" * 4096)


def test_half_a_line_on_a_full_disk_gets_no_company(few_files):
    file, ballast = few_files / "audit.jsonl", few_files / "ballast"
    log = AuditFile(file, 0, 1)
    log.write('{"number": 0}\n')
    fill(ballast)
    room = 4096 - len('{"number": 0}\n')
    with pytest.raises(OSError, match="No space left"):
        log.write(f'{{"long": "{"x" * room}"}}\n')
    with pytest.raises(OSError, match="No space left"):
        log.write('{"number": 1}\n')
    ballast.unlink()
    log.write('{"number": 2}\n')
    log.close()
    first, torn, last = file.read_text().splitlines()
    assert (json.loads(first), json.loads(last)) == ({"number": 0}, {"number": 2})
    assert torn.startswith('{"long": "xx')
