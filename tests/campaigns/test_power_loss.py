"""What a disk holds after a power cut: the model, on traces written by hand; the shim, when there is a C compiler."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from disk_shim import Record, Shim, compiler, packed, records
from power_loss import CALM, DROUGHT, SEASONS, Disk, Untold, Weather, load

ROOT = "/disk"
needs_compiler = pytest.mark.skipif(compiler() is None, reason="the shim below the process needs a C compiler")


def line(op, number=0, path="", data=b"", fd=3):
    return Record(op, (1, fd), 1, number, f"{ROOT}/{path}" if path else "", data)


def opened(path, fd=3, new=1):
    return line("O", new, path, fd=fd)


def synced(fd=3, error=0):
    return [line("Y", fd=fd), line("Z", error, fd=fd)]


SYNCED_FOLDER = [Record("O", (1, 9), 1, 0, ROOT, b""), *synced(9)]


def left(trace, weather, files=None, seed=1):
    return Disk(ROOT, files or {}, random.Random(seed)).follow(trace).cut(weather, random.Random(seed))


def test_what_was_synced_with_its_name_is_there_in_any_weather():
    trace = [opened("a"), line("W", 0, data=b"x" * 2000), *synced(), *SYNCED_FOLDER]
    assert all(left(trace, weather, seed=seed) == {"a": b"x" * 2000} for weather in SEASONS for seed in range(20))


def test_what_was_not_synced_is_gone_in_a_drought_and_there_in_a_calm():
    trace = [line("W", 2, data=b"new")]
    assert left([opened("a", new=0), *trace], DROUGHT, {"a": b"old-old"})["a"] == b"old-old"
    assert left([opened("a", new=0), *trace], CALM, {"a": b"old-old"})["a"] == b"olnewld"


def test_a_name_is_not_on_disk_before_its_folder_is():
    trace = [opened("a"), line("W", 0, data=b"x"), *synced()]
    assert left(trace, DROUGHT) == {}
    assert left(trace, CALM) == {"a": b"x"}


def test_a_sync_covers_only_what_was_written_before_it_began():
    trace = [opened("a", new=0), line("W", 0, data=b"1"), line("Y"), line("W", 1, data=b"2"), line("Z")]
    assert left(trace, DROUGHT, {"a": b"ab"}) == {"a": b"1b"}


def test_a_sync_that_never_ended_covers_nothing():
    assert left([opened("a", new=0), line("W", 0, data=b"1"), line("Y")], DROUGHT, {"a": b"a"}) == {"a": b"a"}


def test_a_failed_sync_drops_for_good():
    trace = [opened("a", new=0), line("W", 0, data=b"1"), *synced(error=5), *synced()]
    assert {left(trace, CALM, {"a": b"a"}, seed)["a"] for seed in range(20)} == {b"a", b"1"}


def test_writes_are_lost_and_kept_in_any_order_and_torn_at_sectors():
    trace = [opened("a", new=0), line("W", 0, data=b"1" * 512), line("W", 512, data=b"2" * 1024)]
    found = {left(trace, Weather(25, 50), {"a": b"." * 1536}, seed)["a"] for seed in range(300)}
    sectors = {tuple(content[at : at + 512] for at in (0, 512, 1024)) for content in found}
    assert all(len(set(sector)) == 1 for three in sectors for sector in three)
    assert len(sectors) == 8  # each of three sectors old or new, whatever became of the others


def test_a_rename_happens_whole_or_not_at_all():
    trace = [
        opened(".a.part"), line("W", 0, data=b"new"), *synced(), *SYNCED_FOLDER,
        line("R", 0, ".a.part", f"{ROOT}/a".encode()),
    ]  # fmt: skip
    found = [left(trace, Weather(50, 0), {"a": b"old"}, seed) for seed in range(40)]
    assert {tuple(sorted(files.items())) for files in found} == {
        ((".a.part", b"new"), ("a", b"old")),
        (("a", b"new"),),
    }


def test_a_folder_that_was_made_and_not_synced_may_be_gone_with_all_in_it():
    trace = [
        line("M", 0, "days"), opened("days/a"), line("W", 0, data=b"x"), *synced(),
        Record("O", (1, 9), 1, 0, f"{ROOT}/days", b""), *synced(9),
    ]  # fmt: skip
    assert left(trace, DROUGHT) == {}
    assert left([*trace, *SYNCED_FOLDER], DROUGHT) == {"days": None, "days/a": b"x"}


def test_sqlite_s_shared_index_is_left_out():
    assert left([opened("a.db-shm"), line("W", 0, data=b"x"), *synced(), *SYNCED_FOLDER], CALM) == {}


@pytest.mark.parametrize("trace", [[line("U", path="a")], [line("W", 0, data=b"x")]])
def test_what_the_model_does_not_know_is_no_silent_pass(trace):
    with pytest.raises(Untold):
        left(trace, CALM)


def test_a_trace_cut_short_loses_its_last_record_only():
    whole = [opened("a"), line("W", 7, data=b"x" * 100)]
    raw = b"".join(map(packed, whole))
    assert list(records(raw)) == whole
    assert list(records(raw[:-1])) == whole[:1]
    with pytest.raises(ValueError, match="no record at byte 0"):
        list(records(b"x" + raw))


_DELIVERS = """
import sys
from gridpost.adapters.delivery import Directory
Directory(sys.argv[1]).deliver("a.mde", b"x" * 3000)
"""


def drought_after(shim, code, *arguments):
    before = load(shim.folder)
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], env=shim.environment(), check=True, timeout=60)
    disk = Disk(str(shim.folder), before, random.Random(1)).follow(shim.taken())
    return disk.cut(DROUGHT, random.Random(1))


@pytest.fixture
def shim(tmp_path):
    folder = tmp_path.resolve() / "disk"
    folder.mkdir()
    made = Shim.build(tmp_path.resolve(), folder)
    yield made
    made.control.close()


@needs_compiler
def test_a_delivered_file_outlives_the_power_with_the_folder_made_for_it(shim):
    assert drought_after(shim, _DELIVERS, shim.folder / "out") == {"out": None, "out/a.mde": b"x" * 3000}


@needs_compiler
def test_a_file_found_standing_is_synced_before_it_counts_as_delivered(shim):
    (shim.folder / "out").mkdir()
    writes = f"import sys; open(sys.argv[1], 'wb').write(b'x' * 3000)\n{_DELIVERS.replace('argv[1]', 'argv[2]')}"
    kept = drought_after(shim, writes, shim.folder / "out" / "a.mde", shim.folder / "out")
    assert kept == {"out": None, "out/a.mde": b"x" * 3000}


@needs_compiler
def test_all_that_init_makes_outlives_the_power(shim):
    code = "import sys; from gridpost.server.cli import main; sys.argv = ['gridpost', 'init', sys.argv[1]]; main()"
    kept = drought_after(shim, code, shim.folder / "new" / "bus")
    assert kept == load(shim.folder)
    assert {"new/bus/ca.key", "new/bus/bus.key", "new/bus/gridpost.db", "new/bus/gridpost.toml"} < set(kept)
