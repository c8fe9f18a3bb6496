"""The order of syncs and answers in short, above the shim; damaged buses; and the judge, judged on made-up traces."""

import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import sync_order
from sync_order import SENT, SYNC, SYNCED, WROTE, Event

compiled = pytest.mark.skipif(not sync_order.Shim.is_there(), reason="needs a C compiler (cc, gcc or clang)")
SHORT = sync_order.Plan(messages=30, repeats=30, seed=5, tracer="shim", devices=2)


@compiled
def test_every_answer_leaves_after_its_sync(tmp_path):
    found = sync_order.campaign(tmp_path.resolve(), SHORT)
    assert found.problems == []
    assert found.ok
    assert found.answers >= 30 + found.resent
    assert found.resent > 0
    assert 0 < found.transactions <= found.syncs


@compiled
@pytest.mark.parametrize("sabotage", sync_order.SABOTAGES)
def test_a_damaged_bus_is_found_out(tmp_path, sabotage):
    found = sync_order.campaign(tmp_path.resolve(), SHORT._replace(messages=10, sabotage=sabotage))
    assert not found.ok
    assert found.early > 0


# --- the judge -------------------------------------------------------------------------------------------------------

NAME = b"IED-1-000007"
PAGE = 512


def header(size_after_commit):
    return struct.pack(">II16x", 3, size_after_commit)


def trace(*kinds):
    """A log with one transaction of two frames, and what becomes of it."""
    begin = struct.pack(">III20x", 0x377F0682, 3007000, PAGE)
    first, second = 32, 32 + 24 + PAGE
    parts = {
        "begin": Event(WROTE, 1, offset=0, data=begin),
        "first frame": Event(WROTE, 1, offset=first, data=header(0) + b"x" * 100 + NAME + b"x" * (PAGE - 112)),
        "commit header": Event(WROTE, 1, offset=second, data=header(9)),
        "commit page": Event(WROTE, 1, offset=second + 24, data=bytes(PAGE)),
        "sync": Event(SYNC, 1),
        "other sync": Event(SYNC, 2),
        "other synced": Event(SYNCED, 2),
        "synced": Event(SYNCED, 1),
        "answer": Event(SENT, 3, "socket", data=b"HTTP/1.1 200 OK\r\n\r\n" + NAME),
        "head of answer": Event(SENT, 3, "socket", data=b"HTTP/1.1 200 OK\r\n\r\n"),
        "rest of answer": Event(SENT, 3, "socket", data=NAME),
    }
    return [parts[kind] for kind in kinds]


WRITTEN = ("begin", "first frame", "commit header", "commit page")


@pytest.mark.parametrize(
    ("kinds", "lack"),
    [
        ((*WRITTEN, "sync", "synced", "answer"), ""),
        ((*WRITTEN, "sync", "synced", "head of answer", "rest of answer"), ""),
        (("begin", "answer"), "it was not written"),
        (("begin", "first frame", "sync", "synced", "answer"), "its commit was not written"),
        (("begin", "first frame", "commit header", "sync", "synced", "answer"), "its commit was not written"),
        ((*WRITTEN, "answer"), "no sync of it has ended"),
        ((*WRITTEN, "sync", "answer", "synced"), "no sync of it has ended"),
        ((*WRITTEN[:3], "sync", "commit page", "synced", "answer"), "no sync of it has ended"),
        (("begin", "other sync", *WRITTEN[1:], "other synced", "answer"), "no sync of it has ended"),
        ((*WRITTEN, "head of answer", "sync", "synced", "rest of answer"), "only after the answer's first byte"),
    ],
)  # fmt: skip
def test_the_judge_sees_what_is_missing(kinds, lack):
    found = sync_order.Outcome()
    assert sync_order.judge(trace(*kinds), found) == {NAME: 1}
    assert found.early == bool(lack)
    assert (found.problems == []) is not bool(lack)
    assert all(lack in problem for problem in found.problems)


def test_an_answer_that_is_not_in_the_trace_is_told():
    found = sync_order.Outcome()
    sync_order.judge_completeness({NAME.decode(): 2}, {NAME: 1}, found)
    assert found.untraced == 1


def test_strace_s_lines_are_read():
    def quoted(raw):
        return "".join(f"\\x{byte:02x}" for byte in raw)

    wal = quoted(b"/b/gridpost.db-wal")
    lines = [
        f'7  pwrite64(9<{wal}>, "{quoted(b"abc")}", 3, 32) = 3',
        f"7  fdatasync(9<{wal}> <unfinished ...>",
        f'8  sendto(4<{quoted(b"socket:[1]")}>, "{quoted(b"HTTP/1.1 x")}", 10, 0, NULL, 0) = 10',
        "7  <... fdatasync resumed>)          = 0",
        f"7  fsync(9<{wal}>)                   = -1 EIO (Input/output error)",
        f'7  pwrite64(9<{wal}>, "{quoted(b"de")}", 2, 35 <unfinished ...>',
        "7  <... pwrite64 resumed>)           = 1",
        f'7  pwrite64(9<{quoted(b"/b/gridpost.db-shm")}>, "{quoted(b"d")}", 1, 35) = 1',
        "8  +++ exited with 0 +++",
    ]
    pending = {}
    assert [event for line in lines for event in sync_order._of_line(line, pending)] == [
        Event(WROTE, 7, offset=32, data=b"abc"),
        Event(SYNC, 7),
        Event(SENT, 8, "socket:[1]", data=b"HTTP/1.1 x"),
        Event(SYNCED, 7),
        Event(SYNC, 7),
        Event(WROTE, 7, offset=35, data=b"d"),
    ]
